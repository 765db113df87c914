//! What the lanes hand up: data for the application, handshake packets, and keys that a peer confirmed.
//!
//! Invariants: nothing from a first message takes effect before the packet that confirms it authenticated.
//! Not here: opening packets (`net-session`).

use net_base::trace::digest;
use net_base::{Check, Now, mutant, sometimes};
use net_mesh::{Admission, Agreed};
use net_session::aead::Aead;
use net_session::handshake::{In, View};
use net_session::lane::{KeyInfo, Up};
use net_session::rx::{RxBatch, Spot};
use net_wire::subprotocol::MESH;

use crate::Kernel;
use crate::api::Io;

impl<A: Aead, C: Check> Kernel<A, C> {
    /// Reads a batch to its end.
    pub(crate) fn receive(&mut self, now: Now, mut batch: RxBatch<'_>, io: &mut dyn Io) {
        let traces = io.is_tracing();
        if let Some(crew) = io.crew() {
            self.lanes.open_ahead(now.mono, &mut batch, crew, traces);
        }
        loop {
            let awaiting = self.handshakes.machine();
            let up = self
                .lanes
                .next_up(now.mono, &mut batch, |id| awaiting.awaits(id), &mut |batch, spot| {
                    if traces {
                        note(batch, spot, io);
                    }
                });
            match up {
                None => return,
                Some(Up::Part(part)) if part.subprotocol == MESH => {
                    self.controls.take(part);
                    self.heed(now);
                }
                Some(Up::Messages(messages)) if messages.stream().2 == MESH => {
                    messages.for_each(|part| self.controls.take(part));
                    self.heed(now);
                }
                Some(Up::Routed(spot)) => self.routed(now, &mut batch, spot, io),
                Some(Up::Part(part)) => io.deliver(part),
                Some(Up::Messages(messages)) => messages.for_each(|part| io.deliver(part)),
                Some(Up::Handshake(datagram)) => {
                    let view = View {
                        trust: self.trust.machine().table(),
                        roster: &self.roster,
                    };
                    let input = In::Packet {
                        from: datagram.from,
                        bytes: datagram.bytes,
                    };
                    self.handshakes.handle(now, input, view);
                    self.settle(now);
                }
                Some(Up::Confirm(info)) => {
                    self.confirm(now, &info);
                    self.settle(now);
                }
            }
        }
    }

    /// A peer's first packet under a key we answered it with authenticated.
    fn confirm(&mut self, now: Now, info: &KeyInfo) {
        let view = View {
            trust: self.trust.machine().table(),
            roster: &self.roster,
        };
        self.handshakes.handle(now, In::Settled { local: info.local }, view);
        let table = self.trust.machine().table();
        // Another handshake of the same peer may have been confirmed since this one was answered.
        if table.floor(&info.peer) >= Some((info.peer_epoch, info.handshake))
            && self.admission(info) == Admission::Admitted
            && !mutant!(LateConfirmTaken)
        {
            return self.lanes.by_id(info.local).forget(info.local);
        }
        let admission = self.admission(info);
        sometimes!(
            self.passed,
            EpochRollback,
            matches!(admission, Admission::RolledBack { .. })
        );
        sometimes!(self.passed, NotAdmitted, admission == Admission::NotAllowed);
        if admission == Admission::Admitted {
            self.remember(now, info);
        }
        self.peers
            .handle(now, net_mesh::In::Confirmed(agreed(info), admission), ());
    }

    /// Whether the peer may hold a session.
    pub(crate) fn admission(&self, info: &KeyInfo) -> Admission {
        let table = self.trust.machine().table();
        if !table.admits(&info.peer) {
            return Admission::NotAllowed;
        }
        match table.floor(&info.peer) {
            Some((known, _)) if known > info.peer_epoch => Admission::RolledBack { known },
            Some(_) | None => Admission::Admitted,
        }
    }

    /// Remembers the peer's epoch, and the counter where the peer started the handshake.
    pub(crate) fn remember(&mut self, now: Now, info: &KeyInfo) {
        let counter = if info.initiator { 0 } else { info.handshake };
        self.trust.handle(
            now,
            net_trust::In::Confirmed {
                peer: info.peer,
                epoch: info.peer_epoch,
                counter,
            },
            (),
        );
    }
}

/// What the peer book needs to know of a key.
pub(crate) fn agreed(info: &KeyInfo) -> Agreed {
    Agreed {
        local: info.local,
        peer: info.peer,
        epoch: info.peer_epoch,
        local_association: info.local_association,
        remote_association: info.remote_association,
        address: info.address,
    }
}

/// Folds a datagram into the trace: by the digest its sender's kernel computed, where there is one.
fn note(batch: &mut RxBatch<'_>, spot: Spot, io: &mut dyn Io) {
    let datagram = batch.at(spot);
    let known = datagram.digest.unwrap_or_else(|| digest(datagram.bytes));
    let len = datagram.bytes.len();
    io.received(len, known);
}
