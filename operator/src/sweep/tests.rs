//! Sweeps against an API server that answers well, badly or not at all.

use api::CodeSandboxStatus;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::{reflector, watcher};
use serde_json::{Value, json};

use super::*;
use crate::{
    call::DEADLINE,
    injection::{AgentInjection, Way},
    network, pod,
    pool::testing::{pool, warm},
    testing::{Answer, Log, config, context, internet, sandbox, server},
    watched::Watched,
};

const PODS: &str = "GET pods";
const SANDBOXES: &str = "GET codesandboxes";
const DELETE_POD: &str = "DELETE pods/box-1";
const DELETE_POLICY: &str = "DELETE networkpolicies/box-internet";

/// What the watches show, and what the server is asked.
struct Setup {
    context: Context,
    shown: Store<CodeSandbox>,
    log: Log,
}

/// A namespace whose watches show these.
fn setup(
    sandboxes: Vec<CodeSandbox>,
    policies: Vec<NetworkPolicy>,
    answer: impl FnMut(&str) -> Answer + Send + 'static,
) -> Setup {
    let (client, log) = server(answer);
    let (shown, mut writer) = reflector::store();
    for sandbox in sandboxes {
        writer.apply_watcher_event(&watcher::Event::Apply(sandbox));
    }
    let (store, mut policy_writer) = reflector::store();
    for policy in policies {
        policy_writer.apply_watcher_event(&watcher::Event::Apply(policy));
    }
    std::mem::forget((writer, policy_writer));
    let mut context = context(client, AgentInjection::ImageVolume);
    context.policies = Watched::new(store);
    Setup { context, shown, log }
}

impl Setup {
    /// Sweeps for so long, and gives what was asked meanwhile.
    async fn sweep(&self, seconds: u64) -> Vec<String> {
        let stop = CancellationToken::new();
        let sweeping = run(&self.context, &self.shown, &stop);
        tokio::time::timeout(Duration::from_secs(seconds), sweeping).await.unwrap_err();
        self.log.requests()
    }
}

fn list(items: &[Value]) -> Answer {
    Answer::Object(json!({"metadata": {"resourceVersion": "5"}, "items": items}))
}

/// The pod of `sandbox()` without its owner, as a list of metadata has it.
fn its_pod() -> Value {
    let pod = pod::pod(&sandbox(), &config(), Way::ImageVolume, 1);
    let mut metadata = serde_json::to_value(pod.metadata).unwrap();
    metadata["uid"] = "pod-uid".into();
    metadata["ownerReferences"].take();
    json!({"metadata": metadata})
}

fn its_policy() -> NetworkPolicy {
    let mut policy = network::own(&internet(), &config()).unwrap();
    (policy.metadata.uid, policy.metadata.owner_references) = (Some("policy-uid".into()), None);
    policy
}

