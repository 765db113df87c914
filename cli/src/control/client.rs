//! Asking the running node: connecting to the control socket of a state directory.
//!
//! Invariants: that nobody answers, that somebody else does and that it speaks another version are told apart.
//! Not here: what is asked (`mod.rs`).

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{Answer, MAX_ANSWER, Question, Unread, VERSION, encode, read, socket_path};
use crate::args::AskArgs;
use crate::error::{Code, Failure};
use crate::peer;

/// A connection to the running node.
pub struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    state_dir: PathBuf,
}

impl Client {
    /// Connects as the arguments say.
    pub async fn connect(args: &AskArgs) -> Result<Self, Failure> {
        let state_dir = peer::state_dir(args.id.as_ref())?;
        match Self::to(&state_dir).await? {
            Some(client) => Ok(client),
            None => Err(not_running(&state_dir)),
        }
    }

    /// Connects to the node of a state directory; `None` where none runs.
    pub async fn to(state_dir: &Path) -> Result<Option<Self>, Failure> {
        let path = socket_path(state_dir)?;
        match UnixStream::connect(&path).await {
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                Ok(Some(Self {
                    reader: BufReader::new(reader),
                    writer,
                    state_dir: state_dir.to_path_buf(),
                }))
            }
            // No socket, or one that a killed process has left.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(Failure::file("reach the running node at", &path, &error)),
        }
    }

    /// The process at the other end, where the system tells.
    pub fn pid(&self) -> Option<i32> {
        self.writer.as_ref().peer_cred().ok()?.pid()
    }

    /// Asks, and answers what the node does. A failure of the node's is one here.
    pub async fn ask(&mut self, question: &Question) -> Result<Answer, Failure> {
        self.say(&encode(question)).await;
        self.answer().await
    }

    /// Sends lines as [`encode`] makes them. A node that takes none has said why, or is gone: its answer tells.
    pub async fn say(&mut self, lines: &[u8]) {
        let _ = self.writer.write_all(lines).await;
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Result<Answer, Failure> {
        match read(&mut self.reader, MAX_ANSWER).await {
            Ok(Answer::Failed(failure)) => Err(failure.into()),
            Ok(answer) => Ok(answer),
            Err(why) => Err(self.unread(why)),
        }
    }

    /// Both directions, to be used apart.
    pub fn split(self) -> (Answers, Lines) {
        (
            Answers {
                reader: self.reader,
                state_dir: self.state_dir,
            },
            Lines(self.writer),
        )
    }

    fn unread(&self, why: Unread) -> Failure {
        unread(&self.state_dir, why)
    }
}

/// The answers of a connection.
pub struct Answers {
    reader: BufReader<OwnedReadHalf>,
    state_dir: PathBuf,
}

impl Answers {
    /// The next answer. Not to be dropped while it waits.
    pub async fn next(&mut self) -> Result<Answer, Failure> {
        match read(&mut self.reader, MAX_ANSWER).await {
            Ok(Answer::Failed(failure)) => Err(failure.into()),
            Ok(answer) => Ok(answer),
            Err(why) => Err(unread(&self.state_dir, why)),
        }
    }
}

/// The lines sent over a connection.
pub struct Lines(OwnedWriteHalf);

impl Lines {
    /// Sends lines as [`encode`] makes them. That nobody takes them is told by the answers.
    pub async fn say(&mut self, lines: &[u8]) -> io::Result<()> {
        self.0.write_all(lines).await
    }
}

fn unread(state_dir: &Path, why: Unread) -> Failure {
    match why {
        Unread::Ended => Failure::new(
            Code::NotRunning,
            format!("the node of {} ended before it had answered", state_dir.display()),
        )
        .next("net up"),
        Unread::TooLong => Failure::new(
            Code::Control,
            format!("the node answered with more than {MAX_ANSWER} bytes"),
        ),
        Unread::Version(version) => Failure::new(
            Code::Control,
            format!("the running node speaks version {version} of the control socket, this command {VERSION}"),
        )
        .next("restart the node with the same version of `net` as this command"),
        Unread::Malformed(why) => Failure::new(
            Code::Control,
            format!("the running node's answer was not understood: {why}"),
        )
        .next("restart the node with the same version of `net` as this command"),
    }
}

fn not_running(state_dir: &Path) -> Failure {
    Failure::new(
        Code::NotRunning,
        format!("no node runs with the state directory {}", state_dir.display()),
    )
    .next("net up                # runs one")
    .next("net status --id DIR   # asks that of another state directory")
}

/// What an answer of one kind holds; of another kind it is a failure.
macro_rules! only {
    ($answer:expr, $kind:ident) => {
        match $answer {
            crate::control::Answer::$kind(value) => Ok(value),
            // Whatever else there may be was not asked for.
            other => Err(crate::control::client::unexpected(&other)),
        }
    };
}
pub(crate) use only;

/// An answer to something else than was asked.
pub fn unexpected(answer: &Answer) -> Failure {
    let text = format!("{answer:?}");
    let text: String = text.chars().take(60).collect();
    Failure::new(
        Code::Control,
        format!("the running node answered something else than was asked: {text}"),
    )
}
