//! What the world tells checkers of a machine's turn.
//!
//! Invariants: it tells what is so, from the world's own books, not what a kernel claims.
//! Not here: datagrams (`net.rs`), streams (`apps.rs`), what checkers make of it (`crate::check`).

use net_kernel::api::{Event, Holdings};
use net_kernel::base::{Addr, EntityId};

use super::{World, node};
use crate::check::{KeyLifetime, Observation, Panel, wants};
use crate::host::Host;
use crate::scenario::{FaultKind, Scenario};

/// Sessions one machine may hold for every other, ended ones that linger included.
const LINGERING: usize = 48;

/// The checkers of a run.
pub(super) fn panel<H: Host>(scenario: &Scenario) -> Panel {
    let mut panel = H::panel();
    if H::clear() {
        panel.add(Box::new(KeyLifetime::new(scenario.config.reject_after.as_nanos())));
    }
    panel
}

/// Whether some machine's state is rolled back or copied in the course of a scenario.
pub(super) fn rolls_back(scenario: &Scenario) -> bool {
    scenario.faults.iter().any(|fault| {
        matches!(
            fault.kind,
            FaultKind::RestoreDisk { .. } | FaultKind::Clone { .. } | FaultKind::Disk { .. }
        )
    })
}

/// With whom sessions began in a turn.
pub(super) fn begun(events: &[Event]) -> Vec<EntityId> {
    let begun = events.iter().filter_map(|event| {
        if let Event::Connected { peer, .. } = event {
            Some(*peer)
        } else {
            None
        }
    });
    begun.collect()
}

impl<H: Host> World<H> {
    /// A turn's events were told to the applications.
    pub(super) fn watch(&mut self, node: u32, begun: &[EntityId], accused: bool) {
        for entity in begun {
            let Some(&peer) = self.apps.entities.get(entity) else {
                continue;
            };
            let sessions = self.apps.sessions[node as usize].values();
            let live = sessions.filter(|other| **other == peer).count() as u32;
            let seen = Observation::Sessions { node, peer, live };
            self.panel.observe(self.now, wants::NODE, &seen);
        }
        if accused {
            let truly = self.rolls_back;
            self.panel
                .observe(self.now, wants::NODE, &Observation::Accused { node, truly });
        }
    }

    /// A machine says that it has a session: whoever is at the other end must hold the identity it is said to be with.
    /// A clone holds that of its original. Addresses of adversaries, who pass on what others made, tell nothing.
    pub(super) fn watch_name(&mut self, node: u32, peer: &EntityId, address: &Addr) {
        let Some(&named) = self.apps.entities.get(peer) else {
            return;
        };
        let machine = node::owner(address).and_then(|machine| self.nodes.get(machine as usize));
        let truly = match machine {
            Some(machine) => machine.identity == named,
            None => self.nats.covers(address, named).unwrap_or(true),
        };
        if !truly {
            let what = format!(
                "node {node} has a session with node {named}, but another machine is at the other end, {address}"
            );
            return self.panel.fail(self.now, "identity", what);
        }
        if let Some(machine) = machine {
            let (process, epoch) = (self.nodes[node as usize].incarnation, machine.epoch);
            let seen = Observation::Begun {
                node,
                process,
                peer: named,
                epoch,
            };
            self.panel.observe(self.now, wants::NODE, &seen);
        }
    }

    /// Asks every process how much it holds. The limits: some sessions for every machine of the world, since closed ones
    /// linger; three keys each and those that wait; all streams allowed; one session window each of early data.
    pub(super) fn weigh(&mut self) {
        let config = &self.scenario.config;
        let sessions = self.nodes.len() * LINGERING;
        let limit = Holdings {
            sessions,
            keys: sessions * 3 + config.max_pending,
            streams: sessions * 2 * config.max_streams as usize,
            reordering: sessions * config.session_window as usize,
            in_flight: sessions as u64 * config.session_window * 2,
        };
        for (node, machine) in self.nodes.iter().enumerate() {
            if let Some(holdings) = machine.host.as_ref().and_then(Host::holdings) {
                let seen = Observation::Holding {
                    node: node as u32,
                    holdings,
                    limit,
                };
                self.panel.observe(self.now, wants::HOLDING, &seen);
            }
            for load in machine.host.as_ref().map_or_else(Vec::new, Host::timers) {
                let seen = Observation::Timers {
                    node: node as u32,
                    load,
                };
                self.panel.observe(self.now, wants::HOLDING, &seen);
            }
        }
    }

    /// A machine handed out one more job.
    pub(super) fn watch_job(&mut self, node: u32) {
        let machine = &mut self.nodes[node as usize];
        machine.jobs += 1;
        let under_way = machine.jobs;
        self.panel
            .observe(self.now, wants::NODE, &Observation::Jobs { node, under_way });
    }

    /// The user of a machine told it to dial an address.
    pub(super) fn dials(&mut self, node: u32, address: Addr) {
        let seen = Observation::Validated { node, address };
        self.panel.observe(self.now, wants::RECEIVED, &seen);
    }
}
