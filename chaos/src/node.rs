//! A node process: one node of the real driver that does the workloads of a scenario, as it is ordered line by line.
//!
//! Invariants: everything goes through the public interface of `net-io-real`, as an application's would; it ends when its
//! orders do; what it tells is told before it does anything else.
//! Not here: what streams carry (`streams.rs`), who orders (`run.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net_io_real::{
    EntityId, MeshEvent, MeshEvents, MeshNeighbour, NetworkKey, Node, SendError, Session, SessionError, Standing,
    Stream, StreamOptions,
};
use net_io_sim::payload;
use net_io_sim::scenario::{NodeIndex, Scenario, WorkloadKind};
use net_io_sim::world::mesh_name;
use net_kernel::base::rng::Secret;
use net_kernel::wire::DropReason;
use net_sim_model::{Family, Key};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::protocol::{Figures, Flow, Order, Peer, Relays, SessionFigures, Told, View, entity, flows};
use crate::streams::{self, Half};

/// Pause before a failed attempt is made again.
const REDIAL: Duration = Duration::from_millis(100);
/// How long a stream may be known to its acceptor before the run has told of it.
const UNANNOUNCED: Duration = Duration::from_secs(60);
/// How long peers may take to confirm what was finished when a node is told to end.
const CLOSE_GRACE: Duration = Duration::from_secs(3);

/// What a node process is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The resolved scenario.
    pub scenario: PathBuf,
    /// Its seed.
    pub seed: u64,
    /// Which of its machines this is.
    pub node: NodeIndex,
    /// The state directory.
    pub state: PathBuf,
}

/// The network of a scenario under a seed.
#[must_use]
pub fn network(scenario: &Scenario, seed: u64) -> NetworkKey {
    if !scenario.closed {
        return NetworkKey::open();
    }
    let secret = Key::new(seed).family(Family::Boot).with_text("network").bytes32(0);
    NetworkKey::from_bytes(Secret(secret))
}

/// Serves until told to end.
///
/// # Errors
/// A sentence: what is wrong with the scenario, the orders or the node.
pub async fn run(config: Config) -> Result<(), String> {
    let file = config.scenario.display().to_string();
    let text = std::fs::read_to_string(&config.scenario).map_err(|error| format!("{file}: {error}"))?;
    let scenario = Scenario::parse(&file, &text).map_err(|error| error.to_string())?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let Some(Order::Go { peers }) = next(&mut orders).await? else {
        return Err("the first order must be to go".to_owned());
    };
    let machine = Arc::new(Machine::start(&config, scenario, peers).await?);
    tell(&Told::Ready {
        address: Some(machine.node.local_addr()),
    });
    if machine.scenario.mesh.is_some() {
        tokio::spawn(facts(machine.node.mesh_events()));
    }
    tokio::spawn(accept(Arc::clone(&machine)));
    for peer in 0..machine.entities.len() as NodeIndex {
        machine.join(peer);
    }
    while let Some(order) = next(&mut orders).await? {
        if order == Order::Quit {
            machine.node.close_within(CLOSE_GRACE).await;
            return Ok(());
        }
        machine.obey(order).await;
    }
    Err("the orders ended before the order to end".to_owned())
}

async fn next(orders: &mut Lines<BufReader<Stdin>>) -> Result<Option<Order>, String> {
    let line = orders.next_line().await.map_err(|error| error.to_string())?;
    line.map(|line| serde_json::from_str(&line).map_err(|error| format!("{error} in {line}")))
        .transpose()
}

/// Tells the run something. Where nobody listens any more there is nothing left to do.
pub fn tell(told: &Told) {
    let mut line = serde_json::to_vec(told).expect("what is told has text keys only");
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        std::process::exit(3);
    }
}

/// An instance as the run told of it.
#[derive(Clone, Copy, Debug)]
enum Known {
    Live {
        flow: usize,
        base: [u64; 2],
        began: Instant,
    },
    Frozen,
}

