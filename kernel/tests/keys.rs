//! Keys over a session's life: rekeys and dials that cross, restarts, rolled-back and cloned nodes, sleep.
//!
//! Invariants: see each test. Not here: single handshakes (`net-session`, `handshake/`).

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::glass::{Glass, Name, look};
use common::{Pair, Taped, boot, message, seed_of, seeds};
use net_kernel::api::{Boot, CloseReason, Command, ConnectError, Event, SessionConfig, StreamOptions};
use net_kernel::base::{Duration, Epoch, Instant, SessionKey};
use net_kernel::wire::handshake::{INITIATION_LEN, RESPONSE_LEN};
use net_kernel::wire::{CloseCode, Initiation, Response};

fn dial(pair: &mut Pair<Glass>, from: usize, to: usize) {
    let (peer, address) = (pair.entity(to), pair.sides[to].addr);
    let addresses = &[address];
    pair.command(from, Command::Connect { peer, addresses });
}

/// When each key was first and last used.
fn ages(tape: &[Taped]) -> BTreeMap<Name, (Instant, Instant)> {
    let mut ages = BTreeMap::new();
    for taped in tape {
        if let Some(seen) = look(&taped.bytes) {
            ages.entry(seen.key).or_insert((taped.at, taped.at)).1 = taped.at;
        }
    }
    ages
}

#[test]
fn both_sides_rekey_at_once_under_loss_and_nothing_is_lost() {
    for seed in seeds(60) {
        let mut pair = Pair::<Glass>::of(seed, 2, &SessionConfig::default(), 1);
        pair.tape = Some(Vec::new());
        let sessions = pair.connect();
        let mut rng = seed_of(seed).fork("rekeys");
        pair.loss = rng.below(301);
        pair.jitter = Duration::from_millis(rng.below(60));
        pair.job_delay = (rng.below(2) == 0).then(|| Duration::from_millis(1 + rng.below(100)));
        let streams = [0, 1].map(|side| pair.open(side, sessions[side], StreamOptions::default()));
        let mut sent = 0;
        for round in 0..40 {
            for side in 0..2 {
                assert!(
                    pair.send(side, sessions[side], streams[side], &message(sent, 500)),
                    "seed {seed}"
                );
            }
            sent += 1;
            if round % 8 == 3 {
                let session = sessions[0];
                pair.command(0, Command::Rekey { session });
                let pause = Duration::from_millis(rng.below(40));
                pair.run_for(pause);
                let session = sessions[1];
                pair.command(1, Command::Rekey { session });
            }
            let pause = Duration::from_millis(rng.below(3_000));
            pair.run_for(pause);
        }
        pair.loss = 0;
        // Where the two sides disagree about the current key, one follows the other after the old one drained.
        pair.run_for(Duration::from_secs(60));
        for side in 0..2 {
            let got = pair.received(1 - side, streams[side]);
            assert_eq!(got.len() as u64, sent, "seed {seed}: from side {side}");
            assert!(
                got.iter()
                    .enumerate()
                    .all(|(n, (number, bytes))| { *number == n as u64 && *bytes == message(n as u64, 500) })
            );
            assert_eq!(
                pair.session(side),
                Some(sessions[side]),
                "seed {seed}: still the one session"
            );
            assert!(
                pair.has_event(side, |event| matches!(event, Event::Rekeyed { .. })),
                "seed {seed}"
            );
            let held = pair.sides[side].kernel.holdings();
            assert_eq!(
                (held.sessions, held.keys),
                (1, 1),
                "seed {seed}: side {side} forgot replaced keys"
            );
        }
        let tape = pair.tape.take().expect("recording");
        // Both now seal under one key agreed in one handshake: each direction's last key is used by nobody else.
        for (first, last) in ages(&tape).values() {
            assert!(
                last.since(*first) < Duration::from_secs(180),
                "seed {seed}: a key past its lifetime"
            );
        }
    }
}

#[test]
fn keys_age_out_on_time_while_much_is_lost() {
    for seed in seeds(12) {
        let mut pair = Pair::<Glass>::of(seed, 2, &SessionConfig::default(), 1);
        pair.tape = Some(Vec::new());
        let sessions = pair.connect();
        pair.loss = 250;
        pair.jitter = Duration::from_millis(40);
        let stream = pair.open(0, sessions[0], StreamOptions::default());
        for n in 0..600 {
            assert!(pair.send(0, sessions[0], stream, &message(n, 100)), "seed {seed}");
            pair.run_for(Duration::from_secs(1));
        }
        pair.loss = 0;
        pair.run_for(Duration::from_secs(10));
        assert_eq!(pair.received(1, stream).len(), 600, "seed {seed}");
        let tape = pair.tape.take().expect("recording");
        let ages = ages(&tape);
        assert!(ages.len() >= 8, "seed {seed}: four rekeys at least in ten minutes");
        for (first, last) in ages.values() {
            assert!(last.since(*first) < Duration::from_secs(180), "seed {seed}");
        }
    }
}

