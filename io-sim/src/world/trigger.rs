//! Events that set faults and adversaries off.
//!
//! Invariants: a trigger fires at most once, and never in the liveness phase; what it sets off happens after the event
//! that did it was dealt with.
//! Not here: what faults do (`script.rs`).

use net_kernel::api::Event;
use net_sim_model::Kinds;

use super::World;
use super::event::What;
use super::script::Line;
use crate::host::Host;
use crate::scenario::{Happening, Scenario, Trigger};

/// What a trigger sets off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Fault(u32),
    Adversary(u32),
}

#[derive(Debug)]
struct Watch {
    trigger: Trigger,
    target: Target,
    seen: u64,
    fired: bool,
}

/// All triggers of a scenario.
#[derive(Debug, Default)]
pub struct Triggers {
    watches: Vec<Watch>,
    /// Whether somebody waits for datagrams: these are too many to be looked at for nothing.
    datagrams: bool,
    deliveries: bool,
}

impl Triggers {
    /// The triggers of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let faults = scenario.faults.iter().enumerate();
        let faults = faults.map(|(index, fault)| (fault.when, Target::Fault(index as u32)));
        let adversaries = scenario.adversaries.iter().enumerate();
        let adversaries = adversaries.map(|(index, one)| (one.when, Target::Adversary(index as u32)));
        let watches: Vec<Watch> = faults
            .chain(adversaries)
            .filter_map(|(when, target)| {
                let (seen, fired) = (0, false);
                when.map(|trigger| Watch {
                    trigger,
                    target,
                    seen,
                    fired,
                })
            })
            .collect();
        let waits = |event| watches.iter().any(|watch| watch.trigger.event == event);
        Self {
            datagrams: waits(Happening::Sent) || waits(Happening::Received),
            deliveries: waits(Happening::Delivered),
            watches,
        }
    }

    /// Whether nobody waits for anything.
    #[inline]
    pub const fn none(&self) -> bool {
        self.watches.is_empty()
    }

    /// Whether somebody waits for datagrams.
    #[inline]
    pub const fn datagrams(&self) -> bool {
        self.datagrams
    }

    /// Whether somebody waits for deliveries.
    #[inline]
    pub const fn deliveries(&self) -> bool {
        self.deliveries
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Happened {
    /// What.
    pub event: Happening,
    /// Where.
    pub node: u32,
    /// To a datagram of which kind.
    pub kind: Option<Kinds>,
}

impl Happened {
    /// At a machine, about no datagram.
    pub const fn at(event: Happening, node: u32) -> Self {
        let kind = None;
        Self { event, node, kind }
    }
}

impl<H: Host> World<H> {
    /// Something happened: what waits for it is set off.
    #[cold]
    pub(super) fn happened(&mut self, what: Happened) {
        if self.healed {
            return;
        }
        for index in 0..self.triggers.watches.len() {
            let watch = &mut self.triggers.watches[index];
            let trigger = &watch.trigger;
            let here = trigger.node.is_none_or(|node| node == what.node);
            let kind = match (trigger.kind, what.kind) {
                (Some(wanted), Some(kind)) => wanted.meets(kind),
                (Some(_) | None, None) | (None, Some(_)) => true,
            };
            if watch.fired || trigger.event != what.event || !here || !kind {
                continue;
            }
            watch.seen += 1;
            if watch.seen == watch.trigger.nth {
                watch.fired = true;
                let target = watch.target;
                self.set_off(target);
            }
        }
    }

    /// What a process told its application.
    pub(super) fn told(&mut self, node: u32, event: &Event) {
        let event = match event {
            Event::Connected { .. } => Happening::SessionUp,
            Event::Closed { .. } => Happening::SessionDown,
            Event::ConnectFailed { .. } => Happening::ConnectFailed,
            Event::Rekeyed { .. } => Happening::Rekeyed,
            Event::Moved { .. } => Happening::Moved,
            Event::StreamOpened { .. } => Happening::StreamOpened,
            Event::StoreFailed { .. } => Happening::StoreFailed,
            Event::Opened { .. }
            | Event::Writable { .. }
            | Event::Finished { .. }
            | Event::Flushed { .. }
            | Event::StreamReset { .. }
            | Event::StreamStopped { .. }
            | Event::Echo { .. }
            | Event::StateRolledBack { .. }
            | Event::Mesh(_)
            | Event::Refused { .. } => return,
        };
        self.happened(Happened::at(event, node));
    }

    /// Messages may have been delivered.
    #[cold]
    pub(super) fn count_deliveries(&mut self) {
        for index in 0..self.triggers.watches.len() {
            let watch = &self.triggers.watches[index];
            let trigger = watch.trigger;
            if watch.fired || self.healed || trigger.event != Happening::Delivered {
                continue;
            }
            if self.apps.arrived(trigger.workload, trigger.node) >= trigger.nth {
                let watch = &mut self.triggers.watches[index];
                watch.fired = true;
                let target = watch.target;
                self.set_off(target);
            }
        }
    }

    fn set_off(&mut self, target: Target) {
        let (at, until) = match target {
            Target::Fault(fault) => {
                let fault = &self.scenario.faults[fault as usize];
                (fault.at, fault.until)
            }
            Target::Adversary(adversary) => {
                let adversary = &self.scenario.adversaries[adversary as usize];
                (adversary.at, adversary.until)
            }
        };
        let (at, until) = (self.now.saturating_add(at), self.now.saturating_add(until));
        self.quiet_after = self.quiet_after.max(if until == u64::MAX { at } else { until });
        match target {
            Target::Fault(fault) => {
                self.links.set_window(fault, at, until);
                if let Some(recorder) = &mut self.recorder {
                    recorder.set_off(fault, at, until);
                }
                self.add_line(at, Line::Fault(fault));
                if until != u64::MAX {
                    self.add_line(until, Line::End(fault));
                }
            }
            Target::Adversary(index) => {
                let villain = &mut self.villains[index as usize];
                (villain.spec.at, villain.spec.until) = (at, until);
                self.add_line(at, Line::Strike(index));
            }
        }
    }

    fn add_line(&mut self, at: u64, line: Line) {
        let number = self.script.len() as u32;
        self.script.push((at, line));
        self.queue.push(at, What::Script { line: number });
    }
}
