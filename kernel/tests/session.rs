//! Two kernels talk: connecting, streams of every kind, closing, rekeying.
//!
//! Invariants: see each test. Not here: faults and attackers at length (`net-io-sim`).

mod common;

use common::{Pair, message};
use net_kernel::api::{CloseReason, Command, ConnectError, Event, SessionConfig, StreamOptions};
use net_kernel::base::Duration;
use net_kernel::wire::{CloseCode, Reliability};

fn reliable() -> StreamOptions {
    StreamOptions::default()
}

#[test]
fn two_nodes_connect_and_talk_both_ways() {
    let mut pair = Pair::new(1);
    let [a, b] = pair.connect();
    let stream = pair.open(0, a, reliable());
    assert!(pair.send(0, a, stream, b"question"));
    pair.run_until(Duration::from_secs(1), "the question arrives", |pair| {
        !pair.received(1, stream).is_empty()
    });
    assert!(pair.send(1, b, stream, b"answer"));
    pair.run_until(Duration::from_secs(1), "the answer arrives", |pair| {
        !pair.received(0, stream).is_empty()
    });
    assert_eq!(pair.received(1, stream), [(0, b"question".to_vec())]);
    assert_eq!(pair.received(0, stream), [(0, b"answer".to_vec())]);
}

#[test]
fn sixteen_mebibytes_arrive_whole_under_loss_and_reordering() {
    let mut pair = Pair::new(2);
    (pair.loss, pair.jitter) = (100, Duration::from_millis(5));
    let [a, _] = pair.connect();
    let stream = pair.open(0, a, reliable());
    let large = message(1, 16 << 20);
    assert!(pair.send(0, a, stream, &large));
    pair.run_until(Duration::from_secs(600), "the message arrives", |pair| {
        !pair.received(1, stream).is_empty()
    });
    assert!(pair.received(1, stream)[0].1 == large, "byte for byte");
}

#[test]
fn ordered_messages_arrive_once_and_in_order() {
    let mut pair = Pair::new(3);
    (pair.loss, pair.jitter) = (50, Duration::from_millis(8));
    let [a, _] = pair.connect();
    let stream = pair.open(0, a, reliable());
    for n in 0..500 {
        assert!(pair.send(0, a, stream, &message(n, (n as usize * 37) % 3000)));
    }
    pair.run_until(Duration::from_secs(60), "all arrive", |pair| {
        pair.received(1, stream).len() == 500
    });
    for (n, (number, bytes)) in pair.received(1, stream).iter().enumerate() {
        assert_eq!((*number, bytes), (n as u64, &message(n as u64, (n * 37) % 3000)));
    }
}

#[test]
fn a_finished_stream_is_flushed_and_its_end_is_seen() {
    let mut pair = Pair::new(4);
    pair.loss = 100;
    let [a, b] = pair.connect();
    let stream = pair.open(0, a, reliable());
    pair.send(0, a, stream, b"last");
    pair.command(0, Command::Finish { session: a, stream });
    pair.run_until(Duration::from_secs(20), "flushed", |pair| {
        pair.has_event(0, |event| *event == Event::Flushed { session: a, stream })
    });
    assert!(pair.has_event(1, |event| *event == Event::Finished { session: b, stream }));
    assert!(!pair.send(0, a, stream, b"more"), "nothing follows the end");
}

#[test]
fn unordered_and_unreliable_streams_deliver_whole_messages() {
    for reliability in [Reliability::ReliableUnordered, Reliability::FireAndForget] {
        let mut pair = Pair::new(5);
        (pair.loss, pair.jitter) = (100, Duration::from_millis(20));
        let [a, _] = pair.connect();
        let stream = pair.open(
            0,
            a,
            StreamOptions {
                reliability,
                ..reliable()
            },
        );
        for n in 0..200 {
            assert!(pair.send(0, a, stream, &message(n, 600)));
            pair.run_for(Duration::from_millis(5));
        }
        pair.run_for(Duration::from_secs(20));
        let mut numbers: Vec<u64> = pair.received(1, stream).iter().map(|(number, _)| *number).collect();
        assert!(
            pair.received(1, stream)
                .iter()
                .all(|(number, bytes)| *bytes == message(*number, 600))
        );
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), pair.received(1, stream).len(), "each at most once");
        if reliability.is_reliable() {
            assert_eq!(numbers.len(), 200);
        } else {
            assert!(
                (150..200).contains(&numbers.len()),
                "lost ones stay lost: {}",
                numbers.len()
            );
        }
    }
}

