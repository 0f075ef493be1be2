//! Listing a directory: sorted, to a depth, up to a limit, never through a symlink.

use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wire::limits::{LIST_LIMIT, LIST_MOST, MAX_DEPTH};
use wire::v1::Entry;
use wire::v1::entry::Kind;
use wire::{Code, Error};

use super::{blocking, entry, failed};

/// The entries below a directory, each before what is in it.
pub(crate) async fn list(path: PathBuf, depth: u32, limit: u32) -> Result<Vec<Entry>, Error> {
    if depth > MAX_DEPTH {
        let message = format!("depth: at most {MAX_DEPTH} is taken; list a directory further down");
        return Err(Error::new(Code::InvalidArgument, message));
    }
    let limit = if limit == 0 { LIST_LIMIT } else { limit.min(LIST_MOST) };
    let mut listing = Listing { limit: limit as usize, entries: Vec::new(), truncated: false };
    blocking(move || {
        listing.below(&path, depth.max(1)).map_err(|error| failed(&path, &error))?;
        if let Some(last) = listing.entries.last_mut().filter(|_| listing.truncated) {
            last.truncated = true;
        }
        Ok(listing.entries)
    })
    .await
}

struct Listing {
    limit: usize,
    entries: Vec<Entry>,
    truncated: bool,
}

impl Listing {
    fn below(&mut self, directory: &Path, depth: u32) -> io::Result<()> {
        let (names, more) = self.names(directory)?;
        for name in names {
            if self.entries.len() >= self.limit {
                self.truncated = true;
                return Ok(());
            }
            let path = directory.join(name);
            // What is gone since then is not there.
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let entry = entry(&path, &found);
            let descend = depth > 1 && entry.kind() == Kind::Directory;
            self.entries.push(entry);
            if descend {
                // One that may not be read shows as itself and nothing in it.
                let _ = self.below(&path, depth - 1);
            }
        }
        self.truncated |= more;
        Ok(())
    }

    /// The first names of a directory in order, as many as there is room for, and whether there are more.
    /// Only those are ever held: a directory may have millions.
    fn names(&self, directory: &Path) -> io::Result<(Vec<OsString>, bool)> {
        let room = self.limit - self.entries.len();
        let mut names = BinaryHeap::new();
        let mut more = false;
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name());
            if names.len() > room {
                names.pop();
                more = true;
            }
        }
        Ok((names.into_sorted_vec(), more))
    }
}
