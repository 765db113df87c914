//! A NAT box: which outside endpoint stands for an inside one, and who outside may send to it (RFC 4787).
//!
//! Mapping and filtering are independent of each other, each endpoint-independent, address-dependent, or address- and
//! port-dependent (sections 4.1 and 5). Ports are chosen by key, never in turn, so that one mapping more or less moves no
//! other as long as they do not collide.
//! Invariants: one outside port stands for one inside endpoint at a time; a mapping that was not refreshed for the
//! timeout lets nothing in, and its port may be taken; an inside endpoint keeps its mapping while it is refreshed, unless
//! the box forgets or rebinds.
//! Not here: what is on either side (`net-io-sim`), real routers.

use std::collections::BTreeMap;

use crate::key::{Family, Key};

/// An address and a port, as one number each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    /// The address, whatever it is made of.
    pub host: u64,
    /// The port.
    pub port: u16,
}

/// What a behaviour depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dependence {
    /// Nothing outside.
    Endpoint,
    /// The address outside.
    Address,
    /// The address and the port outside.
    AddressAndPort,
}

/// Which datagrams keep a mapping alive (RFC 4787 section 4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refresh {
    /// Those that go out.
    Outbound,
    /// Those that go out and those let in.
    Both,
}

/// What a box is like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NatSpec {
    /// What a mapping depends on.
    pub mapping: Dependence,
    /// Whom a mapping lets in.
    pub filtering: Dependence,
    /// Whether inside endpoints reach each other by their outside ones (section 6).
    pub hairpin: bool,
    /// A mapping not refreshed for this long, ns, is gone.
    pub timeout: u64,
    /// What refreshes it.
    pub refresh: Refresh,
    /// Whether the inside port is taken where it is free (section 4.2.1).
    pub preserve_port: bool,
    /// Whether even ports map to even ones and odd to odd (section 4.2.2).
    pub parity: bool,
    /// Lowest and highest port given out.
    pub ports: (u16, u16),
}

impl NatSpec {
    /// Anybody may send to a mapping: "full cone".
    pub const FULL_CONE: Self = Self {
        mapping: Dependence::Endpoint,
        filtering: Dependence::Endpoint,
        hairpin: false,
        timeout: 120_000_000_000,
        refresh: Refresh::Outbound,
        preserve_port: false,
        parity: false,
        ports: (1_024, u16::MAX),
    };
    /// Only addresses that were sent to may send.
    pub const RESTRICTED: Self = Self {
        filtering: Dependence::Address,
        ..Self::FULL_CONE
    };
    /// Only endpoints that were sent to may send.
    pub const PORT_RESTRICTED: Self = Self {
        filtering: Dependence::AddressAndPort,
        ..Self::FULL_CONE
    };
    /// A mapping per endpoint sent to, and only that one may send.
    pub const SYMMETRIC: Self = Self {
        mapping: Dependence::AddressAndPort,
        ..Self::PORT_RESTRICTED
    };
}

/// Why a box let a datagram end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NatDrop {
    /// The port stands for nobody, or no more.
    Unmapped,
    /// The sender may not send to it.
    Filtered,
    /// No port is free.
    Full,
    /// From inside to an outside endpoint of the box itself, which does not turn such datagrams round.
    Hairpin,
    /// The box is off.
    Down,
}

impl NatDrop {
    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmapped => "nat_unmapped",
            Self::Filtered => "nat_filtered",
            Self::Full => "nat_full",
            Self::Hairpin => "nat_hairpin",
            Self::Down => "nat_down",
        }
    }
}

/// What a mapping is found by: the inside endpoint, and of the outside one as much as the mapping depends on.
type Inside = (Endpoint, u64, u16);

#[derive(Clone, Debug)]
struct Mapping {
    inside: Inside,
    refreshed: u64,
    /// Whom it was used to send to, as far as filtering asks, and when last.
    contacted: BTreeMap<(u64, u16), u64>,
}

/// What a box did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NatCounts {
    /// Mappings made.
    pub mapped: u64,
    /// Of these, in place of one of the same inside endpoint that had timed out.
    pub remapped: u64,
    /// Datagrams turned round for another inside endpoint.
    pub hairpinned: u64,
}

