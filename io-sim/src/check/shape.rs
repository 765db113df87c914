//! What an observer of the links learns from the look of traffic: when who sent how much where, and of what kind.
//!
//! THREATS: two runs that differ in secrets alone leave traces of the same shape. The first run's shape is kept, the second
//! run is held against it datagram by datagram, so that what differs is told where it first does.
//! Invariants: what is compared is what every passer-by can read under the real cipher: times, addresses, lengths, the kind
//! of handshake packets, whether they carry a cookie, and which packets name the same session. Ids are drawn at random, so
//! they are compared by the order in which they were first seen.
//! Not here: what differs between the runs (`crate::world::Secrets`), reading what is enciphered (`packet.rs`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use net_kernel::base::{Addr, SessionId};
use net_kernel::wire::handshake::{CookieReply, Initiation, Response};
use net_kernel::wire::{Datagram, HandshakeKind, peek};

use super::{Accounts, Checker, Observation, wants};

/// One datagram as it looks from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sighting {
    node: u32,
    to: Addr,
    /// On the sender's clock, ns.
    mono: u64,
    len: usize,
    kind: Kind,
}

/// Sessions by the order in which they were first named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Initiation { from: u32, cookie: bool },
    Response { from: u32, to: u32 },
    CookieReply { to: u32 },
    Packet { to: u32 },
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initiation { from, cookie: false } => write!(f, "a first message of session #{from}"),
            Self::Initiation { from, cookie: true } => write!(f, "a first message of session #{from} with a cookie"),
            Self::Response { from, to } => write!(f, "an answer of session #{from} to session #{to}"),
            Self::CookieReply { to } => write!(f, "a cookie for session #{to}"),
            Self::Packet { to } => write!(f, "a packet to session #{to}"),
            Self::Other => f.write_str("something that is not Net's"),
        }
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ns) = (self.mono / 1_000_000_000, self.mono % 1_000_000_000);
        let Self {
            node, to, len, kind, ..
        } = self;
        write!(
            f,
            "{kind}, {len} B, from node {node} to {to} at {s}.{ns:09} s of its clock"
        )
    }
}

/// What was seen of a run.
#[derive(Clone, Debug, Default)]
pub struct Shape(Rc<RefCell<Vec<Sighting>>>);

impl Shape {
    /// A checker that writes into this shape what it sees, and never fails.
    #[must_use]
    pub fn keeper(&self) -> SameShape {
        SameShape::new(self, false)
    }

    /// A checker that fails where a run looks different from this shape.
    #[must_use]
    pub fn judge(&self) -> SameShape {
        SameShape::new(self, true)
    }
}

/// Two runs that differ in secrets alone look the same.
#[derive(Debug)]
pub struct SameShape {
    shape: Shape,
    judges: bool,
    seen: usize,
    names: BTreeMap<SessionId, u32>,
}

impl SameShape {
    fn new(shape: &Shape, judges: bool) -> Self {
        Self {
            shape: shape.clone(),
            judges,
            seen: 0,
            names: BTreeMap::new(),
        }
    }

    fn name(&mut self, session: SessionId) -> u32 {
        let next = self.names.len() as u32;
        *self.names.entry(session).or_insert(next)
    }

    fn kind(&mut self, bytes: &[u8]) -> Kind {
        match peek(bytes) {
            Ok(Datagram::Protected { session }) => Kind::Packet { to: self.name(session) },
            Ok(Datagram::Handshake { kind, .. }) => self.handshake(kind, bytes),
            Ok(Datagram::Routed) | Err(_) => Kind::Other,
        }
    }

    fn handshake(&mut self, kind: HandshakeKind, bytes: &[u8]) -> Kind {
        match kind {
            HandshakeKind::Initiation => Initiation::parse(bytes).map_or(Kind::Other, |it| Kind::Initiation {
                from: self.name(it.sender()),
                cookie: it.has_mac2(),
            }),
            HandshakeKind::Response => Response::parse(bytes).map_or(Kind::Other, |it| Kind::Response {
                from: self.name(it.sender()),
                to: self.name(it.receiver()),
            }),
            HandshakeKind::CookieReply => CookieReply::parse(bytes).map_or(Kind::Other, |it| Kind::CookieReply {
                to: self.name(it.receiver()),
            }),
        }
    }

