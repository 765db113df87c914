//! The 64-byte header of a Net packet, its masking, and the first look at a datagram (protocol.md sections 1 and 2).
//!
//! Invariants: `decode` accepts exactly what `encode` writes for the same value; masking is its own inverse and leaves
//! MAGIC, VERSION and SESSION_ID alone.
//! Not here: computing the mask (`net-session`), the plaintext (`frame.rs`), handshake bodies (`handshake.rs`).

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

use net_base::{SessionId, StreamId};

use crate::bytes::{load_u64, store_u64};
use crate::drop::DropReason;
use crate::handshake::HandshakeKind;

/// Length of the header, in bytes: one cache line.
pub const HEADER_LEN: usize = 64;
/// Length of a protected packet's tag, in bytes.
pub const TAG_LEN: usize = 16;
/// What a protected packet adds to its plaintext, in bytes.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// Length of a routing header, in bytes.
pub const ROUTING_LEN: usize = 22;
/// Length of a hop trailer, in bytes.
pub const TRAILER_LEN: usize = 32;
/// Longest datagram, in bytes: what UDP carries over IPv6 (RFC 768, RFC 8200).
pub const MAX_DATAGRAM: usize = 65_527;

/// The first two bytes of a Net packet, read as a little-endian number.
pub const MAGIC: u16 = 0x4E45;
/// The protocol version written in every packet.
pub const VERSION: u8 = 1;
/// The first two bytes of a routing header.
pub const ROUTING_MAGIC: [u8; 2] = *b"RT";

/// The header's FLAGS byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The packet's stream retransmits what is lost.
    pub const RELIABLE: Self = Self(0x01);
    /// Reserved, zero and checked.
    pub const NACK: Self = Self(0x02);
    /// The PRIORITY field counts.
    pub const PRIORITY: Self = Self(0x04);
    /// The stream ends after the packet's last event frame.
    pub const FIN: Self = Self(0x08);
    /// A handshake packet: not masked, not encrypted as a whole.
    pub const HANDSHAKE: Self = Self(0x10);
    /// Sent to show that its sender lives.
    pub const HEARTBEAT: Self = Self(0x20);

    /// The bits a received packet may carry.
    const ALLOWED: u8 = 0x01 | 0x04 | 0x08 | 0x10 | 0x20;

    /// Name and bit of every flag, for the tables of docs/protocol.md.
    pub const TABLE: [(&'static str, Self); 6] = [
        ("RELIABLE", Self::RELIABLE),
        ("NACK", Self::NACK),
        ("PRIORITY", Self::PRIORITY),
        ("FIN", Self::FIN),
        ("HANDSHAKE", Self::HANDSHAKE),
        ("HEARTBEAT", Self::HEARTBEAT),
    ];

    /// The byte on the wire.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags of a byte, or `None` where a reserved bit is set.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::ALLOWED == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Whether every flag of `other` is set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[inline]
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        *self = self.with(other);
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::TABLE
            .iter()
            .filter(|(_, flag)| self.contains(*flag))
            .map(|(name, _)| *name);
        f.write_str(names.next().unwrap_or("NONE"))?;
        names.try_for_each(|name| write!(f, "|{name}"))
    }
}

/// The header's live fields; everything else is zero on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// What the packet is and asks for.
    pub flags: Flags,
    /// Scheduling priority; non-zero only together with [`Flags::PRIORITY`].
    pub priority: u8,
    /// The stream's subprotocol (`subprotocol.rs`); 0 is plain events.
    pub subprotocol: u16,
    /// The packet's number under its key: the AEAD nonce, and what acknowledgements name.
    pub counter: u64,
    /// The receiver's name for the key; 0 in a handshake initiation.
    pub session: SessionId,
    /// The stream of the packet's event frames; 0 in a packet that carries none and no FIN.
    pub stream: StreamId,
    /// Message number of the first event frame; 0 in a packet that carries none and no FIN.
    pub sequence: u64,
    /// Plaintext bytes of a protected packet, body bytes of a handshake packet.
    pub payload_len: u16,
    /// Number of EVENT and SEGMENT frames.
    pub event_count: u16,
}

impl Header {
    /// The header of a handshake packet with a body of `payload_len` bytes.
    #[must_use]
    pub const fn handshake(session: SessionId, payload_len: u16) -> Self {
        Self {
            flags: Flags::HANDSHAKE,
            priority: 0,
            subprotocol: 0,
            counter: 0,
            session,
            stream: StreamId(0),
            sequence: 0,
            payload_len,
            event_count: 0,
        }
    }

