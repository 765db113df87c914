//! The machine that finds nodes, keeps routes to them and notices when a neighbour fails (protocol.md section 6).
//!
//! A neighbour is a peer with a direct session. Neighbours tell each other what they reach, over a reliable stream of
//! their session; every node speaks of itself at intervals, signed, and what it says travels outward along the routes.
//! Invariants: nothing a neighbour said of another node counts before that node's signature was found genuine; the
//! messages of one neighbour take effect in the order they came in; a neighbour that is not heard carries no route.
//! Not here: the table of routes (`routes.rs`), peers to be kept connected (`joins.rs`), packets and streams (`net-session`),
//! relaying.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use net_base::map::Keyed;
use net_base::{
    Addr, Duration, EntityId, Epoch, Fx, Instant, JobId, Machine, NodeId, SessionKey, mutant, reachable, sometimes,
};
use net_trust::TrustTable;
use net_wire::DropReason;
use net_wire::mesh::{Core, Encoded, Health, MAX_HOPS, Message, Pingwave, Version};

use crate::config::MeshConfig;
use crate::job::{Job, JobDone};
use crate::joins::Joins;
use crate::labels::Ground;
use crate::neighbour::{MAX_AHEAD, Neighbour, Proof, Pulse};
use crate::outage::{Around, News, Outage, Outages};
use crate::routes::{Announcement, Change, Check, Collision, Route, Routes};

/// Signatures that are checked at once, of all neighbours.
pub const MAX_CHECKS: usize = 15;
/// Intervals of silence after which a neighbour is suspected.
const SILENT: u64 = 3;
/// Neighbours that are asked whether they hear one that is suspected.
const MAX_ASKED: usize = 3;
/// Questions of ours that may be open; the oldest is forgotten for one more.
const MAX_QUESTIONS: usize = 1_024;
/// A stream takes a message where it takes this much.
const MESSAGE_ROOM: u64 = 256;
/// What a message costs of a stream's credit beyond its bytes.
const CHARGE: u64 = net_wire::MESSAGE_CHARGE;
/// Announcements within [`DAMP`] that one node is nearer or farther; more wait for its end.
const MAX_MEASURED: u32 = 4;
/// The same of announcements without which somebody may have no way.
const MAX_URGENT: u32 = 8;
/// See [`MAX_MEASURED`].
const DAMP: Duration = Duration::from_secs(1);
/// The same request is passed on once within this time.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Requests remembered; the oldest is forgotten for one more.
const MAX_ASKED_FOR: usize = 4_096;
/// We speak at most this often when asked to, or when something changed.
const SPEAK_GAP: Duration = Duration::from_millis(100);
/// A change of load by as many thousandths is said at once, a smaller one with the next pingwave.
const LOAD_NEWS: u16 = 100;
/// What reaching a neighbour costs while no round trip was measured, in microseconds: RFC 9002's first guess. A guess that
/// is too low would be announced, and what is measured would then not be close enough to be used.
const UNMEASURED_US: u32 = 333_000;
/// What a session knows of its peer's liveness. Read by the mesh, written by the lanes.
pub trait Vitals {
    /// When a packet of the peer last authenticated.
    fn heard(&self, session: SessionKey) -> Option<Instant>;
    /// The smoothed round-trip time, once one was measured.
    fn rtt(&self, session: SessionKey) -> Option<Duration>;
}

/// What the mesh reads.
#[derive(Clone, Copy)]
pub struct View<'v> {
    /// Who we are, and in which networks.
    pub trust: &'v TrustTable,
    /// Whom we hear.
    pub vitals: &'v dyn Vitals,
}

/// What the mesh can be told.
#[derive(Debug)]
pub enum In<'b> {
    /// Once, before anything else.
    Boot,
    /// A direct session with a peer is up, and a stream to it for our messages, which takes `room` bytes now.
    LinkUp {
        /// The session.
        session: SessionKey,
        /// Who.
        peer: EntityId,
        /// In which of its boots.
        epoch: Epoch,
        /// Bytes.
        room: u64,
    },
    /// The session ended, or is direct no more.
    LinkDown(SessionKey),
    /// A message of a neighbour.
    Message {
        /// Whose.
        session: SessionKey,
        /// Its bytes.
        bytes: &'b [u8],
    },
    /// The stream to a neighbour takes `bytes` more.
    Writable(SessionKey, u64),
    /// A job ended.
    Worked(JobId, JobDone),
    /// Keep a session with a peer, whatever happens to it: dialled at any of these addresses, again and again.
    Join(EntityId, &'b [Addr]),
    /// A session with the peer is no longer kept, unless it is heard on the segment.
    Leave(EntityId),
    /// A node of the segment was heard: a session with it is kept, whoever else asks for one.
    Found(EntityId, Vec<Addr>),
    /// It is heard no longer.
    Silent(EntityId),
    /// A dial asked for by [`Out::Dial`] ended without a session.
    DialFailed(EntityId),
    /// What to say of ourselves from now on.
    Describe {
        /// How busy we are, in thousandths.
        load: u16,
        /// How well we do.
        health: Health,
    },
}

