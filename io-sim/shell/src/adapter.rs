//! The driver's four traits in a simulated machine.
//!
//! A socket here has moods, keyed like everything else, because a driver must live with all of them: it is full now and
//! then, takes only a part of a batch, coalesces what it received, reports an error that is about something else; a timer
//! goes off early now and then. None of it loses a datagram.
//! Whoever sleeps must have asked to be woken: after an answer the socket is to be asked again until it has none, and what
//! it refused is to be tried again once it is writable. What is owed so stands in the bed, which looks when nobody is awake.
//! Invariants: a mood is a function of machine, process and count; everything that crosses a trait is in the record.
//! Not here: what links do (`bed.rs`), where datagrams wait (`runtime.rs`).

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use net_io_real::traits::{Clock, DatagramSocket, Disk, Entropy, RecvMeta, Transmit};
use net_io_sim::scenario::{Happening, NodeIndex};
use net_io_sim::trigger::Happened;
use net_kernel::api::{Ecn, StoreError};
use net_kernel::base::store::Cell;
use net_kernel::base::{Addr, Instant, Now};
use net_sim_model::{DiskFault, Family, Key};

use crate::bed::{Bed, Debt, Seen};

/// Which process of which machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    /// The machine.
    pub node: NodeIndex,
    /// Counted from 1.
    pub incarnation: u64,
}

/// Where datagrams wait: one bound socket of a runtime.
pub trait Wire: Send + 'static {
    /// Gives a datagram away.
    fn send(&mut self, to: Addr, ecn: Ecn, datagram: &[u8]);

    /// Takes the next one into `buf`, or keeps the waker.
    fn recv(&mut self, waker: &Waker, buf: &mut [u8]) -> Option<(Addr, Ecn, usize)>;

    /// The address it is bound to.
    fn local(&self) -> Addr;
}

/// A socket as the driver sees it.
pub struct ShellSocket<W> {
    wire: W,
    bed: Bed,
    process: Process,
    moods: Key,
    segments: usize,
    sends: u64,
    receives: u64,
    polls: u64,
    /// The next datagram, where it did not fit the buffer of the one before.
    held: Option<(Addr, Ecn, Vec<u8>)>,
    scratch: Vec<u8>,
    full_until: u64,
    nap: Option<u64>,
    /// The number under which the bed keeps what its driver owes it.
    number: u64,
    /// Its driver was answered by `poll_recv` and has not asked again.
    answered: bool,
    outlet: Outlet,
}

/// How far a driver has come with what the socket refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outlet {
    /// Nothing was refused.
    Open,
    /// Something was, and nobody asked when it may be tried again.
    Refused,
    /// The driver waits to be told.
    Awaited,
    /// The driver was told and has not tried.
    Writable,
}

const PER_MILLE: u64 = 1_000_000;
/// How often a send finds the socket full.
const FULL: u64 = 30 * PER_MILLE;
/// How often a batch is taken only in part.
const PART: u64 = 100 * PER_MILLE;
/// How often a receive reports an error that is about something else.
const ERROR: u64 = 5 * PER_MILLE;
/// How often equal datagrams of one sender are coalesced.
const COALESCE: u64 = 500 * PER_MILLE;
/// How often a deadline goes off early.
const EARLY: u64 = 60 * PER_MILLE;
/// A full socket stays full for so long at most.
const FULL_FOR: u64 = 400_000;
/// A deadline goes off this much early at most.
const EARLY_BY: u64 = 1_000_000;
/// Coalesced bytes in one buffer at most.
const COALESCED: usize = 60_000;

impl<W: Wire> ShellSocket<W> {
    /// A socket of a process on a runtime's.
    pub fn new(bed: &Bed, process: Process, wire: W) -> Self {
        let moods = moods(bed, process, "socket").with(u64::from(wire.local().port()));
        let segments = [1, 4, 16, 64][moods.with(1).below(0, 4) as usize];
        Self {
            wire,
            bed: bed.clone(),
            process,
            moods,
            segments,
            sends: 0,
            receives: 0,
            polls: 0,
            held: None,
            scratch: vec![0; 65_536],
            full_until: 0,
            nap: None,
            number: bed.number_socket(),
            answered: false,
            outlet: Outlet::Open,
        }
    }

