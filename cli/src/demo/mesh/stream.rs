//! The stream that is published: numbered lines of a file, and what a subscriber makes of them.
//!
//! Invariants: every line can be told from every other and from a damaged one, by whoever has the file; a line counts once, at
//! the instant at which `net sub` printed it. Not here: where it goes (`mod.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::output::hex;

/// Bytes of the file in a line.
const BYTES: usize = 96;

/// What is published: line n has the n-th piece of a file, which begins anew where it ends.
#[derive(Clone)]
pub struct Text(Arc<[u8]>);

impl Text {
    /// Lines of `bytes`, of which there is at least one.
    pub fn new(bytes: Vec<u8>) -> Self {
        assert!(!bytes.is_empty(), "an empty file was refused before");
        Self(bytes.into())
    }

    /// A line, without its end.
    pub fn line(&self, number: u64) -> String {
        let pieces = self.0.len().div_ceil(BYTES) as u64;
        let from = (number % pieces) as usize * BYTES;
        let piece = &self.0[from..self.0.len().min(from + BYTES)];
        format!("{number} {}", hex(piece))
    }
}

/// What a subscriber got so far.
pub struct Judge {
    text: Text,
    arrived: BTreeMap<u64, Instant>,
    faults: Faults,
}

/// What must not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Faults {
    /// Lines that were published and did not arrive.
    pub lost: u64,
    /// Lines that arrived again.
    pub doubled: u64,
    /// Lines that arrived behind later ones.
    pub disordered: u64,
    /// Lines that nobody published.
    pub damaged: u64,
}

impl Judge {
    pub fn new(text: Text) -> Self {
        Self {
            text,
            arrived: BTreeMap::new(),
            faults: Faults::default(),
        }
    }

    /// A line was printed.
    pub fn hear(&mut self, now: Instant, line: &str) {
        let number = line.split(' ').next().and_then(|number| number.parse().ok());
        let Some(number) = number.filter(|&number| self.text.line(number) == line) else {
            self.faults.damaged += 1;
            return;
        };
        if self.arrived.contains_key(&number) {
            self.faults.doubled += 1;
            return;
        }
        if self.arrived.last_key_value().is_some_and(|(&last, _)| last > number) {
            self.faults.disordered += 1;
        }
        self.arrived.insert(number, now);
    }

    /// Different lines that arrived.
    pub fn count(&self) -> u64 {
        self.arrived.len() as u64
    }

    /// From an instant until the first line arrived that was published after it, where `published` lines had been by then.
    pub fn went_on(&self, since: Instant, published: u64) -> Option<Duration> {
        let (_, at) = self.arrived.range(published..).next()?;
        Some(at.saturating_duration_since(since))
    }

    /// What is wrong where `published` lines were published in all.
    pub fn faults(&self, published: u64) -> Faults {
        let got = self.arrived.range(..published).count() as u64;
        Faults {
            lost: published - got,
            damaged: self.faults.damaged + self.count() - got,
            ..self.faults
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Text {
        Text::new((0..=255).collect())
    }

    fn judged(numbers: &[u64], published: u64) -> Faults {
        let mut judge = Judge::new(text());
        for &number in numbers {
            judge.hear(Instant::now(), &text().line(number));
        }
        judge.faults(published)
    }

    #[test]
    fn lines_differ_and_go_on_where_the_file_ends() {
        let lines: Vec<String> = (0..7).map(|number| text().line(number)).collect();
        assert!(lines[0].starts_with("0 000102") && lines[2].ends_with("feff"));
        assert!(lines[3].starts_with("3 000102"), "the file begins anew");
        assert_eq!(Text::new(vec![7]).line(5), "5 07");
    }

    #[test]
    fn all_of_them_once_and_in_order_are_right() {
        assert_eq!(judged(&[0, 1, 2, 3], 4), Faults::default());
    }

    #[test]
    fn each_fault_is_seen() {
        let fault = |numbers: &[u64], published| {
            let Faults {
                lost,
                doubled,
                disordered,
                damaged,
            } = judged(numbers, published);
            [lost, doubled, disordered, damaged]
        };
        assert_eq!(fault(&[0, 1, 3], 4), [1, 0, 0, 0], "in the middle");
        assert_eq!(fault(&[0, 1, 2], 4), [1, 0, 0, 0], "at the end");
        assert_eq!(fault(&[0, 1, 1, 2, 3], 4), [0, 1, 0, 0]);
        assert_eq!(fault(&[0, 2, 1, 3], 4), [0, 0, 1, 0]);
        assert_eq!(fault(&[0, 1, 2, 3, 4], 4), [0, 0, 0, 1], "more than were published");
        let mut judge = Judge::new(text());
        for line in ["", "0", "0 ff", "x 00", "00 000102"] {
            judge.hear(Instant::now(), line);
        }
        assert_eq!((judge.count(), judge.faults(0).damaged), (0, 5));
    }

    #[test]
    fn it_goes_on_with_what_was_published_afterwards() {
        let (mut judge, start) = (Judge::new(text()), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        for (millis, number) in [(1, 0), (9, 1), (20, 2), (21, 3)] {
            judge.hear(at(millis), &text().line(number));
        }
        assert_eq!(
            judge.went_on(at(5), 2),
            Some(Duration::from_millis(15)),
            "line 1 was under way"
        );
        assert_eq!(judge.went_on(at(5), 4), None);
    }
}
