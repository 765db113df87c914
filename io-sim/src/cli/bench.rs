//! `netsim bench`: how much one core simulates.
//!
//! Invariants: says its flags beside every figure.
//! Not here: what is measured (`crate::bench`).

use std::io::{self, Write as _};

use clap::Args;

use super::{Cipher, Trouble};
use crate::bench::{self, Figures, Pace};
use crate::host::Host;
use crate::kernel::{ClearKernel, ClearUnchecked, RealKernel, RealUnchecked};

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
    /// Measure simulated seconds per second instead: `idle:3`, `busy:5` (1,000 messages per second in all), `wide:1000`
    /// (four neighbours each) or `mesh:1000` (the same, and they keep routes to each other).
    #[arg(long, value_name = "WORLD", conflicts_with_all = ["size", "messages"])]
    pace: Option<Pace>,
    /// Simulated seconds, with `--pace`.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Leave out the invariant checks after every turn, as `net` itself does.
    #[arg(long)]
    unchecked: bool,
}

pub(super) fn command(command: &Bench) -> Result<u8, Trouble> {
    let figures = match (command.aead, command.unchecked) {
        (Cipher::Clear, false) => measure::<ClearKernel>(command),
        (Cipher::Real, false) => measure::<RealKernel>(command),
        (Cipher::Clear, true) => measure::<ClearUnchecked>(command),
        (Cipher::Real, true) => measure::<RealUnchecked>(command),
    };
    let figures = figures.map_err(Trouble::Said)?;
    let mut out = io::stdout().lock();
    let flags = format!(
        "{} cipher, trace on, checks {}, {} build",
        match command.aead {
            Cipher::Clear => "clear",
            Cipher::Real => "real",
        },
        if command.unchecked { "off" } else { "on" },
        if cfg!(debug_assertions) { "debug" } else { "release" },
    );
    let cpu_ms = figures.cpu_ms.max(1);
    if let Some(pace) = command.pace {
        let each = u64::from(pace.nodes()) * figures.simulated_ms.max(1);
        writeln!(
            out,
            "{} nodes: {} packets and {} bytes per node and second; {} KiB of memory at most, {} per node",
            pace.nodes(),
            figures.datagrams * 1_000 / each,
            figures.bytes * 1_000 / each,
            figures.memory_kib,
            figures.memory_kib / u64::from(pace.nodes()),
        )?;
        writeln!(
            out,
            "{} s simulated in {cpu_ms} ms of one core ({} ms of wall time): {} : 1 ({} datagrams, {} messages, {flags})",
            figures.simulated_ms / 1_000,
            figures.ms,
            figures.simulated_ms / cpu_ms,
            figures.datagrams,
            figures.messages,
        )?;
    } else {
        writeln!(
            out,
            "{} datagrams in {cpu_ms} ms of one core ({} ms of wall time): {} per second ({} B messages, {} messages, {flags})",
            figures.datagrams,
            figures.ms,
            figures.datagrams * 1_000 / cpu_ms,
            command.size,
            figures.messages,
        )?;
    }
    Ok(0)
}

fn measure<H: Host>(command: &Bench) -> Result<Figures, String> {
    match command.pace {
        Some(pace) => bench::pace::<H>(pace, command.seconds),
        None => bench::run::<H>(command.size, command.messages),
    }
}
