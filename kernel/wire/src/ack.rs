//! Acknowledgements: which packet counters arrived, as descending ranges (protocol.md section 4).
//!
//! Invariants: an [`AckFrame`] exists only if its ranges are well-formed, descending, apart from each other and not
//! below zero; iterating one neither fails nor allocates.
//! Not here: what was sent and what an acknowledgement means for it (`net-session`), writing (`write.rs`).

use core::fmt;
use core::iter::FusedIterator;

use crate::drop::DropReason;
use crate::varint;

/// Packets received by ECN mark, cumulative for the session (RFC 9000 section 13.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EcnCounts {
    /// Packets that arrived as ECT(0).
    pub ect0: u64,
    /// Packets that arrived as ECT(1).
    pub ect1: u64,
    /// Packets that a router marked as having met congestion.
    pub ce: u64,
}

/// A validated ACK or ACK_ECN frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AckFrame<'b> {
    ecn: Option<EcnCounts>,
    largest: u64,
    delay_us: u64,
    first_length: u64,
    pairs: &'b [u8],
}

impl<'b> AckFrame<'b> {
    /// Greatest counter acknowledged.
    #[inline]
    #[must_use]
    pub const fn largest(&self) -> u64 {
        self.largest
    }

    /// How long the receiver held the packet `largest` before it sent this, in microseconds. The peer's claim.
    #[inline]
    #[must_use]
    pub const fn delay_us(&self) -> u64 {
        self.delay_us
    }

    /// ECN counts, in an ACK_ECN frame.
    #[inline]
    #[must_use]
    pub const fn ecn(&self) -> Option<EcnCounts> {
        self.ecn
    }

    /// The acknowledged counters as inclusive `(low, high)` ranges, from the greatest down; at least one, and at most
    /// one plus half the frame's bytes.
    #[inline]
    #[must_use]
    pub const fn ranges(&self) -> AckRanges<'b> {
        AckRanges {
            next: Some((self.largest - self.first_length, self.largest)),
            pairs: self.pairs,
        }
    }

    /// Reads the body of an ACK (`with_ecn` false) or ACK_ECN frame; every byte of `body` belongs to it.
    pub(crate) fn decode(body: &'b [u8], with_ecn: bool) -> Result<Self, DropReason> {
        let (ecn, body) = if with_ecn {
            let (ect0, body) = take(body)?;
            let (ect1, body) = take(body)?;
            let (ce, body) = take(body)?;
            (Some(EcnCounts { ect0, ect1, ce }), body)
        } else {
            (None, body)
        };
        let (largest, body) = take(body)?;
        let (delay_us, body) = take(body)?;
        let (first_length, pairs) = take(body)?;
        let mut bottom = largest.checked_sub(first_length).ok_or(DropReason::MalformedFrame)?;
        let mut rest = pairs;
        while !rest.is_empty() {
            let (gap, after) = take(rest)?;
            let (length, after) = take(after)?;
            bottom = below(bottom, gap, length).ok_or(DropReason::MalformedFrame)?.0;
            rest = after;
        }
        Ok(Self {
            ecn,
            largest,
            delay_us,
            first_length,
            pairs,
        })
    }

    /// Length of the body, in bytes.
    pub(crate) fn body_len(&self) -> usize {
        let ecn = self.ecn.map_or(0, |ecn| {
            varint::len(ecn.ect0) + varint::len(ecn.ect1) + varint::len(ecn.ce)
        });
        let fixed = varint::len(self.largest) + varint::len(self.delay_us) + varint::len(self.first_length);
        ecn + fixed + self.pairs.len()
    }

    /// The `(gap, length)` pairs after the first range, as encoded.
    pub(crate) const fn pairs(&self) -> &'b [u8] {
        self.pairs
    }

    /// Counters in the first range, less one.
    pub(crate) const fn first_length(&self) -> u64 {
        self.first_length
    }
}

impl fmt::Debug for AckFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "AckFrame {{ delay_us: {}, ecn: {:?}, ranges: ",
            self.delay_us, self.ecn
        )?;
        f.debug_list().entries(self.ranges()).finish()?;
        f.write_str(" }")
    }
}

/// Descending inclusive `(low, high)` ranges of an [`AckFrame`].
#[derive(Clone, Debug)]
pub struct AckRanges<'b> {
    next: Option<(u64, u64)>,
    pairs: &'b [u8],
}

impl Iterator for AckRanges<'_> {
    type Item = (u64, u64);

    #[inline]
    fn next(&mut self) -> Option<(u64, u64)> {
        let range = self.next.take()?;
        // Validated at construction, so only the end of the pairs stops this.
        if let Some((gap, rest)) = varint::read(self.pairs)
            && let Some((length, rest)) = varint::read(rest)
        {
            self.pairs = rest;
            self.next = below(range.0, gap, length);
        }
        Some(range)
    }
}

impl FusedIterator for AckRanges<'_> {}

/// The range that `gap` and `length` describe under one that ends at `bottom`.
#[inline]
fn below(bottom: u64, gap: u64, length: u64) -> Option<(u64, u64)> {
    let top = bottom.checked_sub(gap)?.checked_sub(2)?;
    Some((top.checked_sub(length)?, top))
}

#[inline]
fn take(bytes: &[u8]) -> Result<(u64, &[u8]), DropReason> {
    varint::read(bytes).ok_or(DropReason::MalformedFrame)
}
