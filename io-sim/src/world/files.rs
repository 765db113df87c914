//! Applications that transfer files: a machine of the protocol at each end of a stream, lost with its process or session.
//!
//! The end that opened the stream sends. It begins again, under the same token, whenever its session ended, the receiver had
//! no room, or a file has to be sent anew, until nothing is left to do.
//! Invariants: an end takes a bounded number of steps per turn; it grants credit for a message when its machine took it, and
//! holds one message at most that its node did not take. Directories outlive processes; machines do not.
//! Not here: what is sent (`tree.rs`), what receives it (`directory.rs`), sessions (`apps.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use net_kernel::api::{Command, Input, Messages, Refused, StreamOptions};
use net_kernel::base::{CommandId, StreamId};
use net_kernel::session::SessionKey;
use net_kernel::transfer::message::Message;
use net_kernel::transfer::{Receiver, Reject, Sender, Skip, Step, Token, receiver, sender};
use net_kernel::wire::Reliability;
use net_kernel::wire::subprotocol::FILES;
use net_sim_model::{DiskFault, Family, Key};

use super::World;
use super::apps::{Apps, Order, Purpose};
use super::directory::Directory;
use super::event::What;
use super::node::State;
use super::tree::Tree;
use crate::check::{Observation, Panel, wants};
use crate::host::Host;
use crate::scenario::{FileWorkload, Scenario, WorkloadKind};

/// Steps of a machine in one turn of its application.
const STEPS: u32 = 8;
/// Between two turns of an application that has more to do.
const TURN: u64 = 20_000;
/// From the arrival of a message to the application's turn.
const READ_PAUSE: u64 = 100_000;
/// Between two attempts, at least; at most twice as much.
const AGAIN: u64 = 250_000_000;
/// A turn that falls into a stop of its process is tried again after this.
const STOPPED: u64 = 10_000_000;

/// A workload of kind `file`.
#[derive(Debug)]
struct Transfer {
    workload: u32,
    from: u32,
    to: u32,
    token: Token,
    key: Key,
    flips: u64,
    tree: Tree,
    started: bool,
    complete: bool,
    must_complete: bool,
    /// The sending end under way.
    attempt: Option<u32>,
    attempts: u64,
    /// No attempt begins before.
    not_before: u64,
    /// Messages of data so far.
    said: u64,
    /// Messages delivered to the receiver and to the sender.
    arrived: [u64; 2],
}

enum Side {
    Sends(Box<Sender>),
    Receives(Box<Receiver>),
}

/// What becomes of the message that an end has ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outgoing {
    /// There is none.
    Nothing,
    /// The node will be asked to send it.
    Asked,
    /// The node is being asked.
    Given,
    /// The node has no credit for it.
    Blocked,
}

/// One end of one attempt.
struct End {
    node: u32,
    session: SessionKey,
    stream: Option<StreamId>,
    /// Whose; a receiver learns it from the offer.
    transfer: Option<u32>,
    side: Side,
    inbox: VecDeque<Vec<u8>>,
    part: Vec<u8>,
    out: Vec<u8>,
    outgoing: Outgoing,
    /// Messages the node took.
    sent: u64,
    scheduled: bool,
    over: bool,
    /// Its process, its session or its stream is gone.
    gone: bool,
    /// Whether some file has to be sent anew.
    anew: bool,
    /// The file that is being sent, and those of which a bit was flipped.
    current: u32,
    flipped: BTreeSet<u32>,
    /// What faults had done to the receiver's disk when the attempt began.
    bitten: u64,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, outgoing) = (self.node, self.outgoing);
        f.debug_struct("End")
            .field("node", &node)
            .field("outgoing", &outgoing)
            .finish_non_exhaustive()
    }
}

impl End {
    fn new(node: u32, session: SessionKey, side: Side) -> Self {
        Self {
            node,
            session,
            stream: None,
            transfer: None,
            side,
            inbox: VecDeque::new(),
            part: Vec::new(),
            out: Vec::new(),
            outgoing: Outgoing::Nothing,
            sent: 0,
            scheduled: false,
            over: false,
            gone: false,
            anew: false,
            current: 0,
            flipped: BTreeSet::new(),
            bitten: 0,
        }
    }
}

/// All transfers of a world.
#[derive(Debug)]
pub struct Files {
    transfers: Vec<Transfer>,
    ends: Vec<End>,
    streams: BTreeMap<(u32, SessionKey, StreamId), u32>,
    directories: BTreeMap<u32, Directory>,
}

