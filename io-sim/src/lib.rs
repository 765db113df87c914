//! Drives many kernels in one deterministic world, checks what they do, and replays any of it by seed.
//!
//! | file | role |
//! |---|---|
//! | `scenario/` | what a scenario file says, as values |
//!
//! Invariants: a run is a function of its scenario and seed.
//! Not here: real sockets and clocks (`net-io-real`), except the impairment proxy's.
#![forbid(unsafe_code)]

pub mod scenario;
