//! A run's events, in client and front end.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::events(bytes));

#[cfg(not(fuzzing))]
fn main() {}
