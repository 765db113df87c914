//! A file from one process to another over real UDP, through a proxy that treats datagrams badly; midway one side's
//! address changes and the keys are replaced.
//!
//! Invariants: the last bytes are held back until both happened, so that both happen while data is under way, however
//! short the file; every figure is counted where it arises.
//! Not here: what the figures prove (`report.rs`).

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use net_io_real::Ticket;
use net_io_sim::proxy::{Proxy, ProxyConfig, ProxyStats};
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch;

use super::child::Child;
use super::{bad_link, say};
use crate::error::{Code, Failure};
use crate::output::{Out, bytes};
use crate::pipe::Done;
use crate::progress::Progress;
use crate::signals::Signals;

/// Fates of datagrams follow from this and their numbers.
const SEED: u64 = 1;
/// How long the address change and the rekey may take to show.
const MIDWAY_WAIT: Duration = Duration::from_secs(20);
/// Bytes held back until both were seen.
const HELD_BACK: u64 = 4096;
const CHUNK: usize = 64 << 10;
const BAR: &str = "  [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec}  {msg}";

/// What came of it.
pub struct Transfer {
    pub file: String,
    pub bytes: u64,
    pub sent_hash: blake3::Hash,
    pub received_hash: blake3::Hash,
    pub received_bytes: u64,
    pub seconds: f64,
    /// What process A counted, which sent.
    pub sender: Done,
    /// What process B counted, which received.
    pub receiver: Done,
    pub proxy: ProxyStats,
}

/// Runs it.
pub async fn run(path: &Path, is_own: bool, limit: u64, signals: &mut Signals, out: Out) -> Result<Transfer, Failure> {
    let failed = |error| Failure::file("read", path, &error);
    let file = File::open(path).await.map_err(failed)?;
    let length = file.metadata().await.map_err(failed)?.len();
    let total = length.min(limit);
    if total == 0 {
        let message = format!("{} is empty: there is nothing to send", path.display());
        return Err(Failure::new(Code::Usage, message));
    }
    signals
        .or(Box::pin(between(path, file, (total, length), is_own, out)))
        .await?
}

async fn between(
    path: &Path,
    file: File,
    (total, length): (u64, u64),
    is_own: bool,
    out: Out,
) -> Result<Transfer, Failure> {
    let mut b = Child::start(
        "process B (net listen)",
        &["listen", "--ephemeral", "--bind", "127.0.0.1"],
        false,
        None,
    )?;
    let ticket = ticket_of(&b.wait_for("listening").await?)?;
    let upstream = *ticket
        .addresses
        .first()
        .ok_or_else(|| Failure::new(Code::Address, "the ticket has no address"))?;
    let proxy = Proxy::bind(ProxyConfig::loopback(upstream, SEED, bad_link()))
        .await
        .map_err(|error| Failure::new(Code::Start, format!("cannot start the proxy: {error}")))?;
    introduce(path, (total, length), is_own, [proxy.addr(), upstream], out);
    // The ticket of B, but through the proxy.
    let through = Ticket::new(ticket.entity, ticket.fingerprint, vec![proxy.addr()]).to_string();
    let rekey_at = (total.saturating_sub(HELD_BACK) * 2 / 5).to_string();
    let args = ["connect", &through, "--sample", "50", "--rekey-at", &rekey_at];
    let mut a = Child::start("process A (net connect)", &args, true, None)?;
    a.wait_for("connected").await?;
    b.wait_for("connected").await?;

    let started = Instant::now();
    let (Some(stdin), Some(stdout)) = (a.stdin.take(), b.stdout.take()) else {
        return Err(Failure::new(Code::Io, "a child has no pipes"));
    };
    let (midway, seen) = watch::channel(Midway::default());
    let (sent_hash, (received_hash, received_bytes), sender, receiver) = tokio::try_join!(
        feed(file.take(total), stdin, total, seen),
        receive(stdout, total, &proxy, out),
        follow(&mut a, &midway),
        follow(&mut b, &midway),
    )?;
    let seconds = started.elapsed().as_secs_f64();
    a.end().await?;
    b.end().await?;
    Ok(Transfer {
        file: path.display().to_string(),
        bytes: total,
        sent_hash,
        received_hash,
        received_bytes,
        seconds,
        sender,
        receiver,
        proxy: proxy.stats(),
    })
}

