//! ChaCha20-Poly1305 by ring, in assembly: what release builds encrypt with.
//!
//! Invariants: byte for byte equal to the kernel's reference (a property test holds it).
//! Not here: the reference, and the clear variant of simulations, which this crate cannot name.

use std::fmt;
use std::mem::ManuallyDrop;

use net_kernel::session::aead::{Aead, AeadError, Reference};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};

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

impl Aead for Ring {
    type Key = RingKey;
    type HeaderKey = <Reference as Aead>::HeaderKey;

    fn name() -> &'static str {
        "chacha20poly1305 (ring)"
    }

    fn key(secret: &Secret) -> RingKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &secret.0).expect("the key has the cipher's 32 bytes");
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
            let (key, other) = (Ring::key(&secret), Reference::key(&secret));
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
