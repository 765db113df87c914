//! Handshake packets as views over received bytes and encoders into fixed arrays (protocol.md section 3).
//!
//! Invariants: a view exists only over a whole packet whose header, kind, length, suite and reserved bytes are right, so
//! accessors cannot fail; encoders leave both MACs zero until they are set.
//! Not here: Noise, the MACs and cookies themselves (`net-session`).

use net_base::{AssociationId, EntityId, Epoch, SessionId};

use crate::bytes::{load_u64, part, store, store_u64};
use crate::drop::DropReason;
use crate::header::{Datagram, HEADER_LEN, Header, peek};

/// Length of a whole initiation packet, in bytes.
pub const INITIATION_LEN: usize = HEADER_LEN + 196;
/// Length of a whole response packet, in bytes.
pub const RESPONSE_LEN: usize = HEADER_LEN + 108;
/// Length of a whole cookie reply packet, in bytes.
pub const COOKIE_REPLY_LEN: usize = HEADER_LEN + 60;

/// Length of the Noise message in an initiation: ephemeral 32, sealed static 48, sealed payload 72.
pub const INITIATION_NOISE_LEN: usize = 152;
/// Length of the Noise message in a response: ephemeral 32, sealed payload 32.
pub const RESPONSE_NOISE_LEN: usize = 64;
/// Length of the payload inside an initiation's Noise message.
pub const INITIATION_PAYLOAD_LEN: usize = 56;
/// Length of the payload inside a response's Noise message.
pub const RESPONSE_PAYLOAD_LEN: usize = 16;
/// Length of either MAC.
pub const MAC_LEN: usize = 16;
/// Length of a cookie.
pub const COOKIE_LEN: usize = 16;
/// Length of a cookie reply's nonce.
pub const COOKIE_NONCE_LEN: usize = 24;
/// Length of a sealed cookie: the cookie and its tag.
pub const SEALED_COOKIE_LEN: usize = COOKIE_LEN + 16;

// Offsets from the start of the packet. The three bodies share their first four bytes.
const KIND_AT: usize = HEADER_LEN;
const SENDER_AT: usize = KIND_AT + 4;
const NOISE_AT: usize = SENDER_AT + 8;
const COOKIE_NONCE_AT: usize = KIND_AT + 4;
const SEALED_COOKIE_AT: usize = COOKIE_NONCE_AT + COOKIE_NONCE_LEN;

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
    /// Every kind, by number.
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

/// The cipher suites a handshake may name: message 1 the best its sender has, message 2 the one that is used, which is that or a
/// lesser one. Both are bound into the handshake's pre-shared key, so that nobody on the way lowers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Suite {
    /// Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, then ChaCha20-Poly1305. Mandatory.
    ChaChaPoly = 1,
    /// The same handshake, then AES-256-GCM: where both sides have hardware for it.
    Aes256Gcm = 2,
}

impl Suite {
    /// The suite with this number.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::ChaChaPoly),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }
}

macro_rules! maced_message {
    ($(#[$doc:meta])* $name:ident, $len:ident, $noise_len:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name<'b> {
            packet: &'b [u8; $len],
            suite: Suite,
        }

        impl<'b> $name<'b> {
            /// Where `mac1` begins; it covers everything before.
            pub const MAC1_AT: usize = NOISE_AT + $noise_len;
            /// Where `mac2` begins; it covers everything before.
            pub const MAC2_AT: usize = Self::MAC1_AT + MAC_LEN;

            /// A view of a whole packet.
            ///
            /// # Errors
            /// Whatever [`peek`] finds, `UnsupportedSuite`, or `BadHandshakeBody` (another kind, wrong length, a
            /// reserved byte set, a sender id of 0).
            pub fn parse(packet: &'b [u8]) -> Result<Self, DropReason> {
                check_kind(packet, HandshakeKind::$kind)?;
                let packet: &[u8; $len] = packet.try_into().map_err(|_| DropReason::BadHandshakeBody)?;
                let [_, suite, reserved @ ..] = *part::<KIND_AT, 4, $len>(packet);
                if reserved != [0; 2] || load_u64::<SENDER_AT, $len>(packet) == 0 {
                    return Err(DropReason::BadHandshakeBody);
                }
                let suite = Suite::from_byte(suite).ok_or(DropReason::UnsupportedSuite)?;
                Ok(Self { packet, suite })
            }

            /// The cipher suite.
            #[must_use]
            pub const fn suite(&self) -> Suite {
                self.suite
            }

            /// The id under which the sender wants to receive; never 0.
            #[must_use]
            pub const fn sender(&self) -> SessionId {
                SessionId(load_u64::<SENDER_AT, $len>(self.packet))
            }

            /// The Noise message.
            #[must_use]
            pub fn noise(&self) -> &'b [u8; $noise_len] {
                part::<NOISE_AT, $noise_len, $len>(self.packet)
            }

            /// The bytes that `mac1` covers.
            #[must_use]
            pub fn mac1_input(&self) -> &'b [u8] {
                &self.packet[..Self::MAC1_AT]
            }

            /// The keyed MAC that shows knowledge of the network and the recipient.
            #[must_use]
            pub fn mac1(&self) -> &'b [u8; MAC_LEN] {
                part::<{ NOISE_AT + $noise_len }, MAC_LEN, $len>(self.packet)
            }

            /// The bytes that `mac2` covers.
            #[must_use]
            pub fn mac2_input(&self) -> &'b [u8] {
                &self.packet[..Self::MAC2_AT]
            }

            /// The MAC under a cookie; zero from a sender that has none.
            #[must_use]
            pub fn mac2(&self) -> &'b [u8; MAC_LEN] {
                part::<{ NOISE_AT + $noise_len + MAC_LEN }, MAC_LEN, $len>(self.packet)
            }

            /// Whether the sender claims to have a cookie.
            #[must_use]
            pub fn has_mac2(&self) -> bool {
                *self.mac2() != [0; MAC_LEN]
            }

            /// Writes `mac1` into a packet under construction.
            pub fn set_mac1(packet: &mut [u8; $len], mac: &[u8; MAC_LEN]) {
                store::<{ NOISE_AT + $noise_len }, MAC_LEN, $len>(packet, mac);
            }

            /// Writes `mac2` into a packet under construction.
            pub fn set_mac2(packet: &mut [u8; $len], mac: &[u8; MAC_LEN]) {
                store::<{ NOISE_AT + $noise_len + MAC_LEN }, MAC_LEN, $len>(packet, mac);
            }
        }
    };
}

