//! Trying candidates: does a smaller scenario still fail the same way?
//!
//! Invariants: of several candidates the first in their order that fails is taken, however many are tried at once, so a
//! search that is not cut short by its time comes to the same result with any number of threads.
//! Not here: which candidates there are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Instant;

use toml::{Table, Value};

use crate::run::{Report, Spec, Verdict};
use crate::scenario::duration;
use crate::signature::Signature;

/// Runs a specification under a seed, for so many events at most.
pub(super) type Runner = fn(&Spec, u64, u64) -> Report;

/// Switches a fault of the tested program itself on or off.
pub type Reference<'a> = &'a (dyn Fn(bool) + Sync);

/// What candidates are measured against.
pub(super) struct Trial<'a> {
    /// How a candidate is run.
    pub run: Runner,
    /// Its name in messages.
    pub file: String,
    /// The seed.
    pub seed: u64,
    /// The failure that must stay.
    pub want: Signature,
    /// Switches the fault that is looked for on and off, where that can be done: a candidate must pass without it.
    pub reference: Option<Reference<'a>>,
    /// Held for reading while the fault is on, for writing while it is off.
    pub switch: RwLock<()>,
    /// Whether a candidate must also fail when it is given much more time: what is only slow is not stuck.
    pub patient: bool,
    /// Events after which a candidate is given up.
    pub limit: u64,
    /// Candidates tried at once.
    pub jobs: usize,
    /// When the search ends.
    pub ends: Instant,
    /// Runs made.
    pub runs: AtomicU64,
    /// What is known of candidates, by the hash of their text.
    pub known: Mutex<BTreeMap<[u8; 32], bool>>,
}

/// How much longer a patient trial waits.
const PATIENCE: u64 = 4;

impl Trial<'_> {
    /// Whether the time is over.
    pub fn over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// Whether `candidate` fails as it should.
    pub fn fails(&self, candidate: &Table) -> bool {
        let Ok(text) = toml::to_string(candidate) else {
            return false;
        };
        let hash = *blake3::hash(text.as_bytes()).as_bytes();
        if let Some(known) = self.known.lock().ok().and_then(|known| known.get(&hash).copied()) {
            return known;
        }
        if self.over() {
            return false;
        }
        let fails = self.same(text.clone())
            && (!self.patient || self.same_in_the_long_run(candidate))
            && self.passes_without(text);
        if let Ok(mut known) = self.known.lock() {
            known.insert(hash, fails);
        }
        fails
    }

    fn same(&self, text: String) -> bool {
        let Ok(spec) = Spec::new(self.file.clone(), text) else {
            return false;
        };
        self.runs.fetch_add(1, Ordering::Relaxed);
        let on = self.switch.read();
        let report = (self.run)(&spec, self.seed, self.limit);
        drop(on);
        Signature::of(&report).is_some_and(|signature| self.want.covers(&signature))
    }

    fn passes_without(&self, text: String) -> bool {
        let Some(reference) = self.reference else { return true };
        let Ok(spec) = Spec::new(self.file.clone(), text) else {
            return false;
        };
        self.runs.fetch_add(1, Ordering::Relaxed);
        let off = self.switch.write();
        reference(false);
        let report = (self.run)(&spec, self.seed, self.limit);
        reference(true);
        drop(off);
        report.verdict == Verdict::Pass
    }

    fn same_in_the_long_run(&self, candidate: &Table) -> bool {
        patient(candidate)
            .and_then(|longer| toml::to_string(&longer).ok())
            .is_some_and(|text| self.same(text))
    }

    /// The first of `count` candidates that fails as it should. A candidate that cannot be made is passed over.
    pub fn first(&self, count: usize, make: &(dyn Fn(usize) -> Option<Table> + Sync)) -> Option<(usize, Table)> {
        let (next, best) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let found = Mutex::new(BTreeMap::new());
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count || index > best.load(Ordering::Relaxed) || self.over() {
                    return;
                }
                if let Some(candidate) = make(index)
                    && self.fails(&candidate)
                {
                    best.fetch_min(index, Ordering::Relaxed);
                    if let Ok(mut found) = found.lock() {
                        found.insert(index, candidate);
                    }
                }
            }
        };
        let helpers = self.jobs.min(count).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(work);
            }
            work();
        });
        found.into_inner().ok()?.pop_first()
    }
}

/// The same with more time for what must come to an end.
pub(super) fn patient(candidate: &Table) -> Option<Table> {
    let mut longer = candidate.clone();
    let liveness = longer.get_mut("liveness")?.as_table_mut()?;
    let within = duration(liveness.get("within")?.as_str()?).ok()?;
    let within = within.saturating_mul(PATIENCE).saturating_add(60_000_000_000);
    liveness.insert("within".to_owned(), Value::String(format!("{within}ns")));
    Some(longer)
}
