//! The applications: they dial, open streams, send, read, and go on where they were when a session ends.
//!
//! An application knows what its node tells it; only resumption is omniscient (the sender goes on after the last message
//! that the reader has), as an application protocol on top would arrange.
//! Invariants: applications act through commands only; what they send follows from keys, so nothing is stored.
//! Not here: workloads without streams (`steps.rs`), what the network does.

use std::collections::{BTreeMap, VecDeque};

use net_kernel::api::{CloseReason, ConnectError, Event, Fact, Refused, StreamOptions};
use net_kernel::base::{CommandId, EntityId, StreamId};
use net_kernel::session::{Part, SessionKey};
use net_kernel::wire::subprotocol::FILES;
use net_kernel::wire::{MESSAGE_CHARGE, Reliability};
use net_sim_model::{Family, Key};

use super::event::What;
use super::files::Files;
pub use super::order::{Order, Orders, Purpose};
use crate::check::{Expected, Observation, Panel, wants};
use crate::histogram::Histogram;
use crate::history::Cursor;
use crate::payload;
use crate::scenario::{Scenario, StreamWorkload, WorkloadKind};

/// The sessions of one node with one peer.
#[derive(Debug, Default)]
pub struct Conn {
    /// Whether a dial is under way.
    pub dialling: bool,
    /// Live sessions, oldest first.
    pub sessions: Vec<SessionKey>,
    /// Dials so far.
    pub dials: u64,
}

/// One stream of a workload, over all its instances.
#[derive(Debug)]
pub struct Flow {
    /// Its workload.
    pub workload: u32,
    /// Key of its payload.
    pub payload: Key,
    /// Key of its messages' lengths.
    pub sizes: Key,
    /// Messages its readers have, forward and backward.
    pub delivered: [u64; 2],
    /// The instance under way.
    pub instance: Option<u32>,
    /// Whether it began.
    pub started: bool,
    /// Whether everything arrived.
    pub complete: bool,
    /// Whether its session ended and it does not resume.
    pub broken: bool,
}

/// A flow on one session.
#[derive(Debug)]
pub struct Instance {
    /// Which flow.
    pub flow: u32,
    /// Who opened it.
    pub opener: u32,
    /// Its peer.
    pub acceptor: u32,
    /// The opener's session.
    pub session: SessionKey,
}

/// One direction of an instance: number `instance * 2` is the opener's, the next the acceptor's.
#[derive(Debug)]
pub struct Half {
    /// Who sends.
    pub sender: u32,
    /// Who reads.
    pub reader: u32,
    /// The sender's session and stream.
    pub out: Option<(SessionKey, StreamId)>,
    /// The reader's session and stream.
    pub into: Option<(SessionKey, StreamId)>,
    /// What is sent.
    pub expected: Expected,
    /// The next message to send.
    pub next: u64,
    /// Messages offered to the node in the command under way.
    pub offered: u64,
    /// Whether the node refused for lack of credit and did not call back yet.
    pub blocked: bool,
    /// When the first message is due.
    pub begun: u64,
    /// Whether the end was announced.
    pub finishing: bool,
    /// Whether the end was acknowledged.
    pub flushed: bool,
    /// Whether a tick is scheduled.
    ticking: bool,
    /// When the messages under way were sent, from `sent_base` on.
    sent_at: VecDeque<u64>,
    sent_base: u64,
    /// Messages the reader has.
    pub delivered: u64,
    /// Whether the reader was told of the end.
    pub ended: bool,
    /// Whether one end gave it up and the other was told.
    abandoned: bool,
    /// Whether the reader asked the sender to stop.
    stopping: bool,
    /// Parts delivered and not yet read: bytes, and whether a message ends.
    unread: VecDeque<(u64, bool)>,
    unread_positions: u64,
    draining: bool,
}

/// Data that came before the event that announces its stream.
#[derive(Debug)]
pub struct Early {
    node: u32,
    session: SessionKey,
    stream: StreamId,
    number: u64,
    offset: u64,
    /// Whether a message ends.
    pub end: bool,
    /// A part of it.
    pub bytes: Vec<u8>,
}

