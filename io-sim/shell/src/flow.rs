//! What the streams of a scenario owe, and what came of them, over all sessions and processes; transfers of files beside them.
//!
//! As in the world only resumption is omniscient: the sender goes on after the last message that the reader has, as an
//! application protocol on top would arrange.
//! Invariants: a message counts only for the instance under way; what is delivered is checked against what was sent.
//! Not here: how messages travel (`app.rs`).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use net_io_sim::arm::{Direction, Sequence, StreamHistory, directions};
use net_io_sim::check::Expected;
use net_io_sim::histogram::Histogram;
use net_io_sim::payload;
use net_io_sim::scenario::{Happening, NodeIndex, StreamWorkload, WorkloadKind};
use net_io_sim::trigger::Happened;
use net_kernel::wire::Reliability;

use crate::bed::{Bed, Seen};
use crate::files::Files;

/// All flows of a run, shared.
#[derive(Clone)]
pub(crate) struct Flows {
    bed: Bed,
    inner: Arc<Mutex<Inner>>,
    /// Transfers of files.
    pub(crate) files: Files,
}

pub(crate) struct Inner {
    pub(crate) flows: Vec<Flow>,
    instances: Vec<usize>,
    /// Steps that workloads without streams have left.
    pub(crate) steps: Vec<u64>,
    pub(crate) handshake: Histogram,
    waiting: Vec<Waker>,
}

/// One stream of a workload.
pub(crate) struct Flow {
    pub(crate) workload: usize,
    pub(crate) spec: StreamWorkload,
    pub(crate) opener: NodeIndex,
    pub(crate) acceptor: NodeIndex,
    name: String,
    ways: Vec<Way>,
    /// The instance under way.
    instance: Option<usize>,
    pub(crate) complete: bool,
    pub(crate) broken: bool,
}

/// One direction of it.
struct Way {
    direction: Direction,
    sequence: Sequence,
    /// The first message of the instance under way.
    base: u64,
    /// Messages of the instance that are still to come, by what they hold; only where order is not kept.
    open: BTreeMap<[u8; 32], u64>,
    /// Everything was sent and the end announced.
    announced: bool,
    ended: bool,
}

/// A flow on one stream of one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Instance {
    pub(crate) number: usize,
    pub(crate) flow: usize,
}

