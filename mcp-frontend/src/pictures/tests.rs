use std::{future, io};

use axum::body::Body;
use client::Sandboxes;

use super::*;
use crate::testing;

const URI: &str = "sandbox://a/runs/r/displays/3";

fn form(mime: &str, length: usize) -> Form {
    Form { mime: mime.into(), data: vec![b'x'; length].into() }
}

fn link(form: &Form) -> ContentBlock {
    let link = Resource::new(URI, "picture 1").with_mime_type(&*form.mime);
    ContentBlock::resource_link(link.with_size(form.data.len() as u64))
}

fn told_of(form: &Form, made: &Made) -> Told {
    told(form, "picture 1", URI, made)
}

#[test]
fn the_agent_is_asked_of_what_it_can_scale_and_is_no_ordinary_figure() {
    for (mime, length, asked) in [
        ("image/png", SMALL, false),
        ("image/png", SMALL + 1, true),
        ("image/jpeg", SMALL + 1, true),
        ("image/gif", 2 << 20, false),
        ("image/webp", 2 << 20, false),
    ] {
        assert_eq!(may_be_large(&form(mime, length)), asked, "{mime} {length}");
    }
}

#[test]
fn what_fits_is_told_as_it_is() {
    let form = form("image/png", 4);
    let image = ContentBlock::image("eHh4eA==", "image/png");
    assert_eq!(told_of(&form, &Ok(None)), Told { blocks: vec![image], note: None });
}

#[test]
fn a_smaller_picture_is_told_with_its_sizes_and_its_original_linked() {
    let form = form("image/png", 100_000);
    for (mime, becomes) in [("image/png", ""), ("image/jpeg", ", as image/jpeg")] {
        let reply = PictureReply {
            mime: mime.into(),
            data: b"scaled"[..].into(),
            width: 10,
            height: 1568,
            original_width: 20,
            original_height: 3136,
            ..PictureReply::default()
        };
        let expected = Told {
            blocks: vec![ContentBlock::image("c2NhbGVk", mime), link(&form)],
            note: Some(format!(
                "picture 1: scaled from 20x3136 to 10x1568{becomes}; the original: {URI}"
            )),
        };
        assert_eq!(told_of(&form, &Ok(Some(reply))), expected);
    }
}

#[test]
fn what_cannot_be_scaled_is_linked_and_said() {
    let form = form("image/jpeg", (1 << 20) + 1);
    for (code, said) in [
        (Code::Agent(wire::Code::InvalidArgument), "it cannot be scaled"),
        (Code::Agent(wire::Code::TooMany), "others are being scaled"),
        (Code::SandboxTooOld, "its sandbox is too old to scale it"),
        (Code::Unavailable, "its sandbox does not answer"),
        (Code::Corrupted, "its sandbox does not answer"),
    ] {
        let error = Error { code, message: String::new() };
        let note = Some(format!("picture 1: not shown, since {said}; the original: {URI}"));
        assert_eq!(told_of(&form, &Err(why(&error))), Told { blocks: vec![link(&form)], note });
    }
}

/// A figure in a sandbox that is older than the front end is no reason to see nothing.
#[test]
fn what_nobody_could_tell_about_is_shown_if_its_bytes_fit() {
    for (length, code, shown) in [
        (100_000, Code::SandboxTooOld, true),
        (100_000, Code::Unavailable, true),
        (1 << 20, Code::SandboxTooOld, true),
        ((1 << 20) + 1, Code::SandboxTooOld, false),
        (100_000, Code::Agent(wire::Code::InvalidArgument), false),
    ] {
        let form = form("image/png", length);
        let error = Error { code, message: String::new() };
        let told = told_of(&form, &Err(why(&error)));
        assert_eq!(told == told_of(&form, &Ok(None)), shown, "{length} {error}");
    }
}

async fn asked_of(service: &Service) -> Smaller {
    let request = |number| PictureRequest { number, ..PictureRequest::default() };
    smaller(service, &Principal::new("a"), "a", [request(3), request(5)].into_iter()).await
}

fn unanswered() -> Smaller {
    Smaller::from([(3, Err(NO_ANSWER)), (5, Err(NO_ANSWER))])
}

/// The kube API of the tests is down.
#[tokio::test]
async fn a_sandbox_that_cannot_be_reached_costs_its_pictures_only() {
    assert_eq!(asked_of(&testing::service()).await, unanswered());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_says_nothing_is_waited_for_once() {
    let silent = |_: http::Request<kube::client::Body>| {
        future::pending::<Result<http::Response<Body>, io::Error>>()
    };
    let kube = kube::Client::new(tower::service_fn(silent), "default");
    let service = Service::new(Sandboxes::new(kube, "default"), testing::config());
    let begun = Instant::now();
    assert_eq!(asked_of(&service).await, unanswered());
    assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
}
