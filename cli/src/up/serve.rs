//! The control socket: accepting commands of this host's user and answering them.
//!
//! Invariants: only the owner can open it; a socket that a killed process left is replaced and one that somebody answers is not;
//! at most [`MAX_CLIENTS`] at once, and one more is told so; what a client sends is bounded.
//! Not here: what the answers hold (`look.rs`), channels (`channels.rs`, `follow.rs`).

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use net_io_real::Session;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::channels::Publisher;
use super::{World, doctor, follow, look};
use crate::channel::Name;
use crate::control::{Answer, MAX_PAYLOAD, MAX_QUESTION, Payload, Question, Unread, VERSION, encode, read};
use crate::error::{Code, Failure};

/// Commands served at once.
pub const MAX_CLIENTS: usize = 64;
/// Items on their way to a command that subscribes.
const QUEUE: usize = 64;
/// How long publishers may ask whether a command that has left took everything.
const LINGER: Duration = Duration::from_secs(1);
/// Pause after a connection that could not be accepted, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket; its file goes with it.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Binds the socket of a state directory that this process has locked.
    pub async fn bind(path: PathBuf) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::file("make the control socket", &path, &error);
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if let Ok(live) = UnixStream::connect(&path).await {
                    return Err(held(&path, live.peer_cred().ok().and_then(|cred| cred.pid())));
                }
                // Nobody answers: a process that was killed has left it.
                std::fs::remove_file(&path).map_err(failed)?;
                UnixListener::bind(&path).map_err(failed)?
            }
            bound => bound.map_err(failed)?,
        };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path })
    }

    /// Serves for ever.
    pub async fn serve(&self, world: &Arc<World>) {
        let permits = Arc::new(Semaphore::new(MAX_CLIENTS));
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = clients.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (world, permit) = (world.clone(), permits.clone().try_acquire_owned());
                        clients.spawn(async move {
                            match permit {
                                Ok(permit) => {
                                    // A command that goes away in the middle is its own trouble.
                                    let _ = Box::pin(client(&world, stream)).await;
                                    drop(permit);
                                }
                                Err(_) => turn_away(stream).await,
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a command could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // One that is gone already is what was wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn held(path: &Path, pid: Option<i32>) -> Failure {
    let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Failure::new(
        Code::StateLocked,
        format!(
            "{who} answers at {} and runs the node of this state directory",
            path.display()
        ),
    )
    .next("net status            # asks it")
    .next("net up --id DIR       # another node, with a state directory of its own")
}

async fn turn_away(stream: UnixStream) {
    let busy = Failure::new(
        Code::ControlBusy,
        format!("the running node serves {MAX_CLIENTS} commands already"),
    );
    let (_, mut writer) = stream.into_split();
    let _ = writer.write_all(&encode(&Answer::Failed(busy.into()))).await;
}

/// Answers one command's questions until it goes.
async fn client(world: &Arc<World>, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    // What `ping` has connected with stays so for its next question.
    let mut pinged: Option<Session> = None;
    loop {
        let question = match read::<Question>(&mut reader, MAX_QUESTION).await {
            Ok(question) => question,
            Err(Unread::Ended) => return Ok(()),
            Err(why) => {
                return writer
                    .write_all(&encode(&Answer::Failed(misunderstood(why).into())))
                    .await;
            }
        };
        let answer = match question {
            Question::Publish { name } => match Name::new(&name) {
                Ok(name) => return publish(world, name, &mut reader, &mut writer).await,
                Err(why) => Err(Failure::new(Code::Usage, format!("channel {name:?}: {why}"))),
            },
            Question::Subscribe { name } => match Name::new(&name) {
                Ok(name) => return subscribe(world, name, &mut reader, &mut writer).await,
                Err(why) => Err(Failure::new(Code::Usage, format!("channel {name:?}: {why}"))),
            },
            Question::Status => Ok(Answer::Status(Box::new(look::status(world)))),
            Question::Peers => Ok(Answer::Peers(look::peers(world))),
            Question::Routes => Ok(Answer::Routes(look::routes(world))),
            Question::Ticket => Ok(Answer::Ticket(look::ticket(world))),
            Question::Doctor => Ok(Answer::Doctor(doctor::examine(world))),
            Question::Trace { target } => look::trace(world, &target).map(Answer::Trace),
            Question::Join { ticket, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms);
                Box::pin(look::join(world, &ticket, timeout)).await.map(Answer::Joined)
            }
            Question::Ping {
                target,
                timeout_ms,
                wait_ms,
            } => {
                let times = (Duration::from_millis(timeout_ms), Duration::from_millis(wait_ms));
                let ping = look::ping(world, &target, times, &mut pinged);
                Box::pin(ping).await.map(Answer::Pinged)
            }
        };
        let answer = answer.unwrap_or_else(|failure| Answer::Failed(failure.into()));
        writer.write_all(&encode(&answer)).await?;
    }
}

fn misunderstood(why: Unread) -> Failure {
    let text = match why {
        Unread::Ended => "the question was cut".to_owned(),
        Unread::TooLong => "the question is longer than any".to_owned(),
        Unread::Version(version) => {
            format!("the question is in version {version} of the control socket, this node speaks {VERSION}")
        }
        Unread::Malformed(why) => format!("the question was not understood: {why}"),
    };
    Failure::new(Code::Control, text).next("restart the node with the same version of `net` as the command")
}

/// Takes lines and hands them on.
async fn publish(
    world: &Arc<World>,
    name: Name,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let mut publisher = Publisher::new(world.channels.clone(), name.clone());
    let taken = crate::control::records::Taken {
        channel: name.to_string(),
        subscribers: publisher.subscribers(),
    };
    writer.write_all(&encode(&Answer::Publishing(taken))).await?;
    loop {
        let payload = match read::<Payload>(reader, MAX_PAYLOAD).await {
            Ok(payload) => payload,
            Err(Unread::Ended) => return Ok(()),
            Err(why) => {
                return writer
                    .write_all(&encode(&Answer::Failed(misunderstood(why).into())))
                    .await;
            }
        };
        let line = match payload {
            Payload::Line(line) => line.bytes(),
            Payload::End => {
                let published = publisher.finish().await;
                return writer.write_all(&encode(&Answer::Published(published))).await;
            }
        };
        let Some(line) = line.filter(|line| line.len() <= crate::channel::MAX_LINE) else {
            let why = Unread::Malformed("a line that is damaged or too long".into());
            return writer
                .write_all(&encode(&Answer::Failed(misunderstood(why).into())))
                .await;
        };
        publisher.publish(&line, writer).await?;
    }
}

/// Hands lines to a command until it goes.
async fn subscribe(
    world: &Arc<World>,
    name: Name,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let (out, mut items) = mpsc::channel(QUEUE);
    // Apart, because writing may wait for the reader; it ends with this function.
    let mut following = JoinSet::new();
    following.spawn(follow::run(world.clone(), name, out));
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = items.recv_many(&mut waiting, QUEUE) => {
                if count == 0 {
                    break;
                }
                write(&mut waiting, writer).await?;
            }
            // It has nothing more to say: whatever comes is its end. One that has left something unread is told apart by an
            // error, and did not take what it was given.
            end = reader.fill_buf() => {
                end?;
                let _ = tokio::time::timeout(LINGER, linger(&mut items)).await;
                return Ok(());
            }
        }
    }
    if let Some(Ok(Some(failure))) = following.join_next().await {
        writer.write_all(&encode(&Answer::Failed(failure.into()))).await?;
    }
    Ok(())
}

