//! Contexts that speak JavaScript and TypeScript: a realm that stays as it was left.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Agent, code, interrupted, limited, refused, run, shell, shown};
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::run_event::Event;
use wire::v1::{Display, Empty, RunSpec};

fn js(source: &str) -> RunSpec {
    code("javascript", "", source)
}

/// tests.md B1.
#[tokio::test]
async fn what_was_declared_stays_and_can_be_declared_again() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source =
        "const a = 20; let b = 1;\nclass C { get()\n\n{ return b } }\nfunction f() { return a }";
    let seen = run(&mut client, "a", js(source)).await;
    assert_eq!((seen.how(), seen.result()), (How::Exited(0), None));
    assert!(seen.started.unwrap().context_new);
    let source =
        "const a = 20; let b = 22; class D extends C {}\nconsole.log(new C().get()); f() + b";
    let seen = run(&mut client, "b", js(source)).await;
    assert_eq!((seen.out(), seen.result()), ("22\n", Some("42")), "{:?}", seen.exceptions);
    assert!(!seen.started.as_ref().unwrap().context_new);
    assert_eq!(run(&mut client, "c", js("_ * 2")).await.result(), Some("84"));
    let other = run(&mut client, "d", code("javascript", "other", "typeof a")).await;
    assert_eq!(other.result(), Some("'undefined'"));
}

/// tests.md B2: all of it, though a pipe holds less and the process ends at once.
#[tokio::test]
async fn what_is_printed_arrives_whole_and_before_what_comes_later() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "process.stdout.write('x'); console.error('y'); display('shown'); 'value'";
    let seen = run(&mut client, "a", js(source)).await;
    assert_eq!((seen.out(), seen.err()), ("x", "y\n"));
    let kinds = seen.events.iter().map(|event| match event.event.as_ref().unwrap() {
        Event::Output(_) => "output",
        Event::Display(display) if display.result => "result",
        Event::Display(_) => "display",
        _ => "other",
    });
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds, ["other", "output", "output", "display", "result", "other"]);
    for (id, last, how) in
        [("b", "", How::Exited(0)), ("c", "display(1); process.exit(3)", How::Exited(3))]
    {
        let source = format!("process.stdout.write('é'.repeat(5e6), () => {{}}); {last}");
        let seen = run(&mut client, id, js(&source)).await;
        assert_eq!((seen.stdout.len(), seen.how()), (10_000_000, how), "{id}");
        assert_eq!(seen.displays.len(), 1, "{id}");
    }
}

