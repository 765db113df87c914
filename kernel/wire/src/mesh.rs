//! The messages that neighbours exchange about the mesh (subprotocol MESH, protocol.md section 6).
//!
//! Invariants: every message has one encoding of a fixed length, and `Message::decode` accepts no other; what an origin
//! signs is [`Core::signed`], the same bytes at every hop. Not here: signatures (`net-trust`), what a message leads to
//! (`net-mesh`).

use net_base::{EntityId, Epoch};

use crate::bytes::{load_u64, part, store, store_u64};
use crate::drop::DropReason;

/// Length of what an origin says of itself.
pub const CORE_LEN: usize = 92;
/// Length of a signature.
pub const SIGNATURE_LEN: usize = 64;
/// Longest message, in bytes.
pub const MAX_MESH_MESSAGE: usize = PINGWAVE_LEN;
/// Hops a pingwave may take, and a seqno request.
pub const MAX_HOPS: u8 = 16;

const PINGWAVE_LEN: usize = 1 + CORE_LEN + SIGNATURE_LEN + 6;

/// Which statement of an origin is newer: later boots outrank every count of earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version {
    /// The origin's boot epoch.
    pub epoch: Epoch,
    /// Counts the origin's statements within it.
    pub seqno: u64,
}

impl Version {
    /// The statement after this one, of the same boot.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            seqno: self.seqno.saturating_add(1),
            ..self
        }
    }
}

/// How well a node does, by its own word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Health {
    /// It serves.
    #[default]
    Good = 0,
    /// It serves, with trouble.
    Degraded = 1,
    /// It is leaving: nothing new should be given to it.
    Leaving = 2,
}

impl Health {
    /// The value with this number.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Good),
            1 => Some(Self::Degraded),
            2 => Some(Self::Leaving),
            _ => None,
        }
    }
}

/// What an origin says of itself; signed, and the same at every hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Core {
    /// Who says it.
    pub origin: EntityId,
    /// Which of its statements this is.
    pub version: Version,
    /// How busy it is, in thousandths of what it can do; at most 1,000.
    pub load: u16,
    /// How well it does.
    pub health: Health,
    /// Whether it forwards packets of others.
    pub relays: bool,
    /// Which version of its capabilities the digest is of.
    pub capability_version: u64,
    /// Digest of its capabilities; zeros where it announced none.
    pub capability_digest: [u8; 32],
}

impl Core {
    /// The bytes that the origin signs.
    #[must_use]
    pub fn signed(&self) -> [u8; CORE_LEN] {
        let mut out = [0; CORE_LEN];
        store::<0, 32, CORE_LEN>(&mut out, &self.origin.0);
        store_u64::<32, CORE_LEN>(&mut out, self.version.epoch.0);
        store_u64::<40, CORE_LEN>(&mut out, self.version.seqno);
        let [low, high] = self.load.to_le_bytes();
        store::<48, 4, CORE_LEN>(&mut out, &[low, high, self.health as u8, u8::from(self.relays)]);
        store_u64::<52, CORE_LEN>(&mut out, self.capability_version);
        store::<60, 32, CORE_LEN>(&mut out, &self.capability_digest);
        out
    }

    fn decode(bytes: &[u8; CORE_LEN]) -> Result<Self, DropReason> {
        let [low, high, health, relays] = *part::<48, 4, CORE_LEN>(bytes);
        let load = u16::from_le_bytes([low, high]);
        if load > 1_000 || relays > 1 {
            return Err(DropReason::MalformedMesh);
        }
        Ok(Self {
            origin: EntityId(*part::<0, 32, CORE_LEN>(bytes)),
            version: Version {
                epoch: Epoch(load_u64::<32, CORE_LEN>(bytes)),
                seqno: load_u64::<40, CORE_LEN>(bytes),
            },
            load,
            health: Health::from_byte(health).ok_or(DropReason::MalformedMesh)?,
            relays: relays == 1,
            capability_version: load_u64::<52, CORE_LEN>(bytes),
            capability_digest: *part::<60, 32, CORE_LEN>(bytes),
        })
    }
}

/// A pingwave: what its origin signed, and how far the neighbour that passed it on is from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pingwave {
    /// The origin's own words.
    pub core: Core,
    /// The origin's signature over [`Core::signed`].
    pub signature: [u8; SIGNATURE_LEN],
    /// Hops from the neighbour to the origin; 0 where it is the origin.
    pub hops: u8,
    /// Hops that it may still be passed on.
    pub ttl: u8,
    /// Round-trip time from the neighbour to the origin, in microseconds, summed over the hops.
    pub rtt_us: u32,
}

