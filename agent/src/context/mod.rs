//! Contexts: interpreters that keep their state from one run to the next.
//!
//! One task owns each context and does what is sent to it, in order. A context that a run has made
//! ends with its interpreter; one that was asked for by name stays until it is deleted, and its next run
//! starts the interpreter anew.

mod about;
mod fork;
mod interpreter;
pub(crate) mod language;
mod owner;
pub(crate) mod protocol;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use wire::limits::{MAX_CONTEXTS, MAX_FORKS};
use wire::v1::{self, ContextInfo, CreateContextReply};
use wire::{Code, Error};

use crate::reaper::Reaper;
use crate::run::{Run, spec};
use crate::settings::Settings;
use about::About;
use fork::Zygote;
use interpreter::{Interpreter, Place};
use language::Language;
use owner::{Inbox, Job, Task, watch_queued};

/// How many runs may wait for one context.
const QUEUE: usize = 16;

/// The contexts of this sandbox, by name.
#[derive(Debug)]
pub(crate) struct Contexts {
    reaper: Reaper,
    settings: Arc<Settings>,
    zygote: Zygote,
    live: Mutex<HashMap<String, Context>>,
}

/// A context, and the way to who owns it.
#[derive(Debug)]
struct Context {
    about: Arc<About>,
    jobs: mpsc::Sender<Job>,
    /// Set when it is deleted.
    deleted: watch::Sender<bool>,
}

impl Contexts {
    pub(crate) fn new(reaper: Reaper, settings: Arc<Settings>) -> Arc<Self> {
        Arc::new(Self { reaper, settings, zygote: Zygote::default(), live: Mutex::default() })
    }

    /// Queues code for a context, which is made if there is none of that name.
    pub(crate) fn run(self: &Arc<Self>, run: Arc<Run>, code: v1::Code, limit: Duration) {
        let task = Task { run: Arc::clone(&run), source: code.source, limit };
        let sent = Language::named(&code.language).and_then(|language| {
            let about = || About::new(&code.context, language, self.place(""));
            let mut contexts = self.lock();
            let context = self.enter(&mut contexts, &code.context, about, None)?;
            context.speaks(language)?;
            context.send(Job::Run(task))
        });
        match sent {
            Ok(()) => drop(tokio::spawn(watch_queued(run))),
            Err(error) => run.fail(error),
        }
    }

    /// Makes a context that stays until it is deleted, and waits until its interpreter is up.
    pub(crate) async fn create(
        self: &Arc<Self>,
        request: v1::CreateContextRequest,
    ) -> Result<CreateContextReply, Error> {
        let v1::CreateContextRequest { name, language, cwd, env } = request;
        let language = Language::named(&language)?;
        let name = spec::context(&name, language)?;
        spec::place(&cwd, &env)?;
        let about = About::new(&name, language, Place { env, ..self.place(&cwd) });
        about.keep();
        let (reply, up) = oneshot::channel();
        {
            let mut contexts = self.lock();
            if let Some(known) = contexts.get(&name) {
                known.about.same(&about)?;
                known.about.keep();
                return Ok(CreateContextReply { context: Some(known.info()), existed: true });
            }
            self.enter(&mut contexts, &name, || about, None)?.send(Job::Start(reply))?;
        }
        up.await.unwrap_or_else(|_| Err(deleted(&name)))?;
        let context = self.lock().get(&name).map(Context::info);
        Ok(CreateContextReply {
            context: Some(context.ok_or_else(|| deleted(&name))?),
            existed: false,
        })
    }

    /// What contexts there are, by name.
    pub(crate) fn list(&self) -> Vec<ContextInfo> {
        let mut contexts: Vec<_> = self.lock().values().map(Context::info).collect();
        contexts.sort_by(|one, other| one.name.cmp(&other.name));
        contexts
    }

    /// Ends a context and waits until nothing of it is left. Says whether there was one.
    pub(crate) async fn delete(&self, name: &str) -> bool {
        let Some(context) = self.lock().remove(name) else { return false };
        context.deleted.send_replace(true);
        context.jobs.closed().await;
        true
    }

    /// Cancels the run that a context is at, and gives its id.
    pub(crate) fn interrupt(&self, name: &str) -> Result<Option<String>, Error> {
        let contexts = self.lock();
        let context = contexts.get(name).ok_or_else(|| not_found(name))?;
        Ok(context.about.interrupt())
    }

