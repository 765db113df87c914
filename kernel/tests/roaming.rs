//! Changes of address: a peer that moves is followed, and somebody who forwards its packets is not.
//!
//! Invariants: see each test. Not here: the decision by itself (`net-session`, `path.rs`).

#![allow(clippy::needless_range_loop, reason = "a side is a number")]

mod common;

use common::glass::{Glass, look};
use common::{Pair, Taped, address, message, seed_of, seeds};
use net_kernel::api::{Event, Input, LinkChange, SessionConfig, StreamOptions};
use net_kernel::base::{Addr, Duration, SessionKey, StreamId};
use net_kernel::wire::{Frame, FrameReader};

fn elsewhere(n: u16) -> Addr {
    ([192, 168, 7, 7], 40_000 + n).into()
}

struct Transfer {
    pair: Pair<Glass>,
    sessions: [SessionKey; 2],
    streams: [StreamId; 2],
    sent: u64,
}

const SIZE: usize = 3_000;

impl Transfer {
    fn new(seed: u64) -> Self {
        let mut pair = Pair::<Glass>::of(seed, 2, &SessionConfig::default(), 1);
        pair.tape = Some(Vec::new());
        let sessions = pair.connect();
        let streams = [0, 1].map(|side| pair.open(side, sessions[side], StreamOptions::default()));
        Self {
            pair,
            sessions,
            streams,
            sent: 0,
        }
    }

    /// Both sides send for a while.
    fn go_on(&mut self, messages: u64, pause: Duration) {
        for _ in 0..messages {
            for side in 0..2 {
                let accepted = self
                    .pair
                    .send(side, self.sessions[side], self.streams[side], &message(self.sent, SIZE));
                assert!(accepted, "{:?}", self.pair.sides[side].desk.events.last());
            }
            self.sent += 1;
            self.pair.run_for(pause);
        }
    }

    fn assert_complete(&mut self, what: &str) {
        let (streams, sent) = (self.streams, self.sent as usize);
        self.pair.run_until(Duration::from_secs(120), what, |pair| {
            (0..2).all(|side| pair.received(1 - side, streams[side]).len() == sent)
        });
        for side in 0..2 {
            let got = self.pair.received(1 - side, streams[side]);
            let whole = got
                .iter()
                .enumerate()
                .all(|(n, (number, bytes))| *number == n as u64 && *bytes == message(n as u64, SIZE));
            assert!(whole, "{what}: in order, byte for byte");
        }
    }

    fn address_seen(&self, side: usize) -> Addr {
        self.pair.sides[side]
            .kernel
            .stats(self.sessions[side])
            .expect("it lives")
            .address
    }

    fn tape(&mut self) -> Vec<Taped> {
        self.pair.tape.replace(Vec::new()).expect("recording")
    }
}

