//! What the handshakes decide.
//!
//! Invariants: a key agreed as responder is only held; a key agreed as initiator reaches the peer book at once.
//! Not here: Noise (`net-session`).

use net_base::{Check, Now, mutant, routed};
use net_mesh::{Admission, In as PeersIn};
use net_session::aead::Aead;
use net_session::handshake::Out;
use net_session::lane::KeyInfo;
use net_trust::node_id;

use crate::Kernel;

use super::receive::agreed;

impl<A: Aead, C: Check> Kernel<A, C> {
    pub(crate) fn wire_handshake(&mut self, now: Now, out: Out) {
        match out {
            Out::Transmit { to, packet } => self.post(to, packet),
            Out::Install { mut install, attempt } => {
                // Over relays the peer is where its own label leads, whatever the routing header said.
                if routed::is_routed(&install.address) {
                    install.address = routed::address(node_id(&install.peer));
                }
                let held = self.lanes.by_id(install.local).install(now.mono, &install);
                debug_assert!(held, "a random id of 60 bits is new");
                if mutant!(EpochCommittedEarly) {
                    let (peer, epoch) = (install.peer, install.peer_epoch);
                    let early = net_trust::In::Confirmed {
                        peer,
                        epoch,
                        counter: 0,
                    };
                    self.trust.handle(now, early, ());
                }
                let Some(attempt) = attempt else { return };
                let info = KeyInfo::of(&install);
                let admission = self.admission(&info);
                if matches!(admission, Admission::RolledBack { .. }) && !mutant!(AnswerUnchecked) {
                    let input = PeersIn::DialledRefused(attempt, agreed(&info), admission);
                    return self.peers.handle(now, input, ());
                }
                self.remember(now, &info);
                self.peers.handle(now, PeersIn::Dialled(attempt, agreed(&info)), ());
            }
            Out::Withdraw { local } => self.lanes.by_id(local).forget(local),
            Out::Failed {
                attempt,
                sent,
                unreachable,
            } => {
                self.peers.handle(
                    now,
                    PeersIn::Failed {
                        attempt,
                        sent,
                        unreachable,
                    },
                    (),
                );
            }
            Out::Unusable { attempt } => self.peers.handle(now, PeersIn::Unusable(attempt), ()),
            Out::Dropped(reason, _) => self.drops.count(reason),
        }
    }
}
