//! Kernels and the wire between them, in memory and in order of time.
//!
//! | file | role |
//! |---|---|
//! | `glass.rs` | a cipher that hides nothing, for tests that must read or forge packets |
//!
//! Invariants: everything is a function of the seed; a kernel that asks to be woken without end at one moment fails
//! the test. Not here: the simulated world (`net-io-sim`), which has real link models and checkers; this is the
//! smallest thing in which a kernel can be told inputs by hand.
#![allow(dead_code, clippy::expect_used, reason = "each suite uses its part")]

pub mod glass;

use std::collections::{BTreeMap, VecDeque};

use net_kernel::Kernel;
use net_kernel::api::{
    Boot, Command, Crew, Dest, Drops, Ecn, Event, Input, Io, Job, JobDone, Messages, Part, RxBatch, RxBuf, Seal,
    SessionConfig, StoreOp, Stored, StreamOptions, Tx,
};
use net_kernel::base::rng::{Secret, Seed, Stream};
use net_kernel::base::{
    Addr, Checked, CommandId, Duration, EntityId, Epoch, Instant, JobId, Now, SessionKey, StreamId, Ticket, UnixNanos,
};
use net_kernel::session::aead::{Aead, Reference};
use net_kernel::session::crew::Drawn;
use net_kernel::trust::{Identity, NetworkKey};
use net_kernel::wire::DropReason;

/// How many seeds a test tries where more find more: `usual`, or what NET_SEEDS says at compile time.
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    let wanted = option_env!("NET_SEEDS").and_then(|text| text.parse().ok());
    0..wanted.unwrap_or(usual)
}

/// Wakes at one moment that lead nowhere, after which a kernel is held to spin.
const MAX_IDLE_WAKES: u32 = 32;

/// A message and its number in its stream.
pub type Message = (u64, Vec<u8>);

/// What one kernel did in a turn, and what its application saw so far.
#[derive(Default)]
pub struct Desk {
    pub sent: Vec<(Addr, Vec<u8>)>,
    slot: Vec<u8>,
    to: Option<Addr>,
    pub jobs: VecDeque<(JobId, Box<Job>)>,
    pub stores: VecDeque<(Ticket, StoreOp)>,
    pub events: Vec<Event>,
    /// Whole messages by stream, in order of completion.
    pub messages: BTreeMap<(SessionKey, StreamId), Vec<Message>>,
    partial: BTreeMap<(SessionKey, StreamId, u64), Vec<u8>>,
    /// Payload bytes and messages delivered and not yet reported as drained.
    pub undrained: BTreeMap<(SessionKey, StreamId), (u64, u64)>,
    pub full: bool,
    /// Full after so many more datagrams.
    pub room: Option<usize>,
    /// A reservation was refused since the transmitter was last told to have room.
    pub refused: bool,
    /// Who opens and seals beside the kernel.
    pub crew: Option<Drawn>,
    /// The first datagram of `sent` that is not sealed yet.
    held: Option<usize>,
}

impl Tx for Desk {
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        if self.full || self.room == Some(0) {
            self.refused = true;
            return None;
        }
        self.to = Some(to.to);
        self.slot.clear();
        self.slot.resize(len, 0);
        Some(&mut self.slot)
    }

    fn commit(&mut self, len: usize) {
        let to = self.to.take().expect("a slot was reserved");
        if let Some(room) = &mut self.room {
            *room -= 1;
        }
        self.sent.push((to, self.slot[..len].to_vec()));
    }

    fn hold(&mut self) -> bool {
        assert_eq!(self.held, None, "what was held before was released");
        self.held = self.crew.is_some().then_some(self.sent.len());
        self.held.is_some()
    }

    fn release(&mut self, seal: &mut Seal<'_>) {
        let held = self.held.take().expect("something is held");
        let mut bytes: Vec<u8> = self.sent[held..].iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        seal(&mut bytes, self.crew.as_mut().expect("only a crew is held for"));
        let mut sealed = bytes.as_slice();
        for (_, datagram) in &mut self.sent[held..] {
            let len = datagram.len();
            datagram.copy_from_slice(sealed.split_off(..len).expect("as long as before"));
        }
    }
}

impl Io for Desk {
    fn crew(&mut self) -> Option<&mut dyn Crew> {
        self.crew.as_mut().map(|crew| crew as &mut dyn Crew)
    }

    fn store(&mut self, ticket: Ticket, op: StoreOp) {
        self.stores.push_back((ticket, op));
    }

