//! Routes: no chain of next hops closes at any instant, and in the end routes are about as short as links allow.
//!
//! Machines say what they would do with a packet and whom they are linked to; the whole is judged here, by what all of
//! them say. Invariants: a next hop that was started anew since is no next hop: nothing that is sent to it arrives.
//! Not here: how machines come to their routes (`net-kernel`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use net_kernel::base::map::IdMap;

use super::{Checker, Note};

/// A machine was started: its name, its epoch, over how many hops machines are heard of, and its wire label.
pub const BOOTED: &str = "mesh.booted";
/// A machine's links: name, epoch, whether it counts, cost in microseconds of each.
pub const LINKS: &str = "mesh.links";
/// Routes that changed: destination, next hop (0 for none), its epoch, hops, microseconds.
pub const ROUTES: &str = "mesh.routes";

/// A machine whose packets an adversary changes: what it says need not be what it does.
pub const LIAR: &str = "mesh.liar";
/// What a machine said of itself, once signed: epoch, count, digest.
pub const SAID: &str = "mesh.said";
/// What machines are taken to have said: name, epoch, count, digest of each.
pub const BELIEVED: &str = "mesh.believed";

/// A link, as one end sees it.
#[derive(Clone, Copy, Debug)]
struct Link {
    epoch: u64,
    counts: bool,
    cost: u64,
}

/// A route.
#[derive(Clone, Copy, Debug)]
struct Hop {
    next: u64,
    epoch: u64,
    hops: u64,
    cost: u64,
}

/// One machine, as it sees itself.
#[derive(Clone, Debug, Default)]
struct Place {
    epoch: u64,
    radius: u64,
    label: u64,
    links: BTreeMap<u64, Link>,
    routes: IdMap<u64, Hop>,
}

/// What all machines say, by name.
#[derive(Clone, Debug, Default)]
pub struct Map {
    places: IdMap<u64, Place>,
    names: BTreeMap<u32, u64>,
    /// Machines by wire label.
    sharing: BTreeMap<u64, Vec<u64>>,
    liars: BTreeSet<u32>,
}

impl Map {
    /// Takes in what a machine says. Answers the destinations to which its routes changed.
    pub fn note(&mut self, note: &Note) -> Vec<u64> {
        match note.what {
            BOOTED => {
                if let [name, epoch, radius, label] = note.values[..] {
                    self.names.insert(note.node, name);
                    let sharing = self.sharing.entry(label).or_default();
                    if !sharing.contains(&name) {
                        sharing.push(name);
                    }
                    self.places.insert(
                        name,
                        Place {
                            epoch,
                            radius,
                            label,
                            ..Place::default()
                        },
                    );
                }
                Vec::new()
            }
            LIAR => {
                self.liars.insert(note.node);
                Vec::new()
            }
            LINKS => {
                if let Some(place) = self.place(note.node) {
                    place.links = note
                        .values
                        .chunks_exact(4)
                        .map(|link| {
                            let (epoch, counts, cost) = (link[1], link[2] == 1, link[3]);
                            (link[0], Link { epoch, counts, cost })
                        })
                        .collect();
                }
                Vec::new()
            }
            ROUTES => {
                let Some(place) = self.place(note.node) else {
                    return Vec::new();
                };
                let changed = note.values.chunks_exact(5).map(|route| {
                    let [to, next, epoch, hops, cost] = *route else {
                        unreachable!("chunks of five")
                    };
                    if next == 0 {
                        place.routes.swap_remove(&to);
                    } else {
                        let hop = Hop {
                            next,
                            epoch,
                            hops,
                            cost,
                        };
                        place.routes.insert(to, hop);
                    }
                    to
                });
                changed.collect()
            }
            _ => Vec::new(),
        }
    }

    fn place(&mut self, node: u32) -> Option<&mut Place> {
        self.places.get_mut(self.names.get(&node)?)
    }

    /// The machines that a packet of `node` to `to` comes by, by name; an error where it comes by one twice.
    fn chain(&self, node: u32, to: u64) -> Result<(), Vec<u64>> {
        let Some(&start) = self.names.get(&node).filter(|_| !self.liars.contains(&node)) else {
            return Ok(());
        };
        let lies = |name: u64| self.liars.iter().any(|liar| self.names.get(liar) == Some(&name));
        let mut chain = vec![start];
        let mut at = start;
        while let Some(hop) = self.places.get(&at).and_then(|place| place.routes.get(&to)) {
            let current = self.places.get(&hop.next).map(|place| place.epoch);
            if hop.next == to || current != Some(hop.epoch) || lies(hop.next) {
                return Ok(());
            }
            let known = chain.contains(&hop.next);
            chain.push(hop.next);
            if known {
                return Err(chain);
            }
            at = hop.next;
        }
        Ok(())
    }

