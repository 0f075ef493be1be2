//! What is where: digests, new directories, moves, copies and modes. No agent here finds a shell.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use common::{Agent, Client, DEADLINE, answer, names};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use sha2::{Digest, Sha256};
use wire::v1::entry::Kind;
use wire::v1::{
    CopyRequest, Entry, ListRequest, MakeDirectoryRequest, MoveRequest, SetModeRequest, StatRequest,
};
use wire::{Code, Error};

/// tests.md D3.
fn agent() -> Agent {
    Agent::start_with(&[("PATH", "")])
}

async fn digest(client: &mut Client, path: &str) -> Result<Entry, Error> {
    answer(client.stat(StatRequest { path: path.to_owned(), sha256: true })).await
}

async fn make(client: &mut Client, path: &str, parents: bool) -> Result<Entry, Error> {
    let request = MakeDirectoryRequest { path: path.to_owned(), parents };
    answer(client.make_directory(request)).await
}

async fn rename(client: &mut Client, from: &str, to: &str, replace: bool) -> Result<Entry, Error> {
    let request = MoveRequest { from: from.to_owned(), to: to.to_owned(), replace };
    answer(client.r#move(request)).await
}

fn request(from: &str, to: &str) -> CopyRequest {
    CopyRequest { from: from.to_owned(), to: to.to_owned(), ..CopyRequest::default() }
}

async fn copy(client: &mut Client, request: CopyRequest) -> Result<Entry, Error> {
    answer(client.copy(request)).await
}

async fn set_mode(client: &mut Client, path: &str, mode: u32) -> Result<Entry, Error> {
    answer(client.set_mode(SetModeRequest { path: path.to_owned(), mode })).await
}

/// What an answer's entry says of a path, in one line.
fn told(answer: Result<Entry, Error>) -> String {
    let entry = answer.unwrap();
    let path = str::from_utf8(&entry.path).unwrap();
    format!("{path} {:?} {} {:o}", entry.kind(), entry.size, entry.mode)
}

/// All of an error's words, less where the workspace is.
fn refusal(agent: &Agent, answer: Result<Entry, Error>) -> String {
    answer.unwrap_err().to_string().replace(&format!("{}/", agent.workspace().display()), "")
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn a_digest_is_of_all_bytes_of_a_regular_file_and_of_nothing_else() {
    let agent = agent();
    let mut client = agent.client().await;
    // More than is hashed in one step, and no multiple of it.
    let data: Vec<u8> = (0..9_u32 << 20).map(|i| u8::try_from(i % 251).unwrap()).collect();
    for (name, data) in [("empty", &data[..0]), ("large", &data[..]), ("step", &data[..4 << 20])] {
        fs::write(agent.workspace().join(name), data).unwrap();
        let entry = digest(&mut client, name).await.unwrap();
        assert_eq!((entry.size, &entry.sha256[..]), (data.len() as u64, &Sha256::digest(data)[..]));
    }
    let plain = StatRequest { path: "large".to_owned(), sha256: false };
    assert!(answer(client.stat(plain)).await.unwrap().sha256.is_empty());
    symlink("large", agent.workspace().join("link")).unwrap();
    nix::unistd::mkfifo(&agent.workspace().join("pipe"), Mode::S_IRWXU).unwrap();
    for (name, kind) in [("link", Kind::Symlink), ("pipe", Kind::Other), ("", Kind::Directory)] {
        let entry = digest(&mut client, name).await.unwrap();
        assert_eq!((entry.kind(), &entry.sha256[..]), (kind, &b""[..]));
    }
    assert_eq!(digest(&mut client, "no").await.unwrap_err().code, Code::FileNotFound);
}

/// A file of a tebibyte takes minutes, and the agent has few threads for files.
#[tokio::test]
async fn hashing_ends_with_the_call_of_who_asked_for_it() {
    let agent = agent();
    let mut client = agent.client().await;
    let path = agent.workspace().join("huge");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let seen = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    seen.add_watch(&path, AddWatchFlags::IN_OPEN | AddWatchFlags::IN_CLOSE).unwrap();
    let seen = Arc::new(seen);
    let next = async || {
        let seen = seen.clone();
        let next = tokio::task::spawn_blocking(move || {
            let within = PollTimeout::try_from(DEADLINE).unwrap();
            let ready = poll(&mut [PollFd::new(seen.as_fd(), PollFlags::POLLIN)], within).unwrap();
            assert_eq!(ready, 1, "nothing is seen in time");
            seen.read_events().unwrap().into_iter().map(|event| event.mask).collect::<Vec<_>>()
        });
        next.await.unwrap()
    };
    let call = tokio::spawn(async move { digest(&mut client, "huge").await });
    assert_eq!(next().await, [AddWatchFlags::IN_OPEN]);
    call.abort();
    assert_eq!(next().await, [AddWatchFlags::IN_CLOSE_NOWRITE]);
}

#[tokio::test]
async fn a_directory_is_made_with_those_above_it_if_that_is_asked_for() {
    let agent = agent();
    let mut client = agent.client().await;
    let root = agent.workspace();
    let root = root.to_str().unwrap();
    let entry = make(&mut client, "a", false).await.unwrap();
    assert_eq!((entry.kind(), &entry.path[..]), (Kind::Directory, format!("{root}/a").as_bytes()));
    assert_eq!(
        refusal(&agent, make(&mut client, "a", false).await),
        "ALREADY_EXISTS: a: exists already; choose another name, or remove it first"
    );
    assert_eq!(
        refusal(&agent, make(&mut client, "b/c/d", false).await),
        "FILE_NOT_FOUND: b/c: no such directory; make it first or set parents"
    );
    for _ in 0..2 {
        assert_eq!(make(&mut client, "b/c/d", true).await.unwrap().kind(), Kind::Directory);
    }
    fs::write(agent.workspace().join("file"), "").unwrap();
    assert_eq!(make(&mut client, "file", true).await.unwrap_err().code, Code::AlreadyExists);
    assert_eq!(make(&mut client, "file/a", true).await.unwrap_err().code, Code::FileKind);
}

#[tokio::test]
async fn a_move_replaces_nothing_unless_it_is_asked_to() {
    let agent = agent();
    let mut client = agent.client().await;
    let workspace = agent.workspace();
    write(&workspace.join("a"), "a", 0o640);
    write(&workspace.join("b"), "b", 0o600);
    assert_eq!(
        refusal(&agent, rename(&mut client, "a", "b", false).await),
        "ALREADY_EXISTS: b: exists already; set replace, or choose another name"
    );
    assert_eq!(fs::read(workspace.join("b")).unwrap(), b"b");
    let moved = told(rename(&mut client, "a", "b", true).await);
    assert_eq!(moved, format!("{}/b File 1 640", workspace.display()));
    assert_eq!(
        (names(&workspace), fs::read(workspace.join("b")).unwrap()),
        (vec!["b".into()], b"a".into())
    );
    let moved = told(rename(&mut client, "b", "c", false).await);
    assert_eq!(moved, format!("{}/c File 1 640", workspace.display()));
    assert_eq!(names(&workspace), ["c"]);
}

/// tests.md D5.
#[tokio::test]
async fn what_cannot_be_moved_says_which_of_the_two_paths_is_at_fault() {
    let agent = agent();
    let mut client = agent.client().await;
    let workspace = agent.workspace();
    fs::create_dir_all(workspace.join("dir/sub")).unwrap();
    fs::create_dir(workspace.join("empty")).unwrap();
    fs::write(workspace.join("file"), "x").unwrap();
    let mut said = Vec::new();
    for (from, to, replace) in [
        ("no", "x", false),
        ("file", "no/x", false),
        ("file", "file/x", false),
        ("file", "dir", true),
        ("dir", "file", true),
        ("empty", "dir", true),
        ("dir", "dir/sub/dir", false),
        ("..", "x", false),
        ("dir", ".", true),
    ] {
        said.push(refusal(&agent, rename(&mut client, from, to, replace).await));
    }
    let root = workspace.display();
    assert_eq!(
        said,
        [
            "FILE_NOT_FOUND: no: no such file or directory".to_owned(),
            "FILE_NOT_FOUND: no: no such directory; make it first".to_owned(),
            "FILE_KIND: file/x: is not a directory, or a part of its path is none".to_owned(),
            "FILE_KIND: dir: is a directory, which no file replaces; give the whole new path".to_owned(),
            "FILE_KIND: file: is no directory, and no directory replaces it; remove it first".to_owned(),
            "NOT_EMPTY: dir: is not empty; remove all of it with recursive first".to_owned(),
            "INVALID_ARGUMENT: dir/sub/dir: is within what is to be put there; choose a place outside of it".to_owned(),
            "INVALID_ARGUMENT: ..: is the workspace or holds it, and stays as it is; name what is in it, or delete the sandbox".to_owned(),
            format!("INVALID_ARGUMENT: {root}: is the workspace or holds it, and stays as it is; name what is in it, or delete the sandbox"),
        ]
    );
    assert_eq!(names(&workspace), ["dir", "empty", "file"]);
    rename(&mut client, "dir", "empty", true).await.unwrap();
    assert_eq!(names(&workspace.join("empty")), ["sub"]);
}

#[tokio::test]
async fn a_move_to_another_file_system_leaves_nothing_where_it_came_from() {
    let agent = agent();
    let mut client = agent.client().await;
    let workspace = agent.workspace();
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(other.path()), device(&workspace), "the test needs two file systems");
    fs::create_dir_all(workspace.join("dir/sub")).unwrap();
    write(&workspace.join("dir/sub/file"), "x", 0o751);
    symlink("sub/file", workspace.join("dir/link")).unwrap();
    let to = other.path().join("moved");
    rename(&mut client, "dir", to.to_str().unwrap(), false).await.unwrap();
    assert_eq!(names(&workspace), Vec::<String>::new());
    assert_eq!(
        (names(other.path()), names(&to)),
        (vec!["moved".into()], vec!["link".into(), "sub".into()])
    );
    assert_eq!(
        (fs::read(to.join("link")).unwrap(), mode(&to.join("sub/file"))),
        (b"x".into(), 0o751)
    );
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("sub/file"));

    fs::write(workspace.join("moved"), "old").unwrap();
    let from = to.join("sub/file");
    let error = rename(&mut client, from.to_str().unwrap(), "moved", false).await.unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists);
    rename(&mut client, from.to_str().unwrap(), "moved", true).await.unwrap();
    assert_eq!(fs::read(workspace.join("moved")).unwrap(), b"x");
    assert_eq!((names(&to.join("sub")), mode(&workspace.join("moved"))), (vec![], 0o751));
}

