//! The initiator's side: dials, first messages on their way, and what comes back.
//!
//! A dial lives in [`Attempt`]; each first message it sent lives in an [`Awaiting`] until one is answered.
//! `Starting` and `Finishing` are the states that travel with a job.
//! Invariants: every first message has its own ephemeral, session id and counter; at most [`MAX_AWAITED`]
//! of one dial are awaited; a reply that fails leaves the awaited state as it was.
//! Not here: Noise (`noise.rs`), MACs (`cookie.rs`), how many jobs run (`mod.rs`).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use net_base::limit::{MAX_ADDRESSES, MAX_ATTEMPTS};
use net_base::{Addr, AssociationId, Duration, EntityId, SessionId, mutant, reachable, sometimes};
use net_wire::DropReason;
use net_wire::handshake::{
    CookieReply, Initiation, InitiationPayload, RESPONSE_NOISE_LEN, Response, ResponsePayload, Suite,
};

use super::cookie::{Cookie, Mac, MacKeys, mac2};
use super::job::{Started, Work};
use super::noise::{State, Suites, bind_psk};
use super::{AttemptId, HandshakeFx, Handshakes, MAX_CLOCK_LEAD, Out, Packet, Timer, View};
use crate::install::{Install, TrafficSecrets};

/// Between first messages to two addresses of one peer: short enough that many dead addresses cost little, long enough that
/// an answer from nearby spares the rest (RFC 8305 section 5 allows 10 ms at least).
const ADDRESS_GAP: Duration = Duration::from_millis(20);
/// First messages of one dial that may still be answered; the oldest is forgotten for one more. With the
/// pauses doubling, four cover a round trip of several seconds; each further address adds one.
const MAX_AWAITED: usize = 4;
/// Responses to one first message that wait while another is being checked. More than one arrives only if
/// somebody forges them; a random one makes room then, so that nobody can keep the genuine one out.
const MAX_INBOX: usize = 8;

/// One dial.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Tells this dial from an earlier one under the same id, whose job may still be running.
    serial: u64,
    peer: EntityId,
    addresses: Vec<Addr>,
    /// Which address comes next.
    next: usize,
    association: AssociationId,
    /// Pause after the next first message to the last address.
    pause: Duration,
    sent: u32,
    unreachable: bool,
    awaited: VecDeque<SessionId>,
    cookies: BTreeMap<Addr, Cookie>,
    /// A cookie already made a first message of this round of addresses leave early.
    hurried: bool,
    /// A first message is queued or being made.
    starting: bool,
}

/// A first message that may be answered.
#[derive(Debug)]
pub(super) struct Awaiting {
    attempt: AttemptId,
    peer: EntityId,
    to: Addr,
    association: AssociationId,
    counter: u64,
    network: usize,
    mac1: Mac,
    /// `None` while a job checks a response with it.
    state: Option<State>,
    inbox: Vec<Reply>,
    cookie_taken: bool,
}

/// A response that waits to be checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reply {
    from: Addr,
    remote: SessionId,
    suite: Suite,
    message: [u8; RESPONSE_NOISE_LEN],
}

/// A first message being made.
#[derive(Debug)]
pub(super) struct Starting {
    attempt: AttemptId,
    serial: u64,
    local: SessionId,
    to: Addr,
    counter: u64,
    network: usize,
}

/// A response being checked.
#[derive(Debug)]
pub(super) struct Finishing {
    local: SessionId,
    remote: SessionId,
    from: Addr,
    suite: Suite,
}

/// Every dial and everything awaited.
#[derive(Debug, Default)]
pub(super) struct Initiator {
    attempts: BTreeMap<AttemptId, Attempt>,
    awaiting: BTreeMap<SessionId, Awaiting>,
    /// Responses to check, before anything else.
    to_finish: VecDeque<SessionId>,
    /// Rekeys to start, before first connections.
    to_rekey: VecDeque<AttemptId>,
    /// First connections to start.
    to_connect: VecDeque<AttemptId>,
    serial: u64,
}

