//! The cluster, the release and the node, as the matrix looks at them.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, anyhow};
use api::names;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    Step, Victim,
    follow::Caller,
    node::{self, Process, Usage},
    workload::Program,
};
use crate::{Cluster, RELEASE_NAMESPACE, kubectl, mcp::Door};

/// The cluster, the front end, and the node they are on.
pub struct Matrix {
    pub(super) cluster: Cluster,
    pub(super) door: Arc<Door>,
    release: Api<Pod>,
}

impl Matrix {
    /// The cluster of `KUBECONFIG` and the front end of `CODESANDBOX_URL`.
    pub async fn new() -> anyhow::Result<Self> {
        let cluster = Cluster::connect().await?;
        let release = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
        Ok(Self { cluster, door: Arc::new(Door::from_env()?), release })
    }

    /// A ready sandbox that no death is meant for.
    pub async fn keeper(&self) -> anyhow::Result<String> {
        let mut caller = Caller::new(self.door.clone(), "soak-keeper", Step::Run);
        caller.ttl = "168h";
        caller.create(true).await.map_err(|words| anyhow!("no sandbox to begin with: {words}"))?;
        let ran = caller.run(&Program::short(), "first").await;
        ran.map_err(|words| anyhow!("no run to begin with: {words}"))?;
        Ok(caller.sandbox)
    }

    /// Deletes it.
    pub async fn release(&self, keeper: &str) -> anyhow::Result<()> {
        let mut caller = Caller::new(self.door.clone(), keeper, Step::Delete);
        caller.delete().await.map_err(|words| anyhow!("{keeper} could not be deleted: {words}"))
    }

    /// What front end, operator, and the agent of a sandbox hold.
    pub async fn usages(&self, sandbox: &str) -> anyhow::Result<Vec<(String, Usage)>> {
        let mut usages = Vec::new();
        for victim in [Victim::FrontEnd, Victim::Operator] {
            let (component, program) = victim.component().context("it is one")?;
            let process = self.process(component, program).await?;
            usages.push((victim.to_string(), process.usage().context("it has just ended")?));
        }
        let pods = self.pods_of(sandbox).await?;
        let agent = pods.iter().flat_map(|uid| node::processes(uid)).find(Process::is_agent);
        let usage = agent.and_then(|agent| agent.usage()).context("the sandbox has no agent")?;
        usages.push(("agent".into(), usage));
        Ok(usages)
    }

    /// The UIDs of the pods of the sandboxes whose names begin so.
    pub(super) async fn pods_of(&self, prefix: &str) -> anyhow::Result<BTreeSet<String>> {
        let listed = self.cluster.pods.list(&ListParams::default().labels(names::SANDBOX)).await?;
        let ours =
            listed.items.into_iter().filter(|pod| pod.labels()[names::SANDBOX].starts_with(prefix));
        Ok(ours.filter_map(|pod| pod.uid()).collect())
    }

    /// A new pod for whoever was restarted: the kubelet's back-off would grow with each death.
    pub(super) async fn renew(&self) -> anyhow::Result<()> {
        for component in ["mcp-frontend", "operator"] {
            let restarted = |pod: &Pod| {
                let statuses =
                    pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
                statuses.map(|status| status.restart_count).sum::<i32>() > 0
            };
            for pod in self.component(component).await?.into_iter().filter(restarted) {
                kubectl(&["delete", "pod", "-n", RELEASE_NAMESPACE, &pod.name_any()]).await?;
            }
            let deployment = format!("deployment/codesandbox-{component}");
            kubectl(&["rollout", "status", "-n", RELEASE_NAMESPACE, &deployment, "--timeout=110s"])
                .await?;
        }
        Ok(())
    }

    async fn component(&self, component: &str) -> anyhow::Result<Vec<Pod>> {
        let selector = format!("app.kubernetes.io/component={component}");
        Ok(self.release.list(&ListParams::default().labels(&selector)).await?.items)
    }

    /// The process of a component.
    pub(super) async fn process(&self, component: &str, program: &str) -> anyhow::Result<Process> {
        for pod in self.component(component).await? {
            let uid = pod.uid().context("it has a UID")?;
            if let Some(found) =
                node::processes(&uid).into_iter().find(|one| one.argv[0] == program)
            {
                return Ok(found);
            }
        }
        Err(anyhow!("no process {program} on this machine"))
    }
}
