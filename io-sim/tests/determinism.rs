//! A seed replays everything: in one process and in two, alone and among others, in this build and in any other.

use std::path::PathBuf;
use std::process::Command;

use net_io_sim::kernel::{ClearKernel, RealKernel};
use net_io_sim::run::{Spec, Task, Verdict, run, run_all, run_traced, run_twice};

fn scenarios() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

fn spec(name: &str) -> Spec {
    let file = scenarios().join(name);
    let text = std::fs::read_to_string(&file).expect("the scenario is part of the tree");
    Spec::new(file.display().to_string(), text).expect("a correct scenario")
}

#[test]
fn two_runs_in_one_process_are_the_same_under_both_ciphers() {
    for seed in 0..4 {
        let swarm = spec("swarm.toml");
        let (clear, real) = (
            run_twice::<ClearKernel>(&swarm, seed),
            run_twice::<RealKernel>(&swarm, seed),
        );
        assert_ne!(clear.verdict, Verdict::NotDeterministic, "{:?}", clear.failure);
        assert_ne!(real.verdict, Verdict::NotDeterministic, "{:?}", real.failure);
        assert_ne!(clear.digest, real.digest, "the cipher shows in what is sent");
    }
}

#[test]
fn another_process_comes_to_the_same_digests() {
    // Another process has other addresses, other hasher seeds and another allocator state.
    let file = scenarios().join("swarm.toml");
    let program = env!("CARGO_BIN_EXE_netsim");
    let output = Command::new(program)
        .args(["run", "--json", "--seeds", "0..2"])
        .arg(&file)
        .output()
        .expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("JSON is text");
    let told: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("one object per line"))
        .map(|object| object["digest"].as_str().unwrap_or_default().to_owned())
        .collect();
    let here: Vec<String> = (0..3)
        .map(|seed| run::<ClearKernel>(&spec("swarm.toml"), seed).digest)
        .collect();
    assert_eq!(told, here);
}

#[test]
fn one_thread_or_many_makes_no_difference() {
    let specs = [spec("swarm.toml"), spec("simultaneous-rekey.toml")];
    let tasks: Vec<Task> = (0..2)
        .flat_map(|spec| (0..4).map(move |seed| Task { spec, seed }))
        .collect();
    let digests = |jobs| {
        let mut all = Vec::new();
        run_all::<ClearKernel>(&specs, &tasks, jobs, false, |report| {
            all.push((report.scenario, report.seed, report.digest));
            true
        });
        all
    };
    let one = digests(1);
    assert_eq!(one.len(), 8);
    assert_eq!(one, digests(4));
}

#[test]
fn a_resolved_scenario_replays_the_run_it_was_printed_for() {
    let swarm = spec("swarm.toml");
    for seed in [3, 11] {
        let text = net_io_sim::scenario::resolve(&swarm.file, &swarm.text, seed).expect("it resolves");
        let literal = Spec::new("resolved.toml", text).expect("a resolved scenario is a scenario");
        assert_eq!(literal.scenario.seed, Some(seed));
        assert_eq!(
            run::<ClearKernel>(&literal, seed).digest,
            run::<ClearKernel>(&swarm, seed).digest
        );
    }
}

#[test]
fn removing_a_fault_from_a_resolved_scenario_leaves_what_came_before_it_as_it_was() {
    let text = r#"
schema = 1
name = "cut"
duration = "6s"
[topology]
nodes = [ { id = "a" }, { id = "b" } ]
[topology.default_link]
delay = "10ms"
loss = 0.1
[[workload]]
kind = "stream"
from = "a"
to = "b"
rate = "100/s"
count = 400
[[fault]]
kind = "partition"
at = "5s"
for = "100ms"
"#;
    let with = Spec::new("with", text).expect("a scenario");
    let without = Spec::new("without", text.split("[[fault]]").next().expect("before it")).expect("a scenario");
    let (with, without) = (run::<ClearKernel>(&with, 9), run::<ClearKernel>(&without, 9));
    // The messages are through before the partition begins, and losses hit the same datagrams.
    for counter in ["delivery.count", "delivery.p99", "delivery.max"] {
        assert_eq!(with.counters[counter], without.counters[counter], "{counter}");
    }
}

#[test]
fn a_recorded_run_is_the_run_it_records() {
    let clone = spec("clone.toml");
    let (report, processes) = run_traced::<ClearKernel>(&clone, 5, 500).expect("a correct scenario");
    assert_eq!(
        report.digest,
        run::<ClearKernel>(&clone, 5).digest,
        "recording changes nothing"
    );
    assert!(processes.len() >= 2, "every process is there");
    assert!(
        processes
            .iter()
            .all(|process| !process.records.is_empty() && process.records.len() <= 500)
    );
}
