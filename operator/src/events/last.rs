//! The last word about a sandbox: how it came to its end, for whoever asks when the object is gone.
//!
//! It is an event like the others, but its name is a function of the sandbox's, so that it is read with one small request
//! and without a UID, which nobody knows any more. A namesake's end takes the place of it, for which it has to be applied by
//! the old API: events.k8s.io lets no event become another one.

use std::collections::BTreeMap;

use api::{CodeSandbox, condition, names};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, ObjectReference},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams},
};

use super::{Notice, note};
use crate::pod;

/// What makes a notice the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    /// When the sandbox ended.
    pub(crate) at: Timestamp,
    /// Whose it was and of which class. An event has no owner, and who may not see a sandbox is not to hear of its end.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The last word about a sandbox that we delete now, because its ttl is over or the one for finished sandboxes is.
pub(crate) fn ended(sandbox: &CodeSandbox, ttl_over: bool, now: Timestamp) -> Notice {
    let finished = sandbox.status.as_ref().and_then(|status| {
        let finished = status.condition(condition::FINISHED).filter(|one| one.status == "True")?;
        Some(format!("({}: {})", finished.reason, finished.message))
    });
    let (ttl, after_finished) = (&sandbox.effective().ttl, &sandbox.effective().ttl_after_finished);
    // What others have said comes last, where it is cut if it is long.
    let (reason, note) = match finished {
        None => ("Expired", format!("its ttl ({ttl}) was over")),
        Some(how) if ttl_over => {
            ("Expired", format!("its ttl ({ttl}) was over; before, it had finished {how}"))
        }
        Some(how) => (
            "Finished",
            format!(
                "its ttlAfterFinished ({after_finished}) was over, since it had finished {how}"
            ),
        ),
    };
    Notice {
        warning: false,
        reason: reason.into(),
        action: "Delete",
        note,
        pod: None,
        last: Some(Last { at: now, annotations: pod::whose(sandbox) }),
    }
}

/// Applies the event of a last word.
pub(super) async fn apply(
    client: &Client,
    notice: &Notice,
    last: &Last,
    about: &ObjectReference,
) -> kube::Result<()> {
    let event = event(notice, last, about);
    let namespace = about.namespace.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let manager = PatchParams::apply(names::OPERATOR).force();
    events.patch(&event.name_any(), &manager, &Patch::Apply(&event)).await.map(drop)
}

fn event(notice: &Notice, last: &Last, about: &ObjectReference) -> Event {
    Event {
        metadata: ObjectMeta {
            name: about.name.as_deref().map(names::last_event),
            namespace: about.namespace.clone(),
            annotations: Some(last.annotations.clone()),
            ..ObjectMeta::default()
        },
        involved_object: about.clone(),
        type_: Some("Normal".into()),
        reason: Some(notice.reason.clone()),
        message: Some(note(notice)),
        action: Some(notice.action.into()),
        event_time: Some(MicroTime(last.at)),
        reporting_component: Some(names::OPERATOR.into()),
        reporting_instance: Some(names::OPERATOR.into()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use kube::Resource;
    use serde_json::json;

    use super::*;
    use crate::testing::{at, finished, sandbox};

    fn oom_killed() -> CodeSandbox {
        let mut sandbox = sandbox();
        let mut status = finished(at(60));
        status.conditions[0].reason = "OOMKilled".into();
        status.conditions[0].message = "out of memory".into();
        sandbox.status = Some(status);
        sandbox
    }

    #[test]
    fn each_end_is_told_with_how_the_sandbox_had_finished() {
        let mut lives = oom_killed();
        lives.status.as_mut().unwrap().conditions[0].status = "False".into();
        for (sandbox, ttl_over, reason, note) in [
            (sandbox(), true, "Expired", "its ttl (1h) was over"),
            (lives, true, "Expired", "its ttl (1h) was over"),
            (
                oom_killed(),
                true,
                "Expired",
                "its ttl (1h) was over; before, it had finished (OOMKilled: out of memory)",
            ),
            (
                oom_killed(),
                false,
                "Finished",
                "its ttlAfterFinished (10m) was over, since it had finished (OOMKilled: out of memory)",
            ),
        ] {
            let told = ended(&sandbox, ttl_over, at(3600));
            assert_eq!((&*told.reason, &*told.note), (reason, note));
        }
    }

    #[test]
    fn the_last_event_is_found_by_the_name_alone_and_says_whose_the_sandbox_was() {
        let mut sandbox = sandbox();
        sandbox.annotations_mut().insert(names::OWNER.into(), "me".into());
        sandbox.annotations_mut().insert("another".into(), "is not told".into());
        let told = ended(&sandbox, true, at(3600));
        let event = event(&told, told.last.as_ref().unwrap(), &sandbox.object_ref(&()));
        assert_eq!(
            json!(event),
            json!({
                "apiVersion": "v1", "kind": "Event",
                "metadata": {
                    "name": "box.ended", "namespace": "demo",
                    "annotations": {"codesandbox.dev/class": "codesandbox", "codesandbox.dev/owner": "me"},
                },
                "involvedObject": {
                    "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
                    "name": "box", "namespace": "demo", "uid": "sandbox-uid",
                },
                "type": "Normal", "reason": "Expired", "action": "Delete",
                "message": "its ttl (1h) was over",
                "eventTime": "2026-01-01T01:00:00.000000Z",
                "reportingComponent": "codesandbox-operator",
                "reportingInstance": "codesandbox-operator",
            })
        );
    }

    #[test]
    fn a_long_word_is_cut_to_what_an_event_takes() {
        let mut sandbox = oom_killed();
        sandbox.status.as_mut().unwrap().conditions[0].message = "é".repeat(1000);
        let told = ended(&sandbox, false, at(3600));
        let event = event(&told, told.last.as_ref().unwrap(), &sandbox.object_ref(&()));
        let message = event.message.unwrap();
        assert!(message.starts_with("its ttlAfterFinished (10m) was over"), "{message}");
        assert!((1000..=1024).contains(&message.len()), "{}", message.len());
    }
}
