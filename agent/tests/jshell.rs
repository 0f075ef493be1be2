//! Contexts that speak Java as jshell takes it: snippet by snippet, in a JVM that stays.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::time::Duration;

use common::{Agent, code, interrupted, limited, refused, run, see, shell, start};
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::{Empty, RunSpec};

fn java(source: &str) -> RunSpec {
    code("jshell", "", source)
}

#[tokio::test]
async fn what_was_declared_stays() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "int x = 20;\nint f(int y) {\n  return x + y;\n}\nimport java.time.Duration;\n\
        class P { int n = f(1); }";
    let seen = run(&mut client, "a", java(source)).await;
    assert_eq!((seen.how(), seen.result(), seen.out(), seen.err()), (How::Exited(0), None, "", ""));
    assert!(seen.started.unwrap().context_new);
    let source = "x++;\nf(21) + new P().n + Duration.ofMinutes(1).getSeconds()";
    let seen = run(&mut client, "b", java(source)).await;
    assert_eq!((seen.result(), seen.err()), (Some("124"), ""));
    assert!(!seen.started.as_ref().unwrap().context_new);
    let other = run(&mut client, "c", code("jshell", "other", "x")).await;
    assert_eq!(&*other.exceptions[0].name, "CompileError");
}

#[tokio::test]
async fn the_last_value_is_shown_as_jshell_shows_it() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (number, (source, value)) in [
        ("1 + 1", Some("2")),
        ("\"a\\n\" + 'é'", Some("\"a\\né\"")),
        ("new int[] {1, 2}", Some("int[2] { 1, 2 }")),
        ("List.of(1, 2).stream().map(n -> n * 2).collect(Collectors.toList())", Some("[2, 4]")),
        ("var x = 5", None),
        ("x", Some("5")),
        ("$1 + x", Some("7")),
        ("(Object) null", Some("null")),
        ("1; // a comment", Some("1")),
        ("1;\nvoid nothing() {}", None),
        ("1;\nfor (int i = 0; i < 2; i++) {}", None),
        ("nothing()", None),
        ("x = 6;", None),
        (
            "new Object() { public String toString() { throw new RuntimeException(); } }",
            Some("<a value whose toString() failed>"),
        ),
        ("", None),
        ("// nothing", None),
        ("\u{feff}7", Some("7")),
        ("String s =\r\n  \"crlf\";\r\ns", Some("\"crlf\"")),
    ]
    .into_iter()
    .enumerate()
    {
        let seen = run(&mut client, &number.to_string(), java(source)).await;
        assert_eq!((seen.result(), seen.how()), (value, How::Exited(0)), "{source}: {seen:?}");
    }
    let seen = run(&mut client, "long", java("new String[30000]")).await;
    let result = seen.result().unwrap();
    assert!(result.len() < 70_000 && result.ends_with(" bytes in all)"), "{}", result.len());
}

#[tokio::test]
async fn what_does_not_compile_is_told_as_javac_tells_it() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, source, value, traceback) in [
        (
            "a",
            "int y = 1;\nint x =\n  \"é\";",
            "incompatible types: java.lang.String cannot be converted to int",
            "<cell 1>:3: error: incompatible types: java.lang.String cannot be converted to int\n  \"é\";\n  ^",
        ),
        (
            "b",
            "int x = ;",
            "illegal start of expression",
            "<cell 2>:1: error: illegal start of expression\nint x = ;\n        ^",
        ),
        // What stands before it has been done.
        (
            "c",
            "y = 2;\nclass C {",
            "reached end of file while parsing",
            "<cell 3>:2: error: reached end of file while parsing\nclass C {\n         ^",
        ),
        (
            "d",
            "  int z = nowhere;",
            "cannot find symbol\n  symbol:   variable nowhere\n  location: class ",
            "<cell 4>:1: error: cannot find symbol\n  symbol:   variable nowhere\n  location: class \n\
             int z = nowhere;\n        ^",
        ),
    ] {
        let seen = run(&mut client, id, java(source)).await;
        let [exception] = &seen.exceptions[..] else { panic!("{id}: {:?}", seen.exceptions) };
        assert_eq!(
            (&*exception.name, &*exception.value, &*exception.traceback, seen.how(), seen.err()),
            ("CompileError", value, traceback, How::Exited(1), ""),
            "{id}"
        );
    }
    assert_eq!(run(&mut client, "f", java("y")).await.result(), Some("2"));
}

