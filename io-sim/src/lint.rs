//! What is legal in a scenario and yet pointless.
//!
//! Invariants: a scenario that a warning is about still runs and means what it says; the same text gives the same warnings.
//! Not here: what is wrong (`scenario/`).

use std::collections::BTreeMap;

use net_kernel::wire::DropReason;
use net_sim_model::Cause;
use serde::Serialize;

use crate::host::Host;
use crate::run::{Spec, run};
use crate::scenario::{Fault, FaultKind, Happening, Scenario, Trigger, WorkloadKind};

/// Something to think about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Warning {
    /// The scenario's file.
    pub file: String,
    /// Counted from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is pointless, and what to do.
    pub what: String,
}

/// A bound must lie this many deviations from what seeds give: a false alarm fails everybody's gate.
pub const DEVIATIONS: u64 = 6;

/// Counters that a run may have, beside families named after faults, adversaries, workloads, causes and reasons.
const COUNTERS: [&str; 54] = [
    "backpressure",
    "boot_failed",
    "boots",
    "broken",
    "closed.local",
    "closed.peer_restarted",
    "closed.remote",
    "closed.timed_out",
    "connect_failed.cancelled",
    "connect_failed.peer_rolled_back",
    "connect_failed.silent",
    "connected",
    "crew.pieces",
    "datagrams",
    "delivered_bytes",
    "echo",
    "flows_complete",
    "flushed",
    "jobs",
    "last_delivery",
    "link.corrupted",
    "link.duplicated",
    "link.marked",
    "link.reordered",
    "lost.adversary",
    "lost.down",
    "lost.loss",
    "lost.mtu",
    "lost.nat_down",
    "lost.nat_filtered",
    "lost.nat_full",
    "lost.nat_hairpin",
    "lost.nat_unmapped",
    "lost.nobody",
    "lost.partition",
    "lost.queue",
    "lost.socket",
    "lost.unroutable",
    "moved",
    "nat.hairpinned",
    "nat.live",
    "nat.mapped",
    "nat.remapped",
    "rekeyed",
    "relay.bytes",
    "relay.packets",
    "relay.refused",
    "resumed",
    "reveal.after",
    "reveal.past",
    "reveal.shown",
    "rolled_back",
    "session.lost",
    "session.received",
];
/// More of them.
const MORE_COUNTERS: [&str; 9] = [
    "disk.kept",
    "disk.lost",
    "disk.torn",
    "refused",
    "sessions",
    "store_failed",
    "stream_opened",
    "stream_reset",
    "stream_stopped",
];
/// What file transfers count, after `file.`.
const FILE_COUNTERS: [&str; 16] = [
    "attempts",
    "changed",
    "complete",
    "continued",
    "exists",
    "flipped",
    "kept",
    "lost",
    "messages",
    "mismatch",
    "refused",
    "rejected",
    "skipped",
    "stored",
    "there",
    "torn",
];
/// What a mesh counts, after `mesh.`; `rest` is how long routes took to come to rest after the last fault,
/// `linked` how long links took to be up from the start of the last machine.
const MESH_COUNTERS: [&str; 12] = [
    "collision",
    "failed",
    "found",
    "link_lost",
    "linked",
    "lost",
    "outage",
    "outage_over",
    "recovered",
    "refuted",
    "rest",
    "suspected",
];
/// What is measured of times.
const TIMES: [&str; 6] = ["count", "max", "p50", "p90", "p99", "p999"];

/// What a scenario's text alone shows.
#[must_use]
pub fn lint(spec: &Spec) -> Vec<Warning> {
    let mut found = Found {
        spec,
        warnings: Vec::new(),
    };
    let scenario = &spec.scenario;
    for (n, fault) in scenario.faults.iter().enumerate() {
        found.fault(n, fault);
    }
    for (n, adversary) in scenario.adversaries.iter().enumerate() {
        if adversary.when.is_none() && adversary.at >= scenario.duration {
            found.late("adversary", n, &adversary.id);
        }
        found.trigger("adversary", n, &adversary.id, adversary.when);
    }
    for (n, workload) in scenario.workloads.iter().enumerate() {
        if workload.at >= scenario.duration {
            found.late("workload", n, &workload.id);
        }
    }
    found.topology();
    found.swarm();
    found.expectations();
    let must = scenario.workloads.iter().any(crate::scenario::Workload::must_complete)
        || scenario.mesh.as_ref().is_some_and(|mesh| mesh.converge);
    if scenario.liveness.is_some() && !must {
        let what = "[liveness]: no workload must complete, so nothing can fail to: take it out";
        found.warn("liveness", None, what.to_owned());
    }
    found.warnings
}

