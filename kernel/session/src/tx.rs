//! The transmitter a turn writes datagrams into.
//!
//! Invariants: a slot that is not committed leaves no trace; what is held does not leave. Not here: sockets (`net-io-real`).

use net_base::Addr;

use crate::crew::Crew;

/// Where a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dest {
    /// Address and port.
    pub to: Addr,
    /// Mark it ECN-capable (ECT(0)).
    pub ecn: bool,
}

/// Seals packets lying end to end, with the help of the transmitter's crew.
pub type Seal<'s> = dyn FnMut(&mut [u8], &mut dyn Crew) + 's;

/// The transmitter a turn writes datagrams into.
pub trait Tx {
    /// A slot of exactly `len` bytes for one datagram to `to`, or `None` when the transmitter is full now; the
    /// kernel then keeps what it has until it is told `TxReady`. A slot that is not committed is rolled back
    /// by the next `reserve`.
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]>;
    /// The slot reserved last now holds `len` bytes (at most what was reserved) and may leave.
    fn commit(&mut self, len: usize);
    /// Packets committed from here on are written and not yet sealed: none leaves before [`Self::release`]. False where the
    /// transmitter cannot do that, and takes sealed packets only.
    fn hold(&mut self) -> bool {
        false
    }
    /// Lends what was committed since [`Self::hold`], end to end and in that order, to `seal`; what it makes of the bytes
    /// may leave.
    fn release(&mut self, seal: &mut Seal<'_>) {
        let _ = seal;
    }
    /// The trace digest of the datagram committed `back` before the last, where the transmitter keeps one (simulation).
    /// Of packets that are held there is none before they are released.
    fn digest(&self, back: usize) -> u64 {
        let _ = back;
        0
    }
}
