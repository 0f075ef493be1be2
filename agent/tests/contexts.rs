//! Contexts: state that stays, values, exceptions, figures, interrupts and deaths.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{
    Agent, cancel, eventually, known, limited, lives, python, python_in, refused, run, see, shell,
    start, until,
};
use sha2::{Digest, Sha256};
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::run_event::Event;
use wire::v1::run_spec::What;
use wire::v1::{self, Empty, RunSpec};

/// B1
#[tokio::test]
async fn state_stays_and_blank_lines_in_bodies_work() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source =
        "class A:\n    x = 1\n\n    def f(self):\n\n        return self.x + 1\n\nvalue = A().f()\n";
    let first = run(&mut client, "a", python(source)).await;
    assert_eq!((first.how(), first.result()), (How::Exited(0), None));
    assert!(first.started.as_ref().unwrap().context_new);
    let second = run(&mut client, "b", python("value + A().f()")).await;
    assert_eq!((second.how(), second.result()), (How::Exited(0), Some("4")));
    assert!(!second.started.as_ref().unwrap().context_new && !second.outcome().context_lost);
    let other = run(
        &mut client,
        "c",
        python_in("other", "'value' in globals(), __name__, _ if False else 0"),
    )
    .await;
    assert_eq!(other.result(), Some("(False, '__main__', 0)"));
}

/// B2 and A9: nothing marks an end, so nothing is lost at one.
#[tokio::test]
async fn output_without_a_line_feed_arrives_in_its_own_run() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for number in 0..20 {
        let source = format!(
            "import sys, os\nprint('x{number}', end=''); sys.stderr.write('y'); os.write(1, b'z')"
        );
        let seen = run(&mut client, &format!("a{number}"), python(&source)).await;
        let out = seen.out().to_owned();
        assert!(out.contains(&format!("x{number}")) && out.contains('z') && out.len() < 6, "{out}");
        assert_eq!(seen.err(), "y");
    }
    // What is printed before a value comes before it.
    let seen = run(&mut client, "b", python("print('a'); 'value'")).await;
    let [Some(Event::Started(_)), .., Some(Event::Display(_)), Some(Event::Outcome(_))] =
        &seen.events.iter().map(|event| event.event.clone()).collect::<Vec<_>>()[..]
    else {
        panic!("{:?}", seen.events)
    };
    assert_eq!(seen.out(), "a\n");
}

/// B3
#[tokio::test]
async fn a_timeout_interrupts_and_keeps_state() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", python("kept = 7")).await;
    for (id, source) in [
        ("loop", "while True: pass"),
        ("sleep", "import time; time.sleep(1000)"),
        ("system", "import os; os.system('sleep 1000')"),
    ] {
        let seen = run(&mut client, id, limited(python(source), Duration::from_millis(300))).await;
        assert_eq!(
            (seen.how(), seen.outcome().context_lost),
            (How::TimedOut(Empty {}), false),
            "{id}"
        );
        let seen = run(&mut client, &format!("after-{id}"), python("kept")).await;
        assert_eq!((seen.how(), seen.result()), (How::Exited(0), Some("7")), "{id}");
    }
}

/// B10, H5
#[tokio::test]
async fn an_interrupt_that_is_not_noticed_comes_again() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    // As if the signal had come in the moment before the sleep.
    let source = "import signal, time\nx = 1\nours = signal.getsignal(signal.SIGINT)\nsignal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, ours))\ntime.sleep(60)";
    let late = limited(python(source), Duration::from_millis(300));
    let seen = run(&mut client, "a", late).await;
    assert_eq!((seen.how(), seen.outcome().context_lost), (How::TimedOut(Empty {}), false));
    assert_eq!(run(&mut client, "b", python("x")).await.result(), Some("1"));
}

#[tokio::test]
async fn cancelling_code_keeps_state() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let mut events =
        start(&mut client, "a", python("kept = 8\nwhile True: print(1)"), 0).await.unwrap();
    until(&mut events, "1\n1\n").await;
    assert!(cancel(&mut client, "a").await);
    let seen = see(events).await;
    assert_eq!((seen.how(), seen.outcome().context_lost), (How::Cancelled(Empty {}), false));
    assert_eq!(run(&mut client, "b", python("kept")).await.result(), Some("8"));
}

#[tokio::test]
async fn code_that_ignores_an_interrupt_loses_its_context_and_nothing_of_it_stays() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import os, signal, subprocess\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n\
                  print(subprocess.Popen(['setsid', 'sleep', '1000']).pid)\nwhile True: pass";
    let mut events = start(&mut client, "a", python(source), 0).await.unwrap();
    until(&mut events, "\n").await;
    cancel(&mut client, "a").await;
    see(events).await;
    let seen = see(common::attach(&mut client, "a", 0).await.unwrap()).await;
    assert_eq!((seen.how(), seen.outcome().context_lost), (How::Cancelled(Empty {}), true));
    assert!(!lives(seen.out()));
    assert!(run(&mut client, "b", python("1")).await.started.as_ref().unwrap().context_new);
}

