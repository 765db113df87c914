//! Planted bugs stay out of programs that are built as usual.
//!
//! Invariants: the names looked for are those that docs/simulation.md publishes. Not here: finding bugs
//! (`netsim mutants hunt`, run by `.ci/run`).
#![cfg(not(net_mutants))]

use std::path::Path;
use std::process::{Command, Output};

fn netsim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netsim"))
        .args(arguments)
        .output()
        .expect("netsim was built for this test")
}

/// The names in the table of planted bugs.
fn published() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulation.md");
    let text = std::fs::read_to_string(page).expect("the page exists");
    let (_, planted) = text.split_once("## Planted bugs").expect("the page has the section");
    let section = planted.split("\n## ").next().unwrap_or(planted);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect()
}

#[test]
fn a_program_without_planted_bugs_refuses_to_switch_one_on() {
    let refused = [
        &["run", "nowhere", "--mutant", "credit-on-receipt"][..],
        &["mutants", "list"],
        &["mutants", "hunt", "credit-on-receipt"],
    ];
    for arguments in refused {
        let output = netsim(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(
            said.contains("--cfg net_mutants"),
            "{arguments:?} says how to build one: {said}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_program_without_planted_bugs_does_not_name_them() {
    let names = published();
    assert!(names.len() >= 8, "the table was read: {names:?}");
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_netsim")).expect("netsim was built for this test");
    let holds = |what: &str| bytes.windows(what.len()).any(|window| window == what.as_bytes());
    assert!(holds("memory-bound"), "names of checkers are found this way");
    for name in &names {
        assert!(!holds(name), "netsim names the planted bug `{name}`");
    }
}
