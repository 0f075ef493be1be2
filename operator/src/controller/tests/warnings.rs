//! What is read of a pod's events, and what becomes of a sandbox where that cannot be.

use super::*;

const LIST_EVENTS: &str = "GET events";

/// Answers that there is a pod which has had a node for so many seconds, and that this is told of it.
fn starting(seconds: i64, told: fn() -> Answer) -> impl FnMut(&str) -> Answer + Send {
    move |request| match request {
        GET_POD => {
            let since = Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
            let mut pod = our_pod();
            pod["status"] = json!({"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": since.to_string()}]});
            Answer::Object(pod)
        }
        LIST_EVENTS => told(),
        other => well(other),
    }
}

fn failed_mount() -> Answer {
    Answer::Object(json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": [{
        "metadata": {"name": "a"}, "involvedObject": {}, "type": "Warning", "reason": "FailedMount",
        "message": "configmap \"a\" not found", "lastTimestamp": Timestamp::now().to_string()}]}))
}

#[tokio::test]
async fn a_pod_is_asked_about_when_it_takes_long_to_start_and_no_earlier() {
    let (context, log) = context(deny(), starting(5, failed_mount));
    run(&context, known()).await.unwrap();
    assert_eq!(log.requests(), [GET_POD, WRITE_STATUS]);
    assert_eq!(reason(&log.last_body(), condition::READY), reason::STARTING);

    let (context, log) = self::context(deny(), starting(15, failed_mount));
    let action = run(&context, known()).await.unwrap();
    assert_eq!(log.requests(), [GET_POD, LIST_EVENTS, WRITE_STATUS]);
    let query = &log.queries(LIST_EVENTS)[0];
    assert!(query.contains("involvedObject.uid%3Dpod-uid%2Ctype%3DWarning"), "{query}");
    assert_eq!(reason(&log.last_body(), condition::READY), reason::START_FAILED);
    assert_eq!(action, Action::requeue(Duration::from_secs(30)));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_of_a_pods_events_holds_nothing_up() {
    for told in [
        || Answer::Refuse(403, "Forbidden", "cannot list resource events"),
        || Answer::Refuse(500, "InternalError", "etcd"),
        || Answer::Drop,
        || Answer::Silence,
    ] {
        let (context, log) = context(Vec::new(), starting(15, told));
        run(&context, known()).await.unwrap();
        assert_eq!(log.requests(), [GET_POD, LIST_EVENTS, APPLY_DENY, WRITE_STATUS]);
        assert_eq!(reason(&log.last_body(), condition::READY), reason::STARTING);
    }
}
