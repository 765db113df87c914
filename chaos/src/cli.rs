//! The command `net-chaos`: scenarios with real processes, under seeds.
//!
//! Invariants: standard output carries results only, standard error progress and explanations; exit codes are those of
//! `netsim`: 0 pass, 1 a checker failed, 3 harness error, 4 out of time, the worst of all runs.
//! Not here: how a run is made (`run.rs`).

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use net_io_sim::run::{Spec, Verdict};

use crate::disk::own_mounts;
use crate::machine::tie;
use crate::run::{Ended, Programs, run};
use crate::{able, bridge, node};

/// Run scenarios with real processes over loopback, through the impairment proxy.
#[derive(Debug, Parser)]
#[command(name = "net-chaos", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios under seeds, one after another, in real time; the exit code is the worst run's
    Run(Run),
    /// A process of a run: driven over stdin
    #[command(hide = true)]
    Node(Node),
    /// A process of a run that drives the `net` command
    #[command(hide = true)]
    Bridge(Node),
    /// Runs a program that ends when the one that started it does
    #[command(hide = true)]
    Tied {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Scenario files, or folders of them; of a folder those whose `arms` name `real`
    #[arg(required = true, value_name = "FILE|DIR")]
    specs: Vec<PathBuf>,
    /// One seed; default: the one a resolved file carries, or 0
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds A to B, both included
    #[arg(long, value_name = "A..B", value_parser = seed_range)]
    seeds: Option<(u64, u64)>,
    /// Print one JSON object per run
    #[arg(long)]
    json: bool,
    /// Stop at the first failure
    #[arg(long)]
    fail_fast: bool,
    /// Switch a planted bug on in every node process (builds under `--cfg net_mutants` only)
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// End when the program that started this one does
    #[arg(long, hide = true)]
    tied: bool,
}

#[derive(Debug, Args)]
struct Node {
    #[arg(long)]
    scenario: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    index: u32,
    #[arg(long)]
    state: PathBuf,
    #[arg(long)]
    mutant: Option<String>,
    #[arg(long)]
    net: Option<PathBuf>,
}

/// Switches a planted bug on for this process.
#[cfg(net_mutants)]
fn switch(name: &str) -> Result<(), String> {
    use net_kernel::base::mutant::{Mutant, choose};
    let found = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
    choose(Some(found.ok_or_else(|| format!("there is no planted bug `{name}`"))?));
    Ok(())
}

/// Switches a planted bug on for this process.
#[cfg(not(net_mutants))]
fn switch(name: &str) -> Result<(), String> {
    Err(format!(
        "`{name}`: this program was built without planted bugs (--cfg net_mutants)"
    ))
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
    let done = match Cli::parse().command {
        Command::Run(run) => command(&run),
        Command::Node(node) => serve(node),
        Command::Bridge(node) => bridge(node),
        Command::Tied { command } => tied(&command),
    };
    done.unwrap_or_else(|why| {
        let _ = writeln!(io::stderr(), "net-chaos: {why}");
        Verdict::Harness.exit_code()
    })
}

fn serve(node: Node) -> Result<u8, String> {
    tie().map_err(|error| error.to_string())?;
    node.mutant.as_deref().map_or(Ok(()), switch)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(node::run(node::Config {
        scenario: node.scenario,
        seed: node.seed,
        node: node.index,
        state: node.state,
    }))?;
    Ok(0)
}

fn bridge(node: Node) -> Result<u8, String> {
    tie().map_err(|error| error.to_string())?;
    let net = node.net.ok_or("no `net` command")?;
    // One thread: children are tied to the thread that starts them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let config = node::Config {
        scenario: node.scenario,
        seed: node.seed,
        node: node.index,
        state: node.state,
    };
    let done = runtime.block_on(bridge::run(config, net));
    // Its stdin is read in a thread that only the end of this process ends.
    runtime.shutdown_background();
    done.map(|()| 0)
}

/// Becomes another program, which ends when the one that started this one does.
fn tied(command: &[OsString]) -> Result<u8, String> {
    tie().map_err(|error| error.to_string())?;
    let (program, args) = command.split_first().ok_or("no program")?;
    let error = std::process::Command::new(program).args(args).exec();
    Err(format!("{}: {error}", program.display()))
}

/// The `net` command: what `NET_BIN` names, or `net` beside this program.
fn net_beside(this: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("NET_BIN").map(PathBuf::from);
    let beside = this.with_file_name(format!("net{}", std::env::consts::EXE_SUFFIX));
    Some(named.unwrap_or(beside)).filter(|path| path.is_file())
}

