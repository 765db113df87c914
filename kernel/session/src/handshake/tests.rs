//! Two or more handshake machines talking in memory, without a kernel.
//!
//! Invariants: deterministic; time moves only when a test says so. Not here: what the lane does with keys.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::CompressedEdwardsY;
use net_base::Seat;
use net_base::limit::MAX_ADDRESSES;
use net_base::rng::{Secret, Seed};
use net_base::store::Stored;
use net_base::{Addr, AssociationId, Duration, EntityId, Epoch, Instant, JobId, Now, SeatId, SessionId, UnixNanos};
use net_trust::{Identity, NetworkKey, Trust, trust};
use net_wire::handshake::{COOKIE_REPLY_LEN, CookieReply, INITIATION_LEN, Initiation, RESPONSE_LEN, Response};
use net_wire::{DropReason, HEADER_LEN, Suite};
use proptest::prelude::*;

use super::cookie::MacKeys;
use super::{AttemptId, Handshakes, In, Job, JobDone, MAX_JOBS, MAX_STRANGER_JOBS, Out, Packet, View};
use crate::config::SessionConfig;
use crate::install::Install;
use crate::roster::{Live, Roster, lane_of};

/// A wall clock far enough from zero that epochs can lie on both sides of it.
const WALL: u64 = 1_800_000_000_000_000_000;
const LANES: u8 = 4;

struct Node {
    entity: EntityId,
    address: Addr,
    trust: Seat<Trust>,
    shakes: Seat<Handshakes>,
    roster: Roster,
    entropy: u64,
    now: Now,
    jobs: VecDeque<(JobId, Job)>,
    jobs_run: usize,
    sent: VecDeque<(Addr, Packet)>,
    installs: Vec<(Install, Option<AttemptId>)>,
    withdrawn: Vec<SessionId>,
    failed: Vec<(AttemptId, u32, bool)>,
    unusable: Vec<AttemptId>,
    drops: BTreeMap<DropReason, u32>,
}

/// An identity; different for each `n`.
fn identity(n: u8) -> Identity {
    let mut draw = 0_u8;
    Identity::generate(&mut |seed| {
        *seed = [n; 32];
        seed[31] = draw;
        draw += 1;
    })
}

fn address(n: u8) -> Addr {
    ([10, 0, 0, n], 4_000).into()
}

impl Node {
    fn new(n: u8) -> Self {
        Self::with(n, Epoch(WALL), vec![NetworkKey::open()], SessionConfig::default())
    }

    fn in_network(n: u8, key: u8) -> Self {
        Self::with(
            n,
            Epoch(WALL),
            vec![NetworkKey::from_bytes(Secret([key; 32]))],
            SessionConfig::default(),
        )
    }

    fn with(n: u8, epoch: Epoch, networks: Vec<NetworkKey>, config: SessionConfig) -> Self {
        let identity = identity(n);
        let entity = identity.entity();
        let seed = Seed::new([n; 32]);
        let trust = Trust::new(identity, epoch, networks, None);
        let shakes = Handshakes::new(&config, trust.table(), LANES, seed.fork_erasing("handshake"));
        Self {
            entity,
            address: address(n),
            trust: Seat::new(SeatId(0), trust, &seed),
            shakes: Seat::new(SeatId(1), shakes, &seed),
            roster: Roster::new(),
            entropy: u64::from(n) << 32,
            now: Now {
                mono: Instant::from_nanos(1_000_000_000),
                wall: UnixNanos(WALL),
            },
            jobs: VecDeque::new(),
            jobs_run: 0,
            sent: VecDeque::new(),
            installs: Vec::new(),
            withdrawn: Vec::new(),
            failed: Vec::new(),
            unusable: Vec::new(),
            drops: BTreeMap::new(),
        }
    }

    fn tell(&mut self, input: In<'_>) {
        let view = View {
            trust: self.trust.machine().table(),
            roster: &self.roster,
        };
        self.shakes.handle(self.now, input, view);
        self.collect();
    }

    fn collect(&mut self) {
        self.shakes.check();
        while let Some(job) = self.shakes.pop_job() {
            self.jobs.push_back(job);
        }
        while let Some(out) = self.shakes.pop_out() {
            match out {
                Out::Transmit { to, packet } => self.sent.push_back((to, packet)),
                Out::Install { install, attempt } => self.installs.push((install, attempt)),
                Out::Withdraw { local } => self.withdrawn.push(local),
                Out::Failed {
                    attempt,
                    sent,
                    unreachable,
                } => self.failed.push((attempt, sent, unreachable)),
                Out::Unusable { attempt } => self.unusable.push(attempt),
                Out::Dropped(reason, _) => *self.drops.entry(reason).or_default() += 1,
            }
        }
    }

    fn run_job(&mut self) -> Option<(JobId, JobDone)> {
        let (id, job) = self.jobs.pop_front()?;
        self.jobs_run += 1;
        let entropy = &mut self.entropy;
        let done = job.run(&mut |bytes| {
            *entropy += 1;
            bytes[..8].copy_from_slice(&entropy.to_le_bytes());
        });
        Some((id, done))
    }

    fn work(&mut self) {
        while let Some((id, done)) = self.run_job() {
            self.tell(In::Worked(id, done));
        }
    }

    fn receive(&mut self, from: Addr, bytes: &[u8]) {
        self.tell(In::Packet { from, bytes });
    }

    /// Delivers and works at once.
    fn take(&mut self, from: Addr, bytes: &[u8]) {
        self.receive(from, bytes);
        self.work();
    }

    fn dial(&mut self, attempt: u64, peer: &Node, association: u64) {
        self.dial_at(attempt, peer.entity, vec![peer.address], association);
    }

    fn dial_at(&mut self, attempt: u64, peer: EntityId, addresses: Vec<Addr>, association: u64) {
        let association = AssociationId(association);
        self.tell(In::Dial {
            attempt: AttemptId(attempt),
            peer,
            addresses,
            association,
        });
        self.work();
    }

