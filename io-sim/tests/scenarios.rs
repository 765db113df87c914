//! Every scenario of the tree holds for its first seeds, and the properties of THREATS that concern sessions hold by name.

use std::path::{Path, PathBuf};

use net_io_sim::kernel::{ClearKernel, RealKernel};
use net_io_sim::run::{Report, Spec, Task, Verdict, run, run_all};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

fn spec(name: &str) -> Spec {
    let file = folder().join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&file).expect("the scenario is part of the tree");
    Spec::new(file.display().to_string(), text).expect("a correct scenario")
}

fn all() -> Vec<Spec> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder is part of the tree")
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .filter(|name| folder().join(format!("{name}.toml")).is_file())
        .collect();
    names.sort();
    names.iter().map(|name| spec(name)).collect()
}

fn explain(report: &Report) -> String {
    format!(
        "{} seed {}: {:?}: {:?}",
        report.scenario, report.seed, report.checker, report.failure
    )
}

fn passes(report: Report) -> Report {
    assert_eq!(report.verdict, Verdict::Pass, "{}", explain(&report));
    report
}

fn clear(name: &str, seed: u64) -> Report {
    passes(run::<ClearKernel>(&spec(name), seed))
}

#[test]
fn every_bug_that_was_fixed_stays_fixed() {
    let entries = std::fs::read_dir(folder().join("regressions")).expect("the folder is part of the tree");
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name");
        for seed in 0..5 {
            clear(&format!("regressions/{name}"), seed);
        }
    }
}

#[test]
fn every_scenario_holds_under_the_clear_cipher() {
    let specs = all();
    let tasks: Vec<Task> = (0..specs.len())
        .flat_map(|spec| (0..2).map(move |seed| Task { spec, seed }))
        .collect();
    let mut failed = Vec::new();
    run_all::<ClearKernel>(&specs, &tasks, 2, false, |report| {
        if report.verdict != Verdict::Pass {
            failed.push(explain(&report));
        }
        true
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn no_plaintext_is_seen_on_a_link_under_the_real_cipher() {
    // The canary checker is part of every run under the real cipher.
    for name in [
        "swarm",
        "simultaneous-rekey",
        "unreliable-unordered",
        "roaming-both",
        "corrupted-race",
    ] {
        for seed in 0..2 {
            passes(run::<RealKernel>(&spec(name), seed));
        }
    }
}

#[test]
fn a_message_of_16_mib_arrives_byte_for_byte_under_loss_reordering_and_duplication() {
    let report = clear("message-16mib-rough", 1);
    assert_eq!(report.counters["delivered_bytes"], 16 << 20);
}

#[test]
fn flow_control_never_deadlocks_and_a_stopped_reader_stops_nobody_else() {
    for seed in 0..10 {
        clear("flow-control", seed);
    }
}

#[test]
fn garbage_changes_no_state() {
    let report = clear("garbage-flood", 0);
    assert_eq!(report.counters["connected"], 2);
    let refused: u64 = report
        .counters
        .iter()
        .filter(|(name, _)| name.starts_with("drop."))
        .map(|(_, count)| count)
        .sum();
    // One in 1,453 is empty: nothing to refuse.
    assert!(refused >= 99_800, "every one is counted: {refused}");
}

#[test]
fn a_handshake_flood_is_bounded_in_work_and_the_established_stream_keeps_its_pace() {
    let report = clear("handshake-flood", 0);
    let flood = report.counters["adversary.handshake_flood-0"];
    assert!(
        report.counters["jobs"] < flood * 6 / 10,
        "{} jobs for {flood} messages",
        report.counters["jobs"]
    );
    assert!(report.counters["delivery.steady.p99"] < 30_000_000);
    assert!(report.counters["delivery.newcomer.count"] >= 20, "a newcomer gets in");
}

#[test]
fn a_replayed_first_message_never_disturbs_a_live_session() {
    for seed in 0..3 {
        let report = clear("replay-reflect", seed);
        assert!(report.counters["adversary.replay-first"] > 0);
        assert_eq!(report.counters["connected"], 2);
    }
}

#[test]
fn a_corrupted_copy_that_wins_the_race_never_costs_the_genuine_packet() {
    for seed in 0..3 {
        clear("corrupted-race", seed);
    }
}

#[test]
fn roaming_survives_a_forwarder_that_races() {
    for seed in 0..5 {
        clear("roaming-forwarder", seed);
    }
}

#[test]
fn both_dialling_and_rekeying_at_once_settles_and_loses_nothing() {
    for seed in 0..10 {
        clear("simultaneous-dial", seed);
        clear("simultaneous-rekey", seed);
    }
}

#[test]
fn nonces_and_ephemerals_never_repeat_across_crashes_restarts_and_clones() {
    for seed in 0..20 {
        clear("crash-restart", seed);
        clear("clone", seed);
    }
}

#[test]
fn a_lying_member_harms_only_its_own_sessions() {
    for seed in 0..5 {
        clear("malicious-member", seed);
    }
}

#[test]
fn swarm_of_faults() {
    for seed in 0..10 {
        clear("swarm", seed);
    }
}

#[test]
fn stolen_memory_opens_nothing_sealed_under_keys_replaced_before() {
    for seed in 0..3 {
        for report in [
            run::<RealKernel>(&spec("revealed"), seed),
            run::<ClearKernel>(&spec("revealed"), seed),
        ] {
            let report = passes(report);
            assert!(report.counters["adversary.thief-a"] > 0, "what lives is the thief's");
            assert!(report.counters["reveal.past"] > 0, "the rest was tried");
        }
    }
}

#[test]
fn spliced_packets_are_refused_under_both_ciphers() {
    for seed in 0..2 {
        passes(run::<RealKernel>(&spec("splice"), seed));
        clear("splice", seed);
    }
}

#[test]
fn a_crash_in_the_middle_of_a_write_leaves_it_kept_lost_or_torn_and_each_is_met() {
    let mut met = [0; 3];
    for seed in 0..12 {
        let report = clear("crash-at-store", seed);
        for (sum, name) in met.iter_mut().zip(["disk.kept", "disk.lost", "disk.torn"]) {
            *sum += report.counters[name];
        }
    }
    assert!(met.iter().all(|count| *count > 0), "{met:?}");
}

#[test]
fn what_could_not_have_recovered_is_told_from_what_is_stuck() {
    let text = std::fs::read_to_string(folder().join("disk-misdirected.toml")).expect("part of the tree");
    let fails = |text: &str| {
        let report = run::<ClearKernel>(&Spec::new("x.toml", text).expect("a correct scenario"), 1);
        assert_eq!(report.checker.as_deref(), Some("liveness"), "{}", explain(&report));
        report.failure.unwrap_or_default()
    };
    let text = text
        .replace("must_complete = false\n", "")
        .replace("core = [\"a\", \"b\"]\n", "")
        .replace("count = 400", "count = 900");
    let said = fails(&text);
    assert!(said.contains("could not have recovered: `c` does not run"), "{said}");
    let text = std::fs::read_to_string(folder().join("nat-dial-in.toml")).expect("part of the tree");
    let said = fails(&text.replace("must_complete = false\n", ""));
    assert!(said.contains("could not have recovered: the NAT box `shut`"), "{said}");
}
