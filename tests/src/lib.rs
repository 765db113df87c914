//! Suites that look at the whole tree rather than at one crate.
//!
//! | file | role |
//! |---|---|
//! | `tidy.rs` | the tree as data: files, findings, and the walk |
//! | `tidy/` | one file per family of rules; `tests/tidy.rs` runs them |
//!
//! In `tests/`: `tidy.rs` runs the rules on the tree; `protocol_tables.rs` keeps docs/protocol.md, the vectors and the
//! fuzz seeds equal to the code, which tests in kernel/ could not do without touching files.
//!
//! Invariants: a rule is a pure function from the tree's text to findings, so that each can be shown to fail.
//! Not here: tests of one crate's behaviour, which live beside its code.
#![forbid(unsafe_code)]
#![expect(clippy::wildcard_enum_match_arm, reason = "syn's enums are non-exhaustive")]

pub mod tidy;

/// The program in the readme compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
