//! The cipher of protected packets behind one small trait: AEAD in place, and the mask of header protection.
//!
//! Invariants: a failed `open` leaves nothing to be used (the caller drops the packet); keys are wiped when
//! dropped; nothing allocates. Not here: which counter is used when (the association), other
//! implementations (`net-io-real`, `net-io-sim`).

use core::fmt;

use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _};
use net_base::rng::Secret;
use net_wire::Suite;
use zeroize::ZeroizeOnDrop;

/// The packet's tag does not verify: it was forged, damaged, or made under another key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AeadError;

/// An AEAD and its header protection. Fixed at boot as a type parameter, so that a build cannot mix them.
pub trait Aead: 'static {
    /// A key ready for use. Wiped when dropped.
    type Key: Send + Sync;
    /// A header-protection key ready for use. Wiped when dropped.
    type HeaderKey: Send + Sync;

    /// Whether it has AES-256-GCM besides the mandatory suite.
    const HAS_AES: bool;

    /// Its name, for logs and benchmarks.
    fn name() -> &'static str;

    /// Prepares a key for a suite, which is the mandatory one unless [`Self::HAS_AES`].
    fn key(suite: Suite, secret: &Secret) -> Self::Key;

    /// Encrypts in place and returns the tag. A nonce is used once per key.
    fn seal(key: &Self::Key, nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; 16];

    /// Decrypts in place.
    ///
    /// # Errors
    /// `AeadError`; the bytes are then worthless.
    fn open(key: &Self::Key, nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8], tag: &[u8; 16]) -> Result<(), AeadError>;

    /// Prepares a header-protection key.
    fn header_key(secret: &Secret) -> Self::HeaderKey;

    /// One block of key stream: counter = the sample's first four bytes (little-endian), nonce = its last
    /// twelve (docs/protocol.md section 2, RFC 9001 section 5.4.4).
    fn mask(key: &Self::HeaderKey, sample: &[u8; 16]) -> [u8; 64];
}

/// ChaCha20-Poly1305 (RFC 8439) in portable Rust: what every other implementation is held equal to.
#[derive(Debug)]
pub enum Reference {}

impl Aead for Reference {
    type Key = ChaCha20Poly1305;
    type HeaderKey = HeaderKey;

    const HAS_AES: bool = false;

    fn name() -> &'static str {
        "chacha20poly1305 (reference)"
    }

    fn key(suite: Suite, secret: &Secret) -> ChaCha20Poly1305 {
        assert_eq!(
            suite,
            Suite::ChaChaPoly,
            "a kernel agrees on no suite that its cipher lacks"
        );
        ChaCha20Poly1305::new((&secret.0).into())
    }

    #[inline]
    fn seal(key: &ChaCha20Poly1305, nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; 16] {
        key.encrypt_inout_detached(nonce.into(), aad, in_out.into())
            .expect("a datagram is far below the cipher's limit of 2^38 bytes")
            .into()
    }

    #[inline]
    fn open(
        key: &ChaCha20Poly1305,
        nonce: &[u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), AeadError> {
        key.decrypt_inout_detached(nonce.into(), aad, in_out.into(), tag.into())
            .map_err(|_| AeadError)
    }

    fn header_key(secret: &Secret) -> HeaderKey {
        HeaderKey::new(secret)
    }

    #[inline]
    fn mask(key: &HeaderKey, sample: &[u8; 16]) -> [u8; 64] {
        key.mask(sample)
    }
}

/// A header-protection key for any cipher whose mask is a ChaCha20 block. Wiped when dropped.
///
/// The block function (RFC 8439 section 2.3) stands here because a mask is exactly one block: the crate that
/// encrypts computes four at once.
#[derive(Clone, ZeroizeOnDrop)]
pub struct HeaderKey([u32; 8]);

impl HeaderKey {
    /// Prepares a key.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let mut key = Self([0; 8]);
        for (word, bytes) in key.0.iter_mut().zip(secret.0.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        key
    }

    /// See [`Aead::mask`].
    #[inline]
    #[must_use]
    pub fn mask(&self, sample: &[u8; 16]) -> [u8; 64] {
        let mut input = [0; 16];
        input[..4].copy_from_slice(&CONSTANTS);
        input[4..12].copy_from_slice(&self.0);
        for (word, bytes) in input[12..].iter_mut().zip(sample.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let mut state = input;
        for _ in 0..10 {
            double_round(&mut state);
        }
        let mut block = [0; 64];
        for (bytes, (mixed, original)) in block.as_chunks_mut().0.iter_mut().zip(state.iter().zip(&input)) {
            *bytes = mixed.wrapping_add(*original).to_le_bytes();
        }
        block
    }
}

impl fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderKey(..)")
    }
}

