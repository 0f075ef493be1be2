//! What the files import that a setup was given, and what is then installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::{Sandbox, plan};

const PIP: &str = "python3\n-m\npip\ninstall\n--no-input\n--disable-pip-version-check\n";
const NPM: &str = "npm\ninstall\n--no-audit\n--no-fund\n";

/// Programs that take down how they are called, where, and what they know of ours, instead of installing anything.
struct Programs {
    directory: TempDir,
    path: String,
}

impl Programs {
    /// With this machine's own Python where a script is run, without what has been installed into it.
    fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let say = ["-c", "import sys; print(sys.executable)"];
        let python = Command::new("python3").args(say).output().unwrap().stdout;
        let python = String::from_utf8(python).unwrap();
        for name in names {
            let called = directory.path().join("called");
            let script = format!(
                "#!/bin/sh\n[ \"$1\" != -c ] || exec {} -S \"$@\"\n{{ pwd; env | grep ^CODESANDBOX_; printf '%s\\n' {name} \"$@\"; }} >> {}\nexit ${{ENDS:-0}}\n",
                python.trim(),
                called.display()
            );
            let program = directory.path().join(name);
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let others = std::env::var("PATH").unwrap();
        let path = format!("{}:{others}", directory.path().display());
        Self { directory, path }
    }

    fn called(&self) -> String {
        fs::read_to_string(self.directory.path().join("called")).unwrap_or_default()
    }
}

