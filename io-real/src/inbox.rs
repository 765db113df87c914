//! Received messages of one stream on their way from the driver to the application.
//!
//! The driver appends to a shared buffer; the reader swaps it for its own drained one, so that most messages are read
//! without any lock, nothing is copied twice, and the capacity of both is kept.
//! Invariants: messages come out whole and in the order they went in; what lies here is bounded by the credit granted,
//! plus one message under assembly; dropping a pending read loses nothing.
//! Not here: who is told of drained bytes (`stream.rs`), what a part is (`net-kernel`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::api::Part;

/// Capacity a buffer keeps when it is not needed, in bytes.
const KEPT_CAPACITY: usize = 4 << 20;

/// Whole messages laid end to end, then perhaps the beginning of one more.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    /// Where each message ends in `bytes`.
    ends: Vec<usize>,
    /// Messages before this one were read.
    next: usize,
    /// Where the next unread byte lies.
    at: usize,
}

impl Messages {
    /// Whole messages that were not read yet.
    pub(crate) const fn whole(&self) -> usize {
        self.ends.len() - self.next
    }

    /// Bytes that were not read yet.
    pub(crate) const fn unread(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Length of the next whole message.
    pub(crate) fn peek_len(&self) -> Option<usize> {
        Some(self.ends.get(self.next)? - self.at)
    }

    /// The next whole message.
    pub(crate) fn pop(&mut self) -> Option<&[u8]> {
        let end = *self.ends.get(self.next)?;
        let start = std::mem::replace(&mut self.at, end);
        self.next += 1;
        Some(&self.bytes[start..end])
    }

    /// Some bytes of the next message, whole or not, at most `max`, and whether they end it.
    pub(crate) fn pop_part(&mut self, max: usize) -> Option<(&[u8], bool)> {
        let (end, whole) = match self.ends.get(self.next) {
            Some(&end) => (end, true),
            None if self.unread() > 0 => (self.bytes.len(), false),
            None => return None,
        };
        let start = self.at;
        self.at = end.min(start + max);
        let ended = whole && self.at == end;
        if ended {
            self.next += 1;
        }
        Some((&self.bytes[start..self.at], ended))
    }

    fn append(&mut self, bytes: &[u8], end: bool) {
        self.bytes.extend_from_slice(bytes);
        if end {
            self.ends.push(self.bytes.len());
        }
    }

    /// Appends all that `other` holds unread and empties it.
    fn append_all(&mut self, other: &mut Self) {
        self.compact();
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes[other.at..]);
        self.ends
            .extend(other.ends[other.next..].iter().map(|end| end - other.at + shift));
        other.clear();
    }

    /// Moves the beginning of an unfinished last message to the empty `other`.
    fn cut_tail_into(&mut self, other: &mut Self) {
        let tail = self.ends.last().copied().unwrap_or(self.at);
        other.bytes.extend_from_slice(&self.bytes[tail..]);
        self.bytes.truncate(tail);
    }

    fn compact(&mut self) {
        self.bytes.drain(..self.at);
        let at = self.at;
        self.ends.drain(..self.next);
        self.ends.iter_mut().for_each(|end| *end -= at);
        self.at = 0;
        self.next = 0;
    }

    fn clear(&mut self) {
        // What one large message once needed is given back when ordinary traffic follows.
        if self.bytes.capacity() > KEPT_CAPACITY && self.bytes.len() < self.bytes.capacity() / 8 {
            self.bytes.shrink_to(KEPT_CAPACITY);
        }
        self.bytes.clear();
        self.ends.clear();
        self.next = 0;
        self.at = 0;
    }
}

/// How the peer's direction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The peer finished; all was delivered.
    Finished,
    /// The peer reset the stream with this code.
    Reset(u64),
    /// The session ended; its reason is kept with the session.
    SessionClosed,
}

/// What the reader waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Wants {
    #[default]
    Whole,
    Parts,
}

#[derive(Debug, Default)]
struct State {
    messages: Messages,
    /// Unfinished messages of a stream without order, by number.
    scattered: BTreeMap<u64, Vec<u8>>,
    end: Option<End>,
    wants: Wants,
    waker: Option<Waker>,
    /// The reader is gone: what arrives is dropped.
    deaf: bool,
}

/// The shared end.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// An unfinished message is moved to the reader once it is this long, so that its credit returns.
    assemble: usize,
}

