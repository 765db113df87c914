//! `netsim bench`: how much one core simulates.
//!
//! Invariants: says its flags beside every figure.
//! Not here: what is measured (`crate::bench`).

use std::io::{self, Write as _};

use clap::Args;

use super::{Cipher, Trouble};
use crate::bench;
use crate::kernel::{ClearKernel, RealKernel};

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// The cipher.
    #[arg(long, default_value = "clear")]
    aead: Cipher,
    /// Bytes per message, one message per datagram; from 1104 on, bytes per datagram.
    #[arg(long, default_value_t = 64)]
    size: u64,
    /// Messages to send.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Leave out the invariant checks after every turn, as `net` itself does.
    #[arg(long)]
    unchecked: bool,
}

pub(super) fn command(command: &Bench) -> Result<u8, Trouble> {
    let figures = match (command.aead, command.unchecked) {
        (Cipher::Clear, false) => bench::run::<ClearKernel>(command.size, command.messages),
        (Cipher::Real, false) => bench::run::<RealKernel>(command.size, command.messages),
        (Cipher::Clear, true) => bench::run::<crate::kernel::ClearUnchecked>(command.size, command.messages),
        (Cipher::Real, true) => bench::run::<crate::kernel::RealUnchecked>(command.size, command.messages),
    };
    let figures = figures.map_err(Trouble::Said)?;
    writeln!(
        io::stdout().lock(),
        "{} datagrams in {} ms of one core ({} ms of wall time): {} per second ({} B messages, {} messages, trace on, checks {}, {} build)",
        figures.datagrams,
        figures.cpu_ms,
        figures.ms,
        figures.datagrams * 1_000 / figures.cpu_ms.max(1),
        command.size,
        figures.messages,
        if command.unchecked { "off" } else { "on" },
        if cfg!(debug_assertions) { "debug" } else { "release" },
    )?;
    Ok(0)
}