#[tokio::test]
async fn the_last_value_is_shown_as_node_shows_it() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (number, (source, value)) in [
        ("({a: 1, m: new Map([[1, 2]])})", Some("{ a: 1, m: Map(1) { 1 => 2 } }")),
        ("'it\\'s ü'", Some("\"it's ü\"")),
        ("2n ** 64n", Some("18446744073709551616n")),
        ("-0", Some("-0")),
        ("Symbol('s')", Some("Symbol(s)")),
        ("null", Some("null")),
        ("await new Promise(r => setTimeout(r, 10, 'late'))", Some("'late'")),
        ("let n = 0; for await (const x of [1, 2]) n += x; n", Some("3")),
        ("let q = 1", None),
        ("undefined", None),
        ("// nothing", None),
        ("", None),
        (
            "({[require('util').inspect.custom]() { throw new TypeError('no') }})",
            Some("<a value that cannot be shown: TypeError>"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let seen = run(&mut client, &number.to_string(), js(source)).await;
        assert_eq!((seen.result(), seen.how()), (value, How::Exited(0)), "{source}");
    }
    let seen = run(&mut client, "long", js("'é'.repeat(1e6)")).await;
    let result = seen.result().unwrap();
    assert!(result.len() < 70_000 && result.contains("… ("), "{}", result.len());
}

/// tests.md B11.
#[tokio::test]
async fn a_value_is_shown_in_all_its_forms() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let result = |forms: &[(&str, &str)]| vec![Display { result: true, ..shown(forms) }];
    let seen = run(&mut client, "a", js("({a: [1, {b: null}]})")).await;
    let text = ("text/plain", "{ a: [ 1, { b: null } ] }");
    assert_eq!(seen.displays, result(&[text, ("application/json", r#"{"a":[1,{"b":null}]}"#)]));
    // Not what JSON would tell only a part of.
    let seen = run(&mut client, "b", js("[NaN]")).await;
    assert_eq!(seen.displays, result(&[("text/plain", "[ NaN ]")]));
    let source = "class T { [Symbol.for('Jupyter.display')]() { return {'text/html': '<b>', 'text/plain': 'T'} } }\nnew T()";
    let seen = run(&mut client, "c", js(source)).await;
    assert_eq!(seen.displays, result(&[("text/plain", "T"), ("text/html", "<b>")]));
    let source = "display({'text/html': '<i>', 'image/png': 'iVBO', 'text/plain': 't', 'a b': 1}, {raw: true, display_id: 'd'})\n\
        display(1, {display_id: 'd', update: true})";
    let seen = run(&mut client, "d", js(source)).await;
    let first = [("text/plain", "t"), ("text/html", "<i>"), ("image/png", "\u{fffd}")].map(
        |(mime, data)| {
            (mime, if mime == "image/png" { vec![0x89, b'P', b'N'] } else { data.into() })
        },
    );
    let forms: Vec<_> =
        seen.displays[0].forms.iter().map(|form| (&*form.mime, form.data.to_vec())).collect();
    assert_eq!(forms, first);
    let second = Display { id: "d".to_owned(), update: true, ..shown(&[("text/plain", "1")]) };
    assert_eq!((&*seen.displays[0].id, &seen.displays[1]), ("d", &second));
    assert_eq!(seen.err(), "[a b is left out: it is no MIME type]\n");
}

/// tests.md B9.
#[tokio::test]
async fn an_exception_has_the_users_frames_only() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let far = "function f() {\n  throw new RangeError('far')\n}\nf()";
    let broken = "<cell 2>:2:3\n  = 2\n  ^\nSyntaxError: Unexpected token '='";
    let late = "await new Promise(r => setTimeout(r, 1)); throw new Error('late')";
    let caused = "throw new Error('x', {cause: Object.assign(new Error('y'), {code: 'C'})})";
    let cause = "Error: x\n    at <cell 6>:1:7 {\n  [cause]: Error: y\n      at <cell 6>:1:44 {\n    code: 'C'\n  }\n}";
    for (id, source, name, value, traceback) in [
        (
            "a",
            far,
            "RangeError",
            "far",
            "RangeError: far\n    at f (<cell 1>:2:9)\n    at <cell 1>:4:1",
        ),
        ("b", "let x =\n  = 2", "SyntaxError", "Unexpected token '='", broken),
        ("c", late, "Error", "late", "Error: late\n    at <cell 3>:1:49"),
        ("d", "throw {code: 7}", "object", "{ code: 7 }", "Uncaught { code: 7 }"),
        ("e", "throw undefined", "undefined", "undefined", "Uncaught undefined"),
        ("f", caused, "Error", "x", cause),
    ] {
        let seen = run(&mut client, id, js(source)).await;
        let [exception] = &seen.exceptions[..] else { panic!("{id}: {:?}", seen.exceptions) };
        assert_eq!(
            (&*exception.name, &*exception.value, &*exception.traceback, seen.how(), seen.err()),
            (name, value, traceback, How::Exited(1), ""),
            "{id}"
        );
    }
}

/// tests.md B3, B10.
#[tokio::test]
async fn an_interrupt_ends_what_computes_and_what_waits_and_keeps_state() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", js("let kept = 1; const begun = () => console.log('begun')")).await;
    for (id, source) in [
        ("loops", "begun(); while (true);"),
        ("catches", "begun(); for (;;) try { for (;;); } catch {} finally {}"),
        ("prints", "while (true) begun()"),
        ("later", "await new Promise(r => setTimeout(r, 1)); begun(); while (true);"),
        ("timer", "setTimeout(() => { begun(); while (true); }, 1); await new Promise(() => {})"),
        ("tick", "process.nextTick(() => { begun(); for (;;); }); await new Promise(() => {})"),
        ("turns", "begun(); for (;;) await null"),
        ("waits", "begun(); await new Promise(() => {})"),
        ("blocks", "begun(); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)"),
        ("shows", "({[require('util').inspect.custom]() { begun(); for (;;); }})"),
        ("displays", "begun(); for (;;) display(1)"),
    ] {
        let seen = interrupted(&mut client, id, js(source)).await;
        assert_eq!(
            (seen.how(), seen.outcome().context_lost, seen.err()),
            (How::Cancelled(Empty {}), false, ""),
            "{id}"
        );
        let [exception] = &seen.exceptions[..] else { panic!("{id}: {:?}", seen.exceptions) };
        assert_eq!(exception.traceback, "Interrupted: the cell was interrupted", "{id}");
        let source = "console.log('fine'); await new Promise(r => setTimeout(r, 1)); kept";
        let next = run(&mut client, &format!("{id}-after"), js(source)).await;
        assert_eq!((next.out(), next.result()), ("fine\n", Some("1")), "{id}: {next:?}");
    }
    // The second begins when the agent's signal has ended the first.
    let source = "console.log('begun'); const wait = () => require('child_process').execSync('sleep 1000');\n\
        try { wait() } catch {}\nwait()";
    let seen = interrupted(&mut client, "child", js(source)).await;
    assert_eq!((seen.how(), seen.outcome().context_lost), (How::Cancelled(Empty {}), false));
    let late = limited(js("for (;;);"), Duration::from_millis(300));
    let late = run(&mut client, "late", late).await;
    assert_eq!((late.how(), late.outcome().context_lost), (How::TimedOut(Empty {}), false));
    assert_eq!(run(&mut client, "end", js("kept")).await.result(), Some("1"));
}

/// V8 would tell of a promise that nothing can settle any more, in the midst of its collection.
#[tokio::test]
async fn a_promise_that_never_settles_can_be_collected() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "require('v8').setFlagsFromString('--expose-gc'); const gc = require('vm').runInNewContext('gc');\n\
        setTimeout(() => { gc(); console.log('begun') }, 1); await new Promise(() => {})";
    let seen = interrupted(&mut client, "a", js(source)).await;
    assert_eq!((seen.how(), seen.outcome().context_lost), (How::Cancelled(Empty {}), false));
    assert_eq!(run(&mut client, "b", js("gc(); 1")).await.result(), Some("1"));
}

/// An interrupt comes while a cell ends by itself: it must reach no later one.
#[tokio::test]
async fn an_interrupt_that_comes_late_ends_no_later_cell() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", js("let kept = 0")).await;
    let spin = "for (const t = Date.now(); Date.now() - t < 60;);";
    for number in 0..30 {
        let limit = Duration::from_millis(1 + 2 * number);
        let seen = run(&mut client, &format!("b{number}"), limited(js(spin), limit)).await;
        assert!(!seen.outcome().context_lost, "{number}: {:?}", seen.outcome());
        let source = "await new Promise(r => setTimeout(r, 5)); ++kept";
        let next = run(&mut client, &format!("c{number}"), js(source)).await;
        assert_eq!(next.result(), Some(&*(number + 1).to_string()), "{number}");
    }
}

