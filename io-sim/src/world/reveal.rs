//! What memory that was stolen gives away: a thief who recorded everything is given a process' memory at its time, and
//! tries every packet it recorded.
//!
//! What lives at that time is the thief's. What was sealed under keys that were replaced long enough before must stay
//! closed (THREATS, "thief of memory at time T").
//! Invariants: looking changes nothing; the thief keeps a bounded number of packets, drawn by key.
//! Not here: which keys a process keeps (`net-kernel`).

use net_sim_model::Key;

use super::World;
use crate::host::Host;

/// A recorded packet.
#[derive(Clone, Debug)]
struct Kept {
    at: u64,
    ends: (u32, u32),
    bytes: Vec<u8>,
}

/// Recorded packets.
#[derive(Clone, Debug)]
pub struct Vault {
    key: Key,
    seen: u64,
    kept: Vec<Kept>,
}

/// Keys that were replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replaced {
    /// Whose.
    pub node: u32,
    /// With whom.
    pub peer: u32,
    /// When.
    pub at: u64,
}

/// Packets a vault holds.
const MOST: usize = 4_096;
/// Packets seen so long before keys were replaced were sealed under the old ones, whatever was under way.
const SLACK: u64 = 2_000_000_000;

impl Vault {
    /// An empty vault that forgets by `key`.
    pub const fn new(key: Key) -> Self {
        Self {
            key,
            seen: 0,
            kept: Vec::new(),
        }
    }

    /// A packet passes from one machine to another.
    pub fn record(&mut self, at: u64, from: u32, to: u32, bytes: &[u8]) {
        self.seen += 1;
        let kept = Kept {
            at,
            ends: (from, to),
            bytes: bytes.to_vec(),
        };
        if self.kept.len() < MOST {
            return self.kept.push(kept);
        }
        let place = self.key.below(self.seen, self.seen) as usize;
        if place < MOST {
            self.kept[place] = kept;
        }
    }
}

impl<H: Host> World<H> {
    /// An adversary is given the memory of `node`.
    pub(super) fn reveal(&mut self, adversary: u32, node: u32) {
        let Some(host) = &self.nodes[node as usize].host else {
            return;
        };
        // A replaced key is kept while packets under it may arrive, and not much longer.
        let grace = self.scenario.config.previous_drain.as_nanos() * 2 + SLACK;
        let villain = &mut self.villains[adversary as usize];
        let (mut open, mut past, mut broken) = (0, 0, None);
        for kept in &villain.vault.kept {
            let peer = if kept.ends.0 == node { kept.ends.1 } else { kept.ends.0 };
            let old = self.replaced.iter().any(|replaced| {
                (replaced.node, replaced.peer) == (node, peer)
                    && kept.at + SLACK < replaced.at
                    && replaced.at + grace < self.now
            });
            past += u64::from(old);
            if host.opens(&kept.bytes) {
                open += 1;
                if old && broken.is_none() {
                    broken = Some(kept.at);
                }
            }
        }
        villain.made += open;
        *self.apps.counters.entry("reveal.past").or_default() += past;
        if let Some(at) = broken {
            let (s, us) = (at / 1_000_000_000, at % 1_000_000_000 / 1_000);
            let what =
                format!("the memory of node {node} opens a packet of {s}.{us:06} s, whose keys were replaced since");
            self.panel.fail(self.now, "forward-secrecy", what);
        }
    }
}
