//! What a kernel holds for a session that nobody uses, counted to the byte.
//!
//! Invariants: only what the hub's own turns and jobs allocate is counted; its datagrams lie in slots made before.
//! Not here: what the driver and its host add (`idle`).

use net_benches::alloc::{Counting, held};
use net_benches::kernel::host::{Chores, boot, clocks};
use net_io_real::aead::Ring;
use net_kernel::Kernel;
use net_kernel::api::{Command, Dest, Ecn, Event, Input, Io, Job, Part, RxBatch, RxBuf, SessionConfig, StoreOp, Tx};
use net_kernel::base::rng::{Seed, Stream};
use net_kernel::base::{Addr, CommandId, Duration, Instant, JobId, Ticket};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Longest datagram, in bytes.
const SLOT: usize = 1_452;
/// Datagrams one node has under way at most.
const SLOTS: usize = 512;
/// Few enough that shaking hands takes no long time, and enough that what the hub holds for itself weighs little.
const SESSIONS: u16 = 64;
/// Of `docs/benchmarks.md`: the whole process may use 16 KiB, and the driver and its host need the rest.
const MOST: i64 = 8 << 10;

struct Desk {
    slots: Vec<(Addr, usize, [u8; SLOT])>,
    first: usize,
    count: usize,
    connected: usize,
    chores: Chores,
}

impl Tx for Desk {
    fn reserve(&mut self, to: Dest, len: usize) -> Option<&mut [u8]> {
        assert!(self.count < SLOTS, "more datagrams under way than sessions would cause");
        let at = (self.first + self.count) % SLOTS;
        self.slots[at].0 = to.to;
        self.slots[at].2.get_mut(..len)
    }

    fn commit(&mut self, len: usize) {
        let at = (self.first + self.count) % SLOTS;
        self.slots[at].1 = len;
        self.count += 1;
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
        assert!(!matches!(event, Event::Closed { .. }), "{event:?}");
        self.connected += usize::from(matches!(event, Event::Connected { .. }));
    }

    fn deliver(&mut self, _: Part<'_>) {
        panic!("nobody sent anything");
    }
}

struct Node {
    kernel: Kernel<Ring>,
    desk: Desk,
    addr: Addr,
    deadline: Instant,
    entropy: Stream,
    /// Bytes it allocated and did not free.
    held: i64,
}

impl Node {
    fn new(number: u16) -> Self {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_le_bytes());
        let seed = Seed::new(seed);
        let boot = boot(&seed, SessionConfig::default(), 1);
        let desk = Desk {
            slots: vec![(([0, 0, 0, 0], 0).into(), 0, [0; SLOT]); SLOTS],
            first: 0,
            count: 0,
            connected: 0,
            chores: Chores::default(),
        };
        Self {
            kernel: Kernel::boot(boot, clocks(Instant::ZERO)).expect("the configuration is sound"),
            desk,
            addr: ([127, 0, 0, 1], 1_000 + number).into(),
            deadline: Instant::ZERO,
            entropy: seed.fork("entropy"),
            held: 0,
        }
    }

    /// A turn and the jobs and storage that came of it.
    fn turn(&mut self, at: Instant, input: Input<'_>) {
        let ((), held) = held(|| {
            self.step(at, input);
            while let Some(input) = self.desk.chores.next(&mut self.entropy) {
                self.step(at, input);
            }
        });
        self.held += held;
    }

    fn step(&mut self, at: Instant, input: Input<'_>) {
        let deadline = self.kernel.turn(clocks(at), input, &mut self.desk);
        self.deadline = deadline.map_or(Instant::MAX, |deadline| deadline.at);
    }
}

/// A hub and its peers, which speak only to the hub.
struct Star {
    now: Instant,
    nodes: Vec<Node>,
}

impl Star {
    fn new() -> Self {
        let mut star = Self {
            now: Instant::from_nanos(1_000_000_000),
            nodes: (0..=SESSIONS).map(Node::new).collect(),
        };
        for node in &mut star.nodes {
            node.turn(star.now, Input::Wake);
        }
        star
    }

    /// Carries what is under way, and else lets time pass to the next deadline, until `until`.
    fn run(&mut self, until: Instant) {
        while self.now < until {
            let moved = (0..self.nodes.len()).filter(|&from| self.carry(from)).count();
            if moved > 0 {
                self.now = self.now + Duration::from_micros(20);
                continue;
            }
            let next = self.nodes.iter().map(|node| node.deadline).min();
            self.now = next.unwrap_or(until).clamp(self.now, until);
            let at = self.now;
            for node in self.nodes.iter_mut().filter(|node| node.deadline <= at) {
                node.turn(at, Input::Wake);
            }
        }
    }

    /// The oldest datagram of `from` arrives. False where there is none.
    fn carry(&mut self, from: usize) -> bool {
        let node = &mut self.nodes[from];
        if node.desk.count == 0 {
            return false;
        }
        let (to, len, mut bytes) = node.desk.slots[node.desk.first];
        node.desk.first = (node.desk.first + 1) % SLOTS;
        node.desk.count -= 1;
        let source = node.addr;
        if let Some(node) = self.nodes.iter_mut().find(|node| node.addr == to) {
            let mut bufs = [RxBuf {
                from: source,
                ecn: Ecn::NotEct,
                stride: 0,
                data: &mut bytes[..len],
                digest: None,
            }];
            node.turn(self.now, Input::Datagrams(RxBatch::new(&mut bufs)));
        }
        true
    }
}

#[test]
fn an_idle_session_fits_its_budget() {
    let mut star = Star::new();
    let empty = star.nodes[0].held;
    let (peer, hub) = (star.nodes[0].kernel.entity(), star.nodes[0].addr);
    for number in 1..=usize::from(SESSIONS) {
        let command = Command::Connect {
            peer,
            addresses: &[hub],
        };
        let at = star.now;
        star.nodes[number].turn(at, Input::Command(CommandId(1), command));
        let until = at + Duration::from_millis(100);
        star.run(until);
    }
    assert_eq!(star.nodes[0].desk.connected, usize::from(SESSIONS));
    // Path probes have ended by the first, and keys were replaced several times by the second.
    for seconds in [60, 600] {
        let until = Instant::from_nanos(seconds * 1_000_000_000);
        star.run(until);
        let each = (star.nodes[0].held - empty) / i64::from(SESSIONS);
        println!("{seconds} s: {each} bytes");
        assert!(
            (1 << 10..=MOST).contains(&each),
            "{each} bytes for each session after {seconds} s"
        );
    }
}
