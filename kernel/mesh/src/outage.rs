//! Failures with one cause: neighbours that failed and nodes that were lost at about the same time, as one published table.
//!
//! One cause is assumed where a third of the neighbours, or of the nodes that were reached, and at least three of them, go
//! within [`TOGETHER`]. Where the cause lies follows from the neighbours over which they were reached.
//! Invariants: what is in the table was neighbour or reached before, and is not now; an outage ends when everybody is back,
//! and is forgotten when the last that are not are.
//! Not here: when a neighbour has failed (`mesh.rs`), what becomes of routes (`routes.rs`).

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use net_base::{Duration, EntityId, Instant, mutant};

use crate::routes::DISTANCE_MEMORY;

/// Failures within this time of each other may have one cause.
pub const TOGETHER: Duration = Duration::from_secs(3);
/// Fewer are none.
const LEAST: usize = 3;
/// Nor is less than this part of all.
const PART: usize = 3;
/// Nodes in the table; one more is counted and not named.
const MAX_NAMED: usize = 4_096;

/// Where the cause of an outage lies, as far as can be told from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// No neighbour is left: with us, or with what we are connected by.
    Ourselves,
    /// Around us: several neighbours failed.
    Neighbours,
    /// Behind this neighbour, over which everybody that was lost had been reached.
    Behind(EntityId),
    /// Elsewhere: those that were lost had been reached over several neighbours, which have not failed.
    Elsewhere,
}

/// An outage, summed up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outage {
    /// When the first failure was noticed.
    pub since: Instant,
    /// Neighbours that failed and are not back.
    pub failed: usize,
    /// Neighbours there were.
    pub of: usize,
    /// Nodes that were lost and are not back, failed neighbours included where a route led to them.
    pub lost: usize,
    /// Nodes that were reached before.
    pub reached: usize,
    /// Where its cause lies.
    pub scope: Scope,
}

/// One node that went.
#[derive(Clone, Copy, Debug)]
struct Gone {
    at: Instant,
    node: EntityId,
    /// Over whom it was reached; `None` for a neighbour that failed.
    over: Option<EntityId>,
}

/// How things stand around us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    /// Neighbours over which routes may lead.
    pub counting: usize,
    /// All neighbours.
    pub neighbours: usize,
    /// Nodes that are reached.
    pub reached: usize,
}

/// What is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// An outage began.
    Began(Outage),
    /// It is over: everybody is back, or forgotten.
    Over(Outage),
}

/// The table.
#[derive(Debug, Default)]
pub struct Outages {
    recent: VecDeque<Gone>,
    /// While an outage lasts.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    summary: Outage,
    failed: BTreeSet<EntityId>,
    /// With the neighbour over which each was reached.
    lost: BTreeMap<EntityId, EntityId>,
    /// When the last one went.
    latest: Instant,
}

impl Outages {
    /// The outage that lasts, summed up.
    #[must_use]
    pub fn current(&self) -> Option<Outage> {
        Some(self.current.as_ref()?.summary)
    }

    /// Neighbours that failed in it and are not back, by EntityId.
    pub fn failed(&self) -> impl Iterator<Item = EntityId> + '_ {
        self.current.iter().flat_map(|current| current.failed.iter().copied())
    }

    /// Nodes that were lost in it and are not back, by EntityId, each with the neighbour over which it had been reached; at
    /// most 4,096.
    pub fn lost(&self) -> impl Iterator<Item = (EntityId, EntityId)> + '_ {
        let lost = self.current.iter().flat_map(|current| &current.lost);
        lost.map(|(&node, &over)| (node, over))
    }

    /// Whether a node is away for the cause that others are away for.
    #[must_use]
    pub fn concerns(&self, node: &EntityId) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.failed.contains(node) || current.lost.contains_key(node))
    }

    /// A neighbour failed (`over` is `None`), or a node is reached no more that had been over a neighbour.
    pub(crate) fn gone(
        &mut self,
        now: Instant,
        node: EntityId,
        over: Option<EntityId>,
        around: Around,
    ) -> Option<News> {
        while self.recent.front().is_some_and(|gone| now >= gone.at + TOGETHER) && !mutant!(OutageUncorrelated) {
            self.recent.pop_front();
        }
        if self.recent.len() == MAX_NAMED {
            self.recent.pop_front();
        }
        self.recent.push_back(Gone { at: now, node, over });
        if let Some(current) = &mut self.current {
            // What goes long after the others went has another cause.
            if now < current.latest + TOGETHER {
                current.take(Gone { at: now, node, over }, around);
            }
            return None;
        }
        let failed: BTreeSet<EntityId> = self.named(|gone| gone.over.is_none());
        let lost: BTreeSet<EntityId> = self.named(|gone| gone.over.is_some());
        let many = |some: usize, of: usize| some >= LEAST && some * PART >= of;
        if !many(failed.len(), around.neighbours) && !many(lost.len(), lost.len() + around.reached) {
            return None;
        }
        let mut current = Current {
            summary: Outage {
                since: self.recent.front().map_or(now, |gone| gone.at),
                failed: 0,
                of: around.neighbours,
                lost: 0,
                reached: around.reached + lost.len(),
                scope: Scope::Elsewhere,
            },
            failed: BTreeSet::new(),
            lost: BTreeMap::new(),
            latest: now,
        };
        for gone in &self.recent {
            current.take(*gone, around);
        }
        let summary = current.summary;
        self.current = Some(current);
        Some(News::Began(summary))
    }

    fn named(&self, which: impl Fn(&Gone) -> bool) -> BTreeSet<EntityId> {
        let which = self.recent.iter().filter(|gone| which(gone));
        which.map(|gone| gone.node).collect()
    }

    /// A neighbour counts again, or a node is reached again.
    pub(crate) fn back(&mut self, node: &EntityId, as_neighbour: bool, around: Around) -> Option<News> {
        self.recent
            .retain(|gone| gone.node != *node || gone.over.is_none() != as_neighbour);
        let current = self.current.as_mut()?;
        if as_neighbour {
            current.failed.remove(node);
        } else {
            current.lost.remove(node);
        }
        current.sum_up(around);
        self.end()
    }

    /// When it is forgotten, if nobody comes back; see [`Self::forget`].
    pub(crate) fn ends(&self) -> Option<Instant> {
        Some(self.current.as_ref()?.latest + DISTANCE_MEMORY)
    }

    /// Forgets those who did not come back for so long that their distances are forgotten, too.
    pub(crate) fn forget(&mut self, now: Instant) -> Option<News> {
        if self.ends().is_none_or(|at| now < at) {
            return None;
        }
        let current = self.current.as_mut()?;
        current.failed.clear();
        current.lost.clear();
        self.end()
    }

    fn end(&mut self) -> Option<News> {
        let over = self
            .current
            .take_if(|current| current.failed.is_empty() && current.lost.is_empty())?;
        Some(News::Over(over.summary))
    }

    /// Asserts what must hold between turns.
    pub(crate) fn check(&self) {
        assert!(self.recent.len() <= MAX_NAMED);
        if let Some(current) = &self.current {
            assert!(current.lost.len() <= MAX_NAMED);
            assert!(
                !current.failed.is_empty() || !current.lost.is_empty(),
                "an outage is of somebody"
            );
        }
    }
}

