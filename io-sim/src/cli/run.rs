//! `netsim run`: scenarios under seeds, progress, and what is printed of a failure.
//!
//! Invariants: standard output carries results only; the exit code is the worst run's.
//! Not here: how a run is made (`crate::run`).

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use net_kernel::base::probe::{Hits, Probe};

use super::arms::{self, Arm};
use super::output::{Found, flags, keep, program, quoted};
use super::{Cipher, Trouble, load, seed_range, shell};
use crate::kernel::{ClearKernel, RealKernel};
use crate::run::{Report, Spec, Task, Verdict, run_all};
use crate::signature::Signature;

/// Runs that are listed in memory at a time.
const TASKS: usize = 100_000;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Scenario files, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    specs: Vec<PathBuf>,
    /// One seed; default: the one a resolved file carries, or 0.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds A to B, both included.
    #[arg(long, value_name = "A..B", value_parser = seed_range)]
    seeds: Option<(u64, u64)>,
    /// Runs at once; default: one per core.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Print one JSON object per run.
    #[arg(long)]
    json: bool,
    /// The cipher: `clear` is fast and lets checkers read nonces, `real` is ChaCha20-Poly1305 and lets them look for
    /// plaintext.
    #[arg(long, default_value = "clear")]
    aead: Cipher,
    /// Run every seed twice and compare (exit code 2 where they differ).
    #[arg(long)]
    twice: bool,
    /// Make every run a second time with other payloads, identities and keys, and fail where an observer of the links could
    /// tell the two apart, as `[check] same_shape` asks for.
    #[arg(long)]
    same_shape: bool,
    /// Stop at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Fail (exit code 1) where some probe was passed by no run: for sets of runs long enough to pass them all.
    #[arg(long)]
    require_probes: bool,
    /// In which world: `des` is this program's; `shell` is the real driver in simulated runtimes, by `netsim-shell`;
    /// `real` is real processes over loopback, by `net-chaos`.
    #[arg(long, default_value = "des")]
    arm: Arm,
    /// What the driver runs under in the arm `shell`: `turmoil` or `madsim`.
    #[arg(long, value_name = "NAME", default_value = "turmoil")]
    runtime: String,
    /// Where the resolved files of failing runs go.
    #[arg(long, value_name = "DIR", default_value = "netsim-failures")]
    artifacts: PathBuf,
}

impl Run {
    /// The same for `netsim-shell`.
    fn for_shell(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = self.specs.iter().map(|spec| spec.clone().into()).collect();
        all.extend(["--runtime".into(), self.runtime.clone().into()]);
        if let Some(seed) = self.seed {
            all.extend(["--seed".into(), seed.to_string().into()]);
        }
        if let Some((low, high)) = self.seeds {
            all.extend(["--seeds".into(), format!("{low}..{high}").into()]);
        }
        let flags = [
            ("--json", self.json),
            ("--fail-fast", self.fail_fast),
            ("--once", !self.twice),
        ];
        all.extend(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| OsString::from(flag)));
        all
    }

    /// The same for `net-chaos`.
    fn for_real(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = self.specs.iter().map(|spec| spec.clone().into()).collect();
        if let Some(seed) = self.seed {
            all.extend(["--seed".into(), seed.to_string().into()]);
        }
        if let Some((low, high)) = self.seeds {
            all.extend(["--seeds".into(), format!("{low}..{high}").into()]);
        }
        let flags = [("--json", self.json), ("--fail-fast", self.fail_fast)];
        all.extend(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| OsString::from(flag)));
        all
    }
}

