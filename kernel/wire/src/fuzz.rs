//! One body per fuzz target: decode any bytes, and hold every codec to its contract on what it accepts.
//!
//! Invariants: a body panics only where a codec breaks its contract. Compiled for fuzzing and tests alone.
//! Not here: the targets themselves (fuzz/), which only call these.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use crate::ack::{AckFrame, EcnCounts};
use crate::beacon::{BODY_LEN, Beacon, Sealed};
use crate::frame::{Frame, FrameReader, FrameType};
use crate::handshake::{
    CookieReply, INITIATION_PAYLOAD_LEN, Initiation, InitiationPayload, RESPONSE_PAYLOAD_LEN, Response, ResponsePayload,
};
use crate::header::{
    Datagram, HEADER_LEN, Header, OVERHEAD, ROUTING_LEN, ROUTING_MAGIC, TRAILER_LEN, apply_mask, peek, sample,
};
use crate::mesh::Message;
use crate::routing::Routed;
use crate::ticket::{self, Ticket};
use crate::varint;
use crate::write::{FrameWriter, encoded_len};

/// The header, its mask and the first look at a datagram.
pub fn header(datagram: &[u8]) {
    match peek(datagram) {
        Ok(Datagram::Protected { session }) => assert!(session.0 != 0 && datagram.len() >= OVERHEAD),
        Ok(Datagram::Handshake { kind, .. }) => assert_eq!(datagram.len(), kind.packet_len()),
        Ok(Datagram::Routed) => assert!(datagram.len() >= ROUTING_LEN + HEADER_LEN + TRAILER_LEN),
        Err(_) => {}
    }
    assert_eq!(sample(datagram).len(), 16);
    let Some(bytes) = datagram.first_chunk::<HEADER_LEN>() else {
        return;
    };
    if let Ok(decoded) = Header::decode(bytes) {
        let mut again = [0xFF; HEADER_LEN];
        decoded.encode(&mut again);
        assert_eq!(again, *bytes, "a header has one encoding");
    }
    let mask = datagram.last_chunk::<64>().expect("at least a header's 64 bytes");
    let mut masked = *bytes;
    apply_mask(&mut masked, mask);
    assert_eq!(
        (&masked[..3], &masked[24..32]),
        (&bytes[..3], &bytes[24..32]),
        "what routes a packet is not masked"
    );
    apply_mask(&mut masked, mask);
    assert_eq!(masked, *bytes, "masking is its own inverse");
}

/// A whole plaintext: what is read is written back byte for byte, by the fast path as by the general one.
pub fn frames(plaintext: &[u8]) {
    let mut out = vec![0; plaintext.len()];
    let mut writer = FrameWriter::new(&mut out);
    let mut reader = FrameReader::new(plaintext);
    loop {
        let general = reader.clone().next_other();
        let before = reader.remaining().len();
        let next = reader.next();
        assert_eq!(next, general, "the fast path reads what the general one does");
        let Ok(Some(frame)) = next else {
            assert!(reader.remaining().is_empty());
            break;
        };
        let used = before - reader.remaining().len();
        assert!(encoded_len(&frame) == used || reader.skipped() > 0);
        let at = writer.len();
        assert!(writer.frame(&frame), "what was read fits where it was");
        assert_eq!(writer.len() - at, encoded_len(&frame));
        assert!(plaintext[..plaintext.len() - reader.remaining().len()].ends_with(&writer.written()[at..]));
        if let Frame::Ack(ack) = frame {
            check_ack(&ack);
        }
    }
}

/// Acknowledgements: bodies taken from the input, and frames written from ranges taken from the input.
pub fn ack(bytes: &[u8]) {
    for with_ecn in [false, true] {
        if let Ok(ack) = AckFrame::decode(bytes, with_ecn) {
            assert_eq!(ack.ecn().is_some(), with_ecn);
            assert_eq!(ack.body_len(), bytes.len());
            check_ack(&ack);
        }
    }
    write_ranges(bytes);
}

