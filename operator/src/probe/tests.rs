use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::testing::{config, pod_with, sandbox};

#[test]
fn the_probe_is_as_hardened_as_a_sandbox_and_does_not_outlive_its_use() {
    let mut sandbox = sandbox();
    sandbox.spec.settings.runtime_class_name = Some("gvisor".into());
    insta::assert_yaml_snapshot!(pod(&sandbox, &config()));
}

fn container(state: &Value) -> Value {
    json!([{"name": "sandbox", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}])
}

fn waiting(why: &str, said: &str) -> Value {
    let state = json!({"waiting": {"reason": why, "message": said}});
    json!({"phase": "Pending", "containerStatuses": container(&state)})
}

fn ended(why: &str, code: i32, said: &str) -> Value {
    let state = json!({"terminated": {"reason": why, "exitCode": code, "message": said}});
    json!({"phase": "Failed", "containerStatuses": container(&state)})
}

/// With the words of containerd over runc, of containerd and CRI-O over gVisor, and of Kata, for a volume that is empty,
/// not to be executed, or unknown to them.
#[test]
fn what_an_image_volume_does_not_do_is_told_from_what_comes_in_between() {
    let works = || Some("Works");
    for (status, expected) in [
        (json!({}), None),
        (json!({"phase": "Pending"}), None),
        (
            json!({"phase": "Running", "containerStatuses": container(&json!({"running": {}}))}),
            None,
        ),
        (waiting("ContainerCreating", ""), None),
        (json!({"phase": "Succeeded"}), works()),
        (
            ended(
                "StartError",
                128,
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/.codesandbox/bin/agent\": permission denied",
            ),
            Some("Fails"),
        ),
        (
            ended(
                "StartError",
                128,
                "runc create failed: unable to start container process: error during container init: exec: \"/.codesandbox/bin/agent\": stat /.codesandbox/bin/agent: no such file or directory",
            ),
            Some("Fails"),
        ),
        (
            ended(
                "StartError",
                128,
                "failed to create containerd task: failed to create shim task: ENOENT: No such file or directory",
            ),
            Some("Fails"),
        ),
        (
            waiting(
                "RunContainerError",
                "starting container: starting root container: starting sandbox: creating process: failed to load /.codesandbox/bin/agent: no such file or directory",
            ),
            Some("Fails"),
        ),
        (
            waiting(
                "CreateContainerError",
                "failed to generate container \"c\" spec: failed to generate spec: failed to mkdir \"\": mkdir : no such file or directory",
            ),
            Some("Fails"),
        ),
        (ended("Error", 126, ""), Some("Fails")),
        // A node under load tries again, and so may we.
        (waiting("CreateContainerError", "context deadline exceeded"), None),
        (waiting("CreateContainerError", "name \"x\" is reserved for \"y\""), None),
        (waiting("RunContainerError", "rpc error: code = Unavailable desc = closing"), None),
        // The same image is the init container's.
        (waiting("ErrImagePull", "not found"), Some("Unclear")),
        (waiting("ImagePullBackOff", "Back-off"), Some("Unclear")),
        (waiting("ErrImageNeverPull", "not present"), Some("Unclear")),
        (waiting("InvalidImageName", "parse"), Some("Unclear")),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/3 nodes are available"}]}),
            Some("Unclear"),
        ),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "SchedulingGated", "message": "gated"}]}),
            None,
        ),
        (json!({"phase": "Failed", "reason": "DeadlineExceeded"}), Some("Unclear")),
        (json!({"phase": "Failed", "reason": "Evicted", "message": "disk"}), Some("Unclear")),
        (json!({"phase": "Failed"}), Some("Unclear")),
        (ended("OOMKilled", 137, ""), Some("Unclear")),
        (ended("Error", 143, ""), Some("Unclear")),
    ] {
        let verdict = judge(&pod_with(&status));
        let kind = verdict.as_ref().map(|verdict| match verdict {
            Verdict::Works => "Works",
            Verdict::Fails(_) => "Fails",
            Verdict::Unclear(_) => "Unclear",
        });
        assert_eq!(kind, expected, "{status}");
    }
}

#[test]
fn a_verdict_has_the_nodes_words() {
    for (status, words) in [
        (ended("StartError", 128, "permission denied"), "StartError: permission denied"),
        (ended("Error", 126, "never repeated"), "Error: exit code 126"),
    ] {
        assert_eq!(judge(&pod_with(&status)), Some(Verdict::Fails(words.into())));
    }
    for (status, words) in [
        (waiting("ErrImagePull", "not found"), "ErrImagePull: not found"),
        (json!({"phase": "Failed", "reason": "Evicted", "message": "disk"}), "Evicted: disk"),
        (ended("Error", 137, ""), "Error: exit code 137"),
    ] {
        assert_eq!(judge(&pod_with(&status)), Some(Verdict::Unclear(words.into())));
    }
}

#[test]
fn a_probe_that_is_deleted_proves_nothing_however_it_ends() {
    let mut pod = pod_with(&json!({"phase": "Succeeded"}));
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert_eq!(judge(&pod), Some(Verdict::Unclear("it was deleted".into())));
}
