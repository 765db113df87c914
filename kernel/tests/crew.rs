//! A crew changes nothing but how long things take: whoever opens and seals, in whatever pieces and order, every history is that of
//! a kernel alone.
//!
//! Invariants: see each test. Not here: threads (`net-io-real`).

mod common;

use common::glass::Glass;
use common::{Flight, Hop, Message, Pair, message, seed_of, seeds};
use net_kernel::api::{Command, Drops, Event, Input, LinkChange, SessionConfig, StreamOptions};
use net_kernel::base::{Addr, Duration, Instant, SessionKey};
use net_kernel::session::aead::{Aead, Reference};
use net_kernel::wire::{DropReason, Reliability};

/// Everything there is to compare.
#[derive(PartialEq)]
struct History {
    /// When each datagram left, from whom and its bytes.
    datagrams: Vec<(Instant, usize, Vec<u8>)>,
    events: Vec<Vec<Event>>,
    /// Of each side, stream by stream.
    messages: Vec<Vec<Vec<Message>>>,
    drops: Vec<Drops>,
    traces: Vec<[u8; 32]>,
}

/// What the network does to datagrams: copies that arrive together with the original, damage before and behind it, delays.
fn network(seed: u64, moved: Addr) -> impl FnMut(&Flight<'_>) -> Option<Vec<Hop>> {
    let mut rng = seed_of(seed).fork("network");
    let delay = Duration::from_millis(10);
    move |flight| {
        let target = match flight.to {
            to if to == moved => 2,
            to => usize::from(to.port()) - 1_000,
        };
        let hop = |after, bytes: Vec<u8>| (after, target, flight.from, bytes);
        let whole = flight.bytes.to_vec();
        let mut damaged = whole.clone();
        let at = rng.below(damaged.len() as u64) as usize;
        damaged[at] ^= 1 << rng.below(8);
        Some(match rng.below(16) {
            0 => vec![],
            1 => vec![hop(delay, damaged)],
            2 => vec![hop(delay, whole.clone()), hop(delay, whole)],
            3 => vec![hop(delay, damaged), hop(delay, whole)],
            4 => vec![hop(delay, whole.clone()), hop(delay, damaged), hop(delay, whole)],
            5 => vec![hop(delay + Duration::from_millis(rng.below(30)), whole)],
            6 => vec![hop(delay, whole[..whole.len() / 2].to_vec()), hop(delay, whole)],
            _ => vec![hop(delay, whole)],
        })
    }
}

/// A hub with three peers over a bad network. Keys are replaced all the time, a peer moves, the transmitter is full now and then, a
/// peer breaks off in the midst of its own data, another starts afresh.
fn story<A: Aead>(seed: u64, lanes: u8, gathers: bool, crew: Option<usize>) -> (History, u64) {
    let config = SessionConfig {
        rekey_after: Duration::from_secs(2),
        rekey_after_responder: Duration::from_secs(3),
        reject_after: Duration::from_secs(8),
        previous_drain: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(6),
        ..SessionConfig::default()
    };
    let mut pair = Pair::<A>::of(seed, 4, &config, lanes);
    pair.gathers = gathers;
    if let Some(least) = crew {
        pair.with_crews(seed, least);
    }
    let moved: Addr = ([10, 1, 1, 1], 9).into();
    pair.tape = Some(Vec::new());
    pair.rule = Some(Box::new(network(seed, moved)));
    let links: Vec<[SessionKey; 2]> = (1..4).map(|other| pair.connect_between(other, 0)).collect();
    let mut rng = seed_of(seed).fork("story");
    let mut streams = Vec::new();
    for (link, keys) in links.iter().enumerate() {
        for reliability in [Reliability::Reliable, Reliability::FireAndForget] {
            let options = StreamOptions {
                reliability,
                ..StreamOptions::default()
            };
            streams.push((link + 1, keys[0], pair.open(link + 1, keys[0], options)));
            streams.push((0, keys[1], pair.open(0, keys[1], options)));
        }
    }
    for round in 0..80 {
        for _ in 0..3 {
            let (side, session, stream) = streams[rng.below(streams.len() as u64) as usize];
            let len = rng.below(20_000) as usize;
            pair.send(side, session, stream, &message(round, len));
        }
        match round {
            20 => pair.sides[2].addr = moved,
            25 => pair.turn(2, Input::Link(LinkChange::Rebound)),
            40 => {
                let session = links[0][0];
                let close = Command::Close {
                    session,
                    code: 3,
                    reason: "enough",
                };
                pair.command(1, close);
            }
            60 => pair.restart(3, common::boot(seed * 2 + 4, 2, &config, lanes)),
            _ => {}
        }
        for side in 0..4 {
            pair.tx_ready(side, (round % 7 == 0).then_some(rng.below(8) as usize));
        }
        pair.run_for(Duration::from_millis(20 + rng.below(150)));
    }
    for side in 0..4 {
        pair.tx_ready(side, None);
    }
    pair.run_for(Duration::from_secs(20));
    let ran = pair.sides.iter().filter_map(|side| side.desk.crew.as_ref());
    let ran = ran.map(net_kernel::session::crew::Drawn::ran).sum();
    let tape = pair.tape.take().expect("recording");
    let history = History {
        datagrams: tape
            .into_iter()
            .map(|taped| (taped.at, taped.side, taped.bytes))
            .collect(),
        events: pair.sides.iter().map(|side| side.desk.events.clone()).collect(),
        messages: pair
            .sides
            .iter()
            .map(|side| side.desk.messages.values().cloned().collect())
            .collect(),
        drops: pair.sides.iter().map(|side| side.kernel.drops()).collect(),
        traces: pair
            .sides
            .iter()
            .map(|side| side.kernel.trace().expect("kept").digest())
            .collect(),
    };
    (history, ran)
}

