//! What a sandbox may write to, and where what it reads comes from.

use api::{Effective, names};
use k8s_openapi::{
    api::core::v1::{EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, Volume, VolumeMount},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{agent, machine, setup};
use crate::{config::Config, injection::Way};

/// What the logs of runs may take: the agent keeps them far below.
const RUNS_LIMIT: &str = "256Mi";
/// The volume of the workspace, which is the sandbox's disk where it has one.
const DISK: &str = "workspace";

/// A directory that a sandbox may write to.
struct Directory {
    /// Its volume's name, or that of its part of the disk.
    name: &'static str,
    path: &'static str,
    /// How large it may be, where that is not the sandbox's to say.
    limit: Option<&'static str>,
    /// Whether it is on the disk of a sandbox that has one.
    kept: bool,
}

const DIRECTORIES: [Directory; 4] = [
    Directory { name: DISK, path: names::WORKSPACE, limit: None, kept: true },
    Directory { name: "tmp", path: "/tmp", limit: None, kept: false },
    Directory { name: "home", path: names::HOME, limit: None, kept: true },
    // What is in there is of the pod's own runs, and no other pod would know them.
    Directory { name: "runs", path: names::RUNS_DIR, limit: Some(RUNS_LIMIT), kept: false },
];

/// The directories that outlive the pods of a sandbox.
pub(super) fn kept(effective: &Effective) -> Vec<&'static str> {
    let kept = DIRECTORIES.iter().filter(|one| effective.workspace.is_some() && one.kept);
    kept.map(|one| one.path).collect()
}

/// The volumes of the pod of a sandbox of this name.
pub(super) fn volumes(
    sandbox: &str,
    effective: &Effective,
    config: &Config,
    way: Way,
) -> Vec<Volume> {
    let disk = effective.workspace.as_ref().map(|_| Volume {
        name: DISK.into(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: names::workspace(sandbox),
            read_only: None,
        }),
        ..Volume::default()
    });
    let of_the_pod = DIRECTORIES.iter().filter(|one| disk.is_none() || !one.kept);
    let of_the_pod = of_the_pod.map(|one| Volume {
        name: one.name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(one.limit.map_or_else(
                || effective.ephemeral_storage.clone(),
                |limit| Quantity(limit.into()),
            )),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    });
    let of_the_pod: Vec<_> = of_the_pod.collect();
    [agent::volume(way, config), machine::volume(effective)]
        .into_iter()
        .chain(disk)
        .chain(of_the_pod)
        .chain(setup::volume(effective))
        .collect()
}

/// Where they are mounted. Of a disk each directory has a part: in its root there may be `lost+found`, and who clones a
/// repository into /workspace wants it empty.
pub(super) fn mounts(effective: &Effective) -> Vec<VolumeMount> {
    let directories = DIRECTORIES.iter().map(|one| {
        let on_disk = effective.workspace.is_some() && one.kept;
        VolumeMount {
            name: if on_disk { DISK } else { one.name }.into(),
            mount_path: one.path.into(),
            sub_path: on_disk.then(|| one.name.into()),
            ..VolumeMount::default()
        }
    });
    [agent::mount(), machine::mount()].into_iter().chain(directories).collect()
}
