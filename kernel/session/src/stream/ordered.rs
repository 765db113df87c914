//! Delivery in order: the frontier, and what arrived beyond it.
//!
//! Invariants: everything below the frontier was delivered, nothing above it was; a message that arrived early lies in
//! the reorder buffer behind a head of its number and length, in the cells its 16 positions of charge pay for.
//! Not here: credit, the stream's end.

use net_base::mutant;
use net_wire::DropReason;

use super::recv::{Action, Part, Placed};
use super::reorder::ReorderBuffer;
use super::{MAX_MESSAGE, MESSAGE_CHARGE};

/// The state of a Reliable stream's receiving end.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// The message due next: its number, where it begins, how much of it was delivered, and of how much.
    number: u64,
    start: u64,
    offset: u64,
    total: u64,
    early: ReorderBuffer,
}

impl Ordered {
    /// Where the message due next begins.
    pub(super) fn position(&self) -> u64 {
        self.start
    }

    pub(super) fn memory(&self) -> usize {
        self.early.memory()
    }

    #[inline]
    pub(super) fn on_event(&mut self, placed: &Placed<'_>) -> Result<Action, DropReason> {
        if placed.number != self.number {
            return self.on_other_message(placed);
        }
        let piece = &placed.piece;
        let contradicts = self.offset > 0 && piece.total as u64 != self.total;
        if placed.start != self.start || contradicts {
            return Err(DropReason::StreamState);
        }
        if piece.offset as u64 > self.offset {
            return self.keep(placed);
        }
        if piece.end() <= self.offset && !piece.completes() {
            return Ok(Action::Skip);
        }
        let skip = (self.offset - piece.offset as u64) as usize;
        let before = self.cell();
        if !self.early.is_empty(before) {
            self.check_head(placed)?;
        }
        self.deliver_to(piece.end(), piece.total as u64);
        if !self.early.is_empty(before) {
            if !mutant!(ReassemblyStale) {
                self.early.clear(before, self.cell());
            }
            self.release();
        }
        Ok(placed.deliver(skip))
    }

    /// Whether message `number`, beginning at `start`, is due next from its first byte and nothing waits behind it.
    #[inline]
    pub(super) fn awaits(&self, number: u64, start: u64) -> bool {
        number == self.number && start == self.start && self.offset == 0 && self.early.is_empty(start)
    }

    /// The awaited message was delivered whole; the next one begins at `end`.
    #[inline]
    pub(super) fn pass(&mut self, end: u64) {
        self.number += 1;
        self.start = end;
    }

    /// The next bytes the frontier has reached in the reorder buffer.
    pub(super) fn pop_ready(&mut self, max_message: u32) -> Result<Option<Part<'_>>, DropReason> {
        let before = self.cell();
        if self.early.is_empty(before) {
            self.release();
            return Ok(None);
        }
        let mut total = self.total;
        if self.offset == 0 {
            if self.early.filled(self.start, MESSAGE_CHARGE) < MESSAGE_CHARGE {
                return Ok(None);
            }
            let (number, length) = self.head(self.start);
            if number != self.number || length > max_message as u64 {
                return Err(DropReason::StreamState);
            }
            total = length;
        }
        let from = self.start + MESSAGE_CHARGE + self.offset;
        let ready = self.early.filled(from, total - self.offset);
        if ready == 0 && total > self.offset {
            return Ok(None);
        }
        let (number, offset) = (self.number, self.offset);
        let length = self.early.chunk(from, ready).len() as u64;
        let end = offset + length == total;
        self.deliver_to(offset + length, total);
        self.early.clear(before, self.cell());
        Ok(Some(Part {
            number,
            offset,
            total,
            end,
            bytes: self.early.chunk(from, length),
        }))
    }

    /// A frame of a message that was delivered, or is not due yet.
    fn on_other_message(&mut self, placed: &Placed<'_>) -> Result<Action, DropReason> {
        if placed.number < self.number {
            return if placed.message_end() <= self.start {
                Ok(Action::Skip)
            } else {
                Err(DropReason::StreamState)
            };
        }
        // Every message in between takes its charge at least.
        let due = if self.offset > 0 { self.total } else { 0 };
        let lowest = (placed.number - self.number)
            .checked_mul(MESSAGE_CHARGE)
            .and_then(|charges| charges.checked_add(self.start + due));
        if lowest.is_none_or(|lowest| placed.start < lowest) {
            return Err(DropReason::StreamState);
        }
        self.keep(placed)
    }

    fn keep(&mut self, placed: &Placed<'_>) -> Result<Action, DropReason> {
        let floor = self.cell();
        let head_due = placed.number != self.number || self.offset == 0;
        let from = placed.start + MESSAGE_CHARGE + placed.piece.offset as u64;
        let length = placed.piece.bytes.len() as u64;
        if head_due {
            if self.check_head(placed)? {
                if self.early.filled(from, length) == length {
                    return Ok(Action::Skip);
                }
            } else {
                let mut head = [0; MESSAGE_CHARGE as usize];
                head[..8].copy_from_slice(&placed.number.to_le_bytes());
                head[8..12].copy_from_slice(&placed.piece.total.to_le_bytes());
                self.early.store(floor, placed.start, &head);
            }
        } else if self.early.filled(from, length) == length {
            return Ok(Action::Skip);
        }
        self.early.store(floor, from, placed.piece.bytes);
        Ok(Action::Buffered)
    }

    /// Whether a head was stored for the frame's message; an error where it says something else than the frame.
    fn check_head(&self, placed: &Placed<'_>) -> Result<bool, DropReason> {
        if !self.early.any(placed.start, MESSAGE_CHARGE) || placed.start < self.cell() {
            return Ok(false);
        }
        let whole = self.early.filled(placed.start, MESSAGE_CHARGE) == MESSAGE_CHARGE;
        if whole && self.head(placed.start) == (placed.number, placed.piece.total as u64) {
            Ok(true)
        } else {
            Err(DropReason::StreamState)
        }
    }

    fn head(&self, start: u64) -> (u64, u64) {
        let head: [u8; MESSAGE_CHARGE as usize] = self.early.read(start);
        let (number, rest) = head
            .split_first_chunk::<8>()
            .expect("a head has sixteen bytes, of which the number takes eight");
        let (length, _) = rest
            .split_first_chunk::<4>()
            .expect("of the eight bytes after the number the length takes four");
        (u64::from_le_bytes(*number), u32::from_le_bytes(*length) as u64)
    }

    /// The frontier as a cell of the reorder buffer: heads lie in front of their message, not behind it.
    #[inline]
    fn cell(&self) -> u64 {
        if self.offset == 0 {
            self.start
        } else {
            self.start + MESSAGE_CHARGE + self.offset
        }
    }

    #[inline]
    fn deliver_to(&mut self, offset: u64, total: u64) {
        debug_assert!(offset <= total && total <= MAX_MESSAGE as u64);
        if offset == total {
            self.number += 1;
            self.start += total + MESSAGE_CHARGE;
            self.offset = 0;
        } else {
            self.offset = offset;
            self.total = total;
        }
    }

    fn release(&mut self) {
        if self.early.is_empty(self.cell()) {
            self.early.release();
        }
    }
}
