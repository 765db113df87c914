//! Acknowledgements, read and written. The body is `net_wire::fuzz::ack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_wire::fuzz::ack(bytes));