#[tokio::test]
async fn an_exception_has_the_users_frames_only() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let far = "int f(int n) {\n  throw new IllegalStateException(\"far ü\");\n}\n\nf(1);";
    let own = "class Own extends Exception {}\nclass C {\n  void m() throws Own { throw new Own(); }\n}\nnew C().m();";
    let caused =
        "try {\n  f(2);\n} catch (Exception e) {\n  throw new RuntimeException(\"outer\", e);\n}";
    for (id, source, name, value, traceback) in [
        (
            "a",
            far,
            "java.lang.IllegalStateException",
            "far ü",
            "java.lang.IllegalStateException: far ü\n    at f (<cell 1>:2)\n    at <cell 1>:5",
        ),
        (
            "b",
            "f(1)",
            "java.lang.IllegalStateException",
            "far ü",
            "java.lang.IllegalStateException: far ü\n    at f (<cell 1>:2)\n    at <cell 2>:1",
        ),
        ("c", own, "Own", "", "Own\n    at C.m (<cell 3>:3)\n    at <cell 3>:5"),
        (
            "d",
            caused,
            "java.lang.RuntimeException",
            "outer",
            "java.lang.RuntimeException: outer\n    at <cell 4>:4\n\
             Caused by: java.lang.IllegalStateException: far ü\n    at f (<cell 1>:2)\n    at <cell 4>:2",
        ),
        (
            "e",
            "int g() { return later(); }\ng()",
            "UnresolvedReferenceException",
            "g cannot be used until this is declared: method later()",
            "UnresolvedReferenceException: g cannot be used until this is declared: method later()\n    \
             at g (<cell 5>:1)\n    at <cell 5>:2",
        ),
    ] {
        let seen = run(&mut client, id, java(source)).await;
        let [exception] = &seen.exceptions[..] else { panic!("{id}: {:?}", seen.exceptions) };
        assert_eq!(
            (&*exception.name, &*exception.value, &*exception.traceback, seen.how(), seen.err()),
            (name, value, traceback, How::Exited(1), ""),
            "{id}"
        );
    }
    let deep = "int deep(int n) { return n == 0 ? 1 / n : deep(n - 1); }\ndeep(200)";
    let seen = run(&mut client, "deep", java(deep)).await;
    assert_eq!(seen.exceptions[0].traceback.lines().count(), 22);
    assert!(seen.exceptions[0].traceback.contains("\n    ... 182 frames ...\n"));
    let endless = "int endless() { return endless(); }\nendless()";
    let endless = run(&mut client, "endless", java(endless)).await;
    assert_eq!(&*endless.exceptions[0].name, "java.lang.StackOverflowError");
    assert!(!endless.outcome().context_lost);
}

#[tokio::test]
async fn what_is_declared_before_what_it_needs_says_so() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let seen = run(&mut client, "a", java("int g() { return later() + 1; }")).await;
    assert_eq!(seen.how(), How::Exited(0));
    assert_eq!(seen.err(), "g cannot be used until this is declared: method later()\n");
    let seen = run(&mut client, "b", java("int later() { return 1; }\ng()")).await;
    assert_eq!((seen.result(), seen.err()), (Some("2"), ""));
    // Within a cell the order is free.
    let seen =
        run(&mut client, "c", java("int h() { return i(); }\nint i() { return 3; }\nh()")).await;
    assert_eq!((seen.result(), seen.err()), (Some("3"), ""));
}

