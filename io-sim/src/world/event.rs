//! The world's queue of things to come.
//!
//! Invariants: things happen in the order of their time, and at one time in the order they were scheduled.
//! Not here: what is done about them (`mod.rs`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use crate::history::{Cursor, NONE};

/// Something to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A datagram reaches a machine.
    Arrive {
        /// Where its bytes lie.
        slot: u32,
        /// Whom it reaches.
        node: u32,
    },
    /// A process' deadline.
    Wake {
        /// Which machine.
        node: u32,
    },
    /// The transmitter takes datagrams again.
    TxReady {
        /// Which machine.
        node: u32,
    },
    /// A job ends.
    Job {
        /// Its place among the jobs.
        job: u32,
    },
    /// A storage operation ends.
    Stored {
        /// Its place among the operations.
        operation: u32,
    },
    /// A line of the scenario's script.
    Script {
        /// Which line.
        line: u32,
    },
    /// A flow may send.
    Tick {
        /// Which direction of which stream.
        half: u32,
    },
    /// A reader reads.
    Drain {
        /// Which direction of which stream.
        half: u32,
    },
    /// The application at an end of a file transfer has its turn.
    File {
        /// Which end.
        end: u32,
    },
    /// A workload does its next step.
    Step {
        /// Which workload.
        workload: u32,
    },
    /// Time to dial again.
    Dial {
        /// Who.
        node: u32,
        /// Whom.
        peer: u32,
    },
    /// An adversary acts.
    Strike {
        /// Which.
        adversary: u32,
    },
}

/// Something to come, with its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When, ns.
    pub at: u64,
    sequence: u64,
    /// What.
    pub what: What,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap's greatest is the earliest.
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Everything to come.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Entry>,
    sequence: u64,
    cursor: Cursor,
    /// What each entry follows from, by its number, while a history is recorded.
    causes: Option<BTreeMap<u64, u64>>,
}

impl Queue {
    /// A queue whose entries follow from where `cursor` stands.
    pub fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            ..Self::default()
        }
    }

    /// Remembers what every entry follows from, from now on.
    pub fn stamp(&mut self) {
        self.causes = Some(BTreeMap::new());
    }

    /// Schedules.
    #[inline]
    pub fn push(&mut self, at: u64, what: What) {
        self.sequence += 1;
        if let Some(causes) = &mut self.causes {
            causes.insert(self.sequence, self.cursor.get());
        }
        self.heap.push(Entry {
            at,
            sequence: self.sequence,
            what,
        });
    }

    /// What comes next.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<&Entry> {
        self.heap.peek()
    }

    /// Takes what comes next; the cursor stands on what it follows from.
    #[inline]
    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.heap.pop()?;
        if let Some(causes) = &mut self.causes {
            self.cursor.set(causes.remove(&entry.sequence).unwrap_or(NONE));
        }
        Some(entry)
    }

    /// How many datagrams are under way.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.heap
            .iter()
            .filter(|entry| matches!(entry.what, What::Arrive { .. }))
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_happen_in_the_order_they_were_scheduled() {
        let mut queue = Queue::default();
        queue.push(5, What::Wake { node: 1 });
        queue.push(3, What::Wake { node: 2 });
        queue.push(5, What::Wake { node: 3 });
        let order: Vec<What> = std::iter::from_fn(|| queue.pop()).map(|entry| entry.what).collect();
        assert_eq!(
            order,
            [What::Wake { node: 2 }, What::Wake { node: 1 }, What::Wake { node: 3 }]
        );
    }
}
