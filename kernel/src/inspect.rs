//! What can be seen of a kernel from outside: counts, figures, tables.
//!
//! Invariants: looking changes nothing but how much of the trace is kept. Not here: turns (`kernel.rs`).

use alloc::vec::Vec;

use net_base::probe::{Hits, Note as _, Probe, Probes as _};
use net_base::trace::Trace;
use net_base::{Check, EntityId, Seat, SessionKey};
use net_mesh::{Beacons, Mesh, Relayed};
use net_session::aead::Aead;
use net_wire::DropReason;

use crate::Kernel;
use crate::api::{Drops, Holdings, SessionStats, TimerLoad, Why};

impl<A: Aead, C: Check> Kernel<A, C> {
    /// Who this node is.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        self.trust.machine().table().identity().entity()
    }

    /// The trace, where the kernel was booted with one.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }

    /// Keeps the first `limit` records of the trace from now on, where there is one.
    pub fn keep_trace(&mut self, limit: usize) {
        if let Some(trace) = &mut self.trace {
            trace.keep(limit);
        }
    }

    /// What peers' bytes were refused for, since boot.
    #[must_use]
    pub fn drops(&self) -> Drops {
        let mut sum = self.lanes.drops();
        sum.add(&self.drops);
        sum
    }

    /// The probes passed since boot; none where nothing is checked.
    #[must_use]
    pub fn probes(&self) -> Hits {
        if !C::ON {
            return Hits::default();
        }
        let mut hits = self.lanes.hits();
        for more in [
            self.passed.hits(),
            self.handshakes.hits(),
            self.peers.hits(),
            self.trust.hits(),
            self.mesh.as_ref().map(Seat::hits).unwrap_or_default(),
            self.beacons.as_ref().map(Seat::hits).unwrap_or_default(),
        ] {
            hits.add(more);
        }
        for (reason, _) in self.drops().nonzero() {
            if let Some(probe) = refusal(reason) {
                hits.note(probe);
            }
        }
        hits
    }

    /// How much the sessions hold. Takes time in proportion to the streams.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        self.lanes.holdings()
    }

    /// How much the timers of every machine hold, and how much they may.
    #[must_use]
    pub fn timers(&self) -> [TimerLoad; 6] {
        let load = |who, load, most| TimerLoad {
            who,
            load,
            most,
            heaps: 1,
        };
        [
            load(
                Why::Handshake,
                self.handshakes.timers(),
                self.handshakes.machine().most_timers(),
            ),
            load(Why::Peers, self.peers.timers(), 0),
            load(Why::Trust, self.trust.timers(), 1),
            load(
                Why::Mesh,
                self.mesh.as_ref().map(Seat::timers).unwrap_or_default(),
                Mesh::MOST_TIMERS,
            ),
            load(
                Why::Beacons,
                self.beacons.as_ref().map(Seat::timers).unwrap_or_default(),
                Beacons::MOST_TIMERS,
            ),
            TimerLoad {
                who: Why::Session,
                load: self.lanes.timers(),
                most: self.lanes.holdings().sessions,
                heaps: usize::from(self.lanes.count()),
            },
        ]
    }

    /// The public ephemeral keys that a thief of the memory can make of the handshake generator's state, who tries each of
    /// `lent` for the bytes that the operating system lent. Changes nothing.
    #[must_use]
    pub fn loot(&self, lent: &[[u8; 32]]) -> Vec<[u8; 32]> {
        self.handshakes.machine().loot(lent)
    }

    /// Whether any key in memory opens `packet`: what a thief of the memory could read. Changes nothing.
    #[must_use]
    pub fn opens(&self, packet: &[u8]) -> bool {
        self.lanes.iter().any(|lane| lane.opens(packet))
    }

    /// Every session with its peer, in the order they began.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionKey, EntityId)> + '_ {
        self.peers.machine().sessions()
    }

    /// What is known of the mesh, where this node is part of one.
    #[must_use]
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref().map(Seat::machine)
    }

    /// What is spoken and heard on the segment, where this node is part of a mesh.
    #[must_use]
    pub fn beacons(&self) -> Option<&Beacons> {
        self.beacons.as_ref().map(Seat::machine)
    }

    /// What was sent on for others since boot.
    #[must_use]
    pub const fn relayed(&self) -> Relayed {
        self.relay.relayed()
    }

    /// Figures of a session.
    #[must_use]
    pub fn stats(&self, session: SessionKey) -> Option<SessionStats> {
        self.lanes.peek_of(session)?.stats(session)
    }
}

/// The probe that a refusal for this reason passes: its count says so already.
fn refusal(reason: DropReason) -> Option<Probe> {
    const PROBES: [(DropReason, Probe); 14] = [
        (DropReason::CookieRequired, Probe::CookieDemanded),
        (DropReason::CookieInvalid, Probe::CookieInvalid),
        (DropReason::DuplicateHandshake, Probe::InitiationCopied),
        (DropReason::StaleHandshake, Probe::InitiationStale),
        (DropReason::BadMac, Probe::InitiationBadMac),
        (DropReason::NoiseFailure, Probe::NoiseRefused),
        (DropReason::EpochTooFar, Probe::EpochTooFar),
        (DropReason::PendingFull, Probe::PendingCrowded),
        (DropReason::KeyExpired, Probe::KeyExpired),
        (DropReason::Replayed, Probe::Replayed),
        (DropReason::BelowWindow, Probe::BelowWindow),
        (DropReason::AeadFailure, Probe::Tampered),
        (DropReason::UnknownSession, Probe::UnknownSession),
        (DropReason::AckOfUnsent, Probe::AckOfUnsent),
    ];
    PROBES
        .iter()
        .find(|(known, _)| *known == reason)
        .map(|&(_, probe)| probe)
}