/// A server whose pods are these, which has no sandbox and deletes what it is told to.
fn deserted(request: &str, pods: &[Value]) -> Answer {
    match request {
        PODS => list(pods),
        SANDBOXES => list(&[]),
        DELETE_POD | DELETE_POLICY => {
            Answer::Object(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        other => panic!("unexpected {other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_over_goes_when_it_is_found_again_a_minute_later() {
    let setup = setup(vec![], vec![its_policy()], |request| deserted(request, &[its_pod()]));
    assert_eq!(setup.sweep(179).await, [PODS, SANDBOXES]);
    setup.log.clear();

    assert_eq!(setup.sweep(181).await[2..], [PODS, SANDBOXES, DELETE_POLICY, DELETE_POD]);
    let selected = setup.log.queries(PODS).pop().unwrap();
    assert!(selected.contains("instance%3Drelease"), "{selected}");
    for (request, uid) in [(DELETE_POD, "pod-uid"), (DELETE_POLICY, "policy-uid")] {
        assert_eq!(setup.log.bodies(request)[0]["preconditions"], json!({"uid": uid}));
    }
    let metrics = setup.context.caller.metrics.text().unwrap();
    for line in [
        r#"codesandbox_operator_leaks_found_total{kind="Pod",why="Orphaned"} 1"#,
        r#"codesandbox_operator_leaks_found_total{kind="NetworkPolicy",why="Orphaned"} 1"#,
        r#"codesandbox_operator_sandbox_events_total{action="Sweep",reason="Orphaned"} 2"#,
    ] {
        assert!(metrics.lines().any(|said| said == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_watch_shows_all_it_takes_one_list() {
    let setup = setup(vec![sandbox()], vec![its_policy(), network::deny("demo")], |request| {
        deserted(request, &[its_pod()])
    });
    assert_eq!(setup.sweep(130).await, [PODS]);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_no_watch_shows_keeps_what_is_its() {
    // It is there and cannot be decoded.
    let bad = json!({"metadata": {"name": "box", "uid": "sandbox-uid"}, "spec": 7});
    let setup = setup(vec![], vec![its_policy()], move |request| match request {
        SANDBOXES => list(std::slice::from_ref(&bad)),
        other => deserted(other, &[its_pod()]),
    });
    let requests = setup.sweep(600).await;
    assert!(!requests.iter().any(|request| request.starts_with("DELETE")), "{requests:?}");
}

/// A pool that the watch does not show keeps its pods, and of one that is gone a sandbox keeps what it claims meanwhile.
#[tokio::test(start_paused = true)]
async fn the_pods_of_a_pool_go_after_it_as_they_were_seen() {
    let orphan = || {
        let mut pod = warm(&pool(1), 1, &json!({}));
        pod.metadata.owner_references = None;
        json!({"metadata": pod.metadata})
    };
    let (pools, delete) = ("GET codesandboxpools", "DELETE pods/pool-m1");
    let answer = move |request: &str| match request {
        request if request == pools => list(&[]),
        request if request == delete => Answer::Refuse(409, "Conflict", "it is another"),
        other => deserted(other, &[orphan()]),
    };
    let swept = setup(vec![], vec![], answer);
    assert_eq!(swept.sweep(181).await[3..], [PODS, SANDBOXES, pools, delete]);
    let preconditions = json!({"uid": "uid-1", "resourceVersion": "5"});
    assert_eq!(swept.log.bodies(delete)[0]["preconditions"], preconditions);

    let answer = move |request: &str| match request {
        request if request == pools => {
            list(&[json!({"metadata": {"name": "pool", "uid": "pool-uid"}})])
        }
        other => deserted(other, &[json!({"metadata": warm(&pool(1), 1, &json!({})).metadata})]),
    };
    let kept = setup(vec![], vec![], answer);
    assert_eq!(kept.sweep(181).await, [PODS, SANDBOXES, pools]);
}

#[tokio::test(start_paused = true)]
async fn the_pod_of_an_earlier_attempt_goes_while_its_sandbox_lives() {
    let mut later = sandbox();
    later.status = Some(CodeSandboxStatus { attempt: Some(2), ..CodeSandboxStatus::default() });
    let there = json!({"metadata": {"name": "box", "uid": "sandbox-uid"}});
    let setup = setup(vec![later], vec![its_policy()], move |request| match request {
        SANDBOXES => list(std::slice::from_ref(&there)),
        other => deserted(other, &[its_pod()]),
    });
    let requests = setup.sweep(181).await;
    assert_eq!(requests, [PODS, SANDBOXES, PODS, SANDBOXES, DELETE_POD]);
}

#[tokio::test(start_paused = true)]
async fn where_a_list_fails_nothing_is_taken_for_left_over() {
    for fails in [PODS, SANDBOXES] {
        let setup = setup(vec![], vec![its_policy()], move |request| {
            if request == fails {
                return Answer::Refuse(500, "InternalError", "etcdserver: request timed out");
            }
            deserted(request, &[its_pod()])
        });
        let requests = setup.sweep(600).await;
        assert!(!requests.iter().any(|request| request.starts_with("DELETE")), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_come_in_pages_and_every_page_is_looked_at() {
    let mut first = false;
    let setup = setup(vec![], vec![], move |request| {
        if request != PODS {
            return deserted(request, &[]);
        }
        first = !first;
        if first {
            return Answer::Object(json!({"metadata": {"continue": "more"}, "items": []}));
        }
        list(&[its_pod()])
    });
    assert_eq!(setup.sweep(181).await.last().unwrap(), DELETE_POD);
    let queries = setup.log.queries(PODS);
    assert!(queries.iter().all(|query| query.contains("limit=500")), "{queries:?}");
    assert!(queries[1].contains("continue=more"), "{queries:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_removed_holds_up_no_other_and_is_told_of_once() {
    let setup = setup(vec![], vec![its_policy()], |request| match request {
        DELETE_POLICY => Answer::Refuse(403, "Forbidden", "cannot delete"),
        other => deserted(other, &[its_pod()]),
    });
    let requests = setup.sweep(241).await;
    let count = |request: &str| requests.iter().filter(|one| *one == request).count();
    assert_eq!((count(DELETE_POLICY), count(DELETE_POD)), (2, 2), "{requests:?}");
    let metrics = setup.context.caller.metrics.text().unwrap();
    let told = r#"codesandbox_operator_leaks_found_total{kind="NetworkPolicy",why="Orphaned"} 1"#;
    assert!(metrics.contains(told), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_begins_no_other_removal_and_waits_for_no_list() {
    // What hangs, when it is asked, and how long that is waited for.
    for (hangs, asked, waits) in
        [(PODS, EVERY, Duration::ZERO), (DELETE_POLICY, EVERY + PATIENCE, DEADLINE)]
    {
        let setup = setup(vec![], vec![its_policy()], move |request| {
            if request == hangs {
                return Answer::Silence;
            }
            deserted(request, &[its_pod()])
        });
        let stop = CancellationToken::new();
        let mut sweeping = std::pin::pin!(run(&setup.context, &setup.shown, &stop));
        let asked = asked + Duration::from_secs(1);
        tokio::time::timeout(asked, &mut sweeping).await.unwrap_err();
        stop.cancel();
        tokio::time::timeout(waits, sweeping).await.unwrap();
        assert_eq!(setup.log.requests().last().unwrap(), hangs);
    }
}
