//! Events that set something off, in every arm: what waits for what, how often it was seen, and what was set off by it.
//!
//! Invariants: a trigger fires at most once; who feeds it stops when links are healed.
//! Not here: what the world does when one fires (`world/trigger.rs`), what faults do.

use net_sim_model::Kinds;

use crate::scenario::{Fault, Happening, NodeIndex, Scenario, Trigger};

#[derive(Debug)]
struct Watch<T> {
    trigger: Trigger,
    target: T,
    seen: u64,
    fired: bool,
}

/// What waits for events, and what each sets off.
#[derive(Debug)]
pub struct Watches<T>(Vec<Watch<T>>);

impl<T> Default for Watches<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Watches<T> {
    /// Watches for triggers, each with what it sets off.
    pub fn new(triggers: impl IntoIterator<Item = (Trigger, T)>) -> Self {
        let watch = |(trigger, target)| Watch {
            trigger,
            target,
            seen: 0,
            fired: false,
        };
        Self(triggers.into_iter().map(watch).collect())
    }

    /// Whether nothing was ever waited for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody still waits for one of these.
    #[must_use]
    pub fn wait_for(&self, events: &[Happening]) -> bool {
        let waits = |watch: &Watch<T>| !watch.fired && events.contains(&watch.trigger.event);
        self.0.iter().any(waits)
    }

    /// Something happened once more: answers what it sets off.
    pub fn happened(&mut self, what: &Happened) -> Vec<T> {
        self.fire(|watch| {
            watch.seen += u64::from(what.meets(&watch.trigger));
            watch.seen == watch.trigger.nth
        })
    }

    /// So many have happened, by `count` of what a trigger waits for: answers what that sets off.
    pub fn reached(&mut self, event: Happening, count: impl Fn(&Trigger) -> u64) -> Vec<T> {
        self.fire(|watch| watch.trigger.event == event && count(&watch.trigger) >= watch.trigger.nth)
    }

    fn fire(&mut self, mut due: impl FnMut(&mut Watch<T>) -> bool) -> Vec<T> {
        let mut fired = Vec::new();
        for watch in self.0.iter_mut().filter(|watch| !watch.fired) {
            if due(watch) {
                watch.fired = true;
                fired.push(watch.target);
            }
        }
        fired
    }
}

/// A fault that an event set off, with its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetOff {
    /// Which fault.
    pub fault: usize,
    /// When it begins.
    pub at: u64,
    /// When it ends; `u64::MAX` is never.
    pub until: u64,
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Happened {
    /// What.
    pub event: Happening,
    /// Where.
    pub node: NodeIndex,
    /// To a datagram of which kind.
    pub kind: Option<Kinds>,
    /// In which workload a message was delivered.
    pub workload: Option<u32>,
}

impl Happened {
    /// At a machine, about no datagram and no message.
    #[must_use]
    pub const fn at(event: Happening, node: NodeIndex) -> Self {
        Self {
            event,
            node,
            kind: None,
            workload: None,
        }
    }

    fn meets(&self, trigger: &Trigger) -> bool {
        let kind = match (trigger.kind, self.kind) {
            (Some(wanted), Some(kind)) => wanted.meets(kind),
            (Some(_) | None, None) | (None, Some(_)) => true,
        };
        trigger.event == self.event
            && trigger.node.is_none_or(|node| node == self.node)
            && trigger.workload.is_none_or(|workload| self.workload == Some(workload))
            && kind
    }
}

/// All triggers of a scenario's faults, for the arms that are not the world: they set no adversaries off.
#[derive(Debug, Default)]
pub struct Triggers {
    watches: Watches<usize>,
    set_off: Vec<SetOff>,
}

impl Triggers {
    /// The triggers of a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let faults = scenario.faults.iter().enumerate();
        Self {
            watches: Watches::new(faults.filter_map(|(fault, spec)| Some((spec.when?, fault)))),
            set_off: Vec::new(),
        }
    }

    /// Whether somebody still waits for one of these.
    #[must_use]
    pub fn wait_for(&self, events: &[Happening]) -> bool {
        self.watches.wait_for(events)
    }

    /// Something happened: answers what it sets off, from `now` on.
    pub fn happened(&mut self, now: u64, faults: &[Fault], what: &Happened) -> Vec<SetOff> {
        let window = |fault: usize| SetOff {
            fault,
            at: now.saturating_add(faults[fault].at),
            until: now.saturating_add(faults[fault].until),
        };
        let fired: Vec<SetOff> = self.watches.happened(what).into_iter().map(window).collect();
        self.set_off.extend(&fired);
        fired
    }

    /// What was set off since it was asked last.
    pub fn take(&mut self) -> Vec<SetOff> {
        std::mem::take(&mut self.set_off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        schema = 1
        name = "set-off"
        duration = "10s"
        [topology]
        nodes = [ { id = "a" }, { id = "b" } ]
        [[workload]]
        kind = "stream"
        id = "ab"
        from = "a"
        to = "b"
        count = 5
        [[fault]]
        kind = "crash"
        node = "a"
        when = { event = "session-up", node = "b", nth = 2 }
        after = "1s"
        for = "2s"
        [[fault]]
        kind = "partition"
        from = "a"
        when = { event = "delivered", workload = "ab", nth = 3 }
        for = "1s"
    "#;

    #[test]
    fn an_event_counts_where_it_is_awaited_and_fires_once_at_its_number() {
        let scenario = Scenario::resolved("set-off.toml", TEXT, 1).expect("a good scenario");
        let mut triggers = Triggers::new(&scenario);
        let mut tell = |now, what: Happened| triggers.happened(now, &scenario.faults, &what);
        assert_eq!(tell(1, Happened::at(Happening::SessionUp, 1)), []);
        assert_eq!(tell(2, Happened::at(Happening::SessionUp, 0)), [], "elsewhere");
        assert_eq!(tell(3, Happened::at(Happening::SessionDown, 1)), [], "something else");
        let second = tell(4, Happened::at(Happening::SessionUp, 1));
        let (at, until) = (1_000_000_004, 3_000_000_004);
        assert_eq!(second, [SetOff { fault: 0, at, until }]);
        assert_eq!(tell(5, Happened::at(Happening::SessionUp, 1)), [], "once");
        let delivered = Happened {
            workload: Some(0),
            ..Happened::at(Happening::Delivered, 1)
        };
        assert_eq!((tell(6, delivered), tell(7, delivered)), (vec![], vec![]));
        assert_eq!(tell(8, delivered).len(), 1);
        assert_eq!(triggers.take().len(), 2);
        assert_eq!(triggers.take(), []);
    }
}
