//! Adversaries: what they see, make up, copy, hold back and change.
//!
//! Invariants: what an adversary does is keyed by its name and by the n-th occasion; it uses only what its position lets
//! it have.
//! Not here: how its datagrams travel (`net.rs`).

use std::collections::BTreeMap;

use net_kernel::base::{Addr, EntityId, SessionId};
use net_kernel::trust::NetworkKey;
use net_kernel::wire::beacon::HEAD;
use net_kernel::wire::handshake::{INITIATION_NOISE_LEN, Initiation, MAC_LEN, Suite};
use net_kernel::wire::mesh::{CORE_LEN, SIGNATURE_LEN};
use net_kernel::wire::{Datagram, HEADER_LEN, HandshakeKind, TAG_LEN, peek};
use net_sim_model::{Family, Key};

use super::net::sees;
use super::node::{adversary_address, spoofed};
use super::reveal::Vault;
use crate::aead;
use crate::scenario::{Adversary, AdversaryKind, Lie, Pick};

/// A recorded datagram.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The source it had.
    pub from: Addr,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The transmission it was.
    pub packet: u64,
}

/// An adversary at work.
#[derive(Debug)]
pub struct Villain {
    /// What it can do.
    pub spec: Adversary,
    /// Its own address.
    pub address: Addr,
    key: Key,
    /// Occasions so far.
    seen: u64,
    /// Datagrams made so far.
    pub made: u64,
    /// What it recorded.
    recorded: Vec<Recorded>,
    /// The packet that passed last, and the one before it.
    last: Vec<u8>,
    before: Vec<u8>,
    /// What it recorded to read once memory is revealed.
    pub vault: Vault,
    /// What it heard each machine say first.
    heard: BTreeMap<EntityId, Vec<u8>>,
    /// What it heard each machine say last, and when.
    latest: BTreeMap<EntityId, (u64, Vec<u8>)>,
    /// Whom it forwards for: the victim's peer.
    pub client: Option<Addr>,
}

/// A machine that was not heard of for so long is forgotten by everybody: a route's hold, and the memory of its distance.
const LONG_GONE: u64 = 200_000_000_000;

/// Most datagrams an adversary keeps.
const MEMORY: usize = 4_096;

/// Datagrams an adversary keeps to send again what lies far behind: twice the replay window.
const MOST_BEHIND: u64 = 16_384;

/// What an adversary does to a datagram that passes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meddling {
    /// Nothing.
    None,
    /// It does not pass.
    Drop,
    /// It goes back to its sender as well.
    Reflect,
    /// A damaged copy arrives first; the word says how it is damaged.
    Race(u64),
    /// A copy from the adversary's address arrives first.
    Forward(u64),
    /// A packet with its header and the body of the one before arrives first.
    Splice,
    /// Its plaintext is changed and it is sealed again; the word says how.
    Mutate(u64),
    /// What it says of other machines is changed and sealed again.
    Lie(Lie),
}

/// A datagram an adversary makes.
#[derive(Clone, Debug)]
pub struct Made {
    /// The source it claims.
    pub from: Addr,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The transmission it is a copy of.
    pub copy_of: Option<u64>,
}

impl Villain {
    /// Adversary number `index` of a world under `key`.
    pub fn new(index: u32, mut spec: Adversary, key: Key) -> Self {
        if spec.when.is_some() {
            // Not before its event.
            (spec.at, spec.until) = (u64::MAX, u64::MAX);
        }
        let key = adversary_key(key, &spec.id);
        Self {
            spec,
            address: adversary_address(index),
            key,
            seen: 0,
            made: 0,
            recorded: Vec::new(),
            last: Vec::new(),
            before: Vec::new(),
            heard: BTreeMap::new(),
            latest: BTreeMap::new(),
            vault: Vault::new(key),
            client: None,
        }
    }

    /// Whether it is at work.
    pub const fn active(&self, now: u64) -> bool {
        now >= self.spec.at && now < self.spec.until
    }