impl Initiator {
    pub(super) fn awaits(&self, session: SessionId) -> bool {
        self.awaiting.contains_key(&session)
    }

    /// Dials under way.
    pub(super) fn dials(&self) -> usize {
        self.attempts.len()
    }

    /// Our label in a dial to `peer` under way.
    pub(super) fn label_for(&self, peer: &EntityId) -> Option<AssociationId> {
        self.attempts
            .values()
            .find(|attempt| attempt.peer == *peer)
            .map(|attempt| attempt.association)
    }

    /// Takes more addresses into a dial. True where one of them is new: it comes next.
    pub(super) fn also(&mut self, attempt: AttemptId, addresses: &[Addr]) -> bool {
        let Some(attempt) = self.attempts.get_mut(&attempt) else {
            return false;
        };
        let known = attempt.addresses.len();
        for address in addresses {
            if !attempt.addresses.contains(address) && attempt.addresses.len() < MAX_ADDRESSES {
                attempt.addresses.push(*address);
            }
        }
        if attempt.addresses.len() > known {
            attempt.next = known;
        }
        attempt.addresses.len() > known
    }

    pub(super) fn on_unreachable(&mut self, address: &Addr) {
        for attempt in self.attempts.values_mut() {
            attempt.unreachable |= attempt.addresses.contains(address);
        }
    }

    fn queue(&mut self, id: AttemptId, rekey: bool) {
        if let Some(attempt) = self.attempts.get_mut(&id)
            && !attempt.starting
        {
            attempt.starting = true;
            if rekey {
                self.to_rekey.push_back(id)
            } else {
                self.to_connect.push_back(id)
            }
        }
    }

    /// Forgets a dial and all it awaits.
    fn remove(&mut self, id: AttemptId) -> Option<Attempt> {
        let attempt = self.attempts.remove(&id)?;
        for local in &attempt.awaited {
            self.awaiting.remove(local);
        }
        self.to_rekey.retain(|queued| *queued != id);
        self.to_connect.retain(|queued| *queued != id);
        Some(attempt)
    }

    pub(super) fn check(&self) {
        assert!(self.attempts.len() <= MAX_ATTEMPTS);
        let awaited: usize = self.attempts.values().map(|attempt| attempt.awaited.len()).sum();
        assert_eq!(awaited, self.awaiting.len(), "what is awaited belongs to a dial");
        for attempt in self.attempts.values() {
            assert!(attempt.awaited.len() < MAX_AWAITED + attempt.addresses.len());
            assert!(attempt.awaited.iter().all(|local| self.awaiting.contains_key(local)));
        }
        assert!(self.awaiting.values().all(|awaiting| awaiting.inbox.len() <= MAX_INBOX));
        assert!(self.to_rekey.len() + self.to_connect.len() <= self.attempts.len());
    }
}

impl Attempt {
    /// Notes that the first message `local` leaves: gives the pause until the next one, which goes to the next
    /// address, and the message that is awaited no longer. All addresses are tried before any is waited for.
    fn on_sent(&mut self, local: SessionId, longest_pause: Duration) -> (Duration, Option<SessionId>) {
        self.sent = self.sent.saturating_add(1);
        self.awaited.push_back(local);
        let forgotten = if self.awaited.len() > MAX_AWAITED + self.addresses.len() - 1 {
            self.awaited.pop_front()
        } else {
            None
        };
        let pause = self.pause;
        self.next += 1;
        if self.next < self.addresses.len() {
            let gap = if mutant!(AddressesInTurn) { pause } else { ADDRESS_GAP };
            return (gap.min(pause), forgotten);
        }
        self.next = 0;
        self.pause = (pause * 2).min(longest_pause);
        (pause, forgotten)
    }
}

