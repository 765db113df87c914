//! One readable line per entry.
//!
//! Invariants: a line is one line whatever the entry holds; control characters of peers and scenarios are escaped.
//! Not here: what happened (`fact.rs`).

use net_kernel::api::{CloseReason, ConnectError, Event, Why};
use net_kernel::base::Addr;

use super::{Entry, Fact, InputKind, Names, Order, StoreEnd};

/// Time, machine, what, ids.
pub(super) fn line(entry: &Entry, names: &Names) -> String {
    let (seconds, nanos) = (entry.at / 1_000_000_000, entry.at % 1_000_000_000);
    let place = entry.node.map_or("-", |node| names.node(node));
    let cause = entry.cause.map_or_else(String::new, |cause| format!(" < #{cause}"));
    let text = clean(&text(&entry.what, names));
    format!("{seconds:>4}.{nanos:09} {place:<4} {text}  [#{}{cause}]", entry.id)
}

/// What happened, in words.
pub(super) fn text(what: &Fact, names: &Names) -> String {
    match what {
        Fact::Booted { process } => format!("boots (process {process})"),
        Fact::BootFailed => "cannot boot".to_owned(),
        Fact::Crashed => "crashes".to_owned(),
        Fact::Paused => "is paused".to_owned(),
        Fact::Suspended => "is suspended".to_owned(),
        Fact::Resumed => "runs on".to_owned(),
        Fact::Rebound { to } => format!("gets the address {to}"),
        Fact::Turn { input, number } => turn(*input, *number),
        Fact::Timer { why } => timer(*why),
        Fact::Sent {
            from,
            to,
            peer,
            len,
            kind,
            packet,
            nth,
        } => {
            let nth = nth.map_or_else(String::new, |nth| format!(", number {nth} of its link"));
            let (kind, to) = (kind.name(), place(*peer, to, names));
            format!("sends datagram {packet} to {to}: {kind}, {len} B, from {from}{nth}")
        }
        Fact::Injected {
            adversary,
            from,
            to,
            peer,
            len,
            kind,
            packet,
        } => {
            let copy = if *packet == 0 {
                String::new()
            } else {
                format!(", a copy of datagram {packet}")
            };
            let (who, kind, to) = (villain(*adversary, names), kind.name(), place(*peer, to, names));
            format!("adversary {who} sends to {to} as {from}: {kind}, {len} B{copy}")
        }
        Fact::Held { packet, until } => {
            let (seconds, micros) = (until / 1_000_000_000, until % 1_000_000_000 / 1_000);
            format!("{} is held back until {seconds}.{micros:06} s", datagram(*packet))
        }
        Fact::Doubled { packet } => format!("{} is duplicated", datagram(*packet)),
        Fact::Damaged {
            packet,
            adversary: None,
        } => format!("{} is damaged", datagram(*packet)),
        Fact::Damaged {
            packet,
            adversary: Some(who),
        } => {
            format!("{} is changed by adversary {}", datagram(*packet), villain(*who, names))
        }
        Fact::Delivered { from, len, packet } => format!("is handed {} from {from}: {len} B", datagram(*packet)),
        Fact::Waits { packet } => format!("{} waits in the socket", datagram(*packet)),
        Fact::Dropped { packet, cause } => format!("{} is dropped: {cause}", datagram(*packet)),
        Fact::Refused { reason, count } if *count == 1 => format!("refuses: {}", reason.name()),
        Fact::Refused { reason, count } => format!("refuses: {} ({count} times)", reason.name()),
        Fact::Command(order) => command(order, names),
        Fact::Told(event) => told(event, names),
        Fact::Message {
            session,
            stream,
            number,
            len,
        } => {
            format!(
                "has message {number} whole: {len} B on session {} stream {:#x}",
                session.0, stream.0
            )
        }
        Fact::JobBegun { job } => format!("job {job:#x} begins"),
        Fact::JobFinished { job } => format!("job {job:#x} is done"),
        Fact::StoreBegun {
            cell, write: Some(len), ..
        } => format!("writes {len} B to {cell}"),
        Fact::StoreBegun { cell, write: None, .. } => format!("reads {cell}"),
        Fact::StoreFinished { end, .. } => match end {
            StoreEnd::Done => "storage: written".to_owned(),
            StoreEnd::Value(Some(len)) => format!("storage: read {len} B"),
            StoreEnd::Value(None) => "storage: nothing there".to_owned(),
            StoreEnd::Failed(error) => format!("storage failed: {error:?}"),
        },
        Fact::WorkloadBegins { workload } => {
            let name = names.workloads.get(*workload as usize).map_or("?", String::as_str);
            format!("workload {name} begins")
        }
        Fact::FaultBegins { fault } => format!("fault {} begins", band(&names.faults, *fault)),
        Fact::FaultEnds { fault } => format!("fault {} ends", band(&names.faults, *fault)),
        Fact::Backup { fault } => format!("its disk is copied for {}", band(&names.faults, *fault)),
        Fact::AdversaryBegins { adversary } => format!("adversary {} begins", band(&names.adversaries, *adversary)),
        Fact::Strike { adversary } => format!("adversary {} acts", band(&names.adversaries, *adversary)),
        Fact::Healed => "every fault ends: the liveness phase begins".to_owned(),
        Fact::Violation { checker, what } => format!("VIOLATION of {checker}: {what}"),
    }
}

