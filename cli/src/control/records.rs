//! What the running node tells of itself and the mesh, as it crosses the control socket and as it is printed.
//!
//! Invariants: what is not known is left out (`null` in JSON, `-` in tables) and never printed as a figure; tables say in their
//! first line what stands in each column. Not here: where the figures come from (`up/look.rs`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::wrap;
use crate::output::Record;

/// Digits of an identity that people are shown.
pub const SHORT: usize = 16;

/// The first digits of an identity.
pub fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// `net status`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    pub id: String,
    pub version: String,
    pub pid: u32,
    pub uptime_s: f64,
    pub state_dir: String,
    pub address: String,
    pub metrics: Option<String>,
    /// Fingerprint of the network.
    pub network: String,
    pub open_network: bool,
    pub open_to_all: bool,
    /// Other nodes that are reached.
    pub nodes: usize,
    pub neighbours: usize,
    /// Neighbours that are heard and hear us.
    pub usable: usize,
    /// Peers to be kept connected.
    pub joined: usize,
    /// Subscriptions of others that this node serves, and of its own users.
    pub subscribers: usize,
    /// Neighbours that failed at about the same time, and how many there were, while that lasts.
    pub outage: Option<(usize, usize)>,
    /// Who knows a later incarnation of this identity.
    pub rolled_back: Option<String>,
    /// Whether packets of others are forwarded.
    pub relays: bool,
    pub ticket: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "node        {}", self.id)?;
        writeln!(
            f,
            "running     {} (process {}, net {})",
            Span(self.uptime_s),
            self.pid,
            self.version
        )?;
        writeln!(f, "state       {}", self.state_dir)?;
        writeln!(f, "listening   UDP {}", self.address)?;
        if let Some(metrics) = &self.metrics {
            writeln!(f, "metrics     http://{metrics}/metrics")?;
        }
        let network = if self.open_network { "open" } else { "closed" };
        let admits = if self.open_to_all {
            "everybody in it"
        } else {
            "those on its list"
        };
        writeln!(f, "network     {network} ({}), admits {admits}", self.network)?;
        writeln!(
            f,
            "mesh        {} other node{} reached; {} neighbour{}, {} usable; {} to be kept",
            self.nodes,
            s(self.nodes),
            self.neighbours,
            s(self.neighbours),
            self.usable,
            self.joined
        )?;
        let relaying = match (self.relays, self.open_network && self.open_to_all) {
            (true, _) => "for whoever is admitted",
            (false, true) => "off: strangers are admitted (`relays = true` under [mesh] turns it on)",
            (false, false) => "off",
        };
        writeln!(f, "relaying    {relaying}")?;
        if self.subscribers > 0 {
            writeln!(f, "channels    {} subscriber{}", self.subscribers, s(self.subscribers))?;
        }
        if let Some((failed, of)) = self.outage {
            writeln!(
                f,
                "OUTAGE      {failed} of {of} neighbours failed at about the same time"
            )?;
        }
        if let Some(who) = &self.rolled_back {
            writeln!(f, "ROLLED BACK {who} knows a later incarnation of this identity")?;
        }
        write!(f, "others join net join {}", self.ticket)
    }
}

impl Record for Status {
    const KIND: &'static str = "status";
}

/// `net peers`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Peers {
    pub peers: Vec<Peer>,
}

/// A node that there is a direct session with, or should be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Peer {
    pub id: String,
    /// alive, suspected, failed, deaf (it does not hear us) or dialling (there is no session).
    pub state: String,
    /// Where it is reached.
    pub address: Option<String>,
    /// Where it is dialled when there is no session.
    pub dialled: Vec<String>,
    /// Why a session is kept: config, command or cache; none where the peer came to us.
    pub kept: Option<String>,
    pub rtt_us: Option<u64>,
    pub rtt_variance_us: Option<u64>,
    pub health: Option<String>,
    pub load_permille: Option<u16>,
    pub sent: Option<u64>,
    pub received: Option<u64>,
    pub lost: Option<u64>,
    pub mtu: Option<u16>,
}

impl Peer {
    /// A peer without a session: of what only a session shows nothing is known.
    pub fn dialling(id: String, dialled: Vec<String>, kept: Option<String>) -> Self {
        Self {
            id,
            state: "dialling".to_owned(),
            address: None,
            dialled,
            kept,
            rtt_us: None,
            rtt_variance_us: None,
            health: None,
            load_permille: None,
            sent: None,
            received: None,
            lost: None,
            mtu: None,
        }
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.peers.is_empty() {
            return f.write_str("no peers: `net join TICKET` adds one, or another node joins this one (`net ticket`)");
        }
        write!(
            f,
            "{:<SHORT$}  {:<9}  {:>10}  {:>10}  {:<8}  {:>5}  {:>8}  {:>8}  {:>6}  {:<7}  ADDRESS",
            "NODE", "STATE", "RTT", "VARIANCE", "HEALTH", "LOAD", "SENT", "RECEIVED", "LOST", "KEPT"
        )?;
        for peer in &self.peers {
            let address = peer.address.clone().unwrap_or_else(|| peer.dialled.join(" "));
            write!(
                f,
                "\n{:<SHORT$}  {:<9}  {:>10}  {:>10}  {:<8}  {:>5}  {:>8}  {:>8}  {:>6}  {:<7}  {}",
                short(&peer.id),
                peer.state,
                micros(peer.rtt_us),
                micros(peer.rtt_variance_us),
                peer.health.as_deref().unwrap_or("-"),
                peer.load_permille.map_or_else(|| "-".into(), percent),
                number(peer.sent),
                number(peer.received),
                number(peer.lost),
                peer.kept.as_deref().unwrap_or("-"),
                address
            )?;
        }
        Ok(())
    }
}

