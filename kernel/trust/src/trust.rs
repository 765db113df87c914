//! The machine that owns our identity, the network keys, the allow list and every peer's floor.
//!
//! A peer's *floor* is the highest (epoch, handshake counter) it confirmed. Epochs survive our restart,
//! counters need not: they start anew with every epoch, and nothing replayed can be confirmed.
//! Invariants: a floor never sinks; at most [`MAX_FLOORS`] are kept, the one raised longest ago is
//! forgotten first; the cell is never written before it was read, nor again after it failed.
//! Not here: what a stale epoch leads to (`net-session`, the kernel).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::convert::Infallible;

use net_base::store::{Cell, StoreError, StoreOp, Stored};
use net_base::{Durable, Duration, EntityId, Epoch, Fx, Machine, Ticket};

use crate::identity::Identity;
use crate::network::NetworkKey;

/// Peers whose floor is remembered: as many as there may be sessions.
pub const MAX_FLOORS: usize = 65_536;
/// Network keys accepted at once: the current one, and a second one during a rotation.
pub const MAX_NETWORKS: usize = 2;
/// Confirmations within this span share one write.
const WRITE_DELAY: Duration = Duration::from_millis(100);

/// What the trust machine can be told.
#[derive(Debug)]
pub enum In {
    /// Once, before anything else: start recovering.
    Boot,
    /// A peer proved its identity and its first packet under that key authenticated.
    Confirmed {
        /// Who.
        peer: EntityId,
        /// Its boot epoch.
        epoch: Epoch,
        /// The counter of the handshake it started; 0 where we did.
        counter: u64,
    },
    /// Replace the allow list; `None` admits everybody.
    Allow(Option<Vec<EntityId>>),
}

/// What the trust machine decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    /// The peers' epochs could not be read or written; they are kept in memory only until restart.
    StoreFailed(StoreError),
    /// The allow list was replaced: sessions of peers it does not admit must end.
    AllowChanged,
}

/// What the trust machine waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// Epochs changed and are due to be written.
    Write,
}

/// What others may read: identity, networks, epoch, admission, floors.
#[derive(Debug)]
pub struct TrustTable {
    identity: Identity,
    epoch: Epoch,
    networks: Vec<NetworkKey>,
    allow: Option<BTreeSet<EntityId>>,
    floors: Floors,
}

impl TrustTable {
    /// Our identity.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Our boot epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The network keys accepted, one or two; the first is used for dialling.
    #[must_use]
    pub fn networks(&self) -> &[NetworkKey] {
        &self.networks
    }

    /// Whether `peer` may hold a session.
    #[must_use]
    pub fn admits(&self, peer: &EntityId) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.contains(peer))
    }

    /// The highest (epoch, handshake counter) `peer` confirmed, if any is remembered.
    #[must_use]
    pub fn floor(&self, peer: &EntityId) -> Option<(Epoch, u64)> {
        self.floors.get(peer)
    }
}

/// Where the machine stands with its cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not booted.
    Created,
    /// The cell is being read.
    Recovering(Ticket),
    /// The cell may be written; whether it must be, and whether it is.
    Ready {
        /// Epochs changed since the last write began.
        dirty: bool,
        /// The write under way.
        writing: Option<Ticket>,
    },
    /// The cell failed and is left alone.
    Broken,
}

/// The trust machine.
#[derive(Debug)]
pub struct Trust {
    table: TrustTable,
    state: State,
}

impl Trust {
    /// Owns what the node is booted with. `networks` holds one or two keys, the first used for dialling.
    ///
    /// # Panics
    /// With no network key or more than two: the driver's mistake.
    #[must_use]
    pub fn new(identity: Identity, epoch: Epoch, networks: Vec<NetworkKey>, allow: Option<Vec<EntityId>>) -> Self {
        assert!(
            (1..=MAX_NETWORKS).contains(&networks.len()),
            "a node has one network key, or two during a rotation"
        );
        let allow = allow.map(|list| list.into_iter().collect());
        let table = TrustTable {
            identity,
            epoch,
            networks,
            allow,
            floors: Floors::default(),
        };
        Self {
            table,
            state: State::Created,
        }
    }

    /// What others may read.
    #[must_use]
    pub const fn table(&self) -> &TrustTable {
        &self.table
    }

