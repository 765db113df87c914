//! Smaller and rounder values: counts, sizes, probabilities, durations, times.
//!
//! Invariants: a candidate is strictly below the value it replaces; nothing is touched whose lowering makes a scenario harder
//! (bottlenecks, credit, time to complete).
//! Not here: taking values out (`parts.rs`).

use toml::{Table, Value};

use super::parts::{Step, at};
use crate::scenario::{bytes, duration, probability};

/// No run is shorter than this.
const SHORTEST: u64 = 1_000_000;

/// What a number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Time,
    Count,
    Probability,
    Size,
    Delay,
}

fn kind(key: &str, value: &Value) -> Option<Kind> {
    let time = value
        .as_str()
        .is_some_and(|text| duration(text.trim_start_matches('-')).is_ok());
    match key {
        // Below these a run fails for want of them, or they mean a fault of their own.
        "within" | "rate" | "queue" | "mtu" | "drain" | "number" | "ppb" | "seed" | "schema" | "weight"
        | "priority" => None,
        "count" | "streams" | "sources" => Some(Kind::Count),
        "p" | "r" | "good" | "bad" | "loss" | "reorder" | "dup" | "corrupt" if scalar_probability(value).is_some() => {
            Some(Kind::Probability)
        }
        "size" => Some(Kind::Size),
        "delay" if value.is_table() => Some(Kind::Delay),
        _ if time => Some(Kind::Time),
        _ => None,
    }
}

fn scalar_probability(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => probability(text).ok(),
        Value::Integer(number) => probability(&number.to_string()).ok(),
        Value::Float(number) => probability(&number.to_string()).ok(),
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// The places of all values that can be lowered.
pub(super) fn places(doc: &Table) -> Vec<Vec<Step>> {
    let mut places = Vec::new();
    for (name, value) in doc {
        let path = vec![Step::Key(name.clone())];
        match name.as_str() {
            "duration" => places.push(path),
            "topology" | "workload" | "fault" | "adversary" | "fate" => collect(name, value, &path, &mut places),
            _ => {}
        }
    }
    places
}

fn collect(key: &str, value: &Value, path: &[Step], places: &mut Vec<Vec<Step>>) {
    if kind(key, value).is_some() {
        places.push(path.to_vec());
        return;
    }
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                collect(key, value, &[path, &[Step::Key(key.clone())]].concat(), places);
            }
        }
        Value::Array(list) => {
            for (n, value) in list.iter().enumerate().filter(|(_, value)| value.is_table()) {
                collect("", value, &[path, &[Step::Index(n)]].concat(), places);
            }
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// `doc` with lower values at `place`, the lowest first.
pub(super) fn lower(doc: &Table, place: &[Step]) -> Vec<Table> {
    let mut scratch = doc.clone();
    let Some(value) = at(&mut scratch, place) else {
        return Vec::new();
    };
    let key = place.iter().rev().find_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    });
    let values = lower_values(key.unwrap_or_default(), value);
    let put = |value: Value| {
        let mut doc = doc.clone();
        *at(&mut doc, place)? = value;
        Some(doc)
    };
    values.into_iter().filter_map(put).collect()
}

fn lower_values(key: &str, value: &Value) -> Vec<Value> {
    match kind(key, value) {
        Some(Kind::Time) => {
            let text = value.as_str().unwrap_or_default();
            let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("-", text));
            let floor = u64::from(key == "duration") * SHORTEST;
            let below = below(duration(text).unwrap_or(0)).into_iter().filter(|ns| *ns >= floor);
            below.map(|ns| Value::String(format!("{sign}{}", time(ns)))).collect()
        }
        Some(Kind::Count) => {
            let now = value
                .as_integer()
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or(0);
            let mut all = below(now);
            all.extend(now.checked_sub(1).filter(|less| !all.contains(less)));
            let all = all.into_iter().filter(|count| *count > 0);
            all.filter_map(|count| i64::try_from(count).ok())
                .map(Value::Integer)
                .collect()
        }
        Some(Kind::Probability) => {
            let all = below(scalar_probability(value).unwrap_or(0))
                .into_iter()
                .filter(|ppb| *ppb > 0);
            all.map(|ppb| Value::String(fraction(ppb))).collect()
        }
        Some(Kind::Size) => sizes(value),
        Some(Kind::Delay) => ["min", "mean", "max"]
            .iter()
            .filter_map(|key| value.get(key).cloned())
            .collect(),
        None => Vec::new(),
    }
}

fn sizes(value: &Value) -> Vec<Value> {
    let read = |value: &Value| match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::String(text) => bytes(text).ok(),
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    };
    let literal = |size: u64| i64::try_from(size).ok().map(Value::Integer);
    if let Value::Array(ends) = value {
        return ends.iter().filter_map(read).filter_map(literal).collect();
    }
    let now = read(value).unwrap_or(0);
    let mut all = below(now);
    all.extend(now.checked_sub(1).filter(|less| !all.contains(less)));
    all.into_iter().filter_map(literal).collect()
}

