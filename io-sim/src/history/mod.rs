//! The structured record of a run: what happened, when, where, and what it followed from.
//!
//! | file | role |
//! |---|---|
//! | `fact.rs` | what can happen |
//! | `line.rs` | one readable line per entry |
//! | `recorder.rs` | the world's pen |
//!
//! It is recorded only when asked ([`crate::world::World::record_history`]); asking changes no digest. Every entry has a
//! dense id, a time, perhaps a machine, and the id of the entry it followed from, so that the causes of anything can be
//! walked: a delivery follows from a sending, which follows from a turn, which follows from a delivery, timer or command.
//! Invariants: ids ascend without gaps, times never descend, a cause is older than what followed from it; at most the
//! limit is kept, the oldest entries are forgotten first, and how many were is told.
//! Not here: pictures of it (`trace/`).

mod fact;
mod line;
mod recorder;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use net_kernel::base::EntityId;

pub use fact::{FACTS, Fact, InputKind, Order, PacketKind, StoreEnd};
pub(crate) use line::{Arg, BATCH, words};
pub(crate) use recorder::{Cursor, NONE, Recorder};

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its number, from 0, without gaps.
    pub id: u64,
    /// World time, ns.
    pub at: u64,
    /// Where; `None` is the world itself.
    pub node: Option<u32>,
    /// The entry it followed from.
    pub cause: Option<u64>,
    /// What.
    pub what: Fact,
}

/// A stretch of time in which a fault or an adversary was at work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Band {
    /// Its name in the scenario.
    pub id: String,
    /// What it is.
    pub kind: String,
    /// When it begins, ns.
    pub from: u64,
    /// When it ends, ns, exclusive; [`u64::MAX`] lasts.
    pub until: u64,
    /// The machines it concerns; empty is every one.
    pub nodes: Vec<u32>,
}

/// What numbers in entries stand for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Machines; clones come after the scenario's.
    pub nodes: Vec<String>,
    /// Workloads.
    pub workloads: Vec<String>,
    /// Faults.
    pub faults: Vec<Band>,
    /// Adversaries.
    pub adversaries: Vec<Band>,
    entities: BTreeMap<EntityId, u32>,
}

impl Names {
    /// A machine's name.
    #[must_use]
    pub fn node(&self, node: u32) -> &str {
        self.nodes.get(node as usize).map_or("?", String::as_str)
    }

    /// The machine whose identity this is.
    #[must_use]
    pub fn owner(&self, entity: &EntityId) -> Option<u32> {
        self.entities.get(entity).copied()
    }
}

/// What a run did, as far as it was kept.
#[derive(Clone, Debug)]
pub struct History {
    names: Names,
    entries: VecDeque<Entry>,
    forgotten: u64,
    limit: usize,
    /// Bytes of datagrams by the entry that first shows them, where they were asked for.
    bytes: Option<BTreeMap<u64, Box<[u8]>>>,
    kept_bytes: usize,
    violation: Option<u64>,
}

/// Bytes of datagrams kept at most; older entries are forgotten beyond.
const BYTES_LIMIT: usize = 1 << 30;

impl History {
    fn new(limit: usize, bytes: bool) -> Self {
        Self {
            names: Names::default(),
            entries: VecDeque::new(),
            forgotten: 0,
            limit: limit.max(1),
            bytes: bytes.then(BTreeMap::new),
            kept_bytes: 0,
            violation: None,
        }
    }