    fn on_confirmed(&mut self, peer: EntityId, epoch: Epoch, counter: u64, fx: &mut Fx<'_, Self>) {
        if self.table.floors.raise(peer, epoch, counter) {
            self.touch(fx);
        }
    }

    /// Notes that the epochs in memory differ from those in the cell.
    fn touch(&mut self, fx: &mut Fx<'_, Self>) {
        if let State::Ready { dirty, writing } = &mut self.state {
            if !*dirty && writing.is_none() {
                fx.arm(Timer::Write, fx.now() + WRITE_DELAY);
            }
            *dirty = true;
        }
    }

    fn on_recovered(&mut self, result: Stored<'_>, fx: &mut Fx<'_, Self>) {
        let failed = match result {
            Stored::Value(None) => None,
            Stored::Value(Some(bytes)) => match decode(bytes) {
                Some(epochs) => {
                    self.table.floors.recover(&epochs);
                    None
                }
                None => Some(StoreError::Corrupt),
            },
            Stored::Failed(error) => Some(error),
            Stored::Done => Some(StoreError::Device),
        };
        match failed {
            Some(error) => self.on_broken(error, fx),
            None => {
                self.state = State::Ready {
                    dirty: false,
                    writing: None,
                };
                if !self.table.floors.is_recovered() {
                    self.touch(fx);
                }
            }
        }
    }

    fn on_written(&mut self, result: Stored<'_>, dirty: bool, fx: &mut Fx<'_, Self>) {
        match result {
            Stored::Done => {
                self.state = State::Ready {
                    dirty: false,
                    writing: None,
                };
                if dirty {
                    self.touch(fx);
                }
            }
            Stored::Failed(error) => self.on_broken(error, fx),
            Stored::Value(_) => self.on_broken(StoreError::Device, fx),
        }
    }

    fn on_broken(&mut self, error: StoreError, fx: &mut Fx<'_, Self>) {
        self.state = State::Broken;
        fx.disarm(Timer::Write);
        fx.emit(Out::StoreFailed(error));
    }
}

impl Machine for Trust {
    const NAME: &'static str = "trust";
    type In<'b> = In;
    type Out = Out;
    type Timer = Timer;
    type Job = Infallible;
    type View<'v> = ();

    fn handle(&mut self, input: In, (): (), fx: &mut Fx<'_, Self>) {
        match input {
            In::Boot => {
                assert_eq!(self.state, State::Created, "a node boots once");
                self.state = State::Recovering(fx.store(StoreOp::Get { cell: Cell::PeerEpochs }));
            }
            In::Confirmed { peer, epoch, counter } => self.on_confirmed(peer, epoch, counter, fx),
            In::Allow(allow) => {
                self.table.allow = allow.map(|list| list.into_iter().collect());
                fx.emit(Out::AllowChanged);
            }
        }
    }

    fn fire(&mut self, timer: Timer, (): (), fx: &mut Fx<'_, Self>) {
        match timer {
            Timer::Write => {
                if let State::Ready {
                    dirty: true,
                    writing: None,
                } = self.state
                {
                    let bytes = encode(self.table.floors.epochs());
                    let ticket = fx.store(StoreOp::Put {
                        cell: Cell::PeerEpochs,
                        bytes,
                    });
                    self.state = State::Ready {
                        dirty: false,
                        writing: Some(ticket),
                    };
                }
            }
        }
    }

    fn check(&self) {
        self.table.floors.check();
        assert!((1..=MAX_NETWORKS).contains(&self.table.networks.len()));
    }
}

impl Durable for Trust {
    fn stored(&mut self, ticket: Ticket, result: Stored<'_>, (): (), fx: &mut Fx<'_, Self>) {
        match self.state {
            State::Recovering(expected) if expected == ticket => self.on_recovered(result, fx),
            State::Ready {
                dirty,
                writing: Some(expected),
            } if expected == ticket => self.on_written(result, dirty, fx),
            State::Created | State::Recovering(_) | State::Ready { .. } | State::Broken => {}
        }
    }
}

/// The floors and the order in which they were raised.
#[derive(Debug, Default)]
struct Floors {
    by_peer: BTreeMap<EntityId, Floor>,
    /// Peers by when their epoch was last raised, oldest first.
    by_age: BTreeMap<u64, EntityId>,
    /// The next age to give; recovered floors are older than all others.
    next: u64,
    /// Whether memory holds nothing the cell does not.
    recovered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Floor {
    epoch: Epoch,
    counter: u64,
    age: u64,
}

impl Floors {
    /// Ages below this are left for recovered floors.
    const FIRST_AGE: u64 = MAX_FLOORS as u64;

