//! Sandboxes with devices that are allocated dynamically, by Kubernetes' own test driver. tests.md G1.

use std::collections::BTreeSet;

use anyhow::Context;
use api::{CodeSandbox, Gpu, Settings, condition, reason};
use e2e::{Cluster, Sandbox, deaths::node, is, kubectl, kubectl_with, reason};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::{Api, api::ListParams};
use serde_json::json;

const CLASS: &str = "e2e-gpu";
/// The name under which Kubernetes has the devices of a class as an extended resource.
const RESOURCE: &str = "deviceclass.resource.kubernetes.io/e2e-gpu";
/// Another one, which the class says.
const NAMED: &str = "example.com/e2e-gpu";

/// Gives the node of e2e/cluster a number of such devices.
async fn offer(devices: u8) -> anyhow::Result<()> {
    node::cluster(&["dra", &devices.to_string()]).await
}

fn spec(resource: &str, optional: bool) -> Settings {
    let gpu = Gpu { optional: Some(optional), ..Gpu::new(1, resource) };
    Settings { gpu: Some(gpu), ..e2e::spec() }
}

/// What the driver has handed to a sandbox: a variable by the name of its claim.
async fn devices(sandbox: &Sandbox) -> anyhow::Result<usize> {
    let said = sandbox.shell("env").await?.text();
    Ok(said.lines().filter(|line| line.starts_with("claim_")).count())
}

#[tokio::test]
async fn a_device_of_a_class_is_given_to_one_sandbox_at_a_time_and_is_free_when_its_pod_has_ended()
-> anyhow::Result<()> {
    let class = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": CLASS},
        "spec": {
            "extendedResourceName": NAMED,
            "selectors": [{"cel": {"expression": "device.driver == 'test-driver.cdi.k8s.io'"}}],
        },
    });
    kubectl_with(&["apply", "--server-side", "-f", "-"], &class.to_string()).await?;
    offer(2).await?;
    let undo = async {
        offer(0).await?;
        kubectl(&["delete", "deviceclass", CLASS]).await.map(drop)
    };
    e2e::finally(Box::pin(share()), undo).await
}

async fn share() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    for name in ["dra-a", "dra-b", "dra-c", "dra-less"] {
        cluster.delete(name).await?;
    }
    let (a, b) = tokio::try_join!(
        cluster.ready("dra-a", spec(RESOURCE, false)),
        cluster.ready("dra-b", spec(NAMED, false))
    )?;
    assert_eq!((devices(&a).await?, devices(&b).await?), (1, 1));
    let claims: Api<ResourceClaim> = Api::namespaced(cluster.client.clone(), e2e::NAMESPACE);
    let allocated =
        claims.list(&ListParams::default()).await?.items.into_iter().flat_map(|claim| {
            let allocation = claim.status.and_then(|status| status.allocation);
            allocation.and_then(|allocation| allocation.devices?.results).unwrap_or_default()
        });
    let allocated: Vec<_> = allocated.map(|device| device.device).collect();
    let different: BTreeSet<_> = allocated.iter().collect();
    assert_eq!((allocated.len(), different.len()), (2, 2), "{allocated:?}");

    // There is none left: one that can do without is made without, the other waits for one.
    let without = cluster.ready("dra-less", spec(RESOURCE, true)).await?;
    assert_eq!(devices(&without).await?, 0);
    assert!(without.object.status.as_ref().is_some_and(|status| status.without_gpu));
    without.delete().await?;
    cluster.create("dra-c", spec(RESOURCE, false)).await?;
    let waits = |sandbox: &CodeSandbox| reason(sandbox, condition::READY) == reason::UNSCHEDULABLE;
    let waiting = cluster.wait("dra-c", "Unschedulable", waits).await?;
    let ready = waiting.status.as_ref().and_then(|status| status.condition(condition::READY));
    let said = &ready.context("it has one")?.message;
    assert!(said.contains("cannot allocate all claims"), "{said}");

    a.delete().await?;
    let c = cluster.wait("dra-c", "Ready", |s| is(s, condition::READY)).await?;
    let c = cluster.sandbox(c);
    assert_eq!(devices(&c).await?, 1);
    c.delete().await?;
    b.delete().await?;
    // A claim goes with its pod: the driver has to be there for that.
    e2e::until("nothing is left of the claims", async || {
        Ok(claims.list(&ListParams::default()).await?.items.is_empty())
    })
    .await
}
