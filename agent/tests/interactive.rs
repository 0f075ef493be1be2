//! Commands whose stdin stays open: input in parts, terminals, and signals.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::time::{Duration, Instant};

use common::{
    Agent, Client, answer, argv, attach, cancel, limited, refused, run, see, shell, start, until,
};
use wire::limits::{INPUT_PATIENCE, MAX_INPUT};
use wire::v1::outcome::How;
use wire::v1::run_spec::What;
use wire::v1::{
    Command, Empty, InputReply, InputRequest, Interactive, OutputRequest, RunSpec, SignalRequest,
    Terminal,
};
use wire::{Code, Error};

fn piped(spec: RunSpec) -> RunSpec {
    met(spec, None)
}

fn at_a_terminal(spec: RunSpec) -> RunSpec {
    met(spec, Some(Terminal::default()))
}

/// The same command with its stdin open.
fn met(spec: RunSpec, terminal: Option<Terminal>) -> RunSpec {
    let Some(What::Command(command)) = spec.what else { panic!("a command") };
    let what = Interactive { command: Some(command), terminal };
    RunSpec { what: Some(What::Interactive(what)), ..spec }
}

fn text(run: &str, data: &str) -> InputRequest {
    let data = data.to_owned().into_bytes().into();
    InputRequest { run_id: run.to_owned(), data, ..InputRequest::default() }
}

fn end(run: &str) -> InputRequest {
    InputRequest { close: true, ..text(run, "") }
}

async fn input(client: &mut Client, request: InputRequest) -> Result<u64, Error> {
    answer(client.input(request)).await.map(|InputReply { taken, .. }| taken)
}

async fn signal(client: &mut Client, run: &str, signal: i32) -> Result<bool, Error> {
    let request = SignalRequest { run_id: run.to_owned(), signal };
    answer(client.signal(request)).await.map(|reply| reply.was_running)
}

#[tokio::test]
async fn input_comes_in_parts_until_it_is_closed() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let mut events = start(&mut client, "r", piped(argv(&["cat"])), 0).await.unwrap();
    assert_eq!(input(&mut client, text("r", "one\n")).await, Ok(4));
    until(&mut events, "one\n").await;
    let reply = answer(client.input(text("r", "two\n"))).await;
    assert_eq!(reply, Ok(InputReply { taken: 8, output: 4, left: 0, closed: false }));
    until(&mut events, "two\n").await;
    assert_eq!(input(&mut client, end("r")).await, Ok(8));
    let seen = see(events).await;
    assert_eq!((seen.how(), seen.outcome().stdout.as_ref().unwrap().bytes), (How::Exited(0), 8));
}

/// What was sent and whose answer was lost is sent again.
#[tokio::test]
async fn input_at_an_offset_is_never_written_twice() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let events = start(&mut client, "r", piped(argv(&["cat"])), 0).await.unwrap();
    let at = |offset, data| InputRequest { offset: Some(offset), ..text("r", data) };
    for (request, taken) in [
        (at(0, "abc"), Ok(3)),
        (at(0, "abc"), Ok(3)),
        (at(1, "bcde"), Ok(5)),
        (at(6, "x"), Err(Code::InvalidArgument)),
        (InputRequest { close: true, ..at(5, "f") }, Ok(6)),
        (InputRequest { close: true, ..at(5, "f") }, Ok(6)),
        (at(6, "g"), Err(Code::InputClosed)),
        (text("r", "h"), Err(Code::InputClosed)),
    ] {
        let answer = input(&mut client, request).await;
        assert_eq!(answer.map_err(|error| error.code), taken);
    }
    let seen = see(events).await;
    assert_eq!((seen.out(), seen.how()), ("abcdef", How::Exited(0)));
}

#[tokio::test]
async fn a_run_that_does_not_read_holds_up_its_writer_and_nobody_else() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let since = Instant::now();
    let events = start(&mut client, "r", piped(argv(&["sleep", "60"])), 0).await.unwrap();
    let mut other = client.clone();
    let large = InputRequest { data: vec![b'x'; MAX_INPUT].into(), ..text("r", "") };
    let writer = tokio::spawn(async move { answer(other.input(large)).await });
    let seen = run(&mut client, "beside", argv(&["echo", "x"])).await;
    assert_eq!(seen.out(), "x\n");
    let taken = 64 << 10; // As much as a pipe holds.
    let reply = InputReply { taken, output: 0, left: MAX_INPUT as u64 - taken, closed: false };
    assert_eq!(writer.await.unwrap(), Ok(reply));
    let took = since.elapsed();
    assert!((INPUT_PATIENCE..INPUT_PATIENCE * 2).contains(&took), "{took:?}");
    assert!(cancel(&mut client, "r").await);
    assert_eq!(see(events).await.how(), How::Cancelled(Empty {}));
}