#[test]
fn keys_are_replaced_without_losing_a_message() {
    let mut pair = Pair::new(6);
    pair.loss = 50;
    let [a, b] = pair.connect();
    let stream = pair.open(0, a, reliable());
    for round in 0..200 {
        assert!(pair.send(0, a, stream, &message(round, 900)));
        if round % 50 == 10 {
            pair.command(0, Command::Rekey { session: a });
            pair.command(1, Command::Rekey { session: b });
        }
        pair.run_for(Duration::from_millis(200));
    }
    pair.run_until(Duration::from_secs(20), "all arrive", |pair| {
        pair.received(1, stream).len() == 200
    });
    assert!(pair.has_event(0, |event| *event == Event::Rekeyed { session: a }));
    assert!(pair.has_event(1, |event| *event == Event::Rekeyed { session: b }));
}

#[test]
fn old_keys_are_replaced_by_age_for_as_long_as_a_session_lives() {
    let mut pair = Pair::new(7);
    let [a, b] = pair.connect();
    pair.run_for(Duration::from_secs(3_600));
    assert_eq!(
        [pair.session(0), pair.session(1)],
        [Some(a), Some(b)],
        "still the same session"
    );
    let rekeys = pair.sides[0]
        .desk
        .events
        .iter()
        .filter(|event| **event == Event::Rekeyed { session: a })
        .count();
    assert!((28..=32).contains(&rekeys), "every 120 s: {rekeys}");
}

#[test]
fn both_sides_may_dial_at_once() {
    for seed in 0..20 {
        let mut pair = Pair::new(seed);
        (pair.loss, pair.jitter) = (200, Duration::from_millis(30));
        let ids = [pair.entity(0), pair.entity(1)];
        let addresses = [pair.sides[0].addr, pair.sides[1].addr];
        let first = pair.command(
            0,
            Command::Connect {
                peer: ids[1],
                addresses: &[addresses[1]],
            },
        );
        let second = pair.command(
            1,
            Command::Connect {
                peer: ids[0],
                addresses: &[addresses[0]],
            },
        );
        pair.run_for(Duration::from_secs(30));
        for (side, id) in [(0, first), (1, second)] {
            let answers = pair.sides[side]
                .desk
                .events
                .iter()
                .filter(|event| matches!(event, Event::Connected { command: Some(command), .. } if *command == id))
                .count();
            assert_eq!(answers, 1, "seed {seed}: answered once");
            assert_eq!(
                pair.sides[side].kernel.sessions().count(),
                1,
                "seed {seed}: one session"
            );
        }
        let a = pair.session(0).expect("connected");
        let stream = pair.open(0, a, reliable());
        pair.send(0, a, stream, b"through");
        pair.run_until(Duration::from_secs(10), "the session works", |pair| {
            !pair.received(1, stream).is_empty()
        });
    }
}

#[test]
fn a_silent_address_is_told_apart_and_counts_its_tries() {
    let mut pair = Pair::new(8);
    let peer = pair.entity(1);
    let command = pair.command(
        0,
        Command::Connect {
            peer,
            addresses: &[([127, 0, 0, 1], 9).into()],
        },
    );
    pair.run_for(Duration::from_secs(30));
    assert!(pair.has_event(0, |event| matches!(
        event,
        Event::ConnectFailed { command: id, why: ConnectError::Silent { sent, unreachable: false }, .. } if *id == command && *sent > 3
    )));
}

#[test]
fn a_stranger_to_the_list_is_told_so() {
    let mut pair = Pair::new(9);
    let friend = common::identity(200).entity();
    pair.command(1, Command::Allow(Some(&[friend])));
    let (peer, to) = (pair.entity(1), pair.sides[1].addr);
    pair.command(0, Command::Connect { peer, addresses: &[to] });
    pair.run_for(Duration::from_secs(5));
    assert!(pair.has_event(0, |event| matches!(
        event,
        Event::Closed {
            why: CloseReason::Remote {
                code: CloseCode::NotAllowed,
                ..
            },
            ..
        }
    )));
    assert_eq!(pair.session(1), None, "no session on the other side");
    assert!(!pair.has_event(1, |event| matches!(event, Event::Connected { .. })));
}