/// B5
#[tokio::test]
async fn every_death_is_told_apart_and_the_next_run_begins_anew() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, source, how) in [
        ("exit", "print('last', end=''); exit()", How::Exited(0)),
        ("code", "print('last', end=''); import sys; sys.exit(4)", How::Exited(4)),
        ("os-exit", "import os; os.write(1, b'last'); os._exit(1)", How::Exited(1)),
        ("segfault", "import ctypes; print('last'); ctypes.string_at(0)", How::Signaled(11)),
        ("kill", "import os; print('last'); os.kill(os.getpid(), 9)", How::Signaled(9)),
    ] {
        let seen = run(&mut client, id, python(source)).await;
        assert!(seen.out().starts_with("last"), "{id}");
        assert_eq!((seen.how(), seen.outcome().context_lost), (how, true), "{id}");
        let seen = run(&mut client, &format!("after-{id}"), python("1 + 1")).await;
        assert_eq!(
            (seen.started.as_ref().unwrap().context_new, seen.result()),
            (true, Some("2")),
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_death_between_runs_is_noticed() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let seen = run(&mut client, "a", python("import os, threading\nos.getpid()")).await;
    let pid = seen.result().unwrap().to_owned();
    // Ended by itself after the run, and waited for by the shell that sees it gone.
    run(&mut client, "b", python("threading.Timer(0.2, os._exit, [3]).start()")).await;
    run(&mut client, "c", shell(&format!("while kill -0 {pid} 2>/dev/null; do sleep 0.02; done")))
        .await;
    let seen = run(&mut client, "d", python("1")).await;
    assert!(seen.started.as_ref().unwrap().context_new);
    assert_eq!((seen.how(), seen.outcome().context_lost), (How::Exited(0), false));
}

/// tests.md B9.
#[tokio::test]
async fn exceptions_show_the_users_frames_only() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let seen = run(&mut client, "a", python("def f():\n    return 1 / 0\n\nf()\n")).await;
    assert_eq!(seen.how(), How::Exited(1));
    let exception = &seen.exceptions[0];
    assert_eq!((&*exception.name, &*exception.value), ("ZeroDivisionError", "division by zero"));
    assert!(
        exception.traceback.contains("    return 1 / 0")
            && exception.traceback.contains("<cell 1>")
    );
    assert!(!exception.traceback.contains("driver"), "{}", exception.traceback);
    assert_eq!((seen.out(), seen.err()), ("", ""));

    let seen = run(&mut client, "b", python("x = (1,\n")).await;
    assert_eq!((seen.how(), &*seen.exceptions[0].name), (How::Exited(1), "SyntaxError"));
    let traceback = &seen.exceptions[0].traceback;
    assert!(
        traceback.starts_with("  File \"<cell 2>\"") && traceback.contains("x = (1,"),
        "{traceback}"
    );

    let source =
        "class E(Exception):\n    def __str__(self): raise ValueError\n    __repr__ = __str__\n";
    let seen = run(&mut client, "c", python(&format!("{source}raise E"))).await;
    assert_eq!((seen.how(), &*seen.exceptions[0].name), (How::Exited(1), "E"));
    let seen = run(&mut client, "d", python("E()")).await;
    assert_eq!(
        (seen.how(), seen.result()),
        (How::Exited(0), Some("<E whose repr raised ValueError>"))
    );
}

#[tokio::test]
async fn a_long_value_is_cut_and_says_so() {
    let agent = Agent::start();
    let seen = run(&mut agent.client().await, "a", python("'é' * 10_000_000")).await;
    let result = seen.result().unwrap();
    assert!(result.len() < 70_000 && result.ends_with("(20000002 bytes in all)"));
}

/// A12
#[tokio::test]
async fn input_is_at_its_end() {
    let agent = Agent::start();
    let seen = run(&mut agent.client().await, "a", python("input()")).await;
    assert_eq!(seen.exceptions[0].name, "EOFError");
}

/// C1
#[tokio::test]
async fn bytes_stay_bytes_and_what_is_no_text_is_escaped() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = r"import sys; sys.stdout.buffer.write(b'a\x00\xff\r\n'); sys.stdout.flush(); print('\r\n\u00e9', end='')";
    assert_eq!(run(&mut client, "a", python(source)).await.stdout, b"a\0\xff\r\n\r\n\xc3\xa9");
    assert_eq!(run(&mut client, "b", python(r"print('\ud800')")).await.out(), "\\ud800\n");
    let seen = run(&mut client, "c", python(r"'\ud800'")).await;
    assert_eq!((seen.how(), seen.result()), (How::Exited(0), Some(r"'\ud800'")));
    let seen = run(&mut client, "d", python("raise ValueError('\\ud800')")).await;
    assert_eq!((seen.how(), &*seen.exceptions[0].value), (How::Exited(1), "\\ud800"));
    let seen = run(&mut client, "e", python("x = 'crlf'\r\nif x:\r\n    print(x)\r\n")).await;
    assert_eq!(seen.out(), "crlf\n");
}

