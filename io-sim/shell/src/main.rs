//! `netsim-shell`: scenarios with the real driver under simulated runtimes.
//!
//! Invariants: standard output carries results only; the exit code is the worst run's, as `netsim run` has it; under madsim
//! every run is a process of its own.
//! Not here: how a run is made (`net_sim_shell::run`).
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Parser, Subcommand, ValueEnum};
use net_io_sim::arm::ArmReport;
use net_io_sim::run::{Spec, Verdict};
use net_sim_shell::run::{Prepared, prepare};
use net_sim_shell::under_turmoil;

/// Run scenarios with the real driver under simulated runtimes: the arm `shell` of `netsim`.
#[derive(Debug, Parser)]
#[command(name = "netsim-shell", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run scenarios under seeds, each twice; the exit code is the worst run's.
    Run(Run),
    /// Make one run in this process and print its report.
    #[command(hide = true)]
    One(One),
}

#[derive(Debug, Args)]
struct Run {
    /// Scenario files, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    specs: Vec<PathBuf>,
    /// One seed; default: the one a resolved file carries, or 0.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds A to B, both included.
    #[arg(long, value_name = "A..B", value_parser = seed_range)]
    seeds: Option<(u64, u64)>,
    /// What the driver runs under.
    #[arg(long, default_value = "turmoil")]
    runtime: Runtime,
    /// Print one JSON object per run.
    #[arg(long)]
    json: bool,
    /// Stop at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Make every run once instead of twice.
    #[arg(long)]
    once: bool,
    /// Leave out scenarios that are not for this arm or ask for what it cannot do.
    #[arg(long)]
    able: bool,
    /// Count a run that leaves out what the scenario asks for as a harness error.
    #[arg(long, conflicts_with = "able")]
    strict: bool,
    /// Switch a planted bug on (builds under `--cfg net_mutants` only).
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
}

#[derive(Debug, Args)]
struct One {
    spec: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    runtime: Runtime,
    #[arg(long)]
    mutant: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Runtime {
    /// turmoil-net's sockets; tasks run in the order they were woken.
    Turmoil,
    /// madsim's executor; tasks run in random order (builds under `--cfg madsim` only).
    Madsim,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            let _ = told.print();
            // Exit code 2 means something else here.
            let code = if told.use_stderr() {
                Verdict::Harness.exit_code()
            } else {
                0
            };
            return ExitCode::from(code);
        }
    };
    // Panics are reported with their run; the default hook would only repeat them without the seed.
    std::panic::set_hook(Box::new(|_| {}));
    let done = match &cli.command {
        Task::Run(run) => many(run),
        Task::One(one) => single(one),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "netsim-shell: {error}");
            ExitCode::from(Verdict::Harness.exit_code())
        }
    }
}

fn many(run: &Run) -> io::Result<u8> {
    let mut files = Vec::new();
    run.specs.iter().try_for_each(|path| collect(path, &mut files))?;
    if files.is_empty() {
        return Err(io::Error::other("no scenario (*.toml) found there"));
    }
    let specs: Vec<(PathBuf, Spec)> = files
        .into_iter()
        .map(|file| read(&file).map(|spec| (file, spec)))
        .collect::<io::Result<_>>()?;
    let mut tally = Tally::default();
    // Seed by seed over all of them, so that what is rare is met in any of them.
    let seeds = run.seeds.map_or(0..=0, |(low, high)| 0..=high - low);
    for step in seeds {
        for (file, spec) in &specs {
            let one = run.seed.or(spec.scenario.seed).unwrap_or(0);
            let seed = run.seeds.map_or(one, |(low, _)| low + step);
            if !make(run, file, spec, seed, &mut tally)? {
                return tally.end(run);
            }
        }
    }
    tally.end(run)
}

#[derive(Default)]
struct Tally {
    made: u64,
    failed: u64,
    worst: u8,
}

impl Tally {
    fn end(self, run: &Run) -> io::Result<u8> {
        if !run.json {
            writeln!(io::stdout(), "{} runs, {} failed", self.made, self.failed)?;
        }
        Ok(self.worst)
    }
}

/// One scenario under one seed. Answers whether to go on.
fn make(run: &Run, file: &Path, spec: &Spec, seed: u64, tally: &mut Tally) -> io::Result<bool> {
    let prepared = match prepare(spec, seed) {
        Ok(prepared) => prepared,
        Err(_) if run.able => return Ok(true),
        Err(error) => return Err(io::Error::other(error)),
    };
    if run.able && !net_sim_shell::run::is_able(&prepared.scenario) {
        return Ok(true);
    }
    let report = twice(run, file, seed, &prepared)?;
    let passed = report.verdict == Verdict::Pass;
    tally.made += 1;
    tally.failed += u64::from(!passed);
    let mut code = report.verdict.exit_code();
    if run.strict && !report.unable.is_empty() {
        code = code.max(Verdict::Harness.exit_code());
    }
    tally.worst = tally.worst.max(code);
    print(run, file, &report)?;
    Ok(passed || !run.fail_fast)
}

