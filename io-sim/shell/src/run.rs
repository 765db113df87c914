//! One seed under one runtime, reported as an arm.
//!
//! When no task is ready, what was sent gets its fate and time moves on to what comes next. A run that is done settles for
//! a second; then every node is let go, and every driver must end.
//! Invariants: the report is a function of scenario, seed and runtime.
//! Not here: many seeds (`main.rs`), the runtimes (`under_*.rs`).

use std::sync::atomic::Ordering;

use net_io_sim::arm::{ArmReport, Metrics, Summary};
use net_io_sim::histogram::Histogram;
use net_io_sim::run::{Spec, Verdict};
use net_io_sim::scenario::{NodeIndex, Scenario, WorkloadKind};
use net_io_sim::trigger::SetOff;

use crate::bed::Bed;
use crate::flow::Flows;
use crate::process::Processes;
use crate::runtime::Runtime;
use crate::script::{Line, lines, quiet_after, unable};

/// A run goes on this long after everything is done, so that endings are seen.
const SETTLE: u64 = 1_000_000_000;
/// A driver whose last handle was dropped ends within this, once no session waits for a peer any more.
const PARTING: u64 = 10_000_000_000;
/// Steps at one instant from which on the run is taken to be in a loop.
const LOOP_LIMIT: u64 = 200_000;
/// Steps from which on a run is out of time.
const STEP_LIMIT: u64 = 20_000_000;

/// A run that can be made: a scenario's literals, read.
pub struct Prepared {
    spec: Spec,
    /// The run's seed.
    pub seed: u64,
    /// What it says.
    pub scenario: Scenario,
}

/// Draws a scenario's literals.
///
/// # Errors
/// What is wrong with the scenario, or that it is not for this arm.
pub fn prepare(spec: &Spec, seed: u64) -> Result<Prepared, String> {
    let scenario = Scenario::resolved(&spec.file, &spec.text, seed).map_err(|error| error.to_string())?;
    if !scenario.arms.is_empty() && !scenario.arms.iter().any(|arm| arm == "shell") {
        let arms = scenario.arms.join(", ");
        return Err(format!("{}: `arms` names {arms}, and not `shell`", spec.file));
    }
    Ok(Prepared {
        spec: spec.clone(),
        seed,
        scenario,
    })
}

/// Makes the run under `runtime`, whose bed is `bed`. Polled by that runtime's main task.
pub async fn drive<R: Runtime>(prepared: &Prepared, bed: &Bed, runtime: R) -> ArmReport {
    let flows = Flows::new(bed, prepared.seed);
    let mut run = Run {
        processes: Processes::new(bed, &flows, runtime.clone()),
        script: lines(&bed.scenario),
        bed: bed.clone(),
        flows,
        runtime,
        line: 0,
        steps: 0,
        same_instant: (0, 0),
        quiet_after: quiet_after(&bed.scenario),
        healed: false,
    };
    run.live().await;
    let metrics = run.metrics();
    if bed.lock().violation.is_none() {
        run.part().await;
    }
    run.report(prepared, metrics)
}

struct Run<R> {
    bed: Bed,
    flows: Flows,
    runtime: R,
    processes: Processes<R>,
    script: Vec<(u64, Line)>,
    line: usize,
    steps: u64,
    same_instant: (u64, u64),
    /// From when on nothing more is going to be done.
    quiet_after: u64,
    healed: bool,
}

impl<R: Runtime> Run<R> {
    /// The safety phase, and the liveness phase where one is asked for and needed.
    async fn live(&mut self) {
        let scenario = std::sync::Arc::clone(&self.bed.scenario);
        let full = scenario
            .workloads
            .iter()
            .any(|w| matches!(w.kind, WorkloadKind::Connect));
        let (mut end, mut done) = (scenario.duration, false);
        loop {
            self.settle().await;
            if self.bed.lock().violation.is_some() {
                return;
            }
            let now = self.bed.now();
            let over = now >= self.quiet_after || self.healed;
            if !done && over && (!full || self.healed) && self.flows.all_done() {
                done = true;
                end = end.min(now + SETTLE);
            }
            let line = self.script.get(self.line).filter(|_| !self.healed).map(|(at, _)| *at);
            let next = self.bed.next().into_iter().chain(line).min().unwrap_or(u64::MAX);
            if next <= end {
                self.step(next).await;
                continue;
            }
            self.arrive(end);
            let owed = self.flows.incomplete();
            match &scenario.liveness {
                Some(liveness) if !self.healed && !done && !owed.is_empty() => {
                    self.healed = true;
                    let down = self.processes.heal(&liveness.core);
                    self.settle().await;
                    down.into_iter().for_each(|node| self.processes.boot(node));
                    end += liveness.within;
                }
                Some(_) if !owed.is_empty() => return self.bed.fail("liveness", owed.join("; ")),
                Some(_) | None => return,
            }
        }
    }

    /// Every ready task runs, and what was sent gets its fate.
    async fn settle(&mut self) {
        self.runtime.idle().await;
        self.bed.look_for_lost_wakeups();
        for datagram in self.runtime.sent() {
            self.bed.offer(datagram);
        }
        self.processes.look_at_sessions();
        self.set_off();
    }

