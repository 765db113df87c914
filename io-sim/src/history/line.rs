//! The words of entries: a template and its arguments, from which a line is made here and in the page of `trace/`.
//!
//! A template's placeholders: `{n}` number, `{x}` number in hexadecimal, `{d}` machine, `{s}` text, `{a}` address, `{t}`
//! moment in ns, told in seconds, `{u}` duration in ns, told in microseconds.
//! Invariants: a line is one line whatever the entry holds; control characters of peers and scenarios are escaped; every
//! template belongs to facts of one name.
//! Not here: what happened (`fact.rs`).

use std::borrow::Cow;

use net_kernel::api::{CloseReason, ConnectError, Event, Fact as MeshFact, Scope, Why};
use net_kernel::base::{Addr, EntityId, StreamId};
use net_kernel::session::SessionKey;

use super::{Band, Entry, Fact, InputKind, Names, Order, StoreEnd};

/// One argument of a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Arg<'a> {
    /// For `{n}`, `{x}`, `{t}` and `{u}`.
    Number(u64),
    /// For `{d}`.
    Node(u32),
    /// For `{a}`.
    Address(Addr),
    /// For `{s}`.
    Text(Cow<'a, str>),
}

impl From<u64> for Arg<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Arg<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<SessionKey> for Arg<'_> {
    fn from(session: SessionKey) -> Self {
        Self::Number(session.0)
    }
}

impl From<StreamId> for Arg<'_> {
    fn from(stream: StreamId) -> Self {
        Self::Number(stream.0)
    }
}

impl From<Addr> for Arg<'_> {
    fn from(address: Addr) -> Self {
        Self::Address(address)
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Arg<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// A template and what fills it.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    /// Text with placeholders.
    pub template: &'static str,
    /// One per placeholder, in order.
    pub args: Vec<Arg<'a>>,
}

macro_rules! words {
    ($template:literal $(, $arg:expr)* $(,)?) => {
        Words { template: $template, args: vec![$(Arg::from($arg)),*] }
    };
}

/// Time, machine, what, ids.
pub(super) fn line(entry: &Entry, names: &Names) -> String {
    let (seconds, nanos) = (entry.at / 1_000_000_000, entry.at % 1_000_000_000);
    let place = entry.node.map_or("-", |node| names.node(node));
    let cause = entry.cause.map_or_else(String::new, |cause| format!(" < #{cause}"));
    let text = text(&entry.what, names);
    format!("{seconds:>4}.{nanos:09} {place:<4} {text}  [#{}{cause}]", entry.id)
}

/// What happened, in words.
pub(super) fn text(what: &Fact, names: &Names) -> String {
    let words = words(what, names);
    let mut parts = words.template.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (part, arg) in parts.zip(&words.args) {
        let (placeholder, rest) = part.split_once('}').unwrap_or((part, ""));
        match arg {
            Arg::Number(number) => match placeholder {
                "x" => text.push_str(&format!("{number:#x}")),
                "t" => text.push_str(&format!(
                    "{}.{:06} s",
                    number / 1_000_000_000,
                    number % 1_000_000_000 / 1_000
                )),
                "u" => text.push_str(&format!("{} us", number / 1_000)),
                _ => text.push_str(&number.to_string()),
            },
            Arg::Node(node) => text.push_str(names.node(*node)),
            Arg::Address(address) => text.push_str(&address.to_string()),
            Arg::Text(words) => text.push_str(words),
        }
        text.push_str(rest);
    }
    clean(text)
}

