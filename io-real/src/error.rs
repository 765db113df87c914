//! Errors users meet: one enum per blame, each with what failed, why, what to do next, and a stable code.
//!
//! Invariants: a code never changes its meaning; no text holds a secret, and a peer's words are escaped.
//! Not here: why single packets are dropped (`DropReason`), errors of the state directory (`state.rs`).

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::api::{CloseCode, CloseReason, ConnectError as Why, EntityId, Epoch, Refused};
use crate::state::StateError;

/// A node could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The state directory.
    State(StateError),
    /// No UDP socket at this address.
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the host said.
        error: io::Error,
    },
    /// The operating system gives no random bytes.
    Entropy(io::Error),
    /// No interface on which nodes of the local network could be found.
    Multicast {
        /// What the host said.
        error: io::Error,
    },
    /// The kernel refused what it was given.
    Boot(String),
    /// A host resource is missing.
    Host {
        /// What was being set up.
        what: &'static str,
        /// What the host said.
        error: io::Error,
    },
    /// No runtime is running here.
    NoRuntime,
}

impl StartError {
    /// A stable name of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::State(error) => error.code(),
            Self::Bind { error, .. } if error.kind() == io::ErrorKind::AddrInUse => "bind.in_use",
            Self::Bind { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => "bind.denied",
            Self::Bind { error, .. } if error.kind() == io::ErrorKind::AddrNotAvailable => "bind.no_such_address",
            Self::Bind { .. } => "bind.failed",
            Self::Entropy(_) => "start.entropy",
            Self::Multicast { .. } => "multicast.failed",
            Self::Boot(_) => "start.boot",
            Self::Host { .. } => "start.host",
            Self::NoRuntime => "start.no_runtime",
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            #[expect(clippy::wildcard_enum_match_arm, reason = "kinds of IO errors are an open set")]
            Self::Bind { address, error } => {
                write!(f, "cannot bind UDP {address}: {error}; ")?;
                f.write_str(match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        "another program uses this port: stop it, choose another port, or port 0 for any free one"
                    }
                    io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose a greater one",
                    io::ErrorKind::AddrNotAvailable => {
                        "this host has no such address: use one of its own, or 0.0.0.0 or [::] for all"
                    }
                    _ => "check the address and the host's network",
                })
            }
            Self::Entropy(error) => {
                write!(
                    f,
                    "the operating system gives no random bytes: {error}; keys cannot be made without them"
                )
            }
            Self::Multicast { error } => write!(
                f,
                "cannot join the local network's group of nodes: {error}; check that an interface at the node's address is up \
                 and carries multicast, or start without multicast and name peers by ticket"
            ),
            Self::Boot(why) => write!(f, "the node cannot be started with this configuration: {why}"),
            Self::Host { what, error } => write!(f, "cannot set up {what}: {error}"),
            Self::NoRuntime => f.write_str("a node needs a tokio runtime with IO enabled: call bind() inside of one"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::State(error) => Some(error),
            Self::Bind { error, .. } | Self::Entropy(error) | Self::Multicast { error } | Self::Host { error, .. } => {
                Some(error)
            }
            Self::Boot(_) | Self::NoRuntime => None,
        }
    }
}

impl From<StateError> for StartError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// No session came about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The ticket belongs to another network than this node; nothing was sent.
    OtherNetwork,
    /// The ticket names no address.
    NoAddress {
        /// Whom it names.
        peer: EntityId,
    },
    /// The attempt was not begun.
    Refused {
        /// Whom it was for.
        peer: EntityId,
        /// Why.
        why: Refused,
    },
    /// The attempt failed.
    Failed {
        /// Whom it was for.
        peer: EntityId,
        /// Why.
        why: Why,
    },
    /// This node is closed.
    NodeClosed,
}

impl ConnectError {
    /// A stable name of this error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OtherNetwork => "connect.other_network",
            Self::NoAddress { .. } => "connect.no_address",
            Self::Refused { why, .. } => refused_code(*why),
            Self::Failed {
                why: Why::Silent { unreachable: false, .. },
                ..
            } => "connect.silent",
            Self::Failed {
                why: Why::Silent { unreachable: true, .. },
                ..
            } => "connect.unreachable",
            Self::Failed {
                why: Why::PeerRolledBack,
                ..
            } => "connect.peer_rolled_back",
            Self::Failed {
                why: Why::Cancelled, ..
            } => "connect.cancelled",
            Self::NodeClosed => "node.closed",
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNetwork => f.write_str(
                "the ticket belongs to another network: start this node with that network's key, or ask for a ticket \
                 of this network",
            ),
            Self::NoAddress { peer } => {
                write!(
                    f,
                    "the ticket of {peer} names no address: ask for one printed by the running node"
                )
            }
            Self::Refused { peer, why } => write!(f, "cannot connect to {peer}: {}", refused_text(*why)),
            Self::Failed { peer, why } => write_failed(f, peer, *why),
            Self::NodeClosed => f.write_str(NODE_CLOSED),
        }
    }
}

impl Error for ConnectError {}

