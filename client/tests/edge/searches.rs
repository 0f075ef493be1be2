//! Searches, past agents that err and lie.

use client::{Error, Found};
use wire::v1::{
    SearchEnd, SearchEvent, SearchLine, SearchRequest, search_end::Bound, search_event::Event,
};

use crate::support::{Cluster, at_last, soon};

fn line(number: u64) -> SearchLine {
    SearchLine { path: "/x".into(), number, text: "text".into(), ..SearchLine::default() }
}

fn end() -> SearchEnd {
    SearchEnd { files: 1, matches: 2, stopped_by: Bound::Matches.into(), unread: 0 }
}

fn events(lines: u64, end: Option<SearchEnd>) -> Vec<SearchEvent> {
    let lines = (1..=lines).map(|number| Event::Line(line(number)));
    let events = lines.chain(end.map(Event::End));
    events.map(|event| SearchEvent { event: Some(event) }).collect()
}

/// What becomes of a search of an agent that sends this.
async fn search(request: SearchRequest, events: Vec<SearchEvent>) -> Result<Found, Error> {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.search = events);
    soon(cluster.session().search(SearchRequest { path: "/".into(), ..request })).await
}

#[tokio::test]
async fn what_was_found_comes_with_what_was_not_searched() {
    let found = search(SearchRequest::default(), events(2, Some(end()))).await.unwrap();
    assert_eq!(found, Found { lines: vec![line(1), line(2)], end: end() });
}

#[tokio::test]
async fn more_than_a_search_may_find_is_corrupted() {
    let matches = |max_matches| SearchRequest { max_matches, ..SearchRequest::default() };
    let context = SearchRequest { context: 1, ..matches(1) };
    // Path, text and 64 for each.
    let bytes = |max_bytes| SearchRequest { max_bytes, ..SearchRequest::default() };
    for (request, lines, fits) in [
        (matches(2), 2, true),
        (matches(2), 3, false),
        (context.clone(), 3, true),
        (context, 4, false),
        (bytes(140), 2, true),
        (bytes(139), 2, false),
        (matches(0), 1001, false),
    ] {
        let found = search(request.clone(), events(lines, Some(end()))).await;
        match found {
            Ok(found) => assert_eq!((found.lines.len() as u64, fits), (lines, true)),
            Err(error) => assert_eq!(
                (error.to_string().as_str(), fits),
                (
                    "what was found in / arrived corrupted: it is longer than what was asked for",
                    false
                ),
                "{request:?}"
            ),
        }
    }
}

#[tokio::test]
async fn a_search_that_ends_before_its_end_is_a_loss() {
    assert_eq!(
        search(SearchRequest::default(), events(2, None)).await.unwrap_err().to_string(),
        "lost the stream to pod sandbox-0: the search of / ended before its end"
    );
}

#[tokio::test(start_paused = true)]
async fn a_search_that_falls_silent_is_not_waited_for_for_ever() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| {
        script.silent = true;
        script.search = events(1, None);
    });
    let end = at_last(cluster.session().search(SearchRequest::default())).await;
    assert!(matches!(end, Err(Error::Deadline { .. })), "{end:?}");
}
