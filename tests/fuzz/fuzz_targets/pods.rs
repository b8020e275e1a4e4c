//! See `fuzz::pods`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::pods(data));
