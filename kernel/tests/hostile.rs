//! An authenticated peer that lies: every breach ends its session with the right code, and nobody else's.
//!
//! Invariants: see each test. Not here: strangers (`strangers.rs`).

mod common;

use common::glass::{self, Glass, Name, Seen, events, forge, forge_raw, look, plain};
use common::{Pair, Taped};
use net_kernel::api::{CloseReason, Event, SessionConfig, StreamOptions};
use net_kernel::base::rng::Stream;
use net_kernel::base::{Addr, Duration, SessionId, SessionKey, StreamId};
use net_kernel::wire::{CloseCode, DropReason, Flags, Frame, FrameWriter, Header, Reliability};

/// Side 0 lies to side 1, while side 2 is honest to side 1.
struct Liar {
    pair: Pair<Glass>,
    victim: SessionKey,
    honest: SessionKey,
    key: Name,
    id: SessionId,
    counter: u64,
    from: Addr,
    /// A stream that side 0 opened and uses, one that side 1 opened.
    own: StreamId,
    theirs: StreamId,
}

fn limits() -> SessionConfig {
    SessionConfig {
        max_streams: 128,
        max_message: 1 << 20,
        stream_window: 256 << 10,
        session_window: 1 << 20,
        ..SessionConfig::default()
    }
}

fn last_protected(tape: &[Taped], side: usize, to: Addr) -> Seen {
    let mut packets = tape.iter().rev().filter(|taped| taped.side == side && taped.to == to);
    packets.find_map(|taped| look(&taped.bytes)).expect("it sent something")
}

impl Liar {
    fn new(seed: u64) -> Self {
        let mut pair = Pair::<Glass>::of(seed, 3, &limits(), 1);
        pair.tape = Some(Vec::new());
        let [liar, victim] = pair.connect_between(0, 1);
        let [_, honest] = pair.connect_between(2, 1);
        let own = pair.open(0, liar, StreamOptions::default());
        let theirs = pair.open(1, victim, StreamOptions::default());
        assert!(pair.send(0, liar, own, b"hello") && pair.send(1, victim, theirs, b"hello"));
        pair.run_for(Duration::from_secs(1));
        let tape = pair.tape.as_ref().expect("recording");
        let seen = last_protected(tape, 0, pair.sides[1].addr);
        Self {
            victim,
            honest,
            key: seen.key,
            id: seen.header.session,
            counter: seen.header.counter + 1_000,
            from: pair.sides[0].addr,
            own,
            theirs,
            pair,
        }
    }

    fn tell(&mut self, packet: Vec<u8>) {
        self.pair.receive(1, vec![(self.from, packet)]);
    }

    /// A packet of control frames.
    fn control(&self, write: impl FnOnce(&mut FrameWriter<'_>)) -> Vec<u8> {
        forge(self.key, plain(self.id, self.counter), write)
    }

    /// The header of a packet with `count` event frames, of which the first has number 1.
    fn events(&self, count: u16) -> Header {
        events(self.id, self.counter, self.own, 1, count)
    }

    fn closed(&self, side: usize, session: SessionKey) -> Option<CloseReason> {
        let mut events = self.pair.sides[side].desk.events.iter();
        events.find_map(|event| {
            let Event::Closed {
                session: ended, why, ..
            } = event
            else {
                return None;
            };
            (*ended == session).then(|| why.clone())
        })
    }
}

fn put(writer: &mut FrameWriter<'_>, frames: &[Frame<'_>]) {
    for frame in frames {
        assert!(writer.frame(frame), "it fits");
    }
}

fn run_at(position: u64) -> Frame<'static> {
    Frame::Stream {
        reliability: Reliability::Reliable,
        position,
    }
}

/// Where message 1 of the liar's stream begins: after "hello".
const SECOND: u64 = 5 + 16;

type Lie = fn(&Liar) -> Vec<u8>;