    fn work(&mut self, id: JobId, job: Box<Job>) {
        self.jobs.push_back((id, job));
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    fn deliver(&mut self, part: Part<'_>) {
        let key = (part.session, part.stream, part.number);
        let whole = self.partial.entry(key).or_default();
        assert_eq!(whole.len() as u64, part.offset, "parts of a message come in order");
        whole.extend_from_slice(part.bytes);
        let drained = self.undrained.entry((part.session, part.stream)).or_default();
        drained.0 += part.bytes.len() as u64;
        if part.end {
            drained.1 += 1;
            let whole = self.partial.remove(&key).expect("just written");
            let stream = (part.session, part.stream);
            self.messages.entry(stream).or_default().push((part.number, whole));
        }
    }
}

/// One side.
pub struct Side<A: Aead = Reference> {
    pub kernel: Kernel<A, Checked>,
    pub desk: Desk,
    pub addr: Addr,
    pub deadline: Option<Instant>,
    pub drains: bool,
    /// Jobs run so far.
    pub jobs_run: u64,
    pub entropy: Stream,
    commands: u64,
    /// Wakes in a row at one moment.
    wakes: (Instant, u32),
}

/// A datagram on its way from a kernel.
pub struct Flight<'f> {
    pub now: Instant,
    pub side: usize,
    pub from: Addr,
    pub to: Addr,
    pub bytes: &'f [u8],
}

/// Where (a copy of) a datagram arrives: after how long, at whom, from whom as it seems, and what.
pub type Hop = (Duration, usize, Addr, Vec<u8>);

/// What the network does with a datagram: `None` for the ordinary, else exactly these arrivals.
pub type Rule = Box<dyn FnMut(&Flight<'_>) -> Option<Vec<Hop>>>;

/// Two sides (or more), a clock, and datagrams under way.
pub struct Pair<A: Aead = Reference> {
    pub now: Instant,
    pub sides: Vec<Side<A>>,
    /// (arrival, running number) so that ties keep their order.
    wire: BTreeMap<(Instant, u64), (usize, Addr, Vec<u8>)>,
    number: u64,
    pub rng: Stream,
    pub delay: Duration,
    /// Loss in thousandths.
    pub loss: u64,
    /// Largest additional delay, for reordering.
    pub jitter: Duration,
    /// Larger datagrams vanish.
    pub mtu: usize,
    pub datagrams: u64,
    /// Datagrams handed to a kernel in one turn.
    pub batch: usize,
    /// Every datagram sent, when recording.
    pub tape: Option<Vec<Taped>>,
    pub rule: Option<Rule>,
    /// Jobs take up to this long, and end in any order.
    pub job_delay: Option<Duration>,
    jobs: BTreeMap<(Instant, u64), (usize, JobId, Box<Job>)>,
    /// Datagrams of one length from one sender are handed over in one buffer, as network cards do.
    pub gathers: bool,
}

/// A recorded datagram.
#[derive(Clone)]
pub struct Taped {
    pub at: Instant,
    pub side: usize,
    pub to: Addr,
    pub bytes: Vec<u8>,
}

pub fn identity(seed: u64) -> Identity {
    let mut stream = seed_of(seed).fork("identity");
    Identity::generate(&mut |out| stream.fill(out))
}

pub fn boot(seed: u64, epoch: u64, config: &SessionConfig, lanes: u8) -> Boot {
    Boot {
        seed: seed_of(seed),
        identity: identity(seed),
        epoch: Epoch(epoch),
        networks: vec![NetworkKey::from_bytes(Secret([7; 32]))],
        allow: None,
        config: config.clone(),
        mesh: None,
        lanes,
        trace: true,
    }
}

impl Pair {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, &SessionConfig::default(), 1)
    }

    pub fn with(seed: u64, config: &SessionConfig, lanes: u8) -> Self {
        Self::of(seed, 2, config, lanes)
    }
}

impl<A: Aead> Pair<A> {
    /// `count` sides.
    pub fn of(seed: u64, count: u64, config: &SessionConfig, lanes: u8) -> Self {
        let boots = (0..count).map(|n| boot(seed * 2 + n + 1, 1, config, lanes)).collect();
        Self::booted(seed, boots)
    }

