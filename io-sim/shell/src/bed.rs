//! What the processes of one run share: virtual time and those who wait for it, links and what travels on them, machines
//! with their clocks and disks, and the record of everything a driver was told and did.
//!
//! Invariants: time moves only when told to; what becomes of the n-th datagram of a link is decided by its number alone;
//! wakers are called without the lock.
//! Not here: who decides that time moves (`run.rs`), sockets as drivers see them (`adapter.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use net_io_sim::scenario::{Happening, NodeIndex, Scenario};
use net_io_sim::trigger::{Happened, SetOff, Triggers};
use net_io_sim::world::{heal, kind_of, link_between};
use net_kernel::api::Ecn;
use net_kernel::base::{Addr, Instant, Now, UnixNanos};
use net_sim_model::{Clock, Counts, Disk, DiskSnapshot, Distribution, Key, Link};

/// Wall time at the start, as in the world: 2026-01-01.
const WALL: u64 = 1_767_225_600_000_000_000;
/// Monotonic time at the start of every machine, as in the world.
const MONO: u64 = 1_000_000_000;
const FIRST_PORT: u16 = 4_000;

/// The bed, shared.
#[derive(Clone)]
pub struct Bed {
    inner: Arc<Mutex<Inner>>,
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// The run's key.
    pub key: Key,
}

/// What happens to a machine's process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It runs.
    Running,
    /// It is stopped; datagrams wait in its socket.
    Paused,
    /// The machine sleeps; datagrams are lost.
    Suspended,
    /// There is none.
    Down,
}

/// A machine.
pub struct Machine {
    /// What its process is doing.
    pub state: State,
    /// Its clocks.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// Copies of it that a fault restores.
    pub backups: Vec<(usize, DiskSnapshot)>,
    /// Processes started so far.
    pub incarnation: u64,
    /// Where others reach it.
    pub external: Addr,
    /// Where its process is bound; another port only behind an address that changed without a word.
    pub internal: Addr,
    generation: u16,
    timer: Option<Timer>,
    /// Tasks that wait until the process goes on.
    stopped: Vec<Waker>,
}

struct Timer {
    at: Instant,
    waker: Waker,
}

/// A datagram under way.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Who claims to have sent it.
    pub from: Addr,
    /// Where it goes.
    pub to: Addr,
    /// How it is marked.
    pub ecn: Ecn,
    /// What it carries.
    pub bytes: Vec<u8>,
}

/// A socket of the bed's own.
#[derive(Default)]
struct Endpoint {
    queue: VecDeque<Datagram>,
    reader: Option<Waker>,
}

struct Way {
    link: Link,
    offered: u64,
}

/// What is behind the lock.
pub struct Inner {
    /// Now, ns.
    pub now: u64,
    sequence: u64,
    sleepers: BTreeMap<(u64, u64), Waker>,
    arrivals: BTreeMap<(u64, u64), (NodeIndex, Datagram)>,
    ways: BTreeMap<(NodeIndex, NodeIndex), Way>,
    healed: Option<Vec<NodeIndex>>,
    triggers: Triggers,
    /// Windows of faults that events set off.
    windows: Vec<SetOff>,
    /// The machines.
    pub machines: Vec<Machine>,
    endpoints: BTreeMap<Addr, Endpoint>,
    /// What drivers owe their sockets, by the number of the socket.
    debts: BTreeMap<u64, (NodeIndex, Debt)>,
    record: blake3::Hasher,
    /// Datagrams sent.
    pub datagrams: u64,
    /// The first thing that must not have been: which checker, what, when.
    pub violation: Option<(String, String, u64)>,
}

/// What a driver must still do with a socket before it may sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Debt {
    /// Ask for datagrams again: it was answered, so nothing will wake it.
    Deaf,
    /// Ask to be told when a socket that was full is writable.
    Unasked,
    /// Send what a socket refused that is writable now.
    Untried,
}

impl Debt {
    /// What was left undone.
    const fn words(self) -> &'static str {
        match self {
            Self::Deaf => "did not ask to be woken by the next datagram after it was answered",
            Self::Unasked => "did not ask when its full socket is writable again",
            Self::Untried => "did not try again to send what its socket refused, although it is writable now",
        }
    }
}

/// What is folded into the record. The numbers tell entries apart.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Seen {
    /// A driver gave a datagram away.
    Sent = 1,
    /// A driver was given one.
    Received = 2,
    /// A driver's deadline came.
    Woken = 3,
    /// A process began.
    Booted = 4,
    /// A process ended.
    Ended = 5,
    /// An application was given a message.
    Delivered = 6,
    /// An application was told of an end.
    Finished = 7,
    /// A session began or ended.
    Session = 8,
    /// A socket refused.
    Refused = 9,
}