/// tests.md D4, D7: a link to anywhere is copied and moved as the link it is.
#[tokio::test]
async fn a_copy_has_the_bytes_modes_and_links_of_what_was_copied() {
    let agent = agent();
    let mut client = agent.client().await;
    let workspace = agent.workspace();
    let name = "-a '\"\n é";
    fs::create_dir_all(workspace.join(name).join("sub")).unwrap();
    let data: String = "0123456789".repeat(1 << 20);
    write(&workspace.join(name).join("sub/large"), &data, 0o4751);
    write(&workspace.join(name).join("empty"), "", 0o400);
    symlink("/etc/passwd", workspace.join(name).join("link")).unwrap();
    fs::set_permissions(workspace.join(name).join("sub"), fs::Permissions::from_mode(0o550))
        .unwrap();

    assert_eq!(copy(&mut client, request(name, "copy")).await.unwrap_err().code, Code::FileKind);
    let whole = CopyRequest { recursive: true, ..request(name, "copy") };
    assert_eq!(copy(&mut client, whole.clone()).await.unwrap().kind(), Kind::Directory);
    let copied = workspace.join("copy");
    assert_eq!(names(&copied), ["empty", "link", "sub"]);
    assert!(fs::read_to_string(copied.join("sub/large")).unwrap() == data);
    assert_eq!(
        [mode(&copied.join("sub/large")), mode(&copied.join("empty")), mode(&copied.join("sub"))],
        [0o4751, 0o400, 0o550]
    );
    assert_eq!(fs::read_link(copied.join("link")).unwrap(), Path::new("/etc/passwd"));

    let large = format!("{name}/sub/large");
    let entry = copy(&mut client, request(&large, "one")).await;
    assert_eq!(told(entry), format!("{}/one File {} 4751", workspace.display(), data.len()));
    copy(&mut client, request("copy/link", "link")).await.unwrap();
    assert_eq!(fs::read_link(workspace.join("link")).unwrap(), Path::new("/etc/passwd"));
    // Of the two names only one is left, and it is the link's.
    let over = CopyRequest { replace: true, ..request("copy/link", "one") };
    assert_eq!(copy(&mut client, over).await.unwrap().kind(), Kind::Symlink);
    assert_eq!(names(&workspace), [name, "copy", "link", "one"]);
}

