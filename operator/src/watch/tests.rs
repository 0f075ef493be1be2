use std::time::Duration;

use kube::runtime::reflector;
use serde_json::json;

use super::*;
use crate::{
    metrics::Metrics,
    pool::testing::{claim, pool, warm},
    testing::{Answer, sandbox, server},
};

/// What a later version might have written.
const BAD: &str = r#"{"metadata":{"name":"bad","namespace":"demo","uid":"bad","resourceVersion":"3"},"spec":{"ttl":7}}"#;

#[tokio::test(start_paused = true)]
async fn one_undecodable_sandbox_hides_no_other_and_is_shown_once_it_is_good() {
    // A line, as a watch brings them.
    let mended = concat!(
        r#"{"type":"MODIFIED","object":{"apiVersion":"codesandbox.dev/v1alpha1","kind":"CodeSandbox","#,
        r#""metadata":{"name":"bad","namespace":"demo","uid":"bad","resourceVersion":"6"},"spec":{}}}"#,
        "\n"
    );
    let mut watches = 0;
    let bad: serde_json::Value = serde_json::from_str(BAD).unwrap();
    let (client, _) = server(move |request| {
        if request == "GET codesandboxes" {
            let items = [bad.clone(), serde_json::to_value(sandbox()).unwrap()];
            return Answer::Object(json!({"metadata": {"resourceVersion": "5"}, "items": items}));
        }
        watches += 1;
        if watches == 1 { Answer::Text(200, mended) } else { Answer::Silence }
    });
    let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
    let (store, writer) = reflector::store();
    let mut changes = std::pin::pin!(sandboxes(&caller, writer));
    let names = || {
        let mut names: Vec<_> = store.state().iter().map(|sandbox| sandbox.name_any()).collect();
        names.sort();
        names
    };

    let mut next = async || {
        let change = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
        change.unwrap().unwrap().name_any()
    };
    assert_eq!(next().await, "box");
    let counted = r#"codesandbox_operator_undecodable_objects_total{kind="CodeSandbox"} 1"#;
    let metrics = caller.metrics.text().unwrap();
    assert!(metrics.contains(counted), "{metrics}");

    assert_eq!(next().await, "bad");
    assert_eq!(names(), ["bad", "box"]);
}

/// As of a pod that goes while the API server has just come back, whose events are told to nobody.
#[tokio::test(start_paused = true)]
async fn what_went_while_nobody_was_told_is_told_by_the_next_list() {
    let pod = |name: &str| json!({"metadata": {"name": name, "namespace": "demo", "uid": name, "resourceVersion": "3"}});
    let expired = concat!(
        r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","code":410,"#,
        r#""reason":"Expired","message":"too old resource version"}}"#,
        "\n"
    );
    let (mut lists, mut watches) = (0, 0);
    let (client, log) = server(move |request| {
        if request == "GET pods" {
            lists += 1;
            let items =
                if lists == 1 { vec![pod("box-1"), pod("other-1")] } else { vec![pod("other-1")] };
            return Answer::Object(json!({"metadata": {"resourceVersion": "5"}, "items": items}));
        }
        watches += 1;
        if watches == 1 { Answer::Text(200, expired) } else { Answer::Silence }
    });
    let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
    let mut changes = std::pin::pin!(pods(&caller, "release"));
    let mut told = Vec::new();
    while let Ok(Some(pod)) = tokio::time::timeout(Duration::from_secs(30), changes.next()).await {
        told.push(pod.name_any());
    }
    assert_eq!(told, ["box-1", "other-1", "other-1", "box-1"]);
    assert_eq!(log.requests()[..3], ["GET pods", "WATCH pods", "GET pods"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_back_soon_after_the_api_server_however_long_that_was_away() {
    let returns = tokio::time::Instant::now() + Duration::from_mins(5);
    let (client, _) = server(move |_| {
        if tokio::time::Instant::now() < returns {
            return Answer::Drop;
        }
        Answer::Object(json!({"metadata": {"resourceVersion": "5"}, "items": []}))
    });
    let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
    let (shown, writer) = reflector::store();
    tokio::spawn(sandboxes(&caller, writer).for_each(|_| future::ready(())));
    shown.wait_until_ready().await.unwrap();
    let late = returns.elapsed();
    assert!(late <= 2 * LONGEST, "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn of_a_pools_pod_that_is_a_sandboxs_only_whose_it_is_is_kept() {
    let (free, mut taken) = (warm(&pool(2), 1, &json!({})), warm(&pool(2), 2, &json!({})));
    claim(&mut taken);
    let items = [free.clone(), taken.clone()].map(|pod| serde_json::to_value(pod).unwrap());
    let (client, log) = server(move |request| match request {
        "GET pods" => Answer::Object(json!({"metadata": {"resourceVersion": "5"}, "items": items})),
        _ => Answer::Silence,
    });
    let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
    let (shown, writer) = reflector::store();
    tokio::spawn(members(&caller, "release", writer).for_each(|_| future::ready(())));
    shown.wait_until_ready().await.unwrap();
    let query = &log.queries("GET pods")[0];
    assert!(query.contains("release%2Ccodesandbox.dev%2Fpool"), "{query}");
    let mut pods = shown.state();
    pods.sort_by_key(|pod| pod.name_any());
    assert_eq!((&pods[0].spec, &pods[0].status), (&free.spec, &free.status));
    assert_eq!((&pods[1].spec, &pods[1].status), (&None, &None));
    assert_eq!(
        (pods[1].labels(), pods[1].owner_references()),
        (taken.labels(), taken.owner_references())
    );
}
