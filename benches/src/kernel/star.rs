//! One kernel with a session to each of several others, and bulk one way: what its turns take, alone and with helpers.
//!
//! Invariants: only turns of the middle are timed; datagrams arrive in order and none is lost; buffers look as a driver's do,
//! datagrams of one sender end to end; everything is that of [`super::pair`] otherwise. Not here: sockets (`bin/lanes.rs`).

use std::time::{Duration as Wall, Instant as Clock};

use net_io_real::crew::Helpers;
use net_kernel::Kernel;
use net_kernel::api::{
    Boot, Command, Crew, Dest, Ecn, Event, Input, Io, Job, MeshConfig, Messages, Part, RxBatch, RxBuf, Seal,
    SessionConfig, StoreOp, StreamOptions, Tx,
};
use net_kernel::base::rng::{Seed, Stream};
use net_kernel::base::{Addr, CommandId, Instant, JobId, SessionKey, StreamId, Ticket};
use net_kernel::session::aead::Aead;

use super::host::{Chores, boot, clocks};
use super::pair::HOP;

/// Sessions of the middle.
pub const PEERS: usize = 4;
/// Bytes of a message.
pub const MESSAGE: usize = 64 << 10;
/// Bytes a transmitter holds, as the driver's does.
const CAPACITY: usize = 65_000;
/// Bytes of a received buffer at most, as the driver cuts them.
const CUT: usize = 8 << 10;
/// Receive buffers of a turn at most.
const BUFS: usize = 96;

/// What one kernel's driver holds.
pub(super) struct Desk {
    pub(super) buf: Box<[u8]>,
    pub(super) used: usize,
    reserved: (Addr, usize),
    /// Where to, and how long.
    pub(super) datagrams: Vec<(Addr, usize)>,
    held: Option<usize>,
    helpers: Option<Helpers>,
    /// Handles transmit nothing.
    handle: bool,
    refused: bool,
    pub(super) delivered: u64,
    /// Of each session: stream, bytes and messages not reported as drained.
    undrained: Vec<(SessionKey, StreamId, u64, u64)>,
    sink: Box<[u8]>,
    pub(super) sessions: Vec<SessionKey>,
    pub(super) opened: Option<StreamId>,
    chores: Chores,
    pub(super) no: bool,
}

impl Tx for Desk {
    #[inline]
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        if self.handle || self.used + len > self.buf.len() {
            self.refused = true;
            return None;
        }
        self.reserved = (to.to, len);
        Some(&mut self.buf[self.used..self.used + len])
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        self.used += len;
        self.datagrams.push((self.reserved.0, len));
    }

    #[inline]
    fn hold(&mut self) -> bool {
        self.held = self.helpers.is_some().then_some(self.used);
        self.held.is_some()
    }

    fn release(&mut self, seal: &mut Seal<'_>) {
        if let (Some(held), Some(helpers)) = (self.held.take(), &mut self.helpers) {
            seal(&mut self.buf[held..self.used], helpers);
        }
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
        assert!(
            !matches!(event, Event::Closed { .. }),
            "a session between two kernels in memory ended: {event:?}"
        );
        if let Event::Connected { session, .. } = event {
            self.sessions.push(session);
        } else if let Event::Opened { stream, .. } = event {
            self.opened = Some(stream);
        }
        self.no |= matches!(event, Event::Refused { .. });
    }

    #[inline]
    fn deliver(&mut self, part: Part<'_>) {
        let len = part.bytes.len();
        self.sink[..len].copy_from_slice(part.bytes);
        self.delivered += len as u64;
        let known = self.undrained.iter_mut().find(|known| known.0 == part.session);
        match known {
            Some((_, _, bytes, messages)) => {
                *bytes += len as u64;
                *messages += u64::from(part.end);
            }
            None => self
                .undrained
                .push((part.session, part.stream, len as u64, u64::from(part.end))),
        }
    }

    fn crew(&mut self) -> Option<&mut dyn Crew> {
        self.helpers.as_mut().map(|helpers| helpers as &mut dyn Crew)
    }
}

/// One kernel.
pub(super) struct End<A: Aead> {
    pub(super) kernel: Kernel<A>,
    pub(super) desk: Desk,
    pub(super) deadline: Option<Instant>,
    pub(super) addr: Addr,
    entropy: Stream,
    /// What its turns took.
    spent: Wall,
}

