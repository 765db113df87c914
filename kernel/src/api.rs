//! What the kernel is told, what it answers and what it may do: the whole contract with a driver.
//!
//! Invariants: everything here is a value or a borrowed slice; [`Io`] is a sink, never a source.
//! Not here: how a turn runs (`kernel.rs`), what the bytes mean (`net-wire`).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use net_base::{Addr, CommandId, Duration, EntityId, Epoch, Instant, JobId, StreamId, Ticket};
use net_wire::{CloseCode, Reliability};

pub use net_base::store::{StoreError, StoreOp, Stored};
pub use net_base::timer::Load;
pub use net_mesh::beacons::Segment;
pub use net_mesh::config::MeshConfig;
pub use net_mesh::mesh::{Fact, Link, MAX_CHECKS, Mesh, Standing};
pub use net_mesh::outage::{Outage, Scope};
pub use net_mesh::relay::{RelayLimits, Relayed};
pub use net_mesh::routes::Collision;
pub use net_mesh::routes::Route;
pub use net_session::config::SessionConfig;
pub use net_session::crew::{Crew, MAX_PIECES, Piece};
pub use net_session::drops::Drops;
pub use net_session::lane::Holdings;
pub use net_session::lane::SessionStats;
pub use net_session::recovery::Algorithm;
pub use net_session::rx::{Ecn, RxBatch, RxBuf};
pub use net_session::tx::{Dest, Seal, Tx};
pub use net_session::{Part, SessionKey};
pub use net_wire::mesh::Health;

