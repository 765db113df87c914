//! Copa (Arun and Balakrishnan, NSDI 2018) in integers: the window follows the delay that queues add, not losses.
//!
//! The target is a queue of `1/delta` packets. While what stands in the queue is less, the window grows, else it shrinks, by
//! `velocity / delta` packets per round trip. A queue that never empties is taken for the work of a loss-based flow: then `1/delta`
//! itself follows additive increase and halving, and Copa competes.
//! Invariants: those of `congestion.rs`; `MIN_SHARE <= share <= MAX_SHARE`; memory is constant.
//! Not here: loss detection (`mod.rs`), windows that follow losses (`cubic.rs`, `new_reno.rs`).

use net_base::{Duration, Instant, mutant};

use super::congestion::{Congestion, RecoveryPeriod, WindowLimits};
use super::rtt::RttEstimator;

/// 1/delta of the default mode: packets that one flow keeps in the queue.
const MIN_SHARE: u64 = 2;
/// More is not worth more: a flow that keeps this many packets in a queue holds its own against any other.
const MAX_SHARE: u64 = 1 << 12;
/// The smallest round trip is looked for in this span and the one before.
const MIN_RTT_SPAN: Duration = Duration::from_secs(10);
/// Parts of the span in which the standing round trip is looked for.
const PARTS: usize = 4;
/// Round trips without a nearly empty queue after which a loss-based flow is assumed.
const FULL_ROUNDS: u32 = 5;
/// Round trips of competing after which it is seen once more whether the queue empties when this flow takes its own part out of it.
const COMPETING_ROUNDS: u32 = 32;
/// A queue of one part in this many of the smallest round trip is short.
const SHORT: u64 = 4;
/// Round trips in one direction after which the velocity doubles.
const STEADY_ROUNDS: u32 = 3;
/// More than one part in this many lost in a round trip is no chance: the window shrinks whatever the delay.
const HEAVY_LOSS: u64 = 8;

/// The least of the samples of the last `PARTS` spans of equal length.
#[derive(Clone, Copy, Debug)]
struct Standing {
    parts: [Duration; PARTS],
    began: Instant,
}

impl Standing {
    const fn new() -> Self {
        Self {
            parts: [Duration::MAX; PARTS],
            began: Instant::ZERO,
        }
    }

    fn add(&mut self, now: Instant, sample: Duration, span: Duration) {
        let span = (span / PARTS as u64).max(Duration::from_nanos(1));
        let passed = now.since(self.began).as_nanos() / span.as_nanos();
        if passed > 0 {
            let passed = usize::try_from(passed).unwrap_or(PARTS).min(PARTS);
            self.parts.rotate_right(passed % PARTS);
            self.parts[..passed].fill(Duration::MAX);
            self.began = now;
        }
        self.parts[0] = self.parts[0].min(sample);
    }

    fn least(&self) -> Duration {
        self.parts.iter().copied().min().unwrap_or(Duration::MAX)
    }
}

/// The least sample of this span and the one before.
#[derive(Clone, Copy, Debug)]
struct Floor {
    current: Duration,
    before: Duration,
    began: Instant,
}

impl Floor {
    const fn new() -> Self {
        Self {
            current: Duration::MAX,
            before: Duration::MAX,
            began: Instant::ZERO,
        }
    }

    fn add(&mut self, now: Instant, sample: Duration) {
        if now.since(self.began) >= MIN_RTT_SPAN && !mutant!(CopaFloorForever) {
            self.before = self.current;
            self.current = Duration::MAX;
            self.began = now;
        }
        self.current = self.current.min(sample);
    }

    fn least(&self) -> Duration {
        self.current.min(self.before)
    }
}

/// What one round trip showed.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    /// Window at its beginning.
    window: u64,
    acked: u64,
    lost: u64,
    /// Whether the queue was seen nearly empty.
    emptied: bool,
    /// The longest round trip.
    longest: Duration,
}

impl Round {
    const fn new(now: Instant, window: u64) -> Self {
        Self {
            began: now,
            window,
            acked: 0,
            lost: 0,
            emptied: false,
            longest: Duration::ZERO,
        }
    }
}

/// Which way the window went, and since how many round trips.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Course {
    up: bool,
    rounds: u32,
    velocity: u64,
}

impl Course {
    const START: Self = Self {
        up: true,
        rounds: 0,
        velocity: 1,
    };
}