/// All applications of a world.
#[derive(Debug)]
pub struct Apps {
    scenario: std::rc::Rc<Scenario>,
    key: Key,
    /// Nodes whose packets an adversary changes under their own keys: nothing they say can be held to a promise.
    untrusted: Vec<u32>,
    /// Who is who.
    pub entities: BTreeMap<EntityId, u32>,
    /// Sessions by node and peer.
    pub conns: BTreeMap<(u32, u32), Conn>,
    /// The peer of every live session, by node.
    pub sessions: Vec<BTreeMap<SessionKey, u32>>,
    /// Streams of workloads.
    pub flows: Vec<Flow>,
    /// Their instances; the stream's subprotocol tells the index (`payload::subprotocol`).
    pub instances: Vec<Instance>,
    /// Both directions of each.
    pub halves: Vec<Half>,
    readers: Vec<BTreeMap<(SessionKey, StreamId), u32>>,
    writers: Vec<BTreeMap<(SessionKey, StreamId), u32>>,
    last_reader: (u32, SessionKey, StreamId, u32),
    early: Vec<Early>,
    /// Commands to give, in order.
    pub orders: Orders,
    /// Things to schedule.
    pub later: Vec<(u64, What)>,
    /// Time from sending to delivery, over all, and by workload.
    pub delivery: Vec<Histogram>,
    /// Round trips measured by echoes.
    pub echo: Histogram,
    /// Times from dial to session.
    pub connect: Histogram,
    dialled_at: BTreeMap<(u32, u32), u64>,
    /// Transfers of files.
    pub files: Files,
    /// What happened, by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// Payload bytes delivered.
    pub bytes: u64,
    /// When something was last delivered.
    pub last_delivery: u64,
}

/// A reader reads this long after data came.
const READ_PAUSE: u64 = 1_000_000;
/// Pause before dialling again.
const REDIAL: u64 = 200_000_000;
/// Most messages in one command.
const BATCH: u64 = 256;
/// Most bytes of several messages in one command.
const BATCH_BYTES: u64 = 65_536;
/// A rate-limited reader reads this often.
const READ_TICK: u64 = 10_000_000;

impl Apps {
    /// The applications of a scenario under the key of a run; under `content` they make what they send.
    pub fn new(scenario: std::rc::Rc<Scenario>, run: Key, content: Key, cursor: Cursor) -> Self {
        let key = run.family(Family::Workload);
        let nodes = scenario.nodes.len();
        let mut flows = Vec::new();
        for (index, workload) in scenario.workloads.iter().enumerate() {
            let WorkloadKind::Stream(stream) = &workload.kind else {
                continue;
            };
            for n in 0..stream.streams {
                flows.push(Flow {
                    workload: index as u32,
                    payload: payload::stream_key(content, &workload.id, n),
                    sizes: payload::stream_key(run, &workload.id, n),
                    delivered: [0; 2],
                    instance: None,
                    started: false,
                    complete: false,
                    broken: false,
                });
            }
        }
        let untrusted = scenario
            .adversaries
            .iter()
            .filter_map(super::adversary::member)
            .collect();
        let delivery = vec![Histogram::default(); scenario.workloads.len() + 1];
        Self {
            key,
            untrusted,
            entities: BTreeMap::new(),
            conns: BTreeMap::new(),
            sessions: vec![BTreeMap::new(); nodes],
            flows,
            instances: Vec::new(),
            halves: Vec::new(),
            readers: vec![BTreeMap::new(); nodes],
            writers: vec![BTreeMap::new(); nodes],
            last_reader: (u32::MAX, SessionKey(0), StreamId(0), 0),
            early: Vec::new(),
            orders: Orders::new(cursor),
            later: Vec::new(),
            delivery,
            echo: Histogram::default(),
            connect: Histogram::default(),
            dialled_at: BTreeMap::new(),
            files: Files::new(&scenario, run),
            counters: BTreeMap::new(),
            bytes: 0,
            last_delivery: 0,
            scenario,
        }
    }

    /// A machine was added: a clone.
    pub fn add_node(&mut self) {
        self.sessions.push(BTreeMap::new());
        self.readers.push(BTreeMap::new());
        self.writers.push(BTreeMap::new());
    }

    /// Counts something.
    pub fn count(&mut self, name: &'static str) {
        *self.counters.entry(name).or_default() += 1;
    }

    /// What the workload of a flow asks for.
    pub fn stream(&self, flow: u32) -> &StreamWorkload {
        let workload = self.flows[flow as usize].workload as usize;
        match &self.scenario.workloads[workload].kind {
            WorkloadKind::Stream(stream) => stream,
            WorkloadKind::File(_)
            | WorkloadKind::Echo { .. }
            | WorkloadKind::Connect
            | WorkloadKind::Rekey { .. }
            | WorkloadKind::Close => {
                unreachable!("flows are made for stream workloads only")
            }
        }
    }

    /// A stream workload begins.
    pub fn start(&mut self, now: u64, workload: u32) {
        let spec = &self.scenario.workloads[workload as usize];
        let (from, to) = (spec.from, spec.to);
        for flow in self.flows.iter_mut().filter(|flow| flow.workload == workload) {
            flow.started = true;
        }
        self.files.start(workload);
        self.pursue(now, from, to);
    }

