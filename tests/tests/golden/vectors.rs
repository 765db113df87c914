//! The vectors of tests/vectors/: what goes in, its bytes, and what a decoder makes of them.

use core::fmt::Write;

use net_base::{AssociationId, EntityId, Epoch, NodeId, SessionId, StreamId};
use net_wire::beacon::{BEACON_TAG_LEN, BODY_LEN, Beacon, Sealed};
use net_wire::frame::MAX_MESSAGE;
use net_wire::handshake::{CookieReply, Initiation, Response};
use net_wire::mesh::{Core, Health, Message, Pingwave, Version};
use net_wire::{
    CloseCode, DropReason, EcnCounts, Flags, Frame, FrameReader, FrameWriter, HEADER_LEN, Header, HopTrailer,
    InitiationPayload, ROUTING_LEN, Reliability, ResponsePayload, Routed, RoutingFlags, RoutingHeader, Suite,
    TRAILER_LEN, Ticket, apply_mask, peek, varint,
};

/// One line of a vector file before its verdict.
pub struct Vector {
    pub input: String,
    pub bytes: Vec<u8>,
}

fn vector(input: impl Into<String>, bytes: impl AsRef<[u8]>) -> Vector {
    Vector {
        input: input.into(),
        bytes: bytes.as_ref().to_vec(),
    }
}

/// Every file: name, what its verdicts are about, vectors.
pub fn all() -> Vec<(&'static str, &'static str, Vec<Vector>)> {
    vec![
        (
            "varint",
            "One varint at the front of the bytes; the verdict shows what is left after it.",
            varints(),
        ),
        ("header", "An unmasked header (section 2).", headers()),
        (
            "mask",
            "A header and a 64-byte mask behind it; the verdict is the masked header (section 2).",
            masks(),
        ),
        (
            "datagram",
            "A datagram as far as it can be told without keys (sections 1 to 3).",
            datagrams(),
        ),
        ("handshake", "A handshake packet (section 3).", handshakes()),
        ("payload", "The payload inside a Noise message (section 3).", payloads()),
        ("frames", "A whole plaintext (section 4).", frames()),
        ("routing", "A routed datagram (section 5).", routed()),
        ("mesh", "A message of the mesh (section 8).", mesh()),
        (
            "beacon",
            "A beacon as it is sent, of which the verdict shows the tag's first byte, or the body inside (section 8a).",
            beacons(),
        ),
        ("ticket", "A ticket's text, as UTF-8 bytes (section 6).", tickets()),
    ]
}

/// The text of a file.
pub fn render(about: &str, vectors: &[Vector]) -> String {
    let name = all()
        .into_iter()
        .find(|(_, text, _)| *text == about)
        .expect("a file of the list")
        .0;
    let mut text = format!("# {about} Sections are of docs/protocol.md.\n");
    for vector in vectors {
        write!(text, "\ninput: {}\nbytes: ", vector.input).expect("a string takes all");
        for byte in &vector.bytes {
            write!(text, "{byte:02x}").expect("a string takes all");
        }
        write!(text, "\nverdict: {}\n", judge(name, &vector.bytes)).expect("a string takes all");
    }
    text.replace("bytes: \n", "bytes:\n")
}

/// The (input, bytes, verdict) of a file's text.
pub fn parse(text: &str) -> Vec<(String, Vec<u8>, String)> {
    let mut vectors = Vec::new();
    for block in text.split("\n\n").skip(1) {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {block}")).trim().to_owned()
        };
        let hex = value("bytes:");
        let bytes = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"));
        vectors.push((value("input:"), bytes.collect(), value("verdict:")));
    }
    vectors
}

/// Inputs that seed a fuzz corpus: the bytes of vector files, `ack` being the bodies of the acknowledgement frames.
pub fn seeds(sources: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, _, vectors) in all() {
        let is_ack = |vector: &&Vector| vector.bytes.first().is_some_and(|kind| matches!(kind, 4 | 5));
        for (index, vector) in vectors.iter().enumerate().filter(|_| sources.contains(&name)) {
            seeds.push((format!("{name}-{index:02}"), vector.bytes.clone()));
        }
        if name == "frames" && sources.contains(&"ack") {
            let bodies = vectors.iter().filter(is_ack).enumerate();
            seeds.extend(bodies.map(|(index, vector)| (format!("ack-{index:02}"), vector.bytes[2..].to_vec())));
        }
    }
    seeds
}

