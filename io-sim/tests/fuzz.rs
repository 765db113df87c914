//! The fuzz bodies `scenario` and `scenario_text` on the stable toolchain, over random inputs.
//!
//! Invariants: the same inputs in every run. Not here: the fuzzer (fuzz/) and the inputs it found (`net-tests`).

use net_io_sim::fuzz;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(22),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn whatever_scenario_is_drawn_a_kernel_passes_it(bytes in vec(any::<u8>(), 8..400)) {
        fuzz::scenario(&bytes);
    }
}

/// Lines of scenario files, so that random texts come near to being one.
const LINES: &[&str] = &[
    "schema = 1",
    "name = \"x\"",
    "duration = \"1s\"",
    "[topology]",
    "nodes = [ { id = \"a\" }, { id = \"b\" } ]",
    "[topology.default_link]",
    "delay = \"5ms\"",
    "delay = { dist = \"pareto\", min = \"1ms\", max = \"2ms\" }",
    "loss = [0.0, 0.5]",
    "loss = { model = \"every\", n = 3 }",
    "[[workload]]",
    "[[fault]]",
    "[[adversary]]",
    "kind = \"stream\"",
    "kind = \"partition\"",
    "kind = \"garbage\"",
    "from = \"a\"",
    "to = \"b\"",
    "to = [\"b\"]",
    "node = \"a\"",
    "at = [\"1s\", \"2s\"]",
    "for = \"9e99s\"",
    "count = 18446744073709551615",
    "size = [1, 2]",
    "rate = \"99999999999/s\"",
    "[liveness]",
    "within = \"1s\"",
    "[swarm]",
    "omit_each = 0.5",
    "[expect]",
    "[check]",
];

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn no_text_makes_the_reader_panic(lines in vec(proptest::sample::select(LINES), 0..24), cut in 0..400_usize) {
        let text = lines.join("\n");
        fuzz::scenario_text(text.as_bytes());
        let cut = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= cut).last().unwrap_or(0);
        fuzz::scenario_text(&text.as_bytes()[..cut]);
    }

    #[test]
    fn no_characters_make_the_reader_panic(text in "\\PC{0,200}") {
        fuzz::scenario_text(text.as_bytes());
    }
}
