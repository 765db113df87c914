//! The transmitter a turn writes datagrams into.
//!
//! Invariants: a slot that is not committed leaves no trace. Not here: sockets (`net-io-real`).

use net_base::Addr;

/// Where a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dest {
    /// Address and port.
    pub to: Addr,
    /// Mark it ECN-capable (ECT(0)).
    pub ecn: bool,
}

/// The transmitter a turn writes datagrams into.
pub trait Tx {
    /// A slot of exactly `len` bytes for one datagram to `to`, or `None` when the transmitter is full now; the
    /// kernel then keeps what it has until it is told `TxReady`. A slot that is not committed is rolled back
    /// by the next `reserve`.
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]>;
    /// The slot reserved last now holds `len` bytes (at most what was reserved) and may leave.
    fn commit(&mut self, len: usize);
    /// The trace digest of the datagram committed last, where the transmitter keeps one (simulation).
    fn digest(&self) -> u64 {
        0
    }
}
