//! Counts of what peers' bytes were refused for.
//!
//! Invariants: counts only grow. Not here: the reasons (`net-wire`).

use core::fmt;

use net_wire::DropReason;

/// Counts of refused datagrams and frames by reason, since boot.
#[derive(Clone, PartialEq, Eq)]
pub struct Drops([u64; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl Drops {
    /// How often this happened.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason.as_index()]
    }

    /// One more.
    pub fn count(&mut self, reason: DropReason) {
        let slot = &mut self.0[reason.as_index()];
        *slot = slot.saturating_add(1);
    }

    /// Adds another table.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// Those that happened, with their counts.
    pub fn nonzero(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.get(reason)))
            .filter(|&(_, count)| count > 0)
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.nonzero().map(|(reason, count)| (reason.name(), count)))
            .finish()
    }
}
