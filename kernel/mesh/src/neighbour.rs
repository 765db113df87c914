//! One neighbour: what it told us and is not worked on yet, what it is to be told, and whether it is heard.
//!
//! Invariants: what it told is worked on in its order; what waits for it is a set of nodes and not a queue of messages, so
//! that it hears the latest of each once it can take it. Not here: what its messages lead to (`mesh.rs`).

use alloc::collections::{BTreeSet, VecDeque};

use net_base::{Duration, EntityId, Epoch, Instant, JobId, mutant};
use net_wire::mesh::{Message, Pingwave};

/// Messages of a neighbour that wait for an earlier one to be worked on; one more is dropped. Its stream's credit keeps a
/// neighbour that follows the protocol far below.
pub(crate) const MAX_INBOX: usize = 1_024;
/// Signatures of one neighbour that are checked at once.
pub(crate) const MAX_AHEAD: usize = 8;
/// Requests and answers that wait for a neighbour; the oldest makes room.
const MAX_ERRANDS: usize = 64;
/// Messages that a neighbour may send at once, and afterwards in a second.
const BURST: u64 = 8_192;
const PER_SECOND: u64 = 2_000;

/// What became of a message's signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proof {
    /// Not looked at.
    Open,
    /// Being checked.
    Asked(JobId),
    /// Checked.
    Found(bool),
}

/// A message that is not worked on yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter {
    pub(crate) message: Message,
    pub(crate) proof: Proof,
    /// Length of the message, to be given back as credit.
    pub(crate) len: u64,
}

/// Whether a neighbour is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pulse {
    /// It is.
    Alive,
    /// It was silent for three intervals; others are asked.
    Suspected {
        /// Since when.
        since: Instant,
        /// When it counts as failed.
        until: Instant,
        /// Whether somebody else hears it.
        witnessed: bool,
    },
    /// It counts no more.
    Failed {
        /// Since when.
        since: Instant,
        /// It does not come back before.
        until: Instant,
    },
}

/// One neighbour.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) peer: EntityId,
    pub(crate) epoch: Epoch,
    pub(crate) inbox: VecDeque<Letter>,
    /// Nodes that it is to be told of.
    pub(crate) pending: BTreeSet<EntityId>,
    /// It is to get our own pingwave.
    pub(crate) wave_due: bool,
    errands: VecDeque<Message>,
    /// Bytes that its stream takes now.
    pub(crate) room: u64,
    pub(crate) pulse: Pulse,
    /// Whether it hears us, by its own word.
    pub(crate) hears_us: bool,
    /// Times that it failed and came back, for waiting longer each time.
    pub(crate) failures: u32,
    tokens: u64,
    filled: Instant,
}

impl Neighbour {
    pub(crate) const fn new(peer: EntityId, epoch: Epoch, room: u64, now: Instant) -> Self {
        Self {
            peer,
            epoch,
            inbox: VecDeque::new(),
            pending: BTreeSet::new(),
            wave_due: true,
            errands: VecDeque::new(),
            room,
            pulse: Pulse::Alive,
            hears_us: true,
            failures: 0,
            tokens: BURST,
            filled: now,
        }
    }

    /// Whether routes may lead over it.
    pub(crate) const fn counts(&self) -> bool {
        self.hears_us && !matches!(self.pulse, Pulse::Failed { .. })
    }

    /// Takes a message into the inbox; false where it is full or the neighbour sends too many.
    pub(crate) fn receive(&mut self, now: Instant, message: Message, len: u64) -> bool {
        let passed = now.since(self.filled);
        let earned = passed.as_millis().saturating_mul(PER_SECOND) / 1_000;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.filled = now;
        }
        if self.tokens == 0 || self.inbox.len() == MAX_INBOX {
            return false;
        }
        self.tokens -= 1;
        self.inbox.push_back(Letter {
            message,
            proof: Proof::Open,
            len,
        });
        true
    }

    /// Notes a request or an answer to be sent.
    pub(crate) fn errand(&mut self, message: Message) {
        if self.errands.len() == MAX_ERRANDS {
            self.errands.pop_front();
        }
        self.errands.push_back(message);
    }

    /// The next request or answer, or our own pingwave.
    pub(crate) fn next_errand(&mut self, own: Option<&Pingwave>) -> Option<Message> {
        if let Some(errand) = self.errands.pop_front() {
            return Some(errand);
        }
        let wave = own.filter(|_| self.wave_due)?;
        self.wave_due = false;
        Some(Message::Pingwave(*wave))
    }

    /// How long it waits before it counts again after the failure that begins now: an interval, doubled with every
    /// failure, at most 64.
    pub(crate) fn penalty(&self, interval: Duration) -> Duration {
        if mutant!(FlappingUnpunished) {
            return interval;
        }
        interval * (1u64 << self.failures.min(6))
    }
}
