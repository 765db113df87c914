//! Tickets, as text and behind a checksum that holds. The body is `net_wire::fuzz::ticket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_wire::fuzz::ticket(bytes));
