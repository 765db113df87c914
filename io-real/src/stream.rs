//! Streams as users hold them: messages out and in, both directions or one half each.
//!
//! Invariants: a message is taken whole or not at all, whenever a future is dropped; a dropped receive loses nothing;
//! waiting for room is backpressure, never a queue; dropping a sending half finishes it (resets it while panicking),
//! dropping a receiving half tells the peer to stop.
//! Not here: sessions (`session.rs`), the kernel's streams (`net-kernel`).

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::api::{Command, EntityId, MESSAGE_CHARGE, Messages as Batch, Refused, Reliability, SessionKey, StreamId};
use crate::error::{RecvError, SendError, SessionError};
use crate::hub::{Hub, Seat, Sending};
use crate::inbox::{End, Inbox, Messages, Taken};
use crate::session::{Handle, session_error};

/// Bytes (payload plus 16 per message) of one batch: the lock is held for so long.
const BATCH: u64 = 128 << 10;

/// A stream of messages in both directions.
#[derive(Debug)]
pub struct Stream {
    send: SendHalf,
    recv: RecvHalf,
}

/// The sending half of a stream.
pub struct SendHalf {
    handle: Handle,
    seat: Seat,
    name: Name,
    /// A message that a sink took while there was no room.
    held: Option<Vec<u8>>,
}

/// The receiving half of a stream.
pub struct RecvHalf {
    handle: Handle,
    seat: Seat,
    name: Name,
    inbox: Arc<Inbox>,
    own: Messages,
    /// Bytes of the unfinished message in `own` that were already reported as drained.
    assembled: usize,
    drained_bytes: u64,
    drained_messages: u64,
    /// Drained positions at which the kernel is told.
    report_after: u64,
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    session: SessionKey,
    peer: EntityId,
    stream: StreamId,
    reliability: Reliability,
    subprotocol: u16,
}

/// A piece of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Bytes written to the buffer.
    pub len: usize,
    /// Whether the message ends with them.
    pub end: bool,
}

impl Stream {
    /// Takes the handles of `seat`, which the caller holds.
    pub(crate) fn new(handle: &Handle, hub: &mut Hub, seat: Seat, peer: EntityId) -> Self {
        let entry = hub.board.stream(seat);
        let name = Name {
            session: entry.session,
            peer,
            stream: entry.id,
            reliability: entry.reliability,
            subprotocol: entry.subprotocol,
        };
        let inbox = entry.inbox.clone();
        let report_after = hub.board.report_after(name.session);
        let send = SendHalf {
            handle: handle.hold(hub),
            seat,
            name,
            held: None,
        };
        let recv = RecvHalf {
            handle: handle.hold(hub),
            seat,
            name,
            inbox,
            own: Messages::default(),
            assembled: 0,
            drained_bytes: 0,
            drained_messages: 0,
            report_after,
            failed: false,
        };
        Self { send, recv }
    }

    /// Both halves, to be used apart.
    #[must_use]
    pub fn split(self) -> (SendHalf, RecvHalf) {
        (self.send, self.recv)
    }

