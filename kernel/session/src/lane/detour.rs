//! Ways over relays: when a session takes one, when it leaves it, and what relays need of a lane.
//!
//! Invariants: a session leaves a routed path only for an address at which the peer answered; while its direct path counts
//! as failed, nothing that arrives there moves it back. Not here: which way leads where, and who failed (`net-mesh`).

use net_base::{Addr, Check, Instant, SessionId, mutant, reachable, routed};
use net_wire::{DropReason, Routed};

use crate::SessionKey;
use crate::aead::Aead;

use super::Lane;
use super::association::{Association, ROUTED_OVERHEAD};

impl<C: Check> Association<C> {
    /// Datagrams to `to` share their room with what relays add.
    pub(crate) fn set_overhead(&mut self, to: &Addr) {
        self.mtu
            .set_overhead(if routed::is_routed(to) { ROUTED_OVERHEAD } else { 0 });
    }

    /// Whether a packet to `to` looks for a direct path beside the way over relays. Nobody expects it to arrive, so its loss
    /// says nothing of the way in use: it would close its window.
    pub(crate) fn is_probe(&self, to: &Addr) -> bool {
        !routed::is_routed(to) && routed::is_routed(&self.path.active())
    }

    /// Something must be heard of the peer itself.
    pub(crate) fn beat(&mut self, now: Instant) {
        if !routed::is_routed(&self.path.active()) {
            self.ping = true;
        } else if let Some(direct) = self.direct {
            if self.detour {
                self.knock = Some((direct, self.rng.bytes8()));
            } else {
                self.hope(now, direct, true);
            }
        }
    }

    /// Asks for an answer at `addr`, and moves there once it comes.
    fn hope(&mut self, now: Instant, addr: Addr, known: bool) {
        let challenge = self.rng.bytes8();
        let pto = self.recovery.pto();
        if self.path.on_hope(now, addr, known, pto, challenge) {
            reachable!(self.passed, PathHoped);
        }
    }

    /// The direct path failed: what is under way is lost, and everything takes the way over relays at once.
    fn take_detour(&mut self, now: Instant, to: Addr) {
        let from = self.path.active();
        if routed::is_routed(&from) {
            return self.hurry(now);
        }
        reachable!(self.passed, PathDetour);
        self.direct = Some(from);
        self.detour = true;
        self.path.relocate(to, true);
        self.arrive(now, to);
        self.hurry(now);
    }

    /// Sends again what may be lost without waiting for a timeout: data, and what was acknowledged last.
    fn hurry(&mut self, now: Instant) {
        self.recovery.on_reroute();
        self.received.owe_again(now);
        if self.recovery.eliciting_outstanding() == 0 {
            self.ping = true;
        } else if !mutant!(RerouteWaits) {
            self.repeat_oldest();
            self.probes = 2;
            self.probe_size = self.mtu.base();
        }
    }
}

impl<A: Aead, C: Check> Lane<A, C> {
    /// Whether a routed datagram came over a hop of ours, whose session is named.
    ///
    /// # Errors
    /// `UnknownSession`, `KeyExpired`, `Replayed`, `BelowWindow`, `AeadFailure`: it is to be dropped, nothing changed.
    #[inline]
    pub fn open_hop(&mut self, now: Instant, routed: &Routed<'_>) -> Result<SessionKey, DropReason> {
        let slot = self.slots.get_mut(routed.trailer.session);
        let slot = slot.ok_or(DropReason::UnknownSession)?;
        let session = slot.open_hop(now, &self.config, routed)?;
        if let Some(association) = self.associations.get_mut(&session) {
            // Any authentic packet shows that the neighbour is there.
            association.heard_direct = now;
        }
        Ok(session)
    }

    /// Where a neighbour takes routed datagrams, and the key they are tagged with; `None` where the session cannot carry
    /// any now.
    #[inline]
    #[must_use]
    pub fn hop(&self, now: Instant, session: SessionKey) -> Option<(Addr, SessionId)> {
        let association = self.associations.get(&session)?;
        let to = association.path.active();
        let id = association.current.id;
        let usable = association.is_open() && !routed::is_routed(&to);
        let slot = self.slots.get(id).filter(|_| usable)?;
        (!slot.is_expired(now, &self.config)).then_some((to, id))
    }

    /// Writes the trailer of a routed datagram under a key that [`Self::hop`] named.
    #[inline]
    pub fn seal_hop(&mut self, id: SessionId, datagram: &mut [u8]) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.seal_hop(datagram);
        }
    }

    /// Where the peer is reached now.
    #[must_use]
    pub fn address(&self, session: SessionKey) -> Option<Addr> {
        Some(self.associations.get(&session)?.path.active())
    }

    /// The session's direct path failed: it takes the way over relays to `to`; where it does that already, the way is another
    /// one. What may have been lost is sent again at once. False for an unknown session.
    pub fn detour(&mut self, now: Instant, session: SessionKey, to: Addr) -> bool {
        self.with(session, |association| association.take_detour(now, to))
    }

    /// The direct path works again, as far as is known: it is taken as soon as the peer answers there. False for an unknown
    /// session.
    pub fn go_direct(&mut self, now: Instant, session: SessionKey) -> bool {
        self.with(session, |association| {
            association.detour = false;
            association.beat(now);
        })
    }

    /// Asks whether the peer of a session over relays answers at `addr`, which nobody vouches for. False for an unknown
    /// session.
    pub fn try_direct(&mut self, now: Instant, session: SessionKey, addr: Addr) -> bool {
        self.with(session, |association| {
            if routed::is_routed(&association.path.active()) && !association.detour {
                association.hope(now, addr, false);
            }
        })
    }
}
