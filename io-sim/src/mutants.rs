//! How long the suite takes to find a bug: runs until a checker fails, over many trials.
//!
//! A run is one scenario under one seed. All runs stand in one line: seed by seed, each over the whole suite in an order
//! drawn for that seed, so that no scenario is always asked first. A trial begins somewhere on the line and goes on until a
//! run fails. As a run always ends the same way, trials that overlap share their runs.
//! Invariants: a trial is a function of the suite and its first seed, whatever runs beside it.
//! Not here: which bugs there are (`net_base::mutant`), the command (`cli/mutants.rs`).

use std::collections::BTreeMap;

use net_sim_model::Key;
use serde::Serialize;

use crate::host::Host;
use crate::run::{Spec, Verdict, run_briefly};

/// A run of more events than this counts as out of time: healthy runs of the suite end long before.
pub const EVENT_LIMIT: u64 = 20_000_000;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// The first trial's first seed.
    pub first_seed: u64,
    /// How many seeds lie between the beginnings of two trials.
    pub apart: u64,
    /// How many trials.
    pub trials: u64,
    /// A trial without a failure in this many runs has not found anything.
    pub runs: u64,
    /// Runs at once.
    pub jobs: usize,
}

/// What a trial found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Find {
    /// The checker that failed.
    pub checker: String,
    /// In which scenario.
    pub scenario: String,
    /// The scenario's file.
    pub file: String,
    /// Under which seed.
    pub seed: u64,
    /// What the checker saw.
    pub failure: String,
}

/// One trial.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Trial {
    /// The seed it began at.
    pub first_seed: u64,
    /// Runs made, the failing one included.
    pub runs: u64,
    /// The failure, if there was one.
    pub find: Option<Find>,
}

/// What all trials came to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Summary {
    /// Trials made.
    pub trials: u64,
    /// Of these, such that found it.
    pub found: u64,
    /// Runs of all trials.
    pub runs: u64,
    /// Runs to find it, over the trials, those that found nothing counted as longer than all others: smallest, first
    /// quartile, median, third quartile, largest. `None` where that many did not find it.
    pub spread: [Option<u64>; 5],
    /// Which checker failed how often.
    pub killed_by: BTreeMap<String, u64>,
    /// In which scenario how often.
    pub scenarios: BTreeMap<String, u64>,
}

impl Summary {
    /// Sums up trials.
    #[must_use]
    pub fn of(trials: &[Trial]) -> Self {
        let mut runs: Vec<Option<u64>> = trials
            .iter()
            .map(|trial| trial.find.as_ref().map(|_| trial.runs))
            .collect();
        runs.sort_by_key(|runs| runs.unwrap_or(u64::MAX));
        // The smallest number of which at least so many of four trials needed no more.
        let at = |quarter: usize| {
            runs.get((runs.len() * quarter).div_ceil(4).max(1) - 1)
                .copied()
                .flatten()
        };
        let mut summary = Self {
            trials: trials.len() as u64,
            runs: trials.iter().map(|trial| trial.runs).sum(),
            spread: [runs.first().copied().flatten(), at(1), at(2), at(3), at(4)],
            ..Self::default()
        };
        for find in trials.iter().filter_map(|trial| trial.find.as_ref()) {
            summary.found += 1;
            *summary.killed_by.entry(find.checker.clone()).or_default() += 1;
            *summary.scenarios.entry(find.scenario.clone()).or_default() += 1;
        }
        summary
    }

    /// The median of runs to find it.
    #[must_use]
    pub const fn median(&self) -> Option<u64> {
        self.spread[2]
    }
}

/// Makes all trials and tells `each` of every one. `switch` turns the bug off and on: a run that fails without it as well
/// has found something, but not this bug, and is passed over.
pub fn hunt<H: Host>(specs: &[Spec], hunt: &Hunt, switch: &dyn Fn(bool), mut each: impl FnMut(&Trial)) -> Vec<Trial> {
    let mut line = Line::<H>::new(specs, hunt);
    let mut trials = Vec::new();
    for number in 0..hunt.trials {
        let skipped = number * hunt.apart;
        let from = skipped as usize * specs.len();
        let mut trial = Trial {
            first_seed: hunt.first_seed + skipped,
            runs: 0,
            find: None,
        };
        while trial.runs < hunt.runs && trial.find.is_none() {
            trial.find = line.run(from + trial.runs as usize, switch);
            trial.runs += 1;
        }
        each(&trial);
        trials.push(trial);
    }
    trials
}

