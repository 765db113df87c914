//! The ground every layer of the kernel stands on. It knows no machine, no frame and no socket.
//!
//! | file | role |
//! |---|---|
//! | `time.rs` | integer instants and spans |
//! | `timer.rs` | named timers of one seat |
//! | `rng.rs` | random streams, the key-erasing generator, secrets |
//! | `id.rs` | newtypes for everything that is named |
//! | `routed.rs` | addresses of peers behind relays |
//! | `limit.rs` | limits several layers share |
//! | `machine.rs` | `Machine`, `Durable`, `Fx`, `Seat` |
//! | `store.rs` | storage operations as values |
//! | `map.rs` | maps with a deterministic order |
//! | `trace.rs` | the digest of a run |
//! | `check.rs` | `verify!` and the switch behind it |
//! | `probe.rs` | points that some run must pass |
//! | `mutant.rs` | planted bugs, under `--cfg net_mutants` only |
//!
//! Invariants: no IO, no globals (but for the choice of a planted bug, under `--cfg net_mutants`), no interior
//! mutability. Not here: anything that decides.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod check;
pub mod id;
pub mod limit;
pub mod machine;
pub mod map;
pub mod mutant;
pub mod probe;
pub mod rng;
pub mod routed;
pub mod store;
pub mod time;
pub mod timer;
pub mod trace;

pub use check::{Check, Checked, NoCheck};
pub use id::{
    Addr, AssociationId, AttemptId, CommandId, EntityId, Epoch, JobId, NodeId, SeatId, SessionId, SessionKey, StreamId,
    Ticket,
};
pub use machine::{Durable, Fx, Machine, Seat};
pub use time::{Duration, Instant, Now, UnixNanos};
