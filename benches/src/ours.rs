//! Ours: two nodes, one session, a stream per measure.
//!
//! Invariants: the public API a user has, the ciphers of release binaries (ChaCha20-Poly1305 and AES-256-GCM by ring), and but
//! for the choice of a cipher and of busy polling the default configuration. Not here: several streams or sessions at once.

use std::time::{Duration, Instant};

use net_io_real::{Node, Session, Stream, StreamOptions, Ticket};
use tokio::runtime::Runtime;

use crate::contender::{Contender, Failure, SMALL, median};
use crate::flight::{Flight, Latency};
use crate::process::{Peer, attend};
use crate::quic::Threads;

/// The first message of a stream says what the server does with the rest.
const ECHO: &[u8] = b"echo";
const SINK: &[u8] = b"sink";
/// Largest message read or written, in bytes.
const LARGE: usize = 1 << 16;

/// What both nodes of a row are like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ChaCha20-Poly1305.
    ChaCha20,
    /// AES-256-GCM.
    Aes256,
    /// ChaCha20-Poly1305, and a driver that looks at its socket for 200 us before it sleeps.
    Busy,
}

/// Longer than any answer on loopback takes.
const BUSY: Duration = Duration::from_micros(200);

impl Kind {
    const ALL: [(&str, Self); 3] = [
        ("chacha20", Self::ChaCha20),
        ("aes256", Self::Aes256),
        ("busy", Self::Busy),
    ];

    fn key(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(key, _)| key)
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// Where the word is unknown.
    pub fn parse(name: &str) -> Result<Self, Failure> {
        let found = Self::ALL.iter().find(|(key, _)| *key == name);
        found
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("unknown kind {name:?}").into())
    }
}

/// Ours on one runtime.
pub struct Ours {
    kind: Kind,
    threads: Threads,
    running: Option<Running>,
}

struct Running {
    // Dropped in this order: what lives on the runtime before the runtime, the peer last.
    session: Session,
    node: Node,
    ticket: Ticket,
    runtime: Runtime,
    _peer: Peer,
}

impl Ours {
    /// Not yet started.
    #[must_use]
    pub fn new(kind: Kind, threads: Threads) -> Self {
        let running = None;
        Self { kind, threads, running }
    }

    /// In the peer process: serves sessions for ever.
    ///
    /// # Errors
    /// Where the node cannot be bound.
    pub fn serve(kind: Kind, threads: Threads) -> Result<(), Failure> {
        threads.runtime()?.block_on(async move {
            let node = bind(kind).await?;
            let ticket = node.ticket().to_string();
            attend(node.local_addr(), &ticket, Vec::new);
            while let Some(session) = node.accept().await {
                tokio::spawn(async move {
                    while let Some(stream) = session.accept_stream().await {
                        // A stream that ends is the client's doing, and the client notices.
                        tokio::spawn(async move { drop(serve_stream(stream).await) });
                    }
                });
            }
            Ok(())
        })
    }

    fn running(&self) -> Result<&Running, Failure> {
        self.running.as_ref().ok_or_else(|| "not started".into())
    }

    /// Sends `count` messages of `size` bytes, `batch` per call, and waits until the peer has them all.
    fn transfer(&self, size: usize, count: u64, batch: usize) -> Result<Duration, Failure> {
        let Running { session, runtime, .. } = self.running()?;
        runtime.block_on(async {
            let payload = vec![0x5a; size * batch];
            let mut stream = session.open(StreamOptions::default())?;
            stream.send(SINK).await?;
            let begun = Instant::now();
            for _ in 0..count / batch as u64 {
                if batch == 1 {
                    stream.send(&payload).await?;
                } else {
                    stream.send_chunks(&payload, size).await?;
                }
            }
            stream.finish().await?;
            let answer = stream.recv().await?.ok_or("the peer answered nothing")?;
            let taken = begun.elapsed();
            let read = u64::from_le_bytes(answer.as_ref().try_into()?);
            let expected = size as u64 * (count / batch as u64) * batch as u64;
            if read == expected {
                Ok(taken)
            } else {
                Err(format!("{read} bytes of {expected} arrived").into())
            }
        })
    }
}

