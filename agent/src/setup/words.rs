//! What a failed setup leaves in its container's termination message, which the operator reads.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Serialize;

use super::Failure;

/// How much Kubernetes takes, in bytes. What is cut off there would be no JSON.
const MAX: usize = 4096;
/// How much of the output it has at most, in bytes.
const TAIL: usize = 1500;
/// How much of the command.
const COMMAND: usize = 200;
/// How much of how it ended, which may name a path. With the command it fits even where each byte becomes six.
const HOW: usize = 400;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Words<'a> {
    reason: &'static str,
    command: &'a str,
    how: &'a str,
    tail: &'a str,
}

/// Leaves word of how a command failed, with the end of what it said.
pub(super) fn leave(at: &Path, command: &str, failure: &Failure, log: &Path) {
    let tail = tail(log).unwrap_or_default();
    // Where that is not possible the status says less.
    if let Err(error) = fs::write(at, said(command, failure, &tail)) {
        crate::log(&format!("could not write {}: {error}", at.display()));
    }
}

fn said(command: &str, failure: &Failure, tail: &str) -> String {
    let how = match failure {
        Failure::NotDone(why) => format!("could not be done ({why})"),
        Failure::NotStarted(why) => format!("could not be started ({why})"),
        Failure::Exited(code) => format!("ended with exit code {code}"),
        Failure::Signaled(signal) => format!("was ended by signal {signal}"),
        Failure::TimedOut => "did not end in time".into(),
    };
    let command = &command[..command.floor_char_boundary(COMMAND)];
    let how = &how[..how.floor_char_boundary(HOW)];
    let mut longest = TAIL;
    loop {
        let tail = &tail[tail.ceil_char_boundary(tail.len().saturating_sub(longest))..];
        let words = Words { reason: "SetupFailed", command, how, tail: tail.trim() };
        let words = serde_json::to_string(&words).expect("strings are JSON");
        // A byte may have become six.
        if words.len() <= MAX || longest == 0 {
            return words;
        }
        longest /= 2;
    }
}

/// The end of a file, as text.
fn tail(log: &Path) -> io::Result<String> {
    let mut log = File::open(log)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(TAIL as u64)))?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn how_each_failure_is_told() {
        for (failure, how) in [
            (Failure::NotDone("no space".into()), "could not be done (no space)"),
            (Failure::NotStarted("no such file".into()), "could not be started (no such file)"),
            (Failure::Exited(1), "ended with exit code 1"),
            (Failure::Signaled(9), "was ended by signal 9"),
            (Failure::TimedOut, "did not end in time"),
        ] {
            let told: Value = serde_json::from_str(&said("false", &failure, " no\n")).unwrap();
            let expected =
                json!({"reason": "SetupFailed", "command": "false", "how": how, "tail": "no"});
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn whatever_a_command_says_the_words_fit_and_are_json() {
        for text in ["\u{1}", "é", "\"", "\u{fffd}", "a"] {
            let long = text.repeat(9000);
            for failure in [Failure::TimedOut, Failure::NotDone(long.clone())] {
                let words = said(&long, &failure, &long);
                assert!(words.len() <= MAX, "{text:?}: {}", words.len());
                assert!(serde_json::from_str::<Value>(&words).is_ok());
            }
        }
    }
}