struct Machine {
    node: Node,
    scenario: Scenario,
    flows: Vec<Flow>,
    me: NodeIndex,
    entities: Vec<EntityId>,
    table: Mutex<Table>,
    /// Changes whenever the table does.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    addresses: Vec<Option<SocketAddr>>,
    sessions: BTreeMap<NodeIndex, Vec<Session>>,
    dialling: BTreeSet<NodeIndex>,
    instances: BTreeMap<u16, Known>,
    /// Tasks that read or write an instance for its acceptor.
    serving: BTreeMap<u16, Vec<JoinHandle<()>>>,
    /// The newest instance of each stream that this machine opens.
    newest: BTreeMap<usize, u16>,
}

impl Machine {
    async fn start(config: &Config, scenario: Scenario, peers: Vec<Peer>) -> Result<Self, String> {
        let entities: Option<Vec<EntityId>> = peers.iter().map(|peer| entity(&peer.entity)).collect();
        let entities = entities.ok_or("an identity that is none")?;
        let spec = scenario.nodes.get(config.node as usize).ok_or("no such machine")?;
        let mut builder = Node::builder()
            .state_dir(&config.state)
            .network(network(&scenario, config.seed))
            .config(scenario.config_of(config.node))
            .aes(spec.aes)
            .address((Ipv4Addr::LOCALHOST, 0).into());
        if let Some(mesh) = &scenario.mesh {
            builder = builder.mesh(mesh.config.clone());
        }
        if let Some(allow) = &spec.allow {
            builder = builder.allow(allow.iter().map(|index| entities[*index as usize]));
        }
        let node = builder.bind().await.map_err(|error| error.to_string())?;
        Ok(Self {
            node,
            flows: flows(&scenario, config.seed),
            scenario,
            me: config.node,
            entities,
            table: Mutex::new(Table {
                addresses: peers.iter().map(|peer| peer.address).collect(),
                ..Table::default()
            }),
            changed: watch::Sender::new(0),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let result = change(&mut self.table());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    async fn obey(self: &Arc<Self>, order: Order) {
        match order {
            // They are seen before this is called.
            Order::Go { .. } | Order::Quit => {}
            Order::Moved { node, address } => {
                self.change(|table| {
                    if let Some(slot) = table.addresses.get_mut(node as usize) {
                        *slot = Some(address);
                    }
                });
                self.join(node);
            }
            Order::Begin { workload, left } => self.begin(workload, left),
            Order::Instance {
                instance,
                flow,
                base,
                now,
            } => self.announce(instance, flow, base, now),
            Order::Freeze { instance } => self.freeze(instance).await,
            Order::Rebind => match self.node.rebind((Ipv4Addr::LOCALHOST, 0).into()) {
                Ok(address) => tell(&Told::Rebound { address }),
                Err(error) => tell(&violation("process", format!("no other socket: {error}"))),
            },
            Order::Survey => tell(&Told::View(self.view())),
            Order::Report => tell(&Told::Report(self.figures())),
        }
    }

    /// Keeps a session with a machine, where the scenario says that it is this one's to keep.
    fn join(&self, peer: NodeIndex) {
        let links = self.scenario.mesh.as_ref().map(|mesh| &mesh.links);
        let address = self.table().addresses.get(peer as usize).copied().flatten();
        if let Some(address) = address.filter(|_| links.is_some_and(|links| links.contains(&(self.me, peer))))
            && let Err(why) = self.node.join(self.entities[peer as usize], &[address])
        {
            tell(&violation("refused", format!("a link to {peer}: {why:?}")));
        }
    }

    /// How the mesh looks from here.
    fn view(&self) -> View {
        let Some(mesh) = self.node.mesh() else {
            return View::default();
        };
        let heard = |neighbour: &&MeshNeighbour| neighbour.standing == Standing::Alive;
        let links = mesh.neighbours.iter().filter(heard);
        let routes = mesh.nodes.iter().map(|node| (node.entity, node.route().next));
        View {
            links: links.filter_map(|neighbour| self.index(neighbour.entity)).collect(),
            routes: routes
                .filter_map(|(to, next)| Some((self.index(to)?, self.index(next)?)))
                .collect(),
            relayed: self.relayed(),
        }
    }

    fn relayed(&self) -> Relays {
        let relayed = self.node.relayed();
        Relays {
            packets: relayed.packets,
            bytes: relayed.bytes,
            refused: relayed.refused,
        }
    }

    fn announce(&self, instance: u16, flow: usize, base: [u64; 2], now: u64) {
        let began = Instant::now().checked_sub(Duration::from_nanos(now));
        let began = began.unwrap_or_else(Instant::now);
        let opens = self.flows.get(flow).is_some_and(|flow| flow.from == self.me);
        self.change(|table| {
            table.instances.insert(instance, Known::Live { flow, base, began });
            if opens {
                table.newest.insert(flow, instance);
            }
        });
    }

    async fn freeze(&self, instance: u16) {
        let tasks = self.change(|table| {
            table.instances.insert(instance, Known::Frozen);
            table.serving.remove(&instance).unwrap_or_default()
        });
        for task in tasks {
            task.abort();
            // It has ended, or was ended: either way it tells nothing more.
            let _ = task.await;
        }
        tell(&Told::Frozen { instance });
    }

    fn begin(self: &Arc<Self>, workload: usize, left: u64) {
        let Some(spec) = self.scenario.workloads.get(workload) else {
            return;
        };
        match spec.kind {
            WorkloadKind::Stream(_) => {
                let all = self.flows.iter().enumerate();
                for (flow, _) in all.filter(|(_, flow)| flow.workload == workload) {
                    tokio::spawn(pursue(Arc::clone(self), flow));
                }
            }
            WorkloadKind::File(_) => {}
            WorkloadKind::Echo { .. } | WorkloadKind::Rekey { .. } | WorkloadKind::Connect | WorkloadKind::Close => {
                tokio::spawn(step(Arc::clone(self), workload, left));
            }
        }
    }

    fn index(&self, entity: EntityId) -> Option<NodeIndex> {
        let index = self.entities.iter().position(|known| *known == entity)?;
        Some(index as NodeIndex)
    }

    /// The newest live session with a peer.
    fn live(&self, peer: NodeIndex) -> Option<Session> {
        let table = self.table();
        let sessions = table.sessions.get(&peer)?;
        sessions.iter().rev().find(|session| session.is_open()).cloned()
    }

    /// A live session with a peer; dials until there is one.
    async fn session(self: &Arc<Self>, peer: NodeIndex) -> Session {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(session) = self.live(peer) {
                return session;
            }
            if self.table().dialling.insert(peer) {
                // A task of its own, so that it does not matter who of those who wait gives up.
                tokio::spawn(dial(Arc::clone(self), peer));
            }
            // The sender lives as long as the machine.
            let _ = changed.changed().await;
        }
    }

    fn adopt(self: &Arc<Self>, session: Session, peer: NodeIndex, took: Option<Duration>) {
        let took = took.map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        tell(&Told::Connected { peer, took });
        self.change(|table| table.sessions.entry(peer).or_default().push(session.clone()));
        tokio::spawn(streams(Arc::clone(self), session.clone(), peer));
        tokio::spawn(until_closed(Arc::clone(self), session, peer));
    }

    fn figures(&self) -> Figures {
        let sessions: Vec<Session> = self.table().sessions.values().flatten().cloned().collect();
        let figures = sessions.iter().filter_map(Session::stats).map(|stats| SessionFigures {
            rtt: stats.rtt.as_nanos(),
            sent: stats.sent,
            received: stats.received,
            lost: stats.lost,
            moves: stats.moves,
        });
        let drops = self.node.drops();
        let drops = drops.nonzero().map(|(reason, count)| (reason_name(reason), count));
        Figures {
            sessions: figures.collect(),
            drops: drops.collect(),
            relayed: self.relayed(),
            rolled_back: self.node.rolled_back().is_some(),
        }
    }
}

fn reason_name(reason: DropReason) -> String {
    reason.name().to_owned()
}

fn violation(checker: &str, what: String) -> Told {
    Told::Violation {
        checker: checker.to_owned(),
        what,
    }
}

/// Dials until there is a session, by whomever.
async fn dial(machine: Arc<Machine>, peer: NodeIndex) {
    let began = Instant::now();
    let entity = machine.entities[peer as usize];
    loop {
        let address = machine.table().addresses.get(peer as usize).copied().flatten();
        let dialled = match address {
            Some(address) => machine.node.dial(entity, &[address]).await,
            // Over relays, once there is a way.
            None => machine.node.reach(entity).await,
        };
        match dialled {
            Ok(session) => {
                machine.table().dialling.remove(&peer);
                return machine.adopt(session, peer, Some(began.elapsed()));
            }
            Err(error) => {
                let why = error.code().to_owned();
                tell(&Told::ConnectFailed { peer, why });
            }
        }
        if machine.live(peer).is_some() {
            machine.change(|table| table.dialling.remove(&peer));
            return;
        }
        sleep(REDIAL).await;
    }
}

async fn facts(mut events: MeshEvents) {
    while let Some(event) = events.next().await {
        if let MeshEvent::Fact(fact) = event {
            let fact = mesh_name(&fact).to_owned();
            tell(&Told::Mesh { fact });
        }
    }
}

async fn accept(machine: Arc<Machine>) {
    while let Some(session) = machine.node.accept().await {
        match machine.index(session.peer()) {
            Some(peer) => machine.adopt(session, peer, None),
            None => tell(&violation(
                "identity",
                format!("a session with {}, whom nobody is", session.peer()),
            )),
        }
    }
}

async fn until_closed(machine: Arc<Machine>, session: Session, peer: NodeIndex) {
    let reason = session.closed().await;
    let why = SessionError::Closed {
        peer: session.peer(),
        why: reason,
    };
    let why = why.code().to_owned();
    machine.change(|table| {
        if let Some(sessions) = table.sessions.get_mut(&peer) {
            sessions.retain(Session::is_open);
        }
    });
    tell(&Told::Closed { peer, why });
}

async fn streams(machine: Arc<Machine>, session: Session, peer: NodeIndex) {
    while let Some(stream) = session.accept_stream().await {
        tokio::spawn(serve(Arc::clone(&machine), stream, peer));
    }
}

/// The acceptor's side of a stream.
async fn serve(machine: Arc<Machine>, stream: Stream, peer: NodeIndex) {
    let Some(instance) = payload::stream_number(stream.subprotocol()) else {
        let what = format!(
            "a stream of subprotocol {:#06x}, which nobody opened",
            stream.subprotocol()
        );
        return tell(&violation("stream-order", what));
    };
    let known = timeout(UNANNOUNCED, machine.known(instance)).await;
    let Ok(Known::Live { flow, base, began }) = known else {
        if known.is_err() {
            tell(&violation(
                "stream-order",
                format!("stream {instance}, which nobody opened"),
            ));
        }
        return;
    };
    let flow = &machine.flows[flow];
    if (flow.from, flow.to) != (peer, machine.me) {
        let what = format!("stream {instance} came from {peer}, not from {}", flow.from);
        return tell(&violation("identity", what));
    }
    let (out, from) = stream.split();
    let forward = Half::new(flow, instance, 0, base, began);
    let backward = Half::new(flow, instance, 1, base, began);
    // Under one lock, so that nothing is told of an instance after it is told to be frozen.
    let mut table = machine.table();
    if let Some(Known::Frozen) = table.instances.get(&instance) {
        return;
    }
    let read = tokio::spawn(async move {
        // Its opener tells when a stream is lost.
        let _ = streams::read(&forward, from, &tell).await;
    });
    let write = tokio::spawn(async move {
        if streams::write(&backward, out).await.is_ok() {
            tell(&Told::Flushed { instance, way: 1 });
        }
    });
    table.serving.entry(instance).or_default().extend([read, write]);
}

impl Machine {
    /// What the run says of an instance, as soon as it does.
    async fn known(&self, instance: u16) -> Known {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(known) = self.table().instances.get(&instance) {
                return *known;
            }
            // The sender lives as long as the machine.
            let _ = changed.changed().await;
        }
    }

    /// The next instance of a stream after `last`.
    async fn next_instance(&self, flow: usize, last: Option<u16>) -> (u16, [u64; 2], Instant) {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let table = self.table();
                let newest = table.newest.get(&flow).copied().filter(|newest| Some(*newest) != last);
                if let Some(newest) = newest
                    && let Some(Known::Live { base, began, .. }) = table.instances.get(&newest)
                {
                    return (newest, *base, *began);
                }
            }
            // The sender lives as long as the machine.
            let _ = changed.changed().await;
        }
    }
}

