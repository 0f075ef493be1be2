//! The verbs. Each authorises the handle it is given: an id is a name, not a capability.

use std::{sync::Arc, time::Duration};

use api::{CodeSandbox, condition};
use client::{Sandboxes, Session};
use kube::ResourceExt;
use tokio::time::Instant;
use wire::v1::{
    ContextInfo, CreateContextRequest, Display, EditReply, Entry, ListRequest, OutputReply,
    OutputRequest, PictureReply, PictureRequest, RunEvent, RunInfo, RunSpec, SearchRequest,
    edit_request::Replacement, run_event::Event,
};

use crate::{Code, Create, Error, Principal};

/// How long a call waits for a sandbox that is being made.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// What the verbs need to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The class of the sandboxes that are made and seen.
    pub class: String,
}

/// What callers may do with the sandboxes of one namespace.
pub struct Service {
    sandboxes: Arc<Sandboxes>,
    config: Config,
}

impl Service {
    /// The verbs over a namespace's sandboxes.
    pub fn new(sandboxes: Arc<Sandboxes>, config: Config) -> Self {
        Self { sandboxes, config }
    }

    /// Whether the service can answer: its cache has been filled.
    pub async fn ready(&self) -> bool {
        self.sandboxes.synced(Duration::from_millis(100)).await
    }

    /// How many exec streams to sandboxes are open.
    pub fn streams(&self) -> usize {
        self.sandboxes.streams()
    }

    /// Creates a sandbox. With a name it is idempotent: asked for once more in the same words,
    /// the same sandbox is the answer.
    pub async fn create(
        &self,
        principal: &Principal,
        request: &Create,
    ) -> Result<Arc<CodeSandbox>, Error> {
        let name = request.name.clone().unwrap_or_else(new_name);
        let object = request.object(&name, principal, &self.config.class);
        let error: Error = match self.sandboxes.create(&object).await {
            Ok(created) => return Ok(Arc::new(created)),
            Err(error) => error.into(),
        };
        if error.code != Code::SandboxExists {
            return Err(error);
        }
        match self.find(principal, &name).await {
            Ok(existing) if existing.spec == object.spec => Ok(existing),
            Ok(_) => Err(Error::new(
                Code::SandboxExists,
                format!(
                    "sandbox {name} exists with other settings. Use it as it is, delete it first, or choose another name."
                ),
            )),
            Err(_) => Err(Error::new(
                Code::SandboxExists,
                format!("the name {name} is taken. Choose another name, or none."),
            )),
        }
    }

    /// The caller's sandboxes, by name.
    pub fn list(&self, principal: &Principal) -> Vec<Arc<CodeSandbox>> {
        let all = self.sandboxes.list().into_values();
        all.filter(|sandbox| self.visible(principal, sandbox)).collect()
    }

    /// One of the caller's sandboxes.
    pub async fn get(&self, principal: &Principal, name: &str) -> Result<Arc<CodeSandbox>, Error> {
        self.find(principal, name).await
    }

