//! What it is like inside a sandbox.

use api::Settings;
use e2e::{Cluster, run};
use serde_json::{Value, json};
use wire::{
    Error,
    v1::{Code, Command, RunSpec, outcome::How, run_spec::What},
};

/// tests.md F8, and the rest of the pod's hardening, as user code sees it.
#[tokio::test]
async fn a_sandbox_is_hardened() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("hardened", e2e::spec()).await?;
    let facts = sandbox
        .shell(
            "ls /var/run/secrets 2>&1 | tail -n1; id -u; grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status; \
             touch /x 2>&1; env | grep -o '^.*_SERVICE_HOST'; pwd; touch /workspace/x /tmp/x ~/x && echo writable; \
             cat /proc/1/mem 2>&1 | head -c 80",
        )
        .await?;
    // Service links are off; the kubelet sets the API server's address all the same.
    assert_eq!(
        facts.text(),
        "ls: cannot access '/var/run/secrets': No such file or directory\n\
         65532\n\
         CapEff:\t0000000000000000\n\
         NoNewPrivs:\t1\n\
         Seccomp:\t2\n\
         touch: cannot touch '/x': Read-only file system\n\
         KUBERNETES_SERVICE_HOST\n\
         /workspace\n\
         writable\n\
         cat: /proc/1/mem: Permission denied\n"
    );
    sandbox.delete().await
}

/// tests.md A5, A12 and C1, through the kube API.
#[tokio::test]
async fn commands_end_as_they_should() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("commands", e2e::spec()).await?;
    for (line, how, stdout) in [
        ("sleep 1000 &", How::Exited(0), &b""[..]),
        ("(sleep 60 &); exit 42", How::Exited(42), b""),
        ("read x; echo \"<$x>\"", How::Exited(0), b"<>\n"),
        ("printf 'a\\0b\\377\\r\\n'", How::Exited(0), b"a\0b\xff\r\n"),
        ("kill -9 $$", How::Signaled(9), b""),
    ] {
        let ran = sandbox.shell(line).await?;
        assert_eq!((ran.outcome.how, &ran.stdout[..]), (Some(how), stdout), "{line}");
    }
    sandbox.delete().await
}

/// tests.md F4.
#[tokio::test]
async fn a_thousand_orphans_leave_no_zombies() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("orphans", e2e::spec()).await?;
    sandbox.shell("for i in $(seq 1000); do (true &) ; done").await?;
    let zombies = sandbox
        .shell("sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l")
        .await?;
    assert_eq!(zombies.text(), "0\n");
    sandbox.delete().await
}

/// tests.md B1: the context of the real image, with the real libraries.
#[tokio::test]
async fn python_keeps_its_state_and_draws() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("python", e2e::spec()).await?;
    let session = sandbox.session();
    let code = |source: &'static str| {
        let code =
            Code { language: "python".into(), context: String::new(), source: source.into() };
        run(&session, RunSpec { what: Some(What::Code(code)), ..RunSpec::default() })
    };
    code("import numpy, pandas, matplotlib\n\nclass A:\n\n    x = 1\n\n    y = 2\n").await?;
    let ran = code("print(A.x + A.y, end='')").await?;
    assert_eq!((ran.text().as_str(), ran.outcome.how), ("3", Some(How::Exited(0))));
    sandbox.delete().await
}

#[tokio::test]
async fn a_sandbox_is_told_what_machine_it_is() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let spec = Settings { idle_timeout: Some("1h".into()), ..e2e::spec() };
    let sandbox = cluster.ready("machine", spec).await?;
    let told = sandbox.shell("cat /etc/codesandbox.json").await?;
    let expected = json!({
        "name": "machine", "cpu": "1", "memory": "1Gi", "ephemeralStorage": "2Gi", "network": {"egress": "Deny"},
        "idleTimeout": "1h", "workingDir": "/workspace", "writable": ["/workspace", "/home/sandbox", "/tmp"],
    });
    assert_eq!(serde_json::from_str::<Value>(&told.text())?, expected);
    sandbox.delete().await
}

/// tests.md A4: a megabyte on each stream, interleaved.
#[tokio::test]
async fn both_streams_full_do_not_deadlock() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("streams", e2e::spec()).await?;
    let script = "import sys\nfor _ in range(1024):\n    sys.stdout.write('o' * 1024)\n    sys.stderr.write('e' * 1024)";
    let argv = ["python3", "-c", script].map(String::from).into();
    let command = Command { argv, ..Command::default() };
    let spec = RunSpec { what: Some(What::Command(command)), ..RunSpec::default() };
    let ran = run(&sandbox.session(), spec).await?;
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (1 << 20, 1 << 20));
    sandbox.delete().await
}

/// tests.md F3. The tmpfs that every container has there; what `file_write` says of it is in e2e/mcp/test_cases_files.py.
#[tokio::test]
async fn full_shared_memory_is_said_to_its_program_and_holds_up_nothing_else() -> anyhow::Result<()>
{
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("shm", e2e::spec()).await?;
    let session = sandbox.session();
    let filled = sandbox.shell("dd if=/dev/zero of=/dev/shm/fill bs=1M").await?;
    let why = String::from_utf8_lossy(&filled.stderr).into_owned();
    assert_eq!(filled.outcome.how, Some(How::Exited(1)), "{why}");
    assert!(why.contains("error writing '/dev/shm/fill': No space left on device"), "{why}");
    let refused = session.write("/dev/shm/more", "x".into(), 0, false).await;
    let Err(client::Error::Agent(error)) = refused else { panic!("{refused:?}") };
    let full = "/dev/shm/more: the disk is full; remove files first";
    assert_eq!(error, Error::new(wire::Code::NoSpace, full));

    session.write("kept", "whole".into(), 0, false).await?;
    assert_eq!(sandbox.shell("cat kept; ls -A /dev/shm").await?.text(), "wholefill\n");
    let object = sandbox.object.clone();
    sandbox.delete().await?;
    assert_eq!(cluster.left_of(&object).await?, Vec::<String>::new());
    Ok(())
}
