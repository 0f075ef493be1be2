//! What nvidia-smi says, or a file of the driver's.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::gpus(bytes));

#[cfg(not(fuzzing))]
fn main() {}
