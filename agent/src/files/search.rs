//! Searching files for a pattern, as ripgrep does and with its libraries.
//!
//! A step searches one file or passes over some that are none to search. What it has found is sent before
//! the next begins, so that a search goes no faster than its caller reads, and ends when it goes away.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{
    BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkFinish, SinkMatch,
};
use ignore::{DirEntry, Walk, WalkBuilder};
use nix::fcntl::OFlag;
use wire::limits::{
    MAX_PATTERN, PATTERN_MEMORY, PATTERN_NESTING, SEARCH_BYTES, SEARCH_CONTEXT, SEARCH_FILE,
    SEARCH_LINE, SEARCH_LINE_COST, SEARCH_LINE_MEMORY, SEARCH_MATCHES, SEARCH_MOST_BYTES,
    SEARCH_MOST_MATCHES, SEARCH_STEP, SEARCH_TIME,
};
use wire::v1::search_end::Bound;
use wire::v1::search_event::Event;
use wire::v1::{SearchEnd, SearchEvent, SearchLine, SearchRequest};
use wire::{Code, Error};

use super::glob::Glob;
use super::{blocking, bytes, failed};

/// Where files are that never end, or are none. Whoever means them names them.
const NO_FILES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Searches a file, or the files below a directory.
pub(crate) async fn search(
    path: PathBuf,
    request: SearchRequest,
) -> Result<impl Stream<Item = Result<SearchEvent, Error>>, Error> {
    let search = blocking(move || Search::begin(path, &request)).await?;
    let steps = stream::unfold(Some(search), |search| async {
        let search = search?;
        Some(match blocking(move || Ok(search.step())).await {
            Ok((events, search)) => (events.into_iter().map(Ok).collect(), search),
            Err(error) => (vec![Err(error)], None),
        })
    });
    Ok(steps
        .flat_map(stream::iter)
        .map(|event| event.map(|event| SearchEvent { event: Some(event) })))
}

struct Search {
    root: PathBuf,
    walk: Walk,
    glob: Option<Glob>,
    matcher: RegexMatcher,
    searcher: Searcher,
    began: Instant,
    left: Left,
    end: SearchEnd,
}

/// What may still be sent.
#[derive(Clone, Copy)]
struct Left {
    matches: u32,
    bytes: usize,
}

impl Search {
    fn begin(root: PathBuf, request: &SearchRequest) -> Result<Self, Error> {
        std::fs::metadata(&root).map_err(|error| failed(&root, &error))?;
        let matcher = matcher(request)?;
        let glob = Glob::new(&request.glob)?;
        if request.context > SEARCH_CONTEXT {
            let message = format!(
                "context: at most {SEARCH_CONTEXT} lines are taken; read the file for more"
            );
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let context = request.context as usize;
        let searcher = SearcherBuilder::new()
            .before_context(context)
            .after_context(context)
            .binary_detection(BinaryDetection::quit(0))
            .heap_limit(Some(SEARCH_LINE_MEMORY))
            .build();
        let or = |asked: u32, default: u32, most: u32| match asked {
            0 => default,
            asked => asked.min(most),
        };
        let left = Left {
            matches: or(request.max_matches, SEARCH_MATCHES, SEARCH_MOST_MATCHES),
            bytes: or(request.max_bytes, SEARCH_BYTES, SEARCH_MOST_BYTES) as usize,
        };
        let walk = walk(&root, request.ignored);
        let (began, end) = (Instant::now(), SearchEnd::default());
        Ok(Self { root, walk, glob, matcher, searcher, began, left, end })
    }

    /// Searches on until something is found, and says whether there is more to search.
    fn step(mut self) -> (Vec<Event>, Option<Self>) {
        for _ in 0..SEARCH_STEP {
            if self.began.elapsed() > SEARCH_TIME {
                self.end.set_stopped_by(Bound::Time);
            }
            let next = match self.end.stopped_by() {
                Bound::Unspecified => self.walk.next(),
                _ => None,
            };
            let lines = match next {
                None => return (vec![Event::End(self.end)], None),
                Some(Ok(entry)) => self.look(&entry),
                Some(Err(_)) => {
                    self.end.unread += 1;
                    continue;
                }
            };
            if !lines.is_empty() {
                return (lines.into_iter().map(Event::Line).collect(), Some(self));
            }
        }
        (Vec::new(), Some(self))
    }

    /// The lines found in what the walk has come to, if that is a file to search.
    fn look(&mut self, entry: &DirEntry) -> Vec<SearchLine> {
        let (path, named) = (entry.path(), entry.depth() == 0);
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let matches = || self.glob.as_ref().is_none_or(|glob| glob.matches(below));
        // What the caller has named is meant, whatever it is called and if by a symlink.
        let wanted = named || (entry.file_type().is_some_and(|kind| kind.is_file()) && matches());
        if !wanted {
            return Vec::new();
        }
        match open(path, named) {
            Ok(Some(file)) => self.search(path, &file),
            Ok(None) => Vec::new(),
            Err(_) => {
                self.end.unread += 1;
                Vec::new()
            }
        }
    }

    fn search(&mut self, path: &Path, file: &File) -> Vec<SearchLine> {
        let mut found = Found {
            path: bytes(path),
            lines: Vec::new(),
            matches: 0,
            left: self.left,
            stopped: Bound::Unspecified,
            binary: false,
        };
        let searched = self.searcher.search_file(&self.matcher, file, &mut found);
        if found.binary {
            return Vec::new();
        }
        match searched {
            Ok(()) => self.end.files += 1,
            Err(_) => self.end.unread += 1,
        }
        self.left = found.left;
        self.end.matches += found.matches;
        self.end.set_stopped_by(found.stopped);
        found.lines
    }
}

/// What is found in one file.
struct Found {
    path: Bytes,
    lines: Vec<SearchLine>,
    matches: u64,
    left: Left,
    stopped: Bound,
    /// Whether the file turned out to be no text.
    binary: bool,
}

impl Found {
    /// Takes a line up if there is room for it.
    fn push(&mut self, number: Option<u64>, line: &[u8], context: bool) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut end = line.len().min(SEARCH_LINE);
        // Not in the middle of a character.
        while end < line.len() && end > 0 && line[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        let cost = self.path.len() + end + SEARCH_LINE_COST;
        if cost > self.left.bytes {
            self.stopped = Bound::Bytes;
            return false;
        }
        self.left.bytes -= cost;
        self.lines.push(SearchLine {
            path: self.path.clone(),
            number: number.unwrap_or_default(),
            text: Bytes::copy_from_slice(&line[..end]),
            context,
            cut: end < line.len(),
        });
        true
    }
}

impl Sink for Found {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, line: &SinkMatch<'_>) -> io::Result<bool> {
        // Only when there is one more: a search that found just as many as it may is complete.
        if self.left.matches == 0 {
            self.stopped = Bound::Matches;
            return Ok(false);
        }
        let taken = self.push(line.line_number(), line.bytes(), false);
        self.left.matches -= u32::from(taken);
        self.matches += u64::from(taken);
        Ok(taken)
    }

