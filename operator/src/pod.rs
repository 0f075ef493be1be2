//! The pod a sandbox runs in.

use std::{collections::BTreeMap, time::Duration};

use api::{
    CodeSandbox, CodeSandboxTemplate, Effective, Egress, OpenPort, PortRange, Protocol, names,
    quantity,
};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, LocalObjectReference, Pod, PodDNSConfig, PodSecurityContext,
        PodSpec, ResourceRequirements, SeccompProfile, SecurityContext, Toleration,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use kube::{Resource, ResourceExt};

use crate::{
    config::Config,
    injection::Way,
    template::{self, patch},
};

pub(crate) mod agent;
mod env;
mod machine;
mod nodes;
pub(crate) mod setup;
mod volumes;

/// The user and group of everything in a sandbox: "nobody" of distroless images, and nobody's in others.
const USER: i64 = 65532;
/// How long the agent has to end what runs when the pod is deleted. Nothing in a sandbox is worth waiting longer for.
const GRACE_SECONDS: i64 = 5;
/// How long the pod stays bound to a node that is not heard of; Kubernetes' own 300 s are an eternity for an agent.
const LOST_NODE_SECONDS: i64 = 30;
/// Where resolvers are asked.
const RESOLVER_PORT: u16 = 53;

/// The labels by which a sandbox's pod is watched, selected and isolated. Nothing of the user's is among them.
pub(crate) fn labels(sandbox: &CodeSandbox, config: &Config) -> BTreeMap<String, String> {
    [
        (names::MANAGED_BY, names::MANAGER.into()),
        (names::INSTANCE, config.instance.clone()),
        (names::SANDBOX, sandbox.name_any()),
        (names::SANDBOX_UID, sandbox.uid().unwrap_or_default()),
        // Istio reads the label, and before 1.20 the annotation. A sidecar would be refused by Pod Security at
        // best and be a way out of the sandbox at worst.
        ("sidecar.istio.io/inject", "false".into()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Whose a sandbox is and of which class, as annotations of what may outlive it and has no owner to say so.
pub(crate) fn whose(sandbox: &CodeSandbox) -> BTreeMap<String, String> {
    let owner = sandbox.annotations().get_key_value(names::OWNER);
    let owner = owner.map(|(key, owner)| (key.clone(), owner.clone()));
    let class = (names::CLASS.to_owned(), sandbox.spec.class_name.clone());
    owner.into_iter().chain([class]).collect()
}

/// The reference that makes an object go when its sandbox goes.
pub(crate) fn owner(sandbox: &CodeSandbox) -> Option<Vec<OwnerReference>> {
    let owner = sandbox.controller_owner_ref(&())?;
    Some(vec![OwnerReference { block_owner_deletion: Some(true), ..owner }])
}

/// Whether an object was made for this very sandbox, not for a namesake or by somebody else.
pub(crate) fn is_owned(object: &ObjectMeta, sandbox: &CodeSandbox) -> bool {
    let owners = object.owner_references.iter().flatten();
    sandbox.metadata.uid.is_some()
        && owners
            .filter(|owner| owner.controller == Some(true))
            .any(|owner| Some(&owner.uid) == sandbox.metadata.uid.as_ref())
}

/// Whether a pod bears our labels of this sandbox. Anybody who makes pods may name it as their owner, but the admission
/// policy lets nobody but an operator give these.
pub(crate) fn is_marked(pod: &ObjectMeta, sandbox: &CodeSandbox) -> bool {
    let (name, uid) = (sandbox.name_any(), sandbox.uid().unwrap_or_default());
    let marks = [
        (names::MANAGED_BY, names::MANAGER),
        (names::SANDBOX, &*name),
        (names::SANDBOX_UID, &*uid),
    ];
    let labels = pod.labels.as_ref();
    marks.iter().all(|(key, value)| {
        labels.and_then(|labels| labels.get(*key)).is_some_and(|label| label == value)
    })
}

/// The pod for an attempt.
pub(crate) fn pod(sandbox: &CodeSandbox, config: &Config, way: Way, attempt: u32) -> Pod {
    let mut metadata = metadata(names::pod(&sandbox.name_any(), attempt), sandbox, config);
    let effective = sandbox.effective();
    let (name, machine) = machine::annotation(&sandbox.name_any(), &effective);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(name.into(), machine);
    if let Some(resolvers) = setup::resolv_conf(&effective) {
        annotations.insert(names::RESOLV_CONF.into(), resolvers.into());
    }
    let lifetime = lifetime(sandbox, config);
    let mut spec = spec(&effective, config, way, lifetime);
    spec.volumes = Some(volumes::volumes(&sandbox.name_any(), &effective, config, way));
    let pod = patch::patched(Pod { metadata, spec: Some(spec), status: None }, sandbox);
    match &effective.gpu {
        Some(gpu) => nodes::only_with(gpu, pod),
        None => pod,
    }
}

/// A pod as sandboxes of a template would have it, to see whether the API server takes it.
pub(crate) fn trial(template: &CodeSandboxTemplate, config: &Config) -> Pod {
    let mut sandbox = template::undemanding(template::bound(template));
    sandbox.metadata = ObjectMeta {
        name: template.metadata.name.clone(),
        namespace: template.namespace(),
        uid: template.uid(),
        ..ObjectMeta::default()
    };
    let mut pod = pod(&sandbox, config, Way::InitContainer, 1);
    pod.metadata.name = Some(names::trial(&template.name_any()));
    // There is no CodeSandbox whose it would be.
    pod.metadata.owner_references = None;
    pod
}

/// How long a pod may run at most: what the operator or the template says, whichever is shorter.
fn lifetime(sandbox: &CodeSandbox, config: &Config) -> Duration {
    let template = sandbox.status.as_ref().and_then(|status| status.template.as_ref());
    let max = template.and_then(|template| template.spec.allow.max.as_ref()?.lifetime.as_ref());
    max.map_or(config.max_lifetime, |max| max.as_std().min(config.max_lifetime))
}

/// The metadata of a pod of a sandbox.
pub(crate) fn metadata(name: String, sandbox: &CodeSandbox, config: &Config) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: sandbox.namespace(),
        labels: Some(labels(sandbox, config)),
        annotations: Some(
            [("sidecar.istio.io/inject", "false"), ("linkerd.io/inject", "disabled")]
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
        ),
        owner_references: owner(sandbox),
        ..ObjectMeta::default()
    }
}

fn spec(effective: &Effective, config: &Config, way: Way, lifetime: Duration) -> PodSpec {
    // A pod has but one resolv.conf. Where the setup needs another than the sandbox, that of the sandbox is mounted.
    let (dns_policy, dns_config) = dns(effective.setup_egress(), config);
    let installer = match way {
        Way::ImageVolume => None,
        Way::InitContainer => Some(agent::installer(effective, config)),
    };
    let setup = effective.setup.as_ref().map(|setup| setup::container(effective, setup, config));
    let first: Vec<_> = installer.into_iter().chain(setup).collect();
    PodSpec {
        active_deadline_seconds: i64::try_from(lifetime.as_secs()).ok(),
        containers: vec![container(effective, config)],
        dns_config,
        dns_policy: Some(dns_policy.into()),
        init_containers: (!first.is_empty()).then_some(first),
        // After an OOM kill the container starts again in place, with its files; after exit 0 it does not.
        restart_policy: Some("OnFailure".into()),
        ..hardened(effective)
    }
}

/// What every pod of a sandbox has in common, whatever runs in it.
pub(crate) fn hardened(effective: &Effective) -> PodSpec {
    let secrets = effective.image_pull_secrets.iter();
    let secrets: Vec<_> =
        secrets.map(|secret| LocalObjectReference { name: secret.name.clone() }).collect();
    PodSpec {
        automount_service_account_token: Some(false),
        // Service links would tell the sandbox about every Service of its namespace.
        enable_service_links: Some(false),
        hostname: Some(names::CONTAINER.into()),
        image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
        runtime_class_name: effective.runtime_class_name.clone(),
        security_context: Some(PodSecurityContext {
            fs_group: Some(USER),
            run_as_group: Some(USER),
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        tolerations: Some(tolerations(effective)),
        ..PodSpec::default()
    }
}

/// What every container of a sandbox's pods is held to.
pub(crate) fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            ..Capabilities::default()
        }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

fn container(effective: &Effective, config: &Config) -> Container {
    let policy = effective.image_pull_policy.or(config.sandbox_image_pull_policy);
    Container {
        name: names::CONTAINER.into(),
        image: Some(effective.image.clone().unwrap_or_else(|| config.sandbox_image.clone())),
        image_pull_policy: policy.map(|policy| policy.as_str().into()),
        command: Some(vec![names::AGENT.into(), "serve".into()]),
        working_dir: Some(effective.working_dir.clone()),
        env: Some(env::env(effective, config)),
        resources: Some(requirements(limits(effective), config)),
        security_context: Some(restricted()),
        // Not FallbackToLogsOnError: what user code printed does not belong into an object many may read.
        termination_message_policy: Some("File".into()),
        volume_mounts: Some(
            volumes::mounts(effective).into_iter().chain(machine::resolvers(effective)).collect(),
        ),
        ..Container::default()
    }
}

fn limits(effective: &Effective) -> BTreeMap<String, Quantity> {
    let mut limits = effective.resources();
    if let Some(gpu) = &effective.gpu {
        limits.insert(gpu.resource.clone(), Quantity(gpu.count.to_string()));
    }
    limits
}

/// Memory and disk are reserved whole, so that a sandbox is not the first to be evicted. Of its CPU only a part is:
/// sandboxes idle most of the time, and CPU, unlike memory, can be taken back.
pub(crate) fn requirements(
    limits: BTreeMap<String, Quantity>,
    config: &Config,
) -> ResourceRequirements {
    let mut requests = limits.clone();
    if let Some(cpu) =
        limits.get("cpu").and_then(|cpu| part_of_cpu(cpu, config.cpu_request_percent))
    {
        requests.insert("cpu".into(), cpu);
    }
    ResourceRequirements {
        limits: Some(limits),
        requests: Some(requests),
        ..ResourceRequirements::default()
    }
}

/// A part of a CPU quantity, in thousandths and at least one; none where it is not written as processors usually are.
fn part_of_cpu(cpu: &Quantity, percent: u8) -> Option<Quantity> {
    let milli = quantity::of(cpu)?;
    Some(Quantity(format!("{}m", (milli * f64::from(percent) / 100.0).ceil().max(1.0))))
}

fn tolerations(effective: &Effective) -> Vec<Toleration> {
    let lost =
        ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|key| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            toleration_seconds: Some(LOST_NODE_SECONDS),
            ..Toleration::default()
        });
    // Nodes with GPUs are usually tainted with the resource's name, which not every cluster's admission tolerates.
    let gpu = effective.gpu.as_ref().map(|gpu| Toleration {
        key: Some(gpu.resource.clone()),
        operator: Some("Exists".into()),
        effect: Some("NoSchedule".into()),
        ..Toleration::default()
    });
    lost.into_iter().chain(gpu).collect()
}

