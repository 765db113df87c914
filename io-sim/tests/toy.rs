//! A toy host in the world: what the world promises to anything that speaks the kernel's contract, kernel or not.

use net_io_sim::history::Fact;
use net_io_sim::host::{Host, Start};
use net_io_sim::run::{Report, Spec, Verdict, run, run_briefly, run_recorded, run_twice};
use net_kernel::api::{Command, Deadline, Dest, Event, Input, Io, Messages, Refused, Why};
use net_kernel::base::{Addr, Duration, EntityId, Instant, Now, StreamId};
use net_kernel::session::{Part, SessionKey};
use net_kernel::wire::Reliability;

/// Sends every message once in a datagram of its own, and repeats it until it is acknowledged. One peer, one stream.
/// `BUG` plants a mistake.
struct Toy<const BUG: u8> {
    me: EntityId,
    peer: Option<(EntityId, Addr)>,
    allowed: Vec<EntityId>,
    outgoing: Vec<Vec<u8>>,
    acked: usize,
    expected: u64,
    opened: bool,
    finish: bool,
    digest: blake3::Hasher,
    turns: u64,
    retry: Instant,
    label: u16,
}

const NONE: u8 = 0;
const DELIVERS_TWICE: u8 = 1;
const FORGETS_ONE: u8 = 2;
const AMPLIFIES: u8 = 3;
const READS_TIME: u8 = 4;
const LEAKS: u8 = 5;
const MISNAMES: u8 = 6;
const KEEPS_KEYS: u8 = 7;
const REFUSES: u8 = 8;
const IGNORES: u8 = 9;
const NAMES_NOBODY: u8 = 10;
const LOOPS: u8 = 11;
const PADS_BY_CONTENT: u8 = 12;
const PACES_BY_IDENTITY: u8 = 13;

/// Hides application data from a reader of the link; its own inverse.
fn hide(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x5A).collect()
}

/// A datagram dressed as a protected packet: header with session id 9, toy fields, padding up to the tag.
fn dress(counter: u64, kind: u8, from: &EntityId, label: u16, body: &[u8]) -> Vec<u8> {
    use net_kernel::wire::{HEADER_LEN, Header};
    let header = Header {
        counter,
        session: net_kernel::base::SessionId(9),
        ..Header::default()
    };
    let mut out = [0; HEADER_LEN];
    header.encode(&mut out);
    let front = [&out[..], &[kind], &label.to_le_bytes(), &from.0, body].concat();
    let tag = blake3::hash(&front);
    [&front[..], &tag.as_bytes()[..16]].concat()
}

impl<const BUG: u8> Toy<BUG> {
    fn session() -> SessionKey {
        SessionKey(1)
    }

    fn put(&mut self, io: &mut dyn Io, to: Addr, bytes: &[u8]) {
        self.digest.update(bytes);
        if let Some(slot) = io.reserve(Dest { to, ecn: false }, bytes.len()) {
            slot.copy_from_slice(bytes);
            io.commit(bytes.len());
        }
    }

    fn push(&mut self, io: &mut dyn Io) {
        let Some((_, to)) = self.peer else { return };
        let until = self.outgoing.len().min(self.acked + 8);
        for index in self.acked..until {
            let hidden = if BUG == LEAKS {
                self.outgoing[index].clone()
            } else {
                hide(&self.outgoing[index])
            };
            let body = [&(index as u64).to_le_bytes()[..], &hidden].concat();
            let packet = dress(
                self.turns * 64 + (index - self.acked) as u64,
                1,
                &self.me,
                self.label,
                &body,
            );
            self.put(io, to, &packet);
        }
        if self.finish && self.acked == self.outgoing.len() {
            let packet = dress(self.turns * 64 + 63, 3, &self.me, self.label, &[]);
            self.put(io, to, &packet);
        }
    }

