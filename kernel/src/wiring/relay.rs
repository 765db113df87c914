//! Packets that go over relays: what arrives for others or from afar, and what leaves for nodes that are not reached directly.
//!
//! A session whose path is a routed address is sent like any other: its packets are put down here, and each is
//! wrapped for the next hop when the lanes are done. Invariants: nothing is changed by a datagram whose hop tag does not
//! verify; a relay originates nothing and queues nothing; what is put down is bounded, and leaves in its order.
//! Not here: hop tags (`net-session`), shares and permission (`net-mesh`).

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use net_base::{Addr, Check, EntityId, NodeId, Now, SessionId, SessionKey, mutant, reachable, routed, sometimes};
use net_mesh::Fact;
use net_session::aead::Aead;
use net_session::rx::{RxBatch, Spot};
use net_trust::node_id;
use net_wire::mesh::MAX_HOPS;
use net_wire::{DropReason, ROUTING_LEN, Routed, RoutingHeader, TRAILER_LEN};

use crate::Kernel;
use crate::api::{Dest, Io, Seal, Tx};

/// Packets put down at once; the lanes wait while there are as many.
const MAX_PUT_DOWN: usize = 64;
/// Rounds of putting down and wrapping in one step of a turn: what is left leaves in the next.
const MAX_ROUNDS: usize = 64;

/// Packets for nodes behind relays, on their way to the transmitter.
#[derive(Debug, Default)]
pub(crate) struct Afar {
    waiting: VecDeque<(NodeId, Vec<u8>)>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
    open: Option<(NodeId, Vec<u8>)>,
    /// A lane was turned away.
    refused: bool,
    /// Sessions whose path is a routed address.
    pub(crate) sessions: BTreeSet<SessionKey>,
    /// Direct paths looked for so far.
    looked: usize,
}

impl Afar {
    /// Which of `count` addresses a direct path is looked for at next: each in its turn.
    pub(crate) const fn next_turn(&mut self, count: usize) -> usize {
        self.looked = self.looked.wrapping_add(1);
        self.looked % count
    }

    fn reserve(&mut self, to: NodeId, len: usize) -> Option<&mut [u8]> {
        if self.waiting.len() == MAX_PUT_DOWN {
            self.refused = true;
            return None;
        }
        let left = self.open.take().map(|(_, buffer)| buffer);
        let mut buffer = left.or_else(|| self.spare.pop()).unwrap_or_default();
        buffer.clear();
        buffer.resize(len, 0);
        Some(&mut self.open.insert((to, buffer)).1)
    }

    fn commit(&mut self, len: usize) {
        if let Some((to, mut buffer)) = self.open.take() {
            buffer.truncate(len);
            self.waiting.push_back((to, buffer));
        }
    }
}

/// A transmitter that takes datagrams for routed addresses as well.
struct Outward<'a> {
    io: &'a mut dyn Io,
    afar: &'a mut Afar,
    /// What was reserved last is for a node behind relays.
    routed: bool,
}

impl Tx for Outward<'_> {
    #[inline]
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        let label = routed::label(&to.to);
        self.routed = label.is_some();
        match label {
            None => self.io.reserve(to, len),
            // Nothing is sealed before it can leave: in a turn that may not transmit it would bear the time of an earlier one.
            Some(label) => {
                self.io.reserve(to, len + ROUTING_LEN + TRAILER_LEN)?;
                self.afar.reserve(label, len)
            }
        }
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        if self.routed {
            self.afar.commit(len);
        } else {
            self.io.commit(len);
        }
    }

    /// A packet is sealed before it is wrapped, so while sessions use relays none is sealed later.
    fn hold(&mut self) -> bool {
        self.afar.sessions.is_empty() && self.io.hold()
    }

    fn release(&mut self, seal: &mut Seal<'_>) {
        self.io.release(seal);
    }

    fn digest(&self, back: usize) -> u64 {
        self.io.digest(back)
    }
}

impl<A: Aead, C: Check> Kernel<A, C> {
    /// A datagram of others, or one that came over relays.
    pub(crate) fn routed(&mut self, now: Now, batch: &mut RxBatch<'_>, spot: Spot, io: &mut dyn Io) {
        if let Err(reason) = self.pass_on(now, batch, spot, io) {
            self.relay.refuse();
            sometimes!(self.passed, RelayTurnedAway, reason != DropReason::RoutedNotSupported);
            self.drops.count(reason);
        }
    }

    #[inline]
    fn pass_on(&mut self, now: Now, batch: &mut RxBatch<'_>, spot: Spot, io: &mut dyn Io) -> Result<(), DropReason> {
        if self.mesh.is_none() {
            return Err(DropReason::RoutedNotSupported);
        }
        let datagram = batch.at(spot).bytes;
        let routed = Routed::parse(datagram)?;
        let from = match self.lanes.by_id(routed.trailer.session).open_hop(now.mono, &routed) {
            Err(_) if mutant!(RelayUnverified) => SessionKey(0),
            outcome => outcome?,
        };
        if routed.header.dest == self.label {
            reachable!(self.passed, RoutedTaken);
            self.lanes.unwrap(spot, routed.header.src);
            return Ok(());
        }
        let len = routed.packet.len() + ROUTING_LEN + TRAILER_LEN;
        let header = self.relay.admit(now.mono, from, &routed.header, len)?;
        let hop = self.next_hop(now, header.dest, Some(from)).ok_or(DropReason::NoRoute)?;
        if !self.wrap(&header, routed.packet, hop, io) {
            return Err(DropReason::RelayFull);
        }
        reachable!(self.passed, Relayed);
        self.relay.count(len);
        Ok(())
    }

