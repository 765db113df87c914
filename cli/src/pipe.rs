//! One stream joined to stdin and stdout, both ways, until both ways have ended.
//!
//! Invariants: what was read from stdin is delivered before its end is told, also after a signal, as far as the peer
//! takes it within [`DRAIN_GRACE`]; a reader of stdout that goes away ends everything quietly; no byte is held back
//! while there is nothing more to read.
//! Not here: who the peer is (`listen.rs`, `connect.rs`).

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use net_io_real::{
    CloseCode, CloseReason, RecvError, RecvHalf, SendError, SendHalf, Session, SessionError, SessionStats, Stream,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Stdin};
use tokio::sync::watch;

use crate::error::Failure;
use crate::output::{Note, Out, Record, bytes, hex};
use crate::signals::Signals;

/// How long the peer may take for what was read before a signal came.
pub const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// Bytes read from stdin at once, and the largest message sent.
const READ_LEN: usize = 64 << 10;
/// Bytes written to stdout at once.
const WRITE_LEN: usize = 256 << 10;
/// An echo without an answer for so long is not measured.
const ECHO_WAIT: Duration = Duration::from_millis(500);

/// What a pipe does besides.
#[derive(Clone, Copy, Default)]
pub struct Extras {
    /// Replace the keys once so many bytes were sent.
    pub rekey_at: Option<u64>,
    /// Measure the round trip so often.
    pub sample: Option<Duration>,
}

/// stdin, and whether a person types it.
pub struct Input {
    stdin: Stdin,
    is_terminal: bool,
}

impl Input {
    pub fn new() -> Self {
        Self {
            stdin: tokio::io::stdin(),
            is_terminal: io::stdin().is_terminal(),
        }
    }
}

/// What went through a pipe.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    pub peer: String,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub seconds: f64,
    pub rtt_us: u64,
    pub datagrams_sent: u64,
    pub datagrams_received: u64,
    pub datagrams_lost: u64,
    pub rekeys: u64,
    pub address_changes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt: Option<Rtt>,
}

/// Round trips measured on the way, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rtt {
    pub samples: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

impl Done {
    fn note_stats(&mut self, stats: Option<SessionStats>) {
        let Some(stats) = stats else { return };
        self.rtt_us = stats.rtt.as_micros();
        self.datagrams_sent = stats.sent;
        self.datagrams_received = stats.received;
        self.datagrams_lost = stats.lost;
        self.rekeys = stats.rekeys;
        self.address_changes = stats.moves;
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, received) = (bytes(self.sent_bytes), bytes(self.received_bytes));
        write!(f, "done: sent {sent}, received {received} in {:.1} s", self.seconds)?;
        write!(f, "; round trip {:.1} ms", self.rtt_us as f64 / 1e3)?;
        write!(
            f,
            "; {} of {} datagrams lost and repaired",
            self.datagrams_lost, self.datagrams_sent
        )?;
        if self.rekeys > 0 {
            write!(f, "; keys replaced {} times", self.rekeys)?;
        }
        if self.address_changes > 0 {
            write!(f, "; address changed {} times", self.address_changes)?;
        }
        Ok(())
    }
}

impl Record for Done {
    const KIND: &'static str = "done";
}

/// Joins `stream` to stdin and stdout until both directions have ended.
pub async fn run(
    session: &Session,
    stream: Stream,
    input: &mut Input,
    extras: Extras,
    signals: &mut Signals,
    out: Out,
) -> Result<Done, Failure> {
    let started = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let (send, recv) = stream.split();
    let samples = extras.sample.map(|every| Samples::start(session.clone(), every));
    let _moves = Background(tokio::spawn(tell_moves(session.clone(), out)));
    let mut done = Done {
        peer: hex(&session.peer().0),
        ..Done::default()
    };
    let ended = {
        let is_terminal = input.is_terminal;
        let rekey = extras.rekey_at.map(|at| (at, out));
        let mut up = pin!(up(
            session,
            &send,
            &mut input.stdin,
            stopped,
            rekey,
            &mut done.sent_bytes
        ));
        let mut down = pin!(async {
            let received = down(recv, &mut done.received_bytes).await;
            if is_terminal && received.is_ok() {
                out.event(&Note::new("the peer has ended"));
            }
            if is_terminal || received.is_err() {
                stop.send_replace(true);
            }
            received
        });
        let mut ended = Ended::default();
        let mut stats = None;
        let mut deadline = None;
        while !ended.is_over() {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    if ended.signal.is_some() {
                        break;
                    }
                    ended.signal = Some(signal);
                    stop.send_replace(true);
                    deadline = Some(tokio::time::Instant::now() + DRAIN_GRACE);
                }
                result = &mut up, if ended.up.is_none() => ended.up = Some(result),
                result = &mut down, if ended.down.is_none() => ended.down = Some(result),
                () = at(deadline) => break,
            }
            // The peer may end the session at any moment from here on.
            stats = session.stats().or(stats);
        }
        (ended, stats)
    };
    let (ended, stats) = ended;
    done.note_stats(stats);
    done.seconds = started.elapsed().as_secs_f64();
    done.rtt = samples.and_then(Samples::finish);
    ended.verdict(done.sent_bytes).map(|()| done)
}

/// How the two directions ended.
#[derive(Default)]
struct Ended {
    up: Option<Result<(), UpError>>,
    down: Option<Result<(), Failure>>,
    signal: Option<crate::error::Signal>,
}

impl Ended {
    /// Whether there is nothing more to wait for.
    const fn is_over(&self) -> bool {
        self.up.is_some() && (self.down.is_some() || self.signal.is_some())
    }

