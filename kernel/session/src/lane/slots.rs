//! The keys of one lane, by the id the receiver chose.
//!
//! Invariants: an id names at most one key; a key that is let go while packets written under it wait to be sealed is kept
//! until they are. Not here: what a key does (`slot.rs`).

use alloc::boxed::Box;
use alloc::vec::Vec;

use net_base::map::IdMap;
use net_base::{SessionId, mutant};
use net_wire::Header;

use crate::aead::Aead;

use super::slot::{Slot, Unsealed};

/// Keys by id. Boxed, because a key carries a replay window of a kibibyte and entries move.
pub(crate) struct Slots<A: Aead> {
    by_id: IdMap<SessionId, Box<Slot<A>>>,
    /// Keys taken so far.
    taken: u64,
    /// Packets are sealed later, together.
    holds: bool,
    /// Those that wait for it, in the order in which they were written.
    unsealed: Vec<Unsealed>,
    /// Let go while packets waited.
    retired: Vec<Box<Slot<A>>>,
}

impl<A: Aead> Slots<A> {
    pub(crate) fn new() -> Self {
        Self {
            by_id: IdMap::default(),
            taken: 0,
            holds: false,
            unsealed: Vec::new(),
            retired: Vec::new(),
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

    /// Whether packets are sealed later.
    #[inline]
    pub(crate) const fn holds(&self) -> bool {
        self.holds
    }

    /// Writes the header of a packet that is sealed later, under a key that is there. It is committed next.
    #[inline(never)]
    pub(crate) fn put_down(&mut self, id: SessionId, header: &Header, packet: &mut [u8]) {
        if let Some(slot) = self.by_id.get_mut(&id) {
            self.unsealed.push(slot.put_down(header, packet));
        }
    }

    pub(crate) fn insert(&mut self, mut slot: Slot<A>) {
        slot.serial = self.taken;
        self.taken += 1;
        self.by_id.insert(slot.info.local, Box::new(slot));
    }

    pub(crate) fn remove(&mut self, id: SessionId) {
        if let Some(slot) = self.by_id.swap_remove(&id)
            && !self.unsealed.is_empty()
            && !mutant!(SharedKeyLetGo)
        {
            self.retired.push(slot);
        }
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

    /// From now on packets are put down instead of sealed.
    pub(crate) fn hold(&mut self) {
        debug_assert!(self.unsealed.is_empty() && self.retired.is_empty());
        self.holds = true;
    }

    /// Packets that wait to be sealed.
    pub(crate) fn unsealed(&mut self) -> &mut Vec<Unsealed> {
        &mut self.unsealed
    }

    /// The key that a packet was written under.
    pub(crate) fn sealing(&self, packet: &Unsealed) -> &Slot<A> {
        let known = self.get(packet.local).filter(|slot| slot.serial == packet.serial);
        let retired = || self.retired.iter().find(|slot| slot.serial == packet.serial);
        known
            .or_else(|| retired().map(|slot| &**slot))
            .expect("a key is kept while packets wait for it")
    }

    /// What waited is sealed.
    pub(crate) fn release(&mut self) {
        self.holds = false;
        self.retired.clear();
    }
}
