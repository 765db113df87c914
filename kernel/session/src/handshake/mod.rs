//! The handshake machine: Noise IKpsk2 with MACs, cookies, bounded work and bounded pending keys.
//!
//! | file | role |
//! |---|---|
//! | `job.rs` | heavy work as values |
//!
//! Invariants: nothing from message 1 takes effect until the initiator's first packet authenticates; a
//! message that fails changes nothing but a drop count; jobs, attempts, pending keys and sources are all
//! bounded; a finished job is checked against the current state before it changes anything.
//! Not here: confirming keys and everything after (the lane), whom to dial (`net-mesh`).

pub mod job;

use alloc::vec::Vec;

use net_base::rng::ErasingRng;
use net_base::{Addr, AssociationId, EntityId, Fx, JobId, Machine, SessionId};
use net_trust::TrustTable;
use net_wire::DropReason;
use net_wire::handshake::INITIATION_LEN;

use crate::config::SessionConfig;
use crate::install::Install;
use crate::roster::Roster;
pub use job::{Job, JobDone};

/// Names a dial until it ends; chosen by the caller, unique among those under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AttemptId(pub u64);

/// What the handshake machine can be told.
#[derive(Debug)]
pub enum In<'b> {
    /// Agree a key with `peer`: a first connection or a rekey. Ends with [`Out::Install`] or [`Out::Failed`].
    Dial {
        /// Names the dial.
        attempt: AttemptId,
        /// Whom to expect; a usable identity (PROTOCOL 1) that is not our own.
        peer: EntityId,
        /// Where to try, 1 to 16 addresses.
        addresses: Vec<Addr>,
        /// Our label of the association the key is for.
        association: AssociationId,
    },
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
    /// The datagram.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl core::fmt::Debug for Packet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
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

/// The handshake machine.
#[derive(Debug)]
pub struct Handshakes {
    config: SessionConfig,
    lanes: u8,
    secrets: ErasingRng,
}

impl Handshakes {
    /// A machine for the identity and networks of `trust`, which do not change while it lives. `secrets` is
    /// the key-erasing generator all its secrets come from; `lanes` is a power of two, at most 16.
    #[must_use]
    pub fn new(config: &SessionConfig, trust: &TrustTable, lanes: u8, secrets: ErasingRng) -> Self {
        let _ = trust;
        Self {
            config: config.clone(),
            lanes,
            secrets,
        }
    }

    /// Whether a response or cookie reply for `session` is awaited: such packets come here, every other
    /// packet with a non-zero id goes to the lane.
    #[must_use]
    pub fn awaits(&self, session: SessionId) -> bool {
        let _ = session;
        false
    }
}

impl Machine for Handshakes {
    const NAME: &'static str = "handshake";
    type In<'b> = In<'b>;
    type Out = Out;
    type Timer = Timer;
    type Job = Job;
    type View<'v> = View<'v>;

    fn handle(&mut self, _: In<'_>, _: View<'_>, _: &mut Fx<'_, Self>) {}

    fn fire(&mut self, _: Timer, _: View<'_>, _: &mut Fx<'_, Self>) {}
}
