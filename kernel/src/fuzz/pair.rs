//! Two kernels and what lies between them: datagrams under way, jobs and storage under way, one clock.
//!
//! Invariants: nothing happens unless it is asked for; a kernel that asks to be woken without end at one moment is at fault.
//! Not here: what is asked for (`mod.rs`), what must hold of it (`oracle.rs`).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use net_base::rng::{Secret, Seed, Stream};
use net_base::{
    Addr, Checked, CommandId, Duration, Epoch, Instant, JobId, Now, SessionKey, StreamId, Ticket, UnixNanos,
};
use net_session::aead::Aead;
use net_trust::{Identity, NetworkKey};

use super::oracle::Oracle;
use crate::Kernel;
use crate::api::{
    Boot, Command, Dest, Ecn, Event, Input, Io, Job, Part, RxBatch, RxBuf, SessionConfig, StoreError, StoreOp, Stored,
    Tx,
};

/// Wakes in a row at one moment that lead nowhere, after which a kernel is held to spin.
const MAX_IDLE_WAKES: u32 = 32;
/// Datagrams under way, and copies kept of those that were; older ones are forgotten.
const MAX_UNDER_WAY: usize = 256;
/// How long a datagram takes where nothing else is asked for.
const DELAY: Duration = Duration::from_millis(1);

/// A datagram under way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Who seems to have sent it.
    pub from: Addr,
    /// Whom it is for.
    pub to: Addr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What one kernel did.
#[derive(Default)]
pub struct Desk {
    sent: Vec<(Addr, Vec<u8>)>,
    slot: Vec<u8>,
    to: Option<Addr>,
    jobs: VecDeque<(JobId, Box<Job>)>,
    stores: VecDeque<(Ticket, StoreOp)>,
    events: Vec<Event>,
    parts: Vec<Delivered>,
    /// No room for datagrams.
    pub full: bool,
}

/// A part of a message as it was handed over.
pub struct Delivered {
    pub peer: net_base::EntityId,
    pub session: SessionKey,
    pub stream: StreamId,
    pub number: u64,
    pub offset: u64,
    pub end: bool,
    pub bytes: Vec<u8>,
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
        let to = self.to.take().expect("what is committed was reserved");
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
        self.parts.push(Delivered {
            peer: part.peer,
            session: part.session,
            stream: part.stream,
            number: part.number,
            offset: part.offset,
            end: part.end,
            bytes: part.bytes.to_vec(),
        });
    }
}

/// One of the two.
pub struct Side<A: Aead> {
    pub kernel: Kernel<A, Checked>,
    pub desk: Desk,
    pub addr: Addr,
    deadline: Option<Instant>,
    /// Streams it knows, in the order it heard of them.
    pub streams: Vec<(SessionKey, StreamId)>,
    /// What was delivered and not reported as drained: bytes, messages.
    undrained: BTreeMap<(SessionKey, StreamId), (u64, u64)>,
    pub drains: bool,
    pub commands: u64,
    pub life: u8,
    pub epoch: u64,
    /// Added to its wall clock, ns.
    pub wall: i64,
    entropy: Stream,
    /// What its disk keeps.
    pub cell: Option<Vec<u8>>,
    wakes: (Instant, u32),
}

/// Both, and the network.
pub struct Pair<A: Aead> {
    pub now: Instant,
    pub sides: [Side<A>; 2],
    pub wire: VecDeque<Flight>,
    /// Copies of what was sent lately.
    pub tape: VecDeque<Flight>,
    pub config: SessionConfig,
    lanes: u8,
    pub oracle: Oracle,
}

/// An address of each side, and of nobody.
pub fn address(number: u8) -> Addr {
    ([10, 0, 0, number & 3], 1_000 + u16::from(number >> 2)).into()
}

fn identity(side: u8) -> Identity {
    let mut stream = Seed::new([side + 1; 32]).fork("identity");
    Identity::generate(&mut |out| stream.fill(out))
}

