//! Every way a command can fail: what a user reads, and what a script can rely on.
//!
//! Invariants: a code keeps its meaning and exit status for ever; every failure says what failed, why where it is
//! known, and what to do next; no text holds a secret.
//! Not here: how it is printed (`output.rs`).

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use net_io_real::error::{ConnectError, RecvError, SendError, SessionError, StartError};
use net_io_real::state::StateError;
use net_io_real::{CloseCode, CloseReason, EntityId, Refused, TicketError};
use net_kernel::api::ConnectError as Why;
use serde::Serialize;

/// The exit codes, for `net --help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a file, stdin or stdout failed, or some files of a transfer were left out
  2    the command line, the ticket or the configuration is wrong; nothing was done
  3    this host cannot start the node: address, rights, disk, state directory, key file
  4    the ticket belongs to another network; nothing was sent
  5    silence: no answer, and nobody said why
  6    refused: the host answered that nobody listens there
  7    not allowed: the peer answered and does not admit this identity
  8    the session ended early, or the peer is busy
  9    net demo could not prove everything
  10   no node runs here, or it cannot be talked to
  11   net ping: reached, but over a relay and not directly
  12   no path leads to the node
  13   net doctor: something is to be changed
  130  interrupted; 143 terminated

`net explain CODE` explains the codes that errors carry, such as E-SILENT.";

/// How long a text may grow before it is broken up, in characters.
const WIDTH: usize = 100;

macro_rules! codes {
    ($($name:ident = $text:literal, $exit:literal, $meaning:literal;)+) => {
        /// What went wrong, as a script tells it.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Code { $(#[doc = $meaning] $name,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The exit status that goes with it.
            pub const fn exit(self) -> u8 {
                match self { $(Self::$name => $exit,)+ }
            }

            /// What it means and what to do.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }
        }
    };
}