    /// A side for each of `boots`.
    pub fn booted(seed: u64, boots: Vec<Boot>) -> Self {
        let entropy = seed_of(seed);
        let sides = boots.into_iter().enumerate().map(|(n, boot)| Side {
            kernel: Kernel::boot(boot, now(Instant::ZERO)).expect("a sound configuration"),
            desk: Desk::default(),
            addr: address(n),
            deadline: Some(Instant::ZERO),
            drains: true,
            jobs_run: 0,
            entropy: entropy.fork(&format!("entropy {n}")),
            commands: 0,
            wakes: (Instant::ZERO, 0),
        });
        Self {
            now: Instant::from_nanos(1_000_000_000),
            sides: sides.collect(),
            wire: BTreeMap::new(),
            number: 0,
            rng: seed_of(seed).fork("wire"),
            delay: Duration::from_millis(10),
            loss: 0,
            jitter: Duration::ZERO,
            mtu: usize::MAX,
            datagrams: 0,
            batch: 64,
            tape: None,
            rule: None,
            job_delay: None,
            jobs: BTreeMap::new(),
            gathers: false,
        }
    }

    /// The process behind a side dies; another starts in its place.
    pub fn restart(&mut self, side: usize, boot: Boot) {
        let fresh = Kernel::boot(boot, now(self.now)).expect("a sound configuration");
        let old = &mut self.sides[side];
        old.kernel = fresh;
        old.desk = Desk {
            crew: old.desk.crew.take(),
            ..Desk::default()
        };
        old.deadline = Some(self.now);
        self.jobs.retain(|_, (of, ..)| *of != side);
    }

    /// Every side gets a crew, which is given work on `least` bytes or more.
    pub fn with_crews(&mut self, seed: u64, least: usize) {
        for (at, side) in self.sides.iter_mut().enumerate() {
            side.desk.crew = Some(Drawn::new(seed_of(seed).fork(&format!("crew {at}")), least));
        }
    }

    pub fn entity(&self, side: usize) -> EntityId {
        self.sides[side].kernel.entity()
    }

    pub fn command(&mut self, side: usize, command: Command<'_>) -> CommandId {
        self.sides[side].commands += 1;
        let id = CommandId(self.sides[side].commands);
        self.turn(side, Input::Command(id, command));
        id
    }

    /// Tells a kernel one thing and carries out what it decides. A transmitter that was full and has room again says so.
    pub fn turn(&mut self, side: usize, input: Input<'_>) {
        let at = now(self.now);
        let Side {
            kernel, desk, deadline, ..
        } = &mut self.sides[side];
        *deadline = kernel.turn(at, input, desk).map(|deadline| deadline.at);
        self.carry(side);
    }

    fn carry(&mut self, side: usize) {
        for (to, bytes) in std::mem::take(&mut self.sides[side].desk.sent) {
            self.transmit(side, to, bytes);
        }
        while let Some((ticket, op)) = self.sides[side].desk.stores.pop_front() {
            let result = match op {
                StoreOp::Put { .. } => Stored::Done,
                StoreOp::Get { .. } => Stored::Value(None),
            };
            self.turn(side, Input::Stored(ticket, result));
        }
        while let Some((id, job)) = self.sides[side].desk.jobs.pop_front() {
            if let Some(longest) = self.job_delay {
                self.number += 1;
                let takes = Duration::from_nanos(self.rng.below(longest.as_nanos()));
                self.jobs.insert((self.now + takes, self.number), (side, id, job));
            } else {
                self.work(side, id, *job);
            }
        }
        if self.sides[side].drains {
            for ((session, stream), (bytes, messages)) in std::mem::take(&mut self.sides[side].desk.undrained) {
                self.command(
                    side,
                    Command::Consumed {
                        session,
                        stream,
                        bytes,
                        messages,
                    },
                );
            }
        }
    }

    /// The transmitter of a side has room for `room` more datagrams (`None`: any number).
    pub fn tx_ready(&mut self, side: usize, room: Option<usize>) {
        let desk = &mut self.sides[side].desk;
        (desk.full, desk.room) = (false, room);
        if std::mem::take(&mut desk.refused) {
            self.turn(side, Input::TxReady);
        }
    }

    fn work(&mut self, side: usize, id: JobId, job: Job) {
        let entropy = &mut self.sides[side].entropy;
        let done: JobDone = job.run(&mut |out| entropy.fill(out));
        self.sides[side].jobs_run += 1;
        self.turn(side, Input::Worked(id, done));
    }