/// What the decoder of a file makes of bytes.
pub fn judge(name: &str, bytes: &[u8]) -> String {
    let verdict = match name {
        "varint" => varint::read(bytes)
            .map(|read| format!("{read:?}"))
            .ok_or("not a varint".to_owned()),
        "header" => match bytes.try_into() {
            Ok(header) => said(Header::decode(header)),
            Err(_) => Err("not 64 bytes".to_owned()),
        },
        "mask" => Ok(masked(bytes)),
        "datagram" => said(peek(bytes)),
        "handshake" => handshake(bytes),
        "payload" if bytes.len() > 16 => said(InitiationPayload::decode(bytes)),
        "payload" => said(ResponsePayload::decode(bytes)),
        "frames" => plaintext(bytes),
        "routing" => said(Routed::parse(bytes).map(|routed| (routed.header, routed.packet.len(), routed.trailer))),
        "mesh" => said(Message::decode(bytes)),
        "beacon" => match bytes.try_into() {
            Ok(body) => said(Beacon::decode(body)),
            Err(_) => said(Sealed::parse(bytes).map(|sealed| sealed.tag[0])),
        },
        "ticket" => match Ticket::parse(core::str::from_utf8(bytes).expect("tickets are text")) {
            Ok(ticket) => Ok(format!("{ticket:?}")),
            Err(error) => Err(error.to_string()),
        },
        _ => panic!("no codec has the name {name}"),
    };
    match verdict {
        Ok(value) => format!("accepted {value}"),
        Err(reason) => format!("refused {reason}"),
    }
}

fn said<T: core::fmt::Debug>(result: Result<T, DropReason>) -> Result<String, String> {
    result
        .map(|value| format!("{value:?}"))
        .map_err(|reason| reason.to_string())
}

fn masked(bytes: &[u8]) -> String {
    let (header, mask) = bytes.split_first_chunk::<HEADER_LEN>().expect("a header and a mask");
    let mut header = *header;
    apply_mask(&mut header, mask.try_into().expect("a mask of 64 bytes"));
    header.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn handshake(bytes: &[u8]) -> Result<String, String> {
    match bytes.get(HEADER_LEN) {
        Some(2) => {
            said(Response::parse(bytes).map(|view| (view.receiver(), view.sender(), view.suite(), view.has_mac2())))
        }
        Some(3) => said(CookieReply::parse(bytes).map(|view| (view.receiver(), view.nonce()[0], view.sealed()[0]))),
        _ => said(Initiation::parse(bytes).map(|view| (view.sender(), view.suite(), view.has_mac2()))),
    }
}

fn plaintext(bytes: &[u8]) -> Result<String, String> {
    let mut reader = FrameReader::new(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().map_err(|reason| reason.to_string())? {
        frames.push(frame);
    }
    Ok(format!("{frames:?}, {} skipped", reader.skipped()))
}

fn varints() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for value in [
        0,
        1,
        0x7F,
        0x80,
        300,
        0x3FFF,
        0x4000,
        u32::MAX as u64,
        1 << 63,
        u64::MAX,
    ] {
        let mut out = [0; varint::MAX_LEN];
        let length = varint::write(&mut out, value).expect("no varint is longer");
        vectors.push(vector(value.to_string(), &out[..length]));
    }
    vectors.push(vector("1, and a byte that is not its own", [0x01, 0xAA]));
    vectors.push(vector("nothing", []));
    vectors.push(vector("cut after one byte", [0x80]));
    vectors.push(vector("cut after nine bytes", [0xFF; 9]));
    vectors.push(vector("0 in two bytes", [0x80, 0x00]));
    vectors.push(vector("1 in three bytes", [0x81, 0x80, 0x00]));
    vectors.push(vector(
        "2^64",
        [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02],
    ));
    vectors.push(vector("eleven bytes", [0x80; 11]));
    vectors
}

fn encoded(header: &Header) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    header.encode(&mut bytes);
    bytes
}

fn full() -> Header {
    Header {
        flags: Flags::RELIABLE | Flags::PRIORITY | Flags::FIN,
        priority: 7,
        subprotocol: 0x0400,
        counter: 0x0102_0304_0506_0708,
        session: SessionId(0x1112_1314_1516_1718),
        stream: StreamId(0x2122_2324_2526_2728),
        sequence: 0x3132_3334_3536_3738,
        payload_len: 0x4142,
        event_count: 0x5152,
    }
}

