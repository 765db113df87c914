//! The mesh told and expected by name, without a node around it.
//!
//! Invariants: what lanes know of peers is what a test says. Not here: the table of routes alone (`route_tests.rs`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use net_base::rng::Seed;
use net_base::{Duration, EntityId, Epoch, Instant, JobId, NodeId, Now, Seat, SeatId, SessionKey, UnixNanos};
use net_trust::{Identity, NetworkKey, Trust};
use net_wire::DropReason;
use net_wire::mesh::{Core, Health, Message, Pingwave, Version};

use crate::config::MeshConfig;
use crate::job::{Job, JobDone};
use crate::mesh::{Fact, In, MAX_CHECKS, Mesh, Out, View, Vitals};
use crate::outage::Scope;

const ROOM: u64 = 64 << 10;

fn identity(n: u8) -> Identity {
    let mut next = n;
    Identity::generate(&mut |seed| {
        *seed = [next; 32];
        next = next.wrapping_add(100);
    })
}

/// What the lanes know.
#[derive(Default)]
struct Lanes {
    heard: BTreeMap<SessionKey, Instant>,
    rtt: BTreeMap<SessionKey, Duration>,
}

impl Vitals for Lanes {
    fn heard(&self, session: SessionKey) -> Option<Instant> {
        self.heard.get(&session).copied()
    }

    fn rtt(&self, session: SessionKey) -> Option<Duration> {
        self.rtt.get(&session).copied()
    }
}

struct Rig {
    mesh: Seat<Mesh>,
    trust: Trust,
    lanes: Lanes,
    now: Instant,
    jobs: Vec<(JobId, Job)>,
}

impl Rig {
    fn new(config: MeshConfig) -> Self {
        Self::labelled(config, net_trust::node_id)
    }

    fn labelled(config: MeshConfig, label_of: fn(&EntityId) -> NodeId) -> Self {
        let own = identity(1);
        let mesh = Mesh::labelled(config, own.entity(), Epoch(5), label_of);
        let mut rig = Self {
            mesh: Seat::new(SeatId(4), mesh, &Seed::new([7; 32])),
            trust: Trust::new(own, Epoch(5), alloc::vec![NetworkKey::open()], None),
            lanes: Lanes::default(),
            now: Instant::from_nanos(1_000_000_000),
            jobs: Vec::new(),
        };
        rig.tell(In::Boot);
        rig.pass(1);
        rig.work();
        rig.outs();
        rig
    }

    fn time(&self) -> Now {
        Now {
            mono: self.now,
            wall: UnixNanos(1),
        }
    }

    fn tell(&mut self, input: In<'_>) {
        let view = View {
            trust: self.trust.table(),
            vitals: &self.lanes,
        };
        self.mesh.handle(
            Now {
                mono: self.now,
                wall: UnixNanos(1),
            },
            input,
            view,
        );
        self.mesh.check();
    }