fn band(bands: &[super::Band], index: u32) -> String {
    let band = bands.get(index as usize);
    band.map_or_else(|| "?".to_owned(), |band| format!("{} ({})", band.id, band.kind))
}

fn turn(input: InputKind, number: u64) -> String {
    match input {
        InputKind::Datagrams(1) => format!("turn {number}: a datagram"),
        InputKind::Datagrams(count) => format!("turn {number}: {count} datagrams"),
        InputKind::Wake => format!("turn {number}: woken"),
        InputKind::Command => format!("turn {number}: a command"),
        InputKind::Stored => format!("turn {number}: storage answered"),
        InputKind::Worked => format!("turn {number}: a job ended"),
        InputKind::Link => format!("turn {number}: the network changed"),
        InputKind::TxReady => format!("turn {number}: the transmitter is ready"),
    }
}

fn timer(why: Option<Why>) -> String {
    let what = match why {
        Some(Why::Handshake) => "handshake",
        Some(Why::Peers) => "peers",
        Some(Why::Trust) => "trust",
        Some(Why::Session) => "session",
        None => "none set",
    };
    format!("timer fires ({what})")
}

fn datagram(packet: u64) -> String {
    match packet {
        0 => "a forged datagram".to_owned(),
        packet => format!("datagram {packet}"),
    }
}

fn villain(index: u32, names: &Names) -> &str {
    names.adversaries.get(index as usize).map_or("?", |band| &band.id)
}

fn place(peer: Option<u32>, address: &Addr, names: &Names) -> String {
    peer.map_or_else(
        || address.to_string(),
        |peer| format!("{} ({address})", names.node(peer)),
    )
}

fn command(order: &Order, names: &Names) -> String {
    match order {
        Order::Connect { peer } => format!("command: connect to {}", names.node(*peer)),
        Order::Open { session } => format!("command: open a stream on session {}", session.0),
        Order::Send {
            session,
            stream,
            first,
            count,
            bytes,
        } => {
            let which = match count {
                1 => format!("message {first}"),
                count => format!("messages {first} to {}", first + count - 1),
            };
            format!(
                "command: send {which} ({bytes} B) on session {} stream {:#x}",
                session.0, stream.0
            )
        }
        Order::Finish { session, stream } => format!("command: finish session {} stream {:#x}", session.0, stream.0),
        Order::Consumed {
            session,
            stream,
            bytes,
            messages,
        } => {
            format!(
                "command: read {bytes} B, {messages} messages of session {} stream {:#x}",
                session.0, stream.0
            )
        }
        Order::Echo { session } => format!("command: echo on session {}", session.0),
        Order::Rekey { session } => format!("command: rekey session {}", session.0),
        Order::Close { session } => format!("command: close session {}", session.0),
    }
}

