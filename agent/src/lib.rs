//! The static program in every sandbox: PID 1, runs, contexts and files, over one unix socket.
//!
//! `agent serve` is the container's command, `agent connect` is what `pods/exec` starts, and
//! `agent supervise` is the small parent that `serve` gives to every run, and `agent enter` what gives a
//! program its terminal. `agent install` and `agent version` are how it gets into a pod, and how that is
//! tried out; `agent setup` is what comes before `serve` where the user wants something done first, and
//! `agent archive` and `agent extract` take copies of directories.

mod adoption;
mod backup;
mod clock;
mod connect;
mod context;
mod control;
mod ending;
mod failure;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod gpus;
mod idle;
mod install;
mod isolation;
mod names;
mod output;
mod pictures;
mod proc;
mod process;
mod reaper;
mod run;
mod serve;
mod service;
mod settings;
mod setup;
mod supervise;
mod terminal;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str =
    "usage: agent serve | agent connect [socket] | agent setup | agent archive PATH | agent extract DIRECTORY
       agent install DIRECTORY | agent version
  serve    PID 1 of a sandbox: runs code and commands for who calls on its socket
  connect  a bridge between stdin, stdout and that socket
  setup    does what a sandbox is to be set up with, before it is served
  archive  writes a file, or what is below a directory, to stdout as a tar stream
  extract  unpacks a tar stream from stdin into a directory
  install  copies the agent into a directory, for another container to run
  version  prints the version of the agent and of the protocol it speaks";

/// Runs the face of the program that its first argument names.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let settings = settings::Settings::from_env();
    let result = match arguments.next().as_deref() {
        Some("serve") => match serve::serve(settings) {
            Ok(code) => return code,
            Err(error) => Err(format!("could not serve: {error}")),
        },
        Some("setup") => match setup::setup(&settings) {
            Ok(code) => return code,
            Err(error) => Err(format!("could not set the sandbox up: {error}")),
        },
        Some("connect") => {
            let socket = arguments.next().unwrap_or(settings.socket);
            connect::connect(&socket)
                .map_err(|error| format!("could not bridge to {socket}: {error}"))
        }
        Some(face @ ("archive" | "extract")) => {
            let Some(path) = arguments.next() else {
                return say(std::io::stderr(), USAGE, ExitCode::from(2));
            };
            if face == "archive" {
                backup::archive(&settings, &path)
            } else {
                backup::extract(&settings, &path)
            }
        }
        Some(control::SUPERVISE) => match arguments.next() {
            None => supervise::supervise(),
            Some(leader) => supervise::take_over(&leader),
        }
        .map_err(|error| format!("could not supervise: {error}")),
        Some(control::ENTER) => {
            let error = terminal::enter(arguments);
            // As a shell tells of what it found and could not run.
            return say(std::io::stderr(), &format!("agent: {error}"), ExitCode::from(126));
        }
        Some("install") => match arguments.next() {
            Some(directory) => {
                install::install(Path::new(&directory)).map_err(|error| error.to_string())
            }
            None => return say(std::io::stderr(), USAGE, ExitCode::from(2)),
        },
        Some("version") => {
            let (version, protocol) = (env!("CARGO_PKG_VERSION"), wire::PROTOCOL);
            let line = format!("agent {version} protocol {protocol}");
            return say(std::io::stdout(), &line, ExitCode::SUCCESS);
        }
        _ => return say(std::io::stderr(), USAGE, ExitCode::from(2)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => say(std::io::stderr(), &format!("agent: {message}"), ExitCode::FAILURE),
    }
}

/// Writes a line; where nobody listens any more there is nobody to tell either.
fn say(mut to: impl Write, line: &str, code: ExitCode) -> ExitCode {
    let _ = writeln!(to, "{line}");
    code
}

/// A line for the container's log: what the agent does, never what runs in it.
fn log(line: &str) {
    say(std::io::stderr(), &format!("agent: {line}"), ExitCode::SUCCESS);
}
