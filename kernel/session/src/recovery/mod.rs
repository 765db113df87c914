//! Loss detection, congestion control and pacing over one packet number space (RFC 9002).
//!
//! | file | role |
//! |---|---|
//! | `mod.rs` | what is in flight, acks, losses, timers |
//! | `log.rs` | the sent packets, in order of their numbers |
//! | `rtt.rs` | round-trip estimate |
//! | `congestion.rs` | the controllers' trait and closed choice |
//! | `cubic.rs`, `new_reno.rs`, `copa.rs` | the controllers |
//! | `pacer.rs` | token bucket |
//! | `received.rs` | the other direction: what arrived and when to acknowledge it |
//!
//! Invariants: each packet's content is handed back at most once, as acknowledged or as lost, and every
//! ack-eliciting one exactly once while the peer answers; an ack that covers a number never sent changes
//! nothing; work per ack is bounded by its ranges plus the packets it settles.
//! Not here: what packets carry, encryption, the choice of what to send again.

use alloc::collections::VecDeque;
use net_base::{Duration, Instant};

pub mod congestion;
pub mod copa;
pub mod cubic;
mod log;
pub mod new_reno;
pub mod pacer;
pub mod received;
pub mod rtt;

pub use congestion::{Algorithm, Congestion, Controller, WindowLimits};
pub use pacer::{Pacer, PacingRate};
pub use received::{Arrival, EcnCounts, EcnMark, Received};
pub use rtt::{GRANULARITY, RttEstimator};

use log::{Packet, SentLog};

/// RFC 9002 section 6.1.1: this many newer packets acknowledged means lost.
const PACKET_THRESHOLD: u64 = 3;
/// Spurious losses double the packet threshold and widen the time threshold at most this often.
const MAX_REORDER_STEPS: u32 = 4;
/// RFC 8985 section 6.2: congestion events without a spurious loss until the thresholds shrink again.
const REORDER_PERSISTENCE: u32 = 16;
/// Lost packets remembered so that a late ack is recognised.
const LOST_MEMORY: usize = 128;
/// Ranges accepted in one ack.
pub const MAX_ACK_RANGES: usize = 1_024;
/// Probe timeouts double at most this often.
const MAX_BACKOFF: u32 = 10;
/// No window is larger, whatever is configured: products of windows and packets stay in 64 bits.
const MAX_WINDOW: u64 = 1 << 40;
/// RFC 9002 section 7.6.1.
const PERSISTENT_THRESHOLD: u64 = 3;

/// What an association may configure; the rest are constants of the RFCs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveryConfig {
    /// Round-trip time assumed before the first sample.
    pub initial_rtt: Duration,
    /// Longest delay of an ack the peer may claim, and that our probe timeout allows for.
    pub max_ack_delay: Duration,
    /// Probe timeouts do not back off beyond this (unless the path itself is slower).
    pub max_pto: Duration,
    /// Congestion controller.
    pub algorithm: Algorithm,
    /// Largest datagram at the start, in bytes.
    pub packet_size: u16,
    /// Upper bound of the congestion window, in bytes.
    pub max_window: u64,
    /// Whether packets are sent with ECT(0) until validation fails.
    pub ecn: bool,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            initial_rtt: Duration::from_millis(333),
            max_ack_delay: Duration::from_millis(25),
            max_pto: Duration::from_secs(4),
            algorithm: Algorithm::Cubic,
            packet_size: 1_200,
            max_window: 64 << 20,
            ecn: true,
        }
    }
}

/// What a packet was, as far as recovery cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentInfo {
    /// Length of the datagram.
    pub bytes: u16,
    /// Whether the peer must acknowledge it. Others may be forgotten without being handed back.
    pub ack_eliciting: bool,
    /// Whether it counts against the congestion window.
    pub in_flight: bool,
    /// An MTU probe: its loss says nothing about congestion (RFC 8899 section 3).
    pub mtu_probe: bool,
}

/// How a packet was settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The peer has it.
    Acked,
    /// It is taken to be lost; what it carried has to be sent again.
    Lost,
}

