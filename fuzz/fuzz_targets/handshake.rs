//! Handshake packets and their payloads. The body is `net_wire::fuzz::handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_wire::fuzz::handshake(bytes));
