//! The loop that owns one node's socket, clock, disk and threads, and runs the kernel's turns on what they bring.
//!
//! Invariants: a fixed order of sources, commands first; bounded work per poll, so that other tasks run; after every turn
//! what it committed is sent; the socket's receive state lives across polls, so no datagram is lost by waiting.
//! Not here: what handles do with the board (`hub.rs`), runtimes (`tokio.rs`).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use crate::api::{Command, Duration, Ecn, Input, Instant, Job, JobDone, LinkChange, RxBatch, RxBuf, Stored};

use crate::hub::{Counters, Phase, Shared};
use crate::jobs::Pool;
use crate::spin::{Idle, Spin};
use crate::traits::{Clock, DatagramSocket, Disk, Entropy, RECV_BUFFER_LEN, RECV_BUFFERS, RecvMeta};
use crate::tx::Transmitter;

/// Rounds of one poll before other tasks get their turn.
const ROUNDS: usize = 16;
/// Looks at the socket in one poll, before other tasks get their turn.
const LOOKS: usize = 4;
/// Bytes received in one poll after which whoever reads them gets a turn: what lies between both stays in the cache.
const POLL_BYTES: u64 = 512 << 10;
/// Bytes one turn opens at most: the lock is held for so long (about 0.3 ms at 1 GB/s).
const TURN_BYTES: usize = 256 << 10;
/// Bytes of the parts that received buffers are cut into for a crew.
const CUT: usize = 8 << 10;
/// Parts of one turn's buffers at most: a part and the next have more than `CUT` together, but for the last of a buffer.
const MAX_CUTS: usize = 2 * TURN_BYTES / CUT + 2 * RECV_BUFFERS;
/// More received datagrams than this in a round are traffic that a job must not delay.
const IDLE_DATAGRAMS: u64 = 4;
/// Receive errors in a row after which the socket counts as broken.
const MAX_ERRORS: u32 = 64;

/// Why a driver ended on its own account.
#[derive(Debug)]
pub struct DriverError {
    /// What the socket answered over and over.
    pub socket: io::Error,
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the UDP socket stopped working ({}); check the host's network and start the node again",
            self.socket
        )
    }
}

impl std::error::Error for DriverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.socket)
    }
}

/// Where a new socket waits for the driver.
#[derive(Debug)]
pub(crate) struct SocketSlot<S>(Arc<Mutex<Option<S>>>);

impl<S> Clone for SocketSlot<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> SocketSlot<S> {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    /// The driver takes it at its next poll; call it afterwards.
    pub(crate) fn put(&self, socket: S) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    fn take(&self) -> Option<S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The future that drives one node. It ends when the node was closed, or its last handle dropped, and everything it had
/// to say has left.
#[must_use = "a node stands still unless its driver is polled"]
pub struct Driver<S, C, E, D> {
    shared: Arc<Shared>,
    /// Taken when the driver ends, so that what it holds is let go before anybody is told.
    inner: Option<Box<Loop<S, C, E, D>>>,
}

struct Loop<S, C, E, D> {
    shared: Arc<Shared>,
    socket: S,
    next_socket: SocketSlot<S>,
    clock: C,
    entropy: Arc<E>,
    pool: Pool<E, D>,
    tx: Transmitter,
    bufs: Vec<Box<[u8]>>,
    metas: Vec<RecvMeta>,
    deadline: Option<Instant>,
    /// The deadline that went off last.
    fired: Option<Instant>,
    /// The monotonic clock at the last turn.
    now: Instant,
    /// A turn ran since the driver was last idle.
    turned: bool,
    /// The kernel waits for `TxReady`.
    wants_tx: bool,
    /// Datagrams received in this round.
    received: u64,
    /// Bytes received in this poll.
    polled_bytes: u64,
    errors: u32,
    /// Jobs or storage operations wait to be started.
    work_waits: bool,
    /// Results of threads wait to be told.
    results_wait: bool,
    hints: Vec<LinkChange>,
    counts: Counters,
    spin: Spin,
}

#[derive(PartialEq, Eq)]
enum Round {
    Busy,
    /// Nothing is to do, but something may be at once.
    Looking,
    Idle,
    Ended,
}

/// The world a driver lives in.
#[derive(Debug)]
pub struct Parts<S, C, E, D> {
    /// A bound socket.
    pub socket: S,
    /// Clocks and timer.
    pub clock: C,
    /// Fresh bytes for handshakes.
    pub entropy: Arc<E>,
    /// Where cells are kept.
    pub disk: Arc<D>,
    /// Threads for jobs and storage; 0 runs both in the driver, as a simulated world needs it.
    pub threads: usize,
    /// Threads that open and seal packets beside the driver.
    pub helpers: usize,
    /// How long to look at the socket before sleeping, at most; zero sleeps at once.
    pub busy_poll: Duration,
}

impl<S: DatagramSocket, C: Clock, E: Entropy, D: Disk> Driver<S, C, E, D> {
    pub(crate) fn new(shared: Arc<Shared>, parts: Parts<S, C, E, D>) -> Self {
        Self {
            inner: Some(Box::new(Loop::new(shared.clone(), parts))),
            shared,
        }
    }

