//! The sending end of a stream: what waits, what is in flight, what was lost, and how it is cut into packets.
//!
//! Invariants: `released <= sent <= pushed`; acknowledged ranges lie above `released` and lost ranges above it and
//! below `sent`, and the two are disjoint; a FireAndForget message is never cut and never sent twice; a message's
//! number and position are fixed when it is first sent.
//! Not here: limits of other streams or the session (the caller passes one that respects them), sending RESET_STREAM
//! and STREAM_BLOCKED, loss detection.

use alloc::collections::VecDeque;
use alloc::vec;

use net_base::mutant;
use net_wire::{FrameWriter, event_frame_len, segment_frame_len, segment_room, stream_frame_len, varint};

use super::ranges::RangeSet;
use super::ring::FrameRing;
use super::{MAX_MESSAGE, MESSAGE_CHARGE, Reliability};

/// Fewest bytes of a message worth a frame of their own: shorter pieces wait for the next packet, so that messages up
/// to this size arrive whole. Lost pieces, which others may have cut, are exempt.
pub const MIN_PIECE: usize = 128;

/// What is fixed when a stream is opened.
#[derive(Clone, Copy, Debug)]
pub struct SendConfig {
    /// What the stream promises.
    pub reliability: Reliability,
    /// 0..=255; above 0 the stream may overtake lower ones (header's PRIORITY).
    pub priority: u8,
    /// Share among streams of equal priority, at least 1.
    pub weight: u16,
    /// Positions buffered at which `push` answers `Full`; the last message taken may exceed it.
    pub buffer: u64,
    /// Longest message in bytes, at most [`MAX_MESSAGE`].
    pub max_message: u32,
    /// Plaintext bytes of an empty packet on the current path.
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

/// Whether the stream's end was told to the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fin {
    /// The application may push more.
    Open,
    /// To be sent with, or after, the last message.
    Due,
    Sent,
    Acked,
}

#[derive(Clone, Copy, Debug)]
struct Reset {
    code: u64,
    acked: bool,
}

/// Where a message ends, on the line of positions and in the ring.
#[derive(Clone, Copy, Debug)]
struct Message {
    end: u64,
    frame_end: u64,
}

/// How far a packet may reach.
#[derive(Clone, Copy, Debug)]
struct Bound {
    position: u64,
    /// Reaching `position` is worth a piece of any size: what lies behind it was sent before.
    exact: bool,
}

/// The outcome of fitting messages into a packet.
#[derive(Clone, Copy, Debug)]
struct Cut {
    end: u64,
    count: u16,
    /// Index of the message that `end` lies in or begins.
    index: usize,
}

/// The sending end of one stream.
#[derive(Debug)]
pub struct SendStream {
    config: SendConfig,
    ring: FrameRing,
    /// Messages with bytes not released yet; the front one may be released in part.
    messages: VecDeque<Message>,
    /// Number, first position and first ring offset of the front message.
    front: Front,
    /// First position never sent.
    sent: u64,
    /// Index of the message `sent` lies in.
    sent_index: usize,
    /// Everything below is acknowledged, or in a FireAndForget stream sent.
    released: u64,
    acked: RangeSet,
    lost: RangeSet,
    /// FireAndForget: end of the highest run known to have arrived.
    seen: u64,
    fin: Fin,
    reset: Option<Reset>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Front {
    number: u64,
    start: u64,
    frame_start: u64,
}

impl SendStream {
    /// A stream that nothing was pushed to. Allocates nothing until the first message.
    #[must_use]
    pub fn new(config: SendConfig) -> Self {
        Self {
            config,
            ring: FrameRing::default(),
            messages: VecDeque::new(),
            front: Front::default(),
            sent: 0,
            sent_index: 0,
            released: 0,
            acked: RangeSet::default(),
            lost: RangeSet::default(),
            seen: 0,
            fin: Fin::Open,
            reset: None,
        }
    }

    /// What was fixed at its opening.
    #[must_use]
    pub const fn config(&self) -> &SendConfig {
        &self.config
    }

