//! `net demo`: shows over real sockets, and then in simulation, what a mesh and its sessions withstand.
//!
//! | file | role |
//! |---|---|
//! | `mesh/` | seven nodes, a stream published across them, a relay killed, a ring in two |
//! | `transfer.rs` | a file between two processes, with a proxy between them |
//! | `resume.rs` | a file whose receiver is killed midway |
//! | `child.rs` | one of the processes |
//! | `simulate.rs` | the same scenario in many simulated worlds |
//! | `report.rs` | what was proved |
//!
//! Invariants: the processes run the commands that users run; nothing is called proved that was not measured here.
//! Not here: the proxy and the simulation (`net-io-sim`).

mod child;
mod mesh;
mod report;
mod resume;
mod simulate;
mod transfer;

use std::path::PathBuf;

use net_sim_model::{Damage, Distribution, LinkSpec, Loss};

use crate::args::DemoArgs;
use crate::error::{Code, Failure};
use crate::output::{Note, Out};
use crate::signals::Signals;
use report::Report;

/// Losses, in parts per billion, both ways.
const LOSS: u64 = 50_000_000;
/// Datagrams held back behind later ones.
const REORDER: u64 = 30_000_000;
/// Datagrams that arrive twice.
const DUPLICATE: u64 = 20_000_000;

/// `net demo`, on the runtime.
pub async fn run(args: &DemoArgs, out: Out) -> Result<(), Failure> {
    let (file, is_own) = match &args.file {
        Some(file) => (file.clone(), false),
        None => (own_binary()?, true),
    };
    let mut signals = Signals::new()?;
    let mesh = mesh::run(&file, &mut signals, out).await?;
    let transfer = transfer::run(&file, is_own, args.limit, &mut signals, out).await?;
    let resume = resume::run(&file, args.limit.div_ceil(2), &mut signals, out).await?;
    let seeds = args.seeds;
    let simulation = tokio::task::spawn_blocking(move || simulate::run(seeds, out));
    let simulation = signals
        .or(simulation)
        .await?
        .map_err(|error| Failure::new(Code::Unproved, format!("the simulation broke: {error}")))??;
    let report = Report::new(mesh, transfer, resume, simulation);
    out.result(&report)?;
    match report.unproved() {
        unproved if unproved.is_empty() => Ok(()),
        unproved => {
            let list = unproved.join("; ");
            Err(Failure::new(Code::Unproved, format!("not proved: {list}")).next("NET_LOG=info net demo"))
        }
    }
}

fn own_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new(Code::Io, format!("cannot find this program's file: {error}")))
}

/// What the proxy does to datagrams, each way; the same as in `scenarios/demo.toml`.
fn bad_link() -> LinkSpec {
    LinkSpec {
        delay: Distribution::Uniform {
            low: 1_000_000,
            high: 3_000_000,
        },
        loss: Loss::Independent { ppb: LOSS },
        reorder: REORDER,
        hold: 10_000_000,
        duplicate: DUPLICATE,
        corrupt: 0,
        damage: Damage::Bits,
        rate: None,
        mtu: 0,
    }
}

fn say(out: Out, text: impl Into<String>) {
    out.event(&Note::new(text));
}
