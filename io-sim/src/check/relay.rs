//! What must hold of routed datagrams on links: hops are counted, and no packet passes a machine twice.
//!
//! Invariants: memory is bounded; a circle longer than what is remembered is found by its hops. Not here: hop tags and
//! their counters (`packet.rs`), circles in tables (`mesh.rs`).

use std::collections::{BTreeSet, VecDeque};

use net_kernel::wire::mesh::MAX_HOPS;
use net_kernel::wire::{Datagram, Routed, peek};
use net_sim_model::key::mix;

use super::{Checker, Observation, wants};

/// Packets remembered; the oldest is forgotten for one more.
const REMEMBERED: usize = 8_192;

/// Every hop takes one of those that a packet may take, and none leads where it was.
#[derive(Debug, Default)]
pub struct RelayStep {
    passed: BTreeSet<(u32, u64)>,
    order: VecDeque<(u32, u64)>,
}

impl RelayStep {
    fn routed(&mut self, node: u32, routed: &Routed<'_>) -> Result<(), String> {
        let (ttl, hops) = (routed.header.ttl, routed.header.hop_count);
        if u16::from(ttl) + u16::from(hops) != u16::from(MAX_HOPS) {
            return Err(format!(
                "node {node} sent a packet on that took {hops} hops and may take {ttl} more, of {MAX_HOPS}"
            ));
        }
        // Handshakes are repeated as they are; everything else has a number of its own.
        if !matches!(peek(routed.packet), Ok(Datagram::Protected { .. })) {
            return Ok(());
        }
        let (words, rest) = routed.packet.as_chunks::<8>();
        let hash = words.iter().fold(0, |hash, word| mix(hash ^ u64::from_le_bytes(*word)));
        let hash = rest.iter().fold(hash, |hash, byte| mix(hash ^ u64::from(*byte)));
        if !self.passed.insert((node, hash)) {
            return Err(format!("node {node} sent a packet on twice: it went in a circle"));
        }
        self.order.push_back((node, hash));
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.passed.remove(&oldest);
        }
        Ok(())
    }
}

impl Checker for RelayStep {
    fn name(&self) -> &'static str {
        "relay-step"
    }

    fn wants(&self) -> u8 {
        wants::SENT
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Sent { node, bytes, .. } = *observation else {
            return Ok(());
        };
        if peek(bytes) != Ok(Datagram::Routed) {
            return Ok(());
        }
        let routed =
            Routed::parse(bytes).map_err(|why| format!("node {node} sent a routed datagram that is none: {why}"))?;
        self.routed(node, &routed)
    }
}

#[cfg(test)]
mod tests {
    use net_kernel::base::NodeId;
    use net_kernel::wire::{HEADER_LEN, ROUTING_LEN, RoutingHeader, TRAILER_LEN};

    use super::*;

    /// A routed datagram whose inner packet is one of session 1, told apart by `inner`.
    fn datagram(inner: u8, ttl: u8, hop_count: u8) -> Vec<u8> {
        let mut bytes = vec![inner; ROUTING_LEN + HEADER_LEN + 20 + TRAILER_LEN];
        let header = RoutingHeader {
            ttl,
            hop_count,
            src: NodeId(1),
            dest: NodeId(2),
            ..RoutingHeader::default()
        };
        header.encode(bytes.first_chunk_mut().expect("long enough"));
        bytes[ROUTING_LEN..ROUTING_LEN + 3].copy_from_slice(&[0x45, 0x4e, 1]);
        bytes
    }

    fn sent(checker: &mut RelayStep, node: u32, bytes: &[u8]) -> Result<(), String> {
        checker.observe(&Observation::Sent {
            node,
            to: ([127, 0, 0, 1], 1).into(),
            mono: 0,
            bytes,
        })
    }

    #[test]
    fn a_packet_counts_its_hops_and_passes_nobody_twice() {
        let mut checker = RelayStep::default();
        assert!(matches!(
            peek(&datagram(7, 16, 0)[ROUTING_LEN..]),
            Ok(Datagram::Protected { .. })
        ));
        for (node, hops) in [(0, 0), (1, 1), (2, 2)] {
            assert_eq!(sent(&mut checker, node, &datagram(7, 16 - hops, hops)), Ok(()));
        }
        assert_eq!(sent(&mut checker, 1, &datagram(8, 15, 1)), Ok(()), "another one");
        let circle = sent(&mut checker, 0, &datagram(7, 13, 3)).expect_err("node 0 had it");
        assert!(circle.contains("circle"), "{circle}");
        let kept = sent(&mut checker, 3, &datagram(9, 16, 1)).expect_err("a hop took nothing");
        assert!(kept.contains("1 hops"), "{kept}");
    }
}
