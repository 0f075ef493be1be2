//! `agent`: one program with three faces, chosen by its first argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::main()
}
