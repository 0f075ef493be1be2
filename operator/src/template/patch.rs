//! What a template adds to the pods of its sandboxes: what may be in it, and how it is merged.

use api::{CodeSandbox, CodeSandboxTemplateSpec, PodPatch, names};
use k8s_openapi::{
    DeepMerge,
    api::core::v1::{Pod, PodTemplateSpec},
};
use serde_json::{Map, Value};

/// What of a pod's spec decides where it runs, and nothing else. All of it may be patched.
const PLACING: [&str; 7] = [
    "affinity",
    "nodeSelector",
    "preemptionPolicy",
    "priorityClassName",
    "schedulerName",
    "tolerations",
    "topologySpreadConstraints",
];
/// What begins the labels that are ours.
const OURS: [&str; 3] = ["codesandbox.dev/", names::MANAGED_BY, names::INSTANCE];

/// What is wrong with a template's patch.
pub(crate) fn check(template: &CodeSandboxTemplateSpec) -> Result<(), String> {
    let Some(patch) = &template.pod_patch else { return Ok(()) };
    let read = patch.read()?;
    let read = serde_json::to_value(&read).map_err(|error| error.to_string())?;
    if let Some(path) = lost(&Value::Object(patch.0.clone()), &read, "podPatch") {
        return Err(format!("{path} is no field of a pod, or empty"));
    }
    let metadata = part(patch, "metadata");
    only(&metadata, &["annotations", "labels"], "podPatch.metadata")?;
    for kind in ["labels", "annotations"] {
        let keys = metadata.get(kind).and_then(Value::as_object).into_iter().flat_map(Map::keys);
        for key in keys {
            let power = !template.trusted && kind == "annotations" && is_power(key);
            if power || OURS.iter().any(|ours| key.starts_with(ours)) {
                return Err(format!(
                    "podPatch.metadata.{kind}: {key} is not the template's to set"
                ));
            }
        }
    }
    if template.trusted {
        return Ok(());
    }
    let mut spec = part(patch, "spec");
    // Users of the pod's own: it takes something from the pod, and is nobody's to fear.
    if spec.get("hostUsers") == Some(&Value::Bool(false)) {
        spec.remove("hostUsers");
    }
    only(&spec, &PLACING, "podPatch.spec")
        .map_err(|wrong| format!("{wrong}, unless the template is trusted"))
}

/// What the domains of annotations have in them by which runtimes are told profiles and settings, and network plugins further
/// interfaces, which no policy closes.
const POWERS: [&str; 7] = ["security", "cni", "network", "kata", "gvisor", "crio", "containerd"];

/// Whether more follows from an annotation than where a pod runs.
fn is_power(key: &str) -> bool {
    // Kata's have no domain.
    key.split('/').next().is_some_and(|domain| POWERS.iter().any(|power| domain.contains(power)))
}

fn part(patch: &PodPatch, name: &str) -> Map<String, Value> {
    patch.0.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn only(part: &Map<String, Value>, allowed: &[&str], path: &str) -> Result<(), String> {
    match part.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(format!("{path} has {key}; it may have {}", allowed.join(", "))),
        None => Ok(()),
    }
}

/// The first thing in a value that is not in what was read of it.
fn lost(given: &Value, read: &Value, path: &str) -> Option<String> {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => {
            given.iter().find_map(|(key, value)| match read.get(key) {
                Some(read) => lost(value, read, &format!("{path}.{key}")),
                None => Some(format!("{path}.{key}")),
            })
        }
        (Value::Array(given), Value::Array(read)) => {
            let mut pairs = given.iter().zip(read).enumerate();
            pairs.find_map(|(index, (given, read))| lost(given, read, &format!("{path}[{index}]")))
        }
        _ => None,
    }
}

/// A sandbox's pod with what its template adds. Who it is and that the agent runs in it is nobody's to change.
pub(crate) fn patched(pod: Pod, sandbox: &CodeSandbox) -> Pod {
    let template = sandbox.status.as_ref().and_then(|status| status.template.as_ref());
    let patch = template.and_then(|template| template.spec.pod_patch.as_ref());
    // One that cannot be read was not accepted, and no sandbox is bound to it.
    match patch.and_then(|patch| patch.read().ok()) {
        Some(patch) => merged(pod, patch),
        None => pod,
    }
}