    /// Lets time pass in steps of a millisecond.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now + Duration::from_millis(1);
            let now = self.time();
            let view = View {
                trust: self.trust.table(),
                vitals: &self.lanes,
            };
            while self.mesh.fire_due(now, view) {}
            self.mesh.check();
        }
    }

    /// Time passes all at once, as for a process that was stopped.
    fn stop(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms - 1);
        self.pass(1);
    }

    fn take_jobs(&mut self) {
        while let Some(job) = self.mesh.pop_job() {
            self.jobs.push(job);
        }
    }

    /// Does all work that waits.
    fn work(&mut self) {
        loop {
            self.take_jobs();
            if self.jobs.is_empty() {
                return;
            }
            let (id, job) = self.jobs.remove(0);
            self.tell(In::Worked(id, job.run()));
        }
    }

    fn outs(&mut self) -> Vec<Out> {
        let mut outs = Vec::new();
        while let Some(out) = self.mesh.pop_out() {
            outs.push(out);
        }
        outs
    }

    fn facts(&mut self) -> Vec<Fact> {
        let facts = self.outs().into_iter().filter_map(|out| match out {
            Out::Fact(fact) => Some(fact),
            Out::Send(..)
            | Out::Done(..)
            | Out::Heartbeat(_)
            | Out::Rekey(_)
            | Out::Rerouted(_)
            | Out::Dial(..)
            | Out::Dropped(_) => None,
        });
        facts.collect()
    }

    /// What was sent to a session.
    fn sent(&mut self, to: SessionKey) -> Vec<Message> {
        let outs = self.outs();
        let sent = outs.iter().filter_map(|out| match out {
            Out::Send(session, message) if *session == to => Message::decode(message.bytes()).ok(),
            Out::Send(..)
            | Out::Fact(_)
            | Out::Done(..)
            | Out::Heartbeat(_)
            | Out::Rekey(_)
            | Out::Rerouted(_)
            | Out::Dial(..)
            | Out::Dropped(_) => None,
        });
        sent.collect()
    }

    /// Node `n` becomes a neighbour over session `n`.
    fn link(&mut self, n: u8) -> SessionKey {
        let session = SessionKey(u64::from(n));
        self.lanes.heard.insert(session, self.now);
        self.lanes.rtt.insert(session, Duration::from_millis(10));
        self.tell(In::LinkUp {
            session,
            peer: identity(n).entity(),
            epoch: Epoch(9),
            room: ROOM,
        });
        session
    }

    fn hear(&mut self, from: SessionKey, message: &Message) {
        self.lanes.heard.insert(from, self.now);
        self.tell(In::Message {
            session: from,
            bytes: message.encode().bytes(),
        });
    }

    fn reaches(&self, n: u8) -> Option<SessionKey> {
        let route = self.mesh.machine().routes().route(&identity(n).entity());
        route.map(|route| route.via)
    }
}

/// A pingwave of node `n`, genuine.
fn wave(n: u8, seqno: u64, hops: u8, rtt_us: u32) -> Pingwave {
    let identity = identity(n);
    let core = Core {
        origin: identity.entity(),
        version: Version { epoch: Epoch(9), seqno },
        load: 0,
        health: Health::Good,
        relays: true,
        capability_version: 0,
        capability_digest: [0; 32],
    };
    let job = Job::sign(&identity, NetworkKey::open().fingerprint(), core);
    let JobDone::Signed(_, signature) = job.run() else {
        panic!("a signature")
    };
    Pingwave {
        core,
        signature,
        hops,
        ttl: 10,
        rtt_us,
    }
}

/// The pingwave that a message is.
fn pingwave(message: &Message) -> Option<Pingwave> {
    let Message::Pingwave(wave) = message else { return None };
    Some(*wave)
}

/// A mesh that forwards packets of others.
fn relaying() -> MeshConfig {
    MeshConfig {
        relays: Some(true),
        ..MeshConfig::default()
    }
}

fn rig() -> Rig {
    Rig::new(relaying())
}

#[test]
fn a_peer_that_is_heard_is_kept_beside_what_the_user_said() {
    let mut rig = Rig::new(relaying());
    let peer = identity(2).entity();
    let at = |port: u16| net_base::Addr::from(([10, 0, 0, 1], port));
    let dials = |rig: &mut Rig| -> Vec<Vec<net_base::Addr>> {
        rig.pass(1);
        let outs = rig.outs().into_iter();
        outs.filter_map(|out| {
            if let Out::Dial(to, addresses) = out {
                assert_eq!(to, peer);
                Some(addresses)
            } else {
                None
            }
        })
        .collect()
    };
    rig.tell(In::Found(peer, alloc::vec![at(1)]));
    assert_eq!(dials(&mut rig), [[at(1)]]);
    rig.tell(In::Join(peer, &[at(2)]));
    assert_eq!(dials(&mut rig), [[at(2), at(1)]]);
    rig.tell(In::Found(peer, alloc::vec![at(2), at(3)]));
    assert_eq!(dials(&mut rig), [[at(2), at(3)]], "each once");
    rig.tell(In::Silent(peer));
    rig.tell(In::DialFailed(peer));
    rig.pass(2_000);
    assert_eq!(dials(&mut rig), [[at(2)]], "what the user said stays");
    rig.tell(In::DialFailed(peer));
    rig.tell(In::Leave(peer));
    rig.pass(100_000);
    assert!(dials(&mut rig).is_empty(), "nobody wants it any more");
}

