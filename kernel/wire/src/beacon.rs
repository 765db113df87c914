//! The beacon that a node speaks to its segment of the network, so that others there find it (protocol.md section 8a).
//!
//! Invariants: a beacon has one length, whatever it says, and one encoding; a body that is read names only addresses at which
//! somebody can be. Not here: the keys under which it is sealed (`net-trust`), what hearing one leads to (`net-mesh`).

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_base::{Addr, EntityId, Epoch};

use crate::bytes::{load_u64, part, store, store_u64};
use crate::drop::DropReason;
use crate::mesh::Version;

/// The UDP port that beacons are sent to.
pub const BEACON_PORT: u16 = 0x4E45;
/// The group under IPv4: administratively scoped (RFC 2365), as nobody assigned it.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 0x4E, 0x45);
/// The group under IPv6: of link-local scope and transient, as nobody assigned it (RFC 4291 section 2.7).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xFF12, 0, 0, 0, 0, 0, 0x4E65, 0x7442);

/// Addresses that a beacon says at most.
pub const MAX_SAID: usize = 4;
/// Length of what is sealed.
pub const BODY_LEN: usize = ADDRESSES_AT + MAX_SAID * ADDRESS_LEN;
/// Length of the tag.
pub const BEACON_TAG_LEN: usize = 32;
/// Length of a beacon.
pub const BEACON_LEN: usize = HEAD_LEN + BEACON_TAG_LEN + BODY_LEN;
/// Length of what stands in front of the tag.
pub const HEAD_LEN: usize = 4;
/// What every beacon begins with: magic `NB`, version 1, a reserved byte.
pub const HEAD: [u8; HEAD_LEN] = *b"NB\x01\x00";

const ADDRESSES_AT: usize = 32 + 8 + 8 + 2 + 2;
const ADDRESS_LEN: usize = 18;
const BAD: DropReason = DropReason::MalformedBeacon;

/// What a node says to its segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beacon {
    /// Who says it.
    pub entity: EntityId,
    /// Which of its beacons this is.
    pub version: Version,
    /// The port it is reached at, whatever port the beacon came from; not 0.
    pub port: u16,
    /// Where it is reached, as far as it knows; of more than [`MAX_SAID`] the first are written.
    pub addresses: Vec<Addr>,
}

impl Beacon {
    /// The body's one encoding.
    #[must_use]
    pub fn encode(&self) -> [u8; BODY_LEN] {
        let mut out = [0; BODY_LEN];
        store::<0, 32, BODY_LEN>(&mut out, &self.entity.0);
        store_u64::<32, BODY_LEN>(&mut out, self.version.epoch.0);
        store_u64::<40, BODY_LEN>(&mut out, self.version.seqno);
        store::<48, 2, BODY_LEN>(&mut out, &self.port.to_le_bytes());
        let places = out[ADDRESSES_AT..].chunks_exact_mut(ADDRESS_LEN);
        let mut count = 0;
        for (place, address) in places.zip(&self.addresses) {
            let ip = match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            place[..16].copy_from_slice(&ip.octets());
            place[16..].copy_from_slice(&address.port().to_le_bytes());
            count += 1;
        }
        out[50] = count;
        out
    }

    /// Reads a body.
    ///
    /// # Errors
    /// `MalformedBeacon` for a port of 0, more than [`MAX_SAID`] addresses, an address at which nobody can be, or anything but
    /// zeros where nothing is said.
    pub fn decode(bytes: &[u8; BODY_LEN]) -> Result<Self, DropReason> {
        let port = u16::from_le_bytes(*part::<48, 2, BODY_LEN>(bytes));
        let [count, reserved] = *part::<50, 2, BODY_LEN>(bytes);
        let said = usize::from(count) * ADDRESS_LEN;
        if port == 0 || usize::from(count) > MAX_SAID || reserved != 0 {
            return Err(BAD);
        }
        let (said, rest) = bytes[ADDRESSES_AT..].split_at(said);
        if rest.iter().any(|byte| *byte != 0) {
            return Err(BAD);
        }
        let (places, _) = said.as_chunks::<ADDRESS_LEN>();
        Ok(Self {
            entity: EntityId(*part::<0, 32, BODY_LEN>(bytes)),
            version: Version {
                epoch: Epoch(load_u64::<32, BODY_LEN>(bytes)),
                seqno: load_u64::<40, BODY_LEN>(bytes),
            },
            port,
            addresses: places.iter().map(address).collect::<Result<_, _>>()?,
        })
    }
}

/// An address, IPv4 kept as IPv4.
fn address(bytes: &[u8; ADDRESS_LEN]) -> Result<Addr, DropReason> {
    let ip = Ipv6Addr::from(*part::<0, 16, ADDRESS_LEN>(bytes)).to_canonical();
    let port = u16::from_le_bytes(*part::<16, 2, ADDRESS_LEN>(bytes));
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if port == 0 || nobody {
        return Err(BAD);
    }
    Ok(Addr::new(ip, port))
}

/// A beacon as it came: its tag and its body, both under keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed<'b> {
    /// The tag.
    pub tag: &'b [u8; BEACON_TAG_LEN],
    /// The body.
    pub body: &'b [u8; BODY_LEN],
}

