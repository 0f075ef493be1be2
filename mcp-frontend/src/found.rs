//! What a search has found, as ripgrep prints it.

use std::fmt::Write;

use client::Found;
use rmcp::model::{CallToolResult, ContentBlock};
use wire::v1::{SearchEnd, SearchLine, search_end::Bound};

/// The answer to who searches: the lines, and what was searched and what not.
pub(crate) fn told(found: &Found, context: bool) -> CallToolResult {
    let lines = lines(&found.lines, context);
    let blocks = (!lines.is_empty()).then_some(lines).into_iter().chain([note(&found.end)]);
    CallToolResult::success(blocks.map(ContentBlock::text).collect())
}

fn lines(lines: &[SearchLine], context: bool) -> String {
    let mut text = String::new();
    let mut last: Option<&SearchLine> = None;
    for line in lines {
        // What an agent says of numbers need not be true.
        let adjoins = |last: &SearchLine| {
            last.path == line.path && last.number.checked_add(1) == Some(line.number)
        };
        if context && last.is_some_and(|last| !adjoins(last)) {
            text.push_str("--\n");
        }
        let (path, words) =
            (String::from_utf8_lossy(&line.path), String::from_utf8_lossy(&line.text));
        let mark = if line.context { '-' } else { ':' };
        let cut = if line.cut { " [... the line goes on]" } else { "" };
        writeln!(text, "{path}{mark}{}{mark}{words}{cut}", line.number)
            .expect("a string takes all");
        last = Some(line);
    }
    text.truncate(text.trim_end_matches('\n').len());
    text
}

fn note(end: &SearchEnd) -> String {
    let SearchEnd { files, matches, unread, .. } = end;
    let stopped = match end.stopped_by() {
        Bound::Unspecified => "",
        Bound::Matches => "; there are more: narrow pattern, path or glob, or raise max_matches",
        Bound::Bytes => {
            "; there are more than fit: narrow pattern, path or glob, or take less context"
        }
        Bound::Time => "; not all was searched in time: narrow path or glob",
    };
    let unread = match unread {
        0 => String::new(),
        unread => format!("; {unread} could not be read, or not wholly"),
    };
    format!("[{matches} matches in {files} files searched{unread}{stopped}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str, number: u64, context: bool) -> SearchLine {
        let (path, text) = (path.to_owned().into(), "text".into());
        SearchLine { path, number, text, context, cut: false }
    }

    fn texts(found: &Found, context: bool) -> Vec<String> {
        let blocks = told(found, context).content;
        blocks.iter().map(|block| block.as_text().unwrap().text.clone()).collect()
    }

    #[test]
    fn lines_are_told_as_ripgrep_prints_them() {
        let lines = vec![
            line("/a", 1, true),
            line("/a", 2, false),
            line("/a", 4, false),
            SearchLine { cut: true, text: b"\xff"[..].into(), ..line("/b", 5, false) },
        ];
        let end = SearchEnd { files: 3, matches: 3, ..SearchEnd::default() };
        let mut found = Found { lines, end };
        let note = "[3 matches in 3 files searched]";
        let plain = "/a-1-text\n/a:2:text\n/a:4:text\n/b:5:\u{fffd} [... the line goes on]";
        assert_eq!(texts(&found, false), [plain, note]);
        let apart = "/a-1-text\n/a:2:text\n--\n/a:4:text\n--\n/b:5:\u{fffd} [... the line goes on]";
        assert_eq!(texts(&found, true), [apart, note]);
        found.lines.clear();
        assert_eq!(texts(&found, true), [note]);
    }

    #[test]
    fn what_was_not_searched_is_said() {
        for (stopped_by, unread, said) in [
            (
                Bound::Matches,
                0,
                "[1 matches in 2 files searched; there are more: narrow pattern, path or glob, or raise max_matches]",
            ),
            (
                Bound::Bytes,
                0,
                "[1 matches in 2 files searched; there are more than fit: narrow pattern, path or glob, or take less context]",
            ),
            (
                Bound::Time,
                3,
                "[1 matches in 2 files searched; 3 could not be read, or not wholly; not all was searched in time: narrow path or glob]",
            ),
        ] {
            let end = SearchEnd { files: 2, matches: 1, stopped_by: stopped_by.into(), unread };
            assert_eq!(note(&end), said);
        }
    }
}
