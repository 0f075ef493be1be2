//! What is known about a context beside its interpreter.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use wire::v1::ContextInfo;
use wire::{Code, Error};

use super::interpreter::Place;
use super::language::Language;
use crate::clock;
use crate::run::Run;

#[derive(Debug)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) language: &'static Language,
    /// Where its interpreter starts, and starts anew.
    pub(super) place: Place,
    /// Whether it outlives its interpreter.
    kept: AtomicBool,
    forked_from: String,
    created_unix_ms: u64,
    used: Mutex<Use>,
}

#[derive(Debug, Default)]
struct Use {
    last_unix_ms: u64,
    executions: u64,
    running: Option<Arc<Run>>,
}

impl About {
    pub(super) fn new(name: &str, language: &'static Language, place: Place) -> Self {
        Self {
            name: name.to_owned(),
            language,
            place,
            kept: AtomicBool::new(false),
            forked_from: String::new(),
            created_unix_ms: clock::unix_millis(SystemTime::now()),
            used: Mutex::default(),
        }
    }

    /// Has it outlive its interpreter from now on.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// What will be known about a copy.
    pub(super) fn copy(&self, name: &str) -> Self {
        let forked_from = self.name.clone();
        Self { forked_from, ..Self::new(name, self.language, self.place.clone()) }
    }

    /// Whether this is what `wanted` would become, so that a request that comes again finds it.
    pub(super) fn same(&self, wanted: &Self) -> Result<(), Error> {
        let key =
            |about: &Self| (about.language.name, about.place.clone(), about.forked_from.clone());
        if key(self) == key(wanted) {
            return Ok(());
        }
        let message = format!(
            "context {} exists with another language, directory, environment or origin; choose another name, or delete it first",
            self.name
        );
        Err(Error::new(Code::AlreadyExists, message))
    }

    /// Records that a run begins.
    pub(super) fn begins(&self, run: &Arc<Run>) {
        let mut used = self.lock();
        used.last_unix_ms = clock::unix_millis(SystemTime::now());
        used.executions += 1;
        used.running = Some(Arc::clone(run));
    }

    /// Records that it has ended.
    pub(super) fn ends(&self) {
        self.lock().running = None;
    }

    /// Cancels the run that goes on, and gives its id.
    pub(super) fn interrupt(&self) -> Option<String> {
        let used = self.lock();
        let run = used.running.as_ref()?;
        run.cancel();
        Some(run.id().to_owned())
    }

    /// What a list says of it.
    pub(super) fn info(&self, queued: usize) -> ContextInfo {
        let used = self.lock();
        ContextInfo {
            name: self.name.clone(),
            language: self.language.name.to_owned(),
            cwd: self.place.cwd.display().to_string(),
            created_unix_ms: self.created_unix_ms,
            last_used_unix_ms: used.last_unix_ms,
            executions: used.executions,
            running: used.running.as_ref().map(|run| run.id().to_owned()).unwrap_or_default(),
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            forked_from: self.forked_from.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Use> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
