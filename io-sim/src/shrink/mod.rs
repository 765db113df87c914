//! Shrinking a failure to its core: the smallest scenario that still fails the same way.
//!
//! | file | role |
//! |---|---|
//! | `parts.rs` | what can be taken out |
//! | `chances.rs` | probabilities to lists of the datagrams they struck |
//! | `magnitude.rs` | smaller and rounder values |
//! | `trial.rs` | whether a candidate still fails, many at once |
//! | `words.rs` | what happens, in words |
//!
//! Delta debugging over a resolved scenario: halves, quarters, .. single parts are taken out while the rest fails with the same
//! [`Signature`]; then what stays is made smaller; again from the start until nothing more can be done or the time is over.
//! Since every decision is keyed by what it is about, taking one thing out leaves the others as they were.
//! Invariants: what is answered fails with the signature asked for, three times with one digest; a scenario only ever
//! becomes smaller.
//! Not here: commands and files (`cli/shrink.rs`).

mod chances;
mod magnitude;
mod parts;
mod trial;
mod words;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use toml::{Table, Value};

use crate::host::Host;
use crate::run::{self, EVENT_LIMIT, Report, Spec, Verdict};
use crate::scenario::{Scenario, WorkloadKind, resolve};
use crate::signature::{Signature, seen_at};
use parts::Part;
use trial::Trial;

pub use trial::Reference;
pub use words::describe;

/// How a search is made.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Candidates tried at once.
    pub jobs: usize,
    /// How long it may take; the best so far is answered then.
    pub time: Duration,
    /// Switches the fault that is looked for off and on again, where the tested program lets it: what fails without it, too,
    /// is another failure. A run that is given and fails without it is shrunk all the same, without this test.
    pub reference: Option<Reference<'a>>,
}

/// How big a failing run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Size {
    /// Machines.
    pub nodes: u64,
    /// Faults, adversaries, impairments of links, and datagrams with an explicit fate, each counted once.
    pub faults: u64,
    /// Turns of all processes.
    pub events: u64,
    /// Simulated time, ms.
    pub simulated_ms: u64,
}

/// A failure's core.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The resolved scenario.
    pub text: String,
    /// Its run, with the last events.
    pub report: Report,
    /// What happened in it, line by line up to the violation, without what every run is full of.
    pub story: Vec<String>,
    /// What stayed the same.
    pub signature: Signature,
    /// The run that was given.
    pub before: Size,
    /// The run that was found.
    pub after: Size,
    /// Runs made.
    pub runs: u64,
    /// Time taken.
    pub took: Duration,
    /// Whether nothing more could be done; otherwise the time was over.
    pub finished: bool,
}

/// Why there is nothing to shrink.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The scenario cannot be read.
    Unreadable(String),
    /// The run does not fail.
    Passes(Box<Report>),
    /// Two of its runs differ.
    Unstable(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(what) => f.write_str(what),
            Self::Passes(report) => write!(
                f,
                "{}: seed {} passes, so there is nothing to shrink: name the seed that fails (--seed), and the options it \
                 failed under (--aead, --mutant)",
                report.file, report.seed
            ),
            Self::Unstable(what) => write!(
                f,
                "{what}: the run is not deterministic, and what changes cannot be shrunk; `netsim run --twice` shows it"
            ),
        }
    }
}

/// Told now and then how far a search is: where it is, how big the best is, runs made.
pub type Progress<'a> = &'a mut dyn FnMut(&str, Size, u64);

