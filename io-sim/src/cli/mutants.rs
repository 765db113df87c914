//! `netsim mutants` and `--mutant`: planted bugs, and how long the suite takes to find each.
//!
//! Invariants: a program built without `--cfg net_mutants` holds no bug and names none; asked for one it ends with the
//! exit code of a harness error.
//! Not here: where bugs are planted (the kernel), trials (`crate::mutants`).

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[cfg(not(net_mutants))]
use super::Trouble;

#[derive(Debug, Args)]
pub(super) struct Mutants {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List planted bugs.
    List {
        /// One JSON object per bug.
        #[arg(long)]
        json: bool,
    },
    /// Run the suite with each bug switched on until a checker fails.
    Hunt(HuntArgs),
    /// Find each bug once and shrink its failure to what fails with the bug and passes without it.
    Shrink(ShrinkArgs),
}

#[derive(Debug, Args)]
#[cfg_attr(
    not(net_mutants),
    allow(dead_code, reason = "a program without bugs refuses to hunt them")
)]
struct HuntArgs {
    /// Which bugs; default: all of the kernel.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Scenario files, or folders of them.
    #[arg(long = "suite", default_value = "scenarios", value_name = "FILE|DIR")]
    suite: Vec<PathBuf>,
    /// The first trial's first seed; trials go on seed by seed, each over the whole suite.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seeds between the beginnings of two trials; trials that overlap share their runs.
    #[arg(long, default_value_t = 4)]
    apart: u64,
    /// Trials per bug, each with its own first seed.
    #[arg(long, default_value_t = 30)]
    trials: u64,
    /// Runs after which a trial gives up. A run is one scenario under one seed.
    #[arg(long, default_value_t = 10_000)]
    runs: u64,
    /// Runs at once; default: one per core.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// One JSON object per bug.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// The table of docs/simulation.md.
    #[arg(long)]
    markdown: bool,
}

#[derive(Debug, Args)]
#[cfg_attr(
    not(net_mutants),
    allow(dead_code, reason = "a program without bugs refuses to shrink what they break")
)]
pub(super) struct ShrinkArgs {
    /// Which bugs; default: all that are not in the driver.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Scenario files, or folders of them.
    #[arg(long = "suite", default_value = "scenarios", value_name = "FILE|DIR")]
    pub suite: Vec<PathBuf>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Runs after which a bug counts as not found.
    #[arg(long, default_value_t = 10_000)]
    pub runs: u64,
    /// How long shrinking one failure may take.
    #[arg(long, default_value = "60s", value_parser = super::wall_time)]
    pub time: std::time::Duration,
    /// Runs at once; default: one per core.
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Leave the cores in this folder.
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// One JSON object per bug.
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// The table of docs/benchmarks.md.
    #[arg(long)]
    pub markdown: bool,
}

#[cfg(net_mutants)]
pub(super) use planted::{choose, command, switch};

#[cfg(not(net_mutants))]
const WITHOUT: &str = "this netsim was built without planted bugs; build it with RUSTFLAGS='--cfg net_mutants \
                       --cfg poly1305_backend=\"soft\"' and its own --target-dir";

/// Switches one bug on for the whole process.
#[cfg(not(net_mutants))]
pub(super) fn choose(_: &str) -> Result<(), Trouble> {
    Err(Trouble::Said(WITHOUT.to_owned()))
}

/// What switches the chosen bug off and on.
#[cfg(not(net_mutants))]
pub(super) fn switch() -> Option<Box<dyn Fn(bool) + Sync>> {
    None
}

#[cfg(not(net_mutants))]
pub(super) fn command(mutants: &Mutants) -> Result<u8, Trouble> {
    match mutants.what {
        What::List { .. } | What::Hunt(_) | What::Shrink(_) => Err(Trouble::Said(WITHOUT.to_owned())),
    }
}

#[cfg(net_mutants)]
mod planted {
    use std::io::{self, Write as _};
    use std::num::NonZeroUsize;
    use std::time::Instant;

    use net_kernel::base::mutant::{self, Mutant};

    use super::super::{Trouble, load};
    use super::{HuntArgs, Mutants, What};
    use crate::kernel::ClearKernel;
    use crate::mutants::{Hunt, Summary, Trial, hunt};

    /// Switches one bug on for the whole process.
    pub(in super::super) fn choose(name: &str) -> Result<(), Trouble> {
        mutant::choose(Some(named(name)?));
        Ok(())
    }

    /// What switches the chosen bug off and on.
    pub(in super::super) fn switch() -> Option<Box<dyn Fn(bool) + Sync>> {
        let mutant = named(&super::super::output::mutant()?).ok()?;
        Some(Box::new(move |on| mutant::choose(on.then_some(mutant))))
    }

    fn named(name: &str) -> Result<Mutant, Trouble> {
        let found = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
        found.copied().ok_or_else(|| {
            let what = format!("there is no planted bug `{name}`; `netsim mutants list` names them");
            Trouble::Said(what)
        })
    }

    pub(in super::super) fn command(mutants: &Mutants) -> Result<u8, Trouble> {
        match &mutants.what {
            What::List { json } => list(*json),
            What::Hunt(args) => all(args),
            What::Shrink(args) => super::super::cores::command(args, &chosen(&args.names)?),
        }
    }

