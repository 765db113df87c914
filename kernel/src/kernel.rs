//! The kernel: owns every machine and runs one turn at a time.
//!
//! Invariants: one input per turn; when `turn` returns nothing is left to drain; deadlines are never late.
//! Not here: what machines say to each other (`wiring/`), what they decide (the layer crates).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use net_base::rng::Stream;
use net_base::trace::{Kind, Trace, digest};
use net_base::{Addr, Check, Instant, NoCheck, NodeId, Now, Seat, SeatId};
use net_mesh::relay::Relay;
use net_mesh::{Beacons, Mesh, MeshConfig, Peers};
use net_session::aead::Aead;
use net_session::handshake::{Handshakes, Packet, View};
use net_session::lane::many::Lanes;
use net_session::roster::Roster;
use net_trust::Trust;
use net_wire::beacon::BEACON_LEN;

use crate::api::{
    Boot, BootError, Command, Deadline, Done, Drops, Event, Input, Io, Job, JobDone, LinkChange, Segment, Why, Work,
};
use crate::wiring::control::Controls;
use crate::wiring::credit::Credits;
use crate::wiring::relay::Afar;
use crate::wiring::traced::Traced;

/// Handshake packets waiting for the transmitter; the oldest is dropped for one more, as the network might.
const MAX_OUTBOX: usize = 1_024;
/// Sending may raise notices, and notices may raise packets. Each round needs a decision of a machine, so a
/// handful is plenty; what is left waits for the next turn, which is asked for at once.
const MAX_ROUNDS: usize = 8;

pub(crate) const TRUST: SeatId = SeatId(1);
pub(crate) const PEERS: SeatId = SeatId(2);
pub(crate) const HANDSHAKES: SeatId = SeatId(3);
pub(crate) const MESH: SeatId = SeatId(4);
pub(crate) const BEACONS: SeatId = SeatId(5);

/// The whole protocol of one node. `A` is the cipher, `C` whether invariants are checked after every turn.
pub struct Kernel<A: Aead, C: Check = NoCheck> {
    pub(crate) lanes: Lanes<A, C>,
    pub(crate) handshakes: Seat<Handshakes>,
    pub(crate) peers: Seat<Peers>,
    pub(crate) trust: Seat<Trust>,
    pub(crate) mesh: Option<Seat<Mesh>>,
    /// There with the mesh.
    pub(crate) beacons: Option<Seat<Beacons>>,
    /// Beacons to be spoken at the end of the turn.
    pub(crate) spoken: Vec<[u8; BEACON_LEN]>,
    pub(crate) controls: Controls,
    pub(crate) roster: Roster,
    pub(crate) credits: Credits,
    pub(crate) sessions_rng: Stream,
    pub(crate) outbox: VecDeque<(Addr, Packet)>,
    /// What relays call this node.
    pub(crate) label: NodeId,
    pub(crate) relay: Relay,
    pub(crate) afar: Afar,
    pub(crate) events: Vec<Event>,
    pub(crate) drops: Drops,
    /// No timer is due before this.
    due: Instant,
    pub(crate) trace: Option<Box<Trace>>,
    /// The probes passed where machines are wired to each other.
    pub(crate) passed: C::Probes,
}

