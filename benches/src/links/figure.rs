//! What the seeds of a line-up come to.
//!
//! Invariants: a figure is a mean over seeds with the least and the greatest beside it; a ratio is one of means over the same seeds.
//! Not here: judgement.

use std::fmt::Write;

/// One seed.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Payload delivered by everybody, Mbit/s.
    pub mbit: f64,
    /// Jain's index over the second half, where several share.
    pub jain: Option<f64>,
    /// The first flow's or stream's part of what was delivered in the second half.
    pub first_share: f64,
    /// Mean wait at the bottleneck, ms.
    pub wait_ms: f64,
    /// 99th percentile of it.
    pub late_ms: f64,
    /// Part of the datagrams from senders to receivers that was dropped.
    pub lost: f64,
}

/// Jain's index of `shares`, of whom there should be `expected`: who delivered nothing counts too.
#[must_use]
pub fn jain(shares: &[f64], expected: usize) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 {
        0.0
    } else {
        sum * sum / (expected as f64 * squares)
    }
}

/// All seeds of a line-up.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who.
    pub name: String,
    /// Seed by seed.
    pub samples: Vec<Sample>,
}

impl Row {
    fn mean(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        self.samples.iter().map(of).sum::<f64>() / self.samples.len().max(1) as f64
    }

    fn least(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        self.samples.iter().map(of).fold(f64::INFINITY, f64::min)
    }

    fn greatest(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        self.samples.iter().map(of).fold(0.0, f64::max)
    }
}

/// The rows of a case for people; the first row is the reference.
#[must_use]
pub fn text(case: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "{case}\n  {:<28} {:>8} {:>19} {:>7} {:>9} {:>9} {:>7}",
        "", "Mbit/s", "[least .. most]", "ratio", "wait, ms", "p99, ms", "lost"
    );
    let shared = rows
        .iter()
        .any(|row| row.samples.iter().any(|sample| sample.jain.is_some()));
    text.push_str(if shared { "   Jain [least]   first\n" } else { "\n" });
    let reference = rows.first().map_or(0.0, |row| row.mean(|sample| sample.mbit));
    for row in rows {
        let mbit = |sample: &Sample| sample.mbit;
        let spread = format!("[{:.1} .. {:.1}]", row.least(mbit), row.greatest(mbit));
        let _ = write!(
            text,
            "  {:<28} {:>8.2} {spread:>19} {:>7.3} {:>9.2} {:>9.2} {:>6.2}%",
            row.name,
            row.mean(mbit),
            row.mean(mbit) / reference,
            row.mean(|sample| sample.wait_ms),
            row.mean(|sample| sample.late_ms),
            row.mean(|sample| sample.lost) * 100.0,
        );
        if shared {
            let jain = |sample: &Sample| sample.jain.unwrap_or(0.0);
            let _ = write!(
                text,
                "  {:.3} [{:.3}]  {:.3}",
                row.mean(jain),
                row.least(jain),
                row.mean(|sample| sample.first_share)
            );
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_one_for_equals_and_falls_to_one_of_n_for_a_monopolist() {
        for (shares, expected, index) in [
            (&[3.0, 3.0][..], 2, 1.0),
            (&[1.0, 0.0], 2, 0.5),
            (&[1.0], 2, 0.5),
            (&[2.0, 1.0], 2, 0.9),
            (&[], 2, 0.0),
        ] {
            assert!((jain(shares, expected) - index).abs() < 1e-9, "{shares:?}");
        }
    }
}
