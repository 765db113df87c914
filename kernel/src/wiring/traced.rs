//! Folds what a turn does into the trace while it is done.
//!
//! Invariants: the order of records is the order of deeds; tracing changes nothing else. Not here: what a digest
//! is (`net_base::trace`).

use alloc::boxed::Box;
use alloc::vec::Vec;

use net_base::trace::{Kind, Trace, digest};
use net_base::{JobId, Ticket};

use crate::api::{Crew, Dest, Event, Io, Job, Part, Seal, StoreOp, Tx};

/// An [`Io`] that records.
pub(crate) struct Traced<'a> {
    pub(crate) io: &'a mut dyn Io,
    pub(crate) trace: &'a mut Trace,
    /// Lengths of the packets that are held.
    pub(crate) held: Option<Vec<usize>>,
}

impl Tx for Traced<'_> {
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        self.io.reserve(to, len)
    }

    fn commit(&mut self, len: usize) {
        self.io.commit(len);
        match &mut self.held {
            None => self.trace.record(Kind::Sent, len as u64, self.io.digest(0)),
            Some(held) => held.push(len),
        }
    }

    fn hold(&mut self) -> bool {
        let holds = self.io.hold();
        self.held = holds.then(Vec::new);
        holds
    }

    fn release(&mut self, seal: &mut Seal<'_>) {
        self.io.release(seal);
        // Nothing else was recorded since they were written, so the order is that of packets sealed at once.
        let held = self.held.take().unwrap_or_default();
        for (at, len) in held.iter().enumerate() {
            let digest = self.io.digest(held.len() - 1 - at);
            self.trace.record(Kind::Sent, *len as u64, digest);
        }
    }

    fn digest(&self, back: usize) -> u64 {
        self.io.digest(back)
    }
}

impl Io for Traced<'_> {
    fn store(&mut self, ticket: Ticket, op: StoreOp) {
        let bytes = match &op {
            StoreOp::Put { bytes, .. } => digest(bytes),
            StoreOp::Get { cell } => *cell as u64,
        };
        self.trace.record(Kind::Store, ticket.to_u64(), bytes);
        self.io.store(ticket, op);
    }

    fn work(&mut self, id: JobId, job: Box<Job>) {
        self.trace.record(Kind::Job, id.to_u64(), 0);
        self.io.work(id, job);
    }

    fn event(&mut self, event: Event) {
        self.trace.bytes(Kind::Event, alloc::format!("{event:?}").as_bytes());
        self.io.event(event);
    }

    fn deliver(&mut self, part: Part<'_>) {
        self.trace.record(
            Kind::Delivered,
            part.stream.0 ^ part.number.rotate_left(32) ^ part.offset,
            digest(part.bytes),
        );
        self.io.deliver(part);
    }

    fn beacon(&mut self, datagram: &[u8]) {
        self.trace.bytes(Kind::Spoken, datagram);
        self.io.beacon(datagram);
    }

    fn crew(&mut self) -> Option<&mut dyn Crew> {
        self.io.crew()
    }

    fn is_tracing(&self) -> bool {
        true
    }

    fn received(&mut self, len: usize, digest: u64) {
        self.trace.record(Kind::Received, len as u64, digest);
    }
}
