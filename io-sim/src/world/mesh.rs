//! The mesh of a world: who is told to keep a session with whom, and whether routes have come to rest.
//!
//! Invariants: a machine is told at every start. Not here: loops (`check/mesh.rs`).

use net_kernel::api::{Command, Input};
use net_kernel::base::{Addr, CommandId};

use crate::check::{LIAR, Map, Note};
use crate::host::Host;
use crate::scenario::Adversary;

use super::World;
use super::node::spoofed;

/// The command under which machines are told of their links: nothing answers it.
const JOIN: CommandId = CommandId(u64::MAX - 1);

/// What the machines of a mesh say.
#[derive(Debug, Default)]
pub(super) struct Meshes {
    map: Map,
    /// When routes were at rest first, since the last fault ended.
    pub(super) rested: Option<u64>,
    /// When every link was up first.
    linked: Option<u64>,
}

impl<H: Host> World<H> {
    /// A machine was started: it is told whom to keep a session with.
    pub(super) fn join(&mut self, node: u32) {
        let liar = |adversary: &Adversary| super::adversary::member(adversary) == Some(node);
        if self.scenario.mesh.is_some() && self.scenario.adversaries.iter().any(liar) {
            let (at, values) = (self.now, Vec::new());
            let note = Note {
                node,
                at,
                what: LIAR,
                values,
            };
            self.mapped(&note);
            self.panel.note(&note);
        }
        let Some(mesh) = self.scenario.mesh.as_ref().filter(|mesh| mesh.multicast.is_none()) else {
            return;
        };
        let (links, dead) = (mesh.links.clone(), mesh.dead_addresses);
        for (from, to) in links {
            if from != node || self.nodes[node as usize].host.is_none() {
                continue;
            }
            let (address, peer) = (self.address_of(node, to), self.entities[to as usize]);
            let mut addresses: Vec<Addr> = (0..dead).map(|n| spoofed(n << 24 | u64::from(to))).collect();
            addresses.push(address);
            addresses.iter().for_each(|address| self.dials(node, *address));
            let join = Command::Join {
                peer,
                addresses: &addresses,
            };
            self.turn(node, Input::Command(JOIN, join));
        }
    }

    /// A machine said something of its routes.
    pub(super) fn mapped(&mut self, note: &Note) {
        if self.scenario.mesh.is_some() {
            self.meshes.map.note(note);
        }
    }

    /// What is not at rest about the routes, if anything.
    pub(super) fn unrest(&self) -> Option<String> {
        self.scenario.mesh.as_ref().filter(|mesh| mesh.converge)?;
        let alive: Vec<u32> = (0..self.nodes.len() as u32)
            .filter(|&node| self.nodes[node as usize].host.is_some())
            .collect();
        match self.apart() {
            Some((a, b)) => Some(format!("nodes {a} and {b} are not linked")),
            None => self.meshes.map.converged(&alive).err(),
        }
    }

    /// The first link between machines that run that is not up.
    fn apart(&self) -> Option<(u32, u32)> {
        let links = &self.scenario.mesh.as_ref()?.links;
        let up = |node: u32| self.nodes[node as usize].host.is_some();
        let apart = links
            .iter()
            .find(|(a, b)| up(*a) && up(*b) && !self.meshes.map.linked(*a, *b));
        apart.copied()
    }

    /// Notes when every link is up first, once all machines were started.
    pub(super) fn note_linked(&mut self) {
        let all = self.scenario.mesh.is_some() && self.now > self.last_start();
        if all && self.meshes.linked.is_none() && self.apart().is_none() {
            self.meshes.linked = Some(self.now);
        }
    }

    /// How long it took from the start of the last machine until every link was up.
    pub(super) fn linked(&self) -> Option<u64> {
        Some(self.meshes.linked?.saturating_sub(self.last_start()))
    }

    fn last_start(&self) -> u64 {
        self.scenario.nodes.iter().map(|node| node.starts).max().unwrap_or(0)
    }

    /// How long routes took to come to rest after the last fault, where they must.
    pub(super) fn rest(&self) -> Option<u64> {
        Some(self.meshes.rested?.saturating_sub(self.quiet_after))
    }

    /// Notes when routes are at rest first, once all faults are over.
    pub(super) fn note_rest(&mut self) {
        if self.meshes.rested.is_none() && self.unrest().is_none() {
            self.meshes.rested = Some(self.now);
        }
    }

    /// Whether routes are at rest.
    pub(super) fn at_rest(&self) -> bool {
        self.unrest().is_none()
    }
}