/// Why an ack was refused. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckError {
    /// A range covers a number that was not sent, or was skipped as a trap (RFC 9000 section 21.4).
    NeverSent,
    /// Ranges are not descending and apart from each other, or there are none.
    Malformed,
    /// More than [`MAX_ACK_RANGES`].
    TooManyRanges,
}

/// What one ack did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AckOutcome {
    /// Packets acknowledged for the first time, not counting late acks of lost ones.
    pub acked_packets: u32,
    /// Their bytes, in flight or not.
    pub acked_bytes: u64,
    /// Packets declared lost.
    pub lost_packets: u32,
    /// Late acks of packets declared lost before.
    pub spurious: u32,
    /// The round-trip sample it gave.
    pub rtt_sample: Option<Duration>,
    /// It opened a new recovery period.
    pub congestion: bool,
    /// It showed persistent congestion.
    pub persistent: bool,
    /// It failed the validation of ECN, which is off from now on.
    pub ecn_failed: bool,
}

/// What a timer was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timeout {
    /// Not due.
    Nothing,
    /// Packets were declared lost.
    LossDeclared,
    /// No ack for a probe timeout: send one or two ack-eliciting packets, window or not
    /// (RFC 9002 section 6.2.4). `count` is 1 for the first one in a row.
    Probe {
        /// Timeouts in a row.
        count: u32,
    },
}

/// Running totals of an association.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecoveryStats {
    /// Packets sent.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets acknowledged in time.
    pub acked: u64,
    /// Their bytes.
    pub acked_bytes: u64,
    /// Packets declared lost.
    pub lost: u64,
    /// Of these, acknowledged late.
    pub spurious: u64,
    /// Probe timeouts.
    pub ptos: u64,
    /// Recovery periods opened.
    pub congestion_events: u64,
    /// Times persistent congestion was found.
    pub persistent: u64,
}

/// Counts of ECN marks: ECT(0), ECT(1), CE.
type EcnReport = (u64, u64, u64);

/// State of ECN on the current path (RFC 9000 section 13.4.2).
#[derive(Clone, Copy, Debug)]
struct Ecn {
    enabled: bool,
    /// Highest counts the peer reported.
    reported: EcnReport,
    /// Packets sent with ECT(0), ever.
    marked: u64,
}

/// A loss that may turn out to be reordering.
#[derive(Clone, Copy, Debug)]
struct LostPacket {
    number: u64,
    /// Its loss spoke of congestion.
    congests: bool,
}

/// Everything sent and not settled, and the path's estimate of what it can carry. `T` is what a packet
/// carried; it comes back through the `acked` and `lost` callbacks.
#[derive(Clone, Debug)]
pub struct Recovery<T> {
    config: RecoveryConfig,
    log: SentLog<T>,
    rtt: RttEstimator,
    controller: Controller,
    pacer: Pacer,
    packet: u64,
    /// Counts path resets; packets of earlier paths touch neither window nor estimate.
    path: u32,
    in_flight: u64,
    /// One packet may leave beside the window: a recovery period began (RFC 9002 section 7.3.2).
    repair: bool,
    app_limited: bool,
    largest_acked: Option<u64>,
    loss_at: Option<Instant>,
    last_eliciting: Instant,
    pto_count: u32,
    first_sample: Option<Instant>,
    lost: VecDeque<LostPacket>,
    /// Losses of the newest congestion event not yet shown spurious; `None` when it cannot be taken back.
    event_losses: Option<u32>,
    /// The first packet number lost in the newest congestion event.
    event_from: u64,
    reorder_steps: u32,
    reorder_persistence: u32,
    /// Losses of packets below this were already used to widen the thresholds.
    reorder_mark: u64,
    ecn: Ecn,
    stats: RecoveryStats,
}

/// Facts gathered while an ack is applied.
#[derive(Default)]
struct Applied {
    any_eliciting: bool,
    marked: u64,
    /// Send time of the newest packet of the current path acknowledged now.
    newest_sent: Option<Instant>,
}

