//! Datagrams under way, in buffers that are used again.
//!
//! Invariants: a slot is freed exactly once; a freed buffer keeps its allocation.
//! Not here: where datagrams go (`net.rs`).

use net_kernel::api::Ecn;
use net_kernel::base::Addr;

use crate::check::ADVERSARY;
use crate::history::NONE;

/// A datagram under way.
#[derive(Debug)]
pub struct Slot {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The source it claims.
    pub from: Addr,
    /// Where it goes.
    pub to: Addr,
    /// Where its sender aimed it; `to` where somebody sends it on.
    pub aimed: Addr,
    /// The machine that sent it, or [`ADVERSARY`]; copies share it.
    pub origin: u32,
    /// Names the transmission; copies share it.
    pub packet: u64,
    /// The trace digest its sender computed; `None` once the bytes were touched.
    pub digest: Option<u64>,
    /// Whether another copy of the same bytes exists or existed.
    pub copied: bool,
    /// Whether it was made or changed by an adversary or by damage.
    pub forged: bool,
    /// The entry of the history that tells of it last.
    pub entry: u64,
    /// Its congestion mark.
    pub ecn: Ecn,
}

/// All datagrams under way.
#[derive(Debug, Default)]
pub struct Pool {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Pool {
    /// A slot with `len` bytes of unspecified content.
    pub fn take(&mut self, from: Addr, to: Addr, len: usize) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                bytes: Vec::with_capacity(1_536),
                from,
                to,
                aimed: to,
                origin: ADVERSARY,
                packet: 0,
                digest: None,
                copied: false,
                forged: false,
                entry: NONE,
                ecn: Ecn::NotEct,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.bytes.resize(len, 0);
        slot.from = from;
        slot.to = to;
        slot.aimed = to;
        slot.origin = ADVERSARY;
        slot.packet = 0;
        slot.digest = None;
        slot.copied = false;
        slot.forged = false;
        slot.entry = NONE;
        slot.ecn = Ecn::NotEct;
        index
    }

    /// A second slot with the same content.
    pub fn copy(&mut self, index: u32) -> u32 {
        let original = self.get(index);
        let digest = original.digest;
        let (from, to, packet, forged) = (original.from, original.to, original.packet, original.forged);
        let entry = original.entry;
        let ecn = original.ecn;
        let (aimed, origin) = (original.aimed, original.origin);
        let copy = self.take(from, to, 0);
        let bytes = std::mem::take(&mut self.get_mut(index).bytes);
        let slot = self.get_mut(copy);
        slot.bytes.extend_from_slice(&bytes);
        slot.packet = packet;
        (slot.aimed, slot.origin) = (aimed, origin);
        slot.copied = true;
        slot.forged = forged;
        slot.ecn = ecn;
        slot.digest = digest;
        slot.entry = entry;
        let original = self.get_mut(index);
        original.bytes = bytes;
        original.copied = true;
        copy
    }

    /// Gives a slot back.
    pub fn free(&mut self, index: u32) {
        self.free.push(index);
    }

    /// A slot.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }

    /// A slot.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }
}
