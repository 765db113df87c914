//! What turns of the kernel told, until the handles or the driver take it.
//!
//! Invariants: changed under the hub's lock only; wakers are collected here and called by the hub; everything kept is
//! bounded by the kernel's own tables, or has a bound of its own beside it.
//! Not here: asking the kernel for anything (`hub.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use crate::api::{
    Addr, CloseCode, CloseReason, CommandId, ConnectError, Deadline, Duration, EntityId, Epoch, Event, Instant, Job,
    JobDone, JobId, Part, Refused, Reliability, SessionConfig, SessionKey, StoreError, StoreOp, StoreTicket, StreamId,
};
use crate::inbox::{End, Inbox};
use crate::mesh::Facts;
use crate::multicast::Waiting;
use crate::slots::Slots;

/// Ended sessions kept for `accept`; the oldest goes for one more.
const MAX_UNACCEPTED: usize = 256;
/// Peers kept connected, as many as the kernel keeps.
pub(crate) const MAX_JOINED: usize = 4_096;

/// A stream's place in [`Board`]; valid while one of its handles lives.
pub(crate) type Seat = usize;

/// A storage operation that ended: its ticket, whether it was a read, and what came of it.
pub(crate) type StoreDone = (StoreTicket, bool, Result<Option<Vec<u8>>, StoreError>);

/// What turns told, until somebody takes it.
pub(crate) struct Board {
    pub(crate) streams: Slots<StreamEntry>,
    pub(crate) index: HashMap<(SessionKey, StreamId), Seat>,
    /// The stream of the last part: most parts come in runs.
    pub(crate) last: Option<((SessionKey, StreamId), Seat)>,
    pub(crate) sessions: HashMap<SessionKey, SessionEntry>,
    pub(crate) connects: HashMap<CommandId, Connecting>,
    pub(crate) echoes: HashMap<CommandId, Echoing>,
    /// Sessions that peers opened and nobody accepted yet. Bounded by the kernel's table of sessions.
    pub(crate) arrived: VecDeque<SessionKey>,
    pub(crate) accepting: Wakers,
    /// Streams whose readers have something new.
    pub(crate) touched: Vec<Seat>,
    pub(crate) jobs: VecDeque<(JobId, Box<Job>)>,
    pub(crate) stores: VecDeque<(StoreTicket, StoreOp)>,
    pub(crate) worked: VecDeque<(JobId, JobDone)>,
    pub(crate) stored: VecDeque<StoreDone>,
    /// Wakers to call once the lock is free.
    pub(crate) wakes: Vec<Waker>,
    pub(crate) driver: Option<Waker>,
    /// What comes from the segment of the network, and goes there.
    pub(crate) segment: Waiting,
    /// Something waits for the driver.
    pub(crate) attention: bool,
    /// The kernel was refused a slot by a handle's turn: it waits for `TxReady`.
    pub(crate) refused: bool,
    pub(crate) deadline: Option<Instant>,
    /// When the driver's timer goes off.
    pub(crate) armed: Option<Instant>,
    pub(crate) next_command: u64,
    /// The command under way.
    pub(crate) current: Option<CommandId>,
    /// Its refusal.
    pub(crate) refusal: Option<Refused>,
    /// The answer to the `Open` under way.
    pub(crate) opened: Option<Seat>,
    /// Handles of the node, its sessions and streams.
    pub(crate) handles: usize,
    pub(crate) phase: Phase,
    /// Woken by what happens to the node: it ends, or is told that it is not the latest.
    pub(crate) ended: Wakers,
    /// Sessions without handles whose last stream was flushed.
    pub(crate) orphans: Vec<SessionKey>,
    /// Streams that the peer opened and nobody can accept.
    pub(crate) unwanted: Vec<(SessionKey, StreamId)>,
    /// Who says that this identity is older than what it has seen of it.
    pub(crate) rolled_back: Option<(EntityId, Epoch)>,
    pub(crate) stream_window: u64,
    pub(crate) session_window: u64,
    pub(crate) counters: Counters,
    pub(crate) facts: Facts,
    /// Where peers that are kept connected are dialled. Bounded by [`MAX_JOINED`].
    pub(crate) joined: BTreeMap<EntityId, Vec<Addr>>,
}