#[test]
fn an_idle_session_agrees_on_its_new_key() {
    let mut pair = Pair::<Glass>::of(80, 2, &SessionConfig::default(), 1);
    pair.tape = Some(Vec::new());
    let [a, b] = pair.connect();
    for _ in 0..10 {
        pair.run_for(Duration::from_secs(120));
        pair.tape = Some(Vec::new());
        // Thirty quiet seconds after each change of keys, in which old ones drain.
        pair.run_for(Duration::from_secs(45));
        let tape = pair.tape.take().expect("recording");
        let late: Vec<&Taped> = tape
            .iter()
            .filter(|taped| pair.now.since(taped.at) < Duration::from_secs(20))
            .collect();
        let keys: BTreeSet<Name> = late
            .iter()
            .filter_map(|taped| look(&taped.bytes))
            .map(|seen| seen.key)
            .collect();
        assert!(keys.len() <= 2, "one key in each direction: {}", keys.len());
    }
    assert_eq!([pair.session(0), pair.session(1)], [Some(a), Some(b)]);
    pair.assert_works(a, b);
}

#[test]
fn both_sides_dial_at_once_under_loss_and_share_one_session() {
    for seed in seeds(100) {
        let mut pair = Pair::<Glass>::of(seed, 2, &SessionConfig::default(), 1);
        let mut rng = seed_of(seed).fork("dials");
        (pair.loss, pair.jitter) = (rng.below(350), Duration::from_millis(rng.below(80)));
        pair.job_delay = (rng.below(2) == 0).then(|| Duration::from_millis(1 + rng.below(100)));
        dial(&mut pair, 0, 1);
        let pause = Duration::from_millis(rng.below(30));
        pair.run_for(pause);
        dial(&mut pair, 1, 0);
        pair.run_for(Duration::from_secs(9));
        pair.loss = 0;
        pair.run_for(Duration::from_secs(60));
        for side in 0..2 {
            let held = pair.sides[side].kernel.holdings();
            assert_eq!(
                (held.sessions, held.keys),
                (1, 1),
                "seed {seed}: one session, one key at side {side}"
            );
        }
        let sessions = [0, 1].map(|side| pair.session(side).expect("connected"));
        pair.assert_works(sessions[0], sessions[1]);
    }
}

fn closed(pair: &Pair<Glass>, side: usize, session: SessionKey) -> Option<CloseReason> {
    let mut events = pair.sides[side].desk.events.iter();
    events.find_map(|event| {
        let Event::Closed {
            session: ended, why, ..
        } = event
        else {
            return None;
        };
        (*ended == session).then(|| why.clone())
    })
}

fn boots(seed: u64, n: u64, epoch: u64) -> Boot {
    boot(seed * 2 + n + 1, epoch, &SessionConfig::default(), 1)
}

#[test]
fn a_restarted_peer_is_believed_at_once() {
    for dialler in 0..2 {
        let mut pair = Pair::<Glass>::of(81, 2, &SessionConfig::default(), 1);
        let [a, b] = pair.connect();
        let stream = pair.open(1, b, StreamOptions::default());
        pair.send(1, b, stream, b"before");
        pair.run_for(Duration::from_secs(1));
        pair.restart(0, boots(81, 0, 2));
        // The one that knows nothing of it goes on; the one that started afresh dials, or the other after a while.
        pair.send(1, b, stream, b"into the void");
        pair.run_for(Duration::from_secs(1));
        if dialler == 0 {
            dial(&mut pair, 0, 1);
            pair.run_for(Duration::from_secs(1));
            assert_eq!(closed(&pair, 1, b), Some(CloseReason::PeerRestarted));
        } else {
            // Nobody dials: the old session dies of silence, then a new one is made.
            pair.run_for(Duration::from_secs(60));
            assert_eq!(closed(&pair, 1, b), Some(CloseReason::TimedOut));
            dial(&mut pair, 1, 0);
            pair.run_for(Duration::from_secs(1));
        }
        let sessions = [0, 1].map(|side| pair.session(side).expect("connected again"));
        assert_ne!(sessions[1], b, "a session of its own");
        pair.assert_works(sessions[0], sessions[1]);
        let held = pair.sides[1].kernel.holdings();
        assert_eq!(
            (held.sessions, held.keys, held.streams),
            (1, 1, 0),
            "nothing is left of the old one"
        );
        let _ = a;
    }
}

