//! Beacons told and expected by name, without a node around them.
//!
//! Invariants: what is heard was sealed as another node would. Not here: sealing (`net-trust`), whole segments (`io-sim`).

use alloc::vec::Vec;

use net_base::rng::{Secret, Seed};
use net_base::{Addr, Duration, EntityId, Epoch, Instant, Now, Seat, SeatId, UnixNanos};
use net_trust::{Identity, In as TrustIn, NetworkKey, Trust};
use net_wire::DropReason;
use net_wire::beacon::{BEACON_LEN, Beacon, Sealed};
use net_wire::mesh::Version;

use crate::beacons::{Beacons, MAX_HEARD, Out, Segment};

const OWN_PORT: u16 = 4_000;

fn identity(n: u8) -> Identity {
    let mut next = n;
    Identity::generate(&mut |seed| {
        *seed = [next; 32];
        next = next.wrapping_add(100);
    })
}

fn at(text: &str) -> Addr {
    text.parse().expect("an address")
}

fn key(n: u8) -> NetworkKey {
    NetworkKey::from_bytes(Secret([n; 32]))
}

/// What a peer says, in its epoch 9.
fn beacon(peer: u8, seqno: u64, said: &[&str]) -> Beacon {
    Beacon {
        entity: EntityId([peer; 32]),
        version: Version { epoch: Epoch(9), seqno },
        port: 4_433,
        addresses: said.iter().map(|text| at(text)).collect(),
    }
}

struct Rig {
    seat: Seat<Beacons>,
    trust: Seat<Trust>,
    networks: Vec<NetworkKey>,
    now: Instant,
}

impl Rig {
    fn new(networks: Vec<NetworkKey>) -> Self {
        let seed = Seed::new([7; 32]);
        let trust = Trust::new(identity(1), Epoch(5), networks.clone(), None);
        let beacons = Beacons::new(trust.table());
        Self {
            seat: Seat::new(SeatId(5), beacons, &seed),
            trust: Seat::new(SeatId(1), trust, &seed),
            networks,
            now: Instant::from_nanos(1_000_000_000),
        }
    }

    /// On a segment, in a closed network, its first beacon out.
    fn joined() -> Self {
        let mut rig = Self::new(alloc::vec![key(1)]);
        rig.join(&[]);
        rig.wait(Duration::from_millis(20));
        rig
    }

    fn time(&self) -> Now {
        Now {
            mono: self.now,
            wall: UnixNanos(1_000),
        }
    }

    fn tell(&mut self, input: Segment<'_>) -> Vec<Out> {
        self.seat.handle(self.time(), input, self.trust.machine().table());
        self.outs()
    }

    fn join(&mut self, said: &[Addr]) -> Vec<Out> {
        self.tell(Segment::Joined {
            port: OWN_PORT,
            addresses: said,
        })
    }

    fn outs(&mut self) -> Vec<Out> {
        self.seat.check();
        core::iter::from_fn(|| self.seat.pop_out()).collect()
    }

    /// Lets time pass; answers what was decided meanwhile and when.
    fn wait(&mut self, span: Duration) -> Vec<(Instant, Out)> {
        let end = self.now + span;
        let mut all = Vec::new();
        while let Some(due) = self.seat.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            assert!(self.seat.fire_due(self.time(), self.trust.machine().table()));
            let now = self.now;
            all.extend(self.outs().into_iter().map(|out| (now, out)));
        }
        self.now = end;
        all
    }

    fn hear(&mut self, from: &str, beacon: &Beacon) -> Vec<Out> {
        let bytes = self.networks[0].beacon_keys().seal(beacon);
        self.hear_bytes(from, &bytes)
    }

    fn hear_bytes(&mut self, from: &str, bytes: &[u8]) -> Vec<Out> {
        self.tell(Segment::Heard { from: at(from), bytes })
    }
}

fn found(peer: u8, addresses: &[&str]) -> Vec<Out> {
    let addresses = addresses.iter().map(|text| at(text)).collect();
    alloc::vec![Out::Found(EntityId([peer; 32]), addresses)]
}

fn dropped(reason: DropReason) -> Vec<Out> {
    alloc::vec![Out::Dropped(reason)]
}

fn spoken(outs: &[(Instant, Out)]) -> Vec<(Instant, [u8; BEACON_LEN])> {
    let each = outs.iter().filter_map(|(at, out)| match out {
        Out::Speak(bytes) => Some((*at, *bytes)),
        Out::Found(..) | Out::Silent(_) | Out::Dropped(_) => None,
    });
    each.collect()
}

