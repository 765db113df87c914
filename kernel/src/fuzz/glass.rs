//! A cipher that hides nothing: the fuzzer reads which key and nonce a packet used, and seals packets of its own making.
//!
//! The tag is the key's name and a checksum of name, nonce, header and text; headers are not masked.
//! Invariants: any changed bit is refused. Not here: the real cipher (`net_session::aead`).

use alloc::vec::Vec;

use net_base::rng::Secret;
use net_session::aead::{Aead, AeadError};
use net_wire::{Datagram, HEADER_LEN, Header, Suite, TAG_LEN, peek};

/// The cipher.
#[derive(Debug)]
pub enum Glass {}

/// What stands for a key.
pub type Name = [u8; 8];

impl Aead for Glass {
    type Key = Name;
    type HeaderKey = ();

    const HAS_AES: bool = true;

    fn name() -> &'static str {
        "glass (fuzzing)"
    }

    fn key(_: Suite, secret: &Secret) -> Name {
        mix(0, &secret.0).to_le_bytes()
    }

    fn seal(key: &Name, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        tag(*key, nonce, aad, text)
    }

    fn open(key: &Name, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], given: &[u8; 16]) -> Result<(), AeadError> {
        (tag(*key, nonce, aad, text) == *given).then_some(()).ok_or(AeadError)
    }

    fn header_key(_: &Secret) {}

    fn mask((): &(), _: &[u8; 16]) -> [u8; 64] {
        [0; 64]
    }
}

/// Eight bytes at a time, each folded in by a multiplication that loses nothing (FNV's prime is odd).
fn mix(start: u64, bytes: &[u8]) -> u64 {
    let mut hash = start ^ (bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01B3);
        hash ^= hash >> 29;
    }
    hash
}

fn tag(key: Name, nonce: &[u8; 12], aad: &[u8], text: &[u8]) -> [u8; 16] {
    let checksum = [&key[..], nonce, aad, text]
        .iter()
        .fold(1, |hash, part| mix(hash, part));
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&key);
    tag[8..].copy_from_slice(&checksum.to_le_bytes());
    tag
}

/// A protected packet taken apart.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Under which key.
    pub key: Name,
    /// Its header.
    pub header: Header,
    /// Its plaintext.
    pub text: Vec<u8>,
}

/// Takes a packet apart that was sealed with [`Glass`].
pub fn look(datagram: &[u8]) -> Option<Seen> {
    let Ok(Datagram::Protected { .. }) = peek(datagram) else {
        return None;
    };
    let header = Header::decode(datagram.first_chunk()?).ok()?;
    let (text, tag) = datagram.get(HEADER_LEN..)?.split_last_chunk::<TAG_LEN>()?;
    Some(Seen {
        key: *tag.first_chunk()?,
        header,
        text: text.to_vec(),
    })
}

/// Seals a packet as whoever holds its key would.
pub fn seal(seen: &Seen) -> Vec<u8> {
    let header = Header {
        payload_len: seen.text.len() as u16,
        ..seen.header
    };
    let mut front = [0; HEADER_LEN];
    header.encode(&mut front);
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&header.counter.to_le_bytes());
    let tag = tag(seen.key, &nonce, &front, &seen.text);
    [&front[..], &seen.text, &tag].concat()
}
