//! Variable-length integers. The body is `net_wire::fuzz::varint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_wire::fuzz::varint(bytes));
