//! Sandboxes that name a pool.

use api::{LocalObjectReference, names, start};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::*;
use crate::{
    pool::testing::{claim, pool, warm},
    testing::template,
};

const LIST_PODS: &str = "GET pods";
const CLAIM: [&str; 2] = ["PATCH pods/pool-m1", "PATCH pods/pool-m2"];

const GET_CLAIMED: [&str; 2] = ["GET pods/pool-m1", "GET pods/pool-m2"];

/// A sandbox of the pool that has taken down its template.
fn bound() -> CodeSandbox {
    let mut sandbox = fresh();
    sandbox.spec.template_ref = Some(LocalObjectReference { name: "a".into() });
    sandbox.spec.pool_ref = Some(LocalObjectReference { name: "pool".into() });
    sandbox.status = Some(testing::bound(&json!({})));
    sandbox
}

/// A namespace with a pool of two pods that wait.
fn with_pool(answer: impl FnMut(&str) -> Answer + Send + 'static) -> (Arc<Context>, Log) {
    let (mut context, log) = context(deny(), answer);
    let shared = Arc::get_mut(&mut context).unwrap();
    let pods = [1, 2].map(|number| {
        let mut pod = warm(&pool(2), number, &json!({}));
        pod.metadata.creation_timestamp = Some(Time(Timestamp::now()));
        pod
    });
    shared.templates = Watched::new(store_of(vec![template("a", &json!({}))]));
    shared.pools = Watched::new(store_of(vec![pool(2)]));
    shared.members = Watched::new(store_of(pods.into()));
    (context, log)
}

fn list(items: &[Value]) -> Answer {
    Answer::Object(json!({"metadata": {"resourceVersion": "5"}, "items": items}))
}

/// A pod of the pool once it is the sandbox's.
fn claimed(number: u32) -> Value {
    let mut pod = warm(&pool(2), number, &json!({}));
    claim(&mut pod);
    serde_json::to_value(pod).unwrap()
}

/// What a well-meaning server answers.
fn willing(request: &str) -> Answer {
    match request {
        LIST_PODS => list(&[]),
        one if one == CLAIM[0] => Answer::Object(claimed(1)),
        two if two == CLAIM[1] => Answer::Object(claimed(2)),
        get if GET_CLAIMED.contains(&get) => {
            let mut pod = claimed(1);
            pod["metadata"]["labels"][names::SANDBOX_UID] = "another".into();
            Answer::Object(pod)
        }
        other => well(other),
    }
}

