//! What the host lends: files to read (`Source`), a directory to fill (`Store`).
//!
//! Calls are synchronous and may block. A host that simulates answers from memory and loses what was not synced.
//! Invariants: nothing here decides. Not here: how a host maps these to its files.

use core::fmt;

use crate::message::Token;
use crate::name::SafePath;

/// Why the host could not do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// No space is left, or a quota is used up.
    Full,
    /// Something with that name exists.
    Exists,
    /// Something is in the way: a link, a device, a file where a directory should be, or the other way round.
    InTheWay,
    /// The host may not do this.
    Denied,
    /// Anything else.
    Failed,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no space is left",
            Self::Exists => "it exists",
            Self::InTheWay => "something else is in its place",
            Self::Denied => "permission was denied",
            Self::Failed => "the disk failed",
        })
    }
}

impl core::error::Error for DiskError {}

/// The files of an offer, by their place in it.
pub trait Source {
    /// Reads from offset `at`; fewer bytes than asked for only where the file ends.
    ///
    /// # Errors
    /// [`DiskError`]: the file is skipped.
    fn read(&mut self, entry: u32, at: u64, into: &mut [u8]) -> Result<usize, DiskError>;

    /// Whether a file is still the one that was listed. It is asked once all of it was read: a mixture of what a file was and
    /// what it became matches its hash, and must get no name.
    fn unchanged(&mut self, entry: u32) -> bool;
}

/// What is found under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A plain file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A link, a device, or anything else that is not touched.
    Other,
}

/// The name of a file that is not whole yet: it follows from the sender's token and the file's path, so that the next attempt
/// finds it and nobody else's does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PartialKey(pub [u8; 16]);

impl PartialKey {
    /// The name for `path` of whoever knows `token`.
    #[must_use]
    pub fn new(token: &Token, path: &SafePath) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("net 2026 file transfer partial file name");
        hasher.update(&token.0).update(path.as_str().as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(key)
    }
}

/// A file of the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place<'p> {
    /// Under its final name.
    Final(&'p SafePath),
    /// Not whole yet.
    Partial(PartialKey),
}

/// The directory that receives. Paths are below it; a host follows no link that leads out of it.
pub trait Store {
    /// Bytes that can still be written; `None` where the host cannot tell.
    fn room(&mut self) -> Option<u64>;

    /// What is there.
    ///
    /// # Errors
    /// [`DiskError`].
    fn look(&mut self, place: Place<'_>) -> Result<Found, DiskError>;

    /// Reads from offset `at`; fewer bytes than asked for only where the file ends.
    ///
    /// # Errors
    /// [`DiskError`].
    fn read(&mut self, place: Place<'_>, at: u64, into: &mut [u8]) -> Result<usize, DiskError>;

    /// Makes a directory whose parent exists. That it exists already is no error.
    ///
    /// # Errors
    /// [`DiskError::InTheWay`] where something else has the name; [`DiskError`].
    fn make_directory(&mut self, path: &SafePath) -> Result<(), DiskError>;

    /// Makes a partial file, or cuts the one that is there to `len` bytes.
    ///
    /// # Errors
    /// [`DiskError`].
    fn open(&mut self, key: PartialKey, len: u64) -> Result<(), DiskError>;

    /// Writes at offset `at` of a partial file, which is its end.
    ///
    /// # Errors
    /// [`DiskError`]; some of the bytes may have been written.
    fn write(&mut self, key: PartialKey, at: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Returns when everything written to a partial file survives a loss of power.
    ///
    /// # Errors
    /// [`DiskError`].
    fn sync(&mut self, key: PartialKey) -> Result<(), DiskError>;

    /// Gives a partial file its final name, never in place of something else.
    ///
    /// # Errors
    /// [`DiskError::Exists`] where something has the name; [`DiskError`]. The partial file stays.
    fn publish(&mut self, key: PartialKey, path: &SafePath, executable: bool) -> Result<(), DiskError>;

    /// Returns when a final name survives a loss of power.
    ///
    /// # Errors
    /// [`DiskError`].
    fn sync_name(&mut self, path: &SafePath) -> Result<(), DiskError>;

    /// Removes a partial file. That there is none, or that it cannot be, is no error.
    fn discard(&mut self, key: PartialKey);
}
