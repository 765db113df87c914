//! What must hold of keys and of the packets sealed under them.
//!
//! Invariants: checkers keep memory in proportion to keys. Not here: nonces (`packet.rs`).

use std::collections::BTreeMap;

use super::{Checker, Observation, wants};
use crate::aead;

/// Nothing is sealed under a key that has reached the age at which it must not be used any more.
#[derive(Debug)]
pub struct KeyLifetime {
    limit: u64,
    /// The machine's time at which each key was first seen in use. It was agreed before, so its age is no less.
    first: BTreeMap<u64, u64>,
}

impl KeyLifetime {
    /// Keys may be used for less than `limit` ns of their machine's time. Readable under the clear AEAD only.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self {
            limit,
            first: BTreeMap::new(),
        }
    }
}

impl Checker for KeyLifetime {
    fn name(&self) -> &'static str {
        "key-lifetime"
    }

    fn wants(&self) -> u8 {
        wants::SENT
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Sent { node, mono, bytes, .. } = *observation else {
            return Ok(());
        };
        let Some(sealed) = aead::inspect(bytes) else {
            return Ok(());
        };
        let first = *self.first.entry(sealed.key).or_insert(mono);
        let age = mono.saturating_sub(first);
        if age < self.limit {
            return Ok(());
        }
        let ms = |ns: u64| ns / 1_000_000;
        Err(format!(
            "node {node} sealed a packet under a key it had used for {} ms; {} ms is the end of every key",
            ms(age),
            ms(self.limit)
        ))
    }
}

/// A packet that was not given to a process before is never refused as a replay.
#[derive(Debug)]
pub struct GenuineRefused;

impl Checker for GenuineRefused {
    fn name(&self) -> &'static str {
        "genuine-refused"
    }

    fn wants(&self) -> u8 {
        wants::GENUINE
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Genuine { node, replayed } if replayed > 0 => Err(format!(
                "node {node} took a packet for a replay that it was given for the first time"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_kernel::base::rng::Secret;
    use net_kernel::session::aead::Aead as _;
    use net_kernel::wire::{HEADER_LEN, Header};

    fn packet(key: u8, counter: u64) -> Vec<u8> {
        let header = Header {
            counter,
            ..Header::default()
        };
        let mut out = [0; HEADER_LEN];
        header.encode(&mut out);
        let key = aead::Clear::key(net_kernel::wire::Suite::ChaChaPoly, &Secret([key; 32]));
        let tag = aead::Clear::seal(&key, &[0; 12], &out, &mut []);
        [&out[..], &tag].concat()
    }

    #[test]
    fn a_key_used_to_its_end_is_noticed_and_a_younger_one_is_not() {
        let mut checker = KeyLifetime::new(180);
        let mut send = |key, mono| {
            checker.observe(&Observation::Sent {
                node: 0,
                to: ([10, 0, 0, 1], 1).into(),
                mono,
                bytes: &packet(key, mono),
            })
        };
        send(1, 1_000).unwrap();
        send(1, 1_179).unwrap();
        send(2, 1_179).unwrap();
        assert!(send(1, 1_180).unwrap_err().contains("end of every key"));
        send(2, 1_200).unwrap();
    }

    #[test]
    fn a_genuine_packet_taken_for_a_replay_is_noticed() {
        let genuine = |replayed| Observation::Genuine { node: 3, replayed };
        assert_eq!(GenuineRefused.observe(&genuine(0)), Ok(()));
        assert!(GenuineRefused.observe(&genuine(1)).is_err());
    }
}
