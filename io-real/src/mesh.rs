//! The mesh as a node's users see it: whom to keep connected, what becomes known, and how it looks now.
//!
//! Invariants: a snapshot is taken between two turns, so it is one moment's; facts that nobody read in time are counted, never
//! waited for. Not here: discovery, routes and failures (`net-mesh`), the figures of metrics (`metrics.rs`).

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::api::{
    Addr, Command, EntityId, Epoch, Fact, Health, Instant, Mesh, Outage, Refused, Relayed, SessionStats, Standing,
};
use crate::hub::{Hub, MAX_JOINED, Phase};
use crate::node::{MAX_ADDRESSES, Node};
use crate::session::Handle;

/// Facts kept for those who read them late; the oldest goes for one more.
const MAX_FACTS: usize = 1_024;

/// What became known, numbered from the node's start.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    kept: VecDeque<Fact>,
    /// The number of the first that is kept.
    first: u64,
    readers: Vec<Waker>,
    pub(crate) counts: FactCounts,
}

/// How often what became known, for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct FactCounts {
    pub(crate) found: u64,
    pub(crate) lost: u64,
    pub(crate) suspected: u64,
    pub(crate) refuted: u64,
    pub(crate) failed: u64,
    pub(crate) link_lost: u64,
    pub(crate) recovered: u64,
    pub(crate) outages: u64,
    pub(crate) outages_over: u64,
    pub(crate) collisions: u64,
}

impl FactCounts {
    const fn count(&mut self, fact: &Fact) {
        let count = match fact {
            Fact::Found { .. } => &mut self.found,
            Fact::Lost(_) => &mut self.lost,
            Fact::Suspected(_) => &mut self.suspected,
            Fact::Refuted(_) => &mut self.refuted,
            Fact::Failed(_) => &mut self.failed,
            Fact::LinkLost(_) => &mut self.link_lost,
            Fact::Recovered(_) => &mut self.recovered,
            Fact::Outage(_) => &mut self.outages,
            Fact::OutageOver(_) => &mut self.outages_over,
            Fact::Collision(_) => &mut self.collisions,
        };
        *count += 1;
    }
}

impl Facts {
    pub(crate) fn note(&mut self, fact: Fact, wakes: &mut Vec<Waker>) {
        self.counts.count(&fact);
        if self.kept.len() == MAX_FACTS {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(fact);
        self.wake(wakes);
    }

    pub(crate) fn wake(&mut self, wakes: &mut Vec<Waker>) {
        wakes.append(&mut self.readers);
    }

    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// What a reader who has seen everything below `next` is to be told.
    fn read(&self, next: &mut u64) -> Option<MeshEvent> {
        if let Some(missed) = self.first.checked_sub(*next).filter(|&missed| missed > 0) {
            *next = self.first;
            return Some(MeshEvent::Missed(missed));
        }
        let at = usize::try_from(*next - self.first).unwrap_or(usize::MAX);
        let fact = *self.kept.get(at)?;
        *next += 1;
        Some(MeshEvent::Fact(fact))
    }
}

/// Something that became known of the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MeshEvent {
    /// This.
    Fact(Fact),
    /// So many facts were not read in time and are gone: look at [`Node::mesh`].
    Missed(u64),
}

/// What becomes known of the mesh from the moment this was made. At most 1,024 facts wait for their reader.
pub struct MeshEvents {
    handle: Handle,
    next: u64,
}

impl MeshEvents {
    /// The next; `None` once the node is closed.
    pub async fn next(&mut self) -> Option<MeshEvent> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<MeshEvent>> {
        let mut hub = self.handle.shared().lock();
        let board = &mut hub.board;
        if let Some(event) = board.facts.read(&mut self.next) {
            return Poll::Ready(Some(event));
        }
        if matches!(board.phase, Phase::Ended | Phase::Gone) {
            return Poll::Ready(None);
        }
        let readers = &mut board.facts.readers;
        if !readers.iter().any(|old| old.will_wake(cx.waker())) {
            readers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl futures_core::Stream for MeshEvents {
    type Item = MeshEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<MeshEvent>> {
        self.poll(cx)
    }
}

impl fmt::Debug for MeshEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshEvents").field("next", &self.next).finish()
    }
}

/// The mesh at one moment, as one node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshSnapshot {
    /// Every other node that is reached, by identity.
    pub nodes: Vec<MeshNode>,
    /// Every neighbour, reached or not, by identity.
    pub neighbours: Vec<MeshNeighbour>,
    /// Peers that are kept connected, with the addresses they are dialled at, by identity.
    pub joined: Vec<(EntityId, Vec<Addr>)>,
    /// Failures of many neighbours at about the same time, while they last.
    pub outage: Option<Outage>,
    /// Whether this node forwards packets of others.
    pub relays: bool,
}