    /// Time between two datagrams it makes; `None` where it makes none by itself, or no more.
    pub fn pause(&self) -> Option<u64> {
        let (count, rate_milli) = match self.spec.kind {
            AdversaryKind::Garbage { count, rate_milli, .. }
            | AdversaryKind::HandshakeFlood { count, rate_milli, .. }
            | AdversaryKind::StolenKey { count, rate_milli, .. }
            | AdversaryKind::Replay { count, rate_milli, .. } => (count, rate_milli),
            AdversaryKind::Reflect { .. }
            | AdversaryKind::Drop { .. }
            | AdversaryKind::Race { .. }
            | AdversaryKind::Splice { .. }
            | AdversaryKind::Reveal { .. }
            | AdversaryKind::Forward { .. }
            | AdversaryKind::Member { .. } => return None,
        };
        (self.made < count).then(|| (1_000_000_000_000 / rate_milli.max(1)).max(1))
    }

    /// Whom it attacks.
    pub const fn victim(&self) -> u32 {
        match self.spec.kind {
            AdversaryKind::Garbage { to, .. }
            | AdversaryKind::HandshakeFlood { to, .. }
            | AdversaryKind::StolenKey { to, .. }
            | AdversaryKind::Replay { to, .. }
            | AdversaryKind::Reflect { to, .. }
            | AdversaryKind::Splice { to, .. }
            | AdversaryKind::Drop { to, .. }
            | AdversaryKind::Race { to, .. }
            | AdversaryKind::Forward { to, .. } => to,
            AdversaryKind::Member { node, .. } | AdversaryKind::Reveal { node } => node,
        }
    }

    /// Changes what a packet says of machines other than `liar`; answers whether it changed anything.
    pub fn lie(&mut self, now: u64, lies: Lie, bytes: &mut [u8], liar: &EntityId, known: &[EntityId]) -> bool {
        const KIND: u8 = 1;
        const SAID: usize = CORE_LEN + SIGNATURE_LEN;
        let Some(end) = bytes.len().checked_sub(TAG_LEN) else {
            return false;
        };
        let (mut at, mut lied) = (HEADER_LEN, false);
        while at + 1 + SAID + 6 <= end {
            let said = at + 1;
            let origin = known
                .iter()
                .find(|node| bytes[at] == KIND && bytes[said..said + 32] == node.0 && *node != liar);
            let Some(origin) = origin else {
                at += 1;
                continue;
            };
            match lies {
                Lie::Bytes => {}
                // One hop and one microsecond.
                Lie::Metrics => {
                    bytes[said + SAID] = 1;
                    bytes[said + SAID + 2..said + SAID + 6].copy_from_slice(&1u32.to_le_bytes());
                }
                Lie::Counts => bytes[said + 41] = bytes[said + 41].wrapping_add(4),
                Lie::Names => bytes[said..said + 32].copy_from_slice(blake3::hash(&origin.0).as_bytes()),
                // Fully loaded, and leaving.
                Lie::Words => {
                    bytes[said + 48..said + 50].copy_from_slice(&1_000u16.to_le_bytes());
                    bytes[said + 50] = 2;
                }
                Lie::Replays => {
                    let first = self
                        .heard
                        .entry(*origin)
                        .or_insert_with(|| bytes[said..said + SAID].to_vec());
                    bytes[said..said + SAID].copy_from_slice(first);
                }
                Lie::Revives => {
                    let gone = self.latest.values().find(|(at, _)| *at + LONG_GONE < now);
                    let Some((_, words)) = gone else {
                        self.latest.insert(*origin, (now, bytes[said..said + SAID].to_vec()));
                        at = said + SAID + 6;
                        continue;
                    };
                    bytes[said..said + SAID].copy_from_slice(words);
                }
            }
            lied = true;
            at = said + SAID + 6;
        }
        if lied {
            aead::reseal(bytes);
        }
        lied
    }

