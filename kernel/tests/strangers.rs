//! Bytes of strangers: garbage, damaged and repeated packets, forged first messages, floods. Each is counted under its
//! own reason and changes nothing else.
//!
//! Invariants: see each test. Not here: authenticated peers that lie (`hostile.rs`), single handshake messages
//! (`net-session`, `handshake/tests.rs`).

mod common;

use std::collections::BTreeSet;

use common::glass::Glass;
use common::{Pair, Taped, address, boot, seed_of};
use net_kernel::api::{Command, ConnectError, Event, Holdings, SessionConfig, SessionStats, StreamOptions};
use net_kernel::base::rng::Secret;
use net_kernel::base::{Addr, Duration, EntityId, SessionId};
use net_kernel::session::aead::{Aead, Reference};
use net_kernel::trust::NetworkKey;
use net_kernel::wire::handshake::INITIATION_LEN;
use net_kernel::wire::{DropReason, HEADER_LEN, Initiation, MAX_DATAGRAM, Suite};

/// Everything of a kernel that strangers' bytes must leave alone.
#[derive(PartialEq, Debug)]
struct State {
    stats: Vec<SessionStats>,
    holdings: Holdings,
    events: usize,
    messages: usize,
}

fn state<A: Aead>(pair: &Pair<A>, side: usize) -> State {
    let kernel = &pair.sides[side].kernel;
    State {
        stats: kernel
            .sessions()
            .filter_map(|(session, _)| kernel.stats(session))
            .collect(),
        holdings: kernel.holdings(),
        events: pair.sides[side].desk.events.len(),
        messages: pair.sides[side].desk.messages.values().map(Vec::len).sum(),
    }
}

/// Hands `bytes` to a side and asserts that nothing follows but one count. Answers its reason.
fn refused<A: Aead>(pair: &mut Pair<A>, side: usize, from: Addr, bytes: &[u8]) -> DropReason {
    let before = (state(pair, side), pair.datagrams);
    let drops = pair.sides[side].kernel.drops();
    pair.receive(side, vec![(from, bytes.to_vec())]);
    assert_eq!(
        (state(pair, side), pair.datagrams),
        before,
        "{} bytes change nothing",
        bytes.len()
    );
    let counted = pair.drops_since(side, &drops);
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert_eq!(counted[0].1, 1, "{counted:?}");
    counted[0].0
}

/// A pair that talked, with all it said on tape.
fn talked(seed: u64) -> (Pair, Vec<Taped>) {
    let mut pair = Pair::new(seed);
    pair.tape = Some(Vec::new());
    let [a, b] = pair.connect();
    let stream = pair.open(0, a, StreamOptions::default());
    for n in 0..20 {
        pair.send(0, a, stream, &common::message(n, 700));
        pair.run_for(Duration::from_millis(20));
    }
    pair.send(1, b, stream, b"answer");
    pair.run_for(Duration::from_secs(2));
    let tape = pair.tape.take().expect("recording");
    (pair, tape)
}

fn is_protected(taped: &Taped) -> bool {
    ![260, 172, 124].contains(&taped.bytes.len())
}

#[test]
fn a_hundred_thousand_random_datagrams_change_nothing() {
    let (mut pair, tape) = talked(60);
    let before = state(&pair, 1);
    let drops = pair.sides[1].kernel.drops();
    let mut rng = seed_of(60).fork("garbage");
    let session = tape.iter().rev().find(|taped| taped.side == 0).expect("it sent").bytes[24..32].to_vec();
    let mut batch = Vec::new();
    for n in 0..100_000_u32 {
        let mut bytes = vec![0; 1 + rng.below(400) as usize];
        rng.fill(&mut bytes);
        // Half of them with the right magic and version, a quarter with a session that exists as well.
        if n % 2 == 0 && bytes.len() >= HEADER_LEN {
            bytes[..3].copy_from_slice(&[0x45, 0x4e, 1]);
            if n % 4 == 0 {
                bytes[24..32].copy_from_slice(&session);
            }
        }
        batch.push((address(n as usize % 5_000), bytes));
        if batch.len() == 64 {
            pair.receive(1, std::mem::take(&mut batch));
        }
    }
    pair.receive(1, batch);
    assert_eq!(state(&pair, 1), before);
    let counted: u64 = pair.drops_since(1, &drops).iter().map(|(_, count)| count).sum();
    assert_eq!(counted, 100_000, "each is counted once");
    let [a, b] = [0, 1].map(|side| pair.session(side).expect("it lives"));
    pair.assert_works(a, b);
}

