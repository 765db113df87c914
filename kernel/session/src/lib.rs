//! Encrypted sessions and streams between two nodes: the data plane, sans-IO.
//!
//! | file | role |
//! |---|---|
//! | `config.rs` | limits and times |
//! | `rx.rs` | received datagrams as lent for one turn |
//! | `tx.rs` | the transmitter a turn writes into |
//! | `crew.rs` | who does pure work beside the kernel |
//! | `drops.rs` | counts of what was refused |
//! | `lane/` | whole sessions: keys, packets, streams, timers |
//! | `install.rs` | what a finished handshake hands over |
//! | `handshake/` | Noise IKpsk2, MACs, cookies, pending handshakes |
//! | `keys.rs` | traffic secrets from a finished handshake |
//! | `aead.rs` | the cipher of protected packets, behind a trait |
//! | `roster.rs` | the published table of live associations |
//! | `stream/` | messages on a line of positions: sending, receiving, credit |
//! | `scheduler.rs` | which stream may fill the next packet |
//! | `recovery/` | loss detection, congestion control, pacing, which packets to acknowledge |
//! | `replay.rs` | which counters were accepted |
//! | `mtu.rs` | the largest datagram a path carries |
//! | `path.rs` | which address a peer is reached at |
//!
//! Invariants: a packet changes nothing before its AEAD opened. Not here: who may hold a session
//! (`net-trust`), who is dialled (`net-mesh`).
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

use net_base::{EntityId, StreamId};

pub use net_base::SessionKey;

pub mod aead;
pub mod config;
pub mod crew;
pub mod drops;
pub mod handshake;
pub mod install;
pub mod keys;
pub mod lane;
pub mod mtu;
pub mod path;
pub mod recovery;
pub mod replay;
pub mod roster;
pub mod rx;
pub mod scheduler;
pub mod stream;
pub mod tx;

/// A piece of application data. Whole small messages come as one part; larger ones part by part, in
/// order, as they arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part<'b> {
    /// Who sent it, authenticated.
    pub peer: EntityId,
    /// The session it came on.
    pub session: SessionKey,
    /// The stream.
    pub stream: StreamId,
    /// What the stream's messages are (`net_wire::subprotocol`).
    pub subprotocol: u16,
    /// Number of the message in its stream, from 0.
    pub number: u64,
    /// Where these bytes stand in the message.
    pub offset: u64,
    /// Whether the message ends with them.
    pub end: bool,
    /// The bytes.
    pub bytes: &'b [u8],
}
