//! The responder's side: from a stranger's first packet to a key that waits for its first use.
//!
//! `Reading` and `Answering` are the states that travel with a job; [`Pending`] is an answered handshake.
//! Invariants: nothing of message 1 takes effect here beyond a bounded, expiring place in the table of
//! pending keys; a packet costs one MAC before anything else, and no reply is longer than it.
//! Not here: confirmation (the lane), Noise (`noise.rs`), MACs and load (`cookie.rs`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use net_base::{Addr, AssociationId, Duration, EntityId, Epoch, Instant, SessionId, mutant, reachable, sometimes};
use net_wire::DropReason;
use net_wire::handshake::{
    CookieReply, Initiation, InitiationPayload, RESPONSE_NOISE_LEN, Response, ResponsePayload, Suite,
};

use super::cookie::{COOKIE_ROTATION, CookieJar, Load, Mac, MacKeys};
use super::job::{Read, Work};
use super::noise::{Suites, bind_psk};
use super::{
    HandshakeFx, Handshakes, LOADED_JOBS, MAX_CLOCK_LEAD, MAX_JOBS, MAX_STRANGER_JOBS, Out, Packet, Timer, View,
};
use crate::install::{Install, TrafficSecrets};

/// How long an answered handshake waits for the initiator's first packet. The initiator sends it at once
/// and repeats it.
const PENDING_LIFETIME: Duration = Duration::from_secs(5);
/// Answered handshakes of one peer that wait; its oldest is dropped for one more.
const MAX_PENDING_PER_PEER: usize = 8;

/// Message 1 being read.
#[derive(Debug)]
pub(super) struct Reading {
    from: Addr,
    network: usize,
    remote: SessionId,
    mac1: Mac,
    offered: Suite,
}

/// Message 2 being made.
#[derive(Debug)]
pub(super) struct Answering {
    reading: Reading,
    local: SessionId,
    hello: InitiationPayload,
    proved: [u8; 32],
    association: AssociationId,
}

/// A key that waits for its first use.
#[derive(Debug)]
struct Pending {
    local: SessionId,
    peer: EntityId,
    remote_association: AssociationId,
    local_association: AssociationId,
    expires: Instant,
    packet: (Mac, Addr),
}

/// Every handshake being answered or waiting for confirmation.
#[derive(Debug, Default)]
pub(super) struct Responder {
    jar: CookieJar,
    load: Load,
    /// First messages being read.
    reading: usize,
    /// First messages being worked on or answered, by mac1 and source. A copy from another source is not the
    /// same: whoever sends a copy first must not decide where the answer goes.
    seen: BTreeSet<(Mac, Addr)>,
    /// By age.
    pending: BTreeMap<u64, Pending>,
    by_session: BTreeMap<SessionId, u64>,
    by_peer: BTreeSet<(EntityId, u64)>,
    next: u64,
    /// Answers being made, the oldest first.
    answering: Vec<Labels>,
}

/// The two labels of an association that an answer is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Labels {
    peer: EntityId,
    remote: AssociationId,
    local: AssociationId,
}

impl Responder {
    /// Our label in the latest answer to `peer` that it has not confirmed yet. A dial to it carries the same one, or
    /// the two handshakes of a pair that dials at once would begin two associations.
    pub(super) fn label_of(&self, peer: EntityId) -> Option<AssociationId> {
        let mut answering = self.answering.iter().filter(|_| !mutant!(AnsweringForgotten));
        let answering = answering.rfind(|labels| labels.peer == peer);
        let label = answering.map(|labels| labels.local);
        label.or_else(|| {
            let latest = self.of_peer(peer).next_back()?;
            self.pending.get(&latest).map(|pending| pending.local_association)
        })
    }

    pub(super) fn holds(&self, session: SessionId) -> bool {
        self.by_session.contains_key(&session)
    }

    pub(super) fn settle(&mut self, local: SessionId) {
        if let Some(&age) = self.by_session.get(&local) {
            self.remove(age);
        }
    }

    pub(super) fn rotate_cookies(&mut self) -> bool {
        self.jar.rotate()
    }

