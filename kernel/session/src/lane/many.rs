//! Several lanes behind one face: a session id's low bits, and a peer's hash, name the lane.
//!
//! Invariants: a session lives in one lane from its start to its end; lanes are served in a fixed order, which begins behind the
//! lane that found the transmitter full.
//! Not here: threads. Lanes run one after another in the kernel's turn; a crew may help with the cipher (`shared.rs`).

use alloc::vec::Vec;

use net_base::map::IdMap;
use net_base::probe::Hits;
use net_base::timer::Load;
use net_base::{Check, EntityId, Instant, NoCheck, NodeId, SessionId, routed};
use net_wire::{Datagram as Class, DropReason, peek};

use crate::SessionKey;
use crate::aead::Aead;
use crate::config::SessionConfig;
use crate::crew::Crew;
use crate::roster::lane_of;
use crate::rx::{RxBatch, Spot};
use crate::tx::Tx;

use super::shared::{self, Keys, Opener};
use super::slot::{Ahead, Unsealed};
use super::{Drops, Holdings, Lane, Notice, Up};

/// The keys of all lanes, by what an id's low bits may be.
fn keys<A: Aead, C: Check>(lanes: &[Lane<A, C>]) -> Keys<'_, A> {
    core::array::from_fn(|at| &lanes[at & (lanes.len() - 1)].slots)
}

/// All lanes of a kernel.
pub struct Lanes<A: Aead, C: Check = NoCheck> {
    lanes: Vec<Lane<A, C>>,
    by_session: IdMap<SessionKey, u8>,
    /// The lane that has a packet under the kernel's hand.
    busy: Option<usize>,
    /// The lane that may send first.
    first: usize,
    /// What was opened ahead of the batch that is read, by datagram.
    ahead: Vec<Option<Ahead>>,
    /// The packet that a routed datagram held, read next.
    inner: Option<Spot>,
    /// What waits to be sealed, while it is.
    unsealed: Vec<Unsealed>,
}

impl<A: Aead, C: Check> Lanes<A, C> {
    /// `count` lanes, a power of two, at most 16.
    #[must_use]
    pub fn new(config: &SessionConfig, count: u8) -> Self {
        assert!(
            count.is_power_of_two() && count <= 16,
            "lanes are a power of two, at most 16"
        );
        Self {
            lanes: (0..count).map(|_| Lane::new(config)).collect(),
            by_session: IdMap::default(),
            busy: None,
            first: 0,
            ahead: Vec::new(),
            inner: None,
            unsealed: Vec::new(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.lanes.len() as u8
    }

    /// Lets `crew` open what it can of a batch before it is read. What [`Self::next_up`] then finds is what it would have
    /// found without. `traces` where digests of the datagrams will be asked for.
    pub fn open_ahead(&mut self, now: Instant, batch: &mut RxBatch<'_>, crew: &mut dyn Crew, traces: bool) {
        debug_assert!(self.ahead.is_empty(), "the batch before was read to its end");
        let Some(first) = self.lanes.first() else { return };
        let opener = Opener {
            keys: keys(&self.lanes),
            config: &first.config,
            now,
            traces,
        };
        shared::open_ahead(opener, batch, &mut self.ahead, crew);
    }

    /// The next thing received. `None` when the batch is read.
    pub fn next_up<'x>(
        &'x mut self,
        now: Instant,
        batch: &'x mut RxBatch<'_>,
        awaits: impl Fn(SessionId) -> bool,
        seen: &mut impl FnMut(&mut RxBatch<'_>, Spot),
    ) -> Option<Up<'x>> {
        loop {
            if let Some(busy) = self.busy {
                if self.lanes[busy].has_packet() {
                    // The borrow of a returned `Up` would last for the whole loop, so look before pulling.
                    self.lanes[busy].advance(now, batch);
                }
                if self.lanes[busy].has_up() {
                    return self.lanes[busy].take_up(batch);
                }
                self.busy = None;
            }
            let spot = if let Some(inner) = self.inner.take() {
                inner
            } else {
                let Some(spot) = batch.advance() else {
                    self.ahead.clear();
                    return None;
                };
                seen(batch, spot);
                if routed::is_routed(&batch.at(spot).from) {
                    self.lanes[0].count_drop(DropReason::ForgedSource);
                    continue;
                }
                spot
            };
            match peek(batch.at(spot).bytes) {
                Ok(Class::Protected { session }) => {
                    let lane = self.lane_index(session);
                    // The list is empty, or as long as the batch.
                    match self.ahead.get(batch.count() - 1) {
                        Some(Some(ahead)) if !spot.is_inner() => {
                            self.lanes[lane].begin_ahead(now, batch, spot, session, ahead)
                        }
                        Some(_) | None => self.lanes[lane].begin(now, batch, spot, session),
                    }
                    self.busy = Some(lane);
                }
                Ok(Class::Handshake { session, .. }) => {
                    if session.0 == 0 || awaits(session) {
                        return Some(Up::Handshake(batch.at(spot)));
                    }
                    // A masked packet may look like a handshake by chance; a key tells.
                    let lane = self.lane_index(session);
                    self.lanes[lane].begin(now, batch, spot, session);
                    self.busy = Some(lane);
                }
                Ok(Class::Routed) if spot.is_inner() => self.lanes[0].count_drop(DropReason::NestedRouting),
                Ok(Class::Routed) => return Some(Up::Routed(spot)),
                Err(reason) => self.lanes[0].count_drop(reason),
            }
        }
    }

    /// Reads the packet inside the routed datagram at `spot` next, as one that `src` sent over relays.
    pub fn unwrap(&mut self, spot: Spot, src: NodeId) {
        self.inner = Some(spot.inner(src));
    }

    /// Counts a packet refused before it reached a session.
    pub fn refuse(&mut self, reason: DropReason) {
        self.lanes[0].count_drop(reason);
    }

    fn lane_index(&self, session: SessionId) -> usize {
        (session.0 as usize) & (self.lanes.len() - 1)
    }

    /// The lane a session id belongs to.
    pub fn by_id(&mut self, id: SessionId) -> &mut Lane<A, C> {
        let index = self.lane_index(id);
        &mut self.lanes[index]
    }

    /// The lane a session lives in.
    pub fn of(&mut self, session: SessionKey) -> Option<&mut Lane<A, C>> {
        let index = *self.by_session.get(&session)?;
        self.lanes.get_mut(usize::from(index))
    }

    /// The lane a session lives in, to look at.
    #[must_use]
    pub fn peek_of(&self, session: SessionKey) -> Option<&Lane<A, C>> {
        self.lanes.get(usize::from(*self.by_session.get(&session)?))
    }

    /// Remembers where the session with `peer` lives.
    pub fn place(&mut self, session: SessionKey, peer: &EntityId) {
        self.by_session.insert(session, lane_of(peer, self.count()));
    }

    /// Forgets a session that ended.
    pub fn unplace(&mut self, session: SessionKey) {
        self.by_session.swap_remove(&session);
    }

    /// Every lane.
    pub fn iter(&self) -> impl Iterator<Item = &Lane<A, C>> {
        self.lanes.iter()
    }

    /// Every lane, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane<A, C>> {
        self.lanes.iter_mut()
    }

