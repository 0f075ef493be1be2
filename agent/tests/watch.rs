//! Watching: what changes is told, in order, and what could not be told is said. No agent here finds a shell.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Agent, Client, DEADLINE, answer, at, ours};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;
use tonic::Streaming;
use wire::limits::{WATCH_DIRECTORIES, WATCH_PAUSE, WATCHES};
use wire::v1::watch_event::Kind;
use wire::v1::{CopyRequest, WatchEvent, WatchRequest};
use wire::{Code, Error};

fn agent() -> Agent {
    Agent::start_with(&[("PATH", "")])
}

/// A watch, and where it is.
struct Watch {
    events: Streaming<WatchEvent>,
    root: String,
}

impl Watch {
    async fn open(agent: &Agent, client: &Client, path: &str, deep: bool) -> Result<Self, Error> {
        let request = WatchRequest { path: path.to_owned(), recursive: deep };
        let events = answer(client.clone().watch(request)).await?;
        let root: PathBuf = agent.workspace().join(path).components().collect();
        Ok(Self { events, root: format!("{}/", root.display()) })
    }

    /// The next change, in one line.
    async fn next(&mut self) -> Result<Option<String>, Error> {
        let event = timeout(DEADLINE, self.events.message()).await.expect("a change in time");
        let Some(event) = event.map_err(|status| ours(&status))? else { return Ok(None) };
        let short = |path: &[u8]| {
            let path = format!("{}/", str::from_utf8(path).unwrap());
            path.strip_prefix(&self.root).unwrap().trim_end_matches('/').to_owned()
        };
        let (kind, slash) = (event.kind(), if event.directory { "/" } else { "" });
        let from = match kind {
            Kind::Moved => format!("{}>", short(&event.from)),
            _ => String::new(),
        };
        Ok(Some(format!("{kind:?} {from}{}{slash}", short(&event.path))))
    }