fn write_failed(f: &mut fmt::Formatter<'_>, peer: &EntityId, why: Why) -> fmt::Result {
    match why {
        Why::Silent {
            sent,
            unreachable: true,
        } => write!(
            f,
            "no answer from {peer} ({sent} first messages sent), and a host said that nobody listens there: is the \
             node running, and is its ticket current?"
        ),
        Why::Silent {
            sent,
            unreachable: false,
        } => write!(
            f,
            "no answer from {peer} ({sent} first messages sent). It may be down, at another address, behind a \
             firewall, in a network with another key, or the ticket is of an earlier identity: nodes stay silent \
             towards those who cannot prove that they belong"
        ),
        Why::PeerRolledBack => write!(
            f,
            "{peer} answered from an older state than this node has met before: its state directory was restored from \
             an old copy, or its identity runs twice; it was told so"
        ),
        Why::Cancelled => write!(f, "the attempt to reach {peer} was cancelled because this node closes"),
    }
}

/// A session cannot do what was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// It ended.
    Closed {
        /// Who was at the other end.
        peer: EntityId,
        /// Why it ended.
        why: CloseReason,
    },
    /// The kernel refused.
    Refused(Refused),
    /// This node is closed.
    NodeClosed,
}

impl SessionError {
    /// A stable name of this error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Closed { why, .. } => close_reason_code(why),
            Self::Refused(why) => refused_code(*why),
            Self::NodeClosed => "node.closed",
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { peer, why } => write_closed(f, peer, why),
            Self::Refused(why) => f.write_str(&refused_text(*why)),
            Self::NodeClosed => f.write_str(NODE_CLOSED),
        }
    }
}

impl Error for SessionError {}

/// A message was not taken. Nothing of it was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// Larger than a message may be on this stream now.
    TooLarge {
        /// Its length.
        len: usize,
        /// The largest that is taken.
        limit: usize,
    },
    /// The send buffer is full; told by `try_send` only, all others wait.
    Full,
    /// This direction was finished or reset before.
    Finished,
    /// The peer wants no more, with its code.
    Stopped(u64),
    /// The session ended.
    Session(SessionError),
}

impl SendError {
    /// A stable name of this error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "send.too_large",
            Self::Full => "send.full",
            Self::Finished => "send.finished",
            Self::Stopped(_) => "send.stopped",
            Self::Session(error) => error.code(),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, limit } => write!(
                f,
                "a message of {len} bytes is larger than this stream takes ({limit}): send it in pieces, or over a \
                 reliable stream"
            ),
            Self::Full => f.write_str("the send buffer is full: wait until the peer has read some, or use send()"),
            Self::Finished => f.write_str("the stream was finished or reset before: open another one"),
            Self::Stopped(code) => write!(f, "the peer wants nothing more on this stream (code {code})"),
            Self::Session(error) => error.fmt(f),
        }
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Session(error) => Some(error),
            Self::TooLarge { .. } | Self::Full | Self::Finished | Self::Stopped(_) => None,
        }
    }
}

/// A message could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The message is longer than the buffer; it stays, to be read into a greater one.
    BufferTooSmall {
        /// Its length.
        len: usize,
    },
    /// The peer abandoned the stream, with its code.
    Reset(u64),
    /// The session ended before the peer finished the stream.
    Session(SessionError),
}

impl RecvError {
    /// A stable name of this error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BufferTooSmall { .. } => "recv.buffer_too_small",
            Self::Reset(_) => "recv.reset",
            Self::Session(error) => error.code(),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall { len } => {
                write!(
                    f,
                    "the next message has {len} bytes, more than the buffer: read it into a greater one"
                )
            }
            Self::Reset(code) => write!(f, "the peer abandoned the stream (code {code})"),
            Self::Session(error) => error.fmt(f),
        }
    }
}

impl Error for RecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Session(error) => Some(error),
            Self::BufferTooSmall { .. } | Self::Reset(_) => None,
        }
    }
}

/// This node's identity is known in a later incarnation: it runs from a restored copy, or twice (PROTOCOL 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RolledBack {
    /// Who says so.
    pub peer: EntityId,
    /// The boot epoch it knows.
    pub known: Epoch,
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} knows a later incarnation of this identity (epoch {}): the state directory was restored from an old \
             copy, or the identity runs twice. Stop the other one, or make a new identity",
            self.peer, self.known.0
        )
    }
}

impl Error for RolledBack {}

const NODE_CLOSED: &str = "this node is closed: start a new one";

const fn close_reason_code(why: &CloseReason) -> &'static str {
    match why {
        CloseReason::Local(_) => "session.closed_here",
        CloseReason::Remote {
            code: CloseCode::NotAllowed,
            ..
        } => "session.not_allowed",
        CloseReason::Remote {
            code: CloseCode::StateRolledBack,
            ..
        } => "session.state_rolled_back",
        CloseReason::Remote { .. } => "session.closed_by_peer",
        CloseReason::TimedOut => "session.timed_out",
        CloseReason::PeerRestarted => "session.peer_restarted",
    }
}

