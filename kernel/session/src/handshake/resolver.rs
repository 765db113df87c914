//! The primitives of Noise for `snow`, over the same crates the rest of the kernel uses.
//!
//! Invariants: a DH result of all zeros is refused; every private key and cipher key is wiped when dropped;
//! randomness comes from one secret given at construction, never from the operating system.
//! Not here: the order of messages (`noise.rs`).

use alloc::boxed::Box;

use blake2::{Blake2s256, Digest as _};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _};
use net_base::rng::Secret;
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize as _;

/// Length of a Poly1305 tag.
const TAG_LEN: usize = 16;

/// Resolves exactly the suite of PROTOCOL 4: X25519, ChaCha20-Poly1305, BLAKE2s.
pub(super) struct Resolver {
    seed: Secret,
    public: [u8; 32],
}

impl Resolver {
    /// `seed` makes every ephemeral of the one handshake this resolver is for; `public` belongs to the static
    /// secret it will be given, which saves computing it anew in each handshake.
    pub(super) fn new(seed: Secret, public: [u8; 32]) -> Self {
        Self { seed, public }
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Expander(ChaCha20::new(
            (&self.seed.0).into(),
            &[0; 12].into(),
        ))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519 {
                secret: Secret([0; 32]),
                public: [0; 32],
                of_static: self.public,
            })),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => Some(Box::new(Blake2s(Blake2s256::new()))),
            HashChoice::SHA256 | HashChoice::SHA512 | HashChoice::Blake2b => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(ChaCha20Poly1305::new(&[0; 32].into())))),
            CipherChoice::AESGCM => None,
        }
    }
}

/// ChaCha20's key stream under the seed.
struct Expander(ChaCha20);

impl Random for Expander {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        dest.fill(0);
        self.0.try_apply_keystream(dest).map_err(|_| Error::Rng)
    }
}

/// A key pair of X25519 (RFC 7748).
struct X25519 {
    secret: Secret,
    public: [u8; 32],
    /// The public key of the only secret that is ever set from outside.
    of_static: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret.0.copy_from_slice(secret);
        self.public = self.of_static;
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        rng.try_fill_bytes(&mut self.secret.0)?;
        self.public = PublicKey::from(&StaticSecret::from(self.secret.0)).to_bytes();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret.0
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public: [u8; 32] = public
            .get(..32)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Error::Dh)?;
        let shared = StaticSecret::from(self.secret.0).diffie_hellman(&PublicKey::from(public));
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out[..32].copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

/// ChaCha20-Poly1305 with Noise's nonce: four zero bytes, then the counter in little-endian.
struct ChaChaPoly(ChaCha20Poly1305);

fn noise_nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = ChaCha20Poly1305::new(key.into());
    }

    fn encrypt(&self, nonce: u64, aad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (sealed, rest) = out.split_at_mut(plaintext.len());
        sealed.copy_from_slice(plaintext);
        let tag = self
            .0
            .encrypt_inout_detached(&noise_nonce(nonce).into(), aad, sealed.into())
            .expect("a handshake message is far below the cipher's limit of 2^38 bytes");
        rest[..TAG_LEN].copy_from_slice(&tag);
        plaintext.len() + TAG_LEN
    }

    fn decrypt(&self, nonce: u64, aad: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (sealed, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(Error::Decrypt)?;
        let plain = out.get_mut(..sealed.len()).ok_or(Error::Decrypt)?;
        plain.copy_from_slice(sealed);
        match self
            .0
            .decrypt_inout_detached(&noise_nonce(nonce).into(), aad, (&mut *plain).into(), tag.into())
        {
            Ok(()) => Ok(sealed.len()),
            Err(_) => {
                plain.zeroize();
                Err(Error::Decrypt)
            }
        }
    }
}

/// BLAKE2s with a digest of 32 bytes (RFC 7693).
struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hasher = core::mem::replace(&mut self.0, Blake2s256::new());
        let mut digest = hasher.finalize();
        out[..32].copy_from_slice(&digest);
        digest.as_mut_slice().zeroize();
    }
}