    /// Its number within the session.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.send.name.stream
    }

    /// Who is at the other end, authenticated.
    #[must_use]
    pub const fn peer(&self) -> EntityId {
        self.send.name.peer
    }

    /// Loss and order, as its opener chose.
    #[must_use]
    pub const fn reliability(&self) -> Reliability {
        self.send.name.reliability
    }

    /// What its messages are, as its opener said.
    #[must_use]
    pub const fn subprotocol(&self) -> u16 {
        self.send.name.subprotocol
    }

    /// See [`SendHalf::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, message: &[u8]) -> Result<(), SendError> {
        self.send.send(message).await
    }

    /// See [`SendHalf::try_send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn try_send(&self, message: &[u8]) -> Result<(), SendError> {
        self.send.try_send(message)
    }

    /// See [`SendHalf::send_many`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_many(&self, messages: &[&[u8]]) -> Result<(), SendError> {
        self.send.send_many(messages).await
    }

    /// See [`SendHalf::send_chunks`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_chunks(&self, bytes: &[u8], size: usize) -> Result<(), SendError> {
        self.send.send_chunks(bytes, size).await
    }

    /// See [`SendHalf::finish`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn finish(&self) -> Result<(), SendError> {
        self.send.finish().await
    }

    /// See [`SendHalf::reset`].
    pub fn reset(&self, code: u64) {
        self.send.reset(code);
    }

    /// See [`RecvHalf::recv`].
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn recv(&mut self) -> Result<Option<Bytes>, RecvError> {
        self.recv.recv().await
    }

    /// See [`RecvHalf::recv_into`].
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RecvError> {
        self.recv.recv_into(buffer).await
    }

    /// See [`RecvHalf::recv_part`].
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn recv_part(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>, RecvError> {
        self.recv.recv_part(buffer).await
    }
}

