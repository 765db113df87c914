//! `lanes`: bulk over four sessions of one node, with one lane and with several.
//!
//! Invariants: contenders take turns within each round; figures are medians over rounds, of time as the clock on the wall has it.
//! Not here: one lane against its cipher (`lane`).

use clap::Parser;
use net_benches::kernel::star::{PEERS, Star};
use net_io_real::aead::Ring;
use net_kernel::api::SessionConfig;
use std::time::Duration;

/// Measures what a second processor adds to a node with four busy sessions.
#[derive(Parser)]
struct Arguments {
    /// Interleaved rounds; figures are medians over them
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Lanes to compare with one
    #[arg(long, default_value_t = 2)]
    lanes: u8,
    /// Megabytes of each figure in each round
    #[arg(long, default_value_t = 64)]
    megabytes: u64,
    /// How long helpers look for work between turns before they sleep, in microseconds. Here a long time passes between turns, in
    /// which the other kernels run; in a busy node the next batch follows at once
    #[arg(long, default_value_t = 200)]
    look: u64,
    /// Only rows whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

struct Row {
    name: &'static str,
    aes: bool,
    outwards: bool,
    /// With one lane and with several: megabytes per second.
    rates: [Vec<f64>; 2],
}

fn main() {
    let arguments = Arguments::parse();
    let row = |name, aes, outwards| Row {
        name,
        aes,
        outwards,
        rates: [Vec::new(), Vec::new()],
    };
    let mut rows = vec![
        row("received, ChaCha20-Poly1305", false, false),
        row("sent, ChaCha20-Poly1305", false, true),
        row("received, AES-256-GCM", true, false),
        row("sent, AES-256-GCM", true, true),
    ];
    rows.retain(|row| row.name.contains(&arguments.only));
    let counts = [1, arguments.lanes];
    let mut stars = [false, true].map(|aes| counts.map(|lanes| star(aes, lanes, arguments.look)));
    for round in 0..=arguments.rounds {
        for row in &mut rows {
            for turn in 0..2 {
                let which = (turn + round) % 2;
                let bytes = arguments.megabytes * 1_000_000;
                let spent = stars[usize::from(row.aes)][which].bulk(row.outwards, bytes);
                // The first round warms up.
                if round > 0 {
                    row.rates[which].push(bytes as f64 / spent.as_secs_f64() / 1e6);
                }
            }
        }
    }
    println!(
        "{PEERS} sessions, MB/s of the node's turns       1 lane           {} lanes",
        arguments.lanes
    );
    for row in &mut rows {
        let [one, many] = row.rates.each_mut().map(|rates| summary(rates));
        println!(
            "{:<34} {:>7.0} [{:.0} .. {:.0}] {:>7.0} [{:.0} .. {:.0}]   {:.2} x",
            row.name,
            one.1,
            one.0,
            one.2,
            many.1,
            many.0,
            many.2,
            many.1 / one.1
        );
    }
}

fn star(aes: bool, lanes: u8, look: u64) -> Star<Ring> {
    let config = SessionConfig {
        aes,
        ..SessionConfig::default()
    };
    Star::new(&config, lanes, Duration::from_micros(look))
}

/// Least, median and most.
fn summary(rates: &mut [f64]) -> (f64, f64, f64) {
    rates.sort_by(f64::total_cmp);
    (rates[0], rates[rates.len() / 2], rates[rates.len() - 1])
}