    pub(crate) fn socket_slot(&self) -> SocketSlot<S> {
        self.inner
            .as_ref()
            .expect("taken only when the driver ends")
            .next_socket
            .clone()
    }
}

impl<S, C, E, D> Driver<S, C, E, D> {
    fn end(&mut self) {
        self.shared.lock().board.end();
        if self.inner.take().is_some() {
            self.shared.lock().board.gone();
        }
    }
}

impl<S: DatagramSocket, C: Clock, E: Entropy, D: Disk> Loop<S, C, E, D> {
    fn new(shared: Arc<Shared>, parts: Parts<S, C, E, D>) -> Self {
        let Parts {
            socket,
            clock,
            entropy,
            disk,
            threads,
            helpers,
            busy_poll,
        } = parts;
        let tx = Transmitter::new(socket.max_segments()).with_helpers(helpers);
        let empty = RecvMeta {
            from: std::net::SocketAddr::from(([0, 0, 0, 0], 0)),
            len: 0,
            stride: 0,
            ecn: Ecn::NotEct,
        };
        Self {
            pool: Pool::new(shared.clone(), entropy.clone(), disk, threads),
            shared,
            socket,
            next_socket: SocketSlot::new(),
            clock,
            entropy,
            tx,
            bufs: (0..RECV_BUFFERS)
                .map(|_| vec![0; RECV_BUFFER_LEN].into_boxed_slice())
                .collect(),
            metas: vec![empty; RECV_BUFFERS],
            deadline: None,
            fired: None,
            now: Instant::ZERO,
            turned: false,
            wants_tx: false,
            received: 0,
            polled_bytes: 0,
            errors: 0,
            work_waits: false,
            results_wait: false,
            hints: Vec::new(),
            counts: Counters::default(),
            spin: Spin::new(busy_poll),
        }
    }

    fn round(&mut self, cx: &mut Context<'_>) -> Result<Round, DriverError> {
        self.received = 0;
        // What is done for the handles leaves the rest of the round valid: it need not be gone through again.
        if self.attend() | self.transmit() {
            self.spin.on_busy();
        }
        if self.spin.is_looking()
            && let Some(round) = self.look()?
        {
            return Ok(round);
        }
        let mut busy = self.receive(cx)?;
        busy |= self.start_work();
        busy |= self.finish_work();
        busy |= self.tick(cx);
        busy |= self.writable(cx);
        busy |= self.pass_hints();
        busy |= self.wants_tx && !self.tx.is_blocked();
        if busy {
            if self.received == 0 {
                self.spin.on_busy();
            }
            return Ok(Round::Busy);
        }
        if self.spin.is_on() {
            // Right after a turn its time will do.
            let now = if self.spin.is_looking() {
                self.clock.now().mono
            } else {
                self.now
            };
            match self.spin.on_idle(now) {
                Idle::Look => return Ok(Round::Looking),
                Idle::Arrange => return Ok(Round::Busy),
                Idle::Sleep => {}
            }
        }
        let mut hub = self.shared.lock();
        hub.board.counters.add(&std::mem::take(&mut self.counts));
        if hub.board.phase == Phase::Closing && self.tx.is_empty() {
            hub.board.end();
            return Ok(Round::Ended);
        }
        if hub.board.deadline != self.deadline {
            self.deadline = hub.board.deadline;
            return Ok(Round::Busy);
        }
        hub.board.armed = self.deadline;
        Ok(if hub.board.park_driver(cx.waker()) {
            Round::Idle
        } else {
            Round::Busy
        })
    }

