//! How the agent gets into a pod: it copies itself, and says who it is.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const AGENT: &str = env!("CARGO_BIN_EXE_agent");

fn install(directory: &Path) -> Output {
    Command::new(AGENT).arg("install").arg(directory).output().unwrap()
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("version").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_agent_says_its_version_and_its_protocol() {
    let expected = format!("agent {} protocol {}\n", env!("CARGO_PKG_VERSION"), wire::PROTOCOL);
    assert_eq!(version(Path::new(AGENT)), expected);
}

#[test]
fn the_agent_installs_itself_whole_and_for_nobody_to_change() {
    let directory = tempfile::tempdir().unwrap();
    let installed = directory.path().join("agent");
    // Twice, as when the node started the container again, and over what a kill left behind.
    fs::write(&installed, "half of it").unwrap();
    for _ in 0..2 {
        let output = install(directory.path());
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert!(fs::read(&installed).unwrap() == fs::read(AGENT).unwrap(), "it is the same file");
        assert_eq!(fs::metadata(&installed).unwrap().permissions().mode() & 0o7777, 0o555);
        assert_eq!(version(&installed), version(Path::new(AGENT)));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "and nothing beside it");
    }
}

#[test]
fn an_agent_in_use_is_replaced_and_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    assert!(install(directory.path()).status.success());
    let name = format!("codesandbox-install-{}", std::process::id());
    let listener =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut running = Command::new(directory.path().join("agent"))
        .args(["connect", &name])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let _connected = listener.accept().unwrap();
    let output = install(directory.path());
    assert!(output.status.success(), "not `text file busy`: {output:?}");
    drop(running.stdin.take());
    running.wait().unwrap();
}

#[test]
fn what_keeps_the_agent_from_being_installed_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for (target, code) in [
        (directory.path().join("nowhere"), "FILE_NOT_FOUND"),
        (file, "FILE_NOT_FOUND"),
        // Nobody may make files there, not even root.
        (Path::new("/sys/kernel").to_owned(), "PERMISSION_DENIED"),
    ] {
        let output = install(&target);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
        let expected =
            format!("agent: {code}: could not install the agent into {}: ", target.display());
        assert!(said.starts_with(&expected) && said.contains("; mount"), "{said}");
    }
    let output = Command::new(AGENT).arg("install").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