/// Handshake packets and the payloads inside.
pub fn handshake(packet: &[u8]) {
    if let Ok(view) = Initiation::parse(packet) {
        let mut again = Initiation::encode(view.sender(), view.suite(), view.noise());
        Initiation::set_mac1(&mut again, view.mac1());
        Initiation::set_mac2(&mut again, view.mac2());
        assert_eq!(again, packet);
        assert_eq!([view.mac1_input(), view.mac1(), view.mac2()].concat(), packet);
        assert_eq!([view.mac2_input(), view.mac2()].concat(), packet);
    }
    if let Ok(view) = Response::parse(packet) {
        let mut again = Response::encode(view.receiver(), view.sender(), view.suite(), view.noise());
        Response::set_mac1(&mut again, view.mac1());
        Response::set_mac2(&mut again, view.mac2());
        assert_eq!(again, packet);
        assert_eq!([view.mac1_input(), view.mac1(), view.mac2()].concat(), packet);
        assert_eq!([view.mac2_input(), view.mac2()].concat(), packet);
    }
    if let Ok(view) = CookieReply::parse(packet) {
        assert_eq!(
            CookieReply::encode(view.receiver(), view.nonce(), view.sealed()),
            packet
        );
    }
    match InitiationPayload::decode(packet) {
        Ok(payload) => assert_eq!(payload.encode(), packet),
        Err(_) => assert_ne!(packet.len(), INITIATION_PAYLOAD_LEN),
    }
    match ResponsePayload::decode(packet) {
        Ok(payload) => assert_eq!(payload.encode(), packet),
        Err(_) => assert_ne!(packet.len(), RESPONSE_PAYLOAD_LEN),
    }
}