impl<T> Recovery<T> {
    /// An empty space on a fresh path.
    #[must_use]
    pub fn new(config: &RecoveryConfig, now: Instant) -> Self {
        let packet = u64::from(config.packet_size.max(1));
        let limits = WindowLimits {
            packet,
            max: config.max_window.min(MAX_WINDOW),
        };
        Self {
            config: *config,
            log: SentLog::new(),
            rtt: RttEstimator::new(config.initial_rtt),
            controller: Controller::new(config.algorithm, limits),
            pacer: Pacer::new(now),
            packet,
            path: 0,
            in_flight: 0,
            repair: false,
            app_limited: false,
            largest_acked: None,
            loss_at: None,
            last_eliciting: now,
            pto_count: 0,
            first_sample: None,
            lost: VecDeque::new(),
            event_losses: None,
            event_from: 0,
            reorder_steps: 0,
            reorder_persistence: 0,
            reorder_mark: 0,
            ecn: Ecn {
                enabled: config.ecn,
                reported: (0, 0, 0),
                marked: 0,
            },
            stats: RecoveryStats::default(),
        }
    }

    /// Packet `number` left. Numbers strictly increase; those left out count as skipped and may never be
    /// acknowledged. While [`Self::ecn_enabled`], the datagram is taken to carry ECT(0).
    pub fn on_sent(&mut self, now: Instant, number: u64, info: SentInfo, content: T) {
        self.stats.sent += 1;
        self.stats.sent_bytes += u64::from(info.bytes);
        self.ecn.marked += u64::from(self.ecn.enabled);
        if info.in_flight {
            self.in_flight += u64::from(info.bytes);
            self.repair = false;
            let rate = self.rate();
            self.pacer.on_sent(now, u64::from(info.bytes), &rate);
        }
        if info.ack_eliciting {
            self.last_eliciting = now;
        }
        let marked = self.ecn.enabled;
        self.log.push(
            Packet {
                number,
                position: 0,
                info,
                sent_at: now,
                path: self.path,
                marked,
            },
            content,
        );
    }

    /// An ack arrived. `ranges` are (lowest, highest), both included, from the highest numbers down;
    /// `ack_delay` is the delay the peer claims, `ecn` its counts if it gave any.
    ///
    /// # Errors
    /// See [`AckError`]; nothing was changed.
    pub fn on_ack(
        &mut self,
        now: Instant,
        ranges: impl Iterator<Item = (u64, u64)> + Clone,
        ack_delay: Duration,
        ecn: Option<(u64, u64, u64)>,
        acked: &mut impl FnMut(u64, &SentInfo, T),
        lost: &mut impl FnMut(u64, &SentInfo, T),
    ) -> Result<AckOutcome, AckError> {
        self.on_ack_into(
            now,
            ranges,
            ack_delay,
            ecn,
            &mut |fate, number, info, content| match fate {
                Fate::Acked => acked(number, info, content),
                Fate::Lost => lost(number, info, content),
            },
        )
    }

    /// [`Self::on_ack`] with one callback for both fates, for owners whose two reactions share state.
    ///
    /// # Errors
    /// See [`AckError`]; nothing was changed.
    pub fn on_ack_into(
        &mut self,
        now: Instant,
        ranges: impl Iterator<Item = (u64, u64)> + Clone,
        ack_delay: Duration,
        ecn: Option<(u64, u64, u64)>,
        settle: &mut impl FnMut(Fate, u64, &SentInfo, T),
    ) -> Result<AckOutcome, AckError> {
        let largest = self.validate(ranges.clone())?;
        let mut outcome = AckOutcome::default();
        let mut applied = Applied::default();
        let newest = self
            .log
            .outstanding(largest)
            .filter(|packet| packet.path == self.path)
            .copied();
        let limited = self.under_used();
        for (low, high) in ranges {
            self.forgive(now, low, high, &mut outcome);
            self.settle_range(now, (low, high), limited, &mut outcome, &mut applied, settle);
        }
        let advanced = self.largest_acked.is_none_or(|known| largest > known);
        self.largest_acked = Some(self.largest_acked.map_or(largest, |known| known.max(largest)));
        if outcome.acked_packets > 0 {
            if let Some(newest) = newest.filter(|_| applied.any_eliciting) {
                let sample = now.since(newest.sent_at);
                let delay = ack_delay.min(self.config.max_ack_delay);
                self.rtt.update(sample, delay);
                let network = sample.saturating_sub(delay).max(Duration::from_nanos(1));
                self.controller.on_sample(now, network, &self.rtt);
                self.first_sample.get_or_insert(now);
                outcome.rtt_sample = Some(sample);
            }
            self.pto_count = 0;
        }
        if advanced {
            self.judge_ecn(now, ecn, &applied, &mut outcome);
        }
        self.detect_lost(now, &mut outcome, &mut |number, info, content| {
            settle(Fate::Lost, number, info, content)
        });
        Ok(outcome)
    }

