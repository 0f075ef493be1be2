//! CodeSandbox: what a user asks for.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::{
    CodeSandboxStatus, Effective, LocalObjectReference, Settings, condition, names, reason,
};

/// What is asked of it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "codesandbox.dev",
    version = "v1alpha1",
    kind = "CodeSandbox",
    plural = "codesandboxes",
    shortname = "csb",
    namespaced,
    status = "CodeSandboxStatus",
    derive = "PartialEq",
    doc = "An isolated machine for running code: one hardened pod that lives until its ttl ends.",
    printcolumn(json_path = r#".status.conditions[?(@.type=="Ready")].status"#, name = "Ready", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, name = "Reason", type_ = "string"),
    printcolumn(json_path = ".status.node", name = "Node", type_ = "string"),
    printcolumn(json_path = ".status.expiresAt", name = "Expires", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    validation = Rule::new("size(self.metadata.name) <= 50 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label (a-z, 0-9, -) of at most 50 characters, because pods are named after it"),
)]
// With has() and not with `self.?x == oldSelf.?x`: the API server takes the cost of comparing optionals to be unbounded
// and refuses the whole CRD.
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.className == oldSelf.className && (has(self.templateRef) == has(oldSelf.templateRef) && (!has(self.templateRef) || self.templateRef == oldSelf.templateRef)) && (has(self.poolRef) == has(oldSelf.poolRef) && (!has(self.poolRef) || self.poolRef == oldSelf.poolRef)) && (has(self.image) == has(oldSelf.image) && (!has(self.image) || self.image == oldSelf.image)) && (has(self.imagePullPolicy) == has(oldSelf.imagePullPolicy) && (!has(self.imagePullPolicy) || self.imagePullPolicy == oldSelf.imagePullPolicy)) && (has(self.imagePullSecrets) == has(oldSelf.imagePullSecrets) && (!has(self.imagePullSecrets) || self.imagePullSecrets == oldSelf.imagePullSecrets)) && (has(self.env) == has(oldSelf.env) && (!has(self.env) || self.env == oldSelf.env)) && (has(self.workingDir) == has(oldSelf.workingDir) && (!has(self.workingDir) || self.workingDir == oldSelf.workingDir)) && (has(self.resources) == has(oldSelf.resources) && (!has(self.resources) || self.resources == oldSelf.resources)) && (has(self.gpu) == has(oldSelf.gpu) && (!has(self.gpu) || self.gpu == oldSelf.gpu)) && (has(self.network) == has(oldSelf.network) && (!has(self.network) || self.network == oldSelf.network)) && (has(self.workspace) == has(oldSelf.workspace) && (!has(self.workspace) || self.workspace == oldSelf.workspace)) && (has(self.setup) == has(oldSelf.setup) && (!has(self.setup) || self.setup == oldSelf.setup)) && (has(self.runtimeClassName) == has(oldSelf.runtimeClassName) && (!has(self.runtimeClassName) || self.runtimeClassName == oldSelf.runtimeClassName)) && (has(self.idleTimeout) == has(oldSelf.idleTimeout) && (!has(self.idleTimeout) || self.idleTimeout == oldSelf.idleTimeout)) && (has(self.onIdle) == has(oldSelf.onIdle) && (!has(self.onIdle) || self.onIdle == oldSelf.onIdle)) && (has(self.restartPolicy) == has(oldSelf.restartPolicy) && (!has(self.restartPolicy) || self.restartPolicy == oldSelf.restartPolicy)) && (has(self.backoffLimit) == has(oldSelf.backoffLimit) && (!has(self.backoffLimit) || self.backoffLimit == oldSelf.backoffLimit)) && (has(self.ttlAfterFinished) == has(oldSelf.ttlAfterFinished) && (!has(self.ttlAfterFinished) || self.ttlAfterFinished == oldSelf.ttlAfterFinished))")
        .message("only spec.ttl and spec.suspend can be changed; to change anything else, delete the CodeSandbox and create a new one"),
    validation = Rule::new("has(self.templateRef) || !has(self.env) || self.env.all(e, !has(e.valueFrom) || e.valueFrom.secretKeyRef.name.startsWith('sandbox-'))")
        .message("only Secrets whose name begins with sandbox- can be used; copy what the sandbox needs into one, or name a template that allows another"),
    validation = Rule::new("has(self.templateRef) || !has(self.setup) || !has(self.setup.git) || !has(self.setup.git.secretRef) || self.setup.git.secretRef.name.startsWith('sandbox-')")
        .message("only Secrets whose name begins with sandbox- can be used; copy what the setup needs into one, or name a template that allows another"),
    validation = Rule::new("has(self.templateRef) || !has(self.poolRef)")
        .message("spec.poolRef needs spec.templateRef, which names the template of the pool: the sandbox is made from it where the pool has no pod ready"),
)]
pub struct CodeSandboxSpec {
    /// The installation whose operator makes this sandbox.
    #[serde(default = "default::class")]
    #[schemars(length(min = 1, max = 63))]
    pub class_name: String,