impl Bed {
    /// The bed of a scenario under a seed.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let key = Key::new(seed);
        let machines = scenario.nodes.iter().enumerate().map(|(index, spec)| {
            let latency = Distribution::Constant(0);
            let wall = (i128::from(WALL) + i128::from(spec.wall_offset)).max(0) as u64;
            let address = address(index as u32, 0);
            Machine {
                state: State::Down,
                clock: Clock::new(MONO, wall, spec.drift_ppb),
                disk: Disk::new(latency, key.with(u64::from(scenario.number(index as u32)))),
                backups: Vec::new(),
                incarnation: 0,
                external: address,
                internal: address,
                generation: 0,
                timer: None,
                stopped: Vec::new(),
            }
        });
        let inner = Inner {
            now: 0,
            sequence: 0,
            sleepers: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            ways: BTreeMap::new(),
            healed: None,
            triggers: Triggers::new(&scenario),
            windows: Vec::new(),
            machines: machines.collect(),
            endpoints: BTreeMap::new(),
            debts: BTreeMap::new(),
            record: blake3::Hasher::new_derive_key("net shell record v1"),
            datagrams: 0,
            violation: None,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            scenario: Arc::new(scenario),
            key,
        }
    }

    /// The lock. A panic under it is reported as such; what is behind it stays readable for the report.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number under which decisions about a machine stand.
    #[must_use]
    pub fn number(&self, node: NodeIndex) -> u64 {
        u64::from(self.scenario.number(node))
    }

    /// Virtual time, ns.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.lock().now
    }

    /// Notes what must not have been; the first stays.
    pub fn fail(&self, checker: &str, what: String) {
        let mut inner = self.lock();
        let now = inner.now;
        inner.violation.get_or_insert_with(|| (checker.to_owned(), what, now));
    }

    /// A number for a new socket.
    #[must_use]
    pub fn number_socket(&self) -> u64 {
        let mut inner = self.lock();
        inner.sequence += 1;
        inner.sequence
    }

    /// Writes down what the driver of `node` owes a socket, or that it owes nothing.
    pub fn owe(&self, socket: u64, node: NodeIndex, debt: Option<Debt>) {
        let debts = &mut self.lock().debts;
        match debt {
            Some(debt) => debts.insert(socket, (node, debt)),
            None => debts.remove(&socket),
        };
    }

    /// No task is awake: a driver that owes its socket something sleeps on it, until something else happens to wake it.
    pub fn look_for_lost_wakeups(&self) {
        let found = {
            let inner = self.lock();
            let runs = |node: NodeIndex| inner.machines[node as usize].state == State::Running;
            inner.debts.values().copied().find(|(node, _)| runs(*node))
        };
        if let Some((node, debt)) = found {
            self.fail(
                "lost-wakeup",
                format!("the driver of node {node} sleeps; it {}", debt.words()),
            );
        }
    }

    /// A process gave a datagram to its network: decides its fate.
    pub fn offer(&self, mut datagram: Datagram) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.datagrams += 1;
        let (Some(from), Some(to)) = (owner(&datagram.from), owner(&datagram.to)) else {
            return;
        };
        let known = |node: NodeIndex| (node as usize) < inner.machines.len();
        if !known(from) || !known(to) {
            return;
        }
        datagram.from = inner.machines[from as usize].external;
        let healed = &inner.healed;
        let way = inner.ways.entry((from, to)).or_insert_with(|| {
            let mut link = link_between(&self.scenario, self.key, from, to);
            for window in &inner.windows {
                link.set_window(window.fault as u32, window.at, window.until);
            }
            if let Some(core) = healed {
                heal(&mut link, core, from, to);
            }
            Way { link, offered: 0 }
        });
        let (len, kind) = (datagram.bytes.len(), kind_of(&datagram.bytes));
        let carries_marks = way.link.carries_marks();
        let fates = way.link.offer_kind(inner.now, way.offered, len, kind);
        way.offered += 1;
        let sent = Happened {
            kind: Some(kind),
            ..Happened::at(Happening::Sent, from)
        };
        inner.happened(&self.scenario, &sent);
        let Ok(first) = fates.first else { return };
        if datagram.ecn != Ecn::NotEct {
            datagram.ecn = match (carries_marks, first.marked) {
                (false, _) => Ecn::NotEct,
                (true, false) => datagram.ecn,
                (true, true) => Ecn::Ce,
            };
        }
        if let Some(second) = fates.second {
            inner.sequence += 1;
            let key = (second.at.max(inner.now), inner.sequence);
            inner.arrivals.insert(key, (to, datagram.clone()));
        }
        if let Some(corruption) = first.corrupt {
            corruption.apply(&mut datagram.bytes);
        }
        let at = match self.scenario.coalesce {
            0 => first.at,
            gather => first.at.next_multiple_of(gather),
        };
        inner.sequence += 1;
        inner
            .arrivals
            .insert((at.max(inner.now), inner.sequence), (to, datagram));
    }

    /// When something comes next by itself: an arrival, a sleeper's time, a driver's deadline.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        let inner = self.lock();
        let sleeper = inner.sleepers.keys().next().map(|(at, _)| *at);
        let arrival = inner.arrivals.keys().next().map(|(at, _)| *at);
        let deadlines = inner.machines.iter().filter_map(Machine::wakes_at);
        deadlines
            .chain(sleeper)
            .chain(arrival)
            .min()
            .map(|at| at.max(inner.now))
    }

    /// Moves time to `at` and wakes whose time has come; answers the datagrams that arrive, with the addresses that
    /// sockets know.
    pub fn advance(&self, at: u64) -> Vec<(NodeIndex, Datagram)> {
        let mut inner = self.lock();
        inner.now = inner.now.max(at);
        let now = inner.now;
        let mut wakers = Vec::new();
        while let Some(entry) = inner.sleepers.first_entry().filter(|entry| entry.key().0 <= now) {
            wakers.push(entry.remove());
        }
        let mut arrived = Vec::new();
        while let Some(entry) = inner.arrivals.first_entry().filter(|entry| entry.key().0 <= now) {
            let (node, mut datagram) = entry.remove();
            let machine = &inner.machines[node as usize];
            let listens = matches!(machine.state, State::Running | State::Paused);
            if listens && machine.external == datagram.to {
                datagram.to = machine.internal;
                let received = Happened {
                    kind: Some(kind_of(&datagram.bytes)),
                    ..Happened::at(Happening::Received, node)
                };
                inner.happened(&self.scenario, &received);
                arrived.push((node, datagram));
            }
        }
        for machine in &mut inner.machines {
            if machine.wakes_at().is_some_and(|at| at <= now)
                && let Some(timer) = machine.timer.take()
            {
                wakers.push(timer.waker);
            }
        }
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        arrived
    }

    /// Heals links for the liveness phase.
    pub fn heal(&self, core: &[NodeIndex]) {
        let mut inner = self.lock();
        inner.healed = Some(core.to_vec());
        for ((from, to), way) in &mut inner.ways {
            heal(&mut way.link, core, *from, *to);
        }
    }

    /// Something happened: what waits for it is set off.
    pub fn happened(&self, what: &Happened) {
        self.lock().happened(&self.scenario, what);
    }

    /// What all links did.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.lock().ways.values().for_each(|way| sum.add(way.link.counts()));
        sum
    }

    /// Folds something into the record.
    pub fn see(&self, what: Seen, node: NodeIndex, words: &[u64], bytes: &[u8]) {
        let mut inner = self.lock();
        let now = inner.now;
        let record = &mut inner.record;
        record.update(&[what as u8]);
        record.update(&node.to_le_bytes());
        record.update(&now.to_le_bytes());
        for word in words {
            record.update(&word.to_le_bytes());
        }
        record.update(&(bytes.len() as u64).to_le_bytes());
        record.update(bytes);
    }

    /// The digest of the record so far, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        self.lock().record.finalize().to_hex().to_string()
    }

    /// Both clocks of a machine.
    #[must_use]
    pub fn clocks(&self, node: NodeIndex) -> Now {
        let inner = self.lock();
        let machine = &inner.machines[node as usize];
        Now {
            mono: Instant::from_nanos(machine.clock.mono(inner.now)),
            wall: UnixNanos(machine.clock.wall(inner.now)),
        }
    }

    /// Sets the one timer of a machine's driver, or answers that its time has come.
    pub fn arm(&self, node: NodeIndex, at: Instant, waker: &Waker) -> bool {
        let mut inner = self.lock();
        let now = inner.now;
        let machine = &mut inner.machines[node as usize];
        if machine.clock.mono(now) >= at.as_nanos() {
            machine.timer = None;
            return true;
        }
        machine.timer = Some(Timer {
            at,
            waker: waker.clone(),
        });
        false
    }

    /// Registers who sleeps until `at`; answers the number to take it back by.
    pub fn sleep(&self, at: u64, waker: &Waker) -> u64 {
        let mut inner = self.lock();
        inner.sequence += 1;
        let number = inner.sequence;
        inner.sleepers.insert((at, number), waker.clone());
        number
    }

    /// Forgets a sleeper.
    pub fn unsleep(&self, at: u64, number: u64) {
        let gone = self.lock().sleepers.remove(&(at, number));
        drop(gone);
    }

    /// Whether the tasks of a machine's process may run; keeps the waker where not.
    pub fn may_run(&self, node: NodeIndex, waker: &Waker) -> bool {
        let mut inner = self.lock();
        let machine = &mut inner.machines[node as usize];
        match machine.state {
            State::Running | State::Down => true,
            State::Paused | State::Suspended => {
                machine.stopped.push(waker.clone());
                false
            }
        }
    }

    /// Changes what a machine's process does, and lets its tasks go on where it now runs.
    pub fn set_state(&self, node: NodeIndex, state: State) {
        let mut inner = self.lock();
        let machine = &mut inner.machines[node as usize];
        machine.state = state;
        if state == State::Down {
            machine.timer = None;
        }
        let stopped = std::mem::take(&mut machine.stopped);
        drop(inner);
        stopped.into_iter().for_each(Waker::wake);
    }

    /// The machine gets another address; `told` says whether its process is to bind it itself. Answers the address.
    pub fn readdress(&self, node: NodeIndex, told: bool) -> Addr {
        let mut inner = self.lock();
        let machine = &mut inner.machines[node as usize];
        machine.generation += 1;
        machine.external = address(node, machine.generation);
        if told {
            machine.internal = machine.external;
        }
        machine.external
    }

    /// Opens a socket of the bed's own.
    pub fn open(&self, at: Addr) {
        self.lock().endpoints.insert(at, Endpoint::default());
    }

    /// Closes it.
    pub fn close(&self, at: &Addr) {
        let gone = self.lock().endpoints.remove(at);
        drop(gone);
    }

    /// Puts a datagram into the socket it is for.
    pub fn put(&self, datagram: Datagram) {
        let mut inner = self.lock();
        let Some(endpoint) = inner.endpoints.get_mut(&datagram.to) else {
            return;
        };
        endpoint.queue.push_back(datagram);
        let reader = endpoint.reader.take();
        drop(inner);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Takes the next datagram of a socket, or keeps the waker.
    pub fn take(&self, at: &Addr, waker: &Waker) -> Option<Datagram> {
        let mut inner = self.lock();
        let endpoint = inner.endpoints.get_mut(at)?;
        let next = endpoint.queue.pop_front();
        if next.is_none() {
            endpoint.reader = Some(waker.clone());
        }
        next
    }
}

