//! The container that does what a sandbox is to be set up with, and what is known of how far it is.

use api::{CodeSandbox, Effective, Setup, names};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, ContainerStatus, EnvVar, KeyToPath, Pod, ProjectedVolumeSource,
    SecretKeySelector, Volume, VolumeMount, VolumeProjection,
};
use serde::Serialize;
use serde_json::json;

use super::{env, requirements, volumes};
use crate::{config::Config, network::internet, status, termination::ends};

/// How long a setup may take that says nothing of it.
const TIMEOUT: std::time::Duration = std::time::Duration::from_mins(5);
/// The volume that has what ConfigMaps say.
const FILES: &str = "setup-files";
/// The sandbox's resolvers where its setup has others: none, so that names fail at once.
const NO_RESOLVERS: &str = "nameserver 127.0.0.1\n";

/// The container, before the sandbox's own and with all that it has but GPUs, which another pod's would wait for.
pub(super) fn container(effective: &Effective, setup: &Setup, config: &Config) -> Container {
    let mut container = super::container(effective, config);
    let kept = internet::kept_without(effective, config);
    let kept = (effective.setup_opens() && !kept.is_empty()).then(|| json!(kept).to_string());
    let kept = kept.map(|kept| env::value(names::SETUP_KEPT_ENV, &kept));
    let plan = env::value(names::SETUP_ENV, &plan(effective, setup));
    let told = [plan].into_iter().chain(kept).chain(contents(setup)).chain(credentials(setup));
    container.env.get_or_insert_default().extend(told);
    let files = volume(effective).map(|_| VolumeMount {
        name: FILES.into(),
        mount_path: names::SETUP_FILES_DIR.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    Container {
        name: names::SETUP_CONTAINER.into(),
        command: Some(vec![names::AGENT.into(), "setup".into()]),
        resources: Some(requirements(effective.resources(), config)),
        // The resolvers are the pod's.
        volume_mounts: Some(volumes::mounts(effective).into_iter().chain(files).collect()),
        ..container
    }
}

/// What the agent is told. It knows by these words what has been done on a disk, so that what is not asked for is not among them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan<'a> {
    auto: bool,
    commands: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<Repository<'a>>,
    opens: bool,
    timeout_ms: u128,
}

#[derive(Debug, Serialize)]
struct Repository<'a> {
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    depth: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<&'a str>,
}

/// A file, and where its content is unless in a variable.
#[derive(Debug, Serialize)]
struct File<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

fn plan(effective: &Effective, setup: &Setup) -> String {
    let timeout = setup.timeout.as_ref().map_or(TIMEOUT, api::Duration::as_std);
    let files = setup.files.iter().enumerate().map(|(number, file)| {
        let mounted = file.config_map_key_ref.as_ref();
        let from = mounted.map(|_| format!("{}/{number}", names::SETUP_FILES_DIR));
        File { path: &file.path, from }
    });
    let git = setup.git.as_ref().map(|git| Repository {
        url: &git.url,
        revision: git.revision.as_deref(),
        depth: git.depth.unwrap_or(1),
        directory: git.directory.as_deref(),
    });
    let plan = Plan {
        auto: setup.auto == Some(true),
        commands: &setup.commands,
        files: files.collect(),
        git,
        opens: effective.setup_opens(),
        timeout_ms: timeout.as_millis(),
    };
    serde_json::to_string(&plan).expect("strings and numbers are JSON")
}

/// What files are to say that say it in the spec. By variables: they are the container's alone, and need no object.
fn contents(setup: &Setup) -> impl Iterator<Item = EnvVar> {
    setup.files.iter().enumerate().filter_map(|(number, file)| {
        let name = format!("{}{number}", names::SETUP_FILE_ENV);
        file.content.as_ref().map(|content| env::value(&name, content))
    })
}

/// Who is cloning.
fn credentials(setup: &Setup) -> impl Iterator<Item = EnvVar> {
    let secret = setup.git.iter().filter_map(|git| git.secret_ref.as_ref());
    secret.flat_map(|secret| {
        names::GIT_ENV.map(|(key, name)| {
            let (key, secret) = (key.into(), secret.name.clone());
            let key = SecretKeySelector { name: secret, key, ..SecretKeySelector::default() };
            env::of_secret(name, key)
        })
    })
}

/// What ConfigMaps say, each file by its number, where there are such.
pub(super) fn volume(effective: &Effective) -> Option<Volume> {
    let files = effective.setup.iter().flat_map(|setup| setup.files.iter().enumerate());
    let sources = files.filter_map(|(number, file)| {
        let of = file.config_map_key_ref.as_ref()?;
        let item =
            KeyToPath { key: of.key.clone(), path: number.to_string(), ..KeyToPath::default() };
        let config_map = ConfigMapProjection {
            name: of.name.clone(),
            items: Some(vec![item]),
            ..ConfigMapProjection::default()
        };
        Some(VolumeProjection { config_map: Some(config_map), ..VolumeProjection::default() })
    });
    let sources: Vec<_> = sources.collect();
    (!sources.is_empty()).then(|| Volume {
        name: FILES.into(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    })
}

/// What the sandbox's container is to find in `/etc/resolv.conf`, where that is not the pod's, which is the setup's.
pub(super) fn resolv_conf(effective: &Effective) -> Option<&'static str> {
    effective.setup_opens().then_some(NO_RESOLVERS)
}

/// The status of a pod's setup, where it has one and that is known.
pub(crate) fn status_of(pod: &Pod) -> Option<&ContainerStatus> {
    status::init_container(pod, names::SETUP_CONTAINER)
}

/// Whether nothing of a pod's setup runs any more, and will not again. What a node says of it may be forgotten, that the
/// sandbox's own container has been started is not.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let has_one = pod.spec.as_ref().is_some_and(|spec| {
        spec.init_containers.iter().flatten().any(|one| one.name == names::SETUP_CONTAINER)
    });
    let done = |status: &ContainerStatus| ends(status).any(|end| end.exit_code == 0);
    let started = |status: &ContainerStatus| {
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        running || ends(status).next().is_some()
    };
    !has_one || status_of(pod).is_some_and(done) || status::container(pod).is_some_and(started)
}

/// Whether a pod's setup has been done on the sandbox's own disk, where nothing of it has to be done again.
pub(crate) fn is_done_for_good(sandbox: &CodeSandbox, pod: &Pod) -> bool {
    let effective = sandbox.effective();
    effective.setup.is_some() && effective.workspace.is_some() && is_over(pod)
}
