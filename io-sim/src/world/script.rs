//! What a scenario does to machines, and when.
//!
//! Invariants: a process that ends leaves only what its disk keeps; every fault that ends puts back what it changed.
//! Not here: faults of links (`net-sim-model`), what applications do about it (`apps.rs`).

use net_kernel::api::{Input, LinkChange};
use net_kernel::base::Epoch;
use net_kernel::base::rng::Seed;
use net_kernel::session::crew::Drawn;
use net_sim_model::Family;

use super::World;
use super::event::What;
use super::node::State;
use crate::history::{Fact, NONE};
use crate::host::{Host, Start};
use crate::scenario::{Fault, FaultKind, Happening, Scenario, WorkloadKind};
use crate::trigger::Happened;

/// One line of the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// A machine is switched on.
    Boot(u32),
    /// A workload begins.
    Begin(u32),
    /// A fault begins.
    Fault(u32),
    /// A fault ends.
    End(u32),
    /// A copy of a disk is taken for a later fault.
    Backup(u32),
    /// An adversary begins.
    Strike(u32),
}

/// The cell that keeps the boot epoch.
const EPOCH: &str = "boot-epoch";

/// The script of a scenario, in the order of the file where times are equal.
pub fn lines(scenario: &Scenario) -> Vec<(u64, Line)> {
    let mut lines = Vec::new();
    for (index, node) in scenario.nodes.iter().enumerate() {
        lines.push((node.starts, Line::Boot(index as u32)));
    }
    for (index, workload) in scenario.workloads.iter().enumerate() {
        lines.push((workload.at, Line::Begin(index as u32)));
    }
    for (index, fault) in scenario.faults.iter().enumerate() {
        let index = index as u32;
        if matches!(fault.kind, FaultKind::Link { .. }) {
            continue;
        }
        if let FaultKind::RestoreDisk { taken, .. } = fault.kind {
            lines.push((taken, Line::Backup(index)));
        }
        let (at, until) = fault.window();
        if fault.when.is_none() {
            lines.push((at, Line::Fault(index)));
            if until != u64::MAX {
                lines.push((until, Line::End(index)));
            }
        }
    }
    for (index, adversary) in scenario.adversaries.iter().enumerate() {
        if adversary.when.is_none() {
            lines.push((adversary.at, Line::Strike(index as u32)));
        }
    }
    lines
}

/// From when on nothing more is going to be done to the world.
pub fn quiet_after(scenario: &Scenario) -> u64 {
    let faults = scenario.faults.iter().map(Fault::window).flat_map(<[u64; 2]>::from);
    let workloads = scenario.workloads.iter().map(|workload| workload.at);
    let adversaries = scenario.adversaries.iter().filter(|adversary| adversary.when.is_none());
    let adversaries = adversaries.map(|adversary| adversary.at);
    let times = faults.chain(workloads).chain(adversaries);
    times
        .filter(|at| *at != u64::MAX)
        .max()
        .unwrap_or(0)
        .min(scenario.duration)
}

impl<H: Host> World<H> {
    /// A line of the script is due.
    pub(super) fn perform(&mut self, line: u32) {
        let (_, line) = self.script[line as usize];
        match line {
            Line::Boot(node) => self.boot(node),
            Line::Begin(workload) => {
                let from = self.scenario.workloads[workload as usize].from;
                self.tell_on(Some(from), || Fact::WorkloadBegins { workload });
                self.begin(workload);
            }
            Line::Fault(fault) => {
                if !self.healed {
                    self.tell_on(None, || Fact::FaultBegins { fault });
                    self.fault(fault);
                }
            }
            Line::End(fault) => {
                if !self.healed {
                    self.tell_on(None, || Fact::FaultEnds { fault });
                    self.end(fault);
                }
            }
            Line::Backup(fault) => {
                if let FaultKind::RestoreDisk { node, .. } = self.scenario.faults[fault as usize].kind {
                    self.tell_on(Some(node), || Fact::Backup { fault });
                    let machine = &mut self.nodes[node as usize];
                    let backup = machine.disk.snapshot();
                    machine.backups.push((fault, backup));
                }
            }
            Line::Strike(adversary) => {
                self.tell_on(None, || Fact::AdversaryBegins { adversary });
                self.strike(adversary);
            }
        }
    }

    fn begin(&mut self, workload: u32) {
        match self.scenario.workloads[workload as usize].kind {
            WorkloadKind::Stream(_) | WorkloadKind::File(_) => self.apps.start(self.now, workload),
            WorkloadKind::Echo { .. } | WorkloadKind::Connect | WorkloadKind::Rekey { .. } | WorkloadKind::Close => {
                self.step(workload);
            }
        }
    }

