//! Which packets of the peer arrived, and when to say so (RFC 9000 section 13.2).
//!
//! Invariants: at most [`MAX_RANGES`] ranges, disjoint and not adjacent; the oldest is forgotten first.
//! Not here: the encoding of an ack (`net-wire`), refusing replays (`replay.rs`).

use alloc::collections::VecDeque;
use net_base::{Duration, Instant};

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
            ranges: VecDeque::with_capacity(MAX_RANGES + 1),
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
        let joins_above = number + 1 == low;
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
