//! Contexts that speak R: a workspace that stays as it was left.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::time::Duration;

use common::{Agent, Seen, code, interrupted, limited, refused, run, see, shell, shown, start};
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::run_event::Event;
use wire::v1::{Display, Empty, RunSpec};

fn r(source: &str) -> RunSpec {
    code("r", "", source)
}

/// The types and sizes of what a cell has shown beside its value.
fn pictures(seen: &Seen) -> Vec<(&str, &[u8])> {
    let shown = seen.displays.iter().filter(|display| !display.result);
    let forms = shown.map(|display| {
        let [text, picture] = &display.forms[..] else { panic!("{:?}", display.forms) };
        assert_eq!((&*text.mime, &*picture.mime), ("text/plain", "image/png"));
        (str::from_utf8(&text.data).unwrap(), &picture.data[..8])
    });
    forms.collect()
}

#[tokio::test]
async fn what_was_assigned_stays() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let seen = run(&mut client, "a", r("x <- 20\nf <- function(y) x + y")).await;
    assert_eq!((seen.how(), seen.result()), (How::Exited(0), None));
    assert!(seen.started.unwrap().context_new);
    let seen = run(&mut client, "b", r("library(stats)\nf(22)")).await;
    assert_eq!((seen.result(), seen.err()), (Some("[1] 42"), ""));
    assert!(!seen.started.as_ref().unwrap().context_new);
    assert_eq!(run(&mut client, "c", r(".Last.value * 2")).await.result(), Some("[1] 84"));
    let other = run(&mut client, "d", code("r", "other", "exists('x')")).await;
    assert_eq!(other.result(), Some("[1] FALSE"));
}

/// As in a terminal: whatever is visible is printed. The last is the value of the cell.
#[tokio::test]
async fn what_is_printed_comes_in_its_order_and_the_last_value_apart() {
    let agent = Agent::start();
    let source = "cat('x')\n1:3\nmessage('careful')\ninvisible(4)\nplot(1)\nlog(-1)\nprint('shown')\n'value'";
    let seen = run(&mut agent.client().await, "a", r(source)).await;
    assert_eq!(seen.out(), "x[1] 1 2 3\n[1] NaN\n[1] \"shown\"\n");
    assert_eq!(seen.err(), "careful\nWarning in log(-1) : NaNs produced\n");
    let kinds = seen.events.iter().filter_map(|event| match event.event.as_ref().unwrap() {
        Event::Display(display) if display.result => Some("result"),
        Event::Display(_) => Some("display"),
        Event::Exception(_) => Some("exception"),
        _ => None,
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["result", "display"]);
    assert_eq!((seen.result(), seen.how()), (Some("[1] \"value\""), How::Exited(0)));
}

#[tokio::test]
async fn the_last_value_is_shown_as_r_prints_it() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (number, (source, value)) in [
        ("c(a = 1, b = NA)", Some(" a  b \n 1 NA ")),
        ("factor(c('u', 'v'))", Some("[1] u v\nLevels: u v")),
        ("function(x)  {x}", Some("function(x)  {x}")),
        ("setClass('P', representation(a = 'numeric')); new('P', a = 1)@a", Some("[1] 1")),
        ("new('P', a = 2)", Some("An object of class \"P\"\nSlot \"a\":\n[1] 2\n")),
        (
            "print.own <- function(x, ...) cat('<own>\\n'); structure(1, class = 'own')",
            Some("<own>"),
        ),
        ("print.silent <- function(x, ...) invisible(x); structure(1, class = 'silent')", None),
        ("NULL", Some("NULL")),
        ("invisible(1)", None),
        ("x <- 1", None),
        ("for (i in 1:2) i", None),
        ("# nothing", None),
        ("", None),
        ("\u{feff}'bom'", Some("[1] \"bom\"")),
        ("x <- 'crlf'\r\nif (TRUE)\r\n  x\r\n", Some("[1] \"crlf\"")),
    ]
    .into_iter()
    .enumerate()
    {
        let seen = run(&mut client, &number.to_string(), r(source)).await;
        assert_eq!((seen.result(), seen.how()), (value, How::Exited(0)), "{source}: {seen:?}");
    }
    let seen = run(&mut client, "long", r("rep('é', 1e5)")).await;
    let result = seen.result().unwrap();
    assert!(result.len() < 70_000 && result.ends_with(" bytes in all)"), "{}", result.len());
}

