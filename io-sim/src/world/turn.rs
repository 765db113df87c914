//! One turn's effects, collected.
//!
//! Invariants: a datagram that was reserved but not committed leaves no trace; application data is looked at during the
//! turn, since it is only borrowed.
//! Not here: what becomes of the effects (`mod.rs`).

use net_kernel::api::{Crew, Dest, Ecn, Event, Io, Job, Seal, StoreOp, Tx};
use net_kernel::base::trace::digest;
use net_kernel::base::{Addr, JobId, Ticket};
use net_kernel::session::Part;
use net_kernel::session::crew::Drawn;

use super::apps::Apps;
use super::node;
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
    /// Who opens and seals beside the kernel.
    pub crew: Option<&'a mut Drawn>,
    /// The first of the datagrams sent that is not sealed yet.
    pub held: Option<usize>,
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
            if self.held.is_none() {
                datagram.digest = Some(digest(&datagram.bytes));
            }
            self.effects.sent.push(slot);
        }
    }

    #[inline]
    fn hold(&mut self) -> bool {
        self.held = self.crew.is_some().then_some(self.effects.sent.len());
        self.held.is_some()
    }

    fn release(&mut self, seal: &mut Seal<'_>) {
        let (Some(held), Some(crew)) = (self.held.take(), &mut self.crew) else {
            return;
        };
        let mut bytes = Vec::new();
        for slot in &self.effects.sent[held..] {
            bytes.extend_from_slice(&self.pool.get(*slot).bytes);
        }
        seal(&mut bytes, &mut **crew);
        let mut sealed = bytes.as_slice();
        for slot in &self.effects.sent[held..] {
            let datagram = self.pool.get_mut(*slot);
            let (mine, rest) = sealed.split_at(datagram.bytes.len());
            sealed = rest;
            datagram.bytes.copy_from_slice(mine);
            datagram.digest = Some(digest(mine));
        }
    }

    #[inline]
    fn digest(&self, back: usize) -> u64 {
        let sent = self.effects.sent.iter().rev().nth(back);
        sent.and_then(|slot| self.pool.get(*slot).digest).unwrap_or(0)
    }
}

impl Io for TurnIo<'_> {
    #[inline]
    fn crew(&mut self) -> Option<&mut dyn Crew> {
        self.crew.as_mut().map(|crew| &mut **crew as &mut dyn Crew)
    }

    fn store(&mut self, ticket: Ticket, op: StoreOp) {
        self.effects.stores.push((ticket, op));
    }

    fn work(&mut self, id: JobId, job: Box<Job>) {
        self.effects.jobs.push((id, job));
    }

    fn beacon(&mut self, bytes: &[u8]) {
        let slot = self.pool.take(self.from, node::group(), 0);
        self.pool.get_mut(slot).bytes.extend_from_slice(bytes);
        self.effects.sent.push(slot);
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
