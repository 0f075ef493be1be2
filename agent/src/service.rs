//! The service: each call is checked, handed on, and its answer put into the wire's words.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use wire::v1::agent_server::Agent;
use wire::v1::run_spec::What;
use wire::v1::{
    ArchiveEvent, ArchiveRequest, AttachRequest, CancelReply, CancelRequest, ContextsReply,
    ContextsRequest, CopyRequest, CreateContextReply, CreateContextRequest, DeleteContextReply,
    DeleteContextRequest, EditReply, EditRequest, Entry, ExtractReply, ForkContextReply,
    ForkContextRequest, GpusReply, GpusRequest, HelloReply, HelloRequest, InputReply, InputRequest,
    Interactive, InterruptContextReply, InterruptContextRequest, ListRequest, MakeDirectoryRequest,
    MoveRequest, OutputReply, OutputRequest, PictureReply, PictureRequest, ReadEvent, ReadRequest,
    RefusedNamesReply, RefusedNamesRequest, RemoveReply, RemoveRequest, ResumeRequest, RunEvent,
    RunRequest, RunsReply, RunsRequest, SearchEvent, SearchRequest, SetModeRequest, SignalReply,
    SignalRequest, StatRequest, UploadEvent, WatchEvent, WatchRequest, WriteReply, WriteRequest,
};
use wire::{Code, Error};

use crate::context::{Contexts, language};
use crate::files::{self, Extracts, How, Turn, Uploads, Watches};
use crate::gpus;
use crate::idle::Usage;
use crate::isolation::Proof;
use crate::names::Refused;
use crate::pictures;
use crate::reaper::Reaper;
use crate::run::command::{self, Source};
use crate::run::registry::Registry;
use crate::run::{Run, phases, program, spec};
use crate::settings::{self, Settings};
use crate::supervise;

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a connection can call.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) settings: Arc<Settings>,
    pub(crate) usage: Usage,
    pub(crate) proof: Arc<Proof>,
    pub(crate) reaper: Reaper,
    pub(crate) runs: Arc<Registry>,
    pub(crate) contexts: Arc<Contexts>,
    pub(crate) turn: Turn,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) extracts: Extracts,
    pub(crate) watches: Watches,
    pub(crate) scaling: pictures::Turn,
    pub(crate) asking: gpus::Turn,
    /// The names that are refused, where the agent listens for them.
    pub(crate) refused: Option<Arc<Refused>>,
}

impl Service {
    /// The run of this request, started if it is new.
    fn start(&self, request: RunRequest) -> Result<Arc<Run>, Error> {
        let checked = spec::check(&request.run_id, request.spec)?;
        let (run, new) = self.runs.start(&request.run_id, checked.hash, checked.title)?;
        if new {
            run.is_use(self.usage.hold());
            if checked.report_changes {
                run.is_watched(self.settings.workspace.clone());
            }
            // In tasks of their own: a caller that goes away ends nothing.
            let (own, timeout) = (Arc::clone(&run), checked.timeout);
            let (reaper, settings) = (self.reaper.clone(), Arc::clone(&self.settings));
            match checked.what {
                What::Command(command) => {
                    let source = Source::Spec;
                    tokio::spawn(command::run(own, command, source, timeout, reaper, settings));
                }
                What::Interactive(Interactive { command, terminal }) => {
                    let command = command.unwrap_or_default();
                    let source = terminal.map_or(Source::Pipe, Source::Terminal);
                    tokio::spawn(command::run(own, command, source, timeout, reaper, settings));
                }
                What::Code(code) => match program::named(&code.language) {
                    Some(program) => {
                        let source = code.source;
                        tokio::spawn(phases::run(own, program, source, timeout, reaper, settings));
                    }
                    None => self.contexts.run(own, code, timeout),
                },
            }
        }
        Ok(run)
    }

