//! What of a scenario real processes on one host cannot do.
//!
//! Invariants: what is not listed here is done.
//! Not here: doing it (`run.rs`).

use net_io_sim::scenario::{AdversaryKind, FaultKind, Scenario};
use net_sim_model::DiskFault;

/// Counters of a run that this arm counts as well; the names of families end with a dot.
const COUNTED: [&str; 16] = [
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
    "flows_complete",
    "link.",
    "rekeyed",
    "resumed",
    "broken",
    "flushed",
];

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

/// What of a fault cannot be done; `None` where all of it can.
#[must_use]
pub const fn fault(kind: &FaultKind) -> Option<&'static str> {
    match kind {
        FaultKind::Link { .. }
        | FaultKind::Crash { .. }
        | FaultKind::RestoreDisk { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Suspend { .. }
        | FaultKind::Rebind { .. } => None,
        FaultKind::Clone { .. } => Some("two processes would need one address"),
        FaultKind::ClockJump { .. } | FaultKind::ClockDrift { .. } | FaultKind::ClockFreeze { .. } => {
            Some("processes share the clocks of their host")
        }
        FaultKind::Disk { fault, .. } => match fault {
            DiskFault::Full | DiskFault::Failing | DiskFault::Denied | DiskFault::Sync | DiskFault::Misdirected => {
                Some("the disk is the host's")
            }
        },
        FaultKind::DiskSlow { .. } | FaultKind::DiskRot { .. } => Some("the disk is the host's"),
        FaultKind::Interface { .. } => Some("processes have one network, the host's loopback"),
        FaultKind::NatRebind { .. } | FaultKind::NatReboot { .. } => Some("no NAT stands between real processes"),
    }
}

/// What of a scenario cannot be done, in the order of the file.
#[must_use]
pub fn unable(scenario: &Scenario) -> Vec<String> {
    let mut all = Vec::new();
    for node in &scenario.nodes {
        if node.nat.is_some() {
            all.push(format!("{}: no NAT stands between real processes", node.id));
        }
        if node.drift_ppb != 0 || node.wall_offset != 0 {
            all.push(format!("{}: processes share the clocks of their host", node.id));
        }
    }
    if scenario.coalesce > 0 {
        all.push("coalesce: datagrams arrive when the host hands them over".to_owned());
    }
    for one in &scenario.faults {
        if one.when.is_some() {
            all.push(format!("{}: events inside processes set nothing off here", one.id));
        } else if let Some(why) = fault(&one.kind) {
            all.push(format!("{}: {why}", one.id));
        }
    }
    for adversary in &scenario.adversaries {
        if let Some(why) = villain(&adversary.kind) {
            all.push(format!("{}: {why}", adversary.id));
        }
    }
    if !scenario.slo.is_empty() {
        all.push("check.slo: bounds on simulated time are not held against a shared host's".to_owned());
    }
    let bounds = scenario.at_least.iter().chain(&scenario.at_most);
    for (counter, _) in bounds.filter(|(counter, _)| !counts(counter)) {
        all.push(format!("expect {counter}: this arm does not count it"));
    }
    all
}

/// What of an adversary cannot be done; `None` where all of it can.
#[must_use]
pub const fn villain(kind: &AdversaryKind) -> Option<&'static str> {
    match kind {
        AdversaryKind::Garbage { .. }
        | AdversaryKind::HandshakeFlood { .. }
        | AdversaryKind::Replay { .. }
        | AdversaryKind::Reflect { .. }
        | AdversaryKind::Splice { .. }
        | AdversaryKind::Drop { .. }
        | AdversaryKind::Race { .. }
        | AdversaryKind::Forward { .. } => Some("this adversary acts in simulated networks only"),
        AdversaryKind::StolenKey { .. } | AdversaryKind::Member { .. } | AdversaryKind::Reveal { .. } => {
            Some("it needs keys that real processes keep to themselves")
        }
    }
}