/// C6
#[tokio::test]
async fn output_on_stderr_is_no_failure() {
    let agent = Agent::start();
    let seen =
        run(&mut agent.client().await, "a", python("import sys; print('warn', file=sys.stderr)"))
            .await;
    assert_eq!((seen.err(), seen.how()), ("warn\n", How::Exited(0)));
}

#[tokio::test]
async fn a_file_in_the_workspace_can_be_imported_and_does_not_stand_in_the_drivers_way() {
    let agent = Agent::start();
    std::fs::write(agent.workspace().join("json.py"), "raise RuntimeError('mine')").unwrap();
    std::fs::write(agent.workspace().join("mine.py"), "x = 5").unwrap();
    let seen = run(&mut agent.client().await, "a", python("import mine; mine.x")).await;
    assert_eq!((seen.how(), seen.result()), (How::Exited(0), Some("5")));
}

/// B8
#[tokio::test]
async fn runs_of_one_context_follow_each_other_and_contexts_do_not_wait_for_each_other() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import os, time\nprint('begun')\nwhile not os.path.exists('go'): time.sleep(0.01)\norder = ['a']";
    let mut first = start(&mut client, "a", python(source), 0).await.unwrap();
    until(&mut first, "begun").await;
    let (mut one, mut two) = (client.clone(), client.clone());
    let b = tokio::spawn(async move { run(&mut one, "b", python("order.append('b')")).await });
    known(&mut client, "b").await;
    let c = tokio::spawn(async move { run(&mut two, "c", python("order + ['c']")).await });
    let other = run(&mut client, "d", python_in("other", "2")).await;
    assert_eq!(other.result(), Some("2"));
    std::fs::write(agent.workspace().join("go"), "").unwrap();
    assert_eq!(b.await.unwrap().how(), How::Exited(0));
    assert_eq!(c.await.unwrap().result(), Some("['a', 'b', 'c']"));
}

#[tokio::test]
async fn a_run_that_waits_for_its_context_can_be_cancelled() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let mut first =
        start(&mut client, "a", python("print('begun')\nwhile True: pass"), 0).await.unwrap();
    until(&mut first, "begun").await;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { run(&mut other, "b", python("1")).await });
    known(&mut client, "b").await;
    assert!(cancel(&mut client, "b").await);
    let seen = waiting.await.unwrap();
    assert_eq!((seen.how(), &seen.started), (How::Cancelled(Empty {}), &None));
    // Clients compare it with the digest of what they have received.
    let nothing = v1::StreamTotal { bytes: 0, sha256: Sha256::digest([]).to_vec().into() };
    assert_eq!(seen.outcome().stdout, Some(nothing));
    cancel(&mut client, "a").await;
}

#[tokio::test]
async fn a_run_cancelled_while_its_interpreter_comes_up_never_begins() {
    let path = format!("bin:{}", std::env::var("PATH").unwrap());
    let agent = Agent::start_with(&[("PATH", path.leak())]);
    python3_that(&agent, "sleep 1; PATH=${PATH#bin:} exec python3 \"$@\"");
    let mut client = agent.client().await;
    let mut other = client.clone();
    let waiting =
        tokio::spawn(async move { run(&mut other, "a", python("open('trace', 'w')")).await });
    known(&mut client, "a").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(cancel(&mut client, "a").await);
    let seen = waiting.await.unwrap();
    assert_eq!((seen.how(), seen.started), (How::Cancelled(Empty {}), None));
    assert!(!agent.workspace().join("trace").exists());
    assert_eq!(run(&mut client, "b", python("1")).await.result(), Some("1"));
}

