//! `discovery`: how long nodes of one host take to find each other by multicast, from the start of the first until each is
//! connected to all others.
//!
//! Invariants: every node has a socket, a state and an identity of its own and is told of nobody; each run has a network of its
//! own, so that none hears another. Not here: loss and attackers (`scenarios/discovery-*`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use net_benches::contender::Failure;
use net_io_real::api::Secret;
use net_io_real::{NetworkKey, Node};

/// A run in which somebody is not found by then has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts nodes on one segment, again and again, and tells how long they took to be connected, each to all.
#[derive(Parser)]
struct Arguments {
    /// Nodes
    #[arg(long, default_value_t = 10)]
    nodes: usize,
    /// Runs
    #[arg(long, default_value_t = 30)]
    runs: u8,
    /// The address nodes bind, with any port
    #[arg(long, default_value = "0.0.0.0:0")]
    address: SocketAddr,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut times = Vec::new();
    for run in 0..arguments.runs {
        times.push(runtime.block_on(once(arguments, run))?);
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    println!(
        "{} nodes, {} runs: all connected after {:.1} ms (median), {:.1} ms at least, {:.1} ms at most",
        arguments.nodes,
        times.len(),
        ms(at(50)),
        ms(at(0)),
        ms(at(100))
    );
    Ok(())
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

/// One run: nodes start, meet and end.
async fn once(arguments: &Arguments, run: u8) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut nodes = Vec::new();
    for _ in 0..arguments.nodes {
        let network = NetworkKey::from_bytes(Secret([run + 1; 32]));
        let builder = Node::builder().address(arguments.address).network(network);
        nodes.push(builder.multicast(true).bind().await?);
    }
    let mut held = Vec::new();
    for node in &nodes {
        let mut met = BTreeMap::new();
        while met.len() + 1 < arguments.nodes {
            let Some(session) = tokio::time::timeout(LIMIT, node.accept()).await? else {
                return Err("a node ended".into());
            };
            met.insert(session.peer(), session);
        }
        held.push(met);
    }
    let took = start.elapsed();
    drop(held);
    for node in nodes {
        node.close().await;
    }
    Ok(took)
}