/// One thing the kernel is told. One per turn.
#[derive(Debug)]
pub enum Input<'b> {
    /// Datagrams as they came from a socket, opened in place.
    Datagrams(RxBatch<'b>),
    /// The deadline of an earlier turn has come (or may have).
    Wake,
    /// A user's wish; answered by events that carry the same id where they answer at all.
    Command(CommandId, Command<'b>),
    /// A storage operation ended.
    Stored(Ticket, Stored<'b>),
    /// A job ended.
    Worked(JobId, JobDone),
    /// The host's network changed.
    Link(LinkChange),
    /// Something about the segment of the network on which nodes find each other.
    Segment(Segment<'b>),
    /// The transmitter takes datagrams again after [`Tx::reserve`] answered `None`.
    TxReady,
}

/// What a user may ask for. Every refusal is an [`Event::Refused`] with the command's id; a refused
/// command changed nothing.
#[derive(Debug)]
pub enum Command<'b> {
    /// Connect to `peer` at any of `addresses` (1 to 16, tried 20 ms apart in the order of the list, and again in rounds). Answered by
    /// [`Event::Connected`] or [`Event::ConnectFailed`].
    Connect {
        /// Whom to expect; a node with another key cannot answer.
        peer: EntityId,
        /// Where to try.
        addresses: &'b [Addr],
    },
    /// Open a stream. Answered in the same turn by [`Event::Opened`] or a refusal.
    Open {
        /// The session it belongs to.
        session: SessionKey,
        /// How it behaves.
        options: StreamOptions,
    },
    /// Append messages to a stream, all or, on refusal, none. Accepted messages are not answered.
    Send {
        /// The session.
        session: SessionKey,
        /// A stream that either side opened (streams carry both directions).
        stream: StreamId,
        /// What to send.
        messages: Messages<'b>,
    },
    /// No more messages will follow in this direction. [`Event::Flushed`] tells when the peer has them all.
    Finish {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
    },
    /// Abandon this direction; the peer sees [`Event::StreamReset`].
    Reset {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
        /// The application's reason, at most 2^62 - 1.
        code: u64,
    },
    /// Ask the peer to stop sending; it sees [`Event::StreamStopped`]. Parts still arriving are discarded.
    Stop {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
        /// The application's reason, at most 2^62 - 1.
        code: u64,
    },
    /// The application has drained delivered parts: credit may be granted. Unknown streams are ignored,
    /// because a stream may end while its last parts are still being read.
    Consumed {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
        /// Payload bytes drained.
        bytes: u64,
        /// Messages whose last byte was drained.
        messages: u64,
    },
    /// Measure the round trip now; answered by [`Event::Echo`] (or never, when the peer is silent).
    Echo {
        /// The session.
        session: SessionKey,
    },
    /// Replace the session's keys now instead of at their age limit.
    Rekey {
        /// The session.
        session: SessionKey,
    },
    /// End a session at once, telling the peer why. Unacknowledged data is lost: finish streams and
    /// wait for [`Event::Flushed`] first where that matters.
    Close {
        /// The session.
        session: SessionKey,
        /// Why; 0 for an ordinary end.
        code: u64,
        /// Text for the peer, cut at 256 bytes.
        reason: &'b str,
    },
    /// Replace the list of those who may hold sessions. Sessions of others are closed with `NotAllowed`.
    Allow(Option<&'b [EntityId]>),
    /// Keep a session with `peer`: dial it at any of `addresses` (1 to 16) now, and again whenever there is none, after 1 s
    /// at first and a minute at last. Nothing answers it but [`Event::Connected`], every time. Needs a mesh.
    Join {
        /// Whom to expect.
        peer: EntityId,
        /// Where to try.
        addresses: &'b [Addr],
    },
    /// End a [`Self::Join`]; a session stays as it is. Unknown peers are ignored.
    Leave(EntityId),
    /// What the mesh is told of this node from now on; at once where its health or a tenth of its load changes, at most ten
    /// times a second. Needs a mesh.
    Describe {
        /// How busy it is, in thousandths of what it can do, at most 1,000.
        load: u16,
        /// How well it does.
        health: Health,
    },
    /// Forget a connection attempt; ignored where it already ended.
    CancelConnect(CommandId),
    /// Close every session and refuse what comes after.
    Shutdown,
}

/// Messages of one `Send`: one slice each, or many of one size in one buffer.
#[derive(Clone, Copy, Debug)]
pub enum Messages<'b> {
    /// One message.
    One(&'b [u8]),
    /// Several messages.
    Many(&'b [&'b [u8]]),
    /// Messages laid end to end in one buffer, `size` bytes each; `size` divides the length and is not 0.
    Chunks {
        /// The buffer.
        bytes: &'b [u8],
        /// Length of each message.
        size: usize,
    },
    /// Messages laid end to end in one buffer; `ends[i]` is where message `i` ends, ascending.
    Framed {
        /// The buffer.
        bytes: &'b [u8],
        /// Ends of the messages.
        ends: &'b [u32],
    },
}

/// How a stream behaves; fixed when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamOptions {
    /// Loss and order.
    pub reliability: Reliability,
    /// Streams of greater priority overtake, within bounds that never starve the rest. 0 is ordinary.
    pub priority: u8,
    /// Share of the sending capacity among streams of equal priority, 1 to 256.
    pub weight: u16,
    /// What the messages are (`net_wire::subprotocol`); 0 for plain events. `MESH` is refused: the kernel speaks it.
    pub subprotocol: u16,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            reliability: Reliability::Reliable,
            priority: 0,
            weight: 16,
            subprotocol: 0,
        }
    }
}

/// What changed about the host's network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkChange {
    /// The local socket got a new address: paths are probed at once instead of waiting for loss.
    Rebound,
    /// A datagram to this address was refused by its host (ICMP port unreachable). A hint only.
    Unreachable(Addr),
    /// A datagram was too large for the local interface: the path MTU search starts again.
    TooLarge(Addr),
}

