//! What NAT boxes do to datagrams: addresses inside and outside.
//!
//! A datagram leaves through its sender's box before it travels and enters through its target's box when it arrives. What a
//! peer sees is the outside address.
//! Invariants: a machine behind a box is reached from outside through a mapping alone; without boxes nothing here runs.
//! Not here: what a box decides (`net-sim-model`).

use std::net::Ipv4Addr;
use std::rc::Rc;

use net_kernel::base::Addr;
use net_sim_model::{Endpoint, Key, Nat, NatDrop};

use super::{World, node};
use crate::host::Host;
use crate::scenario::Scenario;

/// A box in the world.
#[derive(Debug)]
struct Unit {
    nat: Nat,
    /// How often its own address changed.
    generation: u8,
    lan: bool,
}

/// All boxes of a world.
#[derive(Debug)]
pub struct Boxes {
    units: Vec<Unit>,
    /// The box that each machine of the scenario is behind.
    of: Vec<Option<u32>>,
}

impl Boxes {
    /// The boxes of a scenario.
    pub fn new(scenario: &Rc<Scenario>, key: Key) -> Self {
        let units = scenario.nats.iter().map(|nat| Unit {
            nat: Nat::new(nat.spec.clone(), key.with_text(&nat.id)),
            generation: 0,
            lan: nat.lan,
        });
        Self {
            units: units.collect(),
            of: scenario.nodes.iter().map(|node| node.nat).collect(),
        }
    }

    /// Whether there is none.
    #[inline]
    pub const fn none(&self) -> bool {
        self.units.is_empty()
    }

    fn of(&self, identity: u32) -> Option<u32> {
        self.of.get(identity as usize).copied().flatten()
    }

    /// The outside address of a port of a box.
    fn outside(&self, unit: u32, port: u16) -> Addr {
        let [_, _, high, low] = unit.to_be_bytes();
        let generation = self.units[unit as usize].generation;
        (Ipv4Addr::new(OUTSIDE, generation, high, low), port).into()
    }

    /// Whether a machine of this identity is behind the box that an outside address belongs to; `None` where it is no box's
    /// address now.
    pub fn covers(&self, address: &Addr, identity: u32) -> Option<bool> {
        self.at(address).map(|(unit, _)| self.of(identity) == Some(unit))
    }

    /// The box an outside address belongs to now, and its port.
    fn at(&self, address: &Addr) -> Option<(u32, u16)> {
        let Addr::V4(address) = address else { return None };
        let [OUTSIDE, generation, high, low] = address.ip().octets() else {
            return None;
        };
        let unit = u32::from_be_bytes([0, 0, high, low]);
        let known = self.units.get(unit as usize)?;
        (known.generation == generation).then_some((unit, address.port()))
    }

    /// Every mapping of a box moves to another port or, with the box, to another address. Answers how many lived.
    pub fn rebind(&mut self, now: u64, unit: u32, address: bool) -> u64 {
        let unit = &mut self.units[unit as usize];
        if address {
            unit.generation = unit.generation.wrapping_add(1);
            return unit.nat.live(now) as u64;
        }
        unit.nat.rebind(now) as u64
    }

    /// A box goes off or on. Answers how many mappings lived.
    pub fn power(&mut self, now: u64, unit: u32, on: bool) -> u64 {
        self.units[unit as usize].nat.power(now, on) as u64
    }

    /// Boxes before machines of the core work again.
    pub fn heal(&mut self, now: u64, core: impl Fn(u32) -> bool, scenario: &Scenario) {
        for node in (0..scenario.nodes.len() as u32).filter(|node| core(*node)) {
            if let Some(unit) = self.of(node)
                && self.units[unit as usize].nat.is_down()
            {
                self.units[unit as usize].nat.power(now, true);
            }
        }
    }

    /// What all boxes did.
    pub fn counters(&self, now: u64, add: &mut impl FnMut(String, u64)) {
        for unit in &self.units {
            let counts = unit.nat.counts();
            add("nat.mapped".to_owned(), counts.mapped);
            add("nat.remapped".to_owned(), counts.remapped);
            add("nat.hairpinned".to_owned(), counts.hairpinned);
            add("nat.live".to_owned(), unit.nat.live(now) as u64);
        }
    }
}

/// Above the numbers of machines.
const MACHINES: u64 = 1 << 40;
/// The first byte of outside addresses.
const OUTSIDE: u8 = 100;

impl<H: Host> World<H> {
    /// An address as a box knows it: machines by the number under which decisions about them stand, so that taking one
    /// out moves no other's ports.
    fn endpoint(&self, address: &Addr) -> Endpoint {
        let host = match (node::owner(address), address) {
            (Some(machine), _) => u64::from(self.scenario.number(machine)),
            (None, Addr::V4(address)) => MACHINES | u64::from(u32::from(*address.ip())),
            // The world has IPv4 addresses only; anything else differs from all of them.
            (None, Addr::V6(_)) => u64::MAX,
        };
        let port = address.port();
        Endpoint { host, port }
    }

