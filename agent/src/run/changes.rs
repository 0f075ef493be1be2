//! What a run has changed: two looks at the sandbox from outside, and the difference.
//!
//! A look is cheap because it opens no file: a file is another one when its inode, or the time of its last change,
//! is. What packages were installed is seen by the directories that installers make for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{env, mem};

use nix::fcntl::OFlag;
use tokio::task::spawn_blocking;
use wire::limits::{CHANGES_LOOKED_AT, CHANGES_TOLD};
use wire::v1::run_event::Event;
use wire::v1::{ChangeKind, Changes, FileChange, PackageChange, PortChange};

use super::Run;

/// Directories of which nobody wants to know what is in them.
const PASSED_OVER: [&str; 2] = [".git", "__pycache__"];
/// The directory with a Python's packages, and what the name of the one ends with that describes a package.
const PYTHON: (&str, &str) = ("site-packages", "dist-info");
/// The directory with Node.js' packages, one directory each.
const NODE: &str = "node_modules";
/// Where Python installs packages for one user, from their home.
const USERS_OWN: &str = ".local/lib";
/// The state of a socket that listens, in /proc/net/tcp.
const LISTENS: &str = "0A";

/// A run that is to tell what it changes.
#[derive(Debug)]
pub(super) struct Watched {
    workspace: PathBuf,
    before: OnceLock<Arc<Look>>,
}

/// What the sandbox was like at one moment.
#[derive(Debug, Default, PartialEq)]
struct Look {
    /// By path; none where there is too much.
    entries: Option<BTreeMap<PathBuf, Mark>>,
    ports: BTreeSet<u16>,
}

/// What tells an entry from another one at the same path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    inode: u64,
    /// In seconds and nanoseconds. It moves with every change of the bytes, the mode and the name.
    changed: (i64, i64),
    size: u64,
    directory: bool,
}

impl Run {
    /// Lets it tell what it changes below the workspace.
    pub(crate) fn is_watched(&self, workspace: PathBuf) {
        // A run is started once.
        let _ = self.watched.set(Watched { workspace, before: OnceLock::new() });
    }

    /// Looks at what there is before anything of it runs, where it is to tell what it changes.
    pub(crate) async fn look_before(&self) {
        if let Some(Watched { workspace, before }) = self.watched.get()
            && let Some(look) = look(workspace).await
        {
            let _ = before.set(Arc::new(look));
        }
    }

    /// Records what is different now.
    pub(crate) async fn tell_changes(&self) {
        let Some(Watched { workspace, before }) = self.watched.get() else { return };
        let (Some(before), Some(after)) = (before.get().cloned(), look(workspace).await) else {
            return;
        };
        let workspace = workspace.clone();
        let changes = spawn_blocking(move || before.until(&after, &workspace)).await;
        if let Ok(changes) = changes {
            self.append(Event::Changes(changes));
        }
    }
}

async fn look(workspace: &Path) -> Option<Look> {
    let roots = [workspace.to_owned(), env::home_dir().unwrap_or_default().join(USERS_OWN)];
    spawn_blocking(move || Look { entries: entries(roots.into()), ports: ports() }).await.ok()
}

/// Everything below directories that counts, or nothing where that is too much.
fn entries(mut left: Vec<PathBuf>) -> Option<BTreeMap<PathBuf, Mark>> {
    let mut found = BTreeMap::new();
    let mut seen = 0;
    while let Some(directory) = left.pop() {
        let kind = Directory::of(&directory);
        // What cannot be read is not the user's.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > CHANGES_LOOKED_AT {
                return None;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            let (path, mark) = (entry.path(), kind.mark(&metadata));
            let (counts, goes_on) = kind.takes(&path, mark.directory);
            if goes_on {
                left.push(path.clone());
            }
            if counts {
                found.insert(path, mark);
            }
        }
    }
    Some(found)
}

/// What is looked for in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directory {
    Plain,
    Python,
    Node,
}