maced_message! {
    /// Message 1: who starts, and the first half of the key agreement.
    Initiation, INITIATION_LEN, INITIATION_NOISE_LEN, Initiation
}
maced_message! {
    /// Message 2: the second half of the key agreement.
    Response, RESPONSE_LEN, RESPONSE_NOISE_LEN, Response
}

impl Initiation<'_> {
    /// A whole packet with both MACs zero. `sender` is not 0.
    #[must_use]
    pub fn encode(sender: SessionId, suite: Suite, noise: &[u8; INITIATION_NOISE_LEN]) -> [u8; INITIATION_LEN] {
        let mut packet = start(HandshakeKind::Initiation, suite as u8, SessionId(0));
        store_u64::<SENDER_AT, INITIATION_LEN>(&mut packet, sender.0);
        store::<NOISE_AT, INITIATION_NOISE_LEN, INITIATION_LEN>(&mut packet, noise);
        packet
    }
}

impl Response<'_> {
    /// A whole packet to the session `receiver` of the initiator, with both MACs zero. Neither id is 0.
    #[must_use]
    pub fn encode(
        receiver: SessionId,
        sender: SessionId,
        suite: Suite,
        noise: &[u8; RESPONSE_NOISE_LEN],
    ) -> [u8; RESPONSE_LEN] {
        let mut packet = start(HandshakeKind::Response, suite as u8, receiver);
        store_u64::<SENDER_AT, RESPONSE_LEN>(&mut packet, sender.0);
        store::<NOISE_AT, RESPONSE_NOISE_LEN, RESPONSE_LEN>(&mut packet, noise);
        packet
    }

    /// The id the initiator chose for what it receives; never 0.
    #[must_use]
    pub const fn receiver(&self) -> SessionId {
        SessionId(load_u64::<24, RESPONSE_LEN>(self.packet))
    }
}

/// A cookie, sealed to the sender of an initiation, from a responder under load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CookieReply<'b> {
    packet: &'b [u8; COOKIE_REPLY_LEN],
}

impl<'b> CookieReply<'b> {
    /// A view of a whole packet.
    ///
    /// # Errors
    /// Whatever [`peek`] finds, or `BadHandshakeBody` (another kind, wrong length, suite or a reserved byte set).
    pub fn parse(packet: &'b [u8]) -> Result<Self, DropReason> {
        check_kind(packet, HandshakeKind::CookieReply)?;
        let packet: &[u8; COOKIE_REPLY_LEN] = packet.try_into().map_err(|_| DropReason::BadHandshakeBody)?;
        let [_, suite_and_reserved @ ..] = *part::<KIND_AT, 4, COOKIE_REPLY_LEN>(packet);
        if suite_and_reserved != [0; 3] {
            return Err(DropReason::BadHandshakeBody);
        }
        Ok(Self { packet })
    }

    /// A whole packet to the session `receiver` of the initiator, which is not 0.
    #[must_use]
    pub fn encode(
        receiver: SessionId,
        nonce: &[u8; COOKIE_NONCE_LEN],
        sealed: &[u8; SEALED_COOKIE_LEN],
    ) -> [u8; COOKIE_REPLY_LEN] {
        let mut packet = start(HandshakeKind::CookieReply, 0, receiver);
        store::<COOKIE_NONCE_AT, COOKIE_NONCE_LEN, COOKIE_REPLY_LEN>(&mut packet, nonce);
        store::<SEALED_COOKIE_AT, SEALED_COOKIE_LEN, COOKIE_REPLY_LEN>(&mut packet, sealed);
        packet
    }

