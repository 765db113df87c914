//! The messages of the file transfer and their encoding: one message of the stream each, a kind byte and fixed fields, little-endian.
//!
//! Invariants: one encoding per message; a decoder reads everything or nothing and allocates only for marks, whose number is
//! bounded. Not here: who may say what when (`sender.rs`, `receiver.rs`).

use alloc::vec::Vec;
use core::fmt;

use crate::limit::{CHUNK, MAX_DEPTH, MAX_MARKS, MAX_WIRE_NAME};
use crate::mark::Mark;

/// The version of the protocol, in every offer.
pub const VERSION: u8 = 1;

const OFFER: u8 = 0x01;
const ENTRY: u8 = 0x02;
const START: u8 = 0x03;
const DATA: u8 = 0x04;
const END: u8 = 0x05;
const WHOLE: u8 = 0x06;
const SKIP: u8 = 0x07;
const ACCEPT: u8 = 0x81;
const REFUSE: u8 = 0x82;
const HAVE: u8 = 0x83;
const STORED: u8 = 0x84;
const REJECT: u8 = 0x85;
const SAME: u8 = 0x86;
const DONE: u8 = 0x87;

/// What an offer holds in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Entries that follow, files and directories.
    pub entries: u32,
    /// Bytes of all files.
    pub bytes: u64,
}

/// A sender's secret word for its transfers to one receiver: whoever knows it goes on with what arrived under it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(pub [u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory; it comes before what lies in it.
    Directory,
    /// A plain file.
    File {
        /// Its bytes.
        size: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
}

macro_rules! reasons {
    ($(#[doc = $doc:literal])+ $name:ident: $($(#[doc = $why:literal])+ $variant:ident = $code:literal $text:literal;)+) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[doc = $why])+ $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            const fn of(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)+
                })
            }
        }
    };
}

reasons! {
    /// Why a receiver takes nothing, or nothing more.
    Refusal:
    /// It speaks another version.
    Version = 1 "the receiver speaks another version of the file transfer";
    /// There is less room than the offer needs.
    Room = 2 "there is not enough space at the receiver";
    /// The offer is larger than the receiver allows.
    TooLarge = 3 "the offer is larger than the receiver allows";
    /// The disk became full while files were written.
    Full = 4 "the receiver's disk is full";
    /// Another transfer is under way.
    Busy = 5 "the receiver is busy with another transfer";
}

reasons! {
    /// Why a receiver does not take an entry.
    Reject:
    /// A file of this name with other content is there. Nothing is overwritten.
    Exists = 1 "a file of this name with other content exists";
    /// Two entries of the offer have the same name, or one is needed as a directory and is none.
    Conflict = 2 "another entry of the offer has this name";
    /// A link, a device or a directory has the name.
    InTheWay = 3 "something that is no plain file has this name";
    /// The receiver may not write there.
    Denied = 4 "the receiver may not write there";
    /// What arrived has another hash than what was read.
    Mismatch = 5 "what arrived does not match its hash";
    /// The receiver's disk failed.
    Failed = 6 "the receiver's disk failed";
}

reasons! {
    /// Why a sender leaves a file out.
    Skip:
    /// It cannot be read.
    Unreadable = 1 "the file cannot be read";
    /// It became another, or shorter, while it was read.
    Changed = 2 "the file changed while it was read";
    /// The receiver rejected it.
    Rejected = 3 "the receiver rejected it";
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'m> {
    /// What follows, and the sender's word for going on with what it sent before. Sender.
    Offer(u8, Totals, Token),
    /// One entry of the offer, in order. Sender.
    Entry(Kind, WirePath<'m>),
    /// The next bytes belong to this file, from this offset on. Sender.
    Start(u32, u64),
    /// Bytes of the file that was started. Sender.
    Data(&'m [u8]),
    /// The file that was started is whole and has this hash. Sender.
    End([u8; 32]),
    /// The hash of a file of whose name and size the receiver has one. Sender.
    Whole(u32, [u8; 32]),
    /// The file is not sent. Sender.
    Skip(u32, Skip),
    /// The offer is taken. Receiver.
    Accept,
    /// Nothing is taken any more; bytes that are needed, bytes there is room for (0 where that is not the reason). Receiver.
    Refuse(Refusal, u64, u64),
    /// What is there of a file. Receiver.
    Have(u32, Vec<Mark>),
    /// A file of this name and size is there: is it the same? Receiver.
    Same(u32),
    /// The file is there under its name and survives a loss of power. Receiver.
    Stored(u32),
    /// The entry is not taken. Receiver.
    Reject(u32, Reject),
    /// Every entry is settled. Receiver.
    Done,
}

/// A path as a peer wrote it: 1 to [`MAX_DEPTH`] names, nothing of which is safe to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WirePath<'m> {
    bytes: &'m [u8],
    count: u8,
}

impl<'m> WirePath<'m> {
    /// Its names, outermost first.
    pub fn names(self) -> impl Iterator<Item = &'m str> + Clone {
        let mut reader = Reader(self.bytes);
        (0..self.count).map_while(move |_| reader.name())
    }

    /// Bytes it takes.
    #[must_use]
    pub const fn len(self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no names; none that was decoded is.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }
}

