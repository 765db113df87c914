//! quinn as a peer: one bidirectional stream for exchanges, one per transfer, the whole handshake for handshakes.
//!
//! Invariants: TLS 1.3 with one cipher suite, X25519, the same MTU bound and socket buffers as everyone; nothing else
//! is tuned.
//! Not here: 0-RTT, datagrams, several streams at once.

use crate::contender::{Contender, Failure, MTU, SMALL, median};
use crate::flight::{Flight, Latency};
use crate::floor::{Wait, bound};
use crate::process::{Peer, attend};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256};
use quinn::rustls::crypto::{CryptoProvider, ring};
use quinn::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use quinn::rustls::quic::Suite;
use quinn::rustls::{self, RootCertStore, SupportedCipherSuite};
use quinn::{Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, TokioRuntime, TransportConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The cipher of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cipher {
    /// The one ours uses too.
    ChaCha20,
    /// The one quinn would choose by itself on hardware with AES.
    Aes128,
}

/// The tokio runtime on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threads {
    /// `current_thread`.
    One,
    /// `multi_thread` with two workers.
    Many,
}

impl Cipher {
    /// As in the command line of `serve`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::ChaCha20 => "chacha20",
            Self::Aes128 => "aes128",
        }
    }

    fn suite(self) -> SupportedCipherSuite {
        match self {
            Self::ChaCha20 => TLS13_CHACHA20_POLY1305_SHA256,
            Self::Aes128 => TLS13_AES_128_GCM_SHA256,
        }
    }
}

impl Threads {
    /// As in the command line of `serve`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
        }
    }

    /// A runtime of this kind.
    ///
    /// # Errors
    /// Where the system gives no threads.
    pub fn runtime(self) -> std::io::Result<Runtime> {
        let mut builder = match self {
            Self::One => tokio::runtime::Builder::new_current_thread(),
            Self::Many => tokio::runtime::Builder::new_multi_thread(),
        };
        if self == Self::Many {
            builder.worker_threads(2);
        }
        builder.enable_all().build()
    }
}

/// quinn with one cipher on one runtime.
pub struct Quic {
    cipher: Cipher,
    threads: Threads,
    running: Option<Running>,
}

struct Running {
    // Dropped in this order: what lives on the runtime before the runtime, the peer last.
    connection: Connection,
    endpoint: Endpoint,
    runtime: Runtime,
    peer: Peer,
}

/// The first byte of a stream says what the server does with the rest.
const ECHO: u8 = b'e';
const SINK: u8 = b's';
/// In the certificate.
pub const SERVER_NAME: &str = "localhost";

impl Quic {
    /// Not yet started.
    #[must_use]
    pub fn new(cipher: Cipher, threads: Threads) -> Self {
        Self {
            cipher,
            threads,
            running: None,
        }
    }

    /// In the peer process: serves connections for ever.
    ///
    /// # Errors
    /// Where the endpoint cannot be made.
    pub fn serve(cipher: Cipher, threads: Threads) -> Result<(), Failure> {
        let certified = rcgen::generate_simple_self_signed(vec![SERVER_NAME.to_owned()])?;
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let tls = rustls::ServerConfig::builder_with_provider(provider(cipher))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        let crypto = QuicServerConfig::with_initial(Arc::new(tls), initial_suite()?)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(transport());
        let hex: String = certificate.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        threads.runtime()?.block_on(async move {
            let endpoint = endpoint(Some(config))?;
            attend(endpoint.local_addr()?, &hex, Vec::new);
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    // A connection that ends is the client's doing, and the client notices.
                    if let Ok(connection) = incoming.await {
                        let _ = serve_connection(connection).await;
                    }
                });
            }
            Ok(())
        })
    }

    fn running(&self) -> Result<&Running, Failure> {
        self.running.as_ref().ok_or_else(|| "not started".into())
    }

    /// Writes `count` pieces of `piece` bytes on a stream of its own and waits until the peer has read them all.
    fn transfer(&self, piece: usize, count: u64) -> Result<Duration, Failure> {
        let Running {
            connection, runtime, ..
        } = self.running()?;
        runtime.block_on(async {
            let payload = vec![0x5a; piece];
            let (mut send, mut receive) = connection.open_bi().await?;
            send.write_all(&[SINK]).await?;
            let begun = Instant::now();
            for _ in 0..count {
                send.write_all(&payload).await?;
            }
            send.finish()?;
            let mut read = [0; 8];
            receive.read_exact(&mut read).await?;
            let taken = begun.elapsed();
            let expected = piece as u64 * count;
            let read = u64::from_le_bytes(read);
            if read == expected {
                Ok(taken)
            } else {
                Err(format!("{read} bytes of {expected} arrived").into())
            }
        })
    }
}

