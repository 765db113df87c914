//! What may be written on the command line.
//!
//! Invariants: no argument takes a secret; every default is stated in the help.
//! Not here: what the commands do (one file each), how errors look (`error.rs`).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use net_io_real::EntityId;

use crate::error::EXIT_CODES;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

/// Encrypted sessions between two machines, found by one printable ticket.
#[derive(Debug, Parser)]
#[command(name = "net", version, styles = STYLES, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// How to print: results go to stdout, everything else to stderr, both in this form
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Printing"
    )]
    pub output: Format,
    /// The same as -o json
    #[arg(long, global = true, conflicts_with = "output", help_heading = "Printing")]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The form asked for, by either way of asking.
    pub const fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// How results, events and errors are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document per result; events and errors on stderr, one per line
    Json,
    /// One JSON document per line, as it arises
    Jsonl,
}

/// What `net` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it work: files between processes over a bad network, one of them killed, then 100 simulated networks
    Demo(DemoArgs),
    /// Wait for a peer and connect it to stdin and stdout
    Listen(ListenArgs),
    /// Connect stdin and stdout to the node that a ticket names
    Connect(ConnectArgs),
    /// Send files and directories to whoever runs `net recv`; run again, it goes on where it stopped
    Send(SendArgs),
    /// Receive files into a directory
    Recv(RecvArgs),
    /// Run a node of the mesh until told to end
    Up(UpArgs),
    /// Check the configuration of `net up`, or print one to begin with
    Config(ConfigArgs),
    /// Show how the running node stands
    Status(AskArgs),
    /// Show whom the running node has sessions with, and whom it wants them with
    Peers(AskArgs),
    /// Show which nodes the running node reaches, and how
    Routes(AskArgs),
    /// Print the running node's ticket: what another one needs to join it
    Ticket(AskArgs),
    /// Have the running node keep a session with the node that a ticket names
    Join(JoinArgs),
    /// Measure the round trip to a node: direct, over a relay, or not at all
    Ping(PingArgs),
    /// Show the way to a node hop by hop, as far as the running node knows it
    Trace(TraceArgs),
    /// Watch the running node: how it stands, its peers and routes, again and again
    Top(TopArgs),
    /// Publish the lines of stdin to all who subscribe to a channel
    Pub(PubArgs),
    /// Print the lines that are published on a channel
    Sub(SubArgs),
    /// Say what is wrong with the running node, and why paths are not direct
    Doctor(AskArgs),
    /// Say what this host can do for a node: UDP, addresses, offloads, multicast, clock
    Netcheck(NetcheckArgs),
    /// Make or show this node's identity
    Id(IdArgs),
    /// Make or show the key of a closed network
    Key(KeyArgs),
    /// Say what an error code means and what to do about it
    Explain {
        /// A code as printed with an error, such as E-SILENT; without one, all are listed
        code: Option<String>,
    },
    /// Print the commands of everyday use on one screen
    Cheat,
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page of a command, or write all of them to a directory
    Man {
        /// The command; without one, the page of `net` itself
        #[arg(conflicts_with = "dir")]
        command: Option<String>,
        /// Write every page to this directory, made if there is none
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Which network, and how long to wait for whom.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// The key of a closed network (`net key new FILE`); without one it is the open network, which keeps nobody out
    #[arg(long, value_name = "FILE")]
    pub network_key: Option<PathBuf>,
    /// Give a session up when nothing was heard for so long
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = seconds)]
    pub idle_timeout: Duration,
}

/// Who waits for peers, and where.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Where to listen: ADDRESS, :PORT or ADDRESS:PORT; by default all addresses and the port used last, or any free one
    #[arg(long, value_name = "ADDR", value_parser = bind)]
    pub bind: Option<Bind>,
    /// The directory of this node's identity and state, made if there is none
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    pub id: Option<PathBuf>,
    /// Use a fresh identity that is forgotten at the end
    #[arg(long)]
    pub ephemeral: bool,
    /// Also write the ticket to a new private file; in a closed network it carries the network key
    #[arg(long, value_name = "FILE")]
    pub ticket_file: Option<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// `net listen`
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Admit only these identities (64 hexadecimal digits each, see `net id show`)
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',', value_parser = entity)]
    pub allow: Vec<EntityId>,
    /// Serve peers one after another until told to end
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub host: HostArgs,
}

