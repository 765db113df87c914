//! The replay window of one key: which counters were already accepted (PROTOCOL 5).
//!
//! Invariants: a counter is accepted at most once; below the window nothing is accepted; `check` changes
//! nothing, so a packet that fails its AEAD leaves no mark.
//! Not here: the AEAD, acks (`recovery/received.rs`).

use net_base::mutant;

/// Counters the window reaches back from the highest one accepted, that one included.
pub const REPLAY_WINDOW: u64 = 8_192;

const WORD_BITS: u64 = 64;
const WORDS: usize = (REPLAY_WINDOW / WORD_BITS) as usize;

/// Why a counter is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayError {
    /// Accepted before.
    Replayed,
    /// Further back than the window: it cannot be told apart from a replay.
    TooOld,
    /// `u64::MAX` is never used as a counter.
    Reserved,
}

/// A ring of bits, one for each counter in the window.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// Bit `counter % REPLAY_WINDOW` says whether `counter` was accepted.
    words: [u64; WORDS],
    /// One more than the highest counter accepted.
    next: u64,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplayWindow {
    /// Nothing accepted yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            words: [0; WORDS],
            next: 0,
        }
    }

    /// Whether a packet with this counter may be opened; changes nothing.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub const fn check(&self, counter: u64) -> Result<(), ReplayError> {
        if counter == u64::MAX {
            return Err(ReplayError::Reserved);
        }
        if counter >= self.next {
            return Ok(());
        }
        if self.next - counter > REPLAY_WINDOW {
            return Err(ReplayError::TooOld);
        }
        let (word, bit) = position(counter);
        if self.words[word] & bit != 0 {
            Err(ReplayError::Replayed)
        } else {
            Ok(())
        }
    }

    /// Accepts the counter of a packet whose AEAD opened. One that [`Self::check`] refuses changes nothing.
    pub fn mark(&mut self, counter: u64) {
        if self.check(counter).is_err() {
            return;
        }
        if counter >= self.next {
            self.clear(self.next, counter + u64::from(mutant!(ReplayForgetsOldest)));
            self.next = counter + 1;
        } else if mutant!(ReplayMarksNewestOnly) {
            return;
        }
        let (word, bit) = position(counter);
        self.words[word] |= bit;
    }

    /// The highest counter accepted.
    #[must_use]
    pub const fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Clears the bits of `from..to`, which now stand for newer counters.
    fn clear(&mut self, mut from: u64, to: u64) {
        if to - from >= REPLAY_WINDOW {
            self.words = [0; WORDS];
            return;
        }
        // The bit of `to` still stands for a counter that just left the window.
        while from <= to {
            let offset = from % WORD_BITS;
            let count = (WORD_BITS - offset).min(to - from + 1);
            let mask = (u64::MAX >> (WORD_BITS - count)) << offset;
            self.words[position(from).0] &= !mask;
            from += count;
        }
    }
}

const fn position(counter: u64) -> (usize, u64) {
    let slot = counter % REPLAY_WINDOW;
    ((slot / WORD_BITS) as usize, 1 << (slot % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// The same rules over a set of everything ever accepted.
    #[derive(Default)]
    struct Model {
        accepted: BTreeSet<u64>,
    }

    impl Model {
        fn check(&self, counter: u64) -> Result<(), ReplayError> {
            let highest = self.accepted.last().copied();
            if counter == u64::MAX {
                Err(ReplayError::Reserved)
            } else if highest.is_some_and(|highest| highest >= REPLAY_WINDOW && counter <= highest - REPLAY_WINDOW) {
                Err(ReplayError::TooOld)
            } else if self.accepted.contains(&counter) {
                Err(ReplayError::Replayed)
            } else {
                Ok(())
            }
        }
    }

    #[test]
    fn the_edges_of_the_window() {
        let top = 100_000;
        let mut window = ReplayWindow::new();
        assert_eq!((window.check(0), window.highest()), (Ok(()), None));
        window.mark(top);
        let cases = [
            (top, Err(ReplayError::Replayed)),
            (top + 1, Ok(())),
            (top - REPLAY_WINDOW + 1, Ok(())),
            (top - REPLAY_WINDOW, Err(ReplayError::TooOld)),
            (0, Err(ReplayError::TooOld)),
            (u64::MAX, Err(ReplayError::Reserved)),
            (u64::MAX - 1, Ok(())),
        ];
        for (counter, verdict) in cases {
            assert_eq!(window.check(counter), verdict, "counter {counter}");
        }
        window.mark(u64::MAX - 1);
        assert_eq!(window.check(u64::MAX - 1), Err(ReplayError::Replayed));
        assert_eq!(window.check(u64::MAX - 2), Ok(()));
        assert_eq!(window.highest(), Some(u64::MAX - 1));
    }

    #[test]
    fn checking_and_refused_marks_leave_no_trace() {
        let mut window = ReplayWindow::new();
        window.mark(9_000);
        assert_eq!(window.check(8_999), Ok(()));
        assert_eq!(window.check(8_999), Ok(()));
        window.mark(u64::MAX);
        window.mark(1);
        assert_eq!(window.highest(), Some(9_000));
        // 1 and 8,193 share a bit.
        assert_eq!(window.check(8_193), Ok(()));
    }

    fn steps() -> impl Strategy<Value = Vec<(bool, u64)>> {
        let jump = prop_oneof![
            8 => 0..4u64,
            4 => 0..200u64,
            2 => 0..2 * REPLAY_WINDOW,
            1 => REPLAY_WINDOW - 2..REPLAY_WINDOW + 3,
            1 => 0..u64::from(u32::MAX),
        ];
        proptest::collection::vec((any::<bool>(), jump), 1..300)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_everything_accepted(steps in steps()) {
            let mut window = ReplayWindow::new();
            let mut model = Model::default();
            for (forward, jump) in steps {
                let base = window.highest().unwrap_or(0);
                let counter = if forward { base + jump } else { base.saturating_sub(jump) };
                prop_assert_eq!(window.check(counter), model.check(counter), "counter {}", counter);
                if model.check(counter).is_ok() {
                    model.accepted.insert(counter);
                }
                window.mark(counter);
                prop_assert_eq!(window.highest(), model.accepted.last().copied());
            }
        }
    }
}