#[tokio::test]
async fn input_that_nobody_can_read_is_refused_with_the_reason() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let events = start(&mut client, "given", argv(&["sleep", "60"]), 0).await.unwrap();
    let mut open =
        start(&mut client, "open", piped(shell("exec 0<&-; echo shut; exec sleep 60")), 0)
            .await
            .unwrap();
    until(&mut open, "shut").await;
    run(&mut client, "ended", piped(argv(&["true"]))).await;
    let sized = InputRequest { terminal: Some(Terminal::default()), ..text("open", "") };
    let long = InputRequest { data: vec![0; MAX_INPUT + 1].into(), ..text("open", "") };
    for (request, code, words) in [
        (text("nobody", "x"), Code::RunNotFound, "run nobody: "),
        (
            text("given", "x"),
            Code::InputClosed,
            "run given: takes no input: it was not started as interactive",
        ),
        (text("ended", "x"), Code::InputClosed, "run ended: has ended, after 0 bytes"),
        (
            text("open", "x"),
            Code::InputClosed,
            "run open: reads no more: its program has closed its input after 0 bytes",
        ),
        (sized, Code::InvalidArgument, "run open: has no terminal"),
        (long, Code::InvalidArgument, "at most 1048576 are taken at once"),
    ] {
        let error = input(&mut client, request).await.unwrap_err();
        assert!(error.code == code && error.message.contains(words), "{error}");
    }
    for id in ["given", "open"] {
        assert!(cancel(&mut client, id).await);
    }
    assert_eq!(see(events).await.how(), How::Cancelled(Empty {}));
}

#[tokio::test]
async fn what_outlives_a_run_reads_its_input_to_the_end() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "exec 3<&0; (cat <&3 >/dev/null; echo over >over) & exit 3";
    assert_eq!(run(&mut client, "r", piped(shell(line))).await.how(), How::Exited(3));
    let over = agent.workspace().join("over");
    common::eventually(async || std::fs::read_to_string(&over).is_ok_and(|text| text == "over\n"))
        .await;
}

#[tokio::test]
async fn what_cannot_be_interactive_is_refused() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let given = Command { shell: "cat".to_owned(), stdin: "x".into(), ..Command::default() };
    let given = RunSpec { what: Some(What::Command(given)), ..RunSpec::default() };
    let nothing = Interactive::default();
    let nothing = RunSpec { what: Some(What::Interactive(nothing)), ..RunSpec::default() };
    let large = Terminal { rows: 24, columns: 1001 };
    for (spec, code, words) in [
        (piped(given), Code::InvalidArgument, "stdin: "),
        (nothing, Code::InvalidArgument, "interactive: the command is missing"),
        (met(argv(&["true"]), Some(large)), Code::InvalidArgument, "terminal: at most 1000"),
        (at_a_terminal(argv(&["no-such-program"])), Code::CommandNotFound, "no-such-program: "),
        (piped(argv(&["no-such-program"])), Code::CommandNotFound, "no-such-program: "),
    ] {
        let error = refused(&mut client, "r", spec).await;
        assert!(error.code == code && error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_program_at_a_terminal_finds_one() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let script = r#"
import os, sys
print([os.isatty(fd) for fd in range(3)], os.environ["TERM"], os.get_terminal_size())
print(os.ttyname(0) == os.ttyname(1) == os.ttyname(2))
print("to stderr", file=sys.stderr)
"#;
    let seen = run(&mut client, "r", at_a_terminal(argv(&["python3", "-c", script]))).await;
    let lines = [
        "[True, True, True] xterm-256color os.terminal_size(columns=80, lines=24)",
        "True",
        "to stderr",
        "",
    ];
    // A terminal makes a line's end two characters, and has one stream.
    assert_eq!((seen.out(), seen.err()), (&*lines.join("\r\n"), ""));
    assert_eq!(seen.how(), How::Exited(0));
}

/// Of proc(5): its process group, its session, its terminal, and the group in front there. The program is one that takes
/// no terminal by itself, as some shells do.
#[tokio::test]
async fn a_program_at_a_terminal_is_the_first_of_its_session() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let spec = at_a_terminal(argv(&["cut", "-d", " ", "-f", "5-8", "/proc/self/stat"]));
    let seen = run(&mut client, "r", spec).await;
    let numbers: Vec<i32> = seen.out().split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [group, session, terminal, in_front] = numbers[..] else { panic!("{numbers:?}") };
    assert!(group == session && group == in_front && terminal != 0, "{numbers:?}");
}

