//! `netsim replay`: a run again, stopped where one wants to look, with the state of its machines there.
//!
//! Invariants: commands come from standard input, one per line, from a person or a pipe; its end ends the command.
//! Not here: where a run stops (`crate::replay`).

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::{Cipher, Trouble, load_one};
use crate::check::CHECKERS;
use crate::history::FACTS;
use crate::host::Host;
use crate::kernel::{ClearKernel, RealKernel};
use crate::replay::{Halt, Replay as Run, Stop, TOLD};
use crate::run::{Report, Spec, Verdict};
use crate::scenario::unknown;
use crate::world::NodeState;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// A scenario file; best the resolved one that the failing run left.
    spec: PathBuf,
    /// The seed; default: the one a resolved file carries, or 0.
    #[arg(long)]
    seed: Option<u64>,
    /// Run to here: a time (`12.5s`), `turn:N`, `entry:N`, or an event's name.
    #[arg(long, value_name = "POINT", value_parser = Stop::parse)]
    until: Option<Stop>,
    /// Stop at `checker`, `checker=NAME`, `event=NAME` or `node=ID`; may be given several times.
    #[arg(long = "break", value_name = "WHAT", value_parser = Stop::parse)]
    breaks: Vec<Stop>,
    /// Read commands from standard input where the run stands: `n [COUNT]`, `c`, `b WHAT`, `s [NODE]`, `e [COUNT]`, `q`.
    #[arg(long)]
    step: bool,
    /// Print what the last step before a stop changed.
    #[arg(long)]
    diff: bool,
    /// Events printed before a stop.
    #[arg(long, value_name = "N", default_value_t = 30)]
    events: usize,
    /// The digest the whole run must have, or its beginning (exit code 2 where it has another).
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// The cipher it ran under.
    #[arg(long, default_value = "clear")]
    aead: Cipher,
    /// Print one JSON object.
    #[arg(long, conflicts_with = "step")]
    json: bool,
}

pub(super) fn command(command: &Replay) -> Result<u8, Trouble> {
    let spec = load_one(&command.spec)?;
    for stop in command.until.iter().chain(&command.breaks) {
        known(stop, &spec)?;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let done = match command.aead {
        Cipher::Clear => replay::<ClearKernel>(command, &spec),
        Cipher::Real => replay::<RealKernel>(command, &spec),
    };
    let _ = std::panic::take_hook();
    done
}

/// A machine or a checker that does not exist would never be met.
fn known(stop: &Stop, spec: &Spec) -> Result<(), Trouble> {
    if let Stop::Checker(Some(name)) = stop
        && !CHECKERS.iter().any(|(known, _)| known == name)
    {
        let names: Vec<&str> = CHECKERS.iter().map(|(known, _)| *known).collect();
        return Err(Trouble::Said(format!("there is no checker {}", unknown(name, &names))));
    }
    if let Stop::Node(name) = stop
        && spec.scenario.node(name.trim_end_matches('*')).is_none()
    {
        let names: Vec<&str> = spec.scenario.nodes.iter().map(|node| node.id.as_str()).collect();
        return Err(Trouble::Said(format!(
            "there is no node `{name}` in {}; it has {}",
            spec.file,
            names.join(", ")
        )));
    }
    Ok(())
}

/// A stop that was never met and whose name no event has is a slip: any words of an entry may be named, so that only the
/// whole run tells.
fn named(stops: &[Stop]) -> Result<(), Trouble> {
    for stop in stops {
        if let Stop::Event(name) = stop
            && !FACTS.iter().chain(&TOLD).any(|known| known.eq_ignore_ascii_case(name))
        {
            let names: Vec<&str> = FACTS.iter().chain(&TOLD).copied().collect();
            return Err(Trouble::Said(format!(
                "nothing in this run is called `{name}`; events are {}",
                names.join(", ")
            )));
        }
    }
    Ok(())
}

fn replay<H: Host>(command: &Replay, spec: &Spec) -> Result<u8, Trouble> {
    let seed = command.seed.or(spec.scenario.seed).unwrap_or(0);
    let mut run = Run::<H>::new(spec, seed).map_err(Trouble::Said)?;
    if command.diff || command.step {
        run.watch();
    }
    let stops: Vec<Stop> = command.until.iter().chain(&command.breaks).cloned().collect();
    let halt = if command.step && stops.is_empty() {
        Halt::Stepped
    } else {
        run.go(&stops, None)
    };
    if halt == Halt::Over {
        named(&stops)?;
    }
    let whole = command.digest.is_some();
    if command.json {
        let stood = standing(&run, &halt, command);
        let report = (run.is_over() || whole).then(|| run.finish());
        return tell_json(command, spec, stood, report.as_ref());
    }
    tell_halt(&run, &halt, &stops, command)?;
    if command.step {
        converse(&mut run, spec, &stops, command)?;
    }
    if run.is_over() || whole {
        return verdict(command, spec, &run.finish());
    }
    Ok(0)
}

/// Where the run stands, for people.
fn tell_halt<H: Host>(run: &Run<H>, halt: &Halt, stops: &[Stop], command: &Replay) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in run.lines(command.events) {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{}", words(run, halt))?;
    if *halt == Halt::Over && !stops.is_empty() {
        let missed: Vec<String> = stops.iter().map(ToString::to_string).collect();
        writeln!(out, "it never came to: {}", missed.join(", "))?;
    }
    if command.diff {
        tell_difference(run, &mut out)?;
    }
    for (name, state) in run.names().iter().zip(run.states()) {
        tell_state(name, &state, &mut out)?;
    }
    Ok(())
}

fn words<H: Host>(run: &Run<H>, halt: &Halt) -> String {
    let (ns, turns, entries) = (run.now(), run.turns(), run.entries());
    let place = format!(
        "{}.{:09} s, {turns} turns, {entries} entries",
        ns / 1_000_000_000,
        ns % 1_000_000_000
    );
    match halt {
        Halt::Met(stop) => format!("stopped at {stop}: {place}"),
        Halt::Stepped => format!("stands at {place}"),
        Halt::Over => format!("the run is over: {place}"),
    }
}

fn tell_difference<H: Host>(run: &Run<H>, out: &mut impl io::Write) -> io::Result<()> {
    for (node, name, before, after) in run.difference() {
        writeln!(out, "  {node}.{name}: {before} -> {after}")?;
    }
    Ok(())
}

fn tell_state(name: &str, state: &NodeState, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "state of {name}")?;
    let width = state.keys().map(String::len).max().unwrap_or(0);
    for (field, value) in state {
        writeln!(out, "  {field:<width$}  {value}")?;
    }
    Ok(())
}

