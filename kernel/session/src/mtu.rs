//! Finds the largest datagram a path carries (RFC 8899, DPLPMTUD) and notices when it shrinks.
//!
//! Invariants: the current size lies between base and maximum and was acknowledged on this path (or is the
//! base); at most one probe is under way; a search of the whole range takes at most a dozen probes.
//! Not here: which packets are lost (`recovery/`), the probe's contents.

use net_base::{Duration, Instant, mutant};

/// RFC 8899 section 5.1.2, MAX_PROBES.
const MAX_PROBES: u8 = 3;
/// The search ends when the answer is known to this many bytes.
const PRECISION: u16 = 20;
/// Rounds of losses of large packets alone that make a black hole.
const BLACK_HOLE_ROUNDS: u8 = 3;

/// Sizes in bytes of UDP payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MtuConfig {
    /// Works on every path; never probed.
    pub base: u16,
    /// The largest size ever tried; also the first one.
    pub max: u16,
    /// Time after a search ended short of `max` until the next (RFC 8899 section 5.1.1, PMTU_RAISE_TIMER).
    pub raise: Duration,
    /// Time after a black hole until the next search.
    pub cooldown: Duration,
}

impl Default for MtuConfig {
    fn default() -> Self {
        Self {
            base: 1_200,
            max: 1_452,
            raise: Duration::from_secs(600),
            cooldown: Duration::from_secs(60),
        }
    }
}

/// Where the search stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Search {
    /// The answer is at least `current` and below `ceiling`; `probe` is tried next or now.
    Searching {
        ceiling: u16,
        probe: u16,
        failures: u8,
        under_way: Option<u64>,
    },
    /// Done until then.
    Resting { until: Instant },
    /// Done for good: the maximum works.
    Complete,
}

/// Evidence for a black hole: large packets vanish while small ones arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Suspicion {
    rounds: u8,
    last_round: Option<Instant>,
    small_passed: bool,
}

/// The path MTU of one path.
#[derive(Clone, Debug)]
pub struct Mtu {
    config: MtuConfig,
    current: u16,
    search: Search,
    suspicion: Suspicion,
    black_holes: u64,
    overhead: u16,
}

impl Mtu {
    /// Starts at the base size and searches upward at once. A maximum below the base counts as the base.
    #[must_use]
    pub fn new(config: MtuConfig) -> Self {
        let config = MtuConfig {
            max: config.max.max(config.base),
            ..config
        };
        let current = config.base;
        let mut mtu = Self {
            config,
            current,
            search: Search::Complete,
            suspicion: Suspicion::default(),
            black_holes: 0,
            overhead: 0,
        };
        mtu.begin_search();
        mtu
    }

    /// The largest datagram that may carry data now.
    #[must_use]
    pub const fn current(&self) -> u16 {
        self.current
    }

    /// Size of the probe to send now, if any.
    pub fn probe_due(&mut self, now: Instant) -> Option<u16> {
        if let Search::Resting { until } = self.search
            && until <= now
        {
            self.begin_search();
        }
        match self.search {
            Search::Searching {
                probe, under_way: None, ..
            } => Some(probe),
            Search::Searching { .. } | Search::Resting { .. } | Search::Complete => None,
        }
    }

