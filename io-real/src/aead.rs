//! ChaCha20-Poly1305 and AES-256-GCM by ring, in assembly: what release builds encrypt with.
//!
//! Invariants: ChaCha20-Poly1305 is byte for byte equal to the kernel's reference (a property test holds it), AES-256-GCM to
//! published vectors.
//! Not here: the reference, and the clear variant of simulations, which this crate cannot name.

use std::fmt;
use std::mem::ManuallyDrop;

use net_kernel::session::aead::{Aead, AeadError, Reference};
use net_kernel::wire::Suite;
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};

use crate::api::Secret;

/// See the module.
#[derive(Debug)]
pub enum Ring {}

/// A key of ring's that is overwritten when dropped, as ring does not do it.
pub struct RingKey(ManuallyDrop<LessSafeKey>);

// Overwriting in place of dropping leaks nothing only while ring's key owns nothing.
const _: () = assert!(!std::mem::needs_drop::<LessSafeKey>());

impl Drop for RingKey {
    fn drop(&mut self) {
        // SAFETY: the pointer is to our own field, valid for writes of its whole size and aligned. The zeroed value is
        // never used as a key again: this is the last access, and `ManuallyDrop` runs no destructor over it.
        unsafe { zeroize::zeroize_flat_type::<ManuallyDrop<LessSafeKey>>(&raw mut self.0) };
    }
}

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingKey(..)")
    }
}

/// Whether this host has instructions for AES-256-GCM. Without them it is slower than ChaCha20-Poly1305, and takes a time that
/// depends on its data wherever tables are looked up.
#[must_use]
pub fn has_aes_instructions() -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    return is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    false
}

impl Aead for Ring {
    type Key = RingKey;
    type HeaderKey = <Reference as Aead>::HeaderKey;

    const HAS_AES: bool = true;

    fn name() -> &'static str {
        "chacha20poly1305 and aes-256-gcm (ring)"
    }

    fn key(suite: Suite, secret: &Secret) -> RingKey {
        let algorithm = match suite {
            Suite::ChaChaPoly => &CHACHA20_POLY1305,
            Suite::Aes256Gcm => &AES_256_GCM,
        };
        let key = UnboundKey::new(algorithm, &secret.0).expect("both ciphers take keys of 32 bytes");
        RingKey(ManuallyDrop::new(LessSafeKey::new(key)))
    }

    #[inline]
    fn seal(key: &RingKey, nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; 16] {
        let tag = key
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), in_out)
            .expect("a datagram is far below the cipher's limit of 2^38 bytes");
        *tag.as_ref().first_chunk().expect("a tag has 16 bytes")
    }

    #[inline]
    fn open(key: &RingKey, nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8], tag: &[u8; 16]) -> Result<(), AeadError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        match key
            .0
            .open_in_place_separate_tag(nonce, Aad::from(aad), Tag::from(*tag), in_out, 0..)
        {
            Ok(_) => Ok(()),
            Err(ring::error::Unspecified) => Err(AeadError),
        }
    }

    fn header_key(secret: &Secret) -> Self::HeaderKey {
        Reference::header_key(secret)
    }

    #[inline]
    fn mask(key: &Self::HeaderKey, sample: &[u8; 16]) -> [u8; 64] {
        Reference::mask(key, sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let digit = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal");
        assert_eq!(hex.len(), 2 * N);
        std::array::from_fn(digit)
    }

    /// Test case 16 of the GCM specification (McGrew, Viega), and a tag that is one bit off.
    #[test]
    fn aes_equals_the_published_vector() {
        let secret = Secret(bytes(
            "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        ));
        let nonce: [u8; 12] = bytes("cafebabefacedbaddecaf888");
        let aad: [u8; 20] = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain: [u8; 60] = bytes(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let sealed: [u8; 60] = bytes(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        );
        let key = Ring::key(Suite::Aes256Gcm, &secret);
        let mut buffer = plain;
        let mut tag = Ring::seal(&key, &nonce, &aad, &mut buffer);
        assert_eq!((buffer, tag), (sealed, bytes("76fc6ece0f4e1768cddf8853bb2d551b")));
        assert_eq!(Ring::open(&key, &nonce, &aad, &mut buffer, &tag), Ok(()));
        assert_eq!(buffer, plain);
        tag[15] ^= 1;
        assert_eq!(
            Ring::open(&key, &nonce, &aad, &mut sealed.clone(), &tag),
            Err(AeadError)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn ring_equals_the_reference(
            secret: [u8; 32],
            nonce: [u8; 12],
            aad in proptest::collection::vec(any::<u8>(), 0..100),
            plain in proptest::collection::vec(any::<u8>(), 0..1_500),
            sample: [u8; 16],
            flip in any::<prop::sample::Index>(),
        ) {
            let secret = Secret(secret);
            let (key, other) = (Ring::key(Suite::ChaChaPoly, &secret), Reference::key(Suite::ChaChaPoly, &secret));
            let (mut a, mut b) = (plain.clone(), plain.clone());
            let tag = Ring::seal(&key, &nonce, &aad, &mut a);
            prop_assert_eq!(tag, Reference::seal(&other, &nonce, &aad, &mut b));
            prop_assert_eq!(&a, &b);
            let mut opened = a.clone();
            prop_assert_eq!(Reference::open(&other, &nonce, &aad, &mut opened, &tag), Ok(()));
            prop_assert_eq!(&opened, &plain);
            let mut opened = a.clone();
            prop_assert_eq!(Ring::open(&key, &nonce, &aad, &mut opened, &tag), Ok(()));
            prop_assert_eq!(&opened, &plain);
            let mut forged = tag;
            forged[flip.index(16)] ^= 1;
            prop_assert_eq!(Ring::open(&key, &nonce, &aad, &mut a, &forged), Err(AeadError));
            let header = (Ring::header_key(&secret), Reference::header_key(&secret));
            prop_assert_eq!(Ring::mask(&header.0, &sample), Reference::mask(&header.1, &sample));
        }
    }
}