codes! {
    BrokenPipe = "E-BROKEN-PIPE", 0, "Whoever read stdout has closed it. That is no error: the command ends quietly, with status 0, and tells the peer that nothing more is wanted.";
    Io = "E-IO", 1, "Reading or writing a file, stdin or stdout failed. The text says which, and what the system answered.";
    Incomplete = "E-INCOMPLETE", 1, "The transfer came to its end, but some files were left out: each was told with its reason. Nothing is ever overwritten: a file of the same name with other content stays, and the new one is left out. Move what is in the way, or mend what the reason names, and send again: what has arrived is not sent a second time.";
    Usage = "E-USAGE", 2, "The command line was not understood: an unknown command or option, or a value out of its range. Nothing was done. `net --help` and `net COMMAND --help` list what there is.";
    Unknown = "E-UNKNOWN-CODE", 2, "There is no error code of that name. `net explain` lists all.";
    Ticket = "E-TICKET", 2, "The ticket is damaged or was made by another version. Tickets have a checksum, so a mistyped character is always found; the text says at which character the trouble is, where that can be told. Copy the whole line again from where it was printed.";
    SecretInArgv = "E-SECRET-ARGV", 2, "A ticket that starts with netkey1 carries the network key. Command lines can be read by every user of a host and stay in shell histories, so it is not taken from there. Give it on stdin (`net connect -`) or in a private file (`--ticket-file FILE`). If it was typed on a shared host, make a new network key.";
    OwnTicket = "E-OWN-TICKET", 2, "The ticket names the identity that this command itself uses. Leave `--id` out, or use another directory.";
    AddressInUse = "E-PORT-IN-USE", 3, "Another program uses this UDP port. Stop it (`ss -ulpn` shows it), choose another port, or leave the port out to get a free one.";
    Address = "E-ADDRESS", 3, "This host does not have the address it should listen on, or the ticket names none that can be used. `ip address` shows the addresses of this host.";
    Permission = "E-PERMISSION", 3, "The system refused access. Ports below 1024 need privileges; state directories and key files must belong to the user who runs `net`.";
    DiskFull = "E-DISK-FULL", 3, "The disk is full. The state on it is intact: files are replaced whole or not at all. Free some space and run the command again.";
    StateLocked = "E-STATE-LOCKED", 3, "Another process uses this state directory. One identity runs once: stop the other process, use `--id` with another directory, or `--ephemeral`.";
    StateCorrupt = "E-STATE-CORRUPT", 3, "A file of the state directory is damaged, of a later version, or not of this program. It was left untouched. Restore it from a backup, or move the directory away and make a new identity with `net id new`.";
    Mode = "E-MODE", 3, "Other users may read or write a file or directory that must stay private. The text has the chmod command to run. If the file held a secret, consider it known.";
    NoIdentity = "E-NO-IDENTITY", 3, "There is no identity at this place. `net id new` makes one, `net listen` makes one by itself.";
    Exists = "E-EXISTS", 3, "The file exists already and was left untouched. Choose another name, or move the old file away.";
    Clock = "E-CLOCK", 3, "The state directory was last used at a time that lies far in the future, which no peer would believe. Set this host's clock right.";
    Start = "E-START", 3, "The node could not be started on this host. The text says what was missing.";
    OtherNetwork = "E-OTHER-NETWORK", 4, "The ticket belongs to another network than the one this command was given. Tickets carry a fingerprint of their network, so nothing was sent. Use `--network-key FILE` with that network's key, or leave it out for the open network.";
    Silent = "E-SILENT", 5, "No answer came. Nodes stay silent towards everybody who cannot prove that they belong, so silence has several possible causes: the node is down, it has moved to another address or port, a firewall or NAT drops the packets, or the ticket is of an earlier identity.";
    Unreachable = "E-UNREACHABLE", 6, "The host answered that nobody listens on this port (ICMP port unreachable). The node is not running, or it listens on another port now: ask for a fresh ticket.";
    NotAllowed = "E-NOT-ALLOWED", 7, "The peer was reached, proved its identity, and does not admit this one. Ask its operator to add this node's identity to `--allow`; use `--id DIR`, because without it every run has a fresh identity.";
    RolledBack = "E-ROLLED-BACK", 8, "One side knows a later incarnation of the other's identity: a state directory was restored from an old copy, or the identity runs twice. Stop the copy, or make a new identity with `net id new`.";
    SessionLost = "E-SESSION-LOST", 8, "The session was up and then nothing more was heard, or the peer restarted. What the peer had not confirmed may be lost. Connect again once the peer is back.";
    Closed = "E-CLOSED", 8, "The peer closed the session, or stopped reading, before everything was done.";
    Busy = "E-BUSY", 8, "The peer is connected with somebody else. `net listen` serves one peer, `net listen --keep` one after another.";
    PeerFull = "E-PEER-FULL", 8, "The receiver has too little space: sizes are checked before the first byte is sent, and the disk may fill up meanwhile. What has arrived is kept. Free some space there and send again: it goes on where it stopped.";
    PeerLimit = "E-PEER-LIMIT", 8, "The offer is larger than the receiver allows (`net recv --max`). Nothing was sent.";
    Protocol = "E-PROTOCOL", 8, "The peer said something that the file transfer does not allow, or speaks another version of it. Nothing of that was believed; what had arrived before is kept.";
    Unproved = "E-UNPROVED", 9, "`net demo` ended, but not everything that it shows was found true. The list says what.";
    Line = "E-LINE", 1, "A line of stdin is longer than a channel takes (1 MiB). What came before it was published, and nothing after it.";
    Config = "E-CONFIG", 2, "The configuration of `net up` is wrong: the text names the file, the line, what is wrong there and, for an unknown key, the nearest one there is. Nothing was started. `net config check` looks without starting anything, `net config example` prints every key with its meaning.";
    UnknownNode = "E-UNKNOWN-NODE", 2, "The name fits no node that the running node knows, or more than one. A node is named by its identity or the first digits of it, at least four; `net routes` and `net peers` list them.";
    Dropped = "E-DROPPED", 8, "A subscriber took nothing for longer than its publisher waits (`patience` in the configuration of the publisher's node), and was dropped, so that the others go on. What was published after that is missing at this subscriber.";
    NotRunning = "E-NOT-RUNNING", 10, "No node runs with this state directory, or it ended before it had answered. `net up` runs one; commands find it by its state directory (`--id`, by default the same for all commands).";
    Control = "E-CONTROL", 10, "The running node and this command did not understand each other: one of them is of another version. Restart the node with the version of `net` that the command has.";
    ControlBusy = "E-CONTROL-BUSY", 10, "The running node serves as many commands or subscriptions as it may. End some of them: `net sub`, `net pub` and `net top` hold one each as long as they run.";
    Relayed = "E-RELAYED", 11, "The node was reached, but over others and not directly. That is no failure: the result says over whom. `net doctor` says why the path is not direct and what would change it.";
    NoPath = "E-NO-PATH", 12, "The running node has no session with that node and could get none: nobody told it an address of it, or nobody relays to it. `net join TICKET` with a ticket of that node makes a direct session; `net doctor` says how it is known.";
    Unwell = "E-UNWELL", 13, "`net doctor` found something that should be changed. Its result says what and how; lines with => are what would change it.";
    Interrupted = "E-INTERRUPTED", 130, "The command was interrupted (ctrl-c) before it was done. What was read was delivered first, as far as the peer took it within a few seconds.";
    Terminated = "E-TERMINATED", 143, "The command was asked to end (SIGTERM) before it was done. What was read was delivered first, as far as the peer took it within a few seconds.";
}

