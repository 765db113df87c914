//! What must hold of packets on links.
//!
//! Invariants: checkers keep memory in proportion to keys and addresses, not to packets.
//! Not here: what the bytes mean beyond header, key and counter.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use net_kernel::base::Addr;
use net_kernel::wire::handshake::{INITIATION_LEN, RESPONSE_LEN};
use net_kernel::wire::{Datagram, HandshakeKind, Routed, peek};
use net_sim_model::key::mix;

use super::{Checker, Observation, SOMEBODY, wants};
use crate::{aead, payload};

/// No nonce is used twice under one key, no ephemeral key in two different handshakes.
#[derive(Debug)]
pub struct NonceReuse {
    clear: bool,
    used: BTreeMap<u64, Ranges>,
    /// Hop counters, by the session id that the receiver of the hop chose.
    hops: BTreeMap<u64, Ranges>,
    ephemerals: BTreeMap<[u8; 32], u64>,
}

/// A set of numbers as ranges, fast where each is the next one.
#[derive(Debug)]
struct Ranges {
    start: u64,
    end: u64,
    others: BTreeMap<u64, u64>,
}

impl Ranges {
    fn of(number: u64) -> Self {
        Self {
            start: number,
            end: number,
            others: BTreeMap::new(),
        }
    }

    /// Adds a number; answers whether it was new.
    #[inline]
    fn insert(&mut self, number: u64) -> bool {
        if number == self.end + 1 {
            self.end = number;
            return true;
        }
        self.insert_elsewhere(number)
    }

    fn insert_elsewhere(&mut self, number: u64) -> bool {
        let known = self
            .others
            .range(..=number)
            .next_back()
            .is_some_and(|(_, end)| *end >= number);
        if known || (self.start..=self.end).contains(&number) {
            return false;
        }
        if number > self.end {
            self.others.insert(self.start, self.end);
            (self.start, self.end) = (number, number);
        } else {
            self.others.insert(number, number);
        }
        true
    }
}

/// Notes a number under a key; answers whether it was new.
fn used(numbers: &mut BTreeMap<u64, Ranges>, key: u64, number: u64) -> bool {
    match numbers.entry(key) {
        Entry::Vacant(vacant) => {
            vacant.insert(Ranges::of(number));
            true
        }
        Entry::Occupied(mut used) => used.get_mut().insert(number),
    }
}

impl NonceReuse {
    /// `clear`: keys and counters can be read off packets; otherwise only ephemerals are checked.
    #[must_use]
    pub fn new(clear: bool) -> Self {
        Self {
            clear,
            used: BTreeMap::new(),
            hops: BTreeMap::new(),
            ephemerals: BTreeMap::new(),
        }
    }

    fn datagram(&mut self, bytes: &[u8]) -> Result<(), String> {
        match peek(bytes) {
            Ok(Datagram::Handshake {
                kind: HandshakeKind::Initiation | HandshakeKind::Response,
                ..
            }) => self.handshake(bytes),
            Ok(Datagram::Protected { .. }) if self.clear => {
                let Some(sealed) = aead::inspect(bytes) else {
                    return Ok(());
                };
                if used(&mut self.used, sealed.key, sealed.counter) {
                    Ok(())
                } else {
                    Err(format!("counter {} was used twice under one key", sealed.counter))
                }
            }
            Ok(Datagram::Routed) => self.routed(bytes),
            Ok(Datagram::Protected { .. } | Datagram::Handshake { .. }) => Ok(()),
            Err(reason) => Err(format!("a process sent what it would refuse: {reason}")),
        }
    }

    /// A hop's counter is its own, and what is inside was numbered where it was sent first.
    fn routed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Ok(routed) = Routed::parse(bytes) else {
            return Err("a process sent a routed datagram that is none".to_owned());
        };
        let trailer = &routed.trailer;
        if !used(&mut self.hops, trailer.session.0, trailer.counter) {
            return Err(format!("hop counter {} was used twice under one key", trailer.counter));
        }
        if routed.header.hop_count > 0 {
            return Ok(());
        }
        self.datagram(routed.packet)
    }

    fn handshake(&mut self, bytes: &[u8]) -> Result<(), String> {
        // Header 64, prefix 4, sender id 8, then the ephemeral in the clear (docs/protocol.md section 3).
        const NOISE: usize = 76;
        let noise_end = match bytes.len() {
            INITIATION_LEN => INITIATION_LEN - 32,
            RESPONSE_LEN => RESPONSE_LEN - 32,
            _ => return Ok(()),
        };
        let Some(ephemeral) = bytes.get(NOISE..NOISE + 32).and_then(|bytes| bytes.try_into().ok()) else {
            return Ok(());
        };
        let noise = bytes[NOISE..noise_end]
            .iter()
            .fold(0, |hash, &byte| mix(hash ^ u64::from(byte)));
        match self.ephemerals.insert(ephemeral, noise) {
            Some(before) if before != noise => Err("an ephemeral key was used in two handshakes".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Checker for NonceReuse {
    fn name(&self) -> &'static str {
        "nonce-reuse"
    }

    fn wants(&self) -> u8 {
        wants::SENT
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Sent { bytes, .. } = *observation else {
            return Ok(());
        };
        self.datagram(bytes)
    }
}

/// A packet is accepted at most once.
#[derive(Debug)]
pub struct ReplayAccepted;

impl Checker for ReplayAccepted {
    fn name(&self) -> &'static str {
        "replay-accepted"
    }

    fn wants(&self) -> u8 {
        wants::COPY
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Copy { node, accepted } if accepted > 0 => {
                Err(format!("node {node} accepted a packet that it had been given before"))
            }
            _ => Ok(()),
        }
    }
}

