//! Commands: output, outcomes, what they leave behind, and how they are ended.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::time::{Duration, Instant};

use common::{
    Agent, argv, attach, cancel, command, limited, lives, next, refused, run, see, shell, start,
    until, until_no_zombie,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::run_event::Event;
use wire::v1::{Command, Empty};

/// What a caller has written is in the answer, which has to fit where answers are.
#[tokio::test]
async fn what_is_refused_is_refused_in_few_words() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let long = "x".repeat(1 << 20);
    assert_eq!(attach(&mut client, &long, 0).await.unwrap_err(), Code::RunNotFound);
    let error = refused(&mut client, "r", argv(&[&long])).await;
    assert!(error.code == Code::CommandNotFound && error.message.ends_with("xxx…"), "{error}");
}

#[tokio::test]
async fn a_command_tells_its_output_and_its_exit_code() {
    let agent = Agent::start();
    let seen = run(&mut agent.client().await, "a", shell("echo out; echo err >&2; exit 3")).await;
    assert_eq!((seen.out(), seen.err(), seen.how()), ("out\n", "err\n", How::Exited(3)));
    let numbers: Vec<u64> = seen.events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    let outcome = seen.outcome();
    assert_eq!(outcome.stdout.as_ref().unwrap().sha256, Sha256::digest(b"out\n").to_vec());
    assert!(outcome.max_rss_bytes > 0 && !outcome.truncated && !outcome.context_lost);
}

#[tokio::test]
async fn a_signal_is_not_an_exit_code() {
    let agent = Agent::start();
    let seen = run(&mut agent.client().await, "a", shell("kill -9 $$")).await;
    assert_eq!(seen.how(), How::Signaled(9));
}

/// The agent itself ignores SIGPIPE; who inherited that would write for ever.
#[tokio::test]
async fn a_pipe_that_closes_ends_its_writer() {
    let agent = Agent::start();
    let seen = run(
        &mut agent.client().await,
        "a",
        limited(shell("yes | head -n 1"), Duration::from_secs(10)),
    )
    .await;
    assert_eq!((seen.out(), seen.how()), ("y\n", How::Exited(0)));
}

/// A4
#[tokio::test]
async fn both_streams_can_be_full_at_once() {
    let agent = Agent::start();
    let line = "i=0; while [ $i -lt 1024 ]; do printf '%01024d' 1; printf '%01024d' 2 >&2; i=$((i+1)); done";
    let seen = run(&mut agent.client().await, "a", shell(line)).await;
    assert_eq!(
        (seen.stdout.len(), seen.stderr.len(), seen.how()),
        (1 << 20, 1 << 20, How::Exited(0))
    );
}

/// A1, once: fifteen million bytes arrive whole.
#[tokio::test]
async fn a_long_output_is_whole() {
    let agent = Agent::start();
    let seen = run(&mut agent.client().await, "a", shell("seq 1 2000000")).await;
    assert_eq!((seen.stdout.len(), seen.truncated), (14_888_896, false));
    let total = seen.outcome().stdout.clone().unwrap();
    assert_eq!(total.sha256, Sha256::digest(&seen.stdout).to_vec());
}

/// A5
#[tokio::test]
async fn a_child_in_the_background_holds_nothing_up_and_lives_on() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let since = Instant::now();
    let seen = run(&mut client, "a", shell("sleep 1000 & echo $!")).await;
    assert_eq!(seen.how(), How::Exited(0));
    let seen42 = run(&mut client, "b", shell("(sleep 60 &); exit 42")).await;
    assert_eq!(seen42.how(), How::Exited(42));
    assert!(since.elapsed() < Duration::from_secs(20));
    assert!(lives(seen.out()));
}

#[tokio::test]
async fn a_child_in_the_background_can_go_on_writing() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    // More than a pipe holds, and then a sign that none of it was refused.
    let line = "(sleep 0.5; head -c 1000000 /dev/zero && touch done) & echo begun";
    let seen = run(&mut client, "a", shell(line)).await;
    assert_eq!((seen.out(), seen.how()), ("begun\n", How::Exited(0)));
    let seen = run(&mut client, "b", shell("while [ ! -e done ]; do sleep 0.05; done")).await;
    assert_eq!(seen.how(), How::Exited(0));
}

