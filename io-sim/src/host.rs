//! What lives in a simulated machine: anything that speaks the kernel's contract.
//!
//! The world drives a [`Host`] exactly as `io-real` drives a kernel: one input per turn, everything else through `Io`.
//! Toy machines in tests and users' own nodes implement it as the kernel does ([`crate::kernel::KernelHost`]).
//! Invariants: a host is a function of its boot, its inputs and their times.
//! Not here: the world around it (`world/`).

use crate::check::Panel;
use net_kernel::api::{
    Deadline, Drops, Holdings, Input, Io, MeshConfig, Relayed, SessionConfig, SessionStats, TimerLoad,
};
use net_kernel::base::probe::Hits;
use net_kernel::base::trace::Record;
use net_kernel::base::{Addr, EntityId, Epoch, Now};
use net_kernel::session::SessionKey;

/// What a process is started with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The machine's number.
    pub node: u32,
    /// From which its identity follows; the same at every start of one machine.
    pub identity: [u8; 32],
    /// From which its random streams are forked; new at every start.
    pub seed: [u8; 32],
    /// Its boot epoch, already on its disk.
    pub epoch: Epoch,
    /// The network key; `None` is the open network.
    pub network: Option<[u8; 32]>,
    /// Whom it admits; `None` admits all.
    pub allow: Option<Vec<EntityId>>,
    /// Limits and times.
    pub config: SessionConfig,
    /// Whether it is part of a mesh.
    pub mesh: Option<MeshConfig>,
    /// How many lanes its kernel has.
    pub lanes: u8,
    /// Where every machine of the scenario is now, in its order, this one among them.
    pub peers: Vec<Addr>,
}

/// A process in the simulated world.
pub trait Host: Sized {
    /// The identity that follows from these bytes.
    fn entity(identity: &[u8; 32]) -> EntityId;

    /// Starts a process.
    ///
    /// # Errors
    /// Why it cannot start; the world counts it and leaves the machine down.
    fn boot(start: Start, now: Now) -> Result<Self, String>;

    /// One input.
    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline>;

    /// A digest of everything it was told and did.
    fn digest(&self) -> [u8; 32];

    /// Turns taken since boot.
    fn turns(&self) -> u64;

    /// A snapshot of one session.
    fn stats(&self, _session: SessionKey) -> Option<SessionStats> {
        None
    }

    /// Keeps the first `limit` records of its trace from now on, where it has one.
    fn keep_trace(&mut self, _limit: usize) {}

    /// The records it kept.
    fn records(&self) -> &[Record] {
        &[]
    }

    /// Counts of what it refused.
    fn drops(&self) -> Drops {
        Drops::default()
    }

    /// What it sent on for others since boot.
    fn relayed(&self) -> Relayed {
        Relayed::default()
    }

    /// The probes it passed since boot, where it keeps any.
    fn probes(&self) -> Hits {
        Hits::default()
    }

    /// What it says of itself since it was asked last, for checkers: what, and figures that belong to it.
    fn take_notes(&mut self) -> Vec<(&'static str, Vec<u64>)> {
        Vec::new()
    }

    /// The checkers that hold in every world of this host.
    #[must_use]
    fn panel() -> Panel {
        Panel::standard(Self::clear())
    }

    /// How much its sessions hold.
    fn holdings(&self) -> Option<Holdings> {
        None
    }

    /// How much the timers of each of its machines hold.
    fn timers(&self) -> Vec<TimerLoad> {
        Vec::new()
    }

    /// The public ephemeral keys that a thief of its memory can make of the handshake generator's state, who tries each of
    /// `lent` for the bytes that the operating system lent. Changes nothing.
    fn loot(&self, _lent: &[[u8; 32]]) -> Vec<[u8; 32]> {
        Vec::new()
    }

    /// Whether any key in its memory opens `packet`, as a thief of that memory would find out. Changes nothing.
    fn opens(&self, _packet: &[u8]) -> bool {
        false
    }

    /// Whether packets are sealed with [`crate::aead::Clear`], so that the world can read keys and counters.
    fn clear() -> bool {
        false
    }
}