    /// Moves time forward, firing every timer at its instant.
    fn wait(&mut self, span: Duration) {
        let end = self.now.mono + span;
        while let Some(due) = self.shakes.due().filter(|due| *due <= end) {
            self.now.mono = self.now.mono.max(due);
            let view = View {
                trust: self.trust.machine().table(),
                roster: &self.roster,
            };
            assert!(self.shakes.fire_due(self.now, view));
            self.collect();
            self.work();
        }
        self.now.mono = end;
    }

    fn pop(&mut self) -> Vec<u8> {
        self.sent.pop_front().expect("something was sent").1.bytes().to_vec()
    }

    fn confirmed(&mut self, peer: EntityId, epoch: Epoch, counter: u64) {
        self.trust
            .handle(self.now, trust::In::Confirmed { peer, epoch, counter }, ());
    }

    fn dropped(&self, reason: DropReason) -> u32 {
        self.drops.get(&reason).copied().unwrap_or_default()
    }

    /// Asserts that exactly one packet was refused, for `reason`, and nothing else happened.
    #[track_caller]
    fn refused_only(&self, reason: DropReason) {
        assert_eq!(self.drops, BTreeMap::from([(reason, 1)]));
        assert!(self.installs.is_empty() && self.withdrawn.is_empty() && self.failed.is_empty());
        assert!(self.sent.is_empty(), "a refused packet is not answered");
    }
}

/// Delivers everything both sides send, until they are quiet.
fn talk(a: &mut Node, b: &mut Node) {
    loop {
        a.work();
        b.work();
        if let Some((to, packet)) = a.sent.pop_front() {
            if to == b.address {
                b.receive(a.address, packet.bytes());
            }
        } else if let Some((to, packet)) = b.sent.pop_front() {
            if to == a.address {
                a.receive(b.address, packet.bytes());
            }
        } else if a.jobs.is_empty() && b.jobs.is_empty() {
            return;
        }
    }
}

#[track_caller]
fn assert_pair(initiator: &Install, responder: &Install) {
    assert!(initiator.initiator && !responder.initiator);
    assert_eq!((initiator.local, initiator.remote), (responder.remote, responder.local));
    assert_eq!(initiator.local_association, responder.remote_association);
    assert_eq!(initiator.remote_association, responder.local_association);
    assert_eq!(initiator.handshake, responder.handshake);
    let (a, b) = (&initiator.secrets, &responder.secrets);
    assert_eq!((a.send.0, a.receive.0), (b.receive.0, b.send.0));
    assert_eq!(
        (a.send_header.0, a.receive_header.0),
        (b.receive_header.0, b.send_header.0)
    );
}

#[test]
fn every_address_is_tried_before_any_is_waited_for() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let mut addresses: Vec<Addr> = (20..35).map(address).collect();
    addresses.push(b.address);
    a.dial_at(1, b.entity, addresses.clone(), 7);
    let config = SessionConfig::default();
    // At most five quarters of 20 ms lie between two.
    a.wait(Duration::from_millis(25) * 15);
    let tried: Vec<Addr> = a.sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(tried, addresses, "each once, in the order given");
    a.wait(config.handshake_retry.mul_ratio(1, 5));
    assert_eq!(a.sent.len(), addresses.len(), "then the answers are waited for");
    a.sent.drain(..15);
    talk(&mut a, &mut b);
    assert_eq!(
        a.installs.len(),
        1,
        "fifteen addresses of nobody cost less than half a second"
    );
    assert_eq!(a.installs[0].0.address, b.address);
}

#[test]
fn a_round_of_several_addresses_is_repeated_after_pauses_that_double() {
    let (mut a, b) = (Node::new(1), Node::new(2));
    let config = SessionConfig::default();
    a.dial_at(1, b.entity, vec![address(20), address(21), address(22)], 7);
    a.wait(config.connect_timeout);
    assert_eq!(a.failed.len(), 1);
    let sent = a.failed[0].1 as usize;
    assert!((18..=30).contains(&sent), "{sent} tries");
    for (n, (to, _)) in a.sent.iter().enumerate() {
        assert_eq!(*to, address(20 + (n % 3) as u8), "each in turn");
    }
}

#[test]
fn two_nodes_agree_on_a_key() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(7, &b, 70);
    talk(&mut a, &mut b);
    let ((install_a, attempt), (install_b, none)) = (&a.installs[0], &b.installs[0]);
    assert_eq!((*attempt, *none), (Some(AttemptId(7)), None));
    assert_pair(install_a, install_b);
    assert_eq!((install_a.peer, install_b.peer), (b.entity, a.entity));
    assert_eq!((install_a.address, install_b.address), (b.address, a.address));
    assert_eq!(install_a.local_association, AssociationId(70));
    assert_eq!((install_a.peer_epoch, install_b.peer_epoch), (Epoch(WALL), Epoch(WALL)));
    assert_eq!(
        install_a.local.0 & 3,
        u64::from(lane_of(&b.entity, LANES)),
        "the id names the peer's lane"
    );
    assert_eq!(install_b.local.0 & 3, u64::from(lane_of(&a.entity, LANES)));
    assert!(a.drops.is_empty() && b.drops.is_empty());
    a.wait(Duration::from_secs(60));
    assert!(
        a.failed.is_empty() && a.sent.is_empty(),
        "a finished dial neither retries nor fails"
    );
}

#[test]
fn nothing_but_a_pending_place_follows_from_message_1() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    assert_eq!(b.installs.len(), 1, "answered, not confirmed");
    assert_eq!(b.trust.machine().table().floor(&a.entity), None);
    b.wait(Duration::from_secs(6));
    assert_eq!(
        b.withdrawn,
        [b.installs[0].0.local],
        "an unconfirmed key goes away by itself"
    );
}

#[test]
fn a_settled_key_is_not_withdrawn() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    let local = b.installs[0].0.local;
    b.tell(In::Settled { local });
    b.wait(Duration::from_secs(60));
    assert!(b.withdrawn.is_empty());
}

#[test]
fn a_lost_message_is_made_up_for_by_a_fresh_one() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    let lost = a.pop();
    a.wait(Duration::from_secs(1));
    let second = a.pop();
    let (first, second) = (Initiation::parse(&lost).unwrap(), Initiation::parse(&second).unwrap());
    assert_ne!(first.sender(), second.sender());
    assert_ne!(first.noise()[..32], second.noise()[..32], "a new ephemeral");
    talk(&mut a, &mut b);
    assert_pair(&a.installs[0].0, &b.installs[0].0);
}

