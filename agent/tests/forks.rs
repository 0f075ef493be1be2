//! Copies of live contexts, and new contexts as copies of one that has run nothing.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs;
use std::time::Duration;

use common::{
    Agent, Client, cancel, code, limited, lives, python, python_in, refused, run, see, start,
    until, until_no_zombie,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wire::v1::outcome::How;
use wire::v1::{ContextInfo, Empty, ForkContextRequest};
use wire::{Code, Error};

async fn fork(client: &mut Client, name: &str, copies: &[&str]) -> Result<Vec<ContextInfo>, Error> {
    let copies = copies.iter().map(ToString::to_string).collect();
    let request = ForkContextRequest { name: name.to_owned(), copies };
    let reply = client.fork_context(request).await;
    reply.map(|reply| reply.into_inner().copies).map_err(|status| common::ours(&status))
}

/// What a line of Python comes to in a context.
async fn value(client: &mut Client, context: &str, source: &str) -> String {
    let id = format!("value{}", next());
    let seen = run(client, &id, python_in(context, source)).await;
    assert_eq!(seen.how(), How::Exited(0), "{source}: {}", seen.traceback());
    seen.result().unwrap_or_default().to_owned()
}

fn next() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether a context's supervisor was there before it, and what it is told: the pid of who it looks after.
const SUPERVISED: &str = "import os; open(f'/proc/{os.getppid()}/cmdline').read().split('\\0')[:3] == ['agent', 'supervise', str(os.getpid())]";

#[tokio::test]
async fn a_new_context_is_a_copy_of_one_that_has_run_nothing() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    value(&mut client, "a", "x = 1").await;
    for context in ["a", "b"] {
        assert_eq!(value(&mut client, context, SUPERVISED).await, "True");
    }
    assert_eq!(
        value(&mut client, "b", "'x' in globals(), __name__, 0").await,
        "(False, '__main__', 0)"
    );
}

#[tokio::test]
async fn a_fork_has_all_of_the_state_and_goes_its_own_way() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import os, itertools\nos.chdir('/')\ndef f():\n    return next(counter) + len(seen)\ncounter, seen = itertools.count(), ['a']\nfile = open('/proc/self/stat')";
    value(&mut client, "a", source).await;
    let copies = fork(&mut client, "a", &["b", "c"]).await.unwrap();
    let told: Vec<_> = copies.iter().map(|copy| (&copy.name[..], &copy.forked_from[..])).collect();
    assert_eq!(told, [("b", "a"), ("c", "a")]);
    for (context, extra) in [("b", "'x'"), ("c", "'x', 'y'"), ("a", "")] {
        value(&mut client, context, &format!("seen.extend([{extra}])")).await;
    }
    for (context, expected) in [("a", "(1, '/')"), ("b", "(2, '/')"), ("c", "(3, '/')")] {
        let shown = value(&mut client, context, "f(), os.getcwd()").await;
        assert_eq!(shown, expected, "{context}");
    }
    // What a traceback shows of a function is what was said where it was copied from.
    let seen = run(&mut client, "z", python_in("b", "counter = None; f()")).await;
    let told = &seen.exceptions[0].traceback;
    assert!(
        told.contains("File \"<cell 1>\", line 4, in f\n    return next(counter) + len(seen)\n"),
        "{told}"
    );
    assert!(!seen.started.as_ref().unwrap().context_new);
    for context in ["b", "c"] {
        assert_eq!(value(&mut client, context, SUPERVISED).await, "True");
    }
    until_no_zombie(&agent);
}

#[tokio::test]
async fn a_fork_comes_after_what_was_sent_before_it() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let slow =
        start(&mut client, "a", python("import time; time.sleep(0.3); x = 7"), 0).await.unwrap();
    let copies = fork(&mut client, "python", &["b"]).await.unwrap();
    assert_eq!(copies[0].name, "b");
    assert_eq!(value(&mut client, "b", "x").await, "7");
    assert_eq!(see(slow).await.how(), How::Exited(0));
}

#[tokio::test]
async fn a_request_to_fork_that_comes_again_finds_the_copy() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    value(&mut client, "a", "x = 1").await;
    let first = fork(&mut client, "a", &["b"]).await.unwrap();
    value(&mut client, "b", "x = 2").await;
    value(&mut client, "c", "x = 3").await;
    let again = fork(&mut client, "a", &["b"]).await.unwrap();
    assert_eq!(again[0].created_unix_ms, first[0].created_unix_ms);
    assert_eq!(value(&mut client, "b", "x").await, "2");
    let taken = fork(&mut client, "a", &["c"]).await.unwrap_err();
    assert_eq!(taken.code, Code::AlreadyExists);
    assert_eq!(value(&mut client, "c", "x").await, "3");
}

