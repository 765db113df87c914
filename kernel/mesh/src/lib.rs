//! The mesh as one node sees it.
//!
//! | file | role |
//! |---|---|
//! | `peers.rs` | who is connected, who is being dialled, what becomes of agreed keys |
//! | `routes.rs` | the routing table |
//!
//! Invariants: a peer is an identity, never an address. Not here: packets and their keys (`net-session`).
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod peers;
pub mod routes;

pub use peers::{Admission, Agreed, Failure, In, Out, Peers, Refusal, Timer};

#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;
