//! Ours: two nodes, one session, a stream per measure.
//!
//! Invariants: the public API a user has, the cipher of release binaries (ChaCha20-Poly1305 by ring), default
//! configuration. Not here: several streams or sessions at once.

use std::time::{Duration, Instant};

use net_io_real::{Node, Session, Stream, StreamOptions, Ticket};
use tokio::runtime::Runtime;

use crate::contender::{Contender, Failure, SMALL, median};
use crate::process::{Peer, attend};
use crate::quic::Threads;

/// The first message of a stream says what the server does with the rest.
const ECHO: &[u8] = b"echo";
const SINK: &[u8] = b"sink";
/// Largest message read or written, in bytes.
const LARGE: usize = 1 << 16;

/// Ours on one runtime.
pub struct Ours {
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
    pub fn new(threads: Threads) -> Self {
        Self { threads, running: None }
    }

    /// In the peer process: serves sessions for ever.
    ///
    /// # Errors
    /// Where the node cannot be bound.
    pub fn serve(threads: Threads) -> Result<(), Failure> {
        threads.runtime()?.block_on(async move {
            let node = bind().await?;
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
        format!("net chacha20 {threads}")
    }

    fn start(&mut self) -> Result<(), Failure> {
        let peer = Peer::spawn(&["ours", self.threads.key()])?;
        let ticket = Ticket::parse(&peer.extra)?;
        let ticket = Ticket::new(ticket.entity, ticket.fingerprint, vec![peer.addr]);
        let runtime = self.threads.runtime()?;
        let (node, session) = runtime.block_on(async {
            let node = bind().await?;
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

    fn stream(&mut self, message: usize, bytes: u64) -> Result<Option<f64>, Failure> {
        let count = bytes.div_ceil(message as u64);
        let taken = self.transfer(message, count, 1)?;
        Ok(Some(message as f64 * count as f64 / taken.as_secs_f64()))
    }

    fn messages(&mut self, count: u64, batch: usize) -> Result<Option<f64>, Failure> {
        let calls = count.div_ceil(batch as u64);
        let taken = self.transfer(SMALL, calls * batch as u64, batch)?;
        Ok(Some(calls as f64 * batch as f64 / taken.as_secs_f64()))
    }

    fn handshake(&mut self, count: usize) -> Result<Option<Duration>, Failure> {
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

async fn bind() -> Result<Node, Failure> {
    Ok(Node::builder()
        .ephemeral()
        .address(([127, 0, 0, 1], 0).into())
        .bind()
        .await?)
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
    vec![Ours::new(Threads::One), Ours::new(Threads::Many)]
}