    /// Appends a message.
    ///
    /// # Errors
    /// See [`PushError`].
    #[inline]
    pub fn push(&mut self, message: &[u8]) -> Result<(), PushError> {
        if self.fin != Fin::Open || self.reset.is_some() {
            return Err(PushError::Closed);
        }
        if self.buffered() >= self.config.buffer {
            return Err(PushError::Full);
        }
        if message.len() > self.max_message() {
            return Err(PushError::TooLarge {
                max: self.max_message(),
            });
        }
        if self.released < self.sent {
            self.forget_sent();
        }
        self.append(message);
        Ok(())
    }

    /// Appends messages in order until one is refused: how many were taken, and the refusal.
    pub fn push_batch<'m>(&mut self, messages: impl IntoIterator<Item = &'m [u8]>) -> (usize, Option<PushError>) {
        let mut taken = 0;
        for message in messages {
            match self.push(message) {
                Ok(()) => taken += 1,
                Err(refused) => return (taken, Some(refused)),
            }
        }
        (taken, None)
    }

    /// Longest message that `push` takes now, in bytes.
    #[inline]
    #[must_use]
    pub fn max_message(&self) -> usize {
        let max = self.config.max_message.min(MAX_MESSAGE) as usize;
        match self.config.reliability {
            Reliability::FireAndForget => max.min(largest_whole(self.config.max_plaintext)),
            Reliability::Reliable | Reliability::ReliableUnordered => max,
        }
    }

    /// An empty packet now has `bytes` bytes of plaintext. FireAndForget messages that wait and fit none any more are
    /// dropped; returns the positions of the buffer that this frees.
    pub fn set_max_plaintext(&mut self, bytes: usize) -> u64 {
        let shrinks = bytes < self.config.max_plaintext;
        self.config.max_plaintext = bytes;
        if shrinks && self.is_fire_and_forget() && self.reset.is_none() {
            self.forget_sent();
            return self.drop_oversized();
        }
        0
    }

    /// No message follows those pushed so far.
    pub fn finish(&mut self) {
        if self.fin == Fin::Open {
            self.fin = Fin::Due;
        }
    }

    /// Gives the stream up: what is buffered is dropped. Returns the final position for RESET_STREAM, which the caller
    /// repeats until it calls [`Self::on_reset_acked`]. A second reset keeps the first code.
    pub fn reset(&mut self, code: u64) -> u64 {
        if self.reset.is_none() {
            self.reset = Some(Reset { code, acked: false });
            self.ring = FrameRing::default();
            self.messages = VecDeque::new();
            self.front.start = self.sent;
            self.sent_index = 0;
            self.released = self.sent;
            self.acked.clear();
            self.lost.clear();
        }
        self.sent
    }

    /// Code and final position, once reset.
    #[must_use]
    pub fn reset_frame(&self) -> Option<(u64, u64)> {
        self.reset.map(|reset| (reset.code, self.sent))
    }

    /// RESET_STREAM arrived.
    pub fn on_reset_acked(&mut self) {
        if let Some(reset) = &mut self.reset {
            reset.acked = true;
        }
    }

    /// Positions held: not acknowledged yet, or in a FireAndForget stream not sent yet.
    #[inline]
    #[must_use]
    pub fn buffered(&self) -> u64 {
        let from = match self.config.reliability {
            Reliability::FireAndForget => self.sent,
            Reliability::Reliable | Reliability::ReliableUnordered => self.released,
        };
        self.pushed() - from
    }

    /// First position never used. With a session limit as well, pass
    /// `min(stream limit, sent_position() + session.available())` as `limit`.
    #[must_use]
    pub const fn sent_position(&self) -> u64 {
        self.sent
    }

