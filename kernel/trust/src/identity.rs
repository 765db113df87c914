//! Identities: an ed25519 key pair that is also the node's X25519 key for Noise.
//!
//! Invariants: every `Identity` has a usable `EntityId` (canonical, torsion-free, not of small order, sign
//! bit 0), so exactly one `EntityId` belongs to one X25519 key (PROTOCOL 1); the key signs only under a
//! type label and a network, and otherwise does nothing but Noise DH.
//! Not here: where seeds are kept (the driver), who may do what (`trust.rs`).

use alloc::vec::Vec;
use core::fmt;

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use curve25519_dalek::traits::IsIdentity as _;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use net_base::rng::Secret;
use net_base::{EntityId, NodeId};

use crate::network::Fingerprint;

/// How many seeds [`Identity::generate`] tries. Half of all seeds are usable, so a source that fails this
/// often is stuck.
const MAX_DRAWS: usize = 256;
/// First bytes of everything that is signed.
const SIGNATURE_DOMAIN: &[u8] = b"net signature v1";
/// Longest type label of a signature, in bytes.
pub const MAX_LABEL: usize = 255;

/// A node's, a daemon's or an operator's key pair (PROTOCOL 1). Wiped when dropped; never printed.
pub struct Identity {
    key: SigningKey,
    noise: Secret,
    entity: EntityId,
}

impl Identity {
    /// Draws seeds until one makes a usable identity; half of them do.
    ///
    /// # Panics
    /// When 256 seeds in a row are unusable: the entropy source is stuck, and going on would make a key
    /// that others can make too.
    #[must_use]
    pub fn generate(entropy: &mut dyn FnMut(&mut [u8; 32])) -> Self {
        for _ in 0..MAX_DRAWS {
            let mut seed = Secret([0; 32]);
            entropy(&mut seed.0);
            if let Ok(identity) = Self::from_seed(seed) {
                return identity;
            }
        }
        panic!("the entropy source repeats itself: {MAX_DRAWS} seeds in a row were unusable");
    }

    /// The identity of an ed25519 seed (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// `BadIdentity::SignBit` for half of all seeds: [`Self::generate`] draws again then.
    pub fn from_seed(seed: Secret) -> Result<Self, BadIdentity> {
        let key = SigningKey::from_bytes(&seed.0);
        let entity = EntityId(key.verifying_key().to_bytes());
        noise_public(&entity)?;
        let noise = Secret(clamp_integer(key.to_scalar_bytes()));
        Ok(Self { key, noise, entity })
    }

    /// The seed, to be stored by the driver.
    #[must_use]
    pub fn seed(&self) -> Secret {
        Secret(self.key.to_bytes())
    }

    /// The public key: who this is.
    #[must_use]
    pub const fn entity(&self) -> EntityId {
        self.entity
    }

    /// The same identity as an X25519 secret: SHA-512 of the seed, first half, clamped (RFC 8032 section
    /// 5.1.5, RFC 7748 section 5).
    #[must_use]
    pub fn noise_secret(&self) -> Secret {
        self.noise.clone()
    }

    /// The public half of [`Self::noise_secret`].
    #[must_use]
    pub fn noise_public(&self) -> [u8; 32] {
        self.key.verifying_key().to_montgomery().to_bytes()
    }

    /// Signs `bytes` as a thing of type `label` (at most [`MAX_LABEL`] bytes) in `network`.
    #[must_use]
    pub fn sign(&self, label: &str, network: Fingerprint, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(&signed_bytes(label, network, bytes)).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.entity)
    }
}

/// Checks a signature made by [`Identity::sign`] with RFC 8032's strict rules (no small-order keys, no
/// malleable scalars).
///
/// # Errors
/// `BadSignature`; nothing tells a bad key from a bad signature.
pub fn verify(
    entity: &EntityId,
    label: &str,
    network: Fingerprint,
    bytes: &[u8],
    signature: &[u8; 64],
) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(&entity.0).map_err(|_| BadSignature)?;
    key.verify_strict(&signed_bytes(label, network, bytes), &Signature::from_bytes(signature))
        .map_err(|_| BadSignature)
}

/// What a signature covers. The label's length stands before it, so no two (label, network, bytes) give
/// the same message.
fn signed_bytes(label: &str, network: Fingerprint, bytes: &[u8]) -> Vec<u8> {
    assert!(label.len() <= MAX_LABEL, "signature labels are short constants");
    let mut message = Vec::with_capacity(SIGNATURE_DOMAIN.len() + 1 + label.len() + network.len() + bytes.len());
    message.extend_from_slice(SIGNATURE_DOMAIN);
    message.push(label.len() as u8);
    message.extend_from_slice(label.as_bytes());
    message.extend_from_slice(&network);
    message.extend_from_slice(bytes);
    message
}

