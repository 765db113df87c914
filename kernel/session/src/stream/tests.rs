//! Both ends of a stream against each other, over a network that loses, reorders, duplicates and changes its MTU, and
//! the receiving end against a peer that sends anything.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use net_wire::{DropReason, Frame, FrameReader};
use proptest::prelude::*;

use super::*;

const MAX_PLAINTEXT: usize = 1300;

/// A fixed stream of numbers, so that a case is its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.roll(100) < chance
    }
}

fn message(number: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (number * 131 + at * 7 + (at >> 8)) as u8)
        .collect()
}

fn config(reliability: Reliability) -> SendConfig {
    SendConfig {
        reliability,
        priority: 0,
        weight: 1,
        buffer: 64 << 10,
        max_message: MAX_MESSAGE,
        max_plaintext: MAX_PLAINTEXT,
    }
}

#[derive(Clone)]
struct Packet {
    run: Run,
    plaintext: Vec<u8>,
}

/// What the application was given, checked as it comes.
struct Application {
    reliability: Reliability,
    messages: Vec<Vec<u8>>,
    /// Delivered bytes of messages that are not complete.
    open: BTreeMap<u64, Vec<u8>>,
    complete: BTreeSet<u64>,
    undrained: u64,
}

impl Application {
    fn take(&mut self, part: Part<'_>) {
        assert!(!self.complete.contains(&part.number), "a message came twice");
        if self.reliability == Reliability::Reliable {
            assert_eq!(part.number, self.complete.len() as u64, "out of order");
        }
        let expected = &self.messages[part.number as usize];
        assert_eq!(part.total, expected.len() as u64);
        let so_far = self.open.entry(part.number).or_default();
        assert_eq!(
            part.offset,
            so_far.len() as u64,
            "a hole or an overlap inside a message"
        );
        so_far.extend_from_slice(part.bytes);
        assert_eq!(part.end, so_far.len() == expected.len());
        if part.end {
            assert_eq!(so_far, expected);
            self.open.remove(&part.number);
            self.complete.insert(part.number);
        } else {
            assert_ne!(self.reliability, Reliability::FireAndForget, "cut");
        }
        self.undrained += cost(part.bytes.len(), part.end);
    }
}

struct World {
    dice: Dice,
    sender: SendStream,
    stream_limit: u64,
    session_send: SendLimit,
    receiver: RecvStream,
    session: RecvWindow,
    application: Application,
    waiting: VecDeque<usize>,
    flying: Vec<Packet>,
    /// Arrived, acknowledgement on its way.
    acked: Vec<Run>,
    grants: (u64, u64),
    window: u64,
    loss: u64,
}

impl World {
    fn new(reliability: Reliability, sizes: &[usize], seed: u64, window: u64, loss: u64) -> Self {
        let session = RecvWindow::new(window * 3 / 2);
        Self {
            dice: Dice(seed),
            sender: SendStream::new(config(reliability)),
            stream_limit: window,
            session_send: SendLimit::new(session.granted()),
            receiver: RecvStream::new(reliability, window, MAX_MESSAGE),
            session,
            application: Application {
                reliability,
                messages: sizes
                    .iter()
                    .enumerate()
                    .map(|(number, size)| message(number, *size))
                    .collect(),
                open: BTreeMap::new(),
                complete: BTreeSet::new(),
                undrained: 0,
            },
            waiting: (0..sizes.len()).collect(),
            flying: Vec::new(),
            acked: Vec::new(),
            grants: (window, session.granted()),
            window,
            loss,
        }
    }

