//! What the mesh decides, and what it is told of sessions and its streams.
//!
//! Invariants: a neighbour's stream gets its credit back for every byte, whether the message was good or not; a node that
//! is part of no mesh reads and answers nothing of it. Not here: what messages lead to (`net-mesh`).

use net_base::{Addr, Check, CommandId, Duration, EntityId, Epoch, Instant, Now, SessionKey};
use net_mesh::In as PeersIn;
use net_mesh::mesh::{In, Out, View, Vitals};
use net_session::aead::Aead;
use net_session::lane::many::Lanes;
use net_session::lane::{Notice, StreamSetup, What};
use net_wire::subprotocol::MESH;
use net_wire::{DropReason, Reliability};

use crate::Kernel;
use crate::api::Event;
use crate::wiring::control::Told;

/// In place of a user's command: the mesh dials.
pub(crate) const JOIN: CommandId = CommandId(u64::MAX);
/// Bytes of ours that may wait in a neighbour's stream.
const ROOM: u64 = 64 << 10;

/// What the lanes know of a session's peer.
struct Heard<'l, A: Aead, C: Check>(&'l Lanes<A, C>);

impl<A: Aead, C: Check> Vitals for Heard<'_, A, C> {
    fn heard(&self, session: SessionKey) -> Option<Instant> {
        self.0.peek_of(session)?.heard_at(session)
    }

    fn rtt(&self, session: SessionKey) -> Option<Duration> {
        self.0.peek_of(session)?.rtt(session)
    }
}

impl<A: Aead, C: Check> Kernel<A, C> {
    /// Tells the mesh something, where there is one.
    pub(crate) fn tell_mesh(&mut self, now: Now, input: In<'_>) {
        if let Some(mesh) = &mut self.mesh {
            let view = View {
                trust: self.trust.machine().table(),
                vitals: &Heard(&self.lanes),
            };
            mesh.handle(now, input, view);
        }
    }

    /// Runs every timer of the mesh that is due.
    pub(crate) fn fire_mesh(&mut self, now: Now) {
        let Some(mesh) = &mut self.mesh else { return };
        let view = View {
            trust: self.trust.machine().table(),
            vitals: &Heard(&self.lanes),
        };
        while mesh.fire_due(now, view) {}
        self.settle(now);
    }

    /// A session has a direct path: its peer is a neighbour.
    pub(crate) fn link(&mut self, now: Now, session: SessionKey, peer: EntityId, epoch: Epoch) {
        if self.mesh.is_none() || self.controls.outgoing(session).is_some() {
            return;
        }
        let setup = StreamSetup {
            reliability: Reliability::Reliable,
            priority: u8::MAX,
            weight: 256,
            subprotocol: MESH,
        };
        let Some(Ok(stream)) = self.lanes.of(session).map(|lane| lane.open_stream(session, setup)) else {
            return;
        };
        self.controls.open(session, stream);
        let up = In::LinkUp {
            session,
            peer,
            epoch,
            room: ROOM,
        };
        self.tell_mesh(now, up);
        self.read_told(now);
    }

    /// A session ended.
    pub(crate) fn unlink(&mut self, now: Now, session: SessionKey) {
        self.controls.end(session);
        self.tell_mesh(now, In::LinkDown(session));
    }

    /// Reads the messages that arrived whole, and carries out what follows.
    pub(crate) fn heed(&mut self, now: Now) {
        self.read_told(now);
        self.settle(now);
    }

    fn read_told(&mut self, now: Now) {
        while let Some(told) = self.controls.pop() {
            let counts = self.controls.incoming(told.session) == Some(told.stream) && !told.bytes.is_empty();
            if self.mesh.is_none() || !counts {
                if self.mesh.is_some() {
                    self.drops.count(DropReason::MalformedMesh);
                }
                self.return_credit(&told);
                continue;
            }
            match self.controls.hold(told) {
                None => {}
                Some(told) if self.controls.outgoing(told.session).is_some() => {
                    let (session, bytes) = (told.session, &told.bytes[..]);
                    self.tell_mesh(now, In::Message { session, bytes });
                }
                Some(told) => {
                    self.drops.count(DropReason::RateLimited);
                    self.return_credit(&told);
                }
            }
        }
    }

