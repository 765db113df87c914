//! A node as users hold it: built, bound, connecting, accepting, closing.
//!
//! Invariants: the boot epoch is on disk before the socket is used; nothing is sent to a ticket of another network; the
//! node runs while a handle of it, of a session or of a stream lives, and then until what was finished is confirmed.
//! Not here: sessions and streams, the loop (`driver.rs`), sockets (`tokio.rs`).

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use net_kernel::api::{Algorithm, Boot};
use net_kernel::base::{Check, NoCheck};
use net_kernel::session::aead::Aead;
use net_kernel::wire::ticket::Ticket;
use tracing::Instrument as _;
use zeroize::Zeroizing;

use crate::api::{
    Addr, Command, CommandId, Deadline, Drops, EntityId, Epoch, Identity, Input, Io, Mesh, MeshConfig, NetworkKey, Now,
    Relayed, Seed, SessionConfig, SessionKey, SessionStats, UnixNanos,
};
use crate::driver::{Driver, Parts};
use crate::error::{ConnectError, RolledBack, StartError};
use crate::hub::{Core, Failure, Hub, Phase, Sending, Shared};
use crate::multicast;
use crate::session::{Handle, Session};
use crate::state::{MemoryDisk, StateDir, draw_identity};
use crate::tokio::{OsEntropy, TokioClock, TokioSocket, any_address};
use crate::traits::{Clock, DatagramSocket, Disk, Entropy};

/// The AEAD of nodes that this crate builds.
#[cfg(feature = "aead-ring")]
pub type NodeAead = crate::aead::Ring;
/// The AEAD of nodes that this crate builds.
#[cfg(not(feature = "aead-ring"))]
pub type NodeAead = net_kernel::session::aead::Reference;

type HostDriver = Driver<TokioSocket, TokioClock, OsEntropy, AnyDisk>;
type Kernel = net_kernel::Kernel<NodeAead, NoCheck>;

/// How long [`Node::close`] waits for peers to confirm what was sent to them.
pub const CLOSE_GRACE: Duration = Duration::from_secs(10);
/// Threads for jobs that would delay traffic.
const JOB_THREADS: usize = 2;
/// Addresses a ticket names at most.
pub(crate) const MAX_ADDRESSES: usize = 16;

impl<A: Aead, C: Check> Core for net_kernel::Kernel<A, C>
where
    Self: Send,
{
    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline> {
        Self::turn(self, now, input, io)
    }

    fn stats(&self, session: SessionKey) -> Option<SessionStats> {
        Self::stats(self, session)
    }

    fn drops(&self) -> Drops {
        Self::drops(self)
    }

    fn mesh(&self) -> Option<&Mesh> {
        Self::mesh(self)
    }

    fn relayed(&self) -> Relayed {
        Self::relayed(self)
    }
}

/// A running node. Clones name the same node.
#[derive(Clone)]
pub struct Node {
    handle: Handle,
    networks: Arc<[NetworkKey]>,
    advertise: Arc<[SocketAddr]>,
    bound: Arc<Mutex<SocketAddr>>,
    rebind: Arc<Rebind>,
    /// The task at the segment of the network, where the node speaks there, and the runtime it is on.
    segment: Arc<Mutex<Option<SegmentTask>>>,
}

type SegmentTask = (tokio::runtime::Handle, tokio::task::JoinHandle<()>);

type Rebind = dyn Fn(SocketAddr) -> io::Result<SocketAddr> + Send + Sync;

/// What a node is made of; see [`Node::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until bind()"]
pub struct Builder {
    state: StateChoice,
    identity: Option<Identity>,
    networks: Vec<NetworkKey>,
    address: Option<SocketAddr>,
    advertise: Vec<SocketAddr>,
    allow: Option<Vec<EntityId>>,
    config: SessionConfig,
    aes: Option<bool>,
    threads: usize,
    lanes: u8,
    busy_poll: Duration,
    mesh: Option<MeshConfig>,
    multicast: bool,
}

#[derive(Debug)]
enum StateChoice {
    Ephemeral,
    Path(PathBuf),
    Open(Box<StateDir>),
}

impl Node {
    /// Begins to build a node. By default it has a fresh identity that is forgotten when it ends, belongs to the open
    /// network, admits everybody and binds any free port on all addresses.
    pub fn builder() -> Builder {
        Builder {
            state: StateChoice::Ephemeral,
            identity: None,
            networks: Vec::new(),
            address: None,
            advertise: Vec::new(),
            allow: None,
            config: SessionConfig::default(),
            threads: JOB_THREADS,
            lanes: 1,
            aes: None,
            busy_poll: Duration::ZERO,
            mesh: None,
            multicast: false,
        }
    }

