//! What memory that was stolen gives away: a thief who recorded everything is given a process' memory at its time, and
//! tries every packet it recorded.
//!
//! What lives at that time is the thief's. What was sealed under keys that were replaced long enough before must stay
//! closed (THREATS, "thief of memory at time T").
//! The handshake generator's state is the thief's as well. It must make no ephemeral key of a handshake before, though the
//! thief knows every byte that the operating system lent until then, and of none after, since fresh bytes enter each
//! (PROTOCOL 4). A handshake whose ephemeral somebody has is open to him who has the identity too.
//! Invariants: looking changes nothing; the thief keeps a bounded number of packets, drawn by key.
//! Not here: which keys a process keeps, how handshakes use the generator (`net-kernel`).

use std::collections::{BTreeSet, VecDeque};

use net_kernel::wire::handshake::{Initiation, Response};
use net_kernel::wire::{Datagram, HandshakeKind, peek};
use net_sim_model::{Family, Key};

use super::World;
use crate::host::Host;
use crate::scenario::{AdversaryKind, Scenario};

/// A recorded packet.
#[derive(Clone, Debug)]
struct Kept {
    at: u64,
    ends: (u32, u32),
    bytes: Vec<u8>,
}

/// Recorded packets.
#[derive(Clone, Debug)]
pub struct Vault {
    key: Key,
    seen: u64,
    kept: Vec<Kept>,
}

/// Keys that were replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replaced {
    /// Whose.
    pub node: u32,
    /// With whom.
    pub peer: u32,
    /// When.
    pub at: u64,
}

/// The public ephemeral key that a handshake packet shows.
fn ephemeral(bytes: &[u8]) -> Option<[u8; 32]> {
    let Ok(Datagram::Handshake { kind, .. }) = peek(bytes) else {
        return None;
    };
    match kind {
        HandshakeKind::Initiation => Initiation::parse(bytes).ok()?.noise().first_chunk().copied(),
        HandshakeKind::Response => Response::parse(bytes).ok()?.noise().first_chunk().copied(),
        HandshakeKind::CookieReply => None,
    }
}

/// Whose handshakes are looked at, and what thieves can make of what they took.
#[derive(Clone, Debug)]
pub struct Thieves {
    /// Machines whose memory is revealed, or will be.
    victims: BTreeSet<u32>,
    /// The ephemerals of those machines, the latest: when, who, which of its processes, the key.
    shown: VecDeque<(u64, u32, u32, [u8; 32])>,
    taken: Vec<Taken>,
}

/// The state of a generator in a thief's hands.
#[derive(Clone, Debug)]
struct Taken {
    at: u64,
    node: u32,
    incarnation: u32,
    ephemerals: BTreeSet<[u8; 32]>,
}

impl Thieves {
    /// The thieves of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let adversaries = scenario.adversaries.iter();
        let victims = adversaries.filter_map(|adversary| {
            if let AdversaryKind::Reveal { node } = adversary.kind {
                Some(node)
            } else {
                None
            }
        });
        Self {
            victims: victims.collect(),
            shown: VecDeque::new(),
            taken: Vec::new(),
        }
    }

    /// Whether nothing is revealed in this scenario.
    pub fn none(&self) -> bool {
        self.victims.is_empty()
    }
}

/// Blocks of the operating system that a thief tries, the latest.
const BLOCKS: u64 = 32;
/// Ephemerals that are kept.
const SHOWN: usize = 4_096;
/// Packets a vault holds.
const MOST: usize = 4_096;
/// Packets seen so long before keys were replaced were sealed under the old ones, whatever was under way.
const SLACK: u64 = 2_000_000_000;

impl Vault {
    /// An empty vault that forgets by `key`.
    pub const fn new(key: Key) -> Self {
        Self {
            key,
            seen: 0,
            kept: Vec::new(),
        }
    }

    /// A packet passes from one machine to another.
    pub fn record(&mut self, at: u64, from: u32, to: u32, bytes: &[u8]) {
        self.seen += 1;
        let kept = Kept {
            at,
            ends: (from, to),
            bytes: bytes.to_vec(),
        };
        if self.kept.len() < MOST {
            return self.kept.push(kept);
        }
        let place = self.key.below(self.seen, self.seen) as usize;
        if place < MOST {
            self.kept[place] = kept;
        }
    }
}

