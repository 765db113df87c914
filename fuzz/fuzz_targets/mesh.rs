//! A message of the mesh. The body is `net_wire::fuzz::mesh`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_wire::fuzz::mesh(bytes));
