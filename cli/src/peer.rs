//! What `connect`, `ping` and `send` share: reading the ticket, choosing network and identity, getting a session.
//!
//! Invariants: nothing is sent before the ticket's network was compared with ours; a secret ticket is never taken from
//! the command line, nor from a file that others may read.
//! Not here: what is done with the session.

use std::io::{BufRead as _, Read as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net_io_real::tokio::any_address;
use net_io_real::{NetworkKey, Node, Session, SessionConfig, StateDir, Ticket, TicketError, read_network_key};
use net_kernel::base::rng::Secret;
use net_kernel::wire::ticket::SECRET_PREFIX;
use zeroize::Zeroizing;

use crate::args::{DialArgs, NetworkArgs, PeerArgs};
use crate::error::{Code, Failure};
use crate::output::hex;
use crate::signals::Signals;

/// No ticket is longer, with white space around it.
const MAX_TICKET: u64 = 4_096;
/// How often an idle session shows that it lives, at most.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A session with the node that a ticket names, and our own node, which lives as long.
pub struct Peer {
    pub node: Node,
    pub session: Session,
}

/// Connects as the arguments say.
pub async fn connect(args: &PeerArgs, signals: &mut Signals) -> Result<Peer, Failure> {
    let ticket = read_ticket(args.ticket.as_deref(), args.ticket_file.as_deref())?;
    let dialler = Dialler::new(ticket, &args.dial).await?;
    let session = dialler.dial(signals).await?;
    let node = dialler.node;
    Ok(Peer { node, session })
}

/// Our own node, and the one to connect to, again if need be.
pub struct Dialler {
    pub node: Node,
    ticket: Ticket,
    tried: String,
    timeout: Duration,
}

impl Dialler {
    pub async fn new(mut ticket: Ticket, args: &DialArgs) -> Result<Self, Failure> {
        let network = network_of(&ticket, args.network.network_key.as_deref())?;
        let mut builder = Node::builder()
            .network(network)
            .config(config(&args.network, args.timeout));
        if let Some(path) = &args.id {
            let state = StateDir::open(path)?;
            if state.identity().entity() == ticket.entity {
                return Err(Failure::own_ticket());
            }
            builder = builder.state(state);
        }
        let v6 = ticket.addresses.iter().any(SocketAddr::is_ipv6) && UdpSocket::bind(any_address(true, 0)).is_ok();
        if !v6 {
            ticket.addresses.retain(SocketAddr::is_ipv4);
        }
        let node = builder.address(any_address(v6, 0)).bind().await?;
        let tried: Vec<_> = ticket.addresses.iter().map(ToString::to_string).collect();
        Ok(Self {
            node,
            ticket,
            tried: tried.join(", "),
            timeout: args.timeout,
        })
    }

    /// One session, unless a signal comes first.
    pub async fn dial(&self, signals: &mut Signals) -> Result<Session, Failure> {
        let connected = signals.or(self.node.connect(&self.ticket)).await?;
        connected.map_err(|error| Failure::connect(error, &self.tried, self.timeout.as_secs_f64()))
    }
}

/// Limits and times as the arguments say.
pub fn config(args: &NetworkArgs, connect_timeout: Duration) -> SessionConfig {
    SessionConfig {
        connect_timeout: kernel_duration(connect_timeout),
        idle_timeout: kernel_duration(args.idle_timeout),
        keep_alive: Some(kernel_duration(KEEP_ALIVE.min(args.idle_timeout / 3))),
        ..SessionConfig::default()
    }
}

/// The network of a key file; the open one without.
pub fn network(file: Option<&Path>) -> Result<NetworkKey, Failure> {
    match file {
        Some(file) => read_network_key(file).map_err(|error| {
            let failure = Failure::from(error);
            let missing = failure.code == Code::Io;
            if missing {
                failure.next(format!("net key new {}", file.display()))
            } else {
                failure
            }
        }),
        None => Ok(NetworkKey::open()),
    }
}

/// Where identity and state lie: as told, or at the place that the system has for it.
pub fn state_dir(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    use etcetera::BaseStrategy as _;
    if let Some(path) = given {
        return Ok(path.clone());
    }
    let base = etcetera::choose_base_strategy()
        .map_err(|error| Failure::new(Code::Start, format!("there is no home directory: {error}")).next("--id DIR"))?;
    Ok(base
        .state_dir()
        .unwrap_or_else(|| base.data_dir())
        .join("net")
        .join("default"))
}

/// As the kernel counts it.
pub fn kernel_duration(duration: Duration) -> net_kernel::base::Duration {
    net_kernel::base::Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The ticket from wherever the arguments say it is.
pub fn read_ticket(given: Option<&str>, file: Option<&Path>) -> Result<Ticket, Failure> {
    let text = match (given, file) {
        (Some("-"), _) => from_stdin()?,
        (Some(ticket), _) if is_secret(ticket) => return Err(Failure::secret_in_argv()),
        (Some(ticket), _) => Zeroizing::new(ticket.to_owned()),
        (None, Some(file)) => from_file(file)?,
        (None, None) => return Err(Failure::ticket(&TicketError::Empty)),
    };
    Ticket::parse(&text).map_err(|error| Failure::ticket(&error))
}

fn is_secret(text: &str) -> bool {
    let start = text.trim().get(..SECRET_PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(SECRET_PREFIX))
}

/// The first line; what follows stays in stdin.
fn from_stdin() -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    let read = std::io::stdin().lock().take(MAX_TICKET).read_line(&mut line);
    read.map_err(|error| Failure::stdio("read the ticket from stdin", &error))?;
    Ok(line)
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: std::io::Error| Failure::file("read the ticket file", path, &error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_TICKET).read_to_string(&mut text).map_err(failed)?;
    if is_secret(&text) {
        check_private(path)?;
    }
    Ok(text)
}

#[cfg(unix)]
fn check_private(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path).map_err(|error| Failure::file("read the mode of", path, &error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::new(
        Code::Mode,
        format!("{path} holds the network key and has mode {mode:04o}, so that others may read it"),
    )
    .next(format!("chmod 600 {path}")))
}

#[cfg(not(unix))]
fn check_private(_path: &Path) -> Result<(), Failure> {
    Ok(())
}

/// The network to use for a ticket, compared before anything is sent.
fn network_of(ticket: &Ticket, key_file: Option<&Path>) -> Result<NetworkKey, Failure> {
    let network = match (ticket.network_key(), key_file) {
        (Some(key), None) => NetworkKey::from_bytes(Secret(*key)),
        (_, file) => network(file)?,
    };
    let (ours, open) = (network.fingerprint(), NetworkKey::open().fingerprint());
    if ours == ticket.fingerprint {
        return Ok(network);
    }
    Err(Failure::other_network(
        &hex(&ticket.fingerprint),
        &hex(&ours),
        ours == open,
        ticket.fingerprint == open,
    ))
}