/// tests.md D5.
#[tokio::test]
async fn what_cannot_be_copied_leaves_nothing() {
    let agent = agent();
    let mut client = agent.client().await;
    let workspace = agent.workspace();
    fs::create_dir_all(workspace.join("dir/sub")).unwrap();
    fs::write(workspace.join("dir/file"), "new").unwrap();
    fs::write(workspace.join("file"), "old").unwrap();
    nix::unistd::mkfifo(&workspace.join("dir/sub/pipe"), Mode::S_IRWXU).unwrap();
    fs::create_dir_all(workspace.join("deep").join("d/".repeat(64))).unwrap();
    let mut said = Vec::new();
    for (from, to) in [
        ("no", "x"),
        ("dir/file", "no/x"),
        ("dir/file", "file"),
        ("dir", "dir/sub/dir"),
        ("dir", "x"),
        ("dir/sub/pipe", "x"),
    ] {
        let request = CopyRequest { recursive: true, ..request(from, to) };
        said.push(refusal(&agent, copy(&mut client, request).await));
    }
    assert_eq!(
        said,
        [
            "FILE_NOT_FOUND: no: no such file or directory",
            "FILE_NOT_FOUND: no: no such directory; make it first",
            "ALREADY_EXISTS: file: exists already; set replace, or choose another name",
            "INVALID_ARGUMENT: dir/sub/dir: is within what is to be put there; choose a place outside of it",
            "FILE_KIND: dir/sub/pipe: is no file, directory or symlink, nothing was copied; copy the others one by one",
            "FILE_KIND: dir/sub/pipe: is no file, directory or symlink, nothing was copied; copy the others one by one",
        ]
    );
    let deep = CopyRequest { recursive: true, ..request("deep", "x") };
    let error = copy(&mut client, deep).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("more than 64 levels deep"), "{error}");
    assert_eq!(names(&workspace), ["deep", "dir", "file"]);
    let over = CopyRequest { replace: true, ..request("dir/file", "file") };
    copy(&mut client, over).await.unwrap();
    assert_eq!(fs::read(workspace.join("file")).unwrap(), b"new");
}