pub(super) fn command(run: &Run) -> Result<u8, Trouble> {
    match run.arm {
        Arm::Des => {}
        Arm::Shell => return shell::command(&run.for_shell()),
        Arm::Real => return arms::run_real(&run.for_real()),
    }
    let mut specs = load(&run.specs)?;
    specs.iter_mut().for_each(|spec| spec.same_shape = run.same_shape);
    let seeds = |spec: &Spec| {
        let one = run.seed.or(spec.scenario.seed).unwrap_or(0);
        run.seeds.unwrap_or((one, one))
    };
    let total = specs.iter().fold(0_usize, |total, spec| {
        let (low, high) = seeds(spec);
        total.saturating_add(usize::try_from(high - low).map_or(usize::MAX, |more| more.saturating_add(1)))
    });
    let mut tasks = specs.iter().enumerate().flat_map(|(spec, read)| {
        let (low, high) = seeds(read);
        (low..=high).map(move |seed| Task { spec, seed })
    });
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let jobs = run.jobs.unwrap_or(cores).get();
    // A panic inside a run is reported with its run; the default hook would only repeat it without the seed.
    std::panic::set_hook(Box::new(|_| {}));
    let mut teller = Teller::new(run, &specs, total);
    let mut on = true;
    while on {
        // As many seeds as anybody likes, and never all of them in memory.
        let some: Vec<Task> = tasks.by_ref().take(TASKS).collect();
        if some.is_empty() {
            break;
        }
        let each = |report| {
            on = teller.tell(&report);
            on
        };
        match run.aead {
            Cipher::Clear => run_all::<ClearKernel>(&specs, &some, jobs, run.twice, each),
            Cipher::Real => run_all::<RealKernel>(&specs, &some, jobs, run.twice, each),
        }
    }
    let _ = std::panic::take_hook();
    teller.end()
}

/// Tells of reports as they come, and of progress.
struct Teller<'a> {
    run: &'a Run,
    specs: &'a [Spec],
    total: usize,
    done: usize,
    passed: usize,
    worst: u8,
    probes: Hits,
    datagrams: u64,
    simulated_ms: u64,
    began: Instant,
    told: Instant,
    error: Option<Trouble>,
}

impl<'a> Teller<'a> {
    fn new(run: &'a Run, specs: &'a [Spec], total: usize) -> Self {
        let now = Instant::now();
        Self {
            run,
            specs,
            total,
            done: 0,
            passed: 0,
            worst: 0,
            probes: Hits::default(),
            datagrams: 0,
            simulated_ms: 0,
            began: now,
            told: now,
            error: None,
        }
    }

    /// Answers whether to go on.
    fn tell(&mut self, report: &Report) -> bool {
        self.done += 1;
        self.passed += usize::from(report.verdict == Verdict::Pass);
        self.worst = self.worst.max(report.verdict.exit_code());
        self.probes.add(report.probes);
        self.datagrams += report.datagrams;
        self.simulated_ms += report.simulated_ms;
        let (kept, trouble) = self.keep(report);
        if let Err(error) = self
            .print(report, kept.as_ref())
            .and_then(|()| trouble.map_or(Ok(()), Err))
        {
            self.error = Some(error);
            return false;
        }
        self.progress();
        !(self.run.fail_fast && report.verdict != Verdict::Pass)
    }

    /// Writes what a failure leaves behind; the failure itself is told even where that cannot be written.
    fn keep(&self, report: &Report) -> (Option<Found>, Option<Trouble>) {
        match report.verdict {
            Verdict::Pass | Verdict::Harness => (None, None),
            Verdict::Fail | Verdict::NotDeterministic | Verdict::OutOfTime => {
                let spec = self.specs.iter().find(|spec| spec.file == report.file);
                let text = spec.map_or("", |spec| &spec.text);
                match keep(&self.run.artifacts, text, report, self.run.aead) {
                    Ok(found) => (Some(found), None),
                    Err(trouble) => (None, Some(trouble)),
                }
            }
        }
    }

    fn print(&self, report: &Report, found: Option<&Found>) -> Result<(), Trouble> {
        let mut out = io::stdout().lock();
        if self.run.json {
            writeln!(out, "{}", as_json(report, found)?)?;
            return Ok(());
        }
        if report.verdict == Verdict::Pass {
            if self.total <= 40 {
                let digest = report.digest.get(..16).unwrap_or_default();
                let (seconds, ms) = (report.simulated_ms / 1_000, report.simulated_ms % 1_000);
                writeln!(
                    out,
                    "pass  {}  seed {}  {seconds}.{ms:03} s simulated  {} datagrams  digest {digest}",
                    report.scenario, report.seed, report.datagrams
                )?;
            }
            return Ok(());
        }
        let word = match report.verdict {
            Verdict::Pass | Verdict::Fail => "FAIL",
            Verdict::NotDeterministic => "NOT DETERMINISTIC",
            Verdict::Harness => "HARNESS ERROR",
            Verdict::OutOfTime => "OUT OF TIME",
        };
        writeln!(out, "{word}  {}  seed {}", report.scenario, report.seed)?;
        writeln!(out, "  checker   {}", report.checker.as_deref().unwrap_or("-"))?;
        writeln!(out, "  because   {}", report.failure.as_deref().unwrap_or("-"))?;
        if let Some(found) = found {
            let (file, flags) = (quoted(&report.file), flags(self.run.aead));
            writeln!(out, "  resolved  {}", found.file.display())?;
            writeln!(
                out,
                "  again     {} run {file} --seed {}{flags}",
                program(),
                report.seed
            )?;
            writeln!(out, "  replay    {}", found.replay)?;
            writeln!(out, "  shrink    {}", found.shrink)?;
            writeln!(out, "  trace     {}", found.trace)?;
        }
        if !report.log.is_empty() {
            writeln!(out, "  the last events before it:")?;
        }
        for line in report.log.iter().rev().take(25).rev() {
            writeln!(out, "    {}", line.chars().take(240).collect::<String>())?;
        }
        Ok(())
    }

