//! The routing table: distance vector on round-trip time, loop-free by Babel's feasibility condition (RFC 8966).
//!
//! A node's pingwave is its own announcement: signed, counted, and carried outward hop by hop with the round-trip time so
//! far. Neighbours offer routes; an offer may be used only while the least that the neighbour said of a statement is closer to the
//! origin than anything this node ever announced of it, so that along every chain of next hops the least announced distance
//! falls and no chain closes.
//! Invariants: a selected offer is feasible; only a statement that was not known before keeps a route alive; whoever was
//! told of a route that is gone is told that it is gone; who does not hold its label has no route and is announced to nobody,
//! so that whoever a label is sent towards, each node on its way takes it for the same one.
//! Not here: who is a neighbour and what reaching it costs (`mesh.rs`), signatures, when messages leave, who holds a label
//! (`labels.rs`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use net_base::map::Keyed;
use net_base::{Duration, EntityId, Instant, NodeId, SessionKey, mutant};
use net_trust::node_id;
use net_wire::mesh::{Core, MAX_HOPS, Pingwave, SIGNATURE_LEN, Version};

use crate::journal::Journal;
use crate::labels::{Claimed, Ground, Labels, NextHops};
use crate::memory::Memory;

/// Nodes that are remembered, reachable or not; one more is not taken in.
pub const MAX_TARGETS: usize = 16_384;
/// Nodes that one neighbour alone may have told of, so that one that makes up nodes does not use up the table.
pub const MAX_TARGETS_BY_ONE: usize = 4_096;
/// Offers kept of one node: the selected route and the next best ones.
pub const MAX_OFFERS: usize = 8;
/// How long the feasible distance of a node without a route is remembered (RFC 8966 appendix B: three minutes).
pub const DISTANCE_MEMORY: Duration = Duration::from_secs(180);
/// A route is replaced for one that is better by this part of its length, and changes of length by less are not told.
const HYSTERESIS: u32 = 8;
/// The same, in microseconds, whatever the length.
const HYSTERESIS_US: u32 = 100;
/// A longer way, in microseconds, is none: half an hour, so that adding the cost of a link cannot overflow.
const MAX_RTT_US: u32 = 1 << 31;
/// A table of so many nodes is looked at after every turn.
const LOOKED_THROUGH: usize = 64;
/// In a larger one, so many that changed last.
const LOOKED_AT: u64 = 8;
/// What one link may cost at most, in microseconds.
const MAX_COST_US: u32 = 1 << 30;

/// How far a node is, as far as it was ever announced from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Distance {
    version: Version,
    rtt_us: u32,
}

impl Distance {
    /// Whether an offer at `(version, rtt_us)` lies closer (RFC 8966 section 3.5.1).
    fn admits(&self, version: Version, rtt_us: u32) -> bool {
        if mutant!(BootForgotten) {
            return version.seqno > self.version.seqno || (version.seqno == self.version.seqno && rtt_us < self.rtt_us);
        }
        version > self.version || (version == self.version && rtt_us < self.rtt_us)
    }
}

/// What an origin said, and when it was first heard here, by whatever way.
#[derive(Clone, Copy, Debug)]
struct Statement {
    core: Core,
    signature: [u8; SIGNATURE_LEN],
    heard: Instant,
}

/// What a neighbour says of its distance to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Offer {
    via: SessionKey,
    version: Version,
    hops: u8,
    ttl: u8,
    rtt_us: u32,
    /// The least it said of this version. Its own feasible distance lies no higher, and does not rise with what it says later,
    /// so that a way that became longer is no less safe.
    closest_us: u32,
}

/// What was last announced of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Announced {
    version: Version,
    hops: u8,
    rtt_us: u32,
}

/// One node other than this one.
#[derive(Debug, Default)]
struct Target {
    label: NodeId,
    /// In ascending order of version; those that an offer refers to, and the newest.
    statements: Vec<Statement>,
    offers: Vec<Offer>,
    feasible: Option<Distance>,
    selected: Option<SessionKey>,
    /// The neighbour over which it was reached last, until it is offered by nobody.
    over: Option<EntityId>,
    announced: Option<Announced>,
    /// Neighbours that hold an announcement of ours.
    told: BTreeSet<SessionKey>,
    /// Since when there is no route.
    lost: Option<Instant>,
    /// Who told of it first.
    first: Option<EntityId>,
}

