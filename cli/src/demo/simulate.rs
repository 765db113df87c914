//! The same scenario in many simulated worlds, each by its seed.
//!
//! Invariants: the scenario is the file in `scenarios/`, so a failure is replayed by `netsim` with the same seed.
//! Not here: what a world is, what its checkers hold (`net-io-sim`).

use std::num::NonZero;
use std::time::Instant;

use net_io_sim::kernel::RealKernel;
use net_io_sim::run::{Spec, Task, Verdict, run_all};
use serde::Serialize;

use super::say;
use crate::error::{Code, Failure};
use crate::output::Out;
use crate::progress::Progress;

const FILE: &str = "scenarios/demo.toml";
const TEXT: &str = include_str!("../../../scenarios/demo.toml");
const BAR: &str = "  [{bar:30}] {pos}/{len} worlds  {msg}";

/// What came of it.
#[derive(Default, Serialize)]
pub struct Simulation {
    pub worlds: u64,
    pub passed: u64,
    pub datagrams: u64,
    pub lost: u64,
    pub rekeys: u64,
    pub address_changes: u64,
    pub simulated_seconds: f64,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Runs seeds 1 to `seeds`.
pub fn run(seeds: u64, out: Out) -> Result<Simulation, Failure> {
    let spec = Spec::new(FILE, TEXT).map_err(|error| Failure::new(Code::Unproved, error.to_string()))?;
    say(
        out,
        format!(
            "\n4. Simulation: the same kernel and the same scenario in {seeds} simulated worlds. Every loss, delay and\n   \
             moment of change follows from the world's seed; checkers watch order, completeness, keys and memory.\n"
        ),
    );
    let tasks: Vec<Task> = (1..=seeds).map(|seed| Task { spec: 0, seed }).collect();
    let jobs = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut progress = Progress::new(out, seeds, BAR);
    let started = Instant::now();
    let mut sum = Simulation::default();
    let mut simulated_ms = 0;
    run_all::<RealKernel>(std::slice::from_ref(&spec), &tasks, jobs, false, |report| {
        let count = |name: &str| report.counters.get(name).copied().unwrap_or(0);
        sum.worlds += 1;
        sum.passed += u64::from(report.verdict == Verdict::Pass);
        sum.datagrams += report.datagrams;
        sum.lost += count("link.loss");
        sum.rekeys += count("rekeyed");
        sum.address_changes += count("moved");
        simulated_ms += report.simulated_ms;
        if report.verdict != Verdict::Pass && sum.failure.is_none() {
            let what = report.failure.as_deref().unwrap_or("without words");
            let checker = report.checker.as_deref().unwrap_or("unknown");
            let seed = report.seed;
            sum.failure = Some(format!(
                "checker {checker}, {what}; replay it: netsim run {FILE} --seed {seed}"
            ));
        }
        progress.at(sum.worlds, || format!("{} passed", sum.passed));
        true
    });
    sum.simulated_seconds = simulated_ms as f64 / 1e3;
    sum.seconds = started.elapsed().as_secs_f64();
    Ok(sum)
}
