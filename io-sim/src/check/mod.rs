//! Checkers: objects outside the kernel that are told what can be seen and say when it must not be.
//!
//! | file | role |
//! |---|---|
//! | `stream.rs` | order, exactly once, byte equality; unread data within its credit |
//! | `packet.rs` | nonces and ephemerals, packets accepted at most once, canaries, amplification |
//! | `key.rs` | the end of every key; genuine packets are not taken for replays |
//! | `node.rs` | one session per pair, none with a process of the past, no false accusation, bounded work |
//! | `mesh.rs` | routes: no loops, and short in the end |
//! | `beacon.rs` | what is heard on a segment was spoken there, and nothing old is taken for news |
//! | `relay.rs` | routed datagrams: hops counted, no circles |
//! | `file.rs` | files that are transferred: whole, there when told so, none left out |
//! | `shape.rs` | two runs that differ in secrets alone look the same |
//! | `account.rs` | datagrams conserved |
//!
//! Invariants: a checker never changes the world; each has a test in which it fires.
//! Not here: bounds a scenario asks for (`run.rs`), invariants machines check themselves.

mod account;
mod beacon;
mod file;
mod key;
mod mesh;
mod node;
mod packet;
mod relay;
mod shape;
mod stream;

use net_kernel::api::{Holdings, TimerLoad};
use net_kernel::base::Addr;
use net_kernel::transfer::memory::Memory;
use net_kernel::transfer::{Reject, Skip};
use net_kernel::wire::Reliability;
use net_sim_model::Key;

use crate::history::{Cursor, NONE};

pub use account::{Accounts, Conservation, MemoryBound};
pub use beacon::{HEARD, HeardSpoken, SPOKEN};
pub use file::{Before, Change, Contents, FileRefused, FileStored, FileWhole, Item};
pub use key::{GenuineRefused, KeyLifetime};
pub use mesh::{BELIEVED, BOOTED, EveryRoute, LIAR, LINKS, Map, NeverSaid, ROUTES, SAID};
pub use node::{FalseRollback, JobCap, OlderIncarnation, OneSession};
pub use packet::{Amplification, CanaryOnLink, NonceReuse, ReplayAccepted};
pub use relay::RelayStep;
pub use shape::{SameShape, Shape};
pub use stream::{StreamOrder, UnreadBound};

/// Every checker by name: the standard ones, then bounds and ends that the world itself holds.
pub const CHECKERS: crate::scenario::Words = &[
    ("stream-order", "per stream: order, exactly once, byte for byte"),
    ("unread-bound", "what lies unread never exceeds the credit granted"),
    (
        "file-whole",
        "under a final name lies what was sent, byte for byte, or what was there before",
    ),
    (
        "file-stored",
        "what was told as stored is there, after every crash; in the end every file is",
    ),
    (
        "file-refused",
        "no file is rejected or left out without a cause, and no side takes the other for a liar",
    ),
    (
        "nonce-reuse",
        "no key and counter twice, no ephemeral key in two handshakes",
    ),
    (
        "replay-accepted",
        "a copy of a packet that was handed over before is never accepted",
    ),
    (
        "amplification",
        "at most three times what an unproved address sent goes back to it",
    ),
    (
        "conservation",
        "every datagram was delivered, dropped for a cause, or is under way",
    ),
    (
        "memory-bound",
        "sessions hold what the configuration allows, timers what sessions and dials do",
    ),
    ("key-lifetime", "no key is used longer than the configuration allows"),
    (
        "genuine-refused",
        "a packet that was not given before is never refused as a replay",
    ),
    (
        "one-session",
        "two machines settle on one session, however both dialled",
    ),
    (
        "older-incarnation",
        "no session begins with an older incarnation of a peer than one before",
    ),
    ("false-rollback", "nobody is told of a peer rolled back that never was"),
    (
        "route-loop",
        "no chain of next hops closes, at any instant, among machines that follow the protocol",
    ),
    ("made-up-node", "nobody has a route to a machine that never was"),
    (
        "never-said",
        "nobody takes a machine to have said of itself what it did not",
    ),
    (
        "shared-label",
        "nobody has routes to two machines that share a wire label",
    ),
    (
        "heard-spoken",
        "what is taken for a machine's beacon it spoke itself, and no older one follows",
    ),
    (
        "relay-step",
        "every relay takes one of the hops that a packet may take, and none sends one on twice",
    ),
    ("job-cap", "no machine has more jobs under way than it may"),
    ("canary", "application data is never seen on a link (real cipher)"),
    (
        "forward-secrecy",
        "memory that is revealed opens nothing sealed under keys replaced before, and makes no handshake's key",
    ),
    (
        "same-shape",
        "two runs that differ in secrets alone look the same on the links",
    ),
    (
        "identity",
        "data and sessions belong to the identity that proved itself",
    ),
    ("refused", "no command is refused that must not be"),
    ("liveness", "what must complete does, once the core is healed"),
    (
        "lost-wakeup",
        "no driver sleeps on a socket that it must still ask or try (arm `shell`)",
    ),
    ("slo", "times stay within the scenario's bounds"),
    ("expect", "counters stay within the scenario's bounds"),
    ("invariant", "a machine's own assertions hold"),
    ("livelock", "no machine turns for ever at one instant"),
    ("out-of-time", "a run comes to its end"),
    ("determinism", "two runs of one seed are the same"),
    ("harness", "the scenario and the program are not at fault"),
];

