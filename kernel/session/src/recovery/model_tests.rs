//! A sender and a receiver over a simulated bottleneck: every packet is handed back exactly once, nothing
//! stays in flight, and a bulk transfer fills the path.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;

use proptest::prelude::*;

use super::*;

const PACKET: u16 = 1_200;

/// What a path does to packets; probabilities in parts per million.
#[derive(Clone, Copy, Debug)]
struct Link {
    bytes_per_second: u64,
    delay: Duration,
    queue: u64,
    loss: u64,
    ack_loss: u64,
    reorder: u64,
    /// Each n-th number is skipped; 0 for none.
    skip_every: u64,
}

const BOTTLENECK: Link = Link {
    bytes_per_second: 1_250_000,
    delay: Duration::from_millis(10),
    queue: 50_000,
    loss: 1_000,
    ack_loss: 0,
    reorder: 0,
    skip_every: 0,
};

enum Event {
    Data(u64),
    Ack { ranges: Vec<(u64, u64)>, delay: Duration },
}

/// Events in order of time, then of scheduling.
#[derive(Default)]
struct Agenda {
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    next: u64,
}

impl Agenda {
    fn add(&mut self, at: Instant, event: Event) {
        self.order.push(Reverse((at, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    fn first(&self) -> Option<Instant> {
        self.order.peek().map(|Reverse((at, _))| *at)
    }

    fn take(&mut self, now: Instant) -> Option<Event> {
        if self.first()? > now {
            return None;
        }
        let Reverse((_, key)) = self.order.pop()?;
        self.events.remove(&key)
    }
}

struct World {
    link: Link,
    now: Instant,
    random: u64,
    agenda: Agenda,
    /// When the bottleneck has sent what it holds.
    free_at: Instant,
    sender: Recovery<u64>,
    receiver: Received,
    next_number: u64,
    outstanding: BTreeSet<u64>,
    acked: u64,
    lost: u64,
    delivered: u64,
    arrived: BTreeSet<u64>,
}

impl World {
    fn new(link: Link, algorithm: Algorithm, seed: u64) -> Self {
        let config = RecoveryConfig {
            ecn: false,
            algorithm,
            packet_size: PACKET,
            ..RecoveryConfig::default()
        };
        Self {
            link,
            now: Instant::ZERO,
            random: seed,
            agenda: Agenda::default(),
            free_at: Instant::ZERO,
            sender: Recovery::new(&config, Instant::ZERO),
            receiver: Received::new(config.max_ack_delay),
            next_number: 0,
            outstanding: BTreeSet::new(),
            acked: 0,
            lost: 0,
            delivered: 0,
            arrived: BTreeSet::new(),
        }
    }

    /// One draw (the SplitMix64 sequence): true with the given probability.
    fn happens(&mut self, per_million: u64) -> bool {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % 1_000_000 < per_million
    }

    /// Runs until `end`; data is offered until `last_data`.
    fn run(&mut self, last_data: Instant, end: Instant) {
        while self.now < end {
            self.deliver();
            self.acknowledge();
            self.fire();
            if self.now < last_data {
                self.fill();
            }
            let pacing = (self.now < last_data && self.sender.can_send(u64::from(PACKET)))
                .then(|| self.sender.pacing_deadline(self.now, u64::from(PACKET)))
                .flatten();
            let next = [
                self.agenda.first(),
                self.sender.deadline(),
                self.receiver.deadline(),
                pacing,
            ];
            let Some(next) = next.into_iter().flatten().min() else {
                break;
            };
            assert!(next > self.now, "a deadline left in the past would spin");
            self.now = next;
        }
    }

    fn deliver(&mut self) {
        while let Some(event) = self.agenda.take(self.now) {
            match event {
                Event::Data(number) => {
                    if self.receiver.insert(number, self.now, true, EcnMark::NotEct) == Arrival::New {
                        self.arrived.insert(number);
                        self.delivered += u64::from(PACKET);
                    }
                }
                Event::Ack { ranges, delay } => self.apply(&ranges, delay),
            }
        }
    }

    fn apply(&mut self, ranges: &[(u64, u64)], delay: Duration) {
        let (outstanding, arrived) = (&mut self.outstanding, &self.arrived);
        let (mut acked, mut lost) = (0, 0);
        let ranges = ranges.iter().copied();
        let outcome = self
            .sender
            .on_ack_into(self.now, ranges, delay, None, &mut |fate, number, _, content| {
                assert!(
                    number == content && outstanding.remove(&number),
                    "{number} settled twice"
                );
                match fate {
                    Fate::Acked => {
                        assert!(arrived.contains(&number), "{number} was acknowledged and never arrived");
                        acked += 1;
                    }
                    Fate::Lost => lost += 1,
                }
            });
        let outcome = outcome.expect("an honest receiver's ack is valid");
        assert_eq!(
            (u64::from(outcome.acked_packets), u64::from(outcome.lost_packets)),
            (acked, lost)
        );
        self.acked += acked;
        self.lost += lost;
    }

    fn acknowledge(&mut self) {
        if !self.receiver.ack_due(self.now) {
            return;
        }
        let ranges: Vec<_> = self.receiver.ranges().collect();
        let delay = self.receiver.delay(self.now);
        self.receiver.on_ack_sent();
        if !self.happens(self.link.ack_loss) {
            self.agenda
                .add(self.now + self.link.delay, Event::Ack { ranges, delay });
        }
    }

    fn fire(&mut self) {
        let (outstanding, mut lost) = (&mut self.outstanding, 0);
        let timeout = self.sender.on_timeout(self.now, &mut |number, _, _| {
            assert!(outstanding.remove(&number), "{number} settled twice");
            lost += 1;
        });
        self.lost += lost;
        match timeout {
            Timeout::Nothing => assert_eq!(lost, 0),
            Timeout::LossDeclared => assert!(lost > 0),
            Timeout::Probe { .. } => self.send(),
        }
    }

    fn fill(&mut self) {
        let bytes = u64::from(PACKET);
        while self.sender.can_send(bytes) && self.sender.pacing_deadline(self.now, bytes).is_none() {
            self.send();
        }
    }

    fn send(&mut self) {
        if self.link.skip_every > 0 && self.next_number.is_multiple_of(self.link.skip_every) {
            self.next_number += 1;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.outstanding.insert(number);
        let info = SentInfo {
            bytes: PACKET,
            ack_eliciting: true,
            in_flight: true,
            mtu_probe: false,
        };
        self.sender.on_sent(self.now, number, info, number);
        let bytes = u64::from(PACKET);
        let queued = self.free_at.since(self.now).as_nanos() * self.link.bytes_per_second / 1_000_000_000;
        if queued + bytes > self.link.queue || self.happens(self.link.loss) {
            return;
        }
        let serialised = Duration::from_nanos(bytes * 1_000_000_000 / self.link.bytes_per_second);
        self.free_at = self.free_at.max(self.now) + serialised;
        let late = if self.happens(self.link.reorder) {
            Duration::from_millis(7)
        } else {
            Duration::ZERO
        };
        self.agenda
            .add(self.free_at + self.link.delay + late, Event::Data(number));
    }

    /// Everything offered was settled and nothing is left over.
    fn assert_settled(&self) {
        assert_eq!(
            self.outstanding.len(),
            0,
            "neither acknowledged nor lost: {:?}",
            self.outstanding
        );
        assert_eq!(
            (self.sender.bytes_in_flight(), self.sender.eliciting_outstanding()),
            (0, 0)
        );
        assert_eq!(self.sender.deadline(), None);
        let stats = self.sender.stats();
        assert_eq!(
            (stats.sent, stats.acked, stats.lost),
            (self.acked + self.lost, self.acked, self.lost)
        );
    }
}

fn seconds(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

#[test]
fn cubic_fills_a_bottleneck_despite_random_loss() {
    for seed in 0..5 {
        let mut world = World::new(BOTTLENECK, Algorithm::Cubic, seed);
        world.run(seconds(60), seconds(60));
        let used = world.delivered * 100 / (60 * BOTTLENECK.bytes_per_second);
        assert!(
            used >= 85,
            "seed {seed}: {used} % of the bottleneck, {:?}",
            world.sender.stats()
        );
        assert!(world.sender.stats().lost > 30, "there were losses to recover from");
        world.run(Instant::ZERO, seconds(120));
        world.assert_settled();
    }
}

#[test]
fn copa_does_not_take_random_loss_for_congestion() {
    let link = Link {
        loss: 50_000,
        ..BOTTLENECK
    };
    let [cubic, copa] = [Algorithm::Cubic, Algorithm::Copa].map(|algorithm| {
        let mut world = World::new(link, algorithm, 0);
        world.run(seconds(60), seconds(60));
        let used = world.delivered * 100 / (60 * BOTTLENECK.bytes_per_second);
        world.run(Instant::ZERO, seconds(120));
        world.assert_settled();
        used
    });
    assert!(copa >= 85 && copa > cubic, "copa {copa} %, cubic {cubic} %");
}

#[test]
fn without_random_loss_the_queue_alone_governs() {
    for algorithm in Algorithm::ALL {
        let mut world = World::new(Link { loss: 0, ..BOTTLENECK }, algorithm, 0);
        world.run(seconds(30), seconds(30));
        let used = world.delivered * 100 / (30 * BOTTLENECK.bytes_per_second);
        assert!(used >= 95, "{algorithm:?}: {used} %");
        let stats = world.sender.stats();
        assert!(
            stats.lost * 50 < stats.sent,
            "{algorithm:?} keeps its losses small: {stats:?}"
        );
        assert_eq!((stats.spurious, stats.persistent), (0, 0), "{algorithm:?}");
    }
}

#[test]
fn reordering_is_learned_and_does_not_starve_the_sender() {
    let mut world = World::new(
        Link {
            loss: 0,
            reorder: 50_000,
            ..BOTTLENECK
        },
        Algorithm::Cubic,
        7,
    );
    world.run(seconds(30), seconds(30));
    let used = world.delivered * 100 / (30 * BOTTLENECK.bytes_per_second);
    assert!(used >= 85, "{used} %, {:?}", world.sender.stats());
    world.run(Instant::ZERO, seconds(90));
    world.assert_settled();
}

#[test]
fn a_dead_path_is_probed_with_backoff_and_picked_up_when_it_heals() {
    let mut world = World::new(Link { loss: 0, ..BOTTLENECK }, Algorithm::Cubic, 3);
    world.run(seconds(2), seconds(2));
    world.link.loss = 1_000_000;
    world.run(seconds(32), seconds(32));
    let probes = world.sender.stats().ptos;
    assert!((6..=20).contains(&probes), "{probes} probes in 30 s");
    let before = world.delivered;
    world.link.loss = 0;
    world.run(seconds(42), seconds(42));
    assert!(world.delivered - before >= 5 * BOTTLENECK.bytes_per_second * 80 / 100);
    assert_eq!(world.sender.stats().persistent, 1);
    world.run(Instant::ZERO, seconds(90));
    world.assert_settled();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_packet_is_handed_back_exactly_once(
        seed in any::<u64>(),
        loss in 0u64..300_000,
        ack_loss in 0u64..300_000,
        reorder in 0u64..300_000,
        skip_every in prop_oneof![Just(0u64), 2..200u64],
        queue in 2_400u64..100_000,
        bytes_per_second in 20_000u64..5_000_000,
        delay_us in 10u64..200_000,
        algorithm in prop::sample::select(Algorithm::ALL.to_vec()),
    ) {
        let delay = Duration::from_micros(delay_us);
        let link = Link { bytes_per_second, delay, queue, loss, ack_loss, reorder, skip_every };
        let mut world = World::new(link, algorithm, seed);
        world.run(seconds(5), seconds(5));
        // Then the path heals, so that the last packets can be settled.
        world.link.loss = 0;
        world.link.ack_loss = 0;
        world.run(Instant::ZERO, seconds(100));
        world.assert_settled();
        prop_assert!(world.acked > 0);
    }
}