    fn transmit(&mut self, side: usize, to: Addr, bytes: Vec<u8>) {
        self.datagrams += 1;
        let (now, from) = (self.now, self.sides[side].addr);
        if let Some(tape) = &mut self.tape {
            tape.push(Taped {
                at: now,
                side,
                to,
                bytes: bytes.clone(),
            });
        }
        let flight = Flight {
            now,
            side,
            from,
            to,
            bytes: &bytes,
        };
        if let Some(hops) = self.rule.as_mut().and_then(|rule| rule(&flight)) {
            for (after, target, from, bytes) in hops {
                self.post(after, target, from, bytes);
            }
            return;
        }
        if self.rng.below(1000) < self.loss || bytes.len() > self.mtu {
            return;
        }
        let Some(target) = self.sides.iter().position(|other| other.addr == to) else {
            return;
        };
        let jitter = Duration::from_nanos(self.rng.below(self.jitter.as_nanos() + 1));
        self.post(self.delay + jitter, target, from, bytes);
    }

    /// Puts a datagram on the wire.
    pub fn post(&mut self, after: Duration, target: usize, from: Addr, bytes: Vec<u8>) {
        self.number += 1;
        self.wire.insert((self.now + after, self.number), (target, from, bytes));
    }

    /// Datagrams under way.
    pub fn under_way(&self) -> usize {
        self.wire.len()
    }

    /// Hands datagrams to a kernel in one turn.
    pub fn receive(&mut self, side: usize, datagrams: Vec<(Addr, Vec<u8>)>) {
        let mut gathered: Vec<(Addr, usize, Vec<u8>)> = Vec::new();
        for (from, data) in datagrams {
            match gathered.last_mut().filter(|_| self.gathers) {
                // Only the last of a buffer may be shorter.
                Some((before, stride, all))
                    if *before == from && data.len() <= *stride && all.len().is_multiple_of(*stride) =>
                {
                    all.extend_from_slice(&data);
                }
                _ => gathered.push((from, data.len(), data)),
            }
        }
        let gathers = self.gathers;
        let bufs = gathered.iter_mut().map(|(from, stride, data)| RxBuf {
            from: *from,
            ecn: Ecn::NotEct,
            stride: if gathers { *stride } else { 0 },
            data,
            digest: None,
        });
        let mut bufs: Vec<RxBuf<'_>> = bufs.collect();
        self.turn(side, Input::Datagrams(RxBatch::new(&mut bufs)));
    }

    /// Does the next thing that happens. False when nothing will before `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        let arrival = self.wire.keys().next().map(|&(at, _)| at);
        let waking = self.sides.iter().filter_map(|side| side.deadline).min();
        let worked = self.jobs.keys().next().map(|&(at, _)| at);
        let next = arrival.into_iter().chain(waking).chain(worked).min();
        let Some(next) = next.filter(|&at| at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        if arrival.is_some_and(|at| at <= self.now) {
            self.arrive();
        } else if worked.is_some_and(|at| at <= self.now) {
            if let Some((_, (side, id, job))) = self.jobs.pop_first() {
                self.work(side, id, *job);
            }
        } else if let Some(side) = self
            .sides
            .iter()
            .position(|side| side.deadline.is_some_and(|at| at <= self.now))
        {
            let (at, wakes) = self.sides[side].wakes;
            let wakes = if at == self.now { wakes + 1 } else { 0 };
            assert!(
                wakes < MAX_IDLE_WAKES,
                "side {side} asks to be woken without end at {}",
                self.now
            );
            self.sides[side].wakes = (self.now, wakes);
            self.turn(side, Input::Wake);
        }
        true
    }

