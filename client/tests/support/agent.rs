//! An agent that does as it is told: honest by default, a liar where a test makes it one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::{
    Code,
    limits::CHUNK,
    v1::{
        self, ArchiveEvent, ArchiveRequest, AttachRequest, CancelReply, CancelRequest, ContextInfo,
        ContextsReply, ContextsRequest, CopyRequest, CreateContextReply, CreateContextRequest,
        DeleteContextReply, DeleteContextRequest, EditReply, EditRequest, Entry, ExtractReply,
        ForkContextReply, ForkContextRequest, GpusReply, GpusRequest, HelloReply, HelloRequest,
        InputReply, InputRequest, InterruptContextReply, InterruptContextRequest, ListRequest,
        MakeDirectoryRequest, MoveRequest, OutputReply, OutputRequest, PictureReply,
        PictureRequest, ReadEnd, ReadEvent, ReadRequest, RefusedNamesReply, RefusedNamesRequest,
        RemoveReply, RemoveRequest, ResumeRequest, RunEvent, RunInfo, RunRequest, RunsReply,
        RunsRequest, SearchEvent, SearchRequest, SetModeRequest, SignalReply, SignalRequest,
        StatRequest, UploadEvent, UploadFrom, WatchEvent, WatchRequest, WriteReply, WriteRequest,
        read_event, upload_event, write_request::Part,
    },
};

use super::events;

/// The UID of the pod the agent says it is in, unless told otherwise.
pub const UID: &str = "uid-1";

/// A call about a run that reached the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Run(String, u64),
    Attach(String, u64),
}

/// What the agent says.
pub struct Script {
    pub hello: HelloReply,
    /// What every run sends.
    pub events: events::Script,
    /// Said of every Stat.
    pub stat: Result<(), Status>,
    /// What every Stat says of a path.
    pub entry: Entry,
    /// The one file there is.
    pub file: Bytes,
    /// What every Read sends in the file's stead.
    pub read: Option<Vec<ReadEvent>>,
    /// Said of a Write before its data have come.
    pub refuse_write: Option<wire::Error>,
    /// Said of one Edit after the other, where it is something.
    pub refuse_edit: VecDeque<Option<wire::Error>>,
    /// Said to be the digest of what was written.
    pub written: Option<Bytes>,
    /// Knows only the calls of the first agents.
    pub old: bool,
    /// What every List sends, whatever its limit.
    pub entries: Vec<Entry>,
    /// What every call about contexts says of them.
    pub contexts: Vec<ContextInfo>,
    /// What Runs says, whatever its limit.
    pub infos: Vec<RunInfo>,
    /// What Output says.
    pub output: OutputReply,
    /// What Picture says, whatever its bounds.
    pub picture: PictureReply,
    /// What Gpus says.
    pub gpus: GpusReply,
    /// What RefusedNames says.
    pub refused: RefusedNamesReply,
    /// What every Search sends, whatever its bounds.
    pub search: Vec<SearchEvent>,
    /// What every Archive sends.
    pub archive: Vec<ArchiveEvent>,
    /// What every Watch sends.
    pub watch: Vec<WatchEvent>,
    /// Streams of files, entries and lines do not end.
    pub silent: bool,
    /// How long each message of those streams takes.
    pub pace: Duration,
}

#[derive(Clone)]
pub struct Agent(Arc<State>);

struct State {
    script: Mutex<Script>,
    known: Mutex<HashSet<String>>,
    forgets: AtomicBool,
    asked: Mutex<Vec<Asked>>,
    /// How many runs were really started.
    starts: watch::Sender<usize>,
    /// How many changes of files were made.
    changes: watch::Sender<usize>,
    /// Whether Run, Attach and changes of files are answered at all.
    answers: watch::Sender<bool>,
    /// How many of a run's events may go out.
    released: watch::Sender<usize>,
    uploads: Mutex<HashMap<String, Upload>>,
}

/// What there is of an upload.
#[derive(Default)]
struct Upload {
    streams: usize,
    data: Vec<u8>,
    reply: Option<WriteReply>,
}