/// Where the node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Running,
    /// `Shutdown` was told to the kernel; what it has to say leaves.
    Closing,
    /// The driver has ended.
    Ended,
    /// What it held (socket, disk, lock) was let go.
    Gone,
}

/// What the driver counts for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent_datagrams: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) sent_calls: u64,
    pub(crate) refused_datagrams: u64,
    pub(crate) received_datagrams: u64,
    pub(crate) received_bytes: u64,
    pub(crate) received_calls: u64,
    pub(crate) sessions_opened: u64,
    pub(crate) sessions_closed: u64,
    pub(crate) connects_failed: u64,
    pub(crate) jobs_inline: u64,
    pub(crate) jobs_pooled: u64,
    pub(crate) turns: u64,
    pub(crate) moves: u64,
    pub(crate) rekeys: u64,
    pub(crate) lost_datagrams: u64,
    pub(crate) store_failures: u64,
    pub(crate) rtt: crate::metrics::RttHistogram,
}

impl Counters {
    pub(crate) const fn add(&mut self, more: &Self) {
        self.sent_datagrams += more.sent_datagrams;
        self.sent_bytes += more.sent_bytes;
        self.sent_calls += more.sent_calls;
        self.refused_datagrams += more.refused_datagrams;
        self.received_datagrams += more.received_datagrams;
        self.received_bytes += more.received_bytes;
        self.received_calls += more.received_calls;
        self.jobs_inline += more.jobs_inline;
        self.jobs_pooled += more.jobs_pooled;
    }
}

/// Several futures waiting for one thing.
#[derive(Debug, Default)]
pub(crate) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(crate) fn add(&mut self, waker: &Waker) {
        if !self.0.iter().any(|old| old.will_wake(waker)) {
            self.0.push(waker.clone());
        }
    }

    pub(crate) fn drain_into(&mut self, wakes: &mut Vec<Waker>) {
        wakes.append(&mut self.0);
    }
}

/// A session as handles see it.
pub(crate) struct SessionEntry {
    pub(crate) peer: EntityId,
    pub(crate) address: Addr,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) streams: BTreeSet<Seat>,
    /// Streams the peer opened and nobody accepted yet. Bounded by the streams the kernel lets a peer open.
    pub(crate) arrived: VecDeque<Seat>,
    pub(crate) accepting: Wakers,
    /// Woken by what happens to the session: closed, rekeyed, flushed, moved.
    pub(crate) watching: Wakers,
    pub(crate) rekeys: u64,
    pub(crate) moves: u64,
    /// Lost datagrams that the metrics have counted.
    pub(crate) lost_counted: u64,
    /// Streams finished here whose data the peer has not confirmed.
    pub(crate) unflushed: usize,
    /// Handles of it and of its streams.
    pub(crate) handles: usize,
    /// Handles of it alone: who could accept a stream.
    pub(crate) acceptors: usize,
}

/// What one direction of a stream, the one we send on, has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sending {
    /// Messages may follow.
    Open,
    /// Finished; the peer may lack some of it.
    Finishing,
    /// Finished; the peer has it all.
    Flushed,
    /// Reset from this side.
    Reset,
    /// The peer wanted no more, with its code.
    Stopped(u64),
}

/// A stream as handles see it.
pub(crate) struct StreamEntry {
    pub(crate) session: SessionKey,
    pub(crate) id: StreamId,
    pub(crate) reliability: Reliability,
    pub(crate) subprotocol: u16,
    /// What may be sent at once (payload plus 16 per message) on a stream that holds nothing.
    pub(crate) credit: u64,
    /// The kernel refused for lack of room and has not said that there is some again.
    pub(crate) full: bool,
    pub(crate) sending: Sending,
    pub(crate) writing: Wakers,
    pub(crate) inbox: Arc<Inbox>,
    /// The peer's direction ended, so that nothing needs to be stopped.
    pub(crate) received_all: bool,
    /// The session ended.
    pub(crate) ended: bool,
    pub(crate) send_handle: bool,
    pub(crate) recv_handle: bool,
    pub(crate) touched: bool,
}

