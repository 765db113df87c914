//! Scenarios: what a file says, as values.
//!
//! | file | role |
//! |---|---|
//! | `read.rs` | tables to values: the file, topology, links, workloads, verdicts |
//! | `faults.rs` | faults and what sets them off |
//! | `files.rs` | trees of files to be transferred |
//! | `fates.rs` | which datagrams are lost, held, doubled, damaged |
//! | `villains.rs` | adversaries |
//! | `mesh.rs` | the section `[mesh]` |
//! | `nat.rs` | NAT boxes |
//! | `trace_file.rs` | recorded delays in files of their own |
//! | `outline.rs` | what the reader asks for, recorded |
//! | `schema.rs` | the same as a JSON Schema |
//! | `table.rs` | tables read key by key, with errors that name file, line and the nearest key |
//! | `units.rs` | quantities: durations, sizes, rates, probabilities |
//! | `ending.rs` | the line that tells a whole file from one cut short |
//! | `resolve.rs` | specification and seed to a file of literals |
//!
//! Times are nanoseconds, probabilities parts per billion, rates thousandths per second.
//! Invariants: a [`Scenario`] holds literals only; nodes are indices into [`Scenario::nodes`].
//! Not here: running one (`world/`).

mod ending;
mod fates;
mod faults;
mod files;
mod mesh;
mod nat;
mod outline;
mod read;
mod resolve;
mod schema;
mod table;
mod trace_file;
mod units;
mod villains;

use net_kernel::api::{Algorithm, SessionConfig};
use net_kernel::wire::Reliability;
use net_sim_model::{DiskFault, Effect, Kinds, LinkSpec, Listed, NatSpec};

pub use ending::ended;
pub use fates::{FATES, written};
pub use faults::{EVENTS, FAULTS};
pub use files::FileWorkload;
pub use mesh::SHAPES;
pub use nat::NATS;
pub use outline::Words;
pub use read::{DELAYS, LOSSES, WORKLOADS};
pub use resolve::{resolve, without_comments};
pub use schema::schema;
pub use table::ScenarioError;
pub(crate) use table::unknown;
pub use units::{bytes, duration, probability};
pub use villains::{ADVERSARIES, SHORTCUT};

/// Index of a node in [`Scenario::nodes`].
pub type NodeIndex = u32;

/// A world and what happens in it, all in literals.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// The seed a resolved file carries.
    pub seed: Option<u64>,
    /// Length of the safety phase.
    pub duration: u64,
    /// The arms it is for; empty is every arm that can perform it.
    pub arms: Vec<String>,
    /// What the `real` arm runs on every machine.
    pub program: Program,
    /// The machines.
    pub nodes: Vec<NodeSpec>,
    /// The NAT boxes that machines may be behind.
    pub nats: Vec<NatBox>,
    /// Links that differ from [`Scenario::default_link`]: from, to, what they are like.
    pub links: Vec<(NodeIndex, NodeIndex, LinkSpec)>,
    /// Arrivals are gathered to multiples of this many ns, as network cards gather interrupts; 0 gathers none.
    pub coalesce: u64,
    /// Lanes of every node's kernel. With more than one a crew opens and seals for it, in pieces and an order that are drawn.
    pub lanes: u8,
    /// What every other link is like.
    pub default_link: LinkSpec,
    /// Whether the nodes share a secret network key.
    pub closed: bool,
    /// Limits and times of every node's sessions.
    pub config: SessionConfig,
    /// Whether the machines are a mesh.
    pub mesh: Option<MeshSpec>,
    /// What the applications do.
    pub workloads: Vec<Workload>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What befalls which datagrams.
    pub fates: Vec<Fate>,
    /// Who means harm.
    pub adversaries: Vec<Adversary>,
    /// What must come to an end after the safety phase.
    pub liveness: Option<Liveness>,
    /// Bounds on measured times: metric, bound.
    pub slo: Vec<(String, u64)>,
    /// Whether a run with other secrets must look the same on the links.
    pub same_shape: bool,
    /// Counters that must reach a value.
    pub at_least: Vec<(String, u64)>,
    /// Counters that must not exceed a value.
    pub at_most: Vec<(String, u64)>,
    /// The checker that is expected to fail; `None` expects a pass.
    pub expect_fail: Option<String>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            seed: None,
            duration: 0,
            arms: Vec::new(),
            program: Program::default(),
            nodes: Vec::new(),
            nats: Vec::new(),
            links: Vec::new(),
            coalesce: 0,
            lanes: 1,
            default_link: LinkSpec::clean(0),
            closed: true,
            config: SessionConfig::default(),
            mesh: None,
            workloads: Vec::new(),
            faults: Vec::new(),
            fates: Vec::new(),
            adversaries: Vec::new(),
            liveness: None,
            slo: Vec::new(),
            same_shape: false,
            at_least: Vec::new(),
            at_most: Vec::new(),
            expect_fail: None,
        }
    }
}

