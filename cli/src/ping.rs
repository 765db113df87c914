//! `net ping`: round trips, loss and path to the node that a ticket names.
//!
//! Invariants: the exit code tells reached, silent, refused and not allowed apart; what was not measured is not printed
//! as a figure.
//! Not here: how the session comes about (`peer.rs`).

use std::fmt;
use std::time::{Duration, Instant};

use net_io_real::Session;
use serde::Serialize;

use crate::args::PingArgs;
use crate::error::{Code, Failure};
use crate::output::{Out, Record, hex};
use crate::peer::{self, Peer};
use crate::signals::Signals;

/// How long the peer may take to hear that we leave.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// `net ping`
pub async fn run(args: &PingArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let started = Instant::now();
    let Peer { node, session } = peer::connect(&args.peer, &mut signals).await?;
    let handshake = started.elapsed();
    let measured = measure(args, &session, &mut signals, out).await;
    let summary = measured.map(|echoes| Summary::of(&session, handshake, echoes));
    session.close(0, "").await;
    node.close_within(CLOSE_GRACE).await;
    let summary = summary?;
    let silent = summary.sent > 0 && summary.received == 0;
    out.result(&summary)?;
    if silent {
        let message = format!(
            "the session with {} is up, but none of {} echoes was answered",
            &summary.peer[..16],
            summary.sent
        );
        return Err(Failure::new(Code::SessionLost, message).next("net ping TICKET --wait 10"));
    }
    Ok(())
}

async fn measure(args: &PingArgs, session: &Session, signals: &mut Signals, out: Out) -> Result<Vec<Echo>, Failure> {
    let mut echoes = Vec::new();
    let mut interval = tokio::time::interval(args.interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while args.count == 0 || (echoes.len() as u64) < args.count {
        let number = echoes.len() as u64 + 1;
        let echo = signals.or(async {
            interval.tick().await;
            tokio::time::timeout(args.wait, session.echo()).await
        });
        let rtt_us = match echo.await {
            Ok(Ok(Ok(rtt))) => Some(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            Ok(Ok(Err(error))) => return Err(error.into()),
            Ok(Err(_elapsed)) => None,
            // An interrupted ping says what it has found.
            Err(_) if !echoes.is_empty() => break,
            Err(signalled) => return Err(signalled),
        };
        let echo = Echo { number, rtt_us };
        out.part(&echo)?;
        echoes.push(echo);
    }
    Ok(echoes)
}

/// One echo.
#[derive(Clone, Copy, Debug, Serialize)]
struct Echo {
    number: u64,
    /// `null` where no answer came in time.
    rtt_us: Option<u64>,
}

impl fmt::Display for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rtt_us {
            Some(us) => write!(f, "echo {}: {}", self.number, Ms(us)),
            None => write!(f, "echo {}: no answer in time", self.number),
        }
    }
}

impl Record for Echo {
    const KIND: &'static str = "echo";
}

/// All echoes together.
#[derive(Debug, Serialize)]
struct Summary {
    peer: String,
    /// How the peer is reached.
    path: &'static str,
    address: Option<String>,
    connected_in_us: u64,
    sent: u64,
    received: u64,
    loss_percent: f64,
    min_us: Option<u64>,
    avg_us: Option<u64>,
    max_us: Option<u64>,
    echoes: Vec<Echo>,
}

impl Summary {
    fn of(session: &Session, handshake: Duration, echoes: Vec<Echo>) -> Self {
        let rtts: Vec<u64> = echoes.iter().filter_map(|echo| echo.rtt_us).collect();
        let (sent, received) = (echoes.len() as u64, rtts.len() as u64);
        Self {
            peer: hex(&session.peer().0),
            path: "direct",
            address: session.address().map(|address| address.to_string()),
            connected_in_us: u64::try_from(handshake.as_micros()).unwrap_or(u64::MAX),
            sent,
            received,
            loss_percent: if sent == 0 {
                0.0
            } else {
                (sent - received) as f64 * 100.0 / sent as f64
            },
            min_us: rtts.iter().min().copied(),
            avg_us: rtts.iter().sum::<u64>().checked_div(received),
            max_us: rtts.iter().max().copied(),
            echoes,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", &self.peer[..16], self.path)?;
        if let Some(address) = &self.address {
            write!(f, " at {address}")?;
        }
        write!(f, ", session up in {}", Ms(self.connected_in_us))?;
        write!(
            f,
            "\n{} sent, {} answered, {:.0} % lost",
            self.sent, self.received, self.loss_percent
        )?;
        if let (Some(min), Some(avg), Some(max)) = (self.min_us, self.avg_us, self.max_us) {
            write!(
                f,
                "; round trip min/avg/max {:.3}/{:.3}/{}",
                min as f64 / 1e3,
                avg as f64 / 1e3,
                Ms(max)
            )?;
        }
        Ok(())
    }
}

impl Record for Summary {
    const KIND: &'static str = "ping";
}

/// Microseconds, printed as milliseconds.
struct Ms(u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms", self.0 as f64 / 1e3)
    }
}
