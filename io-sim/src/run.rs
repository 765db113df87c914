//! Running a scenario under a seed, and many of them.
//!
//! Invariants: a run is made of its resolved text alone, so what is printed at a failure replays it; a panic inside a run
//! is a failed invariant of that run and ends no other.
//! Not here: command lines and printing (`cli.rs`).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use net_kernel::base::probe::{Hits, Probe};
use serde::{Deserialize, Serialize, Serializer};

use crate::check::{Shape, Violation};
use crate::history::History;
use crate::host::Host;
use crate::scenario::{Fate, Scenario, ScenarioError};
use crate::world::{Outcome, ProcessTrace, Secrets, World};

/// A run of this many events is out of time.
pub const EVENT_LIMIT: u64 = 200_000_000;
/// Entries of the history told about a failure.
const LOG: usize = 60;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything held that should.
    Pass,
    /// A checker failed.
    Fail,
    /// Two runs of one seed differed.
    NotDeterministic,
    /// The scenario or this program is at fault.
    Harness,
    /// It took more events than it may.
    OutOfTime,
}

impl Verdict {
    /// The exit code of the command (SIMULATION, "Commands").
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::NotDeterministic => 2,
            Self::Harness => 3,
            Self::OutOfTime => 4,
        }
    }
}

/// What is told about one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The file it was read from.
    pub file: String,
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// The digest of everything that happened, in hexadecimal.
    pub digest: String,
    /// The checker that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checker: Option<String>,
    /// What it saw, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Simulated time, ms.
    pub simulated_ms: u64,
    /// Turns of all processes.
    pub turns: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Everything that was counted or measured; times in ns.
    pub counters: BTreeMap<String, u64>,
    /// The probes that some process passed, by name.
    #[serde(serialize_with = "names")]
    pub probes: Hits,
    /// The last things that happened before a failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

fn names<S: Serializer>(probes: &Hits, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(probes.iter().map(Probe::name))
}

/// A scenario file, read.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name for messages and commands.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What it says, ranges at their low ends.
    pub scenario: Scenario,
    /// Hold every run that passes against one with other secrets, even where the scenario does not ask for it; unless
    /// somebody in it reads plaintext.
    pub same_shape: bool,
}

impl Spec {
    /// Reads and checks a specification.
    ///
    /// # Errors
    /// File, line, what is wrong.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Result<Self, ScenarioError> {
        let (file, text) = (file.into(), text.into());
        let scenario = Scenario::check(&file, &text)?;
        Ok(Self {
            file,
            text,
            scenario,
            same_shape: false,
        })
    }
}

/// Runs one seed.
#[must_use]
pub fn run<H: Host>(spec: &Spec, seed: u64) -> Report {
    let (report, _) = attempt::<H>(spec, seed, EVENT_LIMIT, None);
    if report.verdict == Verdict::Pass {
        return report;
    }
    // The same again with a record of what happens; recording changes nothing.
    attempt::<H>(spec, seed, EVENT_LIMIT, Some((LOG, false))).0
}

/// As [`run`], in a world that `prepare` changed before it began: one's own checkers are added to its panel.
#[must_use]
pub fn run_with<H: Host>(spec: &Spec, seed: u64, prepare: &dyn Fn(&mut World<H>)) -> Report {
    let (report, _) = attempt_with::<H>(spec, seed, EVENT_LIMIT, None, prepare);
    if report.verdict == Verdict::Pass {
        return report;
    }
    attempt_with::<H>(spec, seed, EVENT_LIMIT, Some((LOG, false)), prepare).0
}

/// Runs one seed, at most `events` events long and without a log: for counting failures rather than looking at them.
#[must_use]
pub fn run_briefly<H: Host>(spec: &Spec, seed: u64, events: u64) -> Report {
    attempt::<H>(spec, seed, events, None).0
}

/// Runs one seed and records what happens: the last `limit` entries, with the bytes of datagrams where `bytes` says so.
/// The report is that of [`run`]; there is no history where the scenario cannot be read.
#[must_use]
pub fn run_recorded<H: Host>(spec: &Spec, seed: u64, limit: usize, bytes: bool) -> (Report, Option<History>) {
    attempt::<H>(spec, seed, EVENT_LIMIT, Some((limit, bytes)))
}

