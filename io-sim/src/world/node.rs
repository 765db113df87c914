//! A machine: a disk, clocks, an address, and perhaps a process.
//!
//! Invariants: addresses of one machine are never used again; the digest of an ended process is kept.
//! Not here: when machines fail (`script.rs`).

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use net_kernel::api::{Drops, Relayed};
use net_kernel::base::probe::Hits;
use net_kernel::base::{Addr, Instant, Now, UnixNanos};
use net_kernel::session::crew::Drawn;
use net_kernel::wire::beacon::{BEACON_PORT, GROUP_V4};
use net_sim_model::disk::CrashReport;
use net_sim_model::{Clock, Disk, DiskSnapshot};

use super::apps::{Order, Purpose};

/// What a machine is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its process runs.
    Running,
    /// Its process is stopped; datagrams wait.
    Paused,
    /// It sleeps; datagrams are lost.
    Suspended,
    /// It has no process.
    Down,
}

/// A machine.
#[derive(Debug)]
pub struct Node<H> {
    /// The machine whose identity it has: itself, unless it is a clone.
    pub identity: u32,
    /// How often its address changed.
    generation: u16,
    /// Its address.
    pub address: Addr,
    /// Its disk.
    pub disk: Disk,
    /// Its clocks.
    pub clock: Clock,
    /// Its process.
    pub host: Option<H>,
    /// Who opens and seals beside its process, where it has several lanes.
    pub crew: Option<Drawn>,
    /// What it is doing.
    pub state: State,
    /// Processes started so far.
    pub incarnation: u32,
    /// The epoch of the process that runs, or ran last.
    pub epoch: u64,
    /// Digests of the processes that ended.
    pub ended: Vec<[u8; 32]>,
    /// Turns of the processes that ended.
    pub ended_turns: u64,
    /// What the processes that ended had refused.
    pub ended_drops: Drops,
    /// What its ended processes sent on for others.
    pub ended_relayed: Relayed,
    /// Jobs of the running process under way.
    pub jobs: u32,
    /// The probes that its ended processes passed.
    pub ended_probes: Hits,
    /// Whether it boots from its original's seed, or from that of its own first boot.
    pub same_seed: bool,
    /// Entropy blocks handed out.
    pub entropy: u64,
    /// Datagrams waiting in the socket's buffer while the process is stopped.
    pub backlog: VecDeque<u32>,
    /// Their bytes.
    pub backlog_bytes: usize,
    /// Commands that wait while the process is stopped.
    pub held: Vec<(Purpose, Order)>,
    /// The process' deadline on its own clock.
    pub mono_deadline: Option<u64>,
    /// The same in world time; `None` while the clock stands still.
    pub deadline: Option<u64>,
    /// The earliest wake-up that is scheduled.
    pub wake_at: u64,
    /// Copies of the disk that a later fault restores: fault, copy.
    pub backups: Vec<(u32, DiskSnapshot)>,
    /// Boots that failed.
    pub boot_failures: u64,
    /// What its crashes made of writes under way.
    pub crashed: CrashReport,
}

/// Bytes a stopped process' socket holds.
pub const SOCKET_BUFFER: usize = 2 << 20;

impl<H> Node<H> {
    /// Machine number `index` with the identity of `identity`.
    pub fn new(index: u32, identity: u32, disk: Disk, clock: Clock) -> Self {
        Self {
            identity,
            generation: 0,
            address: address(index, 0),
            disk,
            clock,
            host: None,
            crew: None,
            state: State::Down,
            incarnation: 0,
            epoch: 0,
            ended: Vec::new(),
            ended_turns: 0,
            ended_drops: Drops::default(),
            ended_relayed: Relayed::default(),
            jobs: 0,
            ended_probes: Hits::default(),
            same_seed: false,
            entropy: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            held: Vec::new(),
            mono_deadline: None,
            deadline: None,
            wake_at: u64::MAX,
            backups: Vec::new(),
            boot_failures: 0,
            crashed: CrashReport::default(),
        }
    }

    /// Both clocks at world time `world`.
    #[inline]
    pub fn now(&self, world: u64) -> Now {
        let mono = self.clock.mono(world);
        Now {
            mono: Instant::from_nanos(mono),
            wall: UnixNanos(self.clock.wall(world)),
        }
    }

    /// The machine gets a new address.
    pub fn rebind(&mut self, index: u32) {
        self.generation += 1;
        self.address = address(index, self.generation);
    }
}

const FIRST_PORT: u16 = 4_000;

fn address(index: u32, generation: u16) -> Addr {
    let [_, high, middle, low] = index.to_be_bytes();
    (Ipv4Addr::new(10, high, middle, low), FIRST_PORT + generation).into()
}

/// The machine an address belongs or belonged to.
#[inline]
pub fn owner(address: &Addr) -> Option<u32> {
    let Addr::V4(address) = address else { return None };
    match address.ip().octets() {
        [10, high, middle, low] => Some(u32::from_be_bytes([0, high, middle, low])),
        _ => None,
    }
}

/// The address of adversary number `index`.
pub fn adversary_address(index: u32) -> Addr {
    let [_, high, middle, low] = index.to_be_bytes();
    (Ipv4Addr::new(66, high, middle, low), 666).into()
}

/// Where machines speak to their segment of the network.
pub fn group() -> Addr {
    (GROUP_V4, BEACON_PORT).into()
}

/// The adversary an address belongs to.
pub fn adversary(address: &Addr) -> Option<u32> {
    let Addr::V4(address) = address else { return None };
    match address.ip().octets() {
        [66, high, middle, low] => Some(u32::from_be_bytes([0, high, middle, low])),
        _ => None,
    }
}

/// An address that nobody has.
pub fn spoofed(word: u64) -> Addr {
    let [a, b, c, port_high, port_low, ..] = word.to_le_bytes();
    (
        Ipv4Addr::new(172, 16 + a % 16, b, c),
        u16::from_be_bytes([port_high, port_low]).max(1),
    )
        .into()
}
