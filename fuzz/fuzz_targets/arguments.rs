//! A tool's arguments.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::arguments(bytes));

#[cfg(not(fuzzing))]
fn main() {}