/// One message of the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// The neighbour reaches the origin, and how.
    Pingwave(Pingwave),
    /// The neighbour, which spoke of the origin before, no longer reaches it.
    Withdraw {
        /// Whom.
        origin: EntityId,
        /// The newest statement of it that the neighbour knows.
        version: Version,
    },
    /// Somebody wants a statement of the origin that is at least as new as `version`.
    Request {
        /// Whose.
        origin: EntityId,
        /// How new, at least.
        version: Version,
        /// Hops that the request may still take.
        ttl: u8,
    },
    /// Does the neighbour hear `target`?
    Probe {
        /// Whom the sender suspects.
        target: EntityId,
        /// Returned with the answer.
        token: u64,
    },
    /// Whether the neighbour hears the node it was asked about.
    Probed {
        /// Of the question.
        token: u64,
        /// Whether it does.
        heard: bool,
    },
    /// Whether the sender hears the receiver, and so counts on the link between them. Said when it changes.
    Heard(bool),
}

/// The number of each message, its name and its layout, for the tables of docs/protocol.md.
pub const MESSAGES: [(u8, &str, &str); 6] = [
    (
        1,
        "PINGWAVE",
        "core 92 (EntityId 32, epoch u64, seqno u64, load u16 in thousandths, health u8 (0 good, 1 degraded, 2 leaving), relays u8, capability version u64, capability digest 32), signature 64, hops u8, ttl u8, RTT us u32",
    ),
    (2, "WITHDRAW", "EntityId 32, epoch u64, seqno u64"),
    (3, "REQUEST", "EntityId 32, epoch u64, seqno u64, ttl u8"),
    (4, "PROBE", "EntityId 32, token u64"),
    (5, "PROBED", "token u64, heard u8"),
    (6, "HEARD", "heard u8"),
];

/// An encoded message.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    bytes: [u8; MAX_MESH_MESSAGE],
    len: usize,
}

impl Encoded {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Message {
    /// The message's one encoding.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let mut out = Writer::new();
        match self {
            Self::Pingwave(wave) => {
                out.put(&[1]);
                out.put(&wave.core.signed());
                out.put(&wave.signature);
                out.put(&[wave.hops, wave.ttl]);
                out.put(&wave.rtt_us.to_le_bytes());
            }
            Self::Withdraw { origin, version } => {
                out.put(&[2]);
                out.target(origin, version);
            }
            Self::Request { origin, version, ttl } => {
                out.put(&[3]);
                out.target(origin, version);
                out.put(&[*ttl]);
            }
            Self::Probe { target, token } => {
                out.put(&[4]);
                out.put(&target.0);
                out.put(&token.to_le_bytes());
            }
            Self::Probed { token, heard } => {
                out.put(&[5]);
                out.put(&token.to_le_bytes());
                out.put(&[u8::from(*heard)]);
            }
            Self::Heard(heard) => out.put(&[6, u8::from(*heard)]),
        }
        out.0
    }

    /// Reads a message.
    ///
    /// # Errors
    /// `MalformedMesh` for an unknown number, another length or a value out of its range.
    pub fn decode(bytes: &[u8]) -> Result<Self, DropReason> {
        const BAD: DropReason = DropReason::MalformedMesh;
        let [kind, body @ ..] = bytes else { return Err(BAD) };
        let mut body = Reader(body);
        let message = match kind {
            1 => {
                let core = Core::decode(body.take()?)?;
                let signature = *body.take()?;
                let [hops, ttl] = *body.take()?;
                if hops > MAX_HOPS || ttl > MAX_HOPS {
                    return Err(BAD);
                }
                Self::Pingwave(Pingwave {
                    core,
                    signature,
                    hops,
                    ttl,
                    rtt_us: u32::from_le_bytes(*body.take()?),
                })
            }
            2 => {
                let (origin, version) = body.target()?;
                Self::Withdraw { origin, version }
            }
            3 => {
                let (origin, version) = body.target()?;
                let [ttl] = *body.take()?;
                if ttl > MAX_HOPS {
                    return Err(BAD);
                }
                Self::Request { origin, version, ttl }
            }
            4 => Self::Probe {
                target: EntityId(*body.take()?),
                token: u64::from_le_bytes(*body.take()?),
            },
            5 => Self::Probed {
                token: u64::from_le_bytes(*body.take()?),
                heard: body.bool()?,
            },
            6 => Self::Heard(body.bool()?),
            _ => return Err(BAD),
        };
        if body.0.is_empty() { Ok(message) } else { Err(BAD) }
    }
}