/// Why an attempt gave no session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    Ended(ConnectError),
    Refused(Refused),
}

pub(crate) struct Connecting {
    pub(crate) waker: Option<Waker>,
    pub(crate) result: Option<Result<SessionKey, Failure>>,
}

pub(crate) struct Echoing {
    pub(crate) waker: Option<Waker>,
    pub(crate) session: SessionKey,
    pub(crate) rtt: Option<Duration>,
}

impl Board {
    pub(crate) fn new(config: &SessionConfig) -> Self {
        Self {
            streams: Slots::new(),
            index: HashMap::new(),
            last: None,
            sessions: HashMap::new(),
            connects: HashMap::new(),
            echoes: HashMap::new(),
            arrived: VecDeque::new(),
            accepting: Wakers::default(),
            touched: Vec::new(),
            jobs: VecDeque::new(),
            stores: VecDeque::new(),
            worked: VecDeque::new(),
            stored: VecDeque::new(),
            wakes: Vec::new(),
            driver: None,
            segment: Waiting::default(),
            attention: false,
            refused: false,
            deadline: None,
            armed: None,
            next_command: 1,
            current: None,
            refusal: None,
            opened: None,
            handles: 0,
            phase: Phase::Running,
            ended: Wakers::default(),
            orphans: Vec::new(),
            unwanted: Vec::new(),
            rolled_back: None,
            stream_window: config.stream_window,
            session_window: config.session_window,
            counters: Counters::default(),
            facts: Facts::default(),
            joined: BTreeMap::new(),
        }
    }

    pub(crate) fn stream(&mut self, seat: Seat) -> &mut StreamEntry {
        &mut self.streams[seat]
    }

