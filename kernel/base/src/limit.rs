//! Limits that several layers share (law 6). A layer's own limits stand in its own `limit` or config.
//!
//! Invariants: every number has a reason beside it. Not here: protocol field sizes (`net-wire`).

/// Datagrams are never larger: what fits an Ethernet frame under IPv6 with room for tunnels, and the
/// bound quinn and others use, so that figures compare.
pub const MAX_DATAGRAM: usize = 1_452;
/// Every path carries datagrams of this size (RFC 9000 section 14).
pub const MIN_MTU: usize = 1_200;
/// Addresses tried for one peer.
pub const MAX_ADDRESSES: usize = 16;
/// Sessions one kernel holds; one more is refused.
pub const MAX_SESSIONS: usize = 65_536;
/// Connection attempts under way at once; one more is refused.
pub const MAX_ATTEMPTS: usize = 4_096;
