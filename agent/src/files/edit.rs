//! Editing a file: some of its text becomes other text, all of it at once or nothing.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use memchr::memmem;
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use wire::limits::{EDIT_LINES, EDIT_OCCURRENCES, MAX_EDIT_FILE, MAX_EDITS};
use wire::v1::edit_request::Replacement;
use wire::v1::{EditReply, EditRequest};
use wire::{Code, Error};

use super::temporary::Temporary;
use super::{Turn, blocking, entry, failed};

/// Makes the replacements of a request in the file at `path`, each in what the one before it left.
pub(crate) async fn edit(
    path: PathBuf,
    request: EditRequest,
    turn: &Turn,
) -> Result<EditReply, Error> {
    check(&request.edits)?;
    let turn = turn.clone().lock_owned().await;
    blocking(move || {
        let _turn = turn;
        prepare(&path, &request)?.place()
    })
    .await
}

/// Refuses what would be wrong in any file.
fn check(edits: &[Replacement]) -> Result<(), Error> {
    let invalid = |message: String| Err(Error::new(Code::InvalidArgument, message));
    if edits.is_empty() || edits.len() > MAX_EDITS {
        let count = edits.len();
        return invalid(format!("edits: {count} are given; give 1 to {MAX_EDITS} in a call"));
    }
    for (index, Replacement { old, new, .. }) in edits.iter().enumerate() {
        let edit = Numbered(index, edits.len());
        if old.is_empty() {
            return invalid(format!("{edit}: its old text is empty; give what is to be replaced"));
        }
        if old == new {
            return invalid(format!("{edit}: its old and new text are the same; leave it out"));
        }
    }
    Ok(())
}

/// An edited file beside the one whose place it will take.
struct Edited {
    path: PathBuf,
    /// What the file was when it was read.
    had: Metadata,
    temporary: Temporary,
    sha256: Bytes,
    replacements: u64,
}

fn prepare(path: &Path, request: &EditRequest) -> Result<Edited, Error> {
    // A symlink stays one: what it points to is edited.
    let path = fs::canonicalize(path).map_err(|error| failed(path, &error))?;
    let no = |error: io::Error| failed(&path, &error);
    let (mut text, had) = read(&path)?;
    if !request.if_sha256.is_empty() && Sha256::digest(&text)[..] != request.if_sha256[..] {
        return Err(changed(&path));
    }
    let mut replacements = 0;
    for (index, edit) in request.edits.iter().enumerate() {
        let (edited, count) = replace(&text, edit).map_err(|Error { code, message }| {
            let edit = Numbered(index, request.edits.len());
            let path = path.display();
            Error::new(code, format!("{path}: {edit}: {message}"))
        })?;
        text = edited;
        replacements += count;
    }
    let mut temporary = Temporary::beside(path.parent().unwrap_or(&path)).map_err(no)?;
    let file = temporary.file();
    file.write_all(&text).and_then(|()| file.set_permissions(had.permissions())).map_err(no)?;
    let sha256 = Bytes::copy_from_slice(&Sha256::digest(&text));
    Ok(Edited { path, had, temporary, sha256, replacements })
}

impl Edited {
    fn place(self) -> Result<EditReply, Error> {
        let Self { path, had, temporary, sha256, replacements } = self;
        let no = |error: io::Error| failed(&path, &error);
        // Whoever does not come through us takes no turns. It leaves a moment, and not the time that all
        // this took.
        let is = fs::metadata(&path).map_err(no)?;
        if state(&is) != state(&had) {
            return Err(changed(&path));
        }
        let found = temporary.persist(&path).and_then(|file| file.metadata()).map_err(no)?;
        Ok(EditReply { entry: Some(entry(&path, &found)), sha256, replacements })
    }
}

/// All of a file, and what it was when it was opened.
fn read(path: &Path) -> Result<(Vec<u8>, Metadata), Error> {
    // Without it, opening a pipe would wait for a writer.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let (file, had) = opened
        .and_then(|file: File| file.metadata().map(|had| (file, had)))
        .map_err(|error| failed(path, &error))?;
    if !had.is_file() {
        let what = if had.is_dir() { "a directory" } else { "no regular file" };
        let message = format!("{}: is {what}; name a file", path.display());
        return Err(Error::new(Code::FileKind, message));
    }
    let mut text = Vec::new();
    file.take(MAX_EDIT_FILE as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| failed(path, &error))?;
    if text.len() > MAX_EDIT_FILE {
        let message = format!(
            "{}: is larger than {MAX_EDIT_FILE} bytes, and was not changed; edit it with a command",
            path.display()
        );
        return Err(Error::new(Code::InvalidArgument, message));
    }
    Ok((text, had))
}

/// What changes when a file does.
fn state(found: &Metadata) -> [i128; 5] {
    let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
    [found.dev().into(), found.ino().into(), found.len().into(), found.mode().into(), changed]
}

fn changed(path: &Path) -> Error {
    let message = format!(
        "{}: is not what it was when it was read, and was not changed; read it again and make the edit anew",
        path.display()
    );
    Error::new(Code::Conflict, message)
}