#[test]
fn the_answer_to_an_earlier_message_still_counts() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    a.wait(Duration::from_secs(1));
    let late = b.pop();
    a.take(b.address, &late);
    assert_pair(&a.installs[0].0, &b.installs[0].0);
    a.take(b.address, &late);
    assert_eq!(a.dropped(DropReason::UnexpectedHandshake), 1, "and counts once");
    assert_eq!(a.installs.len(), 1);
}

#[test]
fn every_valid_message_1_is_answered_and_labels_agree() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    a.wait(Duration::from_secs(1));
    let (first, second) = (a.pop(), a.pop());
    b.take(a.address, &second);
    b.take(a.address, &first);
    assert_eq!(b.sent.len(), 2, "order does not matter before confirmation");
    assert_eq!(b.installs[0].0.local_association, b.installs[1].0.local_association);
}

#[test]
fn silence_fails_after_the_timeout_and_says_how_much_was_tried() {
    let mut a = Node::new(1);
    let dead = [address(8), address(9)];
    a.dial_at(3, identity(2).entity(), dead.to_vec(), 1);
    a.tell(In::Unreachable(address(9)));
    a.wait(Duration::from_secs(11));
    let (attempt, sent, unreachable) = a.failed[0];
    assert_eq!((attempt, unreachable), (AttemptId(3), true));
    assert_eq!(a.sent.len(), sent as usize);
    assert!((6..=20).contains(&sent), "{sent} tries with pauses that double");
    assert!(
        dead.iter()
            .all(|dead| a.sent.iter().filter(|(to, _)| to == dead).count() >= 3),
        "each is tried"
    );
    a.wait(Duration::from_secs(60));
    assert_eq!((a.failed.len(), a.sent.len()), (1, sent as usize));
}

#[test]
fn a_dial_needs_an_address_and_another_identity() {
    let mut a = Node::new(1);
    a.dial_at(1, identity(2).entity(), vec![], 1);
    a.dial_at(2, a.entity, vec![address(2)], 1);
    assert_eq!(a.failed, [(AttemptId(1), 0, false), (AttemptId(2), 0, false)]);
    a.dial_at(3, EntityId([0; 32]), vec![address(2)], 1);
    assert_eq!(a.unusable, [AttemptId(3)], "no message can be made for an unusable key");
    assert!(a.sent.is_empty());
}

#[test]
fn a_cancelled_dial_ignores_its_answer() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    a.receive(b.address, &b.pop());
    a.tell(In::Cancel(AttemptId(1)));
    a.work();
    a.refused_only(DropReason::UnexpectedHandshake);
    a.wait(Duration::from_secs(60));
    assert!(a.failed.is_empty() && a.sent.is_empty());
}

#[test]
fn a_job_of_a_cancelled_dial_does_nothing_for_the_next_one() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let dial = |association| In::Dial {
        attempt: AttemptId(1),
        peer: b.entity,
        addresses: vec![b.address],
        association: AssociationId(association),
    };
    a.tell(dial(1));
    a.tell(In::Cancel(AttemptId(1)));
    a.tell(dial(2));
    talk(&mut a, &mut b);
    assert_eq!(a.installs.len(), 1);
    assert_eq!(b.installs[0].0.remote_association, AssociationId(2));
}

#[test]
fn corrupted_copies_that_come_first_do_not_cost_the_genuine_answer() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    let genuine = b.pop();
    let keys = MacKeys::new(&NetworkKey::open().mac_key(), &a.entity);
    let forge = |at: usize| {
        let mut copy: [u8; RESPONSE_LEN] = genuine.clone().try_into().unwrap();
        copy[at] ^= 1;
        let mac1 = keys.mac1(&copy[..Response::MAC1_AT]);
        Response::set_mac1(&mut copy, &mac1);
        copy
    };
    // In the sender's id, the ephemeral and the sealed payload; each with a MAC that everybody can make in an
    // open network. Two checked one by one, the others while a job is out.
    for at in [70, 80] {
        a.take(address(66), &forge(at));
    }
    for at in [81, 110, 112, 120] {
        a.receive(address(66), &forge(at));
    }
    a.receive(address(66), &genuine);
    a.work();
    assert_eq!(a.dropped(DropReason::NoiseFailure), 6);
    assert_pair(&a.installs[0].0, &b.installs[0].0);
    assert_eq!(
        a.installs[0].0.address, b.address,
        "who sends the answer on is not the path"
    );
}

#[test]
fn a_flood_of_forged_answers_is_bounded() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    let genuine = b.pop();
    let keys = MacKeys::new(&NetworkKey::open().mac_key(), &a.entity);
    for n in 0..1_000_u16 {
        let mut copy: [u8; RESPONSE_LEN] = genuine.clone().try_into().unwrap();
        copy[100..102].copy_from_slice(&n.to_le_bytes());
        let mac1 = keys.mac1(&copy[..Response::MAC1_AT]);
        Response::set_mac1(&mut copy, &mac1);
        a.receive(address(66), &copy);
    }
    assert!(a.jobs.len() <= 1, "one at a time");
    a.work();
    assert!(a.jobs_run < 16, "{} jobs", a.jobs_run);
    assert!(a.installs.is_empty() && a.failed.is_empty(), "the dial goes on");
}

#[test]
fn a_copy_of_message_1_from_elsewhere_does_not_take_the_answer() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    let message = a.pop();
    b.take(address(66), &message);
    b.take(a.address, &message);
    let answered: Vec<_> = b.sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(answered, [address(66), a.address]);
    b.take(a.address, &message);
    assert_eq!(
        b.dropped(DropReason::DuplicateHandshake),
        1,
        "the same packet twice is worked on once"
    );
    b.sent.pop_front();
    talk(&mut a, &mut b);
    assert_pair(&a.installs[0].0, &b.installs[1].0);
}

#[test]
fn the_wrong_network_is_refused_before_any_dh() {
    let (mut a, mut b) = (Node::in_network(1, 1), Node::in_network(2, 2));
    a.dial(1, &b, 1);
    b.receive(a.address, &a.pop());
    assert!(b.jobs.is_empty());
    b.refused_only(DropReason::BadMac);
}