/// A12
#[tokio::test]
async fn no_stdin_is_the_end_of_file_at_once() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let seen = run(&mut client, "a", shell("cat; read x || echo end")).await;
    assert_eq!(seen.out(), "end\n");
    let stdin = vec![b'x'; 3 << 20];
    let spec =
        Command { argv: vec!["cat".to_owned()], stdin: stdin.clone().into(), ..Command::default() };
    assert!(run(&mut client, "b", command(spec)).await.stdout == stdin);
    let spec = Command { argv: vec!["true".to_owned()], stdin: stdin.into(), ..Command::default() };
    assert_eq!(run(&mut client, "c", command(spec)).await.how(), How::Exited(0));
}

/// tests.md D2
#[tokio::test]
async fn stdin_waits_whole_for_who_reads_late() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let stdin = vec![b'x'; 3 << 20];
    let argv = ["sh", "-c", "sleep 0.5; head -c 1000000 | wc -c; sleep 0.5; wc -c"];
    let argv = argv.map(str::to_owned).into();
    let spec = Command { argv, stdin: stdin.into(), ..Command::default() };
    assert_eq!(run(&mut client, "a", command(spec)).await.out(), "1000000\n2145728\n");
}

/// A10
#[tokio::test]
async fn long_arguments_and_variables_arrive() {
    let agent = Agent::start();
    let long = "x".repeat(100_000);
    let argv = ["sh", "-c", "echo $# ${#LONG}", "sh"].map(str::to_owned);
    let argv = argv.into_iter().chain(std::iter::repeat_n(long.clone(), 10)).collect();
    let spec = Command { argv, env: [("LONG".to_owned(), long)].into(), ..Command::default() };
    let seen = run(&mut agent.client().await, "a", command(spec)).await;
    assert_eq!((seen.out(), seen.how()), ("10 100000\n", How::Exited(0)));
}

/// B6, B7 and C1 for commands: nothing is read into values, bytes stay bytes.
#[tokio::test]
async fn values_and_bytes_arrive_as_they_are() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let odd = "it's \"$(id)\"\n`x` ; é";
    std::fs::create_dir(agent.workspace().join("a b;'c")).unwrap();
    let spec = Command {
        shell: "printf %s \"$ODD\"; basename \"$PWD\"".to_owned(),
        env: [("ODD".to_owned(), odd.to_owned())].into(),
        cwd: "a b;'c".to_owned(),
        ..Command::default()
    };
    let seen = run(&mut client, "a", command(spec)).await;
    assert_eq!(seen.out(), format!("{odd}a b;'c\n"));
    let seen = run(&mut client, "b", shell(r"printf 'a\000b\377\r\n'")).await;
    assert_eq!(seen.stdout, b"a\0b\xff\r\n");
}

#[tokio::test]
async fn the_agents_own_variables_stay_its_own() {
    let agent = Agent::start();
    let seen = run(&mut agent.client().await, "a", shell("env; pwd")).await;
    assert!(!seen.out().contains("CODESANDBOX_") && seen.out().contains("PATH="));
    assert!(seen.out().trim_end().ends_with("/workspace"));
}

#[tokio::test]
async fn a_command_that_cannot_start_is_an_error_and_no_run() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    assert_eq!(
        refused(&mut client, "a", argv(&["no-such-program"])).await.code,
        Code::CommandNotFound
    );
    assert_eq!(attach(&mut client, "a", 0).await.unwrap_err(), Code::RunNotFound);
    let spec =
        Command { argv: vec!["true".to_owned()], cwd: "missing".to_owned(), ..Command::default() };
    assert_eq!(refused(&mut client, "a", command(spec)).await.code, Code::FileNotFound);
    std::fs::write(agent.workspace().join("script"), "#!/no/such/interpreter\n").unwrap();
    assert_eq!(refused(&mut client, "a", argv(&["./script"])).await.code, Code::CommandNotFound);
    run(&mut client, "b", shell("chmod +x script")).await;
    let error = refused(&mut client, "a", argv(&["./script"])).await;
    assert!(error.message.contains("interpreter"), "{error}");
    // tests.md A10: one argument of more than the kernel takes.
    let error = refused(&mut client, "a", argv(&["true", &"x".repeat(128 << 10)])).await;
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("(128 KiB each, 2 MiB together)"), "{error}");
    // The id was not used up.
    assert_eq!(run(&mut client, "a", argv(&["true"])).await.how(), How::Exited(0));
}

