//! What a scenario does to machines and when, and what of it this arm cannot do.
//!
//! Invariants: what is not done is named in the report; a fault that ends puts back what it changed.
//! Not here: faults of links (`net-sim-model`).

use net_io_sim::scenario::{Fault, FaultKind, NodeIndex, Scenario};

use crate::bed::{Bed, State};
use crate::process::Processes;
use crate::runtime::Runtime;

/// One line of the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// A machine is switched on.
    Boot(NodeIndex),
    /// A fault begins.
    Fault(usize),
    /// A fault ends.
    End(usize),
    /// A copy of a disk is taken for a later fault.
    Backup(usize),
}

/// The script, by time, in the order of the file where times are equal.
pub(crate) fn lines(scenario: &Scenario) -> Vec<(u64, Line)> {
    let mut lines = Vec::new();
    for (index, node) in scenario.nodes.iter().enumerate() {
        lines.push((node.starts, Line::Boot(index as NodeIndex)));
    }
    for (index, fault) in scenario.faults.iter().enumerate() {
        if let FaultKind::RestoreDisk { taken, .. } = fault.kind {
            lines.push((taken, Line::Backup(index)));
        }
        // What only an event sets off comes in once it is set off.
        if fault.when.is_none() {
            lines.push((fault.at, Line::Fault(index)));
            if fault.until != u64::MAX {
                lines.push((fault.until, Line::End(index)));
            }
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    lines
}

/// What this arm cannot do of a scenario.
pub(crate) fn unable(scenario: &Scenario) -> Vec<String> {
    let faults = scenario.faults.iter().filter(|fault| !able(&fault.kind));
    let faults = faults.map(|fault| format!("fault `{}`", fault.id));
    let adversaries = scenario
        .adversaries
        .iter()
        .map(|adversary| format!("adversary `{}`", adversary.id));
    let hidden = scenario.nodes.iter().filter(|node| node.nat.is_some());
    let hidden = hidden.map(|node| format!("the NAT box of node `{}`", node.id));
    let given_up = scenario.workloads.iter().filter(|workload| workload.gives_up());
    let given_up = given_up.map(|workload| format!("workload `{}`: streams given up half way", workload.id));
    let bounds = [
        (!scenario.at_least.is_empty(), "[expect.at_least]"),
        (!scenario.at_most.is_empty(), "[expect.at_most]"),
        (!scenario.slo.is_empty(), "[check.slo]"),
        (scenario.same_shape, "[check] same_shape"),
        (scenario.expect_fail.is_some(), "[expect] of a failure"),
    ];
    let bounds = bounds.into_iter().filter(|(asked, _)| *asked);
    let bounds = bounds.map(|(_, name)| format!("{name}: bounds are the world's"));
    hidden
        .chain(faults)
        .chain(adversaries)
        .chain(given_up)
        .chain(bounds)
        .collect()
}

fn able(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Link { .. }
            | FaultKind::Crash { same_seed: false, .. }
            | FaultKind::RestoreDisk { .. }
            | FaultKind::Pause { .. }
            | FaultKind::Suspend { .. }
            | FaultKind::Rebind { .. }
            | FaultKind::Interface { link: None, .. }
            | FaultKind::ClockJump { .. }
            | FaultKind::ClockDrift { .. }
            | FaultKind::ClockFreeze { .. }
            | FaultKind::Disk { .. }
    )
}

/// From when on nothing more is going to be done.
pub(crate) fn quiet_after(scenario: &Scenario) -> u64 {
    let faults = scenario.faults.iter().map(Fault::window).flat_map(<[u64; 2]>::from);
    let workloads = scenario.workloads.iter().map(|workload| workload.at);
    let times = faults.chain(workloads).filter(|at| *at != u64::MAX);
    times.max().unwrap_or(0).min(scenario.duration)
}

impl<R: Runtime> Processes<R> {
    /// A line is due. Answers the process that is to start once the one before it is gone.
    pub(crate) fn perform(&mut self, line: Line) -> Option<NodeIndex> {
        match line {
            Line::Boot(node) => Some(node),
            Line::Fault(index) => self.fault(index),
            Line::End(index) => self.end(index),
            Line::Backup(index) => {
                if let FaultKind::RestoreDisk { node, .. } = self.bed.scenario.faults[index].kind {
                    let machine = &mut self.bed.lock().machines[node as usize];
                    let copy = machine.disk.snapshot();
                    machine.backups.push((index, copy));
                }
                None
            }
        }
    }

    fn fault(&mut self, index: usize) -> Option<NodeIndex> {
        let kind = self.bed.scenario.faults[index].kind.clone();
        if let FaultKind::Crash { node, .. } = kind {
            self.kill(node);
        } else if let FaultKind::RestoreDisk { node, .. } = kind {
            self.kill(node);
            let machine = &mut self.bed.lock().machines[node as usize];
            if let Some((_, copy)) = machine.backups.iter().find(|(fault, _)| *fault == index) {
                let copy = copy.clone();
                machine.disk.restore(&copy);
            }
            return Some(node);
        } else if let FaultKind::Pause { node } = kind {
            stop(&self.bed, node, State::Paused);
        } else if let FaultKind::Suspend { node } = kind {
            stop(&self.bed, node, State::Suspended);
        } else if let FaultKind::Rebind { node, told } | FaultKind::Interface { node, told, link: None } = kind {
            self.rebind(node, told);
        } else {
            self.clocks_and_disks(&kind, true);
        }
        None
    }

    fn end(&mut self, index: usize) -> Option<NodeIndex> {
        let kind = self.bed.scenario.faults[index].kind.clone();
        if let FaultKind::Crash { node, .. } = kind {
            return Some(node);
        } else if let FaultKind::Pause { node } | FaultKind::Suspend { node } = kind {
            go_on(&self.bed, node);
        } else {
            self.clocks_and_disks(&kind, false);
        }
        None
    }

    fn clocks_and_disks(&self, kind: &FaultKind, begins: bool) {
        if let FaultKind::Disk { node, fault } = *kind {
            self.flows.files.set_fault(node, begins.then_some(fault));
        }
        let mut inner = self.bed.lock();
        let now = inner.now;
        if let FaultKind::ClockJump { node, by } = *kind {
            let by = if begins { by } else { by.saturating_neg() };
            inner.machines[node as usize].clock.jump_wall(now, by);
        } else if let FaultKind::ClockDrift { node, ppb } = *kind {
            let own = self.bed.scenario.nodes[node as usize].drift_ppb;
            inner.machines[node as usize]
                .clock
                .set_drift(now, if begins { ppb } else { own });
        } else if let FaultKind::ClockFreeze { node } = *kind {
            let clock = &mut inner.machines[node as usize].clock;
            if begins { clock.freeze(now) } else { clock.thaw(now) }
        } else if let FaultKind::Disk { node, fault } = *kind {
            inner.machines[node as usize].disk.set_fault(begins.then_some(fault));
        }
    }

    /// Ends every fault for good; answers the processes that are to start.
    pub(crate) fn heal(&mut self, core: &[NodeIndex]) -> Vec<NodeIndex> {
        self.bed.heal(core);
        let mut down = Vec::new();
        for node in 0..self.bed.scenario.nodes.len() as NodeIndex {
            if !core.is_empty() && !core.contains(&node) {
                continue;
            }
            let state = {
                let mut inner = self.bed.lock();
                let now = inner.now;
                let machine = &mut inner.machines[node as usize];
                machine.disk.set_fault(None);
                machine.clock.thaw(now);
                machine.state
            };
            self.flows.files.set_fault(node, None);
            match state {
                State::Running => {}
                State::Paused | State::Suspended => go_on(&self.bed, node),
                State::Down => down.push(node),
            }
        }
        down
    }
}

fn stop(bed: &Bed, node: NodeIndex, state: State) {
    if bed.lock().machines[node as usize].state == State::Running {
        bed.set_state(node, state);
    }
}

fn go_on(bed: &Bed, node: NodeIndex) {
    let state = bed.lock().machines[node as usize].state;
    if matches!(state, State::Paused | State::Suspended) {
        bed.set_state(node, State::Running);
    }
}
