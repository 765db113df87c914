//! The discrete-event world: machines, links, adversaries and applications under one virtual time.
//!
//! | file | role |
//! |---|---|
//! | `event.rs` | the queue of things to come |
//! | `pool.rs` | datagrams under way |
//! | `turn.rs` | one turn's effects |
//! | `watch.rs` | what checkers are told of a turn |
//! | `node.rs` | a machine: disk, clocks, address, process |
//! | `net.rs` | what becomes of datagrams |
//! | `script.rs` | what the scenario does to machines, and when |
//! | `trigger.rs` | events that set faults off |
//! | `memo.rs` | equal work of many machines, done once |
//! | `mesh.rs` | who is linked to whom, and whether routes are at rest |
//! | `segment.rs` | what machines speak to all on their segment |
//! | `nat.rs` | what NAT boxes do to datagrams |
//! | `reveal.rs` | what memory that was stolen gives away |
//! | `apps.rs` | applications and their streams |
//! | `order.rs` | commands that applications give |
//! | `files.rs` | applications that transfer files |
//! | `tree.rs` | the files that are sent |
//! | `directory.rs` | the directories that receive them, and what befalls them |
//! | `diagnosis.rs` | what did not complete, and whether it could have |
//! | `steps.rs` | workloads without streams |
//! | `adversary.rs` | who means harm |
//! | `recording.rs` | what is written down while a history is recorded |
//! | `inspect.rs` | the state of machines, as a person reads it |
//! | `secrets.rs` | what is secret in a run |
//! | `forge.rs` | first messages in another's name |
//!
//! Invariants: nothing here reads a clock or draws from a shared random stream; what happens is a function of scenario and
//! seed; a violation ends the run.
//! Not here: reading scenarios, running many seeds (`run.rs`).

mod adversary;
mod apps;
mod diagnosis;
mod directory;
mod event;
mod files;
mod forge;
mod inspect;
mod memo;
mod mesh;
mod nat;
mod net;
mod node;
mod order;
mod pool;
mod recording;
mod reveal;
mod script;
mod secrets;
mod segment;
mod steps;
mod tree;
mod trigger;
mod turn;
mod watch;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use net_kernel::api::{Command, Deadline, Event, Input, Job, Messages, Relayed, StoreError, StoreOp, Stored};
use net_kernel::base::probe::Hits;
use net_kernel::base::trace::Record;
use net_kernel::base::{CommandId, EntityId, JobId, StreamId, Ticket};
use net_kernel::session::SessionKey;
use net_kernel::session::crew::Drawn;
use net_sim_model::key::scale;
use net_sim_model::{DiskFault, Family, Key, WriteEnd};

use crate::check::{Accounts, Note, Panel, Violation};
use crate::histogram::Histogram;
use crate::history::{Cursor, Fact, History, NONE, Recorder, StoreEnd};
use crate::host::Host;
use crate::payload;
use crate::scenario::{Fate, Happening, Scenario, Workload, WorkloadKind};
use crate::trigger::Happened;
use adversary::Villain;
use apps::{Apps, Order, Purpose};
use event::{Queue, What};
use net::Links;
use node::{Node, State};
use pool::Pool;
use turn::{Effects, TurnIo};

pub use adversary::{adversary_key, garbage};
pub use apps::mesh_name;
pub use directory::{Crash, Directory};
pub use inspect::NodeState;
pub use net::{heal, kind_of, link_between, spec_between};
pub use node::SOCKET_BUFFER;
pub use script::{Line, lines, quiet_after};
pub use secrets::Secrets;
pub use tree::{Entry, Tree};

/// Wall time at the start of every world: 2026-01-01, so that epochs look like epochs.
const WALL: u64 = 1_767_225_600_000_000_000;
/// Monotonic time at the start of every machine's first process.
const MONO: u64 = 1_000_000_000;
/// A run goes on this long after everything is done, so that endings are seen.
const SETTLE: u64 = 1_000_000_000;
/// How often a run asks whether everything is done.
const POLL: u64 = 10_000_000;
/// Turns of one machine at one instant from which on it is taken to be in a loop.
const LOOP_LIMIT: u64 = 200_000;
/// The reason an application gives for giving a stream up.
const GIVEN_UP: u64 = 7;
/// A job takes at least and at most this long.
const JOB_TIME: (u64, u64) = (50_000, 400_000);

/// A job under way.
struct PendingJob {
    node: u32,
    incarnation: u32,
    id: JobId,
    job: Option<Box<Job>>,
}

/// A storage operation under way.
struct PendingStore {
    node: u32,
    incarnation: u32,
    ticket: Ticket,
    /// The cell that is read; `None` for a write.
    read: Option<&'static str>,
    number: u64,
}

/// What a run ended with.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first violation.
    pub violation: Option<Violation>,
    /// Folds the digests of every process.
    pub digest: [u8; 32],
    /// World time at the end, ns.
    pub ended_at: u64,
    /// Turns of all processes.
    pub turns: u64,
    /// Datagrams.
    pub accounts: Accounts,
    /// What happened, by name.
    pub counters: BTreeMap<String, u64>,
    /// The probes that some process passed.
    pub probes: Hits,
    /// What happened, where it was recorded.
    pub history: Option<History>,
    /// The chances of links that took effect, where they were kept.
    pub fates: Vec<Fate>,
}

