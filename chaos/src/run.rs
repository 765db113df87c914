//! One run of a scenario with real processes: machines, what happens to them and when, and the verdict.
//!
//! Invariants: everything in a run happens in one task, event by event; the first violation stays and ends the run; every
//! wait ends at a deadline that says what it waited for.
//! Not here: links (`net_io_sim::fabric`), what a machine is (`machine.rs`), streams (`apps.rs`), files (`files.rs`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net_io_real::traits::Entropy;
use net_io_real::{StateDir, StateError};
use net_io_sim::arm::{ArmReport, Metrics, Summary};
use net_io_sim::check::Violation;
use net_io_sim::fabric::{Fabric, Place};
use net_io_sim::histogram::Histogram;
use net_io_sim::run::{Spec, Verdict};
use net_io_sim::scenario::{AdversaryKind, FaultKind, NodeIndex, Program, Scenario, WorkloadKind, resolve};
use net_io_sim::trigger::{SetOff, Triggers};
use net_io_sim::world::{Line, adversary_key, garbage, lines, quiet_after};
use net_sim_model::{Cause, Family, Key};
use rustix::process::Signal;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout_at};

use crate::able;
use crate::apps::Apps;
use crate::disk::Disk;
use crate::files::{self, Files};
use crate::machine::{Event, Heard, Machine, Next, State, copy_dir};
use crate::mesh::Mesh;
use crate::protocol::{Figures, OfFiles, Order, Peer, Told, flows, hex};

/// How long processes may take to bind.
const BOOT: Duration = Duration::from_secs(60);
/// How long processes may take to tell their figures, and then to end.
const END: Duration = Duration::from_secs(30);
/// A run goes on so long after everything is done, so that endings are seen.
const SETTLE: u64 = 200_000_000;
/// How often a run looks whether it is over.
const POLL: Duration = Duration::from_millis(10);
/// How often the processes of a mesh are asked how they see it.
const SURVEY: u64 = 250_000_000;
/// Machines of one scenario at most: each pair has two sockets.
const MACHINES: usize = 24;
/// What happened last, as far as a failure shows it.
const LOG: usize = 60;

/// What a run needs besides its scenario.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The program `net-chaos`.
    pub chaos: PathBuf,
    /// The program `net`, where it is there.
    pub net: Option<PathBuf>,
    /// Whether file systems of machines' own can be mounted.
    pub disks: bool,
    /// The planted bug that its node processes have switched on.
    pub mutant: Option<String>,
}

/// A run that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What is reported.
    pub report: ArmReport,
    /// Everything that was counted.
    pub counters: BTreeMap<String, u64>,
    /// What happened last.
    pub log: Vec<String>,
}

/// Runs one seed.
pub async fn run(spec: &Spec, seed: u64, programs: &Programs) -> Ended {
    match attempt(spec, seed, programs).await {
        Ok(ended) => ended,
        Err(why) => Ended {
            report: empty(spec, seed, why),
            counters: BTreeMap::new(),
            log: Vec::new(),
        },
    }
}

/// The report of a run that could not be made.
#[must_use]
pub fn empty(spec: &Spec, seed: u64, why: String) -> ArmReport {
    ArmReport {
        arm: "real".to_owned(),
        runtime: "loopback".to_owned(),
        scenario: spec.scenario.name.clone(),
        seed,
        verdict: Verdict::Harness,
        checker: Some("harness".to_owned()),
        failure: Some(why),
        digest: String::new(),
        unable: Vec::new(),
        history: Vec::new(),
        metrics: Metrics::default(),
        simulated_ms: 0,
    }
}

async fn attempt(spec: &Spec, seed: u64, programs: &Programs) -> Result<Ended, String> {
    let text = resolve(&spec.file, &spec.text, seed).map_err(|error| error.to_string())?;
    let scenario = Scenario::parse(&spec.file, &text).map_err(|error| error.to_string())?;
    if scenario.nodes.len() > MACHINES {
        return Err(format!(
            "{} machines: this arm runs at most {MACHINES}",
            scenario.nodes.len()
        ));
    }
    if scenario.program == Program::Net && programs.net.is_none() {
        return Err(
            "the `net` command was not found beside this program; build it with: cargo build -p net-cli".to_owned(),
        );
    }
    let said = |error: io::Error| error.to_string();
    let dir = tempfile::Builder::new().prefix("net-chaos-").tempdir().map_err(said)?;
    let file = dir.path().join("scenario.toml");
    std::fs::write(&file, text).map_err(said)?;
    let mut run = Run::new(scenario, seed, dir.path(), file, programs.clone()).map_err(said)?;
    run.go().await.map_err(said)?;
    Ok(run.report())
}

/// Entropy from which a machine's identity is drawn: the candidates that the world tries, so that it is the same in
/// every arm.
#[derive(Debug)]
struct Candidates(Mutex<[u8; 32]>);

