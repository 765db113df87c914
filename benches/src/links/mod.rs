//! Two contenders on the same simulated link: no sockets, no clock, the same fate for the n-th datagram of either.
//!
//! | file | role |
//! |---|---|
//! | `end.rs` | one end of a flow, without IO |
//! | `kernel_end.rs` | ours: a kernel |
//! | `quic_end.rs` | quinn-proto |
//! | `run.rs` | flows over one bottleneck in simulated time |
//! | `case.rs` | what is measured: links, flows, who competes |
//! | `figure.rs` | means over seeds, ratios, Jain's index |
//!
//! Invariants: whoever is measured meets the same link model with the same seed; time moves only from event to event; no end does work
//! between two events that takes time.
//! Not here: processor time (`bin/lane.rs`, `bin/loopback.rs`), faults (`net-io-sim`).

pub mod case;
pub mod end;
pub mod figure;
pub mod kernel_end;
pub mod quic_end;
pub mod run;
