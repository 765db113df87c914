//! Which nodes' routes changed of late, for whoever follows the table without reading all of it.
//!
//! Invariants: at most [`KEPT`] changes are remembered; a reader that fell behind further is told so and reads the table.
//! Not here: what changed about them (`routes.rs`).

use alloc::vec::Vec;

use net_base::EntityId;

/// Changes remembered.
const KEPT: usize = 256;

/// The changes, oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    ring: Vec<EntityId>,
    total: u64,
}

impl Journal {
    /// The route of a node may have changed.
    pub(crate) fn note(&mut self, node: EntityId) {
        if self.ring.len() < KEPT {
            self.ring.push(node);
        } else {
            self.ring[self.total as usize % KEPT] = node;
        }
        self.total += 1;
    }

    /// How many changes there were.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// The nodes of the changes after the first `mark`, in order and with repetitions; `None` where some are forgotten.
    pub(crate) fn since(&self, mark: u64) -> Option<impl Iterator<Item = EntityId> + '_> {
        let missed = self.total.saturating_sub(mark);
        let kept = missed <= self.ring.len() as u64;
        kept.then(|| (mark.min(self.total)..self.total).map(|at| self.ring[at as usize % KEPT]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_what_it_missed_or_is_told_that_it_missed_too_much() {
        let mut journal = Journal::default();
        let node = |n: usize| EntityId([n as u8; 32]);
        assert_eq!(journal.since(0).map(Iterator::count), Some(0));
        for n in 0..KEPT + 10 {
            journal.note(node(n));
        }
        assert_eq!(journal.total(), 266);
        assert!(journal.since(9).is_none());
        let seen: Vec<EntityId> = journal.since(263).expect("kept").collect();
        assert_eq!(seen, [node(263), node(264), node(265)]);
        assert_eq!(journal.since(10).map(Iterator::count), Some(KEPT));
    }
}