impl Files {
    /// The transfers of a scenario, and the directories that will receive them.
    pub fn new(scenario: &Scenario, run: Key) -> Self {
        let (mut transfers, mut directories) = (Vec::new(), BTreeMap::new());
        for (index, workload) in scenario.workloads.iter().enumerate() {
            let WorkloadKind::File(spec) = &workload.kind else {
                continue;
            };
            let number = u64::from(scenario.number(workload.to));
            let disk = run.family(Family::Disk).with_text("files").with(number);
            let directory = directories.entry(workload.to).or_insert_with(|| Directory::new(disk));
            let transfer = Transfer::new(index, (workload.from, workload.to), spec, &workload.id, run);
            for entry in &transfer.tree.entries {
                if let Some(bytes) = entry.before() {
                    directory.put(entry.path.as_str(), &bytes);
                }
            }
            transfers.push(transfer);
        }
        Self {
            transfers,
            ends: Vec::new(),
            streams: BTreeMap::new(),
            directories,
        }
    }

    /// Whether there are any.
    pub const fn any(&self) -> bool {
        !self.transfers.is_empty()
    }

    /// Tells the checkers what will be offered.
    pub fn announce(&self, panel: &mut Panel) {
        for transfer in &self.transfers {
            for entry in &transfer.tree.entries {
                let offered = Observation::FileOffered {
                    node: transfer.to,
                    workload: transfer.workload,
                    path: entry.path.as_str(),
                    item: entry.item,
                };
                panel.observe(0, wants::FILE, &offered);
            }
        }
    }

    /// A workload begins; one of another kind does not matter here.
    pub fn start(&mut self, workload: u32) {
        let mine = self.transfers.iter_mut().filter(|one| one.workload == workload);
        mine.for_each(|one| one.started = true);
    }

    /// Whether some application of `node` wants a session with `peer`.
    pub fn wants(&self, node: u32, peer: u32) -> bool {
        let wants = |one: &Transfer| one.started && !one.complete && (one.from, one.to) == (node, peer);
        self.transfers.iter().any(wants)
    }

    /// Whether everything is settled.
    pub fn all_done(&self) -> bool {
        self.transfers.iter().all(|one| one.complete)
    }

    /// Messages that arrived, of one workload or of all, at one machine or at all.
    pub fn arrived(&self, workload: Option<u32>, node: Option<u32>) -> u64 {
        let mine = self
            .transfers
            .iter()
            .filter(|one| workload.is_none_or(|workload| workload == one.workload));
        let each = mine.flat_map(|one| [(one.to, one.arrived[0]), (one.from, one.arrived[1])]);
        each.filter(|(reader, _)| node.is_none_or(|node| node == *reader))
            .map(|(_, count)| count)
            .sum()
    }

    /// The end that a stream belongs to.
    pub fn end_of(&self, node: u32, session: SessionKey, stream: StreamId) -> Option<u32> {
        self.streams.get(&(node, session, stream)).copied()
    }

    /// Streams of one session, or of all, are gone at `node`.
    pub fn lose(&mut self, node: u32, session: Option<SessionKey>) {
        for (index, end) in self.ends.iter_mut().enumerate() {
            if end.gone || end.node != node || session.is_some_and(|session| session != end.session) {
                continue;
            }
            end.gone = true;
            if let Some(stream) = end.stream {
                self.streams.remove(&(node, end.session, stream));
            }
            for transfer in &mut self.transfers {
                if transfer.attempt == Some(index as u32) {
                    transfer.attempt = None;
                }
            }
        }
    }

    /// A fault of a machine's disk begins, or all of them end.
    pub fn set_fault(&mut self, node: u32, fault: Option<DiskFault>) {
        if let Some(directory) = self.directories.get_mut(&node) {
            directory.set_fault(fault);
        }
    }

    /// Operations on a machine's directory that faults touched.
    pub fn bitten(&self, node: u32) -> u64 {
        self.directories.get(&node).map_or(0, Directory::bitten)
    }

    /// What an end is about to send: session, stream, the message's number and length.
    pub fn saying(&self, end: u32) -> Option<(SessionKey, StreamId, u64, u64)> {
        let end = &self.ends[end as usize];
        let ready = !end.gone && end.outgoing == Outgoing::Asked;
        let stream = end.stream.filter(|_| ready)?;
        Some((end.session, stream, end.sent, end.out.len() as u64))
    }

