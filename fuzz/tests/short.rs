//! Every target with its corpus and with mutations of it, the same at every run.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, io::Write, path::Path, thread};

/// How many mutations each target gets: about a second of them.
const MUTATIONS: u32 = 20_000;

/// Where the corpus of a target is: files that are valid, and those that once were a fault.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The order of a directory is not the same everywhere.
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A sequence that looks random and is the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        // Those at the bounds of numbers and of text find more than others.
        const BOUNDS: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'%', b'9'];
        match self.below(2) {
            0 => BOUNDS[self.below(BOUNDS.len())],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }

    /// A range of some bytes, at most sixteen.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length);
        start..length.min(start + self.below(17))
    }
}

/// Changes some bytes in one of the ways in which things go wrong.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let length = bytes.len();
    match dice.below(6) {
        0 if length > 0 => bytes[dice.below(length)] ^= 1 << dice.below(8),
        1 if length > 0 => bytes[dice.below(length)] = dice.byte(),
        2 => bytes.insert(dice.below(length + 1), dice.byte()),
        3 => drop(bytes.drain(dice.range(length))),
        4 => bytes.truncate(dice.below(length + 1)),
        _ => {
            let some = other[dice.range(other.len())].to_vec();
            let place = dice.below(length + 1);
            bytes.splice(place..place, some);
        }
    }
}

/// Says what was tried, if it was a fault.
struct Tried<'a>(&'a [u8]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = writeln!(std::io::stderr(), "the input was b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn tried(target: fn(&[u8]), bytes: &[u8]) {
    let _tried = Tried(bytes);
    target(bytes);
}

fn drive(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    for bytes in &corpus {
        tried(target, bytes);
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..MUTATIONS {
        let mut bytes = corpus[dice.below(corpus.len())].clone();
        for _ in 0..=dice.below(4) {
            mutate(&mut bytes, &corpus[dice.below(corpus.len())], &mut dice);
        }
        tried(target, &bytes);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            drive(stringify!($name), fuzz::$name);
        })*

        /// `make fuzz` takes them from the directory.
        #[test]
        fn every_target_of_libfuzzer_is_driven_here_too() {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
            let mut found: Vec<_> = fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
                .collect();
            found.sort();
            assert_eq!(found, [$(stringify!($name)),*]);
        }
    };
}

targets! { arguments driver events gpus log output picture query report spec uri }
