//! The cipher of protected packets behind one small trait: AEAD in place, and the mask of header protection.
//!
//! Invariants: a failed `open` leaves nothing to be used (the caller drops the packet); keys are wiped when
//! dropped; nothing allocates. Not here: which counter is used when (the association), other
//! implementations (`net-io-real`, `net-io-sim`).

use chacha20::cipher::{KeyIvInit as _, StreamCipherCore as _};
use chacha20::{ChaChaCore, R20, variants::Ietf};
use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _};
use net_base::rng::Secret;

/// The packet's tag does not verify: it was forged, damaged, or made under another key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AeadError;

/// An AEAD and its header protection. Fixed at boot as a type parameter, so that a build cannot mix them.
pub trait Aead: 'static {
    /// A key ready for use. Wiped when dropped.
    type Key;
    /// A header-protection key ready for use. Wiped when dropped.
    type HeaderKey;

    /// Its name, for logs and benchmarks.
    fn name() -> &'static str;

    /// Prepares a key.
    fn key(secret: &Secret) -> Self::Key;

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
    type HeaderKey = Secret;

    fn name() -> &'static str {
        "chacha20poly1305 (reference)"
    }

    fn key(secret: &Secret) -> ChaCha20Poly1305 {
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

    fn header_key(secret: &Secret) -> Secret {
        secret.clone()
    }

    #[inline]
    fn mask(key: &Secret, sample: &[u8; 16]) -> [u8; 64] {
        let [counter @ .., _, _, _, _, _, _, _, _, _, _, _, _] = *sample;
        let nonce: &[u8; 12] = sample.last_chunk().expect("twelve of sixteen bytes");
        let mut core = ChaChaCore::<R20, Ietf>::new((&key.0).into(), nonce.into());
        core.set_block_pos(u32::from_le_bytes(counter));
        let mut block = [0; 64];
        core.write_keystream_block((&mut block).into());
        block
    }
}
