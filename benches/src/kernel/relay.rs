//! Three kernels in a row: what the one in the middle does with packets that the others exchange through it.
//!
//! Invariants: datagrams arrive in order and none is lost; the ends have no other way to each other; everything is that of
//! [`super::star`] otherwise. Not here: sockets.

use std::time::Duration as Wall;

use net_kernel::api::{Command, Ecn, Input, MeshConfig, Messages, RxBatch, RxBuf, SessionConfig, StreamOptions};
use net_kernel::base::{Addr, Duration, EntityId, Instant, SessionKey, StreamId};
use net_kernel::session::aead::Aead;
use net_kernel::wire::{OVERHEAD, ROUTING_LEN, Reliability, TRAILER_LEN};

use super::host::clocks;
use super::pair::HOP;
use super::star::End;

/// Datagrams handed to the relay in one turn at most: less than any congestion window.
pub const BATCH: usize = 8;
/// Bytes of a slot.
const SLOT: usize = 1_452;
/// What a packet and its way over a relay add to a message of some hundred bytes.
const ADDED: usize = OVERHEAD + 10 + ROUTING_LEN + TRAILER_LEN;
/// A message whose datagram has 1,200 bytes on its way between two nodes.
pub const FILLING_1200: usize = 1_200 - ADDED;
/// Messages that make tables, windows and buffers have their size.
const WARM: usize = 4_000;
/// The path MTU is found within this time.
const SEARCH: Duration = Duration::from_secs(30);
/// Between two messages: longer than pacing holds one back.
const PACE: Duration = Duration::from_micros(200);

/// One end, the relay and the other end.
pub struct Row<A: Aead> {
    now: Instant,
    ends: [End<A>; 3],
    session: SessionKey,
    stream: StreamId,
    message: Vec<u8>,
    /// What waits for the relay, slot by slot.
    load: Box<[[u8; SLOT]]>,
    lens: Vec<usize>,
}