    /// Starts a process: an epoch greater than every earlier one is on the disk before it says anything.
    pub(super) fn boot(&mut self, node: u32) {
        let identity = self.nodes[node as usize].identity;
        let start = self.start(node, identity);
        let machine = &mut self.nodes[node as usize];
        if machine.host.is_some() {
            return;
        }
        machine.incarnation += 1;
        let now = machine.now(self.now);
        let Some(epoch) = next_epoch(machine, now.wall.0) else {
            machine.boot_failures += 1;
            self.tell_on(Some(node), || Fact::BootFailed);
            return;
        };
        machine.epoch = epoch.0;
        if self.scenario.lanes > 1 {
            let order = self.key.family(Family::Boot).with_text("crew").with(u64::from(node));
            machine.crew = Some(Drawn::new(Seed::new(order.bytes32(0)).fork("crew"), 0));
        }
        match H::boot(Start { epoch, ..start }, now) {
            Ok(mut host) => {
                if let Some(tape) = &self.tape {
                    host.keep_trace(tape.limit);
                }
                machine.host = Some(host);
                machine.state = State::Running;
                let process = machine.incarnation;
                self.tell_on(Some(node), || Fact::Booted { process });
                self.turn(node, Input::Wake);
                self.join(node);
                self.join_segment(node);
                self.apps.node_up(self.now, node);
                if !self.triggers.none() {
                    self.happened(Happened::at(Happening::Boot, node));
                }
            }
            Err(_) => {
                machine.boot_failures += 1;
                self.tell_on(Some(node), || Fact::BootFailed);
            }
        }
    }

    fn start(&self, node: u32, identity: u32) -> Start {
        let spec = &self.scenario.nodes[identity as usize];
        let machine = &self.nodes[node as usize];
        // A virtual machine that was copied or put back starts from its original's boot seed; others from a fresh one.
        let origin = if machine.same_seed { identity } else { node };
        let incarnation = if machine.same_seed { 1 } else { machine.incarnation + 1 };
        let seeds = self
            .key
            .family(Family::Boot)
            .with_text("seed")
            .with(self.number(origin));
        let allow = spec.allow.as_ref();
        Start {
            node,
            identity: self.identity(identity),
            seed: seeds.bytes32(u64::from(incarnation)),
            epoch: Epoch(0),
            network: self.scenario.closed.then(|| self.secrets.network.reveal().0),
            allow: allow.map(|allow| allow.iter().map(|index| self.entities[*index as usize]).collect()),
            config: self.scenario.config_of(identity),
            mesh: self.scenario.mesh.as_ref().map(|mesh| mesh.config.clone()),
            lanes: self.scenario.lanes,
            peers: self.nodes[..self.scenario.nodes.len()]
                .iter()
                .map(|machine| machine.address)
                .collect(),
        }
    }

    /// Ends a process without a word.
    pub(super) fn kill(&mut self, node: u32) {
        self.take_trace(node);
        let ran = self.nodes[node as usize].host.is_some();
        if ran {
            self.tell_ended(node);
        }
        let machine = &mut self.nodes[node as usize];
        machine.state = State::Down;
        machine.jobs = 0;
        machine.deadline = None;
        machine.mono_deadline = None;
        machine.held.clear();
        machine.backlog_bytes = 0;
        let waiting: Vec<u32> = machine.backlog.drain(..).collect();
        if let Some(host) = machine.host.take() {
            machine.ended.push(host.digest());
            machine.ended_turns += host.turns();
            let drops = host.drops();
            machine.ended_drops.add(&drops);
            machine.ended_relayed.add(&host.relayed());
            machine.ended_probes.add(host.probes());
            let crashed = machine.disk.crash();
            machine.crashed.add(&crashed);
        }
        for slot in waiting {
            self.tell_fate(Some(node), slot, |packet| Fact::Dropped { packet, cause: "down" });
            self.accounts.drop("down");
            self.pool.free(slot);
        }
        self.apps.node_down(self.now, node);
        self.apps.crash_files(self.now, node, &mut self.panel);
        if ran && !self.triggers.none() {
            self.happened(Happened::at(Happening::Down, node));
        }
    }

