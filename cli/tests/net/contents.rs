//! What the program must not contain: the cipher that protects nothing, and planted bugs.
//!
//! Invariants: the program that was built is looked at, not its manifest. Not here: what `netsim` contains
//! (`io-sim/tests/planted.rs`).

use std::path::Path;

fn holds(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|window| window == what.as_bytes())
}

/// As a compiler writes the name of `net_io_sim::aead::Clear` into the names of functions made for it.
const CLEAR: &str = "aead..Clear";

#[test]
fn net_holds_no_clear_cipher_and_no_planted_bug() {
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_net")).expect("net was built for this test");
    assert!(holds(&bytes, "aead..Reference"), "ciphers are found by their names");
    assert!(
        !holds(&bytes, CLEAR),
        "net was linked with the simulator's clear cipher"
    );
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulation.md");
    let text = std::fs::read_to_string(page).expect("the page exists");
    let (_, planted) = text.split_once("## Planted bugs").expect("the page has the section");
    let section = planted.split("\n## ").next().unwrap_or(planted);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let names: Vec<&str> = rows.filter_map(|row| Some(row.split_once('`')?.0)).collect();
    assert!(names.len() >= 8, "the table was read: {names:?}");
    for name in names {
        assert!(!holds(&bytes, name), "net names the planted bug `{name}`");
    }
}