/// `net recv`
#[derive(Debug, Args)]
pub struct RecvArgs {
    /// Where files go, made if there is none; nothing in it is overwritten
    #[arg(default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Take files only from these identities (64 hexadecimal digits each, see `net id show`)
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',', value_parser = entity)]
    pub from: Vec<EntityId>,
    /// Refuse more than so many bytes at once (suffixes K, M, G)
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub max: Option<u64>,
    /// Receive again and again until told to end
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub host: HostArgs,
}

/// Whom to connect to, and as whom.
#[derive(Debug, Args)]
pub struct PeerArgs {
    /// The ticket that `net listen` printed; - reads it from the first line of stdin
    #[arg(required_unless_present = "ticket_file")]
    pub ticket: Option<String>,
    /// Read the ticket from a file
    #[arg(long, value_name = "FILE", conflicts_with = "ticket")]
    pub ticket_file: Option<PathBuf>,
    #[command(flatten)]
    pub dial: DialArgs,
}

/// As whom to connect, and for how long to try.
#[derive(Debug, Args)]
pub struct DialArgs {
    /// Use the identity in this directory instead of a fresh one
    #[arg(long, value_name = "DIR")]
    pub id: Option<PathBuf>,
    /// Give up connecting after so long
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// `net send`
#[derive(Debug, Args)]
#[command(override_usage = "net send [OPTIONS] FILE... TICKET\n       net send [OPTIONS] FILE... --ticket-file FILE")]
pub struct SendArgs {
    /// Files and directories, then the ticket that `net recv` printed (- reads it from the first line of stdin)
    #[arg(required = true, num_args = 1.., value_name = "FILE... TICKET")]
    pub what: Vec<PathBuf>,
    /// Read the ticket from a file
    #[arg(long, value_name = "FILE")]
    pub ticket_file: Option<PathBuf>,
    /// Give up when nothing has moved for so long
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub patience: Duration,
    #[command(flatten)]
    pub dial: DialArgs,
}

/// `net connect`
#[derive(Debug, Args)]
pub struct ConnectArgs {
    #[command(flatten)]
    pub peer: PeerArgs,
    /// Replace the session's keys once so many bytes were sent
    #[arg(long, value_name = "BYTES", hide = true)]
    pub rekey_at: Option<u64>,
    /// Measure the round trip so often while data flows
    #[arg(long, value_name = "MS", hide = true, value_parser = millis)]
    pub sample: Option<Duration>,
}

/// Which running node is asked.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The state directory of the running node
    #[arg(long, value_name = "DIR")]
    pub id: Option<PathBuf>,
}

/// `net up`
#[derive(Debug, Args)]
pub struct UpArgs {
    /// The configuration; by default net/up.toml in the user's configuration directory, where there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen: ADDRESS, :PORT or ADDRESS:PORT; by default all addresses and the port used last, or any free one
    #[arg(long, value_name = "ADDR", value_parser = bind)]
    pub bind: Option<Bind>,
    /// The directory of this node's identity and state, made if there is none
    #[arg(long, value_name = "DIR")]
    pub id: Option<PathBuf>,
    /// The key of a closed network (`net key new FILE`); without one it is the open network, which keeps nobody out
    #[arg(long, value_name = "FILE")]
    pub network_key: Option<PathBuf>,
    /// Keep sessions with the nodes of these tickets, beside those of the configuration
    #[arg(long, value_name = "TICKET")]
    pub join: Vec<String>,
    /// The same, with tickets in files
    #[arg(long, value_name = "FILE")]
    pub join_file: Vec<PathBuf>,
    /// Serve figures for prometheus at this TCP address; :PORT means loopback
    #[arg(long, value_name = "ADDR", value_parser = metrics)]
    pub metrics: Option<SocketAddr>,
    /// Find nodes of the same network on the local one by multicast, and be found by them
    #[arg(long)]
    pub multicast: bool,
}

