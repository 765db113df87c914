//! The impairment proxy of a whole scenario: what stands between real processes on loopback and treats their datagrams
//! as the scenario's links would.
//!
//! Every ordered pair of machines has one socket, a seat: where the first sends to reach the second, and where the second
//! sees the first come from. So every machine can dial every other, and a machine's outward addresses can be changed as a
//! NAT would. Fates are those of [`link_between`]: the n-th datagram of a direction has the same fate in every arm; delays
//! pass in real time.
//! Invariants: what is held is bounded; every datagram is counted once when it comes and once when it ends; a process is
//! reached at the address it was last attached with.
//! Not here: one client before one upstream (`proxy.rs`), processes (`net-chaos`), decisions (`net-sim-model`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net_sim_model::{Counts, Fates, Key, Link, LinkSpec};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::payload;
use crate::scenario::{FaultKind, Happening, NodeIndex, Scenario};
use crate::trigger::{Happened, SetOff, Triggers};
use crate::world::{heal, kind_of, link_between, spec_between};

/// Datagrams held at most; one more is dropped and counted.
const CAPACITY: usize = 65_536;
/// What every seat's socket may hold unread, as far as the host allows.
const SOCKET_BYTES: usize = 4 << 20;
/// Datagrams taken from one socket before others have their turn.
const BURST: usize = 64;

/// Where the process of a machine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nowhere: what is sent to it is lost.
    Down,
    /// Asleep: what is sent to it is lost, what it sent before travels on.
    Asleep(SocketAddr),
    /// At this address; datagrams from others are not its.
    At(SocketAddr),
    /// Wherever its next datagram comes from, as behind a NAT that has just been switched on.
    Unknown,
}

/// What a fabric did so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FabricStats {
    /// What all links did.
    pub links: Counts,
    /// Datagrams by which each fault of a link had an effect: fault's name, datagrams.
    pub hits: BTreeMap<String, u64>,
    /// Datagrams that came from no attached process.
    pub strangers: u64,
    /// Datagrams dropped because too many were held.
    pub overflow: u64,
    /// Datagrams for a process that was not there.
    pub down: u64,
    /// Datagrams to an address that its machine has left.
    pub left: u64,
    /// Datagrams handed over.
    pub delivered: u64,
    /// Datagrams in which application data could be read.
    pub canaries: u64,
    /// Changes of address.
    pub moves: u64,
}

/// The running proxy of a scenario; it stops when this is dropped.
#[derive(Debug)]
pub struct Fabric {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Fabric {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One direction of a link.
#[derive(Debug)]
struct Way {
    link: Link,
    offered: u64,
}

/// A held datagram: due, number, from, to, bytes.
type Held = Reverse<(u64, u64, NodeIndex, NodeIndex, Vec<u8>)>;

#[derive(Debug)]
struct State {
    scenario: Arc<Scenario>,
    places: Vec<Place>,
    /// `ways[from][to]`.
    ways: Vec<Vec<Way>>,
    /// `seats[of][seen_by]`; a machine has none with itself.
    seats: Vec<Vec<Option<Arc<UdpSocket>>>>,
    /// Seats whose machine has moved: what still comes to them is lost without a word, as behind a NAT.
    left: Vec<Arc<UdpSocket>>,
    held: BinaryHeap<Held>,
    number: u64,
    began: Option<Instant>,
    triggers: Option<(Triggers, UnboundedSender<SetOff>)>,
    stats: FabricStats,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    due: Notify,
}

impl Fabric {
    /// Binds the seats of a scenario under a seed, on the current tokio runtime. Nobody is attached and no time passes.
    ///
    /// # Errors
    /// A socket that cannot be bound.
    pub fn bind(scenario: Arc<Scenario>, seed: u64) -> io::Result<Self> {
        let (count, key) = (scenario.nodes.len() as NodeIndex, Key::new(seed));
        let ways = (0..count).map(|from| {
            let way = |to| Way {
                link: link_between(&scenario, key, from, to),
                offered: 0,
            };
            (0..count).map(way).collect()
        });
        let state = State {
            places: vec![Place::Down; count as usize],
            ways: ways.collect(),
            seats: vec![vec![None; count as usize]; count as usize],
            left: Vec::new(),
            held: BinaryHeap::new(),
            number: 0,
            began: None,
            triggers: None,
            stats: FabricStats::default(),
            scenario,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            due: Notify::new(),
        });
        let fabric = Self {
            shared,
            tasks: Mutex::new(Vec::new()),
        };
        for of in 0..count {
            for seen_by in (0..count).filter(|&seen_by| seen_by != of) {
                fabric.seat(of, seen_by)?;
            }
        }
        fabric.keep(tokio::spawn(release(Arc::clone(&fabric.shared))));
        Ok(fabric)
    }

