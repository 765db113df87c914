//! `net ping`: round trips, loss and path to a node, through the running node or with one of its own.
//!
//! Invariants: the exit code tells direct, relayed, silent, refused and not allowed apart; what was not measured is not printed
//! as a figure.
//! Not here: how the session comes about (`peer.rs`).

use std::fmt;
use std::time::{Duration, Instant};

use net_io_real::Session;
use serde::Serialize;

use crate::args::{AskArgs, PingArgs};
use crate::control::client::{Client, only};
use crate::control::records::{Path, short};
use crate::control::{Question, Target};
use crate::error::{Code, Failure};
use crate::mesh;
use crate::output::{Out, Record, hex};
use crate::peer::{self, Peer};
use crate::signals::Signals;

/// How long the peer may take to hear that we leave.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// How a path over others is called.
const RELAYED: &str = "relayed";

/// `net ping`
pub async fn run(args: &PingArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let summary = match through(args).await? {
        Some((mut client, target)) => Box::pin(ask(args, &mut client, &target, &mut signals, out)).await?,
        None => Box::pin(alone(args, &mut signals, out)).await?,
    };
    out.result(&summary)?;
    if summary.sent > 0 && summary.received == 0 {
        let message = format!(
            "the session with {} is up, but none of {} echoes was answered",
            short(&summary.peer),
            summary.sent
        );
        return Err(Failure::new(Code::SessionLost, message).next("net ping TICKET --wait 10"));
    }
    if summary.path == RELAYED {
        return Err(Failure::new(Code::Relayed, "reached over others"));
    }
    Ok(())
}

/// The running node, where it is to be asked: always for a node without a ticket, and else where one runs.
async fn through(args: &PingArgs) -> Result<Option<(Client, Target)>, Failure> {
    let dial = &args.peer.dial;
    let state_dir = peer::state_dir(dial.id.as_ref());
    if let Some(text) = args.peer.ticket.as_deref().filter(|text| mesh::is_digits(text)) {
        if args.alone {
            let message =
                "a node without a ticket is known to the running node alone: leave --alone out, or give a ticket";
            return Err(Failure::new(Code::Usage, message));
        }
        let ask = AskArgs { id: dial.id.clone() };
        return Ok(Some((Client::connect(&ask).await?, Target::Node(text.to_owned()))));
    }
    if args.alone || dial.network.network_key.is_some() {
        return Ok(None);
    }
    let Ok(state_dir) = state_dir else { return Ok(None) };
    // A directory whose path is too long for a socket has no running node.
    let Ok(Some(client)) = Client::to(&state_dir).await else {
        return Ok(None);
    };
    let ticket = peer::read_ticket(args.peer.ticket.as_deref(), args.peer.ticket_file.as_deref())?;
    Ok(Some((client, Target::Ticket(mesh::public(&ticket)))))
}

/// Pings with a node of its own.
async fn alone(args: &PingArgs, signals: &mut Signals, out: Out) -> Result<Summary, Failure> {
    let started = Instant::now();
    let Peer { node, session } = peer::connect(&args.peer, signals).await?;
    let handshake = started.elapsed();
    let measured = measure(args, &session, signals, out).await;
    let summary = measured.map(|echoes| {
        let path = Path {
            id: hex(&session.peer().0),
            path: "direct".to_owned(),
            via: None,
            hops: Some(1),
            address: session.address().map(|address| address.to_string()),
        };
        let connected = u64::try_from(handshake.as_micros()).unwrap_or(u64::MAX);
        Summary::of(path, Some(connected), "own", echoes)
    });
    session.close(0, "").await;
    node.close_within(CLOSE_GRACE).await;
    summary
}

/// Has the running node ping.
async fn ask(
    args: &PingArgs,
    client: &mut Client,
    target: &Target,
    signals: &mut Signals,
    out: Out,
) -> Result<Summary, Failure> {
    let question = Question::Ping {
        target: target.clone(),
        timeout_ms: mesh::millis(args.peer.dial.timeout),
        wait_ms: mesh::millis(args.wait),
    };
    let (mut echoes, mut last) = (Vec::new(), None);
    let mut connected_in_us = None;
    let mut interval = tokio::time::interval(args.interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while args.count == 0 || (echoes.len() as u64) < args.count {
        let asked = signals.or(async {
            interval.tick().await;
            client.ask(&question).await
        });
        let pinged = match asked.await {
            Ok(answer) => only!(answer?, Pinged)?,
            // An interrupted ping says what it has found.
            Err(_) if !echoes.is_empty() => break,
            Err(signalled) => return Err(signalled),
        };
        let echo = Echo {
            number: echoes.len() as u64 + 1,
            rtt_us: pinged.rtt_us,
        };
        out.part(&echo)?;
        echoes.push(echo);
        connected_in_us = connected_in_us.or(pinged.connected_in_us);
        last = Some(pinged.path);
    }
    match last {
        Some(path) => Ok(Summary::of(path, connected_in_us, "running", echoes)),
        None => Err(Failure::new(Code::Usage, "nothing was to be measured")),
    }
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
    /// How the peer is reached: direct or relayed.
    path: String,
    /// The neighbour that relays.
    via: Option<String>,
    hops: Option<u8>,
    address: Option<String>,
    /// `null` where the running node had a session already.
    connected_in_us: Option<u64>,
    /// Which node pinged: the command's own, or the running one.
    node: &'static str,
    sent: u64,
    received: u64,
    loss_percent: f64,
    min_us: Option<u64>,
    avg_us: Option<u64>,
    max_us: Option<u64>,
    echoes: Vec<Echo>,
}

impl Summary {
    fn of(path: Path, connected_in_us: Option<u64>, node: &'static str, echoes: Vec<Echo>) -> Self {
        let rtts: Vec<u64> = echoes.iter().filter_map(|echo| echo.rtt_us).collect();
        let (sent, received) = (echoes.len() as u64, rtts.len() as u64);
        Self {
            peer: path.id,
            path: path.path,
            via: path.via,
            hops: path.hops,
            address: path.address,
            connected_in_us,
            node,
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
        let path = Path {
            id: self.peer.clone(),
            path: self.path.clone(),
            via: self.via.clone(),
            hops: self.hops,
            address: self.address.clone(),
        };
        write!(f, "{path}")?;
        match self.connected_in_us {
            Some(us) => write!(f, ", session up in {}", Ms(us))?,
            None => f.write_str(", session up already")?,
        }
        if self.node == "running" {
            f.write_str(" (through the running node)")?;
        }
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
