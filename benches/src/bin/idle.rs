//! `idle`: what sessions cost that nobody uses, and how long it takes until many peers are in.
//!
//! Invariants: one node in a process of its own, measured from its own process accounts; every session comes from another node
//! with a socket of its own. Not here: sessions that carry data (`loopback`).

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use net_benches::contender::Failure;
use net_benches::process::{Peer, attend};
use net_io_real::{Builder, MeshConfig, Node, Session, Ticket};
use rustix::time::{ClockId, clock_gettime};

/// What the handshakes left to do (confirms, first probes of the path) takes no longer.
const SETTLING: Duration = Duration::from_secs(5);

/// Opens sessions from as many nodes to one node in another process, and watches that process while they are idle.
#[derive(Parser)]
struct Arguments {
    /// Sessions
    #[arg(long, default_value_t = 1_000)]
    sessions: usize,
    /// Seconds to watch
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// All are nodes of a mesh, with its default settings
    #[arg(long)]
    mesh: bool,
    #[arg(hide = true)]
    serve: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.serve.is_empty() {
        measure(&arguments)
    } else {
        serve(arguments.mesh)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the measured process tells: processor time in microseconds, memory in KiB, voluntary context switches.
fn accounts() -> Vec<u64> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let switches: u64 = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .map(|status| field(&status, "voluntary_ctxt_switches:"))
        .sum();
    let micros = time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1_000;
    vec![micros, field(&status, "VmRSS:"), switches]
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// A node on loopback, of a mesh or not.
fn builder(mesh: bool) -> Builder {
    let builder = Node::builder().ephemeral().address(([127, 0, 0, 1], 0).into());
    if !mesh {
        return builder;
    }
    builder.mesh(MeshConfig {
        relays: Some(true),
        ..MeshConfig::default()
    })
}

fn serve(mesh: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = builder(mesh).bind().await?;
        attend(node.local_addr(), &node.ticket().to_string(), accounts);
        let mut sessions: Vec<Session> = Vec::new();
        while let Some(session) = node.accept().await {
            sessions.push(session);
        }
        Ok(())
    })
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let mut peer = Peer::spawn(if arguments.mesh { &["--mesh"] } else { &[] })?;
    let ticket = Ticket::parse(&peer.extra)?;
    let ticket = Ticket::new(ticket.entity, ticket.fingerprint, vec![peer.addr]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let empty = peer.report()?;
    let begun = Instant::now();
    let held = runtime.block_on(join(arguments.sessions, &ticket, arguments.mesh))?;
    let joined = begun.elapsed();
    runtime.block_on(async { tokio::time::sleep(SETTLING).await });
    let before = peer.report()?;
    runtime.block_on(async { tokio::time::sleep(Duration::from_secs(arguments.seconds)).await });
    let after = peer.report()?;
    let (count, seconds) = (arguments.sessions as f64, arguments.seconds as f64);
    let memory = after[1].saturating_sub(empty[1]) as f64;
    let processor = (after[0] - before[0]) as f64 / 1e6 / seconds;
    let wakes = (after[2] - before[2]) as f64 / seconds;
    println!("{} sessions were up after {:.2} s", held.len(), joined.as_secs_f64());
    println!(
        "memory: {:.1} MiB for all, {:.1} KiB each",
        memory / 1024.0,
        memory / count
    );
    println!(
        "idle: {:.2} % of a core, {wakes:.0} wake-ups per second, {:.3} each",
        processor * 100.0,
        wakes / count
    );
    Ok(())
}

async fn join(count: usize, ticket: &Ticket, mesh: bool) -> Result<Vec<(Node, Session)>, Failure> {
    let mut dials = tokio::task::JoinSet::new();
    for _ in 0..count {
        let ticket = ticket.clone();
        dials.spawn(async move {
            let node = builder(mesh).bind().await?;
            let session = node.connect(&ticket).await?;
            Ok::<_, Failure>((node, session))
        });
    }
    let mut held = Vec::new();
    while let Some(dialled) = dials.join_next().await {
        held.push(dialled??);
    }
    Ok(held)
}
