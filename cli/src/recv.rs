//! `net recv`: files and directories of whoever runs `net send`, into a directory.
//!
//! Invariants: one transfer at a time; a sender that comes back takes the place of its own lost session and of nobody
//! else's; a file has its name only when it is whole. Not here: the protocol (`net_kernel::transfer`), files (`files/`).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use net_io_real::{Node, Session, Stream};
use net_kernel::transfer::message::{Kind, Message, Totals};
use net_kernel::transfer::receiver::Event;
use net_kernel::transfer::{Receiver, Refusal, Reject, Step, Token, Violation};
use net_kernel::wire::subprotocol::FILES;
use serde::Serialize;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use crate::args::RecvArgs;
use crate::connect::Connected;
use crate::error::{Code, Failure};
use crate::files::directory::Directory;
use crate::files::told::{LeftOut, Resumed, Saved, verdict};
use crate::files::{self, Ended, Next, Side, Transfer};
use crate::host::{self, Hosting};
use crate::output::{Note, Out, Record, bytes, hex};
use crate::pipe;
use crate::progress::Progress;
use crate::signals::Signals;

/// Senders that may wait to be looked at.
const QUEUE: usize = 16;
/// How long a sender may take for its first word.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// How long a sender may take to close a session in which both have everything.
const CLOSE_GRACE: Duration = Duration::from_secs(3);
/// How long one who is told that this node is busy may take to hear it.
const REFUSE_GRACE: Duration = Duration::from_secs(10);
const BAR: &str = "  [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left  {msg}";

/// `net recv`
pub async fn run(args: &RecvArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let directory = Directory::open(&args.dir)?;
    let node = host::start(&args.host, &args.from).await?;
    let ticket = host::ticket(&args.host, &node)?;
    out.event(&Receiving {
        directory: args.dir.display().to_string(),
        hosting: Hosting::new(&args.host, &node, &ticket, "send FILE...", !args.from.is_empty()),
    });
    let (arrived, arrivals) = mpsc::channel(QUEUE);
    tokio::spawn(accept(node.clone(), arrived));
    let mut host = Host {
        directory: Arc::new(Mutex::new(directory)),
        most: args.max.unwrap_or(u64::MAX),
        keep: args.keep,
        arrivals,
        out,
    };
    let result = host.serve(&mut signals).await;
    node.close_within(pipe::DRAIN_GRACE).await;
    host.directory.lock().await.tidy();
    result
}

/// A sender with its first word.
struct Arrival {
    session: Session,
    stream: Stream,
    first: Bytes,
    token: Token,
}

