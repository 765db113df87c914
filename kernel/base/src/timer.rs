//! Named timers of one seat: a lazy heap in which re-arming replaces.
//!
//! Invariants: a key is armed at most once; what fires is due; equal instants fire in the order of their
//! keys; the heap holds at most twice as many entries as timers are armed, plus [`SLACK`].
//! Not here: who is woken (`machine.rs`) or why (`net-kernel`).

use alloc::collections::{BTreeMap, BinaryHeap};
use core::cmp::Reverse;

use crate::time::Instant;

/// Entries the heap may hold beyond twice the number of armed timers before it is rebuilt.
pub const SLACK: usize = 64;

/// How much one machine's timers hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Timers armed.
    pub armed: usize,
    /// Entries of the heap, those that were replaced or disarmed and did not come to its top yet included.
    pub entries: usize,
}

/// The timers of one machine.
#[derive(Debug)]
pub struct Timers<K> {
    armed: BTreeMap<K, Instant>,
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Copy + Ord> Default for Timers<K> {
    fn default() -> Self {
        Self {
            armed: BTreeMap::new(),
            heap: BinaryHeap::new(),
        }
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// Arms `key` for `at`, replacing what it was armed for.
    pub fn arm(&mut self, key: K, at: Instant) {
        if self.armed.insert(key, at) != Some(at) {
            self.heap.push(Reverse((at, key)));
            self.rebuild();
        }
    }

    /// Forgets what was replaced or disarmed, once that is the greater part.
    fn rebuild(&mut self) {
        if self.heap.len() > self.armed.len() * 2 + SLACK && !crate::mutant!(TimersNeverRebuilt) {
            self.heap = self.armed.iter().map(|(&key, &at)| Reverse((at, key))).collect();
        }
    }

    /// Disarms `key`; nothing happens where it was not armed.
    pub fn disarm(&mut self, key: K) {
        if self.armed.remove(&key).is_some() {
            self.rebuild();
        }
    }

    /// Whether `key` is armed, and for when.
    #[must_use]
    pub fn armed(&self, key: K) -> Option<Instant> {
        self.armed.get(&key).copied()
    }

    /// When the next timer is due.
    pub fn due(&mut self) -> Option<Instant> {
        while let Some(&Reverse((at, key))) = self.heap.peek() {
            if self.armed.get(&key) == Some(&at) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next timer due at `now`, disarming it.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.due()? > now {
            return None;
        }
        let Reverse((_, key)) = self.heap.pop()?;
        self.armed.remove(&key);
        self.rebuild();
        Some(key)
    }

    /// How much is held.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            armed: self.armed.len(),
            entries: self.heap.len(),
        }
    }

    /// How many timers are armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.armed.len()
    }

    /// Whether none is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Instant {
        Instant::from_nanos(ns)
    }

    #[test]
    fn re_arming_replaces_in_both_directions() {
        let mut timers = Timers::default();
        timers.arm('a', at(10));
        timers.arm('a', at(20));
        assert_eq!(timers.pop_due(at(15)), None);
        timers.arm('a', at(5));
        assert_eq!(timers.pop_due(at(15)), Some('a'));
        assert_eq!(timers.pop_due(at(100)), None, "the replaced arming is gone");
    }

    #[test]
    fn ties_fire_in_key_order() {
        let mut timers = Timers::default();
        for key in ['c', 'a', 'b'] {
            timers.arm(key, at(7));
        }
        let fired: alloc::vec::Vec<_> = core::iter::from_fn(|| timers.pop_due(at(7))).collect();
        assert_eq!(fired, ['a', 'b', 'c']);
    }

    #[test]
    fn disarmed_timers_do_not_fire_and_do_not_pile_up() {
        let mut timers = Timers::default();
        for n in 0..10_000 {
            timers.arm(0, at(n));
        }
        assert!(timers.heap.len() <= 2 + SLACK + 1);
        timers.disarm(0);
        assert_eq!(timers.due(), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn the_heap_stays_in_proportion_when_most_timers_are_disarmed_or_fire() {
        let within = |timers: &Timers<u32>| {
            let Load { armed, entries } = timers.load();
            entries <= armed * 2 + SLACK
        };
        let mut timers = Timers::default();
        for key in 0..1_000 {
            timers.arm(key, at(10));
            timers.arm(key, at(20_000));
            assert!(within(&timers));
        }
        // One at the top that stays keeps the others from being seen.
        timers.arm(1_000, at(1));
        for key in 0..900 {
            timers.disarm(key);
            assert!(within(&timers), "{:?}", timers.load());
        }
        while timers.pop_due(at(30_000)).is_some() {
            assert!(within(&timers), "{:?}", timers.load());
        }
        assert!(timers.is_empty());
    }

    #[test]
    fn re_arming_for_the_same_instant_after_a_disarm_fires_once() {
        let mut timers = Timers::default();
        timers.arm('a', at(3));
        timers.disarm('a');
        timers.arm('a', at(3));
        assert_eq!(timers.pop_due(at(3)), Some('a'));
        assert_eq!(timers.pop_due(at(3)), None);
    }
}
