//! What the driver and the handles share: the kernel behind one lock, and beside it what its turns told.
//!
//! Invariants: every turn of the kernel runs under the lock; wakers are called after it was released; a handle's turn
//! never transmits, it leaves a mark for the driver instead; an entry lives until both its handles are gone and the
//! kernel has said its last word on it.
//! Not here: the loop (`driver.rs`), the futures users hold (`node.rs`, `session.rs`, `stream.rs`).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::api::{
    Addr, CloseReason, Command, CommandId, ConnectError, Deadline, Dest, Drops, Duration, EntityId, Epoch, Event,
    Input, Instant, Io, Job, JobDone, JobId, Now, Part, Refused, Reliability, SessionConfig, SessionKey, SessionStats,
    StoreError, StoreOp, StoreTicket as Ticket, StreamId, Tx,
};

use crate::inbox::{End, Inbox};
use crate::slots::Slots;
use crate::tx::Transmitter;

/// The kernel as the driver sees it, so that tests drive another one and handles need no type parameters.
pub(crate) trait Core: Send {
    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline>;
    fn stats(&self, session: SessionKey) -> Option<SessionStats>;
    fn drops(&self) -> Drops;
}

/// Ended sessions kept for `accept`; the oldest goes for one more.
const MAX_UNACCEPTED: usize = 256;

/// A stream's place in [`Board`]; valid while one of its handles lives.
pub(crate) type Seat = usize;

/// The shared half of a node.
pub(crate) struct Shared {
    hub: Mutex<Hub>,
    pub(crate) entity: EntityId,
}

/// The kernel and its board.
pub(crate) struct Hub {
    core: Box<dyn Core>,
    /// The clocks at the last turn of the driver: handles' turns borrow it instead of asking a clock per message.
    pub(crate) now: Now,
    pub(crate) board: Board,
}

/// What turns told, until somebody takes it.
pub(crate) struct Board {
    streams: Slots<StreamEntry>,
    index: HashMap<(SessionKey, StreamId), Seat>,
    /// The stream of the last part: most parts come in runs.
    last: Option<((SessionKey, StreamId), Seat)>,
    sessions: HashMap<SessionKey, SessionEntry>,
    connects: HashMap<CommandId, Connecting>,
    echoes: HashMap<CommandId, Echoing>,
    /// Sessions that peers opened and nobody accepted yet. Bounded by the kernel's table of sessions.
    arrived: VecDeque<SessionKey>,
    pub(crate) accepting: Wakers,
    /// Streams whose readers have something new.
    touched: Vec<Seat>,
    pub(crate) jobs: VecDeque<(JobId, Box<Job>)>,
    pub(crate) stores: VecDeque<(Ticket, StoreOp)>,
    pub(crate) worked: VecDeque<(JobId, JobDone)>,
    /// Ticket, whether it was a read, and what came of it.
    pub(crate) stored: VecDeque<(Ticket, bool, Result<Option<Vec<u8>>, StoreError>)>,
    /// Wakers to call once the lock is free.
    wakes: Vec<Waker>,
    driver: Option<Waker>,
    /// Something waits for the driver.
    attention: bool,
    /// The kernel was refused a slot by a handle's turn: it waits for `TxReady`.
    pub(crate) refused: bool,
    pub(crate) deadline: Option<Instant>,
    /// When the driver's timer goes off.
    pub(crate) armed: Option<Instant>,
    next_command: u64,
    /// The refusal of the command under way.
    refusal: Option<Refused>,
    /// The answer to the `Open` under way.
    opened: Option<Seat>,
    /// Handles of the node, its sessions and streams.
    pub(crate) handles: usize,
    pub(crate) phase: Phase,
    pub(crate) ended: Wakers,
    /// Sessions without handles whose last stream was flushed.
    pub(crate) orphans: Vec<SessionKey>,
    /// Who says that this identity is older than what it has seen of it.
    pub(crate) rolled_back: Option<(EntityId, Epoch)>,
    stream_window: u64,
    session_window: u64,
    pub(crate) counters: Counters,
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