#[test]
fn a_live_packet_cut_anywhere_is_refused() {
    let (mut pair, tape) = talked(61);
    let packet = fresh_packet(&mut pair, &tape);
    for len in 1..packet.len() {
        let reason = refused(&mut pair, 1, address(0), &packet[..len]);
        let expected: &[DropReason] = if len < 80 {
            &[DropReason::TooShort, DropReason::GarbageMagic]
        } else {
            // The mask is taken from the last bytes, so a cut header decodes to nonsense or fails its tag.
            UNREADABLE
        };
        assert!(expected.contains(&reason), "{len} bytes: {reason:?}");
    }
    let before = state(&pair, 1);
    pair.receive(1, vec![(address(0), packet)]);
    assert_eq!(
        state(&pair, 1).messages,
        before.messages + 1,
        "the whole packet still counts"
    );
}

/// What a damaged protected packet may be counted as: its header unmasks to anything.
const UNREADABLE: &[DropReason] = &[
    DropReason::AeadFailure,
    DropReason::ReservedField,
    DropReason::ReservedFlag,
    DropReason::LengthMismatch,
    DropReason::BelowWindow,
];

/// A packet of side 0 that side 1 has not seen.
fn fresh_packet(pair: &mut Pair, _: &[Taped]) -> Vec<u8> {
    let a = pair.session(0).expect("connected");
    pair.tape = Some(Vec::new());
    let stream = pair.open(0, a, StreamOptions::default());
    pair.loss = 1_000;
    pair.send(0, a, stream, b"the one packet that matters");
    pair.loss = 0;
    let tape = pair.tape.take().expect("recording");
    tape.first().expect("it left").bytes.clone()
}

#[test]
fn a_live_packet_with_any_bit_flipped_is_refused_and_the_true_one_still_counts() {
    let (mut pair, tape) = talked(62);
    let packet = fresh_packet(&mut pair, &tape);
    for at in 0..packet.len() {
        for bit in [0, 3, 7] {
            let mut damaged = packet.clone();
            damaged[at] ^= 1 << bit;
            let reason = refused(&mut pair, 1, address(0), &damaged);
            let expected: &[DropReason] = match at {
                0..2 => &[DropReason::GarbageMagic],
                2 => &[DropReason::BadVersion],
                24..32 => &[DropReason::UnknownSession],
                // The counter: it may become that of a packet received before.
                16..24 => &[DropReason::Replayed, DropReason::BelowWindow, DropReason::AeadFailure],
                _ => UNREADABLE,
            };
            assert!(expected.contains(&reason), "byte {at} bit {bit}: {reason:?}");
        }
    }
    let before = state(&pair, 1);
    pair.receive(1, vec![(address(0), packet)]);
    assert_eq!(state(&pair, 1).messages, before.messages + 1);
}

#[test]
fn a_first_message_cut_or_damaged_anywhere_is_refused() {
    let (mut pair, _) = talked(63);
    let first = first_message(63, 0, 1);
    for len in 1..first.len() {
        let reason = refused(&mut pair, 1, address(7), &first[..len]);
        let expected = [
            DropReason::TooShort,
            DropReason::LengthMismatch,
            DropReason::GarbageMagic,
        ];
        assert!(expected.contains(&reason), "{len} bytes: {reason:?}");
    }
    for at in 0..first.len() - 16 {
        let mut damaged = first.clone();
        damaged[at] ^= 1;
        let reason = refused(&mut pair, 1, address(7), &damaged);
        let expected: &[DropReason] = match at {
            0..2 => &[DropReason::GarbageMagic],
            2 => &[DropReason::BadVersion],
            3 => &[
                DropReason::ReservedFlag,
                DropReason::UnknownSession,
                DropReason::ReservedField,
            ],
            4..24 | 32..60 | 62..64 => &[
                DropReason::ReservedField,
                DropReason::UnknownSession,
                DropReason::ReservedFlag,
            ],
            24..32 => &[DropReason::UnknownSession, DropReason::BadHandshakeBody],
            60..62 => &[DropReason::LengthMismatch],
            64..72 => &[
                DropReason::BadHandshakeBody,
                DropReason::UnsupportedSuite,
                DropReason::ReservedField,
                DropReason::LengthMismatch,
                DropReason::BadMac,
            ],
            _ => &[DropReason::BadMac],
        };
        assert!(expected.contains(&reason), "byte {at}: {reason:?}");
    }
}

