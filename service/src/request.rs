//! What a caller asks for, as the object it becomes.

use api::{
    CodeSandbox, CodeSandboxSpec, Egress, EnvVar, Gpu, LocalObjectReference, Network, OnIdle,
    Resources, Settings, Setup, Workspace, names,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use crate::Principal;

/// A sandbox as a caller asks for it. What is absent is left to its template and the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Create {
    /// The name, which makes the request idempotent. Absent: a new one.
    pub name: Option<String>,
    /// The template it is made from. Absent: the operator's.
    pub template: Option<String>,
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
    pub egress: Option<Egress>,
    /// How long it lives.
    pub ttl: Option<String>,
    /// How long nobody may use it.
    pub idle_timeout: Option<String>,
    /// What becomes of it then.
    pub on_idle: Option<OnIdle>,
    /// The size of a disk for its files.
    pub workspace: Option<String>,
    /// Shell lines that are run first, which may reach public addresses.
    pub setup: Vec<String>,
}

impl Create {
    /// The object, made by `principal` for the operator of `class`.
    pub(crate) fn object(&self, name: &str, principal: &Principal, class: &str) -> CodeSandbox {
        let quantity = |given: &Option<String>| given.clone().map(Quantity);
        let resources = Resources {
            cpu: quantity(&self.cpu),
            memory: quantity(&self.memory),
            ephemeral_storage: None,
        };
        let settings = Settings {
            image: self.image.clone(),
            env: (!self.env.is_empty()).then(|| self.env.iter().map(variable).collect()),
            resources: (resources != Resources::default()).then_some(resources),
            gpu: (self.gpu_count > 0).then(|| Gpu::new(self.gpu_count, names::DEFAULT_GPU)),
            network: self
                .egress
                .map(|egress| Network { egress: Some(egress), ..Network::default() }),
            setup: (!self.setup.is_empty()).then(|| Setup {
                commands: self.setup.clone(),
                egress: Some(Egress::Internet),
                ..Setup::default()
            }),
            ttl: self.ttl.as_deref().map(Into::into),
            idle_timeout: self.idle_timeout.as_deref().map(Into::into),
            on_idle: self.on_idle,
            workspace: self.workspace.clone().map(|size| Workspace {
                size: Quantity(size),
                storage_class_name: None,
                retain: None,
            }),
            ..Settings::default()
        };
        let template_ref = self.template.clone().map(|name| LocalObjectReference { name });
        let class_name = class.into();
        let spec =
            CodeSandboxSpec { class_name, template_ref, settings, ..CodeSandboxSpec::default() };
        let mut sandbox = CodeSandbox::new(name, spec);
        sandbox.annotations_mut().insert(names::OWNER.into(), principal.name().into());
        sandbox
    }
}

/// Whether a sandbox is what is asked for. Without a template the defaults mean the same whether they are written down or
/// not, as they were in all objects once. Whether it is suspended is nothing that was asked for when it was made, it may
/// live longer by now, and which pool its pod may come from makes no other of it.
pub(crate) fn is_same(existing: &CodeSandboxSpec, asked: &CodeSandboxSpec) -> bool {
    let mut settings = existing.settings.clone();
    if lives_as_long(existing, asked) {
        settings.ttl.clone_from(&asked.settings.ttl);
    }
    (&existing.class_name, &existing.template_ref) == (&asked.class_name, &asked.template_ref)
        && (settings == asked.settings
            || asked.template_ref.is_none()
                && settings.complete() == asked.settings.clone().complete())
}

/// Whether a sandbox lives as long as is asked for. How long a template has it live is not known here.
fn lives_as_long(existing: &CodeSandboxSpec, asked: &CodeSandboxSpec) -> bool {
    let ttl = |spec: &CodeSandboxSpec| match (&spec.settings.ttl, &spec.template_ref) {
        (None, Some(_)) => None,
        (None, None) => Some(spec.settings.clone().complete().ttl.as_std()),
        (Some(ttl), _) => Some(ttl.as_std()),
    };
    match (ttl(existing), ttl(asked)) {
        (Some(existing), Some(asked)) => existing >= asked,
        (existing, None) => existing.is_some(),
        (None, Some(_)) => false,
    }
}

