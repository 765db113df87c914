//! What applications were told, over all processes, sessions and instances of a stream.
//!
//! A run stands for what an application would keep on its disk: how far every reader is. A stream that is resumed goes on
//! after the last message that its reader told of, so that over all its instances every message comes once.
//! Invariants: a reader's count changes only by what its process told; an instance is named to its opener only after its
//! acceptor has said that it reads no more of the one before.
//! Not here: processes (`run.rs`), what is in a message (`streams.rs`).

use net_io_real::Reliability;
use net_io_sim::arm::{Sequence, StreamHistory};
use net_io_sim::payload;
use net_io_sim::scenario::{NodeIndex, Scenario};

use crate::protocol::{Flow, Order, hex};
use crate::streams;

/// A stream of the scenario.
#[derive(Debug)]
struct State {
    flow: Flow,
    started: bool,
    /// Its opener has a session and waits to be told of an instance.
    wanted: bool,
    /// The acceptor was asked to read no more of the last instance.
    freezing: bool,
    instance: Option<u16>,
    delivered: [u64; 2],
    finished: [bool; 2],
    flushed: [bool; 2],
    sequences: Vec<Sequence>,
    complete: bool,
    broken: bool,
}

#[derive(Clone, Copy, Debug)]
struct Instance {
    flow: usize,
    base: [u64; 2],
}

/// All streams of a run.
#[derive(Debug)]
pub struct Apps {
    flows: Vec<State>,
    instances: Vec<Instance>,
    /// Streams that went on in another instance.
    pub resumed: u64,
}

impl Apps {
    /// The streams of a scenario.
    #[must_use]
    pub fn new(flows: Vec<Flow>) -> Self {
        let state = |flow: Flow| State {
            sequences: flow
                .ways
                .iter()
                .map(|way| Sequence::new(way.expected.reliability))
                .collect(),
            flow,
            started: false,
            wanted: false,
            freezing: false,
            instance: None,
            delivered: [0; 2],
            finished: [false; 2],
            flushed: [false; 2],
            complete: false,
            broken: false,
        };
        Self {
            flows: flows.into_iter().map(state).collect(),
            instances: Vec::new(),
            resumed: 0,
        }
    }

    /// A workload begins.
    pub fn start(&mut self, workload: usize) {
        let mine = self.flows.iter_mut().filter(|state| state.flow.workload == workload);
        mine.for_each(|state| state.started = true);
    }

    /// Whether some stream of a workload still has to be pursued.
    #[must_use]
    pub fn pursues(&self, workload: usize) -> bool {
        let mine = self.flows.iter().filter(|state| state.flow.workload == workload);
        mine.clone().any(|state| !state.complete && !state.broken)
    }

    /// An opener has a session; answers what is to be ordered.
    pub fn want(&mut self, flow: usize, now: u64) -> Vec<(NodeIndex, Order)> {
        if let Some(state) = self.flows.get_mut(flow) {
            state.wanted = true;
        }
        self.name(flow, now)
    }

    /// Names the next instance of a stream to both ends, where one is wanted and the last one is over.
    fn name(&mut self, flow: usize, now: u64) -> Vec<(NodeIndex, Order)> {
        let instance = self.instances.len();
        let Some(state) = self.flows.get_mut(flow) else {
            return Vec::new();
        };
        let over = state.complete || state.broken;
        if !state.wanted
            || state.freezing
            || state.instance.is_some()
            || over
            || payload::subprotocol(instance).is_none()
        {
            return Vec::new();
        }
        state.wanted = false;
        state.finished = [false; 2];
        state.instance = Some(instance as u16);
        let base = state.delivered;
        self.instances.push(Instance { flow, base });
        let order = Order::Instance {
            instance: instance as u16,
            flow,
            base,
            now,
        };
        // The acceptor first: it may hear of the stream before its opener's order is read.
        [state.flow.to, state.flow.from]
            .map(|node| (node, order.clone()))
            .into()
    }

    /// Live instances that a machine accepts: told again to its next process.
    #[must_use]
    pub fn accepted_by(&self, node: NodeIndex, now: u64) -> Vec<Order> {
        let live = self.flows.iter().enumerate().filter_map(|(flow, state)| {
            let instance = state.instance.filter(|_| state.flow.to == node && !state.complete)?;
            let base = self.instances[usize::from(instance)].base;
            Some(Order::Instance {
                instance,
                flow,
                base,
                now,
            })
        });
        live.collect()
    }