    fn list(json: bool) -> Result<u8, Trouble> {
        let mut out = io::stdout().lock();
        for mutant in Mutant::ALL {
            if json {
                let line = serde_json::json!({ "mutant": mutant.name(), "wrong": mutant.wrong() });
                writeln!(out, "{line}")?;
            } else {
                writeln!(out, "{:<28} {}", mutant.name(), mutant.wrong())?;
            }
        }
        Ok(0)
    }

    fn chosen(names: &[String]) -> Result<Vec<Mutant>, Trouble> {
        if names.is_empty() {
            // Those in the driver are for the arms that have one.
            let ours = Mutant::ALL.iter().copied().filter(|mutant| !mutant.in_driver());
            return Ok(ours.collect());
        }
        names.iter().map(|name| named(name)).collect()
    }

    fn all(args: &HuntArgs) -> Result<u8, Trouble> {
        let chosen = chosen(&args.names)?;
        let specs = load(&args.suite)?;
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let wanted = Hunt {
            first_seed: args.seed,
            apart: args.apart,
            trials: args.trials,
            runs: args.runs,
            jobs: args.jobs.unwrap_or(cores).get(),
        };
        // A failed invariant is what is looked for; the default hook would only print each one.
        std::panic::set_hook(Box::new(|_| {}));
        let mut missed = 0;
        let mut teller = Teller::new(args)?;
        for mutant in chosen {
            mutant::choose(Some(mutant));
            teller.begin(mutant);
            let switch = |on: bool| mutant::choose(on.then_some(mutant));
            let trials = hunt::<ClearKernel>(&specs, &wanted, &switch, |trial| teller.progress(trial));
            let summary = Summary::of(&trials);
            missed += u64::from(summary.found == 0);
            teller.tell(mutant, &trials, &summary)?;
        }
        mutant::choose(None);
        let _ = std::panic::take_hook();
        Ok(u8::from(missed > 0))
    }

    /// Prints what was found, and how far the hunt is.
    struct Teller<'a> {
        args: &'a HuntArgs,
        name: &'static str,
        done: u64,
        began: Instant,
        told: Instant,
    }

    impl<'a> Teller<'a> {
        fn new(args: &'a HuntArgs) -> Result<Self, Trouble> {
            if args.markdown {
                let mut out = io::stdout().lock();
                writeln!(
                    out,
                    "| bug | what is wrong | runs: median | quartiles | most | trials | killed by |"
                )?;
                writeln!(out, "|---|---|---|---|---|---|---|")?;
            }
            let now = Instant::now();
            Ok(Self {
                args,
                name: "",
                done: 0,
                began: now,
                told: now,
            })
        }

        fn begin(&mut self, mutant: Mutant) {
            (self.name, self.done, self.began) = (mutant.name(), 0, Instant::now());
        }

        fn progress(&mut self, trial: &Trial) {
            self.done += 1;
            if self.told.elapsed().as_secs() >= 2 {
                self.told = Instant::now();
                // Progress is no result: where it cannot be shown, the hunt goes on.
                let _ = writeln!(
                    io::stderr(),
                    "{}: {} of {} trials in {} s, the last took {} runs",
                    self.name,
                    self.done,
                    self.args.trials,
                    self.began.elapsed().as_secs(),
                    trial.runs
                );
            }
        }

        fn tell(&self, mutant: Mutant, trials: &[Trial], summary: &Summary) -> io::Result<()> {
            let mut out = io::stdout().lock();
            let (name, wrong) = (mutant.name(), mutant.wrong());
            if self.args.json {
                let mut line = serde_json::to_value(summary).map_err(io::Error::other)?;
                line["mutant"] = name.into();
                line["wrong"] = wrong.into();
                line["median"] = summary.median().into();
                line["ms"] = (self.began.elapsed().as_millis() as u64).into();
                line["each"] = serde_json::to_value(trials).map_err(io::Error::other)?;
                return writeln!(out, "{line}");
            }
            let mut killers: Vec<(&String, &u64)> = summary.killed_by.iter().collect();
            killers.sort_by_key(|(name, count)| (u64::MAX - **count, *name));
            let count =
                |runs: Option<u64>| runs.map_or_else(|| format!("> {}", self.args.runs), |runs| runs.to_string());
            let [_, first, median, third, most] = summary.spread.map(count);
            if self.args.markdown {
                let killers: Vec<String> = killers
                    .iter()
                    .map(|(name, count)| format!("`{name}` {count}"))
                    .collect();
                return writeln!(
                    out,
                    "| `{name}` | {wrong} | {median} | {first} to {third} | {most} | {} | {} |",
                    summary.trials,
                    killers.join(", ")
                );
            }
            let killers: Vec<String> = killers.iter().map(|(name, count)| format!("{name} {count}")).collect();
            writeln!(
                out,
                "{name:<28} found in {} of {} trials, runs: median {median}, quartiles {first} to {third}, most {most}; by {}",
                summary.found,
                summary.trials,
                killers.join(", ")
            )?;
            let example = trials
                .iter()
                .filter_map(|trial| trial.find.as_ref())
                .min_by_key(|find| find.seed);
            if let Some(find) = example {
                writeln!(out, "    {}: {}", find.checker, find.failure)?;
                writeln!(out, "    netsim run {} --seed {} --mutant {name}", find.file, find.seed)?;
            }
            Ok(())
        }
    }
}
