//! Datagrams as each machine's interface saw them, for Wireshark: pcapng (draft-ietf-opsawg-pcapng), raw IP, times in ns.
//!
//! One interface per machine. A datagram appears where it leaves a machine, and again where it reaches one, each with a
//! comment that tells its fate and the entry of the history.
//! Invariants: blocks are multiples of four bytes and carry their length twice; times never descend; checksums are right.
//! Not here: what becomes of datagrams (`crate::history`).

use std::net::IpAddr;

use net_kernel::base::Addr;

use super::{About, Fates, how};
use crate::history::{Entry, Fact, History};

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// LINKTYPE_RAW: IPv4 or IPv6, told by the version nibble.
const RAW_IP: u16 = 101;
const COMMENT: u16 = 1;
const NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const APPLICATION: u16 = 4;
const FLAGS: u16 = 2;
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// The capture file of a run. The history must hold the datagrams' bytes; those that are not kept appear cut off after
/// their UDP header.
#[must_use]
pub fn pcapng(history: &History, about: &About) -> Vec<u8> {
    let mut out = Vec::new();
    let names = history.names();
    let mut head = Vec::new();
    head.extend_from_slice(&0x1A2B_3C4D_u32.to_le_bytes());
    head.extend_from_slice(&[1, 0, 0, 0]);
    head.extend_from_slice(&u64::MAX.to_le_bytes());
    let what = format!(
        "{}, seed {}, {}, digest {}",
        about.scenario,
        about.seed,
        about.verdict(),
        about.digest
    );
    option(&mut head, COMMENT, what.as_bytes());
    option(&mut head, APPLICATION, b"netsim trace");
    option(&mut head, 0, &[]);
    block(&mut out, SECTION_HEADER, &head);
    for name in &names.nodes {
        let mut interface = Vec::new();
        interface.extend_from_slice(&RAW_IP.to_le_bytes());
        interface.extend_from_slice(&[0; 6]);
        option(&mut interface, NAME, name.as_bytes());
        option(&mut interface, TIME_RESOLUTION, &[9]);
        option(&mut interface, 0, &[]);
        block(&mut out, INTERFACE, &interface);
    }
    let fates = Fates::of(history);
    for entry in history.iter() {
        if let Some(packet) = seen(entry, &fates) {
            enhanced(&mut out, entry, &packet, history.bytes(entry));
        }
    }
    out
}

/// A datagram at an interface.
struct Seen {
    node: u32,
    from: Addr,
    to: Addr,
    len: u32,
    direction: u32,
    comment: String,
}

fn seen(entry: &Entry, fates: &Fates<'_>) -> Option<Seen> {
    let node = entry.node?;
    if let Fact::Sent {
        from,
        to,
        len,
        kind,
        packet,
        ..
    } = entry.what
    {
        let fate = fates.words(entry);
        let comment = format!("datagram {packet} ({}): {fate} [#{}]", kind.name(), entry.id);
        return Some(Seen {
            node,
            from,
            to,
            len,
            direction: OUTBOUND,
            comment,
        });
    }
    let fate = if let Fact::Dropped { cause, .. } = entry.what {
        format!("dropped: {cause}")
    } else if matches!(entry.what, Fact::Delivered { .. }) {
        "delivered".to_owned()
    } else {
        return None;
    };
    let (Some(origin), end) = fates.trace(entry) else {
        return None;
    };
    let names = fates.history.names();
    let sent = format!("{}.{:09} s", origin.at / 1_000_000_000, origin.at % 1_000_000_000);
    let (from, to, len, source) = if let Fact::Sent {
        from, to, len, packet, ..
    } = origin.what
    {
        let sender = origin.node.map_or("?", |node| names.node(node));
        (from, to, len, format!("datagram {packet} of {sender}, sent at {sent}"))
    } else if let Fact::Injected {
        from,
        to,
        len,
        adversary,
        ..
    } = origin.what
    {
        let who = names.adversaries.get(adversary as usize).map_or("?", |band| &band.id);
        (from, to, len, format!("sent by adversary {who} at {sent}"))
    } else {
        return None;
    };
    // Damage may have changed the length.
    let len = fates.history.bytes(entry).map_or(len, |bytes| bytes.len() as u32);
    let comment = format!("{fate}{}: {source} [#{} of #{}]", how(&end), entry.id, origin.id);
    Some(Seen {
        node,
        from,
        to,
        len,
        direction: INBOUND,
        comment,
    })
}

