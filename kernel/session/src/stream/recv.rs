//! The receiving end of a stream.
//!
//! Invariants: see `mod.rs`.
//! Not here: see `mod.rs`.

use net_base::StreamId;
use net_wire::DropReason;

use super::Reliability;

/// One event frame: an EVENT is `offset` 0 and `total` its own length.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'b> {
    /// Where in the message the bytes belong.
    pub offset: u32,
    /// Length of the whole message.
    pub total: u32,
    /// The bytes, borrowed from the packet.
    pub bytes: &'b [u8],
}

/// What to do with the bytes of an event frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Hand `bytes[skip..]` to the application.
    Deliver {
        /// Message number.
        number: u64,
        /// Where in the message the delivered bytes begin.
        offset: u64,
        /// Length of the whole message.
        total: u64,
        /// They complete the message.
        end: bool,
        /// Bytes at the front of the frame that were delivered before.
        skip: usize,
    },
    /// A duplicate, or data of a stream that is read no more.
    Skip,
    /// Copied; comes out of `pop_ready` later.
    Buffered,
}

/// Bytes that arrived early and are due now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part<'s> {
    /// Message number.
    pub number: u64,
    /// Where in the message the bytes begin.
    pub offset: u64,
    /// Length of the whole message.
    pub total: u64,
    /// They complete the message.
    pub end: bool,
    /// The bytes.
    pub bytes: &'s [u8],
}

/// Where one packet's run stands.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    pub(super) position: u64,
}

/// The receiving end of one stream.
#[derive(Debug)]
pub struct RecvStream {
    id: StreamId,
    reliability: Reliability,
}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl RecvStream {
    /// `window`: positions granted ahead of what was drained; `max_message`: bytes.
    pub fn new(id: StreamId, reliability: Reliability, window: u64, max_message: u32) -> Self {
        Self { id, reliability }
    }
    pub fn id(&self) -> StreamId {
        self.id
    }
    pub fn reliability(&self) -> Reliability {
        self.reliability
    }
    /// Opens a packet's run (header SEQUENCE, EVENT_COUNT, FIN; STREAM frame).
    pub fn begin(
        &mut self,
        sequence: u64,
        reliability: Reliability,
        position: u64,
        event_count: u16,
        fin: bool,
    ) -> Result<Cursor, DropReason> {
        unimplemented!()
    }
    /// Takes the run's next event frame. `Err(Overloaded)` alone is no violation: drop the packet and do not acknowledge it; every other error closes the session.
    pub fn on_event(&mut self, cursor: &mut Cursor, piece: Piece<'_>) -> Result<Action, DropReason> {
        unimplemented!()
    }
    /// Closes the run; returns by how much the highest position grew since `begin` (session limit: `RecvWindow::advance`).
    pub fn end(&mut self, cursor: Cursor) -> Result<u64, DropReason> {
        unimplemented!()
    }
    /// Call until `None` after each run.
    pub fn pop_ready(&mut self) -> Result<Option<Part<'_>>, DropReason> {
        unimplemented!()
    }
    /// RESET_STREAM: returns the growth of the highest position. Nothing more is delivered.
    pub fn on_reset(&mut self, code: u64, final_position: u64) -> Result<u64, DropReason> {
        unimplemented!()
    }
    /// STREAM_BLOCKED: returns the growth of the highest position (FireAndForget learns of lost packets).
    pub fn on_blocked(&mut self, position: u64) -> Result<u64, DropReason> {
        unimplemented!()
    }
    /// The application reads no more (STOP_SENDING): what is buffered and what still comes is dropped and counts as consumed.
    pub fn stop(&mut self) {
        unimplemented!()
    }
    /// The application drained delivered data: sum of `cost(len, end)` of the parts.
    pub fn on_consumed(&mut self, positions: u64) {
        unimplemented!()
    }
    /// Positions newly free for the session's window (`RecvWindow::consume`); take after `end`, `on_consumed`, `on_reset`, `on_blocked`, `stop`.
    pub fn take_consumed(&mut self) -> u64 {
        unimplemented!()
    }
    /// New absolute limit for MAX_STREAM_DATA, when enough became free. Ask after each packet and each `on_consumed`.
    pub fn grant(&mut self) -> Option<u64> {
        unimplemented!()
    }
    /// The limit last granted (to repeat a lost MAX_STREAM_DATA).
    pub fn granted(&self) -> u64 {
        unimplemented!()
    }
    /// Widens the window.
    pub fn widen(&mut self, window: u64) {
        unimplemented!()
    }
    /// Everything up to the stream's end was delivered (Reliable, ReliableUnordered), or the end is known (FireAndForget), or reset.
    pub fn is_finished(&self) -> bool {
        unimplemented!()
    }
    /// Code of a RESET_STREAM that arrived.
    pub fn reset_code(&self) -> Option<u64> {
        unimplemented!()
    }
    /// Bytes of memory held for data that arrived early.
    pub fn memory(&self) -> usize {
        unimplemented!()
    }
}