/// The text with a replacement made in it, and how often.
fn replace(text: &[u8], edit: &Replacement) -> Result<(Vec<u8>, u64), Error> {
    let Replacement { old, new, all } = edit;
    let mismatch = |message| Err(Error::new(Code::EditMismatch, message));
    let count = memmem::find_iter(text, old).count();
    if count == 0 {
        return mismatch(
            "its old text does not occur; nothing was changed. Read the file and give the text as it stands there, white space and line ends included".to_owned(),
        );
    }
    if !all {
        let places: Vec<usize> = overlapping(text, old).take(EDIT_OCCURRENCES).collect();
        if places.len() > 1 {
            let or_more = if places.len() == EDIT_OCCURRENCES { " or more" } else { "" };
            return mismatch(format!(
                "its old text occurs {} times{or_more}, at lines {}; nothing was changed. Give more of the text around it, or set all",
                places.len(),
                lines(text, &places)
            ));
        }
    }
    let size = (text.len() - count * old.len()).saturating_add(count.saturating_mul(new.len()));
    if size > MAX_EDIT_FILE {
        let message = format!(
            "would make a file of {size} bytes, and more than {MAX_EDIT_FILE} are not edited; nothing was changed. Use a command"
        );
        return Err(Error::new(Code::InvalidArgument, message));
    }
    let (mut edited, mut from) = (Vec::with_capacity(size), 0);
    for at in memmem::find_iter(text, old) {
        edited.extend_from_slice(&text[from..at]);
        edited.extend_from_slice(new);
        from = at + old.len();
    }
    edited.extend_from_slice(&text[from..]);
    Ok((edited, count as u64))
}

/// Where a text occurs, the places included at which it overlaps itself: which of them is meant would be
/// a guess as well.
fn overlapping<'a>(text: &'a [u8], old: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let finder = memmem::Finder::new(old);
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + finder.find(&text[from..])?;
        from = at + 1;
        Some(at)
    })
}

/// At which lines these places are, as many as one can do something with.
fn lines(text: &[u8], places: &[usize]) -> String {
    let (mut line, mut from, mut lines) = (1, 0, Vec::new());
    for &at in places.iter().take(EDIT_LINES) {
        line += memchr::memchr_iter(b'\n', &text[from..at]).count();
        from = at;
        lines.push(line.to_string());
    }
    let more = if places.len() > EDIT_LINES { " and further on" } else { "" };
    format!("{}{more}", lines.join(", "))
}

/// An edit by its place in the request.
struct Numbered(usize, usize);

impl std::fmt::Display for Numbered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "edit {} of {}", self.0 + 1, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, old: &str, new: &str, all: bool) -> Result<(String, u64), String> {
        let edit = Replacement { old: old.to_owned().into(), new: new.to_owned().into(), all };
        match replace(text.as_bytes(), &edit) {
            Ok((text, count)) => Ok((String::from_utf8(text).unwrap(), count)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_text_is_replaced_where_it_occurs_once_or_everywhere_if_asked_to() {
        assert_eq!(edited("a b c", "b", "", false), Ok(("a  c".into(), 1)));
        assert_eq!(edited("a b\na", "a", "aa", true), Ok(("aa b\naa".into(), 2)));
        assert_eq!(edited("aaaa", "aa", "b", true), Ok(("bb".into(), 2)));
        let many = |count: &str, lines: &str| {
            format!(
                "EDIT_MISMATCH: its old text occurs {count}, at lines {lines}; nothing was changed. Give more of the text around it, or set all"
            )
        };
        assert_eq!(edited("a\nb\naa", "a", "", false), Err(many("3 times", "1, 3, 3")));
        // It is not said which of the two is meant.
        assert_eq!(edited("\naaa", "aa", "", false), Err(many("2 times", "2, 2")));
        let lines = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and further on";
        assert_eq!(edited(&"a\n".repeat(12), "a", "", false), Err(many("12 times", lines)));
        assert_eq!(
            edited(&"a\n".repeat(5000), "a", "", false),
            Err(many("1000 times or more", lines))
        );
        for all in [false, true] {
            let said = edited("a", "b", "", all).unwrap_err();
            assert!(
                said.starts_with("EDIT_MISMATCH: its old text does not occur; nothing"),
                "{said}"
            );
        }
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_is_not_undone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let edit = Replacement { old: "one".into(), new: "two".into(), all: false };
        let request = EditRequest { edits: vec![edit], ..EditRequest::default() };
        let edited = prepare(&path, &request).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert_eq!(edited.place().unwrap_err().code, Code::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_edit_makes_no_file_that_is_too_large_to_be_edited() {
        let text = "a".to_owned() + &"\n".repeat(MAX_EDIT_FILE - 2) + "a";
        assert_eq!(edited(&text, "a", "b", true).unwrap().1, 2);
        let said = edited(&text, "a", "bb", true).unwrap_err();
        let size = MAX_EDIT_FILE + 2;
        assert!(
            said.starts_with(&format!("INVALID_ARGUMENT: would make a file of {size} bytes")),
            "{said}"
        );
    }
}
