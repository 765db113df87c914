//! NewReno as RFC 9002 section 7 describes it: the plain controller to compare with.
//!
//! Invariants: those of `congestion.rs`.
//! Not here: loss detection (`mod.rs`).

use net_base::{Instant, mutant};

use super::congestion::{Congestion, RecoveryPeriod, WindowLimits};
use super::rtt::RttEstimator;

/// Additive increase of one packet per round trip, halving on congestion.
#[derive(Clone, Debug)]
pub struct NewReno {
    limits: WindowLimits,
    window: u64,
    threshold: u64,
    /// Remainder of the division, so that small acks are not lost.
    credit: u64,
    period: RecoveryPeriod,
    /// Window and threshold before the newest congestion event.
    before: Option<(u64, u64)>,
}

impl NewReno {
    /// Slow start from the initial window.
    #[must_use]
    pub fn new(limits: WindowLimits) -> Self {
        let window = limits.clamp(limits.initial());
        Self {
            limits,
            window,
            threshold: u64::MAX,
            credit: 0,
            period: RecoveryPeriod::default(),
            before: None,
        }
    }
}

impl Congestion for NewReno {
    fn on_acked(&mut self, _now: Instant, sent_at: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        if app_limited || self.period.covers(sent_at) {
            return;
        }
        if self.window < self.threshold {
            self.window = self.limits.clamp(self.window.saturating_add(bytes));
            return;
        }
        // RFC 9002 section B.5: one packet per window, in parts.
        let credit = self.credit + bytes * self.limits.packet;
        self.credit = credit % self.window;
        self.window = self.limits.clamp(self.window + credit / self.window);
    }

    fn on_congestion_event(&mut self, now: Instant, sent_at: Instant, _lost: u64) -> bool {
        if self.period.covers(sent_at) && !mutant!(NewRenoHalvesEachLoss) {
            return false;
        }
        self.before = Some((self.window, self.threshold));
        self.period.begin(now);
        self.window = self.limits.clamp(self.window / 2);
        self.threshold = self.window;
        self.credit = 0;
        true
    }

    fn on_persistent(&mut self, _now: Instant) {
        self.before = None;
        self.period.end();
        self.window = self.limits.min();
        self.credit = 0;
    }

    fn on_spurious(&mut self, _now: Instant) {
        if let Some((window, threshold)) = self.before.take() {
            self.window = self.limits.clamp(self.window.max(window));
            self.threshold = threshold;
            self.period.end();
        }
    }

    fn on_packet_size(&mut self, bytes: u64) {
        self.limits.packet = bytes;
        self.window = self.limits.clamp(self.window);
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

#[cfg(test)]
mod tests {
    use super::*;
    use net_base::Duration;

    const PACKET_LOST: u64 = 1_200;
    const LIMITS: WindowLimits = WindowLimits {
        packet: 1_200,
        max: 1 << 24,
    };

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn rtt() -> RttEstimator {
        RttEstimator::new(Duration::from_millis(100))
    }

    #[test]
    fn it_doubles_halves_once_per_period_and_then_adds_one_packet_per_window() {
        let mut reno = NewReno::new(LIMITS);
        reno.on_acked(at(100), at(1), 12_000, false, &rtt());
        assert_eq!(reno.window(), 24_000);
        assert!(reno.on_congestion_event(at(200), at(150), PACKET_LOST));
        assert!(
            !reno.on_congestion_event(at(210), at(160), PACKET_LOST),
            "the same period"
        );
        assert_eq!((reno.window(), reno.in_slow_start()), (12_000, false));
        reno.on_acked(at(250), at(199), 12_000, false, &rtt());
        assert_eq!(
            reno.window(),
            12_000,
            "acks of the recovery period do not grow the window"
        );
        reno.on_acked(at(300), at(201), 12_000, false, &rtt());
        assert_eq!(reno.window(), 13_200);
    }

    #[test]
    fn idle_senders_do_not_grow_and_floors_hold() {
        let mut reno = NewReno::new(LIMITS);
        reno.on_acked(at(100), at(1), 12_000, true, &rtt());
        assert_eq!(reno.window(), 12_000);
        for n in 0..20 {
            reno.on_congestion_event(at(1_000 + n), at(1_000 + n), PACKET_LOST);
        }
        assert_eq!(reno.window(), 2_400);
        reno.reset();
        assert_eq!((reno.window(), reno.in_slow_start()), (12_000, true));
    }

    #[test]
    fn a_spurious_event_is_taken_back() {
        let mut reno = NewReno::new(LIMITS);
        reno.on_congestion_event(at(10), at(5), PACKET_LOST);
        reno.on_spurious(at(20));
        assert_eq!((reno.window(), reno.in_slow_start()), (12_000, true));
        reno.on_persistent(at(30));
        assert_eq!((reno.window(), reno.in_slow_start()), (2_400, true));
    }
}