/// Something that can be seen.
#[derive(Clone, Copy, Debug)]
pub enum Observation<'a> {
    /// A process gave a datagram to its network.
    Sent {
        /// Which machine.
        node: u32,
        /// Where to.
        to: Addr,
        /// The machine's own monotonic time, ns.
        mono: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A process was handed a datagram.
    Received {
        /// Which machine.
        node: u32,
        /// The source it claims.
        from: Addr,
        /// Who made it in truth: a machine's number, [`SOMEBODY`] or [`ADVERSARY`].
        by: u32,
        /// How long.
        len: usize,
    },
    /// A datagram of a machine arrived where it was sent to.
    Reached {
        /// Whose datagram.
        node: u32,
        /// Where it was sent to.
        address: Addr,
        /// The machine that got it. Somebody in between who passes it on gets nothing himself: he cannot answer it.
        by: u32,
    },
    /// A machine may send to an address freely: its user told it to dial there.
    Validated {
        /// Which machine.
        node: u32,
        /// Where.
        address: Addr,
    },
    /// A process was handed a copy of a datagram that it had been handed before.
    Copy {
        /// Which machine.
        node: u32,
        /// By how much its count of accepted packets rose.
        accepted: u64,
    },
    /// A process was handed datagrams that nobody touched and that it had not been handed before.
    Genuine {
        /// Which machine.
        node: u32,
        /// By how much its count of replays rose.
        replayed: u64,
    },
    /// After a turn in which a session began: how many a machine has with that peer.
    Sessions {
        /// Which machine.
        node: u32,
        /// With whom.
        peer: u32,
        /// How many.
        live: u32,
    },
    /// A machine says that it has a session.
    Begun {
        /// Which machine.
        node: u32,
        /// Which of its processes, counted from 1.
        process: u32,
        /// With whom: a clone goes by its original's number.
        peer: u32,
        /// The epoch of the process that is at the other end in truth.
        epoch: u64,
    },
    /// A peer refused a machine because it had seen a later epoch of it.
    Accused {
        /// Which machine.
        node: u32,
        /// Whether some machine's state was in fact rolled back or copied.
        truly: bool,
    },
    /// A machine handed out work.
    Jobs {
        /// Which machine.
        node: u32,
        /// How many jobs of it are under way now.
        under_way: u32,
    },
    /// One direction of a stream begins to be read.
    Reading {
        /// Names the direction.
        half: u32,
        /// What must come.
        expected: Expected,
    },
    /// Application data was delivered.
    Delivered {
        /// The direction of the stream.
        half: u32,
        /// The message's number.
        number: u64,
        /// Where the bytes stand in it.
        offset: u64,
        /// Whether the message ends with them.
        end: bool,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The peer finished a direction, and its reader was told.
    Finished {
        /// The direction of the stream.
        half: u32,
    },
    /// An entry will be offered to a machine.
    FileOffered {
        /// Which machine.
        node: u32,
        /// By which workload.
        workload: u32,
        /// Where it will be.
        path: &'a str,
        /// What it is.
        item: Item,
    },
    /// The sender was told that a machine stored an entry.
    FileTold {
        /// Which machine.
        node: u32,
        /// Where.
        path: &'a str,
    },
    /// The sender was told that a machine does not take an entry.
    FileRejected {
        /// Which machine.
        node: u32,
        /// Where it would have been.
        path: &'a str,
        /// What it said.
        why: Reject,
        /// Whether some of its bytes were in fact changed on the way to the stream.
        flipped: bool,
        /// Whether the machine's disk was in fact at fault in this attempt.
        faulty: bool,
    },
    /// The sender left an entry out.
    FileSkipped {
        /// For which machine.
        node: u32,
        /// Where it would have been.
        path: &'a str,
        /// Why.
        why: Skip,
    },
    /// What lies in the directory of a machine that receives files.
    Directory {
        /// Which machine.
        node: u32,
        /// Its directory.
        directory: &'a Memory,
        /// Whether every byte may have changed: after a crash.
        whole: bool,
    },
    /// A workload's files are settled.
    FilesSettled {
        /// Which machine has them.
        node: u32,
        /// Which workload.
        workload: u32,
        /// The machine's directory.
        directory: &'a Memory,
    },
    /// How much a process' sessions hold.
    Holding {
        /// Which machine.
        node: u32,
        /// How much.
        holdings: Holdings,
        /// The most that its configuration allows.
        limit: Holdings,
    },
    /// How much the timers of one of a process' machines hold.
    Timers {
        /// Which machine of the world.
        node: u32,
        /// How much.
        load: TimerLoad,
    },
    /// The reader of a direction has so much that it did not read yet.
    Unread {
        /// The direction of the stream.
        half: u32,
        /// In positions (payload plus 16 per message).
        positions: u64,
        /// What was granted.
        window: u64,
    },
}

/// In place of a machine's number: somebody who is none.
pub const ADVERSARY: u32 = u32::MAX;

/// In place of a machine's number: whoever made the datagram of which an adversary sends a copy.
pub const SOMEBODY: u32 = u32::MAX - 1;

/// What must come on one direction of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Under which the payload was made.
    pub payload: Key,
    /// Under which lengths are drawn: the same key, unless content alone is to be other.
    pub sizes: Key,
    /// Added to a message's number to name its payload.
    pub base: u64,
    /// How many messages.
    pub count: u64,
    /// Smallest and largest message.
    pub size: (u64, u64),
    /// Loss and order.
    pub reliability: Reliability,
}

