#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thv_fuzz_targets::lines(bytes));