impl<'b> Sealed<'b> {
    /// Looks at a datagram.
    ///
    /// # Errors
    /// `GarbageMagic`, `BadVersion`, `ReservedField` or `LengthMismatch` where it is none of this version.
    pub fn parse(datagram: &'b [u8]) -> Result<Self, DropReason> {
        let (head, rest) = datagram.split_first_chunk::<HEAD_LEN>().ok_or(DropReason::TooShort)?;
        if head[..2] != HEAD[..2] {
            return Err(DropReason::GarbageMagic);
        }
        if head[2] != HEAD[2] {
            return Err(DropReason::BadVersion);
        }
        if head[3] != HEAD[3] {
            return Err(DropReason::ReservedField);
        }
        let (tag, rest) = rest.split_first_chunk().ok_or(DropReason::LengthMismatch)?;
        let body = rest.try_into().map_err(|_| DropReason::LengthMismatch)?;
        Ok(Self { tag, body })
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> [u8; BEACON_LEN] {
        let mut out = [0; BEACON_LEN];
        store::<0, HEAD_LEN, BEACON_LEN>(&mut out, &HEAD);
        store::<HEAD_LEN, BEACON_TAG_LEN, BEACON_LEN>(&mut out, self.tag);
        store::<{ HEAD_LEN + BEACON_TAG_LEN }, BODY_LEN, BEACON_LEN>(&mut out, self.body);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacon(addresses: &[&str]) -> Beacon {
        Beacon {
            entity: EntityId([7; 32]),
            version: Version {
                epoch: Epoch(0x0102_0304_0506_0708),
                seqno: 9,
            },
            port: 4_433,
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
        }
    }

    #[test]
    fn what_is_said_reads_back_and_more_addresses_than_fit_are_cut() {
        for said in [
            &[][..],
            &["192.0.2.1:1"],
            &["[2001:db8::1]:65535", "192.0.2.1:7", "[::1]:9", "10.0.0.1:4433"],
        ] {
            let whole = beacon(said);
            assert_eq!(Beacon::decode(&whole.encode()), Ok(whole));
        }
        let five = beacon(&["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3", "10.0.0.4:4", "10.0.0.5:5"]);
        let read = Beacon::decode(&five.encode()).expect("four addresses");
        assert_eq!(read.addresses, five.addresses[..MAX_SAID]);
    }

    #[test]
    fn an_ipv4_address_has_one_form() {
        let mapped = beacon(&["[::ffff:192.0.2.1]:7"]);
        let plain = beacon(&["192.0.2.1:7"]);
        assert_eq!(mapped.encode(), plain.encode());
        assert_eq!(Beacon::decode(&mapped.encode()), Ok(plain));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let good = beacon(&["192.0.2.1:7"]).encode();
        let with = |changes: &[(usize, u8)]| {
            let mut bytes = good;
            for (at, value) in changes {
                bytes[*at] = *value;
            }
            Beacon::decode(&bytes)
        };
        let first = ADDRESSES_AT;
        for (changes, what) in [
            (&[(48, 0), (49, 0)][..], "a port of 0"),
            (&[(50, 5)], "five addresses"),
            (&[(50, 0)], "an address beyond those that are counted"),
            (&[(50, 2)], "an address of nobody"),
            (&[(51, 1)], "a reserved byte"),
            (&[(first + 16, 0)], "an address with a port of 0"),
            (&[(first + 12, 239)], "a group"),
            (&[(first + 12, 0), (first + 14, 0), (first + 15, 0)], "no address"),
            (
                &[
                    (first + 12, 255),
                    (first + 13, 255),
                    (first + 14, 255),
                    (first + 15, 255),
                ],
                "everybody",
            ),
            (&[(BODY_LEN - 1, 1)], "something after the addresses"),
        ] {
            assert_eq!(with(changes), Err(BAD), "{what}");
        }
    }

    #[test]
    fn a_datagram_is_told_by_its_head_and_has_one_length() {
        let (tag, body) = ([1; BEACON_TAG_LEN], beacon(&[]).encode());
        let sealed = Sealed { tag: &tag, body: &body };
        let datagram = sealed.encode();
        assert_eq!(Sealed::parse(&datagram), Ok(sealed));
        for end in 0..BEACON_LEN {
            let refused = if end < HEAD_LEN {
                DropReason::TooShort
            } else {
                DropReason::LengthMismatch
            };
            assert_eq!(Sealed::parse(&datagram[..end]), Err(refused), "{end}");
        }
        let mut longer = datagram.to_vec();
        longer.push(0);
        assert_eq!(Sealed::parse(&longer), Err(DropReason::LengthMismatch));
        for (at, refused) in [
            (0, DropReason::GarbageMagic),
            (1, DropReason::GarbageMagic),
            (2, DropReason::BadVersion),
            (3, DropReason::ReservedField),
        ] {
            let mut bytes = datagram;
            bytes[at] ^= 1;
            assert_eq!(Sealed::parse(&bytes), Err(refused));
        }
    }

    #[test]
    fn a_group_is_for_one_segment_and_for_nobody_else() {
        assert!(GROUP_V4.is_multicast() && GROUP_V4.octets()[0] == 239);
        assert!(
            GROUP_V6.is_multicast() && GROUP_V6.segments()[0] & 0xF == 2,
            "link-local scope"
        );
    }
}