    /// Deletes a sandbox and everything in it. One that is gone already is fine.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Error> {
        match self.find(principal, name).await {
            Ok(sandbox) => Ok(self.sandboxes.delete(name, sandbox.uid()).await?),
            Err(error) if error.code == Code::SandboxNotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until a sandbox takes calls, cannot, or `deadline`; the sandbox as it then is.
    pub async fn settled(&self, sandbox: &Arc<CodeSandbox>, deadline: Instant) -> Arc<CodeSandbox> {
        let settled = |current: Option<&CodeSandbox>| {
            let Some(current) = current else { return Some(sandbox.clone()) };
            let status = current.status.as_ref()?;
            let settled = status.is_true(condition::READY) || status.is_true(condition::FINISHED);
            settled.then(|| Arc::new(current.clone()))
        };
        if let Some(settled) = self.sandboxes.wait(sandbox, deadline, settled).await {
            return settled;
        }
        match self.sandboxes.get(&sandbox.name_any()).await {
            Ok(Some(current)) if current.uid() == sandbox.uid() => current,
            _ => sandbox.clone(),
        }
    }

    /// Starts a run in a sandbox, or attaches to it if its id is known there. The run goes on
    /// when the answer is dropped.
    pub async fn run(
        &self,
        principal: &Principal,
        sandbox: &str,
        run: String,
        spec: RunSpec,
    ) -> Result<client::Run, Error> {
        Ok(self.session(principal, sandbox).await?.run(run, spec))
    }

    /// Cancels a run; says whether it was going on.
    pub async fn cancel(
        &self,
        principal: &Principal,
        sandbox: &str,
        run: &str,
    ) -> Result<bool, Error> {
        Ok(self.session(principal, sandbox).await?.cancel(run).await?)
    }

    /// The runs a sandbox knows, those that came last first, at most `limit` of them; and whether there are more.
    pub async fn runs(
        &self,
        principal: &Principal,
        sandbox: &str,
        limit: u32,
    ) -> Result<(Vec<RunInfo>, bool), Error> {
        Ok(self.session(principal, sandbox).await?.runs(limit).await?)
    }

    /// A part of what a run has written, as the request says.
    pub async fn output(
        &self,
        principal: &Principal,
        sandbox: &str,
        request: &OutputRequest,
    ) -> Result<OutputReply, Error> {
        Ok(self.session(principal, sandbox).await?.output(request).await?)
    }

    /// Makes a context of this name, or one of its own where none is given; says whether it was there.
    pub async fn create_context(
        &self,
        principal: &Principal,
        sandbox: &str,
        request: &CreateContextRequest,
    ) -> Result<(ContextInfo, bool), Error> {
        Ok(self.session(principal, sandbox).await?.create_context(request).await?)
    }

    /// The contexts of a sandbox, by name.
    pub async fn contexts(
        &self,
        principal: &Principal,
        sandbox: &str,
    ) -> Result<Vec<ContextInfo>, Error> {
        Ok(self.session(principal, sandbox).await?.contexts().await?)
    }

    /// Ends a context; says whether there was one.
    pub async fn delete_context(
        &self,
        principal: &Principal,
        sandbox: &str,
        context: &str,
    ) -> Result<bool, Error> {
        Ok(self.session(principal, sandbox).await?.delete_context(context).await?)
    }

    /// Cancels the run that a context is at, and gives its id.
    pub async fn interrupt_context(
        &self,
        principal: &Principal,
        sandbox: &str,
        context: &str,
    ) -> Result<Option<String>, Error> {
        Ok(self.session(principal, sandbox).await?.interrupt_context(context).await?)
    }

    /// Makes copies of a context by these names.
    pub async fn fork_context(
        &self,
        principal: &Principal,
        sandbox: &str,
        context: &str,
        copies: &[String],
    ) -> Result<Vec<ContextInfo>, Error> {
        Ok(self.session(principal, sandbox).await?.fork_context(context, copies).await?)
    }

    /// What a run has shown in the event of this number.
    pub async fn display(
        &self,
        principal: &Principal,
        sandbox: &str,
        run: &str,
        number: u64,
    ) -> Result<Display, Error> {
        match self.session(principal, sandbox).await?.event(run, number).await? {
            Some(RunEvent { event: Some(Event::Display(display)), .. }) => Ok(display),
            _ => Err(Error::new(
                Code::DisplayNotFound,
                format!(
                    "run {run} has shown nothing in its event {number}. Take the URI from the run's answer."
                ),
            )),
        }
    }

    /// A picture that a run has shown, scaled down as the request says; none where it fits as it is.
    pub async fn picture(
        &self,
        principal: &Principal,
        sandbox: &str,
        request: &PictureRequest,
    ) -> Result<Option<PictureReply>, Error> {
        Ok(self.session(principal, sandbox).await?.picture(request).await?)
    }

    /// Reads at most `length` bytes of a file from `offset` on.
    pub async fn read(
        &self,
        principal: &Principal,
        sandbox: &str,
        path: &str,
        offset: u64,
        length: usize,
    ) -> Result<client::Contents, Error> {
        Ok(self.session(principal, sandbox).await?.read(path, offset, length).await?)
    }

    /// Replaces a file, all of it or nothing; its directories are made.
    pub async fn write(
        &self,
        principal: &Principal,
        sandbox: &str,
        path: &str,
        data: Vec<u8>,
    ) -> Result<Entry, Error> {
        Ok(self.session(principal, sandbox).await?.write(path, data.into(), 0, true).await?)
    }

    /// Appends to a file, all of it or nothing; the file and its directories are made.
    pub async fn append(
        &self,
        principal: &Principal,
        sandbox: &str,
        path: &str,
        data: Vec<u8>,
    ) -> Result<Entry, Error> {
        Ok(self.session(principal, sandbox).await?.append(path, data.into(), true).await?)
    }

    /// Replaces texts in a file, all of them or none; with a digest only if the file has it.
    pub async fn edit(
        &self,
        principal: &Principal,
        sandbox: &str,
        path: &str,
        edits: Vec<Replacement>,
        if_sha256: Vec<u8>,
    ) -> Result<EditReply, Error> {
        Ok(self.session(principal, sandbox).await?.edit(path, edits, if_sha256.into()).await?)
    }

    /// The entries below a directory.
    pub async fn files(
        &self,
        principal: &Principal,
        sandbox: &str,
        request: ListRequest,
    ) -> Result<Vec<Entry>, Error> {
        Ok(self.session(principal, sandbox).await?.find(request).await?)
    }

    /// The lines of files that match a pattern.
    pub async fn search(
        &self,
        principal: &Principal,
        sandbox: &str,
        request: SearchRequest,
    ) -> Result<client::Found, Error> {
        Ok(self.session(principal, sandbox).await?.search(request).await?)
    }

    /// The session with a sandbox's agent, once the sandbox is ready.
    async fn session(&self, principal: &Principal, name: &str) -> Result<Arc<Session>, Error> {
        let mut sandbox = self.find(principal, name).await?;
        if !is(&sandbox, condition::READY) {
            sandbox = self.settled(&sandbox, Instant::now() + READY_DEADLINE).await;
        }
        if is(&sandbox, condition::READY)
            && let Some(session) = self.sandboxes.session(&sandbox)
        {
            return Ok(session);
        }
        Err(not_ready(&sandbox))
    }

    async fn find(&self, principal: &Principal, name: &str) -> Result<Arc<CodeSandbox>, Error> {
        // It becomes a part of a request's path, where `a/status` or `a?watch=1` would be another request.
        let found = if is_name(name) { self.sandboxes.get(name).await? } else { None };
        // Somebody else's sandbox and none at all are told apart to nobody.
        found.filter(|sandbox| self.visible(principal, sandbox)).ok_or_else(|| {
            Error::new(
                Code::SandboxNotFound,
                format!("there is no sandbox {name}: it was deleted, its ttl has ended, or it never was. Call sandbox_create and try again with the new id; its files and variables have to be made anew."),
            )
        })
    }

    fn visible(&self, principal: &Principal, sandbox: &CodeSandbox) -> bool {
        sandbox.spec.class_name == self.config.class && principal.owns(sandbox)
    }
}

fn is(sandbox: &CodeSandbox, condition: &str) -> bool {
    sandbox.status.as_ref().is_some_and(|status| status.is_true(condition))
}

/// Why a sandbox takes no calls, in the words of its conditions.
fn not_ready(sandbox: &CodeSandbox) -> Error {
    let name = sandbox.name_any();
    let status = sandbox.status.clone().unwrap_or_default();
    let words = |type_| {
        let condition = status.condition(type_);
        condition.map_or_else(String::new, |condition| {
            format!(" ({}: {})", condition.reason, condition.message)
        })
    };
    if status.is_true(condition::FINISHED) {
        return Error::new(
            Code::SandboxFinished,
            format!(
                "sandbox {name} has ended{}. Call sandbox_create for a new one.",
                words(condition::FINISHED)
            ),
        );
    }
    Error::new(
        Code::SandboxNotReady,
        format!(
            "sandbox {name} is not ready yet{}. Try again, or look with sandbox_get.",
            words(condition::READY)
        ),
    )
}

/// Whether an object could have this name.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    name.bytes().all(allowed) && name.bytes().any(|byte| byte != b'.') && name.len() <= 253
}

/// A name nobody has: 40 random bits, in letters a person can read out.
fn new_name() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let random: [u8; 8] = rand::random();
    let letters = random.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    format!("sbx-{}", letters.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_name_an_object_is_none() {
        for name in ["a", "sbx-a1", "a.b"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/status", "a?watch=1", "../pods/a", "a%2fb", "A", "é", "a b"]
        {
            assert!(!is_name(name), "{name}");
        }
        assert!(!is_name(&"a".repeat(254)));
    }

    #[test]
    fn a_new_name_is_one_the_crd_takes() {
        let name = new_name();
        assert!(
            name.len() == 12 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            "{name}"
        );
    }
}