#[test]
fn a_new_neighbour_hears_of_us_and_of_everybody_we_reach() {
    let mut rig = rig();
    let a = rig.link(2);
    assert!(matches!(
        rig.sent(a)[..],
        [Message::Pingwave(Pingwave { hops: 0, ttl: 15, .. })]
    ));
    rig.hear(a, &Message::Pingwave(wave(2, 1, 0, 0)));
    rig.hear(a, &Message::Pingwave(wave(3, 1, 1, 4_000)));
    rig.work();
    let b = rig.link(4);
    let sent = rig.sent(b);
    let about: Vec<(u8, u32)> = sent
        .iter()
        .filter_map(pingwave)
        .map(|wave| (wave.hops, wave.rtt_us))
        .collect();
    assert_eq!(
        about.len(),
        3,
        "ourselves, the neighbour, and who is behind it: {sent:?}"
    );
    assert!(about.contains(&(1, 10_000)) && about.contains(&(2, 14_000)));
}

#[test]
fn what_is_not_signed_by_its_origin_counts_for_nothing() {
    let mut rig = rig();
    let a = rig.link(2);
    let mut forged = wave(3, 1, 1, 100);
    forged.core.load = 7;
    rig.hear(a, &Message::Pingwave(forged));
    rig.work();
    assert_eq!(rig.reaches(3), None);
    let dropped = rig.outs();
    assert!(
        dropped
            .iter()
            .any(|out| matches!(out, Out::Dropped(DropReason::BadSignature)))
    );
}

#[test]
fn a_withdrawal_is_not_overtaken_by_the_check_of_what_it_takes_back() {
    let mut rig = rig();
    let a = rig.link(2);
    rig.hear(a, &Message::Pingwave(wave(3, 1, 1, 100)));
    let gone = Message::Withdraw {
        origin: identity(3).entity(),
        version: Version::default(),
    };
    rig.hear(a, &gone);
    rig.work();
    assert_eq!(rig.reaches(3), None);
    let facts = rig.facts();
    assert!(matches!(facts[..], [Fact::Found { .. }, Fact::Lost(_)]), "{facts:?}");
}

#[test]
fn credit_comes_back_when_a_message_was_worked_on_and_not_before() {
    let mut rig = rig();
    let a = rig.link(2);
    rig.outs();
    rig.hear(a, &Message::Pingwave(wave(3, 1, 1, 100)));
    rig.take_jobs();
    assert!(!rig.outs().iter().any(|out| matches!(out, Out::Done(..))));
    rig.work();
    assert!(
        rig.outs()
            .iter()
            .any(|out| matches!(out, Out::Done(session, 163) if *session == a))
    );
    rig.tell(In::Message {
        session: a,
        bytes: b"nonsense",
    });
    let outs = rig.outs();
    assert!(matches!(
        outs[..],
        [Out::Dropped(DropReason::MalformedMesh), Out::Done(_, 8)]
    ));
}

#[test]
fn checks_are_bounded_and_all_are_made_in_the_end() {
    let mut rig = rig();
    let (a, b) = (rig.link(2), rig.link(3));
    for n in 10..40 {
        let from = if n % 2 == 0 { a } else { b };
        rig.hear(from, &Message::Pingwave(wave(n, 1, 1, 100)));
    }
    rig.take_jobs();
    assert!(rig.jobs.len() <= MAX_CHECKS, "{}", rig.jobs.len());
    rig.work();
    assert!((10..40).all(|n| rig.reaches(n).is_some()));
}

#[test]
fn a_neighbour_that_takes_nothing_hears_the_latest_once_it_does() {
    let mut rig = rig();
    let (a, b) = (rig.link(2), rig.link(3));
    rig.outs();
    rig.tell(In::LinkDown(b));
    let session = SessionKey(3);
    rig.tell(In::LinkUp {
        session,
        peer: identity(3).entity(),
        epoch: Epoch(9),
        room: 0,
    });
    for seqno in 1..4 {
        rig.hear(a, &Message::Pingwave(wave(9, seqno, 1, 100)));
        rig.work();
    }
    assert!(rig.sent(session).is_empty());
    rig.tell(In::Writable(session, ROOM));
    let told: Vec<u64> = rig
        .sent(session)
        .iter()
        .filter_map(pingwave)
        .filter(|wave| wave.hops > 0)
        .map(|wave| wave.core.version.seqno)
        .collect();
    assert_eq!(told, [3], "what was replaced meanwhile is not told");
}

