//! What a disk gives back to a kernel. The body is `net_kernel::fuzz::store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net_kernel::fuzz::store(bytes));