const HELP: &str = "n [COUNT]  the next step, or so many\n\
                    c          go on to a stop or the end\n\
                    b WHAT     stop at: 12.5s, turn:N, entry:N, checker, checker=NAME, event=NAME, node=ID\n\
                    s [NODE]   the state of a node, or of all\n\
                    e [COUNT]  the last events\n\
                    q          end";

/// Reads commands until the run or the input ends.
fn converse<H: Host>(run: &mut Run<H>, spec: &Spec, stops: &[Stop], command: &Replay) -> Result<(), Trouble> {
    // A point that was met once is behind; what can happen again stays.
    let mut stops: Vec<Stop> = stops.iter().filter(|stop| again(stop)).cloned().collect();
    let terminal = io::stdin().is_terminal();
    let mut lines = io::stdin().lock().lines();
    loop {
        if terminal {
            let mut err = io::stderr().lock();
            let _ = write!(err, "(n c b s e q ?) ").and_then(|()| err.flush());
        }
        let Some(line) = lines.next() else { return Ok(()) };
        let line = line?;
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let rest = rest.trim();
        let mut out = io::stdout().lock();
        match word {
            "q" => return Ok(()),
            "n" | "" | "c" => {
                let steps = if word == "c" {
                    None
                } else {
                    Some(rest.parse().unwrap_or(1))
                };
                let since = run.entries();
                let halt = run.go(&stops, steps);
                stops.retain(again);
                let new = run.lines_since(since);
                let skip = if word == "c" {
                    new.len().saturating_sub(command.events)
                } else {
                    0
                };
                for line in &new[skip..] {
                    writeln!(out, "{line}")?;
                }
                tell_difference(run, &mut out)?;
                if halt != Halt::Stepped {
                    writeln!(out, "{}", words(run, &halt))?;
                }
            }
            "b" => match Stop::parse(rest).and_then(|stop| match known(&stop, spec) {
                Ok(()) => Ok(stop),
                Err(trouble) => Err(trouble.to_string()),
            }) {
                Ok(stop) => {
                    writeln!(out, "stops at {stop}")?;
                    stops.push(stop);
                }
                Err(what) => writeln!(out, "{what}")?,
            },
            "s" => {
                let names = run.names();
                if !rest.is_empty() && !names.iter().any(|name| name == rest) {
                    writeln!(out, "there is no node `{rest}`; there are {}", names.join(", "))?;
                }
                for (name, state) in names.iter().zip(run.states()) {
                    if rest.is_empty() || name == rest {
                        tell_state(name, &state, &mut out)?;
                    }
                }
            }
            "e" => {
                for line in run.lines(rest.parse().unwrap_or(command.events)) {
                    writeln!(out, "{line}")?;
                }
            }
            _ => writeln!(out, "{HELP}")?,
        }
    }
}

