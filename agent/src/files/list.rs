//! Listing a directory: in order, to a depth, up to a limit, never through a symlink.
//!
//! The order is that of paths by their components, so that any path, whether it still exists or not,
//! divides a listing in two: what came before it and what comes after.

use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::vec;

use wire::limits::{LIST_LIMIT, LIST_MOST, LIST_NAMES, MAX_DEPTH};
use wire::v1::Entry;
use wire::v1::entry::Kind;
use wire::{Code, Error};

use super::glob::Glob;
use super::{blocking, entry, failed, in_steps};

/// What is to be listed.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) path: PathBuf,
    pub(crate) depth: u32,
    pub(crate) limit: u32,
    pub(crate) glob: String,
    /// The path after which the listing begins.
    pub(crate) after: Option<PathBuf>,
}

/// The entries below a directory, each before what is in it.
pub(crate) async fn list(request: Request) -> Result<Vec<Entry>, Error> {
    let listing = blocking(move || Listing::begin(request)).await?;
    in_steps(listing, Listing::step).await
}

struct Listing {
    root: PathBuf,
    depth: usize,
    limit: usize,
    glob: Option<Glob>,
    after: Option<PathBuf>,
    entries: Vec<Entry>,
    /// The directories that are being gone through, the deepest last.
    levels: Vec<Level>,
}

struct Level {
    directory: PathBuf,
    names: vec::IntoIter<OsString>,
    /// The last of the names, if the directory has more.
    more: Option<OsString>,
}

impl Listing {
    fn begin(request: Request) -> Result<Self, Error> {
        let Request { path: root, depth, limit, glob, after } = request;
        if depth > MAX_DEPTH {
            let message =
                format!("depth: at most {MAX_DEPTH} is taken; list a directory further down");
            return Err(Error::new(Code::InvalidArgument, message));
        }
        if let Some(after) = after.as_ref().filter(|after| !after.starts_with(&root)) {
            let (after, root) = (after.display(), root.display());
            let message =
                format!("after: {after} is not below {root}; give the path of the last entry");
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let limit = if limit == 0 { LIST_LIMIT } else { limit.min(LIST_MOST) } as usize;
        let glob = Glob::new(&glob)?;
        let (depth, entries, levels) = (depth.max(1) as usize, Vec::new(), Vec::new());
        let mut listing = Self { root: root.clone(), depth, limit, glob, after, entries, levels };
        listing.enter(&root).map_err(|error| failed(&root, &error))?;
        Ok(listing)
    }

    /// Looks at as many names as a directory is read for at once, or reads a directory.
    #[expect(clippy::unnecessary_wraps, reason = "what a step returns")]
    fn step(mut self) -> Result<ControlFlow<Vec<Entry>, Self>, Error> {
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                let Level { directory, more, .. } = self.levels.pop().expect("there is a last");
                if let Some(last) = more {
                    let more = self.read(&directory, Some((&last, false)));
                    // What can no more be read is gone.
                    self.levels.extend(more);
                }
                return Ok(ControlFlow::Continue(self));
            };
            let path = level.directory.join(name);
            // What is gone since then is not there.
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let entry = entry(&path, &found);
            let descend = entry.kind() == Kind::Directory && self.levels.len() < self.depth;
            if self.wanted(&path) {
                if self.entries.len() == self.limit {
                    // There is a last, since the limit is not 0.
                    if let Some(last) = self.entries.last_mut() {
                        last.truncated = true;
                    }
                    return Ok(ControlFlow::Break(self.entries));
                }
                self.entries.push(entry);
            }
            if descend {
                // One that may not be read shows as itself and nothing in it.
                let _ = self.enter(&path);
                return Ok(ControlFlow::Continue(self));
            }
        }
        Ok(ControlFlow::Break(self.entries))
    }

    /// Whether a path is listed: it matches, and is not on the way to where the listing begins.
    fn wanted(&self, path: &Path) -> bool {
        self.matches(path) && !self.after.as_ref().is_some_and(|after| after.starts_with(path))
    }

    fn matches(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        self.glob.as_ref().is_none_or(|glob| glob.matches(below))
    }

    fn enter(&mut self, directory: &Path) -> io::Result<()> {
        let after = self.after.clone();
        let after = after.as_ref().and_then(|after| after.strip_prefix(directory).ok());
        let first = after.and_then(|after| after.components().next());
        let level = self.read(directory, first.as_ref().map(|first| (first.as_os_str(), true)))?;
        self.levels.push(level);
        Ok(())
    }

    /// The first names of a directory, from one on (itself included or not). Only so many are ever
    /// held: a directory may have millions.
    fn read(&self, directory: &Path, from: Option<(&OsStr, bool)>) -> io::Result<Level> {
        let room = (self.limit - self.entries.len()).max(LIST_NAMES);
        let deepest = self.levels.len() + 1 >= self.depth;
        let mut names = BinaryHeap::new();
        let mut more = false;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let due = from.is_none_or(|(from, itself)| *name > *from || (itself && *name == *from));
            // What matches nothing is of use only if something in it may match.
            let leads_on = || !deepest && entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !due || !(self.matches(&entry.path()) || leads_on()) {
                continue;
            }
            names.push(name);
            if names.len() > room {
                names.pop();
                more = true;
            }
        }
        let names = names.into_sorted_vec();
        let more = names.last().filter(|_| more).cloned();
        Ok(Level { directory: directory.into(), names: names.into_iter(), more })
    }
}