    /// Sees these changes and no others before them.
    async fn sees(&mut self, expected: &[&str]) {
        let mut seen = Vec::new();
        for _ in expected {
            seen.push(self.next().await.unwrap().expect("a change"));
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn what_changes_below_a_directory_is_told_in_order() {
    let agent = agent();
    let client = agent.client().await;
    let (root, outside) = (agent.workspace(), agent.root.path().join("outside"));
    fs::create_dir_all(root.join("old/deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, root.join("link")).unwrap();
    let mut watch = Watch::open(&agent, &client, "", true).await.unwrap();

    fs::write(root.join("old/deep/x"), "").unwrap();
    watch.sees(&["Created old/deep/x"]).await;
    File::options().append(true).open(root.join("old/deep/x")).unwrap().write_all(b"2").unwrap();
    watch.sees(&["Modified old/deep/x"]).await;
    fs::set_permissions(root.join("old/deep/x"), fs::Permissions::from_mode(0o700)).unwrap();
    watch.sees(&["Modified old/deep/x"]).await;
    fs::rename(root.join("old/deep/x"), root.join("y")).unwrap();
    watch.sees(&["Moved old/deep/x>y"]).await;
    // What is below it has other paths from then on.
    fs::rename(root.join("old"), root.join("new")).unwrap();
    watch.sees(&["Moved old>new/"]).await;
    fs::write(root.join("new/deep/z"), "").unwrap();
    fs::write(root.join("new/z"), "").unwrap();
    watch.sees(&["Created new/deep/z", "Created new/z"]).await;
    // A symlink is only itself.
    fs::write(outside.join("unseen"), "").unwrap();
    fs::rename(root.join("y"), outside.join("y")).unwrap();
    watch.sees(&["Removed y"]).await;
    fs::rename(root.join("new"), outside.join("new")).unwrap();
    watch.sees(&["Removed new/"]).await;
    fs::write(outside.join("new/deep/unseen"), "").unwrap();
    fs::rename(outside.join("new/deep"), root.join("deep")).unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(watch.next().await.unwrap().unwrap());
    }
    // In the order in which the directory holds them.
    told[1..].sort();
    assert_eq!(told, ["Created deep/", "Created deep/unseen", "Created deep/z"]);
    fs::remove_dir_all(root.join("deep")).unwrap();
    told.clear();
    for _ in 0..3 {
        told.push(watch.next().await.unwrap().unwrap());
    }
    told[..2].sort();
    assert_eq!(told, ["Removed deep/unseen", "Removed deep/z", "Removed deep/"]);
    fs::remove_file(root.join("link")).unwrap();
    watch.sees(&["Removed link"]).await;
}

#[tokio::test]
async fn a_new_directory_is_watched_with_what_is_in_it_already() {
    let agent = agent();
    let client = agent.client().await;
    let root = agent.workspace();
    let mut watch = Watch::open(&agent, &client, "", true).await.unwrap();
    for n in 0..20 {
        let path = format!("{n}/a/b/c");
        fs::create_dir_all(root.join(&path)).unwrap();
        fs::write(root.join(&path).join("file"), "").unwrap();
        let mut expected: Vec<String> = vec![format!("Created {n}/")];
        expected.extend(["a", "a/b", "a/b/c"].map(|path| format!("Created {n}/{path}/")));
        expected.push(format!("Created {n}/a/b/c/file"));
        let mut told = Vec::new();
        while told.len() < expected.len() {
            let next = watch.next().await.unwrap().unwrap();
            // Some may have been found before they were told of.
            if !told.contains(&next) {
                told.push(next);
            }
        }
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn a_watch_that_is_not_recursive_tells_of_the_directory_alone() {
    let agent = agent();
    let client = agent.client().await;
    let root = agent.workspace();
    fs::create_dir_all(root.join("dir/old")).unwrap();
    let mut watch = Watch::open(&agent, &client, "dir", false).await.unwrap();
    fs::write(root.join("dir/old/x"), "").unwrap();
    fs::create_dir(root.join("dir/new")).unwrap();
    watch.sees(&["Created new/"]).await;
    fs::write(root.join("dir/new/x"), "").unwrap();
    fs::write(root.join("dir/x"), "").unwrap();
    watch.sees(&["Created x"]).await;
}

#[tokio::test]
async fn what_the_agent_writes_is_told_under_its_own_name_alone() {
    let agent = agent();
    let mut client = agent.client().await;
    let root = agent.workspace();
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/x"), "").unwrap();
    fs::create_dir(root.join(".codesandbox-other")).unwrap();
    let mut watch = Watch::open(&agent, &client, "", true).await.unwrap();
    common::write(&mut client, at("file"), b"one", b"").await.unwrap();
    watch.sees(&["Created file"]).await;
    // It has taken another's place.
    common::write(&mut client, at("file"), b"two", b"").await.unwrap();
    watch.sees(&["Created file"]).await;
    fs::write(root.join(".codesandbox-other/x"), "").unwrap();
    let copy = CopyRequest {
        from: "dir".to_owned(),
        to: "copy".to_owned(),
        recursive: true,
        ..CopyRequest::default()
    };
    answer(client.copy(copy)).await.unwrap();
    watch.sees(&["Created copy/", "Created copy/x"]).await;
    // It is watched like any other.
    fs::write(root.join("copy/y"), "").unwrap();
    watch.sees(&["Created copy/y"]).await;
    // The kernel's names for files without any are numbers behind a #; a file may have such a name.
    fs::write(root.join("#123"), "").unwrap();
    watch.sees(&["Created #123"]).await;
    fs::set_permissions(root.join("#123"), fs::Permissions::from_mode(0o600)).unwrap();
    watch.sees(&["Modified #123"]).await;
}

#[tokio::test]
async fn what_changes_all_the_time_is_told_ten_times_a_second() {
    let agent = agent();
    let client = agent.client().await;
    let path = agent.workspace().join("log");
    let mut log = File::create(&path).unwrap();
    let mut watch = Watch::open(&agent, &client, "", true).await.unwrap();
    let begun = Instant::now();
    let writer = std::thread::spawn(move || {
        while begun.elapsed() < Duration::from_secs(1) {
            log.write_all(b"line\n").unwrap();
        }
        fs::remove_file(path).unwrap();
    });
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "Removed log") {
        told.push(watch.next().await.unwrap().unwrap());
    }
    writer.join().unwrap();
    let most = begun.elapsed().as_millis() / WATCH_PAUSE.as_millis() + 2;
    assert!(told.len() as u128 <= most, "{told:?}");
    // What came and went while it did not look is not told at all.
    signal(&agent, Signal::SIGSTOP);
    fs::write(agent.workspace().join("gone"), "1").unwrap();
    fs::remove_file(agent.workspace().join("gone")).unwrap();
    fs::write(agent.workspace().join("stays"), "1").unwrap();
    signal(&agent, Signal::SIGCONT);
    watch.sees(&["Created stays"]).await;
}

/// Stops an agent, or lets it go on: itself, or as PID 1 of a namespace the child of what made that.
fn signal(agent: &Agent, signal: Signal) {
    let pid = agent.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    for pid in children.chain([pid]) {
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

/// Fills the kernel's queue of events.
fn overflow(files: &mut [File; 2]) {
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
    for _ in 0..most.map_or(16384, |most| most.trim().parse::<usize>().unwrap()) {
        // In turn: two of the same are one event.
        for file in &mut *files {
            file.write_all(b"x").unwrap();
        }
    }
}

/// The kernel holds some thousand of its events, and two files alone fill its queue.
#[tokio::test]
async fn what_was_missed_is_said_and_what_was_made_meanwhile_is_watched() {
    let agent = agent();
    let client = agent.client().await;
    let root = agent.workspace();
    fs::create_dir(root.join("leaves")).unwrap();
    let mut files = ["a", "b"].map(|name| File::create(root.join(name)).unwrap());
    let mut watch = Watch::open(&agent, &client, "", true).await.unwrap();
    signal(&agent, Signal::SIGSTOP);
    overflow(&mut files);
    fs::create_dir_all(root.join("late/deep")).unwrap();
    fs::rename(root.join("leaves"), agent.root.path().join("left")).unwrap();
    signal(&agent, Signal::SIGCONT);
    watch.sees(&["Overflow /"]).await;
    fs::write(agent.root.path().join("left/x"), "").unwrap();
    fs::write(root.join("late/deep/x"), "").unwrap();
    watch.sees(&["Created late/deep/x"]).await;
}

#[tokio::test]
async fn what_was_renamed_before_it_was_looked_at_is_watched() {
    let agent = agent();
    let client = agent.client().await;
    let root = agent.workspace();
    let mut watch = Watch::open(&agent, &client, "", true).await.unwrap();
    signal(&agent, Signal::SIGSTOP);
    fs::create_dir(root.join("old")).unwrap();
    fs::rename(root.join("old"), root.join("new")).unwrap();
    signal(&agent, Signal::SIGCONT);
    watch.sees(&["Created old/", "Moved old>new/"]).await;
    fs::write(root.join("new/x"), "").unwrap();
    watch.sees(&["Created new/x"]).await;
}

/// How many directories the kernel watches for an agent.
fn directories(agent: &Agent) -> usize {
    let all = fs::read_dir(format!("/proc/{}/fdinfo", agent.pid())).unwrap().flatten();
    let all = all.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    all.map(|about| about.matches("inotify wd:").count()).sum()
}

/// Each is the kernel's memory, and one of those that a node gives a user.
#[tokio::test]
async fn a_directory_that_has_left_is_watched_no_more() {
    let agent = agent();
    let client = agent.client().await;
    let (root, outside) = (agent.workspace(), agent.root.path());
    for name in ["a/a", "b/b"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let mut files = ["x", "y"].map(|name| File::create(root.join(name)).unwrap());
    let mut watch = Watch::open(&agent, &client, "", true).await.unwrap();
    assert_eq!(directories(&agent), 5);
    fs::rename(root.join("a"), outside.join("a")).unwrap();
    watch.sees(&["Removed a/"]).await;
    assert_eq!(directories(&agent), 3);
    // Seen, and not.
    signal(&agent, Signal::SIGSTOP);
    overflow(&mut files);
    fs::rename(root.join("b"), outside.join("b")).unwrap();
    signal(&agent, Signal::SIGCONT);
    watch.sees(&["Overflow /"]).await;
    assert_eq!(directories(&agent), 1);
    drop(watch);
    common::eventually(async || directories(&agent) == 0).await;
}

#[tokio::test]
async fn a_watch_ends_when_its_directory_is_gone() {
    let agent = agent();
    let client = agent.client().await;
    let root = agent.workspace().join("dir");
    for moved in [false, true] {
        fs::create_dir(&root).unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        let mut watch = Watch::open(&agent, &client, "dir", true).await.unwrap();
        if moved {
            fs::rename(&root, agent.workspace().join("other")).unwrap();
            watch.sees(&["Removed /"]).await;
        } else {
            fs::remove_dir_all(&root).unwrap();
            watch.sees(&["Removed sub/", "Removed /"]).await;
        }
        assert_eq!(watch.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let agent = agent();
    let client = agent.client().await;
    fs::write(agent.workspace().join("file"), "").unwrap();
    symlink(".", agent.workspace().join("link")).unwrap();
    let code = async |path: &str| {
        let watch = Watch::open(&agent, &client, path, true).await;
        watch.map(drop).unwrap_err().code
    };
    assert_eq!(code("no").await, Code::FileNotFound);
    assert_eq!(code("file").await, Code::FileKind);
    let mut open = Vec::new();
    for _ in 0..WATCHES {
        open.push(Watch::open(&agent, &client, "link", true).await.unwrap());
    }
    assert_eq!(code("").await, Code::TooMany);
    fs::write(agent.workspace().join("x"), "").unwrap();
    for watch in &mut open {
        watch.sees(&["Created x"]).await;
    }
    drop(open.pop());
    // It ends as soon as the agent has seen that.
    common::eventually(async || Watch::open(&agent, &client, "", true).await.is_ok()).await;
}

#[tokio::test]
async fn more_directories_than_may_be_watched_are_refused_then_and_later() {
    let agent = agent();
    let client = agent.client().await;
    let root = agent.workspace();
    // With the root one less than may be.
    for n in 2..WATCH_DIRECTORIES {
        fs::create_dir(root.join(n.to_string())).unwrap();
    }
    let mut watch = Watch::open(&agent, &client, "", true).await.unwrap();
    fs::create_dir(root.join("2/last")).unwrap();
    watch.sees(&["Created 2/last/"]).await;
    fs::create_dir(root.join("3/one-too-many")).unwrap();
    assert_eq!(watch.next().await.unwrap_err().code, Code::TooMany);
    let error = Watch::open(&agent, &client, "", true).await.map(drop).unwrap_err();
    let message = format!(
        "{}: has more than {WATCH_DIRECTORIES} directories; watch one further down",
        root.display()
    );
    assert_eq!(error, Error::new(Code::TooMany, message));
    // One that does not look below it needs none of them.
    let mut watch = Watch::open(&agent, &client, "", false).await.unwrap();
    fs::create_dir(Path::new(&root).join("new")).unwrap();
    watch.sees(&["Created new/"]).await;
}
