//! CUBIC (RFC 9438) in integers: microseconds, bytes and an integer cube root.
//!
//! Invariants: those of `congestion.rs`; beta = 7/10, C = 4/10 packets per second cubed.
//! Not here: HyStart++ (slow start ends with the first congestion event or at the threshold).

use net_base::{Duration, Instant};

use super::congestion::{Congestion, RecoveryPeriod, WindowLimits};
use super::rtt::RttEstimator;

/// C of RFC 9438 section 5.1 as a ratio.
const C_NUMERATOR: u128 = 4;
const C_DENOMINATOR: u128 = 10;
/// Cubed microseconds in a cubed second.
const CUBED_SECOND: u128 = 1_000_000_000_000_000_000;

/// A congestion-avoidance stage: the cubic curve and the Reno-friendly estimate beside it.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// Microseconds from the start until the curve is back at `w_max`.
    k_us: u64,
    /// The plateau of the curve, in bytes.
    w_max: u64,
    /// RFC 9438 section 4.3: what an AIMD sender of the same fairness would have, in bytes.
    estimate: u64,
    /// Window before the event that opened the stage: from here the estimate adds a whole packet per window.
    prior: u64,
    /// Remainders of the two divisions, so that small acks are not lost.
    estimate_credit: u64,
    window_credit: u64,
    /// Since when acks found the sender application-limited (RFC 9438 section 5.8: not counted as time).
    limited_since: Option<Instant>,
    /// The curve at one instant: all packets of one ack share it.
    cached: Option<(Instant, u64, u64)>,
}

/// What a congestion event changed, for taking it back.
#[derive(Clone, Copy, Debug)]
struct Before {
    window: u64,
    threshold: u64,
    w_max: u64,
    epoch: Option<Epoch>,
}

/// Window growth by a cubic function of the time since the last congestion event.
#[derive(Clone, Debug)]
pub struct Cubic {
    limits: WindowLimits,
    window: u64,
    threshold: u64,
    /// Window at the last congestion event, lowered by fast convergence; 0 before the first.
    w_max: u64,
    /// Window just before the last congestion event.
    prior: u64,
    epoch: Option<Epoch>,
    period: RecoveryPeriod,
    before: Option<Before>,
}

impl Cubic {
    /// Slow start from the initial window.
    #[must_use]
    pub fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            window: limits.clamp(limits.initial()),
            threshold: u64::MAX,
            w_max: 0,
            prior: 0,
            epoch: None,
            period: RecoveryPeriod::default(),
            before: None,
        }
    }

    fn avoid(&mut self, now: Instant, bytes: u64, rtt: &RttEstimator) {
        let (window, packet) = (self.window, self.limits.packet);
        let (w_max, prior) = (self.w_max.max(window), self.prior);
        let epoch = self
            .epoch
            .get_or_insert_with(|| Epoch::new(now, window, w_max, prior, packet));
        let (current, target) = epoch.curve(now, rtt.smoothed(), packet);
        epoch.grow_estimate(bytes, window, packet);
        let next = if current < epoch.estimate {
            window.max(epoch.estimate)
        } else {
            // RFC 9438 section 4.4: at most half a window more per round trip.
            let target = target.clamp(window, window + window / 2);
            let credit = epoch
                .window_credit
                .saturating_add(bytes.saturating_mul(target - window));
            epoch.window_credit = credit % window;
            window + credit / window
        };
        self.window = self.limits.clamp(next);
    }
}

impl Epoch {
    fn new(now: Instant, window: u64, w_max: u64, prior: u64, packet: u64) -> Self {
        let distance = u128::from(w_max.saturating_sub(window));
        let cube = distance * C_DENOMINATOR * CUBED_SECOND / (C_NUMERATOR * u128::from(packet));
        Self {
            start: now,
            k_us: cube_root(cube),
            w_max,
            estimate: window,
            prior,
            estimate_credit: 0,
            window_credit: 0,
            limited_since: None,
            cached: None,
        }
    }

