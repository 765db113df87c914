//! The sending end of a stream.
//!
//! Invariants: see `mod.rs`.
//! Not here: see `mod.rs`.

use net_base::StreamId;

use super::Reliability;

/// What is fixed when a stream is opened.
#[derive(Clone, Copy, Debug)]
pub struct SendConfig {
    /// What the stream promises.
    pub reliability: Reliability,
    /// 0..=255; above 0 the stream may overtake lower ones (header's PRIORITY).
    pub priority: u8,
    /// Share among streams of equal priority, at least 1.
    pub weight: u16,
    /// Positions buffered and not yet acknowledged at which `push` answers `Full`.
    pub buffer: u64,
    /// Plaintext bytes of an empty packet.
    pub max_plaintext: usize,
}

/// Why a message was not taken. The stream is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushError {
    /// The buffer is full: wait until acknowledgements free some of it.
    Full,
    /// Longer than `max` bytes: the largest message, or in a FireAndForget stream the largest that fits one packet.
    TooLarge {
        /// Most bytes a message may have now.
        max: usize,
    },
    /// The stream was finished or reset.
    Closed,
}

/// What one packet carries of one stream; kept with the sent packet and given back to `on_acked` or `on_lost`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// First position.
    pub start: u64,
    /// One past the last position.
    pub end: u64,
    /// Number of the first message (header's SEQUENCE).
    pub sequence: u64,
    /// Event frames (header's EVENT_COUNT).
    pub count: u16,
    /// The stream ends here (header's FIN).
    pub fin: bool,
    /// Whether the positions are used for the first time; a retransmission costs no credit.
    pub fresh: bool,
}

impl Run {
    /// Positions to count against the session's limit.
    #[must_use]
    pub const fn new_positions(&self) -> u64 {
        if self.fresh { self.end - self.start } else { 0 }
    }
}

/// What `write_run` wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Bytes written, STREAM frame included.
    pub len: usize,
    /// Header's EVENT_COUNT.
    pub event_count: u16,
    /// Header's SEQUENCE.
    pub sequence: u64,
    /// Position in the STREAM frame.
    pub position: u64,
}

/// The sending end of one stream.
#[derive(Debug)]
pub struct SendStream {
    id: StreamId,
    config: SendConfig,
}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl SendStream {
    pub fn new(id: StreamId, config: SendConfig) -> Self {
        Self { id, config }
    }
    pub fn id(&self) -> StreamId {
        self.id
    }
    pub fn config(&self) -> &SendConfig {
        &self.config
    }
    /// Appends a message.
    pub fn push(&mut self, message: &[u8]) -> Result<(), PushError> {
        unimplemented!()
    }
    /// Appends messages until one is refused; returns how many were taken and the refusal.
    pub fn push_batch<'m>(&mut self, messages: impl IntoIterator<Item = &'m [u8]>) -> (usize, Option<PushError>) {
        unimplemented!()
    }
    /// Largest message `push` takes now.
    pub fn max_message(&self) -> usize {
        unimplemented!()
    }
    /// The path MTU changed.
    pub fn set_max_plaintext(&mut self, bytes: usize) {
        unimplemented!()
    }
    pub fn finish(&mut self) {
        unimplemented!()
    }
    /// Drops everything; returns the final position for RESET_STREAM (which the caller sends and retransmits, and reports back with `on_reset_acked`).
    pub fn reset(&mut self, code: u64) -> u64 {
        unimplemented!()
    }
    /// `(code, final position)` after `reset`.
    pub fn reset_frame(&self) -> Option<(u64, u64)> {
        unimplemented!()
    }
    pub fn on_reset_acked(&mut self) {
        unimplemented!()
    }
    /// Positions pushed and not yet released (acknowledged from the front; FireAndForget: sent).
    pub fn buffered(&self) -> u64 {
        unimplemented!()
    }
    /// Highest position used so far. Session limit: pass `limit = min(stream limit, sent_position() + session.available())`.
    pub fn sent_position(&self) -> u64 {
        unimplemented!()
    }
    /// Next run; write it with `write_run` before any other `&mut` call.
    pub fn next_run(&mut self, space: usize, limit: u64) -> Option<Run> {
        unimplemented!()
    }
    /// `out` is at least the `space` the run was made for.
    pub fn write_run(&self, run: &Run, out: &mut [u8]) -> Written {
        unimplemented!()
    }
    /// Returns positions freed from the buffer.
    pub fn on_acked(&mut self, run: &Run) -> u64 {
        unimplemented!()
    }
    pub fn on_lost(&mut self, run: &Run) {
        unimplemented!()
    }
    /// Everything, the end included, is acknowledged.
    pub fn is_finished(&self) -> bool {
        unimplemented!()
    }
    /// Position for STREAM_BLOCKED when only `limit` holds data back.
    pub fn is_blocked(&self, limit: u64) -> Option<u64> {
        unimplemented!()
    }
    /// FireAndForget: position the peer may not know of because the last packets were lost; tell it in STREAM_BLOCKED whenever the stream or the session is blocked.
    pub fn unseen_position(&self) -> Option<u64> {
        unimplemented!()
    }
    pub fn has_data(&self, limit: u64) -> bool {
        unimplemented!()
    }
}
