//! Drives one kernel over real UDP, disks and clocks, and hands users async sessions and streams.
//!
//! | file | role |
//! |---|---|
//! | `node.rs` | a node: built, bound, connecting, accepting, closing |
//! | `mesh.rs` | the mesh as a node's users see it: joining, facts, snapshots |
//! | `session.rs` | sessions, and the handle that keeps a node running |
//! | `stream.rs` | streams: messages out and in |
//! | `error.rs` | errors users meet |
//! | `state.rs` | the state directory: identity, epoch, port, cells |
//! | `metrics.rs` | what prometheus is told |
//! | `traits.rs` | what the driver asks of the world |
//! | `driver.rs` | the loop |
//! | `hub.rs` | what the driver and the handles share |
//! | `board.rs` | what turns of the kernel told |
//! | `tx.rs` | the transmit buffer |
//! | `inbox.rs` | received messages on their way to the application |
//! | `multicast.rs` | the segment of the network: sockets to speak to all on it, and to hear them |
//! | `crew.rs` | threads that open and seal packets beside the driver |
//! | `jobs.rs` | where heavy work and disk writes run |
//! | `spin.rs` | whether to look at the socket a little longer before sleeping |
//! | `slots.rs` | a table with stable row numbers |
//! | `tokio.rs` | the driver's world under tokio |
//! | `aead.rs` | ChaCha20-Poly1305 and AES-256-GCM by ring |
//! | `api.rs` | the kernel's names used here |
//!
//! Invariants: no protocol decision is taken here; the driver names no runtime; no secret is logged.
//! Not here: what a packet means (`net-kernel`), the command line (`net-cli`).

#[cfg(feature = "aead-ring")]
pub mod aead;
pub mod api;
mod board;
pub mod crew;
pub mod driver;
pub mod error;
mod hub;
mod inbox;
mod jobs;
pub mod mesh;
pub mod metrics;
mod multicast;
pub mod node;
pub mod session;
mod slots;
mod spin;
pub mod state;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod tokio;
pub mod traits;
mod tx;

pub use api::{
    CloseCode, CloseReason, Drops, EntityId, Identity, NetworkKey, Refused, Reliability, SessionConfig, SessionStats,
    StreamId, StreamOptions,
};
pub use api::{Fact, Health, MeshConfig, Outage, Relayed, Standing};
pub use driver::{Driver, DriverError, Parts};
pub use error::{ConnectError, RecvError, RolledBack, SendError, SessionError, StartError};
pub use mesh::{MeshEvent, MeshEvents, MeshNeighbour, MeshNode, MeshRoute, MeshSnapshot};
pub use net_kernel::api::Algorithm;
pub use net_kernel::base::routed;
pub use net_kernel::wire::Suite;
pub use net_kernel::wire::ticket::{Ticket, TicketError};
pub use node::{Builder, Node, assemble};
pub use session::Session;
pub use state::{StateDir, StateError, read_network_key, write_network_key};
pub use stream::{Piece, RecvHalf, SendHalf, Stream};
