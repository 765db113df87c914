//! The mesh of a run: what its processes say of links and routes, and whether that is at rest.
//!
//! Processes say how they see it now and then, each at its own moment. So nothing is judged while it changes; in the end every
//! link must be up, every machine that links lead to must be reached on a way that closes no circle, and no other one.
//! How long ways take is not judged: measured on a shared host, the shorter of two may be either.
//! Invariants: what a process said before the last fault was over is not held against the end; what a killed process had done
//! for others counts as far as it told.
//! Not here: asking them (`run.rs`), what they say (`node.rs`), loops at every instant (`net_io_sim::check`).

use std::collections::BTreeSet;

use net_io_sim::scenario::{MeshSpec, NodeIndex};

use crate::protocol::{Relays, View};

/// What all processes said last.
#[derive(Debug)]
pub struct Mesh {
    /// When, and what.
    views: Vec<Option<(u64, View)>>,
    /// What processes that are gone had done for others.
    gone: Relays,
    /// What those that run had, when they said so last.
    running: Vec<Relays>,
}

impl Mesh {
    /// Nobody has said anything.
    #[must_use]
    pub fn new(machines: usize) -> Self {
        Self {
            views: vec![None; machines],
            gone: Relays::default(),
            running: vec![Relays::default(); machines],
        }
    }

    /// A process says how it sees the mesh.
    pub fn says(&mut self, node: NodeIndex, at: u64, view: View) {
        self.relayed(node, view.relayed);
        self.views[node as usize] = Some((at, view));
    }

    /// A process says what it did for others.
    pub fn relayed(&mut self, node: NodeIndex, relayed: Relays) {
        self.running[node as usize] = relayed;
    }

    /// A process is gone.
    pub fn gone(&mut self, node: NodeIndex) {
        self.views[node as usize] = None;
        add(&mut self.gone, std::mem::take(&mut self.running[node as usize]));
    }

    /// What all processes did for others.
    #[must_use]
    pub fn sum(&self) -> Relays {
        let mut sum = self.gone;
        self.running.iter().for_each(|one| add(&mut sum, *one));
        sum
    }

    /// What is not at rest among the machines that count, if anything; what was said before `since` is too old.
    #[must_use]
    pub fn unrest(&self, spec: &MeshSpec, counting: &BTreeSet<NodeIndex>, since: u64) -> Option<String> {
        let mut views = vec![None; self.views.len()];
        for &node in counting {
            let said = self.views[node as usize].as_ref();
            match said.filter(|(at, _)| *at > since) {
                Some((_, view)) => views[node as usize] = Some(view),
                None => return Some(format!("node {node} has not said how it sees the mesh")),
            }
        }
        let counts = |node: NodeIndex| counting.contains(&node);
        let links: Vec<_> = spec.links.iter().filter(|(a, b)| counts(*a) && counts(*b)).collect();
        let sees = |from: NodeIndex, to: NodeIndex| views[from as usize].is_some_and(|view| view.links.contains(&to));
        if let Some((a, b)) = links.iter().find(|(a, b)| !sees(*a, *b) || !sees(*b, *a)) {
            return Some(format!("nodes {a} and {b} are not linked"));
        }
        for &from in counting {
            let reached = within(&links, from, spec.config.radius);
            let routes = views[from as usize].map_or(&[][..], |view| &view.routes);
            if let Some((gone, _)) = routes.iter().find(|(to, _)| !reached.contains(to)) {
                return Some(format!("node {from} has a route to node {gone}, where no link leads"));
            }
            for &to in &reached {
                if let Err(why) = walk(&views, from, to) {
                    return Some(why);
                }
            }
        }
        None
    }
}

const fn add(sum: &mut Relays, one: Relays) {
    sum.packets += one.packets;
    sum.bytes += one.bytes;
    sum.refused += one.refused;
}

