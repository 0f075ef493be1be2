//! The one program of its image. Says what it is told, and to stderr where it is; ends with the code it is told first.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let code = arguments.next().and_then(|code| code.parse().ok()).unwrap_or(2);
    println!("{}", arguments.collect::<Vec<_>>().join(" "));
    eprintln!("{}", env::current_dir().unwrap_or_default().display());
    ExitCode::from(code)
}
