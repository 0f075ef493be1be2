//! What people type in every notebook and is not Python, with Pythons that have no IPython.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::time::{Duration, Instant};

use common::{Agent, cancel, python, run, see, start, until};
use wire::v1::Empty;
use wire::v1::outcome::How;

#[tokio::test]
async fn a_shell_line_runs_between_lines_of_python() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = r#"print('before')
for i in range(2):
    !echo "it's" \
      here; printf 'no end'
    print()
!echo to stderr >&2
2 + 2"#;
    let seen = run(&mut client, "a", python(source)).await;
    assert_eq!(seen.out(), "before\nit's here\nno end\nit's here\nno end\n");
    assert_eq!((seen.err(), seen.result(), seen.how()), ("to stderr\n", Some("4"), How::Exited(0)));
    // Where Python gives up in another of its lines than the first.
    let source = "!echo a \\\n  01.txt \\\n  b";
    assert_eq!(run(&mut client, "d", python(source)).await.out(), "a 01.txt b\n");
    // One that fails says so and ends nothing, as in IPython.
    let seen = run(&mut client, "b", python("! exit 3\n'after'")).await;
    assert_eq!((seen.err(), seen.result()), ("exit code 3: exit 3\n", Some("'after'")));
    let seen = run(&mut client, "c", python("!cat")).await;
    assert_eq!((seen.how(), seen.out(), seen.result()), (How::Exited(0), "", None));
}

#[tokio::test]
async fn the_commonest_magics_do_what_they_do_everywhere() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    std::fs::create_dir(agent.workspace().join("a b")).unwrap();
    let source = "%matplotlib inline\n%cd \"a b\"\nimport os; os.getcwd()[-4:]";
    let seen = run(&mut client, "a", python(source)).await;
    let place = agent.workspace().join("a b").display().to_string();
    assert_eq!((seen.out(), seen.result()), (&*format!("{place}\n"), Some("'/a b'")));
    let source = "\n%%bash\nx=(1 2)\necho ${x[1]}\n\necho %end";
    let seen = run(&mut client, "b", python(source)).await;
    assert_eq!((seen.out(), seen.how()), ("2\n%end\n", How::Exited(0)));
    // Into this interpreter, whichever `pip` is in PATH; it need not have one.
    let seen = run(&mut client, "c", python("%pip --version")).await;
    let told = (seen.out().starts_with("pip "), seen.err().contains("No module named pip"));
    assert!(told.0 ^ told.1, "{} {}", seen.out(), seen.err());
}

#[tokio::test]
async fn what_is_python_is_none() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "x = '''\n!echo no\n%cd /\n'''\ny = (7\n%4)\nx, y";
    let seen = run(&mut client, "a", python(source)).await;
    assert_eq!((seen.out(), seen.result()), ("", Some(r"('\n!echo no\n%cd /\n', 3)")));
    let unknown = "line 2\n    %timeit f()\nSyntaxError: %timeit is one of IPython's, and here there are \
        ! %pip %cd %matplotlib %%bash %%sh; write it in Python\n";
    for (id, source, told) in [
        ("b", "1\n%timeit f()", unknown),
        (
            "e",
            "# c\n%%bash\nls -la",
            "line 2\n    %%bash\nSyntaxError: %%bash is for whole cells: alone in the first line\n",
        ),
        (
            "f",
            "%%bash -e\nls",
            "line 1\n    %%bash -e\nSyntaxError: %%bash is for whole cells: alone in the first line\n",
        ),
        (
            "g",
            "if 1:\n!ls",
            "line 2\n    !ls\nIndentationError: expected an indented block after 'if' statement on line 1\n",
        ),
        ("c", "1\n% 2", "line 2\n    % 2\nSyntaxError: invalid syntax\n"),
        ("d", "!echo\nx y", "line 2\n    x y\nSyntaxError: invalid syntax\n"),
    ] {
        let seen = run(&mut client, id, python(source)).await;
        let all = seen.traceback();
        let (_, rest) = all.split_once(", ").unwrap();
        assert_eq!((rest, seen.out(), seen.how()), (told, "", How::Exited(1)), "{id}");
    }
}

#[tokio::test]
async fn a_shell_line_is_interrupted_and_state_stays() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let since = Instant::now();
    let source = "x = 1\n!echo begun; exec sleep 60\nx = 2";
    let mut events = start(&mut client, "a", python(source), 0).await.unwrap();
    until(&mut events, "begun").await;
    assert!(cancel(&mut client, "a").await);
    assert_eq!(see(events).await.how(), How::Cancelled(Empty {}));
    assert_eq!(run(&mut client, "b", python("x")).await.result(), Some("1"));
    assert!(since.elapsed() < Duration::from_secs(10));
}