fn compare<A: Aead>(seeds: std::ops::Range<u64>) {
    let mut refused = Drops::default();
    for seed in seeds {
        for (lanes, gathers) in [(1, false), (2, true), (4, false)] {
            let (alone, none) = story::<A>(seed, lanes, gathers, None);
            assert_eq!(none, 0);
            for drops in &alone.drops {
                refused.add(drops);
            }
            for least in [0, 5_000, usize::MAX] {
                let (helped, ran) = story::<A>(seed, lanes, gathers, Some(least));
                let what = format!("seed {seed}, {lanes} lanes, from {least} bytes on");
                assert_eq!(ran > 0, least < usize::MAX, "{what}");
                assert!(alone.datagrams == helped.datagrams, "{what}: other datagrams");
                assert_eq!(alone.events, helped.events, "{what}");
                assert_eq!(alone.drops, helped.drops, "{what}");
                assert!(alone == helped, "{what}: other messages or traces");
            }
        }
    }
    let often = [
        DropReason::Replayed,
        DropReason::AeadFailure,
        DropReason::UnknownSession,
    ];
    for reason in often {
        assert!(refused.get(reason) > 10, "the network must be bad enough: {refused:?}");
    }
}

#[test]
fn with_a_crew_every_history_is_that_of_a_kernel_alone() {
    compare::<Glass>(seeds(6));
}

#[test]
fn under_the_real_cipher_too() {
    compare::<Reference>(0..1);
}

/// Copies of one packet in one batch all open ahead; one of them counts.
#[test]
fn of_copies_opened_ahead_together_one_is_accepted() {
    let mut pair = Pair::new(3);
    pair.with_crews(3, 0);
    let [a, _] = pair.connect();
    let stream = pair.open(0, a, StreamOptions::default());
    pair.run_for(Duration::from_secs(1));
    let before = pair.sides[1].kernel.drops();
    pair.rule = Some(Box::new(|flight| {
        let copy = || {
            (
                Duration::from_millis(10),
                1 - flight.side,
                flight.from,
                flight.bytes.to_vec(),
            )
        };
        Some(vec![copy(), copy(), copy()])
    }));
    assert!(pair.send(0, a, stream, b"once"));
    pair.run_for(Duration::from_millis(15));
    assert_eq!(pair.received(1, stream), [(0, b"once".to_vec())]);
    assert_eq!(pair.drops_since(1, &before), [(DropReason::Replayed, 2)]);
    assert!(pair.sides[1].desk.crew.as_ref().expect("given").ran() > 0);
}
