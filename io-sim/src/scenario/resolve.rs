//! Specification and seed to a file of literals: what replay reads and every failure prints.
//!
//! Invariants: the same text and seed give the same literals; every fault carries its name afterwards, so removing one
//! changes no other; a draw is keyed by its place in the file, not by how many came before.
//! Not here: what the keys mean (`read.rs`).

use net_sim_model::{Family, Key};
use toml::{Table, Value};

use super::table::ScenarioError;
use super::units;

/// Keys whose lists of two are values of their own and never ranges to draw from.
const LISTS: [&str; 9] = ["size", "from", "to", "core", "nodes", "arms", "values", "allow", "link"];

/// Draws every range of `text` with `seed`, leaves out what the swarm section omits, and prints the result.
///
/// # Errors
/// Text that is not TOML, or ends of a range that are not quantities of one kind.
pub fn resolve(file: &str, text: &str, seed: u64) -> Result<String, ScenarioError> {
    let wrong = |what: String| ScenarioError {
        file: file.to_owned(),
        line: 0,
        what,
    };
    let mut root: Table = text
        .parse()
        .map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    name_all(&mut root);
    read_traces(&mut root, file).map_err(wrong)?;
    let key = Key::new(seed);
    omit(&mut root, key.family(Family::Swarm)).map_err(wrong)?;
    draw_table(&mut root, key.family(Family::Resolve)).map_err(wrong)?;
    if let Ok(seed) = i64::try_from(seed) {
        root.insert("seed".to_owned(), Value::Integer(seed));
    } else {
        root.insert("seed".to_owned(), Value::String(seed.to_string()));
    }
    toml::to_string(&root).map_err(|error| wrong(error.to_string()))
}

/// The same file without comments and with one spelling of everything, to compare two of them; `None` for what is not TOML.
#[must_use]
pub fn without_comments(text: &str) -> Option<String> {
    toml::to_string(&text.parse::<Table>().ok()?).ok()
}

/// Writes the default name into every workload, fault and adversary that has none.
fn name_all(root: &mut Table) {
    for section in ["workload", "fault", "adversary"] {
        let Some(Value::Array(entries)) = root.get_mut(section) else {
            continue;
        };
        for (n, entry) in entries.iter_mut().enumerate() {
            let Value::Table(entry) = entry else { continue };
            if let Some(Value::String(kind)) = entry.get("kind") {
                let name = format!("{kind}-{n}");
                entry.entry("id").or_insert(Value::String(name));
            }
        }
    }
}

/// Puts the values of every trace file in its place.
fn read_traces(table: &mut Table, scenario: &str) -> Result<(), String> {
    let recorded = table.get("dist").and_then(Value::as_str) == Some("trace");
    if recorded && let Some(Value::String(name)) = table.remove("file") {
        let values = super::trace_file::read(scenario, &name)?;
        let values = values.into_iter().map(Value::String).collect();
        table.insert("values".to_owned(), Value::Array(values));
    }
    for (_, value) in table.iter_mut() {
        match value {
            Value::Table(inner) => read_traces(inner, scenario)?,
            Value::Array(list) => {
                for inner in list.iter_mut().filter_map(Value::as_table_mut) {
                    read_traces(inner, scenario)?;
                }
            }
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
        }
    }
    Ok(())
}

/// Leaves out each fault family with the swarm's probability.
fn omit(root: &mut Table, key: Key) -> Result<(), String> {
    let Some(Value::Table(swarm)) = root.remove("swarm") else {
        return Ok(());
    };
    let ppb = units::probability(&swarm.get("omit_each").map_or_else(|| "0".to_owned(), scalar))?;
    let omitted = |family: &str| key.with_text(family).hits(0, ppb);
    if let Some(Value::Array(faults)) = root.get_mut("fault") {
        faults.retain(|fault| !fault.get("kind").and_then(Value::as_str).is_some_and(omitted));
    }
    let link = root
        .get_mut("topology")
        .and_then(|topology| topology.get_mut("default_link"));
    if let Some(Value::Table(link)) = link {
        for family in ["loss", "reorder", "dup", "corrupt", "rate", "mtu"] {
            if omitted(family) {
                link.remove(family);
            }
        }
    }
    Ok(())
}

fn draw_table(table: &mut Table, key: Key) -> Result<(), String> {
    // Explicit fates hold lists of numbers and nothing to draw.
    for (name, value) in table.iter_mut().filter(|(name, _)| *name != "fate") {
        draw(name, value, key.with_text(name))?;
    }
    Ok(())
}

