//! What both sides tell of single files, as text and as JSON.
//!
//! Invariants: a path is the peer's or the user's own, told as it is. Not here: results and errors (`send.rs`, `recv.rs`).

use std::fmt;

use serde::Serialize;

use crate::error::{Code, Failure};
use crate::output::{Record, bytes};

/// Something that was not sent or not taken.
#[derive(Clone, Serialize)]
pub struct LeftOut {
    pub path: String,
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left out: {} ({})", self.path, self.why)
    }
}

impl Record for LeftOut {
    const KIND: &'static str = "left-out";
}

/// A file goes on where an earlier attempt stopped.
#[derive(Serialize)]
pub struct Resumed {
    pub path: String,
    pub offset: u64,
}

impl fmt::Display for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "going on with {} after {}", self.path, bytes(self.offset))
    }
}

impl Record for Resumed {
    const KIND: &'static str = "resumed";
}

/// A file is whole, under its name and safe on disk.
#[derive(Serialize)]
pub struct Saved {
    pub path: String,
    pub bytes: u64,
    pub there_before: bool,
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = if self.there_before { ", there before" } else { "" };
        write!(f, "saved {} ({}{before})", self.path, bytes(self.bytes))
    }
}

impl Record for Saved {
    const KIND: &'static str = "saved";
}

/// Whether everything arrived.
pub fn verdict(left_out: &[LeftOut]) -> Result<(), Failure> {
    match left_out {
        [] => Ok(()),
        [one] => Err(Failure::new(
            Code::Incomplete,
            format!("everything but {} arrived", one.path),
        )),
        several => Err(Failure::new(
            Code::Incomplete,
            format!("everything but {} entries arrived", several.len()),
        )),
    }
}