    /// Whether some application of `node` wants a session with `peer`.
    fn wants(&self, node: u32, peer: u32) -> bool {
        let flows = self.flows.iter().any(|flow| {
            let workload = &self.scenario.workloads[flow.workload as usize];
            flow.started && !flow.complete && !flow.broken && (workload.from, workload.to) == (node, peer)
        });
        flows || self.files.wants(node, peer)
    }

    /// Dials where no session is up, and opens what is to be opened where one is.
    pub fn pursue(&mut self, now: u64, node: u32, peer: u32) {
        let Some(session) = self.session(now, node, peer) else {
            return;
        };
        for flow in 0..self.flows.len() as u32 {
            let state = &self.flows[flow as usize];
            let workload = &self.scenario.workloads[state.workload as usize];
            let idle = state.started && !state.complete && !state.broken && state.instance.is_none();
            if idle && (workload.from, workload.to) == (node, peer) {
                self.open(flow, session);
            }
        }
        self.open_files(now, node, peer, session);
    }

    /// The session of `node` with `peer`; dials where there is none.
    pub fn session(&mut self, now: u64, node: u32, peer: u32) -> Option<SessionKey> {
        let conn = self.conns.entry((node, peer)).or_default();
        if let Some(session) = conn.sessions.last() {
            return Some(*session);
        }
        if !conn.dialling {
            conn.dialling = true;
            conn.dials += 1;
            self.dialled_at.entry((node, peer)).or_insert(now);
            self.orders
                .push_back((node, Purpose::Dial(peer), Order::Connect { peer }));
        }
        None
    }

    fn open(&mut self, flow: u32, session: SessionKey) {
        let Some(subprotocol) = payload::subprotocol(self.instances.len()) else {
            return self.count("out_of_streams");
        };
        let stream = self.stream(flow).clone();
        let state = &self.flows[flow as usize];
        let workload = &self.scenario.workloads[state.workload as usize];
        let (opener, acceptor) = (workload.from, workload.to);
        let (payload, sizes, delivered) = (state.payload, state.sizes, state.delivered);
        let index = self.instances.len() as u32;
        self.instances.push(Instance {
            flow,
            opener,
            acceptor,
            session,
        });
        for (direction, base) in delivered.into_iter().enumerate() {
            let silent = direction == 1 && !stream.both;
            let expected = Expected {
                payload: payload.with(direction as u64),
                sizes: sizes.with(direction as u64),
                base,
                count: if silent { 0 } else { stream.count.saturating_sub(base) },
                size: stream.size,
                reliability: stream.reliability,
            };
            let (sender, reader) = if direction == 0 {
                (opener, acceptor)
            } else {
                (acceptor, opener)
            };
            self.halves.push(Half::new(sender, reader, expected));
        }
        self.flows[flow as usize].instance = Some(index);
        let options = StreamOptions {
            reliability: stream.reliability,
            priority: stream.priority,
            weight: stream.weight,
            subprotocol,
        };
        self.orders
            .push_back((opener, Purpose::Open(index), Order::Open { session, options }));
    }

    /// The workload a direction of a stream belongs to.
    pub fn workload(&self, half: u32) -> u32 {
        self.flows[self.instances[half as usize / 2].flow as usize].workload
    }

    /// A node tells its application something.
    pub fn event(&mut self, now: u64, node: u32, event: &Event, panel: &mut Panel) {
        match event {
            Event::Connected {
                session, peer, command, ..
            } => {
                self.connected(now, node, *session, peer, *command, panel);
            }
            Event::ConnectFailed { command, why, .. } => self.connect_failed(now, node, *command, *why),
            Event::Closed { session, why, .. } => {
                self.count(closed_name(why));
                self.closed(now, node, *session);
            }
            Event::Opened {
                command,
                session,
                stream,
                ..
            } => {
                self.opened(now, node, *command, *session, *stream, panel);
            }
            Event::StreamOpened {
                session,
                stream,
                subprotocol,
                ..
            } => {
                self.accepted(now, node, *session, *stream, *subprotocol, panel);
            }
            Event::Writable { session, stream, .. } => self.writable(now, node, *session, *stream),
            Event::Finished { session, stream } => self.finished(now, node, *session, *stream, panel),
            Event::Flushed { session, stream } => {
                self.count("flushed");
                if let Some(&half) = self.writers[node as usize].get(&(*session, *stream)) {
                    self.halves[half as usize].flushed = true;
                    self.complete(half);
                }
            }
            Event::StreamReset { session, stream, .. } => {
                self.count("stream_reset");
                let half = self.readers[node as usize].get(&(*session, *stream)).copied();
                self.abandoned(half);
            }
            Event::StreamStopped { session, stream, .. } => {
                self.count("stream_stopped");
                let half = self.writers[node as usize].get(&(*session, *stream)).copied();
                self.abandoned(half);
            }
            Event::Echo { rtt, .. } => {
                self.count("echo");
                self.echo.record(rtt.as_nanos());
            }
            Event::Rekeyed { .. } => self.count("rekeyed"),
            Event::Moved { .. } => {
                self.count("moved");
            }
            Event::StateRolledBack { .. } => self.count("rolled_back"),
            Event::Refused { command, why } => self.refused(now, node, *command, *why, panel),
            Event::Mesh(fact) => self.count(mesh_name(fact)),
            Event::StoreFailed { .. } => self.count("store_failed"),
        }
    }