    fn get(&self, peer: &EntityId) -> Option<(Epoch, u64)> {
        self.by_peer.get(peer).map(|floor| (floor.epoch, floor.counter))
    }

    /// Raises a floor; whether its epoch changed.
    fn raise(&mut self, peer: EntityId, epoch: Epoch, counter: u64) -> bool {
        let old = self.by_peer.get(&peer).copied();
        if let Some(old) = old {
            if (epoch, counter) <= (old.epoch, old.counter) {
                return false;
            }
            self.by_age.remove(&old.age);
        }
        let age = Self::FIRST_AGE + self.next;
        self.next += 1;
        self.insert(peer, Floor { epoch, counter, age });
        let changed = old.is_none_or(|old| old.epoch != epoch);
        self.recovered &= !changed;
        changed
    }

    /// Adds what the cell holds, oldest first, below what was confirmed meanwhile.
    fn recover(&mut self, epochs: &[(EntityId, Epoch)]) {
        self.recovered = self.by_peer.is_empty();
        for (age, &(peer, epoch)) in epochs.iter().enumerate() {
            match self.by_peer.get_mut(&peer) {
                Some(floor) if floor.epoch < epoch => (floor.epoch, floor.counter) = (epoch, 0),
                Some(_) => {}
                None => self.insert(
                    peer,
                    Floor {
                        epoch,
                        counter: 0,
                        age: age as u64,
                    },
                ),
            }
        }
    }

    fn insert(&mut self, peer: EntityId, floor: Floor) {
        self.by_age.insert(floor.age, peer);
        self.by_peer.insert(peer, floor);
        if self.by_peer.len() > MAX_FLOORS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_peer.remove(&oldest);
        }
    }

    fn is_recovered(&self) -> bool {
        self.recovered || self.by_peer.is_empty()
    }

    /// Peers and epochs, oldest first.
    fn epochs(&self) -> impl Iterator<Item = (EntityId, Epoch)> + '_ {
        self.by_age
            .values()
            .filter_map(|peer| self.by_peer.get(peer).map(|floor| (*peer, floor.epoch)))
    }

    fn check(&self) {
        assert!(self.by_peer.len() <= MAX_FLOORS);
        assert_eq!(self.by_peer.len(), self.by_age.len());
        assert!(
            self.by_age
                .iter()
                .all(|(age, peer)| self.by_peer.get(peer).is_some_and(|floor| floor.age == *age))
        );
    }
}

/// First bytes of the cell: what it is, and its version.
const CELL_MAGIC: &[u8; 8] = b"netepoc1";
/// Bytes of one entry: EntityId, epoch.
const ENTRY_LEN: usize = EntityId::LEN + 8;
/// Bytes of the checksum at the end.
const CHECKSUM_LEN: usize = 16;

const _: () = assert!(
    CELL_MAGIC.len() + MAX_FLOORS * ENTRY_LEN + CHECKSUM_LEN <= Cell::MAX_LEN,
    "a full table of floors fits its cell"
);

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = blake3::derive_key("net peer epochs checksum v1", bytes);
    *hash.first_chunk().expect("a hash has 32 bytes")
}

fn encode(epochs: impl Iterator<Item = (EntityId, Epoch)>) -> Vec<u8> {
    let mut bytes = CELL_MAGIC.to_vec();
    for (peer, epoch) in epochs {
        bytes.extend_from_slice(&peer.0);
        bytes.extend_from_slice(&epoch.0.to_le_bytes());
    }
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// Peers and epochs, oldest first; `None` for anything [`encode`] did not write.
fn decode(bytes: &[u8]) -> Option<Vec<(EntityId, Epoch)>> {
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>()?;
    if checksum(body) != *sum {
        return None;
    }
    let entries = body.strip_prefix(CELL_MAGIC)?;
    if entries.len() % ENTRY_LEN != 0 || entries.len() / ENTRY_LEN > MAX_FLOORS {
        return None;
    }
    entries
        .chunks_exact(ENTRY_LEN)
        .map(|entry| {
            let (peer, epoch) = entry.split_first_chunk::<{ EntityId::LEN }>()?;
            Some((EntityId(*peer), Epoch(u64::from_le_bytes(epoch.try_into().ok()?))))
        })
        .collect()
}
