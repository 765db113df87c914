//! Bugs planted in the driver are found with the driver, and cannot be found without.
//!
//! Invariants: one test, because the choice of a bug is its process' only global.
//! Not here: how many runs each takes (docs/simulation.md).
#![forbid(unsafe_code)]
#![cfg(net_mutants)]

use std::path::{Path, PathBuf};
use std::process::Command;

use net_io_sim::arm::{ArmReport, run_des};
use net_io_sim::kernel::ClearKernel;
use net_io_sim::run::{Spec, Verdict};
use net_kernel::base::mutant::{Mutant, choose};

/// Bugs that a few seeds of these scenarios find.
const FOUND_SOON: [(&str, &str); 4] = [
    ("driver-recv-yields", "stream-order"),
    ("driver-timer-asked-once", "liveness"),
    ("driver-deaf-after-error", "lost-wakeup"),
    ("driver-unblocked-unsent", "lost-wakeup"),
];

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios").join(name)
}

#[test]
fn the_shell_finds_bugs_of_the_driver_and_the_world_does_not() {
    let files = ["crash-restart.toml", "demo.toml", "unreliable-unordered.toml"].map(scenario);
    for (name, checker) in FOUND_SOON {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netsim-shell"));
        command.arg("run").args(&files);
        command.args(["--seeds", "1..8", "--once", "--fail-fast", "--json", "--mutant", name]);
        let output = command.output().expect("it was built");
        assert_eq!(output.status.code(), Some(1), "{name} was not found");
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().last().expect("a report");
        let report: ArmReport = serde_json::from_str(last).expect("a report");
        assert_eq!(report.checker.as_deref(), Some(checker), "{name}: {:?}", report.failure);
        let mutant = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
        assert!(mutant.is_some_and(Mutant::in_driver));
        choose(mutant);
        let file = files
            .iter()
            .find(|file| file.ends_with(format!("{}.toml", report.scenario)));
        let file = file.expect("one of them failed");
        let text = std::fs::read_to_string(file).expect("it is committed");
        let spec = Spec::new(file.display().to_string(), text).expect("a good scenario");
        let des = run_des::<ClearKernel>(&spec, report.seed);
        assert_eq!(
            des.verdict,
            Verdict::Pass,
            "{name} is in no world without a driver: {:?}",
            des.failure
        );
    }
}