impl Record for Peers {
    const KIND: &'static str = "peers";
}

/// `net routes`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Routes {
    pub routes: Vec<Route>,
}

/// A node that is reached, and every way there that closes no loop.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Route {
    pub id: String,
    /// Since its newest words were heard.
    pub age_s: f64,
    pub health: String,
    pub load_permille: u16,
    pub relays: bool,
    /// The way in use first.
    pub ways: Vec<Way>,
}

/// A way to a node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Way {
    /// The neighbour it leads over; the node itself where it is one.
    pub next: String,
    pub hops: u8,
    pub rtt_us: u64,
    pub used: bool,
}

impl fmt::Display for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.routes.is_empty() {
            return f.write_str("no routes: no other node is reached");
        }
        write!(
            f,
            "{:<SHORT$}    {:>4}  {:>10}  {:<SHORT$}  {:>6}  {:<8}  {:>5}  RELAYS",
            "NODE", "HOPS", "RTT", "OVER", "AGE", "HEALTH", "LOAD"
        )?;
        for route in &self.routes {
            for (at, way) in route.ways.iter().enumerate() {
                let over = if way.next == route.id {
                    "direct"
                } else {
                    short(&way.next)
                };
                let mark = if way.used { '*' } else { ' ' };
                let node = if at == 0 { short(&route.id) } else { "" };
                write!(
                    f,
                    "\n{node:<SHORT$}  {mark} {:>4}  {:>10}  {over:<SHORT$}",
                    way.hops,
                    micros(Some(way.rtt_us))
                )?;
                if at == 0 {
                    write!(
                        f,
                        "  {:>6}  {:<8}  {:>5}  {}",
                        format!("{:.1} s", route.age_s),
                        route.health,
                        percent(route.load_permille),
                        if route.relays { "yes" } else { "no" }
                    )?;
                }
            }
        }
        f.write_str("\n(* in use)")
    }
}

impl Record for Routes {
    const KIND: &'static str = "routes";
}

/// `net ticket`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TicketOf {
    pub ticket: String,
    /// What another node's user runs.
    pub command: String,
}

impl fmt::Display for TicketOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ticket)
    }
}

impl Record for TicketOf {
    const KIND: &'static str = "ticket";
}

/// `net join`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Joined {
    pub id: String,
    pub address: Option<String>,
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "joined {}", short(&self.id))?;
        match &self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

impl Record for Joined {
    const KIND: &'static str = "joined";
}

/// How a node is reached.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Path {
    pub id: String,
    /// direct or relayed.
    pub path: String,
    /// The neighbour that relays.
    pub via: Option<String>,
    pub hops: Option<u8>,
    pub address: Option<String>,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", short(&self.id), self.path)?;
        if let Some(via) = &self.via {
            write!(f, " via {}", short(via))?;
        }
        if let Some(hops) = self.hops.filter(|&hops| hops > 1) {
            write!(f, ", {hops} hops")?;
        }
        match &self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

/// One round trip to a node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pinged {
    pub path: Path,
    /// How long the session took, where there was none.
    pub connected_in_us: Option<u64>,
    /// None where no answer came in time.
    pub rtt_us: Option<u64>,
}

/// `net trace`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Trace {
    pub id: String,
    pub hops: Vec<Hop>,
    /// The whole way.
    pub rtt_us: u64,
}

/// One node on the way.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hop {
    pub hop: u8,
    /// None where this node does not know who it is.
    pub id: Option<String>,
    /// Round trip from here to there.
    pub rtt_us: Option<u64>,
    pub rtt_variance_us: Option<u64>,
    pub address: Option<String>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "to {}: {} hop{}, {}",
            short(&self.id),
            self.hops.len(),
            s(self.hops.len()),
            micros(Some(self.rtt_us))
        )?;
        for hop in &self.hops {
            let who = hop.id.as_deref().map_or("?", short);
            write!(f, "\n{:>3}  {who:<SHORT$}  {:>10}", hop.hop, micros(hop.rtt_us))?;
            if let Some(variance) = hop.rtt_variance_us {
                write!(f, " +- {}", micros(Some(variance)))?;
            }
            if let Some(address) = &hop.address {
                write!(f, "  {address}")?;
            }
        }
        if self.hops.iter().any(|hop| hop.id.is_none()) {
            f.write_str(
                "\n(? this node knows its own neighbours and how far the last node is, not who stands between)",
            )?;
        }
        Ok(())
    }
}

