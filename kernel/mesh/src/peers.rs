//! The peer book: who is connected, who is being dialled, and what becomes of every key that two nodes agree.
//!
//! Invariants: one session per peer; a session's two association labels never change; every connect command is
//! answered exactly once. Not here: handshakes and packets (`net-session`), who may connect (`net-trust`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use net_base::limit::{MAX_ADDRESSES, MAX_ATTEMPTS};
use net_base::{
    Addr, AssociationId, AttemptId, CommandId, EntityId, Epoch, Fx, Machine, SessionId, SessionKey, mutant, reachable,
    sometimes,
};

/// Connect commands that may wait for one dial.
const MAX_WAITING: usize = 64;

/// A key that this node and a peer agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The id we chose for it.
    pub local: SessionId,
    /// Who the peer proved to be.
    pub peer: EntityId,
    /// The peer's boot epoch.
    pub epoch: Epoch,
    /// Our label of the association it serves.
    pub local_association: AssociationId,
    /// The peer's label.
    pub remote_association: AssociationId,
    /// Where the peer is.
    pub address: Addr,
}

/// What admission says of a peer that confirmed a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It may hold a session.
    Admitted,
    /// It is not on the list.
    NotAllowed,
    /// A later incarnation of it was confirmed before: its state was restored or it runs twice.
    RolledBack {
        /// The epoch that was confirmed.
        known: Epoch,
    },
}

/// What the peer book can be told.
#[derive(Debug)]
pub enum In<'b> {
    /// Connect.
    Connect {
        /// Whom to answer.
        command: CommandId,
        /// Whom to reach; not ourselves.
        peer: EntityId,
        /// Where to try, 1 to 16 addresses.
        addresses: &'b [Addr],
    },
    /// Forget a connect command.
    Cancel(CommandId),
    /// A dial ended with a key.
    Dialled(AttemptId, Agreed),
    /// A dial ended without one.
    Failed {
        /// Which.
        attempt: AttemptId,
        /// First messages sent.
        sent: u32,
        /// Whether a host said that nobody listens.
        unreachable: bool,
    },
    /// A dial ended because the peer's key is not a usable identity.
    Unusable(AttemptId),
    /// A dial ended with a key of a peer that is to be refused.
    DialledRefused(AttemptId, Agreed, Admission),
    /// A peer that dialled us has confirmed its key.
    Confirmed(Agreed, Admission),
    /// A session ended.
    Ended(SessionKey),
    /// A session's keys are due.
    RekeyDue(SessionKey),
    /// A session's peer is reached elsewhere.
    Moved(SessionKey, Addr),
    /// Refuse everything from now on.
    ShutDown,
}

/// Why a connect command was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No address, or more than 16.
    BadAddresses,
    /// Too many dials, or too many commands waiting for one.
    TableFull,
    /// The key is not a usable identity.
    BadIdentity,
    /// The kernel was shut down.
    ShutDown,
}

/// Why a connect command ended without a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Nothing authentic came back.
    Silent {
        /// First messages sent.
        sent: u32,
        /// Whether a host said that nobody listens.
        unreachable: bool,
    },
    /// It was cancelled.
    Cancelled,
    /// The peer answered, but runs from an older state than was confirmed before.
    PeerRolledBack,
}

/// What the peer book decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    /// Agree a key.
    Dial {
        /// Names the dial.
        attempt: AttemptId,
        /// With whom.
        peer: EntityId,
        /// Where.
        addresses: Vec<Addr>,
        /// Our label of the association.
        association: AssociationId,
    },
    /// Try these addresses too in a dial under way.
    Also(AttemptId, Vec<Addr>),
    /// Forget a dial.
    CancelDial(AttemptId),
    /// Begin a session under a key.
    Start(SessionKey, Agreed),
    /// A key the peer has confirmed joins its session.
    Adopt(SessionKey, Agreed),
    /// A key we agreed joins its session once the peer uses it.
    Propose(SessionKey, Agreed),
    /// Tell the peer that confirmed a key why it gets no session.
    Refuse(SessionKey, Agreed, Admission),
    /// A session's peer started afresh: end it.
    Restarted(SessionKey, EntityId),
    /// A session is up.
    Connected {
        /// The session.
        session: SessionKey,
        /// Who.
        peer: EntityId,
        /// Where.
        address: Addr,
        /// The command this answers.
        command: Option<CommandId>,
    },
    /// A connect command ended without a session.
    ConnectFailed {
        /// Which.
        command: CommandId,
        /// For whom.
        peer: EntityId,
        /// Why.
        why: Failure,
    },
    /// A connect command was refused.
    Refused {
        /// Which.
        command: CommandId,
        /// For whom.
        peer: EntityId,
        /// Why.
        why: Refusal,
    },
}

