//! The agent's part in a pod: the volume it is in, and the init container that puts it there.

use api::{Effective, names};
use k8s_openapi::{
    api::core::v1::{Container, EmptyDirVolumeSource, ImageVolumeSource, Pod, Volume, VolumeMount},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{requirements, restricted};
use crate::{config::Config, injection::Way};

/// The name of the volume that holds the agent. The kubelet's messages name it.
const VOLUME: &str = "agent";
/// What the volume may take where the agent is copied into it; it has less than 10 MiB.
const LIMIT: &str = "64Mi";
/// Where the agent is in its own image.
const IN_IMAGE: &str = "/agent";

pub(crate) fn volume(way: Way, config: &Config) -> Volume {
    let volume = Volume { name: VOLUME.into(), ..Volume::default() };
    match way {
        Way::ImageVolume => Volume {
            image: Some(ImageVolumeSource {
                reference: Some(config.agent_image.clone()),
                pull_policy: config.agent_image_pull_policy.map(|policy| policy.as_str().into()),
            }),
            ..volume
        },
        Way::InitContainer => Volume {
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(LIMIT.into())),
                ..EmptyDirVolumeSource::default()
            }),
            ..volume
        },
    }
}

pub(crate) fn mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.into(),
        mount_path: names::AGENT_DIR.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// The container that installs the agent. It has the resources of the sandbox's own, which costs nothing: a pod reserves
/// the larger of the two, and what a namespace's limits allow the one they allow the other.
pub(super) fn installer(effective: &Effective, config: &Config) -> Container {
    Container {
        name: names::INSTALL_CONTAINER.into(),
        image: Some(config.agent_image.clone()),
        image_pull_policy: config.agent_image_pull_policy.map(|policy| policy.as_str().into()),
        command: Some([IN_IMAGE, "install", names::AGENT_DIR].map(Into::into).into()),
        resources: Some(requirements(effective.resources(), config)),
        security_context: Some(restricted()),
        // Nothing of a user's runs in it, so that its words are the agent's.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(vec![VolumeMount { read_only: None, ..mount() }]),
        ..Container::default()
    }
}

/// Whether a pod has the agent by an image volume.
pub(crate) fn has_image_volume(pod: &Pod) -> bool {
    volumes(pod).any(|volume| volume.image.is_some())
}

/// What a runtime says of a program whose arguments and variables are more than the kernel takes, and those are the user's.
const TOO_LONG: &str = "argument list too long";

/// Whether the kubelet speaks of the agent's volume, its image or its program, and not of what is the user's.
pub(crate) fn is_meant(pod: &Pod, said: &str) -> bool {
    if said.contains(TOO_LONG) {
        return false;
    }
    let mounted = volumes(pod).find_map(|volume| volume.image.as_ref()?.reference.as_deref());
    let installed = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let image = mounted.or_else(|| {
        installed
            .filter(|one| one.name == names::INSTALL_CONTAINER)
            .find_map(|one| one.image.as_deref())
    });
    let quoted = format!("volume \"{VOLUME}\"");
    [Some(names::AGENT_DIR), image, Some(&*quoted)].iter().flatten().any(|mark| said.contains(mark))
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(|volume| volume.name == VOLUME)
}
