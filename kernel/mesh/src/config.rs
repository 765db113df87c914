//! What the mesh is booted with.
//!
//! Invariants: a mesh runs with sound values only; boot refuses others. Not here: what follows from them (`mesh.rs`).

use net_base::Duration;
use net_wire::mesh::MAX_HOPS;

use crate::relay::RelayLimits;

/// What the mesh is booted with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshConfig {
    /// Between two pingwaves of ours: 1 s to 60 s.
    pub pingwave: Duration,
    /// Between two heartbeats to a silent neighbour: 10 ms to 60 s.
    pub heartbeat: Duration,
    /// Hops over which we are heard of: 1 to 16.
    pub radius: u8,
    /// Whether we forward packets of others. `None` leaves it to who is admitted: members of a closed network, or those on
    /// a list, are relayed for; where any stranger is admitted nobody is.
    pub relays: Option<bool>,
    /// How many of them.
    pub relay: RelayLimits,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            pingwave: Duration::from_secs(5),
            heartbeat: Duration::from_millis(500),
            radius: MAX_HOPS,
            relays: None,
            relay: RelayLimits::default(),
        }
    }
}

impl MeshConfig {
    /// Whether every value is within its limits.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let second = Duration::from_secs(1);
        (second..=second * 60).contains(&self.pingwave)
            && (Duration::from_millis(10)..=second * 60).contains(&self.heartbeat)
            && (1..=MAX_HOPS).contains(&self.radius)
            && self.relay.is_sound()
    }

    /// How long a route outlives the statement it rests on: three pingwaves may be lost.
    #[must_use]
    pub fn hold(&self) -> Duration {
        self.pingwave * 7 / 2
    }
}
