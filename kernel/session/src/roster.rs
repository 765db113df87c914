//! The published table of live associations, and which lane a peer belongs to.
//!
//! Invariants: one live association per peer. Not here: who writes it (the lane's owner), what an
//! association holds (`association.rs`).

use alloc::collections::BTreeMap;

use net_base::{Addr, AssociationId, EntityId};

/// One live association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Live {
    /// Our label of it.
    pub local: AssociationId,
    /// The peer's label of it.
    pub remote: AssociationId,
    /// Where the peer is reached now.
    pub address: Addr,
}

/// The live associations by peer. Written by whoever owns the sessions, read by the handshake, which
/// answers a peer with the label of what already exists and works for known addresses first.
#[derive(Debug, Default)]
pub struct Roster {
    by_peer: BTreeMap<EntityId, Live>,
    /// How many peers are reached at an address.
    by_address: BTreeMap<Addr, u32>,
}

impl Roster {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            by_peer: BTreeMap::new(),
            by_address: BTreeMap::new(),
        }
    }

    /// Enters or replaces the association with `peer`: when it starts, moves or starts afresh.
    pub fn set(&mut self, peer: EntityId, live: Live) {
        self.remove(&peer);
        *self.by_address.entry(live.address).or_default() += 1;
        self.by_peer.insert(peer, live);
    }

    /// Strikes the association with `peer`, if any.
    pub fn remove(&mut self, peer: &EntityId) {
        let Some(live) = self.by_peer.remove(peer) else { return };
        if let Some(count) = self.by_address.get_mut(&live.address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&live.address);
            }
        }
    }

    /// The live association with `peer`.
    #[must_use]
    pub fn get(&self, peer: &EntityId) -> Option<&Live> {
        self.by_peer.get(peer)
    }

    /// Whether some peer is reached at `address`.
    #[must_use]
    pub fn knows(&self, address: &Addr) -> bool {
        self.by_address.contains_key(address)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_peer.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }
}

/// The lane that holds the sessions with `peer`, among `lanes` (a power of two, at most 16). Session ids
/// we choose for the peer carry it in their low bits.
#[must_use]
pub fn lane_of(peer: &EntityId, lanes: u8) -> u8 {
    debug_assert!(lanes.is_power_of_two() && lanes <= 16);
    blake3::derive_key("net lane v1", &peer.0)[0] & (lanes - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(n: u64, port: u16) -> Live {
        Live {
            local: AssociationId(n),
            remote: AssociationId(n + 1),
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    #[test]
    fn an_address_is_known_while_a_peer_is_reached_there() {
        let (a, b) = (EntityId([1; 32]), EntityId([2; 32]));
        let mut roster = Roster::new();
        roster.set(a, live(1, 7));
        roster.set(b, live(3, 7));
        roster.set(a, live(1, 8));
        assert!(roster.knows(&live(0, 7).address) && roster.knows(&live(0, 8).address));
        roster.remove(&b);
        assert!(!roster.knows(&live(0, 7).address), "nobody is left there");
        assert_eq!((roster.len(), roster.get(&a)), (1, Some(&live(1, 8))));
    }

    #[test]
    fn peers_spread_over_the_lanes() {
        let mut seen = [0u32; 16];
        for n in 0..=255 {
            seen[usize::from(lane_of(&EntityId([n; 32]), 16))] += 1;
            assert_eq!(lane_of(&EntityId([n; 32]), 1), 0);
        }
        assert!(seen.iter().all(|&count| count > 2), "{seen:?}");
    }
}