/// The line of runs, as far as they were made.
struct Line<'a, H> {
    specs: &'a [Spec],
    first_seed: u64,
    jobs: usize,
    made: BTreeMap<usize, Option<Find>>,
    host: std::marker::PhantomData<fn() -> H>,
}

impl<'a, H: Host> Line<'a, H> {
    fn new(specs: &'a [Spec], hunt: &Hunt) -> Self {
        Self {
            specs,
            first_seed: hunt.first_seed,
            jobs: hunt.jobs.max(1),
            made: BTreeMap::new(),
            host: std::marker::PhantomData,
        }
    }

    /// The run at `place`, made now if it was not before; with several jobs those behind it are made as well.
    fn run(&mut self, place: usize, switch: &dyn Fn(bool)) -> Option<Find> {
        if let Some(made) = self.made.get(&place) {
            return made.clone();
        }
        let places: Vec<usize> = (place..place + self.jobs)
            .filter(|place| !self.made.contains_key(place))
            .collect();
        let this = &*self;
        let made: Vec<Option<Find>> = std::thread::scope(|scope| {
            let running: Vec<_> = places
                .iter()
                .map(|&place| scope.spawn(move || this.make(place)))
                .collect();
            let ends = running
                .into_iter()
                .map(|thread| thread.join().expect("a run catches its panics"));
            ends.collect()
        });
        // No run is under way here, so the bug may be switched.
        for (place, find) in places.into_iter().zip(made) {
            let blamed = find.filter(|_| {
                switch(false);
                let (spec, seed) = self.at(place);
                let healthy = run_briefly::<H>(spec, seed, EVENT_LIMIT).verdict == Verdict::Pass;
                switch(true);
                healthy
            });
            self.made.insert(place, blamed);
        }
        self.made.get(&place).cloned().flatten()
    }

    /// What stands at `place`.
    fn at(&self, place: usize) -> (&'a Spec, u64) {
        let (seed, index) = (
            self.first_seed + (place / self.specs.len()) as u64,
            place % self.specs.len(),
        );
        (&self.specs[order(self.specs.len(), seed)[index]], seed)
    }

    fn make(&self, place: usize) -> Option<Find> {
        let (spec, seed) = self.at(place);
        let report = run_briefly::<H>(spec, seed, EVENT_LIMIT);
        matches!(report.verdict, Verdict::Fail | Verdict::OutOfTime).then(|| Find {
            checker: report.checker.unwrap_or_default(),
            scenario: report.scenario,
            file: report.file,
            seed,
            failure: report.failure.unwrap_or_default(),
        })
    }
}

/// The numbers below `count` in an order drawn for a seed.
fn order(count: usize, seed: u64) -> Vec<usize> {
    let key = Key::new(seed).with_text("order of the suite");
    let mut all: Vec<usize> = (0..count).collect();
    all.sort_by_key(|&index| key.at(index as u64));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(runs: u64, found: bool) -> Trial {
        let find = found.then(|| Find {
            checker: "liveness".to_owned(),
            scenario: "swarm".to_owned(),
            file: "swarm.toml".to_owned(),
            seed: 1,
            failure: "stuck".to_owned(),
        });
        Trial {
            first_seed: 1,
            runs,
            find,
        }
    }

    #[test]
    fn the_spread_of_trials_counts_those_that_found_nothing_as_the_longest() {
        let all: Vec<Trial> = [40, 10, 30, 20].map(|runs| trial(runs, true)).to_vec();
        let summary = Summary::of(&all);
        assert_eq!(summary.spread, [Some(10), Some(10), Some(20), Some(30), Some(40)]);
        assert_eq!((summary.found, summary.runs), (4, 100));
        let some: Vec<Trial> = [trial(7, true), trial(100, false), trial(100, false)].to_vec();
        let summary = Summary::of(&some);
        assert_eq!(summary.spread, [Some(7), Some(7), None, None, None]);
        assert_eq!(summary.killed_by.get("liveness"), Some(&1));
        assert_eq!(Summary::of(&[]).spread, [None; 5]);
    }

    #[test]
    fn an_order_is_a_permutation_that_differs_between_seeds() {
        let (one, two) = (order(30, 1), order(30, 2));
        let mut sorted = one.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..30).collect::<Vec<_>>());
        assert_ne!(one, two);
        assert_eq!(one, order(30, 1));
    }
}
