//! Whole reconciles of pools against an API server that answers well, badly or not at all.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::{
    injection::AgentInjection,
    network,
    pool::{
        lull::LULL,
        testing::{claim, made, pool, warm},
    },
    testing::{self, Answer, Log, server, store_of, template},
    watched::Watched,
};

const APPLY_DENY: &str = "PATCH networkpolicies/codesandbox-deny";
const CREATE_POD: &str = "POST pods";
const DELETE_POD: &str = "DELETE pods/pool-m1";
const GET_POD: &str = "GET pods/pool-m1";
const WRITE_STATUS: &str = "PATCH codesandboxpools/pool/status";

/// A namespace with the deny policy, the template and these pods of pools.
fn context(pods: Vec<Pod>, answer: impl FnMut(&str) -> Answer + Send + 'static) -> (Context, Log) {
    let (client, log) = server(answer);
    let mut context = testing::context(client, AgentInjection::Auto);
    context.policies = Watched::new(store_of(vec![network::deny("demo")]));
    context.templates = Watched::new(store_of(vec![template("a", &json!({}))]));
    context.members = Watched::new(store_of(pods));
    (context, log)
}

/// What a well-meaning server answers.
fn well(request: &str) -> Answer {
    match request {
        CREATE_POD => Answer::Taken(json!({"uid": "uid", "resourceVersion": "1"})),
        APPLY_DENY => Answer::Taken(json!({})),
        WRITE_STATUS => Answer::Object(serde_json::to_value(pool(2)).unwrap()),
        other => panic!("unexpected {other}"),
    }
}

/// Answers one kind of request so, and all others well.
fn but(
    exception: &'static str,
    mut answer: impl FnMut() -> Answer + Send,
) -> impl FnMut(&str) -> Answer + Send {
    move |request| if request == exception { answer() } else { well(request) }
}

async fn run(context: &Arc<Context>, pool: &CodeSandboxPool) -> Result<Action, Error> {
    reconcile(Arc::new(pool.clone()), context.clone()).await
}

fn names(log: &Log) -> Vec<Value> {
    log.bodies(CREATE_POD).into_iter().map(|pod| pod["metadata"]["name"].clone()).collect()
}

#[tokio::test]
async fn a_new_pool_is_filled_policy_first_status_last() {
    let (mut context, log) = context(vec![], well);
    context.policies = Watched::new(store_of(vec![]));
    run(&Arc::new(context), &pool(2)).await.unwrap();
    assert_eq!(log.requests(), [APPLY_DENY, CREATE_POD, CREATE_POD, WRITE_STATUS]);
    assert_eq!(names(&log), ["pool-m1", "pool-m2"]);
    let body = log.last_body();
    assert_eq!(body["metadata"], json!({"name": "pool", "resourceVersion": "1"}));
    assert_eq!(body["status"]["replicas"], 2);
}

#[tokio::test]
async fn a_settled_pool_costs_no_request() {
    let mut pool = pool(1);
    let mut pod = warm(&pool, 1, &json!({}));
    pod.metadata.creation_timestamp = Some(Time(Timestamp::now()));
    let (context, log) = context(vec![pod], well);
    let context = Arc::new(context);
    run(&context, &pool).await.unwrap();
    assert_eq!(log.requests(), [WRITE_STATUS]);
    pool.status = Some(serde_json::from_value(log.last_body()["status"].clone()).unwrap());
    run(&context, &pool).await.unwrap();
    assert_eq!(log.requests().len(), 1);
}

/// A pool that has said that both of its pods are ready, of which a sandbox has one by now.
async fn lacking() -> (CodeSandboxPool, Vec<Pod>) {
    let mut pool = pool(2);
    let mut pods = vec![warm(&pool, 1, &json!({})), warm(&pool, 2, &json!({}))];
    for pod in &mut pods {
        pod.metadata.creation_timestamp = Some(Time(Timestamp::now()));
    }
    let (full, log) = context(pods.clone(), well);
    run(&Arc::new(full), &pool).await.unwrap();
    pool.status = Some(serde_json::from_value(log.last_body()["status"].clone()).unwrap());
    claim(&mut pods[0]);
    (pool, pods)
}

