//! Figures, with a stand-in for matplotlib: pictures in the order of creation.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use common::{Agent, python, run, shown};
use wire::v1::Display;
use wire::v1::outcome::How;

/// An agent in whose workspace the stand-in can be imported.
fn agent() -> Agent {
    let agent = Agent::start();
    let package = agent.workspace().join("matplotlib");
    std::fs::create_dir(&package).unwrap();
    for (name, source) in [
        ("__init__.py", include_str!("common/matplotlib/__init__.py")),
        ("figure.py", include_str!("common/matplotlib/figure.py")),
        ("pyplot.py", include_str!("common/matplotlib/pyplot.py")),
    ] {
        std::fs::write(package.join(name), source).unwrap();
    }
    agent
}

/// What is shown of the stand-in's figure of this name.
fn figure(name: &str, dpi: u32) -> Display {
    shown(&[
        ("text/plain", &format!("<Figure {name}>")),
        ("image/png", &format!("Agg {dpi} {name}")),
    ])
}

/// tests.md B11.
#[tokio::test]
async fn open_figures_are_shown_in_their_order_and_closed() {
    let agent = agent();
    let mut client = agent.client().await;
    let source = "import matplotlib.pyplot as plt\nplt.figure(7, 'a'); plt.figure(3, 'b')\nplt.show()\n'value'";
    let seen = run(&mut client, "a", python(source)).await;
    let value = Display { result: true, ..shown(&[("text/plain", "'value'")]) };
    let expected = [value, figure("a", 100), figure("b", 100)];
    assert_eq!((seen.how(), seen.err(), &seen.displays[..]), (How::Exited(0), "", &expected[..]));
    assert_eq!(run(&mut client, "b", python("plt.show()")).await.displays, []);
    // Before the exception, and not in the next cell.
    let seen = run(&mut client, "c", python("plt.figure(1, 'c'); 1 / 0")).await;
    assert_eq!((seen.exceptions.len(), seen.displays), (1, vec![figure("c", 100)]));
}

/// tests.md C3.
#[tokio::test]
async fn a_figure_is_coarser_before_it_is_too_large() {
    let agent = agent();
    let source = "import matplotlib.pyplot as plt\nlarge = 2 * 1024 * 1024 + 1\n\
        plt.figure(1, 'a').sizes = {100: large, 50: large}\n\
        plt.figure(2, 'b').sizes = {100: large, 50: large, 25: large}";
    let seen = run(&mut agent.client().await, "a", python(source)).await;
    let none = shown(&[("text/plain", "(a figure too large to show: save it to a file)")]);
    assert_eq!(seen.displays, [figure("a", 25), none]);
}

#[tokio::test]
async fn a_figure_that_cannot_be_drawn_is_told_and_costs_no_other() {
    let agent = agent();
    let source = "import matplotlib.pyplot as plt\nplt.figure(1).sizes = None; plt.figure(2, 'b');";
    let seen = run(&mut agent.client().await, "a", python(source)).await;
    let told = "a figure could not be drawn:\n\
        AttributeError: 'NoneType' object has no attribute 'get'\n";
    assert_eq!((seen.how(), seen.err()), (How::Exited(0), told));
    assert_eq!(seen.displays, [figure("b", 100)]);
}

#[tokio::test]
async fn a_figure_that_was_displayed_comes_again_only_if_it_has_changed() {
    let agent = agent();
    let mut client = agent.client().await;
    let source = "import matplotlib.pyplot as plt\nfrom matplotlib.figure import Figure\n\
        a, b = plt.figure(1, 'a'), plt.figure(2, 'b')\ndisplay(a, b)\nb.name = 'c'\na";
    let seen = run(&mut client, "a", python(source)).await;
    let value = Display { result: true, ..figure("a", 100) };
    assert_eq!(seen.displays, [figure("a", 100), figure("b", 100), value, figure("c", 100)]);
    // One that nobody has open has a picture all the same.
    let seen = run(&mut client, "b", python("Figure('d')")).await;
    assert_eq!(seen.displays, [Display { result: true, ..figure("d", 100) }]);
}