/// A sandbox that is given these files and already has those, which are empty.
fn sandbox(given: &[(&str, &str)], there: &[&str]) -> Sandbox {
    let mut sandbox = Sandbox::new(plan(&[]));
    sandbox.plan["auto"] = true.into();
    sandbox.plan["files"] = given.iter().map(|(path, _)| json!({"path": path})).collect();
    for path in there {
        let path = sandbox.path("workspace").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    sandbox
}

/// Sets it up with these programs; gives what it ended with.
fn set_up(
    sandbox: &Sandbox,
    given: &[(&str, &str)],
    programs: &Programs,
    env: &[(&str, &str)],
) -> Option<i32> {
    let names: Vec<_> =
        (0..given.len()).map(|number| format!("CODESANDBOX_SETUP_FILE_{number}")).collect();
    let contents = names.iter().map(String::as_str).zip(given.iter().map(|(_, content)| *content));
    let own = [("PATH", programs.path.as_str())];
    let all: Vec<_> = contents.chain(own).chain(env.iter().copied()).collect();
    sandbox.set_up_with(&all).status.code()
}

/// How the programs were called by a setup with these files, and its log.
fn called(given: &[(&str, &str)], there: &[&str]) -> (String, String) {
    let (sandbox, programs) = (sandbox(given, there), Programs::new(&["python3", "npm"]));
    let image = tempfile::tempdir().unwrap();
    fs::write(image.path().join("inimage.py"), "").unwrap();
    let env = [("PYTHONPATH", image.path().to_str().unwrap())];
    let ended = set_up(&sandbox, given, &programs, &env);
    let log = sandbox.read("tmp/setup.log");
    assert_eq!(ended, Some(0), "{log}");
    let workspace = fs::canonicalize(sandbox.path("workspace")).unwrap();
    (programs.called().replace(workspace.to_str().unwrap(), "workspace"), log)
}

/// What is installed because of a file's text, in a workspace with some files more.
fn installed(path: &str, text: &str, begin: &str) -> Vec<String> {
    let there = ["far.py", "part/near.py", "kit/__init__.py", "space/in/a.py", "docker/Dockerfile"];
    let there =
        [&there[..], &["node_modules/there/index.js", "node_modules/@a/b/index.js"]].concat();
    let (called, _) = called(&[(path, text)], &there);
    if called.is_empty() {
        return Vec::new();
    }
    let names = called.strip_prefix(begin).unwrap_or_else(|| panic!("{called}"));
    names.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn what_python_files_import_and_nobody_has_is_installed() {
    for (text, expected) in [
        ("import one\nimport two.part as x, three; from four.part import y", "four one three two"),
        ("def f():\n  try:\n    import deep\n  except ImportError: pass", "deep"),
        ("import one, one.part\nfrom one import z", "one"),
        ("from . import a\nfrom .b import c\nfrom .. import d", ""),
        ("if TYPE_CHECKING:\n  import no\nelse:\n  import yes", "yes"),
        ("if typing.TYPE_CHECKING:\n  import no\nif not TYPE_CHECKING:\n  import yes", "yes"),
        // Python's own, though not each of them is on each system.
        ("from __future__ import annotations\nimport os.path, winreg, __main__", ""),
        ("import inimage, other", "other"),
        ("import near, far, kit.part, space.a, part", ""),
        ("import docker", "docker"),
        // What no distribution can be called, and not only what an option begins with.
        ("import _private, café, a_b", "a_b"),
        ("'import no'\n# import no", ""),
    ] {
        let expected: Vec<_> = expected.split_whitespace().collect();
        assert_eq!(installed("part/main.py", text, &format!("/\n{PIP}")), expected, "{text}");
    }
}

#[test]
fn what_is_imported_by_another_name_than_it_is_installed_by_is_known() {
    let pairs = [
        ("Crypto", "pycryptodome"),
        ("MySQLdb", "mysqlclient"),
        ("OpenSSL", "pyOpenSSL"),
        ("PIL", "pillow"),
        ("attr", "attrs"),
        ("bs4", "beautifulsoup4"),
        ("cv2", "opencv-python-headless"),
        ("dateutil", "python-dateutil"),
        ("docx", "python-docx"),
        ("dotenv", "python-dotenv"),
        ("fitz", "PyMuPDF"),
        ("git", "GitPython"),
        ("jwt", "PyJWT"),
        ("magic", "python-magic"),
        ("pptx", "python-pptx"),
        ("psycopg2", "psycopg2-binary"),
        ("serial", "pyserial"),
        ("skimage", "scikit-image"),
        ("sklearn", "scikit-learn"),
        ("yaml", "PyYAML"),
    ];
    let mut expected = pairs.map(|(_, distribution)| distribution);
    expected.sort_unstable();
    let text = pairs.map(|(module, _)| format!("import {module}\n")).concat();
    assert_eq!(installed("main.py", &text, &format!("/\n{PIP}")), expected);
}

#[test]
fn what_javascript_files_import_and_nobody_has_is_installed() {
    for (text, expected) in [
        ("const a = require('one'), b = require( \"two/part.js\" )", "one two"),
        ("import a from 'one'; import{b}from\"two\"\nimport * as c from 'three'", "one three two"),
        ("import {\n  a, // it's (so)\n  b, /* \"no\" */\n} from 'one'", "one"),
        ("import 'one'\nimport\"two\"; export * from 'three'", "one three two"),
        ("await import('one'); import( \"two\" ).then()", "one two"),
        ("import a from '@x/one/part'; require('@x/two')", "@x/one @x/two"),
        ("import a from './one'; require('../two'); require('/three'); require('.')", ""),
        ("import a from 'node:fs'; import b from 'https://x/y.js'; import c from '#own'", ""),
        ("require('fs'); import a from 'fs/promises'", ""),
        ("require('there'); require('@a/b/c'); require('@a/c')", "@a/c"),
        ("// import a from 'no'\r\n/* require('no') */ require('yes') // require('no')", "yes"),
        ("log(\"require('no')\", 'import \"no\"', `${a} require('no')`); require('yes')", "yes"),
        ("const a = 'http://x'; require('yes'); b.require('no'); reimport('no')", "yes"),
        // What would be options, addresses or files.
        ("require('-g'); require('--prefix=x'); require('a@b'); require('Q'); require('~')", ""),
        ("require('')", ""),
    ] {
        let expected: Vec<_> = expected.split_whitespace().collect();
        // Not an option, either.
        assert_eq!(installed("-main.mjs", text, &format!("workspace\n{NPM}")), expected, "{text}");
    }
}

#[test]
fn all_given_files_are_looked_into_and_the_log_says_what_comes_of_it() {
    let given = [
        ("a.py", "import one, _private"),
        ("a.cjs", "require('four'); require('-g')"),
        ("broken.py", "import no\nx y"),
        ("data.txt", "import no"),
        // As what the script itself imports, and pip.
        ("ast.py", "import two, a"),
    ];
    let (called, log) = called(&given, &[]);
    assert_eq!(called, format!("/\n{PIP}one\ntwo\nworkspace\n{NPM}four\n"));
    let expected = "$ install the imports of a.py, broken.py, ast.py\n\
        broken.py was not looked into: invalid syntax (broken.py, line 2)\n\
        _private is not installed: no distribution can have this name\n\
        $ python3 -m pip install --no-input --disable-pip-version-check one two\n\
        $ install the imports of a.cjs\n\
        -g is not installed: no package can have this name\n\
        $ npm install --no-audit --no-fund four\n";
    assert_eq!(log, expected);
}

#[test]
fn where_nothing_is_missing_nothing_is_installed() {
    // Of what is no package's there is nothing to say.
    let text =
        "require('os'), require('./b'), require('node:fs'), require('#c'), require('http://d')";
    let (asked, log) = called(&[("a.py", "import os"), ("a.js", text)], &[]);
    assert_eq!(asked, "");
    let expected = ["a.py", "a.js"]
        .map(|file| format!("$ install the imports of {file}\nnothing to install\n"))
        .concat();
    assert_eq!(log, expected);
    // What is named in a file is all that is, and what nobody asks for is not looked for.
    let given = [("a.py", "import one"), ("package.json", "{}")];
    assert_eq!(called(&given, &[]).0, format!("workspace\n{NPM}"));
    let (mut sandbox, programs) = (sandbox(&given[..1], &[]), Programs::new(&["python3"]));
    sandbox.plan["auto"] = false.into();
    assert_eq!(set_up(&sandbox, &given[..1], &programs, &[]), Some(0));
    assert_eq!((programs.called(), sandbox.read("tmp/setup.log")), Default::default());
}

#[test]
fn what_cannot_be_installed_is_the_end_of_the_setup() {
    for (path, text, said) in [
        (
            "a.py",
            "import one",
            "$ python3 -m pip install --no-input --disable-pip-version-check one",
        ),
        ("a.js", "require('one')", "$ npm install --no-audit --no-fund one"),
    ] {
        let (sandbox, programs) =
            (sandbox(&[(path, text)], &[]), Programs::new(&["python3", "npm"]));
        assert_eq!(set_up(&sandbox, &[(path, text)], &programs, &[("ENDS", "3")]), Some(1));
        let command = format!("install the imports of {path}");
        let tail = format!("$ {command}\n{said}");
        let how = "ended with exit code 3";
        let word = json!({"reason": "SetupFailed", "command": command, "how": how, "tail": tail});
        assert_eq!(sandbox.word(), word);
    }
}

#[test]
fn an_image_without_what_installs_says_what_it_lacks() {
    let given = [("a.js", "require('one')")];
    let (sandbox, programs) = (sandbox(&given, &[]), Programs::new(&[]));
    let node = Command::new("node").args(["-p", "process.execPath"]).output().unwrap().stdout;
    let node = String::from_utf8(node).unwrap();
    let directory = programs.directory.path();
    std::os::unix::fs::symlink(Path::new(node.trim()), directory.join("node")).unwrap();
    let path = directory.to_str().unwrap();
    assert_eq!(set_up(&sandbox, &given, &programs, &[("PATH", path)]), Some(1));
    let word = sandbox.word();
    assert_eq!(word["how"], "ended with exit code 1");
    let tail = word["tail"].as_str().unwrap();
    assert!(
        tail.ends_with("\nthe image has no npm: use another, or do without what needs it"),
        "{tail}"
    );
}