impl Contender for Ours {
    fn name(&self) -> String {
        let threads = if self.threads == Threads::One {
            "one thread"
        } else {
            "two threads"
        };
        match self.kind {
            Kind::ChaCha20 | Kind::Aes256 => format!("net {} {threads}", self.kind.key()),
            Kind::Busy => format!("net chacha20 {threads}, busy poll"),
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        let peer = Peer::spawn(&["ours", self.kind.key(), self.threads.key()])?;
        let ticket = Ticket::parse(&peer.extra)?;
        let ticket = Ticket::new(ticket.entity, ticket.fingerprint, vec![peer.addr]);
        let runtime = self.threads.runtime()?;
        let (node, session) = runtime.block_on(async {
            let node = bind(self.kind).await?;
            let session = node.connect(&ticket).await?;
            Ok::<_, Failure>((node, session))
        })?;
        self.running = Some(Running {
            session,
            node,
            ticket,
            runtime,
            _peer: peer,
        });
        // As for quinn: a used path, so that its MTU is known.
        self.transfer(LARGE, 64, 1)?;
        Ok(())
    }

    fn stop(&mut self) {
        self.running = None;
    }

    fn rr(&mut self, exchanges: usize) -> Result<Option<Duration>, Failure> {
        let Running { session, runtime, .. } = self.running()?;
        runtime.block_on(async {
            let mut stream = session.open(StreamOptions::default())?;
            stream.send(ECHO).await?;
            let request = [0x5a; SMALL];
            let mut answer = [0; SMALL];
            let mut samples = Vec::with_capacity(exchanges);
            for _ in 0..exchanges {
                let asked = Instant::now();
                stream.send(&request).await?;
                stream.recv_into(&mut answer).await?;
                samples.push(asked.elapsed());
            }
            stream.finish().await?;
            Ok(Some(median(&mut samples)))
        })
    }

    fn in_flight(&mut self, exchanges: usize) -> Result<Option<Latency>, Failure> {
        let Running { session, runtime, .. } = self.running()?;
        runtime.block_on(async {
            let mut stream = session.open(StreamOptions::default())?;
            stream.send(ECHO).await?;
            let mut answer = [0; SMALL];
            let mut flight = Flight::new(exchanges);
            while !flight.is_over() {
                while let Some(request) = flight.ask() {
                    stream.send(&request).await?;
                }
                let len = stream
                    .recv_into(&mut answer)
                    .await?
                    .ok_or("the peer ended the stream")?;
                flight.answered(&answer[..len])?;
            }
            stream.finish().await?;
            Ok(Some(flight.latency()))
        })
    }

    fn stream(&mut self, message: usize, bytes: u64) -> Result<Option<f64>, Failure> {
        if self.kind == Kind::Busy {
            return Ok(None);
        }
        let count = bytes.div_ceil(message as u64);
        let taken = self.transfer(message, count, 1)?;
        Ok(Some(message as f64 * count as f64 / taken.as_secs_f64()))
    }

    fn messages(&mut self, count: u64, batch: usize) -> Result<Option<f64>, Failure> {
        if self.kind == Kind::Busy {
            return Ok(None);
        }
        let calls = count.div_ceil(batch as u64);
        let taken = self.transfer(SMALL, calls * batch as u64, batch)?;
        Ok(Some(calls as f64 * batch as f64 / taken.as_secs_f64()))
    }

    fn handshake(&mut self, count: usize) -> Result<Option<Duration>, Failure> {
        if self.kind != Kind::ChaCha20 {
            return Ok(None);
        }
        let Running {
            node,
            session,
            ticket,
            runtime,
            ..
        } = self.running.as_mut().ok_or("not started")?;
        runtime.block_on(async {
            let mut samples = Vec::with_capacity(count);
            for _ in 0..count {
                session.close(0, "").await;
                let asked = Instant::now();
                *session = node.connect(ticket).await?;
                samples.push(asked.elapsed());
            }
            Ok(Some(median(&mut samples)))
        })
    }
}

async fn bind(kind: Kind) -> Result<Node, Failure> {
    let mut builder = Node::builder().aes(kind == Kind::Aes256);
    if kind == Kind::Busy {
        builder = builder.busy_poll(BUSY);
    }
    Ok(builder.ephemeral().address(([127, 0, 0, 1], 0).into()).bind().await?)
}

async fn serve_stream(mut stream: Stream) -> Result<(), Failure> {
    let mut buffer = vec![0; LARGE];
    let Some(len) = stream.recv_into(&mut buffer).await? else {
        return Ok(());
    };
    if &buffer[..len] == ECHO {
        while let Some(len) = stream.recv_into(&mut buffer).await? {
            stream.send(&buffer[..len]).await?;
        }
    } else {
        let mut total: u64 = 0;
        while let Some(len) = stream.recv_into(&mut buffer).await? {
            total += len as u64;
        }
        stream.send(&total.to_le_bytes()).await?;
    }
    stream.finish().await?;
    Ok(())
}

/// Every row of ours.
#[must_use]
pub fn all() -> Vec<Ours> {
    let rows = [
        (Kind::ChaCha20, Threads::One),
        (Kind::ChaCha20, Threads::Many),
        (Kind::Aes256, Threads::One),
        (Kind::Aes256, Threads::Many),
        (Kind::Busy, Threads::One),
    ];
    rows.into_iter()
        .map(|(kind, threads)| Ours::new(kind, threads))
        .collect()
}
