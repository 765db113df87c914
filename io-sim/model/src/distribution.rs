//! Integer distributions, each a function of 64 uniform bits.
//!
//! Invariants: no floating point, so a draw is the same on every machine; every draw saturates.
//! Not here: which bits are used (`key.rs`).

use crate::key::scale;

/// How a quantity (nanoseconds, bytes) varies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Distribution {
    /// Always the same.
    Constant(u64),
    /// Uniform, both ends included.
    Uniform {
        /// Smallest value.
        low: u64,
        /// Largest value.
        high: u64,
    },
    /// Bell-shaped, cut below at `min`. The sum of eight bytes, hence within 4.9 standard deviations.
    Normal {
        /// Centre.
        mean: u64,
        /// Standard deviation.
        deviation: u64,
        /// Smallest value.
        min: u64,
    },
    /// Heavy-tailed: `scale` divided by a uniform number to the power 1 / shape, cut above at `max`.
    Pareto {
        /// Smallest value.
        scale: u64,
        /// Tail exponent in thousandths, at least 100; 1,160 is the classic 80:20.
        shape_milli: u64,
        /// Largest value.
        max: u64,
    },
    /// Recorded values, used in turn and again from the start. Not empty.
    Trace(Vec<u64>),
}

/// Standard deviation of the sum of eight uniform bytes, in thousandths: sqrt(8 * (256^2 - 1) / 12).
const BYTES_DEVIATION_MILLI: u128 = 209_022;
/// Mean of that sum.
const BYTES_MEAN: u64 = 1_020;

impl Distribution {
    /// The `n`-th draw, made from 64 uniform bits.
    #[inline]
    #[must_use]
    pub fn draw(&self, n: u64, word: u64) -> u64 {
        match self {
            Self::Constant(value) => *value,
            Self::Uniform { low, high } => low.saturating_add(scale(word, high.saturating_sub(*low).saturating_add(1))),
            Self::Normal { mean, deviation, min } => normal(word, *mean, *deviation).max(*min),
            Self::Pareto {
                scale,
                shape_milli,
                max,
            } => pareto(word, *scale, *shape_milli).min(*max),
            Self::Trace(values) => {
                let index = n % values.len().max(1) as u64;
                values.get(index as usize).copied().unwrap_or(0)
            }
        }
    }

    /// Whether draws can differ.
    #[must_use]
    pub const fn varies(&self) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::Uniform { .. } | Self::Normal { .. } | Self::Pareto { .. } | Self::Trace(_) => true,
        }
    }

    /// A value in the middle, from which defaults of other quantities are taken.
    #[must_use]
    pub fn typical(&self) -> u64 {
        match self {
            Self::Constant(value) => *value,
            Self::Uniform { low, high } => low / 2 + high / 2,
            Self::Normal { mean, .. } => *mean,
            Self::Pareto { scale, .. } => *scale,
            Self::Trace(values) => values.iter().copied().max().unwrap_or(0),
        }
    }
}

fn normal(word: u64, mean: u64, deviation: u64) -> u64 {
    let sum: u64 = word.to_le_bytes().iter().map(|&byte| u64::from(byte)).sum();
    let spread = |steps: u64| {
        let wide = u128::from(steps) * u128::from(deviation) * 1_000 / BYTES_DEVIATION_MILLI;
        u64::try_from(wide).unwrap_or(u64::MAX)
    };
    if sum >= BYTES_MEAN {
        mean.saturating_add(spread(sum - BYTES_MEAN))
    } else {
        mean.saturating_sub(spread(BYTES_MEAN - sum))
    }
}

/// `scale * u^(-1/shape)` with u = (word + 1) / 2^64, by binary logarithm and power in 16 fractional bits.
fn pareto(word: u64, scale: u64, shape_milli: u64) -> u64 {
    let bits = u128::from(word) + 1;
    let log_q16 = (64 << 16) - log2_q16(bits);
    let exponent_q16 = u128::from(log_q16) * 1_000 / u128::from(shape_milli.max(100));
    exp2_times(scale, exponent_q16)
}

