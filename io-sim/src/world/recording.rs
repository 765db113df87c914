//! What the world writes down while it is recorded.
//!
//! Invariants: nothing here changes what happens; without a recorder every function answers at once.
//! Not here: the entries (`crate::history`).

use net_kernel::api::{Deadline, Input, StoreOp};

use super::World;
use super::apps::Order;
use crate::history::{self, Fact, InputKind, NONE, PacketKind, Recorder};
use crate::host::Host;

impl<H: Host> World<H> {
    /// Records what happens from now on: the last `limit` entries, with the bytes of datagrams where `bytes` says so.
    /// Costs time and memory (about 150 bytes per entry, and the datagrams' own) and changes nothing else.
    pub fn record_history(&mut self, limit: usize, bytes: bool) {
        let nodes = self.scenario.nodes.len();
        let entities = self.entities[..nodes].iter().copied();
        let recorder = Recorder::new(limit, bytes, &self.scenario, entities, self.cursor.clone());
        self.recorder = Some(Box::new(recorder));
        self.queue.stamp();
    }

    /// Writes an entry that follows from the cursor; answers its id.
    #[inline]
    pub(super) fn tell(&mut self, node: Option<u32>, what: impl FnOnce() -> Fact) -> u64 {
        let now = self.now;
        self.recorder
            .as_mut()
            .map_or(NONE, |recorder| recorder.write(now, node, what()))
    }

    /// As [`Self::tell`]; what happens next follows from it.
    #[inline]
    pub(super) fn tell_on(&mut self, node: Option<u32>, what: impl FnOnce() -> Fact) {
        if self.recorder.is_some() {
            let id = self.tell(node, what);
            self.cursor.set(id);
        }
    }

    /// A process takes a turn.
    #[inline]
    pub(super) fn tell_turn(&mut self, node: u32, input: &Input<'_>) {
        if self.recorder.is_none() {
            return;
        }
        let input = InputKind::of(input, self.handed);
        let number = self.nodes[node as usize].host.as_ref().map_or(0, Host::turns) + 1;
        self.tell_on(Some(node), || Fact::Turn { input, number });
    }

