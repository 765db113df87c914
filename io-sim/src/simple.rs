//! One's own state machine in the world, without the kernel's vocabulary: datagrams, timers and one durable cell.
//!
//! Write a [`Machine`]; [`Simple`] makes a [`Host`] of it. The links, disks, clocks and crashes of the scenario act on it as
//! they act on a kernel: datagrams are lost, doubled, damaged and overtaken, a process dies between any two calls and starts
//! again from what its disk kept, and its clock drifts. Scenarios for it have no `[[workload]]`, since those speak of sessions
//! and streams: a machine makes its own work, from [`Machine::start`] on, for the whole duration of the scenario.
//! Invariants: a machine is a function of what it is told; all it does goes through its [`Outbox`].
//! Not here: the world (`world/`), running seeds (`suite.rs`).

use std::collections::{BTreeMap, VecDeque};

use net_kernel::api::{Deadline, Dest, Input, Io, StoreOp, Stored, Why};
use net_kernel::base::rng::{Seed, Stream};
use net_kernel::base::store::Cell;
use net_kernel::base::{Addr, Duration, EntityId, Instant, Now, SeatId, Ticket};

use crate::check::Panel;
use crate::host::{Host, Start};

/// Names one of a machine's timers; a timer that is set again replaces itself.
pub type Timer = u32;

/// A state machine.
pub trait Machine: Sized {
    /// A process starts, at first or after a crash. `saved` is what its disk kept: what was last passed to
    /// [`Outbox::save`] and confirmed, or something later that was under way when the process died.
    fn start(me: &Member, saved: Option<&[u8]>, out: &mut Outbox) -> Self;

    /// A datagram arrived, perhaps damaged, doubled or late, perhaps from somebody else than it says.
    fn on_datagram(&mut self, from: Addr, bytes: &[u8], out: &mut Outbox);

    /// A timer that was set is due.
    fn on_timer(&mut self, timer: Timer, out: &mut Outbox);

    /// What was saved is on disk, or (`false`) is not because the disk failed. In the order of the saves.
    fn on_saved(&mut self, _done: bool, _out: &mut Outbox) {}
}

/// Who a machine is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its number: its place in the scenario's `nodes`.
    pub number: usize,
    /// Where every machine is, itself included, in the order of the scenario.
    pub addresses: Vec<Addr>,
}

impl Member {
    /// The number of the machine at an address.
    #[must_use]
    pub fn number_of(&self, address: Addr) -> Option<usize> {
        self.addresses.iter().position(|known| *known == address)
    }

    /// Everybody else's numbers and addresses.
    pub fn others(&self) -> impl Iterator<Item = (usize, Addr)> + '_ {
        let all = self.addresses.iter().copied().enumerate();
        all.filter(|(number, _)| *number != self.number)
    }
}

/// What a machine may do, and the only time and chance it knows.
pub struct Outbox {
    now: Now,
    random: Stream,
    sends: VecDeque<(Addr, Vec<u8>)>,
    saves: Vec<Vec<u8>>,
    timers: BTreeMap<Timer, Instant>,
    notes: Vec<(&'static str, Vec<u64>)>,
}

impl Outbox {
    /// Time since some moment of the machine's past, on its own clock, which may run fast, slow, or stand still.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now.mono.since(Instant::ZERO)
    }

    /// The machine's wall clock, ns since 1970; the scenario may set it forwards and backwards.
    #[must_use]
    pub const fn wall_ns(&self) -> u64 {
        self.now.wall.0
    }

    /// A random number, a function of the scenario's seed.
    pub fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// Sends a datagram of at most 65,000 bytes; longer ones are cut.
    pub fn send(&mut self, to: Addr, mut bytes: Vec<u8>) {
        bytes.truncate(65_000);
        self.sends.push_back((to, bytes));
    }

    /// Calls [`Machine::on_timer`] `after` from now on the machine's clock.
    pub fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.timers.insert(timer, self.now.mono + after);
    }

    /// A timer that was set is no longer.
    pub fn cancel_timer(&mut self, timer: Timer) {
        self.timers.remove(&timer);
    }

    /// Replaces what the disk keeps, at most 4 MiB; [`Machine::on_saved`] tells when it is there. What must not be forgotten
    /// is not said to anybody before.
    pub fn save(&mut self, bytes: Vec<u8>) {
        self.saves.push(bytes);
    }

    /// Tells checkers something ([`crate::check::Checker::noted`]); the machine and the world cannot see it.
    pub fn note(&mut self, what: &'static str, values: impl Into<Vec<u64>>) {
        self.notes.push((what, values.into()));
    }
}

/// A [`Machine`] as a [`Host`].
pub struct Simple<M> {
    me: Member,
    /// `None` until the disk was read.
    machine: Option<M>,
    out: Outbox,
    /// Saves that wait for the one under way, so that the disk never has them in another order.
    saves: VecDeque<Vec<u8>>,
    saving: Option<Ticket>,
    reading: Option<Ticket>,
    tickets: u64,
    digest: blake3::Hasher,
    turns: u64,
}