/// The first message side `from` of a pair with this seed would send to side `to`, made by a kernel apart.
fn first_message(seed: u64, from: u64, to: u64) -> Vec<u8> {
    let config = SessionConfig::default();
    let boots = [from, to].map(|n| boot(seed * 2 + n + 1, 2, &config, 1));
    let mut aside = Pair::<Glass>::booted(seed + 5_000, boots.into());
    aside.tape = Some(Vec::new());
    aside.loss = 1_000;
    let (peer, to) = (aside.entity(1), aside.sides[1].addr);
    aside.command(0, Command::Connect { peer, addresses: &[to] });
    aside.tape.expect("recording")[0].bytes.clone()
}

#[test]
fn every_recorded_datagram_is_refused_when_it_is_repeated() {
    let (mut pair, tape) = talked(64);
    let [a, b] = [0, 1].map(|side| pair.session(side).expect("connected"));
    for taped in &tape {
        let from = pair.sides[taped.side].addr;
        let reason = refused(&mut pair, 1 - taped.side, from, &taped.bytes);
        let expected: &[DropReason] = if is_protected(taped) {
            &[DropReason::Replayed]
        } else if taped.bytes.len() == INITIATION_LEN {
            &[DropReason::StaleHandshake]
        } else {
            &[
                DropReason::UnexpectedHandshake,
                DropReason::UnknownSession,
                DropReason::AeadFailure,
            ]
        };
        assert!(
            expected.contains(&reason) || UNREADABLE.contains(&reason),
            "{} bytes: {reason:?}",
            taped.bytes.len()
        );
    }
    pair.assert_works(a, b);
}

#[test]
fn every_datagram_is_refused_by_its_own_sender() {
    let (mut pair, tape) = talked(65);
    for taped in &tape {
        let reason = refused(&mut pair, taped.side, address(1 - taped.side), &taped.bytes);
        let expected: &[DropReason] = if taped.bytes.len() == INITIATION_LEN {
            &[DropReason::BadMac]
        } else {
            &[DropReason::UnknownSession]
        };
        assert!(expected.contains(&reason), "{} bytes: {reason:?}", taped.bytes.len());
    }
}

#[test]
fn odd_datagrams_are_counted_each_for_its_reason() {
    let (mut pair, _) = talked(66);
    let first = first_message(66, 0, 1);
    let with = |at: usize, byte: u8| {
        let mut bytes = first.clone();
        bytes[at] = byte;
        bytes
    };
    let mut routed = vec![0; 200];
    routed[..2].copy_from_slice(b"RT");
    let table = [
        (vec![0], DropReason::TooShort),
        (vec![1; 100], DropReason::GarbageMagic),
        (with(2, 2), DropReason::BadVersion),
        (vec![0x45; MAX_DATAGRAM + 1], DropReason::Oversized),
        (with(24, 9), DropReason::BadHandshakeBody),
        (with(64, 9), DropReason::BadHandshakeBody),
        (with(65, 9), DropReason::UnsupportedSuite),
        (routed, DropReason::RoutedNotSupported),
    ];
    for (bytes, expected) in table {
        let reason = refused(&mut pair, 1, address(9), &bytes);
        assert_eq!(reason, expected, "{} bytes", bytes.len());
    }
}

#[test]
fn a_node_of_another_network_gets_silence() {
    let mut boots: Vec<_> = [1, 2].map(|n| boot(n, 1, &SessionConfig::default(), 1)).into();
    boots[0].networks = vec![NetworkKey::from_bytes(Secret([8; 32]))];
    let mut pair = Pair::<Glass>::booted(67, boots);
    pair.tape = Some(Vec::new());
    let (peer, to) = (pair.entity(1), pair.sides[1].addr);
    pair.command(0, Command::Connect { peer, addresses: &[to] });
    pair.run_for(Duration::from_secs(30));
    let silent = |event: &Event| {
        matches!(
            event,
            Event::ConnectFailed {
                why: ConnectError::Silent { .. },
                ..
            }
        )
    };
    assert!(pair.has_event(0, silent));
    let tape = pair.tape.as_ref().expect("recording");
    assert!(tape.iter().all(|taped| taped.side == 0), "not one answer");
    let drops = pair.sides[1].kernel.drops();
    assert_eq!(drops.get(DropReason::BadMac), drops.total());
    assert_eq!(pair.sides[1].jobs_run, 0, "and not one DH");
}

