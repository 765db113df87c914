//! Spreads a window over its round trip: a token bucket in bytes (RFC 9002 section 7.7).
//!
//! Invariants: the bucket never holds more than one burst; a burst is at least ten packets (fewer where the owner asks for that) and, beyond
//! that, what the rate yields in two milliseconds, so that a coarse timer still reaches the rate and
//! fast paths fill whole GSO batches; it is never more than the window.
//! Not here: the window itself (`congestion.rs`).

use net_base::{Duration, Instant};

use super::congestion::divisor;

/// Packets that may always leave together (the initial window of RFC 9002 section 7.2).
pub const BURST_PACKETS: u64 = 10;
/// How much time's worth of tokens the bucket holds.
const BURST: Duration = Duration::from_millis(2);

/// The rate a pacer follows; recomputed by its owner whenever window or round-trip time change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacingRate {
    /// Congestion window in bytes.
    pub window: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Slow start doubles the rate instead of adding a quarter.
    pub slow_start: bool,
    /// Largest datagram in bytes.
    pub packet: u64,
    /// Packets that may leave together at any rate, at most [`BURST_PACKETS`].
    pub together: u64,
}

impl PacingRate {
    /// Bytes that may leave in `span`, saturating.
    fn bytes_in(&self, span: Duration) -> u64 {
        let (numerator, denominator) = self.gain();
        let wide = u128::from(span.as_nanos()) * u128::from(self.window) * numerator;
        u64::try_from(wide / (u128::from(divisor(self.rtt)) * denominator)).unwrap_or(u64::MAX)
    }

    /// Time in which `bytes` become available, rounded up.
    fn time_for(&self, bytes: u64) -> Duration {
        let (numerator, denominator) = self.gain();
        let wide = u128::from(bytes) * u128::from(divisor(self.rtt)) * denominator;
        let span = wide.div_ceil(u128::from(self.window.max(1)) * numerator);
        Duration::from_nanos(u64::try_from(span).unwrap_or(u64::MAX))
    }

    fn gain(&self) -> (u128, u128) {
        if self.slow_start { (2, 1) } else { (5, 4) }
    }

    fn burst(&self) -> u64 {
        self.bytes_in(BURST).min(self.window).max(self.packet * self.together)
    }
}

/// A token bucket refilled at the pacing rate.
#[derive(Clone, Debug)]
pub struct Pacer {
    tokens: u64,
    refilled: Instant,
    /// The rate last used and its burst; `None` until first used, when the bucket counts as full.
    burst: Option<(PacingRate, u64)>,
}