/// Values below `value`, lowest first: parts of it in one digit, then rounder ones.
fn below(value: u64) -> Vec<u64> {
    let mut all = vec![0, 1];
    for (part, digits) in [(8, 1), (4, 1), (2, 1)] {
        all.push(rounded(value / part, digits));
    }
    all.push(rounded(value - value / 4, 2));
    all.push(rounded(value, 1));
    all.push(rounded(value, 2));
    all.retain(|lower| *lower < value);
    all.sort_unstable();
    all.dedup();
    // One nanosecond or one billionth is no rounder than nothing.
    if value > 1_000 {
        all.retain(|lower| *lower != 1);
        if !all.contains(&0) {
            all.insert(0, 0);
        }
    }
    all
}

/// `value` with all but the first `digits` digits set to 0.
fn rounded(value: u64, digits: u32) -> u64 {
    let length = value.checked_ilog10().unwrap_or(0) + 1;
    let unit = 10u64.pow(length.saturating_sub(digits));
    value - value % unit
}

/// A duration in the largest unit that is exact.
pub(super) fn time(ns: u64) -> String {
    let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
    let exact = units.iter().find(|(_, unit)| ns.is_multiple_of(*unit));
    exact.map_or_else(|| format!("{ns}ns"), |(name, unit)| format!("{}{name}", ns / unit))
}

fn fraction(ppb: u64) -> String {
    let text = format!("{}.{:09}", ppb / net_sim_model::PPB, ppb % net_sim_model::PPB);
    let text = text.trim_end_matches('0');
    text.strip_suffix('.')
        .map_or_else(|| text.to_owned(), ToOwned::to_owned)
}

/// All moments and lengths multiplied by `numerator / denominator`.
pub(super) fn faster(doc: &Table, numerator: u64, denominator: u64) -> Table {
    let scale = |ns: u64| ns / denominator * numerator;
    moved(
        doc,
        &["at", "for", "taken", "starts", "stop_reading_at", "stop_reading_for"],
        &scale,
    )
}

/// Everything that happens `by` ns earlier, as far as it can.
pub(super) fn earlier(doc: &Table, by: u64) -> Table {
    moved(doc, &["at", "taken", "stop_reading_at"], &|ns| ns.saturating_sub(by))
}

fn moved(doc: &Table, keys: &[&str], change: &dyn Fn(u64) -> u64) -> Table {
    let mut doc = doc.clone();
    let apply = |value: &mut Value| {
        if let Some(ns) = value.as_str().and_then(|text| duration(text).ok()) {
            *value = Value::String(time(change(ns)));
        }
    };
    if let Some(value) = doc.get_mut("duration") {
        apply(value);
        if value
            .as_str()
            .and_then(|text| duration(text).ok())
            .is_some_and(|ns| ns < SHORTEST)
        {
            *value = Value::String(time(SHORTEST));
        }
    }
    for section in ["workload", "fault", "adversary"] {
        for entry in doc.get_mut(section).and_then(Value::as_array_mut).into_iter().flatten() {
            for key in keys {
                if let Some(value) = entry.get_mut(key) {
                    apply(value);
                }
            }
        }
    }
    doc
}

/// The earliest moment after the start at which something happens.
pub(super) fn first_moment(doc: &Table) -> Option<u64> {
    let entries = ["workload", "fault", "adversary"]
        .iter()
        .filter_map(|section| doc.get(*section)?.as_array());
    let moments = entries
        .flatten()
        .filter_map(|entry| duration(entry.get("at")?.as_str()?).ok());
    moments.filter(|at| *at > 0).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_values_are_lower_round_and_sorted() {
        assert_eq!(
            below(615_634_718),
            [
                0,
                70_000_000,
                100_000_000,
                300_000_000,
                460_000_000,
                600_000_000,
                610_000_000
            ]
        );
        assert_eq!(below(7), [0, 1, 3, 6]);
        assert_eq!(below(1), [0]);
        assert!(below(0).is_empty());
        assert_eq!(
            (time(600_000_000), time(2_000_000_000), time(7)),
            ("600ms".into(), "2s".into(), "7ns".into())
        );
        assert_eq!(fraction(50_000_000), "0.05");
        assert_eq!(fraction(1_000_000_000), "1");
    }

    #[test]
    fn what_makes_a_scenario_harder_is_not_lowered() {
        let text = "duration = \"3s\"\n[topology.default_link]\nmtu = 1500\nrate = \"5MB/s\"\nloss = 0.25\ndelay = \"20ms\"\n[liveness]\nwithin = \"5s\"";
        let doc: Table = text.parse().unwrap();
        let keys: Vec<String> = places(&doc)
            .iter()
            .map(|path| match path.last() {
                Some(Step::Key(key)) => key.clone(),
                Some(Step::Index(_)) | None => String::new(),
            })
            .collect();
        assert_eq!(keys, ["duration", "delay", "loss"]);
        let lowered = lower(&doc, &places(&doc)[2]);
        assert_eq!(lowered[0]["topology"]["default_link"]["loss"].as_str(), Some("0.03"));
    }
}