    /// Does what became due.
    pub fn fire(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            lane.fire(now);
        }
    }

    /// Lets every lane send; false where the transmitter is full.
    #[inline]
    pub fn transmit(&mut self, now: Instant, tx: &mut dyn Tx) -> bool {
        if !self.is_dirty() {
            return true;
        }
        let holds = tx.hold();
        match &mut self.lanes[..] {
            [lane] if !holds => lane.transmit(now, tx),
            _ => self.transmit_all(now, tx, holds),
        }
    }

    #[inline(never)]
    fn transmit_all(&mut self, now: Instant, tx: &mut dyn Tx, holds: bool) -> bool {
        let mut free = true;
        let first = self.first;
        for at in first..first + self.lanes.len() {
            let at = at & (self.lanes.len() - 1);
            let lane = &mut self.lanes[at];
            if holds {
                lane.slots.hold();
            }
            // All lanes, even after a refusal: each must collect its notices and arm its timers.
            let sent_all = lane.transmit(now, tx);
            if holds {
                self.unsealed.append(lane.slots.unsealed());
            }
            if free && !sent_all {
                free = false;
                self.first = (at + 1) & (self.lanes.len() - 1);
            }
        }
        if holds {
            self.release(tx);
        }
        free
    }

    /// Seals what the lanes wrote.
    fn release(&mut self, tx: &mut dyn Tx) {
        let keys = keys(&self.lanes);
        tx.release(&mut |bytes, crew| shared::seal(&keys, &self.unsealed, bytes, crew));
        self.unsealed.clear();
        for lane in &mut self.lanes {
            lane.slots.release();
        }
    }

    /// When the earliest lane must be woken.
    pub fn due(&mut self) -> Option<Instant> {
        self.lanes.iter_mut().filter_map(Lane::due).min()
    }

    /// Whether something waits for the transmitter.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.lanes.iter().any(Lane::is_dirty)
    }

    /// Takes the next notice, lane by lane.
    pub fn pop_notice(&mut self) -> Option<Notice> {
        self.lanes.iter_mut().find_map(Lane::pop_notice)
    }

    /// Counts of refused packets over all lanes.
    #[must_use]
    pub fn drops(&self) -> Drops {
        let mut sum = Drops::default();
        for lane in &self.lanes {
            sum.add(lane.drops());
        }
        sum
    }

    /// How much all lanes hold.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let mut sum = Holdings::default();
        for lane in &self.lanes {
            sum.add(&lane.holdings());
        }
        sum
    }

    /// How much the timers of all lanes hold.
    #[must_use]
    pub fn timers(&self) -> Load {
        let mut sum = Load::default();
        for lane in &self.lanes {
            let Load { armed, entries } = lane.timers();
            sum.armed += armed;
            sum.entries += entries;
        }
        sum
    }

    /// The probes passed over all lanes.
    #[must_use]
    pub fn hits(&self) -> Hits {
        let mut sum = Hits::default();
        for lane in &self.lanes {
            sum.add(lane.hits());
        }
        sum
    }

    /// Asserts what must hold between turns.
    pub fn check(&self) {
        for lane in &self.lanes {
            lane.check();
        }
    }
}
