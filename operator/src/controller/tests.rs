//! Whole reconciles against an API server that answers well, badly or not at all.

use api::{CodeSandboxStatus, condition, reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

mod pools;
mod warnings;

use super::*;
use crate::{
    injection::{AgentInjection, Way},
    metrics::Metrics,
    pod, probe,
    testing::{self, Answer, CREATED, Log, config, internet, running, sandbox, server, store_of},
};

const APPLY_DENY: &str = "PATCH networkpolicies/codesandbox-deny";
const CREATE_POD: &str = "POST pods";
const GET_POD: &str = "GET pods/box-1";
const WRITE_STATUS: &str = "PATCH codesandboxes/box/status";
const DELETE: &str = "DELETE codesandboxes/box";
const ASK_TIME: &str = "GET /version";

/// A context whose requests are answered so, and whose watch shows these policies.
fn context(
    policies: Vec<NetworkPolicy>,
    answer: impl FnMut(&str) -> Answer + Send + 'static,
) -> (Arc<Context>, Log) {
    context_with(AgentInjection::ImageVolume, policies, answer)
}

fn context_with(
    injection: AgentInjection,
    policies: Vec<NetworkPolicy>,
    answer: impl FnMut(&str) -> Answer + Send + 'static,
) -> (Arc<Context>, Log) {
    let (client, log) = server(answer);
    let mut context = testing::context(client, injection);
    context.policies = Watched::new(store_of(policies));
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
        ASK_TIME => Answer::Object(json!({})),
        other => panic!("unexpected {other}"),
    }
}

/// Answers one kind of request so, and all others well.
fn but(exception: &'static str, answer: fn() -> Answer) -> impl FnMut(&str) -> Answer + Send {
    move |request| if request == exception { answer() } else { well(request) }
}

/// Answers so where there is no pod.
fn without_pod(mut answer: impl FnMut(&str) -> Answer + Send) -> impl FnMut(&str) -> Answer + Send {
    move |request| match request {
        GET_POD => Answer::Refuse(404, "NotFound", "pods \"box-1\" not found"),
        other => answer(other),
    }
}

fn our_pod() -> Value {
    let mut pod =
        serde_json::to_value(pod::pod(&sandbox(), &config(), Way::ImageVolume, 1)).unwrap();
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

const GET_PROBE: &str = "GET pods/box-probe";
const DELETE_PROBE: &str = "DELETE pods/box-probe";

/// A sandbox that waits for its probe.
fn probing() -> CodeSandbox {
    let condition = Condition {
        type_: condition::READY.into(),
        status: "False".into(),
        reason: reason::PROBING.into(),
        message: String::new(),
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::now()),
    };
    let mut sandbox = fresh();
    sandbox.status =
        Some(CodeSandboxStatus { conditions: vec![condition], ..CodeSandboxStatus::default() });
    sandbox
}

/// Answers as a cluster in which the probe of the sandbox ended so.
fn probed(status: Value) -> impl FnMut(&str) -> Answer + Send {
    without_pod(move |request| match request {
        GET_PROBE => {
            let mut probe = serde_json::to_value(probe::pod(&sandbox(), &config())).unwrap();
            probe["metadata"]["uid"] = "probe-uid".into();
            probe["status"] = status.clone();
            Answer::Object(probe)
        }
        DELETE_PROBE => Answer::Object(json!({"kind": "Status", "status": "Success"})),
        other => well(other),
    })
}

/// Names and ways of the pods that were made.
fn made(log: &Log) -> Vec<(String, Option<Way>)> {
    let pods = log.bodies(CREATE_POD).into_iter();
    pods.map(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let way = match &pod["spec"] {
            spec if spec["initContainers"].is_array() => Way::InitContainer,
            _ => Way::ImageVolume,
        };
        (name.clone(), (!name.ends_with("-probe")).then_some(way))
    })
    .collect()
}