fn merged(mut pod: Pod, patch: PodTemplateSpec) -> Pod {
    if let Some(theirs) = patch.metadata {
        let metadata = &mut pod.metadata;
        for (ours, theirs) in
            [(&mut metadata.labels, theirs.labels), (&mut metadata.annotations, theirs.annotations)]
        {
            let ours = ours.get_or_insert_default();
            for (key, value) in theirs.into_iter().flatten() {
                ours.entry(key).or_insert(value);
            }
        }
    }
    let (Some(spec), Some(mut theirs)) = (&mut pod.spec, patch.spec) else { return pod };
    // A list without keys would take the place of ours, which say how soon a lost node is given up.
    let tolerations = theirs.tolerations.take();
    let commands: Vec<_> =
        spec.containers.iter().map(|one| (one.name.clone(), one.command.clone())).collect();
    spec.merge_from(theirs);
    spec.tolerations.get_or_insert_default().extend(tolerations.into_iter().flatten());
    for (name, command) in commands {
        if let Some(container) = spec.containers.iter_mut().find(|one| one.name == name) {
            container.command = command;
        }
    }
    pod
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Toleration;
    use serde_json::json;

    use super::*;
    use crate::{
        injection::Way,
        pod,
        testing::{bound, config, sandbox},
    };

    fn template(patch: &Value, trusted: bool) -> CodeSandboxTemplateSpec {
        serde_json::from_value(json!({"podPatch": patch, "trusted": trusted})).unwrap()
    }

    #[test]
    fn only_where_a_pod_runs_is_a_template_to_say_unless_it_is_trusted() {
        let placing = json!({"metadata": {"labels": {"team": "a"}, "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}},
            "spec": {"nodeSelector": {"gpu": "a100"}, "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "priorityClassName": "low", "schedulerName": "other", "affinity": {"nodeAffinity": {}}}});
        assert_eq!(check(&template(&placing, false)), Ok(()));
        assert_eq!(check(&template(&json!({"spec": {"hostUsers": false}}), false)), Ok(()));
        for spec in [
            json!({"hostNetwork": true}),
            json!({"hostUsers": true}),
            json!({"serviceAccountName": "admin"}),
            json!({"securityContext": {"runAsUser": 0}}),
            json!({"containers": [{"name": "sandbox", "securityContext": {"privileged": true}}]}),
            json!({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
            json!({"runtimeClassName": "runc"}),
            json!({"nodeName": "a"}),
            json!({"dnsPolicy": "ClusterFirst"}),
        ] {
            let patch = json!({"spec": spec});
            let wrong = check(&template(&patch, false)).unwrap_err();
            assert!(wrong.contains("unless the template is trusted"), "{spec}: {wrong}");
            assert_eq!(check(&template(&patch, true)), Ok(()), "{spec}");
        }
    }

    #[test]
    fn nobody_patches_our_labels_or_what_is_no_field() {
        for (patch, trusted, wrong) in [
            (
                json!({"metadata": {"labels": {"codesandbox.dev/sandbox": "a"}}}),
                true,
                "not the template's to set",
            ),
            (
                json!({"metadata": {"labels": {"app.kubernetes.io/instance": "a"}}}),
                true,
                "not the template's to set",
            ),
            (
                json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/sandbox": "unconfined"}}}),
                false,
                "not the template's to set",
            ),
            (
                json!({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "host"}}}),
                false,
                "not the template's to set",
            ),
            (
                json!({"metadata": {"annotations": {"io.katacontainers.config.hypervisor.kernel_params": "x"}}}),
                false,
                "not the template's to set",
            ),
            (json!({"metadata": {"name": "a"}}), true, "podPatch.metadata has name"),
            (
                json!({"spec": {"nodeSelektor": {"a": "b"}}}),
                false,
                "podPatch.spec.nodeSelektor is no field",
            ),
            (
                json!({"spec": {"containers": [{"name": "sandbox", "envs": []}]}}),
                true,
                "podPatch.spec.containers[0].envs is no field",
            ),
            (json!({"spec": {"nodeSelector": 7}}), false, "invalid type"),
            (json!({"status": {}}), true, "podPatch.status is no field"),
        ] {
            let said = check(&template(&patch, trusted)).unwrap_err();
            assert!(said.contains(wrong), "{patch}: {said}");
        }
    }

    #[test]
    fn a_patch_is_merged_and_takes_nothing_away() {
        let mut sandbox = sandbox();
        let before = pod::pod(&sandbox, &config(), Way::ImageVolume, 1);
        let patch = json!({
            "metadata": {"labels": {"team": "a", "codesandbox.dev/sandbox": "evil"}, "annotations": {"linkerd.io/inject": "enabled"}},
            "spec": {"nodeSelector": {"gpu": "a100"}, "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "containers": [{"name": "sandbox", "command": ["sh"], "securityContext": {"readOnlyRootFilesystem": false},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                "volumes": [{"name": "data", "emptyDir": {}}]}});
        sandbox.status = Some(bound(&json!({"podPatch": patch, "trusted": true})));
        let after = pod::pod(&sandbox, &config(), Way::ImageVolume, 1);

        let mut expected = before.clone();
        expected.metadata.labels.as_mut().unwrap().insert("team".into(), "a".into());
        let spec = expected.spec.as_mut().unwrap();
        spec.node_selector = Some([("gpu".to_owned(), "a100".to_owned())].into());
        let toleration = json!({"key": "gpu", "operator": "Exists"});
        let toleration: Toleration = serde_json::from_value(toleration).unwrap();
        spec.tolerations.as_mut().unwrap().push(toleration);
        let container = &mut spec.containers[0];
        container.security_context.as_mut().unwrap().read_only_root_filesystem = Some(false);
        let mount = json!({"name": "data", "mountPath": "/data"});
        container.volume_mounts.as_mut().unwrap().push(serde_json::from_value(mount).unwrap());
        let volume = json!({"name": "data", "emptyDir": {}});
        spec.volumes.as_mut().unwrap().push(serde_json::from_value(volume).unwrap());
        assert_eq!(after, expected);
    }
}
