//! `netsim list`: what there is: scenarios, and the words they are made of.
//!
//! Invariants: prints results only; every word comes from the table that reads or reports it.
//! Not here: reading scenarios (`crate::scenario`).

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use net_kernel::base::probe::Probe;
use serde_json::{Map, Value, json};

use super::{Trouble, load};
use crate::check::CHECKERS;
use crate::run::Spec;
use crate::scenario::{ADVERSARIES, DELAYS, EVENTS, FAULTS, LOSSES, NATS, WORKLOADS, Words};

#[derive(Debug, Args)]
pub(super) struct List {
    /// Scenario files, or folders of them; default: the folder `scenarios`, where there is one.
    #[arg(value_name = "FILE|DIR")]
    specs: Vec<PathBuf>,
    /// List one thing only; everything but scenarios needs no files.
    #[arg(long, value_enum, value_name = "WHAT")]
    only: Option<Section>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    Faults,
    Events,
    Losses,
    Delays,
    Nats,
    Workloads,
    Adversaries,
    Checkers,
    Probes,
    Scenarios,
}

impl Section {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Its words; `None` where it has something else.
    const fn words(self) -> Option<Words> {
        match self {
            Self::Faults => Some(FAULTS),
            Self::Events => Some(EVENTS),
            Self::Losses => Some(LOSSES),
            Self::Delays => Some(DELAYS),
            Self::Nats => Some(NATS),
            Self::Workloads => Some(WORKLOADS),
            Self::Adversaries => Some(ADVERSARIES),
            Self::Checkers => Some(CHECKERS),
            Self::Probes | Self::Scenarios => None,
        }
    }
}

pub(super) fn command(list: &List) -> Result<u8, Trouble> {
    let sections: Vec<Section> = match list.only {
        Some(one) => vec![one],
        None => Section::value_variants().to_vec(),
    };
    let default = [PathBuf::from("scenarios")];
    let paths = if list.specs.is_empty() {
        &default
    } else {
        list.specs.as_slice()
    };
    // Outside a clone there are none, and the words are still to be told.
    let nowhere = list.specs.is_empty() && list.only.is_none() && !default[0].exists();
    let sections: Vec<Section> = sections
        .into_iter()
        .filter(|one| !(nowhere && *one == Section::Scenarios))
        .collect();
    let specs = if sections.contains(&Section::Scenarios) {
        load(paths)?
    } else {
        Vec::new()
    };
    if list.json {
        let all: Map<String, Value> = sections.iter().map(|one| (one.name(), object(*one, &specs))).collect();
        writeln!(io::stdout().lock(), "{}", Value::Object(all))?;
        return Ok(0);
    }
    let mut out = io::stdout().lock();
    for (n, section) in sections.iter().enumerate() {
        if n > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", section.name())?;
        match section.words() {
            Some(words) => {
                for (word, about) in words {
                    writeln!(out, "  {word:<17} {about}")?;
                }
            }
            None if *section == Section::Probes => {
                for probe in Probe::ALL {
                    writeln!(out, "  {}", probe.name())?;
                }
            }
            None => scenarios(&mut out, &specs)?,
        }
    }
    Ok(0)
}

fn scenarios(out: &mut impl io::Write, specs: &[Spec]) -> io::Result<()> {
    for spec in specs {
        let scenario = &spec.scenario;
        writeln!(
            out,
            "  {:<28} {:>2} nodes {:>2} workloads {:>2} faults {:>2} adversaries {:>5} s  {}",
            scenario.name,
            scenario.nodes.len(),
            scenario.workloads.len(),
            scenario.faults.len(),
            scenario.adversaries.len(),
            scenario.duration / 1_000_000_000,
            spec.file,
        )?;
    }
    Ok(())
}

fn object(section: Section, specs: &[Spec]) -> Value {
    if let Some(words) = section.words() {
        return words
            .iter()
            .map(|(word, about)| json!({ "name": word, "about": about }))
            .collect();
    }
    if section == Section::Probes {
        return Probe::ALL.iter().map(|probe| json!({ "name": probe.name() })).collect();
    }
    let scenario = |spec: &Spec| {
        let scenario = &spec.scenario;
        json!({
            "name": scenario.name,
            "file": spec.file,
            "duration_ms": scenario.duration / 1_000_000,
            "nodes": scenario.nodes.iter().map(|node| &node.id).collect::<Vec<_>>(),
            "workloads": scenario.workloads.iter().map(|one| &one.id).collect::<Vec<_>>(),
            "faults": scenario.faults.iter().map(|one| &one.id).collect::<Vec<_>>(),
            "adversaries": scenario.adversaries.iter().map(|one| &one.id).collect::<Vec<_>>(),
        })
    };
    specs.iter().map(scenario).collect()
}
