//! The clear AEAD: a checksum instead of a cipher, for simulation only.
//!
//! A tag is the key itself and a 64-bit checksum over key, nonce, header and bytes; header protection does nothing. So a
//! damaged, replayed or foreign packet fails exactly where it would fail under a real cipher, while the world can read
//! which key and counter a packet was sealed with, and an adversary in the role of a member can seal again.
//! Invariants: what `seal` made, `open` accepts; any changed bit of header, bytes or tag is refused.
//! Not here: secrecy. No other crate can name this type.

use net_kernel::base::rng::Secret;
use net_kernel::session::aead::{Aead, AeadError};
use net_kernel::wire::Suite;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The checksum AEAD.
#[derive(Debug)]
pub enum Clear {}

fn checksum(key: u64, nonce: &[u8; 12], aad: &[u8], bytes: &[u8]) -> u64 {
    let [_, _, _, _, counter @ ..] = *nonce;
    let head = xxh3_64_with_seed(aad, key ^ u64::from_le_bytes(counter).rotate_left(32));
    xxh3_64_with_seed(bytes, head)
}

fn tag(key: u64, checksum: u64) -> [u8; 16] {
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&key.to_le_bytes());
    tag[8..].copy_from_slice(&checksum.to_le_bytes());
    tag
}

impl Aead for Clear {
    type Key = u64;
    type HeaderKey = ();

    const HAS_AES: bool = true;

    fn name() -> &'static str {
        "clear (checksum only)"
    }

    /// Keys of two suites differ, so that two sides that disagree on the suite do not understand each other.
    fn key(suite: Suite, secret: &Secret) -> u64 {
        xxh3_64_with_seed(&secret.0, suite as u64)
    }

    #[inline]
    fn seal(key: &u64, nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; 16] {
        tag(*key, checksum(*key, nonce, aad, in_out))
    }

    #[inline]
    fn open(key: &u64, nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8], given: &[u8; 16]) -> Result<(), AeadError> {
        if tag(*key, checksum(*key, nonce, aad, in_out)) == *given {
            Ok(())
        } else {
            Err(AeadError)
        }
    }

    fn header_key(_: &Secret) {}

    #[inline]
    fn mask((): &(), _: &[u8; 16]) -> [u8; 64] {
        [0; 64]
    }
}

/// What can be read from a protected packet under the clear AEAD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The key.
    pub key: u64,
    /// The counter, hence the nonce.
    pub counter: u64,
}

const HEADER: usize = net_kernel::wire::HEADER_LEN;
const TAG: usize = net_kernel::wire::TAG_LEN;
const HANDSHAKE: u8 = 0x10;

/// Reads key and counter of a packet sealed with [`Clear`]; `None` for handshake packets and anything else.
#[inline]
#[must_use]
pub fn inspect(packet: &[u8]) -> Option<Sealed> {
    if packet.len() < HEADER + TAG || packet[..2] != *b"\x45\x4e" || packet[3] & HANDSHAKE != 0 {
        return None;
    }
    let word = |at: usize| Some(u64::from_le_bytes(packet.get(at..at + 8)?.try_into().ok()?));
    Some(Sealed {
        key: word(packet.len() - TAG)?,
        counter: word(16)?,
    })
}

/// Seals a packet again after its plaintext was changed, as only one who holds its key could.
pub fn reseal(packet: &mut [u8]) {
    let Some(sealed) = inspect(packet) else { return };
    let end = packet.len() - TAG;
    let (front, end_tag) = packet.split_at_mut(end);
    let (header, bytes) = front.split_at(HEADER);
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&header[12..24]);
    end_tag.copy_from_slice(&tag(sealed.key, checksum(sealed.key, &nonce, header, bytes)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_is_refused() {
        let key = Clear::key(Suite::ChaChaPoly, &Secret([7; 32]));
        let (nonce, aad) = ([3; 12], [9; 64]);
        let mut bytes = *b"some plaintext";
        let good = Clear::seal(&key, &nonce, &aad, &mut bytes);
        assert_eq!(Clear::open(&key, &nonce, &aad, &mut bytes, &good), Ok(()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Clear::open(&key, &nonce, &aad, &mut bad, &good), Err(AeadError));
        }
        for bit in 0..aad.len() * 8 {
            let mut bad = aad;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Clear::open(&key, &nonce, &bad, &mut bytes, &good), Err(AeadError));
        }
        for bit in 0..128 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Clear::open(&key, &nonce, &aad, &mut bytes, &bad), Err(AeadError));
        }
        assert_eq!(Clear::open(&key, &[4; 12], &aad, &mut bytes, &good), Err(AeadError));
        assert_eq!(
            Clear::open(
                &Clear::key(Suite::ChaChaPoly, &Secret([8; 32])),
                &nonce,
                &aad,
                &mut bytes,
                &good
            ),
            Err(AeadError)
        );
    }
}