    fn remove(&mut self, age: u64) -> Option<Pending> {
        let pending = self.pending.remove(&age)?;
        self.by_session.remove(&pending.local);
        self.by_peer.remove(&(pending.peer, age));
        self.seen.remove(&pending.packet);
        Some(pending)
    }

    fn insert(&mut self, pending: Pending) {
        let age = self.next;
        self.next += 1;
        self.by_session.insert(pending.local, age);
        self.by_peer.insert((pending.peer, age));
        self.pending.insert(age, pending);
    }

    fn of_peer(&self, peer: EntityId) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.by_peer.range((peer, 0)..=(peer, u64::MAX)).map(|(_, age)| *age)
    }

    /// Our label in an answer to the same association that is being made or still waits: the initiator may take either.
    fn label_for(&self, hello: &InitiationPayload) -> Option<AssociationId> {
        let mut answering = self.answering.iter();
        let same = answering.find(|labels| labels.peer == hello.entity && labels.remote == hello.association);
        if let Some(labels) = same {
            return Some(labels.local);
        }
        self.of_peer(hello.entity)
            .filter_map(|age| self.pending.get(&age))
            .find(|pending| pending.remote_association == hello.association)
            .map(|pending| pending.local_association)
    }

    pub(super) fn check(&self, max_pending: usize) {
        assert!(self.pending.len() <= max_pending.max(1));
        assert!(self.reading <= MAX_JOBS && self.answering.len() <= MAX_JOBS);
        assert!(self.seen.len() <= self.pending.len() + MAX_JOBS);
        assert_eq!(
            (self.by_session.len(), self.by_peer.len()),
            (self.pending.len(), self.pending.len())
        );
        self.load.check();
    }
}

impl Handshakes {
    /// Checks message 1 as far as that is cheap and hands out the reading of it.
    pub(super) fn on_initiation(
        &mut self,
        from: Addr,
        bytes: &[u8],
        view: View<'_>,
        fx: &mut HandshakeFx<'_>,
    ) -> Result<(), DropReason> {
        let initiation = Initiation::parse(bytes)?;
        let network = self
            .networks
            .iter()
            .position(|network| network.own.verify_mac1(initiation.mac1_input(), initiation.mac1()))
            .ok_or(DropReason::BadMac)?;
        let mac1 = *initiation.mac1();
        if self.responder.seen.contains(&(mac1, from)) {
            return Err(DropReason::DuplicateHandshake);
        }
        let now = fx.now();
        if self.responder.reading >= LOADED_JOBS || self.responder.load.is_high(now) {
            self.demand_cookie(from, &initiation, network, fx)?;
            if !self.responder.load.take_source(now, &from) {
                return Err(DropReason::RateLimited);
            }
        }
        // Peers with a live session go first. Whoever forges their address is stopped by the cookie, since what
        // is read for them counts towards the load as well.
        let known = view.roster.knows(&from);
        let room = if known { MAX_JOBS } else { MAX_STRANGER_JOBS };
        if self.jobs.len() >= MAX_JOBS || self.responder.reading >= room {
            return Err(DropReason::Overloaded);
        }
        if !self.responder.load.take_read(now) && !known {
            return Err(DropReason::RateLimited);
        }
        self.responder.reading += 1;
        self.responder.seen.insert((mac1, from));
        let work = Work::Read {
            about: Reading {
                from,
                network,
                remote: initiation.sender(),
                mac1,
                offered: initiation.suite(),
            },
            statics: self.statics.clone(),
            own: self.own,
            drawn: self.secrets.draw(),
            message: *initiation.noise(),
        };
        self.hand_out(work, fx);
        Ok(())
    }

