//! A resource's URI.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::uri(bytes));

#[cfg(not(fuzzing))]
fn main() {}
