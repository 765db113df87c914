//! Properties of every codec: round trips, truncation at every byte, and no panic on any bytes.

use net_base::{Addr, AssociationId, EntityId, Epoch, NodeId, SessionId, StreamId};
use net_wire::beacon::{Beacon, MAX_SAID};
use net_wire::frame::{MAX_MESSAGE, MAX_REASON};
use net_wire::handshake::{INITIATION_LEN, RESPONSE_LEN};
use net_wire::header::{FIELDS, MAX_DATAGRAM};
use net_wire::mesh::Version;
use net_wire::{
    CloseCode, CookieReply, Datagram, DropReason, EcnCounts, Flags, Frame, FrameReader, FrameType, FrameWriter,
    HEADER_LEN, Header, HopTrailer, Initiation, InitiationPayload, OVERHEAD, ROUTING_LEN, Reliability, Response,
    ResponsePayload, Routed, RoutingFlags, RoutingHeader, Suite, TRAILER_LEN, Ticket, encoded_len, event_frame_len,
    fuzz, peek, segment_frame_len, segment_room, stream_frame_len, varint,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The same cases in every run.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(20),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Numbers whose encodings have every length.
fn number() -> impl Strategy<Value = u64> + Clone {
    (any::<u64>(), 0..64u32).prop_map(|(value, shift)| value >> shift)
}

fn header() -> impl Strategy<Value = Header> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let stream = (any::<u16>(), number(), number(), any::<u16>());
    (flags, any::<u8>(), number(), 1..=u64::MAX, stream, any::<u16>()).prop_map(
        |((reliable, priority, fin, heartbeat), level, counter, session, stream, payload_len)| {
            let mut flags = Flags::NONE;
            for (set, flag) in [
                (reliable, Flags::RELIABLE),
                (priority, Flags::PRIORITY),
                (fin, Flags::FIN),
                (heartbeat, Flags::HEARTBEAT),
            ] {
                if set {
                    flags |= flag;
                }
            }
            let mut header = Header {
                flags,
                counter,
                session: SessionId(session),
                payload_len,
                ..Header::default()
            };
            header.priority = if priority { level } else { 0 };
            header.event_count = stream.3;
            if fin || stream.3 != 0 {
                header.subprotocol = stream.0;
                header.stream = StreamId(stream.1);
                header.sequence = stream.2;
            }
            header
        },
    )
}

fn encode(header: &Header) -> [u8; HEADER_LEN] {
    let mut bytes = [0xEE; HEADER_LEN];
    header.encode(&mut bytes);
    bytes
}

/// A frame that owns what it borrows on the wire.
#[derive(Clone, Debug)]
enum Owned {
    Plain(Frame<'static>),
    Event(Vec<u8>),
    Segment(u32, u32, Vec<u8>),
    Ack(Option<EcnCounts>, u64, Vec<(u64, u64)>),
    Close(CloseCode, u64, String),
}

impl Owned {
    fn write(&self, writer: &mut FrameWriter<'_>) -> bool {
        match self {
            Self::Plain(frame) => writer.frame(frame),
            Self::Event(message) => writer.event(message),
            Self::Segment(offset, total, bytes) => writer.segment(*offset, *total, bytes),
            Self::Ack(ecn, delay_us, ranges) => {
                writer.ack(*ecn, *delay_us, ranges.iter().copied()) == Some(ranges.len())
            }
            Self::Close(code, detail, reason) => writer.frame(&Frame::Close {
                code: *code,
                detail: *detail,
                reason,
            }),
        }
    }

    fn is(&self, frame: &Frame<'_>) -> bool {
        match self {
            Self::Plain(expected) => expected == frame,
            Self::Event(message) => *frame == Frame::Event(message),
            Self::Segment(offset, total, bytes) => {
                *frame
                    == Frame::Segment {
                        offset: *offset,
                        total: *total,
                        bytes,
                    }
            }
            Self::Ack(ecn, delay_us, ranges) => matches!(frame, Frame::Ack(ack)
                if ack.ecn() == *ecn && ack.delay_us() == *delay_us && ack.ranges().eq(ranges.iter().copied())),
            Self::Close(code, detail, reason) => {
                *frame
                    == Frame::Close {
                        code: *code,
                        detail: *detail,
                        reason,
                    }
            }
        }
    }
}

fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
    (number(), vec((number(), number()), 0..40)).prop_map(|(first, steps)| {
        let mut ranges = Vec::new();
        let mut top = u64::MAX;
        for (gap, length) in core::iter::once((u64::MAX - first, 0)).chain(steps) {
            let Some(high) = top.checked_sub(gap) else { break };
            let low = high.saturating_sub(length);
            ranges.push((low, high));
            let Some(next) = low.checked_sub(2) else { break };
            top = next;
        }
        ranges
    })
}

