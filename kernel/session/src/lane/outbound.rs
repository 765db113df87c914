//! What leaves: packets of one association, assembled and sealed in the transmitter's slots.
//!
//! Invariants: nothing is taken from a queue before a slot is reserved; what a packet carries is recorded
//! with its number; only acknowledgements, probes and the close may exceed the congestion window.
//! Not here: which association may send next (`mod.rs`), what was lost (`recovery/`).

use net_base::{Addr, Check, Instant, SessionId, StreamId, mutant, reachable, sometimes};
use net_wire::{Flags, Frame, FrameWriter, HEADER_LEN, Header, OVERHEAD, TAG_LEN};

use crate::aead::Aead;
use crate::config::SessionConfig;
use crate::recovery::{SentInfo, Timeout};
use crate::tx::{Dest, Tx};

use super::association::{Association, Content, Phase};
use super::slots::Slots;
use super::streams::Owed;

/// Room that must be left in a packet for data to be worth adding.
const MIN_DATA_SPACE: usize = 64;
/// A packet with no more than this is taken for one that carries no data.
const CONTROL_PACKET: u64 = 128;

/// With more ranges than this in an acknowledgement, the peer is asked to acknowledge it, so that they can go.
const CROWDED_RANGES: usize = 4;
/// A packet with one path frame.
const PATH_PACKET: u64 = OVERHEAD as u64 + 10;

/// Whether an association sent everything it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// Nothing more for now.
    All,
    /// The transmitter is full.
    Blocked,
}

/// A packet under construction.
struct Draft {
    content: Content,
    eliciting: bool,
    header: Header,
}

impl<C: Check> Association<C> {
    /// Sends what may leave now.
    pub(crate) fn transmit<A: Aead>(
        &mut self,
        now: Instant,
        config: &SessionConfig,
        slots: &mut Slots<A>,
        tx: &mut dyn Tx,
    ) -> Sent {
        if !self.is_open() {
            return self.transmit_close(now, config, slots, tx);
        }
        if slots
            .get(self.current.id)
            .is_none_or(|slot| slot.is_expired(now, config))
        {
            // Nothing may be sealed any more: a new key or the idle timeout ends this.
            return Sent::All;
        }
        if self.transmit_confirm(now, slots, tx) == Sent::Blocked
            || self.transmit_paths(now, config, slots, tx) == Sent::Blocked
            || self.transmit_mtu_probe(now, config, slots, tx) == Sent::Blocked
        {
            return Sent::Blocked;
        }
        // Each round sends a packet or ends the loop, and sending uses up window or queues.
        while self.wants_to_send(now) {
            match self.transmit_packet(now, config, slots, tx) {
                Some(Sent::All) => {}
                Some(Sent::Blocked) => return Sent::Blocked,
                // What found no credit now owes the peer the news, and nothing else may ever wake us to tell it.
                None if self.streams.owes() && !mutant!(BlockedUnsaid) => {}
                None => break,
            }
        }
        Sent::All
    }

    /// Whether a packet should leave now. Sets when pacing lets the next one go.
    fn wants_to_send(&mut self, now: Instant) -> bool {
        if self.probes > 0 || self.received.ack_due(now) {
            return true;
        }
        let control =
            self.ping || !self.echo_requests.is_empty() || !self.echo_replies.is_empty() || self.streams.owes();
        if !control && !self.streams.has_data() {
            self.recovery.on_app_limited(true);
            return false;
        }
        let bytes = if control {
            CONTROL_PACKET
        } else {
            u64::from(self.mtu.current())
        };
        self.may_send(now, bytes)
    }

    fn may_send(&mut self, now: Instant, bytes: u64) -> bool {
        if !self.recovery.can_send(bytes) {
            reachable!(self.passed, WindowFull);
            self.recovery.on_app_limited(false);
            return false;
        }
        match self.recovery.pacing_deadline(now, bytes) {
            None => true,
            Some(at) => {
                reachable!(self.passed, Paced);
                self.recovery.on_app_limited(false);
                self.pace_until = Some(at);
                false
            }
        }
    }

