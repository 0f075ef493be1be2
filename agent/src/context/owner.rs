//! Who owns a context: does what is sent to it in order, and starts its interpreter when it is needed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use wire::Error;

use super::about::About;
use super::interpreter::Interpreter;
use super::{Context, Contexts, fork};
use crate::output;
use crate::run::{Cause, End, Run};

/// Code on its way to an interpreter.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) run: Arc<Run>,
    pub(super) source: Bytes,
    pub(super) limit: Duration,
}

/// What a context is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Run(Task),
    /// Start its interpreter, and say when it is up.
    Start(oneshot::Sender<Result<(), Error>>),
    /// Hand out a copy of its interpreter.
    Fork(oneshot::Sender<Result<Interpreter, Error>>),
}

/// Where all of that arrives.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) deleted: watch::Receiver<bool>,
}

/// What an owner turns to next.
enum Next {
    Job(Job),
    /// The interpreter has ended by itself.
    Ended,
    Deleted,
}

impl Contexts {
    /// Does what comes for one context until that is deleted; or until its interpreter has ended and
    /// nothing waits, where it does not outlive that.
    pub(super) async fn own(
        self: Arc<Self>,
        about: Arc<About>,
        mut inbox: Inbox,
        mut live: Option<Interpreter>,
    ) {
        loop {
            let next = match live.as_mut() {
                Some(interpreter) => inbox.next(interpreter).await,
                None if about.is_kept() => inbox.job().await,
                None => match self.last(&about, &mut inbox.jobs) {
                    Some(job) => Next::Job(job),
                    None => return,
                },
            };
            live = match next {
                Next::Job(Job::Run(task)) => self.run_task(&about, live, task, &mut inbox).await,
                Next::Job(Job::Start(reply)) => self.start(&about, live, reply).await,
                Next::Job(Job::Fork(reply)) => self.hand_out(live, reply).await,
                Next::Ended => {
                    if let Some(ended) = live.take() {
                        ended.leave();
                    }
                    None
                }
                Next::Deleted => break,
            };
        }
        if let Some(live) = live {
            live.kill().await;
        }
        while let Ok(job) = inbox.jobs.try_recv() {
            // Who waits for a start or a copy hears that nobody is left to answer.
            if let Job::Run(Task { run, .. }) = job
                && run.claim()
            {
                run.finish(cancelled());
            }
        }
    }

    /// What still waits, or the end of the context: decided under the lock under which jobs are queued.
    fn last(&self, about: &Arc<About>, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        let mut contexts = self.lock();
        let job = jobs.try_recv().ok();
        if job.is_none() {
            forget(&mut contexts, about);
        }
        job
    }

    async fn interpreter(&self, about: &About) -> Result<Interpreter, Error> {
        let About { language, place, .. } = about;
        if language.forks && *place == self.place("") {
            return self.zygote.spawn(language, place, &self.reaper).await;
        }
        Interpreter::start(language, place, &self.reaper).await
    }

    async fn run_task(
        &self,
        about: &About,
        live: Option<Interpreter>,
        task: Task,
        inbox: &mut Inbox,
    ) -> Option<Interpreter> {
        let Task { run, source, limit } = task;
        if !run.claim() {
            return live;
        }
        let new = live.is_none();
        let interpreter = match live {
            Some(interpreter) => interpreter,
            None => match self.interpreter(about).await {
                Ok(interpreter) => interpreter,
                Err(error) => {
                    run.fail(error);
                    return None;
                }
            },
        };
        run.look_before().await;
        if run.is_cancelled() {
            // While the interpreter came up.
            run.finish(cancelled());
            return Some(interpreter);
        }
        about.begins(&run);
        run.started(new);
        let execution = interpreter.execute(&run, &source, limit);
        tokio::pin!(execution);
        let live = tokio::select! {
            live = &mut execution => live,
            () = inbox.deleted() => {
                run.cancel();
                execution.await
            }
        };
        about.ends();
        live
    }

    async fn start(
        &self,
        about: &Arc<About>,
        live: Option<Interpreter>,
        reply: oneshot::Sender<Result<(), Error>>,
    ) -> Option<Interpreter> {
        let started = match live {
            Some(live) => Ok(live),
            None => self.interpreter(about).await,
        };
        let (live, answer) = match started {
            Ok(live) => (Some(live), Ok(())),
            Err(error) => {
                // What has never been there does not stay.
                forget(&mut self.lock(), about);
                (None, Err(error))
            }
        };
        // Who asked may have gone; the context stays.
        let _ = reply.send(answer);
        live
    }

    async fn hand_out(
        &self,
        mut live: Option<Interpreter>,
        reply: oneshot::Sender<Result<Interpreter, Error>>,
    ) -> Option<Interpreter> {
        let copied = match &mut live {
            Some(live) => live.fork(false, &self.reaper).await,
            None => Err(fork::died()),
        };
        // A copy that nobody wants any more ends when it is dropped.
        let _ = reply.send(copied.and_then(|copy| copy.ok_or_else(fork::died)));
        live
    }
}

impl Inbox {
    /// What is next for a live interpreter.
    async fn next(&mut self, interpreter: &mut Interpreter) -> Next {
        tokio::select! {
            biased;
            // First: nothing is given to an interpreter that is known to be dead.
            () = interpreter.idle() => Next::Ended,
            next = self.job() => next,
        }
    }

    /// The next job, or the end. Safe to cancel.
    async fn job(&mut self) -> Next {
        let Self { jobs, deleted } = self;
        tokio::select! {
            biased;
            _ = deleted.wait_for(|deleted| *deleted) => Next::Deleted,
            job = jobs.recv() => job.map_or(Next::Deleted, Next::Job),
        }
    }

    async fn deleted(&mut self) {
        // The sender goes with the context.
        let _ = self.deleted.wait_for(|deleted| *deleted).await;
    }
}

/// Takes a context off the list; deleted, its name may be another's by now.
fn forget(contexts: &mut HashMap<String, Context>, about: &Arc<About>) {
    if contexts.get(&about.name).is_some_and(|own| Arc::ptr_eq(&own.about, about)) {
        contexts.remove(&about.name);
    }
}

/// The end of a run that was cancelled before anything of it ran.
fn cancelled() -> End {
    End { cause: Some(Cause::Cancelled), totals: output::nothing(), ..End::default() }
}

/// Ends a run that is cancelled before its turn has come.
pub(super) async fn watch_queued(run: Arc<Run>) {
    tokio::select! {
        _ = run.begun() => {}
        () = run.until_cancelled() => if run.claim() {
            run.finish(cancelled());
        }
    }
}