impl Directory {
    fn of(path: &Path) -> Self {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
        let above = path.parent().map(name).unwrap_or_default();
        match name(path) {
            own if own == PYTHON.0 => Self::Python,
            own if own == NODE => Self::Node,
            // The packages of one scope have a directory of their own.
            own if above == NODE && own.as_bytes().starts_with(b"@") => Self::Node,
            _ => Self::Plain,
        }
    }

    /// Whether an entry of it counts, and whether what is in that does.
    fn takes(self, path: &Path, directory: bool) -> (bool, bool) {
        let name = path.file_name().unwrap_or_default();
        let begins = |with: &[u8]| name.as_bytes().starts_with(with);
        match self {
            Self::Plain if PASSED_OVER.iter().any(|over| name == *over) => (false, false),
            Self::Plain => (!begins(crate::files::HIDDEN.as_bytes()), directory),
            Self::Python => (path.extension().is_some_and(|own| own == PYTHON.1), false),
            Self::Node if begins(b"@") => (false, directory),
            Self::Node => (directory && !begins(b"."), false),
        }
    }

    /// What tells an entry of it from another.
    fn mark(self, metadata: &Metadata) -> Mark {
        let directory = metadata.is_dir();
        if directory && self == Self::Plain {
            // It is what is in it, which counts by itself.
            return Mark { directory, ..Mark::default() };
        }
        Mark {
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: if directory { 0 } else { metadata.len() },
            directory,
        }
    }
}

impl Look {
    /// What is different in a later one.
    fn until(&self, after: &Self, workspace: &Path) -> Changes {
        let mut changes =
            Changes { ports: ports_between(&self.ports, &after.ports), ..Changes::default() };
        let (Some(before), Some(after)) = (&self.entries, &after.entries) else {
            return Changes { too_many: true, ..changes };
        };
        for (kind, path, mark) in differences(before, after) {
            match path.parent().map(Directory::of) {
                Some(Directory::Plain) | None => {
                    // What is in the user's own place and no package is Python's affair.
                    if let Ok(below) = path.strip_prefix(workspace) {
                        push(&mut changes.files, &mut changes.more_files, || {
                            file(kind, below, mark)
                        });
                    }
                }
                Some(Directory::Python) => {
                    push(&mut changes.packages, &mut changes.more_packages, || python(kind, path));
                }
                Some(Directory::Node) => {
                    push(&mut changes.packages, &mut changes.more_packages, || node(kind, path));
                }
            }
        }
        changes
    }
}

/// All that is different, by path.
fn differences<'a>(
    before: &'a BTreeMap<PathBuf, Mark>,
    after: &'a BTreeMap<PathBuf, Mark>,
) -> Vec<(ChangeKind, &'a Path, Mark)> {
    let added = after.iter().filter(|(path, _)| !before.contains_key(*path));
    let added = added.map(|(path, mark)| (ChangeKind::Added, &**path, *mark));
    let kept = before.iter().filter_map(|(path, mark)| match after.get(path) {
        None => Some((ChangeKind::Removed, &**path, *mark)),
        Some(now) => (mark != now).then_some((ChangeKind::Changed, &**path, *now)),
    });
    let mut all: Vec<_> = added.chain(kept).collect();
    all.sort_by_key(|(_, path, _)| *path);
    all
}

fn push<T>(told: &mut Vec<T>, more: &mut u32, one: impl FnOnce() -> T) {
    if told.len() < CHANGES_TOLD {
        told.push(one());
    } else {
        *more += 1;
    }
}

fn file(kind: ChangeKind, path: &Path, mark: Mark) -> FileChange {
    let mut path = path.as_os_str().as_bytes().to_vec();
    if mark.directory {
        path.push(b'/');
    }
    let size = if kind == ChangeKind::Removed { 0 } else { mark.size };
    FileChange { kind: kind.into(), path: path.into(), size }
}