fn variable((name, value): &(String, String)) -> EnvVar {
    EnvVar { name: name.clone(), value: Some(value.clone()), value_from: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_left_to_template_and_defaults() {
        let object = Create::default().object("a", &Principal::new("me"), "codesandbox");
        assert_eq!(object.spec, CodeSandboxSpec::default());
        assert_eq!(object.annotations()[names::OWNER], "me");
    }

    #[test]
    fn what_is_asked_for_is_in_the_object() {
        let request = Create {
            template: Some("gpu".into()),
            image: Some("img:1".into()),
            env: vec![("A".into(), "it's $(not) `run`\n".into())],
            memory: Some("2Gi".into()),
            gpu_count: 2,
            egress: Some(Egress::Internet),
            ttl: Some("5m".into()),
            idle_timeout: Some("1m".into()),
            on_idle: Some(OnIdle::Pause),
            workspace: Some("5Gi".into()),
            setup: vec!["true".into()],
            ..Create::default()
        };
        let spec = request.object("a", &Principal::new("me"), "other").spec;
        let settings = Settings {
            image: Some("img:1".into()),
            env: Some(vec![EnvVar {
                name: "A".into(),
                value: Some("it's $(not) `run`\n".into()),
                value_from: None,
            }]),
            resources: Some(Resources {
                memory: Some(Quantity("2Gi".into())),
                ..Resources::default()
            }),
            gpu: Some(Gpu::new(2, "nvidia.com/gpu")),
            network: Some(Network { egress: Some(Egress::Internet), ..Network::default() }),
            setup: Some(Setup {
                commands: vec!["true".into()],
                egress: Some(Egress::Internet),
                ..Setup::default()
            }),
            ttl: Some("5m".into()),
            idle_timeout: Some("1m".into()),
            on_idle: Some(OnIdle::Pause),
            workspace: Some(Workspace {
                size: Quantity("5Gi".into()),
                storage_class_name: None,
                retain: None,
            }),
            ..Settings::default()
        };
        let template_ref = Some(LocalObjectReference { name: "gpu".into() });
        let class_name = "other".into();
        let expected =
            CodeSandboxSpec { class_name, template_ref, settings, ..CodeSandboxSpec::default() };
        assert_eq!(spec, expected);
    }

    #[test]
    fn defaults_that_are_written_down_are_the_same_without_a_template() {
        let object = |request: &Create| request.object("a", &Principal::new("me"), "c").spec;
        let plain = object(&Create::default());
        let said = Create { cpu: Some("1".into()), ttl: Some("1h".into()), ..Create::default() };
        assert!(is_same(&plain, &object(&said)));
        let more = Create { cpu: Some("2".into()), ..Create::default() };
        assert!(!is_same(&plain, &object(&more)));
        for spec in [&plain, &object(&Create { template: Some("a".into()), ..Create::default() })] {
            let resumed = CodeSandboxSpec { suspend: Some(false), ..spec.clone() };
            assert!(is_same(&resumed, spec));
        }

        let of = |request: Create| object(&Create { template: Some("a".into()), ..request });
        assert!(is_same(&of(Create::default()), &of(Create::default())));
        assert!(!is_same(&of(Create::default()), &of(said)), "the template may say otherwise");
        assert!(!is_same(&plain, &of(Create::default())));
    }

    #[test]
    fn one_that_lives_longer_by_now_is_the_same_and_one_that_lives_shorter_is_not() {
        let spec = |template: Option<&str>, ttl: Option<&str>| {
            let request = Create {
                template: template.map(Into::into),
                ttl: ttl.map(Into::into),
                ..Create::default()
            };
            request.object("a", &Principal::new("me"), "codesandbox").spec
        };
        let (python, none) = (Some("python"), None);
        for (template, existing, asked, same) in [
            (none, Some("3h"), Some("1h"), true),
            (none, Some("10800s"), none, true),
            (none, Some("60m"), none, true),
            (none, Some("30m"), none, false),
            (none, none, Some("2h"), false),
            (python, Some("3h"), Some("1h"), true),
            (python, Some("3h"), none, true),
            (python, none, none, true),
            (python, none, Some("1h"), false),
            (python, Some("30m"), Some("1h"), false),
        ] {
            let judged = is_same(&spec(template, existing), &spec(template, asked));
            assert_eq!(judged, same, "{template:?}: {existing:?} for {asked:?}");
        }
        let other = CodeSandboxSpec {
            settings: Settings { image: Some("x".into()), ..spec(none, Some("3h")).settings },
            ..spec(none, none)
        };
        assert!(!is_same(&other, &spec(none, Some("1h"))), "in all else it is another");
    }
}
