//! Bounds and extremes: sizes, counts, path MTUs, silence, a transmitter that is mostly full.
//!
//! Invariants: see each test. Not here: what strangers may cost (`strangers.rs`).

#![allow(clippy::needless_range_loop, reason = "a side is a number")]

mod common;

use std::collections::BTreeSet;

use common::glass::{Glass, events, forge, look};
use common::{Pair, message, seed_of, seeds};
use net_kernel::api::{CloseReason, Command, Event, Holdings, Messages, Refused, SessionConfig, StreamOptions};
use net_kernel::base::{CommandId, Duration, SessionKey, StreamId};
use net_kernel::wire::subprotocol::MESH;
use net_kernel::wire::{Frame, OVERHEAD, Reliability};

const KINDS: [Reliability; 3] = [
    Reliability::Reliable,
    Reliability::ReliableUnordered,
    Reliability::FireAndForget,
];

fn of(reliability: Reliability) -> StreamOptions {
    StreamOptions {
        reliability,
        ..StreamOptions::default()
    }
}

fn refusal(pair: &Pair<Glass>, side: usize, command: CommandId) -> Option<Refused> {
    let mut events = pair.sides[side].desk.events.iter();
    events.find_map(|event| {
        let Event::Refused { command: refused, why } = event else {
            return None;
        };
        (*refused == command).then_some(*why)
    })
}

fn finish(pair: &mut Pair<Glass>, sessions: [SessionKey; 2], stream: StreamId) {
    for (side, session) in sessions.into_iter().enumerate() {
        pair.command(side, Command::Finish { session, stream });
    }
}

#[test]
fn messages_of_every_length_around_a_packet_arrive_as_they_were_sent() {
    for reliability in KINDS {
        for mtu in [1_200, 1_452] {
            let config = SessionConfig {
                max_mtu: mtu,
                ..SessionConfig::default()
            };
            let mut pair = Pair::<Glass>::of(100, 2, &config, 1);
            let [a, _] = pair.connect();
            pair.run_for(Duration::from_secs(2));
            let stream = pair.open(0, a, of(reliability));
            let packet = usize::from(mtu) - OVERHEAD;
            let lens: Vec<usize> = [0, 1, 2, 62, 63, 64, 65]
                .into_iter()
                .chain(packet - 30..packet + 3)
                .collect();
            let mut sent = Vec::new();
            for (n, &len) in lens.iter().enumerate() {
                if pair.send(0, a, stream, &message(n as u64, len)) {
                    sent.push(message(n as u64, len));
                }
                pair.run_for(Duration::from_millis(30));
            }
            let got: Vec<Vec<u8>> = pair
                .received(1, stream)
                .iter()
                .map(|(_, bytes)| bytes.clone())
                .collect();
            assert!(got == sent, "{reliability:?} at {mtu}: {} of {}", got.len(), sent.len());
            if reliability.is_reliable() {
                assert_eq!(sent.len(), lens.len());
            } else {
                let largest = sent.iter().map(Vec::len).max().expect("some fit");
                assert!(
                    (packet - 30..packet).contains(&largest),
                    "one packet's worth: {largest}"
                );
            }
        }
    }
}

#[test]
fn the_largest_message_passes_and_one_byte_more_is_refused() {
    let mut pair = Pair::<Glass>::of(101, 2, &SessionConfig::default(), 1);
    let [a, b] = pair.connect();
    for reliability in [Reliability::Reliable, Reliability::ReliableUnordered] {
        let stream = pair.open(0, a, of(reliability));
        let large = message(1, (16 << 20) + 1);
        let refused = pair.command(
            0,
            Command::Send {
                session: a,
                stream,
                messages: Messages::One(&large),
            },
        );
        assert_eq!(
            refusal(&pair, 0, refused),
            Some(Refused::MessageTooLarge { limit: 16 << 20 })
        );
        assert!(pair.send(0, a, stream, &large[..16 << 20]));
        pair.run_until(Duration::from_secs(120), "the largest message arrives", |pair| {
            !pair.received(1, stream).is_empty()
        });
        assert!(pair.received(1, stream) == [(0, large[..16 << 20].to_vec())]);
        finish(&mut pair, [a, b], stream);
        pair.run_for(Duration::from_secs(1));
    }
    let held = pair.sides[1].kernel.holdings();
    assert_eq!((held.streams, held.reordering), (0, 0));
}

