//! What becomes of datagrams between machines.
//!
//! Invariants: every datagram is counted once when it comes to be and once when it ends.
//! Not here: what links do to them (`net-sim-model`), what adversaries decide (`adversary.rs`).

use std::collections::BTreeMap;
use std::rc::Rc;

use net_kernel::api::{Ecn, Input, RxBatch, RxBuf, Segment};
use net_kernel::base::{Addr, Epoch};
use net_kernel::wire::{Datagram, DropReason, HandshakeKind, peek};
use net_sim_model::{
    Corruption, Counts, Damage, Direction, Effect, FateKind, Key, Kinds, Link, LinkFault, LinkSpec, Listed,
};

use super::World;
use super::adversary::{self, Made, Meddling};
use super::event::What;
use super::forge;
use super::node::{self, SOCKET_BUFFER, State};
use super::pool::Pool;
use crate::check::{ADVERSARY, Observation, SOMEBODY, wants};
use crate::history::Fact;
use crate::host::{Host, Start};
use crate::scenario::{AdversaryKind, Fate, FaultKind, Happening, NodeIndex, SHORTCUT, Scenario};
use crate::trigger::Happened;

/// Datagrams handed over in one turn.
const BATCH: usize = 64;

/// One direction of a link in use.
#[derive(Debug)]
struct Way {
    link: Link,
    offered: u64,
    villains: Vec<u32>,
    /// When what was queued before it was healed has arrived, ns.
    queued_until: u64,
}

/// All links in use, made when first used.
#[derive(Debug)]
pub struct Links {
    scenario: Option<Rc<Scenario>>,
    key: Key,
    ways: Vec<Way>,
    /// `table[from][to]`: the way's number plus one.
    table: Vec<Vec<u32>>,
    healed: Option<Vec<u32>>,
    keeps_fates: bool,
    /// Windows of faults that events set off.
    windows: BTreeMap<u32, (u64, u64)>,
    /// What the links of machines on another network are like.
    interfaces: BTreeMap<u32, LinkSpec>,
}

impl Links {
    /// The links of a scenario.
    pub fn new(scenario: &Rc<Scenario>, key: Key) -> Self {
        Self {
            scenario: Some(Rc::clone(scenario)),
            key,
            ways: Vec::new(),
            table: Vec::new(),
            healed: None,
            keeps_fates: false,
            windows: BTreeMap::new(),
            interfaces: BTreeMap::new(),
        }
    }

    fn way(&mut self, from: u32, to: u32) -> &mut Way {
        if self.table.len() <= from as usize {
            self.table.resize(from as usize + 1, Vec::new());
        }
        let row = &mut self.table[from as usize];
        if row.len() <= to as usize {
            row.resize(to as usize + 1, 0);
        }
        if row[to as usize] == 0 {
            row[to as usize] = self.ways.len() as u32 + 1;
            let way = self.make(from, to);
            self.ways.push(way);
        }
        let index = self.table[from as usize][to as usize] - 1;
        &mut self.ways[index as usize]
    }

    /// The number of the next datagram on its way.
    pub fn next(&mut self, from: u32, to: u32) -> u64 {
        self.way(from, to).offered
    }

    fn make(&self, from: u32, to: u32) -> Way {
        let scenario = self.scenario.as_ref().expect("links are made for a scenario");
        let mut link = link_between(scenario, self.key, from, to);
        for (fault, (at, until)) in &self.windows {
            link.set_window(*fault, *at, *until);
        }
        if let Some(spec) = self.interface(from, to) {
            link.set_spec(spec);
        }
        if self.keeps_fates {
            link.keep_fates();
        }
        if let Some(core) = &self.healed {
            heal(&mut link, core, from, to);
        }
        let villains = scenario.adversaries.iter().enumerate();
        let villains = villains.filter(|(_, adversary)| sees(&adversary.kind, from, to));
        Way {
            link,
            offered: 0,
            queued_until: 0,
            villains: villains.map(|(index, _)| index as u32).collect(),
        }
    }