    fn progress(&mut self) {
        if self.total < 2 || self.told.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.told = Instant::now();
        let elapsed = self.began.elapsed().as_millis().max(1);
        let rate = self.done as u128 * 10_000 / elapsed;
        let failed = self.done - self.passed;
        let left = elapsed * (self.total - self.done) as u128 / self.done.max(1) as u128 / 1_000;
        let line = format!(
            "{} of {} runs, {failed} failed, {}.{} runs/s, {} left",
            self.done,
            self.total,
            rate / 10,
            rate % 10,
            span(left)
        );
        let mut err = io::stderr().lock();
        // Progress is no result: where it cannot be shown, the run goes on.
        let _ = if io::stderr().is_terminal() {
            write!(err, "\r{line}  ")
        } else {
            writeln!(err, "{line}")
        };
        let _ = err.flush();
    }

    fn end(self) -> Result<u8, Trouble> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut err = io::stderr().lock();
        let ms = self.began.elapsed().as_millis().max(1) as u64;
        let summary = format!(
            "{} of {} runs passed in {}.{:03} s: {} datagrams, {} per second, {} simulated seconds per second",
            self.passed,
            self.done,
            ms / 1_000,
            ms % 1_000,
            self.datagrams,
            self.datagrams * 1_000 / ms,
            self.simulated_ms / ms,
        );
        let _ = if io::stderr().is_terminal() && self.total > 1 {
            writeln!(err, "\r{summary}")
        } else {
            writeln!(err, "{summary}")
        };
        drop(err);
        let missing: Vec<&str> = self
            .probes
            .missing()
            .filter(|probe| probe.tested_by().is_none())
            .map(Probe::name)
            .collect();
        if self.total > 1 || self.run.require_probes {
            self.tell_probes(&missing)?;
        }
        let failed = self.run.require_probes && !missing.is_empty();
        Ok(self.worst.max(u8::from(failed)))
    }

    /// Which points of the kernel no run of the set passed.
    fn tell_probes(&self, missing: &[&str]) -> io::Result<()> {
        let all = Probe::ALL.iter().filter(|probe| probe.tested_by().is_none()).count();
        let mut line = format!("probes: {} of {all} hit", all - missing.len());
        if self.run.require_probes && !missing.is_empty() {
            line = format!("{line}; missing: {}", missing.join("; "));
        } else if !missing.is_empty() {
            line.push_str(" (--require-probes names the others and fails)");
        }
        if self.run.json {
            // Standard output holds one object per run and nothing else.
            writeln!(io::stderr(), "{line}")
        } else {
            writeln!(io::stdout(), "{line}")
        }
    }
}

/// A report as one line of JSON, with what leads to its cause where it failed.
fn as_json(report: &Report, found: Option<&Found>) -> Result<String, Trouble> {
    let mut value = serde_json::to_value(report).map_err(io::Error::other)?;
    if let (Some(fields), Some(signature)) = (value.as_object_mut(), Signature::of(report)) {
        fields.insert("signature".to_owned(), signature.to_string().into());
        if let Some(found) = found {
            fields.insert("resolved".to_owned(), found.file.display().to_string().into());
            fields.insert("replay".to_owned(), found.replay.as_str().into());
            fields.insert("shrink".to_owned(), found.shrink.as_str().into());
            fields.insert("trace".to_owned(), found.trace.as_str().into());
        }
    }
    Ok(value.to_string())
}

/// Seconds as a person says them.
fn span(seconds: u128) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}
