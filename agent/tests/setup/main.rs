//! What is done before a sandbox is served, by the program itself.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod imports;
mod sources;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The directories of a sandbox, and what it is to be set up with.
struct Sandbox {
    directory: TempDir,
    plan: Value,
}

impl Sandbox {
    fn new(plan: Value) -> Self {
        let sandbox = Self { directory: tempfile::tempdir().unwrap(), plan };
        for part in ["workspace", "home", "tmp", "runs"] {
            fs::create_dir(sandbox.path(part)).unwrap();
        }
        sandbox
    }

    fn path(&self, part: &str) -> std::path::PathBuf {
        self.directory.path().join(part)
    }

    fn read(&self, part: &str) -> String {
        fs::read_to_string(self.path(part)).unwrap_or_default()
    }

    fn set_up_with(&self, env: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_agent"))
            .arg("setup")
            .env("CODESANDBOX_SETUP", self.plan.to_string())
            .env("CODESANDBOX_WORKDIR", self.path("workspace"))
            .env("CODESANDBOX_RUNS_DIR", self.path("runs"))
            .env("CODESANDBOX_TERMINATION_LOG", self.path("word"))
            .env("CODESANDBOX_HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .envs(env.iter().copied())
            .output()
            .unwrap()
    }

    fn set_up(&self) -> Option<i32> {
        self.set_up_with(&[]).status.code()
    }

    /// The word it left.
    fn word(&self) -> Value {
        serde_json::from_str(&self.read("word")).unwrap()
    }
}

fn plan(commands: &[&str]) -> Value {
    json!({"commands": commands, "timeoutMs": 20_000})
}

#[test]
fn commands_run_one_after_another_in_the_workspace_and_their_output_is_in_the_log() {
    let sandbox = Sandbox::new(plan(&[
        "echo one > a; echo said",
        "cat a; echo two >> a; echo $CODESANDBOX_SETUP >&2",
    ]));
    let output = sandbox.set_up_with(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(sandbox.read("workspace/a"), "one\ntwo\n");
    let log = "$ echo one > a; echo said\nsaid\n$ cat a; echo two >> a; echo $CODESANDBOX_SETUP >&2\none\n\n";
    assert_eq!(sandbox.read("tmp/setup.log"), log);
    assert_eq!(sandbox.read("word"), "");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("said"), "nothing of it is in ours");
}

#[test]
fn the_first_command_that_fails_is_the_end_and_its_last_words_are_left() {
    for (command, how) in [
        ("echo no such x >&2; exit 3", "ended with exit code 3"),
        ("echo no such x; kill -9 $$", "was ended by signal 9"),
    ] {
        let sandbox = Sandbox::new(plan(&["echo first", command, "touch never"]));
        assert_eq!(sandbox.set_up(), Some(1));
        let said = format!("$ echo first\nfirst\n$ {command}\nno such x");
        assert_eq!(
            sandbox.word(),
            json!({"reason": "SetupFailed", "command": command, "how": how, "tail": said})
        );
        assert!(!sandbox.path("workspace/never").exists());
    }
}

#[test]
fn what_takes_too_long_is_ended_with_all_that_it_has_started() {
    let mut sandbox = Sandbox::new(plan(&["(sleep 1; touch late) & sleep 1000"]));
    sandbox.plan["timeoutMs"] = 300.into();
    let began = Instant::now();
    assert_eq!(sandbox.set_up(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(sandbox.word()["how"], "did not end in time");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!sandbox.path("workspace/late").exists());
}

#[test]
fn what_was_done_on_a_disk_is_not_done_again_and_another_setup_is() {
    let mut sandbox = Sandbox::new(plan(&["echo again >> count"]));
    for _ in 0..3 {
        assert_eq!(sandbox.set_up(), Some(0));
    }
    assert_eq!(sandbox.read("workspace/count"), "again\n");
    sandbox.plan = plan(&["echo another >> count"]);
    assert_eq!(sandbox.set_up(), Some(0));
    assert_eq!(sandbox.read("workspace/count"), "again\nanother\n");
    // What has failed has not been done.
    sandbox.plan = plan(&["echo failing >> count; false"]);
    assert_eq!((sandbox.set_up(), sandbox.set_up()), (Some(1), Some(1)));
    assert_eq!(sandbox.read("workspace/count"), "again\nanother\nfailing\nfailing\n");
}

#[test]
fn what_a_projects_files_name_is_installed_where_that_is_asked_for() {
    let programs = tempfile::tempdir().unwrap();
    for program in ["python3", "npm"] {
        let script = programs.path().join(program);
        fs::write(&script, format!("#!/bin/sh\necho {program} \"$@\" >> installed\n")).unwrap();
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let commands = ["touch requirements.txt package.json"];
    for (auto, expected) in [
        (
            true,
            "python3 -m pip install --no-input --disable-pip-version-check -r requirements.txt\nnpm install --no-audit --no-fund\n",
        ),
        (false, ""),
    ] {
        let mut sandbox = Sandbox::new(plan(&commands));
        sandbox.plan["auto"] = auto.into();
        assert_eq!(sandbox.set_up_with(&[("PATH", &path)]).status.code(), Some(0));
        assert_eq!(sandbox.read("workspace/installed"), expected);
    }
}

#[test]
fn nothing_is_done_in_a_network_that_does_not_close() {
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = canary.local_addr().unwrap().to_string();
    std::thread::spawn(move || while canary.accept().is_ok() {});
    let sandbox = Sandbox::new(plan(&["touch done"]));
    let output = sandbox.set_up_with(&[("CODESANDBOX_CANARY", &address)]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(sandbox.word(), json!({"reason": "NotIsolated"}));
    assert!(!sandbox.path("workspace/done").exists());
}

#[test]
fn a_plan_that_is_none_is_an_error() {
    let mut sandbox = Sandbox::new(Value::Null);
    sandbox.plan = "nonsense".into();
    assert_eq!(sandbox.set_up(), Some(1));
    assert!(!Path::new(&sandbox.path("word")).exists());
}

/// Whom it has spoken with is to be out of reach for the sandbox only where that may not speak with them.
#[test]
fn who_answered_is_taken_down_where_the_sandbox_is_not_to_reach_them() {
    for opens in [true, false] {
        let mut sandbox = Sandbox::new(plan(&["true"]));
        sandbox.plan["opens"] = opens.into();
        assert_eq!(sandbox.set_up(), Some(0));
        assert_eq!(sandbox.path("runs/setup.opened").exists(), opens);
    }
}