    /// Moves the window of a fault on every link.
    pub fn set_window(&mut self, fault: u32, at: u64, until: u64) {
        self.windows.insert(fault, (at, until));
        for way in &mut self.ways {
            way.link.set_window(fault, at, until);
        }
    }

    /// The links of a machine are like this, or as the scenario says again.
    pub fn set_interface(&mut self, node: u32, spec: Option<LinkSpec>) {
        match spec {
            Some(spec) => self.interfaces.insert(node, spec),
            None => self.interfaces.remove(&node),
        };
        let Some(scenario) = self.scenario.clone() else { return };
        let pairs: Vec<(u32, u32, u32)> = self
            .pairs()
            .filter(|(from, to, _)| *from == node || *to == node)
            .collect();
        for (from, to, index) in pairs {
            let spec = self
                .interface(from, to)
                .unwrap_or_else(|| spec_between(&scenario, from, to));
            self.ways[index as usize].link.set_spec(spec);
        }
    }

    fn interface(&self, from: u32, to: u32) -> Option<LinkSpec> {
        self.interfaces.get(&from).or_else(|| self.interfaces.get(&to)).cloned()
    }

    /// Every way in use: from, to, number.
    fn pairs(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        self.table.iter().enumerate().flat_map(|(from, row)| {
            let used = row.iter().enumerate().filter(|(_, index)| **index > 0);
            used.map(move |(to, index)| (from as u32, to as u32, index - 1))
        })
    }

    /// Heals what joins machines of the core (all, where it is empty).
    pub fn heal(&mut self, core: &[u32]) {
        self.healed = Some(core.to_vec());
        for (from, row) in self.table.iter().enumerate() {
            for (to, index) in row.iter().enumerate().filter(|(_, index)| **index > 0) {
                let way = &mut self.ways[*index as usize - 1];
                way.villains.clear();
                way.queued_until = way.link.queued_until();
                heal(&mut way.link, core, from as u32, to as u32);
            }
        }
    }

    /// When what was queued on a way before it was healed has arrived, ns; 0 where nothing was.
    pub fn queued_until(&self, from: u32, to: u32) -> u64 {
        let row = self.table.get(from as usize);
        let index = row.and_then(|row| row.get(to as usize)).copied().unwrap_or(0);
        let way = (index as usize).checked_sub(1).and_then(|index| self.ways.get(index));
        way.map_or(0, |way| way.queued_until)
    }

    /// Writes down from now on which chances of links take effect.
    pub fn keep_fates(&mut self) {
        self.keeps_fates = true;
        self.ways.iter_mut().for_each(|way| way.link.keep_fates());
    }

    /// The chances that took effect, as lists that give the same run.
    pub fn fates(&self, scenario: &Scenario) -> Vec<Fate> {
        let mut fates = Vec::new();
        for (from, row) in self.table.iter().enumerate() {
            for (to, index) in row.iter().enumerate().filter(|(_, index)| **index > 0) {
                let link = &self.ways[*index as usize - 1].link;
                fates.extend(taken(scenario, link, from as u32, to as u32));
            }
        }
        fates
    }

    /// What all links did.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.ways.iter().for_each(|way| sum.add(way.link.counts()));
        sum
    }

    /// How often each link fault had an effect.
    pub fn hits(&self, scenario: &Scenario) -> Vec<(String, u64)> {
        let mut hits = Vec::new();
        for (id, count) in self.ways.iter().flat_map(|way| way.link.hits()) {
            if let Some(fault) = scenario.faults.get(id as usize) {
                hits.push((fault.id.clone(), count));
            }
        }
        hits
    }
}

