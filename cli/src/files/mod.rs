//! What `net send` and `net recv` share: one side of a transfer driven over one stream.
//!
//! | file | role |
//! |---|---|
//! | `directory.rs` | the directory that receives |
//! | `tree.rs` | the files and directories that are sent |
//! | `told.rs` | what both sides tell of single files |
//! | `token.rs` | the word by which a later `net send` goes on with what an earlier one sent |
//!
//! A side works in a thread of its own, because disks and hashes block; the stream is read and written on the runtime.
//! Invariants: what the peer has sent is always taken before anything is sent, so that the two sides never wait for each
//! other; everything between stream and thread is bounded. Not here: the protocol (`net_kernel::transfer`).

pub mod directory;
pub mod token;
pub mod told;
pub mod tree;

use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use net_io_real::error::{RecvError, SendError};
use net_io_real::{RecvHalf, SendHalf, Stream, StreamOptions};
use net_kernel::transfer::limit::MAX_MESSAGE;
use net_kernel::transfer::{DiskError, Found, PartialKey, Place, SafePath, Step, Store, Violation};
use net_kernel::wire::subprotocol::FILES;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::error::{Code, Failure};

/// Messages between stream and thread, each way. Whoever takes them takes all there are, so that the other side is woken
/// once for many of them and not for each.
const DEPTH: usize = 8;
/// Buffers that wait to be used again, each way: those in a channel and those taken out of it.
const SPARES: usize = 2 * DEPTH;
/// Events between thread and whoever tells them.
const EVENTS: usize = 64;

/// The application code with which a session is closed whose peer broke the protocol.
pub const VIOLATION: u64 = 2;

/// The stream of a transfer.
pub fn options() -> StreamOptions {
    StreamOptions {
        subprotocol: FILES,
        ..StreamOptions::default()
    }
}

/// One side of a transfer with its files.
pub trait Side: Send + 'static {
    /// What it tells.
    type Event: Send;
    /// Takes one message of the peer.
    fn receive(&mut self, message: &[u8]) -> Result<(), Violation>;
    /// Works on; may write one message.
    fn step(&mut self, out: &mut Vec<u8>) -> Step;
    /// What happened.
    fn event(&mut self) -> Option<Self::Event>;
    /// Bytes so far.
    fn progress(&self) -> u64;
}

/// Why a transfer ended early.
#[derive(Debug)]
pub enum Ended {
    /// The stream or its session did: the transfer may go on in another one.
    Lost(Failure),
    /// The peer broke the protocol.
    Violation(Violation),
}

impl From<Violation> for Ended {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<SendError> for Ended {
    fn from(error: SendError) -> Self {
        Self::Lost(error.into())
    }
}

impl From<RecvError> for Ended {
    fn from(error: RecvError) -> Self {
        Self::Lost(error.into())
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Lost(failure) => failure,
            Ended::Violation(violation) => Self::new(Code::Protocol, format!("the peer sent {violation}")),
        }
    }
}

/// A transfer under way.
pub struct Transfer<S: Side> {
    events: mpsc::Receiver<S::Event>,
    progress: watch::Receiver<u64>,
    run: tokio::task::JoinHandle<Result<(), Ended>>,
    ended: Option<Result<(), Ended>>,
}

/// What a transfer has to tell.
pub enum Next<E> {
    /// Something happened.
    Event(E),
    /// So many bytes are done.
    Progress(u64),
    /// It is over, and nothing more is told.
    Ended(Result<(), Ended>),
}

impl<S: Side> Transfer<S> {
    /// Starts `side` over `stream`; `first` is a message that was read from it already.
    pub fn start(stream: Stream, side: S, first: Option<Bytes>) -> Self {
        let (tell, events) = mpsc::channel(EVENTS);
        let (advance, progress) = watch::channel(0);
        Self {
            events,
            progress,
            run: tokio::spawn(run(stream, side, first, tell, advance)),
            ended: None,
        }
    }

