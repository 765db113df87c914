//! The deterministic kernel of Net: every protocol decision is taken here, and no IO is performed.
//!
//! | file | role |
//! |---|---|
//! | `api.rs` | what the kernel is told, what it answers and what it may do |
//! | `kernel.rs` | the turn and the boot |
//! | `inspect.rs` | what can be seen from outside |
//! | `wiring/` | where machines meet, one file per layer |
//! | `fuzz/` | bodies of fuzz targets that drive whole kernels, for fuzzing and tests alone |
//!
//! The layers below are named through this crate (`net_kernel::wire`, ...), which is the only public surface of the
//! protocol.
//! Invariants: a turn is a function of the kernel's state, the time and one input. Not here: sockets, disks, clocks and
//! entropy (`net-io-real`, `net-io-sim`).
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod api;
#[cfg(any(test, fuzzing, feature = "fuzz"))]
pub mod fuzz;
mod inspect;
mod kernel;
mod wiring;

pub use kernel::Kernel;

pub use net_base as base;
pub use net_mesh as mesh;
pub use net_session as session;
pub use net_transfer as transfer;
pub use net_trust as trust;
pub use net_wire as wire;