impl Entropy for Candidates {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        let mut candidate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if out.len() != candidate.len() {
            return Err(io::Error::other("an identity is drawn from 32 bytes"));
        }
        out.copy_from_slice(&*candidate);
        *candidate = *blake3::hash(&*candidate).as_bytes();
        Ok(())
    }
}

struct Run {
    scenario: Arc<Scenario>,
    seed: u64,
    file: PathBuf,
    dir: PathBuf,
    programs: Programs,
    fabric: Fabric,
    entities: Vec<String>,
    machines: Vec<Machine>,
    apps: Apps,
    script: VecDeque<(u64, Line)>,
    heard: UnboundedReceiver<Event>,
    hears: UnboundedSender<Event>,
    /// Steps that workloads still have to take; `None` before they begin.
    steps: Vec<Option<u64>>,
    began: bool,
    healed: bool,
    violation: Option<Violation>,
    handshake: Histogram,
    echo: Histogram,
    figures: Vec<Figures>,
    counters: BTreeMap<String, u64>,
    log: VecDeque<String>,
    garblers: Vec<Garbler>,
    files: Files,
    disks: BTreeMap<NodeIndex, Disk>,
    /// Faults that datagrams set off.
    set_off: UnboundedReceiver<SetOff>,
    /// From when on nothing more is going to be done.
    quiet_after: u64,
    mesh: Mesh,
    /// When processes are asked next how they see the mesh.
    survey_at: u64,
    /// When every fault was ended for good.
    healed_at: u64,
}

/// An adversary that sends random bytes.
struct Garbler {
    key: Key,
    name: String,
    begins: u64,
    until: u64,
    to: NodeIndex,
    spoof: Option<NodeIndex>,
    count: u64,
    rate_milli: u64,
    made: u64,
    socket: UdpSocket,
}

impl Run {
    fn new(scenario: Scenario, seed: u64, dir: &Path, file: PathBuf, programs: Programs) -> io::Result<Self> {
        let scenario = Arc::new(scenario);
        let (hears, heard) = unbounded_channel();
        let machines: Vec<Machine> = (0..scenario.nodes.len() as u32)
            .map(|index| Machine::new(index, dir))
            .collect();
        let identities = Key::new(seed).family(Family::Boot).with_text("identity");
        let mut entities = Vec::new();
        for machine in &machines {
            let candidates = Candidates(Mutex::new(identities.bytes32(u64::from(machine.index))));
            let state = StateDir::create(&machine.state_dir, &candidates).map_err(io::Error::other)?;
            entities.push(hex(&state.identity().entity().0));
        }
        let mut script = lines(&scenario);
        script.sort_by_key(|(at, _)| *at);
        let states: Vec<PathBuf> = machines.iter().map(|machine| machine.state_dir.clone()).collect();
        let mut disks = BTreeMap::new();
        for node in able::full_disks(&scenario).filter(|_| programs.disks) {
            if let Entry::Vacant(vacant) = disks.entry(node) {
                vacant.insert(Disk::mount(&files::disk(&states[node as usize]))?);
            }
        }
        let (tell, set_off) = unbounded_channel();
        let fabric = Fabric::bind(Arc::clone(&scenario), seed)?;
        fabric.set_triggers(Triggers::new(&scenario), tell);
        Ok(Self {
            fabric,
            files: Files::new(&scenario, seed, states)?,
            disks,
            set_off,
            quiet_after: quiet_after(&scenario),
            mesh: Mesh::new(machines.len()),
            survey_at: 0,
            healed_at: 0,
            entities,
            machines,
            apps: Apps::new(flows(&scenario, seed)),
            script: script.into(),
            steps: vec![None; scenario.workloads.len()],
            scenario,
            seed,
            file,
            dir: dir.to_owned(),
            programs,
            heard,
            hears,
            began: false,
            healed: false,
            violation: None,
            handshake: Histogram::default(),
            echo: Histogram::default(),
            figures: Vec::new(),
            counters: BTreeMap::new(),
            log: VecDeque::new(),
            garblers: Vec::new(),
        })
    }

    /// Runs to the end.
    async fn go(&mut self) -> io::Result<()> {
        // Processes take their time to start: the scenario's time begins when those that are there from the start serve.
        while self
            .script
            .front()
            .is_some_and(|(at, line)| *at == 0 && matches!(line, Line::Boot(_)))
        {
            if let Some((_, line)) = self.script.pop_front() {
                self.perform(line).await?;
            }
        }
        self.until(BOOT, "the processes to bind", |run| {
            run.machines.iter().all(|machine| machine.state != State::Starting)
        })
        .await?;
        self.fabric.begin();
        self.began = true;
        self.play().await?;
        self.note("the end");
        if self.violation.is_none() {
            self.end().await?;
        }
        for machine in &mut self.machines {
            machine.kill(Next::Stay)?;
        }
        self.until(END, "killed processes to be gone", |run| {
            run.machines.iter().all(|machine| !machine.exists())
        })
        .await
    }

