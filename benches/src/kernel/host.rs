//! What every driver of a bare kernel does alike: boot it, tell it the time, carry out its jobs and storage.
//!
//! Invariants: a disk here is always empty and never fails; the same seed makes the same node. Not here: datagrams (`pair.rs`,
//! `star.rs`, `links/`).

use net_kernel::api::{Boot, Input, Job, SessionConfig, StoreOp, Stored};
use net_kernel::base::rng::{Secret, Seed, Stream};
use net_kernel::base::{Epoch, Instant, JobId, Now, Ticket, UnixNanos};
use net_kernel::trust::{Identity, NetworkKey};
use std::collections::VecDeque;

/// A node of the network that all benchmarks share, its identity drawn from `seed`.
#[must_use]
pub fn boot(seed: &Seed, config: SessionConfig, lanes: u8) -> Boot {
    let mut identity = seed.fork("identity");
    Boot {
        seed: seed.clone(),
        identity: Identity::generate(&mut |out| identity.fill(out)),
        epoch: Epoch(1),
        networks: vec![NetworkKey::from_bytes(Secret([7; 32]))],
        allow: None,
        config,
        mesh: None,
        lanes,
        trace: false,
    }
}

/// Both clocks; the wall clock started at a plausible date.
#[must_use]
pub fn clocks(mono: Instant) -> Now {
    Now {
        mono,
        wall: UnixNanos(1_790_000_000_000_000_000 + mono.as_nanos()),
    }
}

/// Jobs and storage operations that turns handed out.
#[derive(Debug, Default)]
pub struct Chores {
    jobs: VecDeque<(JobId, Box<Job>)>,
    stores: VecDeque<(Ticket, StoreOp)>,
}

impl Chores {
    /// A turn asked for storage.
    pub fn store(&mut self, ticket: Ticket, op: StoreOp) {
        self.stores.push_back((ticket, op));
    }

    /// A turn handed out work.
    pub fn work(&mut self, id: JobId, job: Box<Job>) {
        self.jobs.push_back((id, job));
    }

    /// Carries out the next one; what the kernel is to be told of it.
    pub fn next(&mut self, entropy: &mut Stream) -> Option<Input<'static>> {
        if let Some((ticket, op)) = self.stores.pop_front() {
            let result = match op {
                StoreOp::Put { .. } => Stored::Done,
                StoreOp::Get { .. } => Stored::Value(None),
            };
            return Some(Input::Stored(ticket, result));
        }
        let (id, job) = self.jobs.pop_front()?;
        Some(Input::Worked(id, job.run(&mut |out| entropy.fill(out))))
    }
}
