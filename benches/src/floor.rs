//! The floors: what bare UDP sockets do on this machine, without cipher, order or reliability.
//!
//! Invariants: one datagram carries one message of the measure, or as much of it as the MTU bound allows.
//! Not here: anything that recovers a loss; a rate here is what arrived.

use crate::contender::{Contender, Failure, MTU, SMALL, SOCKET_BUFFER, median};
use crate::flight::{Flight, Latency};
use crate::process::{Peer, attend};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::io::{ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How a side of the ping-pong waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Asleep in the system call.
    Blocking,
    /// Asking again and again.
    Spinning,
}

/// One datagram there, one back.
pub struct PingPong {
    wait: Wait,
    running: Option<(Peer, UdpSocket)>,
}

impl PingPong {
    /// Not yet started.
    #[must_use]
    pub fn new(wait: Wait) -> Self {
        Self { wait, running: None }
    }

    /// In the peer process: answers every datagram with itself, for ever.
    ///
    /// # Errors
    /// Where the socket fails.
    pub fn serve(wait: Wait) -> Result<(), Failure> {
        let socket = bound(wait)?;
        attend(socket.local_addr()?, "", Vec::new);
        let mut buffer = [0; MTU];
        loop {
            let (len, from) = receive(&socket, &mut buffer)?;
            socket.send_to(&buffer[..len], from)?;
        }
    }
}

impl Contender for PingPong {
    fn name(&self) -> String {
        match self.wait {
            Wait::Blocking => "raw UDP, blocking".to_owned(),
            Wait::Spinning => "raw UDP, spinning".to_owned(),
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        let role = if self.wait == Wait::Blocking {
            "echo-blocking"
        } else {
            "echo-spinning"
        };
        self.running = Some((Peer::spawn(&[role])?, bound(self.wait)?));
        Ok(())
    }

    fn stop(&mut self) {
        self.running = None;
    }

    fn rr(&mut self, exchanges: usize) -> Result<Option<Duration>, Failure> {
        let (peer, socket) = self.running.as_ref().ok_or("not started")?;
        Ok(Some(round_trip(socket, peer.addr, exchanges)?))
    }

    fn in_flight(&mut self, exchanges: usize) -> Result<Option<Latency>, Failure> {
        let (peer, socket) = self.running.as_ref().ok_or("not started")?;
        let mut buffer = [0; MTU];
        let mut flight = Flight::new(exchanges);
        while !flight.is_over() {
            while let Some(request) = flight.ask() {
                socket.send_to(&request, peer.addr)?;
            }
            let (len, _) = receive(socket, &mut buffer)?;
            flight.answered(&buffer[..len])?;
        }
        Ok(Some(flight.latency()))
    }
}

/// The median round trip of 64 B over a socket whose peer echoes.
///
/// # Errors
/// Where nothing comes back within a second.
pub fn round_trip(socket: &UdpSocket, to: SocketAddr, exchanges: usize) -> Result<Duration, Failure> {
    let request = [0x5a; SMALL];
    let mut buffer = [0; MTU];
    let mut samples = Vec::with_capacity(exchanges);
    for _ in 0..exchanges {
        let asked = Instant::now();
        socket.send_to(&request, to)?;
        receive(socket, &mut buffer)?;
        samples.push(asked.elapsed());
    }
    Ok(median(&mut samples))
}

/// How datagrams are handed to the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Calls {
    /// One call per datagram, both ways.
    Single,
    /// Segmentation offload out (GSO) and in (GRO).
    Offload,
}

/// Datagrams one way, as fast as they go.
pub struct OneWay {
    calls: Calls,
    running: Option<(Peer, UdpSocket, UdpSocketState)>,
}

impl OneWay {
    /// Not yet started.
    #[must_use]
    pub fn new(calls: Calls) -> Self {
        Self { calls, running: None }
    }

