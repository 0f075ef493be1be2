use std::sync::Arc;

use serde_json::Value;
use wire::v1::{Empty, Entry, Outcome, outcome::How};

use super::*;
use crate::{shutdown::Shutdown, testing};

fn json(contents: &[ResourceContents]) -> Value {
    serde_json::to_value(contents).unwrap()
}

fn of_run(uri: &str, reply: OutputReply) -> Value {
    json(&output(&Uri::parse(uri).unwrap(), uri, reply))
}

fn of_file(uri: &str, size: u64, data: &[u8]) -> Value {
    let entry = Entry { size, ..Entry::default() };
    let contents = client::Contents { entry, data: data.into() };
    json(&file(&Uri::parse(uri).unwrap(), uri, contents))
}

fn reply(data: &'static [u8], offset: u64, kept: u64, how: Option<How>) -> OutputReply {
    OutputReply {
        data: data.into(),
        offset,
        next: offset + data.len() as u64,
        kept,
        outcome: how.map(|how| Outcome { how: Some(how), ..Outcome::default() }),
        ..OutputReply::default()
    }
}

fn part(offset: u64, next: u64, total: u64, status: &str) -> Value {
    json!({"codesandbox.dev/part": {"offset": offset, "next": next, "total": total, "status": status}})
}

#[test]
fn the_templates_as_clients_see_them() {
    insta::assert_json_snapshot!(templates());
}

#[test]
fn output_that_is_whole_is_nothing_but_itself() {
    let uri = "sandbox://a/runs/r/stdout";
    assert_eq!(
        of_run(uri, reply(b"all\n", 0, 4, Some(How::Exited(3)))),
        json!([{"uri": uri, "mimeType": "text/plain", "text": "all\n", "_meta": part(0, 4, 4, "exited")}])
    );
}

#[test]
fn a_part_of_output_says_which_uri_goes_on_and_cuts_no_character() {
    let uri = "sandbox://a/runs/r/output?offset=2&length=6";
    let next = "sandbox://a/runs/r/output?offset=7&length=6";
    let cut = &"abcdeé".as_bytes()[..6];
    assert_eq!(
        of_run(uri, reply(cut, 2, 9, Some(How::Exited(0)))),
        json!([
            {"uri": uri, "mimeType": "text/plain", "text": "abcde", "_meta": part(2, 7, 9, "exited")},
            {"uri": next, "mimeType": "text/plain", "text": format!("[these are bytes 2..7 of 9 of output; read {next} for more]")},
        ])
    );
}

#[test]
fn output_of_a_run_that_goes_on_is_not_taken_for_all_of_it() {
    let uri = "sandbox://a/runs/r/stderr";
    let next = "sandbox://a/runs/r/stderr?offset=2";
    assert_eq!(
        of_run(uri, reply(b"ab", 0, 2, None)),
        json!([
            {"uri": uri, "mimeType": "text/plain", "text": "ab", "_meta": part(0, 2, 2, "running")},
            {"uri": next, "mimeType": "text/plain", "text": format!("[these are bytes 0..2 of 2 of stderr; read {next} for more]")},
        ])
    );
}

#[test]
fn a_log_that_could_not_keep_all_says_so_at_its_end() {
    let uri = "sandbox://a/runs/r/stdout";
    let end = OutputReply { truncated: true, ..reply(b"ab", 0, 2, Some(How::Lost(Empty {}))) };
    let said = "[the log's bound was reached; later output was counted, not kept: write large output to a file]";
    assert_eq!(
        of_run(uri, end),
        json!([
            {"uri": uri, "mimeType": "text/plain", "text": "ab", "_meta": part(0, 2, 2, "lost")},
            {"uri": uri, "mimeType": "text/plain", "text": said},
        ])
    );
}

