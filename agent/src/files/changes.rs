//! What has changed, gathered until somebody is told: in order, and no more than says it.

use std::collections::HashMap;
use std::mem;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use wire::limits::WATCH_CHANGES;
use wire::v1::WatchEvent;
use wire::v1::watch_event::Kind;

use super::bytes;

/// The changes that nobody has been told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    list: Vec<Option<WatchEvent>>,
    /// Where the last change of a path is.
    last: HashMap<PathBuf, usize>,
    overflow: bool,
}

impl Changes {
    /// Something has a name that it did not have.
    pub(super) fn created(&mut self, path: &Path, directory: bool) {
        if self.last(path) != Some(Kind::Created) {
            self.push(Kind::Created, path, None, directory);
        }
    }

    pub(super) fn modified(&mut self, path: &Path, directory: bool) {
        if !matches!(self.last(path), Some(Kind::Created | Kind::Modified)) {
            self.push(Kind::Modified, path, None, directory);
        }
    }

    pub(super) fn removed(&mut self, path: &Path, directory: bool) {
        match self.last(path) {
            Some(Kind::Created) => self.take_back(path),
            last => {
                if last == Some(Kind::Modified) {
                    self.take_back(path);
                }
                self.push(Kind::Removed, path, None, directory);
            }
        }
    }

    pub(super) fn moved(&mut self, from: &Path, to: &Path, directory: bool) {
        // What has been told of a new directory's contents is of their old paths.
        if self.last(from) == Some(Kind::Created) && !directory {
            self.take_back(from);
            self.created(to, directory);
        } else {
            self.push(Kind::Moved, to, Some(from), directory);
            self.last.remove(from);
        }
    }

    /// More has changed than is known.
    pub(super) fn overflow(&mut self) {
        *self = Self { overflow: true, ..Self::default() };
    }

    /// All of them, of what is watched at this path.
    pub(super) fn take(&mut self, root: &Path) -> Vec<WatchEvent> {
        let Self { list, overflow, .. } = mem::take(self);
        if overflow {
            return vec![event(Kind::Overflow, root, None, true)];
        }
        list.into_iter().flatten().collect()
    }

    fn last(&self, path: &Path) -> Option<Kind> {
        self.list[*self.last.get(path)?].as_ref().map(WatchEvent::kind)
    }

    fn push(&mut self, kind: Kind, path: &Path, from: Option<&Path>, directory: bool) {
        if self.overflow || self.list.len() == WATCH_CHANGES {
            self.overflow();
            return;
        }
        self.last.insert(path.into(), self.list.len());
        self.list.push(Some(event(kind, path, from, directory)));
    }

    fn take_back(&mut self, path: &Path) {
        if let Some(last) = self.last.remove(path) {
            self.list[last] = None;
        }
    }
}

pub(super) fn event(kind: Kind, path: &Path, from: Option<&Path>, directory: bool) -> WatchEvent {
    let from = from.map_or_else(Bytes::new, bytes);
    WatchEvent { kind: kind.into(), path: bytes(path), from, directory }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(changes: &mut Changes) -> Vec<String> {
        let all = changes.take(Path::new("/w")).into_iter();
        let all = all.map(|event| {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let from = if event.from.is_empty() { String::new() } else { text(&event.from) + ">" };
            format!("{:?} {from}{}", event.kind(), text(&event.path))
        });
        all.collect()
    }

    fn of(make: impl FnOnce(&mut Changes)) -> Vec<String> {
        let mut changes = Changes::default();
        make(&mut changes);
        told(&mut changes)
    }

    #[test]
    fn no_more_is_told_than_says_what_has_changed() {
        let [a, b, c] = ["a", "b", "c"].map(Path::new);
        let all = of(|changes| {
            changes.created(a, false);
            changes.modified(a, false);
            changes.created(a, false);
            changes.modified(b, false);
            changes.modified(b, false);
        });
        assert_eq!(all, ["Created a", "Modified b"]);
        let all = of(|changes| {
            changes.created(a, false);
            changes.removed(a, false);
            changes.modified(b, false);
            changes.removed(b, false);
            changes.removed(c, false);
            changes.created(c, false);
        });
        assert_eq!(all, ["Removed b", "Removed c", "Created c"]);
        // An editor that writes beside the file.
        let all = of(|changes| {
            changes.created(a, false);
            changes.modified(a, false);
            changes.moved(a, b, false);
        });
        assert_eq!(all, ["Created b"]);
        let all = of(|changes| {
            changes.modified(a, false);
            changes.moved(a, b, false);
            changes.modified(b, false);
            changes.created(a, false);
            changes.created(c, true);
            changes.created(Path::new("c/x"), false);
            changes.moved(c, Path::new("d"), true);
        });
        assert_eq!(
            all,
            [
                "Modified a",
                "Moved a>b",
                "Modified b",
                "Created a",
                "Created c",
                "Created c/x",
                "Moved c>d"
            ]
        );
    }

    #[test]
    fn more_changes_than_are_held_are_one_overflow() {
        let mut changes = Changes::default();
        let many = |changes: &mut Changes, count: usize| {
            for n in 0..count {
                changes.created(Path::new(&n.to_string()), false);
            }
        };
        many(&mut changes, WATCH_CHANGES);
        assert_eq!(told(&mut changes).len(), WATCH_CHANGES);
        many(&mut changes, WATCH_CHANGES + 7);
        assert!(changes.list.is_empty());
        assert_eq!(told(&mut changes), ["Overflow /w"]);
        many(&mut changes, 1);
        assert_eq!(told(&mut changes), ["Created 0"]);
    }
}