#[test]
fn a_silent_neighbour_is_suspected_asked_for_and_fails() {
    let mut rig = rig();
    let (a, b) = (rig.link(2), rig.link(3));
    rig.hear(a, &Message::Pingwave(wave(2, 1, 0, 0)));
    rig.hear(b, &Message::Pingwave(wave(2, 1, 1, 5_000)));
    rig.work();
    rig.outs();
    for _ in 0..3 {
        rig.pass(500);
        rig.lanes.heard.insert(b, rig.now);
    }
    rig.pass(2);
    let sent = rig.sent(b);
    let asked = sent.iter().find_map(|message| {
        let Message::Probe { target, token } = message else {
            return None;
        };
        (*target == identity(2).entity()).then_some(*token)
    });
    let token = asked.expect("the neighbour of both is asked");
    rig.hear(b, &Message::Probed { token, heard: true });
    rig.pass(500);
    let facts = rig.facts();
    assert!(
        matches!(facts[..], [Fact::LinkLost(peer)] if peer == identity(2).entity()),
        "{facts:?}"
    );
    assert_eq!(rig.reaches(2), Some(b), "it is reached around the link");
}

#[test]
fn a_neighbour_nobody_hears_has_failed_and_comes_back_when_it_is_heard() {
    let mut rig = rig();
    let a = rig.link(2);
    rig.hear(a, &Message::Pingwave(wave(2, 1, 0, 0)));
    rig.work();
    rig.outs();
    rig.pass(2_001);
    let facts = rig.facts();
    assert!(
        matches!(facts[..], [Fact::Suspected(_), Fact::Failed(_), Fact::Lost(_)]),
        "{facts:?}"
    );
    rig.pass(600);
    rig.lanes.heard.insert(a, rig.now);
    rig.pass(500);
    assert!(matches!(rig.facts()[..], [Fact::Recovered(_)]));
    rig.hear(a, &Message::Pingwave(wave(2, 2, 0, 0)));
    rig.work();
    assert_eq!(rig.reaches(2), Some(a));
}

#[test]
fn a_node_that_was_stopped_suspects_nobody_for_its_own_absence() {
    let mut rig = rig();
    rig.link(2);
    rig.outs();
    rig.stop(60_000);
    assert!(rig.facts().is_empty());
    rig.pass(1_400);
    assert!(
        matches!(rig.facts()[..], [Fact::Suspected(_)]),
        "from then on it counts"
    );
}

#[test]
fn a_neighbour_that_does_not_hear_us_carries_nothing() {
    let mut rig = rig();
    let a = rig.link(2);
    rig.hear(a, &Message::Pingwave(wave(2, 1, 0, 0)));
    rig.work();
    rig.outs();
    rig.hear(a, &Message::Heard(false));
    assert_eq!(rig.reaches(2), None);
    assert!(matches!(rig.facts()[..], [Fact::LinkLost(_), Fact::Lost(_)]));
    rig.hear(a, &Message::Heard(true));
    rig.hear(a, &Message::Pingwave(wave(2, 2, 0, 0)));
    rig.work();
    assert_eq!(rig.reaches(2), Some(a));
}

#[test]
fn many_failures_at_once_are_one_outage() {
    let mut rig = rig();
    for n in 2..8 {
        rig.link(n);
    }
    rig.outs();
    rig.pass(2_100);
    let outages = rig
        .facts()
        .iter()
        .filter(|fact| matches!(fact, Fact::Outage(_)))
        .count();
    assert_eq!(outages, 1);
    let outages = rig.mesh.machine().outages();
    let outage = outages.current().expect("while it lasts");
    assert_eq!((outage.failed, outage.of, outage.scope), (6, 6, Scope::Ourselves));
    assert_eq!(outages.failed().count(), 6);
    for n in 2..8 {
        rig.lanes.heard.insert(SessionKey(n), rig.now);
    }
    rig.pass(1_000);
    for n in 2..8 {
        rig.hear(SessionKey(n), &Message::Heard(true));
    }
    rig.pass(500);
    let over = rig.facts().iter().any(|fact| matches!(fact, Fact::OutageOver(_)));
    assert!(over && rig.mesh.machine().outages().current().is_none());
}

