//! Sealing of beacons: only who knows the network key reads them, or makes one that is believed (protocol.md section 8a).
//!
//! The tag is a keyed hash of everything in front of it and of the body, and the body is hidden under a keystream that begins
//! at the tag: deterministic authenticated encryption with a synthetic vector, as RFC 5297 builds it, of keyed BLAKE3. All
//! members of a network share the keys and none can know what others have used, a cloned machine not even what it has used
//! itself: here there is no nonce to repeat, and equal beacons look equal, which tells nothing more than a copy does.
//! Invariants: the two keys serve nothing else; a body is looked at only once its tag was found right.
//! Not here: layouts (`net-wire`), what a beacon leads to (`net-mesh`).

use net_base::mutant;
use net_base::rng::Secret;
use net_wire::DropReason;
use net_wire::beacon::{BEACON_LEN, BEACON_TAG_LEN, BODY_LEN, Beacon, HEAD, Sealed};

/// The keys of one network. Wiped when dropped; never printed.
pub struct BeaconKeys {
    pub(crate) mac: Secret,
    pub(crate) mask: Secret,
    pub(crate) open: bool,
}

impl BeaconKeys {
    /// Whether everybody knows them.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Seals a beacon.
    #[must_use]
    pub fn seal(&self, beacon: &Beacon) -> [u8; BEACON_LEN] {
        let mut body = beacon.encode();
        let tag = *self.tag(&body).as_bytes();
        self.mask(&tag, &mut body);
        Sealed { tag: &tag, body: &body }.encode()
    }

    /// Opens a beacon.
    ///
    /// # Errors
    /// `BadMac` where it was not sealed under these keys; else what is wrong with its body.
    pub fn open(&self, sealed: &Sealed<'_>) -> Result<Beacon, DropReason> {
        let mut body = *sealed.body;
        self.mask(sealed.tag, &mut body);
        // Compared as hashes, in constant time.
        if self.tag(&body) != *sealed.tag && !mutant!(BeaconMacUnchecked) {
            return Err(DropReason::BadMac);
        }
        Beacon::decode(&body)
    }

    fn tag(&self, body: &[u8; BODY_LEN]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.mac.0);
        hasher.update(&HEAD).update(body);
        hasher.finalize()
    }

    fn mask(&self, tag: &[u8; BEACON_TAG_LEN], body: &mut [u8; BODY_LEN]) {
        let mut stream = [0; BODY_LEN];
        let mut hasher = blake3::Hasher::new_keyed(&self.mask.0);
        hasher.update(tag).finalize_xof().fill(&mut stream);
        for (byte, mask) in body.iter_mut().zip(stream) {
            *byte ^= mask;
        }
    }
}

impl core::fmt::Debug for BeaconKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("BeaconKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkKey;
    use net_base::{EntityId, Epoch};
    use net_wire::mesh::Version;

    fn beacon() -> Beacon {
        Beacon {
            entity: EntityId([7; 32]),
            version: Version {
                epoch: Epoch(3),
                seqno: 4,
            },
            port: 4_433,
            addresses: alloc::vec!["192.0.2.1:4433".parse().expect("an address")],
        }
    }

    fn open(keys: &BeaconKeys, bytes: &[u8]) -> Result<Beacon, DropReason> {
        keys.open(&Sealed::parse(bytes)?)
    }

    #[test]
    fn members_read_what_strangers_can_neither_read_nor_make_nor_change() {
        let keys = NetworkKey::from_bytes(Secret([1; 32])).beacon_keys();
        let strangers = NetworkKey::from_bytes(Secret([2; 32])).beacon_keys();
        let sealed = keys.seal(&beacon());
        assert_eq!(open(&keys, &sealed), Ok(beacon()));
        assert_eq!(open(&strangers, &sealed), Err(DropReason::BadMac));
        assert_eq!(open(&keys, &strangers.seal(&beacon())), Err(DropReason::BadMac));
        for at in HEAD.len()..sealed.len() {
            let mut changed = sealed;
            changed[at] ^= 0x80;
            assert_eq!(open(&keys, &changed), Err(DropReason::BadMac), "{at}");
        }
        let shows = |needle: &[u8]| sealed.windows(needle.len()).any(|window| window == needle);
        assert!(!shows(&[7; 8]) && !shows(&4_433u16.to_le_bytes()) && !shows(&[192, 0, 2, 1]));
    }

    #[test]
    fn no_two_beacons_share_a_keystream() {
        let keys = NetworkKey::from_bytes(Secret([1; 32])).beacon_keys();
        let mut next = beacon();
        next.version = next.version.next();
        let (one, two) = (keys.seal(&beacon()), keys.seal(&next));
        let same = one.iter().zip(two).filter(|(a, b)| **a == *b).count();
        assert!(same < HEAD.len() + 8, "{same} bytes are the same");
        assert_eq!(keys.seal(&beacon()), one, "the same said twice is a copy");
    }

    /// Every version must seal the same, or members of one network stop hearing each other.
    #[test]
    fn what_is_sealed_never_changes() {
        let sealed = NetworkKey::open().beacon_keys().seal(&beacon());
        let digest = blake3::hash(&sealed).to_hex();
        assert_eq!(&digest[..16], "232892f39b3078da");
    }
}