impl Inner {
    /// Something happened: what waits for it is set off, links at once.
    fn happened(&mut self, scenario: &Scenario, what: &Happened) {
        if self.healed.is_some() || !self.triggers.wait_for(&[what.event]) {
            return;
        }
        for window in self.triggers.happened(self.now, &scenario.faults, what) {
            self.windows.push(window);
            for way in self.ways.values_mut() {
                way.link.set_window(window.fault as u32, window.at, window.until);
            }
        }
    }

    /// Faults that were set off since it was asked last.
    pub fn set_off(&mut self) -> Vec<SetOff> {
        self.triggers.take()
    }

    /// Whether somebody still waits for one of these events.
    #[must_use]
    pub fn wait_for(&self, events: &[Happening]) -> bool {
        self.healed.is_none() && self.triggers.wait_for(events)
    }
}

impl Machine {
    fn wakes_at(&self) -> Option<u64> {
        if self.state != State::Running {
            return None;
        }
        self.clock.world_at(self.timer.as_ref()?.at.as_nanos())
    }
}

/// The address of a machine after so many changes, as in the world.
#[must_use]
pub fn address(node: NodeIndex, generation: u16) -> Addr {
    let [_, high, middle, low] = node.to_be_bytes();
    (Ipv4Addr::new(10, high, middle, low), FIRST_PORT + generation).into()
}

