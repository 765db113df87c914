//! The messages of a channel between a subscriber's node and a publisher's (subprotocol `CHANNEL`), one stream each.
//!
//! The subscriber opens a reliable stream and asks; the publisher says that it has taken it, and from then on sends every line
//! that is published. A SYNC is answered once all lines before it were handed over, so that a publisher knows.
//! Invariants: one encoding per message; what is longer or shorter than it may be is refused; a decoder allocates nothing.
//! Not here: who is asked and what is done with lines (`up/`).

use std::fmt;

/// Version of these messages, said with the question.
pub const VERSION: u8 = 1;
/// Bytes of a channel's name at most.
pub const MAX_NAME: usize = 255;
/// Bytes of a line at most.
pub const MAX_LINE: usize = 1 << 20;

const SUBSCRIBE: u8 = 0x01;
const TAKEN: u8 = 0x02;
const REFUSED: u8 = 0x03;
const LINE: u8 = 0x04;
const SYNC: u8 = 0x05;
const SYNCED: u8 = 0x06;

/// Codes with which a publisher ends a stream.
pub mod reset {
    /// The subscriber took nothing for too long.
    pub const SLOW: u64 = 1;
    /// The node ends.
    pub const ENDING: u64 = 2;
    /// A message was out of turn.
    pub const PROTOCOL: u64 = 3;
}

/// A name that a channel may have: 1 to 255 bytes of text without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name(String);

impl Name {
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a channel has a name".into());
        }
        if text.len() > MAX_NAME {
            return Err(format!(
                "the name has {} bytes, at most {MAX_NAME} are taken",
                text.len()
            ));
        }
        if text.chars().any(char::is_control) {
            return Err("the name holds a control character".into());
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a publisher's node does not take a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Refusal {
    /// It holds as many as it may.
    Full = 1,
    /// It speaks another version.
    Version = 2,
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'b> {
    /// To the publisher, first: send what is published under this name.
    Subscribe(Name),
    /// From the publisher: it will.
    Taken,
    /// From the publisher: it will not.
    Refused(Refusal),
    /// From the publisher: a line, without its end.
    Line(&'b [u8]),
    /// From the publisher: answer when you have handed over all before it.
    Sync(u64),
    /// To the publisher: so it is.
    Synced(u64),
}

/// Bytes that are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Of this kind there is none.
    Kind,
    /// Shorter or longer than it may be.
    Length,
    /// A name that no channel may have, or a reason that there is not.
    Value,
    /// A question in another version.
    Version,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "a message of an unknown kind",
            Self::Length => "a message of a length that it cannot have",
            Self::Value => "a message with a value that it cannot have",
            Self::Version => "a message of another version",
        })
    }
}

