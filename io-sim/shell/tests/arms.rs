//! The arm `shell` beside the world: the same history, the same twice, and honest about what it cannot do.
//!
//! Invariants: runs under madsim are processes of their own. Not here: planted bugs (`planted.rs`).
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Output};

use net_io_sim::arm::{ArmReport, StreamHistory, run_des};
use net_io_sim::kernel::ClearKernel;
use net_io_sim::run::{Spec, Verdict};
use net_io_sim::scenario::WorkloadKind;
use net_kernel::wire::Reliability;
use net_sim_shell::run::{is_able, prepare};
use net_sim_shell::under_turmoil;

/// Everything this arm can do, in one scenario.
const ROUGH: &str = r#"
    schema = 1
    name = "rough"
    duration = "60s"
    [topology]
    nodes = [ { id = "a" }, { id = "b" }, { id = "c" } ]
    [topology.default_link]
    delay = { dist = "uniform", min = "5ms", max = "30ms" }
    loss = 0.05
    reorder = 0.05
    dup = 0.05
    corrupt = 0.01
    [[workload]]
    kind = "stream"
    id = "ab"
    from = "a"
    to = "b"
    count = 300
    rate = "50/s"
    size = [0, 3000]
    both = true
    resume = true
    [[workload]]
    kind = "stream"
    id = "cb"
    from = "c"
    to = "b"
    count = 40
    size = [1, 20000]
    streams = 2
    reliability = "unordered"
    [[workload]]
    kind = "echo"
    from = "c"
    to = "a"
    every = "500ms"
    count = 5
    [[workload]]
    kind = "rekey"
    from = "a"
    to = "b"
    at = "1s"
    every = "2s"
    count = 2
    [[fault]]
    kind = "partition"
    from = "a"
    both = true
    at = "2s"
    for = "1s"
    [[fault]]
    kind = "crash"
    node = "a"
    at = "4s"
    for = "500ms"
    [[fault]]
    kind = "rebind"
    node = "c"
    at = "1500ms"
    [[fault]]
    kind = "pause"
    node = "b"
    at = "6s"
    for = "300ms"
    [[fault]]
    kind = "clock_jump"
    node = "b"
    at = "3s"
    by = "3600s"
    [liveness]
    within = "60s"
"#;

fn under_turmoil(text: &str, seed: u64) -> ArmReport {
    let spec = Spec::new("rough.toml", text).expect("a good scenario");
    let prepared = prepare(&spec, seed).expect("a scenario for this arm");
    under_turmoil::run(&prepared).expect("tokio starts")
}

fn in_world(text: &str, seed: u64) -> ArmReport {
    run_des::<ClearKernel>(&Spec::new("rough.toml", text).expect("a good scenario"), seed)
}

fn program(text: &str, arguments: &[&str]) -> Output {
    let folder = std::env::temp_dir().join(format!("net-shell-{}-{}", std::process::id(), arguments.join("")));
    std::fs::create_dir_all(&folder).expect("a folder to write to");
    let file = folder.join("scenario.toml");
    std::fs::write(&file, text).expect("room for a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsim-shell"));
    let output = command
        .arg("run")
        .arg(&file)
        .args(arguments)
        .output()
        .expect("it was built");
    std::fs::remove_dir_all(&folder).expect("it is ours");
    output
}

#[test]
fn applications_are_told_the_same_in_the_world_and_under_the_real_driver() {
    for seed in 1..=3 {
        let (shell, des) = (under_turmoil(ROUGH, seed), in_world(ROUGH, seed));
        assert_eq!(
            (shell.verdict, shell.failure.as_deref()),
            (Verdict::Pass, None),
            "seed {seed}"
        );
        assert_eq!(des.verdict, Verdict::Pass, "seed {seed}: {:?}", des.failure);
        assert_eq!(shell.history, des.history, "seed {seed}");
        assert!(shell.history.iter().all(|one| one.finished && one.messages > 0));
        assert!(shell.metrics.handshake.count >= 2 && shell.metrics.rtt.p50 > 5_000_000);
        assert!(shell.unable.is_empty(), "{:?}", shell.unable);
    }
}

