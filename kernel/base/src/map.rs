//! Maps whose iteration order is the order of insertion, whatever the hasher.
//!
//! Invariants: no lookup order depends on memory addresses or a process-wide seed.
//! Not here: `std` maps, which `clippy.toml` forbids in the kernel.

use core::hash::{BuildHasherDefault, Hasher};

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
