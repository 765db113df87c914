//! The routing header in front of a packet, and the hop trailer behind it (protocol.md section 5).
//!
//! Invariants: a relay changes these and nothing between them. Not here: relaying and hop keys (`net-mesh`).

use core::fmt;

use net_base::{NodeId, SessionId};

use crate::bytes::{load_u64, part, store, store_u64};
use crate::drop::DropReason;
use crate::header::{HEADER_LEN, MAX_DATAGRAM, ROUTING_LEN, ROUTING_MAGIC, TAG_LEN, TRAILER_LEN};

/// The routing header's flags.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RoutingFlags(u8);

impl RoutingFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The inner packet is of the control plane.
    pub const CONTROL: Self = Self(0x01);
    /// The inner packet asks to be acknowledged.
    pub const REQUIRES_ACK: Self = Self(0x02);
    /// Relays may let the packet overtake others.
    pub const PRIORITY: Self = Self(0x04);
    /// The inner packet ends its stream.
    pub const END_OF_STREAM: Self = Self(0x08);

    /// Name and bit of every flag, for the tables of docs/protocol.md.
    pub const TABLE: [(&'static str, Self); 4] = [
        ("CONTROL", Self::CONTROL),
        ("REQUIRES_ACK", Self::REQUIRES_ACK),
        ("PRIORITY", Self::PRIORITY),
        ("END_OF_STREAM", Self::END_OF_STREAM),
    ];

    /// The byte on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags of a byte, or `None` where a reserved bit is set.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & 0xF0 == 0 { Some(Self(bits)) } else { None }
    }

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for RoutingFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::TABLE
            .iter()
            .filter(|(_, flag)| self.contains(*flag))
            .map(|(name, _)| *name);
        f.write_str(names.next().unwrap_or("NONE"))?;
        names.try_for_each(|name| write!(f, "|{name}"))
    }
}

/// Where a packet comes from and goes to, over hops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoutingHeader {
    /// Hops the packet may still take; a relay that gets 0 drops it.
    pub ttl: u8,
    /// Hops the packet took.
    pub hop_count: u8,
    /// What relays should know.
    pub flags: RoutingFlags,
    /// Label of the node that sent the packet.
    pub src: NodeId,
    /// Label of the node it is for.
    pub dest: NodeId,
}

impl RoutingHeader {
    /// Writes all 22 bytes.
    #[inline]
    pub fn encode(&self, out: &mut [u8; ROUTING_LEN]) {
        let [magic0, magic1] = ROUTING_MAGIC;
        let front = [magic0, magic1, self.ttl, self.hop_count, self.flags.0, 0];
        store::<0, 6, ROUTING_LEN>(out, &front);
        store_u64::<6, ROUTING_LEN>(out, self.src.0);
        store_u64::<14, ROUTING_LEN>(out, self.dest.0);
    }

    /// Reads a routing header.
    ///
    /// # Errors
    /// `GarbageMagic`, `ReservedFlag` or `ReservedField`.
    #[inline]
    pub fn decode(bytes: &[u8; ROUTING_LEN]) -> Result<Self, DropReason> {
        let [magic0, magic1, ttl, hop_count, flags, reserved] = *part::<0, 6, ROUTING_LEN>(bytes);
        if [magic0, magic1] != ROUTING_MAGIC {
            return Err(DropReason::GarbageMagic);
        }
        let flags = RoutingFlags::from_bits(flags).ok_or(DropReason::ReservedFlag)?;
        if reserved != 0 {
            return Err(DropReason::ReservedField);
        }
        Ok(Self {
            ttl,
            hop_count,
            flags,
            src: NodeId(load_u64::<6, ROUTING_LEN>(bytes)),
            dest: NodeId(load_u64::<14, ROUTING_LEN>(bytes)),
        })
    }
}

/// What one hop adds behind a packet, made anew by every relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HopTrailer {
    /// The hop session's id at the receiver.
    pub session: SessionId,
    /// The packet's number under the hop key.
    pub counter: u64,
    /// Tag over everything before it but the counter, which is its nonce.
    pub tag: [u8; TAG_LEN],
}

impl HopTrailer {
    /// Writes all 32 bytes.
    #[inline]
    pub fn encode(&self, out: &mut [u8; TRAILER_LEN]) {
        store_u64::<0, TRAILER_LEN>(out, self.session.0);
        store_u64::<8, TRAILER_LEN>(out, self.counter);
        store::<16, TAG_LEN, TRAILER_LEN>(out, &self.tag);
    }

    /// Reads a trailer; any bytes are one.
    #[inline]
    #[must_use]
    pub fn decode(bytes: &[u8; TRAILER_LEN]) -> Self {
        Self {
            session: SessionId(load_u64::<0, TRAILER_LEN>(bytes)),
            counter: load_u64::<8, TRAILER_LEN>(bytes),
            tag: *part::<16, TAG_LEN, TRAILER_LEN>(bytes),
        }
    }
}

/// A routed datagram, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Routed<'b> {
    /// The routing header.
    pub header: RoutingHeader,
    /// The whole inner packet, at least a header long; not looked into.
    pub packet: &'b [u8],
    /// The hop trailer.
    pub trailer: HopTrailer,
    /// The bytes that the trailer's tag covers: routing header, inner packet, hop session id.
    pub covered: &'b [u8],
}

impl<'b> Routed<'b> {
    /// Takes a datagram apart.
    ///
    /// # Errors
    /// `TooShort`, `Oversized`, or what [`RoutingHeader::decode`] finds.
    pub fn parse(datagram: &'b [u8]) -> Result<Self, DropReason> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(DropReason::Oversized);
        }
        let (header, rest) = datagram
            .split_first_chunk::<ROUTING_LEN>()
            .ok_or(DropReason::TooShort)?;
        let header = RoutingHeader::decode(header)?;
        let (packet, trailer) = rest.split_last_chunk::<TRAILER_LEN>().ok_or(DropReason::TooShort)?;
        if packet.len() < HEADER_LEN {
            return Err(DropReason::TooShort);
        }
        let covered = &datagram[..datagram.len() - (TRAILER_LEN - 8)];
        Ok(Self {
            header,
            packet,
            trailer: HopTrailer::decode(trailer),
            covered,
        })
    }
}