/// Runs `seeds` and tells which bounds lie too near to what they give.
#[must_use]
pub fn spread<H: Host>(spec: &Spec, seeds: (u64, u64)) -> Vec<Warning> {
    let runs: Vec<BTreeMap<String, u64>> = (seeds.0..=seeds.1).map(|seed| run::<H>(spec, seed).counters).collect();
    let mut found = Found {
        spec,
        warnings: Vec::new(),
    };
    let scenario = &spec.scenario;
    let lower = scenario
        .at_least
        .iter()
        .map(|(name, bound)| (name, *bound, true, "expect"));
    let upper = scenario
        .at_most
        .iter()
        .map(|(name, bound)| (name, *bound, false, "expect"));
    let slo = scenario.slo.iter().map(|(name, bound)| (name, *bound, false, "check"));
    for (name, bound, least, section) in lower.chain(upper).chain(slo) {
        let values: Vec<u64> = runs.iter().map(|run| run.get(name).copied().unwrap_or(0)).collect();
        if let Some(why) = tight(&values, bound, least) {
            let words = if least { "at least" } else { "at most" };
            let what = format!("{name} {words} {bound}: {why}; a seed that misses it is a false alarm");
            found.warn(section, None, what);
        }
    }
    found.warnings
}

/// Why a bound is too near; `None` where it is far enough. The deviation is that of values on the bound's side of the
/// mean: on the other side they may lie as far as they like.
fn tight(values: &[u64], bound: u64, least: bool) -> Option<String> {
    let mean = values.iter().sum::<u64>() / (values.len() as u64).max(1);
    let toward = |value: &&u64| if least { **value <= mean } else { **value >= mean };
    let side: Vec<u64> = values.iter().filter(toward).copied().collect();
    let squares: u128 = side.iter().map(|value| u128::from(value.abs_diff(mean)).pow(2)).sum();
    let deviation = (squares / (side.len() as u128).max(1)).isqrt() as u64;
    let margin = if least {
        mean.checked_sub(bound)
    } else {
        bound.checked_sub(mean)
    };
    // What is bounded by its nature, such as a uniform draw, never lies six deviations off: half or twice the extreme will do.
    let extreme = if least {
        values.iter().min()
    } else {
        values.iter().max()
    };
    let far = extreme.is_some_and(|extreme| {
        if least {
            bound * 2 <= *extreme
        } else {
            extreme * 2 <= bound
        }
    });
    match margin {
        Some(_) if far => None,
        Some(margin) if deviation == 0 || margin / deviation >= DEVIATIONS => None,
        Some(margin) => Some(format!(
            "the mean of {} seeds is {mean} and the deviation {deviation}, so that the bound is only {}.{} deviations \
             off, {DEVIATIONS} are wanted",
            values.len(),
            margin / deviation,
            margin * 10 / deviation % 10
        )),
        None => Some(format!(
            "the mean of {} seeds is {mean}, beyond the bound",
            values.len()
        )),
    }
}

struct Found<'a> {
    spec: &'a Spec,
    warnings: Vec<Warning>,
}

