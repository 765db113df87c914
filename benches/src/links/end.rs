//! One end of a flow: what the event loop tells it, and what it takes from it.
//!
//! Invariants: an end does nothing but when told; what it sends lies in its outbox until taken.
//! Not here: who it is (`kernel_end.rs`, `quic_end.rs`), when it is told (`run.rs`).

use std::collections::VecDeque;

/// Windows and send buffers of every contender, in bytes: twice the largest bandwidth-delay product and queue of any case, so that flow
/// control limits nobody.
pub const WINDOW: u64 = 16 << 20;
/// How much an application writes per call.
pub const CHUNK: usize = 64 << 10;

/// One datagram with the codepoint of its IP header (0 to 3).
#[derive(Clone, Debug)]
pub struct Datagram {
    /// The UDP payload.
    pub bytes: Vec<u8>,
    /// ECN.
    pub ecn: u8,
}

/// What an end sent and nobody took yet.
pub type Outbox = VecDeque<Datagram>;

/// A sender or receiver of bulk streams. Times are ns since the start of the run.
pub trait End {
    /// Begins: the sender dials.
    fn start(&mut self, now: u64);
    /// A datagram arrived.
    fn receive(&mut self, now: u64, datagram: Datagram);
    /// Its deadline has come.
    fn wake(&mut self, now: u64);
    /// When it wants to be woken.
    fn deadline(&self) -> Option<u64>;
    /// What it sent.
    fn outbox(&mut self) -> &mut Outbox;
    /// Payload bytes its application received in order, stream by stream.
    fn delivered(&self) -> &[u64];
    /// Its own counts, for people.
    fn says(&self) -> String;
}