    /// The id the initiator chose for what it receives; never 0.
    #[must_use]
    pub const fn receiver(&self) -> SessionId {
        SessionId(load_u64::<24, COOKIE_REPLY_LEN>(self.packet))
    }

    /// The nonce under which the cookie is sealed.
    #[must_use]
    pub fn nonce(&self) -> &'b [u8; COOKIE_NONCE_LEN] {
        part::<COOKIE_NONCE_AT, COOKIE_NONCE_LEN, COOKIE_REPLY_LEN>(self.packet)
    }

    /// The cookie and its tag.
    #[must_use]
    pub fn sealed(&self) -> &'b [u8; SEALED_COOKIE_LEN] {
        part::<SEALED_COOKIE_AT, SEALED_COOKIE_LEN, COOKIE_REPLY_LEN>(self.packet)
    }
}

/// What an initiation says inside its Noise message. Believed only once the initiator's first packet authenticates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InitiationPayload {
    /// Who starts; must convert to the Noise static key.
    pub entity: EntityId,
    /// The initiator's boot epoch.
    pub epoch: Epoch,
    /// Grows with every handshake of one boot.
    pub counter: u64,
    /// The initiator's label for the association.
    pub association: AssociationId,
}

impl InitiationPayload {
    /// The payload on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; INITIATION_PAYLOAD_LEN] {
        let mut out = [0; INITIATION_PAYLOAD_LEN];
        store::<0, 32, INITIATION_PAYLOAD_LEN>(&mut out, &self.entity.0);
        store_u64::<32, INITIATION_PAYLOAD_LEN>(&mut out, self.epoch.0);
        store_u64::<40, INITIATION_PAYLOAD_LEN>(&mut out, self.counter);
        store_u64::<48, INITIATION_PAYLOAD_LEN>(&mut out, self.association.0);
        out
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// `BadHandshakeBody` for any other length.
    pub fn decode(bytes: &[u8]) -> Result<Self, DropReason> {
        let bytes: &[u8; INITIATION_PAYLOAD_LEN] = bytes.try_into().map_err(|_| DropReason::BadHandshakeBody)?;
        Ok(Self {
            entity: EntityId(*part::<0, 32, INITIATION_PAYLOAD_LEN>(bytes)),
            epoch: Epoch(load_u64::<32, INITIATION_PAYLOAD_LEN>(bytes)),
            counter: load_u64::<40, INITIATION_PAYLOAD_LEN>(bytes),
            association: AssociationId(load_u64::<48, INITIATION_PAYLOAD_LEN>(bytes)),
        })
    }
}

/// What a response says inside its Noise message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponsePayload {
    /// The responder's boot epoch.
    pub epoch: Epoch,
    /// The responder's label for the association.
    pub association: AssociationId,
}

impl ResponsePayload {
    /// The payload on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; RESPONSE_PAYLOAD_LEN] {
        let mut out = [0; RESPONSE_PAYLOAD_LEN];
        store_u64::<0, RESPONSE_PAYLOAD_LEN>(&mut out, self.epoch.0);
        store_u64::<8, RESPONSE_PAYLOAD_LEN>(&mut out, self.association.0);
        out
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// `BadHandshakeBody` for any other length.
    pub fn decode(bytes: &[u8]) -> Result<Self, DropReason> {
        let bytes: &[u8; RESPONSE_PAYLOAD_LEN] = bytes.try_into().map_err(|_| DropReason::BadHandshakeBody)?;
        Ok(Self {
            epoch: Epoch(load_u64::<0, RESPONSE_PAYLOAD_LEN>(bytes)),
            association: AssociationId(load_u64::<8, RESPONSE_PAYLOAD_LEN>(bytes)),
        })
    }
}

fn check_kind(packet: &[u8], expected: HandshakeKind) -> Result<(), DropReason> {
    match peek(packet)? {
        Datagram::Handshake { kind, .. } if kind == expected => Ok(()),
        Datagram::Handshake { .. } | Datagram::Protected { .. } | Datagram::Routed => Err(DropReason::BadHandshakeBody),
    }
}

/// A packet with its header and the prefix of its body.
fn start<const LEN: usize>(kind: HandshakeKind, suite: u8, receiver: SessionId) -> [u8; LEN] {
    let mut header = [0; HEADER_LEN];
    Header::handshake(receiver, (LEN - HEADER_LEN) as u16).encode(&mut header);
    let mut packet = [0; LEN];
    store::<0, HEADER_LEN, LEN>(&mut packet, &header);
    store::<KIND_AT, 4, LEN>(&mut packet, &[kind as u8, suite, 0, 0]);
    packet
}

const _: () = {
    assert!(Initiation::MAC2_AT + MAC_LEN == INITIATION_LEN);
    assert!(Response::MAC2_AT + MAC_LEN == RESPONSE_LEN);
    assert!(SEALED_COOKIE_AT + SEALED_COOKIE_LEN == COOKIE_REPLY_LEN);
    // No answer is larger than what provoked it (THREATS: an off-path spoofer).
    assert!(RESPONSE_LEN <= INITIATION_LEN && COOKIE_REPLY_LEN <= INITIATION_LEN);
};