/// The words of a fact.
pub(crate) fn words<'a>(what: &'a Fact, names: &'a Names) -> Words<'a> {
    match what {
        Fact::Booted { process } => words!("boots (process {n})", *process),
        Fact::BootFailed => words!("cannot boot"),
        Fact::Crashed => words!("crashes"),
        Fact::Paused => words!("is paused"),
        Fact::Suspended => words!("is suspended"),
        Fact::Resumed => words!("runs on"),
        Fact::Rebound { to } => words!("gets the address {a}", *to),
        Fact::Turn { input, number } => turn(*input, *number),
        Fact::Timer { why } => words!("timer fires ({s})", why.map_or("none set", timer)),
        Fact::Sent { .. } | Fact::Injected { .. } => sending(what, names),
        Fact::Held { packet, until } => words!("datagram {n} is held back until {t}", *packet, *until),
        Fact::Doubled { packet } => words!("datagram {n} is duplicated", *packet),
        Fact::Damaged {
            packet,
            adversary: None,
        } => words!("datagram {n} is damaged", *packet),
        Fact::Damaged {
            packet,
            adversary: Some(who),
        } => {
            words!(
                "datagram {n} is changed by adversary {s}",
                *packet,
                villain(*who, names)
            )
        }
        Fact::Delivered { from, len, packet: 0 } => {
            words!("is handed a forged datagram from {a}: {n} B", *from, *len)
        }
        Fact::Delivered { from, len, packet } => words!("is handed datagram {n} from {a}: {n} B", *packet, *from, *len),
        Fact::Waits { packet } => words!("datagram {n} waits in the socket", *packet),
        Fact::Dropped { packet: 0, cause } => words!("a forged datagram is dropped: {s}", *cause),
        Fact::Dropped { packet, cause } => words!("datagram {n} is dropped: {s}", *packet, *cause),
        Fact::Refused { reason, count: 1 } => words!("refuses: {s}", reason.name()),
        Fact::Refused { reason, count } => words!("refuses: {s} ({n} times)", reason.name(), *count),
        Fact::Command(order) => command(order),
        Fact::Told(event) => told(event, names),
        Fact::Message {
            session,
            stream,
            number,
            len,
        } => {
            words!(
                "has message {n} whole: {n} B on session {n} stream {x}",
                *number,
                *len,
                *session,
                *stream
            )
        }
        Fact::JobBegun { job } => words!("job {x} begins", *job),
        Fact::JobFinished { job } => words!("job {x} is done", *job),
        Fact::StoreBegun {
            cell, write: Some(len), ..
        } => words!("writes {n} B to {s}", *len, *cell),
        Fact::StoreBegun { cell, write: None, .. } => words!("reads {s}", *cell),
        Fact::StoreFinished { end, .. } => stored(end),
        Fact::WorkloadBegins { workload } => words!("workload {s} begins", workload_name(*workload, names)),
        Fact::FaultBegins { fault } => words!("fault {s} begins", band(&names.faults, *fault)),
        Fact::FaultEnds { fault } => words!("fault {s} ends", band(&names.faults, *fault)),
        Fact::Backup { fault } => words!("its disk is copied for {s}", band(&names.faults, *fault)),
        Fact::AdversaryBegins { adversary } => words!("adversary {s} begins", band(&names.adversaries, *adversary)),
        Fact::Strike { adversary } => words!("adversary {s} acts", band(&names.adversaries, *adversary)),
        Fact::Healed => words!("every fault ends: the liveness phase begins"),
        Fact::Violation { checker, what } => words!("VIOLATION of {s}: {s}", &**checker, &**what),
    }
}

fn band(bands: &[Band], index: u32) -> String {
    let band = bands.get(index as usize);
    band.map_or_else(|| "?".to_owned(), |band| format!("{} ({})", band.id, band.kind))
}

fn workload_name(index: u32, names: &Names) -> &str {
    names.workloads.get(index as usize).map_or("?", String::as_str)
}

fn villain(index: u32, names: &Names) -> &str {
    names.adversaries.get(index as usize).map_or("?", |band| &band.id)
}

/// The template of a turn over several datagrams; its second argument is their number.
pub(crate) const BATCH: &str = "turn {n}: {n} datagrams";