const SEAT: SeatId = SeatId(1);
/// The disk is asked again after so long where it failed to answer.
const READ_AGAIN: Duration = Duration::from_millis(100);
/// The timer on which it is; no machine's, because they do not run yet.
const READ: Timer = 0;

impl<M: Machine> Simple<M> {
    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket::new(SEAT, self.tickets)
    }

    fn read(&mut self, io: &mut dyn Io) {
        let ticket = self.ticket();
        self.reading = Some(ticket);
        io.store(ticket, StoreOp::Get { cell: Cell::PeerEpochs });
    }

    fn stored(&mut self, ticket: Ticket, stored: Stored<'_>) {
        if self.reading == Some(ticket) {
            self.reading = None;
            match stored {
                Stored::Value(saved) => self.machine = Some(M::start(&self.me, saved, &mut self.out)),
                Stored::Done | Stored::Failed(_) => self.out.set_timer(READ, READ_AGAIN),
            }
        } else if self.saving == Some(ticket) {
            self.saving = None;
            if let Some(machine) = &mut self.machine {
                machine.on_saved(stored == Stored::Done, &mut self.out);
            }
        }
    }

    fn input(&mut self, input: Input<'_>) {
        match input {
            Input::Datagrams(mut batch) => {
                while let Some(spot) = batch.advance() {
                    let datagram = batch.at(spot);
                    self.digest.update(datagram.bytes);
                    if let Some(machine) = &mut self.machine {
                        machine.on_datagram(datagram.from, datagram.bytes, &mut self.out);
                    }
                }
            }
            Input::Stored(ticket, stored) => self.stored(ticket, stored),
            Input::Wake
            | Input::Command(..)
            | Input::Worked(..)
            | Input::Link(_)
            | Input::Segment(_)
            | Input::TxReady => {}
        }
    }

    /// Runs the timers that are due.
    fn fire(&mut self, io: &mut dyn Io) {
        let now = self.out.now.mono;
        let due: Vec<Timer> = self
            .out
            .timers
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(timer, _)| *timer)
            .collect();
        for timer in due {
            // One that ran before may have set or cancelled it.
            if self.out.timers.get(&timer).is_none_or(|at| *at > now) {
                continue;
            }
            self.out.timers.remove(&timer);
            match &mut self.machine {
                Some(machine) => machine.on_timer(timer, &mut self.out),
                None => self.read(io),
            }
        }
    }

    /// Carries out what the machine asked for.
    fn carry_out(&mut self, io: &mut dyn Io) {
        self.saves.extend(self.out.saves.drain(..));
        if self.saving.is_none()
            && let Some(bytes) = self.saves.pop_front()
        {
            self.digest.update(&bytes);
            let ticket = self.ticket();
            self.saving = Some(ticket);
            let cell = Cell::PeerEpochs;
            io.store(ticket, StoreOp::Put { cell, bytes });
        }
        while let Some((to, bytes)) = self.out.sends.front() {
            // A transmitter without room says when it has some: the world gives a turn then.
            let Some(slot) = io.reserve(Dest { to: *to, ecn: false }, bytes.len()) else {
                return;
            };
            slot.copy_from_slice(bytes);
            io.commit(bytes.len());
            self.digest.update(bytes);
            self.out.sends.pop_front();
        }
    }
}

impl<M: Machine> Host for Simple<M> {
    fn entity(identity: &[u8; 32]) -> EntityId {
        EntityId(*identity)
    }

    fn boot(start: Start, now: Now) -> Result<Self, String> {
        let me = Member {
            number: start.node as usize,
            addresses: start.peers,
        };
        let out = Outbox {
            now,
            random: Seed::new(start.seed).fork("machine"),
            sends: VecDeque::new(),
            saves: Vec::new(),
            timers: BTreeMap::new(),
            notes: Vec::new(),
        };
        Ok(Self {
            me,
            machine: None,
            out,
            saves: VecDeque::new(),
            saving: None,
            reading: None,
            tickets: 0,
            digest: blake3::Hasher::new(),
            turns: 0,
        })
    }

    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline> {
        self.turns += 1;
        self.out.now = now;
        self.digest.update(&now.mono.as_nanos().to_le_bytes());
        if self.turns == 1 {
            self.read(io);
        }
        self.fire(io);
        self.input(input);
        self.carry_out(io);
        let next = self.out.timers.values().min();
        next.map(|at| Deadline {
            at: *at,
            why: Why::Session,
        })
    }

    fn digest(&self) -> [u8; 32] {
        *self.digest.finalize().as_bytes()
    }

    fn turns(&self) -> u64 {
        self.turns
    }

    fn take_notes(&mut self) -> Vec<(&'static str, Vec<u64>)> {
        core::mem::take(&mut self.out.notes)
    }

    fn panel() -> Panel {
        Panel::bare()
    }
}