    /// The next thing it tells; every event comes before the end. To drop the future loses nothing.
    pub async fn next(&mut self) -> Next<S::Event> {
        loop {
            if let Ok(event) = self.events.try_recv() {
                return Next::Event(event);
            }
            if let Some(ended) = self.ended.take() {
                return Next::Ended(ended);
            }
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => return Next::Event(event),
                Ok(()) = self.progress.changed() => return Next::Progress(*self.progress.borrow_and_update()),
                ended = &mut self.run => {
                    self.ended = Some(ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
                }
            }
        }
    }
}

impl<S: Side> Drop for Transfer<S> {
    fn drop(&mut self) {
        self.run.abort();
    }
}

async fn run<S: Side>(
    stream: Stream,
    mut side: S,
    first: Option<Bytes>,
    tell: mpsc::Sender<S::Event>,
    advance: watch::Sender<u64>,
) -> Result<(), Ended> {
    let (send, recv) = stream.split();
    let (arrived, inbox) = mpsc::channel(DEPTH);
    let (read, used) = mpsc::channel(SPARES);
    let (outbox, leaving) = mpsc::channel(DEPTH);
    let (spare, spares) = mpsc::channel(SPARES);
    if let Some(first) = first {
        side.receive(&first)?;
    }
    let worker = tokio::task::spawn_blocking(move || {
        let worker = Worker {
            side,
            inbox,
            taken: Vec::with_capacity(DEPTH),
            read,
            outbox,
            spares,
            tell,
            advance,
        };
        Handle::current().block_on(worker.run())
    });
    let moved = tokio::select! {
        biased;
        sent = outgoing(&send, leaving, spare) => sent,
        lost = incoming(recv, arrived, used) => Err(lost),
    };
    // Its channels are closed now, so it ends. How it ended says more than how the stream did.
    match worker.await {
        Ok(Ok(Over::Done)) => Ok(()),
        Ok(Ok(Over::Cut)) => moved.and(Err(Ended::Lost(Failure::new(
            Code::Closed,
            "the peer ended the stream before everything was done",
        )))),
        Ok(Err(violation)) => Err(violation.into()),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What the thread has to say, then the end, until the peer has all of it.
async fn outgoing(
    send: &SendHalf,
    mut leaving: mpsc::Receiver<Vec<u8>>,
    spare: mpsc::Sender<Vec<u8>>,
) -> Result<(), Ended> {
    let mut batch = Vec::with_capacity(DEPTH);
    while leaving.recv_many(&mut batch, DEPTH).await > 0 {
        for message in batch.drain(..) {
            send.send(&message).await?;
            // Nobody needs a buffer more than there are.
            let _ = spare.try_send(message);
        }
    }
    Ok(send.finish().await?)
}

/// A message of the peer: the first so many bytes of a buffer that is used again.
struct Arrived {
    buffer: Vec<u8>,
    len: usize,
}

/// What the peer says, to the thread. Ends with the stream's failure alone.
async fn incoming(mut recv: RecvHalf, arrived: mpsc::Sender<Arrived>, mut used: mpsc::Receiver<Vec<u8>>) -> Ended {
    loop {
        let mut buffer = used.try_recv().unwrap_or_default();
        buffer.resize(MAX_MESSAGE.max(buffer.len()), 0);
        let received = match recv.recv_into(&mut buffer).await {
            // Longer than any message: whoever reads it says so.
            Err(RecvError::BufferTooSmall { len }) => {
                buffer.resize(len, 0);
                recv.recv_into(&mut buffer).await
            }
            received => received,
        };
        match received {
            // What comes after the thread's end changes nothing.
            Ok(Some(len)) => drop(arrived.send(Arrived { buffer, len }).await),
            Ok(None) => break,
            Err(error) => return error.into(),
        }
    }
    drop(arrived);
    std::future::pending().await
}

/// How a thread ended.
enum Over {
    Done,
    /// The stream ended before.
    Cut,
}

struct Worker<S: Side> {
    side: S,
    inbox: mpsc::Receiver<Arrived>,
    /// Taken out of the inbox all at once.
    taken: Vec<Arrived>,
    read: mpsc::Sender<Vec<u8>>,
    outbox: mpsc::Sender<Vec<u8>>,
    spares: mpsc::Receiver<Vec<u8>>,
    tell: mpsc::Sender<S::Event>,
    advance: watch::Sender<u64>,
}

impl<S: Side> Worker<S> {
    async fn run(mut self) -> Result<Over, Violation> {
        let mut buffer = Vec::new();
        loop {
            while self.is_taken() {
                self.receive().await?;
            }
            let step = self.side.step(&mut buffer);
            self.report().await;
            match step {
                Step::Message => {
                    if !self.hand_over(&mut buffer).await? {
                        return Ok(Over::Cut);
                    }
                }
                // A side that works on without a word ends when nobody waits for it any more.
                Step::More if self.outbox.is_closed() => return Ok(Over::Cut),
                Step::More => {}
                Step::Wait => match self.inbox.recv_many(&mut self.taken, DEPTH).await {
                    0 => return Ok(Over::Cut),
                    _ => self.receive().await?,
                },
                Step::Over => return Ok(Over::Done),
            }
        }
    }

    /// Takes what has arrived; `false` if nothing has.
    fn is_taken(&mut self) -> bool {
        // Whoever waits for more asks again with a waker of its own.
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.inbox.poll_recv_many(&mut cx, &mut self.taken, DEPTH), Poll::Ready(count) if count > 0)
    }

    /// Lets the side have what was taken.
    async fn receive(&mut self) -> Result<(), Violation> {
        let mut taken = std::mem::take(&mut self.taken);
        for message in taken.drain(..) {
            self.side.receive(&message.buffer[..message.len])?;
            // Nobody needs a buffer more than there are.
            let _ = self.read.try_send(message.buffer);
            self.report().await;
        }
        self.taken = taken;
        Ok(())
    }

    /// Hands a message to the stream, taking what arrives meanwhile; `false` if nobody takes it any more.
    async fn hand_over(&mut self, buffer: &mut Vec<u8>) -> Result<bool, Violation> {
        let mut is_open = true;
        loop {
            let count = tokio::select! {
                biased;
                room = self.outbox.reserve() => {
                    let Ok(room) = room else { return Ok(false) };
                    room.send(std::mem::take(buffer));
                    *buffer = self.spares.try_recv().unwrap_or_default();
                    return Ok(true);
                }
                count = self.inbox.recv_many(&mut self.taken, DEPTH), if is_open => count,
            };
            is_open = count > 0;
            self.receive().await?;
        }
    }

    async fn report(&mut self) {
        while let Some(event) = self.side.event() {
            // Whether anybody listens is no concern of the transfer.
            let _ = self.tell.send(event).await;
        }
        let now = self.side.progress();
        self.advance
            .send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}

/// Fills `into` as far as the file goes, whatever a single call gives.
pub fn read_full(file: &mut impl io::Read, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read(&mut into[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// The directory of a receiver that takes nothing, and so asks for nothing.
pub struct Nowhere;

impl Store for Nowhere {
    fn room(&mut self) -> Option<u64> {
        None
    }

    fn look(&mut self, _: Place<'_>) -> Result<Found, DiskError> {
        Err(DiskError::Denied)
    }

    fn read(&mut self, _: Place<'_>, _: u64, _: &mut [u8]) -> Result<usize, DiskError> {
        Err(DiskError::Denied)
    }

    fn make_directory(&mut self, _: &SafePath) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }

    fn open(&mut self, _: PartialKey, _: u64) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }

    fn write(&mut self, _: PartialKey, _: u64, _: &[u8]) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }

    fn sync(&mut self, _: PartialKey) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }

    fn publish(&mut self, _: PartialKey, _: &SafePath, _: bool) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }

    fn sync_name(&mut self, _: &SafePath) -> Result<(), DiskError> {
        Err(DiskError::Denied)
    }

    fn discard(&mut self, _: PartialKey) {}
}
