//! Exactly-once delivery in any order: which messages are done, and how far the others are.
//!
//! Invariants: a message is either done or, once part of it arrived, partial; done messages behind the frontier are
//! kept as merged ranges of positions and numbers; bytes of one message are delivered in order.
//! Not here: credit, the stream's end.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use net_wire::DropReason;

use super::MESSAGE_CHARGE;
use super::recv::{Action, Part, Placed};
use super::reorder::ReorderBuffer;

/// Windows by which a sender may be ahead of the oldest message that is not done. It bounds what is remembered of the
/// messages after it, and leaves room for losing one message several times.
const WINDOWS_AHEAD: u64 = 4;

/// Positions of window per partial message allowed. A sender cuts at most one message per packet, and packets are
/// longer than this.
const POSITIONS_PER_PARTIAL: u64 = 256;

/// The state of a ReliableUnordered stream's receiving end.
#[derive(Debug, Default)]
pub(super) struct Unordered {
    /// Every message below is done.
    frontier: Place,
    /// First position of done messages beyond the frontier, and where they end.
    done: BTreeMap<u64, Done>,
    partial: BTreeMap<u64, Partial>,
    /// Partial messages whose next bytes arrived early.
    ready: Vec<u64>,
    /// The buffer of the message popped last, lent until the next call.
    lent: ReorderBuffer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Place {
    position: u64,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    first_number: u64,
    end: Place,
}

#[derive(Debug)]
struct Partial {
    start: u64,
    total: u64,
    delivered: u64,
    /// Bytes beyond `delivered`, by their offset in the message.
    early: ReorderBuffer,
}

impl Unordered {
    /// Where the oldest message that is not done begins.
    pub(super) fn position(&self) -> u64 {
        self.frontier.position
    }

    /// The highest limit to grant.
    pub(super) fn ceiling(&self, window: u64) -> u64 {
        let oldest = self
            .partial
            .get(&self.frontier.number)
            .map_or(0, |partial| partial.delivered);
        (self.frontier.position + oldest).saturating_add(window.saturating_mul(WINDOWS_AHEAD))
    }

    pub(super) fn memory(&self) -> usize {
        let early: usize = self.partial.values().map(|partial| partial.early.memory()).sum();
        early
            + self.lent.memory()
            + self.partial.len() * size_of::<(u64, Partial)>()
            + self.done.len() * size_of::<(u64, Done)>()
    }

    #[inline]
    pub(super) fn on_event(&mut self, placed: &Placed<'_>, window: u64) -> Result<Action, DropReason> {
        if self.is_done(placed)? {
            return Ok(Action::Skip);
        }
        if !self.partial.is_empty() && self.partial.contains_key(&placed.number) {
            return self.on_partial(placed);
        }
        let piece = &placed.piece;
        if piece.offset == 0 && piece.completes() && self.done.is_empty() && self.partial.is_empty() {
            let here = Place::start_of(placed);
            if here == self.frontier {
                self.frontier = Place::after(placed);
                return Ok(placed.deliver(0));
            }
        }
        if !self.has_room(placed) {
            return Err(DropReason::StreamState);
        }
        if piece.offset == 0 && piece.completes() {
            self.add_done(placed.start, Place::after(placed));
            return Ok(placed.deliver(0));
        }
        if self.partial.len() as u64 >= window / POSITIONS_PER_PARTIAL {
            return Err(DropReason::Overloaded);
        }
        let mut partial = Partial {
            start: placed.start,
            total: piece.total as u64,
            delivered: 0,
            early: ReorderBuffer::default(),
        };
        let action = if piece.offset == 0 {
            partial.delivered = piece.end();
            placed.deliver(0)
        } else {
            partial.early.store(0, piece.offset as u64, piece.bytes);
            Action::Buffered
        };
        self.partial.insert(placed.number, partial);
        Ok(action)
    }

    /// The next bytes of a message whose front was delivered meanwhile.
    pub(super) fn pop_ready(&mut self) -> Option<Part<'_>> {
        loop {
            let number = *self.ready.last()?;
            let Some(partial) = self.partial.get_mut(&number) else {
                self.ready.pop();
                continue;
            };
            let offset = partial.delivered;
            let filled = partial.early.filled(offset, partial.total - offset);
            if filled == 0 {
                self.ready.pop();
                continue;
            }
            let length = partial.early.chunk(offset, filled).len() as u64;
            let (start, total) = (partial.start, partial.total);
            partial.delivered += length;
            partial.early.clear(offset, offset + length);
            let end = partial.delivered == total;
            if end {
                self.ready.pop();
                let done = self.partial.remove(&number)?;
                self.lent = done.early;
                let position = start + total + MESSAGE_CHARGE;
                let number = number + 1;
                self.add_done(start, Place { position, number });
            }
            let bytes = if end {
                self.lent.chunk(offset, length)
            } else {
                self.partial.get(&number)?.early.chunk(offset, length)
            };
            return Some(Part {
                number,
                offset,
                total,
                end,
                bytes,
            });
        }
    }