    /// The numbers of machines by name.
    fn numbers(&self) -> BTreeMap<u64, u32> {
        self.names.iter().map(|(&node, &name)| (name, node)).collect()
    }

    /// The machines that share their wire label with another one.
    fn sharing(&self) -> BTreeSet<u64> {
        let crowds = self.sharing.values().filter(|names| names.len() > 1);
        crowds.flatten().copied().collect()
    }

    /// Whether both ends of a link count on it, and what it costs the first one.
    fn edge(&self, from: u64, to: u64) -> Option<u64> {
        let (a, b) = (self.places.get(&from)?, self.places.get(&to)?);
        let (there, back) = (a.links.get(&to)?, b.links.get(&from)?);
        let both = there.counts && back.counts && there.epoch == b.epoch && back.epoch == a.epoch;
        both.then_some(there.cost)
    }

    /// Whether both ends count on the link between them.
    #[must_use]
    pub fn linked(&self, a: u32, b: u32) -> bool {
        match (self.names.get(&a), self.names.get(&b)) {
            (Some(&a), Some(&b)) => self.edge(a, b).is_some(),
            (None, _) | (_, None) => false,
        }
    }

    /// The links that both ends count on, by the place of a machine in the map.
    fn edges(&self) -> Vec<Vec<(usize, u64)>> {
        let edges = self.places.iter().map(|(&from, place)| {
            let links = place.links.keys();
            links
                .filter_map(|&to| Some((self.places.get_index_of(&to)?, self.edge(from, to)?)))
                .collect()
        });
        edges.collect()
    }

    /// Whether every machine has a route to every other that links lead to, no longer than tolerance lets it be, and none
    /// to any other; `alive` are the machines that count.
    ///
    /// # Errors
    /// The first that is missing, too many or too long.
    pub fn converged(&self, alive: &[u32]) -> Result<(), String> {
        let numbers = self.numbers();
        let sharing = self.sharing();
        let alive: BTreeSet<u64> = alive.iter().filter_map(|node| self.names.get(node)).copied().collect();
        let edges = self.edges();
        for &from in &alive {
            let (at, place) = match self.places.get_full(&from) {
                Some((at, _, place)) => (at, place),
                None => continue,
            };
            let best = shortest(&edges, at);
            let name = numbers[&from];
            // What is sent to a label that two machines share may go to either.
            for &to in alive.iter().filter(|&&to| to != from && !sharing.contains(&to)) {
                let number = numbers[&to];
                let best = self.places.get_index_of(&to).and_then(|to| best[to]);
                match (best, place.routes.get(&to)) {
                    (None, None) => {}
                    (None, Some(_)) => {
                        return Err(format!("node {name} has a route to node {number}, where no link leads"));
                    }
                    (Some(_), None) => return Err(format!("node {name} has no route to node {number}")),
                    (Some(best), Some(hop)) => {
                        let most = allowed(best, hop.hops);
                        if hop.cost > most {
                            return Err(format!(
                                "node {name} reaches node {number} in {} us over {} hops; {best} us are possible, {most} allowed",
                                hop.cost, hop.hops
                            ));
                        }
                    }
                }
            }
            if let Some(gone) = place.routes.keys().filter(|to| !alive.contains(to)).min() {
                return Err(format!(
                    "node {name} has a route to node {}, which is down",
                    numbers.get(gone).copied().unwrap_or(u32::MAX)
                ));
            }
        }
        Ok(())
    }
}

/// The lowest sums of costs from one machine, over links that both ends count on (Dijkstra).
fn shortest(edges: &[Vec<(usize, u64)>], from: usize) -> Vec<Option<u64>> {
    let mut best: Vec<Option<u64>> = vec![None; edges.len()];
    best[from] = Some(0);
    let mut open = BinaryHeap::from([Reverse((0, from))]);
    while let Some(Reverse((sum, at))) = open.pop() {
        if best[at].is_some_and(|known| known < sum) {
            continue;
        }
        for &(next, cost) in &edges[at] {
            if best[next].is_none_or(|known| sum + cost < known) {
                best[next] = Some(sum + cost);
                open.push(Reverse((sum + cost, next)));
            }
        }
    }
    best
}

/// How long a route may be where `best` microseconds are possible: at each hop a way that is an eighth longer is kept,
/// and so is the last announced length that is off by an eighth; links' costs follow measurements by as much.
fn allowed(best: u64, hops: u64) -> u64 {
    (0..3 * hops).fold(best, |sum, _| sum + sum / 8 + 100)
}

/// Looks at every route when it changes, on the map that machines draw together.
#[derive(Debug)]
pub struct EveryRoute {
    name: &'static str,
    map: Map,
    /// What must not be about the route of a machine, by number, to a destination, by name.
    judge: fn(&Map, u32, u64) -> Result<(), String>,
}

