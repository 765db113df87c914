//! Traffic secrets from a finished handshake.
//!
//! Invariants: every key depends on a root of Split() and on the handshake hash, under its own label
//! (PROTOCOL 4); both sides derive the same six, crossed over.
//! Not here: the handshake (`handshake/`), how packets use the keys (`aead.rs`).

use net_base::rng::Secret;
use zeroize::Zeroize as _;

use crate::install::TrafficSecrets;

/// Derives the secrets of one key. `roots` are Split()'s outputs (initiator to responder, responder to
/// initiator), `hash` is the final handshake hash.
#[must_use]
pub fn traffic_secrets(roots: &(Secret, Secret), hash: &[u8; 32], initiator: bool) -> TrafficSecrets {
    let (send, receive) = if initiator {
        (&roots.0, &roots.1)
    } else {
        (&roots.1, &roots.0)
    };
    TrafficSecrets {
        send: derive(TRAFFIC, send, hash),
        receive: derive(TRAFFIC, receive, hash),
        send_header: derive(HEADER, send, hash),
        receive_header: derive(HEADER, receive, hash),
        send_hop: derive(HOP, send, hash),
        receive_hop: derive(HOP, receive, hash),
    }
}

const TRAFFIC: &str = "net traffic key v1";
const HEADER: &str = "net header protection key v1";
const HOP: &str = "net hop key v1";

fn derive(label: &str, root: &Secret, hash: &[u8; 32]) -> Secret {
    let mut hasher = blake3::Hasher::new_derive_key(label);
    hasher.update(&root.0);
    hasher.update(hash);
    let key = Secret(*hasher.finalize().as_bytes());
    hasher.zeroize();
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_cross_over_and_no_two_keys_are_equal() {
        let roots = (Secret([1; 32]), Secret([2; 32]));
        let (a, b) = (
            traffic_secrets(&roots, &[3; 32], true),
            traffic_secrets(&roots, &[3; 32], false),
        );
        assert_eq!((a.send.0, a.send_header.0), (b.receive.0, b.receive_header.0));
        assert_eq!((b.send.0, b.send_header.0), (a.receive.0, a.receive_header.0));
        assert_eq!((a.send_hop.0, a.receive_hop.0), (b.receive_hop.0, b.send_hop.0));
        let mut keys = [
            a.send.0,
            a.send_hop.0,
            a.receive_hop.0,
            a.receive.0,
            a.send_header.0,
            a.receive_header.0,
            roots.0.0,
            roots.1.0,
        ];
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn keys_depend_on_the_transcript() {
        let roots = (Secret([1; 32]), Secret([2; 32]));
        let (a, b) = (
            traffic_secrets(&roots, &[3; 32], true),
            traffic_secrets(&roots, &[4; 32], true),
        );
        assert_ne!(a.send.0, b.send.0);
        assert_ne!(a.receive_header.0, b.receive_header.0);
    }
}
