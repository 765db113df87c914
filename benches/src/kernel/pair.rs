//! Two connected kernels that exchange datagrams through fixed slots.
//!
//! Invariants: datagrams arrive in order and none is lost; time moves only when the caller moves it or when nothing
//! else can happen; once warm, nothing here allocates.
//! Not here: links with faults (`net-io-sim`).

use net_kernel::Kernel;
use net_kernel::api::{
    Command, Deadline, Dest, Ecn, Event, Input, Io, Job, Messages, Part, RxBatch, RxBuf, SessionConfig, StoreOp,
    StreamOptions, Tx,
};
use net_kernel::base::rng::{Seed, Stream};
use net_kernel::base::{Addr, CommandId, Duration, Instant, JobId, SessionKey, StreamId, Ticket};
use net_kernel::session::aead::Aead;

use super::host::{Chores, boot, clocks};

/// Longest datagram, in bytes.
const SLOT: usize = 1_452;
/// Datagrams a side may have under way: enough for two batches, and few enough to stay in the cache as a driver's buffers do.
const SLOTS: usize = 128;
/// Datagrams handed to a kernel in one turn.
pub const BATCH: usize = 64;
/// How long a datagram travels, in virtual time.
pub const HOP: Duration = Duration::from_micros(20);

/// Datagrams on their way to the other side.
pub struct Wire {
    slots: Box<[[u8; SLOT]]>,
    lens: [u16; SLOTS],
    /// The oldest datagram, and how many there are.
    head: usize,
    count: usize,
    reserved: usize,
    /// Whether a slot was refused since it was last looked at.
    full: bool,
    /// Datagrams ever committed, and their bytes.
    pub datagrams: u64,
    /// See `datagrams`.
    pub bytes: u64,
}

impl Wire {
    /// Nothing under way.
    #[must_use]
    pub fn new() -> Self {
        Self {
            slots: vec![[0; SLOT]; SLOTS].into_boxed_slice(),
            lens: [0; SLOTS],
            head: 0,
            count: 0,
            reserved: 0,
            full: false,
            datagrams: 0,
            bytes: 0,
        }
    }

