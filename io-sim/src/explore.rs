//! Exploring: scenario after scenario, seed after seed, half of them varied, until the time is over.
//!
//! A variation leaves out families of faults and impairments and draws magnitudes more widely than their ranges say. It makes
//! no promise the scenario did not make of it: bounds and expectations are dropped, streams go on where their session ended,
//! and what must come to an end has more time.
//! Invariants: run number n of an exploration is a function of the scenarios, the first seed and n.
//! Not here: what is printed (`cli/explore.rs`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use net_kernel::base::probe::Hits;
use net_sim_model::{Family, Key, PPB};
use toml::{Table, Value};

use crate::host::Host;
use crate::run::{Report, Spec, Verdict, run_briefly};
use crate::scenario::{duration, probability, resolve};
use crate::signature::Signature;

/// A run of more events than this is given up: healthy runs of the suite end long before.
const EVENTS: u64 = 20_000_000;

/// Failures of one signature.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub signature: Signature,
    /// How many there were.
    pub count: u64,
    /// The runs made before the first of them, that one included.
    pub runs: u64,
    /// Time until the first of them.
    pub after: Duration,
    /// What ran.
    pub spec: Spec,
    /// How it went.
    pub report: Report,
}

/// What an exploration came to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Runs made.
    pub runs: u64,
    /// Time taken.
    pub took: Duration,
    /// Failures by signature, in the order in which they were found.
    pub groups: Vec<Group>,
    /// Probes passed by some run.
    pub probes: Hits,
    /// For every fault and adversary of a scenario that was in some run: how often it had an effect, over all runs.
    pub effects: BTreeMap<(String, String), u64>,
}

impl Found {
    /// Faults and adversaries that were in some run and never had an effect: scenario, name.
    pub fn never_bit(&self) -> impl Iterator<Item = &(String, String)> {
        let none = self.effects.iter().filter(|(_, count)| **count == 0);
        none.map(|(name, _)| name)
    }

    fn add(&mut self, spec: Spec, report: Report, began: Instant) {
        self.runs += 1;
        self.took = began.elapsed();
        self.probes.add(report.probes);
        let scenario = &spec.scenario;
        let faults = scenario.faults.iter().map(|fault| (&fault.id, "fault"));
        let adversaries = scenario
            .adversaries
            .iter()
            .map(|adversary| (&adversary.id, "adversary"));
        for (id, kind) in faults.chain(adversaries) {
            let count = report.counters.get(&format!("{kind}.{id}")).copied().unwrap_or(0);
            *self.effects.entry((report.scenario.clone(), id.clone())).or_default() += count;
        }
        let Some(signature) = Signature::of(&report) else {
            return;
        };
        match self.groups.iter_mut().find(|group| group.signature == signature) {
            Some(group) => group.count += 1,
            None => self.groups.push(Group {
                signature,
                count: 1,
                runs: self.runs,
                after: self.took,
                spec,
                report,
            }),
        }
    }
}

/// How an exploration goes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Runs at once.
    pub jobs: usize,
    /// When it ends.
    pub time: Duration,
    /// The first seed; the n-th run over every scenario has the n-th one after it.
    pub first: u64,
}

/// Explores until the time is over or `each` answers `false`, which is asked after every run.
pub fn explore<H: Host>(specs: &[Spec], options: Options, mut each: impl FnMut(&Found) -> bool) -> Found {
    let (began, next) = (Instant::now(), AtomicU64::new(0));
    let (sender, receiver) = mpsc::sync_channel::<(u64, Spec, Report)>(options.jobs.max(1));
    let mut found = Found::default();
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while began.elapsed() < options.time {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (spec, seed) = nth(specs, options.first, number);
                    let report = run_briefly::<H>(&spec, seed, EVENTS);
                    if sender.send((number, spec, report)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (_, spec, report) in receiver {
            found.add(spec, report, began);
            if !each(&found) {
                return;
            }
        }
    });
    found.took = began.elapsed();
    found
}

/// The scenario and the seed of run `number`: all scenarios in turn, every second round varied.
#[must_use]
pub fn nth(specs: &[Spec], first: u64, number: u64) -> (Spec, u64) {
    let count = specs.len().max(1) as u64;
    let spec = &specs[(number % count) as usize];
    let (round, seed) = (number / count, first.wrapping_add(number / count));
    let plain = || (spec.clone(), seed);
    // What a scenario expects to fail is expected of itself alone.
    if round.is_multiple_of(2) || spec.scenario.expect_fail.is_some() {
        return plain();
    }
    vary(spec, seed).map_or_else(plain, |varied| (varied, seed))
}