/// What the kernel tells its user. Flushed at the end of the turn in the order they arose; parts of
/// streams are handed to [`Io::deliver`] during the turn, so a first part may precede its
/// [`Event::StreamOpened`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A session is up: both sides proved who they are.
    Connected {
        /// The session.
        session: SessionKey,
        /// Who.
        peer: EntityId,
        /// Where.
        address: Addr,
        /// The commands this answers (none: the peer connected to us).
        command: Option<CommandId>,
    },
    /// A connection attempt ended without a session.
    ConnectFailed {
        /// Which attempt.
        command: CommandId,
        /// Whom it was for.
        peer: EntityId,
        /// Why.
        why: ConnectError,
    },
    /// A session ended. Every stream of it ended with it.
    Closed {
        /// The session.
        session: SessionKey,
        /// Who.
        peer: EntityId,
        /// Why.
        why: CloseReason,
    },
    /// Answer to [`Command::Open`].
    Opened {
        /// Which command.
        command: CommandId,
        /// The session.
        session: SessionKey,
        /// The new stream.
        stream: StreamId,
        /// Bytes (payload plus 16 per message) that may be sent before backpressure.
        credit: u64,
    },
    /// The peer opened a stream.
    StreamOpened {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
        /// Loss and order, as the peer chose.
        reliability: Reliability,
        /// What the messages are.
        subprotocol: u16,
        /// Bytes that may be sent back on it before backpressure.
        credit: u64,
    },
    /// `bytes` of send credit came back (payload plus 16 per message).
    Writable {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
        /// How many bytes.
        bytes: u64,
    },
    /// The peer finished its direction; everything before was delivered (reliable streams).
    Finished {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
    },
    /// Everything sent before [`Command::Finish`] was acknowledged.
    Flushed {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
    },
    /// The peer abandoned its direction.
    StreamReset {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
        /// Its reason.
        code: u64,
    },
    /// The peer wants nothing more on this stream; this direction was reset.
    StreamStopped {
        /// The session.
        session: SessionKey,
        /// The stream.
        stream: StreamId,
        /// Its reason.
        code: u64,
    },
    /// Answer to [`Command::Echo`].
    Echo {
        /// The session.
        session: SessionKey,
        /// Which command.
        command: CommandId,
        /// The measured round trip.
        rtt: Duration,
    },
    /// The session's keys were replaced.
    Rekeyed {
        /// The session.
        session: SessionKey,
    },
    /// The peer is now reached at another address; both were challenged.
    Moved {
        /// The session.
        session: SessionKey,
        /// The new address.
        address: Addr,
    },
    /// A peer knows a later incarnation of this identity than we are: this node's state was restored
    /// from an old copy, or it runs twice. It should stop (PROTOCOL 1).
    StateRolledBack {
        /// Who says so.
        peer: EntityId,
        /// The epoch it knows.
        known: Epoch,
    },
    /// A command was refused and changed nothing.
    Refused {
        /// Which command.
        command: CommandId,
        /// Why.
        why: Refused,
    },
    /// Something became known of the mesh.
    Mesh(Fact),
    /// Storage failed; the named cell will not be written again until restart.
    StoreFailed {
        /// What failed.
        error: StoreError,
    },
}

/// Why a command was refused: the caller's fault or the moment's. State is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No such session, or it has ended.
    NoSession,
    /// No such stream, or it has ended.
    NoStream,
    /// The stream's send credit is used up; wait for [`Event::Writable`].
    Backpressure,
    /// This direction of the stream was finished or reset before.
    Finished,
    /// A message over the limit of 16 MiB, or over one packet in a FireAndForget stream.
    MessageTooLarge {
        /// The largest that is accepted now.
        limit: usize,
    },
    /// The table of sessions, streams or attempts is full.
    TableFull,
    /// The peer allows no more streams yet.
    StreamLimit,
    /// One cannot connect to oneself.
    OwnIdentity,
    /// The key is not a usable identity (PROTOCOL 1). Told after a job has found out.
    BadIdentity,
    /// No address, or more than 16.
    BadAddresses,
    /// An argument out of its documented range.
    BadArgument,
    /// The peer is not on the list of those allowed.
    NotAllowed,
    /// What the kernel itself says on streams (`net_wire::subprotocol::MESH`) is not for applications to say.
    ReservedSubprotocol,
    /// The node was booted without a mesh.
    NoMesh,
    /// No address was given, and no way over relays is known.
    NoRoute,
    /// The kernel was shut down.
    ShutDown,
}

/// Why no session came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectError {
    /// Nothing that could be authenticated came back in time.
    Silent {
        /// How many first messages were sent.
        sent: u32,
        /// Whether a host said that nobody listens at the address.
        unreachable: bool,
    },
    /// The peer answered, but runs from an older state than this node has met before (a restored disk or a
    /// clone); it was told so.
    PeerRolledBack,
    /// [`Command::CancelConnect`] or [`Command::Shutdown`].
    Cancelled,
}

