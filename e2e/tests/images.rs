//! Images with next to nothing in them: what a sandbox needs of its image is what its user runs. tests.md D3.
//!
//! They are `images/e2e-scratch` and `images/e2e-busybox`, which `make e2e` makes.

use std::{env, sync::Arc};

use anyhow::Context;
use api::Settings;
use client::Session;
use e2e::{Cluster, Ran, Sandbox, run, spec};
use wire::v1::{Command, Entry, RunSpec, entry::Kind, outcome::How, run_spec::What};

const RUNTIMES: [(&str, Option<&str>); 2] = [("runc", None), ("gvisor", Some("gvisor"))];

/// A ready sandbox from the image that a variable names.
async fn ready(
    cluster: &Cluster,
    name: &str,
    image: &str,
    runtime: Option<&str>,
) -> anyhow::Result<Sandbox> {
    let given = env::var(image).ok().filter(|given| !given.is_empty());
    let given = given.with_context(|| format!("{image}: `make e2e` makes the image"))?;
    let runtime_class_name = runtime.map(Into::into);
    let spec = Settings { image: Some(given), runtime_class_name, ..spec() };
    cluster.ready(name, spec).await
}

async fn argv(session: &Arc<Session>, argv: &[&str]) -> anyhow::Result<Ran> {
    let argv = argv.iter().map(ToString::to_string).collect();
    let command = Command { argv, ..Command::default() };
    run(session, RunSpec { what: Some(What::Command(command)), ..RunSpec::default() }).await
}

/// How it ended, and what it said on both streams.
fn said(ran: &Ran) -> (Option<How>, String, String) {
    (ran.outcome.how, ran.text(), String::from_utf8_lossy(&ran.stderr).into_owned())
}

fn seen(entry: &Entry) -> (&str, Kind, u64, u32) {
    (str::from_utf8(&entry.path).expect("it is ours"), entry.kind(), entry.size, entry.mode)
}

/// A file from its beginning to its end. The agent does all of it, with no program of the image.
async fn a_file_lives_and_goes(session: &Session) -> anyhow::Result<()> {
    let file = ("/workspace/new/a b", Kind::File, 8, 0o640);
    session.write("new/a b", "héllo\n".into(), 0o640, true).await?;
    let written = session.append("new/a b", "!".into(), false).await?;
    assert_eq!(seen(&written), file);
    assert_eq!(session.read("new/a b", 0, 100).await?.data, "héllo\n!".as_bytes());
    assert_eq!(session.read("new/a b", 1, 2).await?.data, "é".as_bytes());
    assert_eq!(seen(&session.stat("new/a b").await?), file);
    let listed = session.list("new", 1, 0).await?;
    assert_eq!(listed.iter().map(seen).collect::<Vec<_>>(), [file]);
    assert!(session.remove("new", true).await?);
    assert!(!session.remove("new", true).await?);
    assert_eq!(session.list("", 1, 0).await?, []);
    Ok(())
}

#[tokio::test]
async fn an_image_with_one_program_and_nothing_else_runs_it_and_keeps_files() -> anyhow::Result<()>
{
    let cluster = Cluster::connect().await?;
    for (suffix, runtime) in RUNTIMES {
        let name = format!("scratch-{suffix}");
        let sandbox = ready(&cluster, &name, "E2E_SCRATCH_IMAGE", runtime).await?;
        let session = sandbox.session();
        let ran = argv(&session, &["/speak", "3", "a  b", "ü"]).await?;
        let expected = (Some(How::Exited(3)), "a  b ü\n".to_owned(), "/workspace\n".to_owned());
        assert_eq!(said(&ran), expected, "{name}");
        for (refused, why) in [
            (
                sandbox.shell("/speak 0").await,
                "COMMAND_NOT_FOUND: /bin/sh: the image has no shell; use argv instead of shell",
            ),
            (
                argv(&session, &["/bin/true"]).await,
                "COMMAND_NOT_FOUND: /bin/true: no such program in the image",
            ),
        ] {
            assert_eq!(refused.unwrap_err().to_string(), why, "{name}");
        }
        a_file_lives_and_goes(&session).await.context(name)?;
        sandbox.delete().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_image_with_busybox_alone_runs_shell_lines_and_keeps_files() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    for (suffix, runtime) in RUNTIMES {
        let name = format!("busybox-{suffix}");
        let sandbox = ready(&cluster, &name, "E2E_BUSYBOX_IMAGE", runtime).await?;
        let session = sandbox.session();
        a_file_lives_and_goes(&session).await.context(name.clone())?;
        session.write("f", "two\none\n".into(), 0, false).await?;
        let ran = sandbox.shell("sort f | tr '\\n' ' '; ls / | grep bin; exit 4").await?;
        let expected = (Some(How::Exited(4)), "one two bin\n".to_owned(), String::new());
        assert_eq!(said(&ran), expected, "{name}");
        let ran = argv(&session, &["cat", "f"]).await?;
        let expected = (Some(How::Exited(0)), "two\none\n".to_owned(), String::new());
        assert_eq!(said(&ran), expected, "{name}");
        sandbox.delete().await?;
    }
    Ok(())
}
