//! A run that can be stopped: at a time, a turn, an event, a machine's next doing, a violation; and looked into there.
//!
//! Invariants: stopping and looking change nothing: a run that was stopped ends with the digest of one that was not.
//! Not here: commands (`cli/replay.rs`).

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Entry, Fact, History};
use crate::host::Host;
use crate::run::{self, EVENT_LIMIT, Report, Spec};
use crate::scenario::{Scenario, duration};
use crate::world::{NodeState, World};

/// Entries of the record kept while a run is replayed.
const KEPT: usize = 1_000_000;

/// What an application is told (`Event` of the kernel), as a stop names it.
pub const TOLD: [&str; 16] = [
    "connected",
    "connectfailed",
    "closed",
    "opened",
    "streamopened",
    "writable",
    "finished",
    "flushed",
    "streamreset",
    "streamstopped",
    "echo",
    "rekeyed",
    "moved",
    "staterolledback",
    "refused",
    "storefailed",
];

/// Where a replay stops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Before anything later than this world time happens, ns.
    Time(u64),
    /// When all processes together took so many turns.
    Turn(u64),
    /// When the record has an entry of this number.
    Entry(u64),
    /// When a checker fails: any, or the one of this name.
    Checker(Option<String>),
    /// When something of this name happens: an entry's kind (`dropped`, `rekey`), an event the application is told
    /// (`connected`), or a part of its words. Case does not count.
    Event(String),
    /// When something happens on this machine.
    Node(String),
}

impl Stop {
    /// Reads `12.5s`, `turn:120`, `entry:4711`, `#4711`, `checker`, `checker=NAME`, `event=NAME`, `node=ID`, or a bare
    /// name of an event.
    ///
    /// # Errors
    /// A sentence that names the forms.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            let parsed = digits.parse::<u64>();
            parsed.map_err(|_| format!("`{digits}` is not a number; write `turn:120` or `entry:4711`"))
        };
        let text = text.trim();
        let named = |name: &str| {
            if name.is_empty() {
                Err(format!("`{text}` names nothing; write `event=connected` or `node=a`"))
            } else {
                Ok(name.to_owned())
            }
        };
        if text == "checker" {
            return Ok(Self::Checker(None));
        }
        if let Some(digits) = text.strip_prefix('#') {
            return number(digits).map(Self::Entry);
        }
        match text.split_once([':', '=']) {
            Some(("turn", digits)) => number(digits).map(Self::Turn),
            Some(("entry", digits)) => number(digits).map(Self::Entry),
            Some(("checker", name)) => named(name).map(Some).map(Self::Checker),
            Some(("event", name)) => named(name).map(Self::Event),
            Some(("node", name)) => named(name).map(Self::Node),
            Some((other, _)) => Err(format!(
                "`{other}` is no kind of stop; write a time such as `12.5s`, `turn:120`, `entry:4711`, `checker`, \
                 `checker=NAME`, `event=NAME` or `node=ID`"
            )),
            None => Ok(duration(text).map_or_else(|_| Self::Event(text.to_owned()), Self::Time)),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(ns) => write!(f, "{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000),
            Self::Turn(turn) => write!(f, "turn {turn}"),
            Self::Entry(entry) => write!(f, "entry #{entry}"),
            Self::Checker(None) => f.write_str("a checker"),
            Self::Checker(Some(name)) => write!(f, "checker {name}"),
            Self::Event(name) => write!(f, "event {name}"),
            Self::Node(name) => write!(f, "node {name}"),
        }
    }
}

/// Why a replay stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Halt {
    /// One of its stops was met.
    Met(Stop),
    /// So many steps were made.
    Stepped,
    /// The run is over.
    Over,
}

/// A run that can be stopped.
pub struct Replay<H: Host> {
    world: World<H>,
    spec: Spec,
    seed: u64,
    expected: Option<String>,
    over: bool,
    /// The state before the last step, and what it was after it.
    last: Vec<NodeState>,
    watched: bool,
}

impl<H: Host> Replay<H> {
    /// The run of `spec` under `seed`, at its beginning.
    ///
    /// # Errors
    /// The scenario's.
    pub fn new(spec: &Spec, seed: u64) -> Result<Self, String> {
        let scenario = Scenario::resolved(&spec.file, &spec.text, seed).map_err(|error| error.to_string())?;
        let expected = scenario.expect_fail.clone();
        let mut world = World::<H>::new(scenario, seed);
        world.limit(EVENT_LIMIT);
        world.record_history(KEPT, false);
        Ok(Self {
            world,
            spec: spec.clone(),
            seed,
            expected,
            over: false,
            last: Vec::new(),
            watched: false,
        })
    }

    /// Remembers the state before every step from now on, so that [`Self::difference`] can tell what the last one did.
    pub const fn watch(&mut self) {
        self.watched = true;
    }

    /// Goes on to the first of `stops`, for `steps` steps at most. A step is something that leaves an entry in the record.
    pub fn go(&mut self, stops: &[Stop], steps: Option<u64>) -> Halt {
        let mut made = 0;
        while !self.over {
            if let Some(met) = stops.iter().find(|stop| self.ahead(stop)) {
                return Halt::Met(met.clone());
            }
            if steps.is_some_and(|steps| made >= steps) {
                return Halt::Stepped;
            }
            let before = self.end();
            if self.watched {
                self.last = self.states();
            }
            self.over = !self.world.proceed();
            if self.end() == before {
                continue;
            }
            made += 1;
            if let Some(met) = stops.iter().find(|stop| self.met(stop, before)) {
                return Halt::Met(met.clone());
            }
        }
        let checker = |stop: &&Stop| matches!(stop, Stop::Checker(_)) && self.met(stop, 0);
        stops
            .iter()
            .find(checker)
            .map_or(Halt::Over, |stop| Halt::Met(stop.clone()))
    }