/// Runs one seed and answers the chances of links that took effect, too: listed in place of the probabilities they give the
/// same run.
#[must_use]
pub fn run_fates<H: Host>(spec: &Spec, seed: u64) -> (Report, Vec<Fate>) {
    let scenario = match Scenario::resolved(&spec.file, &spec.text, seed) {
        Ok(scenario) => scenario,
        Err(error) => return (harness(spec, seed, error.to_string()), Vec::new()),
    };
    let expected = scenario.expect_fail.clone();
    let mut world = World::<H>::new(scenario, seed);
    world.limit(EVENT_LIMIT);
    world.keep_fates();
    let mut outcome = world.run();
    let fates = std::mem::take(&mut outcome.fates);
    (report(spec, seed, outcome, expected.as_deref(), None), fates)
}

/// Runs one seed twice and compares.
#[must_use]
pub fn run_twice<H: Host>(spec: &Spec, seed: u64) -> Report {
    compare(run::<H>(spec, seed), run::<H>(spec, seed))
}

/// As [`run_twice`], in worlds that `prepare` changed.
#[must_use]
pub fn run_twice_with<H: Host>(spec: &Spec, seed: u64, prepare: &dyn Fn(&mut World<H>)) -> Report {
    compare(run_with(spec, seed, prepare), run_with(spec, seed, prepare))
}

fn compare(first: Report, mut second: Report) -> Report {
    if first.digest != second.digest || first.counters != second.counters {
        second.verdict = Verdict::NotDeterministic;
        second.checker = Some("determinism".to_owned());
        let differing = first
            .counters
            .iter()
            .find(|(name, count)| second.counters.get(*name) != Some(count));
        let counter = differing.map_or_else(String::new, |(name, _)| format!(" (first differing counter: {name})"));
        second.failure = Some(format!(
            "digest {} at first, {} then{counter}",
            first.digest, second.digest
        ));
    }
    second
}

/// Runs one seed and keeps the first `limit` records of every process's trace.
///
/// # Errors
/// The scenario's. A panic inside the run passes through.
pub fn run_traced<H: Host>(spec: &Spec, seed: u64, limit: usize) -> Result<(Report, Vec<ProcessTrace>), String> {
    let scenario = Scenario::resolved(&spec.file, &spec.text, seed).map_err(|error| error.to_string())?;
    let expected = scenario.expect_fail.clone();
    let mut world = World::<H>::new(scenario, seed);
    world.limit(EVENT_LIMIT);
    world.keep_traces(limit);
    let (outcome, processes) = world.run_traced();
    Ok((report(spec, seed, outcome, expected.as_deref(), None), processes))
}

fn attempt<H: Host>(spec: &Spec, seed: u64, events: u64, record: Option<(usize, bool)>) -> (Report, Option<History>) {
    attempt_with::<H>(spec, seed, events, record, &|_| {})
}

fn attempt_with<H: Host>(
    spec: &Spec,
    seed: u64,
    events: u64,
    record: Option<(usize, bool)>,
    prepare: &dyn Fn(&mut World<H>),
) -> (Report, Option<History>) {
    let scenario = match Scenario::resolved(&spec.file, &spec.text, seed) {
        Ok(scenario) => scenario,
        Err(error) => return (harness(spec, seed, error.to_string()), None),
    };
    let expected = scenario.expect_fail.clone();
    let live = |which, scenario: Scenario, shape: Option<(&Shape, bool)>| {
        catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::<H>::with_secrets(scenario, seed, which);
            world.limit(events);
            prepare(&mut world);
            if let Some((shape, judges)) = shape {
                let checker = if judges { shape.judge() } else { shape.keeper() };
                world.panel().add(Box::new(checker));
            }
            if let Some((limit, bytes)) = record {
                world.record_history(limit, bytes);
            }
            world.run()
        }))
    };
    let forced = spec.same_shape && !scenario.reads_plaintext();
    let outcome = if forced || scenario.same_shape {
        let shape = Shape::default();
        let first = live(Secrets::Usual, scenario.clone(), Some((&shape, false)));
        match first {
            Ok(outcome) if outcome.violation.is_none() => {
                let other = live(Secrets::Other, scenario, Some((&shape, true)));
                other.map(|other| differing(outcome, other))
            }
            failed => failed,
        }
    } else {
        live(Secrets::Usual, scenario, None)
    };
    match outcome {
        Ok(mut outcome) => {
            let history = outcome.history.take();
            let report = report(spec, seed, outcome, expected.as_deref(), history.as_ref());
            (report, history)
        }
        Err(panic) => {
            let mut report = harness(spec, seed, crate::world::words(&*panic));
            report.verdict = Verdict::Fail;
            report.checker = Some("invariant".to_owned());
            (report, None)
        }
    }
}