impl<A: Aead> Row<A> {
    /// The ends have a session over the relay, and a stream of messages of `len` bytes that has carried some.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let mesh = MeshConfig {
            relays: Some(true),
            ..MeshConfig::default()
        };
        let config = SessionConfig {
            keep_alive: None,
            ..SessionConfig::default()
        };
        let end = |number| End::within(Some(mesh.clone()), number, &config, 1, Wall::ZERO);
        let mut row = Self {
            now: Instant::from_nanos(1_000_000_000),
            ends: [end(1), end(2), end(3)],
            session: SessionKey(0),
            stream: StreamId(0),
            message: vec![7; len],
            load: vec![[0; SLOT]; BATCH].into_boxed_slice(),
            lens: Vec::with_capacity(BATCH),
        };
        let [first, relay, last] = [0, 1, 2].map(|at: usize| (row.ends[at].kernel.entity(), row.ends[at].addr));
        for end in [0, 2] {
            row.connect(end, relay.0, &[relay.1]);
        }
        // The ends hear of each other, or there is no way.
        let known = |row: &Self| {
            let knows = |at: usize, of| {
                let mesh = row.ends[at].kernel.mesh().expect("booted with one");
                mesh.routes().route(of).is_some()
            };
            knows(0, &last.0) && knows(2, &first.0)
        };
        while !known(&row) {
            row.step();
        }
        row.session = row.connect(0, last.0, &[]);
        let options = StreamOptions {
            reliability: Reliability::FireAndForget,
            ..StreamOptions::default()
        };
        let session = row.session;
        row.ends[0].command(row.now, Command::Open { session, options });
        row.stream = row.ends[0].desk.opened.take().expect("the stream was opened");
        // Short ones until the longest datagram that passes is known.
        let filling = std::mem::replace(&mut row.message, vec![7; 64]);
        let until = row.now + SEARCH;
        while row.now < until {
            row.send();
            row.now = row.now + PACE * 50;
            row.step();
        }
        row.message = filling;
        for _ in 0..WARM {
            row.send();
            row.now = row.now + PACE;
            row.step();
        }
        row
    }

    fn connect(&mut self, from: usize, peer: EntityId, addresses: &[Addr]) -> SessionKey {
        let before = self.ends[from].desk.sessions.len();
        let command = Command::Connect { peer, addresses };
        self.ends[from].command(self.now, command);
        assert!(!self.ends[from].desk.no, "there is a way");
        while self.ends[from].desk.sessions.len() == before {
            self.step();
        }
        self.ends[from].desk.sessions[before]
    }

    /// The first end hands in a message.
    fn send(&mut self) {
        let command = Command::Send {
            session: self.session,
            stream: self.stream,
            messages: Messages::One(&self.message),
        };
        self.ends[0].command(self.now, command);
        assert!(!self.ends[0].desk.no, "the send buffer is empty");
    }

    /// The first end sends `count` messages, one datagram each, at most [`BATCH`], which wait for the relay.
    pub fn load(&mut self, count: usize) {
        self.settle();
        assert!(count <= BATCH);
        while self.lens.len() < count {
            self.send();
            self.now = self.now + PACE;
            self.ends[0].attend(self.now);
            let desk = &mut self.ends[0].desk;
            let mut begin = 0;
            for (_, len) in desk.datagrams.drain(..) {
                // What else it had to say, as to the relay itself, is lost.
                let datagram = &desk.buf[begin..begin + len];
                if datagram.starts_with(b"RT") && len >= self.message.len() + ADDED - 10 && self.lens.len() < count {
                    self.load[self.lens.len()][..len].copy_from_slice(datagram);
                    self.lens.push(len);
                }
                begin += len;
            }
            desk.used = 0;
        }
        // Whatever else is due is done now, so that the relay's next turn does nothing but relay.
        self.ends.iter_mut().for_each(|end| end.attend(self.now));
        self.settle();
    }

    /// Bytes of each datagram that waits.
    #[must_use]
    pub fn waiting(&self) -> &[usize] {
        &self.lens
    }

    /// The relay gets all that waits for it, in one turn. Answers how many datagrams it sent.
    pub fn relay(&mut self) -> usize {
        let from = self.ends[0].addr;
        let mut slots = self.load.iter_mut().zip(&self.lens);
        let mut bufs: [RxBuf<'_>; BATCH] = std::array::from_fn(|_| RxBuf {
            from,
            ecn: Ecn::NotEct,
            stride: 0,
            data: slots.next().map_or(&mut [], |(slot, &len)| &mut slot[..len]),
            digest: None,
        });
        let count = self.lens.len();
        let relay = &mut self.ends[1];
        let input = Input::Datagrams(RxBatch::new(&mut bufs[..count]));
        let deadline = relay.kernel.turn(clocks(self.now), input, &mut relay.desk);
        relay.deadline = deadline.map(|deadline| deadline.at);
        self.lens.clear();
        relay.desk.datagrams.len()
    }

    /// Everything under way arrives, until nothing is.
    pub fn settle(&mut self) {
        while self.ends.iter().any(|end| !end.desk.datagrams.is_empty()) {
            self.arrive();
        }
    }

    /// Everything under way arrives; where nothing is, the time comes at which something happens.
    fn step(&mut self) {
        if self.ends.iter().all(|end| end.desk.datagrams.is_empty()) {
            let due = self.ends.iter().filter_map(|end| end.deadline).min();
            self.now = due.map_or(self.now, |due| due.max(self.now));
        }
        self.arrive();
    }

    fn arrive(&mut self) {
        self.now = self.now + HOP;
        let at = self.now;
        let under_way: Vec<(usize, usize, Vec<u8>)> = (0..3)
            .flat_map(|from| {
                let (addrs, desk) = (self.ends.each_ref().map(|end| end.addr), &mut self.ends[from].desk);
                let mut begin = 0;
                let taken: Vec<_> = desk
                    .datagrams
                    .drain(..)
                    .filter_map(|(to, len)| {
                        let bytes = desk.buf[begin..begin + len].to_vec();
                        begin += len;
                        let to = addrs.iter().position(|&addr| addr == to)?;
                        Some((from, to, bytes))
                    })
                    .collect();
                desk.used = 0;
                taken
            })
            .collect();
        for (from, to, mut bytes) in under_way {
            let mut one = [RxBuf {
                from: self.ends[from].addr,
                ecn: Ecn::NotEct,
                stride: 0,
                data: &mut bytes,
                digest: None,
            }];
            self.ends[to].turn(at, Input::Datagrams(RxBatch::new(&mut one)));
        }
        for end in &mut self.ends {
            end.attend(at);
        }
    }

    /// Messages that arrived at the far end, in bytes.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.ends[2].desk.delivered
    }
}