/// What the `real` arm runs on every machine of a scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Program {
    /// A node of its own that does every workload.
    #[default]
    Node,
    /// The `net` command: `listen` where a workload ends, `connect` or `ping` where it begins.
    Net,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its name in the file.
    pub id: String,
    /// Under which its decisions stand; its place in the file unless told otherwise, so that a machine that is taken out
    /// leaves the others as they were.
    pub number: u32,
    /// How fast its clock runs beside the world's, in parts per billion.
    pub drift_ppb: i64,
    /// How far its wall clock is off at the start.
    pub wall_offset: i64,
    /// Time per disk operation.
    pub disk: u64,
    /// The nodes it admits; `None` admits all.
    pub allow: Option<Vec<NodeIndex>>,
    /// Whether its host has instructions for AES-256-GCM.
    pub aes: bool,
    /// Its congestion controller, where that is another one than the scenario's.
    pub congestion: Option<Algorithm>,
    /// Whether it exists from the start.
    pub starts: u64,
    /// The NAT box it is behind.
    pub nat: Option<u32>,
}

/// A mesh of the machines.
#[derive(Clone, Debug)]
pub struct MeshSpec {
    /// Times and limits.
    pub config: net_kernel::api::MeshConfig,
    /// Who keeps a session with whom; the first dials.
    pub links: Vec<(NodeIndex, NodeIndex)>,
    /// Whether routes must come to rest, about as short as links allow, before a run is over.
    pub converge: bool,
    /// Whether machines find each other on their segment of the network instead of being told of each other.
    pub multicast: Option<Said>,
    /// Addresses of nobody at which every link is dialled before the right one.
    pub dead_addresses: u64,
}

/// What machines say of their addresses when they speak to their segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// Theirs.
    Address,
    /// None: others go by where a beacon comes from.
    Nothing,
}

impl MeshSpec {
    /// Whether two machines are to be neighbours.
    #[must_use]
    pub fn linked(&self, a: NodeIndex, b: NodeIndex) -> bool {
        self.links.contains(&(a, b)) || self.links.contains(&(b, a))
    }
}

/// A NAT box.
#[derive(Clone, Debug)]
pub struct NatBox {
    /// Its name: part of the key of its decisions. A node's own box bears the node's name.
    pub id: String,
    /// What it is like.
    pub spec: NatSpec,
    /// Whether machines behind it reach each other directly, by their inside addresses.
    pub lan: bool,
}

/// What an application does.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name: part of its keys and of metric names.
    pub id: String,
    /// The node that starts it.
    pub from: NodeIndex,
    /// Its peer.
    pub to: NodeIndex,
    /// When it starts.
    pub at: u64,
    /// What it does.
    pub kind: WorkloadKind,
}