impl Agent {
    pub fn new() -> Self {
        let script = Script {
            hello: HelloReply {
                protocol: wire::PROTOCOL,
                agent_version: "0.1.0".into(),
                pod_uid: UID.into(),
                ..HelloReply::default()
            },
            events: Vec::new(),
            stat: Ok(()),
            entry: Entry::default(),
            file: Bytes::new(),
            read: None,
            refuse_write: None,
            refuse_edit: VecDeque::new(),
            written: None,
            old: false,
            entries: Vec::new(),
            contexts: Vec::new(),
            infos: Vec::new(),
            output: OutputReply::default(),
            picture: PictureReply::default(),
            gpus: GpusReply::default(),
            refused: RefusedNamesReply::default(),
            search: Vec::new(),
            archive: Vec::new(),
            watch: Vec::new(),
            silent: false,
            pace: Duration::ZERO,
        };
        Self(Arc::new(State {
            script: Mutex::new(script),
            known: Mutex::default(),
            forgets: AtomicBool::new(false),
            asked: Mutex::default(),
            starts: watch::Sender::new(0),
            changes: watch::Sender::new(0),
            answers: watch::Sender::new(true),
            released: watch::Sender::new(usize::MAX),
            uploads: Mutex::default(),
        }))
    }

    pub fn script<T>(&self, f: impl FnOnce(&mut Script) -> T) -> T {
        f(&mut self.0.script.lock().unwrap())
    }

    pub fn runs(&self, events: events::Script) {
        self.script(|script| script.events = events);
    }

    /// Lets only so many events of each run out.
    pub fn release(&self, events: usize) {
        self.0.released.send_replace(events);
    }

    /// Leaves Run, Attach and changes of files without an answer, or answers them.
    pub fn answers(&self, answers: bool) {
        self.0.answers.send_replace(answers);
    }

    /// What an agent does that restarts without its journal.
    pub fn forget(&self) {
        self.0.known.lock().unwrap().clear();
        self.0.uploads.lock().unwrap().clear();
    }

    /// Takes every run and remembers none.
    pub fn forgets_at_once(&self) {
        self.0.forgets.store(true, Ordering::Relaxed);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.0.asked.lock().unwrap().clone()
    }

    pub fn starts(&self) -> usize {
        *self.0.starts.borrow()
    }

    pub async fn started(&self, runs: usize) {
        self.0.starts.subscribe().wait_for(|&starts| starts >= runs).await.unwrap();
    }

    pub fn changes(&self) -> usize {
        *self.0.changes.borrow()
    }

    pub async fn changed(&self, changes: usize) {
        self.0.changes.subscribe().wait_for(|&made| made >= changes).await.unwrap();
    }

