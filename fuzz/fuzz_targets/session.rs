//! Two kernels under arbitrary datagrams, times, commands and completions. The body is `net_kernel::fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_kernel::fuzz::session(bytes));
