//! The command `netsim`: run scenarios under seeds, print resolved scenarios, list what there is, measure speed.
//!
//! Invariants: standard output carries results only, standard error progress and explanations; exit codes are
//! those of SIMULATION: 0 pass, 1 a checker failed, 2 not deterministic, 3 harness error, 4 out of time.
//! Not here: how a run is made (`run.rs`).

use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench;
use crate::kernel::{ClearKernel, RealKernel};
use crate::run::{Report, Spec, Task, Verdict, run_all, run_traced};
use crate::scenario::resolve;

/// Drive many nodes in one deterministic world, and replay any failure by its seed.
#[derive(Debug, Parser)]
#[command(name = "netsim", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios under seeds; the exit code is the worst run's.
    Run(Run),
    /// Print a scenario with the literals a seed draws; the result can be run again.
    Resolve(Resolve),
    /// Run one seed and write every process's trace to a file, one JSON object per line.
    Record(Record),
    /// List scenarios with their nodes, faults and length.
    List(List),
    /// Measure how many datagrams per second one core simulates.
    Bench(Bench),
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
    /// Stop at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Where this arm runs; only the discrete-event world is built into this program.
    #[arg(long, default_value = "des")]
    arm: Arm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cipher {
    Clear,
    Real,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Arm {
    Des,
}

#[derive(Debug, Args)]
struct Resolve {
    /// A scenario file.
    spec: PathBuf,
    /// The seed that draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Args)]
struct Record {
    /// A scenario file.
    spec: PathBuf,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to write; nothing is left there unless all of it was written.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Records kept per process.
    #[arg(long, default_value_t = 1_000_000)]
    limit: usize,
}

#[derive(Debug, Args)]
struct List {
    /// Scenario files, or folders of them.
    #[arg(default_value = "scenarios", value_name = "FILE|DIR")]
    specs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Bench {
    /// The cipher.
    #[arg(long, default_value = "clear")]
    aead: Cipher,
    /// Bytes per message, one message per datagram; from 1104 on, bytes per datagram.
    #[arg(long, default_value_t = 64)]
    size: u64,
    /// Messages to send.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Leave out the invariant checks after every turn, as `net` itself does.
    #[arg(long)]
    unchecked: bool,
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

/// Runs the command line; answers the exit code.
#[must_use]
pub fn main() -> u8 {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run(run) => run_command(&run),
        Command::Resolve(resolve) => resolve_command(&resolve),
        Command::Record(record) => record_command(&record),
        Command::List(list) => list_command(&list),
        Command::Bench(bench) => bench_command(&bench),
    };
    match done {
        Ok(code) => code,
        // Whoever read our output has enough: that is no error.
        Err(Trouble::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(trouble) => {
            let _ = writeln!(io::stderr(), "netsim: {trouble}");
            Verdict::Harness.exit_code()
        }
    }
}

enum Trouble {
    Io(io::Error),
    Said(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Said(what) => f.write_str(what),
        }
    }
}

/// Reads every scenario named, folders in the order of their names.
fn load(paths: &[PathBuf]) -> Result<Vec<Spec>, Trouble> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut specs = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file).map_err(|error| Trouble::Said(format!("{name}: {error}")))?;
        specs.push(Spec::new(name, text).map_err(|error| Trouble::Said(error.to_string()))?);
    }
    if specs.is_empty() {
        return Err(Trouble::Said("no scenario (*.toml) found there".to_owned()));
    }
    Ok(specs)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Trouble> {
    let named = |error| Trouble::Said(format!("{}: {error}", path.display()));
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries: Result<Vec<_>, _> = std::fs::read_dir(path).map_err(named)?.collect();
    let mut entries: Vec<PathBuf> = entries.map_err(named)?.into_iter().map(|entry| entry.path()).collect();
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

fn run_command(run: &Run) -> Result<u8, Trouble> {
    let Arm::Des = run.arm;
    let specs = load(&run.specs)?;
    let mut tasks = Vec::new();
    for (spec, read) in specs.iter().enumerate() {
        let one = run.seed.or(read.scenario.seed).unwrap_or(0);
        let (low, high) = run.seeds.unwrap_or((one, one));
        tasks.extend((low..=high).map(|seed| Task { spec, seed }));
    }
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let jobs = run.jobs.unwrap_or(cores).get();
    // A panic inside a run is reported with its run; the default hook would only repeat it without the seed.
    std::panic::set_hook(Box::new(|_| {}));
    let mut teller = Teller::new(run, tasks.len());
    let each = |report| teller.tell(&report);
    match run.aead {
        Cipher::Clear => run_all::<ClearKernel>(&specs, &tasks, jobs, run.twice, each),
        Cipher::Real => run_all::<RealKernel>(&specs, &tasks, jobs, run.twice, each),
    }
    let _ = std::panic::take_hook();
    teller.end()
}

/// Tells of reports as they come, and of progress.
struct Teller<'a> {
    run: &'a Run,
    total: usize,
    done: usize,
    passed: usize,
    worst: u8,
    datagrams: u64,
    simulated_ms: u64,
    began: Instant,
    told: Instant,
    error: Option<io::Error>,
}

impl<'a> Teller<'a> {
    fn new(run: &'a Run, total: usize) -> Self {
        let now = Instant::now();
        Self {
            run,
            total,
            done: 0,
            passed: 0,
            worst: 0,
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
        self.datagrams += report.datagrams;
        self.simulated_ms += report.simulated_ms;
        if let Err(error) = self.print(report) {
            self.error = Some(error);
            return false;
        }
        self.progress();
        !(self.run.fail_fast && report.verdict != Verdict::Pass)
    }

    fn print(&self, report: &Report) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.run.json {
            let line = serde_json::to_string(report).map_err(io::Error::other)?;
            return writeln!(out, "{line}");
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
        writeln!(out, "  checker  {}", report.checker.as_deref().unwrap_or("-"))?;
        writeln!(out, "  because  {}", report.failure.as_deref().unwrap_or("-"))?;
        let aead = if self.run.aead == Cipher::Real {
            " --aead real"
        } else {
            ""
        };
        writeln!(
            out,
            "  replay   netsim run {} --seed {}{aead}",
            report.file, report.seed
        )?;
        writeln!(out, "  resolve  netsim resolve {} --seed {}", report.file, report.seed)?;
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
        let rate = self.done as u128 * 10_000 / self.began.elapsed().as_millis().max(1);
        let failed = self.done - self.passed;
        let line = format!(
            "{} of {} runs, {failed} failed, {}.{} runs/s",
            self.done,
            self.total,
            rate / 10,
            rate % 10
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
            return Err(error.into());
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
        Ok(self.worst)
    }
}

fn resolve_command(command: &Resolve) -> Result<u8, Trouble> {
    let specs = load(std::slice::from_ref(&command.spec))?;
    for spec in specs {
        let text = resolve(&spec.file, &spec.text, command.seed).map_err(|error| Trouble::Said(error.to_string()))?;
        write!(io::stdout().lock(), "{text}")?;
    }
    Ok(0)
}

fn record_command(command: &Record) -> Result<u8, Trouble> {
    let specs = load(std::slice::from_ref(&command.spec))?;
    let [spec] = &specs[..] else {
        return Err(Trouble::Said("name one scenario file".to_owned()));
    };
    let (report, processes) = run_traced::<ClearKernel>(spec, command.seed, command.limit).map_err(Trouble::Said)?;
    let named = |error: io::Error| Trouble::Said(format!("{}: {error}", command.output.display()));
    let partial = command.output.with_extension("partial");
    let written = std::fs::File::create(&partial).and_then(|file| {
        let mut file = io::BufWriter::new(file);
        let head = serde_json::json!({
            "schema": 1, "scenario": report.scenario, "seed": report.seed,
            "verdict": report.verdict, "digest": report.digest,
        });
        writeln!(file, "{head}")?;
        for process in &processes {
            for record in &process.records {
                let kind = format!("{:?}", record.kind).to_lowercase();
                let line = serde_json::json!({
                    "node": process.node, "process": process.process, "kind": kind, "a": record.a, "b": record.b,
                });
                writeln!(file, "{line}")?;
            }
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&partial, &command.output)) {
        // Best effort: the error that matters is told.
        let _ = std::fs::remove_file(&partial);
        return Err(named(error));
    }
    Ok(report.verdict.exit_code())
}

fn list_command(list: &List) -> Result<u8, Trouble> {
    let mut out = io::stdout().lock();
    for spec in load(&list.specs)? {
        let scenario = &spec.scenario;
        writeln!(
            out,
            "{:<28} {:>2} nodes {:>2} workloads {:>2} faults {:>2} adversaries {:>5} s  {}",
            scenario.name,
            scenario.nodes.len(),
            scenario.workloads.len(),
            scenario.faults.len(),
            scenario.adversaries.len(),
            scenario.duration / 1_000_000_000,
            spec.file,
        )?;
    }
    Ok(0)
}

fn bench_command(command: &Bench) -> Result<u8, Trouble> {
    let figures = match (command.aead, command.unchecked) {
        (Cipher::Clear, false) => bench::run::<ClearKernel>(command.size, command.messages),
        (Cipher::Real, false) => bench::run::<RealKernel>(command.size, command.messages),
        (Cipher::Clear, true) => bench::run::<crate::kernel::ClearUnchecked>(command.size, command.messages),
        (Cipher::Real, true) => bench::run::<crate::kernel::RealUnchecked>(command.size, command.messages),
    };
    let figures = figures.map_err(Trouble::Said)?;
    writeln!(
        io::stdout().lock(),
        "{} datagrams in {} ms of one core ({} ms of wall time): {} per second ({} B messages, {} messages, trace on, checks {}, {} build)",
        figures.datagrams,
        figures.cpu_ms,
        figures.ms,
        figures.datagrams * 1_000 / figures.cpu_ms.max(1),
        command.size,
        figures.messages,
        if command.unchecked { "off" } else { "on" },
        if cfg!(debug_assertions) { "debug" } else { "release" },
    )?;
    Ok(0)
}
