//! One turn's effects, collected.
//!
//! Invariants: a datagram that was reserved but not committed leaves no trace; application data is looked at during the
//! turn, since it is only borrowed.
//! Not here: what becomes of the effects (`mod.rs`).

use net_kernel::api::{Dest, Ecn, Event, Io, Job, StoreOp, Tx};
use net_kernel::base::trace::digest;
use net_kernel::base::{Addr, JobId, Ticket};
use net_kernel::session::Part;

use super::apps::Apps;
use super::pool::Pool;
use crate::check::Panel;
use crate::history::{Fact, Recorder};

/// Datagrams one turn may send before its transmitter is full.
const TX_LIMIT: usize = 1_024;

/// What a turn did, in vectors that are used again.
#[derive(Debug, Default)]
pub struct Effects {
    /// Slots of datagrams sent.
    pub sent: Vec<u32>,
    /// Whether the transmitter was found full.
    pub full: bool,
    /// Storage operations begun.
    pub stores: Vec<(Ticket, StoreOp)>,
    /// Jobs begun.
    pub jobs: Vec<(JobId, Box<Job>)>,
    /// Events for the user.
    pub events: Vec<Event>,
}

/// The world as one turn sees it.
pub struct TurnIo<'a> {
    /// When.
    pub now: u64,
    /// Whose turn.
    pub node: u32,
    /// The machine's address.
    pub from: Addr,
    /// Datagrams under way.
    pub pool: &'a mut Pool,
    /// What it did.
    pub effects: &'a mut Effects,
    /// Who reads application data.
    pub apps: &'a mut Apps,
    /// Who checks it.
    pub panel: &'a mut Panel,
    /// The slot reserved last.
    pub reserved: Option<u32>,
    /// The trace digest of the datagram committed last.
    pub digest: u64,
    /// Who writes down what messages came.
    pub recorder: Option<&'a mut Recorder>,
}

impl Tx for TurnIo<'_> {
    #[inline]
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        if self.effects.sent.len() >= TX_LIMIT {
            self.effects.full = true;
            return None;
        }
        if let Some(slot) = self.reserved.take() {
            self.pool.free(slot);
        }
        let slot = self.pool.take(self.from, to.to, len);
        self.reserved = Some(slot);
        let datagram = self.pool.get_mut(slot);
        if to.ecn {
            datagram.ecn = Ecn::Ect0;
        }
        Some(&mut datagram.bytes)
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        if let Some(slot) = self.reserved.take() {
            let datagram = self.pool.get_mut(slot);
            datagram.bytes.truncate(len);
            self.digest = digest(&datagram.bytes);
            datagram.digest = Some(self.digest);
            self.effects.sent.push(slot);
        }
    }

    #[inline]
    fn digest(&self) -> u64 {
        self.digest
    }
}

impl Io for TurnIo<'_> {
    fn store(&mut self, ticket: Ticket, op: StoreOp) {
        self.effects.stores.push((ticket, op));
    }

    fn work(&mut self, id: JobId, job: Box<Job>) {
        self.effects.jobs.push((id, job));
    }

    fn event(&mut self, event: Event) {
        self.effects.events.push(event);
    }

    #[inline]
    fn deliver(&mut self, part: Part<'_>) {
        if let Some(recorder) = self.recorder.as_mut().filter(|_| part.end) {
            let (session, stream, number) = (part.session, part.stream, part.number);
            let len = part.offset + part.bytes.len() as u64;
            let what = Fact::Message {
                session,
                stream,
                number,
                len,
            };
            recorder.write(self.now, Some(self.node), what);
        }
        self.apps.deliver(self.now, self.node, &part, self.panel);
    }
}

impl Drop for TurnIo<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.reserved.take() {
            self.pool.free(slot);
        }
    }
}
