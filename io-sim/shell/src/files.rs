//! Transfers of files on the driver's public handles: the machines of the protocol at both ends, as applications drive them.
//!
//! What a machine receives lies in the world's directory of memory, which outlives its processes and loses what was not
//! synced when they are killed. The checkers are the world's.
//! Invariants: an end takes what its peer has sent before it sends, so that two ends never wait for each other; of two
//! ends that receive under one token the newer writes and the older stops.
//! Not here: what is sent (`net_io_sim::world::Tree`), sessions (`app.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use net_io_real::{RecvError, RecvHalf, Stream, StreamOptions};
use net_io_sim::check::{Checker, FileRefused, FileStored, FileWhole, Observation};
use net_io_sim::scenario::{Happening, NodeIndex, WorkloadKind};
use net_io_sim::trigger::Happened;
use net_io_sim::world::{Directory, Tree};
use net_kernel::transfer::message::Message;
use net_kernel::transfer::{Receiver, Reject, Sender, Skip, Step, Token, sender};
use net_kernel::wire::subprotocol::FILES;
use net_sim_model::{DiskFault, Family, Key};

use crate::app::App;
use crate::bed::{Bed, Seen};
use crate::runtime::Runtime;
use crate::task::{race, sleep, sleep_until};

/// Between two attempts, at least; at most twice as much.
const AGAIN: u64 = 250_000_000;

/// All transfers of a run, shared.
#[derive(Clone)]
pub(crate) struct Files {
    bed: Bed,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    transfers: Vec<Transfer>,
    directories: BTreeMap<NodeIndex, Directory>,
    panel: Panel,
}

struct Transfer {
    workload: usize,
    ends: (NodeIndex, NodeIndex),
    token: Token,
    key: Key,
    flips: u64,
    tree: Tree,
    must_complete: bool,
    complete: bool,
    attempts: u64,
    /// Messages of data so far.
    said: u64,
    /// Which end receives.
    receiving: u64,
}

/// The checkers of files.
#[derive(Default)]
struct Panel {
    whole: FileWhole,
    stored: FileStored,
    refused: FileRefused,
    /// The first violation.
    found: Option<(&'static str, String)>,
}

impl Panel {
    fn observe(&mut self, seen: &Observation<'_>) {
        let checkers: [&mut dyn Checker; 3] = [&mut self.whole, &mut self.stored, &mut self.refused];
        for checker in checkers {
            if let Err(what) = checker.observe(seen)
                && self.found.is_none()
            {
                self.found = Some((checker.name(), what));
            }
        }
    }

