//! The directories of a watch, and what the kernel's events mean for them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{ReadFlags, WatchFlags, add_watch, remove_watch};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use wire::limits::WATCH_DIRECTORIES;
use wire::{Code, Error};

use super::changes::Changes;
use super::{failed, temporary};

const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    // What has no name any more is of nobody's interest, though a program may still write to it.
    .union(WatchFlags::EXCL_UNLINK);

/// What ends a watch when it happens to its root.
const ENDS: ReadFlags =
    ReadFlags::DELETE_SELF.union(ReadFlags::MOVE_SELF).union(ReadFlags::UNMOUNT);

/// What the kernel tells.
pub(super) struct Event {
    /// The number of the directory's watch.
    watch: i32,
    pub(super) mask: ReadFlags,
    /// What the two halves of a move have in common.
    cookie: u32,
    name: Option<OsString>,
}

impl Event {
    /// How many bytes an event has at most.
    pub(super) const MOST: usize = 16 + 256;

    /// The events in these bytes, which end with one.
    pub(super) fn all(mut bytes: &[u8]) -> Vec<Self> {
        let mut events = Vec::new();
        let number = |head: &[u8; 16], n: usize| {
            u32::from_ne_bytes([head[4 * n], head[4 * n + 1], head[4 * n + 2], head[4 * n + 3]])
        };
        while let Some((head, rest)) = bytes.split_first_chunk::<16>() {
            let Some((name, rest)) = rest.split_at_checked(number(head, 3) as usize) else { break };
            // It is filled up with zeros.
            let name = name.split(|&byte| byte == 0).next().filter(|name| !name.is_empty());
            events.push(Self {
                watch: number(head, 0).cast_signed(),
                mask: ReadFlags::from_bits_retain(number(head, 1)),
                cookie: number(head, 2),
                name: name.map(|name| OsStr::from_bytes(name).to_owned()),
            });
            bytes = rest;
        }
        events
    }
}

/// The directories that are watched, by what their events say.
pub(super) struct Watched {
    pub(super) root: PathBuf,
    pub(super) recursive: bool,
    pub(super) source: Arc<Receiver>,
    pub(super) paths: HashMap<i32, PathBuf>,
    pub(super) changes: Changes,
    /// Whether the root is no more where it was.
    pub(super) gone: bool,
}

