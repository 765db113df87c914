//! What nodes said last that are forgotten otherwise, so that nobody revives one by saying its old words again.
//!
//! Invariants: at most [`MAX_REMEMBERED`] nodes are remembered, and the one that was forgotten first makes room; what is
//! remembered of a node never becomes older. Not here: routes and how long they live (`routes.rs`).

use alloc::collections::BTreeMap;

use net_base::{EntityId, mutant};
use net_wire::mesh::Version;

/// Nodes whose last version is remembered after everything else about them is forgotten: some 150 bytes each. Whoever wants one of
/// them out of here must let as many others be believed and lost, at most [`MAX_TARGETS_BY_ONE`](crate::routes::MAX_TARGETS_BY_ONE)
/// in [`DISTANCE_MEMORY`](crate::routes::DISTANCE_MEMORY).
pub(crate) const MAX_REMEMBERED: usize = 16_384;

/// The last versions of nodes that are gone.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    versions: BTreeMap<EntityId, (Version, u64)>,
    /// In the order in which they were forgotten.
    order: BTreeMap<u64, EntityId>,
    next: u64,
}

impl Memory {
    /// A node is forgotten: `version` was its newest.
    pub(crate) fn keep(&mut self, node: EntityId, version: Version) {
        let version = self.take(&node).map_or(version, |known| known.max(version));
        if self.versions.len() == MAX_REMEMBERED
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.versions.remove(&oldest);
        }
        self.versions.insert(node, (version, self.next));
        self.order.insert(self.next, node);
        self.next += 1;
    }

    /// Whether a node said these words, or newer ones, before it was forgotten.
    pub(crate) fn is_old(&self, node: &EntityId, version: Version) -> bool {
        let known = self.versions.get(node);
        !mutant!(DeadRevived) && known.is_some_and(|(newest, _)| version <= *newest)
    }

    /// A node is back. Answers its last version, which is remembered no more.
    pub(crate) fn take(&mut self, node: &EntityId) -> Option<Version> {
        let (version, at) = self.versions.remove(node)?;
        self.order.remove(&at);
        Some(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_base::Epoch;

    fn version(seqno: u64) -> Version {
        Version { epoch: Epoch(7), seqno }
    }

    fn node(number: usize) -> EntityId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64).to_le_bytes());
        EntityId(id)
    }

    #[test]
    fn old_words_are_known_and_newer_ones_are_not() {
        let mut memory = Memory::default();
        memory.keep(node(1), version(5));
        memory.keep(node(1), version(3));
        assert!(memory.is_old(&node(1), version(5)));
        assert!(!memory.is_old(&node(1), version(6)));
        assert!(!memory.is_old(&node(2), version(1)));
        assert_eq!(memory.take(&node(1)), Some(version(5)));
        assert!(!memory.is_old(&node(1), version(1)));
    }

    #[test]
    fn the_one_that_was_forgotten_first_makes_room() {
        let mut memory = Memory::default();
        for number in 0..MAX_REMEMBERED {
            memory.keep(node(number), version(1));
        }
        memory.keep(node(0), version(2));
        memory.keep(node(MAX_REMEMBERED), version(1));
        assert!(memory.is_old(&node(0), version(2)), "it was forgotten anew");
        assert!(!memory.is_old(&node(1), version(1)));
        assert_eq!(
            (memory.versions.len(), memory.order.len()),
            (MAX_REMEMBERED, MAX_REMEMBERED)
        );
    }
}