#[test]
fn ten_thousand_streams_one_after_another_leave_no_trace() {
    let mut pair = Pair::<Glass>::of(102, 2, &SessionConfig::default(), 1);
    pair.delay = Duration::from_micros(100);
    let sessions = pair.connect();
    let mut ids = BTreeSet::new();
    for n in 0..10_000_u64 {
        let stream = pair.open(0, sessions[0], of(KINDS[n as usize % 3]));
        assert!(ids.insert(stream), "an id is used once");
        assert!(pair.send(0, sessions[0], stream, &n.to_le_bytes()));
        finish(&mut pair, sessions, stream);
        pair.run_for(Duration::from_micros(600));
        // The answering direction is finished once the stream is known there.
        finish(&mut pair, sessions, stream);
        pair.run_for(Duration::from_micros(100));
    }
    pair.run_for(Duration::from_secs(2));
    for side in 0..2 {
        assert_eq!(pair.sides[side].kernel.holdings().streams, 0, "side {side}");
    }
    let arrived: usize = ids.iter().map(|&stream| pair.received(1, stream).len()).sum();
    assert_eq!(arrived, 10_000);
}

#[test]
fn what_comes_late_for_a_stream_that_ended_is_ignored() {
    let mut pair = Pair::<Glass>::of(103, 2, &SessionConfig::default(), 1);
    let sessions = pair.connect();
    pair.tape = Some(Vec::new());
    let stream = pair.open(0, sessions[0], StreamOptions::default());
    pair.send(0, sessions[0], stream, b"one");
    finish(&mut pair, sessions, stream);
    pair.run_for(Duration::from_secs(1));
    finish(&mut pair, sessions, stream);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.sides[1].kernel.holdings().streams, 0);
    let tape = pair.tape.take().expect("recording");
    let mut seen = tape
        .iter()
        .filter(|taped| taped.side == 0)
        .filter_map(|taped| look(&taped.bytes));
    let seen = seen.next_back().expect("it sent");
    let header = events(seen.header.session, seen.header.counter + 500, stream, 0, 1);
    let run = Frame::Stream {
        reliability: Reliability::Reliable,
        position: 0,
    };
    let late = forge(seen.key, header, |writer| {
        assert!(writer.frame(&run) && writer.frame(&Frame::Event(b"two")));
    });
    let from = pair.sides[0].addr;
    let before = pair.sides[1].kernel.drops();
    pair.receive(1, vec![(from, late)]);
    assert_eq!(pair.drops_since(1, &before), []);
    assert_eq!(
        pair.sides[1].kernel.holdings().streams,
        0,
        "the id opens no second stream"
    );
    assert_eq!(pair.received(1, stream), [(0, b"one".to_vec())]);
}

#[test]
fn a_peer_opens_as_many_streams_as_it_was_granted_and_more_as_they_end() {
    let config = SessionConfig {
        max_streams: 100,
        ..SessionConfig::default()
    };
    let mut pair = Pair::<Glass>::of(104, 2, &config, 1);
    let sessions = pair.connect();
    pair.run_for(Duration::from_secs(1));
    let mut open = Vec::new();
    let command = loop {
        let session = sessions[0];
        let command = pair.command(
            0,
            Command::Open {
                session,
                options: StreamOptions::default(),
            },
        );
        if refusal(&pair, 0, command).is_some() {
            break command;
        }
        let Some(Event::Opened { stream, .. }) = pair.sides[0].desk.events.last() else {
            panic!("answered at once");
        };
        let stream = *stream;
        pair.send(0, session, stream, b"x");
        open.push(stream);
    };
    assert_eq!(refusal(&pair, 0, command), Some(Refused::StreamLimit));
    assert_eq!(open.len(), 100);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.sides[1].kernel.holdings().streams, 100);
    for stream in open.drain(..50) {
        finish(&mut pair, sessions, stream);
    }
    pair.run_for(Duration::from_secs(1));
    for _ in 0..50 {
        pair.open(0, sessions[0], StreamOptions::default());
    }
}