    /// The machine an inside endpoint belongs to.
    fn machine_at(&self, inside: Endpoint) -> Option<u32> {
        (0..self.nodes.len() as u32).find(|node| u64::from(self.scenario.number(*node)) == inside.host)
    }

    fn box_of(&self, node: u32) -> Option<u32> {
        self.nats.of(self.nodes[node as usize].identity)
    }

    /// The address under which `asker` reaches `peer`: its own, or that of a mapping which somebody outside was told.
    pub(super) fn address_of(&self, asker: u32, peer: u32) -> Addr {
        let inside = self.nodes[peer as usize].address;
        if self.nats.none() {
            return inside;
        }
        match self.box_of(peer) {
            Some(unit) if self.box_of(asker) == Some(unit) && self.nats.units[unit as usize].lan => inside,
            Some(_) => self.outside_address(peer),
            None => inside,
        }
    }

    /// The address of a machine as it is seen from outside.
    pub(super) fn outside_address(&self, node: u32) -> Addr {
        let inside = self.nodes[node as usize].address;
        let Some(unit) = self.box_of(node) else { return inside };
        let at = self.endpoint(&inside);
        let port = self.nats.units[unit as usize].nat.port_of(self.now, at);
        self.nats.outside(unit, port.unwrap_or(at.port))
    }

    /// A datagram leaves `node`: whose machine it goes to, if any. Its source is what the outside sees from now on.
    ///
    /// # Errors
    /// The cause for which it ends here.
    pub(super) fn route(&mut self, node: u32, slot: u32) -> Result<Option<u32>, &'static str> {
        let datagram = self.pool.get(slot);
        let (from, to) = (datagram.from, datagram.to);
        let own = self.box_of(node);
        let machine = node::owner(&to).filter(|machine| (*machine as usize) < self.nodes.len());
        if let Some(machine) = machine
            && let Some(unit) = self.box_of(machine)
        {
            let beside = own == Some(unit) && self.nats.units[unit as usize].lan;
            return if beside { Ok(Some(machine)) } else { Err(UNROUTABLE) };
        }
        if let Some(unit) = own {
            let (inside, remote) = (self.endpoint(&from), self.endpoint(&to));
            let nat = &mut self.nats.units[unit as usize].nat;
            let port = nat.outbound(self.now, inside, remote).map_err(NatDrop::name)?;
            self.pool.get_mut(slot).from = self.nats.outside(unit, port);
        }
        if let Some((unit, port)) = self.nats.at(&to) {
            let nat = &mut self.nats.units[unit as usize].nat;
            if own == Some(unit) {
                nat.hairpin().map_err(NatDrop::name)?;
            }
            let inside = nat.behind(port).ok_or(NatDrop::Unmapped.name())?;
            return Ok(self.machine_at(inside));
        }
        Ok(machine)
    }

    /// The machine that a datagram of nobody's machine is for.
    ///
    /// # Errors
    /// The cause for which it ends here.
    pub(super) fn reach(&self, to: &Addr) -> Result<u32, &'static str> {
        if let Some((unit, port)) = self.nats.at(to) {
            let inside = self.nats.units[unit as usize].nat.behind(port);
            return inside
                .and_then(|inside| self.machine_at(inside))
                .ok_or(NatDrop::Unmapped.name());
        }
        match node::owner(to).filter(|machine| (*machine as usize) < self.nodes.len()) {
            Some(machine) if self.nats.none() || self.box_of(machine).is_none() => Ok(machine),
            Some(_) => Err(UNROUTABLE),
            None => Err("nobody"),
        }
    }

    /// A datagram that is not for the machine's own address arrives: its box lets it in or not.
    ///
    /// # Errors
    /// The cause for which it ends here.
    pub(super) fn let_in(&mut self, slot: u32, node: u32) -> Result<(), &'static str> {
        let datagram = self.pool.get(slot);
        let (from, to) = (datagram.from, datagram.to);
        let Some((unit, port)) = self.nats.at(&to).filter(|(unit, _)| self.box_of(node) == Some(*unit)) else {
            return Err("nobody");
        };
        let (remote, address) = (self.endpoint(&from), self.nodes[node as usize].address);
        let nat = &mut self.nats.units[unit as usize].nat;
        let inside = nat.inbound(self.now, remote, port).map_err(NatDrop::name)?;
        if inside != self.endpoint(&address) {
            return Err("nobody");
        }
        self.pool.get_mut(slot).to = address;
        Ok(())
    }
}

/// An inside address means nothing outside.
const UNROUTABLE: &str = "unroutable";