    /// A turn ended with this deadline.
    #[inline]
    pub(super) fn tell_deadline(&mut self, node: u32, deadline: Option<Deadline>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.arm(node, deadline);
            if let Some(host) = &self.nodes[node as usize].host {
                recorder.refusals(self.now, node, host.drops());
            }
        }
    }

    /// A process ended without a word.
    pub(super) fn tell_ended(&mut self, node: u32) {
        self.tell_on(Some(node), || Fact::Crashed);
        if let Some(recorder) = &mut self.recorder {
            recorder.ended(node);
        }
    }

    /// A machine's timer fires.
    pub(super) fn tell_timer(&mut self, node: u32) {
        if let Some(recorder) = &mut self.recorder {
            let (why, by) = recorder.armed(node);
            self.cursor.set(by);
            self.tell_on(Some(node), || Fact::Timer { why });
        }
    }

    /// An application gives a command.
    pub(super) fn tell_order(&mut self, node: u32, order: &Order) {
        if self.recorder.is_some()
            && let Some(order) = self.ordered(order)
        {
            self.tell_on(Some(node), || Fact::Command(order));
        }
    }

    fn ordered(&self, order: &Order) -> Option<history::Order> {
        let halves = &self.apps.halves;
        Some(match *order {
            Order::Connect { peer } => history::Order::Connect { peer },
            Order::Open { session, .. } => history::Order::Open { session },
            Order::Send { half } => {
                let half = &halves[half as usize];
                let (session, stream) = half.out?;
                let (first, count) = (half.next, half.offered);
                let bytes = (first..first + count).map(|number| half.expected.len(number)).sum();
                history::Order::Send {
                    session,
                    stream,
                    first,
                    count,
                    bytes,
                }
            }
            Order::Finish { half } => {
                let (session, stream) = halves[half as usize].out?;
                history::Order::Finish { session, stream }
            }
            Order::Reset { half } => {
                let (session, stream) = halves[half as usize].out?;
                history::Order::Reset { session, stream }
            }
            Order::Stop { half } => {
                let (session, stream) = halves[half as usize].into?;
                history::Order::Stop { session, stream }
            }
            Order::Consumed { half, bytes, messages } => {
                let (session, stream) = halves[half as usize].into?;
                history::Order::Consumed {
                    session,
                    stream,
                    bytes,
                    messages,
                }
            }
            Order::Swallowed {
                session,
                stream,
                bytes,
                messages,
            } => history::Order::Consumed {
                session,
                stream,
                bytes,
                messages,
            },
            Order::Say { end } => {
                let (session, stream, first, bytes) = self.apps.files.saying(end)?;
                let count = 1;
                history::Order::Send {
                    session,
                    stream,
                    first,
                    count,
                    bytes,
                }
            }
            Order::Hush { session, stream } => history::Order::Finish { session, stream },
            Order::Echo { session } => history::Order::Echo { session },
            Order::Rekey { session } => history::Order::Rekey { session },
            Order::Close { session } => history::Order::Close { session },
        })
    }

    /// A process gave a datagram to its network, which it leaves for `peer`.
    pub(super) fn tell_sent(&mut self, node: u32, slot: u32, peer: Option<u32>) {
        if self.recorder.is_none() {
            return;
        }
        let nth = peer.map(|peer| self.links.next(node, peer));
        let datagram = self.pool.get(slot);
        let what = Fact::Sent {
            from: datagram.from,
            to: datagram.to,
            peer,
            len: datagram.bytes.len() as u32,
            kind: PacketKind::of(&datagram.bytes),
            packet: datagram.packet,
            nth,
        };
        self.tell_datagram(Some(node), slot, what, true);
    }

    /// An adversary sends a datagram.
    pub(super) fn tell_injected(&mut self, adversary: u32, slot: u32, peer: Option<u32>) {
        if self.recorder.is_none() {
            return;
        }
        let datagram = self.pool.get(slot);
        let what = Fact::Injected {
            adversary,
            from: datagram.from,
            to: datagram.to,
            peer,
            len: datagram.bytes.len() as u32,
            kind: PacketKind::of(&datagram.bytes),
            packet: datagram.packet,
        };
        self.tell_datagram(None, slot, what, true);
    }

    /// Something happened to a datagram: it follows from the datagram's last entry.
    pub(super) fn tell_fate(&mut self, node: Option<u32>, slot: u32, what: impl FnOnce(u64) -> Fact) {
        if self.recorder.is_none() {
            return;
        }
        let before = self.cursor.get();
        let datagram = self.pool.get(slot);
        let what = what(datagram.packet);
        let changed = matches!(what, Fact::Damaged { .. });
        self.cursor.set(datagram.entry);
        self.tell_datagram(node, slot, what, changed);
        self.cursor.set(before);
    }

    /// Writes an entry about a datagram and leaves the cursor on it.
    fn tell_datagram(&mut self, node: Option<u32>, slot: u32, what: Fact, bytes: bool) {
        if let Some(recorder) = &mut self.recorder {
            let id = recorder.write(self.now, node, what);
            let datagram = self.pool.get_mut(slot);
            datagram.entry = id;
            if bytes {
                recorder.bytes(id, &datagram.bytes);
            }
            self.cursor.set(id);
        }
    }

    /// What a scheduled step of a workload follows from: the workload's beginning, not the step before.
    pub(super) fn follow_workload(&self, workload: u32) {
        if let Some(recorder) = &self.recorder {
            self.cursor.set(recorder.workload(workload));
        }
    }

    /// What an adversary's act follows from.
    pub(super) fn follow_adversary(&self, adversary: u32) {
        if let Some(recorder) = &self.recorder {
            self.cursor.set(recorder.adversary(adversary));
        }
    }

    /// A storage operation begins.
    pub(super) fn tell_store(&mut self, node: u32, ticket: u64, op: &StoreOp) {
        let (cell, write) = match op {
            StoreOp::Put { cell, bytes } => (cell.name(), Some(bytes.len() as u64)),
            StoreOp::Get { cell } => (cell.name(), None),
        };
        self.tell_on(Some(node), || Fact::StoreBegun { ticket, cell, write });
    }

    /// The first violation is written where it is, once.
    pub(super) fn tell_violation(&mut self) {
        if let (Some(recorder), Some(violation)) = (&mut self.recorder, self.panel.violation()) {
            recorder.violation(
                violation.at,
                self.panel.seen_during(),
                &violation.checker,
                &violation.what,
            );
        }
    }
}
