//! `agent`: one program with several faces, chosen by its first argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::main()
}
