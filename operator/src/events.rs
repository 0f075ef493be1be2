//! What users are told in events: the turns in a sandbox's life, each once.

use api::{CodeSandboxStatus, StartMode, condition, names, reason};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::{
    call::{Kind, Verb},
    expiry::End,
    leaks::{Leak, Marked, Why},
    metrics::Metrics,
    probe::Verdict,
};

mod last;

pub(crate) use last::{Last, ended};

/// How many events may wait to be published. What is more is dropped and counted: an event is worth less than a reconcile.
const QUEUE: usize = 256;
/// How much of a note the API takes, in bytes.
const MAX_NOTE: usize = 1024;

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) action: &'static str,
    pub(crate) note: String,
    /// The pod it is about. The recorder counts an event twice that says the same of the same objects.
    pub(crate) pod: Option<String>,
    /// Set where nothing comes after it.
    pub(crate) last: Option<Last>,
}

/// What to tell of the way from one status to the next.
pub(crate) fn between(old: Option<&CodeSandboxStatus>, new: &CodeSandboxStatus) -> Vec<Notice> {
    let notice = |warning, reason: &str, action, note: &str| Notice {
        warning,
        reason: reason.into(),
        action,
        note: note.into(),
        pod: new.pod_name.clone(),
        last: None,
    };
    let was = |type_| old.and_then(|old| old.condition(type_));
    let mut notices = Vec::new();

    let pod = |status: &CodeSandboxStatus| status.pod_uid.clone();
    if let Some(name) = new.pod_name.as_deref().filter(|_| old.and_then(pod) != pod(new)) {
        let warm = new.start.as_ref().is_some_and(|start| start.mode == StartMode::Warm);
        notices.push(if warm {
            let said = format!("claimed Pod {name}, which waited in a pool");
            notice(false, "Claimed", "ClaimPod", &said)
        } else {
            notice(false, "Created", "CreatePod", &format!("made Pod {name}"))
        });
    }
    if let Some(ready) = new.condition(condition::READY) {
        let before = was(condition::READY);
        if ready.status == "True" && before.is_none_or(|before| before.status != "True") {
            notices.push(notice(false, "Ready", "Start", &ready.message));
        } else if before.is_none_or(|before| before.reason != ready.reason) {
            let trouble = is_trouble(&ready.reason);
            if trouble || ready.reason == reason::RUNS_WITHOUT_GPU {
                notices.push(notice(trouble, &ready.reason, "Start", &ready.message));
            }
        }
    }
    if let Some(suspended) = new.condition(condition::SUSPENDED) {
        let before = was(condition::SUSPENDED).map(|before| before.reason.as_str());
        if before != Some(&*suspended.reason) {
            let action = if suspended.reason == reason::RESUMED { "Resume" } else { "Suspend" };
            notices.push(notice(false, &suspended.reason, action, &suspended.message));
        }
    }
    if let Some(isolated) = new.condition(condition::NETWORK_ISOLATED) {
        let before = was(condition::NETWORK_ISOLATED).is_none_or(|before| before.status != "False");
        // That a setup may reach more than the sandbox is as its user wants it.
        if isolated.status == "False" && before && isolated.reason != reason::SETTING_UP {
            notices.push(notice(true, &isolated.reason, "Isolate", &isolated.message));
        }
    }
    if let Some(finished) = new.condition(condition::FINISHED).filter(|one| one.status == "True")
        && was(condition::FINISHED).is_none_or(|before| before.status != "True")
    {
        notices.push(notice(
            !matches!(&*finished.reason, "Completed" | "IdleTimeout"),
            &finished.reason,
            "Finish",
            &finished.message,
        ));
    }
    notices
}

/// That image volumes do not work, which the administrator may want to know: sandboxes start faster with them.
pub(crate) fn judged(verdict: &Verdict) -> Option<Notice> {
    let Verdict::Fails(words) = verdict else { return None };
    Some(Notice {
        warning: true,
        reason: "ImageVolumeFailed".into(),
        action: "Probe",
        note: format!(
            "sandboxes of this runtime get the agent by an init container, which takes a second longer, because the node cannot execute it from an image volume: {words}"
        ),
        pod: None,
        last: None,
    })
}

/// That a sandbox ends soon.
pub(crate) fn ending(end: &End) -> Notice {
    let End { at, whole, .. } = end;
    let note = if end.of_pod {
        format!(
            "the sandbox ends at {at}, when its pod has run for as long as the administrator lets pods run ({whole}); save what is to be kept, and create another to go on"
        )
    } else {
        format!(
            "the sandbox is deleted at {at}, when its ttl ({whole}) is over, with all in it that is not on a disk to be retained; a longer spec.ttl keeps it"
        )
    };
    Notice {
        warning: true,
        reason: "ExpiringSoon".into(),
        action: "Expire",
        note,
        pod: None,
        last: None,
    }
}

