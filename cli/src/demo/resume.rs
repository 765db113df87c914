//! A file from `net send` to `net recv` over the same bad network, with the receiver killed midway and started again.
//!
//! Invariants: the receiver is killed while the file is under way, by SIGKILL where there is such a thing; what lies on disk
//! then and what the sender counts as sent again are measured, not assumed. Not here: what they prove (`report.rs`).

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use net_io_real::Ticket;
use net_io_sim::proxy::{Proxy, ProxyConfig};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::child::Child;
use super::{bad_link, say};
use crate::error::{Code, Failure};
use crate::output::{Out, bytes};
use crate::signals::Signals;

/// Fates of datagrams follow from this and their numbers.
const SEED: u64 = 2;
/// A file that is shorter is sent so often in one that it can be met under way.
const LEAST: u64 = 4 << 20;
/// How often it is looked how much has arrived.
const LOOK: Duration = Duration::from_millis(2);
/// So much arrives in this time, or the step has failed.
const ARRIVAL_WAIT: Duration = Duration::from_secs(30);
const NAME: &str = "file";

/// What came of it.
#[derive(Serialize)]
pub struct Resume {
    pub bytes: u64,
    /// What lay on disk when the receiver was killed.
    pub killed_after: u64,
    /// Whether the file had its name then.
    pub half_file: bool,
    /// Where the second attempt went on.
    pub resumed_after: u64,
    pub sessions: u64,
    pub same: bool,
    pub seconds: f64,
}

/// What `net send` answers.
#[derive(Deserialize)]
struct Sent {
    attempts: u64,
    bytes_resumed: u64,
}

/// Runs it with the first `limit` bytes of `path`.
pub async fn run(path: &Path, limit: u64, signals: &mut Signals, out: Out) -> Result<Resume, Failure> {
    signals.or(Box::pin(between(path, limit, out))).await?
}

async fn between(path: &Path, limit: u64, out: Out) -> Result<Resume, Failure> {
    let home = tempfile::tempdir().map_err(|error| Failure::stdio("make a temporary directory", &error))?;
    let home = home.path();
    let (source, target) = (home.join(NAME), home.join("received"));
    let failed = |error: io::Error| Failure::file("copy the beginning of", path, &error);
    let total = copy(path, &source, limit).await.map_err(failed)?;
    introduce(total, out);

    let (state, received) = (home.join("receiver"), target.join(NAME));
    let [source_arg, target_arg, state_arg] = [&source, &target, &state].map(|path| path.display().to_string());
    let receive = ["recv", &target_arg, "--bind", "127.0.0.1", "--id", &state_arg];
    let mut receiver = Child::start("process B (net recv)", &receive, false, Some(home))?;
    let ticket = super::transfer::ticket_of(&receiver.wait_for("receiving").await?)?;
    let upstream = *ticket
        .addresses
        .first()
        .ok_or_else(|| Failure::new(Code::Address, "the ticket has no address"))?;
    let proxy = Proxy::bind(ProxyConfig::loopback(upstream, SEED, bad_link()))
        .await
        .map_err(|error| Failure::new(Code::Start, format!("cannot start the proxy: {error}")))?;
    let through = Ticket::new(ticket.entity, ticket.fingerprint, vec![proxy.addr()]).to_string();
    let started = Instant::now();
    let mut sender = Child::start(
        "process A (net send)",
        &["send", &source_arg, &through],
        false,
        Some(home),
    )?;

    let killed_after = arrived(&target, total / 3).await?;
    receiver.kill().await?;
    let half_file = received.exists();
    say(
        out,
        format!("   killed -9 after {}; started again", bytes(killed_after)),
    );
    let mut receiver = Child::start("process B (net recv), again", &receive, false, Some(home))?;
    receiver.wait_for("receiving").await?;
    let sent: Sent = result(&mut sender).await?;
    receiver.end().await?;
    let seconds = started.elapsed().as_secs_f64();
    say(
        out,
        format!("   went on after {}, done in {seconds:.1} s", bytes(sent.bytes_resumed)),
    );
    Ok(Resume {
        bytes: total,
        killed_after,
        half_file,
        resumed_after: sent.bytes_resumed,
        sessions: sent.attempts,
        same: hash(&source).await? == hash(&received).await?,
        seconds,
    })
}

fn introduce(total: u64, out: Out) {
    say(
        out,
        format!(
            "
3. Files: net send and net recv, {} over the same bad network. A third of the way process B is killed -9
   and started again. Nothing half may have the file's name, and what arrived is not sent again.
",
            bytes(total)
        ),
    );
}

/// Copies the first `limit` bytes; if these are fewer than [`LEAST`], as often as it takes to have that many.
async fn copy(from: &Path, to: &Path, limit: u64) -> io::Result<u64> {
    let mut target = tokio::fs::File::create_new(to).await?;
    let mut copied = tokio::io::copy(&mut tokio::fs::File::open(from).await?.take(limit), &mut target).await?;
    if (1..LEAST).contains(&copied) {
        let short = tokio::fs::read(to).await?;
        let block = short.repeat((64 << 10) / short.len() + 1);
        while copied < LEAST {
            target.write_all(&block).await?;
            copied += block.len() as u64;
        }
    }
    target.flush().await?;
    Ok(copied)
}

/// Waits until so much of a file lies there in part, and answers how much.
async fn arrived(target: &Path, len: u64) -> Result<u64, Failure> {
    let folder = target.join(net_kernel::transfer::name::PARTIAL_FOLDER);
    let longest = || {
        let entries = std::fs::read_dir(&folder).ok()?;
        entries
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .max()
    };
    let looking = async {
        loop {
            match longest() {
                Some(there) if there >= len => return there,
                Some(_) | None => tokio::time::sleep(LOOK).await,
            }
        }
    };
    tokio::time::timeout(ARRIVAL_WAIT, looking)
        .await
        .map_err(|_| Failure::new(Code::Unproved, "a third of the file did not arrive in time"))
}

/// The result that a child prints, once it has ended well.
async fn result<T: for<'d> Deserialize<'d>>(child: &mut Child) -> Result<T, Failure> {
    let mut text = String::new();
    if let Some(stdout) = &mut child.stdout {
        let read = stdout.read_to_string(&mut text).await;
        read.map_err(|error| Failure::stdio("read what a process printed", &error))?;
    }
    child.end().await?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(Code::Unproved, format!("a result cannot be read: {error}")))
}

async fn hash(path: &Path) -> Result<blake3::Hash, Failure> {
    let mut hasher = blake3::Hasher::new();
    let bytes = tokio::fs::read(path).await;
    hasher.update(&bytes.map_err(|error| Failure::file("read", path, &error))?);
    Ok(hasher.finalize())
}
