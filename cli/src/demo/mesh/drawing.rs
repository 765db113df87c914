//! The mesh as its own nodes tell it, and as a line of text.
//!
//! Invariants: nothing is drawn that no node said: a link is up where both of its ends hear each other, and a way is what each
//! node on it says of the next. Not here: asking them (`nodes.rs`).

use std::collections::BTreeMap;
use std::fmt;

/// Nodes, numbered from 0 and shown from 1.
pub const NODES: usize = 7;

/// What the nodes say at about one instant.
#[derive(Clone, Default)]
pub struct Picture {
    /// Whether it answers.
    pub up: [bool; NODES],
    /// By its two ends, the lower one first: whether both hear each other.
    pub links: BTreeMap<(usize, usize), bool>,
    /// Over whom a node reaches another.
    pub next: [BTreeMap<usize, usize>; NODES],
}

impl Picture {
    /// The nodes from one to another, both included, if they say a way that ends.
    pub fn way(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut way = vec![from];
        let mut at = from;
        while at != to {
            at = *self.next[at].get(&to)?;
            if way.contains(&at) {
                return None;
            }
            way.push(at);
        }
        Some(way)
    }

    /// Whether every link there is is up.
    pub fn whole(&self) -> bool {
        self.links.values().all(|up| *up)
    }

    /// The line, with the ways marked.
    pub fn drawn<'p>(&'p self, ways: &'p [Vec<usize>]) -> Drawn<'p> {
        Drawn { picture: self, ways }
    }
}

/// A picture with ways marked in it.
pub struct Drawn<'p> {
    picture: &'p Picture,
    ways: &'p [Vec<usize>],
}

impl Drawn<'_> {
    fn link(&self, a: usize, b: usize) -> &'static str {
        let ends = (a.min(b), a.max(b));
        let used = |way: &Vec<usize>| {
            way.windows(2)
                .any(|hop| (hop[0].min(hop[1]), hop[0].max(hop[1])) == ends)
        };
        match self.picture.links.get(&ends) {
            None => "     ",
            Some(false) => "  x  ",
            Some(true) if self.ways.iter().any(used) => " === ",
            Some(true) => " --- ",
        }
    }

    fn node(&self, number: usize) -> String {
        if self.picture.up[number] {
            (number + 1).to_string()
        } else {
            "X".to_owned()
        }
    }
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = NODES - 1;
        let closed = self.picture.links.contains_key(&(0, last));
        if closed {
            write!(f, "({}){}", self.node(last), self.link(0, last))?;
        } else {
            f.write_str("        ")?;
        }
        for number in 0..NODES {
            f.write_str(&self.node(number))?;
            if number < last {
                f.write_str(self.link(number, number + 1))?;
            }
        }
        if closed {
            write!(f, "{}({})", self.link(last, 0), self.node(0))?;
        }
        Ok(())
    }
}

/// A way as text, of nodes as they are shown.
pub fn way(nodes: &[usize]) -> String {
    let numbers: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    numbers.join(" > ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Picture {
        let mut picture = Picture {
            up: [true; NODES],
            ..Picture::default()
        };
        for node in 0..NODES {
            let next = (node + 1) % NODES;
            picture.links.insert((node.min(next), node.max(next)), true);
            picture.next[node].insert(3, if node < 3 { node + 1 } else { node.saturating_sub(1) });
        }
        picture
    }

    #[test]
    fn a_line_and_a_ring_are_drawn_with_their_ways() {
        let mut picture = ring();
        let ways = [picture.way(0, 3).expect("a way")];
        assert_eq!(way(&ways[0]), "0 > 1 > 2 > 3");
        let drawn = picture.drawn(&ways).to_string();
        assert_eq!(drawn, "(7) --- 1 === 2 === 3 === 4 --- 5 --- 6 --- 7 --- (1)");
        picture.links.remove(&(0, 6));
        let drawn = picture.drawn(&ways).to_string();
        assert_eq!(drawn, "        1 === 2 === 3 === 4 --- 5 --- 6 --- 7");
    }

    #[test]
    fn what_is_down_is_drawn_so() {
        let mut picture = ring();
        picture.up[1] = false;
        picture.links.extend([((0, 1), false), ((1, 2), false)]);
        assert!(!picture.whole());
        let drawn = picture.drawn(&[]).to_string();
        assert_eq!(drawn, "(7) --- 1  x  X  x  3 --- 4 --- 5 --- 6 --- 7 --- (1)");
    }

    #[test]
    fn a_way_in_a_circle_is_none() {
        let mut picture = ring();
        picture.next[1].insert(3, 0);
        assert_eq!(picture.way(0, 3), None);
        assert_eq!(picture.way(2, 6), None, "nobody said one");
    }
}