impl SendHalf {
    /// Its stream's number within the session.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.name.stream
    }

    /// Sends one message, waiting while the peer is slower. When it returns, the message was taken over: it leaves with
    /// what is sent next to it and, on a reliable stream, arrives unless the session ends. A dropped future has taken
    /// the whole message or nothing.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was taken.
    pub async fn send(&self, message: &[u8]) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_send(cx, message)).await
    }

    /// Sends one message if there is room now.
    ///
    /// # Errors
    /// [`SendError::Full`] if there is none; see [`SendError`].
    pub fn try_send(&self, message: &[u8]) -> Result<(), SendError> {
        let mut hub = self.handle.shared().lock();
        match self.push(&mut hub, Batch::One(message))? {
            true => Ok(()),
            false => Err(SendError::Full),
        }
    }

    /// Sends several messages, waiting while the peer is slower. A dropped or failed future has taken some of the first
    /// messages, each of them whole.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_many(&self, messages: &[&[u8]]) -> Result<(), SendError> {
        let mut taken = 0;
        let lens = |at: usize| messages.get(at).map(|message| message.len());
        poll_fn(|cx| self.poll_run(cx, &mut taken, lens, |from, to| Batch::Many(&messages[from..to]))).await
    }

    /// Sends messages of `size` bytes that lie end to end, waiting while the peer is slower; a rest that is shorter is
    /// sent as the last message. A dropped or failed future has taken some of the first messages, each of them whole.
    ///
    /// # Errors
    /// See [`SendError`].
    ///
    /// # Panics
    /// If `size` is 0.
    pub async fn send_chunks(&self, bytes: &[u8], size: usize) -> Result<(), SendError> {
        assert!(size > 0, "messages of 0 bytes do not fill a buffer");
        let whole = bytes.len() / size;
        let mut taken = 0;
        let lens = |at: usize| (at < whole).then_some(size);
        let batch = |from: usize, to: usize| Batch::Chunks {
            bytes: &bytes[from * size..to * size],
            size,
        };
        poll_fn(|cx| self.poll_run(cx, &mut taken, lens, batch)).await?;
        match &bytes[whole * size..] {
            [] => Ok(()),
            rest => self.send(rest).await,
        }
    }

    /// Says that no more messages follow and waits until the peer has them all. To drop the future does not undo it.
    ///
    /// # Errors
    /// [`SendError::Finished`] if it was reset; [`SendError::Stopped`], [`SendError::Session`] if the peer has not
    /// confirmed everything.
    pub async fn finish(&self) -> Result<(), SendError> {
        self.handle.shared().lock().finish(self.seat);
        poll_fn(|cx| self.poll_flushed(cx)).await
    }

    /// Abandons what was sent and is not confirmed; the peer is told `code` (at most 2^62 - 1).
    pub fn reset(&self, code: u64) {
        self.handle.shared().lock().reset(self.seat, code.min((1 << 62) - 1));
    }

    fn poll_send(&self, cx: &mut Context<'_>, message: &[u8]) -> Poll<Result<(), SendError>> {
        let mut hub = self.handle.shared().lock();
        let taken = self.push(&mut hub, Batch::One(message))?;
        if taken {
            return Poll::Ready(Ok(()));
        }
        hub.board.stream(self.seat).writing.add(cx.waker());
        Poll::Pending
    }

    /// Sends messages `taken..` of a run whose lengths `lens` knows, in batches that leave others their turn.
    fn poll_run<'m>(
        &self,
        cx: &mut Context<'_>,
        taken: &mut usize,
        lens: impl Fn(usize) -> Option<usize>,
        batch: impl Fn(usize, usize) -> Batch<'m>,
    ) -> Poll<Result<(), SendError>> {
        while let Some(first) = lens(*taken) {
            let mut hub = self.handle.shared().lock();
            // At most a quarter of the buffer, so that a batch fits as soon as the kernel says that there is room.
            let most = BATCH.min(hub.board.stream(self.seat).credit / 4);
            let (mut to, mut total) = (*taken + 1, cost(first));
            while let Some(len) = lens(to).filter(|&len| total + cost(len) <= most) {
                total += cost(len);
                to += 1;
            }
            if !self.push(&mut hub, batch(*taken, to))? {
                hub.board.stream(self.seat).writing.add(cx.waker());
                return Poll::Pending;
            }
            *taken = to;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands messages to the kernel; `false` if there is no room now.
    #[inline]
    fn push(&self, hub: &mut Hub, messages: Batch<'_>) -> Result<bool, SendError> {
        let entry = hub.board.stream(self.seat);
        if entry.sending != Sending::Open || entry.ended {
            return Err(self.gone(hub));
        }
        if entry.full {
            return Ok(false);
        }
        let (session, stream) = (self.name.session, self.name.stream);
        match hub.command(Command::Send {
            session,
            stream,
            messages,
        }) {
            Ok(_) => Ok(true),
            Err(Refused::Backpressure) => {
                hub.board.stream(self.seat).full = true;
                Ok(false)
            }
            Err(Refused::MessageTooLarge { limit }) => Err(SendError::TooLarge {
                len: longest(messages),
                limit,
            }),
            Err(Refused::Finished | Refused::NoStream) => Err(SendError::Finished),
            Err(why) => Err(SendError::Session(SessionError::Refused(why))),
        }
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut hub = self.handle.shared().lock();
        let entry = hub.board.stream(self.seat);
        match entry.sending {
            Sending::Flushed => Poll::Ready(Ok(())),
            Sending::Finishing if !entry.ended => {
                entry.writing.add(cx.waker());
                Poll::Pending
            }
            Sending::Open | Sending::Finishing | Sending::Reset | Sending::Stopped(_) => {
                Poll::Ready(Err(self.gone(&mut hub)))
            }
        }
    }

    /// Ready once the message that a sink holds back, if any, was taken.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Some(held) = self.held.take() else {
            return Poll::Ready(Ok(()));
        };
        match self.poll_send(cx, &held) {
            Poll::Pending => {
                self.held = Some(held);
                Poll::Pending
            }
            ready => ready,
        }
    }

    fn start(&mut self, message: &[u8]) -> Result<(), SendError> {
        debug_assert!(self.held.is_none(), "poll_ready comes before start_send");
        match self.try_send(message) {
            Err(SendError::Full) => {
                self.held = Some(message.to_vec());
                Ok(())
            }
            result => result,
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        std::task::ready!(self.poll_held(cx))?;
        self.handle.shared().lock().finish(self.seat);
        self.poll_flushed(cx)
    }

    /// Why nothing can be sent any more.
    fn gone(&self, hub: &mut Hub) -> SendError {
        let open = hub.is_open(self.name.session);
        match hub.board.stream(self.seat).sending {
            Sending::Stopped(code) => SendError::Stopped(code),
            Sending::Reset | Sending::Flushed => SendError::Finished,
            Sending::Open | Sending::Finishing if open => SendError::Finished,
            Sending::Open | Sending::Finishing => {
                SendError::Session(session_error(hub, self.name.session, self.name.peer))
            }
        }
    }
}

