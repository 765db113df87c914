//! Runs scenarios with `net-io-real`'s unchanged driver in simulated worlds: the arm `shell`.
//!
//! | file | role |
//! |---|---|
//! | `bed.rs` | what a run's processes share: virtual time, links, machines, the record |
//! | `adapter.rs` | the driver's four traits on the bed |
//! | `task.rs` | futures that a machine can stop and kill, sleeping, giving up waiting |
//! | `app.rs` | applications on the driver's public handles |
//! | `flow.rs` | what the streams of a scenario owe, and what came of them |
//! | `files.rs` | transfers of files: both ends and what they leave |
//! | `process.rs` | starting and ending processes |
//! | `script.rs` | what a scenario does to machines, and what this arm cannot do |
//! | `runtime.rs` | what a runtime has to lend |
//! | `under_turmoil.rs` | tokio's paused clock and turmoil-net's sockets |
//! | `under_madsim.rs` | madsim's executor, which picks tasks at random |
//! | `run.rs` | one seed, reported |
//! | `toy.rs` | the toy machine of the benchmark |
//!
//! Time is the bed's: a runtime only decides which ready task is next. When no task is ready the bed moves on to the next
//! arrival, deadline or line of the script, as the discrete-event world does.
//! Invariants: links, clocks and disks are those of `net-sim-model` under the same keys as in the world, so a datagram
//! has the same fate in every arm; a run is a function of scenario, seed and runtime.
//! Not here: the world without a driver (`net-io-sim`), real sockets (`chaos/`).
#![forbid(unsafe_code)]

pub mod adapter;
mod app;
pub mod bed;
mod files;
mod flow;
mod process;
pub mod run;
pub mod runtime;
mod script;
mod task;
pub mod toy;
#[cfg(madsim)]
pub mod under_madsim;
pub mod under_turmoil;
