//! `netsim run --arm shell`: runs that are made by another program, which has the real driver and runtimes built in.
//!
//! Invariants: its output and exit code are passed on as they are; where it is missing, the error says how to build it.
//! Not here: what it does (`net-sim-shell`).

use std::ffi::OsString;
use std::process::Command;

use super::Trouble;
use crate::arm::shell_program;

/// Runs `netsim-shell run` with these arguments; answers its exit code.
pub(super) fn command(arguments: &[OsString]) -> Result<u8, Trouble> {
    let program = shell_program().map_err(Trouble::Said)?;
    let status = Command::new(&program)
        .arg("run")
        .args(arguments)
        .status()
        .map_err(|error| Trouble::Said(format!("{}: {error}", program.display())))?;
    match status.code() {
        Some(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        None => Err(Trouble::Said(format!("{} ended with {status}", program.display()))),
    }
}
