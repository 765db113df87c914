//! The transmit buffer a turn seals datagrams into, and its way out in runs of equal length.
//!
//! Invariants: bytes leave in the order they were committed; a run never mixes destinations, and only its last datagram
//! is shorter than the others; a slot that was not committed leaves no trace; the buffer never grows.
//! Not here: when to flush (`driver.rs`), system calls (`tokio.rs`).

use std::collections::VecDeque;
use std::io;

use crate::api::{Crew, Dest, LinkChange, Seal, Tx};

use crate::crew::Helpers;
use crate::traits::{DatagramSocket, Transmit};

/// Bytes one flush holds: what one segmented send may carry (65,535 less IPv6, UDP and a margin for options).
pub(crate) const CAPACITY: usize = 65_000;

/// Datagrams of one length to one destination, lying end to end.
#[derive(Clone, Copy, Debug)]
struct Run {
    to: Dest,
    segment: usize,
    len: usize,
    count: usize,
    /// A shorter datagram ended it.
    full: bool,
}

/// See the module.
pub(crate) struct Transmitter {
    buf: Box<[u8]>,
    /// What was sent already lies before this.
    start: usize,
    /// What was committed lies before this.
    end: usize,
    reserved: Option<(Dest, usize)>,
    runs: VecDeque<Run>,
    max_segments: usize,
    /// The socket is full: nothing more is taken until it is writable.
    blocked: bool,
    /// A `reserve` was refused since the last [`Transmitter::take_refused`].
    refused: bool,
    /// Who seals what is held.
    helpers: Option<Helpers>,
    /// Where what is held begins, while something is.
    held: Option<usize>,
}

/// What one flush did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flushed {
    /// Datagrams handed to the socket.
    pub(crate) datagrams: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// System calls.
    pub(crate) calls: u64,
    /// Datagrams the host refused for good.
    pub(crate) failed: u64,
    /// What a refusal told about the path.
    pub(crate) hint: Option<LinkChange>,
}

impl Transmitter {
    pub(crate) fn new(max_segments: usize) -> Self {
        Self {
            buf: vec![0; CAPACITY].into_boxed_slice(),
            start: 0,
            end: 0,
            reserved: None,
            runs: VecDeque::with_capacity(64),
            max_segments: max_segments.max(1),
            blocked: false,
            refused: false,
            helpers: None,
            held: None,
        }
    }

    /// Packets are sealed together from now on, with the help of so many threads; none changes nothing.
    pub(crate) fn with_helpers(mut self, count: usize) -> Self {
        self.helpers = (count > 0).then(|| Helpers::start(count));
        self
    }

    /// Who opens and seals beside the driver.
    pub(crate) fn crew(&mut self) -> Option<&mut dyn Crew> {
        self.helpers.as_mut().map(|helpers| helpers as &mut dyn Crew)
    }

    /// Whether there is somebody.
    pub(crate) const fn has_crew(&self) -> bool {
        self.helpers.is_some()
    }

    /// Nothing waits to leave.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The socket answered that it is full, and has not been writable since.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The socket takes datagrams again.
    pub(crate) const fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Whether the kernel was refused a slot since the last call: it waits for `TxReady`.
    pub(crate) const fn take_refused(&mut self) -> bool {
        std::mem::replace(&mut self.refused, false)
    }

