//! What the tests against a real cluster share: the cluster, sandboxes that clean up after themselves, kubectl.
//!
//! The chart has to be installed (`make install`); `KUBECONFIG` says where.

#![allow(clippy::missing_panics_doc, reason = "a panic is how a test says no")]

pub mod local;
pub mod probe;

pub mod deaths;
pub mod mcp;
pub mod operators;
pub mod pool;

use std::{panic::AssertUnwindSafe, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use api::{CodeSandbox, CodeSandboxSpec, Settings, condition, names};
use client::Session;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions::is_deleted},
};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};
use wire::v1::{self, Outcome, RunSpec, Stream, run_event::Event, run_spec::What};

/// The namespace of the chart's release.
pub const RELEASE_NAMESPACE: &str = "codesandbox";
/// The namespace in which sandboxes live.
pub const NAMESPACE: &str = "codesandbox-sandboxes";
/// The longest anything may take here. Most waits end within a second.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The cluster as its administrator sees it.
#[derive(Clone)]
pub struct Cluster {
    /// The administrator's client.
    pub client: Client,
    /// CodeSandboxes of [`NAMESPACE`].
    pub sandboxes: Api<CodeSandbox>,
    /// Pods of [`NAMESPACE`].
    pub pods: Api<Pod>,
}

impl Cluster {
    /// The cluster `KUBECONFIG` names.
    pub async fn connect() -> anyhow::Result<Self> {
        let client = client::infer().await.context("is KUBECONFIG set? see `make cluster-up`")?;
        Ok(Self {
            sandboxes: Api::namespaced(client.clone(), NAMESPACE),
            pods: Api::namespaced(client.clone(), NAMESPACE),
            client,
        })
    }

    /// Creates a sandbox, replacing what an earlier run left under its name.
    pub async fn create(
        &self,
        name: &str,
        spec: impl Into<CodeSandboxSpec>,
    ) -> anyhow::Result<CodeSandbox> {
        self.create_object(CodeSandbox::new(name, spec.into())).await
    }

    async fn create_object(&self, sandbox: CodeSandbox) -> anyhow::Result<CodeSandbox> {
        self.delete(&sandbox.name_any()).await?;
        Ok(self.sandboxes.create(&PostParams::default(), &sandbox).await?)
    }

    /// Creates a sandbox and waits until it is ready.
    pub async fn ready(
        &self,
        name: &str,
        spec: impl Into<CodeSandboxSpec>,
    ) -> anyhow::Result<Sandbox> {
        self.create(name, spec).await?;
        self.get_ready(name).await
    }

    /// Creates a sandbox that the MCP front end takes for its own, and waits until it is ready.
    pub async fn ready_for_mcp(
        &self,
        name: &str,
        spec: impl Into<CodeSandboxSpec>,
    ) -> anyhow::Result<Sandbox> {
        self.create_for_mcp(name, spec).await?;
        self.get_ready(name).await
    }

    /// Creates a sandbox that the MCP front end takes for its own.
    pub async fn create_for_mcp(
        &self,
        name: &str,
        spec: impl Into<CodeSandboxSpec>,
    ) -> anyhow::Result<CodeSandbox> {
        let mut sandbox = CodeSandbox::new(name, spec.into());
        sandbox.annotations_mut().insert(names::OWNER.into(), "mcp".into());
        self.create_object(sandbox).await
    }

    async fn get_ready(&self, name: &str) -> anyhow::Result<Sandbox> {
        Ok(self.sandbox(self.wait(name, "Ready", |s| is(s, condition::READY)).await?))
    }

    /// A sandbox that was found to be ready.
    pub fn sandbox(&self, object: CodeSandbox) -> Sandbox {
        Sandbox { cluster: self.clone(), object }
    }

    /// Waits until a sandbox is as `judge` wants it.
    pub async fn wait(
        &self,
        name: &str,
        what: &str,
        judge: impl Fn(&CodeSandbox) -> bool,
    ) -> anyhow::Result<CodeSandbox> {
        let condition = |sandbox: Option<&CodeSandbox>| sandbox.is_some_and(&judge);
        let wait = await_condition(self.sandboxes.clone(), name, condition);
        match timeout(PATIENCE, wait).await {
            Ok(found) => found?.context("it was deleted"),
            Err(_) => bail!(
                "{name} never was {what}: {:?}",
                self.sandboxes.get_status(name).await?.status
            ),
        }
    }

    /// Says whether a sandbox is to be suspended.
    pub async fn suspend(&self, name: &str, suspend: bool) -> anyhow::Result<()> {
        let patch = Patch::Merge(serde_json::json!({"spec": {"suspend": suspend}}));
        Ok(self.sandboxes.patch(name, &PatchParams::default(), &patch).await.map(drop)?)
    }

