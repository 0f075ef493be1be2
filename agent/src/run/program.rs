//! The languages whose code is a program: compiled, if it has to be, and run once. They keep no state.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;

use wire::{Code, Error};

/// How the programs of a language are made and run. In its words `{dir}` is a directory of the run's own,
/// `{source}` the file with the code there, and `{temp}` where temporary files go, which stays.
#[derive(Debug)]
pub(crate) struct Program {
    /// What callers name it by.
    pub(crate) name: &'static str,
    /// What the file with the code has to be called.
    pub(super) file: &'static str,
    /// The compiler and its arguments; empty where there is none.
    compile: &'static [&'static str],
    run: &'static [&'static str],
    /// Variables it needs where nobody has set them.
    env: &'static [(&'static str, &'static str)],
    /// What an image has to have.
    needs: &'static str,
}

static PROGRAMS: [Program; 10] = [
    Program {
        name: "c",
        file: "main.c",
        compile: &["cc", "-I.", "-o", "{dir}/main", "{source}", "-lm"],
        run: &["{dir}/main"],
        env: &[],
        needs: "a C compiler (cc)",
    },
    Program {
        name: "cpp",
        file: "main.cpp",
        compile: &["c++", "-I.", "-o", "{dir}/main", "{source}"],
        run: &["{dir}/main"],
        env: &[],
        needs: "a C++ compiler (c++)",
    },
    Program {
        name: "go",
        file: "main.go",
        compile: &["go", "build", "-o", "{dir}/main", "{source}"],
        run: &["{dir}/main"],
        // A home can be read-only. The cache stays: without it the standard library is compiled anew.
        env: &[("HOME", "{temp}"), ("GOCACHE", "{temp}/.codesandbox-go"), ("GOTOOLCHAIN", "local")],
        needs: "Go",
    },
    Program {
        name: "rust",
        file: "main.rs",
        compile: &["rustc", "--edition=2021", "-o", "{dir}/main", "{source}"],
        run: &["{dir}/main"],
        env: &[],
        needs: "Rust (rustc) and a linker (cc)",
    },
    Program {
        name: "java",
        file: "Main.java",
        compile: &["javac", "-cp", ".", "-d", "{dir}", "{source}"],
        run: &["java", "-cp", "{dir}:.", "Main"],
        env: &[],
        needs: "a JDK (javac and java), whose main class is Main",
    },
    script("ruby", "main.rb", &["ruby", "{source}"], "Ruby"),
    script("php", "main.php", &["php", "{source}"], "PHP (its command line)"),
    script("perl", "main.pl", &["perl", "{source}"], "Perl"),
    script("lua", "main.lua", &["lua", "{source}"], "Lua (lua)"),
    script("julia", "main.jl", &["julia", "{source}"], "Julia"),
];

const fn script(
    name: &'static str,
    file: &'static str,
    run: &'static [&'static str],
    needs: &'static str,
) -> Program {
    Program { name, file, compile: &[], run, env: &[], needs }
}

/// The language of this name, if its code is a program.
pub(crate) fn named(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Program> {
    PROGRAMS.iter()
}

impl Program {
    /// What has to be in PATH.
    pub(crate) fn tools(&self) -> impl Iterator<Item = &'static str> {
        [self.compile, self.run]
            .into_iter()
            .filter_map(|argv| argv.first().copied())
            .filter(|tool| !tool.contains('{'))
    }

    /// The command line of its compiler, if it has one.
    pub(super) fn compile(&self, dir: &Path) -> Option<Vec<String>> {
        (!self.compile.is_empty()).then(|| self.fill(self.compile, dir))
    }

    /// The command line that runs it.
    pub(super) fn run(&self, dir: &Path) -> Vec<String> {
        self.fill(self.run, dir)
    }

    /// The variables it gets beside those it inherits.
    pub(super) fn env(&self, dir: &Path) -> BTreeMap<String, String> {
        let missing = self.env.iter().filter(|(name, _)| env::var_os(name).is_none());
        missing.map(|(name, value)| ((*name).to_owned(), self.filled(value, dir))).collect()
    }

    fn fill(&self, argv: &[&str], dir: &Path) -> Vec<String> {
        argv.iter().map(|word| self.filled(word, dir)).collect()
    }

    fn filled(&self, word: &str, dir: &Path) -> String {
        word.replace("{dir}", &dir.to_string_lossy())
            .replace("{source}", &dir.join(self.file).to_string_lossy())
            .replace("{temp}", env::temp_dir().to_string_lossy().trim_end_matches('/'))
    }

    /// The refusal where the image has not what it needs.
    pub(super) fn missing(&self, tool: &str) -> Error {
        let Self { name, needs, .. } = self;
        let message = format!(
            "{name} cannot run in this image ({tool}: not found in PATH); use an image with {needs}, or install it"
        );
        Error::new(Code::LanguageUnavailable, message)
    }
}
