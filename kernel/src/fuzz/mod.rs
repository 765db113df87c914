//! Bodies of the fuzz targets `session` (two kernels, and everything else as the input says) and `store` (what a disk gives back).
//!
//! | file | role |
//! |---|---|
//! | `input.rs` | the input as a program |
//! | `pair.rs` | two kernels and what lies between them |
//! | `oracle.rs` | what must hold |
//! | `glass.rs` | a cipher that hides nothing |
//!
//! An input chooses a configuration, then acts: datagrams are delivered in any order, lost, doubled, damaged, invented, sent
//! from elsewhere; jobs and storage end in any order and late; clocks leap; users do as they please; processes restart.
//! With the glass cipher and in hostile mode it also seals packets of its own, as a malicious peer would.
//!
//! Invariants: a body panics only where the kernel breaks its contract; every input ends within [`MAX_STEPS`].
//! Compiled for fuzzing and tests alone. Not here: codecs (`net_wire::fuzz`), whole scenarios (`net-io-sim`).
#![allow(clippy::missing_docs_in_private_items, reason = "private to the body")]

mod glass;
mod input;
mod oracle;
mod pair;

use alloc::vec::Vec;

use net_base::trace::Record;
use net_base::{CommandId, Duration, SessionKey, StreamId};
use net_session::aead::{Aead, Reference};
use net_wire::Reliability;

use crate::api::{Command, Ecn, Input, LinkChange, Messages, SessionConfig, StoreError, StreamOptions};
use glass::Glass;
use input::Bytes;
use oracle::{Oracle, message};
use pair::{Flight, Pair, address};

/// Steps of a program; the rest of a longer input is left alone.
pub const MAX_STEPS: usize = 128;
/// Things that may happen while everything takes its course.
const SETTLE_STEPS: usize = 160;

/// Two kernels, and everything else as the input says.
pub fn session(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let mode = input.byte();
    // The real cipher costs more and shows less, yet it is what ships.
    if mode & 7 == 7 {
        Program::<Reference>::new(&mut input, mode, false).run(input);
    } else {
        Program::<Glass>::new(&mut input, mode, true).run(input);
    }
}

/// What a disk gives back: any cell of peers' epochs, also behind a checksum that holds, and any record of a trace.
pub fn store(bytes: &[u8]) {
    for chunk in bytes.as_chunks::<{ Record::LEN }>().0 {
        if let Some(record) = Record::from_bytes(chunk) {
            assert_eq!(record.to_bytes(), *chunk, "a record has one encoding");
        }
    }
    let content = [&b"netepoc1"[..], bytes].concat();
    let sum = blake3::derive_key("net peer epochs checksum v1", &content);
    for cell in [bytes.to_vec(), [&content[..], &sum[..16]].concat()] {
        let mut pair = Pair::<Glass>::new(SessionConfig::default(), 1, Oracle::new(false, true));
        pair.wake(0);
        pair.sides[0].cell = Some(cell);
        pair.finish_store(0, 0, None);
        pair.sides[0].kernel.check();
    }
}

struct Program<A: Aead> {
    pair: Pair<A>,
    hostile: bool,
    /// Messages accepted so far on each direction.
    accepted: Vec<((usize, u8, SessionKey, StreamId), u64)>,
}

fn config(choices: u8) -> SessionConfig {
    let mut config = SessionConfig::default();
    if choices & 1 != 0 {
        config.rekey_after = Duration::from_secs(2);
        config.rekey_after_responder = Duration::from_secs(3);
        config.reject_after = Duration::from_secs(6);
        config.previous_drain = Duration::from_secs(1);
        config.idle_timeout = Duration::from_secs(5);
        config.keep_alive = Some(Duration::from_secs(1));
    }
    if choices & 2 != 0 {
        config.stream_window = 256 << 10;
        config.session_window = 1 << 20;
        config.send_buffer = 64 << 10;
        config.max_streams = 3;
    }
    if choices & 4 != 0 {
        config.max_sessions = 1;
        config.max_pending = 1;
    }
    if choices & 8 != 0 {
        config.rekey_after_packets = 16;
    }
    if choices & 16 != 0 {
        config.keep_alive = None;
    }
    if choices & 32 != 0 {
        config.max_mtu = 1_200;
    }
    if choices & 64 != 0 {
        config.max_message = 4_096;
    }
    config.ecn = choices & 128 == 0;
    config
}