    /// The scenario, from its beginning to its end.
    async fn play(&mut self) -> io::Result<()> {
        let mut end = self.scenario.duration;
        let full = self
            .scenario
            .workloads
            .iter()
            .any(|workload| matches!(workload.kind, WorkloadKind::Connect));
        let mut done = false;
        while self.violation.is_none() {
            let now = self.fabric.now();
            self.garble();
            self.survey(now).await;
            while let Some((_, line)) = self.script.pop_front_if(|(at, _)| *at <= now) {
                self.perform(line).await?;
            }
            if now > end {
                let mut owed = self.apps.incomplete();
                owed.extend(self.files.incomplete(&self.scenario));
                owed.extend(self.unrest().map(|what| format!("routes are not at rest: {what}")));
                match self.scenario.liveness.clone() {
                    Some(liveness) if !self.healed && !owed.is_empty() => {
                        self.heal(&liveness.core).await?;
                        end += liveness.within;
                        continue;
                    }
                    Some(_) if !owed.is_empty() => self.fail("liveness", owed.join("; ")),
                    Some(_) | None => {}
                }
                return Ok(());
            }
            let over = self.healed || (now >= self.quiet_after && !full);
            if !done && over && self.all_done() && self.unrest().is_none() {
                done = true;
                end = end.min(now + SETTLE);
            }
            self.hear(Instant::now() + POLL).await?;
        }
        Ok(())
    }

    fn all_done(&self) -> bool {
        let stepped = self.steps.iter().all(|left| left.unwrap_or(0) == 0);
        let now = self.fabric.now();
        let garbled = self
            .garblers
            .iter()
            .all(|one| one.made >= one.count || now >= one.until);
        self.apps.all_done() && self.files.all_done() && stepped && garbled
    }

    /// Asks the processes of a mesh now and then how they see it.
    async fn survey(&mut self, now: u64) {
        if self.scenario.mesh.is_none() || now < self.survey_at {
            return;
        }
        self.survey_at = now + SURVEY;
        let machines = self.machines.iter().filter(|machine| machine.state == State::Running);
        let orders = machines.map(|machine| (machine.index, Order::Survey)).collect();
        self.order(orders).await;
    }

    /// What is not at rest about the mesh, if anything.
    fn unrest(&self) -> Option<String> {
        let mesh = self.scenario.mesh.as_ref().filter(|mesh| mesh.converge)?;
        let core = self.scenario.liveness.as_ref().filter(|_| self.healed);
        let core = core.map_or(&[][..], |liveness| &liveness.core);
        let counting: BTreeSet<NodeIndex> = self
            .machines
            .iter()
            .filter(|machine| machine.exists() && machine.state != State::Ending)
            .map(|machine| machine.index)
            .filter(|node| core.is_empty() || core.contains(node))
            .collect();
        self.mesh.unrest(mesh, &counting, self.quiet_after.max(self.healed_at))
    }

    /// Hears what happens until it holds, or fails the run.
    async fn until(&mut self, within: Duration, what: &str, holds: impl Fn(&Self) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + within;
        while !holds(self) {
            if Instant::now() >= deadline {
                self.fail("out-of-time", format!("waited {} s for {what}", within.as_secs()));
                return Ok(());
            }
            self.hear(deadline.min(Instant::now() + POLL)).await?;
        }
        Ok(())
    }

    /// Hears what there is to hear, and waits for it up to a moment.
    async fn hear(&mut self, until: Instant) -> io::Result<()> {
        tokio::select! {
            biased;
            Some(set_off) = self.set_off.recv() => self.begins(set_off),
            event = timeout_at(until, self.heard.recv()) => match event {
                Ok(Some(event)) => self.happen(event).await?,
                Ok(None) | Err(_) => return Ok(()),
            },
        }
        while let Ok(event) = self.heard.try_recv() {
            self.happen(event).await?;
        }
        Ok(())
    }

    /// A datagram set a fault off: it joins the script.
    fn begins(&mut self, SetOff { fault, at, until }: SetOff) {
        self.quiet_after = self.quiet_after.max(if until == u64::MAX { at } else { until });
        if matches!(self.scenario.faults[fault].kind, FaultKind::Link { .. }) {
            return;
        }
        self.script.push_back((at, Line::Fault(fault as u32)));
        if until != u64::MAX {
            self.script.push_back((until, Line::End(fault as u32)));
        }
        self.script.make_contiguous().sort_by_key(|(at, _)| *at);
    }

