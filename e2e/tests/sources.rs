//! What fills a workspace before its sandbox is ready: a repository, and files.

use anyhow::Context;
use api::{CodeSandbox, Settings, TerminationReason, condition, reason};
use e2e::{
    Cluster, NAMESPACE, is, kubectl_with,
    probe::{OPEN, answering_pod},
    reason, spec,
};
use serde_json::{Value, json};

/// Serves a repository with two commits over HTTP, to who knows the password.
const SERVER: &str = r#"
import base64, http.server, os, subprocess
os.environ.update(HOME="/tmp", GIT_PROJECT_ROOT="/tmp", GIT_HTTP_EXPORT_ALL="1")
subprocess.run("""
git init -q --bare -b main project.git && git clone -q project.git work && cd work
git config user.name a; git config user.email a@b
for n in one two; do echo $n > file; git add file; git commit -qm $n; done
git push -q origin main
""", shell=True, check=True, cwd="/tmp")
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        told = self.headers.get("Authorization", "")
        if told != "Basic " + base64.b64encode(b"reader:pass\\word").decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = dict(os.environ, PATH_INFO=path, QUERY_STRING=query, REQUEST_METHOD=self.command,
            CONTENT_TYPE=self.headers.get("Content-Type", ""), CONTENT_LENGTH=str(len(body)),
            GIT_PROTOCOL=self.headers.get("Git-Protocol", ""), REMOTE_USER="reader",
            HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""))
        done = subprocess.run(["git", "http-backend"], input=body, env=env, stdout=subprocess.PIPE).stdout
        head, _, rest = done.partition(b"\r\n\r\n")
        self.send_response(200)
        for line in head.decode().splitlines():
            self.send_header(*line.split(": ", 1))
        self.end_headers()
        self.wfile.write(rest)
    do_GET = do_POST = answer
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"#;

/// An object of the sandboxes' namespace.
async fn object(kind: &str, name: &str, data: Value) -> anyhow::Result<()> {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}});
    object[if kind == "Secret" { "stringData" } else { "data" }] = data;
    kubectl_with(&["apply", "-f", "-"], &object.to_string()).await.map(drop)
}

async fn removed(kind: &str, name: &str) -> anyhow::Result<()> {
    e2e::kubectl(&["delete", kind, name, "-n", NAMESPACE, "--ignore-not-found"]).await.map(drop)
}