    pub(crate) fn session(&mut self, key: SessionKey) -> Option<&mut SessionEntry> {
        self.sessions.get_mut(&key)
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = (&SessionKey, &SessionEntry)> {
        self.sessions.iter()
    }

    /// Calls `waker` when any session changes, and when the node ends.
    pub(crate) fn watch_all(&mut self, waker: &Waker) {
        self.sessions.values_mut().for_each(|entry| entry.watching.add(waker));
        self.ended.add(waker);
    }

    /// Whether somebody is about to be woken.
    pub(crate) const fn has_wakes(&self) -> bool {
        !self.wakes.is_empty()
    }

    /// The driver must look at the board.
    pub(crate) fn call_driver(&mut self) {
        self.attention = true;
    }

    /// Whether something waits for the driver; the mark is taken.
    pub(crate) fn take_attention(&mut self) -> bool {
        std::mem::replace(&mut self.attention, false)
    }

    /// Where the driver is called; answers whether it must look again at once.
    pub(crate) fn park_driver(&mut self, waker: &Waker) -> bool {
        if self.attention {
            return false;
        }
        if !self.driver.as_ref().is_some_and(|old| old.will_wake(waker)) {
            self.driver = Some(waker.clone());
        }
        true
    }

    /// One more handle of a session; `None` if it is unknown.
    pub(crate) fn hold_session(&mut self, key: SessionKey) -> Option<&SessionEntry> {
        let entry = self.sessions.get_mut(&key)?;
        entry.handles += 1;
        entry.acceptors += 1;
        Some(entry)
    }

    /// The next session a peer opened; the caller holds it.
    pub(crate) fn accept_session(&mut self) -> Option<(SessionKey, EntityId)> {
        while let Some(key) = self.arrived.pop_front() {
            if let Some(entry) = self.hold_session(key) {
                return Some((key, entry.peer));
            }
        }
        None
    }

    /// The next stream the peer of a session opened; the caller holds it.
    pub(crate) fn accept_stream(&mut self, key: SessionKey) -> Option<Seat> {
        let seat = self.sessions.get_mut(&key)?.arrived.pop_front()?;
        self.take_stream(seat);
        Some(seat)
    }

    /// How an attempt ended, if it has; its entry is gone then and the caller holds the session.
    pub(crate) fn connected(&mut self, id: CommandId, waker: &Waker) -> Option<Result<SessionKey, Failure>> {
        let connecting = self.connects.get_mut(&id)?;
        match connecting.result.take() {
            Some(result) => {
                self.connects.remove(&id);
                if let Ok(key) = result {
                    self.hold_session(key);
                }
                Some(result)
            }
            None => {
                connecting.waker = Some(waker.clone());
                None
            }
        }
    }

    /// The measured round trip, once it is known.
    pub(crate) fn echoed(&mut self, id: CommandId, waker: &Waker) -> Option<Duration> {
        let echoing = self.echoes.get_mut(&id)?;
        if echoing.rtt.is_none() {
            echoing.waker = Some(waker.clone());
        }
        echoing.rtt
    }

    pub(crate) fn forget_echo(&mut self, id: CommandId) {
        self.echoes.remove(&id);
    }

    /// Positions a reader may leave unreported. Small enough that all streams of a session together never hold so much
    /// of its window that the peer stalls, although each was asked when fewer were open.
    pub(crate) fn report_after(&self, session: SessionKey) -> u64 {
        let open = self
            .sessions
            .get(&session)
            .map_or(1, |entry| entry.streams.len().max(1)) as u64;
        (self.stream_window / 8).min(self.session_window / 16 / open)
    }

    /// Everything the driver held was let go.
    pub(crate) fn gone(&mut self) {
        self.phase = Phase::Gone;
        self.ended.drain_into(&mut self.wakes);
    }

    /// Ends the driver's duty: whoever still waits is told.
    pub(crate) fn end(&mut self) {
        if matches!(self.phase, Phase::Ended | Phase::Gone) {
            return;
        }
        self.phase = Phase::Ended;
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        for key in keys {
            self.close_session(key, &CloseReason::Local(CloseCode::Shutdown));
        }
        for connecting in self.connects.values_mut() {
            connecting
                .result
                .get_or_insert(Err(Failure::Ended(ConnectError::Cancelled)));
            self.wakes.extend(connecting.waker.take());
        }
        for echoing in self.echoes.values_mut() {
            self.wakes.extend(echoing.waker.take());
        }
        self.accepting.drain_into(&mut self.wakes);
        self.ended.drain_into(&mut self.wakes);
        self.facts.wake(&mut self.wakes);
    }

    pub(crate) fn take_stream(&mut self, seat: Seat) {
        let entry = &mut self.streams[seat];
        entry.send_handle = true;
        entry.recv_handle = true;
        if let Some(session) = self.sessions.get_mut(&entry.session) {
            session.handles += 2;
        }
    }

    pub(crate) fn after_turn(&mut self, deadline: Option<Deadline>) {
        self.counters.turns += 1;
        self.deadline = deadline.map(|deadline| deadline.at);
        while let Some(seat) = self.touched.pop() {
            if let Some(entry) = self.streams.get_mut(seat) {
                entry.touched = false;
                self.wakes.extend(entry.inbox.take_waker());
            }
        }
    }

    #[inline]
    pub(crate) fn on_part(&mut self, part: &Part<'_>) {
        let name = (part.session, part.stream);
        let seat = match self.last {
            Some((last, seat)) if last == name => seat,
            Some(_) | None => self.seat_of(name),
        };
        let entry = &mut self.streams[seat];
        let ordered = entry.reliability != Reliability::ReliableUnordered;
        if entry.inbox.deliver(part, ordered) && !entry.touched {
            entry.touched = true;
            self.touched.push(seat);
        }
    }

    /// The seat of a stream; a new one for a stream whose parts come before the word that it was opened.
    pub(crate) fn seat_of(&mut self, name: (SessionKey, StreamId)) -> Seat {
        let seat = match self.index.get(&name) {
            Some(&seat) => seat,
            None => self.insert_stream(name),
        };
        self.last = Some((name, seat));
        seat
    }

    pub(crate) fn insert_stream(&mut self, name: (SessionKey, StreamId)) -> Seat {
        let assemble = usize::try_from(self.stream_window / 4).unwrap_or(usize::MAX).max(1);
        let seat = self.streams.insert(StreamEntry {
            session: name.0,
            id: name.1,
            // Until it is known, parts are kept apart by message, which is right for every kind.
            reliability: Reliability::ReliableUnordered,
            subprotocol: 0,
            credit: 0,
            full: false,
            sending: Sending::Open,
            writing: Wakers::default(),
            inbox: Arc::new(Inbox::new(assemble)),
            received_all: false,
            ended: false,
            send_handle: false,
            recv_handle: false,
            touched: false,
        });
        self.index.insert(name, seat);
        if let Some(session) = self.sessions.get_mut(&name.0) {
            session.streams.insert(seat);
        }
        seat
    }

    pub(crate) fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected {
                session,
                peer,
                address,
                command,
            } => self.on_connected(session, peer, address, command),
            Event::ConnectFailed { command, peer, why } => self.on_connect_failed(command, peer, why),
            Event::Closed { session, peer, why } => {
                tracing::debug!(%peer, ?why, "session closed");
                self.close_session(session, &why);
            }
            Event::Opened {
                command: _,
                session,
                stream,
                credit,
            } => {
                let seat = self.seat_of((session, stream));
                self.streams[seat].credit = credit;
                self.opened = Some(seat);
            }
            Event::StreamOpened {
                session,
                stream,
                reliability,
                subprotocol,
                credit,
            } => {
                self.on_stream_opened((session, stream), reliability, subprotocol, credit);
            }
            Event::Writable {
                session,
                stream,
                bytes: _,
            } => self.on_writable(session, stream),
            Event::Finished { session, stream } => self.on_received_all(session, stream, End::Finished),
            Event::StreamReset { session, stream, code } => self.on_received_all(session, stream, End::Reset(code)),
            Event::Flushed { session, stream } => self.on_settled(session, stream, Sending::Flushed),
            Event::StreamStopped { session, stream, code } => {
                self.on_settled(session, stream, Sending::Stopped(code));
            }
            Event::Echo {
                session: _,
                command,
                rtt,
            } => self.on_echo(command, rtt),
            Event::Rekeyed { session } => {
                self.counters.rekeys += 1;
                self.on_session(session, |entry| entry.rekeys += 1);
            }
            Event::Moved { session, address } => self.on_moved(session, address),
            Event::StateRolledBack { peer, known } => {
                tracing::error!(%peer, known = known.0, "a peer knows a later incarnation of this identity");
                self.rolled_back = Some((peer, known));
                self.ended.drain_into(&mut self.wakes);
            }
            Event::Refused { command, why } => self.on_refused(command, why),
            Event::Mesh(fact) => self.facts.note(fact, &mut self.wakes),
            Event::StoreFailed { error } => {
                self.counters.store_failures += 1;
                tracing::error!(?error, "storage failed; it is not written again");
            }
        }
    }

    fn on_moved(&mut self, session: SessionKey, address: Addr) {
        tracing::info!(%address, "the peer is reached at another address");
        self.counters.moves += 1;
        self.on_session(session, |entry| {
            entry.address = address;
            entry.moves += 1;
        });
    }

    fn on_connect_failed(&mut self, command: CommandId, peer: EntityId, why: ConnectError) {
        tracing::debug!(%peer, ?why, "connection attempt failed");
        self.counters.connects_failed += 1;
        if let Some(connecting) = self.connects.get_mut(&command) {
            connecting.result = Some(Err(Failure::Ended(why)));
            self.wakes.extend(connecting.waker.take());
        }
    }

    /// Most refusals come in the command's own turn; one that needs a job first comes later.
    fn on_refused(&mut self, command: CommandId, why: Refused) {
        if self.current == Some(command) {
            self.refusal = Some(why);
        } else if let Some(connecting) = self.connects.get_mut(&command) {
            self.counters.connects_failed += 1;
            connecting.result = Some(Err(Failure::Refused(why)));
            self.wakes.extend(connecting.waker.take());
        }
    }

    fn on_writable(&mut self, session: SessionKey, stream: StreamId) {
        self.on_stream(session, stream, |entry, wakes| {
            entry.full = false;
            entry.writing.drain_into(wakes);
        });
    }

    fn on_echo(&mut self, command: CommandId, rtt: Duration) {
        self.counters.rtt.observe(rtt);
        if let Some(echoing) = self.echoes.get_mut(&command) {
            echoing.rtt = Some(rtt);
            self.wakes.extend(echoing.waker.take());
        }
    }

    pub(crate) fn on_connected(&mut self, key: SessionKey, peer: EntityId, address: Addr, command: Option<CommandId>) {
        tracing::debug!(%peer, %address, dialled = command.is_some(), "session up");
        if !self.sessions.contains_key(&key) {
            self.counters.sessions_opened += 1;
            let entry = SessionEntry {
                peer,
                address,
                closed: None,
                streams: BTreeSet::new(),
                arrived: VecDeque::new(),
                accepting: Wakers::default(),
                watching: Wakers::default(),
                rekeys: 0,
                moves: 0,
                lost_counted: 0,
                unflushed: 0,
                handles: 0,
                acceptors: 0,
            };
            self.sessions.insert(key, entry);
            if command.is_none() {
                self.arrived.push_back(key);
                self.accepting.drain_into(&mut self.wakes);
            }
        }
        if let Some(connecting) = command.and_then(|id| self.connects.get_mut(&id)) {
            connecting.result = Some(Ok(key));
            self.wakes.extend(connecting.waker.take());
        }
    }

    pub(crate) fn on_stream_opened(
        &mut self,
        name: (SessionKey, StreamId),
        reliability: Reliability,
        subprotocol: u16,
        credit: u64,
    ) {
        let seat = self.seat_of(name);
        let entry = &mut self.streams[seat];
        entry.reliability = reliability;
        entry.subprotocol = subprotocol;
        entry.credit = credit;
        if reliability != Reliability::ReliableUnordered {
            entry.inbox.set_ordered();
        }
        let expected = self.is_expected(name.0);
        if let Some(session) = self.sessions.get_mut(&name.0) {
            session.streams.insert(seat);
            if session.acceptors == 0 && !expected {
                self.unwanted.push(name);
                self.attention = true;
                return;
            }
            session.arrived.push_back(seat);
            session.accepting.drain_into(&mut self.wakes);
        }
    }

    pub(crate) fn on_received_all(&mut self, session: SessionKey, stream: StreamId, end: End) {
        self.on_stream(session, stream, |entry, wakes| {
            entry.received_all = true;
            wakes.extend(entry.inbox.end(end));
        });
    }

    pub(crate) fn on_settled(&mut self, session: SessionKey, stream: StreamId, how: Sending) {
        if let Some(&seat) = self.index.get(&(session, stream)) {
            self.settle(seat, how);
            self.sweep(seat);
        }
    }

    pub(crate) fn on_stream(
        &mut self,
        session: SessionKey,
        stream: StreamId,
        f: impl FnOnce(&mut StreamEntry, &mut Vec<Waker>),
    ) {
        if let Some(&seat) = self.index.get(&(session, stream)) {
            f(&mut self.streams[seat], &mut self.wakes);
        }
    }

    pub(crate) fn on_session(&mut self, session: SessionKey, f: impl FnOnce(&mut SessionEntry)) {
        if let Some(entry) = self.sessions.get_mut(&session) {
            f(entry);
            entry.watching.drain_into(&mut self.wakes);
        }
    }

    /// The sending direction has come to its end; the first end stays.
    pub(crate) fn settle(&mut self, seat: Seat, how: Sending) {
        let entry = &mut self.streams[seat];
        match entry.sending {
            Sending::Open => {}
            Sending::Finishing => {
                if let Some(session) = self.sessions.get_mut(&entry.session) {
                    // A session that closed has forgotten its count.
                    session.unflushed = session.unflushed.saturating_sub(1);
                    session.watching.drain_into(&mut self.wakes);
                    // A session that nobody holds any more is closed by the driver, outside of this turn.
                    if session.handles == 0 {
                        self.orphans.push(entry.session);
                        self.attention = true;
                    }
                }
            }
            Sending::Flushed | Sending::Reset | Sending::Stopped(_) => return,
        }
        entry.sending = how;
        entry.writing.drain_into(&mut self.wakes);
    }

    /// Forgets a stream that neither a handle nor the kernel needs.
    pub(crate) fn sweep(&mut self, seat: Seat) {
        let entry = &self.streams[seat];
        let session = self.sessions.get(&entry.session);
        let closed = session.is_none_or(|session| session.closed.is_some());
        let waits = session.is_some_and(|session| session.arrived.contains(&seat));
        let settled = !matches!(entry.sending, Sending::Open | Sending::Finishing);
        if entry.send_handle || entry.recv_handle || waits || !(settled || closed) {
            return;
        }
        let name = (entry.session, entry.id);
        if let Some(session) = self.sessions.get_mut(&name.0) {
            session.streams.remove(&seat);
        }
        self.index.remove(&name);
        self.last = None;
        self.streams.remove(seat);
    }

    pub(crate) fn close_session(&mut self, key: SessionKey, why: &CloseReason) {
        let Some(entry) = self.sessions.get_mut(&key) else {
            return;
        };
        if entry.closed.is_some() {
            return;
        }
        self.counters.sessions_closed += 1;
        self.attention |= self.handles == 0;
        entry.closed = Some(why.clone());
        entry.unflushed = 0;
        entry.accepting.drain_into(&mut self.wakes);
        entry.watching.drain_into(&mut self.wakes);
        let seats: Vec<Seat> = entry.streams.iter().copied().collect();
        for seat in seats {
            let entry = &mut self.streams[seat];
            entry.received_all = true;
            entry.ended = true;
            self.wakes.extend(entry.inbox.end(End::SessionClosed));
            entry.writing.drain_into(&mut self.wakes);
            self.sweep(seat);
        }
        for echoing in self.echoes.values_mut().filter(|echoing| echoing.session == key) {
            self.wakes.extend(echoing.waker.take());
        }
        let unheld = self.sessions.get(&key).is_some_and(|entry| entry.handles == 0);
        if unheld && !self.is_expected(key) {
            self.forget_session(key);
        }
        self.forget_oldest_unaccepted();
    }

    /// The next stream that nobody can accept and that is still there.
    pub(crate) fn pop_unwanted(&mut self) -> Option<Seat> {
        while let Some(name) = self.unwanted.pop() {
            if let Some(&seat) = self.index.get(&name) {
                return Some(seat);
            }
        }
        None
    }

    /// Whether somebody will still take a hold of a session: it waits for `accept`, or its `connect` was not polled.
    pub(crate) fn is_expected(&self, key: SessionKey) -> bool {
        self.arrived.contains(&key)
            || self
                .connects
                .values()
                .any(|connecting| connecting.result == Some(Ok(key)))
    }

    /// Sessions that ended before anybody accepted them are kept for their data, but not without bound.
    pub(crate) fn forget_oldest_unaccepted(&mut self) {
        let closed = |key: &SessionKey| self.sessions.get(key).is_none_or(|entry| entry.closed.is_some());
        if self.arrived.iter().filter(|key| closed(key)).count() > MAX_UNACCEPTED
            && let Some(at) = self.arrived.iter().position(closed)
            && let Some(key) = self.arrived.remove(at)
        {
            self.forget_session(key);
        }
    }

    pub(crate) fn forget_session(&mut self, key: SessionKey) {
        let Some(entry) = self.sessions.remove(&key) else {
            return;
        };
        for seat in entry.streams {
            let entry = &self.streams[seat];
            if !entry.send_handle && !entry.recv_handle {
                self.index.remove(&(entry.session, entry.id));
                self.streams.remove(seat);
                self.last = None;
            }
        }
    }
}