#[tokio::test]
async fn a_data_frame_is_a_table_too() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "data.frame(n = c(1.5, 22), t = c('<b>', 'é & x'))";
    let seen = run(&mut client, "a", r(source)).await;
    let text = "     n     t\n1  1.5   <b>\n2 22.0 é & x";
    let html = "<table><tr><th></th><th>n</th><th>t</th></tr><tr><td>1</td><td>1.5</td><td>&lt;b></td></tr>\
        <tr><td>2</td><td>22.0</td><td>é &amp; x</td></tr></table>";
    let forms = [("text/plain", text), ("text/html", html)];
    assert_eq!(seen.displays, [Display { result: true, ..shown(&forms) }]);
    let seen = run(&mut client, "b", r("data.frame(n = 1:1000)")).await;
    let html = str::from_utf8(&seen.displays[0].forms[1].data).unwrap();
    assert!(html.ends_with("</table><p>60 of 1000 rows</p>"), "{html}");
    let seen = run(&mut client, "c", r("data.frame(t = rep(strrep('x', 1e4), 60))")).await;
    assert_eq!(seen.displays[0].forms.len(), 1, "a table that is too long");
}

#[tokio::test]
async fn plots_are_pictures_and_a_device_of_the_users_is_the_users() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let png = b"\x89PNG\r\n\x1a\n";
    let source = "plot(1:3); lines(3:1)\nhist(c(1, 2))\nkept <- 1";
    let seen = run(&mut client, "a", r(source)).await;
    assert_eq!((seen.out(), seen.err()), ("", ""));
    assert_eq!(pictures(&seen), [("<plot of 700x500 pixels>", &png[..]); 2]);
    let source = "options(repr.plot.width = 4, repr.plot.height = 3); plot(1); stop('after')";
    let seen = run(&mut client, "b", r(source)).await;
    assert_eq!(pictures(&seen), [("<plot of 400x300 pixels>", &png[..])]);
    assert_eq!(seen.exceptions[0].value, "after");
    // Not once more.
    let source = "png('own.png'); plot(1); plot(2); invisible(dev.off()); pdf('own.pdf'); plot(1)";
    let seen = run(&mut client, "c", r(source)).await;
    assert_eq!((seen.displays.len(), seen.how()), (0, How::Exited(0)));
    let seen = run(&mut client, "d", r("points(1); names(dev.list())")).await;
    assert_eq!(seen.result(), Some("[1] \"pdf\""), "{:?}", seen.exceptions);
    let source = "graphics.off(); plot(1); text(1, 1, 'ü'); file.exists('own.png', 'Rplots.pdf')";
    let seen = run(&mut client, "e", r(source)).await;
    assert_eq!((seen.result(), pictures(&seen).len()), (Some("[1]  TRUE FALSE"), 1));
    let source = "options(repr.plot.width = 10, repr.plot.height = 10); par(mar = c(0, 0, 0, 0)); plot.new()\n\
        rasterImage(array(runif(3e6), c(1000, 1000, 3)), 0, 0, 1, 1)";
    let seen = run(&mut client, "f", r(source)).await;
    let left_out = " bytes are too many, save it to a file]\n";
    assert_eq!(seen.displays.len(), 0);
    assert!(seen.err().starts_with("[image/png is left out: ") && seen.err().ends_with(left_out));
}

