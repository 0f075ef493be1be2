//! What installs what a project needs: what its own files name, or else what the files import that it was given.

use std::path::Path;
use std::process::Command;

use crate::settings;

/// A language whose imports are found by a script in it, which then installs them.
#[derive(Debug, PartialEq, Eq)]
struct Language {
    /// How the names of its files end.
    extensions: &'static [&'static str],
    /// What runs the script.
    program: &'static str,
    /// The script and what is around it; the files come behind that.
    arguments: &'static [&'static str],
}

const LANGUAGES: [Language; 2] = [
    Language {
        extensions: &["py"],
        program: "python3",
        arguments: &["-c", include_str!("imports.py")],
    },
    Language {
        extensions: &["js", "mjs", "cjs"],
        program: "node",
        // A file whose name begins with a dash would be an option of its own.
        arguments: &["-e", include_str!("imports.js"), "--"],
    },
];

/// What installs something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Install<'a> {
    /// A line of a shell.
    Line(&'static str),
    /// What looks for the imports of files, too.
    Imports(Imports<'a>),
}

/// The files of a language whose imports are to be installed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Imports<'a> {
    language: &'static Language,
    files: Vec<&'a str>,
}

impl Imports<'_> {
    /// What stands for the script in the log.
    pub(super) fn said(&self) -> String {
        format!("install the imports of {}", self.files.join(", "))
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(self.language.program);
        settings::hide_ours(&mut command);
        command.args(self.language.arguments).args(&self.files);
        command
    }
}

/// What installs what files name, of those that are there; without any, what the given files import.
pub(super) fn installs<'a>(is_there: impl Fn(&str) -> bool, given: &[&'a str]) -> Vec<Install<'a>> {
    let python = is_there("requirements.txt").then_some(
        "python3 -m pip install --no-input --disable-pip-version-check -r requirements.txt",
    );
    let node = is_there("package.json").then(|| {
        if is_there("package-lock.json") {
            "npm ci --no-audit --no-fund"
        } else {
            "npm install --no-audit --no-fund"
        }
    });
    let named: Vec<_> = python.into_iter().chain(node).map(Install::Line).collect();
    if !named.is_empty() {
        return named;
    }
    LANGUAGES.iter().filter_map(|language| imports(language, given)).collect()
}

fn imports<'a>(language: &'static Language, given: &[&'a str]) -> Option<Install<'a>> {
    let is_in = |path: &&str| {
        let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| language.extensions.contains(&extension))
    };
    let files: Vec<_> = given.iter().copied().filter(is_in).collect();
    (!files.is_empty()).then_some(Install::Imports(Imports { language, files }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_follows_from_the_files_that_are_there() {
        let pip =
            "python3 -m pip install --no-input --disable-pip-version-check -r requirements.txt";
        let given = ["main.py", "data.csv", "lib/a.mjs", "b.js", "-c.cjs", "py", ".py", "lib/d.py"];
        let (python, node) = (
            "install the imports of main.py, lib/d.py",
            "install the imports of lib/a.mjs, b.js, -c.cjs",
        );
        for (there, given, expected) in [
            (&[][..], &[][..], &[][..]),
            (&["requirements.txt"], &[], &[pip]),
            (&["package.json"], &[], &["npm install --no-audit --no-fund"]),
            (&["package-lock.json"], &[], &[]),
            (
                &["package-lock.json", "package.json", "requirements.txt"],
                &[],
                &[pip, "npm ci --no-audit --no-fund"],
            ),
            (&[], &given, &[python, node]),
            (&[], &given[1..4], &["install the imports of lib/a.mjs, b.js"]),
            (&[], &given[1..2], &[]),
            // Who names what is needed has named all of it.
            (&["requirements.txt"], &given, &[pip]),
            (&["package.json"], &given, &["npm install --no-audit --no-fund"]),
        ] {
            let said: Vec<_> = installs(|name| there.contains(&name), given)
                .iter()
                .map(|install| match install {
                    Install::Line(line) => (*line).to_owned(),
                    Install::Imports(imports) => imports.said(),
                })
                .collect();
            assert_eq!(said, expected, "{there:?} {given:?}");
        }
    }
}
