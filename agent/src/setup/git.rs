//! The repository that a setup clones, by the git of the sandbox's image.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use serde::Deserialize;

use crate::settings;

/// The variables that hold who is cloning.
const CREDENTIALS: [&str; 2] = ["CODESANDBOX_GIT_USERNAME", "CODESANDBOX_GIT_PASSWORD"];
/// What tells git who is cloning. The words are in no argument, which others could read and git would keep.
const HELPER: &str = r#"!f() { printf 'username=%s\npassword=%s\n' "$CODESANDBOX_GIT_USERNAME" "$CODESANDBOX_GIT_PASSWORD"; }; f"#;
/// The directory that a repository is cloned to at first, in the one where it is to be.
const CLONE: &str = ".codesandbox-clone";

/// What is to be cloned.
#[derive(Debug, Deserialize)]
pub(super) struct Git {
    pub(super) url: String,
    /// A branch, a tag or a commit.
    revision: Option<String>,
    /// How many commits; 0 are all.
    depth: u32,
    directory: Option<String>,
}

/// A call of git.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    arguments: Vec<String>,
    /// The URL of the server that is asked, where one is, without what is behind its name.
    server: Option<String>,
}

impl Git {
    /// Where it is put.
    pub(super) fn into(&self, workspace: &Path) -> PathBuf {
        self.directory.as_ref().map_or_else(|| workspace.to_owned(), |one| workspace.join(one))
    }

    /// The calls that bring it. A server gives a commit by its digits to who asks for that alone, and `clone` cannot.
    pub(super) fn steps(&self, into: &Path, clone: &Path) -> Vec<Step> {
        let (into, clone) = (into.to_string_lossy(), clone.to_string_lossy());
        let here = |arguments: &[&str]| Step {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            server: None,
        };
        let asked = |arguments: &[&str]| Step { server: Some(self.server()), ..here(arguments) };
        let depth = (self.depth > 0).then(|| format!("--depth={}", self.depth));
        let depth = depth.as_deref();
        // The directory of a volume is root's, and git shuns what is somebody else's.
        let trusted = here(&["config", "--global", "--add", "safe.directory", &into]);
        let commit = self.revision.as_deref().filter(|revision| is_commit(revision));
        let Some(commit) = commit else {
            let branch = self.revision.as_ref().map(|revision| format!("--branch={revision}"));
            let some = ["clone"].into_iter().chain(depth).chain(branch.as_deref());
            let all: Vec<_> = some.chain(["--", &self.url, &clone]).collect();
            return vec![trusted, asked(&all)];
        };
        let fetch = ["-C", &clone, "fetch"].into_iter().chain(depth).chain(["origin", commit]);
        vec![
            trusted,
            here(&["init", "--quiet", &clone]),
            here(&["-C", &clone, "remote", "add", "origin", &self.url]),
            asked(&fetch.collect::<Vec<_>>()),
            here(&["-C", &clone, "checkout", "--quiet", "--detach", commit]),
        ]
    }

