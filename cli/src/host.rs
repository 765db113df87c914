//! What `listen` and `recv` share: the node that peers come to, its ticket, and what is said of both.
//!
//! Invariants: what a peer must run is printed before the first can come, ready to paste; the network key is written to a
//! private file alone. Not here: what is done with peers.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use net_io_real::tokio::any_address;
use net_io_real::{EntityId, Node};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::{Bind, HostArgs};
use crate::error::{Failure, wrap};
use crate::output::hex;
use crate::peer;

/// Dialling is not what a host does.
const NO_DIAL: Duration = Duration::from_secs(10);

/// A node that admits `allow`, or everybody where that is empty.
pub async fn start(args: &HostArgs, allow: &[EntityId]) -> Result<Node, Failure> {
    let mut builder = Node::builder()
        .network(peer::network(args.network.network_key.as_deref())?)
        .config(peer::config(&args.network, NO_DIAL))
        .address(address(args.bind));
    if !allow.is_empty() {
        builder = builder.allow(allow.iter().copied());
    }
    if !args.ephemeral {
        builder = builder.state_dir(peer::state_dir(args.id.as_ref())?);
    }
    Ok(builder.bind().await?)
}

/// All addresses of both families unless told otherwise.
pub fn address(bind: Option<Bind>) -> SocketAddr {
    let Bind { ip, port } = bind.unwrap_or(Bind { ip: None, port: 0 });
    match ip {
        Some(ip) => SocketAddr::new(ip, port),
        None => any_address(UdpSocket::bind(any_address(true, 0)).is_ok(), port),
    }
}

/// The ticket to print; the full one goes to a file where that was asked for.
pub fn ticket(args: &HostArgs, node: &Node) -> Result<String, Failure> {
    if let Some(file) = &args.ticket_file {
        write_private(file, &Zeroizing::new(node.secret_ticket().to_string()))?;
    }
    Ok(node.ticket().to_string())
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

/// A node that peers can come to.
#[derive(Serialize)]
pub struct Hosting {
    id: String,
    address: String,
    ticket: String,
    /// What a peer runs.
    command: String,
    /// Whether there is no network key.
    open_network: bool,
    /// Whether there is no list of those admitted.
    open_to_all: bool,
}

impl Hosting {
    /// `verb` is what a peer does, with what stands before the ticket; `listed` whether only some are admitted.
    pub fn new(args: &HostArgs, node: &Node, ticket: &str, verb: &str, listed: bool) -> Self {
        let closed = args.network.network_key.is_some();
        Self {
            id: hex(&node.entity().0),
            address: node.local_addr().to_string(),
            command: format!("net {verb} {ticket}{}", if closed { " --network-key FILE" } else { "" }),
            ticket: ticket.to_owned(),
            open_network: !closed,
            open_to_all: !listed,
        }
    }
}

impl fmt::Display for Hosting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listening on UDP {} as {}", self.address, &self.id[..16])?;
        writeln!(f, "a peer runs:\n\n  {}\n", self.command)?;
        let warning = match (self.open_network, self.open_to_all) {
            (true, true) => {
                "warning: open network and no list of identities: whoever has this ticket is admitted. Close it with \
                 --network-key FILE (net key new FILE), or name whom to admit (--help)."
            }
            (true, false) => "only the identities named are admitted",
            (false, true) => "closed network: a peer needs the network key, and whoever has it is admitted",
            (false, false) => "closed network: a peer needs the network key and must be one of those named",
        };
        f.write_str(&wrap(warning, 0))
    }
}