fn turn(input: InputKind, number: u64) -> Words<'static> {
    match input {
        InputKind::Datagrams(1) => words!("turn {n}: a datagram", number),
        InputKind::Datagrams(count) => Words {
            template: BATCH,
            args: vec![number.into(), count.into()],
        },
        InputKind::Wake => words!("turn {n}: woken", number),
        InputKind::Command => words!("turn {n}: a command", number),
        InputKind::Stored => words!("turn {n}: storage answered", number),
        InputKind::Worked => words!("turn {n}: a job ended", number),
        InputKind::Link => words!("turn {n}: the network changed", number),
        InputKind::Segment => words!("turn {n}: at its segment of the network", number),
        InputKind::TxReady => words!("turn {n}: the transmitter is ready", number),
    }
}

const fn timer(why: Why) -> &'static str {
    match why {
        Why::Handshake => "handshake",
        Why::Peers => "peers",
        Why::Trust => "trust",
        Why::Mesh => "mesh",
        Why::Beacons => "beacons",
        Why::Session => "session",
    }
}

fn sending<'a>(what: &'a Fact, names: &'a Names) -> Words<'a> {
    if let Fact::Injected {
        adversary, peer, kind, ..
    } = what
    {
        return injected(what, villain(*adversary, names), peer.map(Arg::Node), kind.name());
    }
    let Fact::Sent {
        from,
        to,
        peer,
        len,
        kind,
        packet,
        nth,
    } = what
    else {
        unreachable!("only sendings are told here");
    };
    let kind = kind.name();
    match peer.zip(*nth) {
        Some((peer, nth)) => words!(
            "sends datagram {n} to {d} ({a}): {s}, {n} B, from {a}, number {n} of its link",
            *packet,
            Arg::Node(peer),
            *to,
            kind,
            *len,
            *from,
            nth
        ),
        None => words!(
            "sends datagram {n} to {a}: {s}, {n} B, from {a}",
            *packet,
            *to,
            kind,
            *len,
            *from
        ),
    }
}

fn injected<'a>(what: &'a Fact, who: &'a str, peer: Option<Arg<'a>>, kind: &'static str) -> Words<'a> {
    let Fact::Injected {
        from, to, len, packet, ..
    } = what
    else {
        unreachable!("only what adversaries send is told here");
    };
    match (peer, packet) {
        (Some(peer), 0) => {
            words!(
                "adversary {s} sends to {d} ({a}) as {a}: {s}, {n} B",
                who,
                peer,
                *to,
                *from,
                kind,
                *len
            )
        }
        (Some(peer), packet) => words!(
            "adversary {s} sends to {d} ({a}) as {a}: {s}, {n} B, a copy of datagram {n}",
            who,
            peer,
            *to,
            *from,
            kind,
            *len,
            *packet
        ),
        (None, _) => words!(
            "adversary {s} sends to {a} as {a}: {s}, {n} B",
            who,
            *to,
            *from,
            kind,
            *len
        ),
    }
}

fn stored(end: &StoreEnd) -> Words<'static> {
    match end {
        StoreEnd::Done => words!("storage: written"),
        StoreEnd::Value(Some(len)) => words!("storage: read {n} B", *len),
        StoreEnd::Value(None) => words!("storage: nothing there"),
        StoreEnd::Failed(error) => words!("storage failed: {s}", format!("{error:?}")),
    }
}

fn command(order: &Order) -> Words<'static> {
    match *order {
        Order::Connect { peer } => words!("command: connect to {d}", Arg::Node(peer)),
        Order::Open { session } => words!("command: open a stream on session {n}", session),
        Order::Send {
            session,
            stream,
            first,
            count: 1,
            bytes,
        } => {
            words!(
                "command: send message {n} ({n} B) on session {n} stream {x}",
                first,
                bytes,
                session,
                stream
            )
        }
        Order::Send {
            session,
            stream,
            first,
            count,
            bytes,
        } => words!(
            "command: send messages {n} to {n} ({n} B) on session {n} stream {x}",
            first,
            (first + count).saturating_sub(1),
            bytes,
            session,
            stream
        ),
        Order::Finish { session, stream } => words!("command: finish session {n} stream {x}", session, stream),
        Order::Reset { session, stream } => words!("command: reset session {n} stream {x}", session, stream),
        Order::Stop { session, stream } => words!("command: stop session {n} stream {x}", session, stream),
        Order::Consumed {
            session,
            stream,
            bytes,
            messages,
        } => {
            words!(
                "command: read {n} B, {n} messages of session {n} stream {x}",
                bytes,
                messages,
                session,
                stream
            )
        }
        Order::Echo { session } => words!("command: echo on session {n}", session),
        Order::Rekey { session } => words!("command: rekey session {n}", session),
        Order::Close { session } => words!("command: close session {n}", session),
    }
}

