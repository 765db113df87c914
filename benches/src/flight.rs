//! Requests under way at once: who was asked when, and that every answer came.
//!
//! Invariants: at most [`IN_FLIGHT`] requests are open; an answer counts only if it is the one of the oldest open request, so
//! one that is lost, changed or out of order fails the measurement instead of making it faster.
//! Not here: how requests travel.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::contender::{Failure, SMALL};

/// Requests under way at once.
pub const IN_FLIGHT: usize = 64;

/// How long answers took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latency {
    /// The median.
    pub p50: Duration,
    /// Of a hundred the slowest but one.
    pub p99: Duration,
}

/// Requests of 64 B, numbered, and the times of their answers.
pub struct Flight {
    exchanges: usize,
    asked: usize,
    open: VecDeque<Instant>,
    samples: Vec<Duration>,
}

impl Flight {
    /// `exchanges` requests are to be asked.
    #[must_use]
    pub fn new(exchanges: usize) -> Self {
        Self {
            exchanges,
            asked: 0,
            open: VecDeque::with_capacity(IN_FLIGHT),
            samples: Vec::with_capacity(exchanges),
        }
    }

    /// The next request to send now, if one may be under way more.
    pub fn ask(&mut self) -> Option<[u8; SMALL]> {
        if self.open.len() == IN_FLIGHT || self.asked == self.exchanges {
            return None;
        }
        let request = Self::request(self.asked);
        self.asked += 1;
        self.open.push_back(Instant::now());
        Some(request)
    }

    /// An answer came.
    ///
    /// # Errors
    /// Where it is not the oldest request, byte for byte.
    pub fn answered(&mut self, answer: &[u8]) -> Result<(), Failure> {
        let expected = Self::request(self.samples.len());
        let asked = self.open.pop_front().ok_or("an answer that nobody asked for")?;
        if answer != expected {
            let number = self.samples.len();
            return Err(format!("the answer to request {number} is another or was lost").into());
        }
        self.samples.push(asked.elapsed());
        Ok(())
    }

    /// Whether every answer has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.samples.len() == self.exchanges
    }

    /// What came of it.
    #[must_use]
    pub fn latency(mut self) -> Latency {
        self.samples.sort_unstable();
        let at = |percent: usize| {
            let index = self.samples.len() * percent / 100;
            self.samples.get(index).copied().unwrap_or_default()
        };
        Latency {
            p50: at(50),
            p99: at(99),
        }
    }

    fn request(number: usize) -> [u8; SMALL] {
        let mut request = [0x5a; SMALL];
        request[..8].copy_from_slice(&(number as u64).to_le_bytes());
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_under_way_and_no_more() {
        let mut flight = Flight::new(IN_FLIGHT + 1);
        let asked: Vec<_> = std::iter::from_fn(|| flight.ask()).collect();
        assert_eq!(asked.len(), IN_FLIGHT);
        flight.answered(&asked[0]).unwrap();
        let last = flight.ask().unwrap();
        assert_eq!(flight.ask(), None, "all were asked");
        for answer in asked[1..].iter().chain([&last]) {
            assert!(!flight.is_over());
            flight.answered(answer).unwrap();
        }
        assert!(flight.is_over());
        let latency = flight.latency();
        assert!(latency.p50 <= latency.p99);
    }

    #[test]
    fn a_lost_answer_is_noticed() {
        let mut flight = Flight::new(3);
        let asked: Vec<_> = std::iter::from_fn(|| flight.ask()).collect();
        flight.answered(&asked[0]).unwrap();
        assert!(flight.answered(&asked[2]).is_err());
    }
}