    /// What must complete and did not: its workload and how far it is.
    pub fn owed(&self) -> impl Iterator<Item = (u32, String)> {
        let owed = self.transfers.iter().filter(|one| one.must_complete && !one.complete);
        owed.map(|one| {
            let state = match one.attempt.map(|end| &self.ends[end as usize]) {
                None => "none under way".to_owned(),
                Some(end) => match &end.side {
                    Side::Sends(sender) => format!(
                        "the last at {} of {} bytes, {:?}",
                        sender.progress(),
                        sender.totals().bytes,
                        end.outgoing
                    ),
                    Side::Receives(_) => String::new(),
                },
            };
            let files = one.tree.entries.len();
            let words = format!(
                "{files} entries are not all settled after {} attempts, {state}",
                one.attempts
            );
            (one.workload, words)
        })
    }

    /// How far the ends on a machine are, for a person.
    pub fn lines(&self, node: u32) -> impl Iterator<Item = (String, String)> {
        let mine = self.ends.iter().enumerate();
        let mine = mine.filter(move |(_, end)| end.node == node && !end.gone);
        mine.map(|(index, end)| {
            let (name, done, all) = match &end.side {
                Side::Sends(sender) => ("sends", sender.progress(), sender.totals().bytes),
                Side::Receives(receiver) => ("receives", receiver.progress(), receiver.totals().bytes),
            };
            let words = format!(
                "{done} of {all} B settled or under way, outgoing: {:?}, over: {}",
                end.outgoing, end.over
            );
            (format!("files.{index}.{name}"), words)
        })
    }
}

impl Transfer {
    fn new(index: usize, ends: (u32, u32), spec: &FileWorkload, id: &str, run: Key) -> Self {
        let key = Tree::key(run, id);
        Self {
            workload: index as u32,
            from: ends.0,
            to: ends.1,
            token: Token(key.with_text("token").bytes32(0)),
            key,
            flips: spec.flips,
            tree: Tree::new(index, spec, key),
            started: false,
            complete: false,
            must_complete: spec.must_complete,
            attempt: None,
            attempts: 0,
            not_before: 0,
            said: 0,
            arrived: [0; 2],
        }
    }
}

impl Apps {
    /// A session is up: attempts begin that wait for one.
    pub(super) fn open_files(&mut self, now: u64, node: u32, peer: u32, session: SessionKey) {
        for index in 0..self.files.transfers.len() {
            let transfer = &mut self.files.transfers[index];
            let idle = transfer.started && !transfer.complete && transfer.attempt.is_none();
            if !idle || (transfer.from, transfer.to) != (node, peer) || now < transfer.not_before {
                continue;
            }
            let sender = Sender::new(transfer.tree.list(), transfer.token).expect("a small tree of short names");
            let mut end = End::new(node, session, Side::Sends(Box::new(sender)));
            end.transfer = Some(index as u32);
            end.bitten = self.files.directories[&peer].bitten();
            let number = self.files.ends.len() as u32;
            (transfer.attempt, transfer.attempts) = (Some(number), transfer.attempts + 1);
            self.files.ends.push(end);
            let options = StreamOptions {
                reliability: Reliability::Reliable,
                priority: 0,
                weight: 16,
                subprotocol: FILES,
            };
            let order = Order::Open { session, options };
            self.orders.push_back((node, Purpose::File(number), order));
            self.count("file.attempts");
        }
    }

    /// The stream of an attempt is open.
    pub(super) fn files_opened(&mut self, now: u64, end: u32, session: SessionKey, stream: StreamId) {
        let state = &mut self.files.ends[end as usize];
        if !state.gone {
            state.stream = Some(stream);
            self.files.streams.insert((state.node, session, stream), end);
            self.file_turn(now, end);
        }
    }

    /// A peer opened a stream to send files.
    pub(super) fn accept_files(&mut self, now: u64, node: u32, session: SessionKey, stream: StreamId) {
        let receiver = Side::Receives(Box::new(Receiver::new(u64::MAX)));
        let mut state = End::new(node, session, receiver);
        state.stream = Some(stream);
        let end = self.files.ends.len() as u32;
        self.files.ends.push(state);
        self.files.streams.insert((node, session, stream), end);
        for early in self.take_early(node, session, stream) {
            self.file_part(now, end, early.end, &early.bytes);
        }
    }

