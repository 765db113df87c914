//! The network key: who knows it may take part, and everything derived from it.
//!
//! Invariants: pre-shared key, MAC key and fingerprint derive separately under their own labels, so none
//! reveals another or the key. Not here: how two keys are accepted during a rotation (`trust.rs`).

use core::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use net_base::rng::Secret;

use crate::beacon::BeaconKeys;

/// Names a network without revealing its key; compared before anything is sent.
pub type Fingerprint = [u8; 8];

/// Shortest passphrase accepted, in bytes.
pub const MIN_PASSPHRASE: usize = 8;
/// Longest passphrase accepted, in bytes.
pub const MAX_PASSPHRASE: usize = 1_024;
/// Argon2id memory, in KiB (RFC 9106 section 4, second recommended option).
const ARGON2_MEMORY_KIB: u32 = 64 * 1_024;
/// Argon2id passes.
const ARGON2_PASSES: u32 = 3;
/// Argon2id lanes.
const ARGON2_LANES: u32 = 4;
/// Argon2id salt. Fixed, because everyone who knows the passphrase must arrive at the same key and has
/// nowhere to learn a salt from; it separates this use of a passphrase from every other.
const ARGON2_SALT: &[u8; 16] = b"net passphrase 1";

/// 32 bytes that all members of a network share (PROTOCOL 1). Wiped when dropped; never printed.
#[derive(Clone)]
pub struct NetworkKey {
    key: Secret,
    open: bool,
}

impl NetworkKey {
    /// The key of the open network: known to everybody, so it keeps nobody out.
    #[must_use]
    pub fn open() -> Self {
        Self {
            key: Secret(blake3::derive_key("net open network v1", &[])),
            open: true,
        }
    }

    /// A key of 32 secret bytes.
    #[must_use]
    pub fn from_bytes(key: Secret) -> Self {
        let open = key.0 == Self::open().key.0;
        Self { key, open }
    }

    /// The key of a passphrase: Argon2id (RFC 9106) with 64 MiB, 3 passes, 4 lanes and a fixed salt.
    /// Takes a good part of a second and 64 MiB: never in a turn.
    ///
    /// # Errors
    /// `BadPassphrase` outside 8 to 1,024 bytes.
    pub fn from_passphrase(passphrase: &str) -> Result<Self, BadPassphrase> {
        if !(MIN_PASSPHRASE..=MAX_PASSPHRASE).contains(&passphrase.len()) {
            return Err(BadPassphrase);
        }
        let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(32))
            .expect("the costs are constants inside Argon2's limits");
        let mut key = Secret([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), ARGON2_SALT, &mut key.0)
            .expect("passphrase, salt and output lengths are inside Argon2's limits");
        Ok(Self { key, open: false })
    }

    /// Whether this is the open network.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// The network's public name.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = blake3::derive_key("net network fingerprint v1", &self.key.0);
        *hash.first_chunk().expect("a hash has 32 bytes")
    }

    /// The Noise pre-shared key.
    #[must_use]
    pub fn psk(&self) -> Secret {
        Secret(blake3::derive_key("net network psk v1", &self.key.0))
    }

    /// The key from which the keys of handshake MACs derive.
    #[must_use]
    pub fn mac_key(&self) -> Secret {
        Secret(blake3::derive_key("net network mac v1", &self.key.0))
    }

    /// The keys under which beacons are sealed.
    #[must_use]
    pub fn beacon_keys(&self) -> BeaconKeys {
        BeaconKeys {
            mac: Secret(blake3::derive_key("net network beacon mac v1", &self.key.0)),
            mask: Secret(blake3::derive_key("net network beacon mask v1", &self.key.0)),
            open: self.open,
        }
    }

    /// The key itself, for secret tickets and key files.
    #[must_use]
    pub const fn reveal(&self) -> &Secret {
        &self.key
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.open {
            "NetworkKey(open)"
        } else {
            "NetworkKey(..)"
        })
    }
}

/// A passphrase shorter than 8 or longer than 1,024 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadPassphrase;

impl fmt::Display for BadPassphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a passphrase has {MIN_PASSPHRASE} to {MAX_PASSPHRASE} bytes")
    }
}

impl core::error::Error for BadPassphrase {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_derives_from_a_key_is_separate() {
        let key = NetworkKey::from_bytes(Secret([1; 32]));
        let beacon = key.beacon_keys();
        let all = [
            key.psk().0,
            key.mac_key().0,
            key.reveal().0,
            beacon.mac.0,
            beacon.mask.0,
        ];
        let distinct: alloc::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|secret| secret[..8] != key.fingerprint()));
    }

    #[test]
    fn the_open_network_is_known_by_its_key() {
        assert!(NetworkKey::open().is_open());
        assert!(NetworkKey::from_bytes(NetworkKey::open().reveal().clone()).is_open());
        assert!(!NetworkKey::from_bytes(Secret([1; 32])).is_open());
    }

    #[test]
    fn a_passphrase_gives_one_key_and_another_gives_another() {
        let key = NetworkKey::from_passphrase("correct horse").expect("long enough");
        assert_eq!(
            key.reveal().0,
            NetworkKey::from_passphrase("correct horse")
                .expect("long enough")
                .reveal()
                .0
        );
        assert_ne!(
            key.reveal().0,
            NetworkKey::from_passphrase("correct horsf")
                .expect("long enough")
                .reveal()
                .0
        );
        assert!(!key.is_open());
    }

    /// Every version must derive the same, or members of one network stop finding each other.
    #[test]
    fn what_derives_from_a_key_never_changes() {
        assert_eq!(NetworkKey::open().fingerprint(), [223, 199, 119, 110, 28, 46, 222, 185]);
        assert_eq!(
            NetworkKey::from_passphrase("correct horse")
                .expect("long enough")
                .fingerprint(),
            [38, 154, 46, 134, 67, 22, 213, 117]
        );
    }

    #[test]
    fn short_and_endless_passphrases_are_refused_before_any_work() {
        assert!(NetworkKey::from_passphrase("1234567").is_err());
        assert!(NetworkKey::from_passphrase(&"x".repeat(MAX_PASSPHRASE + 1)).is_err());
    }

    #[test]
    fn keys_print_no_secret() {
        assert_eq!(
            alloc::format!("{:?}", NetworkKey::from_bytes(Secret([1; 32]))),
            "NetworkKey(..)"
        );
    }
}