/// The bytes with some of them set.
fn with(bytes: impl AsRef<[u8]>, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = bytes.as_ref().to_vec();
    for (at, byte) in changes {
        bytes[*at] = *byte;
    }
    bytes
}

fn headers() -> Vec<Vector> {
    let empty = Header {
        session: SessionId(9),
        ..Header::default()
    };
    let (full, plain) = (encoded(&full()), encoded(&empty));
    vec![
        vector("every live field", full),
        vector("no event, no flag", plain),
        vector(
            "heartbeat",
            encoded(&Header {
                flags: Flags::HEARTBEAT,
                counter: 5,
                ..empty
            }),
        ),
        vector(
            "FIN without events",
            encoded(&Header {
                flags: Flags::FIN,
                stream: StreamId(3),
                sequence: 8,
                ..empty
            }),
        ),
        vector(
            "PRIORITY flag at level 0",
            encoded(&Header {
                flags: Flags::PRIORITY,
                ..empty
            }),
        ),
        vector("handshake", encoded(&Header::handshake(SessionId(9), 108))),
        vector("nothing", []),
        vector("one byte short", &full[..63]),
        vector("magic of another protocol", with(full, &[(0, 0x46)])),
        vector("version 2", with(full, &[(2, 2)])),
        vector("flag NACK", with(full, &[(3, 0x02)])),
        vector("flag 40", with(full, &[(3, 0x40)])),
        vector("flag 80", with(full, &[(3, 0x80)])),
        vector("priority without its flag", with(full, &[(3, 0x01)])),
        vector("hop ttl", with(full, &[(5, 1)])),
        vector("hop count", with(full, &[(6, 1)])),
        vector("fragment flags", with(full, &[(7, 1)])),
        vector("channel hash", with(full, &[(10, 1)])),
        vector("first part of the nonce", with(full, &[(15, 1)])),
        vector("subnet id", with(full, &[(51, 1)])),
        vector("origin hash", with(full, &[(52, 1)])),
        vector("fragment id", with(full, &[(56, 1)])),
        vector("fragment offset", with(full, &[(59, 1)])),
        vector("subprotocol without events", with(plain, &[(8, 1)])),
        vector("stream without events", with(plain, &[(32, 1)])),
        vector("sequence without events", with(plain, &[(40, 1)])),
        vector("handshake and FIN", with(plain, &[(3, 0x18)])),
        vector("handshake with a counter", with(plain, &[(3, 0x10), (16, 1)])),
        vector("handshake with events", with(plain, &[(3, 0x10), (62, 1)])),
    ]
}

fn masks() -> Vec<Vector> {
    let rising: [u8; 64] = core::array::from_fn(|at| at as u8);
    vec![
        vector(
            "every live field under 00 01 02 ...",
            [encoded(&full()), rising].concat(),
        ),
        vector("the same header under zeros", [encoded(&full()), [0; 64]].concat()),
        vector("zeros under ff ff ff ...", [[0; 64], [0xFF; 64]].concat()),
    ]
}

fn initiation() -> Vec<u8> {
    let noise: [u8; 152] = core::array::from_fn(|at| at as u8);
    let mut packet = Initiation::encode(SessionId(0x0102_0304_0506_0708), Suite::ChaChaPoly, &noise);
    Initiation::set_mac1(&mut packet, &[0xA1; 16]);
    packet.to_vec()
}

fn response() -> Vec<u8> {
    let noise: [u8; 64] = core::array::from_fn(|at| at as u8);
    let (to, from) = (SessionId(0x0102_0304_0506_0708), SessionId(0x1112_1314_1516_1718));
    let mut packet = Response::encode(to, from, Suite::ChaChaPoly, &noise);
    Response::set_mac1(&mut packet, &[0xA1; 16]);
    Response::set_mac2(&mut packet, &[0xA2; 16]);
    packet.to_vec()
}

fn cookie_reply() -> Vec<u8> {
    CookieReply::encode(SessionId(0x0102_0304_0506_0708), &[0xC0; 24], &[0xC1; 32]).to_vec()
}

