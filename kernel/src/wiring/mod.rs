//! Where machines meet: one file per layer, each matching its machine's decisions exhaustively.
//!
//! | file | role |
//! |---|---|
//! | `receive.rs` | what the lanes hand up |
//! | `session.rs` | what the lanes notice |
//! | `handshake.rs` | what the handshakes decide |
//! | `peers.rs` | what the peer book decides |
//! | `trust.rs` | what admission decides |
//! | `command.rs` | what the user asks for |
//! | `mesh.rs`, `control.rs` | what the mesh decides; the streams its messages travel on |
//! | `relay.rs` | packets that go over relays |
//! | `beacons.rs` | what is spoken and heard on the segment |
//! | `credit.rs` | how much each stream may still send |
//! | `traced.rs` | folds what a turn does into the trace |
//!
//! Invariants: a decision is wired or does not compile; what is decided during a step is carried out in the
//! same turn, never recursively. Not here: decisions.

mod beacons;
mod command;
pub(crate) mod control;
pub(crate) mod credit;
mod handshake;
mod mesh;
mod peers;
mod receive;
pub(crate) mod relay;
mod session;
pub(crate) mod traced;
mod trust;

use net_base::{Check, Now};
use net_session::aead::Aead;

use crate::Kernel;

impl<A: Aead, C: Check> Kernel<A, C> {
    /// Carries decisions from machine to machine until none is left. Ends, because every decision consumes an
    /// input, a timer or a job, and machines answer decisions with fewer.
    pub(crate) fn settle(&mut self, now: Now) {
        loop {
            if let Some(out) = self.peers.pop_out() {
                self.wire_peers(now, out);
            } else if let Some(out) = self.handshakes.pop_out() {
                self.wire_handshake(now, out);
            } else if let Some(out) = self.trust.pop_out() {
                self.wire_trust(now, out);
            } else if let Some(out) = self.mesh.as_mut().and_then(net_base::Seat::pop_out) {
                self.wire_mesh(now, out);
            } else if let Some(out) = self.beacons.as_mut().and_then(net_base::Seat::pop_out) {
                self.wire_beacons(now, out);
            } else {
                return;
            }
        }
    }
}