impl Flows {
    pub(crate) fn new(bed: &Bed, seed: u64) -> Self {
        let scenario = &bed.scenario;
        let mut flows: Vec<Flow> = Vec::new();
        for direction in directions(scenario, seed) {
            let workload = &scenario.workloads[direction.workload];
            let WorkloadKind::Stream(spec) = &workload.kind else {
                continue;
            };
            let way = Way {
                sequence: Sequence::new(spec.reliability),
                base: 0,
                open: BTreeMap::new(),
                announced: false,
                ended: false,
                direction,
            };
            if way.direction.way == 0 {
                flows.push(Flow {
                    workload: way.direction.workload,
                    spec: spec.clone(),
                    opener: workload.from,
                    acceptor: workload.to,
                    name: way.direction.stream.clone(),
                    ways: vec![way],
                    instance: None,
                    complete: false,
                    broken: false,
                });
            } else if let Some(flow) = flows.last_mut() {
                flow.ways.push(way);
            }
        }
        let steps = scenario
            .workloads
            .iter()
            .map(|workload| steps(&workload.kind))
            .collect();
        let inner = Inner {
            flows,
            instances: Vec::new(),
            steps,
            handshake: Histogram::default(),
            waiting: Vec::new(),
        };
        Self {
            bed: bed.clone(),
            inner: Arc::new(Mutex::new(inner)),
            files: Files::new(bed),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks now and after every change, until `found` answers.
    pub(crate) async fn until<T>(&self, found: impl Fn(&Inner) -> Option<T>) -> T {
        poll_fn(|cx| {
            let mut inner = self.lock();
            match found(&inner) {
                Some(value) => Poll::Ready(value),
                None => {
                    inner.waiting.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Changes something and tells those who wait.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let value = change(&mut inner);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(Waker::wake);
        value
    }

    /// Begins a flow on a new stream, after what its readers have.
    pub(crate) fn begin(&self, flow: usize) -> Instance {
        self.change(|inner| {
            let number = inner.instances.len();
            inner.instances.push(flow);
            let state = &mut inner.flows[flow];
            state.instance = Some(number);
            for way in &mut state.ways {
                way.restart();
            }
            Instance { number, flow }
        })
    }

    /// The instance that a stream says it is, opened by `opener` to `acceptor`.
    pub(crate) fn known(&self, number: usize, opener: NodeIndex, acceptor: NodeIndex) -> Option<Instance> {
        let inner = self.lock();
        let flow = *inner.instances.get(number)?;
        let state = &inner.flows[flow];
        ((state.opener, state.acceptor) == (opener, acceptor)).then_some(Instance { number, flow })
    }

    /// What is sent one way and from which message on, unless the instance is over.
    pub(crate) fn to_send(&self, instance: Instance, way: usize) -> Option<(Expected, u64)> {
        let inner = self.lock();
        let flow = &inner.flows[instance.flow];
        let way = flow.ways.get(way)?;
        (flow.instance == Some(instance.number)).then_some((way.direction.expected, way.base))
    }

    /// The end of a direction was announced.
    pub(crate) fn announced(&self, instance: Instance, way: usize) {
        self.change(|inner| {
            let flow = &mut inner.flows[instance.flow];
            if flow.instance == Some(instance.number)
                && let Some(way) = flow.ways.get_mut(way)
            {
                way.announced = true;
            }
            flow.settle();
        });
    }

    /// A message was delivered. Answers whether the instance is still under way.
    pub(crate) fn delivered(&self, instance: Instance, way: usize, message: &[u8]) -> bool {
        let mut inner = self.lock();
        let flow = &mut inner.flows[instance.flow];
        if flow.instance != Some(instance.number) {
            return false;
        }
        let reader = if way == 0 { flow.acceptor } else { flow.opener };
        let workload = flow.workload as u32;
        let Some(state) = flow.ways.get_mut(way) else {
            return false;
        };
        let told = state.take(message);
        let number = state.sequence.messages();
        if let Err(what) = told {
            self.bed
                .fail("stream-order", format!("{}, way {way}: {what}", flow.name));
        }
        self.bed
            .see(Seen::Delivered, reader, &[instance.number as u64, number], message);
        self.bed.happened(&Happened {
            workload: Some(workload),
            ..Happened::at(Happening::Delivered, reader)
        });
        true
    }

    /// A reader was told of the end.
    pub(crate) fn finished(&self, instance: Instance, way: usize) {
        self.change(|inner| {
            let flow = &mut inner.flows[instance.flow];
            if flow.instance != Some(instance.number) {
                return;
            }
            let reader = if way == 0 { flow.acceptor } else { flow.opener };
            let name = flow.name.clone();
            if let Some(state) = flow.ways.get_mut(way) {
                let (had, owed) = (state.sequence.messages(), state.direction.expected.count);
                if had < owed && state.direction.expected.reliability != Reliability::FireAndForget {
                    let what = format!("{name}, way {way}: the end came after {had} of {owed} messages");
                    self.bed.fail("stream-order", what);
                }
                state.ended = true;
                self.bed.see(Seen::Finished, reader, &[instance.number as u64], &[]);
            }
            flow.settle();
        });
    }

    /// The stream of an instance could not be opened.
    pub(crate) fn retract(&self, instance: Instance) {
        self.change(|inner| inner.flows[instance.flow].instance = None);
    }

    /// A machine's process is gone, and with it the streams it opened.
    pub(crate) fn node_down(&self, node: NodeIndex) {
        self.files.node_down(node);
        self.change(|inner| {
            let gone = inner.flows.iter_mut();
            for flow in gone.filter(|flow| flow.opener == node && !flow.complete && flow.instance.is_some()) {
                flow.instance = None;
                flow.broken = !flow.spec.resume;
            }
        });
    }

    /// The session under an instance ended. Answers whether the flow is to go on with another.
    pub(crate) fn lost(&self, instance: Instance) -> bool {
        self.change(|inner| {
            let flow = &mut inner.flows[instance.flow];
            if flow.complete {
                return false;
            }
            flow.instance = None;
            flow.broken = !flow.spec.resume;
            flow.spec.resume
        })
    }

    /// What became of every direction.
    pub(crate) fn history(&self) -> Vec<StreamHistory> {
        let inner = self.lock();
        let ways = inner.flows.iter().flat_map(|flow| &flow.ways);
        ways.map(|way| way.direction.history(&self.bed.scenario, &way.sequence, way.ended))
            .collect()
    }

    /// Whether nothing is to be done any more.
    pub(crate) fn all_done(&self) -> bool {
        let inner = self.lock();
        let flows = inner.flows.iter().all(|flow| flow.complete || flow.broken);
        flows && inner.steps.iter().all(|left| *left == 0) && self.files.all_done()
    }

    /// Flows that must complete and did not, described.
    pub(crate) fn incomplete(&self) -> Vec<String> {
        let inner = self.lock();
        let owing = inner
            .flows
            .iter()
            .filter(|flow| flow.spec.must_complete && !flow.complete);
        let owing = owing.map(|flow| {
            let state = match flow.instance {
                _ if flow.broken => "its session ended and it does not resume",
                None => "it has no session",
                Some(_) if flow.ways[0].announced => "everything was sent",
                Some(_) => "it was still sending",
            };
            let had = flow.ways[0].sequence.messages();
            format!("{}: {had} of {} messages arrived; {state}", flow.name, flow.spec.count)
        });
        owing.chain(self.files.incomplete()).collect()
    }
}

impl Way {
    fn restart(&mut self) {
        self.base = self.sequence.messages();
        self.open.clear();
        (self.announced, self.ended) = (false, false);
        let expected = self.direction.expected;
        if expected.reliability == Reliability::Reliable {
            return;
        }
        for number in self.base..expected.count {
            *self.open.entry(hash(&message(&expected, number))).or_default() += 1;
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (expected, number) = (self.direction.expected, self.sequence.messages());
        self.sequence.push(bytes);
        if expected.reliability != Reliability::Reliable {
            return match self.open.get_mut(&hash(bytes)) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    Ok(())
                }
                Some(_) | None => Err(format!(
                    "a message of {} bytes came again or was never sent",
                    bytes.len()
                )),
            };
        }
        if self.ended {
            return Err(format!("message {number} came after the end"));
        }
        if number >= expected.count {
            return Err(format!("message {number} was never sent: there are {}", expected.count));
        }
        let owed = expected.len(number);
        if bytes.len() as u64 != owed || !payload::matches(expected.payload, number, 0, bytes) {
            return Err(format!(
                "message {number} is not what was sent: {} bytes, {owed} are owed",
                bytes.len()
            ));
        }
        Ok(())
    }

    fn done(&self) -> bool {
        if self.direction.expected.reliability == Reliability::FireAndForget {
            self.announced
        } else {
            self.ended && self.sequence.messages() >= self.direction.expected.count
        }
    }
}

impl Flow {
    fn settle(&mut self) {
        self.complete |= self.ways.iter().all(Way::done);
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Message `number` of a direction.
pub(crate) fn message(expected: &Expected, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; expected.len(number) as usize];
    payload::fill(expected.payload, number, 0, &mut bytes);
    bytes
}

const fn steps(kind: &WorkloadKind) -> u64 {
    match kind {
        WorkloadKind::Stream(_) | WorkloadKind::File(_) => 0,
        WorkloadKind::Echo { count, .. } | WorkloadKind::Rekey { count, .. } => *count,
        WorkloadKind::Connect | WorkloadKind::Close => 1,
    }
}