/// The machines that links lead to from one, over so many hops.
fn within(links: &[&(NodeIndex, NodeIndex)], from: NodeIndex, hops: u8) -> BTreeSet<NodeIndex> {
    let mut reached = BTreeSet::from([from]);
    for _ in 0..hops {
        let next: Vec<NodeIndex> = links
            .iter()
            .filter_map(|&&(a, b)| match (reached.contains(&a), reached.contains(&b)) {
                (true, false) => Some(b),
                (false, true) => Some(a),
                (true, true) | (false, false) => None,
            })
            .collect();
        if next.is_empty() {
            break;
        }
        reached.extend(next);
    }
    reached.remove(&from);
    reached
}

/// Goes from next hop to next hop.
fn walk(views: &[Option<&View>], from: NodeIndex, to: NodeIndex) -> Result<(), String> {
    let mut at = from;
    for _ in 0..views.len() {
        let routes = views[at as usize].map_or(&[][..], |view| &view.routes);
        let Some((_, next)) = routes.iter().find(|(known, _)| *known == to) else {
            return Err(format!("node {at} has no route to node {to}"));
        };
        if *next == to {
            return Ok(());
        }
        at = *next;
    }
    Err(format!("what node {from} sends to node {to} goes in a circle"))
}

#[cfg(test)]
mod tests {
    use net_io_sim::scenario::Scenario;

    use super::*;

    fn line() -> MeshSpec {
        let text = "schema = 1\nname = \"t\"\nduration = \"1s\"\n[topology]\nnodes = [{ id = \"a\" }, { id = \"b\" }, { id = \"c\" }]\n\
                    [mesh]\nshape = \"line\"\n";
        Scenario::check("t", text).unwrap().mesh.unwrap()
    }

    fn view(links: &[NodeIndex], routes: &[(NodeIndex, NodeIndex)]) -> View {
        View {
            links: links.to_vec(),
            routes: routes.to_vec(),
            relayed: Relays {
                packets: 1,
                bytes: 100,
                refused: 0,
            },
        }
    }

    fn settled() -> Mesh {
        let mut mesh = Mesh::new(3);
        mesh.says(0, 10, view(&[1], &[(1, 1), (2, 1)]));
        mesh.says(1, 10, view(&[0, 2], &[(0, 0), (2, 2)]));
        mesh.says(2, 10, view(&[1], &[(1, 1), (0, 1)]));
        mesh
    }

    fn unrest(mesh: &Mesh, counting: &[NodeIndex], since: u64) -> String {
        let counting = counting.iter().copied().collect();
        mesh.unrest(&line(), &counting, since).unwrap_or_default()
    }

    #[test]
    fn a_line_is_at_rest_once_everybody_reaches_everybody() {
        let mut mesh = settled();
        assert_eq!(unrest(&mesh, &[0, 1, 2], 9), "");
        assert!(unrest(&mesh, &[0, 1, 2], 10).contains("has not said"));
        mesh.says(0, 11, view(&[1], &[(1, 1)]));
        assert!(unrest(&mesh, &[0, 1, 2], 9).contains("no route to node 2"));
        mesh.says(0, 12, view(&[], &[(1, 1), (2, 1)]));
        assert!(unrest(&mesh, &[0, 1, 2], 9).contains("not linked"));
    }

    #[test]
    fn circles_and_routes_to_the_dead_are_seen() {
        let mut mesh = settled();
        mesh.says(1, 11, view(&[0, 2], &[(0, 0), (2, 0)]));
        assert!(unrest(&mesh, &[0, 1, 2], 9).contains("circle"));
        let mut mesh = settled();
        mesh.gone(2);
        assert!(unrest(&mesh, &[0, 1], 9).contains("no link leads"));
        mesh.says(0, 11, view(&[1], &[(1, 1)]));
        mesh.says(1, 11, view(&[0], &[(0, 0)]));
        assert_eq!(unrest(&mesh, &[0, 1], 9), "");
    }

    #[test]
    fn what_was_done_for_others_outlives_its_process() {
        let mut mesh = settled();
        mesh.gone(1);
        mesh.says(1, 11, view(&[], &[]));
        assert_eq!((mesh.sum().packets, mesh.sum().bytes), (4, 400));
    }
}