fn datagrams() -> Vec<Vector> {
    let protected = [&encoded(&full())[..], &[0x77; 16]].concat();
    vec![
        vector("protected", &protected),
        vector("initiation", initiation()),
        vector("response", response()),
        vector("cookie reply", cookie_reply()),
        vector("routed", routed_datagram()),
        vector("nothing", []),
        vector("one byte", [0x45]),
        vector("the magic alone", [0x45, 0x4E]),
        vector("two other bytes", [0x16, 0x03]),
        vector("a header of zeros", [0; 80]),
        vector("a header without a tag", &protected[..79]),
        vector("version 0", with(&protected, &[(2, 0)])),
        vector(
            "session 0 that is no handshake",
            with(
                &protected,
                &[(24, 0), (25, 0), (26, 0), (27, 0), (28, 0), (29, 0), (30, 0), (31, 0)],
            ),
        ),
        vector("initiation of kind 4", with(initiation(), &[(64, 4)])),
        vector("initiation of kind 2", with(initiation(), &[(64, 2)])),
        vector("initiation to a session", with(initiation(), &[(24, 1)])),
        vector(
            "response to session 0",
            with(
                response(),
                &[(24, 0), (25, 0), (26, 0), (27, 0), (28, 0), (29, 0), (30, 0), (31, 0)],
            ),
        ),
        vector("initiation, one byte short", &initiation()[..259]),
        vector("initiation, one byte long", [&initiation()[..], &[0]].concat()),
        vector("routed, too short", &routed_datagram()[..117]),
    ]
}

fn handshakes() -> Vec<Vector> {
    vec![
        vector("initiation without mac2", initiation()),
        vector("initiation with mac2", with(initiation(), &[(259, 1)])),
        vector("response", response()),
        vector("cookie reply", cookie_reply()),
        vector("initiation with suite 0", with(initiation(), &[(65, 0)])),
        vector("initiation with suite 3", with(initiation(), &[(65, 3)])),
        vector("initiation with a reserved byte", with(initiation(), &[(66, 1)])),
        vector(
            "initiation with the other reserved byte",
            with(initiation(), &[(67, 1)]),
        ),
        vector(
            "initiation from session 0",
            with(
                initiation(),
                &[(68, 0), (69, 0), (70, 0), (71, 0), (72, 0), (73, 0), (74, 0), (75, 0)],
            ),
        ),
        vector("initiation with a stream id", with(initiation(), &[(32, 1)])),
        vector("initiation with a wrong PAYLOAD_LEN", with(initiation(), &[(60, 0)])),
        vector("response with suite 9", with(response(), &[(65, 9)])),
        vector("response with a reserved byte", with(response(), &[(67, 1)])),
        vector("response, one byte short", &response()[..171]),
        vector("cookie reply with suite 1", with(cookie_reply(), &[(65, 1)])),
        vector("cookie reply with a reserved byte", with(cookie_reply(), &[(66, 1)])),
    ]
}

fn payloads() -> Vec<Vector> {
    let entity = EntityId(core::array::from_fn(|at| at as u8));
    let first = InitiationPayload {
        entity,
        epoch: Epoch(1),
        counter: 2,
        association: AssociationId(3),
    }
    .encode();
    let second = ResponsePayload {
        epoch: Epoch(4),
        association: AssociationId(5),
    }
    .encode();
    vec![
        vector("of an initiation", first),
        vector("of a response", second),
        vector("of an initiation, one byte short", &first[..55]),
        vector("of a response, one byte short", &second[..15]),
        vector("nothing", []),
    ]
}