impl Code {
    /// Whether the result, or the silence, says it already: nothing is printed.
    pub const fn is_told(self) -> bool {
        matches!(self, Self::BrokenPipe | Self::Relayed | Self::Unwell)
    }

    /// The code of this name, in either case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.name().eq_ignore_ascii_case(name))
    }
}

/// A command failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Failure {
    /// Its stable code.
    #[serde(serialize_with = "code_name")]
    pub code: Code,
    /// What failed, what was tried and why.
    pub message: String,
    /// What it may be, where that is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
}

fn code_name<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}

impl Failure {
    /// A failure without remedies yet.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            next: Vec::new(),
        }
    }

    /// The same with one more thing to do.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }

    /// The same with possible causes.
    pub fn causes(mut self, causes: &[&str]) -> Self {
        self.causes.extend(causes.iter().map(|cause| (*cause).to_owned()));
        self
    }

    /// Something could not be done to a file.
    pub fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(
            io_code(error, Code::Io),
            format!("cannot {what} {}: {error}", path.display()),
        )
    }

    /// stdin or stdout failed.
    pub fn stdio(what: &str, error: &io::Error) -> Self {
        Self::new(io_code(error, Code::Io), format!("cannot {what}: {error}"))
    }

    /// A damaged ticket.
    pub fn ticket(error: &TicketError) -> Self {
        Self::new(Code::Ticket, error.to_string()).next("net listen      # on the other machine, prints a fresh ticket")
    }

    /// A secret on the command line.
    pub fn secret_in_argv() -> Self {
        let message = "a ticket that starts with netkey1 carries the network key and is not taken from the command \
                       line, where other users of this host can read it";
        Self::new(Code::SecretInArgv, message)
            .next("net connect -                       # then paste the ticket as the first line of stdin")
            .next("net connect --ticket-file FILE      # a file that only you can read (chmod 600 FILE)")
    }

    /// A connection attempt to `peer`, tried at `tried`, failed.
    pub fn connect(error: ConnectError, tried: &str, seconds: f64) -> Self {
        let (peer, why) = match error {
            ConnectError::Failed { peer, why } => (peer, why),
            ConnectError::Refused {
                why: Refused::OwnIdentity,
                ..
            } => return Self::own_ticket(),
            ConnectError::NoAddress { .. } => {
                return Self::new(Code::Address, error.to_string())
                    .next("net listen --bind ADDRESS   # on the other machine");
            }
            ConnectError::Refused { .. } => return Self::new(Code::Ticket, error.to_string()),
            ConnectError::OtherNetwork | ConnectError::NodeClosed | _ => {
                return Self::new(Code::Start, error.to_string());
            }
        };
        match why {
            Why::Silent { sent, unreachable } => Self::silent(peer, tried, seconds, sent, unreachable),
            Why::PeerRolledBack => Self::new(
                Code::RolledBack,
                format!("{peer} answered at {tried}, but runs from an older state than before: it was told so"),
            )
            .next("restart the peer, or make it a new identity"),
            Why::Cancelled => Self::new(Code::Interrupted, format!("the attempt to reach {peer} was given up")),
        }
    }

    fn silent(peer: EntityId, tried: &str, seconds: f64, sent: u32, unreachable: bool) -> Self {
        let tried = format!("no answer from {peer} at {tried}: {sent} first messages in {seconds:.0} s");
        if unreachable {
            return Self::new(
                Code::Unreachable,
                format!("{tried}; the host said that nobody listens there"),
            )
            .next("net listen      # is it running? It prints its current ticket");
        }
        Self::new(Code::Silent, tried)
            .causes(&[
                "the node is not running, or its machine is off or asleep",
                "it has moved: another address or port than when the ticket was printed",
                "a firewall or NAT on the way drops UDP to that port",
                "the ticket is of an earlier identity, or of a network whose key was changed",
                "this host's clock or the peer's is wrong by more than a day",
            ])
            .next("net listen      # on the other machine, prints its current ticket")
            .next("net ping TICKET --timeout 30")
    }

    /// The ticket of the very node that uses it.
    pub fn own_ticket() -> Self {
        Self::new(
            Code::OwnTicket,
            "the ticket names this node itself: it has the identity given with --id",
        )
        .next("leave --id out, or give another directory")
    }

    /// The ticket of another network.
    pub fn other_network(ticket: &str, ours: &str, ours_is_open: bool, theirs_is_open: bool) -> Self {
        let name = |fingerprint: &str, open: bool| {
            if open {
                format!("the open network ({fingerprint})")
            } else {
                format!("network {fingerprint}")
            }
        };
        let message = format!(
            "the ticket is of {}, this command was started for {}; nothing was sent",
            name(ticket, theirs_is_open),
            name(ours, ours_is_open)
        );
        let failure = Self::new(Code::OtherNetwork, message);
        match (theirs_is_open, ours_is_open) {
            (true, _) => failure.next("leave --network-key out"),
            (false, true) => failure.next("add --network-key FILE, with the key of the network that the peer is in"),
            (false, false) => failure
                .next("net key show FILE      # prints the fingerprint of a key file")
                .next("give --network-key the file whose fingerprint is the ticket's"),
        }
    }

    /// A passed deadline or a signal ended the command.
    pub fn signalled(signal: Signal) -> Self {
        match signal {
            Signal::Interrupt => Self::new(Code::Interrupted, "interrupted before everything was done"),
            Signal::Terminate => Self::new(Code::Terminated, "asked to end before everything was done"),
        }
    }

    /// Whether it lies on this side, so that the next peer would meet it too.
    pub const fn is_final(&self) -> bool {
        matches!(
            self.code,
            Code::BrokenPipe | Code::Io | Code::DiskFull | Code::Interrupted | Code::Terminated
        )
    }

    /// The failure as people read it, without colours.
    pub fn text(&self) -> String {
        let mut text = wrap(&self.message, 0);
        if !self.causes.is_empty() {
            text.push_str("\n\nIt may be that");
        }
        for cause in &self.causes {
            let _ = write!(text, "\n  - {}", wrap(cause, 4));
        }
        if !self.next.is_empty() {
            text.push_str("\n\nNext:");
        }
        for next in &self.next {
            let _ = write!(text, "\n  {}", next);
        }
        let _ = write!(text, "\n\nMore: net explain {}", self.code.name());
        text
    }
}