    /// Writes all 64 bytes, unmasked.
    #[inline]
    pub fn encode(&self, out: &mut [u8; HEADER_LEN]) {
        let first = MAGIC as u64 | (VERSION as u64) << 16 | (self.flags.0 as u64) << 24 | (self.priority as u64) << 32;
        store_u64::<0, HEADER_LEN>(out, first);
        store_u64::<8, HEADER_LEN>(out, self.subprotocol as u64);
        store_u64::<16, HEADER_LEN>(out, self.counter);
        store_u64::<24, HEADER_LEN>(out, self.session.0);
        store_u64::<32, HEADER_LEN>(out, self.stream.0);
        store_u64::<40, HEADER_LEN>(out, self.sequence);
        store_u64::<48, HEADER_LEN>(out, 0);
        store_u64::<56, HEADER_LEN>(out, (self.payload_len as u64) << 32 | (self.event_count as u64) << 48);
    }

    /// Reads an unmasked header and checks every reserved bit and field.
    ///
    /// # Errors
    /// `GarbageMagic`, `BadVersion`, `ReservedFlag` (a reserved bit, or HANDSHAKE beside another flag) or
    /// `ReservedField` (a field that must be zero is not: a reserved one, PRIORITY without its flag, a stream field of
    /// a packet without events and FIN, anything but SESSION_ID and PAYLOAD_LEN in a handshake packet).
    #[inline]
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, DropReason> {
        let first = load_u64::<0, HEADER_LEN>(bytes);
        let second = load_u64::<8, HEADER_LEN>(bytes);
        let last = load_u64::<56, HEADER_LEN>(bytes);
        if first as u16 != MAGIC {
            return Err(DropReason::GarbageMagic);
        }
        if (first >> 16) as u8 != VERSION {
            return Err(DropReason::BadVersion);
        }
        let Some(flags) = Flags::from_bits((first >> 24) as u8) else {
            return Err(DropReason::ReservedFlag);
        };
        let header = Self {
            flags,
            priority: (first >> 32) as u8,
            subprotocol: second as u16,
            counter: load_u64::<16, HEADER_LEN>(bytes),
            session: SessionId(load_u64::<24, HEADER_LEN>(bytes)),
            stream: StreamId(load_u64::<32, HEADER_LEN>(bytes)),
            sequence: load_u64::<40, HEADER_LEN>(bytes),
            payload_len: (last >> 32) as u16,
            event_count: (last >> 48) as u16,
        };
        if (first >> 40) | (second >> 16) | load_u64::<48, HEADER_LEN>(bytes) | (last & 0xFFFF_FFFF) != 0 {
            return Err(DropReason::ReservedField);
        }
        header.check_use()?;
        Ok(header)
    }

    /// The rules that tie fields to flags and counts.
    #[inline]
    fn check_use(&self) -> Result<(), DropReason> {
        if self.priority != 0 && !self.flags.contains(Flags::PRIORITY) {
            return Err(DropReason::ReservedField);
        }
        let carries_stream = self.event_count != 0 || self.flags.contains(Flags::FIN);
        if !carries_stream && self.stream.0 | self.sequence | self.subprotocol as u64 != 0 {
            return Err(DropReason::ReservedField);
        }
        if self.flags.contains(Flags::HANDSHAKE) {
            if self.flags != Flags::HANDSHAKE {
                return Err(DropReason::ReservedFlag);
            }
            if self.counter | self.event_count as u64 != 0 {
                return Err(DropReason::ReservedField);
            }
        }
        Ok(())
    }

    /// Checks PAYLOAD_LEN against the length of the packet it came in (routing header and trailer not counted).
    ///
    /// # Errors
    /// `LengthMismatch`.
    #[inline]
    pub fn check_len(&self, packet_len: usize) -> Result<(), DropReason> {
        let around = if self.flags.contains(Flags::HANDSHAKE) {
            HEADER_LEN
        } else {
            OVERHEAD
        };
        if packet_len == self.payload_len as usize + around {
            Ok(())
        } else {
            Err(DropReason::LengthMismatch)
        }
    }
}