#[tokio::test]
async fn an_error_has_the_users_calls_only() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let far = "f <- function(a) {\n  stop(\"far ü\")\n}\nf(1)";
    let own =
        "stop(structure(class = c('own', 'error', 'condition'), list(message = 'm', call = NULL)))";
    for (id, source, name, value, traceback) in [
        (
            "a",
            far,
            "Error",
            "far ü",
            "Error in f(1) : far ü\n2: stop(\"far ü\") at <cell 1>#2\n1: f(1) at <cell 1>#4",
        ),
        (
            "b",
            "x y",
            "parseError",
            "<cell 2>:1:3: unexpected symbol\n1: x y\n      ^",
            "Error: <cell 2>:1:3: unexpected symbol\n1: x y\n      ^",
        ),
        (
            "c",
            "1\n1 + 'a'",
            "Error",
            "non-numeric argument to binary operator",
            "Error in 1 + \"a\" : non-numeric argument to binary operator\nat <cell 3>#2",
        ),
        (
            "d",
            own,
            "own",
            "m",
            "Error: m\n1: stop(structure(class = c(\"own\", \"error\", \"condition\"), list(message = \"m\",  at <cell 4>#1",
        ),
        (
            "e",
            "options(warn = 2)\nf <- function() as.integer('x')\nf()",
            "Error",
            "(converted from warning) NAs introduced by coercion",
            "Error in f() : (converted from warning) NAs introduced by coercion\n1: f() at <cell 5>#3",
        ),
        (
            "f",
            "options(warn = 0)\nprint.bad <- function(x, ...) stop('no')\nstructure(1, class = 'bad')",
            "Error",
            "no",
            "Error in print.bad(value) : no\n3: stop(\"no\") at <cell 6>#2\n2: print.bad(value)\n1: print(value)",
        ),
        (
            "g",
            "break",
            "Error",
            "no loop for break/next, jumping to top level",
            "Error: no loop for break/next, jumping to top level\nat <cell 7>#1",
        ),
    ] {
        let seen = run(&mut client, id, r(source)).await;
        let [exception] = &seen.exceptions[..] else { panic!("{id}: {:?}", seen.exceptions) };
        assert_eq!(
            (&*exception.name, &*exception.value, &*exception.traceback, seen.how(), seen.err()),
            (name, value, traceback, How::Exited(1), ""),
            "{id}"
        );
    }
    let deep = "f <- function(n) if (n) f(n - 1) else stop('deep')\nf(200)";
    let seen = run(&mut client, "deep", r(deep)).await;
    assert_eq!(seen.exceptions[0].traceback.lines().count(), 22);
    assert!(seen.exceptions[0].traceback.contains("\n... 182 calls ...\n"));
    let endless = run(&mut client, "endless", r("f <- function(n) f(n + 1)\nf(1)")).await;
    assert_eq!((endless.exceptions.len(), endless.outcome().context_lost), (1, false));
}

#[tokio::test]
async fn a_warning_is_told_at_once_unless_it_is_not_wanted() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "f <- function() warning('own')\nf(); warning('top')\n\
        suppressWarnings(f()); x <- tryCatch(f(), warning = function(w) 'caught')\n\
        options(warn = -1); f(); options(warn = 0); x";
    let seen = run(&mut client, "a", r(source)).await;
    assert_eq!(seen.err(), "Warning in f() : own\nWarning: top\n");
    assert_eq!((seen.result(), seen.how()), (Some("[1] \"caught\""), How::Exited(0)));
}