/// The machine an address belongs or belonged to.
#[must_use]
pub fn owner(address: &Addr) -> Option<NodeIndex> {
    let SocketAddr::V4(address) = address else { return None };
    let [ten, high, middle, low] = address.ip().octets();
    (ten == 10).then(|| u32::from_be_bytes([0, high, middle, low]))
}

#[cfg(test)]
mod tests {
    use net_io_sim::scenario::Scenario;

    use super::*;

    const ROUGH: &str = r#"
        schema = 1
        name = "rough"
        duration = "10s"
        [topology]
        nodes = [ { id = "a" }, { id = "b" } ]
        [topology.default_link]
        delay = { dist = "normal", mean = "20ms", sd = "4ms", min = "1ms" }
        loss = 0.2
        reorder = 0.1
        dup = 0.1
        corrupt = 0.1
        [[fault]]
        kind = "partition"
        from = "a"
        at = "100ms"
        for = "50ms"
    "#;

    fn rough() -> Scenario {
        Scenario::resolved("rough.toml", ROUGH, 5).expect("a good scenario")
    }

    fn datagram(n: u64) -> Datagram {
        Datagram {
            from: address(0, 0),
            to: address(1, 0),
            ecn: Ecn::NotEct,
            bytes: n.to_le_bytes().repeat(20),
        }
    }

