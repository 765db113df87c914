//! Where heavy pure work and disk writes run: inline, or on a few threads of their own.
//!
//! Invariants: queues are bounded, and what does not fit runs inline; storage operations run one after the other in
//! their order; a result always reaches the board; threads end when the driver does.
//! Not here: what a job computes (`net-kernel`), files (`state.rs`).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::api::{Job, JobId, StoreError, StoreOp, StoreTicket as Ticket};

use crate::hub::Shared;
use crate::traits::{Disk, Entropy};

/// Jobs waiting for a thread; one more runs inline.
const QUEUE: usize = 64;

type Work = (JobId, Box<Job>);
type Order = (Ticket, StoreOp);

/// See the module.
pub(crate) struct Pool<E, D> {
    shared: Arc<Shared>,
    entropy: Arc<E>,
    disk: Arc<D>,
    threads: usize,
    work: Option<SyncSender<Work>>,
    orders: Option<SyncSender<Order>>,
    store: Option<thread::JoinHandle<()>>,
    /// Jobs handed to threads whose results were not taken yet.
    under_way: usize,
}

impl<E: Entropy, D: Disk> Pool<E, D> {
    /// `threads` = 0 runs everything inline, as a simulated world needs it. Threads start when first needed.
    pub(crate) const fn new(shared: Arc<Shared>, entropy: Arc<E>, disk: Arc<D>, threads: usize) -> Self {
        Self {
            shared,
            entropy,
            disk,
            threads,
            work: None,
            orders: None,
            store: None,
            under_way: 0,
        }
    }

    /// Whether a single job would only be delayed by a thread: none is under way.
    pub(crate) const fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    /// A result of a thread was taken.
    pub(crate) const fn on_taken(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Hands a job to a thread, or back where it must run inline.
    pub(crate) fn start(&mut self, work: Work) -> Result<(), Work> {
        if self.threads == 0 {
            return Err(work);
        }
        if self.work.is_none() {
            self.work = self.spawn_workers();
        }
        let Some(queue) = &self.work else { return Err(work) };
        match queue.try_send(work) {
            Ok(()) => {
                self.under_way += 1;
                Ok(())
            }
            Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) => Err(work),
        }
    }

    /// Hands a storage operation to its thread, or runs it now; the result goes to the board.
    pub(crate) fn store(&mut self, order: Order) {
        if self.threads > 0 && self.orders.is_none() {
            self.orders = self.spawn_store();
        }
        let left = match &self.orders {
            // Waiting for room keeps the order; it is reached only by a disk that has stopped answering.
            Some(queue) => queue.send(order).map_err(|error| error.0).err(),
            None => Some(order),
        };
        if let Some(order) = left {
            carry_out(&self.shared, &*self.disk, order);
        }
    }

    fn spawn_workers(&self) -> Option<SyncSender<Work>> {
        let (sender, receiver) = sync_channel::<Work>(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut started = 0;
        for _ in 0..self.threads {
            let (shared, entropy, receiver) = (self.shared.clone(), self.entropy.clone(), receiver.clone());
            let run = move || work_off(&shared, &*entropy, &receiver);
            started += usize::from(thread::Builder::new().name("net-job".into()).spawn(run).is_ok());
        }
        (started > 0).then_some(sender)
    }

    fn spawn_store(&mut self) -> Option<SyncSender<Order>> {
        let (sender, receiver) = sync_channel::<Order>(QUEUE);
        let (shared, disk) = (self.shared.clone(), self.disk.clone());
        let run = move || receiver.iter().for_each(|order| carry_out(&shared, &*disk, order));
        self.store = thread::Builder::new().name("net-store".into()).spawn(run).ok();
        self.store.is_some().then_some(sender)
    }
}

/// What was ordered is on disk, and the disk let go, before the driver counts as gone.
impl<E, D> Drop for Pool<E, D> {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(store) = self.store.take() {
            // A panic there was reported by its thread; nothing is left to be done about it here.
            let _ = store.join();
        }
    }
}

fn work_off<E: Entropy>(shared: &Shared, entropy: &E, queue: &Mutex<Receiver<Work>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((id, job)) = next else { return };
        let done = crate::driver::run_job(*job, entropy);
        let mut hub = shared.lock();
        hub.board.worked.push_back((id, done));
        hub.board.call_driver();
    }
}

fn carry_out<D: Disk>(shared: &Shared, disk: &D, (ticket, op): Order) {
    let result: Result<Option<Vec<u8>>, StoreError> = match &op {
        StoreOp::Put { cell, bytes } => disk.put(*cell, bytes).map(|()| None),
        StoreOp::Get { cell } => disk.get(*cell).map(Some).map(Option::flatten),
    };
    let mut hub = shared.lock();
    hub.board
        .stored
        .push_back((ticket, matches!(op, StoreOp::Get { .. }), result));
    hub.board.call_driver();
}
