//! What can happen in a run.
//!
//! Invariants: a fact holds values only; numbers of machines, workloads, faults and adversaries index
//! [`super::Names`].
//! Not here: their words (`line.rs`).

use net_kernel::api::{Event, Input, StoreError, Stored, Why};
use net_kernel::base::{Addr, StreamId};
use net_kernel::session::SessionKey;
use net_kernel::wire::{Datagram, DropReason, HandshakeKind, peek};

/// What a datagram is, as far as its cleartext shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum PacketKind {
    /// First handshake message.
    Initiation = 0,
    /// Second handshake message.
    Response = 1,
    /// Cookie reply.
    Cookie = 2,
    /// A protected packet.
    Protected = 3,
    /// A routed packet.
    Routed = 4,
    /// None of them.
    Garbage = 5,
}

impl PacketKind {
    /// Every kind, by number.
    pub const ALL: [Self; 6] = [
        Self::Initiation,
        Self::Response,
        Self::Cookie,
        Self::Protected,
        Self::Routed,
        Self::Garbage,
    ];

    /// What these bytes are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match peek(bytes) {
            Ok(Datagram::Handshake { kind, .. }) => match kind {
                HandshakeKind::Initiation => Self::Initiation,
                HandshakeKind::Response => Self::Response,
                HandshakeKind::CookieReply => Self::Cookie,
            },
            Ok(Datagram::Protected { .. }) => Self::Protected,
            Ok(Datagram::Routed) => Self::Routed,
            Err(_) => Self::Garbage,
        }
    }

    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initiation => "initiation",
            Self::Response => "response",
            Self::Cookie => "cookie",
            Self::Protected => "protected",
            Self::Routed => "routed",
            Self::Garbage => "garbage",
        }
    }
}

/// What a turn was about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputKind {
    /// So many datagrams.
    Datagrams(u32),
    /// A timer.
    Wake,
    /// A command of the application.
    Command,
    /// A storage operation ended.
    Stored,
    /// A job ended.
    Worked,
    /// The network changed.
    Link,
    /// Its segment spoke, or it came to speak there.
    Segment,
    /// The transmitter takes datagrams again.
    TxReady,
}

impl InputKind {
    /// What this input is; `datagrams` are in it where it is a batch.
    #[must_use]
    pub const fn of(input: &Input<'_>, datagrams: u32) -> Self {
        match input {
            Input::Datagrams(_) => Self::Datagrams(datagrams),
            Input::Wake => Self::Wake,
            Input::Command(..) => Self::Command,
            Input::Stored(..) => Self::Stored,
            Input::Worked(..) => Self::Worked,
            Input::Link(_) => Self::Link,
            Input::Segment(_) => Self::Segment,
            Input::TxReady => Self::TxReady,
        }
    }

    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Datagrams(_) => "datagrams",
            Self::Wake => "wake",
            Self::Command => "command",
            Self::Stored => "stored",
            Self::Worked => "worked",
            Self::Link => "link",
            Self::Segment => "segment",
            Self::TxReady => "tx-ready",
        }
    }
}

/// A command, as the application gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Dial a machine.
    Connect {
        /// Whom.
        peer: u32,
    },
    /// Open a stream.
    Open {
        /// In which session.
        session: SessionKey,
    },
    /// Send messages.
    Send {
        /// In which session.
        session: SessionKey,
        /// On which stream.
        stream: StreamId,
        /// The first message's number.
        first: u64,
        /// How many.
        count: u64,
        /// Payload bytes.
        bytes: u64,
    },
    /// End one direction of a stream.
    Finish {
        /// In which session.
        session: SessionKey,
        /// Which stream.
        stream: StreamId,
    },
    /// Abandon one direction of a stream.
    Reset {
        /// In which session.
        session: SessionKey,
        /// Which stream.
        stream: StreamId,
    },
    /// Ask the peer to stop sending.
    Stop {
        /// In which session.
        session: SessionKey,
        /// Which stream.
        stream: StreamId,
    },
    /// Grant credit for what was read.
    Consumed {
        /// In which session.
        session: SessionKey,
        /// On which stream.
        stream: StreamId,
        /// Payload bytes.
        bytes: u64,
        /// Messages.
        messages: u64,
    },
    /// Measure the round trip.
    Echo {
        /// Of which session.
        session: SessionKey,
    },
    /// Replace keys.
    Rekey {
        /// Of which session.
        session: SessionKey,
    },
    /// End a session.
    Close {
        /// Which session.
        session: SessionKey,
    },
}