    fn drain_into(&mut self, wakes: &mut Vec<Waker>) {
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
    arrived: VecDeque<Seat>,
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
    handles: usize,
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
    send_handle: bool,
    recv_handle: bool,
    touched: bool,
}

struct Connecting {
    waker: Option<Waker>,
    result: Option<Result<SessionKey, ConnectError>>,
}

struct Echoing {
    waker: Option<Waker>,
    session: SessionKey,
    rtt: Option<Duration>,
}

impl Shared {
    pub(crate) fn new(core: Box<dyn Core>, entity: EntityId, config: &SessionConfig, now: Now) -> Self {
        let board = Board::new(config);
        Self {
            hub: Mutex::new(Hub { core, now, board }),
            entity,
        }
    }

    /// A poisoned lock means that a turn or an assertion panicked: the kernel must not be used again.
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked {
            hub: &self.hub,
            guard: Some(lock(&self.hub)),
        }
    }
}

fn lock(hub: &Mutex<Hub>) -> MutexGuard<'_, Hub> {
    hub.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock; wakes those who are to be woken once it is given back.
pub(crate) struct Locked<'s> {
    hub: &'s Mutex<Hub>,
    guard: Option<MutexGuard<'s, Hub>>,
}

impl std::ops::Deref for Locked<'_> {
    type Target = Hub;
    #[inline]
    fn deref(&self) -> &Hub {
        self.guard.as_deref().expect("taken only by drop")
    }
}

impl std::ops::DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Hub {
        self.guard.as_deref_mut().expect("taken only by drop")
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(mut hub) = self.guard.take() else { return };
        let driver = if hub.board.attention {
            hub.board.driver.take()
        } else {
            None
        };
        // By handfuls on the stack, so that waking allocates nothing and happens without the lock.
        loop {
            let some: [Option<Waker>; 4] = std::array::from_fn(|_| hub.board.wakes.pop());
            let more = !hub.board.wakes.is_empty();
            drop(hub);
            some.into_iter().flatten().for_each(Waker::wake);
            if !more {
                break;
            }
            hub = lock(self.hub);
        }
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

/// What a turn may do to the world: everything lands on the board or in the transmitter.
struct TurnIo<'a> {
    board: &'a mut Board,
    tx: Option<&'a mut Transmitter>,
}

impl Tx for TurnIo<'_> {
    #[inline]
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        match &mut self.tx {
            Some(tx) => tx.reserve(to, len),
            None => {
                self.board.refused = true;
                None
            }
        }
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        if let Some(tx) = &mut self.tx {
            tx.commit(len);
        }
    }
}

impl Io for TurnIo<'_> {
    fn store(&mut self, ticket: Ticket, op: StoreOp) {
        self.board.stores.push_back((ticket, op));
    }

    fn work(&mut self, id: JobId, job: Box<Job>) {
        self.board.jobs.push_back((id, job));
    }

    fn event(&mut self, event: Event) {
        self.board.on_event(event);
    }

    #[inline]
    fn deliver(&mut self, part: Part<'_>) {
        self.board.on_part(&part);
    }
}

impl Hub {
    /// A turn of the driver, which may transmit.
    pub(crate) fn turn(&mut self, input: Input<'_>, tx: &mut Transmitter) {
        let mut io = TurnIo {
            board: &mut self.board,
            tx: Some(tx),
        };
        let deadline = self.core.turn(self.now, input, &mut io);
        self.board.after_turn(deadline);
    }