impl EveryRoute {
    /// No chain of next hops closes, at any instant, among machines that follow the protocol.
    #[must_use]
    pub fn closes_no_loop() -> Self {
        Self {
            name: "route-loop",
            map: Map::default(),
            judge: closes_no_loop,
        }
    }

    /// Nobody has routes to two machines that share a wire label: what is sent to one must not come to the other.
    #[must_use]
    pub fn goes_by_one_name() -> Self {
        Self {
            name: "shared-label",
            map: Map::default(),
            judge: goes_by_one_name,
        }
    }

    /// Nobody has a route to a machine that never was, nor one that leads over more hops than machines are heard of.
    #[must_use]
    pub fn leads_somewhere() -> Self {
        Self {
            name: "made-up-node",
            map: Map::default(),
            judge: leads_somewhere,
        }
    }
}

impl Checker for EveryRoute {
    fn name(&self) -> &'static str {
        self.name
    }

    fn noted(&mut self, note: &Note) -> Result<(), String> {
        let changed = self.map.note(note);
        changed
            .into_iter()
            .try_for_each(|to| (self.judge)(&self.map, note.node, to))
    }
}

fn closes_no_loop(map: &Map, node: u32, to: u64) -> Result<(), String> {
    let Err(chain) = map.chain(node, to) else { return Ok(()) };
    let numbers = map.numbers();
    let name = |name: &u64| numbers.get(name).map_or_else(|| "?".to_owned(), u32::to_string);
    let words: Vec<String> = chain.iter().map(name).collect();
    Err(format!(
        "next hops to node {} form a circle: {}",
        name(&to),
        words.join(" -> ")
    ))
}

fn goes_by_one_name(map: &Map, node: u32, to: u64) -> Result<(), String> {
    let own = map.names.get(&node).copied();
    let place = own.and_then(|own| map.places.get(&own));
    let (Some(own), Some(place), Some(there)) = (own, place, map.places.get(&to)) else {
        return Ok(());
    };
    let sharing = map.sharing.get(&there.label).map_or(&[][..], Vec::as_slice);
    let reached = |name: &u64| *name == own || place.routes.contains_key(name);
    match sharing.iter().find(|&&name| name != to && reached(&name)) {
        Some(other) if place.routes.contains_key(&to) => {
            let numbers = map.numbers();
            Err(format!(
                "node {node} has routes to nodes {} and {}, which share a label",
                numbers[&to], numbers[other]
            ))
        }
        Some(_) | None => Ok(()),
    }
}

fn leads_somewhere(map: &Map, node: u32, to: u64) -> Result<(), String> {
    let Some(place) = map.places.get(&to) else {
        return Err(format!("node {node} has a route to {to:016x}, which never was"));
    };
    let own = map.names.get(&node).and_then(|label| map.places.get(label));
    let hops = own.and_then(|own| own.routes.get(&to)).map_or(0, |hop| hop.hops);
    if hops > place.radius {
        let radius = place.radius;
        return Err(format!(
            "node {node} has a route of {hops} hops to a machine that is heard of over {radius}"
        ));
    }
    Ok(())
}

/// Nobody takes a machine to have said what it never said.
#[derive(Debug, Default)]
pub struct NeverSaid {
    names: BTreeMap<u32, u64>,
    /// By name, epoch and count.
    said: BTreeMap<(u64, u64, u64), u64>,
}