#[test]
fn sessions_beyond_the_limit_are_refused_and_disturb_nobody() {
    let config = SessionConfig {
        max_sessions: 2,
        ..SessionConfig::default()
    };
    let mut pair = Pair::<Glass>::of(105, 5, &config, 1);
    for side in 1..3 {
        pair.connect_between(side, 0);
    }
    let full: Vec<_> = pair.sides[0].kernel.sessions().collect();
    for side in 3..5 {
        let (peer, to) = (pair.entity(0), pair.sides[0].addr);
        pair.command(side, Command::Connect { peer, addresses: &[to] });
    }
    pair.run_for(Duration::from_secs(5));
    for side in 3..5 {
        let told = pair.has_event(side, |event| {
            matches!(
                event,
                Event::Closed {
                    why: CloseReason::Remote { .. },
                    ..
                }
            )
        });
        assert!(told, "side {side} is told");
    }
    assert_eq!(pair.sides[0].kernel.sessions().collect::<Vec<_>>(), full);
    let (peer, to) = (pair.entity(4), pair.sides[4].addr);
    let command = pair.command(0, Command::Connect { peer, addresses: &[to] });
    assert_eq!(refusal(&pair, 0, command), Some(Refused::TableFull));
    let (session, _) = full[0];
    let close = Command::Close {
        session,
        code: 0,
        reason: "",
    };
    pair.command(0, close);
    pair.connect_between(4, 0);
}

#[test]
fn the_largest_datagram_of_the_path_is_found() {
    for (path, least) in [(1_452, 1_452), (1_400, 1_381), (1_300, 1_281), (1_200, 1_200)] {
        let mut pair = Pair::<Glass>::of(106, 2, &SessionConfig::default(), 1);
        pair.mtu = path;
        let [a, _] = pair.connect();
        let stream = pair.open(0, a, StreamOptions::default());
        for n in 0..40 {
            assert!(pair.send(0, a, stream, &message(n, 20_000)));
            pair.run_for(Duration::from_millis(100));
        }
        assert_eq!(pair.received(1, stream).len(), 40, "path of {path}");
        let stats = pair.sides[0].kernel.stats(a).expect("it lives");
        assert!(
            (least..=path).contains(&usize::from(stats.mtu)),
            "path of {path}: {}",
            stats.mtu
        );
    }
}

#[test]
fn a_path_that_begins_to_swallow_large_packets_is_noticed_from_both_sides() {
    for seed in seeds(10) {
        let mut pair = Pair::<Glass>::of(seed, 2, &SessionConfig::default(), 1);
        let sessions = pair.connect();
        let streams = [0, 1].map(|side| pair.open(side, sessions[side], StreamOptions::default()));
        for round in 0..60 {
            for side in 0..2 {
                assert!(pair.send(side, sessions[side], streams[side], &message(round, 30_000)));
            }
            if round == 20 {
                pair.mtu = [1_200, 1_250, 1_400][seed as usize % 3];
            }
            pair.run_for(Duration::from_millis(40));
        }
        pair.run_until(Duration::from_secs(30), "everything arrives", |pair| {
            (0..2).all(|side| pair.received(1 - side, streams[side]).len() == 60)
        });
        for side in 0..2 {
            let stats = pair.sides[side].kernel.stats(sessions[side]).expect("it lives");
            assert!(usize::from(stats.mtu) <= pair.mtu, "seed {seed}: {}", stats.mtu);
        }
    }
}

#[test]
fn silence_ends_a_session_and_keep_alives_hold_it() {
    for (keep_alive, lives) in [(None, false), (Some(Duration::from_secs(15)), true)] {
        let config = SessionConfig {
            keep_alive,
            ..SessionConfig::default()
        };
        let mut pair = Pair::<Glass>::of(107, 2, &config, 1);
        let sessions = pair.connect();
        let before = pair.datagrams;
        pair.run_for(Duration::from_secs(110));
        for side in 0..2 {
            assert_eq!(pair.session(side).is_some(), lives);
            let timed_out = Event::Closed {
                session: sessions[side],
                peer: pair.entity(1 - side),
                why: CloseReason::TimedOut,
            };
            assert_eq!(pair.has_event(side, |event| *event == timed_out), !lives);
        }
        let quiet = pair.datagrams - before;
        assert!(quiet < 40, "an idle session says little: {quiet} datagrams");
        assert_eq!(pair.sides[0].kernel.holdings() == Holdings::default(), !lives);
    }
}

