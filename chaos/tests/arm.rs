//! The arm `real` as its users run it: real processes, killed, stopped and cut off, and what their applications were told.
//!
//! Nothing here waits for a time: a run ends when its scenario says so, and every wait in it has a deadline of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use net_io_sim::arm::ArmReport;
use net_io_sim::run::Verdict;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the tree")
        .to_owned()
}

fn chaos(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_net-chaos"));
    command.arg("run").arg("--tied").args(args).current_dir(root());
    command.output().expect("the built program runs")
}

/// One run that must pass, with everything told whole.
#[track_caller]
fn passes(scenario: &str, seed: u64) -> ArmReport {
    let file = format!("scenarios/real/{scenario}.toml");
    let output = chaos(&[&file, "--json", "--seed", &seed.to_string()]);
    let words = String::from_utf8_lossy(&output.stderr);
    let report: ArmReport =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(report.verdict, Verdict::Pass, "{report:?}\n{words}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((report.arm.as_str(), report.seed), ("real", seed));
    for stream in &report.history {
        assert!(stream.finished && stream.messages > 0, "{stream:?}");
    }
    report
}

/// A program of another package, built where it is missing: `cargo test --workspace` has built it before.
fn program(package: &str, name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_net-chaos")).with_file_name(name);
    if !beside.is_file() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", package, "--bin", name])
            .current_dir(root())
            .status()
            .expect("cargo runs");
        assert!(built.success());
    }
    beside
}

#[test]
fn loss_and_copies_change_nothing_that_is_told() {
    let report = passes("loss-and-dup", 5);
    let told: Vec<_> = report
        .history
        .iter()
        .map(|stream| (stream.from.as_str(), stream.messages))
        .collect();
    assert_eq!(told, [("a", 300), ("b", 300), ("b", 100)]);
    assert!(report.metrics.handshake.count > 0 && report.metrics.rtt.count > 0);
}

#[test]
fn what_is_killed_and_started_again_goes_on_where_it_was() {
    let report = passes("crash-resume", 1);
    assert!(report.history.iter().all(|stream| stream.messages == 300));
    assert!(report.unable.is_empty(), "{:?}", report.unable);
}

#[test]
fn a_process_that_stands_still_keeps_its_session() {
    assert!(passes("pause", 1).history.iter().all(|stream| stream.messages == 200));
}

#[test]
fn machines_that_were_cut_off_find_each_other_again() {
    assert_eq!(passes("partition", 1).history.len(), 4);
}

#[test]
fn damage_bottlenecks_and_new_addresses_are_survived() {
    passes("rough-road", 1);
}

#[test]
fn garbage_at_the_port_does_no_harm() {
    passes("garbage", 1);
}

#[test]
fn net_listen_killed_in_mid_transfer_is_started_again_and_the_transfer_goes_on() {
    program("net-cli", "net");
    let report = passes("net-listen-killed", 1);
    assert_eq!(report.history[0].messages, 200);
}

#[test]
fn net_ping_and_net_connect_outlive_kills_of_the_listener_and_of_themselves() {
    program("net-cli", "net");
    assert_eq!(passes("net-ping", 1).history[0].messages, 150);
}

#[test]
fn files_arrive_whole_whichever_side_is_killed_at_some_datagram() {
    program("net-cli", "net");
    passes("file-killed-receiver", 1);
    passes("file-killed-sender", 1);
}

#[test]
fn files_arrive_over_a_rough_road_and_under_harmless_names() {
    program("net-cli", "net");
    passes("file-rough-road", 1);
    passes("file-names", 1);
}

#[test]
fn a_full_disk_ends_no_transfer_for_good_where_one_can_be_made() {
    program("net-cli", "net");
    let file = "scenarios/real/file-disk-full.toml";
    let run = |path: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_net-chaos"));
        command
            .args(["run", "--tied", file, "--json", "--seed", "1"])
            .current_dir(root());
        path.map(|path| command.env("PATH", path));
        let output = command.output().expect("the built program runs");
        let report: ArmReport = serde_json::from_slice(&output.stdout).expect("a report");
        assert_eq!(report.verdict, Verdict::Pass, "{report:?}");
        report.unable
    };
    run(None);
    // Where nobody can mount, that is said, and the rest is done.
    let unable = run(Some("")).join("\n");
    assert!(
        unable.contains("receiver: this host") && unable.contains("expect: "),
        "{unable}"
    );
}

#[test]
fn the_world_and_real_processes_tell_the_same_history() {
    let netsim = program("net-io-sim", "netsim");
    let output = Command::new(netsim)
        .args(["compare", "scenarios/real/loss-and-dup.toml", "--arms", "des,real"])
        .args(["--seed", "2", "--json"])
        .env("NET_CHAOS", env!("CARGO_BIN_EXE_net-chaos"))
        .current_dir(root())
        .output()
        .expect("it was built");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let comparison: serde_json::Value = serde_json::from_str(&text).expect("one object");
    assert_eq!(comparison["equal"], true);
    let arms: Vec<_> = comparison["reports"].as_array().expect("a list").iter().collect();
    assert_eq!(arms.len(), 2);
    assert_eq!(arms[0]["history"], arms[1]["history"]);
    assert_ne!(arms[0]["history"], serde_json::json!([]));
}

/// Runs a scenario of the test's own.
fn written(text: &str) -> (Output, ArmReport) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("s.toml");
    std::fs::write(&file, text).expect("it is writable");
    let output = chaos(&[file.to_str().expect("text"), "--json"]);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output, report)
}

#[test]
fn a_stream_that_cannot_complete_fails_the_run_and_says_how_far_it_came() {
    let (output, report) = written(
        "schema = 1\nname = \"cut\"\nduration = \"1s\"\n[topology]\nnodes = [ { id = \"a\" }, { id = \"b\" } ]\n\
         [topology.default_link]\ndelay = \"10s\"\n[[workload]]\nkind = \"stream\"\nid = \"ab\"\nfrom = \"a\"\nto = \"b\"\n\
         count = 3\n[liveness]\nwithin = \"100ms\"\n",
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        (report.verdict, report.checker.as_deref()),
        (Verdict::Fail, Some("liveness"))
    );
    assert!(report.failure.expect("a sentence").contains("ab/0: 0 of 3 messages"));
}

#[test]
fn what_real_processes_cannot_do_is_said() {
    let (output, report) = written(
        "schema = 1\nname = \"unable\"\nduration = \"1s\"\n[topology]\nnodes = [ { id = \"a\", drift_ppb = 5 }, { id = \"b\" } ]\n\
         [[workload]]\nkind = \"stream\"\nid = \"ab\"\nfrom = \"a\"\nto = \"b\"\ncount = 3\n\
         [[fault]]\nkind = \"clock_jump\"\nid = \"jump\"\nnode = \"a\"\nby = \"1h\"\nat = \"1ms\"\n",
    );
    assert_eq!(output.status.code(), Some(0), "{report:?}");
    let unable = report.unable.join("\n");
    assert!(
        unable.contains("a: ") && unable.contains("jump: ") && unable.contains("clocks"),
        "{unable}"
    );
}

#[test]
fn bad_input_is_a_harness_error_with_file_and_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("typo.toml");
    std::fs::write(&file, "schema = 1\nname = \"t\"\nduratoin = \"1s\"\n").expect("it is writable");
    let output = chaos(&[file.to_str().expect("text")]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{words}");
    assert!(words.contains("typo.toml:") && output.stdout.is_empty(), "{words}");
}