/// What is told, what it is counted as, and the code the session ends with.
const LIES: &[(&str, Lie, DropReason, CloseCode)] = &[
    (
        "an acknowledgement of what was never sent",
        |liar| {
            liar.control(|writer| {
                writer.ack(None, 0, [(90_000, 90_000)]).expect("it fits");
            })
        },
        DropReason::AckOfUnsent,
        CloseCode::ProtocolViolation,
    ),
    (
        "an unknown frame that must be understood",
        |liar| forge_raw(liar.key, plain(liar.id, liar.counter), &[0x3f, 0]),
        DropReason::UnknownFrame,
        CloseCode::ProtocolViolation,
    ),
    (
        "a frame that ends early",
        |liar| forge_raw(liar.key, plain(liar.id, liar.counter), &[0x06, 5, 1]),
        DropReason::MalformedFrame,
        CloseCode::ProtocolViolation,
    ),
    (
        "fewer event frames than the header says",
        |liar| {
            forge(liar.key, liar.events(2), |writer| {
                put(writer, &[run_at(SECOND), Frame::Event(b"x")])
            })
        },
        DropReason::EventCount,
        CloseCode::ProtocolViolation,
    ),
    (
        "more event frames than the header says",
        |liar| {
            let frames = [run_at(SECOND), Frame::Event(b"x"), Frame::Event(b"y")];
            forge(liar.key, liar.events(1), |writer| put(writer, &frames))
        },
        DropReason::EventCount,
        CloseCode::ProtocolViolation,
    ),
    (
        "event frames that no STREAM frame opens",
        |liar| forge(liar.key, liar.events(1), |writer| put(writer, &[Frame::Event(b"x")])),
        DropReason::FrameNotAllowed,
        CloseCode::ProtocolViolation,
    ),
    (
        "an announced run that is not there",
        |liar| forge(liar.key, liar.events(1), |writer| put(writer, &[Frame::Ping])),
        DropReason::EventCount,
        CloseCode::ProtocolViolation,
    ),
    (
        "a run in a packet that announced none",
        |liar| liar.control(|writer| put(writer, &[run_at(0)])),
        DropReason::EventCount,
        CloseCode::ProtocolViolation,
    ),
    (
        "two runs in one packet",
        |liar| {
            let frames = [run_at(SECOND), Frame::Event(b"x"), run_at(SECOND)];
            forge(liar.key, liar.events(1), |writer| put(writer, &frames))
        },
        DropReason::FrameNotAllowed,
        CloseCode::ProtocolViolation,
    ),
    (
        "data beyond the stream's credit",
        |liar| {
            let frames = [run_at(300 << 10), Frame::Event(b"x")];
            let header = Header {
                sequence: 9,
                ..liar.events(1)
            };
            forge(liar.key, header, |writer| put(writer, &frames))
        },
        DropReason::FlowControl,
        CloseCode::FlowControl,
    ),
    (
        "a reset at a position beyond the credit",
        |liar| {
            let frame = Frame::ResetStream {
                stream: liar.own,
                code: 0,
                final_position: 1 << 40,
            };
            liar.control(|writer| put(writer, &[frame]))
        },
        DropReason::FlowControl,
        CloseCode::FlowControl,
    ),
    (
        "a block at a position beyond the credit",
        |liar| {
            let frame = Frame::StreamBlocked {
                stream: liar.own,
                position: 1 << 40,
            };
            liar.control(|writer| put(writer, &[frame]))
        },
        DropReason::FlowControl,
        CloseCode::FlowControl,
    ),
    (
        "a stream beyond the number allowed",
        |liar| {
            let beyond = StreamId(129 << 3 | liar.own.0 & 7);
            let header = Header {
                stream: beyond,
                sequence: 0,
                ..liar.events(1)
            };
            forge(liar.key, header, |writer| put(writer, &[run_at(0), Frame::Event(b"x")]))
        },
        DropReason::StreamLimit,
        CloseCode::StreamLimit,
    ),
    (
        "a stream of ours that we never opened",
        |liar| {
            let never = StreamId(7 << 3 | liar.theirs.0 & 7);
            let frame = Frame::StopSending { stream: never, code: 0 };
            liar.control(|writer| put(writer, &[frame]))
        },
        DropReason::StreamState,
        CloseCode::ProtocolViolation,
    ),
    (
        "a stream of a kind that does not exist",
        |liar| {
            let kind = StreamId(liar.own.0 | 6);
            let frame = Frame::MaxStreamData { stream: kind, limit: 9 };
            liar.control(|writer| put(writer, &[frame]))
        },
        DropReason::StreamState,
        CloseCode::ProtocolViolation,
    ),
    (
        "a reliability other than the stream's",
        |liar| {
            let other = Frame::Stream {
                reliability: Reliability::FireAndForget,
                position: SECOND,
            };
            forge(liar.key, liar.events(1), |writer| {
                put(writer, &[other, Frame::Event(b"x")])
            })
        },
        DropReason::StreamState,
        CloseCode::ProtocolViolation,
    ),
    (
        "the same index opened again as another kind",
        |liar| {
            let again = StreamId(liar.own.0 & !6 | (Reliability::ReliableUnordered.to_byte() as u64) << 1);
            let run = Frame::Stream {
                reliability: Reliability::ReliableUnordered,
                position: 0,
            };
            let header = Header {
                stream: again,
                sequence: 0,
                ..liar.events(1)
            };
            forge(liar.key, header, |writer| put(writer, &[run, Frame::Event(b"x")]))
        },
        DropReason::StreamState,
        CloseCode::ProtocolViolation,
    ),
    (
        "a message above the limit",
        |liar| {
            let segment = Frame::Segment {
                offset: 0,
                total: 2 << 20,
                bytes: b"x",
            };
            forge(liar.key, liar.events(1), |writer| {
                put(writer, &[run_at(SECOND), segment])
            })
        },
        DropReason::MessageTooLarge,
        CloseCode::MessageTooLarge,
    ),
    (
        "an end before what was received",
        |liar| {
            let header = Header {
                sequence: 0,
                flags: Flags::FIN,
                ..liar.events(0)
            };
            forge(liar.key, header, |writer| put(writer, &[run_at(0)]))
        },
        DropReason::StreamState,
        CloseCode::ProtocolViolation,
    ),
];