    /// One packet of whatever is waiting; `None` where nothing came of it.
    fn transmit_packet<A: Aead>(
        &mut self,
        now: Instant,
        config: &SessionConfig,
        slots: &mut Slots<A>,
        tx: &mut dyn Tx,
    ) -> Option<Sent> {
        let probing = self.probes > 0;
        let limit = if probing { self.probe_size } else { u16::MAX };
        let len = usize::from(limit.min(self.mtu.current()));
        let data_allowed = probing || (self.streams.has_data() && self.may_send(now, len as u64));
        let Some(slot) = tx.reserve(self.dest(config), len) else {
            return Some(Sent::Blocked);
        };
        let mut draft = Draft {
            content: Content::default(),
            eliciting: false,
            header: Header::default(),
        };
        let mut written = self.write_control(now, &mut draft, &mut slot[HEADER_LEN..len - TAG_LEN]);
        let space = &mut slot[HEADER_LEN + written..len - TAG_LEN];
        if data_allowed && space.len() >= MIN_DATA_SPACE {
            written += self.write_data(&mut draft, space);
        }
        if self.probes > 0 && !draft.eliciting {
            // A probe must elicit an answer whatever else it carries.
            let mut writer = FrameWriter::new(&mut slot[HEADER_LEN + written..len - TAG_LEN]);
            draft.eliciting = writer.frame(&Frame::Ping);
            written += writer.len();
        }
        if written == 0 {
            return None;
        }
        if draft.eliciting {
            self.probes = self.probes.saturating_sub(1);
        }
        let packet = &mut slot[..OVERHEAD + written];
        if !self.seal(now, draft, slots, self.current.id, packet) {
            return None;
        }
        let len = packet.len();
        tx.commit(len);
        self.path.on_sent(self.path.active(), len as u64);
        Some(Sent::All)
    }

    fn dest(&self, config: &SessionConfig) -> Dest {
        Dest {
            to: self.path.active(),
            ecn: config.ecn && self.recovery.ecn_enabled(),
        }
    }

    /// Acknowledgement and control frames, as many as fit.
    fn write_control(&mut self, now: Instant, draft: &mut Draft, out: &mut [u8]) -> usize {
        let mut writer = FrameWriter::new(out);
        if self.received.ack_owed() {
            let counts = self.received.ecn();
            let ecn = (counts.ect0 | counts.ect1 | counts.ce != 0).then_some(net_wire::EcnCounts {
                ect0: counts.ect0,
                ect1: counts.ect1,
                ce: counts.ce,
            });
            let delay = self.received.delay(now).as_micros();
            // Whoever only acknowledges is never acknowledged, and would tell of every gap for ever.
            if self.received.ranges().len() > CROWDED_RANGES && now >= self.ack_ping_at {
                reachable!(self.passed, AckCrowded);
                self.ack_ping_at = now + self.recovery.pto();
                self.ping = true;
            }
            if writer.ack(ecn, delay, self.received.ranges()).is_some() {
                draft.content.ack_largest = self.received.largest();
                self.received.on_ack_sent();
            }
        }
        let eliciting_from = writer.len();
        if self.ping && writer.frame(&Frame::Ping) {
            self.ping = false;
        }
        while let Some(&token) = self.echo_requests.front() {
            if !writer.frame(&Frame::Echo(token)) {
                break;
            }
            self.echo_requests.pop_front();
            self.echo_sent(token, now);
        }
        while let Some(&token) = self.echo_replies.front() {
            if !writer.frame(&Frame::EchoReply(token)) {
                break;
            }
            self.echo_replies.pop_front();
        }
        if writer.len() > eliciting_from {
            draft.header.flags |= Flags::HEARTBEAT;
        }
        self.write_owed(draft, &mut writer);
        draft.eliciting |= writer.len() > eliciting_from;
        writer.len()
    }

    /// Limits, resets and the like that streams and the session owe the peer.
    fn write_owed(&mut self, draft: &mut Draft, writer: &mut FrameWriter<'_>) {
        if !self.streams.owes() || writer.remaining() < MIN_DATA_SPACE {
            return;
        }
        let (limit, blocked, streams) = self.streams.take_session_frames();
        sometimes!(self.passed, SessionBlocked, blocked.is_some());
        // Three frames of at most eleven bytes each fit the room just checked.
        draft.content.session_limit = limit.is_some_and(|limit| writer.frame(&Frame::MaxData(limit)));
        draft.content.session_blocked = blocked.is_some_and(|limit| writer.frame(&Frame::DataBlocked(limit)));
        draft.content.streams = streams.is_some_and(|count| writer.frame(&Frame::MaxStreams(count)));
        for slot in &mut draft.content.owed {
            let Some((id, owed, frame)) = self.streams.take_owed() else {
                break;
            };
            if !writer.frame(&frame) {
                self.streams.put_back(id, owed);
                break;
            }
            sometimes!(self.passed, StreamBlocked, owed == Owed::Blocked);
            *slot = Some((id, owed));
        }
    }

