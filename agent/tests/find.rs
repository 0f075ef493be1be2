//! Listings by glob and page by page.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use common::{Agent, Client, below, entries};
use wire::v1::{Entry, ListRequest};
use wire::{Code, Error};

async fn find(client: &mut Client, request: ListRequest) -> Result<Vec<Entry>, Error> {
    entries(client.find(request).await).await
}

/// All of a listing, in pages of so many entries, and how many pages there were.
async fn pages(client: &mut Client, request: ListRequest) -> (Vec<Entry>, usize) {
    let (mut all, mut pages, mut after) = (Vec::<Entry>::new(), 0, Bytes::new());
    loop {
        let page = find(client, ListRequest { after: after.clone(), ..request.clone() }).await;
        let page = page.unwrap();
        assert!(page.iter().all(|entry| entry.path != after), "the page before comes again");
        pages += 1;
        let more = page.last().is_some_and(|last| last.truncated);
        all.extend(page.into_iter().map(|entry| Entry { truncated: false, ..entry }));
        if !more {
            return (all, pages);
        }
        after = all.last().unwrap().path.clone();
    }
}

fn tree(agent: &Agent) {
    for directory in ["a/deep/er", "b", "b-", "empty"] {
        fs::create_dir_all(agent.workspace().join(directory)).unwrap();
    }
    for file in ["a/1.py", "a/deep/2.py", "a/deep/er/3.rs", "b/4.py", "b-/5.py", "6.py", "b.txt"] {
        File::create(agent.workspace().join(file)).unwrap();
    }
}

#[tokio::test]
async fn a_glob_is_matched_below_the_listed_directory_and_directories_need_not_match() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    tree(&agent);
    for (path, depth, glob, expected) in [
        ("", 9, "**/*.py", &["6.py", "a/1.py", "a/deep/2.py", "b/4.py", "b-/5.py"][..]),
        ("", 1, "**/*.py", &["6.py"]),
        ("", 2, "*.py", &["6.py", "a/1.py", "b/4.py", "b-/5.py"]),
        ("a", 9, "deep/*", &["a/deep/2.py", "a/deep/er"]),
        ("", 9, "b*", &["b", "b-", "b.txt"]),
        ("", 9, "no", &[]),
    ] {
        let (path, glob) = (path.to_owned(), glob.to_owned());
        let request = ListRequest { path, depth, glob, ..ListRequest::default() };
        let found = find(&mut client, request.clone()).await.unwrap();
        assert_eq!(below(&agent, &found), expected, "{request:?}");
    }
    let nested = format!("{}a{}", "{".repeat(2000), "}".repeat(2000));
    for glob in ["{a".to_owned(), nested] {
        let request = ListRequest { glob, ..ListRequest::default() };
        let error = find(&mut client, request).await.unwrap_err();
        assert_eq!((error.code, &error.message[..6]), (Code::InvalidArgument, "glob: "));
    }
}

#[tokio::test]
async fn pages_of_any_size_are_the_whole_listing() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    tree(&agent);
    for glob in ["", "*.py"] {
        let whole = ListRequest { depth: 9, glob: glob.into(), ..ListRequest::default() };
        let all = find(&mut client, whole.clone()).await.unwrap();
        for limit in 1..=u32::try_from(all.len()).unwrap() {
            let request = ListRequest { limit, ..whole.clone() };
            let expected = all.len().div_ceil(limit as usize);
            assert_eq!(pages(&mut client, request).await, (all.clone(), expected), "{limit}");
        }
    }
}

#[tokio::test]
async fn a_page_begins_after_a_path_that_is_gone() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    tree(&agent);
    fs::remove_dir_all(agent.workspace().join("a/deep")).unwrap();
    let after = |after: &str| ListRequest {
        depth: 9,
        after: after.to_owned().into(),
        ..ListRequest::default()
    };
    let found = find(&mut client, after("a/deep/er")).await.unwrap();
    assert_eq!(below(&agent, &found), ["b", "b/4.py", "b-", "b-/5.py", "b.txt", "empty"]);
    let error = find(&mut client, after("/etc")).await.unwrap_err();
    let root = agent.workspace();
    let message =
        format!("after: /etc is not below {}; give the path of the last entry", root.display());
    assert_eq!(error, Error::new(Code::InvalidArgument, message));
}

/// tests.md D7: names need not be UTF-8, and more of them than one answer may hold are read in pages.
#[tokio::test]
async fn a_directory_of_a_hundred_thousand_files_is_read_in_pages() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let root = agent.workspace();
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..100_000 {
        let name = [format!("{number:06}-").as_bytes(), b"\xff\n"].concat();
        File::create(root.join("many").join(OsStr::from_bytes(&name))).unwrap();
    }
    let request = |limit| ListRequest { path: "many".into(), limit, ..ListRequest::default() };
    let (all, count) = pages(&mut client, request(u32::MAX)).await;
    assert_eq!((all.len(), count), (100_000, 10));
    assert!(all.is_sorted_by(|a, b| a.path < b.path));
    // A few, from far inside.
    let after = all[77_776].path.clone();
    let some = find(&mut client, ListRequest { after, ..request(2) }).await.unwrap();
    assert_eq!([&some[0].path, &some[1].path], [&all[77_777].path, &all[77_778].path]);
    let one = ListRequest { glob: "099999*".into(), ..request(1) };
    assert_eq!(find(&mut client, one).await.unwrap(), [all[99_999].clone()]);
}
