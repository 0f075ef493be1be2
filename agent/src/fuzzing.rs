//! What reads bytes that user code can write, for `fuzz/`. Nobody else should call it.

use std::path::Path;

use bytes::BytesMut;
use prost::Message;
use wire::limits::{MAX_GPU_TEXT, MAX_GPUS, MAX_REFUSED_DOMAIN};
use wire::v1::RunEvent;

use crate::context::protocol;
use crate::control::{Report, Spec};
use crate::gpus;
use crate::names::query::{self, HEADER, Refusal};
use crate::pictures::{self, Bounds};
use crate::run::log::{Log, Reader, START};

/// What an interpreter's driver says, up to the first nonsense.
pub fn driver(bytes: &[u8]) {
    let mut unread = BytesMut::from(bytes);
    while let Ok(Some(_)) = protocol::parse(&mut unread) {}
}

/// What a supervisor is told to start.
pub fn spec(mut bytes: &[u8]) {
    let length = bytes.len();
    if let Ok((_, stdin)) = Spec::read(&mut bytes) {
        assert!(stdin.len() <= length);
    }
}

/// A line of what a supervisor has seen.
pub fn report(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Report>(bytes);
}

/// A log that a former agent has left, in a file of its own: all that is taken up can be read again.
pub fn log(path: &Path) {
    let Ok((log, _)) = Log::open(path) else { return };
    let end = log.end();
    let Ok(mut reader) = Reader::open(path, START) else { return };
    let mut events = 0;
    while let Some(event) = reader.next(end.place).expect("a log is read to its end") {
        RunEvent::decode(event).expect("what was taken up is an event");
        events += 1;
    }
    assert_eq!(events, end.events);
    let (again, _) = Log::open(path).expect("a log that was taken up is one");
    assert_eq!(again.end(), end);
}

/// A picture, in a hundredth of the memory it may take. No bytes are few enough, so that all that can be done
/// to it is done.
pub fn picture(bytes: &[u8]) {
    let bounds = Bounds { side: 4, bytes: 0, memory: 1 << 20 };
    assert!(pictures::small(bytes, &bounds).is_none_or(|reply| reply.data.is_empty()));
}

/// What nvidia-smi says, or a file of the driver's: whatever is told of it is within bounds.
pub fn gpus(text: &str) {
    let reply = gpus::rows(text);
    assert!(reply.gpus.len() <= MAX_GPUS);
    let (version, information) = (gpus::version(text), gpus::information(text));
    let told = reply.gpus.into_iter().chain(information.map(|(_, gpu)| gpu));
    let texts = told.flat_map(|gpu| [gpu.uuid, gpu.name]).chain([reply.driver]).chain(version);
    texts.for_each(|text| assert!(text.len() <= MAX_GPU_TEXT));
}

/// A datagram to who refuses names: what is told is within bounds, and what is sent is a query's beginning but for what makes
/// it a response, which is refused no more.
pub fn query(message: &[u8]) {
    let Some(Refusal { reply, domain }) = query::refuse(message) else { return };
    assert_eq!(reply[..2], message[..2]);
    assert_eq!(reply[HEADER..], message[HEADER..reply.len()]);
    assert!(query::refuse(&reply).is_none());
    assert!(!domain.is_empty() && domain.len() <= MAX_REFUSED_DOMAIN);
    let shown = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'?' | b'.');
    assert!(domain.bytes().all(shown));
}
