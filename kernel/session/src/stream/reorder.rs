//! Bytes that arrived before the bytes in front of them.
//!
//! Invariants: memory is 9/8 byte per cell between the caller's floor and the highest cell stored, rounded up to a
//! power of two, however the bytes were cut; a cell below the floor is never read.
//! Not here: what a cell stands for (`recv.rs`).

use alloc::vec;
use alloc::vec::Vec;

const MIN_CELLS: u64 = 256;
/// Capacity kept when nothing is stored: a stream that loses now and then does not allocate each time, and idle
/// streams do not hold what credit no longer bounds.
const KEPT_CELLS: usize = 16 << 10;

/// A sparse ring of cells of one byte, addressed by absolute numbers.
#[derive(Debug, Default)]
pub(super) struct ReorderBuffer {
    bytes: Vec<u8>,
    present: Vec<u64>,
    top: u64,
}

impl ReorderBuffer {
    /// Whether no cell from `floor` on is stored.
    #[inline]
    pub(super) fn is_empty(&self, floor: u64) -> bool {
        self.top <= floor
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        self.bytes.len() + self.present.len() * 8
    }

    /// Stores `bytes` from cell `at` on, where `at >= floor` and nothing below `floor` is needed any more.
    pub(super) fn store(&mut self, floor: u64, at: u64, bytes: &[u8]) {
        debug_assert!(at >= floor);
        let end = at + bytes.len() as u64;
        if end - floor > self.bytes.len() as u64 {
            self.grow(floor, end);
        }
        let index = self.index(at);
        let (front, back) = bytes.split_at(bytes.len().min(self.bytes.len() - index));
        self.bytes[index..index + front.len()].copy_from_slice(front);
        self.bytes[..back.len()].copy_from_slice(back);
        self.each_word(at, end, |word, mask| *word |= mask);
        self.top = self.top.max(end);
    }

    /// How many cells from `from` on are stored without a gap, at most `max`.
    pub(super) fn filled(&self, from: u64, max: u64) -> u64 {
        let max = max.min(self.top.saturating_sub(from));
        let mut at = from;
        while at < from + max {
            let low = at % 64;
            let wanted = (64 - low).min(from + max - at);
            let found = (self.present[self.word(at)] >> low).trailing_ones() as u64;
            at += found.min(wanted);
            if found < wanted {
                break;
            }
        }
        at - from
    }

    /// Whether any of the `count` cells from `from` on is stored.
    pub(super) fn any(&self, from: u64, count: u64) -> bool {
        let end = from.saturating_add(count).min(self.top);
        let mut at = from;
        while at < end {
            let (mask, length) = mask(at, end);
            if self.present[self.word(at)] & mask != 0 {
                return true;
            }
            at += length;
        }
        false
    }

    /// Forgets the cells from `from` to `to`.
    pub(super) fn clear(&mut self, from: u64, to: u64) {
        let to = to.min(self.top);
        self.each_word(from, to, |word, mask| *word &= !mask);
    }

    /// The stored bytes from cell `at` on, at most `max`, cut where the ring ends.
    pub(super) fn chunk(&self, at: u64, max: u64) -> &[u8] {
        let index = self.index(at);
        let length = max.min((self.bytes.len() - index) as u64) as usize;
        &self.bytes[index..index + length]
    }

    /// Copies `N` stored bytes from cell `at` on.
    pub(super) fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut out = [0; N];
        let first = self.chunk(at, N as u64);
        out[..first.len()].copy_from_slice(first);
        let rest = &mut out[first.len()..];
        rest.copy_from_slice(&self.bytes[..rest.len()]);
        out
    }

    /// Gives large memory back; call when nothing is stored.
    pub(super) fn release(&mut self) {
        if self.bytes.len() > KEPT_CELLS {
            *self = Self::default();
        }
    }

    #[inline]
    fn index(&self, cell: u64) -> usize {
        cell as usize & (self.bytes.len() - 1)
    }

    #[inline]
    fn word(&self, cell: u64) -> usize {
        (cell / 64) as usize & (self.present.len() - 1)
    }

    fn each_word(&mut self, from: u64, to: u64, change: impl Fn(&mut u64, u64)) {
        let mut at = from;
        while at < to {
            let (mask, length) = mask(at, to);
            let word = self.word(at);
            change(&mut self.present[word], mask);
            at += length;
        }
    }

    fn grow(&mut self, floor: u64, end: u64) {
        let cells = (end - floor).next_power_of_two().max(MIN_CELLS) as usize;
        let mut larger = Self {
            bytes: vec![0; cells],
            present: vec![0; cells / 64],
            top: self.top,
        };
        let mut at = floor;
        while at < self.top {
            // Where the larger ring ends, a multiple of its capacity, the smaller one ends too.
            let length = (self.top - at).min((self.bytes.len() - self.index(at)) as u64);
            let from = self.index(at);
            let to = larger.index(at);
            larger.bytes[to..to + length as usize].copy_from_slice(&self.bytes[from..from + length as usize]);
            at += length;
        }
        let mut at = floor;
        while at < self.top {
            // The first and last word of a full ring share one place: the mask keeps their cells apart.
            let (mask, length) = mask(at, self.top);
            let word = larger.word(at);
            larger.present[word] |= self.present[self.word(at)] & mask;
            at += length;
        }
        *self = larger;
    }
}

/// The bits of the word that holds `at`, from there to `end` or the word's end, and how many they are.
#[inline]
fn mask(at: u64, end: u64) -> (u64, u64) {
    let low = at % 64;
    let length = (64 - low).min(end - at);
    ((u64::MAX >> (64 - length)) << low, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_what_was_stored_wherever_it_lies(
            base in 0u64..1 << 40,
            steps in prop::collection::vec((0u64..900, 1usize..300, 0u64..400), 1..30),
        ) {
            let mut buffer = ReorderBuffer::default();
            let mut model = BTreeMap::new();
            let mut floor = base;
            for (number, (ahead, length, forward)) in steps.into_iter().enumerate() {
                let at = floor + ahead;
                let bytes: Vec<u8> = (0..length).map(|step| (number * 31 + step) as u8).collect();
                buffer.store(floor, at, &bytes);
                model.extend((at..).zip(bytes));
                buffer.clear(floor, floor + forward);
                floor += forward;
                model.retain(|cell, _| *cell >= floor);
                prop_assert_eq!(buffer.is_empty(floor), model.is_empty());
                for probe in [floor, floor + 7, at.max(floor)] {
                    let filled = (probe..).take_while(|cell| model.contains_key(cell)).count() as u64;
                    prop_assert_eq!(buffer.filled(probe, u64::MAX >> 1), filled);
                    prop_assert_eq!(buffer.any(probe, 40), (probe..probe + 40).any(|cell| model.contains_key(&cell)));
                    let mut cell = probe;
                    while cell < probe + filled {
                        let chunk = buffer.chunk(cell, probe + filled - cell);
                        prop_assert!(!chunk.is_empty());
                        for byte in chunk {
                            prop_assert_eq!(Some(byte), model.get(&cell));
                            cell += 1;
                        }
                    }
                }
                prop_assert!(buffer.memory() as u64 <= 2 * MIN_CELLS.max(2 * 1600));
            }
        }
    }

    #[test]
    fn large_memory_is_given_back_and_small_memory_kept() {
        let mut buffer = ReorderBuffer::default();
        buffer.store(0, 1000, &[1]);
        buffer.release();
        assert!(buffer.memory() > 0);
        buffer.store(0, KEPT_CELLS as u64, &[1]);
        buffer.release();
        assert_eq!(buffer.memory(), 0);
    }
}