    /// Takes what is written, unless that is to be refused: where to, and the digest to answer with.
    async fn written(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<(String, Bytes), Status> {
        if let Some(error) = self.script(|script| script.refuse_write.clone()) {
            return Err(error.into());
        }
        let (path, data) = take(request.into_inner()).await?;
        Ok((path, self.keep(data.into())))
    }

    /// Keeps what was written, and gives the digest to answer with.
    fn keep(&self, data: Bytes) -> Bytes {
        let sha256 = Bytes::from(Sha256::digest(&data).to_vec());
        let told = self.script(|script| {
            script.file = data;
            script.written.clone()
        });
        told.unwrap_or(sha256)
    }

    /// Makes a change, and answers when it may.
    async fn change(&self, path: &str) -> Result<Response<Entry>, Status> {
        self.0.changes.send_modify(|changes| *changes += 1);
        self.0.answers.subscribe().wait_for(|&answers| answers).await.unwrap();
        Ok(Response::new(entry(path)))
    }

    /// Takes one stream of an upload, and goes on where the one before it broke.
    async fn upload(
        self,
        id: String,
        path: String,
        mut parts: Streaming<WriteRequest>,
        events: mpsc::Sender<Result<UploadEvent, Status>>,
    ) {
        let tell = async |event| {
            let _ = events.send(Ok(UploadEvent { event: Some(event) })).await;
        };
        let (stream, first) = {
            let mut uploads = self.0.uploads.lock().unwrap();
            let upload = uploads.entry(id.clone()).or_default();
            upload.streams += 1;
            let from = UploadFrom { bytes: upload.data.len() as u64, known: upload.streams > 1 };
            let from = upload_event::Event::From(from);
            (upload.streams, upload.reply.clone().map_or(from, upload_event::Event::Reply))
        };
        tell(first).await;
        while let Ok(Some(WriteRequest { part: Some(part) })) = parts.message().await {
            let data = {
                let mut uploads = self.0.uploads.lock().unwrap();
                let Some(upload) = uploads.get_mut(&id).filter(|u| u.streams == stream) else {
                    return;
                };
                match part {
                    Part::Data(data) => {
                        upload.data.extend_from_slice(&data);
                        continue;
                    }
                    Part::Start(_) => return,
                    Part::End(end) if Sha256::digest(&upload.data)[..] != end.sha256[..] => None,
                    Part::End(_) => Some(Bytes::from(std::mem::take(&mut upload.data))),
                }
            };
            let Some(data) = data else {
                let _ = events.send(Err(wire::Error::new(Code::Corrupted, path).into())).await;
                return;
            };
            let reply = WriteReply { entry: Some(entry(&path)), sha256: self.keep(data) };
            if let Some(upload) = self.0.uploads.lock().unwrap().get_mut(&id) {
                upload.reply = Some(reply.clone());
            }
            let _ = self.change(&path).await;
            tell(upload_event::Event::Reply(reply)).await;
            return;
        }
    }

    async fn events(&self, from: u64) -> Response<BoxStream<RunEvent>> {
        self.0.answers.subscribe().wait_for(|&answers| answers).await.unwrap();
        // A failure happens once; the next who asks gets what comes after it.
        let events = self.script(|script| {
            let events = script.events.clone();
            script.events.retain(Result::is_ok);
            events
        });
        let from = usize::try_from(from).unwrap();
        let events = stream::iter(events.into_iter().enumerate().skip(from));
        let released = self.0.released.subscribe();
        let events = events.then(move |(index, event)| {
            let mut released = released.clone();
            async move {
                released.wait_for(|&released| released > index).await.unwrap();
                event
            }
        });
        Response::new(events.boxed())
    }

    /// A stream of what is there, and then its end, or none.
    fn stream<T: Send + 'static>(&self, items: Vec<T>) -> Response<BoxStream<T>> {
        let pace = self.script(|script| script.pace);
        let items = stream::iter(items).then(move |item| async move {
            if !pace.is_zero() {
                sleep(pace).await;
            }
            Ok(item)
        });
        if self.script(|script| script.silent) {
            Response::new(items.chain(stream::pending()).boxed())
        } else {
            Response::new(items.boxed())
        }
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub fn entry(path: &str) -> Entry {
    Entry { path: Bytes::from(path.to_owned()), ..Entry::default() }
}

pub fn read_event(event: read_event::Event) -> ReadEvent {
    ReadEvent { event: Some(event) }
}

/// What an honest agent sends of a part of a file.
pub fn read_events(path: &str, data: &Bytes) -> Vec<ReadEvent> {
    let mut events = vec![read_event::Event::Entry(entry(path))];
    let mut rest = data.clone();
    while !rest.is_empty() {
        events.push(read_event::Event::Data(rest.split_to(CHUNK.min(rest.len()))));
    }
    let sha256 = Sha256::digest(data).to_vec().into();
    events.push(read_event::Event::End(ReadEnd { bytes: data.len() as u64, sha256 }));
    events.into_iter().map(read_event).collect()
}

/// Takes in all of a write, as it was sent.
async fn take(mut parts: Streaming<WriteRequest>) -> Result<(String, Vec<u8>), Status> {
    let (mut path, mut data, mut digest) = (String::new(), Vec::new(), Bytes::new());
    while let Some(part) = parts.message().await? {
        match part.part {
            Some(Part::Start(start)) => path = start.path,
            Some(Part::Data(bytes)) => data.extend_from_slice(&bytes),
            Some(Part::End(end)) => digest = end.sha256,
            None => {}
        }
    }
    if Sha256::digest(&data)[..] != digest[..] {
        return Err(wire::Error::new(Code::Corrupted, path).into());
    }
    Ok((path, data))
}

#[tonic::async_trait]
impl v1::agent_server::Agent for Agent {
    type RunStream = BoxStream<RunEvent>;
    type AttachStream = BoxStream<RunEvent>;
    type ResumeStream = BoxStream<ReadEvent>;
    type ReadStream = BoxStream<ReadEvent>;
    type ListStream = BoxStream<Entry>;
    type FindStream = BoxStream<Entry>;
    type SearchStream = BoxStream<SearchEvent>;
    type UploadStream = BoxStream<UploadEvent>;
    type ArchiveStream = BoxStream<ArchiveEvent>;
    type WatchStream = BoxStream<WatchEvent>;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(self.script(|script| script.hello.clone())))
    }

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<Self::RunStream>, Status> {
        let RunRequest { run_id, from, .. } = request.into_inner();
        self.0.asked.lock().unwrap().push(Asked::Run(run_id.clone(), from));
        if self.0.known.lock().unwrap().insert(run_id) {
            self.0.starts.send_modify(|starts| *starts += 1);
        }
        if self.0.forgets.load(Ordering::Relaxed) {
            self.forget();
        }
        Ok(self.events(from).await)
    }

