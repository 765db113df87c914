//! `net send`: files and directories to whoever runs `net recv`.
//!
//! Invariants: it succeeds only when the receiver has said of every entry that it is safe on its disk; what a lost session
//! interrupts goes on in the next one, as long as something moved within the patience it was given.
//! Not here: the protocol (`net_kernel::transfer`), how it is driven (`files/`).

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use net_io_real::{Session, Ticket};
use net_kernel::transfer::message::Kind;
use net_kernel::transfer::sender::{Event, Unlistable};
use net_kernel::transfer::{Refusal, Sender, Step, Token, Violation};
use serde::Serialize;

use crate::args::SendArgs;
use crate::connect::Connected;
use crate::error::{Code, Failure};
use crate::files::told::{LeftOut, Resumed, verdict};
use crate::files::tree::{Files, Tree};
use crate::files::{self, Ended, Next, Side, Transfer, token};
use crate::output::{Note, Out, Record, bytes, hex};
use crate::peer::{self, Dialler};
use crate::pipe;
use crate::progress::Progress;
use crate::signals::Signals;

/// When nothing moves for so long the keys are replaced: a receiver that was started anew knows nothing of the session, and
/// its answer says so long before silence would.
const STALLED: Duration = Duration::from_secs(2);
/// Between two attempts to reach a receiver that was lost.
const PAUSE: Duration = Duration::from_secs(1);
const AGAIN: &str = "run the same command again: it goes on where it stopped";
const BAR: &str = "  [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left  {msg}";

/// `net send`
pub async fn run(args: &SendArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let (what, ticket) = split(args)?;
    let tree = Tree::list(what)?;
    let (token, trouble) = token::towards(&ticket.entity)?;
    if let Some(trouble) = trouble {
        let note = format!(
            "a later run will not be able to go on where this one stops: {}",
            trouble.message
        );
        out.event(&Note::new(note));
    }
    let dialler = Dialler::new(ticket, &args.dial).await?;
    let mut sending = Sending::new(&tree, token, out)?;
    let sent = sending.run(&dialler, args.patience, &mut signals).await;
    dialler.node.close_within(pipe::DRAIN_GRACE).await;
    let report = sending.report(sent?);
    out.result(&report)?;
    verdict(&report.left_out)
}

/// Files and ticket, which come in one list.
fn split(args: &SendArgs) -> Result<(&[PathBuf], Ticket), Failure> {
    if let Some(file) = &args.ticket_file {
        return Ok((&args.what, peer::read_ticket(None, Some(file))?));
    }
    let usage = || {
        Failure::new(
            Code::Usage,
            "a file and a ticket are needed: the ticket that `net recv` printed comes last",
        )
        .next("net send FILE... TICKET")
        .next("net recv              # on the other machine, prints the ticket")
    };
    let (last, what) = args.what.split_last().ok_or_else(usage)?;
    let text = last.to_str().ok_or_else(usage)?;
    if what.is_empty() {
        return Err(usage());
    }
    let ticket = peer::read_ticket(Some(text), None);
    match ticket {
        Err(failure) if failure.code == Code::Ticket && last.exists() => Err(usage()),
        ticket => Ok((what, ticket?)),
    }
}

/// The sending side with its files.
struct Outgoing {
    sender: Sender,
    files: Files,
}

impl Side for Outgoing {
    type Event = Event;