/// Holds every session while its peer does, and hands on the streams that offer files.
async fn accept(node: Node, arrived: mpsc::Sender<Arrival>) {
    while let Some(session) = node.accept().await {
        let arrived = arrived.clone();
        tokio::spawn(async move {
            while let Some(mut stream) = session.accept_stream().await {
                let offer = if stream.subprotocol() == FILES {
                    tokio::time::timeout(FIRST_WAIT, stream.recv()).await
                } else {
                    session
                        .close(files::VIOLATION, "this node receives files: net send")
                        .await;
                    return;
                };
                let Ok(Ok(Some(first))) = offer else { continue };
                let token = match Message::decode(&first) {
                    Some(Message::Offer(_, _, token)) => token,
                    Some(_) | None => {
                        session.close(files::VIOLATION, &Violation::Malformed.to_string()).await;
                        return;
                    }
                };
                let session = session.clone();
                if arrived
                    .send(Arrival {
                        session,
                        stream,
                        first,
                        token,
                    })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
    }
}

struct Host {
    directory: Arc<Mutex<Directory>>,
    most: u64,
    keep: bool,
    arrivals: mpsc::Receiver<Arrival>,
    out: Out,
}

/// A transfer under way.
struct Active {
    session: Session,
    token: Token,
    transfer: Transfer<Incoming>,
    tally: Tally,
}

impl Host {
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        loop {
            let first = match signals.or(self.arrivals.recv()).await {
                Ok(Some(first)) => first,
                Ok(None) => return Ok(()),
                // To be told to end is how this ends.
                Err(_) if self.keep => return Ok(()),
                Err(failure) => return Err(failure),
            };
            match self.receive(first, signals).await {
                Ok(received) => {
                    self.out.result(&received)?;
                    let verdict = verdict(&received.left_out);
                    if !self.keep {
                        return verdict;
                    }
                    if let Err(failure) = verdict {
                        self.out.failure(&failure);
                    }
                    self.out.event(&Note::new("waiting for the next sender"));
                }
                Err(failure) if failure.is_final() => return Err(failure),
                Err(failure) => {
                    self.out.failure(&failure);
                    self.out
                        .event(&Note::new("waiting for the sender; what has arrived is kept"));
                }
            }
        }
    }

    /// Receives what this sender offers. If its session is lost and it comes back meanwhile, the new session goes on.
    async fn receive(&mut self, first: Arrival, signals: &mut Signals) -> Result<Received, Failure> {
        let mut active = self.begin(first).await;
        let mut progress = Progress::new(self.out, 0, BAR);
        let ended = loop {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    active.session.close(0, "the receiver was asked to end").await;
                    return Err(Failure::signalled(signal));
                }
                next = active.transfer.next() => match next {
                    Next::Event(told) => active.tally.note(told, &mut progress),
                    Next::Progress(now) => progress.at(now, || format!("{} received", bytes(now))),
                    Next::Ended(ended) => break ended,
                },
                Some(other) = self.arrivals.recv() => {
                    if other.token == active.token {
                        progress.say("the sender has come back");
                        active.session.close(0, "the sender has come back in another session").await;
                        drop(active.transfer);
                        active = self.begin(other).await;
                    } else {
                        tokio::spawn(refuse(other));
                    }
                }
            }
        };
        drop(progress);
        if let Err(Ended::Violation(violation)) = &ended {
            active.session.close(files::VIOLATION, &violation.to_string()).await;
        }
        ended?;
        // The sender closes; a session that nobody closes is closed here.
        if tokio::time::timeout(CLOSE_GRACE, active.session.closed())
            .await
            .is_err()
        {
            active.session.close(0, "").await;
        }
        active.tally.received(hex(&active.session.peer().0))
    }

    async fn begin(&mut self, arrival: Arrival) -> Active {
        let Arrival {
            session,
            stream,
            first,
            token,
        } = arrival;
        self.out
            .event(&Connected::new(hex(&session.peer().0), session.address()));
        let side = Incoming {
            receiver: Receiver::new(self.most),
            // The thread of a transfer that was dropped gives it back once its last call has returned.
            directory: self.directory.clone().lock_owned().await,
        };
        Active {
            session,
            token,
            transfer: Transfer::start(stream, side, Some(first)),
            tally: Tally::new(),
        }
    }
}

/// Tells a sender that another transfer is under way.
async fn refuse(arrival: Arrival) {
    let mut transfer = Transfer::start(arrival.stream, Busy(Receiver::refusing(Refusal::Busy)), None);
    let told = async { while !matches!(transfer.next().await, Next::Ended(_)) {} };
    let _ = tokio::time::timeout(REFUSE_GRACE, told).await;
    let _ = tokio::time::timeout(CLOSE_GRACE, arrival.session.closed()).await;
}

/// A receiver that takes nothing.
struct Busy(Receiver);

impl Side for Busy {
    type Event = ();

    fn receive(&mut self, message: &[u8]) -> Result<(), Violation> {
        self.0.receive(message, &mut files::Nowhere)
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Step {
        self.0.step(&mut files::Nowhere, out)
    }

    fn event(&mut self) -> Option<()> {
        None
    }

    fn progress(&self) -> u64 {
        0
    }
}

/// The receiving side with its directory.
struct Incoming {
    receiver: Receiver,
    directory: OwnedMutexGuard<Directory>,
}

/// What it tells, in words.
enum Told {
    Accepted(Totals),
    Refused(Refusal, u64, u64),
    Resumed(Resumed),
    Directory,
    Saved(Saved),
    LeftOut(LeftOut),
}

impl Side for Incoming {
    type Event = Told;

