use serde_json::{Value, json};

use super::*;
use crate::{
    injection::Way,
    pod,
    testing::{at, config, pod_with, sandbox},
};

/// What Ready says of a status, on a pod that has our volumes.
fn judge(status: &Value) -> Verdict {
    let mut pod = pod::pod(&sandbox(), &config(), Way::ImageVolume, 1);
    pod.status = pod_with(status).status;
    ready(&pod, at(0))
}

fn waiting(why: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"waiting": {"reason": why, "message": message}}}]})
}

fn scheduled(status: &str, why: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": status, "reason": why,
        "message": "0/3 nodes are available"}]})
}

fn container(state: &Value, last: &Value, restarts: i32) -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{
        "name": "sandbox", "image": "", "imageID": "", "ready": true, "restartCount": restarts,
        "state": state, "lastState": last}]})
}

#[test]
fn what_keeps_a_pod_from_starting_has_its_reason_and_its_words() {
    for (status, expected, said) in [
        (json!({}), reason::CREATING, "waiting"),
        (scheduled("False", "SchedulingGated"), reason::SCHEDULING_GATED, "taken off its gates"),
        (scheduled("False", "Unschedulable"), reason::UNSCHEDULABLE, "0/3 nodes are available"),
        (scheduled("True", ""), reason::STARTING, "starting"),
        (waiting("ContainerCreating", ""), reason::STARTING, "starting"),
        (waiting("ErrImagePull", "not found"), reason::IMAGE_PULL, "ErrImagePull: not found"),
        (waiting("ImagePullBackOff", "Back-off"), reason::IMAGE_PULL, "Back-off"),
        (waiting("InvalidImageName", "couldn't parse"), reason::IMAGE_PULL, "parse"),
        (waiting("ErrImageNeverPull", "not present"), reason::IMAGE_PULL, "present"),
        (
            waiting("CreateContainerConfigError", "secret \"sandbox-x\" not found"),
            reason::START_FAILED,
            "sandbox-x",
        ),
        (waiting("RunContainerError", "no such runtime"), reason::START_FAILED, "no such runtime"),
        (waiting("SomethingNew", "odd"), reason::START_FAILED, "SomethingNew: odd"),
    ] {
        let verdict = judge(&status);
        assert_eq!((verdict.status, verdict.reason.as_str()), ("False", expected), "{status}");
        assert!(verdict.message.contains(said), "{}", verdict.message);
    }
}

#[test]
fn an_init_container_that_does_not_install_the_agent_is_the_administrators_matter() {
    let image = config().agent_image;
    let kept = json!({"waiting": {"reason": "PodInitializing"}});
    let failed = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "agent: NO_SPACE: could not"}});
    let starting = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec format error"}});
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let waiting = |why: &str, said: &str| json!({"waiting": {"reason": why, "message": said}});
    for (state, last, expected, said) in [
        (waiting("PodInitializing", ""), json!({}), reason::STARTING, "starting"),
        (json!({"running": {}}), json!({}), reason::STARTING, "starting"),
        (
            waiting("ErrImagePull", &format!("failed to pull {image}")),
            json!({}),
            reason::AGENT_INJECTION_FAILED,
            "ErrImagePull: failed to pull ghcr.io",
        ),
        (
            waiting("ImagePullBackOff", "Back-off"),
            json!({}),
            reason::AGENT_INJECTION_FAILED,
            "ImagePullBackOff: Back-off",
        ),
        (
            waiting("CreateContainerError", "odd"),
            json!({}),
            reason::AGENT_INJECTION_FAILED,
            "CreateContainerError: odd",
        ),
        (
            failed.clone(),
            json!({}),
            reason::AGENT_INJECTION_FAILED,
            "Error, exit code 1: agent: NO_SPACE",
        ),
        (
            waiting("CrashLoopBackOff", "back-off 10s"),
            starting,
            reason::AGENT_INJECTION_FAILED,
            "StartError, exit code 128: exec format error",
        ),
        // Started again meanwhile: until it ends it may yet fail.
        (json!({"running": {}}), failed, reason::AGENT_INJECTION_FAILED, "exit code 1"),
        (done, json!({}), reason::STARTING, "starting"),
    ] {
        let status = json!({"phase": "Pending",
            "initContainerStatuses": [{"name": "install-agent", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": state, "lastState": last}],
            "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": kept}]});
        let mut pod = pod::pod(&sandbox(), &config(), Way::InitContainer, 1);
        pod.status = pod_with(&status).status;
        let verdict = ready(&pod, at(0));
        assert_eq!((verdict.status, verdict.reason.as_str()), ("False", expected), "{status}");
        assert!(verdict.message.contains(said), "{}", verdict.message);
    }
}