    async fn happen(&mut self, (node, process, heard): Event) -> io::Result<()> {
        if self.machines[node as usize].process != process {
            return Ok(());
        }
        match heard {
            Heard::Gone => self.gone(node).await,
            Heard::Told(told) => self.told(node, told).await,
        }
    }

    /// Notes what a process said, but for what it says all the time.
    fn noted(&mut self, node: NodeIndex, told: &Told) {
        if !matches!(
            told,
            Told::Delivered { .. } | Told::Step { .. } | Told::Echo { .. } | Told::View(_)
        ) {
            self.note(&format!("node {node}: {told:?}"));
        }
    }

    async fn found(&mut self, node: NodeIndex, place: Place) {
        if self.machines[node as usize].state == State::Starting {
            self.ready(node, place).await;
        } else if self.machines[node as usize].listens() {
            self.fabric.place(node, place);
        }
    }

    async fn told(&mut self, node: NodeIndex, told: Told) -> io::Result<()> {
        self.noted(node, &told);
        let now = self.fabric.now();
        match told {
            Told::Ready { address } => self.found(node, address.map_or(Place::Unknown, Place::At)).await,
            Told::Rebound { address } => self.fabric.place(node, Place::At(address)),
            Told::Connected { took, .. } => {
                self.count("connected");
                if let Some(took) = took {
                    self.handshake.record(took);
                }
            }
            Told::ConnectFailed { why, .. } => self.count(&format!("connect_failed.{why}")),
            Told::Closed { why, .. } => self.count(&format!("closed.{}", short(&why))),
            Told::Want { flow } => {
                let orders = self.apps.want(flow, now);
                self.order(orders).await;
            }
            Told::Delivered {
                instance,
                way,
                number,
                hash,
            } => {
                if let Err(what) = self.apps.delivered(instance, way, number, &hash) {
                    self.fail("stream-order", what);
                }
            }
            Told::Finished { instance, way } => self.apps.finished(instance, way),
            Told::Flushed { instance, way } => {
                self.count("flushed");
                self.apps.flushed(instance, way);
            }
            Told::Lost { instance, .. } => {
                let listening = self.listening();
                let orders = self.apps.lost(instance, |node| listening[node as usize]);
                self.order(orders).await;
            }
            Told::Frozen { instance } => {
                let orders = self.apps.frozen(instance, now);
                self.order(orders).await;
            }
            Told::Step { workload } => {
                if let Some(Some(left)) = self.steps.get_mut(workload) {
                    *left = left.saturating_sub(1);
                }
            }
            Told::Echo { rtt } => {
                self.count("echo");
                self.echo.record(rtt);
            }
            Told::Files { what } => self.told_of_files(node, what).await?,
            Told::Rekeyed => self.count("rekeyed"),
            Told::Violation { checker, what } => self.fail(&checker, format!("{}: {what}", self.name(node))),
            Told::Mesh { fact } => self.count(&fact),
            Told::View(view) => self.mesh.says(node, now, view),
            Told::Report(figures) => {
                self.mesh.relayed(node, figures.relayed);
                self.figures.push(figures);
            }
        }
        Ok(())
    }

    async fn told_of_files(&mut self, node: NodeIndex, what: OfFiles) -> io::Result<()> {
        match what {
            OfFiles::Attempt => self.count("file.attempts"),
            OfFiles::Continued => self.count("file.continued"),
            OfFiles::Saved => self.files.look(self.fabric.now(), node)?,
            OfFiles::Failed { code } => {
                let refused = matches!(&code[..], "E-PEER-FULL" | "E-PEER-LIMIT" | "E-BUSY");
                self.count(if refused { "file.refused" } else { "file.failed" });
            }
            OfFiles::Sent { workload, sent } => {
                let stored = sent.files + sent.directories - sent.files_there_before;
                let add = [("stored", stored), ("there", sent.files_there_before)];
                for (name, count) in add {
                    *self.counters.entry(format!("file.{name}")).or_default() += count;
                }
                for left_out in &sent.left_out {
                    self.count(files::counter(&left_out.why));
                }
                if self.files.sent(self.fabric.now(), workload, &sent)? == files::Next::Again {
                    let again: Vec<_> = self.beginning(workload).collect();
                    self.order(again).await;
                }
            }
        }
        self.judge_files();
        Ok(())
    }

    /// What the checkers of files found ends the run.
    fn judge_files(&mut self) {
        if let Some(violation) = self.files.violation().cloned() {
            self.fail(&violation.checker, violation.what);
        }
    }

    fn listening(&self) -> Vec<bool> {
        self.machines.iter().map(Machine::listens).collect()
    }

    async fn order(&mut self, orders: Vec<(NodeIndex, Order)>) {
        for (node, order) in orders {
            self.machines[node as usize].order(&order).await;
        }
    }