#[tokio::test]
async fn the_first_sandbox_probes_its_runtime_and_the_next_one_pays_nothing() {
    let (context, log) =
        context_with(AgentInjection::Auto, deny(), probed(json!({"phase": "Succeeded"})));
    run(&context, fresh()).await.unwrap();
    assert_eq!(log.requests(), [GET_POD, CREATE_POD, WRITE_STATUS]);
    assert_eq!(made(&log), [("box-probe".into(), None)]);
    assert_eq!(reason(&log.last_body(), condition::READY), reason::PROBING);

    log.clear();
    context.memory.forget("box");
    run(&context, probing()).await.unwrap();
    assert_eq!(
        log.requests(),
        [GET_POD, GET_PROBE, DELETE_PROBE, CREATE_POD, WRITE_STATUS],
        "the deny policy was seen before"
    );
    assert_eq!(log.bodies(DELETE_PROBE)[0]["preconditions"], json!({"uid": "probe-uid"}));
    assert_eq!(made(&log), [("box-1".into(), Some(Way::ImageVolume))]);

    log.clear();
    let mut next = fresh();
    next.metadata.name = Some("next".into());
    next.metadata.uid = Some("next-uid".into());
    let injection = context.runtimes.injection(&next, Timestamp::now());
    assert_eq!(injection, Injection::By(Way::ImageVolume));
}