impl Contender for Quic {
    fn name(&self) -> String {
        let threads = if self.threads == Threads::One {
            "one thread"
        } else {
            "two threads"
        };
        format!("quinn {} {threads}", self.cipher.key())
    }

    fn start(&mut self) -> Result<(), Failure> {
        let peer = Peer::spawn(&["quic", self.cipher.key(), self.threads.key()])?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(unhex(&peer.extra)?))?;
        let tls = rustls::ClientConfig::builder_with_provider(provider(self.cipher))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A resumed session would spare the handshake that is measured.
        let mut tls = tls;
        tls.resumption = rustls::client::Resumption::disabled();
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::with_initial(
            Arc::new(tls),
            initial_suite()?,
        )?));
        config.transport_config(transport());
        let runtime = self.threads.runtime()?;
        let (endpoint, connection) = runtime.block_on(async {
            let mut endpoint = endpoint(None)?;
            endpoint.set_default_client_config(config);
            let connection = endpoint.connect(peer.addr, SERVER_NAME)?.await?;
            Ok::<_, Failure>((endpoint, connection))
        })?;
        self.running = Some(Running {
            connection,
            endpoint,
            runtime,
            peer,
        });
        // The path's MTU is found by probes on a used connection; without this a short run would be measured below it.
        self.transfer(1 << 16, 64)?;
        Ok(())
    }

    fn stop(&mut self) {
        self.running = None;
    }

    fn rr(&mut self, exchanges: usize) -> Result<Option<Duration>, Failure> {
        let Running {
            connection, runtime, ..
        } = self.running()?;
        runtime.block_on(async {
            let (mut send, mut receive) = connection.open_bi().await?;
            send.write_all(&[ECHO]).await?;
            let request = [0x5a; SMALL];
            let mut answer = [0; SMALL];
            let mut samples = Vec::with_capacity(exchanges);
            for _ in 0..exchanges {
                let asked = Instant::now();
                send.write_all(&request).await?;
                receive.read_exact(&mut answer).await?;
                samples.push(asked.elapsed());
            }
            send.finish()?;
            Ok(Some(median(&mut samples)))
        })
    }

    fn in_flight(&mut self, exchanges: usize) -> Result<Option<Latency>, Failure> {
        let Running {
            connection, runtime, ..
        } = self.running()?;
        runtime.block_on(async {
            let (mut send, mut receive) = connection.open_bi().await?;
            send.write_all(&[ECHO]).await?;
            let mut answer = [0; SMALL];
            let mut flight = Flight::new(exchanges);
            while !flight.is_over() {
                while let Some(request) = flight.ask() {
                    send.write_all(&request).await?;
                }
                receive.read_exact(&mut answer).await?;
                flight.answered(&answer)?;
            }
            send.finish()?;
            Ok(Some(flight.latency()))
        })
    }

    fn stream(&mut self, message: usize, bytes: u64) -> Result<Option<f64>, Failure> {
        let count = bytes.div_ceil(message as u64);
        let taken = self.transfer(message, count)?;
        Ok(Some(message as f64 * count as f64 / taken.as_secs_f64()))
    }

    fn messages(&mut self, count: u64, batch: usize) -> Result<Option<f64>, Failure> {
        let calls = count.div_ceil(batch as u64);
        let taken = self.transfer(SMALL * batch, calls)?;
        Ok(Some(calls as f64 * batch as f64 / taken.as_secs_f64()))
    }

    fn handshake(&mut self, count: usize) -> Result<Option<Duration>, Failure> {
        let Running {
            endpoint,
            runtime,
            peer,
            ..
        } = self.running()?;
        runtime.block_on(async {
            let mut samples = Vec::with_capacity(count);
            for _ in 0..count {
                let asked = Instant::now();
                let connection = endpoint.connect(peer.addr, SERVER_NAME)?.await?;
                samples.push(asked.elapsed());
                connection.close(0_u32.into(), b"");
            }
            Ok(Some(median(&mut samples)))
        })
    }
}

