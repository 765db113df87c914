//! Keyed decisions: a fate is a pure function of what it is about, never of what was decided before.
//!
//! Invariants: removing one fault leaves every other decision as it was; no state, integers only.
//! Not here: what is decided (`link.rs`, `disk.rs`).

/// What a decision is about. The numbers are part of every recorded seed: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Family {
    /// How long a datagram travels.
    Delay = 1,
    /// Whether it is lost.
    Loss = 2,
    /// Whether it is held back behind later ones, and how far.
    Reorder = 3,
    /// Whether it arrives twice, and when the second copy does.
    Duplicate = 4,
    /// Whether and how it is damaged.
    Corrupt = 5,
    /// The state of a burst-loss channel.
    Burst = 6,
    /// Disk latency and what a crash leaves of unsynced writes.
    Disk = 7,
    /// How long a job takes.
    Job = 8,
    /// Entropy handed to a node.
    Entropy = 9,
    /// What the applications send, and when.
    Workload = 10,
    /// What an adversary does.
    Adversary = 11,
    /// Literals drawn for the ranges of a specification.
    Resolve = 12,
    /// Which fault families a swarm run omits.
    Swarm = 13,
    /// Payload bytes.
    Payload = 14,
    /// The seed a node is booted with, its identity and its clocks.
    Boot = 15,
    /// Which ports a NAT box gives out.
    Nat = 16,
}

/// Which way a datagram goes on its link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Direction {
    /// From the link's first end to its second.
    Forward = 0,
    /// From its second end to its first.
    Backward = 1,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Bijective finaliser: every input bit changes every output bit with probability one half.
#[inline]
#[must_use]
pub const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The prefix of a family of decisions, absorbed once so that each decision costs one finaliser.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key(u64);

impl Key {
    /// The key of everything under `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x6E65_742D_7369_6D31))
    }

    /// Narrows the key by one more word.
    #[inline]
    #[must_use]
    pub const fn with(self, word: u64) -> Self {
        Self(mix(self.0.rotate_left(23) ^ mix(word.wrapping_add(GOLDEN))))
    }

    /// Narrows the key by text, such as a scenario's name for a fault.
    #[must_use]
    pub fn with_text(self, text: &str) -> Self {
        let hash = blake3::hash(text.as_bytes());
        let mut word = [0; 8];
        word.copy_from_slice(&hash.as_bytes()[..8]);
        self.with(u64::from_le_bytes(word))
    }

    /// The key of one family.
    #[must_use]
    pub const fn family(self, family: Family) -> Self {
        self.with(family as u64)
    }

    /// The key of one direction of one link.
    #[must_use]
    pub const fn link(self, link: u32, direction: Direction) -> Self {
        self.with(((link as u64) << 1) | direction as u64)
    }

    /// 64 uniform bits: decision number `n` under this key.
    #[inline]
    #[must_use]
    pub const fn at(self, n: u64) -> u64 {
        mix(self.0.wrapping_add(n.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// Uniform in `0..bound` (0 where `bound` is 0): decision number `n` under this key.
    #[inline]
    #[must_use]
    pub const fn below(self, n: u64, bound: u64) -> u64 {
        scale(self.at(n), bound)
    }

    /// Whether decision number `n` falls under a probability in parts per billion.
    #[inline]
    #[must_use]
    pub const fn hits(self, n: u64, ppb: u64) -> bool {
        ppb != 0 && hit(self.at(n), ppb)
    }

    /// 32 bytes: block number `n` under this key. Not for real secrets.
    #[must_use]
    pub fn bytes32(self, n: u64) -> [u8; 32] {
        let key = self.with(n);
        let mut out = [0; 32];
        for (index, chunk) in out.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&key.at(index as u64).to_le_bytes());
        }
        out
    }
}

/// `word` scaled from 64 uniform bits to `0..bound`.
#[inline]
#[must_use]
pub const fn scale(word: u64, bound: u64) -> u64 {
    ((word as u128 * bound as u128) >> 64) as u64
}

/// Whether 64 uniform bits fall under a probability in parts per billion.
#[inline]
#[must_use]
pub const fn hit(word: u64, ppb: u64) -> bool {
    scale(word, crate::PPB) < ppb
}

/// The decision of `family` about the `n`-th datagram that `link` was offered in `direction`.
#[must_use]
pub const fn fate(seed: u64, family: Family, link: u32, direction: Direction, n: u64) -> u64 {
    Key::new(seed).family(family).link(link, direction).at(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_changes_the_fate() {
        let base = fate(1, Family::Loss, 2, Direction::Forward, 3);
        assert_eq!(base, fate(1, Family::Loss, 2, Direction::Forward, 3));
        assert_ne!(base, fate(2, Family::Loss, 2, Direction::Forward, 3));
        assert_ne!(base, fate(1, Family::Delay, 2, Direction::Forward, 3));
        assert_ne!(base, fate(1, Family::Loss, 3, Direction::Forward, 3));
        assert_ne!(base, fate(1, Family::Loss, 2, Direction::Backward, 3));
        assert_ne!(base, fate(1, Family::Loss, 2, Direction::Forward, 4));
    }

    #[test]
    fn hits_come_as_often_as_asked() {
        let key = Key::new(9).family(Family::Loss);
        let hits = (0..100_000).filter(|&n| key.hits(n, 100_000_000)).count();
        assert!((9_500..10_500).contains(&hits), "{hits} of 100000 at 10 %");
        assert!((0..1_000).all(|n| key.hits(n, crate::PPB) && !key.hits(n, 0)));
    }

    #[test]
    fn a_recorded_seed_keeps_its_meaning() {
        assert_eq!(fate(42, Family::Loss, 7, Direction::Backward, 1_000), FROZEN);
    }

    /// Changing this number makes every recorded seed mean something else.
    const FROZEN: u64 = 18_432_817_282_039_532_809;
}
