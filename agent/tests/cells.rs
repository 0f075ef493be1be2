//! Cells: how they are written, what they await, and how their exceptions read.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use common::{Agent, interrupted, python, run};
use wire::v1::Empty;
use wire::v1::outcome::How;

/// tests.md B9.
#[tokio::test]
async fn a_snippet_may_be_indented_as_a_whole() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "\n# A comment at the margin.\n    text = \"\"\"a\n    b\nc\"\"\"\n\n    if text:\n        text\n    text\n";
    let seen = run(&mut client, "a", python(source)).await;
    assert_eq!((seen.how(), seen.result()), (How::Exited(0), Some(r"'a\n    b\nc'")));
    let seen = run(&mut client, "b", python("\tdef f():\n\t\treturn 1 / 0\n\n\tf()")).await;
    assert_eq!(
        seen.traceback(),
        "Traceback (most recent call last):\n  \
         File \"<cell 2>\", line 4, in <module>\n    f()\n  \
         File \"<cell 2>\", line 2, in f\n    return 1 / 0\n\
         ZeroDivisionError: division by zero\n"
    );
    // What is indented in parts only is as wrong as ever, and so is what is wrong in itself.
    for (id, source, expected) in [
        ("c", "    x = 1\ny = 2", "line 1\n    x = 1\nIndentationError: unexpected indent\n"),
        ("d", "x = 1\n    y = 2", "line 2\n    y = 2\nIndentationError: unexpected indent\n"),
        (
            "e",
            "    x = 1\nelse:\n    x",
            "line 1\n    x = 1\nIndentationError: unexpected indent\n",
        ),
        ("f", "    x = 1\n    return x", "line 2\nSyntaxError: 'return' outside function\n"),
        ("g", "    x = 1\n    x y", "line 2\n    x y\nSyntaxError: invalid syntax\n"),
    ] {
        let seen = run(&mut client, id, python(source)).await;
        let told = seen.traceback();
        let (file, told) = told.split_once(", ").unwrap();
        assert!(file.starts_with("  File \"<cell "), "{id}: {file}");
        assert_eq!((told, seen.how()), (expected, How::Exited(1)), "{id}");
    }
}

/// As in IPython.
#[tokio::test]
async fn a_value_with_a_semicolon_behind_it_is_not_shown() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, source, result) in [
        ("a", "1;", None),
        ("b", "(2) ; # and why\n\n", None),
        ("c", "    3;", None),
        ("d", "x = 1; x", Some("1")),
        ("e", "'a;'", Some("'a;'")),
        ("f", "5 # ;", Some("5")),
    ] {
        let seen = run(&mut client, id, python(source)).await;
        assert_eq!((seen.how(), seen.result()), (How::Exited(0), result), "{source}");
    }
}

#[tokio::test]
async fn a_cell_may_await_and_its_loop_stays() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import asyncio\nfirst = asyncio.get_running_loop()\n\
        later = asyncio.create_task(asyncio.sleep(0.01, 'done'))\n\
        async def numbers():\n    yield 1\n    yield 2\n\
        class Manager:\n    async def __aenter__(self): return 3\n    async def __aexit__(self, *_): pass\n\
        async for number in numbers(): print(number)\n\
        async with Manager() as third: print(third)\n\
        [number async for number in numbers()] + [await asyncio.sleep(0, 4)]";
    let seen = run(&mut client, "a", python(source)).await;
    assert_eq!((seen.out(), seen.result()), ("1\n2\n3\n", Some("[1, 2, 4]")));
    let source = "asyncio.run(asyncio.sleep(0)); third += 1";
    assert_eq!(run(&mut client, "b", python(source)).await.how(), How::Exited(0));
    let source = "await later, asyncio.get_running_loop() is first, third";
    assert_eq!(run(&mut client, "c", python(source)).await.result(), Some("('done', True, 4)"));
    let source = "asyncio.get_event_loop() is first";
    assert_eq!(run(&mut client, "same", python(source)).await.result(), Some("True"));
    let source = "async def f():\n    await asyncio.sleep(0)\n    raise ValueError('x')\nawait f()";
    let seen = run(&mut client, "d", python(source)).await;
    assert_eq!(
        seen.traceback(),
        "Traceback (most recent call last):\n  \
         File \"<cell 5>\", line 4, in <module>\n    await f()\n  \
         File \"<cell 5>\", line 3, in f\n    raise ValueError('x')\nValueError: x\n"
    );
    let seen = run(&mut client, "e", python("await asyncio.sleep(0)\nexit(3)")).await;
    assert_eq!((seen.err(), seen.how()), ("", How::Exited(3)));
}

