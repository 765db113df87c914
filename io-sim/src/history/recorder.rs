//! The world's pen: it writes the history, and knows which entry whatever happens now follows from.
//!
//! Invariants: it reads the world and never changes it.
//! Not here: when things happen (`world/`).

use std::cell::Cell;
use std::rc::Rc;

use net_kernel::api::{Deadline, Drops, Why};
use net_kernel::base::EntityId;

use super::{Band, Fact, History};
use crate::scenario::{AdversaryKind, FaultKind, Scenario};

/// No entry.
pub(crate) const NONE: u64 = u64::MAX;

/// The entry that whatever happens now follows from; shared by everything that schedules.
#[derive(Clone, Debug)]
pub(crate) struct Cursor(Rc<Cell<u64>>);

impl Default for Cursor {
    fn default() -> Self {
        Self(Rc::new(Cell::new(NONE)))
    }
}

impl Cursor {
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }

    #[inline]
    pub(crate) fn set(&self, id: u64) {
        self.0.set(id);
    }
}

/// A deadline, and the turn that first set it.
#[derive(Clone, Copy, Debug)]
struct Armed {
    at: u64,
    why: Why,
    by: u64,
}

/// What is written, and what is needed to write it.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) history: History,
    cursor: Cursor,
    /// Link faults and other windows the world does not act upon: time and fact, latest first.
    due: Vec<(u64, Fact)>,
    armed: Vec<Option<Armed>>,
    drops: Vec<Drops>,
    workloads: Vec<u64>,
    adversaries: Vec<u64>,
    stamped: bool,
}

impl Recorder {
    /// A pen for a scenario's world; `entities` are its machines'.
    pub(crate) fn new(
        limit: usize,
        bytes: bool,
        scenario: &Scenario,
        entities: impl Iterator<Item = EntityId>,
        cursor: Cursor,
    ) -> Self {
        let mut history = History::new(limit, bytes);
        history.names.workloads = scenario.workloads.iter().map(|workload| workload.id.clone()).collect();
        history.names.nodes = scenario.nodes.iter().map(|node| node.id.clone()).collect();
        history.names.entities = entities.zip(0..).collect();
        let mut due = Vec::new();
        for (index, fault) in scenario.faults.iter().enumerate() {
            let (kind, nodes) = fault_of(&fault.kind);
            let (from, until) = fault.window();
            history.names.faults.push(Band {
                id: fault.id.clone(),
                kind,
                from,
                until,
                nodes,
            });
            if let FaultKind::Link { .. } = fault.kind {
                let fault = index as u32;
                due.push((from, Fact::FaultBegins { fault }));
                if until < u64::MAX {
                    due.push((until, Fact::FaultEnds { fault }));
                }
            }
        }
        for adversary in &scenario.adversaries {
            let (kind, nodes) = adversary_of(&adversary.kind);
            let (id, from, until) = (adversary.id.clone(), adversary.at, adversary.until);
            history.names.adversaries.push(Band {
                id,
                kind,
                from,
                until,
                nodes,
            });
        }
        due.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self {
            history,
            cursor,
            due,
            armed: Vec::new(),
            drops: Vec::new(),
            workloads: vec![NONE; scenario.workloads.len()],
            adversaries: vec![NONE; scenario.adversaries.len()],
            stamped: false,
        }
    }

    /// Writes an entry that follows from the cursor; answers its id.
    pub(crate) fn write(&mut self, at: u64, node: Option<u32>, what: Fact) -> u64 {
        while let Some((begins, _)) = self.due.last().filter(|(begins, _)| *begins <= at) {
            let begins = *begins;
            if let Some((_, fact)) = self.due.pop() {
                self.history.push(begins.max(self.last()), None, None, fact);
            }
        }
        let cause = Some(self.cursor.get()).filter(|cause| *cause != NONE);
        let id = self.history.end();
        if let Fact::WorkloadBegins { workload } = what
            && let Some(slot) = self.workloads.get_mut(workload as usize)
        {
            *slot = id;
        }
        if let Fact::AdversaryBegins { adversary } = what
            && let Some(slot) = self.adversaries.get_mut(adversary as usize)
        {
            *slot = id;
        }
        self.history.push(at.max(self.last()), node, cause, what)
    }

    fn last(&self) -> u64 {
        self.history.entries.back().map_or(0, |entry| entry.at)
    }

    /// Keeps the bytes of the datagram that entry `id` shows, where bytes are kept.
    pub(crate) fn bytes(&mut self, id: u64, bytes: &[u8]) {
        self.history.keep_bytes(id, bytes);
    }

    /// A machine was added.
    pub(crate) fn add_node(&mut self, name: String) {
        self.history.names.nodes.push(name);
    }

    /// The entry with which a workload began.
    pub(crate) fn workload(&self, workload: u32) -> u64 {
        self.workloads.get(workload as usize).copied().unwrap_or(NONE)
    }