    /// What handles left on the board.
    fn attend(&mut self) -> bool {
        let mut hub = self.shared.lock();
        if !hub.board.take_attention() {
            return false;
        }
        self.wants_tx |= std::mem::take(&mut hub.board.refused);
        while let Some(key) = hub.board.orphans.pop() {
            hub.release_session(key, 0);
        }
        while let Some(seat) = hub.board.pop_unwanted() {
            hub.refuse_stream(seat);
        }
        if hub.board.handles == 0
            && hub.board.phase == Phase::Running
            && hub.board.sessions().all(|(_, entry)| entry.unflushed == 0)
        {
            hub.board.phase = Phase::Closing;
            // The kernel answers no refusal to Shutdown.
            let _ = hub.command(Command::Shutdown);
        }
        self.wants_tx |= std::mem::take(&mut hub.board.refused);
        hub.board.counters.add(&std::mem::take(&mut self.counts));
        self.deadline = hub.board.deadline;
        self.work_waits |= !hub.board.jobs.is_empty() || !hub.board.stores.is_empty();
        self.results_wait |= !hub.board.worked.is_empty() || !hub.board.stored.is_empty();
        drop(hub);
        if let Some(socket) = self.next_socket.take() {
            self.socket = socket;
            self.tx.clear();
            self.turn(Input::Link(LinkChange::Rebound));
        }
        self.listen();
        true
    }

    /// What was heard on the segment of the network.
    fn listen(&mut self) {
        loop {
            let told = self.shared.lock().board.segment.pop();
            let Some(told) = told else { return };
            self.turn(Input::Segment(told.as_segment()));
        }
    }

    fn transmit(&mut self) -> bool {
        let ready = self.wants_tx && !self.tx.is_blocked();
        if ready {
            self.wants_tx = false;
            self.turn(Input::TxReady);
        }
        ready
    }

    /// A look at the socket and the clock, and at nothing that asks the reactor. `None` where a whole round is due.
    fn look(&mut self) -> Result<Option<Round>, DriverError> {
        match self.socket.try_recv(&mut self.bufs[..1], &mut self.metas) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => {
                self.take(result)?;
                return Ok(Some(Round::Busy));
            }
        }
        let now = self.clock.now().mono;
        if self.deadline.is_some_and(|at| at <= now) || self.tx.is_blocked() {
            return Ok(None);
        }
        Ok(Some(match self.spin.on_idle(now) {
            Idle::Look => Round::Looking,
            Idle::Arrange | Idle::Sleep => Round::Busy,
        }))
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, DriverError> {
        // Whoever will look again before it sleeps needs no waker yet.
        let polled = if self.spin.will_look() {
            match self.socket.try_recv(&mut self.bufs, &mut self.metas) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                result => Poll::Ready(result),
            }
        } else {
            self.socket.poll_recv(cx, &mut self.bufs, &mut self.metas)
        };
        match polled {
            Poll::Pending => Ok(false),
            Poll::Ready(result) => self.take(result),
        }
    }

