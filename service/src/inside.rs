//! The verbs about what is in a sandbox: runs, contexts and files. Each finds the sandbox by its handle, which
//! authorises it, and asks the agent.

use client::Greeting;
use wire::v1::{
    ContextInfo, CreateContextRequest, Display, EditReply, Entry, GpusReply, InputReply,
    InputRequest, ListRequest, OutputReply, OutputRequest, PictureReply, PictureRequest,
    RefusedNamesReply, RunEvent, RunInfo, RunSpec, SearchRequest, edit_request::Replacement,
    run_event::Event,
};

use crate::{Code, Error, Principal, Service};

impl Service {
    /// What the agent of a sandbox said when its stream was opened.
    pub async fn greeting(&self, principal: &Principal, sandbox: &str) -> Result<Greeting, Error> {
        Ok(self.session(principal, sandbox).await?.greeting().await?)
    }

    /// The GPUs that a sandbox has now, and their driver.
    pub async fn gpus(&self, principal: &Principal, sandbox: &str) -> Result<GpusReply, Error> {
        Ok(self.session(principal, sandbox).await?.gpus().await?)
    }

    /// The names that a sandbox was refused, by their domains.
    pub async fn refused_names(
        &self,
        principal: &Principal,
        sandbox: &str,
    ) -> Result<RefusedNamesReply, Error> {
        Ok(self.session(principal, sandbox).await?.refused_names().await?)
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

    /// Starts an interactive run in a sandbox, or attaches to it if its id is known there.
    pub async fn interactive(
        &self,
        principal: &Principal,
        sandbox: &str,
        run: String,
        spec: RunSpec,
    ) -> Result<client::Run, Error> {
        Ok(self.session(principal, sandbox).await?.interactive(run, spec).await?)
    }

    /// Writes to the stdin of an interactive run, as the request says.
    pub async fn input(
        &self,
        principal: &Principal,
        sandbox: &str,
        request: InputRequest,
    ) -> Result<InputReply, Error> {
        Ok(self.session(principal, sandbox).await?.input(request).await?)
    }

    /// Sends a signal to a run, by its number on Linux; says whether it was going on.
    pub async fn signal(
        &self,
        principal: &Principal,
        sandbox: &str,
        run: &str,
        signal: i32,
    ) -> Result<bool, Error> {
        Ok(self.session(principal, sandbox).await?.signal(run, signal).await?)
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
}