#[test]
fn knowing_the_mac_key_alone_is_not_membership() {
    // The MAC proves little; the pre-shared key inside Noise decides. Here message 1 of the other network gets
    // the right MAC, is answered, and its sender cannot use the answer.
    let (mut a, mut b) = (Node::in_network(1, 1), Node::in_network(2, 2));
    a.dial(1, &b, 1);
    let mut message: [u8; INITIATION_LEN] = a.pop().try_into().unwrap();
    let right = NetworkKey::from_bytes(Secret([2; 32])).mac_key();
    let mac1 = MacKeys::new(&right, &b.entity).mac1(&message[..Initiation::MAC1_AT]);
    Initiation::set_mac1(&mut message, &mac1);
    b.take(a.address, &message);
    let mut answer: [u8; RESPONSE_LEN] = b.pop().try_into().unwrap();
    let wrong = NetworkKey::from_bytes(Secret([1; 32])).mac_key();
    let mac1 = MacKeys::new(&wrong, &a.entity).mac1(&answer[..Response::MAC1_AT]);
    Response::set_mac1(&mut answer, &mac1);
    a.take(b.address, &answer);
    a.refused_only(DropReason::NoiseFailure);
}

#[test]
fn two_keys_are_accepted_during_a_rotation() {
    let (old, new) = (
        NetworkKey::from_bytes(Secret([1; 32])),
        NetworkKey::from_bytes(Secret([2; 32])),
    );
    let config = SessionConfig::default;
    let mut b = Node::with(2, Epoch(WALL), vec![new.clone(), old.clone()], config());
    for (n, key) in [(1, old), (3, new)] {
        let mut a = Node::with(n, Epoch(WALL), vec![key], config());
        a.dial(1, &b, 1);
        talk(&mut a, &mut b);
        assert_pair(&a.installs[0].0, &b.installs.last().unwrap().0);
    }
}

#[test]
fn an_initiation_sent_back_is_refused() {
    let (mut a, b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    let message = a.pop();
    a.take(b.address, &message);
    a.refused_only(DropReason::BadMac);
}

#[test]
fn the_own_identity_is_refused() {
    let (mut twin, mut b) = (Node::new(2), Node::new(2));
    // A node with the same key, made to dial it: the machine itself refuses to.
    twin.own_is(EntityId([9; 32]));
    twin.dial(1, &b, 1);
    b.take(address(1), &twin.pop());
    b.refused_only(DropReason::OwnIdentity);
}

impl Node {
    /// Makes the node claim to be somebody else in message 1.
    fn own_is(&mut self, claimed: EntityId) {
        let public = self.trust.machine().table().identity().noise_public();
        self.pose(claimed, public);
    }

    /// The same, and another static key in Noise.
    fn pose(&mut self, claimed: EntityId, public: [u8; 32]) {
        let seed = Seed::new([77; 32]);
        let mut shakes = Handshakes::new(
            &SessionConfig::default(),
            self.trust.machine().table(),
            LANES,
            seed.fork_erasing("x"),
        );
        shakes.own = claimed;
        shakes.statics.public = public;
        self.shakes = Seat::new(SeatId(1), shakes, &seed);
    }
}

#[test]
fn an_identity_other_than_the_proved_one_is_refused() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.own_is(identity(3).entity());
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    b.refused_only(DropReason::EntityMismatch);
}

#[test]
fn an_identity_checked_before_is_still_not_another_keys() {
    let (mut a, mut b, mut c) = (Node::new(1), Node::new(2), Node::new(3));
    a.dial(1, &b, 1);
    talk(&mut a, &mut b);
    c.own_is(a.entity);
    c.dial(1, &b, 1);
    let jobs = b.jobs_run;
    b.take(c.address, &c.pop());
    assert_eq!(b.dropped(DropReason::EntityMismatch), 1);
    assert_eq!((b.installs.len(), b.jobs_run), (1, jobs + 1));
}

#[test]
fn the_other_identity_of_the_same_noise_key_is_refused() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let mut negated = a.entity;
    negated.0[31] ^= 0x80;
    a.own_is(negated);
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    b.refused_only(DropReason::EntityMismatch);
}

#[test]
fn a_second_identity_for_the_same_secret_is_refused() {
    // The own point with one of order 8 added: Noise agrees, since clamped scalars cancel it.
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let point = CompressedEdwardsY(a.entity.0).decompress().unwrap();
    let twins = EIGHT_TORSION[1..]
        .iter()
        .map(|torsion| EntityId((point + torsion).compress().0));
    let twin = twins.into_iter().find(|twin| twin.0[31] & 0x80 == 0).unwrap();
    let twisted = CompressedEdwardsY(twin.0).decompress().unwrap();
    a.pose(twin, twisted.to_montgomery().to_bytes());
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    assert_eq!(b.jobs_run, 2, "found out only by the check for torsion");
    b.refused_only(DropReason::EntityMismatch);
}

#[test]
fn an_identity_of_small_order_is_refused() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let mut identity_point = EntityId([0; 32]);
    identity_point.0[0] = 1;
    a.own_is(identity_point);
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    b.refused_only(DropReason::LowOrderPoint);
}

#[test]
fn an_ephemeral_of_low_order_is_refused() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    let mut message: [u8; INITIATION_LEN] = a.pop().try_into().unwrap();
    message[76..108].fill(0);
    let mac1 = MacKeys::new(&NetworkKey::open().mac_key(), &b.entity).mac1(&message[..Initiation::MAC1_AT]);
    Initiation::set_mac1(&mut message, &mac1);
    b.take(a.address, &message);
    b.refused_only(DropReason::LowOrderPoint);
}

