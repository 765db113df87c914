//! Which packets of the peer arrived, and when to say so (RFC 9000 section 13.2).
//!
//! Invariants: at most [`MAX_RANGES`] ranges, disjoint and not adjacent; the oldest is forgotten first.
//! Not here: the encoding of an ack (`net-wire`), refusing replays (`replay.rs`).

use alloc::collections::VecDeque;
use net_base::{Duration, Instant, mutant};

/// Ranges kept and reported; older ones are forgotten.
pub const MAX_RANGES: usize = 64;
/// RFC 9000 section 13.2.2.
const ELICITING_THRESHOLD: u32 = 2;

/// The ECN field of a datagram's IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EcnMark {
    /// Not ECN-capable.
    #[default]
    NotEct,
    /// ECT(0).
    Ect0,
    /// ECT(1).
    Ect1,
    /// Congestion experienced.
    Ce,
}

/// Packets that arrived with each mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EcnCounts {
    /// ECT(0).
    pub ect0: u64,
    /// ECT(1).
    pub ect1: u64,
    /// Congestion experienced.
    pub ce: u64,
}

/// What a packet number was to the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Not seen before.
    New,
    /// In the set already.
    Duplicate,
    /// Older than everything kept while the set is full: not recorded, so it will not be acknowledged.
    Forgotten,
}

/// The received packet numbers and the ack that is owed for them.
#[derive(Clone, Debug)]
pub struct Received {
    /// (lowest, highest), newest at the back.
    ranges: VecDeque<(u64, u64)>,
    max_ack_delay: Duration,
    largest_at: Instant,
    largest_eliciting: Option<u64>,
    eliciting: u32,
    /// Arrival of the first ack-eliciting packet since the last ack.
    owed_since: Option<Instant>,
    at_once: bool,
    ecn: EcnCounts,
}

impl Received {
    /// Nothing received; acks are delayed by at most `max_ack_delay`.
    #[must_use]
    pub fn new(max_ack_delay: Duration) -> Self {
        Self {
            ranges: VecDeque::new(),
            max_ack_delay,
            largest_at: Instant::ZERO,
            largest_eliciting: None,
            eliciting: 0,
            owed_since: None,
            at_once: false,
            ecn: EcnCounts::default(),
        }
    }

    /// An authenticated packet arrived. Anything but [`Arrival::New`] changes nothing.
    pub fn insert(&mut self, number: u64, now: Instant, ack_eliciting: bool, ecn: EcnMark) -> Arrival {
        let before = self.largest();
        let arrival = self.record(number);
        if arrival != Arrival::New {
            return arrival;
        }
        if before.is_none_or(|largest| number > largest) {
            self.largest_at = now;
        }
        match ecn {
            EcnMark::NotEct => {}
            EcnMark::Ect0 => self.ecn.ect0 += 1,
            EcnMark::Ect1 => self.ecn.ect1 += 1,
            EcnMark::Ce => self.ecn.ce += 1,
        }
        if ack_eliciting {
            self.owed_since.get_or_insert(now);
            self.eliciting += 1;
            // RFC 9000 section 13.2.1: reordering, a new gap and a congestion mark are news at once.
            let behind = self.largest_eliciting.is_some_and(|largest| number < largest);
            let gap = before.is_some_and(|largest| number > largest + 1);
            self.at_once |= behind || gap || ecn == EcnMark::Ce;
            self.largest_eliciting = self.largest_eliciting.max(Some(number));
        }
        arrival
    }

