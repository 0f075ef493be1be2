//! An operator outside the cluster, for what the release's is not told to do. It has the same rights in [`NAMESPACE`],
//! for a class and an instance of its own.

use std::{
    env, fs,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{NAMESPACE, RELEASE_NAMESPACE, kubectl, kubectl_with, operators::DEPLOYMENT};

/// Which of the release's arguments the operator is given as well.
const SHARED: [&str; 4] = ["--agent-image", "--sandbox-image", "--namespace", "--dns-server"];

/// An operator, killed when it is dropped.
pub struct Operator {
    /// The `className` of its sandboxes, and the name of its ServiceAccount and Role.
    pub class: String,
    log: Arc<Mutex<Vec<Value>>>,
    kubeconfig: PathBuf,
    _process: Child,
}

impl Operator {
    /// Starts one for a class of its own, with this way for the agent to get into pods.
    pub async fn start(class: &str, injection: &str) -> anyhow::Result<Self> {
        let kubeconfig = account(class).await?;
        let path = "jsonpath={.spec.template.spec.containers[0].args}";
        let args = kubectl(&["get", "-n", RELEASE_NAMESPACE, DEPLOYMENT, "-o", path]).await?;
        let args: Vec<String> = serde_json::from_str(&args)?;
        let program = env::var("OPERATOR").context("OPERATOR is set by hack/with-cluster.sh")?;
        let mut process = Command::new(program)
            .arg("run")
            .args(args.iter().filter(|arg| SHARED.iter().any(|shared| arg.starts_with(shared))))
            .args([format!("--class={class}"), format!("--instance={class}")])
            .args([format!("--agent-injection={injection}"), "--listen=127.0.0.1:0".into()])
            .env("KUBECONFIG", &kubeconfig)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("there is no operator: `make images` builds it")?;
        let log = Arc::<Mutex<Vec<Value>>>::default();
        let mut lines = BufReader::new(process.stdout.take().context("it was asked for")?).lines();
        let kept = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or_default();
                kept.lock().expect("no test panics with it").push(line);
            }
        });
        Ok(Self { class: class.into(), log, kubeconfig, _process: process })
    }

    /// What its probes have shown: the RuntimeClass, and the verdict.
    pub fn verdicts(&self) -> Vec<(Option<String>, String)> {
        let log = self.log.lock().expect("no test panics with it");
        let fields = log.iter().map(|line| &line["fields"]);
        let probed = fields.filter(|fields| fields["message"] == "probed image volumes");
        probed
            .map(|fields| {
                let class = fields["runtime_class"].as_str().map(Into::into);
                (class, fields["verdict"].as_str().unwrap_or_default().to_owned())
            })
            .collect()
    }

    /// Ends it and takes its rights away.
    pub async fn stop(self) -> anyhow::Result<()> {
        let name = &self.class;
        let all = "serviceaccount,role,rolebinding";
        kubectl(&["delete", all, name, "-n", NAMESPACE]).await.map(drop)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.kubeconfig);
    }
}

/// Makes an account with the rights of the release's operator, but to mark pods of another instance. Gives its kubeconfig.
async fn account(name: &str) -> anyhow::Result<PathBuf> {
    let role = format!("{RELEASE_NAMESPACE}-codesandbox-operator");
    let role = kubectl(&["get", "role", &role, "-n", NAMESPACE, "-o", "json"]).await?;
    let role: Value = serde_json::from_str(&role)?;
    let mut rules = role["rules"].clone();
    for rule in rules.as_array_mut().context("a Role has rules")? {
        if rule["resources"] == json!(["sandboxpods"]) {
            rule["resourceNames"] = json!([name]);
        }
    }
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    let rbac = "rbac.authorization.k8s.io";
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules},
        {"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]},
    ]});
    kubectl_with(&["apply", "-f", "-"], &objects.to_string()).await?;
    let token = kubectl(&["create", "token", name, "-n", NAMESPACE]).await?;
    let config =
        kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]).await?;
    let mut config: Value = serde_json::from_str(&config)?;
    config["users"][0]["user"] = json!({"token": token.trim()});
    let path = env::temp_dir().join(format!("{name}-{}.kubeconfig", std::process::id()));
    let file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    serde_json::to_writer(file, &config)?;
    Ok(path)
}
