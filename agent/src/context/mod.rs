//! Contexts: interpreters that keep their state from one run to the next.
//!
//! One task owns each context and runs what is sent to it, in order. It ends with its interpreter, and
//! the next run of that name starts both anew.

mod interpreter;
pub(crate) mod language;
mod protocol;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use wire::limits::MAX_CONTEXTS;
use wire::v1;
use wire::{Code, Error};

use crate::output;
use crate::reaper::Reaper;
use crate::run::{Cause, End, Run, command};
use crate::settings::Settings;
use interpreter::Interpreter;
use language::Language;

/// How many runs may wait for one context.
const QUEUE: usize = 16;

/// A run on its way to an interpreter.
#[derive(Debug)]
struct Job {
    run: Arc<Run>,
    source: Bytes,
    limit: Duration,
}

/// The contexts of this sandbox, by name.
#[derive(Debug)]
pub(crate) struct Contexts {
    reaper: Reaper,
    settings: Arc<Settings>,
    queues: Mutex<HashMap<String, Queue>>,
}

/// Where runs wait for a context.
#[derive(Debug)]
struct Queue {
    language: &'static Language,
    jobs: mpsc::Sender<Job>,
}

impl Contexts {
    pub(crate) fn new(reaper: Reaper, settings: Arc<Settings>) -> Arc<Self> {
        Arc::new(Self { reaper, settings, queues: Mutex::default() })
    }

    /// Queues code for a context, which is made if there is none of that name.
    pub(crate) fn run(self: &Arc<Self>, run: Arc<Run>, code: v1::Code, limit: Duration) {
        let job = Job { run: Arc::clone(&run), source: code.source, limit };
        let language = Language::named(&code.language);
        match language.and_then(|language| self.queue(language, &code.context, job)) {
            Ok(()) => drop(tokio::spawn(watch_queued(run))),
            Err(error) => run.fail(error),
        }
    }

    fn queue(
        self: &Arc<Self>,
        language: &'static Language,
        name: &str,
        job: Job,
    ) -> Result<(), Error> {
        let mut queues = self.lock();
        let live = queues.len();
        let queue = match queues.entry(name.to_owned()) {
            Entry::Occupied(queue) if queue.get().language.name != language.name => {
                let message = format!(
                    "context {name} speaks {}; use another name for one that speaks {}",
                    queue.get().language.name,
                    language.name
                );
                return Err(Error::new(Code::InvalidArgument, message));
            }
            Entry::Occupied(queue) => queue.into_mut(),
            Entry::Vacant(_) if live >= MAX_CONTEXTS => {
                let message = format!(
                    "{MAX_CONTEXTS} contexts are alive; use one of them, or end one with exit()"
                );
                return Err(Error::new(Code::TooMany, message));
            }
            Entry::Vacant(vacant) => {
                let (sender, jobs) = mpsc::channel(QUEUE);
                tokio::spawn(Arc::clone(self).own(name.to_owned(), language, jobs));
                vacant.insert(Queue { language, jobs: sender })
            }
        };
        queue.jobs.try_send(job).map_err(|_| {
            let message = format!(
                "context {name}: {QUEUE} runs wait for it; wait for them, or use another context"
            );
            Error::new(Code::ContextBusy, message)
        })
    }

    /// Runs what comes for one context until its interpreter has ended and nothing waits.
    async fn own(
        self: Arc<Self>,
        name: String,
        language: &'static Language,
        mut jobs: mpsc::Receiver<Job>,
    ) {
        let mut live = None;
        loop {
            let job = match live.as_mut() {
                Some(interpreter) => next(interpreter, &mut jobs).await,
                None => match self.last(&name, &mut jobs) {
                    Some(job) => Some(job),
                    None => return,
                },
            };
            let Some(job) = job else {
                if let Some((control, output)) = live.take().map(Interpreter::remains) {
                    tokio::spawn(command::outlive(control, output));
                }
                continue;
            };
            live = self.execute(language, live, job).await;
        }
    }

    /// What still waits, or the end of the context: decided under the lock under which jobs are queued.
    fn last(&self, name: &str, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        let mut queues = self.lock();
        let job = jobs.try_recv().ok();
        if job.is_none() {
            queues.remove(name);
        }
        job
    }

    async fn execute(
        &self,
        language: &Language,
        live: Option<Interpreter>,
        job: Job,
    ) -> Option<Interpreter> {
        if !job.run.claim() {
            return live;
        }
        let interpreter = match live {
            Some(interpreter) => interpreter,
            None => match Interpreter::start(language, &self.reaper, &self.settings).await {
                Ok(interpreter) => interpreter,
                Err(error) => {
                    job.run.fail(error);
                    return None;
                }
            },
        };
        if job.run.is_cancelled() {
            // While the interpreter came up.
            job.run.finish(cancelled());
            return Some(interpreter);
        }
        interpreter.execute(&job.run, &job.source, job.limit).await
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next job; `None` when the interpreter has ended before one came.
async fn next(interpreter: &mut Interpreter, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    tokio::select! {
        biased;
        // First: nothing is given to an interpreter that is known to be dead.
        () = interpreter.idle() => None,
        job = jobs.recv() => job,
    }
}

/// The end of a run that was cancelled before anything of it ran.
fn cancelled() -> End {
    End { cause: Some(Cause::Cancelled), totals: output::nothing(), ..End::default() }
}

/// Ends a run that is cancelled before its turn has come.
async fn watch_queued(run: Arc<Run>) {
    tokio::select! {
        _ = run.begun() => {}
        () = run.until_cancelled() => if run.claim() {
            run.finish(cancelled());
        }
    }
}