#[tokio::test]
async fn an_interrupt_ends_what_computes_and_what_waits_and_keeps_state() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let kept = "int kept = 1;\nvoid begun() { System.out.println(\"begun\"); }";
    run(&mut client, "a", java(kept)).await;
    // The interrupt comes while its second snippet compiles.
    let compiles =
        format!("begun();\n{{ int i = 0; {} while (true) {{}} }}", "i += 1; ".repeat(300));
    for (id, source) in [
        ("compiles", &*compiles),
        ("loops", "begun(); while (true) {}"),
        ("catches", "begun(); while (true) try { while (true) {} } catch (RuntimeException e) {}"),
        ("sleeps", "begun();\nThread.sleep(1000000);\nSystem.out.println(\"not here\");"),
        ("waits", "begun(); new CountDownLatch(1).await();"),
        ("prints", "while (true) begun();"),
        ("snippets", &"begun(); Thread.sleep(100);\n".repeat(1000)),
        ("method", "void spin() { begun(); while (true) {} }\nspin();"),
        ("child", "begun();\nnew ProcessBuilder(\"sleep\", \"1000\").start().waitFor();"),
    ] {
        let seen = interrupted(&mut client, id, java(source)).await;
        assert_eq!(
            (seen.how(), seen.outcome().context_lost, seen.err()),
            (How::Cancelled(Empty {}), false, ""),
            "{id}"
        );
        let [exception] = &seen.exceptions[..] else { panic!("{id}: {:?}", seen.exceptions) };
        assert_eq!(exception.traceback, "Interrupted: the cell was interrupted", "{id}");
        assert!(!seen.out().contains("not here"));
        let source = "System.out.print(\"fine\");\nThread.sleep(1);\nkept";
        let next = run(&mut client, &format!("{id}-after"), java(source)).await;
        assert_eq!((next.out(), next.result()), ("fine", Some("1")), "{id}: {next:?}");
    }
    let late = limited(java("while (true) {}"), Duration::from_millis(500));
    let late = run(&mut client, "late", late).await;
    assert_eq!((late.how(), late.outcome().context_lost), (How::TimedOut(Empty {}), false));
    assert_eq!(run(&mut client, "end", java("kept")).await.result(), Some("1"));
}

#[tokio::test]
async fn what_was_being_printed_at_an_interrupt_comes_in_no_later_cell() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for number in 0..10 {
        let source = "while (true) System.out.println(\"begun\");";
        interrupted(&mut client, &format!("a{number}"), java(source)).await;
        let next = run(&mut client, &format!("b{number}"), java("System.out.print(1);")).await;
        assert_eq!(next.out(), "1", "{number}");
    }
}

/// An interrupt comes while a cell ends by itself: it must reach no later one.
#[tokio::test]
async fn an_interrupt_that_comes_late_ends_no_later_cell() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", java("int kept = 0;")).await;
    for number in 0..20 {
        let limit = Duration::from_millis(1 + 10 * number);
        let seen =
            run(&mut client, &format!("b{number}"), limited(java("Thread.sleep(100);"), limit))
                .await;
        assert!(!seen.outcome().context_lost, "{number}: {:?}", seen.outcome());
        let source = "Thread.sleep(5);\n++kept";
        let next = run(&mut client, &format!("c{number}"), java(source)).await;
        assert_eq!(next.result(), Some(&*(number + 1).to_string()), "{number}: {next:?}");
    }
}

#[tokio::test]
async fn every_death_is_told_apart_and_the_next_run_begins_anew() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let last = "System.out.print(\"last\");";
    for (id, source, how) in [
        ("exit", "System.exit(7);", How::Exited(7)),
        (
            "thread",
            "new Thread(() -> System.exit(0)).start();\nThread.sleep(100000);",
            How::Exited(0),
        ),
        (
            "kill",
            "new ProcessBuilder(\"kill\", \"-9\", \"\" + ProcessHandle.current().pid()).start();\nThread.sleep(100000);",
            How::Signaled(9),
        ),
    ] {
        let seen = run(&mut client, id, java(&format!("{last}\n{source}"))).await;
        assert_eq!(
            (seen.out(), seen.how(), seen.outcome().context_lost),
            ("last", how, true),
            "{id}"
        );
        let next = run(&mut client, &format!("{id}-next"), java("1 + 1")).await;
        let new = next.started.as_ref().unwrap().context_new;
        assert_eq!((new, next.result()), (true, Some("2")), "{id}");
    }
}

