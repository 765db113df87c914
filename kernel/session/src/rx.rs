//! Received datagrams as the driver lends them for one turn.
//!
//! A buffer may hold several datagrams of one sender laid end to end (GRO): all but the last are
//! `stride` bytes long. Packets are opened in place, hence the mutable borrow.
//! Invariants: a batch is read front to back, once. Not here: what the datagrams mean.

use net_base::{Addr, NodeId, routed};
use net_wire::{ROUTING_LEN, TRAILER_LEN};

/// The ECN codepoint of a datagram (RFC 3168).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ecn {
    /// Not ECN-capable, or unknown.
    #[default]
    NotEct,
    /// ECN-capable, codepoint 10.
    Ect0,
    /// ECN-capable, codepoint 01.
    Ect1,
    /// Congestion experienced.
    Ce,
}

/// One receive buffer.
#[derive(Debug)]
pub struct RxBuf<'b> {
    /// The sender.
    pub from: Addr,
    /// The codepoint they arrived with.
    pub ecn: Ecn,
    /// Length of each datagram but the last; 0 is taken as "one datagram".
    pub stride: usize,
    /// The bytes.
    pub data: &'b mut [u8],
    /// The trace digest of the (single) datagram, where its sender's kernel already computed it.
    pub digest: Option<u64>,
}

/// Receive buffers of one turn.
#[derive(Debug)]
pub struct RxBatch<'b> {
    bufs: &'b mut [RxBuf<'b>],
    buf: usize,
    offset: usize,
    /// Datagrams read.
    index: usize,
}

/// One datagram of a batch.
#[derive(Debug)]
pub struct Datagram<'x> {
    /// The sender.
    pub from: Addr,
    /// The codepoint it arrived with.
    pub ecn: Ecn,
    /// The bytes.
    pub bytes: &'x mut [u8],
    /// See [`RxBuf::digest`].
    pub digest: Option<u64>,
}

/// Where a datagram lies in its batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    buf: usize,
    start: usize,
    len: usize,
    /// Who sent it over relays, where it is what a routed datagram held.
    routed: Option<NodeId>,
}

impl Spot {
    /// The packet inside the routed datagram that lies here, sent by `src`.
    #[must_use]
    pub const fn inner(self, src: NodeId) -> Self {
        Self {
            buf: self.buf,
            start: self.start + ROUTING_LEN,
            len: self.len - ROUTING_LEN - TRAILER_LEN,
            routed: Some(src),
        }
    }

    /// Whether it is what a routed datagram held.
    #[must_use]
    pub const fn is_inner(self) -> bool {
        self.routed.is_some()
    }
}

impl RxBuf<'_> {
    /// How many datagrams it holds.
    #[must_use]
    pub const fn datagrams(&self) -> usize {
        match (self.data.len(), self.stride) {
            (0, _) => 0,
            (_, 0) => 1,
            (len, stride) => len.div_ceil(stride),
        }
    }
}

impl<'b> RxBatch<'b> {
    /// A batch over `bufs`.
    pub fn new(bufs: &'b mut [RxBuf<'b>]) -> Self {
        Self {
            bufs,
            buf: 0,
            offset: 0,
            index: 0,
        }
    }

    /// Datagrams read.
    pub(crate) const fn count(&self) -> usize {
        self.index
    }

    /// The buffers of a batch of which nothing was read.
    pub(crate) fn unread(&mut self) -> &mut [RxBuf<'b>] {
        debug_assert!(self.index == 0, "a batch is looked at before it is read");
        self.bufs
    }

    /// Moves to the next datagram; `None` at the end.
    #[inline]
    pub fn advance(&mut self) -> Option<Spot> {
        loop {
            let buf = self.bufs.get(self.buf)?;
            let left = buf.data.len() - self.offset;
            if left == 0 {
                self.buf += 1;
                self.offset = 0;
                continue;
            }
            let len = if buf.stride == 0 { left } else { left.min(buf.stride) };
            let spot = Spot {
                buf: self.buf,
                start: self.offset,
                len,
                routed: None,
            };
            self.offset += len;
            self.index += 1;
            return Some(spot);
        }
    }

    /// The datagram at `spot`.
    #[inline]
    pub fn at(&mut self, spot: Spot) -> Datagram<'_> {
        let buf = &mut self.bufs[spot.buf];
        Datagram {
            from: spot.routed.map_or(buf.from, routed::address),
            ecn: buf.ecn,
            bytes: &mut buf.data[spot.start..spot.start + spot.len],
            digest: buf.digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coalesced_buffers_are_cut_at_the_stride() {
        let from: Addr = ([127, 0, 0, 1], 9).into();
        let (mut a, mut b, mut empty) = ([1u8; 10], [2u8; 3], [0u8; 0]);
        let mut bufs = [
            RxBuf {
                from,
                ecn: Ecn::Ce,
                stride: 4,
                data: &mut a,
                digest: None,
            },
            RxBuf {
                from,
                ecn: Ecn::NotEct,
                stride: 0,
                data: &mut empty,
                digest: None,
            },
            RxBuf {
                from,
                ecn: Ecn::NotEct,
                stride: 0,
                data: &mut b,
                digest: Some(5),
            },
        ];
        let mut batch = RxBatch::new(&mut bufs);
        let mut lens = alloc::vec::Vec::new();
        while let Some(spot) = batch.advance() {
            lens.push(batch.at(spot).bytes.len());
        }
        assert_eq!(lens, [4, 4, 2, 3]);
    }
}
