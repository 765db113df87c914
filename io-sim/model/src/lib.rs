//! Pure models of links, NAT boxes, disks and clocks, and the keyed decisions that drive them (SIMULATION, "Keyed decisions").
//!
//! | file | role |
//! |---|---|
//! | `key.rs` | keyed decisions: every fate is a function of (seed, family, link, direction, n) |
//! | `distribution.rs` | integer distributions: constant, uniform, normal, Pareto, trace |
//! | `loss.rs` | loss models: independent, Gilbert-Elliott, every n-th, by kind |
//! | `corrupt.rs` | what a damaged datagram looks like |
//! | `fate.rs` | explicit fates: which datagrams are struck, in place of a probability |
//! | `link.rs` | one direction of a link: delay, rate and queue, loss, reordering, duplication, damage, faults in windows |
//! | `nat.rs` | NAT boxes: mapping, filtering, hairpin, timeout, rebinding (RFC 4787) |
//! | `disk.rs` | small atomic cells whose unsynced writes are kept, lost or torn at a crash |
//! | `clock.rs` | a node's clocks: offset, drift, jump, freeze |
//!
//! Invariants: no clock, no socket, no shared random stream and no floating point anywhere in this crate; the same
//! arguments give the same answers on every machine.
//! Not here: what a datagram means, when things happen (`net-io-sim`).
#![forbid(unsafe_code)]

pub mod clock;
pub mod corrupt;
pub mod disk;
pub mod distribution;
pub mod fate;
pub mod key;
pub mod link;
pub mod loss;
pub mod nat;

pub use clock::Clock;
pub use corrupt::{Corruption, Damage};
pub use disk::{Disk, DiskFault, DiskSnapshot, WriteEnd};
pub use distribution::Distribution;
pub use fate::{FateKind, Listed, Struck};
pub use key::{Direction, Family, Key, fate};
pub use link::{Arrival, Cause, Counts, Effect, Fates, Link, LinkFault, LinkSpec, Rate};
pub use loss::{Kinds, Loss};
pub use nat::{Dependence, Endpoint, Nat, NatCounts, NatDrop, NatSpec, Refresh};

/// One in a billion: the unit of every probability here, so that decisions are integer comparisons.
pub const PPB: u64 = 1_000_000_000;