/// tests.md B3, where it is an event loop that waits.
#[tokio::test]
async fn a_cell_that_awaits_is_interrupted_and_keeps_state() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", python("import asyncio\nkept, ended = 7, []")).await;
    for (id, wait) in [
        ("sleep", "print('begun'); await asyncio.sleep(1000)"),
        ("loop", "while True: print('begun')"),
        ("task", "await asyncio.gather(spin())"),
    ] {
        let source = format!(
            "async def spin():\n    while True: print('begun')\n\
             async def wait():\n    try:\n        {wait}\n    finally:\n        ended.append('{id}')\n\
             await wait()"
        );
        let seen = interrupted(&mut client, id, python(&source)).await;
        let outcome = (seen.how(), seen.outcome().context_lost, seen.err());
        assert_eq!(outcome, (How::Cancelled(Empty {}), false, ""), "{id}");
        let told = seen.traceback();
        assert!(told.ends_with("KeyboardInterrupt\n") && !told.contains("driver"), "{told}");
        let source = "await asyncio.sleep(0, (kept, ended.pop(), ended))";
        let seen = run(&mut client, &format!("after-{id}"), python(source)).await;
        assert_eq!(seen.result(), Some(&*format!("(7, '{id}', [])")));
    }
}

/// An exception in the midst of it would lose the task that the loop has just taken off its queue.
#[tokio::test]
async fn an_interrupt_in_the_midst_of_an_event_loops_work_keeps_state() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", python("import asyncio\nended = 0")).await;
    let source = "try:\n    print('begun')\n    while True: await asyncio.sleep(0)\n\
        except (asyncio.CancelledError, KeyboardInterrupt):\n    ended += 1\n    raise";
    for number in 0..50 {
        let seen = interrupted(&mut client, &format!("b{number}"), python(source)).await;
        assert!(!seen.outcome().context_lost, "{number}: {:?}", seen.outcome());
    }
    assert_eq!(run(&mut client, "c", python("ended")).await.result(), Some("50"));
}

/// tests.md B9.
#[tokio::test]
async fn a_traceback_has_the_users_frames_and_no_colours() {
    // What asks newer Pythons for colours.
    let agent = Agent::start_with(&[("FORCE_COLOR", "1"), ("PYTHON_COLORS", "1")]);
    let mut client = agent.client().await;
    let source = "try:\n    while True: print('begun')\n\
        except KeyboardInterrupt as error:\n    raise ValueError('\\ud800') from error";
    let seen = interrupted(&mut client, "a", python(source)).await;
    assert_eq!(
        seen.traceback(),
        "Traceback (most recent call last):\n  \
         File \"<cell 1>\", line 2, in <module>\n    while True: print('begun')\nKeyboardInterrupt\n\n\
         The above exception was the direct cause of the following exception:\n\n\
         Traceback (most recent call last):\n  \
         File \"<cell 1>\", line 4, in <module>\n    raise ValueError('\\ud800') from error\n\
         ValueError: \\ud800\n"
    );
    assert_eq!(seen.exceptions[0].value, "\\ud800");
    let seen = interrupted(&mut client, "b", python("while True: print('begun')")).await;
    assert_eq!(
        seen.traceback(),
        "Traceback (most recent call last):\n  \
         File \"<cell 2>\", line 1, in <module>\n    while True: print('begun')\nKeyboardInterrupt\n"
    );
    let seen = run(&mut client, "c", python("f(")).await;
    assert!(!seen.exceptions[0].traceback.contains('\u{1b}'));
}

/// tests.md B9: an exception that says nothing sensible of itself.
#[tokio::test]
async fn an_exception_whose_words_are_no_text_is_told_all_the_same() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, body, value) in [
        ("a", "def __str__(self): return '\\udcff\\x00'", "\\udcff\0"),
        ("b", "def __str__(self): return b'bytes'", "<E whose str raised TypeError>"),
        ("c", "def __str__(self): raise SystemError", "<E whose str raised SystemError>"),
    ] {
        let source = format!("class E(Exception):\n    {body}\nraise E");
        let seen = run(&mut client, id, python(&source)).await;
        let exception = &seen.exceptions[0];
        assert_eq!((&*exception.name, &*exception.value), ("E", value), "{id}");
        assert!(exception.traceback.contains("line 3, in <module>\n    raise E\n"), "{id}");
    }
    // Python itself cannot tell this one.
    let source = "raise SyntaxError('m', ('f', 1, 'no number', 'text'))";
    let seen = run(&mut client, "own", python(source)).await;
    let [exception] = &seen.exceptions[..] else { panic!("{:?}", seen.outcome()) };
    assert_eq!(
        exception.traceback,
        "Traceback (most recent call last):\n  File \"<cell 4>\", line 1, in <module>\n    \
         raise SyntaxError('m', ('f', 1, 'no number', 'text'))\nSyntaxError\n"
    );
    let source = "raise type('N' * 2_000_000, (Exception,), {})";
    let seen = run(&mut client, "d", python(source)).await;
    let [exception] = &seen.exceptions[..] else { panic!("{:?}", seen.outcome()) };
    assert_eq!(exception.name, "N".repeat(200));
    assert!(!seen.outcome().context_lost);
}
