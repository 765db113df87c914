//! A histogram of durations in integer buckets.
//!
//! Invariants: a quantile is at most 1/32 above the true one; recording never allocates.
//! Not here: bounds on quantiles (`check/`).

const SUB: u64 = 32;
const BUCKETS: usize = (64 - 5) * SUB as usize;

/// Counts of values by size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }
}

fn bucket(value: u64) -> usize {
    let value = value.max(SUB);
    let shift = 63 - value.leading_zeros() - 5;
    (u64::from(shift) * SUB + (value >> shift) - SUB) as usize
}

fn top(bucket: usize) -> u64 {
    let (shift, sub) = (bucket as u64 / SUB, bucket as u64 % SUB);
    ((sub + SUB) << shift) + ((1 << shift) - 1)
}

impl Histogram {
    /// Records one value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value).min(BUCKETS - 1)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// How many values were recorded.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// The largest value.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The value that `permille` of a thousand do not exceed; 0 where none was recorded.
    #[must_use]
    pub fn quantile(&self, permille: u64) -> u64 {
        let rank = (self.total * permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return top(index).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close() {
        let mut histogram = Histogram::default();
        (1..=100_000u64).for_each(|value| histogram.record(value * 1_000));
        for permille in [1, 500, 900, 990, 999] {
            let exact = permille * 100_000;
            let got = histogram.quantile(permille);
            assert!(
                got >= exact && got <= exact + exact / 32 + 1,
                "{permille}: {got}, exact {exact}"
            );
        }
        assert_eq!(histogram.quantile(1_000), 100_000_000);
        assert_eq!(Histogram::default().quantile(500), 0);
        let mut wild = Histogram::default();
        wild.record(u64::MAX);
        wild.record(0);
        assert_eq!(wild.quantile(1_000), u64::MAX);
    }
}