fn close_code() -> impl Strategy<Value = CloseCode> {
    let own: Vec<_> = CloseCode::TABLE.iter().map(|(code, ..)| *code).collect();
    prop_oneof![
        proptest::sample::select(own),
        (0..=CloseCode::MAX_APPLICATION).prop_map(CloseCode::Application),
        number().prop_map(|code| CloseCode::Application(code.min(CloseCode::MAX_APPLICATION))),
    ]
}

fn frame() -> impl Strategy<Value = Owned> {
    let reliability = proptest::sample::select(Reliability::ALL.to_vec());
    let ecn = proptest::option::of((number(), number(), number()));
    let plain = prop_oneof![
        (0..300usize).prop_map(Frame::Padding),
        (reliability, number()).prop_map(|(reliability, position)| Frame::Stream { reliability, position }),
        number().prop_map(Frame::MaxData),
        (number(), number()).prop_map(|(stream, limit)| Frame::MaxStreamData {
            stream: StreamId(stream),
            limit
        }),
        number().prop_map(Frame::DataBlocked),
        (number(), number()).prop_map(|(stream, position)| Frame::StreamBlocked {
            stream: StreamId(stream),
            position
        }),
        (number(), number(), number()).prop_map(|(stream, code, final_position)| Frame::ResetStream {
            stream: StreamId(stream),
            code,
            final_position
        }),
        (number(), number()).prop_map(|(stream, code)| Frame::StopSending {
            stream: StreamId(stream),
            code
        }),
        any::<[u8; 8]>().prop_map(Frame::PathChallenge),
        any::<[u8; 8]>().prop_map(Frame::PathResponse),
        Just(Frame::Ping),
        any::<u64>().prop_map(Frame::Echo),
        any::<u64>().prop_map(Frame::EchoReply),
        number().prop_map(Frame::MaxStreams),
    ];
    let segment = (vec(any::<u8>(), 1..300), 0..MAX_MESSAGE, 0..MAX_MESSAGE).prop_map(|(bytes, offset, more)| {
        let offset = offset.min(MAX_MESSAGE - bytes.len() as u32);
        let end = offset + bytes.len() as u32;
        Owned::Segment(offset, (end + more % 1_000).min(MAX_MESSAGE), bytes)
    });
    prop_oneof![
        4 => plain.prop_map(Owned::Plain),
        2 => vec(any::<u8>(), 0..300).prop_map(Owned::Event),
        1 => segment,
        1 => (ecn, number(), ranges()).prop_map(|(ecn, delay_us, ranges)| {
            Owned::Ack(ecn.map(|(ect0, ect1, ce)| EcnCounts { ect0, ect1, ce }), delay_us, ranges)
        }),
        1 => (close_code(), number(), "\\PC{0,60}").prop_map(|(code, detail, reason)| Owned::Close(code, detail, reason)),
    ]
}

fn address() -> impl Strategy<Value = Addr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(core::net::IpAddr::from),
        any::<[u8; 16]>().prop_map(core::net::IpAddr::from)
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| Addr::new(ip, port))
}

fn beacon() -> impl Strategy<Value = Beacon> {
    // As they are read: IPv4 as IPv4, and nobody's address nowhere.
    let place = address().prop_map(|address| Addr::new(address.ip().to_canonical(), address.port().max(1)));
    let place = place.prop_filter("somebody's", |address| {
        let ip = address.ip();
        !ip.is_unspecified() && !ip.is_multicast() && ip != core::net::IpAddr::V4(core::net::Ipv4Addr::BROADCAST)
    });
    let version = (number(), number()).prop_map(|(epoch, seqno)| Version {
        epoch: Epoch(epoch),
        seqno,
    });
    (any::<[u8; 32]>(), version, 1..=u16::MAX, vec(place, 0..=MAX_SAID)).prop_map(
        |(entity, version, port, addresses)| Beacon {
            entity: EntityId(entity),
            version,
            port,
            addresses,
        },
    )
}

