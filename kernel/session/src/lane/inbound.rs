//! What arriving frames do to an association.
//!
//! Invariants: every frame here comes from a packet whose tag verified; an error means that the peer broke the
//! protocol and the session is to be closed. Not here: event frames, which the lane pulls one by one
//! (`mod.rs`), and the state of single streams (`stream/`).

use net_base::{Addr, Check, Duration, Instant, mutant, reachable, routed, sometimes};
use net_wire::{AckFrame, CloseCode, DropReason, Frame};

use crate::mtu::Mtu;
use crate::path::{Move, PathTimeout, Sighting, Verdict};
use crate::recovery::{Arrival, EcnMark, Fate, Received, SentInfo};
use crate::rx::Ecn;

use super::Closed;
use super::association::{Association, AssociationNotice, Content, Phase};
use super::streams::{Owed, Streams};

/// A packet that was opened and read to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) counter: u64,
    pub(crate) from: Addr,
    pub(crate) ecn: Ecn,
    pub(crate) len: usize,
    pub(crate) eliciting: bool,
    /// It carried nothing but path frames and padding.
    pub(crate) path_only: bool,
}

impl<C: Check> Association<C> {
    /// Takes a frame that carries no stream data.
    ///
    /// # Errors
    /// The reason the session is to be closed for.
    pub(crate) fn on_control(&mut self, now: Instant, from: Addr, frame: &Frame<'_>) -> Result<(), DropReason> {
        match *frame {
            Frame::Padding(_) | Frame::Ping => Ok(()),
            Frame::Ack(ack) => self.on_ack(now, &ack),
            Frame::MaxData(limit) => {
                self.streams.on_session_limit(limit);
                Ok(())
            }
            Frame::MaxStreamData { stream, limit } => self.streams.on_stream_limit(stream, limit),
            Frame::DataBlocked(_) => {
                self.streams.on_session_blocked();
                Ok(())
            }
            Frame::StreamBlocked { stream, position } => self.streams.on_blocked(stream, position),
            Frame::ResetStream {
                stream,
                code,
                final_position,
            } => self.streams.on_reset(stream, code, final_position),
            Frame::StopSending { stream, code } => self.streams.on_stop(stream, code),
            Frame::PathChallenge(data) => {
                self.on_challenge(from, data);
                Ok(())
            }
            Frame::PathResponse(data) => {
                self.on_path_response(now, data);
                Ok(())
            }
            Frame::Echo(token) => {
                self.on_echo(token);
                Ok(())
            }
            Frame::EchoReply(token) => {
                self.on_echo_reply(token, now);
                Ok(())
            }
            Frame::MaxStreams(count) => {
                self.streams.on_max_streams(count);
                Ok(())
            }
            Frame::Close { code, detail, reason } => {
                reachable!(self.passed, CloseReceived);
                self.notices.push_back(AssociationNotice::Closed(Closed::Remote {
                    code,
                    detail,
                    text: reason.into(),
                }));
                Ok(())
            }
            // The lane takes these itself.
            Frame::Event(_) | Frame::Segment { .. } | Frame::Stream { .. } => Err(DropReason::FrameNotAllowed),
        }
    }