impl<A: Aead, C: Check> Kernel<A, C> {
    /// Builds a kernel. Its first turn, with any input, starts recovery.
    ///
    /// # Errors
    /// [`BootError`] where the configuration contradicts itself.
    pub fn boot(boot: Boot, now: Now) -> Result<Self, BootError> {
        boot.check()?;
        let Boot {
            seed,
            identity,
            epoch,
            networks,
            allow,
            mut config,
            mesh,
            lanes,
            trace,
        } = boot;
        config.aes &= A::HAS_AES;
        let trust = Trust::new(identity, epoch, networks, allow);
        let handshakes = Handshakes::new(&config, trust.table(), lanes, seed.fork_erasing("handshake secrets"));
        let beacons = mesh
            .is_some()
            .then(|| Seat::new(BEACONS, Beacons::new(trust.table()), &seed));
        let own = trust.table().identity().entity();
        let label = net_trust::node_id(&own);
        // A stranger may be admitted; nobody carries its packets unless told to.
        let relaying = !trust.table().admits_strangers();
        let mesh = mesh.map(|mesh| MeshConfig {
            relays: Some(mesh.relays.unwrap_or(relaying)),
            ..mesh
        });
        let limits = mesh
            .as_ref()
            .filter(|mesh| mesh.relays == Some(true))
            .map(|mesh| mesh.relay);
        let mesh = mesh.map(|mesh| Seat::new(MESH, Mesh::new(mesh, own, epoch), &seed));
        let mut kernel = Self {
            lanes: Lanes::new(&config, lanes),
            handshakes: Seat::new(HANDSHAKES, handshakes, &seed),
            peers: Seat::new(PEERS, Peers::new(config.max_sessions), &seed),
            trust: Seat::new(TRUST, trust, &seed),
            mesh,
            beacons,
            spoken: Vec::new(),
            controls: Controls::default(),
            roster: Roster::new(),
            credits: Credits::new(config.send_buffer),
            sessions_rng: seed.fork("sessions"),
            outbox: VecDeque::new(),
            label,
            relay: Relay::new(limits),
            afar: Afar::default(),
            events: Vec::new(),
            drops: Drops::default(),
            due: Instant::ZERO,
            trace: trace.then(Box::default),
            passed: C::Probes::default(),
        };
        kernel.trust.handle(now, net_trust::In::Boot, ());
        kernel.tell_mesh(now, net_mesh::mesh::In::Boot);
        Ok(kernel)
    }

    /// Takes one input and does everything that follows from it. Answers when to be woken.
    pub fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline> {
        match self.trace.take() {
            None => self.run(now, input, io),
            Some(mut trace) => {
                trace.turn(now);
                note_input(&mut trace, &input);
                let mut traced = Traced {
                    io,
                    trace: &mut trace,
                    held: None,
                };
                let deadline = self.run(now, input, &mut traced);
                let (at, why) =
                    deadline.map_or((u64::MAX, 0), |deadline| (deadline.at.as_nanos(), deadline.why as u64));
                trace.record(Kind::Deadline, at, why);
                self.trace = Some(trace);
                deadline
            }
        }
    }

