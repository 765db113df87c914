//! Storage as values: operations leave as [`StoreOp`], completions come back as [`Stored`].
//!
//! Invariants: a `Put` is atomic: after a crash the cell holds the old or the new bytes, never a mixture.
//! Not here: files (`net-io-real`), torn disks (`net-io-sim`).

use alloc::vec::Vec;

/// Names a small atomic cell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cell {
    /// The highest confirmed epoch of each peer (PROTOCOL 1).
    PeerEpochs,
}

impl Cell {
    /// Every cell.
    pub const ALL: &'static [Self] = &[Self::PeerEpochs];
    /// A cell holds at most this many bytes.
    pub const MAX_LEN: usize = 4 << 20;

    /// A stable name, usable as a file name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PeerEpochs => "peer-epochs",
        }
    }
}

/// One storage operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreOp {
    /// Replace a cell and sync it before answering [`Stored::Done`].
    Put {
        /// Which.
        cell: Cell,
        /// What; at most [`Cell::MAX_LEN`] bytes.
        bytes: Vec<u8>,
    },
    /// Read a cell; answered by [`Stored::Value`].
    Get {
        /// Which.
        cell: Cell,
    },
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored<'b> {
    /// It is on disk.
    Done,
    /// What a cell holds; `None` if it was never written.
    Value(Option<&'b [u8]>),
    /// It failed; the cell holds its old bytes.
    Failed(StoreError),
}

/// Why storage failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// No space left.
    Full,
    /// Not permitted.
    Denied,
    /// The bytes are not what was written (checksum).
    Corrupt,
    /// The device failed.
    Device,
}