    fn receive(&mut self, message: &[u8]) -> Result<(), Violation> {
        self.sender.receive(message)
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Step {
        self.sender.step(&mut self.files, out)
    }

    fn event(&mut self) -> Option<Event> {
        self.sender.event()
    }

    fn progress(&self) -> u64 {
        self.sender.progress()
    }
}

/// A rekey under way, by which a receiver shows that it still knows the session.
struct Asking(Option<tokio::task::JoinHandle<()>>);

impl Asking {
    fn ask(&mut self, session: &Session) {
        if self.0.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let session = session.clone();
            // That it fails is told by the session's end, or by the next time nothing moves.
            self.0 = Some(tokio::spawn(async move { drop(session.rekey().await) }));
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// How an entry ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    /// Safe at the receiver; whether it was before.
    Stored(bool),
    /// Not taken, or not sent.
    Out,
}

/// All attempts at one list of files.
struct Sending<'t> {
    tree: &'t Tree,
    token: Token,
    out: Out,
    outcomes: Vec<Outcome>,
    left_out: Vec<LeftOut>,
    refused: Option<(Refusal, u64, u64)>,
    progress: Progress,
    /// The farthest that any attempt came, and when.
    farthest: u64,
    moved_at: Instant,
    attempts: u64,
    resumed: u64,
}

impl<'t> Sending<'t> {
    fn new(tree: &'t Tree, token: Token, out: Out) -> Result<Self, Failure> {
        let total = sender(tree, token)?.totals().bytes;
        let left_out = tree.left_out.iter().map(|(path, why)| LeftOut {
            path: path.display().to_string(),
            why: why.clone(),
        });
        let left_out: Vec<LeftOut> = left_out.collect();
        for left_out in &left_out {
            out.event(left_out);
        }
        Ok(Self {
            tree,
            token,
            out,
            outcomes: vec![Outcome::Open; tree.listed.len()],
            left_out,
            refused: None,
            progress: Progress::new(out, total, BAR),
            farthest: 0,
            moved_at: Instant::now(),
            attempts: 0,
            resumed: 0,
        })
    }

    /// Answers whom it went to and how long it took from the first session on.
    async fn run(
        &mut self,
        dialler: &Dialler,
        patience: Duration,
        signals: &mut Signals,
    ) -> Result<(String, Duration), Failure> {
        let mut started = None;
        loop {
            let failure = match self.attempt(dialler, signals, &mut started).await {
                Ok(peer) => {
                    return Ok((
                        peer,
                        started.map_or(Duration::ZERO, |started: Instant| started.elapsed()),
                    ));
                }
                Err(failure) => failure,
            };
            let passes = matches!(failure.code, Code::SessionLost | Code::Silent | Code::Unreachable);
            if !passes || started.is_none() || self.moved_at.elapsed() > patience {
                return Err(if passes { failure.next(AGAIN) } else { failure });
            }
            self.progress.say(&format!("{}; trying again", failure.message));
            signals.or(tokio::time::sleep(PAUSE)).await?;
        }
    }

    async fn attempt(
        &mut self,
        dialler: &Dialler,
        signals: &mut Signals,
        started: &mut Option<Instant>,
    ) -> Result<String, Failure> {
        let session = dialler.dial(signals).await?;
        if started.is_none() {
            *started = Some(Instant::now());
            self.moved_at = Instant::now();
        }
        self.attempts += 1;
        self.out
            .event(&Connected::new(hex(&session.peer().0), session.address()));
        let stream = session.open(files::options())?;
        let sender = sender(self.tree, self.token)?;
        let side = Outgoing {
            sender,
            files: self.tree.source(),
        };
        let mut transfer = Transfer::start(stream, side, None);
        let mut asking = Asking(None);
        let ended = loop {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    session.close(0, "the sender was asked to end").await;
                    return Err(Failure::signalled(signal).next(AGAIN));
                }
                next = transfer.next() => match next {
                    Next::Event(event) => self.note(event),
                    Next::Progress(now) => self.advance(now),
                    Next::Ended(ended) => break ended,
                },
                () = tokio::time::sleep(STALLED) => asking.ask(&session),
            }
        };
        if let Some((why, needed, room)) = self.refused {
            session.close(0, "").await;
            return Err(refusal(why, needed, room));
        }
        match ended {
            Ok(()) => {
                session.close(0, "").await;
                Ok(hex(&session.peer().0))
            }
            Err(Ended::Violation(violation)) => {
                session.close(files::VIOLATION, &violation.to_string()).await;
                Err(Ended::Violation(violation).into())
            }
            Err(ended) => Err(ended.into()),
        }
    }

    fn advance(&mut self, now: u64) {
        if now > self.farthest {
            self.farthest = now;
            self.moved_at = Instant::now();
        }
        self.progress.at(now, || format!("{} sent", bytes(now)));
    }

    fn note(&mut self, event: Event) {
        self.moved_at = Instant::now();
        match event {
            Event::Accepted => {}
            Event::Refused(why, needed, room) => self.refused = Some((why, needed, room)),
            Event::Began(file, offset) if offset > 0 => {
                self.resumed += offset;
                let path = self.tree.path(file).display().to_string();
                self.progress.event(&Resumed { path, offset });
            }
            Event::Began(..) => {}
            // What an earlier attempt of this run stored was not there before it.
            Event::Stored(entry, already) => {
                let outcome = &mut self.outcomes[entry as usize];
                *outcome = Outcome::Stored(already && *outcome != Outcome::Stored(false));
            }
            Event::Rejected(entry, why) => self.leave_out(entry, &why.to_string()),
            Event::Skipped(entry, why) => self.leave_out(entry, &why.to_string()),
        }
    }

    fn leave_out(&mut self, entry: u32, why: &str) {
        let path = self.tree.path(entry).display().to_string();
        // An attempt that follows meets the same again.
        if self.outcomes[entry as usize] == Outcome::Out {
            return;
        }
        self.outcomes[entry as usize] = Outcome::Out;
        let left_out = LeftOut {
            path,
            why: why.to_owned(),
        };
        self.progress.event(&left_out);
        self.left_out.push(left_out);
    }

    fn report(self, (peer, took): (String, Duration)) -> Sent {
        let mut sent = Sent {
            peer,
            files: 0,
            directories: 0,
            bytes: 0,
            files_there_before: 0,
            bytes_resumed: self.resumed,
            attempts: self.attempts,
            seconds: took.as_secs_f64(),
            left_out: self.left_out,
        };
        for (listed, outcome) in self.tree.listed.iter().zip(&self.outcomes) {
            let Outcome::Stored(already) = *outcome else { continue };
            match listed.kind {
                Kind::Directory => sent.directories += 1,
                Kind::File { size, .. } => {
                    sent.files += 1;
                    sent.bytes += size;
                    sent.files_there_before += u64::from(already);
                }
            }
        }
        sent
    }
}