impl<'b> Message<'b> {
    /// # Panics
    /// If a line is longer than [`MAX_LINE`].
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Subscribe(name) => [&[SUBSCRIBE, VERSION], name.0.as_bytes()].concat(),
            Self::Taken => vec![TAKEN],
            Self::Refused(why) => vec![REFUSED, *why as u8],
            Self::Line(line) => {
                assert!(line.len() <= MAX_LINE, "lines are cut off before they are published");
                [&[LINE], *line].concat()
            }
            Self::Sync(token) => [&[SYNC], &token.to_le_bytes()[..]].concat(),
            Self::Synced(token) => [&[SYNCED], &token.to_le_bytes()[..]].concat(),
        }
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &'b [u8]) -> Result<Self, Malformed> {
        let (&kind, rest) = bytes.split_first().ok_or(Malformed::Length)?;
        let token = || rest.try_into().map(u64::from_le_bytes).map_err(|_| Malformed::Length);
        match kind {
            SUBSCRIBE => {
                let (&version, name) = rest.split_first().ok_or(Malformed::Length)?;
                if version != VERSION {
                    return Err(Malformed::Version);
                }
                if name.is_empty() || name.len() > MAX_NAME {
                    return Err(Malformed::Length);
                }
                let name = std::str::from_utf8(name).map_err(|_| Malformed::Value)?;
                Name::new(name).map(Self::Subscribe).map_err(|_| Malformed::Value)
            }
            TAKEN if rest.is_empty() => Ok(Self::Taken),
            REFUSED => match rest {
                [1] => Ok(Self::Refused(Refusal::Full)),
                [2] => Ok(Self::Refused(Refusal::Version)),
                [_] => Err(Malformed::Value),
                _ => Err(Malformed::Length),
            },
            LINE if rest.len() <= MAX_LINE => Ok(Self::Line(rest)),
            SYNC => token().map(Self::Sync),
            SYNCED => token().map(Self::Synced),
            TAKEN | LINE => Err(Malformed::Length),
            _ => Err(Malformed::Kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn all() -> Vec<Message<'static>> {
        vec![
            Message::Subscribe(name("weather")),
            Message::Subscribe(name(&"x".repeat(MAX_NAME))),
            Message::Taken,
            Message::Refused(Refusal::Full),
            Message::Refused(Refusal::Version),
            Message::Line(b""),
            Message::Line(b"a line \xff"),
            Message::Sync(0),
            Message::Synced(u64::MAX),
        ]
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        for message in all() {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    /// Nodes of other versions and makes depend on these bytes.
    #[test]
    fn bytes_are_as_written_down() {
        let vectors: [(&[u8], Message<'_>); 6] = [
            (b"\x01\x01news", Message::Subscribe(name("news"))),
            (b"\x02", Message::Taken),
            (b"\x03\x01", Message::Refused(Refusal::Full)),
            (b"\x04hello", Message::Line(b"hello")),
            (b"\x05\x07\0\0\0\0\0\0\x80", Message::Sync(0x8000_0000_0000_0007)),
            (b"\x06\x01\0\0\0\0\0\0\0", Message::Synced(1)),
        ];
        for (bytes, message) in vectors {
            assert_eq!(message.encode(), bytes);
            assert_eq!(Message::decode(bytes), Ok(message));
        }
    }

    #[test]
    fn what_is_cut_or_longer_is_another_message_or_none() {
        for message in all() {
            let bytes = message.encode();
            for len in 0..bytes.len() {
                let cut = Message::decode(&bytes[..len]);
                assert_ne!(cut, Ok(message.clone()), "{message:?} cut at {len}");
                if let Ok(other) = cut {
                    assert_eq!(other.encode(), &bytes[..len], "one encoding per message");
                }
            }
            let mut longer = bytes.clone();
            longer.push(b'x');
            if let Ok(other) = Message::decode(&longer) {
                assert_eq!(other.encode(), longer, "one encoding per message");
                assert!(matches!(other, Message::Line(_) | Message::Subscribe(_)), "{other:?}");
            }
        }
    }

    #[test]
    fn every_byte_string_of_two_is_one_message_or_none() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let bytes = [first, second];
                if let Ok(message) = Message::decode(&bytes) {
                    assert_eq!(message.encode(), bytes);
                }
            }
        }
    }

    #[test]
    fn limits_hold() {
        let longest = vec![LINE; MAX_LINE + 1];
        assert_eq!(Message::decode(&longest), Ok(Message::Line(&longest[1..])));
        assert_eq!(Message::decode(&vec![LINE; MAX_LINE + 2]), Err(Malformed::Length));
        let subscribe = |name: &[u8]| [&[SUBSCRIBE, VERSION], name].concat();
        for (bytes, why) in [
            (subscribe(&[b'x'; MAX_NAME + 1]), Malformed::Length),
            (subscribe(b""), Malformed::Length),
            (subscribe(b"\xff"), Malformed::Value),
            (subscribe(b"a\nb"), Malformed::Value),
            (vec![SUBSCRIBE, VERSION + 1, b'x'], Malformed::Version),
            (vec![SUBSCRIBE], Malformed::Length),
            (vec![REFUSED, 3], Malformed::Value),
            (vec![], Malformed::Length),
            (vec![0], Malformed::Kind),
            (vec![0x80, 1], Malformed::Kind),
        ] {
            assert_eq!(Message::decode(&bytes), Err(why), "{bytes:?}");
        }
    }

    #[test]
    fn names_are_short_texts() {
        for text in ["", "tab\there", &"x".repeat(256)] {
            assert!(Name::new(text).is_err(), "{text:?}");
        }
        assert_eq!(name("größe/1").as_str(), "größe/1");
    }
}
