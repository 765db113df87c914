//! Sets of positions as merged half-open ranges.
//!
//! Invariants: ranges are non-empty, disjoint and never touch each other; every operation is O(log n) per range it
//! changes.
//! Not here: what the positions mean.

use alloc::collections::BTreeMap;

/// A set of positions, kept as `start -> end`.
#[derive(Debug, Default)]
pub(super) struct RangeSet {
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The lowest range.
    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.ranges.first_key_value().map(|(start, end)| (*start, *end))
    }

    /// Adds `[start, end)`.
    pub(super) fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let mut start = start;
        let mut end = end;
        if let Some((before, before_end)) = self.ranges.range(..=start).next_back()
            && *before_end >= start
        {
            if *before_end >= end {
                return;
            }
            start = *before;
        }
        while let Some((next, next_end)) = self.ranges.range(start + 1..=end).next() {
            let (next, next_end) = (*next, *next_end);
            end = end.max(next_end);
            self.ranges.remove(&next);
        }
        self.ranges.insert(start, end);
    }

    /// Takes `[start, end)` out.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        if start >= end || self.ranges.is_empty() {
            return;
        }
        if let Some((_, before_end)) = self.ranges.range_mut(..start).next_back()
            && *before_end > start
        {
            let old_end = core::mem::replace(before_end, start);
            if old_end > end {
                self.ranges.insert(end, old_end);
                return;
            }
        }
        while let Some((next, next_end)) = self.ranges.range(start..end).next() {
            let (next, next_end) = (*next, *next_end);
            self.ranges.remove(&next);
            if next_end > end {
                self.ranges.insert(end, next_end);
            }
        }
    }

    /// Takes out everything that touches `[0, to)` and answers how far the set reaches from `to` without a gap.
    pub(super) fn absorb(&mut self, to: u64) -> u64 {
        let mut to = to;
        while let Some(entry) = self.ranges.first_entry() {
            if *entry.key() > to {
                break;
            }
            to = to.max(entry.remove());
        }
        to
    }

    /// The parts of `[start, end)` that are not in the set, from the lowest.
    pub(super) fn gaps(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let covered = self
            .ranges
            .range(..=start)
            .next_back()
            .map_or(start, |(_, reach)| start.max(*reach));
        let mut at = covered;
        let mut above = self.ranges.range(covered.min(end)..end);
        core::iter::from_fn(move || {
            while at < end {
                let (gap_end, next) = above.next().map_or((end, end), |(low, high)| (*low, *high));
                let gap = (at, gap_end);
                at = at.max(next);
                if gap.0 < gap.1 {
                    return Some(gap);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_set_of_positions(
            operations in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 1..60),
            probe in (0u64..60, 0u64..20),
        ) {
            let mut set = RangeSet::default();
            let mut model = BTreeSet::new();
            for (add, start, len) in operations {
                if add {
                    set.insert(start, start + len);
                    model.extend(start..start + len);
                } else {
                    set.remove(start, start + len);
                    model.retain(|at| !(start..start + len).contains(at));
                }
                let flat: Vec<u64> = set.ranges.iter().flat_map(|(start, end)| *start..*end).collect();
                prop_assert_eq!(flat, model.iter().copied().collect::<Vec<_>>());
                let pairs: Vec<_> = set.ranges.iter().collect();
                prop_assert!(pairs.iter().all(|(start, end)| start < end));
                prop_assert!(pairs.windows(2).all(|two| two[0].1 < two[1].0), "ranges touch");
            }
            let (start, len) = probe;
            let gaps: Vec<u64> = set.gaps(start, start + len).flat_map(|(low, high)| low..high).collect();
            let expected: Vec<u64> = (start..start + len).filter(|at| !model.contains(at)).collect();
            prop_assert_eq!(gaps, expected);
            let reach = set.absorb(start);
            let expected = (start..).find(|at| !model.contains(at)).expect("the model is finite");
            prop_assert_eq!(reach, if model.contains(&start) { expected } else { start });
            prop_assert!(set.ranges.keys().all(|low| *low > reach));
        }
    }
}