    fn receive(&mut self, from: Addr, bytes: &[u8], io: &mut dyn Io) {
        if BUG == AMPLIFIES && self.peer.is_none_or(|(_, address)| address != from) {
            for n in 0..4 {
                let packet = dress((1 << 40) + self.turns * 64 + n, 9, &self.me, 0, bytes);
                self.put(io, from, &packet);
            }
        }
        let Some((front, tag)) = bytes.split_last_chunk::<16>() else {
            return;
        };
        let Some(body) = front.get(64..).filter(|_| blake3::hash(front).as_bytes()[..16] == *tag) else {
            return;
        };
        let Some((head, rest)) = body.split_first_chunk::<35>() else {
            return;
        };
        let (kind, label) = (head[0], u16::from_le_bytes([head[1], head[2]]));
        let Ok(peer) = head[3..].try_into().map(EntityId) else {
            return;
        };
        if self.peer.is_none() && kind <= 3 {
            self.peer = Some((peer, from));
            let peer = match BUG {
                MISNAMES => *self.allowed.last().expect("the scenario allows somebody else"),
                NAMES_NOBODY => EntityId([7; 32]),
                _ => peer,
            };
            io.event(Event::Connected {
                session: Self::session(),
                peer,
                address: from,
                command: None,
            });
        }
        match kind {
            1 => self.message(peer, from, label, rest, io),
            2 => {
                let acked = rest.first_chunk().map_or(0, |n| u64::from_le_bytes(*n) as usize);
                if acked <= self.outgoing.len() {
                    self.acked = self.acked.max(acked);
                }
            }
            3 if self.opened => {
                self.opened = false;
                io.event(Event::Finished {
                    session: Self::session(),
                    stream: StreamId(1),
                });
            }
            _ => {}
        }
    }

    fn message(&mut self, peer: EntityId, from: Addr, label: u16, rest: &[u8], io: &mut dyn Io) {
        let (Some(number), Some(bytes)) = (rest.first_chunk(), rest.get(8..)) else {
            return;
        };
        let number = u64::from_le_bytes(*number);
        let (bytes, stream, session) = (&hide(bytes)[..], StreamId(1), Self::session());
        if !self.opened && self.expected == 0 {
            self.opened = true;
            io.event(Event::StreamOpened {
                session: Self::session(),
                stream: StreamId(1),
                reliability: Reliability::Reliable,
                subprotocol: label,
                credit: 0,
            });
        }
        let again = BUG == DELIVERS_TWICE && number + 1 == self.expected && number == 5;
        if number == self.expected || again {
            let part = Part {
                peer,
                session,
                stream,
                subprotocol: 0,
                number,
                offset: 0,
                end: true,
                bytes,
            };
            if !(BUG == FORGETS_ONE && number == 7) {
                io.deliver(part);
            }
            self.expected = number + 1;
        }
        let counter = self.turns * 64 + 32 + number % 16;
        let mut body = self.expected.to_le_bytes().to_vec();
        if BUG == PADS_BY_CONTENT {
            body.resize(body.len() + usize::from(bytes[9] & 1), 0);
        }
        let ack = dress(counter, 2, &self.me, label, &body);
        self.put(io, from, &ack);
    }

    fn command(&mut self, id: net_kernel::base::CommandId, command: Command<'_>, io: &mut dyn Io) {
        match command {
            Command::Connect { peer, addresses } => {
                self.peer = Some((peer, addresses[0]));
                let connected = Event::Connected {
                    session: Self::session(),
                    peer,
                    address: addresses[0],
                    command: Some(id),
                };
                io.event(connected);
            }
            Command::Open { session, options } => {
                self.label = options.subprotocol;
                io.event(Event::Opened {
                    command: id,
                    session,
                    stream: StreamId(1),
                    credit: 1 << 30,
                });
            }
            Command::Send { .. } if BUG == IGNORES => {}
            Command::Send { .. } if BUG == REFUSES => io.event(Event::Refused {
                command: id,
                why: Refused::BadArgument,
            }),
            Command::Rekey { session } => io.event(Event::Rekeyed { session }),
            Command::Send { messages, .. } => match messages {
                Messages::One(one) => self.outgoing.push(one.to_vec()),
                Messages::Framed { bytes, ends } => {
                    let mut start = 0;
                    for &end in ends {
                        self.outgoing.push(bytes[start..end as usize].to_vec());
                        start = end as usize;
                    }
                }
                Messages::Many(_) | Messages::Chunks { .. } => unreachable!("the world sends one or framed"),
            },
            Command::Finish { .. } => self.finish = true,
            Command::Reset { .. }
            | Command::Stop { .. }
            | Command::Consumed { .. }
            | Command::Echo { .. }
            | Command::Close { .. }
            | Command::Allow(_)
            | Command::Join { .. }
            | Command::Leave(_)
            | Command::Describe { .. }
            | Command::CancelConnect(_)
            | Command::Shutdown => {}
        }
    }
}

