//! What a caller asks for, as the object it becomes.

use api::{CodeSandbox, CodeSandboxSpec, Egress, EnvVar, Gpu, Network, Resources, names};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use crate::Principal;

/// A sandbox as a caller asks for it. What is absent takes the defaults of the CRD.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Create {
    /// The name, which makes the request idempotent. Absent: a new one.
    pub name: Option<String>,
    /// The container image.
    pub image: Option<String>,
    /// Environment variables. Values only: a caller may not name Secrets.
    pub env: Vec<(String, String)>,
    /// Processors.
    pub cpu: Option<String>,
    /// Memory.
    pub memory: Option<String>,
    /// How many GPUs; 0 for none.
    pub gpu_count: u8,
    /// What it may reach.
    pub egress: Egress,
    /// How long it lives.
    pub ttl: Option<String>,
    /// How long nobody may use it.
    pub idle_timeout: Option<String>,
}

impl Create {
    /// The object, made by `principal` for the operator of `class`.
    pub(crate) fn object(&self, name: &str, principal: &Principal, class: &str) -> CodeSandbox {
        let defaults = CodeSandboxSpec::default();
        let quantity =
            |given: &Option<String>, default: Quantity| given.clone().map_or(default, Quantity);
        let spec = CodeSandboxSpec {
            class_name: class.into(),
            image: self.image.clone(),
            env: (!self.env.is_empty()).then(|| self.env.iter().map(variable).collect()),
            resources: Resources {
                cpu: quantity(&self.cpu, defaults.resources.cpu),
                memory: quantity(&self.memory, defaults.resources.memory),
                ephemeral_storage: defaults.resources.ephemeral_storage,
            },
            gpu: (self.gpu_count > 0)
                .then(|| Gpu { count: self.gpu_count, resource: names::DEFAULT_GPU.into() }),
            network: Network { egress: self.egress },
            ttl: self.ttl.as_deref().map_or(defaults.ttl, Into::into),
            idle_timeout: self.idle_timeout.as_deref().map(Into::into),
            ..CodeSandboxSpec::default()
        };
        let mut sandbox = CodeSandbox::new(name, spec);
        sandbox.annotations_mut().insert(names::OWNER.into(), principal.name().into());
        sandbox
    }
}

fn variable((name, value): &(String, String)) -> EnvVar {
    EnvVar { name: name.clone(), value: Some(value.clone()), value_from: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_takes_the_crds_defaults() {
        let object = Create::default().object("a", &Principal::new("me"), "codesandbox");
        assert_eq!(object.spec, CodeSandboxSpec::default());
        assert_eq!(object.annotations()[names::OWNER], "me");
    }

    #[test]
    fn what_is_asked_for_is_in_the_object() {
        let request = Create {
            image: Some("img:1".into()),
            env: vec![("A".into(), "it's $(not) `run`\n".into())],
            memory: Some("2Gi".into()),
            gpu_count: 2,
            egress: Egress::Internet,
            ttl: Some("5m".into()),
            idle_timeout: Some("1m".into()),
            ..Create::default()
        };
        let spec = request.object("a", &Principal::new("me"), "other").spec;
        let expected = CodeSandboxSpec {
            class_name: "other".into(),
            image: Some("img:1".into()),
            env: Some(vec![EnvVar {
                name: "A".into(),
                value: Some("it's $(not) `run`\n".into()),
                value_from: None,
            }]),
            resources: Resources { memory: Quantity("2Gi".into()), ..Resources::default() },
            gpu: Some(Gpu { count: 2, resource: "nvidia.com/gpu".into() }),
            network: Network { egress: Egress::Internet },
            ttl: "5m".into(),
            idle_timeout: Some("1m".into()),
            ..CodeSandboxSpec::default()
        };
        assert_eq!(spec, expected);
    }
}
