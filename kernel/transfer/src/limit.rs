//! Limits of offers, names and messages.
//!
//! Invariants: whatever a peer says, memory stays within [`MAX_ENTRIES`] and [`MAX_PATHS`], and work between two messages
//! within [`CHUNK`] or [`HASHED_AT_ONCE`]. Not here: limits of streams and sessions.

/// Files and directories of one offer.
pub const MAX_ENTRIES: u32 = 100_000;
/// Bytes of all paths of one offer.
pub const MAX_PATHS: usize = 8 << 20;
/// Components of one path.
pub const MAX_DEPTH: usize = 64;
/// Bytes of one component as it is used on disk.
pub const MAX_NAME: usize = 255;
/// Bytes of one component as a peer may write it; longer than [`MAX_NAME`] is shortened.
pub const MAX_WIRE_NAME: usize = 1_024;
/// Bytes of data in one message.
pub const CHUNK: usize = 128 << 10;
/// Bytes of the longest message: a path of [`MAX_DEPTH`] long names, or a chunk.
pub const MAX_MESSAGE: usize = CHUNK + 1;
/// Bytes of a file that is already there which are hashed before the peer is heard again.
pub const HASHED_AT_ONCE: usize = 1 << 20;
/// Files of which the receiver may have told what it has before they are settled.
pub const AHEAD: usize = 64;
/// Prefix hashes told of one file.
pub const MAX_MARKS: usize = 24;
/// Distance of the last prefix hashes of a file; it doubles from there to the start.
pub const MARK_GRAIN: u64 = 1 << 20;

const _: () = assert!(
    MAX_DEPTH * (MAX_WIRE_NAME + 2) + 16 <= MAX_MESSAGE,
    "an entry fits a message"
);
