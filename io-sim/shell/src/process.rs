//! Starting and ending processes: a kernel, the driver, applications.
//!
//! Invariants: an epoch greater than every earlier one is on the disk before a process says anything; a process that is
//! killed says nothing more; one that is let go ends by itself.
//! Not here: when (`script.rs`, `run.rs`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use net_io_real::{Node, Parts, assemble};
use net_io_sim::aead::Clear;
use net_io_sim::kernel::identity;
use net_io_sim::scenario::{Happening, NodeIndex};
use net_io_sim::trigger::Happened;
use net_kernel::Kernel;
use net_kernel::api::Boot;
use net_kernel::base::rng::{Secret, Seed};
use net_kernel::base::{Addr, Checked, Duration, EntityId, Epoch};
use net_kernel::trust::NetworkKey;
use net_sim_model::Family;

use crate::adapter::{Process, ShellClock, ShellDisk, ShellEntropy, ShellSocket};
use crate::app::{App, Conns};
use crate::bed::{Bed, Seen, State};
use crate::flow::Flows;
use crate::runtime::{Group, Runtime};
use crate::task::of_process;

/// The cell that keeps the boot epoch, as in the world.
const EPOCH: &str = "boot-epoch";

/// The processes of a run.
pub(crate) struct Processes<R> {
    pub(crate) bed: Bed,
    pub(crate) flows: Flows,
    pub(crate) runtime: R,
    entities: Arc<Vec<EntityId>>,
    live: Vec<Option<Live>>,
    groups: u64,
}

/// A running process.
struct Live {
    handle: Node,
    conns: Arc<Mutex<Conns>>,
    apps: Group,
    driver: Group,
    /// Its driver may end now.
    released: Arc<AtomicBool>,
    /// Its driver has ended.
    ended: Arc<AtomicBool>,
}

impl<R: Runtime> Processes<R> {
    pub(crate) fn new(bed: &Bed, flows: &Flows, runtime: R) -> Self {
        let count = bed.scenario.nodes.len() as u32;
        let entities = (0..count).map(|node| identity(&identity_bytes(bed, node)).entity());
        Self {
            bed: bed.clone(),
            flows: flows.clone(),
            runtime,
            entities: Arc::new(entities.collect()),
            live: (0..count).map(|_| None).collect(),
            groups: 0,
        }
    }

    /// Starts a process, unless one runs; a disk that refuses its epoch keeps it from starting.
    pub(crate) fn boot(&mut self, node: NodeIndex) {
        if self.live[node as usize].is_some() {
            return;
        }
        let Some((process, epoch, address)) = self.prepare(node) else {
            return;
        };
        let scenario = Arc::clone(&self.bed.scenario);
        let network = scenario.closed.then(|| {
            let secret = self.bed.key.family(Family::Boot).with_text("network").bytes32(0);
            NetworkKey::from_bytes(Secret(secret))
        });
        let networks = vec![network.unwrap_or_else(NetworkKey::open)];
        let seeds = self
            .bed
            .key
            .family(Family::Boot)
            .with_text("seed")
            .with(self.bed.number(node));
        let allow = scenario.nodes[node as usize].allow.as_ref();
        let boot = Boot {
            seed: Seed::new(seeds.bytes32(process.incarnation)),
            identity: identity(&identity_bytes(&self.bed, node)),
            epoch,
            networks: networks.clone(),
            allow: allow.map(|allow| allow.iter().map(|index| self.entities[*index as usize]).collect()),
            config: scenario.config_of(node),
            mesh: None,
            lanes: scenario.lanes,
            trace: false,
        };
        let now = self.bed.clocks(node);
        let kernel = match Kernel::<Clear, Checked>::boot(boot, now) {
            Ok(kernel) => kernel,
            Err(error) => return self.bed.fail("boot", error.to_string()),
        };
        let wire = match self.runtime.bind(node, address) {
            Ok(wire) => wire,
            Err(error) => return self.bed.fail("boot", format!("binding {address}: {error}")),
        };
        let parts = Parts {
            socket: ShellSocket::new(&self.bed, process, wire),
            clock: ShellClock::new(&self.bed, process),
            entropy: Arc::new(ShellEntropy::new(&self.bed, process)),
            disk: Arc::new(ShellDisk::new(&self.bed, node)),
            threads: 0,
            helpers: usize::from(scenario.lanes) - 1,
            busy_poll: Duration::ZERO,
        };
        let (runtime, bed) = (self.runtime.clone(), self.bed.clone());
        let rebind = move |address| Ok(ShellSocket::new(&bed, process, runtime.bind(node, address)?));
        match assemble(kernel, networks, &scenario.config, now, parts, rebind) {
            Ok((handle, driver)) => self.run(process, handle, driver),
            Err(error) => self.bed.fail("boot", error.to_string()),
        }
    }