#[tokio::test]
async fn what_cannot_be_forked_is_refused() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let unknown = fork(&mut client, "nobody", &["b"]).await.unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "CONTEXT_NOT_FOUND: context nobody does not exist; list those that do, or make it"
    );
    run(&mut client, "a", code("bash", "", "x=1")).await;
    let bash = fork(&mut client, "bash", &["b"]).await.unwrap_err();
    assert_eq!(
        bash.to_string(),
        "INVALID_ARGUMENT: contexts of bash cannot be forked, those of these can: python; make a new context instead"
    );
    value(&mut client, "a", "1").await;
    let none = fork(&mut client, "a", &[]).await.unwrap_err();
    assert_eq!(none.to_string(), "INVALID_ARGUMENT: copies: name 1 to 32 of them, 0 are named");
    let name = fork(&mut client, "a", &["no/name"]).await.unwrap_err();
    assert_eq!(name.code, Code::InvalidArgument);
}

#[tokio::test]
async fn an_interrupt_finds_the_fork_and_nobody_else() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    value(&mut client, "a", "import time; x = 1").await;
    fork(&mut client, "a", &["b"]).await.unwrap();
    let mut one = start(&mut client, "one", python_in("a", "print('at it'); time.sleep(1); x"), 0)
        .await
        .unwrap();
    let mut other =
        start(&mut client, "other", python_in("b", "print('at it'); time.sleep(60)"), 0)
            .await
            .unwrap();
    until(&mut one, "at it").await;
    until(&mut other, "at it").await;
    assert!(cancel(&mut client, "other").await);
    assert_eq!(see(other).await.how(), How::Cancelled(Empty {}));
    let one = see(one).await;
    assert_eq!((one.how(), one.result()), (How::Exited(0), Some("1")));
    assert_eq!(value(&mut client, "b", "x").await, "1");
}

#[tokio::test]
async fn the_end_of_one_leaves_the_other() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (first, end, how) in [
        ("a", "import os; os._exit(3)", How::Exited(3)),
        ("b", "import os; os._exit(3)", How::Exited(3)),
        ("a", "import os; os.kill(os.getpid(), 9)", How::Signaled(9)),
        ("b", "import os; os.kill(os.getpid(), 9)", How::Signaled(9)),
    ] {
        value(&mut client, "a", "x = 1").await;
        fork(&mut client, "a", &["b"]).await.unwrap();
        let id = format!("end{}", next());
        let ended = run(&mut client, &id, python_in(first, end)).await;
        assert_eq!((ended.how(), ended.outcome().context_lost), (how, true));
        let other = if first == "a" { "b" } else { "a" };
        assert_eq!(value(&mut client, other, "x").await, "1", "{first}: {end}");
        for context in ["a", "b"] {
            common::delete(&mut client, context).await;
        }
    }
    until_no_zombie(&agent);
}

#[tokio::test]
async fn what_is_killed_with_all_it_has_started_takes_no_copy_along() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    value(&mut client, "a", "x = 1").await;
    fork(&mut client, "a", &["b"]).await.unwrap();
    let stubborn = "while True:\n    try:\n        import time; time.sleep(60)\n    except KeyboardInterrupt: pass";
    let limit = Duration::from_millis(200);
    let killed = run(&mut client, "k", limited(python_in("a", stubborn), limit)).await;
    assert_eq!((killed.how(), killed.outcome().context_lost), (How::TimedOut(Empty {}), true));
    assert_eq!(value(&mut client, "b", "x").await, "1");
}

#[tokio::test]
async fn an_event_loop_goes_on_where_it_was() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import asyncio\nheard = []\nasyncio.get_event_loop().call_later(0.05, heard.append, 'late')\nasync def wait(): return await asyncio.sleep(0.1, heard)";
    value(&mut client, "a", &format!("{source}\nawait asyncio.sleep(0) if False else None")).await;
    fork(&mut client, "a", &["b"]).await.unwrap();
    // What waits in a loop happens once: where it was asked for.
    assert_eq!(value(&mut client, "b", "await wait()").await, "[]");
    assert_eq!(value(&mut client, "a", "await wait()").await, "['late']");
    let ended = run(&mut client, "e", python_in("b", "exit()")).await;
    assert!(ended.outcome().context_lost);
    // It still hears what wakes it: the end of a sleep, and an interrupt.
    assert_eq!(value(&mut client, "a", "await asyncio.sleep(0.01, 'a')").await, "'a'");
    let limit = Duration::from_millis(200);
    let late =
        run(&mut client, "l", limited(python_in("a", "await asyncio.sleep(60)"), limit)).await;
    assert_eq!((late.how(), late.outcome().context_lost), (How::TimedOut(Empty {}), false));
    assert_eq!(value(&mut client, "a", "await asyncio.sleep(0.01, 'a')").await, "'a'");
}

