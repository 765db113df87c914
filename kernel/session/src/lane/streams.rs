//! All streams of one association: their table, their credit and the control frames they owe the peer.
//!
//! Invariants: a stream id is opened once and never reused; at most `max_streams` streams that the peer opened
//! are open at once; a stream leaves the table only when both directions ended and everything delivered was
//! drained, so no credit is lost with it.
//! Not here: one stream's order and retransmission (`stream/`), packets (`outbound.rs`), the decision to close.

use alloc::collections::VecDeque;

use net_base::map::IdMap;
use net_base::{StreamId, mutant};
use net_wire::{DropReason, Frame, MESSAGE_CHARGE, Reliability};

use crate::config::SessionConfig;
use crate::scheduler::Scheduler;
use crate::stream::{PushError, RecvStream, RecvWindow, Run, SendConfig, SendLimit, SendStream};

use super::closed::ClosedSet;

/// A `StreamId` is `index << 3 | kind << 1 | opener`: the opener's bit is set for the side with the greater
/// EntityId, the kind is the reliability's number, the index counts the streams that side opened.
pub(crate) const fn stream_id(index: u64, reliability: Reliability, greater: bool) -> StreamId {
    StreamId(index << 3 | (reliability.to_byte() as u64) << 1 | greater as u64)
}

/// What a stream owes the peer, to be sent until acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Owed {
    /// MAX_STREAM_DATA.
    Limit = 1,
    /// STREAM_BLOCKED.
    Blocked = 2,
    /// RESET_STREAM.
    Reset = 4,
    /// STOP_SENDING.
    Stop = 8,
}

/// What happened to a stream that its user must learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamNotice {
    Opened {
        reliability: Reliability,
        subprotocol: u16,
    },
    Writable(u64),
    Finished,
    Flushed,
    Reset(u64),
    Stopped(u64),
    /// Both directions ended and everything was drained: the id is forgotten.
    Gone,
}

/// Fixed when a stream is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamSetup {
    /// Loss and order.
    pub reliability: Reliability,
    /// Overtakes streams of lower priority, within bounds.
    pub priority: u8,
    /// Share among streams of equal priority, at least 1.
    pub weight: u16,
    /// What the messages are.
    pub subprotocol: u16,
}

/// Both directions of one stream.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) setup: StreamSetup,
    limit: SendLimit,
    owed: u8,
    stop_code: u64,
    stopped: bool,
    announced: bool,
    told_finished: bool,
    told_flushed: bool,
}

/// The streams of one association.
#[derive(Debug)]
pub(crate) struct Streams {
    table: IdMap<StreamId, Entry>,
    scheduler: Scheduler<StreamId>,
    pub(crate) send: SendLimit,
    pub(crate) recv: RecvWindow,
    greater: bool,
    next_index: u64,
    peer_allows: u64,
    closed: ClosedSet,
    granted_streams: u64,
    owing: VecDeque<(StreamId, Owed)>,
    owe_session_limit: bool,
    owe_session_blocked: bool,
    owe_streams: bool,
    notices: VecDeque<(StreamId, StreamNotice)>,
    max_plaintext: usize,
    stream_window: u64,
    max_streams: u64,
    max_message: u32,
}

/// What both sides may use before the first grant arrives: fixed by the protocol, as handshakes carry no
/// parameters. The first protected packet raises each to the configured window.
pub const INITIAL_SESSION_CREDIT: u64 = 1 << 20;
/// The same for one stream.
pub const INITIAL_STREAM_CREDIT: u64 = 256 << 10;
/// Streams a side may open before the first MAX_STREAMS.
pub(crate) const INITIAL_STREAMS: u64 = 64;

/// Bytes one turn of the scheduler is worth per unit of weight: a full packet at weight 1.
const QUANTUM: u32 = 1_500;