/// The direction of a link that leads from one machine of a scenario to another, with every fault of the scenario that
/// touches it. Its decisions stand under `key`, the run's: they are the same in every arm.
#[must_use]
pub fn link_between(scenario: &Scenario, key: Key, from: NodeIndex, to: NodeIndex) -> Link {
    let (a, b) = (scenario.number(from), scenario.number(to));
    let direction = if a < b { Direction::Forward } else { Direction::Backward };
    let number = a.min(b) << 16 | a.max(b) & 0xFFFF;
    let key = key.link(number, direction);
    let mut link = Link::new(spec_between(scenario, from, to), key);
    for (index, fault) in scenario.faults.iter().enumerate() {
        let FaultKind::Link { effect, .. } = &fault.kind else {
            continue;
        };
        if fault.kind.touches(from, to) {
            let (at, until) = fault.window();
            let one = LinkFault {
                id: index as u32,
                from: at,
                until,
                effect: effect.clone(),
            };
            link.add(one, key.with_text(&fault.id));
        }
    }
    for fate in scenario.fates.iter().filter(|fate| (fate.from, fate.to) == (from, to)) {
        let own = fate.of.as_ref().map(|of| key.with_text(of));
        link.list(fate.listed.clone(), own);
    }
    link
}

/// The chances of a link that took effect, as lists.
fn taken(scenario: &Scenario, link: &Link, from: NodeIndex, to: NodeIndex) -> Vec<Fate> {
    let mut lists: BTreeMap<(Option<u32>, FateKind), Vec<u64>> = BTreeMap::new();
    for struck in link.struck() {
        let list = lists.entry((struck.fault, struck.kind)).or_default();
        if list.last() != Some(&struck.n) {
            list.push(struck.n);
        }
    }
    let own = spec_between(scenario, from, to);
    let each = lists.into_iter().map(|((fault, kind), datagrams)| {
        let fault = fault.and_then(|fault| scenario.faults.get(fault as usize));
        let (mut hold, mut damage) = (own.hold, own.damage);
        if let Some(FaultKind::Link { effect, .. }) = fault.map(|fault| &fault.kind) {
            match effect {
                Effect::Reorder { hold: longest, .. } => hold = *longest,
                Effect::Corrupt { damage: how, .. } => damage = *how,
                Effect::Partition { .. }
                | Effect::Loss(_)
                | Effect::Delay(_)
                | Effect::Duplicate { .. }
                | Effect::Rate(_)
                | Effect::Mtu(_) => {}
            }
        }
        let listed = Listed {
            kind,
            hold,
            damage,
            datagrams,
        };
        Fate {
            from,
            to,
            of: fault.map(|fault| fault.id.clone()),
            listed,
        }
    });
    each.collect()
}

/// What the direction of a link is like while no fault is active.
#[must_use]
pub fn spec_between(scenario: &Scenario, from: NodeIndex, to: NodeIndex) -> LinkSpec {
    let own = scenario.links.iter().rev().find(|(a, b, _)| (*a, *b) == (from, to));
    own.map_or_else(|| scenario.default_link.clone(), |(_, _, spec)| spec.clone())
}

/// Heals a link for the liveness phase: clean between machines of the core (all, where it is empty), cut elsewhere.
pub fn heal(link: &mut Link, core: &[NodeIndex], from: NodeIndex, to: NodeIndex) {
    if core.is_empty() || (core.contains(&from) && core.contains(&to)) {
        link.heal();
    } else {
        link.cut();
    }
}

/// Whether an adversary of this kind sees what goes from one machine to another.
pub const fn sees(kind: &AdversaryKind, a: u32, b: u32) -> bool {
    match *kind {
        AdversaryKind::Garbage { .. } | AdversaryKind::HandshakeFlood { .. } | AdversaryKind::StolenKey { .. } => false,
        AdversaryKind::Replay { from, to, .. }
        | AdversaryKind::Reflect { from, to, .. }
        | AdversaryKind::Splice { from, to, .. }
        | AdversaryKind::Drop { from, to, .. }
        | AdversaryKind::Race { from, to, .. }
        | AdversaryKind::Forward { from, to, .. } => from == a && to == b,
        AdversaryKind::Member { node, .. } => node == a,
        AdversaryKind::Reveal { node } => node == a || node == b,
    }
}

