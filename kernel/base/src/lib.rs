//! The ground every layer of the kernel stands on. It knows no machine, no frame and no socket.
//!
//! | file | role |
//! |---|---|
//! | `time.rs` | integer instants and spans |
//! | `id.rs` | newtypes for everything that is named |
//!
//! Invariants: no IO, no globals, no interior mutability. Not here: anything that decides.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod id;
pub mod time;

pub use id::{Addr, AssociationId, CommandId, EntityId, Epoch, JobId, NodeId, SeatId, SessionId, StreamId, Ticket};
pub use time::{Duration, Instant, Now, UnixNanos};
