//! The mesh as one node sees it.
//!
//! | file | role |
//! |---|---|
//! | `peers.rs` | who is connected, who is being dialled, what becomes of agreed keys |
//! | `config.rs` | what the mesh is booted with |
//! | `mesh.rs` | discovery, routes and failures |
//! | `joins.rs` | peers with whom a session is kept |
//! | `beacons.rs` | nodes of the same segment of the network, found by what they speak to all |
//! | `neighbour.rs` | one neighbour: its messages, what it is to be told, whether it is heard |
//! | `routes.rs` | the routing table |
//! | `relay.rs` | whose packets are sent on, and how many |
//! | `labels.rs` | which node a wire label stands for |
//! | `memory.rs` | what nodes said last that are forgotten |
//! | `journal.rs` | whose routes changed of late |
//! | `outage.rs` | failures with one cause |
//! | `job.rs` | signatures, made and checked elsewhere |
//!
//! Invariants: a peer is an identity, never an address. Not here: packets and their keys (`net-session`).
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod beacons;
pub mod config;
pub mod job;
mod joins;
mod journal;
pub mod labels;
mod memory;
pub mod mesh;
mod neighbour;
pub mod outage;
pub mod peers;
pub mod relay;
pub mod routes;

pub use beacons::Beacons;
pub use config::MeshConfig;
pub use labels::{Ground, MAX_NEXT_HOPS};
pub use mesh::{Fact, Link, Mesh, Standing, Vitals};
pub use outage::{Outage, Outages, Scope};
pub use peers::{Admission, Agreed, Failure, In, Out, Peers, Refusal, Timer};
pub use relay::{RelayLimits, Relayed};
pub use routes::Collision;

#[cfg(test)]
mod beacon_tests;
#[cfg(test)]
mod mesh_tests;
#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;