fn told(event: &Event, names: &Names) -> String {
    let peer = |entity| {
        names
            .owner(entity)
            .map_or_else(|| format!("{entity}"), |node| names.node(node).to_owned())
    };
    match event {
        Event::Connected {
            session,
            peer: entity,
            address,
            command,
        } => {
            let how = if command.is_some() { "dialled" } else { "accepted" };
            format!(
                "event: session {} with {} at {address} is up ({how})",
                session.0,
                peer(entity)
            )
        }
        Event::ConnectFailed { peer: entity, why, .. } => {
            let why = match why {
                ConnectError::Silent { sent, unreachable } => {
                    let refused = if *unreachable { ", refused" } else { "" };
                    format!("silence after {sent} first messages{refused}")
                }
                ConnectError::PeerRolledBack => "the peer runs from an older state".to_owned(),
                ConnectError::Cancelled => "cancelled".to_owned(),
            };
            format!("event: no session with {}: {why}", peer(entity))
        }
        Event::Closed {
            session,
            peer: entity,
            why,
        } => {
            let why = match why {
                CloseReason::Local(code) => format!("closed here, {code:?}"),
                CloseReason::Remote { code, text } => format!("closed by the peer, {code:?} {text:?}"),
                CloseReason::TimedOut => "timed out".to_owned(),
                CloseReason::PeerRestarted => "the peer restarted".to_owned(),
            };
            format!("event: session {} with {} is down: {why}", session.0, peer(entity))
        }
        Event::Opened {
            session,
            stream,
            credit,
            ..
        } => {
            format!(
                "event: stream {:#x} of session {} opened, credit {credit}",
                stream.0, session.0
            )
        }
        Event::StreamOpened {
            session,
            stream,
            reliability,
            ..
        } => {
            format!(
                "event: the peer opened stream {:#x} of session {} ({reliability:?})",
                stream.0, session.0
            )
        }
        Event::Writable { session, stream, bytes } => {
            format!(
                "event: stream {:#x} of session {} takes {bytes} B more",
                stream.0, session.0
            )
        }
        Event::Finished { session, stream } => {
            format!(
                "event: the peer finished stream {:#x} of session {}",
                stream.0, session.0
            )
        }
        Event::Flushed { session, stream } => {
            format!(
                "event: all of stream {:#x} of session {} is acknowledged",
                stream.0, session.0
            )
        }
        Event::StreamReset { session, stream, code } => {
            format!(
                "event: the peer reset stream {:#x} of session {}, code {code}",
                stream.0, session.0
            )
        }
        Event::StreamStopped { session, stream, code } => {
            format!(
                "event: the peer stopped stream {:#x} of session {}, code {code}",
                stream.0, session.0
            )
        }
        Event::Echo { session, rtt, .. } => {
            format!("event: echo on session {}: {} us", session.0, rtt.as_nanos() / 1_000)
        }
        Event::Rekeyed { session } => format!("event: session {} has new keys", session.0),
        Event::Moved { session, address } => format!("event: the peer of session {} moved to {address}", session.0),
        Event::StateRolledBack { peer: entity, known } => {
            format!("event: {} knows a later epoch of this node: {}", peer(entity), known.0)
        }
        Event::Refused { why, .. } => format!("event: command refused: {why:?}"),
        Event::StoreFailed { error } => format!("event: storage failed: {error:?}"),
    }
}

/// Escapes control characters, so that nothing a peer or a scenario says breaks a line.
fn clean(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| {
                if c.is_control() {
                    c.escape_default().collect::<Vec<_>>()
                } else {
                    vec![c]
                }
            })
            .collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_with_time_place_and_ids() {
        let names = Names {
            nodes: vec!["alice".to_owned()],
            ..Names::default()
        };
        let what = Fact::Violation {
            checker: "slo".into(),
            what: "two\nlines\u{1b}[2J".into(),
        };
        let entry = Entry {
            id: 7,
            at: 1_000_000_002,
            node: Some(0),
            cause: Some(3),
            what,
        };
        let line = line(&entry, &names);
        assert!(
            line.contains("1.000000002 alice VIOLATION of slo: two\\nlines\\u{1b}[2J  [#7 < #3]"),
            "{line}"
        );
    }
}