    /// A turn of a handle: what wants to leave waits for the driver.
    pub(crate) fn command(&mut self, command: Command<'_>) -> Result<CommandId, Refused> {
        let id = CommandId(self.board.next_command);
        self.board.next_command += 1;
        self.board.refusal = None;
        let mut io = TurnIo {
            board: &mut self.board,
            tx: None,
        };
        let deadline = self.core.turn(self.now, Input::Command(id, command), &mut io);
        let board = &mut self.board;
        board.after_turn(deadline);
        let sooner = match (board.deadline, board.armed) {
            (Some(at), Some(armed)) => at < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        board.attention |= board.refused || sooner || !board.jobs.is_empty() || !board.stores.is_empty();
        match board.refusal.take() {
            Some(why) => Err(why),
            None => Ok(id),
        }
    }

    pub(crate) fn stats(&self, session: SessionKey) -> Option<SessionStats> {
        self.core.stats(session)
    }

    pub(crate) fn drops(&self) -> Drops {
        self.core.drops()
    }

    /// Opens a stream and answers its seat; both handles of it are the caller's.
    pub(crate) fn open(&mut self, session: SessionKey, options: crate::api::StreamOptions) -> Result<Seat, Refused> {
        self.board.opened = None;
        self.command(Command::Open { session, options })?;
        let seat = self
            .board
            .opened
            .take()
            .expect("the kernel answers Open in the same turn");
        let entry = &mut self.board.streams[seat];
        entry.reliability = options.reliability;
        entry.subprotocol = options.subprotocol;
        self.board.take_stream(seat);
        Ok(seat)
    }

    /// Starts a connection attempt.
    pub(crate) fn connect(&mut self, peer: EntityId, addresses: &[Addr]) -> Result<CommandId, Refused> {
        // The answer may come in the same turn, so the entry stands before it.
        let id = CommandId(self.board.next_command);
        self.board.connects.insert(
            id,
            Connecting {
                waker: None,
                result: None,
            },
        );
        let asked = self.command(Command::Connect { peer, addresses });
        if asked.is_err() {
            self.board.connects.remove(&id);
        }
        asked
    }

    /// Forgets an attempt whose future was dropped.
    pub(crate) fn cancel_connect(&mut self, id: CommandId) {
        let Some(connecting) = self.board.connects.remove(&id) else {
            return;
        };
        match connecting.result {
            None => {
                // An attempt that ended meanwhile is ignored by the kernel.
                let _ = self.command(Command::CancelConnect(id));
            }
            Some(Ok(session)) => self.release_session(session, 0),
            Some(Err(_)) => {}
        }
    }

    /// Asks for a round trip.
    pub(crate) fn echo(&mut self, session: SessionKey) -> Result<CommandId, Refused> {
        let id = CommandId(self.board.next_command);
        self.board.echoes.insert(
            id,
            Echoing {
                waker: None,
                session,
                rtt: None,
            },
        );
        let asked = self.command(Command::Echo { session });
        if asked.is_err() {
            self.board.echoes.remove(&id);
        }
        asked
    }

    /// One handle less of `session` (`dropped` = 1), or a look whether it is forgotten (0): a session nobody holds is
    /// closed once its finished streams are flushed.
    pub(crate) fn release_session(&mut self, session: SessionKey, dropped: usize) {
        let Some(entry) = self.board.sessions.get_mut(&session) else {
            return;
        };
        entry.handles -= dropped;
        if entry.handles > 0 || entry.unflushed > 0 || self.board.arrived.contains(&session) {
            return;
        }
        if entry.closed.is_none() {
            // It may be ending in this very moment: then there is nothing left to close.
            let _ = self.command(Command::Close {
                session,
                code: 0,
                reason: "",
            });
        }
        self.board.forget_session(session);
    }

    /// The sending handle of a stream is gone.
    pub(crate) fn release_sender(&mut self, seat: Seat, abandoned: bool) {
        let entry = &self.board.streams[seat];
        let (session, stream) = (entry.session, entry.id);
        if entry.sending == Sending::Open {
            if abandoned {
                self.reset(seat, 0);
            } else {
                self.finish(seat);
            }
        }
        debug_assert!(self.board.streams[seat].id == stream);
        self.board.streams[seat].send_handle = false;
        self.release_stream(seat, session);
    }

    /// The receiving handle of a stream is gone, with so much of its own unread.
    pub(crate) fn release_receiver(&mut self, seat: Seat, bytes: u64, messages: u64) {
        let entry = &mut self.board.streams[seat];
        let (session, stream) = (entry.session, entry.id);
        let (unread, whole) = entry.inbox.close();
        let received_all = entry.received_all;
        entry.recv_handle = false;
        self.consumed(session, stream, bytes + unread, messages + whole);
        if !received_all && self.is_open(session) {
            // Refused only where the stream ended meanwhile: then nothing comes any more.
            let _ = self.command(Command::Stop {
                session,
                stream,
                code: 0,
            });
        }
        self.release_stream(seat, session);
    }

    fn release_stream(&mut self, seat: Seat, session: SessionKey) {
        self.board.sweep(seat);
        self.release_session(session, 1);
    }

    /// Tells the kernel what was drained.
    pub(crate) fn consumed(&mut self, session: SessionKey, stream: StreamId, bytes: u64, messages: u64) {
        if (bytes > 0 || messages > 0) && self.is_open(session) {
            // Streams that ended are ignored (see the command); a session that ended needs no credit.
            let _ = self.command(Command::Consumed {
                session,
                stream,
                bytes,
                messages,
            });
        }
    }

    /// Finishes the sending direction. Answers whether it now is.
    pub(crate) fn finish(&mut self, seat: Seat) {
        let entry = &mut self.board.streams[seat];
        if entry.sending != Sending::Open {
            return;
        }
        let (session, stream) = (entry.session, entry.id);
        // Before the turn, because the answer may come in it.
        entry.sending = Sending::Finishing;
        if let Some(entry) = self.board.sessions.get_mut(&session) {
            entry.unflushed += 1;
        }
        if self.command(Command::Finish { session, stream }).is_err() {
            self.board.settle(seat, Sending::Reset);
        }
    }

    /// Abandons the sending direction.
    pub(crate) fn reset(&mut self, seat: Seat, code: u64) {
        let entry = &self.board.streams[seat];
        if matches!(entry.sending, Sending::Open | Sending::Finishing) {
            let (session, stream) = (entry.session, entry.id);
            // Refused only where the stream ended meanwhile.
            let _ = self.command(Command::Reset { session, stream, code });
            self.board.settle(seat, Sending::Reset);
        }
    }

    pub(crate) fn is_open(&self, session: SessionKey) -> bool {
        self.board
            .sessions
            .get(&session)
            .is_some_and(|entry| entry.closed.is_none())
    }
}

impl Board {
    fn new(config: &SessionConfig) -> Self {
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
            attention: false,
            refused: false,
            deadline: None,
            armed: None,
            next_command: 1,
            refusal: None,
            opened: None,
            handles: 0,
            phase: Phase::Running,
            ended: Wakers::default(),
            orphans: Vec::new(),
            rolled_back: None,
            stream_window: config.stream_window,
            session_window: config.session_window,
            counters: Counters::default(),
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
    pub(crate) fn connected(&mut self, id: CommandId, waker: &Waker) -> Option<Result<SessionKey, ConnectError>> {
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
            self.close_session(key, &CloseReason::Local(crate::api::CloseCode::Shutdown));
        }
        for connecting in self.connects.values_mut() {
            connecting.result.get_or_insert(Err(ConnectError::Cancelled));
            self.wakes.extend(connecting.waker.take());
        }
        for echoing in self.echoes.values_mut() {
            self.wakes.extend(echoing.waker.take());
        }
        self.accepting.drain_into(&mut self.wakes);
    }