    /// A session with the agent of a new sandbox as soon as its pod runs, before its status says that it is ready.
    pub async fn early(&self, name: &str) -> anyhow::Result<Arc<Session>> {
        let runs = |pod: Option<&Pod>| {
            let status = pod.and_then(|pod| pod.status.as_ref());
            status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
        };
        let name = names::pod(name, 1);
        let pod = timeout(PATIENCE, await_condition(self.pods.clone(), &name, runs)).await??;
        let uid = pod.context("its pod is there")?.uid().context("it has a UID")?;
        Ok(Session::new(self.pods.clone(), name, uid))
    }

    /// Deletes a sandbox and waits until it and its pods are gone.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        if let Some(sandbox) = self.sandboxes.get_opt(name).await? {
            self.sandboxes.delete(name, &DeleteParams::background()).await?;
            self.gone(&sandbox).await?;
        }
        Ok(())
    }

    /// Waits until a sandbox and every pod of it is gone.
    pub async fn gone(&self, sandbox: &CodeSandbox) -> anyhow::Result<()> {
        let (name, uid) = (sandbox.name_any(), sandbox.uid().context("it has a UID")?);
        timeout(PATIENCE, await_condition(self.sandboxes.clone(), &name, is_deleted(&uid)))
            .await
            .with_context(|| format!("{name} was not deleted"))??;
        for pod in self.pods_of(&uid).await? {
            let uid = pod.uid().context("it has a UID")?;
            timeout(
                PATIENCE,
                await_condition(self.pods.clone(), &pod.name_any(), is_deleted(&uid)),
            )
            .await
            .with_context(|| format!("pod {} was not deleted", pod.name_any()))??;
        }
        Ok(())
    }

    /// The pods that carry a sandbox's UID.
    pub async fn pods_of(&self, uid: &str) -> anyhow::Result<Vec<Pod>> {
        let selector = format!("{}={uid}", names::SANDBOX_UID);
        Ok(self.pods.list(&ListParams::default().labels(&selector)).await?.items)
    }

    /// Everything that lists as owned by or labelled for a sandbox, as `kind/name`.
    pub async fn left_of(&self, sandbox: &CodeSandbox) -> anyhow::Result<Vec<String>> {
        objects_naming(&sandbox.uid().context("it has a UID")?).await
    }
}

/// Everything of [`NAMESPACE`] whose metadata has this text in it, as `kind/name`.
pub async fn objects_naming(text: &str) -> anyhow::Result<Vec<String>> {
    let listed = kubectl(&[
        "get",
        "all,networkpolicies,configmaps,secrets,persistentvolumeclaims,leases,codesandboxes",
        "-n",
        NAMESPACE,
        "-o",
        "json",
    ])
    .await?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let items = listed["items"].as_array().context("a list")?.iter();
    Ok(items
        .filter(|item| item["metadata"].to_string().contains(text))
        .map(|item| format!("{}/{}", item["kind"], item["metadata"]["name"]))
        .collect())
}

/// A line that makes a sandbox take the agent's whole grace to end: what runs then has no ear for SIGTERM.
pub const STUBBORN: &str =
    "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' >/dev/null 2>&1 &";

/// What a test asks for that asks for nothing in particular. A test that fails leaves its sandbox
/// to be looked at, but not for long.
pub fn spec() -> Settings {
    Settings { ttl: Some("10m".into()), ..Settings::default() }
}

/// Whether a sandbox's condition is True.
pub fn is(sandbox: &CodeSandbox, condition: &str) -> bool {
    sandbox.status.as_ref().is_some_and(|status| status.is_true(condition))
}

/// The reason of a sandbox's condition.
pub fn reason(sandbox: &CodeSandbox, condition: &str) -> String {
    let status = sandbox.status.as_ref();
    status.and_then(|s| s.condition(condition)).map(|c| c.reason.clone()).unwrap_or_default()
}

/// A ready sandbox.
pub struct Sandbox {
    cluster: Cluster,
    /// The object, as it was when it became ready.
    pub object: CodeSandbox,
}

impl Sandbox {
    /// Its name.
    pub fn name(&self) -> String {
        self.object.name_any()
    }

    /// The name of its pod.
    pub fn pod(&self) -> String {
        self.object.status.as_ref().and_then(|s| s.pod_name.clone()).expect("it is ready")
    }

    /// A session with its agent, by the administrator's rights.
    pub fn session(&self) -> Arc<Session> {
        let status = self.object.status.clone().expect("it is ready");
        let uid = status.pod_uid.expect("it is ready");
        Session::new(self.cluster.pods.clone(), self.pod(), uid)
    }