    fn run(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline> {
        // What expired while the host slept expires before anything that arrived is looked at (law 3).
        if now.mono >= self.due {
            self.fire(now);
        }
        self.input(now, input, io);
        self.settle(now);
        for _ in 0..MAX_ROUNDS {
            self.transmit(now, io);
            if !self.take_notices(now) {
                break;
            }
            self.settle(now);
        }
        self.flush(io);
        if C::ON {
            self.check();
        }
        let deadline = self.deadline(now.mono);
        self.due = deadline.map_or(Instant::MAX, |deadline| deadline.at);
        deadline
    }

    fn input(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) {
        match input {
            Input::Datagrams(batch) => self.receive(now, batch, io),
            Input::Wake | Input::TxReady => {}
            Input::Command(id, command) => self.command(now, id, command),
            Input::Stored(ticket, result) => self.trust.stored(now, ticket, result, ()),
            Input::Worked(id, JobDone(Done::Handshake(done))) => {
                let view = View {
                    trust: self.trust.machine().table(),
                    roster: &self.roster,
                };
                self.handshakes
                    .handle(now, net_session::handshake::In::Worked(id, done), view);
            }
            Input::Worked(id, JobDone(Done::Mesh(done))) => {
                self.tell_mesh(now, net_mesh::mesh::In::Worked(id, done));
            }
            Input::Segment(segment) => self.on_segment(now, segment),
            Input::Link(LinkChange::Rebound) => self.lanes.iter_mut().for_each(net_session::lane::Lane::rebound),
            Input::Link(LinkChange::TooLarge(to)) => self.lanes.iter_mut().for_each(|lane| lane.too_large(to)),
            Input::Link(LinkChange::Unreachable(from)) => {
                let view = View {
                    trust: self.trust.machine().table(),
                    roster: &self.roster,
                };
                self.handshakes
                    .handle(now, net_session::handshake::In::Unreachable(from), view);
            }
        }
    }

    /// Runs every timer that is due.
    fn fire(&mut self, now: Now) {
        while self.trust.fire_due(now, ()) {}
        let view = View {
            trust: self.trust.machine().table(),
            roster: &self.roster,
        };
        while self.handshakes.fire_due(now, view) {}
        self.fire_mesh(now);
        self.fire_beacons(now);
        self.lanes.fire(now.mono);
    }

    /// Queues a handshake packet.
    pub(crate) fn post(&mut self, to: Addr, packet: Packet) {
        if self.outbox.len() == MAX_OUTBOX {
            self.outbox.pop_front();
        }
        self.outbox.push_back((to, packet));
    }

    /// Hands out storage operations, jobs, beacons and events, in this order.
    fn flush(&mut self, io: &mut dyn Io) {
        while let Some((ticket, op)) = self.trust.pop_store() {
            io.store(ticket, op);
        }
        while let Some((id, job)) = self.handshakes.pop_job() {
            io.work(id, Box::new(Job(Work::Handshake(job))));
        }
        while let Some((id, job)) = self.mesh.as_mut().and_then(Seat::pop_job) {
            io.work(id, Box::new(Job(Work::Mesh(job))));
        }
        for beacon in self.spoken.drain(..) {
            io.beacon(&beacon);
        }
        for event in self.events.drain(..) {
            io.event(event);
        }
    }

    fn deadline(&mut self, now: Instant) -> Option<Deadline> {
        let mut earliest: Option<Deadline> = None;
        let mut offer = |at: Option<Instant>, why: Why| {
            if let Some(at) = at
                && earliest.is_none_or(|known| at < known.at)
            {
                earliest = Some(Deadline { at, why });
            }
        };
        offer(self.handshakes.due(), Why::Handshake);
        offer(self.peers.due(), Why::Peers);
        offer(self.trust.due(), Why::Trust);
        offer(self.mesh.as_mut().and_then(Seat::due), Why::Mesh);
        offer(self.beacons.as_mut().and_then(Seat::due), Why::Beacons);
        offer(self.lanes.due(), Why::Session);
        // Nothing is left to drain, so a deadline that has passed already can only come from this turn.
        earliest.map(|deadline| Deadline {
            at: deadline.at.max(now),
            ..deadline
        })
    }

    /// Asserts every machine's invariants.
    pub fn check(&self) {
        self.lanes.check();
        self.handshakes.check();
        self.peers.check();
        self.trust.check();
        if let Some(mesh) = &self.mesh {
            mesh.check();
        }
        if let Some(beacons) = &self.beacons {
            beacons.check();
        }
        assert!(self.outbox.len() <= MAX_OUTBOX);
    }
}

/// Folds what the kernel is told; datagrams are folded one by one as they are read.
fn note_input(trace: &mut Trace, input: &Input<'_>) {
    match input {
        Input::Datagrams(_) | Input::Wake | Input::TxReady => {}
        // What is sent is large and frequent: its bytes are folded as they are, not as text.
        Input::Command(id, Command::Send { stream, messages, .. }) => {
            trace.record(Kind::Command, id.0, stream.0 ^ messages.digest());
        }
        Input::Command(id, command) => {
            trace.record(Kind::Command, id.0, digest(alloc::format!("{command:?}").as_bytes()));
        }
        Input::Stored(ticket, result) => {
            trace.record(
                Kind::Stored,
                ticket.to_u64(),
                digest(alloc::format!("{result:?}").as_bytes()),
            );
        }
        // What a job computed shows in what the kernel does with it; its secrets have no business here.
        Input::Worked(id, _) => trace.record(Kind::Worked, id.to_u64(), 0),
        Input::Segment(Segment::Heard { bytes, .. }) => trace.bytes(Kind::Heard, bytes),
        Input::Segment(segment) => trace.record(Kind::Segment, digest(alloc::format!("{segment:?}").as_bytes()), 0),
        Input::Link(change) => trace.record(Kind::Link, digest(alloc::format!("{change:?}").as_bytes()), 0),
    }
}
