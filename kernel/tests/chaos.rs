//! Everything at once: nodes that dial, close, rekey, move, restart and clone each other's names over a bad network, with
//! jobs that end late and in any order. Afterwards the network heals, and everything must work again and be bounded.
//!
//! Invariants: see each test; after every turn the kernels check their own. Not here: what a session delivers
//! (`credit.rs`, `keys.rs`).

mod common;

use common::glass::Glass;
use common::{Pair, boot, message, seed_of, seeds};
use net_kernel::api::{Command, Input, LinkChange, SessionConfig, StreamOptions};
use net_kernel::base::rng::Stream;
use net_kernel::base::{Addr, Duration, SessionKey};
use net_kernel::wire::Reliability;

const NODES: usize = 4;

struct Chaos {
    pair: Pair<Glass>,
    rng: Stream,
    config: SessionConfig,
    seed: u64,
    epochs: [u64; NODES],
    ports: u16,
    /// Nodes come back from old disks now and then.
    rolls_back: bool,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut rng = seed_of(seed).fork("chaos");
        let config = SessionConfig {
            max_sessions: 3 + rng.below(2) as usize,
            max_pending: 4 + rng.below(8) as usize,
            // Short lives, so that many keys come and go.
            rekey_after: Duration::from_secs(8),
            rekey_after_responder: Duration::from_secs(11),
            reject_after: Duration::from_secs(25),
            previous_drain: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(20),
            keep_alive: Some(Duration::from_secs(4)),
            ..SessionConfig::default()
        };
        let lanes = 1 << rng.below(3);
        let boots = (0..NODES as u64).map(|n| boot(n + 1, 1, &config, lanes)).collect();
        let mut pair = Pair::<Glass>::booted(seed, boots);
        (pair.loss, pair.jitter) = (rng.below(300), Duration::from_millis(rng.below(50)));
        pair.job_delay = (rng.below(3) > 0).then(|| Duration::from_millis(1 + rng.below(400)));
        pair.gathers = rng.below(2) == 0;
        Self {
            pair,
            rng,
            config,
            seed,
            epochs: [1; NODES],
            ports: 0,
            rolls_back: seed.is_multiple_of(2),
        }
    }

    fn session(&mut self, side: usize) -> Option<SessionKey> {
        let all: Vec<SessionKey> = self.pair.sides[side]
            .kernel
            .sessions()
            .map(|(session, _)| session)
            .collect();
        (!all.is_empty()).then(|| all[self.rng.below(all.len() as u64) as usize])
    }

    fn dial(&mut self, from: usize, to: usize) {
        let (peer, address) = (self.pair.entity(to), self.pair.sides[to].addr);
        let nobody: Addr = ([10, 0, 0, 9], 9).into();
        let addresses = [nobody, address];
        let addresses = &addresses[self.rng.below(2) as usize..];
        self.pair.command(from, Command::Connect { peer, addresses });
    }

    fn act(&mut self) {
        let side = self.rng.below(NODES as u64) as usize;
        let other = (side + 1 + self.rng.below(NODES as u64 - 1) as usize) % NODES;
        let session = self.session(side);
        match (self.rng.below(24), session) {
            (0..7, _) => self.dial(side, other),
            (7, Some(session)) => {
                let close = Command::Close {
                    session,
                    code: 3,
                    reason: "enough",
                };
                self.pair.command(side, close);
            }
            (8 | 9, Some(session)) => {
                self.pair.command(side, Command::Rekey { session });
            }
            (10, _) => {
                self.ports += 1;
                self.pair.sides[side].addr = ([10, 0, 1, side as u8], self.ports).into();
                if self.rng.below(2) == 0 {
                    self.pair.turn(side, Input::Link(LinkChange::Rebound));
                }
            }
            (11, _) => {
                let drawn = self.epochs[side] + self.rng.below(4);
                self.epochs[side] = if self.rolls_back {
                    drawn.saturating_sub(1).max(1)
                } else {
                    drawn + 1
                };
                let lanes = 1 << self.rng.below(3);
                let mut boot = boot(side as u64 + 1, self.epochs[side], &self.config, lanes);
                boot.seed = seed_of(self.rng.next_u64() % 3);
                self.pair.restart(side, boot);
            }
            (12, _) => {
                let sent_before = net_kernel::base::CommandId(self.rng.below(20));
                self.pair.command(side, Command::CancelConnect(sent_before));
            }
            (13, _) => self.pair.turn(side, Input::Wake),
            (14, _) => {
                let to = self.pair.sides[other].addr;
                let change = [LinkChange::Unreachable(to), LinkChange::TooLarge(to)][self.rng.below(2) as usize];
                self.pair.turn(side, Input::Link(change));
            }
            (15, Some(session)) => {
                self.pair.command(side, Command::Echo { session });
            }
            (_, Some(session)) => {
                let kinds = Reliability::ALL;
                let options = StreamOptions {
                    reliability: kinds[self.rng.below(3) as usize],
                    ..StreamOptions::default()
                };
                self.pair.command(side, Command::Open { session, options });
                let streams: Vec<_> = self.pair.sides[side].desk.undrained.keys().copied().collect();
                assert!(streams.is_empty(), "everything is drained at once here");
                if let Some(net_kernel::api::Event::Opened { stream, .. }) = self.pair.sides[side].desk.events.last() {
                    let stream = *stream;
                    for n in 0..self.rng.below(5) {
                        self.pair.send(side, session, stream, &message(n, 1_100));
                    }
                }
            }
            (_, None) => {}
        }
        let pause = Duration::from_micros(self.rng.below(1_500_000));
        self.pair.run_for(pause);
    }

    /// All nodes start afresh in a later epoch than ever; the network is good. Everybody can reach everybody.
    fn heal(&mut self) {
        (self.pair.loss, self.pair.jitter, self.pair.job_delay) = (0, Duration::ZERO, None);
        self.pair.run_for(Duration::from_secs(90));
        for side in 0..NODES {
            let held = self.pair.sides[side].kernel.holdings();
            let live = self.pair.sides[side].kernel.sessions().count();
            assert!(
                held.sessions == live && held.keys <= 3 * live && held.in_flight < 20_000,
                "seed {}: side {side}, {live} live: {held:?}",
                self.seed
            );
        }
    }

    fn assert_reachable(&mut self) {
        let top = *self.epochs.iter().max().expect("nodes") + 10;
        for side in (0..NODES).filter(|_| self.rolls_back) {
            let boot = boot(side as u64 + 1, top, &self.config, 1);
            self.pair.restart(side, boot);
        }
        for to in 1..NODES {
            for from in 0..to {
                self.dial(from, to);
                let (pair, what) = (&mut self.pair, format!("seed {}: {from} and {to} connect", self.seed));
                pair.run_until(Duration::from_secs(20), &what, |pair| {
                    pair.session_with(from, to).is_some() && pair.session_with(to, from).is_some()
                });
            }
        }
        self.pair.run_for(Duration::from_secs(60));
        for side in 0..NODES {
            let held = self.pair.sides[side].kernel.holdings();
            let expected = (NODES - 1, self.pair.sides[side].kernel.sessions().count());
            assert_eq!(
                (held.sessions, expected.1),
                (expected.0, expected.0),
                "seed {}",
                self.seed
            );
        }
    }
}

#[test]
fn whatever_happened_a_healed_network_works_and_holds_nothing_of_it() {
    for seed in seeds(30) {
        let mut chaos = Chaos::new(seed);
        for _ in 0..120 {
            chaos.act();
        }
        chaos.heal();
        chaos.assert_reachable();
    }
}
