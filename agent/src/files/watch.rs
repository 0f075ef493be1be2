//! What changes in a directory, or below it, as the kernel tells of it (inotify).
//!
//! No thread waits: tokio's own poll does. Events that nobody takes stay in the kernel's queue, which has a bound and
//! says when it was reached. gVisor tells of what is changed within the sandbox, as Linux does, and of nothing that is
//! changed from outside; a bound of its queue has not been found.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use futures::stream::{self, Stream};
use rustix::fs::inotify::{CreateFlags, ReadFlags, init};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use wire::limits::{WATCH_PAUSE, WATCHES};
use wire::v1::WatchEvent;
use wire::v1::watch_event::Kind;
use wire::{Code, Error};

use super::changes::{Changes, event};
use super::watched::{Event, Watched};
use super::{blocking, failed};

/// How many of the kernel's events are taken at once: a quarter of what its queue holds.
const EVENTS: usize = 4096;
/// How many bytes of them are read at once.
const BUFFER: usize = 64 * Event::MOST;

/// Who may watch.
#[derive(Clone, Debug)]
pub(crate) struct Watches(Arc<Semaphore>);

impl Default for Watches {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHES)))
    }
}

/// A watch that goes on.
struct Watching {
    watched: Watched,
    /// What is to be told now.
    ready: VecDeque<WatchEvent>,
    over: bool,
    _turn: OwnedSemaphorePermit,
}

/// Watches a directory, from when this returns.
pub(crate) async fn watch(
    path: PathBuf,
    recursive: bool,
    watches: &Watches,
) -> Result<impl Stream<Item = Result<WatchEvent, Error>> + use<>, Error> {
    let Ok(turn) = watches.0.clone().try_acquire_owned() else {
        let message = format!("{WATCHES} watches are open; end one of them");
        return Err(Error::new(Code::TooMany, message));
    };
    let source = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| match error {
        Errno::MFILE => Error::new(
            Code::TooMany,
            "the node gives no more inotify instances (fs.inotify.max_user_instances); end other watches",
        ),
        error => failed(&path, &error.into()),
    })?;
    // Not a pipe; like one it is read, and says when it can be.
    let source = Receiver::from_owned_fd_unchecked(source);
    let source = source.map_err(|error| failed(&path, &error))?;
    let mut directories = Watched {
        root: path,
        recursive,
        source: Arc::new(source),
        paths: HashMap::new(),
        changes: Changes::default(),
        gone: false,
    };
    let begun = blocking(move || directories.begin().map(|()| directories)).await?;
    let watching = Watching { watched: begun, ready: VecDeque::new(), over: false, _turn: turn };
    Ok(stream::unfold(Some(watching), |watching| async { watching?.next().await }))
}

impl Watching {
    /// The next change.
    async fn next(mut self) -> Option<(Result<WatchEvent, Error>, Option<Self>)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), Some(self)));
            }
            if self.over {
                return None;
            }
            match self.gather().await {
                Ok(watching) => self = watching,
                Err(error) => return Some((Err(error), None)),
            }
        }
    }

    /// Waits for a change, and a little for more.
    async fn gather(mut self) -> Result<Self, Error> {
        let mut until = None;
        while !self.watched.gone {
            let source = Arc::clone(&self.watched.source);
            let events = match until {
                None => read(&source).await,
                Some(until) => match timeout_at(until, read(&source)).await {
                    Ok(events) => events,
                    Err(_) => break,
                },
            };
            let events = events.map_err(|error| failed(&self.watched.root, &error))?;
            until.get_or_insert_with(|| Instant::now() + WATCH_PAUSE);
            let mut watched = self.watched;
            self.watched = blocking(move || watched.apply(events).map(|()| watched)).await?;
        }
        self.ready = self.watched.changes.take(&self.watched.root).into();
        if self.watched.gone {
            self.ready.push_back(event(Kind::Removed, &self.watched.root, None, true));
            self.over = true;
        }
        Ok(self)
    }
}

/// What the kernel has to tell, and at least something.
async fn read(source: &Receiver) -> io::Result<Vec<Event>> {
    let (mut events, mut buffer) = (Vec::new(), vec![0; BUFFER]);
    loop {
        source.readable().await?;
        // The two halves of a move come one after the other.
        let half = |event: &Event| event.mask.contains(ReadFlags::MOVED_FROM);
        while events.len() < EVENTS || events.last().is_some_and(half) {
            match source.try_read(&mut buffer) {
                Ok(read) => events.extend(Event::all(&buffer[..read])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if !events.is_empty() {
            return Ok(events);
        }
    }
}