const fn again(stop: &Stop) -> bool {
    match stop {
        Stop::Time(_) | Stop::Turn(_) | Stop::Entry(_) => false,
        Stop::Checker(_) | Stop::Event(_) | Stop::Node(_) => true,
    }
}

/// The digest in the comment that opens a resolved file.
fn recorded(text: &str) -> Option<&str> {
    let comments = text.lines().take_while(|line| line.starts_with('#'));
    let mut digests = comments.filter_map(|line| line.strip_prefix("# digest: "));
    digests.next().map(str::trim).filter(|digest| !digest.is_empty())
}

/// Whether the digest is the one asked for; `None` where nothing was asked.
fn as_asked(command: &Replay, report: &Report) -> Option<bool> {
    let asked = command.digest.as_deref()?;
    Some(!asked.is_empty() && report.digest.starts_with(&asked.to_lowercase()))
}

fn verdict(command: &Replay, spec: &Spec, report: &Report) -> Result<u8, Trouble> {
    let mut out = io::stdout().lock();
    let word = match report.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::NotDeterministic => "NOT DETERMINISTIC",
        Verdict::Harness => "HARNESS ERROR",
        Verdict::OutOfTime => "OUT OF TIME",
    };
    writeln!(out, "{word}  {}  seed {}", report.scenario, report.seed)?;
    if let (Some(checker), Some(failure)) = (&report.checker, &report.failure) {
        writeln!(out, "  checker   {checker}")?;
        writeln!(out, "  because   {failure}")?;
    }
    let same = match recorded(&spec.text) {
        Some(digest) if digest == report.digest => ", as recorded",
        Some(_) => ", another than recorded: the program has changed since, or is built or called with other options",
        None => "",
    };
    writeln!(out, "  digest    {}{same}", report.digest)?;
    Ok(exit_code(command, report))
}

fn exit_code(command: &Replay, report: &Report) -> u8 {
    if as_asked(command, report) == Some(false) {
        let _ = writeln!(
            io::stderr(),
            "netsim: the digest is {}, not {}",
            report.digest,
            command.digest.as_deref().unwrap_or_default()
        );
        return Verdict::NotDeterministic.exit_code();
    }
    report.verdict.exit_code()
}

/// Where the run stands, for machines.
fn standing<H: Host>(run: &Run<H>, halt: &Halt, command: &Replay) -> serde_json::Value {
    let stopped = match halt {
        Halt::Met(stop) => stop.to_string(),
        Halt::Stepped | Halt::Over => "end".to_owned(),
    };
    let nodes: BTreeMap<String, NodeState> = run.names().into_iter().zip(run.states()).collect();
    let changed: Vec<_> = if command.diff { run.difference() } else { Vec::new() };
    let changed: Vec<_> = changed
        .into_iter()
        .map(|(node, name, before, after)| serde_json::json!({"node": node, "name": name, "before": before, "after": after}))
        .collect();
    serde_json::json!({
        "schema": 1, "stopped": stopped, "at_ns": run.now(), "turns": run.turns(), "entries": run.entries(),
        "events": run.lines(command.events), "nodes": nodes, "changed": changed,
    })
}

fn tell_json(
    command: &Replay,
    spec: &Spec,
    mut stood: serde_json::Value,
    report: Option<&Report>,
) -> Result<u8, Trouble> {
    let mut code = 0;
    if let (Some(report), Some(fields)) = (report, stood.as_object_mut()) {
        code = exit_code(command, report);
        let verdict = serde_json::to_value(report.verdict).map_err(io::Error::other)?;
        fields.insert("verdict".to_owned(), verdict);
        fields.insert("checker".to_owned(), report.checker.clone().into());
        fields.insert("failure".to_owned(), report.failure.clone().into());
        fields.insert("digest".to_owned(), report.digest.clone().into());
        let same = recorded(&spec.text).map(|digest| digest == report.digest);
        fields.insert("as_recorded".to_owned(), same.into());
    }
    writeln!(io::stdout().lock(), "{stood}")?;
    Ok(code)
}