fn enhanced(out: &mut Vec<u8>, entry: &Entry, seen: &Seen, bytes: Option<&[u8]>) {
    let datagram = datagram(&seen.from, &seen.to, seen.len, bytes);
    let headers = datagram.len() as u32 - bytes.map_or(0, |bytes| bytes.len() as u32);
    let mut body = Vec::with_capacity(datagram.len() + seen.comment.len() + 48);
    body.extend_from_slice(&seen.node.to_le_bytes());
    body.extend_from_slice(&((entry.at >> 32) as u32).to_le_bytes());
    body.extend_from_slice(&(entry.at as u32).to_le_bytes());
    body.extend_from_slice(&(datagram.len() as u32).to_le_bytes());
    body.extend_from_slice(&(headers + seen.len).to_le_bytes());
    body.extend_from_slice(&datagram);
    pad(&mut body);
    option(&mut body, COMMENT, seen.comment.as_bytes());
    option(&mut body, FLAGS, &seen.direction.to_le_bytes());
    option(&mut body, 0, &[]);
    block(out, ENHANCED_PACKET, &body);
}

/// The IP packet around a payload of `len` bytes; without its bytes, the headers alone.
fn datagram(from: &Addr, to: &Addr, len: u32, bytes: Option<&[u8]>) -> Vec<u8> {
    let udp_len = 8 + len as u16;
    let mut pseudo = Vec::new();
    let mut packet = Vec::with_capacity(48 + len as usize);
    if let (IpAddr::V4(source), IpAddr::V4(target)) = (from.ip(), to.ip()) {
        packet.extend_from_slice(&[0x45, 0]);
        packet.extend_from_slice(&(20 + udp_len).to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
        packet.extend_from_slice(&source.octets());
        packet.extend_from_slice(&target.octets());
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        pseudo.extend_from_slice(&packet[12..20]);
    } else {
        let six = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        packet.extend_from_slice(&[0x60, 0, 0, 0]);
        packet.extend_from_slice(&udp_len.to_be_bytes());
        packet.extend_from_slice(&[17, 64]);
        packet.extend_from_slice(&six(from.ip()));
        packet.extend_from_slice(&six(to.ip()));
        pseudo.extend_from_slice(&packet[8..40]);
    }
    pseudo.extend_from_slice(&[0, 17]);
    pseudo.extend_from_slice(&udp_len.to_be_bytes());
    let mut udp = Vec::with_capacity(8);
    udp.extend_from_slice(&from.port().to_be_bytes());
    udp.extend_from_slice(&to.port().to_be_bytes());
    udp.extend_from_slice(&udp_len.to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    if let Some(bytes) = bytes {
        // A sum of zero is sent as all ones (RFC 768).
        let sum = match checksum(&[&pseudo, &udp, bytes]) {
            0 => 0xFFFF,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend_from_slice(&udp);
    packet.extend_from_slice(bytes.unwrap_or(&[]));
    packet
}

/// RFC 1071, over parts of even length but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| u64::from(*low)))
        .sum();
    let mut sum = sum;
    while sum > 0xFFFF {
        sum = (sum >> 16) + (sum & 0xFFFF);
    }
    !(sum as u16)
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let mut end = value.len().min(usize::from(u16::MAX));
    while end < value.len() && end > 0 && value[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    let value = &value[..end];
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let len = (body.len() as u32 + 12).to_le_bytes();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&len);
    out.extend_from_slice(body);
    out.extend_from_slice(&len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        // RFC 1071, section 3.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]]), !0xDDF2);
        assert_eq!(checksum(&[&[0xFF]]), !0xFF00);
    }

    #[test]
    fn a_packet_verifies_and_one_without_bytes_ends_with_its_header() {
        let (from, to): (Addr, Addr) = (([10, 0, 0, 1], 4_000).into(), ([10, 0, 0, 2], 4_001).into());
        let packet = datagram(&from, &to, 3, Some(b"abc"));
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let pseudo = [&packet[12..20], &[0, 17, 0, 11]].concat();
        assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
        assert_eq!(datagram(&from, &to, 1_200, None).len(), 28);
        let six: Addr = "[fe80::1]:9".parse().unwrap();
        assert_eq!(datagram(&six, &to, 3, Some(b"abc")).len(), 51);
    }

    #[test]
    fn options_are_padded_and_long_ones_cut_between_characters() {
        let mut out = Vec::new();
        option(&mut out, COMMENT, b"abcde");
        assert_eq!(out, [1, 0, 5, 0, b'a', b'b', b'c', b'd', b'e', 0, 0, 0]);
        let mut out = Vec::new();
        option(&mut out, COMMENT, "ü".repeat(40_000).as_bytes());
        assert!(std::str::from_utf8(&out[4..4 + usize::from(u16::from_le_bytes([out[2], out[3]]))]).is_ok());
    }
}