    /// Runs the turns on what a receive call brought.
    fn take(&mut self, received: io::Result<usize>) -> Result<bool, DriverError> {
        let count = match received {
            Ok(count) => count.min(self.bufs.len()),
            Err(error) => {
                self.errors += 1;
                tracing::debug!(%error, "receiving failed");
                return if self.errors < MAX_ERRORS {
                    Ok(!net_kernel::base::mutant!(DriverDeafAfterError))
                } else {
                    Err(DriverError { socket: error })
                };
            }
        };
        self.errors = 0;
        self.counts.received_calls += 1;
        let mut from = 0;
        while from < count {
            let mut to = from;
            let mut bytes = 0;
            while to < count && (to == from || bytes + self.metas[to].len <= TURN_BYTES) {
                let meta = &self.metas[to];
                bytes += meta.len;
                self.received += (meta.len as u64).div_ceil(meta.stride.max(1) as u64);
                to += 1;
            }
            self.counts.received_bytes += bytes as u64;
            self.polled_bytes += bytes as u64;
            if self.tx.has_crew() {
                self.open::<MAX_CUTS>(from, to);
            } else if to - from == 1 {
                self.open::<1>(from, to);
            } else {
                self.open::<RECV_BUFFERS>(from, to);
            }
            from = to;
        }
        self.counts.received_datagrams += self.received;
        Ok(true)
    }

