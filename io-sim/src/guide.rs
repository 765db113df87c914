//! The pages of docs/ whose programs are run as tests of this crate's documentation.
//!
//! Invariants: what a page shows compiles and passes. Not here: anything else; this module exists for its tests.

#[doc = include_str!("../../docs/writing-a-checker.md")]
pub mod writing_a_checker {}

#[doc = include_str!("../../docs/gating-ci.md")]
pub mod gating_ci {}

#[doc = include_str!("../../docs/writing-a-scenario.md")]
pub mod writing_a_scenario {}