#[test]
fn wrong_versions_and_damaged_packets_are_refused_each_for_its_reason() {
    let (mut a, b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    let message = a.pop();
    let cases: [(usize, u8, DropReason); 5] = [
        (0, 0xFF, DropReason::GarbageMagic),
        (2, 2, DropReason::BadVersion),
        (65, 9, DropReason::UnsupportedSuite),
        (66, 1, DropReason::BadHandshakeBody),
        (100, message[100] ^ 1, DropReason::BadMac),
    ];
    for (at, byte, reason) in cases {
        let mut b = Node::new(2);
        let mut copy = message.clone();
        copy[at] = byte;
        b.take(a.address, &copy);
        b.refused_only(reason);
    }
    let mut b = Node::new(2);
    b.take(a.address, &message[..message.len() - 1]);
    b.refused_only(DropReason::LengthMismatch);
}

#[test]
fn a_replayed_message_1_is_stale_once_its_handshake_was_confirmed() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    let message = a.pop();
    b.take(a.address, &message);
    let install = &b.installs[0].0;
    let (peer, epoch, counter, local) = (install.peer, install.peer_epoch, install.handshake, install.local);
    b.confirmed(peer, epoch, counter);
    b.tell(In::Settled { local });
    b.take(a.address, &message);
    assert_eq!(b.dropped(DropReason::StaleHandshake), 1);
    assert_eq!(b.installs.len(), 1);
}

#[test]
fn a_floor_raised_while_a_job_runs_counts() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    b.receive(a.address, &a.pop());
    let (id, done) = b.run_job().unwrap();
    b.tell(In::Worked(id, done));
    let (id, done) = b.run_job().unwrap();
    b.confirmed(a.entity, Epoch(WALL), 1);
    b.tell(In::Worked(id, done));
    b.refused_only(DropReason::StaleHandshake);
}

#[test]
fn an_epoch_from_the_far_future_is_refused_on_either_side() {
    let (config, day) = (SessionConfig::default, 24 * 60 * 60 * 1_000_000_000);
    let open = || vec![NetworkKey::open()];
    for (epoch, refused) in [(WALL + day, false), (WALL + day + 1, true)] {
        let (mut a, mut b) = (Node::with(1, Epoch(epoch), open(), config()), Node::new(2));
        a.dial(1, &b, 1);
        b.take(a.address, &a.pop());
        assert_eq!(b.dropped(DropReason::EpochTooFar), u32::from(refused));
        assert_eq!(b.installs.is_empty(), refused);

        let (mut a, mut b) = (Node::new(1), Node::with(2, Epoch(epoch), open(), config()));
        a.dial(1, &b, 1);
        talk(&mut a, &mut b);
        assert_eq!(a.dropped(DropReason::EpochTooFar), u32::from(refused));
        assert_eq!(a.installs.is_empty(), refused);
    }
}

#[test]
fn a_peer_from_an_older_epoch_is_answered_so_that_it_can_be_told() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    b.confirmed(a.entity, Epoch(WALL + 1), 9);
    a.dial(1, &b, 1);
    talk(&mut a, &mut b);
    assert_pair(&a.installs[0].0, &b.installs[0].0);
    assert_eq!(b.installs[0].0.peer_epoch, Epoch(WALL));
    assert_eq!(b.trust.machine().table().floor(&a.entity), Some((Epoch(WALL + 1), 9)));
}

#[test]
fn both_dialling_at_once_agree_on_one_pair_of_labels() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 10);
    b.dial(1, &a, 20);
    let (from_a, from_b) = (a.pop(), b.pop());
    b.take(a.address, &from_a);
    a.take(b.address, &from_b);
    talk(&mut a, &mut b);
    assert_eq!((a.installs.len(), b.installs.len()), (2, 2));
    for (install, _) in &a.installs {
        assert_eq!((install.local_association.0, install.remote_association.0), (10, 20));
    }
    for (install, _) in &b.installs {
        assert_eq!((install.local_association.0, install.remote_association.0), (20, 10));
    }
    let of = |node: &Node, initiator| {
        node.installs
            .iter()
            .find(|(i, _)| i.initiator == initiator)
            .unwrap()
            .0
            .clone()
    };
    assert_pair(&of(&a, true), &of(&b, false));
    assert_pair(&of(&b, true), &of(&a, false));
}

#[test]
fn a_rekey_keeps_the_labels_and_a_peer_that_starts_afresh_gets_a_new_one() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let live = Live {
        local: AssociationId(20),
        remote: AssociationId(10),
        address: a.address,
    };
    b.roster.set(a.entity, live);
    a.dial(1, &b, 10);
    talk(&mut a, &mut b);
    assert_eq!(b.installs[0].0.local_association, AssociationId(20));
    a.dial(2, &b, 11);
    talk(&mut a, &mut b);
    assert_ne!(b.installs[1].0.local_association, AssociationId(20));
}

#[test]
fn under_load_a_cookie_is_asked_for_and_used_at_once() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    load(&mut b);
    let jobs = b.jobs.len();
    a.dial(1, &b, 1);
    let message = a.pop();
    b.receive(a.address, &message);
    assert_eq!(
        (b.dropped(DropReason::CookieRequired), b.jobs.len()),
        (1, jobs),
        "no DH without a cookie"
    );
    let reply = b.pop();
    assert_eq!(reply.len(), COOKIE_REPLY_LEN);
    assert!(reply.len() < message.len());
    a.take(b.address, &reply);
    let second = a.pop();
    let parsed = Initiation::parse(&second).unwrap();
    assert!(parsed.has_mac2());
    a.take(b.address, &reply);
    assert_eq!(
        a.dropped(DropReason::UnexpectedHandshake),
        1,
        "a cookie reply counts once"
    );
    b.receive(address(66), &second);
    assert_eq!(
        b.dropped(DropReason::CookieInvalid),
        1,
        "a cookie belongs to one address"
    );
    b.pop();
    b.receive(a.address, &second);
    assert_eq!(b.jobs.len(), jobs + 1);
    talk(&mut a, &mut b);
    assert!(b.installs.iter().any(|(install, _)| install.peer == a.entity));
    assert_eq!(a.installs.len(), 1);
}

#[test]
fn a_forged_cookie_reply_changes_nothing() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    let local = Initiation::parse(a.sent[0].1.bytes()).unwrap().sender();
    a.take(b.address, &CookieReply::encode(local, &[1; 24], &[2; 32]));
    assert_eq!(a.dropped(DropReason::CookieInvalid), 1);
    a.take(
        b.address,
        &CookieReply::encode(SessionId(local.0 ^ 64), &[1; 24], &[2; 32]),
    );
    assert_eq!(a.dropped(DropReason::UnexpectedHandshake), 1);
    assert_eq!(a.sent.len(), 1);
    talk(&mut a, &mut b);
    assert_eq!(a.installs.len(), 1);
}

