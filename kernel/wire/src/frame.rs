//! The typed frames that a protected packet's plaintext consists of, and their reader (protocol.md section 4).
//!
//! Invariants: a [`Frame`] is checked when it is made, so its fields need no second look; every frame has one encoding
//! and `FrameReader` accepts no other; the reader borrows and never allocates.
//! Not here: writing frames (`write.rs`), whether a frame fits the state of its session or stream (`net-session`).

use net_base::StreamId;

use crate::ack::AckFrame;
use crate::code::{CloseCode, Reliability};
use crate::drop::DropReason;
use crate::varint;

/// Positions that a message takes on its stream's line beyond its bytes (protocol.md section 4).
pub const MESSAGE_CHARGE: u64 = 16;
/// Longest message, in bytes.
pub const MAX_MESSAGE: u32 = 16 << 20;
/// Longest reason text in a CLOSE frame, in bytes.
pub const MAX_REASON: usize = 256;
/// Frame types from here on are skipped by who does not know them; below they must be understood.
pub const FIRST_SKIPPED_TYPE: u8 = 0x40;

macro_rules! frame_types {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal, $body:literal, $eliciting:literal;)+) => {
        /// The frame types, by their number on the wire.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum FrameType {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl FrameType {
            /// Every type, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The type with this number.
            #[inline]
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($number => Some(Self::$name),)+ _ => None }
            }

            /// Name in the protocol tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Layout of the body, as in the protocol tables.
            #[must_use]
            pub const fn body(self) -> &'static str {
                match self { $(Self::$name => $body,)+ }
            }

            /// Whether a packet that carries such a frame asks to be acknowledged.
            #[inline]
            #[must_use]
            pub const fn is_ack_eliciting(self) -> bool {
                match self { $(Self::$name => $eliciting,)+ }
            }
        }
    };
}

frame_types! {
    /// Nothing, of any length.
    Padding = 0x00, "PADDING", "zeros", true;
    /// A whole message.
    Event = 0x01, "EVENT", "one whole message", true;
    /// A part of a message.
    Segment = 0x02, "SEGMENT",
        "offset varint, total varint, bytes (offset + bytes <= total <= 16 MiB, bytes non-empty)", true;
    /// Where the packet's event frames belong on their stream.
    Stream = 0x03, "STREAM",
        "reliability u8 (0 FireAndForget, 1 Reliable, 2 ReliableUnordered), position varint", true;
    /// Packets that arrived.
    Ack = 0x04, "ACK", "largest varint, delay us varint, first length varint, then (gap varint, length varint)*", false;
    /// Packets that arrived, and their ECN marks.
    AckEcn = 0x05, "ACK_ECN", "ect0 varint, ect1 varint, ce varint, then as ACK", false;
    /// Credit for the session.
    MaxData = 0x06, "MAX_DATA", "limit varint", true;
    /// Credit for a stream.
    MaxStreamData = 0x07, "MAX_STREAM_DATA", "StreamId varint, limit varint", true;
    /// The sender lacks credit of the session.
    DataBlocked = 0x08, "DATA_BLOCKED", "limit varint", true;
    /// The sender lacks credit of a stream.
    StreamBlocked = 0x09, "STREAM_BLOCKED", "StreamId varint, position varint", true;
    /// The sender gives a stream up.
    ResetStream = 0x0a, "RESET_STREAM", "StreamId varint, code varint, final position varint", true;
    /// The receiver wants no more of a stream.
    StopSending = 0x0b, "STOP_SENDING", "StreamId varint, code varint", true;
    /// To be sent back on the path it came by.
    PathChallenge = 0x0c, "PATH_CHALLENGE", "8 bytes", true;
    /// The bytes of a challenge.
    PathResponse = 0x0d, "PATH_RESPONSE", "8 bytes", true;
    /// Asks for an acknowledgement.
    Ping = 0x0e, "PING", "empty", true;
    /// Asks for the token to be returned, for measuring.
    Echo = 0x0f, "ECHO", "token u64", true;
    /// The token of an echo.
    EchoReply = 0x10, "ECHO_REPLY", "token u64", true;
    /// How many streams the receiver of this frame may open.
    MaxStreams = 0x11, "MAX_STREAMS", "cumulative count varint", true;
    /// The session ends.
    Close = 0x12, "CLOSE", "code varint, detail varint, reason UTF-8 (<= 256 B, rest of body)", false;
}

