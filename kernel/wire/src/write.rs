//! Writing frames into a packet's plaintext, and their exact lengths for packing.
//!
//! Invariants: a frame is written whole or not at all; `*_frame_len` is what the writer then uses; what is written,
//! `FrameReader` reads back.
//! Not here: choosing what goes into a packet (`net-session`).

use crate::ack::EcnCounts;
use crate::code::{CloseCode, Reliability};
use crate::frame::{Frame, FrameType, MAX_MESSAGE, MAX_REASON};
use crate::varint;

/// Bytes that an EVENT frame takes with a message of `message_len` bytes.
#[inline]
#[must_use]
pub const fn event_frame_len(message_len: usize) -> usize {
    frame_len(message_len)
}

/// Bytes that a SEGMENT frame takes with `bytes_len` bytes at `offset` of a message of `total` bytes.
#[inline]
#[must_use]
pub const fn segment_frame_len(offset: u32, total: u32, bytes_len: usize) -> usize {
    frame_len(varint::len(offset as u64) + varint::len(total as u64) + bytes_len)
}

/// The most bytes of a message of `total` bytes that a SEGMENT frame at `offset` can carry in `space` bytes; 0 where not
/// even one fits.
#[must_use]
pub const fn segment_room(offset: u32, total: u32, space: usize) -> usize {
    let fields = varint::len(offset as u64) + varint::len(total as u64);
    let room = body_room(space).saturating_sub(fields);
    let left = total.saturating_sub(offset) as usize;
    if room < left { room } else { left }
}

/// Bytes that a STREAM frame takes.
#[inline]
#[must_use]
pub const fn stream_frame_len(position: u64) -> usize {
    frame_len(1 + varint::len(position))
}

/// Bytes that any frame takes.
#[must_use]
pub fn encoded_len(frame: &Frame<'_>) -> usize {
    frame_len(body_len(frame))
}