    fn context(&mut self, _: &Searcher, line: &SinkContext<'_>) -> io::Result<bool> {
        Ok(self.push(line.line_number(), line.bytes(), true))
    }

    fn finish(&mut self, _: &Searcher, end: &SinkFinish) -> io::Result<()> {
        self.binary = end.binary_byte_offset().is_some();
        Ok(())
    }
}

fn matcher(request: &SearchRequest) -> Result<RegexMatcher, Error> {
    let invalid = |message: String| Error::new(Code::InvalidArgument, message);
    if request.pattern.is_empty() || request.pattern.len() > MAX_PATTERN {
        let length = request.pattern.len();
        return Err(invalid(format!("pattern: has {length} bytes; give 1 to {MAX_PATTERN}")));
    }
    RegexMatcherBuilder::new()
        .case_insensitive(request.ignore_case)
        .fixed_strings(request.literal)
        .line_terminator(Some(b'\n'))
        .nest_limit(PATTERN_NESTING)
        .size_limit(PATTERN_MEMORY)
        .dfa_size_limit(PATTERN_MEMORY)
        .build(&request.pattern)
        .map_err(|error| {
            invalid(format!("pattern: {error}; correct it, or set literal if it is meant as it is"))
        })
}

/// The files below a directory, in order.
fn walk(root: &Path, ignored: bool) -> Walk {
    WalkBuilder::new(root)
        .standard_filters(!ignored)
        // What the sandbox's user has in its home says nothing of these files, and that they are in a
        // repository nobody knows who has copied them here.
        .git_global(false)
        .require_git(false)
        .sort_by_file_name(Ord::cmp)
        .filter_entry(|entry| {
            entry.depth() == 0 || !NO_FILES.iter().any(|no| entry.path() == Path::new(no))
        })
        .build()
}

/// A regular file of a size that is searched, `None` for what is another thing.
fn open(path: &Path, follow: bool) -> io::Result<Option<File>> {
    // Another may have taken its place meanwhile: no symlink is followed, and no pipe waited for.
    let no_follow = if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let flags = (no_follow | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.len() > SEARCH_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(found.is_file().then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_has_gone_on_for_too_long_says_so_and_ends() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), "a\n").unwrap();
        let request = SearchRequest { pattern: "a".to_owned(), ..SearchRequest::default() };
        let mut search = Search::begin(directory.path().to_owned(), &request).unwrap();
        search.began = Instant::now().checked_sub(SEARCH_TIME * 2).unwrap();
        let (events, search) = search.step();
        let end = SearchEnd { stopped_by: Bound::Time.into(), ..SearchEnd::default() };
        assert_eq!((events, search.is_none()), (vec![Event::End(end)], true));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut found = Found {
            path: Bytes::new(),
            lines: Vec::new(),
            matches: 0,
            left: Left { matches: 9, bytes: 9999 },
            stopped: Bound::Unspecified,
            binary: false,
        };
        let text = "é".repeat(SEARCH_LINE / 2);
        for (line, expected, cut) in [
            (format!("{text}\r\n"), text.clone(), false),
            (format!("{text}x\n"), text.clone(), true),
            (format!("x{text}"), format!("x{}", &text[2..]), true),
        ] {
            assert!(found.push(Some(1), line.as_bytes(), false));
            let line = found.lines.pop().unwrap();
            assert_eq!((line.text, line.cut), (Bytes::from(expected), cut));
        }
    }
}
