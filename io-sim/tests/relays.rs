//! The scenarios of relays, under the cipher that is shipped and the clear one: what they pass of the session layer counts
//! as covered by tests.
//!
//! Invariants: a failing seed is named with its scenario. Not here: many seeds (`.ci/run`).

use std::path::Path;

use net_io_sim::kernel::{ClearKernel, RealKernel};
use net_io_sim::suite::Suite;

fn relays(name: &str) -> Suite {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    Suite::load(path).expect("a scenario of the tree").seeds(1..=3)
}

#[test]
fn sessions_go_over_relays_and_come_back() {
    for name in ["relay-cutover.toml", "relay-direct.toml", "relay-lost.toml"] {
        relays(name).run::<ClearKernel>().assert_passed();
    }
}

#[test]
fn what_passes_relays_is_whole_under_attack_and_nowhere_readable() {
    for name in ["relay-attacked.toml", "relay-line.toml"] {
        relays(name).run::<RealKernel>().assert_passed();
    }
}
