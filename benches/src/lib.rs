//! What a user waits for, measured against what the machine allows and what others do, side by side in one run.
//!
//! | file | role |
//! |---|---|
//! | `contender.rs` | what is measured, and the trait of whoever is |
//! | `flight.rs` | requests under way at once, and that every answer came |
//! | `process.rs` | the other process: spawned, asked, and ended by its handle |
//! | `floor.rs` | bare UDP: ping-pong, one datagram per call, segmentation offload |
//! | `alloc.rs` | an allocator that counts |
//! | `arithmetic.rs` | the Diffie-Hellman operations of one handshake and nothing else |
//! | `quic.rs` | quinn, with ChaCha20-Poly1305 and AES-128-GCM, and the same bound on the MTU |
//! | `ours.rs` | ours, through the API users have |
//! | `kernel/` | two kernels in memory: instruction counts, messages per second, the cost of sealing and opening |
//! | `links/` | two contenders on one simulated link: loss, queues, fairness |
//! | `run.rs` | interleaved rounds |
//! | `table.rs` | medians, ratios, text and JSON |
//! | `bin/loopback.rs` | two processes over UDP |
//! | `bin/files.rs` | a file from `net send` to `net recv`, beside the same bytes on a stream |
//! | `bin/idle.rs` | many sessions that nobody uses |
//! | `bin/lane.rs` | two kernels and their cipher |
//! | `bin/relay.rs` | what a relay does for a packet |
//! | `bin/lanes.rs` | one busy node with one lane and with several |
//! | `bin/routes.rs` | where a label leads, by how many nodes are known |
//! | `bin/links.rs` | what congestion control makes of simulated links |
//! | `bin/gate.rs` | instruction counts against the committed ones |
//!
//! Invariants: contenders take turns within each round, so that a noisy neighbour hurts them alike; every figure is a
//! median over rounds with its spread.
//! Not here: thresholds. A benchmark reports; instruction counts gate.

pub mod alloc;
pub mod arithmetic;
pub mod contender;
pub mod flight;
pub mod floor;
pub mod kernel;
pub mod links;
pub mod ours;
pub mod process;
pub mod quic;
pub mod run;
pub mod table;
