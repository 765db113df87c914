//! The machine contract: how a deterministic state machine is told things and what it may decide.
//!
//! A [`Machine`] owns its state and is told inputs and timers; it decides through [`Fx`], which is
//! write-only. A [`Seat`] holds a machine with its timers, outputs, jobs and durability gates.
//! Invariants: a machine never sees its seat's queues; an output gated on a ticket leaves only after the
//! store said `Done`. Not here: who is connected to whom (`net-kernel`, wiring).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt::Debug;

use crate::id::{JobId, SeatId, Ticket};
use crate::probe::{Hits, Note, Probe};
use crate::rng::{Seed, Stream};
use crate::store::{StoreOp, Stored};
use crate::time::{Instant, Now};
use crate::timer::{Load, Timers};

/// A deterministic state machine (ARCHITECTURE, "A machine").
pub trait Machine: Sized {
    /// Forks its random stream.
    const NAME: &'static str;
    /// Everything it can be told. May borrow the packet.
    type In<'b>;
    /// Everything it can decide. Names no sibling.
    type Out;
    /// Everything it can wait for. Re-arming replaces.
    type Timer: Copy + Ord + Debug;
    /// Heavy pure work it may hand out (law 9).
    type Job;
    /// The published tables it may read: its whole dependency list.
    type View<'v>: Copy;

    /// Takes one input.
    fn handle(&mut self, input: Self::In<'_>, view: Self::View<'_>, fx: &mut Fx<'_, Self>);
    /// Takes one timer that came due.
    fn fire(&mut self, timer: Self::Timer, view: Self::View<'_>, fx: &mut Fx<'_, Self>);
    /// Asserts its invariants; run after every turn of a kernel booted with verification.
    fn check(&self) {}
}

/// A machine that stores. Only these may use [`Fx::store`] and [`Fx::emit_after`].
pub trait Durable: Machine {
    /// Takes the end of a storage operation.
    fn stored(&mut self, ticket: Ticket, result: Stored<'_>, view: Self::View<'_>, fx: &mut Fx<'_, Self>);
}

/// What a machine may do while it handles one thing. Write-only but for the clock and its own stream.
pub struct Fx<'a, M: Machine> {
    now: Now,
    desk: &'a mut Desk<M>,
}

impl<M: Machine> Fx<'_, M> {
    /// Monotonic time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now.mono
    }

    /// Wall time of this turn; only for the validity of signatures and epochs.
    #[must_use]
    pub fn wall(&self) -> crate::time::UnixNanos {
        self.now.wall
    }

    /// Decides.
    pub fn emit(&mut self, out: M::Out) {
        self.desk.out.push_back(out);
    }

    /// Waits for `at`; replaces what `timer` was armed for.
    pub fn arm(&mut self, timer: M::Timer, at: Instant) {
        self.desk.timers.arm(timer, at);
    }

    /// Waits no longer.
    pub fn disarm(&mut self, timer: M::Timer) {
        self.desk.timers.disarm(timer);
    }

    /// Hands out heavy work; its result comes back as an input that carries the id.
    pub fn job(&mut self, job: M::Job) -> JobId {
        let id = JobId::new(self.desk.id, self.desk.next());
        self.desk.jobs.push_back((id, job));
        id
    }

    /// The machine's own random stream.
    pub fn rng(&mut self) -> &mut Stream {
        &mut self.desk.rng
    }
}

impl<M: Machine> Note for Fx<'_, M> {
    const ON: bool = true;

    #[inline]
    fn note(&mut self, probe: Probe) {
        self.desk.hits.note(probe);
    }
}

impl<M: Durable> Fx<'_, M> {
    /// Starts a storage operation.
    pub fn store(&mut self, op: StoreOp) -> Ticket {
        let ticket = Ticket::new(self.desk.id, self.desk.next());
        self.desk.stores.push_back((ticket, op));
        ticket
    }

    /// Decides once `ticket` is durable; never, if it fails (law 8).
    pub fn emit_after(&mut self, ticket: Ticket, out: M::Out) {
        self.desk.gates.entry(ticket).or_default().push(out);
    }
}

/// A machine's queues, apart from the machine so that both can be borrowed at once.
struct Desk<M: Machine> {
    id: SeatId,
    number: u64,
    timers: Timers<M::Timer>,
    out: VecDeque<M::Out>,
    jobs: VecDeque<(JobId, M::Job)>,
    stores: VecDeque<(Ticket, StoreOp)>,
    gates: BTreeMap<Ticket, Vec<M::Out>>,
    rng: Stream,
    hits: Hits,
}

impl<M: Machine> Desk<M> {
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// A machine with its timers, outputs and gates.
pub struct Seat<M: Machine> {
    machine: M,
    desk: Desk<M>,
}

impl<M: Machine> Seat<M> {
    /// Seats `machine` under `id`, forking its random stream from `seed`.
    pub fn new(id: SeatId, machine: M, seed: &Seed) -> Self {
        let desk = Desk {
            id,
            number: 0,
            timers: Timers::default(),
            out: VecDeque::new(),
            jobs: VecDeque::new(),
            stores: VecDeque::new(),
            gates: BTreeMap::new(),
            rng: seed.fork(M::NAME),
            hits: Hits::default(),
        };
        Self { machine, desk }
    }