    /// Time 0 of the scenario is now.
    pub fn begin(&self) {
        self.shared.lock().began = Some(Instant::now());
    }

    /// The scenario's time, ns.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.shared.lock().now()
    }

    /// Where `seen_by` reaches `of`.
    ///
    /// # Errors
    /// What the host says about the socket.
    ///
    /// # Panics
    /// If both are the same machine.
    pub fn address(&self, of: NodeIndex, seen_by: NodeIndex) -> io::Result<SocketAddr> {
        let state = self.shared.lock();
        let seat = state.seats[of as usize][seen_by as usize].as_ref();
        seat.expect("a machine has a seat with every other").local_addr()
    }

    /// Where the process of a machine is from now on.
    pub fn place(&self, node: NodeIndex, place: Place) {
        self.shared.lock().places[node as usize] = place;
    }

    /// The process of a machine falls asleep where it is, or wakes there.
    pub fn doze(&self, node: NodeIndex, asleep: bool) {
        let place = &mut self.shared.lock().places[node as usize];
        match (*place, asleep) {
            (Place::At(address), true) => *place = Place::Asleep(address),
            (Place::Asleep(address), false) => *place = Place::At(address),
            (Place::At(_) | Place::Asleep(_) | Place::Down | Place::Unknown, _) => {}
        }
    }

    /// Changes the addresses at which others see a machine. What they still send to the old ones is lost.
    ///
    /// # Errors
    /// A socket that cannot be bound; the others are changed.
    pub fn change_address(&self, of: NodeIndex) -> io::Result<()> {
        let others = self.shared.lock().places.len() as NodeIndex;
        for seen_by in (0..others).filter(|&seen_by| seen_by != of) {
            self.seat(of, seen_by)?;
        }
        self.shared.lock().stats.moves += 1;
        Ok(())
    }

    /// The links of a machine are like this, or as the scenario says again.
    pub fn set_interface(&self, node: NodeIndex, spec: Option<&LinkSpec>) {
        let mut state = self.shared.lock();
        let scenario = Arc::clone(&state.scenario);
        for (from, row) in state.ways.iter_mut().enumerate() {
            for (to, way) in row.iter_mut().enumerate() {
                let (from, to) = (from as NodeIndex, to as NodeIndex);
                if from == node || to == node {
                    let own = || spec_between(&scenario, from, to);
                    way.link.set_spec(spec.cloned().unwrap_or_else(own));
                }
            }
        }
    }

    /// Ends every fault among machines of the core (all, where it is empty) and cuts off the rest.
    pub fn heal(&self, core: &[NodeIndex]) {
        let mut state = self.shared.lock();
        state.note_hits();
        state.triggers = None;
        for (from, row) in state.ways.iter_mut().enumerate() {
            for (to, way) in row.iter_mut().enumerate() {
                heal(&mut way.link, core, from as NodeIndex, to as NodeIndex);
            }
        }
    }

    /// Hands a datagram to the process of a machine past every link, as an adversary's: from the address at which it sees
    /// `pretends`, or from `stranger`. Answers whether it was there to take it.
    pub fn inject(&self, to: NodeIndex, pretends: Option<NodeIndex>, stranger: &UdpSocket, bytes: &[u8]) -> bool {
        let state = self.shared.lock();
        let Some(Place::At(address)) = state.places.get(to as usize).copied() else {
            return false;
        };
        let seat = pretends.and_then(|node| state.seats[node as usize][to as usize].as_deref());
        seat.unwrap_or(stranger).try_send_to(bytes, address).is_ok()
    }

    /// From now on faults that datagrams set off are told. A machine that one of them crashes at once is nowhere from that
    /// datagram on, however long its process takes to die.
    pub fn set_triggers(&self, triggers: Triggers, tell: UnboundedSender<SetOff>) {
        self.shared.lock().triggers = Some((triggers, tell));
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> FabricStats {
        let mut state = self.shared.lock();
        state.note_hits();
        let mut links = Counts::default();
        state.ways.iter().flatten().for_each(|way| links.add(way.link.counts()));
        state.stats.links = links;
        state.stats.clone()
    }

    fn keep(&self, task: JoinHandle<()>) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Gives `of` a new socket towards `seen_by`.
    fn seat(&self, of: NodeIndex, seen_by: NodeIndex) -> io::Result<()> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        // A host that allows less gives what it allows; a burst may then be lost as on any real host.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let mut state = self.shared.lock();
        let slot = &mut state.seats[of as usize][seen_by as usize];
        let old = slot.replace(Arc::clone(&socket));
        state.left.extend(old);
        drop(state);
        self.keep(tokio::spawn(receive(Arc::clone(&self.shared), socket, of, seen_by)));
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what waits in a seat's socket.
    fn take(&self, seat: &Arc<UdpSocket>, from: NodeIndex, to: NodeIndex, buffer: &mut [u8]) {
        let mut state = self.lock();
        for _ in 0..BURST {
            // An error is about a datagram sent before, whose receiver was not there.
            let Ok((len, source)) = seat.try_recv_from(buffer) else {
                break;
            };
            state.offer(seat, from, to, source, &buffer[..len]);
        }
        state.release();
    }
}

/// Takes what `from` sends to reach `to`.
async fn receive(shared: Arc<Shared>, socket: Arc<UdpSocket>, to: NodeIndex, from: NodeIndex) {
    let mut buffer = vec![0; 65_536];
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        shared.take(&socket, from, to, &mut buffer);
        shared.due.notify_one();
        tokio::task::yield_now().await;
    }
}

