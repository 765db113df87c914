//! What callgrind counts: the instructions of turns of each kind.
//!
//! Invariants: only what runs inside [`measured`] is counted; every case measures a warm kernel, and the same steps every
//! time, so that two runs of one build on one kind of processor give the same count.
//! Not here: running callgrind (`gate.rs`).

use net_io_real::aead::Ring;
use net_kernel::api::{Command, Input, Messages, SessionConfig, StreamOptions};
use net_kernel::base::{CommandId, Duration, StreamId};
use net_kernel::session::aead::Aead;
use std::hint::black_box;

use super::lanes::{self, LanePair};
use super::null::Null;
use super::pair::Pair;
use super::relay::{FILLING_1200 as FILLING_HOP_1200, Row};
use super::table::known;

/// Repetitions of most cases.
const REPEATS: u64 = 200;

/// Labels looked up.
const LOOKUPS: u64 = 10_000;

/// Repetitions of the handshake.
const HANDSHAKES: u64 = 20;

/// A message that makes a datagram of 1,200 bytes: less header and tag, the STREAM frame and the head of its own frame.
const FILLING_1200: usize = 1_200 - net_kernel::wire::OVERHEAD - 10;

/// One thing that is counted.
pub struct Case {
    /// Its key in `gate/instructions.toml`.
    pub name: &'static str,
    /// What one repetition is.
    pub what: &'static str,
    /// How often `run` repeats it.
    pub repeats: u64,
    /// Runs it.
    pub run: fn(),
}

/// All of them. Those that name no cipher count the protocol alone.
pub const CASES: [Case; 16] = [
    case("empty_turn", "a turn that finds nothing to do", empty_turn),
    case(
        "data_in_ack_out",
        "one turn: a message of 64 B in, its acknowledgement out",
        data_in_ack_out,
    ),
    case(
        "echo_in_echo_out",
        "one turn: an echo in, its reply out",
        echo_in_echo_out,
    ),
    case(
        "send_64",
        "one turn: a message of 64 B handed in, its packet out",
        send_64,
    ),
    case(
        "request_response",
        "two turns: a message of 64 B in; one handed in, its packet out",
        request_response,
    ),
    case("ack_64", "one turn: one acknowledgement of 64 packets in", ack_64),
    case(
        "messages_20",
        "two turns: 20 messages of 64 B handed in, one packet out; that packet in on the other side",
        messages_20,
    ),
    case(
        "open_64",
        "the lane opens and reads a packet with a message of 64 B",
        || open::<Null>(64),
    ),
    case(
        "seal_64",
        "the lane fills and seals a packet with a message of 64 B",
        || seal::<Null>(64),
    ),
    case(
        "relay_64",
        "one turn at a relay: a packet with a message of 64 B in and out",
        || relay(64),
    ),
    case(
        "relay_1200",
        "one turn at a relay: a datagram of 1,200 B in and out",
        || relay(FILLING_HOP_1200),
    ),
    Case {
        name: "route_lookup",
        what: "a label's next hop is looked up among 10,000 nodes",
        repeats: LOOKUPS,
        run: route_lookup,
    },
    Case {
        name: "handshake",
        what: "both sides of a first handshake, from the command to the event, with every job",
        repeats: HANDSHAKES,
        run: handshake,
    },
    case("ring_open_64", "open_64 with ring's ChaCha20-Poly1305", || {
        open::<Ring>(64)
    }),
    case(
        "ring_open_1200",
        "the lane opens and reads a datagram of 1,200 B, with ring",
        || open::<Ring>(FILLING_1200),
    ),
    case(
        "ring_seal_1200",
        "the lane fills and seals a datagram of 1,200 B, with ring",
        || seal::<Ring>(FILLING_1200),
    ),
];

const fn case(name: &'static str, what: &'static str, run: fn()) -> Case {
    Case {
        name,
        what,
        repeats: REPEATS,
        run,
    }
}

/// Counted. Never inlined, because callgrind starts and stops at its name.
#[inline(never)]
pub fn measured<T>(act: impl FnOnce() -> T) -> T {
    black_box(act())
}

const MESSAGE: [u8; 64] = [7; 64];

/// Two kernels with a stream on which some data has passed, so that windows, tables and buffers have their size.
fn warm() -> (Pair<Null>, StreamId) {
    let config = SessionConfig {
        keep_alive: None,
        ..SessionConfig::default()
    };
    let mut pair = Pair::connected(&config);
    let stream = pair.open(0, StreamOptions::default());
    pair.stream_through(stream, &[7; 64 * 64], 64, 100_000);
    pair.settle();
    (pair, stream)
}

/// Sends one message and, where pacing holds it back, waits.
fn send_one(pair: &mut Pair<Null>, side: usize, stream: StreamId) {
    assert!(
        pair.send(side, stream, Messages::One(&MESSAGE)),
        "the send buffer is empty"
    );
    pair.now = pair.now + Duration::from_micros(5);
    pair.wake();
}