/// `six-1.17.0.dist-info` is version 1.17.0 of six.
fn python(kind: ChangeKind, path: &Path) -> PackageChange {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let (name, version) = stem.rsplit_once('-').unwrap_or((&stem, ""));
    PackageChange { kind: kind.into(), name: name.to_owned(), version: version.to_owned() }
}

fn node(kind: ChangeKind, path: &Path) -> PackageChange {
    let scope = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let mut name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if scope.starts_with('@') {
        name = format!("{scope}/{name}");
    }
    PackageChange {
        kind: kind.into(),
        name,
        version: version_of_node_package(path).unwrap_or_default(),
    }
}

fn version_of_node_package(path: &Path) -> Option<String> {
    /// More than any that people write, in bytes.
    const LONGEST: u64 = 256 << 10;
    // What has the name need be no file, and nothing is waited for.
    let nonblocking = OFlag::O_NONBLOCK.bits();
    let file = File::options().read(true).custom_flags(nonblocking).open(path.join("package.json"));
    let file = file.ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))?;
    let mut described: serde_json::Value = serde_json::from_reader(file.take(LONGEST)).ok()?;
    match described.get_mut("version").map(mem::take)? {
        serde_json::Value::String(version) => Some(version),
        _ => None,
    }
}

fn ports_between(before: &BTreeSet<u16>, after: &BTreeSet<u16>) -> Vec<PortChange> {
    let change = |kind: ChangeKind| {
        move |port: &u16| PortChange { kind: kind.into(), port: u32::from(*port) }
    };
    let added = after.difference(before).map(change(ChangeKind::Added));
    added
        .chain(before.difference(after).map(change(ChangeKind::Removed)))
        .take(CHANGES_TOLD)
        .collect()
}

/// The ports of this sandbox on which something listens.
fn ports() -> BTreeSet<u16> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    tables.iter().flatten().flat_map(|table| listening(table)).collect()
}

/// The ports in a table of the kernel: `sl local_address rem_address st …`, numbers in hex.
fn listening(table: &str) -> impl Iterator<Item = u16> {
    table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let port = local.rsplit(':').next().filter(|_| state == LISTENS)?;
        u16::from_str_radix(port, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_on_which_something_listens() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000\n\
            1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000\n\
            2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0\n\
            3: what else\n";
        assert_eq!(listening(table).collect::<Vec<_>>(), [8080, 80]);
    }

    #[test]
    fn a_package_is_what_describes_it() {
        let named = |change: PackageChange| (change.name, change.version);
        let of = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let python = |path: &str| named(python(ChangeKind::Added, Path::new(path)));
        assert_eq!(python("/site-packages/scikit_learn-1.7.dist-info"), of("scikit_learn", "1.7"));
        assert_eq!(python("/site-packages/odd.dist-info"), of("odd", ""));
        let node = |path: &str| named(node(ChangeKind::Removed, Path::new(path)));
        assert_eq!(node("/none/node_modules/left-pad"), of("left-pad", ""));
        assert_eq!(node("/none/node_modules/@babel/core"), of("@babel/core", ""));
    }

    #[test]
    fn what_nobody_asks_for_is_passed_over() {
        let takes = |path: &str, directory| {
            let path = Path::new(path);
            Directory::of(path.parent().unwrap()).takes(path, directory)
        };
        for (path, directory, counts, goes_on) in [
            ("/w/a", false, true, false),
            ("/w/a", true, true, true),
            ("/w/.codesandbox-x", false, false, false),
            ("/w/.git", true, false, false),
            ("/w/__pycache__", true, false, false),
            ("/w/site-packages/six.py", false, false, false),
            ("/w/site-packages/six-1.dist-info", true, true, false),
            ("/w/node_modules/a", true, true, false),
            ("/w/node_modules/.bin", true, false, false),
            ("/w/node_modules/@a", true, false, true),
            ("/w/node_modules/@a/b", true, true, false),
        ] {
            assert_eq!(takes(path, directory), (counts, goes_on), "{path}");
        }
    }
}
