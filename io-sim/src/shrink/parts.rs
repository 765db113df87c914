//! What can be taken out of a scenario: faults, adversaries, workloads, machines, links, fates, and keys that may be missing.
//!
//! Invariants: a part is named by its place in the scenario it was found in; taking a machine out takes out what deals with
//! it alone.
//! Not here: smaller values of what stays (`magnitude.rs`), whether the rest still fails (`trial.rs`).

use toml::{Table, Value};

/// Something that can be taken out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// The n-th entry of a list of tables.
    Entry(&'static str, usize),
    /// A machine, by its name.
    Node(String),
    /// A key of the table at the end of a path.
    Key(Vec<Step>, String),
    /// A datagram of the n-th entry of `fate`.
    Fate(usize, usize),
}

/// A step into a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Into the value of a key.
    Key(String),
    /// To an entry of a list.
    Index(usize),
}

/// Keys that name or place a thing, or whose absence asks for more than their presence.
const KEPT: [&str; 22] = [
    "kind",
    "id",
    "number",
    "from",
    "to",
    "node",
    "name",
    "both",
    "for",
    "count",
    "resume",
    "must_complete",
    "stop_reading_for",
    "schema",
    "seed",
    "duration",
    "within",
    "one_way",
    "n",
    "of",
    "link",
    "nodes",
];

/// Impairments a link may have.
pub(super) const IMPAIRMENTS: [&str; 6] = ["loss", "reorder", "dup", "corrupt", "rate", "mtu"];

/// The entries of lists of tables.
pub(super) fn entries(doc: &Table, sections: &[&'static str]) -> Vec<Part> {
    let mut parts = Vec::new();
    for section in sections {
        let count = doc.get(*section).and_then(Value::as_array).map_or(0, Vec::len);
        parts.extend((0..count).map(|n| Part::Entry(section, n)));
    }
    parts
}

/// The machines.
pub(super) fn nodes(doc: &Table) -> Vec<Part> {
    node_names(doc).into_iter().map(Part::Node).collect()
}

/// The names of the machines.
pub(super) fn node_names(doc: &Table) -> Vec<String> {
    let nodes = doc.get("topology").and_then(|topology| topology.get("nodes"));
    let nodes = nodes.and_then(Value::as_array).into_iter().flatten();
    nodes
        .filter_map(|node| Some(node.get("id")?.as_str()?.to_owned()))
        .collect()
}

/// Keys that describe links, and whole links.
pub(super) fn links(doc: &Table) -> Vec<Part> {
    let mut parts = Vec::new();
    let Some(topology) = doc.get("topology").and_then(Value::as_table) else {
        return parts;
    };
    let topology_step = || Step::Key("topology".to_owned());
    let links = topology.get("link").and_then(Value::as_array).map_or(0, Vec::len);
    parts.extend((0..links).map(|n| Part::Entry("topology.link", n)));
    for key in ["default_link", "link"] {
        let path = vec![topology_step(), Step::Key(key.to_owned())];
        if let Some(link) = topology.get(key) {
            parts.extend(keys_of(link, &path));
        }
    }
    parts
}

/// Bounds and expectations, all of them and each.
pub(super) fn expectations(doc: &Table) -> Vec<Part> {
    let mut parts = Vec::new();
    for section in ["expect", "check"] {
        let path = vec![Step::Key(section.to_owned())];
        let Some(Value::Table(table)) = doc.get(section) else {
            continue;
        };
        for (key, value) in table {
            let path = [path.clone(), vec![Step::Key(key.clone())]].concat();
            parts.extend(keys_of(value, &path));
        }
    }
    parts
}

/// Every other key that may be missing.
pub(super) fn options(doc: &Table) -> Vec<Part> {
    let mut parts = Vec::new();
    for (name, value) in doc {
        let path = vec![Step::Key(name.clone())];
        if !value.is_array() && name != "topology" && !KEPT.contains(&name.as_str()) {
            parts.push(Part::Key(Vec::new(), name.clone()));
        }
        parts.extend(keys_of(value, &path));
        for (inner, value) in value.as_table().into_iter().flatten() {
            if !matches!(inner.as_str(), "default_link" | "link") {
                parts.extend(keys_of(value, &[path.clone(), vec![Step::Key(inner.clone())]].concat()));
            }
        }
    }
    parts
}

/// The keys of a table, or of every table of a list.
fn keys_of(value: &Value, path: &[Step]) -> Vec<Part> {
    if let Value::Table(table) = value {
        return keys(table, path);
    }
    let mut parts = Vec::new();
    for (n, entry) in value.as_array().into_iter().flatten().enumerate() {
        let path = [path, &[Step::Index(n)]].concat();
        parts.extend(entry.as_table().map(|table| keys(table, &path)).unwrap_or_default());
    }
    parts
}

fn keys(table: &Table, path: &[Step]) -> Vec<Part> {
    let free = table.keys().filter(|key| !KEPT.contains(&key.as_str()));
    free.map(|key| Part::Key(path.to_vec(), key.clone())).collect()
}

/// Every datagram that has an explicit fate.
pub(super) fn fates(doc: &Table) -> Vec<Part> {
    let mut parts = Vec::new();
    for (entry, fate) in doc
        .get("fate")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        let count = fate.get("n").and_then(Value::as_array).map_or(1, Vec::len);
        parts.extend((0..count).map(|n| Part::Fate(entry, n)));
    }
    parts
}

