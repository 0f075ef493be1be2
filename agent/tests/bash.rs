//! Contexts that speak bash: a shell that stays as it was left.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::time::Duration;

use common::{
    Agent, cancel, code, limited, lives, python_in, refused, run, see, shell, start, until,
};
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::{Empty, RunSpec};

fn bash(source: &str) -> RunSpec {
    code("bash", "", source)
}

#[tokio::test]
async fn a_shell_keeps_directory_variables_functions_and_status() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let first =
        "mkdir 'a b'; cd 'a b'; own=1; export TOLD=2; greet() { echo \"hi $1\"; }; (exit 3)";
    let left = run(&mut client, "a", bash(first)).await;
    assert_eq!((left.how(), left.outcome().context_lost), (How::Exited(3), false));
    assert!(left.started.unwrap().context_new);
    let kept = run(&mut client, "b", bash("echo $? $own; sh -c 'echo $TOLD'; greet ü; pwd")).await;
    let cwd = agent.workspace().join("a b");
    assert_eq!(kept.out(), format!("3 1\n2\nhi ü\n{}\n", cwd.display()));
    assert_eq!((kept.how(), kept.err()), (How::Exited(0), ""));
}

#[tokio::test]
async fn a_cell_is_taken_as_it_is() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, source, out) in [
        ("empty", "", ""),
        ("end", "printf x", "x"),
        ("heredoc", "cat <<'END'\nü $(not) `run`\n\n  two\nEND\n", "ü $(not) `run`\n\n  two\n"),
        ("stdin", "read -r line; echo $?; cat", "1\n"),
        ("comment", "# nothing", ""),
    ] {
        let seen = run(&mut client, id, bash(source)).await;
        assert_eq!((seen.out(), seen.how()), (out, How::Exited(0)), "{id}: {}", seen.err());
    }
    let long = format!("x={}; echo ${{#x}}", "é".repeat(1 << 20));
    assert_eq!(run(&mut client, "long", bash(&long)).await.out(), "1048576\n");
}

#[tokio::test]
async fn a_mistake_is_told_with_its_line_and_ends_nothing() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, source, said) in [
        ("missing", "\n\nno-such-command", "bash: line 3: no-such-command: command not found\n"),
        (
            "open",
            "echo 'open",
            "bash: eval: line 1: unexpected EOF while looking for matching `''\n",
        ),
        ("break", "break", ""),
        ("continue", "continue; echo 'goes on'", ""),
    ] {
        let seen = run(&mut client, id, bash(source)).await;
        assert_eq!((seen.out(), seen.outcome().context_lost), ("", false));
        assert!(seen.err().starts_with(said), "{id}: {}", seen.err());
        assert_eq!(seen.how() == How::Exited(0), said.is_empty(), "{id}");
    }
}

#[tokio::test]
async fn an_interrupt_ends_the_cell_and_keeps_the_shell() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", bash("kept=1")).await;
    for (id, source) in [
        ("sleeps", "echo begun; sleep 1000; echo 'goes on'"),
        ("loops", "echo begun; while true; do :; done; echo 'goes on'"),
    ] {
        let mut events = start(&mut client, id, bash(source), 0).await.unwrap();
        until(&mut events, "begun").await;
        assert!(cancel(&mut client, id).await);
        let seen = see(events).await;
        assert_eq!((seen.how(), seen.out()), (How::Cancelled(Empty {}), ""));
        assert!(!seen.outcome().context_lost);
        assert_eq!(run(&mut client, &format!("{id}-after"), bash("echo $kept")).await.out(), "1\n");
    }
    let late = limited(bash("sleep 1000"), Duration::from_millis(300));
    let late = run(&mut client, "late", late).await;
    assert_eq!((late.how(), late.outcome().context_lost), (How::TimedOut(Empty {}), false));
}

#[tokio::test]
async fn what_does_not_heed_an_interrupt_is_ended_with_its_shell() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let deaf = "trap '' INT; echo begun; sleep 1000 & echo $!; wait";
    let mut events = start(&mut client, "a", bash(deaf), 0).await.unwrap();
    until(&mut events, "begun\n").await;
    assert!(cancel(&mut client, "a").await);
    let seen = see(events).await;
    assert_eq!((seen.how(), seen.outcome().context_lost), (How::Cancelled(Empty {}), true));
    assert!(run(&mut client, "b", bash("true")).await.started.unwrap().context_new);
}

/// tests.md B5.
#[tokio::test]
async fn a_shell_that_ends_is_told_and_the_next_is_new() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, source, how) in [
        ("exit", "echo out; exit 7", How::Exited(7)),
        ("errexit", "set -e; false; echo 'not here'", How::Exited(1)),
        ("killed", "kill -9 $$", How::Signaled(9)),
    ] {
        let seen = run(&mut client, id, bash(source)).await;
        assert_eq!((seen.how(), seen.outcome().context_lost), (how, true), "{id}");
        assert_eq!(seen.out(), if id == "exit" { "out\n" } else { "" });
        let next = run(&mut client, &format!("{id}-next"), bash("echo $-")).await;
        assert!(next.started.as_ref().unwrap().context_new && !next.out().contains('e'));
    }
}

#[tokio::test]
async fn what_a_cell_starts_has_no_part_in_our_pipes() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let pipes = "readlink /proc/self/fd/* | grep -c ^pipe:; ls /proc/self/fd";
    // Whatever this test's own process was given, a plain command has too.
    let command = run(&mut client, "a", shell(pipes)).await;
    assert_eq!(run(&mut client, "b", bash(pipes)).await.out(), command.out());
}

#[tokio::test]
async fn a_background_job_lives_on_with_its_shell() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let begun = run(&mut client, "a", bash("sleep 1000 & echo $!")).await;
    assert_eq!(begun.how(), How::Exited(0));
    assert!(lives(begun.out()));
    let killed = run(&mut client, "b", bash("kill %1; wait %1; echo $?")).await;
    assert_eq!(killed.out(), "143\n", "{}", killed.err());
}

#[tokio::test]
async fn a_context_has_one_language() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", code("bash", "mine", "x=1")).await;
    let other = refused(&mut client, "b", python_in("mine", "x")).await;
    assert_eq!(other.code, Code::InvalidArgument);
    assert_eq!(
        other.message,
        "context mine speaks bash; use another name for one that speaks python"
    );
    assert_eq!(run(&mut client, "c", code("bash", "mine", "echo $x")).await.out(), "1\n");
}
