//! Signatures as work of its own: they leave as [`Job`], run anywhere, and come back as [`JobDone`].
//!
//! Invariants: a job holds everything it needs and is a pure function of it; the seed in one is wiped when it is dropped.
//! Not here: whether a result still counts (`mesh.rs`).

use alloc::vec::Vec;
use core::fmt;

use net_base::mutant;
use net_base::rng::Secret;
use net_trust::{Fingerprint, Identity, verify};
use net_wire::mesh::{Core, SIGNATURE_LEN};

/// Names what is signed, so that no signature of a node serves for another purpose.
const LABEL: &str = "pingwave";

/// One piece of work. Opaque; may run on any thread.
pub struct Job(Work);

enum Work {
    Sign {
        seed: Secret,
        network: Fingerprint,
        core: Core,
    },
    Verify {
        core: Core,
        signature: [u8; SIGNATURE_LEN],
        networks: Vec<Fingerprint>,
    },
}

/// The result of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobDone {
    /// Our own words, signed.
    Signed(Core, [u8; SIGNATURE_LEN]),
    /// Whether a signature is the one of its origin.
    Verified(bool),
}

impl Job {
    /// Signs what we say of ourselves.
    pub(crate) fn sign(identity: &Identity, network: Fingerprint, core: Core) -> Self {
        Self(Work::Sign {
            seed: identity.seed(),
            network,
            core,
        })
    }

    /// Checks what another node says of itself, in any of our networks.
    pub(crate) const fn verify(core: Core, signature: [u8; SIGNATURE_LEN], networks: Vec<Fingerprint>) -> Self {
        Self(Work::Verify {
            core,
            signature,
            networks,
        })
    }

    /// Names a check of a signature by all that decides its outcome, for whoever wants to do equal ones once.
    #[must_use]
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        let Work::Verify {
            core,
            signature,
            networks,
        } = &self.0
        else {
            return None;
        };
        let mut hasher = blake3::Hasher::new_derive_key("net pingwave check v1");
        hasher.update(&core.signed());
        hasher.update(signature);
        for network in networks {
            hasher.update(network);
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// Does the work.
    ///
    /// # Panics
    /// Never: the seed was taken from an identity.
    #[must_use]
    pub fn run(self) -> JobDone {
        match self.0 {
            Work::Sign { seed, network, core } => {
                let identity = Identity::from_seed(seed).expect("the seed of an identity makes that identity");
                JobDone::Signed(core, identity.sign(LABEL, network, &core.signed()))
            }
            Work::Verify {
                core,
                signature,
                networks,
            } => {
                let bytes = core.signed();
                let genuine = networks
                    .iter()
                    .any(|&network| verify(&core.origin, LABEL, network, &bytes, &signature).is_ok());
                JobDone::Verified(genuine || mutant!(SignatureIgnored))
            }
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Work::Sign { .. } => "Sign",
            Work::Verify { .. } => "Verify",
        })
    }
}