#[tokio::test]
async fn nothing_stays_of_a_python_that_does_not_come_up() {
    let agent = Agent::start_with(&[("PATH", "bin:/usr/bin:/bin")]);
    python3_that(&agent, "echo $$ > pid; exec 3<&- 4>&-; exec sleep 1000");
    let error = refused(&mut agent.client().await, "a", python("1")).await;
    assert_eq!(error.code, Code::LanguageUnavailable);
    let pid = std::fs::read_to_string(agent.workspace().join("pid")).unwrap();
    let deadline = tokio::time::Instant::now() + common::DEADLINE;
    while lives(&pid) {
        assert!(tokio::time::Instant::now() < deadline, "{pid} lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_run_whose_supervisor_was_stopped_ends_all_the_same() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    // The interpreter is there already: its start takes longer than the limit where a machine is busy.
    run(&mut client, "warm", python("import os, signal, time")).await;
    let limit = Duration::from_secs(1);
    let line = shell("echo $$; kill -STOP $PPID; exec sleep 1000");
    let source = "import os, signal, time\nprint(os.getpid())\n\
        os.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(1000)";
    for (id, spec) in [("a", line), ("b", python(source))] {
        let seen = run(&mut client, id, limited(spec, limit)).await;
        assert_eq!(seen.how(), How::TimedOut(Empty {}), "{id}");
        // It is killed, and dies when the kernel comes to it.
        eventually(async || !lives(seen.out())).await;
    }
}

/// A `python3` that runs these lines of shell, in the directory `bin` of the workspace.
fn python3_that(agent: &Agent, does: &str) {
    let bin = agent.workspace().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = bin.join("python3");
    std::fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_fork_that_comes_back_from_a_cell_does_not_become_a_second_interpreter() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let seen = run(
        &mut client,
        "a",
        python("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint('p')"),
    )
    .await;
    assert_eq!((seen.out(), seen.how()), ("p\np\n", How::Exited(0)));
    assert_eq!(run(&mut client, "b", python("pid > 0")).await.result(), Some("True"));
}

#[tokio::test]
async fn what_is_written_between_runs_belongs_to_none() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import os, threading, time\n\
        def later():\n    while not os.path.exists('go'): time.sleep(0.01)\n    print('x' * 1_000_000)\n    open('gone', 'w').close()\n\
        threading.Thread(target=later).start()";
    assert_eq!(run(&mut client, "a", python(source)).await.out(), "");
    std::fs::write(agent.workspace().join("go"), "").unwrap();
    // Had nobody taken it, the thread would hang in its print.
    let gone = agent.workspace().join("gone");
    common::eventually(async || gone.exists()).await;
    let seen = run(&mut client, "b", python("1")).await;
    assert_eq!((seen.out(), seen.result()), ("", Some("1")));
}

#[tokio::test]
async fn what_user_code_writes_into_the_private_pipe_ends_only_its_context() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let seen = run(
        &mut client,
        "a",
        python("import os, time\nos.write(4, b'\\xff' * 64)\ntime.sleep(1000)"),
    )
    .await;
    assert!(seen.outcome().context_lost);
    assert_eq!(run(&mut client, "b", python("1")).await.result(), Some("1"));
}

#[tokio::test]
async fn a_language_that_is_not_known_or_not_there_is_refused() {
    let agent = Agent::start_with(&[("PATH", "/no/such/directory")]);
    let mut client = agent.client().await;
    let code = v1::Code { language: "cobol".to_owned(), ..v1::Code::default() };
    let spec = RunSpec { what: Some(What::Code(code)), ..RunSpec::default() };
    let error = refused(&mut client, "a", spec).await;
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("python"));
    let error = refused(&mut client, "a", python("1")).await;
    assert_eq!(error.code, Code::LanguageUnavailable);
    assert!(error.message.contains("use an image with Python"));
}

#[tokio::test]
async fn a_python_that_does_not_come_up_is_refused_with_its_last_words() {
    let agent = Agent::start_with(&[("PYTHONHOME", "/no/such/directory")]);
    let error = refused(&mut agent.client().await, "a", python("1")).await;
    assert_eq!(error.code, Code::LanguageUnavailable);
    assert!(
        error.message.contains("/no/such/directory") || error.message.contains("encodings"),
        "{error}"
    );
}

#[tokio::test]
async fn more_runs_than_a_context_can_queue_are_refused() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let mut first =
        start(&mut client, "a", python("print('begun')\nwhile True: pass"), 0).await.unwrap();
    until(&mut first, "begun").await;
    for number in 0..16 {
        let id = format!("b{number}");
        let mut other = client.clone();
        tokio::spawn({
            let id = id.clone();
            async move { start(&mut other, &id, python("1"), 0).await.map(drop) }
        });
        known(&mut client, &id).await;
    }
    assert_eq!(refused(&mut client, "one-more", python("1")).await.code, Code::ContextBusy);
}

/// An interrupt must not cut a message of the driver's in two.
#[tokio::test]
async fn an_interrupt_in_the_midst_of_a_display_keeps_state() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "class Slow:\n    def _repr_png_(self): return b'x' * (4 << 20)\n    def __repr__(self): return 'slow'\n";
    run(&mut client, "a", python(source)).await;
    for number in 0..20 {
        let limit = Duration::from_millis(1 + number / 2);
        let seen = run(&mut client, &format!("b{number}"), limited(python("Slow()"), limit)).await;
        assert!(!seen.outcome().context_lost, "{number}: {:?}", seen.outcome());
    }
    assert_eq!(run(&mut client, "c", python("Slow()")).await.result(), Some("slow"));
}