/// The opener's side of a stream, over as many sessions as it takes.
async fn pursue(machine: Arc<Machine>, index: usize) {
    let flow = &machine.flows[index];
    let mut last = None;
    loop {
        machine.session(flow.to).await;
        tell(&Told::Want { flow: index });
        let (instance, base, began) = machine.next_instance(index, last).await;
        last = Some(instance);
        let session = machine.session(flow.to).await;
        let why = match open(&session, flow, instance) {
            Ok(stream) => match exchange(flow, instance, base, began, stream).await {
                Ok(()) => return,
                Err(why) => why,
            },
            Err(error) => error.code().to_owned(),
        };
        tell(&Told::Lost { instance, why });
        if !flow.stream.resume {
            return;
        }
        // A session that is ending must not be taken for one that can be used.
        sleep(REDIAL).await;
    }
}

fn open(session: &Session, flow: &Flow, instance: u16) -> Result<Stream, SessionError> {
    session.open(StreamOptions {
        reliability: flow.stream.reliability,
        priority: flow.stream.priority,
        weight: flow.stream.weight,
        subprotocol: payload::subprotocol(usize::from(instance)).expect("streams are named while there are ids"),
    })
}

/// Both directions at the opener; why it cannot go on.
async fn exchange(flow: &Flow, instance: u16, base: [u64; 2], began: Instant, stream: Stream) -> Result<(), String> {
    let forward = Half::new(flow, instance, 0, base, began);
    let backward = Half::new(flow, instance, 1, base, began);
    let (out, from) = stream.split();
    let write = async {
        let written = streams::write(&forward, out).await;
        if written.is_ok() {
            tell(&Told::Flushed { instance, way: 0 });
        }
        written.map_err(|error| {
            if let SendError::TooLarge { len, limit } = error {
                tell(&violation("refused", format!("{len} bytes are too many: {limit}")));
            }
            error.code().to_owned()
        })
    };
    let read = async {
        let read = streams::read(&backward, from, &tell).await;
        read.map_err(|error| error.code().to_owned())
    };
    tokio::try_join!(write, read).map(|((), ())| ())
}