    /// A process serves: others reach it, and its applications go on.
    async fn ready(&mut self, node: NodeIndex, place: Place) {
        self.fabric.place(node, place);
        self.machines[node as usize].state = State::Running;
        self.count("boots");
        let now = self.fabric.now();
        let mut orders: Vec<(NodeIndex, Order)> = Vec::new();
        for order in self.apps.accepted_by(node, now) {
            orders.push((node, order));
        }
        for workload in 0..self.scenario.workloads.len() {
            orders.extend(self.beginning(workload).filter(|(from, _)| *from == node));
        }
        self.order(orders).await;
    }

    /// The order to pursue a workload that has begun and is not over.
    fn beginning(&self, workload: usize) -> impl Iterator<Item = (NodeIndex, Order)> + use<> {
        let spec = &self.scenario.workloads[workload];
        let left = self.steps[workload].filter(|left| match spec.kind {
            WorkloadKind::Stream(_) => self.apps.pursues(workload),
            WorkloadKind::File(_) => self.files.pursues(workload),
            WorkloadKind::Echo { .. } | WorkloadKind::Rekey { .. } | WorkloadKind::Connect | WorkloadKind::Close => {
                *left > 0
            }
        });
        let from = spec.from;
        left.map(|left| (from, Order::Begin { workload, left })).into_iter()
    }

    /// A process is gone.
    async fn gone(&mut self, node: NodeIndex) -> io::Result<()> {
        let machine = &mut self.machines[node as usize];
        let (state, next) = (machine.state, std::mem::replace(&mut machine.next, Next::Stay));
        let status = machine.bury().await?;
        self.fabric.place(node, Place::Down);
        if state != State::Ending {
            let status = status.map_or_else(String::new, |status| status.to_string());
            let words = self.machines[node as usize].last_words();
            self.fail(
                "process",
                format!("{} ended by itself: {status}\n{words}", self.name(node)),
            );
        }
        self.note(&format!("node {node}: gone"));
        self.mesh.gone(node);
        self.files.look(self.fabric.now(), node)?;
        self.judge_files();
        let (now, listening) = (self.fabric.now(), self.listening());
        let orders = self.apps.gone(node, now, |node| listening[node as usize]);
        self.order(orders).await;
        match next {
            Next::Stay => Ok(()),
            Next::Boot => self.boot(node).await,
            Next::Restore(copy) => {
                copy_dir(&copy, &self.machines[node as usize].state_dir)?;
                self.boot(node).await
            }
        }
    }

    /// A line of the script is due.
    async fn perform(&mut self, line: Line) -> io::Result<()> {
        self.note(&format!("script: {line:?}"));
        match line {
            Line::Boot(node) => self.boot(node).await,
            Line::Begin(workload) => {
                self.begin(workload as usize).await;
                Ok(())
            }
            Line::Fault(fault) if !self.healed => self.fault(fault).await,
            Line::End(fault) if !self.healed => self.end_fault(fault).await,
            Line::Strike(adversary) => self.strike(adversary),
            Line::Fault(_) | Line::End(_) => Ok(()),
            Line::Backup(fault) => {
                if let FaultKind::RestoreDisk { node, .. } = self.scenario.faults[fault as usize].kind {
                    copy_dir(&self.machines[node as usize].state_dir, &self.backup(fault))?;
                }
                Ok(())
            }
        }
    }

    fn backup(&self, fault: u32) -> PathBuf {
        self.dir.join(format!("backup-{fault}"))
    }

    async fn begin(&mut self, workload: usize) {
        let steps = match self.scenario.workloads[workload].kind {
            WorkloadKind::Stream(_) | WorkloadKind::File(_) => 0,
            WorkloadKind::Echo { count, .. } | WorkloadKind::Rekey { count, .. } => count,
            WorkloadKind::Connect | WorkloadKind::Close => 1,
        };
        self.steps[workload] = Some(steps);
        self.apps.start(workload);
        self.files.start(workload);
        let orders: Vec<_> = self.beginning(workload).collect();
        let running = orders
            .into_iter()
            .filter(|(node, _)| self.machines[*node as usize].listens())
            .collect();
        self.order(running).await;
    }