impl<const BUG: u8> Host for Toy<BUG> {
    fn entity(identity: &[u8; 32]) -> EntityId {
        EntityId(*identity)
    }

    fn boot(start: Start, now: Now) -> Result<Self, String> {
        Ok(Self {
            me: EntityId(start.identity),
            peer: None,
            allowed: start.allow.unwrap_or_default(),
            outgoing: Vec::new(),
            acked: 0,
            expected: 0,
            opened: false,
            finish: false,
            digest: blake3::Hasher::new(),
            turns: 0,
            retry: now.mono,
            label: 0,
        })
    }

    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline> {
        self.turns += 1;
        self.digest.update(&now.mono.as_nanos().to_le_bytes());
        if BUG == READS_TIME {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .expect("now is after 1970");
            self.digest.update(&now.as_nanos().to_le_bytes());
        }
        match input {
            Input::Datagrams(mut batch) => {
                while let Some(spot) = batch.advance() {
                    let datagram = batch.at(spot);
                    self.receive(datagram.from, datagram.bytes, io);
                }
            }
            Input::Command(id, command) => self.command(id, command, io),
            Input::Wake
            | Input::Stored(..)
            | Input::Worked(..)
            | Input::Link(_)
            | Input::Segment(_)
            | Input::TxReady => {}
        }
        if now.mono >= self.retry {
            self.push(io);
            self.retry = now.mono + Duration::from_millis(50);
            if BUG == PACES_BY_IDENTITY {
                self.retry = self.retry + Duration::from_nanos(u64::from(self.me.0[0]));
            }
        }
        Some(Deadline {
            at: if BUG == LOOPS { now.mono } else { self.retry },
            why: Why::Session,
        })
    }

    fn digest(&self) -> [u8; 32] {
        *self.digest.finalize().as_bytes()
    }

    fn turns(&self) -> u64 {
        self.turns
    }

    fn opens(&self, _packet: &[u8]) -> bool {
        BUG == KEEPS_KEYS
    }
}

const SPEC: &str = r#"
schema = 1
name = "toy"
duration = "60s"
[topology]
nodes = [ { id = "a" }, { id = "b" } ]
[topology.default_link]
delay = "10ms"
loss = 0.2
dup = 0.1
reorder = 0.1
[[workload]]
kind = "stream"
from = "a"
to = "b"
count = 40
size = [20, 200]
[[fault]]
kind = "partition"
at = "200ms"
for = "1s"
[liveness]
within = "10s"
"#;

fn spec(text: &str) -> Spec {
    Spec::new("toy.toml", text).expect("a correct scenario")
}

#[test]
fn a_correct_toy_passes_and_is_the_same_each_time() {
    let mut digests = Vec::new();
    for seed in 0..10 {
        let report = run_twice::<Toy<NONE>>(&spec(SPEC), seed);
        assert_eq!(report.verdict, Verdict::Pass, "{report:?}");
        assert!(report.counters["link.loss"] > 0 && report.counters["link.partition"] > 0);
        digests.push(report.digest);
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 10, "seeds differ");
}

fn killer<const BUG: u8>(text: &str) -> String {
    let spec = spec(text);
    let failed = (0..30)
        .map(|seed| run::<Toy<BUG>>(&spec, seed))
        .find(|report| report.verdict == Verdict::Fail);
    failed.and_then(|report| report.checker).unwrap_or_default()
}

#[test]
fn planted_mistakes_are_found_by_the_checker_that_should() {
    assert_eq!(killer::<DELIVERS_TWICE>(SPEC), "stream-order");
    assert_eq!(killer::<FORGETS_ONE>(SPEC), "stream-order");
    assert_eq!(killer::<LEAKS>(SPEC), "canary");
}

