//! What the driver and the handles share: the kernel behind one lock, and beside it the board its turns write on.
//!
//! Invariants: every turn of the kernel runs under the lock; wakers are called after it was released; a handle's turn
//! never transmits, it leaves a mark for the driver instead; an entry lives until both its handles are gone and the
//! kernel has said its last word on it.
//! Not here: the board (`board.rs`), the loop (`driver.rs`), the futures users hold (`node.rs`, `session.rs`,
//! `stream.rs`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::api::{
    Addr, Command, CommandId, Crew, Deadline, Dest, Drops, EntityId, Event, Input, Io, Job, JobId, Mesh, Now, Part,
    Refused, Relayed, Seal, SessionConfig, SessionKey, SessionStats, StoreOp, StoreTicket as Ticket, StreamId,
    StreamOptions, Tx,
};
pub(crate) use crate::board::{
    Board, Connecting, Counters, Echoing, Failure, MAX_JOINED, Phase, Seat, Sending, SessionEntry,
};
use crate::tx::Transmitter;

/// The kernel as the driver sees it, so that tests drive another one and handles need no type parameters.
pub(crate) trait Core: Send {
    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline>;
    fn stats(&self, session: SessionKey) -> Option<SessionStats>;
    fn drops(&self) -> Drops;
    fn mesh(&self) -> Option<&Mesh>;
    fn relayed(&self) -> Relayed;
}

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
        if hub.board.wakes.is_empty() {
            drop(hub);
            if let Some(driver) = driver {
                driver.wake();
            }
            return;
        }
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

    #[inline]
    fn hold(&mut self) -> bool {
        self.tx.as_mut().is_some_and(|tx| tx.hold())
    }

    fn release(&mut self, seal: &mut Seal<'_>) {
        if let Some(tx) = &mut self.tx {
            tx.release(seal);
        }
    }
}

impl Io for TurnIo<'_> {
    #[inline]
    fn crew(&mut self) -> Option<&mut dyn Crew> {
        self.tx.as_mut()?.crew()
    }

    fn store(&mut self, ticket: Ticket, op: StoreOp) {
        self.board.stores.push_back((ticket, op));
    }

    fn work(&mut self, id: JobId, job: Box<Job>) {
        self.board.jobs.push_back((id, job));
    }

    fn beacon(&mut self, datagram: &[u8]) {
        let waker = self.board.segment.speak(datagram);
        self.board.wakes.extend(waker);
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
        self.board.current = Some(id);
        let mut io = TurnIo {
            board: &mut self.board,
            tx: None,
        };
        let deadline = self.core.turn(self.now, Input::Command(id, command), &mut io);
        let board = &mut self.board;
        board.current = None;
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

    /// What is known of the mesh, where the node is part of one.
    pub(crate) fn mesh(&self) -> Option<&Mesh> {
        self.core.mesh()
    }

    /// What was sent on for others.
    pub(crate) fn relayed(&self) -> Relayed {
        self.core.relayed()
    }

    /// Opens a stream and answers its seat; both handles of it are the caller's.
    pub(crate) fn open(&mut self, session: SessionKey, options: StreamOptions) -> Result<Seat, Refused> {
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
        let expected = self.board.is_expected(session);
        let Some(entry) = self.board.sessions.get_mut(&session) else {
            return;
        };
        entry.handles -= dropped;
        if entry.handles > 0 || entry.unflushed > 0 || expected {
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

    /// One handle of the session itself less. Streams that nobody can accept any more are refused, so that what they
    /// carry does not use up the session's window.
    pub(crate) fn release_acceptor(&mut self, session: SessionKey) {
        if let Some(entry) = self.board.session(session) {
            entry.acceptors -= 1;
            if entry.acceptors == 0 {
                let arrived = std::mem::take(&mut entry.arrived);
                arrived.into_iter().for_each(|seat| self.refuse_stream(seat));
            }
        }
        self.release_session(session, 1);
    }

    /// Refuses a stream that the peer opened: it is told to stop, and that nothing will come back.
    pub(crate) fn refuse_stream(&mut self, seat: Seat) {
        // Held meanwhile, because a command's turn may end the session and with it what nobody holds.
        self.board.stream(seat).recv_handle = true;
        self.stop_receiving(seat, 0, 0);
        self.reset(seat, 0);
        self.board.stream(seat).recv_handle = false;
        self.board.sweep(seat);
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
        self.stop_receiving(seat, bytes, messages);
        let entry = self.board.stream(seat);
        // Last, because a command's turn may end the session and with it what nobody holds.
        entry.recv_handle = false;
        let session = entry.session;
        self.release_stream(seat, session);
    }

    /// Credits what will never be read, and stops the peer where it might go on.
    fn stop_receiving(&mut self, seat: Seat, bytes: u64, messages: u64) {
        let entry = self.board.stream(seat);
        let (session, stream, received_all) = (entry.session, entry.id, entry.received_all);
        let (unread, whole) = entry.inbox.close();
        self.consumed(session, stream, bytes + unread, messages + whole);
        if !received_all && self.is_open(session) {
            // Refused only where the stream ended meanwhile: then nothing comes any more.
            let _ = self.command(Command::Stop {
                session,
                stream,
                code: 0,
            });
        }
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
