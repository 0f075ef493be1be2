//! Pools: pods that wait for sandboxes, how many of them there are, and whose they become. tests.md E12.

use std::time::Duration;

use anyhow::Context;
use api::{StartMode, condition, names, reason, start};
use e2e::{
    Cluster, NAMESPACE, Sandbox, is, kubectl, kubectl_with,
    pool::Pool,
    probe::{INTERNET, from_open_pod, from_sandbox, open_pods},
};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

fn start_of(sandbox: &Sandbox) -> (StartMode, String) {
    let start = sandbox.object.status.as_ref().and_then(|status| status.start.clone());
    let start = start.expect("it has a pod");
    (start.mode, start.reason)
}

fn pod_uid(sandbox: &Sandbox) -> String {
    let status = sandbox.object.status.as_ref();
    status.and_then(|status| status.pod_uid.clone()).expect("it has a pod")
}

#[tokio::test]
async fn a_sandbox_of_a_pool_gets_a_warm_member_and_the_pool_makes_another() -> anyhow::Result<()> {
    let pool = Pool::make("e2e-pool", 2, &json!({})).await?;
    pool.says(reason::POOL_READY, 2).await?;
    let before = pool.uids().await?;
    assert_eq!(before.len(), 2);

    let sandbox = pool.sandbox("pooled", json!({})).await?;
    assert_eq!(start_of(&sandbox), (StartMode::Warm, start::CLAIMED.into()));
    assert!(before.contains(&pod_uid(&sandbox)));
    assert!(is(&sandbox.object, condition::NETWORK_ISOLATED));
    assert_eq!(sandbox.says("echo here > kept; cat kept").await?, "here\n");
    let internet = json!([["internet", "tcp", INTERNET, 80]]);
    open_pods(&pool.cluster, &sandbox).await?;
    assert!(from_open_pod(&internet).await?["internet"], "the control has to reach it");
    assert!(!from_sandbox(&sandbox, &internet).await?["internet"]);

    // Another in its place, under another name: that one is the sandbox's for as long as it lives.
    e2e::until("there is another", async || {
        let now = pool.uids().await?;
        Ok(now.len() == 2 && !now.contains(&pod_uid(&sandbox)))
    })
    .await?;
    pool.full(2).await?;
    let pods = pool.cluster.pods_of(&sandbox.object.uid().context("it has one")?).await?;
    assert_eq!(pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), [sandbox.pod()]);
    assert!(pool.waiting().await?.iter().all(|pod| pod.name_any() != sandbox.pod()));

    let object = sandbox.object.clone();
    sandbox.delete().await?;
    assert_eq!(pool.cluster.left_of(&object).await?, Vec::<String>::new());
    pool.full(2).await?;
    pool.remove().await
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pool.yaml");

/// Its sandbox comes with the pool, which has no pod ready by then.
#[tokio::test]
async fn the_example_fills_a_pool_and_starts_a_sandbox() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    kubectl(&["delete", "-n", NAMESPACE, "-f", EXAMPLE, "--ignore-not-found"]).await?;
    kubectl(&["apply", "-n", NAMESPACE, "-f", EXAMPLE]).await?;
    let sandbox = cluster.wait("from-pool", "Ready", |one| is(one, condition::READY)).await?;
    let start = sandbox.status.and_then(|status| status.start).context("it has a pod")?;
    assert_eq!((start.mode, start.reason.as_str()), (StartMode::Cold, start::NO_POD_READY));
    let pool = Pool { cluster: cluster.clone(), name: "quick" };
    pool.says(reason::POOL_READY, 2).await?;
    kubectl(&["delete", "-n", NAMESPACE, "-f", EXAMPLE]).await?;
    e2e::until("its pods are gone", async || Ok(pool.waiting().await?.is_empty())).await
}

/// The most pods of the pool that the quota lets be.
const ROOM: usize = 3;

/// A quota for the pods of a priority that only this test's template gives.
async fn quota() -> anyhow::Result<()> {
    let name = "e2e-pool-quota";
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 0,
        },
        {
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"hard": {"pods": ROOM.to_string()}, "scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In", "values": [name]}]}},
        },
    ]});
    kubectl_with(&["apply", "-f", "-"], &objects.to_string()).await.map(drop)
}

async fn no_quota() -> anyhow::Result<()> {
    let name = "e2e-pool-quota";
    kubectl(&["delete", "csbp,csbt,resourcequota", name, "-n", NAMESPACE, "--ignore-not-found"])
        .await?;
    kubectl(&["delete", "priorityclass", name, "--ignore-not-found"]).await.map(drop)
}

#[tokio::test]
async fn a_pool_is_bounded_by_the_quota_and_says_so() -> anyhow::Result<()> {
    quota().await?;
    e2e::finally(Box::pin(bounded()), no_quota()).await
}

