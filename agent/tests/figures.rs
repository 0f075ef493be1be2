//! Figures, with a stand-in for matplotlib: pictures in order, and the data of their charts.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use common::{Agent, Seen, python, run, shown};
use serde_json::{Value, json};
use wire::v1::Display;
use wire::v1::outcome::How;

const CHART: &str = "application/vnd.codesandbox.chart+json";
const NO_CHARTS: &str = r#"{"charts": [], "omitted": 0}"#;

/// An agent in whose workspace the stand-in can be imported.
fn agent() -> Agent {
    let agent = Agent::start();
    let package = agent.workspace().join("matplotlib");
    std::fs::create_dir(&package).unwrap();
    for (name, source) in [
        ("__init__.py", include_str!("common/matplotlib/__init__.py")),
        ("axes.py", include_str!("common/matplotlib/axes.py")),
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
        (CHART, NO_CHARTS),
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

/// The chart form of the only display.
fn charts(seen: &Seen) -> Value {
    let [display] = &seen.displays[..] else { panic!("{:?}", seen.displays) };
    let mimes: Vec<_> = display.forms.iter().map(|form| &*form.mime).collect();
    assert_eq!((seen.err(), &mimes[..]), ("", &["text/plain", "image/png", CHART][..]));
    serde_json::from_slice(&display.forms[2].data).unwrap()
}

/// tests.md B11.
#[tokio::test]
async fn what_a_figures_charts_show_comes_as_data_beside_the_picture() {
    let agent = agent();
    let source = r"
import datetime
import matplotlib.pyplot as plt
from matplotlib.axes import *

names, days = axis(['x', 'y']), axis(['Jan', 'Feb'], DateFormatter())
box = [line([.9, 1.1, 1.1, .9, .9], [2, 2, 4, 4, 2]), line([.9, 1.1], [3, 3])]
whiskers = [line([1, 1], [2, 1]), line([1, 1], [4, 6]), line([.95, 1.05], [1, 1]), line([1], [9])]
path = Answers(vertices=[[2, .9], [2, 1.1], [4, 1.1], [4, .9], [2, .9], [0, 0]])
lying = [line([3, 3], [.9, 1.1]), line([2, 1], [1, 1]), line([4, 6], [1, 1])]
cloud = PathCollection(offsets=Offsets([(1, 2), (3, 4)]), label='cloud')
plt.figure(1, '', [
    axes(lines=[line([1, 2], [3, float('nan')], 'a'), line(['u'], [5])], title='_T', xlabel='X', yscale='log'),
    axes(lines=[line([datetime.date(2020, 1, 2)], [1])], x=days, ylabel='Y'),
    axes(lines=[line([1], [2], style='None')], collections=[cloud]),
    axes(containers=[BarContainer(patches=[bar(0, 5), bar(1, 6), bar(2, 7)], label='g')], x=names),
    axes(containers=[BarContainer(patches=[bar(1, 6, True)], label='h', orientation='horizontal')], y=names),
    axes(patches=[Wedge(label='p', theta1=0, theta2=90), Wedge(label='q', theta1=90, theta2=360)]),
    axes(lines=box + whiskers, x=names),
    axes(lines=lying, patches=[PathPatch(path=path)]),
    axes(lines=[line([1], [2])], containers=[BarContainer(patches=[bar(0, 5)], label='_container0')]),
    axes(collections=[QuadMesh()]),
    axes(label='<colorbar>'),
])
None";
    let seen = run(&mut agent.client().await, "a", python(source)).await;
    let axis = |label: &str| json!({"label": label, "scale": "linear"});
    let named = || json!({"label": "", "scale": "linear", "ticks": ["x", "y"], "omitted": 0});
    let series =
        |label: &str, points: Value| json!({"label": label, "points": points, "omitted": 0});
    let chart = |kind: &str, x: Value, y: Value, series: &[Value]| json!({"type": kind, "title": "", "x": x, "y": y, "series": series, "omitted": 0});
    let five = json!([["min", 1.0], ["q1", 2.0], ["median", 3.0], ["q3", 4.0], ["max", 6.0]]);
    let mut first = chart(
        "line",
        axis("X"),
        json!({"label": "", "scale": "log"}),
        &[series("a", json!([[1.0, 3.0], [2.0, null]])), series("", json!([["u", 5.0]]))],
    );
    first["title"] = "_T".into();
    let (x, y) = (|| axis(""), || axis(""));
    let expected = [
        first,
        chart("line", x(), axis("Y"), &[series("", json!([["2020-01-02", 1.0]]))]),
        chart(
            "scatter",
            x(),
            y(),
            &[series("", json!([[1.0, 2.0]])), series("cloud", json!([[1.0, 2.0], [3.0, 4.0]]))],
        ),
        chart("bar", named(), y(), &[series("g", json!([["x", 5.0], ["y", 6.0], [2.0, 7.0]]))]),
        chart("bar", x(), named(), &[series("h", json!([["y", 6.0]]))]),
        chart("pie", x(), y(), &[series("", json!([["p", 0.25], ["q", 0.75]]))]),
        chart("box", named(), y(), &[series("y", five.clone())]),
        chart("box", x(), y(), &[series("1.0", five)]),
        chart(
            "other",
            x(),
            y(),
            &[series("", json!([[0.0, 5.0]])), series("", json!([[1.0, 2.0]]))],
        ),
        chart("other", x(), y(), &[]),
    ];
    let charts = charts(&seen);
    for (number, (chart, expected)) in
        charts["charts"].as_array().unwrap().iter().zip(&expected).enumerate()
    {
        assert_eq!(chart, expected, "{number}");
    }
    assert_eq!(charts, json!({"charts": expected, "omitted": 0}));
}

#[tokio::test]
async fn what_of_the_charts_is_too_much_is_counted() {
    let agent = agent();
    let source = "import matplotlib.pyplot as plt\nfrom matplotlib.axes import *\n\
        many = axes(lines=[line(range(4999), range(4999))] + [line([1, 2], [3, 4])] * 51, title='t' * 201, x=axis('n' * 51))\n\
        plt.figure(1, '', [many] * 21)\nNone";
    let charts = charts(&run(&mut agent.client().await, "a", python(source)).await);
    let first = &charts["charts"][0];
    let counts = |chart: &Value| {
        let series = chart["series"].as_array().unwrap();
        let told: Vec<_> =
            series.iter().map(|each| each["points"].as_array().unwrap().len()).collect();
        let omitted: Vec<_> = series.iter().map(|each| each["omitted"].as_u64().unwrap()).collect();
        (told, omitted, chart["omitted"].as_u64().unwrap())
    };
    let (mut told, mut omitted) = (vec![0; 50], vec![2; 50]);
    (told[0], told[1]) = (4999, 1);
    (omitted[0], omitted[1]) = (0, 1);
    assert_eq!(counts(first), (told, omitted.clone(), 2));
    omitted[..2].copy_from_slice(&[4999, 2]);
    assert_eq!(counts(&charts["charts"][19]), (vec![0; 50], omitted, 2));
    assert_eq!(first["title"], format!("{}…", "t".repeat(199)));
    assert_eq!((&first["x"]["ticks"], &first["x"]["omitted"]), (&json!(vec!["n"; 50]), &json!(1)));
    assert_eq!((charts["charts"].as_array().unwrap().len(), &charts["omitted"]), (20, &json!(1)));
}

#[tokio::test]
async fn charts_that_cannot_be_read_cost_no_picture() {
    let agent = agent();
    let source = "import matplotlib.pyplot as plt\nplt.figure(1, '', [object()])\nNone";
    let seen = run(&mut agent.client().await, "a", python(source)).await;
    assert_eq!(charts(&seen), json!({"charts": [], "error": "AttributeError"}));
}
