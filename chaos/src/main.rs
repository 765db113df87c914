//! The program `net-chaos`.
//!
//! Invariants: it does what `net_chaos::cli` says. Not here: anything else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(net_chaos::cli::main())
}