    /// Writes down what the driver owes this socket before it may sleep.
    fn owe(&mut self, answered: bool, outlet: Outlet) {
        if (self.answered, self.outlet) == (answered, outlet) {
            return;
        }
        (self.answered, self.outlet) = (answered, outlet);
        let debt = match outlet {
            Outlet::Refused => Some(Debt::Unasked),
            Outlet::Writable => Some(Debt::Untried),
            Outlet::Open | Outlet::Awaited => answered.then_some(Debt::Deaf),
        };
        self.bed.owe(self.number, self.process.node, debt);
    }

    fn next(&mut self, waker: &Waker) -> Option<(Addr, Ecn, Vec<u8>)> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        let (from, ecn, len) = self.wire.recv(waker, &mut self.scratch)?;
        Some((from, ecn, self.scratch[..len].to_vec()))
    }

    /// Fills one buffer: a datagram, and those that can be coalesced with it.
    fn fill(&mut self, waker: &Waker, buf: &mut [u8]) -> Option<RecvMeta> {
        let (from, ecn, first) = self.next(waker)?;
        let stride = first.len();
        buf[..stride].copy_from_slice(&first);
        self.note(from, &first);
        let mut len = stride;
        self.receives += 1;
        if stride > 0 && self.moods.with(2).hits(self.receives, COALESCE) {
            while let Some((other, marked, bytes)) = self.next(waker) {
                if (other, marked) != (from, ecn)
                    || bytes.len() > stride
                    || bytes.is_empty()
                    || len + bytes.len() > COALESCED
                {
                    self.held = Some((other, marked, bytes));
                    break;
                }
                buf[len..len + bytes.len()].copy_from_slice(&bytes);
                self.note(from, &bytes);
                len += bytes.len();
                if bytes.len() < stride {
                    break;
                }
            }
        }
        Some(RecvMeta { from, len, stride, ecn })
    }

    fn note(&self, from: Addr, bytes: &[u8]) {
        let port = u64::from(from.port());
        self.bed.see(Seen::Received, self.process.node, &[port], bytes);
    }
}

fn moods(bed: &Bed, process: Process, what: &str) -> Key {
    let key = bed.key.with_text("shell").with_text(what);
    key.with(bed.number(process.node)).with(process.incarnation)
}