#[test]
fn newer_words_are_given_to_whoever_asks_and_asked_of_whoever_is_closer() {
    let mut rig = rig();
    let (a, b) = (rig.link(2), rig.link(3));
    rig.hear(a, &Message::Pingwave(wave(9, 4, 1, 100)));
    rig.work();
    rig.outs();
    let request = |seqno| Message::Request {
        origin: identity(9).entity(),
        version: Version { epoch: Epoch(9), seqno },
        ttl: 5,
    };
    rig.hear(b, &request(4));
    assert!(matches!(rig.sent(b)[..], [Message::Pingwave(wave)] if wave.core.version.seqno == 4));
    rig.hear(b, &request(5));
    assert!(matches!(rig.sent(a)[..], [Message::Request { ttl: 4, .. }]));
    rig.hear(b, &request(5));
    assert!(rig.sent(a).is_empty(), "asked a moment ago");
    let own = identity(1).entity();
    rig.pass(200);
    rig.outs();
    rig.hear(
        b,
        &Message::Request {
            origin: own,
            version: Version {
                epoch: Epoch(5),
                seqno: 2,
            },
            ttl: 0,
        },
    );
    rig.work();
    assert!(matches!(rig.sent(a)[..], [Message::Pingwave(wave)] if wave.core.version.seqno == 2));
}

#[test]
fn what_keeps_changing_is_announced_now_and_then() {
    let mut rig = rig();
    let (a, b) = (rig.link(2), rig.link(3));
    rig.outs();
    for seqno in 1..=20 {
        rig.hear(a, &Message::Pingwave(wave(9, seqno, 1, 100)));
        rig.work();
    }
    assert!(rig.sent(b).len() < 10);
    rig.pass(1_001);
    let last = rig.sent(b);
    assert!(
        last.iter()
            .any(|message| matches!(message, Message::Pingwave(wave) if wave.core.version.seqno == 20)),
        "{last:?}"
    );
}

#[test]
fn a_peer_that_is_kept_is_dialled_again_after_longer_and_longer_pauses() {
    let mut rig = rig();
    let peer = identity(2).entity();
    let addresses = [([10, 0, 0, 1], 7).into()];
    rig.tell(In::Join(peer, &addresses));
    let mut dialled = Vec::new();
    for second in 0..40 {
        rig.pass(1_000);
        if rig
            .outs()
            .iter()
            .any(|out| matches!(out, Out::Dial(to, _) if *to == peer))
        {
            dialled.push(second);
            rig.tell(In::DialFailed(peer));
        }
    }
    assert!((4..=6).contains(&dialled.len()), "{dialled:?}");
    rig.link(2);
    rig.pass(90_000);
    assert!(!rig.outs().iter().any(|out| matches!(out, Out::Dial(..))));
    rig.tell(In::LinkDown(SessionKey(2)));
    rig.pass(1_001);
    assert!(rig.outs().iter().any(|out| matches!(out, Out::Dial(..))));
    rig.tell(In::Leave(peer));
    rig.tell(In::DialFailed(peer));
    rig.pass(90_000);
    assert!(!rig.outs().iter().any(|out| matches!(out, Out::Dial(..))));
}

#[test]
fn the_nearest_that_fit_are_found() {
    let mut rig = rig();
    let a = rig.link(2);
    for (n, rtt) in [(9, 900), (10, 100), (11, 500)] {
        rig.hear(a, &Message::Pingwave(wave(n, 1, 1, rtt)));
    }
    rig.work();
    let mesh = rig.mesh.machine();
    let near: Vec<EntityId> = mesh.nearest(2, |_| true).into_iter().map(|(node, _)| node).collect();
    assert_eq!(near, [identity(10).entity(), identity(11).entity()]);
    assert!(mesh.nearest(2, |core| core.health == Health::Leaving).is_empty());
}

/// Labels of which nodes 8 and 9 share one, and 1 (ourselves) and 7 another.
fn shared(node: &EntityId) -> NodeId {
    let number = (1..=20)
        .find(|&n| identity(n).entity() == *node)
        .expect("a node of ours");
    NodeId(match number {
        9 => 8,
        7 => 1,
        other => u64::from(other),
    })
}

