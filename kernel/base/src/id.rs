//! Identifiers: newtypes, so that a session id is never passed where a stream id is meant.
//!
//! Invariants: an identifier carries no behaviour beyond comparison and printing.
//! Not here: how identifiers are derived (`net-trust`) or encoded (`net-wire`).

use core::fmt;

macro_rules! u64_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

/// An ed25519 public key: the identity of a node, a daemon or an operator (PROTOCOL 1).
///
/// 32 bytes, canonical. Whether they decode to a point that may be an identity is checked by
/// `net_trust::identity`; this type only labels the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(pub [u8; 32]);

impl EntityId {
    /// Length on the wire, in bytes.
    pub const LEN: usize = 32;
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityId({self})")
    }
}

/// The first eight bytes in hexadecimal: enough to tell peers apart in a log, not an identity.
impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..8] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

u64_id! {
    /// Names one direction of one traffic key; chosen by the receiver, 0 means "first handshake message".
    SessionId
}
u64_id! {
    /// Names a stream within an association: `index << 3 | kind << 1 | opener`. The opener's bit is set for the
    /// side with the greater `EntityId`, the kind is the number of the stream's reliability, the index counts
    /// the streams that side opened (docs/protocol.md 4).
    StreamId
}
u64_id! {
    /// One side's label for one association with one peer: random, new whenever stream state starts afresh.
    AssociationId
}
u64_id! {
    /// Names a session of one kernel until it ends; never reused for another. Local: it never goes over the wire.
    SessionKey
}
u64_id! {
    /// Names a dial (one effort to agree a key) until it ends.
    AttemptId
}
u64_id! {
    /// Wire label of an `EntityId` (a 64-bit hash of it). Never a table key: labels may collide.
    NodeId
}
u64_id! {
    /// A command's caller-chosen correlation number; answers carry it back.
    CommandId
}

/// A boot epoch: strictly greater at every boot of one identity (PROTOCOL 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

/// Which machine a ticket, job or deadline belongs to. The kernel assigns the numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeatId(pub u8);

macro_rules! seated_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Joins a seat with its own running number, of which the low 56 bits are kept.
            #[must_use]
            pub const fn new(seat: SeatId, number: u64) -> Self {
                Self(((seat.0 as u64) << 56) | (number & ((1 << 56) - 1)))
            }

            /// The machine it belongs to.
            #[must_use]
            pub const fn seat(self) -> SeatId {
                SeatId((self.0 >> 56) as u8)
            }

            /// The whole value, for traces.
            #[must_use]
            pub const fn to_u64(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}:{})"), self.seat().0, self.0 & ((1 << 56) - 1))
            }
        }
    };
}

seated_id! {
    /// Names one storage operation until its completion comes back.
    Ticket
}
seated_id! {
    /// Names one job until its result comes back.
    JobId
}

/// Where a datagram goes or came from: an IP address and UDP port, IPv4 kept as IPv4.
pub type Addr = core::net::SocketAddr;