    /// One stream's run.
    fn write_data(&mut self, draft: &mut Draft, out: &mut [u8]) -> usize {
        let Some((id, run)) = self.streams.next_run(out.len()) else {
            return 0;
        };
        let written = self.streams.write_run(id, &run, out);
        draft.eliciting = true;
        draft.content.run = Some((id, run));
        if let Some(entry) = self.streams.get(id) {
            let setup = entry.setup;
            draft.header.stream = id;
            draft.header.sequence = run.sequence;
            draft.header.event_count = run.count;
            draft.header.subprotocol = setup.subprotocol;
            if setup.reliability.is_reliable() {
                draft.header.flags |= Flags::RELIABLE;
            } else {
                self.streams.released(id, &run);
            }
            if run.fin {
                draft.header.flags |= Flags::FIN;
            }
            if setup.priority > 0 {
                draft.header.flags |= Flags::PRIORITY;
                draft.header.priority = setup.priority;
            }
        }
        written
    }

    /// Numbers, records and seals a packet whose plaintext is written. False where there is no such key: the packet
    /// is plaintext still and must not leave.
    #[must_use]
    fn seal<A: Aead>(
        &mut self,
        now: Instant,
        draft: Draft,
        slots: &mut Slots<A>,
        under: SessionId,
        packet: &mut [u8],
    ) -> bool {
        self.seal_as(now, draft, slots, under, packet, false)
    }

    #[must_use]
    fn seal_as<A: Aead>(
        &mut self,
        now: Instant,
        draft: Draft,
        slots: &mut Slots<A>,
        under: SessionId,
        packet: &mut [u8],
        probe: bool,
    ) -> bool {
        let later = slots.holds();
        let Some(slot) = slots.get_mut(under) else { return false };
        let counter = self.take_counter();
        let mut header = draft.header;
        header.counter = counter;
        header.session = slot.info.remote;
        header.payload_len = (packet.len() - OVERHEAD) as u16;
        if later {
            slots.put_down(under, &header, packet);
        } else {
            slot.seal(&header, packet);
        }
        let info = SentInfo {
            bytes: packet.len() as u16,
            ack_eliciting: draft.eliciting,
            in_flight: draft.eliciting,
            mtu_probe: probe,
        };
        self.recovery.on_sent(now, counter, info, draft.content);
        if probe {
            self.mtu.on_probe_sent(counter);
        }
        if draft.eliciting {
            self.last_eliciting = now;
        }
        true
    }

    /// The empty confirm of a key the peer did not use yet.
    fn transmit_confirm<A: Aead>(&mut self, now: Instant, slots: &mut Slots<A>, tx: &mut dyn Tx) -> Sent {
        let again = self.recovery.pto();
        let Some(next) = self.next.as_mut().filter(|next| now >= next.confirm_at) else {
            return Sent::All;
        };
        let (id, to) = (next.key.id, self.path.active());
        let confirm_at = now + again;
        match self.transmit_frame(now, slots, tx, id, to, &Frame::Ping) {
            Sent::Blocked => Sent::Blocked,
            Sent::All => {
                if let Some(next) = self.next.as_mut() {
                    next.confirm_at = confirm_at;
                }
                Sent::All
            }
        }
    }

    /// Challenges and their answers, each to the address it is about.
    fn transmit_paths<A: Aead>(
        &mut self,
        now: Instant,
        _config: &SessionConfig,
        slots: &mut Slots<A>,
        tx: &mut dyn Tx,
    ) -> Sent {
        while let Some(&(to, data)) = self.path_responses.front() {
            if self.transmit_frame(now, slots, tx, self.current.id, to, &Frame::PathResponse(data)) == Sent::Blocked {
                return Sent::Blocked;
            }
            self.path_responses.pop_front();
        }
        if let Some((to, data)) = self.knock {
            if self.transmit_frame(now, slots, tx, self.current.id, to, &Frame::PathChallenge(data)) == Sent::Blocked {
                return Sent::Blocked;
            }
            self.knock = None;
        }
        while let Some((to, data)) = self.path.poll_challenge(now) {
            // A challenge that finds the transmitter full is repeated a probe timeout later.
            let may = self.path.may_send(to, PATH_PACKET);
            sometimes!(self.passed, PathLimited, !may);
            if may
                && self.transmit_frame(now, slots, tx, self.current.id, to, &Frame::PathChallenge(data))
                    == Sent::Blocked
            {
                return Sent::Blocked;
            }
        }
        Sent::All
    }

    /// A packet of one frame, outside window and pacing: there are few of them and each is bounded.
    fn transmit_frame<A: Aead>(
        &mut self,
        now: Instant,
        slots: &mut Slots<A>,
        tx: &mut dyn Tx,
        under: SessionId,
        to: Addr,
        frame: &Frame<'_>,
    ) -> Sent {
        let len = OVERHEAD + net_wire::encoded_len(frame);
        let Some(slot) = tx.reserve(Dest { to, ecn: false }, len) else {
            return Sent::Blocked;
        };
        let written = FrameWriter::new(&mut slot[HEADER_LEN..len - TAG_LEN]).frame(frame);
        debug_assert!(written, "the slot was sized for the frame");
        let header = Header {
            flags: Flags::HEARTBEAT,
            ..Header::default()
        };
        let draft = Draft {
            content: Content::default(),
            eliciting: !self.is_probe(&to),
            header,
        };
        if self.seal(now, draft, slots, under, &mut slot[..len]) {
            tx.commit(len);
            self.path.on_sent(to, len as u64);
        }
        Sent::All
    }