impl<A: Aead> Program<A> {
    fn new(input: &mut Bytes<'_>, mode: u8, glass: bool) -> Self {
        let hostile = glass && mode & 8 != 0;
        let config = config(input.byte());
        let lanes = 1 << (mode >> 4 & 1);
        let mut pair = Pair::new(config, lanes, Oracle::new(hostile, glass));
        for side in 0..2 {
            pair.oracle.know(address(side));
        }
        let mut program = Self {
            pair,
            hostile,
            accepted: Vec::new(),
        };
        if mode & 32 == 0 {
            program.connect(0, 1);
            program.pair.settle(SETTLE_STEPS, Duration::from_millis(500));
        }
        if mode & 64 == 0 {
            program.open(0, 0, 0);
            program.send(0, 0, 200, 1);
            program.pair.settle(SETTLE_STEPS, Duration::from_millis(500));
        }
        program
    }

    fn run(mut self, mut input: Bytes<'_>) {
        for _ in 0..MAX_STEPS {
            if input.is_empty() {
                break;
            }
            let step = input.byte();
            self.step(step, &mut input);
        }
        self.pair.oracle.finish();
        for side in &self.pair.sides {
            side.kernel.check();
        }
    }

    fn step(&mut self, step: u8, input: &mut Bytes<'_>) {
        let side = usize::from(step >> 7);
        match step & 0x1F {
            0..=2 => self.deliver(input),
            3 => self.repeat(input),
            4 => self.damage(input),
            5 => self.invent(input),
            6 | 7 => self.forge(input),
            8 => self.lose(input),
            9 | 10 => {
                let span = Duration::from_nanos(input.number().min(1 << 42));
                self.pair.settle(SETTLE_STEPS, span);
            }
            11 => self.leap(side, input),
            12 => self.pair.wake(side),
            13 => self.pair.finish_job(side, usize::from(input.byte())),
            14 => self.end_store(side, input),
            15 => self.connect(side, input.byte()),
            16 => self.open(side, usize::from(input.byte()), input.byte()),
            17 | 18 => {
                let (which, len, count) = (input.byte(), input.short(), input.byte());
                self.send(side, usize::from(which), usize::from(len), usize::from(count) % 8 + 1);
            }
            19 => self.end_stream(side, input),
            20 => self.drain(side, input),
            21 => self.on_session(side, input),
            22 => self.rare_command(side, input),
            23 => self.link(side, input),
            24 => {
                self.pair.sides[side].desk.full = input.flag();
                self.pair.turn(side, Input::TxReady);
            }
            25 => self.restart(side, input),
            26 => self.shift_wall(side, input),
            27 => self.move_to(side, input),
            _ => {
                let span = Duration::from_millis(u64::from(input.byte()) * 4);
                self.pair.settle(SETTLE_STEPS, span);
            }
        }
    }

