//! The fuzz bodies `session` and `store` on the stable toolchain, over random programs and disks.
//!
//! Invariants: the same programs in every run. Not here: the fuzzer (fuzz/) and the inputs it found (`net-tests`).

use net_kernel::fuzz;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        rng_seed: RngSeed::Fixed(21),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_programs_hold(program in vec(any::<u8>(), 0..400)) {
        fuzz::session(&program);
    }

    #[test]
    fn random_disks_hold(bytes in vec(any::<u8>(), 0..200), entries in 0..4_usize) {
        fuzz::store(&bytes);
        fuzz::store(&bytes[..bytes.len().min(entries * 40)]);
    }
}