#[tokio::test]
async fn an_interrupt_ends_what_computes_and_what_waits_and_keeps_state() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", r("kept <- 1; begun <- function() cat('begun\\n')")).await;
    for (id, source) in [
        ("loops", "begun(); while (TRUE) {}; cat('not here')"),
        ("sleeps", "begun(); Sys.sleep(1000); cat('not here')"),
        ("prints", "while (TRUE) begun()"),
        ("catches", "begun(); while (TRUE) tryCatch(while (TRUE) {}, error = function(e) 1)"),
        (
            "shows",
            "print.slow <- function(x, ...) { system('echo begun'); Sys.sleep(1000) }; structure(1, class = 'slow')",
        ),
        ("draws", "begun(); while (TRUE) plot(1)"),
        ("warns", "begun(); options(warn = -1); while (TRUE) warning('x')"),
    ] {
        let seen = interrupted(&mut client, id, r(source)).await;
        assert_eq!(
            (seen.how(), seen.outcome().context_lost, seen.err()),
            (How::Cancelled(Empty {}), false, ""),
            "{id}"
        );
        let [exception] = &seen.exceptions[..] else { panic!("{id}: {:?}", seen.exceptions) };
        let told = (&*exception.name, &*exception.value);
        assert_eq!(told, ("interrupt", "the cell was interrupted"), "{id}");
        assert!(!seen.out().contains("not here"));
        let next = run(&mut client, &format!("{id}-after"), r("cat('fine'); kept")).await;
        assert_eq!((next.out(), next.result()), ("fine", Some("[1] 1")), "{id}: {next:?}");
    }
    let late = limited(r("repeat {}"), Duration::from_millis(300));
    let late = run(&mut client, "late", late).await;
    assert_eq!((late.how(), late.outcome().context_lost), (How::TimedOut(Empty {}), false));
    assert_eq!(run(&mut client, "end", r("kept")).await.result(), Some("[1] 1"));
}

/// R itself does not hear of it while a command runs: the first ends that, the second what follows.
#[tokio::test]
async fn an_interrupt_ends_the_command_that_r_waits_for_and_then_the_cell() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", r("kept <- 1")).await;
    let source = "system('echo begun; sleep 1000'); Sys.sleep(1000)";
    let seen = interrupted(&mut client, "child", r(source)).await;
    assert_eq!(
        (seen.how(), seen.outcome().context_lost, seen.err()),
        (How::Cancelled(Empty {}), false, "")
    );
    assert_eq!(run(&mut client, "end", r("kept")).await.result(), Some("[1] 1"));
}

/// An interrupt comes while a cell ends by itself: it must reach no later one.
#[tokio::test]
async fn an_interrupt_that_comes_late_ends_no_later_cell() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let between = "kept <- 0; system(sprintf('(sleep 0.2; kill -INT %d) &', Sys.getpid()))";
    assert_eq!(run(&mut client, "a", r(between)).await.how(), How::Exited(0));
    run(&mut client, "wait", shell("sleep 0.5")).await;
    let next = run(&mut client, "next", r("Sys.sleep(0.01); kept")).await;
    assert_eq!(next.result(), Some("[1] 0"), "{next:?}");
    for number in 0..40 {
        let limit = Duration::from_millis(1 + number);
        let spin = "t <- Sys.time(); while (Sys.time() - t < 0.02) {}";
        let seen = run(&mut client, &format!("b{number}"), limited(r(spin), limit)).await;
        assert!(!seen.outcome().context_lost, "{number}: {:?}", seen.outcome());
        let source = "Sys.sleep(0.005); kept <- kept + 1; cat(kept)";
        let next = run(&mut client, &format!("c{number}"), r(source)).await;
        assert_eq!(next.out(), (number + 1).to_string(), "{number}: {next:?}");
    }
}

#[tokio::test]
async fn every_death_is_told_apart_and_the_next_run_begins_anew() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, source, how) in [
        ("quit", "cat('last\\n'); quit(status = 7)", How::Exited(7)),
        ("q", "cat('last\\n'); q('no')", How::Exited(0)),
        ("kill", "cat('last\\n'); tools::pskill(Sys.getpid(), 9)", How::Signaled(9)),
    ] {
        let seen = run(&mut client, id, r(source)).await;
        assert_eq!(
            (seen.out(), seen.how(), seen.outcome().context_lost),
            ("last\n", how, true),
            "{id}"
        );
        let next = run(&mut client, &format!("{id}-next"), r("1 + 1")).await;
        let new = next.started.as_ref().unwrap().context_new;
        assert_eq!((new, next.result()), (true, Some("[1] 2")), "{id}");
    }
}

