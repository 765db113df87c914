//! The handshake machine: Noise IKpsk2 with MACs, cookies, bounded work and bounded pending keys.
//!
//! | file | role |
//! |---|---|
//! | `initiator.rs` | dials and the first messages they sent |
//! | `responder.rs` | first messages received, keys waiting for confirmation |
//! | `cookie.rs` | MACs, cookies, load |
//! | `noise.rs` | the four steps of Noise IKpsk2 |
//! | `resolver.rs` | the primitives of Noise |
//! | `vetted.rs` | identities checked lately |
//! | `job.rs` | heavy work as values |
//!
//! Invariants: nothing from message 1 takes effect until the initiator's first packet authenticates; a
//! message that fails changes nothing but a drop count; jobs, attempts, pending keys and sources are all
//! bounded; a finished job is checked against the current state before it changes anything.
//! Not here: confirming keys and everything after (the lane), whom to dial (`net-mesh`).

mod cookie;
mod initiator;
mod job;
mod noise;
mod resolver;
mod responder;
mod stolen;
#[cfg(test)]
mod tests;
mod vetted;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use net_base::rng::{ErasingRng, Secret};
use net_base::{Addr, AssociationId, Duration, EntityId, Fx, JobId, Machine, SessionId, mutant, reachable};
use net_trust::TrustTable;
use net_wire::handshake::INITIATION_LEN;
use net_wire::{Datagram, DropReason, HandshakeKind, peek};

use self::cookie::{COOKIE_ROTATION, MacKeys};
use self::initiator::Initiator;
use self::job::{Done, Finished, Work};
pub use self::job::{Job, JobDone};
use self::noise::Statics;
use self::responder::Responder;
use self::vetted::Vetted;
use crate::config::SessionConfig;
use crate::install::Install;
use crate::roster::{Roster, lane_of};

pub use net_base::AttemptId;

/// What the handshake machine can be told.
#[derive(Debug)]
pub enum In<'b> {
    /// Agree a key with `peer`: a first connection or a rekey. Ends with [`Out::Install`] or [`Out::Failed`].
    Dial {
        /// Names the dial.
        attempt: AttemptId,
        /// Whom to expect; not ourselves. Whether the key is usable (PROTOCOL 1) is found out by a job.
        peer: EntityId,
        /// Where to try, 1 to 16 addresses.
        addresses: Vec<Addr>,
        /// Our label of the association the key is for. Where this node has just answered the peer, the label in that
        /// answer is used instead: the installed key says which.
        association: AssociationId,
    },
    /// Try these addresses too, at once and in every round; at most 16 in all. Ignored where the dial ended.
    Also(AttemptId, Vec<Addr>),
    /// Forget a dial. Nothing is emitted for it any more.
    Cancel(AttemptId),
    /// A whole datagram that is a handshake packet: SESSION_ID 0, or one that [`Handshakes::awaits`].
    Packet {
        /// Where it came from.
        from: Addr,
        /// The datagram.
        bytes: &'b [u8],
    },
    /// A job ended.
    Worked(JobId, JobDone),
    /// The lane confirmed or dropped a key we installed as responder: its pending place is free.
    Settled {
        /// The id we chose.
        local: SessionId,
    },
    /// A host said that nobody listens there. A hint.
    Unreachable(Addr),
}

/// One handshake packet to send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    bytes: [u8; INITIATION_LEN],
    len: usize,
}

impl Packet {
    fn new(packet: &[u8]) -> Self {
        let mut bytes = [0; INITIATION_LEN];
        bytes[..packet.len()].copy_from_slice(packet);
        Self {
            bytes,
            len: packet.len(),
        }
    }

    /// The datagram.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packet({} bytes)", self.len)
    }
}

/// What the handshake machine decides.
#[derive(Debug)]
pub enum Out {
    /// Send a datagram.
    Transmit {
        /// Where.
        to: Addr,
        /// What.
        packet: Packet,
    },
    /// A key was agreed. As responder it has no effect until the initiator's first packet authenticates;
    /// whoever learns of that or gives up says [`In::Settled`].
    Install {
        /// The key.
        install: Install,
        /// The dial that ends with it; `None` as responder.
        attempt: Option<AttemptId>,
    },
    /// A key installed as responder was not confirmed in time, or made room for a newer one: drop it.
    /// Its pending place is free already.
    Withdraw {
        /// The id we chose.
        local: SessionId,
    },
    /// A dial ended without a key.
    Failed {
        /// Which.
        attempt: AttemptId,
        /// How many first messages were sent.
        sent: u32,
        /// Whether a host said that nobody listens at one of the addresses.
        unreachable: bool,
    },
    /// A dial ended because its peer's key is not a usable identity (PROTOCOL 1); nothing was sent.
    Unusable {
        /// Which.
        attempt: AttemptId,
    },
    /// A packet was refused and changed nothing.
    Dropped(DropReason, Addr),
}