/// One seed, and the same again.
fn twice(run: &Run, file: &Path, seed: u64, prepared: &Prepared) -> io::Result<ArmReport> {
    let make = || match run.runtime {
        Runtime::Turmoil => in_process(prepared, run.mutant.as_deref()),
        Runtime::Madsim => in_child(run, file, seed),
    };
    let first = make()?;
    if run.once || first.verdict == Verdict::Harness {
        return Ok(first);
    }
    let mut second = make()?;
    if first != second {
        second.verdict = Verdict::NotDeterministic;
        second.checker = Some("determinism".to_owned());
        second.failure = Some(format!("digest {} at first, {} then", first.digest, second.digest));
    }
    Ok(second)
}

fn in_process(prepared: &Prepared, mutant: Option<&str>) -> io::Result<ArmReport> {
    net_sim_shell::run::switch(mutant).map_err(io::Error::other)?;
    catch_unwind(AssertUnwindSafe(|| under_turmoil::run(prepared)))
        .unwrap_or_else(|_| Err(io::Error::other("the harness panicked")))
}

/// madsim wants one process per run.
fn in_child(run: &Run, file: &Path, seed: u64) -> io::Result<ArmReport> {
    if !cfg!(madsim) {
        return Err(io::Error::other(format!(
            "this build is without madsim; build it with: {BUILD}"
        )));
    }
    let mut child = Command::new(std::env::current_exe()?);
    child
        .arg("one")
        .arg(file)
        .args(["--runtime", "madsim", "--seed", &seed.to_string()]);
    if let Some(mutant) = &run.mutant {
        child.args(["--mutant", mutant]);
    }
    let output = child.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!(
            "the run of seed {seed} ended with {}: {}",
            output.status,
            said.trim()
        ))
    })
}

/// How to build this program with both runtimes and the planted bugs.
const BUILD: &str = "RUSTFLAGS='--cfg madsim --cfg net_mutants --cfg poly1305_backend=\"soft\"' cargo build --manifest-path io-sim/shell/Cargo.toml";

fn single(one: &One) -> io::Result<u8> {
    let spec = read(&one.spec)?;
    let prepared = prepare(&spec, one.seed).map_err(io::Error::other)?;
    let report = match one.runtime {
        Runtime::Turmoil => in_process(&prepared, one.mutant.as_deref())?,
        Runtime::Madsim => {
            net_sim_shell::run::switch(one.mutant.as_deref()).map_err(io::Error::other)?;
            under_madsim(&prepared, one.seed)?
        }
    };
    writeln!(
        io::stdout(),
        "{}",
        serde_json::to_string(&report).map_err(io::Error::other)?
    )?;
    Ok(report.verdict.exit_code())
}

#[cfg(madsim)]
fn under_madsim(prepared: &Prepared, seed: u64) -> io::Result<ArmReport> {
    Ok(net_sim_shell::under_madsim::run(prepared, seed))
}

#[cfg(not(madsim))]
fn under_madsim(_: &Prepared, _: u64) -> io::Result<ArmReport> {
    Err(io::Error::other(format!(
        "this build is without madsim; build it with: {BUILD}"
    )))
}

fn print(run: &Run, file: &Path, report: &ArmReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if run.json {
        return writeln!(out, "{}", serde_json::to_string(report).map_err(io::Error::other)?);
    }
    let word = match report.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::NotDeterministic => "NOT DETERMINISTIC",
        Verdict::Harness => "HARNESS ERROR",
        Verdict::OutOfTime => "OUT OF TIME",
    };
    let (seconds, ms) = (report.simulated_ms / 1_000, report.simulated_ms % 1_000);
    let digest = report.digest.get(..16).unwrap_or_default();
    let (name, seed, runtime) = (&report.scenario, report.seed, &report.runtime);
    writeln!(
        out,
        "{word}  {name}  seed {seed}  {runtime}  {seconds}.{ms:03} s simulated  digest {digest}"
    )?;
    // Bounds are asked of the world alone, always: that is no news.
    let events: Vec<&str> = report
        .unable
        .iter()
        .map(String::as_str)
        .filter(|what| !what.starts_with('['))
        .collect();
    if !events.is_empty() {
        writeln!(out, "      not done here: {}", events.join(", "))?;
    }
    if let (Some(checker), Some(failure)) = (&report.checker, &report.failure) {
        let mutant = run
            .mutant
            .as_ref()
            .map_or(String::new(), |name| format!(" --mutant {name}"));
        writeln!(out, "      {checker}: {failure}")?;
        writeln!(
            out,
            "      again: netsim-shell run {} --seed {seed} --runtime {runtime}{mutant}",
            file.display()
        )?;
    }
    Ok(())
}

fn seed_range(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("`{text}` is not a range of seeds; write `1..100` (both included)");
    let (low, high) = text.split_once("..").ok_or_else(wrong)?;
    let high = high.strip_prefix('=').unwrap_or(high);
    let (low, high) = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
    if low <= high {
        Ok((low, high))
    } else {
        Err(format!("`{text}` runs backwards"))
    }
}

fn read(file: &Path) -> io::Result<Spec> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
    Spec::new(name, text).map_err(|error| io::Error::other(error.to_string()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries: io::Result<Vec<_>> = std::fs::read_dir(path)?.collect();
    let mut entries: Vec<PathBuf> = entries?.into_iter().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else if entry.extension().is_some_and(|extension| extension == "toml") {
            files.push(entry);
        }
    }
    Ok(())
}