#[test]
fn one_source_with_a_cookie_is_rate_limited_and_others_are_not() {
    let mut b = Node::new(2);
    for n in 0..150 {
        let message = spoofed(&b, n);
        b.take(([172, 16, 0, 1], n as u16 + 1).into(), &message);
    }
    b.sent.clear();
    // The machine is quiet again but read much lately: everybody needs a cookie now.
    let mut greedy = Node::new(1);
    let mut got_in = 0;
    for n in 0..60 {
        greedy.dial(n, &b, n);
        b.take(greedy.address, &greedy.pop());
        greedy.take(b.address, &b.pop());
        let before = b.installs.len();
        b.take(greedy.address, &greedy.pop());
        got_in += b.installs.len() - before;
        b.sent.clear();
    }
    assert_eq!(got_in as u64, super::cookie::SOURCE_BURST);
    assert_eq!(b.dropped(DropReason::RateLimited), 60 - got_in as u32);
    let mut modest = Node::new(3);
    modest.dial(1, &b, 1);
    talk(&mut modest, &mut b);
    assert_eq!(modest.installs.len(), 1);
}

#[test]
fn peers_with_a_live_session_get_in_where_strangers_do_not() {
    let (mut a, mut stranger, mut b) = (Node::new(1), Node::new(3), Node::new(2));
    let live = Live {
        local: AssociationId(20),
        remote: AssociationId(10),
        address: a.address,
    };
    b.roster.set(a.entity, live);
    // Strangers with cookies, from as many addresses, fill what strangers may use.
    load(&mut b);
    for n in 0..MAX_STRANGER_JOBS as u8 {
        let from: Addr = ([172, 16, 1, n], 1).into();
        stranger.dial(u64::from(n), &b, 1);
        b.receive(from, &stranger.pop());
        let reply = b.pop();
        stranger.take(b.address, &reply);
        b.receive(from, &stranger.pop());
    }
    assert_eq!(b.jobs.len(), MAX_STRANGER_JOBS);
    assert!(b.dropped(DropReason::Overloaded) > 0);
    a.dial(1, &b, 10);
    b.receive(a.address, &a.pop());
    a.take(b.address, &b.pop());
    b.receive(a.address, &a.pop());
    assert_eq!(b.jobs.len(), MAX_STRANGER_JOBS + 1, "a rekey is worked on all the same");
}

#[test]
fn a_flood_with_the_address_of_a_live_peer_is_bounded_too() {
    let (a, mut b) = (Node::new(1), Node::new(2));
    let live = Live {
        local: AssociationId(20),
        remote: AssociationId(10),
        address: a.address,
    };
    b.roster.set(a.entity, live);
    for n in 0..10_000 {
        let message = spoofed(&b, n);
        b.take(a.address, &message);
    }
    assert!(b.jobs_run <= 256, "{} jobs", b.jobs_run);
    assert!(b.dropped(DropReason::CookieRequired) > 9_000);
}

/// Gives `node` so many strangers' first messages at once that it asks for cookies.
fn load(node: &mut Node) {
    for n in 0..super::LOADED_JOBS {
        let message = spoofed(node, n as u64);
        node.receive(([172, 16, 0, 1], n as u16 + 1).into(), &message);
    }
    assert_eq!(node.jobs.len(), super::LOADED_JOBS);
}

/// A first message with a right MAC and nonsense inside: what anybody can make in an open network.
fn spoofed(to: &Node, n: u64) -> [u8; INITIATION_LEN] {
    let mut noise = [0; 152];
    noise[..8].copy_from_slice(&n.to_le_bytes());
    noise[8] = 9;
    let mut message = Initiation::encode(SessionId(n + 1), net_wire::handshake::Suite::ChaChaPoly, &noise);
    let mac1 = MacKeys::new(&NetworkKey::open().mac_key(), &to.entity).mac1(&message[..Initiation::MAC1_AT]);
    Initiation::set_mac1(&mut message, &mac1);
    message
}

#[test]
fn a_flood_of_spoofed_first_messages_is_bounded_and_stops_nobody() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let mut bytes_in = 0;
    for n in 0..100_000_u64 {
        let message = spoofed(&b, n);
        bytes_in += message.len();
        let from: Addr = ((n as u32).to_be_bytes(), 1_000).into();
        b.receive(from, &message);
        assert!(b.jobs.len() <= MAX_STRANGER_JOBS);
        if n % 4 == 0 {
            b.work();
        }
    }
    let flood = b.jobs_run;
    assert!(flood <= 256, "{flood} of 100,000 cost a DH");
    let bytes_out: usize = b.sent.iter().map(|(_, packet)| packet.bytes().len()).sum();
    assert!(bytes_out < bytes_in / 2, "no amplification");
    assert!(b.installs.is_empty());
    b.sent.clear();
    a.dial(1, &b, 1);
    talk(&mut a, &mut b);
    assert_eq!(a.installs.len(), 1, "an honest node gets in with a cookie");
}

#[test]
fn jobs_are_bounded_while_none_ends() {
    let mut b = Node::new(2);
    let stranger = |n: u64| -> Addr { ((n as u32).to_be_bytes(), 1_000).into() };
    for n in 0..1_000 {
        let message = spoofed(&b, n);
        b.receive(stranger(n), &message);
    }
    assert_eq!(b.jobs.len(), super::LOADED_JOBS, "the rest was asked for cookies");
    for n in 0..100_u8 {
        b.tell(In::Dial {
            attempt: AttemptId(u64::from(n)),
            peer: identity(n.max(3)).entity(),
            addresses: vec![address(9)],
            association: AssociationId(1),
        });
    }
    assert_eq!(b.jobs.len(), MAX_JOBS, "dials use the rest and wait");
    b.sent.clear();
    b.work();
    assert_eq!(b.sent.len(), 100, "all of them left in the end");
}