/// That an object is removed which should not have been there any more.
pub(crate) fn swept(leak: &Leak) -> Notice {
    let Marked { kind, name, made_for, .. } = &leak.object;
    let why = match leak.why {
        Why::Orphaned => format!("{made_for} is gone, and did not take it along"),
        Why::Superseded => format!("{made_for} has come to a later attempt"),
    };
    Notice {
        warning: true,
        reason: format!("{:?}", leak.why),
        action: "Sweep",
        note: format!("{kind:?} {name} is removed: {why}"),
        pod: None,
        last: None,
    }
}

/// Whether a reason of Ready is one somebody has to do something about.
fn is_trouble(reason: &str) -> bool {
    matches!(
        reason,
        reason::UNSCHEDULABLE
            | reason::IMAGE_PULL
            | reason::START_FAILED
            | reason::AGENT_INJECTION_FAILED
            | reason::RESTARTING
            | reason::NOT_ISOLATED
            | reason::ADMISSION_REFUSED
            | reason::QUOTA_EXCEEDED
            | reason::RUNTIME_CLASS_NOT_FOUND
            | reason::NAME_TAKEN
            | reason::DISK_LOST
            | reason::POD_LOST
            | reason::TERMINATING
    )
}

/// Where notices go: a queue, so that no reconcile waits for an event or fails with one.
#[derive(Clone)]
pub(crate) struct Publisher {
    queue: mpsc::Sender<(Notice, ObjectReference)>,
    metrics: Metrics,
}

impl Publisher {
    /// A publisher, and the task that writes what it is given until it and its clones are dropped.
    pub(crate) fn new(client: Client, metrics: Metrics) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, notices) = mpsc::channel(QUEUE);
        let task = write(client, notices, metrics.clone());
        (Self { queue, metrics }, task)
    }

    pub(crate) fn publish(&self, notices: Vec<Notice>, about: &ObjectReference) {
        for notice in notices {
            self.metrics.happened(notice.action, &notice.reason);
            if self.queue.try_send((notice, about.clone())).is_err() {
                self.metrics.event_dropped();
            }
        }
    }
}

async fn write(
    client: Client,
    mut notices: mpsc::Receiver<(Notice, ObjectReference)>,
    metrics: Metrics,
) {
    // The recorder turns repeats within six minutes into a count.
    let recorder = Recorder::new(client.clone(), Reporter::from(names::OPERATOR));
    while let Some((notice, about)) = notices.recv().await {
        let reason = &notice.reason;
        metrics
            .request(if notice.last.is_some() { Verb::Apply } else { Verb::Create }, Kind::Event);
        let written = async {
            match &notice.last {
                Some(last) => last::apply(&client, &notice, last, &about).await,
                None => recorder.publish(&event(&notice, about.namespace.clone()), &about).await,
            }
        };
        match tokio::time::timeout(crate::call::DEADLINE, written).await {
            Ok(Ok(())) => debug!(name = about.name, reason, "published an event"),
            Ok(Err(error)) => warn!(%error, reason, "an event was lost"),
            Err(_) => warn!(reason, "an event was lost: no answer"),
        }
    }
}

fn event(notice: &Notice, namespace: Option<String>) -> Event {
    Event {
        type_: if notice.warning { EventType::Warning } else { EventType::Normal },
        reason: notice.reason.clone(),
        note: Some(note(notice)),
        action: notice.action.into(),
        secondary: notice.pod.clone().map(|name| ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name),
            namespace,
            ..ObjectReference::default()
        }),
    }
}

/// A notice's words, as many as the API takes.
fn note(notice: &Notice) -> String {
    notice.note[..notice.note.floor_char_boundary(MAX_NOTE)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, server};

    #[tokio::test]
    async fn what_happens_is_counted_by_action_and_reason_even_where_its_event_is_dropped() {
        let (client, _) = server(|_| Answer::Silence);
        let metrics = Metrics::new();
        let (publisher, publishing) = Publisher::new(client, metrics.clone());
        // Nothing is written, so that the queue is full after a while.
        let notice = Notice {
            warning: true,
            reason: "OOMKilled".into(),
            action: "Finish",
            note: String::new(),
            pod: None,
            last: None,
        };
        publisher.publish(vec![notice; QUEUE + 3], &ObjectReference::default());
        let text = metrics.text().unwrap();
        for line in [
            r#"codesandbox_operator_sandbox_events_total{action="Finish",reason="OOMKilled"} 259"#,
            "codesandbox_operator_events_dropped_total 3",
        ] {
            assert!(text.lines().any(|said| said == line), "{line} is not in\n{text}");
        }
        drop(publishing);
    }
}
