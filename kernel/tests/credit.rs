//! Credit: it never leaks, never deadlocks, and stops only the sender it is meant to stop.
//!
//! Invariants: see each test. Not here: one stream's window by itself (`net-session`, `stream/`).

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::glass::Glass;
use common::{Pair, seed_of, seeds};
use net_kernel::api::{Command, Event, SessionConfig, StreamOptions};
use net_kernel::base::rng::Stream;
use net_kernel::base::{Duration, SessionKey, StreamId};
use net_kernel::wire::Reliability;

const KINDS: [Reliability; 3] = [
    Reliability::Reliable,
    Reliability::ReliableUnordered,
    Reliability::FireAndForget,
];

/// The smallest windows the protocol allows, and a small send buffer.
fn tiny() -> SessionConfig {
    SessionConfig {
        stream_window: 256 << 10,
        session_window: 1 << 20,
        send_buffer: 48 << 10,
        max_streams: 64,
        max_message: 200_000,
        ..SessionConfig::default()
    }
}

fn of(reliability: Reliability) -> StreamOptions {
    StreamOptions {
        reliability,
        ..StreamOptions::default()
    }
}

/// One direction of one stream, as its sender means it.
#[derive(Default)]
struct Direction {
    sent: Vec<Vec<u8>>,
    cut: bool,
}

/// A session under random use.
struct Churn {
    pair: Pair<Glass>,
    sessions: [SessionKey; 2],
    rng: Stream,
    streams: BTreeMap<StreamId, Reliability>,
    directions: BTreeMap<(usize, StreamId), Direction>,
    tag: u64,
}

impl Churn {
    fn new(seed: u64) -> Self {
        let mut rng = seed_of(seed).fork("churn");
        let config = SessionConfig {
            max_mtu: 1_200 + rng.below(253) as u16,
            ..tiny()
        };
        let mut pair = Pair::<Glass>::of(seed, 2, &config, 1 << rng.below(3));
        pair.batch = 1 + rng.below(64) as usize;
        let sessions = pair.connect();
        pair.loss = rng.below(401);
        pair.jitter = Duration::from_millis(rng.below(30));
        pair.mtu = [1_200, 1_300, 9_000][rng.below(3) as usize];
        Self {
            pair,
            sessions,
            rng,
            streams: BTreeMap::new(),
            directions: BTreeMap::new(),
            tag: 0,
        }
    }

    fn pick(&mut self) -> Option<StreamId> {
        let at = self.rng.below(self.streams.len().max(1) as u64) as usize;
        self.streams.keys().nth(at).copied()
    }

    /// A length near something that matters.
    fn len(&mut self) -> usize {
        let near = [0, 1, 60, 1_100, 1_120, 1_372, 4_000, 30_000, 150_000][self.rng.below(9) as usize];
        (near + self.rng.below(7) as usize).saturating_sub(3)
    }

    fn send(&mut self, side: usize, stream: StreamId) {
        self.tag += 1;
        let mut message = vec![self.tag as u8; self.len()];
        let tag = self.tag.to_le_bytes();
        let known = message.len().min(8);
        message[..known].copy_from_slice(&tag[..known]);
        if self.pair.send(side, self.sessions[side], stream, &message) {
            self.directions.entry((side, stream)).or_default().sent.push(message);
        }
    }

    fn cut(&mut self, side: usize, stream: StreamId) {
        self.directions.entry((side, stream)).or_default().cut = true;
    }

    fn act(&mut self) {
        let side = self.rng.below(2) as usize;
        let session = self.sessions[side];
        match self.rng.below(40) {
            0..4 if self.streams.len() < 60 => {
                let reliability = KINDS[self.rng.below(3) as usize];
                let options = StreamOptions {
                    priority: self.rng.below(3) as u8,
                    weight: 1 + self.rng.below(256) as u16,
                    ..of(reliability)
                };
                let stream = self.pair.open(side, session, options);
                self.streams.insert(stream, reliability);
            }
            4 => {
                if let Some(stream) = self.pick() {
                    self.pair.command(side, Command::Finish { session, stream });
                }
            }
            5 => {
                if let Some(stream) = self.pick() {
                    self.cut(side, stream);
                    self.pair.command(
                        side,
                        Command::Reset {
                            session,
                            stream,
                            code: 5,
                        },
                    );
                }
            }
            6 => {
                if let Some(stream) = self.pick() {
                    self.cut(1 - side, stream);
                    self.pair.command(
                        side,
                        Command::Stop {
                            session,
                            stream,
                            code: 6,
                        },
                    );
                }
            }
            7..9 => self.pair.sides[side].drains = self.rng.below(3) > 0,
            9 => {
                let room = self.rng.below(20) as usize;
                self.pair.tx_ready(side, Some(room));
            }
            10..12 => self.pair.tx_ready(side, None),
            _ => {
                for _ in 0..self.rng.below(4) {
                    if let Some(stream) = self.pick() {
                        self.send(side, stream);
                    }
                }
            }
        }
        let pause = Duration::from_micros(self.rng.below(40_000));
        self.pair.run_for(pause);
    }

