//! Bodies of fuzz targets: the codec held to its contract, and both sides fed with whatever a hostile peer may say.
//!
//! Invariants: a body panics only where a contract is broken. Compiled for fuzzing and tests alone.
//! Not here: the targets themselves (fuzz/), which only call these.

use alloc::string::String;
use alloc::vec::Vec;

use crate::disk::{DiskError, Source};
use crate::memory::Memory;
use crate::message::{Kind, Message, Token};
use crate::name::SafePath;
use crate::sender::Listed;
use crate::{Receiver, Sender, Step};

/// Any bytes: what is read is written back byte for byte.
pub fn message(bytes: &[u8]) {
    let Some(message) = Message::decode(bytes) else { return };
    let mut again = Vec::new();
    message.encode(&mut again);
    assert_eq!(again, bytes, "a message has one encoding");
    if let Message::Entry(_, path) = message {
        let safe = SafePath::new(path.names()).expect("a path that was decoded is within the limits");
        assert!(
            safe.components()
                .all(|name| name != "." && name != ".." && !name.contains(['/', '\\', '\0']))
        );
    }
}

/// A receiver and a sender, each fed with messages cut from the input, none of which need make sense.
pub fn transfer(input: &[u8]) {
    let (mut store, mut out) = (Memory::new(), Vec::new());
    store.limit(Some(1 << 20));
    store.put("mine", b"mine");
    let mut receiver = Receiver::new(1 << 30);
    let kind = Kind::File {
        size: 100,
        executable: false,
    };
    let listed = ["a", "b"].map(|name| Listed {
        names: [String::from(name)].into(),
        kind,
    });
    let mut sender = Sender::new(listed.into(), Token([1; 32])).expect("a list within limits");
    let mut rest = input;
    while let Some((&len, tail)) = rest.split_first() {
        let (said, tail) = tail.split_at(usize::from(len & 0x7F).min(tail.len()));
        rest = tail;
        if len & 0x80 == 0 {
            if receiver.receive(said, &mut store).is_err() {
                break;
            }
        } else if sender.receive(said).is_err() {
            break;
        }
        // Bounded work: each is done or waits after finitely many steps.
        for _ in 0..1_000 {
            if matches!(receiver.step(&mut store, &mut out), Step::Wait | Step::Over) {
                break;
            }
        }
        for _ in 0..16 {
            if matches!(sender.step(&mut Zeros, &mut out), Step::Wait | Step::Over) {
                break;
            }
        }
        while receiver.event().is_some() {}
        while sender.event().is_some() {}
        assert!(sender.progress() <= sender.totals().bytes);
    }
    let mine = store
        .files()
        .find(|(name, ..)| *name == "mine")
        .map(|(_, bytes, _)| bytes);
    assert_eq!(mine, Some(&b"mine"[..]), "nothing is overwritten");
}

/// Files of zeros.
struct Zeros;

impl Source for Zeros {
    fn read(&mut self, _: u32, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let len = usize::try_from(100_u64.saturating_sub(at)).unwrap_or(0).min(into.len());
        into[..len].fill(0);
        Ok(len)
    }

    fn unchanged(&mut self, _: u32) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            super::message(&bytes);
        }

        #[test]
        fn any_words_leave_both_sides_whole(input in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            super::transfer(&input);
        }
    }
}