    /// Runs a shell line to its end.
    pub async fn shell(&self, line: &str) -> anyhow::Result<Ran> {
        let command = v1::Command { shell: line.into(), ..v1::Command::default() };
        run(&self.session(), RunSpec { what: Some(What::Command(command)), ..RunSpec::default() })
            .await
    }

    /// What a shell line says that is to complain of nothing.
    pub async fn says(&self, line: &str) -> anyhow::Result<String> {
        let ran = self.shell(line).await?;
        ensure!(ran.stderr.is_empty(), "{line}: {ran:?}");
        Ok(ran.text())
    }

    /// Deletes it and waits until nothing is left of it.
    pub async fn delete(self) -> anyhow::Result<()> {
        self.cluster.delete(&self.name()).await
    }
}

/// What a run said and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// The end.
    pub outcome: Outcome,
}

impl Ran {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs to the end, within [`PATIENCE`].
pub async fn run(session: &Arc<Session>, spec: RunSpec) -> anyhow::Result<Ran> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    follow(session.run(format!("e2e-{}-{count}", std::process::id()), spec)).await
}

/// Follows a run to its end, within [`PATIENCE`].
pub async fn follow(mut run: client::Run) -> anyhow::Result<Ran> {
    let mut ran = Ran { stdout: vec![], stderr: vec![], outcome: Outcome::default() };
    timeout(PATIENCE, async {
        while let Some(event) = run.next().await? {
            match event.event {
                Some(Event::Output(output)) if output.stream() == Stream::Stderr => {
                    ran.stderr.extend_from_slice(&output.data);
                }
                Some(Event::Output(output)) => ran.stdout.extend_from_slice(&output.data),
                Some(Event::Outcome(outcome)) => ran.outcome = outcome,
                _ => {}
            }
        }
        anyhow::Ok(())
    })
    .await
    .context("the run took too long")??;
    Ok(ran)
}

/// Asks again until the answer is yes, within [`PATIENCE`].
pub async fn until(
    what: &str,
    ask: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    until_within(PATIENCE, what, ask).await
}

/// The same within another time.
pub async fn until_within(
    patience: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let asked = async {
        while !ask().await? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    timeout(patience, asked).await.with_context(|| format!("it never was so that {what}"))?
}

/// The day, and what everything runs on, for who measures.
pub fn circumstances() -> anyhow::Result<(String, String)> {
    let date = std::process::Command::new("date").args(["-u", "+%F"]).output()?;
    let date = String::from_utf8(date.stdout)?.trim().to_owned();
    let cpus = std::thread::available_parallelism()?;
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory.split_whitespace().nth(1).context("a number")?.parse()?;
    let machine = format!(
        "{cpus} cores, {} GiB; client, front end, control plane and sandboxes all on it; etcd without fsync",
        (kib + (1 << 19)) >> 20
    );
    Ok((date, machine))
}

/// Does something, then takes back what was done for it, whatever came of it, a panic too.
pub async fn finally(
    work: impl Future<Output = anyhow::Result<()>>,
    undo: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    undo.await?;
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs kubectl; its output, or its error as an error.
pub async fn kubectl(args: &[&str]) -> anyhow::Result<String> {
    kubectl_with(args, "").await
}

/// Runs kubectl with standard input.
pub async fn kubectl_with(args: &[&str], stdin: &str) -> anyhow::Result<String> {
    output(Command::new("kubectl").args(args), stdin).await
}

/// What the API server says against a sandbox of this name that asks for this; nothing where it takes it.
pub async fn refusal(name: &str, spec: &serde_json::Value) -> Option<String> {
    let manifest = serde_json::json!({
        "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    });
    let apply = ["apply", "--dry-run=server", "-f", "-"];
    kubectl_with(&apply, &manifest.to_string()).await.err().map(|error| error.to_string())
}

/// The same where it has to say something.
pub async fn refused(name: &str, spec: &serde_json::Value) -> String {
    refusal(name, spec).await.unwrap_or_else(|| panic!("it takes {spec}"))
}

/// Runs a command; its output, or its error as an error.
pub async fn output(command: &mut Command, stdin: &str) -> anyhow::Result<String> {
    let said = format!("{:?}", command.as_std());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{said} is not in PATH"))?;
    child.stdin.take().context("it was asked for")?.write_all(stdin.as_bytes()).await?;
    let output = timeout(2 * PATIENCE, child.wait_with_output())
        .await
        .with_context(|| format!("{said} hangs"))??;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}