    /// Runs whichever timer is due at `now`; harmless when none is. Afterwards the deadline lies ahead.
    pub fn on_timeout(&mut self, now: Instant, lost: &mut impl FnMut(u64, &SentInfo, T)) -> Timeout {
        if let Some(at) = self.loss_at {
            if at > now {
                return Timeout::Nothing;
            }
            let mut outcome = AckOutcome::default();
            self.detect_lost(now, &mut outcome, lost);
            // A probe timeout hidden behind the loss timer may be overdue: what was lost leaves again first.
            if self.deadline().is_some_and(|at| at <= now) {
                self.last_eliciting = now;
            }
            return if outcome.lost_packets > 0 {
                Timeout::LossDeclared
            } else {
                Timeout::Nothing
            };
        }
        if self.deadline().is_none_or(|at| at > now) {
            return Timeout::Nothing;
        }
        self.pto_count += 1;
        self.stats.ptos += 1;
        // The next timeout runs from here even if the owner sends no probe.
        self.last_eliciting = now;
        Timeout::Probe { count: self.pto_count }
    }

    /// When [`Self::on_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.loss_at.is_some() {
            return self.loss_at;
        }
        if self.log.eliciting() == 0 {
            return None;
        }
        let base = self.pto();
        // After a timeout the reference is the timeout itself or a later packet, so the first interval
        // of a series is `pto` and each later one twice the one before.
        let backoff = base * (1 << self.pto_count.min(MAX_BACKOFF));
        Some(self.last_eliciting + backoff.min(self.config.max_pto.max(base)))
    }

    /// The probe timeout without backoff (RFC 9002 section 6.2.1).
    #[must_use]
    pub fn pto(&self) -> Duration {
        self.rtt.probe_base() + self.config.max_ack_delay
    }

    /// Whether the window has room for `bytes` more, or a recovery period began and nothing left since: what was lost is worth one
    /// packet beside a window that has just shrunk.
    #[must_use]
    pub fn can_send(&self, bytes: u64) -> bool {
        self.repair || self.in_flight + bytes <= self.controller.window()
    }

    /// `None` when pacing lets `bytes` leave now, otherwise when to ask again.
    pub fn pacing_deadline(&mut self, now: Instant, bytes: u64) -> Option<Instant> {
        let rate = self.rate();
        self.pacer.ready(now, bytes, &rate)
    }

    /// Bytes sent on this path and neither acknowledged nor lost.
    #[must_use]
    pub const fn bytes_in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Congestion window in bytes.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.controller.window()
    }

    /// Whether the window still doubles per round trip.
    #[must_use]
    pub fn in_slow_start(&self) -> bool {
        self.controller.in_slow_start()
    }

    /// The round-trip estimate of the current path.
    #[must_use]
    pub const fn rtt(&self) -> &RttEstimator {
        &self.rtt
    }

    /// Whether the owner has nothing more to send although it may. Acks of an idle sender do not grow the
    /// window.
    pub fn on_app_limited(&mut self, limited: bool) {
        self.app_limited = limited;
    }

    /// The path's largest datagram is now `bytes` long.
    pub fn on_packet_size(&mut self, bytes: u16) {
        self.packet = u64::from(bytes.max(1));
        self.controller.on_packet_size(self.packet);
    }

    /// Whether packets are to be sent with ECT(0).
    #[must_use]
    pub const fn ecn_enabled(&self) -> bool {
        self.ecn.enabled
    }

    /// The path changed (RFC 9000 section 9.4): estimate, window, pacing and ECN start afresh. Packets of
    /// the old path are still detected as acknowledged or lost, without effect on the new one.
    pub fn reset_path(&mut self, now: Instant) {
        self.path += 1;
        self.in_flight = 0;
        self.repair = false;
        self.rtt = RttEstimator::new(self.config.initial_rtt);
        self.packet = u64::from(self.config.packet_size.max(1));
        self.controller.on_packet_size(self.packet);
        self.controller.reset();
        self.pacer.reset(now);
        self.pto_count = 0;
        self.first_sample = None;
        self.event_losses = None;
        self.ecn.enabled = self.config.ecn;
        // Thresholds of the old estimate mean nothing now; the next ack or timeout decides.
        self.loss_at = None;
    }

    /// The way that the path stands for is another one now: timeouts begin anew.
    pub const fn on_reroute(&mut self) {
        self.pto_count = 0;
    }

    /// Running totals.
    #[must_use]
    pub const fn stats(&self) -> &RecoveryStats {
        &self.stats
    }

    /// Ack-eliciting packets neither acknowledged nor lost, on whichever path.
    #[must_use]
    pub const fn eliciting_outstanding(&self) -> usize {
        self.log.eliciting()
    }

    /// Packets neither acknowledged nor lost, oldest first: what a probe may carry again.
    pub fn outstanding(&self) -> impl Iterator<Item = (u64, &SentInfo, &T)> {
        self.log
            .iter()
            .map(|(packet, content)| (packet.number, &packet.info, content))
    }

    /// The largest number the peer acknowledged.
    #[must_use]
    pub const fn largest_acked(&self) -> Option<u64> {
        self.largest_acked
    }

    fn rate(&self) -> PacingRate {
        PacingRate {
            window: self.controller.window(),
            rtt: self.rtt.smoothed(),
            slow_start: self.controller.in_slow_start(),
            packet: self.packet,
            together: self.controller.burst_packets(),
        }
    }

    /// RFC 9002 section 7.8. Slow start doubles per round trip, so half a window in flight uses it; in
    /// congestion avoidance a few packets of slack do.
    fn under_used(&self) -> bool {
        let window = self.controller.window();
        let used = if self.controller.in_slow_start() {
            window / 2
        } else {
            window - window / 8
        };
        self.app_limited && self.in_flight < used
    }

    /// Everything that can be wrong with an ack; returns the largest number. Bounded by
    /// [`MAX_ACK_RANGES`], each looked up in logarithmic time.
    fn validate(&self, ranges: impl Iterator<Item = (u64, u64)>) -> Result<u64, AckError> {
        let mut largest = None;
        let mut floor: Option<u64> = None;
        for (count, (low, high)) in ranges.enumerate() {
            if count == MAX_ACK_RANGES {
                return Err(AckError::TooManyRanges);
            }
            // Neighbouring ranges would be one: a gap of at least one number lies between.
            if low > high || floor.is_some_and(|floor| high.saturating_add(1) >= floor) {
                return Err(AckError::Malformed);
            }
            if !self.log.all_sent(low, high) {
                return Err(AckError::NeverSent);
            }
            floor = Some(low);
            largest.get_or_insert(high);
        }
        largest.ok_or(AckError::Malformed)
    }

    /// Settles what is outstanding in one validated range.
    fn settle_range(
        &mut self,
        now: Instant,
        (low, high): (u64, u64),
        limited: bool,
        outcome: &mut AckOutcome,
        applied: &mut Applied,
        settle: &mut impl FnMut(Fate, u64, &SentInfo, T),
    ) {
        let mut next = low;
        while let Some((packet, content)) = self.log.settle_first(next, high) {
            let bytes = u64::from(packet.info.bytes);
            outcome.acked_packets += 1;
            outcome.acked_bytes += bytes;
            self.stats.acked += 1;
            self.stats.acked_bytes += bytes;
            applied.any_eliciting |= packet.info.ack_eliciting;
            if packet.path == self.path {
                applied.marked += u64::from(packet.marked);
                applied.newest_sent = applied.newest_sent.max(Some(packet.sent_at));
                if packet.info.in_flight {
                    self.in_flight -= bytes;
                    self.controller.on_acked(now, packet.sent_at, bytes, limited, &self.rtt);
                }
            }
            settle(Fate::Acked, packet.number, &packet.info, content);
            if packet.number == high {
                break;
            }
            next = packet.number + 1;
        }
    }

    /// Recognises late acks of packets declared lost: widens the thresholds once per flight (RFC 8985
    /// section 6.2) and takes a congestion event back when all its losses were reordering.
    fn forgive(&mut self, now: Instant, low: u64, high: u64, outcome: &mut AckOutcome) {
        if self.lost.back().is_none_or(|newest| newest.number < low) {
            return;
        }
        let from = self.lost.partition_point(|packet| packet.number < low);
        let to = self.lost.partition_point(|packet| packet.number <= high);
        for packet in self.lost.drain(from..to) {
            outcome.spurious += 1;
            self.stats.spurious += 1;
            if packet.number >= self.reorder_mark {
                self.reorder_mark = self.log.next_number();
                self.reorder_steps = (self.reorder_steps + 1).min(MAX_REORDER_STEPS);
                self.reorder_persistence = REORDER_PERSISTENCE;
            }
            if packet.congests
                && packet.number >= self.event_from
                && let Some(left) = &mut self.event_losses
            {
                *left -= 1;
                if *left == 0 {
                    self.event_losses = None;
                    self.controller.on_spurious(now);
                }
            }
        }
    }

    /// RFC 9002 section 7.1 and RFC 9000 section 13.4.2.1.
    fn judge_ecn(&mut self, now: Instant, report: Option<EcnReport>, applied: &Applied, outcome: &mut AckOutcome) {
        if !self.ecn.enabled {
            // The next path counts from what the peer says now.
            self.ecn.reported = report.unwrap_or(self.ecn.reported);
            return;
        }
        let old = self.ecn.reported;
        let Some(new) = report else {
            if applied.marked > 0 {
                self.ecn.enabled = false;
                outcome.ecn_failed = true;
            }
            return;
        };
        let grown = (
            new.0.checked_sub(old.0),
            new.1.checked_sub(old.1),
            new.2.checked_sub(old.2),
        );
        let (Some(ect0), Some(0), Some(ce)) = grown else {
            self.ecn.enabled = false;
            outcome.ecn_failed = true;
            return;
        };
        let total = new.0.saturating_add(new.2);
        if ect0.saturating_add(ce) < applied.marked || total > self.ecn.marked {
            self.ecn.enabled = false;
            outcome.ecn_failed = true;
            return;
        }
        self.ecn.reported = new;
        if ce > 0
            && let Some(sent_at) = applied.newest_sent
        {
            // Marks are no reordering: this event is not taken back.
            if self.congestion_event(now, sent_at, 0, outcome) {
                self.event_losses = None;
            }
        }
    }

    /// Tells the controller; true if a new recovery period began.
    fn congestion_event(&mut self, now: Instant, sent_at: Instant, lost: u64, outcome: &mut AckOutcome) -> bool {
        if !self.controller.on_congestion_event(now, sent_at, lost) {
            return false;
        }
        outcome.congestion = true;
        self.repair = true;
        self.stats.congestion_events += 1;
        self.reorder_persistence = self.reorder_persistence.saturating_sub(1);
        if self.reorder_persistence == 0 {
            self.reorder_steps = 0;
        }
        true
    }

    /// RFC 9002 section 6.1.2, widened by an eighth for each step of tolerance.
    fn loss_delay(&self) -> Duration {
        let longer = self.rtt.smoothed().max(self.rtt.latest());
        longer.mul_ratio(9 + u64::from(self.reorder_steps), 8).max(GRANULARITY)
    }

    fn remember_lost(&mut self, number: u64, congests: bool) {
        if self.lost.len() == LOST_MEMORY {
            self.lost.pop_front();
        }
        self.lost.push_back(LostPacket { number, congests });
    }

    /// Declares lost what RFC 9002 section 6.1 calls lost. Both criteria are monotonic in the packet
    /// number, so the search ends at the first packet that is not lost, which sets the loss timer.
    fn detect_lost(&mut self, now: Instant, outcome: &mut AckOutcome, lost: &mut impl FnMut(u64, &SentInfo, T)) {
        self.loss_at = None;
        let Some(largest_acked) = self.largest_acked else {
            return;
        };
        let delay = self.loss_delay();
        let threshold = PACKET_THRESHOLD << self.reorder_steps;
        let mut burst = LossBurst::new(self.first_sample);
        while let Some(packet) = self
            .log
            .first_outstanding()
            .filter(|packet| packet.number < largest_acked)
        {
            let due = packet.sent_at + delay;
            if due > now && largest_acked - packet.number < threshold {
                self.loss_at = Some(due);
                break;
            }
            let number = packet.number;
            let Some((packet, content)) = self.log.settle_first(number, number) else {
                break;
            };
            outcome.lost_packets += 1;
            self.stats.lost += 1;
            let ours = packet.path == self.path;
            if ours && packet.info.in_flight {
                self.in_flight -= u64::from(packet.info.bytes);
            }
            let congests = ours && packet.info.in_flight && !packet.info.mtu_probe;
            burst.take(&packet, congests);
            self.remember_lost(packet.number, congests);
            lost(packet.number, &packet.info, content);
        }
        self.judge_burst(now, &burst, outcome);
    }

    fn judge_burst(&mut self, now: Instant, burst: &LossBurst, outcome: &mut AckOutcome) {
        let Some((first, newest)) = burst.congesting_span else {
            return;
        };
        if self.congestion_event(now, newest, burst.congesting_bytes, outcome) {
            self.event_from = first;
            self.event_losses = Some(0);
        }
        if let Some(left) = &mut self.event_losses {
            *left += burst.congesting;
        }
        if burst.longest > self.pto() * PERSISTENT_THRESHOLD {
            self.controller.on_persistent(now);
            self.repair = false;
            self.event_losses = None;
            outcome.persistent = true;
            self.stats.persistent += 1;
        }
    }
}