#[tokio::test]
async fn a_pod_that_is_replaced_at_once_is_no_write_to_the_status() {
    let (pool, pods) = lacking().await;
    let (lacking, log) = context(pods, well);
    let lacking = Arc::new(lacking);
    let again = run(&lacking, &pool).await.unwrap();
    assert_eq!(log.requests(), [CREATE_POD]);
    assert_ne!(again, Action::await_change(), "it is said if it stays so");
    lacking.lulls.end("pool");
    lacking.lulls.wait("pool", Instant::now().checked_sub(LULL).unwrap());
    run(&lacking, &pool).await.unwrap();
    assert_eq!(log.requests()[1..], [CREATE_POD, WRITE_STATUS]);
    assert_eq!(log.last_body()["status"]["readyReplicas"], 1);
}

/// Whoever is asked again only after a minute says it at once.
#[tokio::test]
async fn what_is_said_in_passing_is_written_at_once_where_something_failed() {
    let (pool, pods) = lacking().await;
    let down = || Answer::Refuse(500, "InternalError", "a webhook is down");
    let (lacking, log) = context(pods, but(CREATE_POD, down));
    run(&Arc::new(lacking), &pool).await.unwrap_err();
    assert_eq!(log.requests(), [CREATE_POD, WRITE_STATUS]);
}

#[tokio::test]
async fn a_pod_that_the_watch_does_not_show_yet_is_not_made_twice() {
    let answer = |request: &str| match request {
        CREATE_POD => Answer::Refuse(409, "AlreadyExists", "pods \"pool-m1\" already exists"),
        GET_POD => Answer::Object(serde_json::to_value(made(&pool(1), 1, &json!({}))).unwrap()),
        other => well(other),
    };
    let (context, log) = context(vec![], answer);
    run(&Arc::new(context), &pool(1)).await.unwrap();
    assert_eq!(log.requests(), [CREATE_POD, GET_POD, WRITE_STATUS]);
    assert_eq!(log.last_body()["status"]["replicas"], 1);
}

