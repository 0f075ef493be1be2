//! Whole reconciles against an API server that answers well, badly or not at all.

use api::{CodeSandboxStatus, condition, reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::{
    metrics::Metrics,
    pod,
    testing::{Answer, Log, config, running, sandbox, server},
};

const APPLY_DENY: &str = "PATCH networkpolicies/codesandbox-deny";
const CREATE_POD: &str = "POST pods";
const GET_POD: &str = "GET pods/box-1";
const WRITE_STATUS: &str = "PATCH codesandboxes/box/status";
const DELETE: &str = "DELETE codesandboxes/box";

/// A context whose requests are answered so, and whose watch shows these policies.
fn context(
    policies: Vec<NetworkPolicy>,
    answer: impl FnMut(&str) -> Answer + Send + 'static,
) -> (Arc<Context>, Log) {
    let (client, log) = server(answer);
    let metrics = Metrics::new();
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    for policy in policies {
        writer.apply_watcher_event(&watcher::Event::InitApply(policy));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    // Events wait in the queue: they have a test of their own.
    let (publisher, publishing) = Publisher::new(client.clone(), metrics.clone());
    std::mem::forget((writer, publishing));
    let context = Context {
        caller: Caller { client, namespace: "demo".into(), metrics },
        config: Arc::new(config()),
        policies: store,
        memory: Memory::default(),
        publisher,
    };
    (Arc::new(context), log)
}

fn deny() -> Vec<NetworkPolicy> {
    vec![network::deny("demo")]
}

/// What a well-meaning server answers.
fn well(request: &str) -> Answer {
    match request {
        CREATE_POD => Answer::Taken(json!({"uid": "pod-uid"})),
        APPLY_DENY => Answer::Taken(json!({})),
        WRITE_STATUS => Answer::Taken(json!({"resourceVersion": "2", "uid": "sandbox-uid"})),
        DELETE => {
            Answer::Object(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        GET_POD => Answer::Object(our_pod()),
        other => panic!("unexpected {other}"),
    }
}

/// Answers one kind of request so, and all others well.
fn but(exception: &'static str, answer: fn() -> Answer) -> impl FnMut(&str) -> Answer + Send {
    move |request| if request == exception { answer() } else { well(request) }
}

fn our_pod() -> Value {
    let mut pod = serde_json::to_value(pod::pod(&sandbox(), &config(), 1)).unwrap();
    pod["metadata"]["uid"] = "pod-uid".into();
    pod["status"] = running();
    pod
}

/// A sandbox whose clock does not run out while the test runs.
fn fresh() -> CodeSandbox {
    let mut sandbox = sandbox();
    sandbox.metadata.creation_timestamp = Some(Time(Timestamp::now()));
    sandbox
}

/// A sandbox whose pod is known to run.
fn known() -> CodeSandbox {
    let mut sandbox = fresh();
    sandbox.status = Some(CodeSandboxStatus {
        attempt: Some(1),
        pod_uid: Some("pod-uid".into()),
        ..CodeSandboxStatus::default()
    });
    sandbox
}

async fn run(context: &Arc<Context>, sandbox: CodeSandbox) -> Result<Action, Error> {
    reconcile(Arc::new(sandbox), context.clone()).await
}

/// The reason that the status in a request's body gives for a condition.
fn reason(body: &Value, type_: &str) -> String {
    let conditions = body["status"]["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|one| one["type"] == type_).unwrap();
    condition["reason"].as_str().unwrap().into()
}

#[tokio::test]
async fn a_new_sandbox_takes_three_writes_policy_first_status_last() {
    let (context, log) = context(vec![], well);
    run(&context, fresh()).await.unwrap();
    assert_eq!(log.requests(), [APPLY_DENY, CREATE_POD, WRITE_STATUS]);

    let body = log.last_body();
    let mut keys: Vec<_> = body.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["apiVersion", "kind", "metadata", "status"]);
    assert_eq!(body["metadata"], json!({"name": "box", "resourceVersion": "1"}));
    assert_eq!(body["status"]["podUID"], "pod-uid");
    assert_eq!(reason(&body, condition::NETWORK_ISOLATED), reason::DENY_POLICY);
}

#[tokio::test]
async fn where_the_deny_policy_is_a_sandbox_takes_two_requests() {
    let (context, log) = context(deny(), well);
    run(&context, fresh()).await.unwrap();
    assert_eq!(log.requests(), [CREATE_POD, WRITE_STATUS]);
}

#[tokio::test]
async fn a_watch_behind_our_own_write_leads_to_no_second_one() {
    let (context, log) = context(deny(), well);
    let sandbox = fresh();
    run(&context, sandbox.clone()).await.unwrap();
    log.clear();
    // The mock's answer has neither creation nor generation, so only what is asked and of which version counts.
    run(&context, sandbox).await.unwrap();
    assert_eq!(log.requests()[0], GET_POD, "the pod is known, though the watch does not show it");
    assert!(!log.requests().contains(&CREATE_POD.to_owned()));
}

#[tokio::test]
async fn a_refused_pod_is_a_condition_and_not_an_error() {
    for answer in [
        || Answer::Refuse(403, "Forbidden", "violates PodSecurity"),
        || Answer::Refuse(422, "Invalid", "spec.hostname: Invalid"),
        || Answer::Refuse(400, "BadRequest", "denied the request"),
    ] {
        let (context, log) = context(deny(), but(CREATE_POD, answer));
        let action = run(&context, fresh()).await.unwrap();
        assert_eq!(log.requests(), [CREATE_POD, WRITE_STATUS]);
        assert_eq!(reason(&log.last_body(), condition::READY), reason::ADMISSION_REFUSED);
        assert_eq!(action, Action::requeue(Duration::from_secs(1)));
        let metrics = context.caller.metrics.text().unwrap();
        assert!(metrics.contains(r#"reconciles_total{outcome="Refused"} 1"#), "{metrics}");
    }
}

#[tokio::test]
async fn what_was_refused_is_not_asked_again_before_its_time() {
    let refuse = || Answer::Refuse(403, "Forbidden", "exceeded quota");
    let (context, log) = context(deny(), but(CREATE_POD, refuse));
    run(&context, fresh()).await.unwrap();
    log.clear();
    run(&context, fresh()).await.unwrap();
    assert!(!log.requests().contains(&CREATE_POD.to_owned()), "{:?}", log.requests());
}

#[tokio::test]
async fn without_the_right_to_make_the_deny_policy_no_pod_is_made() {
    let refuse = || Answer::Refuse(403, "Forbidden", "cannot patch resource networkpolicies");
    let (context, log) = context(vec![], but(APPLY_DENY, refuse));
    run(&context, fresh()).await.unwrap();
    assert_eq!(log.requests(), [APPLY_DENY, WRITE_STATUS]);
    assert_eq!(reason(&log.last_body(), condition::READY), reason::ADMISSION_REFUSED);
}

#[tokio::test]
async fn a_deny_policy_that_does_not_become_what_was_applied_makes_no_pod() {
    let weakened = || {
        let mut policy = serde_json::to_value(network::deny("demo")).unwrap();
        policy["spec"]["egress"] = json!([{}]);
        Answer::Object(policy)
    };
    let (context, log) = context(vec![], but(APPLY_DENY, weakened));
    let error = run(&context, fresh()).await.unwrap_err();
    assert!(matches!(error, Error::Unsettled { .. }), "{error}");
    assert!(!log.requests().contains(&CREATE_POD.to_owned()), "{:?}", log.requests());
}

#[tokio::test]
async fn a_pod_that_exists_already_is_ours_or_left_alone() {
    let exists = || Answer::Refuse(409, "AlreadyExists", "pods \"box-1\" already exists");
    let (ours, log) = context(deny(), but(CREATE_POD, exists));
    run(&ours, fresh()).await.unwrap();
    assert_eq!(log.requests(), [CREATE_POD, GET_POD, WRITE_STATUS]);
    assert_eq!(reason(&log.last_body(), condition::READY), reason::POD_READY);

    let (foreign, log) = context(deny(), move |request| match request {
        CREATE_POD => exists(),
        GET_POD => Answer::Object(json!({"metadata": {"name": "box-1", "uid": "foreign"}})),
        other => well(other),
    });
    let action = run(&foreign, fresh()).await.unwrap();
    assert_eq!(log.requests(), [CREATE_POD, GET_POD, WRITE_STATUS]);
    assert_eq!(reason(&log.last_body(), condition::READY), reason::NAME_TAKEN);
    assert_eq!(action, Action::requeue(Duration::from_secs(30)));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_helped_is_tried_again_later_and_never_made_up() {
    for answer in [
        || Answer::Refuse(429, "TooManyRequests", "slow down"),
        || Answer::Refuse(500, "InternalError", "etcd"),
        || Answer::Refuse(409, "Conflict", "resourcequotas changed"),
        || Answer::Refuse(404, "NotFound", "namespaces \"demo\" not found"),
        || Answer::Drop,
        || Answer::Silence,
    ] {
        let (context, log) = context(deny(), but(CREATE_POD, answer));
        let error = run(&context, fresh()).await.unwrap_err();
        assert!(error.to_string().contains("create Pod demo/box-1"), "{error}");
        assert_eq!(log.requests(), [CREATE_POD, WRITE_STATUS]);
        assert_eq!(reason(&log.last_body(), condition::READY), reason::CREATING);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_not_written_about() {
    for answer in [
        || Answer::Refuse(403, "Forbidden", "cannot get resource pods"),
        || Answer::Refuse(429, "TooManyRequests", "slow down"),
        || Answer::Refuse(500, "InternalError", "etcd"),
        || Answer::Drop,
        || Answer::Silence,
    ] {
        let (context, log) = context(deny(), but(GET_POD, answer));
        let error = run(&context, known()).await.unwrap_err();
        assert!(error.to_string().contains("get Pod demo/box-1"), "{error}");
        assert_eq!(log.requests(), [GET_POD]);
    }
}

#[tokio::test]
async fn a_pod_that_is_not_found_is_seen_to_be_gone() {
    let gone = || Answer::Refuse(404, "NotFound", "pods \"box-1\" not found");
    let (context, log) = context(deny(), but(GET_POD, gone));
    let action = run(&context, known()).await.unwrap();
    assert_eq!(log.requests(), [GET_POD, WRITE_STATUS]);
    let body = log.last_body();
    assert_eq!(
        (&body["status"]["attempt"], reason(&body, condition::READY)),
        (&json!(2), reason::POD_LOST.into())
    );
    assert_eq!(action, Action::requeue(Duration::ZERO));
}

#[tokio::test]
async fn a_pod_in_the_place_of_ours_is_deleted_if_it_is_still_that_one() {
    let (context, log) = context(deny(), |request| match request {
        GET_POD => {
            let mut pod = our_pod();
            pod["metadata"]["uid"] = "restored".into();
            Answer::Object(pod)
        }
        "DELETE pods/box-1" => Answer::Refuse(409, "Conflict", "precondition failed"),
        other => well(other),
    });
    let error = run(&context, known()).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert_eq!(log.requests(), [GET_POD, "DELETE pods/box-1"], "the attempt is not over yet");
    assert_eq!(log.last_body()["preconditions"], json!({"uid": "restored"}));
}

#[tokio::test]
async fn applies_are_ours_by_name_and_forced() {
    let (context, log) = context(vec![], well);
    run(&context, fresh()).await.unwrap();
    assert_eq!(log.last_query(), "&force=true&fieldManager=codesandbox-operator");
}

#[tokio::test]
async fn isolation_that_cannot_be_restored_is_said_to_be_lost() {
    let fail = || Answer::Refuse(500, "InternalError", "etcd");
    let (context, log) = context(vec![], but(APPLY_DENY, fail));
    run(&context, known()).await.unwrap_err();
    assert_eq!(log.requests(), [GET_POD, APPLY_DENY, WRITE_STATUS]);
    assert_eq!(reason(&log.last_body(), condition::NETWORK_ISOLATED), reason::NOT_DENIED);
}

#[tokio::test(start_paused = true)]
async fn policies_that_are_not_known_are_not_taken_to_be_absent() {
    let (context, log) = context(vec![], well);
    let (unready, _writer) = reflector::store();
    let mut context = Arc::into_inner(context).unwrap();
    context.policies = unready;
    let error = run(&Arc::new(context), fresh()).await.unwrap_err();
    assert!(matches!(error, Error::PoliciesUnknown { .. }), "{error}");
    assert!(log.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_is_written_later() {
    for (answer, conflict) in [
        (
            but(WRITE_STATUS, || Answer::Refuse(409, "Conflict", "the object has been modified")),
            true,
        ),
        (but(WRITE_STATUS, || Answer::Refuse(500, "InternalError", "etcd")), false),
        (but(WRITE_STATUS, || Answer::Drop), false),
        (but(WRITE_STATUS, || Answer::Silence), false),
    ] {
        let (context, _) = context(deny(), answer);
        let error = run(&context, fresh()).await.unwrap_err();
        assert_eq!(matches!(error, Error::Conflict { .. }), conflict, "{error}");
    }
}

#[tokio::test]
async fn a_sandbox_that_went_meanwhile_is_no_error() {
    let gone = || Answer::Refuse(404, "NotFound", "codesandboxes \"box\" not found");
    let (context, log) = context(deny(), but(WRITE_STATUS, gone));
    run(&context, fresh()).await.unwrap();
    assert_eq!(log.requests(), [CREATE_POD, WRITE_STATUS]);
}

#[tokio::test]
async fn an_expired_sandbox_is_deleted_if_it_is_still_the_one_that_was_judged() {
    let (context, log) = context(deny(), well);
    // Created in the past of all tests, with a ttl of an hour.
    let action = run(&context, sandbox()).await.unwrap();
    assert_eq!((log.requests(), action), (vec![DELETE.to_owned()], Action::await_change()));
    let body = log.last_body();
    assert_eq!(body["preconditions"], json!({"uid": "sandbox-uid", "resourceVersion": "1"}));
    assert_eq!(body["propagationPolicy"], "Background");
}

#[tokio::test]
async fn deleting_what_is_gone_is_done_and_what_has_changed_is_looked_at_again() {
    let (gone, _) = context(deny(), but(DELETE, || Answer::Refuse(404, "NotFound", "gone")));
    run(&gone, sandbox()).await.unwrap();

    let (changed, log) =
        context(deny(), but(DELETE, || Answer::Refuse(409, "Conflict", "precondition")));
    let error = run(&changed, sandbox()).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert_eq!(log.requests(), [DELETE], "and no status is written");
}

#[tokio::test]
async fn sandboxes_of_other_classes_cost_nothing() {
    let (context, log) = context(vec![], well);
    let mut sandbox = fresh();
    sandbox.spec.class_name = "other".into();
    assert_eq!(run(&context, sandbox).await.unwrap(), Action::await_change());
    assert!(log.requests().is_empty());
}

#[tokio::test]
async fn failures_are_tried_again_after_longer_and_longer_pauses() {
    let (context, _) = context(deny(), |request| match request {
        CREATE_POD => Answer::Drop,
        GET_POD => Answer::Refuse(404, "NotFound", "not yet"),
        other => well(other),
    });
    let sandbox = Arc::new(fresh());
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let error = reconcile(sandbox.clone(), context.clone()).await.unwrap_err();
        pauses.push(retry(sandbox.clone(), &error, context.clone()));
    }
    assert_eq!(pauses, [5, 10, 20].map(|millis| Action::requeue(Duration::from_millis(millis))));
}

#[test]
fn a_policy_that_changes_concerns_its_own_sandbox_or_all() {
    let (store, mut writer) = reflector::store();
    for name in ["box", "other"] {
        let mut sandbox = sandbox();
        sandbox.metadata.name = Some(name.into());
        writer.apply_watcher_event(&watcher::Event::Apply(sandbox));
    }
    let names =
        |policy| affected(&policy, &store).into_iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names(network::internet(&sandbox(), &config())), ["box"]);
    let mut all = names(network::deny("demo"));
    all.sort();
    assert_eq!(all, ["box", "other"]);
}

#[tokio::test]
async fn an_event_that_is_lost_fails_nothing() {
    let (client, log) = server(|request| match request {
        "POST events" => Answer::Refuse(403, "Forbidden", "cannot create resource events"),
        other => panic!("unexpected {other}"),
    });
    let (publisher, publishing) = Publisher::new(client, Metrics::new());
    publisher.publish(vec![crate::events::expired(&sandbox())], &sandbox().object_ref(&()));
    drop(publisher);
    publishing.await;
    assert_eq!(log.requests(), ["POST events"]);
    let body = log.last_body();
    assert_eq!((&body["reason"], &body["regarding"]["name"]), (&json!("Expired"), &json!("box")));
}