    /// Starts a process; it says itself when it serves.
    async fn boot(&mut self, node: NodeIndex) -> io::Result<()> {
        let machine = &mut self.machines[node as usize];
        if machine.exists() {
            if machine.state == State::Ending && machine.next == Next::Stay {
                machine.next = Next::Boot;
            }
            return Ok(());
        }
        if self.scenario.program == Program::Net {
            released(&machine.state_dir).await?;
        }
        let mut peers = Vec::new();
        for (peer, entity) in self.entities.iter().enumerate() {
            let peer = peer as NodeIndex;
            // In a mesh nobody is told where others than its neighbours are.
            let mesh = self.scenario.mesh.as_ref();
            let near = peer != node && mesh.is_none_or(|mesh| mesh.linked(peer, node));
            let address = near.then(|| self.fabric.address(peer, node)).transpose()?;
            peers.push(Peer {
                entity: entity.clone(),
                address,
            });
        }
        let machine = &mut self.machines[node as usize];
        let role = match self.scenario.program {
            Program::Node => "node",
            Program::Net => "bridge",
        };
        let mut args: Vec<OsString> = vec![
            role.into(),
            "--scenario".into(),
            self.file.clone().into(),
            "--seed".into(),
            self.seed.to_string().into(),
            "--index".into(),
            node.to_string().into(),
            "--state".into(),
            machine.state_dir.clone().into(),
        ];
        if let (Program::Net, Some(net)) = (self.scenario.program, &self.programs.net) {
            args.extend(["--net".into(), net.into()]);
        }
        if let Some(mutant) = &self.programs.mutant {
            args.extend(["--mutant".into(), mutant.into()]);
        }
        machine.start(&self.programs.chaos, args, self.hears.clone())?;
        machine.order(&Order::Go { peers }).await;
        Ok(())
    }

    async fn fault(&mut self, index: u32) -> io::Result<()> {
        let kind = self.scenario.faults[index as usize].kind.clone();
        match kind {
            FaultKind::Crash { node, .. } => self.kill(node, Next::Stay),
            FaultKind::RestoreDisk { node, .. } => {
                let copy = self.backup(index);
                self.kill(node, Next::Restore(copy))
            }
            FaultKind::Pause { node } | FaultKind::Suspend { node } => {
                let machine = &mut self.machines[node as usize];
                if machine.state != State::Running {
                    return Ok(());
                }
                machine.signal(Signal::STOP)?;
                machine.state = State::Stopped;
                if matches!(kind, FaultKind::Suspend { .. }) {
                    self.fabric.doze(node, true);
                }
                Ok(())
            }
            FaultKind::Rebind { node, told } => self.rebind(node, told).await,
            FaultKind::Interface { node, told, link } => {
                self.fabric.set_interface(node, link.as_ref());
                self.rebind(node, told).await
            }
            FaultKind::Disk { node, .. } => {
                let Some(disk) = self.disks.get(&node) else {
                    return Ok(());
                };
                disk.fill(Key::new(self.seed).family(Family::Disk).with(u64::from(index)))?;
                self.files.fault(node);
                let name = format!("fault.{}", self.scenario.faults[index as usize].id);
                self.count(&name);
                Ok(())
            }
            FaultKind::Link { .. }
            | FaultKind::NatRebind { .. }
            | FaultKind::NatReboot { .. }
            | FaultKind::DiskRot { .. }
            | FaultKind::Clone { .. }
            | FaultKind::ClockJump { .. }
            | FaultKind::ClockDrift { .. }
            | FaultKind::ClockFreeze { .. }
            | FaultKind::DiskSlow { .. } => Ok(()),
        }
    }

    async fn end_fault(&mut self, index: u32) -> io::Result<()> {
        match self.scenario.faults[index as usize].kind {
            FaultKind::Crash { node, .. } => self.boot(node).await,
            FaultKind::Pause { node } | FaultKind::Suspend { node } => self.go_on(node),
            FaultKind::Interface { node, told, .. } => {
                self.fabric.set_interface(node, None);
                self.rebind(node, told).await
            }
            FaultKind::Disk { node, .. } => self.disks.get(&node).map_or(Ok(()), Disk::relieve),
            FaultKind::NatRebind { .. }
            | FaultKind::NatReboot { .. }
            | FaultKind::DiskRot { .. }
            | FaultKind::RestoreDisk { .. }
            | FaultKind::Rebind { .. }
            | FaultKind::Link { .. }
            | FaultKind::Clone { .. }
            | FaultKind::ClockJump { .. }
            | FaultKind::ClockDrift { .. }
            | FaultKind::ClockFreeze { .. }
            | FaultKind::DiskSlow { .. } => Ok(()),
        }
    }

    /// An adversary of this arm begins.
    fn strike(&mut self, index: u32) -> io::Result<()> {
        let adversary = self.scenario.adversaries[index as usize].clone();
        if self.healed || able::villain(&adversary.kind).is_some() {
            return Ok(());
        }
        if let AdversaryKind::Garbage {
            to,
            count,
            rate_milli,
            spoof,
        } = adversary.kind
        {
            let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            self.garblers.push(Garbler {
                key: adversary_key(Key::new(self.seed), &adversary.id),
                name: format!("adversary.{}", adversary.id),
                begins: adversary.at,
                until: adversary.until,
                to,
                spoof,
                count,
                rate_milli: rate_milli.max(1),
                made: 0,
                socket: UdpSocket::from_std(socket)?,
            });
        }
        Ok(())
    }