    /// What events set off enters the script.
    fn set_off(&mut self) {
        for SetOff { fault, at, until } in self.bed.lock().set_off() {
            self.quiet_after = self.quiet_after.max(if until == u64::MAX { at } else { until });
            let end = (until != u64::MAX).then_some((until, Line::End(fault)));
            self.script.push((at, Line::Fault(fault)));
            self.script.extend(end);
        }
        self.script[self.line..].sort_by_key(|(at, _)| *at);
    }

    /// Time moves to `at`, and what is due happens.
    async fn step(&mut self, at: u64) {
        self.arrive(at);
        self.steps += 1;
        if self.same_instant.0 == at {
            self.same_instant.1 += 1;
        } else {
            self.same_instant = (at, 0);
        }
        if self.same_instant.1 > LOOP_LIMIT {
            self.bed.fail("livelock", format!("{LOOP_LIMIT} steps at one instant"));
        }
        if self.steps > STEP_LIMIT {
            self.bed
                .fail("out-of-time", format!("{STEP_LIMIT} steps did not suffice"));
        }
        while let Some((due, line)) = self
            .script
            .get(self.line)
            .copied()
            .filter(|(due, _)| *due <= at && !self.healed)
        {
            debug_assert!(due <= at);
            self.line += 1;
            if let Some(node) = self.processes.perform(line) {
                // What was killed is gone before its successor starts.
                self.settle().await;
                self.processes.boot(node);
            }
        }
    }

    fn arrive(&self, at: u64) {
        for (_, datagram) in self.bed.advance(at) {
            self.runtime.deliver(datagram);
        }
    }

    /// Lets every node go.
    async fn part(&mut self) {
        let waiting = self.processes.release();
        // A node with something to be confirmed goes on until its peer is given up.
        let end = self.bed.now() + self.bed.scenario.config.idle_timeout.as_nanos() * 2 + PARTING;
        loop {
            self.settle().await;
            let left: Vec<NodeIndex> = waiting
                .iter()
                .filter(|(_, ended)| !ended.load(Ordering::Relaxed))
                .map(|(node, _)| *node)
                .collect();
            let stopped = |node: &NodeIndex| {
                let state = self.bed.lock().machines[*node as usize].state;
                state != crate::bed::State::Running
            };
            if left.iter().all(stopped) {
                return;
            }
            match self.bed.next().filter(|at| *at <= end) {
                Some(at) => self.arrive(at),
                None => {
                    let what = format!("drivers of {left:?} go on after their last handle was dropped");
                    return self.bed.fail("liveness", what);
                }
            }
        }
    }

    fn metrics(&self) -> Metrics {
        let (mut rtt, mut retransmissions) = (Histogram::default(), Histogram::default());
        for stats in self.processes.stats() {
            rtt.record(stats.rtt.as_nanos());
            retransmissions.record(stats.lost);
        }
        Metrics {
            rtt: Summary::of(&rtt),
            retransmissions: Summary::of(&retransmissions),
            handshake: Summary::of(&self.flows.lock().handshake),
        }
    }

    fn report(&self, prepared: &Prepared, metrics: Metrics) -> ArmReport {
        let (violation, now) = {
            let inner = self.bed.lock();
            (inner.violation.clone(), inner.now)
        };
        let verdict = match &violation {
            None => Verdict::Pass,
            Some((checker, ..)) if checker == "out-of-time" => Verdict::OutOfTime,
            Some(_) => Verdict::Fail,
        };
        let failure = violation.as_ref().map(|(_, what, at)| {
            let (seconds, micros) = (at / 1_000_000_000, at % 1_000_000_000 / 1_000);
            format!("at {seconds}.{micros:06} s: {what}")
        });
        ArmReport {
            arm: "shell".to_owned(),
            runtime: R::NAME.to_owned(),
            scenario: prepared.spec.scenario.name.clone(),
            seed: prepared.seed,
            verdict,
            checker: violation.map(|(checker, ..)| checker),
            failure,
            digest: self.bed.digest(),
            unable: unable(&self.bed.scenario),
            history: self.flows.history(),
            metrics,
            simulated_ms: now / 1_000_000,
        }
    }
}

/// Whether this arm can do everything a scenario asks for, bounds aside: those are the world's.
#[must_use]
pub fn is_able(scenario: &Scenario) -> bool {
    scenario.expect_fail.is_none() && unable(scenario).iter().all(|what| what.starts_with('['))
}

/// Switches a planted bug on for this process, or all off.
///
/// # Errors
/// This build has none, or none of that name.
#[cfg(net_mutants)]
pub fn switch(mutant: Option<&str>) -> Result<(), String> {
    use net_kernel::base::mutant::{Mutant, choose};
    let named = |name: &str| {
        let found = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
        found.ok_or_else(|| format!("there is no planted bug `{name}`"))
    };
    choose(mutant.map(named).transpose()?);
    Ok(())
}

/// Switches a planted bug on for this process, or all off.
///
/// # Errors
/// This build has none.
#[cfg(not(net_mutants))]
pub fn switch(mutant: Option<&str>) -> Result<(), String> {
    match mutant {
        None => Ok(()),
        Some(name) => Err(format!(
            "`{name}`: this program was built without planted bugs (--cfg net_mutants)"
        )),
    }
}