    fn on_ack(&mut self, now: Instant, ack: &AckFrame<'_>) -> Result<(), DropReason> {
        let Self {
            recovery,
            streams,
            mtu,
            received,
            ..
        } = self;
        let mut resized = false;
        let (mut credit_lost, mut blocked_lost, mut probe_lost) = (false, false, false);
        let outcome = recovery.on_ack_into(
            now,
            ack.ranges(),
            Duration::from_micros(ack.delay_us()),
            ack.ecn().map(|counts| (counts.ect0, counts.ect1, counts.ce)),
            &mut |fate, number, info: &SentInfo, content: Content| match fate {
                Fate::Acked => resized |= on_acked(streams, mtu, received, now, number, info, &content),
                Fate::Lost => {
                    if C::ON {
                        credit_lost |= content.session_limit || content.owes(Owed::Limit);
                        probe_lost |= info.mtu_probe;
                        blocked_lost |= content.session_blocked || content.owes(Owed::Blocked);
                    }
                    resized |= on_lost(streams, mtu, now, number, info, &content);
                }
            },
        );
        let outcome = outcome.map_err(|_| DropReason::AckOfUnsent)?;
        sometimes!(self.passed, CreditLost, credit_lost);
        sometimes!(self.passed, BlockedLost, blocked_lost);
        sometimes!(self.passed, MtuProbeLost, probe_lost);
        sometimes!(self.passed, LossByAck, outcome.lost_packets > 0);
        sometimes!(self.passed, LossSpurious, outcome.spurious > 0);
        sometimes!(self.passed, CongestionEvent, outcome.congestion);
        sometimes!(self.passed, CongestionPersistent, outcome.persistent);
        sometimes!(self.passed, MtuRaised, resized && self.mtu.current() > self.mtu.base());
        sometimes!(
            self.passed,
            MtuBlackHole,
            resized && self.mtu.current() == self.mtu.base()
        );
        if resized {
            self.sync_mtu();
        }
        Ok(())
    }

    /// A packet was read to its end: acknowledge it, and see whether the peer moved.
    pub(crate) fn on_arrived(&mut self, now: Instant, arrived: Arrived) {
        let newest = self.received.largest().is_none_or(|largest| arrived.counter > largest);
        let mark = match arrived.ecn {
            Ecn::NotEct => EcnMark::NotEct,
            Ecn::Ect0 => EcnMark::Ect0,
            Ecn::Ect1 => EcnMark::Ect1,
            Ecn::Ce => EcnMark::Ce,
        };
        let arrival = self.received.insert(arrived.counter, now, arrived.eliciting, mark);
        sometimes!(self.passed, AckForgotten, arrival == Arrival::Forgotten);
        self.last_received = now;
        if !routed::is_routed(&arrived.from) {
            self.heard_direct = now;
        }
        self.totals.received += 1;
        self.totals.received_bytes += arrived.len as u64;
        self.path.on_received(arrived.from, arrived.len as u64);
        if newest && self.is_open() {
            self.on_newest(now, arrived);
        }
        if let Phase::Closing { heard, due, .. } = &mut self.phase {
            *heard += 1;
            // Powers of two: two sides that are both closing must not keep each other talking.
            *due |= heard.is_power_of_two();
            sometimes!(self.passed, CloseRepeated, *due);
        }
    }

    fn on_newest(&mut self, now: Instant, arrived: Arrived) {
        // A routed packet never changes an address (PROTOCOL 4), and neither does a direct one where the direct path has
        // just failed: whoever noticed decides when it may carry again.
        let other = arrived.from != self.path.active();
        if other && !mutant!(RoutedMoves) && (routed::is_routed(&arrived.from) || self.detour) {
            return;
        }
        match self.path.on_newest(arrived.from, arrived.path_only) {
            Sighting::Active | Sighting::Candidate | Sighting::Ignored => {}
            Sighting::Unknown if mutant!(PathFollowedUnasked) => {
                let from = self.path.active();
                self.path.relocate(arrived.from, true);
                self.moved(now, Move { from, to: arrived.from });
            }
            Sighting::Unknown => {
                reachable!(self.passed, PathChallenged);
                let (new, old) = (self.rng.bytes8(), self.rng.bytes8());
                let pto = self.recovery.pto();
                self.path
                    .on_candidate(now, arrived.from, arrived.len as u64, pto, new, old);
            }
            Sighting::Returned(to) => {
                reachable!(self.passed, PathReturned);
                self.moved(now, to);
            }
        }
    }

