//! Being asked to end: ctrl-c and SIGTERM.
//!
//! Invariants: from the moment this is made, a signal ends nothing by itself; it is told to whoever waits.
//! Not here: what a command does then (each command).

use std::io;

use crate::error::{Code, Failure, Signal};

/// Hears the signals that ask the process to end.
pub struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts to listen for them.
    pub fn new() -> Result<Self, Failure> {
        Self::register().map_err(|error| Failure::new(Code::Start, format!("cannot listen for signals: {error}")))
    }

    #[cfg(unix)]
    fn register() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(not(unix))]
    fn register() -> io::Result<Self> {
        Ok(Self {})
    }

    /// The next signal. To drop the future loses none.
    #[cfg(unix)]
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }

    /// The next signal.
    #[cfg(not(unix))]
    pub async fn next(&mut self) -> Signal {
        // Without a handler nothing is ever told, and the system ends the process itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Interrupt
    }

    /// Waits for `work`, unless a signal comes first.
    pub async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            signal = self.next() => Err(Failure::signalled(signal)),
            done = work => Ok(done),
        }
    }
}