    /// Sends what adversaries owe by now.
    fn garble(&mut self) {
        let now = self.fabric.now();
        for garbler in &mut self.garblers {
            let passed = u128::from(now.min(garbler.until).saturating_sub(garbler.begins));
            let due = passed * u128::from(garbler.rate_milli) / 1_000_000_000_000;
            let due = u64::try_from(due).unwrap_or(u64::MAX).min(garbler.count);
            while garbler.made < due {
                let bytes = garbage(garbler.key, garbler.made);
                self.fabric.inject(garbler.to, garbler.spoof, &garbler.socket, &bytes);
                garbler.made += 1;
            }
            self.counters.insert(garbler.name.clone(), garbler.made);
        }
    }

    fn kill(&mut self, node: NodeIndex, next: Next) -> io::Result<()> {
        self.fabric.place(node, Place::Down);
        self.machines[node as usize].kill(next)
    }

    fn go_on(&mut self, node: NodeIndex) -> io::Result<()> {
        let machine = &mut self.machines[node as usize];
        if machine.state != State::Stopped {
            return Ok(());
        }
        machine.state = State::Running;
        machine.signal(Signal::CONT)?;
        self.fabric.doze(node, false);
        Ok(())
    }

    async fn rebind(&mut self, node: NodeIndex, told: bool) -> io::Result<()> {
        self.fabric.change_address(node)?;
        if told && self.machines[node as usize].listens() {
            self.fabric.place(node, Place::Unknown);
            self.machines[node as usize].order(&Order::Rebind).await;
        }
        let scenario = Arc::clone(&self.scenario);
        let near = |other: NodeIndex| scenario.mesh.as_ref().is_none_or(|mesh| mesh.linked(other, node));
        for other in (0..self.machines.len() as NodeIndex).filter(|&other| other != node && near(other)) {
            let address = self.fabric.address(node, other)?;
            self.machines[other as usize]
                .order(&Order::Moved { node, address })
                .await;
        }
        Ok(())
    }

    /// Ends every fault for good: machines of the core run, and links among them are clean.
    async fn heal(&mut self, core: &[NodeIndex]) -> io::Result<()> {
        self.healed = true;
        self.healed_at = self.fabric.now();
        self.note("healed");
        self.garblers.clear();
        self.fabric.heal(core);
        self.disks.values().try_for_each(Disk::relieve)?;
        for node in 0..self.machines.len() as NodeIndex {
            if !core.is_empty() && !core.contains(&node) {
                continue;
            }
            match self.machines[node as usize].state {
                State::Starting | State::Running => {}
                State::Stopped => self.go_on(node)?,
                State::Down | State::Ending => self.boot(node).await?,
            }
        }
        Ok(())
    }

    /// Asks every process for its figures and lets it end.
    async fn end(&mut self) -> io::Result<()> {
        for node in 0..self.machines.len() as NodeIndex {
            self.go_on(node)?;
        }
        self.until(BOOT, "the last processes to bind", |run| {
            run.machines.iter().all(|machine| machine.state != State::Starting)
        })
        .await?;
        let running: Vec<NodeIndex> = (0..self.machines.len() as NodeIndex)
            .filter(|&node| self.machines[node as usize].state == State::Running)
            .collect();
        self.figures.clear();
        self.order(running.iter().map(|&node| (node, Order::Report)).collect())
            .await;
        let wanted = running.len();
        self.until(END, "the figures of every process", |run| run.figures.len() >= wanted)
            .await?;
        for &node in &running {
            self.machines[node as usize].state = State::Ending;
        }
        self.order(running.iter().map(|&node| (node, Order::Quit)).collect())
            .await;
        self.until(END, "processes that were told to end", |run| {
            run.machines.iter().all(|machine| !machine.exists())
        })
        .await
    }

    fn name(&self, node: NodeIndex) -> String {
        self.scenario.nodes[node as usize].id.clone()
    }

    fn count(&mut self, name: &str) {
        *self.counters.entry(name.to_owned()).or_default() += 1;
    }

    fn note(&mut self, what: &str) {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        let at = if self.began { self.fabric.now() } else { 0 };
        let (s, us) = (at / 1_000_000_000, at % 1_000_000_000 / 1_000);
        self.log.push_back(format!("{s}.{us:06}s {what}"));
    }

    fn fail(&mut self, checker: &str, what: String) {
        self.note(&format!("{checker}: {what}"));
        if self.violation.is_none() {
            self.violation = Some(Violation {
                checker: checker.to_owned(),
                what,
                at: self.fabric.now(),
            });
        }
    }