/// One frame, borrowing from the packet it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'b> {
    /// Zeros; the length of the body in bytes.
    Padding(usize),
    /// A whole message.
    Event(&'b [u8]),
    /// A part of a message.
    Segment {
        /// Where in the message the bytes begin.
        offset: u32,
        /// Length of the whole message, at most [`MAX_MESSAGE`].
        total: u32,
        /// At least one byte, ending at `total` or before.
        bytes: &'b [u8],
    },
    /// Where the packet's event frames belong.
    Stream {
        /// How the stream delivers.
        reliability: Reliability,
        /// Where the packet's first event frame begins on the stream's line.
        position: u64,
    },
    /// Packets that arrived; ACK and ACK_ECN both.
    Ack(AckFrame<'b>),
    /// The session's limit: sum of positions the peer may use.
    MaxData(u64),
    /// A stream's limit.
    MaxStreamData {
        /// The stream.
        stream: StreamId,
        /// First position that may not be used.
        limit: u64,
    },
    /// The session limit that blocks the sender.
    DataBlocked(u64),
    /// A stream's sender is blocked.
    StreamBlocked {
        /// The stream.
        stream: StreamId,
        /// Where the blocked sender stands.
        position: u64,
    },
    /// A stream ends without the rest of its messages.
    ResetStream {
        /// The stream.
        stream: StreamId,
        /// The application's code.
        code: u64,
        /// The highest position used.
        final_position: u64,
    },
    /// The receiver wants no more of a stream.
    StopSending {
        /// The stream.
        stream: StreamId,
        /// The application's code.
        code: u64,
    },
    /// To be answered with the same bytes.
    PathChallenge([u8; 8]),
    /// The bytes of a challenge.
    PathResponse([u8; 8]),
    /// Asks for an acknowledgement.
    Ping,
    /// A token to be returned.
    Echo(u64),
    /// A token returned.
    EchoReply(u64),
    /// How many streams may be opened, over the life of the association.
    MaxStreams(u64),
    /// The session ends.
    Close {
        /// Why.
        code: CloseCode,
        /// A number whose meaning the code gives.
        detail: u64,
        /// Text for people, at most [`MAX_REASON`] bytes. Written by the peer: escape before printing.
        reason: &'b str,
    },
}

impl Frame<'_> {
    /// The frame's type.
    #[inline]
    #[must_use]
    pub const fn frame_type(&self) -> FrameType {
        match self {
            Self::Padding(_) => FrameType::Padding,
            Self::Event(_) => FrameType::Event,
            Self::Segment { .. } => FrameType::Segment,
            Self::Stream { .. } => FrameType::Stream,
            Self::Ack(ack) if ack.ecn().is_some() => FrameType::AckEcn,
            Self::Ack(_) => FrameType::Ack,
            Self::MaxData(_) => FrameType::MaxData,
            Self::MaxStreamData { .. } => FrameType::MaxStreamData,
            Self::DataBlocked(_) => FrameType::DataBlocked,
            Self::StreamBlocked { .. } => FrameType::StreamBlocked,
            Self::ResetStream { .. } => FrameType::ResetStream,
            Self::StopSending { .. } => FrameType::StopSending,
            Self::PathChallenge(_) => FrameType::PathChallenge,
            Self::PathResponse(_) => FrameType::PathResponse,
            Self::Ping => FrameType::Ping,
            Self::Echo(_) => FrameType::Echo,
            Self::EchoReply(_) => FrameType::EchoReply,
            Self::MaxStreams(_) => FrameType::MaxStreams,
            Self::Close { .. } => FrameType::Close,
        }
    }

    /// Whether a packet that carries this frame asks to be acknowledged.
    #[inline]
    #[must_use]
    pub const fn is_ack_eliciting(&self) -> bool {
        self.frame_type().is_ack_eliciting()
    }
}