/// The ticket in what a host says.
pub fn ticket_of(event: &Value) -> Result<Ticket, Failure> {
    let text = event["ticket"].as_str().unwrap_or_default();
    Ticket::parse(text).map_err(|error| Failure::ticket(&error))
}

fn introduce(path: &Path, (total, length): (u64, u64), is_own: bool, [proxy, b]: [SocketAddr; 2], out: Out) {
    let what = if is_own {
        "this program's own binary"
    } else {
        "the file"
    };
    let part = if total < length {
        format!(", the first {}", bytes(total))
    } else {
        String::new()
    };
    say(
        out,
        format!(
            "
2. A link: {what} goes from one process to another.

   process A                    proxy in this process               process B
   net connect  ---- UDP --->   loses 5 %, delays 1-3 ms,   --->    net listen
                <--- UDP ----   reorders 3 %, doubles 2 %   <---
   any port                     {proxy:<25}           {b}

   Midway the proxy moves to another port, so that B sees A at a new address,
   and A replaces the session's keys. Nothing may be lost.

   file: {} ({}{part})
",
            path.display(),
            bytes(length),
        ),
    );
}

/// What must have happened before the last bytes leave.
#[derive(Clone, Copy, Default)]
struct Midway {
    moved: bool,
    rekeyed: bool,
}

/// The file into process A. Answers its hash.
async fn feed(
    mut file: impl AsyncRead + Unpin,
    mut stdin: ChildStdin,
    total: u64,
    mut midway: watch::Receiver<Midway>,
) -> Result<blake3::Hash, Failure> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut left = total;
    while left > 0 {
        // All but the last bytes at first.
        let free = if left > HELD_BACK { left - HELD_BACK } else { left };
        if left <= HELD_BACK {
            // What does not happen in time is missing from the report; the transfer ends in any case.
            let both = midway.wait_for(|midway| midway.moved && midway.rekeyed);
            let _ = tokio::time::timeout(MIDWAY_WAIT, both).await;
        }
        let want = usize::try_from(free).unwrap_or(CHUNK).min(CHUNK);
        let read = file.read(&mut buffer[..want]).await;
        let read = read.map_err(|error| Failure::stdio("read the file", &error))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        let written = stdin.write_all(&buffer[..read]).await;
        written.map_err(|error| Failure::new(Code::Unproved, format!("process A takes no more: {error}")))?;
        left -= read as u64;
    }
    Ok(hasher.finalize())
}

/// What process B prints. Answers its hash and length. Half-way the address changes.
async fn receive(mut stdout: ChildStdout, total: u64, proxy: &Proxy, out: Out) -> Result<(blake3::Hash, u64), Failure> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 4 * CHUNK];
    let mut received = 0;
    let mut progress = Progress::new(out, total, BAR);
    let half = total.saturating_sub(HELD_BACK) / 2;
    let mut moved = false;
    loop {
        if received >= half && !moved {
            moved = true;
            let changed = proxy.change_source().await;
            let address = changed.map_err(|error| Failure::stdio("change the proxy's address", &error))?;
            progress.say(&format!("        address changed: B now sees A at {address}"));
        }
        let read = stdout.read(&mut buffer).await;
        let read = read.map_err(|error| Failure::stdio("read what process B received", &error))?;
        if read == 0 {
            return Ok((hasher.finalize(), received));
        }
        hasher.update(&buffer[..read]);
        received += read as u64;
        let stats = proxy.stats();
        progress.at(received, || {
            let (lost, late, doubled) = (stats.dropped(), stats.reordered(), stats.duplicated());
            format!("{lost} lost, {late} reordered, {doubled} doubled")
        });
    }
}

/// Notes what a child says until its summary.
async fn follow(child: &mut Child, midway: &watch::Sender<Midway>) -> Result<Done, Failure> {
    while let Some(event) = child.event().await? {
        match event["kind"].as_str() {
            Some("moved") => midway.send_modify(|midway| midway.moved = true),
            Some("rekeyed") => midway.send_modify(|midway| midway.rekeyed = true),
            Some("done") => {
                return serde_json::from_value(event)
                    .map_err(|error| Failure::new(Code::Unproved, format!("a summary cannot be read: {error}")));
            }
            Some(_) | None => {}
        }
    }
    Err(Failure::new(Code::Unproved, "a process ended without its summary"))
}