    /// The header of `bytes` with the body of the packet before.
    pub fn splice(&self, bytes: &mut Vec<u8>) {
        if bytes.len() >= HEADER_LEN && self.before.len() >= HEADER_LEN {
            bytes.truncate(HEADER_LEN);
            bytes.extend_from_slice(&self.before[HEADER_LEN..]);
        }
    }

    /// The node it pretends to be.
    pub fn pretends(&self) -> Option<u32> {
        if let AdversaryKind::Garbage { spoof, .. } = self.spec.kind {
            spoof
        } else {
            None
        }
    }

    /// The node in whose name it makes first messages, and the key of the next one.
    pub fn forges(&mut self) -> Option<(u32, Key, u64)> {
        let AdversaryKind::StolenKey { name, .. } = self.spec.kind else {
            return None;
        };
        self.made += 1;
        Some((name, self.key.with(5).with(self.made), self.made))
    }

    /// A datagram goes from `from` to `to` before its eyes. It may record it and answers what it does about it.
    pub fn look(&mut self, now: u64, from: u32, to: u32, source: Addr, bytes: &[u8], packet: u64) -> Meddling {
        if matches!(self.spec.kind, AdversaryKind::Reveal { .. }) {
            // It records until its time comes; then it has what it wanted.
            if now < self.spec.at {
                self.vault.record(now, from, to, bytes);
            }
            return Meddling::None;
        }
        if !self.active(now) || !sees(&self.spec.kind, from, to) {
            return Meddling::None;
        }
        let word = self.key.with(3).at(self.seen);
        match self.spec.kind {
            AdversaryKind::Splice { pick, ppb, .. } => {
                if picks(pick, bytes) {
                    self.before = std::mem::replace(&mut self.last, bytes.to_vec());
                }
                if self.before.is_empty() {
                    return Meddling::None;
                }
                self.chance(pick, ppb, bytes, Meddling::Splice)
            }
            AdversaryKind::Replay { pick, .. } => {
                if picks(pick, bytes) {
                    self.record(source, bytes, packet);
                }
                Meddling::None
            }
            AdversaryKind::Reflect { pick, ppb, .. } => self.chance(pick, ppb, bytes, Meddling::Reflect),
            AdversaryKind::Drop { pick, ppb, .. } => self.chance(pick, ppb, bytes, Meddling::Drop),
            AdversaryKind::Race { pick, ppb, .. } => self.chance(pick, ppb, bytes, Meddling::Race(word)),
            AdversaryKind::Forward { ppb, delay, .. } => {
                self.client = Some(source);
                self.chance(Pick::All, ppb, bytes, Meddling::Forward(delay))
            }
            AdversaryKind::Member { ppb, lies, .. } => {
                let meddling = match lies {
                    Lie::Bytes => Meddling::Mutate(word),
                    Lie::Metrics | Lie::Counts | Lie::Names | Lie::Words | Lie::Replays | Lie::Revives => {
                        Meddling::Lie(lies)
                    }
                };
                self.chance(Pick::Protected, ppb, bytes, meddling)
            }
            AdversaryKind::Garbage { .. }
            | AdversaryKind::HandshakeFlood { .. }
            | AdversaryKind::StolenKey { .. }
            | AdversaryKind::Reveal { .. } => Meddling::None,
        }
    }

    fn chance(&mut self, pick: Pick, ppb: u64, bytes: &[u8], meddling: Meddling) -> Meddling {
        if !picks(pick, bytes) {
            return Meddling::None;
        }
        self.seen += 1;
        if self.key.hits(self.seen, ppb) {
            self.made += 1;
            meddling
        } else {
            Meddling::None
        }
    }

