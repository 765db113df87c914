//! The segment of the network: sockets over which a node speaks to all that listen, and hears them (docs/protocol.md 8a).
//!
//! A task beside the driver owns them: what it hears it leaves on the board, what turns speak it takes from there.
//! Invariants: nothing leaves the segment (one hop); queues to and from the driver are bounded; an interface that cannot be
//! joined is told of, and a node that can join none does not start.
//! Not here: what is said, how often, and what is believed (`net-kernel`).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use net_kernel::api::Segment;
use net_kernel::wire::beacon::{BEACON_LEN, BEACON_PORT, GROUP_V4, GROUP_V6, MAX_SAID};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::ReadBuf;

use crate::api::Addr;
use crate::error::StartError;
use crate::hub::{Phase, Shared};

/// Datagrams that wait for the driver, and beacons that wait to leave; more are lost, as the network might lose them.
const MAX_WAITING: usize = 64;
/// Datagrams received in one poll, before other tasks get their turn.
const MAX_RECEIVED: usize = 32;
/// Space to receive into: a datagram that is longer than a beacon is none, and is seen to be longer.
const SPACE: usize = BEACON_LEN + 1;

/// What waits between the task and the driver.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    told: VecDeque<Told>,
    spoken: VecDeque<Vec<u8>>,
    /// Whom to wake for what is spoken.
    speaker: Option<Waker>,
}

/// What the driver is to tell the kernel.
#[derive(Debug)]
pub(crate) enum Told {
    Joined { port: u16, addresses: Vec<Addr> },
    Left,
    Heard { from: Addr, bytes: Vec<u8> },
}

impl Told {
    pub(crate) fn as_segment(&self) -> Segment<'_> {
        match self {
            Self::Joined { port, addresses } => Segment::Joined { port: *port, addresses },
            Self::Left => Segment::Left,
            Self::Heard { from, bytes } => Segment::Heard { from: *from, bytes },
        }
    }
}

impl Waiting {
    /// The next thing to tell the kernel.
    pub(crate) fn pop(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// A turn speaks; answers whom to wake.
    pub(crate) fn speak(&mut self, datagram: &[u8]) -> Option<Waker> {
        if self.spoken.len() == MAX_WAITING {
            self.spoken.pop_front();
        }
        self.spoken.push_back(datagram.to_vec());
        self.speaker.take()
    }
}

/// One address of this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interface {
    index: u32,
    ip: IpAddr,
}

/// The sockets of a node on its segment.
#[derive(Debug)]
pub(crate) struct Sockets {
    bound: SocketAddr,
    interfaces: Vec<Interface>,
    listeners: Vec<tokio::net::UdpSocket>,
    speakers: Vec<(UdpSocket, SocketAddr)>,
}

impl Sockets {
    /// Joins the groups on every interface at which a node bound to `bound` is reached. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`StartError::Multicast`] where none could be joined.
    pub(crate) fn open(bound: SocketAddr) -> Result<Self, StartError> {
        let failed = |error| StartError::Multicast { error };
        let interfaces = interfaces_of(&bound).map_err(failed)?;
        let mut sockets = Self {
            bound,
            interfaces,
            listeners: Vec::new(),
            speakers: Vec::new(),
        };
        let (v4, v6): (Vec<Interface>, Vec<Interface>) =
            sockets.interfaces.iter().partition(|interface| interface.ip.is_ipv4());
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no interface is up that carries multicast");
        for family in [v4, v6] {
            if let Err(error) = sockets.join(&family) {
                last = error;
            }
        }
        if sockets.listeners.is_empty() || sockets.speakers.is_empty() {
            return Err(failed(last));
        }
        Ok(sockets)
    }

    /// Joins one family's group on these interfaces.
    fn join(&mut self, interfaces: &[Interface]) -> io::Result<()> {
        let Some(first) = interfaces.first() else { return Ok(()) };
        let listener = listener(first.ip.is_ipv4())?;
        let mut joined = 0;
        let mut last = None;
        for interface in interfaces {
            let outcome = enter(&listener, interface).and_then(|()| speaker(interface));
            match outcome {
                Ok(speaker) => {
                    joined += 1;
                    self.speakers.push(speaker);
                }
                Err(error) => {
                    tracing::warn!(
                        code = "multicast.interface", address = %interface.ip, %error,
                        "an interface cannot be joined: nodes on its network do not find this one"
                    );
                    last = Some(error);
                }
            }
        }
        if joined == 0 {
            return Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()));
        }
        listener.set_nonblocking(true)?;
        self.listeners.push(tokio::net::UdpSocket::from_std(listener.into())?);
        Ok(())
    }

    /// What the kernel is told of them.
    fn joined(&self) -> Told {
        Told::Joined {
            port: self.bound.port(),
            addresses: said(&self.bound, &self.interfaces),
        }
    }

    fn send(&self, datagram: &[u8]) {
        for (socket, group) in &self.speakers {
            if let Err(error) = socket.send_to(datagram, group) {
                // The next beacon finds the interface up again, or gone.
                tracing::debug!(%error, %group, "a beacon did not leave");
            }
        }
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Option<(Addr, Vec<u8>)> {
        let mut space = [0; SPACE];
        for listener in &self.listeners {
            let mut buf = ReadBuf::new(&mut space);
            match listener.poll_recv_from(cx, &mut buf) {
                Poll::Ready(Ok(from)) => return Some((from, buf.filled().to_vec())),
                Poll::Ready(Err(error)) => tracing::debug!(%error, "a beacon was not received"),
                Poll::Pending => {}
            }
        }
        None
    }
}