fn told<'a>(event: &'a Event, names: &'a Names) -> Words<'a> {
    match event {
        Event::Connected {
            session,
            peer,
            address,
            command,
        } => {
            let how = if command.is_some() { "dialled" } else { "accepted" };
            words!(
                "event: session {n} with {s} at {a} is up ({s})",
                *session,
                entity(peer, names),
                *address,
                how
            )
        }
        Event::ConnectFailed { peer, why, .. } => {
            words!(
                "event: no session with {s}: {s}",
                entity(peer, names),
                connect_error(*why)
            )
        }
        Event::Closed { session, peer, why } => {
            words!(
                "event: session {n} with {s} is down: {s}",
                *session,
                entity(peer, names),
                close_reason(why)
            )
        }
        Event::Opened { .. }
        | Event::StreamOpened { .. }
        | Event::Writable { .. }
        | Event::Finished { .. }
        | Event::Flushed { .. }
        | Event::StreamReset { .. }
        | Event::StreamStopped { .. } => of_stream(event),
        Event::Echo { session, rtt, .. } => words!("event: echo on session {n}: {u}", *session, rtt.as_nanos()),
        Event::Rekeyed { session } => words!("event: session {n} has new keys", *session),
        Event::Moved { session, address } => words!("event: the peer of session {n} moved to {a}", *session, *address),
        Event::StateRolledBack { peer, known } => {
            words!(
                "event: {s} knows a later epoch of this node: {n}",
                entity(peer, names),
                known.0
            )
        }
        Event::Refused { why, .. } => words!("event: command refused: {s}", format!("{why:?}")),
        Event::Mesh(fact) => words!("event: {s}", mesh(fact, names)),
        Event::StoreFailed { error } => words!("event: storage failed: {s}", format!("{error:?}")),
    }
}

fn mesh(fact: &MeshFact, names: &Names) -> String {
    let name = |node: &EntityId| entity(node, names);
    match fact {
        MeshFact::Found { node, route } => format!(
            "{} is reached by {} in {} hops and {} us",
            name(node),
            name(&route.next),
            route.hops,
            route.rtt_us
        ),
        MeshFact::Lost(node) => format!("{} is reached no more", name(node)),
        MeshFact::Suspected(peer) => format!("{} was not heard for three intervals", name(peer)),
        MeshFact::Refuted(peer) => format!("{} was heard after all", name(peer)),
        MeshFact::Failed(peer) => format!("{} failed", name(peer)),
        MeshFact::LinkLost(peer) => format!("the link to {} failed", name(peer)),
        MeshFact::Recovered(peer) => format!("{} works again", name(peer)),
        MeshFact::Outage(outage) => format!(
            "{} of {} neighbours failed and {} of {} nodes were lost together: {}",
            outage.failed,
            outage.of,
            outage.lost,
            outage.reached,
            match outage.scope {
                Scope::Ourselves => "no neighbour is left".to_owned(),
                Scope::Neighbours => "around this one".to_owned(),
                Scope::Behind(neighbour) => format!("behind {}", name(&neighbour)),
                Scope::Elsewhere => "elsewhere".to_owned(),
            }
        ),
        MeshFact::OutageOver(outage) => format!("the outage since {} is over", outage.since),
        MeshFact::Collision(two) => format!(
            "{} shares its label with {} and cannot be routed to",
            name(&two.unroutable),
            name(&two.holder)
        ),
    }
}