/// A neighbour, as the table sees it.
#[derive(Clone, Copy, Debug)]
struct Link {
    peer: EntityId,
    cost_us: u32,
}

/// What is to be done with a pingwave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Its origin's words are known and were checked before: give it to [`Routes::on_pingwave`].
    Known,
    /// They are new: check the signature first.
    Unproved,
    /// It is our own, come back.
    Own,
    /// It is older than what is known, or the same words were signed differently.
    Stale,
    /// There is no room for one more node.
    Full,
}

/// What a change of the table leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Neighbours are to be told of the node, see [`Routes::announcement`]: that it is lost, that it is found, that
    /// the way leads over another neighbour, or newer words of it: somebody may have no way before it hears that.
    Announce(EntityId),
    /// Neighbours are to be told that the node is nearer or farther than they know.
    Measured(EntityId),
    /// The node became reachable.
    Found(EntityId),
    /// The node is reached over another neighbour than before.
    Rerouted(EntityId),
    /// The node is no longer reachable.
    Lost(EntityId),
    /// The node, which had been reached over that neighbour, is offered by nobody any more.
    Gone(EntityId, EntityId),
    /// Routes are offered and none is feasible: somebody must ask its origin for a newer statement (RFC 8966 section 3.8.2.1).
    Starved(EntityId, Version),
    /// Two nodes share a label.
    Collided(Collision),
}

/// Two nodes share a label: packets go to one of them (protocol.md 8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collision {
    /// The label.
    pub label: NodeId,
    /// The node that it stands for here.
    pub holder: EntityId,
    /// The node to which nothing can be routed from here. Its sessions go on.
    pub unroutable: EntityId,
}

/// What a neighbour is to be told of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announcement {
    /// How far it is from here.
    Reached(Pingwave),
    /// That it is not reached from here any more; the newest version known.
    Withdrawn(Version),
}

/// A way to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The session with the next hop.
    pub via: SessionKey,
    /// The next hop.
    pub next: EntityId,
    /// Hops to the node; 1 for a neighbour.
    pub hops: u8,
    /// Round-trip time to the node, in microseconds.
    pub rtt_us: u32,
    /// The statement it rests on.
    pub version: Version,
}

/// The table.
#[derive(Debug)]
pub struct Routes {
    own: EntityId,
    hold: Duration,
    links: BTreeMap<SessionKey, Link>,
    targets: BTreeMap<EntityId, Target>,
    /// How many targets each neighbour told of first.
    introduced: BTreeMap<EntityId, usize>,
    changes: Vec<Change>,
    labels: Labels,
    label_of: fn(&EntityId) -> NodeId,
    journal: Journal,
    memory: Memory,
    /// Nothing expires before; `None` where nothing ever does.
    due: Option<Instant>,
    /// How many nodes are reached.
    reached: usize,
}

impl Routes {
    /// An empty table. A route lives for `hold` after the statement that it rests on was first heard.
    #[must_use]
    pub fn new(own: EntityId, hold: Duration) -> Self {
        Self::labelled(own, hold, node_id)
    }

    /// The same where labels are made otherwise, so that they can be made to collide.
    #[must_use]
    pub fn labelled(own: EntityId, hold: Duration, label_of: fn(&EntityId) -> NodeId) -> Self {
        let mut labels = Labels::new(Keyed::default());
        labels.claim(label_of(&own), own, Ground::Configured);
        Self {
            own,
            hold,
            links: BTreeMap::new(),
            targets: BTreeMap::new(),
            introduced: BTreeMap::new(),
            changes: Vec::new(),
            labels,
            label_of,
            journal: Journal::default(),
            memory: Memory::default(),
            due: None,
            reached: 0,
        }
    }

    /// Lets where labels lie in memory depend on `secret`, so that nobody can choose ones that are slow to find.
    pub fn hide_labels(&mut self, secret: Keyed) {
        self.labels.rekey(secret);
    }

