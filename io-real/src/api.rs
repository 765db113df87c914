//! The kernel's names that this crate speaks in, gathered in one place.
//!
//! Invariants: nothing is defined here. Not here: what they mean (`net-kernel`).

pub use net_kernel::api::{
    CloseReason, Command, ConnectError, Crew, Deadline, Dest, Drops, Ecn, Event, Fact, Health, Input, Io, Job, JobDone,
    LinkChange, MAX_PIECES, Mesh, MeshConfig, Messages, Outage, Part, Piece, Refused, Relayed, RxBatch, RxBuf, Seal,
    SessionConfig, SessionKey, SessionStats, Standing, StoreError, StoreOp, Stored, StreamOptions, Tx, Why,
};
pub use net_kernel::base::rng::{Secret, Seed};
pub use net_kernel::base::store::Cell;
pub use net_kernel::base::{
    Addr, CommandId, Duration, EntityId, Epoch, Instant, JobId, Now, StreamId, Ticket as StoreTicket, UnixNanos,
};
pub use net_kernel::trust::{Identity, NetworkKey};
pub use net_kernel::wire::{CloseCode, DropReason, MAX_MESSAGE, MESSAGE_CHARGE, Reliability};