    #[test]
    fn the_nth_datagram_of_a_link_has_the_fate_that_the_world_gives_it() {
        let bed = Bed::new(rough(), 5);
        bed.set_state(1, State::Running);
        let mut link = link_between(&rough(), Key::new(5), 0, 1);
        let (mut owed, mut had) = (Vec::new(), Vec::new());
        for n in 0..400 {
            let now = n * 1_000_000;
            while let Some(at) = bed.next().filter(|at| *at <= now) {
                had.extend(bed.advance(at).into_iter().map(|(_, datagram)| (at, datagram.bytes)));
            }
            bed.advance(now);
            bed.offer(datagram(n));
            let fates = link.offer_kind(now, n, 160, kind_of(&datagram(n).bytes));
            let Ok(first) = fates.first else { continue };
            let mut bytes = datagram(n).bytes;
            if let Some(second) = fates.second {
                owed.push((second.at, bytes.clone()));
            }
            first
                .corrupt
                .into_iter()
                .for_each(|corruption| corruption.apply(&mut bytes));
            owed.push((first.at, bytes));
        }
        while let Some(at) = bed.next() {
            had.extend(bed.advance(at).into_iter().map(|(_, datagram)| (at, datagram.bytes)));
        }
        owed.sort();
        had.sort();
        assert!(owed.len() > 200 && bed.counts().dropped.iter().sum::<u64>() > 50);
        assert_eq!(had, owed);
    }

    #[test]
    fn a_driver_that_sleeps_on_what_it_owes_its_socket_is_noticed_while_it_runs() {
        for debt in [Debt::Deaf, Debt::Unasked, Debt::Untried] {
            let bed = Bed::new(rough(), 5);
            bed.set_state(1, State::Running);
            let socket = bed.number_socket();
            bed.owe(socket, 1, Some(debt));
            bed.owe(socket, 1, None);
            bed.look_for_lost_wakeups();
            assert_eq!(bed.lock().violation, None);
            bed.owe(socket, 1, Some(debt));
            bed.set_state(1, State::Paused);
            bed.look_for_lost_wakeups();
            assert_eq!(bed.lock().violation, None, "a stopped process cannot do it");
            bed.set_state(1, State::Running);
            bed.look_for_lost_wakeups();
            let violation = bed.lock().violation.clone().expect("noticed");
            assert_eq!(violation.0, "lost-wakeup");
            assert!(violation.1.contains(debt.words()));
        }
    }

    #[test]
    fn a_machine_hears_what_comes_to_its_address_and_only_while_it_is_there() {
        let text = ROUGH
            .replace("loss = 0.2", "loss = 0.0")
            .replace("corrupt = 0.1", "corrupt = 0.0");
        let bed = Bed::new(Scenario::resolved("calm.toml", &text, 5).expect("a good scenario"), 5);
        let heard = |bed: &Bed| {
            bed.offer(datagram(1));
            let mut heard = 0;
            while let Some(at) = bed.next() {
                heard += bed.advance(at).len();
            }
            heard > 0
        };
        assert!(!heard(&bed), "down");
        bed.set_state(1, State::Running);
        assert!(heard(&bed));
        bed.set_state(1, State::Suspended);
        assert!(!heard(&bed), "asleep");
        bed.set_state(1, State::Paused);
        assert!(heard(&bed), "its socket still listens");
        bed.readdress(1, false);
        assert!(!heard(&bed), "its old address leads nowhere");
    }
}