    /// When the next search begins. It stays until [`Self::probe_due`] is called at or after it, so an owner
    /// that is idle then calls that too and sends the probe when it sends again.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        match self.search {
            Search::Resting { until } => Some(until),
            Search::Searching { .. } | Search::Complete => None,
        }
    }

    /// The probe of the size [`Self::probe_due`] gave left as packet `number`.
    pub fn on_probe_sent(&mut self, number: u64) {
        if let Search::Searching { under_way, .. } = &mut self.search {
            *under_way = Some(number);
        }
    }

    /// Probe `number` arrived: `Some(new size)` if the path is now known to carry more.
    pub fn on_probe_acked(&mut self, now: Instant, number: u64) -> Option<u16> {
        let Search::Searching {
            ceiling,
            probe,
            under_way: Some(expected),
            ..
        } = self.search
        else {
            return None;
        };
        if expected != number {
            return None;
        }
        self.current = probe;
        self.suspicion = Suspicion::default();
        self.narrow(now, ceiling);
        Some(probe)
    }

    /// Probe `number` was lost. Three losses of one size mean that it does not fit.
    pub fn on_probe_lost(&mut self, now: Instant, number: u64) {
        let Search::Searching {
            ceiling,
            probe,
            failures,
            under_way: Some(expected),
        } = self.search
        else {
            return;
        };
        if expected != number {
            return;
        }
        if failures + 1 < MAX_PROBES {
            self.search = Search::Searching {
                ceiling,
                probe,
                failures: failures + 1,
                under_way: None,
            };
        } else {
            self.narrow(now, probe);
        }
    }

    /// A packet of `bytes` that was no probe was acknowledged.
    pub fn on_packet_acked(&mut self, bytes: u16) {
        if bytes > self.config.base {
            self.suspicion = Suspicion::default();
        } else if self.suspicion.rounds > 0 {
            self.suspicion.small_passed = true;
        }
    }

    /// A packet of `bytes` that was no probe was lost. True if this shows a black hole: the size is back
    /// at the base and everything larger must be cut again.
    pub fn on_packet_lost(&mut self, now: Instant, bytes: u16) -> bool {
        if bytes <= self.config.base || self.current == self.config.base {
            return false;
        }
        if self.suspicion.last_round != Some(now) {
            self.suspicion.rounds = self.suspicion.rounds.saturating_add(1);
            self.suspicion.last_round = Some(now);
        }
        if self.suspicion.rounds < BLACK_HOLE_ROUNDS || !self.suspicion.small_passed {
            return false;
        }
        if !mutant!(BlackHoleUnseen) {
            self.current = self.config.base;
        }
        self.suspicion = Suspicion::default();
        self.search = Search::Resting {
            until: now + self.config.cooldown,
        };
        self.black_holes += 1;
        true
    }

    /// How long a probe of a probe timeout may be. From the second timeout in a row on it is a small one:
    /// if that arrives where large ones vanished, the loss has a cause.
    #[must_use]
    pub fn pto_size(&self, count: u32) -> u16 {
        if count <= 1 || mutant!(ProbeStaysLarge) {
            self.current
        } else {
            self.config.base
        }
    }

    /// The size that works on every path.
    #[must_use]
    pub const fn base(&self) -> u16 {
        self.config.base
    }

    /// On the paths from now on, this many bytes of every datagram are somebody else's: a relay's header and trailer.
    /// Follow it with [`Self::reset`].
    pub const fn set_overhead(&mut self, bytes: u16) {
        self.config.base = self.config.base + self.overhead - bytes;
        self.config.max = self.config.max + self.overhead - bytes;
        self.overhead = bytes;
    }

    /// Black holes found so far, on any path.
    #[must_use]
    pub const fn black_holes(&self) -> u64 {
        self.black_holes
    }

    /// A new path: back to the base, and search at once. Probes under way no longer count.
    pub fn reset(&mut self) {
        self.current = self.config.base;
        self.suspicion = Suspicion::default();
        self.begin_search();
    }

    /// The maximum first: on most paths it is the answer, in one round trip.
    fn begin_search(&mut self) {
        let MtuConfig { max, .. } = self.config;
        self.search = if self.current == max {
            Search::Complete
        } else {
            Search::Searching {
                ceiling: max.saturating_add(1),
                probe: max,
                failures: 0,
                under_way: None,
            }
        };
    }

    /// Continues between the current size and `ceiling`, the smallest that does not fit.
    fn narrow(&mut self, now: Instant, ceiling: u16) {
        let gap = ceiling - self.current;
        self.search = if self.current == self.config.max {
            Search::Complete
        } else if gap <= PRECISION {
            Search::Resting {
                until: now + self.config.raise,
            }
        } else {
            Search::Searching {
                ceiling,
                probe: self.current + gap / 2,
                failures: 0,
                under_way: None,
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// Runs a search over a path that carries `limit` bytes; returns the probes sent.
    fn search(mtu: &mut Mtu, now: Instant, limit: u16, number: &mut u64) -> Vec<u16> {
        let mut probes = Vec::new();
        while let Some(size) = mtu.probe_due(now) {
            probes.push(size);
            mtu.on_probe_sent(*number);
            assert_eq!(mtu.probe_due(now), None, "one probe at a time");
            if size <= limit {
                assert_eq!(mtu.on_probe_acked(now, *number), Some(size));
            } else {
                mtu.on_probe_lost(now, *number);
            }
            *number += 1;
        }
        probes
    }

    #[test]
    fn an_ordinary_path_needs_one_probe() {
        let mut mtu = Mtu::new(MtuConfig::default());
        assert_eq!(mtu.current(), 1_200);
        assert_eq!(search(&mut mtu, at(0), 9_000, &mut 0), [1_452]);
        assert_eq!((mtu.current(), mtu.deadline()), (1_452, None));
    }

    #[test]
    fn a_narrow_path_is_found_and_tried_again_later() {
        let mut mtu = Mtu::new(MtuConfig::default());
        let mut number = 0;
        let probes = search(&mut mtu, at(0), 1_400, &mut number);
        assert_eq!(probes[..4], [1_452, 1_452, 1_452, 1_326]);
        assert!(mtu.current() <= 1_400 && mtu.current() > 1_380, "{}", mtu.current());
        assert_eq!(mtu.deadline(), Some(at(600)));
        assert_eq!(mtu.probe_due(at(599)), None);
        assert_eq!(search(&mut mtu, at(600), 9_000, &mut number)[0], 1_452);
        assert_eq!(mtu.current(), 1_452);
    }

    #[test]
    fn one_or_two_lost_probes_do_not_settle_the_matter() {
        let mut mtu = Mtu::new(MtuConfig::default());
        for number in 0..2 {
            assert_eq!(mtu.probe_due(at(0)), Some(1_452));
            mtu.on_probe_sent(number);
            mtu.on_probe_lost(at(0), number);
        }
        mtu.on_probe_sent(2);
        assert_eq!(mtu.on_probe_acked(at(0), 1), None, "another packet's ack");
        assert_eq!(mtu.on_probe_acked(at(0), 2), Some(1_452));
    }

    fn wide() -> Mtu {
        let mut mtu = Mtu::new(MtuConfig::default());
        search(&mut mtu, at(0), 1_452, &mut 0);
        mtu
    }

    #[test]
    fn large_packets_alone_vanishing_is_a_black_hole() {
        let mut mtu = wide();
        assert!(!mtu.on_packet_lost(at(1), 1_452));
        assert!(!mtu.on_packet_lost(at(1), 1_452), "one round");
        mtu.on_packet_acked(1_200);
        assert!(!mtu.on_packet_lost(at(2), 1_452));
        assert!(mtu.on_packet_lost(at(3), 1_452));
        assert_eq!(
            (mtu.current(), mtu.black_holes(), mtu.deadline()),
            (1_200, 1, Some(at(63)))
        );
        assert_eq!(mtu.probe_due(at(62)), None);
        assert_eq!(mtu.probe_due(at(63)), Some(1_452));
    }

    #[test]
    fn ordinary_loss_is_no_black_hole() {
        // (what happens, in order): 'L' a large packet lost, 'l' a small one lost, 'A' a large one
        // acknowledged, 'a' a small one acknowledged.
        for story in ["LLLLLLLL", "lllalllal", "LaLALaLALaLA", "aaaaLLLL", "LLLLA"] {
            let mut mtu = wide();
            for (second, event) in (1..).zip(story.chars()) {
                match event {
                    'L' => assert!(!mtu.on_packet_lost(at(second), 1_452), "{story}"),
                    'l' => assert!(!mtu.on_packet_lost(at(second), 1_000), "{story}"),
                    'A' => mtu.on_packet_acked(1_452),
                    _ => mtu.on_packet_acked(300),
                }
            }
            assert_eq!(mtu.current(), 1_452, "{story}");
        }
    }

    #[test]
    fn a_new_path_starts_at_the_base_and_forgets_probes_under_way() {
        let mut mtu = wide();
        mtu.reset();
        assert_eq!((mtu.current(), mtu.probe_due(at(1))), (1_200, Some(1_452)));
        mtu.on_probe_sent(7);
        mtu.reset();
        assert_eq!(mtu.on_probe_acked(at(2), 7), None);
        assert_eq!(mtu.current(), 1_200);
        assert_eq!((mtu.pto_size(1), mtu.pto_size(2)), (1_200, 1_200));
        let mtu = wide();
        assert_eq!((mtu.pto_size(1), mtu.pto_size(2)), (1_452, 1_200));
    }

    #[test]
    fn a_maximum_at_or_below_the_base_needs_no_search() {
        for max in [0, 1_200] {
            let mut mtu = Mtu::new(MtuConfig {
                max,
                ..MtuConfig::default()
            });
            assert_eq!(
                (mtu.current(), mtu.probe_due(at(0)), mtu.deadline()),
                (1_200, None, None)
            );
        }
    }

    proptest! {
        #[test]
        fn any_search_ends_close_to_the_limit(limit in 1_200u16..=u16::MAX, max in 1_200u16..=u16::MAX) {
            let mut mtu = Mtu::new(MtuConfig { max, ..MtuConfig::default() });
            let probes = search(&mut mtu, at(0), limit, &mut 0);
            let best = limit.min(max);
            prop_assert!(mtu.current() <= best && best - mtu.current() < PRECISION);
            prop_assert!(probes.len() <= 3 * 14, "{} probes", probes.len());
        }
    }
}