    /// The curve now and one round trip ahead, in bytes.
    fn curve(&mut self, now: Instant, rtt: Duration, packet: u64) -> (u64, u64) {
        if let Some(since) = self.limited_since.take() {
            self.start = self.start + now.since(since);
            self.cached = None;
        }
        if let Some((at, current, target)) = self.cached
            && at == now
        {
            return (current, target);
        }
        let elapsed = now.since(self.start);
        let current = self.at(elapsed.as_micros(), packet);
        let target = self.at((elapsed + rtt).as_micros(), packet);
        self.cached = Some((now, current, target));
        (current, target)
    }

    /// W_cubic(t) of RFC 9438 section 4.2, in bytes.
    fn at(&self, t_us: u64, packet: u64) -> u64 {
        // A stage older than an hour has long reached every limit; the cap keeps the cube in 128 bits.
        let t_us = t_us.min(3_600_000_000);
        let distance = u128::from(t_us.abs_diff(self.k_us));
        let cube = distance * distance * distance;
        let grown = cube * C_NUMERATOR * u128::from(packet) / (C_DENOMINATOR * CUBED_SECOND);
        let grown = u64::try_from(grown).unwrap_or(u64::MAX);
        if t_us < self.k_us {
            self.w_max.saturating_sub(grown)
        } else {
            self.w_max.saturating_add(grown)
        }
    }

    /// RFC 9438 section 4.3: alpha = 3 (1 - beta) / (1 + beta) = 9/17 packets per window, one packet
    /// once the earlier window is reached again.
    fn grow_estimate(&mut self, bytes: u64, window: u64, packet: u64) {
        let gain = bytes * packet;
        let gain = if self.estimate < self.prior {
            gain * 9 / 17
        } else {
            gain
        };
        let credit = self.estimate_credit.saturating_add(gain);
        self.estimate = self.estimate.saturating_add(credit / window);
        self.estimate_credit = credit % window;
    }
}

impl Congestion for Cubic {
    fn on_acked(&mut self, now: Instant, sent_at: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        if app_limited {
            if let Some(epoch) = &mut self.epoch {
                epoch.limited_since.get_or_insert(now);
            }
            return;
        }
        if self.period.covers(sent_at) {
            return;
        }
        if self.window < self.threshold {
            self.window = self.limits.clamp(self.window.saturating_add(bytes));
        } else {
            self.avoid(now, bytes, rtt);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent_at: Instant) -> bool {
        if self.period.covers(sent_at) {
            return false;
        }
        let Self {
            window,
            threshold,
            w_max,
            epoch,
            ..
        } = *self;
        self.before = Some(Before {
            window,
            threshold,
            w_max,
            epoch,
        });
        self.period.begin(now);
        self.prior = window;
        // RFC 9438 section 4.7: a flow that lost before it was back leaves room for newcomers.
        self.w_max = if window < w_max { window / 20 * 17 } else { window };
        self.window = self.limits.clamp(window / 10 * 7);
        self.threshold = self.window;
        self.epoch = None;
        true
    }

    fn on_persistent(&mut self, _now: Instant) {
        self.before = None;
        self.period.end();
        self.window = self.limits.min();
        self.epoch = None;
    }

    fn on_spurious(&mut self, _now: Instant) {
        if let Some(before) = self.before.take()
            && before.window > self.window
        {
            self.window = self.limits.clamp(before.window);
            self.threshold = before.threshold;
            self.w_max = before.w_max;
            self.epoch = before.epoch;
            self.period.end();
        }
    }

    fn on_packet_size(&mut self, bytes: u64) {
        self.limits.packet = bytes;
        self.window = self.limits.clamp(self.window);
        // The curve is counted in packets: it starts again from the present window.
        self.epoch = None;
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn reset(&mut self) {
        *self = Self::new(self.limits);
    }
}

/// Largest `r` with `r^3 <= value`, saturated to 64 bits.
fn cube_root(value: u128) -> u64 {
    let mut root: u128 = 0;
    // 2^42 cubed is 2^126: one bit of the root per step.
    for bit in (0..=42).rev() {
        let next = root | (1 << bit);
        if next * next * next <= value {
            root = next;
        }
    }
    u64::try_from(root).unwrap_or(u64::MAX)
}