/// How names are resolved. Under Deny a resolver that is dropped hangs programs for ten seconds; on 127.0.0.1 there is
/// only the agent, which refuses them at once and tells of it. Under Internet the cluster's resolver is out of reach (and
/// tells too much), so it is the administrator's servers, or else the node's, which work where they are public.
fn dns(egress: Egress, config: &Config) -> (&'static str, Option<PodDNSConfig>) {
    let servers = match egress {
        Egress::Deny => return ("None", Some(no_dns())),
        Egress::Internet if config.dns_servers.is_empty() => return ("Default", None),
        // The API takes three.
        Egress::Internet => config.dns_servers.iter().take(3).map(ToString::to_string).collect(),
    };
    ("None", Some(PodDNSConfig { nameservers: Some(servers), ..PodDNSConfig::default() }))
}

/// A resolver that resolves nothing.
pub(crate) fn no_dns() -> PodDNSConfig {
    PodDNSConfig { nameservers: Some(vec!["127.0.0.1".into()]), ..PodDNSConfig::default() }
}

/// Whether the agent is the resolver of what runs in a sandbox. It leaves that port to those who have it opened, and to who
/// may ask a resolver elsewhere and perhaps does so from there; names fail there for want of anybody.
fn refuses_names(effective: &Effective) -> bool {
    let own = |open: &OpenPort| {
        open.port == RESOLVER_PORT && open.protocol.unwrap_or_default() == Protocol::Udp
    };
    let elsewhere = |ports: &PortRange| {
        (ports.port..=ports.end_port.unwrap_or(ports.port)).contains(&RESOLVER_PORT)
            && ports.protocol.unwrap_or_default() == Protocol::Udp
    };
    effective.egress == Egress::Deny
        && !effective.ports.iter().any(own)
        && !effective.allow.iter().flat_map(|place| &place.ports).any(elsewhere)
}

#[cfg(test)]
mod tests;
