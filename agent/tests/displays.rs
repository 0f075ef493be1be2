//! Displays: values in all their forms, in order, bounded, and replaced under their ids.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::path::Path;

use common::{Agent, cancel, python, run, see, shell, shown, start, until};
use wire::v1::outcome::How;
use wire::v1::{Display, Empty, Form};

const PLAIN: &str = "text/plain";
const HTML: &str = "text/html";

fn result(forms: &[(&str, &str)]) -> Display {
    Display { result: true, ..shown(forms) }
}

fn under(id: &str, update: bool, forms: &[(&str, &str)]) -> Display {
    Display { id: id.to_owned(), update, ..shown(forms) }
}

/// tests.md B11.
#[tokio::test]
async fn a_value_is_shown_in_every_form_it_has_and_its_text_comes_first() {
    let agent = Agent::start();
    let source = r#"
class Table:
    def __repr__(self): return "   a\n0  1"
    def _repr_html_(self): return "<table>\u00e9</table>"
    def _repr_latex_(self): return None
class Everything:
    def __repr__(self): return "everything"
    def _repr_javascript_(self): return "1"
    def _repr_json_(self): return {"a": [1, None]}, {"expanded": True}
    def _repr_latex_(self): return "$x$"
    def _repr_pdf_(self): return b"%PDF"
    def _repr_jpeg_(self): return b"jpeg", {"width": 1}
    def _repr_png_(self): return "cG5n"
    def _repr_svg_(self): return "<svg/>"
    def _repr_markdown_(self): return "**x**"
    def _repr_html_(self): return "<b>"
display(Table())
Everything()
"#;
    let seen = run(&mut agent.client().await, "a", python(source)).await;
    let table = shown(&[(PLAIN, "   a\n0  1"), (HTML, "<table>é</table>")]);
    let everything = result(&[
        (PLAIN, "everything"),
        (HTML, "<b>"),
        ("text/markdown", "**x**"),
        ("image/svg+xml", "<svg/>"),
        ("image/png", "png"),
        ("image/jpeg", "jpeg"),
        ("application/pdf", "%PDF"),
        ("text/latex", "$x$"),
        ("application/json", r#"{"a": [1, null]}"#),
        ("application/javascript", "1"),
    ]);
    assert_eq!((seen.err(), &seen.displays), ("", &vec![table, everything]));
}

/// tests.md B11.
#[tokio::test]
async fn a_bundle_of_the_values_own_goes_before_its_single_forms() {
    let agent = Agent::start();
    let source = r#"
class Plot:
    def __repr__(self): return "repr"
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"application/x+json": {"data": []}, "text/plain": "own", "image/png": "cG5n"}, {"meta": 1}
    def _repr_png_(self): raise RuntimeError("not asked")
    def _repr_html_(self): return "<div>"
class Bare:
    def __repr__(self): return "bare"
    def _repr_mimebundle_(self, **_): return {HTML: "<i>"}
HTML = "text/html"
display(Plot(), Bare())
"#;
    let seen = run(&mut agent.client().await, "a", python(source)).await;
    let plot = [
        (PLAIN, "own"),
        ("application/x+json", r#"{"data": []}"#),
        ("image/png", "png"),
        (HTML, "<div>"),
    ];
    let expected = vec![shown(&plot), shown(&[(PLAIN, "bare"), (HTML, "<i>")])];
    assert_eq!((seen.err(), &seen.displays), ("", &expected));
}

#[tokio::test]
async fn a_form_that_fails_or_is_too_large_is_told_and_costs_no_other() {
    let agent = Agent::start();
    let source = r#"
class Bad:
    def __repr__(self): return "bad"
    def _repr_mimebundle_(self, **_): return {"\u00e9": "no type", 5: "", "x/y": object(), "x/z": "z"}
    def _repr_html_(self): return "x" * (512 * 1024 + 1)
    def _repr_markdown_(self): return 1 / 0
    def _repr_svg_(self): return "<svg/>"
    def _repr_png_(self): return b"x" * (2 * 1024 * 1024 + 1)
    def _repr_jpeg_(self): return "abc"
    def _repr_latex_(self): raise ValueError("\ud800")
Bad()
"#;
    let seen = run(&mut agent.client().await, "a", python(source)).await;
    assert_eq!(
        seen.displays,
        [result(&[(PLAIN, "bad"), ("x/z", "z"), ("image/svg+xml", "<svg/>")])]
    );
    let told = "_repr_markdown_ of Bad raised ZeroDivisionError: division by zero\n\
        _repr_latex_ of Bad raised ValueError: \\ud800\n\
        [é is left out: it is no MIME type]\n\
        [5 is left out: it is no MIME type]\n\
        [x/y is left out: it is of type object]\n\
        [text/html is left out: 524289 bytes are too many, save it to a file]\n\
        [image/png is left out: 2097153 bytes are too many, save it to a file]\n\
        [image/jpeg is left out: Incorrect padding]\n";
    assert_eq!((seen.err(), seen.how()), (told, How::Exited(0)));
}

/// What the agent takes of one event is bounded: more would cost the context.
#[tokio::test]
async fn all_forms_together_are_bounded_too() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = r#"
display({"x/%d" % n: "x" * 500_000 for n in range(9)}, raw=True)
display({"x/%d" % n: "" for n in range(40)}, raw=True)
"#;
    let seen = run(&mut client, "a", python(source)).await;
    let counts: Vec<_> = seen.displays.iter().map(|display| display.forms.len()).collect();
    assert_eq!((counts, seen.err().lines().count()), (vec![8, 32], 1 + 8));
    assert_eq!(run(&mut client, "b", python("1 + 1")).await.result(), Some("2"));
}

