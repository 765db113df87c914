//! A table of routes with as many nodes as asked for, to look labels up in.
//!
//! Invariants: what a lookup finds is checked once, before anything is measured. Not here: time and counts
//! (`bin/routes.rs`, `counts.rs`).

use net_kernel::base::map::Keyed;
use net_kernel::base::{Duration, EntityId, Epoch, Instant, NodeId, SessionKey};
use net_kernel::mesh::routes::Routes;
use net_kernel::trust::node_id;
use net_kernel::wire::mesh::{Core, Health, Pingwave, Version};

/// Neighbours of the node that looks up.
const NEIGHBOURS: u64 = 8;
/// Of these, such that offer a way to each node.
const OFFERS: u64 = 4;

/// The table of a node that knows `nodes` others, and their labels in an order that follows neither the table's nor memory's.
///
/// # Panics
/// Where a label does not lead to a neighbour.
#[must_use]
pub fn known(nodes: u64) -> (Routes, Vec<NodeId>) {
    let mut routes = Routes::new(EntityId([0xFF; 32]), Duration::from_secs(17));
    routes.hide_labels(Keyed::new([0x243F_6A88_85A3_08D3, 0x1319_8A2E_0370_7344]));
    for n in 0..NEIGHBOURS {
        routes.link_up(SessionKey(n), node(1 << 32 | n), 1_000);
    }
    for n in 0..nodes {
        for offer in 0..OFFERS {
            let wave = Pingwave {
                core: Core {
                    origin: node(n),
                    version: Version {
                        epoch: Epoch(1),
                        seqno: 1,
                    },
                    load: 0,
                    health: Health::Good,
                    relays: true,
                    capability_version: 0,
                    capability_digest: [0; 32],
                },
                signature: [0; 64],
                hops: 3,
                ttl: 12,
                rtt_us: 5_000 + 100 * offer as u32,
            };
            routes.on_pingwave(Instant::ZERO, SessionKey((n + offer) % NEIGHBOURS), &wave);
        }
    }
    routes.take_changes();
    let mut order: Vec<u64> = (0..nodes).collect();
    order.sort_unstable_by_key(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17));
    let labels: Vec<NodeId> = order.iter().map(|&n| node_id(&node(n))).collect();
    for (label, n) in labels.iter().zip(order) {
        assert_eq!(routes.by_label(*label), Some(node(n)));
        assert_eq!(routes.next_hop(*label), Some(SessionKey(n % NEIGHBOURS)));
        assert_eq!(routes.next_hops(*label).len(), OFFERS as usize);
    }
    (routes, labels)
}

fn node(n: u64) -> EntityId {
    let mut bytes = [7; 32];
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    EntityId(bytes)
}
