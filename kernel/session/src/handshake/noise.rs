//! The four steps of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as functions over one handshake's state.
//!
//! The pre-shared key of a handshake is derived from the network's, both session ids and both cipher suites. These
//! travel outside Noise's ciphertext; a copy in which somebody changed one therefore fails like any other forgery
//! instead of leaving the two sides with different ids, or with a lesser cipher than both have.
//! Invariants: a step that fails leaves the state as it was, so the genuine message can still come; roots are
//! read only from a finished handshake, whose state is then wiped.
//! Not here: MACs and cookies (`cookie.rs`), what the payloads mean (`initiator.rs`, `responder.rs`).

use alloc::boxed::Box;
use core::fmt;

use net_base::rng::Secret;
use net_base::{EntityId, SessionId};
use net_wire::DropReason;
use net_wire::handshake::{
    INITIATION_NOISE_LEN, INITIATION_PAYLOAD_LEN, RESPONSE_NOISE_LEN, RESPONSE_PAYLOAD_LEN, Suite,
};
use net_wire::header::VERSION;
use snow::{Builder, Error, HandshakeState};
use zeroize::Zeroize as _;

use super::resolver::Resolver;
use crate::install::TrafficSecrets;
use crate::keys::traffic_secrets;

/// The Noise protocol of [`Suite::ChaChaPoly`].
const PROTOCOL: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// A protocol without secrets, whose state overwrites a finished one.
const BLANK: &str = "Noise_NN_25519_ChaChaPoly_BLAKE2s";
/// First bytes of the prologue.
const PROLOGUE_LABEL: &[u8; 16] = b"net handshake v1";
const PROLOGUE_LEN: usize = PROLOGUE_LABEL.len() + 2 + EntityId::LEN;
/// Where IKpsk2 mixes the pre-shared key in.
const PSK_AT: usize = 2;

/// A node's static key pair for Noise.
#[derive(Clone, Debug)]
pub(super) struct Statics {
    pub(super) secret: Secret,
    pub(super) public: [u8; 32],
}

/// The state of one handshake between two messages. Wiped when dropped.
pub(super) struct State(Box<HandshakeState>);

/// Message 1 from the initiator: generates `e`, does `es` and `ss`.
pub(super) fn start(
    statics: &Statics,
    responder: &EntityId,
    responder_public: &[u8; 32],
    seed: Secret,
    payload: &[u8; INITIATION_PAYLOAD_LEN],
) -> Result<(State, [u8; INITIATION_NOISE_LEN]), DropReason> {
    let prologue = prologue(responder);
    let mut state = State(Box::new(
        builder(PROTOCOL, statics.public, seed)
            .and_then(|builder| builder.local_private_key(&statics.secret.0))
            .and_then(|builder| builder.remote_public_key(responder_public))
            .and_then(|builder| builder.prologue(&prologue))
            .and_then(Builder::build_initiator)
            .expect("protocol, keys and prologue are complete"),
    ));
    let mut message = [0; INITIATION_NOISE_LEN];
    let written = state
        .0
        .write_message(payload, &mut message)
        .map_err(|error| refused(&error))?;
    assert_eq!(
        written, INITIATION_NOISE_LEN,
        "message 1 of IKpsk2 with this payload has this length"
    );
    Ok((state, message))
}

/// Message 1 at the responder: does `es` and `ss`. Gives the payload and the initiator's static key.
pub(super) fn read(
    statics: &Statics,
    responder: &EntityId,
    seed: Secret,
    message: &[u8; INITIATION_NOISE_LEN],
) -> Result<(State, [u8; INITIATION_PAYLOAD_LEN], [u8; 32]), DropReason> {
    let prologue = prologue(responder);
    let mut state = State(Box::new(
        builder(PROTOCOL, statics.public, seed)
            .and_then(|builder| builder.local_private_key(&statics.secret.0))
            .and_then(|builder| builder.prologue(&prologue))
            .and_then(Builder::build_responder)
            .expect("protocol, keys and prologue are complete"),
    ));
    let mut payload = [0; INITIATION_PAYLOAD_LEN];
    let read = state
        .0
        .read_message(message, &mut payload)
        .map_err(|error| refused(&error))?;
    assert_eq!(
        read, INITIATION_PAYLOAD_LEN,
        "message 1 of IKpsk2 with this length has this payload"
    );
    let initiator = state
        .0
        .get_remote_static()
        .and_then(|bytes| bytes.try_into().ok())
        .expect("message 1 of IK carries the initiator's static key");
    Ok((state, payload, initiator))
}

/// Message 2 from the responder: generates `e`, does `ee` and `se`, mixes the pre-shared key in.
pub(super) fn respond(
    mut state: State,
    psk: &Secret,
    payload: &[u8; RESPONSE_PAYLOAD_LEN],
) -> Result<([u8; RESPONSE_NOISE_LEN], TrafficSecrets), DropReason> {
    state
        .0
        .set_psk(PSK_AT, &psk.0)
        .expect("the key has 32 bytes and the slot exists");
    let mut message = [0; RESPONSE_NOISE_LEN];
    let written = state
        .0
        .write_message(payload, &mut message)
        .map_err(|error| refused(&error))?;
    assert_eq!(
        written, RESPONSE_NOISE_LEN,
        "message 2 of IKpsk2 with this payload has this length"
    );
    Ok((message, state.split(false)))
}

