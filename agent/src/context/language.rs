//! The languages that contexts speak: the program of each, and the driver that makes it run cells.

use std::collections::BTreeMap;
use std::env;

use wire::{Code, Error};

use crate::run::program;

/// How a language's interpreter is started and driven.
#[derive(Debug)]
pub(crate) struct Language {
    /// What callers name it by. A context that nobody names has this name, too.
    pub(crate) name: &'static str,
    /// The program, then what makes it load its driver.
    argv: &'static [&'static str],
    /// What it is driven by: one subject a file, and what runs last is last.
    driver: &'static [&'static str],
    /// Whether the driver is a file of its own, behind the pipes.
    driver_is_file: bool,
    /// Variables it needs where nobody has set them.
    env: &'static [(&'static str, &'static str)],
    /// Whether its driver hears of an interrupt by a request: no signal handler runs while it computes.
    pub(super) interrupted_by_request: bool,
    /// What an image has to have.
    needs: &'static str,
    /// Whether an interpreter of it can be copied while it runs.
    pub(super) forks: bool,
}

/// Drivers come through a pipe, since no file need be writable: a line with their length in bytes, and themselves.
static LANGUAGES: [Language; 6] = [
    Language {
        name: "python",
        argv: &[
            "python3",
            "-c",
            // The current directory is taken out of the path until the driver has imported what it needs.
            "import sys; sys.path[:] = [p for p in sys.path if p]; r = open(3, 'rb'); \
             exec(compile(r.read(int(r.readline())), '<driver>', 'exec'), {'__name__': 'driver', 'requests': r})",
        ],
        driver: &[
            include_str!("python/channel.py"),
            include_str!("python/cells.py"),
            include_str!("python/magics.py"),
            include_str!("python/awaiting.py"),
            include_str!("python/displays.py"),
            include_str!("python/ipython.py"),
            include_str!("python/charts.py"),
            include_str!("python/figures.py"),
            include_str!("python/copies.py"),
            include_str!("python/main.py"),
        ],
        driver_is_file: false,
        env: &[("MPLBACKEND", "Agg")],
        interrupted_by_request: false,
        needs: "Python 3.7 or newer",
        forks: true,
    },
    Language {
        name: "bash",
        argv: &[
            "bash",
            "--noprofile",
            "--norc",
            "-c",
            "IFS= read -r __csb_length <&3; LC_ALL=C IFS= read -r -N \"$__csb_length\" __csb_driver <&3; eval \"$__csb_driver\"; \
             while :; do while __csb_next; do __csb_was; eval \"$__csb_source\" 3<&- 4>&-; done; done",
            "bash",
        ],
        driver: &[include_str!("bash/driver.sh")],
        driver_is_file: false,
        env: &[],
        interrupted_by_request: false,
        needs: "bash 4.1 or newer",
        forks: false,
    },
    Language {
        name: "javascript",
        argv: &["node", NODE_FLAG, "-e", LOAD_INTO_NODE, "javascript"],
        driver: JAVASCRIPT,
        driver_is_file: false,
        env: &[],
        interrupted_by_request: true,
        forks: false,
        needs: "Node.js 18 or newer",
    },
    Language {
        name: "typescript",
        argv: &["node", NODE_FLAG, "-e", LOAD_INTO_NODE, "typescript"],
        driver: JAVASCRIPT,
        driver_is_file: false,
        env: &[],
        interrupted_by_request: true,
        forks: false,
        needs: "Node.js 22.13 or newer",
    },
    Language {
        name: "r",
        // Not --vanilla: what the image says of repositories and libraries holds, what a workspace says does not.
        argv: &["R", "--no-echo", "--no-save", "--no-restore", "--no-init-file", "-e", LOAD_INTO_R],
        driver: &[
            include_str!("r/channel.R"),
            include_str!("r/values.R"),
            include_str!("r/figures.R"),
            include_str!("r/cells.R"),
            include_str!("r/main.R"),
        ],
        driver_is_file: false,
        env: &[],
        interrupted_by_request: false,
        forks: false,
        needs: "R 4.0 or newer",
    },
    Language {
        name: "jshell",
        // It takes a program only from what it can seek in.
        argv: &[
            "java",
            "-Dfile.encoding=UTF-8",
            "-Dstdout.encoding=UTF-8",
            "-Dstderr.encoding=UTF-8",
            "--source",
            "11",
            "/dev/fd/5",
        ],
        driver: &[
            include_str!("jshell/Main.java"),
            include_str!("jshell/Channel.java"),
            include_str!("jshell/Cells.java"),
            include_str!("jshell/Errors.java"),
        ],
        driver_is_file: true,
        env: &[],
        interrupted_by_request: true,
        forks: false,
        needs: "a JDK, 11 or newer",
    },
];

