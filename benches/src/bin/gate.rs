//! `gate`: fails where the kernel executes more instructions than was committed.
//!
//! Invariants: without valgrind it says so and passes, because counts cannot be had otherwise. Not here: the cases and the
//! comparison (the library).

use clap::Parser;
use net_benches::contender::Failure;
use net_benches::kernel::counts::{CASES, Case};
use net_benches::kernel::gate::{self, Verdict};
use std::path::PathBuf;
use std::process::ExitCode;

/// Counts the instructions of turns with callgrind and compares them with benches/gate/instructions.toml.
#[derive(Parser)]
struct Arguments {
    /// Commit what was counted instead of comparing
    #[arg(long)]
    write: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Leave callgrind's profiles in this folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Run one case and nothing else: what callgrind is started with
    #[arg(long, value_name = "NAME", hide = true)]
    case: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.case {
        Some(name) => run_case(name).map(|()| true),
        None => compare(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_case(name: &str) -> Result<(), Failure> {
    let case = CASES.iter().find(|case| case.name == name).ok_or("no such case")?;
    (case.run)();
    Ok(())
}

fn compare(arguments: &Arguments) -> Result<bool, Failure> {
    if cfg!(debug_assertions) {
        return Err("instructions are counted in release builds: cargo run --release -p net-benches --bin gate".into());
    }
    if !gate::available() {
        eprintln!("note: instructions are counted with valgrind on x86_64, which is not here; nothing was compared");
        return Ok(true);
    }
    let wanted = |case: &&Case| {
        arguments
            .only
            .as_ref()
            .is_none_or(|only| case.name.contains(only.as_str()))
    };
    let cases: Vec<&Case> = CASES
        .iter()
        .filter(wanted)
        .filter(|case| gate::comparable(case))
        .collect();
    let counts = gate::count(&cases, arguments.keep.as_deref())?;
    let path = gate::committed_path();
    if arguments.write {
        let mut all = gate::committed(&path).unwrap_or_default();
        all.extend(counts.clone());
        gate::write(&path, &all)?;
    }
    let committed = gate::committed(&path)?;
    let mut passed = true;
    println!("{:>10} {:>10}  instructions", "counted", "committed");
    for case in &cases {
        let (count, known) = (counts[case.name], committed.get(case.name).copied());
        let verdict = match gate::judge(count, known) {
            Verdict::Held => "",
            Verdict::Improved => "  (less: commit it with --write)",
            Verdict::Grown | Verdict::Unknown => {
                passed = false;
                "  FAILED"
            }
        };
        let known = known.map_or("none".to_owned(), |known| known.to_string());
        println!("{count:>10} {known:>10}  {}: {}{verdict}", case.name, case.what);
    }
    if !passed {
        eprintln!("error: more instructions than committed; where that is worth it: gate -- --write, and say why");
    }
    Ok(passed)
}