    /// Makes copies of a context, each with all of its state so far.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        name: &str,
        copies: &[String],
    ) -> Result<Vec<ContextInfo>, Error> {
        if copies.is_empty() || copies.len() > MAX_FORKS {
            let message =
                format!("copies: name 1 to {MAX_FORKS} of them, {} are named", copies.len());
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let mut made = Vec::new();
        for copy in copies {
            made.push(self.fork_one(name, copy).await?);
        }
        Ok(made)
    }

    async fn fork_one(self: &Arc<Self>, name: &str, copy: &str) -> Result<ContextInfo, Error> {
        let (reply, forked) = oneshot::channel();
        let about = {
            let contexts = self.lock();
            let origin = contexts.get(name).ok_or_else(|| not_found(name))?;
            if !origin.about.language.forks {
                return Err(origin.about.language.unforkable());
            }
            let about = origin.about.copy(&spec::context(copy, origin.about.language)?);
            if let Some(known) = contexts.get(copy) {
                known.about.same(&about)?;
                return Ok(known.info());
            }
            full(contexts.len())?;
            origin.send(Job::Fork(reply))?;
            about
        };
        about.keep();
        let interpreter = forked.await.unwrap_or_else(|_| Err(deleted(name)))?;
        let mut contexts = self.lock();
        if contexts.contains_key(copy) {
            // Ours ends with its handle.
            let message = format!("context {copy} was made meanwhile; choose another name");
            return Err(Error::new(Code::AlreadyExists, message));
        }
        self.enter(&mut contexts, copy, || about, Some(interpreter)).map(Context::info)
    }

    /// The context of this name, with an owner of its own if it is new.
    fn enter<'a>(
        self: &Arc<Self>,
        contexts: &'a mut HashMap<String, Context>,
        name: &str,
        about: impl FnOnce() -> About,
        live: Option<Interpreter>,
    ) -> Result<&'a Context, Error> {
        let count = contexts.len();
        match contexts.entry(name.to_owned()) {
            Entry::Occupied(context) => Ok(context.into_mut()),
            Entry::Vacant(vacant) => {
                full(count)?;
                let about = Arc::new(about());
                let (jobs, queue) = mpsc::channel(QUEUE);
                let (deleted, end) = watch::channel(false);
                let inbox = Inbox { jobs: queue, deleted: end };
                tokio::spawn(Arc::clone(self).own(Arc::clone(&about), inbox, live));
                Ok(vacant.insert(Context { about, jobs, deleted }))
            }
        }
    }

    fn place(&self, cwd: &str) -> Place {
        let workspace = &self.settings.workspace;
        // Joined with nothing it would end in a slash.
        let cwd = if cwd.is_empty() { workspace.clone() } else { workspace.join(cwd) };
        Place { cwd, env: BTreeMap::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Context>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    fn info(&self) -> ContextInfo {
        self.about.info(self.jobs.max_capacity() - self.jobs.capacity())
    }

    fn speaks(&self, language: &Language) -> Result<(), Error> {
        let About { name, language: own, .. } = &*self.about;
        if own.name == language.name {
            return Ok(());
        }
        let message = format!(
            "context {name} speaks {}; use another name for one that speaks {}",
            own.name, language.name
        );
        Err(Error::new(Code::InvalidArgument, message))
    }

    fn send(&self, job: Job) -> Result<(), Error> {
        self.jobs.try_send(job).map_err(|_| {
            let message = format!(
                "context {}: {QUEUE} runs wait for it; wait for them, or use another context",
                self.about.name
            );
            Error::new(Code::ContextBusy, message)
        })
    }
}

fn full(contexts: usize) -> Result<(), Error> {
    if contexts < MAX_CONTEXTS {
        return Ok(());
    }
    let message = format!("{MAX_CONTEXTS} contexts are alive; use one of them, or delete one");
    Err(Error::new(Code::TooMany, message))
}

fn not_found(name: &str) -> Error {
    let message = format!("context {name} does not exist; list those that do, or make it");
    Error::new(Code::ContextNotFound, message)
}

fn deleted(name: &str) -> Error {
    let message = format!("context {name} was deleted meanwhile; make it again");
    Error::new(Code::ContextNotFound, message)
}
