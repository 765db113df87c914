//! `net up`: runs a node of the mesh until it is told to end.
//!
//! | file | role |
//! |---|---|
//! | `config.rs` | the configuration file |
//! | `cache.rs` | the neighbours of the last run |
//! | `notify.rs` | systemd |
//! | `metrics.rs` | the page that prometheus fetches |
//! | `serve.rs` | the control socket |
//! | `look.rs` `doctor.rs` | what commands are answered |
//! | `sessions.rs` | the sessions that are held |
//! | `channels.rs` `follow.rs` | publishing and subscribing |
//!
//! Invariants: one node per state directory; whatever ends it, peers are told, the neighbours are remembered and the control
//! socket goes. Not here: the mesh itself (`net-kernel`), the commands that ask (`mesh/`).

pub mod cache;
pub mod channels;
pub mod config;
mod doctor;
mod follow;
mod look;
mod metrics;
mod notify;
mod serve;
mod sessions;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use net_io_real::state::StateError;
use net_io_real::tokio::OsEntropy;
use net_io_real::{
    ConnectError, EntityId, Fact, Health, MeshEvent, MeshEvents, NetworkKey, Node, SessionConfig, StateDir, Ticket,
};
use net_kernel::base::rng::Secret;
use serde::Serialize;
use tokio::task::JoinSet;

use self::cache::Cache;
use self::channels::Channels;
use self::config::Config;
use self::metrics::Metrics;
use self::notify::Notifier;
use self::serve::Control;
use self::sessions::Sessions;
use crate::args::{ConfigAction, UpArgs};
use crate::control::client::Client;
use crate::control::socket_path;
use crate::error::{Code, Failure};
use crate::host;
use crate::output::{Note, Out, Record, hex};
use crate::peer;
use crate::signals::Signals;

/// How long peers may take to confirm what they were sent when the node ends.
const CLOSE_GRACE: Duration = Duration::from_secs(3);
/// Neighbours are remembered so long after the last change.
const CACHE_AFTER: Duration = Duration::from_millis(500);
/// How often others are told how busy this host is.
const DESCRIBE_EVERY: Duration = Duration::from_secs(5);
/// How often an idle session shows that it lives, at most.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Why a session with a peer is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// The configuration or the command line says so.
    Config,
    /// `net join`.
    Command,
    /// It was a neighbour in the last run.
    Cache,
}

/// A running node and what belongs to it.
pub struct World {
    pub node: Node,
    pub sessions: Arc<Sessions>,
    pub channels: Arc<Channels>,
    pub started: Instant,
    pub state_dir: PathBuf,
    pub metrics: Option<SocketAddr>,
    pub fingerprint: [u8; 8],
    pub open_network: bool,
    pub open_to_all: bool,
    kept: Mutex<BTreeMap<EntityId, (Kept, Vec<SocketAddr>)>>,
}

impl World {
    /// Keeps a session with a peer. What the user asked for stays so when the cache names it too.
    pub fn join(&self, peer: EntityId, addresses: &[SocketAddr], why: Kept) -> Result<(), Failure> {
        self.node.join(peer, addresses).map_err(|why| {
            let why = ConnectError::Refused { peer, why };
            Failure::new(Code::Usage, format!("{peer} cannot be joined: {why}"))
        })?;
        self.lock().insert(peer, (why, addresses.to_vec()));
        Ok(())
    }

    pub fn kept(&self, peer: &EntityId) -> Option<Kept> {
        self.lock().get(peer).map(|(why, _)| *why)
    }