/// Answers those who ask whether everything was handed over to a command that has what it wanted and left; until a line comes
/// that it does not take.
async fn linger(items: &mut mpsc::Receiver<follow::Deliver>) {
    while let Some(item) = items.recv().await {
        match item {
            follow::Deliver::Event(_) => {}
            follow::Deliver::Line(..) => return,
            // Whoever asked may be gone.
            follow::Deliver::Flush(done) => drop(done.send(())),
        }
    }
}

async fn write(waiting: &mut Vec<follow::Deliver>, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut written: Vec<oneshot::Sender<()>> = Vec::new();
    for item in waiting.drain(..) {
        match follow::answer(item) {
            Ok(answer) => bytes.extend_from_slice(&encode(&answer)),
            Err(done) => written.push(done),
        }
    }
    writer.write_all(&bytes).await?;
    for done in written {
        // Whoever asked may be gone.
        let _ = done.send(());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_left_is_replaced_and_one_that_is_answered_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists(), "a listener leaves its file");
        let control = Control::bind(path.clone()).await.expect("replaced");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = Control::bind(path.clone()).await.err().expect("held");
        assert_eq!(refused.code, Code::StateLocked);
        let own = format!("process {}", std::process::id());
        assert!(refused.message.contains(&own), "{}", refused.message);
        drop(control);
        assert!(!path.exists());
    }
}