/// tests.md B5.
#[tokio::test]
async fn every_death_is_told_apart_and_the_next_run_begins_anew() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, source, how) in [
        ("exit", "console.log('last'); process.exit(7)", How::Exited(7)),
        (
            "late",
            "console.log('last'); setTimeout(() => process.exit(0)); await new Promise(() => {})",
            How::Exited(0),
        ),
        ("abort", "console.log('last'); process.abort()", How::Signaled(6)),
        ("kill", "console.log('last'); process.kill(process.pid, 9)", How::Signaled(9)),
    ] {
        let seen = run(&mut client, id, js(source)).await;
        assert_eq!(
            (seen.out(), seen.how(), seen.outcome().context_lost),
            ("last\n", how, true),
            "{id}"
        );
        let next = run(&mut client, &format!("{id}-next"), js("1 + 1")).await;
        assert_eq!((next.started.as_ref().unwrap().context_new, next.result()), (true, Some("2")));
    }
}

#[tokio::test]
async fn what_goes_wrong_outside_of_a_cell_is_told_and_ends_nothing() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let between = "let kept = 1; setTimeout(() => { kept++; display('nowhere'); throw new Error('timer') }, 1); 0";
    assert_eq!(run(&mut client, "a", js(between)).await.how(), How::Exited(0));
    run(&mut client, "wait", shell("sleep 0.3")).await;
    let seen = run(&mut client, "b", js("kept")).await;
    assert_eq!((seen.result(), seen.displays.len()), (Some("2"), 1));
    let during = "Promise.reject(new Error('left')); setTimeout(() => { throw new Error('timer') }, 1);\n\
        await new Promise(r => setTimeout(r, 50)); kept";
    let seen = run(&mut client, "c", js(during)).await;
    assert_eq!((seen.result(), seen.how()), (Some("2"), How::Exited(0)));
    assert_eq!(
        seen.err(),
        "Uncaught (in promise) Error: left\n    at <cell 3>:1:16\n\
         Uncaught Error: timer\n    at Timeout._onTimeout (<cell 3>:1:61)\n"
    );
}

#[tokio::test]
async fn modules_come_from_the_workspace_however_they_are_asked_for() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    std::fs::write(agent.workspace().join("mine.cjs"), "exports.x = 5").unwrap();
    std::fs::write(agent.workspace().join("mine.mjs"), "export const y = 6; export default 7")
        .unwrap();
    for (id, source, value) in [
        ("require", "require('./mine.cjs').x", "5"),
        ("call", "(await import('./mine.mjs')).y", "6"),
        (
            "statements",
            "import own, {y as some} from './mine.mjs'\nimport * as all from \"node:path\"; import 'fs';\n\
             [own, some, all.sep]",
            "[ 7, 6, '/' ]",
        ),
        (
            "texts",
            "/* import('a') */ [`${1}import('b')${`import(${'c'})`}`, \"import('d')\", /[/'import(]/.source, {import: 1}.import]",
            "[ \"1import('b')import(c)\", \"import('d')\", \"[/'import(]\", 1 ]",
        ),
    ] {
        let seen = run(&mut client, id, js(source)).await;
        assert_eq!((seen.result(), seen.how()), (Some(value), How::Exited(0)), "{id}: {seen:?}");
    }
    let seen =
        run(&mut client, "lines", js("import {\n  sep\n} from 'path'\nthrow new Error(sep)")).await;
    assert_eq!(seen.exceptions[0].traceback, "Error: /\n    at <cell 5>:4:7");
}

