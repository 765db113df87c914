//! Many runs from a test: scenarios, seeds, one's own checkers, and a failure that says how to see it again.
//!
//! ```
//! use net_io_sim::kernel::ClearKernel;
//! use net_io_sim::run::Spec;
//! use net_io_sim::suite::Suite;
//!
//! let spec = Spec::new("two.toml", r#"
//!     schema = 1
//!     name = "two"
//!     duration = "5s"
//!     [topology]
//!     nodes = [ { id = "a" }, { id = "b" } ]
//!     default_link = { delay = ["1ms", "50ms"], loss = [0.0, 0.2] }
//!     [[workload]]
//!     kind = "stream"
//!     from = "a"
//!     to = "b"
//!     count = 20
//!     [liveness]
//!     within = "10s"
//! "#)?;
//! Suite::new([spec]).seeds(1..=5).run::<ClearKernel>().assert_passed();
//! # Ok::<(), net_io_sim::scenario::ScenarioError>(())
//! ```
//!
//! Invariants: reports come in the order of scenarios and seeds, whatever the number of jobs.
//! Not here: one run (`run.rs`), the command line (`cli/`).

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check::Checker;
use crate::host::Host;
use crate::run::{Report, Spec, Task, Verdict, run_tasks, run_twice_with, run_with};
use crate::scenario::{ended, resolve};
use crate::world::World;

/// Lines of a failing run's end that are printed.
const LINES: usize = 12;

type Make = Arc<dyn Fn() -> Box<dyn Checker> + Send + Sync>;

/// Scenarios to run, under which seeds, and with which checkers beside the standard ones.
#[derive(Clone)]
pub struct Suite {
    specs: Vec<Spec>,
    seeds: Option<RangeInclusive<u64>>,
    jobs: usize,
    twice: bool,
    checkers: Vec<Make>,
    artifacts: Option<PathBuf>,
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.specs.iter().map(|spec| &spec.scenario.name).collect();
        f.debug_struct("Suite")
            .field("specs", &names)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}

impl Suite {
    /// A suite of scenarios, each under the seed it carries (0 where it carries none), on all cores.
    pub fn new(specs: impl IntoIterator<Item = Spec>) -> Self {
        Self {
            specs: specs.into_iter().collect(),
            seeds: None,
            jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            twice: false,
            checkers: Vec::new(),
            artifacts: None,
        }
    }

    /// A suite of the scenario file at `path`, or of all `*.toml` in and below the folder there, by name.
    ///
    /// # Errors
    /// What cannot be read, or what is wrong in which line of which file; a folder without scenarios.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, String> {
        let mut files = Vec::new();
        collect(path.as_ref(), &mut files)?;
        let read = |file: &PathBuf| {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
            Spec::new(name, text).map_err(|error| error.to_string())
        };
        let specs: Vec<Spec> = files.iter().map(read).collect::<Result<_, _>>()?;
        if specs.is_empty() {
            return Err(format!("{}: no scenario (*.toml) found there", path.as_ref().display()));
        }
        Ok(Self::new(specs))
    }

    /// Runs every scenario under each of these seeds.
    #[must_use]
    pub fn seeds(mut self, seeds: RangeInclusive<u64>) -> Self {
        self.seeds = Some(seeds);
        self
    }

    /// Runs at once.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Runs every seed twice and fails where the two differ.
    #[must_use]
    pub const fn twice(mut self) -> Self {
        self.twice = true;
        self
    }

    /// Adds a checker; `make` makes a fresh one for each run.
    #[must_use]
    pub fn checker<C: Checker + 'static>(mut self, make: impl Fn() -> C + Send + Sync + 'static) -> Self {
        self.checkers.push(Arc::new(move || Box::new(make())));
        self
    }

    /// Writes the resolved scenario of every failing run into this folder.
    #[must_use]
    pub fn artifacts(mut self, folder: impl Into<PathBuf>) -> Self {
        self.artifacts = Some(folder.into());
        self
    }

    /// Runs everything.
    #[must_use]
    pub fn run<H: Host>(&self) -> Summary {
        let mut tasks = Vec::new();
        for (spec, read) in self.specs.iter().enumerate() {
            let one = read.scenario.seed.unwrap_or(0);
            let seeds = self.seeds.clone().unwrap_or(one..=one);
            tasks.extend(seeds.map(|seed| Task { spec, seed }));
        }
        let prepare = |world: &mut World<H>| {
            for make in &self.checkers {
                world.panel().add(make());
            }
        };
        let one = |task: &Task| {
            let spec = &self.specs[task.spec];
            if self.twice {
                run_twice_with::<H>(spec, task.seed, &prepare)
            } else {
                run_with::<H>(spec, task.seed, &prepare)
            }
        };
        let mut summary = Summary {
            reports: Vec::new(),
            files: Vec::new(),
        };
        run_tasks(&tasks, self.jobs, &one, |report| {
            if report.verdict != Verdict::Pass {
                summary.files.push(self.keep(&report));
            }
            summary.reports.push(report);
            true
        });
        summary
    }

    /// Where the resolved scenario of a failing run was written.
    fn keep(&self, report: &Report) -> Option<PathBuf> {
        let folder = self.artifacts.as_ref()?;
        let spec = self.specs.iter().find(|spec| spec.file == report.file)?;
        let text = resolve(&spec.file, &spec.text, report.seed).ok()?;
        let file = folder.join(format!("{}-{}.toml", report.scenario, report.seed));
        std::fs::create_dir_all(folder).ok()?;
        std::fs::write(&file, ended(&text)).ok()?;
        Some(file)
    }
}

/// What came of a suite.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Every run, in order.
    pub reports: Vec<Report>,
    /// Where the resolved scenarios of the failing ones are.
    files: Vec<Option<PathBuf>>,
}

impl Summary {
    /// Runs that did not pass.
    pub fn failures(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter().filter(|report| report.verdict != Verdict::Pass)
    }

    /// A counter over all runs, for example to assert that faults had an effect: `sum("link.loss") > 0`.
    #[must_use]
    pub fn sum(&self, counter: &str) -> u64 {
        self.reports
            .iter()
            .filter_map(|report| report.counters.get(counter))
            .sum()
    }

    /// # Panics
    /// Where a run did not pass, or none ran. The message tells of the first failure and how to see it again.
    pub fn assert_passed(&self) {
        assert!(!self.reports.is_empty(), "no run: the suite has no scenario or no seed");
        assert!(self.failures().next().is_none(), "{self}");
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures().count();
        writeln!(f, "{} runs, {failed} failed", self.reports.len())?;
        let Some(report) = self.failures().next() else {
            return Ok(());
        };
        let checker = report.checker.as_deref().unwrap_or("unknown");
        writeln!(f, "{} under seed {}: {checker}", report.scenario, report.seed)?;
        writeln!(f, "  {}", report.failure.as_deref().unwrap_or_default())?;
        for line in &report.log[report.log.len().saturating_sub(LINES)..] {
            writeln!(f, "  | {line}")?;
        }
        if let Some(Some(file)) = self.files.first() {
            writeln!(f, "  resolved scenario: {}", file.display())?;
        }
        write!(f, "  again: .seeds({0}..={0}) on {1}", report.seed, report.file)
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries: Result<Vec<_>, _> = std::fs::read_dir(path).map_err(named)?.collect();
    let mut entries: Vec<PathBuf> = entries.map_err(named)?.into_iter().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "toml") {
            collect(&entry, files)?;
        }
    }
    Ok(())
}
