//! Judges templates: once for each generation, and what the API server refused now and then anew.

use std::{sync::Arc, time::Duration};

use api::{CodeSandboxTemplate, CodeSandboxTemplateStatus, condition, names, reason};
use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::PostParams,
    runtime::{
        controller::{Action, Controller},
        reflector::{self, Store},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::patch;
use crate::{
    act,
    call::{Caller, Error, Kind, Verb},
    config::Config,
    pod, status,
    status::Verdict,
    watch,
};

/// How long until the API server is asked again whether it takes the pods of a template that it refused.
const REFUSED_RETRY: Duration = Duration::from_mins(1);
/// How long until it is asked again where it did not answer.
const FAILED_RETRY: Duration = Duration::from_secs(5);

struct Context {
    caller: Caller,
    config: Arc<Config>,
}

/// The loop over a namespace's templates, until it is stopped.
pub(crate) fn controller(
    caller: Caller,
    config: Arc<Config>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let (templates, writer) = reflector::store();
    let changes = watch::templates(&caller, writer).map(Ok);
    let (shown, stopped) = (templates.clone(), stop.clone());
    let runs = Controller::for_stream(changes, templates)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(
            reconcile,
            |_, _, _| Action::requeue(FAILED_RETRY),
            Arc::new(Context { caller, config }),
        );
    async move {
        tokio::select! {
            () = judged(runs) => {}
            () = stopped_early(&shown, &stopped) => {}
        }
    }
}

/// Returns when the loop is stopped before its first list has come: it judges nothing until then, and would wait for that
/// list for ever.
async fn stopped_early(shown: &Store<CodeSandboxTemplate>, stop: &CancellationToken) {
    stop.cancelled().await;
    if shown.wait_until_ready().now_or_never().is_some() {
        std::future::pending::<()>().await;
    }
}

async fn judged<T, E: std::fmt::Display>(runs: impl Stream<Item = Result<T, E>>) {
    let mut runs = std::pin::pin!(runs);
    while let Some(run) = runs.next().await {
        match run {
            Ok(_) => debug!("judged a template"),
            Err(error) => warn!(%error, "could not judge a template; trying again"),
        }
    }
}

async fn reconcile(
    template: Arc<CodeSandboxTemplate>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    if let Some(accepted) = template.accepted()
        && accepted.reason != reason::POD_REFUSED
    {
        return Ok(Action::await_change());
    }
    let verdict = match patch::check(&template.spec) {
        Err(wrong) => Verdict::no(
            reason::PATCH_INVALID,
            format!("{wrong}; correct it, and sandboxes that wait are made"),
        ),
        Ok(()) => tried(&template, &context).await?,
    };
    let refused = verdict.reason == reason::POD_REFUSED;
    write(&template, &context.caller, verdict).await?;
    Ok(if refused { Action::requeue(REFUSED_RETRY) } else { Action::await_change() })
}

/// What the API server says to a pod of the template, which it does not make.
async fn tried(template: &CodeSandboxTemplate, context: &Context) -> Result<Verdict, Error> {
    let Context { caller, config } = context;
    let pod = pod::trial(template, config);
    let params = PostParams { dry_run: true, field_manager: Some(names::OPERATOR.into()) };
    let pods: Api<Pod> = caller.api();
    let request = pods.create(&params, &pod);
    match caller.request(Verb::Create, Kind::Pod, &pod.name_any(), request).await {
        Ok(_) => {
            Ok(Verdict::yes(reason::ACCEPTED, "the API server takes the pods of such sandboxes"))
        }
        Err(error) => match error.answer() {
            // A namesake, or a quota that is used up now, says nothing of the template.
            Some(answer) if answer.is_already_exists() || status::is_quota(&answer.message) => {
                Ok(Verdict::yes(reason::ACCEPTED, status::words(&answer.message)))
            }
            Some(answer) if matches!(answer.code, 400 | 403 | 422) => Ok(Verdict::no(
                reason::POD_REFUSED,
                format!(
                    "the API server refuses the pods of such sandboxes: {}; correct the template, or what forbids them; it is tried again each minute",
                    status::words(&answer.message)
                ),
            )),
            _ => Err(error),
        },
    }
}

/// Writes down the verdict, where it is another one.
async fn write(
    template: &CodeSandboxTemplate,
    caller: &Caller,
    verdict: Verdict,
) -> Result<(), Error> {
    let old = template.status.clone().unwrap_or_default();
    let generation = template.metadata.generation;
    let accepted =
        status::set(&old.conditions, condition::ACCEPTED, verdict, generation, Timestamp::now());
    let new =
        CodeSandboxTemplateStatus { conditions: vec![accepted], observed_generation: generation };
    if old == new {
        return Ok(());
    }
    act::write_status(caller, Kind::CodeSandboxTemplateStatus, template, &new).await.map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        metrics::Metrics,
        testing::{Answer, Log, config, server},
    };

    const TRY: &str = "POST pods";
    const WRITE: &str = "PATCH codesandboxtemplates/a/status";

    fn template(spec: &Value) -> CodeSandboxTemplate {
        let metadata =
            json!({"name": "a", "namespace": "demo", "generation": 2, "resourceVersion": "7"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    async fn judge(
        template: CodeSandboxTemplate,
        answer: impl FnMut(&str) -> Answer + Send + 'static,
    ) -> (Result<Action, Error>, Log) {
        let (client, log) = server(answer);
        let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
        let context = Context { caller, config: Arc::new(config()) };
        (reconcile(Arc::new(template), Arc::new(context)).await, log)
    }

    /// The condition that was written.
    fn said(log: &Log) -> (String, String, String) {
        let accepted = log.last_body()["status"]["conditions"][0].clone();
        let text = |field: &str| accepted[field].as_str().unwrap().to_owned();
        assert_eq!(accepted["observedGeneration"], 2);
        (text("status"), text("reason"), text("message"))
    }

    fn well(request: &str) -> Answer {
        match request {
            TRY => Answer::Taken(json!({})),
            WRITE => Answer::Object(json!({"metadata": {"name": "a"}, "spec": {}})),
            other => panic!("unexpected {other}"),
        }
    }

    #[tokio::test]
    async fn a_template_is_tried_as_a_pod_that_is_not_made() {
        let spec = json!({"defaults": {"image": "a:1"}, "podPatch": {"spec": {"nodeSelector": {"a": "b"}}}});
        let (done, log) = judge(template(&spec), well).await;
        assert_eq!(done.unwrap(), Action::await_change());
        assert_eq!(log.requests(), [TRY, WRITE]);
        assert!(log.queries(TRY)[0].contains("dryRun=All"), "{:?}", log.queries(TRY));
        let tried = &log.bodies(TRY)[0];
        assert_eq!(tried["spec"]["containers"][0]["image"], "a:1");
        assert_eq!(tried["spec"]["nodeSelector"], json!({"a": "b"}));
        assert_eq!(said(&log).0, "True");
    }

    #[tokio::test]
    async fn what_was_judged_is_not_judged_again() {
        let mut template = template(&json!({}));
        let accepted = json!({"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "observedGeneration": 2, "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        template.status = serde_json::from_value(accepted).unwrap();
        let (done, log) = judge(template.clone(), well).await;
        assert_eq!((done.unwrap(), log.requests().len()), (Action::await_change(), 0));

        template.metadata.generation = Some(3);
        let (_, log) = judge(template, well).await;
        assert_eq!(log.requests(), [TRY, WRITE]);
    }

    #[tokio::test]
    async fn a_patch_that_may_not_be_is_not_even_tried() {
        let spec = json!({"podPatch": {"spec": {"hostNetwork": true}}});
        let (done, log) = judge(template(&spec), well).await;
        assert_eq!(
            (done.unwrap(), log.requests()),
            (Action::await_change(), vec![WRITE.to_owned()])
        );
        let (status, reason, message) = said(&log);
        assert_eq!((&*status, &*reason), ("False", reason::PATCH_INVALID));
        assert!(message.contains("podPatch.spec has hostNetwork"), "{message}");
    }

    #[tokio::test]
    async fn what_the_api_server_refuses_is_said_in_its_words_and_tried_again() {
        let no = |request: &str| match request {
            TRY => Answer::Refuse(403, "Forbidden", "violates PodSecurity"),
            other => well(other),
        };
        let (done, log) = judge(template(&json!({})), no).await;
        assert_eq!(done.unwrap(), Action::requeue(REFUSED_RETRY));
        let (status, reason, message) = said(&log);
        assert_eq!((&*status, &*reason), ("False", reason::POD_REFUSED));
        assert!(message.contains("violates PodSecurity"), "{message}");

        let full = |request: &str| match request {
            TRY => Answer::Refuse(403, "Forbidden", "exceeded quota: small"),
            other => well(other),
        };
        let (_, log) = judge(template(&json!({})), full).await;
        assert_eq!(said(&log).0, "True");
    }

    #[tokio::test(start_paused = true)]
    async fn the_loop_ends_when_it_is_stopped_though_its_first_list_never_comes() {
        let (client, log) = server(|_| Answer::Silence);
        let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
        let stop = CancellationToken::new();
        let running = tokio::spawn(controller(caller, Arc::new(config()), stop.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(log.requests(), ["GET codesandboxtemplates"]);
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_is_no_verdict() {
        let (done, log) = judge(template(&json!({})), |_| Answer::Drop).await;
        assert!(done.is_err());
        assert_eq!(log.requests(), [TRY]);
    }
}
