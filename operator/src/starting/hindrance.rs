//! What keeps a node from starting a pod that says nothing of it itself: a volume that cannot be mounted, a sandbox that cannot
//! be made. The node tells that in events alone, which are looked for once a pod takes long to start.

use api::reason;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, Pod};

use crate::{
    status::{Verdict, pod_condition, words},
    time::later,
};

/// How long a pod may be starting before its node's words are looked for. Most have started by then.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);
/// How often they are looked for then.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// How old they may be. A node that still cannot do it tries again within two minutes, but of what it says about one pod only the
/// first 25 events are made at once, and then one in five minutes (client-go's spam filter).
const FRESH: SignedDuration = SignedDuration::from_secs(450);
/// The reasons of events that stand for something that has to be done before a container can be made. Others are noise,
/// such as DNSConfigForming, or are in the pod's own status as well.
const REASONS: [&str; 6] = [
    "FailedAttachVolume",
    "FailedCreatePodSandBox",
    "FailedMapVolume",
    "FailedMount",
    "FailedPrepareDynamicResources",
    "NetworkNotReady",
];
/// What the kubelet says beside the cause: that it has been waiting.
const WAITED: &str = "Unable to attach or mount volumes";
/// What is put before a message of which there were ten alike.
const COMBINED: &str = "(combined from similar events): ";
/// How many hexadecimal digits in a row are a number of the attempt's own, which would make each a new message.
const NUMBER: usize = 32;

/// When to look at a pod again that is being started, though no watch tells of it.
pub(crate) fn look_at(pod: &Pod, now: Timestamp) -> Option<Timestamp> {
    let first = slow_at(pod, now)?;
    Some(if first > now { first } else { later(now, AGAIN) })
}

/// Whether a pod takes long to start.
pub(crate) fn is_slow(pod: &Pod, now: Timestamp) -> bool {
    slow_at(pod, now).is_some_and(|first| first <= now)
}

fn slow_at(pod: &Pod, now: Timestamp) -> Option<Timestamp> {
    let scheduled = pod_condition(pod, "PodScheduled").filter(|one| one.status == "True")?;
    let scheduled = scheduled.last_transition_time.as_ref()?.0;
    is_hindered(pod, now).then_some(later(scheduled, PATIENCE))
}

/// Whether a pod may be one of those: volumes and the pod's sandbox are made before anything of a container is, and what comes
/// after them, such as a large image, is in the pod's status.
fn is_hindered(pod: &Pod, now: Timestamp) -> bool {
    let made =
        pod_condition(pod, "PodReadyToStartContainers").is_some_and(|one| one.status == "True");
    !made && super::ready(pod, now).reason == reason::STARTING
}

/// Ready's verdict on a pod, and if that is that it is being started, what its node says keeps it.
pub(crate) fn told(pod: &Pod, ready: Verdict, events: &[Event], now: Timestamp) -> Verdict {
    let hindered = ready.reason == reason::STARTING && is_hindered(pod, now);
    let Some(event) = newest(events, now).filter(|_| hindered) else { return ready };
    let why = event.reason.as_deref().unwrap_or_default();
    let said = steady(event.message.as_deref().unwrap_or_default());
    let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref());
    let next = match class.filter(|_| why == "FailedCreatePodSandBox") {
        Some(class) => format!(
            "the node may not have the handler of RuntimeClass {class}: have the administrator add it, or create the sandbox anew with another spec.runtimeClassName"
        ),
        None => "it is tried again by itself, so mend or create what is named; what cannot be mended outside is changed by creating the sandbox anew".into(),
    };
    Verdict::no(reason::START_FAILED, format!("{why}: {}; {next}", words(&said)))
}

/// The event that tells the cause: the newest, and of what is said at once the cause. A pod has had no other node. Whoever may
/// create events may date one at the end of time: one that is further ahead than clocks may differ tells nothing.
fn newest(events: &[Event], now: Timestamp) -> Option<&Event> {
    let tell = events.iter().filter(|event| {
        let known = event.reason.as_deref().is_some_and(|reason| REASONS.contains(&reason));
        known && seen(event).is_some_and(|at| now.duration_since(at).abs() < FRESH)
    });
    let waited =
        |event: &Event| event.message.as_deref().is_some_and(|said| said.starts_with(WAITED));
    tell.max_by_key(|event| (!waited(event), seen(event)))
}

/// When it was last seen.
fn seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    series.map(|time| time.0).or(last).or(event.event_time.as_ref().map(|time| time.0))
}