    /// A node may hold its label, for this reason.
    pub fn claim(&mut self, now: Instant, node: &EntityId, ground: Ground) {
        let label = (self.label_of)(node);
        let (holder, unroutable) = match self.labels.claim(label, *node, ground) {
            Claimed::Held | Claimed::Waiting => return,
            Claimed::Waits { holder } => (holder, *node),
            Claimed::Took { loser } => (*node, loser),
        };
        self.changes.push(Change::Collided(Collision {
            label,
            holder,
            unroutable,
        }));
        self.reselect(now, &unroutable);
        self.reselect(now, &holder);
    }

    /// The reason is gone. Whoever waited for the label may get it.
    pub fn release(&mut self, now: Instant, node: &EntityId, ground: Ground) {
        let label = (self.label_of)(node);
        if let Some(heir) = self.labels.release(label, node, ground) {
            self.reselect(now, node);
            self.reselect(now, &heir);
        }
    }

    /// The node for which a label stands here, itself included. Constant time.
    #[must_use]
    pub fn by_label(&self, label: NodeId) -> Option<EntityId> {
        self.labels.holder(label)
    }

    /// Whether packets that bear the label of `node` reach it: a way is known, and nobody else holds the label.
    #[must_use]
    pub fn leads_to(&self, node: &EntityId) -> bool {
        self.by_label((self.label_of)(node)) == Some(*node) && self.route(node).is_some()
    }

    /// The session over which what bears `label` goes next. Constant time, nothing allocated.
    #[must_use]
    pub fn next_hop(&self, label: NodeId) -> Option<SessionKey> {
        self.next_hops(label).first().copied()
    }

    /// Every session over which what bears `label` may go next without ever coming back, at most
    /// [`MAX_NEXT_HOPS`](crate::labels::MAX_NEXT_HOPS), the one in use first, then by length. Constant time, nothing allocated.
    #[must_use]
    pub fn next_hops(&self, label: NodeId) -> &[SessionKey] {
        self.labels.next_hops(label)
    }

