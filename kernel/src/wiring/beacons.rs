//! What is spoken to the segment of the network, and what is heard there.
//!
//! Invariants: whom a beacon tells of is joined as if the user had said so, and may be refused like anybody. Not here: what
//! counts of what is heard (`net-mesh`).

use net_base::{Check, Now};
use net_mesh::beacons::{Out, Segment};
use net_mesh::mesh::In as MeshIn;
use net_session::aead::Aead;

use crate::Kernel;

impl<A: Aead, C: Check> Kernel<A, C> {
    pub(crate) fn on_segment(&mut self, now: Now, segment: Segment<'_>) {
        let Some(beacons) = &mut self.beacons else { return };
        beacons.handle(now, segment, self.trust.machine().table());
    }

    /// Runs every timer of the beacons that is due.
    pub(crate) fn fire_beacons(&mut self, now: Now) {
        if let Some(beacons) = &mut self.beacons {
            while beacons.fire_due(now, self.trust.machine().table()) {}
        }
    }

    /// Carries out what was decided about beacons.
    pub(crate) fn wire_beacons(&mut self, now: Now, out: Out) {
        match out {
            Out::Speak(datagram) => self.spoken.push(datagram),
            Out::Found(peer, addresses) => self.tell_mesh(now, MeshIn::Found(peer, addresses)),
            Out::Silent(peer) => self.tell_mesh(now, MeshIn::Silent(peer)),
            Out::Dropped(reason) => self.drops.count(reason),
        }
    }
}
