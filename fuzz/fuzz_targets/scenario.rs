//! Small worlds drawn from the input. The body is `net_io_sim::fuzz::scenario`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_io_sim::fuzz::scenario(bytes));