    fn on_path_response(&mut self, now: Instant, data: [u8; 8]) {
        match self.path.on_response(now, data) {
            Verdict::Unmatched | Verdict::OldAlive => {}
            Verdict::Held => reachable!(self.passed, PathHeld),
            Verdict::Stayed { .. } => reachable!(self.passed, PathRefused),
            Verdict::Moved(to) => {
                reachable!(self.passed, PathMoved);
                self.moved(now, to);
            }
            Verdict::Returned(to) => {
                reachable!(self.passed, PathReturned);
                self.moved(now, to);
            }
        }
    }

    /// Ends what lasted too long on the path.
    pub(crate) fn on_path_time(&mut self, now: Instant) {
        if self.path.deadline().is_none_or(|at| now < at) {
            return;
        }
        match self.path.on_timeout(now) {
            PathTimeout::Nothing | PathTimeout::Settled => {}
            PathTimeout::CandidateFailed(_) => reachable!(self.passed, PathFailed),
            PathTimeout::Moved(to) => self.moved(now, to),
        }
    }

    /// The peer is reached elsewhere now: everything learned about the old path is void, and new keys unlink
    /// what an observer of both paths could compare (PROTOCOL 4).
    pub(crate) fn moved(&mut self, now: Instant, to: Move) {
        if routed::is_routed(&to.from) {
            reachable!(self.passed, PathDirect);
        }
        self.arrive(now, to.to);
        self.force_rekey(now);
    }

    /// The path is another one.
    pub(crate) fn arrive(&mut self, now: Instant, to: Addr) {
        self.recovery.reset_path(now);
        self.set_overhead(&to);
        self.mtu.reset();
        self.sync_mtu();
        self.totals.moves += 1;
        self.notices.push_back(AssociationNotice::Moved(to));
    }

    /// A host said that datagrams of this size do not fit the local interface.
    pub(crate) fn on_too_large(&mut self) {
        self.mtu.reset();
        self.sync_mtu();
    }
}

/// A packet that carried `content` arrived. Answers whether the path's MTU changed.
fn on_acked(
    streams: &mut Streams,
    mtu: &mut Mtu,
    received: &mut Received,
    now: Instant,
    number: u64,
    info: &SentInfo,
    content: &Content,
) -> bool {
    if let Some((id, run)) = &content.run {
        streams.on_run_acked(*id, run);
    }
    for (id, owed) in content.owed.iter().flatten() {
        streams.on_owed_acked(*id, *owed);
    }
    if let Some(largest) = content.ack_largest {
        received.on_ack_of_ack(largest);
    }
    if info.mtu_probe {
        return mtu.on_probe_acked(now, number).is_some();
    }
    mtu.on_packet_acked(info.bytes);
    false
}

/// A packet that carried `content` was lost. Answers whether the path's MTU changed.
pub(crate) fn on_lost(
    streams: &mut Streams,
    mtu: &mut Mtu,
    now: Instant,
    number: u64,
    info: &SentInfo,
    content: &Content,
) -> bool {
    if let Some((id, run)) = &content.run {
        streams.on_run_lost(*id, run);
    }
    for (id, owed) in content.owed.iter().flatten() {
        streams.on_owed_lost(*id, *owed);
    }
    streams.on_session_frames_lost(content.session_limit, content.session_blocked, content.streams);
    if info.mtu_probe {
        mtu.on_probe_lost(now, number);
        return false;
    }
    mtu.on_packet_lost(now, info.bytes)
}

/// What a session is closed with when the peer broke the protocol by `reason`.
#[must_use]
pub fn close_code(reason: DropReason) -> CloseCode {
    const OWN_CODES: [(DropReason, CloseCode); 4] = [
        (DropReason::FlowControl, CloseCode::FlowControl),
        (DropReason::StreamLimit, CloseCode::StreamLimit),
        (DropReason::MessageTooLarge, CloseCode::MessageTooLarge),
        (DropReason::KeyExpired, CloseCode::KeyExpired),
    ];
    let own = OWN_CODES.iter().find(|(known, _)| *known == reason);
    own.map_or(CloseCode::ProtocolViolation, |&(_, code)| code)
}