#[test]
fn a_file_is_text_or_a_picture_or_bytes() {
    let uri = "sandbox://a/files/x";
    let meta = |total: usize| json!({"codesandbox.dev/part": {"offset": 0, "next": total, "total": total}});
    for (data, contents) in [
        (&b"text"[..], json!({"mimeType": "text/plain", "text": "text"})),
        (b"\xff\xd8\xff", json!({"mimeType": "image/jpeg", "blob": "/9j/"})),
        (b"GIF89a", json!({"mimeType": "image/gif", "blob": "R0lGODlh"})),
        (b"a\xff", json!({"mimeType": "application/octet-stream", "blob": "Yf8="})),
    ] {
        let mut contents = contents;
        contents["uri"] = uri.into();
        contents["_meta"] = meta(data.len());
        assert_eq!(of_file(uri, data.len() as u64, data), json!([contents]));
    }
    let part = of_file(uri, 9, b"\xff\xd8\xff");
    assert_eq!(part[0]["mimeType"], "application/octet-stream", "a part of a picture is none");
}

#[test]
fn an_answer_is_bounded_whatever_is_asked_for() {
    for (length, expected) in
        [(None, 1 << 20), (Some(0), 1), (Some(7), 7), (Some(u64::MAX), 1 << 20)]
    {
        assert_eq!(most(&Uri { length, ..Uri::file("a", "/x") }), expected, "{length:?}");
    }
}

#[test]
fn what_was_shown_is_its_picture_or_else_its_text() {
    let uri = "sandbox://a/runs/r/displays/3";
    let form = |mime: &str, data: &'static [u8]| Form { mime: mime.into(), data: data.into() };
    let shown = |forms: &[Form]| {
        json(&display(uri, Display { forms: forms.to_vec(), ..Display::default() }))
    };
    let (text, html) = (form("text/plain", b"<Figure>"), form("text/html", b"<b>"));
    let png = form("image/png", b"\x89PNG");
    let svg = form("image/svg+xml", b"<svg/>");
    let of =
        |mime: &str, kind: &str, data: &str| json!([{"uri": uri, "mimeType": mime, kind: data}]);
    assert_eq!(shown(&[text.clone(), html.clone(), png]), of("image/png", "blob", "iVBORw=="));
    assert_eq!(shown(&[html, text]), of("text/plain", "text", "<Figure>"));
    assert_eq!(shown(&[svg]), of("image/svg+xml", "text", "<svg/>"));
    assert_eq!(shown(&[]), json!([]));
}

/// exec.md §7, point 8: the agent may lie.
#[test]
fn what_an_agent_says_of_places_need_not_fit() {
    let uri = format!("sandbox://a/files/x?offset={}", u64::MAX);
    let part = json!({"offset": u64::MAX, "next": u64::MAX, "total": 1});
    assert_eq!(
        of_file(&uri, 1, b"lie"),
        json!([{"uri": uri, "mimeType": "text/plain", "text": "lie", "_meta": {"codesandbox.dev/part": part}}])
    );
}

#[test]
fn what_is_not_there_is_told_from_what_is_wrong_and_from_what_fails() {
    for (code, protocol) in [
        (Code::SandboxNotFound, -32002),
        (Code::DisplayNotFound, -32002),
        (Code::Agent(wire::Code::RunNotFound), -32002),
        (Code::Agent(wire::Code::FileNotFound), -32002),
        (Code::InvalidArgument, -32602),
        (Code::Agent(wire::Code::FileKind), -32602),
        (Code::Unavailable, -32603),
    ] {
        let error = refusal(&Error { code, message: "x".into() });
        let said = format!("{}: x", code.as_str());
        assert_eq!((error.code.0, &*error.message), (protocol, &*said));
    }
}

/// A URI is a name, not a capability.
#[tokio::test(start_paused = true)]
async fn only_its_owner_reads_what_is_in_a_sandbox() {
    let server = Server::new(testing::service(), Arc::default(), Shutdown::default());
    let (me, you) = (Principal::new("me"), Principal::new("you"));
    let request = service::Create { name: Some("a".into()), ..service::Create::default() };
    server.service.create(&me, &request).await.unwrap();
    for uri in ["sandbox://a/runs/r/stdout", "sandbox://a/runs/r/displays/1", "sandbox://a/files/x"]
    {
        let of = async |who| server.resource(who, uri).await.unwrap_err().code;
        assert_eq!(
            (of(&you).await, of(&me).await),
            (Code::SandboxNotFound, Code::SandboxNotReady),
            "{uri}"
        );
    }
}