/// What the mesh decides.
#[derive(Clone, Debug)]
pub enum Out {
    /// Send a message to a neighbour.
    Send(SessionKey, Encoded),
    /// A neighbour's message of this many bytes was worked on: its stream may send as much again.
    Done(SessionKey, u64),
    /// Make a neighbour speak.
    Heartbeat(SessionKey),
    /// A neighbour may have been started anew: agree new keys, which shows it.
    Rekey(SessionKey),
    /// Dial a peer.
    Dial(EntityId, Vec<Addr>),
    /// The way to a node leads over another neighbour than before.
    Rerouted(EntityId),
    /// A neighbour's message was refused.
    Dropped(DropReason),
    /// Something that people and later layers want to know.
    Fact(Fact),
}

/// What became known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {
    /// A node is reached.
    Found {
        /// Which.
        node: EntityId,
        /// How.
        route: Route,
    },
    /// A node is reached no more.
    Lost(EntityId),
    /// A neighbour was silent for three intervals.
    Suspected(EntityId),
    /// A suspected neighbour was heard after all.
    Refuted(EntityId),
    /// A neighbour failed: nobody hears it.
    Failed(EntityId),
    /// The link to a neighbour failed: others hear it, or it does not hear us.
    LinkLost(EntityId),
    /// A neighbour or link that had failed works again.
    Recovered(EntityId),
    /// Many neighbours failed, or many nodes were lost, at about the same time.
    Outage(Outage),
    /// Everybody is back, or forgotten.
    OutageOver(Outage),
    /// Two nodes share a label, and one of them is unroutable from here.
    Collision(Collision),
}

/// What the mesh waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// Our next pingwave.
    Speak,
    /// Heartbeats, and the cost of links.
    Beat,
    /// A neighbour may have been silent for too long.
    Watch,
    /// A route may have outlived its statement.
    Expire,
    /// What was announced too often may be announced again.
    Damp,
    /// A peer that is to be kept is dialled again.
    Join,
}

/// A question whether somebody else hears a neighbour.
#[derive(Clone, Copy, Debug)]
struct Question {
    about: SessionKey,
    asked: Instant,
}

/// How often a node was announced of late.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    measured: u32,
    urgent: u32,
    waits: bool,
}

/// The mesh as one node sees it.
#[derive(Debug)]
pub struct Mesh {
    config: MeshConfig,
    routes: Routes,
    neighbours: BTreeMap<SessionKey, Neighbour>,
    by_peer: BTreeMap<EntityId, SessionKey>,
    joins: Joins,
    core: Core,
    /// Our newest signed words.
    wave: Option<Pingwave>,
    signing: Option<JobId>,
    spoke: Option<Instant>,
    checks: BTreeMap<JobId, SessionKey>,
    questions: BTreeMap<u64, Question>,
    asked: BTreeMap<EntityId, (Version, Instant)>,
    recent: BTreeMap<EntityId, Recent>,
    /// Neighbours count as heard at this time at least: we were not there to hear them.
    excused: Instant,
    beat_due: Instant,
    outages: Outages,
    generation: u64,
}

/// A neighbour, for whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Who.
    pub peer: EntityId,
    /// In which of its boots.
    pub epoch: Epoch,
    /// Over which session.
    pub session: SessionKey,
    /// Whether routes may lead over it.
    pub counts: bool,
    /// What reaching it costs, in microseconds of round trip; 0 while nothing leads over it.
    pub cost_us: u32,
}

/// How a neighbour stands, for whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is heard.
    Alive,
    /// It was silent for three intervals; others are asked.
    Suspected,
    /// It failed, and no route leads over it.
    Failed,
    /// It is heard and does not hear us: no route leads over it.
    Deaf,
}

type MeshFx<'a> = Fx<'a, Mesh>;

impl Mesh {
    /// The mesh of the node `own`, which runs since `epoch`.
    #[must_use]
    pub fn new(config: MeshConfig, own: EntityId, epoch: Epoch) -> Self {
        Self::labelled(config, own, epoch, net_trust::node_id)
    }

    /// The same where labels are made otherwise, so that they can be made to collide.
    #[must_use]
    pub fn labelled(config: MeshConfig, own: EntityId, epoch: Epoch, label_of: fn(&EntityId) -> NodeId) -> Self {
        assert!(config.is_sound(), "checked at boot");
        Self {
            routes: Routes::labelled(own, config.hold(), label_of),
            core: Core {
                origin: own,
                version: Version { epoch, seqno: 0 },
                load: 0,
                health: Health::Good,
                relays: config.relays == Some(true),
                capability_version: 0,
                capability_digest: [0; 32],
            },
            config,
            neighbours: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            joins: Joins::default(),
            wave: None,
            signing: None,
            spoke: None,
            checks: BTreeMap::new(),
            questions: BTreeMap::new(),
            asked: BTreeMap::new(),
            recent: BTreeMap::new(),
            excused: Instant::ZERO,
            beat_due: Instant::ZERO,
            outages: Outages::default(),
            generation: 0,
        }
    }