fn ticket() -> impl Strategy<Value = Ticket> {
    let key = proptest::option::of(any::<[u8; 32]>());
    (any::<[u8; 32]>(), any::<[u8; 8]>(), vec(address(), 0..=16), key).prop_map(|(entity, print, addresses, key)| {
        let ticket = Ticket::new(EntityId(entity), print, addresses);
        match key {
            Some(key) => ticket.with_network_key(key),
            None => ticket,
        }
    })
}

fn noise<const LEN: usize>() -> impl Strategy<Value = [u8; LEN]> {
    vec(any::<u8>(), LEN).prop_map(|bytes| bytes.try_into().expect("the length asked for"))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn headers_round_trip(header in header()) {
        prop_assert_eq!(Header::decode(&encode(&header)), Ok(header));
    }

    #[test]
    fn a_header_is_accepted_only_beside_its_own_length(header in header(), other in 0..70_000usize) {
        let right = header.payload_len as usize + OVERHEAD;
        prop_assert_eq!(header.check_len(right), Ok(()));
        prop_assert_eq!(header.check_len(other).is_ok(), other == right);
    }

    #[test]
    fn a_masked_packet_is_told_by_its_session_alone(header in header(), mask in noise::<64>(), tail in vec(any::<u8>(), 16..80)) {
        let mut bytes = encode(&header);
        net_wire::apply_mask(&mut bytes, &mask);
        let packet = [&bytes[..], &tail].concat();
        prop_assert_eq!(peek(&packet), Ok(Datagram::Protected { session: header.session }));
        prop_assert_eq!(&net_wire::sample(&packet)[..], &tail[tail.len() - 16..]);
    }

    #[test]
    fn frames_round_trip_and_take_what_was_foretold(frames in vec(frame(), 0..12)) {
        let mut space = [0xEE; 8192];
        let mut writer = FrameWriter::new(&mut space);
        for frame in &frames {
            prop_assert!(frame.write(&mut writer));
        }
        let mut reader = FrameReader::new(writer.written());
        let mut length = 0;
        for expected in &frames {
            let frame = reader.next().expect("own frames are well-formed").expect("as many as were written");
            prop_assert!(expected.is(&frame), "{:?} became {:?}", expected, frame);
            length += encoded_len(&frame);
        }
        prop_assert_eq!(reader.next(), Ok(None));
        prop_assert_eq!(length, writer.len());
        fuzz::frames(writer.written());
    }

    #[test]
    fn a_frame_fits_exactly_its_length_and_no_less(owned in frame()) {
        let mut space = [0; 4096];
        let mut writer = FrameWriter::new(&mut space);
        prop_assert!(owned.write(&mut writer));
        let length = writer.len();
        let expected = writer.written().to_vec();
        let mut exact = vec![0; length];
        prop_assert!(owned.write(&mut FrameWriter::new(&mut exact)));
        prop_assert_eq!(&exact, &expected);
        for less in 0..length {
            let mut writer = FrameWriter::new(&mut exact[..less]);
            prop_assert!(!owned.write(&mut writer) || matches!(owned, Owned::Ack(..)));
            prop_assert!(writer.is_empty() || matches!(owned, Owned::Ack(..)));
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_refused(owned in frame()) {
        let mut space = [0; 4096];
        let mut writer = FrameWriter::new(&mut space);
        prop_assert!(owned.write(&mut writer));
        for length in 1..writer.len() {
            let mut reader = FrameReader::new(&writer.written()[..length]);
            prop_assert_eq!(reader.next(), Err(DropReason::MalformedFrame));
            prop_assert_eq!(reader.next(), Ok(None));
        }
    }

    #[test]
    fn the_fast_lengths_agree_with_the_frames(offset in 0..MAX_MESSAGE, length in 0..20_000usize, position in number()) {
        let bytes = vec![1; length];
        prop_assert_eq!(event_frame_len(length), encoded_len(&Frame::Event(&bytes)));
        let segment = Frame::Segment { offset, total: MAX_MESSAGE, bytes: &bytes };
        prop_assert_eq!(segment_frame_len(offset, MAX_MESSAGE, length), encoded_len(&segment));
        let stream = Frame::Stream { reliability: Reliability::Reliable, position };
        prop_assert_eq!(stream_frame_len(position), encoded_len(&stream));
    }

    #[test]
    fn a_segment_fills_the_room_it_is_given(offset in 0..MAX_MESSAGE, left in 1..40_000u32, space in 0..20_000usize) {
        let total = offset.saturating_add(left).min(MAX_MESSAGE);
        let room = segment_room(offset, total, space);
        prop_assert!(room <= (total - offset) as usize);
        prop_assert!(room == 0 || segment_frame_len(offset, total, room) <= space);
        let more = room + 1;
        prop_assert!(room == (total - offset) as usize || segment_frame_len(offset, total, more) > space);
    }

    #[test]
    fn padding_has_the_length_asked_for(length in prop_oneof![2..400usize, 16_380..16_400usize]) {
        let mut space = vec![0xEE; length];
        let mut writer = FrameWriter::new(&mut space);
        prop_assert!(writer.padding(length));
        prop_assert_eq!(writer.remaining(), 0);
        let mut reader = FrameReader::new(&space);
        while let Some(frame) = reader.next().expect("padding is well-formed") {
            prop_assert_eq!(frame.frame_type(), FrameType::Padding);
        }
    }

    #[test]
    fn handshake_packets_round_trip(sender in 1..=u64::MAX, receiver in 1..=u64::MAX, long in noise::<152>(), short in noise::<64>()) {
        let (sender, receiver) = (SessionId(sender), SessionId(receiver));
        let first = Initiation::encode(sender, Suite::ChaChaPoly, &long);
        let view = Initiation::parse(&first).expect("own packet");
        prop_assert_eq!((view.sender(), view.noise(), view.suite()), (sender, &long, Suite::ChaChaPoly));
        prop_assert!(!view.has_mac2());
        let second = Response::encode(receiver, sender, Suite::ChaChaPoly, &short);
        let view = Response::parse(&second).expect("own packet");
        prop_assert_eq!((view.receiver(), view.sender(), view.noise()), (receiver, sender, &short));
        let (nonce, sealed) = (short[..24].try_into().expect("24"), short[24..56].try_into().expect("32"));
        let third = CookieReply::encode(receiver, nonce, sealed);
        let view = CookieReply::parse(&third).expect("own packet");
        prop_assert_eq!((view.receiver(), view.nonce(), view.sealed()), (receiver, nonce, sealed));
        for packet in [&first[..], &second, &third] {
            fuzz::handshake(packet);
            for length in 0..packet.len() {
                prop_assert!(peek(&packet[..length]).is_err());
                prop_assert!(Initiation::parse(&packet[..length]).is_err());
                prop_assert!(Response::parse(&packet[..length]).is_err());
                prop_assert!(CookieReply::parse(&packet[..length]).is_err());
            }
        }
    }

    #[test]
    fn handshake_payloads_round_trip(entity in any::<[u8; 32]>(), epoch in any::<u64>(), counter in any::<u64>(), label in any::<u64>()) {
        let (epoch, association) = (Epoch(epoch), AssociationId(label));
        let first = InitiationPayload { entity: EntityId(entity), epoch, counter, association };
        prop_assert_eq!(InitiationPayload::decode(&first.encode()), Ok(first));
        let second = ResponsePayload { epoch, association };
        prop_assert_eq!(ResponsePayload::decode(&second.encode()), Ok(second));
        for length in 0..first.encode().len() {
            prop_assert_eq!(InitiationPayload::decode(&first.encode()[..length]), Err(DropReason::BadHandshakeBody));
        }
    }

    #[test]
    fn routed_datagrams_round_trip(ends in any::<(u64, u64)>(), hops in any::<(u8, u8)>(), flags in 0..16u8, hop in any::<(u64, u64)>(), inner in vec(any::<u8>(), 64..200)) {
        let flags = RoutingFlags::from_bits(flags).expect("four bits");
        let header = RoutingHeader { ttl: hops.0, hop_count: hops.1, flags, src: NodeId(ends.0), dest: NodeId(ends.1) };
        let trailer = HopTrailer { session: SessionId(hop.0), counter: hop.1, tag: [hops.0; 16] };
        let (mut front, mut back) = ([0; ROUTING_LEN], [0; TRAILER_LEN]);
        header.encode(&mut front);
        trailer.encode(&mut back);
        let datagram = [&front[..], &inner, &back].concat();
        let routed = Routed::parse(&datagram).expect("own datagram");
        prop_assert_eq!((routed.header, routed.packet, routed.trailer), (header, &inner[..], trailer));
        fuzz::routing(&datagram);
        for length in 0..ROUTING_LEN + HEADER_LEN + TRAILER_LEN {
            prop_assert_eq!(Routed::parse(&datagram[..length.min(datagram.len() - 1)]), Err(DropReason::TooShort));
        }
    }

    #[test]
    fn tickets_round_trip(ticket in ticket()) {
        let text = ticket.to_string();
        prop_assert_eq!(Ticket::parse(&text), Ok(ticket));
        for length in 0..text.len() {
            prop_assert!(Ticket::parse(&text[..length]).is_err());
        }
    }

    #[test]
    fn beacons_round_trip(beacon in beacon()) {
        let body = beacon.encode();
        prop_assert_eq!(Beacon::decode(&body), Ok(beacon));
        fuzz::beacon(&body);
    }

    #[test]
    fn varints_round_trip(value in number()) {
        fuzz::varint(&value.to_le_bytes());
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..400)) {
        for body in BODIES {
            body(&bytes);
        }
    }

    #[test]
    fn nearly_valid_bytes_are_survived(valid in nearly_valid(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = valid;
        let last = bytes.len() - 1;
        bytes[at.index(last + 1)] = byte;
        for body in BODIES {
            body(&bytes);
            body(&bytes[..cut.index(last + 1)]);
        }
    }
}

const BODIES: [fn(&[u8]); 8] = [
    fuzz::header,
    fuzz::frames,
    fuzz::ack,
    fuzz::handshake,
    fuzz::ticket,
    fuzz::routing,
    fuzz::beacon,
    fuzz::varint,
];

/// Valid bytes of every codec, to be damaged.
fn nearly_valid() -> impl Strategy<Value = Vec<u8>> {
    let frames = vec(frame(), 1..6).prop_map(|frames| {
        let mut space = vec![0; 4096];
        let mut writer = FrameWriter::new(&mut space);
        for frame in frames {
            let _ = frame.write(&mut writer);
        }
        writer.written().to_vec()
    });
    let routed = vec(any::<u8>(), 120..200).prop_map(|mut bytes| {
        bytes[..2].copy_from_slice(b"RT");
        bytes[4] &= 0x0F;
        bytes[5] = 0;
        bytes
    });
    prop_oneof![
        frames,
        header().prop_map(|header| encode(&header).to_vec()),
        noise::<152>().prop_map(|noise| Initiation::encode(SessionId(5), Suite::ChaChaPoly, &noise).to_vec()),
        noise::<64>()
            .prop_map(|noise| Response::encode(SessionId(6), SessionId(5), Suite::ChaChaPoly, &noise).to_vec()),
        ticket().prop_map(|ticket| ticket.to_string().into_bytes()),
        beacon().prop_map(|beacon| beacon.encode().to_vec()),
        routed,
    ]
}

#[test]
fn every_reserved_byte_of_the_header_is_checked_and_no_field_is_missing() {
    let mut end = 0;
    for field in FIELDS {
        assert_eq!(field.offset, end, "{} follows without a gap", field.name);
        end += field.size;
        for at in field.offset..end {
            let mut bytes = encode(&Header {
                event_count: 1,
                ..Header::default()
            });
            bytes[at] ^= 0x40;
            let expected = match field.name {
                "MAGIC" => Some(DropReason::GarbageMagic),
                "VERSION" => Some(DropReason::BadVersion),
                "FLAGS" => Some(DropReason::ReservedFlag),
                "PRIORITY" => Some(DropReason::ReservedField),
                _ if field.reserved => Some(DropReason::ReservedField),
                _ => None,
            };
            assert_eq!(Header::decode(&bytes).err(), expected, "{} at {at}", field.name);
        }
    }
    assert_eq!(end, HEADER_LEN);
}

#[test]
fn a_handshake_header_is_zero_but_for_what_it_needs() {
    let packet = Initiation::encode(SessionId(1), Suite::ChaChaPoly, &[0; 152]);
    for at in 3..HEADER_LEN {
        let mut changed = packet;
        changed[at] ^= 1;
        assert!(Initiation::parse(&changed).is_err(), "byte {at}");
    }
    let packet = Response::encode(SessionId(1), SessionId(2), Suite::ChaChaPoly, &[0; 64]);
    for at in (3..24).chain(32..HEADER_LEN) {
        let mut changed = packet;
        changed[at] ^= 1;
        assert!(Response::parse(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn unknown_frames_are_skipped_from_0x40_on_and_refused_below() {
    for number in 0..=u8::MAX {
        let plaintext = [number, 1, 0, 0x0e, 0];
        let mut reader = FrameReader::new(&plaintext);
        if FrameType::from_byte(number).is_some() {
            continue;
        }
        if number >= 0x40 {
            assert_eq!(reader.next(), Ok(Some(Frame::Ping)));
            assert_eq!(reader.skipped(), 1);
        } else {
            assert_eq!(reader.next(), Err(DropReason::UnknownFrame));
        }
        assert_eq!(reader.next(), Ok(None));
    }
}

#[test]
fn only_acknowledgements_and_close_ask_for_no_acknowledgement() {
    let silent: Vec<_> = FrameType::ALL.iter().filter(|kind| !kind.is_ack_eliciting()).collect();
    assert_eq!(silent, [&FrameType::Ack, &FrameType::AckEcn, &FrameType::Close]);
}

#[test]
fn what_a_reader_would_refuse_is_not_written() {
    let mut space = [0; 2048];
    let mut writer = FrameWriter::new(&mut space);
    assert!(!writer.segment(0, 5, &[]));
    assert!(!writer.segment(3, 5, &[0; 3]));
    assert!(!writer.segment(0, MAX_MESSAGE + 1, &[0]));
    let reason = "r".repeat(MAX_REASON + 1);
    assert!(!writer.frame(&Frame::Close {
        code: CloseCode::NoError,
        detail: 0,
        reason: &reason
    }));
    assert_eq!(writer.ack(None, 0, []), None);
    assert_eq!(writer.ack(None, 0, [(9, 3)]), None);
    assert!(!writer.padding(1));
    assert!(writer.is_empty());
    assert_eq!(
        writer.ack(None, 0, [(5, 9), (4, 4), (1, 2)]),
        Some(1),
        "ranges that touch end the frame"
    );
}

#[test]
fn an_acknowledgement_below_zero_is_refused() {
    for body in [
        &[3u8, 0, 4][..],
        &[9, 0, 2, 6, 0],
        &[9, 0, 2, 2, 4],
        &[9, 0, 2, 0xFF, 0x7F, 0],
    ] {
        let plaintext = [&[FrameType::Ack as u8, body.len() as u8], body].concat();
        assert_eq!(
            FrameReader::new(&plaintext).next(),
            Err(DropReason::MalformedFrame),
            "{body:?}"
        );
    }
}

#[test]
fn datagrams_beyond_what_udp_carries_are_refused() {
    let mut datagram = vec![0; MAX_DATAGRAM + 1];
    datagram[..32].copy_from_slice(
        &encode(&Header {
            session: SessionId(1),
            ..Header::default()
        })[..32],
    );
    assert_eq!(peek(&datagram), Err(DropReason::Oversized));
    assert_eq!(
        peek(&datagram[..MAX_DATAGRAM]),
        Ok(Datagram::Protected { session: SessionId(1) })
    );
}

#[test]
fn no_answer_is_longer_than_an_initiation() {
    for kind in net_wire::HandshakeKind::ALL {
        assert!(kind.packet_len() <= INITIATION_LEN);
    }
    assert_eq!((INITIATION_LEN, RESPONSE_LEN), (260, 172));
}

#[test]
fn application_codes_do_not_collide_with_the_protocol() {
    for (code, number, ..) in CloseCode::TABLE {
        assert_eq!(CloseCode::from_wire(*number), Some(*code));
        assert_eq!(code.to_wire(), *number);
    }
    assert_eq!(CloseCode::from_wire(0xFF), None);
    assert_eq!(CloseCode::from_wire(0x100), Some(CloseCode::Application(0)));
    assert_eq!(CloseCode::Application(u64::MAX).to_wire(), u64::MAX);
}

#[test]
fn drop_reasons_index_a_counter_array() {
    let mut names = std::collections::BTreeSet::new();
    for (at, reason) in DropReason::ALL.iter().enumerate() {
        assert_eq!(reason.as_index(), at);
        assert!(names.insert(reason.name()) && !reason.doc().is_empty());
    }
    assert_eq!(names.len(), DropReason::COUNT);
}

#[test]
fn a_varint_of_every_length_is_read_back() {
    for shift in 0..64 {
        fuzz::varint(&(u64::MAX >> shift).to_le_bytes());
        fuzz::varint(&(1u64 << shift).to_le_bytes());
    }
    assert_eq!(varint::read(&[]), None);
}
