//! Segments of the network: what one machine speaks there, every machine on it may hear.
//!
//! Invariants: each machine's copy takes its own way, with that way's fates; a machine hears itself too. Not here: what is
//! spoken (`net-kernel`), links (`net.rs`).

use net_kernel::api::{Input, Segment};

use super::World;
use super::event::What;
use crate::host::Host;
use crate::scenario::Said;

/// How long a machine's own words take back to it.
const OWN_DELAY: u64 = 20_000;

impl<H: Host> World<H> {
    /// A machine was started, or moved and its driver knows: it speaks to its segment and hears it.
    pub(super) fn join_segment(&mut self, node: u32) {
        let Some(said) = self.scenario.mesh.as_ref().and_then(|mesh| mesh.multicast) else {
            return;
        };
        let address = self.nodes[node as usize].address;
        for other in 0..self.nodes.len() as u32 {
            if other != node && self.shares_segment(node, other) {
                // They may dial each other once they are heard: the user asked for it.
                self.dials(node, self.nodes[other as usize].address);
                self.dials(other, address);
            }
        }
        let addresses = [address];
        let joined = Segment::Joined {
            port: address.port(),
            addresses: match said {
                Said::Address => &addresses,
                Said::Nothing => &[],
            },
        };
        self.turn(node, Input::Segment(joined));
    }

    /// Machines behind one NAT box are on one segment, and so are those behind none.
    fn shares_segment(&self, a: u32, b: u32) -> bool {
        let home = |of: u32| self.scenario.nodes[self.nodes[of as usize].identity as usize].nat;
        home(a) == home(b)
    }

    /// A machine spoke: a copy for everybody on its segment.
    pub(super) fn spread(&mut self, node: u32, slot: u32) {
        for other in 0..self.nodes.len() as u32 {
            if other == node || !self.shares_segment(node, other) {
                continue;
            }
            let copy = self.pool.copy(slot);
            // It is one of several, and none is another's repetition.
            self.pool.get_mut(copy).copied = false;
            self.accounts.sent += 1;
            self.tell_sent(node, copy, Some(other));
            self.travel(node, other, copy);
        }
        self.queue.push(self.now + OWN_DELAY, What::Arrive { slot, node });
    }
}
