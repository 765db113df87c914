//! A toy machine that pings, for measuring simulators against each other: the same machine in the world and behind the
//! sockets of other simulators.
//!
//! Every period each node sends so many pings of 64 bytes to the next node of a ring; whoever gets a ping answers it.
//! Invariants: the machine decides, whoever hosts it only moves datagrams and time.
//! Not here: how others host it, and what is measured (`bin/side_by_side.rs`).

use std::sync::atomic::{AtomicU64, Ordering};

use net_io_sim::check::Panel;
use net_io_sim::host::{Host, Start};
use net_kernel::api::{Deadline, Dest, Input, Io, Why};
use net_kernel::base::{Addr, EntityId, Instant, Now};

/// Length of every datagram.
pub const LEN: usize = 64;
/// Between two rounds of pings, ns.
pub const PERIOD: u64 = 10_000_000;
/// On every link, ns.
pub const DELAY: u64 = 10_000_000;

const PING: u8 = 1;
const PONG: u8 = 2;

/// Datagrams that toy machines were given since the process began.
pub static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// The machine. Pings are due at multiples of the period on its clock.
#[derive(Debug)]
pub struct Toy {
    next: u64,
    burst: u32,
    count: u64,
}

impl Toy {
    /// A machine that sends `burst` pings per period, from `now` on.
    #[must_use]
    pub const fn new(now: u64, burst: u32) -> Self {
        Self {
            next: now,
            burst,
            count: 0,
        }
    }

    /// When it wants to be asked for pings.
    #[must_use]
    pub const fn deadline(&self) -> u64 {
        self.next
    }

    /// How many pings are due; each is then asked for by [`Self::ping`].
    pub const fn due(&mut self, now: u64) -> u32 {
        if now < self.next {
            return 0;
        }
        self.next += PERIOD;
        self.burst
    }

    /// The next ping.
    pub fn ping(&mut self) -> [u8; LEN] {
        self.count += 1;
        let mut bytes = [0; LEN];
        bytes[0] = PING;
        bytes[8..16].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    /// A datagram came; answers what goes back to its sender.
    pub fn take(&self, bytes: &[u8]) -> Option<[u8; LEN]> {
        RECEIVED.fetch_add(1, Ordering::Relaxed);
        let mut answer: [u8; LEN] = bytes.try_into().ok()?;
        answer[0] = PONG;
        (bytes[0] == PING).then_some(answer)
    }
}

/// The machine in the world, with `BURST` pings per period.
#[derive(Debug)]
pub struct ToyHost<const BURST: u32> {
    toy: Toy,
    to: Addr,
    turns: u64,
}

fn send(io: &mut dyn Io, to: Addr, bytes: &[u8; LEN]) {
    if let Some(slot) = io.reserve(Dest { to, ecn: false }, LEN) {
        slot.copy_from_slice(bytes);
        io.commit(LEN);
    }
}

impl<const BURST: u32> Host for ToyHost<BURST> {
    fn entity(identity: &[u8; 32]) -> EntityId {
        EntityId(*identity)
    }

    fn boot(start: Start, now: Now) -> Result<Self, String> {
        let next = (start.node as usize + 1) % start.peers.len().max(1);
        let to = start.peers.get(next).ok_or("a machine without peers")?;
        Ok(Self {
            toy: Toy::new(now.mono.as_nanos(), BURST),
            to: *to,
            turns: 0,
        })
    }

    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline> {
        self.turns += 1;
        if let Input::Datagrams(mut batch) = input {
            while let Some(spot) = batch.advance() {
                let datagram = batch.at(spot);
                let from = datagram.from;
                if let Some(answer) = self.toy.take(datagram.bytes) {
                    send(io, from, &answer);
                }
            }
        }
        for _ in 0..self.toy.due(now.mono.as_nanos()) {
            let ping = self.toy.ping();
            send(io, self.to, &ping);
        }
        Some(Deadline {
            at: Instant::from_nanos(self.toy.deadline()),
            why: Why::Session,
        })
    }

    fn digest(&self) -> [u8; 32] {
        [0; 32]
    }

    fn turns(&self) -> u64 {
        self.turns
    }

    fn panel() -> Panel {
        Panel::bare()
    }
}
