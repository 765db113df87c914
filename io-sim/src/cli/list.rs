//! `netsim list`: what there is.
//!
//! Invariants: prints results only.
//! Not here: reading scenarios (`crate::scenario`).

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::{Trouble, load};

#[derive(Debug, Args)]
pub(super) struct List {
    /// Scenario files, or folders of them.
    #[arg(default_value = "scenarios", value_name = "FILE|DIR")]
    specs: Vec<PathBuf>,
}

pub(super) fn command(list: &List) -> Result<u8, Trouble> {
    let mut out = io::stdout().lock();
    for spec in load(&list.specs)? {
        let scenario = &spec.scenario;
        writeln!(
            out,
            "{:<28} {:>2} nodes {:>2} workloads {:>2} faults {:>2} adversaries {:>5} s  {}",
            scenario.name,
            scenario.nodes.len(),
            scenario.workloads.len(),
            scenario.faults.len(),
            scenario.adversaries.len(),
            scenario.duration / 1_000_000_000,
            spec.file,
        )?;
    }
    Ok(0)
}
