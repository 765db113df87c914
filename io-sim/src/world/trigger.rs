//! Events that set faults and adversaries off.
//!
//! Invariants: a trigger fires at most once, and never in the liveness phase; what it sets off happens after the event
//! that did it was dealt with.
//! Not here: what meets a trigger (`crate::trigger`), what faults do (`script.rs`).

use net_kernel::api::Event;

use super::World;
use super::event::What;
use super::script::Line;
use crate::host::Host;
use crate::scenario::{Happening, Scenario, Trigger};
use crate::trigger::{Happened, Watches};

/// What a trigger sets off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Fault(u32),
    Adversary(u32),
}

/// All triggers of a scenario.
#[derive(Debug, Default)]
pub struct Triggers {
    watches: Watches<Target>,
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
        let all = faults.chain(adversaries);
        let watches = Watches::new(all.filter_map(|(when, target)| Some((when?, target))));
        Self {
            datagrams: watches.wait_for(&[Happening::Sent, Happening::Received]),
            deliveries: watches.wait_for(&[Happening::Delivered]),
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

impl<H: Host> World<H> {
    /// Something happened: what waits for it is set off.
    #[cold]
    pub(super) fn happened(&mut self, what: Happened) {
        if self.healed {
            return;
        }
        for target in self.triggers.watches.happened(&what) {
            self.set_off(target);
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
        if self.healed {
            return;
        }
        let arrived = |trigger: &Trigger| self.apps.arrived(trigger.workload, trigger.node);
        for target in self.triggers.watches.reached(Happening::Delivered, arrived) {
            self.set_off(target);
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