    /// A packet as long as the path may carry, to find out whether it does (RFC 8899).
    fn transmit_mtu_probe<A: Aead>(
        &mut self,
        now: Instant,
        config: &SessionConfig,
        slots: &mut Slots<A>,
        tx: &mut dyn Tx,
    ) -> Sent {
        let Some(size) = self.mtu.probe_due(now).map(usize::from) else {
            return Sent::All;
        };
        if !self.recovery.can_send(size as u64) {
            return Sent::All;
        }
        let Some(slot) = tx.reserve(self.dest(config), size) else {
            return Sent::Blocked;
        };
        let mut writer = FrameWriter::new(&mut slot[HEADER_LEN..size - TAG_LEN]);
        let filled = writer.frame(&Frame::Ping) && { writer.padding(writer.remaining()) };
        debug_assert!(filled, "a probe is filled to its last byte");
        let draft = Draft {
            content: Content::default(),
            eliciting: true,
            header: Header::default(),
        };
        if self.seal_as(now, draft, slots, self.current.id, &mut slot[..size], true) {
            tx.commit(size);
        }
        Sent::All
    }

    /// The close, once now and once for every doubling of what the peer still sends.
    fn transmit_close<A: Aead>(
        &mut self,
        now: Instant,
        config: &SessionConfig,
        slots: &mut Slots<A>,
        tx: &mut dyn Tx,
    ) -> Sent {
        let Phase::Closing {
            code,
            detail,
            reason,
            due: true,
            ..
        } = &self.phase
        else {
            return Sent::All;
        };
        let frame = Frame::Close {
            code: *code,
            detail: *detail,
            reason,
        };
        let len = OVERHEAD + net_wire::encoded_len(&frame);
        let Some(slot) = tx.reserve(
            Dest {
                to: self.path.active(),
                ecn: false,
            },
            len,
        ) else {
            return Sent::Blocked;
        };
        let written = FrameWriter::new(&mut slot[HEADER_LEN..len - TAG_LEN]).frame(&frame);
        debug_assert!(written, "the slot was sized for the frame");
        let counter = self.take_counter();
        let later = slots.holds();
        if let Some(key) = slots
            .get_mut(self.current.id)
            .filter(|key| !key.is_expired(now, config))
        {
            let payload_len = (len - OVERHEAD) as u16;
            let header = Header {
                counter,
                session: key.info.remote,
                payload_len,
                ..Header::default()
            };
            if later {
                slots.put_down(self.current.id, &header, &mut slot[..len]);
            } else {
                key.seal(&header, &mut slot[..len]);
            }
            tx.commit(len);
        }
        if let Phase::Closing { due, .. } = &mut self.phase {
            *due = false;
        }
        Sent::All
    }

    /// Runs the loss timer: lost packets are repeated, and a silent peer is probed with what it may be missing.
    pub(crate) fn on_recovery_time(&mut self, now: Instant) {
        let Self {
            recovery, streams, mtu, ..
        } = self;
        let (mut shrunk, mut probe_lost) = (false, false);
        let timeout = recovery.on_timeout(now, &mut |number, info, content| {
            probe_lost |= info.mtu_probe;
            shrunk |= super::inbound::on_lost(streams, mtu, now, number, info, &content);
        });
        sometimes!(self.passed, MtuProbeLost, probe_lost);
        sometimes!(self.passed, MtuBlackHole, shrunk);
        sometimes!(self.passed, LossByTimer, timeout == Timeout::LossDeclared);
        if let Timeout::Probe { count } = timeout {
            reachable!(self.passed, ProbeTimeout);
            sometimes!(self.passed, ProbeBackedOff, count > 1);
            self.probes = if count > 1 { 2 } else { 1 };
            self.probe_size = self.mtu.pto_size(count);
            self.repeat_oldest();
        }
        if shrunk {
            self.sync_mtu();
        }
    }

    /// The oldest data under way is to be sent again.
    pub(crate) fn repeat_oldest(&mut self) {
        let oldest = self
            .recovery
            .outstanding()
            .find(|(_, info, content)| info.ack_eliciting && content.run.is_some());
        if let Some(run) = oldest.and_then(|(_, _, content)| content.run) {
            let (id, run): (StreamId, _) = run;
            self.streams.on_run_lost(id, &run);
        }
    }
}