/// Why a session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// This side closed it.
    Local(CloseCode),
    /// The peer closed it.
    Remote {
        /// Its reason.
        code: CloseCode,
        /// Its words, at most 256 bytes. Printed only after escaping.
        text: String,
    },
    /// Nothing was heard for the idle timeout.
    TimedOut,
    /// The peer restarted: its stream state is gone.
    PeerRestarted,
}

/// When the kernel must be woken and what for. Never late, may be early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// What for.
    pub why: Why,
}

/// What a deadline belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// A handshake's retransmission, expiry or cookie rotation.
    Handshake,
    /// The peer book.
    Peers,
    /// A pingwave, a heartbeat, a silent neighbour or a route that ends.
    Mesh,
    /// Admission and epochs.
    Trust,
    /// A session: loss detection, acknowledgement, pacing, key age, path, keep-alive, idle timeout.
    Session,
    /// A beacon, or a node that was heard and is silent.
    Beacons,
}

/// How much the timers of one machine hold, for holding the bounds to account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerLoad {
    /// Whose deadlines they are.
    pub who: Why,
    /// What they hold.
    pub load: Load,
    /// The most that may be armed, by the sessions and dials there are.
    pub most: usize,
    /// Over how many heaps they are spread.
    pub heaps: usize,
}

impl TimerLoad {
    /// The most entries that their heaps may hold: they are rebuilt when what was replaced is the greater part.
    #[must_use]
    pub const fn most_entries(&self) -> usize {
        self.load.armed * 2 + self.heaps * net_base::timer::SLACK
    }
}

/// Heavy work that a turn hands out. Opaque; may run on any thread.
#[derive(Debug)]
pub struct Job(pub(crate) Work);

#[derive(Debug)]
pub(crate) enum Work {
    Handshake(net_session::handshake::Job),
    Mesh(net_mesh::job::Job),
}

/// The result of a [`Job`].
#[derive(Debug)]
pub struct JobDone(pub(crate) Done);

#[derive(Debug)]
pub(crate) enum Done {
    Handshake(net_session::handshake::JobDone),
    Mesh(net_mesh::job::JobDone),
}

impl JobDone {
    /// The same result again, where it holds no secret.
    #[must_use]
    pub const fn again(&self) -> Option<Self> {
        match self.0 {
            Done::Mesh(done) => Some(Self(Done::Mesh(done))),
            Done::Handshake(_) => None,
        }
    }
}

impl Job {
    /// Names a job by all that decides its outcome, where equal ones may be done once: simulated worlds hold many nodes
    /// that check the same signature.
    #[must_use]
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        match &self.0 {
            Work::Mesh(job) => job.fingerprint(),
            Work::Handshake(_) => None,
        }
    }

    /// Does the work. `entropy` fills 32 bytes from the operating system (in simulation: from the seed); they
    /// are mixed into every ephemeral key, so that a cloned machine repeats none (PROTOCOL 4).
    #[must_use]
    pub fn run(self, entropy: &mut dyn FnMut(&mut [u8; 32])) -> JobDone {
        JobDone(match self.0 {
            Work::Handshake(job) => Done::Handshake(job.run(entropy)),
            Work::Mesh(job) => Done::Mesh(job.run()),
        })
    }
}

