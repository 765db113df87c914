//! Which stream indices of the peer were opened and ended: few ranges, because indices are used in order.
//!
//! Invariants: ranges ascend, do not touch, and number at most one more than the streams open at once.
//! Not here: the limit on open streams (`streams.rs`).

use alloc::vec::Vec;

/// A set of indices as inclusive ranges.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClosedSet {
    ranges: Vec<(u64, u64)>,
    count: u64,
}

impl ClosedSet {
    /// Whether `index` ended.
    pub(crate) fn contains(&self, index: u64) -> bool {
        let after = self.ranges.partition_point(|&(low, _)| low <= index);
        after > 0 && index <= self.ranges[after - 1].1
    }

    /// How many ended.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// `index` ended; again is no news.
    pub(crate) fn insert(&mut self, index: u64) {
        if self.contains(index) {
            return;
        }
        self.count += 1;
        let at = self.ranges.partition_point(|&(low, _)| low < index);
        let joins_left = at > 0 && self.ranges[at - 1].1 + 1 == index;
        let joins_right = at < self.ranges.len() && self.ranges[at].0 == index + 1;
        match (joins_left, joins_right) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].1 = index,
            (false, true) => self.ranges[at].0 = index,
            (false, false) => self.ranges.insert(at, (index, index)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_whatever_the_order() {
        let mut set = ClosedSet::default();
        for index in [5, 3, 4, 4, 0, 9, 1, 2] {
            set.insert(index);
        }
        assert_eq!(set.ranges, [(0, 5), (9, 9)]);
        assert_eq!(set.count(), 7);
        assert!(set.contains(4) && set.contains(9) && !set.contains(6) && !set.contains(10));
    }
}
