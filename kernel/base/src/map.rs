//! Maps whose iteration order is the order of insertion, whatever the hasher.
//!
//! Invariants: no order of iteration depends on memory addresses or on a seed.
//! Not here: `std` maps, which `clippy.toml` forbids in the kernel.

use core::hash::{BuildHasher, BuildHasherDefault, Hasher};

/// An insertion-ordered map for keys that are already uniformly distributed or small integers.
pub type IdMap<K, V> = indexmap::IndexMap<K, V, BuildHasherDefault<IdHasher>>;

/// Multiplies and folds: enough for ids this node chose itself or that are authenticated and bounded
/// in number. Not for keys a stranger chooses.
#[derive(Default, Clone, Copy, Debug)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (wide as u64) ^ ((wide >> 64) as u64);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// An insertion-ordered map for keys that strangers choose: where a key lies depends on a secret.
pub type KeyedMap<K, V> = indexmap::IndexMap<K, V, Keyed>;

/// The secret of a [`KeyedMap`]: two words of the owner's random stream, so that nobody can choose keys that share a place.
#[derive(Clone, Copy, Default)]
pub struct Keyed([u64; 2]);

impl Keyed {
    /// Of two random words.
    #[must_use]
    pub const fn new(words: [u64; 2]) -> Self {
        Self(words)
    }
}

impl core::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keyed")
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher {
            state: self.0[0],
            factor: self.0[1] | 1,
        }
    }
}

/// Multiplies by a secret and folds, after a secret was mixed in. See [`Keyed`].
#[derive(Clone, Copy)]
pub struct KeyedHasher {
    state: u64,
    factor: u64,
}

impl core::fmt::Debug for KeyedHasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeyedHasher")
    }
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.state ^ word) * u128::from(self.factor);
        self.state = (wide as u64) ^ ((wide >> 64) as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // Once more: the low bits of a product know little of the high bits of its factors.
        let wide = u128::from(self.state ^ 0x9E37_79B9_7F4A_7C15) * u128::from(self.factor);
        (wide as u64) ^ ((wide >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_keys_lie_depends_on_the_secret() {
        let low = |secret: Keyed, word: u64| secret.hash_one(word) & 0xFFF;
        let (one, other) = (Keyed::new([1, 2]), Keyed::new([3, 0x1234_5678_9ABC_DEF1]));
        // Keys that share their low bits under one secret do not under another.
        let crowd: alloc::vec::Vec<u64> = (0..2_000_000).filter(|&word| low(other, word) == 7).take(64).collect();
        assert_eq!(crowd.len(), 64);
        let together = |secret: Keyed| {
            crowd
                .iter()
                .filter(|&&word| low(secret, word) == low(secret, crowd[0]))
                .count()
        };
        assert_eq!(together(other), 64);
        assert!(together(Keyed::new([0x5555_AAAA_1234_0001, 0x0F0F_1357_9BDF_2468])) < 8);
        assert_ne!(low(one, 9), low(other, 9));
    }
}