    fn fault(&mut self, index: u32) {
        let kind = self.scenario.faults[index as usize].kind.clone();
        let mut bites = 1;
        match kind {
            // Counted by the links and disks themselves.
            FaultKind::Link { .. } => return,
            FaultKind::Disk { node, fault } => {
                self.nodes[node as usize].disk.set_fault(Some(fault));
                self.apps.files.set_fault(node, Some(fault));
                return self.watch_disk(index, node);
            }
            FaultKind::DiskSlow { node, factor } => {
                self.nodes[node as usize].disk.set_slow(factor);
                return self.watch_disk(index, node);
            }
            FaultKind::DiskRot { node, cell } => bites = self.nodes[node as usize].disk.rot(cell),
            FaultKind::Crash { node, same_seed } => {
                bites = self.running(node);
                self.nodes[node as usize].same_seed = same_seed;
                self.kill(node);
            }
            FaultKind::RestoreDisk { node, .. } => {
                self.kill(node);
                let machine = &mut self.nodes[node as usize];
                if let Some((_, backup)) = machine.backups.iter().find(|(fault, _)| *fault == index) {
                    let backup = backup.clone();
                    machine.disk.restore(&backup);
                }
                self.boot(node);
            }
            FaultKind::Clone { node, same_seed } => self.clone_node(node, same_seed),
            FaultKind::Pause { node } => bites = self.stop(node, State::Paused),
            FaultKind::Suspend { node } => bites = self.stop(node, State::Suspended),
            FaultKind::Rebind { node, told } => self.move_node(node, told),
            FaultKind::Interface { node, told, link } => {
                self.links.set_interface(node, link);
                self.move_node(node, told);
            }
            FaultKind::NatRebind { nat, address } => bites = self.nats.rebind(self.now, nat, address),
            FaultKind::NatReboot { nat } => bites = self.nats.power(self.now, nat, false),
            FaultKind::ClockJump { node, by } => self.nodes[node as usize].clock.jump_wall(self.now, by),
            FaultKind::ClockDrift { node, ppb } => {
                self.nodes[node as usize].clock.set_drift(self.now, ppb);
                self.rearm(node);
            }
            FaultKind::ClockFreeze { node } => {
                self.nodes[node as usize].clock.freeze(self.now);
                self.rearm(node);
            }
        }
        self.bites[index as usize] += bites;
    }

    fn end(&mut self, index: u32) {
        let kind = self.scenario.faults[index as usize].kind.clone();
        match kind {
            FaultKind::Link { .. }
            | FaultKind::RestoreDisk { .. }
            | FaultKind::Rebind { .. }
            | FaultKind::NatRebind { .. }
            | FaultKind::DiskRot { .. } => {}
            FaultKind::Crash { node, .. } => self.boot(node),
            FaultKind::Clone { node, .. } => self.kill_clones(node),
            FaultKind::Pause { node } | FaultKind::Suspend { node } => self.go_on(node),
            FaultKind::Interface { node, told, .. } => {
                self.links.set_interface(node, None);
                self.move_node(node, told);
            }
            FaultKind::NatReboot { nat } => {
                self.nats.power(self.now, nat, true);
            }
            FaultKind::ClockJump { node, by } => {
                self.nodes[node as usize].clock.jump_wall(self.now, by.saturating_neg());
            }
            FaultKind::ClockDrift { node, .. } => self.drift_as_before(node),
            FaultKind::ClockFreeze { node } => {
                self.nodes[node as usize].clock.thaw(self.now);
                self.rearm(node);
            }
            FaultKind::Disk { node, .. } => {
                self.nodes[node as usize].disk.set_fault(None);
                self.apps.files.set_fault(node, None);
                self.count_disk(index);
            }
            FaultKind::DiskSlow { node, .. } => {
                self.nodes[node as usize].disk.set_slow(1);
                self.count_disk(index);
            }
        }
    }

    /// What a fault does to a disk is counted from here on.
    fn watch_disk(&mut self, fault: u32, node: u32) {
        let before = self.bitten(node);
        self.disk_watch.push((fault, node, before));
    }

    /// What faults did to a machine's disk, the directory that receives files included.
    fn bitten(&self, node: u32) -> u64 {
        self.nodes[node as usize].disk.bitten() + self.apps.files.bitten(node)
    }

    /// A fault of a disk is over.
    fn count_disk(&mut self, fault: u32) {
        while let Some(place) = self.disk_watch.iter().position(|(watched, _, _)| *watched == fault) {
            let (_, node, before) = self.disk_watch.swap_remove(place);
            self.bites[fault as usize] += self.bitten(node) - before;
        }
    }

    /// Every fault of a disk is over, or the run is.
    pub(super) fn count_disks(&mut self) {
        for fault in 0..self.bites.len() as u32 {
            self.count_disk(fault);
        }
    }

    fn running(&self, node: u32) -> u64 {
        u64::from(self.nodes[node as usize].host.is_some())
    }

    /// The machine gets another address; its driver is told, or finds out.
    fn move_node(&mut self, node: u32, told: bool) {
        self.nodes[node as usize].rebind(node);
        let to = self.nodes[node as usize].address;
        self.tell_on(Some(node), || Fact::Rebound { to });
        if told && self.nodes[node as usize].state == State::Running {
            self.turn(node, Input::Link(LinkChange::Rebound));
            self.join_segment(node);
        }
    }

    fn drift_as_before(&mut self, node: u32) {
        let identity = self.nodes[node as usize].identity;
        let drift = self.scenario.nodes[identity as usize].drift_ppb;
        self.nodes[node as usize].clock.set_drift(self.now, drift);
        self.rearm(node);
    }

