//! The trace: every turn's inputs, outputs and deadline folded into one BLAKE3 digest, so that two runs
//! can be compared by 32 bytes (SIMULATION, "Determinism is tested").
//!
//! Invariants: a record is folded in the order things happened; a datagram is digested once, by its
//! sender's kernel, and the digest travels with it through the simulated world.
//! Not here: pictures of a trace (`net-io-sim`).

use crate::time::Now;

/// What a record is about. The numbers are part of the digest: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A turn began.
    Turn = 1,
    /// A datagram came in.
    Received = 2,
    /// A datagram went out.
    Sent = 3,
    /// A command.
    Command = 4,
    /// A storage completion.
    Stored = 5,
    /// A job's result.
    Worked = 6,
    /// A change of the host's network.
    Link = 7,
    /// An event for the user.
    Event = 8,
    /// Application data.
    Delivered = 9,
    /// A storage operation.
    Store = 10,
    /// A job.
    Job = 11,
    /// The deadline the turn answered.
    Deadline = 12,
}

/// Folds records.
#[derive(Clone, Debug)]
pub struct Trace {
    hasher: blake3::Hasher,
    buffer: [u8; BUFFER],
    used: usize,
    turns: u64,
}

/// Records are folded in blocks of this many bytes, the size at which BLAKE3 hashes whole chunks.
const BUFFER: usize = 1024;
const RECORD: usize = 24;

impl Default for Trace {
    fn default() -> Self {
        Self {
            hasher: blake3::Hasher::new_derive_key("net trace v1"),
            buffer: [0; BUFFER],
            used: 0,
            turns: 0,
        }
    }
}

impl Trace {
    /// A turn begins.
    pub fn turn(&mut self, now: Now) {
        self.turns += 1;
        self.record(Kind::Turn, now.mono.as_nanos(), now.wall.0);
    }

    /// Folds one record of two words.
    pub fn record(&mut self, kind: Kind, a: u64, b: u64) {
        if self.used + RECORD > BUFFER {
            self.hasher.update(&self.buffer[..self.used]);
            self.used = 0;
        }
        let slot = &mut self.buffer[self.used..self.used + RECORD];
        slot[..8].copy_from_slice(&u64::from(kind as u8).to_le_bytes());
        slot[8..16].copy_from_slice(&a.to_le_bytes());
        slot[16..].copy_from_slice(&b.to_le_bytes());
        self.used += RECORD;
    }

    /// Folds one record over bytes.
    pub fn bytes(&mut self, kind: Kind, bytes: &[u8]) {
        self.record(kind, bytes.len() as u64, digest(bytes));
    }

    /// How many turns were folded.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The digest of everything folded so far.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.buffer[..self.used]);
        *hasher.finalize().as_bytes()
    }
}

/// 64 bits that stand for `bytes` in a trace.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_changes_the_digest() {
        let mut a = Trace::default();
        let mut b = Trace::default();
        for n in 0..1000 {
            a.record(Kind::Sent, n, 0);
            b.record(Kind::Sent, n, u64::from(n == 999));
        }
        assert_ne!(a.digest(), b.digest());
        assert_eq!(a.digest(), a.clone().digest());
    }
}
