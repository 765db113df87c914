//! The command `netsim`: run scenarios under seeds, print resolved scenarios, list what there is, measure speed.
//!
//! | file | command |
//! |---|---|
//! | `run.rs` | run scenarios under seeds |
//! | `compare.rs` | one scenario in several arms |
//! | `resolve.rs` | the literals a seed draws |
//! | `record.rs` | traces as lines of JSON |
//! | `replay.rs` | a run again, stopped and looked into |
//! | `trace.rs` | a run as a page, packets or trace events |
//! | `explore.rs` | random seeds and variations for so long |
//! | `shrink.rs` | a failure to its core |
//! | `shell.rs` | runs of the arm `shell`, by another program |
//! | `list.rs` | what there is: scenarios, and the words they are made of |
//! | `schema.rs` | the JSON Schema of scenario files |
//! | `lint.rs` | what is legal and yet pointless |
//! | `mutants.rs` | planted bugs, and how long the suite takes to find each |
//! | `bench.rs` | how much one core simulates |
//!
//! `arms.rs` finds the programs of the other arms; `output.rs` writes files whole and prints commands that can be pasted.
//!
//! Invariants: standard output carries results only, standard error progress and explanations; exit codes are
//! those of SIMULATION: 0 pass, 1 a checker failed, 2 not deterministic, 3 harness error, 4 out of time.
//! Not here: how a run is made (`run.rs`).

mod arms;
mod bench;
mod compare;
#[cfg(net_mutants)]
mod cores;
mod explore;
mod lint;
mod list;
mod mutants;
mod output;
mod record;
mod replay;
mod resolve;
mod run;
mod schema;
mod shell;
mod shrink;
mod trace;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::run::{Spec, Verdict};

/// Drive many nodes in one deterministic world, and replay any failure by its seed.
#[derive(Debug, Parser)]
#[command(name = "netsim", version, max_term_width = 100)]
pub struct Cli {
    /// Switch a planted bug on (programs built with `--cfg net_mutants` only).
    #[arg(long, global = true, value_name = "NAME")]
    mutant: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios under seeds; the exit code is the worst run's.
    Run(run::Run),
    /// Run scenarios in several arms and compare what applications were told.
    Compare(compare::Compare),
    /// Print a scenario with the literals a seed draws; the result can be run again.
    Resolve(resolve::Resolve),
    /// Run one seed and write every process's trace to a file, one JSON object per line.
    Record(record::Record),
    /// Run a scenario again, stop where one wants to look, and print the state of its nodes there.
    Replay(replay::Replay),
    /// Run one seed and draw it: a page with lanes and arrows, packets, or trace events.
    Trace(trace::Trace),
    /// Run random seeds and variations of scenarios for so long, and report what fails.
    Explore(explore::Explore),
    /// Shrink a failing scenario to the smallest that fails the same way.
    Shrink(shrink::Shrink),
    /// List scenarios, and every fault, workload, adversary, checker and probe there is.
    List(list::List),
    /// Print the JSON Schema (draft 2020-12) of scenario files.
    Schema(schema::Schema),
    /// Warn of what is legal in scenarios and yet pointless; exit code 1 where there is any.
    Lint(lint::Lint),
    /// List planted bugs, or hunt them (programs built with `--cfg net_mutants` only).
    Mutants(mutants::Mutants),
    /// Measure how many datagrams per second one core simulates.
    Bench(bench::Bench),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cipher {
    Clear,
    Real,
}

fn seed_range(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("`{text}` is not a range of seeds; write `1..100` (both included)");
    let (low, high) = text.split_once("..").ok_or_else(wrong)?;
    let high = high.strip_prefix('=').unwrap_or(high);
    let (low, high) = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
    if low <= high {
        Ok((low, high))
    } else {
        Err(format!("`{text}` runs backwards"))
    }
}

/// A duration of the wall clock, as scenarios write them.
fn wall_time(text: &str) -> Result<std::time::Duration, String> {
    crate::scenario::duration(text).map(std::time::Duration::from_nanos)
}

/// Runs the command line; answers the exit code.
#[must_use]
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own exit code for misuse, 2, means something else here.
            let misuse = error.use_stderr();
            let _ = error.print();
            return if misuse { Verdict::Harness.exit_code() } else { 0 };
        }
    };
    let chosen = cli.mutant.as_deref().map_or(Ok(()), mutants::choose);
    let done = chosen.and_then(|()| match cli.command {
        Command::Run(run) => run::command(&run),
        Command::Compare(compare) => compare::command(&compare),
        Command::Resolve(resolve) => resolve::command(&resolve),
        Command::Record(record) => record::command(&record),
        Command::Replay(replay) => replay::command(&replay),
        Command::Trace(trace) => trace::command(&trace),
        Command::Explore(explore) => explore::command(&explore),
        Command::Shrink(shrink) => shrink::command(&shrink),
        Command::List(list) => list::command(&list),
        Command::Schema(schema) => schema::command(&schema),
        Command::Lint(lint) => lint::command(&lint),
        Command::Mutants(mutants) => mutants::command(&mutants),
        Command::Bench(bench) => bench::command(&bench),
    });
    match done {
        Ok(code) => code,
        // Whoever read our output has enough: that is no error.
        Err(Trouble::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(trouble) => {
            let _ = writeln!(io::stderr(), "netsim: {trouble}");
            Verdict::Harness.exit_code()
        }
    }
}

enum Trouble {
    Io(io::Error),
    Said(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Said(what) => f.write_str(what),
        }
    }
}

/// Reads every scenario named, folders in the order of their names.
fn load(paths: &[PathBuf]) -> Result<Vec<Spec>, Trouble> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut specs = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file).map_err(|error| Trouble::Said(format!("{name}: {error}")))?;
        specs.push(Spec::new(name, text).map_err(|error| Trouble::Said(error.to_string()))?);
    }
    if specs.is_empty() {
        return Err(Trouble::Said("no scenario (*.toml) found there".to_owned()));
    }
    Ok(specs)
}

/// Reads one scenario file.
fn load_one(path: &Path) -> Result<Spec, Trouble> {
    if path.is_dir() {
        return Err(Trouble::Said(format!("{}: is a folder; name one file", path.display())));
    }
    let mut specs = load(std::slice::from_ref(&path.to_owned()))?;
    specs
        .pop()
        .ok_or_else(|| Trouble::Said(format!("{}: no scenario", path.display())))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Trouble> {
    let named = |error| Trouble::Said(format!("{}: {error}", path.display()));
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries: Result<Vec<_>, _> = std::fs::read_dir(path).map_err(named)?.collect();
    let mut entries: Vec<PathBuf> = entries.map_err(named)?.into_iter().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else if entry.extension().is_some_and(|extension| extension == "toml") {
            files.push(entry);
        }
    }
    Ok(())
}