#[test]
fn packets_under_an_expired_key_are_refused() {
    let config = SessionConfig {
        idle_timeout: Duration::from_secs(600),
        ..SessionConfig::default()
    };
    let mut pair = Pair::<Glass>::of(68, 2, &config, 1);
    let [a, _] = pair.connect();
    // Handshakes are filtered, data is not: no new key can be agreed.
    pair.rule = Some(Box::new(|flight| {
        let handshake = [260, 172, 124].contains(&flight.bytes.len());
        handshake.then(Vec::new)
    }));
    pair.tape = Some(Vec::new());
    let stream = pair.open(0, a, StreamOptions::default());
    pair.send(0, a, stream, b"early");
    pair.run_for(Duration::from_secs(1));
    let early = pair.tape.take().expect("recording")[0].bytes.clone();
    pair.tape = Some(Vec::new());
    let connected = pair.now;
    let mut last = pair.now;
    for _ in 0..200 {
        pair.send(0, a, stream, b"more");
        pair.run_for(Duration::from_secs(1));
        let tape = pair.tape.replace(Vec::new()).expect("recording");
        if let Some(taped) = tape.iter().rev().find(|taped| is_protected(taped)) {
            last = taped.at;
        }
    }
    assert!(
        last < connected + Duration::from_secs(180),
        "nothing is sent under a key of 180 s: {last}"
    );
    assert!(
        last > connected + Duration::from_secs(170),
        "but until then it is used: {last}"
    );
    assert_eq!(pair.session(0), None, "the session ended with its key");
    let before = pair.sides[1].kernel.drops();
    pair.receive(1, vec![(address(0), early)]);
    let counted = pair.drops_since(1, &before);
    assert!(
        matches!(counted[..], [(DropReason::KeyExpired | DropReason::UnknownSession, 1)]),
        "{counted:?}"
    );
}

/// mac1 as docs/protocol.md section 3 defines it, for a member who holds the network key.
fn mac1(network: &NetworkKey, recipient: &EntityId, input: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("net handshake mac1 v1");
    hasher.update(&network.mac_key().0);
    hasher.update(&recipient.0);
    let key = *hasher.finalize().as_bytes();
    *blake3::keyed_hash(&key, input)
        .as_bytes()
        .first_chunk()
        .expect("32 bytes")
}

/// A first message with a valid mac1 and nothing else.
fn forged_first_message(recipient: &EntityId, n: u64) -> Vec<u8> {
    let mut noise = [0; 152];
    seed_of(n).fork("noise").fill(&mut noise);
    let mut packet = Initiation::encode(SessionId(n + 1), Suite::ChaChaPoly, &noise);
    let mac = mac1(
        &NetworkKey::from_bytes(Secret([7; 32])),
        recipient,
        &packet[..Initiation::MAC1_AT],
    );
    Initiation::set_mac1(&mut packet, &mac);
    packet.to_vec()
}

#[test]
fn a_flood_of_spoofed_first_messages_is_bounded_and_leaves_a_stream_its_latency() {
    let mut latencies = [0, 0].map(|_: u8| Vec::new());
    for (flooded, latencies) in latencies.iter_mut().enumerate() {
        let mut pair = Pair::<Glass>::of(69, 2, &SessionConfig::default(), 1);
        let [a, _] = pair.connect();
        let stream = pair.open(0, a, StreamOptions::default());
        let target = pair.entity(1);
        let jobs = pair.sides[1].jobs_run;
        let start = pair.now;
        let mut sent = 0_u64;
        for n in 0..200_u64 {
            if flooded == 1 {
                for _ in 0..4 {
                    let batch = (0..32).map(|_| {
                        sent += 1;
                        let from: Addr = ((sent as u32 * 7_919).to_be_bytes(), sent as u16).into();
                        (from, forged_first_message(&target, sent))
                    });
                    let batch = batch.collect();
                    pair.receive(1, batch);
                }
            }
            let before = pair.now;
            assert!(pair.send(0, a, stream, &n.to_le_bytes()));
            let wanted = n as usize + 1;
            pair.run_until(Duration::from_secs(1), "the message arrives", |pair| {
                pair.received(1, stream).len() == wanted
            });
            latencies.push(pair.now.since(before));
            pair.run_for(Duration::from_millis(5));
        }
        let ran = pair.sides[1].jobs_run - jobs;
        // 256 at once, then 2,000 a second: what one core does beside its traffic.
        let allowed = 256 + 2 * pair.now.since(start).as_millis();
        assert!(ran <= allowed, "{ran} jobs of {sent} messages, {allowed} allowed");
        assert!(
            flooded == 0 || (sent > 10_000 && ran > 200),
            "{sent} messages, {ran} jobs"
        );
        let held = pair.sides[1].kernel.holdings();
        assert_eq!((held.sessions, held.keys), (1, 1), "nothing is held for strangers");
    }
    assert_eq!(latencies[0], latencies[1], "not a message is later for it");
}

