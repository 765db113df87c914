//! `netsim resolve`: a scenario with the literals a seed draws.
//!
//! Invariants: what is printed can be run again and means the same run.
//! Not here: drawing (`crate::scenario`).

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::{Trouble, load};
use crate::kernel::ClearKernel;
use crate::scenario::{ended, resolve};
use crate::shrink::explicit;

#[derive(Debug, Args)]
pub(super) struct Resolve {
    /// A scenario file.
    spec: PathBuf,
    /// The seed that draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// List the datagrams that chances of links strike in that run in place of the probabilities: the same run.
    #[arg(long)]
    fates: bool,
}

pub(super) fn command(command: &Resolve) -> Result<u8, Trouble> {
    let specs = load(std::slice::from_ref(&command.spec))?;
    for spec in specs {
        let text = if command.fates {
            explicit::<ClearKernel>(&spec, command.seed).map_err(Trouble::Said)?
        } else {
            resolve(&spec.file, &spec.text, command.seed).map_err(|error| Trouble::Said(error.to_string()))?
        };
        write!(io::stdout().lock(), "{}", ended(&text))?;
    }
    Ok(0)
}