#[test]
fn unconfirmed_keys_are_bounded_per_peer_and_in_all() {
    let config = SessionConfig {
        max_pending: 10,
        ..SessionConfig::default()
    };
    let mut b = Node::with(2, Epoch(WALL), vec![NetworkKey::open()], config);
    let mut a = Node::new(1);
    for n in 0..20 {
        a.dial(n, &b, n);
        b.take(a.address, &a.pop());
    }
    assert_eq!((b.installs.len(), b.withdrawn.len()), (20, 12), "eight of one peer");
    for n in 3..10 {
        let mut c = Node::new(n);
        c.dial(1, &b, 1);
        b.take(c.address, &c.pop());
    }
    assert_eq!(b.installs.len() - b.withdrawn.len(), 10);
    let oldest: Vec<_> = b
        .installs
        .iter()
        .take(b.withdrawn.len())
        .map(|(install, _)| install.local)
        .collect();
    assert_eq!(b.withdrawn, oldest, "the oldest made room");
}

#[test]
fn a_clone_with_other_entropy_repeats_no_ephemeral() {
    let peer = Node::new(2);
    let (mut original, mut clone) = (Node::new(1), Node::new(1));
    clone.entropy += 1 << 20;
    let mut seen = alloc::collections::BTreeSet::new();
    for n in 0..20 {
        for node in [&mut original, &mut clone] {
            node.dial(n, &peer, n);
            let message = node.pop();
            assert!(seen.insert(Initiation::parse(&message).unwrap().noise()[..32].to_vec()));
        }
    }
}

#[test]
fn a_restart_with_the_same_seed_repeats_no_ephemeral_either() {
    let (mut first, mut second, peer) = (Node::new(1), Node::new(1), Node::new(2));
    second.entropy = 999;
    first.dial(1, &peer, 1);
    second.dial(1, &peer, 1);
    assert_ne!(first.pop()[76..108], second.pop()[76..108]);
}

#[test]
fn fresh_entropy_reaches_the_generator() {
    let (mut a, mut clone, peer) = (Node::new(1), Node::new(1), Node::new(2));
    clone.entropy = 999;
    a.dial(1, &peer, 1);
    clone.dial(1, &peer, 1);
    // From here both are lent the same bytes; the first loan keeps them apart.
    clone.entropy = a.entropy;
    a.dial(2, &peer, 1);
    clone.dial(2, &peer, 1);
    a.pop();
    clone.pop();
    assert_ne!(a.pop()[76..108], clone.pop()[76..108]);
}

#[test]
fn handshake_counters_never_repeat() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    for n in 0..10 {
        a.dial(n, &b, n);
        a.wait(Duration::from_secs(1));
        talk(&mut a, &mut b);
    }
    let mut counters: Vec<_> = b.installs.iter().map(|(install, _)| install.handshake).collect();
    let count = counters.len();
    counters.dedup();
    assert!(count >= 10 && counters.len() == count && counters.is_sorted());
}

#[test]
fn the_machine_is_quiet_when_nothing_is_left() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    load(&mut b);
    a.dial(1, &b, 1);
    talk(&mut a, &mut b);
    b.wait(Duration::from_secs(600));
    a.wait(Duration::from_secs(600));
    assert_eq!((a.shakes.due(), b.shakes.due()), (None, None));
    b.trust
        .stored(b.now, net_base::Ticket::new(SeatId(0), 0), Stored::Done, ());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_change_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        as_kind in 0_u8..4,
    ) {
        let (mut a, mut b) = (Node::new(1), Node::new(2));
        a.dial(1, &b, 1);
        let local = Initiation::parse(a.sent[0].1.bytes()).unwrap().sender();
        let mut packet = bytes;
        if let Some((length, session)) =
            [None, Some((INITIATION_LEN, 0)), Some((RESPONSE_LEN, local.0)), Some((COOKIE_REPLY_LEN, local.0))][as_kind as usize]
        {
            // Dressed as a packet of this kind, so that more than the first look is reached.
            packet.resize(length, 0);
            let mut header = [0; 64];
            net_wire::Header::handshake(SessionId(session), (length - 64) as u16).encode(&mut header);
            packet[..64].copy_from_slice(&header);
            packet[64] = as_kind;
            packet[66..68].fill(0);
        }
        a.take(b.address, &packet);
        prop_assert_eq!(a.drops.values().sum::<u32>(), 1);
        prop_assert!(a.installs.is_empty() && a.failed.is_empty() && a.sent.len() == 1);
        talk(&mut a, &mut b);
        prop_assert_eq!(a.installs.len(), 1);
    }

    #[test]
    fn two_nodes_that_dial_each_other_agree_over_a_bad_network(
        fates in proptest::collection::vec(0_u8..6, 40..80),
        both in any::<bool>(),
    ) {
        let (mut a, mut b) = (Node::new(1), Node::new(2));
        a.dial(1, &b, 10);
        if both {
            b.dial(1, &a, 20);
        }
        let mut late: Vec<(bool, Vec<u8>)> = Vec::new();
        let mut fates = fates.into_iter();
        for _ in 0..200 {
            let packets = [(true, a.sent.pop_front()), (false, b.sent.pop_front())];
            for (to_b, packet) in packets.into_iter().filter_map(|(to_b, sent)| sent.map(|(_, packet)| (to_b, packet))) {
                let bytes = packet.bytes().to_vec();
                // Lost, damaged, late, twice, or once; once when the bad times are over.
                let copies = match fates.next() {
                    Some(0 | 1) => Vec::new(),
                    Some(2) => {
                        let mut damaged = bytes;
                        let at = damaged.len() - 40;
                        damaged[at] ^= 1;
                        vec![damaged]
                    }
                    Some(3) => {
                        late.push((to_b, bytes));
                        Vec::new()
                    }
                    Some(4) => vec![bytes.clone(), bytes],
                    Some(_) | None => vec![bytes],
                };
                for bytes in copies {
                    if to_b { b.take(a.address, &bytes) } else { a.take(b.address, &bytes) }
                }
            }
            if a.sent.is_empty() && b.sent.is_empty() {
                a.wait(Duration::from_millis(250));
                b.wait(Duration::from_millis(250));
                if let Some((to_b, bytes)) = late.pop() {
                    if to_b { b.take(a.address, &bytes) } else { a.take(b.address, &bytes) }
                }
            }
        }
        let dialled = |node: &Node| node.installs.iter().filter(|(install, _)| install.initiator).count();
        prop_assert!(dialled(&a) + a.failed.len() == 1, "a dial ends once");
        prop_assert_eq!(dialled(&b) + b.failed.len(), usize::from(both));
        for (from, to) in [(&a, &b), (&b, &a)] {
            for (install, _) in from.installs.iter().filter(|(install, _)| install.initiator) {
                let other = to.installs.iter().find(|(other, _)| other.local == install.remote);
                assert_pair(install, &other.expect("what one side agreed, the other did").0);
            }
        }
    }

    #[test]
    fn a_damaged_first_message_changes_nothing(at in 0..INITIATION_LEN, bit in 0_u8..8) {
        let (mut a, mut b) = (Node::new(1), Node::new(2));
        a.dial(1, &b, 1);
        let mut message = a.pop();
        message[at] ^= 1 << bit;
        b.take(a.address, &message);
        // mac2 is looked at under load only.
        let harmless = at >= Initiation::MAC2_AT;
        prop_assert_eq!(b.installs.len(), usize::from(harmless));
        prop_assert_eq!(b.drops.values().sum::<u32>(), u32::from(!harmless));
    }
}

