//! `netsim trace`: one run as a page, as packets or as trace events.
//!
//! Invariants: the output is written whole or not at all; a recorded trace that this program would not repeat is an error.
//! Not here: how they are drawn (`crate::trace`).

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Cipher, Trouble, load, output, record};
use crate::kernel::{ClearKernel, RealKernel};
use crate::run::{Report, Spec, run_recorded};
use crate::trace::{About, html, pcapng, perfetto};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("format").required(true))]
pub(super) struct Trace {
    /// A scenario, a resolved file, or what `netsim record` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// One offline page: lanes, arrows, scrubbing, the causal cone of any event.
    #[arg(long, group = "format")]
    html: bool,
    /// Packets for Wireshark, each with its fate as a comment.
    #[arg(long, group = "format")]
    pcapng: bool,
    /// Trace events for ui.perfetto.dev.
    #[arg(long, group = "format")]
    perfetto: bool,
    /// Where to write; nothing is left there unless all of it was written.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The seed; default: the one the file carries, or 0.
    #[arg(long)]
    seed: Option<u64>,
    /// The cipher: `clear` lets checkers read nonces, `real` is ChaCha20-Poly1305.
    #[arg(long, default_value = "clear")]
    aead: Cipher,
    /// Events kept: the last ones, where there are more.
    #[arg(long, value_name = "EVENTS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    limit: u64,
    /// Print one JSON object about what was written.
    #[arg(long)]
    json: bool,
}

pub(super) fn command(trace: &Trace) -> Result<u8, Trouble> {
    let recorded = record::read(&trace.file)?;
    let (spec, seed, cipher) = match &recorded {
        Some(recorded) => (recorded.spec()?, recorded.seed, Cipher::Clear),
        None => {
            let specs = load(std::slice::from_ref(&trace.file))?;
            let [spec] = <[Spec; 1]>::try_from(specs)
                .map_err(|_| Trouble::Said(format!("{}: name one scenario file", trace.file.display())))?;
            let seed = trace.seed.or(spec.scenario.seed).unwrap_or(0);
            (spec, seed, trace.aead)
        }
    };
    if let Some(recorded) = &recorded
        && (trace.seed.is_some_and(|seed| seed != recorded.seed) || trace.aead == Cipher::Real)
    {
        let what = format!(
            "{}: is a recorded trace of seed {} under the clear cipher; leave --seed and --aead out, or name the scenario",
            trace.file.display(),
            recorded.seed
        );
        return Err(Trouble::Said(what));
    }
    let limit = usize::try_from(trace.limit).unwrap_or(usize::MAX);
    let _ = writeln!(io::stderr(), "netsim: running {} with seed {seed}", spec.file);
    // A panic inside the run becomes the violation that is shown; the default hook would only repeat it.
    std::panic::set_hook(Box::new(|_| {}));
    let (report, history) = match cipher {
        Cipher::Clear => run_recorded::<ClearKernel>(&spec, seed, limit, trace.pcapng),
        Cipher::Real => run_recorded::<RealKernel>(&spec, seed, limit, trace.pcapng),
    };
    let _ = std::panic::take_hook();
    let Some(history) = history else {
        return Err(Trouble::Said(report.failure.unwrap_or_default()));
    };
    if let Some(recorded) = &recorded {
        recorded.same(&trace.file, &report)?;
    }
    let name = match cipher {
        Cipher::Clear => "clear",
        Cipher::Real => "real",
    };
    let about = About::new(&report, name);
    let bytes = if trace.html {
        html(&history, &about)
    } else if trace.pcapng {
        pcapng(&history, &about)
    } else {
        perfetto(&history, &about).map_err(|error| Trouble::Said(error.to_string()))?
    };
    output::write_whole(&trace.output, &bytes)?;
    tell(trace, &report, &history, bytes.len())?;
    Ok(report.verdict.exit_code())
}

fn tell(trace: &Trace, report: &Report, history: &crate::history::History, bytes: usize) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    let file = trace.output.display().to_string();
    let violation = history.violation().map(|entry| entry.id);
    if trace.json {
        let line = serde_json::json!({
            "schema": 1, "file": file, "bytes": bytes, "events": history.len(), "truncated": history.forgotten(),
            "scenario": report.scenario, "seed": report.seed, "verdict": report.verdict, "digest": report.digest,
            "checker": report.checker, "violation": violation,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{file}: {} events of {}, seed {}",
        history.len(),
        report.scenario,
        report.seed
    )?;
    if history.forgotten() > 0 {
        writeln!(
            out,
            "  truncated: the first {} events were not kept; --limit {} keeps them all",
            history.forgotten(),
            history.end()
        )?;
    }
    if let (Some(checker), Some(failure)) = (&report.checker, &report.failure) {
        writeln!(out, "  {checker}  {failure}")?;
    }
    if let Some(violation) = violation.filter(|_| trace.html) {
        let link = absolute(&trace.output);
        writeln!(out, "  opens at the violation: {link}#e={violation}")?;
    }
    Ok(())
}

fn absolute(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut link = "file://".to_owned();
    for byte in path.display().to_string().bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            link.push(char::from(byte));
        } else {
            link.push_str(&format!("%{byte:02X}"));
        }
    }
    link
}