/// Kinds of applications.
#[derive(Clone, Debug)]
pub enum WorkloadKind {
    /// Sends messages on streams.
    Stream(StreamWorkload),
    /// Transfers files.
    File(FileWorkload),
    /// Measures the round trip `count` times.
    Echo {
        /// Pause between two.
        every: u64,
        /// How many.
        count: u64,
    },
    /// Wants a session and nothing else.
    Connect,
    /// Asks for new keys `count` times.
    Rekey {
        /// Pause between two.
        every: u64,
        /// How many.
        count: u64,
    },
    /// Closes the session.
    Close,
}

/// Messages on streams.
#[derive(Clone, Debug)]
pub struct StreamWorkload {
    /// Parallel streams, each with the whole count.
    pub streams: u64,
    /// Messages per stream and direction.
    pub count: u64,
    /// Smallest and largest message.
    pub size: (u64, u64),
    /// Messages per second in thousandths; 0 sends as fast as credit allows.
    pub rate_milli: u64,
    /// Loss and order.
    pub reliability: Reliability,
    /// Whether the accepting side sends as many back.
    pub both: bool,
    /// Bytes per second the receiver reads; 0 reads at once.
    pub drain: u64,
    /// The receiver reads nothing from the first to the second moment.
    pub stop_reading: Option<(u64, u64)>,
    /// The sender abandons its direction after so many messages, instead of ending it.
    pub reset_after: Option<u64>,
    /// The reader asks its peer to stop after so many messages.
    pub stop_after: Option<u64>,
    /// Scheduling priority.
    pub priority: u8,
    /// Scheduling weight.
    pub weight: u16,
    /// Whether it reconnects and goes on where it was when its session ends.
    pub resume: bool,
    /// Whether it must complete.
    pub must_complete: bool,
}

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Its name: the key of its decisions, stable when other faults are removed.
    pub id: String,
    /// When.
    pub at: u64,
    /// When it ends, exclusive; [`u64::MAX`] lasts.
    pub until: u64,
    /// What sets it off; `at` and `until` are then relative to that.
    pub when: Option<Trigger>,
    /// What.
    pub kind: FaultKind,
}

impl Fault {
    /// When it begins and ends as far as that is known before a run: never, where an event sets it off.
    #[must_use]
    pub const fn window(&self) -> (u64, u64) {
        match self.when {
            None => (self.at, self.until),
            Some(_) => (u64::MAX, u64::MAX),
        }
    }
}

/// An event that sets something off, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trigger {
    /// What happens.
    pub event: Happening,
    /// Where; `None` is anywhere.
    pub node: Option<NodeIndex>,
    /// Of which workload, for [`Happening::Delivered`]; `None` is any.
    pub workload: Option<u32>,
    /// Of which kind, for datagrams; `None` is any.
    pub kind: Option<Kinds>,
    /// The how many-th time, from 1.
    pub nth: u64,
}

/// Kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happening {
    /// A process was started.
    Boot,
    /// A process ended.
    Down,
    /// An application dialled.
    Dialled,
    /// A session came to be.
    SessionUp,
    /// A session ended.
    SessionDown,
    /// A dial failed.
    ConnectFailed,
    /// Keys were replaced.
    Rekeyed,
    /// A peer's address changed.
    Moved,
    /// A peer opened a stream.
    StreamOpened,
    /// A write began.
    Writing,
    /// A write reached the disk.
    Stored,
    /// A write failed.
    StoreFailed,
    /// A datagram was sent.
    Sent,
    /// A datagram was received.
    Received,
    /// A message was delivered.
    Delivered,
}

/// What befalls which datagrams of one direction, in place of a probability.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fate {
    /// Who sends them.
    pub from: NodeIndex,
    /// Who would receive them.
    pub to: NodeIndex,
    /// The fault under whose name amounts are drawn; `None` is the link itself.
    pub of: Option<String>,
    /// What, and which.
    pub listed: Listed,
}