    fn report(mut self) -> Ended {
        let stats = self.fabric.stats();
        if stats.canaries > 0 {
            let what = format!("application data could be read in {} datagrams", stats.canaries);
            self.fail("canary", what);
        }
        let (mut rtt, mut lost) = (Histogram::default(), Histogram::default());
        let relayed = self.mesh.sum();
        let mut add = |name: String, count: u64| *self.counters.entry(name).or_default() += count;
        for session in self.figures.iter().flat_map(|figures| &figures.sessions) {
            rtt.record(session.rtt);
            lost.record(session.lost);
        }
        for (reason, count) in self.figures.iter().flat_map(|figures| &figures.drops) {
            add(format!("drop.{reason}"), *count);
        }
        for (cause, count) in Cause::ALL.iter().zip(stats.links.dropped) {
            add(format!("link.{}", cause.name()), count);
        }
        for (name, count) in [
            ("link.duplicated", stats.links.duplicated),
            ("link.reordered", stats.links.reordered),
            ("link.corrupted", stats.links.corrupted),
            ("datagrams", stats.links.offered),
            ("flows_complete", self.apps.complete()),
            ("file.complete", self.files.complete()),
            ("resumed", self.apps.resumed),
            ("broken", self.apps.broken()),
            ("relay.packets", relayed.packets),
            ("relay.bytes", relayed.bytes),
            ("relay.refused", relayed.refused),
            ("connect.count", self.handshake.count()),
            ("echo.count", self.echo.count()),
        ] {
            add(name.to_owned(), count);
        }
        for (fault, hits) in &stats.hits {
            add(format!("fault.{fault}"), *hits);
        }
        let history = self.apps.history(&self.scenario);
        add("delivered_bytes".to_owned(), history.iter().map(|one| one.bytes).sum());
        self.bounds();
        self.judge();
        let report = ArmReport {
            arm: "real".to_owned(),
            runtime: "loopback".to_owned(),
            scenario: self.scenario.name.clone(),
            seed: self.seed,
            verdict: self.verdict(),
            checker: self.violation.as_ref().map(|violation| violation.checker.clone()),
            failure: self.violation.as_ref().map(told),
            digest: String::new(),
            unable: able::unable(&self.scenario, self.programs.disks),
            history,
            metrics: Metrics {
                rtt: Summary::of(&rtt),
                retransmissions: Summary::of(&lost),
                handshake: Summary::of(&self.handshake),
            },
            simulated_ms: self.fabric.now() / 1_000_000,
        };
        Ended {
            report,
            counters: self.counters,
            log: self.log.into(),
        }
    }

    fn verdict(&self) -> Verdict {
        match &self.violation {
            None => Verdict::Pass,
            Some(violation) if violation.checker == "out-of-time" => Verdict::OutOfTime,
            Some(_) => Verdict::Fail,
        }
    }

    /// Bounds of the scenario on what this arm counts.
    fn bounds(&mut self) {
        // Without a disk that becomes full nothing is refused for want of room.
        let unmet = able::wants_disks(&self.scenario) && !self.programs.disks;
        if self.violation.is_some() || unmet {
            return;
        }
        let scenario = Arc::clone(&self.scenario);
        let value = |run: &Self, counter: &str| run.counters.get(counter).copied().unwrap_or(0);
        for (counter, bound) in scenario.at_least.iter().filter(|(counter, _)| able::counts(counter)) {
            let count = value(self, counter);
            if count < *bound {
                self.fail("expect", format!("{counter} is {count}, at least {bound} is expected"));
            }
        }
        for (counter, bound) in scenario.at_most.iter().filter(|(counter, _)| able::counts(counter)) {
            let count = value(self, counter);
            if count > *bound {
                self.fail("expect", format!("{counter} is {count}, at most {bound} is expected"));
            }
        }
    }

    /// A scenario may expect a certain checker to fail; then its silence is the failure.
    fn judge(&mut self) {
        let Some(expected) = self.scenario.expect_fail.clone() else {
            return;
        };
        match self.violation.take() {
            Some(violation) if expected.is_empty() || violation.checker == expected => {}
            Some(violation) => self.violation = Some(violation),
            None => self.fail(
                "expect",
                format!("the checker `{expected}` was expected to fail and did not"),
            ),
        }
    }
}

/// A violation with its moment.
fn told(violation: &Violation) -> String {
    let (s, us) = (violation.at / 1_000_000_000, violation.at % 1_000_000_000 / 1_000);
    format!("at {s}.{us:06} s: {}", violation.what)
}

/// Waits until a state directory is used by nobody: a command that was killed together with the process that had started
/// it may end a little after that.
async fn released(dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + BOOT;
    while let Err(StateError::Locked { .. }) = StateDir::open(dir) {
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!(
                "{} is still in use by a killed process",
                dir.display()
            )));
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// The name under which the other arms count why a session ended.
fn short(why: &str) -> &str {
    match why {
        "session.timed_out" => "timed_out",
        "session.peer_restarted" => "peer_restarted",
        "session.closed_here" => "local",
        "session.closed_by_peer" | "session.not_allowed" | "session.state_rolled_back" => "remote",
        other => other,
    }
}
