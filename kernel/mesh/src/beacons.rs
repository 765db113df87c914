//! The machine that makes itself known to its segment of the network, and finds whoever else does (protocol.md section 8a).
//!
//! Invariants: what is heard counts only where it was sealed under a network key of ours and is newer than what was heard of
//! its maker before; an address is dialled only where it is local or was said inside a closed network; tables, answers and
//! findings are bounded whatever is heard.
//! Not here: sealing (`net-trust`), layouts (`net-wire`), keeping sessions with whom was found (`joins.rs`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use net_base::{Addr, Duration, EntityId, Epoch, Fx, Instant, Machine, mutant, reachable, sometimes};
use net_trust::{BeaconKeys, TrustTable};
use net_wire::DropReason;
use net_wire::beacon::{BEACON_LEN, Beacon, MAX_SAID, Sealed};
use net_wire::mesh::Version;

/// Nodes remembered; for one more, the one that was not heard for longest is forgotten.
pub const MAX_HEARD: usize = 1_024;
/// The pause after the first beacon; every later one is twice as long, up to [`LONGEST`]. Most nodes of a segment start while
/// others run: the first answers come within a few of these.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause: whoever missed every beacon of a start is found this much later.
const LONGEST: Duration = Duration::from_secs(30);
/// The first beacon leaves within this time, so that nodes that were switched on together do not speak at once.
const START_SPREAD: Duration = Duration::from_millis(20);
/// An answer leaves after this time and at most once more: one answer serves many who speak together.
const ANSWER_DELAY: Duration = Duration::from_millis(20);
/// Answers that may leave without a pause.
const ANSWERS: u64 = 8;
/// After how long one more may.
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// Nodes not heard before that may be found without a pause.
const FINDINGS: u64 = 64;
/// After how long one more may: finding one costs a dial.
const FINDING_EVERY: Duration = Duration::from_millis(50);
/// A node that goes on speaking is told of again at most this often.
const AGAIN: Duration = Duration::from_secs(1);
/// A node not heard for so long is forgotten: it missed ten beacons.
const FORGET: Duration = Duration::from_secs(300);
/// Epochs further ahead of our clock than this are not believed (protocol.md section 3).
const MAX_CLOCK_LEAD: Duration = Duration::from_secs(24 * 3_600);

/// The segment of the network on which nodes speak to all that listen (docs/protocol.md section 8a). A kernel that was booted
/// without a mesh ignores all of it, and one that was told of no [`Segment::Joined`] neither speaks nor listens.
#[derive(Clone, Copy, Debug)]
pub enum Segment<'b> {
    /// What [`Out::Speak`] is given is spoken to the segment from now on, and what is spoken there is heard. Told again when
    /// the node is reached elsewhere.
    Joined {
        /// The port that the node is reached at; not 0.
        port: u16,
        /// Where it is reached, as far as that is known; the first four are said. Where there is any, others dial these
        /// alone; where there is none, they dial the source of the datagram.
        addresses: &'b [Addr],
    },
    /// The segment is neither spoken to nor heard any more.
    Left,
    /// Somebody spoke to the segment, perhaps this node itself.
    Heard {
        /// Where the datagram came from.
        from: Addr,
        /// The datagram.
        bytes: &'b [u8],
    },
}

/// What the machine decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    /// Speak to the segment.
    Speak([u8; BEACON_LEN]),
    /// A node was found, or still is there.
    Found(EntityId, Vec<Addr>),
    /// A node that was found is not heard any more.
    Silent(EntityId),
    /// What was heard was refused.
    Dropped(DropReason),
}

/// What the machine waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// The next beacon of the schedule.
    Speak,
    /// A newcomer is answered.
    Answer,
    /// Somebody may have been silent for too long.
    Forget,
}

/// Leave to do something, given back with time.
#[derive(Debug)]
struct Allowance {
    most: u64,
    every: Duration,
    left: u64,
    /// Up to when leave was given back.
    since: Instant,
}