    /// An end of a direction was told that the other gave it up.
    fn abandoned(&mut self, half: Option<u32>) {
        if let Some(half) = half {
            let state = &mut self.halves[half as usize];
            (state.abandoned, state.finishing) = (true, true);
            self.complete(half);
        }
    }

    fn writable(&mut self, now: u64, node: u32, session: SessionKey, stream: StreamId) {
        if let Some(&half) = self.writers[node as usize].get(&(session, stream)) {
            self.halves[half as usize].blocked = false;
            self.tick(now, half);
        } else if let Some(end) = self.files.end_of(node, session, stream) {
            self.files_writable(now, end);
        }
    }

    fn connected(
        &mut self,
        now: u64,
        node: u32,
        session: SessionKey,
        peer: &EntityId,
        command: Option<CommandId>,
        panel: &mut Panel,
    ) {
        self.count("connected");
        let Some(&peer) = self.entities.get(peer) else {
            panel.fail(
                now,
                "identity",
                format!("node {node} has a session with an identity that nobody holds"),
            );
            return;
        };
        self.sessions[node as usize].insert(session, peer);
        let conn = self.conns.entry((node, peer)).or_default();
        conn.sessions.push(session);
        if command.is_some() {
            conn.dialling = false;
        }
        if let Some(dialled) = self.dialled_at.remove(&(node, peer)) {
            self.connect.record(now - dialled);
        }
        self.pursue(now, node, peer);
    }

    fn connect_failed(&mut self, now: u64, node: u32, command: CommandId, why: ConnectError) {
        self.count(match why {
            ConnectError::Silent { .. } => "connect_failed.silent",
            ConnectError::PeerRolledBack => "connect_failed.peer_rolled_back",
            ConnectError::Cancelled => "connect_failed.cancelled",
        });
        let Purpose::Dial(peer) = Purpose::of(command) else {
            return;
        };
        self.conns.entry((node, peer)).or_default().dialling = false;
        if self.wants(node, peer) {
            self.redial(now, node, peer);
        }
    }

    pub(super) fn redial(&mut self, now: u64, node: u32, peer: u32) {
        let dials = self.conns.entry((node, peer)).or_default().dials;
        let jitter = self
            .key
            .with(u64::from(self.scenario.number(node)) << 32 | u64::from(self.scenario.number(peer)))
            .below(dials, REDIAL);
        self.later.push((now + REDIAL / 2 + jitter, What::Dial { node, peer }));
    }

    fn closed(&mut self, now: u64, node: u32, session: SessionKey) {
        let Some(peer) = self.sessions[node as usize].remove(&session) else {
            return;
        };
        if let Some(conn) = self.conns.get_mut(&(node, peer)) {
            conn.sessions.retain(|live| *live != session);
        }
        self.lose(node, Some(session));
        self.lose_flows(now, node);
        if self.wants(node, peer) {
            self.redial(now, node, peer);
        }
    }

    /// Streams of one session, or of all, are gone at `node`.
    fn lose(&mut self, node: u32, session: Option<SessionKey>) {
        let gone = |key: &(SessionKey, StreamId)| session.is_none_or(|session| key.0 == session);
        self.readers[node as usize].retain(|key, _| !gone(key));
        self.files.lose(node, session);
        self.writers[node as usize].retain(|key, half| {
            if gone(key) {
                self.halves[*half as usize].out = None;
            }
            !gone(key)
        });
        self.last_reader.0 = u32::MAX;
    }

