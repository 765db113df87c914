//! Limits and times of sessions, each with its default and its reason.
//!
//! Invariants: every queue and deadline of this crate takes its bound from here or from a named constant.
//! Not here: limits of single components that nobody tunes (they stand beside their code).

use net_base::Duration;
use net_wire::Suite;

use crate::recovery::Algorithm;

/// Limits and times of sessions and streams. Fixed at boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// First retransmission of a handshake message; doubles up to [`Self::handshake_retry_max`].
    pub handshake_retry: Duration,
    /// Longest pause between two first messages.
    pub handshake_retry_max: Duration,
    /// A connection attempt without an authenticated answer ends after this.
    pub connect_timeout: Duration,
    /// The initiator replaces keys of this age (PROTOCOL 4).
    pub rekey_after: Duration,
    /// The other side does, where the initiator did not.
    pub rekey_after_responder: Duration,
    /// Nothing is sent or accepted under a key of this age.
    pub reject_after: Duration,
    /// Keys are replaced after this many packets under one key (at most 2^32; [`MAX_PACKETS_AES`] under AES-256-GCM).
    pub rekey_after_packets: u64,
    /// Offer and accept AES-256-GCM: for hosts with instructions for it. Used where the peer does too; without effect under a
    /// cipher that has it not.
    pub aes: bool,
    /// How long a replaced key still opens packets.
    pub previous_drain: Duration,
    /// A session in which nothing authentic arrived for this long ends.
    pub idle_timeout: Duration,
    /// An idle session sends a packet this often; `None` sends nothing and lets it time out.
    pub keep_alive: Option<Duration>,
    /// Sessions at once; one more is refused.
    pub max_sessions: usize,
    /// Handshakes that wait for the initiator's first packet; the oldest is dropped for one more.
    pub max_pending: usize,
    /// Streams one peer may have open at once in one session.
    pub max_streams: u64,
    /// Credit granted per stream, in positions (docs/protocol.md 4).
    pub stream_window: u64,
    /// Credit granted per session over all its streams, in positions. At least the largest message.
    pub session_window: u64,
    /// Bytes a stream buffers for sending (payload plus 16 per message) before backpressure.
    pub send_buffer: u64,
    /// Largest datagram tried by the path MTU search, 1,200 to 1,452.
    pub max_mtu: u16,
    /// Largest message accepted from the application and from the peer.
    pub max_message: u32,
    /// Mark packets ECN-capable.
    pub ecn: bool,
    /// What decides how much may be under way.
    pub congestion: Algorithm,
}

/// Packets under one key of AES-256-GCM before it is replaced. Half of 2^28, up to which an attacker's advantage stays below 2^-57
/// where packets have at most 2^11 bytes (RFC 9001 appendix B.1.1): the other half is for the time that a rekey takes.
pub const MAX_PACKETS_AES: u64 = 1 << 27;

impl SessionConfig {
    /// Packets under one key of `suite` after which it is replaced.
    #[must_use]
    pub const fn rekey_after_packets_of(&self, suite: Suite) -> u64 {
        match suite {
            Suite::Aes256Gcm if self.rekey_after_packets > MAX_PACKETS_AES => MAX_PACKETS_AES,
            Suite::ChaChaPoly | Suite::Aes256Gcm => self.rekey_after_packets,
        }
    }

    /// The suite that is offered.
    #[must_use]
    pub const fn best_suite(&self) -> Suite {
        self.suite_with(Suite::Aes256Gcm)
    }

    /// The suite to use with a peer whose best is `theirs`.
    #[must_use]
    pub const fn suite_with(&self, theirs: Suite) -> Suite {
        if self.aes { theirs } else { Suite::ChaChaPoly }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            handshake_retry: Duration::from_millis(250),
            handshake_retry_max: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(10),
            rekey_after: Duration::from_secs(120),
            rekey_after_responder: Duration::from_secs(150),
            reject_after: Duration::from_secs(180),
            rekey_after_packets: 1 << 32,
            aes: false,
            previous_drain: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(45),
            keep_alive: Some(Duration::from_secs(15)),
            max_sessions: net_base::limit::MAX_SESSIONS,
            max_pending: 1_024,
            max_streams: 1_024,
            stream_window: 4 << 20,
            session_window: 32 << 20,
            send_buffer: 4 << 20,
            max_mtu: net_base::limit::MAX_DATAGRAM as u16,
            max_message: net_wire::frame::MAX_MESSAGE,
            ecn: true,
            congestion: Algorithm::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_aes_are_replaced_sooner_and_never_later_than_asked_for() {
        let config = SessionConfig::default();
        assert_eq!(config.rekey_after_packets_of(Suite::ChaChaPoly), 1 << 32);
        assert_eq!(config.rekey_after_packets_of(Suite::Aes256Gcm), MAX_PACKETS_AES);
        let short = SessionConfig {
            rekey_after_packets: 16,
            ..config
        };
        for suite in [Suite::ChaChaPoly, Suite::Aes256Gcm] {
            assert_eq!(short.rekey_after_packets_of(suite), 16);
        }
    }

    #[test]
    fn a_suite_is_used_that_both_have() {
        let (with, without) = (
            SessionConfig {
                aes: true,
                ..SessionConfig::default()
            },
            SessionConfig::default(),
        );
        assert_eq!(
            (with.best_suite(), without.best_suite()),
            (Suite::Aes256Gcm, Suite::ChaChaPoly)
        );
        assert_eq!(with.suite_with(Suite::ChaChaPoly), Suite::ChaChaPoly);
        assert_eq!(without.suite_with(Suite::Aes256Gcm), Suite::ChaChaPoly);
    }
}
