//! The reader of scenario files on any text. The body is `net_io_sim::fuzz::scenario_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_io_sim::fuzz::scenario_text(bytes));
