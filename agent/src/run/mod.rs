//! Runs: started once, logged as numbered events, ended by one recorded outcome.
//!
//! Who runs something only ever appends; who wants to see it reads the log's file at their own pace.
//! So a slow reader, or none, holds nothing up, and memory does not grow with the output.

mod changes;
pub(crate) mod command;
pub(crate) mod interactive;
pub(crate) mod log;
mod outcome;
mod page;
pub(crate) mod phases;
pub(crate) mod program;
pub(crate) mod registry;
pub(crate) mod spec;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use prost::Message;
use tokio::sync::watch;
use wire::limits::RUN_LOG;
use wire::v1::run_event::Event;
use wire::v1::{self, Outcome, RunEvent, RunInfo, Started, Truncated};
use wire::{Code, Error};

use crate::clock;
use crate::idle::Use;
use changes::Watched;
use interactive::Reach;
use log::{Hash, Log, Mark, Reader};
pub(crate) use outcome::{Cause, End};
use registry::Registry;

/// What tells a run from others.
#[derive(Debug)]
struct Identity {
    id: String,
    spec: Hash,
    /// What it runs, for people.
    title: String,
    /// Its place among all runs, by when they came.
    serial: u64,
}

/// One run, while it goes on and for as long as its log is kept.
#[derive(Debug)]
pub(crate) struct Run {
    identity: Identity,
    path: PathBuf,
    registry: Arc<Registry>,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    cancelled: watch::Sender<bool>,
    claimed: AtomicBool,
    /// Of a command that has begun.
    reach: OnceLock<Reach>,
    /// What it was like before, where its caller wants to know what it changes.
    watched: OnceLock<Watched>,
    oom_kills: u64,
}

#[derive(Debug)]
struct State {
    log: Log,
    since: Instant,
    started_unix_ms: u64,
    outcome: Option<Outcome>,
    /// The bytes of event data in the log, as the registry counts them.
    kept: u64,
    truncated: bool,
    /// While it has not ended.
    in_use: Option<Use>,
    /// What had to be recorded when the disk had no room: the truncation and the outcome at most.
    tail: Vec<RunEvent>,
}

/// How far a run is: what its readers follow.
#[derive(Clone, Debug, Default)]
struct Progress {
    events: u64,
    /// What the file holds.
    end: Mark,
    ended: bool,
    /// Why it never began. Nothing of it is kept then.
    failed: Option<Error>,
}

impl Run {
    fn new(identity: Identity, path: PathBuf, registry: Arc<Registry>, log: Log) -> Self {
        let end = log.end();
        let progress = Progress { events: end.events, end, ..Progress::default() };
        let state = State {
            log,
            since: Instant::now(),
            started_unix_ms: 0,
            outcome: None,
            kept: 0,
            truncated: false,
            in_use: None,
            tail: Vec::new(),
        };
        Self {
            identity,
            path,
            registry,
            state: Mutex::new(state),
            progress: watch::Sender::new(progress),
            cancelled: watch::Sender::new(false),
            claimed: AtomicBool::new(false),
            reach: OnceLock::new(),
            watched: OnceLock::new(),
            oom_kills: crate::settings::oom_kills(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.identity.id
    }

    /// Keeps the sandbox until it has ended.
    pub(crate) fn is_use(&self, in_use: Use) {
        self.lock().in_use = Some(in_use);
    }

    /// Takes the right to bring the run to its end; only the first who asks gets it.
    pub(crate) fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::Relaxed)
    }

    /// Lets others reach it.
    pub(crate) fn within_reach(&self, reach: Reach) {
        // A run is started once.
        let _ = self.reach.set(reach);
    }

    /// Records that the run begins now: its times count from here.
    pub(crate) fn started(&self, context_new: bool) {
        let unix_ms = clock::unix_millis(SystemTime::now());
        let mut state = self.lock();
        state.since = Instant::now();
        state.started_unix_ms = unix_ms;
        drop(state);
        let title = self.identity.title.clone();
        self.append(Event::Started(Started { unix_ms, context_new, title }));
    }

    /// Records a part of the output.
    pub(crate) fn output(&self, stream: v1::Stream, data: Bytes) {
        self.append(Event::Output(v1::Output { stream: stream.into(), data }));
    }

    /// Records an event, or once that the log is full.
    pub(crate) fn append(&self, event: Event) {
        let mut state = self.lock();
        if state.truncated {
            return;
        }
        let event = state.number(event);
        let length = event.encoded_len() as u64;
        let room = state.kept + length <= RUN_LOG && self.registry.reserve(length);
        if room && state.log.append(&event).is_ok() {
            state.kept += length;
        } else {
            if room {
                self.registry.release(length);
            }
            state.truncated = true;
            let event = state.number(Event::Truncated(Truncated { limit_bytes: RUN_LOG }));
            state.must_append(event);
        }
        self.announce(&state, false);
    }

    /// Records how the run ended. There is room for this whatever happens.
    fn end(&self, outcome: Outcome) {
        let mut state = self.lock();
        let duration_ms = clock::millis(state.since.elapsed());
        let outcome = Outcome { duration_ms, truncated: state.truncated, ..outcome };
        state.outcome = Some(outcome.clone());
        let event = state.number(Event::Outcome(outcome));
        state.must_append(event);
        state.log.close();
        state.in_use = None;
        self.announce(&state, true);
        let kept = state.kept;
        drop(state);
        if let Some(reach) = self.reach.get() {
            reach.close();
        }
        self.registry.ended(&self.identity.id, kept);
    }

    /// Forgets a run that never began, and tells who waits for it why.
    pub(crate) fn fail(&self, error: Error) {
        self.registry.forget(&self.identity.id, &self.path);
        self.lock().in_use = None;
        self.progress.send_modify(|progress| progress.failed = Some(error));
    }