    /// The machine's published state, to be read by views.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Tells the machine something.
    pub fn handle(&mut self, now: Now, input: M::In<'_>, view: M::View<'_>) {
        self.machine.handle(
            input,
            view,
            &mut Fx {
                now,
                desk: &mut self.desk,
            },
        );
    }

    /// Fires the next timer that is due, if any.
    pub fn fire_due(&mut self, now: Now, view: M::View<'_>) -> bool {
        let Some(timer) = self.desk.timers.pop_due(now.mono) else {
            return false;
        };
        self.machine.fire(
            timer,
            view,
            &mut Fx {
                now,
                desk: &mut self.desk,
            },
        );
        true
    }

    /// When the machine must be woken.
    pub fn due(&mut self) -> Option<Instant> {
        self.desk.timers.due()
    }

    /// How much its timers hold.
    #[must_use]
    pub fn timers(&self) -> Load {
        self.desk.timers.load()
    }

    /// The probes that the machine passed. Kept whatever is checked: a machine of the control plane passes few.
    #[must_use]
    pub const fn hits(&self) -> Hits {
        self.desk.hits
    }

    /// Takes the oldest decision.
    pub fn pop_out(&mut self) -> Option<M::Out> {
        self.desk.out.pop_front()
    }

    /// Takes the oldest job.
    pub fn pop_job(&mut self) -> Option<(JobId, M::Job)> {
        self.desk.jobs.pop_front()
    }

    /// Asserts the machine's invariants.
    pub fn check(&self) {
        self.machine.check();
    }
}

impl<M: Durable> Seat<M> {
    /// Takes the oldest storage operation.
    pub fn pop_store(&mut self) -> Option<(Ticket, StoreOp)> {
        self.desk.stores.pop_front()
    }

    /// Tells the machine that an operation ended and opens the gates that waited for it.
    pub fn stored(&mut self, now: Now, ticket: Ticket, result: Stored<'_>, view: M::View<'_>) {
        let gated = self.desk.gates.remove(&ticket).unwrap_or_default();
        if matches!(result, Stored::Done) {
            self.desk.out.extend(gated);
        }
        self.machine.stored(
            ticket,
            result,
            view,
            &mut Fx {
                now,
                desk: &mut self.desk,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Cell, StoreError};

    struct Voter;

    #[derive(Debug, PartialEq, Eq)]
    struct Vote(u8);

    impl Machine for Voter {
        const NAME: &'static str = "voter";
        type In<'b> = u8;
        type Out = Vote;
        type Timer = u8;
        type Job = ();
        type View<'v> = ();

        fn handle(&mut self, input: u8, (): (), fx: &mut Fx<'_, Self>) {
            let ticket = fx.store(StoreOp::Put {
                cell: Cell::PeerEpochs,
                bytes: alloc::vec![input],
            });
            fx.emit_after(ticket, Vote(input));
            fx.arm(input, fx.now() + crate::time::Duration::from_secs(1));
        }

        fn fire(&mut self, timer: u8, (): (), fx: &mut Fx<'_, Self>) {
            fx.emit(Vote(timer + 100));
        }
    }

    impl Durable for Voter {
        fn stored(&mut self, _: Ticket, _: Stored<'_>, (): (), _: &mut Fx<'_, Self>) {}
    }

    fn seat() -> Seat<Voter> {
        Seat::new(SeatId(3), Voter, &Seed::new([0; 32]))
    }

    #[test]
    fn a_gated_output_waits_for_the_disk() {
        let mut seat = seat();
        seat.handle(Now::default(), 1, ());
        assert_eq!(seat.pop_out(), None, "not durable yet");
        let (ticket, _) = seat.pop_store().expect("one store");
        assert_eq!(ticket.seat(), SeatId(3));
        seat.stored(Now::default(), ticket, Stored::Done, ());
        assert_eq!(seat.pop_out(), Some(Vote(1)));
    }

    #[test]
    fn a_failed_store_drops_what_was_gated_on_it() {
        let mut seat = seat();
        seat.handle(Now::default(), 1, ());
        let (ticket, _) = seat.pop_store().expect("one store");
        seat.stored(Now::default(), ticket, Stored::Failed(StoreError::Full), ());
        assert_eq!(seat.pop_out(), None);
        seat.stored(Now::default(), ticket, Stored::Done, ());
        assert_eq!(seat.pop_out(), None, "a second completion opens nothing");
    }

    #[test]
    fn timers_fire_when_due() {
        let mut seat = seat();
        seat.handle(Now::default(), 1, ());
        assert!(!seat.fire_due(Now::default(), ()));
        let later = Now {
            mono: Instant::from_nanos(1_000_000_000),
            ..Now::default()
        };
        assert!(seat.fire_due(later, ()));
        assert_eq!(seat.pop_out(), Some(Vote(101)));
        assert_eq!(seat.due(), None);
    }
}