/// Window by queueing delay.
#[derive(Clone, Debug)]
pub struct Copa {
    limits: WindowLimits,
    window: u64,
    slow_start: bool,
    /// 1/delta while it competes.
    share: u64,
    /// Taken off the window to see whether the queue empties; given back where it does not.
    aside: u64,
    floor: Floor,
    standing: Standing,
    course: Course,
    round: Round,
    /// Longest round trips of earlier rounds, newest first.
    longest: [Duration; 3],
    /// Round trips in a row in which the queue never emptied.
    full_rounds: u32,
    /// Remainder of the division, so that small acks are not lost.
    credit: u64,
    period: RecoveryPeriod,
    before: Option<u64>,
}

impl Copa {
    /// Slow start from the initial window.
    #[must_use]
    pub fn new(limits: WindowLimits) -> Self {
        let window = limits.clamp(limits.initial());
        Self {
            limits,
            window,
            slow_start: true,
            share: MIN_SHARE,
            aside: 0,
            floor: Floor::new(),
            standing: Standing::new(),
            course: Course::START,
            round: Round::new(Instant::ZERO, window),
            longest: [Duration::ZERO; 3],
            full_rounds: 0,
            credit: 0,
            period: RecoveryPeriod::default(),
            before: None,
        }
    }

    /// Delay that stands in the queue.
    fn queue(&self) -> Duration {
        self.standing.least().saturating_sub(self.floor.least())
    }

    /// Whether less stands in the queue than should: the rate `window / standing` is below
    /// `1 / (delta * queue)`.
    fn has_room(&self, share: u64) -> bool {
        let used = u128::from(self.window) * u128::from(self.queue().as_nanos());
        let standing = u128::from(self.standing.least().as_nanos());
        used <= u128::from(share) * u128::from(self.limits.packet) * standing
    }

    /// Queues that never empty are somebody else's doing.
    fn competes(&self) -> bool {
        self.full_rounds >= FULL_ROUNDS && !mutant!(CopaNeverCompetes)
    }

    /// A round trip is over: which way did the window go, and did the queue empty?
    fn end_round(&mut self, now: Instant) {
        let Round {
            window,
            emptied,
            longest,
            lost,
            ..
        } = self.round;
        let up = self.window > window;
        self.course = if up != self.course.up && !mutant!(CopaKeepsVelocity) {
            Course { up, ..Course::START }
        } else {
            let rounds = self.course.rounds + 1;
            // More than doubling or halving in a round trip helps nobody.
            let most = (self.window / (2 * self.limits.packet * self.claim())).max(1);
            let faster = rounds >= STEADY_ROUNDS && !self.slow_start;
            let velocity = if faster { self.course.velocity * 2 } else { 1 };
            Course {
                up,
                rounds,
                velocity: velocity.min(most),
            }
        };
        self.look_around(now, emptied, lost);
        self.longest = [longest, self.longest[0], self.longest[1]];
        self.round = Round::new(now, self.window);
    }

    /// Who fills the queue? Others, where it does not empty though this flow keeps little in it.
    fn look_around(&mut self, now: Instant, emptied: bool, lost: u64) {
        let competed = self.competes();
        if emptied {
            (self.full_rounds, self.share, self.aside) = (0, MIN_SHARE, 0);
        } else if self.full_rounds >= FULL_ROUNDS + COMPETING_ROUNDS {
            self.full_rounds = 0;
            self.aside = (self.share * self.limits.packet).min(self.window / 2);
            self.window = self.limits.clamp(self.window - self.aside);
            self.period.begin(now);
        } else {
            self.full_rounds += 1;
        }
        if !self.competes() {
            return;
        }
        if !competed {
            self.window = self.limits.clamp(self.window.saturating_add(self.aside));
            self.aside = 0;
        }
        if lost == 0 {
            self.share = (self.share + 1).min(MAX_SHARE);
        }
    }

    /// 1/delta as it counts now.
    fn claim(&self) -> u64 {
        if self.competes() { self.share } else { MIN_SHARE }
    }

    /// Whether nearly nothing stands in the queue by the measure of the last four round trips; or what is short beside the path and no
    /// more than flows like this one keep there, whose queue need not ever empty.
    fn nearly_empty(&self) -> bool {
        let longest = self.longest.iter().copied().fold(self.round.longest, Duration::max);
        let deepest = longest.saturating_sub(self.floor.least());
        let queue = self.queue();
        queue <= deepest / 10 || (queue <= self.floor.least() / SHORT && self.has_room(MIN_SHARE))
    }