    /// Who this node is.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        self.handle.shared().entity
    }

    /// The address its socket is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a peer of the same network needs to connect. Not secret.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket::new(self.entity(), self.networks[0].fingerprint(), self.addresses())
    }

    /// As [`Self::ticket`], with the network's key: whoever reads it can join. In the open network there is no secret,
    /// so it is the plain ticket.
    #[must_use]
    pub fn secret_ticket(&self) -> Ticket {
        let network = &self.networks[0];
        if network.is_open() {
            self.ticket()
        } else {
            self.ticket().with_network_key(network.reveal().0)
        }
    }

    /// Connects to the node a ticket names. Dropping the future gives up.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, ticket: &Ticket) -> Result<Session, ConnectError> {
        if !self
            .networks
            .iter()
            .any(|network| network.fingerprint() == ticket.fingerprint)
        {
            return Err(ConnectError::OtherNetwork);
        }
        self.dial(ticket.entity, &ticket.addresses).await
    }

    /// Connects to `peer` at any of 1 to 16 addresses. Dropping the future gives up.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn dial(&self, peer: EntityId, addresses: &[Addr]) -> Result<Session, ConnectError> {
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress { peer });
        }
        self.attempt(peer, &addresses[..addresses.len().min(MAX_ADDRESSES)])
            .await
    }

    /// A session with `peer`: the one there is, else a new one at the addresses it was joined with, else by whatever way the
    /// mesh has. Dropping the future gives up.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn reach(&self, peer: EntityId) -> Result<Session, ConnectError> {
        // Where there is a session, the kernel answers with it whatever the addresses.
        let known = self.handle.shared().lock().board.joined.get(&peer).cloned();
        self.attempt(peer, &known.unwrap_or_default()).await
    }

    async fn attempt(&self, peer: EntityId, addresses: &[Addr]) -> Result<Session, ConnectError> {
        let id = {
            let mut hub = self.handle.shared().lock();
            if hub.board.phase != Phase::Running {
                return Err(ConnectError::NodeClosed);
            }
            hub.connect(peer, addresses)
                .map_err(|why| ConnectError::Refused { peer, why })?
        };
        let _attempt = Attempt { node: self, id };
        poll_fn(|cx| {
            let mut hub = self.handle.shared().lock();
            match hub.board.connected(id, cx.waker()) {
                None => Poll::Pending,
                Some(Ok(key)) => Poll::Ready(Ok(Session::new(&self.handle, &mut hub, key, peer))),
                Some(Err(_)) if hub.board.phase != Phase::Running => Poll::Ready(Err(ConnectError::NodeClosed)),
                Some(Err(Failure::Ended(why))) => Poll::Ready(Err(ConnectError::Failed { peer, why })),
                Some(Err(Failure::Refused(why))) => Poll::Ready(Err(ConnectError::Refused { peer, why })),
            }
        })
        .await
    }

    /// The next session a peer opened; `None` once the node is closed.
    pub async fn accept(&self) -> Option<Session> {
        poll_fn(|cx| {
            let mut hub = self.handle.shared().lock();
            if let Some((key, peer)) = hub.board.accept_session() {
                return Poll::Ready(Some(Session::new(&self.handle, &mut hub, key, peer)));
            }
            if hub.board.phase != Phase::Running {
                return Poll::Ready(None);
            }
            hub.board.accepting.add(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Replaces the list of those who may hold sessions; `None` admits everybody of the network. Sessions of others are
    /// closed.
    pub fn allow(&self, list: Option<&[EntityId]>) {
        // The kernel refuses this only after a shutdown, when there is nobody to admit.
        let _ = self.handle.shared().lock().command(Command::Allow(list));
    }

    /// Moves the node to a new socket; its sessions follow. Tickets printed before name the old address.
    ///
    /// # Errors
    /// [`StartError::Bind`]; the old socket stays in use.
    pub fn rebind(&self, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let bound = (self.rebind)(address).map_err(|error| StartError::Bind { address, error })?;
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = bound;
        self.handle.shared().lock().board.call_driver();
        let segment = self.segment.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = segment.as_ref().map(|(runtime, _)| runtime.clone());
        drop(segment);
        if let Some(runtime) = runtime {
            let _inside = runtime.enter();
            multicast::leave(self.handle.shared());
            match multicast::Sockets::open(bound) {
                Ok(sockets) => self.speak(sockets),
                Err(error) => tracing::warn!(
                    code = error.code(), %error,
                    "at its new address the node is not found by others of its network"
                ),
            }
        }
        Ok(bound)
    }

    /// Speaks to the segment of the network and hears it, over these sockets alone.
    fn speak(&self, sockets: multicast::Sockets) {
        let task = tokio::spawn(multicast::run(self.handle.shared_arc(), sockets).in_current_span());
        let mut segment = self.segment.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = segment.replace((tokio::runtime::Handle::current(), task)) {
            before.abort();
        }
    }

    /// Counts of refused datagrams and frames by reason.
    #[must_use]
    pub fn drops(&self) -> Drops {
        self.handle.shared().lock().drops()
    }

    /// Whether a peer knows a later incarnation of this identity: the node should then stop.
    #[must_use]
    pub fn rolled_back(&self) -> Option<RolledBack> {
        let told = self.handle.shared().lock().board.rolled_back;
        told.map(|(peer, known)| RolledBack { peer, known })
    }

    /// Waits until a peer says that it knows a later incarnation of this identity; `None` once the node is closed.
    pub async fn until_rolled_back(&self) -> Option<RolledBack> {
        poll_fn(|cx| {
            let mut hub = self.handle.shared().lock();
            let board = &mut hub.board;
            match (board.rolled_back, board.phase) {
                (Some((peer, known)), _) => Poll::Ready(Some(RolledBack { peer, known })),
                (None, Phase::Ended | Phase::Gone) => Poll::Ready(None),
                (None, Phase::Running | Phase::Closing) => {
                    board.ended.add(cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// A registry with this node's metrics.
    #[must_use]
    pub fn metrics(&self) -> prometheus_client::registry::Registry {
        let mut registry = prometheus_client::registry::Registry::with_prefix("net");
        self.register_metrics(&mut registry);
        registry
    }

    /// Adds this node's metrics to a registry. They are read when it is scraped.
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        registry.register_collector(Box::new(crate::metrics::NodeCollector::new(self.handle.shared_arc())));
    }

    /// Finishes every stream, waits up to [`CLOSE_GRACE`] until peers have everything, closes all sessions and lets
    /// socket and state directory go. Answers whether peers confirmed everything.
    pub async fn close(&self) -> bool {
        self.close_within(CLOSE_GRACE).await
    }

    /// As [`Self::close`], with a grace of its own.
    pub async fn close_within(&self, grace: Duration) -> bool {
        finish_streams(&mut self.handle.shared().lock());
        let flushed = tokio::time::timeout(
            grace,
            poll_fn(|cx| {
                let mut hub = self.handle.shared().lock();
                if hub.board.phase != Phase::Running || hub.board.sessions().all(|(_, entry)| entry.unflushed == 0) {
                    return Poll::Ready(());
                }
                hub.board.watch_all(cx.waker());
                Poll::Pending
            }),
        )
        .await
        .is_ok();
        {
            let mut hub = self.handle.shared().lock();
            if hub.board.phase == Phase::Running {
                hub.board.phase = Phase::Closing;
                // The kernel answers no refusal to Shutdown.
                let _ = hub.command(Command::Shutdown);
                hub.board.call_driver();
            }
        }
        self.closed().await;
        flushed
    }

    /// Waits until the node is closed, by whomever, and has let socket and state directory go.
    pub async fn closed(&self) {
        poll_fn(|cx| {
            let mut hub = self.handle.shared().lock();
            if hub.board.phase == Phase::Gone {
                return Poll::Ready(());
            }
            hub.board.ended.add(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Serves until the process is asked to end (SIGTERM, SIGINT), then drains: see [`Self::close`].
    ///
    /// # Errors
    /// When signals cannot be received here.
    pub async fn drain_on_terminate(&self) -> io::Result<bool> {
        crate::tokio::terminated().await?;
        tracing::info!("asked to end: draining");
        Ok(self.close().await)
    }

    /// The handle all else is made of.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        if !self.advertise.is_empty() {
            return self.advertise.to_vec();
        }
        let bound = self.local_addr();
        if !bound.ip().is_unspecified() {
            return vec![bound];
        }
        let mut ips = Vec::new();
        if bound.is_ipv6() {
            ips.extend(outward(
                any_address(true, 0),
                (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
            ));
        }
        ips.extend(outward(any_address(false, 0), (Ipv4Addr::new(192, 0, 2, 1), 9).into()));
        ips.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
        ips.dedup();
        ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("entity", &self.entity())
            .field("address", &self.local_addr())
            .finish()
    }
}

impl Builder {
    /// Keeps identity, epoch, port and peers' epochs in this directory, which is made with a fresh identity if it does
    /// not exist, and locked while the node runs.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state = StateChoice::Path(path.into());
        self
    }

    /// As [`Self::state_dir`], already opened.
    pub fn state(mut self, state: StateDir) -> Self {
        self.state = StateChoice::Open(Box::new(state));
        self
    }

    /// Keeps nothing: the identity is fresh unless one is given, and forgotten when the node ends.
    pub fn ephemeral(mut self) -> Self {
        self.state = StateChoice::Ephemeral;
        self
    }

    /// The identity of an ephemeral node. One with a state directory uses the identity in it.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// A network to belong to. The first is used for dialling; a second is accepted during rotation.
    pub fn network(mut self, key: NetworkKey) -> Self {
        self.networks.push(key);
        self
    }

    /// The address to bind; port 0 takes the port used last, or any free one.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Addresses for tickets instead of those this host seems to have, as behind a port forwarding.
    pub fn advertise(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.advertise = addresses.into_iter().take(MAX_ADDRESSES).collect();
        self
    }

    /// Only these may hold sessions.
    pub fn allow(mut self, list: impl IntoIterator<Item = EntityId>) -> Self {
        self.allow = Some(list.into_iter().collect());
        self
    }

    /// Limits and times.
    pub fn config(mut self, config: SessionConfig) -> Self {
        self.config = config;
        self
    }

    /// Whether to use AES-256-GCM with peers that do too. By default that is so where this host has instructions for it: it is
    /// then faster than ChaCha20-Poly1305, and elsewhere slower and less safe.
    pub const fn aes(mut self, aes: bool) -> Self {
        self.aes = Some(aes);
        self
    }

    /// What decides how much may be under way: CUBIC unless told otherwise. [`Algorithm::Copa`] keeps queues short and bears random loss,
    /// which serves answers that wait behind bulk; beside flows of others it may get another share than CUBIC would.
    pub const fn congestion(mut self, algorithm: Algorithm) -> Self {
        self.config.congestion = algorithm;
        self
    }

    /// Threads for heavy work that would delay traffic; 0 does everything in the driver.
    pub const fn job_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Processors that open and seal packets: 1, 2, 4, 8 or 16, of which one is the driver's. By default it is alone. Another
    /// helps where one processor cannot encrypt as fast as the network is, and has nothing else to do: each has a
    /// thread, which sleeps while there is less to do than 16 KiB at a time. What
    /// sessions do does not depend on it.
    pub const fn lanes(mut self, lanes: u8) -> Self {
        self.lanes = lanes;
        self
    }

    /// How long the driver looks at the socket before it sleeps, where peers answer faster than a thread wakes. By
    /// default it sleeps at once: looking gains latency where every busy node has a processor to itself, and loses
    /// it where the peer's process waits for the one that is looking.
    pub const fn busy_poll(mut self, pause: Duration) -> Self {
        self.busy_poll = pause;
        self
    }

    /// Makes the node part of the mesh: it finds nodes, keeps routes to them and notices when a neighbour fails. Without it the
    /// node knows its peers and nothing beyond.
    pub const fn mesh(mut self, config: MeshConfig) -> Self {
        self.mesh = Some(config);
        self
    }

    /// Finds nodes of the same network on the local one by multicast, and is found by them: a session is kept with each that
    /// is heard, as if the user had joined it by its ticket. Off unless asked for, because the host then tells its segment
    /// that it runs a node.
    ///
    /// Beacons go to 239.255.78.69 and ff12::4e65:7442, UDP port 20037, over every interface at which the node is reached (the
    /// one of the address it is bound to, or all; IPv6 where it is bound to an IPv6 address), and no further than one hop:
    /// at once, after 0.1, 0.3 and 0.7 s, then ever more seldom down to twice a minute, and when somebody new is heard.
    /// They are sealed under the network's key: others of the segment see that there is a node and neither which, nor of
    /// which network, nor can they make one up. In the open network everybody knows that key, and only local addresses
    /// are dialled on its word. The list of [`Self::allow`] holds as everywhere.
    ///
    /// A node that can join on no interface does not start ([`StartError::Multicast`], `multicast.failed`); single
    /// interfaces that fail are logged as warnings with the code `multicast.interface`. Interfaces that come and go are
    /// noticed when the node speaks next. [`Node::rebind`] moves along. Several nodes of one host hear each other. Without
    /// a mesh of its own configuration the node has a mesh of the default one.
    pub const fn multicast(mut self, multicast: bool) -> Self {
        self.multicast = multicast;
        self
    }

    /// Opens the state, binds the socket and starts the node on the running tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(self) -> Result<Node, StartError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        // Opening syncs files: not on the thread that serves others, where there is another one.
        let (ready, driver, sockets) =
            runtime
                .spawn_blocking(move || self.prepare())
                .await
                .map_err(|error| StartError::Host {
                    what: "the node",
                    error: io::Error::other(error),
                })??;
        let span = tracing::info_span!("node", entity = %ready.entity());
        runtime.spawn(
            async move {
                if let Err(error) = driver.await {
                    tracing::error!(%error, "the node stopped");
                }
            }
            .instrument(span.clone()),
        );
        if let Some(sockets) = sockets {
            span.in_scope(|| ready.speak(sockets));
        }
        Ok(ready)
    }

    fn prepare(self) -> Result<(Node, HostDriver, Option<multicast::Sockets>), StartError> {
        let entropy = OsEntropy;
        let mut clock = TokioClock::new().map_err(|error| StartError::Host {
            what: "the timer",
            error,
        })?;
        let mut state = match self.state {
            StateChoice::Ephemeral => None,
            StateChoice::Path(path) => Some(StateDir::open_or_create(path, &entropy)?),
            StateChoice::Open(state) => Some(*state),
        };
        let now = clock.now();
        let (identity, epoch) = incarnation(state.as_mut(), self.identity, &entropy, now.wall)?;
        let last_port = state.as_ref().map_or(0, StateDir::port);
        let socket = bind_socket(self.address.unwrap_or_else(|| any_address(false, 0)), last_port)?;
        let bound = socket.local_addr().map_err(|error| StartError::Host {
            what: "the socket",
            error,
        })?;
        if let Some(state) = &mut state {
            state.set_port(bound.port())?;
        }
        let sockets = self.multicast.then(|| multicast::Sockets::open(bound)).transpose()?;
        let networks = if self.networks.is_empty() {
            vec![NetworkKey::open()]
        } else {
            self.networks
        };
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed).map_err(StartError::Entropy)?;
        let boot = Boot {
            seed: Seed::new(*seed),
            identity,
            epoch,
            networks: networks.clone(),
            allow: self.allow,
            config: SessionConfig {
                aes: self.aes.unwrap_or_else(aes_by_default),
                ..self.config.clone()
            },
            mesh: self.mesh.or_else(|| self.multicast.then(MeshConfig::default)),
            lanes: self.lanes,
            trace: false,
        };
        let kernel = Kernel::boot(boot, now).map_err(|error| StartError::Boot(error.to_string()))?;
        let busy_poll = nanos(self.busy_poll);
        let parts = Parts {
            socket,
            clock,
            entropy: Arc::new(entropy),
            disk: Arc::new(disk_of(state)),
            threads: self.threads,
            helpers: usize::from(self.lanes) - 1,
            busy_poll,
        };
        let runtime = tokio::runtime::Handle::current();
        let rebind = move |address| {
            let _inside = runtime.enter();
            TokioSocket::bind(address)
        };
        let (mut node, driver) =
            assemble(kernel, networks, &self.config, now, parts, rebind).map_err(|error| StartError::Host {
                what: "the socket",
                error,
            })?;
        node.advertise = self.advertise.into();
        Ok((node, driver, sockets))
    }
}

/// Where cells are kept: in the state directory, if there is one.
fn disk_of(state: Option<StateDir>) -> AnyDisk {
    state.map_or_else(
        || AnyDisk::Memory(MemoryDisk::default()),
        |state| AnyDisk::Directory(Box::new(state)),
    )
}

/// Whether this host should offer AES-256-GCM.
#[cfg(feature = "aead-ring")]
fn aes_by_default() -> bool {
    crate::aead::has_aes_instructions()
}

/// The reference cipher has no AES.
#[cfg(not(feature = "aead-ring"))]
const fn aes_by_default() -> bool {
    false
}

/// Who the node is and which boot of it this is: from the state directory, or for this time only.
fn incarnation(
    state: Option<&mut StateDir>,
    given: Option<Identity>,
    entropy: &OsEntropy,
    wall: UnixNanos,
) -> Result<(Identity, Epoch), StartError> {
    let Some(state) = state else {
        let identity = given.map_or_else(|| draw_identity(entropy), Ok);
        return Ok((identity.map_err(StartError::Entropy)?, Epoch(wall.0)));
    };
    let epoch = state.next_epoch(wall)?;
    Ok((copy_identity(state.identity()), epoch))
}

/// Puts a node together in a world of the caller's; nothing happens until the driver is polled. `networks` are those
/// the kernel was booted with; `rebind` makes the socket of [`Node::rebind`].
///
/// # Errors
/// When the socket does not tell its address.
///
/// # Panics
/// If `networks` is empty.
pub fn assemble<A, K, S, C, E, D>(
    kernel: net_kernel::Kernel<A, K>,
    networks: Vec<NetworkKey>,
    config: &SessionConfig,
    now: Now,
    parts: Parts<S, C, E, D>,
    rebind: impl Fn(SocketAddr) -> io::Result<S> + Send + Sync + 'static,
) -> io::Result<(Node, Driver<S, C, E, D>)>
where
    A: Aead,
    K: Check,
    net_kernel::Kernel<A, K>: Send + 'static,
    S: DatagramSocket,
    C: Clock,
    E: Entropy,
    D: Disk,
{
    assert!(!networks.is_empty(), "a node belongs to at least one network");
    let bound = parts.socket.local_addr()?;
    let entity = kernel.entity();
    let shared = Arc::new(Shared::new(Box::new(kernel), entity, config, now));
    let driver = Driver::new(shared.clone(), parts);
    let slot = driver.socket_slot();
    let rebind = move |address| {
        let socket = rebind(address)?;
        let bound = socket.local_addr()?;
        slot.put(socket);
        Ok(bound)
    };
    let node = Node {
        handle: Handle::first(shared),
        networks: networks.into(),
        advertise: Arc::new([]),
        bound: Arc::new(Mutex::new(bound)),
        rebind: Arc::new(rebind),
        segment: Arc::default(),
    };
    Ok((node, driver))
}

/// Where a node keeps its cells.
#[derive(Debug)]
pub enum AnyDisk {
    /// In memory.
    Memory(MemoryDisk),
    /// In a state directory.
    Directory(Box<StateDir>),
}

impl Disk for AnyDisk {
    fn put(&self, cell: crate::api::Cell, bytes: &[u8]) -> Result<(), crate::api::StoreError> {
        match self {
            Self::Memory(disk) => disk.put(cell, bytes),
            Self::Directory(disk) => disk.put(cell, bytes),
        }
    }

    fn get(&self, cell: crate::api::Cell) -> Result<Option<Vec<u8>>, crate::api::StoreError> {
        match self {
            Self::Memory(disk) => disk.get(cell),
            Self::Directory(disk) => disk.get(cell),
        }
    }
}

/// A connection attempt under way; given up when nobody waits for it any more.
struct Attempt<'n> {
    node: &'n Node,
    id: CommandId,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.node.handle.shared().lock().cancel_connect(self.id);
    }
}

fn finish_streams(hub: &mut Hub) {
    let seats: Vec<_> = hub
        .board
        .sessions()
        .flat_map(|(_, entry)| entry.streams.iter().copied())
        .collect();
    for seat in seats {
        let entry = hub.board.stream(seat);
        if entry.sending == Sending::Open && !entry.ended {
            hub.finish(seat);
        }
    }
}

/// Binds, preferring the port used last where any would do.
fn bind_socket(address: SocketAddr, last_port: u16) -> Result<TokioSocket, StartError> {
    let bind = |address| TokioSocket::bind(address).map_err(|error| StartError::Bind { address, error });
    if address.port() != 0 || last_port == 0 {
        return bind(address);
    }
    let mut last = address;
    last.set_port(last_port);
    match bind(last) {
        Err(StartError::Bind { error, .. }) if error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(
                port = last_port,
                "the port used last is taken: earlier tickets do not reach this node"
            );
            bind(address)
        }
        result => result,
    }
}

/// The address this host would use towards `remote`. Connecting a UDP socket sends nothing.
fn outward(from: SocketAddr, remote: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(remote).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

fn nanos(span: Duration) -> crate::api::Duration {
    crate::api::Duration::from_nanos(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

fn copy_identity(identity: &Identity) -> Identity {
    Identity::from_seed(identity.seed()).expect("the seed made an identity before")
}
