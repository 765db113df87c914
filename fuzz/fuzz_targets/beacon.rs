//! A beacon, sealed or open. The body is `net_wire::fuzz::beacon`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_wire::fuzz::beacon(bytes));