    /// In the peer process: counts what arrives, for ever. A report is datagrams, bytes, and nanoseconds from the
    /// first to the last arrival since the report before.
    ///
    /// # Errors
    /// Where the socket fails.
    pub fn serve(calls: Calls) -> Result<(), Failure> {
        let socket = bound(Wait::Blocking)?;
        let tally = Arc::new(Tally::default());
        let reported = Arc::clone(&tally);
        match calls {
            Calls::Single => {
                attend(socket.local_addr()?, "", move || reported.take());
                let mut buffer = vec![0; usize::from(u16::MAX)];
                loop {
                    let (len, _) = receive(&socket, &mut buffer)?;
                    tally.add(1, len);
                }
            }
            Calls::Offload => {
                let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
                socket.set_nonblocking(false)?;
                attend(socket.local_addr()?, "", move || reported.take());
                let mut buffer = vec![0; usize::from(u16::MAX)];
                let mut meta = [RecvMeta::default()];
                loop {
                    let mut slices = [IoSliceMut::new(&mut buffer)];
                    match state.recv(UdpSockRef::from(&socket), &mut slices, &mut meta) {
                        Ok(_) => tally.add(meta[0].len.div_ceil(meta[0].stride.max(1)), meta[0].len),
                        Err(error) if patient(error.kind()) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Sends `count` datagrams of `len` bytes and asks the peer what came: datagrams and bytes per second.
    fn blast(&mut self, len: usize, count: u64) -> Result<(f64, f64), Failure> {
        let (peer, socket, state) = self.running.as_mut().ok_or("not started")?;
        let to = peer.addr;
        let per_call = match self.calls {
            Calls::Single => 1,
            Calls::Offload => state.max_gso_segments().clamp(1, 65_000 / len),
        };
        let payload = vec![0x5a; len * per_call];
        let mut sent = 0;
        while sent < count {
            match self.calls {
                Calls::Single => _ = socket.send_to(&payload, to)?,
                Calls::Offload => {
                    let transmit = Transmit {
                        destination: to,
                        ecn: None,
                        contents: &payload,
                        segment_size: (per_call > 1).then_some(len),
                        src_ip: None,
                    };
                    match state.try_send(UdpSockRef::from(&*socket), &transmit) {
                        Ok(()) => {}
                        Err(error) if patient(error.kind()) => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            sent += per_call as u64;
        }
        // The receiver's span ends with its last datagram, so waiting for it costs no accuracy.
        std::thread::sleep(Duration::from_millis(100));
        let report = peer.report()?;
        let [datagrams, bytes, ns] = report[..] else {
            return Err("the peer's report is malformed".into());
        };
        if ns == 0 {
            return Err("nothing arrived".into());
        }
        let seconds = ns as f64 / 1e9;
        Ok((datagrams as f64 / seconds, bytes as f64 / seconds))
    }
}

impl Contender for OneWay {
    fn name(&self) -> String {
        match self.calls {
            Calls::Single => "raw UDP, sendto (unreliable)".to_owned(),
            Calls::Offload => "raw UDP, GSO/GRO (unreliable)".to_owned(),
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        let role = if self.calls == Calls::Single {
            "sink-single"
        } else {
            "sink-offload"
        };
        let peer = Peer::spawn(&[role])?;
        let socket = bound(Wait::Blocking)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        socket.set_nonblocking(false)?;
        self.running = Some((peer, socket, state));
        Ok(())
    }

    fn stop(&mut self) {
        self.running = None;
    }

    fn stream(&mut self, message: usize, bytes: u64) -> Result<Option<f64>, Failure> {
        let len = message.min(MTU);
        Ok(Some(self.blast(len, bytes.div_ceil(len as u64))?.1))
    }

    fn messages(&mut self, count: u64, batch: usize) -> Result<Option<f64>, Failure> {
        let fits = match self.calls {
            Calls::Single => batch == 1,
            Calls::Offload => batch > 1,
        };
        if fits {
            Ok(Some(self.blast(SMALL, count)?.0))
        } else {
            Ok(None)
        }
    }
}

/// What a sink has seen since the last report.
#[derive(Default)]
struct Tally {
    datagrams: AtomicU64,
    bytes: AtomicU64,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
}

impl Tally {
    fn add(&self, datagrams: usize, bytes: usize) {
        let now = nanos();
        // What opens the span is not counted in it, or the rate of n datagrams would be over n - 1 gaps.
        if self.first_ns.load(Ordering::Relaxed) == 0 {
            self.first_ns.store(now, Ordering::Relaxed);
        } else {
            self.datagrams.fetch_add(datagrams as u64, Ordering::Relaxed);
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        self.last_ns.store(now, Ordering::Relaxed);
    }

    fn take(&self) -> Vec<u64> {
        let first = self.first_ns.swap(0, Ordering::Relaxed);
        let span = self.last_ns.load(Ordering::Relaxed).saturating_sub(first);
        vec![
            self.datagrams.swap(0, Ordering::Relaxed),
            self.bytes.swap(0, Ordering::Relaxed),
            span,
        ]
    }
}

/// Nanoseconds since the first call, plus one so that zero means "never".
fn nanos() -> u64 {
    static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let since = ORIGIN.get_or_init(Instant::now).elapsed().as_nanos();
    u64::try_from(since).unwrap_or(u64::MAX - 1) + 1
}

/// A socket on loopback with large buffers.
///
/// # Errors
/// Where the system refuses one.
pub fn bound(wait: Wait) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sized = socket2::SockRef::from(&socket);
    sized.set_recv_buffer_size(SOCKET_BUFFER)?;
    sized.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_nonblocking(wait == Wait::Spinning)?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Ok(received) => return Ok(received),
            Err(error) if patient(error.kind()) => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
}

fn patient(kind: ErrorKind) -> bool {
    kind == ErrorKind::WouldBlock || kind == ErrorKind::Interrupted
}