impl Found<'_> {
    fn warn(&mut self, section: &str, nth: Option<usize>, what: String) {
        self.warnings.push(Warning {
            file: self.spec.file.clone(),
            line: line_of(&self.spec.text, section, nth.unwrap_or(0)),
            what,
        });
    }

    fn late(&mut self, section: &str, n: usize, id: &str) {
        let end = if self.spec.scenario.liveness.is_some() {
            "after the safety phase, when every fault is frozen"
        } else {
            "after the end"
        };
        self.warn(section, Some(n), format!("`{id}` begins {end}: it never does anything"));
    }

    fn fault(&mut self, n: usize, fault: &Fault) {
        let scenario = &self.spec.scenario;
        let (at, _) = fault.window();
        if fault.when.is_none() && at >= scenario.duration {
            return self.late("fault", n, &fault.id);
        }
        if matches!(fault.kind, FaultKind::Link { .. }) && fault.at == fault.until {
            let what = format!("`{}` lasts no time: it never does anything", fault.id);
            self.warn("fault", Some(n), what);
        }
        self.trigger("fault", n, &fault.id, fault.when);
    }

    /// An event that cannot come so often.
    fn trigger(&mut self, section: &str, n: usize, id: &str, when: Option<Trigger>) {
        let Some(Trigger {
            event: Happening::Delivered,
            workload: Some(workload),
            nth,
            ..
        }) = when
        else {
            return;
        };
        let workload = &self.spec.scenario.workloads[workload as usize];
        if let WorkloadKind::Stream(stream) = &workload.kind {
            let most = stream.count * stream.streams * (1 + u64::from(stream.both));
            if nth > most {
                let what = format!("`{id}` waits for message {nth} of `{}`, which has {most}", workload.id);
                self.warn(section, Some(n), what);
            }
        }
    }

    fn topology(&mut self) {
        let scenario = &self.spec.scenario;
        let mut warnings = Vec::new();
        for (n, nat) in scenario.nats.iter().enumerate() {
            if !scenario.nodes.iter().any(|node| node.nat == Some(n as u32)) {
                warnings.push(format!("nobody is behind the NAT box `{}`", nat.id));
            }
        }
        for (n, node) in scenario.nodes.iter().enumerate() {
            let n = n as u32;
            let works = scenario.workloads.iter().any(|work| work.from == n || work.to == n);
            let parted = |fault: &Fault| matches!(&fault.kind, FaultKind::Link { from, to, .. } if from.contains(&n) || to.contains(&n));
            let faulty = scenario.faults.iter().any(parted);
            let linked = scenario.mesh.as_ref().is_some_and(|mesh| {
                let links = &mesh.links;
                links.iter().any(|&(from, to)| from == n || to == n)
            });
            if !works && !faulty && !linked && scenario.adversaries.is_empty() {
                let id = &node.id;
                warnings.push(format!(
                    "node `{id}` takes part in nothing: no workload or partition names it"
                ));
            }
        }
        for what in warnings {
            self.warn("topology", None, what);
        }
    }

    fn swarm(&mut self) {
        let text = self.spec.text.as_str();
        let Ok(root) = text.parse::<toml::Table>() else { return };
        if !root.contains_key("swarm") {
            return;
        }
        let link = root.get("topology").and_then(|topology| topology.get("default_link"));
        let omittable = ["loss", "reorder", "dup", "corrupt", "rate", "mtu"];
        let links = link.is_some_and(|link| omittable.iter().any(|key| link.get(key).is_some()));
        if self.spec.scenario.faults.is_empty() && !links {
            let what = "[swarm]: there is no fault and no impairment of links that it could leave out";
            self.warn("swarm", None, what.to_owned());
        }
    }

    fn expectations(&mut self) {
        let scenario = &self.spec.scenario;
        let bounds = scenario.at_least.iter().chain(&scenario.at_most).chain(&scenario.slo);
        let unknown: Vec<String> = bounds
            .filter(|(name, _)| !known(scenario, name))
            .map(|(name, _)| format!("no run counts or measures `{name}`: the bound says nothing"))
            .collect();
        let zero = scenario.at_least.iter().filter(|(_, bound)| *bound == 0);
        let zero: Vec<String> = zero
            .map(|(name, _)| format!("{name} at least 0: every count is"))
            .collect();
        for what in unknown.into_iter().chain(zero) {
            self.warn("expect", None, what);
        }
    }
}

/// Whether a run of the scenario may have a counter of this name.
fn known(scenario: &Scenario, name: &str) -> bool {
    if COUNTERS.contains(&name) || MORE_COUNTERS.contains(&name) {
        return true;
    }
    let Some((family, rest)) = name.split_once('.') else {
        return false;
    };
    let timed = |rest: &str| TIMES.contains(&rest);
    match family {
        // Sums over sessions: whatever the kernel counts of one.
        "session" => true,
        "file" => FILE_COUNTERS.contains(&rest),
        "mesh" => scenario.mesh.is_some() && MESH_COUNTERS.contains(&rest),
        "fault" => scenario.faults.iter().any(|fault| fault.id == rest),
        "adversary" => scenario.adversaries.iter().any(|adversary| adversary.id == rest),
        "drop" => DropReason::ALL.iter().any(|reason| reason.name() == rest),
        "link" => Cause::ALL.iter().any(|cause| cause.name() == rest),
        "echo" | "connect" => timed(rest),
        "delivery" => {
            let workload = |(id, rest): (&str, &str)| timed(rest) && scenario.workloads.iter().any(|one| one.id == id);
            timed(rest) || rest.rsplit_once('.').is_some_and(workload)
        }
        _ => false,
    }
}