    fn record(&mut self, from: Addr, bytes: &[u8], packet: u64) {
        let recorded = Recorded {
            from,
            bytes: bytes.to_vec(),
            packet,
        };
        if let AdversaryKind::Replay {
            behind: Some(behind), ..
        } = self.spec.kind
        {
            // A ring with the wanted datagram at its oldest place.
            let place = (self.seen % (behind.min(MOST_BEHIND) + 1)) as usize;
            self.seen += 1;
            if place < self.recorded.len() {
                self.recorded[place] = recorded;
            } else {
                self.recorded.push(recorded);
            }
            return;
        }
        self.seen += 1;
        if self.recorded.len() < MEMORY {
            self.recorded.push(recorded);
        } else {
            let place = self.key.with(4).below(self.seen, MEMORY as u64);
            self.recorded[place as usize] = recorded;
        }
    }

    /// Makes its next datagram; `None` where it has nothing to send. `entity` is the victim's identity, `network` the
    /// network key where the adversary holds it, `spoof` the address it pretends to have.
    pub fn make(&mut self, entity: &EntityId, network: &NetworkKey, spoof: Option<Addr>) -> Option<Made> {
        if let AdversaryKind::Replay {
            behind: Some(behind), ..
        } = self.spec.kind
            && self.seen <= behind.min(MOST_BEHIND)
        {
            return None;
        }
        let n = self.made;
        self.made += 1;
        let word = self.key.at(n);
        match self.spec.kind {
            AdversaryKind::Garbage { .. } => {
                let from = spoof.unwrap_or_else(|| spoofed(self.key.with(1).at(n)));
                Some(Made {
                    from,
                    bytes: self.garbage(n),
                    copy_of: None,
                })
            }
            AdversaryKind::HandshakeFlood {
                network_key, sources, ..
            } => {
                let source = if sources == 0 { n } else { n % sources };
                let from = spoofed(self.key.with(1).at(source));
                let bytes = self.initiation(n, entity, network_key.then_some(network));
                Some(Made {
                    from,
                    bytes,
                    copy_of: None,
                })
            }
            AdversaryKind::Replay {
                own_address, behind, ..
            } => {
                let index = match behind {
                    None => net_sim_model::key::scale(word, self.recorded.len() as u64) as usize,
                    Some(behind) => (self.seen % (behind.min(MOST_BEHIND) + 1)) as usize,
                };
                let recorded = self.recorded.get(index)?;
                let from = if own_address { self.address } else { recorded.from };
                Some(Made {
                    from,
                    bytes: recorded.bytes.clone(),
                    copy_of: Some(recorded.packet),
                })
            }
            AdversaryKind::StolenKey { .. }
            | AdversaryKind::Reflect { .. }
            | AdversaryKind::Drop { .. }
            | AdversaryKind::Race { .. }
            | AdversaryKind::Splice { .. }
            | AdversaryKind::Reveal { .. }
            | AdversaryKind::Forward { .. }
            | AdversaryKind::Member { .. } => None,
        }
    }

    fn garbage(&self, n: u64) -> Vec<u8> {
        garbage(self.key, n)
    }

    /// A first message with random Noise bytes. With the network key its first MAC is right (docs/protocol.md section 3).
    fn initiation(&self, n: u64, entity: &EntityId, network: Option<&NetworkKey>) -> Vec<u8> {
        let key = self.key.with(2).with(n);
        let mut noise = [0; INITIATION_NOISE_LEN];
        for (index, chunk) in noise.chunks_mut(8).enumerate() {
            chunk.copy_from_slice(&key.at(index as u64).to_le_bytes()[..chunk.len()]);
        }
        let mut packet = Initiation::encode(SessionId(key.at(999).max(1)), Suite::ChaChaPoly, &noise);
        if let Some(network) = network {
            let mac = mac1(network, entity, &packet);
            Initiation::set_mac1(&mut packet, &mac);
        }
        packet.to_vec()
    }
}

/// The node whose packets an adversary changes under their own keys.
pub fn member(adversary: &Adversary) -> Option<u32> {
    if let AdversaryKind::Member { node, .. } = adversary.kind {
        Some(node)
    } else {
        None
    }
}