impl Handshakes {
    pub(super) fn on_dial(
        &mut self,
        id: AttemptId,
        peer: EntityId,
        addresses: Vec<Addr>,
        association: AssociationId,
        view: View<'_>,
        fx: &mut HandshakeFx<'_>,
    ) {
        self.on_cancel(id, fx);
        if addresses.is_empty() || peer == self.own || self.initiator.attempts.len() >= MAX_ATTEMPTS {
            fx.emit(Out::Failed {
                attempt: id,
                sent: 0,
                unreachable: false,
            });
            return;
        }
        self.initiator.serial += 1;
        let live = view.roster.get(&peer).is_some();
        let answered = if live || mutant!(DialIgnoresAnswer) {
            None
        } else {
            self.responder.label_of(peer)
        };
        sometimes!(*fx, DialTakesLabel, answered.is_some());
        let attempt = Attempt {
            serial: self.initiator.serial,
            peer,
            addresses,
            next: 0,
            association: answered.unwrap_or(association),
            pause: self.config.handshake_retry,
            sent: 0,
            unreachable: false,
            awaited: VecDeque::new(),
            cookies: BTreeMap::new(),
            hurried: false,
            starting: false,
        };
        self.initiator.attempts.insert(id, attempt);
        fx.arm(Timer::Expire(id), fx.now() + self.config.connect_timeout);
        self.initiator.queue(id, live);
    }

    pub(super) fn on_cancel(&mut self, id: AttemptId, fx: &mut HandshakeFx<'_>) -> Option<Attempt> {
        let attempt = self.initiator.remove(id)?;
        fx.disarm(Timer::Retry(id));
        fx.disarm(Timer::Expire(id));
        Some(attempt)
    }

    pub(super) fn on_retry(&mut self, id: AttemptId, view: View<'_>) {
        if let Some(attempt) = self.initiator.attempts.get_mut(&id) {
            attempt.hurried &= attempt.next > 0;
            let rekey = view.roster.get(&attempt.peer).is_some();
            self.initiator.queue(id, rekey);
        }
    }

    pub(super) fn on_expire(&mut self, id: AttemptId, fx: &mut HandshakeFx<'_>) {
        if let Some(Attempt { sent, unreachable, .. }) = self.on_cancel(id, fx) {
            reachable!(*fx, DialExpired);
            fx.emit(Out::Failed {
                attempt: id,
                sent,
                unreachable,
            });
        }
    }

    /// The initiator's next piece of work, if any waits: responses first, then rekeys, then connections.
    pub(super) fn next_work(&mut self, view: View<'_>, fx: &mut HandshakeFx<'_>) -> Option<Work> {
        while let Some(local) = self.initiator.to_finish.pop_front() {
            if let Some(work) = self.finish_work(local) {
                return Some(work);
            }
        }
        loop {
            let id = self
                .initiator
                .to_rekey
                .pop_front()
                .or_else(|| self.initiator.to_connect.pop_front())?;
            if let Some(work) = self.start_work(id, view, fx) {
                return Some(work);
            }
        }
    }

    fn start_work(&mut self, id: AttemptId, view: View<'_>, fx: &mut HandshakeFx<'_>) -> Option<Work> {
        let peer = self.initiator.attempts.get(&id)?.peer;
        let local = self.fresh_session(&peer, fx);
        let attempt = self.initiator.attempts.get_mut(&id)?;
        let to = *attempt.addresses.get(attempt.next)?;
        self.counter += 1;
        let payload = InitiationPayload {
            entity: self.own,
            epoch: view.trust.epoch(),
            counter: self.counter,
            association: attempt.association,
        };
        Some(Work::Start {
            about: Starting {
                attempt: id,
                serial: attempt.serial,
                local,
                to,
                counter: self.counter,
                network: 0,
            },
            statics: self.statics.clone(),
            peer,
            vetted: self.vetted.get(&peer),
            drawn: self.secrets.draw(),
            payload: payload.encode(),
        })
    }

