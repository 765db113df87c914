//! What a damaged datagram looks like.
//!
//! Invariants: damage is a function of its word and the bytes; a damaged datagram differs from the original.
//! Not here: when datagrams are damaged (`link.rs`).

use crate::key::{mix, scale};

/// A kind of damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Damage {
    /// One to eight bits flip.
    #[default]
    Bits,
    /// The end is cut off.
    Truncate,
    /// Bytes are appended.
    Extend,
    /// Any of the above, drawn per datagram.
    Any,
}

/// One datagram's damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corruption {
    /// What kind.
    pub damage: Damage,
    /// 64 uniform bits that say where.
    pub word: u64,
}

/// Most bytes that [`Damage::Extend`] appends.
pub const MAX_EXTENSION: usize = 64;

impl Corruption {
    /// Damages `bytes`. An empty datagram is extended, whatever was asked.
    pub fn apply(self, bytes: &mut Vec<u8>) {
        let damage = match self.damage {
            _ if bytes.is_empty() => Damage::Extend,
            Damage::Any => [Damage::Bits, Damage::Truncate, Damage::Extend][scale(mix(self.word), 3) as usize],
            Damage::Bits | Damage::Truncate | Damage::Extend => self.damage,
        };
        match damage {
            Damage::Bits | Damage::Any => self.flip(bytes),
            Damage::Truncate => bytes.truncate(scale(self.word, bytes.len() as u64) as usize),
            Damage::Extend => {
                let extra = 1 + scale(self.word, MAX_EXTENSION as u64);
                bytes.extend((0..extra).map(|n| mix(self.word ^ n) as u8));
            }
        }
    }

    /// Flips distinct bits, so that no two flips cancel.
    fn flip(self, bytes: &mut [u8]) {
        let bits = bytes.len() as u64 * 8;
        let flips = (1 + scale(mix(self.word ^ 1), 8)).min(bits);
        let first = scale(self.word, bits);
        let stride = (bits / flips).max(1);
        for n in 0..flips {
            let bit = (first + n * stride) % bits;
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_always_shows() {
        for damage in [Damage::Bits, Damage::Truncate, Damage::Extend, Damage::Any] {
            for len in [0usize, 1, 2, 64, 1_452] {
                for n in 0..500 {
                    let original: Vec<u8> = (0..len).map(|index| index as u8).collect();
                    let mut bytes = original.clone();
                    Corruption { damage, word: mix(n) }.apply(&mut bytes);
                    assert_ne!(bytes, original, "{damage:?} of {len} bytes with word {n}");
                    assert!(bytes.len() <= len + MAX_EXTENSION);
                }
            }
        }
    }
}