/// Reads the frames of one plaintext in order.
#[derive(Clone, Debug)]
pub struct FrameReader<'b> {
    rest: &'b [u8],
    skipped: u32,
}

impl<'b> FrameReader<'b> {
    /// A reader over a whole plaintext.
    #[inline]
    #[must_use]
    pub const fn new(plaintext: &'b [u8]) -> Self {
        Self {
            rest: plaintext,
            skipped: 0,
        }
    }

    /// The next frame, or `None` at the end. Frames of unknown types from 0x40 on are passed over and counted.
    ///
    /// # Errors
    /// `MalformedFrame`, `UnknownFrame`, or `MessageTooLarge` for a segment of a message above [`MAX_MESSAGE`]. After an
    /// error the reader is at its end.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "fallible: an error must not be mistaken for an item"
    )]
    pub fn next(&mut self) -> Result<Option<Frame<'b>>, DropReason> {
        match self.next_event() {
            Some(message) => Ok(Some(Frame::Event(message))),
            None if self.rest.is_empty() => Ok(None),
            None => self.next_other(),
        }
    }

    /// The next frame's message if it is an EVENT of less than 16 KiB, the case that runs of small messages consist of;
    /// else `None`, and nothing is consumed: ask [`FrameReader::next`].
    #[inline]
    pub fn next_event(&mut self) -> Option<&'b [u8]> {
        const EVENT: u8 = FrameType::Event as u8;
        let (length, body) = match self.rest {
            [EVENT, length, body @ ..] if *length < 0x80 => (*length as usize, body),
            [EVENT, low, high @ 1..0x80, body @ ..] => ((*low & 0x7F) as usize | (*high as usize) << 7, body),
            _ => return None,
        };
        let (message, rest) = body.split_at_checked(length)?;
        self.rest = rest;
        Some(message)
    }

    /// The bytes not read yet.
    #[inline]
    #[must_use]
    pub const fn remaining(&self) -> &'b [u8] {
        self.rest
    }

    /// How many frames of unknown types were passed over. A packet that carries one asks to be acknowledged.
    #[inline]
    #[must_use]
    pub const fn skipped(&self) -> u32 {
        self.skipped
    }

    /// The general path: any frame.
    #[inline(never)]
    pub(crate) fn next_other(&mut self) -> Result<Option<Frame<'b>>, DropReason> {
        let mut rest = core::mem::take(&mut self.rest);
        while let [number, after @ ..] = rest {
            let (length, after) = varint::read(after).ok_or(DropReason::MalformedFrame)?;
            let length = usize::try_from(length).map_err(|_| DropReason::MalformedFrame)?;
            let (body, after) = after.split_at_checked(length).ok_or(DropReason::MalformedFrame)?;
            rest = after;
            match FrameType::from_byte(*number) {
                Some(kind) => {
                    let frame = decode(kind, body)?;
                    self.rest = rest;
                    return Ok(Some(frame));
                }
                None if *number >= FIRST_SKIPPED_TYPE => self.skipped += 1,
                None => return Err(DropReason::UnknownFrame),
            }
        }
        Ok(None)
    }
}