impl Pacer {
    /// A full bucket.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            tokens: 0,
            refilled: now,
            burst: None,
        }
    }

    /// `None` when `bytes` may leave now, otherwise when to ask again: once half a burst (or `bytes`,
    /// if more) is there, so that a sender wakes for batches and not for single packets.
    pub fn ready(&mut self, now: Instant, bytes: u64, rate: &PacingRate) -> Option<Instant> {
        let burst = self.refill(now, rate);
        let bytes = bytes.min(burst);
        if self.tokens >= bytes {
            return None;
        }
        Some(now + rate.time_for(bytes.max(burst / 2) - self.tokens))
    }

    /// `bytes` left; probes may overdraw, which empties the bucket.
    pub fn on_sent(&mut self, now: Instant, bytes: u64, rate: &PacingRate) {
        self.refill(now, rate);
        self.tokens = self.tokens.saturating_sub(bytes);
    }

    /// A new path starts with a full bucket.
    pub fn reset(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Adds what the time since the last call was worth and returns the size of a burst.
    fn refill(&mut self, now: Instant, rate: &PacingRate) -> u64 {
        let Some((known, mut burst)) = self.burst else {
            let burst = rate.burst();
            *self = Self {
                tokens: burst,
                refilled: now,
                burst: Some((*rate, burst)),
            };
            return burst;
        };
        if known != *rate {
            burst = rate.burst();
            self.burst = Some((*rate, burst));
            self.tokens = self.tokens.min(burst);
        }
        if now > self.refilled {
            let gained = rate.bytes_in(now.since(self.refilled));
            // Time too short for a single byte stays uncounted until it is worth one.
            if gained > 0 {
                self.tokens = self.tokens.saturating_add(gained).min(burst);
                self.refilled = now;
            }
        }
        burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(window: u64, rtt_us: u64, slow_start: bool) -> PacingRate {
        PacingRate {
            window,
            rtt: Duration::from_micros(rtt_us),
            slow_start,
            packet: 1_200,
            together: BURST_PACKETS,
        }
    }

    /// Sends packets of 1,200 B whenever allowed until `until`; returns bytes and number of wake-ups.
    fn drive(pacer: &mut Pacer, rate: &PacingRate, until: Instant) -> (u64, u64) {
        let (mut now, mut bytes, mut wakes) = (Instant::ZERO, 0, 0);
        while now < until {
            match pacer.ready(now, 1_200, rate) {
                None => {
                    pacer.on_sent(now, 1_200, rate);
                    bytes += 1_200;
                }
                Some(next) => {
                    assert!(next > now, "a deadline lies ahead");
                    now = next;
                    wakes += 1;
                }
            }
        }
        (bytes, wakes)
    }

    #[test]
    fn the_long_run_rate_is_the_window_per_round_trip_times_the_gain() {
        // (window, round trip in us, slow start, bytes per second)
        let cases = [
            (120_000, 100_000, false, 1_500_000),
            (120_000, 100_000, true, 2_400_000),
            (12_000, 333_000, false, 45_045),
            (10_000_000, 20_000, false, 625_000_000),
        ];
        for (window, rtt_us, slow_start, expected) in cases {
            let rate = rate(window, rtt_us, slow_start);
            let mut pacer = Pacer::new(Instant::ZERO);
            let seconds = 4;
            let (bytes, wakes) = drive(&mut pacer, &rate, Instant::ZERO + Duration::from_secs(seconds));
            let rate_seen = (bytes - rate.burst()) / seconds;
            assert!(
                rate_seen.abs_diff(expected) <= expected / 50 + 2_400,
                "{rate:?}: {rate_seen} B/s"
            );
            assert!(wakes <= 4_100, "{rate:?}: {wakes} wake-ups");
        }
    }

    #[test]
    fn bursts_are_bounded_below_by_ten_packets_and_above_by_the_window() {
        // (window, round trip in us, burst)
        let cases = [
            (12_000, 100_000, 12_000),
            (2_400, 100_000, 12_000),
            (1_000_000, 100_000, 25_000),
            (10_000_000, 20_000, 1_250_000),
            (200_000, 100, 200_000),
        ];
        for (window, rtt_us, burst) in cases {
            let rate = rate(window, rtt_us, false);
            assert_eq!(rate.burst(), burst, "{rate:?}");
            let mut pacer = Pacer::new(Instant::ZERO);
            let mut sent = 0;
            while pacer.ready(Instant::ZERO, 1_200, &rate).is_none() {
                pacer.on_sent(Instant::ZERO, 1_200, &rate);
                sent += 1_200;
            }
            assert_eq!(sent, burst / 1_200 * 1_200);
        }
    }

    #[test]
    fn a_whole_gso_batch_fits_a_burst_at_high_rates() {
        assert!(rate(2_000_000, 40_000, false).burst() >= 64 * 1_452);
    }

    #[test]
    fn idleness_earns_one_burst_and_no_more() {
        let rate = rate(1_000_000, 100_000, false);
        let mut pacer = Pacer::new(Instant::ZERO);
        let later = Instant::ZERO + Duration::from_secs(3_600);
        pacer.on_sent(Instant::ZERO, 1_200, &rate);
        let mut sent = 0;
        while pacer.ready(later, 1_200, &rate).is_none() {
            pacer.on_sent(later, 1_200, &rate);
            sent += 1_200;
        }
        assert_eq!(sent, 24_000);
        pacer.on_sent(later, 50_000, &rate);
        assert!(
            pacer.ready(later, 1_200, &rate).is_some(),
            "an overdrawn bucket is empty, not wrapped"
        );
        pacer.reset(later);
        assert_eq!(pacer.ready(later, 12_000, &rate), None);
    }
}