/// No plaintext on a link.
#[derive(Debug)]
pub struct CanaryOnLink;

impl Checker for CanaryOnLink {
    fn name(&self) -> &'static str {
        "canary"
    }

    fn wants(&self) -> u8 {
        wants::SENT
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Sent { node, bytes, .. } if payload::has_canary(bytes) => {
                Err(format!("node {node} sent application data in the clear"))
            }
            _ => Ok(()),
        }
    }
}

/// A machine sends at most three times what it received to an address that nobody proved to own, and no handshake reply
/// exceeds what asked for it.
#[derive(Debug, Default)]
pub struct Amplification {
    flows: BTreeMap<(u32, Addr), Flow>,
    /// Who got what a machine sent to an address that has not proved itself: it must still be heard.
    reached: Vec<(u32, Addr, u32)>,
    /// Pairs that were found validated, asked about most of the time.
    recent: [Option<(u32, Addr)>; 4],
    next: usize,
}

#[derive(Debug, Default)]
struct Flow {
    received: u64,
    sent: u64,
    largest: usize,
    validated: bool,
}

impl Amplification {
    const FACTOR: u64 = 3;

    /// Whoever got what `node` sent to an address, and is heard by `node` afterwards, has proved to be there: the rule
    /// that any means of validation satisfies (RFC 9000 section 8.1).
    fn heard(&mut self, node: u32, by: u32) {
        let Self { flows, reached, .. } = self;
        if reached.is_empty() {
            return;
        }
        reached.retain(|&(whose, address, who)| {
            let proved = whose == node && (who == by || by == SOMEBODY);
            if proved {
                flows.entry((node, address)).or_default().validated = true;
            }
            !proved
        });
    }

    fn sent(&mut self, node: u32, to: Addr, bytes: &[u8]) -> Result<(), String> {
        let flow = self.flows.entry((node, to)).or_default();
        if flow.validated {
            self.recent[self.next] = Some((node, to));
            self.next = (self.next + 1) % self.recent.len();
            return Ok(());
        }
        flow.sent += bytes.len() as u64;
        if flow.sent > flow.received * Self::FACTOR {
            return Err(format!(
                "node {node} sent {} bytes to {to}, which proved nothing and sent {}",
                flow.sent, flow.received
            ));
        }
        let reply = matches!(
            peek(bytes),
            Ok(Datagram::Handshake {
                kind: HandshakeKind::Response | HandshakeKind::CookieReply,
                ..
            })
        );
        if reply && bytes.len() > flow.largest {
            return Err(format!(
                "node {node} answered {to} with {} bytes; the largest request had {}",
                bytes.len(),
                flow.largest
            ));
        }
        Ok(())
    }
}