    fn take_stream(&mut self, seat: Seat) {
        let entry = &mut self.streams[seat];
        entry.send_handle = true;
        entry.recv_handle = true;
        if let Some(session) = self.sessions.get_mut(&entry.session) {
            session.handles += 2;
        }
    }

    fn after_turn(&mut self, deadline: Option<Deadline>) {
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
    fn on_part(&mut self, part: &Part<'_>) {
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
    fn seat_of(&mut self, name: (SessionKey, StreamId)) -> Seat {
        let seat = match self.index.get(&name) {
            Some(&seat) => seat,
            None => self.insert_stream(name),
        };
        self.last = Some((name, seat));
        seat
    }

    fn insert_stream(&mut self, name: (SessionKey, StreamId)) -> Seat {
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

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected {
                session,
                peer,
                address,
                command,
            } => self.on_connected(session, peer, address, command),
            Event::ConnectFailed { command, peer, why } => {
                tracing::debug!(%peer, ?why, "connection attempt failed");
                self.counters.connects_failed += 1;
                if let Some(connecting) = self.connects.get_mut(&command) {
                    connecting.result = Some(Err(why));
                    self.wakes.extend(connecting.waker.take());
                }
            }
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
            } => self.on_stream(session, stream, |entry, wakes| {
                entry.full = false;
                entry.writing.drain_into(wakes);
            }),
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
            } => {
                self.counters.rtt.observe(rtt);
                if let Some(echoing) = self.echoes.get_mut(&command) {
                    echoing.rtt = Some(rtt);
                    self.wakes.extend(echoing.waker.take());
                }
            }
            Event::Rekeyed { session } => {
                self.counters.rekeys += 1;
                self.on_session(session, |entry| entry.rekeys += 1);
            }
            Event::Moved { session, address } => {
                tracing::info!(%address, "the peer is reached at another address");
                self.counters.moves += 1;
                self.on_session(session, |entry| {
                    entry.address = address;
                    entry.moves += 1;
                });
            }
            Event::StateRolledBack { peer, known } => {
                tracing::error!(%peer, known = known.0, "a peer knows a later incarnation of this identity");
                self.rolled_back = Some((peer, known));
                self.accepting.drain_into(&mut self.wakes);
            }
            Event::Refused { command: _, why } => self.refusal = Some(why),
            Event::StoreFailed { error } => {
                self.counters.store_failures += 1;
                tracing::error!(?error, "storage failed; it is not written again");
            }
        }
    }

