//! What a run has changed, told to who asks for it.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Agent, Client, limited, python, run, shell};
use wire::limits::{CHANGES_LOOKED_AT, CHANGES_TOLD};
use wire::v1::ChangeKind::{Added, Changed, Removed};
use wire::v1::outcome::How;
use wire::v1::run_event::Event;
use wire::v1::{ChangeKind, Changes, FileChange, PackageChange, PortChange, RunSpec};

/// What a run says it has changed, just before its outcome.
async fn all_changes(client: &mut Client, id: &str, spec: RunSpec) -> Changes {
    let seen = run(client, id, RunSpec { report_changes: true, ..spec }).await;
    let [.., told, last] = &seen.events[..] else { panic!("{:?}", seen.events) };
    assert!(matches!(last.event, Some(Event::Outcome(_))), "{last:?}");
    match &told.event {
        Some(Event::Changes(changes)) => changes.clone(),
        other => panic!("{other:?}"),
    }
}

/// The same without ports: much else on this machine opens some.
async fn changes(client: &mut Client, id: &str, spec: RunSpec) -> Changes {
    Changes { ports: Vec::new(), ..all_changes(client, id, spec).await }
}

fn file(kind: ChangeKind, path: &str, size: u64) -> FileChange {
    FileChange { kind: kind.into(), path: path.to_owned().into(), size }
}

fn package(kind: ChangeKind, name: &str, version: &str) -> PackageChange {
    PackageChange { kind: kind.into(), name: name.to_owned(), version: version.to_owned() }
}

#[tokio::test]
async fn files_that_come_change_and_go_are_told() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let workspace = agent.workspace();
    for name in ["same", "bytes", "mode", "gone", "other"] {
        fs::write(workspace.join(name), name).unwrap();
    }
    fs::set_permissions(workspace.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    // A file system's clock may be as slow as a hundredth of a second.
    let line = "sleep 0.02; printf BYTES >bytes; chmod 700 mode; rm gone; mkdir -p new/er; echo hi >new/er/file; \
        ln -s same link; cp same twin; mv twin other; cat same >/dev/null; mkdir .git; touch .git/index";
    let told = changes(&mut client, "a", shell(line)).await;
    let files = vec![
        file(Changed, "bytes", 5),
        file(Removed, "gone", 0),
        file(Added, "link", 4),
        file(Changed, "mode", 4),
        file(Added, "new/", 0),
        file(Added, "new/er/", 0),
        file(Added, "new/er/file", 3),
        file(Changed, "other", 4),
    ];
    assert_eq!(told, Changes { files, ..Changes::default() });
    assert_eq!(changes(&mut client, "b", shell("cat same")).await, Changes::default());
}

#[tokio::test]
async fn code_tells_what_it_has_changed_since_its_own_turn() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    // Queued behind one that writes another file.
    let slow = python("import time\ntime.sleep(0.3)\nopen('first', 'w').close()");
    let first = common::start(&mut client, "a", slow, 0).await.unwrap();
    let told = changes(&mut client, "b", python("open('second', 'w').close()")).await;
    drop(first);
    let files = vec![file(Added, "second", 0)];
    assert_eq!(told, Changes { files, ..Changes::default() });
}

#[tokio::test]
async fn installed_packages_are_told_by_name_and_version() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "P=venv/lib/python3/site-packages N=app/node_modules; \
        mkdir -p $P/six-1.17.0.dist-info $P/six $N/left-pad $N/@babel/core $N/.bin; \
        echo '{\"version\": \"1.3.0\"}' >$N/left-pad/package.json; touch $P/six/__init__.py";
    let told = changes(&mut client, "a", shell(line)).await;
    let names: Vec<_> = told.files.iter().map(|file| str::from_utf8(&file.path).unwrap()).collect();
    let directories = ["app/", "app/node_modules/", "venv/", "venv/lib/", "venv/lib/python3/"];
    assert_eq!(names, [&directories[..], &["venv/lib/python3/site-packages/"]].concat());
    let added = [("@babel/core", ""), ("left-pad", "1.3.0"), ("six", "1.17.0")];
    assert_eq!(told.packages, added.map(|(name, version)| package(Added, name, version)));

    let line = "sleep 0.02; cd venv/lib/python3/site-packages; mv six-1.17.0.dist-info six-1.18.0.dist-info; \
        cd $OLDPWD/app/node_modules; mv left-pad old; mkdir left-pad; rm -r old @babel/core; \
        echo '{\"version\": \"2.0.0\"}' >left-pad/package.json";
    let told = changes(&mut client, "b", shell(line)).await;
    let packages = vec![
        package(Removed, "@babel/core", ""),
        package(Changed, "left-pad", "2.0.0"),
        package(Removed, "six", "1.17.0"),
        package(Added, "six", "1.18.0"),
    ];
    assert_eq!(told, Changes { packages, ..Changes::default() });
}

#[tokio::test]
async fn ports_that_open_and_close_are_told() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let open = "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\n\
        open('port', 'w').write(str(s.getsockname()[1]))";
    let told = all_changes(&mut client, "a", python(open)).await;
    let port = fs::read_to_string(agent.workspace().join("port")).unwrap().parse().unwrap();
    let of = |kind: ChangeKind| PortChange { kind: kind.into(), port };
    assert!(told.ports.contains(&of(Added)), "{told:?}");
    let told = all_changes(&mut client, "b", python("s.close()")).await;
    assert!(told.ports.contains(&of(Removed)), "{told:?}");
}

#[tokio::test]
async fn changes_are_told_of_a_run_that_is_ended_too() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let spec = limited(shell("touch made; sleep 60"), std::time::Duration::from_millis(300));
    let told = changes(&mut client, "a", spec).await;
    assert_eq!(told.files, [file(Added, "made", 0)]);
}

#[tokio::test]
async fn only_so_many_are_told_and_the_others_counted() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let told = changes(&mut client, "a", shell("for i in $(seq 150); do : >$i; done")).await;
    assert_eq!((told.files.len(), told.more_files), (CHANGES_TOLD, 50));
}

#[tokio::test]
async fn too_large_a_workspace_is_not_compared_and_that_is_said() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for number in 0..=CHANGES_LOOKED_AT {
        fs::write(agent.workspace().join(number.to_string()), "").unwrap();
    }
    let told = changes(&mut client, "a", shell("touch more")).await;
    assert_eq!((told.too_many, told.files), (true, vec![]));
}

#[tokio::test]
async fn who_does_not_ask_is_told_nothing() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let seen = run(&mut client, "a", shell("touch made")).await;
    assert_eq!(seen.how(), How::Exited(0));
    assert!(!seen.events.iter().any(|event| matches!(event.event, Some(Event::Changes(_)))));
}

/// The agent has one thread for all: nothing that has a package's name may hold it up.
#[tokio::test]
async fn what_only_looks_like_a_package_holds_nothing_up() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "mkdir -p node_modules/pipe node_modules/zero; mkfifo node_modules/pipe/package.json; \
        ln -s /dev/zero node_modules/zero/package.json";
    let told = changes(&mut client, "a", shell(line)).await;
    assert_eq!(told.packages, ["pipe", "zero"].map(|name| package(Added, name, "")));
}
