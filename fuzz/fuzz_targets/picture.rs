//! A picture that a run has shown.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::picture(bytes));

#[cfg(not(fuzzing))]
fn main() {}
