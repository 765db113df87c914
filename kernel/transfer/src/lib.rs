//! File transfer over one reliable, ordered stream: both sides as state machines without IO.
//!
//! A sender offers a tree of files and directories; a receiver takes it or refuses it whole, then tells file by file what it
//! has already, and only what is missing is sent. A file gets its name when all of it is there, matches its BLAKE3 hash and
//! is on disk; until then it lies under a name of its own, and that is all that is needed to go on where it stopped,
//! whichever side was killed.
//!
//! | file | role |
//! |---|---|
//! | `limit.rs` | limits of offers, names and messages |
//! | `name.rs` | names from a peer made safe |
//! | `message.rs` | the messages and their encoding |
//! | `mark.rs` | hashes of prefixes, by which both sides find what they have in common |
//! | `disk.rs` | what the host lends: `Source`, `Store` |
//! | `memory.rs` | a store in memory that can crash, for tests and simulation |
//! | `sender.rs` | the side that offers |
//! | `receiver.rs` | the side that stores |
//! | `fuzz.rs` | bodies of fuzz targets, for fuzzing and tests alone |
//! | `tests.rs` | both sides in one room |
//!
//! Both sides are driven alike: `receive` takes one message of the peer, `step` does a bounded piece of work and may give
//! one message to send. The host's calls are synchronous; whoever must not block calls from a thread of its own.
//!
//! Invariants: no file is overwritten, nothing half is under a final name, no name of a peer leads outside; both sides end
//! after a bounded number of messages. Not here: sessions and streams, how the host keeps files, who may send.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod disk;
#[cfg(any(test, fuzzing, feature = "fuzz"))]
pub mod fuzz;
pub mod limit;
pub mod mark;
pub mod memory;
pub mod message;
pub mod name;
pub mod receiver;
pub mod sender;
#[cfg(test)]
mod tests;

pub use disk::{DiskError, Found, PartialKey, Place, Source, Store};
pub use message::{Refusal, Reject, Skip, Token};
pub use name::SafePath;
pub use receiver::Receiver;
pub use sender::Sender;

/// What `step` leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The buffer holds one message for the peer.
    Message,
    /// Work was done and more is left: call again, after whatever the peer has sent.
    More,
    /// Nothing to do before the peer's next message.
    Wait,
    /// Both sides know how every entry ended; nothing follows.
    Over,
}

/// The peer broke the protocol. Nothing it said is believed any more; what is stored stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// Bytes that are no message.
    Malformed,
    /// A message where it has no place; its kind byte.
    Unexpected(u8),
    /// More than a limit allows.
    Limit,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Malformed => f.write_str("bytes that are no message of the file transfer"),
            Self::Unexpected(kind) => write!(f, "a message of kind {kind:#04x} where none was due"),
            Self::Limit => f.write_str("more entries or longer names than an offer may have"),
        }
    }
}

impl core::error::Error for Violation {}