/// Streams that must complete, and of which all must arrive: the others may end wherever a session happens to.
#[test]
fn committed_scenarios_tell_the_same_history_in_both_arms() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).expect("they are committed") {
        let file = entry.expect("readable").path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let (name, text) = (
            file.display().to_string(),
            std::fs::read_to_string(&file).expect("readable"),
        );
        let spec = Spec::new(name.clone(), text).expect("a good scenario");
        let Some(prepared) = prepare(&spec, 1).ok().filter(|it| is_able(&it.scenario)) else {
            continue;
        };
        let must = prepared.scenario.workloads.iter().filter(|workload| {
            matches!(&workload.kind, WorkloadKind::Stream(stream) if stream.must_complete
                && stream.reliability != Reliability::FireAndForget
                && (stream.reliability == Reliability::Reliable || !stream.resume))
        });
        let must: Vec<String> = must.map(|workload| format!("{}/", workload.id)).collect();
        let owed = |report: ArmReport| {
            let named = |one: &StreamHistory| must.iter().any(|id| one.stream.starts_with(id));
            report.history.into_iter().filter(named).collect::<Vec<_>>()
        };
        let shell = under_turmoil::run(&prepared).expect("tokio starts");
        assert_eq!(shell.verdict, Verdict::Pass, "{name}: {:?}", shell.failure);
        let (shell, des) = (owed(shell), owed(run_des::<ClearKernel>(&spec, 1)));
        assert_eq!(shell, des, "{name}");
        compared += shell.len();
    }
    assert!(compared >= 20, "{compared} streams");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let (first, again, other) = (
        under_turmoil(ROUGH, 7),
        under_turmoil(ROUGH, 7),
        under_turmoil(ROUGH, 8),
    );
    assert_eq!(first, again);
    assert_ne!(first.digest, other.digest);
}

#[cfg(madsim)]
#[test]
fn random_task_order_changes_no_history_and_is_the_same_for_a_seed() {
    let output = program(ROUGH, &["--seed", "3", "--runtime", "madsim", "--json"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let report: ArmReport = serde_json::from_str(&said).unwrap_or_else(|_| panic!("no report: {said}"));
    assert_eq!((report.verdict, report.failure), (Verdict::Pass, None));
    let turmoil = under_turmoil(ROUGH, 3);
    assert_eq!(report.history, turmoil.history);
    assert_ne!(report.digest, turmoil.digest, "tasks ran in another order");
}

#[cfg(not(madsim))]
#[test]
fn a_build_without_madsim_says_how_to_build_one() {
    let output = program(ROUGH, &["--runtime", "madsim"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--cfg madsim"));
}

/// A partition that some event sets off, here and in the world; the run differs from the one in which it never comes.
#[test]
fn every_event_that_happens_sets_a_fault_off() {
    let events = [
        "boot",
        "down",
        "dialled",
        "session-up",
        "session-down",
        "rekeyed",
        "moved",
        "stream-opened",
        "writing",
        "stored",
        "sent",
        "received",
        "delivered",
    ];
    let with = |event: &str, nth: u32| {
        let fault = format!(
            "[[fault]]\nkind = \"partition\"\nid = \"late\"\nfrom = \"c\"\nboth = true\nfor = \"300ms\"\n\
             when = {{ event = \"{event}\", nth = {nth} }}\n[liveness]"
        );
        let report = under_turmoil(&ROUGH.replacen("[liveness]", &fault, 1), 5);
        assert_eq!(report.verdict, Verdict::Pass, "{event}: {:?}", report.failure);
        assert!(report.unable.is_empty(), "{:?}", report.unable);
        report
    };
    let never = with("boot", 1_000);
    for event in events {
        let report = with(event, 1);
        assert_ne!(report.digest, never.digest, "{event}");
        assert_eq!(report.history, never.history, "{event}");
    }
}

#[test]
fn what_it_cannot_do_is_named_and_counts_where_all_must_be_done() {
    let harm = "[[adversary]]\nkind = \"garbage\"\nid = \"noise\"\nto = \"b\"\ncount = 5\nrate = \"10/s\"\n[liveness]";
    let text = ROUGH.replacen("[liveness]", harm, 1);
    let report = under_turmoil(&text, 1);
    assert_eq!(report.unable, ["adversary `noise`"]);
    assert_eq!(report.verdict, Verdict::Pass);
    assert_eq!(program(&text, &["--once"]).status.code(), Some(0));
    assert_eq!(program(&text, &["--once", "--strict"]).status.code(), Some(3));
}

#[test]
fn a_scenario_for_other_arms_and_one_that_is_none_are_harness_errors() {
    let other = ROUGH.replacen("name = \"rough\"", "name = \"rough\"\narms = [\"des\"]", 1);
    for (text, says) in [
        (other.as_str(), "not `shell`"),
        ("schema = 1\nnam = \"x\"", "scenario.toml"),
    ] {
        let output = program(text, &["--json"]);
        assert_eq!(output.status.code(), Some(3));
        assert!(output.stdout.is_empty());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(says), "{said}");
    }
}