/// mac1 as any holder of the network key can make it.
fn mac1(network: &NetworkKey, entity: &EntityId, packet: &[u8]) -> [u8; MAC_LEN] {
    let mut key = blake3::Hasher::new_derive_key("net handshake mac1 v1");
    key.update(&network.mac_key().0);
    key.update(&entity.0);
    let hash = blake3::keyed_hash(key.finalize().as_bytes(), &packet[..packet.len() - 2 * MAC_LEN]);
    let mut mac = [0; MAC_LEN];
    mac.copy_from_slice(&hash.as_bytes()[..MAC_LEN]);
    mac
}

/// The key of what an adversary decides, under the key of a run.
#[must_use]
pub fn adversary_key(run: Key, id: &str) -> Key {
    run.family(Family::Adversary).with_text(id)
}

/// An adversary's `n`-th datagram of random bytes; two in three begin as packets do.
#[must_use]
pub fn garbage(key: Key, n: u64) -> Vec<u8> {
    let key = key.with(2).with(n);
    let len = key.below(0, 1_453) as usize;
    let mut bytes: Vec<u8> = (0..len.div_ceil(8) as u64)
        .flat_map(|word| key.at(word + 8).to_le_bytes())
        .collect();
    bytes.truncate(len);
    if key.below(1, 3) > 0 && bytes.len() >= 4 {
        bytes[..3].copy_from_slice(b"\x45\x4e\x01");
    }
    if key.below(2, 4) == 0 && bytes.len() >= 32 {
        bytes[24..32].fill(0);
    }
    bytes
}

/// Whether a datagram is of the kind that is picked.
fn picks(pick: Pick, bytes: &[u8]) -> bool {
    let kind = match peek(bytes) {
        Ok(Datagram::Handshake { kind, .. }) => Some(kind),
        Ok(Datagram::Protected { .. } | Datagram::Routed) | Err(_) => None,
    };
    match pick {
        Pick::All => true,
        Pick::Handshake => kind.is_some(),
        Pick::Initiation => kind == Some(HandshakeKind::Initiation),
        Pick::Response => kind == Some(HandshakeKind::Response),
        Pick::Cookie => kind == Some(HandshakeKind::CookieReply),
        Pick::Protected => kind.is_none() && !is_beacon(bytes),
        Pick::Beacon => is_beacon(bytes),
    }
}

/// Whether a datagram is one for a segment of the network.
pub fn is_beacon(bytes: &[u8]) -> bool {
    bytes.starts_with(&HEAD)
}

/// Whether it is a member that says what is not so.
pub fn lies(adversary: &Adversary) -> bool {
    matches!(adversary.kind, AdversaryKind::Member { lies, .. } if lies != Lie::Bytes)
}