fn draw(name: &str, value: &mut Value, key: Key) -> Result<(), String> {
    match value {
        Value::Table(table) => draw_table(table, key),
        Value::Array(list) => {
            let range = list.len() == 2 && list.iter().all(|end| !end.is_table() && !end.is_array());
            if range && !LISTS.contains(&name) {
                *value = between(name, &list[0], &list[1], key)?;
                return Ok(());
            }
            for (n, entry) in list.iter_mut().enumerate() {
                // An entry that has a name is keyed by it, so that removing another one shifts nothing.
                let own = entry.get("id").and_then(Value::as_str).map(|id| key.with_text(id));
                if entry.is_table() {
                    draw(name, entry, own.unwrap_or_else(|| key.with(n as u64)))?;
                }
            }
            Ok(())
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => Ok(()),
    }
}

/// A literal between two ends, in the finest unit of their kind.
fn between(name: &str, low: &Value, high: &Value, key: Key) -> Result<Value, String> {
    if let (Value::Integer(low), Value::Integer(high)) = (low, high) {
        let span =
            u64::try_from(high - low).map_err(|_| format!("{name}: the range runs from {low} down to {high}"))?;
        return Ok(Value::Integer(low + key.below(0, span.saturating_add(1)) as i64));
    }
    let (low, high) = (scalar(low), scalar(high));
    type Parse = fn(&str) -> Result<u64, String>;
    type Print = fn(u64) -> Value;
    let kinds: [(Parse, Print); 5] = [
        (units::duration, |ns| Value::String(format!("{ns}ns"))),
        (units::per_second_milli, |milli| {
            Value::String(format!("{}.{:03}/s", milli / 1_000, milli % 1_000))
        }),
        (units::bytes_per_second, |bytes| Value::String(format!("{bytes}B/s"))),
        (units::probability, |ppb| {
            Value::String(format!("{}.{:09}", ppb / net_sim_model::PPB, ppb % net_sim_model::PPB))
        }),
        (units::bytes, |bytes| Value::String(format!("{bytes}B"))),
    ];
    for (parse, print) in kinds {
        if let (Ok(low), Ok(high)) = (parse(&low), parse(&high)) {
            let span = high
                .checked_sub(low)
                .ok_or_else(|| format!("{name}: the range runs down"))?;
            return Ok(print(low + key.below(0, span.saturating_add(1))));
        }
    }
    Err(format!(
        "{name}: `{low}` and `{high}` are not two quantities of one kind"
    ))
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FaultKind, Scenario};

    const SPEC: &str = r#"
schema = 1
name = "ranges"
duration = "10s"
[topology]
nodes = [ { id = "a" }, { id = "b" } ]
[topology.default_link]
delay = ["5ms", "50ms"]
loss = [0.0, 0.2]
[[workload]]
kind = "stream"
from = "a"
to = "b"
rate = ["100/s", "300/s"]
size = [64, 1024]
[[fault]]
kind = "partition"
from = ["a"]
to = ["b"]
at = ["1s", "5s"]
for = "1s"
[[fault]]
kind = "crash"
node = "b"
at = ["1s", "9s"]
for = "500ms"
[swarm]
omit_each = 0.5
"#;

    #[test]
    fn a_seed_draws_the_same_literals_every_time_and_another_seed_others() {
        let one = super::resolve("f", SPEC, 1).unwrap();
        assert_eq!(one, super::resolve("f", SPEC, 1).unwrap());
        assert_ne!(one, super::resolve("f", SPEC, 2).unwrap());
        Scenario::parse("f", &one).unwrap();
    }

    #[test]
    fn a_resolved_file_resolves_to_itself() {
        let once = super::resolve("f", SPEC, 9).unwrap();
        assert_eq!(super::resolve("f", &once, 9).unwrap(), once);
    }

    #[test]
    fn a_swarm_omits_families_and_leaves_the_others_as_they_were() {
        let plain = SPEC.replace("[swarm]\nomit_each = 0.5", "");
        let (mut fewer, mut kept) = (0, 0);
        for seed in 0..40 {
            let all = Scenario::resolved("f", &plain, seed).unwrap();
            let swarm = Scenario::resolved("f", SPEC, seed).unwrap();
            fewer += all.faults.len() - swarm.faults.len();
            for fault in &swarm.faults {
                let same = all.faults.iter().find(|other| other.id == fault.id).unwrap();
                assert_eq!((same.at, same.until), (fault.at, fault.until), "seed {seed}");
                kept += 1;
            }
        }
        assert!(fewer > 20 && kept > 20, "{fewer} omitted, {kept} kept");
    }

    #[test]
    fn draws_stay_inside_their_range() {
        for seed in 0..100 {
            let scenario = Scenario::resolved("f", SPEC, seed).unwrap();
            let crash = scenario
                .faults
                .iter()
                .find(|fault| matches!(fault.kind, FaultKind::Crash { .. }));
            assert!(crash.is_none_or(|crash| (1_000_000_000..=9_000_000_000).contains(&crash.at)));
        }
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_one() {
        let bad = SPEC.replace("for = \"1s\"", "forr = \"1s\"");
        let error = Scenario::check("scenarios/x.toml", &bad).unwrap_err().to_string();
        let line = bad.lines().position(|line| line.starts_with("forr")).unwrap() + 1;
        assert_eq!(
            error,
            format!("scenarios/x.toml:{line}: unknown key in [[fault]]: `forr`; did you mean `for`?"),
        );
    }

    #[test]
    fn an_unknown_node_and_an_unknown_kind_are_named() {
        let error = Scenario::check("x", &SPEC.replace("node = \"b\"", "node = \"bb\"")).unwrap_err();
        assert!(error.what.contains("unknown node `bb`; did you mean `b`?"), "{error}");
        let error = Scenario::check("x", &SPEC.replace("kind = \"crash\"", "kind = \"crush\"")).unwrap_err();
        assert!(error.what.contains("did you mean `crash`?"), "{error}");
        let error = Scenario::check("x", &SPEC.replace("duration = \"10s\"", "duration = \"10 parsecs\"")).unwrap_err();
        assert_eq!(error.line, 4);
    }
}
