//! The keys of one lane, by the id the receiver chose.
//!
//! Invariants: an id names at most one key. Not here: what a key does (`slot.rs`).

use alloc::boxed::Box;

use net_base::SessionId;
use net_base::map::IdMap;

use crate::aead::Aead;

use super::slot::Slot;

/// Keys by id. Boxed, because a key carries a replay window of a kibibyte and entries move.
pub(crate) struct Slots<A: Aead> {
    by_id: IdMap<SessionId, Box<Slot<A>>>,
}

impl<A: Aead> Slots<A> {
    pub(crate) fn new() -> Self {
        Self {
            by_id: IdMap::default(),
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: SessionId) -> Option<&Slot<A>> {
        self.by_id.get(&id).map(|slot| &**slot)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Slot<A>> {
        self.by_id.get_mut(&id).map(|slot| &mut **slot)
    }

    pub(crate) fn insert(&mut self, slot: Slot<A>) {
        self.by_id.insert(slot.info.local, Box::new(slot));
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Box<Slot<A>>> {
        self.by_id.swap_remove(&id)
    }

    pub(crate) fn contains(&self, id: SessionId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Whether any key opens `packet`.
    pub(crate) fn opens(&self, packet: &[u8]) -> bool {
        self.by_id.values().any(|slot| slot.opens(packet))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}
