//! The driver's world under tokio: batched UDP, a clock that counts suspended time, OS entropy, signals.
//!
//! Invariants: a readiness is cleared only by an observation made after it was taken, so no wakeup is lost; write
//! interest is registered only while the socket is full, because otherwise every datagram sent would wake its sender.
//! Not here: what the driver does with it (`driver.rs`), opening state and building nodes (`node.rs`).

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::task::{Context, Poll, ready};

use quinn_udp::{EcnCodepoint, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::api::{Addr, Ecn, Instant, LinkChange, Now, UnixNanos};
use crate::traits::{Clock, DatagramSocket, Entropy, RECV_BUFFERS, RecvMeta, Transmit};

/// Asked for, so that a burst of one congestion window fits; the host may grant less.
const RECV_BUFFER: usize = 8 << 20;
/// Asked for; as above.
const SEND_BUFFER: usize = 4 << 20;
/// Buffers of one receive call at first and at least: two, because a short answer tells that no more waits.
const MIN_BATCH: usize = 2;
/// Bytes of one receive call beyond which fewer buffers are asked for: they are opened while they lie in the cache.
const CALL_BYTES: usize = 256 << 10;
/// Hints kept until the driver asks; the oldest goes for one more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_HINTS: usize = 16;
/// The wall clock is compared with the monotonic one this often, in nanoseconds.
const WALL_CHECK: u64 = 100_000_000;

#[cfg(unix)]
type Readiness<T> = tokio::io::unix::AsyncFd<T>;

/// Registers a descriptor that `inner` owns with the running reactor.
#[cfg(unix)]
fn register<T: Into<std::os::fd::OwnedFd> + std::os::fd::AsRawFd>(
    inner: T,
    interest: tokio::io::Interest,
) -> io::Result<Readiness<T>> {
    // SAFETY: the descriptor must stay open and the same while it is registered. Only types that can be turned into an
    // `OwnedFd` are taken, so `inner` owns a valid one and closes it when dropped, which `AsyncFd` does after
    // deregistering; and this module never hands out `&mut T`, so nobody replaces it.
    unsafe { Readiness::register_with_interest(inner, interest) }.map_err(io::Error::from)
}

/// A UDP socket with segmentation offload, coalesced receive and ECN where the host has them.
#[derive(Debug)]
pub struct TokioSocket {
    #[cfg(unix)]
    io: Readiness<UdpSocket>,
    /// Registered for writing only while the socket is full.
    #[cfg(unix)]
    full: Option<Readiness<UdpSocket>>,
    #[cfg(not(unix))]
    io: tokio::net::UdpSocket,
    calls: Calls,
}

/// System calls and what they learn, apart from readiness.
#[derive(Debug)]
struct Calls {
    state: UdpSocketState,
    /// IPv4 peers are written as mapped IPv6 addresses.
    v6: bool,
    batch: usize,
    metas: Box<[quinn_udp::RecvMeta; RECV_BUFFERS]>,
    hints: VecDeque<LinkChange>,
}

impl TokioSocket {
    /// Binds `address`; an unspecified IPv6 address takes IPv4 as well. Needs a running tokio runtime.
    ///
    /// # Errors
    /// What the host says.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.bind(&address.into())?;
        Self::from_std(socket.into())
    }

    /// Takes a bound socket over.
    ///
    /// # Errors
    /// What the host says.
    pub fn from_std(socket: UdpSocket) -> io::Result<Self> {
        let v6 = socket.local_addr()?.is_ipv6();
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // A smaller buffer than asked for costs throughput, not correctness; so does a host without error reports.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), RECV_BUFFER);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SEND_BUFFER);
        #[cfg(unix)]
        let _ = state.enable_transport_errors(UdpSockRef::from(&socket));
        #[cfg(target_os = "linux")]
        disable_unread(&socket);
        let metas = Box::new([quinn_udp::RecvMeta::default(); RECV_BUFFERS]);
        Ok(Self {
            #[cfg(unix)]
            io: register(socket, tokio::io::Interest::READABLE)?,
            #[cfg(unix)]
            full: None,
            #[cfg(not(unix))]
            io: tokio::net::UdpSocket::from_std(socket)?,
            calls: Calls {
                state,
                v6,
                batch: MIN_BATCH,
                metas,
                hints: VecDeque::new(),
            },
        })
    }
}

