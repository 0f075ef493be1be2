//! Globs, by the same rules wherever a call takes one.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use wire::limits::MAX_PATTERN;
use wire::{Code, Error};

/// What the paths below a directory are matched against.
pub(super) struct Glob {
    matcher: GlobMatcher,
    /// Without a slash it is matched against names, as in a .gitignore.
    of_names: bool,
}

impl Glob {
    /// The glob of a request; an empty one matches everything.
    pub(super) fn new(glob: &str) -> Result<Option<Self>, Error> {
        if glob.is_empty() {
            return Ok(None);
        }
        if glob.len() > MAX_PATTERN {
            let message = format!("glob: is longer than {MAX_PATTERN} bytes; use a shorter one");
            return Err(Error::new(Code::InvalidArgument, message));
        }
        match GlobBuilder::new(glob).literal_separator(true).build() {
            Ok(built) => {
                let of_names = !glob.contains('/');
                Ok(Some(Self { matcher: built.compile_matcher(), of_names }))
            }
            Err(error) => {
                let message = format!("glob: {error}; escape what is meant literally with [ ]");
                Err(Error::new(Code::InvalidArgument, message))
            }
        }
    }

    /// Whether it matches a path, given relative to the directory that the call is about.
    pub(super) fn matches(&self, path: &Path) -> bool {
        let of = if self.of_names { path.file_name().map(Path::new) } else { Some(path) };
        of.is_some_and(|of| self.matcher.is_match(of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_with_a_slash_is_of_paths_and_one_without_of_names() {
        let matched = |glob: &str| -> Vec<&str> {
            let glob = Glob::new(glob).unwrap().unwrap();
            let paths = ["a.py", "src/b.py", "src/deep/c.py", "src/d.rs", "[x].py"];
            paths.into_iter().filter(|path| glob.matches(Path::new(path))).collect()
        };
        assert_eq!(matched("*.rs"), ["src/d.rs"]);
        assert_eq!(matched("**/*.py"), ["a.py", "src/b.py", "src/deep/c.py", "[x].py"]);
        assert_eq!(matched("src/*.py"), ["src/b.py"]);
        assert_eq!(matched("src/**"), ["src/b.py", "src/deep/c.py", "src/d.rs"]);
        assert_eq!(matched("{a,c}.py"), ["a.py", "src/deep/c.py"]);
        assert_eq!(matched("[[]*"), ["[x].py"]);
        assert!(Glob::new("").unwrap().is_none());
        for wrong in ["[", &"a".repeat(MAX_PATTERN + 1)] {
            assert_eq!(Glob::new(wrong).err().unwrap().code, Code::InvalidArgument);
        }
    }
}
