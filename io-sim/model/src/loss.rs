//! Loss models.
//!
//! Invariants: the fate of datagram n is a function of the seed and n alone; the burst channel's state at n follows from
//! the keyed draws 0..=n, never from time or from what else happened to the datagrams.
//! Not here: other ways to lose a datagram (queue, MTU, partition: `link.rs`).

use crate::key::{Family, Key, hit};

/// Kinds of datagrams that a link can tell apart, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(u8);

impl Kinds {
    /// First messages of a handshake.
    pub const INITIATION: Self = Self(1);
    /// Second messages of a handshake.
    pub const RESPONSE: Self = Self(2);
    /// Cookie replies.
    pub const COOKIE: Self = Self(4);
    /// Everything that is no message of a handshake.
    pub const PROTECTED: Self = Self(8);
    /// Every message of a handshake.
    pub const HANDSHAKE: Self = Self(7);
    /// Every datagram.
    pub const ALL: Self = Self(15);

    /// Whether the sets have a kind in common.
    #[inline]
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// How datagrams are lost. Probabilities in parts per billion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Loss {
    /// None is.
    #[default]
    None,
    /// Each by itself.
    Independent {
        /// Probability.
        ppb: u64,
    },
    /// In bursts: a channel of two states (Gilbert 1960, Elliott 1963).
    GilbertElliott {
        /// Probability per datagram of going from good to bad.
        to_bad: u64,
        /// Probability per datagram of going from bad to good.
        to_good: u64,
        /// Probability of loss in the good state.
        good: u64,
        /// Probability of loss in the bad state.
        bad: u64,
    },
    /// Datagram n - 1, 2n - 1, ... counted from 0; `n` is not 0.
    EveryNth {
        /// The period.
        n: u64,
    },
    /// Those of some kinds, each by itself, and only so many of them.
    OfKind {
        /// Which kinds.
        kinds: Kinds,
        /// Probability.
        ppb: u64,
        /// How many of these kinds the loss may befall, counted on its own link and direction; the rest pass.
        first: u64,
    },
}

impl Loss {
    /// Whether the kind of a datagram matters.
    #[must_use]
    pub const fn by_kind(&self) -> bool {
        matches!(self, Self::OfKind { .. })
    }
}

/// A loss model with its channel state.
#[derive(Clone, Debug)]
pub struct Lossy {
    model: Loss,
    loss: Key,
    burst: Key,
    next: u64,
    bad: bool,
    /// Datagrams of the kinds that matter, so far.
    of_kind: u64,
}

impl Lossy {
    /// The model under `key`, which names seed, link, direction and, for a fault, the fault.
    #[must_use]
    pub const fn new(model: Loss, key: Key) -> Self {
        Self {
            model,
            loss: key.family(Family::Loss),
            burst: key.family(Family::Burst),
            next: 0,
            bad: false,
            of_kind: 0,
        }
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &Loss {
        &self.model
    }

    /// Another model from now on, under the same key.
    pub const fn set_model(&mut self, model: Loss) {
        self.model = model;
    }

    /// A datagram of one of these kinds ended before it could be lost here.
    #[inline]
    pub fn skip(&mut self, kind: Kinds) {
        if let Loss::OfKind { kinds, .. } = self.model {
            self.of_kind += u64::from(kinds.meets(kind));
        }
    }

    /// Whether datagram `n`, of one of these kinds, is lost. `n` ascends from call to call.
    #[inline]
    pub fn loses(&mut self, n: u64, kind: Kinds) -> bool {
        match self.model {
            Loss::None => false,
            Loss::Independent { ppb } => self.loss.hits(n, ppb),
            Loss::GilbertElliott {
                to_bad,
                to_good,
                good,
                bad,
            } => {
                while self.next <= n {
                    let leave = if self.bad { to_good } else { to_bad };
                    self.bad ^= hit(self.burst.at(self.next), leave);
                    self.next += 1;
                }
                self.loss.hits(n, if self.bad { bad } else { good })
            }
            Loss::EveryNth { n: period } => period != 0 && (n + 1).is_multiple_of(period),
            Loss::OfKind { kinds, ppb, first } => {
                if !kinds.meets(kind) {
                    return false;
                }
                self.of_kind += 1;
                self.of_kind <= first && self.loss.hits(n, ppb)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(model: Loss, calls: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut lossy = Lossy::new(model, Key::new(3));
        calls.filter(|&n| lossy.loses(n, Kinds::PROTECTED)).collect()
    }

    #[test]
    fn bursts_are_longer_than_independent_losses_of_the_same_rate() {
        let bursty = Loss::GilbertElliott {
            to_bad: 10_000_000,
            to_good: 300_000_000,
            good: 0,
            bad: 1_000_000_000,
        };
        let losses = lost(bursty, 0..100_000);
        let runs = losses.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() + 1;
        let mean_run_milli = losses.len() * 1_000 / runs;
        assert!(
            (2_900..3_800).contains(&mean_run_milli),
            "mean run {mean_run_milli} / 1000, 1 / 0.3 expected"
        );
    }

    #[test]
    fn the_burst_state_depends_on_n_alone_and_not_on_which_datagrams_were_asked_about() {
        let bursty = Loss::GilbertElliott {
            to_bad: 50_000_000,
            to_good: 300_000_000,
            good: 0,
            bad: 700_000_000,
        };
        let all = lost(bursty, 0..1_000);
        let odd = lost(bursty, (0..1_000).filter(|n| n % 2 == 1));
        assert_eq!(odd, all.into_iter().filter(|n| n % 2 == 1).collect::<Vec<_>>());
    }

    #[test]
    fn loss_by_kind_befalls_the_first_of_its_kind_and_no_other() {
        let model = Loss::OfKind {
            kinds: Kinds::HANDSHAKE,
            ppb: crate::PPB,
            first: 3,
        };
        let mut lossy = Lossy::new(model, Key::new(3));
        let kinds = [Kinds::PROTECTED, Kinds::INITIATION, Kinds::RESPONSE, Kinds::COOKIE];
        let lost: Vec<u64> = (0..12).filter(|&n| lossy.loses(n, kinds[(n % 4) as usize])).collect();
        assert_eq!(lost, [1, 2, 3], "three handshake messages, no data");
    }

    #[test]
    fn what_ended_before_still_counts_among_its_kind() {
        let (kinds, first) = (Kinds::INITIATION, 2);
        let ppb = crate::PPB;
        let mut lossy = Lossy::new(Loss::OfKind { kinds, ppb, first }, Key::new(3));
        lossy.skip(Kinds::INITIATION);
        lossy.skip(Kinds::PROTECTED);
        let lost: Vec<bool> = (0..2).map(|n| lossy.loses(n, Kinds::INITIATION)).collect();
        assert_eq!(lost, [true, false]);
    }

    #[test]
    fn every_nth_is_exact() {
        assert_eq!(lost(Loss::EveryNth { n: 3 }, 0..10), [2, 5, 8]);
    }
}
