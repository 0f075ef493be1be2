//! What runs in the sandboxes, and what it has to come to. Each program counts its own begins and ends.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{judge::Output, node::SPARED};
use crate::mcp::text;

/// The file with a line for each begin.
pub(super) const BEGUN: &str = "begun";
/// The file with a line for each end.
pub(super) const ENDED: &str = "ended";
/// What uses up the memory, by which its process is known, too.
pub(super) const HUNGRY: &str = "print(len(b'x' * (300 << 20)))";
/// The most characters an answer holds.
const ANSWER: usize = 100_000;
/// The size of a file that is written over and over.
const FILE: usize = 4 << 20;

/// A program and all of its output.
pub(super) struct Program {
    argv: Vec<String>,
    output: Vec<u8>,
}

impl Program {
    fn new(middle: &str, output: Vec<u8>) -> Self {
        let line = format!("echo b >>{BEGUN} && {middle} && echo e >>{ENDED}");
        Self { argv: vec!["/bin/sh".into(), "-c".into(), line], output }
    }

    /// Ends at once.
    pub(super) fn short() -> Self {
        Self::new("echo done", b"done\n".into())
    }

    /// Says nothing for eight seconds.
    pub(super) fn quiet() -> Self {
        Self::new("sleep 8 && echo done", b"done\n".into())
    }

    /// A thousand numbered lines within eight seconds, all of which fit into an answer.
    pub(super) fn lines() -> Self {
        let middle = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); printf '%079d\\n' $i; [ $((i%10)) != 0 ] || sleep 0.08; done";
        let output = (1..=1000).fold(String::new(), |mut output, i| {
            let _ = writeln!(output, "{i:079}");
            output
        });
        Self::new(middle, output.into())
    }

    /// Eight mebibytes of numbered lines within eight seconds.
    pub(super) fn flood() -> Self {
        let middle = "python3 -uc 'import sys, time\nfor i in range(128):\n    sys.stdout.write(\"\".join(\"%07d\\n\" % (8192 * i + j) for j in range(8192)))\n    time.sleep(0.06)'";
        let output = (0..128 * 8192).fold(String::new(), |mut output, i| {
            let _ = writeln!(output, "{i:07}");
            output
        });
        Self::new(middle, output.into())
    }

    /// Runs until its sandbox is deleted.
    pub(super) fn endless() -> Self {
        Self::new("sleep 600", Vec::new())
    }

    /// The arguments of `run_command`.
    pub(super) fn arguments(&self, sandbox: &str, run: &str) -> Value {
        json!({"sandbox_id": sandbox, "argv": self.argv, "run_id": run, "max_output_chars": ANSWER})
    }

    /// What came of its output, by an answer.
    pub(super) fn judge(&self, answer: &Value) -> Output {
        let stdout = &answer["_meta"]["codesandbox.dev/run"]["stdout"];
        let shown = text(answer).split_once("\n--- stdout\n").map_or("", |(_, shown)| shown);
        // Behind it, or in its middle, stands what is said about it.
        let shown = shown.split("\n[").next().unwrap_or_default();
        if !self.output.starts_with(shown.as_bytes()) {
            return Output::Wrong;
        }
        let whole = stdout["bytes"] == self.output.len()
            && stdout["sha256"] == sha256(&self.output)
            && answer["_meta"]["codesandbox.dev/run"]["log_complete"] == true
            && (self.output.len() > ANSWER || shown.len() + 1 == self.output.len());
        if whole { Output::Whole } else { Output::Begun }
    }
}

/// The arguments of `run_command` for a process that takes more memory than its sandbox has.
pub(super) fn hog(sandbox: &str) -> Value {
    hungry(sandbox, "")
}

/// The same for one that waits until it is [spared](super::node::Process::spare) and shares the
/// memory with a child: else the kernel would choose it, as the largest, and never the agent.
pub(super) fn patient_hog(sandbox: &str) -> Value {
    let wait = format!(
        "while open('/proc/self/oom_score_adj').read() != '{SPARED}\\n': time.sleep(.01)\nos.fork()"
    );
    hungry(sandbox, &wait)
}

fn hungry(sandbox: &str, wait: &str) -> Value {
    let source = format!("import os, time\n{wait}\n{HUNGRY}");
    json!({"sandbox_id": sandbox, "argv": ["python3", "-c", source], "run_id": "hog"})
}

/// The n-th content of the file that is written over and over.
pub(super) fn content(n: u64) -> Vec<u8> {
    n.to_le_bytes().into_iter().cycle().take(FILE).collect()
}

/// A digest as people write it.
pub(super) fn sha256(data: &[u8]) -> String {
    Sha256::digest(data).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shown: &str, stdout: &str) -> Value {
        json!({
            "content": [{"type": "text", "text": format!("exit_code=0\n--- stdout\n{shown}")}],
            "_meta": {"codesandbox.dev/run": {
                "log_complete": true,
                "stdout": {"bytes": stdout.len(), "sha256": sha256(stdout.as_bytes())},
            }},
        })
    }

    #[test]
    fn output_is_whole_a_beginning_or_wrong() {
        let program = Program::new("", b"1\n2\n3\n".into());
        for (answer, expected) in [
            (answer("1\n2\n3", "1\n2\n3\n"), Output::Whole),
            (answer("1\n2\n[RUN_LOST: …]", ""), Output::Begun),
            (answer("", ""), Output::Begun),
            (answer("1\n2", "1\n2\n3\n"), Output::Begun),
            (answer("1\n1\n2\n3", "1\n2\n3\n"), Output::Wrong),
            (answer("1\n3", "1\n3\n"), Output::Wrong),
        ] {
            assert_eq!(program.judge(&answer), expected, "{answer}");
        }
        let flood = Program::flood();
        let all = String::from_utf8(flood.output.clone()).unwrap();
        let excerpt = format!("{}\n[... 8 bytes omitted; …]\n{}", &all[..79], &all[800..]);
        assert_eq!(flood.judge(&answer(&excerpt, &all)), Output::Whole);
        assert_eq!(Program::lines().output.len(), 80_000);
    }
}
