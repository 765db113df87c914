//! What is secret in a run, so that another run can differ in that alone: payloads, identities, the network's key, and the
//! fresh bytes of every handshake.
//!
//! Invariants: with the usual secrets a run is what it always was; other identities stand in the same order, because that
//! order settles which of two crossed handshakes lives (PROTOCOL 4) and is nobody's secret.
//! Not here: what must look the same (`crate::check::SameShape`), boot seeds: labels and jitter drawn from them are no
//! secrets, and two runs with other jitter would not compare.

use net_kernel::base::rng::Secret;
use net_kernel::trust::NetworkKey;
use net_sim_model::{Family, Key};

use crate::host::Host;
use crate::scenario::{NodeIndex, Scenario};

/// Which secrets a run has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Secrets {
    /// Those that follow from its seed alone.
    #[default]
    Usual,
    /// Others, which follow from its seed as well.
    Other,
}

/// The secrets of a run.
#[derive(Debug)]
pub(super) struct Vaulted {
    /// From which payloads and fresh bytes follow.
    pub key: Key,
    /// The network's key.
    pub network: NetworkKey,
    /// From which identities follow, by machine.
    pub identities: Vec<[u8; 32]>,
}

impl Vaulted {
    /// Draws them under the key of a run.
    pub fn draw<H: Host>(scenario: &Scenario, run: Key, which: Secrets) -> Self {
        let usual = identities(scenario, run);
        let (key, identities) = match which {
            Secrets::Usual => (run, usual),
            Secrets::Other => {
                let key = run.with_text("other secrets");
                (key, in_order_of::<H>(&usual, identities(scenario, key)))
            }
        };
        let network = if scenario.closed {
            let secret = key.family(Family::Boot).with_text("network").bytes32(0);
            NetworkKey::from_bytes(Secret(secret))
        } else {
            NetworkKey::open()
        };
        Self {
            key,
            network,
            identities,
        }
    }
}

fn identities(scenario: &Scenario, key: Key) -> Vec<[u8; 32]> {
    let key = key.family(Family::Boot).with_text("identity");
    let nodes = 0..scenario.nodes.len() as NodeIndex;
    nodes
        .map(|node| key.bytes32(u64::from(scenario.number(node))))
        .collect()
}

/// `others`, so that they stand in the order in which `usual` stand.
fn in_order_of<H: Host>(usual: &[[u8; 32]], mut others: Vec<[u8; 32]>) -> Vec<[u8; 32]> {
    others.sort_by_key(|bytes| H::entity(bytes));
    let mut ranked: Vec<usize> = (0..usual.len()).collect();
    ranked.sort_by_key(|node| H::entity(&usual[*node]));
    let mut placed = vec![[0; 32]; usual.len()];
    for (other, node) in others.into_iter().zip(ranked) {
        placed[node] = other;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ClearKernel;
    use net_kernel::base::EntityId;

    #[test]
    fn other_secrets_are_other_and_leave_the_order_of_identities() {
        let nodes: Vec<String> = (0..6).map(|n| format!("{{ id = \"n{n}\" }}")).collect();
        let text = format!(
            "schema = 1\nname = \"six\"\nduration = \"1s\"\n[topology]\nnodes = [ {} ]\n",
            nodes.join(", ")
        );
        let scenario = Scenario::resolved("six.toml", &text, 3).expect("a good scenario");
        for seed in 1..=5 {
            let draw = |which| Vaulted::draw::<ClearKernel>(&scenario, Key::new(seed), which);
            let (usual, other) = (draw(Secrets::Usual), draw(Secrets::Other));
            let ranks = |vaulted: &Vaulted| {
                let entities: Vec<EntityId> = vaulted.identities.iter().map(ClearKernel::entity).collect();
                let mut ranked: Vec<usize> = (0..entities.len()).collect();
                ranked.sort_by_key(|node| entities[*node]);
                (ranked, entities)
            };
            let ((first, usual_ids), (second, other_ids)) = (ranks(&usual), ranks(&other));
            assert_eq!(first, second);
            assert!(usual_ids.iter().all(|entity| !other_ids.contains(entity)));
            assert_ne!(usual.network.reveal().0, other.network.reveal().0);
            assert_ne!(usual.key.bytes32(1), other.key.bytes32(1));
        }
    }
}
