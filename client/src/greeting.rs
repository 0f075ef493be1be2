//! What an agent says of its sandbox when a stream is opened.

use wire::{
    limits::{MAX_LANGUAGES, MAX_PIDS},
    v1::HelloReply,
};

/// What an agent says of its sandbox when a stream is opened, within bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The languages whose programs it has; none from an agent that does not say.
    pub languages: Vec<String>,
    /// How many processes and threads it may have at once, where that is known and limited.
    pub pids_max: Option<u64>,
}

impl From<HelloReply> for Greeting {
    fn from(hello: HelloReply) -> Self {
        // No more than there are, whatever it says; a later agent may well know more.
        let honest = |name: &String| name.len() <= MAX_LANGUAGES;
        let languages = hello.languages.into_iter().filter(honest);
        Self {
            languages: languages.take(MAX_LANGUAGES).collect(),
            pids_max: Some(hello.pids_max).filter(|max| (1..=MAX_PIDS).contains(max)),
        }
    }
}