/// A8
#[tokio::test]
async fn the_same_id_runs_once_and_another_spec_is_refused() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let spec = || shell("echo x >> count; cat count");
    let first = run(&mut client, "a", spec()).await;
    let again = run(&mut client, "a", spec()).await;
    assert_eq!(first.events, again.events);
    assert_eq!(again.out(), "x\n");
    assert_eq!(refused(&mut client, "a", shell("true")).await.code, Code::RunConflict);
}

/// A11
#[tokio::test]
async fn a_run_can_be_attached_to_from_any_number_before_and_after_its_end() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let mut events =
        start(&mut client, "a", shell("echo 1; while [ ! -e go ]; do sleep 0.02; done; echo 2"), 0)
            .await
            .unwrap();
    until(&mut events, "1\n").await;
    drop(events);
    drop(client);
    let mut client = agent.client().await;
    let early = attach(&mut client, "a", 2).await.unwrap();
    let all = attach(&mut client, "a", 0).await.unwrap();
    std::fs::write(agent.workspace().join("go"), "").unwrap();
    let (early, all) = tokio::join!(see(early), see(all));
    assert_eq!((early.out(), all.out()), ("2\n", "1\n2\n"));
    for from in 0..=all.events.len() {
        let late = see(attach(&mut client, "a", from as u64).await.unwrap()).await;
        assert_eq!(late.events, all.events[from..]);
    }
    assert_eq!(attach(&mut client, "nobody", 0).await.unwrap_err(), Code::RunNotFound);
}

/// C2
#[tokio::test]
async fn what_the_log_cannot_hold_is_said_counted_and_hashed() {
    let agent = Agent::start();
    let line = "head -c 50000000 /dev/zero; echo late >&2; exit 7";
    let seen = run(&mut agent.client().await, "a", shell(line)).await;
    assert!(seen.truncated && seen.outcome().truncated);
    assert_eq!((seen.err(), seen.how()), ("", How::Exited(7)));
    assert!(seen.stdout.len() as u64 <= wire::limits::RUN_LOG && seen.stdout.len() > 30_000_000);
    let total = seen.outcome().stdout.clone().unwrap();
    assert_eq!(
        (total.bytes, total.sha256),
        (50_000_000, Sha256::digest(vec![0; 50_000_000]).to_vec().into())
    );
    assert_eq!(seen.outcome().stderr.as_ref().unwrap().bytes, 5);
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_neither_the_run_nor_other_calls() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let mut unread = Vec::new();
    for number in 0..8 {
        unread.push(
            start(
                &mut client,
                &format!("flood-{number}"),
                shell("head -c 9000000 /dev/zero; exit 5"),
                0,
            )
            .await
            .unwrap(),
        );
    }
    for number in 0..8 {
        let seen = see(attach(&mut client, &format!("flood-{number}"), 0).await.unwrap()).await;
        assert_eq!((seen.stdout.len(), seen.how()), (9_000_000, How::Exited(5)));
    }
}

/// H5
#[tokio::test]
async fn cancelling_kills_what_has_daemonised_as_well() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "setsid sh -c 'trap \"\" TERM; echo $$ > stubborn; while :; do sleep 1; done' & 
        (setsid sleep 1000 & echo $! > daemon) ; while [ ! -s stubborn ]; do sleep 0.02; done; echo ready; sleep 1000";
    let mut events = start(&mut client, "a", shell(line), 0).await.unwrap();
    until(&mut events, "ready").await;
    let pids = ["daemon", "stubborn"]
        .map(|name| std::fs::read_to_string(agent.workspace().join(name)).unwrap());
    assert!(pids.iter().all(|pid| lives(pid)));
    let since = Instant::now();
    assert!(cancel(&mut client, "a").await);
    assert_eq!(see(events).await.how(), How::Cancelled(Empty {}));
    assert!(since.elapsed() < wire::limits::KILL_GRACE * 4, "{:?}", since.elapsed());
    assert!(!pids.iter().any(|pid| lives(pid)));
    assert!(!cancel(&mut client, "a").await);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_ended_with_all_it_has_started() {
    let agent = Agent::start();
    let spec = limited(shell("sleep 1000 & echo $!; sleep 1000"), Duration::from_millis(300));
    let seen = run(&mut agent.client().await, "a", spec).await;
    assert_eq!(seen.how(), How::TimedOut(Empty {}));
    assert!(!lives(seen.out()));
    assert!(seen.outcome().duration_ms >= 300);
}