/// A world.
pub struct World<H: Host> {
    scenario: Rc<Scenario>,
    key: Key,
    now: u64,
    queue: Queue,
    nodes: Vec<Node<H>>,
    entities: Vec<EntityId>,
    secrets: secrets::Vaulted,
    links: Links,
    nats: nat::Boxes,
    triggers: trigger::Triggers,
    /// What faults did to machines and boxes, by number.
    bites: Vec<u64>,
    /// Keys that were replaced so far.
    replaced: Vec<reveal::Replaced>,
    thieves: reveal::Thieves,
    /// Faults of disks under way: fault, machine, what its disk had suffered before.
    disk_watch: Vec<(u32, u32, u64)>,
    /// From when on nothing more is going to be done to the world.
    quiet_after: u64,
    pool: Pool,
    effects: Effects,
    apps: Apps,
    panel: Panel,
    /// What is being handed over is a copy of what was handed over before.
    again: bool,
    /// Whether somebody's state is rolled back or copied in this run.
    rolls_back: bool,
    villains: Vec<Villain>,
    script: Vec<(u64, Line)>,
    jobs: Vec<PendingJob>,
    free_jobs: Vec<u32>,
    stores: Vec<PendingStore>,
    accounts: Accounts,
    packets: u64,
    commands: u64,
    /// Copies that were handed over: machine, transmission.
    copies: BTreeSet<(u32, u64)>,
    batch: Vec<u32>,
    buffers: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    ends: Vec<u32>,
    healed: bool,
    /// What machines say of their routes.
    meshes: mesh::Meshes,
    /// Signatures that some machine checked before.
    memo: memo::Memo,
    steps: Vec<steps::Steps>,
    same_instant: (u64, u64),
    events: u64,
    event_limit: u64,
    recorder: Option<Box<Recorder>>,
    /// The entry of the history that whatever happens now follows from.
    cursor: Cursor,
    /// Datagrams in the batch that is handed over.
    handed: u32,
    tape: Option<Tape>,
    course: Option<Course>,
}

/// How far a run has come.
struct Course {
    /// Whether the whole duration counts, because something is to stay up.
    full: bool,
    next_poll: u64,
    end: u64,
    done: bool,
    over: bool,
}

/// What a panic says.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let what = panic.downcast_ref::<String>().map(String::as_str);
    let what = what.or_else(|| panic.downcast_ref::<&str>().copied());
    what.unwrap_or("a panic without words").to_owned()
}

/// The traces of a run's processes, as far as they are kept.
struct Tape {
    limit: usize,
    processes: Vec<ProcessTrace>,
}

/// What one process was told and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessTrace {
    /// The machine's number.
    pub node: u32,
    /// Which of its processes, from 1.
    pub process: u32,
    /// The first records of its trace.
    pub records: Vec<Record>,
}