/// The code of what the system answered.
fn io_code(error: &io::Error, otherwise: Code) -> Code {
    const CODES: [(io::ErrorKind, Code); 8] = [
        (io::ErrorKind::BrokenPipe, Code::BrokenPipe),
        (io::ErrorKind::AddrInUse, Code::AddressInUse),
        (io::ErrorKind::AddrNotAvailable, Code::Address),
        (io::ErrorKind::PermissionDenied, Code::Permission),
        (io::ErrorKind::ReadOnlyFilesystem, Code::Permission),
        (io::ErrorKind::StorageFull, Code::DiskFull),
        (io::ErrorKind::QuotaExceeded, Code::DiskFull),
        (io::ErrorKind::AlreadyExists, Code::Exists),
    ];
    let found = CODES.iter().find(|(kind, _)| *kind == error.kind());
    found.map_or(otherwise, |(_, code)| *code)
}

/// Breaks long lines, those after the first indented.
pub fn wrap(text: &str, indent: usize) -> String {
    let mut out = String::new();
    for (at, line) in text.lines().enumerate() {
        if at > 0 {
            let _ = write!(out, "\n{:indent$}", "");
        }
        if line.chars().count() + indent <= WIDTH {
            out.push_str(line);
        } else {
            wrap_line(line, indent, &mut out);
        }
    }
    out
}

fn wrap_line(line: &str, indent: usize, out: &mut String) {
    let mut column = indent;
    for word in line.split(' ') {
        let len = word.chars().count();
        if column > indent && column + 1 + len > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += len;
    }
}

