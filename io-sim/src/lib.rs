//! Drives many kernels in one deterministic world, checks what they do, and replays any of it by seed.
//!
//! | file | role |
//! |---|---|
//! | `scenario/` | what a scenario file says, as values |
//! | `world/` | the discrete-event world |
//! | `host.rs` | what lives in a simulated machine |
//! | `kernel.rs` | a kernel as a host |
//! | `check/` | checkers: what must hold |
//! | `aead.rs` | the clear AEAD |
//! | `payload.rs` | what applications send |
//! | `run.rs` | running scenarios under seeds |
//! | `cli.rs` | the command `netsim` |
//! | `proxy.rs` | the impairment proxy: the same link models between real sockets |
//! | `bench.rs` | datagrams per second |
//! | `histogram.rs` | durations in integer buckets |
//!
//! Invariants: a run is a function of its scenario and seed.
//! Not here: real sockets and clocks (`net-io-real`), except the impairment proxy's.
#![forbid(unsafe_code)]

pub mod aead;
pub mod bench;
pub mod check;
pub mod cli;
pub mod histogram;
pub mod host;
pub mod kernel;
pub mod payload;
pub mod proxy;
pub mod run;
pub mod scenario;
pub mod world;
