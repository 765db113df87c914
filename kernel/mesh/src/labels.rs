//! Wire labels: which node each stands for, and where what bears it goes next.
//!
//! Labels are hashes and may be shared (protocol.md 8). The node that is configured holds a label, or else the one that was
//! authenticated first; the others are unroutable and disturb nobody.
//! Invariants: a label has one holder, and a holder has a ground; whoever waits for a label is not its holder; what is
//! found under a label takes the same time however many there are.
//! Not here: what follows for routes (`routes.rs`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use net_base::map::{Keyed, KeyedMap};
use net_base::{EntityId, NodeId, SessionKey, mutant};

/// Next hops that are kept ready per label; further ones are found by [`crate::routes::Routes::feasible`].
pub const MAX_NEXT_HOPS: usize = 4;

/// Why a node may hold a label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ground {
    /// It is ourselves, or the user named it.
    Configured,
    /// A session with it is up.
    Linked,
    /// It signed what we know of it.
    Heard,
}

/// The grounds of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Grounds(u8);

impl Grounds {
    const fn bit(ground: Ground) -> u8 {
        match ground {
            Ground::Configured => 1,
            Ground::Linked => 2,
            Ground::Heard => 4,
        }
    }

    const fn of(ground: Ground) -> Self {
        Self(Self::bit(ground))
    }

    const fn add(&mut self, ground: Ground) {
        self.0 |= Self::bit(ground);
    }

    const fn remove(&mut self, ground: Ground) {
        self.0 &= !Self::bit(ground);
    }

    const fn has(self, ground: Ground) -> bool {
        self.0 & Self::bit(ground) != 0
    }

    const fn none(self) -> bool {
        self.0 == 0
    }
}

/// Next hops in the order in which they are to be tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct NextHops {
    sessions: [SessionKey; MAX_NEXT_HOPS],
    count: u8,
}

impl NextHops {
    /// The first ones of `sessions`.
    pub(crate) fn of(sessions: impl Iterator<Item = SessionKey>) -> Self {
        let mut hops = Self::default();
        for (slot, session) in hops.sessions.iter_mut().zip(sessions) {
            *slot = session;
            hops.count += 1;
        }
        hops
    }

    fn as_slice(&self) -> &[SessionKey] {
        &self.sessions[..usize::from(self.count)]
    }
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    node: EntityId,
    grounds: Grounds,
}

#[derive(Debug)]
struct Holder {
    claim: Claim,
    next: NextHops,
}

/// What a claim led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claimed {
    /// The node holds its label, as far as anybody disputes it.
    Held,
    /// Another node holds it. The claimant waits, since now.
    Waits {
        /// Who holds it.
        holder: EntityId,
    },
    /// It waited already.
    Waiting,
    /// The claimant is configured and took it from one that is not.
    Took {
        /// From whom.
        loser: EntityId,
    },
}

/// The labels.
#[derive(Debug)]
pub(crate) struct Labels {
    holders: KeyedMap<NodeId, Holder>,
    /// In the order in which they were authenticated.
    waiting: BTreeMap<NodeId, Vec<Claim>>,
    collisions: u64,
}

impl Labels {
    /// No labels; where they lie depends on `secret`.
    pub(crate) fn new(secret: Keyed) -> Self {
        Self {
            holders: KeyedMap::with_hasher(secret),
            waiting: BTreeMap::new(),
            collisions: 0,
        }
    }

    /// The same labels, in places that depend on `secret`.
    pub(crate) fn rekey(&mut self, secret: Keyed) {
        let mut holders = KeyedMap::with_hasher(secret);
        holders.extend(self.holders.drain(..));
        self.holders = holders;
    }

    /// The node that holds a label.
    pub(crate) fn holder(&self, label: NodeId) -> Option<EntityId> {
        Some(self.holders.get(&label)?.claim.node)
    }

    /// Where what bears the label goes next, best first.
    pub(crate) fn next_hops(&self, label: NodeId) -> &[SessionKey] {
        self.holders.get(&label).map_or(&[], |holder| holder.next.as_slice())
    }

    /// Whether a node holds its label.
    pub(crate) fn holds(&self, label: NodeId, node: &EntityId) -> bool {
        self.holders
            .get(&label)
            .is_some_and(|holder| holder.claim.node == *node)
    }

    /// Sets the next hops of a label for its holder, and for nobody else.
    pub(crate) fn set_next_hops(&mut self, label: NodeId, node: &EntityId, next: NextHops) {
        if let Some(holder) = self.holders.get_mut(&label)
            && holder.claim.node == *node
        {
            holder.next = next;
        }
    }

    /// A node has a ground to hold a label.
    pub(crate) fn claim(&mut self, label: NodeId, node: EntityId, ground: Ground) -> Claimed {
        let Some(holder) = self.holders.get_mut(&label) else {
            let claim = Claim {
                node,
                grounds: Grounds::of(ground),
            };
            let next = NextHops::default();
            self.holders.insert(label, Holder { claim, next });
            return Claimed::Held;
        };
        if holder.claim.node == node {
            holder.claim.grounds.add(ground);
            return Claimed::Held;
        }
        let waiting = self.waiting.entry(label).or_default();
        let known = waiting.iter().position(|claim| claim.node == node);
        let at = known.unwrap_or(waiting.len());
        if known.is_none() {
            let grounds = Grounds::default();
            waiting.push(Claim { node, grounds });
            self.collisions += 1;
        }
        waiting[at].grounds.add(ground);
        let stronger = waiting[at].grounds.has(Ground::Configured) && !holder.claim.grounds.has(Ground::Configured);
        if stronger || (known.is_none() && mutant!(LabelTaken)) {
            let loser = core::mem::replace(&mut holder.claim, waiting[at]);
            holder.next = NextHops::default();
            waiting.remove(at);
            // It was authenticated before all who wait.
            waiting.insert(0, loser);
            return Claimed::Took { loser: loser.node };
        }
        if known.is_some() {
            Claimed::Waiting
        } else {
            Claimed::Waits {
                holder: holder.claim.node,
            }
        }
    }