/// A session in the book.
#[derive(Clone, Copy, Debug)]
struct Live {
    session: SessionKey,
    epoch: Epoch,
    local: AssociationId,
    remote: AssociationId,
    address: Addr,
}

/// A dial under way.
#[derive(Debug)]
struct Dial {
    attempt: AttemptId,
    addresses: Vec<Addr>,
    waiting: Vec<CommandId>,
}

impl Dial {
    /// Tries these addresses too, as far as they are new and there is room.
    fn widen(&mut self, addresses: &[Addr], fx: &mut Fx<'_, Peers>) {
        let new = addresses.iter().filter(|address| !self.addresses.contains(address));
        let room = MAX_ADDRESSES.saturating_sub(self.addresses.len());
        let new: Vec<Addr> = new.copied().take(room).collect();
        if !new.is_empty() {
            self.addresses.extend(&new);
            fx.emit(Out::Also(self.attempt, new));
        }
    }
}

#[derive(Debug, Default)]
struct Peer {
    live: Option<Live>,
    dial: Option<Dial>,
}

/// The peer book.
#[derive(Debug)]
pub struct Peers {
    by_id: BTreeMap<EntityId, Peer>,
    by_session: BTreeMap<SessionKey, EntityId>,
    by_attempt: BTreeMap<AttemptId, EntityId>,
    next_session: u64,
    next_attempt: u64,
    max_sessions: usize,
    shut_down: bool,
}

