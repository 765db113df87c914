//! `routes`: how long a relay looks for where a packet goes, by how many nodes it knows.
//!
//! Invariants: every lookup is of another label than the one before, so that nothing is found where it lay a moment ago.
//! Not here: instruction counts (`gate`).

use clap::Parser;
use net_benches::kernel::table::known;
use net_kernel::base::NodeId;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;

/// Measures the lookup of a label's next hop.
#[derive(Parser)]
struct Arguments {
    /// Rounds; figures are medians over them
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Nodes known
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    nodes: Vec<u64>,
}

/// Lookups of a round.
const LOOKUPS: usize = 2_000_000;

fn main() {
    let arguments = Arguments::parse();
    println!("nanoseconds per lookup           median      least       most");
    for &nodes in &arguments.nodes {
        let (routes, labels) = known(nodes.max(1));
        report(
            &format!("{nodes} nodes: next hop"),
            arguments.rounds,
            &labels,
            |label| routes.next_hop(label).map_or(0, |session| session.0),
        );
        report(
            &format!("{nodes} nodes: node and all next hops"),
            arguments.rounds,
            &labels,
            |label| {
                let node = routes.by_label(label).map_or(0, |node| u64::from(node.0[8]));
                node + routes.next_hops(label).iter().map(|session| session.0).sum::<u64>()
            },
        );
    }
}

fn report(name: &str, rounds: usize, labels: &[NodeId], look: impl Fn(NodeId) -> u64) {
    let mut samples: Vec<f64> = (0..rounds.max(1))
        .map(|_| {
            let before = processor_ns();
            let mut sum = 0;
            for label in labels.iter().cycle().take(LOOKUPS) {
                sum += look(black_box(*label));
            }
            black_box(sum);
            (processor_ns() - before) as f64 / LOOKUPS as f64
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    let (median, least, most) = (samples[samples.len() / 2], samples[0], samples[samples.len() - 1]);
    println!("{name:<40} {median:>6.1} {least:>10.1} {most:>10.1}");
}

fn processor_ns() -> u64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
