//! Pure codecs of the Net wire protocol: bytes in, values out, and back (docs/protocol.md).
//!
//! | file | role |
//! |---|---|
//! | `header.rs` | the 64-byte header, its masking, and the first look at a datagram |
//! | `frame.rs` | the typed frames of a plaintext, and their reader |
//! | `ack.rs` | acknowledgement frames and their ranges |
//! | `write.rs` | the frame writer and exact frame lengths |
//! | `code.rs` | close codes and reliabilities |
//! | `varint.rs` | unsigned LEB128, canonical |
//! | `handshake.rs` | handshake packets as views and encoders |
//! | `routing.rs` | routing header and hop trailer |
//! | `mesh.rs` | what neighbours tell each other about the mesh |
//! | `beacon.rs` | what a node says to its segment of the network |
//! | `subprotocol.rs` | the registry of subprotocol ids |
//! | `ticket.rs` | the printable ticket |
//! | `bytes.rs` | fixed-offset loads and stores |
//! | `fuzz.rs` | bodies of the fuzz targets, for fuzzing and tests alone |
//! | `drop.rs` | every way a peer's bytes are refused |
//!
//! Invariants: no input makes a decoder panic or allocate more than it was given; what a decoder accepts, the encoder
//! writes back byte for byte (one encoding per value, frames of skipped types aside); nothing here keeps state.
//! Not here: keys, MACs and ciphers (`net-session`), deciding what to do with a value.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod ack;
pub mod beacon;
mod bytes;
pub mod code;
pub mod drop;
pub mod frame;
#[cfg(any(test, fuzzing, feature = "fuzz"))]
pub mod fuzz;
pub mod handshake;
pub mod header;
pub mod mesh;
pub mod routing;
pub mod subprotocol;
pub mod ticket;
pub mod varint;
pub mod write;

pub use ack::{AckFrame, AckRanges, EcnCounts};
pub use code::{CloseCode, Reliability};
pub use drop::DropReason;
pub use frame::{Frame, FrameReader, FrameType, MAX_MESSAGE, MAX_REASON, MESSAGE_CHARGE};
pub use handshake::{CookieReply, HandshakeKind, Initiation, InitiationPayload, Response, ResponsePayload, Suite};
pub use header::{
    Datagram, Flags, HEADER_LEN, Header, MAX_DATAGRAM, OVERHEAD, ROUTING_LEN, TAG_LEN, TRAILER_LEN, apply_mask, peek,
    sample,
};
pub use routing::{HopTrailer, Routed, RoutingFlags, RoutingHeader};
pub use ticket::{Ticket, TicketError};
pub use write::{FrameWriter, encoded_len, event_frame_len, segment_frame_len, segment_room, stream_frame_len};