/// The line of the `n`-th table of a section; 0 where there is none.
fn line_of(text: &str, section: &str, n: usize) -> usize {
    let heads = [format!("[[{section}]]"), format!("[{section}]"), format!("[{section}.")];
    let begins = |line: &str| heads.iter().any(|head| line.trim_start().starts_with(head.as_str()));
    let mut lines = text.lines().enumerate().filter(|(_, line)| begins(line));
    lines.nth(n).map_or(0, |(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ClearKernel;

    const SPEC: &str = r#"schema = 1
name = "x"
duration = "5s"
[topology]
nodes = [ { id = "a" }, { id = "b" } ]
[[workload]]
kind = "stream"
id = "w"
from = "a"
to = "b"
count = 20
[liveness]
within = "5s"
"#;

    fn warnings(text: &str) -> Vec<(usize, String)> {
        let spec = Spec::new("x.toml", text).unwrap();
        lint(&spec)
            .into_iter()
            .map(|warning| (warning.line, warning.what))
            .collect()
    }

    fn only(text: &str) -> (usize, String) {
        let mut all = warnings(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn a_scenario_with_nothing_pointless_gets_no_warning() {
        assert_eq!(warnings(SPEC), []);
    }

    #[test]
    fn what_comes_too_late_is_named_with_its_line() {
        let fault = "[[fault]]\nkind = \"loss\"\nloss = 0.1\nat = \"6s\"\n";
        let (line, what) = only(&format!("{SPEC}{fault}"));
        assert_eq!(line, 14);
        assert!(what.contains("`loss-0` begins after the safety phase"), "{what}");
        let dead = SPEC.replace("[liveness]\nwithin = \"5s\"\n", "");
        assert!(only(&format!("{dead}{fault}")).1.contains("after the end"));
        let adversary = "[[adversary]]\nkind = \"garbage\"\nto = \"a\"\nat = \"9s\"\n";
        assert!(only(&format!("{SPEC}{adversary}")).1.contains("`garbage-0` begins"));
    }

    #[test]
    fn bounds_on_what_nobody_counts_are_named() {
        let bounds = "[expect.at_least]\n\"fault.partition-9\" = 1\nconnectd = 2\nboots = 0\n";
        let all = warnings(&format!("{SPEC}{bounds}"));
        assert_eq!(all.len(), 3, "{all:?}");
        let slo = "[check]\nslo = { \"delivery.v.p99\" = \"1s\", \"delivery.w.p99\" = \"1s\" }\n";
        assert!(only(&format!("{SPEC}{slo}")).1.contains("delivery.v.p99"));
    }

    #[test]
    fn a_swarm_without_faults_a_box_without_nodes_and_events_that_cannot_come_are_named() {
        assert!(only(&format!("{SPEC}[swarm]\nomit_each = 0.5\n")).1.contains("[swarm]"));
        let nat = SPEC.replace("[[workload]]", "[[topology.nat]]\nid = \"n\"\n[[workload]]");
        assert!(only(&nat).1.contains("nobody is behind the NAT box `n`"));
        let when =
            "[[fault]]\nkind = \"crash\"\nnode = \"a\"\nwhen = { event = \"delivered\", workload = \"w\", nth = 21 }\n";
        assert!(only(&format!("{SPEC}{when}")).1.contains("which has 20"));
    }

    #[test]
    fn a_bound_near_to_what_seeds_give_is_measured() {
        assert_eq!(tight(&[100; 9], 99, true), None, "what never varies may lie near");
        assert_eq!(tight(&[98, 100, 102], 50, true), None);
        assert!(tight(&[98, 100, 102], 95, true).unwrap().contains("deviations"));
        assert_eq!(tight(&[10, 20, 30], 5, true), None, "half of the least that was seen");
        assert!(tight(&[1, 2, 3], 90, true).unwrap().contains("beyond"));
        assert_eq!(
            tight(&[100, 100, 100, 900], 20, true),
            None,
            "far off on the other side"
        );
        let spec = format!("{SPEC}[expect.at_least]\n\"delivery.max\" = 1\n\"delivery.count\" = 21\n");
        let spec = Spec::new("x.toml", spec).unwrap();
        let near = spread::<ClearKernel>(&spec, (1, 3));
        assert_eq!(near.len(), 1, "{near:?}");
        assert!(near[0].what.starts_with("delivery.count at least 21"));
    }
}