/// A workload without streams.
async fn step(machine: Arc<Machine>, workload: usize, left: u64) {
    let spec = &machine.scenario.workloads[workload];
    let (peer, kind) = (spec.to, spec.kind.clone());
    for n in 0..left {
        if let WorkloadKind::Close = kind {
            if let Some(session) = machine.live(peer) {
                session.close(0, "").await;
            }
            tell(&Told::Step { workload });
            continue;
        }
        let session = machine.session(peer).await;
        tell(&Told::Step { workload });
        match kind {
            WorkloadKind::Stream(_) | WorkloadKind::File(_) | WorkloadKind::Connect | WorkloadKind::Close => {}
            WorkloadKind::Echo { every, .. } => {
                tokio::spawn(async move {
                    // An echo of a session that ends has no answer.
                    if let Ok(rtt) = session.echo().await {
                        let rtt = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
                        tell(&Told::Echo { rtt });
                    }
                });
                pause(every, n + 1 < left).await;
            }
            WorkloadKind::Rekey { every, .. } => {
                tokio::spawn(async move {
                    if session.rekey().await.is_ok() {
                        tell(&Told::Rekeyed);
                    }
                });
                pause(every, n + 1 < left).await;
            }
        }
    }
}

async fn pause(every: u64, more: bool) {
    if more {
        sleep(Duration::from_nanos(every)).await;
    }
}