/// What the handshake machine waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// A dial sends its next first message.
    Retry(AttemptId),
    /// A dial gives up.
    Expire(AttemptId),
    /// The oldest unconfirmed key is withdrawn.
    PendingExpire,
    /// The cookie secret is replaced.
    CookieRotate,
}

/// The published tables the handshake reads.
#[derive(Clone, Copy, Debug)]
pub struct View<'v> {
    /// Identity, network keys, epoch and floors.
    pub trust: &'v TrustTable,
    /// Live associations.
    pub roster: &'v Roster,
}

/// Jobs under way at once.
const MAX_JOBS: usize = 32;
/// First messages being read from which on strangers' are refused; the rest is kept for dials, answers and
/// peers whose address is that of a live association.
const MAX_STRANGER_JOBS: usize = 24;
/// First messages being read from which on a cookie is asked for.
const LOADED_JOBS: usize = 8;
/// How far a peer's epoch may lie ahead of our wall clock (PROTOCOL 1).
const MAX_CLOCK_LEAD: Duration = Duration::from_secs(24 * 60 * 60);

type HandshakeFx<'a> = Fx<'a, Handshakes>;

/// What one network key gives the handshake.
#[derive(Debug)]
struct Network {
    psk: Secret,
    mac_key: Secret,
    /// The keys of packets to us.
    own: MacKeys,
}

/// The handshake machine.
pub struct Handshakes {
    config: SessionConfig,
    lanes: u8,
    own: EntityId,
    statics: Statics,
    networks: Vec<Network>,
    secrets: ErasingRng,
    /// The last handshake counter used; the first is 1, so that a floor without a counter is below it.
    counter: u64,
    jobs: BTreeSet<JobId>,
    initiator: Initiator,
    responder: Responder,
    vetted: Vetted,
}

impl Handshakes {
    /// A machine for the identity and networks of `trust`, which do not change while it lives. `secrets` is
    /// the key-erasing generator all its secrets come from; `lanes` is a power of two, at most 16.
    #[must_use]
    pub fn new(config: &SessionConfig, trust: &TrustTable, lanes: u8, secrets: ErasingRng) -> Self {
        assert!(
            lanes.is_power_of_two() && lanes <= 16,
            "the number of lanes is a power of two, at most 16"
        );
        let (own, identity) = (trust.identity().entity(), trust.identity());
        let networks = trust.networks().iter().map(|network| {
            let mac_key = network.mac_key();
            Network {
                psk: network.psk(),
                own: MacKeys::new(&mac_key, &own),
                mac_key,
            }
        });
        Self {
            config: config.clone(),
            lanes,
            own,
            statics: Statics {
                secret: identity.noise_secret(),
                public: identity.noise_public(),
            },
            networks: networks.collect(),
            secrets,
            counter: 0,
            jobs: BTreeSet::new(),
            initiator: Initiator::default(),
            responder: Responder::default(),
            vetted: Vetted::default(),
        }
    }

    /// The most timers that may be armed: two for every dial, and one each for unconfirmed keys and for cookies.
    #[must_use]
    pub fn most_timers(&self) -> usize {
        self.initiator.dials() * 2 + 2
    }

    /// Whether a response or cookie reply for `session` is awaited: such packets come here, every other
    /// packet with a non-zero id goes to the lane.
    #[must_use]
    pub fn awaits(&self, session: SessionId) -> bool {
        self.initiator.awaits(session)
    }