    fn fail(&mut self, checker: &'static str, what: String) {
        self.found.get_or_insert((checker, what));
    }
}

/// The sending end of one attempt.
struct Sending {
    transfer: usize,
    machine: Sender,
    current: u32,
    flipped: BTreeSet<u32>,
    /// What faults had done to the receiver's disk when it began.
    bitten: u64,
    /// Whether some file has to be sent anew.
    anew: bool,
}

/// The receiving end of one attempt.
struct Receiving {
    node: NodeIndex,
    machine: Receiver,
    /// Whose, and the how many-th; the offer says so.
    of: Option<(usize, u64)>,
}

/// One end.
enum End {
    Sends(Box<Sending>),
    Receives(Box<Receiving>),
}

impl Files {
    /// The transfers of the bed's scenario, and the directories that will receive them.
    pub(crate) fn new(bed: &Bed) -> Self {
        let mut panel = Panel::default();
        let (mut transfers, mut directories) = (Vec::new(), BTreeMap::new());
        for (workload, spec) in bed.scenario.workloads.iter().enumerate() {
            let WorkloadKind::File(files) = &spec.kind else {
                continue;
            };
            let key = Tree::key(bed.key, &spec.id);
            let number = u64::from(bed.scenario.number(spec.to));
            let disk = bed.key.family(Family::Disk).with_text("files").with(number);
            let directory = directories.entry(spec.to).or_insert_with(|| Directory::new(disk));
            let tree = Tree::new(workload, files, key);
            for entry in &tree.entries {
                if let Some(bytes) = entry.before() {
                    directory.put(entry.path.as_str(), &bytes);
                }
                let offered = Observation::FileOffered {
                    node: spec.to,
                    workload: workload as u32,
                    path: entry.path.as_str(),
                    item: entry.item,
                };
                panel.observe(&offered);
            }
            transfers.push(Transfer {
                workload,
                ends: (spec.from, spec.to),
                token: Token(key.with_text("token").bytes32(0)),
                key,
                flips: files.flips,
                tree,
                must_complete: files.must_complete,
                complete: false,
                attempts: 0,
                said: 0,
                receiving: 0,
            });
        }
        let inner = Inner {
            transfers,
            directories,
            panel,
        };
        Self {
            bed: bed.clone(),
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Does something; what a checker then finds wrong ends the run.
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let value = act(&mut inner);
        let violation = inner.panel.found.clone();
        drop(inner);
        if let Some((checker, what)) = violation {
            self.bed.fail(checker, what);
        }
        value
    }

    /// Transfers that `node` still has to send.
    pub(crate) fn of(&self, node: NodeIndex) -> Vec<usize> {
        self.with(|inner| {
            let mine = inner.transfers.iter().enumerate();
            let mine = mine.filter(|(_, one)| one.ends.0 == node && !one.complete);
            mine.map(|(index, _)| index).collect()
        })
    }

    /// Whether everything is settled.
    pub(crate) fn all_done(&self) -> bool {
        self.with(|inner| inner.transfers.iter().all(|one| one.complete))
    }

    /// What must complete and did not, described.
    pub(crate) fn incomplete(&self) -> Vec<String> {
        self.with(|inner| {
            let owed = inner.transfers.iter().filter(|one| one.must_complete && !one.complete);
            let words = owed.map(|one| {
                let (workload, entries) = (one.workload, one.tree.entries.len());
                let attempts = one.attempts;
                format!("workload {workload}: {entries} entries are not all settled after {attempts} attempts")
            });
            words.collect()
        })
    }

    /// The process of a machine is gone, and with it what its disk does not have.
    pub(crate) fn node_down(&self, node: NodeIndex) {
        self.with(|inner| {
            if let Some(directory) = inner.directories.get_mut(&node) {
                directory.crash();
                inner.look(node, true);
            }
        });
    }

    /// A fault of a machine's disk begins, or all of them end.
    pub(crate) fn set_fault(&self, node: NodeIndex, fault: Option<DiskFault>) {
        self.with(|inner| {
            if let Some(directory) = inner.directories.get_mut(&node) {
                directory.set_fault(fault);
            }
        });
    }
}

impl Inner {
    fn look(&mut self, node: NodeIndex, whole: bool) {
        if let Some(directory) = self.directories.get(&node) {
            let directory = directory.memory();
            let seen = Observation::Directory { node, directory, whole };
            self.panel.observe(&seen);
        }
    }

    /// One end takes a message.
    fn receive(&mut self, end: &mut End, message: &[u8]) {
        let taken = match end {
            End::Sends(sending) => sending.machine.receive(message),
            End::Receives(receiving) => {
                if let Some(Message::Offer(_, _, token)) = Message::decode(message)
                    && let Some(index) = self.transfers.iter().position(|one| one.token == token)
                {
                    self.transfers[index].receiving += 1;
                    receiving.of = Some((index, self.transfers[index].receiving));
                }
                let taken = match self.directories.get_mut(&receiving.node) {
                    Some(directory) => receiving.machine.receive(message, directory),
                    None => Ok(()),
                };
                self.look(receiving.node, false);
                taken
            }
        };
        if let Err(breach) = taken {
            let what = format!("an end takes its peer for a liar: {breach}");
            self.panel.fail("file-refused", what);
        }
        self.events(end);
    }

    /// Whether a newer end receives in the place of this one.
    fn is_replaced(&self, end: &End) -> bool {
        match end {
            End::Sends(_) => false,
            End::Receives(receiving) => receiving
                .of
                .is_some_and(|(index, number)| self.transfers[index].receiving != number),
        }
    }