impl Peers {
    /// An empty book with room for `max_sessions`.
    #[must_use]
    pub fn new(max_sessions: usize) -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_session: BTreeMap::new(),
            by_attempt: BTreeMap::new(),
            next_session: 0,
            next_attempt: 0,
            max_sessions,
            shut_down: false,
        }
    }

    /// Whose session this is.
    #[must_use]
    pub fn peer_of(&self, session: SessionKey) -> Option<EntityId> {
        self.by_session.get(&session).copied()
    }

    /// The session with a peer, where there is one.
    #[must_use]
    pub fn session_of(&self, peer: &EntityId) -> Option<SessionKey> {
        Some(self.by_id.get(peer)?.live?.session)
    }

    /// In which of its boots a session's peer is.
    #[must_use]
    pub fn epoch_of(&self, session: SessionKey) -> Option<Epoch> {
        Some(self.by_id.get(self.by_session.get(&session)?)?.live?.epoch)
    }

    /// Every session with its peer, in the order they began.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionKey, EntityId)> + '_ {
        self.by_session.iter().map(|(&session, &peer)| (session, peer))
    }

    /// The dial a connect command waits for, for tests and status.
    #[must_use]
    pub fn is_dialling(&self, peer: &EntityId) -> bool {
        self.by_id.get(peer).is_some_and(|peer| peer.dial.is_some())
    }

    /// Whether every place is taken by a session or held by a dial that may become one.
    fn is_full(&self) -> bool {
        if self.by_session.len() + self.by_attempt.len() < self.max_sessions {
            return false;
        }
        // Counted only near the limit; a rekey's dial needs no place.
        let fresh = |id: &&EntityId| self.by_id.get(*id).is_some_and(|peer| peer.live.is_none());
        self.by_session.len() + self.by_attempt.values().filter(fresh).count() >= self.max_sessions
    }

    fn connect(&mut self, command: CommandId, peer: EntityId, addresses: &[Addr], fx: &mut Fx<'_, Self>) {
        if self.shut_down {
            return fx.emit(Out::Refused {
                command,
                peer,
                why: Refusal::ShutDown,
            });
        }
        if let Some(live) = self.by_id.get(&peer).and_then(|peer| peer.live) {
            let Live { session, address, .. } = live;
            return fx.emit(Out::Connected {
                session,
                peer,
                address,
                command: Some(command),
            });
        }
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return fx.emit(Out::Refused {
                command,
                peer,
                why: Refusal::BadAddresses,
            });
        }
        if let Some(dial) = self.by_id.get_mut(&peer).and_then(|peer| peer.dial.as_mut()) {
            if dial.waiting.len() == MAX_WAITING {
                return fx.emit(Out::Refused {
                    command,
                    peer,
                    why: Refusal::TableFull,
                });
            }
            dial.waiting.push(command);
            return dial.widen(addresses, fx);
        }
        if self.by_attempt.len() >= MAX_ATTEMPTS || self.is_full() {
            return fx.emit(Out::Refused {
                command,
                peer,
                why: Refusal::TableFull,
            });
        }
        let association = AssociationId(fx.rng().next_u64());
        self.dial(peer, addresses.to_vec(), association, alloc::vec![command], fx);
    }

    fn dial(
        &mut self,
        peer: EntityId,
        addresses: Vec<Addr>,
        association: AssociationId,
        waiting: Vec<CommandId>,
        fx: &mut Fx<'_, Self>,
    ) {
        self.next_attempt += 1;
        let attempt = AttemptId(self.next_attempt);
        self.by_attempt.insert(attempt, peer);
        self.by_id.entry(peer).or_default().dial = Some(Dial {
            attempt,
            addresses: addresses.clone(),
            waiting,
        });
        fx.emit(Out::Dial {
            attempt,
            peer,
            addresses,
            association,
        });
    }

    fn cancel(&mut self, command: CommandId, fx: &mut Fx<'_, Self>) {
        let found = self.by_id.iter_mut().find_map(|(id, peer)| {
            let dial = peer.dial.as_mut()?;
            let at = dial.waiting.iter().position(|&waiting| waiting == command)?;
            dial.waiting.remove(at);
            Some((*id, dial.waiting.is_empty() && peer.live.is_none()))
        });
        let Some((peer, unwanted)) = found else { return };
        fx.emit(Out::ConnectFailed {
            command,
            peer,
            why: Failure::Cancelled,
        });
        if unwanted {
            self.end_dial(&peer, fx);
        }
    }

    fn end_dial(&mut self, peer: &EntityId, fx: &mut Fx<'_, Self>) {
        if let Some(dial) = self.by_id.get_mut(peer).and_then(|peer| peer.dial.take()) {
            self.by_attempt.remove(&dial.attempt);
            fx.emit(Out::CancelDial(dial.attempt));
        }
        self.tidy(peer);
    }

    /// Takes the dial that ended, if it is still wanted.
    fn take_dial(&mut self, attempt: AttemptId) -> Option<(EntityId, Dial)> {
        let id = self.by_attempt.remove(&attempt)?;
        let dial = self.by_id.get_mut(&id)?.dial.take()?;
        Some((id, dial))
    }

    fn dialled(&mut self, attempt: AttemptId, agreed: Agreed, fx: &mut Fx<'_, Self>) {
        let Some((id, dial)) = self.take_dial(attempt) else {
            return;
        };
        debug_assert_eq!(id, agreed.peer, "a dial ends with its peer");
        match self.by_id.get(&id).and_then(|peer| peer.live) {
            Some(live) if live.serves(&agreed) || mutant!(FinishedUnchecked) => {
                fx.emit(Out::Propose(live.session, agreed));
                self.answer(live, id, dial.waiting, fx);
            }
            // The peer no longer knows the old association: it started afresh.
            Some(live) => {
                if !mutant!(OpenKeepsBoth) {
                    self.forget(live, id, fx);
                }
                self.start(agreed, dial.waiting, fx);
            }
            None => self.start(agreed, dial.waiting, fx),
        }
    }

    fn failed(&mut self, attempt: AttemptId, why: Failure, fx: &mut Fx<'_, Self>) {
        let Some((peer, dial)) = self.take_dial(attempt) else {
            return;
        };
        for command in dial.waiting {
            fx.emit(Out::ConnectFailed { command, peer, why });
        }
        self.tidy(&peer);
    }

    fn unusable(&mut self, attempt: AttemptId, fx: &mut Fx<'_, Self>) {
        let Some((peer, dial)) = self.take_dial(attempt) else {
            return;
        };
        for command in dial.waiting {
            fx.emit(Out::Refused {
                command,
                peer,
                why: Refusal::BadIdentity,
            });
        }
        self.tidy(&peer);
    }

    fn confirmed(&mut self, agreed: Agreed, admission: Admission, fx: &mut Fx<'_, Self>) {
        let refused = match admission {
            Admission::Admitted => self.shut_down.then_some(Admission::NotAllowed),
            Admission::NotAllowed | Admission::RolledBack { .. } => Some(admission),
        };
        if let Some(why) = refused {
            let session = self.next_session();
            return fx.emit(Out::Refuse(session, agreed, why));
        }
        match self.by_id.get(&agreed.peer).and_then(|peer| peer.live) {
            Some(live) if live.serves(&agreed) => fx.emit(Out::Adopt(live.session, agreed)),
            Some(live) => {
                self.forget(live, agreed.peer, fx);
                self.start_confirmed(agreed, fx);
            }
            // A peer that is being dialled takes the place that the dial holds.
            None if !self.is_dialling(&agreed.peer) && self.is_full() => {
                let session = self.next_session();
                fx.emit(Out::Refuse(session, agreed, Admission::NotAllowed));
            }
            None => self.start_confirmed(agreed, fx),
        }
    }

    /// A peer that dialled us is in. Whoever waited for our own dial to it need wait no longer; the dial itself
    /// goes on, as the peer may already use the key it agrees.
    fn start_confirmed(&mut self, agreed: Agreed, fx: &mut Fx<'_, Self>) {
        let dial = self.by_id.get_mut(&agreed.peer).and_then(|peer| peer.dial.as_mut());
        sometimes!(*fx, SimultaneousOpen, dial.is_some());
        let waiting = dial.map(|dial| core::mem::take(&mut dial.waiting)).unwrap_or_default();
        self.start(agreed, waiting, fx);
    }

    fn start(&mut self, agreed: Agreed, waiting: Vec<CommandId>, fx: &mut Fx<'_, Self>) {
        let live = Live {
            session: self.next_session(),
            epoch: agreed.epoch,
            local: agreed.local_association,
            remote: agreed.remote_association,
            address: agreed.address,
        };
        self.by_id.entry(agreed.peer).or_default().live = Some(live);
        self.by_session.insert(live.session, agreed.peer);
        fx.emit(Out::Start(live.session, agreed));
        if waiting.is_empty() {
            let Live { session, address, .. } = live;
            return fx.emit(Out::Connected {
                session,
                peer: agreed.peer,
                address,
                command: None,
            });
        }
        self.answer(live, agreed.peer, waiting, fx);
    }

    fn answer(&self, live: Live, peer: EntityId, waiting: Vec<CommandId>, fx: &mut Fx<'_, Self>) {
        let Live { session, address, .. } = live;
        for command in waiting {
            fx.emit(Out::Connected {
                session,
                peer,
                address,
                command: Some(command),
            });
        }
    }

    fn forget(&mut self, live: Live, peer: EntityId, fx: &mut Fx<'_, Self>) {
        self.by_session.remove(&live.session);
        if let Some(entry) = self.by_id.get_mut(&peer) {
            entry.live = None;
        }
        reachable!(*fx, PeerForgotten);
        fx.emit(Out::Restarted(live.session, peer));
    }

    fn ended(&mut self, session: SessionKey, fx: &mut Fx<'_, Self>) {
        let Some(peer) = self.by_session.remove(&session) else {
            return;
        };
        let Some(entry) = self.by_id.get_mut(&peer) else { return };
        entry.live = None;
        // A dial nobody waits for was a rekey of what ended.
        if entry.dial.as_ref().is_some_and(|dial| dial.waiting.is_empty()) && !mutant!(RekeyOutlivesSession) {
            reachable!(*fx, RekeyAbandoned);
            self.end_dial(&peer, fx);
        }
        self.tidy(&peer);
    }

    fn rekey(&mut self, session: SessionKey, fx: &mut Fx<'_, Self>) {
        let Some(&id) = self.by_session.get(&session) else {
            return;
        };
        let Some(peer) = self.by_id.get(&id) else { return };
        if let (Some(live), None) = (peer.live, &peer.dial) {
            self.dial(id, alloc::vec![live.address], live.local, Vec::new(), fx);
        }
    }

    fn moved(&mut self, session: SessionKey, address: Addr, fx: &mut Fx<'_, Self>) {
        let Some(id) = self.by_session.get(&session).filter(|_| !mutant!(MovedUntold)) else {
            return;
        };
        let Some(peer) = self.by_id.get_mut(id) else { return };
        if let Some(live) = peer.live.as_mut() {
            live.address = address;
        }
        // New keys that are being agreed where the peer was are asked for where it is as well.
        if let Some(dial) = &mut peer.dial {
            dial.widen(&[address], fx);
        }
    }

    fn shut_down(&mut self, fx: &mut Fx<'_, Self>) {
        self.shut_down = true;
        let dialling: Vec<EntityId> = self.by_attempt.values().copied().collect();
        for peer in dialling {
            let dial = self.by_id.get_mut(&peer).and_then(|peer| peer.dial.as_mut());
            for command in dial.map(|dial| core::mem::take(&mut dial.waiting)).unwrap_or_default() {
                fx.emit(Out::ConnectFailed {
                    command,
                    peer,
                    why: Failure::Cancelled,
                });
            }
            self.end_dial(&peer, fx);
        }
    }

    fn next_session(&mut self) -> SessionKey {
        self.next_session += 1;
        SessionKey(self.next_session)
    }

    fn tidy(&mut self, peer: &EntityId) {
        if self
            .by_id
            .get(peer)
            .is_some_and(|peer| peer.live.is_none() && peer.dial.is_none())
        {
            self.by_id.remove(peer);
        }
    }
}

