//! Addresses of peers that are reached over relays only: a node's label inside the discard prefix 100::/64 (RFC 6666), with port
//! 0. No socket has such an address, so one table of paths holds direct and routed ones.
//!
//! Invariants: `label(&address(x)) == Some(x)`; no datagram comes from or goes to such an address.
//! Not here: which label a node has (`net-trust`), the way there (`net-mesh`).

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::{Addr, NodeId};

/// The discard prefix.
const PREFIX: [u8; 8] = [0x01, 0, 0, 0, 0, 0, 0, 0];

/// The address that stands for a node reached over relays.
#[must_use]
pub fn address(node: NodeId) -> Addr {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&PREFIX);
    octets[8..].copy_from_slice(&node.0.to_be_bytes());
    SocketAddr::new(Ipv6Addr::from(octets).into(), 0)
}

/// The node that `address` stands for, where it stands for one.
#[inline]
#[must_use]
pub fn label(address: &Addr) -> Option<NodeId> {
    if address.port() != 0 {
        return None;
    }
    let IpAddr::V6(ip) = address.ip() else { return None };
    let octets = ip.octets();
    let (prefix, node) = octets.split_first_chunk::<8>()?;
    (*prefix == PREFIX).then(|| node.try_into().map(|node| NodeId(u64::from_be_bytes(node))).ok())?
}

/// Whether the peer at `address` is reached over relays.
#[inline]
#[must_use]
pub fn is_routed(address: &Addr) -> bool {
    label(address).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back_and_no_other_address_has_one() {
        for node in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            assert_eq!(label(&address(NodeId(node))), Some(NodeId(node)));
        }
        let mut with_port = address(NodeId(7));
        with_port.set_port(1);
        let others = ["1.0.0.0:0", "[::1]:0", "[2001:db8::1]:0", "[100:0:0:1::7]:0"];
        let others = others.iter().map(|text| text.parse().expect("an address"));
        assert!(others.chain([with_port]).all(|address| !is_routed(&address)));
    }
}
