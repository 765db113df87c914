//! A kernel as a host: the cipher is a type parameter, invariants are checked after every turn, the trace is on.
//!
//! Invariants: an identity follows from its bytes alone, whatever has to be drawn again.
//! Not here: the world (`world/`).

use std::any::TypeId;
use std::collections::BTreeMap;

use net_kernel::Kernel;
use net_kernel::api::{Boot, Deadline, Drops, Holdings, Input, Io, Relayed, SessionStats, TimerLoad};
use net_kernel::base::map::IdMap;
use net_kernel::base::probe::Hits;
use net_kernel::base::rng::{Secret, Seed};
use net_kernel::base::trace::{Record, Trace};
use net_kernel::base::{Check, Checked, EntityId, Epoch, NoCheck, Now};
use net_kernel::mesh::{Beacons, Mesh};
use net_kernel::session::SessionKey;
use net_kernel::session::aead::{Aead, Reference};
use net_kernel::trust::{Identity, NetworkKey, node_id};
use net_kernel::wire::mesh::{Core, Version};

use crate::aead::Clear;
use crate::check::{BELIEVED, BOOTED, HEARD, LINKS, ROUTES, SAID, SPOKEN};
use crate::host::{Host, Start};

/// What machines believe of each other is told of meshes of so many.
const BELIEFS: usize = 128;

/// A kernel under cipher `A`, verified according to `C`.
pub struct KernelHost<A: Aead, C: Check = Checked> {
    kernel: Kernel<A, C>,
    epoch: Epoch,
    told: Told,
}

/// What checkers were told of the kernel's mesh.
#[derive(Debug, Default)]
struct Told {
    booted: bool,
    generation: u64,
    links: Vec<u64>,
    /// Its latest words of itself that they were told of.
    said: Option<Version>,
    /// How far the journal of the table was read.
    mark: u64,
    /// By destination: next hop, its epoch, hops, microseconds.
    routes: IdMap<EntityId, [u64; 4]>,
    /// The beacons' generation.
    beacons: u64,
    /// Whom it heard: name, epoch, number.
    heard: BTreeMap<u64, [u64; 3]>,
}

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
        let epoch = start.epoch;
        let boot = Boot {
            seed: Seed::new(start.seed),
            identity: identity(&start.identity),
            epoch: start.epoch,
            networks: vec![network],
            allow: start.allow,
            config: start.config,
            mesh: start.mesh,
            lanes: start.lanes,
            trace: true,
        };
        let kernel = Kernel::boot(boot, now).map_err(|error| error.to_string())?;
        Ok(Self {
            kernel,
            epoch,
            told: Told::default(),
        })
    }

    #[inline]
    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline> {
        self.kernel.turn(now, input, io)
    }

    fn digest(&self) -> [u8; 32] {
        self.kernel.trace().map_or([0; 32], Trace::digest)
    }

    fn turns(&self) -> u64 {
        self.kernel.trace().map_or(0, Trace::turns)
    }

    fn stats(&self, session: SessionKey) -> Option<SessionStats> {
        self.kernel.stats(session)
    }

    fn keep_trace(&mut self, limit: usize) {
        self.kernel.keep_trace(limit);
    }

    fn records(&self) -> &[Record] {
        self.kernel.trace().map_or(&[], Trace::records)
    }

    fn drops(&self) -> Drops {
        self.kernel.drops()
    }

    fn relayed(&self) -> Relayed {
        self.kernel.relayed()
    }

    fn probes(&self) -> Hits {
        self.kernel.probes()
    }

    fn take_notes(&mut self) -> Vec<(&'static str, Vec<u64>)> {
        let mut notes = match self.kernel.mesh() {
            Some(mesh) if C::ON && (mesh.generation() != self.told.generation || !self.told.booted) => {
                self.told.tell(mesh, &self.kernel.entity(), self.epoch)
            }
            Some(_) | None => Vec::new(),
        };
        match self.kernel.beacons() {
            Some(beacons) if C::ON && beacons.generation() != self.told.beacons => {
                notes.extend(self.told.tell_beacons(beacons, &self.kernel.entity()));
            }
            Some(_) | None => {}
        }
        notes
    }

    fn holdings(&self) -> Option<Holdings> {
        Some(self.kernel.holdings())
    }

    fn timers(&self) -> Vec<TimerLoad> {
        self.kernel.timers().to_vec()
    }

    fn loot(&self, lent: &[[u8; 32]]) -> Vec<[u8; 32]> {
        self.kernel.loot(lent)
    }

    fn opens(&self, packet: &[u8]) -> bool {
        self.kernel.opens(packet)
    }

    fn clear() -> bool {
        TypeId::of::<A>() == TypeId::of::<Clear>()
    }
}