impl<H: Host> World<H> {
    /// A datagram leaves a machine whose memory is revealed once: the ephemeral it shows is written down, and must be
    /// none that a thief who was there before can make.
    pub(super) fn overhear(&mut self, node: u32, slot: u32) {
        if !self.thieves.victims.contains(&node) {
            return;
        }
        let Some(key) = ephemeral(&self.pool.get(slot).bytes) else {
            return;
        };
        let incarnation = self.nodes[node as usize].incarnation;
        let Thieves { shown, taken, .. } = &mut self.thieves;
        if shown.len() == SHOWN {
            shown.pop_front();
        }
        shown.push_back((self.now, node, incarnation, key));
        let mut after = 0;
        let mut broken = None;
        for theft in taken
            .iter()
            .filter(|theft| (theft.node, theft.incarnation) == (node, incarnation))
        {
            after += 1;
            broken = broken.or(theft.ephemerals.contains(&key).then_some(theft.at));
        }
        *self.apps.counters.entry("reveal.after").or_default() += after;
        if let Some(at) = broken {
            let what = format!(
                "the generator of node {node}, revealed at {}, makes the ephemeral key of a handshake after it",
                seconds(at)
            );
            self.panel.fail(self.now, "forward-secrecy", what);
        }
    }

    /// An adversary is given the state of the handshake generator of `node`, and knows what the operating system lent it.
    fn reveal_generator(&mut self, node: u32) {
        let machine = &self.nodes[node as usize];
        let Some(host) = &machine.host else { return };
        let (incarnation, blocks) = (machine.incarnation, machine.entropy);
        let entropy = self.entropy(node, incarnation);
        let lent: Vec<[u8; 32]> = (blocks.saturating_sub(BLOCKS)..blocks)
            .map(|n| entropy.bytes32(n))
            .collect();
        let ephemerals: BTreeSet<[u8; 32]> = host.loot(&lent).into_iter().collect();
        let before = self
            .thieves
            .shown
            .iter()
            .filter(|shown| (shown.1, shown.2) == (node, incarnation));
        *self.apps.counters.entry("reveal.shown").or_default() += before.clone().count() as u64;
        let broken = before.into_iter().find(|(.., key)| ephemerals.contains(key));
        if let Some((at, ..)) = broken {
            let what = format!(
                "the generator of node {node}, revealed, makes again the ephemeral key of a handshake of {}",
                seconds(*at)
            );
            self.panel.fail(self.now, "forward-secrecy", what);
        }
        self.thieves.taken.push(Taken {
            at: self.now,
            node,
            incarnation,
            ephemerals,
        });
    }

    /// The operating system's bytes for one of a machine's processes.
    pub(super) fn entropy(&self, node: u32, incarnation: u32) -> Key {
        let key = self.secrets.key.family(Family::Entropy);
        key.with(self.number(node)).with(u64::from(incarnation))
    }

    /// An adversary is given the memory of `node`.
    pub(super) fn reveal(&mut self, adversary: u32, node: u32) {
        self.reveal_generator(node);
        let Some(host) = &self.nodes[node as usize].host else {
            return;
        };
        // A replaced key is kept while packets under it may arrive, and not much longer.
        let grace = self.scenario.config.previous_drain.as_nanos() * 2 + SLACK;
        let villain = &mut self.villains[adversary as usize];
        let (mut open, mut past, mut broken) = (0, 0, None);
        for kept in &villain.vault.kept {
            let peer = if kept.ends.0 == node { kept.ends.1 } else { kept.ends.0 };
            let old = self.replaced.iter().any(|replaced| {
                (replaced.node, replaced.peer) == (node, peer)
                    && kept.at + SLACK < replaced.at
                    && replaced.at + grace < self.now
            });
            past += u64::from(old);
            if host.opens(&kept.bytes) {
                open += 1;
                if old && broken.is_none() {
                    broken = Some(kept.at);
                }
            }
        }
        villain.made += open;
        *self.apps.counters.entry("reveal.past").or_default() += past;
        if let Some(at) = broken {
            let at = seconds(at);
            let what = format!("the memory of node {node} opens a packet of {at}, whose keys were replaced since");
            self.panel.fail(self.now, "forward-secrecy", what);
        }
    }
}

fn seconds(ns: u64) -> String {
    format!("{}.{:06} s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}