fn of_stream(event: &Event) -> Words<'_> {
    match event {
        Event::Opened {
            session,
            stream,
            credit,
            ..
        } => {
            words!(
                "event: stream {x} of session {n} opened, credit {n}",
                *stream,
                *session,
                *credit
            )
        }
        Event::StreamOpened {
            session,
            stream,
            reliability,
            ..
        } => {
            words!(
                "event: the peer opened stream {x} of session {n} ({s})",
                *stream,
                *session,
                debug(reliability)
            )
        }
        Event::Writable { session, stream, bytes } => {
            words!(
                "event: stream {x} of session {n} takes {n} B more",
                *stream,
                *session,
                *bytes
            )
        }
        Event::Finished { session, stream } => {
            words!("event: the peer finished stream {x} of session {n}", *stream, *session)
        }
        Event::Flushed { session, stream } => {
            words!("event: stream {x} of session {n} is flushed", *stream, *session)
        }
        Event::StreamReset { session, stream, code } => {
            words!(
                "event: the peer reset stream {x} of session {n}, code {n}",
                *stream,
                *session,
                *code
            )
        }
        Event::StreamStopped { session, stream, code } => {
            words!(
                "event: the peer stopped stream {x} of session {n}, code {n}",
                *stream,
                *session,
                *code
            )
        }
        Event::Connected { .. }
        | Event::ConnectFailed { .. }
        | Event::Closed { .. }
        | Event::Echo { .. }
        | Event::Rekeyed { .. }
        | Event::Moved { .. }
        | Event::StateRolledBack { .. }
        | Event::Refused { .. }
        | Event::Mesh(_)
        | Event::StoreFailed { .. } => unreachable!("only events of streams are told here"),
    }
}

fn debug(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

fn entity(entity: &EntityId, names: &Names) -> String {
    let owner = names.owner(entity);
    owner.map_or_else(|| format!("{entity}"), |node| names.node(node).to_owned())
}

fn connect_error(why: ConnectError) -> String {
    match why {
        ConnectError::Silent { sent, unreachable } => {
            let refused = if unreachable { ", refused" } else { "" };
            format!("silence after {sent} first messages{refused}")
        }
        ConnectError::PeerRolledBack => "the peer runs from an older state".to_owned(),
        ConnectError::Cancelled => "cancelled".to_owned(),
    }
}

fn close_reason(why: &CloseReason) -> String {
    match why {
        CloseReason::Local(code) => format!("closed here, {code:?}"),
        CloseReason::Remote { code, text } => format!("closed by the peer, {code:?} {text:?}"),
        CloseReason::TimedOut => "timed out".to_owned(),
        CloseReason::PeerRestarted => "the peer restarted".to_owned(),
    }
}

/// Escapes control characters, so that nothing a peer or a scenario says breaks a line.
fn clean(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
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
            what: "two\nlines\u{1b}[2J {n}".into(),
        };
        let entry = Entry {
            id: 7,
            at: 1_000_000_002,
            node: Some(0),
            cause: Some(3),
            what,
        };
        let line = line(&entry, &names);
        let expected = "   1.000000002 alice VIOLATION of slo: two\\nlines\\u{1b}[2J {n}  [#7 < #3]";
        assert_eq!(line, expected);
    }

    #[test]
    fn templates_are_filled_in_order_whatever_the_arguments_hold() {
        let names = Names {
            nodes: vec!["a{n}".to_owned(), "b".to_owned()],
            ..Names::default()
        };
        let from: Addr = ([10, 0, 0, 0], 4_000).into();
        let what = Fact::Sent {
            from,
            to: from,
            peer: Some(0),
            len: 64,
            kind: super::super::PacketKind::Initiation,
            packet: 5,
            nth: Some(2),
        };
        let expected =
            "sends datagram 5 to a{n} (10.0.0.0:4000): initiation, 64 B, from 10.0.0.0:4000, number 2 of its link";
        assert_eq!(text(&what, &names), expected);
    }
}