/// Kinds of faults.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// Links behave differently.
    Link {
        /// Sending nodes; empty is every node.
        from: Vec<NodeIndex>,
        /// Receiving nodes; empty is every node.
        to: Vec<NodeIndex>,
        /// Whether the other direction is affected too.
        both: bool,
        /// Directions that are not affected, whatever the sets say.
        spared: Vec<(NodeIndex, NodeIndex)>,
        /// How.
        effect: Effect,
    },
    /// The process dies at once and is started again at the end of the window.
    Crash {
        /// Which machine.
        node: NodeIndex,
        /// Whether it starts again from the seed of its first boot, as a virtual machine put back to a snapshot may.
        same_seed: bool,
    },
    /// The process dies and its disk is replaced by a copy taken earlier.
    RestoreDisk {
        /// Which machine.
        node: NodeIndex,
        /// When the copy was taken.
        taken: u64,
    },
    /// A second process with a copy of this one's disk starts at another address.
    Clone {
        /// Which machine.
        node: NodeIndex,
        /// Whether the copy starts from the same boot seed, as a copied virtual machine may.
        same_seed: bool,
    },
    /// The process is stopped; datagrams wait in its socket buffer; its clock runs.
    Pause {
        /// Which machine.
        node: NodeIndex,
    },
    /// The machine sleeps; datagrams to it are lost; its clock has jumped when it wakes.
    Suspend {
        /// Which machine.
        node: NodeIndex,
    },
    /// The machine gets another address.
    Rebind {
        /// Which machine.
        node: NodeIndex,
        /// Whether its driver is told.
        told: bool,
    },
    /// The machine uses another network: it gets another address, and its links are like this until the end.
    Interface {
        /// Which machine.
        node: NodeIndex,
        /// Whether its driver is told.
        told: bool,
        /// What its links are like; `None` leaves them as they are.
        link: Option<LinkSpec>,
    },
    /// Every mapping of a NAT box moves.
    NatRebind {
        /// Which box.
        nat: u32,
        /// Whether the box gets another address; otherwise only the ports change.
        address: bool,
    },
    /// A NAT box goes off and, at the end, on again with no mapping.
    NatReboot {
        /// Which box.
        nat: u32,
    },
    /// The wall clock is set by so much.
    ClockJump {
        /// Which machine.
        node: NodeIndex,
        /// How far.
        by: i64,
    },
    /// The clock runs at another speed.
    ClockDrift {
        /// Which machine.
        node: NodeIndex,
        /// Parts per billion.
        ppb: i64,
    },
    /// The clock stands still.
    ClockFreeze {
        /// Which machine.
        node: NodeIndex,
    },
    /// The disk is faulty.
    Disk {
        /// Which machine.
        node: NodeIndex,
        /// How.
        fault: DiskFault,
    },
    /// Bits flip in what a disk holds.
    DiskRot {
        /// Which machine.
        node: NodeIndex,
        /// In which cell; `None` is every cell.
        cell: Option<&'static str>,
    },
    /// The disk is slow.
    DiskSlow {
        /// Which machine.
        node: NodeIndex,
        /// By which factor.
        factor: u64,
    },
}

/// Someone who means harm.
#[derive(Clone, Debug)]
pub struct Adversary {
    /// Its name: the key of its decisions.
    pub id: String,
    /// When it begins.
    pub at: u64,
    /// When it ends, exclusive.
    pub until: u64,
    /// What sets it off; `at` and `until` are then relative to that.
    pub when: Option<Trigger>,
    /// What it can and does.
    pub kind: AdversaryKind,
}

/// Which datagrams an on-path adversary picks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pick {
    /// All of them.
    All,
    /// First handshake messages.
    Initiation,
    /// Second handshake messages.
    Response,
    /// Cookie replies.
    Cookie,
    /// Any handshake message.
    Handshake,
    /// Protected packets.
    Protected,
    /// Beacons.
    Beacon,
}