impl Expected {
    /// The length of message `number`.
    #[must_use]
    pub const fn len(&self, number: u64) -> u64 {
        let (low, high) = self.size;
        low + self.sizes.with(u64::MAX).below(self.base + number, high - low + 1)
    }

    /// Whether no message must come.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What a checker wants to be told of, as a set of these.
pub mod wants {
    /// [`super::Observation::Sent`].
    pub const SENT: u8 = 1;
    /// [`super::Observation::Received`], [`super::Observation::Reached`] and [`super::Observation::Validated`].
    pub const RECEIVED: u8 = 2;
    /// [`super::Observation::Copy`].
    pub const COPY: u8 = 4;
    /// Everything about streams.
    pub const STREAM: u8 = 8;
    /// [`super::Observation::Holding`] and [`super::Observation::Timers`].
    pub const HOLDING: u8 = 16;
    /// [`super::Observation::Genuine`].
    pub const GENUINE: u8 = 32;
    /// [`super::Observation::Sessions`], [`super::Observation::Begun`], [`super::Observation::Accused`] and
    /// [`super::Observation::Jobs`].
    pub const NODE: u8 = 64;
    /// Everything about transfers of files.
    pub const FILE: u8 = 128;
}

/// Something a machine says of itself, for checkers alone: that it leads, that it wrote or read a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Which machine.
    pub node: u32,
    /// When, ns of world time: one clock for all machines.
    pub at: u64,
    /// What.
    pub what: &'static str,
    /// The figures that belong to it, as the machine and the checker agree.
    pub values: Vec<u64>,
}

#[cfg(test)]
pub(crate) mod testing {
    use super::Note;

    /// What a machine said at the beginning of time.
    pub(crate) fn note(node: u32, what: &'static str, values: &[u64]) -> Note {
        let values = values.to_vec();
        Note {
            node,
            at: 0,
            what,
            values,
        }
    }
}

/// A property.
pub trait Checker {
    /// Its name in reports and in `expect.checker`.
    fn name(&self) -> &'static str;

    /// What it wants to be told of: a set of [`wants`]. Notes are told to all.
    fn wants(&self) -> u8 {
        0
    }

    /// Looks at one thing of those it wants to be told of.
    ///
    /// # Errors
    /// What must not have been.
    fn observe(&mut self, _observation: &Observation<'_>) -> Result<(), String> {
        Ok(())
    }

    /// Looks at something a machine says of itself; kernels say nothing.
    ///
    /// # Errors
    /// What must not have been.
    fn noted(&mut self, _note: &Note) -> Result<(), String> {
        Ok(())
    }

    /// Looks at the end of a run.
    ///
    /// # Errors
    /// What must not have been.
    fn finish(&mut self, _accounts: &Accounts) -> Result<(), String> {
        Ok(())
    }
}

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which checker.
    pub checker: String,
    /// What it saw.
    pub what: String,
    /// When, ns of world time.
    pub at: u64,
}

/// All checkers of a run, and the first violation.
pub struct Panel {
    checkers: Vec<(u8, Box<dyn Checker>)>,
    wanted: u8,
    violation: Option<Violation>,
    cursor: Cursor,
    seen_during: u64,
}