    async fn attach(
        &self,
        request: Request<AttachRequest>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let AttachRequest { run_id, from } = request.into_inner();
        self.0.asked.lock().unwrap().push(Asked::Attach(run_id.clone(), from));
        if !self.0.known.lock().unwrap().contains(&run_id) {
            return Err(wire::Error::new(Code::RunNotFound, format!("no run {run_id}")).into());
        }
        Ok(self.events(from).await)
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        Ok(Response::new(CancelReply { was_running: true }))
    }

    async fn input(&self, request: Request<InputRequest>) -> Result<Response<InputReply>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        self.change("").await?;
        let taken = request.into_inner().data.len() as u64;
        Ok(Response::new(InputReply { taken, ..InputReply::default() }))
    }

    async fn signal(&self, _: Request<SignalRequest>) -> Result<Response<SignalReply>, Status> {
        self.change("").await?;
        Ok(Response::new(SignalReply { was_running: true }))
    }

    async fn runs(&self, _: Request<RunsRequest>) -> Result<Response<RunsReply>, Status> {
        let runs = self.script(|script| script.infos.clone());
        Ok(Response::new(RunsReply { runs, truncated: false }))
    }

    async fn create_context(
        &self,
        _: Request<CreateContextRequest>,
    ) -> Result<Response<CreateContextReply>, Status> {
        let context = self.script(|script| script.contexts.first().cloned());
        Ok(Response::new(CreateContextReply { context, existed: true }))
    }

    async fn contexts(
        &self,
        _: Request<ContextsRequest>,
    ) -> Result<Response<ContextsReply>, Status> {
        let contexts = self.script(|script| script.contexts.clone());
        Ok(Response::new(ContextsReply { contexts }))
    }

    async fn delete_context(
        &self,
        _: Request<DeleteContextRequest>,
    ) -> Result<Response<DeleteContextReply>, Status> {
        let existed = self.script(|script| !script.contexts.is_empty());
        Ok(Response::new(DeleteContextReply { existed }))
    }

    async fn interrupt_context(
        &self,
        _: Request<InterruptContextRequest>,
    ) -> Result<Response<InterruptContextReply>, Status> {
        self.change("").await?;
        let run_id = self.script(|script| script.contexts.first().cloned()).unwrap_or_default();
        Ok(Response::new(InterruptContextReply { run_id: run_id.running }))
    }

    async fn fork_context(
        &self,
        _: Request<ForkContextRequest>,
    ) -> Result<Response<ForkContextReply>, Status> {
        let copies = self.script(|script| script.contexts.clone());
        Ok(Response::new(ForkContextReply { copies }))
    }

    async fn output(&self, _: Request<OutputRequest>) -> Result<Response<OutputReply>, Status> {
        Ok(Response::new(self.script(|script| script.output.clone())))
    }

    async fn gpus(&self, _: Request<GpusRequest>) -> Result<Response<GpusReply>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        Ok(Response::new(self.script(|script| script.gpus.clone())))
    }

    async fn refused_names(
        &self,
        _: Request<RefusedNamesRequest>,
    ) -> Result<Response<RefusedNamesReply>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        Ok(Response::new(self.script(|script| script.refused.clone())))
    }

    async fn picture(&self, _: Request<PictureRequest>) -> Result<Response<PictureReply>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        Ok(Response::new(self.script(|script| script.picture.clone())))
    }

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let ReadRequest { path, offset, length } = request.into_inner();
        let (file, told) = self.script(|script| (script.file.clone(), script.read.clone()));
        let start = usize::try_from(offset).unwrap().min(file.len());
        let end = match usize::try_from(length).unwrap() {
            0 => file.len(),
            length => file.len().min(start + length),
        };
        Ok(self.stream(told.unwrap_or_else(|| read_events(&path, &file.slice(start..end)))))
    }

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<Self::ResumeStream>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        let ResumeRequest { rest, digest_from } = request.into_inner();
        let ReadRequest { path, offset, length } = rest.unwrap();
        let file = self.script(|script| script.file.clone());
        let [from, start, length] =
            [digest_from, offset, length].map(|n| usize::try_from(n).unwrap());
        let end = if length == 0 { file.len() } else { file.len().min(start + length) };
        let mut events = read_events(&path, &file.slice(start..end));
        if let Some(read_event::Event::End(end)) = &mut events.last_mut().unwrap().event {
            let part = from..start + usize::try_from(end.bytes).unwrap();
            end.sha256 = Sha256::digest(&file[part]).to_vec().into();
        }
        Ok(self.stream(events))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteReply>, Status> {
        let (path, sha256) = self.written(request).await?;
        let reply = WriteReply { entry: Some(entry(&path)), sha256 };
        Ok(Response::new(reply))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        Ok(self.stream(self.script(|script| script.entries.clone())))
    }

    async fn append(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteReply>, Status> {
        let (path, data) = take(request.into_inner()).await?;
        let sha256 = Bytes::from(Sha256::digest(&data).to_vec());
        let told = self.script(|script| {
            script.file = [&script.file[..], &data].concat().into();
            script.written.clone()
        });
        let entry = self.change(&path).await?.into_inner();
        Ok(Response::new(WriteReply { entry: Some(entry), sha256: told.unwrap_or(sha256) }))
    }

    async fn edit(&self, request: Request<EditRequest>) -> Result<Response<EditReply>, Status> {
        if let Some(error) = self.script(|script| script.refuse_edit.pop_front()).flatten() {
            return Err(error.into());
        }
        let entry = self.change(&request.into_inner().path).await?.into_inner();
        Ok(Response::new(EditReply { entry: Some(entry), ..EditReply::default() }))
    }

    async fn find(
        &self,
        request: Request<ListRequest>,
    ) -> Result<Response<Self::FindStream>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        self.list(request).await
    }

    async fn search(
        &self,
        _: Request<SearchRequest>,
    ) -> Result<Response<Self::SearchStream>, Status> {
        Ok(self.stream(self.script(|script| script.search.clone())))
    }

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<Entry>, Status> {
        let entry = self.script(|script| script.stat.clone().map(|()| script.entry.clone()))?;
        Ok(Response::new(Entry { path: request.into_inner().path.into(), ..entry }))
    }

    async fn remove(&self, _: Request<RemoveRequest>) -> Result<Response<RemoveReply>, Status> {
        Ok(Response::new(RemoveReply { existed: true }))
    }

    async fn make_directory(
        &self,
        request: Request<MakeDirectoryRequest>,
    ) -> Result<Response<Entry>, Status> {
        self.change(&request.into_inner().path).await
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<Entry>, Status> {
        self.change(&request.into_inner().to).await
    }

    async fn copy(&self, request: Request<CopyRequest>) -> Result<Response<Entry>, Status> {
        self.change(&request.into_inner().to).await
    }

    async fn set_mode(&self, request: Request<SetModeRequest>) -> Result<Response<Entry>, Status> {
        self.change(&request.into_inner().path).await
    }

    async fn upload(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        if let Some(error) = self.script(|script| script.refuse_write.clone()) {
            return Err(error.into());
        }
        let mut parts = request.into_inner();
        let Some(Part::Start(start)) = parts.message().await?.and_then(|request| request.part)
        else {
            return Err(Status::internal("no start"));
        };
        let (told, events) = mpsc::channel(1);
        tokio::spawn(self.clone().upload(start.upload_id, start.path, parts, told));
        Ok(Response::new(ReceiverStream::new(events).boxed()))
    }

    async fn archive(
        &self,
        _: Request<ArchiveRequest>,
    ) -> Result<Response<Self::ArchiveStream>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        Ok(self.stream(self.script(|script| script.archive.clone())))
    }

    async fn extract(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<ExtractReply>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        let (path, sha256) = self.written(request).await?;
        let entry = Some(self.change(&path).await?.into_inner());
        Ok(Response::new(ExtractReply { entry, sha256, ..ExtractReply::default() }))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        if self.script(|script| script.old) {
            return Err(Status::unimplemented(""));
        }
        Ok(self.stream(self.script(|script| script.watch.clone())))
    }
}
