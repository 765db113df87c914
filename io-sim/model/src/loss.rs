//! Loss models.
//!
//! Invariants: the fate of datagram n is a function of the seed and n alone; the burst channel's state at n follows from
//! the keyed draws 0..=n, never from time or from what else happened to the datagrams.
//! Not here: other ways to lose a datagram (queue, MTU, partition: `link.rs`).

use crate::key::{Family, Key, hit};

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
}

/// A loss model with its channel state.
#[derive(Clone, Debug)]
pub struct Lossy {
    model: Loss,
    loss: Key,
    burst: Key,
    next: u64,
    bad: bool,
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
        }
    }

    /// Whether datagram `n` is lost. `n` ascends from call to call.
    #[inline]
    pub fn loses(&mut self, n: u64) -> bool {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(model: Loss, calls: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut lossy = Lossy::new(model, Key::new(3));
        calls.filter(|&n| lossy.loses(n)).collect()
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
    fn every_nth_is_exact() {
        assert_eq!(lost(Loss::EveryNth { n: 3 }, 0..10), [2, 5, 8]);
    }
}
