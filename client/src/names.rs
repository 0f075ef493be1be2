//! The names that a sandbox has asked for in vain, as its agent tells of them.

use wire::{
    limits::{MAX_REFUSED_DOMAIN, MAX_REFUSED_DOMAINS},
    v1::{RefusedNamesReply, RefusedNamesRequest},
};

use crate::{Error, Lane, Session, session::Call};

impl Session {
    /// What names the sandbox was refused since its agent began, by their domains: all, where its egress is Deny. An agent that does not
    /// say that it tells is not asked: to one that is too old any call it does not know is a use of the sandbox.
    pub async fn refused_names(&self) -> Result<RefusedNamesReply, Error> {
        if !self.refuses_names().await? {
            return Ok(RefusedNamesReply::default());
        }
        let reply = self
            .call(Call::new("RefusedNames", Lane::Control), |mut agent| async move {
                agent.refused_names(RefusedNamesRequest {}).await
            })
            .await?;
        if reply.domains.len() > MAX_REFUSED_DOMAINS
            || !reply.domains.iter().all(|text| is_domain(text))
        {
            return Err(Error::Corrupted {
                what: "the list of refused names".into(),
                why: "it has more or other domains than any may",
            });
        }
        Ok(reply)
    }
}

/// Whether it is one as honest agents tell it, and so nothing that a terminal or a model would take for more.
fn is_domain(text: &str) -> bool {
    let shown = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'?' | b'.');
    text.len() <= MAX_REFUSED_DOMAIN && text.bytes().all(shown)
}
