//! What a thief of the memory can make of the handshake generator's state: which ephemeral keys.
//!
//! The thief holds the generator's key and knows how handshakes use it (PROTOCOL 4). It does not know the bytes that the
//! operating system lends, so it tries those it is given, and none.
//! Invariants: looking changes nothing. Not here: whose handshakes these are (the simulated world).

use alloc::vec::Vec;

use net_base::rng::ErasingRng;

use super::{Handshakes, job, resolver};

/// Draws that are tried from where the generator stands.
const DRAWS: usize = 6;

impl Handshakes {
    /// The public keys of all ephemerals that a thief of the generator's state can make who tries each of `lent` for the
    /// bytes that the operating system lent, or none at all. Takes twelve scalar multiplications for each.
    #[must_use]
    pub fn loot(&self, lent: &[[u8; 32]]) -> Vec<[u8; 32]> {
        let mut made = Vec::new();
        for mixes in [false, true] {
            take(self.secrets.stolen(), mixes, lent, &mut made);
        }
        made
    }
}

/// Draws on, as if nothing came back to the generator, or as if every handshake gave back what can be guessed.
fn take(mut generator: ErasingRng, mixes: bool, lent: &[[u8; 32]], made: &mut Vec<[u8; 32]>) {
    for _ in 0..DRAWS {
        let drawn = generator.draw();
        let guess = |bytes: [u8; 32]| job::mix(&drawn, &mut |out| *out = bytes);
        let (seed, fresh) = guess([0; 32]);
        made.push(resolver::ephemeral(seed));
        made.extend(lent.iter().map(|bytes| resolver::ephemeral(guess(*bytes).0)));
        if mixes {
            generator.mix(&fresh);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_base::EntityId;
    use net_base::rng::{Secret, Seed};

    use crate::handshake::noise::{self, Statics};

    /// The public ephemeral of a first message under this seed.
    fn sent(seed: Secret) -> [u8; 32] {
        let statics = Statics {
            secret: Secret([1; 32]),
            public: [9; 32],
        };
        let mut responder = [0; 32];
        responder[0] = 9;
        let started = noise::start(&statics, &EntityId([2; 32]), &responder, seed, &[4; 56]);
        let (_, message) = started.expect("usable keys");
        *message.first_chunk().expect("a message begins with its ephemeral")
    }

    fn made(generator: &ErasingRng, mixes: bool, lent: [u8; 32]) -> Vec<[u8; 32]> {
        let mut made = Vec::new();
        take(generator.stolen(), mixes, &[lent], &mut made);
        made
    }

    #[test]
    fn only_who_knows_both_the_state_before_and_the_bytes_lent_makes_an_ephemeral() {
        let mut generator = Seed::new([7; 32]).fork_erasing("handshake");
        generator.mix(&Secret([8; 32]));
        let before = generator.stolen();
        let (seed, _) = job::mix(&generator.draw(), &mut |out| *out = [5; 32]);
        let ephemeral = sent(seed);
        for mixes in [false, true] {
            assert!(made(&before, mixes, [5; 32]).contains(&ephemeral));
            assert!(
                !made(&before, mixes, [6; 32]).contains(&ephemeral),
                "other bytes were lent"
            );
            assert!(
                !made(&generator, mixes, [5; 32]).contains(&ephemeral),
                "what was drawn is gone"
            );
        }
    }
}
