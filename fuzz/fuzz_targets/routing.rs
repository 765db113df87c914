//! Routing header and hop trailer. The body is `net_wire::fuzz::routing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_wire::fuzz::routing(bytes));
