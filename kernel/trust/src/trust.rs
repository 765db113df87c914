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
use net_base::{Durable, Duration, EntityId, Epoch, Fx, Machine, Ticket, reachable, sometimes};

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

    /// Whether anybody may hold a session: a network is open, and there is no list.
    #[must_use]
    pub fn admits_strangers(&self) -> bool {
        self.allow.is_none() && self.networks.iter().any(NetworkKey::is_open)
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
            sometimes!(*fx, WriteJoined, writing.is_some());
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
                    reachable!(*fx, FloorsRecovered);
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
        reachable!(*fx, FloorsBroken);
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use net_base::rng::{Secret, Seed};
    use net_base::{Now, Seat, SeatId};
    use proptest::prelude::*;

    struct Rig {
        seat: Seat<Trust>,
        now: Now,
    }

    impl Rig {
        fn new() -> Self {
            let identity = Identity::generate(&mut {
                let mut draw = 0;
                move |seed| {
                    *seed = [draw; 32];
                    draw += 1;
                }
            });
            let trust = Trust::new(identity, Epoch(5), vec![NetworkKey::from_bytes(Secret([1; 32]))], None);
            Self {
                seat: Seat::new(SeatId(0), trust, &Seed::new([0; 32])),
                now: Now::default(),
            }
        }

        /// A machine that booted and found `cell`.
        fn recovered(cell: Option<&[u8]>) -> Self {
            let mut rig = Self::new();
            rig.tell(In::Boot);
            let get = rig.expect_get();
            rig.seat.stored(rig.now, get, Stored::Value(cell), ());
            rig
        }

        fn tell(&mut self, input: In) {
            self.seat.handle(self.now, input, ());
            self.seat.check();
        }

        fn confirm(&mut self, peer: u8, epoch: u64, counter: u64) {
            self.tell(In::Confirmed {
                peer: EntityId([peer; 32]),
                epoch: Epoch(epoch),
                counter,
            });
        }

        fn floor(&self, peer: u8) -> Option<(u64, u64)> {
            let floor = self.seat.machine().table().floor(&EntityId([peer; 32]));
            floor.map(|(epoch, counter)| (epoch.0, counter))
        }

        fn expect_get(&mut self) -> Ticket {
            let (ticket, op) = self.seat.pop_store().expect("an operation");
            assert_eq!(op, StoreOp::Get { cell: Cell::PeerEpochs });
            ticket
        }

        /// Fires the write timer and takes the write.
        fn expect_put(&mut self) -> (Ticket, Vec<u8>) {
            self.now.mono = self.seat.due().expect("a write is due");
            assert!(self.seat.fire_due(self.now, ()));
            match self.seat.pop_store() {
                Some((
                    ticket,
                    StoreOp::Put {
                        cell: Cell::PeerEpochs,
                        bytes,
                    },
                )) => (ticket, bytes),
                other => panic!("expected a write, got {other:?}"),
            }
        }

        fn expect_quiet(&mut self) {
            assert_eq!(
                (self.seat.due(), self.seat.pop_store(), self.seat.pop_out()),
                (None, None, None)
            );
        }
    }

    #[test]
    fn floors_rise_and_never_sink() {
        let mut rig = Rig::recovered(None);
        for (epoch, counter, floor) in [
            (3, 7, (3, 7)),
            (3, 5, (3, 7)),
            (3, 9, (3, 9)),
            (2, 99, (3, 9)),
            (4, 0, (4, 0)),
            (4, 1, (4, 1)),
        ] {
            rig.confirm(1, epoch, counter);
            assert_eq!(rig.floor(1), Some(floor));
        }
        assert_eq!(rig.floor(2), None);
    }

    #[test]
    fn epochs_survive_a_restart_and_counters_start_anew() {
        let mut rig = Rig::recovered(None);
        rig.confirm(1, 10, 4);
        rig.confirm(2, 20, 4);
        let (_, bytes) = rig.expect_put();
        let rig = Rig::recovered(Some(&bytes));
        assert_eq!((rig.floor(1), rig.floor(2)), (Some((10, 0)), Some((20, 0))));
    }

    #[test]
    fn many_confirmations_share_one_write_and_counters_cause_none() {
        let mut rig = Rig::recovered(None);
        for peer in 0..50 {
            rig.confirm(peer, 1, 1);
        }
        let (ticket, bytes) = rig.expect_put();
        assert_eq!(decode(&bytes).map(|epochs| epochs.len()), Some(50));
        rig.seat.stored(rig.now, ticket, Stored::Done, ());
        rig.confirm(3, 1, 2);
        rig.expect_quiet();
    }

    #[test]
    fn what_changes_during_a_write_is_written_after_it() {
        let mut rig = Rig::recovered(None);
        rig.confirm(1, 1, 1);
        let (ticket, _) = rig.expect_put();
        rig.confirm(2, 1, 1);
        assert_eq!(rig.seat.due(), None, "one write at a time");
        rig.seat.stored(rig.now, ticket, Stored::Done, ());
        let (_, bytes) = rig.expect_put();
        assert_eq!(decode(&bytes).map(|epochs| epochs.len()), Some(2));
    }

    #[test]
    fn confirmations_during_recovery_count_at_once_and_are_kept() {
        let mut stored = Rig::recovered(None);
        stored.confirm(1, 10, 0);
        stored.confirm(2, 10, 0);
        let (_, cell) = stored.expect_put();

        let mut rig = Rig::new();
        rig.tell(In::Boot);
        let get = rig.expect_get();
        rig.confirm(1, 12, 3);
        rig.confirm(2, 9, 3);
        rig.confirm(3, 1, 1);
        assert_eq!(rig.floor(1), Some((12, 3)));
        rig.expect_quiet();
        rig.seat.stored(rig.now, get, Stored::Value(Some(&cell)), ());
        rig.seat.check();
        assert_eq!(
            (rig.floor(1), rig.floor(2), rig.floor(3)),
            (Some((12, 3)), Some((10, 0)), Some((1, 1)))
        );
        let (_, bytes) = rig.expect_put();
        assert_eq!(decode(&bytes).map(|epochs| epochs.len()), Some(3));
    }

    #[test]
    fn a_clean_recovery_writes_nothing() {
        let mut stored = Rig::recovered(None);
        stored.confirm(1, 10, 0);
        let (_, cell) = stored.expect_put();
        Rig::recovered(Some(&cell)).expect_quiet();
        Rig::recovered(None).expect_quiet();
    }

    #[test]
    fn a_corrupt_cell_is_reported_once_and_left_alone() {
        let mut rig = Rig::recovered(Some(b"netepoc1 but not really ours"));
        assert_eq!(rig.seat.pop_out(), Some(Out::StoreFailed(StoreError::Corrupt)));
        rig.confirm(1, 1, 1);
        assert_eq!(rig.floor(1), Some((1, 1)), "in memory it goes on");
        rig.expect_quiet();
    }

    #[test]
    fn a_failed_write_is_reported_once_and_not_repeated() {
        let mut rig = Rig::recovered(None);
        rig.confirm(1, 1, 1);
        let (ticket, _) = rig.expect_put();
        rig.seat.stored(rig.now, ticket, Stored::Failed(StoreError::Full), ());
        assert_eq!(rig.seat.pop_out(), Some(Out::StoreFailed(StoreError::Full)));
        rig.confirm(2, 1, 1);
        rig.expect_quiet();
    }

    #[test]
    fn the_allow_list_admits_its_members_and_none_everybody() {
        let mut rig = Rig::recovered(None);
        let (a, b) = (EntityId([1; 32]), EntityId([2; 32]));
        assert!(rig.seat.machine().table().admits(&a));
        rig.tell(In::Allow(Some(vec![a])));
        assert_eq!(rig.seat.pop_out(), Some(Out::AllowChanged));
        let table = rig.seat.machine().table();
        assert!(table.admits(&a) && !table.admits(&b));
        rig.tell(In::Allow(None));
        assert!(rig.seat.machine().table().admits(&b));
    }

    #[test]
    fn the_floor_raised_longest_ago_is_forgotten_first() {
        let mut floors = Floors::default();
        let peer = |n: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_le_bytes());
            EntityId(id)
        };
        for n in 0..MAX_FLOORS as u32 {
            floors.raise(peer(n), Epoch(1), 1);
        }
        floors.raise(peer(0), Epoch(2), 1);
        floors.raise(peer(MAX_FLOORS as u32), Epoch(1), 1);
        floors.check();
        assert_eq!(
            (floors.get(&peer(0)), floors.get(&peer(1))),
            (Some((Epoch(2), 1)), None)
        );
        let epochs: Vec<_> = floors.epochs().collect();
        assert_eq!(
            decode(&encode(floors.epochs())),
            Some(epochs),
            "a full table is read back in its order"
        );
    }

    proptest! {
        #[test]
        fn the_cell_is_read_back_or_refused(
            epochs in proptest::collection::vec((any::<[u8; 32]>(), any::<u64>()), 0..20),
            damage in any::<(proptest::sample::Index, u8)>(),
            cut in any::<proptest::sample::Index>(),
        ) {
            let epochs: Vec<_> = epochs.into_iter().map(|(id, epoch)| (EntityId(id), Epoch(epoch))).collect();
            let bytes = encode(epochs.iter().copied());
            prop_assert_eq!(decode(&bytes), Some(epochs));
            prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())]), None);
            let mut damaged = bytes.clone();
            let at = damage.0.index(bytes.len());
            damaged[at] ^= damage.1.max(1);
            prop_assert_eq!(decode(&damaged), None);
        }
    }
}