/// What came of two runs with different secrets, of which the first held: that one, unless the other ended otherwise.
fn differing(first: Outcome, mut other: Outcome) -> Outcome {
    let Some(violation) = other.violation.take() else {
        return first;
    };
    other.violation = Some(if violation.checker == "same-shape" {
        violation
    } else {
        let Violation { checker, what, at } = violation;
        Violation {
            checker: "same-shape".to_owned(),
            what: format!("with other payloads, identities and keys `{checker}` fails: {what}"),
            at,
        }
    });
    other
}

fn harness(spec: &Spec, seed: u64, failure: String) -> Report {
    Report {
        scenario: spec.scenario.name.clone(),
        file: spec.file.clone(),
        seed,
        verdict: Verdict::Harness,
        digest: String::new(),
        checker: Some("harness".to_owned()),
        failure: Some(failure),
        simulated_ms: 0,
        turns: 0,
        datagrams: 0,
        counters: BTreeMap::new(),
        probes: Hits::default(),
        log: Vec::new(),
    }
}

pub(crate) fn report(
    spec: &Spec,
    seed: u64,
    outcome: Outcome,
    expected: Option<&str>,
    history: Option<&History>,
) -> Report {
    let violation = judge(outcome.violation, expected, outcome.ended_at);
    let verdict = match &violation {
        None => Verdict::Pass,
        Some(violation) if violation.checker == "out-of-time" => Verdict::OutOfTime,
        Some(_) => Verdict::Fail,
    };
    let failure = violation.as_ref().map(|violation| {
        let at = violation.at;
        format!(
            "at {}.{:06} s: {}",
            at / 1_000_000_000,
            at % 1_000_000_000 / 1_000,
            violation.what
        )
    });
    Report {
        scenario: spec.scenario.name.clone(),
        file: spec.file.clone(),
        seed,
        verdict,
        digest: outcome.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        checker: violation.map(|violation| violation.checker),
        failure,
        simulated_ms: outcome.ended_at / 1_000_000,
        turns: outcome.turns,
        datagrams: outcome.accounts.sent,
        counters: outcome.counters,
        probes: outcome.probes,
        log: history
            .filter(|_| verdict != Verdict::Pass)
            .map_or_else(Vec::new, |history| history.last_lines(LOG)),
    }
}

/// A scenario may expect a certain checker to fail; then its silence is the failure.
fn judge(violation: Option<Violation>, expected: Option<&str>, at: u64) -> Option<Violation> {
    let Some(expected) = expected else { return violation };
    match violation {
        Some(violation) if expected.is_empty() || violation.checker == expected => None,
        Some(violation) => Some(violation),
        None => {
            let what = format!("the checker `{expected}` was expected to fail and did not");
            Some(Violation {
                checker: "expect".to_owned(),
                what,
                at,
            })
        }
    }
}

/// One run to be done: which specification, which seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Task {
    /// Index into the specifications.
    pub spec: usize,
    /// The seed.
    pub seed: u64,
}

/// Runs all tasks on `jobs` threads and tells `each` of every report, in the order of the tasks. `each` answers whether to
/// go on.
pub fn run_all<H: Host>(
    specs: &[Spec],
    tasks: &[Task],
    jobs: usize,
    twice: bool,
    mut each: impl FnMut(Report) -> bool,
) {
    let one = |task: &Task| {
        let spec = &specs[task.spec];
        if twice {
            run_twice::<H>(spec, task.seed)
        } else {
            run::<H>(spec, task.seed)
        }
    };
    run_tasks(tasks, jobs, &one, &mut each);
}

/// Runs all tasks with `one` on `jobs` threads, and tells `each` as [`run_all`] does.
pub(crate) fn run_tasks(
    tasks: &[Task],
    jobs: usize,
    one: &(dyn Fn(&Task) -> Report + Sync),
    mut each: impl FnMut(Report) -> bool,
) {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::sync_channel::<(usize, Report)>(jobs * 2);
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, tasks.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(task) = tasks.get(index) else { return };
                    if sender.send((index, one(task))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (index, report) in receiver {
            early.insert(index, report);
            while let Some(report) = early.remove(&due) {
                due += 1;
                if !each(report) {
                    return;
                }
            }
        }
    });
}
