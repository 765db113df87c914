//! Heavy work of the handshake as values: they leave as [`Job`], run anywhere, and come back as [`JobDone`].
//!
//! Invariants: a job holds everything it needs and is a pure function of it and of the fresh entropy it is
//! lent; secrets in jobs and results are wiped when dropped and never printed.
//! Not here: when jobs are handed out and whether their result still counts (`initiator.rs`,
//! `responder.rs`).

use alloc::boxed::Box;
use core::fmt;

use net_base::rng::Secret;
use net_base::{EntityId, mutant};
use net_trust::{BadIdentity, noise_public};
use net_wire::DropReason;
use net_wire::handshake::{
    INITIATION_NOISE_LEN, INITIATION_PAYLOAD_LEN, InitiationPayload, RESPONSE_NOISE_LEN, RESPONSE_PAYLOAD_LEN,
    ResponsePayload,
};

use super::initiator::{Finishing, Starting};
use super::noise::{self, State, Statics};
use super::responder::{Answering, Reading};
use crate::install::TrafficSecrets;

/// One piece of work. Opaque; may run on any thread.
pub struct Job(pub(super) Work);

/// What a job does, together with what its machine needs to know again when it ends.
pub(super) enum Work {
    /// Initiator: make message 1 (key generation, two DH).
    Start {
        about: Starting,
        statics: Statics,
        peer: EntityId,
        /// The peer's X25519 key, where its identity was checked before.
        vetted: Option<[u8; 32]>,
        /// From the key-erasing generator.
        drawn: Secret,
        payload: [u8; INITIATION_PAYLOAD_LEN],
    },
    /// Responder: read message 1 (two DH).
    Read {
        about: Reading,
        statics: Statics,
        own: EntityId,
        drawn: Secret,
        message: [u8; INITIATION_NOISE_LEN],
    },
    /// Responder: check the identity, unless it was before, and make message 2 (key generation, two DH).
    Respond {
        about: Answering,
        state: State,
        psk: Secret,
        payload: [u8; RESPONSE_PAYLOAD_LEN],
        /// The identity named and the X25519 key proved.
        unvetted: Option<(EntityId, [u8; 32])>,
    },
    /// Initiator: read message 2 (two DH).
    Finish {
        about: Finishing,
        state: State,
        psk: Secret,
        message: [u8; RESPONSE_NOISE_LEN],
    },
}

/// The result of a job.
pub struct JobDone(pub(super) Box<Finished>);

/// What came back.
pub(super) struct Finished {
    /// What the machine's own generator takes from the entropy that was lent.
    pub(super) fresh: Option<Secret>,
    pub(super) done: Done,
}

/// What came of the work.
pub(super) enum Done {
    Start(Starting, Result<Started, BadIdentity>),
    Read(Reading, Result<Read, DropReason>),
    Respond(
        Answering,
        Result<([u8; RESPONSE_NOISE_LEN], TrafficSecrets), DropReason>,
    ),
    Finish(
        Finishing,
        Result<(ResponsePayload, TrafficSecrets), (DropReason, State)>,
    ),
}

/// Message 1, made.
pub(super) struct Started {
    pub(super) state: State,
    pub(super) message: [u8; INITIATION_NOISE_LEN],
    pub(super) peer_public: [u8; 32],
}

/// Message 1, read.
pub(super) struct Read {
    pub(super) state: State,
    pub(super) hello: InitiationPayload,
    /// The X25519 key that was proved.
    pub(super) proved: [u8; 32],
}

impl Job {
    /// Does the work. `entropy` fills 32 bytes from the operating system (in simulation: from the seed); they
    /// are mixed into every ephemeral key, so that a cloned machine repeats none (PROTOCOL 4).
    #[must_use]
    pub fn run(self, entropy: &mut dyn FnMut(&mut [u8; 32])) -> JobDone {
        let done = work(self.0, entropy);
        scrub_stack();
        JobDone(done)
    }
}

