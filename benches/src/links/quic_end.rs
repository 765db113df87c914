//! quinn-proto: one endpoint that sends bulk streams or receives them.
//!
//! Invariants: everything but windows, the MTU's bound and the congestion controller is quinn's default; batches of ten datagrams, as
//! quinn's own driver asks for.
//! Not here: the link (`run.rs`).

use super::end::{CHUNK, Datagram, End, Outbox, WINDOW};
use crate::contender::{Failure, MTU};
use crate::quic::{self, Cipher};
use bytes::BytesMut;
use quinn_proto::congestion::{BbrConfig, CubicConfig, NewRenoConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, EndpointConfig, Event,
    MtuDiscoveryConfig, ServerConfig, StreamEvent, StreamId, Transmit, TransportConfig, VarInt,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A controller of quinn's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// Its default.
    Cubic,
    /// RFC 9002.
    NewReno,
    /// Its experimental BBR.
    Bbr,
}

/// Datagrams of one transmit, at most (quinn's driver has the same bound).
const BATCH: usize = 10;

/// The configurations of both sides, which take a certificate and are made once.
pub struct Configs {
    client: ClientConfig,
    server: Arc<ServerConfig>,
}

impl Configs {
    /// With a certificate of its own.
    ///
    /// # Errors
    /// Where the provider lacks something.
    pub fn new(algorithm: Algorithm) -> Result<Self, Failure> {
        let (client, server) = quic::crypto(Cipher::Aes128)?;
        let transport = Arc::new(transport(algorithm));
        let mut server = ServerConfig::with_crypto(server);
        server.transport_config(transport.clone());
        let mut client = ClientConfig::new(client);
        client.transport_config(transport);
        Ok(Self {
            client,
            server: Arc::new(server),
        })
    }
}

fn transport(algorithm: Algorithm) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(u16::try_from(MTU).unwrap_or(u16::MAX));
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(WINDOW as u32))
        .receive_window(VarInt::from_u32(WINDOW as u32))
        .send_window(WINDOW);
    match algorithm {
        Algorithm::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
        Algorithm::NewReno => config.congestion_controller_factory(Arc::new(NewRenoConfig::default())),
        Algorithm::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
    };
    config
}

/// An endpoint with its application.
pub struct QuicEnd {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    /// The client's configuration and how many streams to fill.
    dial: Option<(ClientConfig, usize)>,
    /// When the run began, for a protocol that knows no other clock.
    origin: Instant,
    sending: Vec<StreamId>,
    receiving: Vec<StreamId>,
    delivered: Vec<u64>,
    outbox: Outbox,
    buffer: Vec<u8>,
    deadline: Option<Instant>,
}

/// The sender and the receiver of `streams` streams under one connection.
#[must_use]
pub fn pair(configs: &Configs, seed: u64, streams: usize) -> [Box<dyn End>; 2] {
    let origin = Instant::now();
    let sender = QuicEnd::new(seed, 1, origin, Some((configs.client.clone(), streams)), None);
    let receiver = QuicEnd::new(seed, 2, origin, None, Some(configs.server.clone()));
    [Box::new(sender), Box::new(receiver)]
}

