//! Two kernels in one process and nothing between them: what a turn costs without sockets.
//!
//! | file | role |
//! |---|---|
//! | `null.rs` | a cipher that does nothing, so that only the protocol is counted |
//! | `host.rs` | what every driver of a bare kernel does alike |
//! | `pair.rs` | two connected kernels that exchange datagrams through fixed slots |
//! | `lanes.rs` | two lanes without kernels around them |
//! | `star.rs` | a kernel with sessions to several others |
//! | `relay.rs` | a kernel through which two others talk |
//! | `table.rs` | a table of routes to look labels up in |
//! | `counts.rs` | what callgrind counts |
//! | `gate.rs` | counts against the committed ones |
//!
//! Invariants: after warming up the driver allocates nothing, so that what is counted is the kernel's.
//! Not here: sockets and clocks (`bin/loopback.rs`), thresholds of time.

pub mod counts;
pub mod gate;
pub mod host;
pub mod lanes;
pub mod null;
pub mod pair;
pub mod relay;
pub mod star;
pub mod table;
