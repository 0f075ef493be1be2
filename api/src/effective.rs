//! What a sandbox is in the end: its settings over its template's over the defaults.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{
    Duration, Egress, EnvVar, Gpu, ImagePullPolicy, LocalObjectReference, Network, OnIdle,
    OpenPort, Reach, Resources, RestartPolicy, Settings, Setup, Workspace, names,
};

/// How often a lost pod is replaced, where nothing is said of it.
const BACKOFF_LIMIT: u32 = 6;

/// How a sandbox is made, with nothing left open but what the operator or the cluster decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The container image; the operator's where there is none.
    pub image: Option<String>,
    /// When to pull it; as the operator says, or Kubernetes, where that is not said.
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets to pull it with.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Environment variables.
    pub env: Vec<EnvVar>,
    /// The directory in which commands start.
    pub working_dir: String,
    /// Processors.
    pub cpu: Quantity,
    /// Memory.
    pub memory: Quantity,
    /// Disk for files and logs.
    pub ephemeral_storage: Quantity,
    /// GPUs.
    pub gpu: Option<Gpu>,
    /// What it may reach.
    pub egress: Egress,
    /// What besides.
    pub allow: Vec<Reach>,
    /// Its ports that others may reach.
    pub ports: Vec<OpenPort>,
    /// A disk of its own.
    pub workspace: Option<Workspace>,
    /// What is done first.
    pub setup: Option<Setup>,
    /// The RuntimeClass; the cluster's runtime where there is none.
    pub runtime_class_name: Option<String>,
    /// How long it lives.
    pub ttl: Duration,
    /// How long nobody may use it.
    pub idle_timeout: Option<Duration>,
    /// What becomes of it then.
    pub on_idle: OnIdle,
    /// Whether a lost pod is replaced.
    pub restart_policy: RestartPolicy,
    /// How often.
    pub backoff_limit: u32,
    /// How long the object stays once it has finished.
    pub ttl_after_finished: Duration,
}

impl Effective {
    /// Processors, memory and disk by the names a container knows them by.
    pub fn resources(&self) -> BTreeMap<String, Quantity> {
        [
            ("cpu", &self.cpu),
            ("memory", &self.memory),
            ("ephemeral-storage", &self.ephemeral_storage),
        ]
        .map(|(name, quantity)| (name.to_owned(), quantity.clone()))
        .into()
    }

    /// Whether the setup may reach what the sandbox itself may not.
    pub fn setup_opens(&self) -> bool {
        let setup = self.setup.as_ref().and_then(|setup| setup.egress);
        self.egress == Egress::Deny && setup == Some(Egress::Internet)
    }

    /// What of the Internet is reached while the setup goes on.
    pub fn setup_egress(&self) -> Egress {
        if self.setup_opens() { Egress::Internet } else { self.egress }
    }
}

impl Settings {
    /// These settings, and the base's where they are silent. Of resources and variables each stands for itself.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        Self {
            image: self.image.or(base.image),
            image_pull_policy: self.image_pull_policy.or(base.image_pull_policy),
            image_pull_secrets: self.image_pull_secrets.or(base.image_pull_secrets),
            env: joined(self.env, base.env),
            working_dir: self.working_dir.or(base.working_dir),
            resources: match (self.resources, base.resources) {
                (Some(own), Some(base)) => Some(Resources {
                    cpu: own.cpu.or(base.cpu),
                    memory: own.memory.or(base.memory),
                    ephemeral_storage: own.ephemeral_storage.or(base.ephemeral_storage),
                }),
                (own, base) => own.or(base),
            },
            gpu: match (self.gpu, base.gpu) {
                // Of another resource the base's product and memory say nothing.
                (Some(own), Some(base)) if own.resource == base.resource => Some(Gpu {
                    product: own.product.or(base.product),
                    memory: own.memory.or(base.memory),
                    optional: own.optional.or(base.optional),
                    ..own
                }),
                (own, base) => own.or(base),
            },
            network: match (self.network, base.network) {
                (Some(own), Some(base)) => Some(Network {
                    egress: own.egress.or(base.egress),
                    allow: own.allow.or(base.allow),
                    ports: own.ports.or(base.ports),
                }),
                (own, base) => own.or(base),
            },
            workspace: match (self.workspace, base.workspace) {
                (Some(own), Some(base)) => Some(Workspace {
                    size: own.size,
                    storage_class_name: own.storage_class_name.or(base.storage_class_name),
                    retain: own.retain.or(base.retain),
                }),
                (own, base) => own.or(base),
            },
            setup: self.setup.or(base.setup),
            runtime_class_name: self.runtime_class_name.or(base.runtime_class_name),
            ttl: self.ttl.or(base.ttl),
            idle_timeout: self.idle_timeout.or(base.idle_timeout),
            on_idle: self.on_idle.or(base.on_idle),
            restart_policy: self.restart_policy.or(base.restart_policy),
            backoff_limit: self.backoff_limit.or(base.backoff_limit),
            ttl_after_finished: self.ttl_after_finished.or(base.ttl_after_finished),
        }
    }

    /// These settings, and the defaults where they are silent.
    pub fn complete(self) -> Effective {
        let resources = self.resources.unwrap_or_default();
        let network = self.network.unwrap_or_default();
        let quantity = |given: Option<Quantity>, default: &str| {
            given.unwrap_or_else(|| Quantity(default.into()))
        };
        Effective {
            image: self.image,
            image_pull_policy: self.image_pull_policy,
            image_pull_secrets: self.image_pull_secrets.unwrap_or_default(),
            env: self.env.unwrap_or_default(),
            working_dir: self.working_dir.unwrap_or_else(|| names::WORKSPACE.into()),
            cpu: quantity(resources.cpu, "1"),
            memory: quantity(resources.memory, "1Gi"),
            ephemeral_storage: quantity(resources.ephemeral_storage, "2Gi"),
            gpu: self.gpu,
            egress: network.egress.unwrap_or_default(),
            allow: network.allow.unwrap_or_default(),
            ports: network.ports.unwrap_or_default(),
            workspace: self.workspace,
            setup: self.setup,
            runtime_class_name: self.runtime_class_name,
            ttl: self.ttl.unwrap_or_else(|| "1h".into()),
            idle_timeout: self.idle_timeout,
            on_idle: self.on_idle.unwrap_or_default(),
            restart_policy: self.restart_policy.unwrap_or_default(),
            backoff_limit: self.backoff_limit.unwrap_or(BACKOFF_LIMIT),
            ttl_after_finished: self.ttl_after_finished.unwrap_or_else(|| "10m".into()),
        }
    }
}

