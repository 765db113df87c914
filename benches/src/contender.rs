//! What is measured, and the trait of whoever is.
//!
//! Invariants: a contender talks to its peer in another process over UDP on loopback; what it does not do it answers
//! with `None`, and no row is printed.
//! Not here: statistics over rounds (`table.rs`).

use std::time::Duration;

use crate::flight::Latency;

/// Whatever went wrong, for a person to read.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One way to move bytes between two processes.
pub trait Contender {
    /// As printed, with cipher and runtime where they matter.
    fn name(&self) -> String;

    /// Starts the peer process and whatever must stand before the clock runs (a session, a stream).
    ///
    /// # Errors
    /// Where the peer cannot be started or reached.
    fn start(&mut self) -> Result<(), Failure>;

    /// Ends the peer process. Called once after every successful start.
    fn stop(&mut self);

    /// The median time of one request of 64 B and its answer of 64 B, one in flight.
    ///
    /// # Errors
    /// Where the peer stops answering.
    fn rr(&mut self, exchanges: usize) -> Result<Option<Duration>, Failure> {
        let _ = exchanges;
        Ok(None)
    }

    /// The time of one such request while 64 are in flight.
    ///
    /// # Errors
    /// Where an answer is lost.
    fn in_flight(&mut self, exchanges: usize) -> Result<Option<Latency>, Failure> {
        let _ = exchanges;
        Ok(None)
    }

    /// Bytes per second delivered to the peer's application, written in messages of `message` bytes, `bytes` in all.
    ///
    /// # Errors
    /// Where the peer stops reading.
    fn stream(&mut self, message: usize, bytes: u64) -> Result<Option<f64>, Failure> {
        let _ = (message, bytes);
        Ok(None)
    }

    /// Messages of 64 B per second delivered to the peer's application, `batch` of them handed over per call.
    ///
    /// # Errors
    /// Where the peer stops reading.
    fn messages(&mut self, count: u64, batch: usize) -> Result<Option<f64>, Failure> {
        let _ = (count, batch);
        Ok(None)
    }

    /// The median time from asking for a secured connection to having it, `count` times in a row.
    ///
    /// # Errors
    /// Where one fails.
    fn handshake(&mut self, count: usize) -> Result<Option<Duration>, Failure> {
        let _ = count;
        Ok(None)
    }
}

/// Size of a request, an answer and a small message, in bytes.
pub const SMALL: usize = 64;
/// Bound on the size of a UDP payload for everyone, in bytes: 1,500 less the headers of IPv6 and UDP.
pub const MTU: usize = 1_452;
/// Socket buffers asked for by everyone, in bytes.
pub const SOCKET_BUFFER: usize = 4 << 20;

/// The middle one of the samples, which it sorts. Zero where there are none.
pub fn median(samples: &mut [Duration]) -> Duration {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

/// What is measured, in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Measure {
    /// [`Contender::rr`].
    RequestResponse,
    /// [`Contender::in_flight`], the median.
    InFlight,
    /// [`Contender::in_flight`], the 99th percentile; measured with the median.
    InFlightTail,
    /// [`Contender::stream`] in messages of 1 KiB.
    StreamKibi,
    /// [`Contender::stream`] in messages of 64 KiB.
    StreamLarge,
    /// [`Contender::messages`], many per call.
    MessagesBatched,
    /// [`Contender::messages`], one per call.
    MessagesSingle,
    /// [`Contender::handshake`].
    Handshake,
}

impl Measure {
    /// Every measure.
    pub const ALL: [Self; 8] = [
        Self::RequestResponse,
        Self::InFlight,
        Self::InFlightTail,
        Self::StreamKibi,
        Self::StreamLarge,
        Self::MessagesBatched,
        Self::MessagesSingle,
        Self::Handshake,
    ];

    /// What it is, with its unit.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::RequestResponse => "request/response 64 B, one in flight, p50, us",
            Self::InFlight => "request/response 64 B, 64 in flight, p50, us",
            Self::InFlightTail => "request/response 64 B, 64 in flight, p99, us",
            Self::StreamKibi => "stream of 1 KiB messages, MB/s delivered",
            Self::StreamLarge => "stream of 64 KiB messages, MB/s delivered",
            Self::MessagesBatched => "messages of 64 B, 1,024 per call, thousands/s delivered",
            Self::MessagesSingle => "messages of 64 B, one per call, thousands/s delivered",
            Self::Handshake => "handshake, p50, us",
        }
    }

    /// A stable name for JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::RequestResponse => "request_response_us",
            Self::InFlight => "in_flight_p50_us",
            Self::InFlightTail => "in_flight_p99_us",
            Self::StreamKibi => "stream_1k_mb_s",
            Self::StreamLarge => "stream_64k_mb_s",
            Self::MessagesBatched => "messages_batched_k_s",
            Self::MessagesSingle => "messages_single_k_s",
            Self::Handshake => "handshake_us",
        }
    }
}