impl Streams {
    /// No streams; `greater` says whether this side has the greater EntityId.
    pub(crate) fn new(config: &SessionConfig, greater: bool, max_plaintext: usize) -> Self {
        let mut recv = RecvWindow::new(INITIAL_SESSION_CREDIT);
        recv.widen(config.session_window);
        Self {
            table: IdMap::default(),
            scheduler: Scheduler::new(QUANTUM),
            send: SendLimit::new(INITIAL_SESSION_CREDIT),
            recv,
            greater,
            next_index: 0,
            peer_allows: INITIAL_STREAMS,
            closed: ClosedSet::default(),
            granted_streams: INITIAL_STREAMS,
            owing: VecDeque::new(),
            owe_session_limit: false,
            owe_session_blocked: false,
            owe_streams: false,
            notices: VecDeque::new(),
            max_plaintext,
            stream_window: config.stream_window,
            max_streams: config.max_streams,
            max_message: config.max_message,
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// `StreamLimit` when the peer allows no more; nothing is changed.
    pub(crate) fn open(&mut self, setup: StreamSetup) -> Result<StreamId, DropReason> {
        if self.next_index >= self.peer_allows {
            return Err(DropReason::StreamLimit);
        }
        let id = stream_id(self.next_index, setup.reliability, self.greater);
        self.next_index += 1;
        self.insert(id, setup, true);
        Ok(id)
    }

    fn insert(&mut self, id: StreamId, setup: StreamSetup, announced: bool) {
        let config = SendConfig {
            reliability: setup.reliability,
            priority: setup.priority,
            weight: setup.weight,
            // The kernel holds the credit and refuses what exceeds it.
            buffer: u64::MAX,
            max_plaintext: self.max_plaintext,
            max_message: self.max_message,
        };
        let mut recv = RecvStream::new(setup.reliability, INITIAL_STREAM_CREDIT, self.max_message);
        recv.widen(self.stream_window);
        let entry = Entry {
            send: SendStream::new(config),
            recv,
            setup,
            limit: SendLimit::new(INITIAL_STREAM_CREDIT),
            owed: 0,
            stop_code: 0,
            stopped: false,
            announced,
            told_finished: false,
            told_flushed: false,
        };
        self.table.insert(id, entry);
    }

    /// The stream `id`, opened by the peer now if it may be. `None`: it ended before, or was never ours to know.
    ///
    /// # Errors
    /// `StreamLimit` beyond what was allowed, `StreamState` for an id this side never opened or of no kind.
    pub(crate) fn touch(&mut self, id: StreamId) -> Result<Option<&mut Entry>, DropReason> {
        // Looked up twice rather than once because a borrow returned early would last for the whole function.
        if self.table.contains_key(&id) {
            return Ok(self.table.get_mut(&id));
        }
        let (index, reliability, greater) = split(id)?;
        if greater == self.greater {
            return if index < self.next_index {
                Ok(None)
            } else {
                Err(DropReason::StreamState)
            };
        }
        if index >= self.granted_streams {
            return Err(DropReason::StreamLimit);
        }
        if self.closed.contains(index) {
            return Ok(None);
        }
        // An index is used once, whatever the kind: else one grant would admit three streams.
        if Reliability::ALL
            .iter()
            .any(|&kind| self.table.contains_key(&stream_id(index, kind, greater)))
        {
            return Err(DropReason::StreamState);
        }
        self.insert(
            id,
            StreamSetup {
                reliability,
                priority: 0,
                weight: DEFAULT_WEIGHT,
                subprotocol: 0,
            },
            false,
        );
        Ok(self.table.get_mut(&id))
    }

    /// The stream `id` as it stands.
    pub(crate) fn get(&mut self, id: StreamId) -> Option<&mut Entry> {
        self.table.get_mut(&id)
    }

    /// Tells the user of a stream that the peer opened, once its first data says what it carries.
    pub(crate) fn announce(&mut self, id: StreamId, subprotocol: u16) {
        if let Some(entry) = self.table.get_mut(&id)
            && !entry.announced
        {
            entry.announced = true;
            entry.setup.subprotocol = subprotocol;
            let reliability = entry.setup.reliability;
            self.notices.push_back((
                id,
                StreamNotice::Opened {
                    reliability,
                    subprotocol,
                },
            ));
        }
    }

    /// Appends messages, all or none; answers what they cost (docs/protocol.md 4).
    ///
    /// # Errors
    /// `Closed` for an unknown stream or an ended direction, `TooLarge`. Nothing is changed.
    pub(crate) fn push<'m>(
        &mut self,
        id: StreamId,
        messages: impl Iterator<Item = &'m [u8]> + Clone,
    ) -> Result<u64, PushError> {
        let entry = self.table.get_mut(&id).ok_or(PushError::Closed)?;
        let max = entry.send.max_message();
        if messages.clone().any(|message| message.len() > max) {
            return Err(PushError::TooLarge { max });
        }
        let mut cost = 0;
        for message in messages {
            entry.send.push(message)?;
            cost += message.len() as u64 + MESSAGE_CHARGE;
        }
        self.wake(id);
        Ok(cost)
    }

    /// Lets the scheduler consider `id`.
    pub(crate) fn wake(&mut self, id: StreamId) {
        if let Some(entry) = self.table.get(&id) {
            self.scheduler.activate(id, entry.setup.weight, entry.setup.priority);
        }
    }

    /// No more messages follow.
    pub(crate) fn finish(&mut self, id: StreamId) {
        if let Some(entry) = self.table.get_mut(&id) {
            entry.send.finish();
            self.wake(id);
        }
    }

    /// Abandons the sending direction.
    pub(crate) fn reset(&mut self, id: StreamId, code: u64) {
        if let Some(entry) = self.table.get_mut(&id)
            && entry.send.reset_frame().is_none()
        {
            let freed = entry.send.buffered();
            entry.send.reset(code);
            self.freed(id, freed);
            self.scheduler.deactivate(id);
            self.owe(id, Owed::Reset);
        }
    }

    /// The user reads no more.
    pub(crate) fn stop(&mut self, id: StreamId, code: u64) {
        if let Some(entry) = self.table.get_mut(&id)
            && !entry.stopped
        {
            entry.stopped = true;
            entry.stop_code = code;
            entry.recv.stop();
            let freed = entry.recv.take_consumed();
            let finished = entry.recv.is_finished();
            self.recv.consume(freed);
            if !finished {
                self.owe(id, Owed::Stop);
            }
            self.settle(id);
        }
    }

    /// The user drained `bytes` that completed `messages` messages.
    pub(crate) fn consumed(&mut self, id: StreamId, bytes: u64, messages: u64) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        let positions = bytes
            .saturating_add(messages.saturating_mul(MESSAGE_CHARGE))
            .min(entry.recv.undrained());
        entry.recv.on_consumed(positions);
        self.credit(id);
        self.settle(id);
    }