    /// Drops what waits, as when the socket is replaced: to the peers it is lost on the way.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.start = 0;
        self.end = 0;
        self.blocked = false;
    }

    /// Sends what was committed, one call per run, until all has left or the socket is full.
    pub(crate) fn flush<S: DatagramSocket>(&mut self, socket: &mut S) -> Flushed {
        assert!(self.held.is_none(), "what is held is not sealed");
        let mut done = Flushed::default();
        while let Some(run) = self.runs.front_mut() {
            let bytes = &self.buf[self.start..self.start + run.len];
            let transmit = Transmit {
                to: run.to.to,
                ecn: run.to.ecn,
                segment: run.segment,
                bytes,
            };
            done.calls += 1;
            let gone = match socket.try_send(&transmit) {
                Ok(sent) => {
                    let datagrams = sent.div_ceil(run.segment).min(run.count);
                    done.datagrams += datagrams as u64;
                    done.bytes += sent as u64;
                    run.count -= datagrams;
                    sent
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    break;
                }
                Err(error) => {
                    done.failed += run.count as u64;
                    done.hint = done.hint.or_else(|| hint_of(&error, run.to));
                    tracing::debug!(to = %run.to.to, datagrams = run.count, %error, "the host refused datagrams");
                    run.len
                }
            };
            self.start += gone;
            run.len -= gone;
            if run.len == 0 {
                self.runs.pop_front();
            }
        }
        if self.runs.is_empty() {
            self.start = 0;
            self.end = 0;
            self.max_segments = socket.max_segments().max(1);
        }
        done
    }
}

/// What a refused send tells about its destination.
fn hint_of(error: &io::Error, to: Dest) -> Option<LinkChange> {
    if is_too_large(error) {
        return Some(LinkChange::TooLarge(to.to));
    }
    let unreachable = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
    );
    unreachable.then_some(LinkChange::Unreachable(to.to))
}

/// EMSGSIZE has no `io::ErrorKind`; its number differs between systems.
fn is_too_large(error: &io::Error) -> bool {
    #[cfg(unix)]
    let number = rustix::io::Errno::MSGSIZE.raw_os_error();
    #[cfg(not(unix))]
    let number = 10_040; // WSAEMSGSIZE
    error.raw_os_error() == Some(number)
}