/// Binary logarithm of `value` (1 to 2^64) in units of 2^-16, by repeated squaring.
fn log2_q16(value: u128) -> u64 {
    let whole = 127 - value.leading_zeros();
    // The mantissa in [1, 2) with 62 fractional bits.
    let mut mantissa = if whole >= 62 {
        value >> (whole - 62)
    } else {
        value << (62 - whole)
    };
    let mut log = u64::from(whole) << 16;
    for bit in (0..16).rev() {
        mantissa = (mantissa * mantissa) >> 62;
        if mantissa >> 63 != 0 {
            mantissa >>= 1;
            log |= 1 << bit;
        }
    }
    log
}

/// `value * 2^(exponent / 2^16)`, saturating.
fn exp2_times(value: u64, exponent_q16: u128) -> u64 {
    // 2^(2^-k) - 1 for k = 1..=16 in 2^-32: each set bit of the fraction multiplies by one of them.
    const ROOTS: [u64; 16] = [
        1_779_033_704,
        812_638_371,
        388_727_752,
        190_154_448,
        94_047_537,
        46_769_127,
        23_321_248,
        11_644_838,
        5_818_478,
        2_908_254,
        1_453_881,
        726_879,
        363_424,
        181_708,
        90_853,
        45_426,
    ];
    let whole = exponent_q16 >> 16;
    if whole >= 64 {
        return u64::MAX;
    }
    let mut factor: u128 = 1 << 32;
    for (index, root) in ROOTS.iter().enumerate() {
        if exponent_q16 & (1 << (15 - index)) != 0 {
            factor += (factor * u128::from(*root)) >> 32;
        }
    }
    let wide = (u128::from(value) * factor) >> 32;
    wide.checked_shl(whole as u32)
        .filter(|shifted| shifted >> whole == wide)
        .map_or(u64::MAX, |shifted| u64::try_from(shifted).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    fn draws(distribution: &Distribution) -> Vec<u64> {
        let key = Key::new(5);
        let mut all: Vec<u64> = (0..20_000).map(|n| distribution.draw(n, key.at(n))).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn uniform_covers_its_range_and_nothing_else() {
        let all = draws(&Distribution::Uniform { low: 3, high: 6 });
        assert_eq!((all[0], all[all.len() - 1]), (3, 6));
        assert_eq!(
            Distribution::Uniform { low: 0, high: u64::MAX }.draw(0, u64::MAX),
            u64::MAX - 1
        );
    }

    #[test]
    fn normal_has_its_mean_its_deviation_and_its_floor() {
        let all = draws(&Distribution::Normal {
            mean: 20_000,
            deviation: 4_000,
            min: 19_000,
        });
        assert_eq!(all[0], 19_000);
        let median = all[all.len() / 2];
        assert!((19_900..20_100).contains(&median), "{median}");
        // 84.1 % lie below one deviation.
        let one = all[all.len() * 841 / 1_000];
        assert!((23_800..24_200).contains(&one), "{one}");
    }

    #[test]
    fn pareto_has_its_floor_its_median_and_its_cap() {
        let all = draws(&Distribution::Pareto {
            scale: 1_000,
            shape_milli: 1_000,
            max: 50_000,
        });
        assert!(all[0] >= 1_000);
        assert_eq!(all[all.len() - 1], 50_000);
        // For shape 1 the median is twice the scale.
        let median = all[all.len() / 2];
        assert!((1_950..2_050).contains(&median), "{median}");
    }

    #[test]
    fn pareto_at_the_edges_saturates() {
        let wild = Distribution::Pareto {
            scale: u64::MAX,
            shape_milli: 100,
            max: u64::MAX,
        };
        assert_eq!(wild.draw(0, 0), u64::MAX);
        assert_eq!(
            Distribution::Pareto {
                scale: 7,
                shape_milli: 2_000,
                max: 9
            }
            .draw(0, u64::MAX),
            7
        );
    }

    #[test]
    fn traces_repeat() {
        let trace = Distribution::Trace(vec![5, 6, 7]);
        assert_eq!((0..5).map(|n| trace.draw(n, 99)).collect::<Vec<_>>(), [5, 6, 7, 5, 6]);
    }
}