    fn push(&mut self) {
        while let Some(number) = self.waiting.front() {
            match self.sender.push(&self.application.messages[*number]) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(PushError::Full) => return,
                Err(refused) => panic!("{refused:?}"),
            }
        }
        self.sender.finish();
    }

    fn limit(&self) -> u64 {
        self.stream_limit
            .min(self.sender.sent_position() + self.session_send.available())
    }

    fn send(&mut self) {
        let space = match self.dice.roll(4) {
            0 => 200 + self.dice.roll(1000) as usize,
            _ => MAX_PLAINTEXT,
        };
        let limit = self.limit();
        let could = self.sender.has_data(limit);
        match self.sender.next_run(space, limit) {
            Some(run) => {
                assert!(could, "has_data denied what next_run gave");
                self.session_send.spend(run.new_positions());
                let mut plaintext = vec![0xEE; space];
                let written = self.sender.write_run(&run, &mut plaintext);
                assert_eq!((written.sequence, written.position), (run.sequence, run.start));
                assert_eq!(written.event_count, run.count);
                plaintext.truncate(written.len);
                self.flying.push(Packet { run, plaintext });
            }
            None if space == MAX_PLAINTEXT => assert!(!could, "an empty packet always suffices"),
            None => {}
        }
    }

    /// Tells the receiver that the sender is blocked, where it is.
    fn report_blocked(&mut self) {
        let limit = self.limit();
        if self.sender.is_blocked(limit).is_none() || self.dice.percent(self.loss) {
            return;
        }
        let position = self.sender.sent_position();
        let growth = self
            .receiver
            .on_blocked(position)
            .expect("a position within the credit");
        self.carry(growth);
        self.sender.on_position_seen(position);
        self.session.press();
    }

    fn carry(&mut self, growth: u64) {
        self.session
            .advance(growth)
            .expect("an honest sender stays within the session's credit");
        self.session.consume(self.receiver.take_consumed());
    }

    fn arrive(&mut self, packet: &Packet) -> Result<(), DropReason> {
        let mut frames = FrameReader::new(&packet.plaintext);
        let Some(Frame::Stream { reliability, position }) = frames.next()? else {
            panic!("a run starts with its STREAM frame");
        };
        let run = &packet.run;
        let mut cursor = self
            .receiver
            .begin(run.sequence, reliability, position, run.count, run.fin)?;
        while let Some(frame) = frames.next()? {
            let piece = if let Frame::Event(message) = frame {
                Piece::whole(message)
            } else if let Frame::Segment { offset, total, bytes } = frame {
                Piece { offset, total, bytes }
            } else {
                panic!("{frame:?} in a run");
            };
            if let Action::Deliver {
                number,
                offset,
                total,
                end,
                skip,
            } = self.receiver.on_event(&mut cursor, piece)?
            {
                let bytes = &piece.bytes[skip..];
                self.application.take(Part {
                    number,
                    offset,
                    total,
                    end,
                    bytes,
                });
            }
        }
        let growth = self.receiver.end(cursor)?;
        self.carry(growth);
        while let Some(part) = self.receiver.pop_ready()? {
            self.application.take(part);
        }
        Ok(())
    }

    fn deliver(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let near = self.dice.percent(60);
        let at = if near {
            0
        } else {
            self.dice.roll(self.flying.len() as u64) as usize
        };
        let replayable = self.application.reliability != Reliability::FireAndForget;
        if replayable && self.dice.percent(self.loss / 2) {
            let packet = self.flying[at].clone();
            self.arrive(&packet).expect("an honest packet");
            self.acked.push(packet.run);
            return;
        }
        let packet = self.flying.remove(at);
        if self.dice.percent(self.loss) {
            self.sender.on_lost(&packet.run);
            if self.dice.percent(30) {
                // Declared lost too early: it arrives all the same.
                self.arrive(&packet).expect("an honest packet");
                self.acked.push(packet.run);
            }
            return;
        }
        self.arrive(&packet).expect("an honest packet");
        self.acked.push(packet.run);
    }

    fn acknowledge(&mut self) {
        if self.acked.is_empty() {
            return;
        }
        let at = self.dice.roll(self.acked.len() as u64) as usize;
        let run = self.acked.swap_remove(at);
        let before = self.sender.buffered();
        if self.dice.percent(self.loss / 2) {
            self.sender.on_lost(&run);
            return;
        }
        let freed = self.sender.on_acked(&run);
        assert_eq!(before - self.sender.buffered(), freed);
        assert_eq!(self.sender.on_acked(&run), 0, "an acknowledgement counts once");
    }

    fn drain(&mut self) {
        let all = self.application.undrained;
        let amount = if self.dice.percent(50) {
            all
        } else {
            self.dice.roll(all + 1)
        };
        self.application.undrained -= amount;
        self.receiver.on_consumed(amount);
        self.session.consume(self.receiver.take_consumed());
    }

    fn grant(&mut self) {
        if let Some(limit) = self.receiver.grant() {
            self.grants.0 = limit;
        }
        if let Some(limit) = self.session.grant() {
            self.grants.1 = limit;
        }
        if !self.dice.percent(self.loss) {
            self.stream_limit = self.stream_limit.max(self.grants.0);
            self.session_send.raise(self.grants.1);
        }
    }

    fn step(&mut self) {
        match self.dice.roll(8) {
            0 => self.push(),
            1 | 2 => self.send(),
            3 | 4 => self.deliver(),
            5 => self.acknowledge(),
            6 => self.drain(),
            _ => {
                self.report_blocked();
                self.grant();
            }
        }
        // Cells of early data, rounded up twice, and the bookkeeping of partial messages.
        assert!(self.receiver.memory() as u64 <= 8 * self.window + 8192);
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty()
            && self.sender.is_finished()
            && self.receiver.is_finished()
            && self.application.undrained == 0
    }

    /// Runs until both ends are done, the network becoming perfect after a while.
    fn run(&mut self) {
        let work = self
            .application
            .messages
            .iter()
            .map(|message| 40 + message.len() / 8)
            .sum::<usize>();
        for step in 0..20_000 + 60 * work {
            if self.is_done() {
                return;
            }
            if step > 4000 + 20 * work {
                self.loss = 0;
            }
            self.step();
        }
        panic!(
            "stuck: {:?}",
            (
                self.sender.buffered(),
                self.limit(),
                self.flying.len(),
                self.application.complete.len()
            )
        );
    }

    fn check_credit_is_whole(&mut self) {
        // What the peer did not need any more may still fly.
        for packet in core::mem::take(&mut self.flying) {
            self.arrive(&packet).expect("an honest packet");
        }
        let rest = core::mem::take(&mut self.application.undrained);
        self.receiver.on_consumed(rest);
        self.session.consume(self.receiver.take_consumed());
        assert_eq!(self.session.used(), self.sender.sent_position());
        assert_eq!(self.session.used(), self.session_send.used());
        assert_eq!(self.session.consumed(), self.session.used(), "credit leaked");
        self.session.press();
        self.session.grant();
        assert_eq!(self.session.granted() - self.session.used(), self.session.window());
        assert!(self.receiver.memory() <= 64 << 10, "memory is given back");
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![
        4 => 0usize..200,
        2 => 200usize..1300,
        1 => 1300usize..9000,
    ];
    prop::collection::vec(size, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn reliable_streams_deliver_everything_once_and_in_order(
        sizes in sizes(), seed: u64, window in 4096u64..40_000, loss in 0u64..45,
    ) {
        let mut world = World::new(Reliability::Reliable, &sizes, seed, window, loss);
        world.run();
        prop_assert_eq!(world.application.complete.len(), sizes.len());
        world.check_credit_is_whole();
    }

    #[test]
    fn unordered_streams_deliver_everything_once(
        sizes in sizes(), seed: u64, window in 4096u64..40_000, loss in 0u64..45,
    ) {
        let mut world = World::new(Reliability::ReliableUnordered, &sizes, seed, window, loss);
        world.run();
        prop_assert_eq!(world.application.complete.len(), sizes.len());
        world.check_credit_is_whole();
    }

    #[test]
    fn fire_and_forget_streams_deliver_whole_messages_and_leak_no_credit(
        sizes in prop::collection::vec(0usize..1270, 1..200),
        seed: u64, window in 4096u64..40_000, loss in 0u64..45,
    ) {
        let mut world = World::new(Reliability::FireAndForget, &sizes, seed, window, loss);
        world.run();
        world.check_credit_is_whole();
        if loss == 0 {
            prop_assert_eq!(world.application.complete.len() as u64 + world.receiver.dropped(), sizes.len() as u64);
        }
    }

    #[test]
    fn a_reset_returns_all_credit(
        reliability in prop::sample::select(&Reliability::ALL[..]),
        sizes in prop::collection::vec(0usize..1200, 1..80),
        seed: u64, loss in 0u64..45, steps in 0usize..400,
    ) {
        let mut world = World::new(reliability, &sizes, seed, 8192, loss);
        for _ in 0..steps {
            world.step();
        }
        let last = world.sender.reset(7);
        prop_assert_eq!(world.sender.reset_frame(), Some((7, last)));
        prop_assert_eq!(world.sender.buffered(), 0);
        prop_assert!(!world.sender.has_data(u64::MAX));
        let growth = world.receiver.on_reset(7, last).expect("the sender's own final position");
        world.carry(growth);
        prop_assert!(world.receiver.is_finished());
        let again = world.receiver.on_reset(7, last).expect("a repeated RESET_STREAM");
        prop_assert_eq!(again, 0);
        world.sender.on_reset_acked();
        prop_assert!(world.sender.is_finished());
        world.check_credit_is_whole();
    }

    #[test]
    fn a_reader_that_stops_returns_all_credit(
        reliability in prop::sample::select(&Reliability::ALL[..]),
        sizes in prop::collection::vec(0usize..1200, 1..80),
        seed: u64, loss in 0u64..45, steps in 0usize..400,
    ) {
        let mut world = World::new(reliability, &sizes, seed, 8192, loss);
        for _ in 0..steps {
            world.step();
        }
        world.receiver.stop();
        prop_assert_eq!(world.receiver.memory(), 0);
        let taken = world.application.complete.len();
        for _ in 0..50 {
            world.send();
            world.deliver();
        }
        prop_assert_eq!(world.application.complete.len(), taken, "nothing is delivered after the stop");
        let last = world.sender.reset(1);
        let growth = world.receiver.on_reset(1, last).expect("the sender's own final position");
        world.carry(growth);
        world.check_credit_is_whole();
    }

    #[test]
    fn no_peer_can_panic_the_receiver_or_exceed_its_memory(
        reliability in prop::sample::select(&Reliability::ALL[..]),
        seed: u64,
        spread in prop::sample::select(&[20u64, 300, 5000][..]),
    ) {
        let window = 16 << 10;
        let mut dice = Dice(seed);
        let mut stream = RecvStream::new(reliability, window, 4096);
        let mut growth = 0;
        let mut consumed = 0;
        for _ in 0..300 {
            let count = 1 + dice.roll(3) as u16;
            let number = dice.roll(spread / 10 + 1);
            let position = if dice.percent(50) { number * 16 + dice.roll(spread) } else { dice.roll(spread * 4) };
            let fin = dice.percent(2);
            let mut cursor = match stream.begin(number, reliability, position, count, fin) {
                Ok(cursor) => cursor,
                Err(reason) => panic!("{reason}"),
            };
            let mut sound = true;
            for _ in 0..count {
                let total = dice.roll(60) as u32;
                let offset = if dice.percent(40) { 0 } else { dice.roll(60) as u32 };
                let length = if dice.percent(50) { total.saturating_sub(offset) } else { dice.roll(40) as u32 };
                let bytes = vec![dice.roll(4) as u8; length as usize];
                sound = stream.on_event(&mut cursor, Piece { offset, total, bytes: &bytes }).is_ok();
                if !sound {
                    break;
                }
            }
            if sound {
                growth += stream.end(cursor).unwrap_or(0);
            }
            while let Ok(Some(part)) = stream.pop_ready() {
                prop_assert!(part.offset + part.bytes.len() as u64 <= part.total);
            }
            prop_assert!(stream.memory() as u64 <= 8 * window);
            prop_assert!(stream.undrained() <= stream.granted());
            if dice.percent(30) {
                stream.on_consumed(stream.undrained());
                consumed += stream.take_consumed();
                stream.grant();
            }
            prop_assert!(consumed <= growth);
        }
    }
}

/// A message three times larger than all credit, over a lossy path.
#[test]
fn a_message_larger_than_the_window_streams_through() {
    for reliability in [Reliability::Reliable, Reliability::ReliableUnordered] {
        for seed in 0..20 {
            let mut world = World::new(reliability, &[1, 100_000, 0, 90_000, 2], seed, 32 << 10, 20);
            world.run();
            world.check_credit_is_whole();
        }
    }
}