#[test]
fn two_nodes_that_share_a_label_disturb_nobody() {
    let mut rig = Rig::labelled(relaying(), shared);
    let (two, three) = (rig.link(2), rig.link(3));
    rig.hear(two, &Message::Pingwave(wave(8, 1, 1, 5_000)));
    rig.hear(three, &Message::Pingwave(wave(9, 1, 1, 5_000)));
    rig.hear(three, &Message::Pingwave(wave(6, 1, 1, 5_000)));
    rig.hear(three, &Message::Pingwave(wave(7, 1, 1, 5_000)));
    rig.work();
    let collisions: Vec<(EntityId, EntityId)> = rig
        .facts()
        .iter()
        .filter_map(|fact| {
            let Fact::Collision(two) = fact else { return None };
            Some((two.holder, two.unroutable))
        })
        .collect();
    let entity = |n: u8| identity(n).entity();
    assert_eq!(collisions, [(entity(8), entity(9)), (entity(1), entity(7))]);
    let reaches = (rig.reaches(6), rig.reaches(7), rig.reaches(8), rig.reaches(9));
    assert_eq!(
        reaches,
        (Some(three), None, Some(two), None),
        "the first is reached, we are ourselves"
    );
    let routes = rig.mesh.machine().routes();
    assert_eq!(
        (routes.by_label(NodeId(8)), routes.by_label(NodeId(1))),
        (Some(entity(8)), Some(entity(1)))
    );
    assert_eq!(
        (routes.next_hop(NodeId(8)), routes.next_hop(NodeId(1))),
        (Some(two), None)
    );
    assert_eq!((routes.unroutable().count(), routes.collisions()), (2, 2));
    // Once the user names the other, it is the one that is meant, and the first is withdrawn from those who were told of it.
    rig.tell(In::Join(entity(9), &[]));
    assert_eq!((rig.reaches(8), rig.reaches(9)), (None, Some(three)));
    let told = rig.sent(three);
    assert!(
        told.iter()
            .any(|message| matches!(message, Message::Withdraw { origin, .. } if *origin == entity(8)))
    );
    assert_eq!(rig.mesh.machine().routes().next_hop(NodeId(8)), Some(three));
    // Forgotten, it leaves the label to whoever waits for it.
    rig.tell(In::Leave(entity(9)));
    assert_eq!(rig.reaches(9), Some(three), "it was heard as well");
    for seqno in 2..220 {
        for session in [two, three] {
            rig.lanes.heard.insert(session, rig.now);
        }
        rig.pass(1_000);
        rig.hear(two, &Message::Pingwave(wave(8, seqno, 1, 5_000)));
        rig.work();
        if seqno == 100 {
            assert_eq!(
                (rig.reaches(8), rig.reaches(9)),
                (None, None),
                "it is remembered, and only that"
            );
        }
    }
    assert_eq!(rig.reaches(8), Some(two));
}

#[test]
fn whoever_does_not_relay_speaks_of_itself_alone() {
    let config = MeshConfig {
        relays: Some(false),
        ..MeshConfig::default()
    };
    let mut rig = Rig::new(config);
    let (two, three) = (rig.link(2), rig.link(3));
    rig.hear(two, &Message::Pingwave(wave(8, 1, 1, 5_000)));
    rig.work();
    assert_eq!(rig.reaches(8), Some(two));
    let told = rig.sent(three);
    let own = identity(1).entity();
    assert!(
        !told.is_empty()
            && told
                .iter()
                .all(|message| matches!(message, Message::Pingwave(wave) if wave.core.origin == own))
    );
    let four = rig.link(4);
    assert!(
        rig.sent(four)
            .iter()
            .all(|message| matches!(message, Message::Pingwave(wave) if wave.core.origin == own))
    );
}

#[test]
fn who_asks_just_after_we_spoke_hears_us_as_soon_as_we_may_speak_again() {
    let mut rig = rig();
    let a = rig.link(2);
    rig.pass(1);
    rig.outs();
    let (origin, epoch) = (identity(1).entity(), Epoch(5));
    let version = Version { epoch, seqno: 2 };
    rig.hear(
        a,
        &Message::Request {
            origin,
            version,
            ttl: 0,
        },
    );
    rig.work();
    assert!(rig.sent(a).is_empty(), "it spoke a moment ago");
    rig.pass(100);
    rig.work();
    assert!(matches!(rig.sent(a)[..], [Message::Pingwave(wave)] if wave.core.version.seqno == 2));
}