    /// Nodes to which nothing can be routed, because another one holds their label.
    pub fn unroutable(&self) -> impl Iterator<Item = EntityId> + '_ {
        self.labels.unroutable()
    }

    /// How often a label was found to be another node's, since the beginning.
    #[must_use]
    pub const fn collisions(&self) -> u64 {
        self.labels.collisions()
    }

    /// How many changes of routes there were: a mark for [`Self::changed_since`].
    #[must_use]
    pub const fn mark(&self) -> u64 {
        self.journal.total()
    }

    /// The nodes whose routes may have changed since `mark`, with repetitions; `None` where that is too long ago, and all of
    /// them must be looked at.
    pub fn changed_since(&self, mark: u64) -> Option<impl Iterator<Item = EntityId> + '_> {
        self.journal.since(mark)
    }

    /// Takes what the last calls led to.
    pub fn take_changes(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.changes)
    }

    /// A neighbour's link came up. It costs `cost_us`, at least 1.
    pub fn link_up(&mut self, via: SessionKey, peer: EntityId, cost_us: u32) {
        self.links.insert(
            via,
            Link {
                peer,
                cost_us: cost_us.clamp(1, MAX_COST_US),
            },
        );
    }

    /// A neighbour's link went down: every route over it is gone at once.
    pub fn link_down(&mut self, now: Instant, via: SessionKey) {
        if self.links.remove(&via).is_none() {
            return;
        }
        let mut touched = Vec::new();
        for (id, target) in &mut self.targets {
            target.told.remove(&via);
            let before = target.offers.len();
            target.offers.retain(|offer| offer.via != via);
            if target.offers.len() != before {
                touched.push(*id);
            }
        }
        for id in touched {
            self.reselect(now, &id);
        }
    }

    /// The cost of a link changed.
    pub fn link_cost(&mut self, now: Instant, via: SessionKey, cost_us: u32) {
        let Some(link) = self.links.get_mut(&via) else { return };
        let cost_us = cost_us.clamp(1, MAX_COST_US);
        if !differs(link.cost_us, cost_us) {
            return;
        }
        link.cost_us = cost_us;
        let over: Vec<EntityId> = self
            .targets
            .iter()
            .filter(|(_, target)| target.offers.iter().any(|offer| offer.via == via))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.reselect(now, &id);
        }
    }

    /// Whether the link counts at the moment.
    #[must_use]
    pub fn has_link(&self, via: SessionKey) -> bool {
        self.links.contains_key(&via)
    }

    /// What reaching a neighbour costs; 0 where nothing leads over it.
    #[must_use]
    pub fn cost(&self, via: SessionKey) -> u32 {
        self.links.get(&via).map_or(0, |link| link.cost_us)
    }

    /// What is to be done with a pingwave from a neighbour.
    #[must_use]
    pub fn check(&self, now: Instant, via: SessionKey, wave: &Pingwave) -> Check {
        if wave.core.origin == self.own {
            return Check::Own;
        }
        let Some(target) = self.targets.get(&wave.core.origin) else {
            let peer = self.links.get(&via).map(|link| link.peer);
            let by_one = peer.and_then(|peer| self.introduced.get(&peer)).copied().unwrap_or(0);
            return if self.memory.is_old(&wave.core.origin, wave.core.version) {
                Check::Stale
            } else if self.targets.len() >= MAX_TARGETS || by_one >= MAX_TARGETS_BY_ONE {
                Check::Full
            } else {
                Check::Unproved
            };
        };
        let version = wave.core.version;
        // Only words that were not known before keep anything alive: old ones are as old as what came after them.
        if target.heard(version).is_some_and(|heard| now >= heard + self.hold) {
            return Check::Stale;
        }
        match target.statement(version) {
            Some(known) if known.core == wave.core && known.signature == wave.signature => Check::Known,
            Some(known) if mutant!(WordsOfOthers) && known.signature == wave.signature => Check::Known,
            Some(_) => Check::Stale,
            None => Check::Unproved,
        }
    }

    /// A neighbour reaches the origin of a pingwave whose signature was found to be the origin's.
    pub fn on_pingwave(&mut self, now: Instant, via: SessionKey, wave: &Pingwave) {
        let Some(link) = self.links.get(&via) else { return };
        if matches!(self.check(now, via, wave), Check::Own | Check::Stale | Check::Full) {
            return;
        }
        let id = wave.core.origin;
        if wave.rtt_us >= MAX_RTT_US {
            return self.on_withdraw(now, via, &id);
        }
        let first = link.peer;
        let introduced = &mut self.introduced;
        let mut met = false;
        let label_of = self.label_of;
        let target = self.targets.entry(id).or_insert_with(|| {
            met = true;
            *introduced.entry(first).or_default() += 1;
            Target {
                label: label_of(&id),
                first: Some(first),
                ..Target::default()
            }
        });
        let offer = Offer {
            via,
            version: wave.core.version,
            hops: wave.hops,
            ttl: wave.ttl,
            rtt_us: wave.rtt_us,
            closest_us: wave.rtt_us,
        };
        if target.offer(via).is_some_and(|old| offer.version < old.version) {
            return;
        }
        target.learn(now, wave);
        let before = target.offer(via);
        let earlier = before.map_or(offer.rtt_us, |old| old.rtt_us);
        let same = before.filter(|old| old.version == offer.version);
        let offer = Offer {
            rtt_us: if mutant!(WorseNewsIgnored) {
                offer.rtt_us.min(earlier)
            } else {
                offer.rtt_us
            },
            closest_us: same.map_or(offer.rtt_us, |old| old.closest_us.min(offer.rtt_us)),
            ..offer
        };
        if let Some(old) = target.offers.iter_mut().find(|old| old.via == via) {
            *old = offer;
        } else if target.offers.len() < MAX_OFFERS {
            target.offers.push(offer);
        } else {
            // The worst one makes room, never the one in use.
            let worst = (0..target.offers.len())
                .filter(|&at| target.selected != Some(target.offers[at].via))
                .max_by_key(|&at| (target.offers[at].rtt_us, target.offers[at].via));
            if let Some(worst) = worst.filter(|&at| offer.rtt_us < target.offers[at].rtt_us) {
                target.offers[worst] = offer;
            }
        }
        if met {
            self.memory.take(&id);
            self.claim(now, &id, Ground::Heard);
        }
        self.reselect(now, &id);
    }

    /// A neighbour no longer reaches a node.
    pub fn on_withdraw(&mut self, now: Instant, via: SessionKey, origin: &EntityId) {
        let Some(target) = self.targets.get_mut(origin) else {
            return;
        };
        let before = target.offers.len();
        target.offers.retain(|offer| offer.via != via);
        if target.offers.len() != before {
            self.reselect(now, origin);
        }
    }

    /// Drops what rests on statements that were heard too long ago, and forgets nodes that were lost long ago.
    pub fn expire(&mut self, now: Instant) {
        let hold = self.hold;
        let mut touched = Vec::new();
        for (id, target) in &mut self.targets {
            let before = target.offers.len();
            let statements = &target.statements;
            target.offers.retain(|offer| {
                statements
                    .iter()
                    .any(|known| known.core.version == offer.version && now < known.heard + hold)
            });
            if target.offers.len() != before {
                touched.push(*id);
            }
        }
        for id in touched {
            self.reselect(now, &id);
        }
        self.forget(now);
        let ends = self.targets.values().filter_map(|target| target.ends(hold));
        self.due = ends.min();
    }

    /// Forgets nodes that were lost long ago.
    fn forget(&mut self, now: Instant) {
        let (introduced, memory) = (&mut self.introduced, &mut self.memory);
        let mut gone = Vec::new();
        self.targets.retain(|id, target| {
            let keep = target.lost.is_none_or(|since| now < since + DISTANCE_MEMORY);
            if !keep {
                gone.push(*id);
                if let Some(version) = target.newest() {
                    memory.keep(*id, version);
                }
                if let Some(first) = target.first {
                    release(introduced, &first);
                }
            }
            keep
        });
        for id in gone {
            self.journal.note(id);
            self.release(now, &id, Ground::Heard);
        }
    }

    /// When [`Self::expire`] next has something to do, at the earliest.
    #[must_use]
    pub const fn next_expiry(&self) -> Option<Instant> {
        self.due
    }

    /// The way to a node.
    #[must_use]
    pub fn route(&self, to: &EntityId) -> Option<Route> {
        let target = self.targets.get(to)?;
        let via = target.selected?;
        self.route_over(target, target.offer(via)?)
    }

    /// Every way to a node that closes no loop, the one in use first, then by length.
    pub fn feasible(&self, to: &EntityId) -> Vec<Route> {
        let Some(target) = self.targets.get(to) else {
            return Vec::new();
        };
        let mut ways: Vec<Route> = target
            .offers
            .iter()
            .filter(|offer| target.admits(offer))
            .filter_map(|offer| self.route_over(target, offer))
            .collect();
        ways.sort_by_key(|way| (Some(way.via) != target.selected, way.rtt_us, way.next));
        ways
    }

    /// A neighbour other than `not` that says it reaches a node, whether or not its way may be used: the one in use, or the
    /// one that is nearest (RFC 8966 section 3.8.1.2).
    #[must_use]
    pub fn towards(&self, to: &EntityId, not: SessionKey) -> Option<SessionKey> {
        let target = self.targets.get(to)?;
        let selected = target.selected.filter(|&via| via != not);
        let others = target.offers.iter().filter(|offer| offer.via != not);
        selected.or_else(|| Some(others.min_by_key(|offer| (offer.rtt_us, offer.via))?.via))
    }

    /// The newest words of a node that are known.
    #[must_use]
    pub fn core(&self, of: &EntityId) -> Option<&Core> {
        Some(&self.targets.get(of)?.statements.last()?.core)
    }

    /// When the newest words of a node were first heard.
    #[must_use]
    pub fn heard(&self, of: &EntityId) -> Option<Instant> {
        Some(self.targets.get(of)?.statements.last()?.heard)
    }

    /// Every node that is reached, with the way there, by EntityId.
    pub fn reached(&self) -> impl Iterator<Item = (EntityId, Route)> + '_ {
        self.targets.iter().filter_map(|(id, target)| {
            let route = self.route_over(target, target.offer(target.selected?)?)?;
            Some((*id, route))
        })
    }

    /// How many nodes are reached.
    #[must_use]
    pub const fn reached_count(&self) -> usize {
        self.reached
    }

    /// Neighbours that say they reach a node in one hop, as far as kept.
    pub fn neighbours_of<'r>(&'r self, of: &EntityId) -> impl Iterator<Item = (SessionKey, EntityId)> + 'r {
        let offers = self.targets.get(of).map_or(&[][..], |target| &target.offers);
        offers
            .iter()
            .filter(|offer| offer.hops == 1)
            .filter_map(|offer| Some((offer.via, self.links.get(&offer.via)?.peer)))
    }

    /// How many nodes are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// What a neighbour is to be told of a node now, if anything. Whoever asks tells it.
    pub fn announcement(&mut self, of: &EntityId, to: SessionKey) -> Option<Announcement> {
        let target = self.targets.get_mut(of)?;
        let peer = self.links.get(&to)?.peer;
        let announced = target.announced;
        let offer = target.selected.and_then(|via| target.offer(via)).copied();
        // Nobody is told of itself, nor by the neighbour that the way leads over: it would not use it.
        let useful = peer != *of && target.selected != Some(to);
        if let (Some(announced), Some(offer), true) = (announced, offer, useful)
            && offer.ttl > 0
            && announced.hops <= MAX_HOPS
        {
            let statement = target.statement(announced.version).copied()?;
            target.told.insert(to);
            return Some(Announcement::Reached(Pingwave {
                core: statement.core,
                signature: statement.signature,
                hops: announced.hops,
                ttl: if mutant!(TtlKept) { offer.ttl } else { offer.ttl - 1 },
                rtt_us: announced.rtt_us,
            }));
        }
        let newest = target.statements.last()?.core.version;
        target.told.remove(&to).then_some(Announcement::Withdrawn(newest))
    }

    /// Every node that a new neighbour is to be told of.
    pub fn known(&self) -> impl Iterator<Item = EntityId> + '_ {
        self.targets
            .iter()
            .filter(|(_, target)| target.selected.is_some())
            .map(|(id, _)| *id)
    }

    fn route_over(&self, target: &Target, offer: &Offer) -> Option<Route> {
        let link = self.links.get(&offer.via)?;
        debug_assert!(target.offers.contains(offer));
        Some(Route {
            via: offer.via,
            next: link.peer,
            hops: offer.hops + 1,
            rtt_us: offer.rtt_us.saturating_add(link.cost_us),
            version: offer.version,
        })
    }

    /// Chooses anew among the offers of a node, and notes what follows.
    fn reselect(&mut self, now: Instant, id: &EntityId) {
        let Some(target) = self.targets.get(id) else { return };
        self.journal.note(*id);
        let routable = self.labels.holds(target.label, id);
        let mut ways: Vec<Route> = target
            .offers
            .iter()
            .filter(|offer| routable && offer.hops < MAX_HOPS && target.admits(offer))
            .filter_map(|offer| self.route_over(target, offer))
            .collect();
        // Equal lengths are decided by who the neighbour is, so that every run decides alike.
        ways.sort_unstable_by_key(|way| (way.rtt_us, way.hops, way.next));
        let current = target
            .selected
            .and_then(|via| ways.iter().find(|way| way.via == via))
            .copied();
        let chosen = match (ways.first().copied(), current) {
            (Some(best), Some(current)) if !shorter(best.rtt_us, current.rtt_us) => Some(current),
            (best, _) => best,
        };
        let offered = routable && !target.offers.is_empty();
        let wanted = target.feasible.map(|distance| distance.version.next());
        let Some(target) = self.targets.get_mut(id) else { return };
        let before = target.selected.is_some();
        target.take(now, *id, chosen.as_ref(), wanted.filter(|_| offered), &mut self.changes);
        match (before, chosen.is_some()) {
            (false, true) => self.reached += 1,
            (true, false) => self.reached -= 1,
            (true, true) | (false, false) => {}
        }
        target.prune();
        self.publish(id, &ways);
    }

    /// Notes when something about a node ends, and where what bears its label goes from now on: over those of `ways`, in
    /// order, that still close no circle after what was announced just now.
    fn publish(&mut self, id: &EntityId, ways: &[Route]) {
        let Some(target) = self.targets.get(id) else { return };
        let ends = target.ends(self.hold);
        self.due = match (self.due, ends) {
            (Some(due), Some(ends)) => Some(due.min(ends)),
            (due, ends) => due.or(ends),
        };
        let (selected, label) = (target.selected, target.label);
        let feasible = ways
            .iter()
            .filter(|way| Some(way.via) != selected && target.offer(way.via).is_some_and(|offer| target.admits(offer)))
            .map(|way| way.via);
        let next = NextHops::of(selected.into_iter().chain(feasible));
        self.labels.set_next_hops(label, id, next);
    }

    /// Asserts what must hold between turns: of every node where there are few, else of those that changed last.
    pub fn check_invariants(&self) {
        assert!(self.targets.len() <= MAX_TARGETS);
        self.labels.check();
        if self.targets.len() <= LOOKED_THROUGH {
            return self.targets.values().for_each(|target| self.check_target(target));
        }
        let recent = self.journal.since(self.mark().saturating_sub(LOOKED_AT));
        let changed = recent.into_iter().flatten().filter_map(|id| self.targets.get(&id));
        changed.for_each(|target| self.check_target(target));
    }

    fn check_target(&self, target: &Target) {
        assert!(target.offers.len() <= MAX_OFFERS);
        assert!(
            target.statements.len() <= MAX_OFFERS + 1,
            "statements belong to offers, or are the newest"
        );
        assert!(target.told.iter().all(|told| self.links.contains_key(told)));
        assert!(
            match (target.ends(self.hold), self.due) {
                (Some(ends), Some(due)) => due <= ends,
                (ends, _) => ends.is_none(),
            },
            "what ends is waited for"
        );
        for offer in &target.offers {
            assert!(self.links.contains_key(&offer.via), "an offer is of a neighbour");
            assert!(
                target.statement(offer.version).is_some(),
                "an offer rests on a known statement"
            );
        }
        let Some(via) = target.selected else {
            return assert!(target.announced.is_none());
        };
        let offer = target.offer(via).expect("what is selected is offered");
        let announced = target.announced.expect("what is selected was announced");
        let feasible = target.feasible.expect("what was announced bounds what is feasible");
        assert!(
            offer.version > feasible.version
                || (offer.version == feasible.version && offer.closest_us < feasible.rtt_us)
                || mutant!(FeasibilityForgotten),
            "the way in use is feasible"
        );
        assert!(announced.version <= feasible.version);
        assert_eq!(
            self.next_hop(target.label),
            Some(via),
            "what bears a label goes the way in use"
        );
    }
}