    /// Hands a packet to the next hop. False where the transmitter is full.
    #[inline]
    fn wrap(&mut self, header: &RoutingHeader, packet: &[u8], (to, key): (Addr, SessionId), io: &mut dyn Io) -> bool {
        let len = ROUTING_LEN + packet.len() + TRAILER_LEN;
        let Some(out) = io.reserve(Dest { to, ecn: false }, len) else {
            return false;
        };
        let Some((front, rest)) = out.split_first_chunk_mut::<ROUTING_LEN>() else {
            return false;
        };
        header.encode(front);
        rest[..packet.len()].copy_from_slice(packet);
        self.lanes.by_id(key).seal_hop(key, out);
        io.commit(len);
        true
    }

    /// Where a packet for `dest` goes next: the best way that can be used now and does not lead back.
    #[inline]
    fn next_hop(&self, now: Now, dest: NodeId, not: Option<SessionKey>) -> Option<(Addr, SessionId)> {
        let routes = self.mesh.as_ref()?.machine().routes();
        let ways = routes.next_hops(dest).iter();
        ways.filter(|&&via| Some(via) != not)
            .find_map(|&via| self.lanes.peek_of(via)?.hop(now.mono, via))
    }

    /// Sends a packet of ours to a node behind relays. False where the transmitter is full; without a way it is lost.
    fn send_afar(&mut self, now: Now, dest: NodeId, packet: &[u8], io: &mut dyn Io) -> bool {
        let Some(hop) = self.next_hop(now, dest, None) else {
            reachable!(self.passed, RouteWanting);
            self.drops.count(DropReason::NoRoute);
            return true;
        };
        let header = RoutingHeader {
            ttl: MAX_HOPS,
            src: self.label,
            dest,
            ..RoutingHeader::default()
        };
        self.wrap(&header, packet, hop, io)
    }

    /// Wraps what was put down. False where the transmitter is full.
    fn wrap_waiting(&mut self, now: Now, io: &mut dyn Io) -> bool {
        while let Some((dest, packet)) = self.afar.waiting.pop_front() {
            if !self.send_afar(now, dest, &packet, io) {
                self.afar.waiting.push_front((dest, packet));
                return false;
            }
            self.afar.spare.push(packet);
        }
        true
    }

    /// Lets everything leave that may.
    pub(crate) fn transmit(&mut self, now: Now, io: &mut dyn Io) {
        while let Some((to, packet)) = self.outbox.pop_front() {
            let bytes = packet.bytes();
            let gone = match routed::label(&to) {
                Some(label) => self.send_afar(now, label, bytes, io),
                None => put(to, bytes, io),
            };
            if !gone {
                self.outbox.push_front((to, packet));
                break;
            }
        }
        for _ in 0..MAX_ROUNDS {
            if !self.wrap_waiting(now, io) {
                return;
            }
            let mut outward = Outward {
                io,
                afar: &mut self.afar,
                routed: false,
            };
            self.lanes.transmit(now.mono, &mut outward);
            if !core::mem::take(&mut self.afar.refused) {
                self.wrap_waiting(now, io);
                return;
            }
        }
    }

    /// A session's path is known anew.
    pub(crate) fn note_path(&mut self, session: SessionKey, address: &Addr) {
        if routed::is_routed(address) {
            self.afar.sessions.insert(session);
        } else {
            self.afar.sessions.remove(&session);
        }
    }

    /// What the mesh found out concerns a session's path.
    pub(crate) fn heed_fact(&mut self, now: Now, fact: &Fact) {
        match *fact {
            Fact::Failed(peer) | Fact::LinkLost(peer) | Fact::Found { node: peer, .. } => self.find_way(now, peer),
            Fact::Recovered(peer) => {
                if let Some(session) = self.peers.machine().session_of(&peer)
                    && let Some(lane) = self.lanes.of(session)
                {
                    lane.go_direct(now.mono, session);
                }
            }
            Fact::Lost(_)
            | Fact::Suspected(_)
            | Fact::Refuted(_)
            | Fact::Outage(_)
            | Fact::OutageOver(_)
            | Fact::Collision(_) => {}
        }
    }

    /// The way to a node is another one, or its link failed: its session takes the way there is.
    pub(crate) fn find_way(&mut self, now: Now, peer: EntityId) {
        let (Some(session), Some(mesh)) = (self.peers.machine().session_of(&peer), &self.mesh) else {
            return;
        };
        let mesh = mesh.machine();
        let concerns = self.afar.sessions.contains(&session) || mesh.counts(session) == Some(false);
        // Not where another node holds its label: what is sent there would not reach it.
        let around = mesh.routes().leads_to(&peer) && mesh.routes().route(&peer).is_some_and(|way| way.via != session);
        if concerns
            && around
            && !mutant!(DetourUntaken)
            && let Some(lane) = self.lanes.of(session)
        {
            lane.detour(now.mono, session, routed::address(node_id(&peer)));
        }
    }
}

/// Hands a datagram to the transmitter. False where it is full.
fn put(to: Addr, bytes: &[u8], io: &mut dyn Io) -> bool {
    let Some(slot) = io.reserve(Dest { to, ecn: false }, bytes.len()) else {
        return false;
    };
    slot.copy_from_slice(bytes);
    io.commit(bytes.len());
    true
}