fn boot<A: Aead>(side: u8, life: u8, epoch: u64, config: &SessionConfig, lanes: u8, now: Now) -> Kernel<A, Checked> {
    let boot = Boot {
        seed: Seed::new([side * 16 + life % 4; 32]),
        identity: identity(side),
        epoch: Epoch(epoch),
        networks: vec![NetworkKey::from_bytes(Secret([7; 32]))],
        allow: None,
        config: config.clone(),
        mesh: None,
        lanes,
        trace: true,
    };
    Kernel::boot(boot, now).expect("the configurations drawn are sound")
}

impl<A: Aead> Pair<A> {
    pub fn new(config: SessionConfig, lanes: u8, oracle: Oracle) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let sides = [0, 1].map(|side| Side {
            kernel: boot(side, 0, 1, &config, lanes, at(now, 0)),
            desk: Desk::default(),
            addr: address(side),
            deadline: Some(now),
            streams: Vec::new(),
            undrained: BTreeMap::new(),
            drains: true,
            commands: 0,
            life: 0,
            epoch: 1,
            wall: 0,
            entropy: Seed::new([side + 9; 32]).fork("entropy"),
            cell: None,
            wakes: (now, 0),
        });
        Self {
            now,
            sides,
            wire: VecDeque::new(),
            tape: VecDeque::new(),
            config,
            lanes,
            oracle,
        }
    }

    /// One turn, and what it did taken note of.
    pub fn turn(&mut self, side: usize, input: Input<'_>) {
        let this = &mut self.sides[side];
        let deadline = this.kernel.turn(at(self.now, this.wall), input, &mut this.desk);
        this.deadline = deadline.map(|deadline| deadline.at);
        for (to, bytes) in core::mem::take(&mut this.desk.sent) {
            self.oracle.sent(to, &bytes);
            let flight = Flight {
                from: this.addr,
                to,
                bytes,
            };
            keep(&mut self.tape, flight.clone());
            keep(&mut self.wire, flight);
        }
        let peer = self.sides[1 - side].kernel.entity();
        let this = &mut self.sides[side];
        for part in core::mem::take(&mut this.desk.parts) {
            assert!(part.peer == peer, "data of somebody who does not exist");
            let owed = this.undrained.entry((part.session, part.stream)).or_default();
            owed.0 += part.bytes.len() as u64;
            owed.1 += u64::from(part.end);
            self.oracle.delivered(side, this.life, &part);
        }
        for event in core::mem::take(&mut this.desk.events) {
            if let Event::Opened { session, stream, .. } | Event::StreamOpened { session, stream, .. } = event {
                this.streams.push((session, stream));
            }
            self.oracle.event(side, this.life, this.commands, peer, &event);
        }
    }

    /// A command, under a fresh id.
    pub fn command(&mut self, side: usize, command: Command<'_>) -> CommandId {
        self.sides[side].commands += 1;
        let id = CommandId(self.sides[side].commands);
        self.turn(side, Input::Command(id, command));
        id
    }

    /// Hands a datagram to whoever lives at its address.
    pub fn arrive(&mut self, mut flight: Flight, ecn: Ecn) {
        let Some(side) = self.sides.iter().position(|side| side.addr == flight.to) else {
            return;
        };
        self.oracle.received(flight.from, flight.bytes.len());
        let mut bufs = [RxBuf {
            from: flight.from,
            ecn,
            stride: 0,
            data: &mut flight.bytes,
            digest: None,
        }];
        self.turn(side, Input::Datagrams(RxBatch::new(&mut bufs)));
    }

    /// Wakes a side, whether it asked for it or not.
    pub fn wake(&mut self, side: usize) {
        let (moment, wakes) = self.sides[side].wakes;
        let due = self.sides[side].deadline.is_some_and(|at| at <= self.now);
        let wakes = if moment == self.now && due { wakes + 1 } else { 0 };
        assert!(wakes < MAX_IDLE_WAKES, "side {side} asks to be woken without end");
        self.sides[side].wakes = (self.now, wakes);
        self.turn(side, Input::Wake);
    }

    /// Ends a job that is under way.
    pub fn finish_job(&mut self, side: usize, which: usize) {
        let this = &mut self.sides[side];
        let which = which % this.desk.jobs.len().max(1);
        if let Some((id, job)) = this.desk.jobs.remove(which) {
            let done = job.run(&mut |out| this.entropy.fill(out));
            self.turn(side, Input::Worked(id, done));
        }
    }

    /// Ends a storage operation that is under way.
    pub fn finish_store(&mut self, side: usize, which: usize, error: Option<StoreError>) {
        let this = &mut self.sides[side];
        let which = which % this.desk.stores.len().max(1);
        let Some((ticket, op)) = this.desk.stores.remove(which) else {
            return;
        };
        let value;
        let stored = match (error, op) {
            (Some(error), _) => Stored::Failed(error),
            (None, StoreOp::Put { bytes, .. }) => {
                this.cell = Some(bytes);
                Stored::Done
            }
            (None, StoreOp::Get { .. }) => {
                value = this.cell.clone();
                Stored::Value(value.as_deref())
            }
        };
        self.turn(side, Input::Stored(ticket, stored));
    }

    /// The application has read everything.
    pub fn drain(&mut self, side: usize) {
        for ((session, stream), (bytes, messages)) in core::mem::take(&mut self.sides[side].undrained) {
            let consumed = Command::Consumed {
                session,
                stream,
                bytes,
                messages,
            };
            self.command(side, consumed);
        }
    }

    /// The process dies and another starts in its place.
    pub fn restart(&mut self, side: usize, epoch: u64) {
        let (config, lanes) = (self.config.clone(), self.lanes);
        let this = &mut self.sides[side];
        this.life = this.life.wrapping_add(1);
        this.epoch = epoch;
        this.kernel = boot(side as u8, this.life, epoch, &config, lanes, at(self.now, this.wall));
        this.desk = Desk::default();
        this.deadline = Some(self.now);
        this.streams.clear();
        this.undrained.clear();
    }

    /// Everything takes its ordinary course, for at most `steps` things that happen and `span` of time.
    pub fn settle(&mut self, steps: usize, span: Duration) {
        let until = self.now + span;
        for _ in 0..steps {
            for side in 0..2 {
                self.attend(side);
            }
            let due = |side: &Side<A>| side.deadline.is_some_and(|at| at <= self.now);
            if let Some(side) = self.sides.iter().position(due) {
                self.wake(side);
            } else if let Some(flight) = self.wire.pop_front() {
                self.now = self.now + DELAY;
                self.arrive(flight, Ecn::NotEct);
            } else {
                let next = self.sides.iter().filter_map(|side| side.deadline).min();
                let Some(next) = next.filter(|next| *next <= until) else {
                    self.now = self.now.max(until);
                    return;
                };
                self.now = self.now.max(next);
            }
        }
    }

    /// Ends what is under way inside a machine.
    fn attend(&mut self, side: usize) {
        while !self.sides[side].desk.jobs.is_empty() {
            self.finish_job(side, 0);
        }
        while !self.sides[side].desk.stores.is_empty() {
            self.finish_store(side, 0, None);
        }
        if self.sides[side].drains {
            self.drain(side);
        }
    }
}

fn keep(queue: &mut VecDeque<Flight>, flight: Flight) {
    if queue.len() == MAX_UNDER_WAY {
        queue.pop_front();
    }
    queue.push_back(flight);
}

/// Both clocks, the wall's off by `wall` ns.
fn at(mono: Instant, wall: i64) -> Now {
    let started = 1_790_000_000_000_000_000_u64;
    Now {
        mono,
        wall: UnixNanos(started.saturating_add_signed(wall).saturating_add(mono.as_nanos())),
    }
}