/// tests.md D5.
#[tokio::test]
async fn a_copy_for_which_the_disk_is_too_small_leaves_nothing() {
    let agent = Agent::start_on_disk("1m");
    let mut client = agent.client().await;
    let source = agent.root.path().join("large");
    fs::write(&source, vec![b'x'; 2 << 20]).unwrap();
    let error = copy(&mut client, request(source.to_str().unwrap(), "copy")).await.unwrap_err();
    let full =
        format!("{}/copy: the disk is full; remove files first", agent.workspace().display());
    assert_eq!(error, Error::new(Code::NoSpace, full));
    let list = ListRequest { path: String::new(), ..ListRequest::default() };
    assert_eq!(answer(client.list(list)).await.unwrap().message().await.unwrap(), None);
}

#[tokio::test]
async fn a_mode_is_set_on_what_a_path_leads_to() {
    let agent = agent();
    let mut client = agent.client().await;
    let workspace = agent.workspace();
    write(&workspace.join("run.sh"), "", 0o644);
    symlink("run.sh", workspace.join("link")).unwrap();
    assert_eq!(set_mode(&mut client, "link", 0o755).await.unwrap().mode, 0o755);
    assert_eq!(mode(&workspace.join("run.sh")), 0o755);
    assert_eq!(set_mode(&mut client, "run.sh", 0).await.unwrap().mode, 0);
    assert_eq!(set_mode(&mut client, "no", 0o600).await.unwrap_err().code, Code::FileNotFound);
    assert_eq!(
        refusal(&agent, set_mode(&mut client, "run.sh", 0o10000).await),
        "INVALID_ARGUMENT: mode: 10000 is none; the highest is 7777, in octal"
    );
    let denied = set_mode(&mut client, "/proc/self/mem", 0o644).await.unwrap_err();
    assert_eq!(denied.code, Code::PermissionDenied, "{denied}");
}