/// Whether a packet carries a frame that `matches`.
fn carries(taped: &Taped, matches: impl Fn(&Frame<'_>) -> bool) -> bool {
    let Some(seen) = look(&taped.bytes) else { return false };
    let mut reader = FrameReader::new(&seen.text);
    while let Ok(Some(frame)) = reader.next() {
        if matches(&frame) {
            return true;
        }
    }
    false
}

fn is_challenge(frame: &Frame<'_>) -> bool {
    matches!(frame, Frame::PathChallenge(_))
}

fn is_response(frame: &Frame<'_>) -> bool {
    matches!(frame, Frame::PathResponse(_))
}

#[test]
fn a_peer_that_moves_is_followed_after_it_answered_and_new_keys_follow() {
    for told in [false, true] {
        let mut transfer = Transfer::new(90);
        transfer.go_on(50, Duration::from_millis(5));
        transfer.tape();
        let before = transfer.pair.sides[1]
            .kernel
            .stats(transfer.sessions[1])
            .expect("it lives");
        let (old, new) = (address(0), elsewhere(1));
        transfer.pair.sides[0].addr = new;
        if told {
            transfer.pair.turn(0, Input::Link(LinkChange::Rebound));
        }
        transfer.go_on(100, Duration::from_millis(5));
        let tape = transfer.tape();
        let to = |addr: Addr| tape.iter().filter(move |taped| taped.side == 1 && taped.to == addr);
        assert!(
            to(old).any(|taped| carries(taped, is_challenge)),
            "the old address is asked"
        );
        assert!(
            to(new).any(|taped| carries(taped, is_challenge)),
            "the new address is asked"
        );
        // Until the answer is on its way nothing but small questions goes to the new address.
        let answered = tape
            .iter()
            .find(|taped| taped.side == 0 && carries(taped, is_response))
            .expect("it answers")
            .at;
        let early: usize = to(new)
            .filter(|taped| taped.at <= answered)
            .map(|taped| taped.bytes.len())
            .sum();
        let heard: usize = tape
            .iter()
            .filter(|taped| taped.side == 0 && taped.at + transfer.pair.delay <= answered)
            .map(|taped| taped.bytes.len())
            .sum();
        assert!(early <= 3 * heard, "{early} bytes for {heard}");
        let data_early = to(new)
            .filter(|taped| taped.at <= answered)
            .any(|taped| carries(taped, |frame| matches!(frame, Frame::Event(_) | Frame::Segment { .. })));
        assert!(!data_early, "data stays on the old path until the new one is proved");
        transfer.assert_complete("after a move");
        transfer.pair.run_for(Duration::from_secs(5));
        assert_eq!(transfer.address_seen(1), new);
        let moved = Event::Moved {
            session: transfer.sessions[1],
            address: new,
        };
        assert!(transfer.pair.has_event(1, |event| *event == moved));
        let after = transfer.pair.sides[1]
            .kernel
            .stats(transfer.sessions[1])
            .expect("it lives");
        assert_eq!(after.moves, before.moves + 1, "one move");
        assert!(after.rekeys > before.rekeys, "new keys");
    }
}

#[test]
fn a_node_that_keeps_moving_under_loss_loses_nothing() {
    for seed in seeds(25) {
        let mut transfer = Transfer::new(seed);
        let mut rng = seed_of(seed).fork("moves");
        transfer.pair.loss = rng.below(150);
        transfer.pair.jitter = Duration::from_millis(rng.below(20));
        for n in 0..6 {
            let side = rng.below(2) as usize;
            transfer.pair.sides[side].addr = elsewhere(n);
            if rng.below(2) == 0 {
                transfer.pair.turn(side, Input::Link(LinkChange::Rebound));
            }
            transfer.go_on(40, Duration::from_millis(50));
            // Only one side is on the move at a time: two that move at once can find each other only by chance.
            transfer.pair.run_for(Duration::from_secs(4));
        }
        transfer.pair.loss = 0;
        transfer.assert_complete(&format!("seed {seed}"));
        for side in 0..2 {
            assert_eq!(
                transfer.address_seen(side),
                transfer.pair.sides[1 - side].addr,
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_forwarder_that_races_copies_from_elsewhere_gets_no_session_and_loses_it_nothing() {
    for seed in seeds(25) {
        let mut transfer = Transfer::new(1_000 + seed);
        transfer.go_on(20, Duration::from_millis(5));
        let mut rng = seed_of(seed).fork("forwarder");
        let (a, b, middle) = (address(0), address(1), elsewhere(99));
        let faster = Duration::from_micros(500 + rng.below(9_000));
        let until = transfer.pair.now + Duration::from_millis(200 + rng.below(3_000));
        let mut loss = seed_of(seed).fork("loss");
        transfer.pair.rule = Some(Box::new(move |flight| {
            let ordinary = Duration::from_millis(10);
            let target = |addr: Addr| (0..2).find(|&side| address(side) == addr);
            let mut hops = Vec::new();
            let racing = flight.now < until;
            if flight.to == middle {
                // What the victim sends to the forwarder comes to the peer, as if from the victim.
                if racing {
                    hops.push((faster, 0, b, flight.bytes.to_vec()));
                }
                return Some(hops);
            }
            if racing && flight.from == a {
                hops.push((faster, 1, middle, flight.bytes.to_vec()));
            }
            if loss.below(100) >= 3 {
                hops.push((ordinary, target(flight.to)?, flight.from, flight.bytes.to_vec()));
            }
            Some(hops)
        }));
        transfer.go_on(400, Duration::from_millis(10));
        transfer.assert_complete(&format!("seed {seed}: with a forwarder"));
        transfer.go_on(20, Duration::from_millis(50));
        transfer.assert_complete(&format!("seed {seed}: after it"));
        assert_eq!(transfer.address_seen(1), a, "seed {seed}: the path is the true peer's");
        let ended = |side: usize| {
            transfer
                .pair
                .has_event(side, |event| matches!(event, Event::Closed { .. }))
        };
        assert!(!ended(0) && !ended(1), "seed {seed}: the session lives");
    }
}

#[test]
fn one_copy_from_a_deaf_address_costs_at_most_three_times_its_size() {
    let mut transfer = Transfer::new(91);
    transfer.go_on(20, Duration::from_millis(5));
    transfer.pair.run_for(Duration::from_secs(1));
    transfer.tape();
    // One packet is taken away and comes from elsewhere instead.
    transfer.pair.loss = 1_000;
    transfer.pair.send(
        0,
        transfer.sessions[0],
        transfer.streams[0],
        &message(transfer.sent, SIZE),
    );
    transfer.pair.loss = 0;
    let stolen = transfer.tape().first().expect("it left").bytes.clone();
    let victim = elsewhere(5);
    transfer.pair.receive(1, vec![(victim, stolen.clone())]);
    transfer.pair.send(
        1,
        transfer.sessions[1],
        transfer.streams[1],
        &message(transfer.sent, SIZE),
    );
    transfer.sent += 1;
    transfer.go_on(200, Duration::from_millis(5));
    let tape = transfer.tape();
    let got: usize = tape
        .iter()
        .filter(|taped| taped.to == victim)
        .map(|taped| taped.bytes.len())
        .sum();
    assert!(got <= 3 * stolen.len(), "{got} bytes for {}", stolen.len());
    assert_eq!(transfer.address_seen(1), address(0));
    transfer.assert_complete("with a stolen packet");
    assert!(!transfer.pair.has_event(1, |event| matches!(event, Event::Moved { .. })));
}