fn command(args: &Run) -> Result<u8, String> {
    if args.tied {
        tie().map_err(|error| error.to_string())?;
    }
    // A name that is none is told before anything runs.
    args.mutant.as_deref().map_or(Ok(()), switch)?;
    let specs = load(&args.specs)?;
    let this = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let wanted = specs.iter().any(|spec| able::wants_disks(&spec.scenario));
    let programs = Programs {
        disks: wanted && own_mounts().map_err(|error| error.to_string())?,
        net: net_beside(&this),
        chaos: this,
        mutant: args.mutant.clone(),
    };
    // One thread: children are tied to the thread that starts them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let (mut worst, mut passed, mut total) = (0, 0, 0);
    for spec in &specs {
        let one = args.seed.or(spec.scenario.seed).unwrap_or(0);
        let (low, high) = args.seeds.unwrap_or((one, one));
        for seed in low..=high {
            let ended = runtime.block_on(run(spec, seed, &programs));
            total += 1;
            passed += u32::from(ended.report.verdict == Verdict::Pass);
            worst = worst.max(ended.report.verdict.exit_code());
            let failed = ended.report.verdict != Verdict::Pass;
            match tell(args, spec, &ended) {
                Ok(()) if failed && args.fail_fast => return Ok(worst),
                Ok(()) => {}
                // Whoever read our output has enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    let _ = writeln!(io::stderr(), "{passed} of {total} runs passed");
    Ok(worst)
}

fn tell(args: &Run, spec: &Spec, ended: &Ended) -> io::Result<()> {
    let report = &ended.report;
    let mut out = io::stdout().lock();
    if args.json {
        let line = serde_json::to_string(report).map_err(io::Error::other)?;
        writeln!(out, "{line}")?;
    } else if report.verdict == Verdict::Pass {
        let messages: u64 = report.history.iter().map(|one| one.messages).sum();
        let datagrams = ended.counters.get("datagrams").copied().unwrap_or(0);
        writeln!(
            out,
            "pass  {}  seed {}  {}.{:03} s  {datagrams} datagrams  {messages} messages",
            report.scenario,
            report.seed,
            report.simulated_ms / 1_000,
            report.simulated_ms % 1_000
        )?;
        for unable in &report.unable {
            writeln!(out, "  unable   {unable}")?;
        }
    } else {
        let word = match report.verdict {
            Verdict::Pass | Verdict::Fail | Verdict::NotDeterministic => "FAIL",
            Verdict::Harness => "HARNESS ERROR",
            Verdict::OutOfTime => "OUT OF TIME",
        };
        writeln!(out, "{word}  {}  seed {}", report.scenario, report.seed)?;
        writeln!(out, "  checker  {}", report.checker.as_deref().unwrap_or("-"))?;
        writeln!(out, "  because  {}", report.failure.as_deref().unwrap_or("-"))?;
        let mutant = args
            .mutant
            .as_ref()
            .map_or_else(String::new, |name| format!(" --mutant {name}"));
        writeln!(
            out,
            "  again    net-chaos run {} --seed {}{mutant}",
            spec.file, report.seed
        )?;
    }
    out.flush()?;
    if report.verdict != Verdict::Pass {
        let mut err = io::stderr().lock();
        for line in ended.log.iter().rev().take(25).rev() {
            writeln!(err, "    {}", line.chars().take(240).collect::<String>())?;
        }
    }
    Ok(())
}

/// Reads every scenario named; of folders those that name this arm, in the order of their names.
fn load(paths: &[PathBuf]) -> Result<Vec<Spec>, String> {
    let mut specs = Vec::new();
    for path in paths {
        collect(path, false, &mut specs)?;
    }
    if specs.is_empty() {
        return Err("no scenario (*.toml) whose `arms` name `real` found there".to_owned());
    }
    Ok(specs)
}

fn collect(path: &Path, chosen: bool, specs: &mut Vec<Spec>) -> Result<(), String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    if !path.is_dir() {
        let text = std::fs::read_to_string(path).map_err(named)?;
        let spec = Spec::new(path.display().to_string(), text).map_err(|error| error.to_string())?;
        if !chosen || spec.scenario.arms.iter().any(|arm| arm == "real") {
            specs.push(spec);
        }
        return Ok(());
    }
    let entries: io::Result<Vec<_>> = std::fs::read_dir(path).map_err(named)?.collect();
    let mut entries: Vec<PathBuf> = entries.map_err(named)?.into_iter().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "toml") {
            collect(&entry, true, specs)?;
        }
    }
    Ok(())
}
