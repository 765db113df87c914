//! A cipher that does nothing, so that what is left is the protocol.
//!
//! Invariants: a tag that is not all zeros does not open, so that corrupted packets are still refused.
//! Not here: anything that may protect data.

use net_kernel::base::rng::Secret;
use net_kernel::session::aead::{Aead, AeadError};
use net_kernel::wire::Suite;

/// Encrypts nothing and masks nothing.
#[derive(Debug)]
pub enum Null {}

impl Aead for Null {
    type Key = ();
    type HeaderKey = ();

    const HAS_AES: bool = false;

    fn name() -> &'static str {
        "none"
    }

    fn key(_: Suite, _: &Secret) {}

    #[inline]
    fn seal((): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) -> [u8; 16] {
        [0; 16]
    }

    #[inline]
    fn open((): &(), _: &[u8; 12], _: &[u8], _: &mut [u8], tag: &[u8; 16]) -> Result<(), AeadError> {
        if *tag == [0; 16] { Ok(()) } else { Err(AeadError) }
    }

    fn header_key(_: &Secret) {}

    #[inline]
    fn mask((): &(), _: &[u8; 16]) -> [u8; 64] {
        [0; 64]
    }
}