    async fn written(
        &self,
        how: How,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteReply>, Status> {
        let (workspace, parts) = (&self.settings.workspace, request.into_inner());
        Ok(Response::new(files::write(workspace, how, &self.turn, parts).await?))
    }

    /// The languages whose programs are there.
    fn languages(&self) -> Vec<String> {
        let contexts = language::all().map(|language| (language.name, vec![language.program()]));
        let programs = program::all().map(|program| (program.name, program.tools().collect()));
        let installed = |tool: &&str| supervise::installed(tool, &self.settings.workspace);
        let there = contexts.chain(programs).filter(|(_, tools)| tools.iter().all(installed));
        there.map(|(name, _)| name.to_owned()).collect()
    }

    fn resolve(&self, path: &str) -> Result<PathBuf, Error> {
        files::resolve(&self.settings.workspace, path)
    }
}

async fn follow(run: Arc<Run>, from: u64) -> Result<Response<Events<RunEvent>>, Status> {
    run.begun().await?;
    Ok(Response::new(boxed(run.events(from)?)))
}

fn boxed<T>(events: impl Stream<Item = Result<T, Error>> + Send + 'static) -> Events<T> {
    Box::pin(events.map(|event| event.map_err(Status::from)))
}

#[tonic::async_trait]
impl Agent for Service {
    type RunStream = Events<RunEvent>;
    type AttachStream = Events<RunEvent>;
    type ReadStream = Events<ReadEvent>;
    type ResumeStream = Events<ReadEvent>;
    type ListStream = Events<Entry>;
    type FindStream = Events<Entry>;
    type SearchStream = Events<SearchEvent>;
    type UploadStream = Events<UploadEvent>;
    type ArchiveStream = Events<ArchiveEvent>;
    type WatchStream = Events<WatchEvent>;

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let theirs = request.into_inner().protocol;
        if theirs == 0 {
            return Err(Error::new(
                Code::Protocol,
                "the client names no protocol; use one that does",
            )
            .into());
        }
        // The newer end decides whether it still speaks the older one's protocol, and that is the client's.
        Ok(Response::new(HelloReply {
            protocol: wire::PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            pod_uid: self.settings.pod_uid.clone(),
            pids_max: settings::pids_max(),
            languages: self.languages(),
            refuses_names: self.refused.is_some(),
        }))
    }

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<Self::RunStream>, Status> {
        let request = request.into_inner();
        self.proof.hold().await?;
        let from = request.from;
        follow(self.start(request)?, from).await
    }