    fn deliver(&mut self, input: &mut Bytes<'_>) {
        let which = input.below(self.pair.wire.len());
        let Some(flight) = self.pair.wire.remove(which) else {
            return;
        };
        let ecn = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce][usize::from(flight.bytes.len() as u8 & 3)];
        self.pair.arrive(flight, ecn);
    }

    /// A copy of something sent lately, perhaps from elsewhere or back to its sender.
    fn repeat(&mut self, input: &mut Bytes<'_>) {
        let Some(mut flight) = self.taped(input) else {
            return;
        };
        match input.byte() {
            from @ 0..16 => flight.from = address(from),
            16..24 => core::mem::swap(&mut flight.from, &mut flight.to),
            _ => {}
        }
        self.pair.arrive(flight, Ecn::Ce);
    }

    /// A copy with changed bytes, cut or prolonged.
    fn damage(&mut self, input: &mut Bytes<'_>) {
        let Some(mut flight) = self.taped(input) else {
            return;
        };
        match input.byte() & 3 {
            0 => {
                let len = usize::from(input.short()) % (flight.bytes.len() + 1);
                flight.bytes.truncate(len);
            }
            1 => flight.bytes.extend_from_slice(input.data()),
            2 => {
                // The head of one datagram on the tail of another.
                let other = self.taped(input).map(|other| other.bytes).unwrap_or_default();
                let cut = usize::from(input.short()) % (flight.bytes.len() + 1);
                flight.bytes.truncate(cut);
                flight.bytes.extend(other.iter().skip(cut));
            }
            _ => {
                let at = usize::from(input.short()) % flight.bytes.len().max(1);
                for (byte, with) in flight.bytes[at..].iter_mut().zip(input.data()) {
                    *byte ^= with;
                }
            }
        }
        self.pair.arrive(flight, Ecn::NotEct);
    }

    fn invent(&mut self, input: &mut Bytes<'_>) {
        let (from, to) = (address(input.byte() & 15), self.pair.sides[input.below(2)].addr);
        let mut bytes = input.data().to_vec();
        // Some kinds of packets have one length.
        let padded = usize::from(input.short()) % 1_500;
        if padded > bytes.len() {
            bytes.resize(padded, 0);
        }
        self.pair.arrive(Flight { from, to, bytes }, Ecn::NotEct);
    }

    /// A malicious peer: a packet under a key it holds, with a header and a plaintext of its own.
    fn forge(&mut self, input: &mut Bytes<'_>) {
        let Some(mut flight) = self.taped(input).filter(|_| self.hostile) else {
            return;
        };
        let Some(mut seen) = glass::look(&flight.bytes) else {
            return;
        };
        let how = input.byte();
        seen.header.counter = seen.header.counter.wrapping_add(input.number());
        if how & 1 != 0 {
            seen.header.event_count = u16::from(input.byte());
        }
        if how & 2 != 0 {
            seen.header.stream = StreamId(input.number());
        }
        if how & 4 != 0 {
            seen.header.sequence = input.number();
        }
        if how & 8 != 0 {
            seen.header.subprotocol = input.short();
        }
        if how & 16 != 0 {
            flight.from = address(input.byte() & 15);
        }
        match how >> 6 {
            0 => seen.text = input.data().to_vec(),
            1 => seen.text.extend_from_slice(input.data()),
            2 => seen.text.splice(..0, input.data().iter().copied()).for_each(drop),
            _ => {
                let at = usize::from(input.byte()) % seen.text.len().max(1);
                for (byte, with) in seen.text[at..].iter_mut().zip(input.data()) {
                    *byte = *with;
                }
            }
        }
        seen.text.truncate(net_wire::MAX_DATAGRAM - net_wire::OVERHEAD);
        flight.bytes = glass::seal(&seen);
        self.pair.arrive(flight, Ecn::NotEct);
    }

    fn lose(&mut self, input: &mut Bytes<'_>) {
        match input.byte() {
            255 => self.pair.wire.clear(),
            which => {
                let which = usize::from(which) % self.pair.wire.len().max(1);
                self.pair.wire.remove(which);
            }
        }
    }

    fn taped(&self, input: &mut Bytes<'_>) -> Option<Flight> {
        // From the end: the latest are the most telling.
        let back = input.below(self.pair.tape.len());
        let at = self.pair.tape.len().checked_sub(back + 1)?;
        self.pair.tape.get(at).cloned()
    }

    /// Time passes and nobody is woken.
    fn leap(&mut self, side: usize, input: &mut Bytes<'_>) {
        let span = Duration::from_nanos(input.number().min(1 << 42));
        self.pair.now = self.pair.now + span;
        if input.flag() {
            self.pair.wake(side);
        }
    }

    fn end_store(&mut self, side: usize, input: &mut Bytes<'_>) {
        let error = match input.byte() & 7 {
            0 => Some(StoreError::Full),
            1 => Some(StoreError::Denied),
            2 => Some(StoreError::Corrupt),
            3 => Some(StoreError::Device),
            4 => {
                // What is read is not what was written.
                self.pair.sides[side].cell = Some(input.data().to_vec());
                None
            }
            _ => None,
        };
        self.pair.finish_store(side, usize::from(input.byte()), error);
    }

    fn connect(&mut self, side: usize, choice: u8) {
        let peer = self.pair.sides[1 - usize::from(choice >> 7 ^ side as u8)]
            .kernel
            .entity();
        let elsewhere = address(choice >> 2 & 15);
        let there = self.pair.sides[1 - side].addr;
        let addresses = match choice & 3 {
            0 | 1 => &[there][..],
            2 => &[elsewhere, there],
            _ => &[elsewhere],
        };
        for address in addresses {
            self.pair.oracle.know(*address);
        }
        self.pair.command(side, Command::Connect { peer, addresses });
    }

    fn session_of(&self, side: usize, which: usize) -> SessionKey {
        let all: Vec<_> = self.pair.sides[side]
            .kernel
            .sessions()
            .map(|(session, _)| session)
            .collect();
        let known = all.get(which % all.len().max(1)).copied();
        known.unwrap_or(SessionKey(which as u64))
    }

    fn stream_of(&self, side: usize, which: usize) -> (SessionKey, StreamId) {
        let streams = &self.pair.sides[side].streams;
        let known = streams.len().checked_sub(which % streams.len().max(1) + 1);
        known.map_or((SessionKey(which as u64), StreamId(which as u64)), |at| streams[at])
    }

    fn open(&mut self, side: usize, which: usize, choice: u8) {
        let options = StreamOptions {
            reliability: Reliability::ALL[usize::from(choice) % Reliability::ALL.len()],
            priority: choice >> 6,
            weight: u16::from(choice >> 2 & 15) * 16,
            subprotocol: u16::from(choice >> 5),
        };
        let session = self.session_of(side, which);
        self.pair.command(side, Command::Open { session, options });
    }

    fn send(&mut self, side: usize, which: usize, len: usize, count: usize) {
        let (session, stream) = self.stream_of(side, which);
        let half = (side, self.pair.sides[side].life, session, stream);
        let at = self.accepted.iter().position(|(known, _)| *known == half);
        let at = at.unwrap_or_else(|| {
            self.accepted.push((half, 0));
            self.accepted.len() - 1
        });
        let first = self.accepted[at].1;
        let all: Vec<Vec<u8>> = (first..first + count as u64)
            .map(|number| message(side, half.1, session, stream, number, len))
            .collect();
        let slices: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let joined = all.concat();
        let messages = match (slices.as_slice(), len & 1) {
            ([one], _) => Messages::One(one),
            (many, 0) => Messages::Many(many),
            (..) => Messages::Chunks {
                bytes: &joined,
                size: all[0].len(),
            },
        };
        let refused = self.pair.oracle.refused();
        let send = Command::Send {
            session,
            stream,
            messages,
        };
        self.pair.command(side, send);
        if self.pair.oracle.refused() == refused {
            self.accepted[at].1 += count as u64;
        }
    }

    fn end_stream(&mut self, side: usize, input: &mut Bytes<'_>) {
        let ((session, stream), code) = (self.stream_of(side, usize::from(input.byte())), input.number() >> 3);
        let command = match input.byte() & 3 {
            0 | 1 => Command::Finish { session, stream },
            2 => Command::Reset { session, stream, code },
            _ => Command::Stop { session, stream, code },
        };
        self.pair.command(side, command);
    }

    fn drain(&mut self, side: usize, input: &mut Bytes<'_>) {
        self.pair.sides[side].drains = input.flag();
        if input.flag() {
            self.pair.drain(side);
        }
    }

    fn on_session(&mut self, side: usize, input: &mut Bytes<'_>) {
        let session = self.session_of(side, usize::from(input.byte()));
        let command = match input.byte() & 7 {
            0..=2 => Command::Rekey { session },
            3..=5 => Command::Echo { session },
            _ => Command::Close {
                session,
                code: input.number() >> 3,
                reason: core::str::from_utf8(input.data()).unwrap_or("not text"),
            },
        };
        self.pair.command(side, command);
    }

    fn rare_command(&mut self, side: usize, input: &mut Bytes<'_>) {
        let other = [self.pair.sides[1 - side].kernel.entity()];
        let command = match input.byte() & 15 {
            0..=4 => Command::CancelConnect(CommandId(u64::from(input.byte()))),
            5..=7 => Command::Allow(None),
            8 | 9 => Command::Allow(Some(&[])),
            10..=14 => Command::Allow(Some(&other)),
            _ => Command::Shutdown,
        };
        self.pair.command(side, command);
    }

    fn link(&mut self, side: usize, input: &mut Bytes<'_>) {
        let address = address(input.byte() & 15);
        let change = match input.byte() % 3 {
            0 => LinkChange::Rebound,
            1 => LinkChange::Unreachable(address),
            _ => LinkChange::TooLarge(address),
        };
        self.pair.turn(side, Input::Link(change));
    }

    fn restart(&mut self, side: usize, input: &mut Bytes<'_>) {
        let epoch = self.pair.sides[side].epoch;
        // Mostly a later one, as the contract says; sometimes from an old disk.
        let epoch = match input.byte() & 7 {
            0 => epoch.saturating_sub(1).max(1),
            1 => epoch,
            later => epoch + u64::from(later),
        };
        self.pair.restart(side, epoch);
    }

    fn shift_wall(&mut self, side: usize, input: &mut Bytes<'_>) {
        let by = (input.number() >> 8) as i64;
        self.pair.sides[side].wall = if input.flag() { by } else { -by };
    }

    fn move_to(&mut self, side: usize, input: &mut Bytes<'_>) {
        // Only the port changes, so that sides never share an address.
        let to = address(side as u8 | (input.byte() & 3) << 2);
        self.pair.oracle.know(to);
        self.pair.sides[side].addr = to;
    }
}