    /// The received numbers as (lowest, highest), from the highest down.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + Clone + '_ {
        self.ranges.iter().rev().copied()
    }

    /// The highest number received.
    #[must_use]
    pub fn largest(&self) -> Option<u64> {
        self.ranges.back().map(|&(_, high)| high)
    }

    /// Marks counted so far.
    #[must_use]
    pub const fn ecn(&self) -> EcnCounts {
        self.ecn
    }

    /// Whether an ack would tell the peer something it waits for: worth adding to a packet that leaves
    /// anyway.
    #[must_use]
    pub const fn ack_owed(&self) -> bool {
        self.owed_since.is_some()
    }

    /// Whether an ack must leave now, with other frames or alone.
    #[must_use]
    pub fn ack_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// When an ack must leave at the latest; in the past if at once.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let since = self.owed_since?;
        let at_once = self.at_once || self.eliciting >= ELICITING_THRESHOLD;
        Some(if at_once { since } else { since + self.max_ack_delay })
    }

    /// How long ago the highest number arrived: the delay field of an ack.
    #[must_use]
    pub const fn delay(&self, now: Instant) -> Duration {
        now.since(self.largest_at)
    }

    /// An ack with all ranges left.
    pub fn on_ack_sent(&mut self) {
        self.eliciting = 0;
        self.owed_since = None;
        self.at_once = false;
    }

    /// What was told of late may be lost: an ack is owed at once, where anything ever arrived.
    pub fn owe_again(&mut self, now: Instant) {
        if !self.ranges.is_empty() {
            self.owed_since = Some(now);
            self.at_once = true;
        }
    }

    /// The peer has seen an ack of ours whose highest number was `largest`: what lies below needs no
    /// telling again (RFC 9000 section 13.2.4). The highest number itself is kept, so that an ack can be
    /// formed at any time.
    pub fn on_ack_of_ack(&mut self, largest: u64) {
        let Some(top) = self.largest() else { return };
        let floor = largest.min(top);
        while let Some(front) = self.ranges.front_mut() {
            if front.1 < floor {
                self.ranges.pop_front();
            } else {
                front.0 = front.0.max(floor);
                return;
            }
        }
    }

    fn record(&mut self, number: u64) -> Arrival {
        match self.ranges.back_mut() {
            // The fast path: next in order.
            Some(back) if number == back.1.wrapping_add(1) && number != 0 => {
                back.1 = number;
                return Arrival::New;
            }
            Some(back) if number > back.1 => self.ranges.push_back((number, number)),
            Some(_) => return self.record_below(number),
            None => self.ranges.push_back((number, number)),
        }
        if self.ranges.len() > MAX_RANGES {
            self.ranges.pop_front();
        }
        Arrival::New
    }

    /// Records a number below the highest one.
    fn record_below(&mut self, number: u64) -> Arrival {
        // The first range that ends at or after the number; there is one, as the last does.
        let index = self.ranges.partition_point(|&(_, high)| high < number);
        let (low, high) = self.ranges[index];
        if number >= low {
            return Arrival::Duplicate;
        }
        let joins_below = index > 0 && self.ranges[index - 1].1 + 1 == number;
        let joins_above = number + 1 == low || (mutant!(AckFillsHole) && number + 2 == low);
        match (joins_below, joins_above) {
            (true, true) => {
                self.ranges[index - 1].1 = high;
                self.ranges.remove(index);
            }
            (true, false) => self.ranges[index - 1].1 = number,
            (false, true) => self.ranges[index].0 = number,
            (false, false) => {
                if self.ranges.len() == MAX_RANGES {
                    if index == 0 {
                        return Arrival::Forgotten;
                    }
                    self.ranges.pop_front();
                    self.ranges.insert(index - 1, (number, number));
                } else {
                    self.ranges.insert(index, (number, number));
                }
            }
        }
        Arrival::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const DELAY: Duration = Duration::from_millis(25);

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn set(numbers: &[u64]) -> Received {
        let mut received = Received::new(DELAY);
        for &number in numbers {
            received.insert(number, at(0), false, EcnMark::NotEct);
        }
        received
    }

    fn ranges(received: &Received) -> Vec<(u64, u64)> {
        received.ranges().collect()
    }

    #[test]
    fn ranges_join_and_descend() {
        type Joined = (&'static [u64], &'static [(u64, u64)]);
        let cases: [Joined; 6] = [
            (&[0, 1, 2], &[(0, 2)]),
            (&[0, 2, 1], &[(0, 2)]),
            (&[5, 3, 9], &[(9, 9), (5, 5), (3, 3)]),
            (&[5, 7, 6], &[(5, 7)]),
            (&[10, 4, 5, 9, 3], &[(9, 10), (3, 5)]),
            (&[u64::MAX - 1, 0], &[(u64::MAX - 1, u64::MAX - 1), (0, 0)]),
        ];
        for (numbers, expected) in cases {
            assert_eq!(ranges(&set(numbers)), expected, "{numbers:?}");
        }
    }

    #[test]
    fn duplicates_change_nothing() {
        let mut received = set(&[1, 2, 5]);
        received.on_ack_sent();
        for number in [1, 2, 5] {
            assert_eq!(received.insert(number, at(9), true, EcnMark::Ce), Arrival::Duplicate);
        }
        assert_eq!(
            (received.ack_owed(), received.ecn(), received.delay(at(9))),
            (
                false,
                EcnCounts::default(),
                DELAY.saturating_sub(Duration::from_millis(16))
            )
        );
    }

    #[test]
    fn the_oldest_ranges_are_forgotten_first() {
        let mut received = Received::new(DELAY);
        for number in 0..200 {
            received.insert(number * 2 + 2, at(0), true, EcnMark::NotEct);
        }
        assert_eq!(received.ranges().len(), MAX_RANGES);
        assert_eq!(
            (received.ranges().next(), received.ranges().last()),
            (Some((400, 400)), Some((274, 274)))
        );
        assert_eq!(received.insert(1, at(0), true, EcnMark::NotEct), Arrival::Forgotten);
        assert_eq!(received.insert(399, at(0), true, EcnMark::NotEct), Arrival::New);
        assert_eq!(received.ranges().len(), MAX_RANGES - 1);
    }

    #[test]
    fn a_late_packet_in_a_full_set_takes_the_place_of_the_oldest_range() {
        let mut received = Received::new(DELAY);
        for number in 0..64 {
            received.insert(number * 4 + 4, at(0), true, EcnMark::NotEct);
        }
        assert_eq!(received.insert(250, at(0), true, EcnMark::NotEct), Arrival::New);
        let ranges = ranges(&received);
        assert_eq!(
            (ranges.len(), ranges[..3].to_vec(), ranges[63]),
            (64, [(256, 256), (252, 252), (250, 250)].to_vec(), (8, 8))
        );
    }

    /// (number, ack-eliciting, mark, when) each, then the deadline expected.
    type Case = (&'static [(u64, bool, EcnMark, u64)], Option<u64>);

    #[test]
    fn acks_wait_unless_there_is_news() {
        use EcnMark::{Ce, Ect0, NotEct};
        let cases: [Case; 9] = [
            (&[(0, false, NotEct, 0)], None),
            (&[(0, true, NotEct, 3)], Some(28)),
            (&[(0, true, Ect0, 3), (1, false, Ect0, 4)], Some(28)),
            (&[(0, true, NotEct, 3), (1, true, NotEct, 4)], Some(3)),
            (&[(0, true, Ce, 3)], Some(3)),
            // A gap, a number that fills one, and a passive packet that does neither.
            (&[(0, false, NotEct, 3), (2, true, NotEct, 4)], Some(4)),
            (&[(2, true, NotEct, 3), (1, true, NotEct, 4)], Some(3)),
            (&[(0, false, NotEct, 0), (2, false, NotEct, 3)], None),
            (&[(2, false, NotEct, 3), (1, true, NotEct, 4)], Some(29)),
        ];
        for (packets, expected) in cases {
            let mut received = Received::new(DELAY);
            for &(number, eliciting, ecn, ms) in packets {
                received.insert(number, at(ms), eliciting, ecn);
            }
            assert_eq!(received.deadline(), expected.map(at), "{packets:?}");
            assert_eq!(received.ack_owed(), expected.is_some());
            if let Some(ms) = expected {
                assert!(received.ack_due(at(ms)) && !received.ack_due(at(ms - 1)));
            }
            received.on_ack_sent();
            assert_eq!((received.deadline(), received.ack_due(at(1_000))), (None, false));
        }
    }

    #[test]
    fn the_delay_counts_from_the_highest_packet_and_marks_are_counted() {
        let mut received = Received::new(DELAY);
        received.insert(5, at(10), true, EcnMark::Ect0);
        received.insert(4, at(20), true, EcnMark::Ect1);
        received.insert(3, at(20), true, EcnMark::Ce);
        assert_eq!(received.delay(at(30)), Duration::from_millis(20));
        assert_eq!(
            received.ecn(),
            EcnCounts {
                ect0: 1,
                ect1: 1,
                ce: 1
            }
        );
    }

    #[test]
    fn what_the_peer_knows_is_told_no_more() {
        // (acknowledged ack's highest number, ranges left of 1..=3, 5..=9, 12..=12)
        let cases: [(u64, &[(u64, u64)]); 5] = [
            (0, &[(12, 12), (5, 9), (1, 3)]),
            (3, &[(12, 12), (5, 9), (3, 3)]),
            (7, &[(12, 12), (7, 9)]),
            (12, &[(12, 12)]),
            (u64::MAX, &[(12, 12)]),
        ];
        for (largest, expected) in cases {
            let mut received = set(&[1, 2, 3, 5, 6, 7, 8, 9, 12]);
            received.on_ack_of_ack(largest);
            assert_eq!(ranges(&received), expected, "ack of {largest}");
        }
        let mut empty = Received::new(DELAY);
        empty.on_ack_of_ack(3);
        assert_eq!(empty.largest(), None);
    }

    proptest! {
        #[test]
        fn the_set_is_exact_while_it_has_few_ranges(numbers in proptest::collection::vec(0u64..120, 0..200)) {
            let mut received = Received::new(DELAY);
            let mut model = BTreeSet::new();
            for number in numbers {
                let arrival = received.insert(number, at(0), true, EcnMark::NotEct);
                prop_assert_eq!(arrival == Arrival::New, model.insert(number));
                let told: Vec<u64> = received.ranges().flat_map(|(low, high)| (low..=high).rev()).collect();
                let known: Vec<u64> = model.iter().rev().copied().collect();
                prop_assert_eq!(told, known);
                let ranges = ranges(&received);
                prop_assert!(ranges.windows(2).all(|pair| pair[1].1 + 1 < pair[0].0), "apart and descending");
            }
        }

        #[test]
        fn it_never_claims_what_did_not_arrive(steps in proptest::collection::vec((0u64..2_000, any::<bool>()), 0..400)) {
            let mut received = Received::new(DELAY);
            let mut model = BTreeSet::new();
            for (number, prune) in steps {
                received.insert(number, at(0), true, EcnMark::NotEct);
                model.insert(number);
                if prune && number % 50 == 0 {
                    received.on_ack_of_ack(number);
                }
                prop_assert!(received.ranges().len() <= MAX_RANGES);
                prop_assert_eq!(received.largest(), model.last().copied());
                for (low, high) in received.ranges() {
                    prop_assert_eq!(model.range(low..=high).count() as u64, high - low + 1);
                }
            }
        }
    }
}