#[test]
fn a_silent_peer_with_a_full_window_costs_no_wakes_but_probes() {
    // The window is used up when the peer falls silent, so that not even a keep-alive may leave.
    let mut pair = Pair::<Glass>::of(108, 2, &SessionConfig::default(), 1);
    let [a, _] = pair.connect();
    let stream = pair.open(0, a, StreamOptions::default());
    for n in 0..60 {
        pair.send(0, a, stream, &message(n, 60_000));
        pair.run_for(Duration::from_millis(5));
    }
    pair.loss = 1_000;
    pair.run_for(Duration::from_secs(1));
    let mut wakes = 0;
    let until = pair.now + Duration::from_secs(60);
    while pair.step(until) {
        wakes += 1;
    }
    assert!(wakes < 200, "{wakes} wakes in a silent minute");
    assert_eq!(pair.session(0), None);
}

#[test]
fn a_transmitter_that_is_mostly_full_loses_and_repeats_nothing() {
    for seed in seeds(20) {
        let mut pair = Pair::<Glass>::of(seed, 2, &SessionConfig::default(), 1);
        let sessions = pair.connect();
        pair.tape = Some(Vec::new());
        let mut rng = seed_of(seed).fork("transmitter");
        let streams = [0, 1].map(|side| pair.open(side, sessions[side], StreamOptions::default()));
        for round in 0..150 {
            let side = rng.below(2) as usize;
            let room = rng.below(6) as usize;
            pair.tx_ready(side, Some(room));
            for side in 0..2 {
                assert!(pair.send(side, sessions[side], streams[side], &message(round, 4_000)));
            }
            let pause = Duration::from_millis(rng.below(20));
            pair.run_for(pause);
        }
        for side in 0..2 {
            pair.tx_ready(side, None);
        }
        pair.run_for(Duration::from_secs(20));
        let mut nonces = BTreeSet::new();
        for seen in pair
            .tape
            .take()
            .expect("recording")
            .iter()
            .filter_map(|taped| look(&taped.bytes))
        {
            assert!(
                nonces.insert((seen.key, seen.header.counter)),
                "seed {seed}: a packet left twice"
            );
        }
        for side in 0..2 {
            let got = pair.received(1 - side, streams[side]);
            assert_eq!(got.len(), 150, "seed {seed}");
            assert!(
                got.iter()
                    .enumerate()
                    .all(|(n, (number, bytes))| { *number == n as u64 && *bytes == message(n as u64, 4_000) })
            );
            let stats = pair.sides[side].kernel.stats(sessions[side]).expect("it lives");
            assert!(
                stats.lost <= 10,
                "seed {seed}: what waited was not taken for lost: {}",
                stats.lost
            );
        }
    }
}

#[test]
fn a_peer_that_stops_reading_stops_its_sender_and_nobody_else() {
    let mut pair = Pair::<Glass>::of(109, 3, &SessionConfig::default(), 2);
    let [slow, _] = pair.connect_between(0, 1);
    let [fast, _] = pair.connect_between(0, 2);
    pair.sides[1].drains = false;
    let stuck: Vec<StreamId> = KINDS[..2].iter().map(|&kind| pair.open(0, slow, of(kind))).collect();
    let free: Vec<StreamId> = KINDS[..2].iter().map(|&kind| pair.open(0, fast, of(kind))).collect();
    let mut refused = 0;
    let mut accepted = [0; 2];
    for n in 0..200 {
        for (at, &stream) in stuck.iter().enumerate() {
            if pair.send(0, slow, stream, &message(n, 60_000)) {
                accepted[at] += 1;
            } else {
                refused += 1;
            }
        }
        for &stream in &free {
            assert!(
                pair.send(0, fast, stream, &message(n, 60_000)),
                "nobody else is stopped"
            );
        }
        pair.run_for(Duration::from_millis(200));
        for &stream in &free {
            assert_eq!(pair.received(2, stream).len() as u64, n + 1, "nor made to wait");
        }
    }
    assert!(refused > 100, "its sender is: {refused}");
    let held = pair.sides[1].kernel.holdings();
    assert!(held.reordering < 64 << 20, "and memory is bounded: {held:?}");
    pair.sides[1].drains = true;
    let session = pair.session(1).expect("it lives");
    pair.command(1, Command::Echo { session });
    pair.run_until(Duration::from_secs(60), "draining lets it go on", |pair| {
        (0..2).all(|at| pair.received(1, stuck[at]).len() == accepted[at])
    });
}