impl RecvHalf {
    /// Its stream's number within the session.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.name.stream
    }

    /// Loss and order, as its opener chose.
    #[must_use]
    pub const fn reliability(&self) -> Reliability {
        self.name.reliability
    }

    /// The next message; `None` when the peer has finished and everything was read.
    ///
    /// # Errors
    /// See [`RecvError`]; told after everything that arrived whole.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, RecvError> {
        let received = poll_fn(|cx| self.poll_message(cx)).await;
        if net_kernel::base::mutant!(DriverRecvYields) && self.drained_messages % 8 == 7 {
            tokio::task::yield_now().await;
        }
        received
    }

    /// Copies the next message into `buffer` and tells its length; `None` when the peer has finished and everything
    /// was read. Allocates nothing once the stream has warmed up.
    ///
    /// # Errors
    /// [`RecvError::BufferTooSmall`]: the message stays; see [`RecvError`].
    pub async fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RecvError> {
        poll_fn(|cx| self.poll_recv_into(cx, buffer)).await
    }

    /// As [`Self::recv_into`], but only what has arrived: `None` if nothing has, `Some(None)` at the end.
    ///
    /// # Errors
    /// As [`Self::recv_into`].
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Option<Option<usize>>, RecvError> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_recv_into(&mut cx, buffer) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Copies what has arrived of the next message into `buffer`, at least one byte unless the message is empty, so
    /// that large messages are read while they arrive; `None` when the peer has finished and everything was read.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn recv_part(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>, RecvError> {
        poll_fn(|cx| self.poll_recv_part(cx, buffer)).await
    }

    /// Polls for the next message, as [`Self::recv`].
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, RecvError>> {
        if !std::task::ready!(self.poll_whole(cx))? {
            return Poll::Ready(Ok(None));
        }
        let message = self.own.pop().map(Bytes::copy_from_slice).unwrap_or_default();
        self.on_popped(message.len(), true);
        Poll::Ready(Ok(Some(message)))
    }

    /// Polls for the next message, as [`Self::recv_into`].
    pub fn poll_recv_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Option<usize>, RecvError>> {
        if !std::task::ready!(self.poll_whole(cx))? {
            return Poll::Ready(Ok(None));
        }
        let len = self.own.peek_len().unwrap_or(0);
        let Some(room) = buffer.get_mut(..len) else {
            return Poll::Ready(Err(RecvError::BufferTooSmall { len }));
        };
        if let Some(message) = self.own.pop() {
            room.copy_from_slice(message);
        }
        self.on_popped(len, true);
        Poll::Ready(Ok(Some(len)))
    }

    fn poll_recv_part(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<Option<Piece>, RecvError>> {
        loop {
            if let Some((bytes, end)) = self.own.pop_part(buffer.len()) {
                let len = bytes.len();
                buffer[..len].copy_from_slice(bytes);
                self.on_popped(len, end);
                return Poll::Ready(Ok(Some(Piece { len, end })));
            }
            match self.inbox.take(&mut self.own, true, cx.waker()) {
                Taken::Some { .. } => {}
                Taken::Nothing => return Poll::Pending,
                Taken::Ended(end) => return Poll::Ready(self.ended(end).map(|()| None)),
            }
        }
    }

    /// Whether there is a whole message to pop; `false` at the end.
    #[inline]
    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, RecvError>> {
        loop {
            if self.own.whole() > 0 {
                return Poll::Ready(Ok(true));
            }
            match self.inbox.take(&mut self.own, false, cx.waker()) {
                Taken::Some { assembling } => {
                    self.assembled += assembling;
                    self.on_drained(assembling as u64, 0);
                }
                Taken::Nothing => return Poll::Pending,
                Taken::Ended(end) => return Poll::Ready(self.ended(end).map(|()| false)),
            }
        }
    }

    #[inline]
    fn on_popped(&mut self, len: usize, end: bool) {
        let reported = self.assembled.min(len);
        self.assembled -= reported;
        self.on_drained((len - reported) as u64, u64::from(end));
    }

    #[inline]
    fn on_drained(&mut self, bytes: u64, messages: u64) {
        self.drained_bytes += bytes;
        self.drained_messages += messages;
        if self.drained_bytes + self.drained_messages * MESSAGE_CHARGE >= self.report_after {
            self.report();
        }
    }

    fn report(&mut self) {
        let (bytes, messages) = (
            std::mem::take(&mut self.drained_bytes),
            std::mem::take(&mut self.drained_messages),
        );
        let mut hub = self.handle.shared().lock();
        hub.consumed(self.name.session, self.name.stream, bytes, messages);
        self.report_after = hub.board.report_after(self.name.session);
    }

    fn ended(&self, end: End) -> Result<(), RecvError> {
        match end {
            End::Finished => Ok(()),
            End::Reset(code) => Err(RecvError::Reset(code)),
            End::SessionClosed => {
                let mut hub = self.handle.shared().lock();
                Err(RecvError::Session(session_error(
                    &mut hub,
                    self.name.session,
                    self.name.peer,
                )))
            }
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.handle
            .shared()
            .lock()
            .release_sender(self.seat, std::thread::panicking());
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        let unread = (self.own.unread() - self.assembled.min(self.own.unread())) as u64;
        let whole = self.own.whole() as u64;
        let (bytes, messages) = (self.drained_bytes + unread, self.drained_messages + whole);
        self.handle.shared().lock().release_receiver(self.seat, bytes, messages);
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendHalf")
            .field("peer", &self.name.peer)
            .field("stream", &self.name.stream)
            .finish()
    }
}

impl fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvHalf")
            .field("peer", &self.name.peer)
            .field("stream", &self.name.stream)
            .finish()
    }
}

