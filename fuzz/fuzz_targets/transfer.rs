//! Both sides of a file transfer, fed with whatever a hostile peer may say. The body is `net_transfer::fuzz::transfer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_transfer::fuzz::transfer(bytes));
