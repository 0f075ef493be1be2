use std::sync::atomic::{AtomicBool, Ordering};

use api::CodeSandbox;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Answer, Log, config, sandbox, server};

const GET_POD: &str = "GET pods/box-1";
const GET_LEASE: &str = "GET leases/operator";
const WRITE_LEASE: &str = "PUT leases/operator";
const CREATE_POD: &str = "POST pods";
const WRITE_STATUS: &str = "PATCH codesandboxes/box/status";

fn list(items: &[Value]) -> Answer {
    Answer::Object(json!({"metadata": {"resourceVersion": "5"}, "items": items}))
}

/// A Lease that another holds, or nobody.
fn lease(holder: Option<&str>) -> Answer {
    Answer::Object(json!({
        "metadata": {"name": "operator", "resourceVersion": "7"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 10},
    }))
}

/// What a namespace with these sandboxes answers, where nothing changes but what is written.
fn quiet(request: &str, sandboxes: &[Value]) -> Answer {
    match request {
        WRITE_LEASE => Answer::Taken(json!({"resourceVersion": "8"})),
        "GET codesandboxes" => list(sandboxes),
        "GET pods"
        | "GET networkpolicies"
        | "GET codesandboxtemplates"
        | "GET codesandboxpools" => list(&[]),
        "PATCH networkpolicies/codesandbox-deny" => Answer::Taken(json!({})),
        WRITE_STATUS => Answer::Taken(json!({"resourceVersion": "6", "uid": "sandbox-uid"})),
        watch if watch.starts_with("WATCH ") => Answer::Silence,
        other => panic!("unexpected {other}"),
    }
}

/// An operator of the namespace `demo` that leads if it holds the Lease.
fn operator(
    answer: impl FnMut(&str) -> Answer + Send + 'static,
) -> (impl Future<Output = anyhow::Result<()>>, CancellationToken, Metrics, Log) {
    let (client, log) = server(answer);
    let (metrics, health, stop) = (Metrics::new(), Health::default(), CancellationToken::new());
    let (publisher, publishing) = Publisher::new(client.clone(), metrics.clone());
    std::mem::forget(publishing);
    let caller =
        Caller { client: client.clone(), namespace: "demo".into(), metrics: metrics.clone() };
    let elector = Elector::new(caller, "operator".into(), "pod-a", health.clone());
    let work = Work {
        client,
        namespaces: vec!["demo".into()],
        config: Arc::new(config()),
        metrics: metrics.clone(),
        health,
        publisher,
    };
    (lead(Some(elector), work, stop.clone()), stop, metrics, log)
}

fn leads(metrics: &Metrics) -> bool {
    metrics.text().unwrap().contains("codesandbox_operator_leader 1\n")
}

#[tokio::test(start_paused = true)]
async fn a_standby_watches_nothing_and_a_new_leader_lists_what_is_there_now() {
    let (lead, stop, metrics, log) = operator(|request| match request {
        GET_LEASE => lease(Some("other")),
        other => quiet(other, &[]),
    });
    let mut lead = std::pin::pin!(lead);
    tokio::time::timeout(Duration::from_secs(9), &mut lead).await.unwrap_err();
    assert!(log.requests().iter().all(|request| request == GET_LEASE), "{:?}", log.requests());
    assert!(!leads(&metrics));

    tokio::time::timeout(Duration::from_secs(2), &mut lead).await.unwrap_err();
    assert!(leads(&metrics));
    // Pods by those who look after sandboxes and by those who look after pools, templates by those who make sandboxes and
    // by those who judge templates.
    for (kind, watches) in [
        ("codesandboxes", 1),
        ("pods", 2),
        ("networkpolicies", 1),
        ("codesandboxtemplates", 2),
        ("codesandboxpools", 1),
    ] {
        let lists = log.queries(&format!("GET {kind}"));
        assert!(!lists.is_empty(), "{kind}");
        // Without a resourceVersion the answer is the newest there is, and not an old one of the server's cache.
        assert!(!lists.iter().any(|list| list.contains("resourceVersion")), "{lists:?}");
        assert_eq!(log.queries(&format!("WATCH {kind}")).len(), watches, "{kind}");
    }

    stop.cancel();
    lead.await.unwrap();
    assert_eq!(log.requests().last().unwrap(), WRITE_LEASE);
    assert_eq!(log.last_body()["spec"].get("holderIdentity"), None, "it is given up");
}

#[tokio::test(start_paused = true)]
async fn to_be_stopped_is_no_failure_even_where_the_loops_end_first() {
    // Often enough for what happens by chance.
    for _ in 0..20 {
        let (lead, stop, _, log) = operator(|request| match request {
            GET_LEASE => lease(None),
            other => quiet(other, &[]),
        });
        let mut lead = std::pin::pin!(lead);
        tokio::time::timeout(Duration::from_secs(1), &mut lead).await.unwrap_err();
        stop.cancel();
        tokio::time::sleep(Duration::from_millis(100)).await;
        lead.await.unwrap();
        assert_eq!(log.last_body()["spec"].get("holderIdentity"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_given_up_only_after_the_last_write() {
    let mut fresh: CodeSandbox = sandbox();
    fresh.metadata.creation_timestamp = Some(Time(Timestamp::now()));
    let sandboxes = [serde_json::to_value(&fresh).unwrap()];
    let (lead, stop, _, log) = operator(move |request| match request {
        GET_LEASE => lease(None),
        GET_POD => Answer::Refuse(404, "NotFound", "no such pod"),
        // The reconcile waits for this until its deadline, and then writes what it knows.
        CREATE_POD => Answer::Silence,
        other => quiet(other, &sandboxes),
    });
    let mut lead = std::pin::pin!(lead);
    tokio::time::timeout(Duration::from_secs(1), &mut lead).await.unwrap_err();
    assert_eq!(log.requests().last().unwrap(), CREATE_POD);
    stop.cancel();
    lead.await.unwrap();
    let requests = log.requests();
    let [.., status, given_up] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!([status.as_str(), given_up], [WRITE_STATUS, WRITE_LEASE]);
    assert_eq!(log.last_body()["spec"].get("holderIdentity"), None);
    let renewals = requests.iter().filter(|request| *request == WRITE_LEASE).count();
    assert!(renewals > 4, "the Lease is held while reconciles end: {requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_the_operator_at_once_and_with_an_error() {
    let claimed = AtomicBool::new(false);
    let (lead, _stop, _, log) = operator(move |request| match request {
        GET_LEASE => lease(claimed.load(Ordering::Relaxed).then_some("other")),
        WRITE_LEASE if claimed.swap(true, Ordering::Relaxed) => {
            Answer::Refuse(409, "Conflict", "the object has been modified")
        }
        other => quiet(other, &[]),
    });
    let start = tokio::time::Instant::now();
    let error = lead.await.unwrap_err();
    assert_eq!(start.elapsed(), crate::lease::RETRY);
    let said = "stopped at once, since another operator may act now: lost the Lease demo/operator: other holds it now";
    assert_eq!(format!("{error:#}"), said);
    assert_eq!(log.requests().last().unwrap(), GET_LEASE, "nothing is given up that is not ours");
}
