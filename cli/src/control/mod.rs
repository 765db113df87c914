//! What commands and a running node say to each other over the control socket: one JSON document per line.
//!
//! A command connects, asks, and reads answers until it has what it wants; several questions may follow each other on one
//! connection. `Publish` and `Subscribe` keep the connection to themselves.
//! Invariants: every line names its version; lines are bounded; what a node answers is what the command prints.
//! Not here: connecting (`client.rs`), answering (`up/serve.rs`).

pub mod client;
pub mod records;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

use crate::error::{Code, Failure};
use records::{Doctor, Joined, Peers, Pinged, Published, Routes, Status, Taken, TicketOf, Trace};

/// Version of the lines.
pub const VERSION: u32 = 1;
/// Bytes of a question at most.
pub const MAX_QUESTION: usize = 64 << 10;
/// Bytes of a line of payload at most: a line of a channel with every byte escaped, and its frame.
pub const MAX_PAYLOAD: usize = 6 * crate::channel::MAX_LINE + 1_024;
/// Bytes of an answer at most: some thousands of nodes with all routes.
pub const MAX_ANSWER: usize = 64 << 20;
/// The socket's name in the state directory.
const SOCKET: &str = "control.sock";
/// A socket's path may be this long on every system.
const MAX_PATH: usize = 103;

/// Where the node of a state directory answers.
///
/// # Errors
/// When the path is longer than a socket's may be.
pub fn socket_path(state_dir: &Path) -> Result<PathBuf, Failure> {
    let path = state_dir.join(SOCKET);
    if path.as_os_str().len() > MAX_PATH {
        let message = format!(
            "the control socket would be {}, which is longer than the {MAX_PATH} bytes that a socket's path may have",
            path.display()
        );
        return Err(Failure::new(Code::Start, message).next("--id DIR      # a directory with a shorter path"));
    }
    Ok(path)
}

/// Whom a command means.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The node of a ticket.
    Ticket(String),
    /// A node by its identity, or the first digits of it.
    Node(String),
}

/// What a command asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// How it stands.
    Status,
    /// Whom it has sessions with, and whom it wants them with.
    Peers,
    /// Whom it reaches, and how.
    Routes,
    /// What others need to join it.
    Ticket,
    /// Keep a session with the node of a ticket.
    Join {
        /// The ticket.
        ticket: String,
        /// How long to wait for the first session, in milliseconds.
        timeout_ms: u64,
    },
    /// Reach a node and measure a round trip.
    Ping {
        /// Whom.
        target: Target,
        /// How long to try for a session, in milliseconds.
        timeout_ms: u64,
        /// How long to wait for the answer, in milliseconds.
        wait_ms: u64,
    },
    /// The way to a node, hop by hop.
    Trace {
        /// Whom to.
        target: Target,
    },
    /// What is wrong, and why paths are not direct.
    Doctor,
    /// Lines follow, for whoever asked for them.
    Publish {
        /// The channel.
        name: String,
    },
    /// Lines are wanted.
    Subscribe {
        /// The channel.
        name: String,
    },
}

/// What a node answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Box<Status>),
    Peers(Peers),
    Routes(Routes),
    Ticket(TicketOf),
    Joined(Joined),
    Pinged(Pinged),
    Trace(Trace),
    Doctor(Doctor),
    /// Lines may follow.
    Publishing(Taken),
    /// The last line was handed over.
    Published(Published),
    /// Something happened to a subscription or to a subscriber.
    Event(ChannelEvent),
    /// A line of a channel.
    Line(Line),
    /// The question failed.
    Failed(WireFailure),
}

/// What a publisher's command sends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// A line.
    Line(Line),
    /// There are no more.
    End,
}

/// A line, as text where it is text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Who published it; none where it is on its way there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    hex: Option<String>,
}

impl Line {
    /// A line of these bytes.
    pub fn new(bytes: &[u8], from: Option<String>) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self {
                from,
                text: Some(text.to_owned()),
                hex: None,
            },
            Err(_) => Self {
                from,
                text: None,
                hex: Some(crate::output::hex(bytes)),
            },
        }
    }

    /// Its bytes; none where it is damaged.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.text, &self.hex) {
            (Some(text), None) => Some(text.as_bytes().to_vec()),
            (None, Some(hex)) if hex.len() % 2 == 0 => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                hex.as_bytes()
                    .chunks(2)
                    .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
                    .collect()
            }
            (None | Some(_), None | Some(_)) => None,
        }
    }
}

