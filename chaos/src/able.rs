//! What of a scenario real processes on one host cannot do.
//!
//! Invariants: what is not listed here is done.
//! Not here: doing it (`run.rs`).

use net_io_sim::scenario::{AdversaryKind, FaultKind, Happening, NodeIndex, Program, Scenario, Workload, WorkloadKind};
use net_sim_model::DiskFault;

/// Counters of a run that this arm counts as well; the names of families end with a dot.
const COUNTED: [&str; 20] = [
    "adversary.",
    "boots",
    "connected",
    "connect.",
    "closed.",
    "delivered_bytes",
    "datagrams",
    "drop.",
    "echo",
    "echo.",
    "fault.",
    "file.",
    "flows_complete",
    "link.",
    "mesh.",
    "rekeyed",
    "relay.",
    "resumed",
    "broken",
    "flushed",
];

/// Why a fault with a trigger is not performed.
const TRIGGERED: &str = "events inside processes set nothing off here";

/// Whether this arm counts what a scenario bounds.
#[must_use]
pub fn counts(counter: &str) -> bool {
    COUNTED.iter().any(|known| {
        if known.ends_with('.') {
            counter.starts_with(known)
        } else {
            counter == *known
        }
    })
}

/// What of a fault cannot be done; `None` where all of it can. `disks`: file systems of machines' own can be mounted.
#[must_use]
pub const fn fault(kind: &FaultKind, disks: bool) -> Option<&'static str> {
    match kind {
        FaultKind::Link { .. }
        | FaultKind::Crash { same_seed: false, .. }
        | FaultKind::RestoreDisk { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Suspend { .. }
        | FaultKind::Rebind { .. }
        | FaultKind::Interface { .. } => None,
        FaultKind::NatRebind { .. } | FaultKind::NatReboot { .. } => Some("NAT boxes are simulated"),
        FaultKind::Crash { same_seed: true, .. } => Some("the seeds of processes are their host's"),
        FaultKind::Clone { .. } => Some("two processes would need one address"),
        FaultKind::ClockJump { .. } | FaultKind::ClockDrift { .. } | FaultKind::ClockFreeze { .. } => {
            Some("processes share the clocks of their host")
        }
        FaultKind::Disk {
            fault: DiskFault::Full, ..
        } => {
            if disks {
                None
            } else {
                Some("this host lets nobody mount a file system of one's own")
            }
        }
        FaultKind::Disk { .. } | FaultKind::DiskRot { .. } | FaultKind::DiskSlow { .. } => {
            Some("the disk is the host's")
        }
    }
}

/// Whether a scenario wants file systems of machines' own.
#[must_use]
pub fn wants_disks(scenario: &Scenario) -> bool {
    full_disks(scenario).next().is_some()
}

/// Machines whose disks become full.
pub fn full_disks(scenario: &Scenario) -> impl Iterator<Item = NodeIndex> {
    scenario.faults.iter().filter_map(|fault| {
        if let FaultKind::Disk {
            node,
            fault: DiskFault::Full,
        } = fault.kind
        {
            Some(node)
        } else {
            None
        }
    })
}

/// What of a transfer of files cannot be done.
fn transfer(scenario: &Scenario, workload: &Workload, all: &mut Vec<String>) {
    let WorkloadKind::File(files) = &workload.kind else {
        return;
    };
    let id = &workload.id;
    if scenario.program == Program::Node {
        all.push(format!("{id}: files are sent by the `net` command: program = \"net\""));
    }
    if files.changes > 0 {
        all.push(format!("{id}: changes: nobody knows how often a process reads a file"));
    }
    if files.flips > 0 {
        all.push(format!("{id}: flips: the memory of a process is its own"));
    }
}

/// What of a scenario cannot be done, in the order of the file.
#[must_use]
pub fn unable(scenario: &Scenario, disks: bool) -> Vec<String> {
    let mut all = Vec::new();
    for node in &scenario.nodes {
        if node.drift_ppb != 0 || node.wall_offset != 0 {
            all.push(format!("{}: processes share the clocks of their host", node.id));
        }
    }
    if scenario.coalesce > 0 {
        all.push("coalesce: datagrams arrive when the host hands them over".to_owned());
    }
    if scenario.lanes > 1 {
        all.push("lanes: every process has one".to_owned());
    }
    if !scenario.nats.is_empty() {
        all.push("nat: machines see each other without NAT boxes".to_owned());
    }
    if let Some(mesh) = &scenario.mesh {
        if scenario.program == Program::Net {
            all.push("mesh: the `net` command of a workload keeps none".to_owned());
        }
        if mesh.multicast.is_some() {
            all.push("mesh.multicast: beacons would go past the links; machines are told of each other".to_owned());
        }
        if mesh.dead_addresses > 0 {
            all.push("mesh.dead_addresses: every machine is dialled where it is".to_owned());
        }
    }
    for workload in scenario.workloads.iter().filter(|workload| workload.gives_up()) {
        all.push(format!("{}: streams that are given up half way", workload.id));
    }
    for workload in &scenario.workloads {
        transfer(scenario, workload, &mut all);
    }
    for one in &scenario.faults {
        if one.when.is_some_and(|trigger| !sets_off(trigger.event)) {
            all.push(format!("{}: {TRIGGERED}", one.id));
        } else if let Some(why) = fault(&one.kind, disks) {
            all.push(format!("{}: {why}", one.id));
        }
    }
    for adversary in &scenario.adversaries {
        if adversary.when.is_some() {
            all.push(format!("{}: {TRIGGERED}", adversary.id));
        } else if let Some(why) = villain(&adversary.kind) {
            all.push(format!("{}: {why}", adversary.id));
        }
    }
    if scenario.same_shape {
        all.push("check.same_shape: times on a shared host are never the same twice".to_owned());
    }
    if !scenario.slo.is_empty() {
        all.push("check.slo: bounds on simulated time are not held against a shared host's".to_owned());
    }
    if wants_disks(scenario) && !disks {
        all.push("expect: its bounds are those of a disk that becomes full".to_owned());
    }
    let bounds = scenario.at_least.iter().chain(&scenario.at_most);
    for (counter, _) in bounds.filter(|(counter, _)| !counts(counter)) {
        all.push(format!("expect {counter}: this arm does not count it"));
    }
    all
}

/// Whether events of a kind set faults off here: those that the proxy sees.
const fn sets_off(event: Happening) -> bool {
    match event {
        Happening::Sent | Happening::Received => true,
        Happening::Boot
        | Happening::Down
        | Happening::Dialled
        | Happening::SessionUp
        | Happening::SessionDown
        | Happening::ConnectFailed
        | Happening::Rekeyed
        | Happening::Moved
        | Happening::StreamOpened
        | Happening::Writing
        | Happening::Stored
        | Happening::StoreFailed
        | Happening::Delivered => false,
    }
}

/// What of an adversary cannot be done; `None` where all of it can.
#[must_use]
pub const fn villain(kind: &AdversaryKind) -> Option<&'static str> {
    match kind {
        AdversaryKind::Garbage { .. } => None,
        AdversaryKind::HandshakeFlood { .. }
        | AdversaryKind::Replay { .. }
        | AdversaryKind::Reflect { .. }
        | AdversaryKind::Drop { .. }
        | AdversaryKind::Race { .. }
        | AdversaryKind::Splice { .. }
        | AdversaryKind::Forward { .. } => Some("this adversary acts in simulated networks only"),
        AdversaryKind::StolenKey { .. } | AdversaryKind::Reveal { .. } | AdversaryKind::Member { .. } => {
            Some("it needs keys that real processes keep to themselves")
        }
    }
}