    /// The routes.
    #[must_use]
    pub const fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The neighbours: who, over which session, and whether routes may lead over it. By session.
    pub fn neighbours(&self) -> impl Iterator<Item = Link> + '_ {
        self.neighbours.iter().map(|(&session, neighbour)| Link {
            peer: neighbour.peer,
            epoch: neighbour.epoch,
            session,
            counts: neighbour.counts(),
            cost_us: self.routes.cost(session),
        })
    }

    /// Whether routes may lead over a neighbour; `None` where the session is none's.
    #[must_use]
    pub fn counts(&self, session: SessionKey) -> Option<bool> {
        Some(self.neighbours.get(&session)?.counts())
    }

    /// How a neighbour stands.
    #[must_use]
    pub fn standing(&self, session: SessionKey) -> Option<Standing> {
        let neighbour = self.neighbours.get(&session)?;
        Some(match neighbour.pulse {
            Pulse::Failed { .. } => Standing::Failed,
            Pulse::Alive | Pulse::Suspected { .. } if !neighbour.hears_us => Standing::Deaf,
            Pulse::Suspected { .. } => Standing::Suspected,
            Pulse::Alive => Standing::Alive,
        })
    }

    /// Over how many hops this node is heard of.
    #[must_use]
    pub const fn radius(&self) -> u8 {
        self.config.radius
    }

    /// Counts changes of what [`Self::routes`] and [`Self::neighbours`] tell.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Who is away for one cause: neighbours that failed and nodes that were lost at about the same time.
    #[must_use]
    pub const fn outages(&self) -> &Outages {
        &self.outages
    }

    /// What we said of ourselves last, once it was signed.
    #[must_use]
    pub fn words(&self) -> Option<&Core> {
        Some(&self.wave.as_ref()?.core)
    }

    /// Whether packets of others are forwarded.
    #[must_use]
    pub const fn relays(&self) -> bool {
        self.core.relays
    }

    /// The nearest `count` nodes that fit, nearest first.
    #[must_use]
    pub fn nearest(&self, count: usize, fits: impl Fn(&Core) -> bool) -> Vec<(EntityId, Route)> {
        let mut found: Vec<(EntityId, Route)> = self
            .routes
            .reached()
            .filter(|(node, _)| self.routes.core(node).is_some_and(&fits))
            .collect();
        found.sort_by_key(|(node, route)| (route.rtt_us, *node));
        found.truncate(count);
        found
    }

    /// The most timers that may be armed.
    pub const MOST_TIMERS: usize = 6;

    fn boot(&mut self, fx: &mut MeshFx<'_>) {
        self.excused = fx.now();
        let secret = [fx.rng().next_u64(), fx.rng().next_u64()];
        self.routes.hide_labels(Keyed::new(secret));
        self.beat_due = fx.now() + self.config.heartbeat;
        fx.arm(Timer::Speak, fx.now());
    }

    fn link_up(
        &mut self,
        (session, peer, epoch): (SessionKey, EntityId, Epoch),
        room: u64,
        view: View<'_>,
        fx: &mut MeshFx<'_>,
    ) {
        self.joins.on_up(&peer);
        self.generation += 1;
        if let Some(old) = self.by_peer.insert(peer, session) {
            self.link_down(old, fx);
            self.by_peer.insert(peer, session);
        }
        if self.neighbours.is_empty() {
            self.beat_due = fx.now() + self.config.heartbeat;
            fx.arm(Timer::Beat, self.beat_due);
        }
        self.neighbours
            .insert(session, Neighbour::new(peer, epoch, room, fx.now()));
        self.back(&peer, true, fx);
        self.routes.claim(fx.now(), &peer, Ground::Linked);
        self.carry(session, view);
        self.follow(fx);
        self.watch(view, fx);
        self.tell(session, fx);
    }

    /// Routes may lead over a neighbour from now on.
    fn carry(&mut self, session: SessionKey, view: View<'_>) {
        let Some(neighbour) = self.neighbours.get_mut(&session) else {
            return;
        };
        self.routes
            .link_up(session, neighbour.peer, cost_us(view.vitals.rtt(session)));
        neighbour.wave_due = true;
        if self.core.relays {
            neighbour.pending = self.routes.known().collect();
        }
    }

    fn link_down(&mut self, session: SessionKey, fx: &mut MeshFx<'_>) {
        let Some(neighbour) = self.neighbours.remove(&session) else {
            return;
        };
        if self.by_peer.get(&neighbour.peer) == Some(&session) {
            self.by_peer.remove(&neighbour.peer);
        }
        self.generation += 1;
        rejoin(self.joins.on_down(fx.now(), &neighbour.peer), fx);
        self.checks.retain(|_, of| *of != session);
        self.questions.retain(|_, question| question.about != session);
        self.routes.link_down(fx.now(), session);
        if !self.by_peer.contains_key(&neighbour.peer) {
            self.routes.release(fx.now(), &neighbour.peer, Ground::Linked);
        }
        if self.neighbours.is_empty() {
            fx.disarm(Timer::Beat);
            fx.disarm(Timer::Watch);
        }
        self.follow(fx);
    }

    fn on_message(&mut self, session: SessionKey, bytes: &[u8], view: View<'_>, fx: &mut MeshFx<'_>) {
        let Some(neighbour) = self.neighbours.get_mut(&session) else {
            return;
        };
        let len = bytes.len() as u64;
        match Message::decode(bytes) {
            Ok(message) => {
                if !neighbour.receive(fx.now(), message, len) {
                    fx.emit(Out::Dropped(DropReason::RateLimited));
                    fx.emit(Out::Done(session, len));
                }
            }
            Err(reason) => {
                fx.emit(Out::Dropped(reason));
                fx.emit(Out::Done(session, len));
            }
        }
        self.work_on(session, view, fx);
    }

    /// Works on what a neighbour told, as far as signatures are known to be genuine.
    fn work_on(&mut self, session: SessionKey, view: View<'_>, fx: &mut MeshFx<'_>) {
        self.look_ahead(session, view, fx);
        loop {
            let Some(neighbour) = self.neighbours.get_mut(&session) else {
                return;
            };
            let Some(letter) = neighbour.inbox.front().copied() else {
                return;
            };
            if let Message::Pingwave(wave) = &letter.message {
                match (letter.proof, self.routes.check(fx.now(), session, wave)) {
                    (Proof::Asked(_), _) => return,
                    (Proof::Open, Check::Unproved) => return,
                    (Proof::Open | Proof::Found(_), _) => {}
                }
            }
            neighbour.inbox.pop_front();
            fx.emit(Out::Done(session, letter.len));
            self.take(session, letter.message, letter.proof, view, fx);
            self.follow(fx);
            self.look_ahead(session, view, fx);
        }
    }

    /// Has the signatures checked that will be needed next.
    fn look_ahead(&mut self, session: SessionKey, view: View<'_>, fx: &mut MeshFx<'_>) {
        let Some(neighbour) = self.neighbours.get_mut(&session) else {
            return;
        };
        for letter in neighbour.inbox.iter_mut().take(MAX_AHEAD) {
            let Message::Pingwave(wave) = &letter.message else {
                continue;
            };
            if self.checks.len() >= MAX_CHECKS {
                return;
            }
            if letter.proof == Proof::Open && self.routes.check(fx.now(), session, wave) == Check::Unproved {
                let networks = view.trust.networks().iter().map(net_trust::NetworkKey::fingerprint);
                let job = fx.job(Job::verify(wave.core, wave.signature, networks.collect()));
                letter.proof = Proof::Asked(job);
                self.checks.insert(job, session);
            }
        }
    }

    fn take(&mut self, session: SessionKey, message: Message, proof: Proof, view: View<'_>, fx: &mut MeshFx<'_>) {
        match message {
            Message::Pingwave(wave) => self.on_pingwave(session, &wave, proof, fx),
            Message::Withdraw { origin, .. } => self.routes.on_withdraw(fx.now(), session, &origin),
            Message::Request { origin, version, ttl } => self.on_request(session, origin, version, ttl, view, fx),
            Message::Probe { target, token } => {
                let heard = self.hears(&target, view, fx.now());
                self.errand(session, Message::Probed { token, heard }, fx);
            }
            Message::Probed { token, heard } => self.on_probed(session, token, heard),
            Message::Heard(heard) => self.on_heard_word(session, heard, view, fx),
        }
    }

    fn on_pingwave(&mut self, session: SessionKey, wave: &Pingwave, proof: Proof, fx: &mut MeshFx<'_>) {
        // Looked at again: what was known when the check was asked for may be older than what is known now.
        let refused = match (self.routes.check(fx.now(), session, wave), proof) {
            (Check::Known, _) | (Check::Unproved, Proof::Found(true)) => None,
            (Check::Unproved, _) => {
                if mutant!(RememberedUnproved) {
                    self.routes.on_pingwave(fx.now(), session, wave);
                    self.routes.on_withdraw(fx.now(), session, &wave.core.origin);
                }
                Some(DropReason::BadSignature)
            }
            // Our own words come back over every circle: no fault of anybody.
            (Check::Own, _) => return,
            (Check::Stale, _) => Some(DropReason::StaleStatement),
            (Check::Full, _) => Some(DropReason::Overloaded),
        };
        match refused {
            None => self.routes.on_pingwave(fx.now(), session, wave),
            Some(reason) => fx.emit(Out::Dropped(reason)),
        }
    }

    fn on_worked(&mut self, id: JobId, done: JobDone, view: View<'_>, fx: &mut MeshFx<'_>) {
        match done {
            JobDone::Signed(core, signature) => {
                if self.signing != Some(id) {
                    return;
                }
                self.signing = None;
                self.generation += 1;
                self.wave = Some(Pingwave {
                    core,
                    signature,
                    hops: 0,
                    ttl: self.config.radius - 1,
                    rtt_us: 0,
                });
                let sessions: Vec<SessionKey> = self.neighbours.keys().copied().collect();
                for session in sessions {
                    if let Some(neighbour) = self.neighbours.get_mut(&session) {
                        neighbour.wave_due = true;
                    }
                    self.tell(session, fx);
                }
            }
            JobDone::Verified(genuine) => {
                let Some(session) = self.checks.remove(&id) else { return };
                let Some(neighbour) = self.neighbours.get_mut(&session) else {
                    return;
                };
                if let Some(letter) = neighbour
                    .inbox
                    .iter_mut()
                    .find(|letter| letter.proof == Proof::Asked(id))
                {
                    letter.proof = Proof::Found(genuine);
                }
                self.work_on(session, view, fx);
                // Another neighbour may have waited for a check to come free.
                if self.checks.len() + 1 == MAX_CHECKS {
                    let sessions: Vec<SessionKey> = self.neighbours.keys().copied().collect();
                    for session in sessions {
                        self.work_on(session, view, fx);
                    }
                }
            }
        }
    }

    /// Carries out what changes of the table lead to.
    fn follow(&mut self, fx: &mut MeshFx<'_>) {
        let changes = self.routes.take_changes();
        if changes.is_empty() {
            return;
        }
        self.generation += 1;
        for change in changes {
            match change {
                Change::Found(node) => {
                    self.back(&node, false, fx);
                    if let Some(route) = self.routes.route(&node) {
                        fx.emit(Out::Fact(Fact::Found { node, route }));
                    }
                }
                Change::Lost(node) => {
                    reachable!(*fx, RouteLost);
                    fx.emit(Out::Fact(Fact::Lost(node)));
                }
                Change::Rerouted(node) => fx.emit(Out::Rerouted(node)),
                Change::Announce(node) => self.announce(node, true, fx),
                Change::Measured(node) => self.announce(node, false, fx),
                Change::Gone(node, over) => self.gone(node, Some(over), fx),
                Change::Starved(node, version) => {
                    reachable!(*fx, RouteStarved);
                    self.ask(None, node, version, MAX_HOPS, fx);
                }
                Change::Collided(collision) => {
                    reachable!(*fx, LabelShared);
                    fx.emit(Out::Fact(Fact::Collision(collision)));
                }
            }
        }
        if let Some(at) = self.routes.next_expiry() {
            fx.arm(Timer::Expire, at);
        }
        let sessions: Vec<SessionKey> = self.neighbours.keys().copied().collect();
        for session in sessions {
            self.tell(session, fx);
        }
    }

    /// Every neighbour is to hear of a node; of one that keeps changing only now and then. That it is lost is never held
    /// back.
    fn announce(&mut self, node: EntityId, urgent: bool, fx: &mut MeshFx<'_>) {
        if !self.core.relays {
            // Whoever forwards nothing is on nobody's way.
            return;
        }
        if self.recent.is_empty() {
            fx.arm(Timer::Damp, fx.now() + DAMP);
        }
        let recent = self.recent.entry(node).or_default();
        let (count, most) = if urgent {
            (&mut recent.urgent, MAX_URGENT)
        } else {
            (&mut recent.measured, MAX_MEASURED)
        };
        *count += 1;
        if *count > most && self.routes.route(&node).is_some() {
            reachable!(*fx, AnnouncementDamped);
            recent.waits = true;
            return;
        }
        for neighbour in self.neighbours.values_mut() {
            neighbour.pending.insert(node);
        }
    }

    /// Sends a neighbour what its stream takes.
    fn tell(&mut self, session: SessionKey, fx: &mut MeshFx<'_>) {
        let Some(neighbour) = self.neighbours.get_mut(&session) else {
            return;
        };
        while neighbour.room >= MESSAGE_ROOM {
            let message = match neighbour.next_errand(self.wave.as_ref()) {
                Some(message) => Some(message),
                None => loop {
                    let Some(node) = neighbour.pending.pop_first() else {
                        break None;
                    };
                    match self.routes.announcement(&node, session) {
                        Some(Announcement::Reached(wave)) => break Some(Message::Pingwave(wave)),
                        Some(Announcement::Withdrawn(version)) => {
                            break Some(Message::Withdraw { origin: node, version });
                        }
                        None => {}
                    }
                },
            };
            let Some(message) = message else { return };
            let encoded = message.encode();
            neighbour.room = neighbour.room.saturating_sub(encoded.bytes().len() as u64 + CHARGE);
            fx.emit(Out::Send(session, encoded));
        }
        sometimes!(*fx, NeighbourSlow, !neighbour.pending.is_empty());
    }

    fn errand(&mut self, session: SessionKey, message: Message, fx: &mut MeshFx<'_>) {
        if let Some(neighbour) = self.neighbours.get_mut(&session) {
            neighbour.errand(message);
            self.tell(session, fx);
        }
    }

    /// Somebody wants newer words of a node.
    fn on_request(
        &mut self,
        from: SessionKey,
        origin: EntityId,
        version: Version,
        ttl: u8,
        view: View<'_>,
        fx: &mut MeshFx<'_>,
    ) {
        if origin == self.core.origin {
            let newer = version.epoch == self.core.version.epoch && version.seqno > self.core.version.seqno;
            if newer && !mutant!(AskedInVain) {
                reachable!(*fx, SpokeWhenAsked);
                if self.free_to_speak(fx) {
                    self.speak(view, fx);
                }
            }
            return;
        }
        let known = self.routes.route(&origin).is_some_and(|route| route.version >= version);
        if known && self.core.relays {
            if let Some(neighbour) = self.neighbours.get_mut(&from) {
                neighbour.pending.insert(origin);
            }
            return self.tell(from, fx);
        }
        // Whoever asks may be our way there, and has none: then another neighbour may know one.
        if ttl > 0
            && let Some(via) = self.routes.towards(&origin, from)
        {
            self.ask(Some(via), origin, version, ttl - 1, fx);
        }
    }

    /// Asks for newer words of a node: one neighbour, or all that offer a way.
    fn ask(&mut self, only: Option<SessionKey>, origin: EntityId, version: Version, ttl: u8, fx: &mut MeshFx<'_>) {
        let now = fx.now();
        match self.asked.get(&origin) {
            Some(&(asked, at)) if asked >= version && now < at + ASK_AGAIN => return,
            Some(_) | None => {}
        }
        if self.asked.len() == MAX_ASKED_FOR {
            self.asked.retain(|_, (_, at)| now < *at + ASK_AGAIN);
        }
        if self.asked.len() < MAX_ASKED_FOR {
            self.asked.insert(origin, (version, now));
        }
        let sessions: Vec<SessionKey> = match only {
            Some(session) => alloc::vec![session],
            None => self
                .neighbours
                .iter()
                .filter(|(_, neighbour)| neighbour.counts())
                .map(|(&session, _)| session)
                .collect(),
        };
        for session in sessions {
            self.errand(session, Message::Request { origin, version, ttl }, fx);
        }
    }

    /// Whether we may speak already; if not, we do as soon as we may.
    fn free_to_speak(&self, fx: &mut MeshFx<'_>) -> bool {
        let free = self.spoke.map_or(fx.now(), |spoke| spoke + SPEAK_GAP);
        if free > fx.now() {
            fx.arm(Timer::Speak, free);
        }
        free <= fx.now()
    }

    /// Says something of ourselves that was not said before.
    fn speak(&mut self, view: View<'_>, fx: &mut MeshFx<'_>) {
        self.core.version = self.core.version.next();
        self.spoke = Some(fx.now());
        let network = view.trust.networks()[0].fingerprint();
        self.signing = Some(fx.job(Job::sign(view.trust.identity(), network, self.core)));
        // A tenth earlier or later, so that nodes that boot together do not go on speaking together.
        let tenth = (self.config.pingwave / 10).as_nanos();
        let jitter = Duration::from_nanos(fx.rng().below(2 * tenth + 1));
        fx.arm(
            Timer::Speak,
            fx.now() + self.config.pingwave.saturating_sub(Duration::from_nanos(tenth)) + jitter,
        );
    }

    /// What we say of ourselves from now on; at once where others would act on it.
    fn describe(&mut self, load: u16, health: Health, fx: &mut MeshFx<'_>) {
        let news = health != self.core.health || load.abs_diff(self.core.load) >= LOAD_NEWS;
        self.core.load = load;
        self.core.health = health;
        if news && self.free_to_speak(fx) {
            fx.arm(Timer::Speak, fx.now());
        }
    }

    fn heard(&self, session: SessionKey, view: View<'_>) -> Instant {
        view.vitals
            .heard(session)
            .map_or(self.excused, |heard| heard.max(self.excused))
    }

    /// Whether a neighbour of ours is heard now.
    fn hears(&self, peer: &EntityId, view: View<'_>, now: Instant) -> bool {
        self.by_peer.get(peer).is_some_and(|&session| {
            let alive = self.neighbours.get(&session).is_some_and(Neighbour::counts);
            alive && now.since(self.heard(session, view)) < self.config.heartbeat * 2
        })
    }

    /// Time for heartbeats. A node that comes late to it was not there to hear anybody, and suspects nobody for that
    /// (Lifeguard, section 3.1 of the paper).
    fn beat(&mut self, view: View<'_>, fx: &mut MeshFx<'_>) {
        let (now, interval) = (fx.now(), self.config.heartbeat);
        if now >= self.beat_due + interval && !mutant!(AbsenceUnexcused) {
            reachable!(*fx, BeatLate);
            self.excused = self.excused.max(now - interval);
        }
        self.beat_due = now + interval;
        fx.arm(Timer::Beat, self.beat_due);
        let sessions: Vec<SessionKey> = self.neighbours.keys().copied().collect();
        for session in sessions {
            let silent = now.since(view.vitals.heard(session).unwrap_or(Instant::ZERO));
            if silent >= interval / 2 {
                fx.emit(Out::Heartbeat(session));
            }
            if let Some(rtt) = view.vitals.rtt(session)
                && self.routes.has_link(session)
            {
                self.routes.link_cost(now, session, cost_us(Some(rtt)));
            }
        }
        let over = self.outages.forget(now);
        tell_outage(over, fx);
        self.watch(view, fx);
        self.follow(fx);
    }

    /// Looks who was silent for too long, and when to look again.
    fn watch(&mut self, view: View<'_>, fx: &mut MeshFx<'_>) {
        let sessions: Vec<SessionKey> = self.neighbours.keys().copied().collect();
        let mut next: Option<Instant> = None;
        for session in sessions {
            let at = self.examine(session, view, fx);
            if let Some(at) = at {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        match next {
            Some(at) => fx.arm(Timer::Watch, at),
            None => fx.disarm(Timer::Watch),
        }
    }

    /// Judges one neighbour. Answers when to look again.
    fn examine(&mut self, session: SessionKey, view: View<'_>, fx: &mut MeshFx<'_>) -> Option<Instant> {
        let (now, interval) = (fx.now(), self.config.heartbeat);
        let heard = self.heard(session, view);
        let rtt = view.vitals.rtt(session).unwrap_or_default();
        let neighbour = self.neighbours.get_mut(&session)?;
        let peer = neighbour.peer;
        match neighbour.pulse {
            Pulse::Alive => {
                let suspect = heard + interval * SILENT;
                if now < suspect {
                    return Some(suspect);
                }
                let until = now + interval.max(rtt * 4);
                neighbour.pulse = Pulse::Suspected {
                    since: now,
                    until,
                    witnessed: false,
                };
                fx.emit(Out::Fact(Fact::Suspected(peer)));
                fx.emit(Out::Rekey(session));
                if !mutant!(SuspectedUnasked) {
                    self.question(session, peer, fx);
                }
                Some(until)
            }
            Pulse::Suspected {
                since,
                until,
                witnessed,
            } => {
                if heard > since {
                    neighbour.pulse = Pulse::Alive;
                    fx.emit(Out::Fact(Fact::Refuted(peer)));
                    return Some(heard + interval * SILENT);
                }
                if now < until {
                    return Some(until);
                }
                self.fail(session, witnessed, fx);
                None
            }
            Pulse::Failed { since, until } => {
                if heard <= since || now < until {
                    // What is heard is looked at with every heartbeat.
                    return None;
                }
                neighbour.pulse = Pulse::Alive;
                self.generation += 1;
                neighbour.errand(Message::Heard(true));
                if neighbour.hears_us {
                    fx.emit(Out::Fact(Fact::Recovered(peer)));
                    self.carry(session, view);
                    self.back(&peer, true, fx);
                }
                self.tell(session, fx);
                Some(heard + interval * SILENT)
            }
        }
    }

    /// Asks neighbours that reach a suspected one in one hop whether they hear it.
    fn question(&mut self, about: SessionKey, peer: EntityId, fx: &mut MeshFx<'_>) {
        let common: Vec<SessionKey> = self
            .routes
            .neighbours_of(&peer)
            .map(|(session, _)| session)
            .filter(|&session| session != about)
            .take(MAX_ASKED)
            .collect();
        sometimes!(*fx, SuspicionShared, !common.is_empty());
        for session in common {
            let token = fx.rng().next_u64();
            if self.questions.len() == MAX_QUESTIONS {
                let oldest = self.questions.iter().min_by_key(|(_, question)| question.asked);
                if let Some(oldest) = oldest.map(|(&token, _)| token) {
                    self.questions.remove(&oldest);
                }
            }
            let asked = fx.now();
            self.questions.insert(token, Question { about, asked });
            self.errand(session, Message::Probe { target: peer, token }, fx);
        }
    }

    /// Somebody answered whether it hears a neighbour. A hint: it decides what is said, not whether the link counts.
    fn on_probed(&mut self, _from: SessionKey, token: u64, heard: bool) {
        let Some(question) = self.questions.remove(&token) else {
            return;
        };
        if let Some(neighbour) = self.neighbours.get_mut(&question.about)
            && let Pulse::Suspected { witnessed, .. } = &mut neighbour.pulse
        {
            *witnessed |= heard;
        }
    }

    /// A neighbour says whether it hears us: over a link that carries one way nothing may be sent.
    fn on_heard_word(&mut self, session: SessionKey, heard: bool, view: View<'_>, fx: &mut MeshFx<'_>) {
        let now = fx.now();
        let Some(neighbour) = self.neighbours.get_mut(&session) else {
            return;
        };
        let counted = neighbour.counts();
        neighbour.hears_us = heard;
        self.generation += 1;
        let peer = neighbour.peer;
        match (counted, neighbour.counts()) {
            (true, false) => {
                reachable!(*fx, LinkOneWay);
                fx.emit(Out::Fact(Fact::LinkLost(peer)));
                self.routes.link_down(now, session);
                self.gone(peer, None, fx);
            }
            (false, true) => {
                fx.emit(Out::Fact(Fact::Recovered(peer)));
                self.carry(session, view);
                self.back(&peer, true, fx);
                self.tell(session, fx);
            }
            (true, true) | (false, false) => {}
        }
    }

    fn fail(&mut self, session: SessionKey, witnessed: bool, fx: &mut MeshFx<'_>) {
        let now = fx.now();
        let Some(neighbour) = self.neighbours.get_mut(&session) else {
            return;
        };
        let peer = neighbour.peer;
        let penalty = neighbour.penalty(self.config.heartbeat);
        neighbour.failures = neighbour.failures.saturating_add(1);
        neighbour.pulse = Pulse::Failed {
            since: now,
            until: now + penalty,
        };
        if !mutant!(DeafUnsaid) {
            neighbour.errand(Message::Heard(false));
        }
        self.generation += 1;
        self.routes.link_down(now, session);
        let fact = if witnessed {
            reachable!(*fx, SuspicionWitnessed);
            Fact::LinkLost(peer)
        } else {
            Fact::Failed(peer)
        };
        fx.emit(Out::Fact(fact));
        self.gone(peer, None, fx);
        self.follow(fx);
        self.tell(session, fx);
    }

    fn around(&self) -> Around {
        Around {
            counting: self.neighbours.values().filter(|neighbour| neighbour.counts()).count(),
            neighbours: self.neighbours.len(),
            reached: self.routes.reached_count(),
        }
    }

    /// Somebody went: a neighbour that failed, or a node that was reached over one. Perhaps many did together.
    fn gone(&mut self, node: EntityId, over: Option<EntityId>, fx: &mut MeshFx<'_>) {
        let around = self.around();
        let news = self.outages.gone(fx.now(), node, over, around);
        tell_outage(news, fx);
    }

    /// Somebody is back.
    fn back(&mut self, node: &EntityId, as_neighbour: bool, fx: &mut MeshFx<'_>) {
        let around = self.around();
        let news = self.outages.back(node, as_neighbour, around);
        tell_outage(news, fx);
    }

    fn end_damping(&mut self, fx: &mut MeshFx<'_>) {
        let recent = core::mem::take(&mut self.recent);
        for (node, _) in recent.into_iter().filter(|(_, recent)| recent.waits) {
            for neighbour in self.neighbours.values_mut() {
                neighbour.pending.insert(node);
            }
        }
        let sessions: Vec<SessionKey> = self.neighbours.keys().copied().collect();
        for session in sessions {
            self.tell(session, fx);
        }
    }
}

impl Machine for Mesh {
    const NAME: &'static str = "mesh";
    type In<'b> = In<'b>;
    type Out = Out;
    type Timer = Timer;
    type Job = Job;
    type View<'v> = View<'v>;

    fn handle(&mut self, input: In<'_>, view: View<'_>, fx: &mut MeshFx<'_>) {
        match input {
            In::Boot => self.boot(fx),
            In::LinkUp {
                session,
                peer,
                epoch,
                room,
            } => self.link_up((session, peer, epoch), room, view, fx),
            In::LinkDown(session) => self.link_down(session, fx),
            In::Message { session, bytes } => self.on_message(session, bytes, view, fx),
            In::Writable(session, bytes) => {
                if let Some(neighbour) = self.neighbours.get_mut(&session) {
                    neighbour.room = neighbour.room.saturating_add(bytes);
                    self.tell(session, fx);
                }
            }
            In::Worked(id, done) => self.on_worked(id, done, view, fx),
            In::Join(peer, addresses) => {
                let live = self.by_peer.contains_key(&peer);
                let at = self.joins.add(fx.now(), peer, addresses, live);
                rejoin(at, fx);
                if self.joins.keeps(&peer) {
                    self.routes.claim(fx.now(), &peer, Ground::Configured);
                    self.follow(fx);
                }
            }
            In::Leave(peer) => {
                self.joins.remove(&peer);
                self.routes.release(fx.now(), &peer, Ground::Configured);
                self.follow(fx);
            }
            In::Found(peer, addresses) => {
                let live = self.by_peer.contains_key(&peer);
                let at = self.joins.found(fx.now(), peer, addresses, live);
                rejoin(at, fx);
            }
            In::Silent(peer) => self.joins.silent(&peer),
            In::DialFailed(peer) => {
                let jitter = fx.rng().below(1_000);
                let at = self.joins.on_failed(fx.now(), &peer, jitter);
                rejoin(at, fx);
            }
            In::Describe { load, health } => self.describe(load.min(1_000), health, fx),
        }
    }

    fn fire(&mut self, timer: Timer, view: View<'_>, fx: &mut MeshFx<'_>) {
        match timer {
            Timer::Speak => self.speak(view, fx),
            Timer::Beat => self.beat(view, fx),
            Timer::Watch => {
                self.watch(view, fx);
                self.follow(fx);
            }
            Timer::Expire => {
                self.routes.expire(fx.now());
                if let Some(at) = self.routes.next_expiry() {
                    fx.arm(Timer::Expire, at);
                }
                self.follow(fx);
            }
            Timer::Damp => self.end_damping(fx),
            Timer::Join => {
                for (peer, addresses) in self.joins.take_due(fx.now()) {
                    fx.emit(Out::Dial(peer, addresses));
                }
                let at = self.joins.next();
                rejoin(at, fx);
            }
        }
    }

    fn check(&self) {
        self.routes.check_invariants();
        self.outages.check();
        assert!(self.checks.len() <= MAX_CHECKS);
        assert!(self.questions.len() <= MAX_QUESTIONS);
        assert!(self.asked.len() <= MAX_ASKED_FOR);
        assert_eq!(self.by_peer.len(), self.neighbours.len(), "a peer is a neighbour once");
        for (session, neighbour) in &self.neighbours {
            assert_eq!(self.by_peer.get(&neighbour.peer), Some(session));
            assert_eq!(
                self.routes.has_link(*session),
                neighbour.counts(),
                "routes lead over neighbours that are heard and hear us, and no others"
            );
        }
    }
}

fn tell_outage(news: Option<News>, fx: &mut MeshFx<'_>) {
    match news {
        None => {}
        Some(News::Began(outage)) => {
            reachable!(*fx, OutageSeen);
            fx.emit(Out::Fact(Fact::Outage(outage)));
        }
        Some(News::Over(outage)) => fx.emit(Out::Fact(Fact::OutageOver(outage))),
    }
}

/// Dials again when the next peer to be kept is due.
fn rejoin(at: Option<Instant>, fx: &mut MeshFx<'_>) {
    if let Some(at) = at {
        fx.arm(Timer::Join, at);
    }
}

/// What reaching a neighbour costs, in microseconds.
fn cost_us(rtt: Option<Duration>) -> u32 {
    rtt.map_or(UNMEASURED_US, |rtt| {
        u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1)
    })
}
