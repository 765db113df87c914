//! `netsim mutants shrink`: every planted bug found once and its failure shrunk, as a table.
//!
//! Invariants: a core fails with its bug and passes without it.
//! Not here: the hunt (`crate::mutants`), the search (`crate::shrink`).

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use net_kernel::base::mutant::{self, Mutant};

use super::mutants::ShrinkArgs;
use super::output::{comment, file_name, write_whole};
use super::{Trouble, load};
use crate::kernel::ClearKernel;
use crate::mutants::{Find, Hunt, hunt};
use crate::run::Spec;
use crate::scenario::ended;
use crate::shrink::{Options, Shrunk, Size, describe, shrink};

/// What became of one bug.
struct Row {
    mutant: Mutant,
    find: Find,
    shrunk: Result<Shrunk, String>,
}

pub(super) fn command(args: &ShrinkArgs, chosen: &[Mutant]) -> Result<u8, Trouble> {
    let specs = load(&args.suite)?;
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let jobs = args.jobs.unwrap_or(cores).get();
    if let Some(folder) = &args.output {
        std::fs::create_dir_all(folder).map_err(|error| Trouble::Said(format!("{}: {error}", folder.display())))?;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let mut rows = Vec::new();
    if args.markdown {
        let mut out = io::stdout().lock();
        writeln!(out, "| bug | checker | nodes | faults | events | runs | time |")?;
        writeln!(out, "|---|---|---|---|---|---|---|")?;
    }
    for &mutant in chosen {
        mutant::choose(Some(mutant));
        let began = Instant::now();
        let Some(find) = search(args, &specs, mutant, jobs) else {
            // Progress is no result.
            let _ = writeln!(io::stderr(), "{}: not found in {} runs", mutant.name(), args.runs);
            continue;
        };
        let _ = writeln!(
            io::stderr(),
            "{}: found in {} s",
            mutant.name(),
            began.elapsed().as_secs()
        );
        let shrunk = one(args, &specs, mutant, &find, jobs);
        let row = Row { mutant, find, shrunk };
        tell(args, &row)?;
        keep(args, &row)?;
        rows.push(row);
    }
    mutant::choose(None);
    let _ = std::panic::take_hook();
    sum_up(&rows)?;
    Ok(u8::from(rows.iter().any(|row| row.shrunk.is_err())))
}

fn search(args: &ShrinkArgs, specs: &[Spec], mutant: Mutant, jobs: usize) -> Option<Find> {
    let switch = |on: bool| mutant::choose(on.then_some(mutant));
    let wanted = Hunt {
        first_seed: args.seed,
        apart: 1,
        trials: 1,
        runs: args.runs,
        jobs,
    };
    let trials = hunt::<ClearKernel>(specs, &wanted, &switch, |_| {});
    trials.into_iter().find_map(|trial| trial.find)
}

fn one(args: &ShrinkArgs, specs: &[Spec], mutant: Mutant, find: &Find, jobs: usize) -> Result<Shrunk, String> {
    let spec = specs.iter().find(|spec| spec.file == find.file);
    let spec = spec.ok_or_else(|| "its scenario is gone".to_owned())?;
    let switch = move |on: bool| mutant::choose(on.then_some(mutant));
    let options = Options {
        jobs,
        time: args.time,
        reference: Some(&switch),
    };
    let mut silent = |_: &str, _: Size, _: u64| {};
    shrink::<ClearKernel>(spec, find.seed, options, &mut silent).map_err(|refusal| refusal.to_string())
}

fn seconds(time: Duration) -> String {
    format!("{}.{} s", time.as_secs(), time.subsec_millis() / 100)
}

fn tell(args: &ShrinkArgs, row: &Row) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (name, checker) = (row.mutant.name(), &row.find.checker);
    let shrunk = match &row.shrunk {
        Ok(shrunk) => shrunk,
        Err(what) => return writeln!(out, "| `{name}` | `{checker}` | not shrunk: {what} |"),
    };
    let (before, after, took) = (shrunk.before, shrunk.after, seconds(shrunk.took));
    if args.json {
        let value = serde_json::json!({
            "mutant": name, "scenario": row.find.scenario, "seed": row.find.seed,
            "signature": shrunk.signature.to_string(), "checker": checker, "before": before, "after": after,
            "runs": shrunk.runs, "ms": u64::try_from(shrunk.took.as_millis()).unwrap_or(u64::MAX),
            "finished": shrunk.finished,
        });
        return writeln!(out, "{value}");
    }
    if args.markdown {
        return writeln!(
            out,
            "| `{name}` | `{checker}` | {} → {} | {} → {} | {} → {} | {} | {took} |",
            before.nodes, after.nodes, before.faults, after.faults, before.events, after.events, shrunk.runs
        );
    }
    writeln!(
        out,
        "{name:<28} {checker}: nodes {} -> {}, faults {} -> {}, events {} -> {}, {} runs in {took} ({} seed {})",
        before.nodes,
        after.nodes,
        before.faults,
        after.faults,
        before.events,
        after.events,
        shrunk.runs,
        row.find.scenario,
        row.find.seed
    )
}

/// Leaves the core where it was asked for.
fn keep(args: &ShrinkArgs, row: &Row) -> Result<(), Trouble> {
    let (Some(folder), Ok(shrunk)) = (&args.output, &row.shrunk) else {
        return Ok(());
    };
    let mut lines = vec![
        format!(
            "The core of what `--mutant {}` breaks: {}.",
            row.mutant.name(),
            row.mutant.wrong()
        ),
        format!("failed: {}", shrunk.signature),
        format!("because: {}", shrunk.report.failure.as_deref().unwrap_or("-")),
        format!("digest: {}", shrunk.report.digest),
        String::new(),
    ];
    if let Ok(doc) = shrunk.text.parse() {
        lines.extend(describe(&doc));
    }
    let file = folder.join(format!("{}.toml", file_name(row.mutant.name())));
    write_whole(&file, ended(&format!("{}{}", comment(&lines), shrunk.text)).as_bytes())
}

/// The figures of SIMULATION's table.
fn sum_up(rows: &[Row]) -> io::Result<()> {
    let shrunk: Vec<&Shrunk> = rows.iter().filter_map(|row| row.shrunk.as_ref().ok()).collect();
    let median = |figure: &dyn Fn(&Shrunk) -> u64| {
        let mut all: Vec<u64> = shrunk.iter().map(|shrunk| figure(shrunk)).collect();
        all.sort_unstable();
        all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(0)
    };
    let ms = median(&|shrunk| u64::try_from(shrunk.took.as_millis()).unwrap_or(u64::MAX));
    writeln!(
        io::stderr(),
        "{} of {} failures shrunk; medians: {} nodes, {} faults, {} events, {}.{} s",
        shrunk.len(),
        rows.len(),
        median(&|shrunk| shrunk.after.nodes),
        median(&|shrunk| shrunk.after.faults),
        median(&|shrunk| shrunk.after.events),
        ms / 1_000,
        ms % 1_000 / 100
    )
}