impl<H: Host> World<H> {
    /// A process gave a datagram to its network.
    pub(super) fn transmit(&mut self, node: u32, slot: u32) {
        self.packets += 1;
        self.accounts.sent += 1;
        let packet = self.packets;
        let datagram = self.pool.get_mut(slot);
        datagram.packet = packet;
        self.accounts.bytes += datagram.bytes.len() as u64;
        datagram.origin = node;
        let to = datagram.to;
        if to == node::group() {
            return self.spread(node, slot);
        }
        let target = if self.nats.none() {
            Ok(node::owner(&to).filter(|target| (*target as usize) < self.nodes.len()))
        } else {
            self.route(node, slot)
        };
        self.tell_sent(node, slot, target.unwrap_or(None));
        if self.panel.wants(wants::SENT) {
            let sent = Observation::Sent {
                node,
                to,
                mono: self.nodes[node as usize].now(self.now).mono.as_nanos(),
                bytes: &self.pool.get(slot).bytes,
            };
            self.panel.observe(self.now, wants::SENT, &sent);
        }
        if !self.thieves.none() {
            self.overhear(node, slot);
        }
        if self.triggers.datagrams() {
            self.happened_to(Happening::Sent, node, slot);
        }
        match target {
            Ok(Some(target)) => self.travel(node, target, slot),
            Ok(None) => self.leave(node, slot, to),
            Err(cause) => self.lose(slot, cause),
        }
    }

    #[cold]
    fn happened_to(&mut self, event: Happening, node: u32, slot: u32) {
        let kind = Some(kind_of(&self.pool.get(slot).bytes));
        self.happened(Happened {
            kind,
            ..Happened::at(event, node)
        });
    }

    /// A datagram for an address that is no machine's: an adversary's, or nobody's.
    fn leave(&mut self, sender: u32, slot: u32, to: Addr) {
        let index = node::adversary(&to).filter(|index| (*index as usize) < self.villains.len());
        let Some(index) = index else {
            return self.lose(slot, "nobody");
        };
        let villain = &self.villains[index as usize];
        let AdversaryKind::Forward { back, delay, .. } = villain.spec.kind else {
            return self.lose(slot, "adversary");
        };
        let (address, victim) = (villain.address, villain.victim());
        // What the victim sends it goes to the victim's peer, and the other way round.
        let next = if sender == victim {
            villain.client
        } else {
            Some(self.outside_address(victim))
        };
        match next.filter(|_| back && villain.active(self.now)) {
            Some(next) => {
                let copy = self.pool.copy(slot);
                let datagram = self.pool.get_mut(copy);
                (datagram.from, datagram.to) = (address, next);
                self.inject(index, copy, delay);
                self.lose(slot, "adversary");
            }
            None => self.lose(slot, "adversary"),
        }
    }