async fn serve_connection(connection: Connection) -> Result<(), Failure> {
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        tokio::spawn(async move {
            let mut role = [0; 1];
            receive.read_exact(&mut role).await?;
            if role[0] == ECHO {
                let mut buffer = [0; SMALL];
                while receive.read_exact(&mut buffer).await.is_ok() {
                    send.write_all(&buffer).await?;
                }
            } else {
                let mut buffer = vec![0; 1 << 16];
                let mut total: u64 = 0;
                while let Some(len) = receive.read(&mut buffer).await? {
                    total += len as u64;
                }
                send.write_all(&total.to_le_bytes()).await?;
            }
            send.finish()?;
            Ok::<_, Failure>(())
        });
    }
}

fn provider(cipher: Cipher) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher.suite()],
        ..ring::default_provider()
    })
}

/// QUIC protects its first packets with AES-128 whatever is negotiated (RFC 9001 section 5.2).
fn initial_suite() -> Result<Suite, Failure> {
    let suite = TLS13_AES_128_GCM_SHA256
        .tls13()
        .and_then(rustls::Tls13CipherSuite::quic_suite);
    suite.ok_or_else(|| "the provider has no suite for initial packets".into())
}

/// What both sides of a connection in one process need for their handshake, with a certificate made for it.
///
/// # Errors
/// Where the provider lacks something.
pub fn crypto(cipher: Cipher) -> Result<(Arc<QuicClientConfig>, Arc<QuicServerConfig>), Failure> {
    // Signatures of Ed25519 have one length, so that handshakes do.
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let certificate = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()])?.self_signed(&pair)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let server = rustls::ServerConfig::builder_with_provider(provider(cipher))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let client = rustls::ClientConfig::builder_with_provider(provider(cipher))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = QuicClientConfig::with_initial(Arc::new(client), initial_suite()?)?;
    let server = QuicServerConfig::with_initial(Arc::new(server), initial_suite()?)?;
    Ok((Arc::new(client), Arc::new(server)))
}

fn transport() -> Arc<TransportConfig> {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(u16::try_from(MTU).unwrap_or(u16::MAX));
    let mut config = TransportConfig::default();
    config.mtu_discovery_config(Some(discovery));
    Arc::new(config)
}

fn endpoint(server: Option<quinn::ServerConfig>) -> std::io::Result<Endpoint> {
    Endpoint::new(
        EndpointConfig::default(),
        server,
        bound(Wait::Spinning)?,
        Arc::new(TokioRuntime),
    )
}

fn unhex(text: &str) -> Result<Vec<u8>, Failure> {
    let pairs = text
        .as_bytes()
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    pairs.collect()
}

/// Where `serve quic` finds its cipher and runtime.
///
/// # Errors
/// Where a word is unknown.
pub fn parse(cipher: &str, threads: &str) -> Result<(Cipher, Threads), Failure> {
    let cipher = match cipher {
        "chacha20" => Cipher::ChaCha20,
        "aes128" => Cipher::Aes128,
        other => return Err(format!("unknown cipher {other:?}: chacha20 or aes128").into()),
    };
    Ok((cipher, self::threads(threads)?))
}

/// The runtime of this name.
///
/// # Errors
/// Where the word is unknown.
pub fn threads(name: &str) -> Result<Threads, Failure> {
    match name {
        "one" => Ok(Threads::One),
        "many" => Ok(Threads::Many),
        other => Err(format!("unknown runtime {other:?}: one or many").into()),
    }
}

/// Every row of quinn.
#[must_use]
pub fn all() -> Vec<Quic> {
    let rows = [
        (Cipher::ChaCha20, Threads::One),
        (Cipher::ChaCha20, Threads::Many),
        (Cipher::Aes128, Threads::One),
        (Cipher::Aes128, Threads::Many),
    ];
    rows.into_iter()
        .map(|(cipher, threads)| Quic::new(cipher, threads))
        .collect()
}