    fn on_partial(&mut self, placed: &Placed<'_>) -> Result<Action, DropReason> {
        let piece = &placed.piece;
        let Some(partial) = self.partial.get_mut(&placed.number) else {
            return Ok(Action::Skip);
        };
        if partial.start != placed.start || partial.total != piece.total as u64 {
            return Err(DropReason::StreamState);
        }
        let offset = piece.offset as u64;
        if piece.end() <= partial.delivered {
            return Ok(Action::Skip);
        }
        if offset > partial.delivered {
            let length = piece.bytes.len() as u64;
            if partial.early.filled(offset, length) == length {
                return Ok(Action::Skip);
            }
            partial.early.store(partial.delivered, offset, piece.bytes);
            return Ok(Action::Buffered);
        }
        let skip = (partial.delivered - offset) as usize;
        if piece.completes() {
            self.partial.remove(&placed.number);
            self.add_done(placed.start, Place::after(placed));
        } else {
            partial.early.clear(partial.delivered, piece.end());
            partial.delivered = piece.end();
            if partial.early.filled(partial.delivered, 1) > 0 {
                self.ready.push(placed.number);
            }
        }
        Ok(placed.deliver(skip))
    }

    /// Whether the frame's message is done.
    #[inline]
    fn is_done(&self, placed: &Placed<'_>) -> Result<bool, DropReason> {
        if placed.number >= self.frontier.number && self.done.is_empty() {
            return if placed.start < self.frontier.position {
                Err(DropReason::StreamState)
            } else {
                Ok(false)
            };
        }
        let below = if placed.start < self.frontier.position {
            Some((0, self.frontier))
        } else {
            let range = self.done.range(..=placed.start).next_back();
            range
                .filter(|(_, done)| done.end.position > placed.start)
                .map(|(_, done)| (done.first_number, done.end))
        };
        match below {
            None if placed.number < self.frontier.number => Err(DropReason::StreamState),
            None => Ok(false),
            Some((first, end)) => {
                let inside = placed.message_end() <= end.position && (first..end.number).contains(&placed.number);
                if inside { Ok(true) } else { Err(DropReason::StreamState) }
            }
        }
    }

    /// Whether a message never seen before lies free of all that is known, in its place and in its number. Asked once per
    /// message, so that partial messages never overlap and memory for them stays within the credit.
    fn has_room(&self, placed: &Placed<'_>) -> bool {
        let (here, next) = (Place::start_of(placed), Place::after(placed));
        let done = self.done.range(..=here.position).next_back();
        let before = done.map_or(self.frontier, |(_, done)| done.end);
        let done = self.done.range(here.position..).next();
        let after = done.map(|(start, done)| Place {
            position: *start,
            number: done.first_number,
        });
        let below = self.partial.range(..here.number).next_back();
        let above = self.partial.range(here.number..).next();
        follows(before, here)
            && after.is_none_or(|after| follows(next, after))
            && below.is_none_or(|(number, partial)| follows(partial.after(*number), here))
            && above.is_none_or(|(number, partial)| {
                let position = partial.start;
                follows(
                    next,
                    Place {
                        position,
                        number: *number,
                    },
                )
            })
    }

    /// Adds the message from position `start` to `end` to the done ones, merging what touches.
    fn add_done(&mut self, start: u64, end: Place) {
        let first_number = end.number - 1;
        let end = self.done.remove(&end.position).map_or(end, |after| after.end);
        if start == self.frontier.position {
            self.frontier = end;
            return;
        }
        match self.done.range_mut(..start).next_back() {
            Some((_, before)) if before.end.position == start => before.end = end,
            Some(_) | None => {
                self.done.insert(start, Done { first_number, end });
            }
        }
    }
}

impl Place {
    fn start_of(placed: &Placed<'_>) -> Self {
        Self {
            position: placed.start,
            number: placed.number,
        }
    }

    fn after(placed: &Placed<'_>) -> Self {
        Self {
            position: placed.message_end(),
            number: placed.number + 1,
        }
    }
}

impl Partial {
    fn after(&self, number: u64) -> Place {
        Place {
            position: self.start + self.total + MESSAGE_CHARGE,
            number: number + 1,
        }
    }
}

/// Whether what begins at `next` can come after what ends at `end`: adjacent positions have adjacent numbers, and every
/// message between takes its charge at least.
fn follows(end: Place, next: Place) -> bool {
    let (Some(positions), Some(numbers)) = (
        next.position.checked_sub(end.position),
        next.number.checked_sub(end.number),
    ) else {
        return false;
    };
    (positions == 0) == (numbers == 0)
        && numbers
            .checked_mul(MESSAGE_CHARGE)
            .is_some_and(|least| least <= positions)
}