    /// Where a peer that is kept is dialled.
    pub fn addresses(&self, peer: &EntityId) -> Vec<SocketAddr> {
        self.lock()
            .get(peer)
            .map_or_else(Vec::new, |(_, addresses)| addresses.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EntityId, (Kept, Vec<SocketAddr>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `net config`
pub fn configuration(action: &ConfigAction, out: Out) -> Result<(), Failure> {
    match action {
        ConfigAction::Example => out.raw(config::EXAMPLE),
        ConfigAction::Check { file } => {
            let (_, read) = config::load(file.as_deref())?;
            let path = match &read {
                Some(path) => path.clone(),
                None => config::default_path()?,
            };
            out.result(&Checked {
                file: path.display().to_string(),
                found: read.is_some(),
            })
        }
    }
}

/// `net up`
pub async fn run(args: &UpArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let (config, read) = config::load(args.config.as_deref())?;
    let config = with_options(config, args);
    let notifier = Notifier::from_env()
        .map_err(|error| Failure::new(Code::Start, format!("NOTIFY_SOCKET cannot be used: {error}")))?;
    let tickets = tickets(&config, args)?;
    let state_dir = peer::state_dir(args.id.as_ref())?;
    let socket = socket_path(&state_dir)?;
    let state = open_state(&state_dir).await?;
    let control = Control::bind(socket.clone()).await?;
    let metrics = match config.metrics {
        Some(address) => Some(Metrics::bind(address).await?),
        None => None,
    };
    let world = start(&config, &tickets, state, metrics.as_ref().map(Metrics::address)).await?;
    let (cache, unread) = Cache::open(&world.state_dir, &world.fingerprint);
    if let Some(why) = unread {
        out.event(&Note::new(why));
    }
    let mut served = JoinSet::new();
    served.spawn(world.sessions.clone().accept());
    if let Some(metrics) = metrics {
        served.spawn(metrics.serve(world.node.clone()));
    }
    let events = world.node.mesh_events();
    join_all(&world, &config, &tickets, &cache)?;
    out.event(&Up::new(&world, &socket, read.as_deref()));
    notifier.say("READY=1");
    let mut upkeep = Upkeep {
        world: world.clone(),
        cache,
        notifier,
        out,
    };
    let result = tokio::select! {
        biased;
        result = upkeep.run(events, &mut signals) => result,
        () = control.serve(&world) => Ok(()),
    };
    upkeep.notifier.say("STOPPING=1");
    upkeep.remember();
    drop(control);
    world.node.close_within(CLOSE_GRACE).await;
    result
}

/// What the command line says goes before the file.
fn with_options(mut config: Config, args: &UpArgs) -> Config {
    config.bind = args.bind.or(config.bind);
    config.metrics = args.metrics.or(config.metrics);
    config.multicast |= args.multicast;
    config.network_key = args.network_key.clone().or(config.network_key);
    config
}

/// Every ticket of whom to join.
fn tickets(config: &Config, args: &UpArgs) -> Result<Vec<Ticket>, Failure> {
    let mut tickets = config.tickets.clone();
    for text in &args.join {
        tickets.push(peer::read_ticket(Some(text), None)?);
    }
    for file in config.ticket_files.iter().chain(&args.join_file) {
        tickets.push(peer::read_ticket(None, Some(file))?);
    }
    Ok(tickets)
}

/// Locks the state directory; says who holds it where somebody does.
async fn open_state(path: &std::path::Path) -> Result<StateDir, Failure> {
    match StateDir::open_or_create(path, &OsEntropy) {
        Err(error @ StateError::Locked { .. }) => {
            let mut failure = Failure::from(error);
            if let Ok(Some(client)) = Client::to(path).await {
                let who = client
                    .pid()
                    .map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                failure.message = format!("{who} runs a node with {} already", path.display());
                failure = failure
                    .next("net status            # asks it")
                    .next("net up --id DIR       # another node, with a state directory of its own");
            }
            Err(failure)
        }
        opened => Ok(opened?),
    }
}

/// The network: as configured, or that of a ticket that carries its key.
fn network(config: &Config, tickets: &[Ticket]) -> Result<NetworkKey, Failure> {
    let carried = tickets.iter().find_map(Ticket::network_key);
    let network = match (&config.network_key, carried) {
        (None, Some(key)) => NetworkKey::from_bytes(Secret(*key)),
        (file, _) => peer::network(file.as_deref())?,
    };
    let open = NetworkKey::open().fingerprint();
    match tickets
        .iter()
        .find(|ticket| ticket.fingerprint != network.fingerprint())
    {
        None => Ok(network),
        Some(ticket) => Err(Failure::other_network(
            &hex(&ticket.fingerprint),
            &hex(&network.fingerprint()),
            network.is_open(),
            ticket.fingerprint == open,
        )),
    }
}

async fn start(
    config: &Config,
    tickets: &[Ticket],
    state: StateDir,
    metrics: Option<SocketAddr>,
) -> Result<Arc<World>, Failure> {
    let network = network(config, tickets)?;
    let (fingerprint, open_network) = (network.fingerprint(), network.is_open());
    let state_dir = state.path().to_path_buf();
    let idle = config.idle_timeout;
    let mut builder = Node::builder()
        .network(network)
        .config(SessionConfig {
            idle_timeout: peer::kernel_duration(idle),
            keep_alive: Some(peer::kernel_duration(KEEP_ALIVE.min(idle / 3))),
            ..SessionConfig::default()
        })
        .address(host::address(config.bind))
        .advertise(config.advertise.iter().copied())
        .mesh(config.mesh.clone())
        .multicast(config.multicast)
        .state(state);
    if !config.allow.is_empty() {
        builder = builder.allow(config.allow.iter().copied());
    }
    let node = builder.bind().await?;
    let channels = Channels::new(config.patience);
    Ok(Arc::new(World {
        sessions: Sessions::new(node.clone(), channels.clone()),
        node,
        channels,
        started: Instant::now(),
        state_dir,
        metrics,
        fingerprint,
        open_network,
        open_to_all: config.allow.is_empty(),
        kept: Mutex::default(),
    }))
}

/// Joins whom the configuration, the command line and the last run name.
fn join_all(world: &World, config: &Config, tickets: &[Ticket], cache: &Cache) -> Result<(), Failure> {
    let own = world.node.entity();
    let given = tickets.iter().map(|ticket| (ticket.entity, ticket.addresses.clone()));
    for (peer, addresses) in given.chain(config.peers.iter().cloned()) {
        // One configuration may serve all hosts, and names each of them on itself too.
        if peer != own {
            world.join(peer, &addresses, Kept::Config)?;
        }
    }
    if config.cached {
        for (peer, address) in cache.peers() {
            if *peer != own && world.kept(peer).is_none() {
                world.join(*peer, &[*address], Kept::Cache)?;
            }
        }
    }
    Ok(())
}

/// What goes on while the node runs.
struct Upkeep {
    world: Arc<World>,
    cache: Cache,
    notifier: Notifier,
    out: Out,
}

impl Upkeep {
    async fn run(&mut self, mut events: MeshEvents, signals: &mut Signals) -> Result<(), Failure> {
        let node = self.world.node.clone();
        let mut describe = tokio::time::interval(DESCRIBE_EVERY);
        let watchdog = self.notifier.watchdog_interval();
        let mut alive = tokio::time::interval(watchdog.unwrap_or(DESCRIBE_EVERY));
        let mut remember: Option<tokio::time::Instant> = None;
        loop {
            let due = async {
                match remember {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // Being told to end is how this ends.
                _ = signals.next() => return Ok(()),
                Some(told) = node.until_rolled_back() => {
                    let message = format!("{} knows a later incarnation of this identity: it was restored from an old copy, \
                                           or runs twice", told.peer);
                    return Err(Failure::new(Code::RolledBack, message).next("net id new --id DIR"));
                }
                () = node.closed() => {
                    return Err(Failure::new(Code::Start, "the node stopped: its socket does not work any more").next("net netcheck"));
                }
                event = events.next() => {
                    if let Some(event) = event {
                        self.out.event(&Happened::new(&event));
                        remember.get_or_insert(tokio::time::Instant::now() + CACHE_AFTER);
                    }
                }
                () = due => {
                    remember = None;
                    self.remember();
                }
                _ = describe.tick() => {
                    if let Some(load) = load() {
                        // Refused only while the node ends.
                        let _ = node.describe(load, Health::Good);
                    }
                }
                _ = alive.tick(), if watchdog.is_some() => {
                    // To look takes the node's lock: one that hangs is not called alive.
                    let _ = node.drops();
                    self.notifier.say("WATCHDOG=1");
                }
            }
        }
    }

    /// Writes down who the neighbours are.
    fn remember(&mut self) {
        let mesh = look::mesh(&self.world);
        let usable = mesh.neighbours.iter().filter(|link| link.cost.is_some());
        let neighbours: Vec<_> = usable.map(|link| (link.entity, link.address)).collect();
        if let Err(error) = self.cache.note(&neighbours) {
            self.out.event(&Note::new(format!(
                "the neighbours cannot be remembered for the next run: {error}"
            )));
        }
    }
}

/// How busy this host is, in thousandths of its processors, where it tells.
fn load() -> Option<u16> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split(' ').next()?.parse().ok()?;
    let processors = std::thread::available_parallelism().ok()?.get() as f64;
    Some((load / processors * 1e3).clamp(0.0, 1e3) as u16)
}

/// A node runs.
#[derive(Serialize)]
struct Up {
    id: String,
    address: String,
    ticket: String,
    /// What others run.
    command: String,
    state_dir: String,
    control: String,
    config: Option<String>,
    metrics: Option<String>,
    open_network: bool,
    open_to_all: bool,
}

impl Up {
    fn new(world: &World, socket: &std::path::Path, config: Option<&std::path::Path>) -> Self {
        let ticket = look::ticket(world);
        Self {
            id: hex(&world.node.entity().0),
            address: world.node.local_addr().to_string(),
            ticket: ticket.ticket,
            command: ticket.command,
            state_dir: world.state_dir.display().to_string(),
            control: socket.display().to_string(),
            config: config.map(|path| path.display().to_string()),
            metrics: world.metrics.map(|address| address.to_string()),
            open_network: world.open_network,
            open_to_all: world.open_to_all,
        }
    }
}

impl fmt::Display for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "node {} is up on UDP {}", &self.id[..16], self.address)?;
        writeln!(f, "state in {}", self.state_dir)?;
        if let Some(config) = &self.config {
            writeln!(f, "configured by {config}")?;
        }
        if let Some(metrics) = &self.metrics {
            writeln!(f, "metrics at http://{metrics}/metrics")?;
        }
        write!(f, "on another node's host:\n\n  {}\n", self.command)?;
        if self.open_network && self.open_to_all {
            f.write_str(
                "\nwarning: open network and no list of identities: whoever has this ticket is admitted, and nobody's packets are\n\
                 relayed unless the configuration says `relays = true` under [mesh]. Close it with --network-key FILE\n\
                 (net key new FILE), or name whom to admit in the configuration (`allow`).",
            )?;
        }
        Ok(())
    }
}

impl Record for Up {
    const KIND: &'static str = "up";
}

/// Something became known of the mesh.
#[derive(Serialize)]
struct Happened {
    /// found, lost, suspected, refuted, failed, link_lost, recovered, outage or missed.
    what: &'static str,
    id: Option<String>,
    via: Option<String>,
    hops: Option<u8>,
    rtt_us: Option<u32>,
    #[serde(skip)]
    text: String,
}

impl Happened {
    fn new(event: &MeshEvent) -> Self {
        let about = |what, node: &EntityId, text: &str| Self {
            what,
            id: Some(hex(&node.0)),
            via: None,
            hops: None,
            rtt_us: None,
            text: format!("{node} {text}"),
        };
        let general = |what, text| Self {
            what,
            id: None,
            via: None,
            hops: None,
            rtt_us: None,
            text,
        };
        match event {
            MeshEvent::Missed(count) => general("missed", format!("{count} events of the mesh were not told in time")),
            MeshEvent::Fact(fact) => match fact {
                Fact::Found { node, route } => {
                    let how = if route.hops == 1 {
                        "found, a neighbour".to_owned()
                    } else {
                        format!("found over {}, {} hops", route.next, route.hops)
                    };
                    Self {
                        via: Some(hex(&route.next.0)),
                        hops: Some(route.hops),
                        rtt_us: Some(route.rtt_us),
                        ..about("found", node, &how)
                    }
                }
                Fact::Lost(node) => about("lost", node, "lost: no route leads there any more"),
                Fact::Suspected(node) => about("suspected", node, "suspected: nothing was heard for three heartbeats"),
                Fact::Refuted(node) => about("refuted", node, "is heard again"),
                Fact::Failed(node) => about("failed", node, "failed: nobody hears it"),
                Fact::LinkLost(node) => about("link_lost", node, "is heard by others: the link to it failed"),
                Fact::Recovered(node) => about("recovered", node, "recovered"),
                Fact::Collision(collision) => about(
                    "collision",
                    &collision.unroutable,
                    "bears the label of another node: nothing can be relayed to it from here",
                ),
                Fact::Outage(outage) => general(
                    "outage",
                    format!(
                        "outage: {} of {} neighbours failed and {} of {} nodes were lost at about the same time",
                        outage.failed, outage.of, outage.lost, outage.reached
                    ),
                ),
                Fact::OutageOver(_) => {
                    general("outage_over", "outage over: everybody is back, or forgotten".to_owned())
                }
            },
        }
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Record for Happened {
    const KIND: &'static str = "mesh";
}

/// A configuration without a fault.
#[derive(Serialize)]
struct Checked {
    file: String,
    found: bool,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.found {
            write!(f, "{} is right", self.file)
        } else {
            write!(f, "there is no {}: everything has its default", self.file)
        }
    }
}

impl Record for Checked {
    const KIND: &'static str = "config";
}
