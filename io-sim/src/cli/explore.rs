//! `netsim explore`: random seeds and variations of scenarios for so long, and what was found.
//!
//! Invariants: ends on time; ctrl-c ends it with the report so far; a failure's resolved file is written when it is found.
//! Not here: which runs are made (`crate::explore`).

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use net_kernel::base::probe::Probe;

use super::output::{Found as Kept, keep};
use super::{Cipher, Trouble, load};
use crate::explore::{Found, Group, Options, explore, word};
use crate::host::Host;
use crate::kernel::{ClearKernel, RealKernel};
use crate::run::Spec;

#[derive(Debug, Args)]
pub(super) struct Explore {
    /// Scenario files, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    specs: Vec<PathBuf>,
    /// For how long.
    #[arg(long, default_value = "30m", value_parser = super::wall_time)]
    time: Duration,
    /// The first seed; default: drawn from the clock, and printed.
    #[arg(long)]
    first: Option<u64>,
    /// Runs at once; default: one per core.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Where the resolved files of failing runs go.
    #[arg(long, value_name = "DIR", default_value = "netsim-failures")]
    artifacts: PathBuf,
    /// The cipher.
    #[arg(long, default_value = "clear")]
    aead: Cipher,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes the first ctrl-c end the exploration; a second one ends the program.
fn listen() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            let _ = runtime.block_on(tokio::signal::ctrl_c());
            INTERRUPTED.store(true, Ordering::Relaxed);
            let _ = runtime.block_on(tokio::signal::ctrl_c());
            std::process::exit(130);
        }
    });
}

pub(super) fn command(command: &Explore) -> Result<u8, Trouble> {
    let specs = load(&command.specs)?;
    listen();
    std::panic::set_hook(Box::new(|_| {}));
    let done = match command.aead {
        Cipher::Clear => run::<ClearKernel>(command, &specs),
        Cipher::Real => run::<RealKernel>(command, &specs),
    };
    let _ = std::panic::take_hook();
    done
}

fn run<H: Host>(command: &Explore, specs: &[Spec]) -> Result<u8, Trouble> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    // Seeds of a file are whole numbers of TOML, which are below 2^63.
    let first = command
        .first
        .unwrap_or_else(|| clock.map_or(0, |now| now.as_secs()) << 20);
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let options = Options {
        jobs: command.jobs.unwrap_or(cores).get(),
        time: command.time,
        first,
    };
    let (began, mut told) = (Instant::now(), Instant::now());
    let mut kept: BTreeMap<usize, Kept> = BTreeMap::new();
    let mut trouble = None;
    let found = explore::<H>(specs, options, |found| {
        for (index, group) in found.groups.iter().enumerate().skip(kept.len()) {
            match keep(&command.artifacts, &group.spec.text, &group.report, command.aead) {
                Ok(file) => {
                    kept.insert(index, file);
                }
                Err(error) => {
                    trouble = Some(error);
                    return false;
                }
            }
        }
        if told.elapsed() > Duration::from_secs(1) {
            told = Instant::now();
            progress(found, command.time.saturating_sub(began.elapsed()));
        }
        !INTERRUPTED.load(Ordering::Relaxed)
    });
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r{:<78}\r", "");
    }
    if command.json {
        tell_json(&found, &kept, first)?;
    } else {
        tell(&found, &kept, first)?;
    }
    // What was found is told first: it is not lost with the file.
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let worst = found.groups.iter().map(|group| group.report.verdict.exit_code()).max();
    Ok(worst.unwrap_or(0))
}

fn rate(found: &Found) -> u64 {
    let ms = u64::try_from(found.took.as_millis()).unwrap_or(u64::MAX).max(1);
    found.runs.saturating_mul(10_000) / ms
}

fn progress(found: &Found, left: Duration) {
    let (failures, rate) = (found.groups.len(), rate(found));
    let line = format!(
        "{} runs, {failures} kinds of failure, {}.{} runs/s, {} s left",
        found.runs,
        rate / 10,
        rate % 10,
        left.as_secs()
    );
    let mut err = io::stderr().lock();
    // Progress is no result: where it cannot be shown, the exploration goes on.
    let _ = if io::stderr().is_terminal() {
        write!(err, "\r{line:<78}")
    } else {
        writeln!(err, "{line}")
    };
    let _ = err.flush();
}

fn seconds(time: Duration) -> String {
    format!("{}.{:03} s", time.as_secs(), time.subsec_millis())
}

fn missing(found: &Found) -> Vec<&'static str> {
    found.probes.missing().map(Probe::name).collect()
}

fn tell(found: &Found, kept: &BTreeMap<usize, Kept>, first: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (index, group) in found.groups.iter().enumerate() {
        tell_group(&mut out, group, kept.get(&index))?;
    }
    let never: Vec<String> = found
        .never_bit()
        .map(|(scenario, id)| format!("{scenario}: {id}"))
        .collect();
    if !never.is_empty() {
        writeln!(out, "faults that never had an effect")?;
        for one in never {
            writeln!(out, "  {one}")?;
        }
    }
    let missing = missing(found);
    if !missing.is_empty() {
        writeln!(out, "probes that no run passed")?;
        writeln!(out, "  {}", missing.join(" "))?;
    }
    let (rate, groups) = (rate(found), found.groups.len());
    writeln!(
        out,
        "{} runs from seed {first} in {}, {}.{} per second, {groups} kinds of failure",
        found.runs,
        seconds(found.took),
        rate / 10,
        rate % 10
    )
}

fn tell_group(out: &mut impl io::Write, group: &Group, kept: Option<&Kept>) -> io::Result<()> {
    let report = &group.report;
    writeln!(out, "{}  {}", word(report.verdict), group.signature)?;
    writeln!(
        out,
        "  found     {} times, first after {} runs and {}: {} seed {}",
        group.count,
        group.runs,
        seconds(group.after),
        report.scenario,
        report.seed
    )?;
    writeln!(out, "  because   {}", report.failure.as_deref().unwrap_or("-"))?;
    if let Some(kept) = kept {
        writeln!(out, "  resolved  {}", kept.file.display())?;
        writeln!(out, "  replay    {}", kept.replay)?;
        writeln!(out, "  shrink    {}", kept.shrink)?;
    }
    Ok(())
}

fn tell_json(found: &Found, kept: &BTreeMap<usize, Kept>, first: u64) -> io::Result<()> {
    let groups = found.groups.iter().enumerate().map(|(index, group)| {
        let kept = kept.get(&index);
        serde_json::json!({
            "signature": group.signature.to_string(), "checker": group.signature.checker,
            "verdict": group.report.verdict, "count": group.count, "runs_to_find": group.runs,
            "ms_to_find": u64::try_from(group.after.as_millis()).unwrap_or(u64::MAX),
            "scenario": group.report.scenario, "seed": group.report.seed, "failure": group.report.failure,
            "resolved": kept.map(|kept| kept.file.display().to_string()),
            "replay": kept.map(|kept| kept.replay.as_str()), "shrink": kept.map(|kept| kept.shrink.as_str()),
        })
    });
    let never = found
        .never_bit()
        .map(|(scenario, id)| serde_json::json!({"scenario": scenario, "fault": id}));
    let value = serde_json::json!({
        "schema": 1, "first_seed": first, "runs": found.runs,
        "ms": u64::try_from(found.took.as_millis()).unwrap_or(u64::MAX),
        "failures": groups.collect::<Vec<_>>(), "never_bit": never.collect::<Vec<_>>(),
        "probes_missing": missing(found),
    });
    writeln!(io::stdout().lock(), "{value}")
}