impl<A: Aead> End<A> {
    fn new(number: u8, config: &SessionConfig, lanes: u8, look: Wall) -> Self {
        Self::within(None, number, config, lanes, look)
    }

    /// One that is part of a mesh, where there is one.
    pub(super) fn within(mesh: Option<MeshConfig>, number: u8, config: &SessionConfig, lanes: u8, look: Wall) -> Self {
        let seed = Seed::new([number; 32]);
        let boot = Boot {
            mesh,
            ..boot(&seed, config.clone(), lanes)
        };
        Self {
            kernel: Kernel::boot(boot, clocks(Instant::ZERO)).expect("the configuration is sound"),
            desk: Desk {
                buf: vec![0; CAPACITY].into_boxed_slice(),
                used: 0,
                reserved: (([0, 0, 0, 0], 0).into(), 0),
                datagrams: Vec::with_capacity(2_048),
                held: None,
                helpers: (lanes > 1).then(|| Helpers::looking(usize::from(lanes) - 1, look)),
                handle: false,
                refused: false,
                delivered: 0,
                undrained: Vec::with_capacity(PEERS),
                sink: vec![0; 2_048].into_boxed_slice(),
                sessions: Vec::new(),
                opened: None,
                chores: Chores::default(),
                no: false,
            },
            deadline: Some(Instant::ZERO),
            addr: ([127, 0, 0, 1], 1_000 + u16::from(number)).into(),
            entropy: seed.fork("entropy"),
            spent: Wall::ZERO,
        }
    }

    pub(super) fn turn(&mut self, at: Instant, input: Input<'_>) {
        let begun = Clock::now();
        let deadline = self.kernel.turn(clocks(at), input, &mut self.desk);
        self.spent += begun.elapsed();
        self.deadline = deadline.map(|deadline| deadline.at);
    }

    /// A turn of a handle.
    pub(super) fn command(&mut self, at: Instant, command: Command<'_>) {
        self.desk.handle = true;
        self.turn(at, Input::Command(CommandId(1), command));
        self.desk.handle = false;
    }

    fn serve(&mut self, at: Instant) {
        while let Some(input) = self.desk.chores.next(&mut self.entropy) {
            self.turn(at, input);
        }
    }

    /// What the driver does between turns but for the network: drained data is credited, whoever was refused may send.
    pub(super) fn attend(&mut self, at: Instant) {
        self.serve(at);
        while let Some((session, stream, bytes, messages)) = self.desk.undrained.pop() {
            let command = Command::Consumed {
                session,
                stream,
                bytes,
                messages,
            };
            self.command(at, command);
        }
        if self.deadline.is_some_and(|due| due <= at) {
            self.turn(at, Input::Wake);
            self.serve(at);
        }
        if std::mem::take(&mut self.desk.refused) {
            self.turn(at, Input::TxReady);
        }
    }

    /// Messages until the send buffer is full.
    fn fill(&mut self, at: Instant, session: SessionKey, stream: StreamId, message: &[u8]) {
        while !std::mem::take(&mut self.desk.no) {
            let messages = Messages::One(message);
            self.command(
                at,
                Command::Send {
                    session,
                    stream,
                    messages,
                },
            );
        }
    }
}

/// One kernel in the middle of [`PEERS`] others.
pub struct Star<A: Aead> {
    now: Instant,
    middle: End<A>,
    peers: Vec<End<A>>,
    /// As the middle and as each peer names it.
    sessions: Vec<[SessionKey; 2]>,
    /// From the middle and to it.
    streams: Vec<[StreamId; 2]>,
    message: Vec<u8>,
    /// Where what is under way is copied, as by the system.
    inbox: Vec<Vec<u8>>,
}