impl Live {
    /// Whether `agreed` is a new key for this very association. A peer in a later epoch knows nothing of it, even
    /// if it came up from the same seed and draws the same labels again.
    fn serves(&self, agreed: &Agreed) -> bool {
        (self.epoch == agreed.epoch || mutant!(RestartUnnoticed))
            && self.local == agreed.local_association
            && self.remote == agreed.remote_association
    }
}

/// The peer book waits for nothing itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {}

impl Machine for Peers {
    const NAME: &'static str = "peers";
    type In<'b> = In<'b>;
    type Out = Out;
    type Timer = Timer;
    type Job = core::convert::Infallible;
    type View<'v> = ();

    fn handle(&mut self, input: In<'_>, (): (), fx: &mut Fx<'_, Self>) {
        match input {
            In::Connect {
                command,
                peer,
                addresses,
            } => self.connect(command, peer, addresses, fx),
            In::Cancel(command) => self.cancel(command, fx),
            In::Dialled(attempt, agreed) => self.dialled(attempt, agreed, fx),
            In::Failed {
                attempt,
                sent,
                unreachable,
            } => self.failed(attempt, Failure::Silent { sent, unreachable }, fx),
            In::Unusable(attempt) => self.unusable(attempt, fx),
            In::DialledRefused(attempt, agreed, why) => {
                self.failed(attempt, Failure::PeerRolledBack, fx);
                self.confirmed(agreed, why, fx);
            }
            In::Confirmed(agreed, admission) => self.confirmed(agreed, admission, fx),
            In::Ended(session) => self.ended(session, fx),
            In::RekeyDue(session) => self.rekey(session, fx),
            In::Moved(session, address) => self.moved(session, address, fx),
            In::ShutDown => self.shut_down(fx),
        }
    }

    fn fire(&mut self, timer: Timer, (): (), _: &mut Fx<'_, Self>) {
        match timer {}
    }

    fn check(&self) {
        assert!(
            self.by_attempt.len() <= MAX_ATTEMPTS + self.by_session.len(),
            "dials are bounded"
        );
        assert!(self.by_session.len() <= self.max_sessions, "sessions are bounded");
        for (session, peer) in &self.by_session {
            let live = self.by_id.get(peer).and_then(|peer| peer.live);
            assert_eq!(live.map(|live| live.session), Some(*session), "both tables agree");
        }
        for (attempt, peer) in &self.by_attempt {
            let dial = self.by_id.get(peer).and_then(|peer| peer.dial.as_ref());
            assert_eq!(dial.map(|dial| dial.attempt), Some(*attempt), "both tables agree");
        }
    }
}