/// Shrinks the failure of `spec` under `seed`.
///
/// # Errors
/// Where it cannot be read, does not fail, or fails differently each time.
pub fn shrink<H: Host>(
    spec: &Spec,
    seed: u64,
    options: Options<'_>,
    progress: Progress<'_>,
) -> Result<Shrunk, Refusal> {
    let began = Instant::now();
    let unreadable = |what: String| Refusal::Unreadable(what);
    let text = resolve(&spec.file, &spec.text, seed).map_err(|error| unreadable(error.to_string()))?;
    let doc: Table = text
        .parse()
        .map_err(|error: toml::de::Error| unreadable(error.to_string()))?;
    let literal = Spec::new(spec.file.clone(), text).map_err(|error| unreadable(error.to_string()))?;
    let report = run::run_briefly::<H>(&literal, seed, EVENT_LIMIT);
    let Some(want) = Signature::of(&report) else {
        return Err(Refusal::Passes(Box::new(report)));
    };
    if report.verdict == Verdict::Harness {
        return Err(Refusal::Unreadable(report.failure.unwrap_or_default()));
    }
    let before = size(&doc, &report);
    let mut search = Search {
        trial: Trial {
            run: run::run_briefly::<H>,
            file: spec.file.clone(),
            seed,
            patient: false,
            reference: options.reference,
            switch: RwLock::new(()),
            want,
            limit: EVENT_LIMIT.min(report.turns.saturating_mul(20) + 200_000),
            jobs: options.jobs.max(1),
            ends: began + options.time,
            runs: AtomicU64::new(1),
            known: Mutex::new(BTreeMap::new()),
        },
        best: doc,
        size: before,
        progress,
    };
    search.be_patient();
    search.refer();
    let finished = search.go::<H>(&report);
    let (best, runs) = (search.best, search.trial.runs.load(Ordering::Relaxed));
    let text = toml::to_string(&best).map_err(|error| unreadable(error.to_string()))?;
    let small = Spec::new(spec.file.clone(), text.clone()).map_err(|error| unreadable(error.to_string()))?;
    let (report, story) = verified::<H>(&small, seed, &search.trial.want)?;
    Ok(Shrunk {
        story,
        after: size(&best, &report),
        text,
        report,
        signature: search.trial.want,
        before,
        runs: runs + 4,
        took: began.elapsed(),
        finished,
    })
}

/// The scenario of `spec` under `seed` with the datagrams that chances of links struck listed in place of the
/// probabilities: the same run.
///
/// # Errors
/// Where the scenario cannot be read.
pub fn explicit<H: Host>(spec: &Spec, seed: u64) -> Result<String, String> {
    let text = resolve(&spec.file, &spec.text, seed).map_err(|error| error.to_string())?;
    let doc: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let literal = Spec::new(spec.file.clone(), text).map_err(|error| error.to_string())?;
    let (_, fates) = run::run_fates::<H>(&literal, seed);
    toml::to_string(&chances::listed(&doc, &fates)).map_err(|error| error.to_string())
}

/// Entries of the record of the result's run from which its story is taken.
const RECORD: usize = 1_000_000;

/// Runs the result three times (the last with its record): one digest, one signature.
fn verified<H: Host>(spec: &Spec, seed: u64, want: &Signature) -> Result<(Report, Vec<String>), Refusal> {
    let mut runs: Vec<Report> = (0..2).map(|_| run::run_briefly::<H>(spec, seed, EVENT_LIMIT)).collect();
    let (last, history) = run::run_recorded::<H>(spec, seed, RECORD, false);
    runs.push(last);
    for report in &runs {
        let same = Signature::of(report).is_some_and(|signature| want.covers(&signature));
        if !same || report.digest != runs[0].digest {
            return Err(Refusal::Unstable(spec.file.clone()));
        }
    }
    let story = history.as_ref().map_or_else(Vec::new, words::story);
    let last = runs.pop().ok_or_else(|| Refusal::Unstable(spec.file.clone()))?;
    Ok((last, story))
}

/// How big a scenario and its run are.
fn size(doc: &Table, report: &Report) -> Size {
    Size {
        nodes: parts::node_names(doc).len() as u64,
        faults: faults(doc),
        events: report.turns,
        simulated_ms: report.simulated_ms,
    }
}

fn faults(doc: &Table) -> u64 {
    let entries = parts::entries(doc, &["fault", "adversary"]).len() + parts::fates(doc).len();
    let topology = doc.get("topology");
    let links = topology
        .and_then(|topology| topology.get("link"))
        .and_then(Value::as_array);
    let default = topology.and_then(|topology| topology.get("default_link"));
    let links = links.into_iter().flatten().chain(default);
    let impaired = links.flat_map(|link| parts::IMPAIRMENTS.iter().filter(move |key| link.get(**key).is_some()));
    (entries + impaired.count()) as u64
}

struct Search<'a> {
    trial: Trial<'a>,
    best: Table,
    size: Size,
    progress: Progress<'a>,
}