/// A sandbox with this setup, which reaches the server, as it may itself afterwards.
fn settings(setup: &Value) -> anyhow::Result<Settings> {
    let network = json!({"allow": [{"ports": [{"port": 8000}], "podSelector": {"matchLabels": {"e2e": "git"}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": OPEN}}}]});
    Ok(Settings {
        setup: Some(serde_json::from_value(setup.clone())?),
        network: Some(serde_json::from_value(network)?),
        ..spec()
    })
}

fn ready_message(sandbox: &CodeSandbox) -> String {
    let ready = sandbox.status.as_ref().and_then(|status| status.condition(condition::READY));
    ready.map(|ready| ready.message.clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_repository_and_files_are_there_before_the_sandbox_is_ready() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let image = cluster.ready("sources-image", spec()).await?;
    let address = answering_pod(&cluster, &image, "git", SERVER).await?;
    image.delete().await?;
    let url = format!("http://{address}:8000/project.git");
    object("Secret", "sandbox-git", json!({"username": "reader", "password": "pass\\word"}))
        .await?;
    object("ConfigMap", "e2e-settings", json!({"settings.json": "{\"a\": 1}\n"})).await?;
    let setup = json!({
        "git": {"url": url, "directory": "project", "secretRef": {"name": "sandbox-git"}},
        "files": [
            {"path": "project/.env", "content": "A=$HOME\n"},
            {"path": "/home/sandbox/.config/settings.json", "configMapKeyRef": {"name": "e2e-settings", "key": "settings.json"}},
        ],
        "commands": ["cat project/file project/.env > seen; env | grep -c GIT_ >> seen || true"],
    });
    let sandbox = cluster.ready("sources", settings(&setup)?).await?;
    assert_eq!(sandbox.says("cat seen").await?, "two\nA=$HOME\n0\n");
    assert_eq!(sandbox.says("cat ~/.config/settings.json").await?, "{\"a\": 1}\n");
    let git =
        "cd project && git log --format=%s && git status --short && git branch --show-current";
    assert_eq!(sandbox.says(git).await?, "two\n?? .env\nmain\n");
    let secrets = "env | grep -c GIT_; grep -rl 'pass.word' /workspace ~ /tmp | wc -l";
    assert_eq!(sandbox.says(secrets).await?, "0\n0\n", "the credentials were git's alone");
    sandbox.delete().await?;

    // A wrong password is the repository's owner's to mend.
    object("Secret", "sandbox-git", json!({"username": "reader", "password": "wrong"})).await?;
    cluster.create("sources", settings(&setup)?).await?;
    let finished = |one: &CodeSandbox| is(one, condition::FINISHED);
    let object = cluster.wait("sources", "finished", finished).await?;
    let last = object.status.and_then(|status| status.last_termination).context("it has one")?;
    assert_eq!(last.reason, TerminationReason::SetupFailed);
    assert!(last.message.contains("Authentication failed for"), "{}", last.message);
    assert!(!last.message.contains("wrong"), "{}", last.message);
    cluster.delete("sources").await?;
    removed("secret", "sandbox-git").await?;
    removed("configmap", "e2e-settings").await
}

#[tokio::test]
async fn a_source_that_cannot_be_is_refused_with_why() -> anyhow::Result<()> {
    for (setup, message) in [
        (json!({"git": {"url": "ssh://git@example.com/a"}}), "must be a URL"),
        (json!({"git": {"url": "https://me:word@example.com/a"}}), "must be a URL"),
        (
            json!({"git": {"url": "https://example.com/a", "secretRef": {"name": "db"}}}),
            "only Secrets whose name begins with sandbox-",
        ),
        (json!({"git": {"url": "https://example.com/a", "revision": "--x"}}), "revision"),
        (json!({"files": [{"path": "a"}]}), "needs either content"),
        (
            json!({"files": [{"path": "a", "content": "x"}, {"path": "a", "content": "y"}]}),
            "Duplicate value",
        ),
        (
            json!({"files": [
                {"path": "a", "content": "x".repeat(32_000)},
                {"path": "b", "content": "x".repeat(32_000)},
                {"path": "c", "content": "x"},
            ]}),
            "64000 characters at most",
        ),
        (json!({"files": [{"path": "a", "content": "\0"}]}), "content"),
    ] {
        let error = e2e::refused("bad", &json!({"setup": setup})).await;
        assert!(error.contains(message), "{setup}: {error}");
    }
    Ok(())
}

/// The node waits for it, and says so in an event alone.
#[tokio::test]
async fn a_config_map_that_comes_late_is_named_and_waited_for() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    removed("configmap", "e2e-late").await?;
    let setup =
        json!({"files": [{"path": "a", "configMapKeyRef": {"name": "e2e-late", "key": "a"}}]});
    cluster.create("sources-late", settings(&setup)?).await?;
    let failed = |one: &CodeSandbox| reason(one, condition::READY) == reason::START_FAILED;
    let sandbox = cluster.wait("sources-late", "StartFailed", failed).await?;
    let said = ready_message(&sandbox);
    assert!(said.contains("configmap \"e2e-late\" not found"), "{said}");
    object("ConfigMap", "e2e-late", json!({"a": "came late\n"})).await?;
    let ready = |one: &CodeSandbox| is(one, condition::READY);
    let sandbox = cluster.sandbox(cluster.wait("sources-late", "Ready", ready).await?);
    assert_eq!(sandbox.says("cat a").await?, "came late\n");
    sandbox.delete().await?;
    removed("configmap", "e2e-late").await
}

/// As docs/workspaces.md says it.
#[tokio::test]
async fn a_workspace_is_copied_out_and_into_another_sandbox() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let from = cluster.ready("copied-from", spec()).await?;
    from.says(
        "mkdir -p a/b && head -c 20M /dev/urandom > a/b/large && echo small > a/small && ln -s small a/link",
    )
    .await?;
    let to = cluster.ready("copied-to", spec()).await?;
    let copy = std::env::temp_dir().join(format!("codesandbox-e2e-{}.tar", std::process::id()));
    let exec = |pod: &str, how: &str| {
        format!("kubectl exec {how} -n {NAMESPACE} {pod} -c sandbox -- /.codesandbox/bin/agent")
    };
    let out = format!("{} archive /workspace > {}", exec(&from.pod(), ""), copy.display());
    let into = format!("{} extract /workspace < {}", exec(&to.pod(), "-i"), copy.display());
    for line in [out, into] {
        e2e::output(tokio::process::Command::new("sh").args(["-c", &line]), "").await?;
    }
    let all = "find . -type f -exec sha256sum {} + | sort; readlink a/link";
    let expected = from.says(all).await?;
    assert_eq!(expected.lines().count(), 3);
    assert_eq!(to.says(all).await?, expected);
    std::fs::remove_file(copy)?;
    from.delete().await?;
    to.delete().await
}