/// tests.md B11.
#[tokio::test]
async fn what_was_displayed_is_updated_under_its_id() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "assert display('one', 'two') is None\n\
        handle = display(1, display_id='mine')\nhandle.update(2)\n\
        made_up = display(3, display_id=True)\nmade_up.display(4)\nmade_up.display_id";
    let seen = run(&mut client, "a", python(source)).await;
    let id = seen.result().unwrap().trim_matches('\'').to_owned();
    assert_eq!(id.len(), 32);
    assert_eq!(
        seen.displays,
        [
            shown(&[(PLAIN, "'one'")]),
            shown(&[(PLAIN, "'two'")]),
            under("mine", false, &[(PLAIN, "1")]),
            under("mine", true, &[(PLAIN, "2")]),
            under(&id, false, &[(PLAIN, "3")]),
            under(&id, false, &[(PLAIN, "4")]),
            result(&[(PLAIN, &format!("'{id}'"))]),
        ]
    );
    // In a later run: whoever shows it knows by then where it is, or shows it anew.
    let seen = run(&mut client, "b", python("update_display(5, display_id='mine')")).await;
    assert_eq!(seen.displays, [under("mine", true, &[(PLAIN, "5")])]);
    let seen = run(&mut client, "c", python("display(6, display_id=7)")).await;
    assert_eq!(
        seen.traceback(),
        "Traceback (most recent call last):\n  File \"<cell 3>\", line 1, in <module>\n    \
         display(6, display_id=7)\nTypeError: a display_id is a str of 1 to 200 bytes\n"
    );
    assert!(seen.displays.is_empty());
}

#[tokio::test]
async fn a_name_that_the_user_defines_is_the_users() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let seen = run(&mut client, "a", python("'display' in globals()")).await;
    assert_eq!(seen.result(), Some("False"));
    run(&mut client, "b", python("def display(value): return 'mine'")).await;
    assert_eq!(run(&mut client, "c", python("display(1)")).await.result(), Some("'mine'"));
}

/// A stand-in for IPython, whose functions print where no shell of its own runs, as the real ones do.
fn install_ipython(workspace: &Path, module: &str) {
    let core = workspace.join("IPython/core");
    std::fs::create_dir_all(&core).unwrap();
    let own = "def display(*objects, **_): print('IPython', *objects)\n\
        publish_display_data = update_display = clear_output = display\n\
        def display_html(*texts): display(*({'text/html': text} for text in texts), raw=True, include=['text/html'])\n";
    std::fs::write(core.join(format!("{module}.py")), own).unwrap();
    std::fs::write(core.join("__init__.py"), "").unwrap();
    std::fs::write(workspace.join("IPython/__init__.py"), "").unwrap();
    let public = format!("from IPython.core.{module} import *\n");
    std::fs::write(workspace.join("IPython/display.py"), public).unwrap();
}