#[test]
fn every_breach_of_the_protocol_is_counted_and_closes_its_session_with_its_code() {
    for (name, lie, reason, code) in LIES {
        let mut liar = Liar::new(40);
        let before = liar.pair.sides[1].kernel.drops();
        let packet = lie(&liar);
        liar.tell(packet);
        liar.pair.run_for(Duration::from_millis(100));
        assert_eq!(liar.pair.drops_since(1, &before), [(*reason, 1)], "{name}");
        assert_eq!(
            liar.closed(1, liar.victim),
            Some(CloseReason::Local(*code)),
            "{name}: the user is told"
        );
        let told = liar.closed(0, liar.pair.session(0).unwrap_or(SessionKey(1)));
        assert!(
            matches!(told, Some(CloseReason::Remote { code: heard, .. }) if heard == *code),
            "{name}: the peer is told: {told:?}"
        );
        liar.pair.run_for(Duration::from_secs(20));
        assert_eq!(
            liar.pair.sides[1].kernel.holdings().sessions,
            1,
            "{name}: the other one lives"
        );
        let stream = liar.pair.open(1, liar.honest, StreamOptions::default());
        liar.pair.send(1, liar.honest, stream, b"still here");
        liar.pair.run_for(Duration::from_secs(1));
        assert_eq!(liar.pair.received(2, stream).len(), 1, "{name}: and works");
    }
}

#[test]
fn frames_of_the_future_are_skipped() {
    let mut liar = Liar::new(41);
    let before = liar.pair.sides[1].kernel.drops();
    let header = liar.events(1);
    let mut text = vec![0x40, 3, 1, 2, 3];
    let mut frames = [0; 64];
    let mut writer = FrameWriter::new(&mut frames);
    put(&mut writer, &[run_at(SECOND), Frame::Event(b"after it")]);
    text.extend_from_slice(writer.written());
    liar.tell(forge_raw(liar.key, header, &text));
    assert_eq!(liar.pair.drops_since(1, &before), []);
    assert_eq!(liar.pair.received(1, liar.own).last(), Some(&(1, b"after it".to_vec())));
}

