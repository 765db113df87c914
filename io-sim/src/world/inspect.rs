//! The state of machines as a person reads it: names and values, so that two states can be compared line by line.
//!
//! Invariants: looking changes nothing; the same state gives the same lines.
//! Not here: where a run stops (`replay.rs`).

use std::collections::BTreeMap;

use super::World;
use crate::check::Violation;
use crate::history::History;
use crate::host::Host;

/// A machine's state: values by name, names grouped by dots (`clock.mono`, `session.1.rtt`).
pub type NodeState = BTreeMap<String, String>;

impl<H: Host> World<H> {
    /// World time, ns.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// When the next thing happens, ns; `None` where nothing is to come.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.queue.peek().map(|entry| entry.at)
    }

    /// Turns of all processes so far.
    #[must_use]
    pub fn turns(&self) -> u64 {
        let each = self.nodes.iter();
        each.map(|node| node.ended_turns + node.host.as_ref().map_or(0, Host::turns))
            .sum()
    }

    /// The first violation so far.
    #[must_use]
    pub const fn violation(&self) -> Option<&Violation> {
        self.panel.violation()
    }

    /// What happened so far, where it is recorded.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        self.recorder.as_ref().map(|recorder| &recorder.history)
    }

    /// The names of all machines; clones carry their original's with a star.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let name = |(index, node): (usize, &super::Node<H>)| {
            let id = &self.scenario.nodes[node.identity as usize].id;
            let star = if index == node.identity as usize { "" } else { "*" };
            format!("{id}{star}")
        };
        self.nodes.iter().enumerate().map(name).collect()
    }

    /// The state of a machine; `None` where there is no machine of that number.
    #[must_use]
    pub fn state(&self, node: u32) -> Option<NodeState> {
        let machine = self.nodes.get(node as usize)?;
        let mut state = NodeState::new();
        let mut put = |name: &str, value: String| {
            state.insert(name.to_owned(), value);
        };
        put("process.state", format!("{:?}", machine.state).to_lowercase());
        put("process.number", machine.incarnation.to_string());
        put(
            "process.turns",
            machine.host.as_ref().map_or(0, Host::turns).to_string(),
        );
        put("address", machine.address.to_string());
        put("clock.mono", seconds(machine.clock.mono(self.now)));
        put("clock.wall", seconds(machine.clock.wall(self.now)));
        if let Some(at) = machine.deadline {
            put("clock.deadline", format!("{} (world time)", seconds(at)));
        }
        if !machine.backlog.is_empty() {
            put("socket.waiting", machine.backlog.len().to_string());
        }
        for (cell, bytes) in machine.disk.snapshot().cells() {
            let hash = blake3::hash(bytes).to_hex();
            put(&format!("disk.{cell}"), format!("{} B, {}", bytes.len(), &hash[..8]));
        }
        if let Some(host) = &machine.host {
            if let Some(holds) = host.holdings() {
                put("holds.sessions", holds.sessions.to_string());
                put("holds.keys", holds.keys.to_string());
                put("holds.streams", holds.streams.to_string());
                put("holds.reordering", format!("{} B", holds.reordering));
                put("holds.in_flight", format!("{} B", holds.in_flight));
            }
            for load in host.timers() {
                let name = format!("timers.{:?}", load.who).to_lowercase();
                put(
                    &name,
                    format!("{} armed, {} entries", load.load.armed, load.load.entries),
                );
            }
            for (reason, count) in host.drops().nonzero() {
                put(&format!("refused.{}", reason.name()), count.to_string());
            }
            self.sessions_of(node, host, &mut put);
        }
        self.streams_of(node, &mut put);
        Some(state)
    }

    fn sessions_of(&self, node: u32, host: &H, put: &mut dyn FnMut(&str, String)) {
        for (session, peer) in self.apps.sessions.get(node as usize).into_iter().flatten() {
            let name = |field: &str| format!("session.{}.{field}", session.0);
            put(
                &name("peer"),
                self.names().get(*peer as usize).cloned().unwrap_or_default(),
            );
            let Some(stats) = host.stats(*session) else { continue };
            put(&name("address"), stats.address.to_string());
            put(&name("rtt"), format!("{} us", stats.rtt.as_nanos() / 1_000));
            put(&name("window"), format!("{} B", stats.window));
            put(&name("mtu"), format!("{} B", stats.mtu));
            put(
                &name("sent"),
                format!("{} datagrams, {} B", stats.sent, stats.sent_bytes),
            );
            put(
                &name("received"),
                format!("{} datagrams, {} B", stats.received, stats.received_bytes),
            );
            put(&name("lost"), stats.lost.to_string());
            put(&name("rekeys"), stats.rekeys.to_string());
            put(&name("moves"), stats.moves.to_string());
            put(&name("streams"), stats.streams.to_string());
            put(&name("reordering"), format!("{} B", stats.reordering));
        }
    }

    /// What the applications of a machine send and read.
    fn streams_of(&self, node: u32, put: &mut dyn FnMut(&str, String)) {
        for (name, words) in self.apps.files.lines(node) {
            put(&name, words);
        }
        for (index, half) in self.apps.halves.iter().enumerate() {
            let instance = &self.apps.instances[index / 2];
            let flow = &self.apps.flows[instance.flow as usize];
            let workload = &self.scenario.workloads[flow.workload as usize].id;
            if half.expected.is_empty() {
                continue;
            }
            let name = format!("app.{workload}.{index}");
            if half.sender == node {
                let words = format!(
                    "{} of {} given to the node, blocked: {}, finished: {}, flushed: {}",
                    half.next, half.expected.count, half.blocked, half.finishing, half.flushed
                );
                put(&format!("{name}.sends"), words);
            }
            if half.reader == node {
                let words = format!(
                    "{} of {} delivered, ended: {}",
                    half.delivered, half.expected.count, half.ended
                );
                put(&format!("{name}.reads"), words);
            }
        }
    }
}

fn seconds(ns: u64) -> String {
    format!("{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000)
}