/// Kinds of adversaries.
#[derive(Clone, Debug)]
pub enum AdversaryKind {
    /// Off path: sends `count` datagrams of random bytes, some dressed as packets.
    Garbage {
        /// Victim.
        to: NodeIndex,
        /// How many.
        count: u64,
        /// Per second, in thousandths.
        rate_milli: u64,
        /// Pretend to be this node; `None` spoofs random sources.
        spoof: Option<NodeIndex>,
    },
    /// Off path: sends `count` first messages from spoofed sources.
    HandshakeFlood {
        /// Victim.
        to: NodeIndex,
        /// How many.
        count: u64,
        /// Per second, in thousandths.
        rate_milli: u64,
        /// Whether it holds the network key, so that the first MAC is right.
        network_key: bool,
        /// Distinct sources; 0 is a new one per datagram.
        sources: u64,
    },
    /// On path: records what passes and sends copies again.
    Replay {
        /// Whose datagrams.
        from: NodeIndex,
        /// To whom.
        to: NodeIndex,
        /// Which.
        pick: Pick,
        /// How many copies.
        count: u64,
        /// Per second, in thousandths.
        rate_milli: u64,
        /// Whether the copies come from the adversary's own address.
        own_address: bool,
        /// Each copy lies exactly so many datagrams behind the latest one seen; `None` copies any one recorded.
        behind: Option<u64>,
    },
    /// On path: sends datagrams back to their sender.
    Reflect {
        /// Whose datagrams.
        from: NodeIndex,
        /// Away from whom.
        to: NodeIndex,
        /// Which.
        pick: Pick,
        /// Probability.
        ppb: u64,
    },
    /// On path: sends the header of one packet with the body of the one before it.
    Splice {
        /// Whose datagrams.
        from: NodeIndex,
        /// To whom.
        to: NodeIndex,
        /// Which.
        pick: Pick,
        /// Probability.
        ppb: u64,
    },
    /// On path: drops by kind.
    Drop {
        /// Whose datagrams.
        from: NodeIndex,
        /// To whom.
        to: NodeIndex,
        /// Which.
        pick: Pick,
        /// Probability.
        ppb: u64,
    },
    /// On the side: sees datagrams and sends damaged copies that arrive first.
    Race {
        /// Whose datagrams.
        from: NodeIndex,
        /// To whom.
        to: NodeIndex,
        /// Which.
        pick: Pick,
        /// Probability.
        ppb: u64,
    },
    /// Off path: sees datagrams and forwards copies from its own address, faster than the path (RFC 9000 section 9.3.3).
    Forward {
        /// Whose datagrams.
        from: NodeIndex,
        /// To whom.
        to: NodeIndex,
        /// Probability.
        ppb: u64,
        /// Whether it also passes back what comes to its address.
        back: bool,
        /// How long what it sends takes, there and back.
        delay: u64,
    },
    /// Holds the victim's static key: makes first messages in the name of one of its peers, with a later epoch.
    StolenKey {
        /// Whose key was stolen, and who is sent the messages.
        to: NodeIndex,
        /// In whose name they are.
        name: NodeIndex,
        /// How many.
        count: u64,
        /// Per second, in thousandths.
        rate_milli: u64,
    },
    /// Records every packet of `node` and is given, at its time, everything that lives in its process' memory.
    Reveal {
        /// Whose memory.
        node: NodeIndex,
    },
    /// A member: changes plaintext of what `node` sends and seals it again (clear cipher only).
    Member {
        /// Whose packets.
        node: NodeIndex,
        /// Probability.
        ppb: u64,
        /// What it changes.
        lies: Lie,
    },
}

/// What a member changes of what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// Bytes anywhere.
    Bytes,
    /// How far it is from other machines: next to nothing.
    Metrics,
    /// How often other machines spoke: a thousand times more.
    Counts,
    /// Who spoke: nobody there is.
    Names,
    /// What other machines said of their load and health.
    Words,
    /// What other machines said last: what they said first.
    Replays,
    /// Who spoke: in place of some of it, a machine that nobody heard of for 200 s, with its last words.
    Revives,
}

