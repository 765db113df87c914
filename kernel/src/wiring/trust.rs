//! What admission decides.
//!
//! Invariants: whoever is no longer admitted holds no session at the end of the turn. Not here: the list
//! (`net-trust`).

use alloc::vec::Vec;

use net_base::{Check, EntityId, Now, SessionKey};
use net_session::aead::Aead;
use net_trust::Out;
use net_wire::CloseCode;

use crate::Kernel;
use crate::api::Event;

impl<A: Aead, C: Check> Kernel<A, C> {
    pub(crate) fn wire_trust(&mut self, now: Now, out: Out) {
        match out {
            Out::StoreFailed(error) => self.events.push(Event::StoreFailed { error }),
            Out::AllowChanged => {
                let table = self.trust.machine().table();
                let expelled: Vec<(SessionKey, EntityId)> = self
                    .peers
                    .machine()
                    .sessions()
                    .filter(|(_, peer)| !table.admits(peer))
                    .collect();
                for (session, peer) in expelled {
                    self.close_session(now, session, peer, CloseCode::NotAllowed, "no longer on the list");
                }
            }
        }
    }
}