    /// Flows whose opener lost their stream begin anew, or are broken.
    fn lose_flows(&mut self, now: u64, node: u32) {
        for flow in 0..self.flows.len() as u32 {
            let Some(instance) = self.flows[flow as usize].instance else {
                continue;
            };
            let (opener, acceptor) = {
                let instance = &self.instances[instance as usize];
                (instance.opener, instance.acceptor)
            };
            let open = &self.halves[instance as usize * 2];
            if opener != node || open.out.is_some() || self.flows[flow as usize].complete {
                continue;
            }
            let alive = self.sessions[node as usize].contains_key(&self.instances[instance as usize].session);
            if alive {
                continue;
            }
            let resume = self.stream(flow).resume;
            let state = &mut self.flows[flow as usize];
            for direction in 0..2 {
                state.delivered[direction] += self.halves[instance as usize * 2 + direction].delivered;
            }
            state.instance = None;
            state.broken = !resume;
            self.count(if resume { "resumed" } else { "broken" });
            if resume {
                self.redial(now, node, acceptor);
            }
        }
    }

    /// A process is gone: its sessions are gone without a word.
    pub fn node_down(&mut self, now: u64, node: u32) {
        self.sessions[node as usize].clear();
        for ((owner, _), conn) in &mut self.conns {
            if *owner == node {
                *conn = Conn {
                    dials: conn.dials,
                    ..Conn::default()
                };
            }
        }
        self.dialled_at.retain(|(owner, _), _| *owner != node);
        self.orders.forget(node);
        self.lose(node, None);
        self.lose_flows(now, node);
    }

    /// A process was started: its applications take up what they were doing.
    pub fn node_up(&mut self, now: u64, node: u32) {
        // What applications wished for while there was no process was not asked of anybody.
        for ((owner, _), conn) in &mut self.conns {
            conn.dialling &= *owner != node;
        }
        let peers: Vec<u32> = self
            .scenario
            .workloads
            .iter()
            .filter(|w| w.from == node)
            .map(|w| w.to)
            .collect();
        for peer in peers {
            if self.wants(node, peer) {
                self.pursue(now, node, peer);
            }
        }
    }

    fn opened(
        &mut self,
        now: u64,
        node: u32,
        command: CommandId,
        session: SessionKey,
        stream: StreamId,
        panel: &mut Panel,
    ) {
        let instance = match Purpose::of(command) {
            Purpose::Open(instance) => instance,
            Purpose::File(end) => return self.files_opened(now, end, session, stream),
            Purpose::Dial(_) | Purpose::Send(_) | Purpose::Step(_) | Purpose::Plain => return,
        };
        let forward = instance * 2;
        self.begin_writing(now, forward, session, stream);
        self.begin_reading(now, forward + 1, node, session, stream, panel);
    }

    fn accepted(
        &mut self,
        now: u64,
        node: u32,
        session: SessionKey,
        stream: StreamId,
        subprotocol: u16,
        panel: &mut Panel,
    ) {
        self.count("stream_opened");
        if subprotocol == FILES && self.files.any() {
            return self.accept_files(now, node, session, stream);
        }
        let instance = payload::stream_number(subprotocol).map_or(u32::MAX, u32::from);
        let known = self.instances.get(instance as usize);
        if known.is_none_or(|known| self.untrusted.contains(&known.opener)) && !self.untrusted.is_empty() {
            return;
        }
        let Some(known) = known else {
            panel.fail(
                now,
                "stream-order",
                format!("node {node} was told of a stream that nobody opened"),
            );
            return;
        };
        if known.acceptor != node {
            let peer = self.sessions[node as usize].get(&session);
            if peer.is_some_and(|peer| self.untrusted.contains(peer)) {
                return;
            }
            panel.fail(
                now,
                "stream-order",
                format!("node {node} was told of a stream to node {}", known.acceptor),
            );
            return;
        }
        self.begin_reading(now, instance * 2, node, session, stream, panel);
        self.begin_writing(now, instance * 2 + 1, session, stream);
    }

    fn begin_writing(&mut self, now: u64, half: u32, session: SessionKey, stream: StreamId) {
        let state = &mut self.halves[half as usize];
        state.out = Some((session, stream));
        state.begun = now;
        self.writers[state.sender as usize].insert((session, stream), half);
        self.tick(now, half);
    }

    fn begin_reading(
        &mut self,
        now: u64,
        half: u32,
        node: u32,
        session: SessionKey,
        stream: StreamId,
        panel: &mut Panel,
    ) {
        let state = &mut self.halves[half as usize];
        if self.untrusted.contains(&state.sender) || self.untrusted.contains(&state.reader) {
            return;
        }
        state.into = Some((session, stream));
        let expected = state.expected;
        self.readers[node as usize].insert((session, stream), half);
        panel.observe(now, wants::STREAM, &Observation::Reading { half, expected });
        for early in self.take_early(node, session, stream) {
            self.read(now, half, early.number, early.offset, early.end, &early.bytes, panel);
        }
    }