#[test]
fn a_node_says_who_and_where_it_is_often_at_first_and_seldom_later() {
    let mut rig = Rig::new(alloc::vec![key(1)]);
    assert!(
        rig.wait(Duration::from_secs(100)).is_empty(),
        "not before it is asked to"
    );
    let said = [at("10.0.0.1:4000"), at("[2001:db8::1]:4000")];
    rig.join(&said);
    let start = rig.now;
    let all = spoken(&rig.wait(Duration::from_secs(600)));
    let in_the_first = |ms: u64| {
        let end = start + Duration::from_millis(ms);
        all.iter().filter(|(at, _)| *at <= end).count()
    };
    assert_eq!(in_the_first(20), 1);
    assert!(in_the_first(400) >= 3 && in_the_first(1_000) <= 5);
    assert!((22..40).contains(&all.len()), "{} in ten minutes", all.len());
    let keys = key(1).beacon_keys();
    for (n, (_, bytes)) in all.iter().enumerate() {
        let beacon = keys.open(&Sealed::parse(bytes).expect("a beacon")).expect("sealed");
        let version = Version {
            epoch: Epoch(5),
            seqno: n as u64 + 1,
        };
        assert_eq!(
            (beacon.entity, beacon.version, beacon.port),
            (identity(1).entity(), version, OWN_PORT)
        );
        assert_eq!(beacon.addresses, said);
    }
}

#[test]
fn during_a_rotation_both_networks_are_spoken_to_and_heard() {
    let mut rig = Rig::new(alloc::vec![key(1), key(2)]);
    rig.join(&[]);
    let all = spoken(&rig.wait(Duration::from_millis(20)));
    assert_eq!(all.len(), 2);
    for ((_, bytes), network) in all.iter().zip([key(1), key(2)]) {
        assert!(
            network
                .beacon_keys()
                .open(&Sealed::parse(bytes).expect("a beacon"))
                .is_ok()
        );
    }
    let old = key(2).beacon_keys().seal(&beacon(9, 1, &[]));
    assert_eq!(rig.hear_bytes("10.0.0.9:5353", &old), found(9, &["10.0.0.9:4433"]));
}

#[test]
fn whoever_is_heard_is_found_where_it_says_or_else_where_it_spoke_from() {
    let mut rig = Rig::joined();
    let plain = beacon(10, 1, &[]);
    assert_eq!(rig.hear("10.0.0.9:5353", &plain), found(10, &["10.0.0.9:4433"]));
    let vouched = beacon(11, 1, &["[2001:db8::1]:7", "10.0.0.9:4433", "192.0.2.1:8"]);
    let order = ["10.0.0.9:4433", "[2001:db8::1]:7", "192.0.2.1:8"];
    assert_eq!(rig.hear("10.0.0.9:5353", &vouched), found(11, &order));
    let scoped = beacon(12, 1, &[]);
    assert_eq!(
        rig.hear("[fe80::9%3]:5353", &scoped),
        found(12, &["[fe80::9%3]:4433"]),
        "with its interface"
    );
    let mapped = beacon(13, 1, &[]);
    assert_eq!(
        rig.hear("[::ffff:10.0.0.9]:5353", &mapped),
        found(13, &["10.0.0.9:4433"])
    );
}

#[test]
fn a_beacon_makes_nobody_call_a_stranger() {
    let mut rig = Rig::joined();
    assert_eq!(
        rig.hear("192.0.2.66:5353", &beacon(10, 1, &[])),
        [],
        "a source that may be anybody's"
    );
    let elsewhere = beacon(11, 1, &["192.0.2.1:8"]);
    assert_eq!(
        rig.hear("10.0.0.66:5353", &elsewhere),
        found(11, &["192.0.2.1:8"]),
        "the source is not one of those said"
    );
    let unscoped = beacon(12, 1, &["[fe80::1]:8", "10.0.0.1:8"]);
    assert_eq!(
        rig.hear("10.0.0.1:5353", &unscoped),
        found(12, &["10.0.0.1:4433", "10.0.0.1:8"])
    );
    // In the open network anybody can vouch for anything.
    let mut open = Rig::new(alloc::vec![NetworkKey::open()]);
    open.join(&[]);
    let outs = open.hear("10.0.0.9:5353", &beacon(9, 1, &["192.0.2.1:8", "10.0.0.9:4433"]));
    assert_eq!(outs, found(9, &["10.0.0.9:4433"]));
}

#[test]
fn what_is_old_copied_forged_or_ones_own_does_nothing() {
    let mut rig = Rig::joined();
    let from = "10.0.0.9:5353";
    let first = beacon(9, 5, &[]);
    assert_eq!(rig.hear(from, &first).len(), 1);
    rig.wait(Duration::from_secs(5));
    assert_eq!(rig.hear("10.0.0.66:5353", &first), [], "a copy");
    assert_eq!(
        rig.hear("10.0.0.66:5353", &beacon(9, 4, &[])),
        dropped(DropReason::StaleStatement)
    );
    let stranger = key(2).beacon_keys().seal(&beacon(10, 1, &[]));
    assert_eq!(rig.hear_bytes(from, &stranger), dropped(DropReason::BadMac));
    assert_eq!(rig.hear_bytes(from, b"NB\x01\x00"), dropped(DropReason::LengthMismatch));
    let mut own = beacon(9, 1, &[]);
    own.entity = identity(1).entity();
    assert_eq!(rig.hear(from, &own), []);
    let mut ahead = beacon(11, 1, &[]);
    ahead.version.epoch = Epoch(25 * 3_600 * 1_000_000_000);
    assert_eq!(rig.hear(from, &ahead), dropped(DropReason::EpochTooFar));
    assert_eq!(
        rig.hear(from, &beacon(9, 6, &[])).len(),
        1,
        "and the genuine next one counts"
    );
}

