//! A kernel as a host: the cipher is a type parameter, invariants are checked after every turn, the trace is on.
//!
//! Invariants: an identity follows from its bytes alone, whatever has to be drawn again.
//! Not here: the world (`world/`).

use std::any::TypeId;

use net_kernel::Kernel;
use net_kernel::api::{Boot, Deadline, Drops, Holdings, Input, Io, SessionStats, TimerLoad};
use net_kernel::base::probe::Hits;
use net_kernel::base::rng::{Secret, Seed};
use net_kernel::base::trace::{Record, Trace};
use net_kernel::base::{Check, Checked, EntityId, NoCheck, Now};
use net_kernel::session::SessionKey;
use net_kernel::session::aead::{Aead, Reference};
use net_kernel::trust::{Identity, NetworkKey};

use crate::aead::Clear;
use crate::host::{Host, Start};

/// A kernel under cipher `A`, verified according to `C`.
pub struct KernelHost<A: Aead, C: Check = Checked>(Kernel<A, C>);

/// A verified kernel under the clear AEAD.
pub type ClearKernel = KernelHost<Clear>;
/// A verified kernel under ChaCha20-Poly1305.
pub type RealKernel = KernelHost<Reference>;
/// A kernel as shipped under the clear AEAD, for measuring.
pub type ClearUnchecked = KernelHost<Clear, NoCheck>;
/// A kernel as shipped under ChaCha20-Poly1305, for measuring.
pub type RealUnchecked = KernelHost<Reference, NoCheck>;

/// The identity that follows from these bytes. Half of all keys are not identities (their sign bit is set); the next
/// candidate is a hash away.
#[must_use]
pub fn identity(bytes: &[u8; 32]) -> Identity {
    let mut candidate = *bytes;
    loop {
        if let Ok(identity) = Identity::from_seed(Secret(candidate)) {
            return identity;
        }
        candidate = *blake3::hash(&candidate).as_bytes();
    }
}

impl<A: Aead, C: Check> Host for KernelHost<A, C> {
    fn entity(bytes: &[u8; 32]) -> EntityId {
        identity(bytes).entity()
    }

    fn boot(start: Start, now: Now) -> Result<Self, String> {
        let network = start
            .network
            .map_or_else(NetworkKey::open, |key| NetworkKey::from_bytes(Secret(key)));
        let boot = Boot {
            seed: Seed::new(start.seed),
            identity: identity(&start.identity),
            epoch: start.epoch,
            networks: vec![network],
            allow: start.allow,
            config: start.config,
            lanes: start.lanes,
            trace: true,
        };
        Kernel::boot(boot, now).map(Self).map_err(|error| error.to_string())
    }

    #[inline]
    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline> {
        self.0.turn(now, input, io)
    }

    fn digest(&self) -> [u8; 32] {
        self.0.trace().map_or([0; 32], Trace::digest)
    }

    fn turns(&self) -> u64 {
        self.0.trace().map_or(0, Trace::turns)
    }

    fn stats(&self, session: SessionKey) -> Option<SessionStats> {
        self.0.stats(session)
    }

    fn keep_trace(&mut self, limit: usize) {
        self.0.keep_trace(limit);
    }

    fn records(&self) -> &[Record] {
        self.0.trace().map_or(&[], Trace::records)
    }

    fn drops(&self) -> Drops {
        self.0.drops()
    }

    fn probes(&self) -> Hits {
        self.0.probes()
    }

    fn holdings(&self) -> Option<Holdings> {
        Some(self.0.holdings())
    }

    fn timers(&self) -> Vec<TimerLoad> {
        self.0.timers().to_vec()
    }

    fn loot(&self, lent: &[[u8; 32]]) -> Vec<[u8; 32]> {
        self.0.loot(lent)
    }

    fn opens(&self, packet: &[u8]) -> bool {
        self.0.opens(packet)
    }

    fn clear() -> bool {
        TypeId::of::<A>() == TypeId::of::<Clear>()
    }
}