#[test]
fn a_toy_that_amplifies_is_found() {
    let flood = "[[adversary]]\nkind = \"garbage\"\nto = \"a\"\ncount = 50\n[liveness]";
    let flood = SPEC.replace("[liveness]", flood);
    assert_eq!(killer::<AMPLIFIES>(&flood), "amplification");
    assert_eq!(killer::<NONE>(&flood), "", "a correct toy under garbage");
}

#[test]
fn what_an_observer_learns_from_lengths_or_times_is_found_where_two_runs_are_held_against_each_other() {
    let asked = format!("{SPEC}[check]\nsame_shape = true\n");
    assert_eq!(killer::<NONE>(&asked), "");
    for told in [killer::<PADS_BY_CONTENT>, killer::<PACES_BY_IDENTITY>] {
        assert_eq!(told(SPEC), "", "one run alone shows nothing");
        assert_eq!(told(&asked), "same-shape");
    }
    let mut forced = spec(SPEC);
    forced.same_shape = true;
    let report = run::<Toy<PADS_BY_CONTENT>>(&forced, 1);
    assert_eq!(report.checker.as_deref(), Some("same-shape"));
    assert!(!report.log.is_empty(), "the last events are kept");
    let (plain, asked) = (run::<Toy<NONE>>(&spec(SPEC), 1), run::<Toy<NONE>>(&spec(&asked), 1));
    assert_eq!(
        (plain.digest, plain.counters),
        (asked.digest, asked.counters),
        "the run that is reported is the usual one"
    );
}

#[test]
fn a_toy_that_reads_the_clock_is_not_deterministic() {
    let report = run_twice::<Toy<READS_TIME>>(&spec(SPEC), 1);
    assert_eq!(report.verdict, Verdict::NotDeterministic);
    assert_eq!(report.verdict.exit_code(), 2);
}

#[test]
fn a_peer_that_restarts_and_reads_its_old_stream_again_is_found() {
    let crash = "[[fault]]\nkind = \"crash\"\nnode = \"b\"\nat = \"100ms\"\nfor = \"50ms\"\n[liveness]";
    assert_eq!(killer::<NONE>(&SPEC.replace("[liveness]", crash)), "stream-order");
}

#[test]
fn what_never_arrives_is_a_liveness_failure_with_a_diagnosis_and_the_last_events() {
    let text = SPEC
        .replace("for = \"1s\"", "")
        .replace("within = \"10s\"", "within = \"1ms\"");
    let report = run::<Toy<NONE>>(&spec(&text), 3);
    assert_eq!(report.checker.as_deref(), Some("liveness"), "{report:?}");
    assert!(
        report
            .failure
            .is_some_and(|failure| failure.contains("of 40 messages arrived"))
    );
    assert!(!report.log.is_empty(), "the last events are kept");
}

#[test]
fn a_violation_is_written_with_the_turn_it_was_seen_in_and_leads_back_to_a_sending() {
    let recorded = (0..30).map(|seed| run_recorded::<Toy<DELIVERS_TWICE>>(&spec(SPEC), seed, usize::MAX, false));
    let failed = recorded.into_iter().find(|(report, _)| report.verdict == Verdict::Fail);
    let (report, history) = failed.expect("some seed finds it");
    let history = history.expect("the scenario can be read");
    assert_eq!(report.checker.as_deref(), Some("stream-order"));
    let violation = history.violation().expect("the violation is written");
    let cone = history.cone(violation.id);
    let facts: Vec<&Fact> = cone.iter().filter_map(|id| Some(&history.get(*id)?.what)).collect();
    assert!(facts.iter().any(|fact| matches!(fact, Fact::Turn { .. })), "{facts:#?}");
    assert!(facts.iter().any(|fact| matches!(fact, Fact::Sent { .. })), "{facts:#?}");
    assert_eq!(violation.node, Some(1), "the reader saw it");
}