/// tests.md A12.
#[tokio::test]
async fn input_is_at_its_end() {
    let agent = Agent::start();
    let seen =
        run(&mut agent.client().await, "a", js("require('fs').readFileSync(0, 'utf8')")).await;
    assert_eq!((seen.result(), seen.how()), (Some("''"), How::Exited(0)));
}

/// tests.md C1.
#[tokio::test]
async fn bytes_stay_bytes_and_what_is_no_text_is_escaped() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source =
        r"process.stdout.write(Buffer.from([97, 0, 255, 13, 10])); process.stdout.write('\r\né')";
    let seen = run(&mut client, "a", js(source)).await;
    assert_eq!(seen.stdout, b"a\0\xff\r\n\r\n\xc3\xa9");
    for (id, source, value) in [
        ("b", r"'\ud800'", r"'\ud800'"),
        ("c", "'é🎉'.length", "3"),
        ("d", "let x = 'crlf'\r\nif (x)\r\n  x\r\n", "'crlf'"),
    ] {
        assert_eq!(run(&mut client, id, js(source)).await.result(), Some(value), "{id}");
    }
}

#[tokio::test]
async fn the_global_scope_is_the_users() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "let session = 1, run = 2, send = 3, fs = 4, display = 5, _ = 6; [typeof running, typeof unread, typeof thread, process.argv.length, process.execArgv.length]";
    let seen = run(&mut client, "a", js(source)).await;
    assert_eq!(seen.result(), Some("[ 'undefined', 'undefined', 'undefined', 1, 0 ]"));
    assert_eq!(run(&mut client, "b", js("fs + display + _")).await.result(), Some("15"));
}

#[tokio::test]
async fn a_childs_descriptors_are_those_of_a_command() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let pipes = "readlink /proc/self/fd/* | grep -c ^pipe:";
    // Whatever this test's own process was given, a plain command has too.
    let command = run(&mut client, "a", shell(pipes)).await;
    let source = format!("require('child_process').execSync({pipes:?}, {{stdio: 'inherit'}}); 0");
    assert_eq!(run(&mut client, "b", js(&source)).await.out(), command.out());
}

/// Where node takes the types off, that is tried; where it does not, that it is said.
#[tokio::test]
async fn typescript_loses_its_types_or_says_what_is_missing() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let node = |code: &str| {
        let output = Command::new("node").args(["-p", code]).output().unwrap().stdout;
        String::from_utf8(output).unwrap().trim().to_owned()
    };
    let source = "interface P { x: number }\nconst p: P = {x: 4}; enum E { A = 3 }\nimport type { Stats } from 'fs'; p.x + E.A as any";
    if node("typeof require('module').stripTypeScriptTypes") == "function" {
        let seen = run(&mut client, "a", code("typescript", "", source)).await;
        assert_eq!((seen.result(), seen.err()), (Some("7"), ""), "{:?}", seen.exceptions);
        let seen = run(&mut client, "b", code("typescript", "", "(p as P).x!")).await;
        assert_eq!(seen.result(), Some("4"));
        let seen = run(&mut client, "c", code("typescript", "", "let x: = 1")).await;
        assert_eq!((&*seen.exceptions[0].name, seen.how()), ("SyntaxError", How::Exited(1)));
        return;
    }
    let error = refused(&mut client, "a", code("typescript", "", source)).await;
    let version = node("process.version");
    assert_eq!(error.code, Code::LanguageUnavailable);
    assert_eq!(
        error.message,
        format!(
            "node is in the image but cannot be used for typescript; fix it or use another image: \
             node {version} cannot take the types off by itself; use node 22.13 or newer, install \
             sucrase, esbuild or typescript, or write javascript"
        )
    );
}

#[tokio::test]
async fn an_image_without_node_is_told_what_it_needs() {
    let agent = Agent::start_with(&[("PATH", "/no/such/directory")]);
    let error = refused(&mut agent.client().await, "a", js("1")).await;
    assert_eq!(error.code, Code::LanguageUnavailable);
    assert_eq!(
        error.message,
        "javascript cannot run in this image (node: not found in PATH; use an image that has it, install it, \
         or give its full path); use an image with Node.js 18 or newer, or run commands instead"
    );
}