/// F4
#[tokio::test]
async fn a_thousand_orphans_leave_no_zombie() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "i=0; while [ $i -lt 1000 ]; do (true &); i=$((i+1)); done; echo done; sleep 1000";
    let mut events = start(&mut client, "a", shell(line), 0).await.unwrap();
    until(&mut events, "done").await;
    until_no_zombie(&agent);
    cancel(&mut client, "a").await;
    assert_eq!(see(events).await.how(), How::Cancelled(Empty {}));
    until_no_zombie(&agent);
}

#[tokio::test]
async fn a_killed_supervisor_is_a_lost_run_of_which_nothing_is_left() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let mut events = start(
        &mut client,
        "a",
        shell("(setsid sleep 1000 &); echo $$; echo $PPID > parent; sleep 1000"),
        0,
    )
    .await
    .unwrap();
    assert!(matches!(next(&mut events).await.event, Some(Event::Started(_))));
    until(&mut events, "\n").await;
    let leader = see(attach(&mut client, "a", 0).await.unwrap());
    let seen = run(
        &mut client,
        "b",
        shell("while [ ! -s parent ]; do sleep 0.02; done; kill -9 $(cat parent)"),
    )
    .await;
    assert_eq!(seen.how(), How::Exited(0));
    let seen = leader.await;
    assert_eq!(seen.how(), How::Lost(Empty {}));
    assert!(!lives(seen.out()));
}

/// User code can stop its supervisor before that has said that it began anything.
#[tokio::test]
async fn a_run_whose_supervisor_says_nothing_is_followed_and_ended_all_the_same() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let children = format!("/proc/{0}/task/{0}/children", agent.pid());
    // Not before it is one: until then the agent waits for it in the kernel.
    let supervisor = move || {
        let pids = std::fs::read_to_string(&children).unwrap();
        let is_one = |pid: &&str| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|&byte| byte == 0).any(|word| word == b"supervise")
        };
        pids.split_whitespace().find(is_one).map(|pid| pid.parse().unwrap())
    };
    let stopper = std::thread::spawn(move || {
        let pid = std::iter::repeat_with(supervisor).flatten().next().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    });
    // A program that is looked for in very many places, so that there is time for that.
    let path = format!("{}/bin:/usr/bin", "no:".repeat(40_000));
    let spec = Command {
        argv: vec!["sleep".into(), "1000".into()],
        env: [("PATH".to_owned(), path)].into(),
        ..Command::default()
    };
    let seen = run(&mut client, "a", limited(command(spec), Duration::from_millis(300))).await;
    stopper.join().unwrap();
    assert_eq!((seen.how(), seen.events.len()), (How::TimedOut(Empty {}), 2));
    assert_eq!(run(&mut client, "b", argv(&["true"])).await.how(), How::Exited(0));
}

#[tokio::test]
async fn sigterm_ends_everything_and_says_so_in_the_exit_code() {
    let mut agent = Agent::start();
    let mut client = agent.client().await;
    let mut events =
        start(&mut client, "a", shell("sleep 1000 & echo $!; sleep 1000"), 0).await.unwrap();
    until(&mut events, "\n").await;
    // What user code leaves there is not the agent's word.
    std::fs::write(agent.last_words(), r#"{"reason":"NotIsolated"}"#).unwrap();
    let (code, took) = agent.terminate();
    assert_eq!(code, Some(128 + 15));
    assert_eq!(std::fs::read_to_string(agent.last_words()).unwrap(), "");
    assert!(took < wire::limits::KILL_GRACE, "{took:?}");
    agent.restart();
    let seen = see(attach(&mut agent.client().await, "a", 0).await.unwrap()).await;
    assert_eq!(seen.how(), How::Lost(Empty {}));
    assert!(!lives(seen.out()));
}
