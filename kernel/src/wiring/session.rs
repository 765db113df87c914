//! What the lanes notice.
//!
//! Invariants: a session's end reaches every table and its user once. Not here: packets (`net-session`).

use net_base::{Check, CommandId, EntityId, Epoch, Now, SessionKey, routed};
use net_mesh::In as PeersIn;
use net_session::aead::Aead;
use net_session::lane::{Closed, Notice, What};
use net_session::roster::Live;
use net_wire::CloseCode;

use crate::Kernel;
use crate::api::{CloseReason, Event};

impl<A: Aead, C: Check> Kernel<A, C> {
    /// Carries out every notice of the lanes. False where there was none.
    pub(crate) fn take_notices(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(notice) = self.lanes.pop_notice() {
            any = true;
            self.wire_session(now, notice);
        }
        any
    }

    fn wire_session(&mut self, now: Now, notice: Notice) {
        let Some(Notice { session, what }) = self.take_control(now, notice) else {
            return;
        };
        let event = match what {
            What::StreamOpened(stream, reliability, subprotocol) => {
                self.credits.open(session, stream);
                let credit = self.credits.limit();
                Event::StreamOpened {
                    session,
                    stream,
                    reliability,
                    subprotocol,
                    credit,
                }
            }
            What::Writable(stream, bytes) => match self.credits.restore(session, stream, bytes) {
                Some(bytes) => Event::Writable { session, stream, bytes },
                None => return,
            },
            What::Finished(stream) => Event::Finished { session, stream },
            What::Flushed(stream) => Event::Flushed { session, stream },
            What::Reset(stream, code) => Event::StreamReset { session, stream, code },
            What::Stopped(stream, code) => Event::StreamStopped { session, stream, code },
            What::Gone(stream) => return self.credits.close(session, stream),
            What::Echo(token, rtt) => Event::Echo {
                session,
                command: CommandId(token),
                rtt,
            },
            What::Moved(address) => {
                self.moved(now, session, address);
                Event::Moved { session, address }
            }
            What::RekeyDue => return self.peers.handle(now, PeersIn::RekeyDue(session), ()),
            What::Rekeyed => Event::Rekeyed { session },
            What::Closed(why) => return self.closed(now, session, why),
        };
        self.events.push(event);
    }

    fn moved(&mut self, now: Now, session: SessionKey, address: net_base::Addr) {
        self.peers.handle(now, PeersIn::Moved(session, address), ());
        let Some(peer) = self.peers.machine().peer_of(session) else {
            return;
        };
        if let Some(&live) = self.roster.get(&peer) {
            self.roster.set(peer, Live { address, ..live });
        }
        self.note_path(session, &address);
        if !routed::is_routed(&address)
            && let Some(epoch) = self.peers.machine().epoch_of(session)
        {
            self.link(now, session, peer, epoch);
        }
    }

    /// A session ended by its peer, by silence or by a breach of the protocol.
    fn closed(&mut self, now: Now, session: SessionKey, why: Closed) {
        // A session that was refused or closed here before is in no table any more.
        let Some(peer) = self.peers.machine().peer_of(session) else {
            return;
        };
        let why = match why {
            Closed::Remote { code, detail, text } => {
                if code == CloseCode::StateRolledBack {
                    self.events.push(Event::StateRolledBack {
                        peer,
                        known: Epoch(detail),
                    });
                }
                CloseReason::Remote { code, text }
            }
            Closed::TimedOut => CloseReason::TimedOut,
            Closed::Violation(reason) => CloseReason::Local(net_session::lane::close_code(reason)),
        };
        self.end(now, session, peer, why);
    }

    /// Closes a live session and tells its peer.
    pub(crate) fn close_session(
        &mut self,
        now: Now,
        session: SessionKey,
        peer: EntityId,
        code: CloseCode,
        words: &str,
    ) {
        if let Some(lane) = self.lanes.of(session) {
            lane.close(now.mono, session, code, 0, words);
        }
        self.end(now, session, peer, CloseReason::Local(code));
    }

    fn end(&mut self, now: Now, session: SessionKey, peer: EntityId, why: CloseReason) {
        self.peers.handle(now, PeersIn::Ended(session), ());
        self.forget(now, session, &peer);
        self.events.push(Event::Closed { session, peer, why });
    }
}
