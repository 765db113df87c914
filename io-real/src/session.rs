//! Sessions as users hold them, and the handle that everything they hold is made of.
//!
//! Invariants: a session lives while a handle of it or of one of its streams does, and until what was finished is
//! confirmed; then it is closed. Dropping a future that waits undoes only the waiting.
//! Not here: connecting and accepting (`node.rs`), messages (`stream.rs`).

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::api::{Addr, CloseReason, Command, CommandId, EntityId, SessionKey, SessionStats, StreamOptions};
use crate::error::SessionError;
use crate::hub::{Hub, Shared};
use crate::stream::Stream;

/// Keeps the node running while it lives.
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    /// The first handle of a node.
    pub(crate) fn first(shared: Arc<Shared>) -> Self {
        shared.lock().board.handles += 1;
        Self(shared)
    }

    /// One more, under the lock.
    pub(crate) fn hold(&self, hub: &mut Hub) -> Self {
        hub.board.handles += 1;
        Self(self.0.clone())
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    pub(crate) fn shared_arc(&self) -> Arc<Shared> {
        self.0.clone()
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.hold(&mut self.0.lock())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut hub = self.0.lock();
        hub.board.handles -= 1;
        if hub.board.handles == 0 {
            hub.board.call_driver();
        }
    }
}

/// An encrypted session with one authenticated peer. Clones name the same session.
pub struct Session {
    handle: Handle,
    key: SessionKey,
    peer: EntityId,
}

impl Session {
    /// Takes a hold on `key` that the caller has.
    pub(crate) fn new(handle: &Handle, hub: &mut Hub, key: SessionKey, peer: EntityId) -> Self {
        Self {
            handle: handle.hold(hub),
            key,
            peer,
        }
    }

    /// Who is at the other end, authenticated.
    #[must_use]
    pub const fn peer(&self) -> EntityId {
        self.peer
    }

    /// Where the peer is reached now.
    #[must_use]
    pub fn address(&self) -> Option<Addr> {
        self.handle
            .shared()
            .lock()
            .board
            .session(self.key)
            .map(|entry| entry.address)
    }

    /// Opens a stream. The peer learns of it with its first message.
    ///
    /// # Errors
    /// [`SessionError`]: the session ended, or the peer allows no more streams now.
    pub fn open(&self, options: StreamOptions) -> Result<Stream, SessionError> {
        let mut hub = self.handle.shared().lock();
        self.alive(&mut hub)?;
        let seat = hub.open(self.key, options).map_err(SessionError::Refused)?;
        Ok(Stream::new(&self.handle, &mut hub, seat, self.peer))
    }

    /// The next stream the peer opened; `None` when the session has ended.
    pub async fn accept_stream(&self) -> Option<Stream> {
        poll_fn(|cx| {
            let mut hub = self.handle.shared().lock();
            if let Some(seat) = hub.board.accept_stream(self.key) {
                return Poll::Ready(Some(Stream::new(&self.handle, &mut hub, seat, self.peer)));
            }
            match hub.board.session(self.key) {
                Some(entry) if entry.closed.is_none() => {
                    entry.accepting.add(cx.waker());
                    Poll::Pending
                }
                Some(_) | None => Poll::Ready(None),
            }
        })
        .await
    }

    /// Measures the round trip now.
    ///
    /// # Errors
    /// [`SessionError`] when the session ends before the answer comes.
    pub async fn echo(&self) -> Result<std::time::Duration, SessionError> {
        let asked = Asked {
            session: self,
            id: self.ask(Hub::echo)?,
        };
        poll_fn(|cx| {
            let mut hub = self.handle.shared().lock();
            match hub.board.echoed(asked.id, cx.waker()) {
                Some(rtt) => Poll::Ready(Ok(std::time::Duration::from_nanos(rtt.as_nanos()))),
                None => match self.alive(&mut hub) {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(Err(error)),
                },
            }
        })
        .await
    }