    /// The node refused to open a stream or to send on it.
    pub(super) fn files_refused(&mut self, now: u64, end: u32, why: Refused, panel: &mut Panel) {
        let state = &mut self.files.ends[end as usize];
        if state.gone {
            return;
        }
        if state.stream.is_none() {
            state.gone = true;
            return self.attempt_over(now, end);
        }
        match why {
            Refused::Backpressure => {
                state.outgoing = Outgoing::Blocked;
                self.count("backpressure");
            }
            // The session ends just now, and the application is told so next.
            Refused::NoSession | Refused::NoStream | Refused::Finished | Refused::ShutDown => {
                state.outgoing = Outgoing::Blocked;
            }
            Refused::MessageTooLarge { .. }
            | Refused::TableFull
            | Refused::StreamLimit
            | Refused::OwnIdentity
            | Refused::BadIdentity
            | Refused::BadAddresses
            | Refused::BadArgument
            | Refused::NotAllowed
            | Refused::ReservedSubprotocol
            | Refused::NoMesh
            | Refused::NoRoute => {
                let node = state.node;
                panel.fail(now, "refused", format!("node {node}, file transfer: {why:?}"));
            }
        }
    }

    /// There is credit again.
    pub(super) fn files_writable(&mut self, now: u64, end: u32) {
        let state = &mut self.files.ends[end as usize];
        if state.outgoing == Outgoing::Blocked {
            state.outgoing = Outgoing::Asked;
            let node = state.node;
            self.orders.push_back((node, Purpose::File(end), Order::Say { end }));
        }
        self.file_turn(now, end);
    }

    /// A part of a message arrived.
    pub(super) fn file_part(&mut self, now: u64, end: u32, ends: bool, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.last_delivery = now;
        let state = &mut self.files.ends[end as usize];
        state.part.extend_from_slice(bytes);
        if !ends {
            return;
        }
        let message = std::mem::take(&mut state.part);
        if let (None, Some(Message::Offer(_, _, token))) = (state.transfer, Message::decode(&message)) {
            let transfers = self.files.transfers.iter();
            let found = transfers.enumerate().find(|(_, one)| one.token == token);
            state.transfer = found.map(|(index, _)| index as u32);
        }
        state.inbox.push_back(message);
        if let Some(transfer) = state.transfer {
            let way = usize::from(matches!(state.side, Side::Sends(_)));
            self.files.transfers[transfer as usize].arrived[way] += 1;
        }
        self.count("file.messages");
        self.file_turn(now + READ_PAUSE, end);
    }

    /// Schedules an end's turn.
    fn file_turn(&mut self, at: u64, end: u32) {
        let state = &mut self.files.ends[end as usize];
        if !state.scheduled && !state.gone {
            state.scheduled = true;
            self.later.push((at, What::File { end }));
        }
    }

    /// The process on `node` is gone: what its directory had not synced is kept, lost or torn.
    pub(super) fn crash_files(&mut self, now: u64, node: u32, panel: &mut Panel) {
        let Some(directory) = self.files.directories.get_mut(&node) else {
            return;
        };
        let crash = directory.crash();
        let seen = Observation::Directory {
            node,
            directory: directory.memory(),
            whole: true,
        };
        panel.observe(now, wants::FILE, &seen);
        for (name, count) in [
            ("file.kept", crash.kept),
            ("file.lost", crash.lost),
            ("file.torn", crash.torn),
        ] {
            *self.counters.entry(name).or_default() += count;
        }
    }

    /// An end's turn: it takes what arrived and does some steps.
    fn take_file_turn(&mut self, now: u64, end: u32, panel: &mut Panel) {
        let mut more = false;
        for _ in 0..STEPS {
            let took = self.take_message(now, end, panel);
            let state = &self.files.ends[end as usize];
            if state.outgoing != Outgoing::Nothing || state.over {
                more = !state.inbox.is_empty();
                if took && more {
                    continue;
                }
                break;
            }
            let step = self.file_step(end);
            self.file_events(now, end, panel);
            let state = &mut self.files.ends[end as usize];
            match step {
                Step::Message => {
                    state.outgoing = Outgoing::Asked;
                    let node = state.node;
                    self.orders.push_back((node, Purpose::File(end), Order::Say { end }));
                    more = true;
                }
                Step::More => more = true,
                Step::Wait => {
                    more = !state.inbox.is_empty();
                    if !more {
                        break;
                    }
                }
                Step::Over => {
                    more = !state.inbox.is_empty();
                    self.file_over(now, end, panel);
                }
            }
        }
        let state = &self.files.ends[end as usize];
        let waits = state.outgoing != Outgoing::Nothing && state.inbox.is_empty();
        if more && !waits {
            self.file_turn(now + TURN, end);
        }
    }