/// Writes an entry of an offer over what is in `out`; `false`, with `out` empty, if its path is empty, deeper than
/// [`MAX_DEPTH`] or has a name that is longer than [`MAX_WIRE_NAME`].
#[must_use]
pub fn encode_entry<'n>(kind: Kind, names: impl Iterator<Item = &'n str> + Clone, out: &mut Vec<u8>) -> bool {
    out.clear();
    let count = names.clone().count();
    if !(1..=MAX_DEPTH).contains(&count) || names.clone().any(|name| name.len() > MAX_WIRE_NAME) {
        return false;
    }
    out.push(ENTRY);
    match kind {
        Kind::Directory => out.push(0),
        Kind::File { size, executable } => {
            out.push(1 + u8::from(executable));
            out.extend_from_slice(&size.to_le_bytes());
        }
    }
    out.push(count as u8);
    for name in names {
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }
    true
}

/// Makes `out` a message of `len` bytes of data and gives the place for them. What a buffer that is used again held there stays until
/// it is written over.
pub fn begin_data(out: &mut Vec<u8>, len: usize) -> &mut [u8] {
    out.resize(1 + len, 0);
    out[0] = DATA;
    &mut out[1..]
}

impl<'m> Message<'m> {
    /// Reads a whole message; `None` if it is none.
    #[must_use]
    pub fn decode(bytes: &'m [u8]) -> Option<Self> {
        let (&kind, body) = bytes.split_first()?;
        let mut reader = Reader(body);
        let message = match kind {
            OFFER => Self::Offer(
                reader.u8()?,
                Totals {
                    entries: reader.u32()?,
                    bytes: reader.u64()?,
                },
                Token(reader.array()?),
            ),
            ENTRY => reader.entry()?,
            START => Self::Start(reader.u32()?, reader.u64()?),
            DATA if (1..=CHUNK).contains(&body.len()) => return Some(Self::Data(body)),
            END => Self::End(reader.array()?),
            WHOLE => Self::Whole(reader.u32()?, reader.array()?),
            SKIP => Self::Skip(reader.u32()?, Skip::of(reader.u8()?)?),
            ACCEPT => Self::Accept,
            REFUSE => Self::Refuse(Refusal::of(reader.u8()?)?, reader.u64()?, reader.u64()?),
            HAVE => Self::Have(reader.u32()?, reader.marks()?),
            SAME => Self::Same(reader.u32()?),
            STORED => Self::Stored(reader.u32()?),
            REJECT => Self::Reject(reader.u32()?, Reject::of(reader.u8()?)?),
            DONE => Self::Done,
            _ => return None,
        };
        reader.0.is_empty().then_some(message)
    }

    /// Writes it over what is in `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(self.kind());
        match self {
            Self::Offer(version, totals, token) => {
                out.push(*version);
                out.extend_from_slice(&totals.entries.to_le_bytes());
                out.extend_from_slice(&totals.bytes.to_le_bytes());
                out.extend_from_slice(&token.0);
            }
            Self::Entry(kind, path) => {
                let fits = encode_entry(*kind, path.names(), out);
                debug_assert!(fits, "a path that was decoded is within the limits");
            }
            Self::Start(file, offset) => {
                out.extend_from_slice(&file.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
            }
            Self::Data(bytes) => out.extend_from_slice(bytes),
            Self::End(hash) => out.extend_from_slice(hash),
            Self::Whole(file, hash) => {
                out.extend_from_slice(&file.to_le_bytes());
                out.extend_from_slice(hash);
            }
            Self::Skip(file, why) => {
                out.extend_from_slice(&file.to_le_bytes());
                out.push(why.code());
            }
            Self::Refuse(why, needed, room) => {
                out.push(why.code());
                out.extend_from_slice(&needed.to_le_bytes());
                out.extend_from_slice(&room.to_le_bytes());
            }
            Self::Have(file, marks) => {
                out.extend_from_slice(&file.to_le_bytes());
                out.push(marks.len() as u8);
                for mark in marks {
                    out.extend_from_slice(&mark.offset.to_le_bytes());
                    out.extend_from_slice(&mark.hash);
                }
            }
            Self::Same(file) | Self::Stored(file) => out.extend_from_slice(&file.to_le_bytes()),
            Self::Reject(file, why) => {
                out.extend_from_slice(&file.to_le_bytes());
                out.push(why.code());
            }
            Self::Accept | Self::Done => {}
        }
    }

    /// Its kind byte.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Offer(..) => OFFER,
            Self::Entry(..) => ENTRY,
            Self::Start(..) => START,
            Self::Data(_) => DATA,
            Self::End(_) => END,
            Self::Whole(..) => WHOLE,
            Self::Skip(..) => SKIP,
            Self::Accept => ACCEPT,
            Self::Refuse(..) => REFUSE,
            Self::Have(..) => HAVE,
            Self::Same(_) => SAME,
            Self::Stored(_) => STORED,
            Self::Reject(..) => REJECT,
            Self::Done => DONE,
        }
    }
}

/// What is left to read.
#[derive(Clone)]
struct Reader<'m>(&'m [u8]);