    /// The highest position of `id` grew by `growth`: counts it for the session and grants what became free.
    ///
    /// # Errors
    /// `FlowControl` beyond the session's limit.
    pub(crate) fn grew(&mut self, id: StreamId, growth: u64) -> Result<(), DropReason> {
        self.recv.advance(growth)?;
        self.credit(id);
        self.settle(id);
        Ok(())
    }

    /// Returns what `id` freed to the session and queues new limits where they are worth a frame.
    fn credit(&mut self, id: StreamId) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        self.recv.consume(entry.recv.take_consumed());
        let raised = !entry.stopped && entry.recv.grant().is_some();
        if raised {
            self.owe(id, Owed::Limit);
        }
        if self.recv.grant().is_some() {
            self.owe_session_limit = true;
        }
    }

    /// RESET_STREAM from the peer.
    ///
    /// # Errors
    /// `StreamState`, `FlowControl`, `StreamLimit`: the session is to be closed.
    pub(crate) fn on_reset(&mut self, id: StreamId, code: u64, final_position: u64) -> Result<(), DropReason> {
        let Some(entry) = self.touch(id)? else { return Ok(()) };
        let growth = entry.recv.on_reset(code, final_position)?;
        if !entry.told_finished && !entry.stopped {
            entry.told_finished = true;
            self.announce(id, 0);
            self.notices.push_back((id, StreamNotice::Reset(code)));
        }
        self.grew(id, if mutant!(ResetLeaksCredit) { 0 } else { growth })
    }

    /// STOP_SENDING from the peer: this direction is reset with its code.
    ///
    /// # Errors
    /// `StreamState`, `StreamLimit`.
    pub(crate) fn on_stop(&mut self, id: StreamId, code: u64) -> Result<(), DropReason> {
        let Some(entry) = self.touch(id)? else { return Ok(()) };
        let running = entry.send.reset_frame().is_none() && !entry.send.is_finished();
        if running {
            self.announce(id, 0);
            self.notices.push_back((id, StreamNotice::Stopped(code)));
            self.reset(id, code);
        }
        Ok(())
    }

    /// STREAM_BLOCKED from the peer.
    ///
    /// # Errors
    /// `FlowControl`, `StreamState`, `StreamLimit`.
    pub(crate) fn on_blocked(&mut self, id: StreamId, position: u64) -> Result<(), DropReason> {
        let Some(entry) = self.touch(id)? else { return Ok(()) };
        let growth = entry.recv.on_blocked(position)?;
        self.recv.press();
        self.grew(id, growth)
    }

    /// DATA_BLOCKED from the peer.
    pub(crate) fn on_session_blocked(&mut self) {
        self.recv.press();
        if self.recv.grant().is_some() {
            self.owe_session_limit = true;
        }
    }

    /// MAX_STREAM_DATA from the peer.
    ///
    /// # Errors
    /// `StreamState`, `StreamLimit`.
    pub(crate) fn on_stream_limit(&mut self, id: StreamId, limit: u64) -> Result<(), DropReason> {
        if let Some(entry) = self.touch(id)?
            && entry.limit.raise(limit)
        {
            self.wake(id);
        }
        Ok(())
    }

    /// MAX_DATA from the peer.
    pub(crate) fn on_session_limit(&mut self, limit: u64) {
        if self.send.raise(limit) {
            self.wake_all();
        }
    }

    /// MAX_STREAMS from the peer.
    pub(crate) fn on_max_streams(&mut self, count: u64) {
        self.peer_allows = self.peer_allows.max(count.min(MAX_INDEX));
    }

    fn wake_all(&mut self) {
        for (&id, entry) in &self.table {
            self.scheduler.activate(id, entry.setup.weight, entry.setup.priority);
        }
    }

    /// The path MTU changed.
    pub(crate) fn set_max_plaintext(&mut self, bytes: usize) {
        self.max_plaintext = bytes;
        for index in 0..self.table.len() {
            if let Some((&id, entry)) = self.table.get_index_mut(index) {
                let dropped = entry.send.set_max_plaintext(bytes);
                self.freed(id, dropped);
            }
        }
    }

    /// Picks what the next packet carries: a stream and its run of at most `space` bytes. The caller writes the
    /// run before it asks again.
    pub(crate) fn next_run(&mut self, space: usize) -> Option<(StreamId, Run)> {
        while let Some(id) = self.scheduler.pick() {
            let Some(entry) = self.table.get_mut(&id) else {
                self.scheduler.remove(id);
                continue;
            };
            let session = entry.send.sent_position().saturating_add(self.send.available());
            let ignored = mutant!(SessionWindowIgnored) && entry.setup.reliability == Reliability::ReliableUnordered;
            let limit = entry.limit.limit().min(if ignored { u64::MAX } else { session });
            if let Some(run) = entry.send.next_run(space, limit) {
                self.send.spend(run.new_positions());
                return Some((id, run));
            }
            if entry.send.has_data(limit) {
                // It has something, but not for a packet with this little room.
                return None;
            }
            self.scheduler.deactivate(id);
            self.report_blocked(id, limit, session);
        }
        None
    }

    /// Whether a packet with `space` bytes of room could carry data.
    pub(crate) fn has_data(&mut self) -> bool {
        self.scheduler.pick().is_some()
    }

    fn report_blocked(&mut self, id: StreamId, limit: u64, session: u64) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        let blocked = entry.send.is_blocked(limit).is_some();
        if !blocked {
            return;
        }
        let by_session = session <= entry.limit.limit();
        // A FireAndForget stream whose last packets were lost must name its position, or nobody can grant more.
        let unseen = entry.send.unseen_position().is_some();
        if (!by_session || unseen) && entry.limit.report_blocked() {
            self.owe(id, Owed::Blocked);
        }
        if by_session && self.send.report_blocked() {
            self.owe_session_blocked = true;
            self.report_unseen();
        }
    }

    /// Blocked by the session's limit: every stream whose last packets were lost names its position.
    fn report_unseen(&mut self) {
        let unseen: alloc::vec::Vec<StreamId> = self
            .table
            .iter()
            .filter(|(_, entry)| entry.send.unseen_position().is_some())
            .map(|(&id, _)| id)
            .collect();
        for id in unseen {
            self.owe(id, Owed::Blocked);
        }
    }

    /// Charges `bytes` of a packet to `id` and writes its run.
    pub(crate) fn write_run(&mut self, id: StreamId, run: &Run, out: &mut [u8]) -> usize {
        let Some(entry) = self.table.get_mut(&id) else { return 0 };
        let written = entry.send.write_run(run, out);
        self.scheduler.charge(id, written.len);
        if !entry.send.has_data(u64::MAX) {
            // Spares the turn a round that would find out.
            self.scheduler.deactivate(id);
        }
        written.len
    }

    /// A packet that carried `run` was acknowledged.
    pub(crate) fn on_run_acked(&mut self, id: StreamId, run: &Run) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        let freed = entry.send.on_acked(run);
        let flushed = entry.send.is_finished() && !entry.told_flushed;
        if flushed {
            entry.told_flushed = true;
        }
        self.freed(id, freed);
        if flushed {
            if entry_was_finished(self.table.get(&id)) {
                self.notices.push_back((id, StreamNotice::Flushed));
            }
            self.settle(id);
        }
    }

    /// `bytes` of the send buffer of `id` came free.
    pub(crate) fn freed(&mut self, id: StreamId, bytes: u64) {
        if bytes > 0 {
            // Many acknowledgements in one batch make one notice.
            if let Some((last, StreamNotice::Writable(sum))) = self.notices.back_mut()
                && *last == id
            {
                *sum += bytes;
            } else {
                self.notices.push_back((id, StreamNotice::Writable(bytes)));
            }
        }
    }

    /// A FireAndForget run left: its room in the send buffer is free.
    pub(crate) fn released(&mut self, id: StreamId, run: &Run) {
        self.freed(id, run.end - run.start);
    }

    /// A packet that carried `run` was lost.
    pub(crate) fn on_run_lost(&mut self, id: StreamId, run: &Run) {
        if let Some(entry) = self.table.get_mut(&id) {
            entry.send.on_lost(run);
            entry.limit.forget_report();
            self.send.forget_report();
            self.wake(id);
        }
    }

    /// A control frame was acknowledged.
    pub(crate) fn on_owed_acked(&mut self, id: StreamId, owed: Owed) {
        if owed == Owed::Reset
            && let Some(entry) = self.table.get_mut(&id)
        {
            entry.send.on_reset_acked();
            self.settle(id);
        }
    }

    /// A control frame was lost: it is owed again, where it still matters.
    pub(crate) fn on_owed_lost(&mut self, id: StreamId, owed: Owed) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        let matters = match owed {
            Owed::Limit | Owed::Stop => !entry.recv.is_finished(),
            Owed::Blocked => {
                entry.send.is_blocked(entry.limit.limit()).is_some() || entry.send.unseen_position().is_some()
            }
            Owed::Reset => !entry.send.is_finished(),
        };
        if matters {
            self.owe(id, owed);
        }
    }

    /// A session-level frame was lost: MAX_DATA, DATA_BLOCKED or MAX_STREAMS.
    pub(crate) fn on_session_frames_lost(&mut self, limit: bool, blocked: bool, streams: bool) {
        let blocked = blocked && !mutant!(BlockedUnrepeated);
        self.owe_session_limit |= limit && !mutant!(CreditUpdateForgotten);
        self.owe_session_blocked |= blocked && self.send.available() == 0;
        self.owe_streams |= streams;
        if blocked {
            self.send.forget_report();
            self.wake_all();
        }
    }

    fn owe(&mut self, id: StreamId, owed: Owed) {
        if let Some(entry) = self.table.get_mut(&id)
            && entry.owed & owed as u8 == 0
        {
            entry.owed |= owed as u8;
            self.owing.push_back((id, owed));
        }
    }

    /// The session-level frames that are owed, marking them as sent: limit, blocked, streams.
    pub(crate) fn take_session_frames(&mut self) -> (Option<u64>, Option<u64>, Option<u64>) {
        let limit = core::mem::take(&mut self.owe_session_limit).then(|| self.recv.granted());
        let blocked = core::mem::take(&mut self.owe_session_blocked).then(|| self.send.limit());
        let streams = core::mem::take(&mut self.owe_streams).then_some(self.granted_streams);
        (limit, blocked, streams)
    }

    /// The next frame a stream owes, as it stands now.
    pub(crate) fn take_owed(&mut self) -> Option<(StreamId, Owed, Frame<'static>)> {
        while let Some((id, owed)) = self.owing.pop_front() {
            let Some(entry) = self.table.get_mut(&id) else { continue };
            entry.owed &= !(owed as u8);
            let frame = match owed {
                Owed::Limit => Some(Frame::MaxStreamData {
                    stream: id,
                    limit: entry.recv.granted(),
                }),
                Owed::Blocked => Some(Frame::StreamBlocked {
                    stream: id,
                    position: entry.send.sent_position(),
                }),
                Owed::Reset => entry
                    .send
                    .reset_frame()
                    .map(|(code, final_position)| Frame::ResetStream {
                        stream: id,
                        code,
                        final_position,
                    }),
                Owed::Stop => Some(Frame::StopSending {
                    stream: id,
                    code: entry.stop_code,
                }),
            };
            if let Some(frame) = frame {
                return Some((id, owed, frame));
            }
        }
        None
    }

    /// Puts back a frame that did not fit its packet.
    pub(crate) fn put_back(&mut self, id: StreamId, owed: Owed) {
        if let Some(entry) = self.table.get_mut(&id) {
            entry.owed |= owed as u8;
            self.owing.push_front((id, owed));
        }
    }

    /// Whether control frames wait to be sent.
    pub(crate) fn owes(&self) -> bool {
        !self.owing.is_empty() || self.owe_session_limit || self.owe_session_blocked || self.owe_streams
    }

    /// At the start of an association: tell the peer the configured windows.
    pub(crate) fn greet(&mut self) {
        if self.recv.grant().is_some() {
            self.owe_session_limit = true;
        }
        self.grant_streams();
    }

    fn grant_streams(&mut self) {
        let allowed = (self.closed.count() + self.max_streams).min(MAX_INDEX);
        if allowed > self.granted_streams && allowed - self.granted_streams >= self.max_streams.div_ceil(4) {
            self.granted_streams = allowed;
            self.owe_streams = true;
        }
    }

    /// Tells the user of a finished stream and removes it once nothing is left of it.
    pub(crate) fn settle(&mut self, id: StreamId) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        if !entry.recv.is_finished() {
            return;
        }
        if !entry.told_finished && !entry.stopped {
            entry.told_finished = true;
            if entry.recv.reset_code().is_none() {
                self.notices.push_back((id, StreamNotice::Finished));
            }
        }
        if entry.recv.undrained() > 0 || !entry.send.is_finished() {
            return;
        }
        self.scheduler.remove(id);
        self.table.swap_remove(&id);
        self.notices.push_back((id, StreamNotice::Gone));
        if let Ok((index, _, greater)) = split(id)
            && greater != self.greater
        {
            self.closed.insert(index);
            self.grant_streams();
        }
    }

    /// What the user must learn, oldest first.
    pub(crate) fn pop_notice(&mut self) -> Option<(StreamId, StreamNotice)> {
        self.notices.pop_front()
    }

    /// Streams in the table.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes held for data that arrived early, over all streams.
    pub(crate) fn memory(&self) -> usize {
        self.table.values().map(|entry| entry.recv.memory()).sum()
    }

    /// Asserts what must hold between turns.
    pub(crate) fn check(&self) {
        assert!(
            self.send.used() <= self.send.limit(),
            "sent beyond the session's credit"
        );
        assert!(self.recv.consumed() <= self.recv.used() && self.recv.used() <= self.recv.granted());
        assert!(
            self.owing.len() <= self.table.len() * 4 + OWING_SLACK,
            "owed frames are queued once each"
        );
        let remote = self.table.keys().filter(|id| (id.0 & 1 == 1) != self.greater).count() as u64;
        assert!(
            remote + self.closed.count() <= self.granted_streams,
            "more streams than were granted"
        );
    }
}

/// Entries of streams that left the table may linger in the queue of owed frames until it is read.
const OWING_SLACK: usize = 4_096;
/// Indices stay clear of the three low bits of an id.
const MAX_INDEX: u64 = 1 << 60;
/// Weight of the answering direction of a stream that the peer opened.
const DEFAULT_WEIGHT: u16 = 16;

/// Index, reliability and opener's bit of an id.
fn split(id: StreamId) -> Result<(u64, Reliability, bool), DropReason> {
    let reliability = Reliability::from_byte((id.0 >> 1 & 3) as u8).ok_or(DropReason::StreamState)?;
    Ok((id.0 >> 3, reliability, id.0 & 1 == 1))
}

/// Whether the user asked for the end (a reset also ends a stream, but is not a flush).
fn entry_was_finished(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| entry.send.reset_frame().is_none())
}