    /// Under load: accepts a packet with a valid mac2, else answers with a cookie.
    fn demand_cookie(
        &mut self,
        from: Addr,
        initiation: &Initiation<'_>,
        network: usize,
        fx: &mut HandshakeFx<'_>,
    ) -> Result<(), DropReason> {
        let refused = if !initiation.has_mac2() {
            DropReason::CookieRequired
        } else if self
            .responder
            .jar
            .verify(&from, initiation.mac2_input(), initiation.mac2())
        {
            reachable!(*fx, CookieAccepted);
            return Ok(());
        } else {
            DropReason::CookieInvalid
        };
        let (cookie, new) = self.responder.jar.bake(&from, &mut self.secrets);
        if new {
            fx.arm(Timer::CookieRotate, fx.now() + COOKIE_ROTATION);
        }
        let (nonce, sealed) = self.networks[network]
            .own
            .seal(&self.secrets.draw(), initiation.mac1(), &cookie);
        let packet = Packet::new(&CookieReply::encode(initiation.sender(), &nonce, &sealed));
        fx.emit(Out::Transmit { to: from, packet });
        Err(refused)
    }

    /// Message 1 was read: check what it says and hand out the answer.
    pub(super) fn on_read(
        &mut self,
        reading: Reading,
        read: Result<Read, DropReason>,
        view: View<'_>,
        fx: &mut HandshakeFx<'_>,
    ) {
        self.responder.reading -= 1;
        let accepted = read.and_then(|read| {
            self.check_hello(&read.hello, view, fx)?;
            match self.vetted.get(&read.hello.entity) {
                Some(key) if key != read.proved => Err(DropReason::EntityMismatch),
                known => Ok((read, known.is_some())),
            }
        });
        let (Read { state, hello, proved }, vetted) = match accepted {
            Ok(accepted) => accepted,
            Err(reason) => {
                self.refuse(&reading, reason, fx);
                return;
            }
        };
        let local = self.fresh_session(&hello.entity, fx);
        let association = self.label_for(&hello, view, fx);
        self.responder.answering.push(Labels {
            peer: hello.entity,
            remote: hello.association,
            local: association,
        });
        let suites = self.suites_with(reading.offered);
        let psk = bind_psk(&self.networks[reading.network].psk, reading.remote, local, suites);
        let payload = ResponsePayload {
            epoch: view.trust.epoch(),
            association,
        }
        .encode();
        let unvetted = (!vetted).then_some((hello.entity, proved));
        let about = Answering {
            reading,
            local,
            hello,
            proved,
            association,
        };
        self.hand_out(
            Work::Respond {
                about,
                state,
                psk,
                payload,
                unvetted,
            },
            fx,
        );
    }

    /// Message 2 was made: check again, then send it and install the key, which has no effect yet.
    pub(super) fn on_answered(
        &mut self,
        about: Answering,
        made: Result<([u8; RESPONSE_NOISE_LEN], TrafficSecrets), DropReason>,
        view: View<'_>,
        fx: &mut HandshakeFx<'_>,
    ) {
        let Answering {
            reading,
            local,
            hello,
            proved,
            association,
        } = about;
        if made.is_ok() {
            self.vetted.insert(hello.entity, proved);
        }
        let labels = Labels {
            peer: hello.entity,
            remote: hello.association,
            local: association,
        };
        if let Some(at) = self.responder.answering.iter().position(|known| *known == labels) {
            self.responder.answering.remove(at);
        }
        let made = made.and_then(|made| self.check_hello(&hello, view, fx).map(|()| made));
        let (message, secrets) = match made {
            Ok(made) => made,
            Err(reason) => {
                reachable!(*fx, AnswerRevoked);
                self.refuse(&reading, reason, fx);
                return;
            }
        };
        self.make_room(hello.entity, fx);
        let expires = fx.now() + PENDING_LIFETIME;
        if self.responder.pending.is_empty() {
            fx.arm(Timer::PendingExpire, expires);
        }
        self.responder.insert(Pending {
            local,
            peer: hello.entity,
            remote_association: hello.association,
            local_association: association,
            expires,
            packet: (reading.mac1, reading.from),
        });
        let install = Install {
            local,
            remote: reading.remote,
            peer: hello.entity,
            peer_epoch: hello.epoch,
            handshake: hello.counter,
            local_association: association,
            remote_association: hello.association,
            initiator: false,
            address: reading.from,
            suite: self.suites_with(reading.offered).used,
            secrets,
        };
        let mut packet = Response::encode(reading.remote, local, install.suite, &message);
        fx.emit(Out::Install { install, attempt: None });
        let keys = MacKeys::new(&self.networks[reading.network].mac_key, &hello.entity);
        let mac1 = keys.mac1(&packet[..Response::MAC1_AT]);
        Response::set_mac1(&mut packet, &mac1);
        fx.emit(Out::Transmit {
            to: reading.from,
            packet: Packet::new(&packet),
        });
    }