    /// What numbers in entries stand for.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Entries kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries forgotten because the limit was reached: the oldest ones, ids below this number.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The id the next entry would get: all that happened, forgotten ones included.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.forgotten + self.entries.len() as u64
    }

    /// An entry by its id; `None` where it was forgotten or never was.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Entry> {
        self.entries.get(id.checked_sub(self.forgotten)? as usize)
    }

    /// Everything kept, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// The violation that ended the run.
    #[must_use]
    pub fn violation(&self) -> Option<&Entry> {
        self.violation.and_then(|id| self.get(id))
    }

    /// Bytes of the datagram an entry shows: sent, injected, damaged or delivered; `None` where they were not asked for.
    #[must_use]
    pub fn bytes(&self, entry: &Entry) -> Option<&[u8]> {
        let bytes = self.bytes.as_ref()?;
        let mut at = Some(entry.id);
        while let Some(id) = at {
            if let Some(found) = bytes.get(&id) {
                return Some(found);
            }
            at = self.get(id).filter(|entry| entry.what.is_datagram())?.cause;
        }
        None
    }

    /// The entries this one followed from directly: its cause, and for a turn over several datagrams all of them.
    pub fn causes(&self, entry: &Entry) -> impl Iterator<Item = u64> + use<> {
        let first = entry.cause.unwrap_or(0);
        let count = match (entry.cause, &entry.what) {
            (None, _) => 0,
            (
                Some(_),
                Fact::Turn {
                    input: InputKind::Datagrams(count),
                    ..
                },
            ) => u64::from(*count),
            (Some(_), _) => 1,
        };
        first..first + count
    }

    /// Everything this entry followed from, itself included, oldest first. Ends where entries were forgotten.
    #[must_use]
    pub fn cone(&self, id: u64) -> Vec<u64> {
        let mut cone = BTreeSet::new();
        let mut open: Vec<u64> = self.get(id).map(|entry| entry.id).into_iter().collect();
        while let Some(id) = open.pop() {
            let Some(entry) = self.get(id).filter(|_| cone.insert(id)) else {
                continue;
            };
            open.extend(self.causes(entry));
        }
        cone.into_iter().collect()
    }

    /// One readable line: time, machine, what, and the ids of itself and its cause.
    #[must_use]
    pub fn line(&self, entry: &Entry) -> String {
        line::line(entry, &self.names)
    }

    /// What happened, in words, without time and place.
    #[must_use]
    pub fn text(&self, entry: &Entry) -> String {
        line::text(&entry.what, &self.names)
    }

    /// The lines of the last `count` entries.
    #[must_use]
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let skip = self.entries.len().saturating_sub(count);
        self.entries.iter().skip(skip).map(|entry| self.line(entry)).collect()
    }

    fn push(&mut self, at: u64, node: Option<u32>, cause: Option<u64>, what: Fact) -> u64 {
        let id = self.end();
        if let Fact::Violation { .. } = what {
            self.violation.get_or_insert(id);
        }
        self.entries.push_back(Entry {
            id,
            at,
            node,
            cause,
            what,
        });
        while self.entries.len() > self.limit || (self.kept_bytes > BYTES_LIMIT && self.entries.len() > 1) {
            self.forget();
        }
        id
    }

    fn forget(&mut self) {
        self.entries.pop_front();
        if let Some(bytes) = self.bytes.as_mut().and_then(|bytes| bytes.remove(&self.forgotten)) {
            self.kept_bytes -= bytes.len();
        }
        self.forgotten += 1;
    }

    fn keep_bytes(&mut self, id: u64, datagram: &[u8]) {
        if let Some(bytes) = &mut self.bytes {
            self.kept_bytes += datagram.len();
            bytes.insert(id, datagram.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(limit: usize) -> History {
        let mut history = History::new(limit, true);
        history.names.nodes = vec!["a".to_owned(), "b".to_owned()];
        history
    }

    fn delivered(link: u64) -> Fact {
        Fact::Delivered {
            from: ([10, 0, 0, 0], 4_000).into(),
            len: 9,
            packet: link,
        }
    }

    #[test]
    fn a_cone_holds_every_datagram_of_the_turn_and_nothing_else() {
        let mut history = history(100);
        let stray = history.push(1, Some(1), None, delivered(1));
        let first = history.push(2, Some(1), None, delivered(2));
        let second = history.push(2, Some(1), None, delivered(3));
        let turn = Fact::Turn {
            input: InputKind::Datagrams(2),
            number: 1,
        };
        let turn = history.push(2, Some(1), Some(first), turn);
        let told = history.push(2, Some(1), Some(turn), Fact::Healed);
        assert_eq!(history.cone(told), [first, second, turn, told]);
        assert_eq!(history.cone(stray), [stray]);
    }

    #[test]
    fn the_oldest_entries_are_forgotten_and_ids_stay() {
        let mut history = history(3);
        let ids: Vec<u64> = (0..5)
            .map(|n| history.push(n, None, n.checked_sub(1), Fact::Healed))
            .collect();
        assert_eq!(ids, [0, 1, 2, 3, 4]);
        assert_eq!((history.forgotten(), history.len(), history.end()), (2, 3, 5));
        assert!(history.get(1).is_none());
        assert_eq!(history.get(3).map(|entry| entry.at), Some(3));
        assert_eq!(history.cone(4), [2, 3, 4], "ends where entries were forgotten");
        assert!(history.cone(1).is_empty());
    }

    #[test]
    fn bytes_are_found_from_the_delivery_through_its_sending_and_go_with_their_entry() {
        let mut history = history(2);
        let sent = history.push(1, Some(0), None, delivered(1));
        history.keep_bytes(sent, b"abc");
        let arrived = history.push(2, Some(1), Some(sent), delivered(1));
        let entry = history.get(arrived).unwrap().clone();
        assert_eq!(history.bytes(&entry), Some(&b"abc"[..]));
        history.push(3, None, None, Fact::Healed);
        assert_eq!(history.bytes(&entry), None);
        assert_eq!(history.kept_bytes, 0);
    }
}
