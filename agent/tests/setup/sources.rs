//! What fills a workspace: files, and a repository.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;

use serde_json::json;
use tempfile::TempDir;

use super::{Sandbox, plan};

/// A repository with two commits on `main`, of which the first has the tag `v1`.
struct Repository {
    directory: TempDir,
}

impl Repository {
    fn new() -> Self {
        let one = Self { directory: tempfile::tempdir().unwrap() };
        one.git(&["init", "--quiet", "--initial-branch=main"]);
        for (text, tag) in [("first", "v1"), ("second", "v2")] {
            fs::write(one.directory.path().join("file"), text).unwrap();
            one.git(&["add", "file"]);
            one.git(&[
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "commit",
                "--quiet",
                "-m",
                text,
            ]);
            one.git(&["tag", tag]);
        }
        one
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        let done = git.current_dir(&self.directory).args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn url(&self) -> String {
        format!("file://{}", self.directory.path().display())
    }
}

#[test]
fn files_are_written_with_the_directories_above_them_before_commands_run() {
    let mut sandbox = Sandbox::new(plan(&["cat data/a.txt b > c"]));
    fs::write(sandbox.path("mounted"), "of a ConfigMap\n").unwrap();
    let absolute = sandbox.path("home/x");
    sandbox.plan["files"] = json!([
        {"path": "data/a.txt"},
        {"path": "b", "from": sandbox.path("mounted")},
        {"path": absolute},
    ]);
    let contents =
        [("CODESANDBOX_SETUP_FILE_0", "inline $HOME\n"), ("CODESANDBOX_SETUP_FILE_2", "")];
    assert_eq!(sandbox.set_up_with(&contents).status.code(), Some(0));
    assert_eq!(sandbox.read("workspace/c"), "inline $HOME\nof a ConfigMap\n");
    assert_eq!(fs::read_to_string(absolute).unwrap(), "");
}

#[test]
fn a_file_that_says_something_else_makes_it_another_setup() {
    let mut sandbox = Sandbox::new(plan(&["echo again >> count"]));
    sandbox.plan["files"] = json!([{"path": "a"}]);
    for (content, count) in [("one", 1), ("one", 1), ("two", 2), ("two", 2)] {
        let ended = sandbox.set_up_with(&[("CODESANDBOX_SETUP_FILE_0", content)]);
        assert_eq!(ended.status.code(), Some(0));
        assert_eq!(sandbox.read("workspace/count"), "again\n".repeat(count), "{content}");
        assert_eq!(sandbox.read("workspace/a"), content);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_the_end_and_says_why() {
    let mut sandbox = Sandbox::new(plan(&["touch never"]));
    fs::create_dir(sandbox.path("workspace/taken")).unwrap();
    sandbox.plan["files"] = json!([{"path": "taken"}]);
    let ended = sandbox.set_up_with(&[("CODESANDBOX_SETUP_FILE_0", "")]);
    assert_eq!(ended.status.code(), Some(1));
    let how = "could not be done (Is a directory (os error 21))";
    assert_eq!(
        sandbox.word(),
        json!({"reason": "SetupFailed", "command": "write taken", "how": how, "tail": ""})
    );
    assert!(!sandbox.path("workspace/never").exists());
}

/// A pipe that nobody reads, as on a disk that was kept.
#[test]
fn a_file_that_lets_nobody_write_ends_in_time() {
    let mut sandbox = Sandbox::new(plan(&[]));
    sandbox.plan["files"] = json!([{"path": "pipe"}]);
    sandbox.plan["timeoutMs"] = 300.into();
    let mut mkfifo = Command::new("mkfifo");
    assert!(mkfifo.arg(sandbox.path("workspace/pipe")).status().unwrap().success());
    assert_eq!(sandbox.set_up_with(&[("CODESANDBOX_SETUP_FILE_0", "")]).status.code(), Some(1));
    assert_eq!(sandbox.word()["how"], "did not end in time");
}

#[test]
fn a_repository_is_cloned_by_branch_tag_or_commit_before_files_are_written() {
    let repository = Repository::new();
    let first = repository.git(&["rev-parse", "v1"]);
    for (revision, depth, file, commits, branch) in [
        (None, 1, "second", "1", "main"),
        (None, 0, "second", "2", "main"),
        (Some("main"), 1, "second", "1", "main"),
        (Some("v1"), 1, "first", "1", ""),
        (Some(first.as_str()), 1, "first", "1", ""),
    ] {
        let mut sandbox = Sandbox::new(plan(&[
            "git rev-list --count HEAD > ../tmp/commits; git branch --show-current > ../tmp/branch",
        ]));
        sandbox.plan["git"] =
            json!({"url": repository.url(), "depth": depth, "revision": revision});
        sandbox.plan["files"] = json!([{"path": "more"}]);
        let home = sandbox.path("home");
        let env = [("HOME", home.to_str().unwrap()), ("CODESANDBOX_SETUP_FILE_0", "more")];
        let output = sandbox.set_up_with(&env);
        assert_eq!(output.status.code(), Some(0), "{}", sandbox.read("tmp/setup.log"));
        assert_eq!(sandbox.read("workspace/file"), file, "{revision:?}");
        assert_eq!(sandbox.read("workspace/more"), "more");
        assert_eq!(sandbox.read("tmp/commits").trim(), commits, "{revision:?} {depth}");
        assert_eq!(sandbox.read("tmp/branch").trim(), branch, "{revision:?}");
        assert!(!sandbox.path("home/.gitconfig").exists(), "the directory is ours");
    }
}

/// As where its node's daemon ended it, or its sandbox was suspended.
#[test]
fn a_setup_that_is_begun_anew_behind_its_clone_goes_on() {
    let repository = Repository::new();
    let mut sandbox = Sandbox::new(plan(&["echo more >> file; test -e ../tmp/again"]));
    sandbox.plan["git"] = json!({"url": repository.url(), "depth": 1});
    assert_eq!(sandbox.set_up(), Some(1));
    fs::write(sandbox.path("tmp/again"), "").unwrap();
    assert_eq!(sandbox.set_up(), Some(0), "{}", sandbox.read("tmp/setup.log"));
    assert_eq!(sandbox.read("workspace/file"), "secondmore\nmore\n", "what is there is kept");

    sandbox.plan["git"]["revision"] = "v1".into();
    assert_eq!(sandbox.set_up(), Some(1), "another one would have to be in the same place");
}

#[test]
fn a_clone_that_fails_says_so_in_gits_words_and_leaves_what_was_there() {
    let sandbox = |directory: &str| {
        let mut sandbox = Sandbox::new(plan(&["touch never"]));
        sandbox.plan["git"] =
            json!({"url": "file:///nowhere/at/all", "depth": 1, "directory": directory});
        fs::write(sandbox.path("workspace/mine"), "mine").unwrap();
        sandbox
    };
    let nowhere = sandbox("new/directory");
    let home = nowhere.path("home");
    assert_eq!(nowhere.set_up_with(&[("HOME", home.to_str().unwrap())]).status.code(), Some(1));
    let word = nowhere.word();
    assert_eq!(
        (word["reason"].as_str(), word["how"].as_str()),
        (Some("SetupFailed"), Some("ended with exit code 128"))
    );
    assert!(
        word["tail"].as_str().unwrap().contains("does not appear to be a git repository"),
        "{word}"
    );

    let full = sandbox(".");
    assert_eq!(full.set_up(), Some(1));
    let shown = fs::canonicalize(full.path("workspace")).unwrap();
    let how = format!("could not be done ({} is not empty)", shown.display());
    let said = json!({"reason": "SetupFailed", "command": "git clone file:///nowhere/at/all", "how": how, "tail": ""});
    assert_eq!(full.word(), said);
    for sandbox in [nowhere, full] {
        assert_eq!(sandbox.read("workspace/mine"), "mine");
        assert!(!sandbox.path("workspace/never").exists());
    }
}

#[test]
fn an_image_without_git_says_what_it_lacks() {
    let mut sandbox = Sandbox::new(plan(&[]));
    sandbox.plan["git"] = json!({"url": "https://example.com/a", "depth": 1});
    assert_eq!(sandbox.set_up_with(&[("PATH", "/nowhere")]).status.code(), Some(1));
    let how =
        "could not be started (the image has no git: use another, or do without what needs it)";
    assert_eq!(sandbox.word()["how"], how);
}

/// The git of the machine asks a server that wants to know who it is, and nothing else of the setup learns that.
#[test]
fn credentials_are_gits_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/team/private.git", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            tell.send(answer(stream.unwrap())).unwrap();
        }
    });
    let mut sandbox = Sandbox::new(plan(&[]));
    sandbox.plan["git"] = json!({"url": url, "depth": 1});
    let home = sandbox.path("home");
    let env = [
        ("HOME", home.to_str().unwrap()),
        // As of a Secret that was made from files.
        ("CODESANDBOX_GIT_USERNAME", "reader\n"),
        ("CODESANDBOX_GIT_PASSWORD", "pass\\n'\"$word\n"),
        // What a sandbox's user may have in its env.
        ("GIT_TRACE_CURL", "1"),
        ("GIT_TRACE_REDACT", "0"),
    ];
    assert_eq!(sandbox.set_up_with(&env).status.code(), Some(1), "nobody has such a repository");
    let asked: Vec<_> = told.try_iter().collect();
    // `reader:pass\n'"$word`
    let basic = "Basic cmVhZGVyOnBhc3NcbiciJHdvcmQ=";
    assert_eq!(asked.first(), Some(&None), "not before it is asked for");
    assert_eq!(asked.last(), Some(&Some(basic.to_owned())), "{asked:?}");
    for place in ["tmp/setup.log", "word"] {
        let said = sandbox.read(place);
        assert!(said.contains("not found"), "{place}: {said}");
        assert!(!said.contains("$word") && !said.contains("Basic"), "{place}: {said}");
    }

    // What runs after git has none of it, nor what a home that was kept makes git run.
    let repository = Repository::new();
    let mut sandbox = Sandbox::new(plan(&["env > environment"]));
    let hook = sandbox.path("home/post-checkout");
    fs::write(&hook, format!("#!/bin/sh\nenv > {}\n", sandbox.path("tmp/hooked").display()))
        .unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let hooks = format!("[core]\n\thooksPath = {}\n", sandbox.path("home").display());
    fs::write(sandbox.path("home/.gitconfig"), hooks).unwrap();
    let home = sandbox.path("home");
    let env = [("HOME", home.to_str().unwrap()), env[1], env[2]];
    sandbox.plan["git"] = json!({"url": repository.url(), "depth": 1});
    assert_eq!(sandbox.set_up_with(&env).status.code(), Some(0));
    let environment = sandbox.read("workspace/environment");
    assert!(environment.contains("PATH=") && !environment.contains("CODESANDBOX_"));
    assert!(!sandbox.path("tmp/hooked").exists(), "a hook of the home ran");
}

/// git would be told something else behind the break, or print it.
#[test]
fn credentials_of_several_lines_are_told_to_nobody() {
    for (username, password) in [("a\nb", "word"), ("a", "\nword"), ("a", "wo\r\nrd")] {
        let mut sandbox = Sandbox::new(plan(&[]));
        sandbox.plan["git"] = json!({"url": "https://example.com/a", "depth": 1});
        let env = [("CODESANDBOX_GIT_USERNAME", username), ("CODESANDBOX_GIT_PASSWORD", password)];
        assert_eq!(sandbox.set_up_with(&env).status.code(), Some(1));
        let how =
            "could not be done (the username or the password of its Secret has several lines)";
        assert_eq!(sandbox.word()["how"], how);
        assert_eq!(sandbox.read("tmp/setup.log"), "");
    }
}

/// Answers one request, and says who asked.
fn answer(mut stream: TcpStream) -> Option<String> {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let who = head.iter().find_map(|line| line.strip_prefix("Authorization: "));
    let status = if who.is_some() { "404 Not Found" } else { "401 Unauthorized" };
    let answer = format!(
        "HTTP/1.1 {status}\r\nWWW-Authenticate: Basic realm=\"a\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).unwrap();
    who.map(ToOwned::to_owned)
}