    fn kill_clones(&mut self, node: u32) {
        let clones = self.scenario.nodes.len() as u32..self.nodes.len() as u32;
        clones
            .filter(|&clone| self.nodes[clone as usize].identity == node)
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|clone| self.kill(clone));
    }

    /// Stops a process that runs; answers how many that were.
    fn stop(&mut self, node: u32, state: State) -> u64 {
        let machine = &mut self.nodes[node as usize];
        if machine.state != State::Running {
            return 0;
        }
        machine.state = state;
        let asleep = state == State::Suspended;
        self.tell_on(Some(node), || if asleep { Fact::Suspended } else { Fact::Paused });
        1
    }

    /// A stopped process runs on: what waited in its socket comes first, then its deadline, then its applications.
    fn go_on(&mut self, node: u32) {
        let machine = &mut self.nodes[node as usize];
        if !matches!(machine.state, State::Paused | State::Suspended) {
            return;
        }
        machine.state = State::Running;
        self.tell_on(Some(node), || Fact::Resumed);
        let machine = &mut self.nodes[node as usize];
        machine.backlog_bytes = 0;
        let waiting: Vec<u32> = machine.backlog.drain(..).collect();
        for slot in waiting {
            self.queue.push(self.now, What::Arrive { slot, node });
        }
        self.queue.push(self.now, What::Wake { node });
        let held = std::mem::take(&mut self.nodes[node as usize].held);
        for (purpose, order) in held {
            self.apps.orders.push_back((node, purpose, order));
        }
    }

    /// A second machine with a copy of this one's disk and identity dials everyone its original deals with.
    fn clone_node(&mut self, node: u32, same_seed: bool) {
        let clone = self.add_node(node);
        let disk = self.nodes[node as usize].disk.snapshot();
        let machine = &mut self.nodes[clone as usize];
        machine.disk.restore(&disk);
        machine.same_seed = same_seed;
        self.boot(clone);
        let peers: Vec<u32> = (0..self.scenario.nodes.len() as u32)
            .filter(|&peer| peer != node)
            .collect();
        for peer in peers {
            self.apps.session(self.now, clone, peer);
        }
    }

    /// Ends every fault for good: machines of the core run, and links among them are clean.
    pub(super) fn heal(&mut self, core: &[u32]) {
        self.count_disks();
        self.healed = true;
        self.links.heal(core);
        let scenario = std::rc::Rc::clone(&self.scenario);
        let core_has = |node| core.is_empty() || core.contains(&node);
        self.nats.heal(self.now, core_has, &scenario);
        self.cursor.set(NONE);
        self.tell_on(None, || Fact::Healed);
        let healed = self.cursor.get();
        for node in 0..self.scenario.nodes.len() as u32 {
            self.cursor.set(healed);
            if !core.is_empty() && !core.contains(&node) {
                continue;
            }
            self.nodes[node as usize].disk.set_fault(None);
            self.apps.files.set_fault(node, None);
            self.nodes[node as usize].disk.set_slow(1);
            self.nodes[node as usize].clock.thaw(self.now);
            self.drift_as_before(node);
            self.kill_clones(node);
            match self.nodes[node as usize].state {
                State::Running => {}
                State::Paused | State::Suspended => self.go_on(node),
                State::Down => self.boot(node),
            }
        }
        self.obey();
    }
}

/// The epoch of the next process, synced; `None` where the disk refuses, or holds something else than was written.
fn next_epoch<H>(machine: &mut super::node::Node<H>, wall: u64) -> Option<Epoch> {
    let stored = match machine.disk.read(EPOCH).ok()? {
        Some(bytes) => Some(decode_epoch(bytes)?),
        None => None,
    };
    let epoch = stored.map_or(wall, |stored| wall.max(stored + 1));
    machine.disk.write_now(EPOCH, encode_epoch(epoch)).ok()?;
    Some(Epoch(epoch))
}

/// The epoch and its checksum, as a program keeps what it must not mistake.
fn encode_epoch(epoch: u64) -> Vec<u8> {
    let epoch = epoch.to_le_bytes();
    let sum = blake3::hash(&epoch);
    [&epoch[..], &sum.as_bytes()[..8]].concat()
}

fn decode_epoch(bytes: &[u8]) -> Option<u64> {
    let (epoch, _) = bytes.split_first_chunk::<8>()?;
    let epoch = u64::from_le_bytes(*epoch);
    (encode_epoch(epoch) == bytes).then_some(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_rotted_is_no_epoch() {
        let good = encode_epoch(1_767_225_600_000_000_001);
        assert_eq!(decode_epoch(&good), Some(1_767_225_600_000_000_001));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_epoch(&bad), None, "bit {bit}");
        }
        assert_eq!(decode_epoch(&good[..8]), None);
    }
}