/// The base's variables and one's own, which win over those of the same name.
fn joined(own: Option<Vec<EnvVar>>, base: Option<Vec<EnvVar>>) -> Option<Vec<EnvVar>> {
    let (own, base) = match (own, base) {
        (Some(own), Some(base)) => (own, base),
        (own, base) => return own.or(base),
    };
    let kept = base.into_iter().filter(|one| own.iter().all(|other| other.name != one.name));
    let mut all: Vec<_> = kept.collect();
    all.extend(own);
    Some(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(value: serde_json::Value) -> Settings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        let expected = Effective {
            image: None,
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            env: Vec::new(),
            working_dir: "/workspace".into(),
            cpu: Quantity("1".into()),
            memory: Quantity("1Gi".into()),
            ephemeral_storage: Quantity("2Gi".into()),
            gpu: None,
            egress: Egress::Deny,
            allow: Vec::new(),
            ports: Vec::new(),
            workspace: None,
            setup: None,
            runtime_class_name: None,
            ttl: "1h".into(),
            idle_timeout: None,
            on_idle: OnIdle::Delete,
            restart_policy: RestartPolicy::Recreate,
            backoff_limit: 6,
            ttl_after_finished: "10m".into(),
        };
        assert_eq!(Settings::default().complete(), expected);
    }

    #[test]
    fn each_thing_that_is_not_said_is_the_templates() {
        let base = settings(
            json!({"image": "base:1", "imagePullPolicy": "Never", "imagePullSecrets": [{"name": "base"}],
            "env": [{"name": "A", "value": "base"}, {"name": "B", "value": "base"}], "workingDir": "/base",
            "resources": {"cpu": "2", "memory": "2Gi", "ephemeralStorage": "3Gi"},
            "gpu": {"count": 1, "product": "base", "memory": "1Gi", "optional": true},
            "network": {"egress": "Internet", "allow": [{"cidr": "10.0.0.0/8"}], "ports": [{"port": 1, "from": [{"cidr": "10.0.0.0/8"}]}]},
            "workspace": {"size": "1Gi", "storageClassName": "base", "retain": true}, "onIdle": "Pause",
            "setup": {"commands": ["base"], "egress": "Internet"}, "runtimeClassName": "base", "ttl": "2h", "idleTimeout": "20m", "restartPolicy": "Never", "backoffLimit": 2,
            "ttlAfterFinished": "2m"}),
        );
        assert_eq!(Settings::default().over(base.clone()), base);

        let own = settings(
            json!({"image": "own:1", "imagePullPolicy": "Always", "imagePullSecrets": [{"name": "own"}],
            "env": [{"name": "B", "value": "own"}, {"name": "C", "value": "own"}], "workingDir": "/own",
            "resources": {"cpu": "1", "memory": "1Gi", "ephemeralStorage": "1Gi"},
            "gpu": {"count": 2, "product": "own", "memory": "2Gi", "optional": false},
            "network": {"egress": "Deny", "allow": [], "ports": []},
            "workspace": {"size": "2Gi", "storageClassName": "own", "retain": false}, "onIdle": "Delete",
            "setup": {"commands": ["own"]}, "runtimeClassName": "own", "ttl": "1h", "idleTimeout": "10m", "restartPolicy": "Recreate", "backoffLimit": 1,
            "ttlAfterFinished": "1m"}),
        );
        let mut expected = own.clone();
        expected.env =
            settings(json!({"env": [{"name": "A", "value": "base"}, {"name": "B", "value": "own"},
            {"name": "C", "value": "own"}]}))
            .env;
        assert_eq!(own.over(base.clone()), expected);

        let part = settings(
            json!({"resources": {"memory": "512Mi"}, "network": {}, "workspace": {"size": "3Gi"}, "gpu": {"count": 3}}),
        )
        .over(base.clone());
        let resources = json!({"cpu": "2", "memory": "512Mi", "ephemeralStorage": "3Gi"});
        assert_eq!(serde_json::to_value(part.resources).unwrap(), resources);
        assert_eq!(part.network, base.network);
        let workspace = json!({"size": "3Gi", "storageClassName": "base", "retain": true});
        assert_eq!(serde_json::to_value(part.workspace).unwrap(), workspace);
        let gpu = json!({"count": 3, "resource": "nvidia.com/gpu", "product": "base", "memory": "1Gi", "optional": true});
        assert_eq!(serde_json::to_value(part.gpu).unwrap(), gpu);

        let other = settings(json!({"gpu": {"count": 1, "resource": "amd.com/gpu"}}));
        assert_eq!(other.clone().over(base).gpu, other.gpu, "of another resource nothing is taken");
    }
}
