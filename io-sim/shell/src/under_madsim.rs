//! madsim's executor, which picks the next of the ready tasks at random by seed; the sockets are the bed's.
//!
//! Invariants: one run per process, because madsim takes over the process' clock and entropy.
//! Not here: virtual time (`bed.rs`); madsim's clock only tells that every task waits.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use madsim::runtime::{Handle, NodeHandle};
use net_io_sim::arm::ArmReport;
use net_io_sim::scenario::NodeIndex;
use net_kernel::api::Ecn;
use net_kernel::base::Addr;

use crate::adapter::Wire;
use crate::bed::{Bed, Datagram};
use crate::run::{Prepared, drive};
use crate::runtime::{Group, Runtime};
use crate::task::Task;

/// Makes a run.
#[must_use]
pub fn run(prepared: &Prepared, seed: u64) -> ArmReport {
    let bed = Bed::new(prepared.scenario.clone(), seed);
    let madsim = madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
    madsim.block_on(async {
        let runtime = Madsim {
            shared: Arc::new(Shared {
                handle: Handle::current(),
                nodes: Mutex::new(BTreeMap::new()),
                bed: bed.clone(),
                sent: Mutex::new(Vec::new()),
            }),
        };
        drive(prepared, &bed, runtime).await
    })
}

/// The runtime.
#[derive(Clone)]
pub struct Madsim {
    shared: Arc<Shared>,
}

struct Shared {
    handle: Handle,
    nodes: Mutex<BTreeMap<Group, NodeHandle>>,
    bed: Bed,
    sent: Mutex<Vec<Datagram>>,
}

impl Runtime for Madsim {
    type Wire = BedWire;

    const NAME: &'static str = "madsim";

    fn spawn(&self, group: Group, task: Task) {
        let mut nodes = self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = nodes
            .entry(group)
            .or_insert_with(|| self.shared.handle.create_node().build());
        drop(node.spawn(task));
    }

    fn kill(&self, group: Group) {
        let nodes = self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(&group) {
            self.shared.handle.kill(node.id());
        }
    }

    fn bind(&self, _node: NodeIndex, address: Addr) -> io::Result<BedWire> {
        self.shared.bed.open(address);
        Ok(BedWire {
            runtime: self.clone(),
            address,
        })
    }

    async fn idle(&self) {
        // Timers go off only when no task is ready.
        madsim::time::sleep(Duration::from_millis(1)).await;
    }

    fn sent(&self) -> Vec<Datagram> {
        std::mem::take(&mut self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn deliver(&self, datagram: Datagram) {
        self.shared.bed.put(datagram);
    }
}

/// A socket of the bed.
pub struct BedWire {
    runtime: Madsim,
    address: Addr,
}

impl Wire for BedWire {
    fn send(&mut self, to: Addr, ecn: Ecn, datagram: &[u8]) {
        let mut sent = self.runtime.shared.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(Datagram {
            from: self.address,
            to,
            ecn,
            bytes: datagram.to_vec(),
        });
    }

    fn recv(&mut self, waker: &Waker, buf: &mut [u8]) -> Option<(Addr, Ecn, usize)> {
        let Datagram { from, ecn, bytes, .. } = self.runtime.shared.bed.take(&self.address, waker)?;
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        Some((from, ecn, len))
    }

    fn local(&self) -> Addr {
        self.address
    }
}

impl Drop for BedWire {
    fn drop(&mut self) {
        self.runtime.shared.bed.close(&self.address);
    }
}