/// A node that is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshNode {
    /// Who.
    pub entity: EntityId,
    /// In which of its boots.
    pub epoch: Epoch,
    /// Since its newest words were first heard.
    pub age: Duration,
    /// How well it says it does.
    pub health: Health,
    /// How busy it says it is, in thousandths.
    pub load: u16,
    /// Whether it says that it forwards packets of others.
    pub relays: bool,
    /// Every way there that closes no loop: the one in use first, then by length. Never empty.
    pub routes: Vec<MeshRoute>,
}

impl MeshNode {
    /// The way in use.
    #[must_use]
    pub fn route(&self) -> &MeshRoute {
        &self.routes[0]
    }
}

/// A way to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeshRoute {
    /// The neighbour it leads over.
    pub next: EntityId,
    /// Hops to the node; 1 for a neighbour.
    pub hops: u8,
    /// Round-trip time to the node, summed over the links.
    pub rtt: Duration,
    /// Whether it is the way in use.
    pub used: bool,
}

/// A peer with a direct session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeshNeighbour {
    /// Who.
    pub entity: EntityId,
    /// Where.
    pub address: Addr,
    /// Whether it is heard, and hears us.
    pub standing: Standing,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Its mean deviation.
    pub rtt_variance: Duration,
    /// The smallest round trip on this path.
    pub rtt_min: Duration,
    /// What routes over it are charged; `None` while none leads over it.
    pub cost: Option<Duration>,
    /// How well it says it does; `None` before its first word.
    pub health: Option<Health>,
    /// How busy it says it is, in thousandths; `None` before its first word.
    pub load: Option<u16>,
    /// Datagrams sent to it, received from it, and found lost.
    pub datagrams: [u64; 3],
    /// Bytes sent to it and received from it.
    pub bytes: [u64; 2],
    /// Path MTU in bytes.
    pub mtu: u16,
}

impl Node {
    /// Keeps a session with `peer`: dials it at any of 1 to 16 addresses now, and again whenever there is none, after 1 s at
    /// first and a minute at last. Its sessions come out of [`Node::accept`].
    ///
    /// # Errors
    /// [`Refused::NoMesh`] without [`crate::Builder::mesh`], [`Refused::BadAddresses`], [`Refused::OwnIdentity`],
    /// [`Refused::TableFull`] beyond 4,096 peers; nothing has changed.
    pub fn join(&self, peer: EntityId, addresses: &[Addr]) -> Result<(), Refused> {
        let mut hub = self.handle().shared().lock();
        let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
        if hub.board.joined.len() >= MAX_JOINED && !hub.board.joined.contains_key(&peer) {
            return Err(Refused::TableFull);
        }
        hub.command(Command::Join { peer, addresses })?;
        hub.board.joined.insert(peer, addresses.to_vec());
        Ok(())
    }

    /// Ends a [`Self::join`]; a session stays as it is. Answers whether the peer was kept.
    pub fn leave(&self, peer: EntityId) -> bool {
        let mut hub = self.handle().shared().lock();
        // Refused only after a shutdown, when nobody is kept.
        let _ = hub.command(Command::Leave(peer));
        hub.board.joined.remove(&peer).is_some()
    }

    /// Says of this node from now on how busy it is, in thousandths of what it can do, and how well it does.
    ///
    /// # Errors
    /// [`Refused::NoMesh`], [`Refused::BadArgument`]; nothing has changed.
    pub fn describe(&self, load: u16, health: Health) -> Result<(), Refused> {
        let mut hub = self.handle().shared().lock();
        hub.command(Command::Describe { load, health })?;
        Ok(())
    }