impl<W: Wire> DatagramSocket for ShellSocket<W> {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [Box<[u8]>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.polls += 1;
        if self.moods.with(7).hits(self.polls, ERROR) {
            self.owe(true, self.outlet);
            return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let Some(filled) = self.fill(cx.waker(), buf) else {
                break;
            };
            *meta = filled;
            count += 1;
        }
        self.owe(count > 0, self.outlet);
        if count == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn try_send(&mut self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let now = self.bed.now();
        self.sends += 1;
        if now < self.full_until || self.moods.with(3).hits(self.sends, FULL) {
            self.full_until = self
                .full_until
                .max(now + 1 + self.moods.with(4).below(self.sends, FULL_FOR));
            self.bed.see(Seen::Refused, self.process.node, &[self.sends], &[]);
            self.owe(self.answered, Outlet::Refused);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.owe(self.answered, Outlet::Open);
        let count = transmit.bytes.len().div_ceil(transmit.segment) as u64;
        let takes = if count > 1 && self.moods.with(5).hits(self.sends, PART) {
            1 + self.moods.with(6).below(self.sends, count)
        } else {
            count
        };
        let mut sent = 0;
        for datagram in transmit.bytes.chunks(transmit.segment).take(takes as usize) {
            let port = u64::from(transmit.to.port());
            self.bed.see(Seen::Sent, self.process.node, &[port], datagram);
            let ecn = if transmit.ecn { Ecn::Ect0 } else { Ecn::NotEct };
            self.wire.send(transmit.to, ecn, datagram);
            sent += datagram.len();
        }
        Ok(sent)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = self.full_until;
        if let Some(number) = self.nap.take() {
            self.bed.unsleep(until, number);
        }
        let refused = self.outlet != Outlet::Open;
        if self.bed.now() >= until {
            self.owe(self.answered, if refused { Outlet::Writable } else { Outlet::Open });
            return Poll::Ready(Ok(()));
        }
        self.owe(self.answered, if refused { Outlet::Awaited } else { Outlet::Open });
        self.nap = Some(self.bed.sleep(until, cx.waker()));
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<Addr> {
        Ok(self.wire.local())
    }

    fn max_segments(&self) -> usize {
        self.segments
    }
}

impl<W> Drop for ShellSocket<W> {
    fn drop(&mut self) {
        if let Some(number) = self.nap.take() {
            self.bed.unsleep(self.full_until, number);
        }
        self.bed.owe(self.number, self.process.node, None);
    }
}

/// A machine's clocks, and the driver's timer.
pub struct ShellClock {
    bed: Bed,
    process: Process,
    moods: Key,
    /// The deadline under way, and when it goes off.
    armed: Option<(Instant, Instant)>,
    count: u64,
}

impl ShellClock {
    /// The clock of a process.
    #[must_use]
    pub fn new(bed: &Bed, process: Process) -> Self {
        Self {
            bed: bed.clone(),
            process,
            moods: moods(bed, process, "timer"),
            armed: None,
            count: 0,
        }
    }
}

impl Clock for ShellClock {
    fn now(&mut self) -> Now {
        self.bed.clocks(self.process.node)
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let goes = match self.armed {
            Some((deadline, goes)) if deadline == at => goes,
            Some(_) | None => {
                self.count += 1;
                let early = if self.moods.hits(self.count, EARLY) {
                    1 + self.moods.with(1).below(self.count, EARLY_BY)
                } else {
                    0
                };
                Instant::from_nanos(at.as_nanos().saturating_sub(early))
            }
        };
        self.armed = Some((at, goes));
        if !self.bed.arm(self.process.node, goes, cx.waker()) {
            return Poll::Pending;
        }
        // Early only once: asked again for the same moment, it waits for it.
        self.armed = Some((at, at));
        self.bed.see(Seen::Woken, self.process.node, &[at.as_nanos()], &[]);
        Poll::Ready(())
    }
}

/// Bytes that follow from the run's key, as in the world.
pub struct ShellEntropy {
    key: Key,
    blocks: AtomicU64,
}

impl ShellEntropy {
    /// The entropy of a process.
    #[must_use]
    pub fn new(bed: &Bed, process: Process) -> Self {
        let key = bed.key.family(Family::Entropy);
        Self {
            key: key.with(bed.number(process.node)).with(process.incarnation),
            blocks: AtomicU64::new(0),
        }
    }
}

impl Entropy for ShellEntropy {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        for chunk in out.chunks_mut(32) {
            let block = self.key.bytes32(self.blocks.fetch_add(1, Ordering::Relaxed));
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

/// A machine's disk.
pub struct ShellDisk {
    bed: Bed,
    node: NodeIndex,
}

impl ShellDisk {
    /// The disk of a machine.
    #[must_use]
    pub fn new(bed: &Bed, node: NodeIndex) -> Self {
        Self { bed: bed.clone(), node }
    }
}

fn failed(fault: DiskFault) -> StoreError {
    if fault == DiskFault::Full {
        StoreError::Full
    } else if fault == DiskFault::Denied {
        StoreError::Denied
    } else {
        StoreError::Device
    }
}

impl Disk for ShellDisk {
    fn put(&self, cell: Cell, bytes: &[u8]) -> Result<(), StoreError> {
        self.bed.happened(&Happened::at(Happening::Writing, self.node));
        let written = {
            let disk = &mut self.bed.lock().machines[self.node as usize].disk;
            disk.write_now(cell.name(), bytes.to_vec()).map_err(failed)
        };
        let end = if written.is_ok() {
            Happening::Stored
        } else {
            Happening::StoreFailed
        };
        self.bed.happened(&Happened::at(end, self.node));
        written
    }

    fn get(&self, cell: Cell) -> Result<Option<Vec<u8>>, StoreError> {
        let disk = &self.bed.lock().machines[self.node as usize].disk;
        let bytes = disk.read(cell.name()).map_err(failed)?;
        Ok(bytes.map(<[u8]>::to_vec))
    }
}