impl QuicEnd {
    fn new(
        seed: u64,
        side: u8,
        origin: Instant,
        dial: Option<(ClientConfig, usize)>,
        server: Option<Arc<ServerConfig>>,
    ) -> Self {
        let mut bytes = [side; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), server, true, Some(bytes)),
            connection: None,
            dial,
            origin,
            sending: Vec::new(),
            receiving: Vec::new(),
            delivered: Vec::new(),
            outbox: Outbox::new(),
            buffer: Vec::new(),
            deadline: None,
        }
    }

    fn at(&self, now: u64) -> Instant {
        self.origin + Duration::from_nanos(now)
    }

    fn push(&mut self, transmit: &Transmit) {
        let ecn = transmit.ecn.map_or(0, |codepoint| codepoint as u8);
        let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
        let datagrams = self.buffer[..transmit.size].chunks(segment);
        self.outbox.extend(datagrams.map(|bytes| Datagram {
            bytes: bytes.to_vec(),
            ecn,
        }));
        self.buffer.clear();
    }

    /// Everything that is to be done after the connection was told something.
    fn settle(&mut self, now: u64) {
        let at = self.at(now);
        let Some((handle, mut connection)) = self.connection.take() else {
            return;
        };
        loop {
            while let Some(event) = connection.poll() {
                self.on_event(&mut connection, event);
            }
            self.fill(&mut connection);
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(handle, event) {
                    connection.handle_event(event);
                }
            }
            let mut sent = false;
            while let Some(transmit) = connection.poll_transmit(at, BATCH, &mut self.buffer) {
                self.push(&transmit);
                sent = true;
            }
            if !sent {
                break;
            }
        }
        self.deadline = connection.poll_timeout();
        self.connection = Some((handle, connection));
    }

    fn on_event(&mut self, connection: &mut Connection, event: Event) {
        match event {
            Event::Connected => {
                for _ in 0..self.dial.as_ref().map_or(0, |(_, streams)| *streams) {
                    self.sending.extend(connection.streams().open(Dir::Uni));
                }
            }
            Event::ConnectionLost { reason } => panic!("a connection of a bulk stream ended: {reason}"),
            Event::Stream(StreamEvent::Opened { dir }) => {
                while let Some(id) = connection.streams().accept(dir) {
                    self.receiving.push(id);
                    self.delivered.push(0);
                    self.read(connection, id);
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => self.read(connection, id),
            Event::Stream(
                StreamEvent::Writable { .. }
                | StreamEvent::Finished { .. }
                | StreamEvent::Stopped { .. }
                | StreamEvent::Available { .. },
            )
            | Event::HandshakeDataReady
            | Event::DatagramReceived
            | Event::DatagramsUnblocked => {}
        }
    }

    fn read(&mut self, connection: &mut Connection, id: StreamId) {
        let Some(index) = self.receiving.iter().position(|known| *known == id) else {
            return;
        };
        let mut stream = connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return };
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            self.delivered[index] += chunk.bytes.len() as u64;
        }
        // What it asks for is sent by `settle` in any case.
        let _ = chunks.finalize();
    }

    /// Streams share a connection's send buffer: they take turns, or the first one would fill it.
    fn fill(&mut self, connection: &mut Connection) {
        let mut refused = 0;
        while refused < self.sending.len() {
            let id = self.sending[0];
            let written = connection.send_stream(id).write(&[0x5a; CHUNK]);
            refused = if written.is_ok_and(|written| written > 0) {
                0
            } else {
                refused + 1
            };
            self.sending.rotate_left(1);
        }
    }
}

impl End for QuicEnd {
    fn start(&mut self, now: u64) {
        let at = self.at(now);
        if let Some((config, _)) = &self.dial {
            let connected = self.endpoint.connect(at, config.clone(), addr(2), quic::SERVER_NAME);
            self.connection = Some(connected.expect("nothing but ours is in the endpoint's table"));
        }
        self.settle(now);
    }

    fn receive(&mut self, now: u64, datagram: Datagram) {
        let at = self.at(now);
        let from = addr(if self.dial.is_some() { 2 } else { 1 });
        let ecn = EcnCodepoint::from_bits(datagram.ecn);
        let data = BytesMut::from(&datagram.bytes[..]);
        match self.endpoint.handle(at, from, None, ecn, data, &mut self.buffer) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, at, &mut self.buffer, None);
                // A damaged or late first packet opens no connection: nothing here damages any.
                self.connection = accepted.ok().or(self.connection.take());
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.push(&transmit),
            None => {}
        }
        self.settle(now);
    }

    fn wake(&mut self, now: u64) {
        let at = self.at(now);
        if let Some((_, connection)) = &mut self.connection {
            connection.handle_timeout(at);
        }
        self.settle(now);
    }

    fn deadline(&self) -> Option<u64> {
        let after = self.deadline?.saturating_duration_since(self.origin);
        Some(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    fn delivered(&self) -> &[u64] {
        &self.delivered
    }

    fn says(&self) -> String {
        self.connection.as_ref().map_or_else(String::new, |(_, connection)| {
            let stats = connection.stats();
            format!(
                "sent {} of {} B on average, lost {}, congestion events {}, window {}, round trip {} us",
                stats.path.sent_packets,
                stats.udp_tx.bytes / stats.udp_tx.datagrams.max(1),
                stats.path.lost_packets,
                stats.path.congestion_events,
                stats.path.cwnd,
                stats.path.rtt.as_micros()
            )
        })
    }
}

fn addr(side: u8) -> SocketAddr {
    ([10, 0, 0, side], 1_000).into()
}
