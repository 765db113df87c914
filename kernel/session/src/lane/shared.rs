//! The cipher's work on many packets at once, cut into pieces for a crew (docs/decisions/0014).
//!
//! Opened ahead: before a batch is read, the packets that would be opened anyway are, in place. Whether one is accepted
//! is still decided when it is read, as if it were opened then. Sealed behind: packets are written and numbered one by
//! one as ever, and sealed together before any leaves.
//! Invariants: pieces read keys and write bytes, nothing else; a packet whose key refuses it at a glance is not touched;
//! no key is let go while a packet waits to be sealed under it. Not here: who runs the pieces (`crew.rs`).

use alloc::vec::Vec;
use core::array;
use core::mem;

use net_base::trace::digest;
use net_base::{Instant, SessionId, mutant};
use net_wire::{Datagram as Class, peek};

use crate::aead::Aead;
use crate::config::SessionConfig;
use crate::crew::{Crew, MAX_PIECES, Piece};
use crate::rx::{RxBatch, RxBuf};

use super::slot::{Ahead, Unsealed};
use super::slots::Slots;

/// The keys of every lane: an id's low bits name the place.
pub(crate) type Keys<'k, A> = [&'k Slots<A>; MAX_PIECES];

const _: () = assert!(MAX_PIECES == 16, "there are 16 lanes at most");

fn keys_of<'k, A: Aead>(keys: &Keys<'k, A>, id: SessionId) -> &'k Slots<A> {
    keys[id.0 as usize % MAX_PIECES]
}

/// What opening ahead goes by.
pub(crate) struct Opener<'k, A: Aead> {
    pub(crate) keys: Keys<'k, A>,
    pub(crate) config: &'k SessionConfig,
    pub(crate) now: Instant,
    /// Datagrams are noted by the digest of what arrived, so it is made before they are changed.
    pub(crate) traces: bool,
}

impl<A: Aead> Clone for Opener<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Aead> Copy for Opener<'_, A> {}

/// Opens what it can of a batch nobody has read from, where that is worth it: `found` gets an entry for every datagram, or stays
/// empty.
pub(crate) fn open_ahead<A: Aead>(
    opener: Opener<'_, A>,
    batch: &mut RxBatch<'_>,
    found: &mut Vec<Option<Ahead>>,
    crew: &mut dyn Crew,
) {
    let mut bufs = batch.unread();
    let mut bytes: usize = bufs.iter().map(|buf| buf.data.len()).sum();
    let count = crew.pieces(bytes).min(MAX_PIECES);
    if count < 2 {
        return;
    }
    found.resize(bufs.iter().map(RxBuf::datagrams).sum(), None);
    let mut entries = &mut found[..];
    let mut shares: [(&mut [RxBuf<'_>], &mut [Option<Ahead>]); MAX_PIECES] = array::from_fn(|at| {
        let left = count.saturating_sub(at);
        let goal = bytes.div_ceil(left.max(1));
        let (mut taken, mut some, mut datagrams) = (0, 0, 0);
        while left > 0 && taken < bufs.len() && some < goal {
            some += bufs[taken].data.len();
            datagrams += bufs[taken].datagrams();
            taken += 1;
        }
        bytes -= some;
        let (mine, rest) = mem::take(&mut bufs).split_at_mut(taken);
        bufs = rest;
        let (my_entries, rest) = mem::take(&mut entries).split_at_mut(datagrams);
        entries = rest;
        (mine, my_entries)
    });
    let mut works = shares
        .each_mut()
        .map(|(bufs, entries)| move || opener.open(bufs, entries));
    crew.run(&mut works.each_mut().map(|work| work as Piece<'_>)[..count]);
}

impl<A: Aead> Opener<'_, A> {
    fn open(self, bufs: &mut [RxBuf<'_>], entries: &mut [Option<Ahead>]) {
        let mut entries = entries.iter_mut();
        for buf in bufs {
            let stride = if buf.stride == 0 { buf.data.len() } else { buf.stride };
            if self.traces && buf.digest.is_none() {
                if buf.data.len() > stride {
                    // There is no place for the digests of several.
                    entries.by_ref().take(buf.datagrams()).for_each(|_| {});
                    continue;
                }
                buf.digest = Some(digest(buf.data));
            }
            // A stride of zero comes with no bytes, and then there are no chunks.
            for (datagram, entry) in buf.data.chunks_mut(stride.max(1)).zip(entries.by_ref()) {
                // What looks like a handshake is left alone: whether it is one is known only when it is read.
                if let Ok(Class::Protected { session }) = peek(datagram)
                    && let Some(slot) = keys_of(&self.keys, session).get(session)
                {
                    *entry = slot.open_ahead(self.now, self.config, datagram);
                }
            }
        }
    }
}

/// Seals packets that lie end to end in `bytes`, in the order in which they were written.
pub(crate) fn seal<A: Aead>(keys: &Keys<'_, A>, packets: &[Unsealed], bytes: &mut [u8], crew: &mut dyn Crew) {
    let mut left = bytes.len();
    assert_eq!(
        left,
        packets.iter().map(|packet| packet.len).sum::<usize>(),
        "what is lent is what was written"
    );
    let count = crew.pieces(left).min(MAX_PIECES);
    if count < 2 {
        return seal_each(keys, packets, bytes);
    }
    let (mut packets, mut bytes) = (packets, bytes);
    let mut shares: [(&[Unsealed], &mut [u8]); MAX_PIECES] = array::from_fn(|at| {
        let goal = left.div_ceil(count.saturating_sub(at).max(1));
        let (mut taken, mut some) = (0, 0);
        while at < count && taken < packets.len() && some < goal {
            some += packets[taken].len;
            taken += 1;
        }
        left -= some;
        let (mine, rest) = packets.split_at(taken);
        packets = rest;
        let (my_bytes, rest) = mem::take(&mut bytes).split_at_mut(some);
        bytes = rest;
        (mine, my_bytes)
    });
    let mut works = shares
        .each_mut()
        .map(|(packets, bytes)| move || seal_each(keys, packets, bytes));
    crew.run(&mut works.each_mut().map(|work| work as Piece<'_>)[..count]);
}

fn seal_each<A: Aead>(keys: &Keys<'_, A>, packets: &[Unsealed], mut bytes: &mut [u8]) {
    for (at, packet) in packets.iter().enumerate() {
        let (mine, rest) = mem::take(&mut bytes).split_at_mut(packet.len);
        bytes = rest;
        if mutant!(SharedPieceEndsEarly) && at > 0 && at + 1 == packets.len() {
            return;
        }
        let slot = keys_of(keys, packet.local).sealing(packet);
        slot.finish_seal(packet.counter, mine);
    }
}