fn with_aes(n: u8) -> Node {
    let config = SessionConfig {
        aes: true,
        ..SessionConfig::default()
    };
    Node::with(n, Epoch(WALL), vec![NetworkKey::open()], config)
}

#[test]
fn aes_is_used_where_both_sides_have_it_and_nowhere_else() {
    for (first, second, expected) in [
        (true, true, Suite::Aes256Gcm),
        (true, false, Suite::ChaChaPoly),
        (false, true, Suite::ChaChaPoly),
        (false, false, Suite::ChaChaPoly),
    ] {
        let node = |n, aes| if aes { with_aes(n) } else { Node::new(n) };
        let (mut a, mut b) = (node(1, first), node(2, second));
        a.dial(1, &b, 1);
        talk(&mut a, &mut b);
        assert_pair(&a.installs[0].0, &b.installs[0].0);
        assert_eq!((a.installs[0].0.suite, b.installs[0].0.suite), (expected, expected));
        assert!(a.drops.is_empty() && b.drops.is_empty());
    }
}

/// `packet` with another suite and, as whoever knows the network can make it, a MAC that fits.
fn with_suite(packet: &[u8], suite: Suite, to: EntityId, mac1_at: usize) -> Vec<u8> {
    const SUITE_AT: usize = HEADER_LEN + 1;
    let mut changed = packet.to_vec();
    assert_ne!(changed[SUITE_AT], suite as u8);
    changed[SUITE_AT] = suite as u8;
    let mac = MacKeys::new(&NetworkKey::open().mac_key(), &to).mac1(&changed[..mac1_at]);
    changed[mac1_at..mac1_at + mac.len()].copy_from_slice(&mac);
    changed
}

#[test]
fn whoever_lowers_the_suite_on_the_way_is_left_without_a_session() {
    let (mut a, mut b) = (with_aes(1), with_aes(2));
    a.dial(1, &b, 1);
    let offer = a.pop();
    b.take(
        a.address,
        &with_suite(&offer, Suite::ChaChaPoly, b.entity, Initiation::MAC1_AT),
    );
    let lowered = b.pop();
    a.take(b.address, &lowered);
    assert!(a.installs.is_empty(), "the answer to a lowered offer is none to ours");
    assert_eq!(a.dropped(DropReason::NoiseFailure), 1);
    // The genuine answer, lowered; then as it was made.
    b.take(a.address, &offer);
    let answer = b.pop();
    a.take(
        b.address,
        &with_suite(&answer, Suite::ChaChaPoly, a.entity, Response::MAC1_AT),
    );
    assert_eq!((a.dropped(DropReason::NoiseFailure), a.installs.len()), (2, 0));
    a.take(b.address, &answer);
    assert_eq!(a.installs[0].0.suite, Suite::Aes256Gcm, "what is genuine still counts");
}

#[test]
fn an_answer_with_a_suite_that_was_not_offered_is_refused() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    b.take(a.address, &a.pop());
    let answer = b.pop();
    a.take(
        b.address,
        &with_suite(&answer, Suite::Aes256Gcm, a.entity, Response::MAC1_AT),
    );
    a.refused_only(DropReason::UnsupportedSuite);
}

#[test]
fn memory_that_is_stolen_makes_no_ephemeral_that_was_sent() {
    let (mut a, b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 1);
    let offer = a.pop();
    let sent = Initiation::parse(&offer).expect("an offer").noise()[..32].to_vec();
    let lent = {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&a.entropy.to_le_bytes());
        bytes
    };
    let loot = a.shakes.machine().loot(&[lent]);
    assert_eq!(
        loot.len(),
        24,
        "six draws, with and without what was lent, mixed in or not"
    );
    assert!(!loot.iter().any(|made| made[..] == sent[..]));
}

#[test]
fn an_address_that_is_told_later_is_tried_at_once_and_one_that_is_known_changes_nothing() {
    let (mut a, b) = (Node::new(1), Node::new(2));
    a.dial(1, &b, 7);
    a.sent.clear();
    let also = |addresses: &[Addr]| In::Also(AttemptId(1), addresses.to_vec());
    a.tell(also(&[b.address]));
    a.tell(In::Also(AttemptId(9), vec![address(9)]));
    a.wait(Duration::from_millis(1));
    assert!(a.sent.is_empty(), "one is known, the other is of no dial");
    a.tell(also(&[b.address, address(9)]));
    a.wait(Duration::from_millis(1));
    let to: Vec<Addr> = a.sent.drain(..).map(|(to, _)| to).collect();
    assert_eq!(to, [address(9)]);
    let many: Vec<Addr> = (20..60).map(address).collect();
    a.tell(also(&many));
    a.wait(Duration::from_secs(5));
    let reached: BTreeSet<Addr> = a.sent.drain(..).map(|(to, _)| to).collect();
    assert_eq!(reached.len(), MAX_ADDRESSES, "no more are tried than any dial may");
}
