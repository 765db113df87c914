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

/// The public key of the ephemeral that a handshake of this seed generates.
pub(super) fn ephemeral(seed: Secret) -> [u8; 32] {
    let mut secret = Secret([0; 32]);
    let mut stream = Expander(ChaCha20::new((&seed.0).into(), &[0; 12].into()));
    stream
        .try_fill_bytes(&mut secret.0)
        .expect("a key stream is longer than a key");
    PublicKey::from(&StaticSecret::from(secret.0)).to_bytes()
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use snow::{Builder, HandshakeState};

    /// Gives the ephemeral of a published vector, and everything else as [`Resolver`] does.
    struct Fixed {
        ephemeral: [u8; 32],
        inner: Resolver,
    }

    impl CryptoResolver for Fixed {
        fn resolve_rng(&self) -> Option<Box<dyn Random>> {
            Some(Box::new(Once(self.ephemeral)))
        }

        fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
            self.inner.resolve_dh(choice)
        }

        fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
            self.inner.resolve_hash(choice)
        }

        fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
            self.inner.resolve_cipher(choice)
        }
    }

    struct Once([u8; 32]);

    impl Random for Once {
        fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
            dest.copy_from_slice(&self.0);
            Ok(())
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits = text
            .as_bytes()
            .chunks(2)
            .map(|pair| core::str::from_utf8(pair).expect("ASCII"));
        digits
            .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal"))
            .collect()
    }

    fn key(text: &str) -> [u8; 32] {
        hex(text).try_into().expect("32 bytes")
    }

    const INITIATOR: &str = "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1";
    const INITIATOR_EPHEMERAL: &str = "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a";
    const RESPONDER: &str = "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893";
    const RESPONDER_EPHEMERAL: &str = "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b";
    const RESPONDER_PUBLIC: &str = "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62";
    const PROLOGUE: &str = "4a6f686e2047616c74";
    const PSK: &str = "54686973206973206d7920417573747269616e20706572737065637469766521";
    const HASH: &str = "f5191b875290abcd41347ac3622d9679688a7e980229cb937ef748336cfde0e5";
    /// Payload and ciphertext of messages 1 and 2, then of the first transport message each way.
    const MESSAGES: [(&str, &str); 4] = [
        (
            "4c756477696720766f6e204d69736573",
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8e2ad57527207feb56253c9c9\
             4a9e496782ecfcb2a75fbcaf1b52948cc48daefe660c62119ab5000980c84831215f2441eba616548e832985464cf17e51ee9310\
             9008399a21f7e13f",
        ),
        (
            "4d757272617920526f746862617264",
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843cb765f2caef0751b8f007572dab0322217755c06\
             32f365717edbf34d33e87a",
        ),
        (
            "462e20412e20486179656b",
            "8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7",
        ),
        (
            "4361726c204d656e676572",
            "07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef",
        ),
    ];

    fn state(initiator: bool) -> HandshakeState {
        let (secret, ephemeral) = if initiator {
            (INITIATOR, INITIATOR_EPHEMERAL)
        } else {
            (RESPONDER, RESPONDER_EPHEMERAL)
        };
        let secret = key(secret);
        let public = PublicKey::from(&StaticSecret::from(secret)).to_bytes();
        let inner = Resolver::new(Secret([0; 32]), public);
        let resolver = Fixed {
            ephemeral: key(ephemeral),
            inner,
        };
        let (psk, remote, prologue) = (key(PSK), key(RESPONDER_PUBLIC), hex(PROLOGUE));
        let builder = Builder::with_resolver(
            "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
                .parse()
                .expect("a known protocol"),
            Box::new(resolver),
        )
        .psk(2, &psk)
        .and_then(|builder| builder.local_private_key(&secret))
        .and_then(|builder| builder.prologue(&prologue))
        .expect("each set once");
        if initiator {
            builder
                .remote_public_key(&remote)
                .and_then(Builder::build_initiator)
                .expect("complete")
        } else {
            builder.build_responder().expect("complete")
        }
    }

    /// The published vector of this protocol in the collection of Cacophony, against which `snow` checks its
    /// own primitives: equal bytes mean equal primitives.
    #[test]
    fn the_transcript_is_the_published_one() {
        let (mut initiator, mut responder) = (state(true), state(false));
        let mut buffer = [0; 256];
        for (turn, (payload, ciphertext)) in MESSAGES[..2].iter().enumerate() {
            let (from, to) = if turn == 0 {
                (&mut initiator, &mut responder)
            } else {
                (&mut responder, &mut initiator)
            };
            let mut message = [0; 256];
            let len = from.write_message(&hex(payload), &mut message).expect("our turn");
            assert_eq!(message[..len], hex(ciphertext));
            let len = to.read_message(&message[..len], &mut buffer).expect("their turn");
            assert_eq!(buffer[..len], hex(payload));
        }
        assert_eq!(initiator.get_handshake_hash(), hex(HASH));
        assert_eq!(responder.get_handshake_hash(), hex(HASH));
        let mut initiator = initiator.into_transport_mode().expect("finished");
        let mut responder = responder.into_transport_mode().expect("finished");
        for (turn, (payload, ciphertext)) in MESSAGES[2..].iter().enumerate() {
            let from = if turn == 0 { &mut initiator } else { &mut responder };
            let len = from.write_message(&hex(payload), &mut buffer).expect("below the limit");
            assert_eq!(buffer[..len], hex(ciphertext));
        }
    }

    #[test]
    fn a_message_that_fails_leaves_the_state_ready_for_the_genuine_one() {
        let (mut initiator, mut responder) = (state(true), state(false));
        let mut payload = [0; 256];
        let (first, second) = (hex(MESSAGES[0].1), hex(MESSAGES[1].1));
        initiator
            .write_message(&hex(MESSAGES[0].0), &mut payload)
            .expect("our turn");
        for (state, message) in [(&mut responder, first), (&mut initiator, second)] {
            for at in 0..message.len() {
                let mut damaged = message.clone();
                damaged[at] ^= 4;
                assert!(state.read_message(&damaged, &mut payload).is_err(), "byte {at}");
            }
            assert!(state.read_message(&message, &mut payload).is_ok());
            if !state.is_handshake_finished() {
                let len = state
                    .write_message(&hex(MESSAGES[1].0), &mut payload)
                    .expect("our turn");
                assert_eq!(payload[..len], hex(MESSAGES[1].1));
            }
        }
    }

    #[test]
    fn a_shared_secret_of_zeros_is_refused() {
        let dh = Resolver::new(Secret([0; 32]), [0; 32])
            .resolve_dh(&DHChoice::Curve25519)
            .expect("X25519");
        let mut out = [7; 32];
        for public in [[0; 32], core::array::from_fn(|at| u8::from(at == 0))] {
            assert_eq!(dh.dh(&public, &mut out), Err(Error::Dh));
            assert_eq!(out, [7; 32], "nothing was agreed");
        }
    }

    #[test]
    fn only_the_mandatory_suite_resolves() {
        let resolver = Resolver::new(Secret([0; 32]), [0; 32]);
        assert!(resolver.resolve_cipher(&CipherChoice::AESGCM).is_none());
        assert!(resolver.resolve_hash(&HashChoice::SHA256).is_none());
        assert!(resolver.resolve_dh(&DHChoice::Curve448).is_none());
    }
}
