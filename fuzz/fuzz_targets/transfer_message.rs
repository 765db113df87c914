//! A message of the file transfer. The body is `net_transfer::fuzz::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_transfer::fuzz::message(bytes));