fn write_closed(f: &mut fmt::Formatter<'_>, peer: &EntityId, why: &CloseReason) -> fmt::Result {
    match why {
        CloseReason::Local(code) => write!(f, "the session with {peer} was closed here ({code})"),
        CloseReason::Remote { code, text } if text.is_empty() => {
            write!(f, "{peer} closed the session: {}", close_code_text(*code))
        }
        CloseReason::Remote { code, text } => {
            write!(
                f,
                "{peer} closed the session: {}: \"{}\"",
                close_code_text(*code),
                text.escape_debug()
            )
        }
        CloseReason::TimedOut => write!(f, "nothing was heard from {peer} for the idle timeout; connect again"),
        CloseReason::PeerRestarted => write!(f, "{peer} restarted: its streams are gone; open new ones"),
    }
}

fn close_code_text(code: CloseCode) -> String {
    match code {
        CloseCode::NotAllowed => {
            "this identity is not on its list of those allowed (not_allowed): ask its operator to add it".into()
        }
        CloseCode::StateRolledBack => {
            "it knows a later incarnation of this identity (state_rolled_back): stop the copy, or make a new identity"
                .into()
        }
        CloseCode::NoError
        | CloseCode::Shutdown
        | CloseCode::IdleTimeout
        | CloseCode::PeerRestarted
        | CloseCode::Superseded
        | CloseCode::FlowControl
        | CloseCode::ProtocolViolation
        | CloseCode::StreamLimit
        | CloseCode::MessageTooLarge
        | CloseCode::Internal
        | CloseCode::KeyExpired
        | CloseCode::Application(_) => code.to_string(),
    }
}

const fn refused_code(why: Refused) -> &'static str {
    match why {
        Refused::NoSession => "refused.no_session",
        Refused::NoStream => "refused.no_stream",
        Refused::Backpressure => "refused.backpressure",
        Refused::Finished => "refused.finished",
        Refused::MessageTooLarge { .. } => "refused.message_too_large",
        Refused::TableFull => "refused.table_full",
        Refused::StreamLimit => "refused.stream_limit",
        Refused::OwnIdentity => "refused.own_identity",
        Refused::BadIdentity => "refused.bad_identity",
        Refused::BadAddresses => "refused.bad_addresses",
        Refused::BadArgument => "refused.bad_argument",
        Refused::NotAllowed => "refused.not_allowed",
        Refused::ReservedSubprotocol => "refused.reserved_subprotocol",
        Refused::NoMesh => "refused.no_mesh",
        Refused::NoRoute => "refused.no_route",
        Refused::ShutDown => "refused.shut_down",
    }
}

fn refused_text(why: Refused) -> String {
    match why {
        Refused::NoSession => "the session has ended".into(),
        Refused::NoStream => "the stream has ended".into(),
        Refused::Backpressure => "the send buffer is full: wait until the peer has read some".into(),
        Refused::Finished => "this direction of the stream was finished or reset before".into(),
        Refused::MessageTooLarge { limit } => format!("the message is larger than {limit} bytes"),
        Refused::TableFull => "this node holds as many as it can: close some, or raise the limit".into(),
        Refused::StreamLimit => "the peer allows no more streams yet: finish some".into(),
        Refused::OwnIdentity => "that is this node itself".into(),
        Refused::BadIdentity => "the key is not a usable identity: is the ticket damaged?".into(),
        Refused::BadAddresses => "between 1 and 16 addresses are needed".into(),
        Refused::BadArgument => "an argument is out of its range".into(),
        Refused::NotAllowed => "the peer is not on this node's list of those allowed: add it".into(),
        Refused::ReservedSubprotocol => "the subprotocol is one that nodes speak themselves: take another".into(),
        Refused::NoMesh => "this node was started without a mesh".into(),
        Refused::NoRoute => "no way to the node is known: give an address, or wait until the mesh has found it".into(),
        Refused::ShutDown => NODE_CLOSED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_are_escaped() {
        let why = CloseReason::Remote {
            code: CloseCode::Application(3),
            text: "bye\u{1b}[2J\n".into(),
        };
        let text = SessionError::Closed {
            peer: EntityId([1; 32]),
            why,
        }
        .to_string();
        assert!(text.contains("bye\\u{1b}[2J\\n") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn silence_names_its_possible_causes() {
        let peer = EntityId([1; 32]);
        let silent = |unreachable| ConnectError::Failed {
            peer,
            why: Why::Silent { sent: 7, unreachable },
        };
        let text = silent(false).to_string();
        for cause in ["down", "address", "firewall", "key", "identity"] {
            assert!(text.contains(cause), "{cause} in {text}");
        }
        assert_eq!(
            (silent(false).code(), silent(true).code()),
            ("connect.silent", "connect.unreachable")
        );
    }

    #[test]
    fn a_port_in_use_is_told_with_its_remedy() {
        let error = StartError::Bind {
            address: ([127, 0, 0, 1], 9).into(),
            error: io::ErrorKind::AddrInUse.into(),
        };
        assert_eq!(error.code(), "bind.in_use");
        assert!(error.to_string().contains("127.0.0.1:9") && error.to_string().contains("port 0"));
    }
}