    /// What a handshake uses whose initiator offers this.
    const fn suites_with(&self, offered: Suite) -> Suites {
        let used = self.config.suite_with(offered);
        Suites { offered, used }
    }

    fn refuse(&mut self, reading: &Reading, reason: DropReason, fx: &mut HandshakeFx<'_>) {
        self.responder.seen.remove(&(reading.mac1, reading.from));
        fx.emit(Out::Dropped(reason, reading.from));
    }

    /// What message 1 says against what is known now. A lower epoch than the confirmed one is answered: only
    /// by confirming does the peer prove that it is not a replay, and then it must be told that its state was
    /// rolled back.
    fn check_hello(&self, hello: &InitiationPayload, view: View<'_>, fx: &HandshakeFx<'_>) -> Result<(), DropReason> {
        if hello.entity == self.own {
            return Err(DropReason::OwnIdentity);
        }
        if hello.epoch > Epoch(fx.wall().0.saturating_add(MAX_CLOCK_LEAD.as_nanos())) {
            return Err(DropReason::EpochTooFar);
        }
        match view.trust.floor(&hello.entity) {
            Some((epoch, counter)) if hello.epoch == epoch && hello.counter <= counter => {
                Err(DropReason::StaleHandshake)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Our label in the answer: that of our own dial, so that both of a simultaneous pair carry the same two
    /// labels; else that of the live association, where the peer means the same one; else a new one.
    fn label_for(&self, hello: &InitiationPayload, view: View<'_>, fx: &mut HandshakeFx<'_>) -> AssociationId {
        let live = view
            .roster
            .get(&hello.entity)
            .filter(|live| live.remote == hello.association);
        let (dialled, answered) = (self.initiator.label_for(&hello.entity), self.responder.label_for(hello));
        sometimes!(*fx, AnswerTakesLabel, dialled.is_some());
        sometimes!(*fx, AnswerAgain, answered.is_some());
        dialled
            .or_else(|| live.map(|live| live.local))
            .or(answered.filter(|_| !mutant!(AnswersDiffer)))
            .unwrap_or_else(|| AssociationId(fx.rng().next_u64()))
    }

    /// Withdraws the oldest pending key of `peer`, or of all, where there are too many.
    fn make_room(&mut self, peer: EntityId, fx: &mut HandshakeFx<'_>) {
        let of_peer = self.responder.of_peer(peer);
        let oldest_of_peer = if of_peer.count() >= MAX_PENDING_PER_PEER {
            self.responder.of_peer(peer).next()
        } else {
            None
        };
        let oldest = if self.responder.pending.len() >= self.config.max_pending.max(1) {
            self.responder.pending.keys().next().copied()
        } else {
            None
        };
        if let Some(age) = oldest_of_peer.or(oldest) {
            if let Some(pending) = self.responder.pending.get(&age) {
                fx.emit(Out::Dropped(DropReason::PendingFull, pending.packet.1));
            }
            self.withdraw(age, fx);
        }
    }

    fn withdraw(&mut self, age: u64, fx: &mut HandshakeFx<'_>) {
        if let Some(pending) = self.responder.remove(age) {
            fx.emit(Out::Withdraw { local: pending.local });
        }
    }

    pub(super) fn on_pending_expire(&mut self, fx: &mut HandshakeFx<'_>) {
        while let Some((&age, pending)) = self.responder.pending.first_key_value() {
            if pending.expires > fx.now() {
                if !mutant!(PendingExpiresOnce) {
                    fx.arm(Timer::PendingExpire, pending.expires);
                }
                return;
            }
            reachable!(*fx, PendingExpired);
            self.withdraw(age, fx);
        }
    }
}
