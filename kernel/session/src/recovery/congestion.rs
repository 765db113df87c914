//! What a congestion controller is told and asked, and the closed choice of controllers.
//!
//! Invariants: a window is at least two packets and at most `WindowLimits::max`; it does not grow on
//! acks of an application-limited sender (RFC 9002 section 7.8).
//! Not here: the formulas (`cubic.rs`, `new_reno.rs`, `copa.rs`), what is in flight (`mod.rs`).

use net_base::{Duration, Instant};

use super::copa::Copa;
use super::cubic::Cubic;
use super::new_reno::NewReno;
use super::pacer::BURST_PACKETS;
use super::rtt::RttEstimator;

/// Packet size and upper bound every controller works with, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowLimits {
    /// Largest datagram sent on the path.
    pub packet: u64,
    /// The window never grows beyond this.
    pub max: u64,
}

impl WindowLimits {
    /// RFC 9002 section 7.2: ten packets, at most 14,720 B unless two packets are more.
    #[must_use]
    pub fn initial(&self) -> u64 {
        (self.packet * 10).min((self.packet * 2).max(14_720))
    }

    /// RFC 9002 section 7.2: two packets.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.packet * 2
    }

    /// `window` held between the bounds; the lower one wins.
    #[must_use]
    pub fn clamp(&self, window: u64) -> u64 {
        window.min(self.max).max(self.min())
    }
}

/// A window in bytes that reacts to acks and to congestion.
pub trait Congestion {
    /// `bytes` in flight, sent at `sent_at`, were acknowledged. `app_limited` says that the sender did
    /// not use its window.
    fn on_acked(&mut self, now: Instant, sent_at: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator);

    /// The newest packet acknowledged gave a round-trip sample, without what the peer says it waited. Called once per ack, after its
    /// packets.
    fn on_sample(&mut self, now: Instant, sample: Duration, rtt: &RttEstimator) {
        let _ = (now, sample, rtt);
    }

    /// `lost` bytes, the newest of them sent at `sent_at`, were lost; or (0) a packet sent then came back marked. True if this opened a
    /// new recovery period; false if it belongs to the current one, or is no sign of congestion to this controller.
    fn on_congestion_event(&mut self, now: Instant, sent_at: Instant, lost: u64) -> bool;

    /// RFC 9002 section 7.6: everything sent over a long time was lost; down to the smallest window.
    fn on_persistent(&mut self, now: Instant);

    /// Every loss behind the newest congestion event turned out to be reordering: take it back.
    fn on_spurious(&mut self, now: Instant);

    /// The path's largest datagram changed to `bytes`.
    fn on_packet_size(&mut self, bytes: u64);

    /// Bytes that may be in flight.
    fn window(&self) -> u64;

    /// Whether the window still doubles per round trip.
    fn in_slow_start(&self) -> bool;

    /// Packets that may leave together however slow the path is.
    fn burst_packets(&self) -> u64 {
        BURST_PACKETS
    }

    /// Starts afresh on a new path.
    fn reset(&mut self);
}

/// Which controller a path uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 9002 section 7.
    NewReno,
    /// Copa: follows delay. For paths with random loss or deep queues; beside loss-based flows it gets less than they do.
    Copa,
}

impl Algorithm {
    /// Every controller.
    pub const ALL: [Self; 3] = [Self::Cubic, Self::NewReno, Self::Copa];

    /// Its name in configuration files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::NewReno => "new-reno",
            Self::Copa => "copa",
        }
    }
}

/// A controller, chosen at the association's start.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one per association, and the larger one is the usual one"
)]
pub enum Controller {
    /// RFC 9438.
    Cubic(Cubic),
    /// RFC 9002 section 7.
    NewReno(NewReno),
    /// By delay.
    Copa(Copa),
}

impl Controller {
    /// A fresh controller of the given kind.
    #[must_use]
    pub fn new(algorithm: Algorithm, limits: WindowLimits) -> Self {
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::new(limits)),
            Algorithm::NewReno => Self::NewReno(NewReno::new(limits)),
            Algorithm::Copa => Self::Copa(Copa::new(limits)),
        }
    }
}

macro_rules! forward {
    ($this:expr, $inner:ident => $call:expr) => {
        match $this {
            Self::Cubic($inner) => $call,
            Self::NewReno($inner) => $call,
            Self::Copa($inner) => $call,
        }
    };
}

impl Congestion for Controller {
    fn on_acked(&mut self, now: Instant, sent_at: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        forward!(self, inner => inner.on_acked(now, sent_at, bytes, app_limited, rtt));
    }

    fn on_sample(&mut self, now: Instant, sample: Duration, rtt: &RttEstimator) {
        forward!(self, inner => inner.on_sample(now, sample, rtt));
    }

    fn on_congestion_event(&mut self, now: Instant, sent_at: Instant, lost: u64) -> bool {
        forward!(self, inner => inner.on_congestion_event(now, sent_at, lost))
    }

    fn on_persistent(&mut self, now: Instant) {
        forward!(self, inner => inner.on_persistent(now));
    }

    fn on_spurious(&mut self, now: Instant) {
        forward!(self, inner => inner.on_spurious(now));
    }

    fn on_packet_size(&mut self, bytes: u64) {
        forward!(self, inner => inner.on_packet_size(bytes));
    }

    fn window(&self) -> u64 {
        forward!(self, inner => inner.window())
    }

    fn in_slow_start(&self) -> bool {
        forward!(self, inner => inner.in_slow_start())
    }

    fn burst_packets(&self) -> u64 {
        forward!(self, inner => inner.burst_packets())
    }

    fn reset(&mut self) {
        forward!(self, inner => inner.reset());
    }
}

/// When the current recovery period began: a packet sent up to then opens no new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct RecoveryPeriod(Option<Instant>);

impl RecoveryPeriod {
    pub(super) fn covers(self, sent_at: Instant) -> bool {
        self.0.is_some_and(|start| sent_at <= start)
    }

    pub(super) fn begin(&mut self, now: Instant) {
        self.0 = Some(now);
    }

    pub(super) fn end(&mut self) {
        self.0 = None;
    }
}

/// Nanoseconds of `span`, at least one, for use as a divisor.
pub(super) fn divisor(span: Duration) -> u64 {
    span.as_nanos().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WindowLimits = WindowLimits {
        packet: 1_200,
        max: 1 << 24,
    };

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn every_controller_keeps_the_contract_of_a_path() {
        for algorithm in Algorithm::ALL {
            let fresh = Controller::new(algorithm, LIMITS);
            let name = algorithm.name();
            assert_eq!(
                (fresh.window(), fresh.in_slow_start()),
                (LIMITS.initial(), true),
                "{name}"
            );
            let mut controller = fresh.clone();
            assert!(
                controller.on_congestion_event(at(100), at(50), LIMITS.initial()),
                "{name}"
            );
            controller.on_spurious(at(110));
            assert!(
                controller.window() >= LIMITS.initial(),
                "{name}: what was reordering is taken back"
            );
            controller.on_persistent(at(120));
            assert_eq!(controller.window(), LIMITS.min(), "{name}");
            controller.on_packet_size(1_400);
            assert_eq!(controller.window(), 2 * 1_400, "{name}: two packets, of whatever size");
            controller.reset();
            let restarted = WindowLimits {
                packet: 1_400,
                ..LIMITS
            };
            assert_eq!(
                (controller.window(), controller.in_slow_start()),
                (restarted.initial(), true),
                "{name}"
            );
        }
    }
}