    /// An event set a fault off: it acts from now to then.
    pub(crate) fn set_off(&mut self, fault: u32, from: u64, until: u64) {
        if let Some(band) = self.history.names.faults.get_mut(fault as usize) {
            (band.from, band.until) = (from, until);
        }
    }

    /// The entry with which an adversary began.
    pub(crate) fn adversary(&self, adversary: u32) -> u64 {
        self.adversaries.get(adversary as usize).copied().unwrap_or(NONE)
    }

    /// A process answered a deadline.
    pub(crate) fn arm(&mut self, node: u32, deadline: Option<Deadline>) {
        let by = self.cursor.get();
        let slot = slot(&mut self.armed, node);
        let set = deadline.map(|deadline| Armed {
            at: deadline.at.as_nanos(),
            why: deadline.why,
            by,
        });
        // A deadline that was set before and still stands is the earlier turn's.
        let kept = slot
            .zip(set)
            .filter(|(old, new)| (old.at, old.why) == (new.at, new.why));
        *slot = kept.map_or(set, |(old, _)| Some(old));
    }

    /// What the timer of a machine is for, and the turn that set it.
    pub(crate) fn armed(&mut self, node: u32) -> (Option<Why>, u64) {
        slot(&mut self.armed, node).map_or((None, NONE), |armed| (Some(armed.why), armed.by))
    }

    /// A process' counts of refusals stand so; writes what was added.
    pub(crate) fn refusals(&mut self, at: u64, node: u32, now: Drops) {
        let before = std::mem::replace(slot(&mut self.drops, node), now);
        let now = self.drops[node as usize].clone();
        for (reason, count) in now.nonzero() {
            let count = count.saturating_sub(before.get(reason));
            if count > 0 {
                self.write(at, Some(node), Fact::Refused { reason, count });
            }
        }
    }

    /// A process ended: its successor counts anew and has no timer.
    pub(crate) fn ended(&mut self, node: u32) {
        *slot(&mut self.drops, node) = Drops::default();
        *slot(&mut self.armed, node) = None;
    }

    /// Writes the violation, once; `during` is the entry during which it was seen.
    pub(crate) fn violation(&mut self, at: u64, during: u64, checker: &str, what: &str) {
        if !std::mem::replace(&mut self.stamped, true) {
            self.cursor.set(during);
            let node = self.history.get(during).and_then(|entry| entry.node);
            let (checker, what) = (checker.into(), what.into());
            self.write(at, node, Fact::Violation { checker, what });
        }
    }
}

fn slot<T: Default + Clone>(slots: &mut Vec<T>, node: u32) -> &mut T {
    if slots.len() <= node as usize {
        slots.resize(node as usize + 1, T::default());
    }
    &mut slots[node as usize]
}

/// What a fault is called and which machines it concerns.
fn fault_of(kind: &FaultKind) -> (String, Vec<u32>) {
    match kind {
        FaultKind::Link { from, to, effect, .. } => {
            let nodes = if from.is_empty() || to.is_empty() {
                Vec::new()
            } else {
                [&from[..], &to[..]].concat()
            };
            (variant(effect), nodes)
        }
        FaultKind::Crash { node, .. }
        | FaultKind::RestoreDisk { node, .. }
        | FaultKind::Clone { node, .. }
        | FaultKind::Pause { node }
        | FaultKind::Suspend { node }
        | FaultKind::Rebind { node, .. }
        | FaultKind::ClockJump { node, .. }
        | FaultKind::ClockDrift { node, .. }
        | FaultKind::ClockFreeze { node }
        | FaultKind::Disk { node, .. }
        | FaultKind::DiskRot { node, .. }
        | FaultKind::Interface { node, .. }
        | FaultKind::DiskSlow { node, .. } => (variant(kind), vec![*node]),
        // A box concerns whoever is behind it.
        FaultKind::NatRebind { .. } | FaultKind::NatReboot { .. } => (variant(kind), Vec::new()),
    }
}

fn adversary_of(kind: &AdversaryKind) -> (String, Vec<u32>) {
    let nodes = match *kind {
        AdversaryKind::Garbage { to, .. }
        | AdversaryKind::HandshakeFlood { to, .. }
        | AdversaryKind::StolenKey { to, .. } => vec![to],
        AdversaryKind::Replay { from, to, .. }
        | AdversaryKind::Reflect { from, to, .. }
        | AdversaryKind::Splice { from, to, .. }
        | AdversaryKind::Drop { from, to, .. }
        | AdversaryKind::Race { from, to, .. }
        | AdversaryKind::Forward { from, to, .. } => vec![from, to],
        AdversaryKind::Member { node, .. } | AdversaryKind::Reveal { node } => vec![node],
    };
    (variant(kind), nodes)
}

/// A variant's name in words: `ClockJump` is `clock jump`.
fn variant(kind: &impl std::fmt::Debug) -> String {
    let text = format!("{kind:?}");
    let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}