    pub(super) fn travel(&mut self, from: u32, to: u32, slot: u32) {
        let way = self.links.way(from, to);
        if !way.villains.is_empty() {
            let villains = way.villains.clone();
            if !self.pass_villains(&villains, from, to, slot) {
                return self.lose(slot, "adversary");
            }
        }
        let bytes = &self.pool.get(slot).bytes;
        let way = self.links.way(from, to);
        let fates = if way.link.by_kind() {
            way.link.offer_kind(self.now, way.offered, bytes.len(), kind_of(bytes))
        } else {
            way.link.offer(self.now, way.offered, bytes.len())
        };
        way.offered += 1;
        let carries_marks = way.link.carries_marks();
        let first = match fates.first {
            Ok(first) => first,
            Err(cause) => return self.lose(slot, cause.name()),
        };
        let datagram = self.pool.get_mut(slot);
        if datagram.ecn != Ecn::NotEct {
            datagram.ecn = match (carries_marks, first.marked) {
                (false, _) => Ecn::NotEct,
                (true, false) => datagram.ecn,
                (true, true) => Ecn::Ce,
            };
        }
        if let Some(second) = fates.second {
            let copy = self.pool.copy(slot);
            self.accounts.duplicated += 1;
            self.tell_fate(None, copy, |packet| Fact::Doubled { packet });
            let at = gathered(self.scenario.coalesce, second.at);
            self.queue.push(at, What::Arrive { slot: copy, node: to });
        }
        if let Some(corruption) = first.corrupt {
            let datagram = self.pool.get_mut(slot);
            corruption.apply(&mut datagram.bytes);
            (datagram.forged, datagram.digest) = (true, None);
            self.tell_fate(None, slot, |packet| Fact::Damaged {
                packet,
                adversary: None,
            });
        }
        if fates.reordered {
            let until = first.at;
            self.tell_fate(None, slot, |packet| Fact::Held { packet, until });
        }
        let at = gathered(self.scenario.coalesce, first.at);
        self.queue.push(at, What::Arrive { slot, node: to });
    }

    /// Lets adversaries on the way act; answers whether the datagram goes on.
    fn pass_villains(&mut self, villains: &[u32], from: u32, to: u32, slot: u32) -> bool {
        let mut passes = true;
        for &index in villains {
            let datagram = self.pool.get(slot);
            let (source, target, packet) = (datagram.from, datagram.to, datagram.packet);
            let villain = &mut self.villains[index as usize];
            let meddling = villain.look(self.now, from, to, source, &datagram.bytes, packet);
            if matches!(villain.spec.kind, AdversaryKind::Replay { .. }) {
                self.pool.get_mut(slot).copied = true;
            }
            let address = self.villains[index as usize].address;
            match meddling {
                Meddling::None => {}
                Meddling::Drop => passes = false,
                Meddling::Reflect => {
                    let copy = self.pool.copy(slot);
                    let datagram = self.pool.get_mut(copy);
                    (datagram.from, datagram.to) = (target, source);
                    self.inject(index, copy, SHORTCUT);
                }
                Meddling::Race(word) => {
                    let copy = self.pool.copy(slot);
                    let datagram = self.pool.get_mut(copy);
                    Corruption {
                        damage: Damage::Bits,
                        word,
                    }
                    .apply(&mut datagram.bytes);
                    (datagram.forged, datagram.digest) = (true, None);
                    self.inject(index, copy, SHORTCUT);
                }
                Meddling::Forward(delay) => {
                    let copy = self.pool.copy(slot);
                    self.pool.get_mut(copy).from = address;
                    self.inject(index, copy, delay);
                }
                Meddling::Splice => {
                    let copy = self.pool.copy(slot);
                    let datagram = self.pool.get_mut(copy);
                    self.villains[index as usize].splice(&mut datagram.bytes);
                    (datagram.forged, datagram.digest) = (true, None);
                    self.inject(index, copy, SHORTCUT);
                }
                Meddling::Lie(lies) => {
                    let (liar, datagram) = (self.entities[from as usize], self.pool.get_mut(slot));
                    let lied =
                        self.villains[index as usize].lie(self.now, lies, &mut datagram.bytes, &liar, &self.entities);
                    if lied {
                        (datagram.forged, datagram.digest) = (true, None);
                        self.tell_fate(None, slot, |packet| Fact::Damaged {
                            packet,
                            adversary: Some(index),
                        });
                    }
                }
                Meddling::Mutate(word) => {
                    let datagram = self.pool.get_mut(slot);
                    adversary::mutate(&mut datagram.bytes, word);
                    (datagram.forged, datagram.digest) = (true, None);
                    self.tell_fate(None, slot, |packet| Fact::Damaged {
                        packet,
                        adversary: Some(index),
                    });
                }
            }
        }
        passes
    }

