//! A part of a run's output, in client and front end.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::output(bytes));

#[cfg(not(fuzzing))]
fn main() {}