    /// The machine of an end takes one message, and the peer is granted credit for it.
    fn take_message(&mut self, now: u64, end: u32, panel: &mut Panel) -> bool {
        let state = &mut self.files.ends[end as usize];
        let Some(message) = state.inbox.pop_front() else {
            return false;
        };
        let node = state.node;
        let taken = match &mut state.side {
            // It has said its last word: what was under way is of no interest any more.
            Side::Sends(_) if state.over => Ok(()),
            Side::Sends(sender) => sender.receive(&message),
            Side::Receives(receiver) => match self.files.directories.get_mut(&node) {
                Some(directory) => receiver.receive(&message, directory),
                None => Ok(()),
            },
        };
        if let (Some(stream), false) = (state.stream, state.gone) {
            let order = Order::Swallowed {
                session: state.session,
                stream,
                bytes: message.len() as u64,
                messages: 1,
            };
            self.orders.push_back((node, Purpose::Plain, order));
        }
        if let Err(breach) = taken {
            panel.fail(
                now,
                "file-refused",
                format!("node {node} takes its peer for a liar: {breach}"),
            );
        }
        self.file_events(now, end, panel);
        if let Some(directory) = self.files.directories.get(&node) {
            let (directory, whole) = (directory.memory(), false);
            let seen = Observation::Directory { node, directory, whole };
            panel.observe(now, wants::FILE, &seen);
        }
        true
    }

    /// One step of an end's machine.
    fn file_step(&mut self, end: u32) -> Step {
        let Files {
            transfers,
            ends,
            directories,
            ..
        } = &mut self.files;
        let state = &mut ends[end as usize];
        match &mut state.side {
            Side::Sends(sender) => {
                let Some(transfer) = state.transfer.and_then(|index| transfers.get_mut(index as usize)) else {
                    return Step::Wait;
                };
                let step = sender.step(&mut transfer.tree, &mut state.out);
                if step == Step::Message && matches!(Message::decode(&state.out), Some(Message::Data(_))) {
                    let key = transfer.key.with_text("flips");
                    transfer.said += 1;
                    if key.hits(transfer.said, transfer.flips) {
                        let bit = key.with(1).below(transfer.said, (state.out.len() as u64 - 1) * 8);
                        state.out[1 + bit as usize / 8] ^= 1 << (bit % 8);
                        state.flipped.insert(state.current);
                        self.count("file.flipped");
                    }
                }
                step
            }
            Side::Receives(receiver) => match directories.get_mut(&state.node) {
                Some(directory) => receiver.step(directory, &mut state.out),
                None => Step::Wait,
            },
        }
    }