/// The value at the end of a path.
pub(super) fn at<'a>(doc: &'a mut Table, path: &[Step]) -> Option<&'a mut Value> {
    let (first, rest) = path.split_first()?;
    let Step::Key(key) = first else { return None };
    let mut value = doc.get_mut(key)?;
    for step in rest {
        value = match step {
            Step::Key(key) => value.get_mut(key)?,
            Step::Index(n) => value.get_mut(*n)?,
        };
    }
    Some(value)
}

/// `base` without the parts that are not kept; `None` where nothing meaningful is left.
pub(super) fn without(base: &Table, parts: &[Part], keep: &[bool]) -> Option<Table> {
    let mut doc = base.clone();
    let gone: Vec<&Part> = parts
        .iter()
        .zip(keep)
        .filter(|(_, keep)| !**keep)
        .map(|(part, _)| part)
        .collect();
    // Places are those of `base`: what is taken out of lists leaves a hole until the end.
    for part in &gone {
        match part {
            Part::Key(path, key) if path.is_empty() => {
                doc.remove(key);
            }
            Part::Key(path, key) => {
                if let Some(Value::Table(table)) = at(&mut doc, path) {
                    table.remove(key);
                }
            }
            Part::Fate(entry, n) => {
                let list = doc.get_mut("fate")?.get_mut(*entry)?.get_mut("n")?.as_array_mut()?;
                *list.get_mut(*n)? = Value::Boolean(false);
            }
            Part::Entry(section, n) => *list_of(&mut doc, section)?.get_mut(*n)? = Value::Boolean(false),
            Part::Node(_) => {}
        }
    }
    for part in &gone {
        if let Part::Node(name) = part {
            without_node(&mut doc, name)?;
        }
    }
    close_holes(&mut doc);
    Some(doc)
}

fn list_of<'a>(doc: &'a mut Table, section: &str) -> Option<&'a mut Vec<Value>> {
    match section.split_once('.') {
        Some((outer, inner)) => doc.get_mut(outer)?.get_mut(inner)?.as_array_mut(),
        None => doc.get_mut(section)?.as_array_mut(),
    }
}

const LISTS: [&str; 6] = [
    "workload",
    "fault",
    "adversary",
    "fate",
    "topology.link",
    "topology.nat",
];

fn close_holes(doc: &mut Table) {
    let hole = |value: &Value| matches!(value, Value::Boolean(false));
    if let Some(fates) = list_of(doc, "fate") {
        for fate in fates.iter_mut() {
            let list = fate.get_mut("n").and_then(Value::as_array_mut);
            let empty = list.is_some_and(|list| {
                list.retain(|n| !hole(n));
                list.is_empty()
            });
            if empty {
                *fate = Value::Boolean(false);
            }
        }
    }
    for section in LISTS {
        let Some(list) = list_of(doc, section) else { continue };
        list.retain(|entry| !hole(entry));
        if list.is_empty() {
            match section.split_once('.') {
                Some((outer, inner)) => {
                    if let Some(Value::Table(outer)) = doc.get_mut(outer) {
                        outer.remove(inner);
                    }
                }
                None => {
                    doc.remove(section);
                }
            }
        }
    }
}

/// Takes a machine out, and with it everything that cannot be without it.
fn without_node(doc: &mut Table, name: &str) -> Option<()> {
    let nodes = doc.get_mut("topology")?.get_mut("nodes")?.as_array_mut()?;
    nodes.retain(|node| node.get("id").and_then(Value::as_str) != Some(name));
    for node in nodes.iter_mut() {
        if let Some(Value::Array(allow)) = node.get_mut("allow") {
            allow.retain(|other| other.as_str() != Some(name));
        }
    }
    if let Some(Value::Array(core)) = doc.get_mut("liveness").and_then(|liveness| liveness.get_mut("core")) {
        core.retain(|other| other.as_str() != Some(name));
        // An empty core would mean every machine.
        if core.is_empty() {
            return None;
        }
    }
    for section in LISTS {
        for entry in list_of(doc, section).into_iter().flatten() {
            if let Value::Table(table) = entry
                && needs(table, name)
            {
                *entry = Value::Boolean(false);
            }
        }
    }
    Some(())
}

/// Whether a table says `name` somewhere.
fn says(table: &Table, name: &str) -> bool {
    table.values().any(|value| value.as_str() == Some(name))
}

/// Takes `name` out of an entry; answers whether the entry cannot be without it.
fn needs(entry: &mut Table, name: &str) -> bool {
    if entry.get("spoof").and_then(Value::as_str) == Some(name) {
        entry.remove("spoof");
    }
    for (key, value) in entry.iter_mut() {
        if matches!(key.as_str(), "id" | "kind" | "of") {
            continue;
        }
        if value.as_str() == Some(name) || value.as_table().is_some_and(|table| says(table, name)) {
            return true;
        }
        if let Value::Array(list) = value {
            let before = list.len();
            list.retain(|other| other.as_str() != Some(name));
            // An empty list would mean every machine.
            if list.is_empty() && before > 0 {
                return true;
            }
        }
    }
    false
}
