//! Streams: numbered messages laid on one line of positions, and the two ends of such a line.
//!
//! | file | role |
//! |---|---|
//! | `send.rs` | what is waiting, in flight and lost; cuts packets' runs |
//! | `recv.rs` | order, exactly-once and credit for what arrives |
//! | `ordered.rs`, `unordered.rs` | what a Reliable and a ReliableUnordered stream remember of what arrived |
//! | `ring.rs` | messages to be sent, already framed |
//! | `reorder.rs` | bytes that arrived early |
//! | `ranges.rs` | sets of positions as merged ranges |
//! | `flow.rs` | absolute limits, the same arithmetic for streams and sessions |
//!
//! Invariants: a message of length L takes L + [`MESSAGE_CHARGE`] positions; every boundary of a run or range is
//! the start of a message or lies strictly inside a message's bytes; all limits are absolute positions.
//! Not here: packets, acknowledgement bookkeeping, timers and the choice among streams (`scheduler.rs`).

mod ordered;
mod ranges;
mod reorder;
mod ring;
#[cfg(test)]
mod tests;
mod unordered;

pub mod flow;
pub mod recv;
pub mod send;

pub use flow::{RecvWindow, SendLimit};
pub use recv::{Action, Cursor, Part, Piece, RecvStream};
pub use send::{PushError, Run, SendConfig, SendStream, Written};

pub use net_wire::code::Reliability;
pub use net_wire::frame::{MAX_MESSAGE, MESSAGE_CHARGE};

/// Positions used by `len` delivered bytes, with the message's charge when they complete it.
#[must_use]
pub const fn cost(len: usize, end: bool) -> u64 {
    len as u64 + if end { MESSAGE_CHARGE } else { 0 }
}