fn written(fill: impl FnOnce(&mut FrameWriter<'_>) -> bool) -> Vec<u8> {
    let mut space = [0; 2048];
    let mut writer = FrameWriter::new(&mut space);
    assert!(fill(&mut writer));
    writer.written().to_vec()
}

fn frames() -> Vec<Vector> {
    let mut vectors = accepted_frames();
    vectors.extend(refused_frames());
    let longest_reason = [&[0x12, 0x82, 0x02, 0x00, 0x00][..], &[b'r'; 256]].concat();
    vectors.push(vector("Close with a reason of 256 bytes", longest_reason));
    vectors
}

fn accepted_frames() -> Vec<Vector> {
    let stream = StreamId(300);
    let plain = [
        Frame::Padding(0),
        Frame::Padding(3),
        Frame::Event(b""),
        Frame::Event(b"hello"),
        Frame::Segment {
            offset: 0,
            total: 1,
            bytes: b"x",
        },
        Frame::Segment {
            offset: MAX_MESSAGE - 2,
            total: MAX_MESSAGE,
            bytes: b"xy",
        },
        Frame::Stream {
            reliability: Reliability::FireAndForget,
            position: 0,
        },
        Frame::Stream {
            reliability: Reliability::ReliableUnordered,
            position: u64::MAX,
        },
        Frame::MaxData(1 << 20),
        Frame::MaxStreamData { stream, limit: 65_536 },
        Frame::DataBlocked(1 << 20),
        Frame::StreamBlocked {
            stream,
            position: 65_536,
        },
        Frame::ResetStream {
            stream,
            code: 1,
            final_position: 2,
        },
        Frame::StopSending { stream, code: 1 },
        Frame::PathChallenge(*b"pathpath"),
        Frame::PathResponse(*b"pathpath"),
        Frame::Ping,
        Frame::Echo(0x0102_0304_0506_0708),
        Frame::EchoReply(0x0102_0304_0506_0708),
        Frame::MaxStreams(100),
        Frame::Close {
            code: CloseCode::ProtocolViolation,
            detail: 26,
            reason: "reason",
        },
        Frame::Close {
            code: CloseCode::Application(5),
            detail: 0,
            reason: "",
        },
    ];
    let mut vectors: Vec<_> = plain
        .iter()
        .map(|frame| vector(format!("{frame:?}"), written(|out| out.frame(frame))))
        .collect();
    let ecn = Some(EcnCounts {
        ect0: 10,
        ect1: 0,
        ce: 200,
    });
    vectors.extend([
        vector("nothing", []),
        vector("Event of 200 bytes", written(|out| out.event(&[0x61; 200]))),
        vector("Ack of counter 0", written(|out| out.ack(None, 0, [(0, 0)]).is_some())),
        vector(
            "Ack of three ranges",
            written(|out| out.ack(None, 25, [(90, 100), (50, 88), (0, 0)]).is_some()),
        ),
        vector(
            "AckEcn of every counter",
            written(|out| out.ack(ecn, 25, [(0, u64::MAX)]).is_some()),
        ),
        vector(
            "a packet of a stream",
            written(|out| {
                out.ack(None, 0, [(1, 2)]).is_some()
                    && out.stream(Reliability::Reliable, 48)
                    && out.event(b"a")
                    && out.event(b"b")
            }),
        ),
        vector(
            "unknown types from 40 on, before and after a ping",
            [0x40, 0x00, 0x0E, 0x00, 0xFF, 0x02, 0xAA, 0xBB],
        ),
    ]);
    vectors
}

fn refused_frames() -> Vec<Vector> {
    let long_reason = [&[0x12, 0x83, 0x02, 0x00, 0x00][..], &[b'r'; 257]].concat();
    vec![
        vector("a type without a length", [0x0E]),
        vector("a length that is cut", [0x01, 0x80]),
        vector("a length in two bytes where one does", [0x01, 0x81, 0x00, 0x61]),
        vector("Event longer than the packet", [0x01, 0x05, 0x61]),
        vector("unknown type 13", [0x13, 0x00]),
        vector("unknown type 3f", [0x3F, 0x01, 0x00]),
        vector("unknown type 40 longer than the packet", [0x40, 0x02, 0x00]),
        vector("Padding that is not zero", [0x00, 0x02, 0x00, 0x01]),
        vector("Segment without bytes", [0x02, 0x02, 0x00, 0x05]),
        vector("Segment beyond its message", [0x02, 0x04, 0x01, 0x02, 0x61, 0x62]),
        vector("Segment that begins beyond its message", [0x02, 0x03, 0x03, 0x02, 0x61]),
        vector(
            "Segment of a message above 16 MiB",
            [0x02, 0x06, 0x00, 0x81, 0x80, 0x80, 0x08, 0x61],
        ),
        vector("Segment without total", [0x02, 0x01, 0x00]),
        vector("Stream of reliability 3", [0x03, 0x02, 0x03, 0x00]),
        vector("Stream without position", [0x03, 0x01, 0x01]),
        vector("Stream with a byte behind", [0x03, 0x03, 0x01, 0x00, 0x00]),
        vector("Ack without ranges", [0x04, 0x02, 0x05, 0x00]),
        vector("Ack whose first range falls below 0", [0x04, 0x03, 0x05, 0x00, 0x06]),
        vector(
            "Ack whose gap falls below 0",
            [0x04, 0x05, 0x05, 0x00, 0x00, 0x04, 0x00],
        ),
        vector(
            "Ack whose second range falls below 0",
            [0x04, 0x05, 0x05, 0x00, 0x00, 0x00, 0x04],
        ),
        vector("Ack with a gap but no length", [0x04, 0x04, 0x05, 0x00, 0x00, 0x00]),
        vector("AckEcn without ranges", [0x05, 0x03, 0x00, 0x00, 0x00]),
        vector("MaxData without limit", [0x06, 0x00]),
        vector("MaxStreamData without limit", [0x07, 0x01, 0x00]),
        vector("DataBlocked with a byte behind", [0x08, 0x02, 0x00, 0x00]),
        vector("StreamBlocked without position", [0x09, 0x01, 0x00]),
        vector("ResetStream without final position", [0x0A, 0x02, 0x00, 0x00]),
        vector("StopSending without code", [0x0B, 0x01, 0x00]),
        vector("PathChallenge of 7 bytes", [0x0C, 0x07, 1, 2, 3, 4, 5, 6, 7]),
        vector("PathResponse of 9 bytes", [0x0D, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        vector("Ping with a body", [0x0E, 0x01, 0x00]),
        vector("Echo without token", [0x0F, 0x00]),
        vector("EchoReply of 4 bytes", [0x10, 0x04, 1, 2, 3, 4]),
        vector(
            "MaxStreams above 2^64",
            [0x11, 0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        ),
        vector("Close of a code that is not assigned", [0x12, 0x02, 0x0D, 0x00]),
        vector("Close without detail", [0x12, 0x01, 0x00]),
        vector("Close with a reason that is not UTF-8", [0x12, 0x03, 0x00, 0x00, 0xFF]),
        vector("Close with a reason of 257 bytes", long_reason),
        vector("a good frame, then a broken one", [0x0E, 0x00, 0x03, 0x00]),
    ]
}

fn routed_datagram() -> Vec<u8> {
    let flags = RoutingFlags::CONTROL.with(RoutingFlags::PRIORITY);
    let (src, dest) = (NodeId(0x0102_0304_0506_0708), NodeId(0x1112_1314_1516_1718));
    let (mut header, mut trailer) = ([0; ROUTING_LEN], [0; TRAILER_LEN]);
    RoutingHeader {
        ttl: 16,
        hop_count: 1,
        flags,
        src,
        dest,
    }
    .encode(&mut header);
    HopTrailer {
        session: SessionId(0x2122_2324_2526_2728),
        counter: 3,
        tag: [0x7A; 16],
    }
    .encode(&mut trailer);
    [&header[..], &encoded(&full()), &trailer].concat()
}

fn routed() -> Vec<Vector> {
    let valid = routed_datagram();
    vec![
        vector("a header between routing header and trailer", &valid),
        vector("ttl 0", with(&valid, &[(2, 0)])),
        vector("another magic", with(&valid, &[(1, 0x53)])),
        vector("flag 10", with(&valid, &[(4, 0x10)])),
        vector("reserved byte", with(&valid, &[(5, 1)])),
        vector("nothing", []),
        vector("a routing header alone", &valid[..ROUTING_LEN]),
        vector("an inner packet of 63 bytes", &valid[..valid.len() - 1]),
    ]
}

fn mesh() -> Vec<Vector> {
    let origin = EntityId(core::array::from_fn(|at| at as u8));
    let version = Version {
        epoch: Epoch(0x1112_1314_1516_1718),
        seqno: 9,
    };
    let wave = Message::Pingwave(Pingwave {
        core: Core {
            origin,
            version,
            load: 250,
            health: Health::Good,
            relays: true,
            capability_version: 2,
            capability_digest: [0x5A; 32],
        },
        signature: [0xA5; 64],
        hops: 1,
        ttl: 14,
        rtt_us: 1_500,
    });
    let valid = wave.encode().bytes().to_vec();
    let whole = |message: Message| message.encode().bytes().to_vec();
    vec![
        vector("a pingwave", &valid),
        vector("a withdrawal", whole(Message::Withdraw { origin, version })),
        vector(
            "a request",
            whole(Message::Request {
                origin,
                version,
                ttl: 16,
            }),
        ),
        vector(
            "a probe",
            whole(Message::Probe {
                target: origin,
                token: 7,
            }),
        ),
        vector("an answer", whole(Message::Probed { token: 7, heard: true })),
        vector("a neighbour that is not heard", whole(Message::Heard(false))),
        vector("nothing", []),
        vector("an unknown kind", [9]),
        vector("a pingwave cut short", &valid[..valid.len() - 1]),
        vector("a load above a thousand", with(&valid, &[(50, 4)])),
        vector("another health", with(&valid, &[(51, 3)])),
        vector("17 hops", with(&valid, &[(157, 17)])),
        vector("heard: 2", [6, 2]),
    ]
}

fn beacons() -> Vec<Vector> {
    let beacon = |said: &[&str]| Beacon {
        entity: EntityId(core::array::from_fn(|at| at as u8)),
        version: Version {
            epoch: Epoch(0x1112_1314_1516_1718),
            seqno: 9,
        },
        port: 4_433,
        addresses: said.iter().map(|text| text.parse().expect("an address")).collect(),
    };
    let silent = beacon(&[]).encode();
    let two = beacon(&["192.0.2.1:4433", "[2001:db8::1]:65535"]).encode();
    let four = beacon(&["192.0.2.1:1", "192.0.2.2:2", "192.0.2.3:3", "192.0.2.4:4"]).encode();
    let sealed = Sealed {
        tag: &[0x5A; BEACON_TAG_LEN],
        body: &[0xA5; BODY_LEN],
    };
    let sealed = sealed.encode();
    vec![
        vector("a sealed beacon", sealed),
        vector("a body that says no address", silent),
        vector("a body with two addresses", two),
        vector("a body with four addresses", four),
        vector("nothing", []),
        vector("cut short", &sealed[..sealed.len() - 1]),
        vector("a byte too many", [&sealed[..], &[0]].concat()),
        vector("another magic", with(sealed, &[(1, b'E')])),
        vector("another version", with(sealed, &[(2, 2)])),
        vector("a reserved byte that is not zero", with(sealed, &[(3, 1)])),
        vector("port 0", with(silent, &[(48, 0), (49, 0)])),
        vector("five addresses", with(four, &[(50, 5)])),
        vector("a reserved byte of the body that is not zero", with(two, &[(51, 1)])),
        vector("fewer addresses counted than there are", with(two, &[(50, 1)])),
        vector("more addresses counted than there are", with(two, &[(50, 3)])),
        vector("an address with port 0", with(two, &[(68, 0), (69, 0)])),
        vector("the address of a group", with(two, &[(64, 239)])),
    ]
}

fn tickets() -> Vec<Vector> {
    let entity = EntityId(core::array::from_fn(|at| at as u8));
    let address = |text: &str| text.parse().expect("an address");
    let public = Ticket::new(entity, *b"finger!!", vec![address("192.0.2.1:4433")]);
    let several = vec![
        address("192.0.2.1:4433"),
        address("[2001:db8::1]:65535"),
        address("127.0.0.1:1"),
    ];
    let text = public.to_string();
    let secret = public.clone().with_network_key([0x5A; 32]).to_string();
    vec![
        vector("one IPv4 address", &text),
        vector(
            "three addresses",
            Ticket::new(entity, *b"finger!!", several).to_string(),
        ),
        vector("no address", Ticket::new(entity, *b"finger!!", vec![]).to_string()),
        vector("with the network key 5a 5a 5a ...", &secret),
        vector("upper case, white space around", format!(" {}\n", text.to_uppercase())),
        vector("nothing", ""),
        vector("a prefix alone", "net1"),
        vector("another prefix", "net2abcdefgh"),
        vector("cut in the middle", &text[..50]),
        vector("the last character cut", &text[..text.len() - 1]),
        vector(
            "two characters swapped",
            format!("{}{}{}{}", &text[..20], &text[21..22], &text[20..21], &text[22..]),
        ),
        vector("a character that is not base32", text.replacen('a', "8", 1)),
        vector("white space inside", format!("{} {}", &text[..30], &text[30..])),
        vector(
            "a public ticket with the secret prefix",
            text.replacen("net1", "netkey1", 1),
        ),
        vector(
            "a secret ticket with the public prefix",
            secret.replacen("netkey1", "net1", 1),
        ),
        vector("far too long", text.repeat(9)),
    ]
}
