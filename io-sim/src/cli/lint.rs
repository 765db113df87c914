//! `netsim lint`: what is legal in scenarios and yet pointless.
//!
//! Invariants: exit code 0 without warnings, 1 with some, 3 where a scenario cannot be read.
//! Not here: what is pointless (`crate::lint`).

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::{Trouble, load, seed_range};
use crate::kernel::ClearKernel;
use crate::lint::{lint, spread};

#[derive(Debug, Args)]
pub(super) struct Lint {
    /// Scenario files, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    specs: Vec<PathBuf>,
    /// Also run these seeds, and warn of bounds within six deviations of what they give.
    #[arg(long, value_name = "A..B", value_parser = seed_range)]
    seeds: Option<(u64, u64)>,
    /// Print one JSON object per warning.
    #[arg(long)]
    json: bool,
}

pub(super) fn command(command: &Lint) -> Result<u8, Trouble> {
    let specs = load(&command.specs)?;
    let mut found = 0u64;
    for (n, spec) in specs.iter().enumerate() {
        let mut warnings = lint(spec);
        if let Some(seeds) = command.seeds {
            // Progress is no result: where it cannot be shown, the work goes on.
            let _ = writeln!(io::stderr(), "{} of {}: {}", n + 1, specs.len(), spec.file);
            warnings.extend(spread::<ClearKernel>(spec, seeds));
        }
        let mut out = io::stdout().lock();
        for warning in &warnings {
            if command.json {
                writeln!(out, "{}", serde_json::to_string(warning).map_err(io::Error::other)?)?;
            } else if warning.line == 0 {
                writeln!(out, "{}: {}", warning.file, warning.what)?;
            } else {
                writeln!(out, "{}:{}: {}", warning.file, warning.line, warning.what)?;
            }
        }
        found += warnings.len() as u64;
    }
    let _ = writeln!(io::stderr(), "{} scenarios, {found} warnings", specs.len());
    Ok(u8::from(found > 0))
}