/// The X25519 public key of `entity`, after everything PROTOCOL 1 demands of an identity was checked.
/// Costs about one scalar multiplication: work for a job where a stranger can ask for it.
///
/// # Errors
/// Which demand the key fails.
pub fn noise_public(entity: &EntityId) -> Result<[u8; 32], BadIdentity> {
    if entity.0[31] & 0x80 != 0 {
        return Err(BadIdentity::SignBit);
    }
    if !is_canonical(&entity.0) {
        return Err(BadIdentity::NotCanonical);
    }
    let point = CompressedEdwardsY(entity.0)
        .decompress()
        .ok_or(BadIdentity::NotOnCurve)?;
    if point.is_small_order() {
        return Err(BadIdentity::SmallOrder);
    }
    if !is_torsion_free(&point) {
        return Err(BadIdentity::Torsion);
    }
    Ok(point.to_montgomery().to_bytes())
}

/// Whether a coordinate with its sign bit clear is below 2^255 - 19.
fn is_canonical(y: &[u8; 32]) -> bool {
    y[31] != 0x7F || y[1..31].iter().any(|byte| *byte != 0xFF) || y[0] < 0xED
}

/// Whether `order * point` is the identity, computed as `(order - 1) * point + point` because scalars are
/// reduced. Variable time is fine: the key is public.
fn is_torsion_free(point: &EdwardsPoint) -> bool {
    let minus_one = -Scalar::ONE;
    (EdwardsPoint::vartime_double_scalar_mul_basepoint(&minus_one, point, &Scalar::ZERO) + point).is_identity()
}

/// The bits of a wire label that count. Builds under `--cfg short_ids` keep so few of them that labels collide, which is
/// what they are for (PROTOCOL 1).
pub const LABEL_MASK: u64 = if cfg!(short_ids) { 0x1F } else { u64::MAX };

/// The wire label of an identity: eight bytes of its BLAKE3 hash. Labels may collide; tables key on
/// `EntityId`.
#[must_use]
pub fn node_id(entity: &EntityId) -> NodeId {
    let hash = blake3::derive_key("net node id v1", &entity.0);
    NodeId(u64::from_le_bytes(*hash.first_chunk().expect("a hash has 32 bytes")) & LABEL_MASK)
}

/// Why 32 bytes are not a usable identity (PROTOCOL 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadIdentity {
    /// The sign bit is set: the X25519 key would belong to two identities.
    SignBit,
    /// No point of the curve.
    NotOnCurve,
    /// Another encoding of the same point exists.
    NotCanonical,
    /// A point of small order, with which no secret can be agreed.
    SmallOrder,
    /// A point with a torsion component.
    Torsion,
}

impl fmt::Display for BadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SignBit => "the key's sign bit is set",
            Self::NotOnCurve => "the key is no point of the curve",
            Self::NotCanonical => "the key is not in canonical form",
            Self::SmallOrder => "the key is a point of small order",
            Self::Torsion => "the key has a torsion component",
        })
    }
}

impl core::error::Error for BadIdentity {}

/// A signature that does not verify.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadSignature;

impl fmt::Display for BadSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the signature does not verify")
    }
}