/// What a turn may do to the world.
pub trait Io: Tx {
    /// Start a storage operation; its end is told as [`Input::Stored`].
    fn store(&mut self, ticket: Ticket, op: StoreOp);
    /// Start a job; its end is told as [`Input::Worked`].
    fn work(&mut self, id: JobId, job: Box<Job>);
    /// Tell the user.
    fn event(&mut self, event: Event);
    /// Application data, borrowed for the call. Parts of one stream come in the order of its
    /// reliability; credit returns only with [`Command::Consumed`].
    fn deliver(&mut self, part: Part<'_>);
    /// Speak to the segment: a datagram to the groups of `net_wire::beacon`, on every interface, no further than the segment.
    /// Best effort; only after [`Segment::Joined`].
    fn beacon(&mut self, datagram: &[u8]) {
        let _ = datagram;
    }
    /// Who opens packets ahead of a batch. Whether there is somebody changes nothing but how long it takes.
    fn crew(&mut self) -> Option<&mut dyn Crew> {
        None
    }
    /// Whether [`Self::received`] wants to hear of datagrams. Only the kernel's own trace does.
    fn is_tracing(&self) -> bool {
        false
    }
    /// A datagram of `len` bytes is about to be read.
    fn received(&mut self, len: usize, digest: u64) {
        let _ = (len, digest);
    }
}

/// What a kernel is booted with. Secrets are wiped once they were forked or copied into their machine.
pub struct Boot {
    /// 32 bytes from which every random stream but the handshake's is forked.
    pub seed: net_base::rng::Seed,
    /// Who we are.
    pub identity: net_trust::Identity,
    /// This boot's epoch, already synced to disk (PROTOCOL 1).
    pub epoch: Epoch,
    /// The network keys accepted: the first is used for dialling, a second one during rotation.
    pub networks: Vec<net_trust::NetworkKey>,
    /// Who may hold sessions; `None` admits everybody who knows the network key.
    pub allow: Option<Vec<EntityId>>,
    /// Limits and times.
    pub config: SessionConfig,
    /// Routes and failures; without it the node knows its peers and nothing beyond.
    pub mesh: Option<MeshConfig>,
    /// Number of lanes, a power of two, at most 16.
    pub lanes: u8,
    /// Keep a trace (simulation and tests).
    pub trace: bool,
}

/// Why a kernel was not booted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootError {
    /// Not 1, 2, 4, 8 or 16 lanes.
    Lanes(u8),
    /// No network key, or more than two.
    Networks(usize),
    /// `max_mtu` outside 1,200 to 1,452.
    MaxMtu(u16),
    /// A window below what both sides may use before the first grant (256 KiB per stream, 1 MiB per session).
    Window(u64),
    /// A time or radius of the mesh outside its limits.
    Mesh,
    /// Times that contradict each other: each must be shorter than the next of `rekey_after`,
    /// `rekey_after_responder`, `reject_after`, and none zero.
    Times,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lanes(count) => write!(f, "{count} lanes: use 1, 2, 4, 8 or 16"),
            Self::Networks(count) => write!(
                f,
                "{count} network keys: one is needed, two are accepted during rotation"
            ),
            Self::MaxMtu(mtu) => write!(f, "max_mtu {mtu} is outside 1200 to 1452"),
            Self::Window(window) => write!(f, "a window of {window} is below the initial credit of the protocol"),
            Self::Mesh => f.write_str(
                "the mesh wants pingwaves every 1 s to 60 s, heartbeats every 10 ms to 60 s and a radius of 1 to 16 hops",
            ),
            Self::Times => {
                f.write_str("key lifetimes contradict each other: rekey_after < rekey_after_responder < reject_after")
            }
        }
    }
}

impl core::error::Error for BootError {}

impl Boot {
    /// Whether the parts fit together.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), BootError> {
        let config = &self.config;
        if !self.lanes.is_power_of_two() || self.lanes > 16 {
            return Err(BootError::Lanes(self.lanes));
        }
        if self.networks.is_empty() || self.networks.len() > net_trust::MAX_NETWORKS {
            return Err(BootError::Networks(self.networks.len()));
        }
        if usize::from(config.max_mtu) < net_base::limit::MIN_MTU
            || usize::from(config.max_mtu) > net_base::limit::MAX_DATAGRAM
        {
            return Err(BootError::MaxMtu(config.max_mtu));
        }
        if config.stream_window < net_session::lane::INITIAL_STREAM_CREDIT {
            return Err(BootError::Window(config.stream_window));
        }
        if config.session_window < net_session::lane::INITIAL_SESSION_CREDIT {
            return Err(BootError::Window(config.session_window));
        }
        if self.mesh.as_ref().is_some_and(|mesh| !mesh.is_sound()) {
            return Err(BootError::Mesh);
        }
        let ages = [
            Duration::ZERO,
            config.rekey_after,
            config.rekey_after_responder,
            config.reject_after,
        ];
        if !ages.is_sorted_by(|a, b| a < b) {
            return Err(BootError::Times);
        }
        Ok(())
    }
}
