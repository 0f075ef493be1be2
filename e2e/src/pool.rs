//! A pool of the tests and of the bench, with its template.

use std::collections::BTreeSet;

use anyhow::Context;
use api::{
    CodeSandboxPool, CodeSandboxSpec, CodeSandboxTemplate, LocalObjectReference, condition, names,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams, runtime::wait::await_condition};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Cluster, NAMESPACE, PATIENCE, Sandbox, kubectl, kubectl_with};

/// A pool and its template, of the same name.
pub struct Pool {
    /// Where it is.
    pub cluster: Cluster,
    /// Its name, and its template's.
    pub name: &'static str,
}

impl Pool {
    /// Makes a pool of a template that says this, in the place of what an earlier run has left.
    pub async fn make(name: &'static str, replicas: u32, template: &Value) -> anyhow::Result<Self> {
        let pool = Self { cluster: Cluster::connect().await?, name };
        pool.remove().await?;
        pool.template(template).await?;
        let object = json!({"apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandboxPool",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"templateRef": {"name": name}, "replicas": replicas}});
        kubectl_with(&["create", "-f", "-"], &object.to_string()).await?;
        Ok(pool)
    }

    /// Has the template say this, and waits until the operator has accepted it.
    pub async fn template(&self, spec: &Value) -> anyhow::Result<()> {
        let mut spec = spec.clone();
        if spec["defaults"]["resources"].is_null() {
            spec["defaults"]["resources"] = json!({"cpu": "250m", "memory": "96Mi"});
        }
        let object = json!({"apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandboxTemplate",
            "metadata": {"name": self.name, "namespace": NAMESPACE}, "spec": spec});
        kubectl_with(&["apply", "-f", "-"], &object.to_string()).await?;
        let templates =
            Api::<CodeSandboxTemplate>::namespaced(self.cluster.client.clone(), NAMESPACE);
        let accepted = |template: Option<&CodeSandboxTemplate>| {
            let accepted = template.and_then(CodeSandboxTemplate::accepted);
            accepted.is_some_and(|accepted| accepted.status == "True")
        };
        timeout(PATIENCE, await_condition(templates, self.name, accepted)).await??;
        Ok(())
    }

    /// The pools of the namespace.
    pub fn api(&self) -> Api<CodeSandboxPool> {
        Api::namespaced(self.cluster.client.clone(), NAMESPACE)
    }

    /// Waits until the pool says so, with so many pods ready.
    pub async fn says(&self, reason: &str, ready: u32) -> anyhow::Result<CodeSandboxPool> {
        let judge = |pool: Option<&CodeSandboxPool>| {
            let status = pool.and_then(|pool| pool.status.as_ref());
            status.is_some_and(|status| {
                status
                    .conditions
                    .iter()
                    .any(|one| one.type_ == condition::READY && one.reason == reason)
                    && status.ready_replicas == ready
            })
        };
        match timeout(PATIENCE, await_condition(self.api(), self.name, judge)).await {
            Ok(found) => found?.context("it is there"),
            Err(_) => anyhow::bail!(
                "{} never said {reason} with {ready} ready: {:?}",
                self.name,
                self.api().get_status(self.name).await?.status
            ),
        }
    }

    /// The pods that wait, as the API server lists them.
    pub async fn waiting(&self) -> anyhow::Result<Vec<Pod>> {
        let params = ListParams::default().labels(&names::unclaimed(self.name));
        Ok(self.cluster.pods.list(&params).await?.items)
    }

    /// Waits until so many of them are ready. The status may say so a moment before or after.
    pub async fn full(&self, pods: usize) -> anyhow::Result<()> {
        let ready = |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
        };
        crate::until(&format!("{pods} are ready"), async || {
            Ok(self.waiting().await?.iter().filter(|pod| ready(pod)).count() == pods)
        })
        .await
    }

    /// Their UIDs.
    pub async fn uids(&self) -> anyhow::Result<BTreeSet<String>> {
        Ok(self.waiting().await?.iter().filter_map(ResourceExt::uid).collect())
    }

    /// A sandbox of the pool that asks for this besides, once it is ready.
    pub async fn sandbox(&self, name: &str, asked: Value) -> anyhow::Result<Sandbox> {
        self.cluster.ready(name, self.spec(asked)?).await
    }

    /// What such a sandbox asks for.
    pub fn spec(&self, asked: Value) -> anyhow::Result<CodeSandboxSpec> {
        let mut spec: CodeSandboxSpec = serde_json::from_value(asked)?;
        let named = || Some(LocalObjectReference { name: self.name.into() });
        spec.settings.ttl.get_or_insert("10m".into());
        spec.template_ref = named();
        spec.pool_ref = spec.pool_ref.or_else(named);
        Ok(spec)
    }

    /// Takes pool and template away, and waits until no pod of the pool waits any more.
    pub async fn remove(&self) -> anyhow::Result<()> {
        let both = ["delete", "csbp,csbt", self.name, "-n", NAMESPACE, "--ignore-not-found"];
        kubectl(&both).await?;
        crate::until("its pods are gone", async || Ok(self.waiting().await?.is_empty())).await
    }
}