/// One row of the header's layout, for the tables of docs/protocol.md and the tests that hold the codec to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Offset of the first byte.
    pub offset: usize,
    /// Length in bytes.
    pub size: usize,
    /// Name.
    pub name: &'static str,
    /// What it may hold.
    pub rule: &'static str,
    /// Reserved: zero in every packet, and checked.
    pub reserved: bool,
}

const fn field(offset: usize, size: usize, name: &'static str, rule: &'static str) -> Field {
    Field {
        offset,
        size,
        name,
        rule,
        reserved: false,
    }
}

const fn reserved(offset: usize, size: usize, name: &'static str) -> Field {
    Field {
        offset,
        size,
        name,
        rule: "zero",
        reserved: true,
    }
}

/// The header's layout, without gaps.
pub const FIELDS: &[Field] = &[
    field(0, 2, "MAGIC", "0x4E45"),
    field(2, 1, "VERSION", "1"),
    field(3, 1, "FLAGS", "the flags below"),
    field(
        4,
        1,
        "PRIORITY",
        "0..=255, non-zero only together with the PRIORITY flag",
    ),
    reserved(5, 1, "HOP_TTL"),
    reserved(6, 1, "HOP_COUNT"),
    reserved(7, 1, "FRAG_FLAGS"),
    field(
        8,
        2,
        "SUBPROTOCOL_ID",
        "of the stream, 0 plain events; 0 when EVENT_COUNT = 0 and FIN is clear",
    ),
    reserved(10, 2, "CHANNEL_HASH"),
    reserved(12, 4, "NONCE, first part"),
    field(16, 8, "NONCE, counter", "the packet's number under its key"),
    field(24, 8, "SESSION_ID", "the receiver's; 0 in a handshake initiation"),
    field(
        32,
        8,
        "STREAM_ID",
        "the stream of the packet's event frames; 0 when EVENT_COUNT = 0 and FIN is clear",
    ),
    field(
        40,
        8,
        "SEQUENCE",
        "message number of the first event frame; 0 when EVENT_COUNT = 0 and FIN is clear",
    ),
    reserved(48, 4, "SUBNET_ID"),
    reserved(52, 4, "ORIGIN_HASH"),
    reserved(56, 2, "FRAGMENT_ID"),
    reserved(58, 2, "FRAGMENT_OFFSET"),
    field(
        60,
        2,
        "PAYLOAD_LEN",
        "plaintext bytes; equals the packet's length - 64 - 16 (handshake: - 64)",
    ),
    field(62, 2, "EVENT_COUNT", "number of EVENT and SEGMENT frames"),
];

/// What a datagram is, as far as can be told without a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Datagram {
    /// A protected packet for the session named.
    Protected {
        /// The receiver's session id, never 0.
        session: SessionId,
    },
    /// A handshake packet whose header, kind and length are right.
    Handshake {
        /// Which message it is.
        kind: HandshakeKind,
        /// 0 in an initiation, else the id the initiator chose.
        session: SessionId,
    },
    /// A routing header, a packet and a hop trailer; nothing but the magic and the least length is checked.
    Routed,
}

/// Classifies a datagram by magic, version and length. Costs a few loads; keeps nothing.
///
/// A packet is taken for a handshake if every byte that a handshake leaves at zero is zero and FLAGS is HANDSHAKE; the
/// mask of a protected packet makes it look so with probability below 2^-300.
///
/// # Errors
/// `Oversized`, `TooShort`, `GarbageMagic`, `BadVersion`, and for handshakes what [`Header::decode`] finds,
/// `LengthMismatch` or `BadHandshakeBody`.
#[inline]
pub fn peek(datagram: &[u8]) -> Result<Datagram, DropReason> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(DropReason::Oversized);
    }
    let Some(header) = datagram.first_chunk::<HEADER_LEN>() else {
        return Err(peek_short(datagram));
    };
    let first = load_u64::<0, HEADER_LEN>(header);
    if first as u16 != MAGIC {
        return peek_other(datagram);
    }
    if (first >> 16) as u8 != VERSION {
        return Err(DropReason::BadVersion);
    }
    let session = SessionId(load_u64::<24, HEADER_LEN>(header));
    if session.0 == 0 || is_handshake(header) {
        return peek_handshake(header, datagram);
    }
    if datagram.len() < OVERHEAD {
        return Err(DropReason::TooShort);
    }
    Ok(Datagram::Protected { session })
}

