//! `netsim record`: every process's trace, one JSON object per line.
//!
//! The first line tells what was run, with the resolved scenario itself, so that the file can be traced again by a program
//! that repeats it.
//! Invariants: the output is written whole or not at all; a file that is cut short is never taken for whole.
//! Not here: what a record holds (`net_base::trace`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use serde::{Deserialize, Serialize};

use super::{Trouble, load, output};
use crate::kernel::ClearKernel;
use crate::run::{Report, Spec, Verdict, run_traced};
use crate::scenario;

/// The version of the file.
const SCHEMA: u64 = 2;

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

/// The first line of a recorded trace.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Recorded {
    schema: u64,
    scenario: String,
    file: String,
    /// The seed.
    pub(super) seed: u64,
    verdict: Verdict,
    digest: String,
    /// Lines that follow.
    records: u64,
    /// The resolved scenario.
    text: String,
}

pub(super) fn command(command: &Record) -> Result<u8, Trouble> {
    let specs = load(std::slice::from_ref(&command.spec))?;
    let [spec] = &specs[..] else {
        return Err(Trouble::Said("name one scenario file".to_owned()));
    };
    let (report, processes) = run_traced::<ClearKernel>(spec, command.seed, command.limit).map_err(Trouble::Said)?;
    let text = scenario::resolve(&spec.file, &spec.text, command.seed).map_err(|e| Trouble::Said(e.to_string()))?;
    let head = Recorded {
        schema: SCHEMA,
        scenario: report.scenario.clone(),
        file: spec.file.clone(),
        seed: command.seed,
        verdict: report.verdict,
        digest: report.digest,
        records: processes.iter().map(|process| process.records.len() as u64).sum(),
        text,
    };
    let mut out = serde_json::to_vec(&head).map_err(|error| Trouble::Said(error.to_string()))?;
    out.push(b'\n');
    for process in &processes {
        for record in &process.records {
            let kind = format!("{:?}", record.kind).to_lowercase();
            let line = serde_json::json!({
                "node": process.node, "process": process.process, "kind": kind, "a": record.a, "b": record.b,
            });
            writeln!(out, "{line}")?;
        }
    }
    output::write_whole(&command.output, &out)?;
    Ok(report.verdict.exit_code())
}

/// Reads the first line of a recorded trace and counts the others; `None` where the file is something else.
pub(super) fn read(file: &Path) -> Result<Option<Recorded>, Trouble> {
    let said = |what: String| Trouble::Said(format!("{}: {what}", file.display()));
    if file.is_dir() {
        return Ok(None);
    }
    let opened = std::fs::File::open(file).map_err(|error| said(error.to_string()))?;
    let mut lines = BufReader::new(opened).lines();
    let first = match lines.next() {
        Some(Ok(first)) if first.starts_with('{') => first,
        Some(_) | None => return Ok(None),
    };
    let head: serde_json::Value = serde_json::from_str(&first)
        .map_err(|error| said(format!("line 1: begins like a recorded trace but is none: {error}")))?;
    match head.get("schema").and_then(serde_json::Value::as_u64) {
        Some(SCHEMA) => {}
        Some(schema) => {
            return Err(said(format!(
                "is a recorded trace of version {schema}; this netsim reads version {SCHEMA}: record it anew with \
                 `netsim record SCENARIO --seed N -o FILE`, or trace the scenario itself"
            )));
        }
        None => {
            return Err(said(
                "line 1: is JSON, but names no `schema`: not a recorded trace".to_owned(),
            ));
        }
    }
    let recorded: Recorded =
        serde_json::from_value(head).map_err(|error| said(format!("line 1: is not the head of a trace: {error}")))?;
    let mut whole = 0;
    for (number, line) in (2..).zip(lines) {
        let line = line.map_err(|error| said(format!("line {number}: {error}")))?;
        if !line.ends_with('}') {
            break;
        }
        whole += 1;
    }
    if whole != recorded.records {
        return Err(said(format!(
            "is cut short: {whole} of {} records are there; record it anew",
            recorded.records
        )));
    }
    Ok(Some(recorded))
}

impl Recorded {
    /// What was run.
    pub(super) fn spec(&self) -> Result<Spec, Trouble> {
        Spec::new(self.file.clone(), self.text.clone()).map_err(|error| Trouble::Said(error.to_string()))
    }

    /// Whether this program repeats it.
    pub(super) fn same(&self, file: &Path, report: &Report) -> Result<(), Trouble> {
        if self.digest == report.digest {
            return Ok(());
        }
        let start = |digest: &str| digest.get(..16).unwrap_or("none").to_owned();
        Err(Trouble::Said(format!(
            "{}: was recorded by another version of the program, or with another planted bug: its digest is {}.., here the \
             run has {}..; use the netsim that recorded it, or trace the scenario itself",
            file.display(),
            start(&self.digest),
            start(&report.digest)
        )))
    }
}