    /// What to send next: what was lost, else new messages up to the absolute position `limit`, in at most `space`
    /// bytes with the STREAM frame. `None` where nothing waits, the credit is used up, or too little space is left to be
    /// worth a frame (an empty packet always suffices). Write it with [`Self::write_run`] before any other call that
    /// changes the stream; a run that is not sent after all goes to [`Self::on_lost`].
    pub fn next_run(&mut self, space: usize, limit: u64) -> Option<Run> {
        if self.reset.is_some() {
            return None;
        }
        if let Some((start, end)) = self.lost.first() {
            return self.next_lost(start, end, space);
        }
        self.forget_sent();
        let start = self.sent;
        let index = self.sent_index;
        let bound = Bound {
            position: limit,
            exact: false,
        };
        match self.cut(start, index, bound, space) {
            Some(cut) => {
                self.sent = cut.end;
                self.sent_index = cut.index;
                Some(self.run(start, index, cut, true))
            }
            None if self.fin == Fin::Due && start == self.pushed() && stream_frame_len(start) <= space => {
                let cut = Cut {
                    end: start,
                    count: 0,
                    index,
                };
                Some(self.run(start, index, cut, false))
            }
            None => None,
        }
    }

    /// Writes the run's STREAM frame and event frames to the front of `out`.
    ///
    /// # Panics
    /// Where `out` is shorter than the `space` the run was made for, or the run is not the last one made.
    pub fn write_run(&self, run: &Run, out: &mut [u8]) -> Written {
        let mut writer = FrameWriter::new(out);
        let fits = writer.stream(self.config.reliability, run.start);
        assert!(fits, "the caller lends the space it made the run for");
        let mut len = writer.len();
        let first = (run.sequence - self.front.number) as usize;
        let mut index = first;
        let after = first + run.count as usize;
        if index < after && run.start > self.start_of(index) {
            let end = run.end.min(self.messages[index].end);
            len += self.write_segment(index, run.start, end, &mut out[len..]);
            index += 1;
        }
        let cut_tail = after > index && run.end < self.messages[after - 1].end;
        let whole_end = if cut_tail { after - 1 } else { after };
        if index < whole_end {
            let frames = self.frame_start_of(index);
            let bytes = (self.messages[whole_end - 1].frame_end - frames) as usize;
            self.ring.copy_out(frames, &mut out[len..len + bytes]);
            len += bytes;
        }
        if cut_tail {
            len += self.write_segment(whole_end, self.start_of(whole_end), run.end, &mut out[len..]);
        }
        Written {
            len,
            event_count: run.count,
            sequence: run.sequence,
            position: run.start,
        }
    }

    /// The run arrived. Returns how many positions of the buffer that frees. Calling it again, or after `on_lost`, is
    /// harmless.
    pub fn on_acked(&mut self, run: &Run) -> u64 {
        if self.reset.is_some() {
            return 0;
        }
        if run.fin {
            self.fin = Fin::Acked;
        }
        if self.is_fire_and_forget() {
            self.seen = self.seen.max(run.end);
            return 0;
        }
        self.lost.remove(run.start, run.end);
        if run.start > self.released {
            self.acked.insert(run.start, run.end);
            return 0;
        }
        let before = self.released;
        if run.end > before {
            self.released = self.acked.absorb(run.end);
            self.release();
        }
        self.released - before
    }

    /// The run is taken for lost: what of it has not arrived is sent again, in a FireAndForget stream only its end.
    /// Calling it again, or for a run that arrived after all, is harmless.
    pub fn on_lost(&mut self, run: &Run) {
        if self.reset.is_some() {
            return;
        }
        if run.fin && self.fin == Fin::Sent {
            self.fin = Fin::Due;
        }
        if self.is_fire_and_forget() {
            return;
        }
        let start = run.start.max(self.released);
        if start < run.end {
            for (low, high) in self.acked.gaps(start, run.end) {
                self.lost.insert(low, high);
            }
        }
    }