    fn on_packet(
        &mut self,
        from: Addr,
        bytes: &[u8],
        view: View<'_>,
        fx: &mut HandshakeFx<'_>,
    ) -> Result<(), DropReason> {
        match peek(bytes)? {
            Datagram::Handshake {
                kind: HandshakeKind::Initiation,
                ..
            } => self.on_initiation(from, bytes, view, fx),
            Datagram::Handshake {
                kind: HandshakeKind::Response,
                ..
            } => self.on_response(from, bytes, fx),
            Datagram::Handshake {
                kind: HandshakeKind::CookieReply,
                ..
            } => self.on_cookie_reply(bytes, view, fx),
            Datagram::Protected { .. } | Datagram::Routed => Err(DropReason::UnexpectedHandshake),
        }
    }

    fn on_worked(&mut self, id: JobId, done: JobDone, view: View<'_>, fx: &mut HandshakeFx<'_>) {
        if !self.jobs.remove(&id) {
            return;
        }
        let Finished { fresh, done } = *done.0;
        if let Some(fresh) = &fresh {
            self.secrets.mix(fresh);
        }
        match done {
            Done::Start(about, started) => self.on_started(about, started.ok(), fx),
            Done::Read(about, read) => self.on_read(about, read, view, fx),
            Done::Respond(about, made) => self.on_answered(about, made, view, fx),
            Done::Finish(about, finished) => self.on_finished(about, finished, fx),
        }
    }

    /// Hands out what waits, as far as jobs may run.
    fn pump(&mut self, view: View<'_>, fx: &mut HandshakeFx<'_>) {
        while self.jobs.len() < MAX_JOBS {
            let Some(work) = self.next_work(view, fx) else { return };
            self.hand_out(work, fx);
        }
    }

    fn hand_out(&mut self, work: Work, fx: &mut HandshakeFx<'_>) {
        let id = fx.job(Job(work));
        self.jobs.insert(id);
    }

    /// An id for what `peer` sends us: random, unused here, with the peer's lane in its low bits.
    fn fresh_session(&self, peer: &EntityId, fx: &mut HandshakeFx<'_>) -> SessionId {
        let lane = u64::from(lane_of(peer, self.lanes));
        let mask = u64::from(self.lanes) - 1;
        loop {
            let id = SessionId(fx.rng().next_u64() & !mask | lane);
            if id.0 > mask && !self.initiator.awaits(id) && !self.responder.holds(id) {
                return id;
            }
        }
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handshakes({}, {} jobs)", self.own, self.jobs.len())
    }
}

impl Machine for Handshakes {
    const NAME: &'static str = "handshake";
    type In<'b> = In<'b>;
    type Out = Out;
    type Timer = Timer;
    type Job = Job;
    type View<'v> = View<'v>;

    fn handle(&mut self, input: In<'_>, view: View<'_>, fx: &mut Fx<'_, Self>) {
        match input {
            In::Dial {
                attempt,
                peer,
                addresses,
                association,
            } => {
                self.on_dial(attempt, peer, addresses, association, view, fx);
            }
            In::Also(attempt, addresses) => {
                if self.initiator.also(attempt, &addresses) {
                    fx.arm(Timer::Retry(attempt), fx.now());
                }
            }
            In::Cancel(attempt) => {
                self.on_cancel(attempt, fx);
            }
            In::Packet { from, bytes } => {
                if let Err(reason) = self.on_packet(from, bytes, view, fx) {
                    fx.emit(Out::Dropped(reason, from));
                }
            }
            In::Worked(id, done) => self.on_worked(id, done, view, fx),
            In::Settled { .. } if mutant!(PendingOutlivesConfirm) => {}
            In::Settled { local } => self.responder.settle(local),
            In::Unreachable(address) => self.initiator.on_unreachable(&address),
        }
        self.pump(view, fx);
    }

    fn fire(&mut self, timer: Timer, view: View<'_>, fx: &mut Fx<'_, Self>) {
        match timer {
            Timer::Retry(attempt) => self.on_retry(attempt, view),
            Timer::Expire(attempt) => self.on_expire(attempt, fx),
            Timer::PendingExpire => self.on_pending_expire(fx),
            Timer::CookieRotate => {
                if self.responder.rotate_cookies() {
                    reachable!(*fx, CookieRotated);
                    fx.arm(Timer::CookieRotate, fx.now() + COOKIE_ROTATION);
                }
            }
        }
        self.pump(view, fx);
    }

    fn check(&self) {
        assert!(self.jobs.len() <= MAX_JOBS);
        self.initiator.check();
        self.vetted.check();
        self.responder.check(self.config.max_pending);
    }
}