    fn on_connected(&mut self, key: SessionKey, peer: EntityId, address: Addr, command: Option<CommandId>) {
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

    fn on_stream_opened(
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
        if let Some(session) = self.sessions.get_mut(&name.0) {
            session.streams.insert(seat);
            session.arrived.push_back(seat);
            session.accepting.drain_into(&mut self.wakes);
        }
    }

    fn on_received_all(&mut self, session: SessionKey, stream: StreamId, end: End) {
        self.on_stream(session, stream, |entry, wakes| {
            entry.received_all = true;
            wakes.extend(entry.inbox.end(end));
        });
    }

    fn on_settled(&mut self, session: SessionKey, stream: StreamId, how: Sending) {
        if let Some(&seat) = self.index.get(&(session, stream)) {
            self.settle(seat, how);
            self.sweep(seat);
        }
    }

    fn on_stream(&mut self, session: SessionKey, stream: StreamId, f: impl FnOnce(&mut StreamEntry, &mut Vec<Waker>)) {
        if let Some(&seat) = self.index.get(&(session, stream)) {
            f(&mut self.streams[seat], &mut self.wakes);
        }
    }

    fn on_session(&mut self, session: SessionKey, f: impl FnOnce(&mut SessionEntry)) {
        if let Some(entry) = self.sessions.get_mut(&session) {
            f(entry);
            entry.watching.drain_into(&mut self.wakes);
        }
    }

    /// The sending direction has come to its end; the first end stays.
    fn settle(&mut self, seat: Seat, how: Sending) {
        let entry = &mut self.streams[seat];
        match entry.sending {
            Sending::Open => {}
            Sending::Finishing => {
                if let Some(session) = self.sessions.get_mut(&entry.session) {
                    session.unflushed -= 1;
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
    fn sweep(&mut self, seat: Seat) {
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

    fn close_session(&mut self, key: SessionKey, why: &CloseReason) {
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
        let awaited = self
            .connects
            .values()
            .any(|connecting| connecting.result == Some(Ok(key)));
        if unheld && !awaited && !self.arrived.contains(&key) {
            self.forget_session(key);
        }
        self.forget_oldest_unaccepted();
    }

    /// Sessions that ended before anybody accepted them are kept for their data, but not without bound.
    fn forget_oldest_unaccepted(&mut self) {
        let closed = |key: &SessionKey| self.sessions.get(key).is_none_or(|entry| entry.closed.is_some());
        if self.arrived.iter().filter(|key| closed(key)).count() > MAX_UNACCEPTED {
            if let Some(at) = self.arrived.iter().position(closed) {
                if let Some(key) = self.arrived.remove(at) {
                    self.forget_session(key);
                }
            }
        }
    }

    fn forget_session(&mut self, key: SessionKey) {
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
