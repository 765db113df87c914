//! Peers with whom a session is to be kept: where they are dialled, and when again.
//!
//! Invariants: a peer is dialled once at a time, and never while a session with it is up; the pause doubles with every dial
//! that fails. Not here: dialling (`peers.rs`, `net-session`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use net_base::{Addr, Duration, EntityId, Instant, mutant};

/// Peers that may be kept; one more is not.
const MAX_JOINS: usize = 4_096;
/// The first pause after a dial that failed, and after a session that ended.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Join {
    addresses: Vec<Addr>,
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
        if self.by_peer.len() < MAX_JOINS || self.by_peer.contains_key(&peer) {
            self.by_peer.insert(
                peer,
                Join {
                    addresses: addresses.to_vec(),
                    pause: FIRST,
                    due: (!live).then_some(now),
                },
            );
        }
        self.next()
    }

    /// Whether a session with the peer is kept.
    pub(crate) fn keeps(&self, peer: &EntityId) -> bool {
        self.by_peer.contains_key(peer)
    }

    pub(crate) fn remove(&mut self, peer: &EntityId) {
        self.by_peer.remove(peer);
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
            (*peer, join.addresses.clone())
        })
        .collect()
    }

    /// When to dial next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_peer.values().filter_map(|join| join.due).min()
    }
}