/// Appends frames to a buffer of fixed size, such as the space that is left in a packet.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> FrameWriter<'a> {
    /// A writer that fills `out` from its start.
    #[inline]
    #[must_use]
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// Bytes written.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing was written.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// Bytes left.
    #[inline]
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.out.len() - self.at
    }

    /// The bytes written so far.
    #[inline]
    #[must_use]
    pub fn written(&self) -> &[u8] {
        &self.out[..self.at]
    }

    /// Appends an EVENT frame; `false`, and nothing written, where it does not fit.
    #[inline]
    #[must_use]
    pub fn event(&mut self, message: &[u8]) -> bool {
        match self.event_space(message.len()) {
            Some(space) => {
                space.copy_from_slice(message);
                true
            }
            None => false,
        }
    }

    /// Appends an EVENT frame whose message of `message_len` bytes the caller fills in.
    #[inline]
    #[must_use]
    pub fn event_space(&mut self, message_len: usize) -> Option<&mut [u8]> {
        self.frame_space(FrameType::Event, message_len)
    }

    /// Appends a SEGMENT frame; `false`, and nothing written, where it does not fit or is none: `bytes` empty, beyond
    /// `total`, or `total` above [`MAX_MESSAGE`].
    #[inline]
    #[must_use]
    pub fn segment(&mut self, offset: u32, total: u32, bytes: &[u8]) -> bool {
        match self.segment_space(offset, total, bytes.len()) {
            Some(space) => {
                space.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Appends a SEGMENT frame whose `bytes_len` bytes the caller fills in; `None` where `segment` would refuse.
    #[inline]
    #[must_use]
    pub fn segment_space(&mut self, offset: u32, total: u32, bytes_len: usize) -> Option<&mut [u8]> {
        let is_segment = bytes_len as u64 + offset as u64 <= total as u64 && total <= MAX_MESSAGE && bytes_len > 0;
        if !is_segment {
            return None;
        }
        let fields = varint::len(offset as u64) + varint::len(total as u64);
        let (front, data) = self
            .frame_space(FrameType::Segment, fields + bytes_len)?
            .split_at_mut(fields);
        put_all(front, &[offset as u64, total as u64]).then_some(data)
    }

    /// Appends a STREAM frame.
    #[inline]
    #[must_use]
    pub fn stream(&mut self, reliability: Reliability, position: u64) -> bool {
        let Some(body) = self.frame_space(FrameType::Stream, 1 + varint::len(position)) else {
            return false;
        };
        body[0] = reliability.to_byte();
        put_all(&mut body[1..], &[position])
    }

    /// Appends an ACK frame, or ACK_ECN where `ecn` is given, with as many of `ranges` as fit: inclusive `(low, high)`,
    /// from the greatest down, with at least one counter between neighbours. Returns how many were written, or `None`
    /// (and nothing written) where the first does not fit or there is none. The first range that is not below its
    /// predecessor ends the frame.
    pub fn ack(
        &mut self,
        ecn: Option<EcnCounts>,
        delay_us: u64,
        ranges: impl IntoIterator<Item = (u64, u64)>,
    ) -> Option<usize> {
        let mut ranges = ranges.into_iter();
        let (mut bottom, largest) = ranges.next()?;
        let first_length = largest.checked_sub(bottom)?;
        let room = body_room(self.remaining());
        // The body goes one byte past the type, as if its length took one byte, and is moved where it takes more.
        let body = self.out.get_mut(self.at + 2..)?;
        let body = if body.len() > room { &mut body[..room] } else { body };
        let mut used = 0;
        if let Some(ecn) = ecn {
            used = put_at(body, used, &[ecn.ect0, ecn.ect1, ecn.ce])?;
        }
        used = put_at(body, used, &[largest, delay_us, first_length])?;
        let mut written = 1;
        for (low, high) in ranges {
            let Some(gap) = bottom.checked_sub(high).and_then(|gap| gap.checked_sub(2)) else {
                break;
            };
            let Some(length) = high.checked_sub(low) else { break };
            let Some(after) = put_at(body, used, &[gap, length]) else {
                break;
            };
            used = after;
            bottom = low;
            written += 1;
        }
        let kind = if ecn.is_some() {
            FrameType::AckEcn
        } else {
            FrameType::Ack
        };
        let length_len = varint::len(used as u64);
        self.out
            .copy_within(self.at + 2..self.at + 2 + used, self.at + 1 + length_len);
        self.frame_space(kind, used)?;
        Some(written)
    }

    /// Appends exactly `bytes` bytes of PADDING frames; `false`, and nothing written, where that is more than remains,
    /// or one: the shortest frame has two.
    #[must_use]
    pub fn padding(&mut self, bytes: usize) -> bool {
        if bytes == 0 {
            return true;
        }
        if bytes == 1 || bytes > self.remaining() {
            return false;
        }
        let body = body_room(bytes);
        if frame_len(body) == bytes {
            return self.frame(&Frame::Padding(body));
        }
        // No single frame has this length (one byte more of body would lengthen the length as well): use two.
        self.frame(&Frame::Padding(0)) && self.frame(&Frame::Padding(body_room(bytes - 2)))
    }

    /// Appends any frame; `false`, and nothing written, where it does not fit or breaks the limits its reader checks.
    #[must_use]
    pub fn frame(&mut self, frame: &Frame<'_>) -> bool {
        match *frame {
            Frame::Padding(length) => match self.frame_space(FrameType::Padding, length) {
                Some(body) => {
                    body.fill(0);
                    true
                }
                None => false,
            },
            Frame::Event(message) => self.event(message),
            Frame::Segment { offset, total, bytes } => self.segment(offset, total, bytes),
            Frame::Stream { reliability, position } => self.stream(reliability, position),
            Frame::Ack(ack) => {
                let Some(body) = self.frame_space(frame.frame_type(), ack.body_len()) else {
                    return false;
                };
                let (front, pairs) = body.split_at_mut(body.len() - ack.pairs().len());
                pairs.copy_from_slice(ack.pairs());
                let fields = [ack.largest(), ack.delay_us(), ack.first_length()];
                match ack.ecn() {
                    None => put_all(front, &fields),
                    Some(ecn) => put_all(front, &[ecn.ect0, ecn.ect1, ecn.ce, fields[0], fields[1], fields[2]]),
                }
            }
            Frame::MaxData(value) | Frame::DataBlocked(value) | Frame::MaxStreams(value) => {
                self.numbers(frame, &[value])
            }
            Frame::MaxStreamData { stream, limit } => self.numbers(frame, &[stream.0, limit]),
            Frame::StreamBlocked { stream, position } => self.numbers(frame, &[stream.0, position]),
            Frame::ResetStream {
                stream,
                code,
                final_position,
            } => self.numbers(frame, &[stream.0, code, final_position]),
            Frame::StopSending { stream, code } => self.numbers(frame, &[stream.0, code]),
            Frame::PathChallenge(bytes) | Frame::PathResponse(bytes) => self.bytes(frame, &bytes),
            Frame::Ping => self.bytes(frame, &[]),
            Frame::Echo(token) | Frame::EchoReply(token) => self.bytes(frame, &token.to_le_bytes()),
            Frame::Close { code, detail, reason } => self.close(code, detail, reason),
        }
    }

    fn close(&mut self, code: CloseCode, detail: u64, reason: &str) -> bool {
        if reason.len() > MAX_REASON {
            return false;
        }
        let fields = [code.to_wire(), detail];
        let fields_len = varint::len(fields[0]) + varint::len(fields[1]);
        let Some(body) = self.frame_space(FrameType::Close, fields_len + reason.len()) else {
            return false;
        };
        let (front, text) = body.split_at_mut(fields_len);
        text.copy_from_slice(reason.as_bytes());
        put_all(front, &fields)
    }

    fn numbers(&mut self, frame: &Frame<'_>, values: &[u64]) -> bool {
        let length = values.iter().map(|value| varint::len(*value)).sum();
        match self.frame_space(frame.frame_type(), length) {
            Some(body) => put_all(body, values),
            None => false,
        }
    }

    fn bytes(&mut self, frame: &Frame<'_>, bytes: &[u8]) -> bool {
        match self.frame_space(frame.frame_type(), bytes.len()) {
            Some(body) => {
                body.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Appends a frame's type and length and hands out its body.
    #[inline]
    fn frame_space(&mut self, kind: FrameType, body_len: usize) -> Option<&mut [u8]> {
        let space = &mut self.out[self.at..];
        if body_len < 0x80 {
            let (front, body) = space.split_first_chunk_mut::<2>()?;
            let body = body.get_mut(..body_len)?;
            *front = [kind as u8, body_len as u8];
            self.at += 2 + body_len;
            return Some(body);
        }
        let length_len = varint::len(body_len as u64);
        let space = space.get_mut(..body_len.checked_add(1 + length_len)?)?;
        self.at += space.len();
        space[0] = kind as u8;
        varint::write(&mut space[1..], body_len as u64)?;
        Some(&mut space[1 + length_len..])
    }
}

/// Bytes of a frame with a body of `body_len` bytes.
#[inline]
const fn frame_len(body_len: usize) -> usize {
    1 + varint::len(body_len as u64) + body_len
}

/// Longest body of a frame that takes at most `space` bytes (0 also where no frame fits).
#[inline]
const fn body_room(space: usize) -> usize {
    let room = space.saturating_sub(1 + varint::len(space as u64));
    // The length of `space` itself may take a byte more than the length of the body.
    if frame_len(room + 1) <= space { room + 1 } else { room }
}

fn body_len(frame: &Frame<'_>) -> usize {
    let pair = |first, second| varint::len(first) + varint::len(second);
    match *frame {
        Frame::Padding(length) => length,
        Frame::Event(message) => message.len(),
        Frame::Segment { offset, total, bytes } => pair(offset as u64, total as u64) + bytes.len(),
        Frame::Stream { position, .. } => 1 + varint::len(position),
        Frame::Ack(ack) => ack.body_len(),
        Frame::MaxData(value) | Frame::DataBlocked(value) | Frame::MaxStreams(value) => varint::len(value),
        Frame::MaxStreamData { stream, limit } => pair(stream.0, limit),
        Frame::StreamBlocked { stream, position } => pair(stream.0, position),
        Frame::ResetStream {
            stream,
            code,
            final_position,
        } => pair(stream.0, code) + varint::len(final_position),
        Frame::StopSending { stream, code } => pair(stream.0, code),
        Frame::PathChallenge(_) | Frame::PathResponse(_) | Frame::Echo(_) | Frame::EchoReply(_) => 8,
        Frame::Ping => 0,
        Frame::Close { code, detail, reason } => pair(code.to_wire(), detail) + reason.len(),
    }
}

/// Writes `values` at `at` of `out`: the offset after them, or `None` where they do not all fit.
fn put_at(out: &mut [u8], at: usize, values: &[u64]) -> Option<usize> {
    let mut at = at;
    for value in values {
        at += varint::write(out.get_mut(at..)?, *value)?;
    }
    Some(at)
}

/// Writes `values` into space of exactly their length; true.
#[inline]
fn put_all(out: &mut [u8], values: &[u64]) -> bool {
    put_at(out, 0, values) == Some(out.len())
}