    /// A message that is not read took its part of the stream's credit all the same.
    fn return_credit(&mut self, told: &Told) {
        if let Some(lane) = self.lanes.of(told.session) {
            lane.consumed(told.session, told.stream, told.len, 1);
        }
    }

    /// Keeps what lanes notice of the mesh's streams from the application. Answers what is not of them.
    pub(crate) fn take_control(&mut self, now: Now, notice: Notice) -> Option<Notice> {
        let session = notice.session;
        let stream = match notice.what {
            What::StreamOpened(stream, _, MESH) => {
                self.controls.meet(session, stream);
                return None;
            }
            What::StreamOpened(stream, ..)
            | What::Writable(stream, _)
            | What::Finished(stream)
            | What::Flushed(stream)
            | What::Reset(stream, _)
            | What::Stopped(stream, _)
            | What::Gone(stream) => stream,
            What::Echo(..) | What::Moved(_) | What::RekeyDue | What::Rekeyed | What::Closed(_) => return Some(notice),
        };
        if !self.controls.owns(session, stream) {
            return Some(notice);
        }
        if let What::Writable(stream, bytes) = notice.what
            && self.controls.outgoing(session) == Some(stream)
        {
            self.tell_mesh(now, In::Writable(session, bytes));
        }
        None
    }

    /// Carries out what the mesh decided.
    pub(crate) fn wire_mesh(&mut self, now: Now, out: Out) {
        match out {
            Out::Send(session, message) => {
                if let Some(stream) = self.controls.outgoing(session)
                    && let Some(lane) = self.lanes.of(session)
                {
                    // A session that is ending takes nothing any more, and its end is told to the mesh.
                    let _ = lane.send(session, stream, core::iter::once(message.bytes()));
                }
            }
            Out::Done(session, len) => {
                if let Some(stream) = self.controls.incoming(session)
                    && let Some(lane) = self.lanes.of(session)
                {
                    lane.consumed(session, stream, len, 1);
                }
            }
            Out::Heartbeat(session) => {
                if let Some(lane) = self.lanes.of(session) {
                    lane.ping(now.mono, session);
                }
            }
            Out::Rekey(session) => {
                if let Some(lane) = self.lanes.of(session) {
                    lane.rekey(now.mono, session);
                }
            }
            Out::Dial(peer, addresses) => {
                if !self.trust.machine().table().admits(&peer) {
                    return self.tell_mesh(now, In::DialFailed(peer));
                }
                if let Some(session) = self.peers.machine().session_of(&peer) {
                    return self.dial_over(now, session, peer, &addresses);
                }
                // Over relays as well: a session there is one from which the direct path can be looked for.
                let addresses = self.ways_to(&peer, &addresses).unwrap_or(addresses);
                let dial = PeersIn::Connect {
                    command: JOIN,
                    peer,
                    addresses: &addresses,
                };
                self.peers.handle(now, dial, ());
            }
            Out::Dropped(reason) => self.drops.count(reason),
            Out::Rerouted(node) => self.find_way(now, node),
            Out::Fact(fact) => {
                self.heed_fact(now, &fact);
                self.events.push(Event::Mesh(fact));
            }
        }
    }

    /// A peer that is to be a neighbour has a session over relays: is it where it is said to be?
    fn dial_over(&mut self, now: Now, session: SessionKey, peer: EntityId, addresses: &[Addr]) {
        if let Some(lane) = self.lanes.of(session)
            && !addresses.is_empty()
        {
            let turn = self.afar.next_turn(addresses.len());
            lane.try_direct(now.mono, session, addresses[turn]);
        }
        self.tell_mesh(now, In::DialFailed(peer));
    }
}