struct Writer(Encoded);

impl Writer {
    const fn new() -> Self {
        Self(Encoded {
            bytes: [0; MAX_MESH_MESSAGE],
            len: 0,
        })
    }

    fn put(&mut self, bytes: &[u8]) {
        let Encoded { bytes: out, len } = &mut self.0;
        out[*len..*len + bytes.len()].copy_from_slice(bytes);
        *len += bytes.len();
    }

    fn target(&mut self, origin: &EntityId, version: &Version) {
        self.put(&origin.0);
        self.put(&version.epoch.0.to_le_bytes());
        self.put(&version.seqno.to_le_bytes());
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take<const N: usize>(&mut self) -> Result<&'b [u8; N], DropReason> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DropReason::MalformedMesh)?;
        self.0 = rest;
        Ok(taken)
    }

    fn bool(&mut self) -> Result<bool, DropReason> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(DropReason::MalformedMesh),
        }
    }

    fn target(&mut self) -> Result<(EntityId, Version), DropReason> {
        let origin = EntityId(*self.take()?);
        let epoch = Epoch(u64::from_le_bytes(*self.take()?));
        let seqno = u64::from_le_bytes(*self.take()?);
        Ok((origin, Version { epoch, seqno }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn messages() -> Vec<Message> {
        let origin = EntityId([7; 32]);
        let version = Version {
            epoch: Epoch(0x0102_0304_0506_0708),
            seqno: 9,
        };
        let core = Core {
            origin,
            version,
            load: 1_000,
            health: Health::Degraded,
            relays: true,
            capability_version: 3,
            capability_digest: [5; 32],
        };
        alloc::vec![
            Message::Pingwave(Pingwave {
                core,
                signature: [8; SIGNATURE_LEN],
                hops: 2,
                ttl: 14,
                rtt_us: 1_234,
            }),
            Message::Withdraw { origin, version },
            Message::Request {
                origin,
                version,
                ttl: 3
            },
            Message::Probe {
                target: origin,
                token: 11
            },
            Message::Probed { token: 11, heard: true },
            Message::Heard(false),
        ]
    }

    #[test]
    fn every_message_reads_back_and_no_shorter_or_longer_one_does() {
        let target = 32 + 16;
        let lens = [PINGWAVE_LEN, 1 + target, 1 + target + 1, 1 + 32 + 8, 1 + 8 + 1, 1 + 1];
        assert_eq!(
            lens.iter().max(),
            Some(&MAX_MESH_MESSAGE),
            "the buffer holds the longest"
        );
        for (message, len) in messages().into_iter().zip(lens) {
            let encoded = message.encode();
            let bytes = encoded.bytes();
            assert_eq!(bytes.len(), len);
            assert_eq!(Message::decode(bytes), Ok(message));
            for end in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..end]), Err(DropReason::MalformedMesh), "{end}");
            }
            let mut longer = bytes.to_vec();
            longer.push(0);
            assert_eq!(Message::decode(&longer), Err(DropReason::MalformedMesh));
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let good = messages()[0].encode();
        let at = |offset: usize, value: u8| {
            let mut bytes = good.bytes().to_vec();
            bytes[offset] = value;
            Message::decode(&bytes)
        };
        for (offset, value, what) in [
            (0, 0, "number"),
            (0, 7, "number"),
            (1 + 49, 0xFF, "load"),
            (1 + 50, 3, "health"),
            (1 + 51, 2, "relays"),
            (1 + CORE_LEN + SIGNATURE_LEN, 17, "hops"),
            (1 + CORE_LEN + SIGNATURE_LEN + 1, 17, "ttl"),
        ] {
            assert_eq!(at(offset, value), Err(DropReason::MalformedMesh), "{what}");
        }
        for health in [Health::Good, Health::Degraded, Health::Leaving] {
            let written = at(1 + 50, health as u8).map(|read| read.encode().bytes()[1 + 50]);
            assert_eq!(written, Ok(health as u8));
        }
        let far = Message::Request {
            origin: EntityId([7; 32]),
            version: Version::default(),
            ttl: MAX_HOPS + 1,
        };
        assert_eq!(Message::decode(far.encode().bytes()), Err(DropReason::MalformedMesh));
    }

    #[test]
    fn a_later_boot_outranks_every_count() {
        let version = |epoch, seqno| Version {
            epoch: Epoch(epoch),
            seqno,
        };
        assert!(version(2, 0) > version(1, u64::MAX));
        assert!(version(1, 3).next() > version(1, 3));
    }
}
