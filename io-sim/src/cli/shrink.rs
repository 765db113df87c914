//! `netsim shrink`: a failing scenario to the smallest that fails the same way.
//!
//! Invariants: nothing is written unless a smaller scenario was verified; the output is written whole or not at all.
//! Not here: the search (`crate::shrink`).

use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::output::{comment, flags, program, quoted, with, writable, write_whole};
use super::{Cipher, Trouble, load_one};
use crate::host::Host;
use crate::kernel::{ClearKernel, RealKernel};
use crate::run::Spec;
use crate::scenario::ended;
use crate::shrink::{Options, Shrunk, Size, describe, shrink};

#[derive(Debug, Args)]
pub(super) struct Shrink {
    /// A scenario file that fails; best the resolved one that the failing run left.
    spec: PathBuf,
    /// The seed that fails; default: the one a resolved file carries, or 0.
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write the smallest scenario found.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Candidates tried at once; default: one per core.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// How long it may take; the best so far is written then.
    #[arg(long, default_value = "60s", value_parser = super::wall_time)]
    time: Duration,
    /// The cipher it failed under.
    #[arg(long, default_value = "clear")]
    aead: Cipher,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn command(command: &Shrink) -> Result<u8, Trouble> {
    let spec = load_one(&command.spec)?;
    let seed = command.seed.or(spec.scenario.seed).unwrap_or(0);
    let same = |path| std::fs::canonicalize(path).ok();
    if same(&command.output).is_some_and(|output| Some(output) == same(&command.spec)) {
        return Err(Trouble::Said(format!(
            "{}: is the scenario to shrink, which would be lost; name another file after -o",
            command.output.display()
        )));
    }
    // What cannot be written should be known before the work, not after it.
    writable(&command.output)?;
    std::panic::set_hook(Box::new(|_| {}));
    let shrunk = match command.aead {
        Cipher::Clear => search::<ClearKernel>(command, &spec, seed),
        Cipher::Real => search::<RealKernel>(command, &spec, seed),
    };
    let _ = std::panic::take_hook();
    let shrunk = shrunk?;
    let text = ended(&format!("{}{}", header(command, &spec, seed, &shrunk), shrunk.text));
    write_whole(&command.output, text.as_bytes())?;
    tell(command, &shrunk)?;
    Ok(0)
}

fn search<H: Host>(command: &Shrink, spec: &Spec, seed: u64) -> Result<Shrunk, Trouble> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let reference = super::mutants::switch();
    let options = Options {
        jobs: command.jobs.unwrap_or(cores).get(),
        time: command.time,
        reference: reference.as_deref(),
    };
    let began = Instant::now();
    let mut told = began;
    let terminal = io::stderr().is_terminal();
    let mut progress = |what: &str, size: Size, runs: u64| {
        if told.elapsed() < Duration::from_millis(500) {
            return;
        }
        told = Instant::now();
        let left = command.time.saturating_sub(began.elapsed()).as_secs();
        let line = format!(
            "{} nodes, {} faults; {what}; {runs} runs, at most {left} s left",
            size.nodes, size.faults
        );
        let mut err = io::stderr().lock();
        // Progress is no result: where it cannot be shown, the search goes on.
        let _ = if terminal {
            write!(err, "\r{line:<78}")
        } else {
            writeln!(err, "{line}")
        };
        let _ = err.flush();
    };
    let shrunk = shrink::<H>(spec, seed, options, &mut progress);
    if terminal {
        let _ = write!(io::stderr(), "\r{:<78}\r", "");
    }
    shrunk.map_err(|refusal| Trouble::Said(refusal.to_string()))
}

fn again(command: &Shrink) -> String {
    let file = quoted(&command.output.display().to_string());
    format!("{} replay {file}{}", program(), flags(command.aead))
}

fn figures(shrunk: &Shrunk) -> Vec<String> {
    let (before, after) = (shrunk.before, shrunk.after);
    vec![
        format!("nodes   {} -> {}", before.nodes, after.nodes),
        format!("faults  {} -> {}", before.faults, after.faults),
        format!("events  {} -> {}", before.events, after.events),
        format!("length  {} ms -> {} ms", before.simulated_ms, after.simulated_ms),
    ]
}

/// The comment that opens the file: what fails, what happens, and how it was found.
fn header(command: &Shrink, spec: &Spec, seed: u64, shrunk: &Shrunk) -> String {
    let mut lines = vec![
        format!("{} with seed {seed}, shrunk to what makes it fail.", spec.file),
        format!("failed: {}", shrunk.signature),
        format!("because: {}", shrunk.report.failure.as_deref().unwrap_or("-")),
        format!("digest: {}", shrunk.report.digest),
    ];
    lines.extend(with(command.aead));
    lines.push(String::new());
    lines.push("What happens:".to_owned());
    if let Ok(doc) = shrunk.text.parse() {
        lines.extend(describe(&doc).into_iter().map(|line| format!("  {line}")));
    }
    lines.push("Then, up to the failure:".to_owned());
    lines.extend(shrunk.story.iter().map(|line| format!("  {line}")));
    lines.push(String::new());
    lines.extend(figures(shrunk));
    comment(&lines)
}

fn tell(command: &Shrink, shrunk: &Shrunk) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    let ms = u64::try_from(shrunk.took.as_millis()).unwrap_or(u64::MAX);
    if command.json {
        let value = serde_json::json!({
            "schema": 1,
            "file": command.output.display().to_string(),
            "signature": shrunk.signature.to_string(),
            "checker": shrunk.signature.checker,
            "failure": shrunk.report.failure,
            "digest": shrunk.report.digest,
            "seed": shrunk.report.seed,
            "before": shrunk.before,
            "after": shrunk.after,
            "runs": shrunk.runs,
            "ms": ms,
            "finished": shrunk.finished,
            "replay": again(command),
        });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    writeln!(out, "{}", command.output.display())?;
    writeln!(out, "  failed  {}", shrunk.signature)?;
    for line in figures(shrunk) {
        writeln!(out, "  {line}")?;
    }
    let end = if shrunk.finished {
        "nothing more can be taken out"
    } else {
        "the time was over: more may come out with a longer --time"
    };
    writeln!(
        out,
        "  {} runs in {}.{:03} s; {end}; verified three times",
        shrunk.runs,
        ms / 1_000,
        ms % 1_000
    )?;
    writeln!(out, "  replay  {}", again(command))?;
    Ok(())
}
