//! The closed list of ways in which bytes from a peer are refused.
//!
//! Invariants: numbers are stable, contiguous from zero and only ever appended, so a reason indexes a counter array and
//! a recorded trace keeps its meaning. A drop changes nothing but its counter.
//! Not here: refusals of a local caller's commands (`Refused`), closing a session (`CloseCode`).

use core::fmt;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// Why a datagram, packet or frame was refused. `name()` is the metric label; the doc line of each variant is
        /// the explanation users read.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$name),+];
            /// How many reasons there are.
            pub const COUNT: usize = [$($number),+].len();

            /// The reason as a metric label: lower case, words joined by underscores. Stable.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// One line for people: what was wrong with the bytes.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

drop_reasons! {
    /// The first two bytes name no packet of this protocol.
    GarbageMagic = 0, "garbage_magic";
    /// Fewer bytes than the smallest packet of its kind.
    TooShort = 1, "too_short";
    /// More bytes than a datagram or a field may have.
    Oversized = 2, "oversized";
    /// A protocol version this node does not speak.
    BadVersion = 3, "bad_version";
    /// A reserved flag bit is set, or flags that exclude each other.
    ReservedFlag = 4, "reserved_flag";
    /// A reserved header field is not zero.
    ReservedField = 5, "reserved_field";
    /// A length in the packet disagrees with the bytes that arrived.
    LengthMismatch = 6, "length_mismatch";
    /// The session id belongs to no session here.
    UnknownSession = 7, "unknown_session";
    /// A handshake packet's MAC does not verify: another network's key or another recipient.
    BadMac = 8, "bad_mac";
    /// The packet's tag does not verify under the session's key.
    AeadFailure = 9, "aead_failure";
    /// The packet's counter was accepted before.
    Replayed = 10, "replayed";
    /// The packet's counter lies below the replay window.
    BelowWindow = 11, "below_window";
    /// A handshake packet whose kind, length or reserved bytes are wrong.
    BadHandshakeBody = 12, "bad_handshake_body";
    /// A well-formed handshake packet that answers nothing this node asked.
    UnexpectedHandshake = 13, "unexpected_handshake";
    /// A handshake packet that repeats one already being worked on.
    DuplicateHandshake = 14, "duplicate_handshake";
    /// A cipher suite this node does not have.
    UnsupportedSuite = 15, "unsupported_suite";
    /// A handshake that claims this node's own identity.
    OwnIdentity = 16, "own_identity";
    /// The EntityId named in a handshake does not convert to the Noise static key that was proved.
    EntityMismatch = 17, "entity_mismatch";
    /// A handshake whose (epoch, counter) is not greater than the last confirmed one.
    StaleHandshake = 18, "stale_handshake";
    /// A boot epoch further in the future than clocks may differ.
    EpochTooFar = 19, "epoch_too_far";
    /// The table of unconfirmed handshakes is full.
    PendingFull = 20, "pending_full";
    /// The source exceeds its rate of costly work.
    RateLimited = 21, "rate_limited";
    /// Under load a handshake must carry a cookie; one was sent instead of an answer.
    CookieRequired = 22, "cookie_required";
    /// A cookie, or a MAC made with one, does not verify.
    CookieInvalid = 23, "cookie_invalid";
    /// The Noise message does not decrypt or does not fit the handshake's state.
    NoiseFailure = 24, "noise_failure";
    /// A public key of low order, with which no secret can be agreed.
    LowOrderPoint = 25, "low_order_point";
    /// A frame that ends early, is not in shortest form, or contradicts itself.
    MalformedFrame = 26, "malformed_frame";
    /// An unknown frame of a type that must be understood.
    UnknownFrame = 27, "unknown_frame";
    /// A known frame where it may not stand.
    FrameNotAllowed = 28, "frame_not_allowed";
    /// The header's count of event frames is not what the packet carries.
    EventCount = 29, "event_count";
    /// Data beyond the credit that was granted.
    FlowControl = 30, "flow_control";
    /// An acknowledgement of a packet that was never sent.
    AckOfUnsent = 31, "ack_of_unsent";
    /// A message longer than the receiver's limit.
    MessageTooLarge = 32, "message_too_large";
    /// A stream beyond the number the peer may open.
    StreamLimit = 33, "stream_limit";
    /// A frame that contradicts what is known of its stream.
    StreamState = 34, "stream_state";
    /// A packet under a key past its lifetime.
    KeyExpired = 35, "key_expired";
    /// A peer that the configuration does not admit.
    NotAllowed = 36, "not_allowed";
    /// A packet for a session that was closed.
    ClosedSession = 37, "closed_session";
    /// A routed packet at a node that does not relay and takes none.
    RoutedNotSupported = 38, "routed_not_supported";
    /// A boot epoch lower than one confirmed before: the peer runs from restored state.
    StaleEpoch = 39, "stale_epoch";
    /// A bounded table or buffer has no room for what the packet asks to be kept.
    Overloaded = 40, "overloaded";
    /// A message of the mesh that is no message, or says what cannot be.
    MalformedMesh = 41, "malformed_mesh";
    /// A statement about a node older than what is known of it.
    StaleStatement = 42, "stale_statement";
    /// A statement whose signature is not its origin's.
    BadSignature = 43, "bad_signature";
    /// A packet of others at a node that relays none.
    RelayRefused = 44, "relay_refused";
    /// A routed packet for a node to which no way is known, or only the one it came from.
    NoRoute = 45, "no_route";
    /// A routed packet that took as many hops as it may.
    TtlExpired = 46, "ttl_expired";
    /// A neighbour has more relayed than its share.
    RelayQuota = 47, "relay_quota";
    /// A relay whose transmitter is full: relays queue nothing.
    RelayFull = 48, "relay_full";
    /// A routed packet inside a routed packet.
    NestedRouting = 49, "nested_routing";
    /// A datagram whose sender's address is one that stands for nodes behind relays: nobody can have it.
    ForgedSource = 50, "forged_source";
    /// A beacon of this network that says what cannot be.
    MalformedBeacon = 51, "malformed_beacon";
}

impl DropReason {
    /// The reason's number, below [`DropReason::COUNT`].
    #[inline]
    #[must_use]
    pub const fn as_index(self) -> usize {
        self as usize
    }
}

const _: () = {
    let mut at = 0;
    while at < DropReason::COUNT {
        assert!(
            DropReason::ALL[at] as usize == at,
            "drop reasons are numbered without gaps, in order"
        );
        at += 1;
    }
};

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for DropReason {}
