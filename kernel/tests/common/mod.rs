//! Two kernels and the wire between them, in memory and in order of time.
//!
//! Invariants: everything is a function of the seed. Not here: the simulated world (`net-io-sim`), which has
//! real link models and checkers; this is the smallest thing in which a kernel can be told inputs by hand.
#![allow(dead_code, clippy::expect_used, reason = "each suite uses its part")]

use std::collections::{BTreeMap, VecDeque};

use net_kernel::Kernel;
use net_kernel::api::{
    Boot, Command, Dest, Ecn, Event, Input, Io, Job, JobDone, Messages, Part, RxBatch, RxBuf, SessionConfig, StoreOp,
    Stored, StreamOptions, Tx,
};
use net_kernel::base::rng::{Secret, Seed, Stream};
use net_kernel::base::{
    Addr, Checked, CommandId, Duration, EntityId, Epoch, Instant, JobId, Now, SessionKey, StreamId, Ticket, UnixNanos,
};
use net_kernel::session::aead::Reference;
use net_kernel::trust::{Identity, NetworkKey};

pub type Node = Kernel<Reference, Checked>;

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
    pub messages: BTreeMap<StreamId, Vec<(u64, Vec<u8>)>>,
    partial: BTreeMap<(StreamId, u64), Vec<u8>>,
    /// Payload bytes and messages delivered and not yet reported as drained.
    pub undrained: BTreeMap<(SessionKey, StreamId), (u64, u64)>,
    pub full: bool,
}

impl Tx for Desk {
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        if self.full {
            return None;
        }
        self.to = Some(to.to);
        self.slot.clear();
        self.slot.resize(len, 0);
        Some(&mut self.slot)
    }

    fn commit(&mut self, len: usize) {
        let to = self.to.take().expect("a slot was reserved");
        self.sent.push((to, self.slot[..len].to_vec()));
    }
}

impl Io for Desk {
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
        let whole = self.partial.entry((part.stream, part.number)).or_default();
        assert_eq!(whole.len() as u64, part.offset, "parts of a message come in order");
        whole.extend_from_slice(part.bytes);
        let drained = self.undrained.entry((part.session, part.stream)).or_default();
        drained.0 += part.bytes.len() as u64;
        if part.end {
            drained.1 += 1;
            let whole = self.partial.remove(&(part.stream, part.number)).expect("just written");
            self.messages.entry(part.stream).or_default().push((part.number, whole));
        }
    }
}

/// One side.
pub struct Side {
    pub kernel: Node,
    pub desk: Desk,
    pub addr: Addr,
    pub deadline: Option<Instant>,
    pub drains: bool,
    entropy: Stream,
    commands: u64,
}

/// Two sides, a clock, and datagrams under way.
pub struct Pair {
    pub now: Instant,
    pub sides: [Side; 2],
    /// (arrival, running number) so that ties keep their order.
    wire: BTreeMap<(Instant, u64), (usize, Addr, Vec<u8>)>,
    number: u64,
    pub rng: Stream,
    pub delay: Duration,
    /// Loss in thousandths.
    pub loss: u64,
    /// Largest additional delay, for reordering.
    pub jitter: Duration,
    pub datagrams: u64,
    /// Datagrams handed to a kernel in one turn.
    pub batch: usize,
    /// Every datagram sent, when recording.
    pub tape: Option<Vec<(usize, Vec<u8>)>>,
}

pub fn identity(seed: u64) -> Identity {
    let mut stream = Seed::new([seed as u8; 32]).fork("identity");
    Identity::generate(&mut |out| stream.fill(out))
}

pub fn boot(seed: u64, epoch: u64, config: &SessionConfig, lanes: u8) -> Boot {
    Boot {
        seed: Seed::new([seed as u8; 32]),
        identity: identity(seed),
        epoch: Epoch(epoch),
        networks: vec![NetworkKey::from_bytes(Secret([7; 32]))],
        allow: None,
        config: config.clone(),
        lanes,
        trace: true,
    }
}

