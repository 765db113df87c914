//! What a scenario does, in words, for the comment that opens a shrunk file.
//!
//! Invariants: every fault, adversary, workload and fate of the file is told, in the order of their times.
//! Not here: what is printed of a run that is not shrunk (`cli/run.rs`).

use toml::{Table, Value};

use super::magnitude::time;
use super::parts::{IMPAIRMENTS, node_names};
use crate::history::{Entry, Fact, History};
use crate::scenario::duration;

/// Lines that say which machines there are and what is done to them and by them, in the order of time.
#[must_use]
pub fn describe(doc: &Table) -> Vec<String> {
    let names = node_names(doc);
    let mut lines = vec![format!("{} nodes: {}", names.len(), names.join(", "))];
    if let Some(links) = links(doc) {
        lines.push(links);
    }
    let mut things: Vec<(u64, String)> = Vec::new();
    for (section, word) in [("workload", ""), ("fault", "fault: "), ("adversary", "adversary: ")] {
        for entry in tables(doc, section) {
            let at = entry
                .get("at")
                .and_then(Value::as_str)
                .and_then(|text| duration(text).ok());
            let at = at.unwrap_or(0);
            things.push((at, format!("at {}: {word}{}", time(at), phrase(entry))));
        }
    }
    things.sort_by_key(|(at, _)| *at);
    lines.extend(things.into_iter().map(|(_, line)| line));
    for fate in tables(doc, "fate") {
        lines.push(format!("fate: {}", phrase(fate)));
    }
    lines
}

/// Lines of a story at most; of a longer one the end.
const LINES: usize = 40;

/// What happened up to the violation, without turns, timers, jobs and datagrams that came through.
pub(super) fn story(history: &History) -> Vec<String> {
    let told: Vec<&Entry> = history.iter().filter(|entry| tells(&entry.what)).collect();
    let mut lines = Vec::new();
    if told.len() > LINES {
        lines.push(format!("({} events before)", told.len() - LINES));
    }
    for entry in told.iter().skip(told.len().saturating_sub(LINES)) {
        let (seconds, micros) = (entry.at / 1_000_000_000, entry.at % 1_000_000_000 / 1_000);
        let place = entry.node.map_or("", |node| history.names().node(node));
        let text: String = history.text(entry).chars().take(140).collect();
        lines.push(format!("{seconds}.{micros:06} s  {place:<3} {text}"));
    }
    lines
}

const fn tells(fact: &Fact) -> bool {
    match fact {
        Fact::Booted { .. }
        | Fact::BootFailed
        | Fact::Crashed
        | Fact::Paused
        | Fact::Suspended
        | Fact::Resumed
        | Fact::Rebound { .. }
        | Fact::Injected { .. }
        | Fact::Held { .. }
        | Fact::Doubled { .. }
        | Fact::Damaged { .. }
        | Fact::Dropped { .. }
        | Fact::Refused { .. }
        | Fact::Command(_)
        | Fact::Told(_)
        | Fact::Message { .. }
        | Fact::FaultBegins { .. }
        | Fact::FaultEnds { .. }
        | Fact::Healed
        | Fact::Violation { .. } => true,
        Fact::Turn { .. }
        | Fact::Timer { .. }
        | Fact::Sent { .. }
        | Fact::Delivered { .. }
        | Fact::Waits { .. }
        | Fact::JobBegun { .. }
        | Fact::JobFinished { .. }
        | Fact::StoreBegun { .. }
        | Fact::StoreFinished { .. }
        | Fact::WorkloadBegins { .. }
        | Fact::Backup { .. }
        | Fact::AdversaryBegins { .. }
        | Fact::Strike { .. } => false,
    }
}

fn tables<'a>(doc: &'a Table, section: &str) -> impl Iterator<Item = &'a Table> {
    let list = doc.get(section).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_table)
}

fn links(doc: &Table) -> Option<String> {
    let link = doc.get("topology")?.get("default_link")?.as_table()?;
    let said: Vec<String> = ["delay"]
        .iter()
        .chain(&IMPAIRMENTS)
        .filter_map(|key| Some(format!("{key} {}", plain(link.get(*key)?))))
        .collect();
    (!said.is_empty()).then(|| format!("links: {}", said.join(", ")))
}

/// An entry as a phrase: what, from where to where, for how long, and what else it says.
fn phrase(entry: &Table) -> String {
    let text = |key: &str| entry.get(key).map(plain);
    let mut words = vec![text("kind").unwrap_or_default()];
    if let Some(id) = text("id").filter(|id| !id.starts_with(&words[0])) {
        words.push(format!("`{id}`"));
    }
    for (key, word) in [("node", "of"), ("from", "from"), ("to", "to"), ("for", "for")] {
        if let Some(value) = text(key) {
            words.push(format!("{word} {value}"));
        }
    }
    if entry.get("both").and_then(Value::as_bool) == Some(true) {
        words.push("and back".to_owned());
    }
    let told = ["kind", "id", "node", "from", "to", "for", "at", "both"];
    let rest = entry.iter().filter(|(key, _)| !told.contains(&key.as_str()));
    let rest: Vec<String> = rest.map(|(key, value)| format!("{key} {}", plain(value))).collect();
    if !rest.is_empty() {
        words.push(format!("({})", rest.join(", ")));
    }
    words.join(" ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let shown: Vec<String> = list.iter().take(24).map(plain).collect();
            let more = if list.len() > 24 { ", .." } else { "" };
            format!("{}{more}", shown.join(", "))
        }
        Value::Table(table) => {
            let each: Vec<String> = table
                .iter()
                .map(|(key, value)| format!("{key} {}", plain(value)))
                .collect();
            each.join(" ")
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_happens_is_told_in_the_order_of_time() {
        let text = r#"
[topology]
nodes = [ { id = "a" }, { id = "b" } ]
default_link = { delay = "10ms", loss = 0.1 }
[[fault]]
kind = "partition"
id = "partition-3"
at = "2s"
for = "500ms"
from = ["a"]
to = ["b"]
[[workload]]
kind = "stream"
id = "x"
from = "a"
to = "b"
count = 2
"#;
        let lines = super::describe(&text.parse().unwrap());
        assert_eq!(
            lines,
            [
                "2 nodes: a, b",
                "links: delay 10ms, loss 0.1",
                "at 0s: stream `x` from a to b (count 2)",
                "at 2s: fault: partition from a to b for 500ms",
            ]
        );
    }
}