impl Checker for NeverSaid {
    fn name(&self) -> &'static str {
        "never-said"
    }

    fn noted(&mut self, note: &Note) -> Result<(), String> {
        match (note.what, &note.values[..]) {
            (BOOTED, [name, ..]) => {
                self.names.insert(note.node, *name);
            }
            (SAID, &[epoch, count, digest]) => {
                if let Some(&name) = self.names.get(&note.node) {
                    self.said.insert((name, epoch, count), digest);
                }
            }
            (BELIEVED, words) => {
                for word in words.chunks_exact(4) {
                    let [name, epoch, count, digest] = *word else {
                        unreachable!("chunks of four")
                    };
                    if self.said.get(&(name, epoch, count)) != Some(&digest) {
                        let node = note.node;
                        let who = self.names.iter().find(|(_, known)| **known == name);
                        let who = who.map_or_else(|| format!("{name:016x}"), |(number, _)| number.to_string());
                        return Err(format!(
                            "node {node} believes that node {who} said in word {count} of boot {epoch} what it did not"
                        ));
                    }
                }
            }
            (_, _) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::note;

    /// Machines 0, 1 and 2 of names 10, 11 and 12.
    fn booted(mut checker: EveryRoute) -> EveryRoute {
        for node in 0..3 {
            checker
                .noted(&note(node, BOOTED, &[10 + u64::from(node), 1, 2, u64::from(node)]))
                .expect("nothing yet");
        }
        checker
    }

    #[test]
    fn a_circle_is_noticed_when_it_closes() {
        let mut checker = booted(EveryRoute::closes_no_loop());
        assert!(checker.noted(&note(0, ROUTES, &[12, 11, 1, 2, 100])).is_ok());
        assert!(checker.noted(&note(1, ROUTES, &[12, 12, 1, 1, 50])).is_ok());
        assert!(checker.noted(&note(1, ROUTES, &[12, 10, 1, 3, 150])).is_err());
    }

    #[test]
    fn a_route_to_nobody_is_noticed() {
        let mut checker = booted(EveryRoute::leads_somewhere());
        assert!(checker.noted(&note(0, ROUTES, &[12, 11, 1, 2, 100])).is_ok());
        assert!(checker.noted(&note(0, ROUTES, &[13, 11, 1, 2, 100])).is_err());
        assert!(checker.noted(&note(0, ROUTES, &[12, 11, 1, 3, 100])).is_err());
    }

    #[test]
    fn who_was_started_anew_closes_no_circle_with_its_past() {
        let mut checker = booted(EveryRoute::closes_no_loop());
        assert!(checker.noted(&note(0, ROUTES, &[12, 11, 1, 2, 100])).is_ok());
        assert!(checker.noted(&note(1, BOOTED, &[11, 2, 2, 0])).is_ok());
        assert!(checker.noted(&note(1, ROUTES, &[12, 10, 1, 3, 150])).is_ok());
    }

    #[test]
    fn words_that_were_never_said_are_noticed() {
        let mut checker = NeverSaid::default();
        for told in [note(0, BOOTED, &[10, 1, 2, 0]), note(0, SAID, &[1, 7, 99])] {
            assert!(checker.noted(&told).is_ok());
        }
        assert!(checker.noted(&note(1, BELIEVED, &[10, 1, 7, 99])).is_ok());
        assert!(checker.noted(&note(1, BELIEVED, &[10, 1, 7, 98])).is_err());
        assert!(checker.noted(&note(1, BELIEVED, &[10, 1, 8, 99])).is_err());
        assert!(checker.noted(&note(1, BELIEVED, &[11, 1, 7, 99])).is_err());
    }

    #[test]
    fn a_circle_through_a_liar_is_its_own_doing() {
        let mut checker = booted(EveryRoute::closes_no_loop());
        assert!(checker.noted(&note(1, LIAR, &[])).is_ok());
        assert!(checker.noted(&note(0, ROUTES, &[12, 11, 1, 2, 100])).is_ok());
        assert!(checker.noted(&note(1, ROUTES, &[12, 10, 1, 3, 150])).is_ok());
    }

    #[test]
    fn routes_to_two_machines_of_one_label_are_noticed() {
        let mut checker = booted(EveryRoute::goes_by_one_name());
        assert!(checker.noted(&note(1, BOOTED, &[11, 2, 2, 0])).is_ok());
        assert!(checker.noted(&note(2, ROUTES, &[10, 11, 1, 2, 100])).is_ok());
        assert!(checker.noted(&note(2, ROUTES, &[11, 11, 1, 1, 50])).is_err());
        assert!(checker.noted(&note(2, ROUTES, &[10, 0, 0, 0, 0])).is_ok());
        assert!(
            checker.noted(&note(0, ROUTES, &[11, 11, 1, 1, 50])).is_err(),
            "it is one of the two itself"
        );
    }

    #[test]
    fn missing_long_and_dead_routes_are_noticed() {
        let mut map = booted(EveryRoute::closes_no_loop()).map;
        for (node, links) in [(0, [11]), (1, [10])] {
            map.note(&note(node, LINKS, &[links[0], 1, 1, 1_000]));
        }
        assert!(map.converged(&[0, 1]).unwrap_err().contains("no route"));
        map.note(&note(0, ROUTES, &[11, 11, 1, 1, 1_000]));
        map.note(&note(1, ROUTES, &[10, 10, 1, 1, 1_000]));
        assert_eq!(map.converged(&[0, 1]), Ok(()));
        map.note(&note(1, ROUTES, &[10, 10, 1, 1, 3_000]));
        assert!(map.converged(&[0, 1]).unwrap_err().contains("allowed"));
        map.note(&note(1, ROUTES, &[10, 10, 1, 1, 1_000, 12, 10, 1, 2, 2_000]));
        assert!(map.converged(&[0, 1]).unwrap_err().contains("down"));
        assert!(map.converged(&[0, 1, 2]).unwrap_err().contains("no link leads"));
    }
}
