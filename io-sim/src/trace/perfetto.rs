//! The run as trace events in JSON, which `ui.perfetto.dev` and `chrome://tracing` open: a process per machine, a slice per
//! turn, datagrams as flows from turn to turn, faults as slices of their own process.
//!
//! A turn takes no simulated time; it is drawn [`TURN`] ns long, after the one before it where both fall together.
//! Invariants: slices of one track do not overlap; every flow has a beginning and an end.
//! Not here: what happened (`crate::history`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{About, Fates};
use crate::history::{Band, Entry, Fact, History};

/// Drawn length of a turn, ns.
const TURN: u64 = 200;
/// The process of the scenario itself.
const WORLD: u32 = 1;
const TURNS: u32 = 1;
const APPLICATION: u32 = 2;
const WORK: u32 = 3;

/// The JSON of a run.
///
/// # Errors
/// None that writing to memory does not have.
pub fn perfetto(history: &History, about: &About) -> serde_json::Result<Vec<u8>> {
    let mut drawn = Drawn {
        history,
        events: Vec::new(),
        slices: BTreeMap::new(),
        ends: BTreeMap::new(),
    };
    drawn.names();
    drawn.bands(&history.names().faults, "fault");
    drawn.bands(&history.names().adversaries, "adversary");
    for entry in history.iter() {
        drawn.entry(entry);
    }
    drawn.flows(&Fates::of(history));
    drawn.events.sort_by_key(|(at, _)| *at);
    let events: Vec<Value> = drawn.events.into_iter().map(|(_, event)| event).collect();
    let other = json!({
        "scenario": about.scenario, "seed": about.seed.to_string(), "digest": about.digest, "verdict": about.verdict(),
        "checker": about.failure.as_ref().map(|(checker, _)| checker), "not kept": history.forgotten(),
    });
    serde_json::to_vec(&json!({ "displayTimeUnit": "ns", "otherData": other, "traceEvents": events }))
}

struct Drawn<'a> {
    history: &'a History,
    /// With the time they are sorted by, ns.
    events: Vec<(u64, Value)>,
    /// Where the slice of each turn begins.
    slices: BTreeMap<u64, u64>,
    /// Where the last slice of each track ends.
    ends: BTreeMap<(u32, u32), u64>,
}

/// Times of the format are microseconds; three decimals keep the nanoseconds.
fn micros(ns: u64) -> Value {
    json!(ns as f64 / 1_000.0)
}

const fn process(node: Option<u32>) -> u32 {
    match node {
        Some(node) => node + WORLD + 1,
        None => WORLD,
    }
}

impl Drawn<'_> {
    fn push(&mut self, at: u64, mut event: Value) {
        event["ts"] = micros(at);
        self.events.push((at, event));
    }

    fn names(&mut self) {
        let nodes = self.history.names().nodes.clone();
        let worlds = [(WORLD, "scenario".to_owned())];
        let nodes = nodes.into_iter().zip(WORLD + 1..).map(|(name, pid)| (pid, name));
        for (pid, name) in worlds.into_iter().chain(nodes) {
            let named = |what: &str, tid: u32, name: &str| json!({ "ph": "M", "name": what, "pid": pid, "tid": tid, "args": { "name": name } });
            self.push(0, named("process_name", 0, &name));
            self.push(
                0,
                json!({ "ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": { "sort_index": pid } }),
            );
            if pid > WORLD {
                for (tid, name) in [
                    (TURNS, "turns"),
                    (APPLICATION, "application"),
                    (WORK, "jobs and storage"),
                ] {
                    self.push(0, named("thread_name", tid, name));
                }
            }
        }
    }

    fn bands(&mut self, bands: &[Band], category: &str) {
        let end = self.history.iter().next_back().map_or(0, |entry| entry.at);
        for band in bands.iter().filter(|band| band.from <= end) {
            let name = format!("{} ({})", band.id, band.kind);
            let until = band.until.min(end).max(band.from);
            for (phase, at) in [("b", band.from), ("e", until)] {
                let id = format!("{category}-{}", band.id);
                self.push(
                    at,
                    json!({ "ph": phase, "cat": category, "id": id, "name": name, "pid": WORLD, "tid": 0 }),
                );
            }
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let pid = process(entry.node);
        let text = self.history.text(entry);
        let args = json!({ "entry": entry.id, "cause": entry.cause, "what": text });
        let name = entry.what.name();
        let mut event = json!({ "cat": name, "name": text, "pid": pid, "tid": TURNS, "args": args });
        let what = &entry.what;
        if matches!(what, Fact::Turn { .. }) {
            let at = self.room(pid, TURNS, entry.at);
            self.slices.insert(entry.id, at);
            event["ph"] = json!("X");
            event["dur"] = micros(TURN);
            return self.push(at, event);
        }
        if matches!(what, Fact::JobFinished { .. } | Fact::StoreFinished { .. }) {
            let begun = entry.cause.and_then(|cause| self.history.get(cause));
            event["tid"] = json!(WORK);
            event["id"] = json!(format!("work-{}", entry.id));
            for (phase, at) in [("b", begun.map_or(entry.at, |begun| begun.at)), ("e", entry.at)] {
                event["ph"] = json!(phase);
                self.push(at, event.clone());
            }
            return;
        }
        let elsewhere = matches!(what, Fact::Sent { .. } | Fact::Delivered { .. });
        if elsewhere || matches!(what, Fact::JobBegun { .. } | Fact::StoreBegun { .. }) {
            return;
        }
        if matches!(what, Fact::Command(_) | Fact::Told(_) | Fact::Message { .. }) {
            event["tid"] = json!(APPLICATION);
        }
        event["ph"] = json!("i");
        event["s"] = json!(if matches!(what, Fact::Violation { .. }) {
            "g"
        } else {
            "t"
        });
        self.push(entry.at, event);
    }

    /// The first moment from `at` on at which a track has room.
    fn room(&mut self, pid: u32, tid: u32, at: u64) -> u64 {
        let end = self.ends.entry((pid, tid)).or_default();
        let begin = at.max(*end);
        *end = begin + TURN;
        begin
    }

    /// A flow from the turn that sent a datagram to each turn that was handed it.
    fn flows(&mut self, fates: &Fates<'_>) {
        let turns = handed(self.history);
        for origin in self.history.iter() {
            let Fact::Sent { packet, kind, .. } = origin.what else {
                continue;
            };
            let Some(begin) = origin.cause.and_then(|turn| self.slices.get(&turn)).copied() else {
                continue;
            };
            for (copy, end) in fates.ends(origin.id).iter().enumerate() {
                let Some(into) = turns.get(&end.entry.id).and_then(|turn| self.slices.get(turn)).copied() else {
                    continue;
                };
                let name = format!("{} {packet}", kind.name());
                let id = format!("{packet}.{copy}");
                let from = process(origin.node);
                let to = process(end.entry.node);
                self.push(
                    begin,
                    json!({ "ph": "s", "cat": "datagram", "id": id, "name": name, "pid": from, "tid": TURNS }),
                );
                self.push(
                    into,
                    json!({ "ph": "f", "bp": "e", "cat": "datagram", "id": id, "name": name, "pid": to, "tid": TURNS }),
                );
            }
        }
    }
}

/// The turn each delivery was part of.
fn handed(history: &History) -> BTreeMap<u64, u64> {
    let turns = history.iter().filter(|entry| matches!(entry.what, Fact::Turn { .. }));
    turns
        .flat_map(|turn| history.causes(turn).map(|cause| (cause, turn.id)))
        .collect()
}