    async fn attach(
        &self,
        request: Request<AttachRequest>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let request = request.into_inner();
        follow(self.runs.find(&request.run_id)?, request.from).await
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelReply>, Status> {
        let was_running = self.runs.find(&request.into_inner().run_id)?.cancel();
        Ok(Response::new(CancelReply { was_running }))
    }

    async fn input(&self, request: Request<InputRequest>) -> Result<Response<InputReply>, Status> {
        let request = request.into_inner();
        let run = self.runs.find(&request.run_id)?;
        Ok(Response::new(run.input(request).await?))
    }

    async fn signal(
        &self,
        request: Request<SignalRequest>,
    ) -> Result<Response<SignalReply>, Status> {
        let SignalRequest { run_id, signal } = request.into_inner();
        let was_running = self.runs.find(&run_id)?.signal(signal)?;
        Ok(Response::new(SignalReply { was_running }))
    }

    async fn runs(&self, request: Request<RunsRequest>) -> Result<Response<RunsReply>, Status> {
        Ok(Response::new(self.runs.list(request.into_inner().limit)))
    }

    async fn output(
        &self,
        request: Request<OutputRequest>,
    ) -> Result<Response<OutputReply>, Status> {
        let request = request.into_inner();
        let run = self.runs.find(&request.run_id)?;
        Ok(Response::new(run.page(request).await?))
    }

    async fn picture(
        &self,
        request: Request<PictureRequest>,
    ) -> Result<Response<PictureReply>, Status> {
        let request = request.into_inner();
        let run = self.runs.find(&request.run_id)?;
        Ok(Response::new(pictures::picture(&run, request, &self.scaling).await?))
    }

    async fn create_context(
        &self,
        request: Request<CreateContextRequest>,
    ) -> Result<Response<CreateContextReply>, Status> {
        self.proof.hold().await?;
        Ok(Response::new(self.contexts.create(request.into_inner()).await?))
    }

    async fn contexts(
        &self,
        _: Request<ContextsRequest>,
    ) -> Result<Response<ContextsReply>, Status> {
        Ok(Response::new(ContextsReply { contexts: self.contexts.list() }))
    }

    async fn delete_context(
        &self,
        request: Request<DeleteContextRequest>,
    ) -> Result<Response<DeleteContextReply>, Status> {
        let existed = self.contexts.delete(&request.into_inner().name).await;
        Ok(Response::new(DeleteContextReply { existed }))
    }

    async fn interrupt_context(
        &self,
        request: Request<InterruptContextRequest>,
    ) -> Result<Response<InterruptContextReply>, Status> {
        let run_id = self.contexts.interrupt(&request.into_inner().name)?.unwrap_or_default();
        Ok(Response::new(InterruptContextReply { run_id }))
    }

    async fn fork_context(
        &self,
        request: Request<ForkContextRequest>,
    ) -> Result<Response<ForkContextReply>, Status> {
        let ForkContextRequest { name, copies } = request.into_inner();
        let copies = self.contexts.fork(&name, &copies).await?;
        Ok(Response::new(ForkContextReply { copies }))
    }

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let path = self.resolve(&request.path)?;
        let ReadRequest { offset, length, .. } = request;
        Ok(Response::new(boxed(files::read(path, offset, offset, length).await?)))
    }

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<Self::ResumeStream>, Status> {
        let ResumeRequest { rest, digest_from } = request.into_inner();
        let ReadRequest { path, offset, length } = rest.unwrap_or_default();
        let path = self.resolve(&path)?;
        Ok(Response::new(boxed(files::read(path, digest_from, offset, length).await?)))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteReply>, Status> {
        self.written(How::Replace, request).await
    }

    async fn append(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteReply>, Status> {
        self.written(How::Append, request).await
    }

    async fn edit(&self, request: Request<EditRequest>) -> Result<Response<EditReply>, Status> {
        let request = request.into_inner();
        let path = self.resolve(&request.path)?;
        Ok(Response::new(files::edit(path, request, &self.turn).await?))
    }

    async fn list(
        &self,
        request: Request<ListRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let ListRequest { path, depth, limit, glob, after } = request.into_inner();
        let path = self.resolve(&path)?;
        let after = match &after[..] {
            [] => None,
            after => Some(files::resolve_bytes(&self.settings.workspace, after)?),
        };
        let entries = files::list(files::List { path, depth, limit, glob, after }).await?;
        Ok(Response::new(boxed(stream::iter(entries).map(Ok))))
    }

    async fn find(
        &self,
        request: Request<ListRequest>,
    ) -> Result<Response<Self::FindStream>, Status> {
        self.list(request).await
    }

    async fn search(
        &self,
        request: Request<SearchRequest>,
    ) -> Result<Response<Self::SearchStream>, Status> {
        let request = request.into_inner();
        let path = self.resolve(&request.path)?;
        Ok(Response::new(boxed(files::search(path, request).await?)))
    }

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<Entry>, Status> {
        let request = request.into_inner();
        Ok(Response::new(files::stat(self.resolve(&request.path)?, request.sha256).await?))
    }

    async fn remove(
        &self,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveReply>, Status> {
        let request = request.into_inner();
        let path = self.resolve(&request.path)?;
        let existed =
            files::remove(self.settings.workspace.clone(), path, request.recursive).await?;
        Ok(Response::new(RemoveReply { existed }))
    }

    async fn make_directory(
        &self,
        request: Request<MakeDirectoryRequest>,
    ) -> Result<Response<Entry>, Status> {
        let request = request.into_inner();
        let path = self.resolve(&request.path)?;
        Ok(Response::new(files::make_directory(path, request.parents).await?))
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<Entry>, Status> {
        let MoveRequest { from, to, replace } = request.into_inner();
        let (from, to) = (self.resolve(&from)?, self.resolve(&to)?);
        let workspace = self.settings.workspace.clone();
        Ok(Response::new(files::rename(workspace, from, to, replace).await?))
    }

    async fn copy(&self, request: Request<CopyRequest>) -> Result<Response<Entry>, Status> {
        let CopyRequest { from, to, replace, recursive } = request.into_inner();
        let (from, to) = (self.resolve(&from)?, self.resolve(&to)?);
        Ok(Response::new(files::copy(from, to, replace, recursive).await?))
    }

    async fn set_mode(&self, request: Request<SetModeRequest>) -> Result<Response<Entry>, Status> {
        let request = request.into_inner();
        let path = self.resolve(&request.path)?;
        Ok(Response::new(files::set_mode(path, request.mode).await?))
    }

    async fn gpus(&self, _: Request<GpusRequest>) -> Result<Response<GpusReply>, Status> {
        // The nvidia-smi that is asked may be the user's.
        self.proof.hold().await?;
        Ok(Response::new(gpus::gpus(&self.reaper, &self.asking).await?))
    }

    async fn refused_names(
        &self,
        _: Request<RefusedNamesRequest>,
    ) -> Result<Response<RefusedNamesReply>, Status> {
        Ok(Response::new(self.refused.as_ref().map(|refused| refused.told()).unwrap_or_default()))
    }

    async fn upload(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let (workspace, parts) = (&self.settings.workspace, request.into_inner());
        let events = files::upload(workspace, &self.uploads, &self.turn, parts).await?;
        Ok(Response::new(boxed(events)))
    }

    async fn archive(
        &self,
        request: Request<ArchiveRequest>,
    ) -> Result<Response<Self::ArchiveStream>, Status> {
        let path = self.resolve(&request.into_inner().path)?;
        Ok(Response::new(boxed(files::archive(path).await?)))
    }

    async fn extract(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<ExtractReply>, Status> {
        let (workspace, parts) = (&self.settings.workspace, request.into_inner());
        Ok(Response::new(files::extract(workspace, &self.extracts, parts).await?))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let WatchRequest { path, recursive } = request.into_inner();
        let path = self.resolve(&path)?;
        Ok(Response::new(boxed(files::watch(path, recursive, &self.watches).await?)))
    }
}