impl Watched {
    /// Watches the root, and what is below it.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let root = self.root.clone();
        match self.add(&root, CHANGES)? {
            Ok(()) => self.look(&root, false),
            Err(error) => Err(failed(&root, &error)),
        }
    }

    /// Takes what the kernel has told.
    pub(super) fn apply(&mut self, events: Vec<Event>) -> Result<(), Error> {
        let mut overflow = false;
        let mut left = events.into_iter();
        while let Some(event) = left.next() {
            if event.mask.contains(ReadFlags::QUEUE_OVERFLOW) {
                overflow = true;
            } else if event.mask.contains(ReadFlags::IGNORED) {
                let path = self.paths.remove(&event.watch);
                self.gone |= path.is_some_and(|path| path == self.root);
            } else if event.mask.intersects(ENDS) {
                self.gone |= self.paths.get(&event.watch).is_some_and(|path| *path == self.root);
            } else if let Some(path) = self.path(&event) {
                let to = event.mask.contains(ReadFlags::MOVED_FROM).then(|| {
                    let other = left.as_mut_slice().iter_mut();
                    other.into_iter().find(|other| {
                        let to = other.mask.contains(ReadFlags::MOVED_TO);
                        to && other.cookie == event.cookie
                    })
                });
                let to = to.flatten().and_then(|other| {
                    let to = self.path(other);
                    // It is told with this one.
                    other.mask = ReadFlags::empty();
                    to
                });
                self.change(&event, &path, to.as_deref())?;
            }
        }
        if overflow {
            self.changes.overflow();
            self.renew()?;
        }
        Ok(())
    }

    fn path(&self, event: &Event) -> Option<PathBuf> {
        Some(self.paths.get(&event.watch)?.join(event.name.as_ref()?))
    }

    fn change(&mut self, event: &Event, path: &Path, to: Option<&Path>) -> Result<(), Error> {
        let (mask, directory) = (event.mask, event.mask.contains(ReadFlags::ISDIR));
        if mask.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            return self.appear(path, directory);
        }
        match (hidden(path), to.filter(|to| !hidden(to))) {
            (true, None) => {}
            (true, Some(to)) => return self.appear(to, directory),
            (false, Some(to)) => {
                self.changes.moved(path, to, directory);
                if directory {
                    return self.rename(path, to);
                }
            }
            (false, None) if mask.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) => {
                self.changes.removed(path, directory);
                if directory {
                    self.leave(path);
                }
            }
            // It may be the end of one that is told with its beginning.
            (false, None) if !mask.intersects(ReadFlags::MODIFY | ReadFlags::ATTRIB) => {}
            (false, None) if nameless(path) => {}
            (false, None) => self.changes.modified(path, directory),
        }
        Ok(())
    }

    /// Tells of what has a name now, and of what is in it.
    fn appear(&mut self, path: &Path, directory: bool) -> Result<(), Error> {
        if hidden(path) {
            return Ok(());
        }
        self.changes.created(path, directory);
        if directory { self.enter(path, true) } else { Ok(()) }
    }

    /// Watches a directory and those below it, and tells of what is in them if they are new.
    fn enter(&mut self, path: &Path, new: bool) -> Result<(), Error> {
        if !self.recursive {
            return Ok(());
        }
        // What is gone, or may not be read, shows as itself and nothing in it.
        match self.add(path, CHANGES | WatchFlags::DONT_FOLLOW)? {
            Ok(()) => self.look(path, new),
            Err(_) => Ok(()),
        }
    }

    /// Goes through a directory that is watched already, so that nothing comes into it unseen.
    fn look(&mut self, path: &Path, new: bool) -> Result<(), Error> {
        if !self.recursive {
            return Ok(());
        }
        let mut left = vec![path.to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if hidden(&path) {
                    continue;
                }
                let below = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if new {
                    self.changes.created(&path, below);
                }
                if below && self.add(&path, CHANGES | WatchFlags::DONT_FOLLOW)?.is_ok() {
                    left.push(path);
                }
            }
        }
        Ok(())
    }

    /// Watches one directory.
    fn add(&mut self, path: &Path, flags: WatchFlags) -> Result<io::Result<()>, Error> {
        let watch = match add_watch(&*self.source, path, flags) {
            // What a node gives all sandboxes of a user together.
            Err(Errno::NOSPC) => {
                let path = path.display();
                let message = format!(
                    "{path}: the node gives no more inotify watches (fs.inotify.max_user_watches); watch fewer directories"
                );
                return Err(Error::new(Code::TooMany, message));
            }
            Err(error) => return Ok(Err(error.into())),
            Ok(watch) => watch,
        };
        self.paths.insert(watch, path.into());
        if self.paths.len() > WATCH_DIRECTORIES {
            let root = self.root.display();
            let message = format!(
                "{root}: has more than {WATCH_DIRECTORIES} directories; watch one further down"
            );
            return Err(Error::new(Code::TooMany, message));
        }
        Ok(Ok(()))
    }

    /// A directory within the root has another name, and with it those below.
    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        let mut known = false;
        for path in self.paths.values_mut() {
            if let Ok(below) = path.strip_prefix(from) {
                known |= below.as_os_str().is_empty();
                // By components, or the directory itself would end in a slash.
                *path = to.join(below).components().collect();
            }
        }
        // It was renamed before it could be watched.
        if known { Ok(()) } else { self.enter(to, true) }
    }

    /// A directory is no more within the root.
    fn leave(&mut self, directory: &Path) {
        let source = Arc::clone(&self.source);
        self.paths.retain(|&watch, path| {
            let left = path.starts_with(directory);
            if left {
                // Where it is gone, so is its watch.
                let _ = remove_watch(&*source, watch);
            }
            !left
        });
    }

    /// Looks at all directories anew, since events are missing.
    fn renew(&mut self) -> Result<(), Error> {
        let before = mem::take(&mut self.paths);
        let root = self.root.clone();
        if self.add(&root, CHANGES)?.is_err() {
            self.gone = true;
            return Ok(());
        }
        self.look(&root, false)?;
        for watch in before.into_keys().filter(|watch| !self.paths.contains_key(watch)) {
            let _ = remove_watch(&*self.source, watch);
        }
        Ok(())
    }
}

/// Whether a name is the one by which the kernel calls a file that has none yet.
fn nameless(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let number = name.strip_prefix(b"#").is_some_and(|rest| rest.iter().all(u8::is_ascii_digit));
    number && fs::symlink_metadata(path).is_err()
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(temporary::hidden)
}