/// Starts to speak and listen; ends with the node, or when it is aborted.
pub(crate) async fn run(shared: Arc<Shared>, mut sockets: Sockets) {
    tell(&shared, sockets.joined());
    loop {
        let Some(spoken) = step(&shared, &sockets).await else {
            return;
        };
        // The interfaces of a host change while it runs: looked at whenever the node speaks, which is seldom.
        if interfaces_of(&sockets.bound).is_ok_and(|now| now != sockets.interfaces) {
            match Sockets::open(sockets.bound) {
                Ok(fresh) => {
                    sockets = fresh;
                    tell(&shared, sockets.joined());
                }
                Err(error) => tracing::warn!(code = error.code(), %error, "the interfaces of this host changed"),
            }
        }
        spoken.iter().for_each(|datagram| sockets.send(datagram));
    }
}

/// The node is not reached any more where its segment was told.
pub(crate) fn leave(shared: &Shared) {
    tell(shared, Told::Left);
}

fn tell(shared: &Shared, told: Told) {
    let mut hub = shared.lock();
    let waiting = &mut hub.board.segment;
    if waiting.told.len() < MAX_WAITING || !matches!(told, Told::Heard { .. }) {
        waiting.told.push_back(told);
    }
    hub.board.call_driver();
}

/// Hears until there is something to speak; `None` once the node ends.
async fn step(shared: &Shared, sockets: &Sockets) -> Option<VecDeque<Vec<u8>>> {
    poll_fn(|cx| {
        let mut received = 0;
        while received < MAX_RECEIVED
            && let Some((from, bytes)) = sockets.poll_recv(cx)
        {
            received += 1;
            tell(shared, Told::Heard { from, bytes });
        }
        if received == MAX_RECEIVED {
            cx.waker().wake_by_ref();
        }
        let mut hub = shared.lock();
        if matches!(hub.board.phase, Phase::Ended | Phase::Gone) {
            return Poll::Ready(None);
        }
        if !hub.board.segment.spoken.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut hub.board.segment.spoken)));
        }
        hub.board.segment.speaker = Some(cx.waker().clone());
        hub.board.ended.add(cx.waker());
        Poll::Pending
    })
    .await
}

/// A socket that hears the group of one family, and that others on this host may have as well.
fn listener(v4: bool) -> io::Result<Socket> {
    let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // Linux lets sockets of several users share a port by the former alone; elsewhere this is what lets them.
    #[cfg(all(unix, not(target_os = "linux")))]
    socket.set_reuse_port(true)?;
    if !v4 {
        socket.set_only_v6(true)?;
    }
    // Bound to the group, so that nothing else that is sent to this port is heard.
    let group: SocketAddr = match (v4, cfg!(unix)) {
        (true, true) => (GROUP_V4, BEACON_PORT).into(),
        (false, true) => (GROUP_V6, BEACON_PORT).into(),
        (true, false) => (Ipv4Addr::UNSPECIFIED, BEACON_PORT).into(),
        (false, false) => (Ipv6Addr::UNSPECIFIED, BEACON_PORT).into(),
    };
    socket.bind(&group.into())?;
    Ok(socket)
}

fn enter(listener: &Socket, interface: &Interface) -> io::Result<()> {
    let outcome = match interface.ip {
        IpAddr::V4(ip) if interface.index == 0 => listener.join_multicast_v4(&GROUP_V4, &ip),
        IpAddr::V4(_) => listener.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(interface.index)),
        IpAddr::V6(_) => listener.join_multicast_v6(&GROUP_V6, interface.index),
    };
    match outcome {
        // An interface with several addresses is joined once.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        outcome => outcome,
    }
}

/// A socket that speaks to the group over one interface, and where it speaks to.
fn speaker(interface: &Interface) -> io::Result<(UdpSocket, SocketAddr)> {
    let (group, source): (SocketAddr, SocketAddr) = match interface.ip {
        IpAddr::V4(ip) => ((GROUP_V4, BEACON_PORT).into(), (ip, 0).into()),
        IpAddr::V6(_) => {
            let group = SocketAddrV6::new(GROUP_V6, BEACON_PORT, 0, interface.index);
            (group.into(), (Ipv6Addr::UNSPECIFIED, 0).into())
        }
    };
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    match interface.ip {
        IpAddr::V4(ip) => {
            socket.set_multicast_if_v4(&ip)?;
            socket.set_multicast_ttl_v4(1)?;
            socket.set_multicast_loop_v4(true)?;
        }
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_if_v6(interface.index)?;
            socket.set_multicast_hops_v6(1)?;
            socket.set_multicast_loop_v6(true)?;
        }
    }
    socket.bind(&source.into())?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), group))
}

