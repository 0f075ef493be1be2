//! Every run that is known, by id, and the bounds on all of them together.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wire::limits::{ALL_LOGS, MAX_ACTIVE_RUNS, MAX_RUNS};
use wire::v1::outcome::How;
use wire::v1::run_event::Event;
use wire::v1::{self, Outcome, RunsReply};
use wire::{Code, Error};

use super::log::{Hash, Log};
use super::{Identity, Run};

const SUFFIX: &str = ".log";
/// What an empty file's name ends with that stands for a dropped log, so that the id never runs again.
const DROPPED: &str = ".dropped";
/// How many dropped ids are remembered.
const REMEMBERED: usize = 4096;

/// The runs of this sandbox.
#[derive(Debug)]
pub(crate) struct Registry {
    directory: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    runs: HashMap<String, Arc<Run>>,
    /// Those that have ended, oldest first, with the room they take.
    ended: VecDeque<(String, u64)>,
    bytes: u64,
    /// The ids whose runs were dropped, oldest first: they must not run a second time.
    dropped: VecDeque<String>,
    /// How many runs have come.
    came: u64,
    stopping: bool,
}

impl Registry {
    /// Takes up the journal of a former agent: what had not ended by then is lost.
    pub(crate) fn open(directory: &Path) -> io::Result<Arc<Self>> {
        fs::create_dir_all(directory)?;
        let registry = Arc::new(Self { directory: directory.to_owned(), known: Mutex::default() });
        registry.lock().dropped = named(directory, DROPPED)?.into();
        for id in named(directory, SUFFIX)? {
            if let Err(error) = registry.recover(&id) {
                crate::log(&format!("could not take up the log of run {id}: {error}"));
                // Cut off before anything had begun, or not ours: it must not be in a new run's way.
                remove(&registry.path(&id));
            }
        }
        Ok(registry)
    }

    fn recover(self: &Arc<Self>, id: &str) -> io::Result<()> {
        let path = self.path(id);
        let (log, found) = Log::open(&path)?;
        let started = found.started.unwrap_or_default();
        let (last_at_ms, outcome) = found.last.map_or((0, None), |last| match last.event {
            Some(Event::Outcome(outcome)) => (last.at_ms, Some(outcome)),
            _ => (last.at_ms, None),
        });
        let mut known = self.lock();
        known.make_room(&self.directory);
        let identity = known.identity(id, found.spec, started.title);
        let run = Arc::new(Run::new(identity, path, Arc::clone(self), log));
        let mut state = run.lock();
        state.kept = state.log.end().place;
        state.truncated = found.truncated;
        state.started_unix_ms = started.unix_ms;
        state.outcome.clone_from(&outcome);
        known.bytes += state.kept;
        drop(state);
        known.runs.insert(id.to_owned(), Arc::clone(&run));
        drop(known);
        if outcome.is_some() {
            let mut state = run.lock();
            state.log.close();
            run.announce(&state, true);
            let kept = state.kept;
            drop(state);
            self.ended(id, kept);
        } else {
            let at = Duration::from_millis(last_at_ms);
            let mut state = run.lock();
            state.since = state.since.checked_sub(at).unwrap_or(state.since);
            drop(state);
            run.end(Outcome { how: Some(How::Lost(v1::Empty {})), ..Outcome::default() });
        }
        self.reserve(0);
        Ok(())
    }