/// What checkers call a machine: eight bytes of its identity. Not its wire label, which others may share.
fn name_of(entity: &EntityId) -> u64 {
    u64::from_le_bytes(*entity.0.first_chunk().expect("an identity has 32 bytes"))
}

/// Words of a node: who, in which boot, which of them, and a digest of all.
fn word_of(core: &Core) -> [u64; 4] {
    let hash = blake3::hash(&core.signed());
    let digest = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
    let version = core.version;
    [name_of(&core.origin), version.epoch.0, version.seqno, digest]
}

impl Told {
    /// What was spoken last, and whose newer beacons were heard since checkers were told last.
    fn tell_beacons(&mut self, beacons: &Beacons, own: &EntityId) -> Vec<(&'static str, Vec<u64>)> {
        self.beacons = beacons.generation();
        let spoken = beacons.spoken();
        let mut notes = vec![(SPOKEN, vec![name_of(own), spoken.epoch.0, spoken.seqno])];
        let mut changed = Vec::new();
        for (peer, version) in beacons.heard() {
            let heard = [name_of(&peer), version.epoch.0, version.seqno];
            if self.heard.insert(heard[0], heard) != Some(heard) {
                changed.extend(heard);
            }
        }
        if !changed.is_empty() {
            notes.push((HEARD, changed));
        }
        notes
    }

    /// What changed since checkers were told last.
    fn tell(&mut self, mesh: &Mesh, own: &EntityId, epoch: Epoch) -> Vec<(&'static str, Vec<u64>)> {
        let mut notes = Vec::new();
        if !std::mem::replace(&mut self.booted, true) {
            let radius = u64::from(mesh.radius());
            notes.push((BOOTED, vec![name_of(own), epoch.0, radius, node_id(own).0]));
        }
        self.generation = mesh.generation();
        let links: Vec<u64> = mesh
            .neighbours()
            .flat_map(|link| {
                let (counts, cost) = (u64::from(link.counts), u64::from(link.cost_us));
                [name_of(&link.peer), link.epoch.0, counts, cost]
            })
            .collect();
        if self.links != links {
            notes.push((LINKS, links.clone()));
            self.links = links;
        }
        if let Some(words) = mesh.words()
            && self.said != Some(words.version)
        {
            self.said = Some(words.version);
            let [_, epoch, count, digest] = word_of(words);
            notes.push((SAID, vec![epoch, count, digest]));
        }
        let (changed, believed) = self.changes(mesh);
        if !changed.is_empty() {
            notes.push((ROUTES, changed));
        }
        if !believed.is_empty() {
            notes.push((BELIEVED, believed));
        }
        notes
    }

    /// The routes that are not what was told of them, as the journal names them, and what is believed of their ends; all of
    /// them where that forgot some.
    fn changes(&mut self, mesh: &Mesh) -> (Vec<u64>, Vec<u64>) {
        let routes = mesh.routes();
        let epochs: BTreeMap<_, _> = mesh.neighbours().map(|link| (link.session, link.epoch)).collect();
        let mut touched: Vec<EntityId> = match routes.changed_since(self.mark) {
            Some(changed) => changed.collect(),
            None => routes
                .reached()
                .map(|(to, _)| to)
                .chain(self.routes.keys().copied())
                .collect(),
        };
        self.mark = routes.mark();
        touched.sort_unstable();
        touched.dedup();
        let (mut changed, mut believed) = (Vec::new(), Vec::new());
        let small = routes.len() <= BELIEFS;
        for to in touched {
            if let Some(words) = routes.core(&to).filter(|_| small) {
                believed.extend(word_of(words));
            }
            let now = routes.route(&to).map(|route| {
                let epoch = epochs.get(&route.via).map_or(0, |epoch| epoch.0);
                [
                    name_of(&route.next),
                    epoch,
                    u64::from(route.hops),
                    u64::from(route.rtt_us),
                ]
            });
            let before = match now {
                Some(route) => self.routes.insert(to, route),
                None => self.routes.swap_remove(&to),
            };
            if before != now {
                changed.push(name_of(&to));
                changed.extend(now.unwrap_or_default());
            }
        }
        (changed, believed)
    }
}