#[test]
fn a_session_in_the_name_of_another_machine_is_found() {
    let three = r#"nodes = [ { id = "a" }, { id = "b", allow = ["a", "c"] }, { id = "c" } ]"#;
    let text = SPEC.replace(r#"nodes = [ { id = "a" }, { id = "b" } ]"#, three);
    assert_ne!(text, SPEC);
    assert_eq!(killer::<NONE>(&text), "", "its own name is right");
    assert_eq!(killer::<MISNAMES>(&text), "identity");
    assert_eq!(killer::<NAMES_NOBODY>(&text), "identity");
}

#[test]
fn memory_that_opens_what_was_sealed_under_replaced_keys_is_found() {
    let text = r#"
schema = 1
name = "toy-thief"
duration = "60s"
[topology]
nodes = [ { id = "a" }, { id = "b" } ]
[topology.default_link]
delay = "10ms"
[config]
previous_drain = "1s"
[[workload]]
kind = "stream"
from = "a"
to = "b"
count = 40
size = 100
[[workload]]
kind = "rekey"
from = "a"
to = "b"
at = "10s"
every = "1s"
count = 1
[[adversary]]
kind = "reveal"
node = "a"
at = "40s"
"#;
    let report = run::<Toy<NONE>>(&spec(text), 1);
    assert_eq!(report.verdict, Verdict::Pass, "{report:?}");
    assert!(report.counters["reveal.past"] > 0, "the thief recorded old packets");
    assert_eq!(killer::<KEEPS_KEYS>(text), "forward-secrecy");
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    assert_eq!(killer::<REFUSES>(SPEC), "refused");
}

#[test]
fn a_run_of_too_many_events_is_out_of_time() {
    let report = run_briefly::<Toy<NONE>>(&spec(SPEC), 1, 10);
    assert_eq!(report.checker.as_deref(), Some("out-of-time"), "{report:?}");
    assert_eq!(report.verdict, Verdict::OutOfTime);
    assert_eq!(report.verdict.exit_code(), 4);
}

#[test]
fn a_bound_on_times_that_is_missed_or_never_measured_is_a_failure() {
    let bound = |slo: &str| format!("{SPEC}[check]\nslo = {{ {slo} }}\n");
    assert_eq!(killer::<NONE>(&bound(r#""delivery.p99" = "60s""#)), "");
    assert_eq!(killer::<NONE>(&bound(r#""delivery.p99" = "1ms""#)), "slo");
    assert_eq!(killer::<NONE>(&bound(r#""echo.p99" = "1s""#)), "slo");
}

#[test]
fn a_way_that_cannot_deliver_in_time_is_told_apart_from_being_stuck() {
    let diagnosis = |report: Report| {
        assert_eq!(report.checker.as_deref(), Some("liveness"), "{report:?}");
        report.failure.expect("a failure says why")
    };
    let far = SPEC.replace("delay = \"10ms\"", "delay = \"3h\"");
    let far = diagnosis(run::<Toy<NONE>>(&spec(&far), 1));
    assert!(
        far.contains("could not have recovered: the link from `a` to `b`"),
        "{far}"
    );
    let late = SPEC.replace("delay = \"10ms\"", "delay = \"6s\"");
    let late = diagnosis(run::<Toy<IGNORES>>(&spec(&late), 1));
    assert!(
        late.contains("a round trip between `a` and `b` takes 12000 ms"),
        "{late}"
    );
    let slow = SPEC.replace("delay = \"10ms\"", "delay = \"10ms\"\nrate = \"1B/s\"\nqueue = \"1B\"");
    let slow = diagnosis(run::<Toy<NONE>>(&spec(&slow), 1));
    assert!(
        slow.contains("could not have recovered: the link from `a` to `b`"),
        "{slow}"
    );
    let idle = diagnosis(run::<Toy<IGNORES>>(&spec(SPEC), 1));
    assert!(idle.contains("it is stuck"), "{idle}");
}

#[test]
fn a_machine_that_wakes_for_ever_at_one_instant_is_found() {
    let report = run_briefly::<Toy<LOOPS>>(&spec(SPEC), 1, 1_000_000);
    assert_eq!(report.checker.as_deref(), Some("livelock"), "{report:?}");
}

#[test]
fn a_scenario_that_cannot_be_read_is_the_harness_fault_and_no_machine_s() {
    let mut broken = spec(SPEC);
    broken.text = SPEC.replace("kind = \"stream\"", "kind = \"steam\"");
    let report = run::<Toy<NONE>>(&broken, 1);
    assert_eq!(report.checker.as_deref(), Some("harness"), "{report:?}");
    assert_eq!(report.verdict, Verdict::Harness);
    assert_eq!(report.verdict.exit_code(), 3);
}