#[tokio::test]
async fn cells_that_wait_run_one_after_another() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let first = java("int n = 0;\nThread.sleep(500);");
    let first = start(&mut client, "0", first, 0).await.unwrap();
    let mut queued = Vec::new();
    for number in 1..10 {
        let source = format!("n == {number} - 1 ? ++n : -1");
        queued.push(start(&mut client, &number.to_string(), java(&source), 0).await.unwrap());
    }
    assert_eq!(see(first).await.how(), How::Exited(0));
    for (number, events) in (1..).zip(queued) {
        assert_eq!(see(events).await.result(), Some(&*format!("{number}")));
    }
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let print = "for (int i = 0; i < 100; i++) System.out.print(\"é\".repeat(50_000));";
    for (id, last, how) in [("a", "", How::Exited(0)), ("b", "System.exit(3);", How::Exited(3))] {
        let seen = run(&mut client, id, java(&format!("{print}\n{last}"))).await;
        assert_eq!((seen.stdout.len(), seen.how()), (10_000_000, how), "{id}");
    }
    let long = format!("/* {} */ \"é🎉\".length()", "é".repeat(1 << 20));
    assert_eq!(run(&mut client, "long", java(&long)).await.result(), Some("3"));
}

/// Whatever the image says of its locale.
#[tokio::test]
async fn text_is_utf_8() {
    let agent = Agent::start_with(&[("LC_ALL", "C")]);
    let mut client = agent.client().await;
    let source = "System.out.print(\"é🎉\");\nSystem.err.print(\"ü\");\n\"é\" + (char) 0xd800";
    let seen = run(&mut client, "a", java(source)).await;
    assert_eq!((seen.out(), seen.err(), seen.result()), ("é🎉", "ü", Some("\"é?\"")));
    let thrown = "throw new Exception(\"é🎉\\n\" + (char) 0xd800);";
    let seen = run(&mut client, "b", java(thrown)).await;
    assert_eq!((&*seen.exceptions[0].value, seen.how()), ("é🎉\n?", How::Exited(1)));
}

/// Where it says nothing.
#[tokio::test]
async fn names_of_files_are_utf_8() {
    let agent = Agent::start();
    std::fs::write(agent.workspace().join("ü"), "é").unwrap();
    let seen = run(&mut agent.client().await, "a", java("Files.readString(Path.of(\"ü\"))")).await;
    assert_eq!(seen.result(), Some("\"é\""), "{seen:?}");
}

#[tokio::test]
async fn input_is_at_its_end() {
    let agent = Agent::start();
    let seen = run(&mut agent.client().await, "a", java("System.in.read()")).await;
    assert_eq!((seen.result(), seen.how()), (Some("-1"), How::Exited(0)));
}

/// As they are for programs.
#[tokio::test]
async fn classes_come_from_the_workspace_or_the_class_path() {
    for (env, dir) in [(&[][..], "."), (&[("CLASSPATH", "lib")], "lib")] {
        let agent = Agent::start_with(env);
        let mut client = agent.client().await;
        let source = "package mine; public class Mine { public static int n = 5; }";
        std::fs::write(agent.workspace().join("Mine.java"), source).unwrap();
        run(&mut client, "javac", shell(&format!("javac -d {dir} Mine.java"))).await;
        let seen = run(&mut client, "a", java("mine.Mine.n")).await;
        assert_eq!(seen.result(), Some("5"), "{dir}: {seen:?}");
    }
}

#[tokio::test]
async fn where_java_is_missing_the_answer_says_what_it_needs() {
    let agent = Agent::start_with(&[("PATH", "/no/such/directory")]);
    let error = refused(&mut agent.client().await, "a", java("1")).await;
    assert_eq!(error.code, Code::LanguageUnavailable);
    assert!(
        error.message.ends_with("use an image with a JDK, 11 or newer, or run commands instead"),
        "{error}"
    );
}