/// `net config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Check or example.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// `net config check`, `net config example`
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Look for faults without starting anything
    Check {
        /// The configuration; by default that of `net up`
        file: Option<PathBuf>,
    },
    /// Print a configuration in which every key has its default
    Example,
}

/// `net join`
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// What `net up` or `net ticket` printed on the other host; - reads it from the first line of stdin
    #[arg(required_unless_present = "ticket_file")]
    pub ticket: Option<String>,
    /// Read the ticket from a file
    #[arg(long, value_name = "FILE", conflicts_with = "ticket")]
    pub ticket_file: Option<PathBuf>,
    /// Wait so long for the first session; the node goes on dialling afterwards
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `net trace`
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// A node's identity, or the first digits of it, or its ticket
    pub node: String,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `net top`
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Pause between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,
    /// How many looks; 0 goes on until interrupted
    #[arg(short, long, default_value_t = 0, value_name = "N")]
    pub count: u64,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `net pub`
#[derive(Debug, Args)]
pub struct PubArgs {
    /// The channel: any text of 1 to 255 bytes
    pub name: String,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `net sub`
#[derive(Debug, Args)]
pub struct SubArgs {
    /// The channel: any text of 1 to 255 bytes
    pub name: String,
    /// End after so many lines; 0 goes on until interrupted
    #[arg(short, long, default_value_t = 0, value_name = "N")]
    pub count: u64,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `net netcheck`
#[derive(Debug, Args)]
pub struct NetcheckArgs {
    /// Try this address; by default all addresses and any free port
    #[arg(long, value_name = "ADDR", value_parser = bind)]
    pub bind: Option<Bind>,
}

/// `net ping`
#[derive(Debug, Args)]
#[command(override_usage = "net ping [OPTIONS] TICKET|NODE\n       net ping [OPTIONS] --ticket-file FILE")]
pub struct PingArgs {
    /// Do not ask the running node, where there is one: connect to the ticket's node with a node of its own
    #[arg(long)]
    pub alone: bool,
    #[command(flatten)]
    pub peer: PeerArgs,
    /// How many echoes; 0 goes on until interrupted
    #[arg(short, long, default_value_t = 4, value_name = "N")]
    pub count: u64,
    /// Pause between two echoes
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,
    /// Count an echo as lost after so long
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub wait: Duration,
}

/// `net demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The file to send; by default this program's own binary
    pub file: Option<PathBuf>,
    /// Send at most so many bytes of it (suffixes K, M, G)
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = size)]
    pub limit: u64,
    /// How many simulated worlds follow
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub seeds: u64,
}

/// `net id`
#[derive(Debug, Args)]
pub struct IdArgs {
    /// New or show.
    #[command(subcommand)]
    pub action: IdAction,
}

/// `net id new`, `net id show`
#[derive(Debug, Subcommand)]
pub enum IdAction {
    /// Make an identity
    New {
        /// The directory for it
        #[arg(long, value_name = "DIR")]
        id: Option<PathBuf>,
    },
    /// Show the identity that `net listen` uses
    Show {
        /// Its directory
        #[arg(long, value_name = "DIR")]
        id: Option<PathBuf>,
    },
}

/// `net key`
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// New or show.
    #[command(subcommand)]
    pub action: KeyAction,
}

/// `net key new`, `net key show`
#[derive(Debug, Subcommand)]
pub enum KeyAction {
    /// Make the key of a closed network and write it to a new private file
    New {
        /// The file
        file: PathBuf,
        /// Derive the key from a passphrase, read as one line from stdin, instead of drawing it
        #[arg(long, action = ArgAction::SetTrue)]
        passphrase: bool,
    },
    /// Show the fingerprint of a network, which is not secret
    Show {
        /// The file
        file: PathBuf,
    },
}

/// Where to listen; what is left out is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bind {
    pub ip: Option<IpAddr>,
    pub port: u16,
}