fn sender(tree: &Tree, token: Token) -> Result<Sender, Failure> {
    Sender::new(tree.listed.clone(), token).map_err(|why| match why {
        Unlistable::TooMany => Failure::new(
            Code::Usage,
            "this is more than one transfer can list: 100,000 files and directories, 8 MiB of names",
        )
        .next("tar -c DIR | net connect TICKET      # and net listen > FILE.tar on the other machine"),
        Unlistable::Path(at) => {
            let path = tree.path(u32::try_from(at).unwrap_or(u32::MAX)).display();
            Failure::new(
                Code::Usage,
                format!("{path} lies too deep or its name is too long to be sent"),
            )
        }
    })
}

/// The receiver takes nothing, or nothing more.
fn refusal(why: Refusal, needed: u64, room: u64) -> Failure {
    match why {
        Refusal::Room => Failure::new(
            Code::PeerFull,
            format!("{why}: {} are needed, there is room for {}", bytes(needed), bytes(room)),
        )
        .next("free some space there and run the same command again"),
        Refusal::Full => Failure::new(Code::PeerFull, format!("{why}: {} were still to come", bytes(needed)))
            .next("free some space there and run the same command again: it goes on where it stopped"),
        Refusal::TooLarge => Failure::new(
            Code::PeerLimit,
            format!("{why}: {} were offered, it allows {}", bytes(needed), bytes(room)),
        )
        .next("net recv --max BYTES      # on the other machine"),
        Refusal::Busy => {
            Failure::new(Code::Busy, why.to_string()).next("wait until it is done, and run the same command again")
        }
        Refusal::Version => Failure::new(Code::Protocol, why.to_string()).next("net --version      # on both machines"),
    }
}

/// The result.
#[derive(Serialize)]
struct Sent {
    peer: String,
    files: u64,
    directories: u64,
    bytes: u64,
    files_there_before: u64,
    bytes_resumed: u64,
    attempts: u64,
    seconds: f64,
    left_out: Vec<LeftOut>,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = if self.files == 1 { "file" } else { "files" };
        write!(
            f,
            "sent {} {files}, {}, in {:.1} s to {}",
            self.files,
            bytes(self.bytes),
            self.seconds,
            &self.peer[..16]
        )?;
        if self.files_there_before > 0 {
            write!(f, "; {} of them were there before", self.files_there_before)?;
        }
        if self.attempts > 1 {
            write!(f, "; {} sessions", self.attempts)?;
        }
        Ok(())
    }
}

impl Record for Sent {
    const KIND: &'static str = "sent";
}
