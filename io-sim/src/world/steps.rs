//! Workloads without streams: sessions for their own sake, echoes, rekeys, closing.
//!
//! Invariants: a workload takes its next step only when its time has come; steps without a session wait for one.
//! Not here: streams (`apps.rs`).

use super::World;
use super::apps::{Order, Purpose};
use super::event::What;
use crate::host::Host;
use crate::scenario::{Scenario, WorkloadKind};

/// How far a workload is.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Steps to take.
    left: u64,
}

/// A step without a session is tried again after this.
const AGAIN: u64 = 100_000_000;

impl Steps {
    /// The steps of every workload.
    pub fn all(scenario: &Scenario) -> Vec<Self> {
        let count = |kind: &WorkloadKind| match *kind {
            WorkloadKind::Stream(_) | WorkloadKind::File(_) => 0,
            WorkloadKind::Echo { count, .. } | WorkloadKind::Rekey { count, .. } => count,
            WorkloadKind::Connect | WorkloadKind::Close => 1,
        };
        scenario
            .workloads
            .iter()
            .map(|workload| Self {
                left: count(&workload.kind),
            })
            .collect()
    }

    /// Whether every step was taken.
    pub const fn done(&self) -> bool {
        self.left == 0
    }
}

impl<H: Host> World<H> {
    /// A workload's next step.
    pub(super) fn step(&mut self, workload: u32) {
        let spec = &self.scenario.workloads[workload as usize];
        let (from, to, kind) = (spec.from, spec.to, spec.kind.clone());
        if self.steps[workload as usize].done() {
            return;
        }
        if self.nodes[from as usize].host.is_none() {
            self.queue.push(self.now + AGAIN, What::Step { workload });
            return;
        }
        let closing = matches!(kind, WorkloadKind::Close);
        let live = self
            .apps
            .conns
            .get(&(from, to))
            .is_some_and(|conn| !conn.sessions.is_empty());
        if closing && !live {
            self.steps[workload as usize].left = 0;
            return;
        }
        let Some(session) = self.apps.session(self.now, from, to) else {
            self.queue.push(self.now + AGAIN, What::Step { workload });
            return;
        };
        let purpose = Purpose::Step(workload);
        let (order, pause) = match kind {
            WorkloadKind::Stream(_) | WorkloadKind::File(_) | WorkloadKind::Connect => (None, None),
            WorkloadKind::Echo { every, .. } => (Some(Order::Echo { session }), Some(every)),
            WorkloadKind::Rekey { every, .. } => (Some(Order::Rekey { session }), Some(every)),
            WorkloadKind::Close => (Some(Order::Close { session }), None),
        };
        let steps = &mut self.steps[workload as usize];
        steps.left -= 1;
        if let Some(order) = order {
            self.apps.orders.push_back((from, purpose, order));
        }
        if let Some(pause) = pause.filter(|_| steps.left > 0) {
            self.queue.push(self.now + pause, What::Step { workload });
        }
    }
}