    /// The network heals, applications read and finish everything.
    fn drain(&mut self) {
        (self.pair.loss, self.pair.jitter) = (0, Duration::ZERO);
        for side in 0..2 {
            self.pair.sides[side].drains = true;
            self.pair.tx_ready(side, None);
        }
        for _ in 0..3 {
            for side in 0..2 {
                for stream in self.streams.keys().copied().collect::<Vec<_>>() {
                    let session = self.sessions[side];
                    self.pair.command(side, Command::Finish { session, stream });
                }
            }
            self.pair.run_for(Duration::from_secs(15));
        }
    }

    /// Everything arrived as its reliability promises.
    fn assert_delivered(&self, seed: u64) {
        for (&(side, stream), direction) in &self.directions {
            let got = self.pair.received(1 - side, stream);
            let numbers: BTreeSet<u64> = got.iter().map(|(number, _)| *number).collect();
            let what = format!("seed {seed}, {stream:?} from {side}, {:?}", self.streams[&stream]);
            assert_eq!(numbers.len(), got.len(), "{what}: each at most once");
            if self.streams[&stream].is_reliable() {
                for (number, bytes) in got {
                    let sent = direction.sent.get(*number as usize);
                    assert!(sent == Some(bytes), "{what}: as it was sent");
                }
            } else {
                // Messages that a shrinking path left no room for are dropped before they are numbered.
                let mut sent = direction.sent.iter();
                let mut got = got.to_vec();
                got.sort_unstable_by_key(|(number, _)| *number);
                let subsequence = got.iter().all(|(_, bytes)| sent.any(|message| message == bytes));
                assert!(subsequence, "{what}: some of what was sent");
            }
            if self.streams[&stream] == Reliability::Reliable {
                assert!(got.is_sorted_by_key(|(number, _)| *number), "{what}: in order");
            }
            if self.streams[&stream].is_reliable() && !direction.cut {
                assert_eq!(got.len(), direction.sent.len(), "{what}: all of it");
            }
        }
    }

    /// Nothing is in flight, no stream is left, and the whole window of stream and session can be used again.
    fn assert_idle(&mut self, seed: u64) {
        for side in 0..2 {
            let held = self.pair.sides[side].kernel.holdings();
            assert_eq!(
                (held.streams, held.reordering, held.in_flight),
                (0, 0, 0),
                "seed {seed}: side {side} holds {held:?}"
            );
        }
        for side in 0..2 {
            self.pair.sides[1 - side].drains = false;
            let session = self.sessions[side];
            // Four streams of 256 KiB are the session's window of 1 MiB.
            let mut wanted = 0;
            for _ in 0..4 {
                let stream = self.pair.open(side, session, of(Reliability::Reliable));
                for _ in 0..4 {
                    while !self.pair.send(side, session, stream, &[9; (64 << 10) - 16]) {
                        let before = self.pair.now;
                        self.pair.run_for(Duration::from_millis(50));
                        assert!(self.pair.now > before);
                        assert!(
                            self.pair.now < common::end_of_time(),
                            "seed {seed}: side {side} gets no credit"
                        );
                    }
                    wanted += 1;
                }
                self.pair.run_for(Duration::from_secs(5));
                assert_eq!(
                    self.pair.received(1 - side, stream).len(),
                    4,
                    "seed {seed}: side {side} has its whole stream window, after {wanted}"
                );
            }
        }
    }

    fn assert_empty_after_close(&mut self, seed: u64) {
        let session = self.sessions[0];
        self.pair.command(
            0,
            Command::Close {
                session,
                code: 0,
                reason: "",
            },
        );
        self.pair.run_for(Duration::from_secs(20));
        for side in 0..2 {
            assert_eq!(
                self.pair.sides[side].kernel.holdings(),
                Default::default(),
                "seed {seed}: side {side} is empty"
            );
        }
    }
}

#[test]
fn credit_neither_leaks_nor_deadlocks_whatever_is_lost_reset_or_left_unread() {
    for seed in seeds(60) {
        let mut churn = Churn::new(seed);
        for _ in 0..150 {
            churn.act();
        }
        churn.drain();
        for side in 0..2 {
            let ended = churn.pair.sides[side].desk.events.iter();
            let ended: Vec<&Event> = ended.filter(|event| matches!(event, Event::Closed { .. })).collect();
            assert!(ended.is_empty(), "seed {seed}: side {side}: {ended:?}");
        }
        churn.assert_delivered(seed);
        churn.assert_idle(seed);
        churn.assert_empty_after_close(seed);
    }
}