/// How a storage operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreEnd {
    /// Written.
    Done,
    /// Read: so many bytes, or nothing was there.
    Value(Option<u64>),
    /// Failed.
    Failed(StoreError),
}

impl StoreEnd {
    /// What an answer says.
    #[must_use]
    pub fn of(stored: &Stored<'_>) -> Self {
        match stored {
            Stored::Done => Self::Done,
            Stored::Value(value) => Self::Value(value.map(|bytes| bytes.len() as u64)),
            Stored::Failed(error) => Self::Failed(*error),
        }
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// A process was started.
    Booted {
        /// Which of the machine's, from 1.
        process: u32,
    },
    /// A process could not be started.
    BootFailed,
    /// A process ended without a word.
    Crashed,
    /// A process was stopped; datagrams wait.
    Paused,
    /// A machine went to sleep; datagrams are lost.
    Suspended,
    /// A stopped process runs on.
    Resumed,
    /// The machine got another address.
    Rebound {
        /// Which.
        to: Addr,
    },
    /// A turn of a process.
    Turn {
        /// What it was told.
        input: InputKind,
        /// The process' turns so far, this one included.
        number: u64,
    },
    /// A timer fired.
    Timer {
        /// What for, as the turn that set it said; `None` where the process runs on after a stop.
        why: Option<Why>,
    },
    /// A process gave a datagram to its network.
    Sent {
        /// Its source.
        from: Addr,
        /// Where to.
        to: Addr,
        /// The machine that has or had that address.
        peer: Option<u32>,
        /// Bytes.
        len: u32,
        /// What it is.
        kind: PacketKind,
        /// Numbers the transmission in the whole world; its copies share it.
        packet: u64,
        /// Numbers it on its link and direction, from 0: its fate is keyed by it.
        nth: Option<u64>,
    },
    /// An adversary sent a datagram.
    Injected {
        /// Which adversary.
        adversary: u32,
        /// The source it claims.
        from: Addr,
        /// Where to.
        to: Addr,
        /// The machine that has or had that address.
        peer: Option<u32>,
        /// Bytes.
        len: u32,
        /// What it looks like.
        kind: PacketKind,
        /// The transmission it is a copy of; 0 where it is none.
        packet: u64,
    },
    /// The link holds a datagram back behind later ones.
    Held {
        /// The transmission.
        packet: u64,
        /// When it arrives, ns.
        until: u64,
    },
    /// The link made a second copy.
    Doubled {
        /// The transmission.
        packet: u64,
    },
    /// Bytes of a datagram were changed: by the link, or by an adversary.
    Damaged {
        /// The transmission.
        packet: u64,
        /// Which adversary.
        adversary: Option<u32>,
    },
    /// A process was handed a datagram.
    Delivered {
        /// The source it claims.
        from: Addr,
        /// Bytes.
        len: u32,
        /// The transmission; 0 where an adversary made it.
        packet: u64,
    },
    /// A stopped process' socket keeps a datagram.
    Waits {
        /// The transmission.
        packet: u64,
    },
    /// A datagram ended undelivered.
    Dropped {
        /// The transmission; 0 where an adversary made it.
        packet: u64,
        /// Why: `loss`, `queue`, `mtu`, `partition`, `down`, `nobody`, `socket`, `adversary` and such.
        cause: &'static str,
    },
    /// The kernel refused datagrams or frames.
    Refused {
        /// Why.
        reason: DropReason,
        /// How many in this turn.
        count: u64,
    },
    /// The application gave a command.
    Command(Order),
    /// The kernel told the application something.
    Told(Box<Event>),
    /// The last part of a message reached the application.
    Message {
        /// In which session.
        session: SessionKey,
        /// On which stream.
        stream: StreamId,
        /// The message's number.
        number: u64,
        /// Its length.
        len: u64,
    },
    /// A job began.
    JobBegun {
        /// Its id.
        job: u64,
    },
    /// A job ended.
    JobFinished {
        /// Its id.
        job: u64,
    },
    /// A storage operation began.
    StoreBegun {
        /// Its ticket.
        ticket: u64,
        /// Which cell.
        cell: &'static str,
        /// Bytes to write; `None` reads.
        write: Option<u64>,
    },
    /// A storage operation ended.
    StoreFinished {
        /// Its ticket.
        ticket: u64,
        /// How.
        end: StoreEnd,
    },
    /// A workload began.
    WorkloadBegins {
        /// Which.
        workload: u32,
    },
    /// A fault began.
    FaultBegins {
        /// Which.
        fault: u32,
    },
    /// A fault ended.
    FaultEnds {
        /// Which.
        fault: u32,
    },
    /// A copy of a disk was taken for a later fault.
    Backup {
        /// Which fault.
        fault: u32,
    },
    /// An adversary began.
    AdversaryBegins {
        /// Which.
        adversary: u32,
    },
    /// An adversary acts of its own accord.
    Strike {
        /// Which.
        adversary: u32,
    },
    /// Every fault ended for good: the liveness phase begins.
    Healed,
    /// A property did not hold.
    Violation {
        /// The checker that saw it.
        checker: Box<str>,
        /// What it saw.
        what: Box<str>,
    },
}

/// The name of every kind of fact ([`Fact::name`]).
pub const FACTS: [&str; 33] = [
    "boot",
    "boot-failed",
    "crash",
    "pause",
    "suspend",
    "resume",
    "rebind",
    "turn",
    "timer",
    "sent",
    "injected",
    "held",
    "duplicated",
    "damaged",
    "delivered",
    "waits",
    "dropped",
    "refused",
    "command",
    "event",
    "message",
    "job",
    "job-done",
    "store",
    "store-done",
    "workload",
    "fault",
    "fault-end",
    "backup",
    "adversary",
    "strike",
    "healed",
    "violation",
];

impl Fact {
    /// Whether it is about one datagram.
    #[must_use]
    pub const fn is_datagram(&self) -> bool {
        match self {
            Self::Sent { .. }
            | Self::Injected { .. }
            | Self::Held { .. }
            | Self::Doubled { .. }
            | Self::Damaged { .. }
            | Self::Delivered { .. }
            | Self::Waits { .. }
            | Self::Dropped { .. } => true,
            Self::Booted { .. }
            | Self::BootFailed
            | Self::Crashed
            | Self::Paused
            | Self::Suspended
            | Self::Resumed
            | Self::Rebound { .. }
            | Self::Turn { .. }
            | Self::Timer { .. }
            | Self::Refused { .. }
            | Self::Command(_)
            | Self::Told(_)
            | Self::Message { .. }
            | Self::JobBegun { .. }
            | Self::JobFinished { .. }
            | Self::StoreBegun { .. }
            | Self::StoreFinished { .. }
            | Self::WorkloadBegins { .. }
            | Self::FaultBegins { .. }
            | Self::FaultEnds { .. }
            | Self::Backup { .. }
            | Self::AdversaryBegins { .. }
            | Self::Strike { .. }
            | Self::Healed
            | Self::Violation { .. } => false,
        }
    }