    /// Message 1 is made: send it, unless the dial ended meanwhile.
    pub(super) fn on_started(&mut self, about: Starting, started: Option<Started>, fx: &mut HandshakeFx<'_>) {
        let Starting {
            attempt: id,
            serial,
            local,
            to,
            counter,
            network,
        } = about;
        let attempt = self
            .initiator
            .attempts
            .get_mut(&id)
            .filter(|attempt| attempt.serial == serial);
        let Some(attempt) = attempt else {
            reachable!(*fx, StartedTooLate);
            return;
        };
        attempt.starting = false;
        let Some(Started {
            state,
            message,
            peer_public,
        }) = started
        else {
            // No message can be made for such a key, now or later.
            self.on_cancel(id, fx);
            fx.emit(Out::Unusable { attempt: id });
            return;
        };
        let mut packet = Initiation::encode(local, self.config.best_suite(), &message);
        let mac1 = MacKeys::new(&self.networks[network].mac_key, &attempt.peer).mac1(&packet[..Initiation::MAC1_AT]);
        Initiation::set_mac1(&mut packet, &mac1);
        if let Some(cookie) = attempt.cookies.get(&to) {
            let mac = mac2(cookie, &packet[..Initiation::MAC2_AT]);
            Initiation::set_mac2(&mut packet, &mac);
        }
        self.vetted.insert(attempt.peer, peer_public);
        sometimes!(*fx, DialRepeated, attempt.sent > 0);
        let (pause, forgotten) = attempt.on_sent(local, self.config.handshake_retry_max);
        let awaiting = Awaiting {
            attempt: id,
            peer: attempt.peer,
            to,
            association: attempt.association,
            counter,
            network,
            mac1,
            state: Some(state),
            inbox: Vec::new(),
            cookie_taken: false,
        };
        self.initiator.awaiting.insert(local, awaiting);
        sometimes!(*fx, DialForgetsOldest, forgotten.is_some());
        if let Some(forgotten) = forgotten {
            self.initiator.awaiting.remove(&forgotten);
        }
        // Three quarters to five quarters of the pause, so that many nodes do not retry in step.
        let jitter = if mutant!(RetryPacedByIdentity) {
            pause.mul_ratio(u64::from(self.own.0[0]), 512)
        } else {
            Duration::from_nanos(fx.rng().below(pause.as_nanos() / 2))
        };
        fx.arm(Timer::Retry(id), fx.now() + pause.mul_ratio(3, 4) + jitter);
        fx.emit(Out::Transmit {
            to,
            packet: Packet::new(&packet),
        });
    }

    pub(super) fn on_response(&mut self, from: Addr, bytes: &[u8], fx: &mut HandshakeFx<'_>) -> Result<(), DropReason> {
        let response = Response::parse(bytes)?;
        let local = response.receiver();
        let awaiting = self
            .initiator
            .awaiting
            .get_mut(&local)
            .ok_or(DropReason::UnexpectedHandshake)?;
        let keys = &self.networks[awaiting.network].own;
        if !keys.verify_mac1(response.mac1_input(), response.mac1()) {
            return Err(DropReason::BadMac);
        }
        if self.config.suite_with(response.suite()) != response.suite() {
            return Err(DropReason::UnsupportedSuite);
        }
        let reply = Reply {
            from,
            remote: response.sender(),
            suite: if mutant!(SuiteOfferedUsed) {
                self.config.best_suite()
            } else {
                response.suite()
            },
            message: *response.noise(),
        };
        if awaiting.inbox.contains(&reply) {
            return Err(DropReason::DuplicateHandshake);
        }
        if awaiting.inbox.is_empty() && awaiting.state.is_some() {
            self.initiator.to_finish.push_back(local);
        }
        if awaiting.inbox.len() == MAX_INBOX {
            let at = fx.rng().below(MAX_INBOX as u64) as usize;
            let dropped = core::mem::replace(&mut awaiting.inbox[at], reply);
            fx.emit(Out::Dropped(DropReason::Overloaded, dropped.from));
        } else {
            awaiting.inbox.push(reply);
        }
        Ok(())
    }

    fn finish_work(&mut self, local: SessionId) -> Option<Work> {
        let awaiting = self.initiator.awaiting.get_mut(&local)?;
        if awaiting.inbox.is_empty() {
            return None;
        }
        let state = awaiting.state.take()?;
        let Reply {
            from,
            remote,
            suite,
            message,
        } = awaiting.inbox.remove(0);
        let suites = Suites {
            offered: self.config.best_suite(),
            used: suite,
        };
        let psk = bind_psk(&self.networks[awaiting.network].psk, local, remote, suites);
        Some(Work::Finish {
            about: Finishing {
                local,
                remote,
                from,
                suite,
            },
            state,
            psk,
            message,
        })
    }

