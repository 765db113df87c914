//! Handshake packets.
//!
//! Invariants: lengths are exact. Not here: cryptography (`net-session`).

use crate::header::HEADER_LEN;

/// Length of a whole initiation packet, in bytes.
pub const INITIATION_LEN: usize = HEADER_LEN + 196;
/// Length of a whole response packet, in bytes.
pub const RESPONSE_LEN: usize = HEADER_LEN + 108;
/// Length of a whole cookie reply packet, in bytes.
pub const COOKIE_REPLY_LEN: usize = HEADER_LEN + 60;

/// The kinds of handshake packets, by their first body byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum HandshakeKind {
    /// Message 1, from the side that starts.
    Initiation = 1,
    /// Message 2.
    Response = 2,
    /// Sent instead of a response by a responder under load.
    CookieReply = 3,
}

impl HandshakeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Initiation, Self::Response, Self::CookieReply];

    /// The kind a body's first byte names.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Initiation),
            2 => Some(Self::Response),
            3 => Some(Self::CookieReply),
            _ => None,
        }
    }

    /// Length of the whole packet, header included, in bytes.
    #[must_use]
    pub const fn packet_len(self) -> usize {
        match self {
            Self::Initiation => INITIATION_LEN,
            Self::Response => RESPONSE_LEN,
            Self::CookieReply => COOKIE_REPLY_LEN,
        }
    }
}
