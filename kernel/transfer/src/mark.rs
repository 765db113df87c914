//! Hashes of prefixes of a file, by which both sides find how much of it they have in common.
//!
//! The receiver hashes what it has from the start and notes the hash at a few offsets, close together at the end and ever
//! farther apart before it. The sender hashes its own file up to the last offset at which both agree. So a tail that a crash
//! tore, or a file that changed at its end, costs no more than about what is wrong with it.
//! Invariants: offsets ascend, the last is everything the receiver has, and there are at most [`MAX_MARKS`].
//! Not here: who compares when (`sender.rs`, `receiver.rs`).

use alloc::vec::Vec;

use crate::limit::{MARK_GRAIN, MAX_MARKS};

/// BLAKE3 of a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Bytes of the prefix.
    pub offset: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// Where to note the hash of a file of which `len` bytes are there: ascending, the last is `len`; none where nothing is.
#[must_use]
pub fn offsets(len: u64) -> Vec<u64> {
    let mut offsets = Vec::new();
    let mut at = len;
    let mut distance = MARK_GRAIN;
    while at > 0 && offsets.len() < MAX_MARKS {
        offsets.push(at);
        // Whole grains but for the end, so that repeated attempts note the same offsets.
        at = (at - 1).saturating_sub(distance - MARK_GRAIN) / MARK_GRAIN * MARK_GRAIN;
        distance *= 2;
    }
    offsets.reverse();
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_ascend_to_the_end_and_are_dense_there() {
        assert!(offsets(0).is_empty());
        assert_eq!(offsets(1), [1]);
        assert_eq!(offsets(MARK_GRAIN), [MARK_GRAIN]);
        assert_eq!(offsets(MARK_GRAIN + 1), [MARK_GRAIN, MARK_GRAIN + 1]);
        for len in [5, MARK_GRAIN * 10 + 3, 1 << 30, (1 << 40) + 17, u64::MAX] {
            let offsets = offsets(len);
            assert!(offsets.len() <= MAX_MARKS && offsets.is_sorted_by(|a, b| a < b));
            assert_eq!(offsets.last(), Some(&len));
            if let [.., before, last] = offsets[..] {
                assert!(last - before <= MARK_GRAIN, "a torn tail costs little");
            }
        }
    }
}