    /// A CodeSandboxTemplate of this namespace, which gives what is absent here and bounds the rest. Default: the operator's
    /// (chart value `sandbox.defaultTemplate`), or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<LocalObjectReference>,

    /// A CodeSandboxPool of this namespace, of the same template. Where it has a pod that is what the sandbox asks for, the sandbox
    /// has that one at once; else one is made. status.start says which, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<LocalObjectReference>,

    /// Whether the sandbox is to have no pod for now. Files are kept on a workspace alone. It can be changed. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// How the sandbox is made.
    #[serde(flatten)]
    pub settings: Settings,
}

impl Default for CodeSandboxSpec {
    /// What an empty `spec: {}` means.
    fn default() -> Self {
        Self {
            class_name: default::class(),
            template_ref: None,
            pool_ref: None,
            suspend: None,
            settings: Settings::default(),
        }
    }
}

impl From<Settings> for CodeSandboxSpec {
    fn from(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }
}

impl CodeSandbox {
    /// How the sandbox is made: what it asks for, over the template it was made from, over the defaults; without a setup
    /// that has been done for good, and without the GPUs that it does without.
    pub fn effective(&self) -> Effective {
        let asked = self.asked();
        let set_up = self.status.as_ref().is_some_and(|status| status.set_up);
        Effective {
            setup: asked.setup.filter(|_| !set_up),
            gpu: asked.gpu.filter(|_| !self.is_without_gpu()),
            ..asked
        }
    }

    /// How the sandbox would be made if nothing of it had been done and all that it asks for could be had.
    pub fn asked(&self) -> Effective {
        let template = self.status.as_ref().and_then(|status| status.template.as_ref());
        let defaults = template.map(|template| template.spec.defaults.clone());
        self.spec.settings.clone().over(defaults.unwrap_or_default()).complete()
    }

    /// The name of the template that the sandbox has yet to take down: the one it names, or else the default. One that has been
    /// made without stays without, whatever becomes the default.
    pub fn awaits_template<'a>(&'a self, default: Option<&'a str>) -> Option<&'a str> {
        let named = self.spec.template_ref.as_ref().map(|template| template.name.as_str());
        let made = |status: &CodeSandboxStatus| {
            status.template.is_some() || status.pod_uid.is_some() || status.attempt > Some(1)
        };
        named.or(default).filter(|_| !self.status.as_ref().is_some_and(made))
    }

    /// Whether this attempt does without the GPUs it could do without, because no node had them free.
    pub fn is_without_gpu(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.without_gpu)
    }
}

/// Why a sandbox is to have no pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The user says so: `spec.suspend`.
    Suspended,
    /// Nobody has used it for its idleTimeout, or wants to use it since.
    Paused,
}

impl Rest {
    /// The reason that conditions give.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Suspended => reason::SUSPENDED,
            Self::Paused => reason::PAUSED,
        }
    }
}

impl CodeSandbox {
    /// When its ttl ends, and it is deleted: a function of what is in the object, so that it survives restarts of ours.
    pub fn expires_at(&self) -> Option<Timestamp> {
        Some(self.effective().ttl.after(self.creation_timestamp()?.0))
    }

    /// Why the sandbox is to have no pod now; nothing where it is to have one.
    ///
    /// One that was paused is woken by another [`names::WAKE`] than it had then. What is in there means nothing, so that
    /// no two clocks are compared.
    pub fn rest(&self) -> Option<Rest> {
        if self.spec.suspend == Some(true) {
            return Some(Rest::Suspended);
        }
        let status = self.status.as_ref()?;
        let suspended = status.condition(condition::SUSPENDED)?;
        let wake = self.annotations().get(names::WAKE);
        let woken = wake.is_some() && wake != status.last_wake.as_ref();
        (suspended.reason == reason::PAUSED && !woken).then_some(Rest::Paused)
    }
}

mod default {
    use super::names;

    pub(super) fn class() -> String {
        names::DEFAULT_CLASS.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_is_awaited_until_it_is_taken_down_or_something_was_made_without() {
        let bound = json!({"template": {"name": "a", "generation": 1, "spec": {}}});
        for (spec, status, default, awaited) in [
            (json!({}), json!(null), None, None),
            (json!({}), json!({}), Some("b"), Some("b")),
            (json!({"templateRef": {"name": "a"}}), json!({}), None, Some("a")),
            (json!({"templateRef": {"name": "a"}}), json!({"attempt": 1}), Some("b"), Some("a")),
            (json!({"templateRef": {"name": "a"}}), bound, Some("b"), None),
            (json!({}), json!({"podUID": "p"}), Some("b"), None),
            (json!({}), json!({"attempt": 2}), Some("b"), None),
        ] {
            let mut sandbox = CodeSandbox::new("s", serde_json::from_value(spec).unwrap());
            sandbox.status = serde_json::from_value(status.clone()).unwrap();
            assert_eq!(sandbox.awaits_template(default), awaited, "{status}");
        }
    }
}