#[test]
fn a_node_from_an_older_state_is_told_and_refused_and_the_newer_one_lives_on() {
    // Side 2 is side 0 from an old disk: the same identity in an older epoch, while side 0 is up.
    let mut boots: Vec<Boot> = vec![boots(82, 0, 9), boots(82, 1, 1), boots(82, 0, 8)];
    boots[2].seed = seed_of(1);
    let mut pair = Pair::<Glass>::booted(82, boots);
    let [a, b] = pair.connect();
    dial(&mut pair, 2, 1);
    pair.run_for(Duration::from_secs(5));
    let told = pair.has_event(2, |event| {
        matches!(event, Event::StateRolledBack { known: Epoch(9), .. })
    });
    assert!(told, "{:?}", pair.sides[2].desk.events);
    assert_eq!(pair.session(2), None, "and has no session");
    assert_eq!(closed(&pair, 1, b), None);
    pair.assert_works(a, b);
    // The other way round: the newer node dials it, sees what it is, and tells it.
    let peer = pair.entity(2);
    let address = pair.sides[2].addr;
    assert_eq!(peer, pair.entity(0));
    let close = Command::Close {
        session: b,
        code: 0,
        reason: "",
    };
    pair.command(1, close);
    pair.run_for(Duration::from_secs(20));
    let command = pair.command(
        1,
        Command::Connect {
            peer,
            addresses: &[address],
        },
    );
    pair.run_for(Duration::from_secs(5));
    let refused = pair.has_event(1, |event| {
        matches!(
            event,
            Event::ConnectFailed { command: id, why: ConnectError::PeerRolledBack, .. } if *id == command
        )
    });
    assert!(refused, "{:?}", pair.sides[1].desk.events);
    assert_eq!([pair.session(1), pair.session(2)], [None, None]);
}

#[test]
fn two_live_clones_do_not_mix_and_the_one_of_the_lower_epoch_stops() {
    let mut boots: Vec<Boot> = vec![boots(83, 0, 5), boots(83, 1, 1), boots(83, 0, 6)];
    boots[2].seed = boots[0].seed.clone();
    let mut pair = Pair::<Glass>::booted(83, boots);
    let [_, b] = pair.connect();
    dial(&mut pair, 2, 1);
    pair.run_for(Duration::from_secs(2));
    // The later incarnation is believed: to its peer the node restarted.
    assert_eq!(closed(&pair, 1, b), Some(CloseReason::PeerRestarted));
    let sessions = [pair.session(2).expect("connected"), pair.session(1).expect("connected")];
    let stream = pair.open(1, sessions[1], StreamOptions::default());
    assert!(pair.send(1, sessions[1], stream, b"to the later one"));
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.received(2, stream).len(), 1);
    assert!(
        pair.received(0, stream).is_empty(),
        "the earlier one hears nothing of it"
    );
    // The earlier one finds its session gone and tries again.
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.session(0), None);
    dial(&mut pair, 0, 1);
    pair.run_for(Duration::from_secs(5));
    let told = pair.has_event(0, |event| {
        matches!(event, Event::StateRolledBack { known: Epoch(6), .. })
    });
    assert!(told, "{:?}", pair.sides[0].desk.events);
    assert_eq!(pair.session_with(1, 2), Some(sessions[1]), "which disturbs nobody");
}

#[test]
fn a_sleep_of_an_hour_expires_keys_before_any_packet_is_read() {
    for sleeper in 0..2 {
        let mut pair = Pair::<Glass>::of(84, 2, &SessionConfig::default(), 1);
        let [a, b] = pair.connect();
        let sessions = [a, b];
        let stream = pair.open(1 - sleeper, sessions[1 - sleeper], StreamOptions::default());
        pair.tape = Some(Vec::new());
        pair.send(
            1 - sleeper,
            sessions[1 - sleeper],
            stream,
            b"on its way when the lid closed",
        );
        let packet = pair.tape.take().expect("recording")[0].bytes.clone();
        let before = pair.sides[sleeper].kernel.drops();
        // Time passes for nobody's timers; the first thing heard on waking is the old packet.
        pair.now = pair.now + Duration::from_secs(3_600);
        let from = pair.sides[1 - sleeper].addr;
        pair.receive(sleeper, vec![(from, packet)]);
        assert!(
            pair.sides[sleeper].desk.messages.is_empty(),
            "nothing is opened under an expired key"
        );
        assert_eq!(pair.drops_since(sleeper, &before).len(), 1);
        pair.run_for(Duration::from_secs(5));
        assert!(closed(&pair, sleeper, sessions[sleeper]).is_some());
        pair.run_for(Duration::from_secs(60));
        assert_eq!([pair.session(0), pair.session(1)], [None, None]);
        let again = pair.connect();
        pair.assert_works(again[0], again[1]);
    }
}