    fn verdict(self, sent: u64) -> Result<(), Failure> {
        if let Some(signal) = self.signal {
            return Err(Failure::signalled(signal));
        }
        let received = matches!(self.down, Some(Ok(())));
        match (self.up, self.down) {
            (Some(Err(UpError::Send(error))), _) if received && is_orderly(&error, sent) => Ok(()),
            // Why nothing more can be written says more than what that led to.
            (_, Some(Err(failure))) => Err(failure),
            (Some(Err(error)), _) => Err(error.into()),
            (Some(Ok(())) | None, Some(Ok(())) | None) => Ok(()),
        }
    }
}

/// Why sending ended early.
enum UpError {
    Stdin(io::Error),
    Send(SendError),
}

impl From<UpError> for Failure {
    fn from(error: UpError) -> Self {
        match error {
            UpError::Stdin(error) => Self::stdio("read stdin", &error),
            UpError::Send(error) => error.into(),
        }
    }
}

/// A peer that has ended its side and has everything may close before its confirmation of our end arrives.
fn is_orderly(error: &SendError, sent: u64) -> bool {
    let SendError::Session(SessionError::Closed { why, .. }) = error else {
        return false;
    };
    match why {
        CloseReason::Remote { code, .. } => *code == CloseCode::NoError || *code == CloseCode::Shutdown && sent == 0,
        CloseReason::Local(_) | CloseReason::TimedOut | CloseReason::PeerRestarted => false,
    }
}

async fn at(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// stdin to the peer, then the end, until the peer has confirmed it.
async fn up(
    session: &Session,
    send: &SendHalf,
    stdin: &mut Stdin,
    mut stopped: watch::Receiver<bool>,
    mut rekey: Option<(u64, Out)>,
    sent: &mut u64,
) -> Result<(), UpError> {
    let mut buffer = vec![0; READ_LEN];
    loop {
        if let Some((_, out)) = rekey.take_if(|(at, _)| *sent >= *at) {
            // Data goes on meanwhile.
            tokio::spawn(tell_rekey(session.clone(), out));
        }
        let read = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            read = stdin.read(&mut buffer) => read.map_err(UpError::Stdin)?,
        };
        if read == 0 {
            break;
        }
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            taken = send.send(&buffer[..read]) => taken.map_err(UpError::Send)?,
        }
        *sent += read as u64;
    }
    send.finish().await.map_err(UpError::Send)
}

/// Replaces the keys and says so once they are in use. A session that ends before is told by whoever uses it.
async fn tell_rekey(session: Session, out: Out) {
    if session.rekey().await.is_ok() {
        out.event(&Rekeyed {});
    }
}

/// Says whenever the peer's address has changed, until the session ends.
async fn tell_moves(session: Session, out: Out) {
    let mut seen = 0;
    while let Ok(moves) = session.moved(seen).await {
        seen = moves;
        let address = session.address().map(|address| address.to_string());
        out.event(&Moved { address });
    }
}

/// A task that ends with this.
struct Background(tokio::task::JoinHandle<()>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The keys were replaced.
#[derive(Serialize)]
struct Rekeyed {}

impl fmt::Display for Rekeyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the keys were replaced")
    }
}

impl Record for Rekeyed {
    const KIND: &'static str = "rekeyed";
}

/// The peer has another address now.
#[derive(Serialize)]
struct Moved {
    address: Option<String>,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "the peer is at {address} now"),
            None => f.write_str("the peer's address has changed"),
        }
    }
}

impl Record for Moved {
    const KIND: &'static str = "moved";
}

/// What the peer sends to stdout, until it ends.
async fn down(mut recv: RecvHalf, received: &mut u64) -> Result<(), Failure> {
    let mut stdout = tokio::io::stdout();
    let mut buffer = vec![0; WRITE_LEN];
    loop {
        let Some(len) = gather(&mut recv, &mut buffer).await? else {
            return Ok(());
        };
        if len > 0 {
            let failed = |error: io::Error| Failure::stdio("write to stdout", &error);
            stdout.write_all(&buffer[..len]).await.map_err(failed)?;
            stdout.flush().await.map_err(failed)?;
        }
        *received += len as u64;
    }
}

/// Waits for something, then takes what else has arrived, as far as there is room.
async fn gather(recv: &mut RecvHalf, buffer: &mut [u8]) -> Result<Option<usize>, RecvError> {
    let Some(first) = recv.recv_part(buffer).await? else {
        return Ok(None);
    };
    let mut len = first.len;
    while len < buffer.len() {
        match now(recv.recv_part(&mut buffer[len..])) {
            Some(Ok(Some(piece))) => len += piece.len,
            // An end or an error is told again by the next call.
            Some(Ok(None) | Err(_)) | None => break,
        }
    }
    Ok(Some(len))
}

/// The result of a future that is ready; the future is dropped otherwise.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Round trips, measured while data flows.
struct Samples {
    histogram: Arc<Mutex<Histogram<u64>>>,
    _task: Background,
}

impl Samples {
    fn start(session: Session, every: Duration) -> Self {
        let histogram = Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are constants in order");
        let histogram = Arc::new(Mutex::new(histogram));
        let shared = histogram.clone();
        let task = Background(tokio::spawn(async move {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                match tokio::time::timeout(ECHO_WAIT, session.echo()).await {
                    Ok(Ok(rtt)) => {
                        let us = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
                        shared
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .saturating_record(us);
                    }
                    Ok(Err(_)) => return,
                    Err(_) => {}
                }
            }
        }));
        Self { histogram, _task: task }
    }

    fn finish(self) -> Option<Rtt> {
        let histogram = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Rtt {
            samples: histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            max_us: histogram.max(),
        })
    }
}
