//! What reads bytes of somebody else's: each target takes any bytes, and panics where it finds a fault.
//!
//! `make fuzz` drives them with libFuzzer, for as long as one likes; `tests/short.rs`, a part of `make
//! unit`, with the corpus and some thousands of mutations of it.
#![expect(clippy::missing_panics_doc, reason = "a panic is how a target says what it has found")]

use std::{io::Write, iter};

use prost::Message;
use wire::v1::{OutputReply, OutputRequest, RunEvent};

/// What an interpreter's driver says to the agent.
pub fn driver(bytes: &[u8]) {
    agent::fuzzing::driver(bytes);
}

/// What a supervisor is told to start.
pub fn spec(bytes: &[u8]) {
    agent::fuzzing::spec(bytes);
}

/// What a supervisor has seen.
pub fn report(bytes: &[u8]) {
    agent::fuzzing::report(bytes);
}

/// The log that a former agent has left.
pub fn log(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("there is room for a file");
    file.write_all(bytes).expect("there is room for these bytes");
    agent::fuzzing::log(file.path());
}

/// What nvidia-smi says, or a file of the driver's.
pub fn gpus(bytes: &[u8]) {
    agent::fuzzing::gpus(&String::from_utf8_lossy(bytes));
}

/// A datagram to who refuses names.
pub fn query(bytes: &[u8]) {
    agent::fuzzing::query(bytes);
}

/// A run's events, each behind its length, as client and front end take them in.
pub fn events(mut bytes: &[u8]) {
    let events: Vec<_> =
        iter::from_fn(|| RunEvent::decode_length_delimited(&mut bytes).ok()).collect();
    client::fuzzing::events(events.clone());
    mcp_frontend::fuzzing::transcript(events);
}

/// What was asked for of a run's output, and what an agent answers, each behind its length.
pub fn output(mut bytes: &[u8]) {
    let Ok(request) = OutputRequest::decode_length_delimited(&mut bytes) else { return };
    let Ok(reply) = OutputReply::decode_length_delimited(&mut bytes) else { return };
    client::fuzzing::output(&request, &reply);
    mcp_frontend::fuzzing::page(&reply);
}

/// The URI of a resource.
pub fn uri(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        mcp_frontend::fuzzing::uri(text);
    }
}

/// The arguments of a tool.
pub fn arguments(bytes: &[u8]) {
    mcp_frontend::fuzzing::arguments(bytes);
}

/// A picture that a run has shown.
pub fn picture(bytes: &[u8]) {
    agent::fuzzing::picture(bytes);
}