    fn step(&mut self, bytes: u64) {
        let up = self.has_room(self.claim());
        if self.slow_start {
            if up {
                self.window = self.limits.clamp(self.window.saturating_add(bytes));
                return;
            }
            self.slow_start = false;
        }
        if up != self.course.up && self.course.velocity > 1 && !mutant!(CopaKeepsVelocity) {
            self.course = Course { up, ..Course::START };
        }
        let gain = u128::from(self.course.velocity * self.claim() * self.limits.packet) * u128::from(bytes)
            + u128::from(self.credit);
        let window = u128::from(self.window);
        self.credit = u64::try_from(gain % window).unwrap_or(0);
        let change = u64::try_from(gain / window).unwrap_or(u64::MAX);
        let next = if up {
            self.window.saturating_add(change)
        } else {
            self.window.saturating_sub(change)
        };
        self.window = self.limits.clamp(next);
    }

    fn shrink(&mut self, now: Instant) {
        self.period.begin(now);
        self.before = Some(self.window);
        self.window = self.limits.clamp(self.window / 10 * 7);
        self.slow_start = false;
        self.course = Course {
            up: false,
            ..Course::START
        };
    }
}

impl Congestion for Copa {
    fn on_acked(&mut self, now: Instant, sent_at: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        self.round.acked = self.round.acked.saturating_add(bytes);
        if sent_at >= self.round.began {
            self.end_round(now);
        }
        if app_limited || self.period.covers(sent_at) || self.floor.least() == Duration::MAX {
            return;
        }
        self.step(bytes);
    }

    fn on_sample(&mut self, now: Instant, sample: Duration, rtt: &RttEstimator) {
        // RFC 9002 section 5.2: what the peer says it waited never lowers the smallest round trip.
        self.floor.add(now, rtt.latest());
        self.standing
            .add(now, sample.max(self.floor.least()), rtt.smoothed() / 2);
        self.round.longest = self.round.longest.max(sample);
        self.round.emptied |= self.nearly_empty();
    }

    fn on_congestion_event(&mut self, now: Instant, sent_at: Instant, lost: u64) -> bool {
        self.round.lost = self.round.lost.saturating_add(lost);
        if self.period.covers(sent_at) {
            return false;
        }
        if self.competes() {
            self.share = (self.share / 2).max(MIN_SHARE);
            self.period.begin(now);
            self.before = None;
            return true;
        }
        // A mark (nothing lost) is the network's word; single losses are not.
        let marked = lost == 0;
        let heavy = self.round.lost * HEAVY_LOSS > self.window;
        if marked || heavy {
            self.shrink(now);
            return true;
        }
        false
    }

    fn on_persistent(&mut self, _now: Instant) {
        self.before = None;
        self.period.end();
        self.window = self.limits.min();
        self.slow_start = true;
        self.share = MIN_SHARE;
        self.aside = 0;
        self.full_rounds = 0;
        self.course = Course::START;
        self.credit = 0;
    }

