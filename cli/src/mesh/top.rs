//! `net top`: the running node, again and again.
//!
//! Invariants: only a terminal is redrawn; elsewhere every look is printed after the other. Not here: the tables
//! (`control/records.rs`).

use std::fmt;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::args::TopArgs;
use crate::control::Question;
use crate::control::client::{Client, only};
use crate::control::records::{Peers, Routes, Status, short};
use crate::error::Failure;
use crate::output::{Out, Record};
use crate::signals::Signals;

/// Moves to the upper left corner and clears what is below.
const REDRAW: &str = "\x1b[H\x1b[J";
/// Clears the whole screen, once.
const CLEAR: &str = "\x1b[2J";

/// `net top`
pub async fn run(args: &TopArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut client = Client::connect(&args.ask).await?;
    let redraws = out.is_text() && std::io::stdout().is_terminal();
    if redraws {
        out.raw(CLEAR)?;
    }
    let mut interval = tokio::time::interval(args.interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut looks, mut before) = (0, None);
    while args.count == 0 || looks < args.count {
        let looked = signals.or(async {
            interval.tick().await;
            look(&mut client, &mut before).await
        });
        // Being told to end is how this ends.
        let Ok(look) = looked.await else { return Ok(()) };
        let look = look?;
        if redraws {
            out.raw(REDRAW)?;
        }
        out.result(&look)?;
        looks += 1;
    }
    Ok(())
}

/// One look.
#[derive(Serialize)]
struct Look {
    status: Status,
    peers: Peers,
    routes: Routes,
    /// Datagrams sent and received per second since the look before; `null` at first.
    sent_per_s: Option<f64>,
    received_per_s: Option<f64>,
}

/// When, and how many datagrams there had been.
type Before = Option<(Instant, u64, u64)>;

async fn look(client: &mut Client, before: &mut Before) -> Result<Look, Failure> {
    let status = only!(client.ask(&Question::Status).await?, Status)?;
    let peers = only!(client.ask(&Question::Peers).await?, Peers)?;
    let routes = only!(client.ask(&Question::Routes).await?, Routes)?;
    let now = Instant::now();
    let sum = |count: fn(&crate::control::records::Peer) -> Option<u64>| peers.peers.iter().filter_map(count).sum();
    let (sent, received): (u64, u64) = (sum(|peer| peer.sent), sum(|peer| peer.received));
    let rates = before.map(|(at, sent_before, received_before)| {
        let seconds = now.duration_since(at).max(Duration::from_millis(1)).as_secs_f64();
        // A session that ended took its count with it.
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (rate(sent, sent_before), rate(received, received_before))
    });
    *before = Some((now, sent, received));
    Ok(Look {
        status: *status,
        peers,
        routes,
        sent_per_s: rates.map(|rates| rates.0),
        received_per_s: rates.map(|rates| rates.1),
    })
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.status;
        write!(
            f,
            "{}  UDP {}  {} nodes  {} of {} neighbours usable",
            short(&status.id),
            status.address,
            status.nodes,
            status.usable,
            status.neighbours
        )?;
        if let (Some(sent), Some(received)) = (self.sent_per_s, self.received_per_s) {
            write!(f, "  {sent:.0} datagrams/s out, {received:.0} in")?;
        }
        write!(f, "\n\n{}\n\n{}", self.peers, self.routes)
    }
}

impl Record for Look {
    const KIND: &'static str = "top";
}
