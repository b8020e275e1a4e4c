//! See `fuzz::quantities`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::quantities(data));
