//! What the peer book decides.
//!
//! Invariants: roster, credit and lanes learn of a session's start and end together. Not here: why (`net-mesh`).

use net_base::rng::Seed;
use net_base::{Check, Now, SessionKey, routed};
use net_mesh::mesh::In as MeshIn;
use net_mesh::{Admission, Agreed, Failure, Out, Refusal};
use net_session::aead::Aead;
use net_session::handshake::{In as HandshakeIn, View};
use net_session::roster::Live;
use net_wire::{CloseCode, DropReason};

use super::mesh::JOIN;
use crate::Kernel;
use crate::api::{CloseReason, ConnectError, Event, Refused};

impl<A: Aead, C: Check> Kernel<A, C> {
    pub(crate) fn wire_peers(&mut self, now: Now, out: Out) {
        match out {
            Out::Dial {
                attempt,
                peer,
                addresses,
                association,
            } => {
                self.tell_handshakes(
                    now,
                    HandshakeIn::Dial {
                        attempt,
                        peer,
                        addresses,
                        association,
                    },
                );
            }
            Out::Also(attempt, addresses) => self.tell_handshakes(now, HandshakeIn::Also(attempt, addresses)),
            Out::CancelDial(attempt) => self.tell_handshakes(now, HandshakeIn::Cancel(attempt)),
            Out::Start(session, agreed) => self.start(now, session, &agreed),
            Out::Adopt(session, agreed) => {
                self.lanes.by_id(agreed.local).adopt(now.mono, session, agreed.local);
            }
            Out::Propose(session, agreed) => {
                self.lanes.by_id(agreed.local).propose(now.mono, session, agreed.local);
            }
            Out::Refuse(session, agreed, why) => self.refuse(now, session, &agreed, why),
            Out::Restarted(session, peer) => {
                if let Some(lane) = self.lanes.of(session) {
                    lane.discard(session);
                }
                self.forget(now, session, &peer);
                self.events.push(Event::Closed {
                    session,
                    peer,
                    why: CloseReason::PeerRestarted,
                });
            }
            Out::Connected {
                session,
                peer,
                address,
                command,
            } => {
                if command == Some(JOIN) && routed::is_routed(&address) {
                    // It is to be a neighbour, so the search for a direct path goes on.
                    self.tell_mesh(now, MeshIn::DialFailed(peer));
                }
                self.events.push(Event::Connected {
                    session,
                    peer,
                    address,
                    command: command.filter(|&command| command != JOIN),
                });
            }
            Out::ConnectFailed { command, peer, .. } | Out::Refused { command, peer, .. } if command == JOIN => {
                self.tell_mesh(now, MeshIn::DialFailed(peer));
            }
            Out::ConnectFailed { command, peer, why } => {
                let why = connect_error(why);
                self.events.push(Event::ConnectFailed { command, peer, why });
            }
            Out::Refused { command, why, .. } => {
                let why = refused(why);
                self.events.push(Event::Refused { command, why });
            }
        }
    }

    fn tell_handshakes(&mut self, now: Now, input: HandshakeIn<'_>) {
        let view = View {
            trust: self.trust.machine().table(),
            roster: &self.roster,
        };
        self.handshakes.handle(now, input, view);
    }

    fn start(&mut self, now: Now, session: SessionKey, agreed: &Agreed) {
        self.begin(now, session, agreed);
        let live = Live {
            local: agreed.local_association,
            remote: agreed.remote_association,
            address: agreed.address,
        };
        self.roster.set(agreed.peer, live);
        self.note_path(session, &agreed.address);
        if !routed::is_routed(&agreed.address) {
            self.link(now, session, agreed.peer, agreed.epoch);
        }
    }

    fn begin(&mut self, now: Now, session: SessionKey, agreed: &Agreed) {
        // One draw per session whatever its lane, so that the number of lanes changes no other draw.
        let mut seed = [0; 32];
        self.sessions_rng.fill(&mut seed);
        let rng = Seed::new(seed).fork("session");
        let own = self.entity();
        self.lanes.place(session, &agreed.peer);
        self.lanes
            .by_id(agreed.local)
            .start(now.mono, session, agreed.local, own, rng);
    }

    /// Tells a peer that proved who it is why it gets no session.
    fn refuse(&mut self, now: Now, session: SessionKey, agreed: &Agreed, why: Admission) {
        self.begin(now, session, agreed);
        let (code, detail, words) = match why {
            Admission::Admitted | Admission::NotAllowed => {
                self.drops.count(DropReason::NotAllowed);
                (CloseCode::NotAllowed, 0, "not on the list")
            }
            Admission::RolledBack { known } => {
                self.drops.count(DropReason::StaleEpoch);
                (CloseCode::StateRolledBack, known.0, "a later epoch is known")
            }
        };
        let lane = self.lanes.by_id(agreed.local);
        lane.close(now.mono, session, code, detail, words);
        self.lanes.unplace(session);
    }

    /// Strikes a session from every table but the peer book.
    pub(crate) fn forget(&mut self, now: Now, session: SessionKey, peer: &net_base::EntityId) {
        self.unlink(now, session);
        self.afar.sessions.remove(&session);
        self.relay.forget(session);
        self.roster.remove(peer);
        self.credits.end(session);
        self.lanes.unplace(session);
    }
}

const fn connect_error(why: Failure) -> ConnectError {
    match why {
        Failure::Silent { sent, unreachable } => ConnectError::Silent { sent, unreachable },
        Failure::Cancelled => ConnectError::Cancelled,
        Failure::PeerRolledBack => ConnectError::PeerRolledBack,
    }
}

const fn refused(why: Refusal) -> Refused {
    match why {
        Refusal::BadAddresses => Refused::BadAddresses,
        Refusal::BadIdentity => Refused::BadIdentity,
        Refusal::TableFull => Refused::TableFull,
        Refusal::ShutDown => Refused::ShutDown,
    }
}