    fn announce(&self, state: &State, ended: bool) {
        let end = state.log.end();
        let events = end.events + state.tail.len() as u64;
        self.progress.send_replace(Progress { events, end, ended, failed: None });
    }

    /// Asks for the run's end, and says whether it was going on.
    pub(crate) fn cancel(&self) -> bool {
        self.cancelled.send_replace(true);
        !self.has_ended()
    }

    fn has_ended(&self) -> bool {
        self.progress.borrow().ended
    }

    /// Whether somebody has asked for the run's end.
    pub(crate) fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Waits until somebody has asked for the run's end.
    pub(crate) async fn until_cancelled(&self) {
        // The sender lives as long as the run.
        let _ = self.cancelled.subscribe().wait_for(|cancelled| *cancelled).await;
    }

    /// Waits until the first event is there, or the reason why there will be none.
    pub(crate) async fn begun(&self) -> Result<(), Error> {
        let mut progress = self.progress.subscribe();
        let progress =
            progress.wait_for(|progress| progress.events > 0 || progress.failed.is_some()).await;
        match progress.ok().and_then(|progress| progress.failed.clone()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The events from a number on, those to come included, to the outcome.
    pub(crate) fn events(
        self: &Arc<Self>,
        from: u64,
    ) -> Result<impl Stream<Item = Result<RunEvent, Error>> + use<>, Error> {
        let mark = self.lock().log.seek(from);
        let reader =
            Reader::open(&self.path, mark).map_err(|_| registry::not_found(&self.identity.id))?;
        let follower = Follower {
            reader,
            progress: self.progress.subscribe(),
            run: Arc::clone(self),
            from,
            over: false,
        };
        Ok(stream::unfold(follower, |mut follower| async {
            let event = follower.next().await.transpose()?;
            follower.over |= event.is_err();
            Some((event, follower))
        }))
    }

    /// The event of a number; none where there is none yet.
    pub(crate) async fn event(self: &Arc<Self>, number: u64) -> Result<Option<RunEvent>, Error> {
        if self.progress.borrow().events <= number {
            return Ok(None);
        }
        pin!(self.events(number)?).next().await.transpose()
    }

    /// What a list says of it.
    pub(crate) fn info(&self) -> RunInfo {
        let state = self.lock();
        let written = state.log.end().written;
        RunInfo {
            run_id: self.identity.id.clone(),
            title: self.identity.title.clone(),
            started_unix_ms: state.started_unix_ms,
            stdout_bytes: written.stdout,
            stderr_bytes: written.stderr,
            outcome: state.outcome.clone(),
        }
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Error {
        let id = &self.identity.id;
        Error::new(Code::Internal, format!("run {id}: its log cannot be read: {error}"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&self, event: Event) -> RunEvent {
        let number = self.log.end().events + self.tail.len() as u64;
        RunEvent { number, at_ms: clock::millis(self.since.elapsed()), event: Some(event) }
    }

    fn must_append(&mut self, event: RunEvent) {
        // Once one is in memory the next must not come before it.
        if !self.tail.is_empty() || self.log.append(&event).is_err() {
            self.tail.push(event);
        }
    }
}

/// A reader of one run that waits for what is not yet there.
struct Follower {
    reader: Reader,
    progress: watch::Receiver<Progress>,
    run: Arc<Run>,
    from: u64,
    over: bool,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<RunEvent>, Error> {
        while !self.over {
            let (end, ended) = {
                let progress = self.progress.borrow_and_update();
                (progress.end, progress.ended)
            };
            while let Some(event) =
                self.reader.next(end.place).map_err(|error| self.run.broken(&error))?
            {
                if self.reader.number() > self.from {
                    return RunEvent::decode(event)
                        .map(Some)
                        .map_err(|error| self.run.broken(&error));
                }
            }
            if ended {
                let wanted = self.from.max(self.reader.number());
                let rest =
                    self.run.lock().tail.iter().find(|event| event.number >= wanted).cloned();
                self.over = rest
                    .as_ref()
                    .is_none_or(|event| matches!(event.event, Some(Event::Outcome(_))));
                self.from = rest.as_ref().map_or(self.from, |event| event.number + 1);
                return Ok(rest);
            }
            if self.progress.changed().await.is_err() {
                break;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::v1::Empty;
    use wire::v1::outcome::How;

    #[tokio::test]
    async fn a_disk_without_room_costs_output_but_not_the_outcome() {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::open(directory.path()).unwrap();
        let (run, new) = registry.start("a", Hash::default(), String::new()).unwrap();
        assert!(new);
        run.started(false);
        // From here on every append fails.
        run.lock().log.close();
        let kept = registry.reserved();
        run.output(v1::Stream::Stdout, Bytes::from_static(b"lost"));
        assert_eq!(registry.reserved(), kept);
        run.finish(End { cause: Some(Cause::TimedOut), ..End::default() });
        for from in 0..4 {
            let events = run.events(from).unwrap().map(|event| event.unwrap().event.unwrap());
            let events: Vec<Event> = events.collect().await;
            let told = |event: &Event| match event {
                Event::Started(_) => "started",
                Event::Truncated(_) => "truncated",
                Event::Outcome(outcome)
                    if outcome.truncated && outcome.how == Some(How::TimedOut(Empty {})) =>
                {
                    "outcome"
                }
                _ => "other",
            };
            let from = usize::try_from(from).unwrap();
            assert_eq!(
                events.iter().map(told).collect::<Vec<_>>(),
                ["started", "truncated", "outcome"][from..]
            );
        }
    }
}