    /// Whether the next step would pass a stop that is a moment.
    fn ahead(&self, stop: &Stop) -> bool {
        match stop {
            Stop::Time(ns) => self.world.next_at().is_none_or(|at| at > *ns),
            Stop::Turn(_) | Stop::Entry(_) | Stop::Checker(_) | Stop::Event(_) | Stop::Node(_) => false,
        }
    }

    /// Whether the entries from `since` on meet a stop.
    fn met(&self, stop: &Stop, since: u64) -> bool {
        let Some(history) = self.world.history() else {
            return false;
        };
        let mut new = (since..history.end()).filter_map(|id| history.get(id));
        match stop {
            Stop::Time(_) => false,
            Stop::Turn(turn) => self.world.turns() >= *turn,
            Stop::Entry(entry) => history.end() > *entry,
            Stop::Checker(name) => {
                let failed = self.world.violation();
                failed.is_some_and(|failed| name.as_ref().is_none_or(|name| *name == failed.checker))
            }
            Stop::Event(name) => new.any(|entry| is_called(history, entry, name)),
            Stop::Node(name) => new.any(|entry| entry.node.is_some_and(|node| history.names().node(node) == name)),
        }
    }

    fn end(&self) -> u64 {
        self.world.history().map_or(0, History::end)
    }

    /// World time, ns.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.world.now()
    }

    /// Turns of all processes so far.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.world.turns()
    }

    /// Whether the run is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// The number the next entry of the record will have.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.end()
    }

    /// The last entries of the record, as lines.
    #[must_use]
    pub fn lines(&self, count: usize) -> Vec<String> {
        self.world
            .history()
            .map_or_else(Vec::new, |history| history.last_lines(count))
    }

    /// The entries of the record from number `since` on, as lines.
    #[must_use]
    pub fn lines_since(&self, since: u64) -> Vec<String> {
        let Some(history) = self.world.history() else {
            return Vec::new();
        };
        let entries = (since..history.end()).filter_map(|id| history.get(id));
        entries.map(|entry| history.line(entry)).collect()
    }

    /// The names of all machines, by number.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.world.names()
    }

    /// The state of every machine.
    #[must_use]
    pub fn states(&self) -> Vec<NodeState> {
        let count = self.world.names().len() as u32;
        (0..count).filter_map(|node| self.world.state(node)).collect()
    }

    /// What the last step changed: machine, name, before, after. Clocks, which every step moves, are left out.
    #[must_use]
    pub fn difference(&self) -> Vec<(String, String, String, String)> {
        let mut changes = Vec::new();
        let none = NodeState::new();
        for (node, (name, after)) in self.names().into_iter().zip(self.states()).enumerate() {
            let before = self.last.get(node).unwrap_or(&none);
            let all: BTreeMap<&String, ()> = before.keys().chain(after.keys()).map(|key| (key, ())).collect();
            for key in all
                .into_keys()
                .filter(|key| !matches!(key.as_str(), "clock.mono" | "clock.wall"))
            {
                let value = |state: &NodeState| state.get(key).cloned().unwrap_or_else(|| "-".to_owned());
                if before.get(key) != after.get(key) {
                    changes.push((name.clone(), key.clone(), value(before), value(&after)));
                }
            }
        }
        changes
    }

    /// Runs on to the end and answers the report, with the digest of the whole run.
    #[must_use]
    pub fn finish(self) -> Report {
        let mut outcome = self.world.run();
        let history = outcome.history.take();
        run::report(
            &self.spec,
            self.seed,
            outcome,
            self.expected.as_deref(),
            history.as_ref(),
        )
    }
}

/// Whether an entry is what `name` names.
fn is_called(history: &History, entry: &Entry, name: &str) -> bool {
    let name = name.to_lowercase();
    if entry.what.name() == name {
        return true;
    }
    if let Fact::Told(event) = &entry.what {
        let debug = format!("{event:?}");
        let variant: String = debug.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        if variant.to_lowercase() == name {
            return true;
        }
    }
    history.text(entry).to_lowercase().contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_read_in_all_their_forms() {
        assert_eq!(Stop::parse("12.5s"), Ok(Stop::Time(12_500_000_000)));
        assert_eq!(Stop::parse("turn:120"), Ok(Stop::Turn(120)));
        assert_eq!(Stop::parse("#7"), Ok(Stop::Entry(7)));
        assert_eq!(Stop::parse("entry=7"), Ok(Stop::Entry(7)));
        assert_eq!(Stop::parse("checker"), Ok(Stop::Checker(None)));
        assert_eq!(Stop::parse("checker=slo"), Ok(Stop::Checker(Some("slo".to_owned()))));
        assert_eq!(Stop::parse("event=connected"), Ok(Stop::Event("connected".to_owned())));
        assert_eq!(Stop::parse("connected"), Ok(Stop::Event("connected".to_owned())));
        assert_eq!(Stop::parse("node=a"), Ok(Stop::Node("a".to_owned())));
        assert!(Stop::parse("turn:x").unwrap_err().contains("write `turn:120`"));
        assert!(Stop::parse("nodes=a").unwrap_err().contains("`node=ID`"));
        assert!(Stop::parse("node=").is_err());
    }
}