impl<'m> Reader<'m> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn name(&mut self) -> Option<&'m str> {
        let len = usize::from(self.array().map(u16::from_le_bytes)?);
        if len > MAX_WIRE_NAME {
            return None;
        }
        let (name, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        core::str::from_utf8(name).ok()
    }

    fn entry(&mut self) -> Option<Message<'m>> {
        let kind = match self.u8()? {
            0 => Kind::Directory,
            flag @ 1..=2 => Kind::File {
                size: self.u64()?,
                executable: flag == 2,
            },
            _ => return None,
        };
        let count = self.u8()?;
        if !(1..=MAX_DEPTH).contains(&usize::from(count)) {
            return None;
        }
        let bytes = self.0;
        for _ in 0..count {
            self.name()?;
        }
        let bytes = &bytes[..bytes.len() - self.0.len()];
        Some(Message::Entry(kind, WirePath { bytes, count }))
    }

    /// Marks, whose offsets ascend from above 0.
    fn marks(&mut self) -> Option<Vec<Mark>> {
        let count = usize::from(self.u8()?);
        if count > MAX_MARKS {
            return None;
        }
        let mut marks = Vec::with_capacity(count);
        let mut before = 0;
        for _ in 0..count {
            let mark = Mark {
                offset: self.u64()?,
                hash: self.array()?,
            };
            if mark.offset <= before {
                return None;
            }
            before = mark.offset;
            marks.push(mark);
        }
        Some(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Vec<u8>> {
        let mut entry = Vec::new();
        assert!(encode_entry(
            Kind::File {
                size: 7,
                executable: true
            },
            ["a", "b.txt"].into_iter(),
            &mut entry
        ));
        let mut directory = Vec::new();
        assert!(encode_entry(Kind::Directory, ["d"].into_iter(), &mut directory));
        let mark = |offset| Mark {
            offset,
            hash: [offset as u8; 32],
        };
        let totals = Totals {
            entries: 3,
            bytes: 1 << 40,
        };
        let messages = [
            Message::Offer(VERSION, totals, Token([3; 32])),
            Message::Start(1, 5),
            Message::Data(b"x"),
            Message::End([9; 32]),
            Message::Whole(2, [4; 32]),
            Message::Skip(1, Skip::Changed),
            Message::Accept,
            Message::Refuse(Refusal::Room, 10, 5),
            Message::Have(3, [mark(1), mark(9)].into()),
            Message::Same(6),
            Message::Stored(4),
            Message::Reject(5, Reject::Exists),
            Message::Done,
        ];
        let encoded = messages.map(|message| {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            bytes
        });
        encoded.into_iter().chain([entry, directory]).collect()
    }

    #[test]
    fn every_message_is_read_back_and_none_that_is_cut_or_longer() {
        for bytes in samples() {
            let message = Message::decode(&bytes).expect("a message");
            let mut again = Vec::new();
            message.encode(&mut again);
            assert_eq!(again, bytes);
            for len in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..len]), None, "{message:?} cut to {len}");
            }
            let data = matches!(message, Message::Data(_));
            let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
            assert_eq!(Message::decode(&longer).is_some(), data, "{message:?}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        assert_eq!(Message::decode(&[DATA]), None, "no data");
        let mut long = alloc::vec![0; CHUNK + 2];
        long[0] = DATA;
        assert_eq!(Message::decode(&long), None, "too much data");
        assert_eq!(Message::decode(&[ENTRY, 0, 0]), None, "no name");
        assert_eq!(Message::decode(&[ENTRY, 3, 1, 1, 0, b'a']), None, "an unknown kind");
        assert_eq!(Message::decode(&[ENTRY, 0, 1, 1, 0, 0xFF]), None, "no text");
        assert_eq!(Message::decode(&[STORED, 0, 0, 0]), None);
        assert_eq!(Message::decode(&[0x99]), None);
        let mut same = Vec::new();
        let mark = Mark {
            offset: 4,
            hash: [0; 32],
        };
        Message::Have(0, [mark, mark].into()).encode(&mut same);
        assert_eq!(Message::decode(&same), None, "offsets that do not ascend");
    }

    #[test]
    fn paths_beyond_the_limits_are_not_written() {
        let mut out = Vec::new();
        let long = "x".repeat(MAX_WIRE_NAME + 1);
        for names in [Vec::new(), alloc::vec![long.as_str()], alloc::vec!["d"; MAX_DEPTH + 1]] {
            assert!(!encode_entry(Kind::Directory, names.into_iter(), &mut out));
            assert!(out.is_empty());
        }
    }

    #[test]
    fn codes_of_reasons_are_distinct() {
        fn distinct<T: PartialEq + Copy + fmt::Debug>(all: &[T], code: fn(T) -> u8, of: fn(u8) -> Option<T>) {
            for &reason in all {
                assert_eq!(of(code(reason)), Some(reason));
            }
        }
        distinct(Refusal::ALL, Refusal::code, Refusal::of);
        distinct(Reject::ALL, Reject::code, Reject::of);
        distinct(Skip::ALL, Skip::code, Skip::of);
    }
}
