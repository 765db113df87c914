//! The trace: every turn's inputs, outputs and deadline folded into one BLAKE3 digest, so that two runs
//! can be compared by 32 bytes (SIMULATION, "Determinism is tested").
//!
//! Invariants: a record is folded in the order things happened; a datagram is digested once, by its
//! sender's kernel, and the digest travels with it through the simulated world.
//! Not here: pictures of a trace (`net-io-sim`).

use alloc::vec::Vec;

use crate::time::Now;

/// What a record is about. The numbers are part of the digest: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A turn began: monotonic and wall time.
    Turn = 1,
    /// A datagram came in: length and digest.
    Received = 2,
    /// A datagram went out: length and digest.
    Sent = 3,
    /// A command: its id and a digest of what it asks.
    Command = 4,
    /// A storage completion: ticket and a digest of the result.
    Stored = 5,
    /// A job's result: its id and 0.
    Worked = 6,
    /// A change of the host's network: a digest and 0.
    Link = 7,
    /// An event for the user: length and digest of its text.
    Event = 8,
    /// Application data: a mix of stream, message and offset, and a digest of the bytes.
    Delivered = 9,
    /// A storage operation: ticket and a digest.
    Store = 10,
    /// A job: its id and 0.
    Job = 11,
    /// The deadline the turn answered: when, and what for.
    Deadline = 12,
    /// A beacon came in: length and digest.
    Heard = 13,
    /// A beacon went out: length and digest.
    Spoken = 14,
    /// The segment of the network was joined or left: a digest and 0.
    Segment = 15,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Turn,
        Self::Received,
        Self::Sent,
        Self::Command,
        Self::Stored,
        Self::Worked,
        Self::Link,
        Self::Event,
        Self::Delivered,
        Self::Store,
        Self::Job,
        Self::Deadline,
        Self::Heard,
        Self::Spoken,
        Self::Segment,
    ];
}

/// One record: what happened, and two words about it (the docs of [`Kind`] say which).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// What.
    pub kind: Kind,
    /// First word.
    pub a: u64,
    /// Second word.
    pub b: u64,
}

impl Record {
    /// Length in a file.
    pub const LEN: usize = 24;

    /// As it is folded and written to a file.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&u64::from(self.kind as u8).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.a.to_le_bytes());
        bytes[16..].copy_from_slice(&self.b.to_le_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` for a kind that does not exist.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let kind = *Kind::ALL.iter().find(|&&kind| u64::from(kind as u8) == word(0))?;
        Some(Self {
            kind,
            a: word(8),
            b: word(16),
        })
    }
}

/// Folds records, and keeps them where asked to.
#[derive(Clone, Debug)]
pub struct Trace {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    turns: u64,
    tape: Option<Tape>,
}

/// The first records of a run, up to a limit.
#[derive(Clone, Debug)]
struct Tape {
    records: Vec<Record>,
    limit: usize,
}

/// Records are folded in blocks of this many bytes: whole records, and whole BLAKE3 chunks enough to be hashed side by
/// side, which takes an eighth of the time that single chunks take.
const BUFFER: usize = Record::LEN * 1024;

impl Default for Trace {
    fn default() -> Self {
        Self {
            hasher: blake3::Hasher::new_derive_key("net trace v1"),
            buffer: Vec::new(),
            turns: 0,
            tape: None,
        }
    }
}

impl Trace {
    /// A turn begins.
    pub fn turn(&mut self, now: Now) {
        self.turns += 1;
        self.record(Kind::Turn, now.mono.as_nanos(), now.wall.0);
    }

    /// Keeps records from now on, the first `limit` of them, to be written to a file.
    pub fn keep(&mut self, limit: usize) {
        self.tape = Some(Tape {
            records: Vec::new(),
            limit,
        });
    }

    /// The records kept so far, oldest first.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        self.tape.as_ref().map_or(&[], |tape| &tape.records)
    }

    /// Folds one record of two words.
    pub fn record(&mut self, kind: Kind, a: u64, b: u64) {
        if self.buffer.len() == BUFFER {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
        let record = Record { kind, a, b };
        self.buffer.extend_from_slice(&record.to_bytes());
        if let Some(tape) = &mut self.tape
            && tape.records.len() < tape.limit
        {
            tape.records.push(record);
        }
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
        hasher.update(&self.buffer);
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
    fn kept_records_survive_a_file_and_stop_at_their_limit() {
        let mut trace = Trace::default();
        trace.keep(12);
        for (n, kind) in Kind::ALL.into_iter().cycle().take(30).enumerate() {
            trace.record(kind, n as u64, u64::MAX - n as u64);
        }
        assert_eq!(trace.records().len(), 12);
        for record in trace.records() {
            assert_eq!(Record::from_bytes(&record.to_bytes()), Some(*record));
        }
        assert_eq!(Record::from_bytes(&[0; Record::LEN]), None);
    }

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