    /// A response was checked: install the key, or wait on for the genuine one.
    pub(super) fn on_finished(
        &mut self,
        about: Finishing,
        finished: Result<(ResponsePayload, TrafficSecrets), (DropReason, State)>,
        fx: &mut HandshakeFx<'_>,
    ) {
        let Finishing {
            local,
            remote,
            from,
            suite,
        } = about;
        let Some(awaiting) = self.initiator.awaiting.get_mut(&local) else {
            reachable!(*fx, FinishedTooLate);
            fx.emit(Out::Dropped(DropReason::UnexpectedHandshake, from));
            return;
        };
        let (payload, secrets) = match finished {
            Ok(agreed) => agreed,
            Err((reason, state)) => {
                awaiting.state = Some(state);
                if !awaiting.inbox.is_empty() {
                    self.initiator.to_finish.push_back(local);
                }
                fx.emit(Out::Dropped(reason, from));
                return;
            }
        };
        sometimes!(*fx, SuiteBest, suite == Suite::Aes256Gcm);
        sometimes!(*fx, SuiteLesser, suite != self.config.best_suite());
        let latest = fx.wall().0.saturating_add(MAX_CLOCK_LEAD.as_nanos());
        if payload.epoch.0 > latest {
            // Authentic, so no other answer to this message will differ. The dial goes on: clocks get set.
            self.forget_awaiting(local);
            fx.emit(Out::Dropped(DropReason::EpochTooFar, from));
            return;
        }
        let install = Install {
            local,
            remote,
            peer: awaiting.peer,
            peer_epoch: payload.epoch,
            handshake: awaiting.counter,
            local_association: awaiting.association,
            remote_association: payload.association,
            initiator: true,
            // Where the peer was dialled, not where this copy of its answer came from: somebody who sends the
            // answer on from elsewhere does not become the path by that.
            address: awaiting.to,
            suite,
            secrets,
        };
        let attempt = awaiting.attempt;
        self.on_cancel(attempt, fx);
        fx.emit(Out::Install {
            install,
            attempt: Some(attempt),
        });
    }

    fn forget_awaiting(&mut self, local: SessionId) {
        if let Some(awaiting) = self.initiator.awaiting.remove(&local)
            && let Some(attempt) = self.initiator.attempts.get_mut(&awaiting.attempt)
        {
            attempt.awaited.retain(|awaited| *awaited != local);
        }
    }

    pub(super) fn on_cookie_reply(
        &mut self,
        bytes: &[u8],
        view: View<'_>,
        fx: &mut HandshakeFx<'_>,
    ) -> Result<(), DropReason> {
        let reply = CookieReply::parse(bytes)?;
        let awaiting = self
            .initiator
            .awaiting
            .get_mut(&reply.receiver())
            .ok_or(DropReason::UnexpectedHandshake)?;
        if awaiting.cookie_taken {
            return Err(DropReason::UnexpectedHandshake);
        }
        let keys = MacKeys::new(&self.networks[awaiting.network].mac_key, &awaiting.peer);
        let cookie = keys
            .unseal(reply.nonce(), &awaiting.mac1, reply.sealed())
            .ok_or(DropReason::CookieInvalid)?;
        awaiting.cookie_taken = true;
        let (id, to) = (awaiting.attempt, awaiting.to);
        if let Some(attempt) = self.initiator.attempts.get_mut(&id) {
            attempt.cookies.insert(to, cookie);
            // Once per round the cookie is used at once; a stream of cookies must not become one of messages.
            if !attempt.hurried && !attempt.starting {
                reachable!(*fx, CookieUsed);
                attempt.hurried = true;
                attempt.next = attempt.addresses.iter().position(|address| *address == to).unwrap_or(0);
                let rekey = view.roster.get(&attempt.peer).is_some();
                self.initiator.queue(id, rekey);
            }
        }
        Ok(())
    }
}