async fn bounded() -> anyhow::Result<()> {
    let name = "e2e-pool-quota";
    let template = json!({"podPatch": {"spec": {"priorityClassName": name}}});
    let pool = Pool::make(name, 50, &template).await?;
    let full = pool.says(reason::QUOTA_EXCEEDED, 3).await?;
    let said = full.status.context("it has one")?.conditions[0].message.clone();
    assert!(
        said.contains(&format!(
            "exceeded quota: {name}, requested: pods=1, used: pods={ROOM}, limited: pods={ROOM}"
        )),
        "{said}"
    );
    assert_eq!(pool.waiting().await?.len(), ROOM);

    // It is tried again meanwhile, which nobody is told of.
    let version = pool.api().get(name).await?.resource_version();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(pool.api().get(name).await?.resource_version(), version);
    assert_eq!(pool.waiting().await?.len(), ROOM);

    kubectl(&["scale", "csbp", name, "-n", NAMESPACE, "--replicas", "2"]).await?;
    pool.says(reason::POOL_READY, 2).await?;
    e2e::until("two are left", async || Ok(pool.waiting().await?.len() == 2)).await?;
    pool.remove().await
}

#[tokio::test]
async fn what_a_member_cannot_be_given_late_is_a_cold_start_that_says_why() -> anyhow::Result<()> {
    let pool =
        Pool::make("e2e-pool-late", 1, &json!({"allow": {"network": ["10.0.0.0/8"]}})).await?;
    pool.says(reason::POOL_READY, 1).await?;
    let before = pool.uids().await?;
    let env = json!({"env": [{"name": "TEAM", "value": "blue"}]});
    for (asked, why) in [
        (env, start::SETTINGS_DIFFER),
        (
            json!({"network": {"egress": "Deny", "ports": [{"port": 80, "from": [{"cidr": "10.0.0.0/8"}]}]}}),
            start::SETTINGS_DIFFER,
        ),
        (json!({"poolRef": {"name": "e2e-no-pool"}}), start::POOL_NOT_FOUND),
    ] {
        let sandbox = pool.sandbox("pooled-cold", asked).await?;
        assert_eq!(start_of(&sandbox), (StartMode::Cold, why.into()));
        assert_eq!(sandbox.pod(), names::pod("pooled-cold", 1));
        sandbox.delete().await?;
    }
    assert_eq!(pool.uids().await?, before);

    let late =
        json!({"ttl": "5m", "ttlAfterFinished": "1m", "restartPolicy": "Never", "onIdle": "Pause"});
    let sandbox = pool.sandbox("pooled-late", late).await?;
    assert_eq!(start_of(&sandbox).0, StartMode::Warm);
    sandbox.delete().await?;
    pool.remove().await
}

#[tokio::test]
async fn a_changed_template_replaces_members_and_never_a_claimed_one() -> anyhow::Result<()> {
    let of = |team: &str| json!({"defaults": {"env": [{"name": "TEAM", "value": team}]}});
    let pool = Pool::make("e2e-pool-change", 2, &of("blue")).await?;
    pool.says(reason::POOL_READY, 2).await?;
    let blue = pool.sandbox("pooled-blue", json!({})).await?;
    assert_eq!(blue.says("echo $TEAM").await?, "blue\n");
    e2e::until("there is another", async || Ok(pool.uids().await?.len() == 2)).await?;

    let before = pool.uids().await?;
    pool.template(&of("red")).await?;
    e2e::until("all are others", async || {
        let now = pool.uids().await?;
        Ok(now.len() == 2 && now.is_disjoint(&before))
    })
    .await?;
    pool.says(reason::POOL_READY, 2).await?;
    let red = pool.sandbox("pooled-red", json!({})).await?;
    assert_eq!(start_of(&red).0, StartMode::Warm);
    assert_eq!(red.says("echo $TEAM").await?, "red\n");

    let now = pool.cluster.sandboxes.get("pooled-blue").await?;
    assert_eq!(now.status.and_then(|status| status.pod_uid), Some(pod_uid(&blue)));
    assert_eq!(blue.says("echo $TEAM").await?, "blue\n");
    blue.delete().await?;
    red.delete().await?;
    pool.remove().await
}

#[tokio::test]
async fn a_pool_that_goes_takes_its_members_and_leaves_sandboxes() -> anyhow::Result<()> {
    let pool = Pool::make("e2e-pool-gone", 2, &json!({})).await?;
    pool.says(reason::POOL_READY, 2).await?;
    let sandbox = pool.sandbox("pooled-left", json!({})).await?;
    assert_eq!(start_of(&sandbox).0, StartMode::Warm);
    kubectl(&["delete", "csbp", pool.name, "-n", NAMESPACE]).await?;
    e2e::until("its pods are gone", async || Ok(pool.waiting().await?.is_empty())).await?;
    let now = pool.cluster.sandboxes.get("pooled-left").await?;
    assert!(is(&now, condition::READY));
    assert_eq!(now.status.and_then(|status| status.pod_uid), Some(pod_uid(&sandbox)));
    assert_eq!(sandbox.says("echo here").await?, "here\n");

    // The next pod is its own, as every sandbox's is.
    pool.cluster.pods.delete(&sandbox.pod(), &DeleteParams::default()).await?;
    let next = names::pod("pooled-left", 2);
    pool.cluster
        .wait("pooled-left", "ready again", |one| {
            let status = one.status.as_ref();
            is(one, condition::READY)
                && status.is_some_and(|status| status.pod_name.as_ref() == Some(&next))
        })
        .await?;
    sandbox.delete().await?;
    pool.remove().await
}