#[test]
fn no_bytes_of_a_peer_make_the_kernel_panic() {
    let mut rng = common::seed_of(42).fork("bytes");
    for seed in common::seeds(40) {
        let mut liar = Liar::new(1_000 + seed);
        for round in 0..60 {
            let mut text = vec![0; rng.below(300) as usize];
            rng.fill(&mut text);
            // A frame type that exists, so that bodies are reached.
            if let Some(first) = text.first_mut() {
                *first %= 0x14;
            }
            if text.len() > 1 {
                text[1] = (text.len() - 2).min(63) as u8;
            }
            let header = Header {
                counter: liar.counter + round,
                ..match rng.below(3) {
                    0 => plain(liar.id, 0),
                    1 => liar.events(rng.below(4) as u16),
                    _ => events(liar.id, 0, StreamId(rng.below(700)), rng.below(5), 1),
                }
            };
            liar.tell(forge_raw(liar.key, header, &text));
            liar.pair.run_for(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_peer_that_challenges_from_a_borrowed_address_gets_no_more_than_it_sent() {
    let mut liar = Liar::new(43);
    let spoofed: Addr = ([10, 9, 8, 7], 53).into();
    liar.pair.tape = Some(Vec::new());
    let mut spent = 0;
    for round in 0..50 {
        let frames: Vec<Frame<'_>> = (0..100).map(|n| Frame::PathChallenge([n; 8])).collect();
        let header = plain(liar.id, liar.counter + round);
        let packet = forge(liar.key, header, |writer| put(writer, &frames));
        spent += packet.len();
        liar.pair.receive(1, vec![(spoofed, packet)]);
    }
    liar.pair.run_for(Duration::from_secs(5));
    let tape = liar.pair.tape.take().expect("recording");
    let got: usize = tape
        .iter()
        .filter(|taped| taped.to == spoofed)
        .map(|taped| taped.bytes.len())
        .sum();
    assert!(got <= spent, "{got} bytes for {spent}");
    let small = glass::forge(liar.key, plain(liar.id, liar.counter + 99), |writer| {
        put(
            writer,
            &[
                Frame::PathChallenge([1; 8]),
                Frame::PathChallenge([2; 8]),
                Frame::PathChallenge([3; 8]),
                Frame::Ping,
            ],
        );
    });
    let borrowed: Addr = ([10, 9, 8, 6], 53).into();
    let spent = small.len();
    liar.pair.tape = Some(Vec::new());
    liar.pair.receive(1, vec![(borrowed, small)]);
    liar.pair.run_for(Duration::from_secs(5));
    let tape = liar.pair.tape.take().expect("recording");
    let got: usize = tape
        .iter()
        .filter(|taped| taped.to == borrowed)
        .map(|taped| taped.bytes.len())
        .sum();
    assert!(got <= 3 * spent, "three times at most: {got} bytes for {spent}");
}

#[test]
fn sessions_that_are_refused_or_broken_off_leave_a_bounded_number_behind() {
    let mut pair = Pair::<Glass>::of(44, 2, &limits(), 1);
    pair.delay = Duration::from_micros(10);
    // Nobody is admitted: each handshake ends in a close that is repeated for a while.
    pair.command(1, net_kernel::api::Command::Allow(Some(&[])));
    let (peer, to) = (pair.entity(1), pair.sides[1].addr);
    let mut most = 0;
    for _ in 0..600 {
        pair.command(0, net_kernel::api::Command::Connect { peer, addresses: &[to] });
        pair.run_for(Duration::from_micros(600));
        let [a, b] = [0, 1].map(|side| pair.sides[side].kernel.holdings().sessions);
        most = most.max(a).max(b);
    }
    assert!(most <= 300, "{most} sessions are held for nobody");
}

/// Messages of each stream of the plausible peer.
const MESSAGES: u64 = 25;

fn len_of(number: u64) -> u64 {
    number % 7 * 40
}

/// Where message `number` begins.
fn start_of(number: u64) -> u64 {
    (0..number).map(|before| len_of(before) + 16).sum()
}

/// The liar says what could be true, in any order and any number of times, cut as it likes.
struct Plausible {
    rng: Stream,
    /// How many of a thousand frames say what cannot be.
    breaches: u64,
}

impl Plausible {
    fn stream(&mut self, liar: &Liar) -> (StreamId, Reliability) {
        let kind = Reliability::ALL[self.rng.below(3) as usize];
        // The three kinds take turns, as each index is opened as one kind.
        let index = 1 + self.rng.below(4) * 3 + u64::from(kind.to_byte());
        let id = index << 3 | u64::from(kind.to_byte()) << 1 | liar.own.0 & 1;
        (StreamId(id), kind)
    }

    fn control(&mut self, liar: &Liar) -> Frame<'static> {
        let (stream, _) = self.stream(liar);
        let any = [0, 1, 1 << 20, 1 << 61][self.rng.below(4) as usize];
        let breach = self.rng.below(1_000) < self.breaches;
        let position = if breach {
            any
        } else {
            start_of(self.rng.below(MESSAGES))
        };
        match self.rng.below(14) {
            0 => Frame::Padding(self.rng.below(20) as usize),
            1 => Frame::MaxData(any),
            2 => Frame::MaxStreamData { stream, limit: any },
            3 => Frame::DataBlocked(any),
            4 => Frame::StreamBlocked { stream, position },
            5 if self.rng.below(8) == 0 => Frame::ResetStream {
                stream,
                code: any,
                final_position: if breach { any } else { start_of(MESSAGES) },
            },
            6 if self.rng.below(4) == 0 => Frame::StopSending { stream, code: 1 },
            7 => Frame::PathChallenge(self.rng.bytes8()),
            8 => Frame::PathResponse(self.rng.bytes8()),
            9 => Frame::Echo(any),
            10 => Frame::EchoReply(self.rng.below(3)),
            11 => Frame::MaxStreams(any),
            _ => Frame::Ping,
        }
    }

    /// A packet with a run of some stream.
    fn run(&mut self, liar: &Liar, counter: u64) -> Vec<u8> {
        let (stream, reliability) = self.stream(liar);
        let whole = reliability == Reliability::FireAndForget;
        let first = self.rng.below(MESSAGES);
        let count = (1 + self.rng.below(4)).min(MESSAGES - first);
        let cut = |rng: &mut Stream, most: u64| if whole || most == 0 { 0 } else { rng.below(most) };
        let skipped = cut(&mut self.rng, len_of(first));
        let last = first + count - 1;
        let from = if count == 1 { skipped } else { 0 };
        let kept = len_of(last) - cut(&mut self.rng, len_of(last) - from);
        let mut header = events(liar.id, counter, stream, first, count as u16);
        if last + 1 == MESSAGES && kept == len_of(last) && self.rng.below(2) == 0 {
            header.flags = Flags::FIN;
        }
        let others: Vec<Frame<'_>> = (0..self.rng.below(3)).map(|_| self.control(liar)).collect();
        let bytes = [7; 300];
        forge(liar.key, header, |writer| {
            put_some(writer, others.iter());
            let run = Frame::Stream {
                reliability,
                position: start_of(first) + skipped,
            };
            put_some(writer, [&run].into_iter());
            for number in first..=last {
                let (low, high) = (
                    if number == first { skipped } else { 0 },
                    if number == last { kept } else { len_of(number) },
                );
                let part = &bytes[..(high - low) as usize];
                let frame = if low == 0 && high == len_of(number) {
                    Frame::Event(part)
                } else {
                    Frame::Segment {
                        offset: low as u32,
                        total: len_of(number) as u32,
                        bytes: part,
                    }
                };
                put_some(writer, [&frame].into_iter());
            }
        })
    }

    fn packet(&mut self, liar: &Liar, counter: u64) -> Vec<u8> {
        if self.rng.below(4) > 0 {
            return self.run(liar, counter);
        }
        let frames: Vec<Frame<'_>> = (0..self.rng.below(6)).map(|_| self.control(liar)).collect();
        forge(liar.key, plain(liar.id, counter), |writer| {
            put_some(writer, frames.iter())
        })
    }
}

#[test]
fn no_sequence_of_plausible_frames_makes_the_kernel_panic_or_hold_more_than_it_granted() {
    let mut rounds = 0;
    for seed in common::seeds(60) {
        let mut liar = Liar::new(2_000 + seed % 7);
        let mut plausible = Plausible {
            rng: common::seed_of(seed).fork("plausible"),
            breaches: seed % 3 * 2,
        };
        // The true peer is silent from now on: only the liar speaks.
        liar.pair.rule = Some(Box::new(|flight| {
            (flight.side != 2 && flight.to != common::address(2)).then(Vec::new)
        }));
        for round in 0..300 {
            let packet = plausible.packet(&liar, liar.counter + round);
            let from = if plausible.rng.below(10) == 0 {
                common::address(50)
            } else {
                liar.from
            };
            liar.pair.receive(1, vec![(from, packet)]);
            liar.pair.sides[1].drains = plausible.rng.below(3) > 0;
            let pause = Duration::from_micros(plausible.rng.below(30_000));
            liar.pair.run_for(pause);
            let held = liar.pair.sides[1].kernel.holdings();
            assert!(held.reordering <= 2 << 20, "seed {seed}: {held:?}");
            if liar.pair.sides[1].kernel.stats(liar.victim).is_none() {
                break;
            }
            rounds += 1;
        }
        if plausible.breaches == 0 {
            assert_eq!(
                liar.closed(1, liar.victim),
                None,
                "seed {seed}: nothing was said that cannot be"
            );
        }
        liar.pair.run_for(Duration::from_secs(70));
        let held = liar.pair.sides[1].kernel.holdings();
        assert_eq!(held.sessions, 1, "seed {seed}: the honest one");
    }
    assert!(rounds > 4_000, "most of what is said is taken: {rounds}");
}

fn put_some<'f>(writer: &mut FrameWriter<'_>, frames: impl Iterator<Item = &'f Frame<'f>>) {
    for frame in frames {
        let _ = writer.frame(frame);
    }
}
