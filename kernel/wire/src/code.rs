//! Small closed numbers inside frames: why a session closed, how a stream delivers.
//!
//! Invariants: numbers are stable; what is not listed does not decode.
//! Not here: why single packets are dropped (`drop.rs`).

use core::fmt;

/// How a stream delivers its messages (PROTOCOL 5). Fixed for the life of the stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Reliability {
    /// Sent once, in no promised order; a message fits one packet.
    FireAndForget = 0,
    /// Retransmitted until acknowledged and delivered in order.
    Reliable = 1,
    /// Retransmitted until acknowledged and delivered as it completes.
    ReliableUnordered = 2,
}

impl Reliability {
    /// Every kind, by number.
    pub const ALL: [Self; 3] = [Self::FireAndForget, Self::Reliable, Self::ReliableUnordered];

    /// The kind with this number.
    #[inline]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::FireAndForget),
            1 => Some(Self::Reliable),
            2 => Some(Self::ReliableUnordered),
            _ => None,
        }
    }

    /// The number on the wire.
    #[inline]
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self as u8
    }

    /// Whether lost messages are sent again.
    #[inline]
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        match self {
            Self::FireAndForget => false,
            Self::Reliable | Self::ReliableUnordered => true,
        }
    }
}

macro_rules! close_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// Why a session was closed, as said to the peer in a CLOSE frame.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum CloseCode {
            $($(#[doc = $doc])+ $name,)+
            /// The application's own code, at most [`CloseCode::MAX_APPLICATION`] (greater ones are sent as that).
            Application(u64),
        }

        impl CloseCode {
            /// Number, name and meaning of every code of the protocol itself.
            pub const TABLE: &'static [(Self, u64, &'static str, &'static str)] =
                &[$((Self::$name, $number, $text, concat!($($doc),+).trim_ascii()),)+];

            /// The number on the wire.
            #[must_use]
            pub const fn to_wire(self) -> u64 {
                match self {
                    $(Self::$name => $number,)+
                    Self::Application(code) => code.saturating_add(Self::FIRST_APPLICATION),
                }
            }

            /// The code a number stands for; `None` for a number of the protocol's range that is not assigned.
            #[must_use]
            pub const fn from_wire(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    Self::FIRST_APPLICATION.. => Some(Self::Application(number - Self::FIRST_APPLICATION)),
                    _ => None,
                }
            }

            /// The code as a label: lower case, words joined by underscores. Stable.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Application(_) => "application",
                }
            }
        }
    };
}

close_codes! {
    /// The peer is done; nothing is wrong.
    NoError = 0, "no_error";
    /// The peer's process ends.
    Shutdown = 1, "shutdown";
    /// Nothing was heard for longer than the idle timeout.
    IdleTimeout = 2, "idle_timeout";
    /// The peer's configuration does not admit this identity.
    NotAllowed = 3, "not_allowed";
    /// The other side started afresh: its streams are gone.
    PeerRestarted = 4, "peer_restarted";
    /// Another session of the same two peers took over.
    Superseded = 5, "superseded";
    /// The other side's boot epoch went back: it runs from a restored disk or a clone.
    StateRolledBack = 6, "state_rolled_back";
    /// More data arrived than credit was granted.
    FlowControl = 7, "flow_control";
    /// A frame broke the protocol.
    ProtocolViolation = 8, "protocol_violation";
    /// More streams were opened than allowed.
    StreamLimit = 9, "stream_limit";
    /// A message exceeded the receiver's limit.
    MessageTooLarge = 10, "message_too_large";
    /// A fault on the closing side.
    Internal = 11, "internal";
    /// No new key was agreed before the old one's hard limit.
    KeyExpired = 12, "key_expired";
}

impl CloseCode {
    /// Numbers from here on belong to applications.
    pub const FIRST_APPLICATION: u64 = 0x100;
    /// Greatest code an application may use.
    pub const MAX_APPLICATION: u64 = u64::MAX - Self::FIRST_APPLICATION;
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Self::Application(code) = self {
            write!(f, "({code})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_code_reads_back_and_is_printed_by_its_own_name() {
        for (at, &(code, number, name, _)) in CloseCode::TABLE.iter().enumerate() {
            assert_eq!((code.to_wire(), CloseCode::from_wire(number)), (number, Some(code)));
            assert_eq!((code.name(), code.to_string().as_str()), (name, name));
            assert!(
                CloseCode::TABLE[..at].iter().all(|(.., other, _)| *other != name),
                "{name}"
            );
        }
    }

    #[test]
    fn an_application_is_told_its_number_and_the_greatest_fits() {
        let code = CloseCode::Application(7);
        assert_eq!(code.to_string(), "application(7)");
        assert_eq!(CloseCode::from_wire(code.to_wire()), Some(code));
        let greatest = CloseCode::Application(CloseCode::MAX_APPLICATION);
        assert_eq!(CloseCode::from_wire(greatest.to_wire()), Some(greatest));
        assert_eq!(CloseCode::Application(u64::MAX).to_wire(), u64::MAX);
        assert_eq!(
            CloseCode::from_wire(CloseCode::FIRST_APPLICATION - 1),
            None,
            "not assigned"
        );
    }
}
