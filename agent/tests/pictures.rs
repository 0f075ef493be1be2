//! Pictures that runs have shown, scaled down for who asks.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use bytes::Bytes;
use common::{Agent, Client, DEADLINE, answer, cancel, python, run, start, until};
use tokio::time::timeout;
use wire::v1::{PictureReply, PictureRequest};
use wire::{Code, Error};

/// Grey pictures, made with nothing but what every Python has. One with fewer rows than it says is cut.
const PNG: &str = r#"
import struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
def png(width, height, rows=None):
    pixels = (b"\0" + b"\x80" * width) * (height if rows is None else rows)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
class Picture:
    def __init__(self, *size): self.data = png(*size)
    def __repr__(self): return "picture"
    def _repr_png_(self): return self.data
"#;

fn of(run: &str, number: u64) -> PictureRequest {
    PictureRequest {
        run_id: run.to_owned(),
        number,
        mime: "image/png".to_owned(),
        max_side: 1568,
        max_bytes: 1 << 20,
    }
}

async fn picture(client: &mut Client, request: PictureRequest) -> Result<PictureReply, Error> {
    timeout(DEADLINE, answer(client.picture(request))).await.expect("an answer in time")
}

/// The width and height that a PNG says it has.
fn size(png: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test]
async fn a_large_picture_that_was_shown_is_scaled_and_a_small_one_fits() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = format!("{PNG}\ndisplay(Picture(3000, 1500), Picture(1568, 10))");
    let seen = run(&mut client, "a", python(&source)).await;
    assert_eq!((seen.err(), seen.displays.len()), ("", 2));

    // The run's first event is its start.
    let mut scaled = picture(&mut client, of("a", 1)).await.unwrap();
    let data = std::mem::take(&mut scaled.data);
    let expected = PictureReply {
        fits: false,
        mime: "image/png".to_owned(),
        data: Bytes::new(),
        width: 1568,
        height: 784,
        original_width: 3000,
        original_height: 1500,
    };
    assert_eq!((scaled, size(&data)), (expected, (1568, 784)));
    let fits = PictureReply { fits: true, ..PictureReply::default() };
    assert_eq!(picture(&mut client, of("a", 2)).await, Ok(fits));

    // Of what was shown, nothing has become less.
    let again = common::see(common::attach(&mut client, "a", 0).await.unwrap()).await;
    assert_eq!(again.displays, seen.displays);
}

#[tokio::test]
async fn a_picture_that_cannot_be_scaled_is_refused_and_the_agent_goes_on() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    // One that takes a few bytes more than 64 MiB, and one that ends in its middle.
    let pictures = "Picture(8193, 8192), Picture(2000, 100, 50), Picture(2000, 100)";
    let source = format!("{PNG}\ndisplay({pictures})");
    let seen = run(&mut client, "a", python(&source)).await;
    assert_eq!((seen.err(), seen.displays.len()), ("", 3));
    for number in [1, 2] {
        let error = picture(&mut client, of("a", number)).await.unwrap_err();
        let message = format!(
            "the picture in event {number} of run a cannot be scaled: it is broken, or takes too much memory; read it as it is"
        );
        assert_eq!(error, Error::new(Code::InvalidArgument, message));
    }
    let scaled = picture(&mut client, of("a", 3)).await.unwrap();
    assert_eq!((scaled.width, scaled.height), (1568, 78));
}

#[tokio::test]
async fn what_is_no_picture_is_refused_at_once() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "display('shown'); print('there', flush=True); import time; time.sleep(60)";
    let mut events = start(&mut client, "a", python(source), 0).await.unwrap();
    until(&mut events, "there").await;
    // A start, a text, and what is not there yet.
    for number in [0, 1, 1000] {
        let error = picture(&mut client, of("a", number)).await.unwrap_err();
        let message = format!("run a: shows no image/png in its event {number}");
        assert_eq!(error, Error::new(Code::InvalidArgument, message));
    }
    assert!(cancel(&mut client, "a").await);
    let error = picture(&mut client, of("b", 1)).await.unwrap_err();
    assert_eq!(error.code, Code::RunNotFound);
}

#[tokio::test]
async fn pictures_asked_for_at_once_come_one_after_the_other() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = format!("{PNG}\ndisplay(Picture(2000, 200))");
    let seen = run(&mut client, "a", python(&source)).await;
    assert_eq!((seen.err(), seen.displays.len()), ("", 1));
    let all = (0..10).map(|_| {
        let mut client = client.clone();
        async move { picture(&mut client, of("a", 1)).await.unwrap() }
    });
    for scaled in futures::future::join_all(all).await {
        assert_eq!((size(&scaled.data), scaled.original_width), ((1568, 157), 2000));
    }
}
