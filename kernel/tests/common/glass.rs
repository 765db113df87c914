//! A cipher that hides nothing: whoever saw a packet can read it, and can forge the next one in its direction.
//!
//! The tag names its key (eight bytes of a hash) and is a checksum of key name, nonce, header and text; headers are not
//! masked. So a test reads which key and nonce a packet used, and plays an authenticated peer that lies.
//! Invariants: pure functions. Not here: the real cipher (`net_session::aead`).

use net_kernel::base::rng::Secret;
use net_kernel::base::{SessionId, StreamId};
use net_kernel::session::aead::{Aead, AeadError};
use net_kernel::wire::{Datagram, FrameWriter, HEADER_LEN, Header, OVERHEAD, Suite, TAG_LEN, peek};

/// The cipher.
#[derive(Debug)]
pub enum Glass {}

/// What stands for a key: not the key.
pub type Name = [u8; 8];

impl Aead for Glass {
    type Key = Name;
    type HeaderKey = ();

    const HAS_AES: bool = true;

    fn name() -> &'static str {
        "glass (tests)"
    }

    fn key(_: Suite, secret: &Secret) -> Name {
        first_eight(blake3::hash(&secret.0))
    }

    fn seal(key: &Name, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        tag(*key, nonce, aad, text)
    }

    fn open(key: &Name, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], given: &[u8; 16]) -> Result<(), AeadError> {
        if tag(*key, nonce, aad, text) == *given {
            Ok(())
        } else {
            Err(AeadError)
        }
    }

    fn header_key(_: &Secret) {}

    fn mask((): &(), _: &[u8; 16]) -> [u8; 64] {
        [0; 64]
    }
}

fn tag(key: Name, nonce: &[u8; 12], aad: &[u8], text: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in [&key[..], nonce, aad, text] {
        hasher.update(part);
    }
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&key);
    tag[8..].copy_from_slice(&first_eight(hasher.finalize()));
    tag
}

fn first_eight(hash: blake3::Hash) -> Name {
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// What a protected packet shows.
#[derive(Clone, Debug)]
pub struct Seen {
    pub key: Name,
    pub header: Header,
    pub text: Vec<u8>,
}

/// Reads a datagram, where it is a protected packet.
pub fn look(datagram: &[u8]) -> Option<Seen> {
    let Ok(Datagram::Protected { .. }) = peek(datagram) else {
        return None;
    };
    let header = Header::decode(datagram.first_chunk()?).ok()?;
    let (text, tag) = datagram[HEADER_LEN..].split_last_chunk::<TAG_LEN>()?;
    Some(Seen {
        key: *tag.first_chunk()?,
        header,
        text: text.to_vec(),
    })
}

/// Seals what `write` writes as whoever holds `key` would.
pub fn forge(key: Name, header: Header, write: impl FnOnce(&mut FrameWriter<'_>)) -> Vec<u8> {
    let mut text = [0; 1_300];
    let mut writer = FrameWriter::new(&mut text);
    write(&mut writer);
    let len = writer.len();
    forge_raw(key, header, &text[..len])
}

/// Seals `text` as whoever holds `key` would.
pub fn forge_raw(key: Name, header: Header, text: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; OVERHEAD + text.len()];
    let header = Header {
        payload_len: text.len() as u16,
        ..header
    };
    let mut bytes = [0; HEADER_LEN];
    header.encode(&mut bytes);
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&header.counter.to_le_bytes());
    packet[..HEADER_LEN].copy_from_slice(&bytes);
    packet[HEADER_LEN..HEADER_LEN + text.len()].copy_from_slice(text);
    let tag = tag(key, &nonce, &bytes, text);
    packet[HEADER_LEN + text.len()..].copy_from_slice(&tag);
    packet
}

/// The header of a packet without a stream.
pub fn plain(session: SessionId, counter: u64) -> Header {
    Header {
        session,
        counter,
        ..Header::default()
    }
}

/// The header of a packet with `count` event frames of a stream.
pub fn events(session: SessionId, counter: u64, stream: StreamId, sequence: u64, count: u16) -> Header {
    Header {
        stream,
        sequence,
        event_count: count,
        ..plain(session, counter)
    }
}
