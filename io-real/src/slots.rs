//! A table whose rows keep their number until they are removed.
//!
//! Invariants: a number names one row at a time; removed rows are used again before the table grows.
//! Not here: what rows are (`hub.rs`).

use std::ops::{Index, IndexMut};

/// See the module.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    rows: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self {
            rows: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, row: T) -> usize {
        match self.free.pop() {
            Some(at) => {
                self.rows[at] = Some(row);
                at
            }
            None => {
                self.rows.push(Some(row));
                self.rows.len() - 1
            }
        }
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.rows.get_mut(at)?.as_mut()
    }

    pub(crate) fn remove(&mut self, at: usize) {
        if self.rows.get_mut(at).and_then(Option::take).is_some() {
            self.free.push(at);
        }
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;
    fn index(&self, at: usize) -> &T {
        self.rows[at].as_ref().expect("a seat is held until its row is removed")
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        self.rows[at].as_mut().expect("a seat is held until its row is removed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_free_ones_are_used_again() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        slots.remove(a);
        slots.remove(a);
        assert_eq!(slots[b], 'b');
        assert_eq!(slots.insert('c'), a);
        assert_ne!(slots.insert('d'), a, "a row freed twice is not given away twice");
        assert!(slots.get_mut(9).is_none());
    }
}
