//! What the tools take. The doc comments are what models read.

mod files;
mod interactive;
mod runs;
mod sandboxes;

use serde::{Deserialize, Deserializer};

pub(crate) use files::{FileEdit, FileList, FileRead, FileSearch, FileWrite};
pub(crate) use interactive::{RunInput, RunSignal, RunStart};
use runs::default_output;
pub(crate) use runs::{
    Language, OutputStream, RunCode, RunCommand, RunId, RunList, RunOptions, RunOutput,
};
pub(crate) use sandboxes::{
    NetworkAccess, OnIdle, SandboxCreate, SandboxExtend, SandboxId, SandboxList,
};

/// The longest a call waits before it answers that the run goes on, in seconds: clients give up at 60.
pub(crate) const MAX_WAIT: u64 = 45;
/// How long a call waits where its caller says nothing, in seconds.
const DEFAULT_WAIT: u64 = 30;

fn default_wait() -> u64 {
    DEFAULT_WAIT
}

/// Text, or a number or truth value as its text: some clients turn `"1"` into `1` on the way.
fn lenient_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Number(serde_json::Number),
        Bool(bool),
    }
    match Scalar::deserialize(deserializer) {
        Ok(Scalar::Text(text)) => Ok(text),
        Ok(Scalar::Number(number)) => Ok(number.to_string()),
        Ok(Scalar::Bool(truth)) => Ok(truth.to_string()),
        Err(_) => Err(serde::de::Error::custom("expected a string")),
    }
}

fn lenient_text_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Lenient(#[serde(deserialize_with = "lenient_text")] String);
    let text = Option::<Lenient>::deserialize(deserializer)?;
    Ok(text.map(|Lenient(text)| text))
}
