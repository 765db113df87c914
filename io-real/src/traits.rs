//! What the driver asks of the world: a datagram socket, a clock, entropy and a disk of small cells.
//!
//! Invariants: nothing here names a runtime; every wait is a `poll` that keeps the last waker it was given.
//! Not here: implementations (`tokio.rs`, `state.rs`), what the driver does with them (`driver.rs`).

use std::io;
use std::task::{Context, Poll};

use crate::api::{Addr, Cell, Ecn, Instant, LinkChange, Now, StoreError};

/// Receive buffers handed to one `poll_recv`.
pub const RECV_BUFFERS: usize = 32;
/// Length of one receive buffer: what coalesced receive may fill at most.
pub const RECV_BUFFER_LEN: usize = 65_536;

/// What was received into one buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecvMeta {
    /// The sender. IPv4 stays IPv4, also on a dual-stack socket.
    pub from: Addr,
    /// Bytes in the buffer.
    pub len: usize,
    /// Length of each datagram in it but the last (GRO); equal to `len` for a single one.
    pub stride: usize,
    /// The codepoint they arrived with.
    pub ecn: Ecn,
}

/// Datagrams of one length to one destination; the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'b> {
    /// Where to.
    pub to: Addr,
    /// Whether to mark them ECT(0).
    pub ecn: bool,
    /// Length of each datagram but the last, in bytes. At least 1.
    pub segment: usize,
    /// The datagrams, end to end.
    pub bytes: &'b [u8],
}

/// A bound UDP socket.
pub trait DatagramSocket: Send + 'static {
    /// Receives at most `bufs.len()` buffers, the first of `metas` telling what is in the first of `bufs`. Ready
    /// answers are at least 1. An error is about one datagram or a passing state of the host; the socket stays usable.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [Box<[u8]>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>>;

    /// As [`Self::poll_recv`], but looks at the socket itself instead of waiting to be told that it is readable, and
    /// keeps no waker. Sockets for which this makes no sense have nothing (`WouldBlock`).
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived; otherwise as [`Self::poll_recv`].
    fn try_recv(&mut self, bufs: &mut [Box<[u8]>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        let _ = (bufs, metas);
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Sends datagrams and says how many bytes of `transmit.bytes` left, always whole datagrams.
    ///
    /// # Errors
    /// `WouldBlock` when none can leave now. Any other error: the first datagram (with segmentation offload the whole
    /// transmit) cannot be sent at all.
    fn try_send(&mut self, transmit: &Transmit<'_>) -> io::Result<usize>;

    /// Ready once `try_send` may succeed again after `WouldBlock`.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The bound address.
    ///
    /// # Errors
    /// What the host says.
    fn local_addr(&self) -> io::Result<Addr>;

    /// Datagrams one `try_send` takes at most; 1 without segmentation offload. May shrink while running.
    fn max_segments(&self) -> usize;

    /// What the host learned about a peer's address (ICMP), if it tells. Asked after a failed send and after receives.
    fn take_hint(&mut self) -> Option<LinkChange> {
        None
    }
}

/// The two clocks, and one timer.
pub trait Clock: Send + 'static {
    /// Both clocks. The monotonic one counts suspended time and never goes back.
    fn now(&mut self) -> Now;

    /// Ready at `at` or, rarely, before. A later call with another `at` replaces the earlier one.
    fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()>;
}

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `out`.
    ///
    /// # Errors
    /// What the host says; `out` is then not to be used.
    fn fill(&self, out: &mut [u8]) -> io::Result<()>;
}

/// Small atomic cells that survive a crash.
pub trait Disk: Send + Sync + 'static {
    /// Replaces a cell and syncs it. On an error the old bytes stay.
    ///
    /// # Errors
    /// By cause.
    fn put(&self, cell: Cell, bytes: &[u8]) -> Result<(), StoreError>;

    /// Reads a cell; `None` if it was never written.
    ///
    /// # Errors
    /// By cause.
    fn get(&self, cell: Cell) -> Result<Option<Vec<u8>>, StoreError>;
}