/// Everything that must not repeat, from what kernels sent.
#[derive(Default)]
struct Uniqueness {
    nonces: BTreeSet<(Name, u64)>,
    ephemerals: BTreeSet<[u8; 32]>,
    packets: usize,
    handshakes: usize,
}

impl Uniqueness {
    fn take(&mut self, tape: &[Taped], seed: u64) {
        for taped in tape {
            if let Some(seen) = look(&taped.bytes) {
                self.packets += 1;
                let fresh = self.nonces.insert((seen.key, seen.header.counter));
                assert!(
                    fresh,
                    "seed {seed}: nonce {} twice under {:?}",
                    seen.header.counter, seen.key
                );
            } else {
                let noise: &[u8] = match taped.bytes.len() {
                    INITIATION_LEN => Initiation::parse(&taped.bytes).expect("sent by a kernel").noise(),
                    RESPONSE_LEN => Response::parse(&taped.bytes).expect("sent by a kernel").noise(),
                    _ => continue,
                };
                self.handshakes += 1;
                let fresh = self.ephemerals.insert(*noise.first_chunk().expect("e is first"));
                assert!(fresh, "seed {seed}: an ephemeral came again");
            }
        }
    }
}

#[test]
fn no_nonce_and_no_ephemeral_comes_twice_over_crashes_restarts_and_clones() {
    let mut packets = 0;
    for seed in seeds(150) {
        let mut seen = Uniqueness::default();
        let mut rng = seed_of(seed).fork("crashes");
        // Side 2 is a clone of side 0 from the same disk image: the same seed, the same epoch even.
        let boots: Vec<Boot> = vec![boots(seed, 0, 1), boots(seed, 1, 1), boots(seed, 0, 1)];
        let mut pair = Pair::<Glass>::booted(seed, boots);
        pair.tape = Some(Vec::new());
        pair.loss = rng.below(200);
        let mut epochs = [1, 1, 1];
        for _ in 0..14 {
            let side = rng.below(3) as usize;
            match rng.below(6) {
                0 => {
                    // A crash: whatever was in memory is gone; the seed file is what it was.
                    epochs[side] += rng.below(2);
                    let n = [0, 1, 0][side];
                    pair.restart(side, self::boots(seed, n, epochs[side]));
                }
                1 => {
                    if let Some(session) = pair.session(side) {
                        pair.command(side, Command::Rekey { session });
                    }
                }
                2 | 3 => {
                    if let Some(session) = pair.session(side) {
                        let stream = pair.open(side, session, StreamOptions::default());
                        pair.send(side, session, stream, &message(seed, 3_000));
                    }
                }
                _ => {
                    let (from, to) = [(0, 1), (1, 0), (2, 1), (1, 2)][rng.below(4) as usize];
                    dial(&mut pair, from, to);
                }
            }
            let pause = Duration::from_millis(rng.below(1_500));
            pair.run_for(pause);
            seen.take(&pair.tape.replace(Vec::new()).expect("recording"), seed);
        }
        packets += seen.packets;
    }
    assert!(packets > 1_000, "something was sent: {packets} packets");
}

#[test]
fn a_session_refused_by_the_list_says_so() {
    let mut pair = Pair::<Glass>::of(85, 2, &SessionConfig::default(), 1);
    let [a, b] = pair.connect();
    pair.command(1, Command::Allow(Some(&[])));
    pair.run_for(Duration::from_secs(1));
    assert_eq!(closed(&pair, 1, b), Some(CloseReason::Local(CloseCode::NotAllowed)));
    assert!(matches!(
        closed(&pair, 0, a),
        Some(CloseReason::Remote {
            code: CloseCode::NotAllowed,
            ..
        })
    ));
}

#[test]
fn a_rekey_that_crosses_a_fresh_key_is_still_answered() {
    for seed in 0..10 {
        let mut pair = Pair::new(seed);
        let sessions = pair.connect();
        // At once after connecting, by the side that did not dial, and then back and forth.
        for side in [1, 0, 1, 1] {
            let rekeyed = |pair: &Pair| {
                let events = &pair.sides[side].desk.events;
                events
                    .iter()
                    .filter(|event| matches!(event, Event::Rekeyed { .. }))
                    .count()
            };
            let before = rekeyed(&pair);
            pair.command(
                side,
                Command::Rekey {
                    session: sessions[side],
                },
            );
            pair.run_until(Duration::from_secs(5), "new keys are in use", |pair| {
                rekeyed(pair) > before
            });
        }
    }
}