    /// The URL up to the end of the server's name and port.
    fn server(&self) -> String {
        let name = self.url.find("://").map_or(0, |scheme| scheme + 3);
        let end = self.url[name..].find(['/', '?', '#']).map_or(self.url.len(), |end| name + end);
        self.url[..end].to_owned()
    }
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Step {
    pub(super) fn said(&self) -> String {
        format!("git {}", self.arguments.join(" "))
    }

    /// The call itself. Credentials are told to what asks the server, and for that server alone: it may send git to another.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("git");
        settings::hide_ours(&mut command);
        command.env("GIT_TERMINAL_PROMPT", "0");
        if let Some(server) = &self.server
            && CREDENTIALS.iter().all(|name| env::var_os(name).is_some())
        {
            command.args(["-c", "credential.helper="]);
            command.args(["-c", &format!("credential.{server}.helper={HELPER}")]);
            command.envs(CREDENTIALS.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        }
        command.args(&self.arguments);
        command
    }
}

/// A directory that a repository is to be in, which is empty until then.
#[derive(Debug)]
pub(super) struct Target {
    directory: PathBuf,
    /// Where in there it is cloned to at first: what a clone has left that was ended from outside is known by this name.
    pub(super) clone: PathBuf,
}

impl Target {
    /// Prepares it. Nothing is removed but what is left of another clone.
    pub(super) fn prepare(directory: PathBuf) -> io::Result<Self> {
        let clone = directory.join(CLONE);
        fs::create_dir_all(&directory)?;
        match fs::remove_dir_all(&clone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if fs::read_dir(&directory)?.next().is_some() {
            return Err(io::Error::other(format!("{} is not empty", directory.display())));
        }
        Ok(Self { directory, clone })
    }

    /// Puts what has been cloned where it belongs.
    pub(super) fn fill(self) -> io::Result<()> {
        for entry in fs::read_dir(&self.clone)? {
            let entry = entry?;
            fs::rename(entry.path(), self.directory.join(entry.file_name()))?;
        }
        fs::remove_dir(&self.clone)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn steps(git: Value) -> Vec<String> {
        let git: Git = serde_json::from_value(git).unwrap();
        git.steps(Path::new("/w"), Path::new("/w/c")).iter().map(Step::said).collect()
    }

    #[test]
    fn a_branch_or_a_tag_is_cloned_and_a_commit_is_fetched() {
        let url = "https://example.com/a.git";
        let trusted = "git config --global --add safe.directory /w";
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (git, calls) in [
            (
                json!({"url": url, "depth": 1}),
                &["clone --depth=1 -- https://example.com/a.git /w/c"][..],
            ),
            (json!({"url": url, "depth": 0}), &["clone -- https://example.com/a.git /w/c"]),
            (
                json!({"url": url, "depth": 3, "revision": "v1"}),
                &["clone --depth=3 --branch=v1 -- https://example.com/a.git /w/c"],
            ),
            (
                json!({"url": url, "depth": 1, "revision": commit}),
                &[
                    "init --quiet /w/c",
                    "-C /w/c remote add origin https://example.com/a.git",
                    "-C /w/c fetch --depth=1 origin 0123456789abcdef0123456789abcdef01234567",
                    "-C /w/c checkout --quiet --detach 0123456789abcdef0123456789abcdef01234567",
                ],
            ),
        ] {
            let calls: Vec<_> = calls.iter().map(|call| format!("git {call}")).collect();
            assert_eq!(steps(git)[1..], calls);
        }
        assert_eq!(steps(json!({"url": url, "depth": 1}))[0], trusted);
    }

    #[test]
    fn credentials_are_told_to_one_server_and_no_other() {
        for (url, server) in [
            ("https://example.com/a/b.git", "https://example.com"),
            ("http://example.com:8080/a", "http://example.com:8080"),
            ("https://example.com", "https://example.com"),
            ("https://example.com?a=/b", "https://example.com"),
        ] {
            let git: Git = serde_json::from_value(json!({"url": url, "depth": 1})).unwrap();
            let steps = git.steps(Path::new("/w"), Path::new("/w/c"));
            let servers: Vec<_> = steps.into_iter().map(|step| step.server).collect();
            assert_eq!(servers, [None, Some(server.to_owned())]);
        }
    }

    #[test]
    fn what_another_clone_left_is_removed_and_nothing_else_ever_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        fs::create_dir_all(path.join(CLONE).join("half")).unwrap();
        let target = Target::prepare(path.clone()).unwrap();
        fs::create_dir_all(target.clone.join(".git")).unwrap();
        fs::write(target.clone.join("file"), "one").unwrap();
        target.fill().unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".git", "file"]);

        let error = Target::prepare(path.clone()).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is not empty", path.display()));
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "one");
    }
}
