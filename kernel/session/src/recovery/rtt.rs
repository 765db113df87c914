//! The round-trip estimate of one path (RFC 9002 section 5).
//!
//! Invariants: `min <= latest` once a sample exists; every value is finite and at least one nanosecond.
//! Not here: which packet may give a sample (`mod.rs`), timers.

use net_base::{Duration, mutant};

/// Timer granularity of RFC 9002 section 6.1.2.
pub const GRANULARITY: Duration = Duration::from_millis(1);

/// Latest, smallest, smoothed round-trip time and its mean deviation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RttEstimator {
    latest: Duration,
    min: Duration,
    smoothed: Duration,
    variance: Duration,
    sampled: bool,
}

impl RttEstimator {
    /// No sample yet: `initial` stands in for the smoothed value (333 ms by RFC 9002 section 6.2.2).
    #[must_use]
    pub const fn new(initial: Duration) -> Self {
        let initial = if initial.as_nanos() == 0 {
            Duration::from_nanos(1)
        } else {
            initial
        };
        let variance = Duration::from_nanos(initial.as_nanos() / 2);
        Self {
            latest: initial,
            min: initial,
            smoothed: initial,
            variance,
            sampled: false,
        }
    }

    /// Takes one sample: the time from sending the newest acknowledged packet to its ack, and the delay
    /// the peer reports to have added, already bounded by the caller.
    pub fn update(&mut self, sample: Duration, ack_delay: Duration) {
        let sample = sample.max(Duration::from_nanos(1));
        self.latest = sample;
        if !self.sampled {
            self.sampled = true;
            self.min = sample;
            self.smoothed = sample;
            self.variance = sample / 2;
            return;
        }
        self.min = self.min.min(sample);
        // RFC 9002 section 5.3: the reported delay may not push the sample below the minimum.
        let adjusted = if sample >= self.min + ack_delay {
            sample.saturating_sub(ack_delay)
        } else {
            sample
        };
        let deviation = self
            .smoothed
            .saturating_sub(adjusted)
            .max(adjusted.saturating_sub(self.smoothed));
        self.variance = self.variance.mul_ratio(3, 4) + deviation / 4;
        self.smoothed = (self.smoothed.mul_ratio(7, 8) + adjusted / 8).max(Duration::from_nanos(1));
    }

    /// The newest sample, unadjusted.
    #[must_use]
    pub const fn latest(&self) -> Duration {
        self.latest
    }

    /// The smallest sample of this path.
    #[must_use]
    pub const fn min(&self) -> Duration {
        self.min
    }

    /// The smoothed value; the initial one until a sample exists.
    #[must_use]
    pub const fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// Mean deviation.
    #[must_use]
    pub const fn variance(&self) -> Duration {
        self.variance
    }

    /// Whether any sample was taken.
    #[must_use]
    pub const fn sampled(&self) -> bool {
        self.sampled
    }

    /// Smoothed value plus four deviations: a probe timeout without the peer's ack delay and without
    /// backoff (RFC 9002 section 6.2.1).
    #[must_use]
    pub fn probe_base(&self) -> Duration {
        if mutant!(RttWithoutVariance) {
            return self.smoothed + GRANULARITY;
        }
        self.smoothed + (self.variance * 4).max(GRANULARITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_first_sample_replaces_the_initial_value() {
        let mut rtt = RttEstimator::new(MS(333));
        assert_eq!((rtt.smoothed(), rtt.sampled()), (MS(333), false));
        rtt.update(MS(40), MS(25));
        assert_eq!(
            (rtt.smoothed(), rtt.min(), rtt.latest(), rtt.variance()),
            (MS(40), MS(40), MS(40), MS(20))
        );
        assert!(rtt.sampled());
    }

    #[test]
    fn samples_are_smoothed_by_the_weights_of_the_rfc() {
        // (sample, ack delay, smoothed, variance, min), in microseconds, after a first sample of 80 ms.
        let cases = [
            (160_000, 0, 90_000, 50_000, 80_000),
            (160_000, 40_000, 85_000, 40_000, 80_000),
            // The delay would push the sample below the minimum: it is not subtracted.
            (90_000, 25_000, 81_250, 32_500, 80_000),
            (40_000, 25_000, 75_000, 40_000, 40_000),
        ];
        for (sample, delay, smoothed, variance, min) in cases {
            let mut rtt = RttEstimator::new(MS(333));
            rtt.update(MS(80), Duration::ZERO);
            rtt.update(Duration::from_micros(sample), Duration::from_micros(delay));
            assert_eq!(
                (
                    rtt.smoothed().as_micros(),
                    rtt.variance().as_micros(),
                    rtt.min().as_micros()
                ),
                (smoothed, variance, min),
                "sample {sample}"
            );
        }
    }

    #[test]
    fn a_steady_path_converges_and_zero_samples_do_no_harm() {
        let mut rtt = RttEstimator::new(Duration::ZERO);
        for _ in 0..200 {
            rtt.update(MS(20), Duration::ZERO);
        }
        assert!(rtt.smoothed().as_micros().abs_diff(20_000) < 2 && rtt.variance() < MS(1));
        assert_eq!(rtt.probe_base().as_millis(), 21);
        for _ in 0..400 {
            rtt.update(Duration::ZERO, Duration::MAX);
        }
        assert!(rtt.smoothed() > Duration::ZERO);
    }
}
