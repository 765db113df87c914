//! The values a finished handshake hands to the lane.
//!
//! Invariants: secrets are wiped when the value is dropped. Not here: how they were agreed
//! (`handshake/`), how packets use them (`keys.rs`).

use net_base::rng::Secret;
use net_base::{Addr, AssociationId, EntityId, Epoch, SessionId};
use net_wire::Suite;

/// Traffic secrets of one key, by direction. Derived from the Noise split and the handshake hash
/// (PROTOCOL 4), never from the hash alone.
#[derive(Clone, Debug)]
pub struct TrafficSecrets {
    /// AEAD key of what we send.
    pub send: Secret,
    /// AEAD key of what we receive.
    pub receive: Secret,
    /// Header-protection key of what we send.
    pub send_header: Secret,
    /// Header-protection key of what we receive.
    pub receive_header: Secret,
    /// Key of the tag on routed packets that we hand to the peer.
    pub send_hop: Secret,
    /// Key of the tag on routed packets that the peer hands to us.
    pub receive_hop: Secret,
}

/// One agreed key, ready for the lane.
#[derive(Clone, Debug)]
pub struct Install {
    /// The id we chose: what we receive carries it.
    pub local: SessionId,
    /// The id the peer chose: what we send carries it.
    pub remote: SessionId,
    /// Who the peer proved to be.
    pub peer: EntityId,
    /// The peer's boot epoch.
    pub peer_epoch: Epoch,
    /// The initiator's handshake counter within its epoch.
    pub handshake: u64,
    /// Our label of the association this key serves.
    pub local_association: AssociationId,
    /// The peer's label of it.
    pub remote_association: AssociationId,
    /// Whether we started this handshake. The initiator confirms; the responder's side has no effect
    /// until it does.
    pub initiator: bool,
    /// Where the peer's handshake message came from.
    pub address: Addr,
    /// What the keys are for.
    pub suite: Suite,
    /// The keys.
    pub secrets: TrafficSecrets,
}
