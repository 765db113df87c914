//! The receiving end of a stream: order, exactly-once and credit for the runs that packets bring.
//!
//! Invariants: no byte is delivered twice, and of one message bytes are delivered in order; what is due in place is
//! never copied; memory is bounded by the credit granted, however the peer cuts its messages.
//! Not here: reading frames (`net-wire`), the session's window (the caller carries the growth over), MAX_STREAM_DATA
//! frames.

use net_base::mutant;
use net_wire::DropReason;

use super::flow::RecvWindow;
use super::ordered::Ordered;
use super::unordered::Unordered;
use super::{MAX_MESSAGE, MESSAGE_CHARGE, Reliability, cost};

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

impl<'b> Piece<'b> {
    /// An EVENT frame's message.
    #[inline]
    #[must_use]
    pub const fn whole(message: &'b [u8]) -> Self {
        Self {
            offset: 0,
            // A frame is shorter than a datagram.
            total: message.len() as u32,
            bytes: message,
        }
    }

    /// Offset after the last byte.
    #[inline]
    pub(super) const fn end(&self) -> u64 {
        self.offset as u64 + self.bytes.len() as u64
    }

    /// Whether the message ends with these bytes.
    #[inline]
    pub(super) const fn completes(&self) -> bool {
        self.end() == self.total as u64
    }
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
    /// A duplicate, data of a stream that is read no more, or a FireAndForget message beyond what the application
    /// drains.
    Skip,
    /// Copied; comes out of [`RecvStream::pop_ready`] later.
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
    number: u64,
    position: u64,
    left: u16,
    first: bool,
    /// The last frame ended its message, so the next one begins another.
    at_boundary: bool,
    fin: bool,
}

impl Cursor {
    /// Event frames still to come.
    #[must_use]
    pub const fn remaining(&self) -> u16 {
        self.left
    }
}

/// A frame placed on the line of positions, checked against itself and the credit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'b> {
    pub number: u64,
    /// Where its message begins.
    pub start: u64,
    pub piece: Piece<'b>,
}

impl Placed<'_> {
    /// Where the message that follows begins.
    #[inline]
    pub fn message_end(&self) -> u64 {
        self.start + self.piece.total as u64 + MESSAGE_CHARGE
    }

    /// Delivers the frame without its first `skip` bytes.
    #[inline]
    pub fn deliver(&self, skip: usize) -> Action {
        Action::Deliver {
            number: self.number,
            offset: self.piece.offset as u64 + skip as u64,
            total: self.piece.total as u64,
            end: self.piece.completes(),
            skip,
        }
    }
}

#[derive(Debug)]
enum Order {
    /// On arrival.
    Loose,
    Ordered(Ordered),
    Unordered(Unordered),
    /// The stream was reset, or is read no more.
    Discard,
}

/// The receiving end of one stream.
#[derive(Debug)]
pub struct RecvStream {
    reliability: Reliability,
    max_message: u32,
    window: RecvWindow,
    order: Order,
    /// Positions handed to the application, and of those the drained ones.
    delivered: u64,
    drained: u64,
    /// What the session was told of the window's used and consumed positions.
    reported_used: u64,
    reported_consumed: u64,
    final_position: Option<u64>,
    reset_code: Option<u64>,
    dropped: u64,
}

impl RecvStream {
    /// A stream nothing arrived on: `window` positions are granted ahead of what is drained (at least
    /// [`RecvWindow::MIN`]), and messages have at most `max_message` bytes. Allocates nothing.
    #[must_use]
    pub fn new(reliability: Reliability, window: u64, max_message: u32) -> Self {
        Self {
            reliability,
            max_message: max_message.min(MAX_MESSAGE),
            window: RecvWindow::new(window),
            order: match reliability {
                Reliability::FireAndForget => Order::Loose,
                Reliability::Reliable => Order::Ordered(Ordered::default()),
                Reliability::ReliableUnordered => Order::Unordered(Unordered::default()),
            },
            delivered: 0,
            drained: 0,
            reported_used: 0,
            reported_consumed: 0,
            final_position: None,
            reset_code: None,
            dropped: 0,
        }
    }

    /// What the stream promises.
    #[must_use]
    pub const fn reliability(&self) -> Reliability {
        self.reliability
    }

