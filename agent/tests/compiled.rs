//! Programs in languages that keep no state: compiled, if they have to be, and run once.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{Agent, cancel, code, limited, names, refused, run, see, start, until};
use sha2::{Digest, Sha256};
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::{Empty, Exception, HelloRequest, RunSpec, StreamTotal};

const C: &str = "#include <stdio.h>\n#include <unistd.h>\n";

fn program(language: &str, source: &str) -> RunSpec {
    code(language, "", source)
}

fn c(body: &str) -> RunSpec {
    program("c", &format!("{C}int main(void) {{ {body} }}"))
}

/// An agent whose temporary files can be looked at.
fn with_temp(env: &[(&'static str, &'static str)]) -> (Agent, tempfile::TempDir) {
    let temp = tempfile::tempdir().unwrap();
    let path: &'static str = temp.path().to_str().unwrap().to_owned().leak();
    (Agent::start_with(&[env, &[("TMPDIR", path)]].concat()), temp)
}

#[tokio::test]
async fn a_program_runs_in_the_workspace_and_leaves_nothing_behind() {
    let (agent, temp) = with_temp(&[]);
    let mut client = agent.client().await;
    std::fs::write(agent.workspace().join("here"), "").unwrap();
    std::fs::write(agent.workspace().join("own.h"), "#define OWN 4").unwrap();
    let cpp = "#include <iostream>\n#include \"own.h\"\nint main() { std::cout << \"é\" << OWN << std::endl; return access(\"here\", 0); }";
    let rust = "fn main() { eprint!(\"e\"); println!(\"{}\", std::path::Path::new(\"here\").exists()); std::process::exit(3) }";
    let java = "public class Main { public static void main(String[] a) { System.out.println(new java.io.File(\"here\").exists()); System.exit(5); } }";
    let perl = "print -e 'here' ? \"yes\\n\" : \"no\\n\"; print STDERR 'e'; exit 6;";
    let own = "#include \"own.h\"\nint main(void) { return OWN - 2; }";
    for (language, source, out, err, how) in [
        ("c", own, "", "", How::Exited(2)),
        (
            "cpp",
            &cpp.replace("#include \"own", "#include <unistd.h>\n#include \"own"),
            "é4\n",
            "",
            How::Exited(0),
        ),
        ("rust", rust, "true\n", "e", How::Exited(3)),
        ("java", java, "true\n", "", How::Exited(5)),
        ("perl", perl, "yes\n", "e", How::Exited(6)),
    ] {
        let seen = run(&mut client, language, program(language, source)).await;
        assert_eq!((seen.out(), seen.err(), seen.how()), (out, err, how), "{language}");
        assert_eq!(seen.exceptions, [], "{language}");
        let started = seen.started.unwrap();
        assert!(!started.context_new && started.title.starts_with(&format!("{language}: ")));
    }
    assert_eq!(names(temp.path()), [""; 0]);
    assert_eq!(names(&agent.workspace()), ["here", "own.h"]);
}

/// Its cache has a place though nothing says where home is.
#[tokio::test]
async fn go_needs_no_home() {
    let (agent, temp) = with_temp(&[("HOME", "/proc/no-such-home")]);
    let source = "package main\nfunc main() { println(\"go\"); panic(\"ends\") }";
    let seen = run(&mut agent.client().await, "a", program("go", source)).await;
    assert_eq!(
        (seen.how(), seen.out(), seen.exceptions.len()),
        (How::Exited(2), "", 0),
        "{}",
        seen.err()
    );
    assert!(seen.err().starts_with("go\npanic: ends\n"), "{}", seen.err());
    assert_eq!(names(temp.path()), [".codesandbox-go"]);
}

#[tokio::test]
async fn a_failed_compile_is_told_from_a_failed_program() {
    let (agent, temp) = with_temp(&[]);
    let mut client = agent.client().await;
    let seen = run(&mut client, "a", c("return x;")).await;
    assert_eq!((seen.how(), seen.out()), (How::Exited(1), ""));
    assert!(seen.err().contains("/main.c:3:25: error: "), "{}", seen.err());
    let exception = Exception {
        name: "CompileError".to_owned(),
        value: "cc exited with 1".to_owned(),
        traceback: "CompileError: cc exited with 1\n".to_owned(),
    };
    assert_eq!(seen.exceptions, [exception]);
    let seen = run(&mut client, "b", c("return 1;")).await;
    assert_eq!((seen.how(), seen.exceptions.len(), seen.err()), (How::Exited(1), 0, ""));
    let seen = run(&mut client, "c", c("return *(volatile int *)0;")).await;
    assert_eq!((seen.how(), seen.exceptions.len()), (How::Signaled(11), 0));
    assert_eq!(names(temp.path()), [""; 0]);
}