    /// An adversary sends: past every link.
    fn inject(&mut self, adversary: u32, slot: u32, after: u64) {
        self.accounts.injected += 1;
        let to = self.pool.get(slot).to;
        let target = if to == node::group() {
            Ok(self.villains[adversary as usize].victim())
        } else {
            self.reach(&to)
        };
        let before = self.cursor.get();
        self.tell_injected(adversary, slot, target.ok());
        self.cursor.set(before);
        match target {
            Ok(node) => self.queue.push(self.now + after, What::Arrive { slot, node }),
            Err(cause) => self.lose(slot, cause),
        }
    }

    /// An adversary's time has come.
    pub(super) fn strike(&mut self, index: u32) {
        let villain = &self.villains[index as usize];
        if !villain.active(self.now) || self.healed {
            return;
        }
        if let AdversaryKind::Reveal { node } = villain.spec.kind {
            return self.reveal(index, node);
        }
        let Some(pause) = villain.pause() else { return };
        let victim = villain.victim();
        let spoof = villain.pretends().map(|node| self.outside_address(node));
        let address = self.outside_address(victim);
        // Fast adversaries act in bursts, so that a flood costs one event per burst.
        let burst = (BURST / pause).max(1);
        for n in 0..burst {
            let entity = &self.entities[victim as usize];
            let villain = &mut self.villains[index as usize];
            if villain.pause().is_none() {
                break;
            }
            let made = match villain.forges() {
                Some((name, key, n)) => self.forge(victim, name, key, n),
                None => villain.make(entity, &self.secrets.network, spoof),
            };
            let Some(made) = made else {
                break;
            };
            if n == 0 {
                self.tell_on(None, || Fact::Strike { adversary: index });
            }
            let aim = if adversary::is_beacon(&made.bytes) {
                node::group()
            } else {
                address
            };
            let slot = self.pool.take(made.from, aim, 0);
            let datagram = self.pool.get_mut(slot);
            datagram.bytes.extend_from_slice(&made.bytes);
            match made.copy_of {
                Some(packet) => (datagram.packet, datagram.copied, datagram.origin) = (packet, true, SOMEBODY),
                None => datagram.forged = true,
            }
            self.inject(index, slot, SHORTCUT);
        }
        self.queue
            .push(self.now + pause * burst, What::Strike { adversary: index });
    }

    /// A first message in the name of `name`, from its own address or from elsewhere, of an epoch 23 hours ahead.
    fn forge(&self, victim: u32, name: u32, key: Key, n: u64) -> Option<Made> {
        const AHEAD: u64 = 23 * 3_600 * 1_000_000_000;
        let now = self.nodes[victim as usize].now(self.now);
        let start = Start {
            node: u32::MAX,
            identity: self.identity(name),
            seed: key.bytes32(0),
            epoch: Epoch(now.wall.0 + AHEAD),
            network: self.scenario.closed.then(|| self.secrets.network.reveal().0),
            allow: None,
            config: self.scenario.config.clone(),
            mesh: None,
            lanes: 1,
            peers: Vec::new(),
        };
        let address = self.outside_address(victim);
        let bytes = forge::first_message::<H>(start, now, self.entities[victim as usize], address, key.with(1))?;
        let from = if n.is_multiple_of(2) {
            self.outside_address(name)
        } else {
            node::spoofed(key.at(2))
        };
        Some(Made {
            from,
            bytes,
            copy_of: None,
        })
    }

    fn lose(&mut self, slot: u32, cause: &'static str) {
        self.lose_at(None, slot, cause);
    }

    /// A datagram ends undelivered, at a machine or on its way.
    fn lose_at(&mut self, node: Option<u32>, slot: u32, cause: &'static str) {
        self.tell_fate(node, slot, |packet| Fact::Dropped { packet, cause });
        self.accounts.drop(cause);
        self.pool.free(slot);
    }

