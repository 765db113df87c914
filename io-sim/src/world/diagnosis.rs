//! What did not complete, and whether it could have: stuck, or out of reach.
//!
//! Invariants: looking changes nothing; "stuck" is said only where everything that is looked at was there: both processes,
//! a way between them whose delay and queues left time, time enough.
//! Not here: when a run ends (`mod.rs`).

use net_sim_model::Dependence;

use super::World;
use super::apps::Flow;
use super::net::spec_between;
use crate::host::Host;
use crate::scenario::{Liveness, StreamWorkload, Workload};

/// A flow that must complete and did not.
struct Owed<'a> {
    flow: &'a Flow,
    workload: &'a Workload,
    stream: &'a StreamWorkload,
    /// Messages that arrived, there and back.
    arrived: [u64; 2],
}

impl<H: Host> World<H> {
    /// Whether everything that must complete did.
    pub(super) fn owes(&self) -> bool {
        self.owed().next().is_some() || self.apps.files.owed().next().is_some()
    }

    fn owed(&self) -> impl Iterator<Item = Owed<'_>> {
        self.apps.flows.iter().enumerate().filter_map(|(index, flow)| {
            let stream = self.apps.stream(index as u32);
            if flow.complete || !stream.must_complete {
                return None;
            }
            let now = flow.instance.map_or([0; 2], |instance| {
                [0, 1].map(|direction| self.apps.halves[instance as usize * 2 + direction].delivered)
            });
            Some(Owed {
                flow,
                workload: &self.scenario.workloads[flow.workload as usize],
                stream,
                arrived: [flow.delivered[0] + now[0], flow.delivered[1] + now[1]],
            })
        })
    }

    /// What did not complete after the liveness phase, with what stood in its way.
    pub(super) fn diagnosis(&self, liveness: &Liveness) -> String {
        let each = self.owed().map(|owed| {
            let (id, count) = (&owed.workload.id, owed.stream.count);
            let back = if owed.stream.both {
                format!(" and {} of {count} back", owed.arrived[1])
            } else {
                String::new()
            };
            let state = self.state_of(&owed);
            let why = match self.obstacle(&owed, liveness) {
                Some(obstacle) => format!("it could not have recovered: {obstacle}"),
                None => "it is stuck: both ends ran, the way between them was clean, and there was time".to_owned(),
            };
            format!(
                "{id}: {} of {count} messages arrived{back}; {state}; {why}",
                owed.arrived[0]
            )
        });
        let files = self.apps.files.owed().map(|(workload, words)| {
            let workload = &self.scenario.workloads[workload as usize];
            let why = match self.absent(workload, liveness) {
                Some(obstacle) => format!("it could not have recovered: {obstacle}"),
                None => "both ends ran".to_owned(),
            };
            format!("{}: {words}; {why}", workload.id)
        });
        let routes = self.unrest().map(|what| format!("routes are not at rest: {what}"));
        let each: Vec<String> = each.chain(files).chain(routes).collect();
        each.join("; ")
    }

    fn state_of(&self, owed: &Owed<'_>) -> String {
        match owed.flow.instance {
            _ if owed.flow.broken => "its session ended".to_owned(),
            None => "it has no session".to_owned(),
            Some(instance) => {
                let half = &self.apps.halves[instance as usize * 2];
                format!(
                    "{} sent, blocked: {}, flushed: {}",
                    half.next, half.blocked, half.flushed
                )
            }
        }
    }

    /// What stood in the way of a flow; `None` where nothing did.
    fn obstacle(&self, owed: &Owed<'_>, liveness: &Liveness) -> Option<String> {
        let Workload { from, to, .. } = *owed.workload;
        if owed.flow.broken {
            return Some("it does not resume on another session".to_owned());
        }
        if let Some(absent) = self.absent(owed.workload, liveness) {
            return Some(absent);
        }
        let connected = self
            .apps
            .conns
            .get(&(from, to))
            .is_some_and(|conn| !conn.sessions.is_empty());
        if !connected && let Some(unit) = self.scenario.nodes[to as usize].nat {
            let nat = &self.scenario.nats[unit as usize];
            let beside = self.scenario.nodes[from as usize].nat == Some(unit) && nat.lan;
            if !beside && nat.spec.filtering != Dependence::Endpoint {
                return Some(format!("the NAT box `{}` lets nobody in who was not sent to", nat.id));
            }
        }
        let needs = self.needs(owed);
        if needs > liveness.within {
            return Some(format!(
                "what is left takes {} ms at the rate asked for, the phase has {} ms",
                needs / 1_000_000,
                liveness.within / 1_000_000
            ));
        }
        if let Some(slow) = self.slow_way(from, to, connected, liveness) {
            return Some(slow);
        }
        let retry = self.scenario.config.handshake_retry_max.as_nanos() * 2;
        if !connected && liveness.within < retry {
            return Some(format!("the next dial may come after {} ms", retry / 1_000_000));
        }
        None
    }

    /// Which end of a workload is not there, if one is not.
    fn absent(&self, workload: &Workload, liveness: &Liveness) -> Option<String> {
        [workload.from, workload.to].into_iter().find_map(|node| {
            let (id, machine) = (&self.scenario.nodes[node as usize].id, &self.nodes[node as usize]);
            if machine.host.is_none() {
                let failed = machine.boot_failures;
                return Some(format!("`{id}` does not run, {failed} of its starts failed"));
            }
            let outside = !liveness.core.is_empty() && !liveness.core.contains(&node);
            outside.then(|| format!("`{id}` is outside the core"))
        })
    }

    /// Why the links between two machines deliver too late, if they do. Healed links keep their delay, and what a
    /// bottleneck had queued before goes first.
    fn slow_way(&self, from: u32, to: u32, connected: bool, liveness: &Liveness) -> Option<String> {
        let id = |node: u32| &self.scenario.nodes[node as usize].id;
        let (mut trip, mut clear) = (0u64, self.now.saturating_sub(liveness.within));
        for (a, b) in [(from, to), (to, from)] {
            trip = trip.saturating_add(spec_between(&self.scenario, a, b).delay.typical());
            let queued = self.links.queued_until(a, b);
            if queued > self.now {
                return Some(format!(
                    "the link from `{}` to `{}` is taken for {} ms more by what was queued at its rate and delay before",
                    id(a),
                    id(b),
                    (queued - self.now) / 1_000_000
                ));
            }
            clear = clear.max(queued);
        }
        let left = self.now - clear;
        if trip > left {
            return Some(format!(
                "a round trip between `{}` and `{}` takes {} ms by the delay of their links, {} ms were left",
                id(from),
                id(to),
                trip / 1_000_000,
                left / 1_000_000
            ));
        }
        let patience = self.scenario.config.connect_timeout.as_nanos();
        (!connected && trip > patience).then(|| {
            format!(
                "a round trip between `{}` and `{}` takes {} ms, a dial is given up after {} ms",
                id(from),
                id(to),
                trip / 1_000_000,
                patience / 1_000_000
            )
        })
    }

    /// How long a flow needs for what is left, by its own rates, ns.
    fn needs(&self, owed: &Owed<'_>) -> u64 {
        let left = owed.stream.count.saturating_sub(owed.arrived[0]);
        let paced = match owed.stream.rate_milli {
            0 => 0,
            rate => u128::from(left) * 1_000_000_000_000 / u128::from(rate),
        };
        let read = match owed.stream.drain {
            0 => 0,
            drain => u128::from(left) * u128::from(owed.stream.size.0) * 1_000_000_000 / u128::from(drain),
        };
        let stopped = owed
            .stream
            .stop_reading
            .map_or(0, |(_, until)| until.saturating_sub(self.now));
        u64::try_from(paced.max(read)).unwrap_or(u64::MAX).max(stopped)
    }
}