    /// A stable name of its kind, for filters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Booted { .. } => "boot",
            Self::BootFailed => "boot-failed",
            Self::Crashed => "crash",
            Self::Paused => "pause",
            Self::Suspended => "suspend",
            Self::Resumed => "resume",
            Self::Rebound { .. } => "rebind",
            Self::Turn { .. } => "turn",
            Self::Timer { .. } => "timer",
            Self::Sent { .. } => "sent",
            Self::Injected { .. } => "injected",
            Self::Held { .. } => "held",
            Self::Doubled { .. } => "duplicated",
            Self::Damaged { .. } => "damaged",
            Self::Delivered { .. } => "delivered",
            Self::Waits { .. } => "waits",
            Self::Dropped { .. } => "dropped",
            Self::Refused { .. } => "refused",
            Self::Command(_) => "command",
            Self::Told(_) => "event",
            Self::Message { .. } => "message",
            Self::JobBegun { .. } => "job",
            Self::JobFinished { .. } => "job-done",
            Self::StoreBegun { .. } => "store",
            Self::StoreFinished { .. } => "store-done",
            Self::WorkloadBegins { .. } => "workload",
            Self::FaultBegins { .. } => "fault",
            Self::FaultEnds { .. } => "fault-end",
            Self::Backup { .. } => "backup",
            Self::AdversaryBegins { .. } => "adversary",
            Self::Strike { .. } => "strike",
            Self::Healed => "healed",
            Self::Violation { .. } => "violation",
        }
    }
}
