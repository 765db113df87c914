//! What a runtime has to lend: an executor, a way to know that no task is ready, and sockets.
//!
//! Invariants: a runtime decides only which ready task is next, never when.
//! Not here: the runtimes (`under_*.rs`).

use std::future::Future;
use std::io;

use net_io_sim::scenario::NodeIndex;
use net_kernel::base::Addr;

use crate::adapter::Wire;
use crate::bed::Datagram;
use crate::task::Task;

/// A group of tasks that end together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Group(pub u64);

/// See the module. Clones name the same runtime.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// Its sockets.
    type Wire: Wire;

    /// Its name in reports.
    const NAME: &'static str;

    /// Adds a task to a group.
    fn spawn(&self, group: Group, task: Task);

    /// Drops all tasks of a group, at the latest when the runtime is next idle.
    fn kill(&self, group: Group);

    /// Binds a socket of a machine.
    ///
    /// # Errors
    /// The address is in use.
    fn bind(&self, node: NodeIndex, address: Addr) -> io::Result<Self::Wire>;

    /// Waits until no other task is ready.
    fn idle(&self) -> impl Future<Output = ()>;

    /// Takes what sockets gave away since the last call, in an order that is a function of the run.
    fn sent(&self) -> Vec<Datagram>;

    /// Puts a datagram into the socket it is for; nobody may be bound there.
    fn deliver(&self, datagram: Datagram);
}