/// A box at work.
#[derive(Clone, Debug)]
pub struct Nat {
    spec: NatSpec,
    key: Key,
    /// The port given last, which may be another's by now, and how many were given.
    by_inside: BTreeMap<Inside, (u16, u64)>,
    by_port: BTreeMap<u16, Mapping>,
    /// How often it rebound its ports.
    round: u64,
    down: bool,
    counts: NatCounts,
}

/// Keyed tries before ports are searched in turn.
const TRIES: u64 = 32;

impl Nat {
    /// A box without mappings whose decisions stand under `key` (seed, box).
    #[must_use]
    pub const fn new(spec: NatSpec, key: Key) -> Self {
        Self {
            spec,
            key: key.family(Family::Nat),
            by_inside: BTreeMap::new(),
            by_port: BTreeMap::new(),
            round: 0,
            down: false,
            counts: NatCounts {
                mapped: 0,
                remapped: 0,
                hairpinned: 0,
            },
        }
    }

    /// What it is like.
    #[must_use]
    pub const fn spec(&self) -> &NatSpec {
        &self.spec
    }

    /// What it did so far.
    #[must_use]
    pub const fn counts(&self) -> &NatCounts {
        &self.counts
    }

    /// Whether it is off.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.down
    }

    /// Live mappings at `now` ns.
    #[must_use]
    pub fn live(&self, now: u64) -> usize {
        self.by_port.values().filter(|mapping| self.lives(mapping, now)).count()
    }

    /// A datagram goes out from `inside` to `to` at `now` ns: the port it leaves from.
    ///
    /// # Errors
    /// [`NatDrop::Down`] and [`NatDrop::Full`].
    pub fn outbound(&mut self, now: u64, inside: Endpoint, to: Endpoint) -> Result<u16, NatDrop> {
        if self.down {
            return Err(NatDrop::Down);
        }
        let (host, port) = depends(self.spec.mapping, to);
        let from = (inside, host, port);
        let given = self.by_inside.get(&from).copied();
        let port = match given {
            Some((port, _)) if self.stands_for(port, from, now) => port,
            Some((_, times)) => {
                self.counts.remapped += 1;
                self.map(now, from, times)?
            }
            None => self.map(now, from, 0)?,
        };
        let remote = depends(self.spec.filtering, to);
        if let Some(mapping) = self.by_port.get_mut(&port) {
            mapping.refreshed = now;
            mapping.contacted.insert(remote, now);
        }
        Ok(port)
    }

    /// The inside endpoint that `port` stands or stood for, whether or not anything would be let in.
    #[must_use]
    pub fn behind(&self, port: u16) -> Option<Endpoint> {
        self.by_port.get(&port).map(|mapping| mapping.inside.0)
    }

    /// The port that stands for `inside` at `now` ns and was refreshed last, as one learns it who was sent to.
    #[must_use]
    pub fn port_of(&self, now: u64, inside: Endpoint) -> Option<u16> {
        let first = (inside, 0, 0);
        let own = self.by_inside.range(first..).take_while(|(from, _)| from.0 == inside);
        let live = own.filter_map(|(from, (port, _))| {
            let mapping = self.by_port.get(port)?;
            self.stands_for(*port, *from, now).then_some((mapping.refreshed, *port))
        });
        live.max().map(|(_, port)| port)
    }

    /// A datagram from `from` reaches `port` at `now` ns: whom it is for.
    ///
    /// # Errors
    /// Why it is for nobody.
    pub fn inbound(&mut self, now: u64, from: Endpoint, port: u16) -> Result<Endpoint, NatDrop> {
        if self.down {
            return Err(NatDrop::Down);
        }
        let timeout = self.spec.timeout;
        let remote = depends(self.spec.filtering, from);
        let refresh = self.spec.refresh;
        let mapping = self.by_port.get_mut(&port).ok_or(NatDrop::Unmapped)?;
        if now.saturating_sub(mapping.refreshed) >= timeout {
            return Err(NatDrop::Unmapped);
        }
        if self.spec.filtering != Dependence::Endpoint {
            let contacted = mapping.contacted.get_mut(&remote).ok_or(NatDrop::Filtered)?;
            if now.saturating_sub(*contacted) >= timeout {
                return Err(NatDrop::Filtered);
            }
            if refresh == Refresh::Both {
                *contacted = now;
            }
        }
        if refresh == Refresh::Both {
            mapping.refreshed = now;
        }
        Ok(mapping.inside.0)
    }

    /// A datagram from inside goes to an outside endpoint of the box itself.
    ///
    /// # Errors
    /// [`NatDrop::Hairpin`] where the box does not turn it round.
    pub const fn hairpin(&mut self) -> Result<(), NatDrop> {
        if !self.spec.hairpin {
            return Err(NatDrop::Hairpin);
        }
        self.counts.hairpinned += 1;
        Ok(())
    }

    /// Every mapping gets another port from its next datagram on; the old ports let nothing in. Answers how many lived.
    pub fn rebind(&mut self, now: u64) -> usize {
        let lived = self.live(now);
        self.round += 1;
        self.by_inside.clear();
        self.by_port.clear();
        lived
    }

    /// The box goes off, or on again with no memory of its mappings. Answers how many lived.
    pub fn power(&mut self, now: u64, on: bool) -> usize {
        self.down = !on;
        if on { 0 } else { self.rebind(now) }
    }

    fn lives(&self, mapping: &Mapping, now: u64) -> bool {
        now.saturating_sub(mapping.refreshed) < self.spec.timeout
    }

    fn stands_for(&self, port: u16, inside: Inside, now: u64) -> bool {
        let mapping = self.by_port.get(&port);
        mapping.is_some_and(|mapping| mapping.inside == inside && self.lives(mapping, now))
    }

    fn map(&mut self, now: u64, inside: Inside, times: u64) -> Result<u16, NatDrop> {
        let port = self.allocate(now, inside, times).ok_or(NatDrop::Full)?;
        self.by_inside.insert(inside, (port, times + 1));
        let contacted = BTreeMap::new();
        let mapping = Mapping {
            inside,
            refreshed: now,
            contacted,
        };
        self.by_port.insert(port, mapping);
        self.counts.mapped += 1;
        Ok(port)
    }

    fn allocate(&self, now: u64, inside: Inside, times: u64) -> Option<u16> {
        let (endpoint, host, port) = inside;
        let free = |port: u16| !self.by_port.get(&port).is_some_and(|mapping| self.lives(mapping, now));
        let (low, high) = self.spec.ports;
        let fits = |port: u16| (low..=high).contains(&port) && !(self.spec.parity && port % 2 != endpoint.port % 2);
        // A preserved port would come back at once: after a rebinding it is another one.
        if self.spec.preserve_port && self.round == 0 && fits(endpoint.port) && free(endpoint.port) {
            return Some(endpoint.port);
        }
        let key = self.key.with(endpoint.host).with(u64::from(endpoint.port));
        let key = key.with(host).with(u64::from(port)).with(self.round).with(times);
        let span = u64::from(high.saturating_sub(low)) + 1;
        let keyed = (0..TRIES).map(|n| low + key.below(n, span) as u16);
        keyed
            .map(|port| {
                let odd_one = self.spec.parity && port % 2 != endpoint.port % 2;
                if odd_one { port ^ 1 } else { port }
            })
            .find(|port| fits(*port) && free(*port))
            .or_else(|| (low..=high).find(|port| fits(*port) && free(*port)))
    }
}

