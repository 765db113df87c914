//! `net listen`: waits for a peer and joins it to stdin and stdout.
//!
//! Invariants: one peer at a time; what another one must run is printed before the first can come; a peer that only
//! pings is answered at any time.
//! Not here: how bytes are moved (`pipe.rs`), who is admitted (the kernel).

use std::fmt;
use std::time::Duration;

use net_io_real::{Node, Session, Stream};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::args::ListenArgs;
use crate::connect::Connected;
use crate::error::{BUSY, Failure};
use crate::host::{self, Hosting};
use crate::output::{Note, Out, Record, hex};
use crate::pipe::{self, Extras, Input};
use crate::signals::Signals;

/// Peers that may wait for their turn; the streams of others wait in the node.
const QUEUE: usize = 16;
/// How long the peer may take to close a session in which both have everything.
const CLOSE_GRACE: Duration = Duration::from_secs(3);

/// `net listen`
pub async fn run(args: &ListenArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let node = host::start(&args.host, &args.allow).await?;
    let ticket = host::ticket(&args.host, &node)?;
    out.event(&Listening(Hosting::new(
        &args.host,
        &node,
        &ticket,
        "connect",
        !args.allow.is_empty(),
    )));
    let (arrived, mut arrivals) = mpsc::channel(QUEUE);
    tokio::spawn(accept(node.clone(), arrived));
    let mut input = Input::new();
    let result = if args.keep {
        serve_all(&mut arrivals, &mut input, &mut signals, out).await
    } else {
        serve_one(&mut arrivals, &mut input, &mut signals, out).await
    };
    node.close_within(pipe::DRAIN_GRACE).await;
    result
}

/// A peer that opened a stream.
type Arrival = (Session, Stream);

/// Holds every session while its peer does, and hands its streams on.
async fn accept(node: Node, arrived: mpsc::Sender<Arrival>) {
    while let Some(session) = node.accept().await {
        let arrived = arrived.clone();
        tokio::spawn(async move {
            while let Some(stream) = session.accept_stream().await {
                if arrived.send((session.clone(), stream)).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Serves the first peer; others are told that it is busy.
async fn serve_one(
    arrivals: &mut mpsc::Receiver<Arrival>,
    input: &mut Input,
    signals: &mut Signals,
    out: Out,
) -> Result<(), Failure> {
    let Some(first) = signals.or(arrivals.recv()).await? else {
        return Ok(());
    };
    let refuse = async {
        while let Some((session, _)) = arrivals.recv().await {
            session.close(BUSY, "this node is connected with somebody else").await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        result = serve(first, input, signals, out) => result,
        () = refuse => Ok(()),
    }
}

/// Serves one peer after another until told to end. A peer that fails ends nobody else's turn.
async fn serve_all(
    arrivals: &mut mpsc::Receiver<Arrival>,
    input: &mut Input,
    signals: &mut Signals,
    out: Out,
) -> Result<(), Failure> {
    loop {
        let next = match signals.or(arrivals.recv()).await {
            Ok(Some(next)) => next,
            // Being told to end is how this ends.
            Ok(None) | Err(_) => return Ok(()),
        };
        match serve(next, input, signals, out).await {
            Ok(()) => out.event(&Note::new("waiting for the next peer")),
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => out.failure(&failure),
        }
    }
}

async fn serve((session, stream): Arrival, input: &mut Input, signals: &mut Signals, out: Out) -> Result<(), Failure> {
    out.event(&Connected::new(hex(&session.peer().0), session.address()));
    let done = Box::pin(pipe::run(&session, stream, input, Extras::default(), signals, out)).await?;
    out.event(&done);
    // The one who connected closes; a session that nobody closes is closed here.
    if tokio::time::timeout(CLOSE_GRACE, session.closed()).await.is_err() {
        session.close(0, "").await;
    }
    Ok(())
}

/// Peers can come.
#[derive(Serialize)]
struct Listening(Hosting);

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Record for Listening {
    const KIND: &'static str = "listening";
}
