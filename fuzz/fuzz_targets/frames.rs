//! A whole plaintext of frames. The body is `net_wire::fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_wire::fuzz::frames(bytes));