/// A variation of a scenario; `None` where none can be made that is a scenario.
#[must_use]
pub fn vary(spec: &Spec, seed: u64) -> Option<Spec> {
    let key = Key::new(seed).family(Family::Swarm).with_text("vary");
    let mut doc: Table = resolve(&spec.file, &spec.text, seed).ok()?.parse().ok()?;
    doc.remove("check");
    doc.remove("expect");
    doc.remove("about");
    // From nothing left out to nearly everything.
    let omit = key.below(0, PPB);
    let stays = |entry: &Value, section: &str| {
        let name = entry.get("id").and_then(Value::as_str).unwrap_or_default();
        !key.with_text(section).with_text(name).hits(0, omit)
    };
    for section in ["fault", "adversary"] {
        let Some(Value::Array(entries)) = doc.get_mut(section) else {
            continue;
        };
        entries.retain(|entry| stays(entry, section));
        for entry in entries.iter_mut().filter_map(Value::as_table_mut) {
            let name = entry.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            widen(entry, key.with_text(section).with_text(&name));
        }
        if entries.is_empty() {
            doc.remove(section);
        }
    }
    for entry in doc
        .get_mut("workload")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Value::Table(entry) = entry
            && entry.get("kind").and_then(Value::as_str) == Some("stream")
        {
            entry.insert("resume".to_owned(), Value::Boolean(true));
        }
    }
    if let Some(Value::Table(link)) = doc
        .get_mut("topology")
        .and_then(|topology| topology.get_mut("default_link"))
    {
        link.retain(|name, _| name == "delay" || !key.with_text("link").with_text(name).hits(0, omit));
        widen(link, key.with_text("link"));
    }
    if let Some(Value::Table(liveness)) = doc.get_mut("liveness") {
        let within = duration(liveness.get("within")?.as_str()?).ok()?;
        let within = within.saturating_mul(4).saturating_add(60_000_000_000);
        liveness.insert("within".to_owned(), Value::String(format!("{within}ns")));
    }
    Spec::new(spec.file.clone(), toml::to_string(&doc).ok()?).ok()
}

/// Draws times between a quarter and twice of what they are, probabilities between nothing and twice.
fn widen(table: &mut Table, key: Key) {
    for (name, value) in table.iter_mut() {
        let key = key.with_text(name);
        let drawn = match name.as_str() {
            "at" | "for" | "delay" | "hold" | "up" | "down" => {
                let ns = value.as_str().and_then(|text| duration(text).ok());
                ns.map(|ns| format!("{}ns", ns / 4 + key.below(0, (ns - ns / 4).saturating_mul(2).max(1))))
            }
            "loss" | "reorder" | "dup" | "corrupt" | "p" => {
                let text = match value {
                    Value::Float(number) => number.to_string(),
                    Value::Integer(number) => number.to_string(),
                    Value::String(text) => text.clone(),
                    Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => String::new(),
                };
                let ppb = probability(&text).ok().filter(|ppb| *ppb < PPB);
                ppb.map(|ppb| {
                    let drawn = key.below(0, ppb.saturating_mul(2).max(1)).min(MOST.max(ppb));
                    format!("0.{drawn:09}")
                })
            }
            _ => None,
        };
        if let Some(text) = drawn {
            *value = Value::String(text);
        }
    }
}

/// Above this a probability is not drawn unless the scenario goes beyond it itself: what never gets through is no finding.
const MOST: u64 = PPB * 3 / 10;

/// How a run that failed is named in a list.
#[must_use]
pub const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::NotDeterministic => "NOT DETERMINISTIC",
        Verdict::Harness => "HARNESS ERROR",
        Verdict::OutOfTime => "OUT OF TIME",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ClearKernel;

    fn swarm() -> Spec {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/swarm.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        Spec::new(file.display().to_string(), text).unwrap()
    }

    #[test]
    fn variations_are_scenarios_that_differ_and_repeat() {
        let spec = swarm();
        let mut texts: Vec<String> = (0..20).map(|seed| vary(&spec, seed).unwrap().text).collect();
        assert_eq!(vary(&spec, 7).unwrap().text, texts[7]);
        let faults: Vec<usize> = texts.iter().map(|text| text.matches("[[fault]]").count()).collect();
        assert!(
            faults.iter().any(|&count| count >= 3) && faults.iter().any(|&count| count <= 1),
            "{faults:?}"
        );
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 20);
    }

    #[test]
    fn failures_are_grouped_and_what_never_bit_is_told() {
        let text = "schema = 1\nname = \"x\"\nduration = \"2s\"\n[topology]\nnodes = [{ id = \"a\" }, { id = \"b\" }]\n\
                    [[workload]]\nkind = \"stream\"\nfrom = \"a\"\nto = \"b\"\ncount = 3\n\
                    [[fault]]\nkind = \"dup\"\np = 0.0\n[check]\nslo = { \"delivery.max\" = \"1us\" }\n[liveness]\nwithin = \"5s\"";
        let specs = [Spec::new("x.toml", text).unwrap()];
        let options = Options {
            jobs: 1,
            time: Duration::from_secs(600),
            first: 0,
        };
        let found = explore::<ClearKernel>(&specs, options, |found| found.runs < 6);
        assert_eq!(
            (found.runs, found.groups.len()),
            (6, 1),
            "plain runs miss the bound, varied ones have none"
        );
        assert_eq!((found.groups[0].count, found.groups[0].runs), (3, 1));
        let never: Vec<_> = found.never_bit().collect();
        assert_eq!(never, [&("x".to_owned(), "dup-0".to_owned())]);
    }
}
