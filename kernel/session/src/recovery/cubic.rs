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

    fn on_congestion_event(&mut self, now: Instant, sent_at: Instant, _lost: u64) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const PACKET: u64 = 1_000;
    const PACKET_LOST: u64 = PACKET;
    const LIMITS: WindowLimits = WindowLimits {
        packet: PACKET,
        max: 1 << 30,
    };

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn rtt(ms: u64) -> RttEstimator {
        let mut rtt = RttEstimator::new(Duration::from_millis(ms));
        rtt.update(Duration::from_millis(ms), Duration::ZERO);
        rtt
    }

    /// In congestion avoidance at `packets` packets after a loss at 10/7 of that.
    fn avoiding(packets: u64) -> Cubic {
        let mut cubic = Cubic::new(LIMITS);
        cubic.window = packets * PACKET / 7 * 10;
        assert!(cubic.on_congestion_event(at(0), at(0), PACKET_LOST));
        cubic
    }

    /// A whole window acknowledged per round trip, packet by packet, from `from` until `until`.
    fn run(cubic: &mut Cubic, from: u64, until: u64, rtt_ms: u64) -> Vec<(u64, u64)> {
        let rtt = rtt(rtt_ms);
        let mut trace = Vec::new();
        let mut now = from;
        while now < until {
            now += rtt_ms;
            for _ in 0..cubic.window() / PACKET {
                cubic.on_acked(at(now), at(now - rtt_ms + 1), PACKET, false, &rtt);
            }
            trace.push((now, cubic.window() / PACKET));
        }
        trace
    }

    #[test]
    fn the_curve_is_back_at_its_plateau_after_k_and_flat_there() {
        // 100 packets lost at a round trip of 100 ms: K = cbrt(100 * 0.3 / 0.4) = 4.2 s.
        let mut cubic = avoiding(70);
        assert_eq!(cubic.window(), 70 * PACKET);
        let trace = run(&mut cubic, 0, 12_000, 100);
        let window = |ms: u64| {
            trace
                .iter()
                .find(|(now, _)| *now >= ms)
                .map_or(0, |(_, window)| *window)
        };
        // (milliseconds, packets by W(t) = 0.4 (t - 4.2)^3 + 100)
        for (ms, packets) in [(2_100, 96), (4_200, 100), (6_300, 104), (8_400, 130), (10_500, 200)] {
            assert!(
                window(ms).abs_diff(packets) <= packets / 20,
                "at {ms} ms: {} packets",
                window(ms)
            );
        }
        assert!(
            trace.windows(2).all(|pair| pair[0].1 <= pair[1].1),
            "it never shrinks without a loss"
        );
    }

    #[test]
    fn on_a_short_path_it_grows_as_fast_as_reno() {
        // 1 ms: in 150 round trips AIMD with alpha = 9/17 gains about 79 packets, the curve itself none.
        let mut cubic = avoiding(700);
        run(&mut cubic, 0, 150, 1);
        let gained = cubic.window() / PACKET - 700;
        assert!((70..=85).contains(&gained), "{gained} packets");
    }

    #[test]
    fn a_second_loss_below_the_plateau_makes_room() {
        let mut cubic = avoiding(70);
        assert_eq!(cubic.w_max, 100 * PACKET);
        assert!(
            !cubic.on_congestion_event(at(10), at(0), PACKET_LOST),
            "of the same flight"
        );
        assert!(cubic.on_congestion_event(at(10), at(5), PACKET_LOST));
        assert_eq!((cubic.w_max, cubic.window()), (70 * PACKET / 20 * 17, 49 * PACKET));
    }

    #[test]
    fn slow_start_doubles_until_the_threshold_and_idle_senders_do_not_grow() {
        let mut cubic = Cubic::new(LIMITS);
        assert_eq!(cubic.window(), 10 * PACKET);
        cubic.on_acked(at(100), at(1), 10 * PACKET, true, &rtt(100));
        assert_eq!(cubic.window(), 10 * PACKET);
        cubic.on_acked(at(100), at(1), 10 * PACKET, false, &rtt(100));
        assert_eq!((cubic.window(), cubic.in_slow_start()), (20 * PACKET, true));
        cubic.on_persistent(at(200));
        assert_eq!((cubic.window(), cubic.in_slow_start()), (2 * PACKET, true));
        cubic.reset();
        assert_eq!(cubic.window(), 10 * PACKET);
    }

    #[test]
    fn idle_time_is_not_time_on_the_curve() {
        let mut cubic = avoiding(70);
        run(&mut cubic, 0, 1_000, 100);
        let before = cubic.window();
        cubic.on_acked(at(1_100), at(1_050), PACKET, true, &rtt(100));
        run(&mut cubic, 3_600_000, 3_600_300, 100);
        assert!(
            cubic.window() <= before + 8 * PACKET,
            "{} after {before}",
            cubic.window()
        );
    }

    #[test]
    fn reordering_taken_for_loss_is_taken_back() {
        let mut cubic = Cubic::new(LIMITS);
        cubic.on_congestion_event(at(10), at(5), PACKET_LOST);
        assert_eq!((cubic.window(), cubic.in_slow_start()), (7 * PACKET, false));
        cubic.on_spurious(at(20));
        assert_eq!((cubic.window(), cubic.in_slow_start()), (10 * PACKET, true));
        cubic.on_spurious(at(30));
        assert_eq!(cubic.window(), 10 * PACKET, "once");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ack { bytes: u16, limited: bool },
        Loss,
        Persistent,
        Spurious,
        PacketSize(u16),
    }

    fn step() -> impl Strategy<Value = (u64, Step)> {
        let step = prop_oneof![
            20 => (any::<u16>(), any::<bool>()).prop_map(|(bytes, limited)| Step::Ack { bytes, limited }),
            2 => Just(Step::Loss),
            1 => Just(Step::Persistent),
            1 => Just(Step::Spurious),
            1 => (1_200..u16::MAX).prop_map(Step::PacketSize),
        ];
        (prop_oneof![0..1_000u64, 0..u64::from(u32::MAX)], step)
    }

    proptest! {
        #[test]
        fn cube_roots_are_exact(value in 0u128..1 << 120) {
            let root = u128::from(cube_root(value));
            prop_assert!(root.pow(3) <= value && value < (root + 1).pow(3));
        }

        #[test]
        fn the_window_stays_within_its_bounds(
            max in prop_oneof![Just(0u64), 0..1u64 << 40],
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let mut limits = WindowLimits { packet: 1_200, max };
            let mut cubic = Cubic::new(limits);
            let mut now = 1;
            for (wait, step) in steps {
                now += wait;
                let sent = at(now - 1);
                match step {
                    Step::Ack { bytes, limited } => {
                        cubic.on_acked(at(now), sent, u64::from(bytes), limited, &rtt(1 + wait));
                    }
                    Step::Loss => {
                        let before = cubic.window();
                        cubic.on_congestion_event(at(now), sent, PACKET_LOST);
                        prop_assert!(cubic.window() <= before);
                    }
                    Step::Persistent => cubic.on_persistent(at(now)),
                    Step::Spurious => cubic.on_spurious(at(now)),
                    Step::PacketSize(bytes) => {
                        limits.packet = u64::from(bytes);
                        cubic.on_packet_size(limits.packet);
                    }
                }
                prop_assert!(cubic.window() >= limits.min() && cubic.window() <= limits.max.max(limits.min()));
            }
        }
    }
}