    /// What came of a stream before its reader was told of it.
    pub(super) fn take_early(&mut self, node: u32, session: SessionKey, stream: StreamId) -> Vec<Early> {
        let (mine, others) = std::mem::take(&mut self.early)
            .into_iter()
            .partition(|early| (early.node, early.session, early.stream) == (node, session, stream));
        self.early = others;
        mine
    }

    /// Sends what is due and schedules the rest.
    pub fn tick(&mut self, now: u64, half: u32) {
        let flow = self.instances[half as usize / 2].flow;
        let stream = self.stream(flow);
        let (rate_milli, reset) = (stream.rate_milli, stream.reset_after);
        let state = &mut self.halves[half as usize];
        if state.out.is_none() || state.finishing || state.blocked || state.offered > 0 {
            return;
        }
        let left = reset.map_or(u64::MAX, |reset| reset.saturating_sub(state.expected.base));
        let last = state.expected.count.min(left);
        let due = state.due(now, rate_milli).min(last);
        if state.next < due {
            let (mut count, mut bytes) = (1, state.expected.len(state.next));
            while state.next + count < due && count < BATCH {
                let len = state.expected.len(state.next + count);
                if bytes + len > BATCH_BYTES {
                    break;
                }
                (count, bytes) = (count + 1, bytes + len);
            }
            state.offered = count;
            let sender = state.sender;
            self.orders
                .push_back((sender, Purpose::Send(half), Order::Send { half }));
        } else if state.next == last {
            state.finishing = true;
            let sender = state.sender;
            let order = if reset.is_some() && !state.expected.is_empty() {
                Order::Reset { half }
            } else {
                Order::Finish { half }
            };
            self.orders.push_back((sender, Purpose::Plain, order));
            self.complete(half);
        } else if !state.ticking {
            state.ticking = true;
            let at = state.due_at(state.next, rate_milli).max(now + 1);
            self.later.push((at, What::Tick { half }));
        }
    }

    /// What was offered to the node was taken, unless a refusal came between.
    pub fn taken(&mut self, now: u64, half: u32) {
        let flow = self.instances[half as usize / 2].flow;
        let rate_milli = self.stream(flow).rate_milli;
        let state = &mut self.halves[half as usize];
        let count = std::mem::take(&mut state.offered);
        if count > 0 {
            state.note_sent(now, count, rate_milli);
            state.next += count;
            self.tick(now, half);
        }
    }

    /// The scheduled tick of a direction came.
    pub fn ticked(&mut self, now: u64, half: u32) {
        self.halves[half as usize].ticking = false;
        self.tick(now, half);
    }

    fn refused(&mut self, now: u64, node: u32, command: CommandId, why: Refused, panel: &mut Panel) {
        self.count("refused");
        match Purpose::of(command) {
            Purpose::Send(half) => {
                let state = &mut self.halves[half as usize];
                state.offered = 0;
                // Refused for credit, or because the stream ended just now: either way it says when to go on.
                state.blocked = true;
                match why {
                    Refused::Backpressure => self.count("backpressure"),
                    Refused::NoSession | Refused::NoStream | Refused::Finished | Refused::ShutDown => {}
                    Refused::MessageTooLarge { .. }
                    | Refused::TableFull
                    | Refused::StreamLimit
                    | Refused::OwnIdentity
                    | Refused::BadIdentity
                    | Refused::BadAddresses
                    | Refused::BadArgument
                    | Refused::NotAllowed
                    | Refused::ReservedSubprotocol
                    | Refused::NoMesh
                    | Refused::NoRoute => {
                        panel.fail(now, "refused", format!("node {node}, stream {half}: {why:?}"));
                    }
                }
            }
            Purpose::Dial(peer) => {
                self.conns.entry((node, peer)).or_default().dialling = false;
                if self.wants(node, peer) {
                    self.redial(now, node, peer);
                }
            }
            Purpose::Open(instance) => {
                let flow = self.instances[instance as usize].flow;
                self.flows[flow as usize].instance = None;
                let peer = self.instances[instance as usize].acceptor;
                self.redial(now, node, peer);
            }
            Purpose::File(end) => self.files_refused(now, end, why, panel),
            Purpose::Step(_) | Purpose::Plain => {}
        }
    }