#[test]
fn first_messages_that_nobody_confirms_leave_a_bounded_number_of_keys_for_five_seconds() {
    let config = SessionConfig {
        max_pending: 16,
        ..SessionConfig::default()
    };
    // Members who hold their keys, but never answer: forty of them.
    let boots = (0..41).map(|n| boot(n + 1, 1, &config, 1)).collect();
    let mut pair = Pair::<Glass>::booted(70, boots);
    let target = pair.sides[0].addr;
    pair.rule = Some(Box::new(move |flight| (flight.to != target).then(Vec::new)));
    let peer = pair.entity(0);
    for side in 1..41 {
        pair.command(
            side,
            Command::Connect {
                peer,
                addresses: &[target],
            },
        );
    }
    pair.run_for(Duration::from_secs(3));
    let held = pair.sides[0].kernel.holdings();
    assert_eq!((held.keys, held.sessions), (16, 0), "as many as may wait");
    assert_eq!(pair.sides[0].desk.events, [], "and nobody is told");
    pair.run_for(Duration::from_secs(20));
    assert_eq!(pair.sides[0].kernel.holdings(), Holdings::default());
}

#[test]
fn a_first_message_in_a_peers_name_changes_nothing_while_it_is_not_confirmed() {
    // Whoever stole the responder's key can make first messages in the name of its peers, but not finish what
    // they begin. Here they are made with the peer's own key, which is no weaker.
    let (mut pair, _) = talked(71);
    let [a, b] = [0, 1].map(|side| pair.session(side).expect("connected"));
    let before = state(&pair, 1);
    let forged = first_message(71, 0, 1);
    pair.receive(1, vec![(address(0), forged.clone())]);
    pair.receive(1, vec![(address(9), forged.clone())]);
    let during = state(&pair, 1);
    assert_eq!(
        during.holdings.keys,
        before.holdings.keys + 2,
        "two keys wait, one for each source"
    );
    assert_eq!((during.stats, during.events), (before.stats, before.events));
    pair.assert_works(a, b);
    pair.run_for(Duration::from_secs(10));
    assert_eq!(state(&pair, 1).holdings, before.holdings, "and expire");
    // The peer's epoch and counter count on from where they were: its own next handshake is not stale.
    pair.command(0, Command::Rekey { session: a });
    pair.run_for(Duration::from_secs(1));
    assert!(pair.has_event(0, |event| *event == Event::Rekeyed { session: a }));
    pair.assert_works(a, b);
}

#[test]
fn what_a_member_recorded_does_not_open_with_every_static_key() {
    // The thief has the network key and both static keys, but neither node's erased secrets.
    let canary = b"canary canary canary canary canary canary";
    let mut pair = Pair::new(72);
    pair.tape = Some(Vec::new());
    let [a, _] = pair.connect();
    let stream = pair.open(0, a, StreamOptions::default());
    assert!(pair.send(0, a, stream, canary));
    pair.run_for(Duration::from_secs(2));
    let tape = pair.tape.take().expect("recording");
    for taped in &tape {
        let shows = taped.bytes.windows(canary.len()).any(|window| window == canary);
        assert!(!shows, "the text is on no wire");
    }
    // Both identities again, with the same kernel seed even, in a world where the operating system gives other
    // entropy: the transcript is fed to each as the original peer would.
    let config = SessionConfig::default();
    let boots = [1, 2].map(|n| boot(72 * 2 + n, 1, &config, 1));
    let mut thief = Pair::<Reference>::booted(9_072, boots.into());
    let to = thief.sides[1].addr;
    let peer = thief.entity(1);
    thief.rule = Some(Box::new(|_| Some(Vec::new())));
    thief.command(0, Command::Connect { peer, addresses: &[to] });
    for taped in &tape {
        let from = thief.sides[taped.side].addr;
        thief.receive(1 - taped.side, vec![(from, taped.bytes.clone())]);
    }
    thief.run_for(Duration::from_secs(1));
    for side in 0..2 {
        assert_eq!(thief.session(side), None, "no old packet confirms a new key");
        assert!(thief.sides[side].desk.messages.is_empty());
    }
}

#[test]
fn what_the_generator_gave_before_it_was_stolen_stays_secret() {
    // The generator replaces its key with each draw: its state at a moment leads on, not back.
    let mut rng = common::seed_of(73).fork_erasing("handshake secrets");
    let mut earlier = BTreeSet::new();
    for _ in 0..1_000 {
        earlier.insert(rng.draw().0);
    }
    for _ in 0..1_000 {
        assert!(!earlier.contains(&rng.draw().0), "no draw comes again");
    }
}