impl Allowance {
    const fn new(most: u64, every: Duration) -> Self {
        Self {
            most,
            every,
            left: most,
            since: Instant::ZERO,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let back = now.since(self.since).as_nanos() / self.every.as_nanos();
        if self.left + back >= self.most {
            (self.left, self.since) = (self.most, now);
        } else {
            self.left += back;
            self.since = self.since + self.every * back;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

/// A node that was heard.
#[derive(Clone, Copy, Debug)]
struct Known {
    version: Version,
    heard: Instant,
    /// When it was told of last.
    told: Instant,
}

/// Where we are reached.
#[derive(Debug)]
struct Here {
    port: u16,
    addresses: Vec<Addr>,
}

/// Beacons, ours and those of others.
#[derive(Debug)]
pub struct Beacons {
    own: EntityId,
    /// Of each network that is accepted.
    keys: Vec<BeaconKeys>,
    version: Version,
    here: Option<Here>,
    pause: Duration,
    known: BTreeMap<EntityId, Known>,
    /// An answer is about to leave.
    answering: bool,
    answers: Allowance,
    findings: Allowance,
    generation: u64,
}

type BeaconFx<'a> = Fx<'a, Beacons>;

impl Beacons {
    /// The most timers that may be armed.
    pub const MOST_TIMERS: usize = 3;

    /// The beacons of the node that `trust` is of.
    #[must_use]
    pub fn new(trust: &TrustTable) -> Self {
        Self {
            own: trust.identity().entity(),
            keys: trust
                .networks()
                .iter()
                .map(net_trust::NetworkKey::beacon_keys)
                .collect(),
            version: Version {
                epoch: trust.epoch(),
                seqno: 0,
            },
            here: None,
            pause: FIRST,
            known: BTreeMap::new(),
            answering: false,
            answers: Allowance::new(ANSWERS, ANSWER_EVERY),
            findings: Allowance::new(FINDINGS, FINDING_EVERY),
            generation: 0,
        }
    }

    /// Which beacon of ours was spoken last.
    #[must_use]
    pub const fn spoken(&self) -> Version {
        self.version
    }

    /// Who was heard, and which of their beacons last.
    pub fn heard(&self) -> impl Iterator<Item = (EntityId, Version)> + '_ {
        self.known.iter().map(|(peer, known)| (*peer, known.version))
    }

    /// Counts changes of what [`Self::spoken`] and [`Self::heard`] tell.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    fn joined(&mut self, port: u16, addresses: &[Addr], fx: &mut BeaconFx<'_>) {
        let addresses = addresses.iter().take(MAX_SAID).copied().collect();
        self.here = Some(Here { port, addresses });
        self.pause = FIRST;
        let spread = fx.rng().below(START_SPREAD.as_nanos());
        fx.arm(Timer::Speak, fx.now() + Duration::from_nanos(spread));
    }

    fn left(&mut self, fx: &mut BeaconFx<'_>) {
        self.here = None;
        self.answering = false;
        fx.disarm(Timer::Speak);
        fx.disarm(Timer::Answer);
    }

    /// Says where we are, to each network in its own words.
    fn speak(&mut self, fx: &mut BeaconFx<'_>) {
        let Some(here) = &self.here else { return };
        self.version = self.version.next();
        self.generation += 1;
        let beacon = Beacon {
            entity: self.own,
            version: self.version,
            port: here.port,
            addresses: here.addresses.clone(),
        };
        for keys in &self.keys {
            fx.emit(Out::Speak(keys.seal(&beacon)));
        }
    }

    fn hear(&mut self, from: Addr, bytes: &[u8], trust: &TrustTable, fx: &mut BeaconFx<'_>) -> Result<(), DropReason> {
        if self.here.is_none() {
            return Ok(());
        }
        let (beacon, closed) = self.open(bytes)?;
        if beacon.entity == self.own {
            // A segment is heard by all on it.
            return Ok(());
        }
        if !trust.admits(&beacon.entity) {
            return Err(DropReason::NotAllowed);
        }
        let latest = fx.wall().0.saturating_add(MAX_CLOCK_LEAD.as_nanos());
        if beacon.version.epoch.0 > latest {
            return Err(DropReason::EpochTooFar);
        }
        let floor = trust.floor(&beacon.entity).map_or(Epoch(0), |(epoch, _)| epoch);
        let known = self.known.get(&beacon.entity).copied();
        if let Some(known) = known
            && known.version == beacon.version
        {
            // It came over another interface as well, or was doubled on its way.
            return Ok(());
        }
        let stale = beacon.version.epoch < floor || known.is_some_and(|known| beacon.version < known.version);
        if stale && !mutant!(BeaconStaleTaken) {
            reachable!(*fx, BeaconStale);
            return Err(DropReason::StaleStatement);
        }
        self.take(from, &beacon, closed, known, fx)
    }

    /// A beacon is good and says something new.
    fn take(
        &mut self,
        from: Addr,
        beacon: &Beacon,
        closed: bool,
        known: Option<Known>,
        fx: &mut BeaconFx<'_>,
    ) -> Result<(), DropReason> {
        let now = fx.now();
        let version = beacon.version;
        let fresh = known.is_none_or(|known| known.version.epoch < version.epoch);
        let due = known.is_none_or(|known| now.since(known.told) >= AGAIN);
        let addresses = dialled(from, beacon, closed, fx);
        if known.is_none() {
            if !self.findings.take(now) {
                return Err(DropReason::RateLimited);
            }
            self.make_room(fx);
        }
        self.generation += 1;
        let told = known.filter(|_| !due).map_or(now, |known| known.told);
        self.known.insert(
            beacon.entity,
            Known {
                version,
                heard: now,
                told,
            },
        );
        if self.known.len() == 1 {
            self.await_silence(fx);
        }
        if due && !addresses.is_empty() {
            fx.emit(Out::Found(beacon.entity, addresses));
        }
        if fresh && !self.answering && self.answers.take(now) {
            reachable!(*fx, BeaconAnswered);
            self.answering = true;
            let spread = fx.rng().below(ANSWER_DELAY.as_nanos());
            fx.arm(Timer::Answer, now + ANSWER_DELAY + Duration::from_nanos(spread));
        }
        Ok(())
    }

    /// Opens a beacon under the first key that fits; answers whether that is one of a closed network.
    fn open(&self, bytes: &[u8]) -> Result<(Beacon, bool), DropReason> {
        let sealed = Sealed::parse(bytes)?;
        let mut refused = DropReason::BadMac;
        for keys in &self.keys {
            match keys.open(&sealed) {
                Ok(beacon) => return Ok((beacon, !keys.is_open())),
                Err(DropReason::BadMac) => {}
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }

    fn make_room(&mut self, fx: &mut BeaconFx<'_>) {
        if self.known.len() < MAX_HEARD {
            return;
        }
        let longest = self.known.iter().min_by_key(|(_, known)| known.heard);
        if let Some(peer) = longest.map(|(peer, _)| *peer) {
            self.known.remove(&peer);
            fx.emit(Out::Silent(peer));
        }
    }

    /// Waits for the first of those known to have been silent for too long.
    fn await_silence(&self, fx: &mut BeaconFx<'_>) {
        match self.known.values().map(|known| known.heard).min() {
            Some(heard) => fx.arm(Timer::Forget, heard + FORGET),
            None => fx.disarm(Timer::Forget),
        }
    }

    fn forget(&mut self, fx: &mut BeaconFx<'_>) {
        let now = fx.now();
        self.known.retain(|peer, known| {
            let silent = now.since(known.heard) >= FORGET;
            if silent {
                reachable!(*fx, PeerSilent);
                fx.emit(Out::Silent(*peer));
            }
            !silent
        });
        self.await_silence(fx);
    }
}

/// Where to dial the maker of a beacon. What was said inside a closed network is vouched for by a member. The source of a
/// datagram is vouched for by nobody, and what is said in the open network by anybody: there only local addresses are dialled,
/// so that a beacon can make a segment call nobody outside it. Where a node says its addresses, the source must be one of them.
fn dialled(from: Addr, beacon: &Beacon, closed: bool, fx: &mut BeaconFx<'_>) -> Vec<Addr> {
    let said = &beacon.addresses;
    let mut source = from;
    source.set_ip(from.ip().to_canonical());
    if let (Addr::V6(canonical), Addr::V6(from)) = (&mut source, from) {
        canonical.set_scope_id(from.scope_id());
    }
    source.set_port(beacon.port);
    let local = is_local(&source.ip());
    let vouched = said.is_empty() || said.iter().any(|said| said.ip() == source.ip());
    let takes_source = (vouched && (local || (closed && !said.is_empty()))) || mutant!(BeaconSourceTaken);
    sometimes!(*fx, BeaconUnvouched, !takes_source);
    let mut addresses = Vec::new();
    if takes_source {
        addresses.push(source);
    }
    for address in said {
        // A link-local address means nothing without its interface, which only the source tells, and one of the host itself
        // nothing but on that host.
        let elsewhere = address.ip().is_loopback() && !source.ip().is_loopback();
        let reached = !is_link_local(&address.ip()) && !elsewhere && (closed || is_local(&address.ip()));
        let again = takes_source && address.ip() == source.ip() && address.port() == source.port();
        if reached && !again && !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    addresses
}

/// Whether packets to an address stay on this host or on networks that are nobody else's (RFC 1918, 3927, 4193, 4291).
fn is_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

const fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

impl Machine for Beacons {
    const NAME: &'static str = "beacons";
    type In<'b> = Segment<'b>;
    type Out = Out;
    type Timer = Timer;
    type Job = core::convert::Infallible;
    type View<'v> = &'v TrustTable;

    fn handle(&mut self, input: Segment<'_>, trust: &TrustTable, fx: &mut Fx<'_, Self>) {
        match input {
            Segment::Joined { port, addresses } => self.joined(port, addresses, fx),
            Segment::Left => self.left(fx),
            Segment::Heard { from, bytes } => {
                if let Err(reason) = self.hear(from, bytes, trust, fx) {
                    fx.emit(Out::Dropped(reason));
                }
            }
        }
    }

    fn fire(&mut self, timer: Timer, _: &TrustTable, fx: &mut Fx<'_, Self>) {
        match timer {
            Timer::Speak => {
                self.speak(fx);
                // Three quarters to five quarters of the pause.
                let jitter = Duration::from_nanos(fx.rng().below(self.pause.as_nanos() / 2));
                if !mutant!(BeaconSpokenOnce) {
                    fx.arm(Timer::Speak, fx.now() + self.pause.mul_ratio(3, 4) + jitter);
                }
                self.pause = (self.pause * 2).min(LONGEST);
            }
            Timer::Answer => {
                self.answering = false;
                self.speak(fx);
            }
            Timer::Forget => self.forget(fx),
        }
    }

    fn check(&self) {
        assert!(self.known.len() <= MAX_HEARD, "those heard are bounded");
        assert!(!self.known.contains_key(&self.own), "nobody finds itself");
        assert!(self.answers.left <= ANSWERS && self.findings.left <= FINDINGS);
    }
}