/// What held another end of its stdin would keep the pipe from breaking when it closes that.
#[tokio::test]
async fn a_program_with_open_stdin_has_one_end_of_it() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let script = r#"
import os
stdin = os.stat(0).st_ino
print([fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}") and os.stat(f"/proc/self/fd/{fd}").st_ino == stdin])
"#;
    let seen = run(&mut client, "r", piped(argv(&["python3", "-c", script]))).await;
    assert_eq!(seen.out(), "['0']\n");
}

/// A shell as a person uses it: it has jobs, control-C ends what runs and not the shell.
#[tokio::test]
async fn a_shell_at_a_terminal_is_talked_with() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let spec = at_a_terminal(argv(&["bash", "--norc", "--noediting", "-i"]));
    let mut events = start(&mut client, "r", spec, 0).await.unwrap();
    input(&mut client, text("r", "PS1=; stty -echo; echo rea''dy\n")).await.unwrap();
    until(&mut events, "ready\r\n").await;
    input(&mut client, text("r", "sleep 60 & jobs; sh -c 'echo up; exec sleep 60'\n"))
        .await
        .unwrap();
    until(&mut events, "up\r\n").await;
    input(&mut client, text("r", "\u{3}")).await.unwrap();
    input(&mut client, text("r", "echo ended by $?\n")).await.unwrap();
    until(&mut events, "ended by 130\r\n").await;
    input(&mut client, text("r", "exit 7\n")).await.unwrap();
    assert_eq!(see(events).await.how(), How::Exited(7));
    let all = see(attach(&mut client, "r", 0).await.unwrap()).await;
    assert!(all.out().contains("Running"), "{}", all.out());
}

#[tokio::test]
async fn a_terminal_ends_input_and_hears_of_its_size() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let script = r#"
import os, signal
signal.signal(signal.SIGWINCH, lambda *_: print("now", *os.get_terminal_size(), flush=True))
print("from", *os.get_terminal_size(), flush=True)
while True:
    try:
        print("heard", input(), flush=True)
    except EOFError:
        print("the end", flush=True)
        break
"#;
    let size = Terminal { rows: 50, columns: 132 };
    let spec = met(argv(&["python3", "-u", "-c", script]), Some(size));
    let mut events = start(&mut client, "r", spec, 0).await.unwrap();
    until(&mut events, "from 132 50\r\n").await;
    let sized =
        InputRequest { terminal: Some(Terminal { rows: 0, columns: 100 }), ..text("r", "") };
    assert_eq!(input(&mut client, sized).await, Ok(0));
    until(&mut events, "now 100 50\r\n").await;
    assert_eq!(input(&mut client, text("r", "hello\n")).await, Ok(6));
    until(&mut events, "heard hello\r\n").await;
    assert_eq!(input(&mut client, end("r")).await, Ok(6));
    until(&mut events, "the end\r\n").await;
    assert_eq!(see(events).await.how(), How::Exited(0));
}

/// The first ends the program in front, and the second the shell behind it. In the midst of a line the first only
/// hands that on, as on every terminal.
#[tokio::test]
async fn a_terminal_may_be_ended_more_than_once() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "cat; echo second; cat; echo over";
    let mut events = start(&mut client, "r", at_a_terminal(shell(line)), 0).await.unwrap();
    let half = InputRequest { close: true, ..text("r", "half a line") };
    let reply = answer(client.input(half)).await.unwrap();
    assert_eq!((reply.taken, reply.closed), (11, true));
    until(&mut events, "half a linehalf a line").await;
    input(&mut client, end("r")).await.unwrap();
    until(&mut events, "second\r\n").await;
    // Said again with its offset it is the end that was there already.
    let ended = InputRequest { offset: Some(11), ..end("r") };
    assert_eq!(input(&mut client, ended).await, Ok(11));
    assert!(output(&mut client, "r").await.ends_with("second\r\n"));
    assert_eq!(input(&mut client, end("r")).await, Ok(11));
    assert_eq!(see(events).await.how(), How::Exited(0));
    assert!(output(&mut client, "r").await.ends_with("second\r\nover\r\n"));
}

/// What a run has written when nothing has come for a while.
async fn output(client: &mut Client, run: &str) -> String {
    let request = OutputRequest {
        run_id: run.to_owned(),
        wait_ms: 10_000,
        quiet_ms: 300,
        ..OutputRequest::default()
    };
    let data = answer(client.output(request)).await.unwrap().data;
    String::from_utf8(data.to_vec()).unwrap()
}

