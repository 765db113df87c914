//! `links`: what congestion control makes of simulated links, ours and quinn-proto's side by side.
//!
//! Invariants: simulated time only, so that figures repeat on any machine. Not here: the cases and the loop (the library).

use clap::Parser;
use net_benches::contender::Failure;
use net_benches::links::case::{self, Kit};
use net_benches::links::figure::{Row, text};

/// Runs bulk streams over simulated links: goodput, waiting at the bottleneck, shares of competing flows.
#[derive(Parser)]
struct Arguments {
    /// Seeds of each line-up; figures are means over them
    #[arg(long, default_value_t = 30)]
    seeds: u64,
    /// Simulated seconds of a run; four times as long where flows compete
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only line-ups whose name contains this, and the reference
    #[arg(long, value_name = "TEXT")]
    who: Option<String>,
    /// Print what each sender counted
    #[arg(long)]
    counts: bool,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let mut kit = Kit::default();
    println!(
        "{} seeds of {} s (four times as long where flows compete)",
        arguments.seeds, arguments.seconds
    );
    let wanted = |text: &str, part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part.as_str()));
    for case in case::all() {
        if !wanted(case.name, &arguments.only) {
            continue;
        }
        let mut rows = Vec::new();
        for (index, line_up) in case.line_ups.iter().enumerate() {
            if index > 0 && !wanted(&line_up.name, &arguments.who) {
                continue;
            }
            let samples: Result<Vec<_>, _> = (1..=arguments.seeds)
                .map(|seed| case::sample(&case, line_up, seed, arguments.seconds, &mut kit, arguments.counts))
                .collect();
            rows.push(Row {
                name: line_up.name.clone(),
                samples: samples?,
            });
        }
        println!("\n{}", text(case.name, &rows));
    }
    Ok(())
}
