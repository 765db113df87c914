//! The registry of subprotocol ids: what a stream's messages mean (header field SUBPROTOCOL_ID).
//!
//! Invariants: an assigned id never changes its meaning; ranges do not overlap; a test holds both.
//! Not here: the subprotocols.

use core::ops::RangeInclusive;

macro_rules! registry {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: u16 = $id;)+

        /// Every assigned id: number, name, purpose. In ascending order.
        pub const REGISTRY: &[(u16, &str, &str)] = &[$(($id, stringify!($name), concat!($($doc),+).trim_ascii()),)+];
    };
}

registry! {
    /// Plain events, no subprotocol.
    EVENTS = 0x0000;
    /// What neighbours tell each other about the mesh.
    MESH = 0x0300;
    /// Causal events.
    CAUSAL = 0x0400;
    /// State snapshots.
    SNAPSHOT = 0x0401;
    /// Daemon migration.
    MIGRATION = 0x0500;
    /// Subprotocol negotiation.
    NEGOTIATION = 0x0600;
    /// Continuity of a chain.
    CONTINUITY = 0x0700;
    /// Announcement of a fork.
    FORK = 0x0701;
    /// Proof of continuity.
    CONTINUITY_PROOF = 0x0702;
    /// A partition was noticed.
    PARTITION = 0x0800;
    /// Reconciliation after a partition.
    RECONCILIATION = 0x0801;
    /// Coordination of a replica group.
    REPLICA_GROUP = 0x0900;
    /// Channel membership: subscribe, unsubscribe, acknowledge.
    CHANNEL = 0x0A00;
    /// Credit of a stream. Kept so that the id is not used for anything else: credit travels in frames.
    CREDIT = 0x0B00;
    /// Signed capability announcements.
    CAPABILITY = 0x0C00;
    /// Asking an observer for one's own address behind a NAT.
    NAT_REFLEX = 0x0D00;
    /// Rendezvous of two nodes behind NATs.
    NAT_RENDEZVOUS = 0x0D01;
    /// File transfer.
    FILES = 0x0E00;
}

/// Ids of the protocol itself, assigned or not.
pub const CORE: RangeInclusive<u16> = 0x0001..=0x0FFF;
/// Ids for vendors and third parties.
pub const VENDOR: RangeInclusive<u16> = 0x1000..=0xEFFF;
/// Ids for experiments, with no promise of lasting.
pub const EXPERIMENTAL: RangeInclusive<u16> = 0xF000..=0xFFFF;

/// Who an id belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Plain events.
    Events,
    /// The protocol itself.
    Core,
    /// Vendors and third parties.
    Vendor,
    /// Nobody for long.
    Experimental,
}

/// Who `id` belongs to.
#[must_use]
pub const fn owner(id: u16) -> Owner {
    match id {
        EVENTS => Owner::Events,
        0x0001..=0x0FFF => Owner::Core,
        0x1000..=0xEFFF => Owner::Vendor,
        0xF000..=0xFFFF => Owner::Experimental,
    }
}

/// The name of an assigned id.
#[must_use]
pub fn name(id: u16) -> Option<&'static str> {
    REGISTRY
        .iter()
        .find(|(assigned, ..)| *assigned == id)
        .map(|(_, name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigned_ids_are_unique_ascending_and_of_the_core() {
        assert!(REGISTRY.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (id, name, _) in REGISTRY {
            let core = CORE.contains(id) && owner(*id) == Owner::Core;
            assert!(core || (*id == EVENTS && owner(*id) == Owner::Events), "{name}");
            assert_eq!(super::name(*id), Some(*name));
        }
    }

    #[test]
    fn names_are_unique() {
        for (at, (_, name, _)) in REGISTRY.iter().enumerate() {
            assert!(REGISTRY[..at].iter().all(|(_, other, _)| other != name), "{name}");
        }
    }

    #[test]
    fn every_id_has_one_owner_and_the_ranges_agree() {
        for id in 0..=u16::MAX {
            let expected = match owner(id) {
                Owner::Events => id == EVENTS,
                Owner::Core => CORE.contains(&id) && !VENDOR.contains(&id),
                Owner::Vendor => VENDOR.contains(&id) && !EXPERIMENTAL.contains(&id),
                Owner::Experimental => EXPERIMENTAL.contains(&id),
            };
            assert!(expected, "{id:#06x}");
        }
    }
}
