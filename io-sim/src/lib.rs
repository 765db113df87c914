//! Drives many kernels in one deterministic world, checks what they do, and replays any of it by seed.
//!
//! | file | role |
//! |---|---|
//! | `scenario/` | what a scenario file says, as values |
//! | `world/` | the discrete-event world |
//! | `host.rs` | what lives in a simulated machine |
//! | `kernel.rs` | a kernel as a host |
//! | `check/` | checkers: what must hold |
//! | `history/` | the structured record of a run |
//! | `aead.rs` | the clear AEAD |
//! | `payload.rs` | what applications send |
//! | `simple.rs` | one's own state machine as a host: datagrams, timers, one durable cell |
//! | `suite.rs` | many runs from a test |
//! | `lint.rs` | what is legal in a scenario and yet pointless |
//! | `run.rs` | running scenarios under seeds |
//! | `arm.rs` | what every arm reports of a run |
//! | `explore.rs` | random seeds and variations for so long |
//! | `replay.rs` | a run that can be stopped and looked into |
//! | `shrink/` | shrinking a failure to its core |
//! | `signature.rs` | what makes two failures the same one |
//! | `mutants.rs` | how many runs a planted bug takes to find |
//! | `trace/` | pictures of a recorded run |
//! | `cli/` | the command `netsim` |
//! | `proxy.rs` | the impairment proxy: the same link models between real sockets |
//! | `fabric.rs` | the same between many: the proxy of a whole scenario |
//! | `trigger.rs` | events that set something off: what waits for what |
//! | `fuzz.rs` | bodies of the fuzz targets, for fuzzing and tests alone |
//! | `guide.rs` | the pages of docs/ as documentation tests |
//! | `bench.rs` | datagrams per second |
//! | `histogram.rs` | durations in integer buckets |
//!
//! A scenario under a seed, run in a few lines:
//!
//! ```
//! use net_io_sim::kernel::ClearKernel;
//! use net_io_sim::run::{Spec, Verdict, run};
//!
//! let spec = Spec::new("lossy.toml", r#"
//!     schema = 1
//!     name = "lossy"
//!     duration = "10s"
//!     [topology]
//!     nodes = [ { id = "a" }, { id = "b" } ]
//!     default_link = { delay = "10ms", loss = 0.1, reorder = 0.05 }
//!     [[workload]]
//!     kind = "stream"
//!     from = "a"
//!     to = "b"
//!     count = 100
//!     size = [1, 2000]
//!     [liveness]
//!     within = "5s"
//! "#)?;
//! let report = run::<ClearKernel>(&spec, 42);
//! assert_eq!(report.verdict, Verdict::Pass);
//! assert_eq!(run::<ClearKernel>(&spec, 42).digest, report.digest);
//! # Ok::<(), net_io_sim::scenario::ScenarioError>(())
//! ```
//!
//! One's own machines live in the same world: write a [`simple::Machine`] and run `Simple<MyMachine>`, or implement
//! [`host::Host`] for something that speaks the kernel's contract. One's own properties are [`check::Checker`]s; a
//! [`suite::Suite`] runs scenarios under seeds with them. `examples/own_machine.rs` and `examples/ci_gate.rs` do all of it.
//!
//! Invariants: a run is a function of its scenario and seed.
//! Not here: real sockets and clocks (`net-io-real`), except the impairment proxy's.
#![forbid(unsafe_code)]

pub mod aead;
pub mod arm;
pub mod bench;
pub mod check;
pub mod cli;
pub mod explore;
pub mod fabric;
#[cfg(any(fuzzing, feature = "fuzz"))]
pub mod fuzz;
#[cfg(doctest)]
mod guide;
pub mod histogram;
pub mod history;
pub mod host;
pub mod kernel;
pub mod lint;
pub mod mutants;
pub mod payload;
pub mod proxy;
pub mod replay;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod signature;
pub mod simple;
pub mod suite;
pub mod trace;
pub mod trigger;
pub mod world;