impl std::fmt::Debug for Panel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.checkers.iter().map(|(_, checker)| checker.name()).collect();
        f.debug_struct("Panel")
            .field("checkers", &names)
            .field("violation", &self.violation)
            .finish()
    }
}

impl Panel {
    /// The standard checkers. `clear`: packets carry the checksum AEAD, so that keys and counters can be read;
    /// otherwise they are enciphered, so that canaries must not be seen.
    #[must_use]
    pub fn standard(clear: bool) -> Self {
        let mut panel = Self::bare();
        panel.add(Box::new(StreamOrder::default()));
        panel.add(Box::new(UnreadBound));
        panel.add(Box::new(FileWhole::default()));
        panel.add(Box::new(FileStored::default()));
        panel.add(Box::new(FileRefused::default()));
        panel.add(Box::new(NonceReuse::new(clear)));
        panel.add(Box::new(ReplayAccepted));
        panel.add(Box::new(GenuineRefused));
        panel.add(Box::new(OneSession));
        panel.add(Box::<OlderIncarnation>::default());
        panel.add(Box::new(FalseRollback));
        panel.add(Box::new(JobCap));
        panel.add(Box::new(EveryRoute::closes_no_loop()));
        panel.add(Box::new(EveryRoute::leads_somewhere()));
        panel.add(Box::new(EveryRoute::goes_by_one_name()));
        panel.add(Box::<HeardSpoken>::default());
        panel.add(Box::<NeverSaid>::default());
        panel.add(Box::<RelayStep>::default());
        panel.add(Box::new(Amplification::default()));
        panel.add(Box::new(MemoryBound));
        if !clear {
            panel.add(Box::new(CanaryOnLink));
        }
        panel
    }

    /// What holds of every world, whatever lives in it: datagrams are conserved.
    #[must_use]
    pub fn bare() -> Self {
        let mut panel = Self {
            checkers: Vec::new(),
            wanted: 0,
            violation: None,
            cursor: Cursor::default(),
            seen_during: NONE,
        };
        panel.add(Box::new(Conservation));
        panel
    }

    /// Adds a checker.
    pub fn add(&mut self, checker: Box<dyn Checker>) {
        self.wanted |= checker.wants();
        self.checkers.push((checker.wants(), checker));
    }

    /// Where the history stands: a violation remembers the entry during which it was seen.
    pub(crate) fn follow(&mut self, cursor: Cursor) {
        self.cursor = cursor;
    }

    /// The entry of the history during which the violation was seen.
    pub(crate) const fn seen_during(&self) -> u64 {
        self.seen_during
    }

    /// Whether anybody wants it.
    #[inline]
    #[must_use]
    pub const fn wants(&self, what: u8) -> bool {
        self.wanted & what != 0
    }

    /// Tells every checker that wants it.
    #[inline]
    pub fn observe(&mut self, at: u64, what: u8, observation: &Observation<'_>) {
        if self.wanted & what == 0 {
            return;
        }
        for (wanted, checker) in &mut self.checkers {
            if *wanted & what != 0
                && let Err(what) = checker.observe(observation)
                && self.violation.is_none()
            {
                self.seen_during = self.cursor.get();
                self.violation = Some(Violation {
                    checker: checker.name().to_owned(),
                    what,
                    at,
                });
            }
        }
    }

    /// Tells every checker what a machine says of itself.
    pub fn note(&mut self, note: &Note) {
        for (_, checker) in &mut self.checkers {
            if let Err(what) = checker.noted(note)
                && self.violation.is_none()
            {
                self.seen_during = self.cursor.get();
                self.violation = Some(Violation {
                    checker: checker.name().to_owned(),
                    what,
                    at: note.at,
                });
            }
        }
    }

    /// Tells every checker that the run ended.
    pub fn finish(&mut self, at: u64, accounts: &Accounts) {
        for (_, checker) in &mut self.checkers {
            if let Err(what) = checker.finish(accounts)
                && self.violation.is_none()
            {
                self.seen_during = self.cursor.get();
                self.violation = Some(Violation {
                    checker: checker.name().to_owned(),
                    what,
                    at,
                });
            }
        }
    }

    /// Records a violation that no checker object saw, such as a missed bound. The first one stays.
    pub fn fail(&mut self, at: u64, checker: &str, what: String) {
        if self.violation.is_none() {
            self.seen_during = self.cursor.get();
            self.violation = Some(Violation {
                checker: checker.to_owned(),
                what,
                at,
            });
        }
    }

    /// The first violation.
    #[must_use]
    pub const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standard_checker_is_listed() {
        for clear in [true, false] {
            for (_, checker) in &Panel::standard(clear).checkers {
                let name = checker.name();
                assert!(
                    CHECKERS.iter().any(|(listed, _)| *listed == name),
                    "{name} is not listed"
                );
            }
        }
    }
}
