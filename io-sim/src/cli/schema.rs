//! `netsim schema`: the JSON Schema of scenario files.
//!
//! Invariants: prints the schema and nothing else.
//! Not here: how it is made (`crate::scenario`).

use std::io::{self, Write as _};

use clap::Args;

use super::Trouble;
use crate::scenario::schema;

/// No flags.
#[derive(Debug, Args)]
pub(super) struct Schema;

pub(super) fn command(_: &Schema) -> Result<u8, Trouble> {
    let text = serde_json::to_string_pretty(&schema()).map_err(io::Error::other)?;
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(0)
}
