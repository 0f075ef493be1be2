//! What reads bytes of clients and sandboxes, for `fuzz/`. Nobody else should call it.

use rmcp::model::CallToolResult;
use serde::de::DeserializeOwned;
use wire::v1::{OutputReply, RunEvent};

use crate::{args, page, pictures::Smaller, transcript::Transcript, uris::Uri};

/// A resource's URI: one that is taken is written in a way that names the same.
pub fn uri(text: &str) {
    if let Ok(uri) = Uri::parse(text) {
        assert_eq!(Uri::parse(&uri.to_string()).as_ref(), Ok(&uri));
    }
}

/// A tool's arguments, of every tool that takes more than an id.
pub fn arguments(bytes: &[u8]) {
    fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
        serde_json::from_slice(bytes).ok()
    }
    read::<args::SandboxCreate>(bytes);
    read::<args::RunCode>(bytes).map(|args| args.options());
    read::<args::RunCommand>(bytes).map(|args| args.options());
    read::<args::RunOutput>(bytes).map(|args| args.request());
    read::<args::RunList>(bytes);
    read::<args::FileRead>(bytes);
    read::<args::FileWrite>(bytes);
    read::<args::FileEdit>(bytes);
    read::<args::FileSearch>(bytes);
    read::<args::FileList>(bytes);
}

/// A run's events, as an agent sends them: what is told of them is bounded.
pub fn transcript(events: impl IntoIterator<Item = RunEvent>) {
    const MAX: usize = 200;
    let mut transcript = Transcript::new("a".into(), "r".into(), MAX);
    for event in events {
        if transcript.push(event) {
            break;
        }
    }
    let told = transcript.told(&Smaller::new());
    let text = told.content[0].as_text().map_or(0, |block| block.text.len());
    // Five sections, each in three bytes for one that is no UTF-8, and words around them.
    assert!(text < 5 * 3 * MAX + 5000, "{text} bytes are told");
}

/// A part of a run's output, as an agent sends it.
pub fn page(reply: &OutputReply) -> Option<CallToolResult> {
    let args = serde_json::json!({"sandbox_id": "a", "run_id": "r"});
    Some(page::told(&serde_json::from_value(args).ok()?, reply))
}