    /// Whether the peer has everything, the end included, or knows of the reset. In a FireAndForget stream: the end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self.reset {
            Some(reset) => reset.acked,
            None => self.fin == Fin::Acked && (self.is_fire_and_forget() || self.released == self.pushed()),
        }
    }

    /// The position to report in STREAM_BLOCKED where `limit` alone keeps new messages from being sent.
    #[must_use]
    pub fn is_blocked(&self, limit: u64) -> Option<u64> {
        let waits = self.reset.is_none() && self.sent < self.pushed();
        if waits && !self.fits_limit(limit) {
            Some(self.sent)
        } else {
            None
        }
    }

    /// FireAndForget: the position used, where the peer may not know of it because the last packets were lost. While the
    /// stream or its session is blocked it belongs into a STREAM_BLOCKED, or their credit is never returned.
    #[must_use]
    pub fn unseen_position(&self) -> Option<u64> {
        if self.is_fire_and_forget() && self.reset.is_none() && self.seen < self.sent {
            Some(self.sent)
        } else {
            None
        }
    }

    /// A STREAM_BLOCKED that named `position` arrived.
    pub fn on_position_seen(&mut self, position: u64) {
        self.seen = self.seen.max(position.min(self.sent));
    }

    /// Whether [`Self::next_run`] would answer with a run, given an empty packet.
    #[must_use]
    pub fn has_data(&self, limit: u64) -> bool {
        if self.reset.is_some() {
            return false;
        }
        if self.sent < self.pushed() {
            !self.lost.is_empty() || self.fits_limit(limit)
        } else {
            !self.lost.is_empty() || self.fin == Fin::Due
        }
    }

    fn is_fire_and_forget(&self) -> bool {
        matches!(self.config.reliability, Reliability::FireAndForget)
    }

    /// First position no message takes.
    #[inline]
    fn pushed(&self) -> u64 {
        self.messages.back().map_or(self.front.start, |message| message.end)
    }

    #[inline]
    fn append(&mut self, message: &[u8]) {
        let end = self.pushed() + message.len() as u64 + MESSAGE_CHARGE;
        self.ring.append(message);
        self.messages.push_back(Message {
            end,
            frame_end: self.ring.tail(),
        });
    }

    #[inline]
    fn start_of(&self, index: usize) -> u64 {
        match index.checked_sub(1) {
            Some(before) => self.messages[before].end,
            None => self.front.start,
        }
    }

    #[inline]
    fn frame_start_of(&self, index: usize) -> u64 {
        match index.checked_sub(1) {
            Some(before) => self.messages[before].frame_end,
            None => self.front.frame_start,
        }
    }

    fn next_lost(&mut self, start: u64, end: u64, space: usize) -> Option<Run> {
        let index = self.messages.partition_point(|message| message.end <= start);
        let bound = Bound {
            position: end,
            exact: true,
        };
        let cut = self.cut(start, index, bound, space)?;
        self.lost
            .remove(start, if mutant!(RetransmitForgetsRest) { end } else { cut.end });
        Some(self.run(start, index, cut, false))
    }

    fn run(&mut self, start: u64, index: usize, cut: Cut, fresh: bool) -> Run {
        let fin = self.fin != Fin::Open && cut.end == self.pushed();
        if fin && self.fin == Fin::Due {
            self.fin = Fin::Sent;
        }
        Run {
            start,
            end: cut.end,
            sequence: self.front.number + index as u64,
            count: cut.count,
            fin,
            fresh,
        }
    }

    /// Fits as much as possible from position `start`, which lies in message `index`, into `space` bytes.
    fn cut(&self, start: u64, index: usize, bound: Bound, space: usize) -> Option<Cut> {
        // A plaintext's length is a u16, so its frames, of two bytes at least, are counted by one as well.
        let mut left = space.min(u16::MAX as usize).checked_sub(stream_frame_len(start))?;
        let mut cut = Cut {
            end: start,
            count: 0,
            index,
        };
        if index < self.messages.len() && start > self.start_of(index) {
            let end = self.cut_message(index, start, bound, left)?;
            cut.end = end;
            cut.count = 1;
            if end < self.messages[index].end {
                return Some(cut);
            }
            let bytes = (end - MESSAGE_CHARGE - start) as usize;
            left -= segment_frame_len(self.offset_of(index, start), self.len_of(index), bytes);
            cut.index += 1;
        }
        let frames = self.frame_start_of(cut.index);
        let mut frame_end = frames;
        for message in self.messages.range(cut.index..) {
            if message.end > bound.position || message.frame_end - frames > left as u64 {
                break;
            }
            frame_end = message.frame_end;
            cut.end = message.end;
            cut.count += 1;
            cut.index += 1;
        }
        left -= (frame_end - frames) as usize;
        if !self.is_fire_and_forget()
            && cut.index < self.messages.len()
            && let Some(end) = self.cut_message(cut.index, cut.end, bound, left)
        {
            cut.end = end;
            cut.count += 1;
        }
        (cut.count > 0).then_some(cut)
    }

    /// Where a SEGMENT of message `index` that begins at position `from` ends, if one is worth sending.
    fn cut_message(&self, index: usize, from: u64, bound: Bound, space: usize) -> Option<u64> {
        let message = self.messages[index];
        let left = (message.end - MESSAGE_CHARGE - from) as usize;
        let room = segment_room(self.offset_of(index, from), self.len_of(index), space);
        if room == left && message.end <= bound.position && left > 0 {
            return Some(message.end);
        }
        // The last byte travels with the charge: without credit for both it stays behind.
        let credit = usize::try_from(bound.position.saturating_sub(from)).unwrap_or(usize::MAX);
        let piece = room.min(credit).min(left.saturating_sub(1));
        let end = from + piece as u64;
        let worthwhile = piece >= MIN_PIECE || (bound.exact && piece > 0 && end == bound.position);
        worthwhile.then_some(end)
    }

    /// Whether new messages may use positions below `limit`; the twin of `cut` without regard to space.
    fn fits_limit(&self, limit: u64) -> bool {
        let message = self.messages[self.sent_index];
        if message.end <= limit {
            return true;
        }
        let left = message.end - MESSAGE_CHARGE - self.sent;
        let piece = limit.saturating_sub(self.sent).min(left.saturating_sub(1));
        !self.is_fire_and_forget() && piece >= MIN_PIECE as u64
    }

    fn write_segment(&self, index: usize, from: u64, end: u64, out: &mut [u8]) -> usize {
        let message = self.messages[index];
        let bytes = (end.min(message.end - MESSAGE_CHARGE) - from) as usize;
        let mut writer = FrameWriter::new(out);
        let space = writer
            .segment_space(self.offset_of(index, from), self.len_of(index), bytes)
            .expect("a run's segments are non-empty, inside their message, and fit the space the run was made for");
        let left = message.end - MESSAGE_CHARGE - from;
        self.ring.copy_out(message.frame_end - left, space);
        writer.len()
    }

    fn len_of(&self, index: usize) -> u32 {
        (self.messages[index].end - self.start_of(index) - MESSAGE_CHARGE) as u32
    }

    fn offset_of(&self, index: usize, position: u64) -> u32 {
        (position - self.start_of(index)) as u32
    }

    /// Forgets messages wholly below `released` and the ring's bytes below it.
    fn release(&mut self) {
        while let Some(message) = self.messages.front()
            && message.end <= self.released
        {
            self.front = Front {
                number: self.front.number + 1,
                start: message.end,
                frame_start: message.frame_end,
            };
            self.messages.pop_front();
            // What was acknowledged was sent, so the index counts every message that goes.
            self.sent_index -= 1;
        }
        let ring_start = match self.messages.front() {
            // Of a message released in part the frame's head goes too: its rest travels as segments.
            Some(message) if self.released > self.front.start => {
                message.frame_end - (message.end - MESSAGE_CHARGE - self.released)
            }
            Some(_) | None => self.front.frame_start,
        };
        self.ring.release_to(ring_start);
    }

    /// FireAndForget: lets go of what was written since.
    #[inline]
    fn forget_sent(&mut self) {
        if self.is_fire_and_forget() && self.released < self.sent {
            self.released = self.sent;
            self.release();
        }
    }

    fn drop_oversized(&mut self) -> u64 {
        let max = self.max_message();
        if (0..self.messages.len()).all(|index| self.len_of(index) as usize <= max) {
            return 0;
        }
        let ring = core::mem::take(&mut self.ring);
        let waiting = core::mem::take(&mut self.messages);
        let frames = core::mem::take(&mut self.front.frame_start);
        let mut start = self.front.start;
        let mut frame_start = frames;
        let before = waiting.back().map_or(start, |message| message.end);
        for message in waiting {
            let length = (message.end - start - MESSAGE_CHARGE) as usize;
            if length <= max {
                let mut bytes = vec![0; length];
                ring.copy_out(frame_start + (event_frame_len(length) - length) as u64, &mut bytes);
                self.append(&bytes);
            }
            start = message.end;
            frame_start = message.frame_end;
        }
        before - self.pushed()
    }
}