/// What both have written is one log, with one sum.
#[tokio::test]
async fn a_compilers_warnings_come_before_what_the_program_writes() {
    let agent = Agent::start();
    let source =
        format!("{C}#warning careful\nint main(void) {{ fputs(\"own\", stderr); return 0; }}");
    let seen = run(&mut agent.client().await, "a", program("c", &source)).await;
    assert_eq!(seen.how(), How::Exited(0));
    assert!(seen.err().contains("careful") && seen.err().ends_with("own"), "{}", seen.err());
    let sum = StreamTotal {
        bytes: seen.stderr.len() as u64,
        sha256: Sha256::digest(&seen.stderr).to_vec().into(),
    };
    assert_eq!(seen.outcome().stderr, Some(sum));
}

#[tokio::test]
async fn the_limit_is_of_compiler_and_program_together() {
    let path = format!("bin:{}", std::env::var("PATH").unwrap());
    let agent = Agent::start_with(&[("PATH", path.leak())]);
    let bin = agent.workspace().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let compiler =
        "#!/bin/sh\nsleep 3; printf '#!/bin/sh\\nexec sleep 1000' > \"$3\"; chmod +x \"$3\"\n";
    std::fs::write(bin.join("cc"), compiler).unwrap();
    std::fs::set_permissions(bin.join("cc"), Permissions::from_mode(0o755)).unwrap();
    let seen = run(&mut agent.client().await, "a", limited(c(""), Duration::from_secs(4))).await;
    assert_eq!((seen.how(), seen.exceptions.len()), (How::TimedOut(Empty {}), 0), "{seen:?}");
    assert!(seen.outcome().duration_ms < 6500, "{:?}", seen.outcome());
}

#[tokio::test]
async fn an_end_from_outside_ends_compiler_and_program_alike() {
    let (agent, temp) = with_temp(&[]);
    let mut client = agent.client().await;
    let wait = c("puts(\"begun\"); fflush(stdout); sleep(1000);");
    let mut events = start(&mut client, "a", wait, 0).await.unwrap();
    until(&mut events, "begun").await;
    assert!(cancel(&mut client, "a").await);
    let seen = see(events).await;
    assert_eq!((seen.how(), seen.exceptions.len()), (How::Cancelled(Empty {}), 0));
    // A compiler that reads a pipe nobody writes to.
    nix::unistd::mkfifo(&agent.workspace().join("pipe.h"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let source = program("c", "#include \"pipe.h\"");
    let seen = run(&mut client, "b", limited(source.clone(), Duration::from_millis(500))).await;
    assert_eq!(seen.how(), How::TimedOut(Empty {}));
    assert_eq!(seen.exceptions[0].value, "cc did not end in time");
    let events = start(&mut client, "c", source, 0).await.unwrap();
    assert!(cancel(&mut client, "c").await);
    let seen = see(events).await;
    assert_eq!(seen.how(), How::Cancelled(Empty {}));
    assert_eq!(seen.exceptions[0].value, "cc was cancelled");
    assert_eq!(names(temp.path()), [""; 0]);
}

#[tokio::test]
async fn a_language_that_is_not_there_says_what_it_needs_and_has_no_context() {
    let agent = Agent::start_with(&[("PATH", "/no/such/directory")]);
    let mut client = agent.client().await;
    for (id, language, tool, needs) in [
        ("a", "ruby", "ruby", "Ruby"),
        ("b", "rust", "rustc", "Rust (rustc) and a linker (cc)"),
        ("c", "java", "javac", "a JDK (javac and java), whose main class is Main"),
    ] {
        let error = refused(&mut client, id, program(language, "1")).await;
        assert_eq!(error.code, Code::LanguageUnavailable);
        let message = format!(
            "{language} cannot run in this image ({tool}: not found in PATH); use an image with {needs}, or install it"
        );
        assert_eq!(error.message, message);
    }
    let error = refused(&mut client, "d", code("go", "mine", "1")).await;
    assert_eq!(error.code, Code::InvalidArgument);
    assert_eq!(
        error.message,
        "context: a program in go is run once and keeps no state; leave the context out"
    );
}

#[tokio::test]
async fn a_sandbox_says_which_languages_it_has() {
    let languages = async |path: String, tools: &[&str]| {
        let agent = Agent::start_with(&[("PATH", path.leak())]);
        let bin = agent.workspace().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for tool in tools {
            std::os::unix::fs::symlink("/bin/true", bin.join(tool)).unwrap();
        }
        let hello = HelloRequest { protocol: wire::PROTOCOL };
        agent.client().await.hello(hello).await.unwrap().into_inner().languages
    };
    let some = ["python3", "cc", "javac", "R"];
    assert_eq!(languages("bin".to_owned(), &some).await, ["python", "r", "c"]);
    assert_eq!(
        languages("bin".to_owned(), &["node", "java", "javac"]).await,
        ["javascript", "typescript", "jshell", "java"]
    );
}
