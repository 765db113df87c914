//! The mesh as one node sees it. Today: its peers.
//!
//! | file | role |
//! |---|---|
//! | `peers.rs` | who is connected, who is being dialled, what becomes of agreed keys |
//!
//! Invariants: a peer is an identity, never an address. Not here: routes and discovery, which do not exist yet.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod peers;

pub use peers::{Admission, Agreed, Failure, In, Out, Peers, Refusal, Timer};

#[cfg(test)]
mod tests;