/// tests.md A13. A job that reads the terminal from the background is stopped, and is all that is.
#[tokio::test]
async fn what_reads_the_terminal_from_the_background_stops_nobody_else() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let spec = at_a_terminal(argv(&["bash", "--norc", "--noediting", "-i"]));
    let mut events = start(&mut client, "r", spec, 0).await.unwrap();
    input(&mut client, text("r", "PS1=; stty -echo; echo rea''dy\n")).await.unwrap();
    until(&mut events, "ready\r\n").await;
    input(
        &mut client,
        text("r", "cat & until [[ $(jobs -s) ]]; do sleep 0.01; done; jobs; echo goes on\n"),
    )
    .await
    .unwrap();
    until(&mut events, "goes on\r\n").await;
    let seen = run(&mut client, "beside", argv(&["echo", "x"])).await;
    assert_eq!(seen.out(), "x\n");
    assert!(cancel(&mut client, "r").await);
    assert_eq!(see(events).await.how(), How::Cancelled(Empty {}));
    let all = see(attach(&mut client, "r", 0).await.unwrap()).await;
    assert!(all.out().contains("Stopped"), "{}", all.out());
}

/// A13, seen from the other side: a program that is started at a terminal may read from it at once.
#[tokio::test]
async fn a_program_may_read_its_terminal_at_once() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for number in 0..20 {
        let id = format!("r-{number}");
        let events =
            start(&mut client, &id, at_a_terminal(argv(&["head", "-n", "1"])), 0).await.unwrap();
        input(&mut client, text(&id, "line\n")).await.unwrap();
        let seen = see(events).await;
        // The echo, and what was read.
        assert_eq!((seen.out(), seen.how()), ("line\r\nline\r\n", How::Exited(0)));
    }
}

#[tokio::test]
async fn all_that_is_written_before_the_end_of_a_terminal_arrives() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for number in 0..10 {
        let id = format!("r-{number}");
        let seen = run(&mut client, &id, at_a_terminal(argv(&["seq", "1", "20000"]))).await;
        let lines = seen.out().split_terminator("\r\n");
        assert!(lines.eq((1..=20000).map(|line| line.to_string())), "{id}");
        assert_eq!(seen.how(), How::Exited(0));
    }
}

#[tokio::test]
async fn a_terminal_is_no_way_out_of_a_timeout() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "trap '' INT TERM HUP; echo begun; while :; do sleep 1; done";
    let spec = limited(at_a_terminal(shell(line)), Duration::from_millis(500));
    let seen = run(&mut client, "r", spec).await;
    assert_eq!((seen.out(), seen.how()), ("begun\r\n", How::TimedOut(Empty {})));
}

#[tokio::test]
async fn a_signal_reaches_the_commands_group() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "trap 'echo told' USR1; (trap exit USR1; echo ready; while :; do sleep 0.01; done) & wait; wait; echo both; sleep 60";
    let mut events = start(&mut client, "r", shell(line), 0).await.unwrap();
    until(&mut events, "ready\n").await;
    assert_eq!(signal(&mut client, "r", 10).await, Ok(true));
    until(&mut events, "both\n").await;
    assert_eq!(signal(&mut client, "r", 15).await, Ok(true));
    let seen = see(attach(&mut client, "r", 0).await.unwrap()).await;
    assert_eq!(seen.how(), How::Signaled(15));
    assert_eq!(seen.out(), "ready\ntold\nboth\n");
    assert_eq!(signal(&mut client, "r", 15).await, Ok(false));
    for number in [0, -1, 32, 256] {
        let error = signal(&mut client, "r", number).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
    }
}

/// What a prompt and its answer look like to somebody who asks for the output when it has come to rest.
#[tokio::test]
async fn output_can_be_waited_for_until_it_is_quiet() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "echo a; sleep 0.2; echo b; sleep 0.2; echo c; sleep 60";
    let events = start(&mut client, "r", shell(line), 0).await.unwrap();
    let mut output = async |wait_ms, quiet_ms| {
        let request =
            OutputRequest { run_id: "r".to_owned(), wait_ms, quiet_ms, ..OutputRequest::default() };
        answer(client.output(request)).await.unwrap().data
    };
    let since = Instant::now();
    assert_eq!(output(10_000, 600).await, "a\nb\nc\n");
    assert!(since.elapsed() < Duration::from_secs(5));
    assert_eq!(output(10_000, 0).await, "a\nb\nc\n");
    drop(events);
    cancel(&mut client, "r").await;
}