    /// A message was delivered.
    ///
    /// # Errors
    /// What it breaks.
    pub fn delivered(&mut self, instance: u16, way: usize, number: u64, hash: &str) -> Result<(), String> {
        let Some(&Instance { flow, base }) = self.instances.get(usize::from(instance)) else {
            return Err(format!("a message on stream {instance}, which nobody opened"));
        };
        let state = &mut self.flows[flow];
        let Some(direction) = state.flow.ways.get(way) else {
            return Err(format!(
                "{}: a message on a silent direction",
                state.flow.ways[0].stream
            ));
        };
        let (name, expected) = (&direction.stream, &direction.expected);
        let number = base[way] + number;
        if expected.reliability == Reliability::Reliable && number != state.delivered[way] {
            return Err(format!(
                "{name}, way {way}: message {number} came, message {} is next",
                state.delivered[way]
            ));
        }
        if number >= expected.count {
            return Err(format!("{name}, way {way}: message {number} was never sent"));
        }
        let message = streams::message(expected, number);
        if hex(blake3::hash(&message).as_bytes()) != hash {
            return Err(format!(
                "{name}, way {way}: message {number} differs from what was sent"
            ));
        }
        state.sequences[way].push(&message);
        state.delivered[way] += 1;
        Ok(())
    }

    /// A reader was told of the end.
    pub fn finished(&mut self, instance: u16, way: usize) {
        self.mark(instance, |state| state.finished[way & 1] = true);
    }

    /// A sender's peer has everything.
    pub fn flushed(&mut self, instance: u16, way: usize) {
        self.mark(instance, |state| state.flushed[way & 1] = true);
    }

    fn mark(&mut self, instance: u16, mark: impl FnOnce(&mut State)) {
        let Some(known) = self.instances.get(usize::from(instance)) else {
            return;
        };
        let state = &mut self.flows[known.flow];
        mark(state);
        let done = state.flow.ways.iter().enumerate().all(|(way, direction)| {
            if direction.expected.reliability == Reliability::FireAndForget {
                state.flushed[way]
            } else {
                state.finished[way] && state.delivered[way] == direction.expected.count
            }
        });
        state.complete |= done;
    }

    /// An opener cannot go on with an instance; answers what is to be ordered. `reachable` says whose process runs.
    pub fn lost(&mut self, instance: u16, reachable: impl Fn(NodeIndex) -> bool) -> Vec<(NodeIndex, Order)> {
        let Some(known) = self.instances.get(usize::from(instance)) else {
            return Vec::new();
        };
        let state = &mut self.flows[known.flow];
        if state.instance != Some(instance) || state.complete {
            return Vec::new();
        }
        state.instance = None;
        state.broken = !state.flow.stream.resume;
        if state.broken {
            return Vec::new();
        }
        self.resumed += 1;
        state.freezing = reachable(state.flow.to);
        if state.freezing {
            vec![(state.flow.to, Order::Freeze { instance })]
        } else {
            Vec::new()
        }
    }

    /// An acceptor reads no more of an instance; answers what is to be ordered.
    pub fn frozen(&mut self, instance: u16, now: u64) -> Vec<(NodeIndex, Order)> {
        let Some(known) = self.instances.get(usize::from(instance)) else {
            return Vec::new();
        };
        let flow = known.flow;
        self.flows[flow].freezing = false;
        self.name(flow, now)
    }

    /// A process is gone, and everything it told was heard; answers what is to be ordered.
    pub fn gone(
        &mut self,
        node: NodeIndex,
        now: u64,
        reachable: impl Fn(NodeIndex) -> bool,
    ) -> Vec<(NodeIndex, Order)> {
        let mut orders = Vec::new();
        for flow in 0..self.flows.len() {
            let state = &mut self.flows[flow];
            if state.flow.from == node {
                state.wanted = false;
                if let Some(instance) = state.instance {
                    orders.extend(self.lost(instance, &reachable));
                }
            } else if state.flow.to == node && state.freezing {
                state.freezing = false;
                orders.extend(self.name(flow, now));
            }
        }
        orders
    }

    /// How many streams are complete.
    #[must_use]
    pub fn complete(&self) -> u64 {
        self.flows.iter().filter(|state| state.complete).count() as u64
    }

