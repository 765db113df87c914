//! The same inputs give the same history, whatever the number of lanes, the size of batches or the day.
//!
//! Invariants: see each test. Not here: other ciphers, other builds (`net-io-sim`, `.ci/run`).

mod common;

use std::collections::BTreeMap;

use common::glass::{Glass, look};
use common::{Message, Pair, message, seed_of, seeds};
use net_kernel::api::{Command, Event, SessionConfig, StreamOptions};
use net_kernel::base::{Duration, Instant, SessionKey, StreamId};
use net_kernel::session::aead::{Aead, Reference};
use net_kernel::wire::Reliability;

const KINDS: [Reliability; 3] = [
    Reliability::Reliable,
    Reliability::ReliableUnordered,
    Reliability::FireAndForget,
];

/// What applications and the network saw.
#[derive(PartialEq, Debug)]
struct History {
    events: Vec<Vec<Event>>,
    messages: Vec<Streams>,
    /// When each datagram left, from whom, how long it is, and what it says where that can be read.
    datagrams: Vec<(Instant, usize, usize, Vec<u8>)>,
    traces: Vec<[u8; 32]>,
}

/// Messages of each stream.
type Streams = BTreeMap<(SessionKey, StreamId), Vec<Message>>;

/// A hub with three peers, streams of every kind, a rekey, a close, two dials that cross and, on a lossy network, a move,
/// which loses what is on its way to the old address.
fn story<A: Aead>(seed: u64, lanes: u8, batch: usize, lossy: bool, gathers: bool) -> History {
    let config = SessionConfig {
        stream_window: 256 << 10,
        session_window: 1 << 20,
        ..SessionConfig::default()
    };
    let mut pair = Pair::<A>::of(seed, 4, &config, lanes);
    (pair.batch, pair.gathers) = (batch, gathers);
    pair.tape = Some(Vec::new());
    if lossy {
        (pair.loss, pair.jitter) = (80, Duration::from_millis(12));
    }
    let peer = pair.entity(1);
    let to = pair.sides[1].addr;
    pair.command(0, Command::Connect { peer, addresses: &[to] });
    let links: Vec<[SessionKey; 2]> = (1..4).map(|other| pair.connect_between(other, 0)).collect();
    let mut rng = seed_of(seed).fork("story");
    let mut streams = Vec::new();
    for (link, keys) in links.iter().enumerate() {
        for reliability in KINDS {
            let options = StreamOptions {
                reliability,
                ..StreamOptions::default()
            };
            let session = keys[0];
            streams.push((link + 1, session, pair.open(link + 1, session, options)));
            streams.push((0, keys[1], pair.open(0, keys[1], options)));
        }
    }
    for round in 0..60 {
        let (side, session, stream) = streams[rng.below(streams.len() as u64) as usize];
        for _ in 0..1 + rng.below(5) {
            pair.send(side, session, stream, &message(round, rng.below(1_100) as usize));
        }
        if round == 20 {
            let session = links[1][1];
            pair.command(0, Command::Rekey { session });
        }
        if round == 30 && lossy {
            pair.sides[2].addr = ([10, 1, 1, 1], 9).into();
        }
        let pause = Duration::from_millis(rng.below(40));
        pair.run_for(pause);
    }
    pair.run_for(Duration::from_secs(5));
    for &(side, session, stream) in &streams {
        pair.command(side, Command::Finish { session, stream });
    }
    pair.run_for(Duration::from_secs(5));
    let session = links[0][0];
    let close = Command::Close {
        session,
        code: 4,
        reason: "told",
    };
    pair.command(1, close);
    pair.run_for(Duration::from_secs(5));
    let tape = pair.tape.take().expect("recording");
    let datagrams = tape.into_iter().map(|taped| {
        let text = look(&taped.bytes).map(|seen| seen.text).unwrap_or_default();
        (taped.at, taped.side, taped.bytes.len(), text)
    });
    History {
        datagrams: datagrams.collect(),
        events: pair.sides.iter().map(|side| side.desk.events.clone()).collect(),
        messages: pair.sides.iter().map(|side| side.desk.messages.clone()).collect(),
        traces: pair
            .sides
            .iter()
            .map(|side| side.kernel.trace().expect("kept").digest())
            .collect(),
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let first = story::<Reference>(1, 2, 64, true, false);
    assert!(first == story::<Reference>(1, 2, 64, true, false));
    let other = story::<Reference>(2, 2, 64, true, false);
    assert!(first.traces.iter().zip(&other.traces).all(|(a, b)| a != b));
}

#[test]
fn one_lane_and_four_lanes_tell_one_history() {
    for seed in seeds(8) {
        let one = story::<Glass>(seed, 1, 64, true, false);
        for lanes in [2, 4, 16] {
            let many = story::<Glass>(seed, lanes, 64, true, false);
            assert!(one.messages == many.messages, "seed {seed}, {lanes} lanes");
            assert_eq!(one.events, many.events, "seed {seed}, {lanes} lanes");
            // Everything on the wire is as before, but for the session ids, which carry the lane, and what is
            // drawn from them.
            let shape = |history: &History| {
                let shape = history
                    .datagrams
                    .iter()
                    .map(|(at, side, len, text)| (*at, *side, *len, text.clone()));
                shape.collect::<Vec<_>>()
            };
            assert!(shape(&one) == shape(&many), "seed {seed}, {lanes} lanes");
        }
    }
}

/// Per stream what arrived, and which events there were, whatever their order.
fn essence(history: &History) -> (Vec<Streams>, Vec<Vec<String>>) {
    let mut messages = history.messages.clone();
    for stream in messages.iter_mut().flat_map(BTreeMap::values_mut) {
        stream.sort_unstable();
    }
    let events = history.events.iter().map(|events| {
        // How much credit came back at once depends on when it is looked at.
        let told = events.iter().filter(|event| !matches!(event, Event::Writable { .. }));
        let mut told: Vec<String> = told.map(|event| format!("{event:?}")).collect();
        told.sort_unstable();
        told
    });
    (messages, events.collect())
}

#[test]
fn batches_of_one_and_of_sixty_four_tell_one_history() {
    for seed in seeds(8) {
        let one = story::<Glass>(seed, 1, 1, false, false);
        for batch in [2, 7, 64] {
            let many = story::<Glass>(seed, 1, batch, false, false);
            let ((messages, events), (other_messages, other_events)) = (essence(&one), essence(&many));
            assert_eq!(events, other_events, "seed {seed}, batches of {batch}");
            assert!(messages == other_messages, "seed {seed}, batches of {batch}");
        }
    }
}

#[test]
fn datagrams_gathered_in_one_buffer_tell_the_history_of_single_ones() {
    for seed in seeds(8) {
        let single = story::<Glass>(seed, 1, 64, true, false);
        let gathered = story::<Glass>(seed, 1, 64, true, true);
        assert!(single == gathered, "seed {seed}");
    }
}