    /// Datagrams reach a machine: this one, and those that reach it at the same instant.
    pub(super) fn arrive(&mut self, slot: u32, node: u32) {
        self.batch.clear();
        let mut next = Some(slot);
        while let Some(slot) = next.take() {
            self.take_in(slot, node);
            if self.batch.len() == BATCH {
                self.hand_over(node);
            }
            if let Some(entry) = self.queue.peek()
                && entry.at == self.now
                && let What::Arrive { slot, node: other } = entry.what
                && other == node
            {
                self.queue.pop();
                next = Some(slot);
            }
        }
        self.hand_over(node);
    }

    fn take_in(&mut self, slot: u32, node: u32) {
        let to = self.pool.get(slot).to;
        if self.nodes[node as usize].address != to
            && to != node::group()
            && let Err(cause) = self.let_in(slot, node)
        {
            return self.lose_at(Some(node), slot, cause);
        }
        let machine = &mut self.nodes[node as usize];
        let datagram = self.pool.get(slot);
        match machine.state {
            State::Running => {}
            State::Paused => {
                let len = datagram.bytes.len();
                if machine.backlog_bytes + len > SOCKET_BUFFER {
                    return self.lose_at(Some(node), slot, "socket");
                }
                machine.backlog_bytes += len;
                machine.backlog.push_back(slot);
                self.tell_fate(Some(node), slot, |packet| Fact::Waits { packet });
                return;
            }
            State::Suspended | State::Down => return self.lose_at(Some(node), slot, "down"),
        }
        if to == node::group() {
            // A socket of its own brings it: it is told alone.
            self.hand_over(node);
            self.batch.push(slot);
            return self.hand_over(node);
        }
        if datagram.copied && !datagram.forged && !self.copies.insert((node, datagram.packet)) {
            // A copy of what was handed over before: alone, so that what it does can be told. Where packets are opened ahead of
            // their batch it may lie in one with its original; then no more than the others are accepted.
            let packet = datagram.packet;
            let is_original = |other: &u32| {
                let other = self.pool.get(*other);
                other.packet == packet && !other.forged
            };
            if self.scenario.lanes == 1 || !self.batch.iter().any(is_original) {
                self.hand_over(node);
            }
            let others = self.batch.len() as u64;
            let before = self.accepted(node);
            self.batch.push(slot);
            self.again = true;
            self.hand_over(node);
            self.again = false;
            let accepted = self.accepted(node).saturating_sub(before + others);
            self.panel
                .observe(self.now, wants::COPY, &Observation::Copy { node, accepted });
            return;
        }
        self.batch.push(slot);
    }

    /// A datagram is handed over: who sent it, and that it arrived where it was sent to.
    fn tell_reached(&mut self, node: u32, slot: u32, from: Addr, len: usize) {
        let datagram = self.pool.get(slot);
        let (by, address) = (datagram.origin, datagram.aimed);
        let received = Observation::Received { node, from, by, len };
        self.panel.observe(self.now, wants::RECEIVED, &received);
        if by != ADVERSARY && by != SOMEBODY {
            let reached = Observation::Reached {
                node: by,
                address,
                by: node,
            };
            self.panel.observe(self.now, wants::RECEIVED, &reached);
        }
    }

    /// Packets that a machine refused as replays.
    fn replayed(&self, node: u32) -> u64 {
        let host = self.nodes[node as usize].host.as_ref();
        host.map_or(0, |host| host.drops().get(DropReason::Replayed))
    }

    /// Packets that the live sessions of a machine accepted.
    fn accepted(&self, node: u32) -> u64 {
        let Some(host) = &self.nodes[node as usize].host else {
            return 0;
        };
        let sessions = self.apps.sessions[node as usize].keys();
        sessions
            .filter_map(|session| host.stats(*session))
            .map(|stats| stats.received)
            .sum()
    }