impl Tx for Transmitter {
    #[inline]
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        if self.blocked || self.end + len > self.buf.len() {
            self.refused = true;
            self.reserved = None;
            return None;
        }
        self.reserved = Some((to, len));
        Some(&mut self.buf[self.end..self.end + len])
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        let Some((to, reserved)) = self.reserved.take() else {
            debug_assert!(false, "commit follows reserve");
            return;
        };
        debug_assert!(len <= reserved, "at most what was reserved");
        let len = len.min(reserved);
        if len == 0 {
            return;
        }
        self.end += len;
        let max = self.max_segments;
        match self.runs.back_mut() {
            Some(run) if run.to == to && !run.full && len <= run.segment && run.count < max => {
                run.len += len;
                run.count += 1;
                run.full = len < run.segment;
            }
            Some(_) | None => self.runs.push_back(Run {
                to,
                segment: len,
                len,
                count: 1,
                full: false,
            }),
        }
    }

    fn hold(&mut self) -> bool {
        debug_assert!(self.held.is_none(), "what was held before was released");
        self.held = self.helpers.is_some().then_some(self.end);
        self.held.is_some()
    }

    fn release(&mut self, seal: &mut Seal<'_>) {
        if let (Some(held), Some(helpers)) = (self.held.take(), &mut self.helpers) {
            seal(&mut self.buf[held..self.end], helpers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeSocket, addr};

    fn dest(port: u16) -> Dest {
        Dest {
            to: addr(port),
            ecn: true,
        }
    }

    fn put(tx: &mut Transmitter, to: Dest, bytes: &[u8]) {
        tx.reserve(to, bytes.len() + 8).expect("room")[..bytes.len()].copy_from_slice(bytes);
        tx.commit(bytes.len());
    }

    #[test]
    fn equal_datagrams_to_one_peer_leave_in_one_call_and_the_last_may_be_shorter() {
        let (mut socket, wire) = FakeSocket::new(addr(1), 64);
        let mut tx = Transmitter::new(64);
        put(&mut tx, dest(2), b"aaaa");
        put(&mut tx, dest(2), b"bbbb");
        put(&mut tx, dest(2), b"c");
        put(&mut tx, dest(2), b"dddd");
        put(&mut tx, dest(3), b"eeee");
        let done = tx.flush(&mut socket);
        assert_eq!((done.calls, done.datagrams, done.bytes), (3, 5, 17));
        let sent = wire.sent();
        assert_eq!(
            sent.iter().map(|d| d.1.as_slice()).collect::<Vec<_>>(),
            [&b"aaaa"[..], b"bbbb", b"c", b"dddd", b"eeee"]
        );
        assert!(tx.is_empty());
    }

    #[test]
    fn what_is_held_is_lent_once_more_and_nothing_else_is() {
        let (mut socket, wire) = FakeSocket::new(addr(1), 64);
        let mut tx = Transmitter::new(64);
        assert!(!tx.hold(), "there is nobody to seal it");
        let mut tx = tx.with_helpers(1);
        put(&mut tx, dest(2), b"sealed");
        assert!(tx.hold());
        put(&mut tx, dest(2), b"one");
        tx.reserve(dest(2), 10).expect("room").fill(7);
        put(&mut tx, dest(3), b"two");
        tx.release(&mut |bytes, _| {
            assert_eq!(bytes, b"onetwo");
            bytes.make_ascii_uppercase();
        });
        tx.flush(&mut socket);
        let sent: Vec<_> = wire.sent().into_iter().map(|datagram| datagram.1).collect();
        assert_eq!(sent, [&b"sealed"[..], b"ONE", b"TWO"]);
    }

    #[test]
    fn a_slot_that_is_not_committed_leaves_no_trace() {
        let (mut socket, wire) = FakeSocket::new(addr(1), 64);
        let mut tx = Transmitter::new(64);
        tx.reserve(dest(2), 10).expect("room").fill(7);
        put(&mut tx, dest(3), b"x");
        tx.flush(&mut socket);
        assert_eq!(wire.sent(), [(addr(3), b"x".to_vec())]);
    }

    #[test]
    fn a_full_socket_keeps_what_is_left_and_refuses_more_until_it_is_writable() {
        let (mut socket, wire) = FakeSocket::new(addr(1), 2);
        let mut tx = Transmitter::new(2);
        for byte in 0..6u8 {
            put(&mut tx, dest(2), &[byte; 4]);
        }
        wire.accept_only(3);
        let done = tx.flush(&mut socket);
        assert_eq!(done.datagrams, 3);
        assert!(tx.is_blocked() && tx.reserve(dest(2), 1).is_none() && tx.take_refused());
        assert!(!tx.take_refused(), "told once");
        wire.accept_only(usize::MAX);
        tx.unblock();
        assert_eq!(tx.flush(&mut socket).datagrams, 3);
        let order: Vec<u8> = wire.sent().iter().map(|d| d.1[0]).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_full_buffer_refuses_and_takes_again_once_flushed() {
        let (mut socket, _wire) = FakeSocket::new(addr(1), 64);
        let mut tx = Transmitter::new(64);
        let mut taken = 0;
        while let Some(slot) = tx.reserve(dest(2), 1_452) {
            slot.fill(1);
            tx.commit(1_452);
            taken += 1;
        }
        assert_eq!(taken, CAPACITY / 1_452);
        assert!(tx.take_refused());
        assert_eq!(tx.flush(&mut socket).calls, 1);
        assert!(tx.reserve(dest(2), 1_452).is_some());
    }

    #[test]
    fn a_datagram_the_host_refuses_is_dropped_and_tells_why() {
        let (mut socket, wire) = FakeSocket::new(addr(1), 64);
        let mut tx = Transmitter::new(64);
        put(&mut tx, dest(2), b"big");
        put(&mut tx, dest(3), b"ok");
        wire.fail_next_send(rustix::io::Errno::MSGSIZE.into());
        let done = tx.flush(&mut socket);
        assert_eq!((done.failed, done.datagrams), (1, 1));
        assert_eq!(done.hint, Some(LinkChange::TooLarge(addr(2))));
    }
}