/// Without it node would end itself when a callback was interrupted, which it finds unfinished.
const NODE_FLAG: &str = "--no-force-async-hooks-checks";

/// Its frames are told from the user's by the name.
const LOAD_INTO_NODE: &str = "{ const fs = require('fs'); \
    const read = data => { for (let n = 0; n < data.length; ) n += fs.readSync(3, data, { offset: n }) || process.exit(); return data; }; \
    let length = ''; for (let byte; (byte = String(read(Buffer.alloc(1)))) !== '\\n'; ) length += byte; \
    require('vm').runInThisContext(`(function (require, importModule) {${read(Buffer.alloc(+length))}\\n})`, '<driver>')\
    (require, (module, options) => import(module, options)); }";

/// It sees R's own functions before the user's of the same names.
const LOAD_INTO_R: &str = "local({ r <- file('/dev/fd/3', 'rb', raw = TRUE); \
    driver <- readChar(r, as.integer(readLines(r, 1)), TRUE); close(r); \
    eval(parse(text = driver, encoding = 'UTF-8', keep.source = FALSE), new.env(parent = .BaseNamespaceEnv)) })";

const JAVASCRIPT: &[&str] = &[
    include_str!("javascript/channel.js"),
    include_str!("javascript/streams.js"),
    include_str!("javascript/values.js"),
    include_str!("javascript/imports.js"),
    include_str!("javascript/typescript.js"),
    include_str!("javascript/cells.js"),
    include_str!("javascript/main.js"),
];

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Language> {
    LANGUAGES.iter()
}

impl Language {
    /// The language of this name.
    pub(crate) fn named(name: &str) -> Result<&'static Self, Error> {
        LANGUAGES.iter().find(|language| language.name == name).ok_or_else(|| {
            let names = all().map(|language| language.name);
            let known: Vec<_> = names.chain(program::all().map(|program| program.name)).collect();
            let message =
                format!("language {name:?} is not known; use one of: {}", known.join(", "));
            Error::new(Code::InvalidArgument, message)
        })
    }

    /// What has to be in PATH.
    pub(crate) fn program(&self) -> &'static str {
        self.argv[0]
    }

    /// The command line of its interpreter.
    pub(super) fn argv(&self) -> Vec<String> {
        self.argv.iter().map(ToString::to_string).collect()
    }

    /// The variables its interpreter gets beside those it inherits.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let missing = self.env.iter().filter(|(name, _)| env::var_os(name).is_none());
        missing.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// What loads its driver: the content of a file, if it has one, and what comes through the pipe.
    pub(super) fn driver(&self) -> (Vec<u8>, Vec<u8>) {
        let driver = self.driver.join("\n");
        if self.driver_is_file {
            return (driver.into_bytes(), Vec::new());
        }
        (Vec::new(), format!("{}\n{driver}", driver.len()).into_bytes())
    }

    /// The refusal where the image has no interpreter of it.
    pub(super) fn missing(&self, why: &str) -> Error {
        let Self { name, needs, .. } = self;
        let message = format!(
            "{name} cannot run in this image ({why}); use an image with {needs}, or run commands instead"
        );
        Error::new(Code::LanguageUnavailable, message)
    }

    /// The refusal where an interpreter of it cannot be copied.
    pub(super) fn unforkable(&self) -> Error {
        let forking = LANGUAGES.iter().filter(|language| language.forks);
        let forking = forking.map(|language| language.name).collect::<Vec<_>>().join(", ");
        let message = format!(
            "contexts of {} cannot be forked, those of these can: {forking}; make a new context instead",
            self.name
        );
        Error::new(Code::InvalidArgument, message)
    }

    /// The refusal where the interpreter does not come up, with the end of what it has said.
    pub(super) fn broken(&self, said: &[u8]) -> Error {
        let (program, name) = (self.program(), self.name);
        let said = String::from_utf8_lossy(said);
        let message = format!(
            "{program} is in the image but cannot be used for {name}; fix it or use another image: {}",
            said.trim()
        );
        Error::new(Code::LanguageUnavailable, message)
    }
}
