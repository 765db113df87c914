//! Randomness as an argument: named ChaCha streams forked from one seed, and the key-erasing generator
//! that handshake secrets alone come from (ARCHITECTURE, law 4; PROTOCOL 4).
//!
//! Invariants: an extra draw in one stream shifts no other; a key-erasing draw cannot be repeated from
//! what is left in memory. Not here: where seeds and fresh bytes come from (the driver).

use core::fmt;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The 32 bytes a kernel's random streams are forked from. Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Takes the bytes; the caller wipes its own copy.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The stream called `name`: a function of the seed and the name alone.
    #[must_use]
    pub fn fork(&self, name: &str) -> Stream {
        let mut key = self.derive(name);
        let stream = Stream(ChaCha12Rng::from_seed(key));
        key.zeroize();
        stream
    }

    /// A key-erasing generator called `name`.
    #[must_use]
    pub fn fork_erasing(&self, name: &str) -> ErasingRng {
        ErasingRng { key: self.derive(name) }
    }

    fn derive(&self, name: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("net random stream v1");
        hasher.update(&self.0);
        hasher.update(name.as_bytes());
        let key = *hasher.finalize().as_bytes();
        hasher.zeroize();
        key
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// One machine's random stream.
pub struct Stream(ChaCha12Rng);

impl Stream {
    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `out`.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    /// Eight uniform bytes, as challenges need them.
    pub fn bytes8(&mut self) -> [u8; 8] {
        self.next_u64().to_le_bytes()
    }

    /// Uniform in `0..bound` by multiplication (Lemire); 0 where `bound` is 0. The bias is below 2^-64 * `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream(..)")
    }
}

/// 32 secret bytes, wiped on drop and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A generator whose key is replaced by every draw, so that a later memory image reveals no earlier
/// draw (fast key erasure), and into which fresh bytes are mixed, so that a cloned machine repeats none.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ErasingRng {
    key: [u8; 32],
}

impl ErasingRng {
    /// A second generator in the same state, as a thief of the memory has it; for holding its secrecy to account alone,
    /// since two in one state draw the same.
    #[must_use]
    pub const fn stolen(&self) -> Self {
        Self { key: self.key }
    }

    /// Mixes fresh bytes in. The result is unpredictable if either the old key or `fresh` is.
    pub fn mix(&mut self, fresh: &Secret) {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"mix");
        hasher.update(&fresh.0);
        if !crate::mutant!(GeneratorCopied) {
            self.key = *hasher.finalize().as_bytes();
        }
        hasher.zeroize();
    }

    /// 32 secret bytes; the key that made them is gone afterwards.
    pub fn draw(&mut self) -> Secret {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"draw");
        let mut both = [0; 64];
        let mut reader = hasher.finalize_xof();
        reader.fill(&mut both);
        let mut drawn = Secret([0; 32]);
        drawn.0.copy_from_slice(&both[..32]);
        if !crate::mutant!(GeneratorCopied) {
            self.key.copy_from_slice(&both[32..]);
        }
        both.zeroize();
        reader.zeroize();
        hasher.zeroize();
        drawn
    }
}

impl fmt::Debug for ErasingRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErasingRng(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_in_one_stream_shifts_no_other() {
        let seed = Seed::new([7; 32]);
        let mut quiet = seed.fork("lane");
        let mut busy = seed.fork("peers");
        busy.next_u64();
        assert_eq!(quiet.next_u64(), seed.fork("lane").next_u64());
        assert_ne!(seed.fork("lane").next_u64(), seed.fork("peers").next_u64());
    }

    #[test]
    fn erasing_draws_differ_and_fresh_bytes_change_them() {
        let seed = Seed::new([9; 32]);
        let mut a = seed.fork_erasing("handshake");
        let mut b = seed.fork_erasing("handshake");
        let first = a.draw().0;
        assert_ne!(first, a.draw().0, "a draw never repeats");
        b.mix(&Secret([1; 32]));
        assert_ne!(first, b.draw().0, "fresh bytes change what follows");
    }

    #[test]
    fn a_draw_leaves_neither_the_key_that_made_it_nor_what_was_drawn() {
        let mut rng = Seed::new([9; 32]).fork_erasing("handshake");
        for _ in 0..100 {
            let before = rng.key;
            let drawn = rng.draw().0;
            // The key is all the state there is; the next one comes from a one-way function of the last.
            assert_eq!(core::mem::size_of_val(&rng), 32);
            assert!(rng.key != before && rng.key != drawn);
            let again = ErasingRng { key: rng.key }.draw().0;
            assert!(again != drawn, "what is left makes other draws");
        }
    }

    #[test]
    fn below_stays_below() {
        let mut stream = Seed::new([1; 32]).fork("x");
        assert!((0..1000).all(|_| stream.below(7) < 7));
        assert_eq!(stream.below(0), 0);
    }

    #[test]
    fn secrets_are_never_printed() {
        let seed = Seed::new([0xAB; 32]);
        assert_eq!(
            alloc::format!("{seed:?} {:?} {:?}", seed.fork("a"), seed.fork_erasing("b").draw()),
            "Seed(..) Stream(..) Secret(..)"
        );
    }
}