impl TokioSocket {
    /// Datagrams that the host takes in one call as one buffer (GSO), and that it hands over so (GRO); 1 where it does not.
    #[must_use]
    pub fn offloads(&self) -> (usize, usize) {
        (self.calls.state.max_gso_segments(), self.calls.state.gro_segments())
    }
}

impl DatagramSocket for TokioSocket {
    #[cfg(unix)]
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [Box<[u8]>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            // The readiness is taken before the call, so that what arrives after the call is not cleared with it.
            let mut guard = ready!(self.io.poll_read_ready(cx))?;
            let socket = guard.get_inner();
            match self.calls.recv(UdpSockRef::from(socket), bufs, metas) {
                Ok((count, more)) => {
                    if !more {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if is_report(&error) && self.calls.drain_errors(socket, &error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    #[cfg(unix)]
    fn try_recv(&mut self, bufs: &mut [Box<[u8]>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        let socket = self.io.get_ref();
        match self.calls.recv(UdpSockRef::from(socket), bufs, metas) {
            Err(error) if is_report(&error) && self.calls.drain_errors(socket, &error) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result.map(|(count, _)| count),
        }
    }

    #[cfg(not(unix))]
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [Box<[u8]>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let mut outcome = None;
            // To answer WouldBlock clears the readiness as it was before the call.
            let _ = self.io.try_io(tokio::io::Interest::READABLE, || {
                match self.calls.recv(UdpSockRef::from(&self.io), bufs, metas) {
                    Ok((count, more)) => {
                        outcome = Some(Ok(count));
                        if more {
                            Ok(())
                        } else {
                            Err(io::ErrorKind::WouldBlock.into())
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
                    Err(error) if is_report(&error) => Ok(()),
                    Err(error) => {
                        outcome = Some(Err(error));
                        Ok(())
                    }
                }
            });
            if let Some(outcome) = outcome {
                return Poll::Ready(outcome);
            }
        }
    }

    fn try_send(&mut self, transmit: &Transmit<'_>) -> io::Result<usize> {
        #[cfg(unix)]
        return self.calls.send(self.io.get_ref(), transmit);
        #[cfg(not(unix))]
        self.io
            .try_io(tokio::io::Interest::WRITABLE, || self.calls.send(&self.io, transmit))
    }

    #[cfg(unix)]
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.full.is_none() {
            let twin = self.io.get_ref().try_clone()?;
            self.full = Some(register(twin, tokio::io::Interest::WRITABLE)?);
        }
        if let Some(full) = &self.full {
            ready!(full.poll_write_ready(cx))?.clear_ready();
        }
        self.full = None;
        Poll::Ready(Ok(()))
    }

    #[cfg(not(unix))]
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_send_ready(cx)
    }

    fn local_addr(&self) -> io::Result<Addr> {
        #[cfg(unix)]
        return self.io.get_ref().local_addr();
        #[cfg(not(unix))]
        self.io.local_addr()
    }

    fn max_segments(&self) -> usize {
        self.calls.state.max_gso_segments()
    }

    fn take_hint(&mut self) -> Option<LinkChange> {
        self.calls.hints.pop_front()
    }
}

#[cfg(unix)]
type Host = UdpSocket;
#[cfg(not(unix))]
type Host = tokio::net::UdpSocket;

impl Calls {
    /// One receive call: how many buffers were filled and whether more may wait.
    fn recv(
        &mut self,
        socket: UdpSockRef<'_>,
        bufs: &mut [Box<[u8]>],
        metas: &mut [RecvMeta],
    ) -> io::Result<(usize, bool)> {
        let want = self.batch.min(bufs.len()).min(metas.len());
        let mut left = bufs[..want].iter_mut();
        let mut slices: [IoSliceMut<'_>; RECV_BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(left.next().map_or(&mut [], |buf| &mut buf[..])));
        let count = self.state.recv(socket, &mut slices[..want], &mut self.metas[..want])?;
        for (to, meta) in metas.iter_mut().zip(&self.metas[..count]) {
            *to = RecvMeta {
                from: inside(meta.addr),
                len: meta.len,
                stride: meta.stride,
                ecn: ecn_of(meta.ecn),
            };
        }
        let more = count == want;
        let bytes: usize = metas[..count].iter().map(|meta| meta.len).sum();
        self.batch = match (more, count) {
            // Fewer were asked for than usual.
            (true, _) if want < self.batch => self.batch,
            (true, _) if bytes > CALL_BYTES => (self.batch / 2).max(MIN_BATCH),
            (true, _) if bytes > CALL_BYTES / 2 => self.batch,
            (true, _) => (self.batch * 2).min(RECV_BUFFERS),
            (false, few) if few <= self.batch / 4 => (self.batch / 2).max(MIN_BATCH),
            (false, _) => self.batch,
        };
        Ok((count, more))
    }

    /// Sends what it can; see [`DatagramSocket::try_send`].
    fn send(&mut self, socket: &Host, transmit: &Transmit<'_>) -> io::Result<usize> {
        let to = self.outside(transmit.to);
        let single = transmit.bytes.len() <= transmit.segment;
        if single || self.state.max_gso_segments() > 1 {
            let segment = (!single).then_some(transmit.segment);
            match self.send_anew(socket, to, transmit.ecn, segment, transmit.bytes) {
                Ok(()) => return Ok(transmit.bytes.len()),
                // Some hosts refuse segmentation only when it is tried; from then on datagrams leave one by one.
                Err(_) if !single && self.state.max_gso_segments() == 1 => {}
                Err(error) => return Err(error),
            }
        }
        let mut sent = 0;
        for datagram in transmit.bytes.chunks(transmit.segment) {
            match self.send_anew(socket, to, transmit.ecn, None, datagram) {
                Ok(()) => sent += datagram.len(),
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// Sends one transmit; an error that an earlier datagram left behind is noted and does not stop this one.
    fn send_anew(
        &mut self,
        socket: &Host,
        to: SocketAddr,
        ecn: bool,
        segment: Option<usize>,
        bytes: &[u8],
    ) -> io::Result<()> {
        let ecn = ecn.then_some(EcnCodepoint::Ect0);
        let transmit = quinn_udp::Transmit {
            destination: to,
            ecn,
            contents: bytes,
            segment_size: segment,
            src_ip: None,
        };
        match self.state.try_send(UdpSockRef::from(socket), &transmit) {
            Err(error) if is_report(&error) && self.drain_errors(socket, &error) => {
                self.state.try_send(UdpSockRef::from(socket), &transmit)
            }
            result => result,
        }
    }

    fn outside(&self, to: Addr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.v6 => {
                SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        }
    }

    /// Takes the host's error reports; answers whether there was one. The report names the destination that failed,
    /// the error by which it showed tells the kind.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn drain_errors(&mut self, socket: &Host, shown: &io::Error) -> bool {
        use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
        let mut any = false;
        for _ in 0..MAX_HINTS {
            let (mut byte, mut space) = ([0; 1], [std::mem::MaybeUninit::uninit(); 512]);
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::ERRQUEUE | RecvFlags::DONTWAIT;
            let Ok(report) = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags) else {
                break;
            };
            any = true;
            let Some(to) = report.address.and_then(|address| SocketAddr::try_from(address).ok()) else {
                continue;
            };
            let hint = if shown.raw_os_error() == msgsize() {
                LinkChange::TooLarge(inside(to))
            } else {
                LinkChange::Unreachable(inside(to))
            };
            if self.hints.len() == MAX_HINTS {
                self.hints.pop_front();
            }
            self.hints.push_back(hint);
        }
        any
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn drain_errors(&mut self, _socket: &Host, _shown: &io::Error) -> bool {
        true
    }
}

/// Switches off what the socket would tell of every datagram and nobody reads: arrival times and local addresses.
#[cfg(target_os = "linux")]
fn disable_unread(socket: &UdpSocket) {
    use std::os::fd::AsRawFd as _;
    let off: libc::c_int = 0;
    for (level, name) in [
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
        (libc::IPPROTO_IP, libc::IP_PKTINFO),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    ] {
        // SAFETY: the descriptor is open, because `socket` is borrowed, and the pointer and length name `off`, which
        // outlives the call and is only read.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                (&raw const off).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
        // An option that a socket of the other family does not know is off anyway.
    }
}

/// Whether an error reports on an earlier datagram instead of this call.
fn is_report(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    ) || error.raw_os_error() == msgsize()
}

#[cfg(unix)]
fn msgsize() -> Option<i32> {
    Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

#[cfg(not(unix))]
fn msgsize() -> Option<i32> {
    None
}

/// IPv4 stays IPv4 inside, whatever the socket.
fn inside(address: SocketAddr) -> Addr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

const fn ecn_of(ecn: Option<EcnCodepoint>) -> Ecn {
    match ecn {
        None => Ecn::NotEct,
        Some(EcnCodepoint::Ect0) => Ecn::Ect0,
        Some(EcnCodepoint::Ect1) => Ecn::Ect1,
        Some(EcnCodepoint::Ce) => Ecn::Ce,
    }
}

/// The address of a wildcard socket of the given family.
#[must_use]
pub fn any_address(v6: bool, port: u16) -> SocketAddr {
    if v6 {
        (Ipv6Addr::UNSPECIFIED, port).into()
    } else {
        ([0, 0, 0, 0], port).into()
    }
}

/// CLOCK_BOOTTIME, the wall clock, and a timer on the former.
#[derive(Debug)]
pub struct TokioClock {
    #[cfg(target_os = "linux")]
    timer: Readiness<std::os::fd::OwnedFd>,
    #[cfg(not(target_os = "linux"))]
    timer: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
    #[cfg(not(target_os = "linux"))]
    origin: std::time::Instant,
    /// When the timer goes off. Left alone while it is earlier than asked for: going off early is cheaper than setting
    /// it for every packet.
    armed: Option<Instant>,
    last: Instant,
    wall_minus_mono: u64,
    checked: Option<u64>,
}

impl TokioClock {
    /// Needs a running tokio runtime.
    ///
    /// # Errors
    /// What the host says.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(target_os = "linux")]
            timer: {
                use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
                let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
                register(fd, tokio::io::Interest::READABLE)?
            },
            #[cfg(not(target_os = "linux"))]
            timer: None,
            #[cfg(not(target_os = "linux"))]
            origin: std::time::Instant::now(),
            armed: None,
            last: Instant::ZERO,
            wall_minus_mono: 0,
            checked: None,
        })
    }

    #[cfg(target_os = "linux")]
    fn mono(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // The clock counts from boot, so neither part is negative.
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    #[cfg(not(target_os = "linux"))]
    fn mono(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[cfg(target_os = "linux")]
    fn arm(&mut self, at: Instant) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let nanos = at.as_nanos();
        let value = Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (nanos % 1_000_000_000) as _,
        };
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: value,
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        self.armed = Some(at);
        Ok(())
    }

    /// Whether the timer went off since it was set.
    #[cfg(target_os = "linux")]
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Setting it anew makes the next edge, so what it counted needs no reading.
        ready!(self.timer.poll_read_ready(cx))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    #[cfg(not(target_os = "linux"))]
    fn arm(&mut self, at: Instant) -> io::Result<()> {
        let after = std::time::Duration::from_nanos(at.as_nanos().saturating_sub(self.mono()));
        let deadline = tokio::time::Instant::now() + after;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(deadline),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
        self.armed = Some(at);
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.timer {
            Some(timer) => {
                ready!(std::future::Future::poll(timer.as_mut(), cx));
                self.timer = None;
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Clock for TokioClock {
    fn now(&mut self) -> Now {
        let mono = self.mono();
        if self
            .checked
            .is_none_or(|checked| mono.wrapping_sub(checked) > WALL_CHECK)
        {
            self.checked = Some(mono);
            let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let wall = wall.map_or(0, |wall| u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX));
            self.wall_minus_mono = wall.wrapping_sub(mono);
        }
        self.last = self.last.max(Instant::from_nanos(mono));
        Now {
            mono: self.last,
            wall: UnixNanos(mono.wrapping_add(self.wall_minus_mono)),
        }
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        if at <= self.last {
            return Poll::Ready(());
        }
        loop {
            if self.armed.is_none_or(|armed| armed > at)
                && let Err(error) = self.arm(at)
            {
                tracing::error!(%error, "the timer cannot be set");
                return Poll::Ready(());
            }
            if let Err(error) = ready!(self.poll_timer(cx)) {
                tracing::error!(%error, "the timer failed");
            }
            self.armed = None;
            self.now();
            if at <= self.last {
                return Poll::Ready(());
            }
        }
    }
}

/// The operating system's random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        getrandom::fill(out).map_err(io::Error::other)
    }
}

/// Waits until the process is asked to end: SIGTERM or SIGINT, elsewhere Ctrl-C.
///
/// # Errors
/// When signals cannot be received here.
pub async fn terminated() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