/// Tickets: the input as text, and as content under a checksum that holds.
pub fn ticket(bytes: &[u8]) {
    if let Ok(text) = core::str::from_utf8(bytes) {
        match Ticket::parse(text) {
            Ok(ticket) => assert_eq!(ticket.to_string(), text.trim().to_ascii_lowercase()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    for prefix in [ticket::PUBLIC_PREFIX, ticket::SECRET_PREFIX] {
        let text = ticket::seal(prefix, bytes);
        if let Ok(ticket) = Ticket::parse(&text) {
            assert_eq!(ticket.to_string(), text);
            assert_eq!(ticket.is_secret(), prefix == ticket::SECRET_PREFIX);
        }
    }
}

/// Routing header and hop trailer.
pub fn routing(datagram: &[u8]) {
    let Ok(routed) = Routed::parse(datagram) else { return };
    let mut header = [0xFF; ROUTING_LEN];
    routed.header.encode(&mut header);
    let mut trailer = [0xFF; TRAILER_LEN];
    routed.trailer.encode(&mut trailer);
    assert!(header.starts_with(&ROUTING_MAGIC));
    assert_eq!([&header, routed.packet, &trailer].concat(), datagram);
    assert_eq!([&header, routed.packet, &trailer[..8]].concat(), routed.covered);
    assert_eq!(peek(datagram), Ok(Datagram::Routed));
}

/// Messages of the mesh: what is read is written back byte for byte.
pub fn mesh(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        assert_eq!(message.encode().bytes(), bytes, "a message has one encoding");
        if let Message::Pingwave(wave) = message {
            assert!(
                bytes[1..].starts_with(&wave.core.signed()),
                "what is signed is what is sent"
            );
        }
    }
}

/// Beacons: the input as a datagram, and what it begins with as a body.
pub fn beacon(bytes: &[u8]) {
    if let Ok(sealed) = Sealed::parse(bytes) {
        assert_eq!(sealed.encode(), bytes, "a beacon has one encoding");
    }
    let bodies = [bytes.first_chunk::<BODY_LEN>(), bytes.last_chunk::<BODY_LEN>()];
    for body in bodies.into_iter().flatten() {
        if let Ok(beacon) = Beacon::decode(body) {
            assert_eq!(beacon.encode(), *body, "a body has one encoding");
            assert!(beacon.port != 0 && beacon.addresses.iter().all(|address| address.port() != 0));
        }
    }
}

/// Variable-length integers: the input as an encoding, and as a value.
pub fn varint(bytes: &[u8]) {
    if let Some((value, rest)) = varint::read(bytes) {
        let used = bytes.len() - rest.len();
        assert_eq!(used, varint::len(value));
        let mut out = [0; varint::MAX_LEN];
        assert_eq!(varint::write(&mut out, value), Some(used));
        assert_eq!(out[..used], bytes[..used], "a number has one encoding");
        assert_eq!(varint::write(&mut out[..used - 1], value), None);
    }
    let value = number(bytes);
    let mut out = [0; varint::MAX_LEN];
    let used = varint::write(&mut out, value).expect("no number is longer");
    assert_eq!(varint::read(&out[..used]), Some((value, &[][..])));
    assert_eq!(varint::read(&out[..used - 1]), None);
}

/// Up to eight bytes, read as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .rev()
        .fold(0, |value, byte| value << 8 | *byte as u64)
}

/// The ranges of a frame descend, lie apart, stay within its bytes, and are written back as they were.
fn check_ack(ack: &AckFrame<'_>) {
    let ranges: Vec<_> = ack.ranges().collect();
    assert_eq!(ranges[0].1, ack.largest());
    assert!(ranges.len() <= 1 + ack.pairs().len() / 2);
    assert!(ranges.iter().all(|(low, high)| low <= high));
    assert!(ranges.windows(2).all(|pair| pair[1].1 + 1 < pair[0].0));
    let frame = Frame::Ack(*ack);
    let mut by_frame = vec![0; encoded_len(&frame)];
    assert!(FrameWriter::new(&mut by_frame).frame(&frame));
    let mut by_ranges = vec![0; by_frame.len()];
    let mut writer = FrameWriter::new(&mut by_ranges);
    assert_eq!(
        writer.ack(ack.ecn(), ack.delay_us(), ranges.iter().copied()),
        Some(ranges.len())
    );
    assert_eq!(writer.remaining(), 0);
    assert_eq!(by_ranges, by_frame);
}

/// Writes ranges made of the input into a space that may be too small: what fits is a prefix and is read back, and one
/// range more would not have fitted.
fn write_ranges(bytes: &[u8]) {
    let [space, step, rest @ ..] = bytes else { return };
    let step = 1 + *step as u64;
    let mut next = u64::MAX;
    let mut ranges = Vec::new();
    for pair in rest.chunks_exact(2) {
        let Some(low) = next.checked_sub(pair[0] as u64 * step) else {
            break;
        };
        ranges.push((low, next));
        let Some(below) = low.checked_sub(2 + pair[1] as u64 * step) else {
            break;
        };
        next = below;
    }
    let ecn = (space & 1 == 1).then_some(EcnCounts {
        ect0: step,
        ect1: 0,
        ce: u64::MAX,
    });
    let mut out = vec![0; *space as usize * 3];
    let mut writer = FrameWriter::new(&mut out);
    let Some(count) = writer.ack(ecn, step, ranges.iter().copied()) else {
        assert!(writer.is_empty());
        return;
    };
    let (used, left) = (writer.len(), writer.remaining());
    let Ok(Some(Frame::Ack(ack))) = FrameReader::new(writer.written()).next() else {
        panic!("what was written is an acknowledgement");
    };
    assert_eq!(ack.ranges().collect::<Vec<_>>(), ranges[..count]);
    if let Some(more) = ranges.get(count) {
        let pair = varint::len(ranges[count - 1].0 - more.1 - 2) + varint::len(more.1 - more.0);
        let body = ack.body_len() + pair;
        assert!(
            1 + varint::len(body as u64) + body > used + left,
            "as many as fit are written"
        );
    }
    assert_eq!(Frame::Ack(ack).frame_type() == FrameType::AckEcn, ecn.is_some());
}