/// What a reader found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// There is something to read, and this much of an unfinished message was moved besides.
    Some {
        /// Bytes of an unfinished message now in the reader's hands.
        assembling: usize,
    },
    /// Nothing yet; the waker was kept.
    Nothing,
    /// Nothing, and nothing more will come.
    Ended(End),
}

impl Inbox {
    pub(crate) const fn new(assemble: usize) -> Self {
        let messages = Messages {
            bytes: Vec::new(),
            ends: Vec::new(),
            next: 0,
            at: 0,
        };
        let state = State {
            messages,
            scattered: BTreeMap::new(),
            end: None,
            wants: Wants::Whole,
            waker: None,
            deaf: false,
        };
        Self {
            state: Mutex::new(state),
            assemble,
        }
    }

    /// Appends a part. Answers whether the reader now has what it waits for.
    pub(crate) fn deliver(&self, part: &Part<'_>, ordered: bool) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.deaf {
            return false;
        }
        if ordered || (part.end && part.offset == 0) {
            state.messages.append(part.bytes, part.end);
        } else {
            let whole = state.scattered.entry(part.number).or_default();
            whole.extend_from_slice(part.bytes);
            if part.end {
                let whole = state.scattered.remove(&part.number).unwrap_or_default();
                state.messages.append(&whole, true);
            }
        }
        state.waker.is_some() && state.is_ready(self.assemble)
    }

    /// The stream turned out to be ordered: an unfinished message is continued at the end of the others.
    pub(crate) fn set_ordered(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        while let Some((_, begun)) = state.scattered.pop_first() {
            state.messages.append(&begun, false);
        }
    }

    /// Notes how the stream ended; the first end stays. Answers the reader's waker.
    pub(crate) fn end(&self, end: End) -> Option<Waker> {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        state.waker.take()
    }

    /// The reader's waker, if it has what it waits for.
    pub(crate) fn take_waker(&self) -> Option<Waker> {
        let mut state = self.lock();
        if state.is_ready(self.assemble) {
            state.waker.take()
        } else {
            None
        }
    }

    /// Moves what arrived to the reader, whose own buffer holds no whole message (`Whole`), or nothing (`parts`).
    pub(crate) fn take(&self, own: &mut Messages, parts: bool, waker: &Waker) -> Taken {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.wants = if parts { Wants::Parts } else { Wants::Whole };
        if !state.is_ready(self.assemble) {
            return match state.end {
                Some(end) => Taken::Ended(end),
                None => {
                    if !state.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
                        state.waker = Some(waker.clone());
                    }
                    Taken::Nothing
                }
            };
        }
        state.waker = None;
        if own.unread() > 0 {
            let before = own.unread();
            own.append_all(&mut state.messages);
            let assembling = if own.whole() == 0 { own.unread() - before } else { 0 };
            return Taken::Some { assembling };
        }
        own.clear();
        std::mem::swap(own, &mut state.messages);
        if parts || own.whole() == 0 {
            return Taken::Some {
                assembling: if parts { 0 } else { own.unread() },
            };
        }
        own.cut_tail_into(&mut state.messages);
        Taken::Some { assembling: 0 }
    }

    /// The reader is gone. Answers bytes and whole messages that were never read.
    pub(crate) fn close(&self) -> (u64, u64) {
        let mut state = self.lock();
        state.deaf = true;
        state.waker = None;
        let scattered: usize = state.scattered.values().map(Vec::len).sum();
        let unread = (state.messages.unread() + scattered) as u64;
        let whole = state.messages.whole() as u64;
        state.scattered = BTreeMap::new();
        state.messages = Messages::default();
        (unread, whole)
    }

    /// No panic can leave the state half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_ready(&self, assemble: usize) -> bool {
        match self.wants {
            Wants::Whole => self.messages.whole() > 0 || self.messages.unread() >= assemble,
            Wants::Parts => self.messages.whole() > 0 || self.messages.unread() > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{EntityId, SessionKey, StreamId};

    fn part(number: u64, offset: u64, end: bool, bytes: &[u8]) -> Part<'_> {
        Part {
            peer: EntityId([0; 32]),
            session: SessionKey(1),
            stream: StreamId(1),
            subprotocol: 0,
            number,
            offset,
            end,
            bytes,
        }
    }

    fn take(inbox: &Inbox, own: &mut Messages) -> Taken {
        inbox.take(own, false, Waker::noop())
    }

    #[test]
    fn messages_come_out_whole_and_in_order_through_the_swap() {
        let inbox = Inbox::new(1_000);
        let mut own = Messages::default();
        assert_eq!(take(&inbox, &mut own), Taken::Nothing);
        assert!(
            inbox.deliver(&part(0, 0, true, b"one"), true),
            "the reader waits for it"
        );
        inbox.deliver(&part(1, 0, true, b""), true);
        inbox.deliver(&part(2, 0, false, b"thr"), true);
        assert_eq!(take(&inbox, &mut own), Taken::Some { assembling: 0 });
        assert_eq!(own.pop(), Some(&b"one"[..]));
        assert_eq!(own.pop(), Some(&b""[..]), "an empty message is a message");
        assert_eq!(own.pop(), None);
        assert_eq!(take(&inbox, &mut own), Taken::Nothing, "the third is not whole");
        assert!(inbox.deliver(&part(2, 3, true, b"ee"), true));
        take(&inbox, &mut own);
        assert_eq!(own.pop(), Some(&b"three"[..]));
    }

    #[test]
    fn a_message_beyond_the_threshold_moves_on_while_it_is_incomplete() {
        let inbox = Inbox::new(4);
        let mut own = Messages::default();
        inbox.deliver(&part(0, 0, false, b"abc"), true);
        assert_eq!(take(&inbox, &mut own), Taken::Nothing);
        assert!(inbox.deliver(&part(0, 3, false, b"de"), true));
        assert_eq!(take(&inbox, &mut own), Taken::Some { assembling: 5 });
        assert_eq!((own.whole(), own.unread()), (0, 5));
        inbox.deliver(&part(0, 5, true, b"f"), true);
        inbox.deliver(&part(1, 0, true, b"next"), true);
        assert_eq!(take(&inbox, &mut own), Taken::Some { assembling: 0 });
        assert_eq!(own.pop(), Some(&b"abcdef"[..]));
        assert_eq!(own.pop(), Some(&b"next"[..]));
    }

    #[test]
    fn parts_are_handed_on_as_they_come_and_tell_where_a_message_ends() {
        let inbox = Inbox::new(1_000);
        let mut own = Messages::default();
        inbox.deliver(&part(0, 0, false, b"abcd"), true);
        inbox.take(&mut own, true, Waker::noop());
        assert_eq!(own.pop_part(3), Some((&b"abc"[..], false)));
        assert_eq!(own.pop_part(3), Some((&b"d"[..], false)));
        assert_eq!(own.pop_part(3), None);
        inbox.deliver(&part(0, 4, true, b"ef"), true);
        inbox.take(&mut own, true, Waker::noop());
        assert_eq!(own.pop_part(9), Some((&b"ef"[..], true)));
    }

    #[test]
    fn unordered_messages_may_be_interleaved() {
        let inbox = Inbox::new(1_000);
        let mut own = Messages::default();
        inbox.deliver(&part(0, 0, false, b"aa"), false);
        inbox.deliver(&part(1, 0, false, b"bb"), false);
        inbox.deliver(&part(2, 0, true, b"c"), false);
        inbox.deliver(&part(1, 2, true, b"B"), false);
        inbox.deliver(&part(0, 2, true, b"A"), false);
        take(&inbox, &mut own);
        assert_eq!(own.pop(), Some(&b"c"[..]));
        assert_eq!(own.pop(), Some(&b"bbB"[..]));
        assert_eq!(own.pop(), Some(&b"aaA"[..]));
    }

    #[test]
    fn an_end_is_told_after_everything_that_came_before_it() {
        let inbox = Inbox::new(1_000);
        let mut own = Messages::default();
        inbox.deliver(&part(0, 0, true, b"last"), true);
        inbox.end(End::Finished);
        inbox.end(End::SessionClosed);
        assert_eq!(take(&inbox, &mut own), Taken::Some { assembling: 0 });
        own.pop();
        assert_eq!(
            take(&inbox, &mut own),
            Taken::Ended(End::Finished),
            "the first end stays"
        );
    }

    #[test]
    fn closing_counts_what_was_never_read_and_takes_nothing_more() {
        let inbox = Inbox::new(1_000);
        inbox.deliver(&part(0, 0, true, b"abc"), true);
        inbox.deliver(&part(1, 0, false, b"de"), true);
        assert_eq!(inbox.close(), (5, 1));
        assert!(!inbox.deliver(&part(1, 2, true, b"f"), true));
        assert_eq!(inbox.close(), (0, 0));
    }
}
