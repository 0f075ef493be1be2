//! Copies of directories by the program itself, as `kubectl exec` starts it.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn agent(workspace: &Path, face: &str, path: &str, input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args([face, path])
        .env("CODESANDBOX_WORKDIR", workspace)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Who has failed does not read on.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_directory_comes_back_as_it_went() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(from.path().join("a/b")).unwrap();
    fs::write(from.path().join("a/run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.path().join("a/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(from.path().join("a/b/large"), vec![7; 3 << 20]).unwrap();
    symlink("run.sh", from.path().join("a/link")).unwrap();

    let archived = agent(from.path(), "archive", ".", b"");
    assert!(archived.status.success(), "{}", stderr(&archived));
    assert_eq!(stderr(&archived), "agent: archived 5 entries, left out 0 that are no files\n");
    let extracted = agent(to.path(), "extract", ".", &archived.stdout);
    assert!(extracted.status.success(), "{}", stderr(&extracted));
    assert_eq!(stderr(&extracted), "agent: extracted 5 entries, left out 0 that are no files\n");

    let mode = fs::metadata(to.path().join("a/run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    assert_eq!(fs::read_link(to.path().join("a/link")).unwrap(), Path::new("run.sh"));
    assert!(fs::read(to.path().join("a/b/large")).unwrap() == vec![7; 3 << 20]);
}

#[test]
fn a_copy_that_was_cut_off_is_refused() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("file"), "whole").unwrap();
    let whole = agent(from.path(), "archive", ".", b"").stdout;
    assert_eq!(whole.len(), 512 + 512 + 1024);
    // Before all, within a file's bytes, and behind it.
    for (length, said) in
        [(0, "the archive has no end"), (600, "no tar that can be unpacked"), (1024, "has no end")]
    {
        let place = to.path().join(format!("new-{length}"));
        let cut = agent(to.path(), "extract", place.to_str().unwrap(), &whole[..length]);
        assert_eq!(cut.status.code(), Some(1), "{length}");
        assert!(stderr(&cut).contains(said), "{}", stderr(&cut));
        assert!(!place.exists(), "{length}");
    }
    // Zeros are no end where they are a file's.
    fs::write(from.path().join("file"), [0; 4096]).unwrap();
    let zeros = agent(from.path(), "archive", ".", b"").stdout;
    let cut = agent(to.path(), "extract", ".", &zeros[..512 + 4096]);
    assert!(stderr(&cut).contains("the archive has no end"), "{}", stderr(&cut));
    fs::remove_file(to.path().join("file")).unwrap();
    let nonsense = agent(to.path(), "extract", ".", &[b'x'; 4096]);
    assert_eq!(nonsense.status.code(), Some(1));
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn what_is_not_there_or_not_said_is_an_error() {
    let workspace = tempfile::tempdir().unwrap();
    let gone = agent(workspace.path(), "archive", "gone", b"");
    assert_eq!((gone.status.code(), gone.stdout.len()), (Some(1), 0));
    assert!(stderr(&gone).contains("gone"), "{}", stderr(&gone));
    let silent = Command::new(env!("CARGO_BIN_EXE_agent")).arg("archive").output().unwrap();
    assert_eq!(silent.status.code(), Some(2));
}