/// What one round of loss detection found.
struct LossBurst {
    first_sample: Option<Instant>,
    /// Losses that speak of congestion on the current path.
    congesting: u32,
    /// Their bytes.
    congesting_bytes: u64,
    /// The number of the first and the send time of the last of them.
    congesting_span: Option<(u64, Instant)>,
    /// Longest time between two lost ack-eliciting packets with nothing acknowledged between them.
    longest: Duration,
    run_start: Option<Instant>,
    position: Option<u64>,
}

impl LossBurst {
    fn new(first_sample: Option<Instant>) -> Self {
        let longest = Duration::ZERO;
        Self {
            first_sample,
            congesting: 0,
            congesting_bytes: 0,
            congesting_span: None,
            longest,
            run_start: None,
            position: None,
        }
    }

    /// Packets come in order; a jump in position means that one between was acknowledged.
    fn take(&mut self, packet: &Packet, congests: bool) {
        if self.position.is_some_and(|position| packet.position != position + 1) {
            self.run_start = None;
        }
        self.position = Some(packet.position);
        if !congests {
            return;
        }
        self.congesting += 1;
        self.congesting_bytes += u64::from(packet.info.bytes);
        let first = self.congesting_span.map_or(packet.number, |(first, _)| first);
        self.congesting_span = Some((first, packet.sent_at));
        // RFC 9002 section 7.6.2: only what was sent after the first sample counts.
        if packet.info.ack_eliciting && self.first_sample.is_some_and(|sample| packet.sent_at > sample) {
            let start = *self.run_start.get_or_insert(packet.sent_at);
            self.longest = self.longest.max(packet.sent_at.since(start));
        }
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