/// Refuses claims of the first pod so, and answers all else well.
fn but_the_first(code: u16, reason: &'static str) -> impl FnMut(&str) -> Answer + Send + 'static {
    move |request| match request {
        first if first == CLAIM[0] => Answer::Refuse(code, reason, "not you"),
        other => willing(other),
    }
}

#[tokio::test]
async fn a_claim_is_one_patch_of_the_very_pod_that_was_seen() {
    let (context, log) = with_pool(willing);
    run(&context, bound()).await.unwrap();
    assert_eq!(log.requests(), [LIST_PODS, CLAIM[0], WRITE_STATUS]);
    let queries = log.queries(LIST_PODS);
    let selector = "labelSelector=app.kubernetes.io%2Finstance%3Drelease%2Ccodesandbox.dev%2Fsandbox-uid%3Dsandbox-uid";
    assert!(
        queries[0].contains(selector) && !queries[0].contains("resourceVersion"),
        "{queries:?}"
    );
    let owner = json!([{"apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox", "name": "box",
        "uid": "sandbox-uid", "controller": true, "blockOwnerDeletion": true}]);
    let expected = json!({"metadata": {"name": "pool-m1", "uid": "uid-1", "resourceVersion": "5",
        "labels": {names::SANDBOX: "box", names::SANDBOX_UID: "sandbox-uid"}, "ownerReferences": owner}});
    assert_eq!(log.bodies(CLAIM[0]), [expected]);
    let status = &log.last_body()["status"];
    assert_eq!((&status["podName"], &status["podUID"]), (&json!("pool-m1"), &json!("uid-1")));
    assert_eq!(status["start"], json!({"mode": "Warm", "reason": "Claimed"}));
    let metrics = context.caller.metrics.text().unwrap();
    assert!(metrics.contains(r#"starts_total{mode="Warm",reason="Claimed"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_policy_that_opens_the_pods_of_a_pool_is_said_with_the_claim() {
    let (mut context, log) = with_pool(willing);
    let mut opener = testing::opener("opens-pool");
    opener.spec.as_mut().unwrap().pod_selector = Some(LabelSelector {
        match_labels: Some([(names::POOL.into(), "pool".into())].into()),
        ..LabelSelector::default()
    });
    let policies = deny().into_iter().chain([opener]).collect();
    Arc::get_mut(&mut context).unwrap().policies = Watched::new(store_of(policies));
    run(&context, bound()).await.unwrap();
    let body = log.last_body();
    assert_eq!(body["status"]["start"]["mode"], "Warm");
    assert_eq!(reason(&body, condition::NETWORK_ISOLATED), reason::OPENED_BY_POLICY);
}

#[tokio::test]
async fn a_pod_that_has_changed_or_gone_is_passed_over() {
    let (context, log) = with_pool(but_the_first(404, "NotFound"));
    run(&context, bound()).await.unwrap();
    assert_eq!(log.requests(), [LIST_PODS, CLAIM[0], CLAIM[1], WRITE_STATUS]);
    assert_eq!(log.last_body()["status"]["podName"], "pool-m2");

    let (context, log) = with_pool(but_the_first(409, "Conflict"));
    run(&context, bound()).await.unwrap();
    assert_eq!(log.requests(), [LIST_PODS, CLAIM[0], GET_CLAIMED[0], CLAIM[1], WRITE_STATUS]);
    assert_eq!(log.last_body()["status"]["podName"], "pool-m2");
}

/// It was carried out when the sandbox's pods had been listed already.
#[tokio::test]
async fn a_claim_that_was_carried_out_without_an_answer_is_not_made_twice() {
    let mut refuse = but_the_first(409, "Conflict");
    let (context, log) = with_pool(move |request| match request {
        get if get == GET_CLAIMED[0] => Answer::Object(claimed(1)),
        other => refuse(other),
    });
    run(&context, bound()).await.unwrap();
    assert_eq!(log.requests(), [LIST_PODS, CLAIM[0], GET_CLAIMED[0], WRITE_STATUS]);
    assert_eq!(log.last_body()["status"]["podName"], "pool-m1");
}

#[tokio::test]
async fn where_every_pod_is_another_sandboxs_by_then_one_is_made() {
    let (context, log) = with_pool(|request| match request {
        claim if CLAIM.contains(&claim) => Answer::Refuse(409, "Conflict", "changed"),
        other => willing(other),
    });
    run(&context, bound()).await.unwrap();
    let claims = [CLAIM[0], GET_CLAIMED[0], CLAIM[1], GET_CLAIMED[1]];
    assert_eq!(log.requests()[1..5], claims);
    assert_eq!(log.requests()[5..], [CREATE_POD, WRITE_STATUS]);
    let made = &log.bodies(CREATE_POD)[0];
    assert_eq!(made["metadata"]["annotations"][names::START], start::NO_POD_READY);
    let expected = json!({"mode": "Cold", "reason": "NoPodReady"});
    assert_eq!(log.last_body()["status"]["start"], expected);
}

/// As where the chart's Role is older than the operator.
#[tokio::test]
async fn a_claim_that_is_refused_costs_nobody_the_sandbox() {
    let (context, log) = with_pool(but_the_first(403, "Forbidden"));
    run(&context, bound()).await.unwrap();
    assert_eq!(log.requests(), [LIST_PODS, CLAIM[0], CREATE_POD, WRITE_STATUS]);
    let expected = json!({"mode": "Cold", "reason": "ClaimRefused"});
    assert_eq!(log.last_body()["status"]["start"], expected);
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_looked_for_before_there_is_another() {
    let mut answered = false;
    let (context, log) = with_pool(move |request| match request {
        LIST_PODS if answered => list(&[claimed(1)]),
        first if first == CLAIM[0] => {
            answered = true;
            Answer::Drop
        }
        other => willing(other),
    });
    run(&context, bound()).await.unwrap_err();
    assert_eq!(log.requests()[..2], [LIST_PODS, CLAIM[0]]);
    log.clear();
    // An operator that knows of nothing; the mock's answer to a status has no spec besides.
    context.memory.forget("box");
    run(&context, bound()).await.unwrap();
    assert_eq!(log.requests(), [LIST_PODS, WRITE_STATUS]);
    assert_eq!(log.last_body()["status"]["podName"], "pool-m1");
}

#[tokio::test]
async fn two_sandboxes_at_once_ask_for_a_pod_each() {
    let (context, log) = with_pool(willing);
    let mut other = bound();
    (other.metadata.name, other.metadata.uid) = (Some("other".into()), Some("other-uid".into()));
    let both = futures::future::join(run(&context, bound()), run(&context, other)).await;
    // The mock knows nobody but the first.
    assert!(both.0.is_ok());
    let asked: Vec<_> = log.requests().into_iter().filter(|one| CLAIM.contains(&&**one)).collect();
    assert_eq!(asked, CLAIM);
}

#[tokio::test]
async fn a_sandbox_that_has_a_claimed_pod_asks_for_that_by_its_name() {
    let (context, log) = with_pool(|request| match request {
        "GET pods/pool-m1" => Answer::Object(claimed(1)),
        other => willing(other),
    });
    let mut sandbox = bound();
    let status = sandbox.status.as_mut().unwrap();
    (status.pod_name, status.pod_uid) = (Some("pool-m1".into()), Some("uid-1".into()));
    run(&context, sandbox).await.unwrap();
    assert_eq!(log.requests(), ["GET pods/pool-m1", WRITE_STATUS]);
}

#[tokio::test(start_paused = true)]
async fn pools_that_never_become_known_hold_up_no_sandbox() {
    let (mut context, log) = with_pool(willing);
    Arc::get_mut(&mut context).unwrap().pools = Watched::new(reflector::store().0);
    run(&context, bound()).await.unwrap();
    assert_eq!(log.requests(), [LIST_PODS, CREATE_POD, WRITE_STATUS]);
    assert_eq!(log.last_body()["status"]["start"]["reason"], start::POOL_UNKNOWN);
}
