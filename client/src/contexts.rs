//! The contexts of a sandbox: made, listed, interrupted, copied and deleted.

use std::time::Duration;

use wire::{
    limits::{MAX_CONTEXT, MAX_CONTEXTS, MAX_RUN_ID},
    v1::{
        ContextInfo, ContextsRequest, CreateContextRequest, DeleteContextRequest,
        ForkContextRequest, InterruptContextRequest,
    },
};

use crate::{Error, Lane, Session, session::Call};

/// How long an interpreter may take to come up, which is half a minute, or a context to come to a copy.
const PATIENCE: Duration = Duration::from_secs(40);
/// The longest path that Linux takes.
const MAX_PATH: usize = 4096;

impl Session {
    /// Makes a context, which stays until it is deleted; asked for again, it is the one that is there. Says
    /// whether it was.
    pub async fn create_context(
        &self,
        request: &CreateContextRequest,
    ) -> Result<(ContextInfo, bool), Error> {
        let reply = self
            .call(patient("CreateContext"), |mut agent| {
                let request = request.clone();
                async move { agent.create_context(request).await }
            })
            .await?;
        let made = fitting(reply.context.into_iter().collect())?.pop();
        let made = made.ok_or_else(|| corrupted("it is not told what was made"))?;
        Ok((made, reply.existed))
    }

    /// The contexts of the sandbox, by name.
    pub async fn contexts(&self) -> Result<Vec<ContextInfo>, Error> {
        let reply = self
            .call(Call::new("Contexts", Lane::Control), |mut agent| async move {
                agent.contexts(ContextsRequest {}).await
            })
            .await?;
        fitting(reply.contexts)
    }

    /// Ends a context with all that it has started; says whether there was one.
    pub async fn delete_context(&self, name: &str) -> Result<bool, Error> {
        let request = DeleteContextRequest { name: name.into() };
        let reply = self
            .call(Call::new("DeleteContext", Lane::Control), |mut agent| {
                let request = request.clone();
                async move { agent.delete_context(request).await }
            })
            .await?;
        Ok(reply.existed)
    }

    /// Cancels the run that a context is at, and gives its id. Tried again, it may find the next one.
    pub async fn interrupt_context(&self, name: &str) -> Result<Option<String>, Error> {
        let request = InterruptContextRequest { name: name.into() };
        let call = Call::new("InterruptContext", Lane::Control);
        let context = format!("context {name}");
        let reply =
            self.call_once(call, &context, |mut agent| async move {
                agent.interrupt_context(request).await
            })
            .await?;
        Ok(Some(reply.run_id).filter(|id| !id.is_empty()))
    }

    /// Makes copies of a context by these names; those that are there already stay as they are.
    pub async fn fork_context(
        &self,
        name: &str,
        copies: &[String],
    ) -> Result<Vec<ContextInfo>, Error> {
        let request = ForkContextRequest { name: name.into(), copies: copies.to_vec() };
        let reply = self
            .call(patient("ForkContext"), |mut agent| {
                let request = request.clone();
                async move { agent.fork_context(request).await }
            })
            .await?;
        fitting(reply.copies)
    }
}

fn patient(doing: &'static str) -> Call {
    Call { within: PATIENCE, ..Call::new(doing, Lane::Control) }
}

/// Contexts as an honest agent tells of them: a caller that believed all would hold too much.
fn fitting(contexts: Vec<ContextInfo>) -> Result<Vec<ContextInfo>, Error> {
    let fits = |context: &ContextInfo| {
        context.name.len() <= MAX_CONTEXT
            && context.language.len() <= MAX_CONTEXT
            && context.forked_from.len() <= MAX_CONTEXT
            && context.running.len() <= MAX_RUN_ID
            && context.cwd.len() <= MAX_PATH
    };
    if contexts.len() <= MAX_CONTEXTS && contexts.iter().all(fits) {
        return Ok(contexts);
    }
    Err(corrupted("it is longer than what there can be"))
}

fn corrupted(why: &'static str) -> Error {
    Error::Corrupted { what: "the list of contexts".into(), why }
}