    /// Datagrams under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The oldest datagrams, at most `N`, as receive buffers; how many there are of them.
    pub fn take<'w, const N: usize>(&'w mut self, from: Addr) -> ([RxBuf<'w>; N], usize) {
        let count = self.count.min(N);
        let (wrapped, first) = self.slots.split_at_mut(self.head);
        let lens = self.lens.iter().cycle().skip(self.head);
        let mut slots = first.iter_mut().chain(wrapped).zip(lens).take(count);
        let bufs = std::array::from_fn(|_| RxBuf {
            from,
            ecn: Ecn::NotEct,
            stride: 0,
            data: slots
                .next()
                .map_or(&mut [], |(slot, &len)| &mut slot[..usize::from(len)]),
            digest: None,
        });
        self.count -= count;
        self.head = (self.head + count) % SLOTS;
        (bufs, count)
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

impl Tx for Wire {
    #[inline]
    fn reserve(&mut self, _: Dest, len: usize) -> Option<&mut [u8]> {
        if self.count == SLOTS {
            self.full = true;
            return None;
        }
        self.reserved = (self.head + self.count) % SLOTS;
        self.slots[self.reserved].get_mut(..len)
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        self.lens[self.reserved] = len as u16;
        self.count += 1;
        self.datagrams += 1;
        self.bytes += len as u64;
    }
}

/// What one side's driver holds.
pub struct Desk {
    /// What the kernel sent.
    pub wire: Wire,
    /// Payload bytes and messages delivered since the start.
    pub delivered: (u64, u64),
    /// Payload bytes and messages not yet reported as drained, of the stream that delivered last.
    undrained: (u64, u64),
    from: (SessionKey, StreamId),
    /// Where `recv` of an application would put the bytes.
    pub sink: Box<[u8]>,
    connected: Option<SessionKey>,
    opened: Option<StreamId>,
    /// Whether a command was refused since it was last looked at.
    pub refused: bool,
    chores: Chores,
}

impl Tx for Desk {
    #[inline]
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        self.wire.reserve(to, len)
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        self.wire.commit(len);
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
        match event {
            Event::Connected { session, .. } => self.connected = Some(session),
            Event::Opened { stream, .. } => self.opened = Some(stream),
            Event::Refused { .. } => self.refused = true,
            Event::Closed { why, .. } => panic!("a session between two kernels in memory ended: {why:?}"),
            Event::ConnectFailed { .. }
            | Event::StreamOpened { .. }
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

    #[inline]
    fn deliver(&mut self, part: Part<'_>) {
        let len = part.bytes.len();
        self.sink[..len].copy_from_slice(part.bytes);
        self.from = (part.session, part.stream);
        self.undrained.0 += len as u64;
        self.delivered.0 += len as u64;
        self.undrained.1 += u64::from(part.end);
        self.delivered.1 += u64::from(part.end);
    }
}

/// One side.
pub struct Side<A: Aead> {
    /// The kernel.
    pub kernel: Kernel<A>,
    /// Its driver.
    pub desk: Desk,
    /// When it wants to be woken.
    pub deadline: Option<Instant>,
    addr: Addr,
    entropy: Stream,
}

impl<A: Aead> Side<A> {
    fn new(number: u8, config: &SessionConfig) -> Self {
        let seed = Seed::new([number; 32]);
        let boot = boot(&seed, config.clone(), 1);
        Self {
            kernel: Kernel::boot(boot, clocks(Instant::ZERO)).expect("the configuration is sound"),
            desk: Desk {
                wire: Wire::new(),
                delivered: (0, 0),
                undrained: (0, 0),
                from: (SessionKey(0), StreamId(0)),
                sink: vec![0; 1 << 20].into_boxed_slice(),
                connected: None,
                opened: None,
                refused: false,
                chores: Chores::default(),
            },
            deadline: Some(Instant::ZERO),
            addr: ([127, 0, 0, 1], 1_000 + u16::from(number)).into(),
            entropy: seed.fork("entropy"),
        }
    }

    /// One turn.
    #[inline]
    pub fn turn(&mut self, at: Instant, input: Input<'_>) {
        let deadline: Option<Deadline> = self.kernel.turn(clocks(at), input, &mut self.desk);
        self.deadline = deadline.map(|deadline| deadline.at);
    }

    /// Carries out jobs and storage. Only handshakes need it.
    fn serve(&mut self, at: Instant) {
        while let Some(input) = self.desk.chores.next(&mut self.entropy) {
            self.turn(at, input);
        }
    }

    /// Tells the kernel that what was delivered is drained.
    pub fn drain(&mut self, at: Instant) {
        let (bytes, messages) = std::mem::take(&mut self.desk.undrained);
        if bytes + messages > 0 {
            let (session, stream) = self.desk.from;
            let command = Command::Consumed {
                session,
                stream,
                bytes,
                messages,
            };
            self.turn(at, Input::Command(CommandId(0), command));
        }
    }
}

/// Two connected kernels.
pub struct Pair<A: Aead> {
    /// Virtual time.
    pub now: Instant,
    /// Both sides; side 0 dialled.
    pub sides: [Side<A>; 2],
    /// The session as each side names it.
    pub sessions: [SessionKey; 2],
}

impl<A: Aead> Pair<A> {
    /// Two kernels that have just shaken hands.
    #[must_use]
    pub fn connected(config: &SessionConfig) -> Self {
        let mut pair = Self::apart(config);
        pair.connect();
        pair
    }

    /// Two kernels that do not know each other yet.
    #[must_use]
    pub fn apart(config: &SessionConfig) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            sides: [Side::new(1, config), Side::new(2, config)],
            sessions: [SessionKey(0); 2],
        }
    }

    /// Side 0 dials side 1.
    pub fn connect(&mut self) {
        for side in &mut self.sides {
            side.turn(self.now, Input::Wake);
            side.serve(self.now);
        }
        let (peer, to) = (self.sides[1].kernel.entity(), self.sides[1].addr);
        let command = Command::Connect { peer, addresses: &[to] };
        self.sides[0].turn(self.now, Input::Command(CommandId(1), command));
        while self.sides.iter().any(|side| side.desk.connected.is_none()) {
            self.step();
        }
        self.sessions = [0, 1].map(|side: usize| self.sides[side].desk.connected.expect("both are connected"));
    }

    /// Opens a stream from `side`.
    pub fn open(&mut self, side: usize, options: StreamOptions) -> StreamId {
        let session = self.sessions[side];
        let command = Command::Open { session, options };
        self.sides[side].turn(self.now, Input::Command(CommandId(2), command));
        self.sides[side].desk.opened.take().expect("the stream was opened")
    }

    /// Sends messages. False where the kernel refused them.
    #[inline]
    pub fn send(&mut self, side: usize, stream: StreamId, messages: Messages<'_>) -> bool {
        let session = self.sessions[side];
        let command = Command::Send {
            session,
            stream,
            messages,
        };
        self.sides[side].turn(self.now, Input::Command(CommandId(3), command));
        !std::mem::take(&mut self.sides[side].desk.refused)
    }

    /// Hands `side` the oldest datagrams under way to it, at most `N`, in one turn. How many there were.
    #[inline]
    pub fn receive<const N: usize>(&mut self, side: usize) -> usize {
        self.arrive::<N>(side, Side::turn)
    }

    /// The same with the turn in the caller's hand, to be measured.
    #[inline]
    pub fn arrive<const N: usize>(
        &mut self,
        side: usize,
        turn: impl FnOnce(&mut Side<A>, Instant, Input<'_>),
    ) -> usize {
        let [a, b] = &mut self.sides;
        let (from, to) = if side == 1 { (a, b) } else { (b, a) };
        let (mut bufs, count) = from.desk.wire.take::<N>(from.addr);
        if count > 0 {
            turn(to, self.now, Input::Datagrams(RxBatch::new(&mut bufs[..count])));
        }
        count
    }

    /// One round: everything under way arrives, what was delivered is drained, and what is due is done. Where nothing
    /// was under way, time jumps to the next deadline.
    pub fn step(&mut self) {
        self.step_until(Instant::MAX);
    }

    fn step_until(&mut self, until: Instant) {
        self.now = self.now + HOP;
        let mut moved = false;
        for side in [1, 0] {
            while self.receive::<BATCH>(side) > 0 {
                moved = true;
            }
            self.sides[side].serve(self.now);
            self.sides[side].drain(self.now);
        }
        if !moved && self.sides.iter().all(|side| side.desk.wire.is_empty()) {
            let next = self.sides.iter().filter_map(|side| side.deadline).min();
            self.now = self.now.max(next.unwrap_or(self.now).min(until));
        }
        self.wake();
    }

    /// Wakes whoever is due, or may send again.
    pub fn wake(&mut self) {
        for side in &mut self.sides {
            if std::mem::take(&mut side.desk.wire.full) {
                side.turn(self.now, Input::TxReady);
            }
            if side.deadline.is_some_and(|at| at <= self.now) {
                side.turn(self.now, Input::Wake);
                side.serve(self.now);
            }
        }
    }

    /// Lets 100 ms pass: long enough for every acknowledgement that was delayed.
    pub fn settle(&mut self) {
        let until = self.now + Duration::from_millis(100);
        while self.now < until {
            self.step_until(until);
        }
    }

    /// Sends `total` messages of the bytes of `message` from side 0 in calls of `batch` and waits for all of them.
    pub fn stream_through(&mut self, stream: StreamId, message: &[u8], batch: usize, total: u64) {
        let size = message.len() / batch;
        let goal = self.sides[1].desk.delivered.1 + total;
        let mut left = total;
        while self.sides[1].desk.delivered.1 < goal {
            while left > 0 && self.sides[0].desk.wire.len() < SLOTS / 2 {
                let messages = if batch == 1 {
                    Messages::One(message)
                } else {
                    Messages::Chunks { bytes: message, size }
                };
                if !self.send(0, stream, messages) {
                    break;
                }
                left = left.saturating_sub(batch as u64);
            }
            self.step();
        }
    }
}
