//! Fakes for this crate's tests: a socket whose wire is inspected, entropy that repeats, a clock that is told the time.
//!
//! Invariants: nothing here waits. Not here: worlds (`net-io-sim`).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::api::{Addr, Ecn, Instant, LinkChange, Now, UnixNanos};
use crate::traits::{Clock, DatagramSocket, Entropy, RecvMeta, Transmit};

pub(crate) fn addr(port: u16) -> Addr {
    ([127, 0, 0, 1], port).into()
}

/// Bytes that follow from a number.
pub(crate) struct FixedEntropy(Mutex<u64>);

impl FixedEntropy {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Entropy for FixedEntropy {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        for byte in out {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (*state >> 56) as u8;
        }
        Ok(())
    }
}

#[derive(Default)]
struct WireState {
    sent: Vec<(Addr, Vec<u8>)>,
    calls: u64,
    incoming: VecDeque<(Addr, Vec<u8>)>,
    room: Option<usize>,
    fail: Option<io::Error>,
    hints: VecDeque<LinkChange>,
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The other side of a [`FakeSocket`].
#[derive(Clone, Default)]
pub(crate) struct FakeWire(Arc<Mutex<WireState>>);

pub(crate) struct FakeSocket {
    wire: FakeWire,
    local: Addr,
    segments: usize,
}

impl FakeSocket {
    pub(crate) fn new(local: Addr, segments: usize) -> (Self, FakeWire) {
        let wire = FakeWire::default();
        (
            Self {
                wire: wire.clone(),
                local,
                segments,
            },
            wire,
        )
    }
}

impl FakeWire {
    fn lock(&self) -> MutexGuard<'_, WireState> {
        self.0.lock().unwrap()
    }

    pub(crate) fn sent(&self) -> Vec<(Addr, Vec<u8>)> {
        self.lock().sent.clone()
    }

    pub(crate) fn take_sent(&self) -> Vec<(Addr, Vec<u8>)> {
        std::mem::take(&mut self.lock().sent)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many more datagrams fit.
    pub(crate) fn accept_only(&self, datagrams: usize) {
        let mut state = self.lock();
        state.room = (datagrams != usize::MAX).then_some(datagrams);
        if datagrams > 0 {
            state.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    pub(crate) fn fail_next_send(&self, error: io::Error) {
        self.lock().fail = Some(error);
    }

    pub(crate) fn break_down(&self) {
        self.lock().broken = true;
    }

    pub(crate) fn bring(&self, from: Addr, bytes: &[u8]) {
        let mut state = self.lock();
        state.incoming.push_back((from, bytes.to_vec()));
        state.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl DatagramSocket for FakeSocket {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [Box<[u8]>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.wire.lock();
        if state.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let Some((from, bytes)) = state.incoming.pop_front() else {
                break;
            };
            buf[..bytes.len()].copy_from_slice(&bytes);
            *meta = RecvMeta {
                from,
                len: bytes.len(),
                stride: bytes.len(),
                ecn: Ecn::NotEct,
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn try_send(&mut self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let mut state = self.wire.lock();
        if let Some(error) = state.fail.take() {
            return Err(error);
        }
        let mut sent = 0;
        for datagram in transmit.bytes.chunks(transmit.segment) {
            match &mut state.room {
                Some(0) => break,
                Some(room) => *room -= 1,
                None => {}
            }
            state.sent.push((transmit.to, datagram.to_vec()));
            sent += datagram.len();
        }
        if sent == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.calls += 1;
        Ok(sent)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.wire.lock();
        if state.room != Some(0) {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<Addr> {
        Ok(self.local)
    }

    fn max_segments(&self) -> usize {
        self.segments
    }

    fn take_hint(&mut self) -> Option<LinkChange> {
        self.wire.lock().hints.pop_front()
    }
}

/// A clock that stands still until it is told.
#[derive(Clone, Default)]
pub(crate) struct FakeClock(Arc<Mutex<(u64, Option<Waker>)>>);

impl FakeClock {
    pub(crate) fn advance_to(&self, at: Instant) {
        let mut state = self.0.lock().unwrap();
        state.0 = state.0.max(at.as_nanos());
        state.1.take().into_iter().for_each(Waker::wake);
    }
}

impl Clock for FakeClock {
    fn now(&mut self) -> Now {
        let nanos = self.0.lock().unwrap().0;
        Now {
            mono: Instant::from_nanos(nanos),
            wall: UnixNanos(nanos),
        }
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.0 >= at.as_nanos() {
            return Poll::Ready(());
        }
        state.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}
