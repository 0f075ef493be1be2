//! What a sandbox tells those in it about itself: a file that programs and people can read.
//!
//! It is an annotation of the pod that the kubelet puts into a file: no request, no agent, and it is there in images
//! without a shell. Only what never changes is in it; the ttl, for one, is not.

use api::{Effective, Gpu, Network, names};
use k8s_openapi::{
    api::core::v1::{
        DownwardAPIVolumeFile, DownwardAPIVolumeSource, ObjectFieldSelector, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde::Serialize;

use super::setup;

const VOLUME: &str = "machine";
/// The file in the volume.
const FILE: &str = "codesandbox.json";
/// And the one with the resolvers.
const RESOLVERS: &str = "resolv.conf";

/// The machine, in the words of the sandbox's spec.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Machine<'a> {
    /// None of a pool's pod, which is nobody's yet; the file does not change when it becomes a sandbox's.
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    cpu: &'a Quantity,
    memory: &'a Quantity,
    ephemeral_storage: &'a Quantity,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<&'a Gpu>,
    network: Network,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_class_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout: Option<&'a api::Duration>,
    working_dir: &'a str,
    writable: [&'static str; 3],
    /// Those that stay when the pod is replaced or suspended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    persistent: Vec<&'static str>,
}

/// The annotation that holds it.
pub(super) fn annotation(name: &str, effective: &Effective) -> (&'static str, String) {
    let machine = Machine {
        name,
        cpu: &effective.cpu,
        memory: &effective.memory,
        ephemeral_storage: &effective.ephemeral_storage,
        gpu: effective.gpu.as_ref(),
        network: Network {
            egress: Some(effective.egress),
            allow: (!effective.allow.is_empty()).then(|| effective.allow.clone()),
            ports: (!effective.ports.is_empty()).then(|| effective.ports.clone()),
        },
        runtime_class_name: effective.runtime_class_name.as_deref(),
        idle_timeout: effective.idle_timeout.as_ref(),
        working_dir: &effective.working_dir,
        writable: [names::WORKSPACE, names::HOME, "/tmp"],
        persistent: super::volumes::kept(effective),
    };
    let text = serde_json::to_string_pretty(&machine).expect("strings and numbers are JSON");
    (names::MACHINE, text + "\n")
}

pub(super) fn volume(effective: &Effective) -> Volume {
    let file = |path: &str, annotation: &str| DownwardAPIVolumeFile {
        path: path.into(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{annotation}']"),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let resolvers = setup::resolv_conf(effective).map(|_| file(RESOLVERS, names::RESOLV_CONF));
    Volume {
        name: VOLUME.into(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some([file(FILE, names::MACHINE)].into_iter().chain(resolvers).collect()),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    }
}

pub(super) fn mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.into(),
        mount_path: names::MACHINE_FILE.into(),
        sub_path: Some(FILE.into()),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// The resolvers of the sandbox's container, where its pod's are not for it.
pub(super) fn resolvers(effective: &Effective) -> Option<VolumeMount> {
    setup::resolv_conf(effective).map(|_| VolumeMount {
        name: VOLUME.into(),
        mount_path: "/etc/resolv.conf".into(),
        sub_path: Some(RESOLVERS.into()),
        read_only: Some(true),
        ..VolumeMount::default()
    })
}
