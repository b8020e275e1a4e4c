//! See `fuzz::cursors`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::cursors(data));