    /// What this node sent on for others since it was started.
    #[must_use]
    pub fn relayed(&self) -> Relayed {
        self.handle().shared().lock().relayed()
    }

    /// What becomes known of the mesh from now on.
    #[must_use]
    pub fn mesh_events(&self) -> MeshEvents {
        let mut hub = self.handle().shared().lock();
        MeshEvents {
            next: hub.board.facts.end(),
            handle: self.handle().hold(&mut hub),
        }
    }

    /// The mesh at this moment; `None` where the node is part of none. Takes time in proportion to the nodes known, during
    /// which the node stands still: for people and for decisions, not for every packet.
    #[must_use]
    pub fn mesh(&self) -> Option<MeshSnapshot> {
        let hub = self.handle().shared().lock();
        let mesh = hub.mesh()?;
        let joined = &hub.board.joined;
        Some(MeshSnapshot {
            nodes: nodes(mesh, hub.now.mono),
            neighbours: neighbours(mesh, &hub),
            joined: joined.iter().map(|(peer, at)| (*peer, at.clone())).collect(),
            outage: mesh.outages().current(),
            relays: mesh.relays(),
        })
    }
}

fn nodes(mesh: &Mesh, now: Instant) -> Vec<MeshNode> {
    let routes = mesh.routes();
    let seen = routes.reached().filter_map(|(entity, used)| {
        let core = routes.core(&entity)?;
        let ways = routes.feasible(&entity).into_iter().map(|way| MeshRoute {
            next: way.next,
            hops: way.hops,
            rtt: Duration::from_micros(u64::from(way.rtt_us)),
            used: way.via == used.via,
        });
        let routes_there: Vec<MeshRoute> = ways.collect();
        debug_assert!(
            routes_there.first().is_some_and(|first| first.used),
            "what is used closes no loop"
        );
        routes_there.first()?;
        Some(MeshNode {
            entity,
            epoch: core.version.epoch,
            age: std_duration(now.since(routes.heard(&entity)?)),
            health: core.health,
            load: core.load,
            relays: core.relays,
            routes: routes_there,
        })
    });
    seen.collect()
}

fn neighbours(mesh: &Mesh, hub: &Hub) -> Vec<MeshNeighbour> {
    let links = mesh.neighbours().filter_map(|link| {
        let stats: SessionStats = hub.stats(link.session)?;
        let said = mesh.routes().core(&link.peer);
        Some(MeshNeighbour {
            entity: link.peer,
            address: stats.address,
            standing: mesh.standing(link.session)?,
            rtt: std_duration(stats.rtt),
            rtt_variance: std_duration(stats.rtt_variance),
            rtt_min: std_duration(stats.rtt_min),
            cost: (link.cost_us > 0).then(|| Duration::from_micros(u64::from(link.cost_us))),
            health: said.map(|core| core.health),
            load: said.map(|core| core.load),
            datagrams: [stats.sent, stats.received, stats.lost],
            bytes: [stats.sent_bytes, stats.received_bytes],
            mtu: stats.mtu,
        })
    });
    let mut links: Vec<MeshNeighbour> = links.collect();
    links.sort_by_key(|link| link.entity);
    links
}

const fn std_duration(span: crate::api::Duration) -> Duration {
    Duration::from_nanos(span.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_late_is_told_how_much_it_missed() {
        let mut facts = Facts::default();
        let (mut early, mut late) = (0, 0);
        let fact = |at: usize| Fact::Lost(EntityId([u8::try_from(at % 256).expect("a byte"); 32]));
        for at in 0..MAX_FACTS + 3 {
            facts.note(fact(at), &mut Vec::new());
            assert_eq!(facts.read(&mut early), Some(MeshEvent::Fact(fact(at))));
        }
        assert_eq!(facts.read(&mut early), None, "what was read is not told again");
        assert_eq!(facts.read(&mut late), Some(MeshEvent::Missed(3)));
        assert_eq!(facts.read(&mut late), Some(MeshEvent::Fact(fact(3))));
        assert_eq!(facts.kept.len(), MAX_FACTS);
        assert_eq!(facts.counts.lost, MAX_FACTS as u64 + 3);
    }
}