impl Current {
    fn take(&mut self, gone: Gone, around: Around) {
        match gone.over {
            None => {
                self.failed.insert(gone.node);
            }
            Some(over) if self.lost.len() < MAX_NAMED => {
                self.lost.insert(gone.node, over);
            }
            Some(_) => {}
        }
        self.latest = gone.at.max(self.latest);
        self.sum_up(around);
    }

    fn sum_up(&mut self, around: Around) {
        self.summary.failed = self.failed.len();
        self.summary.lost = self.lost.len();
        let mut over = self.lost.values();
        let first = over.next().copied();
        self.summary.scope = match first {
            _ if around.counting == 0 => Scope::Ourselves,
            _ if self.failed.len() > 1 => Scope::Neighbours,
            Some(first) if over.all(|other| *other == first) => Scope::Behind(first),
            Some(_) => Scope::Elsewhere,
            None => Scope::Neighbours,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EntityId {
        EntityId([n; 32])
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn around(counting: usize, reached: usize) -> Around {
        let neighbours = 6;
        Around {
            counting,
            neighbours,
            reached,
        }
    }

    #[test]
    fn nodes_lost_together_behind_one_neighbour_are_one_outage_until_all_are_back() {
        let mut outages = Outages::default();
        assert_eq!(outages.gone(at(0), id(1), Some(id(9)), around(6, 7)), None);
        assert_eq!(outages.gone(at(900), id(2), Some(id(9)), around(6, 6)), None);
        let Some(News::Began(outage)) = outages.gone(at(1_900), id(3), Some(id(9)), around(6, 5)) else {
            panic!("three of eight")
        };
        assert_eq!(
            (outage.lost, outage.reached, outage.scope),
            (3, 8, Scope::Behind(id(9)))
        );
        assert_eq!(outages.gone(at(2_000), id(4), Some(id(8)), around(6, 4)), None);
        assert_eq!(outages.current().map(|outage| outage.scope), Some(Scope::Elsewhere));
        assert!(outages.concerns(&id(4)) && !outages.concerns(&id(5)));
        for n in 1..4 {
            assert_eq!(outages.back(&id(n), false, around(6, 4)), None);
        }
        assert!(matches!(outages.back(&id(4), false, around(6, 8)), Some(News::Over(_))));
        assert_eq!(outages.current(), None);
        outages.check();
    }

    #[test]
    fn failures_far_apart_have_causes_of_their_own() {
        let mut outages = Outages::default();
        for n in 0..6 {
            let news = outages.gone(at(3_100 * u64::from(n)), id(n), None, around(5 - usize::from(n), 3));
            assert_eq!(news, None);
        }
    }

    #[test]
    fn whoever_loses_every_neighbour_looks_at_itself_and_forgets_in_the_end() {
        let mut outages = Outages::default();
        for n in 0..6 {
            outages.gone(at(10), id(n), None, around(5 - usize::from(n), 0));
        }
        let outage = outages.current().expect("all of them");
        assert_eq!((outage.failed, outage.of, outage.scope), (6, 6, Scope::Ourselves));
        outages.gone(at(5_000), id(7), Some(id(1)), around(0, 0));
        assert!(!outages.concerns(&id(7)), "too late to have the same cause");
        assert_eq!(outages.forget(at(180_009)), None);
        assert!(matches!(outages.forget(at(180_010)), Some(News::Over(_))));
        outages.check();
    }
}