/// Messages until the peer has finished; an error is the last item.
impl futures_core::Stream for RecvHalf {
    type Item = Result<Bytes, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(this.poll_message(cx)).transpose();
        this.failed = matches!(item, Some(Err(_)));
        Poll::Ready(item)
    }
}

/// Flushed means taken over, as by [`SendHalf::send`]; closing finishes the stream and waits until the peer has
/// everything.
impl<T: AsRef<[u8]>> futures_sink::Sink<T> for SendHalf {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().poll_held(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: T) -> Result<(), SendError> {
        self.get_mut().start(message.as_ref())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().poll_held(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().poll_finish(cx)
    }
}

impl futures_core::Stream for Stream {
    type Item = Result<Bytes, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().recv).poll_next(cx)
    }
}

impl<T: AsRef<[u8]>> futures_sink::Sink<T> for Stream {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().send.poll_held(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: T) -> Result<(), SendError> {
        self.get_mut().send.start(message.as_ref())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().send.poll_held(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().send.poll_finish(cx)
    }
}

const fn cost(len: usize) -> u64 {
    len as u64 + MESSAGE_CHARGE
}

fn longest(messages: Batch<'_>) -> usize {
    match messages {
        Batch::One(message) => message.len(),
        Batch::Many(messages) => messages.iter().map(|message| message.len()).max().unwrap_or(0),
        Batch::Chunks { size, .. } => size,
        Batch::Framed { ends, .. } => {
            let starts = std::iter::once(&0).chain(ends);
            starts
                .zip(ends)
                .map(|(start, end)| (end - start) as usize)
                .max()
                .unwrap_or(0)
        }
    }
}