const fn depends(on: Dependence, to: Endpoint) -> (u64, u16) {
    match on {
        Dependence::Endpoint => (0, 0),
        Dependence::Address => (to.host, 0),
        Dependence::AddressAndPort => (to.host, to.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    const fn at(host: u64, port: u16) -> Endpoint {
        Endpoint { host, port }
    }

    const A: Endpoint = at(1, 4_000);
    const B: Endpoint = at(2, 4_000);
    const X: Endpoint = at(100, 9_000);
    const X2: Endpoint = at(100, 9_001);
    const Y: Endpoint = at(101, 9_000);

    fn nat(spec: NatSpec) -> Nat {
        Nat::new(spec, Key::new(5))
    }

    fn with_mapping(mapping: Dependence) -> NatSpec {
        NatSpec {
            mapping,
            ..NatSpec::FULL_CONE
        }
    }

    #[test]
    fn a_mapping_depends_on_what_its_kind_says() {
        let ports = |mapping| {
            let mut nat = nat(with_mapping(mapping));
            [X, X2, Y].map(|to| nat.outbound(0, A, to).unwrap())
        };
        let [x, x2, y] = ports(Dependence::Endpoint);
        assert!(x == x2 && x == y, "one for all");
        let [x, x2, y] = ports(Dependence::Address);
        assert!(x == x2 && x != y, "one per address");
        let [x, x2, y] = ports(Dependence::AddressAndPort);
        assert!(x != x2 && x != y && x2 != y, "one per endpoint");
    }

    #[test]
    fn filtering_lets_in_whom_its_kind_says() {
        let lets_in = |spec: NatSpec| {
            let mut nat = nat(spec);
            let port = nat.outbound(0, A, X).unwrap();
            [X, X2, Y].map(|from| nat.inbound(1, from, port))
        };
        assert_eq!(lets_in(NatSpec::FULL_CONE), [Ok(A); 3]);
        assert_eq!(lets_in(NatSpec::RESTRICTED), [Ok(A), Ok(A), Err(NatDrop::Filtered)]);
        let two = [Err(NatDrop::Filtered); 2];
        assert_eq!(lets_in(NatSpec::PORT_RESTRICTED)[1..], two);
        assert_eq!(lets_in(NatSpec::SYMMETRIC)[1..], two);
    }

    #[test]
    fn a_mapping_times_out_unless_it_is_refreshed_in_the_direction_that_counts() {
        for (refresh, survives) in [(Refresh::Outbound, false), (Refresh::Both, true)] {
            let mut nat = nat(NatSpec {
                refresh,
                timeout: 30 * SECOND,
                ..NatSpec::PORT_RESTRICTED
            });
            let port = nat.outbound(0, A, X).unwrap();
            assert_eq!(nat.inbound(29 * SECOND, X, port), Ok(A));
            assert_eq!(nat.inbound(31 * SECOND, X, port).is_ok(), survives, "{refresh:?}");
            assert_eq!(
                nat.outbound(50 * SECOND, A, X).unwrap() == port,
                survives,
                "{refresh:?}: another port"
            );
            assert_eq!(nat.counts().remapped, u64::from(!survives));
        }
    }

    #[test]
    fn rebinding_moves_every_port_and_a_reboot_forgets() {
        let mut nat = nat(NatSpec {
            preserve_port: true,
            ..NatSpec::PORT_RESTRICTED
        });
        let port = nat.outbound(0, A, X).unwrap();
        assert_eq!(port, A.port, "preserved");
        assert_ne!(nat.outbound(0, B, X).unwrap(), port, "taken: another one");
        assert_eq!(nat.port_of(0, A), Some(port));
        assert_eq!(nat.rebind(1), 2);
        assert_eq!(nat.inbound(1, X, port), Err(NatDrop::Unmapped));
        let moved = nat.outbound(1, A, X).unwrap();
        assert_ne!(moved, port);
        assert_eq!(nat.inbound(2, X, moved), Ok(A));
        assert_eq!(nat.power(3, false), 1);
        assert_eq!(nat.outbound(3, A, X), Err(NatDrop::Down));
        assert_eq!(nat.inbound(3, X, moved), Err(NatDrop::Down));
        nat.power(4, true);
        assert_eq!(nat.inbound(4, X, moved), Err(NatDrop::Unmapped));
        assert!(nat.outbound(4, A, X).is_ok());
    }

    #[test]
    fn parity_is_kept_and_a_full_box_says_so() {
        let mut nat = nat(NatSpec {
            parity: true,
            ports: (2_000, 2_003),
            ..NatSpec::FULL_CONE
        });
        let even: Vec<_> = (0..3).map(|host| nat.outbound(0, at(host, 10), X)).collect();
        assert!(
            even[..2].iter().all(|port| port.is_ok_and(|port| port % 2 == 0)),
            "{even:?}"
        );
        assert_eq!(even[2], Err(NatDrop::Full));
        assert_eq!(nat.outbound(0, at(7, 11), X).unwrap() % 2, 1);
        assert!(
            nat.outbound(121 * SECOND, at(9, 10), X).is_ok(),
            "what timed out is free again"
        );
    }

    #[test]
    fn hairpinning_is_a_choice() {
        let mut one = nat(NatSpec::FULL_CONE);
        assert_eq!(one.hairpin(), Err(NatDrop::Hairpin));
        let mut other = nat(NatSpec {
            hairpin: true,
            ..NatSpec::FULL_CONE
        });
        assert_eq!(other.hairpin(), Ok(()));
        assert_eq!(other.counts().hairpinned, 1);
    }
}
