//! Who we are, which network we belong to, and whom we admit.
//!
//! | file | role |
//! |---|---|
//! | `identity.rs` | ed25519 identities, their X25519 form, signatures, wire labels |
//! | `network.rs` | the network key and what derives from it |
//! | `beacon.rs` | sealing and opening of beacons |
//! | `trust.rs` | the machine that owns them, the allow list and every peer's highest confirmed epoch |
//!
//! Invariants: no secret is ever printed, and each is wiped when dropped; a public key is used only after
//! it was found to be a usable identity. Not here: handshakes and traffic keys (`net-session`), permission
//! tokens.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod beacon;
pub mod identity;
pub mod network;
pub mod trust;

pub use beacon::BeaconKeys;
pub use identity::{BadIdentity, BadSignature, Identity, node_id, noise_public, verify};
pub use network::{BadPassphrase, Fingerprint, NetworkKey};
pub use trust::{In, MAX_FLOORS, MAX_NETWORKS, Out, Timer, Trust, TrustTable};