#[inline(never)]
fn work(work: Work, entropy: &mut dyn FnMut(&mut [u8; 32])) -> Box<Finished> {
    let (fresh, done) = match work {
        Work::Start {
            about,
            statics,
            peer,
            vetted,
            drawn,
            payload,
        } => {
            let (seed, fresh) = mix(&drawn, entropy);
            let public = vetted.map_or_else(|| noise_public(&peer), Ok);
            let started = public.and_then(|peer_public| {
                let (state, message) =
                    noise::start(&statics, &peer, &peer_public, seed, &payload).map_err(|_| BadIdentity::SmallOrder)?;
                Ok(Started {
                    state,
                    message,
                    peer_public,
                })
            });
            (Some(fresh), Done::Start(about, started))
        }
        Work::Read {
            about,
            statics,
            own,
            drawn,
            message,
        } => {
            let (seed, fresh) = mix(&drawn, entropy);
            (Some(fresh), Done::Read(about, read(&statics, &own, seed, &message)))
        }
        Work::Respond {
            about,
            state,
            psk,
            payload,
            unvetted,
        } => {
            let vetted = unvetted.map_or(Ok(()), |(entity, proved)| vet(&entity, &proved));
            let made = vetted.and_then(|()| noise::respond(state, &psk, &payload));
            (None, Done::Respond(about, made))
        }
        Work::Finish {
            about,
            state,
            psk,
            message,
        } => {
            let finished = noise::finish(state, &psk, &message).map(|(payload, secrets)| {
                let payload = ResponsePayload::decode(&payload).expect("the payload has its exact length");
                (payload, secrets)
            });
            (None, Done::Finish(about, finished))
        }
    };
    Box::new(Finished { fresh, done })
}

fn read(
    statics: &Statics,
    own: &EntityId,
    seed: Secret,
    message: &[u8; INITIATION_NOISE_LEN],
) -> Result<Read, DropReason> {
    let (state, payload, proved) = noise::read(statics, own, seed, message)?;
    if proved == statics.public {
        return Err(DropReason::OwnIdentity);
    }
    let hello = InitiationPayload::decode(&payload)?;
    Ok(Read { state, hello, proved })
}

/// Checks that `entity` is a usable identity and the one whose X25519 key was proved.
fn vet(entity: &EntityId, proved: &[u8; 32]) -> Result<(), DropReason> {
    match noise_public(entity) {
        Ok(public) if public == *proved => Ok(()),
        Ok(_) => Err(DropReason::EntityMismatch),
        Err(bad) => Err(bad_identity(bad)),
    }
}

fn bad_identity(bad: BadIdentity) -> DropReason {
    match bad {
        BadIdentity::SmallOrder => DropReason::LowOrderPoint,
        BadIdentity::SignBit | BadIdentity::NotOnCurve | BadIdentity::NotCanonical | BadIdentity::Torsion => {
            DropReason::EntityMismatch
        }
    }
}

/// Mixes fresh bytes into what the key-erasing generator gave: the seed of this handshake's ephemeral, and
/// what the generator takes back. Unpredictable if either input is.
pub(super) fn mix(drawn: &Secret, entropy: &mut dyn FnMut(&mut [u8; 32])) -> (Secret, Secret) {
    let mut lent = Secret([0; 32]);
    entropy(&mut lent.0);
    if mutant!(HandshakeEntropyUnmixed) {
        lent.0 = [0; 32];
    }
    let mut key = Secret(*blake3::keyed_hash(&drawn.0, &lent.0).as_bytes());
    let part = |label: &str| Secret(blake3::derive_key(label, &key.0));
    let parts = (part("net handshake ephemeral v1"), part("net handshake refresh v1"));
    zeroize::Zeroize::zeroize(&mut key);
    parts
}

/// Overwrites the stack that [`work`] used. The Noise library keeps intermediate secrets in local variables
/// that it does not wipe; this reaches them because the same depth is used again.
#[inline(never)]
fn scrub_stack() {
    core::hint::black_box(&mut [0_u8; 16 * 1_024]);
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Work::Start { .. } => "Job(start)",
            Work::Read { .. } => "Job(read)",
            Work::Respond { .. } => "Job(respond)",
            Work::Finish { .. } => "Job(finish)",
        })
    }
}

impl fmt::Debug for JobDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.done {
            Done::Start(..) => "JobDone(start)",
            Done::Read(..) => "JobDone(read)",
            Done::Respond(..) => "JobDone(respond)",
            Done::Finish(..) => "JobDone(finish)",
        })
    }
}
