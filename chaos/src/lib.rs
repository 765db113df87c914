//! Runs scenarios with real processes over loopback, through the impairment proxy: the arm `real`.
//!
//! | file | role |
//! |---|---|
//! | `cli.rs` | the command `net-chaos` |
//! | `run.rs` | one run: machines, what happens to them and when, the verdict |
//! | `machine.rs` | a machine: its directory, its process, signals |
//! | `apps.rs` | what applications were told, over all processes and sessions |
//! | `protocol.rs` | what a run and its processes say to each other |
//! | `mesh.rs` | the mesh of a run: who is linked, and whether routes are at rest |
//! | `files.rs` | transfers of files: what is sent, and what lies where it is received |
//! | `disk.rs` | file systems of machines' own, which can become full |
//! | `node.rs` | such a process: a node that does the workloads of a scenario |
//! | `bridge.rs` | the same with the `net` command in place of a node |
//! | `streams.rs` | its streams: what is sent, what must come |
//! | `able.rs` | what of a scenario this arm cannot do |
//!
//! Invariants: no process outlives the one that started it; every wait has a deadline; traffic stays on loopback.
//! Not here: links (`net-sim-model`), the proxy (`net_io_sim::fabric`), scenarios (`net_io_sim::scenario`).
#![forbid(unsafe_code)]

pub mod able;
pub mod apps;
pub mod bridge;
pub mod cli;
pub mod disk;
pub mod files;
pub mod machine;
pub mod mesh;
pub mod node;
pub mod protocol;
pub mod run;
pub mod streams;