#[tokio::test]
async fn ipythons_own_functions_go_the_same_way_and_ipython_is_imported_by_the_user_alone() {
    for module in ["display_functions", "display"] {
        let agent = Agent::start();
        install_ipython(&agent.workspace(), module);
        let mut client = agent.client().await;
        let source = "import sys\ndisplay(1)\n[name for name in sys.modules if 'IPython' in name]";
        assert_eq!(run(&mut client, "a", python(source)).await.result(), Some("[]"));
        let source = "from IPython import display as ipython\nimport IPython.display\n\
            from IPython.display import *\nipython.display('a', display_id='k')\n\
            update_display('b', display_id='k')\ndisplay_html('<b>')\n\
            publish_display_data({'text/html': '<i>', 'text/plain': 'i'}, transient={'display_id': 'p'})\n\
            clear_output(wait=True)\nclear_output()";
        let seen = run(&mut client, "b", python(source)).await;
        assert_eq!((seen.out(), seen.err()), ("", ""), "{module}");
        assert_eq!(
            seen.displays,
            [
                under("k", false, &[(PLAIN, "'a'")]),
                under("k", true, &[(PLAIN, "'b'")]),
                shown(&[(HTML, "<b>")]),
                under("p", false, &[(PLAIN, "i"), (HTML, "<i>")]),
                under("", true, &[]),
            ],
            "{module}"
        );
    }
}

#[tokio::test]
async fn what_is_to_be_cleared_goes_when_something_else_comes() {
    let agent = Agent::start();
    let source = "from IPython.display import clear_output\ndisplay(1)\nclear_output(wait=True)\n\
        print('still there')\ndisplay(2)\ndisplay(3)";
    install_ipython(&agent.workspace(), "display_functions");
    let seen = run(&mut agent.client().await, "a", python(source)).await;
    assert_eq!(
        seen.displays,
        [
            shown(&[(PLAIN, "1")]),
            under("", true, &[]),
            shown(&[(PLAIN, "2")]),
            shown(&[(PLAIN, "3")])
        ]
    );
}

/// Two events must not come into each other, whoever sends them.
#[tokio::test]
async fn threads_may_display_and_what_comes_after_the_cell_belongs_to_no_run() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import threading\n\
        def show():\n    for _ in range(20): display({'x/y': 'x' * 200_000}, raw=True)\n\
        threads = [threading.Thread(target=show) for _ in range(4)]\n\
        for thread in threads: thread.start()\nshow()\nfor thread in threads: thread.join()";
    let seen = run(&mut client, "a", python(source)).await;
    let whole = Form { mime: "x/y".into(), data: vec![b'x'; 200_000].into() };
    assert_eq!(seen.how(), How::Exited(0));
    assert!(seen.displays.len() == 100 && seen.displays.iter().all(|d| d.forms == [whole.clone()]));
    let source = "import os, time\ndef late():\n    \
        while not os.path.exists('go'): time.sleep(0.01)\n    display('late')\n    open('gone', 'w')\n\
        threading.Thread(target=late).start()";
    run(&mut client, "b", python(source)).await;
    let between = "touch go; while [ ! -e gone ]; do sleep 0.02; done";
    run(&mut client, "c", shell(between)).await;
    assert_eq!(run(&mut client, "d", python("1")).await.displays, [result(&[(PLAIN, "1")])]);
}

#[tokio::test]
async fn a_fork_shows_on_stdout_alone() {
    let agent = Agent::start();
    let source = "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\n\
        else: display('child')\n'value'";
    let seen = run(&mut agent.client().await, "a", python(source)).await;
    assert_eq!((seen.out(), &seen.displays), ("'child'\n", &vec![result(&[(PLAIN, "'value'")])]));
}

/// A thread that shows something must not take the interrupt that is the cell's.
#[tokio::test]
async fn an_interrupt_ends_the_cell_while_threads_display() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import threading\nstop = threading.Event()\n\
        def show():\n    while not stop.is_set(): display('x' * 60_000)\n\
        thread = threading.Thread(target=show); thread.start()\nwhile True: print('begun')";
    for number in 0..10 {
        let mut events =
            start(&mut client, &format!("a{number}"), python(source), 0).await.unwrap();
        until(&mut events, "begun").await;
        cancel(&mut client, &format!("a{number}")).await;
        let seen = see(events).await;
        let how = (seen.how(), seen.outcome().context_lost);
        assert_eq!(how, (How::Cancelled(Empty {}), false), "{number}");
        let source = "alive = thread.is_alive(); stop.set(); thread.join(); alive";
        let seen = run(&mut client, &format!("b{number}"), python(source)).await;
        assert_eq!(seen.result(), Some("True"), "{number}");
    }
}
