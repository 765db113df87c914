//! Invariant checking as a type parameter fixed at boot, and the assertion macro for dear checks.
//!
//! Invariants: with [`NoCheck`] a `verify!` and the probes of the data plane cost nothing. Not here: what is checked (each machine).

use crate::probe::{Hits, Probes, Quiet};

/// Whether a kernel checks its invariants after every turn.
pub trait Check: 'static {
    /// Whether it does.
    const ON: bool;
    /// What data-plane objects keep of their probes.
    type Probes: Probes;
}

/// Production: dear checks are compiled out.
#[derive(Debug)]
pub enum NoCheck {}

/// Tests and simulation: every machine's `check` runs after every turn.
#[derive(Debug)]
pub enum Checked {}

impl Check for NoCheck {
    const ON: bool = false;
    type Probes = Quiet;
}

impl Check for Checked {
    const ON: bool = true;
    type Probes = Hits;
}

/// Asserts where `$check` is on: `verify!(C, condition, "message {}", arguments)`.
#[macro_export]
macro_rules! verify {
    ($check:ty, $condition:expr $(, $($message:tt)+)?) => {
        if <$check as $crate::check::Check>::ON {
            assert!($condition $(, $($message)+)?);
        }
    };
}