    /// Replaces the session's keys now and waits until they are in use.
    ///
    /// # Errors
    /// [`SessionError`] when the session ends before.
    pub async fn rekey(&self) -> Result<(), SessionError> {
        // Under one lock, so that a replacement that is already under way is not taken for this one.
        let before = {
            let mut hub = self.handle.shared().lock();
            self.alive(&mut hub)?;
            let before = hub.board.session(self.key).map_or(0, |entry| entry.rekeys);
            hub.command(Command::Rekey { session: self.key })
                .map_err(SessionError::Refused)?;
            before
        };
        self.watch(|entry| (entry.rekeys > before).then_some(())).await
    }

    /// How often the peer's address has changed, and waits until that is more than `seen`.
    ///
    /// # Errors
    /// [`SessionError`] when the session ends before.
    pub async fn moved(&self, seen: u64) -> Result<u64, SessionError> {
        self.watch(|entry| (entry.moves > seen).then_some(entry.moves)).await
    }

    /// Waits until the peer has everything that was sent on streams finished so far.
    ///
    /// # Errors
    /// [`SessionError`] when the session ends before.
    pub async fn flushed(&self) -> Result<(), SessionError> {
        self.watch(|entry| (entry.unflushed == 0).then_some(())).await
    }

    /// Its figures now; `None` once it has ended.
    #[must_use]
    pub fn stats(&self) -> Option<SessionStats> {
        self.handle.shared().lock().stats(self.key)
    }

    /// Ends the session at once and tells the peer why: `code` is 0 for an ordinary end, `reason` is cut at 256 bytes.
    /// What is not confirmed is lost: finish streams first where that matters.
    pub async fn close(&self, code: u64, reason: &str) {
        {
            let mut hub = self.handle.shared().lock();
            if !hub.is_open(self.key) {
                return;
            }
            // Refused only if it is ending in this very moment.
            let _ = hub.command(Command::Close {
                session: self.key,
                code,
                reason,
            });
        }
        self.closed().await;
    }

    /// Waits until the session has ended and tells why.
    pub async fn closed(&self) -> CloseReason {
        poll_fn(|cx| {
            let mut hub = self.handle.shared().lock();
            match hub.board.session(self.key) {
                Some(entry) => match &entry.closed {
                    Some(why) => Poll::Ready(why.clone()),
                    None => {
                        entry.watching.add(cx.waker());
                        Poll::Pending
                    }
                },
                None => Poll::Ready(CloseReason::Local(crate::api::CloseCode::Shutdown)),
            }
        })
        .await
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.handle.shared().lock().is_open(self.key)
    }

    fn ask(
        &self,
        ask: impl FnOnce(&mut Hub, SessionKey) -> Result<CommandId, crate::api::Refused>,
    ) -> Result<CommandId, SessionError> {
        let mut hub = self.handle.shared().lock();
        self.alive(&mut hub)?;
        ask(&mut hub, self.key).map_err(SessionError::Refused)
    }

    async fn watch<T>(&self, found: impl Fn(&crate::hub::SessionEntry) -> Option<T>) -> Result<T, SessionError> {
        poll_fn(|cx| {
            let mut hub = self.handle.shared().lock();
            if let Err(error) = self.alive(&mut hub) {
                return Poll::Ready(Err(error));
            }
            let Some(entry) = hub.board.session(self.key) else {
                return Poll::Ready(Err(SessionError::NodeClosed));
            };
            match found(entry) {
                Some(value) => Poll::Ready(Ok(value)),
                None => {
                    entry.watching.add(cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn alive(&self, hub: &mut Hub) -> Result<(), SessionError> {
        if hub.is_open(self.key) {
            Ok(())
        } else {
            Err(session_error(hub, self.key, self.peer))
        }
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        let mut hub = self.handle.shared().lock();
        hub.board.hold_session(self.key);
        Self::new(&self.handle, &mut hub, self.key, self.peer)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.shared().lock().release_acceptor(self.key);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("key", &self.key)
            .finish()
    }
}

/// An echo under way; forgotten when nobody waits for it any more.
struct Asked<'s> {
    session: &'s Session,
    id: CommandId,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.session.handle.shared().lock().board.forget_echo(self.id);
    }
}

/// Why a session cannot be used any more.
pub(crate) fn session_error(hub: &mut Hub, key: SessionKey, peer: EntityId) -> SessionError {
    match hub.board.session(key).and_then(|entry| entry.closed.clone()) {
        Some(why) => SessionError::Closed { peer, why },
        None => SessionError::NodeClosed,
    }
}