#[tokio::test]
async fn cells_that_wait_run_one_after_another() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let first = start(&mut client, "0", r("n <- 0; Sys.sleep(0.5)"), 0).await.unwrap();
    let mut queued = Vec::new();
    for number in 1..10 {
        let source = format!("stopifnot(n == {number} - 1); n <- {number}; n");
        queued.push(start(&mut client, &number.to_string(), r(&source), 0).await.unwrap());
    }
    assert_eq!(see(first).await.how(), How::Exited(0));
    for (number, events) in (1..).zip(queued) {
        assert_eq!(see(events).await.result(), Some(&*format!("[1] {number}")));
    }
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for (id, last, how) in [("a", "", How::Exited(0)), ("b", "quit(status = 3)", How::Exited(3))] {
        let source = format!("for (i in 1:100) cat(strrep('é', 5e4)); {last}");
        let seen = run(&mut client, id, r(&source)).await;
        assert_eq!((seen.stdout.len(), seen.how()), (10_000_000, how), "{id}");
    }
    let long = format!("x <- '{}'; nchar(x)", "é".repeat(1 << 20));
    assert_eq!(run(&mut client, "long", r(&long)).await.result(), Some("[1] 1048576"));
}

/// As those of mclapply, or one whose user forgets to end it: a second R would take cells, and answer them.
#[tokio::test]
async fn a_fork_of_the_users_is_no_second_interpreter() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "unlist(parallel::mclapply(1:3, function(n) n * 2, mc.cores = 2))";
    assert_eq!(run(&mut client, "a", r(source)).await.result(), Some("[1] 2 4 6"));
    let own = run(&mut client, "b", r("Sys.getpid()")).await;
    let source = "child <- parallel:::mcfork()\nif (inherits(child, 'childProcess')) Sys.sleep(0.5)\nSys.getpid()";
    let seen = run(&mut client, "c", r(source)).await;
    assert_eq!((seen.displays.len(), seen.result()), (1, own.result()), "{seen:?}");
}

#[tokio::test]
async fn input_is_at_its_end() {
    let agent = Agent::start();
    let source = "length(c(readLines(stdin()), scan(quiet = TRUE))) + nchar(readline())\nx <- file('stdin')\n\
        length(readLines(x)); close(x)";
    let seen = run(&mut agent.client().await, "a", r(source)).await;
    assert_eq!((seen.out(), seen.how()), ("\n[1] 0\n[1] 0\n", How::Exited(0)), "{seen:?}");
}

/// What people write at the head of a script.
#[tokio::test]
async fn a_cell_that_clears_everything_clears_nothing_of_ours() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "c <- print <- cat <- paste0 <- eval <- function(...) stop('masked'); x <- 1";
    assert_eq!(run(&mut client, "a", r(source)).await.how(), How::Exited(0));
    assert_eq!(run(&mut client, "b", r("x")).await.result(), Some("[1] 1"));
    let source = "rm(list = ls(all.names = TRUE)); graphics.off(); closeAllConnections(); nrow(showConnections())";
    assert_eq!(run(&mut client, "c", r(source)).await.result(), Some("[1] 0"));
    assert_eq!(
        run(&mut client, "d", r("ls(all.names = TRUE)")).await.result(),
        Some("character(0)")
    );
}

#[tokio::test]
async fn where_r_is_missing_the_answer_says_what_it_needs() {
    let agent = Agent::start_with(&[("PATH", "/no/such/directory")]);
    let error = refused(&mut agent.client().await, "a", r("1")).await;
    assert_eq!(error.code, Code::LanguageUnavailable);
    assert!(
        error.message.ends_with("use an image with R 4.0 or newer, or run commands instead"),
        "{error}"
    );
}