/// Longest message whose EVENT frame fits a packet of `plaintext` bytes beside its STREAM frame, wherever on the line it
/// stands.
const fn largest_whole(plaintext: usize) -> usize {
    let room = plaintext.saturating_sub(stream_frame_len(u64::MAX));
    room.saturating_sub(1 + varint::len(room as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use net_wire::{Frame, FrameReader};

    fn stream(reliability: Reliability) -> SendStream {
        let config = SendConfig {
            reliability,
            priority: 0,
            weight: 1,
            buffer: 100_000,
            max_message: MAX_MESSAGE,
            max_plaintext: 1200,
        };
        SendStream::new(config)
    }

    fn with_messages(reliability: Reliability, lengths: &[usize]) -> SendStream {
        let mut stream = stream(reliability);
        for (number, length) in lengths.iter().enumerate() {
            stream.push(&vec![number as u8; *length]).expect("room for the case");
        }
        stream
    }

    /// The run's frames as (offset, total, bytes, first byte), an EVENT having no total.
    fn frames(stream: &SendStream, run: &Run) -> Vec<(u32, Option<u32>, usize)> {
        let mut out = [0; 4096];
        let written = stream.write_run(run, &mut out);
        assert_eq!(
            (written.event_count, written.sequence, written.position),
            (run.count, run.sequence, run.start)
        );
        let mut reader = FrameReader::new(&out[..written.len]);
        let mut found = Vec::new();
        while let Ok(Some(frame)) = reader.next() {
            if let Frame::Stream { position, .. } = frame {
                assert_eq!((position, found.len()), (run.start, 0));
            } else if let Frame::Event(message) = frame {
                found.push((0, None, message.len()));
            } else if let Frame::Segment { offset, total, bytes } = frame {
                found.push((offset, Some(total), bytes.len()));
            } else {
                panic!("{frame:?}");
            }
        }
        assert_eq!(found.len(), run.count as usize);
        found
    }

    #[test]
    fn packets_are_filled_and_only_long_messages_are_cut() {
        struct Case {
            lengths: &'static [usize],
            space: usize,
            frames: &'static [(u32, Option<u32>, usize)],
            end: u64,
        }
        let cases = [
            Case {
                lengths: &[64, 64],
                space: 1200,
                frames: &[(0, None, 64), (0, None, 64)],
                end: 160,
            },
            Case {
                lengths: &[0, 0, 5],
                space: 1200,
                frames: &[(0, None, 0), (0, None, 0), (0, None, 5)],
                end: 53,
            },
            // The second message would leave 31 bytes of the packet: too few for a piece of their own.
            Case {
                lengths: &[64, 64],
                space: 4 + 66 + 31,
                frames: &[(0, None, 64)],
                end: 80,
            },
            Case {
                lengths: &[64, 1000],
                space: 400,
                frames: &[(0, None, 64), (0, Some(1000), 324)],
                end: 80 + 324,
            },
            Case {
                lengths: &[5000],
                space: 1200,
                frames: &[(0, Some(5000), 1190)],
                end: 1190,
            },
            Case {
                lengths: &[1193],
                space: 1200,
                frames: &[(0, None, 1193)],
                end: 1209,
            },
            Case {
                lengths: &[1194],
                space: 1200,
                frames: &[(0, Some(1194), 1190)],
                end: 1190,
            },
        ];
        for (number, case) in cases.iter().enumerate() {
            let mut stream = with_messages(Reliability::Reliable, case.lengths);
            let run = stream.next_run(case.space, u64::MAX).expect("there is data");
            assert_eq!(frames(&stream, &run), case.frames, "case {number}");
            assert_eq!(
                (run.start, run.end, run.sequence, run.fresh),
                (0, case.end, 0, true),
                "case {number}"
            );
        }
    }

    #[test]
    fn credit_bounds_what_is_new() {
        struct Case {
            limit: u64,
            end: Option<u64>,
        }
        // A message of 500 bytes ends at position 516.
        let cases = [
            Case { limit: 0, end: None },
            Case { limit: 127, end: None },
            Case {
                limit: 128,
                end: Some(128),
            },
            // The last byte needs the credit of the charge.
            Case {
                limit: 515,
                end: Some(499),
            },
            Case {
                limit: 516,
                end: Some(516),
            },
            Case {
                limit: 517,
                end: Some(516),
            },
        ];
        for case in cases {
            let mut stream = with_messages(Reliability::Reliable, &[500, 100]);
            assert_eq!(stream.has_data(case.limit), case.end.is_some());
            assert_eq!(stream.is_blocked(case.limit).is_some(), case.end.is_none());
            assert_eq!(
                stream.next_run(1200, case.limit).map(|run| run.end),
                case.end,
                "limit {}",
                case.limit
            );
            assert_eq!(stream.sent_position(), case.end.unwrap_or(0));
        }
    }

    #[test]
    fn a_lost_run_is_cut_anew_for_a_smaller_path_and_costs_no_credit() {
        let mut stream = with_messages(Reliability::Reliable, &[100, 3000, 50]);
        let mut runs = Vec::new();
        while let Some(run) = stream.next_run(1200, u64::MAX) {
            assert_eq!(run.new_positions(), run.end - run.start);
            runs.push(run);
        }
        let end = 116 + 3016 + 66;
        assert_eq!(runs.last().map(|run| run.end), Some(end));
        // The middle arrived, the rest did not.
        assert_eq!(stream.on_acked(&runs[1]), 0);
        for run in [&runs[0], &runs[1], &runs[2]] {
            stream.on_lost(run);
        }
        let mut resent = Vec::new();
        // Without any credit.
        while let Some(run) = stream.next_run(300, 0) {
            assert_eq!(run.new_positions(), 0);
            assert!(run.end <= runs[1].start || run.start >= runs[1].end);
            frames(&stream, &run);
            resent.push(run);
        }
        assert!(resent.len() > 5);
        let freed: u64 = resent.iter().map(|run| stream.on_acked(run)).sum();
        assert_eq!((freed, stream.buffered()), (end, 0));
    }

    #[test]
    fn a_late_acknowledgement_cancels_the_retransmission() {
        let mut stream = with_messages(Reliability::ReliableUnordered, &[100, 100]);
        let run = stream.next_run(1200, u64::MAX).expect("there is data");
        stream.on_lost(&run);
        assert!(stream.has_data(0));
        assert_eq!(stream.on_acked(&run), 232);
        assert!(!stream.has_data(u64::MAX));
        stream.on_lost(&run);
        assert_eq!(stream.next_run(1200, u64::MAX), None);
    }

    #[test]
    fn the_buffer_is_bounded_and_freed_inside_a_message() {
        let mut stream = with_messages(Reliability::Reliable, &[99_990]);
        assert_eq!(stream.push(&[0; 10]), Err(PushError::Full));
        let before = stream.buffered();
        let first = stream.next_run(1200, u64::MAX).expect("there is data");
        assert_eq!(stream.on_acked(&first), first.end);
        assert_eq!(stream.buffered(), before - first.end);
        assert_eq!(stream.push(&[0; 10]), Ok(()));
        // The ring holds the rest alone: a frame of ten bytes, and the message without what arrived.
        assert_eq!(stream.ring.len(), 12 + 99_990 - first.end);
    }

    #[test]
    fn the_end_travels_with_the_last_message_or_alone() {
        for reliability in Reliability::ALL {
            let mut stream = with_messages(reliability, &[10]);
            stream.finish();
            assert_eq!(stream.push(&[]), Err(PushError::Closed));
            let run = stream.next_run(1200, u64::MAX).expect("there is data");
            assert!(run.fin && run.count == 1);
            stream.on_lost(&run);
            let again = stream.next_run(1200, 0).expect("the end is due again");
            assert!(again.fin);
            let resent = reliability != Reliability::FireAndForget;
            assert_eq!((again.count, again.sequence), if resent { (1, 0) } else { (0, 1) });
            assert!(!stream.is_finished());
            stream.on_acked(&again);
            assert!(stream.is_finished());

            let mut stream = with_messages(reliability, &[10]);
            let data = stream.next_run(1200, u64::MAX).expect("there is data");
            assert!(!data.fin);
            stream.on_acked(&data);
            assert!(!stream.has_data(u64::MAX) && !stream.is_finished());
            stream.finish();
            assert!(stream.has_data(0));
            let end = stream.next_run(1200, 0).expect("the end costs no credit");
            assert_eq!(
                (end.fin, end.count, end.sequence, end.start, end.end),
                (true, 0, 1, 26, 26)
            );
            assert!(frames(&stream, &end).is_empty());
            assert_eq!(stream.next_run(1200, u64::MAX), None);
            stream.on_acked(&end);
            assert!(stream.is_finished());
        }
    }

    #[test]
    fn fire_and_forget_messages_go_whole_once_or_not_at_all() {
        let mut stream = stream(Reliability::FireAndForget);
        let max = stream.max_message();
        assert_eq!(stream.push(&vec![0; max + 1]), Err(PushError::TooLarge { max }));
        stream.push(&vec![1; max]).expect("it fits");
        stream.push(&[2; 900]).expect("room");
        stream.push(&[3; 900]).expect("room");
        stream.push(&[4; 10]).expect("room");
        assert_eq!(stream.next_run(max, u64::MAX), None, "never cut");
        let first = stream.next_run(1200, u64::MAX).expect("an empty packet suffices");
        assert_eq!(frames(&stream, &first), [(0, None, max)]);
        assert_eq!(stream.buffered(), 916 + 916 + 26);
        assert_eq!(stream.unseen_position(), Some(first.end));
        stream.on_lost(&first);
        // The path shrinks under what waits.
        assert_eq!(stream.set_max_plaintext(600), 2 * 916);
        assert_eq!(stream.buffered(), 26);
        let last = stream.next_run(600, u64::MAX).expect("the short message is left");
        assert_eq!((last.start, last.sequence), (first.end, 1));
        assert_eq!(frames(&stream, &last), [(0, None, 10)]);
        stream.on_acked(&last);
        assert_eq!(stream.unseen_position(), None);
        assert_eq!((stream.buffered(), stream.next_run(600, u64::MAX)), (0, None));
    }

    #[test]
    fn a_blocked_fire_and_forget_stream_names_its_position_until_it_is_known() {
        let mut stream = with_messages(Reliability::FireAndForget, &[100, 100]);
        let run = stream.next_run(1200, 150).expect("credit for one message");
        assert_eq!((run.end, stream.is_blocked(150)), (116, Some(116)));
        assert_eq!(stream.is_blocked(232), None);
        stream.on_lost(&run);
        assert_eq!(stream.unseen_position(), Some(116));
        stream.on_position_seen(116);
        assert_eq!(stream.unseen_position(), None);
    }

    #[test]
    fn a_batch_is_taken_up_to_the_first_refusal() {
        let mut stream = stream(Reliability::Reliable);
        let messages: Vec<[u8; 40_000]> = vec![[7; 40_000]; 5];
        let (taken, refused) = stream.push_batch(messages.iter().map(|message| &message[..]));
        assert_eq!((taken, refused), (3, Some(PushError::Full)));
        assert_eq!(stream.push_batch([]), (0, None));
    }
}