    /// A ground of a node is gone. Answers who holds the label from now on, where that is news to it.
    pub(crate) fn release(&mut self, label: NodeId, node: &EntityId, ground: Ground) -> Option<EntityId> {
        if let Some(waiting) = self.waiting.get_mut(&label)
            && let Some(at) = waiting.iter().position(|claim| claim.node == *node)
        {
            waiting[at].grounds.remove(ground);
            if waiting[at].grounds.none() {
                waiting.remove(at);
            }
            if waiting.is_empty() {
                self.waiting.remove(&label);
            }
            return None;
        }
        let holder = self.holders.get_mut(&label)?;
        if holder.claim.node != *node {
            return None;
        }
        holder.claim.grounds.remove(ground);
        if !holder.claim.grounds.none() {
            return None;
        }
        let Some(waiting) = self.waiting.get_mut(&label) else {
            self.holders.swap_remove(&label);
            return None;
        };
        let first = waiting
            .iter()
            .position(|claim| claim.grounds.has(Ground::Configured))
            .unwrap_or(0);
        let heir = waiting.remove(first);
        if waiting.is_empty() {
            self.waiting.remove(&label);
        }
        holder.claim = heir;
        holder.next = NextHops::default();
        Some(heir.node)
    }

    /// Nodes whose label another one holds.
    pub(crate) fn unroutable(&self) -> impl Iterator<Item = EntityId> + '_ {
        self.waiting.values().flatten().map(|claim| claim.node)
    }

    /// How often a label was found to be another node's.
    pub(crate) const fn collisions(&self) -> u64 {
        self.collisions
    }

    /// Asserts what must hold between turns.
    pub(crate) fn check(&self) {
        for (label, waiting) in &self.waiting {
            assert!(!waiting.is_empty(), "nobody waits for nothing");
            let holder = self.holders.get(label).expect("what is waited for is held");
            assert!(waiting.iter().all(|claim| claim.node != holder.claim.node));
            assert!(waiting.iter().all(|claim| !claim.grounds.none()));
        }
        assert!(
            self.holders
                .values()
                .take(64)
                .all(|holder| !holder.claim.grounds.none())
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: NodeId = NodeId(7);
    const A: EntityId = EntityId([1; 32]);
    const B: EntityId = EntityId([2; 32]);
    const C: EntityId = EntityId([3; 32]);

    fn labels() -> Labels {
        Labels::new(Keyed::new([5, 9]))
    }

    #[test]
    fn the_first_authenticated_holds_a_label_and_the_next_inherits_it() {
        let mut labels = labels();
        assert_eq!(labels.claim(LABEL, A, Ground::Heard), Claimed::Held);
        assert_eq!(labels.claim(LABEL, B, Ground::Heard), Claimed::Waits { holder: A });
        assert_eq!(labels.claim(LABEL, B, Ground::Linked), Claimed::Waiting);
        assert_eq!(labels.claim(LABEL, C, Ground::Heard), Claimed::Waits { holder: A });
        assert_eq!(labels.collisions(), 2);
        labels.set_next_hops(LABEL, &A, NextHops::of([SessionKey(1), SessionKey(2)].into_iter()));
        labels.set_next_hops(LABEL, &B, NextHops::of([SessionKey(9)].into_iter()));
        assert_eq!(labels.next_hops(LABEL), [SessionKey(1), SessionKey(2)]);
        assert_eq!(labels.release(LABEL, &A, Ground::Heard), Some(B));
        assert!(
            labels.next_hops(LABEL).is_empty(),
            "nothing goes where the one before was"
        );
        assert_eq!(
            labels.release(LABEL, &B, Ground::Heard),
            None,
            "a session with it is up"
        );
        assert_eq!(labels.release(LABEL, &B, Ground::Linked), Some(C));
        assert_eq!(labels.release(LABEL, &C, Ground::Heard), None);
        assert_eq!(labels.holder(LABEL), None);
        labels.check();
    }

    #[test]
    fn the_configured_one_takes_a_label_and_keeps_it() {
        let mut labels = labels();
        labels.claim(LABEL, A, Ground::Heard);
        assert_eq!(labels.claim(LABEL, B, Ground::Configured), Claimed::Took { loser: A });
        assert_eq!(labels.claim(LABEL, C, Ground::Configured), Claimed::Waits { holder: B });
        assert_eq!(labels.claim(LABEL, A, Ground::Configured), Claimed::Waiting);
        assert_eq!(labels.holder(LABEL), Some(B));
        assert_eq!(labels.unroutable().collect::<Vec<_>>(), [A, C]);
        assert_eq!(labels.release(LABEL, &B, Ground::Configured), Some(A));
        labels.check();
    }

    #[test]
    fn labels_survive_a_new_secret() {
        let mut labels = labels();
        for n in 0..1_000 {
            labels.claim(NodeId(n), EntityId([n as u8; 32]), Ground::Heard);
        }
        labels.rekey(Keyed::new([77, 1 << 40 | 5]));
        assert!((0..1_000).all(|n| labels.holds(NodeId(n), &EntityId([n as u8; 32]))));
        assert_eq!(labels.holder(NodeId(1_000)), None);
    }
}