impl Pair {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, &SessionConfig::default(), 1)
    }

    pub fn with(seed: u64, config: &SessionConfig, lanes: u8) -> Self {
        let side = |n: u64| Side {
            kernel: Node::boot(boot(seed * 2 + n + 1, 1, config, lanes), now(Instant::ZERO))
                .expect("a sound configuration"),
            desk: Desk::default(),
            addr: ([127, 0, 0, 1], 1000 + n as u16).into(),
            deadline: Some(Instant::ZERO),
            drains: true,
            entropy: Seed::new([seed as u8; 32]).fork(if n == 0 { "entropy a" } else { "entropy b" }),
            commands: 0,
        };
        Self {
            now: Instant::from_nanos(1_000_000_000),
            sides: [side(0), side(1)],
            wire: BTreeMap::new(),
            number: 0,
            rng: Seed::new([seed as u8; 32]).fork("wire"),
            delay: Duration::from_millis(10),
            loss: 0,
            jitter: Duration::ZERO,
            datagrams: 0,
            batch: 64,
            tape: None,
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

    /// Tells a kernel one thing and carries out what it decides.
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
            let entropy = &mut self.sides[side].entropy;
            let done: JobDone = job.run(&mut |out| entropy.fill(out));
            self.turn(side, Input::Worked(id, done));
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

    fn transmit(&mut self, side: usize, to: Addr, bytes: Vec<u8>) {
        self.datagrams += 1;
        if let Some(tape) = &mut self.tape {
            tape.push((side, bytes.clone()));
        }
        if self.rng.below(1000) < self.loss {
            return;
        }
        let Some(target) = self.sides.iter().position(|other| other.addr == to) else {
            return;
        };
        let jitter = Duration::from_nanos(self.rng.below(self.jitter.as_nanos() + 1));
        self.number += 1;
        let from = self.sides[side].addr;
        self.wire
            .insert((self.now + self.delay + jitter, self.number), (target, from, bytes));
    }

    /// Hands datagrams to a kernel in one turn.
    pub fn receive(&mut self, side: usize, mut datagrams: Vec<(Addr, Vec<u8>)>) {
        let mut bufs: Vec<RxBuf<'_>> = datagrams
            .iter_mut()
            .map(|(from, data)| RxBuf {
                from: *from,
                ecn: Ecn::NotEct,
                stride: 0,
                data,
                digest: None,
            })
            .collect();
        self.turn(side, Input::Datagrams(RxBatch::new(&mut bufs)));
    }

    /// Does the next thing that happens. False when nothing will before `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        let arrival = self.wire.keys().next().map(|&(at, _)| at);
        let waking = self.sides.iter().filter_map(|side| side.deadline).min();
        let next = arrival.into_iter().chain(waking).min();
        let Some(next) = next.filter(|&at| at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        if arrival.is_some_and(|at| at <= self.now) {
            self.arrive();
        } else if let Some(side) = self
            .sides
            .iter()
            .position(|side| side.deadline.is_some_and(|at| at <= self.now))
        {
            self.turn(side, Input::Wake);
        }
        true
    }

    fn arrive(&mut self) {
        let mut batches: [Vec<(Addr, Vec<u8>)>; 2] = Default::default();
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
        self.run_until(Duration::from_secs(20), "both sides are connected", |pair| {
            pair.session(0).is_some() && pair.session(1).is_some()
        });
        [0, 1].map(|side| self.session(side).expect("connected"))
    }

    pub fn session(&self, side: usize) -> Option<SessionKey> {
        self.sides[side].kernel.sessions().next().map(|(session, _)| session)
    }

    pub fn open(&mut self, side: usize, session: SessionKey, options: StreamOptions) -> StreamId {
        let command = self.command(side, Command::Open { session, options });
        let events = &self.sides[side].desk.events;
        let opened = events.iter().rev().find_map(|event| match event {
            Event::Opened {
                command: answered,
                stream,
                ..
            } if *answered == command => Some(*stream),
            _ => None,
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

    pub fn received(&self, side: usize, stream: StreamId) -> &[(u64, Vec<u8>)] {
        self.sides[side].desk.messages.get(&stream).map_or(&[], Vec::as_slice)
    }

    pub fn has_event(&self, side: usize, matches: impl Fn(&Event) -> bool) -> bool {
        self.sides[side].desk.events.iter().any(matches)
    }
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
    let mut stream = Seed::new([number as u8; 32]).fork("message");
    let mut bytes = vec![0; len];
    stream.fill(&mut bytes);
    bytes
}