#[inline]
fn is_handshake(header: &[u8; HEADER_LEN]) -> bool {
    let first = load_u64::<0, HEADER_LEN>(header);
    let expected = MAGIC as u64 | (VERSION as u64) << 16 | (Flags::HANDSHAKE.0 as u64) << 24;
    first == expected
        && load_u64::<8, HEADER_LEN>(header)
            | load_u64::<16, HEADER_LEN>(header)
            | load_u64::<32, HEADER_LEN>(header)
            | load_u64::<40, HEADER_LEN>(header)
            | load_u64::<48, HEADER_LEN>(header)
            | (load_u64::<56, HEADER_LEN>(header) & !(0xFFFF << 32))
            == 0
}

#[cold]
fn peek_short(datagram: &[u8]) -> DropReason {
    match datagram.first_chunk::<2>() {
        None => DropReason::TooShort,
        Some(magic) if u16::from_le_bytes(*magic) == MAGIC || *magic == ROUTING_MAGIC => DropReason::TooShort,
        Some(_) => DropReason::GarbageMagic,
    }
}

#[cold]
fn peek_other(datagram: &[u8]) -> Result<Datagram, DropReason> {
    if !datagram.starts_with(&ROUTING_MAGIC) {
        return Err(DropReason::GarbageMagic);
    }
    if datagram.len() < ROUTING_LEN + HEADER_LEN + TRAILER_LEN {
        return Err(DropReason::TooShort);
    }
    Ok(Datagram::Routed)
}

#[cold]
fn peek_handshake(header: &[u8; HEADER_LEN], datagram: &[u8]) -> Result<Datagram, DropReason> {
    let header = Header::decode(header)?;
    if header.flags != Flags::HANDSHAKE {
        // Session 0 is nobody's: only an initiation may carry it.
        return Err(DropReason::UnknownSession);
    }
    header.check_len(datagram.len())?;
    let Some(kind) = datagram
        .get(HEADER_LEN)
        .and_then(|byte| HandshakeKind::from_byte(*byte))
    else {
        return Err(DropReason::BadHandshakeBody);
    };
    if kind.packet_len() != datagram.len() || (kind == HandshakeKind::Initiation) != (header.session.0 == 0) {
        return Err(DropReason::BadHandshakeBody);
    }
    Ok(Datagram::Handshake {
        kind,
        session: header.session,
    })
}

/// Masks or unmasks a protected packet's header in place: bytes 3..24 and 32..64 are XORed with the first 53 bytes of
/// the ChaCha20 block `mask`. Applying it twice restores the header.
#[inline]
pub fn apply_mask(header: &mut [u8; HEADER_LEN], mask: &[u8; 64]) {
    // Mask byte n belongs to header byte n + 3 below SESSION_ID and n + 11 above it, so each header word takes the
    // mask's word that starts 3 (11) bytes earlier; the first one is shifted past MAGIC and VERSION.
    let first = load_u64::<0, HEADER_LEN>(header) ^ (load_u64::<0, 64>(mask) << 24);
    store_u64::<0, HEADER_LEN>(header, first);
    xor_word::<8, 5>(header, mask);
    xor_word::<16, 13>(header, mask);
    xor_word::<32, 21>(header, mask);
    xor_word::<40, 29>(header, mask);
    xor_word::<48, 37>(header, mask);
    xor_word::<56, 45>(header, mask);
}

#[inline(always)]
fn xor_word<const TO: usize, const FROM: usize>(header: &mut [u8; HEADER_LEN], mask: &[u8; 64]) {
    let word = load_u64::<TO, HEADER_LEN>(header) ^ load_u64::<FROM, 64>(mask);
    store_u64::<TO, HEADER_LEN>(header, word);
}

/// The bytes from which a packet's mask is derived: its last 16, the tag. Zeros for fewer than 16 bytes, which
/// [`peek`] refuses.
#[inline]
#[must_use]
pub fn sample(packet: &[u8]) -> [u8; 16] {
    packet.last_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_touches_exactly_the_protected_bytes() {
        let mask: [u8; 64] = core::array::from_fn(|at| at as u8 + 1);
        let mut header = [0; HEADER_LEN];
        apply_mask(&mut header, &mask);
        for (at, byte) in header.iter().enumerate() {
            let expected = match at {
                3..24 => mask[at - 3],
                32..64 => mask[at - 11],
                _ => 0,
            };
            assert_eq!(*byte, expected, "byte {at}");
        }
        apply_mask(&mut header, &mask);
        assert_eq!(header, [0; HEADER_LEN]);
    }
}