impl<H: Host> World<H> {
    /// The world of a scenario under a seed.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        Self::with_secrets(scenario, seed, Secrets::Usual)
    }

    /// As [`Self::new`], with these secrets.
    #[must_use]
    pub fn with_secrets(scenario: Scenario, seed: u64, which: Secrets) -> Self {
        let scenario = Rc::new(scenario);
        let key = Key::new(seed);
        let secrets = secrets::Vaulted::draw::<H>(&scenario, key, which);
        let villains = scenario.adversaries.iter().enumerate();
        let villains: Vec<_> = villains
            .map(|(index, spec)| Villain::new(index as u32, spec.clone(), key))
            .collect();
        let cursor = Cursor::default();
        let mut world = Self {
            apps: Apps::new(Rc::clone(&scenario), key, secrets.key, cursor.clone()),
            links: Links::new(&scenario, key),
            nats: nat::Boxes::new(&scenario, key),
            triggers: trigger::Triggers::new(&scenario),
            bites: vec![0; scenario.faults.len()],
            replaced: Vec::new(),
            thieves: reveal::Thieves::new(&scenario),
            disk_watch: Vec::new(),
            quiet_after: script::quiet_after(&scenario),
            steps: steps::Steps::all(&scenario),
            panel: watch::panel::<H>(&scenario),
            again: false,
            rolls_back: watch::rolls_back(&scenario),
            scenario,
            key,
            now: 0,
            queue: Queue::new(cursor.clone()),
            nodes: Vec::new(),
            entities: Vec::new(),
            secrets,
            pool: Pool::default(),
            effects: Effects::default(),
            villains,
            script: Vec::new(),
            jobs: Vec::new(),
            free_jobs: Vec::new(),
            stores: Vec::new(),
            accounts: Accounts::default(),
            packets: 0,
            commands: 0,
            copies: BTreeSet::new(),
            batch: Vec::new(),
            buffers: Vec::new(),
            scratch: Vec::new(),
            ends: Vec::new(),
            healed: false,
            meshes: mesh::Meshes::default(),
            memo: memo::Memo::default(),
            same_instant: (0, 0),
            events: 0,
            event_limit: u64::MAX,
            recorder: None,
            handed: 0,
            cursor,
            tape: None,
            course: None,
        };
        world.panel.follow(world.cursor.clone());
        world.apps.files.announce(&mut world.panel);
        world.populate();
        world
    }

    /// Keeps the first `limit` records of every process's trace; changes nothing else.
    pub fn keep_traces(&mut self, limit: usize) {
        let processes = Vec::new();
        self.tape = Some(Tape { limit, processes });
        for node in &mut self.nodes {
            if let Some(host) = &mut node.host {
                host.keep_trace(limit);
            }
        }
    }

    /// Keeps which chances of links take effect ([`Outcome::fates`]); changes nothing else.
    pub fn keep_fates(&mut self) {
        self.links.keep_fates();
    }

    /// Ends the run as out of time after this many events.
    pub fn limit(&mut self, events: u64) {
        self.event_limit = events;
    }

    /// The checkers, to add one's own.
    pub fn panel(&mut self) -> &mut Panel {
        &mut self.panel
    }

    fn populate(&mut self) {
        for index in 0..self.scenario.nodes.len() as u32 {
            self.add_node(index);
        }
        self.script = script::lines(&self.scenario);
        for (line, (at, _)) in self.script.iter().enumerate() {
            self.queue.push(*at, What::Script { line: line as u32 });
        }
    }

    /// Adds a machine with the identity of `identity`; answers its number.
    fn add_node(&mut self, identity: u32) -> u32 {
        let index = self.nodes.len() as u32;
        let spec = &self.scenario.nodes[identity as usize];
        let key = self.key.with(self.number(index));
        let latency = net_sim_model::Distribution::Uniform {
            low: spec.disk / 2,
            high: spec.disk,
        };
        let disk = net_sim_model::Disk::new(latency, key);
        let wall = (i128::from(WALL) + i128::from(spec.wall_offset)).max(0) as u64;
        let clock = net_sim_model::Clock::new(MONO, wall, spec.drift_ppb);
        self.nodes.push(Node::new(index, identity, disk, clock));
        let entity = H::entity(&self.identity(identity));
        self.entities.push(entity);
        if let Some(recorder) = &mut self.recorder {
            recorder.add_node(format!("{}*", self.scenario.nodes[identity as usize].id));
        }
        if index == identity {
            self.apps.entities.insert(entity, index);
        } else {
            self.apps.add_node();
        }
        index
    }

    fn identity(&self, node: u32) -> [u8; 32] {
        self.secrets.identities[node as usize]
    }

    /// The number under which the decisions about a machine stand.
    fn number(&self, node: u32) -> u64 {
        u64::from(self.scenario.number(node))
    }

    /// Runs to the end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        self.go_guarded();
        self.finish()
    }

    /// As [`Self::run`]; answers the traces kept as well, processes that ended first before those that still run.
    pub fn run_traced(mut self) -> (Outcome, Vec<ProcessTrace>) {
        self.go_guarded();
        for node in 0..self.nodes.len() {
            self.take_trace(node as u32);
        }
        let processes = self.tape.take().map_or_else(Vec::new, |tape| tape.processes);
        (self.finish(), processes)
    }

    /// The process on `node` ends, or the run does: what was kept of its trace is filed.
    fn take_trace(&mut self, node: u32) {
        let machine = &self.nodes[node as usize];
        if let (Some(tape), Some(host)) = (&mut self.tape, &machine.host) {
            let (process, records) = (machine.incarnation, host.records().to_vec());
            tape.processes.push(ProcessTrace { node, process, records });
        }
    }

    /// A machine's broken assertion is a violation like any other: what led to it is still told.
    fn go_guarded(&mut self) {
        self.guarded(Self::go);
    }

    /// Lets one thing happen; answers whether the run goes on. A broken assertion ends it as a violation.
    pub fn proceed(&mut self) -> bool {
        self.guarded(|world| {
            let mut course = world.course();
            let goes_on = !course.over && world.advance(&mut course);
            course.over = !goes_on;
            world.course = Some(course);
        });
        self.course.as_ref().is_some_and(|course| !course.over)
    }

    fn guarded(&mut self, what: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| what(self))) {
            self.panel.fail(self.now, "invariant", words(&*panic));
            let mut course = self.course();
            course.over = true;
            self.course = Some(course);
        }
    }

    fn go(&mut self) {
        let mut course = self.course();
        while !course.over && self.advance(&mut course) {}
        course.over = true;
        self.course = Some(course);
    }

    fn course(&mut self) -> Course {
        let connects = |workload: &Workload| matches!(workload.kind, WorkloadKind::Connect);
        self.course.take().unwrap_or_else(|| Course {
            full: self.scenario.workloads.is_empty() || self.scenario.workloads.iter().any(connects),
            next_poll: 0,
            end: self.scenario.duration,
            done: false,
            over: false,
        })
    }

    /// Lets one thing happen; answers whether the run goes on.
    fn advance(&mut self, course: &mut Course) -> bool {
        let at = self.queue.peek().map_or(u64::MAX, |entry| entry.at);
        if at > course.end {
            return self.phase_ends(course);
        }
        let Some(entry) = self.queue.pop() else { return false };
        self.now = entry.at;
        self.events += 1;
        self.happen(entry.what);
        self.obey();
        if self.panel.violation().is_some() {
            return false;
        }
        if self.events > self.event_limit {
            let what = format!("{} events did not suffice", self.event_limit);
            self.panel.fail(self.now, "out-of-time", what);
            return false;
        }
        if self.now >= course.next_poll {
            course.next_poll = self.now + POLL;
            self.weigh();
            self.note_linked();
            let over = self.now >= self.quiet_after || self.healed;
            if over {
                self.note_rest();
            }
            if !course.done && over && (!course.full || self.healed) && self.all_done() && self.at_rest() {
                course.done = true;
                course.end = course.end.min(self.now + SETTLE);
            }
        }
        true
    }

    /// The time of a phase is over; answers whether another one begins.
    fn phase_ends(&mut self, course: &mut Course) -> bool {
        self.now = course.end;
        // What is seen at the end follows from no single thing that happened.
        self.cursor.set(NONE);
        let owed = self.owes() || self.unrest().is_some();
        let scenario = Rc::clone(&self.scenario);
        match &scenario.liveness {
            Some(liveness) if !self.healed && !course.done && owed => {
                self.heal(&liveness.core);
                course.end += liveness.within;
                return true;
            }
            Some(liveness) if owed => {
                let what = self.diagnosis(liveness);
                self.panel.fail(self.now, "liveness", what);
            }
            Some(_) | None => {}
        }
        false
    }

    fn all_done(&self) -> bool {
        self.apps.all_done()
            && self.steps.iter().all(steps::Steps::done)
            && self
                .villains
                .iter()
                .all(|villain| !villain.active(self.now) || villain.pause().is_none())
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrive { slot, node } => self.arrive(slot, node),
            What::Wake { node } => self.wake(node),
            What::TxReady { node } => self.turn(node, Input::TxReady),
            What::Job { job } => self.work_done(job),
            What::Stored { operation } => self.stored(operation),
            What::Script { line } => self.perform(line),
            What::Tick { half } => {
                self.follow_workload(self.apps.workload(half));
                self.apps.ticked(self.now, half);
            }
            What::File { end } => self.file(end),
            What::Drain { half } => self.apps.drain(self.now, half),
            What::Step { workload } => {
                self.follow_workload(workload);
                self.step(workload);
            }
            What::Dial { node, peer } => {
                if self.nodes[node as usize].host.is_some() {
                    self.apps.pursue(self.now, node, peer);
                }
            }
            What::Strike { adversary } => {
                self.follow_adversary(adversary);
                self.strike(adversary);
            }
        }
        self.schedule_later();
    }

    fn schedule_later(&mut self) {
        while let Some((at, what)) = self.apps.later.pop() {
            self.queue.push(at.max(self.now), what);
        }
    }

    /// Gives every waiting command.
    fn obey(&mut self) {
        while let Some((node, purpose, order)) = self.apps.orders.pop_front() {
            if self.nodes[node as usize].state == State::Running {
                self.command(node, purpose, &order);
            } else if self.nodes[node as usize].state == State::Down {
                continue;
            } else {
                // The application is stopped with its process: it asks again when it runs.
                self.nodes[node as usize].held.push((purpose, order));
            }
            self.schedule_later();
        }
    }

    fn command(&mut self, node: u32, purpose: Purpose, order: &Order) {
        self.commands += 1;
        let id = purpose.id(self.commands);
        self.tell_order(node, order);
        match *order {
            Order::Connect { peer } => self.connect(node, id, peer),
            Order::Open { session, options } => {
                self.turn(node, Input::Command(id, Command::Open { session, options }));
            }
            Order::Send { half } => self.send(node, id, half),
            Order::Finish { half } => {
                if let Some((session, stream)) = self.apps.halves[half as usize].out {
                    self.turn(node, Input::Command(id, Command::Finish { session, stream }));
                }
            }
            Order::Reset { half } => {
                if let Some((session, stream)) = self.apps.halves[half as usize].out {
                    let code = GIVEN_UP;
                    self.turn(node, Input::Command(id, Command::Reset { session, stream, code }));
                }
            }
            Order::Stop { half } => {
                if let Some((session, stream)) = self.apps.halves[half as usize].into {
                    let code = GIVEN_UP;
                    self.turn(node, Input::Command(id, Command::Stop { session, stream, code }));
                }
            }
            Order::Consumed { half, bytes, messages } => {
                if let Some((session, stream)) = self.apps.halves[half as usize].into {
                    self.grant(node, id, session, stream, (bytes, messages));
                }
            }
            Order::Swallowed {
                session,
                stream,
                bytes,
                messages,
            } => self.grant(node, id, session, stream, (bytes, messages)),
            Order::Say { end } => self.say(node, id, end),
            Order::Hush { session, stream } => {
                self.turn(node, Input::Command(id, Command::Finish { session, stream }));
            }
            Order::Echo { session } => self.turn(node, Input::Command(id, Command::Echo { session })),
            Order::Rekey { session } => self.turn(node, Input::Command(id, Command::Rekey { session })),
            Order::Close { session } => {
                let close = Command::Close {
                    session,
                    code: 0,
                    reason: "done",
                };
                self.turn(node, Input::Command(id, close));
            }
        }
    }

    fn grant(&mut self, node: u32, id: CommandId, session: SessionKey, stream: StreamId, read: (u64, u64)) {
        let (bytes, messages) = read;
        let consumed = Command::Consumed {
            session,
            stream,
            bytes,
            messages,
        };
        self.turn(node, Input::Command(id, consumed));
    }

    fn connect(&mut self, node: u32, id: CommandId, peer: u32) {
        let (address, entity) = (self.address_of(node, peer), self.entities[peer as usize]);
        // In a mesh nobody is told where others than its neighbours are.
        let mesh = self.scenario.mesh.as_ref();
        let afar = mesh.is_some_and(|mesh| !mesh.linked(node, peer));
        if !afar {
            self.dials(node, address);
        }
        if !self.triggers.none() {
            self.happened(Happened::at(Happening::Dialled, node));
        }
        let addresses = [address];
        let connect = Command::Connect {
            peer: entity,
            addresses: if afar { &[] } else { &addresses },
        };
        self.turn(node, Input::Command(id, connect));
    }

    fn send(&mut self, node: u32, id: CommandId, half: u32) {
        let state = &self.apps.halves[half as usize];
        let Some((session, stream)) = state.out else { return };
        let expected = state.expected;
        let (first, count) = (state.next, state.offered);
        let (mut bytes, mut ends) = (std::mem::take(&mut self.scratch), std::mem::take(&mut self.ends));
        bytes.clear();
        ends.clear();
        for number in first..first + count {
            let start = bytes.len();
            bytes.resize(start + expected.len(number) as usize, 0);
            payload::fill(expected.payload, expected.base + number, 0, &mut bytes[start..]);
            ends.push(bytes.len() as u32);
        }
        let messages = if count == 1 {
            Messages::One(&bytes)
        } else {
            Messages::Framed {
                bytes: &bytes,
                ends: &ends,
            }
        };
        self.turn(
            node,
            Input::Command(
                id,
                Command::Send {
                    session,
                    stream,
                    messages,
                },
            ),
        );
        (self.scratch, self.ends) = (bytes, ends);
        self.apps.taken(self.now, half);
    }

    /// One turn of a machine's process, and everything that follows from it.
    fn turn(&mut self, node: u32, input: Input<'_>) {
        let machine = &mut self.nodes[node as usize];
        let now = machine.now(self.now);
        let from = machine.address;
        if machine.host.is_none() {
            return;
        }
        if self.same_instant.0 == self.now {
            self.same_instant.1 += 1;
            if self.same_instant.1 > LOOP_LIMIT {
                self.panel.fail(
                    self.now,
                    "livelock",
                    format!("{LOOP_LIMIT} turns at one instant, node {node} last"),
                );
                return;
            }
        } else {
            self.same_instant = (self.now, 0);
        }
        self.tell_turn(node, &input);
        let Node {
            host: Some(host), crew, ..
        } = &mut self.nodes[node as usize]
        else {
            return;
        };
        let mut io = TurnIo {
            now: self.now,
            node,
            from,
            pool: &mut self.pool,
            effects: &mut self.effects,
            apps: &mut self.apps,
            panel: &mut self.panel,
            reserved: None,
            crew: crew.as_mut(),
            held: None,
            recorder: self.recorder.as_deref_mut(),
        };
        let deadline = host.turn(now, input, &mut io);
        drop(io);
        self.settle(node, deadline);
    }

    fn settle(&mut self, node: u32, deadline: Option<Deadline>) {
        let mut effects = std::mem::take(&mut self.effects);
        let notes = self.nodes[node as usize].host.as_mut().map(Host::take_notes);
        for (what, values) in notes.unwrap_or_default() {
            let at = self.now;
            let note = Note { node, at, what, values };
            self.mapped(&note);
            self.panel.note(&note);
        }
        let begun = watch::begun(&effects.events);
        let accused = effects
            .events
            .iter()
            .any(|event| matches!(event, Event::StateRolledBack { .. }));
        let turn = self.cursor.get();
        self.tell_deadline(node, deadline);
        for slot in effects.sent.drain(..) {
            self.cursor.set(turn);
            self.transmit(node, slot);
        }
        self.cursor.set(turn);
        if std::mem::take(&mut effects.full) {
            self.queue.push(self.now, What::TxReady { node });
        }
        for (id, job) in effects.jobs.drain(..) {
            self.work(node, id, job);
        }
        for (ticket, op) in effects.stores.drain(..) {
            self.store(node, ticket, op);
        }
        for event in effects.events.drain(..) {
            self.cursor.set(turn);
            self.tell_on(Some(node), || Fact::Told(Box::new(event.clone())));
            if let Event::Connected { peer, address, .. } = &event {
                self.watch_name(node, peer, address);
            }
            self.apps.event(self.now, node, &event, &mut self.panel);
            if let Event::Rekeyed { session } = event
                && let Some(&peer) = self.apps.sessions[node as usize].get(&session)
            {
                let at = self.now;
                self.replaced.push(reveal::Replaced { node, peer, at });
            }
            if !self.triggers.none() {
                self.told(node, &event);
            }
        }
        if self.triggers.deliveries() {
            self.count_deliveries();
        }
        self.cursor.set(turn);
        self.watch(node, &begun, accused);
        self.effects = effects;
        self.arm(node, deadline);
        self.schedule_later();
    }

    /// Makes sure that the process is woken at its deadline. A wake-up that is already scheduled earlier is enough.
    fn arm(&mut self, node: u32, deadline: Option<Deadline>) {
        let machine = &mut self.nodes[node as usize];
        machine.mono_deadline = deadline.map(|deadline| deadline.at.as_nanos());
        let at = machine
            .mono_deadline
            .and_then(|mono| machine.clock.world_at(mono))
            .map(|at| at.max(self.now));
        machine.deadline = at;
        if let Some(at) = at
            && at < machine.wake_at
        {
            machine.wake_at = at;
            self.queue.push(at, What::Wake { node });
        }
    }

    fn wake(&mut self, node: u32) {
        let machine = &mut self.nodes[node as usize];
        if machine.wake_at == self.now {
            machine.wake_at = u64::MAX;
        }
        if machine.state != State::Running {
            return;
        }
        match machine.deadline {
            Some(at) if at <= self.now => {
                self.tell_timer(node);
                self.turn(node, Input::Wake);
            }
            Some(at) if at < machine.wake_at => {
                machine.wake_at = at;
                self.queue.push(at, What::Wake { node });
            }
            Some(_) | None => {}
        }
    }

    /// The clock of a machine changed: its deadline lies elsewhere in the world's time.
    fn rearm(&mut self, node: u32) {
        let machine = &mut self.nodes[node as usize];
        machine.deadline = machine.mono_deadline.and_then(|mono| machine.clock.world_at(mono));
        if let Some(at) = machine.deadline.map(|at| at.max(self.now))
            && at < machine.wake_at
        {
            machine.wake_at = at;
            self.queue.push(at, What::Wake { node });
        }
    }

    fn work(&mut self, node: u32, id: JobId, job: Box<Job>) {
        self.watch_job(node);
        let machine = &self.nodes[node as usize];
        let pending = PendingJob {
            node,
            incarnation: machine.incarnation,
            id,
            job: Some(job),
        };
        let key = self.key.family(Family::Job).with(self.number(node));
        let takes = JOB_TIME.0 + scale(key.at(id.to_u64()), JOB_TIME.1 - JOB_TIME.0);
        let index = match self.free_jobs.pop() {
            Some(index) => {
                self.jobs[index as usize] = pending;
                index
            }
            None => {
                self.jobs.push(pending);
                (self.jobs.len() - 1) as u32
            }
        };
        self.apps.count("jobs");
        let turn = self.cursor.get();
        self.tell_on(Some(node), || Fact::JobBegun { job: id.to_u64() });
        self.queue.push(self.now + takes, What::Job { job: index });
        self.cursor.set(turn);
    }

    fn work_done(&mut self, index: u32) {
        let pending = &mut self.jobs[index as usize];
        let (node, id) = (pending.node, pending.id);
        let machine = &mut self.nodes[node as usize];
        if machine.state == State::Paused || machine.state == State::Suspended {
            // Its threads are stopped with it.
            self.queue.push(self.now + POLL, What::Job { job: index });
            return;
        }
        let job = pending.job.take();
        self.free_jobs.push(index);
        if machine.incarnation != pending.incarnation || machine.host.is_none() {
            return;
        }
        machine.jobs = machine.jobs.saturating_sub(1);
        let Some(job) = job else { return };
        let incarnation = machine.incarnation;
        let key = self.entropy(node, incarnation);
        let machine = &mut self.nodes[node as usize];
        let mut blocks = machine.entropy;
        let done = self.memo.run(*job, &mut |out| {
            *out = key.bytes32(blocks);
            blocks += 1;
        });
        machine.entropy = blocks;
        self.tell_on(Some(node), || Fact::JobFinished { job: id.to_u64() });
        self.turn(node, Input::Worked(id, done));
    }

    fn store(&mut self, node: u32, ticket: Ticket, op: StoreOp) {
        let turn = self.cursor.get();
        self.tell_store(node, ticket.to_u64(), &op);
        let machine = &mut self.nodes[node as usize];
        let (read, (number, takes)) = match op {
            StoreOp::Put { cell, bytes } => (None, machine.disk.begin_write(cell.name(), bytes)),
            StoreOp::Get { cell } => (Some(cell.name()), machine.disk.begin_read()),
        };
        if read.is_none() && !self.triggers.none() {
            self.happened(Happened::at(Happening::Writing, node));
        }
        let operation = self.stores.len() as u32;
        self.stores.push(PendingStore {
            node,
            incarnation: self.nodes[node as usize].incarnation,
            ticket,
            read,
            number,
        });
        self.queue.push(self.now + takes, What::Stored { operation });
        self.cursor.set(turn);
    }

    fn stored(&mut self, operation: u32) {
        let PendingStore {
            node,
            incarnation,
            ticket,
            read,
            number,
        } = self.stores[operation as usize];
        let machine = &mut self.nodes[node as usize];
        if machine.incarnation != incarnation || machine.host.is_none() {
            return;
        }
        if machine.state != State::Running {
            self.queue.push(self.now + POLL, What::Stored { operation });
            return;
        }
        let failed = |fault| {
            Stored::Failed(match fault {
                DiskFault::Full => StoreError::Full,
                DiskFault::Failing | DiskFault::Sync | DiskFault::Misdirected => StoreError::Device,
                DiskFault::Denied => StoreError::Denied,
            })
        };
        let Some(cell) = read else {
            let result = match machine.disk.end_write(number) {
                Some(WriteEnd::Done) => Stored::Done,
                Some(WriteEnd::Failed(fault)) => failed(fault),
                None => return,
            };
            let done = matches!(result, Stored::Done);
            self.answer(node, ticket, result);
            if done && !self.triggers.none() {
                self.happened(Happened::at(Happening::Stored, node));
            }
            return;
        };
        match machine.disk.read(cell).map(|bytes| bytes.map(<[u8]>::to_vec)) {
            Ok(bytes) => self.answer(node, ticket, Stored::Value(bytes.as_deref())),
            Err(fault) => self.answer(node, ticket, failed(fault)),
        }
    }

    /// Storage answers a process.
    fn answer(&mut self, node: u32, ticket: Ticket, stored: Stored<'_>) {
        let end = StoreEnd::of(&stored);
        self.tell_on(Some(node), || Fact::StoreFinished {
            ticket: ticket.to_u64(),
            end,
        });
        self.turn(node, Input::Stored(ticket, stored));
    }

    fn finish(mut self) -> Outcome {
        self.accounts.in_flight =
            self.queue.in_flight() + self.nodes.iter().map(|node| node.backlog.len() as u64).sum::<u64>();
        if self.panel.violation().is_none() {
            self.cursor.set(NONE);
            self.panel.finish(self.now, &self.accounts);
        }
        let mut digest = blake3::Hasher::new_derive_key("net simulated run v1");
        let mut turns = 0;
        let mut probes = Hits::default();
        for node in &self.nodes {
            probes.add(node.ended_probes);
            probes.add(node.host.as_ref().map_or_else(Hits::default, Host::probes));
            turns += node.ended_turns + node.host.as_ref().map_or(0, Host::turns);
            for ended in node.ended.iter().copied().chain(node.host.as_ref().map(Host::digest)) {
                digest.update(&ended);
            }
            digest.update(&node.incarnation.to_le_bytes());
        }
        for count in [
            self.accounts.sent,
            self.accounts.delivered,
            self.accounts.injected,
            self.now,
        ] {
            digest.update(&count.to_le_bytes());
        }
        self.count_disks();
        let counters = self.counters();
        self.bounds(&counters);
        self.tell_violation();
        Outcome {
            violation: self.panel.violation().cloned(),
            digest: *digest.finalize().as_bytes(),
            ended_at: self.now,
            turns,
            counters,
            probes,
            history: self.recorder.map(|recorder| recorder.history),
            fates: self.links.fates(&self.scenario),
            accounts: self.accounts,
        }
    }

    /// Everything that was counted, by name.
    fn counters(&self) -> BTreeMap<String, u64> {
        let mut all: BTreeMap<String, u64> = self
            .apps
            .counters
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        let mut add = |name: String, count: u64| *all.entry(name).or_default() += count;
        let links = self.links.counts();
        for (cause, count) in net_sim_model::Cause::ALL.iter().zip(links.dropped) {
            add(format!("link.{}", cause.name()), count);
        }
        add("link.duplicated".to_owned(), links.duplicated);
        add("link.reordered".to_owned(), links.reordered);
        add("link.corrupted".to_owned(), links.corrupted);
        for (cause, count) in &self.accounts.dropped {
            add(format!("lost.{cause}"), *count);
        }
        for node in &self.nodes {
            add("boot_failed".to_owned(), node.boot_failures);
            add("disk.kept".to_owned(), node.crashed.kept);
            add("disk.lost".to_owned(), node.crashed.lost);
            add("disk.torn".to_owned(), node.crashed.torn);
            add("boots".to_owned(), u64::from(node.incarnation));
            add("crew.pieces".to_owned(), node.crew.as_ref().map_or(0, Drawn::ran));
            let mut relayed = node.ended_relayed;
            relayed.add(&node.host.as_ref().map_or_else(Relayed::default, Host::relayed));
            add("relay.packets".to_owned(), relayed.packets);
            add("relay.bytes".to_owned(), relayed.bytes);
            add("relay.refused".to_owned(), relayed.refused);
            for (reason, count) in node.ended_drops.nonzero() {
                add(format!("drop.{}", reason.name()), count);
            }
            if let Some(host) = &node.host {
                for (reason, count) in host.drops().nonzero() {
                    add(format!("drop.{}", reason.name()), count);
                }
            }
        }
        for (fault, hits) in self.links.hits(&self.scenario) {
            add(format!("fault.{fault}"), hits);
        }
        for (fault, hits) in self.scenario.faults.iter().zip(&self.bites) {
            add(format!("fault.{}", fault.id), *hits);
        }
        add("link.marked".to_owned(), links.marked);
        self.nats.counters(self.now, &mut add);
        for villain in &self.villains {
            add(format!("adversary.{}", villain.spec.id), villain.made);
        }
        add("datagrams".to_owned(), self.accounts.sent);
        add("bytes".to_owned(), self.accounts.bytes);
        add("delivered_bytes".to_owned(), self.apps.bytes);
        if let Some(rest) = self.rest() {
            add("mesh.rest".to_owned(), rest);
        }
        if let Some(linked) = self.linked() {
            add("mesh.linked".to_owned(), linked);
        }
        self.session_counters(&mut add);
        self.times(&mut all);
        all
    }

    fn session_counters(&self, add: &mut impl FnMut(String, u64)) {
        for (node, sessions) in self.apps.sessions.iter().enumerate() {
            let Some(host) = &self.nodes[node].host else { continue };
            for session in sessions.keys() {
                let Some(stats) = host.stats(*session) else { continue };
                add("session.lost".to_owned(), stats.lost);
                add("session.probes".to_owned(), stats.probes);
                add("session.received".to_owned(), stats.received);
                add("sessions".to_owned(), 1);
            }
        }
    }

    /// Round-trip times and losses of the sessions that live.
    fn session_histograms(&self) -> (Histogram, Histogram) {
        let (mut rtt, mut retransmissions) = (Histogram::default(), Histogram::default());
        for (node, sessions) in self.apps.sessions.iter().enumerate() {
            let host = self.nodes[node].host.as_ref();
            let all = sessions.keys().filter_map(|session| host?.stats(*session));
            for stats in all {
                rtt.record(stats.rtt.as_nanos());
                retransmissions.record(stats.lost);
            }
        }
        (rtt, retransmissions)
    }

    /// Measured times, in ns.
    fn times(&self, all: &mut BTreeMap<String, u64>) {
        let (rtt, retransmissions) = self.session_histograms();
        let mut named = vec![
            ("session.rtt".to_owned(), &rtt),
            ("session.retransmissions".to_owned(), &retransmissions),
            ("delivery".to_owned(), &self.apps.delivery[0]),
            ("echo".to_owned(), &self.apps.echo),
            ("connect".to_owned(), &self.apps.connect),
        ];
        for (workload, histogram) in self.scenario.workloads.iter().zip(&self.apps.delivery[1..]) {
            named.push((format!("delivery.{}", workload.id), histogram));
        }
        for (name, histogram) in named {
            if histogram.count() == 0 {
                continue;
            }
            all.insert(format!("{name}.count"), histogram.count());
            all.insert(format!("{name}.max"), histogram.max());
            for (suffix, permille) in [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)] {
                all.insert(format!("{name}.{suffix}"), histogram.quantile(permille));
            }
        }
        all.insert("last_delivery".to_owned(), self.apps.last_delivery);
    }

    /// Bounds the scenario asks for.
    fn bounds(&mut self, counters: &BTreeMap<String, u64>) {
        let scenario = Rc::clone(&self.scenario);
        let value = |name: &str| counters.get(name).copied();
        for (metric, bound) in &scenario.slo {
            match value(metric) {
                Some(ns) if ns <= *bound => {}
                Some(ns) => {
                    let what = format!(
                        "{metric} is {} ms, the bound is {} ms",
                        ns / 1_000_000,
                        bound / 1_000_000
                    );
                    self.panel.fail(self.now, "slo", what);
                }
                None => self.panel.fail(self.now, "slo", format!("{metric} was never measured")),
            }
        }
        // What a liar would say cannot be written where packets cannot be read: then nobody refuses it.
        let mute = !H::clear() && scenario.adversaries.iter().any(adversary::lies);
        let asked = |counter: &str| !(mute && counter.starts_with("drop."));
        for (counter, bound) in scenario.at_least.iter().filter(|(counter, _)| asked(counter)) {
            let count = value(counter).unwrap_or(0);
            if count < *bound {
                self.panel.fail(
                    self.now,
                    "expect",
                    format!("{counter} is {count}, at least {bound} is expected"),
                );
            }
        }
        for (counter, bound) in &scenario.at_most {
            let count = value(counter).unwrap_or(0);
            if count > *bound {
                self.panel.fail(
                    self.now,
                    "expect",
                    format!("{counter} is {count}, at most {bound} is expected"),
                );
            }
        }
    }
}