    fn receive(&mut self, message: &[u8]) -> Result<(), Violation> {
        self.receiver.receive(message, &mut *self.directory)
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Step {
        self.receiver.step(&mut *self.directory, out)
    }

    fn event(&mut self) -> Option<Told> {
        loop {
            let event = self.receiver.event()?;
            let path = |entry| self.receiver.path(entry).map(ToString::to_string).unwrap_or_default();
            return Some(match event {
                Event::Accepted(totals) => Told::Accepted(totals),
                Event::Refused(why, needed, room) => Told::Refused(why, needed, room),
                Event::Began(_, 0) => continue,
                Event::Began(entry, offset) => Told::Resumed(Resumed {
                    path: path(entry),
                    offset,
                }),
                Event::Stored(entry, there_before) => match self.receiver.kind(entry) {
                    Some(Kind::File { size, .. }) => Told::Saved(Saved {
                        path: path(entry),
                        bytes: size,
                        there_before,
                    }),
                    Some(Kind::Directory) | None => Told::Directory,
                },
                Event::Rejected(entry, why) => {
                    let path = path(entry);
                    let trouble = self
                        .directory
                        .trouble()
                        .filter(|_| matches!(why, Reject::Failed | Reject::Denied | Reject::InTheWay));
                    let why = trouble.map_or(why.to_string(), |trouble| format!("{why}: {trouble}"));
                    Told::LeftOut(LeftOut { path, why })
                }
                Event::Skipped(entry, why) => Told::LeftOut(LeftOut {
                    path: path(entry),
                    why: why.to_string(),
                }),
            });
        }
    }

    fn progress(&self) -> u64 {
        self.receiver.progress()
    }
}

/// What one session brought.
struct Tally {
    started: Instant,
    refused: Option<(Refusal, u64, u64)>,
    files: u64,
    directories: u64,
    bytes: u64,
    files_there_before: u64,
    bytes_resumed: u64,
    left_out: Vec<LeftOut>,
}

impl Tally {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            refused: None,
            files: 0,
            directories: 0,
            bytes: 0,
            files_there_before: 0,
            bytes_resumed: 0,
            left_out: Vec::new(),
        }
    }

    fn note(&mut self, told: Told, progress: &mut Progress) {
        match told {
            Told::Accepted(totals) => {
                progress.restart(totals.bytes);
                let entries = if totals.entries == 1 { "entry" } else { "entries" };
                progress.say(&format!(
                    "receiving {} {entries}, {}",
                    totals.entries,
                    bytes(totals.bytes)
                ));
            }
            Told::Refused(why, needed, room) => self.refused = Some((why, needed, room)),
            Told::Resumed(resumed) => {
                self.bytes_resumed += resumed.offset;
                progress.event(&resumed);
            }
            Told::Directory => self.directories += 1,
            Told::Saved(saved) => {
                self.files += 1;
                self.bytes += saved.bytes;
                self.files_there_before += u64::from(saved.there_before);
                progress.detail(&saved);
            }
            Told::LeftOut(left_out) => {
                progress.event(&left_out);
                self.left_out.push(left_out);
            }
        }
    }

    fn received(self, peer: String) -> Result<Received, Failure> {
        match self.refused {
            None => {}
            Some((Refusal::Full, needed, _)) => {
                let message = format!(
                    "the disk is full; {} were still to come, and what has arrived is kept",
                    bytes(needed)
                );
                return Err(Failure::new(Code::DiskFull, message)
                    .next("free some space, run net recv again, and the sender its command"));
            }
            Some((Refusal::Room, needed, room)) => {
                let message = format!(
                    "refused an offer that needs {}: there is room for {}",
                    bytes(needed),
                    bytes(room)
                );
                return Err(Failure::new(Code::PeerFull, message));
            }
            Some((Refusal::TooLarge, offered, most)) => {
                let message = format!("refused an offer of {}: --max allows {}", bytes(offered), bytes(most));
                return Err(Failure::new(Code::PeerLimit, message));
            }
            Some((why @ (Refusal::Version | Refusal::Busy), ..)) => {
                return Err(Failure::new(Code::Protocol, why.to_string()));
            }
        }
        Ok(Received {
            peer,
            files: self.files,
            directories: self.directories,
            bytes: self.bytes,
            files_there_before: self.files_there_before,
            bytes_resumed: self.bytes_resumed,
            seconds: self.started.elapsed().as_secs_f64(),
            left_out: self.left_out,
        })
    }
}

/// Senders can come.
#[derive(Serialize)]
struct Receiving {
    directory: String,
    #[serde(flatten)]
    hosting: Hosting,
}

impl fmt::Display for Receiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "files go to {}", self.directory)?;
        self.hosting.fmt(f)
    }
}

impl Record for Receiving {
    const KIND: &'static str = "receiving";
}

/// The result.
#[derive(Serialize)]
struct Received {
    peer: String,
    files: u64,
    directories: u64,
    bytes: u64,
    files_there_before: u64,
    bytes_resumed: u64,
    seconds: f64,
    left_out: Vec<LeftOut>,
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = if self.files == 1 { "file" } else { "files" };
        let from = &self.peer[..16];
        write!(
            f,
            "received {} {files}, {}, in {:.1} s from {from}",
            self.files,
            bytes(self.bytes),
            self.seconds
        )?;
        if self.files_there_before > 0 {
            write!(f, "; {} of them were there before", self.files_there_before)?;
        }
        Ok(())
    }
}

impl Record for Received {
    const KIND: &'static str = "received";
}
