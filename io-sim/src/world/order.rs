//! Commands that applications give their nodes, and what each answer belongs to.
//!
//! Invariants: an id tells what it was made of. Not here: who gives them (`apps.rs`, `files.rs`), who carries them out (`mod.rs`).

use std::collections::VecDeque;

use net_kernel::api::StreamOptions;
use net_kernel::base::{CommandId, StreamId};
use net_kernel::session::SessionKey;

use crate::history::Cursor;

/// A command to be given to a node.
#[derive(Clone, Debug)]
pub enum Order {
    /// Dial a node.
    Connect {
        /// Whom.
        peer: u32,
    },
    /// Open a stream.
    Open {
        /// In which session.
        session: SessionKey,
        /// How it behaves.
        options: StreamOptions,
    },
    /// Send messages of one direction of a stream.
    Send {
        /// Which direction.
        half: u32,
    },
    /// End a direction.
    Finish {
        /// Which direction.
        half: u32,
    },
    /// Abandon a direction.
    Reset {
        /// Which direction.
        half: u32,
    },
    /// Ask the sender of a direction to stop.
    Stop {
        /// Which direction.
        half: u32,
    },
    /// Grant credit for what was read.
    Consumed {
        /// Which direction.
        half: u32,
        /// Payload bytes.
        bytes: u64,
        /// Messages.
        messages: u64,
    },
    /// Grant credit on a stream that has no directions here: for what a node that is not to be trusted sent, whatever it was,
    /// and for messages of a file transfer.
    Swallowed {
        /// In which session.
        session: SessionKey,
        /// On which stream.
        stream: StreamId,
        /// Payload bytes.
        bytes: u64,
        /// Messages.
        messages: u64,
    },
    /// Send the message that an end of a file transfer has ready.
    Say {
        /// Which end.
        end: u32,
    },
    /// End an end's direction of a file transfer's stream.
    Hush {
        /// In which session.
        session: SessionKey,
        /// Which stream.
        stream: StreamId,
    },
    /// Measure the round trip.
    Echo {
        /// In which session.
        session: SessionKey,
    },
    /// Replace keys.
    Rekey {
        /// In which session.
        session: SessionKey,
    },
    /// End a session.
    Close {
        /// Which session.
        session: SessionKey,
    },
}

/// Commands to be given, in order, each with the entry of the history it follows from.
#[derive(Debug, Default)]
pub struct Orders {
    waiting: VecDeque<(u32, Purpose, Order, u64)>,
    cursor: Cursor,
}

impl Orders {
    /// Commands that follow from where `cursor` stands.
    pub fn new(cursor: Cursor) -> Self {
        let waiting = VecDeque::new();
        Self { waiting, cursor }
    }

    /// One more.
    pub fn push_back(&mut self, (node, purpose, order): (u32, Purpose, Order)) {
        self.waiting.push_back((node, purpose, order, self.cursor.get()));
    }

    /// The next; the cursor stands on what it follows from.
    pub fn pop_front(&mut self) -> Option<(u32, Purpose, Order)> {
        let (node, purpose, order, cause) = self.waiting.pop_front()?;
        self.cursor.set(cause);
        Some((node, purpose, order))
    }

    /// Forgets those of one node.
    pub fn forget(&mut self, node: u32) {
        self.waiting.retain(|(owner, ..)| *owner != node);
    }
}

/// What a command's answer belongs to: the top of its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A dial to a peer.
    Dial(u32),
    /// Opening an instance's stream.
    Open(u32),
    /// Sending on a direction.
    Send(u32),
    /// A step of a workload.
    Step(u32),
    /// Opening and using the stream of an end of a file transfer.
    File(u32),
    /// Nothing is expected.
    Plain,
}

impl Purpose {
    /// The command's id: kind, index, and a running number that makes it unique.
    pub const fn id(self, number: u64) -> CommandId {
        let (kind, index) = match self {
            Self::Plain => (0, 0),
            Self::Dial(index) => (1, index),
            Self::Open(index) => (2, index),
            Self::Send(index) => (3, index),
            Self::Step(index) => (4, index),
            Self::File(index) => (5, index),
        };
        CommandId((kind << 60) | ((index as u64) << 32) | (number & 0xFFFF_FFFF))
    }

    /// What an id was made of.
    pub const fn of(id: CommandId) -> Self {
        let index = ((id.0 >> 32) & 0x0FFF_FFFF) as u32;
        match id.0 >> 60 {
            1 => Self::Dial(index),
            2 => Self::Open(index),
            3 => Self::Send(index),
            4 => Self::Step(index),
            5 => Self::File(index),
            _ => Self::Plain,
        }
    }
}
