use wire::v1::{
    ChangeKind, Changes, Display, Empty, Form, Output, PictureReply, PortChange, Started, Truncated,
};

use super::*;

fn transcript(events: impl IntoIterator<Item = Event>) -> Transcript {
    let mut transcript = Transcript::new("sbx-a".into(), "r-1".into(), 200);
    for (number, event) in events.into_iter().enumerate() {
        transcript.push(RunEvent { number: number as u64, at_ms: 0, event: Some(event) });
    }
    transcript
}

fn output(stream: Stream, text: &str) -> Event {
    Event::Output(Output { stream: stream.into(), data: text.to_owned().into() })
}

fn outcome(how: How) -> Event {
    Event::Outcome(Outcome { how: Some(how), duration_ms: 1234, ..Outcome::default() })
}

fn form(mime: &str, data: &[u8], result: bool) -> Event {
    let form = Form { mime: mime.into(), data: data.to_vec().into() };
    Event::Display(Display { result, forms: vec![form], ..Display::default() })
}

/// tests.md C4 and C6.
#[test]
fn a_failed_run_is_a_successful_call() {
    let result = transcript([
        Event::Started(Started::default()),
        output(Stream::Stdout, "out\n"),
        output(Stream::Stderr, "warned\n"),
        outcome(How::Exited(3)),
    ])
    .told(&Smaller::new());
    assert_eq!(result.is_error, Some(false));
    assert_eq!(
        result.content[0].as_text().unwrap().text,
        "exit_code=3 duration=1.234s run_id=r-1 sandbox_id=sbx-a\n--- stdout\nout\n--- stderr\nwarned"
    );
    assert_eq!(result.structured_content, None);
}

#[test]
fn what_a_run_changed_is_told_or_said_to_be_unknown() {
    let changes = PortChange { kind: ChangeKind::Added.into(), port: 80 };
    let changes = Changes { ports: vec![changes], ..Changes::default() };
    let told = transcript([Event::Changes(changes), outcome(How::Exited(0))]);
    let facts = "exit_code=0 duration=1.234s run_id=r-1 sandbox_id=sbx-a";
    assert_eq!(told.text(), format!("{facts}\n--- changes\nports: +80"));
    let mut told = transcript([outcome(How::Exited(0))]);
    assert_eq!(told.text(), facts);
    told.changes = Asked::Untold;
    let unknown = "what it changed is not known: its sandbox is of an older version, its log is full, or it never began";
    assert_eq!(told.text(), format!("{facts}\n[{unknown}]"));
}

#[test]
fn a_run_that_goes_on_says_how_to_wait_on() {
    let text = transcript([output(Stream::Stdout, "half")]).text();
    assert_eq!(
        text,
        "status=running run_id=r-1 sandbox_id=sbx-a\n--- stdout\nhalf\n[the run goes on; run_output with run_id=r-1 waits on, or call again with the same arguments and it]"
    );
}

#[test]
fn a_run_of_which_nothing_is_known_is_not_said_to_go_on() {
    let text = transcript([]).text();
    assert!(
        text.contains("[nothing is known of the run yet") && !text.contains("goes on"),
        "{text}"
    );
    assert!(text.contains("run_id=r-1 to wait on]"), "{text}");
}

/// exec.md §7, point 8: the agent may lie, and a flood of values must not fill our memory.
#[test]
fn values_and_exceptions_are_bounded_too() {
    let value = || form("text/plain", &[b'v'; 500], true);
    let exception = || {
        let traceback = "t".repeat(500);
        Event::Exception(Exception { traceback, ..Exception::default() })
    };
    let end = outcome(How::Exited(1));
    let text = transcript([value(), value(), exception(), exception(), end]).text();
    assert!(text.len() < 1000, "{} bytes", text.len());
    assert!(text.contains("[... 801 bytes omitted;"), "{text}");
    assert!(text.contains("[... 300 bytes omitted;"), "{text}");
}

#[test]
fn a_lost_run_is_an_error_and_never_an_exit_code() {
    let result = transcript([outcome(How::Lost(Empty {}))]).told(&Smaller::new());
    assert_eq!(result.is_error, Some(true));
    let text = &result.content[0].as_text().unwrap().text;
    assert!(text.starts_with("status=lost ") && text.contains("RUN_LOST: "), "{text}");
}