/// Changes header fields or plaintext of a packet under the clear AEAD and seals it again.
pub fn mutate(bytes: &mut [u8], word: u64) {
    let Some(end) = bytes.len().checked_sub(TAG_LEN) else {
        return;
    };
    let key = Key::new(word);
    // FLAGS to CHANNEL_HASH, then STREAM_ID to the end of the plaintext; never the counter, whose reuse is its own sin.
    let header = (3..12).chain(32..HEADER_LEN);
    let places: Vec<usize> = header.chain(HEADER_LEN..end).collect();
    for n in 0..1 + key.below(0, 3) {
        let place = places[key.below(n * 2 + 1, places.len() as u64) as usize];
        bytes[place] = match key.below(n * 2 + 2, 3) {
            0 => 0xFF,
            1 => bytes[place].wrapping_add(1),
            _ => key.at(n + 100) as u8,
        };
    }
    // A packet that became a handshake by its flag is not sealed.
    aead::reseal(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn villain(kind: AdversaryKind) -> Villain {
        let spec = Adversary {
            id: "v".to_owned(),
            at: 10,
            until: 20,
            when: None,
            kind,
        };
        Villain::new(0, spec, Key::new(1))
    }

    #[test]
    fn a_flood_with_the_network_key_carries_a_mac_the_recipient_accepts() {
        let kind = AdversaryKind::HandshakeFlood {
            to: 0,
            count: 9,
            rate_milli: 1,
            network_key: true,
            sources: 0,
        };
        let mut villain = villain(kind);
        let (entity, network) = (EntityId([5; 32]), NetworkKey::open());
        let made = villain.make(&entity, &network, None).unwrap();
        let parsed = Initiation::parse(&made.bytes).unwrap();
        assert_eq!(*parsed.mac1(), mac1(&network, &entity, &made.bytes));
        assert_eq!(parsed.mac1_input().len(), made.bytes.len() - 2 * MAC_LEN);
        assert_ne!(
            villain.make(&entity, &network, None).unwrap().from,
            made.from,
            "another source each time"
        );
    }

    #[test]
    fn an_adversary_acts_in_its_window_only() {
        let mut villain = villain(AdversaryKind::Drop {
            from: 0,
            to: 1,
            pick: Pick::All,
            ppb: net_sim_model::PPB,
        });
        let source = spoofed(1);
        let looks: Vec<Meddling> = [9, 10, 19, 20]
            .map(|now| villain.look(now, 0, 1, source, b"x", 1))
            .to_vec();
        assert_eq!(looks, [Meddling::None, Meddling::Drop, Meddling::Drop, Meddling::None]);
        assert_eq!(
            villain.look(10, 1, 0, source, b"x", 1),
            Meddling::None,
            "the other direction"
        );
    }

    #[test]
    fn a_replay_from_behind_is_exactly_so_many_behind_the_latest() {
        let kind = AdversaryKind::Replay {
            from: 0,
            to: 1,
            pick: Pick::All,
            count: 9,
            rate_milli: 1,
            own_address: false,
            behind: Some(3),
        };
        let mut villain = villain(kind);
        let (entity, network) = (EntityId([5; 32]), NetworkKey::open());
        for packet in 0..10 {
            villain.look(10, 0, 1, spoofed(9), b"x", packet);
            let copy = villain.make(&entity, &network, None).and_then(|made| made.copy_of);
            assert_eq!(copy, packet.checked_sub(3));
        }
    }

    #[test]
    fn an_adversary_that_waits_for_an_event_does_nothing_before() {
        let kind = AdversaryKind::Drop {
            from: 0,
            to: 1,
            pick: Pick::All,
            ppb: net_sim_model::PPB,
        };
        let spec = Adversary {
            id: "v".to_owned(),
            at: 0,
            until: 20,
            when: Some(crate::scenario::Trigger {
                event: crate::scenario::Happening::SessionUp,
                node: None,
                workload: None,
                kind: None,
                nth: 1,
            }),
            kind,
        };
        let mut villain = Villain::new(0, spec, Key::new(1));
        assert_eq!(villain.look(10, 0, 1, spoofed(1), b"x", 1), Meddling::None);
        (villain.spec.at, villain.spec.until) = (10, 20);
        assert_eq!(villain.look(10, 0, 1, spoofed(1), b"x", 1), Meddling::Drop);
    }

    #[test]
    fn replays_are_copies_of_what_was_seen() {
        let kind = AdversaryKind::Replay {
            from: 0,
            to: 1,
            pick: Pick::All,
            count: 5,
            rate_milli: 1,
            own_address: false,
            behind: None,
        };
        let mut villain = villain(kind);
        let (entity, network) = (EntityId([5; 32]), NetworkKey::open());
        assert!(villain.make(&entity, &network, None).is_none(), "nothing seen yet");
        villain.look(10, 0, 1, spoofed(9), b"genuine", 77);
        let made = villain.make(&entity, &network, None).unwrap();
        assert_eq!(
            (made.bytes.as_slice(), made.copy_of, made.from),
            (&b"genuine"[..], Some(77), spoofed(9))
        );
    }
}
