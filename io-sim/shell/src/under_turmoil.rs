//! turmoil-net's sockets and fabric under tokio's paused clock: ready tasks run in the order they were woken.
//!
//! turmoil-net's datagrams have no room for a congestion mark: here each carries it as one more byte at its end, which
//! neither links nor drivers see.
//! Invariants: packets leave turmoil-net's fabric only through the bed's links; the runtime is dropped before the net.
//! Not here: virtual time (`bed.rs`); tokio's paused clock only tells that every task waits.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use net_io_sim::arm::ArmReport;
use net_io_sim::scenario::NodeIndex;
use net_kernel::api::Ecn;
use net_kernel::base::Addr;
use tokio::task::AbortHandle;
use turmoil_net::shim::tokio::net::UdpSocket;
use turmoil_net::{EnterGuard, HostId, KernelConfig, Net, Packet, Transport, UdpDatagram};

use crate::adapter::Wire;
use crate::bed::{Bed, Datagram, address};
use crate::run::{Prepared, drive};
use crate::runtime::{Group, Runtime};
use crate::task::Task;

/// Makes a run.
///
/// # Errors
/// What tokio says when it cannot start.
pub fn run(prepared: &Prepared) -> io::Result<ArmReport> {
    let bed = Bed::new(prepared.scenario.clone(), prepared.seed);
    // What is too long for a link is the link's to decide.
    let mut net = Net::with_config(KernelConfig::default().mtu(u32::from(u16::MAX)));
    let hosts = (0..bed.scenario.nodes.len() as u32).map(|node| net.add_host(address(node, 0).ip()));
    let hosts: Vec<HostId> = hosts.collect();
    let guard = Arc::new(net.enter());
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let turmoil = Turmoil {
        shared: Arc::new(Shared {
            tokio: tokio.handle().clone(),
            guard: Guard(Arc::clone(&guard)),
            hosts,
            tasks: Mutex::new(BTreeMap::new()),
        }),
    };
    let report = tokio.block_on(drive(prepared, &bed, turmoil));
    // Sockets reach for the net when they are dropped.
    drop(tokio);
    drop(guard);
    Ok(report)
}

/// The runtime.
#[derive(Clone)]
pub struct Turmoil {
    shared: Arc<Shared>,
}

struct Shared {
    tokio: tokio::runtime::Handle,
    guard: Guard,
    hosts: Vec<HostId>,
    tasks: Mutex<BTreeMap<Group, Vec<AbortHandle>>>,
}

/// The installed net. It is this thread's: a run never leaves the thread it began on.
struct Guard(Arc<EnterGuard>);

impl Runtime for Turmoil {
    type Wire = TurmoilWire;

    const NAME: &'static str = "turmoil";

    fn spawn(&self, group: Group, task: Task) {
        let handle = self.shared.tokio.spawn(task).abort_handle();
        let mut tasks = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let of_group = tasks.entry(group).or_default();
        of_group.retain(|handle| !handle.is_finished());
        of_group.push(handle);
    }

    fn kill(&self, group: Group) {
        let mut tasks = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = tasks.remove(&group).unwrap_or_default();
        drop(tasks);
        gone.iter().for_each(AbortHandle::abort);
    }

    fn bind(&self, node: NodeIndex, address: Addr) -> io::Result<TurmoilWire> {
        let host = self.shared.hosts[node as usize];
        turmoil_net::set_current(host);
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(UdpSocket::bind(address)).poll(&mut cx) {
            Poll::Ready(socket) => Ok(TurmoilWire {
                host,
                socket: socket?,
                address,
                out: Vec::new(),
            }),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    async fn idle(&self) {
        // The clock stands still until every task waits; then this sleep is the only thing to move on to.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn sent(&self) -> Vec<Datagram> {
        let mut packets = Vec::new();
        self.shared.guard.0.egress_all(&mut packets);
        packets.into_iter().filter_map(datagram).collect()
    }

    fn deliver(&self, mut datagram: Datagram) {
        datagram.bytes.push(datagram.ecn as u8);
        self.shared.guard.0.deliver(Packet {
            src: datagram.from.ip(),
            dst: datagram.to.ip(),
            ttl: 64,
            payload: Transport::Udp(UdpDatagram {
                src_port: datagram.from.port(),
                dst_port: datagram.to.port(),
                payload: datagram.bytes.into(),
            }),
        });
    }
}

fn datagram(packet: Packet) -> Option<Datagram> {
    let Transport::Udp(udp) = packet.payload else {
        return None;
    };
    let (mark, bytes) = udp.payload.split_last()?;
    Some(Datagram {
        from: SocketAddr::new(packet.src, udp.src_port),
        to: SocketAddr::new(packet.dst, udp.dst_port),
        ecn: marked(*mark),
        bytes: bytes.to_vec(),
    })
}

fn marked(mark: u8) -> Ecn {
    let all = [Ecn::Ect0, Ecn::Ect1, Ecn::Ce];
    all.into_iter().find(|ecn| *ecn as u8 == mark).unwrap_or(Ecn::NotEct)
}

/// A socket of turmoil-net.
pub struct TurmoilWire {
    host: HostId,
    socket: UdpSocket,
    address: Addr,
    out: Vec<u8>,
}

impl Wire for TurmoilWire {
    fn send(&mut self, to: Addr, ecn: Ecn, datagram: &[u8]) {
        turmoil_net::set_current(self.host);
        // It refuses what no packet can carry; the driver's datagrams are below that.
        self.out.clear();
        self.out.extend_from_slice(datagram);
        self.out.push(ecn as u8);
        let _ = self.socket.try_send_to(&self.out, to);
    }

    fn recv(&mut self, waker: &Waker, buf: &mut [u8]) -> Option<(Addr, Ecn, usize)> {
        turmoil_net::set_current(self.host);
        // Dropping this future loses nothing here: the waker is the socket's, and so is what waits.
        let received = pin!(self.socket.recv_from(buf)).poll(&mut Context::from_waker(waker));
        let Poll::Ready(Ok((len, from))) = received else {
            return None;
        };
        let len = len.checked_sub(1)?;
        Some((from, marked(buf[len]), len))
    }

    fn local(&self) -> Addr {
        self.address
    }
}

impl Drop for TurmoilWire {
    /// The socket is closed on its own host, right after this.
    fn drop(&mut self) {
        turmoil_net::set_current(self.host);
    }
}