    fn arrive(&mut self) {
        let mut batches: Vec<Vec<(Addr, Vec<u8>)>> = vec![Vec::new(); self.sides.len()];
        while let Some(entry) = self.wire.first_entry() {
            let &(at, _) = entry.key();
            let (target, ..) = *entry.get();
            if at > self.now || batches[target].len() == self.batch {
                break;
            }
            let (_, from, bytes) = entry.remove();
            batches[target].push((from, bytes));
        }
        for (side, batch) in batches.into_iter().enumerate() {
            if !batch.is_empty() {
                self.receive(side, batch);
            }
        }
    }

    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
    }

    /// Runs until `done`, at most `span`.
    pub fn run_until(&mut self, span: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let until = self.now + span;
        while !done(self) {
            assert!(self.step(until), "within {span}: {what}");
        }
    }

    /// Connects side 0 to side 1; answers both sides' session keys.
    pub fn connect(&mut self) -> [SessionKey; 2] {
        let (peer, to) = (self.entity(1), self.sides[1].addr);
        self.command(0, Command::Connect { peer, addresses: &[to] });
        self.run_until(Duration::from_secs(60), "both sides are connected", |pair| {
            pair.session(0).is_some() && pair.session(1).is_some()
        });
        [0, 1].map(|side| self.session(side).expect("connected"))
    }

    /// Connects `from` to `to`; answers their keys for it.
    pub fn connect_between(&mut self, from: usize, to: usize) -> [SessionKey; 2] {
        let (peer, address) = (self.entity(to), self.sides[to].addr);
        let addresses = &[address];
        self.command(from, Command::Connect { peer, addresses });
        self.run_until(Duration::from_secs(60), "both are connected", |pair| {
            pair.session_with(from, to).is_some() && pair.session_with(to, from).is_some()
        });
        [(from, to), (to, from)].map(|(side, peer)| self.session_with(side, peer).expect("connected"))
    }

    pub fn session(&self, side: usize) -> Option<SessionKey> {
        self.sides[side].kernel.sessions().next().map(|(session, _)| session)
    }

    /// The session of `side` with `other`.
    pub fn session_with(&self, side: usize, other: usize) -> Option<SessionKey> {
        let peer = self.entity(other);
        let mut sessions = self.sides[side].kernel.sessions();
        sessions.find_map(|(session, with)| (with == peer).then_some(session))
    }

    pub fn open(&mut self, side: usize, session: SessionKey, options: StreamOptions) -> StreamId {
        let command = self.command(side, Command::Open { session, options });
        let events = &self.sides[side].desk.events;
        let opened = events.iter().rev().find_map(|event| {
            let Event::Opened {
                command: answered,
                stream,
                ..
            } = event
            else {
                return None;
            };
            (*answered == command).then_some(*stream)
        });
        opened.unwrap_or_else(|| panic!("not opened: {:?}", events.last()))
    }

    pub fn send(&mut self, side: usize, session: SessionKey, stream: StreamId, message: &[u8]) -> bool {
        let command = self.command(
            side,
            Command::Send {
                session,
                stream,
                messages: Messages::One(message),
            },
        );
        !self.sides[side]
            .desk
            .events
            .iter()
            .any(|event| matches!(event, Event::Refused { command: refused, .. } if *refused == command))
    }

    /// Messages of a stream, in the session that began last.
    pub fn received(&self, side: usize, stream: StreamId) -> &[(u64, Vec<u8>)] {
        let mut all = self.sides[side].desk.messages.iter().rev();
        all.find_map(|((_, id), messages)| (*id == stream).then_some(messages.as_slice()))
            .unwrap_or(&[])
    }

    /// How often each reason was counted since `before`.
    pub fn drops_since(&self, side: usize, before: &Drops) -> Vec<(DropReason, u64)> {
        let after = self.sides[side].kernel.drops();
        let counts = DropReason::ALL
            .iter()
            .map(|&reason| (reason, after.get(reason) - before.get(reason)));
        counts.filter(|&(_, count)| count > 0).collect()
    }

    /// Exchanges one message each way, on a stream of its own: the session works.
    pub fn assert_works(&mut self, a: SessionKey, b: SessionKey) {
        let stream = self.open(0, a, StreamOptions::default());
        assert!(self.send(0, a, stream, b"there"));
        self.run_until(Duration::from_secs(30), "a message arrives", |pair| {
            pair.received(1, stream) == [(0, b"there".to_vec())]
        });
        assert!(self.send(1, b, stream, b"back"));
        self.run_until(Duration::from_secs(30), "its answer arrives", |pair| {
            pair.received(0, stream) == [(0, b"back".to_vec())]
        });
        self.command(0, Command::Finish { session: a, stream });
        self.command(1, Command::Finish { session: b, stream });
        self.run_for(Duration::from_secs(2));
    }

    pub fn has_event(&self, side: usize, matches: impl Fn(&Event) -> bool) -> bool {
        self.sides[side].desk.events.iter().any(matches)
    }
}

/// The address of a side.
pub fn address(side: usize) -> Addr {
    ([127, 0, 0, 1], 1000 + side as u16).into()
}

/// A seed of all 64 bits of `seed`.
pub fn seed_of(seed: u64) -> Seed {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Seed::new(bytes)
}

/// Both clocks of a node: the wall clock started at a plausible date.
pub fn now(mono: Instant) -> Now {
    Now {
        mono,
        wall: UnixNanos(1_790_000_000_000_000_000 + mono.as_nanos()),
    }
}

/// A message of `len` bytes that no other has.
pub fn message(number: u64, len: usize) -> Vec<u8> {
    let mut stream = seed_of(number).fork("message");
    let mut bytes = vec![0; len];
    stream.fill(&mut bytes);
    bytes
}

/// A moment no test should reach.
pub fn end_of_time() -> Instant {
    Instant::from_nanos(3_600_000_000_000)
}