#[tokio::test]
async fn whatever_the_user_did_to_signals_and_descriptors_the_fork_has_its_own() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import os, signal, threading\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nreader, writer = os.pipe()\nos.set_inheritable(writer, True)\nos.close(0)\nos.close(1)\nlock = threading.Lock()";
    run(&mut client, "a", python_in("a", source)).await;
    fork(&mut client, "a", &["b"]).await.unwrap();
    let seen = run(&mut client, "b", python_in("b", "print('heard'); 1")).await;
    assert_eq!((seen.out(), seen.result()), ("heard\n", Some("1")));
    // No copy of the pipe is left with anybody who would keep it open.
    run(&mut client, "c", python_in("b", "os.close(writer)")).await;
    let source = "os.close(writer); os.read(reader, 1)";
    let limit = Duration::from_secs(5);
    let seen = run(&mut client, "d", limited(python_in("a", source), limit)).await;
    assert_eq!(seen.result(), Some("b''"));
    let ended = run(&mut client, "e", python_in("b", "os._exit(4)")).await;
    assert_eq!(ended.how(), How::Exited(4));
}

#[tokio::test]
async fn a_fork_of_a_fork_is_one_too() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let mut origin = "c0".to_owned();
    value(&mut client, &origin, "x = [0]").await;
    for number in 1..=5 {
        let copy = format!("c{number}");
        fork(&mut client, &origin, &[&copy]).await.unwrap();
        value(&mut client, &copy, &format!("x.append({number})")).await;
        common::delete(&mut client, &origin).await;
        origin = copy;
    }
    assert_eq!(value(&mut client, &origin, "x").await, "[0, 1, 2, 3, 4, 5]");
}

/// The interpreter that new contexts are copied from: a context's supervisor names no pid but for it.
fn zygote(agent: &Agent) -> i32 {
    let children = |pid: i32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
    };
    let started = children(agent.pid()).into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"supervise\0")
    });
    children(started.unwrap())[0]
}

#[tokio::test]
async fn where_what_is_copied_has_died_another_takes_its_place() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    value(&mut client, "a", "x = 1").await;
    let old = zygote(&agent);
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    assert_eq!(value(&mut client, "b", SUPERVISED).await, "True");
    assert_eq!(value(&mut client, "a", "x").await, "1");
    assert_ne!(zygote(&agent), old);
}

#[tokio::test]
async fn a_new_context_finds_what_was_installed_before_it() {
    let base = tempfile::tempdir().unwrap();
    let path: &'static str = base.path().to_str().unwrap().to_owned().leak();
    let agent = Agent::start_with(&[("PYTHONUSERBASE", path)]);
    let mut client = agent.client().await;
    let site = value(&mut client, "a", "import site; site.getusersitepackages()").await;
    let site = site.trim_matches('\'');
    fs::create_dir_all(site).unwrap();
    fs::create_dir(base.path().join("elsewhere")).unwrap();
    fs::write(base.path().join("elsewhere/installed.py"), "x = 5").unwrap();
    fs::write(format!("{site}/installed.pth"), format!("{path}/elsewhere\n")).unwrap();
    assert_eq!(value(&mut client, "b", "import installed; installed.x").await, "5");
    assert_eq!(value(&mut client, "b", SUPERVISED).await, "True");
}

#[tokio::test]
async fn a_context_without_a_live_interpreter_is_not_forked() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    common::create(&mut client, "a", "python").await.unwrap();
    run(&mut client, "x", python_in("a", "exit()")).await;
    let error = fork(&mut client, "a", &["b"]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "CONTEXT_NOT_FOUND: the context's interpreter has ended; run something in it first"
    );
    let none = refused(&mut client, "y", code("bash", "a", "true")).await;
    assert_eq!(none.code, Code::InvalidArgument);
}

#[tokio::test]
async fn what_the_origin_starts_after_a_copy_is_its_own_again() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    value(&mut client, "a", "import subprocess").await;
    fork(&mut client, "a", &["b"]).await.unwrap();
    // A daemon: its parent ends, and it is an orphan.
    for context in ["a", "b"] {
        let source = "subprocess.run('sleep 60 >/dev/null 2>&1 & echo $!', shell=True, capture_output=True, text=True).stdout";
        let pid = value(&mut client, context, source).await;
        let pid = pid.trim_matches('\'').trim_end_matches("\\n").to_owned();
        assert!(lives(&pid), "{context}");
        common::delete(&mut client, context).await;
        assert!(!lives(&pid), "{context}");
    }
}
