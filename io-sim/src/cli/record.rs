//! `netsim record`: every process's trace, one JSON object per line.
//!
//! Invariants: the output is written whole or not at all.
//! Not here: what a record holds (`net_base::trace`).

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::{Trouble, load};
use crate::kernel::ClearKernel;
use crate::run::run_traced;

#[derive(Debug, Args)]
pub(super) struct Record {
    /// A scenario file.
    spec: PathBuf,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to write; nothing is left there unless all of it was written.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Records kept per process.
    #[arg(long, default_value_t = 1_000_000)]
    limit: usize,
}

pub(super) fn command(command: &Record) -> Result<u8, Trouble> {
    let specs = load(std::slice::from_ref(&command.spec))?;
    let [spec] = &specs[..] else {
        return Err(Trouble::Said("name one scenario file".to_owned()));
    };
    let (report, processes) = run_traced::<ClearKernel>(spec, command.seed, command.limit).map_err(Trouble::Said)?;
    let named = |error: io::Error| Trouble::Said(format!("{}: {error}", command.output.display()));
    let partial = command.output.with_extension("partial");
    let written = std::fs::File::create(&partial).and_then(|file| {
        let mut file = io::BufWriter::new(file);
        let head = serde_json::json!({
            "schema": 1, "scenario": report.scenario, "seed": report.seed,
            "verdict": report.verdict, "digest": report.digest,
        });
        writeln!(file, "{head}")?;
        for process in &processes {
            for record in &process.records {
                let kind = format!("{:?}", record.kind).to_lowercase();
                let line = serde_json::json!({
                    "node": process.node, "process": process.process, "kind": kind, "a": record.a, "b": record.b,
                });
                writeln!(file, "{line}")?;
            }
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&partial, &command.output)) {
        // Best effort: the error that matters is told.
        let _ = std::fs::remove_file(&partial);
        return Err(named(error));
    }
    Ok(report.verdict.exit_code())
}