/// Reads a whole identity.
pub fn entity(text: &str) -> Result<EntityId, String> {
    const WANTED: &str = "an identity has 64 hexadecimal digits, as `net id show` prints it";
    let digits = text.as_bytes();
    if digits.len() != 2 * EntityId::LEN {
        return Err(format!("this has {} characters; {WANTED}", text.chars().count()));
    }
    let mut bytes = [0; EntityId::LEN];
    for (at, (byte, pair)) in bytes.iter_mut().zip(digits.chunks(2)).enumerate() {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(format!(
                "characters {} and {} are no hexadecimal digits; {WANTED}",
                2 * at + 1,
                2 * at + 2
            ));
        };
        *byte = (high * 16 + low) as u8;
    }
    let entity = EntityId(bytes);
    match net_kernel::trust::noise_public(&entity) {
        Ok(_) => Ok(entity),
        Err(why) => Err(format!("nobody can have this identity ({why}); {WANTED}")),
    }
}

/// Where figures are served; loopback where only a port is given.
pub fn metrics(text: &str) -> Result<SocketAddr, String> {
    match bind(text)? {
        Bind { ip, port } if text.ends_with(&format!(":{port}")) => Ok(SocketAddr::new(
            ip.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            port,
        )),
        Bind { .. } => Err("write :PORT or ADDRESS:PORT".into()),
    }
}

/// Reads where to listen.
pub fn bind(text: &str) -> Result<Bind, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Bind {
            ip: Some(address.ip()),
            port: address.port(),
        });
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(Bind { ip: Some(ip), port: 0 });
    }
    match text.strip_prefix(':').map(str::parse) {
        Some(Ok(port)) => Ok(Bind { ip: None, port }),
        Some(Err(_)) | None => Err("write ADDRESS, :PORT, ADDRESS:PORT or [IPV6]:PORT, with numbers only".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "write a number of seconds, such as 2 or 0.5")?;
    if (0.001..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("write a number of seconds between 0.001 and 86400".into())
    }
}

fn millis(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(ms @ 1..=60_000) => Ok(Duration::from_millis(ms)),
        Ok(_) | Err(_) => Err("write a number of milliseconds between 1 and 60000".into()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some(_) | None => (text, 0),
    };
    match digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
    {
        Some(bytes @ 1..) => Ok(bytes),
        Some(0) | None => Err("write a number of bytes above 0, such as 500000, 64K or 16M".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn places_to_listen_may_leave_out_either_half() {
        let ip = |text: &str| Some(text.parse().expect("an address"));
        for (text, expected) in [
            (
                "127.0.0.1:70",
                Bind {
                    ip: ip("127.0.0.1"),
                    port: 70,
                },
            ),
            (
                "127.0.0.1",
                Bind {
                    ip: ip("127.0.0.1"),
                    port: 0,
                },
            ),
            (":70", Bind { ip: None, port: 70 }),
            (
                "[::1]:70",
                Bind {
                    ip: ip("::1"),
                    port: 70,
                },
            ),
            ("::1", Bind { ip: ip("::1"), port: 0 }),
            ("[::1]", Bind { ip: ip("::1"), port: 0 }),
        ] {
            assert_eq!(bind(text), Ok(expected), "{text}");
        }
        for text in ["", "localhost", "70", ":", ":70000", "1.2.3:4"] {
            assert!(bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metrics_are_served_on_loopback_unless_told_otherwise() {
        for (text, expected) in [
            (":9", "127.0.0.1:9"),
            ("10.0.0.1:9", "10.0.0.1:9"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(metrics(text), Ok(expected.parse().expect("an address")), "{text}");
        }
        for text in ["", "9", "10.0.0.1", "::1", "host:9"] {
            assert!(metrics(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mistyped_identity_is_told_where() {
        assert!(entity("12").expect_err("short").contains("2 characters"));
        let odd = format!("{}zz", "0".repeat(62));
        assert!(entity(&odd).expect_err("no digits").contains("characters 63 and 64"));
        assert!(
            entity(&"0".repeat(64))
                .expect_err("a point of small order")
                .contains("nobody")
        );
    }

    #[test]
    fn sizes_take_suffixes() {
        assert_eq!(
            (size("10"), size("2k"), size("16M"), size("1G")),
            (Ok(10), Ok(2048), Ok(16 << 20), Ok(1 << 30))
        );
        for text in ["", "0", "M", "-1", "1T", "99999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