/// Words without what is another at each attempt.
fn steady(said: &str) -> String {
    let said = said.strip_prefix(COMBINED).unwrap_or(said);
    let mut steady = String::with_capacity(said.len());
    for part in said.split_inclusive(|letter: char| !letter.is_ascii_hexdigit()) {
        let digits = part.trim_end_matches(|letter: char| !letter.is_ascii_hexdigit());
        if digits.len() >= NUMBER {
            steady.push('…');
            steady.push_str(&part[digits.len()..]);
        } else {
            steady.push_str(part);
        }
    }
    steady
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, pod_with};

    fn starting(class: Option<&str>) -> Pod {
        let mut pod = pod_with(&json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(0).to_string()}]}));
        pod.spec.get_or_insert_default().runtime_class_name = class.map(Into::into);
        pod
    }

    fn event(reason: &str, message: &str, seen: i64) -> Event {
        let event: Value = json!({"metadata": {}, "involvedObject": {}, "type": "Warning", "reason": reason,
            "message": message, "lastTimestamp": at(seen).to_string()});
        serde_json::from_value(event).unwrap()
    }

    fn judge(pod: &Pod, events: &[Event], now: i64) -> Verdict {
        told(pod, super::super::ready(pod, at(now)), events, at(now))
    }

    #[test]
    fn a_pod_that_takes_long_to_start_is_asked_about_at_times() {
        let pod = starting(None);
        for (now, slow, next) in [(0, false, 10), (9, false, 10), (10, true, 40), (100, true, 130)]
        {
            assert_eq!(
                (is_slow(&pod, at(now)), look_at(&pod, at(now))),
                (slow, Some(at(next))),
                "{now}"
            );
        }
        let running = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}}}]});
        // Its images are being pulled, which its status says.
        let pulling = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(0).to_string()},
            {"type": "PodReadyToStartContainers", "status": "True"}]});
        for status in [json!({"phase": "Pending"}), pulling.clone(), running] {
            let pod = pod_with(&status);
            assert_eq!((is_slow(&pod, at(999)), look_at(&pod, at(999))), (false, None), "{status}");
        }
        let mended = judge(&pod_with(&pulling), &[event("FailedMount", "not found", 20)], 30);
        assert_eq!(mended.reason, reason::STARTING);
    }

    #[test]
    fn what_keeps_a_node_from_starting_a_pod_is_told_in_its_words() {
        let mount = "MountVolume.SetUp failed for volume \"files\" : configmap \"a\" not found";
        let next = "it is tried again by itself, so mend or create what is named; what cannot be mended outside is changed by creating the sandbox anew";
        let waited = "Unable to attach or mount volumes: timed out waiting for the condition";
        for (events, said) in [
            (vec![event("FailedMount", mount, 20)], format!("FailedMount: {mount}; {next}")),
            // The cause, though something was said after it.
            (
                vec![event("FailedMount", mount, 20), event("FailedMount", waited, 25)],
                format!("FailedMount: {mount}; {next}"),
            ),
            (vec![event("FailedMount", waited, 25)], format!("FailedMount: {waited}; {next}")),
            (
                vec![event("FailedMount", mount, 20), event("NetworkNotReady", "no CNI", 21)],
                format!("NetworkNotReady: no CNI; {next}"),
            ),
        ] {
            let verdict = judge(&starting(None), &events, 30);
            assert_eq!(verdict, Verdict::no(reason::START_FAILED, said));
        }
        let handler = event("FailedCreatePodSandBox", "no runtime for \"kata\" is configured", 20);
        let verdict = judge(&starting(Some("kata")), &[handler], 30);
        let said = "FailedCreatePodSandBox: no runtime for \"kata\" is configured; the node may not have the handler of RuntimeClass kata: have the administrator add it, or create the sandbox anew with another spec.runtimeClassName";
        assert_eq!(verdict, Verdict::no(reason::START_FAILED, said));
    }

    #[test]
    fn what_is_old_or_of_another_matter_is_not_told() {
        let stale = [
            event("DNSConfigForming", "too many search domains", 20),
            event("FailedToRetrieveImagePullSecret", "it may not need it", 20),
        ];
        assert_eq!(judge(&starting(None), &stale, 30).reason, reason::STARTING);
        let once = [event("FailedMount", "not found", 20)];
        assert_eq!(judge(&starting(None), &once, 469).reason, reason::START_FAILED);
        assert_eq!(judge(&starting(None), &once, 470).reason, reason::STARTING, "it was mended");
        let mut forged = event("FailedMount", "forged", 20);
        for (seen, reason) in [
            (at(31), reason::START_FAILED),
            (at(7200), reason::STARTING),
            (Timestamp::MAX, reason::STARTING),
            (Timestamp::MIN, reason::STARTING),
        ] {
            forged.last_timestamp = Some(Time(seen));
            let events = std::slice::from_ref(&forged);
            assert_eq!(judge(&starting(None), events, 30).reason, reason, "{seen}");
        }
    }

    #[test]
    fn the_same_trouble_again_has_the_same_words() {
        let id = "0123456789abcdef".repeat(4);
        let said =
            format!("failed to setup network for sandbox \"{id}\": plugin failed (add), {id}");
        let expected = "failed to setup network for sandbox \"…\": plugin failed (add), …";
        assert_eq!(steady(&said), expected);
        assert_eq!(steady(&format!("{COMBINED}{said}")), expected);
        assert_eq!(steady("a deadbeef, a feed"), "a deadbeef, a feed");
    }
}
