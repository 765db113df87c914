//! Ours: one kernel that sends bulk streams or receives them.
//!
//! Invariants: sender and receiver are two kernels that share nothing; the cipher does nothing, since only the link takes time.
//! Not here: the link (`run.rs`).

use super::end::{CHUNK, Datagram, End, Outbox, WINDOW};
use crate::kernel::host::{Chores, boot, clocks};
use crate::kernel::null::Null;
use net_kernel::Kernel;
use net_kernel::api::{
    Algorithm, Command, Dest, Ecn, Event, Input, Io, Job, Messages, Part, RxBatch, RxBuf, SessionConfig, StoreOp,
    StreamOptions, Tx,
};
use net_kernel::base::rng::{Seed, Stream};
use net_kernel::base::{Addr, CommandId, EntityId, Instant, JobId, SessionKey, StreamId, Ticket};
use std::collections::VecDeque;

/// What the kernel did during a turn.
#[derive(Default)]
struct Desk {
    outbox: Outbox,
    slot: Vec<u8>,
    ecn: u8,
    events: VecDeque<Event>,
    chores: Chores,
    parts: Vec<Delivered>,
}

/// Bytes of one stream that the application has yet to drain.
#[derive(Clone, Copy)]
struct Delivered {
    session: SessionKey,
    stream: StreamId,
    bytes: u64,
    messages: u64,
}

impl Tx for Desk {
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        self.slot.clear();
        self.slot.resize(len, 0);
        self.ecn = if to.ecn { 2 } else { 0 };
        Some(&mut self.slot)
    }

    fn commit(&mut self, len: usize) {
        let bytes = self.slot[..len].to_vec();
        self.outbox.push_back(Datagram { bytes, ecn: self.ecn });
    }
}

impl Io for Desk {
    fn store(&mut self, ticket: Ticket, op: StoreOp) {
        self.chores.store(ticket, op);
    }

    fn work(&mut self, id: JobId, job: Box<Job>) {
        self.chores.work(id, job);
    }

    fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    fn deliver(&mut self, part: Part<'_>) {
        self.parts.push(Delivered {
            session: part.session,
            stream: part.stream,
            bytes: part.bytes.len() as u64,
            messages: u64::from(part.end),
        });
    }
}

/// A kernel with its application.
pub struct KernelEnd {
    kernel: Kernel<Null>,
    desk: Desk,
    entropy: Stream,
    deadline: Option<Instant>,
    /// Whom to dial, and how many streams to fill.
    dial: Option<(EntityId, Addr, usize)>,
    session: Option<SessionKey>,
    /// Streams to fill and whether each took everything it was offered.
    sending: Vec<(StreamId, bool)>,
    receiving: Vec<StreamId>,
    delivered: Vec<u64>,
    addr: Addr,
}

/// The sender and the receiver of `streams` streams under one session.
#[must_use]
pub fn pair(algorithm: Algorithm, seed: u64, streams: usize) -> [Box<dyn End>; 2] {
    let receiver = KernelEnd::new(algorithm, seed, 2, None);
    let dial = (receiver.kernel.entity(), receiver.addr, streams);
    let sender = KernelEnd::new(algorithm, seed, 1, Some(dial));
    [Box::new(sender), Box::new(receiver)]
}

