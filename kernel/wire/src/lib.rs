//! Pure codecs of the Net wire protocol: bytes in, values out, and back (docs/protocol.md).
//!
//! | file | role |
//! |---|---|
//! | `header.rs` | the 64-byte header, its masking, and the first look at a datagram |
//! | `handshake.rs` | handshake packets as views and encoders |
//! | `drop.rs` | every way a peer's bytes are refused |
//!
//! Invariants: no input makes a decoder panic or allocate more than it was given; what a decoder accepts, the encoder
//! writes back byte for byte (one encoding per value, frames of skipped types aside); nothing here keeps state.
//! Not here: keys, MACs and ciphers (`net-session`), deciding what to do with a value.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

mod bytes;
pub mod drop;
pub mod handshake;
pub mod header;

pub use drop::DropReason;
pub use handshake::HandshakeKind;
pub use header::{
    Datagram, Flags, HEADER_LEN, Header, MAX_DATAGRAM, OVERHEAD, ROUTING_LEN, TAG_LEN, TRAILER_LEN,
    apply_mask, peek, sample,
};