impl Target {
    /// When the first thing about it ends: an offer's statement, or the memory of what is lost.
    fn ends(&self, hold: Duration) -> Option<Instant> {
        match self.lost {
            Some(since) => Some(since + DISTANCE_MEMORY),
            None => self
                .offers
                .iter()
                .filter_map(|offer| self.statement(offer.version))
                .map(|known| known.heard + hold)
                .min(),
        }
    }

    fn statement(&self, version: Version) -> Option<&Statement> {
        self.statements.iter().find(|known| known.core.version == version)
    }

    /// The newest of its words that were believed or passed on.
    fn newest(&self) -> Option<Version> {
        let heard = self.statements.last().map(|known| known.core.version);
        heard.max(self.feasible.map(|distance| distance.version))
    }

    fn offer(&self, via: SessionKey) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.via == via)
    }

    /// When words at least as new as `version` were first heard, at the earliest.
    fn heard(&self, version: Version) -> Option<Instant> {
        let newer = self.statements.iter().filter(|known| known.core.version >= version);
        newer.map(|known| known.heard).min()
    }

    /// Whether an offer may be used.
    fn admits(&self, offer: &Offer) -> bool {
        mutant!(FeasibilityForgotten)
            || self
                .feasible
                .is_none_or(|distance| distance.admits(offer.version, offer.closest_us))
    }

    /// Takes in what an origin said. A statement that arrives late is no younger than what came after it.
    fn learn(&mut self, now: Instant, wave: &Pingwave) {
        let version = wave.core.version;
        let at = match self
            .statements
            .binary_search_by_key(&version, |known| known.core.version)
        {
            Ok(at) => {
                if mutant!(WordsOfOthers) {
                    self.statements[at].core = wave.core;
                }
                return;
            }
            Err(at) => at,
        };
        let heard = self.heard(version);
        self.statements.insert(
            at,
            Statement {
                core: wave.core,
                signature: wave.signature,
                heard: heard.unwrap_or(now),
            },
        );
    }

    /// Whether neighbours should hear of the way.
    fn is_news(&self, way: &Route) -> bool {
        self.announced.is_none_or(|announced| {
            announced.version != way.version || announced.hops != way.hops || differs(announced.rtt_us, way.rtt_us)
        })
    }

    /// Takes the way that was chosen, and notes what follows: where there is none, `wanted` is what its origin must say
    /// before there is one.
    fn take(
        &mut self,
        now: Instant,
        id: EntityId,
        chosen: Option<&Route>,
        wanted: Option<Version>,
        changes: &mut Vec<Change>,
    ) {
        let before = self.selected;
        self.selected = chosen.map(|way| way.via);
        let Some(way) = chosen else {
            self.announced = None;
            self.lost.get_or_insert(now);
            if before.is_some() {
                changes.push(Change::Lost(id));
                if !mutant!(WithdrawalUnsaid) {
                    changes.push(Change::Announce(id));
                }
            }
            if self.offers.is_empty()
                && let Some(over) = self.over.take()
            {
                changes.push(Change::Gone(id, over));
            }
            changes.extend(wanted.map(|version| Change::Starved(id, version)));
            return;
        };
        let moved = before != self.selected;
        match before {
            None => changes.push(Change::Found(id)),
            Some(_) if moved => changes.push(Change::Rerouted(id)),
            Some(_) => {}
        }
        self.lost = None;
        self.over = Some(way.next);
        // Another next hop is news to both: one may use this way now, the other must not.
        if moved || self.is_news(way) {
            let same = self.announced.is_some_and(|announced| announced.version == way.version);
            self.announce(way);
            changes.push(if same && !moved {
                Change::Measured(id)
            } else {
                Change::Announce(id)
            });
        }
    }

    /// What neighbours hear from now on, and what may therefore still be used.
    fn announce(&mut self, way: &Route) {
        self.announced = Some(Announced {
            version: way.version,
            hops: way.hops,
            rtt_us: way.rtt_us,
        });
        let closer = self
            .feasible
            .is_none_or(|distance| distance.admits(way.version, way.rtt_us));
        if closer {
            self.feasible = Some(Distance {
                version: way.version,
                rtt_us: way.rtt_us,
            });
        }
    }

    /// Forgets statements that nothing refers to.
    fn prune(&mut self) {
        let newest = self.statements.last().map(|known| known.core.version);
        let (offers, announced) = (&self.offers, self.announced);
        self.statements.retain(|known| {
            let version = known.core.version;
            Some(version) == newest
                || announced.is_some_and(|announced| announced.version == version)
                || offers.iter().any(|offer| offer.version == version)
        });
    }
}

/// Whether `new` is worth a change of way from `old`.
fn shorter(new: u32, old: u32) -> bool {
    new.saturating_add((old / HYSTERESIS).max(HYSTERESIS_US)) < old
}

/// Whether two lengths differ by more than measuring does.
fn differs(a: u32, b: u32) -> bool {
    a.abs_diff(b) > (a.min(b) / HYSTERESIS).max(HYSTERESIS_US)
}

fn release(introduced: &mut BTreeMap<EntityId, usize>, by: &EntityId) {
    if let Some(count) = introduced.get_mut(by) {
        *count -= 1;
        if *count == 0 {
            introduced.remove(by);
        }
    }
}