/// Message 2 at the initiator: does `ee` and `se`, mixes the pre-shared key in.
///
/// # Errors
/// The state comes back unchanged: another message 2 may still be the genuine one.
pub(super) fn finish(
    mut state: State,
    psk: &Secret,
    message: &[u8; RESPONSE_NOISE_LEN],
) -> Result<([u8; RESPONSE_PAYLOAD_LEN], TrafficSecrets), (DropReason, State)> {
    state
        .0
        .set_psk(PSK_AT, &psk.0)
        .expect("the key has 32 bytes and the slot exists");
    let mut payload = [0; RESPONSE_PAYLOAD_LEN];
    match state.0.read_message(message, &mut payload) {
        Ok(_) => Ok((payload, state.split(true))),
        Err(error) => Err((refused(&error), state)),
    }
}

/// The suites of one handshake: the one that message 1 names and the one that message 2 names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Suites {
    pub(super) offered: Suite,
    pub(super) used: Suite,
}

/// The pre-shared key of one handshake.
pub(super) fn bind_psk(psk: &Secret, initiator: SessionId, responder: SessionId, suites: Suites) -> Secret {
    let mut hasher = blake3::Hasher::new_derive_key("net handshake psk v1");
    hasher.update(&psk.0);
    hasher.update(&initiator.0.to_le_bytes());
    hasher.update(&responder.0.to_le_bytes());
    hasher.update(&[suites.offered as u8, suites.used as u8]);
    let bound = Secret(*hasher.finalize().as_bytes());
    hasher.zeroize();
    bound
}

fn prologue(responder: &EntityId) -> [u8; PROLOGUE_LEN] {
    let mut prologue = [0; PROLOGUE_LEN];
    let (label, rest) = prologue.split_at_mut(PROLOGUE_LABEL.len());
    label.copy_from_slice(PROLOGUE_LABEL);
    rest[0] = VERSION;
    // Noise's own cipher, whatever the packets are sealed with later.
    rest[1] = Suite::ChaChaPoly as u8;
    rest[2..].copy_from_slice(&responder.0);
    prologue
}

fn builder<'b>(protocol: &str, public: [u8; 32], seed: Secret) -> Result<Builder<'b>, Error> {
    Ok(Builder::with_resolver(
        protocol.parse()?,
        Box::new(Resolver::new(seed, public)),
    ))
}

/// Why Noise refused a message. Only the DH fails by the peer's key alone; everything else is a message that
/// does not decrypt.
fn refused(error: &Error) -> DropReason {
    if *error == Error::Dh {
        DropReason::LowOrderPoint
    } else {
        DropReason::NoiseFailure
    }
}

impl State {
    /// The traffic secrets of a finished handshake.
    fn split(mut self, initiator: bool) -> TrafficSecrets {
        assert!(
            self.0.is_handshake_finished(),
            "roots are read from finished handshakes only"
        );
        let (mut first, mut second) = self.0.dangerously_get_raw_split();
        let roots = (Secret(first), Secret(second));
        first.zeroize();
        second.zeroize();
        let mut hash: [u8; 32] = self.0.get_handshake_hash().try_into().expect("BLAKE2s gives 32 bytes");
        let secrets = traffic_secrets(&roots, &hash, initiator);
        hash.zeroize();
        secrets
    }

    /// Overwrites chaining key, hash and pre-shared key in place; private keys and cipher keys wipe themselves.
    fn wipe(&mut self) {
        self.0
            .set_psk(PSK_AT, &[0; 32])
            .expect("the key has 32 bytes and the slot exists");
        *self.0 = builder(BLANK, [0; 32], Secret([0; 32]))
            .and_then(Builder::build_initiator)
            .expect("the blank protocol needs no keys");
        // The memory is freed next: without a reader the writes could be left out.
        core::hint::black_box(&mut *self.0);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_state_is_that_of_the_blank_protocol() {
        let statics = Statics {
            secret: Secret([1; 32]),
            public: [9; 32],
        };
        let mut public = [0; 32];
        public[0] = 9;
        let (mut state, _) = start(&statics, &EntityId([2; 32]), &public, Secret([3; 32]), &[4; 56]).expect("usable");
        let before = (
            state.0.dangerously_get_raw_split(),
            state.0.get_handshake_hash().to_vec(),
        );
        state.wipe();
        let after = (
            state.0.dangerously_get_raw_split(),
            state.0.get_handshake_hash().to_vec(),
        );
        let mut blank = builder(BLANK, [0; 32], Secret([0; 32]))
            .and_then(Builder::build_initiator)
            .expect("keyless");
        assert_ne!(before, after);
        assert_eq!(
            after,
            (blank.dangerously_get_raw_split(), blank.get_handshake_hash().to_vec())
        );
    }

    #[test]
    fn the_pre_shared_key_of_a_handshake_depends_on_both_ids_their_order_and_both_suites() {
        let suites = |offered, used| Suites { offered, used };
        let (chacha, aes) = (Suite::ChaChaPoly, Suite::Aes256Gcm);
        let key = |a, b| bind_psk(&Secret([1; 32]), SessionId(a), SessionId(b), suites(aes, aes)).0;
        assert_ne!(key(1, 2), key(2, 1));
        assert_ne!(key(1, 2), key(1, 3));
        let other = |psk, suites| bind_psk(&Secret([psk; 32]), SessionId(1), SessionId(2), suites).0;
        assert_ne!(key(1, 2), other(2, suites(aes, aes)));
        for lowered in [suites(aes, chacha), suites(chacha, chacha)] {
            assert_ne!(key(1, 2), other(1, lowered));
        }
    }
}