#[test]
fn the_users_image_is_not_blamed_on_the_agent_behind_an_init_container_either() {
    let done = json!({"name": "install-agent", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0}}});
    for (why, said, expected) in [
        ("ErrImagePull", "failed to pull acme/python", reason::IMAGE_PULL),
        (
            "RunContainerError",
            "exec: \"/.codesandbox/bin/agent\": permission denied",
            reason::AGENT_INJECTION_FAILED,
        ),
    ] {
        let mut status = waiting(why, said);
        status["initContainerStatuses"] = json!([done]);
        let mut pod = pod::pod(&sandbox(), &config(), Way::InitContainer, 1);
        pod.status = pod_with(&status).status;
        assert_eq!(ready(&pod, at(0)).reason, expected, "{status}");
    }
}

#[test]
fn what_is_the_users_is_not_blamed_on_the_agent() {
    for (why, said, expected) in [
        ("ErrImagePull", "failed to pull image \"agent\": not found", reason::IMAGE_PULL),
        (
            "RunContainerError",
            "exec /.codesandbox/bin/agent: argument list too long",
            reason::START_FAILED,
        ),
    ] {
        assert_eq!(judge(&waiting(why, said)).reason, expected, "{said}");
    }
}

#[test]
fn what_is_about_the_agent_is_not_blamed_on_the_users_image() {
    let image = config().agent_image;
    for status in [
        waiting("ErrImagePull", &format!("failed to pull {image}")),
        waiting("ImagePullBackOff", &format!("Back-off pulling image \"{image}\"")),
        waiting("CreateContainerError", "failed to mount volume \"agent\""),
        container(
            &json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec /.codesandbox/bin/agent: no such file"}}),
            &json!({}),
            0,
        ),
        waiting("RunContainerError", "exec: \"/.codesandbox/bin/agent\": permission denied"),
        container(
            &json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}),
            &json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec /.codesandbox/bin/agent: no such file"}}),
            1,
        ),
    ] {
        let verdict = judge(&status);
        assert_eq!(verdict.reason, reason::AGENT_INJECTION_FAILED, "{status}");
        assert!(verdict.message.contains("administrator"), "{}", verdict.message);
    }
}

/// As it was said of a sandbox with a GPU whose runtime has no nvproxy.
#[test]
fn the_end_of_gvisor_s_kernel_is_not_blamed_on_the_agent_whose_command_is_named_beside_it() {
    let said = "failed to start containerd task \"66db\": OCI runtime start failed: starting container: starting sub-container [/.codesandbox/bin/agent serve]: urpc method \"containerManager.StartSubcontainer\" failed: EOF";
    for status in [
        waiting("RunContainerError", said),
        container(
            &json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}),
            &json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": said}}),
            1,
        ),
    ] {
        let verdict = judge(&status);
        assert_eq!(verdict.reason, reason::START_FAILED, "{status}");
        assert!(verdict.message.contains("nvproxy"), "{}", verdict.message);
    }
}

#[test]
fn a_container_that_never_started_did_not_restart() {
    let status = container(
        &json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        &json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "no such directory"}}),
        2,
    );
    assert_eq!(judge(&status).reason, reason::START_FAILED);
}

