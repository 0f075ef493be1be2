//! The repository that a setup clones, by the git of the sandbox's image.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::settings;

/// The variables that hold who is cloning.
const CREDENTIALS: [&str; 2] = ["CODESANDBOX_GIT_USERNAME", "CODESANDBOX_GIT_PASSWORD"];
/// What tells git who is cloning. The words are in no argument, which others could read and git would keep.
const HELPER: &str = r#"!f() { printf 'username=%s\npassword=%s\n' "$CODESANDBOX_GIT_USERNAME" "$CODESANDBOX_GIT_PASSWORD"; }; f"#;
/// The directory that a repository is cloned to at first, in the one where it is to be.
const CLONE: &str = ".codesandbox-clone";
/// What says in the home directory, which lives as long as the workspace, which repository has been cloned.
const CLONED: &str = ".codesandbox-cloned";
/// The variables of a user that git has where it knows who is cloning. Others make it tell.
const HARMLESS: [&str; 2] = ["GIT_SSL_CAINFO", "GIT_SSL_CAPATH"];

/// What is to be cloned.
#[derive(Debug, Serialize, Deserialize)]
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
    /// Where it is to be.
    pub(super) fn directory(&self, workspace: &Path) -> PathBuf {
        self.directory.as_ref().map_or_else(|| workspace.to_owned(), |one| workspace.join(one))
    }

    /// The calls that bring it. A server gives a commit by its digits to who asks for that alone, and `clone` cannot.
    pub(super) fn steps(&self, target: &Target) -> Vec<Step> {
        let clone = target.clone.to_string_lossy();
        let here = |arguments: &[&str]| Step {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            server: None,
        };
        let asked = |arguments: &[&str]| Step { server: Some(self.server()), ..here(arguments) };
        let depth = (self.depth > 0).then(|| format!("--depth={}", self.depth));
        let depth = depth.as_deref();
        // The directory of a volume is root's, and git shuns what is somebody else's.
        let directory = target.directory.to_string_lossy();
        let trusted = here(&["config", "--global", "--add", "safe.directory", &directory]);
        let trusted = target.is_anothers.then_some(trusted);
        let commit = self.revision.as_deref().filter(|revision| is_commit(revision));
        let Some(commit) = commit else {
            let branch = self.revision.as_ref().map(|revision| format!("--branch={revision}"));
            let some = ["clone"].into_iter().chain(depth).chain(branch.as_deref());
            let all: Vec<_> = some.chain(["--", &self.url, &clone]).collect();
            return trusted.into_iter().chain([asked(&all)]).collect();
        };
        let fetch = ["-C", &clone, "fetch"].into_iter().chain(depth).chain(["origin", commit]);
        let all = [
            here(&["init", "--quiet", &clone]),
            here(&["-C", &clone, "remote", "add", "origin", &self.url]),
            asked(&fetch.collect::<Vec<_>>()),
            here(&["-C", &clone, "checkout", "--quiet", "--detach", commit]),
        ];
        trusted.into_iter().chain(all).collect()
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

/// Who is cloning.
#[derive(Debug)]
pub(super) struct Credentials([(&'static str, String); 2]);

impl Credentials {
    /// Those of the environment, if there are any. A Secret that was made from a file ends in a line break, which is not meant; one
    /// within would end what git is told, or begin something else that it is told.
    pub(super) fn from_env() -> Result<Option<Self>, String> {
        let told = CREDENTIALS.map(|name| {
            let text = env::var(name).ok()?;
            Some((name, text.trim_end_matches(['\r', '\n']).to_owned()))
        });
        let [Some(username), Some(password)] = told else { return Ok(None) };
        if [&username.1, &password.1].iter().any(|text| text.contains(['\r', '\n'])) {
            return Err("the username or the password of its Secret has several lines".into());
        }
        Ok(Some(Self([username, password])))
    }
}

impl Step {
    pub(super) fn said(&self) -> String {
        format!("git {}", self.arguments.join(" "))
    }

    /// Whether it asks the server.
    pub(super) fn asks(&self) -> bool {
        self.server.is_some()
    }

    /// The call itself. Credentials are told to what asks the server, and for that server alone: it may send git to another.
    pub(super) fn command(&self, credentials: Option<&Credentials>) -> Command {
        let mut command = Command::new("git");
        settings::hide_ours(&mut command);
        if let (Some(server), Some(Credentials(credentials))) = (&self.server, credentials) {
            for (name, _) in env::vars_os() {
                let meddles = name.as_encoded_bytes().starts_with(b"GIT_");
                if meddles && !HARMLESS.iter().any(|harmless| name == *harmless) {
                    command.env_remove(name);
                }
            }
            // A home that was kept may name hooks, which would have all that git has.
            command.env("GIT_CONFIG_GLOBAL", "/dev/null").args(["-c", "core.hooksPath=/dev/null"]);
            command.args(["-c", "credential.helper="]);
            command.args(["-c", &format!("credential.{server}.helper={HELPER}")]);
            command.envs(credentials.iter().map(|(name, text)| (name, text)));
        }
        command.env("GIT_TERMINAL_PROMPT", "0").args(&self.arguments);
        command
    }
}

/// A directory that a repository is to be in, which is empty until then.
#[derive(Debug)]
pub(super) struct Target {
    directory: PathBuf,
    /// Whether it is somebody else's.
    is_anothers: bool,
    /// Where in there it is cloned to at first: what a clone has left that was ended from outside is known by this name.
    clone: PathBuf,
    /// What says that it has been cloned, and in which words.
    cloned: (PathBuf, String),
}

impl Target {
    /// Prepares it; none where the repository has been cloned before, as it is where a setup is begun anew. Nothing is removed but what
    /// is left of another clone.
    pub(super) fn prepare(git: &Git, workspace: &Path, home: &Path) -> io::Result<Option<Self>> {
        let directory = git.directory(workspace);
        fs::create_dir_all(&directory)?;
        // As git compares it.
        let directory = fs::canonicalize(directory)?;
        let is_anothers = fs::metadata(&directory)?.uid() != geteuid().as_raw();
        let clone = directory.join(CLONE);
        let cloned = (home.join(CLONED), serde_json::to_string(git)?);
        let target = Self { directory, is_anothers, clone, cloned };
        if fs::read_to_string(&target.cloned.0).is_ok_and(|said| said == target.cloned.1) {
            target.move_all()?;
            return Ok(None);
        }
        match fs::remove_dir_all(&target.clone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if fs::read_dir(&target.directory)?.next().is_some() {
            let said = format!("{} is not empty", target.directory.display());
            return Err(io::Error::other(said));
        }
        Ok(Some(target))
    }

    /// Puts what has been cloned where it belongs. Whoever is ended here goes on where it was when it is begun anew.
    pub(super) fn fill(self) -> io::Result<()> {
        fs::write(&self.cloned.0, &self.cloned.1)?;
        self.move_all()
    }

    fn move_all(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.clone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
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

    fn steps(git: &Value, is_anothers: bool) -> Vec<Step> {
        let target = Target {
            directory: "/w".into(),
            is_anothers,
            clone: "/w/c".into(),
            cloned: ("/h".into(), String::new()),
        };
        serde_json::from_value::<Git>(git.clone()).unwrap().steps(&target)
    }

    #[test]
    fn a_branch_or_a_tag_is_cloned_and_a_commit_is_fetched() {
        let url = "https://example.com/a.git";
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
            let mut calls: Vec<_> = calls.iter().map(|call| format!("git {call}")).collect();
            let said =
                |is_anothers| steps(&git, is_anothers).iter().map(Step::said).collect::<Vec<_>>();
            assert_eq!(said(false), calls);
            calls.insert(0, "git config --global --add safe.directory /w".into());
            assert_eq!(said(true), calls);
        }
    }

    #[test]
    fn credentials_are_told_to_one_server_and_no_other() {
        for (url, server) in [
            ("https://example.com/a/b.git", "https://example.com"),
            ("http://example.com:8080/a", "http://example.com:8080"),
            ("https://example.com", "https://example.com"),
            ("https://example.com?a=/b", "https://example.com"),
        ] {
            let steps = steps(&json!({"url": url, "depth": 1}), true);
            let servers: Vec<_> = steps.into_iter().map(|step| step.server).collect();
            assert_eq!(servers, [None, Some(server.to_owned())]);
        }
    }

    #[test]
    fn what_another_clone_left_is_removed_and_nothing_else_ever_is() {
        let directory = tempfile::tempdir().unwrap();
        let (workspace, home) = (directory.path().join("w"), directory.path().join("h"));
        fs::create_dir(&home).unwrap();
        let git = |url: &str| {
            let git = json!({"url": url, "depth": 1, "directory": "a/./b/"});
            serde_json::from_value::<Git>(git).unwrap()
        };
        let (first, second) = (git("http://a/first"), git("http://a/second"));
        let prepare = |git: &Git| Target::prepare(git, &workspace, &home);
        let path = workspace.join("a/b");
        fs::create_dir_all(path.join(CLONE).join("half")).unwrap();
        let target = prepare(&first).unwrap().expect("it has not been cloned");
        assert_eq!(target.directory, fs::canonicalize(&path).unwrap());
        fs::create_dir_all(target.clone.join(".git")).unwrap();
        fs::write(target.clone.join("file"), "one").unwrap();
        target.fill().unwrap();
        let names = || {
            let entries = fs::read_dir(&path).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), [".git", "file"]);

        // Begun anew, it is not cloned again, and what was not yet in its place is put there.
        fs::create_dir(path.join(CLONE)).unwrap();
        fs::write(path.join(CLONE).join("late"), "two").unwrap();
        assert!(prepare(&first).unwrap().is_none());
        assert_eq!(names(), [".git", "file", "late"]);

        let error = prepare(&second).unwrap_err();
        let shown = fs::canonicalize(&path).unwrap();
        assert_eq!(error.to_string(), format!("{} is not empty", shown.display()));
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "one");
    }
}
