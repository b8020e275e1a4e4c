//! See `fuzz::followed`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::followed(data));