/// Who asked the command to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let code = match &error {
            StateError::Io { error, .. } => io_code(error, Code::Io),
            StateError::Locked { .. } => Code::StateLocked,
            StateError::Mode { .. } => Code::Mode,
            StateError::NoIdentity { .. } => Code::NoIdentity,
            StateError::Exists { .. } => Code::Exists,
            StateError::EpochAhead { .. } => Code::Clock,
            StateError::Entropy(_) => Code::Start,
            StateError::Corrupt { .. }
            | StateError::Version { .. }
            | StateError::Foreign { .. }
            | StateError::OtherIdentity { .. }
            | _ => Code::StateCorrupt,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match error {
            StartError::State(error) => return error.into(),
            StartError::Bind { ref error, .. } => io_code(error, Code::Start),
            StartError::Entropy(_) | StartError::Boot(_) | StartError::Host { .. } | StartError::NoRuntime | _ => {
                Code::Start
            }
        };
        Self::new(code, error.to_string())
    }
}

/// A peer that is connected with somebody else closes with this application code.
pub const BUSY: u64 = 1;

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let (peer, why) = match &error {
            SessionError::Closed { peer, why } => (*peer, why),
            SessionError::Refused(_) | SessionError::NodeClosed => return Self::new(Code::Closed, error.to_string()),
            _ => return Self::new(Code::Closed, error.to_string()),
        };
        match why {
            CloseReason::Remote {
                code: CloseCode::NotAllowed,
                ..
            } => Self::new(
                Code::NotAllowed,
                format!("{peer} was reached and does not admit this identity"),
            )
            .next("net id show                         # prints this node's identity")
            .next("net listen --allow ID               # on the other machine")
            .next("net connect --id DIR TICKET         # without --id every run has a fresh identity"),
            CloseReason::Remote {
                code: CloseCode::StateRolledBack,
                ..
            } => Self::new(Code::RolledBack, error.to_string()).next("net id new --id DIR"),
            CloseReason::Remote {
                code: CloseCode::Application(BUSY),
                ..
            } => Self::new(Code::Busy, format!("{peer} is connected with somebody else"))
                .next("net listen --keep      # on the other machine, serves one peer after another"),
            CloseReason::TimedOut | CloseReason::PeerRestarted => Self::new(Code::SessionLost, error.to_string())
                .next("net ping TICKET      # tells whether the peer is back"),
            CloseReason::Remote { .. } | CloseReason::Local(_) => Self::new(Code::Closed, error.to_string()),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Session(error) => error.into(),
            SendError::Stopped(_) => Self::new(
                Code::Closed,
                "the peer stopped reading before it had everything: its output was closed",
            ),
            SendError::TooLarge { .. } | SendError::Full | SendError::Finished | _ => {
                Self::new(Code::Closed, error.to_string())
            }
        }
    }
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Session(error) => error.into(),
            RecvError::BufferTooSmall { .. } | RecvError::Reset(_) | _ => Self::new(Code::Closed, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_every_exit_code_is_documented() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let documented = EXIT_CODES.lines().any(|line| {
                line.split(|c: char| !c.is_ascii_digit())
                    .any(|word| word == code.exit().to_string())
            });
            assert!(documented, "{} exits with {}", code.name(), code.exit());
        }
    }

    #[test]
    fn a_code_is_found_in_either_case() {
        assert_eq!(Code::named("e-silent"), Some(Code::Silent));
        assert_eq!(Code::named("E-NONSENSE"), None);
    }

    #[test]
    fn long_texts_are_broken_and_indented() {
        let text = wrap(&"word ".repeat(40), 4);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    ")), "{text}");
        assert_eq!(wrap("  as\n  it was", 0), "  as\n  it was");
    }

    #[test]
    fn silence_lists_causes_and_a_refused_port_does_not() {
        let peer = EntityId([1; 32]);
        let failed = |unreachable| {
            let why = Why::Silent { sent: 8, unreachable };
            Failure::connect(ConnectError::Failed { peer, why }, "127.0.0.1:9", 10.0)
        };
        let silent = failed(false);
        assert_eq!((silent.code, silent.causes.len()), (Code::Silent, 5));
        let refused = failed(true);
        assert_eq!((refused.code, refused.causes.len()), (Code::Unreachable, 0));
        for failure in [silent, refused] {
            let text = failure.text();
            for part in ["127.0.0.1:9", "8 first messages", "Next:", failure.code.name()] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Failure::stdio("write to stdout", &full).code, Code::DiskFull);
        let state = StateError::Io {
            what: "write",
            path: "/x".into(),
            error: full,
        };
        assert_eq!(Failure::from(state).code, Code::DiskFull);
    }
}