    /// How many ended with their session and do not resume.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.flows.iter().filter(|state| state.broken).count() as u64
    }

    /// Whether every stream is complete, or will never be.
    #[must_use]
    pub fn all_done(&self) -> bool {
        self.flows.iter().all(|state| state.complete || state.broken)
    }

    /// Streams that must complete and did not, described.
    #[must_use]
    pub fn incomplete(&self) -> Vec<String> {
        let owed = self
            .flows
            .iter()
            .filter(|state| !state.complete && state.flow.stream.must_complete);
        owed.map(|state| {
            let why = match (state.broken, state.instance, state.freezing) {
                (true, ..) => "its session ended and it does not resume",
                (false, Some(_), _) => "it is under way",
                (false, None, true) => "its last reader does not answer",
                (false, None, false) if !state.started => "it has not begun",
                (false, None, false) => "it has no session",
            };
            format!(
                "{}: {} of {} messages arrived, {} came back; {why}",
                state.flow.ways[0].stream, state.delivered[0], state.flow.stream.count, state.delivered[1]
            )
        })
        .collect()
    }

    /// What became of every direction, in the order of the file.
    #[must_use]
    pub fn history(&self, scenario: &Scenario) -> Vec<StreamHistory> {
        let mut all = Vec::new();
        for state in &self.flows {
            for (way, direction) in state.flow.ways.iter().enumerate() {
                all.push(direction.history(scenario, &state.sequences[way], state.finished[way]));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::flows;

    fn apps(resume: bool) -> (Apps, Scenario) {
        let text = format!(
            "schema = 1\nname = \"t\"\nduration = \"1s\"\n[topology]\nnodes = [ {{ id = \"a\" }}, {{ id = \"b\" }} ]\n\
             [[workload]]\nkind = \"stream\"\nid = \"ab\"\nfrom = \"a\"\nto = \"b\"\ncount = 3\nsize = [4, 90]\n\
             resume = {resume}\n"
        );
        let scenario = Scenario::check("t", &text).unwrap();
        let mut apps = Apps::new(flows(&scenario, 3));
        apps.start(0);
        (apps, scenario)
    }

    fn hash(apps: &Apps, number: u64) -> String {
        let message = streams::message(&apps.flows[0].flow.ways[0].expected, number);
        hex(blake3::hash(&message).as_bytes())
    }

    fn base(orders: &[(NodeIndex, Order)]) -> Option<[u64; 2]> {
        orders.iter().find_map(|(_, order)| {
            if let Order::Instance { base, .. } = order {
                Some(*base)
            } else {
                None
            }
        })
    }

    #[test]
    fn a_resumed_stream_goes_on_after_what_its_reader_told_last() {
        let (mut apps, scenario) = apps(true);
        assert_eq!(base(&apps.want(0, 0)), Some([0, 0]));
        apps.delivered(0, 0, 0, &hash(&apps, 0)).unwrap();
        let freeze = apps.lost(0, |_| true);
        assert_eq!(freeze, [(1, Order::Freeze { instance: 0 })]);
        assert!(apps.want(0, 0).is_empty(), "the reader has not answered yet");
        // What the reader told before it stopped counts.
        apps.delivered(0, 0, 1, &hash(&apps, 1)).unwrap();
        assert_eq!(base(&apps.frozen(0, 0)), Some([2, 0]));
        apps.delivered(1, 0, 0, &hash(&apps, 2)).unwrap();
        assert!(!apps.all_done());
        apps.finished(1, 0);
        assert!(apps.all_done() && apps.incomplete().is_empty());
        let history = apps.history(&scenario);
        assert_eq!((history[0].messages, history[0].finished), (3, true));
    }

    #[test]
    fn a_reader_that_dies_while_it_is_asked_does_not_hold_anything_up() {
        let (mut apps, _) = apps(true);
        apps.want(0, 0);
        apps.lost(0, |_| true);
        apps.want(0, 0);
        assert_eq!(base(&apps.gone(1, 0, |_| false)), Some([0, 0]));
        assert_eq!(apps.accepted_by(1, 0).len(), 1, "its next process is told");
    }

    #[test]
    fn repeated_missing_and_changed_messages_are_noticed() {
        let (mut apps, _) = apps(true);
        apps.want(0, 0);
        assert!(
            apps.delivered(0, 0, 1, &hash(&apps, 1))
                .unwrap_err()
                .contains("is next")
        );
        apps.delivered(0, 0, 0, &hash(&apps, 0)).unwrap();
        assert!(apps.delivered(0, 0, 0, &hash(&apps, 0)).is_err());
        assert!(
            apps.delivered(0, 0, 1, &hash(&apps, 2))
                .unwrap_err()
                .contains("differs")
        );
        assert!(apps.delivered(9, 0, 0, "").is_err());
        assert!(apps.delivered(0, 1, 0, "").is_err());
    }

    #[test]
    fn without_resumption_a_lost_stream_is_broken() {
        let (mut apps, _) = apps(false);
        apps.want(0, 0);
        assert!(apps.lost(0, |_| true).is_empty());
        assert!(apps.all_done() && !apps.incomplete().is_empty());
        assert_eq!(apps.broken(), 1);
    }
}