    /// Runs the turn on buffers `from..to`, at most `N` once they are cut.
    fn open<const N: usize>(&mut self, from: usize, to: usize) {
        let now = self.clock.now();
        self.now = now.mono;
        self.turned = true;
        self.spin.on_received(now.mono);
        let nobody = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let mut rx: [RxBuf<'_>; N] = std::array::from_fn(|_| RxBuf {
            from: nobody,
            ecn: Ecn::NotEct,
            stride: 0,
            data: &mut [],
            digest: None,
        });
        // A crew shares whole buffers out, so what the network card gathered is cut; the kernel sees the same datagrams.
        let most = if self.tx.has_crew() { CUT } else { usize::MAX };
        let mut count = 0;
        for (buf, meta) in self.bufs[from..to].iter_mut().zip(&self.metas[from..to]) {
            for data in buf[..meta.len].chunks_mut(cut(meta, most)) {
                rx[count] = RxBuf {
                    from: meta.from,
                    ecn: meta.ecn,
                    stride: meta.stride,
                    data,
                    digest: None,
                };
                count += 1;
            }
        }
        let mut hub = self.shared.lock();
        hub.now = now;
        hub.turn(Input::Datagrams(RxBatch::new(&mut rx[..count])), &mut self.tx);
        self.deadline = hub.board.deadline;
        self.work_waits |= !hub.board.jobs.is_empty() || !hub.board.stores.is_empty();
        if hub.board.has_wakes() {
            self.spin.on_woke();
        }
        drop(hub);
        self.flush();
    }

    /// Starts the jobs and storage operations that turns asked for.
    fn start_work(&mut self) -> bool {
        if !std::mem::take(&mut self.work_waits) {
            return false;
        }
        let mut busy = false;
        loop {
            let mut hub = self.shared.lock();
            let board = &mut hub.board;
            let alone = board.jobs.len() == 1 && self.received <= IDLE_DATAGRAMS && self.pool.is_idle();
            let (job, order) = (board.jobs.pop_front(), board.stores.pop_front());
            drop(hub);
            if job.is_none() && order.is_none() {
                return busy;
            }
            busy = true;
            if let Some(order) = order {
                self.pool.store(order);
            }
            let Some(work) = job else { continue };
            let inline = if alone { Some(work) } else { self.pool.start(work).err() };
            match inline {
                Some((id, job)) => {
                    self.counts.jobs_inline += 1;
                    let done = run_job(*job, &*self.entropy);
                    self.turn(Input::Worked(id, done));
                }
                None => self.counts.jobs_pooled += 1,
            }
        }
    }

    /// Hands results of threads to the kernel.
    fn finish_work(&mut self) -> bool {
        if !std::mem::take(&mut self.results_wait) {
            return false;
        }
        let mut busy = false;
        loop {
            let mut hub = self.shared.lock();
            let (worked, stored) = (hub.board.worked.pop_front(), hub.board.stored.pop_front());
            drop(hub);
            if worked.is_none() && stored.is_none() {
                return busy;
            }
            busy = true;
            if let Some((id, done)) = worked {
                self.pool.on_taken();
                self.turn(Input::Worked(id, done));
            }
            if let Some((ticket, read, result)) = stored {
                let stored = match &result {
                    Ok(value) if read => Stored::Value(value.as_deref()),
                    Ok(_) => Stored::Done,
                    Err(error) => Stored::Failed(*error),
                };
                self.turn(Input::Stored(ticket, stored));
            }
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> bool {
        if net_kernel::base::mutant!(DriverTimerAskedOnce) && self.fired == self.deadline {
            return false;
        }
        let due = self.deadline.is_some_and(|at| self.clock.poll_until(cx, at).is_ready());
        if due {
            self.fired = self.deadline;
            self.turn(Input::Wake);
        }
        due
    }

    fn writable(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.tx.is_blocked() {
            return false;
        }
        match self.socket.poll_writable(cx) {
            Poll::Pending => false,
            Poll::Ready(ready) => {
                if let Err(error) = ready {
                    tracing::debug!(%error, "waiting for the socket failed");
                }
                self.tx.unblock();
                if !net_kernel::base::mutant!(DriverUnblockedUnsent) {
                    self.flush();
                }
                true
            }
        }
    }

    fn turn(&mut self, input: Input<'_>) {
        let now = self.clock.now();
        self.now = now.mono;
        self.turned = true;
        let mut hub = self.shared.lock();
        hub.now = now;
        hub.turn(input, &mut self.tx);
        self.deadline = hub.board.deadline;
        self.work_waits |= !hub.board.jobs.is_empty() || !hub.board.stores.is_empty();
        drop(hub);
        self.flush();
    }

    fn flush(&mut self) {
        self.wants_tx |= self.tx.take_refused();
        if self.tx.is_empty() || self.tx.is_blocked() {
            return;
        }
        let done = self.tx.flush(&mut self.socket);
        self.counts.sent_calls += done.calls;
        self.counts.sent_datagrams += done.datagrams;
        self.counts.sent_bytes += done.bytes;
        self.counts.refused_datagrams += done.failed;
        self.hints.extend(done.hint);
    }

    fn take_hints(&mut self) {
        while let Some(hint) = self.socket.take_hint() {
            self.hints.push(hint);
        }
    }

    /// Tells the kernel what the host said about paths.
    fn pass_hints(&mut self) -> bool {
        self.take_hints();
        let Some(hint) = self.hints.pop() else { return false };
        self.turn(Input::Link(hint));
        true
    }
}

/// Bytes of the parts that a received buffer is cut into: whole datagrams, at most `most` where one is not longer.
fn cut(meta: &RecvMeta, most: usize) -> usize {
    if meta.stride == 0 || meta.len <= most {
        return meta.len.max(1);
    }
    (most / meta.stride).max(1) * meta.stride
}

/// Runs a job, lending it fresh bytes.
pub(crate) fn run_job<E: Entropy>(job: Job, entropy: &E) -> JobDone {
    job.run(&mut |out: &mut [u8; 32]| {
        if let Err(error) = entropy.fill(out) {
            // The kernel mixes these bytes into a generator that was seeded at boot, so that without them a handshake
            // is still unpredictable; only a cloned machine would lack its difference.
            tracing::error!(%error, "the operating system gives no random bytes");
        }
    })
}

impl<S: DatagramSocket, C: Clock, E: Entropy, D: Disk> Future for Driver<S, C, E, D> {
    type Output = Result<(), DriverError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut looks = 0;
        for round in 0..ROUNDS {
            let Some(inner) = &mut this.inner else {
                return Poll::Ready(Ok(()));
            };
            if round == 0 {
                inner.polled_bytes = 0;
            }
            match inner.round(cx) {
                Ok(Round::Busy) if inner.polled_bytes < POLL_BYTES => {}
                Ok(Round::Busy) => break,
                Ok(Round::Looking) if looks + 1 < LOOKS => looks += 1,
                Ok(Round::Looking) => break,
                Ok(Round::Idle) => return Poll::Pending,
                Ok(Round::Ended) => {
                    this.end();
                    return Poll::Ready(Ok(()));
                }
                Err(error) => {
                    this.end();
                    return Poll::Ready(Err(error));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S, C, E, D> Unpin for Driver<S, C, E, D> {}

/// However the driver ends, whoever waits for the node is told.
impl<S, C, E, D> Drop for Driver<S, C, E, D> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