#[test]
fn closing_tells_the_peer_why() {
    let mut pair = Pair::new(10);
    pair.loss = 300;
    let [a, b] = pair.connect();
    let stream = pair.open(0, a, reliable());
    pair.send(0, a, stream, b"x");
    pair.run_for(Duration::from_secs(5));
    pair.command(
        1,
        Command::Close {
            session: b,
            code: 7,
            reason: "enough",
        },
    );
    pair.send(0, a, stream, b"y");
    pair.run_for(Duration::from_secs(60));
    assert!(pair.has_event(
        0,
        |event| matches!(event, Event::Closed { session, .. } if *session == a)
    ));
    assert!(pair.has_event(1, |event| matches!(
        event,
        Event::Closed {
            why: CloseReason::Local(CloseCode::Application(7)),
            ..
        }
    )));
    assert_eq!((pair.session(0), pair.session(1)), (None, None));
}

#[test]
fn a_silent_peer_times_out_and_an_idle_one_does_not() {
    let mut pair = Pair::new(11);
    let [a, b] = pair.connect();
    pair.run_for(Duration::from_secs(600));
    assert_eq!(
        [pair.session(0), pair.session(1)],
        [Some(a), Some(b)],
        "keep-alives hold an idle session"
    );
    pair.loss = 1000;
    pair.run_for(Duration::from_secs(60));
    assert!(pair.has_event(0, |event| matches!(
        event,
        Event::Closed {
            why: CloseReason::TimedOut,
            ..
        }
    )));
}

#[test]
fn a_reader_that_stops_stops_its_sender_and_no_other_stream() {
    let mut pair = Pair::new(12);
    let [a, _] = pair.connect();
    pair.sides[1].drains = false;
    let stuck = pair.open(0, a, reliable());
    let mut accepted = 0;
    while pair.send(0, a, stuck, &[0; 60_000]) {
        accepted += 1;
        assert!(accepted < 1_000, "the sender is stopped");
        pair.run_for(Duration::from_millis(300));
    }
    let free = pair.open(0, a, reliable());
    assert!(pair.send(0, a, free, b"free"));
    pair.run_until(Duration::from_secs(5), "the other stream goes on", |pair| {
        !pair.received(1, free).is_empty()
    });
    // Draining lets the first one go on, to the last byte.
    pair.sides[1].drains = true;
    pair.run_until(Duration::from_secs(60), "everything arrives", |pair| {
        pair.received(1, stuck).len() == accepted
    });
}

#[test]
fn a_sender_out_of_session_credit_says_so_at_once() {
    // Four streams of 256 KiB are the session's window of 1 MiB.
    let config = SessionConfig {
        session_window: 1 << 20,
        stream_window: 256 << 10,
        ..SessionConfig::default()
    };
    let mut pair = Pair::with(1, &config, 1);
    let [a, _] = pair.connect();
    // Less than a quarter of the window is drained, which is not worth a grant by itself.
    let drained = 100_000;
    let first = pair.open(0, a, reliable());
    assert!(pair.send(0, a, first, &message(1, drained - 16)));
    pair.run_for(Duration::from_secs(2));
    pair.sides[1].drains = false;
    let mut left = (1 << 20) - drained;
    while left > 0 {
        let stream = pair.open(0, a, reliable());
        let size = left.min(200_000);
        assert!(pair.send(0, a, stream, &vec![9; size - 16]));
        left -= size;
    }
    // All of it is acknowledged, so that nothing will wake the sender but what it says itself.
    pair.run_for(Duration::from_secs(2));
    let last = pair.open(0, a, reliable());
    assert!(pair.send(0, a, last, b"one more"));
    pair.run_until(Duration::from_secs(1), "what was drained is granted", |pair| {
        !pair.received(1, last).is_empty()
    });
}