/// "expand 32-byte k" (RFC 8439 section 2.3).
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Columns, then diagonals (RFC 8439 section 2.3); written out, so that the state stays in registers.
#[inline(always)]
fn double_round(state: &mut [u32; 16]) {
    quarter_round(state, 0, 4, 8, 12);
    quarter_round(state, 1, 5, 9, 13);
    quarter_round(state, 2, 6, 10, 14);
    quarter_round(state, 3, 7, 11, 15);
    quarter_round(state, 0, 5, 10, 15);
    quarter_round(state, 1, 6, 11, 12);
    quarter_round(state, 2, 7, 8, 13);
    quarter_round(state, 3, 4, 9, 14);
}

/// RFC 8439 section 2.1.
#[inline(always)]
fn quarter_round(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(16);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(12);
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(8);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(7);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use chacha20::ChaCha20;
    use chacha20::cipher::{KeyIvInit as _, StreamCipher as _, StreamCipherSeek as _};
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = text
            .as_bytes()
            .chunks(2)
            .map(|pair| core::str::from_utf8(pair).expect("ASCII"));
        digits
            .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal"))
            .collect()
    }

    /// RFC 8439 section 2.8.2.
    #[test]
    fn sealing_gives_the_vector_of_rfc_8439() {
        let key = Reference::key(Suite::ChaChaPoly, &Secret(core::array::from_fn(|at| 0x80 + at as u8)));
        let nonce = [0x07, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
        let aad = hex("50515253c0c1c2c3c4c5c6c7");
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
        let mut bytes = plain.to_vec();
        let tag = Reference::seal(&key, &nonce, &aad, &mut bytes);
        assert_eq!(
            bytes,
            hex(
                "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
                 1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
                 3ff4def08e4b7a9de576d26586cec64b6116"
            )
        );
        assert_eq!(tag[..], hex("1ae10b594f09e26a7e902ecbd0600691"));
        assert_eq!(Reference::open(&key, &nonce, &aad, &mut bytes, &tag), Ok(()));
        assert_eq!(bytes, plain);
    }

    /// RFC 9001 appendix A.5.
    #[test]
    fn masking_gives_the_vector_of_rfc_9001() {
        let key: [u8; 32] = hex("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4")
            .try_into()
            .unwrap();
        let sample: [u8; 16] = hex("5e5cd55c41f69080575d7999c25a5bfb").try_into().unwrap();
        let mask = Reference::mask(&Reference::header_key(&Secret(key)), &sample);
        assert_eq!(mask[..5], hex("aefefe7d03"));
    }

    #[test]
    fn header_keys_print_no_secret() {
        assert_eq!(
            alloc::format!("{:?}", HeaderKey::new(&Secret([1; 32]))),
            "HeaderKey(..)"
        );
    }

    proptest! {
        #[test]
        fn a_mask_is_the_cipher_s_block(key: [u8; 32], sample: [u8; 16]) {
            let (counter, nonce) = sample.split_first_chunk::<4>().unwrap();
            let mut cipher = ChaCha20::new(&key.into(), nonce.try_into().unwrap());
            cipher.seek(u64::from(u32::from_le_bytes(*counter)) * 64);
            let mut block = [0; 64];
            // The last counter's block is where the cipher's key stream ends.
            if cipher.try_apply_keystream(&mut block).is_ok() {
                prop_assert_eq!(Reference::mask(&Reference::header_key(&Secret(key)), &sample), block);
            }
        }

        #[test]
        fn whatever_is_changed_does_not_open(
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            aad in proptest::collection::vec(any::<u8>(), 1..80),
            which in 0_u8..4,
            at in any::<proptest::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let key = Reference::key(Suite::ChaChaPoly, &Secret([1; 32]));
            let (mut bytes, mut aad, mut nonce) = (plain.clone(), aad, [2; 12]);
            let mut tag = Reference::seal(&key, &nonce, &aad, &mut bytes);
            let part: &mut [u8] = match which {
                0 => &mut bytes,
                1 => &mut aad,
                2 => &mut nonce,
                _ => &mut tag,
            };
            let changed = !part.is_empty();
            if changed {
                let at = at.index(part.len());
                part[at] ^= 1 << bit;
            }
            let opened = Reference::open(&key, &nonce, &aad, &mut bytes, &tag);
            prop_assert_eq!(opened, if changed { Err(AeadError) } else { Ok(()) });
        }
    }
}