    fn compare(&self, seen: Sighting) -> Result<(), String> {
        let number = self.seen;
        match self.shape.0.borrow().get(number - 1) {
            Some(before) if *before == seen => Ok(()),
            Some(before) => Err(format!(
                "datagram {number} tells a secret: with other payloads, identities and keys it is {seen}; before it was {before}"
            )),
            None => Err(format!(
                "datagram {number} tells a secret: with other payloads, identities and keys there is {seen}; before there \
                 was none"
            )),
        }
    }
}

impl Checker for SameShape {
    fn name(&self) -> &'static str {
        "same-shape"
    }

    fn wants(&self) -> u8 {
        wants::SENT
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Sent { node, to, mono, bytes } = *observation else {
            return Ok(());
        };
        let kind = self.kind(bytes);
        let len = bytes.len();
        let seen = Sighting {
            node,
            to,
            mono,
            len,
            kind,
        };
        self.seen += 1;
        if self.judges {
            return self.compare(seen);
        }
        self.shape.0.borrow_mut().push(seen);
        Ok(())
    }

    fn finish(&mut self, _: &Accounts) -> Result<(), String> {
        let before = self.shape.0.borrow().len();
        if self.seen == before {
            return Ok(());
        }
        Err(format!(
            "the number of datagrams tells a secret: with other payloads, identities and keys there are {}, before there \
             were {before}",
            self.seen
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_kernel::wire::handshake::{INITIATION_NOISE_LEN, Suite};
    use net_kernel::wire::{HEADER_LEN, Header, TAG_LEN};

    fn packet(session: u64, len: usize) -> Vec<u8> {
        let mut out = [0; HEADER_LEN];
        let header = Header {
            session: SessionId(session),
            ..Header::default()
        };
        header.encode(&mut out);
        let mut packet = out.to_vec();
        packet.resize(HEADER_LEN + TAG_LEN + len, session as u8);
        packet
    }

    type Sent = (u64, Vec<u8>);

    fn tell(checker: &mut SameShape, sent: &[Sent]) -> Result<(), String> {
        for (mono, bytes) in sent {
            checker.observe(&Observation::Sent {
                node: 0,
                to: ([10, 0, 0, 1], 4_000).into(),
                mono: *mono,
                bytes,
            })?;
        }
        checker.finish(&Accounts::default())
    }

    fn compare(first: &[Sent], second: &[Sent]) -> Result<(), String> {
        let shape = Shape::default();
        tell(&mut shape.keeper(), first)?;
        tell(&mut shape.judge(), second)
    }

    #[test]
    fn other_bytes_and_other_ids_look_the_same() {
        let first = [(1, packet(70, 10)), (2, packet(71, 10)), (3, packet(70, 20))];
        let second = [(1, packet(90, 10)), (2, packet(5, 10)), (3, packet(90, 20))];
        assert_eq!(compare(&first, &second), Ok(()));
    }

    #[test]
    fn a_length_a_time_a_session_a_kind_and_a_number_that_differ_are_noticed() {
        let first = [(1, packet(70, 10)), (2, packet(71, 10))];
        let initiation = Initiation::encode(SessionId(71), Suite::ChaChaPoly, &[0; INITIATION_NOISE_LEN]);
        let long = packet(71, initiation.len() - HEADER_LEN - TAG_LEN);
        let cases: [(&str, &[Sent]); 3] = [
            ("91 B", &[(1, packet(70, 10)), (2, packet(71, 11))]),
            ("0.000000003 s", &[(1, packet(70, 10)), (3, packet(71, 10))]),
            ("session #0", &[(1, packet(70, 10)), (2, packet(70, 10))]),
        ];
        for (word, second) in cases {
            let told = compare(&first, second).expect_err("it differs");
            assert!(told.contains("datagram 2") && told.contains(word), "{told}");
        }
        let told = compare(&[(1, long)], &[(1, initiation.to_vec())]).expect_err("another kind");
        assert!(told.contains("a first message") && told.contains("a packet"), "{told}");
        let told = compare(&first, &first[..1]).expect_err("one is missing");
        assert!(told.contains("number of datagrams"), "{told}");
        let told = compare(&first[..1], &first).expect_err("one more");
        assert!(told.contains("before there was none"), "{told}");
    }
}