#[tokio::test]
async fn where_the_probe_fails_an_init_container_brings_the_agent_and_an_event_says_why() {
    let failed = json!({"phase": "Failed", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "",
        "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 128, "reason": "StartError", "message": "permission denied"}}}]});
    let (context, log) = context_with(AgentInjection::Auto, deny(), probed(failed));
    run(&context, fresh()).await.unwrap();
    context.memory.forget("box");
    run(&context, probing()).await.unwrap();
    assert_eq!(made(&log)[1..], [("box-1".into(), Some(Way::InitContainer))]);
    let metrics = context.caller.metrics.text().unwrap();
    assert!(metrics.contains("ImageVolumeFailed"), "{metrics}");
}

#[tokio::test]
async fn a_probe_that_is_there_already_is_looked_at_and_not_made_again() {
    let mut cluster = probed(json!({"phase": "Succeeded"}));
    let mut first = true;
    let (context, log) = context_with(AgentInjection::Auto, deny(), move |request| match request {
        CREATE_POD if std::mem::take(&mut first) => {
            Answer::Refuse(409, "AlreadyExists", "pods \"box-probe\" already exists")
        }
        other => cluster(other),
    });
    run(&context, fresh()).await.unwrap();
    let expected = [GET_POD, CREATE_POD, GET_PROBE, DELETE_PROBE, CREATE_POD, WRITE_STATUS];
    assert_eq!(log.requests(), expected);
}

/// Its operator ended between the two: the next one would wait for a probe that nobody looks at.
#[tokio::test]
async fn a_pod_that_was_made_and_not_written_down_is_found_before_there_is_a_probe() {
    let (context, log) = context_with(AgentInjection::Auto, deny(), well);
    run(&context, fresh()).await.unwrap();
    assert_eq!(log.requests(), [GET_POD, WRITE_STATUS]);
    assert_eq!(reason(&log.last_body(), condition::READY), reason::POD_READY);
    let injection = context.runtimes.injection(&fresh(), Timestamp::now());
    assert_eq!(injection, Injection::By(Way::ImageVolume));
}

#[tokio::test]
async fn who_has_a_pod_after_all_holds_up_nobody_with_its_probe() {
    let (context, _) = context_with(AgentInjection::Auto, deny(), well);
    context.runtimes.ask(&fresh(), Timestamp::now());
    run(&context, probing()).await.unwrap();
    let mut other = fresh();
    other.metadata.name = Some("other".into());
    let injection = context.runtimes.injection(&other, Timestamp::now());
    assert_eq!(injection, Injection::By(Way::ImageVolume));
}

/// The sandbox as it is since the last request, which wrote its status.
fn written(log: &Log) -> CodeSandbox {
    let mut sandbox = fresh();
    sandbox.status = Some(serde_json::from_value(log.last_body()["status"].clone()).unwrap());
    sandbox
}

#[tokio::test]
async fn a_probe_that_could_not_be_deleted_is_deleted_before_the_pod_is_made() {
    // One that said that it probes, and one whose operator ended before it could.
    for (sandbox, known_by) in
        [(probing(), vec![GET_POD, GET_PROBE]), (fresh(), vec![GET_POD, CREATE_POD, GET_PROBE])]
    {
        let mut cluster = probed(json!({"phase": "Succeeded"}));
        let (mut first_pod, mut first_deletion) = (sandbox.status.is_none(), true);
        let answer = move |request: &str| match request {
            CREATE_POD if std::mem::take(&mut first_pod) => {
                Answer::Refuse(409, "AlreadyExists", "pods \"box-probe\" already exists")
            }
            DELETE_PROBE if std::mem::take(&mut first_deletion) => {
                Answer::Refuse(500, "InternalError", "etcd")
            }
            other => cluster(other),
        };
        let (context, log) = context_with(AgentInjection::Auto, deny(), answer);
        context.runtimes.ask(&sandbox, Timestamp::now());
        run(&context, sandbox).await.unwrap_err();
        assert_eq!(log.requests(), [&known_by[..], &[DELETE_PROBE, WRITE_STATUS]].concat());
        assert_eq!(reason(&log.last_body(), condition::READY), reason::PROBING);

        let next = written(&log);
        log.clear();
        context.memory.forget("box");
        run(&context, next).await.unwrap();
        let expected = [GET_POD, GET_PROBE, DELETE_PROBE, CREATE_POD, WRITE_STATUS];
        assert_eq!(log.requests(), expected);
    }
}

/// A sandbox of another namespace, which is asked to probe the runtime.
fn elsewhere(context: &Context) -> CodeSandbox {
    let mut other = fresh();
    other.metadata.namespace = Some("elsewhere".into());
    let asked = context.runtimes.ask(&other, Timestamp::now());
    assert!(matches!(asked, Injection::Asking(_)), "{asked:?}");
    other
}

#[tokio::test]
async fn who_waits_for_anothers_probe_asks_the_api_server_nothing_meanwhile() {
    let (context, log) = context_with(AgentInjection::Auto, deny(), without_pod(well));
    elsewhere(&context);
    run(&context, fresh()).await.unwrap();
    assert_eq!(
        log.requests(),
        [GET_POD, WRITE_STATUS],
        "of an operator that died there may be one"
    );
    assert_eq!(reason(&log.last_body(), condition::READY), reason::PROBING);

    let waiting = written(&log);
    log.clear();
    context.memory.forget("box");
    for _ in 0..3 {
        let action = run(&context, waiting.clone()).await.unwrap();
        assert_ne!(action, Action::await_change(), "should nobody tell");
    }
    assert_eq!(log.requests(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_at_once_of_what_another_namespace_found_out() {
    let (asked, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let list = |items: Value| {
        Answer::Object(json!({"metadata": {"resourceVersion": "5"}, "items": items}))
    };
    let (context, _) = context_with(AgentInjection::Auto, vec![], move |request| {
        asked.send(request.to_owned()).unwrap();
        match request {
            "GET codesandboxes" => list(json!([fresh()])),
            "GET networkpolicies" => list(json!(deny())),
            "GET pods" | "GET codesandboxtemplates" => list(json!([])),
            GET_POD | GET_PROBE => Answer::Refuse(404, "NotFound", "no such pod"),
            watch if watch.starts_with("WATCH ") => Answer::Silence,
            other => well(other),
        }
    });
    let (policies, writer) = reflector::store();
    let mut context = Arc::into_inner(context).unwrap();
    context.policies = Watched::new(policies);
    let context = Arc::new(context);
    let other = elsewhere(&context);
    let stop = CancellationToken::new();
    let (_, running) = controller(context.clone(), writer, reflector::store().1, stop.clone());
    let task = tokio::spawn(running);
    let mut seen = async |request: &str| {
        let found = async { while requests.recv().await.as_deref() != Some(request) {} };
        let soon = Duration::from_secs(5);
        tokio::time::timeout(soon, found).await.unwrap_or_else(|_| panic!("no {request}"));
    };
    seen(WRITE_STATUS).await;
    context.runtimes.settle(&other, &Verdict::Works, Timestamp::now());
    seen(CREATE_POD).await;
    stop.cancel();
    task.await.unwrap();
}

#[test]
fn only_those_that_may_wait_for_a_probe_are_told_of_what_it_showed() {
    let (store, mut writer) = reflector::store();
    let status = |reason: &str| {
        let mut status = probing().status;
        status.as_mut().unwrap().conditions[0].reason = reason.into();
        status
    };
    for (name, status) in [
        // Its status may be written and not seen yet.
        ("new", None),
        ("waits", status(reason::PROBING)),
        ("runs", status(reason::POD_READY)),
        ("refused", status(reason::RUNTIME_CLASS_NOT_FOUND)),
    ] {
        let mut sandbox = fresh();
        (sandbox.metadata.name, sandbox.status) = (Some(name.into()), status);
        writer.apply_watcher_event(&watcher::Event::Apply(sandbox));
    }
    let mut names: Vec<_> = waiting(&store).into_iter().map(|one| one.name).collect();
    names.sort();
    assert_eq!(names, ["new", "waits"]);
}

#[tokio::test]
async fn a_probe_that_is_refused_holds_up_no_sandbox() {
    let mut first = true;
    let answer = without_pod(move |request| match request {
        CREATE_POD if std::mem::take(&mut first) => {
            Answer::Refuse(403, "Forbidden", "exceeded quota: pods")
        }
        other => well(other),
    });
    let (context, log) = context_with(AgentInjection::Auto, deny(), answer);
    run(&context, fresh()).await.unwrap();
    assert_eq!(log.requests(), [GET_POD, CREATE_POD, CREATE_POD, WRITE_STATUS]);
    assert_eq!(made(&log)[1..], [("box-1".into(), Some(Way::InitContainer))]);
}

#[tokio::test]
async fn without_its_runtime_class_a_sandbox_says_so_and_no_other_waits_for_it() {
    let refuse = || {
        let words =
            "pods \"box-probe\" is forbidden: pod rejected: RuntimeClass \"kata\" not found";
        Answer::Refuse(403, "Forbidden", words)
    };
    let answer = without_pod(but(CREATE_POD, refuse));
    let (context, log) = context_with(AgentInjection::Auto, deny(), answer);
    let mut sandbox = fresh();
    sandbox.spec.settings.runtime_class_name = Some("kata".into());
    let action = run(&context, sandbox.clone()).await.unwrap();
    assert_eq!(log.requests(), [GET_POD, CREATE_POD, WRITE_STATUS]);
    assert_eq!(reason(&log.last_body(), condition::READY), reason::RUNTIME_CLASS_NOT_FOUND);
    assert_eq!(action, Action::requeue(Duration::from_secs(1)), "it heals by itself");
    sandbox.metadata.name = Some("other".into());
    assert_eq!(context.runtimes.injection(&sandbox, Timestamp::now()), Injection::Unknown);
}

#[tokio::test]
async fn a_sandbox_that_goes_while_it_probes_holds_up_no_other() {
    let (context, _) = context_with(AgentInjection::Auto, deny(), without_pod(well));
    run(&context, fresh()).await.unwrap();
    let mut other = fresh();
    other.metadata.name = Some("other".into());
    let injection = || context.runtimes.injection(&other, Timestamp::now());
    assert!(matches!(injection(), Injection::Waiting(_)));
    let gone: ObjectRef<CodeSandbox> = ObjectRef::new("box").within("demo");
    report(&context, Err(LoopError::ObjectNotFound(Box::new(gone.erase()))));
    assert_eq!(injection(), Injection::Unknown);
}

#[tokio::test]
async fn an_operator_that_starts_over_sandboxes_that_run_needs_no_probe_until_one_fails() {
    let mut failing = false;
    let (context, log) = context_with(AgentInjection::Auto, deny(), move |request| match request {
        GET_POD => {
            let mut pod = our_pod();
            if std::mem::replace(&mut failing, true) {
                pod["status"] = json!({"phase": "Pending", "containerStatuses": [{"name": "sandbox", "image": "",
                    "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {
                        "reason": "RunContainerError", "message": "exec /.codesandbox/bin/agent: permission denied"}}}]});
            }
            Answer::Object(pod)
        }
        other => well(other),
    });
    let injection = || context.runtimes.injection(&fresh(), Timestamp::now());
    run(&context, known()).await.unwrap();
    assert_eq!(injection(), Injection::By(Way::ImageVolume));

    context.memory.forget("box");
    run(&context, known()).await.unwrap();
    assert_eq!(reason(&log.last_body(), condition::READY), reason::AGENT_INJECTION_FAILED);
    assert_eq!(injection(), Injection::Unknown);
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
async fn an_evicted_pod_is_deleted_once_the_status_says_what_it_was() {
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "disk"});
    let cluster = move |request: &str| match request {
        GET_POD => {
            let mut pod = our_pod();
            pod["status"] = evicted.clone();
            Answer::Object(pod)
        }
        "GET pods/box-2" => Answer::Refuse(404, "NotFound", "pods \"box-2\" not found"),
        "DELETE pods/box-1" => Answer::Object(json!({"kind": "Status", "status": "Success"})),
        other => well(other),
    };
    let (context, log) = context(deny(), cluster);
    let mut sandbox = known();
    run(&context, sandbox.clone()).await.unwrap();
    assert_eq!(log.requests(), [GET_POD, WRITE_STATUS]);
    let body = log.last_body();
    assert_eq!(body["status"]["lastTermination"]["reason"], "Evicted");

    log.clear();
    sandbox.status = Some(serde_json::from_value(body["status"].clone()).unwrap());
    sandbox.metadata.resource_version = Some("2".into());
    run(&context, sandbox).await.unwrap();
    let expected = ["GET pods/box-2", GET_POD, "DELETE pods/box-1", CREATE_POD, WRITE_STATUS];
    assert_eq!(log.requests(), expected);
    assert_eq!(log.bodies(CREATE_POD)[0]["metadata"]["name"], "box-2");
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
    context.policies = Watched::new(unready);
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
    let asked = vec![ASK_TIME.to_owned(), DELETE.to_owned()];
    assert_eq!((log.requests(), action), (asked, Action::await_change()));
    let body = log.last_body();
    assert_eq!(body["preconditions"], json!({"uid": "sandbox-uid", "resourceVersion": "1"}));
    assert_eq!(body["propagationPolicy"], "Background");
}

/// How often each end was told of, as far as it was.
fn told(context: &Context) -> Vec<String> {
    let metrics = context.caller.metrics.text().unwrap();
    let ends = metrics.lines().filter(|line| line.contains(r#"events_total{action="Delete""#));
    ends.filter_map(|line| Some(line.split_once("reason=")?.1.into())).collect()
}

/// Each operator warns once of an end, and once more of another.
#[tokio::test]
async fn the_end_of_a_ttl_is_warned_of_once_and_again_where_it_is_another() {
    let (context, _) = context(deny(), well);
    let warned = |times: &str| {
        let metrics = context.caller.metrics.text().unwrap();
        metrics.lines().any(|line| line.ends_with(&format!(r#"reason="ExpiringSoon"}} {times}"#)))
    };
    let mut ending = fresh();
    ending.metadata.creation_timestamp =
        Some(Time(Timestamp::now() - jiff::SignedDuration::from_mins(58)));
    for version in ["1", "3", "5"] {
        ending.metadata.resource_version = Some(version.into());
        run(&context, ending.clone()).await.unwrap();
    }
    assert!(warned("1"));
    ending.spec.settings.ttl = Some("59m".into());
    ending.metadata.resource_version = Some("7".into());
    run(&context, ending).await.unwrap();
    assert!(warned("2"));
}

/// The watch shows a sandbox no more.
fn gone(context: &Context) {
    let gone: ObjectRef<CodeSandbox> = ObjectRef::new("box").within("demo");
    report(context, Err(LoopError::ObjectNotFound(Box::new(gone.erase()))));
}

#[tokio::test]
async fn an_end_is_told_once_and_only_when_it_has_come() {
    const EXPIRED: &str = r#""Expired"} 1"#;
    let (context, _) = context(deny(), well);
    run(&context, sandbox()).await.unwrap();
    assert_eq!(told(&context), [EXPIRED]);
    gone(&context);
    assert_eq!(told(&context), [EXPIRED], "the watch says nothing new");

    // The answer is lost, and the deletion happened: the watch says so.
    let (context, _) = self::context(deny(), but(DELETE, || Answer::Drop));
    run(&context, sandbox()).await.unwrap_err();
    assert_eq!(told(&context), [""; 0]);
    gone(&context);
    assert_eq!(told(&context), [EXPIRED]);
}

#[tokio::test]
async fn a_sandbox_that_lives_on_or_that_somebody_else_deletes_has_no_end_of_ours() {
    // Its ttl was prolonged a moment ago; then somebody deletes it.
    let conflict = || Answer::Refuse(409, "Conflict", "precondition");
    let (changed, _) = context(deny(), but(DELETE, conflict));
    run(&changed, sandbox()).await.unwrap_err();
    gone(&changed);
    assert_eq!(told(&changed), [""; 0]);

    // The answer was lost, and the deletion did not happen.
    let (prolonged, _) = context(deny(), but(DELETE, || Answer::Drop));
    run(&prolonged, sandbox()).await.unwrap_err();
    run(&prolonged, fresh()).await.unwrap();
    gone(&prolonged);
    assert_eq!(told(&prolonged), [""; 0]);

    let (deleted, _) = context(deny(), well);
    run(&deleted, fresh()).await.unwrap();
    gone(&deleted);
    assert_eq!(told(&deleted), [""; 0]);
}

#[tokio::test]
async fn deleting_what_is_gone_is_done_and_what_has_changed_is_looked_at_again() {
    let (gone, _) = context(deny(), but(DELETE, || Answer::Refuse(404, "NotFound", "gone")));
    run(&gone, sandbox()).await.unwrap();

    let (changed, log) =
        context(deny(), but(DELETE, || Answer::Refuse(409, "Conflict", "precondition")));
    let error = run(&changed, sandbox()).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert_eq!(log.requests(), [ASK_TIME, DELETE], "and no status is written");
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
    assert_eq!(names(network::own(&internet(), &config()).unwrap()), ["box"]);
    let mut all = names(network::deny("demo"));
    all.sort();
    assert_eq!(all, ["box", "other"]);
}

#[tokio::test]
async fn an_event_that_is_lost_fails_nothing() {
    let (client, log) = server(|_| Answer::Refuse(403, "Forbidden", "cannot create events"));
    let (publisher, publishing) = Publisher::new(client, Metrics::new());
    let verdict = Verdict::Fails("permission denied".into());
    let notices = events::judged(&verdict).into_iter().collect();
    publisher.publish(notices, &sandbox().object_ref(&()));
    publisher.publish(vec![events::ended(&sandbox(), true, CREATED)], &sandbox().object_ref(&()));
    drop(publisher);
    publishing.await;
    assert_eq!(log.requests(), ["POST events", "PATCH events/box.ended"]);
    let told = &log.bodies("POST events")[0];
    let names = (&told["reason"], &told["regarding"]["name"]);
    assert_eq!(names, (&json!("ImageVolumeFailed"), &json!("box")));
}

#[tokio::test]
async fn the_end_of_a_namesake_takes_the_place_of_the_last_one() {
    let (client, log) = server(|_| Answer::Taken(json!({})));
    let (publisher, publishing) = Publisher::new(client, Metrics::new());
    publisher.publish(vec![events::ended(&sandbox(), true, CREATED)], &sandbox().object_ref(&()));
    drop(publisher);
    publishing.await;
    assert_eq!(log.requests(), ["PATCH events/box.ended"]);
    let body = log.last_body();
    assert_eq!((&body["apiVersion"], &body["reason"]), (&json!("v1"), &json!("Expired")));
    assert_eq!(log.last_query(), "&force=true&fieldManager=codesandbox-operator");
}

/// What a template says is taken down before the pod is made: an operator that dies in between, and a template that
/// changes just then, change nothing.
#[tokio::test]
async fn a_sandbox_takes_down_its_template_before_its_pod_is_made() {
    let spec = json!({"defaults": {"image": "a:1", "ttl": "2h"}, "podPatch": {"spec": {"nodeSelector": {"a": "b"}}}});
    let (mut first, log) = context(deny(), well);
    let shown = store_of(vec![crate::testing::template("a", &spec)]);
    Arc::get_mut(&mut first).unwrap().templates = Watched::new(shown);
    let mut sandbox = fresh();
    sandbox.spec.template_ref = Some(api::LocalObjectReference { name: "a".into() });

    let requeue = reconcile(Arc::new(sandbox.clone()), first).await.unwrap();
    assert_eq!(
        (requeue, log.requests()),
        (Action::requeue(Duration::ZERO), vec![WRITE_STATUS.to_owned()])
    );
    let status: CodeSandboxStatus =
        serde_json::from_value(log.last_body()["status"].clone()).unwrap();
    assert_eq!(status.condition(condition::READY).unwrap().reason, reason::TEMPLATE_BOUND);
    let template: api::CodeSandboxTemplateSpec = serde_json::from_value(spec).unwrap();
    assert_eq!(status.template.as_ref().unwrap().spec, template);

    // The template changes, and the sandbox is made from what it was.
    let (mut context, log) = context(deny(), without_pod(well));
    let changed =
        store_of(vec![crate::testing::template("a", &json!({"defaults": {"image": "a:2"}}))]);
    Arc::get_mut(&mut context).unwrap().templates = Watched::new(changed);
    sandbox.status = Some(status);
    reconcile(Arc::new(sandbox), context).await.unwrap();
    let pod = &log.bodies(CREATE_POD)[0];
    assert_eq!(pod["spec"]["containers"][0]["image"], "a:1");
    assert_eq!(pod["spec"]["nodeSelector"], json!({"a": "b"}));
    let template = &log.last_body()["status"]["template"];
    assert_eq!((&template["outdated"], &template["generation"]), (&json!(true), &json!(1)));
}

#[tokio::test]
async fn a_sandbox_without_its_template_waits_and_makes_nothing() {
    let (context, log) = context(deny(), well);
    let mut sandbox = fresh();
    sandbox.spec.template_ref = Some(api::LocalObjectReference { name: "a".into() });
    reconcile(Arc::new(sandbox), context).await.unwrap();
    assert_eq!(log.requests(), [WRITE_STATUS]);
    let status: CodeSandboxStatus =
        serde_json::from_value(log.last_body()["status"].clone()).unwrap();
    assert_eq!(status.condition(condition::READY).unwrap().reason, reason::TEMPLATE_NOT_FOUND);
}

#[test]
fn a_template_wakes_those_that_were_or_are_to_be_made_from_it() {
    let (sandboxes, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    for (name, named, bound) in [
        ("named", Some("a"), None),
        ("bound", None, Some("a")),
        ("moved", Some("a"), Some("b")),
        ("other", Some("b"), None),
        ("none", None, None),
    ] {
        let mut one = sandbox();
        one.metadata.name = Some(name.into());
        one.spec.template_ref = named.map(|name| api::LocalObjectReference { name: name.into() });
        one.status = bound.map(|name| {
            let mut status = crate::testing::bound(&json!({}));
            status.template.as_mut().unwrap().name = name.into();
            status
        });
        writer.apply_watcher_event(&watcher::Event::InitApply(one));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    let woken = |config: &Config| {
        let template = crate::testing::template("a", &json!({}));
        let mut names: Vec<_> =
            made_from(&template, &sandboxes, config).into_iter().map(|one| one.name).collect();
        names.sort();
        names
    };
    assert_eq!(woken(&config()), ["bound", "named"]);
    let default = Config { default_template: Some("a".into()), ..config() };
    assert_eq!(woken(&default), ["bound", "named", "none"]);
}

/// Without the kind, or the right to list it. Sandboxes that are bound end in time all the same.
#[tokio::test]
async fn templates_that_never_become_known_hold_up_no_sandbox_that_has_one() {
    let (mut context, log) = context(deny(), well);
    let (unready, writer) = reflector::store();
    Arc::get_mut(&mut context).unwrap().templates = Watched::new(unready);
    let mut expired = sandbox();
    expired.status = Some(crate::testing::bound(&json!({})));
    run(&context, expired).await.unwrap();
    assert_eq!(log.requests().last().unwrap(), DELETE);

    let mut new = fresh();
    new.spec.template_ref = Some(api::LocalObjectReference { name: "a".into() });
    let action = run(&context, new).await.unwrap();
    assert_eq!(action, Action::requeue(Duration::from_secs(5)));
    drop(writer);
}
