//! The program `netsim`.
//!
//! Invariants: it does what `net_io_sim::cli` says. Not here: anything else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(net_io_sim::cli::main())
}