/// Lets held datagrams go when they are due.
async fn release(shared: Arc<Shared>) {
    loop {
        let wake = {
            let mut state = shared.lock();
            state.release();
            let due = state.held.peek().map(|Reverse((at, ..))| *at);
            due.and_then(|at| Some(state.began? + Duration::from_nanos(at)))
        };
        match wake {
            None => shared.due.notified().await,
            Some(wake) => {
                tokio::select! {
                    biased;
                    () = shared.due.notified() => {}
                    () = sleep_until(wake) => {}
                }
            }
        }
    }
}

impl State {
    fn now(&self) -> u64 {
        let passed = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Decides a datagram's fate and holds what arrives.
    fn offer(&mut self, seat: &Arc<UdpSocket>, from: NodeIndex, to: NodeIndex, source: SocketAddr, bytes: &[u8]) {
        let place = &mut self.places[from as usize];
        match *place {
            Place::At(address) | Place::Asleep(address) if address == source => {}
            Place::Unknown => *place = Place::At(source),
            Place::At(_) | Place::Asleep(_) | Place::Down => {
                self.stats.strangers += 1;
                return;
            }
        }
        let current = self.seats[to as usize][from as usize].as_ref();
        if !current.is_some_and(|current| Arc::ptr_eq(current, seat)) {
            self.stats.left += 1;
            return;
        }
        self.stats.canaries += u64::from(payload::has_canary(bytes));
        let now = self.now();
        let way = &mut self.ways[from as usize][to as usize];
        let Fates { first, second, .. } = way.link.offer_kind(now, way.offered, bytes.len(), kind_of(bytes));
        way.offered += 1;
        for arrival in first.ok().into_iter().chain(second) {
            let mut bytes = bytes.to_vec();
            if let Some(corruption) = arrival.corrupt {
                corruption.apply(&mut bytes);
            }
            if self.held.len() >= CAPACITY {
                self.stats.overflow += 1;
                continue;
            }
            self.number += 1;
            self.held.push(Reverse((arrival.at, self.number, from, to, bytes)));
        }
        self.happened(Happening::Sent, from, bytes);
    }

    /// A datagram was sent or received: what waits for it is set off.
    fn happened(&mut self, event: Happening, node: NodeIndex, bytes: &[u8]) {
        let now = self.now();
        let Some((triggers, tell)) = &mut self.triggers else {
            return;
        };
        let what = Happened {
            kind: Some(kind_of(bytes)),
            ..Happened::at(event, node)
        };
        for set_off in triggers.happened(now, &self.scenario.faults, &what) {
            let fault = &self.scenario.faults[set_off.fault].kind;
            if let FaultKind::Crash { node, .. } = fault
                && set_off.at <= now
            {
                self.places[*node as usize] = Place::Down;
            } else if matches!(fault, FaultKind::Link { .. }) {
                let ways = self.ways.iter_mut().flatten();
                ways.for_each(|way| way.link.set_window(set_off.fault as u32, set_off.at, set_off.until));
            }
            // Who is told has ended where nobody hears it.
            let _ = tell.send(set_off);
        }
    }

    /// Sends what is due.
    fn release(&mut self) {
        let now = self.now();
        while self.held.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, from, to, bytes))) = self.held.pop() else {
                return;
            };
            let Place::At(address) = self.places[to as usize] else {
                self.stats.down += 1;
                continue;
            };
            let seat = self.seats[from as usize][to as usize].as_ref();
            match seat.map(|seat| seat.try_send_to(&bytes, address)) {
                Some(Ok(_)) => {
                    self.stats.delivered += 1;
                    self.happened(Happening::Received, to, &bytes);
                }
                // A full socket buffer, or a process that is gone: the host drops datagrams too.
                Some(Err(_)) | None => self.stats.down += 1,
            }
        }
    }

    /// Sums what faults did: a healed link forgets them.
    fn note_hits(&mut self) {
        let mut hits: BTreeMap<String, u64> = BTreeMap::new();
        for (id, count) in self.ways.iter().flatten().flat_map(|way| way.link.hits()) {
            if let Some(fault) = self.scenario.faults.get(id as usize) {
                *hits.entry(fault.id.clone()).or_default() += count;
            }
        }
        for (fault, count) in hits {
            let known = self.stats.hits.entry(fault).or_default();
            *known = count.max(*known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(extra: &str) -> Arc<Scenario> {
        let text = format!(
            "schema = 1\nname = \"t\"\nduration = \"1s\"\n[topology]\nnodes = [ {{ id = \"a\" }}, {{ id = \"b\" }} ]\n\
             [topology.default_link]\n{extra}\n"
        );
        Arc::new(Scenario::check("t", &text).unwrap())
    }

    async fn pair(extra: &str) -> (UdpSocket, UdpSocket, Fabric) {
        let fabric = Fabric::bind(scenario(extra), 7).unwrap();
        let a = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let b = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        fabric.place(0, Place::At(a.local_addr().unwrap()));
        fabric.place(1, Place::At(b.local_addr().unwrap()));
        fabric.begin();
        (a, b, fabric)
    }

    #[tokio::test]
    async fn fates_are_those_of_the_simulated_link() {
        let rough = "delay = \"0ms\"\nloss = 0.3";
        let (a, b, fabric) = pair(rough).await;
        let mut link = link_between(&scenario(rough), Key::new(7), 0, 1);
        let expected: Vec<u8> = (0..100u8)
            .filter(|&n| link.offer(0, u64::from(n), 1).first.is_ok())
            .collect();
        assert!((50..90).contains(&expected.len()), "{} of 100 at 30 %", expected.len());
        let to_b = fabric.address(1, 0).unwrap();
        for n in 0..100u8 {
            a.send_to(&[n], to_b).await.unwrap();
        }
        let mut buffer = [0; 8];
        for n in expected {
            let (len, from) = b.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..len], from), (&[n][..], fabric.address(0, 1).unwrap()));
        }
    }

    #[tokio::test]
    async fn either_side_speaks_first_and_a_moved_one_is_seen_elsewhere() {
        let (a, b, fabric) = pair("delay = \"0ms\"").await;
        let mut buffer = [0; 8];
        let before = fabric.address(1, 0).unwrap();
        b.send_to(b"hi", fabric.address(0, 1).unwrap()).await.unwrap();
        assert_eq!(a.recv_from(&mut buffer).await.unwrap(), (2, before));
        fabric.change_address(1).unwrap();
        let after = fabric.address(1, 0).unwrap();
        assert_ne!(before, after);
        a.send_to(b"lost", before).await.unwrap();
        a.send_to(b"found", after).await.unwrap();
        let (len, _) = b.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"found");
        b.send_to(b"back", fabric.address(0, 1).unwrap()).await.unwrap();
        assert_eq!(a.recv_from(&mut buffer).await.unwrap(), (4, after));
        while fabric.stats().left == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fabric.stats().moves, 1);
    }

    #[tokio::test]
    async fn strangers_and_the_dead_are_not_heard() {
        let (a, b, fabric) = pair("delay = \"0ms\"").await;
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let to_b = fabric.address(1, 0).unwrap();
        stranger.send_to(b"x", to_b).await.unwrap();
        while fabric.stats().strangers == 0 {
            tokio::task::yield_now().await;
        }
        fabric.place(1, Place::Down);
        a.send_to(b"y", to_b).await.unwrap();
        while fabric.stats().down == 0 {
            tokio::task::yield_now().await;
        }
        // A process at an address that nobody was told of is known by what it sends.
        fabric.place(1, Place::Unknown);
        b.send_to(b"z", fabric.address(0, 1).unwrap()).await.unwrap();
        let mut buffer = [0; 8];
        a.recv_from(&mut buffer).await.unwrap();
        a.send_to(b"w", to_b).await.unwrap();
        let (len, _) = b.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"w");
    }

    #[tokio::test]
    async fn a_healed_link_passes_everything() {
        let (a, b, fabric) = pair("delay = \"0ms\"\nloss = 1.0").await;
        let to_b = fabric.address(1, 0).unwrap();
        a.send_to(b"lost", to_b).await.unwrap();
        while fabric.stats().links.offered == 0 {
            tokio::task::yield_now().await;
        }
        fabric.heal(&[]);
        a.send_to(b"kept", to_b).await.unwrap();
        let mut buffer = [0; 8];
        let (len, _) = b.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"kept");
    }
}
