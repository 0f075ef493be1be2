//! The events of runs, and their ends.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tonic::Status;
use wire::v1::{
    Empty, Outcome, Output, RunEvent, Started, Stream, StreamTotal, outcome::How, run_event::Event,
};

/// What an agent sends of a run.
pub type Script = Vec<Result<RunEvent, Status>>;

pub fn event(number: u64, event: Event) -> RunEvent {
    RunEvent { number, at_ms: number, event: Some(event) }
}

pub fn started() -> RunEvent {
    event(0, Event::Started(Started { unix_ms: 1, ..Started::default() }))
}

pub fn output(number: u64, stream: Stream, data: impl Into<Bytes>) -> RunEvent {
    event(number, Event::Output(Output { stream: stream.into(), data: data.into() }))
}

pub fn total(data: &[u8]) -> StreamTotal {
    StreamTotal { bytes: data.len() as u64, sha256: Sha256::digest(data).to_vec().into() }
}

pub fn exited(number: u64, stdout: &[u8], stderr: &[u8]) -> RunEvent {
    let outcome = Outcome {
        how: Some(How::Exited(0)),
        stdout: Some(total(stdout)),
        stderr: Some(total(stderr)),
        ..Outcome::default()
    };
    event(number, Event::Outcome(outcome))
}

pub fn lost(number: u64) -> RunEvent {
    let outcome = Outcome { how: Some(How::Lost(Empty {})), ..Outcome::default() };
    event(number, Event::Outcome(outcome))
}

/// A run that prints so many lines, on both streams in turn, and exits.
pub fn lines(count: u64) -> Vec<RunEvent> {
    let mut all = [Vec::new(), Vec::new()];
    let mut events = vec![started()];
    for number in 1..=count {
        let line = format!("line {number}\n");
        let stream = if number % 2 == 0 { Stream::Stderr } else { Stream::Stdout };
        all[usize::from(stream == Stream::Stderr)].extend_from_slice(line.as_bytes());
        events.push(output(number, stream, line));
    }
    events.push(exited(count + 1, &all[0], &all[1]));
    events
}

/// A run that prints more than anybody reads.
pub fn flood(events: u64) -> Vec<RunEvent> {
    let data = Bytes::from(vec![b'x'; wire::limits::CHUNK]);
    let output = |number| output(number, Stream::Stdout, data.clone());
    std::iter::once(started()).chain((1..=events).map(output)).collect()
}

/// As an agent that keeps to the rules sends them.
pub fn script(events: &[RunEvent]) -> Script {
    events.iter().cloned().map(Ok).collect()
}