fn decode(kind: FrameType, bytes: &[u8]) -> Result<Frame<'_>, DropReason> {
    let mut body = Body(bytes);
    let frame = match kind {
        FrameType::Padding => Frame::Padding(body.zeros()?),
        FrameType::Event => Frame::Event(body.rest()),
        FrameType::Segment => return decode_segment(body),
        FrameType::Stream => {
            let reliability = Reliability::from_byte(body.byte()?).ok_or(DropReason::MalformedFrame)?;
            Frame::Stream {
                reliability,
                position: body.varint()?,
            }
        }
        FrameType::Ack => Frame::Ack(AckFrame::decode(body.rest(), false)?),
        FrameType::AckEcn => Frame::Ack(AckFrame::decode(body.rest(), true)?),
        FrameType::MaxData => Frame::MaxData(body.varint()?),
        FrameType::MaxStreamData => Frame::MaxStreamData {
            stream: body.stream()?,
            limit: body.varint()?,
        },
        FrameType::DataBlocked => Frame::DataBlocked(body.varint()?),
        FrameType::StreamBlocked => Frame::StreamBlocked {
            stream: body.stream()?,
            position: body.varint()?,
        },
        FrameType::ResetStream => Frame::ResetStream {
            stream: body.stream()?,
            code: body.varint()?,
            final_position: body.varint()?,
        },
        FrameType::StopSending => Frame::StopSending {
            stream: body.stream()?,
            code: body.varint()?,
        },
        FrameType::PathChallenge => Frame::PathChallenge(body.eight()?),
        FrameType::PathResponse => Frame::PathResponse(body.eight()?),
        FrameType::Ping => Frame::Ping,
        FrameType::Echo => Frame::Echo(u64::from_le_bytes(body.eight()?)),
        FrameType::EchoReply => Frame::EchoReply(u64::from_le_bytes(body.eight()?)),
        FrameType::MaxStreams => Frame::MaxStreams(body.varint()?),
        FrameType::Close => return decode_close(body),
    };
    // Bytes after the last field would give one frame several encodings.
    if body.0.is_empty() {
        Ok(frame)
    } else {
        Err(DropReason::MalformedFrame)
    }
}

fn decode_segment(mut body: Body<'_>) -> Result<Frame<'_>, DropReason> {
    let offset = body.varint()?;
    let total = body.varint()?;
    let bytes = body.rest();
    if total > MAX_MESSAGE as u64 {
        return Err(DropReason::MessageTooLarge);
    }
    let fits = offset <= total && bytes.len() as u64 <= total - offset && !bytes.is_empty();
    match (u32::try_from(offset), u32::try_from(total)) {
        (Ok(offset), Ok(total)) if fits => Ok(Frame::Segment { offset, total, bytes }),
        _ => Err(DropReason::MalformedFrame),
    }
}

fn decode_close(mut body: Body<'_>) -> Result<Frame<'_>, DropReason> {
    let code = CloseCode::from_wire(body.varint()?).ok_or(DropReason::MalformedFrame)?;
    let detail = body.varint()?;
    let reason = body.rest();
    if reason.len() > MAX_REASON {
        return Err(DropReason::MalformedFrame);
    }
    let reason = core::str::from_utf8(reason).map_err(|_| DropReason::MalformedFrame)?;
    Ok(Frame::Close { code, detail, reason })
}

/// What is left of a frame's body.
struct Body<'b>(&'b [u8]);

impl<'b> Body<'b> {
    fn byte(&mut self) -> Result<u8, DropReason> {
        let (byte, rest) = self.0.split_first().ok_or(DropReason::MalformedFrame)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn varint(&mut self) -> Result<u64, DropReason> {
        let (value, rest) = varint::read(self.0).ok_or(DropReason::MalformedFrame)?;
        self.0 = rest;
        Ok(value)
    }

    fn stream(&mut self) -> Result<StreamId, DropReason> {
        self.varint().map(StreamId)
    }

    fn eight(&mut self) -> Result<[u8; 8], DropReason> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DropReason::MalformedFrame)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn rest(&mut self) -> &'b [u8] {
        core::mem::take(&mut self.0)
    }

    fn zeros(&mut self) -> Result<usize, DropReason> {
        let bytes = self.rest();
        // OR over all bytes instead of a search: the common case is all zeros, and this vectorises.
        if bytes.iter().fold(0, |all, byte| all | byte) != 0 {
            return Err(DropReason::MalformedFrame);
        }
        Ok(bytes.len())
    }
}