    fn on_spurious(&mut self, _now: Instant) {
        if let Some(window) = self.before.take() {
            self.window = self.limits.clamp(self.window.max(window));
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
        self.slow_start
    }

    /// Larger bursts would stand in the queue of a slow link for longer than what they are to keep there.
    fn burst_packets(&self) -> u64 {
        MIN_SHARE
    }

    fn reset(&mut self) {
        *self = Self::new(self.limits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;

    const PACKET: u64 = 1_000;
    const LIMITS: WindowLimits = WindowLimits {
        packet: PACKET,
        max: 1 << 30,
    };

    fn at(us: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(us)
    }

    /// A bottleneck of one packet per `takes` us with `travel` us around it, and whoever else fills its queue.
    struct Path {
        takes: u64,
        travel: u64,
        free_at: u64,
        /// Sent and acknowledged at, us.
        flying: VecDeque<(u64, u64)>,
        now: u64,
        rtt: RttEstimator,
        longest_queue: u64,
        acked: u64,
    }

    impl Path {
        fn new(takes: u64, travel: u64) -> Self {
            Self {
                takes,
                travel,
                free_at: 0,
                flying: VecDeque::new(),
                now: 0,
                rtt: RttEstimator::new(Duration::from_micros(travel)),
                longest_queue: 0,
                acked: 0,
            }
        }

        /// Fills the window and takes acks until `until`, us; `others` packets of somebody else stand in the queue all the while.
        fn run(&mut self, copa: &mut Copa, until: u64, others: u64, lose_every: u64) {
            self.longest_queue = 0;
            let mut count = 0;
            while self.now < until {
                while (self.flying.len() as u64 + 1) * PACKET <= copa.window() {
                    let queued = self.free_at.max(self.now + others * self.takes);
                    self.free_at = queued + self.takes;
                    self.longest_queue = self.longest_queue.max(self.free_at - self.now);
                    self.flying.push_back((self.now, self.free_at + self.travel));
                }
                let (sent, acked) = self.flying.pop_front().expect("a window is never empty");
                self.now = acked;
                count += 1;
                if lose_every > 0 && count % lose_every == 0 {
                    copa.on_congestion_event(at(acked), at(sent), PACKET);
                    continue;
                }
                self.acked += 1;
                copa.on_acked(at(acked), at(sent), PACKET, false, &self.rtt);
                let sample = Duration::from_micros(acked - sent);
                self.rtt.update(sample, Duration::ZERO);
                copa.on_sample(at(acked), sample, &self.rtt);
            }
        }
    }

    #[test]
    fn a_lone_flow_fills_the_link_and_keeps_the_queue_short() {
        let mut copa = Copa::new(LIMITS);
        let mut path = Path::new(100, 20_000);
        path.run(&mut copa, 5_000_000, 0, 0);
        assert!(!copa.in_slow_start());
        let before = path.acked;
        path.run(&mut copa, 10_000_000, 0, 0);
        let used = (path.acked - before) * 100;
        assert!(used >= 4_750_000, "{used} us of 5 s used");
        assert!(path.longest_queue <= 5_000, "{} us in the queue", path.longest_queue);
        assert!(!copa.competes(), "nobody else is there");
    }

    #[test]
    fn chance_losses_cost_nothing_and_heavy_ones_shrink_the_window() {
        let mut copa = Copa::new(LIMITS);
        let mut path = Path::new(100, 20_000);
        path.run(&mut copa, 10_000_000, 0, 20);
        let used = path.acked * 100;
        assert!(
            used >= 8_500_000,
            "{used} us of 10 s used with every twentieth packet lost"
        );
        let window = copa.window();
        assert!(!copa.on_congestion_event(at(path.now), at(path.now), PACKET));
        assert_eq!(copa.window(), window);
        assert!(copa.on_congestion_event(at(path.now), at(path.now), window / 4));
        assert_eq!(copa.window(), window / 10 * 7);
        assert!(
            !copa.on_congestion_event(at(path.now), at(path.now), window / 4),
            "once per flight"
        );
        copa.on_spurious(at(path.now));
        assert_eq!(copa.window(), window, "what was reordering is taken back");
    }

    #[test]
    fn a_mark_shrinks_the_window_and_persistent_congestion_starts_over() {
        let mut copa = Copa::new(LIMITS);
        assert!(copa.on_congestion_event(at(10), at(5), 0));
        assert_eq!(copa.window(), 7_000);
        copa.on_persistent(at(20));
        assert_eq!((copa.window(), copa.in_slow_start()), (2_000, true));
        copa.reset();
        assert_eq!((copa.window(), copa.in_slow_start()), (10_000, true));
    }

    #[test]
    fn a_queue_that_others_keep_full_is_competed_for_until_it_empties() {
        let mut copa = Copa::new(LIMITS);
        let mut path = Path::new(100, 20_000);
        path.run(&mut copa, 3_000_000, 0, 0);
        assert_eq!(copa.share, MIN_SHARE);
        path.run(&mut copa, 6_000_000, 200, 0);
        assert!(copa.share > 20, "share {}", copa.share);
        while !copa.competes() {
            let soon = path.now + 1_000;
            path.run(&mut copa, soon, 200, 0);
        }
        let share = copa.share;
        assert!(copa.on_congestion_event(at(path.now), at(path.now), PACKET));
        assert_eq!(copa.share, share / 2, "losses halve what it asks for");
        path.run(&mut copa, 12_000_000, 0, 0);
        assert!(!copa.competes());
        assert_eq!(copa.share, MIN_SHARE);
    }

    #[test]
    fn a_path_that_became_longer_is_found_out() {
        let mut copa = Copa::new(LIMITS);
        let mut path = Path::new(100, 20_000);
        path.run(&mut copa, 3_000_000, 0, 0);
        path.travel = 60_000;
        path.run(&mut copa, 30_000_000, 0, 0);
        let before = path.acked;
        path.run(&mut copa, 40_000_000, 0, 0);
        let used = (path.acked - before) * 100;
        assert!(used >= 9_000_000, "{used} us of 10 s used");
    }

    #[test]
    fn the_window_keeps_its_bounds_and_an_idle_sender_keeps_its_window() {
        let mut copa = Copa::new(WindowLimits {
            packet: PACKET,
            max: 50_000,
        });
        let mut path = Path::new(1, 20_000);
        path.run(&mut copa, 1_000_000, 0, 0);
        assert_eq!(copa.window(), 50_000);
        copa.on_acked(at(path.now), at(path.now - 1), PACKET, true, &path.rtt);
        assert_eq!(copa.window(), 50_000);
    }
}