    /// The next incarnation of a machine, with its epoch synced and its address.
    fn prepare(&self, node: NodeIndex) -> Option<(Process, Epoch, Addr)> {
        let mut inner = self.bed.lock();
        let now = inner.now;
        let machine = &mut inner.machines[node as usize];
        machine.incarnation += 1;
        let wall = machine.clock.wall(now);
        let stored = machine.disk.read(EPOCH).ok()?;
        let stored = stored.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let epoch = stored.map_or(wall, |stored| wall.max(stored + 1));
        machine.disk.write_now(EPOCH, epoch.to_le_bytes().to_vec()).ok()?;
        // Whoever starts is bound where others reach the machine.
        machine.internal = machine.external;
        let incarnation = machine.incarnation;
        Some((Process { node, incarnation }, Epoch(epoch), machine.internal))
    }

    fn run<F>(&mut self, process: Process, handle: Node, driver: F)
    where
        F: Future<Output = Result<(), net_io_real::DriverError>> + Send + 'static,
    {
        let node = process.node;
        let (apps, group) = (Group(self.groups), Group(self.groups + 1));
        self.groups += 2;
        let (released, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        self.bed.set_state(node, State::Running);
        self.bed.see(Seen::Booted, node, &[process.incarnation], &[]);
        self.bed.happened(&Happened::at(Happening::Boot, node));
        let (bed, may, did) = (self.bed.clone(), Arc::clone(&released), Arc::clone(&ended));
        let driving = async move {
            let result = driver.await;
            did.store(true, Ordering::Relaxed);
            match result {
                Ok(()) if may.load(Ordering::Relaxed) => {}
                Ok(()) => bed.fail("driver", format!("node {node}'s driver ended while its node was held")),
                Err(error) => bed.fail("driver", format!("node {node}: {error}")),
            }
        };
        self.runtime.spawn(group, of_process(&self.bed, node, driving));
        let conns = Arc::default();
        let app = App {
            bed: self.bed.clone(),
            flows: self.flows.clone(),
            runtime: self.runtime.clone(),
            node,
            incarnation: process.incarnation,
            group: apps,
            handle: handle.clone(),
            entities: Arc::clone(&self.entities),
            conns: Arc::clone(&conns),
        };
        app.start();
        self.live[node as usize] = Some(Live {
            handle,
            conns,
            apps,
            driver: group,
            released,
            ended,
        });
    }

    /// Ends a process without a word.
    pub(crate) fn kill(&mut self, node: NodeIndex) {
        let Some(live) = self.live[node as usize].take() else {
            return;
        };
        live.released.store(true, Ordering::Relaxed);
        self.bed.set_state(node, State::Down);
        self.runtime.kill(live.driver);
        self.runtime.kill(live.apps);
        self.bed.lock().machines[node as usize].disk.crash();
        self.bed.see(Seen::Ended, node, &[], &[]);
        self.bed.happened(&Happened::at(Happening::Down, node));
        self.flows.node_down(node);
    }

    /// The machine has another address, and its node is told.
    pub(crate) fn rebind(&mut self, node: NodeIndex, told: bool) {
        let address = self.bed.readdress(node, told);
        if told
            && let Some(live) = &self.live[node as usize]
            && let Err(error) = live.handle.rebind(address)
        {
            self.bed
                .fail("driver", format!("node {node} cannot move to {address}: {error}"));
        }
    }

    /// Tells of keys that were replaced and addresses that moved since it was asked last, where somebody waits for that: a
    /// driver says so in its sessions' figures alone.
    pub(crate) fn look_at_sessions(&mut self) {
        if !self.bed.lock().wait_for(&[Happening::Rekeyed, Happening::Moved]) {
            return;
        }
        for (node, live) in self.live.iter().enumerate() {
            let Some(live) = live else { continue };
            for (rekeys, moves) in crate::app::with(&live.conns, crate::app::Conns::news) {
                let node = node as NodeIndex;
                for (event, count) in [(Happening::Rekeyed, rekeys), (Happening::Moved, moves)] {
                    (0..count).for_each(|_| self.bed.happened(&Happened::at(event, node)));
                }
            }
        }
    }

    /// What every live session says of itself.
    pub(crate) fn stats(&self) -> Vec<net_io_real::SessionStats> {
        let live = self.live.iter().flatten();
        let sessions = live.flat_map(|live| crate::app::with(&live.conns, |conns| conns.all()));
        sessions.filter_map(|session| session.stats()).collect()
    }

    /// Lets every node go: applications end, handles are dropped, and drivers are to end by themselves.
    pub(crate) fn release(&mut self) -> Vec<(NodeIndex, Arc<AtomicBool>)> {
        let mut waiting = Vec::new();
        for (node, slot) in self.live.iter_mut().enumerate() {
            let Some(live) = slot.take() else { continue };
            live.released.store(true, Ordering::Relaxed);
            self.runtime.kill(live.apps);
            waiting.push((node as NodeIndex, live.ended));
            crate::app::with(&live.conns, std::mem::take);
        }
        waiting
    }
}

fn identity_bytes(bed: &Bed, node: NodeIndex) -> [u8; 32] {
    bed.key
        .family(Family::Boot)
        .with_text("identity")
        .bytes32(bed.number(node))
}