#[test]
fn who_is_not_admitted_or_runs_from_an_old_state_is_not_found() {
    let mut rig = Rig::joined();
    let now = rig.time();
    let confirmed = TrustIn::Confirmed {
        peer: EntityId([9; 32]),
        epoch: Epoch(10),
        counter: 0,
    };
    rig.trust.handle(now, confirmed, ());
    let from = "10.0.0.9:5353";
    assert_eq!(rig.hear(from, &beacon(9, 1, &[])), dropped(DropReason::StaleStatement));
    rig.trust
        .handle(now, TrustIn::Allow(Some(alloc::vec![EntityId([11; 32])])), ());
    assert_eq!(rig.hear(from, &beacon(10, 1, &[])), dropped(DropReason::NotAllowed));
    assert_eq!(rig.hear(from, &beacon(11, 1, &[])).len(), 1);
}

#[test]
fn a_node_that_goes_on_speaking_is_told_of_once_a_second_and_a_restarted_one_is_believed() {
    let mut rig = Rig::joined();
    let mut told = 0;
    for seqno in 1..=100 {
        told += rig.hear("10.0.0.9:5353", &beacon(9, seqno, &[])).len();
        rig.wait(Duration::from_millis(50));
    }
    assert_eq!(told, 5, "in five seconds");
    rig.wait(Duration::from_secs(1));
    let mut later = beacon(9, 1, &[]);
    later.version.epoch = Epoch(10);
    assert_eq!(rig.hear("10.0.0.8:5353", &later), found(9, &["10.0.0.8:4433"]));
}

#[test]
fn newcomers_are_answered_together_and_no_more_often_than_bounded() {
    let mut rig = Rig::joined();
    rig.wait(Duration::from_secs(40));
    for peer in 10..20 {
        rig.hear("10.0.0.9:5353", &beacon(peer, 1, &[]));
    }
    let answers = spoken(&rig.wait(Duration::from_millis(40)));
    assert_eq!(answers.len(), 1, "one for ten");
    // Whoever holds the key may make up as many nodes as it likes.
    let start = rig.now;
    let mut spoke = 0;
    for n in 0..200u8 {
        rig.hear("10.0.0.9:5353", &beacon(50 + n % 200, 1, &[]));
        spoke += spoken(&rig.wait(Duration::from_millis(100))).len();
    }
    let seconds = rig.now.since(start).as_millis() / 1_000;
    assert!(spoke as u64 <= 8 + seconds + 2, "{spoke} in {seconds} s");
}

#[test]
fn findings_are_bounded_in_rate_and_in_number() {
    let mut rig = Rig::joined();
    let peer = |n: u16| {
        let mut beacon = beacon(0, 1, &[]);
        beacon.entity.0[..2].copy_from_slice(&n.to_le_bytes());
        beacon
    };
    let outs: Vec<Out> = (0..200).flat_map(|n| rig.hear("10.0.0.9:5353", &peer(n))).collect();
    let told = outs.iter().filter(|out| matches!(out, Out::Found(..))).count();
    let refused = outs
        .iter()
        .filter(|out| **out == Out::Dropped(DropReason::RateLimited))
        .count();
    assert_eq!((told, refused), (64, 136));
    let mut silent = 0;
    for n in 300..300 + MAX_HEARD as u16 {
        rig.wait(Duration::from_millis(50));
        let outs = rig.hear("10.0.0.9:5353", &peer(n));
        silent += outs.iter().filter(|out| matches!(out, Out::Silent(_))).count();
    }
    assert_eq!(silent, 64, "the first made room for the last");
}

#[test]
fn a_node_that_falls_silent_is_forgotten() {
    let mut rig = Rig::joined();
    rig.hear("10.0.0.8:5353", &beacon(8, 1, &[]));
    rig.wait(Duration::from_secs(200));
    rig.hear("10.0.0.9:5353", &beacon(9, 1, &[]));
    let silent = |outs: Vec<(Instant, Out)>| -> Vec<Out> {
        let each = outs.into_iter().map(|(_, out)| out);
        each.filter(|out| matches!(out, Out::Silent(_))).collect()
    };
    assert_eq!(
        silent(rig.wait(Duration::from_secs(101))),
        [Out::Silent(EntityId([8; 32]))]
    );
    assert_eq!(
        silent(rig.wait(Duration::from_secs(200))),
        [Out::Silent(EntityId([9; 32]))]
    );
    assert_eq!(silent(rig.wait(Duration::from_secs(1_000))), []);
}

#[test]
fn a_node_that_left_neither_speaks_nor_listens() {
    let mut rig = Rig::joined();
    assert_eq!(rig.tell(Segment::Left), []);
    assert_eq!(rig.hear("10.0.0.9:5353", &beacon(9, 1, &[])), []);
    assert!(rig.wait(Duration::from_secs(100)).is_empty());
    assert_eq!(rig.seat.due(), None);
    rig.join(&[]);
    assert_eq!(
        spoken(&rig.wait(Duration::from_millis(20))).len(),
        1,
        "and speaks again"
    );
}
