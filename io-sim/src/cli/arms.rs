//! The arms by name, and the program of the arm `real`.
//!
//! Invariants: a program that is missing is named together with the command that builds it; one that was started ends with
//! this one.
//! Not here: what arms do (`net-sim-shell`, `net-chaos`), the program of the arm `shell` (`crate::arm`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;

use super::Trouble;
use crate::arm::{ArmReport, run_shell, shell_program};

/// Where a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Arm {
    /// Kernels in the discrete-event world, in this program.
    Des,
    /// The real driver under simulated runtimes: `netsim-shell`.
    Shell,
    /// Real processes over loopback: `net-chaos`.
    Real,
}

/// How to build the programs of the arm `real`.
const BUILD_REAL: &str = "cargo build -p net-chaos -p net-cli";

impl Arm {
    /// Its name in scenarios and reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Des => "des",
            Self::Shell => "shell",
            Self::Real => "real",
        }
    }

    /// Finds its program.
    ///
    /// # Errors
    /// It is nowhere: says how to build it.
    pub(super) fn find(self) -> Result<(), Trouble> {
        match self {
            Self::Des => Ok(()),
            Self::Shell => shell_program().map(drop).map_err(Trouble::Said),
            Self::Real => real_program().map(drop),
        }
    }

    /// Runs one seed of one file and answers its report; `None` for the arm that is this program.
    ///
    /// # Errors
    /// A program that is missing, or what it said in place of a report.
    pub(super) fn report(self, file: &str, seed: u64) -> Result<Option<ArmReport>, Trouble> {
        match self {
            Self::Des => Ok(None),
            Self::Shell => run_shell(Path::new(file), seed, "turmoil")
                .map(Some)
                .map_err(Trouble::Said),
            Self::Real => report_real(file, seed).map(Some),
        }
    }
}

/// The program that makes runs of the arm `real`: what `NET_CHAOS` names, or `net-chaos` beside this program.
fn real_program() -> Result<PathBuf, Trouble> {
    if let Some(named) = std::env::var_os("NET_CHAOS") {
        let named = PathBuf::from(named);
        return match named.is_file() {
            true => Ok(named),
            false => Err(Trouble::Said(format!(
                "NET_CHAOS names {}, which is no file",
                named.display()
            ))),
        };
    }
    let name = format!("net-chaos{}", std::env::consts::EXE_SUFFIX);
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().map(|folder| folder.join(&name));
    beside.filter(|path| path.is_file()).ok_or_else(|| {
        Trouble::Said(format!(
            "the arm `real` is made by net-chaos, which was not found beside this program; build it with: {BUILD_REAL}"
        ))
    })
}

/// Runs `net-chaos run` with these arguments; answers its exit code.
pub(super) fn run_real(args: &[OsString]) -> Result<u8, Trouble> {
    let program = real_program()?;
    let status = Command::new(&program).args(["run", "--tied"]).args(args).status();
    let status = status.map_err(|error| Trouble::Said(format!("{}: {error}", program.display())))?;
    match status.code() {
        Some(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        None => Err(Trouble::Said(format!("{} ended with {status}", program.display()))),
    }
}

fn report_real(file: &str, seed: u64) -> Result<ArmReport, Trouble> {
    let program = real_program()?;
    let seed = seed.to_string();
    let said = |what: String| Trouble::Said(format!("{} run {file} --seed {seed}: {what}", program.display()));
    let output = Command::new(&program)
        .args(["run", "--tied", "--json", "--seed", &seed, file])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| said(error.to_string()))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let words = String::from_utf8_lossy(&output.stderr);
        said(format!(
            "it ended with {} and no report: {}",
            output.status,
            words.trim()
        ))
    })
}
