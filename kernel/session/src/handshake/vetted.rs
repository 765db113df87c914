//! Identities that passed every check of PROTOCOL 1, with their X25519 keys.
//!
//! The check costs as much as a DH and its outcome never changes, so peers seen lately skip it.
//! Invariants: holds only what was checked in full; bounded, the oldest entry makes room.
//! Not here: the check itself (`net-trust`).

use alloc::collections::{BTreeMap, VecDeque};

use net_base::EntityId;

/// Identities remembered.
const MAX_VETTED: usize = 4_096;

/// The identities checked lately.
#[derive(Debug, Default)]
pub(super) struct Vetted {
    keys: BTreeMap<EntityId, [u8; 32]>,
    oldest_first: VecDeque<EntityId>,
}

impl Vetted {
    /// The X25519 key of an identity checked before.
    pub(super) fn get(&self, entity: &EntityId) -> Option<[u8; 32]> {
        self.keys.get(entity).copied()
    }

    /// Remembers an identity and its X25519 key.
    pub(super) fn insert(&mut self, entity: EntityId, key: [u8; 32]) {
        if self.keys.insert(entity, key).is_some() {
            return;
        }
        self.oldest_first.push_back(entity);
        if self.oldest_first.len() > MAX_VETTED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    pub(super) fn check(&self) {
        assert!(self.keys.len() <= MAX_VETTED);
        assert_eq!(self.keys.len(), self.oldest_first.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let entity = |n: u16| {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&n.to_le_bytes());
            EntityId(id)
        };
        let mut vetted = Vetted::default();
        for n in 0..=MAX_VETTED as u16 {
            vetted.insert(entity(n), [1; 32]);
            vetted.insert(entity(n), [1; 32]);
        }
        vetted.check();
        assert_eq!(vetted.get(&entity(0)), None);
        assert_eq!(vetted.get(&entity(1)), Some([1; 32]));
    }
}