fn empty_turn() {
    let (mut pair, _) = warm();
    for _ in 0..REPEATS {
        let now = pair.now;
        measured(|| pair.sides[0].turn(now, Input::Wake));
    }
    assert!(pair.sides[0].desk.wire.is_empty(), "there was nothing to send");
}

fn data_in_ack_out() {
    let (mut pair, stream) = warm();
    for _ in 0..REPEATS {
        for last in [false, true] {
            send_one(&mut pair, 0, stream);
            let count = pair.arrive::<1>(1, |side, at, input| {
                if last {
                    measured(|| side.turn(at, input));
                } else {
                    side.turn(at, input);
                }
            });
            assert_eq!(
                (count, pair.sides[1].desk.wire.len()),
                (1, usize::from(last)),
                "every second packet is acknowledged"
            );
        }
        pair.step();
    }
}

fn echo_in_echo_out() {
    let (mut pair, _) = warm();
    let session = pair.sessions[0];
    for _ in 0..REPEATS {
        let now = pair.now;
        pair.sides[0].turn(now, Input::Command(CommandId(9), Command::Echo { session }));
        let count = pair.arrive::<1>(1, |side, at, input| measured(|| side.turn(at, input)));
        assert_eq!(
            (count, pair.sides[1].desk.wire.len()),
            (1, 1),
            "an echo is answered at once"
        );
        pair.settle();
    }
}

fn request_response() {
    let (mut pair, stream) = warm();
    for round in 0..REPEATS + 100 {
        send_one(&mut pair, 0, stream);
        let counted = round >= 100;
        pair.arrive::<1>(1, |side, at, input| {
            if counted {
                measured(|| side.turn(at, input));
            } else {
                side.turn(at, input);
            }
        });
        if counted {
            measured(|| pair.send(1, stream, Messages::One(&MESSAGE)));
        } else {
            pair.send(1, stream, Messages::One(&MESSAGE));
        }
        assert!(!pair.sides[1].desk.wire.is_empty(), "the response leaves at once");
        pair.step();
    }
}

fn send_64() {
    let (mut pair, stream) = warm();
    for _ in 0..REPEATS {
        measured(|| pair.send(0, stream, Messages::One(&MESSAGE)));
        assert_eq!(pair.sides[0].desk.wire.len(), 1, "a message leaves at once");
        pair.settle();
    }
}

fn route_lookup() {
    let (routes, labels) = known(LOOKUPS);
    measured(|| {
        for &label in &labels {
            black_box(routes.next_hop(black_box(label)));
        }
    });
}

fn handshake() {
    for _ in 0..HANDSHAKES {
        let mut pair: Pair<Null> = Pair::apart(&SessionConfig::default());
        measured(|| pair.connect());
    }
}

fn open<A: Aead>(len: usize) {
    let message = vec![7; len];
    let mut pair = LanePair::<A>::new(&message);
    for _ in 0..REPEATS {
        pair.push(&message);
        pair.transmit(0);
        let count = pair.open::<1>(1, |lanes, now, batch, sink| {
            measured(|| lanes::read(lanes, now, batch, sink))
        });
        assert_eq!(count, 1, "one message, one packet");
        pair.exchange();
    }
}

fn seal<A: Aead>(len: usize) {
    let message = vec![7; len];
    let mut pair = LanePair::<A>::new(&message);
    for _ in 0..REPEATS {
        pair.push(&message);
        measured(|| pair.transmit(0));
        assert_eq!(pair.under_way(0), 1, "one message, one packet");
        pair.exchange();
    }
}

fn relay(len: usize) {
    let mut row = Row::<Null>::new(len);
    for _ in 0..REPEATS {
        row.load(1);
        assert_eq!(measured(|| row.relay()), 1, "one packet in, one out");
    }
    row.settle();
    assert!(row.delivered() > REPEATS * len as u64, "what was relayed arrived");
}

fn ack_64() {
    let (mut pair, stream) = warm();
    for _ in 0..REPEATS {
        while pair.sides[0].desk.wire.len() < 64 {
            send_one(&mut pair, 0, stream);
        }
        assert_eq!(pair.receive::<64>(1), 64);
        assert_eq!(pair.sides[1].desk.wire.len(), 1, "one batch, one acknowledgement");
        pair.arrive::<1>(0, |side, at, input| measured(|| side.turn(at, input)));
        pair.step();
    }
}

fn messages_20() {
    let (mut pair, stream) = warm();
    let messages = [7; 20 * 64];
    for _ in 0..REPEATS {
        measured(|| {
            pair.send(
                0,
                stream,
                Messages::Chunks {
                    bytes: &messages,
                    size: 64,
                },
            )
        });
        assert_eq!(pair.sides[0].desk.wire.len(), 1, "twenty messages fit one packet");
        pair.arrive::<1>(1, |side, at, input| measured(|| side.turn(at, input)));
        pair.settle();
    }
}