impl Checker for Amplification {
    fn name(&self) -> &'static str {
        "amplification"
    }

    fn wants(&self) -> u8 {
        wants::SENT | wants::RECEIVED
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Sent { node, to, bytes, .. } if !self.recent.contains(&Some((node, to))) => {
                self.sent(node, to, bytes)
            }
            Observation::Received { node, from, by, len } => {
                self.heard(node, by);
                if self.recent.contains(&Some((node, from))) {
                    return Ok(());
                }
                let flow = self.flows.entry((node, from)).or_default();
                flow.received += len as u64;
                flow.largest = flow.largest.max(len);
                Ok(())
            }
            Observation::Reached { node, address, by } if !self.recent.contains(&Some((node, address))) => {
                let proved = self.flows.get(&(node, address)).is_none_or(|flow| flow.validated);
                if !proved && !self.reached.contains(&(node, address, by)) {
                    self.reached.push((node, address, by));
                }
                Ok(())
            }
            Observation::Validated { node, address } => {
                self.flows.entry((node, address)).or_default().validated = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_kernel::base::rng::Secret;
    use net_kernel::session::aead::Aead as _;
    use net_kernel::wire::{HEADER_LEN, Header};

    fn addr(last: u8) -> Addr {
        ([10, 0, 0, last], 4_000).into()
    }

    fn packet(key: u8, counter: u64) -> Vec<u8> {
        let header = Header {
            counter,
            session: net_kernel::base::SessionId(7),
            payload_len: 9,
            ..Header::default()
        };
        let mut out = [0; HEADER_LEN];
        header.encode(&mut out);
        let key = aead::Clear::key(net_kernel::wire::Suite::ChaChaPoly, &Secret([key; 32]));
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&out[12..24]);
        let mut body = [1; 9];
        let tag = aead::Clear::seal(&key, &nonce, &out, &mut body);
        [&out[..], &body, &tag].concat()
    }

    fn sent(checker: &mut impl Checker, bytes: &[u8]) -> Result<(), String> {
        checker.observe(&Observation::Sent {
            node: 1,
            to: addr(2),
            mono: 0,
            bytes,
        })
    }

    #[test]
    fn a_nonce_used_twice_under_one_key_is_noticed() {
        let mut checker = NonceReuse::new(true);
        for (key, counter) in [(1, 0), (1, 1), (2, 1), (1, 5), (2, 0), (1, 3), (1, 2)] {
            sent(&mut checker, &packet(key, counter)).unwrap();
        }
        for (key, counter) in [(1, 3), (2, 1), (1, 0), (1, 5)] {
            assert!(
                sent(&mut checker, &packet(key, counter)).is_err(),
                "key {key} counter {counter}"
            );
        }
    }

    fn initiation(ephemeral: u8, rest: u8) -> Vec<u8> {
        use net_kernel::wire::handshake::{INITIATION_NOISE_LEN, Initiation, Suite};
        let mut noise = [rest; INITIATION_NOISE_LEN];
        noise[..32].fill(ephemeral);
        Initiation::encode(net_kernel::base::SessionId(3), Suite::ChaChaPoly, &noise).to_vec()
    }

    #[test]
    fn an_ephemeral_used_in_two_handshakes_is_noticed_and_a_retransmission_is_not() {
        let mut checker = NonceReuse::new(false);
        sent(&mut checker, &initiation(1, 1)).unwrap();
        sent(&mut checker, &initiation(1, 1)).unwrap();
        sent(&mut checker, &initiation(2, 1)).unwrap();
        assert!(sent(&mut checker, &initiation(1, 2)).is_err());
    }

    #[test]
    fn a_process_that_sends_nonsense_is_noticed() {
        assert!(sent(&mut NonceReuse::new(true), b"nonsense").is_err());
    }

    #[test]
    fn an_accepted_copy_is_noticed() {
        assert_eq!(
            ReplayAccepted.observe(&Observation::Copy { node: 1, accepted: 0 }),
            Ok(())
        );
        assert!(
            ReplayAccepted
                .observe(&Observation::Copy { node: 1, accepted: 1 })
                .is_err()
        );
    }

    #[test]
    fn plaintext_on_a_link_is_noticed() {
        let mut bytes = vec![0; 200];
        assert_eq!(sent(&mut CanaryOnLink, &bytes), Ok(()));
        payload::fill(net_sim_model::Key::new(1), 0, 0, &mut bytes[77..150]);
        assert!(sent(&mut CanaryOnLink, &bytes).is_err());
    }

    #[test]
    fn amplification_towards_an_unproved_address_is_noticed() {
        let mut checker = Amplification::default();
        let received = |checker: &mut Amplification, len| {
            checker
                .observe(&Observation::Received {
                    node: 1,
                    from: addr(2),
                    by: 2,
                    len,
                })
                .unwrap();
        };
        assert!(sent(&mut checker, &[0; 1]).is_err(), "out of the blue");
        let mut checker = Amplification::default();
        received(&mut checker, 100);
        sent(&mut checker, &[0; 300]).unwrap();
        assert!(sent(&mut checker, &[0; 1]).is_err(), "three times and one byte");
        checker
            .observe(&Observation::Validated {
                node: 1,
                address: addr(2),
            })
            .unwrap();
        sent(&mut checker, &[0; 3_000]).unwrap();
    }

    #[test]
    fn only_one_who_got_something_and_answers_proves_an_address() {
        let mut checker = Amplification::default();
        let received = |checker: &mut Amplification, by| {
            let (node, from, len) = (1, addr(2), 100);
            checker.observe(&Observation::Received { node, from, by, len }).unwrap();
        };
        let (node, address) = (1, addr(2));
        received(&mut checker, 2);
        sent(&mut checker, &[0; 100]).unwrap();
        received(&mut checker, 2);
        assert!(
            sent(&mut checker, &[0; 600]).is_err(),
            "it was heard twice and got nothing yet"
        );
        let mut checker = Amplification::default();
        received(&mut checker, 2);
        sent(&mut checker, &[0; 100]).unwrap();
        checker.observe(&Observation::Reached { node, address, by: 2 }).unwrap();
        received(&mut checker, 3);
        assert!(sent(&mut checker, &[0; 600]).is_err(), "somebody else was heard");
        received(&mut checker, 2);
        sent(&mut checker, &[0; 9_000]).unwrap();
    }

    #[test]
    fn a_handshake_reply_longer_than_its_request_is_noticed() {
        use net_kernel::wire::handshake::{RESPONSE_NOISE_LEN, Response, Suite};
        let id = net_kernel::base::SessionId;
        let reply = Response::encode(id(1), id(2), Suite::ChaChaPoly, &[0; RESPONSE_NOISE_LEN]);
        let mut checker = Amplification::default();
        checker
            .observe(&Observation::Received {
                node: 1,
                from: addr(2),
                by: 2,
                len: 100,
            })
            .unwrap();
        assert!(sent(&mut checker, &reply).unwrap_err().contains("largest request"));
    }
}