impl<A: Aead> Star<A> {
    /// All sessions are up. The middle has `lanes` lanes, and as many threads with its own, which look for `look` before they
    /// sleep.
    #[must_use]
    pub fn new(config: &SessionConfig, lanes: u8, look: Wall) -> Self {
        let mut star = Self {
            now: Instant::from_nanos(1_000_000_000),
            middle: End::new(100, config, lanes, look),
            peers: (0..PEERS as u8).map(|at| End::new(at + 1, config, 1, look)).collect(),
            sessions: Vec::new(),
            streams: Vec::new(),
            message: vec![7; MESSAGE],
            inbox: vec![vec![0; CAPACITY]; PEERS],
        };
        for at in 0..PEERS {
            let (peer, to) = (star.middle.kernel.entity(), star.middle.addr);
            let command = Command::Connect { peer, addresses: &[to] };
            star.peers[at].command(star.now, command);
            while star.middle.desk.sessions.len() <= at || star.peers[at].desk.sessions.is_empty() {
                star.step();
            }
            let keys = [star.middle.desk.sessions[at], star.peers[at].desk.sessions[0]];
            let options = StreamOptions::default();
            let open = |end: &mut End<A>, session| {
                end.command(star.now, Command::Open { session, options });
                end.desk.opened.take().expect("the stream was opened")
            };
            let streams = [open(&mut star.middle, keys[0]), open(&mut star.peers[at], keys[1])];
            star.sessions.push(keys);
            star.streams.push(streams);
        }
        star
    }

    /// Everything under way arrives, and what follows from it is done.
    fn step(&mut self) {
        self.now = self.now + HOP;
        let at = self.now;
        // To the middle, in one turn.
        let mut bufs: [RxBuf<'_>; BUFS] = std::array::from_fn(|_| RxBuf {
            from: self.middle.addr,
            ecn: Ecn::NotEct,
            stride: 0,
            data: &mut [],
            digest: None,
        });
        let mut count = 0;
        for (peer, inbox) in self.peers.iter_mut().zip(&mut self.inbox) {
            take(peer, inbox, &mut bufs, &mut count);
        }
        if count > 0 {
            self.middle.turn(at, Input::Datagrams(RxBatch::new(&mut bufs[..count])));
        }
        self.middle.attend(at);
        // From the middle, which has one buffer for all.
        let mut begin = 0;
        let Desk { buf, datagrams, .. } = &mut self.middle.desk;
        for (to, len) in datagrams.drain(..) {
            let peer = self.peers.iter_mut().find(|peer| peer.addr == to);
            let mut one = [RxBuf {
                from: self.middle.addr,
                ecn: Ecn::NotEct,
                stride: 0,
                data: &mut buf[begin..begin + len],
                digest: None,
            }];
            begin += len;
            if let Some(peer) = peer {
                peer.turn(at, Input::Datagrams(RxBatch::new(&mut one)));
            }
        }
        self.middle.desk.used = 0;
        for peer in &mut self.peers {
            peer.attend(at);
        }
    }

    /// Sends `total` bytes over all sessions together, from the middle or to it. What the middle's turns took.
    pub fn bulk(&mut self, outwards: bool, total: u64) -> Wall {
        let goal = self.delivered() + total;
        self.middle.spent = Wall::ZERO;
        while self.delivered() < goal {
            for at in 0..PEERS {
                let ([ours, theirs], [from, to]) = (self.sessions[at], self.streams[at]);
                if outwards {
                    self.middle.fill(self.now, ours, from, &self.message);
                } else {
                    self.peers[at].fill(self.now, theirs, to, &self.message);
                }
            }
            self.step();
        }
        self.middle.spent
    }

    fn delivered(&self) -> u64 {
        self.middle.desk.delivered + self.peers.iter().map(|peer| peer.desk.delivered).sum::<u64>()
    }
}

/// Moves what `peer` sent to `inbox`, and lays it into buffers of datagrams of one length.
fn take<'b, A: Aead>(peer: &mut End<A>, inbox: &'b mut [u8], bufs: &mut [RxBuf<'b>], count: &mut usize) {
    let used = std::mem::take(&mut peer.desk.used);
    let mut left = &mut inbox[..used];
    left.copy_from_slice(&peer.desk.buf[..used]);
    let mut lens = peer.desk.datagrams.drain(..).map(|(_, len)| len).peekable();
    while let Some(stride) = lens.next() {
        let mut len = stride;
        // Only the last may be shorter.
        while len.is_multiple_of(stride)
            && len < CUT - stride
            && let Some(more) = lens.next_if(|&more| more <= stride)
        {
            len += more;
        }
        let (data, rest) = left.split_at_mut(len);
        left = rest;
        bufs[*count] = RxBuf {
            from: peer.addr,
            ecn: Ecn::NotEct,
            stride,
            data,
            digest: None,
        };
        *count += 1;
    }
}
