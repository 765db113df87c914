//! The command line as its users meet it: the built binary, over loopback.
//!
//! Invariants: see `common.rs`. Not here: the node itself (`net-io-real`), the protocol (`net-kernel`).

mod common;
mod contents;
mod demo;
mod errors;
mod files;
mod hostile;
mod mesh;
mod pipe;
mod publish;