/// Datagrams that may stand in place of a chance: a person keeps an overview of so many.
const FEW: u64 = 8;

/// Rounds after which a search ends even if the last one still found something.
const ROUNDS: usize = 8;

impl Search<'_> {
    /// Liveness failures are held to more time, where the failure itself stands it: what is merely slow is not stuck.
    fn be_patient(&mut self) {
        if self.trial.want.checker == "liveness" && trial::patient(&self.best).is_some() {
            self.trial.patient = true;
            if !self.trial.fails(&self.best) {
                self.trial.patient = false;
                self.trial.known = Mutex::new(BTreeMap::new());
            }
        }
    }

    /// Drops the test against the program without the fault where the failure itself does not stand it.
    fn refer(&mut self) {
        if self.trial.reference.is_some() && !self.trial.fails(&self.best) {
            self.trial.reference = None;
            self.trial.known = Mutex::new(BTreeMap::new());
        }
    }

    /// Answers whether it came to its end before its time did.
    fn go<H: Host>(&mut self, report: &Report) -> bool {
        self.literal();
        // Bounds on what happens would keep alive what happens for them alone.
        self.take_out("expectations", &parts::expectations);
        if self.counted() {
            return true;
        }
        self.cut(report);
        for _ in 0..ROUNDS {
            let before = self.best.clone();
            self.take_out("faults and adversaries", &|doc| {
                parts::entries(doc, &["fault", "adversary"])
            });
            self.take_out("workloads", &|doc| parts::entries(doc, &["workload"]));
            self.take_out("nodes", &parts::nodes);
            self.take_out("links", &parts::links);
            self.hurry();
            self.lower("magnitudes");
            self.list_chances::<H>();
            self.take_out("options", &parts::options);
            if self.best == before || self.trial.over() {
                break;
            }
        }
        self.plain();
        !self.trial.over()
    }

    /// Takes the numbers of machines out again where they follow from their places.
    fn plain(&mut self) {
        let mut doc = self.best.clone();
        let nodes = doc.get_mut("topology").and_then(|topology| topology.get_mut("nodes"));
        let nodes = nodes.and_then(Value::as_array_mut).into_iter().flatten();
        for (place, node) in nodes.enumerate() {
            let own = node.get("number").and_then(Value::as_integer);
            if let Value::Table(node) = node
                && own == i64::try_from(place).ok()
            {
                node.remove("number");
            }
        }
        // A number that is missing follows from the place, and nothing else: this is the same scenario.
        self.best = doc;
    }

    /// Whether the failure is that something did not happen often enough, and nothing tells that from a scenario in which it
    /// could not happen at all: then what is meant to make it happen must stay.
    fn counted(&self) -> bool {
        let want = &self.trial.want;
        let seldom = want.clauses.iter().any(|clause| clause.contains(", at least "));
        self.trial.reference.is_none() && want.checker == "expect" && seldom
    }

    fn accept(&mut self, doc: Table, what: &str) {
        self.best = doc;
        self.size.nodes = parts::node_names(&self.best).len() as u64;
        self.size.faults = faults(&self.best);
        (self.progress)(what, self.size, self.trial.runs.load(Ordering::Relaxed));
    }

    /// Takes the candidate where it fails as it should.
    fn attempt(&mut self, doc: Option<Table>, what: &str) -> bool {
        match doc {
            Some(doc) if doc != self.best && self.trial.fails(&doc) => {
                self.accept(doc, what);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Writes down what follows from other values, so that these can change: counts of messages that follow from the
    /// duration, and the numbers of machines that follow from their places.
    fn literal(&mut self) {
        let Ok(text) = toml::to_string(&self.best) else { return };
        let Ok(scenario) = Scenario::parse(&self.trial.file, &text) else {
            return;
        };
        let mut doc = self.best.clone();
        let workloads = doc
            .get_mut("workload")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for (entry, workload) in workloads.zip(&scenario.workloads) {
            let count = match &workload.kind {
                WorkloadKind::Stream(stream) => stream.count,
                WorkloadKind::Echo { count, .. } | WorkloadKind::Rekey { count, .. } => *count,
                WorkloadKind::File(_) | WorkloadKind::Connect | WorkloadKind::Close => continue,
            };
            if let (Value::Table(entry), Ok(count)) = (entry, i64::try_from(count)) {
                entry.insert("count".to_owned(), Value::Integer(count));
            }
        }
        let nodes = doc.get_mut("topology").and_then(|topology| topology.get_mut("nodes"));
        let nodes = nodes.and_then(Value::as_array_mut).into_iter().flatten();
        for (entry, node) in nodes.zip(&scenario.nodes) {
            if let Value::Table(entry) = entry {
                entry.insert("number".to_owned(), Value::Integer(i64::from(node.number)));
            }
        }
        if self.trial.fails(&doc) {
            self.best = doc;
        }
    }

    /// Ends the scenario where the failure was seen.
    fn cut(&mut self, report: &Report) {
        let Some(at) = seen_at(report) else { return };
        let ms = at / 1_000_000 + 1;
        let mut doc = self.best.clone();
        let now = doc.get("duration").and_then(Value::as_str);
        let now = now.and_then(|text| crate::scenario::duration(text).ok()).unwrap_or(0);
        if ms * 1_000_000 < now {
            doc.insert("duration".to_owned(), Value::String(format!("{ms}ms")));
            self.attempt(Some(doc), "duration");
        }
    }

    /// Takes out as many parts as possible: all of them, halves, quarters, .. single ones.
    fn take_out(&mut self, what: &str, find: &dyn Fn(&Table) -> Vec<Part>) {
        let (base, all) = (self.best.clone(), find(&self.best));
        let mut keep = vec![true; all.len()];
        let mut chunk = all.len();
        while chunk > 0 && !self.trial.over() {
            let mut from = 0;
            loop {
                let alive: Vec<usize> = (0..all.len()).filter(|&part| keep[part]).collect();
                let chunks: Vec<&[usize]> = alive.chunks(chunk).skip(from).collect();
                let without = |index: usize| {
                    let mut keep = keep.clone();
                    chunks[index].iter().for_each(|&part| keep[part] = false);
                    parts::without(&base, &all, &keep)
                };
                let Some((index, doc)) = self.trial.first(chunks.len(), &without) else {
                    break;
                };
                chunks[index].iter().for_each(|&part| keep[part] = false);
                from += index;
                self.accept(doc, what);
            }
            chunk /= 2;
        }
    }

    /// Lists the datagrams that chances struck in their place and takes off the list what is not needed, unless more than a
    /// few are left: then the chances are easier to understand.
    fn list_chances<H: Host>(&mut self) {
        if !chances::any(&self.best) || self.trial.over() {
            return;
        }
        let before = (self.best.clone(), self.size);
        let text = toml::to_string(&self.best).unwrap_or_default();
        let Ok(spec) = Spec::new(self.trial.file.clone(), text) else {
            return;
        };
        let (_, fates) = run::run_fates::<H>(&spec, self.trial.seed);
        if !self.attempt(Some(chances::listed(&self.best, &fates)), "chances to lists") {
            return;
        }
        self.take_out("fates", &|doc| parts::entries(doc, &["fate"]));
        self.take_out("datagrams", &parts::fates);
        if self.size.faults > before.1.faults.max(FEW) {
            (self.best, self.size) = before;
        }
    }

    /// Lets everything happen faster and earlier.
    fn hurry(&mut self) {
        for _ in 0..16 {
            let by = magnitude::first_moment(&self.best);
            let sooner = by.map(|by| magnitude::earlier(&self.best, by));
            let fast = Some(magnitude::faster(&self.best, 1, 2));
            if !self.attempt(fast, "times") && !self.attempt(sooner, "times") {
                return;
            }
        }
    }

    /// Lowers every value as far as it goes.
    fn lower(&mut self, what: &str) {
        for place in magnitude::places(&self.best) {
            loop {
                let candidates = magnitude::lower(&self.best, &place);
                let found = self
                    .trial
                    .first(candidates.len(), &|index| candidates.get(index).cloned());
                match found {
                    Some((_, doc)) if doc != self.best => self.accept(doc, what),
                    Some(_) | None => break,
                }
                if self.trial.over() {
                    return;
                }
            }
        }
    }
}