#[test]
fn a_restart_in_place_is_not_ready_until_the_pod_is() {
    let oom = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let backoff = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    for state in [&oom, &backoff, &json!({"waiting": {"reason": "ContainerCreating"}})] {
        let verdict = judge(&container(state, &oom, 1));
        assert_eq!(verdict.reason, reason::RESTARTING, "{state}");
        assert!(verdict.message.contains("memory"), "{}", verdict.message);
    }
    let mut back = container(&json!({"running": {}}), &oom, 1);
    assert_eq!(judge(&back).status, "True");
    back["conditions"][0]["status"] = "False".into();
    assert_eq!(judge(&back).reason, reason::RESTARTING);
}

#[test]
fn an_agent_that_did_not_get_in_leaves_nobody_without_a_next_step() {
    let failed = "exec: \"/.codesandbox/bin/agent\": permission denied";
    let status = waiting("RunContainerError", failed);
    for (way, next) in [
        (
            Way::ImageVolume,
            "create the sandbox anew: with --agent-injection=Auto, the default, the next one of this runtime finds out first whether image volumes work; if it fails again, tell the administrator: the nodes have to be able to pull the operator's --agent-image, for their processors, and with --agent-injection=ImageVolume to mount and execute image volumes",
        ),
        (
            Way::InitContainer,
            "tell the administrator: the nodes have to be able to pull and run the operator's --agent-image, for their processors; where that is changed, create the sandbox anew",
        ),
    ] {
        let mut pod = pod::pod(&sandbox(), &config(), way, 1);
        pod.status = pod_with(&status).status;
        let verdict = ready(&pod, at(0));
        assert_eq!(verdict.reason, reason::AGENT_INJECTION_FAILED);
        assert_eq!(verdict.message, format!("{failed}; {next}"));
    }
}

#[test]
fn a_pod_whose_agent_saw_the_network_open_is_ready_when_it_has_run_on() {
    let open = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "{\"reason\":\"NotIsolated\"}"}});
    let since = json!({"running": {"startedAt": at(60).to_string()}});
    let looping = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    for (state, last, now, expected) in [
        (&open, &json!({}), 61, reason::NOT_ISOLATED),
        (&looping, &open, 61, reason::NOT_ISOLATED),
        (&since, &open, 74, reason::NOT_ISOLATED),
        (&since, &open, 75, reason::POD_READY),
        (&since, &json!({}), 60, reason::POD_READY),
        (&json!({"waiting": {"reason": "ImagePullBackOff"}}), &open, 61, reason::IMAGE_PULL),
        (
            &since,
            &json!({"terminated": {"exitCode": 143, "message": open["terminated"]["message"]}}),
            61,
            reason::POD_READY,
        ),
    ] {
        let pod = pod_with(&container(state, last, 1));
        let verdict = ready(&pod, at(now));
        assert_eq!(verdict.reason, expected, "{state} {last} {now}");
    }
    let pod = pod_with(&container(&since, &open, 1));
    assert_eq!(proven_at(&pod), Some(at(75)));
    let message = ready(&pod, at(61)).message;
    assert!(
        message.contains("enforces NetworkPolicy") && message.contains("administrator"),
        "{message}"
    );
}

#[test]
fn a_pod_with_gates_names_them_and_waits() {
    let mut pod = pod_with(&json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked"}]}));
    let gates = ["a.example/queue", "b.example/quota"];
    let gates = gates.map(|name| json!({"name": name}));
    pod.spec = serde_json::from_value(json!({"containers": [], "schedulingGates": gates})).unwrap();
    let verdict = ready(&pod, at(1));
    assert_eq!(verdict.reason, reason::SCHEDULING_GATED);
    assert!(verdict.message.contains("(a.example/queue, b.example/quota)"), "{}", verdict.message);
}
