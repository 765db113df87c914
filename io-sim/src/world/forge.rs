//! First messages in another's name: what one can make who stole the responder's key.
//!
//! With the responder's static secret anybody can make a first message in the name of any of its peers, for any epoch and
//! counter, but cannot finish the handshake (Noise section 7.8, key-compromise impersonation). Here such messages are made
//! by a process with the peer's own identity that never hears an answer: no weaker, and nothing has to be rebuilt.
//! Invariants: the forging process is outside the world: it receives nothing and its digest counts for nothing.
//! Not here: when forged messages are sent (`adversary.rs`).

use net_kernel::api::{Command, Dest, Event, Input, Io, Job, StoreOp, Stored, Tx};
use net_kernel::base::{Addr, CommandId, EntityId, JobId, Now, Ticket};
use net_kernel::session::Part;
use net_sim_model::Key;

use crate::host::{Host, Start};

/// Rounds of jobs and storage a process may take until its first message leaves.
const ROUNDS: usize = 8;

/// Collects what a process does.
#[derive(Default)]
struct Collect {
    slot: Vec<u8>,
    sent: Vec<Vec<u8>>,
    jobs: Vec<(JobId, Box<Job>)>,
    stores: Vec<(Ticket, StoreOp)>,
}

impl Tx for Collect {
    fn reserve(&mut self, _: Dest, len: usize) -> Option<&mut [u8]> {
        self.slot = vec![0; len];
        Some(&mut self.slot)
    }

    fn commit(&mut self, len: usize) {
        let mut bytes = std::mem::take(&mut self.slot);
        bytes.truncate(len);
        self.sent.push(bytes);
    }
}

impl Io for Collect {
    fn store(&mut self, ticket: Ticket, op: StoreOp) {
        self.stores.push((ticket, op));
    }

    fn work(&mut self, id: JobId, job: Box<Job>) {
        self.jobs.push((id, job));
    }

    fn event(&mut self, _: Event) {}

    fn deliver(&mut self, _: Part<'_>) {}
}

/// The first message that a process started with `start` sends to `victim`, its secrets drawn under `key`.
pub fn first_message<H: Host>(start: Start, now: Now, victim: EntityId, address: Addr, key: Key) -> Option<Vec<u8>> {
    let mut host = H::boot(start, now).ok()?;
    let mut io = Collect::default();
    host.turn(now, Input::Wake, &mut io);
    let addresses = [address];
    let connect = Command::Connect {
        peer: victim,
        addresses: &addresses,
    };
    host.turn(now, Input::Command(CommandId(1), connect), &mut io);
    let mut drawn = 0;
    for _ in 0..ROUNDS {
        if !io.sent.is_empty() {
            break;
        }
        for (ticket, op) in std::mem::take(&mut io.stores) {
            let result = match op {
                StoreOp::Get { .. } => Stored::Value(None),
                StoreOp::Put { .. } => Stored::Done,
            };
            host.turn(now, Input::Stored(ticket, result), &mut io);
        }
        for (id, job) in std::mem::take(&mut io.jobs) {
            let done = job.run(&mut |out| {
                *out = key.bytes32(drawn);
                drawn += 1;
            });
            host.turn(now, Input::Worked(id, done), &mut io);
        }
    }
    (!io.sent.is_empty()).then(|| io.sent.swap_remove(0))
}
