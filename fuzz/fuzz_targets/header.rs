//! The 64-byte header, its mask and the first look at a datagram. The body is `net_wire::fuzz::header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_wire::fuzz::header(bytes));