impl Record for Trace {
    const KIND: &'static str = "trace";
}

/// `net doctor`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Doctor {
    /// Whether nothing is to be changed.
    pub well: bool,
    pub checks: Vec<Finding>,
    pub paths: Vec<PathFinding>,
}

/// Something that was looked at.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub name: String,
    /// ok, warning or wrong.
    pub verdict: String,
    pub found: String,
    pub change: Vec<String>,
}

/// A node, and why it is not reached directly.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PathFinding {
    pub id: String,
    /// direct, known (over others, and there is no session), relayed or none.
    pub path: String,
    pub via: Option<String>,
    pub why: String,
    pub change: Vec<String>,
}

impl fmt::Display for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{:<8} {:<10} {}", check.verdict, check.name, wrap(&check.found, 20))?;
            changes(f, &check.change)?;
        }
        if self.paths.is_empty() {
            writeln!(f, "\nno other node is known")?;
        } else {
            writeln!(f, "\npaths")?;
        }
        for path in &self.paths {
            writeln!(f, "{:<8} {}  {}", path.path, short(&path.id), wrap(&path.why, 20))?;
            changes(f, &path.change)?;
        }
        f.write_str(if self.well {
            "\nnothing to change"
        } else {
            "\nsee the lines with => for what would change it"
        })
    }
}

fn changes(f: &mut fmt::Formatter<'_>, changes: &[String]) -> fmt::Result {
    for change in changes {
        writeln!(f, "         => {}", wrap(change, 12))?;
    }
    Ok(())
}

impl Record for Doctor {
    const KIND: &'static str = "doctor";
}

/// A channel that may be published to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Taken {
    pub channel: String,
    pub subscribers: usize,
}

/// `net pub`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Published {
    pub channel: String,
    pub lines: u64,
    pub bytes: u64,
    pub subscribers: Vec<Delivery>,
}

/// What became of the lines for one subscriber.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery {
    pub id: String,
    /// Lines that were sent to it.
    pub lines: u64,
    /// Whether its node has handed all of them over.
    pub confirmed: bool,
    /// Whether it went away by itself.
    pub left: bool,
    /// Why not.
    pub why: Option<String>,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.subscribers.len();
        write!(
            f,
            "{} line{} ({}) published on {} to {to} subscriber{}",
            self.lines,
            s(usize::try_from(self.lines).unwrap_or(usize::MAX)),
            crate::output::bytes(self.bytes),
            self.channel,
            s(to)
        )?;
        for delivery in &self.subscribers {
            let lines = usize::try_from(delivery.lines).unwrap_or(usize::MAX);
            write!(f, "\n  {}  {lines} line{}, ", short(&delivery.id), s(lines))?;
            match (&delivery.why, delivery.confirmed) {
                (_, true) => f.write_str("all handed over")?,
                (Some(why), false) => f.write_str(why)?,
                (None, false) => f.write_str("not confirmed")?,
            }
        }
        Ok(())
    }
}

impl Record for Published {
    const KIND: &'static str = "published";
}

/// Seconds for people.
struct Span(f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0) as u64;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, minutes) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, hours, minutes) => write!(f, "{hours} h {minutes} min"),
            (days, hours, _) => write!(f, "{days} d {hours} h"),
        }
    }
}

/// Microseconds as milliseconds.
pub fn micros(us: Option<u64>) -> String {
    us.map_or_else(|| "-".into(), |us| format!("{:.3} ms", us as f64 / 1e3))
}

fn number(count: Option<u64>) -> String {
    count.map_or_else(|| "-".into(), |count| count.to_string())
}

fn percent(permille: u16) -> String {
    format!("{:.0} %", f64::from(permille) / 10.0)
}

const fn s(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        for (seconds, text) in [
            (0.4, "0 s"),
            (59.9, "59 s"),
            (61.0, "1 min 1 s"),
            (3_600.0, "1 h 0 min"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_known_is_no_figure() {
        let peer = Peer::dialling("ab".repeat(32), vec!["192.0.2.1:7".into()], Some("config".into()));
        let text = Peers { peers: vec![peer] }.to_string();
        let row = text.lines().nth(1).expect("a row");
        assert_eq!(row.split_whitespace().filter(|word| *word == "-").count(), 7, "{row}");
        assert!(row.ends_with("192.0.2.1:7"), "{row}");
        assert_eq!(
            serde_json::to_string(&Peers { peers: Vec::new() }).expect("JSON"),
            r#"{"peers":[]}"#
        );
    }

    #[test]
    fn an_unknown_hop_is_shown_as_such() {
        let hop = |hop, id: Option<&str>| Hop {
            hop,
            id: id.map(str::to_owned),
            rtt_us: None,
            rtt_variance_us: None,
            address: None,
        };
        let trace = Trace {
            id: "cc".repeat(32),
            hops: vec![hop(1, Some("aa")), hop(2, None), hop(3, Some("cc"))],
            rtt_us: 3_000,
        };
        let text = trace.to_string();
        assert!(text.contains("3 hops, 3.000 ms") && text.contains("  2  ?"), "{text}");
    }
}