/// Where others are told to dial: every address that means the same to all who hear it. A host with more than a beacon says
/// leaves it to where the beacon comes from.
fn said(bound: &SocketAddr, interfaces: &[Interface]) -> Vec<Addr> {
    let means_the_same = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    if !bound.ip().is_unspecified() {
        return vec![*bound];
    }
    let ips = interfaces.iter().map(|interface| interface.ip).filter(means_the_same);
    let all: Vec<Addr> = ips.map(|ip| Addr::new(ip, bound.port())).collect();
    if all.len() > MAX_SAID { Vec::new() } else { all }
}

/// The interfaces over which a node bound to `bound` is reached: that of its address, or all; of IPv6 only where it takes
/// IPv6, one address each.
fn interfaces_of(bound: &SocketAddr) -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = host_interfaces()?
        .into_iter()
        .filter(|interface| match bound.ip() {
            ip if !ip.is_unspecified() => interface.ip == ip,
            IpAddr::V4(_) => interface.ip.is_ipv4(),
            IpAddr::V6(_) => true,
        })
        .collect();
    found.sort_by_key(|interface| (interface.ip.is_loopback(), interface.ip.is_ipv6(), interface.index));
    Ok(found)
}

/// Every address of every interface that is up and carries multicast, and those of the loopback interface: nodes of one host
/// find each other without a network.
#[cfg(target_os = "linux")]
#[expect(
    clippy::cast_ptr_alignment,
    reason = "the host aligns a socket address as its family needs it"
)]
fn host_interfaces() -> io::Result<Vec<Interface>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the pointer, which the call sets to a list that lives until `freeifaddrs`.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut all = Vec::new();
    let mut next = list;
    // SAFETY: `next` is null or an element of the list, none of which is freed before the loop has ended.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        let flags = entry.ifa_flags;
        let has = |flag: libc::c_int| flags & flag.unsigned_abs() != 0;
        if !has(libc::IFF_UP) || !(has(libc::IFF_MULTICAST) || has(libc::IFF_LOOPBACK)) || entry.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: the host made the name a string that ends with a zero, which lives as long as the list.
        let index = unsafe { libc::if_nametoindex(entry.ifa_name) };
        // SAFETY: the address is not null, and its family, which every kind of address begins with, tells its kind; a host
        // gives each kind its whole length.
        let ip = unsafe {
            match libc::c_int::from((*entry.ifa_addr).sa_family) {
                libc::AF_INET => {
                    let address = &*entry.ifa_addr.cast::<libc::sockaddr_in>();
                    IpAddr::from(address.sin_addr.s_addr.to_ne_bytes())
                }
                libc::AF_INET6 => IpAddr::from((*entry.ifa_addr.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr),
                _ => continue,
            }
        };
        all.push(Interface { index, ip });
    }
    // SAFETY: the list came from `getifaddrs` and is freed once; nothing that was kept points into it.
    unsafe { libc::freeifaddrs(list) };
    Ok(all)
}

/// The interfaces that the host prefers: it does not tell of others here.
#[cfg(not(target_os = "linux"))]
fn host_interfaces() -> io::Result<Vec<Interface>> {
    let outward = |from: SocketAddr, to: SocketAddr| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let v4 = outward(
        (Ipv4Addr::UNSPECIFIED, 0).into(),
        (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
    );
    let all = [v4, Some(Ipv4Addr::LOCALHOST.into())];
    Ok(all.into_iter().flatten().map(|ip| Interface { index: 0, ip }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, ip: &str) -> Interface {
        Interface {
            index,
            ip: ip.parse().expect("an address"),
        }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_said_means_the_same_to_all() {
        let host = [
            interface(2, "192.0.2.1"),
            interface(2, "fe80::1"),
            interface(2, "2001:db8::1"),
            interface(1, "127.0.0.1"),
        ];
        assert_eq!(said(&at("[::]:7"), &host), [at("192.0.2.1:7"), at("[2001:db8::1]:7")]);
        assert_eq!(said(&at("127.0.0.1:7"), &host), [at("127.0.0.1:7")]);
        let many: Vec<Interface> = (1..6).map(|n| interface(n, &format!("192.0.2.{n}"))).collect();
        assert!(said(&at("0.0.0.0:7"), &many).is_empty(), "more than a beacon says");
    }

    #[test]
    fn this_host_has_a_loopback_interface() {
        let found = interfaces_of(&at("127.0.0.1:7")).expect("the host tells");
        assert_eq!(found.len(), 1);
        assert!(found[0].ip.is_loopback());
        assert!(interfaces_of(&at("192.0.2.77:7")).expect("the host tells").is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_wakes_whoever_sends_it() {
        let mut waiting = Waiting::default();
        for n in 0..=MAX_WAITING {
            assert!(waiting.speak(&[n as u8]).is_none(), "nobody waits");
        }
        assert_eq!(waiting.spoken.len(), MAX_WAITING);
        assert_eq!(waiting.spoken[0], [1], "the oldest was lost");
    }
}
