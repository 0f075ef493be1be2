//! What a caller may ask for: every rule about a run's spec, before anything is done.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};
use wire::limits::{DEFAULT_TIMEOUT, MAX_CONTEXT, MAX_RUN_ID, MAX_SOURCE, MAX_TIMEOUT, MAX_TITLE};
use wire::v1::run_spec::What;
use wire::v1::{Code as Source, Command, Interactive, RunSpec};
use wire::{Code, Error};

use super::interactive::size;
use super::log::Hash;
use super::program;
use crate::context::language::Language;

/// A spec that has been found right.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) what: What,
    pub(crate) timeout: Duration,
    pub(crate) report_changes: bool,
    pub(crate) hash: Hash,
    /// What it runs, for people.
    pub(crate) title: String,
}

/// Checks a run's id and spec, and fills in what they leave open.
pub(crate) fn check(id: &str, spec: Option<RunSpec>) -> Result<Checked, Error> {
    name("run id", id, MAX_RUN_ID)?;
    let spec =
        spec.ok_or_else(|| refuse("the spec is missing; to see a run that exists, use Attach"))?;
    // Maps are encoded in order, so that the same spec always has the same hash.
    let hash = Sha256::digest(spec.encode_to_vec()).into();
    let timeout = match Duration::from_millis(spec.timeout_ms) {
        Duration::ZERO => DEFAULT_TIMEOUT,
        timeout if timeout <= MAX_TIMEOUT => timeout,
        _ => {
            return Err(refuse(format!(
                "timeout_ms: at most {} is taken",
                MAX_TIMEOUT.as_millis()
            )));
        }
    };
    let what = match spec.what {
        Some(What::Command(spec)) => What::Command(command(spec)?),
        Some(What::Code(spec)) => What::Code(code(spec)?),
        Some(What::Interactive(spec)) => What::Interactive(interactive(spec)?),
        None => return Err(refuse("the spec has neither a command nor code; set one")),
    };
    let title = title(&what);
    Ok(Checked { what, timeout, report_changes: spec.report_changes, hash, title })
}

/// A line that says what runs, of at most `MAX_TITLE` bytes.
fn title(what: &What) -> String {
    let line = |argv: &[String]| match argv {
        [shell, flag, line] if shell == "/bin/sh" && flag == "-c" => line.clone(),
        argv => argv.join(" "),
    };
    let whole = match what {
        What::Command(command) => line(&command.argv),
        What::Interactive(spec) => line(spec.command.as_ref().map_or(&[], |command| &command.argv)),
        What::Code(code) => {
            let source = String::from_utf8_lossy(&code.source);
            let first = source.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let context = if code.context.is_empty() { &code.language } else { &code.context };
            format!("{context}: {first}")
        }
    };
    let mut line = whole.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MAX_TITLE {
        line.truncate(line.floor_char_boundary(MAX_TITLE - '…'.len_utf8()));
        line.push('…');
    }
    line
}

fn command(spec: Command) -> Result<Command, Error> {
    let argv = match (spec.argv.is_empty(), spec.shell.is_empty()) {
        (false, true) => spec.argv,
        (true, false) => vec!["/bin/sh".to_owned(), "-c".to_owned(), spec.shell],
        (true, true) => return Err(refuse("the command is empty; set argv or shell")),
        (false, false) => {
            return Err(refuse("the command has both argv and shell; set one of them"));
        }
    };
    if argv[0].is_empty() {
        return Err(refuse("argv[0] is empty; it names the program"));
    }
    if spec.stdin.len() > MAX_SOURCE {
        return Err(too_long("stdin", spec.stdin.len()));
    }
    if argv.iter().any(|text| text.contains('\0')) {
        return Err(refuse("argv cannot hold NUL bytes; pass such data by stdin or a file"));
    }
    place(&spec.cwd, &spec.env)?;
    Ok(Command { argv, shell: String::new(), ..spec })
}

fn interactive(spec: Interactive) -> Result<Interactive, Error> {
    let given =
        spec.command.ok_or_else(|| refuse("interactive: the command is missing; set it"))?;
    if !given.stdin.is_empty() {
        return Err(refuse("stdin: an interactive run has none of its own; send it by Input"));
    }
    spec.terminal.map_or(Ok(()), size)?;
    Ok(Interactive { command: Some(command(given)?), ..spec })
}

/// Checks where something is to start, and with which variables.
pub(crate) fn place(cwd: &str, env: &BTreeMap<String, String>) -> Result<(), Error> {
    if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(refuse(format!("env: {name:?} cannot name a variable")));
    }
    if let Some(name) = env.keys().find(|name| name.starts_with("CODESANDBOX_")) {
        return Err(refuse(format!(
            "env: {name}: names that begin with CODESANDBOX_ are the agent's; choose another"
        )));
    }
    if cwd.contains('\0') || env.values().any(|value| value.contains('\0')) {
        return Err(refuse("env and cwd cannot hold NUL bytes; pass such data by stdin or a file"));
    }
    Ok(())
}

