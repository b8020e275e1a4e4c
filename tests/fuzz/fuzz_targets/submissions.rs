//! See `fuzz::submissions`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::submissions(data));
