//! Probabilities of links to explicit lists of the datagrams they struck.
//!
//! Invariants: the lists give the run they were taken from; nothing else of the scenario changes.
//! Not here: what lists mean (`scenario/fates.rs`), taking datagrams off them (`parts.rs`).

use toml::{Table, Value};

use super::parts::node_names;
use crate::scenario::{Fate, written};

/// Keys of links that are chances, and those that only say how they strike.
const CHANCES: [&str; 6] = ["loss", "reorder", "dup", "corrupt", "hold", "damage"];

/// Kinds of faults that are chances.
const FAULTS: [&str; 4] = ["loss", "reorder", "dup", "corrupt"];

/// `doc` with `fates` in place of its chances.
pub(super) fn listed(doc: &Table, fates: &[Fate]) -> Table {
    let mut doc = doc.clone();
    let names = node_names(&doc);
    if let Some(Value::Table(topology)) = doc.get_mut("topology") {
        if let Some(Value::Table(link)) = topology.get_mut("default_link") {
            calm(link);
        }
        for link in topology
            .get_mut("link")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Value::Table(link) = link {
                calm(link);
            }
        }
    }
    let mut none = false;
    if let Some(Value::Array(faults)) = doc.get_mut("fault") {
        faults.retain(|fault| !is_chance(fault));
        none = faults.is_empty();
    }
    if none {
        doc.remove("fault");
    }
    if !fates.is_empty() {
        let list = doc.entry("fate").or_insert_with(|| Value::Array(Vec::new()));
        let name = |node: u32| names.get(node as usize).cloned().unwrap_or_default();
        if let Value::Array(list) = list {
            list.extend(fates.iter().map(|fate| Value::Table(written(fate, name))));
        }
    }
    doc
}

fn calm(link: &mut Table) {
    for key in CHANCES {
        link.remove(key);
    }
}

fn is_chance(fault: &Value) -> bool {
    let kind = fault.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| FAULTS.contains(&kind))
}

/// Whether a scenario has chances at all.
pub(super) fn any(doc: &Table) -> bool {
    let topology = doc.get("topology");
    let links = topology
        .and_then(|topology| topology.get("link"))
        .and_then(Value::as_array);
    let default = topology.and_then(|topology| topology.get("default_link"));
    let mut links = links.into_iter().flatten().chain(default);
    let chance = |link: &Value| FAULTS.iter().any(|key| link.get(*key).is_some());
    let faults = doc.get("fault").and_then(Value::as_array);
    links.any(chance) || faults.into_iter().flatten().any(is_chance)
}
