//! The bare Diffie-Hellman operations of one handshake, and what they make of a floor.
//!
//! Invariants: only what no IK handshake can leave out is counted, and in sequence, because it is: each side waits for
//! the other's.
//! Not here: hashing, the AEAD, MACs and the conversion of identities, which a handshake has on top.

use crate::contender::{Contender, Failure, median};
use crate::floor::{Wait, bound, round_trip};
use crate::process::Peer;
use curve25519_dalek::edwards::CompressedEdwardsY;
use std::hint::black_box;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use x25519_dalek::{PublicKey, StaticSecret};

/// Diffie-Hellman operations of one side of Noise IK: es, ss, ee, se.
pub const EXCHANGES_PER_SIDE: u32 = 4;
/// Key generations of one side: its ephemeral.
pub const GENERATIONS_PER_SIDE: u32 = 1;

/// The time of single operations.
#[derive(Clone, Copy, Debug)]
pub struct Operations {
    /// X25519 of a secret and a foreign public key.
    pub exchange: Duration,
    /// A public key from a secret, by precomputed tables.
    pub generation: Duration,
    /// An ed25519 public key to its X25519 form, once it was found to have no torsion component.
    pub conversion: Duration,
}

impl Operations {
    /// The medians over `repeats` of each, one after another.
    #[must_use]
    pub fn measure(repeats: usize) -> Self {
        let secret = StaticSecret::from([7; 32]);
        let public = PublicKey::from(&StaticSecret::from([9; 32]));
        let entity = curve25519_dalek::constants::ED25519_BASEPOINT_COMPRESSED.0;
        Self {
            exchange: timed(repeats, || {
                black_box(&secret).diffie_hellman(black_box(&public)).to_bytes()
            }),
            generation: timed(repeats, || PublicKey::from(black_box(&secret)).to_bytes()),
            conversion: timed(repeats, || {
                let point = CompressedEdwardsY(*black_box(&entity)).decompress();
                let usable = point.filter(curve25519_dalek::EdwardsPoint::is_torsion_free);
                usable.map_or([0; 32], |point| point.to_montgomery().to_bytes())
            }),
        }
    }

    /// The operations of both sides, one after another.
    #[must_use]
    pub fn of_one_handshake(self) -> Duration {
        2 * (EXCHANGES_PER_SIDE * self.exchange + GENERATIONS_PER_SIDE * self.generation)
    }
}

fn timed(repeats: usize, operation: impl Fn() -> [u8; 32]) -> Duration {
    let mut samples = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let begun = Instant::now();
        black_box(operation());
        samples.push(begun.elapsed());
    }
    median(&mut samples)
}

/// The floor of a handshake: its bare operations and one blocking round trip between two processes.
#[derive(Default)]
pub struct BareHandshake {
    running: Option<(Peer, UdpSocket)>,
}

impl Contender for BareHandshake {
    fn name(&self) -> String {
        "bare: 8 DH, 2 key generations, 1 blocking round trip".to_owned()
    }

    fn start(&mut self) -> Result<(), Failure> {
        self.running = Some((Peer::spawn(&["echo-blocking"])?, bound(Wait::Blocking)?));
        Ok(())
    }

    fn stop(&mut self) {
        self.running = None;
    }

    fn handshake(&mut self, count: usize) -> Result<Option<Duration>, Failure> {
        let (peer, socket) = self.running.as_ref().ok_or("not started")?;
        let round_trip = round_trip(socket, peer.addr, count.max(1_000))?;
        Ok(Some(
            Operations::measure(count.max(1_000)).of_one_handshake() + round_trip,
        ))
    }
}
