use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock},
};

use serde_json::{Value, json};

use super::*;
use crate::{
    metrics::Metrics,
    testing::{Answer, Log, server},
};

const GET: &str = "GET leases/operator";
const CREATE: &str = "POST leases";
const UPDATE: &str = "PUT leases/operator";

/// A Lease of a holder, or of nobody, in this version.
fn lease(holder: Option<&str>, version: &str) -> Value {
    json!({
        "metadata": {"name": "operator", "namespace": "demo", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 10, "leaseTransitions": 3},
    })
}

fn taken(version: &str) -> Answer {
    Answer::Taken(json!({"resourceVersion": version}))
}

fn conflict() -> Answer {
    Answer::Refuse(409, "Conflict", "the object has been modified")
}

/// A candidate whose requests are answered so.
fn elector(answer: impl FnMut(&str) -> Answer + Send + 'static) -> (Elector, Log) {
    let (client, log) = server(answer);
    let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
    (Elector::new(caller, "operator".into(), "pod-a", Health::default()), log)
}

/// One that holds the Lease in version 1 since just now; what it asks for then is answered by turns.
async fn holder(answers: Vec<Answer>) -> (Elector, Log, Arc<OnceLock<String>>) {
    let answers = Mutex::new(VecDeque::from(answers));
    let me = Arc::new(OnceLock::<String>::new());
    let name = me.clone();
    let (mut elector, log) = elector(move |request| match request {
        GET if name.get().is_none() => Answer::Refuse(404, "NotFound", "no such Lease"),
        CREATE => taken("1"),
        _ => match answers.lock().unwrap().pop_front() {
            // The Lease as it is when a write went through whose answer was lost.
            Some(Answer::Object(Value::Null)) => {
                Answer::Object(lease(name.get().map(String::as_str), "5"))
            }
            Some(answer) => answer,
            None => Answer::Silence,
        },
    });
    elector.acquire().await;
    me.set(elector.me.clone()).unwrap();
    log.clear();
    (elector, log, me)
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_there_is_created() {
    let (mut elector, log) = elector(|request| match request {
        GET => Answer::Refuse(404, "NotFound", "no such Lease"),
        _ => taken("1"),
    });
    assert_eq!(elector.health.ready().unwrap_err(), "demo/operator: starting\n");
    elector.acquire().await;
    assert_eq!(log.requests(), [GET, CREATE]);
    let body = log.last_body();
    assert_eq!(body["metadata"], json!({"name": "operator"}));
    assert_eq!(body["spec"]["holderIdentity"], elector.me);
    assert!(elector.me.starts_with("pod-a_"), "{}", elector.me);
    assert_eq!(elector.health.ready(), Ok("ok\n".into()));
}

#[tokio::test(start_paused = true)]
async fn a_silent_holder_is_followed_after_ten_seconds_and_only_in_the_version_that_was_seen() {
    let (mut elector, log) = elector(|request| match request {
        GET => Answer::Object(lease(Some("other"), "7")),
        _ => taken("8"),
    });
    let start = Instant::now();
    let early = tokio::time::timeout(Duration::from_millis(9900), elector.acquire()).await;
    assert!(early.is_err());
    assert_eq!(elector.health.ready(), Ok("standing by; other leads\n".into()));
    elector.acquire().await;
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(log.requests().last().unwrap(), UPDATE);
    let body = log.last_body();
    assert_eq!(body["metadata"]["resourceVersion"], "7");
    assert_eq!(body["spec"]["leaseTransitions"], 4);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_renews_is_never_followed_whatever_the_answers_in_between() {
    let mut version = 0;
    let (mut elector, log) = elector(move |_| {
        version += 1;
        let mut renewed = lease(Some("other"), &version.to_string());
        renewed["spec"]["leaseTransitions"] = version.into();
        if version % 3 == 0 { Answer::Drop } else { Answer::Object(renewed) }
    });
    assert!(tokio::time::timeout(Duration::from_mins(10), elector.acquire()).await.is_err());
    assert!(log.requests().iter().all(|request| request == GET), "{:?}", log.requests());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_up_is_taken_at_the_next_look() {
    let mut looks = 0;
    let (mut elector, _) = elector(move |request| {
        if request != GET {
            return taken("8");
        }
        looks += 1;
        Answer::Object(lease((looks == 1).then_some("other"), "7"))
    });
    let start = Instant::now();
    elector.acquire().await;
    assert_eq!(start.elapsed(), RETRY);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_claim_a_lease_the_one_that_is_late_stands_by() {
    let mut free = true;
    let (mut elector, _) = elector(move |request| match request {
        UPDATE => {
            free = false;
            conflict()
        }
        _ => Answer::Object(lease((!free).then_some("faster"), "7")),
    });
    assert!(tokio::time::timeout(Duration::from_secs(9), elector.acquire()).await.is_err());
    assert_eq!(elector.health.ready(), Ok("standing by; faster leads\n".into()));
}

#[tokio::test(start_paused = true)]
async fn a_holder_renews_every_two_seconds_in_the_version_of_its_last_write() {
    let (mut elector, log, _) = holder(vec![taken("2"), taken("3")]).await;
    let held = tokio::time::timeout(Duration::from_secs(5), elector.hold()).await;
    assert!(held.is_err());
    assert_eq!(log.requests(), [UPDATE, UPDATE]);
    assert_eq!(log.last_body()["metadata"]["resourceVersion"], "2");
    assert_eq!(log.last_body()["spec"]["leaseTransitions"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_holder_without_an_answer_stops_before_another_may_begin() {
    for answer in [
        || Answer::Silence,
        || Answer::Drop,
        || Answer::Refuse(500, "InternalError", "etcd"),
        || Answer::Refuse(403, "Forbidden", "no more"),
    ] {
        let answers = std::iter::repeat_with(answer).take(50).collect();
        let (mut elector, _, _) = holder(answers).await;
        let start = Instant::now();
        let lost = elector.hold().await;
        assert_eq!(start.elapsed(), GIVE_UP);
        let said = "gave up the Lease demo/operator: it could not be renewed for 7 s, and another may take it";
        assert_eq!(lost.to_string(), said);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_is_recognised() {
    let (mut elector, log, _) =
        holder(vec![Answer::Drop, conflict(), Answer::Object(Value::Null), taken("6")]).await;
    let held = tokio::time::timeout(Duration::from_millis(3900), elector.hold()).await;
    assert!(held.is_err());
    assert_eq!(log.requests(), [UPDATE, UPDATE, GET, UPDATE]);
    assert_eq!(log.last_body()["metadata"]["resourceVersion"], "5");
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_another_or_of_nobody_is_lost_at_once() {
    for (answers, said) in [
        (
            vec![conflict(), Answer::Object(lease(Some("other"), "9"))],
            "lost the Lease demo/operator: other holds it now",
        ),
        (
            vec![conflict(), Answer::Object(lease(None, "9"))],
            "lost the Lease demo/operator: nobody holds it now",
        ),
        (
            vec![Answer::Refuse(404, "NotFound", "no such Lease")],
            "lost the Lease demo/operator: it was deleted",
        ),
    ] {
        let (mut elector, _, _) = holder(answers).await;
        let start = Instant::now();
        assert_eq!(elector.hold().await.to_string(), said);
        assert_eq!(start.elapsed(), RETRY);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_given_up_unless_it_is_anothers_by_now() {
    let (mut ours, log, _) =
        holder(vec![conflict(), Answer::Object(Value::Null), taken("6")]).await;
    ours.release().await;
    assert_eq!(log.requests(), [UPDATE, GET, UPDATE]);
    let body = log.last_body();
    assert_eq!(body["metadata"]["resourceVersion"], "5");
    assert_eq!(body["spec"].get("holderIdentity"), None);

    let (mut taken_away, log, _) =
        holder(vec![conflict(), Answer::Object(lease(Some("other"), "9"))]).await;
    taken_away.release().await;
    assert_eq!(log.requests(), [UPDATE, GET]);
}