#[tokio::test]
async fn a_name_that_a_sandbox_has_taken_along_is_passed_over() {
    let mut taken = true;
    let answer = move |request: &str| match request {
        CREATE_POD if std::mem::take(&mut taken) => {
            Answer::Refuse(409, "AlreadyExists", "pods \"pool-m1\" already exists")
        }
        GET_POD => {
            let mut pod = made(&pool(1), 1, &json!({}));
            claim(&mut pod);
            Answer::Object(serde_json::to_value(pod).unwrap())
        }
        other => well(other),
    };
    let (context, log) = context(vec![], answer);
    run(&Arc::new(context), &pool(1)).await.unwrap();
    assert_eq!(log.requests(), [CREATE_POD, GET_POD, CREATE_POD, WRITE_STATUS]);
    assert_eq!(names(&log), ["pool-m1", "pool-m2"]);
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_asked_once_said_and_not_asked_again_at_once() {
    let full = || Answer::Refuse(403, "Forbidden", "exceeded quota: small, limited: pods=0");
    let (context, log) = context(vec![], but(CREATE_POD, full));
    let context = Arc::new(context);
    let mut pool = pool(100);
    let again = run(&context, &pool).await.unwrap();
    assert_eq!(log.requests(), [CREATE_POD, WRITE_STATUS]);
    assert_eq!(again, Action::requeue(Duration::from_secs(1)));
    let status = log.last_body()["status"].clone();
    assert_eq!(status["conditions"][0]["reason"], api::reason::QUOTA_EXCEEDED);

    // Whatever happens meanwhile, and then with one request a time.
    pool.status = Some(serde_json::from_value(status).unwrap());
    log.clear();
    run(&context, &pool).await.unwrap();
    assert_eq!(log.requests(), Vec::<String>::new());
    context.pool_memory.forget("pool");
    run(&context, &pool).await.unwrap();
    assert_eq!(log.requests(), [CREATE_POD]);
}

#[tokio::test]
async fn a_pod_that_has_changed_since_it_was_seen_is_not_deleted() {
    let changed = || Answer::Refuse(409, "Conflict", "the object has been modified");
    let (context, log) = context(vec![warm(&pool(0), 1, &json!({}))], but(DELETE_POD, changed));
    run(&Arc::new(context), &pool(0)).await.unwrap();
    assert_eq!(log.requests(), [DELETE_POD, WRITE_STATUS]);
    let preconditions = json!({"uid": "uid-1", "resourceVersion": "5"});
    assert_eq!(log.bodies(DELETE_POD)[0]["preconditions"], preconditions);
}

/// What it says of pods that are gone is not true any more, whoever keeps others from being made.
#[tokio::test(start_paused = true)]
async fn what_was_seen_is_written_though_nothing_can_be_made() {
    for answer in [
        || Answer::Refuse(500, "InternalError", "a webhook is down"),
        || Answer::Drop,
        || Answer::Silence,
    ] {
        let (context, log) = context(vec![], but(CREATE_POD, answer));
        let error = run(&Arc::new(context), &pool(2)).await.unwrap_err();
        assert!(error.to_string().contains("create Pod demo/pool-m1"), "{error}");
        assert_eq!(log.requests(), [CREATE_POD, WRITE_STATUS]);
        assert_eq!(log.last_body()["status"]["readyReplicas"], 0);
    }
}

/// As where a webhook adds to every policy, or names are somebody else's.
#[tokio::test]
async fn what_does_not_become_what_was_made_is_not_made_again_at_once() {
    let open = || {
        let mut policy = serde_json::to_value(network::deny("demo")).unwrap();
        policy["spec"]["egress"] = json!([{}]);
        Answer::Object(policy)
    };
    let (mut opened, log) = context(vec![], but(APPLY_DENY, open));
    opened.policies = Watched::new(store_of(vec![]));
    let error = run(&Arc::new(opened), &pool(2)).await.unwrap_err();
    assert!(matches!(error, Error::Unsettled { .. }), "{error}");
    assert_eq!(log.requests(), [APPLY_DENY, WRITE_STATUS]);

    let (context, log) = context(vec![], |request: &str| match request {
        CREATE_POD => Answer::Refuse(409, "AlreadyExists", "it is there"),
        get if get.starts_with("GET pods/") => Answer::Object(json!({"metadata": {
            "name": get.trim_start_matches("GET pods/"), "uid": "another"}})),
        other => well(other),
    });
    let error = run(&Arc::new(context), &pool(2)).await.unwrap_err();
    assert!(matches!(error, Error::Unsettled { .. }), "{error}");
    assert_eq!(log.bodies(CREATE_POD).len(), MAX_ACTIONS);
}

#[tokio::test]
async fn a_large_pool_is_filled_in_parts_so_that_its_status_follows() {
    let (context, log) = context(vec![], well);
    let again = run(&Arc::new(context), &pool(50)).await.unwrap();
    assert_eq!(log.bodies(CREATE_POD).len(), MAX_ACTIONS);
    assert_eq!(log.last_body()["status"]["replicas"], MAX_ACTIONS);
    assert_eq!(again, Action::requeue(Duration::ZERO));
}

#[tokio::test]
async fn a_pool_of_another_class_is_left_alone() {
    let (context, log) = context(vec![], well);
    let mut pool = pool(1);
    pool.spec.class_name = "other".into();
    assert_eq!(run(&Arc::new(context), &pool).await.unwrap(), Action::await_change());
    assert_eq!(log.requests(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_before_policies_and_pods_are_known() {
    let (mut context, log) = context(vec![], well);
    context.policies = Watched::new(kube::runtime::reflector::store().0);
    let error = run(&Arc::new(context), &pool(1)).await.unwrap_err();
    assert!(matches!(error, Error::PoliciesUnknown { .. }), "{error}");
    assert_eq!(log.requests(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_loop_ends_when_it_is_stopped_though_its_first_list_never_comes() {
    let (client, log) = server(|_| Answer::Silence);
    let ((pools, pools_writer), (members, members_writer)) =
        (kube::runtime::reflector::store(), kube::runtime::reflector::store());
    let mut context = testing::context(client, AgentInjection::Auto);
    (context.pools, context.members) = (Watched::new(pools), Watched::new(members));
    let stop = CancellationToken::new();
    let running = controller(Arc::new(context), pools_writer, members_writer, stop.clone());
    let running = tokio::spawn(running);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut asked = log.requests();
    asked.sort();
    assert_eq!(asked, ["GET codesandboxpools", "GET pods"]);
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
}