/// The liveness phase.
#[derive(Clone, Debug)]
pub struct Liveness {
    /// Nodes that are healed; empty is every node.
    pub core: Vec<NodeIndex>,
    /// How long they have.
    pub within: u64,
}

impl Workload {
    /// Whether a run with a liveness phase fails unless it comes to its end.
    #[must_use]
    pub const fn must_complete(&self) -> bool {
        matches!(
            self.kind,
            WorkloadKind::Stream(StreamWorkload {
                must_complete: true,
                ..
            }) | WorkloadKind::File(FileWorkload {
                must_complete: true,
                ..
            })
        )
    }
}

impl Workload {
    /// Whether it transfers files.
    #[must_use]
    pub const fn transfers_files(&self) -> bool {
        matches!(self.kind, WorkloadKind::File(_))
    }

    /// Whether one of its ends gives its streams up on purpose.
    #[must_use]
    pub const fn gives_up(&self) -> bool {
        matches!(
            self.kind,
            WorkloadKind::Stream(
                StreamWorkload {
                    reset_after: Some(_),
                    ..
                } | StreamWorkload {
                    stop_after: Some(_),
                    ..
                }
            )
        )
    }
}

impl FaultKind {
    /// Whether it touches the direction from one machine to another.
    #[must_use]
    pub fn touches(&self, a: NodeIndex, b: NodeIndex) -> bool {
        let Self::Link {
            from, to, both, spared, ..
        } = self
        else {
            return false;
        };
        let among =
            |a: NodeIndex, b: NodeIndex| (from.is_empty() || from.contains(&a)) && (to.is_empty() || to.contains(&b));
        (among(a, b) || (*both && among(b, a))) && !spared.contains(&(a, b))
    }
}

impl Scenario {
    /// The configuration of a machine's kernel.
    #[must_use]
    pub fn config_of(&self, node: NodeIndex) -> SessionConfig {
        SessionConfig {
            aes: self.nodes[node as usize].aes,
            congestion: self.nodes[node as usize].congestion.unwrap_or(self.config.congestion),
            ..self.config.clone()
        }
    }

    /// Whether somebody acts on what machines say to each other, so that a run depends on content.
    #[must_use]
    pub fn reads_plaintext(&self) -> bool {
        let reads = |adversary: &Adversary| matches!(adversary.kind, AdversaryKind::Member { .. });
        self.adversaries.iter().any(reads)
    }

    /// Reads and checks a specification; ranges are allowed. `file` names it in errors.
    ///
    /// # Errors
    /// File, line, what is wrong, and the nearest known key.
    pub fn check(file: &str, text: &str) -> Result<Self, ScenarioError> {
        read::scenario(table::Source {
            file,
            text,
            resolved: false,
            outline: None,
        })
    }

    /// Reads a file of literals.
    ///
    /// # Errors
    /// As [`Scenario::check`]; a range is an error.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        read::scenario(table::Source {
            file,
            text,
            resolved: true,
            outline: None,
        })
    }

    /// Reads a specification and draws its literals with `seed`.
    ///
    /// # Errors
    /// As [`Scenario::check`].
    pub fn resolved(file: &str, text: &str, seed: u64) -> Result<Self, ScenarioError> {
        Self::check(file, text)?;
        let literal = resolve(file, text, seed)?;
        Self::parse(file, &literal)
    }

    /// The number under which the decisions about a machine stand. Clones, which come after all others, follow them.
    #[must_use]
    pub fn number(&self, node: NodeIndex) -> u32 {
        match self.nodes.get(node as usize) {
            Some(spec) => spec.number,
            None => {
                let last = self.nodes.iter().map(|node| node.number).max().unwrap_or(0);
                last + 1 + (node - self.nodes.len() as u32)
            }
        }
    }

    /// The node called `id`.
    #[must_use]
    pub fn node(&self, id: &str) -> Option<NodeIndex> {
        self.nodes
            .iter()
            .position(|node| node.id == id)
            .map(|index| index as NodeIndex)
    }
}