#[test]
fn what_is_omitted_is_said_to_the_byte() {
    let text = transcript([
        output(Stream::Stdout, &"a".repeat(120)),
        output(Stream::Stdout, &"b".repeat(200)),
        outcome(How::Exited(0)),
    ])
    .text();
    let expected = format!(
        "{}\n[... 120 bytes omitted; raise max_output_chars, or write the output to a file and read parts of it ...]\n{}",
        "a".repeat(50),
        "b".repeat(150)
    );
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn what_is_omitted_is_linked_with_its_size_once_that_is_known() {
    let long = || output(Stream::Stderr, &"e".repeat(300));
    let ended = transcript([output(Stream::Stdout, "whole"), long(), outcome(How::Exited(0))]);
    for (transcript, size) in [(ended, json!(300)), (transcript([long()]), Value::Null)] {
        let content = transcript.told(&Smaller::new()).content;
        let mut link = json!({
            "type": "resource_link",
            "uri": "sandbox://sbx-a/runs/r-1/stderr",
            "name": "stderr of run r-1",
            "mimeType": "text/plain",
            "size": size,
        });
        if size.is_null() {
            link.as_object_mut().unwrap().remove("size");
        }
        assert_eq!(serde_json::to_value(&content[1..]).unwrap(), json!([link]));
    }
}

/// tests.md C2.
#[test]
fn what_the_log_did_not_keep_is_said_to_the_byte() {
    let total = |bytes| Some(StreamTotal { bytes, ..StreamTotal::default() });
    let transcript = transcript([
        output(Stream::Stdout, &"a".repeat(300)),
        output(Stream::Stderr, "e"),
        Event::Truncated(Truncated::default()),
        Event::Outcome(Outcome {
            how: Some(How::Exited(0)),
            stdout: total(1000),
            stderr: total(3),
            truncated: true,
            ..Outcome::default()
        }),
    ]);
    let meta = transcript.meta();
    assert_eq!((&meta["stdout"]["omitted"], &meta["stderr"]["omitted"]), (&json!(800), &json!(2)));
    let text = transcript.text();
    assert!(text.contains("[... 100 bytes omitted;"), "{text}");
    assert!(text.ends_with("\n[the log's bound was reached; 702 bytes of later output were counted, not kept: write large output to a file]"), "{text}");
}

/// exec.md §7, point 8.
#[test]
fn totals_need_not_fit() {
    let total = Some(StreamTotal { bytes: u64::MAX, ..StreamTotal::default() });
    let outcome =
        Outcome { stdout: total.clone(), stderr: total, truncated: true, ..Outcome::default() };
    let text = transcript([Event::Outcome(outcome)]).text();
    assert!(text.contains(&format!("{} bytes of later output", u64::MAX)), "{text}");
}

/// tests.md B11 and C3.
#[test]
fn values_are_sections_of_their_own_and_pictures_are_images() {
    let values = [
        form("text/plain", b"shown", false),
        output(Stream::Stdout, "out"),
        form("text/plain", b"42", true),
    ];
    let pictures = (0..11).map(|_| form("image/png", b"png", false));
    let events = values.into_iter().chain(pictures).chain([outcome(How::Exited(0))]);
    let result = transcript(events).told(&Smaller::new());
    assert_eq!(
        result.content[0].as_text().unwrap().text,
        "exit_code=0 duration=1.234s run_id=r-1 sandbox_id=sbx-a\n--- result\n42\n--- display\nshown\n--- stdout\nout\n[1 pictures omitted: at most 10 of 2 MiB each]"
    );
    let image = result.content[1].as_image().unwrap();
    assert_eq!((image.mime_type.as_str(), image.data.as_str()), ("image/png", "cG5n"));
    assert_eq!(result.content.len(), 11);
}

#[test]
fn the_agent_is_asked_of_large_pictures_by_the_numbers_of_their_events() {
    let large = vec![b'x'; 100_000];
    let transcript = transcript([
        form("image/png", b"png", false),
        form("image/jpeg", &large, false),
        form("image/gif", &large, false),
    ]);
    let asked = PictureRequest {
        run_id: "r-1".into(),
        number: 1,
        mime: "image/jpeg".into(),
        max_side: 1568,
        max_bytes: 1 << 20,
    };
    assert_eq!(transcript.large().collect::<Vec<_>>(), [asked]);
}

#[test]
fn a_smaller_picture_takes_the_place_of_a_large_one_and_says_where_that_is() {
    let small = form("image/png", b"png", false);
    let large = form("image/png", b"large", false);
    let scaled = PictureReply {
        mime: "image/png".into(),
        data: b"scaled"[..].into(),
        width: 1568,
        height: 10,
        original_width: 3136,
        original_height: 20,
        ..PictureReply::default()
    };
    let smaller = Smaller::from([(1, Ok(Some(scaled)))]);
    let result = transcript([small, large, outcome(How::Exited(0))]).told(&smaller);
    let uri = "sandbox://sbx-a/runs/r-1/displays/1";
    let text = format!(
        "exit_code=0 duration=1.234s run_id=r-1 sandbox_id=sbx-a\n[picture 2: scaled from 3136x20 to 1568x10; the original: {uri}]"
    );
    let image = |data| ContentBlock::image(data, "image/png");
    let content = &result.content;
    assert_eq!(content[..3], [ContentBlock::text(text), image("cG5n"), image("c2NhbGVk")]);
    assert_eq!(content[3].as_resource_link().unwrap().uri, uri);
    assert_eq!(content.len(), 4);
}