    /// Application data reaches a node.
    pub fn deliver(&mut self, now: u64, node: u32, part: &Part<'_>, panel: &mut Panel) {
        let peer = self.entities.get(&part.peer).copied();
        if !self.untrusted.is_empty()
            && (self.untrusted.contains(&node) || peer.is_none_or(|peer| self.untrusted.contains(&peer)))
        {
            self.count("untrusted_parts");
            let (bytes, messages) = (part.bytes.len() as u64, u64::from(part.end));
            let order = Order::Swallowed {
                session: part.session,
                stream: part.stream,
                bytes,
                messages,
            };
            self.orders.push_back((node, Purpose::Plain, order));
            return;
        }
        let key = (part.session, part.stream);
        let last = self.last_reader;
        let half = if (last.0, last.1, last.2) == (node, part.session, part.stream) {
            last.3
        } else if let Some(&half) = self.readers[node as usize].get(&key) {
            self.last_reader = (node, part.session, part.stream, half);
            half
        } else if let Some(end) = self.files.end_of(node, part.session, part.stream) {
            return self.file_part(now, end, part.end, part.bytes);
        } else {
            self.early.push(Early {
                node,
                session: part.session,
                stream: part.stream,
                number: part.number,
                offset: part.offset,
                end: part.end,
                bytes: part.bytes.to_vec(),
            });
            return;
        };
        if peer != Some(self.halves[half as usize].sender) {
            panel.fail(
                now,
                "identity",
                format!("node {node} was given data of {} as another's", part.peer),
            );
        }
        self.read(now, half, part.number, part.offset, part.end, part.bytes, panel);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one part")]
    fn read(&mut self, now: u64, half: u32, number: u64, offset: u64, end: bool, bytes: &[u8], panel: &mut Panel) {
        panel.observe(
            now,
            wants::STREAM,
            &Observation::Delivered {
                half,
                number,
                offset,
                end,
                bytes,
            },
        );
        self.bytes += bytes.len() as u64;
        self.last_delivery = now;
        let flow = self.instances[half as usize / 2].flow;
        let workload = self.flows[flow as usize].workload as usize;
        let window = self.scenario.config.stream_window;
        let stop = self.stream(flow).stop_after;
        let state = &mut self.halves[half as usize];
        if end {
            state.delivered += 1;
            if let Some(sent) = state.sent(number) {
                let latency = now.saturating_sub(sent);
                self.delivery[0].record(latency);
                self.delivery[workload + 1].record(latency);
            }
        }
        if !state.stopping && stop.is_some_and(|stop| state.expected.base + state.delivered >= stop) {
            state.stopping = true;
            let reader = state.reader;
            self.orders.push_back((reader, Purpose::Plain, Order::Stop { half }));
        }
        state.unread.push_back((bytes.len() as u64, end));
        state.unread_positions += bytes.len() as u64 + if end { MESSAGE_CHARGE } else { 0 };
        let positions = state.unread_positions;
        if !state.draining {
            state.draining = true;
            self.later.push((now + READ_PAUSE, What::Drain { half }));
        }
        panel.observe(
            now,
            wants::STREAM,
            &Observation::Unread {
                half,
                positions,
                window,
            },
        );
    }

    /// A reader reads.
    pub fn drain(&mut self, now: u64, half: u32) {
        let flow = self.instances[half as usize / 2].flow;
        let stream = self.stream(flow);
        let (rate, stop) = (stream.drain, stream.stop_reading);
        let state = &mut self.halves[half as usize];
        state.draining = false;
        if let Some((_, until)) = stop.filter(|(from, until)| (*from..*until).contains(&now)) {
            state.draining = true;
            if until < u64::MAX / 2 {
                self.later.push((until, What::Drain { half }));
            }
            return;
        }
        let budget = if rate == 0 {
            u64::MAX
        } else {
            (rate as u128 * READ_TICK as u128 / 1_000_000_000) as u64
        };
        let (mut bytes, mut messages) = (0, 0);
        while let Some((len, end)) = state.unread.front().copied() {
            if bytes > 0 && bytes + len > budget {
                break;
            }
            state.unread.pop_front();
            bytes += len;
            messages += u64::from(end);
        }
        state.unread_positions -= bytes + messages * MESSAGE_CHARGE;
        if !state.unread.is_empty() {
            state.draining = true;
            self.later.push((now + READ_TICK, What::Drain { half }));
        }
        if bytes + messages > 0 && state.into.is_some() {
            self.orders
                .push_back((state.reader, Purpose::Plain, Order::Consumed { half, bytes, messages }));
        }
    }

    fn finished(&mut self, now: u64, node: u32, session: SessionKey, stream: StreamId, panel: &mut Panel) {
        self.count("finished");
        let Some(&half) = self.readers[node as usize].get(&(session, stream)) else {
            return;
        };
        panel.observe(now, wants::STREAM, &Observation::Finished { half });
        self.halves[half as usize].ended = true;
        self.complete(half);
    }

    /// Marks the flow of a direction complete where everything it owes has arrived.
    fn complete(&mut self, half: u32) {
        let instance = half / 2;
        let flow = self.instances[instance as usize].flow;
        let both = self.stream(flow).both;
        let lossy = self.stream(flow).reliability == Reliability::FireAndForget;
        let done = |half: &Half| {
            if lossy {
                half.finishing
            } else if half.abandoned || half.stopping {
                // Who finished before the word came is told nothing.
                half.abandoned || half.flushed
            } else {
                half.ended && half.delivered == half.expected.count
            }
        };
        let forward = &self.halves[instance as usize * 2];
        let backward = &self.halves[instance as usize * 2 + 1];
        if done(forward) && (!both || done(backward)) && !self.flows[flow as usize].complete {
            self.flows[flow as usize].complete = true;
            self.count("flows_complete");
        }
    }

    /// Messages that arrived, of one workload or of all, at one machine or at all.
    pub fn arrived(&self, workload: Option<u32>, node: Option<u32>) -> u64 {
        let mut sum = self.files.arrived(workload, node);
        for flow in &self.flows {
            if workload.is_some_and(|workload| workload != flow.workload) {
                continue;
            }
            let spec = &self.scenario.workloads[flow.workload as usize];
            for (direction, reader) in [spec.to, spec.from].into_iter().enumerate() {
                if node.is_none_or(|node| node == reader) {
                    let half = flow.instance.map(|instance| instance as usize * 2 + direction);
                    sum += flow.delivered[direction] + half.map_or(0, |half| self.halves[half].delivered);
                }
            }
        }
        sum
    }

    /// Whether every flow is complete, or will never be.
    pub fn all_done(&self) -> bool {
        self.flows.iter().all(|flow| flow.complete || flow.broken) && self.files.all_done()
    }
}

/// The name under which a fact is counted.
#[must_use]
pub const fn mesh_name(fact: &Fact) -> &'static str {
    match fact {
        Fact::Found { .. } => "mesh.found",
        Fact::Lost(_) => "mesh.lost",
        Fact::Suspected(_) => "mesh.suspected",
        Fact::Refuted(_) => "mesh.refuted",
        Fact::Failed(_) => "mesh.failed",
        Fact::LinkLost(_) => "mesh.link_lost",
        Fact::Recovered(_) => "mesh.recovered",
        Fact::Outage(_) => "mesh.outage",
        Fact::OutageOver(_) => "mesh.outage_over",
        Fact::Collision(_) => "mesh.collision",
    }
}