    /// What the machine of an end tells.
    fn file_events(&mut self, now: u64, end: u32, panel: &mut Panel) {
        loop {
            let state = &mut self.files.ends[end as usize];
            match &mut state.side {
                Side::Sends(sender) => match sender.event() {
                    Some(event) => self.sender_told(now, end, event, panel),
                    None => return,
                },
                Side::Receives(receiver) => match receiver.event() {
                    Some(receiver::Event::Began(_, offset)) if offset > 0 => self.count("file.continued"),
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }

    fn sender_told(&mut self, now: u64, end: u32, event: sender::Event, panel: &mut Panel) {
        let state = &mut self.files.ends[end as usize];
        let Some(transfer) = state
            .transfer
            .and_then(|index| self.files.transfers.get(index as usize))
        else {
            return;
        };
        let node = transfer.to;
        let path = |entry: u32| transfer.tree.entries[entry as usize].path.as_str();
        match event {
            sender::Event::Accepted => {}
            sender::Event::Refused(..) => {
                state.anew = true;
                self.count("file.refused");
            }
            sender::Event::Began(file, _) => state.current = file,
            sender::Event::Stored(entry, before) => {
                let path = path(entry);
                panel.observe(now, wants::FILE, &Observation::FileTold { node, path });
                self.count(if before { "file.there" } else { "file.stored" });
            }
            sender::Event::Rejected(entry, why) => {
                let faulty = self.files.directories[&node].bitten() > state.bitten;
                let rejected = Observation::FileRejected {
                    node,
                    path: path(entry),
                    why,
                    flipped: state.flipped.contains(&entry),
                    faulty,
                };
                panel.observe(now, wants::FILE, &rejected);
                let (anew, name) = match why {
                    Reject::Exists => (false, "file.exists"),
                    Reject::Mismatch => (true, "file.mismatch"),
                    Reject::Denied | Reject::Failed => (true, "file.rejected"),
                    // What lies in a directory that could not be made.
                    Reject::InTheWay => (faulty, "file.rejected"),
                    Reject::Conflict => (false, "file.rejected"),
                };
                state.anew |= anew;
                self.count(name);
            }
            sender::Event::Skipped(entry, why) => {
                let path = path(entry);
                panel.observe(now, wants::FILE, &Observation::FileSkipped { node, path, why });
                state.anew |= match why {
                    Skip::Changed => true,
                    // It is gone for good.
                    Skip::Unreadable | Skip::Rejected => false,
                };
                self.count("file.skipped");
            }
        }
    }

    /// The machine of an end said its last word: its direction of the stream ends.
    fn file_over(&mut self, now: u64, end: u32, panel: &mut Panel) {
        let state = &mut self.files.ends[end as usize];
        state.over = true;
        let (node, session, anew) = (state.node, state.session, state.anew);
        if let Some(stream) = state.stream {
            let order = Order::Hush { session, stream };
            self.orders.push_back((node, Purpose::Plain, order));
        }
        let (Side::Sends(_), Some(index)) = (&state.side, state.transfer) else {
            return;
        };
        if anew {
            return self.attempt_over(now, end);
        }
        let transfer = &mut self.files.transfers[index as usize];
        (transfer.attempt, transfer.complete) = (None, true);
        let (node, changes) = (transfer.to, transfer.tree.changes);
        let settled = Observation::FilesSettled {
            node,
            workload: transfer.workload,
            directory: self.files.directories[&node].memory(),
        };
        panel.observe(now, wants::FILE, &settled);
        *self.counters.entry("file.changed").or_default() += changes;
        self.count("file.complete");
    }

    /// An attempt did not settle everything: another one follows.
    fn attempt_over(&mut self, now: u64, end: u32) {
        let Some(index) = self.files.ends[end as usize].transfer else {
            return;
        };
        let transfer = &mut self.files.transfers[index as usize];
        transfer.attempt = None;
        let jitter = transfer.key.with_text("again").below(transfer.attempts, AGAIN);
        transfer.not_before = now + AGAIN + jitter;
        let (node, peer) = (transfer.from, transfer.to);
        self.later.push((transfer.not_before, What::Dial { node, peer }));
    }
}

impl<H: Host> World<H> {
    /// An end of a file transfer has its turn, unless its process is stopped.
    pub(super) fn file(&mut self, end: u32) {
        let state = &mut self.apps.files.ends[end as usize];
        if state.gone {
            return;
        }
        let machine = self.nodes[state.node as usize].state;
        if matches!(machine, State::Paused | State::Suspended) {
            return self.queue.push(self.now + STOPPED, What::File { end });
        }
        state.scheduled = false;
        self.apps.take_file_turn(self.now, end, &mut self.panel);
    }

    /// A node is given the message that an end has ready.
    pub(super) fn say(&mut self, node: u32, id: CommandId, end: u32) {
        let Some((session, stream, ..)) = self.apps.files.saying(end) else {
            return;
        };
        let state = &mut self.apps.files.ends[end as usize];
        let bytes = std::mem::take(&mut state.out);
        state.outgoing = Outgoing::Given;
        let messages = Messages::One(&bytes);
        let send = Command::Send {
            session,
            stream,
            messages,
        };
        self.turn(node, Input::Command(id, send));
        let state = &mut self.apps.files.ends[end as usize];
        state.out = bytes;
        // A refusal came in the meantime, or none did.
        if state.outgoing == Outgoing::Given {
            state.outgoing = Outgoing::Nothing;
            state.sent += 1;
            self.apps.file_turn(self.now + TURN, end);
        }
    }
}
