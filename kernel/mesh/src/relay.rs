//! Whose packets are sent on, and how many: relaying is a permission, and every neighbour has its share.
//!
//! Invariants: a neighbour has relayed at most its own rate, and at most an equal part of the whole while others have too;
//! nothing is queued. Not here: whether a packet came from a neighbour (`net-session`), which way it goes (`routes.rs`).

use net_base::map::IdMap;
use net_base::{Duration, Instant, SessionKey, mutant};
use net_wire::{DropReason, RoutingHeader};

/// How much a node sends on for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayLimits {
    /// Bytes a second for one neighbour, at least 16 KiB.
    pub bytes: u64,
    /// Packets a second for one neighbour, at least 16.
    pub packets: u64,
    /// Bytes a second for all of them, at least 16 KiB; divided equally among those that have packets relayed.
    pub total: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            bytes: 1_250_000_000,
            packets: 2_000_000,
            total: 2_500_000_000,
        }
    }
}

impl RelayLimits {
    /// Whether every value is within its limits.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.bytes >= 16 << 10 && self.packets >= 16 && self.total >= 16 << 10
    }
}

/// A neighbour that had nothing relayed for this long takes no part of the whole.
const ACTIVE: Duration = Duration::from_secs(1);
/// What may come at once, as a part of a second.
const BURST: u64 = 8;

/// What one neighbour has left.
#[derive(Clone, Copy, Debug)]
struct Share {
    bytes: u64,
    packets: u64,
    filled: Instant,
}

/// What a node did for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Relayed {
    /// Packets sent on.
    pub packets: u64,
    /// Their bytes, header and trailer included.
    pub bytes: u64,
    /// Packets turned away, for whatever reason.
    pub refused: u64,
}

impl Relayed {
    /// Adds what was done in another life.
    pub const fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.refused += other.refused;
    }
}

/// The shares of all neighbours.
#[derive(Debug)]
pub struct Relay {
    limits: Option<RelayLimits>,
    shares: IdMap<SessionKey, Share>,
    /// Neighbours that had something relayed since `counted`, and in the period before.
    active: (u64, u64),
    counted: Instant,
    relayed: Relayed,
}

impl Relay {
    /// Nothing is relayed where there are no limits.
    #[must_use]
    pub fn new(limits: Option<RelayLimits>) -> Self {
        Self {
            limits,
            shares: IdMap::default(),
            active: (0, 0),
            counted: Instant::ZERO,
            relayed: Relayed::default(),
        }
    }

    /// Whether a packet of `len` bytes that the neighbour `from` handed over is sent on. Answers the header it then has.
    ///
    /// # Errors
    /// `RelayRefused`, `TtlExpired`, `RelayQuota`.
    #[inline]
    pub fn admit(
        &mut self,
        now: Instant,
        from: SessionKey,
        header: &RoutingHeader,
        len: usize,
    ) -> Result<RoutingHeader, DropReason> {
        let limits = self.limits.ok_or(DropReason::RelayRefused)?;
        if header.ttl == 0 {
            return Err(DropReason::TtlExpired);
        }
        self.take(now, from, &limits, len as u64)?;
        Ok(RoutingHeader {
            ttl: if mutant!(RelayTtlKept) {
                header.ttl
            } else {
                header.ttl - 1
            },
            hop_count: header.hop_count.saturating_add(1),
            ..*header
        })
    }

    fn take(&mut self, now: Instant, from: SessionKey, limits: &RelayLimits, len: u64) -> Result<(), DropReason> {
        if now >= self.counted + ACTIVE {
            let idle = now >= self.counted + ACTIVE * 2;
            self.active = (0, if idle { 0 } else { self.active.0 });
            self.counted = now;
        }
        let sharing = self.active.0.max(self.active.1).max(1);
        let rate = limits.bytes.min(limits.total / sharing);
        let share = self.shares.entry(from).or_insert(Share {
            bytes: rate / BURST,
            packets: limits.packets / BURST,
            filled: Instant::ZERO,
        });
        if share.filled < self.counted {
            // Its first packet of this period.
            self.active.0 += 1;
        }
        let passed = now.since(share.filled).as_nanos();
        let earned = |rate: u64| (u128::from(rate) * u128::from(passed) / 1_000_000_000) as u64;
        let (bytes, packets) = (earned(rate), earned(limits.packets));
        // What is earned is a whole number: time is spent only where all of it was worth something.
        if (bytes > 0 && packets > 0) || share.filled < self.counted {
            share.bytes = share.bytes.saturating_add(bytes).min(rate / BURST);
            share.packets = share.packets.saturating_add(packets).min(limits.packets / BURST);
            share.filled = now;
        }
        if share.packets == 0 || share.bytes < len {
            return Err(DropReason::RelayQuota);
        }
        share.packets -= 1;
        share.bytes -= len;
        Ok(())
    }

    /// A packet of `len` bytes was sent on.
    #[inline]
    pub const fn count(&mut self, len: usize) {
        self.relayed.packets += 1;
        self.relayed.bytes += len as u64;
    }

    /// A packet was turned away.
    pub const fn refuse(&mut self) {
        self.relayed.refused += 1;
    }

    /// What was done so far.
    #[must_use]
    pub const fn relayed(&self) -> Relayed {
        self.relayed
    }

    /// A neighbour's session ended.
    pub fn forget(&mut self, session: SessionKey) {
        self.shares.swap_remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RelayLimits = RelayLimits {
        bytes: 1_000_000,
        packets: 10_000,
        total: 1_000_000,
    };

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(10) + Duration::from_millis(millis)
    }

    fn header(ttl: u8) -> RoutingHeader {
        RoutingHeader {
            ttl,
            ..RoutingHeader::default()
        }
    }

    /// Bytes that each of `neighbours` got through in three seconds in which all ask for all they can.
    fn greedy(neighbours: u64) -> alloc::vec::Vec<u64> {
        let mut relay = Relay::new(Some(LIMITS));
        let mut got = alloc::vec![0; neighbours as usize];
        for millis in 0..3_000 {
            for (neighbour, got) in got.iter_mut().enumerate() {
                let from = SessionKey(neighbour as u64);
                while relay.admit(at(millis), from, &header(3), 1_000).is_ok() {
                    *got += 1_000;
                }
            }
        }
        got
    }

    #[test]
    fn nobody_gets_more_than_its_rate_and_all_get_the_same() {
        for neighbours in 1..=4 {
            let got = greedy(neighbours);
            let whole: u64 = got.iter().sum();
            // Three seconds, the bursts, and the first second in which the others were not known yet.
            assert!((2_600_000..=4_600_000).contains(&whole), "{neighbours}: {got:?}");
            let (least, most) = (got.iter().min().copied(), got.iter().max().copied());
            assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 130_000, "{got:?}");
        }
    }

    #[test]
    fn a_packet_takes_as_many_hops_as_it_may_and_counts_them() {
        let mut relay = Relay::new(Some(LIMITS));
        let next = relay.admit(at(0), SessionKey(1), &header(2), 100).expect("sent on");
        assert_eq!((next.ttl, next.hop_count), (1, 1));
        let last = relay.admit(at(0), SessionKey(1), &next, 100).expect("sent on");
        assert_eq!((last.ttl, last.hop_count), (0, 2));
        assert_eq!(
            relay.admit(at(0), SessionKey(1), &last, 100),
            Err(DropReason::TtlExpired)
        );
    }

    #[test]
    fn who_does_not_relay_says_so() {
        let mut relay = Relay::new(None);
        assert_eq!(
            relay.admit(at(0), SessionKey(1), &header(9), 100),
            Err(DropReason::RelayRefused)
        );
    }
}