    fn step(&mut self, end: &mut End, out: &mut Vec<u8>) -> Step {
        let step = match end {
            End::Sends(sending) => {
                let transfer = &mut self.transfers[sending.transfer];
                let step = sending.machine.step(&mut transfer.tree, out);
                if step == Step::Message && matches!(Message::decode(out), Some(Message::Data(_))) {
                    let key = transfer.key.with_text("flips");
                    transfer.said += 1;
                    if key.hits(transfer.said, transfer.flips) {
                        let bit = key.with(1).below(transfer.said, (out.len() as u64 - 1) * 8);
                        out[1 + bit as usize / 8] ^= 1 << (bit % 8);
                        sending.flipped.insert(sending.current);
                    }
                }
                step
            }
            End::Receives(receiving) => match self.directories.get_mut(&receiving.node) {
                Some(directory) => {
                    let step = receiving.machine.step(directory, out);
                    self.look(receiving.node, false);
                    step
                }
                None => Step::Wait,
            },
        };
        self.events(end);
        step
    }

    fn events(&mut self, end: &mut End) {
        match end {
            End::Sends(sending) => {
                while let Some(event) = sending.machine.event() {
                    self.told(sending, event);
                }
            }
            End::Receives(receiving) => while receiving.machine.event().is_some() {},
        }
    }

    fn told(&mut self, sending: &mut Sending, event: sender::Event) {
        let transfer = &self.transfers[sending.transfer];
        let node = transfer.ends.1;
        let path = |entry: u32| transfer.tree.entries[entry as usize].path.as_str();
        match event {
            sender::Event::Accepted => {}
            sender::Event::Refused(..) => sending.anew = true,
            sender::Event::Began(file, _) => sending.current = file,
            sender::Event::Stored(entry, _) => {
                let path = path(entry);
                self.panel.observe(&Observation::FileTold { node, path });
            }
            sender::Event::Rejected(entry, why) => {
                let faulty = self.directories[&node].bitten() > sending.bitten;
                let rejected = Observation::FileRejected {
                    node,
                    path: path(entry),
                    why,
                    flipped: sending.flipped.contains(&entry),
                    faulty,
                };
                self.panel.observe(&rejected);
                sending.anew |= match why {
                    Reject::Exists | Reject::Conflict => false,
                    Reject::Mismatch | Reject::Denied | Reject::Failed => true,
                    Reject::InTheWay => faulty,
                };
            }
            sender::Event::Skipped(entry, why) => {
                let path = path(entry);
                self.panel.observe(&Observation::FileSkipped { node, path, why });
                sending.anew |= why == Skip::Changed;
            }
        }
    }

    /// The sending end said its last word. Answers whether everything is settled.
    fn settle(&mut self, sending: &Sending) -> bool {
        if sending.anew {
            return false;
        }
        let transfer = &mut self.transfers[sending.transfer];
        transfer.complete = true;
        let node = transfer.ends.1;
        let settled = Observation::FilesSettled {
            node,
            workload: transfer.workload as u32,
            directory: self.directories[&node].memory(),
        };
        self.panel.observe(&settled);
        true
    }
}

impl<R: Runtime> App<R> {
    /// Sends a tree, over as many sessions as it takes.
    pub(crate) async fn send_files(&self, index: usize) {
        let files = &self.flows.files;
        let (workload, peer) = files.with(|inner| {
            let transfer = &inner.transfers[index];
            (transfer.workload, transfer.ends.1)
        });
        sleep_until(&self.bed, self.bed.scenario.workloads[workload].at).await;
        loop {
            let session = self.session(peer).await;
            let options = StreamOptions {
                subprotocol: FILES,
                ..StreamOptions::default()
            };
            let (end, key, attempts) = files.with(|inner| inner.sending(index));
            if let Ok(stream) = session.open(options) {
                let ended = race(self.transfer(stream, end, workload), session.closed()).await;
                if let Ok(Some(End::Sends(sending))) = ended
                    && files.with(|inner| inner.settle(&sending))
                {
                    return;
                }
            }
            let jitter = key.with_text("again").below(attempts, AGAIN);
            sleep(&self.bed, AGAIN + jitter).await;
        }
    }

