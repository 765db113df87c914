//! What must hold of two honest kernels, whatever the network between them does.
//!
//! Messages arrive whole, as they were sent, at most once; reliable streams have no gaps; no nonce serves twice; an
//! address that proved nothing gets at most three times what it sent; nobody connects but the two.
//! Invariants: an oracle only watches. Where the fuzzer itself seals packets (`hostile`), content and amplification are its
//! own doing, and only the kernels' own invariants and the identity of peers are held.
//! Not here: what drives the kernels (`pair.rs`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use net_base::{Addr, EntityId, SessionKey, StreamId};
use net_wire::Reliability;

use super::glass::look;
use super::pair::Delivered;
use crate::api::Event;

/// Bytes before a message's pattern: who sent it, in which life, on which stream of which session, as which one.
pub const NAME_LEN: usize = 32;

/// One direction of a stream, as one side's one process sees it.
type Half = (usize, u8, SessionKey, StreamId);

/// What came on one direction of a stream.
#[derive(Default)]
struct Inbox {
    numbers: Vec<u64>,
    partial: BTreeMap<u64, Vec<u8>>,
    reliable: bool,
}

/// The watcher.
pub struct Oracle {
    /// The fuzzer seals packets of its own.
    hostile: bool,
    /// Packets carry the glass cipher, so that nonces can be read.
    glass: bool,
    nonces: BTreeSet<([u8; 8], u64)>,
    inboxes: BTreeMap<Half, Inbox>,
    /// Messages that arrived, by the name they carry.
    arrived: BTreeSet<[u8; NAME_LEN]>,
    /// Bytes received from and sent to addresses at which neither side was ever and that nobody dialled.
    strangers: BTreeMap<Addr, (u64, u64)>,
    known: BTreeSet<Addr>,
    refusals: u64,
}

/// A message that names itself: which side, process, session, stream and number, then a pattern of its own.
pub fn message(side: usize, life: u8, session: SessionKey, stream: StreamId, number: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(NAME_LEN + len);
    bytes.extend_from_slice(&[side as u8, life, 0xA5, 0x5A]);
    bytes.extend_from_slice(&(len as u32).to_le_bytes());
    for word in [session.0, stream.0, number] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend((0..len).map(|at| pattern(number, at)));
    bytes
}

fn pattern(number: u64, at: usize) -> u8 {
    (number as u8).wrapping_mul(31).wrapping_add(at as u8) ^ (at >> 8) as u8
}

impl Oracle {
    pub fn new(hostile: bool, glass: bool) -> Self {
        Self {
            hostile,
            glass,
            nonces: BTreeSet::new(),
            inboxes: BTreeMap::new(),
            arrived: BTreeSet::new(),
            strangers: BTreeMap::new(),
            known: BTreeSet::new(),
            refusals: 0,
        }
    }

    /// Commands refused so far.
    pub const fn refused(&self) -> u64 {
        self.refusals
    }

    /// Sides may send to this address freely from now on.
    pub fn know(&mut self, address: Addr) {
        self.known.insert(address);
        self.strangers.remove(&address);
    }

    pub fn sent(&mut self, to: Addr, bytes: &[u8]) {
        if self.glass
            && let Some(seen) = look(bytes)
        {
            assert!(
                self.nonces.insert((seen.key, seen.header.counter)),
                "counter {} was used twice under one key",
                seen.header.counter
            );
        }
        if self.hostile || self.known.contains(&to) {
            return;
        }
        let (received, sent) = self.strangers.entry(to).or_default();
        *sent += bytes.len() as u64;
        assert!(
            *sent <= 3 * *received,
            "{sent} bytes went to {to}, which proved nothing and sent {received}"
        );
    }

    pub fn received(&mut self, from: Addr, len: usize) {
        if !self.known.contains(&from) {
            self.strangers.entry(from).or_default().0 += len as u64;
        }
    }

    pub fn delivered(&mut self, side: usize, life: u8, part: &Delivered) {
        if self.hostile {
            return;
        }
        let inbox = self.inboxes.entry((side, life, part.session, part.stream)).or_default();
        let whole = inbox.partial.entry(part.number).or_default();
        assert_eq!(whole.len() as u64, part.offset, "parts of a message come in order");
        whole.extend_from_slice(&part.bytes);
        if !part.end {
            return;
        }
        let whole = inbox.partial.remove(&part.number).unwrap_or_default();
        inbox.numbers.push(part.number);
        let (name, rest) = whole.split_first_chunk::<NAME_LEN>().expect("every message has a name");
        assert_eq!(usize::from(name[0]), 1 - side, "a message for somebody else");
        let word = |at: usize| u64::from_le_bytes(*name[at..].first_chunk().expect("a name holds three words"));
        assert_eq!(word(24), part.number, "messages are numbered as they were sent");
        let sound = rest
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == pattern(part.number, at));
        let len = u32::from_le_bytes([name[4], name[5], name[6], name[7]]) as usize;
        assert!(sound && rest.len() == len, "a message arrives as it was sent");
        assert!(self.arrived.insert(*name), "message {} arrived twice", part.number);
    }

    pub fn event(&mut self, side: usize, life: u8, commands: u64, other: EntityId, event: &Event) {
        match event {
            Event::Connected { peer, command, .. } => {
                assert!(*peer == other, "connected to somebody who does not exist");
                assert!(command.is_none_or(|command| command.0 <= commands));
            }
            Event::StreamOpened {
                session,
                stream,
                reliability,
                ..
            } => {
                let inbox = self.inboxes.entry((side, life, *session, *stream)).or_default();
                inbox.reliable = *reliability == Reliability::Reliable;
            }
            Event::ConnectFailed { command, .. } | Event::Opened { command, .. } | Event::Refused { command, .. } => {
                assert!(command.0 <= commands, "an answer to a command that nobody gave");
                self.refusals += u64::from(matches!(event, Event::Refused { .. }));
            }
            Event::Closed { .. }
            | Event::Writable { .. }
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

    /// What can be said only at the end.
    pub fn finish(&self) {
        for inbox in self.inboxes.values().filter(|inbox| inbox.reliable && !self.hostile) {
            let expected = 0..inbox.numbers.len() as u64;
            assert!(
                inbox.numbers.iter().copied().eq(expected),
                "a reliable stream delivered {:?}",
                inbox.numbers
            );
        }
    }
}