impl KernelEnd {
    fn new(algorithm: Algorithm, seed: u64, side: u8, dial: Option<(EntityId, Addr, usize)>) -> Self {
        let mut bytes = [side; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let seed = Seed::new(bytes);
        let config = SessionConfig {
            congestion: algorithm,
            stream_window: WINDOW,
            session_window: WINDOW,
            send_buffer: WINDOW,
            ..SessionConfig::default()
        };
        let boot = boot(&seed, config, 1);
        Self {
            kernel: Kernel::boot(boot, clocks(Instant::ZERO)).expect("the configuration is sound"),
            desk: Desk::default(),
            entropy: seed.fork("entropy"),
            deadline: None,
            dial,
            session: None,
            sending: Vec::new(),
            receiving: Vec::new(),
            delivered: Vec::new(),
            addr: ([10, 0, 0, side], 1_000).into(),
        }
    }

    fn turn(&mut self, now: u64, input: Input<'_>) {
        let deadline = self
            .kernel
            .turn(clocks(Instant::from_nanos(now)), input, &mut self.desk);
        self.deadline = deadline.map(|deadline| deadline.at);
    }

    fn command(&mut self, now: u64, command: Command<'_>) {
        self.turn(now, Input::Command(CommandId(u64::MAX), command));
    }

    /// Everything a turn left to do, until nothing is.
    fn settle(&mut self, now: u64) {
        loop {
            if let Some(input) = self.desk.chores.next(&mut self.entropy) {
                self.turn(now, input);
            } else if let Some(event) = self.desk.events.pop_front() {
                self.on_event(now, event);
            } else if !self.desk.parts.is_empty() {
                self.drain(now);
            } else if !self.fill(now) {
                return;
            }
        }
    }

    fn on_event(&mut self, now: u64, event: Event) {
        match event {
            Event::Connected { session, .. } => {
                self.session = Some(session);
                for _ in 0..self.dial.map_or(0, |(_, _, streams)| streams) {
                    let options = StreamOptions::default();
                    self.command(now, Command::Open { session, options });
                }
            }
            Event::Opened { stream, .. } => self.sending.push((stream, false)),
            Event::Writable { stream, .. } => {
                for (_, full) in self.sending.iter_mut().filter(|(known, _)| *known == stream) {
                    *full = false;
                }
            }
            Event::Closed { why, .. } => panic!("a session of a bulk stream ended: {why:?}"),
            Event::ConnectFailed { why, .. } => panic!("no session came about: {why:?}"),
            // The only commands refused are messages for which there is no room.
            Event::Refused {
                command: CommandId(index),
                ..
            } => {
                if let Some((_, full)) = self.sending.get_mut(usize::try_from(index).unwrap_or(usize::MAX)) {
                    *full = true;
                }
            }
            Event::StreamOpened { .. }
            | Event::Finished { .. }
            | Event::Flushed { .. }
            | Event::StreamReset { .. }
            | Event::StreamStopped { .. }
            | Event::Echo { .. }
            | Event::Rekeyed { .. }
            | Event::Moved { .. }
            | Event::Mesh(_)
            | Event::StateRolledBack { .. }
            | Event::StoreFailed { .. } => {}
        }
    }

    fn drain(&mut self, now: u64) {
        for part in std::mem::take(&mut self.desk.parts) {
            let known = self.receiving.iter().position(|stream| *stream == part.stream);
            let index = known.unwrap_or_else(|| {
                self.receiving.push(part.stream);
                self.delivered.push(0);
                self.receiving.len() - 1
            });
            self.delivered[index] += part.bytes;
            let command = Command::Consumed {
                session: part.session,
                stream: part.stream,
                bytes: part.bytes,
                messages: part.messages,
            };
            self.command(now, command);
        }
    }

    /// One more message for the first stream with room; false where none has any.
    fn fill(&mut self, now: u64) -> bool {
        let room = self.sending.iter().position(|(_, full)| !full);
        let (Some(session), Some(index)) = (self.session, room) else {
            return false;
        };
        let command = Command::Send {
            session,
            stream: self.sending[index].0,
            messages: Messages::One(&[0x5a; CHUNK]),
        };
        self.turn(now, Input::Command(CommandId(index as u64), command));
        true
    }
}

impl End for KernelEnd {
    fn start(&mut self, now: u64) {
        self.turn(now, Input::Wake);
        self.settle(now);
        if let Some((peer, to, _)) = self.dial {
            self.command(now, Command::Connect { peer, addresses: &[to] });
            self.settle(now);
        }
    }

    fn receive(&mut self, now: u64, mut datagram: Datagram) {
        let peer = if self.dial.is_some() { 2 } else { 1 };
        let mut bufs = [RxBuf {
            from: ([10, 0, 0, peer], 1_000).into(),
            ecn: [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce][usize::from(datagram.ecn & 3)],
            stride: 0,
            data: &mut datagram.bytes,
            digest: None,
        }];
        let deadline = self.kernel.turn(
            clocks(Instant::from_nanos(now)),
            Input::Datagrams(RxBatch::new(&mut bufs)),
            &mut self.desk,
        );
        self.deadline = deadline.map(|deadline| deadline.at);
        self.settle(now);
    }

    fn wake(&mut self, now: u64) {
        self.turn(now, Input::Wake);
        self.settle(now);
    }

    fn deadline(&self) -> Option<u64> {
        self.deadline.map(Instant::as_nanos)
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.desk.outbox
    }

    fn delivered(&self) -> &[u64] {
        &self.delivered
    }

    fn says(&self) -> String {
        let stats = self.session.and_then(|session| self.kernel.stats(session));
        stats.map_or_else(String::new, |stats| {
            format!(
                "sent {} of {} B on average, lost {}, probe timeouts {}, window {}, round trip {} us",
                stats.sent,
                stats.sent_bytes / stats.sent.max(1),
                stats.lost,
                stats.probes,
                stats.window,
                stats.rtt.as_micros()
            )
        })
    }
}