    /// The receiving end of a stream.
    pub(crate) async fn receive_files(&self, peer: NodeIndex, stream: Stream) {
        let node = self.node;
        self.bed.happened(&Happened::at(Happening::StreamOpened, node));
        let workloads = &self.bed.scenario.workloads;
        let mine = workloads.iter().position(|one| {
            let ends = (one.from, one.to);
            matches!(one.kind, WorkloadKind::File(_)) && ends == (peer, node)
        });
        let Some(workload) = mine else {
            let what = format!("node {node} was offered files that node {peer} has not");
            return self.bed.fail("stream-order", what);
        };
        let machine = Receiver::new(u64::MAX);
        let of = None;
        let end = End::Receives(Box::new(Receiving { node, machine, of }));
        let _ = self.transfer(stream, end, workload).await;
    }

    /// Drives one end until it is over, which it answers then; nothing where its stream ended before.
    async fn transfer(&self, stream: Stream, mut end: End, mut workload: usize) -> Option<End> {
        let files = &self.flows.files;
        let (send, mut recv) = stream.split();
        let mut out = Vec::new();
        // Whoever said its last word ends its direction: what it said before is still to be worked on.
        let mut is_open = true;
        loop {
            // What has come is taken first.
            while is_open && let Ok(received) = race(recv.recv(), std::future::ready(())).await {
                is_open = self.take(&mut end, &mut workload, received)?;
            }
            if files.with(|inner| inner.is_replaced(&end)) {
                return None;
            }
            match files.with(|inner| inner.step(&mut end, &mut out)) {
                Step::Message => {
                    // It may wait for credit: the peer is heard meanwhile.
                    loop {
                        match race(send.send(&out), next(&mut recv, is_open)).await {
                            Ok(Ok(())) => break,
                            Ok(Err(_)) => return None,
                            Err(received) => is_open = self.take(&mut end, &mut workload, received)?,
                        }
                    }
                }
                Step::More => {}
                Step::Wait if !is_open => return None,
                Step::Wait => {
                    let received = recv.recv().await;
                    is_open = self.take(&mut end, &mut workload, received)?;
                }
                Step::Over => {
                    // Not confirmed where the session ends before: both know how every entry ended.
                    let _ = send.finish().await;
                    return Some(end);
                }
            }
        }
    }

    /// One end has heard its peer. Answers whether more may come; nothing where the stream is gone.
    fn take(&self, end: &mut End, workload: &mut usize, received: Result<Option<Bytes>, RecvError>) -> Option<bool> {
        let Some(message) = received.ok()? else {
            return Some(false);
        };
        let arrived = self.flows.files.with(|inner| {
            if inner.is_replaced(end) {
                return 0;
            }
            inner.receive(end, &message);
            if let End::Receives(receiving) = end
                && let Some((index, _)) = receiving.of
            {
                *workload = inner.transfers[index].workload;
            }
            1
        });
        self.bed
            .see(Seen::Delivered, self.node, &[*workload as u64, arrived], &message);
        self.bed.happened(&Happened {
            workload: Some(*workload as u32),
            ..Happened::at(Happening::Delivered, self.node)
        });
        Some(true)
    }
}

/// What comes next; nothing ever does after the end.
async fn next(recv: &mut RecvHalf, is_open: bool) -> Result<Option<Bytes>, RecvError> {
    if is_open {
        recv.recv().await
    } else {
        std::future::pending().await
    }
}

impl Inner {
    /// A new attempt, with what decides about the pause after it.
    fn sending(&mut self, index: usize) -> (End, Key, u64) {
        let transfer = &mut self.transfers[index];
        transfer.attempts += 1;
        let machine = Sender::new(transfer.tree.list(), transfer.token).expect("a small tree of short names");
        let end = End::Sends(Box::new(Sending {
            transfer: index,
            machine,
            current: 0,
            flipped: BTreeSet::new(),
            bitten: self.directories[&transfer.ends.1].bitten(),
            anew: false,
        }));
        (end, transfer.key, transfer.attempts)
    }
}
