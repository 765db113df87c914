//! Peers with whom a session is to be kept: where they are dialled, and when again.
//!
//! A peer is kept because the user said so, because it was heard on the segment (`beacons.rs`), or for both reasons.
//! Invariants: a peer is dialled once at a time, and never while a session with it is up; the pause doubles with every dial
//! that fails; what was heard displaces nothing of what the user said. Not here: dialling (`peers.rs`, `net-session`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use net_base::limit::MAX_ADDRESSES;
use net_base::{Addr, Duration, EntityId, Instant, mutant};

/// Peers that may be kept; one more is not.
const MAX_JOINS: usize = 4_096;
/// The first pause after a dial that failed, and after a session that ended.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Join {
    /// Where the user said; empty where the user said nothing.
    addresses: Vec<Addr>,
    /// Where it was heard; empty where it was not.
    heard: Vec<Addr>,
    pause: Duration,
    /// When to dial; `None` while a dial or a session is up.
    due: Option<Instant>,
}

/// The peers.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    by_peer: BTreeMap<EntityId, Join>,
}

impl Joins {
    /// Keeps a peer; `live` where a session with it is up. Answers when to dial next.
    pub(crate) fn add(&mut self, now: Instant, peer: EntityId, addresses: &[Addr], live: bool) -> Option<Instant> {
        if let Some(join) = self.renew(now, peer, live) {
            join.addresses = addresses.to_vec();
        }
        self.next()
    }

    /// Whether a session with the peer is kept.
    pub(crate) fn keeps(&self, peer: &EntityId) -> bool {
        self.by_peer.contains_key(peer)
    }

    /// A peer was heard at `addresses`: it is kept too, and dialled there as well. Answers when to dial next.
    pub(crate) fn found(&mut self, now: Instant, peer: EntityId, addresses: Vec<Addr>, live: bool) -> Option<Instant> {
        if let Some(join) = self.renew(now, peer, live) {
            join.heard = addresses;
        }
        self.next()
    }

    fn renew(&mut self, now: Instant, peer: EntityId, live: bool) -> Option<&mut Join> {
        if self.by_peer.len() >= MAX_JOINS && !self.by_peer.contains_key(&peer) {
            return None;
        }
        let join = self.by_peer.entry(peer).or_insert_with(|| Join {
            addresses: Vec::new(),
            heard: Vec::new(),
            pause: FIRST,
            due: None,
        });
        join.pause = FIRST;
        join.due = (!live).then_some(now);
        Some(join)
    }

    /// The user keeps a peer no longer; one that is still heard stays.
    pub(crate) fn remove(&mut self, peer: &EntityId) {
        self.drop_unless(peer, |join| {
            join.addresses.clear();
            !join.heard.is_empty()
        });
    }

    /// A peer is heard no longer; one that the user keeps stays.
    pub(crate) fn silent(&mut self, peer: &EntityId) {
        self.drop_unless(peer, |join| {
            join.heard.clear();
            !join.addresses.is_empty()
        });
    }

    fn drop_unless(&mut self, peer: &EntityId, stays: impl FnOnce(&mut Join) -> bool) {
        if let Some(join) = self.by_peer.get_mut(peer)
            && !stays(join)
        {
            self.by_peer.remove(peer);
        }
    }

    /// A session with a peer is up.
    pub(crate) fn on_up(&mut self, peer: &EntityId) {
        if let Some(join) = self.by_peer.get_mut(peer) {
            join.pause = FIRST;
            join.due = None;
        }
    }

    /// The session with a peer ended. Answers when to dial next.
    pub(crate) fn on_down(&mut self, now: Instant, peer: &EntityId) -> Option<Instant> {
        if let Some(join) = self.by_peer.get_mut(peer).filter(|_| !mutant!(JoinForgotten)) {
            join.due = Some(now + FIRST);
        }
        self.next()
    }

    /// A dial failed; `jitter` of a thousand lengthens the pause by as much. Answers when to dial next.
    pub(crate) fn on_failed(&mut self, now: Instant, peer: &EntityId, jitter: u64) -> Option<Instant> {
        if let Some(join) = self.by_peer.get_mut(peer) {
            join.due = Some(now + join.pause + join.pause.mul_ratio(jitter, 4_000));
            join.pause = (join.pause * 2).min(LONGEST);
        }
        self.next()
    }

    /// The peers to be dialled now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(EntityId, Vec<Addr>)> {
        let due = self
            .by_peer
            .iter_mut()
            .filter(|(_, join)| join.due.is_some_and(|at| at <= now));
        due.map(|(peer, join)| {
            join.due = None;
            (*peer, join.all())
        })
        .collect()
    }

    /// When to dial next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_peer.values().filter_map(|join| join.due).min()
    }
}

impl Join {
    /// Every address once, those that the user said first.
    fn all(&self) -> Vec<Addr> {
        let mut all = self.addresses.clone();
        for address in &self.heard {
            if !all.contains(address) && all.len() < MAX_ADDRESSES {
                all.push(*address);
            }
        }
        all
    }
}