    fn hand_over(&mut self, node: u32) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let mut buffers = std::mem::take(&mut self.buffers);
        self.accounts.delivered += batch.len() as u64;
        for &slot in &batch {
            let datagram = self.pool.get_mut(slot);
            let (from, len) = (datagram.from, datagram.bytes.len());
            buffers.push(std::mem::take(&mut datagram.bytes));
            let bytes = len as u32;
            self.tell_fate(Some(node), slot, |packet| Fact::Delivered {
                from,
                len: bytes,
                packet,
            });
            self.cursor.set(self.pool.get(slot).entry);
            if self.pool.get(slot).to != node::group() {
                self.tell_reached(node, slot, from, len);
            }
        }
        let genuine =
            self.panel.wants(wants::GENUINE) && !self.again && batch.iter().all(|slot| !self.pool.get(*slot).forged);
        let before = if genuine { self.replayed(node) } else { 0 };
        self.cursor.set(self.pool.get(batch[0]).entry);
        self.handed = batch.len() as u32;
        if self.triggers.datagrams() {
            // The bytes are lent: kinds are told by what was taken out.
            for bytes in &buffers {
                let kind = Some(kind_of(bytes));
                let event = Happening::Received;
                self.happened(Happened {
                    kind,
                    ..Happened::at(event, node)
                });
            }
        }
        // Most batches are of one datagram: they need no list on the heap.
        if let ([slot], [bytes]) = (&batch[..], &buffers[..])
            && self.pool.get(*slot).to == node::group()
        {
            let from = self.pool.get(*slot).from;
            self.turn(node, Input::Segment(Segment::Heard { from, bytes }));
        } else if let ([slot], [bytes]) = (&batch[..], &mut buffers[..]) {
            let mut lent = [lend(&self.pool, *slot, bytes)];
            self.turn(node, Input::Datagrams(RxBatch::new(&mut lent)));
        } else {
            let each = batch.iter().zip(&mut buffers);
            let mut lent: Vec<RxBuf<'_>> = each.map(|(slot, bytes)| lend(&self.pool, *slot, bytes)).collect();
            self.turn(node, Input::Datagrams(RxBatch::new(&mut lent)));
        }
        if genuine {
            let replayed = self.replayed(node).saturating_sub(before);
            let seen = Observation::Genuine { node, replayed };
            self.panel.observe(self.now, wants::GENUINE, &seen);
        }
        for (&slot, bytes) in batch.iter().zip(buffers.drain(..)) {
            self.pool.get_mut(slot).bytes = bytes;
            self.pool.free(slot);
        }
        self.buffers = buffers;
        self.batch = batch;
        self.batch.clear();
    }
}

/// When a datagram is handed over that arrives at `at`.
const fn gathered(coalesce: u64, at: u64) -> u64 {
    if coalesce == 0 {
        at
    } else {
        at.next_multiple_of(coalesce)
    }
}

/// The kind of a datagram as a link tells it.
pub fn kind_of(bytes: &[u8]) -> Kinds {
    match peek(bytes) {
        Ok(Datagram::Handshake { kind, .. }) => match kind {
            HandshakeKind::Initiation => Kinds::INITIATION,
            HandshakeKind::Response => Kinds::RESPONSE,
            HandshakeKind::CookieReply => Kinds::COOKIE,
        },
        Ok(Datagram::Protected { .. } | Datagram::Routed) | Err(_) => Kinds::PROTECTED,
    }
}

/// A datagram as it is lent to a host; its bytes were taken out of its slot.
fn lend<'b>(pool: &Pool, slot: u32, data: &'b mut [u8]) -> RxBuf<'b> {
    let datagram = pool.get(slot);
    RxBuf {
        from: datagram.from,
        ecn: datagram.ecn,
        stride: 0,
        data,
        digest: datagram.digest,
    }
}

/// An adversary's datagrams within this time leave at once.
const BURST: u64 = 1_000_000;