    /// The run of this id and whether it is new. The same id with another spec is refused.
    pub(crate) fn start(
        self: &Arc<Self>,
        id: &str,
        spec: Hash,
        title: String,
    ) -> Result<(Arc<Run>, bool), Error> {
        let mut known = self.lock();
        if let Some(run) = known.runs.get(id) {
            if run.identity.spec == spec {
                return Ok((Arc::clone(run), false));
            }
            let message = format!(
                "run {id}: exists with another spec; ask with the same spec to see it, or choose a new id"
            );
            return Err(Error::new(Code::RunConflict, message));
        }
        if known.dropped.iter().any(|dropped| dropped == id) {
            return Err(not_found(id));
        }
        if known.stopping {
            return Err(Error::new(Code::Internal, "the sandbox is stopping; use another"));
        }
        if known.runs.len() - known.ended.len() >= MAX_ACTIVE_RUNS {
            let message =
                format!("{MAX_ACTIVE_RUNS} runs are going on; wait for one to end, or cancel one");
            return Err(Error::new(Code::TooMany, message));
        }
        known.make_room(&self.directory);
        let path = self.path(id);
        let log = Log::create(&path, &spec).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(
                Code::NoSpace,
                format!("no room for the run's log ({error}); remove files and try again"),
            ),
            _ => Error::new(Code::Internal, format!("could not make the run's log: {error}")),
        })?;
        let identity = known.identity(id, spec, title);
        let run = Arc::new(Run::new(identity, path, Arc::clone(self), log));
        known.runs.insert(id.to_owned(), Arc::clone(&run));
        Ok((run, true))
    }

    /// The run of this id.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Run>, Error> {
        self.lock().runs.get(id).cloned().ok_or_else(|| not_found(id))
    }

    /// The runs that are known, those that came last first; at most so many, or all for 0.
    pub(crate) fn list(&self, limit: u32) -> RunsReply {
        let mut runs: Vec<Arc<Run>> = self.lock().runs.values().cloned().collect();
        runs.sort_unstable_by_key(|run| Reverse(run.identity.serial));
        let known = runs.len();
        if limit > 0 {
            runs.truncate(limit as usize);
        }
        RunsReply {
            truncated: runs.len() < known,
            runs: runs.iter().map(|run| run.info()).collect(),
        }
    }

    /// Takes room for an event, from the oldest ended runs if need be; false when there is none.
    pub(super) fn reserve(&self, bytes: u64) -> bool {
        let mut known = self.lock();
        while known.bytes + bytes > ALL_LOGS {
            if !known.evict(&self.directory) {
                return false;
            }
        }
        known.bytes += bytes;
        true
    }

    /// Gives back room that was not used.
    pub(super) fn release(&self, bytes: u64) {
        let mut known = self.lock();
        known.bytes = known.bytes.saturating_sub(bytes);
    }

    /// How much room is taken.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> u64 {
        self.lock().bytes
    }

    /// Notes that a run has ended and how much room it has taken.
    pub(super) fn ended(&self, id: &str, kept: u64) {
        self.lock().ended.push_back((id.to_owned(), kept));
    }

    /// Forgets a run that never began.
    pub(super) fn forget(&self, id: &str, path: &Path) {
        let mut known = self.lock();
        known.runs.remove(id);
        remove(path);
    }

    /// From now on no run begins, and what ends has been ended by us.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
    }

    /// Whether the agent is about to exit.
    pub(crate) fn stopping(&self) -> bool {
        self.lock().stopping
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}{SUFFIX}"))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Who comes next.
    fn identity(&mut self, id: &str, spec: Hash, title: String) -> Identity {
        self.came += 1;
        Identity { id: id.to_owned(), spec, title, serial: self.came }
    }

    fn make_room(&mut self, directory: &Path) {
        while self.runs.len() >= MAX_RUNS && self.evict(directory) {}
    }

    /// Forgets the oldest ended run. Who reads it now reads to its end.
    fn evict(&mut self, directory: &Path) -> bool {
        let Some((id, kept)) = self.ended.pop_front() else { return false };
        self.runs.remove(&id);
        self.bytes = self.bytes.saturating_sub(kept);
        // The mark first: in no moment is the id unknown.
        if let Err(error) = File::create(marker(directory, &id)) {
            crate::log(&format!("could not remember dropped run {id}: {error}"));
        }
        remove(&directory.join(format!("{id}{SUFFIX}")));
        if self.dropped.len() >= REMEMBERED
            && let Some(oldest) = self.dropped.pop_front()
        {
            remove(&marker(directory, &oldest));
        }
        self.dropped.push_back(id);
        true
    }
}

/// The ids in the names of the files with this suffix, oldest first.
fn named(directory: &Path, suffix: &str) -> io::Result<Vec<String>> {
    let mut files: Vec<_> = fs::read_dir(directory)?
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.strip_suffix(suffix)?.to_owned();
            Some((entry.metadata().ok()?.modified().ok()?, id))
        })
        .collect();
    files.sort();
    Ok(files.into_iter().map(|(_, id)| id).collect())
}

fn marker(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}{DROPPED}"))
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        crate::log(&format!("could not remove {}: {error}", path.display()));
    }
}

/// What a caller hears who asks for a run that is not there.
pub(super) fn not_found(id: &str) -> Error {
    Error::new(
        Code::RunNotFound,
        format!(
            "run {id}: not known here: it never began, it was in an earlier pod of the sandbox, or it has ended and its log was dropped for newer ones"
        ),
    )
}