    /// Opens a packet's run: the header's SEQUENCE, EVENT_COUNT and FIN, and the STREAM frame's fields.
    ///
    /// # Errors
    /// `StreamState` where the stream was opened with another reliability, `EventCount` where the run is empty and ends
    /// nothing. Both violate the protocol; nothing is changed.
    #[inline]
    pub fn begin(
        &mut self,
        sequence: u64,
        reliability: Reliability,
        position: u64,
        event_count: u16,
        fin: bool,
    ) -> Result<Cursor, DropReason> {
        if reliability != self.reliability {
            return Err(DropReason::StreamState);
        }
        if event_count == 0 && !fin {
            return Err(DropReason::EventCount);
        }
        Ok(Cursor {
            number: sequence,
            position,
            left: event_count,
            first: true,
            at_boundary: true,
            fin,
        })
    }

    /// Takes the run's next event frame and says what becomes of its bytes.
    ///
    /// # Errors
    /// `Overloaded` is no violation: the rest of the packet must be dropped and the packet not acknowledged, so that it
    /// is sent again. Every other error violates the protocol and ends the session.
    #[inline]
    pub fn on_event(&mut self, cursor: &mut Cursor, piece: Piece<'_>) -> Result<Action, DropReason> {
        let placed = self.place(cursor, piece)?;
        let action = match &mut self.order {
            Order::Ordered(ordered) => ordered.on_event(&placed)?,
            Order::Unordered(unordered) => unordered.on_event(&placed, self.window.window())?,
            Order::Loose => self.on_loose(&placed)?,
            Order::Discard => Action::Skip,
        };
        if let Action::Deliver { skip, end, .. } = action {
            self.delivered += cost(piece.bytes.len() - skip, end);
        }
        Ok(action)
    }

    /// The number of the run's next message, if it is a whole one of `len` bytes, due next in an ordered stream in
    /// which nothing waits: what most frames are. It then counts as taken and delivered. `None` changes nothing and
    /// leaves the frame to [`Self::on_event`], which decides every other case.
    #[inline]
    pub fn take_whole(&mut self, cursor: &mut Cursor, len: usize) -> Option<u64> {
        let Order::Ordered(ordered) = &mut self.order else {
            return None;
        };
        let Cursor {
            number, position, left, ..
        } = *cursor;
        if left == 0 || len > self.max_message as usize || position > self.window.granted() {
            return None;
        }
        let end = position + cost(len, true);
        let known = cursor.at_boundary && self.final_position.is_none() && ordered.awaits(number, position);
        if !known || number == u64::MAX || self.window.advance_to(end).is_err() {
            return None;
        }
        ordered.pass(end);
        *cursor = Cursor {
            number: number + 1,
            position: end,
            left: left - 1,
            first: false,
            ..*cursor
        };
        self.delivered += cost(len, true);
        Some(number)
    }

    /// Closes the run. Returns [`Self::take_growth`]; then [`Self::take_consumed`] and [`Self::pop_ready`] have news.
    ///
    /// # Errors
    /// `EventCount` where frames are missing, `MalformedFrame` where the stream would end inside a message,
    /// `StreamState` where its end contradicts what is known, `FlowControl`. All violate the protocol.
    #[inline]
    pub fn end(&mut self, cursor: Cursor) -> Result<u64, DropReason> {
        if cursor.left > 0 {
            return Err(DropReason::EventCount);
        }
        if cursor.fin {
            if !cursor.at_boundary {
                return Err(DropReason::MalformedFrame);
            }
            self.set_final(cursor.position)?;
        }
        self.refresh_consumed();
        Ok(self.take_growth())
    }