fn closed_name(why: &CloseReason) -> &'static str {
    match why {
        CloseReason::Local(_) => "closed.local",
        CloseReason::Remote { .. } => "closed.remote",
        CloseReason::TimedOut => "closed.timed_out",
        CloseReason::PeerRestarted => "closed.peer_restarted",
    }
}

impl Half {
    fn new(sender: u32, reader: u32, expected: Expected) -> Self {
        Self {
            sender,
            reader,
            out: None,
            into: None,
            expected,
            next: 0,
            offered: 0,
            blocked: false,
            begun: 0,
            finishing: false,
            flushed: false,
            ticking: false,
            sent_at: VecDeque::new(),
            sent_base: 0,
            delivered: 0,
            ended: false,
            abandoned: false,
            stopping: false,
            unread: VecDeque::new(),
            unread_positions: 0,
            draining: false,
        }
    }

    /// How many messages are due by now.
    fn due(&self, now: u64, rate_milli: u64) -> u64 {
        if rate_milli == 0 {
            return u64::MAX;
        }
        let passed = u128::from(now.saturating_sub(self.begun));
        u64::try_from(passed * u128::from(rate_milli) / 1_000_000_000_000)
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// When message `number` is due.
    fn due_at(&self, number: u64, rate_milli: u64) -> u64 {
        let after = (u128::from(number) * 1_000_000_000_000).div_ceil(u128::from(rate_milli.max(1)));
        self.begun.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    fn note_sent(&mut self, now: u64, count: u64, rate_milli: u64) {
        for number in self.next..self.next + count {
            let at = if rate_milli == 0 {
                now
            } else {
                self.due_at(number, rate_milli).min(now)
            };
            self.sent_at.push_back(at);
        }
        // What is never delivered (unreliable streams) must not pile up.
        while self.sent_at.len() > MAX_REMEMBERED {
            self.sent_at.pop_front();
            self.sent_base += 1;
        }
    }

    fn sent(&mut self, number: u64) -> Option<u64> {
        let index = number.checked_sub(self.sent_base)?;
        let at = self.sent_at.get(index as usize).copied()?;
        if self.expected.reliability == Reliability::Reliable {
            self.sent_at.drain(..=index as usize);
            self.sent_base = number + 1;
        }
        Some(at)
    }
}

const MAX_REMEMBERED: usize = 1 << 20;