#[test]
fn commands_with_bad_arguments_are_refused_and_change_nothing() {
    let mut pair = Pair::<Glass>::of(110, 2, &SessionConfig::default(), 1);
    let [a, _] = pair.connect();
    let stream = pair.open(0, a, StreamOptions::default());
    pair.run_for(Duration::from_secs(1));
    let (own, peer, to) = (pair.entity(0), pair.entity(1), pair.sides[1].addr);
    let (no_session, no_stream) = (SessionKey(99), StreamId(0x7777 << 3));
    let bad_weight = StreamOptions {
        weight: 0,
        ..StreamOptions::default()
    };
    let of_the_mesh = StreamOptions {
        subprotocol: MESH,
        ..StreamOptions::default()
    };
    let one = Messages::One(b"x");
    let lumps = Messages::Chunks {
        bytes: &[0; 10],
        size: 3,
    };
    let frames = Messages::Framed {
        bytes: &[0; 10],
        ends: &[4, 9],
    };
    let send = |session, stream, messages| Command::Send {
        session,
        stream,
        messages,
    };
    let table = [
        (
            Command::Connect {
                peer: own,
                addresses: &[to],
            },
            Refused::OwnIdentity,
        ),
        (
            Command::Connect {
                peer: net_kernel::base::EntityId([0; 32]),
                addresses: &[to],
            },
            Refused::BadIdentity,
        ),
        (send(no_session, stream, one), Refused::NoSession),
        (send(a, no_stream, one), Refused::NoStream),
        (send(a, stream, lumps), Refused::BadArgument),
        (send(a, stream, frames), Refused::BadArgument),
        (
            Command::Finish {
                session: a,
                stream: no_stream,
            },
            Refused::NoStream,
        ),
        (
            Command::Open {
                session: a,
                options: bad_weight,
            },
            Refused::BadArgument,
        ),
        (
            Command::Open {
                session: a,
                options: of_the_mesh,
            },
            Refused::ReservedSubprotocol,
        ),
        (
            Command::Reset {
                session: a,
                stream,
                code: 1 << 62,
            },
            Refused::BadArgument,
        ),
        (Command::Echo { session: no_session }, Refused::NoSession),
        (
            Command::Close {
                session: no_session,
                code: 0,
                reason: "",
            },
            Refused::NoSession,
        ),
    ];
    let before = (pair.sides[0].kernel.holdings(), pair.datagrams);
    for (command, expected) in table {
        let what = format!("{command:?}");
        let command = pair.command(0, command);
        assert_eq!(refusal(&pair, 0, command), Some(expected), "{what}");
        assert_eq!((pair.sides[0].kernel.holdings(), pair.datagrams), before, "{what}");
    }
    let addresses = [to; 17];
    for bad in [&[][..], &addresses[..]] {
        let stranger = common::identity(77).entity();
        let command = pair.command(
            0,
            Command::Connect {
                peer: stranger,
                addresses: bad,
            },
        );
        assert_eq!(refusal(&pair, 0, command), Some(Refused::BadAddresses));
    }
    pair.command(0, Command::Shutdown);
    let command = pair.command(0, Command::Connect { peer, addresses: &[to] });
    assert_eq!(refusal(&pair, 0, command), Some(Refused::ShutDown));
}