    /// The next bytes that arrived early and are due now. Ask until `None` after each run.
    ///
    /// # Errors
    /// `StreamState` where buffered messages contradict each other, which violates the protocol.
    pub fn pop_ready(&mut self) -> Result<Option<Part<'_>>, DropReason> {
        let part = match &mut self.order {
            Order::Ordered(ordered) => ordered.pop_ready(self.max_message)?,
            Order::Unordered(unordered) => unordered.pop_ready(),
            Order::Loose | Order::Discard => None,
        };
        if let Some(part) = &part {
            self.delivered += cost(part.bytes.len(), part.end);
        }
        Ok(part)
    }

    /// Takes a RESET_STREAM: nothing more is delivered, and what never came counts as consumed. Returns
    /// [`Self::take_growth`]. Ignored where everything was delivered or the stream is reset already.
    ///
    /// # Errors
    /// `StreamState` where the final position contradicts what is known, `FlowControl`. Both violate the protocol.
    pub fn on_reset(&mut self, code: u64, final_position: u64) -> Result<u64, DropReason> {
        let finished = self.is_finished();
        self.set_final(final_position)?;
        if !finished {
            self.reset_code = Some(code);
            self.order = Order::Discard;
        }
        self.refresh_consumed();
        Ok(self.take_growth())
    }

    /// Takes a STREAM_BLOCKED: the next [`Self::grant`] gives what there is. Returns [`Self::take_growth`], as a
    /// FireAndForget stream learns here of packets that were lost.
    ///
    /// # Errors
    /// `FlowControl` or `StreamState` where the position lies beyond the credit or the stream's end.
    pub fn on_blocked(&mut self, position: u64) -> Result<u64, DropReason> {
        if self.final_position.is_some_and(|last| position > last) {
            return Err(DropReason::StreamState);
        }
        if position > self.window.granted() {
            return Err(DropReason::FlowControl);
        }
        self.window.press();
        if self.reliability == Reliability::FireAndForget {
            self.window.advance_to(position)?;
        }
        self.refresh_consumed();
        Ok(self.take_growth())
    }

    /// The application reads no more (STOP_SENDING): what is buffered is dropped, what still comes is skipped, and both
    /// count as consumed.
    pub fn stop(&mut self) {
        self.order = Order::Discard;
        self.refresh_consumed();
    }

    /// The application drained what was delivered: the sum of [`cost`] over the parts.
    pub fn on_consumed(&mut self, positions: u64) {
        debug_assert!(
            positions <= self.delivered - self.drained,
            "drained what was not delivered"
        );
        let positions = if mutant!(CreditTwice) { 2 * positions } else { positions };
        self.drained = self.drained.saturating_add(positions).min(self.delivered);
        self.refresh_consumed();
    }

    /// By how much the highest position grew since the last answer, for the session's window
    /// ([`RecvWindow::advance`]). `end`, `on_reset` and `on_blocked` answer it themselves; a run given up half way leaves
    /// it to the next of them.
    pub fn take_growth(&mut self) -> u64 {
        let used = self.window.used();
        used - core::mem::replace(&mut self.reported_used, used)
    }

    /// Positions consumed since the last answer, for the session's window ([`RecvWindow::consume`]). Ask after `end`,
    /// `on_consumed`, `on_reset`, `on_blocked` and `stop`. Never ahead of the growth answered.
    pub fn take_consumed(&mut self) -> u64 {
        let consumed = self.window.consumed().min(self.reported_used);
        consumed - core::mem::replace(&mut self.reported_consumed, consumed)
    }

    /// A new absolute limit for MAX_STREAM_DATA, where enough became free to be worth a frame. Ask after each packet of
    /// the stream and each `on_consumed`.
    pub fn grant(&mut self) -> Option<u64> {
        if self.final_position.is_some() {
            return None;
        }
        match &self.order {
            Order::Loose | Order::Ordered(_) => self.window.grant(),
            Order::Unordered(unordered) => self.window.grant_up_to(unordered.ceiling(self.window.window())),
            Order::Discard => None,
        }
    }

    /// The limit last granted.
    #[must_use]
    pub const fn granted(&self) -> u64 {
        self.window.granted()
    }

    /// Positions delivered and not drained.
    #[must_use]
    pub const fn undrained(&self) -> u64 {
        self.delivered - self.drained
    }

    /// Grants more ahead of what is drained; a smaller window is ignored.
    pub fn widen(&mut self, window: u64) {
        self.window.widen(window);
    }

    /// Whether nothing more will be delivered: everything was, the stream was reset, or in a FireAndForget stream its end
    /// is known (messages that were overtaken by it may still come).
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let Some(last) = self.final_position else { return false };
        match &self.order {
            Order::Ordered(ordered) => ordered.position() == last,
            Order::Unordered(unordered) => unordered.position() == last,
            Order::Loose | Order::Discard => true,
        }
    }

    /// The code of the RESET_STREAM that ended the stream.
    #[must_use]
    pub const fn reset_code(&self) -> Option<u64> {
        self.reset_code
    }

    /// FireAndForget messages dropped because the application did not drain.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes of memory held for data that arrived early.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.order {
            Order::Ordered(ordered) => ordered.memory(),
            Order::Unordered(unordered) => unordered.memory(),
            Order::Loose | Order::Discard => 0,
        }
    }

    /// Checks a frame against itself, the run, the stream's end and the credit, and moves the cursor past it.
    #[inline]
    fn place<'b>(&mut self, cursor: &mut Cursor, piece: Piece<'b>) -> Result<Placed<'b>, DropReason> {
        cursor.left = cursor.left.checked_sub(1).ok_or(DropReason::EventCount)?;
        let offset = piece.offset as u64;
        let continues = offset > 0 && !core::mem::take(&mut cursor.first);
        let empty = piece.bytes.is_empty() && piece.total > 0;
        if continues || !cursor.at_boundary || empty || piece.end() > piece.total as u64 {
            return Err(DropReason::MalformedFrame);
        }
        cursor.first = false;
        if piece.total > self.max_message {
            return Err(DropReason::MessageTooLarge);
        }
        let start = cursor.position.checked_sub(offset).ok_or(DropReason::MalformedFrame)?;
        let message_end = start
            .checked_add(piece.total as u64 + MESSAGE_CHARGE)
            .ok_or(DropReason::FlowControl)?;
        let number = cursor.number;
        cursor.at_boundary = piece.completes();
        if cursor.at_boundary {
            cursor.position = message_end;
            cursor.number = number.checked_add(1).ok_or(DropReason::StreamState)?;
        } else {
            cursor.position = start + piece.end();
        }
        // A reset may end the line inside a message, so its end is not looked at.
        if self.final_position.is_some_and(|last| cursor.position > last) {
            return Err(DropReason::StreamState);
        }
        self.window.advance_to(cursor.position)?;
        Ok(Placed { number, start, piece })
    }

    fn on_loose(&mut self, placed: &Placed<'_>) -> Result<Action, DropReason> {
        if placed.piece.offset > 0 || !placed.piece.completes() {
            return Err(DropReason::FrameNotAllowed);
        }
        // Overtaken messages cost no credit any more, so what waits for the application is bounded here.
        if self.undrained() + cost(placed.piece.bytes.len(), true) > self.window.window() {
            self.dropped += 1;
            return Ok(Action::Skip);
        }
        Ok(placed.deliver(0))
    }

    fn set_final(&mut self, position: u64) -> Result<(), DropReason> {
        let known = self.final_position.is_some_and(|last| last != position);
        if known || position < self.window.used() {
            return Err(DropReason::StreamState);
        }
        self.window.advance_to(position)?;
        self.final_position = Some(position);
        Ok(())
    }

    /// Consumed is what was drained; where the rest will never come, everything but what waits to be drained.
    #[inline]
    fn refresh_consumed(&mut self) {
        let consumed = match &self.order {
            Order::Ordered(_) | Order::Unordered(_) if mutant!(CreditOnReceipt) => self.delivered,
            Order::Ordered(_) | Order::Unordered(_) => self.drained,
            Order::Loose | Order::Discard => self.window.used().saturating_sub(self.undrained()),
        };
        self.window.consume(consumed.saturating_sub(self.window.consumed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const WINDOW: u64 = 8192;

    fn stream(reliability: Reliability) -> RecvStream {
        RecvStream::new(reliability, WINDOW, 6000)
    }

    /// Message number, where its message begins, offset, length of the piece, total.
    type Frame = (u64, u64, u32, u32, u32);

    fn content(number: u64, offset: u32, length: u32) -> Vec<u8> {
        (offset..offset + length)
            .map(|at| (number as u32 * 17 + at) as u8)
            .collect()
    }

    fn send(stream: &mut RecvStream, (number, start, offset, length, total): Frame) -> Result<Action, DropReason> {
        let bytes = content(number, offset, length);
        let position = start + offset as u64;
        let mut cursor = stream.begin(number, stream.reliability(), position, 1, false)?;
        let action = stream.on_event(
            &mut cursor,
            Piece {
                offset,
                total,
                bytes: &bytes,
            },
        )?;
        stream.end(cursor)?;
        Ok(action)
    }

    fn finish(stream: &mut RecvStream, number: u64, position: u64) -> Result<u64, DropReason> {
        let cursor = stream.begin(number, stream.reliability(), position, 0, true)?;
        stream.end(cursor)
    }

    fn delivered(number: u64, offset: u64, total: u64, end: bool, skip: usize) -> Result<Action, DropReason> {
        Ok(Action::Deliver {
            number,
            offset,
            total,
            end,
            skip,
        })
    }

    /// Everything that is due: number, offset, length, end. The bytes are checked.
    fn due(stream: &mut RecvStream) -> Vec<(u64, u64, usize, bool)> {
        let mut parts: Vec<(u64, u64, usize, bool)> = Vec::new();
        while let Some(part) = stream.pop_ready().expect("an honest sender") {
            assert_eq!(
                part.bytes,
                content(part.number, part.offset as u32, part.bytes.len() as u32)
            );
            match parts.last_mut() {
                // Where the buffer wraps is none of the reader's business.
                Some(last) if last.0 == part.number && last.1 + last.2 as u64 == part.offset => {
                    last.2 += part.bytes.len();
                    last.3 = part.end;
                }
                _ => parts.push((part.number, part.offset, part.bytes.len(), part.end)),
            }
        }
        parts
    }

    #[test]
    fn ordered_messages_wait_for_those_in_front() {
        let mut stream = stream(Reliability::Reliable);
        // Messages of 100, 0 and 300 bytes begin at 0, 116 and 132.
        assert_eq!(send(&mut stream, (2, 132, 200, 100, 300)), Ok(Action::Buffered));
        assert_eq!(send(&mut stream, (1, 116, 0, 0, 0)), Ok(Action::Buffered));
        assert_eq!(send(&mut stream, (1, 116, 0, 0, 0)), Ok(Action::Skip));
        assert_eq!(due(&mut stream), []);
        assert_eq!(send(&mut stream, (0, 0, 0, 60, 100)), delivered(0, 0, 100, false, 0));
        assert_eq!(due(&mut stream), []);
        // Cut anew: the first 60 bytes came already.
        assert_eq!(send(&mut stream, (0, 0, 0, 100, 100)), delivered(0, 60, 100, true, 60));
        assert_eq!(due(&mut stream), [(1, 0, 0, true)]);
        assert_eq!(send(&mut stream, (2, 132, 0, 150, 300)), delivered(2, 0, 300, false, 0));
        assert_eq!(
            send(&mut stream, (2, 132, 140, 100, 300)),
            delivered(2, 150, 300, false, 10)
        );
        assert_eq!(due(&mut stream), [(2, 240, 60, true)]);
        assert_eq!(send(&mut stream, (2, 132, 240, 60, 300)), Ok(Action::Skip));
        assert_eq!(finish(&mut stream, 3, 448), Ok(0));
        assert!(stream.is_finished());
    }

    #[test]
    fn unordered_messages_pass_each_other_but_not_themselves() {
        let mut stream = stream(Reliability::ReliableUnordered);
        assert_eq!(send(&mut stream, (2, 132, 200, 100, 300)), Ok(Action::Buffered));
        assert_eq!(send(&mut stream, (1, 116, 0, 0, 0)), delivered(1, 0, 0, true, 0));
        assert_eq!(send(&mut stream, (1, 116, 0, 0, 0)), Ok(Action::Skip));
        assert_eq!(send(&mut stream, (2, 132, 0, 210, 300)), delivered(2, 0, 300, false, 0));
        assert_eq!(due(&mut stream), [(2, 210, 90, true)]);
        assert_eq!(send(&mut stream, (2, 132, 100, 200, 300)), Ok(Action::Skip));
        assert_eq!(finish(&mut stream, 3, 448), Ok(0));
        assert!(!stream.is_finished());
        assert_eq!(send(&mut stream, (0, 0, 0, 100, 100)), delivered(0, 0, 100, true, 0));
        assert!(stream.is_finished());
    }

    #[test]
    fn bytes_delivered_in_place_leave_no_trace_in_the_buffer() {
        // Early pieces that are overtaken by direct delivery, until the reorder buffer wrapped several times: a cell
        // that kept its mark would pass for data that never came.
        for reliability in [Reliability::Reliable, Reliability::ReliableUnordered] {
            let mut stream = stream(reliability);
            let total = 6000;
            for at in (0..total - 360).step_by(360) {
                assert_eq!(
                    send(&mut stream, (0, 0, at + 120, 60, total)),
                    Ok(Action::Buffered),
                    "{at}"
                );
                let direct = delivered(0, at as u64, total as u64, false, 0);
                assert_eq!(send(&mut stream, (0, 0, at, 120, total)), direct);
                assert_eq!(due(&mut stream), [(0, at as u64 + 120, 60, false)]);
                // The same bytes again and the rest of the step, as one piece.
                let rest = delivered(0, at as u64 + 180, total as u64, false, 60);
                assert_eq!(send(&mut stream, (0, 0, at + 120, 120, total)), rest);
                assert_eq!(due(&mut stream), []);
                // An early piece wholly covered by the next direct one.
                let next = at + 240;
                assert_eq!(send(&mut stream, (0, 0, next + 10, 20, total)), Ok(Action::Buffered));
                assert_eq!(
                    send(&mut stream, (0, 0, next, 1, total)),
                    delivered(0, next as u64, total as u64, false, 0)
                );
                assert_eq!(due(&mut stream), []);
                let covering = delivered(0, next as u64 + 1, total as u64, false, 0);
                assert_eq!(send(&mut stream, (0, 0, next + 1, 119, total)), covering);
                assert_eq!(due(&mut stream), []);
            }
            // The same places of the smallest buffer in every round.
            let mut stream = self::stream(reliability);
            for at in (0..total - 256).step_by(256) {
                assert_eq!(
                    send(&mut stream, (0, 0, at + 100, 10, total)),
                    Ok(Action::Buffered),
                    "{at}"
                );
                assert_eq!(
                    send(&mut stream, (0, 0, at + 10, 20, total)),
                    Ok(Action::Buffered),
                    "{at}"
                );
                let direct = delivered(0, at as u64, total as u64, false, 0);
                assert_eq!(send(&mut stream, (0, 0, at, 256, total)), direct);
                assert_eq!(due(&mut stream), []);
            }
        }
    }

    #[test]
    fn what_contradicts_itself_or_the_credit_is_refused() {
        struct Case {
            reliability: Reliability,
            before: &'static [Frame],
            frame: Frame,
            refused: DropReason,
        }
        use Reliability::{FireAndForget, Reliable, ReliableUnordered};
        let case = |reliability, before, frame, refused| Case {
            reliability,
            before,
            frame,
            refused,
        };
        let mut cases = vec![
            case(FireAndForget, &[][..], (0, 0, 0, 10, 20), DropReason::FrameNotAllowed),
            case(FireAndForget, &[], (0, 0, 10, 10, 20), DropReason::FrameNotAllowed),
        ];
        for reliability in [Reliable, ReliableUnordered] {
            cases.extend([
                case(reliability, &[], (0, 0, 15, 10, 20), DropReason::MalformedFrame),
                case(reliability, &[], (0, 0, 5, 0, 20), DropReason::MalformedFrame),
                case(reliability, &[], (0, 0, 0, 10, 6001), DropReason::MessageTooLarge),
                // Bytes up to the limit, the charge beyond it.
                case(reliability, &[], (9, WINDOW - 100, 0, 90, 90), DropReason::FlowControl),
                case(reliability, &[], (9, u64::MAX - 20, 0, 10, 10), DropReason::FlowControl),
                case(
                    reliability,
                    &[(0, 0, 0, 10, 20)],
                    (0, 0, 10, 5, 21),
                    DropReason::StreamState,
                ),
                case(
                    reliability,
                    &[(0, 0, 10, 5, 20)],
                    (0, 0, 0, 21, 21),
                    DropReason::StreamState,
                ),
                case(
                    reliability,
                    &[(0, 0, 10, 5, 20)],
                    (0, 0, 15, 5, 21),
                    DropReason::StreamState,
                ),
                case(
                    reliability,
                    &[(5, 500, 0, 10, 20)],
                    (5, 500, 10, 9, 19),
                    DropReason::StreamState,
                ),
                case(
                    reliability,
                    &[(5, 500, 0, 10, 20)],
                    (6, 500, 10, 10, 20),
                    DropReason::StreamState,
                ),
                case(
                    reliability,
                    &[(0, 0, 0, 10, 10)],
                    (1, 20, 0, 10, 10),
                    DropReason::StreamState,
                ),
                case(
                    reliability,
                    &[(0, 0, 0, 10, 10)],
                    (3, 30, 0, 10, 10),
                    DropReason::StreamState,
                ),
                case(
                    reliability,
                    &[(0, 0, 0, 10, 10)],
                    (0, 0, 0, 11, 11),
                    DropReason::StreamState,
                ),
            ]);
        }
        // Nothing of a message is known to an ordered stream before its turn but its head.
        cases.extend([
            case(
                ReliableUnordered,
                &[(2, 100, 0, 10, 10)],
                (1, 95, 0, 10, 10),
                DropReason::StreamState,
            ),
            case(
                ReliableUnordered,
                &[(2, 100, 0, 10, 10)],
                (4, 126, 0, 10, 10),
                DropReason::StreamState,
            ),
            case(
                ReliableUnordered,
                &[(2, 100, 0, 10, 20)],
                (3, 130, 0, 10, 10),
                DropReason::StreamState,
            ),
            case(
                ReliableUnordered,
                &[(4, 200, 0, 10, 20)],
                (3, 170, 0, 15, 20),
                DropReason::StreamState,
            ),
            case(
                ReliableUnordered,
                &[(4, 200, 0, 10, 20)],
                (3, 100, 0, 85, 85),
                DropReason::StreamState,
            ),
        ]);
        for (number, case) in cases.iter().enumerate() {
            let mut stream = stream(case.reliability);
            for frame in case.before {
                assert!(send(&mut stream, *frame).is_ok(), "case {number}");
            }
            assert_eq!(send(&mut stream, case.frame), Err(case.refused), "case {number}");
        }
    }

    #[test]
    fn a_run_is_what_its_header_says() {
        let mut stream = stream(Reliability::Reliable);
        assert_eq!(
            stream.begin(0, Reliability::FireAndForget, 0, 1, false).map(|_| ()),
            Err(DropReason::StreamState)
        );
        assert_eq!(
            stream.begin(0, Reliability::Reliable, 0, 0, false).map(|_| ()),
            Err(DropReason::EventCount)
        );
        let mut cursor = stream
            .begin(0, Reliability::Reliable, 0, 2, false)
            .expect("well formed");
        assert_eq!(cursor.remaining(), 2);
        assert!(stream.on_event(&mut cursor, Piece::whole(b"one")).is_ok());
        assert_eq!(stream.end(cursor), Err(DropReason::EventCount));
        assert!(stream.on_event(&mut cursor, Piece::whole(b"two")).is_ok());
        assert_eq!(
            stream.on_event(&mut cursor, Piece::whole(b"three")),
            Err(DropReason::EventCount)
        );
        // A piece that does not end its message must be the last, one that continues a message the first.
        let piece = |offset, bytes| Piece {
            offset,
            total: 9,
            bytes,
        };
        let mut cursor = stream
            .begin(2, Reliability::Reliable, 38, 2, false)
            .expect("well formed");
        assert!(stream.on_event(&mut cursor, piece(0, b"abc")).is_ok());
        assert_eq!(
            stream.on_event(&mut cursor, Piece::whole(b"x")),
            Err(DropReason::MalformedFrame)
        );
        let mut cursor = stream
            .begin(1, Reliability::Reliable, 19, 2, false)
            .expect("well formed");
        assert_eq!(stream.on_event(&mut cursor, Piece::whole(b"two")), Ok(Action::Skip));
        assert_eq!(
            stream.on_event(&mut cursor, piece(3, b"def")),
            Err(DropReason::MalformedFrame)
        );
        let mut cursor = stream
            .begin(2, Reliability::Reliable, 41, 1, true)
            .expect("well formed");
        assert!(stream.on_event(&mut cursor, piece(3, b"def")).is_ok());
        assert_eq!(stream.end(cursor), Err(DropReason::MalformedFrame));
    }

    #[test]
    fn the_end_of_a_stream_is_said_once() {
        for reliability in Reliability::ALL {
            let mut stream = stream(reliability);
            assert!(send(&mut stream, (0, 0, 0, 10, 10)).is_ok());
            assert_eq!(finish(&mut stream, 0, 25), Err(DropReason::StreamState));
            assert_eq!(finish(&mut stream, 2, 52), Ok(26));
            assert_eq!(finish(&mut stream, 2, 52), Ok(0));
            assert_eq!(finish(&mut stream, 3, 78), Err(DropReason::StreamState));
            assert_eq!(stream.on_reset(1, 51), Err(DropReason::StreamState));
            assert_eq!(stream.on_blocked(53), Err(DropReason::StreamState));
            assert_eq!(send(&mut stream, (2, 52, 0, 1, 1)), Err(DropReason::StreamState));
            assert!(send(&mut stream, (1, 26, 0, 10, 10)).is_ok());
            assert!(stream.is_finished());
            assert_eq!(stream.on_reset(9, 52), Ok(0));
            assert_eq!(stream.reset_code(), None, "everything came before the reset");
        }
    }

    #[test]
    fn a_reset_may_end_the_line_inside_a_message() {
        let mut stream = stream(Reliability::Reliable);
        assert!(send(&mut stream, (0, 0, 0, 10, 100)).is_ok());
        assert_eq!(stream.on_reset(3, 60), Ok(50));
        assert_eq!(send(&mut stream, (0, 0, 10, 50, 100)), Ok(Action::Skip));
        assert_eq!(send(&mut stream, (0, 0, 10, 51, 100)), Err(DropReason::StreamState));
        assert_eq!((stream.reset_code(), stream.is_finished()), (Some(3), true));
        assert_eq!(stream.take_consumed(), 50, "ten bytes wait for the application");
        stream.on_consumed(10);
        assert_eq!(stream.take_consumed(), 10);
    }

    #[test]
    fn credit_returns_when_the_application_drained() {
        let mut stream = stream(Reliability::Reliable);
        assert_eq!(send(&mut stream, (0, 0, 0, 3000, 3000)), delivered(0, 0, 3000, true, 0));
        assert_eq!(stream.grant(), None, "arrival alone frees nothing");
        stream.on_consumed(1000);
        assert_eq!(stream.grant(), None, "too little for a frame");
        assert_eq!(stream.on_blocked(WINDOW + 1), Err(DropReason::FlowControl));
        assert_eq!(stream.on_blocked(WINDOW), Ok(0));
        assert_eq!(stream.grant(), Some(WINDOW + 1000));
        stream.on_consumed(2016);
        assert_eq!(stream.take_consumed(), 3016);
        assert_eq!(stream.grant(), None);
        stream.widen(2 * WINDOW);
        assert_eq!(stream.grant(), Some(2 * WINDOW + 3016));
        assert_eq!(stream.granted(), 2 * WINDOW + 3016);
    }

    #[test]
    fn lost_fire_and_forget_messages_cost_no_credit() {
        let mut stream = stream(Reliability::FireAndForget);
        // Five of six messages are lost, the last of them silently.
        assert_eq!(
            send(&mut stream, (4, 4 * 1016, 0, 1000, 1000)),
            delivered(4, 0, 1000, true, 0)
        );
        assert_eq!(stream.take_consumed(), 4 * 1016);
        assert_eq!(stream.on_blocked(6 * 1016), Ok(1016));
        assert_eq!(stream.take_consumed(), 1016);
        assert_eq!(stream.grant(), Some(5 * 1016 + WINDOW));
        stream.on_consumed(1016);
        assert_eq!(stream.take_consumed(), 1016);
        assert_eq!(stream.on_blocked(stream.granted() + 1), Err(DropReason::FlowControl));
    }

    #[test]
    fn overtaken_fire_and_forget_messages_do_not_pile_up() {
        let mut stream = stream(Reliability::FireAndForget);
        let mut waiting = 0;
        for _ in 0..10 {
            // The far end first, then what lies below, none of it drained.
            let last = stream.granted() - 1016;
            for start in [last, last - 1016, last - 2032, last - 3048] {
                if let Ok(Action::Deliver { .. }) = send(&mut stream, (start / 1016, start, 0, 1000, 1000)) {
                    waiting += 1016;
                }
            }
            stream.grant();
            assert_eq!(stream.undrained(), waiting);
            assert!(waiting <= WINDOW);
        }
        assert!(stream.dropped() > 0);
    }

    #[test]
    fn a_hole_stops_an_unordered_sender_before_memory_does() {
        let mut stream = stream(Reliability::ReliableUnordered);
        let mut start = 516;
        let mut number = 1;
        while start + 516 <= stream.granted() {
            assert!(send(&mut stream, (number, start, 0, 500, 500)).is_ok());
            stream.on_consumed(516);
            stream.grant();
            number += 1;
            start += 516;
        }
        assert!((3 * WINDOW..=4 * WINDOW).contains(&stream.granted()));
        assert!(send(&mut stream, (0, 0, 0, 500, 500)).is_ok());
        stream.on_consumed(516);
        assert_eq!(stream.grant(), Some(start + WINDOW));
        assert_eq!(stream.memory(), 0);
    }

    #[test]
    fn tiny_pieces_are_refused_before_they_multiply_memory() {
        let mut stream = stream(Reliability::ReliableUnordered);
        let mut refused = 0;
        for number in 0..200 {
            match send(&mut stream, (number, number * 36, 19, 1, 20)) {
                Ok(action) => assert_eq!(action, Action::Buffered),
                Err(reason) => {
                    assert_eq!(reason, DropReason::Overloaded);
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
        assert!(stream.memory() as u64 <= 4 * WINDOW);
        // What is known can still be completed, and then there is room again.
        assert_eq!(send(&mut stream, (0, 0, 0, 19, 20)), delivered(0, 0, 20, false, 0));
        assert_eq!(due(&mut stream), [(0, 19, 1, true)]);
        assert_eq!(send(&mut stream, (199, 199 * 36, 19, 1, 20)), Ok(Action::Buffered));
    }

    #[test]
    fn growth_of_a_run_given_up_half_way_is_told_later() {
        let mut stream = stream(Reliability::Reliable);
        let mut cursor = stream
            .begin(0, Reliability::Reliable, 0, 2, false)
            .expect("well formed");
        assert!(stream.on_event(&mut cursor, Piece::whole(&[0; 84])).is_ok());
        stream.on_consumed(100);
        assert_eq!(
            stream.take_consumed(),
            0,
            "not ahead of what the session knows was used"
        );
        assert_eq!(stream.take_growth(), 100);
        assert_eq!(stream.take_consumed(), 100);
    }
}
