//! What applications send: bytes that follow from a key and a message number, so that nothing needs to be kept to check
//! them, with a canary that must never be seen on a link; and the subprotocol that tells streams apart.
//!
//! Invariants: `fill` and `matches` agree at every offset; every eighth word from the start of a message is the canary.
//! Not here: which messages there are (`world/flow.rs`).

use net_kernel::wire::subprotocol::VENDOR;
use net_sim_model::{Family, Key};

/// The subprotocol of the `n`-th stream of a run: it tells the acceptor which one it is. `None` where ids for vendors run
/// out, after 57,344 streams.
#[must_use]
pub fn subprotocol(n: usize) -> Option<u16> {
    let id = u16::try_from(n).ok()?.checked_add(*VENDOR.start())?;
    VENDOR.contains(&id).then_some(id)
}

/// Which stream of a run a subprotocol names.
#[must_use]
pub fn stream_number(subprotocol: u16) -> Option<u16> {
    VENDOR.contains(&subprotocol).then(|| subprotocol - VENDOR.start())
}

/// Plaintext that must never lie on a link under a real cipher.
pub const CANARY: [u8; 8] = *b"\xC4NARY\xA5\x5A\xC4";

const STRIDE: u64 = 8;

#[inline]
fn word(key: Key, index: u64) -> [u8; 8] {
    if index.is_multiple_of(STRIDE) {
        CANARY
    } else {
        key.at(index).to_le_bytes()
    }
}

/// The key of what a workload sends on its `n`-th stream, under the key of a run. Narrow it by 0 for what the opener sends
/// and by 1 for what the other side does.
#[must_use]
pub fn stream_key(run: Key, workload: &str, n: u64) -> Key {
    run.family(Family::Workload)
        .family(Family::Payload)
        .with_text(workload)
        .with(n)
}

/// Writes message `number`'s bytes from `offset` on.
pub fn fill(key: Key, number: u64, offset: u64, out: &mut [u8]) {
    let key = key.with(number);
    let skip = (offset % 8) as usize;
    let (head, body) = out.split_at_mut(((8 - skip) % 8).min(out.len()));
    head.copy_from_slice(&word(key, offset / 8)[skip % 8..][..head.len()]);
    let first = offset.div_ceil(8);
    let mut words = body.chunks_exact_mut(8);
    let mut index = first;
    for chunk in &mut words {
        chunk.copy_from_slice(&word(key, index));
        index += 1;
    }
    let tail = words.into_remainder();
    tail.copy_from_slice(&word(key, index)[..tail.len()]);
}

/// Whether `bytes` are message `number`'s from `offset` on.
#[must_use]
pub fn matches(key: Key, number: u64, offset: u64, bytes: &[u8]) -> bool {
    let key = key.with(number);
    let skip = (offset % 8) as usize;
    let (head, body) = bytes.split_at(((8 - skip) % 8).min(bytes.len()));
    if head != &word(key, offset / 8)[skip % 8..][..head.len()] {
        return false;
    }
    let first = offset.div_ceil(8);
    let words = body.chunks_exact(8);
    let tail = words.remainder();
    let whole = words.len() as u64;
    words.zip(first..).all(|(chunk, index)| chunk == word(key, index))
        && tail == &word(key, first + whole)[..tail.len()]
}

/// Whether the canary stands anywhere in `bytes`.
#[must_use]
pub fn has_canary(bytes: &[u8]) -> bool {
    bytes
        .windows(CANARY.len())
        .any(|window| window[0] == CANARY[0] && window == CANARY)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use net_kernel::wire::subprotocol::{MESH, name};

    use super::*;

    #[test]
    fn every_stream_of_a_run_has_a_subprotocol_of_its_own_that_is_no_protocols() {
        let ids: BTreeSet<u16> = (0..57_344).map_while(subprotocol).collect();
        assert_eq!(ids.len(), 57_344);
        assert!(ids.iter().all(|id| name(*id).is_none()));
        assert_eq!((subprotocol(57_344), subprotocol(usize::MAX)), (None, None));
        assert_eq!(subprotocol(767).and_then(stream_number), Some(767));
        assert_eq!((stream_number(MESH), stream_number(0xF000)), (None, None));
    }

    #[test]
    fn any_cut_of_a_message_matches_and_any_change_does_not() {
        let key = Key::new(3);
        let mut whole = vec![0; 300];
        fill(key, 5, 0, &mut whole);
        for start in 0..40 {
            for end in [start, start + 1, start + 7, start + 8, start + 9, 300] {
                assert!(matches(key, 5, start as u64, &whole[start..end]), "{start}..{end}");
                let mut part = vec![0; end - start];
                fill(key, 5, start as u64, &mut part);
                assert_eq!(part, whole[start..end], "{start}..{end}");
            }
        }
        for index in 0..whole.len() {
            let mut bad = whole.clone();
            bad[index] ^= 1;
            assert!(!matches(key, 5, 0, &bad), "byte {index}");
        }
        assert!(!matches(key, 6, 0, &whole) && !matches(key.with(1), 5, 0, &whole));
    }

    #[test]
    fn every_message_of_eight_bytes_carries_the_canary() {
        let mut message = vec![0; 8];
        fill(Key::new(1), 2, 0, &mut message);
        assert!(has_canary(&message));
        assert!(!has_canary(&message[1..]));
    }
}