impl core::error::Error for BadSignature {}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use proptest::prelude::*;
    use x25519_dalek::{PublicKey, StaticSecret};

    const NETWORK: Fingerprint = [7; 8];

    fn identity(n: u8) -> Identity {
        let mut draw = 0;
        Identity::generate(&mut |seed| {
            *seed = [n; 32];
            seed[0] = draw;
            draw += 1;
        })
    }

    /// Reads hexadecimal.
    fn hex<const N: usize>(text: &str) -> [u8; N] {
        core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal"))
    }

    #[test]
    fn the_public_key_is_that_of_rfc_8032() {
        // Section 7.1, test 2, whose key has sign bit 0.
        let seed = Secret(hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"));
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(Identity::from_seed(seed).expect("usable").entity(), EntityId(public));
    }

    #[test]
    fn seeds_with_the_sign_bit_set_are_drawn_again() {
        let mut draws = 0;
        for n in 0..32 {
            let id = Identity::generate(&mut |seed| {
                *seed = [n; 32];
                seed[1] = draws as u8;
                draws += 1;
            });
            assert_eq!(id.entity().0[31] & 0x80, 0);
            assert_eq!(Identity::from_seed(id.seed()).expect("usable").entity(), id.entity());
        }
        assert!(draws > 40, "half of all seeds are refused, of {draws} none was");
    }

    #[test]
    #[should_panic(expected = "the entropy source repeats itself")]
    fn a_stuck_entropy_source_is_found_out() {
        let unusable = (0..)
            .map(|n| [n; 32])
            .find(|seed| Identity::from_seed(Secret(*seed)).is_err());
        let _ = Identity::generate(&mut |seed| *seed = unusable.expect("half of all seeds"));
    }

    #[test]
    fn the_noise_key_is_the_same_key() {
        for n in 0..8 {
            let id = identity(n);
            let public = PublicKey::from(&StaticSecret::from(id.noise_secret().0)).to_bytes();
            assert_eq!(public, id.noise_public());
            assert_eq!(noise_public(&id.entity()), Ok(public));
        }
    }

    #[test]
    fn signatures_bind_label_network_and_bytes() {
        let (id, other) = (identity(1), identity(2));
        let signature = id.sign("a", NETWORK, b"bytes");
        let verify = |entity: &Identity, label, network, bytes: &[u8]| {
            verify(&entity.entity(), label, network, bytes, &signature)
        };
        assert_eq!(verify(&id, "a", NETWORK, b"bytes"), Ok(()));
        assert_eq!(verify(&other, "a", NETWORK, b"bytes"), Err(BadSignature));
        assert_eq!(verify(&id, "b", NETWORK, b"bytes"), Err(BadSignature));
        assert_eq!(verify(&id, "a", [8; 8], b"bytes"), Err(BadSignature));
        assert_eq!(verify(&id, "a", NETWORK, b"byte"), Err(BadSignature));
        assert_ne!(
            id.sign("ab", NETWORK, b""),
            id.sign("a", *b"b\x07\x07\x07\x07\x07\x07\x07", b"\x07")
        );
    }

    #[test]
    fn a_malleated_signature_is_refused() {
        let id = identity(1);
        let mut signature = id.sign("a", NETWORK, b"bytes");
        // s + L verifies under lax rules (RFC 8032 section 8.4).
        let order: [u8; 32] = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert_eq!(
            verify(&id.entity(), "a", NETWORK, b"bytes", &signature),
            Err(BadSignature)
        );
    }

    #[test]
    fn points_of_small_order_are_refused() {
        for point in EIGHT_TORSION {
            let entity = EntityId(point.compress().0);
            let refused = noise_public(&entity).expect_err("small order");
            assert!(
                matches!(refused, BadIdentity::SmallOrder | BadIdentity::SignBit),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn points_with_torsion_are_refused() {
        let mut refused = 0;
        let mut point = ED25519_BASEPOINT_POINT;
        for _ in 0..16 {
            for torsion in &EIGHT_TORSION[1..] {
                let entity = EntityId((point + torsion).compress().0);
                if entity.0[31] & 0x80 == 0 {
                    assert_eq!(noise_public(&entity), Err(BadIdentity::Torsion));
                    refused += 1;
                }
            }
            point += ED25519_BASEPOINT_POINT;
        }
        assert!(refused > 30);
    }

    #[test]
    fn every_encoding_from_the_field_order_up_is_refused() {
        for low in 0xED..=0xFF {
            let mut y = [0xFF; 32];
            (y[0], y[31]) = (low, 0x7F);
            assert_eq!(noise_public(&EntityId(y)), Err(BadIdentity::NotCanonical));
        }
    }

    #[test]
    fn wire_labels_never_change() {
        assert_eq!(node_id(&EntityId([1; 32])), NodeId(0x56bc_8e78_dd0c_85ca & LABEL_MASK));
    }

    #[test]
    fn identities_print_no_secret() {
        let id = identity(3);
        let printed = alloc::format!("{id:?}");
        assert_eq!(printed, alloc::format!("Identity({})", id.entity()));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_canonical_and_convertible(bytes: [u8; 32]) {
            let entity = EntityId(bytes);
            if let Ok(public) = noise_public(&entity) {
                let point = CompressedEdwardsY(bytes).decompress().expect("a point");
                prop_assert_eq!(point.compress().0, bytes);
                prop_assert!(point.is_torsion_free() && !point.is_small_order());
                prop_assert_eq!(point.to_montgomery().to_edwards(0).expect("on the curve").compress().0, bytes);
                prop_assert_eq!(point.to_montgomery().to_bytes(), public);
            }
        }
    }
}
