//! `net listen`: waits for a peer and joins it to stdin and stdout.
//!
//! Invariants: one peer at a time; what another one must run is printed before the first can come; a peer that only
//! pings is answered at any time.
//! Not here: how bytes are moved (`pipe.rs`), who is admitted (the kernel).

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use net_io_real::tokio::any_address;
use net_io_real::{Node, Session, Stream};
use serde::Serialize;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::args::{Bind, ListenArgs};
use crate::connect::Connected;
use crate::error::{BUSY, Failure, wrap};
use crate::output::{Note, Out, Record, hex};
use crate::peer;
use crate::pipe::{self, Extras, Input};
use crate::signals::Signals;

/// Peers that may wait for their turn; the streams of others wait in the node.
const QUEUE: usize = 16;
/// How long the peer may take to close a session in which both have everything.
const CLOSE_GRACE: Duration = Duration::from_secs(3);
/// Dialling is not what a listener does.
const NO_DIAL: Duration = Duration::from_secs(10);

/// `net listen`
pub async fn run(args: &ListenArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let node = start(args).await?;
    announce(args, &node, out)?;
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

async fn start(args: &ListenArgs) -> Result<Node, Failure> {
    let mut builder = Node::builder()
        .network(peer::network(args.network.network_key.as_deref())?)
        .config(peer::config(&args.network, NO_DIAL))
        .address(address(args.bind));
    if !args.allow.is_empty() {
        builder = builder.allow(args.allow.iter().copied());
    }
    if !args.ephemeral {
        builder = builder.state_dir(peer::state_dir(args.id.as_ref())?);
    }
    Ok(builder.bind().await?)
}

/// All addresses of both families unless told otherwise.
fn address(bind: Option<Bind>) -> SocketAddr {
    let Bind { ip, port } = bind.unwrap_or(Bind { ip: None, port: 0 });
    match ip {
        Some(ip) => SocketAddr::new(ip, port),
        None => any_address(UdpSocket::bind(any_address(true, 0)).is_ok(), port),
    }
}

fn announce(args: &ListenArgs, node: &Node, out: Out) -> Result<(), Failure> {
    let ticket = node.ticket().to_string();
    if let Some(file) = &args.ticket_file {
        write_private(file, &Zeroizing::new(node.secret_ticket().to_string()))?;
    }
    let closed = args.network.network_key.is_some();
    out.event(&Listening {
        id: hex(&node.entity().0),
        address: node.local_addr().to_string(),
        command: format!(
            "net connect {ticket}{}",
            if closed { " --network-key FILE" } else { "" }
        ),
        ticket,
        open_network: !closed,
        open_to_all: args.allow.is_empty(),
    });
    Ok(())
}

/// Writes a new file that only its owner can read.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let failed = |error| Failure::file("write the ticket file", path, &error);
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    writeln!(file, "{text}").map_err(failed)
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
struct Listening {
    id: String,
    address: String,
    ticket: String,
    /// What a peer runs.
    command: String,
    /// Whether there is no network key.
    open_network: bool,
    /// Whether there is no list of those allowed.
    open_to_all: bool,
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listening on UDP {} as {}", self.address, &self.id[..16])?;
        writeln!(f, "a peer runs:\n\n  {}\n", self.command)?;
        let warning = match (self.open_network, self.open_to_all) {
            (true, true) => {
                "warning: open network and no --allow list: whoever has this ticket is admitted. Close it with \
                 --network-key FILE (net key new FILE), or with --allow ID."
            }
            (true, false) => "only identities on the --allow list are admitted",
            (false, true) => "closed network: a peer needs the network key, and whoever has it is admitted",
            (false, false) => "closed network: a peer needs the network key and must be on the --allow list",
        };
        f.write_str(&wrap(warning, 0))
    }
}

impl Record for Listening {
    const KIND: &'static str = "listening";
}