/// A context's name, checked: the language's own if none is given.
pub(crate) fn context(given: &str, language: &Language) -> Result<String, Error> {
    let context = if given.is_empty() { language.name } else { given };
    name("context", context, MAX_CONTEXT)?;
    Ok(context.to_owned())
}

fn code(spec: Source) -> Result<Source, Error> {
    if spec.source.len() > MAX_SOURCE {
        return Err(too_long("source", spec.source.len()));
    }
    if str::from_utf8(&spec.source).is_err() {
        return Err(refuse("source is not UTF-8; encode it so"));
    }
    if program::named(&spec.language).is_some() {
        if spec.context.is_empty() {
            return Ok(spec);
        }
        let message = format!(
            "context: a program in {} is run once and keeps no state; leave the context out",
            spec.language
        );
        return Err(refuse(message));
    }
    let language = Language::named(&spec.language)?;
    let context = context(&spec.context, language)?;
    Ok(Source { context, ..spec })
}

pub(crate) fn name(what: &str, name: &str, longest: usize) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !name.is_empty() && name.len() <= longest && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(refuse(format!("{what}: choose 1 to {longest} characters out of A-Z a-z 0-9 _ . -")))
}

fn too_long(what: &str, length: usize) -> Error {
    refuse(format!(
        "{what} has {length} bytes, at most {MAX_SOURCE} are taken; write it to a file and read that"
    ))
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(command: Command) -> RunSpec {
        RunSpec { what: Some(What::Command(command)), ..RunSpec::default() }
    }

    fn argv(words: &[&str]) -> Command {
        Command { argv: words.iter().map(ToString::to_string).collect(), ..Command::default() }
    }

    fn refused(id: &str, spec: impl Into<Option<RunSpec>>) -> String {
        let error = check(id, spec.into()).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        error.message
    }

    #[test]
    fn what_can_never_run_is_refused_with_what_to_do() {
        assert!(refused("a/b", spec(argv(&["true"]))).contains("run id"));
        assert!(refused("", spec(argv(&["true"]))).contains("run id"));
        assert!(refused(&"a".repeat(65), spec(argv(&["true"]))).contains("64"));
        assert!(refused("a", None).contains("Attach"));
        assert!(refused("a", spec(argv(&[]))).contains("argv or shell"));
        assert!(
            refused("a", spec(Command { shell: "true".to_owned(), ..argv(&["true"]) }))
                .contains("both")
        );
        assert!(refused("a", spec(argv(&["a\0b"]))).contains("NUL"));
        let env = BTreeMap::from([("CODESANDBOX_X".to_owned(), String::new())]);
        assert!(refused("a", spec(Command { env, ..argv(&["true"]) })).contains("CODESANDBOX_"));
        let late = RunSpec { timeout_ms: u64::MAX, ..spec(argv(&["true"])) };
        assert!(refused("a", late).contains("timeout_ms"));
        let code = Source { language: "cobol".to_owned(), ..Source::default() };
        assert!(
            refused("a", RunSpec { what: Some(What::Code(code)), ..RunSpec::default() })
                .contains("python")
        );
    }

    #[test]
    fn a_title_is_one_short_line() {
        let title = |what| super::title(&what);
        let shell = Command { shell: "make\n\tall".to_owned(), ..Command::default() };
        assert_eq!(title(What::Command(command(shell).unwrap())), "make all");
        assert_eq!(title(What::Command(argv(&["ls", "-l", "a b"]))), "ls -l a b");
        let source = "\n  import os\nos.abort()".into();
        let python = Source { language: "python".to_owned(), source, ..Source::default() };
        assert_eq!(title(What::Code(code(python).unwrap())), "python: import os");
        let long = title(What::Command(argv(&[&"é".repeat(MAX_TITLE)])));
        assert_eq!((long.len(), long.ends_with("é…")), (199, true));
    }

    #[test]
    fn the_order_of_the_environment_does_not_change_a_spec() {
        let env = |names: [&str; 3]| names.map(|name| (name.to_owned(), "1".to_owned())).into();
        let first =
            check("a", Some(spec(Command { env: env(["A", "B", "C"]), ..argv(&["true"]) })))
                .unwrap();
        let second =
            check("a", Some(spec(Command { env: env(["C", "A", "B"]), ..argv(&["true"]) })))
                .unwrap();
        assert_eq!(first.hash, second.hash);
        assert_ne!(first.hash, check("a", Some(spec(argv(&["true"])))).unwrap().hash);
    }
}