/// What happens to subscriptions, and to those who publish.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum ChannelEvent {
    /// A node has taken the subscription.
    Taken {
        /// Which.
        id: String,
    },
    /// A node could not be asked, or refused. It is asked again later.
    Missed {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
    /// Every node known at first has answered or failed: nothing that those who took it publish from now on is lost.
    Ready {
        /// Nodes that have taken it.
        taken: usize,
        /// Nodes that could not be asked.
        missed: usize,
    },
    /// The session with a node ended: what it publishes meanwhile is not heard.
    Lost {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
    /// A node that was lost has taken the subscription again: what it published meanwhile is missing.
    Gap {
        /// Which.
        id: String,
    },
    /// A subscriber takes nothing at the moment; the publisher waits.
    Slow {
        /// Which.
        id: String,
        /// For how long it may go on, in seconds.
        patience_s: f64,
    },
    /// A subscriber that was slow takes lines again.
    Quick {
        /// Which.
        id: String,
    },
    /// A subscriber was dropped.
    Dropped {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
}

/// A failure on its way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WireFailure {
    code: String,
    message: String,
    #[serde(default)]
    causes: Vec<String>,
    #[serde(default)]
    next: Vec<String>,
}

impl From<Failure> for WireFailure {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.code.name().to_owned(),
            message: failure.message,
            causes: failure.causes,
            next: failure.next,
        }
    }
}

impl From<WireFailure> for Failure {
    fn from(wire: WireFailure) -> Self {
        Self {
            // A code of a later version is told as what it is here: an answer that was not understood.
            code: Code::named(&wire.code).unwrap_or(Code::Control),
            message: wire.message,
            causes: wire.causes,
            next: wire.next,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    say: T,
}

/// A line to be sent, with its end.
pub fn encode<T: Serialize>(say: &T) -> Vec<u8> {
    let envelope = Envelope { version: VERSION, say };
    let mut bytes = serde_json::to_vec(&envelope).expect("records are structs with string keys");
    bytes.push(b'\n');
    bytes
}

/// Why a line could not be read.
#[derive(Debug)]
pub enum Unread {
    /// The connection ended, or failed.
    Ended,
    /// It is longer than it may be.
    TooLong,
    /// It is of another version.
    Version(u32),
    /// It is not understood.
    Malformed(String),
}

/// Reads a line of at most `most` bytes.
///
/// # Errors
/// See [`Unread`]; after any of them the connection is of no use.
pub async fn read<T: DeserializeOwned>(from: &mut (impl AsyncBufRead + Unpin), most: usize) -> Result<T, Unread> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let mut line = Vec::new();
    loop {
        let available = from.fill_buf().await.map_err(|_| Unread::Ended)?;
        if available.is_empty() {
            return Err(Unread::Ended);
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(available.len(), |end| end + 1);
        if line.len() + taken > most {
            return Err(Unread::TooLong);
        }
        line.extend_from_slice(&available[..taken]);
        from.consume(taken);
        if end.is_some() {
            break;
        }
    }
    let malformed = |error: serde_json::Error| Unread::Malformed(error.to_string());
    let versioned: Versioned = serde_json::from_slice(&line).map_err(malformed)?;
    if versioned.version != VERSION {
        return Err(Unread::Version(versioned.version));
    }
    let envelope: Envelope<T> = serde_json::from_slice(&line).map_err(malformed)?;
    Ok(envelope.say)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_bytes_come_back() {
        for bytes in [&b""[..], b"text", b"\xff\x00", "größe \" \\ \n".as_bytes()] {
            let line = Line::new(bytes, Some("me".into()));
            assert_eq!(line.bytes().as_deref(), Some(bytes));
            let json = encode(&Payload::Line(line.clone()));
            assert_eq!(json.iter().filter(|&&byte| byte == b'\n').count(), 1);
            let back: Envelope<Payload> = serde_json::from_slice(&json).expect("JSON");
            assert_eq!(back.say, Payload::Line(line));
        }
        let damaged = Line {
            from: None,
            text: None,
            hex: Some("0g".into()),
        };
        assert_eq!(damaged.bytes(), None);
    }

    #[test]
    fn the_longest_line_fits_whatever_its_bytes() {
        for byte in [1, b'x', b'"', 0xff] {
            let line = Line::new(&vec![byte; crate::channel::MAX_LINE], Some("a".repeat(64)));
            assert!(encode(&Payload::Line(line)).len() <= MAX_PAYLOAD, "{byte}");
        }
    }

    #[tokio::test]
    async fn what_is_long_cut_or_foreign_is_told_apart() {
        async fn take(bytes: &[u8]) -> Result<Question, Unread> {
            read(&mut &bytes[..], 100).await
        }
        assert_eq!(take(&encode(&Question::Status)).await.expect("right"), Question::Status);
        assert!(matches!(take(b"").await, Err(Unread::Ended)));
        assert!(matches!(take(b"{\"version\":1").await, Err(Unread::Ended)));
        assert!(matches!(take(&[b' '; 200]).await, Err(Unread::TooLong)));
        assert!(matches!(
            take(b"{\"version\":2,\"say\":{\"new\":0}}\n").await,
            Err(Unread::Version(2))
        ));
        assert!(matches!(take(b"hello\n").await, Err(Unread::Malformed(_))));
        assert!(matches!(
            take(b"{\"version\":1,\"say\":{\"ask\":\"x\"}}\n").await,
            Err(Unread::Malformed(_))
        ));
    }

    #[test]
    fn a_failure_keeps_its_code() {
        let failure = Failure::new(Code::NoPath, "no way").next("walk").causes(&["a wall"]);
        let wire = WireFailure::from(failure.clone());
        assert_eq!(Failure::from(wire), failure);
    }
}
