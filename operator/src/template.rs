//! What a sandbox has from its template: bound once, before its first pod, and kept from then on.

use std::sync::Arc;

use api::{
    BoundTemplate, CodeSandbox, CodeSandboxSpec, CodeSandboxStatus, CodeSandboxTemplate, reason,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::{config::Config, observe::Observed, status::Verdict};

mod allow;
pub(crate) mod controller;
pub(crate) mod patch;
pub(crate) mod shipped;

/// What a sandbox that has no pod yet has to do with a template.
#[derive(Debug)]
pub(crate) enum Binding {
    /// Nothing, or all that is to be done is done.
    Settled,
    /// To take down what the template says now, before anything is made of it.
    Bind(Box<BoundTemplate>),
    /// To wait: for the template, for its change, or for another sandbox.
    Barred(Verdict),
}

/// The name of the template a sandbox is to be made from.
pub(crate) fn name<'a>(sandbox: &'a CodeSandbox, config: &'a Config) -> Option<&'a str> {
    let named = sandbox.spec.template_ref.as_ref().map(|template| template.name.as_str());
    named.or(config.default_template.as_deref())
}

/// Whether a sandbox has to do with templates.
pub(crate) fn concerns(sandbox: &CodeSandbox, config: &Config) -> bool {
    is_bound(sandbox) || name(sandbox, config).is_some()
}

/// Whether a sandbox has taken down what its template says.
pub(crate) fn is_bound(sandbox: &CodeSandbox) -> bool {
    sandbox.status.as_ref().is_some_and(|status| status.template.is_some())
}

/// What is to be done about a sandbox's template.
pub(crate) fn binding(sandbox: &CodeSandbox, observed: &Observed, config: &Config) -> Binding {
    let default = config.default_template.as_deref();
    let Some(name) = sandbox.awaits_template(default) else { return Binding::Settled };
    let Some(templates) = &observed.templates else {
        let said = "the CodeSandboxTemplates of the namespace are not known yet; if this stays, have the administrator look whether the kind is installed (crds/codesandboxtemplates.yaml)";
        return Binding::Barred(Verdict::no(reason::TEMPLATE_NOT_FOUND, said));
    };
    let Some(template) = templates.iter().find(|one| one.name_any() == name) else {
        return Binding::Barred(missing(name, templates));
    };
    if let Some(why) = unaccepted(template) {
        let said = format!(
            "CodeSandboxTemplate {name} is not accepted: {why}; the sandbox is made once it is, so have the administrator mend it"
        );
        return Binding::Barred(Verdict::no(reason::TEMPLATE_NOT_ACCEPTED, said));
    }
    let forbidden = allow::forbidden(&sandbox.spec.settings, &template.spec);
    if !forbidden.is_empty() {
        let said = format!(
            "CodeSandboxTemplate {name} does not allow {}; create the sandbox anew with what it allows, or from another template",
            forbidden.join(", nor ")
        );
        return Binding::Barred(Verdict::no(reason::TEMPLATE_FORBIDS, said));
    }
    Binding::Bind(Box::new(bound(template)))
}

/// What a sandbox takes down of a template as it is now.
pub(crate) fn bound(template: &CodeSandboxTemplate) -> BoundTemplate {
    BoundTemplate {
        name: template.name_any(),
        generation: template.metadata.generation.unwrap_or_default(),
        outdated: false,
        spec: template.spec.clone(),
    }
}

/// The sandbox of nobody that is made from a template and asks for nothing itself.
pub(crate) fn undemanding(template: BoundTemplate) -> CodeSandbox {
    CodeSandbox {
        metadata: ObjectMeta::default(),
        spec: CodeSandboxSpec::default(),
        status: Some(CodeSandboxStatus {
            template: Some(Box::new(template)),
            ..CodeSandboxStatus::default()
        }),
    }
}

/// Why nothing is made from a template as it is now, where that is so.
pub(crate) fn unaccepted(template: &CodeSandboxTemplate) -> Option<&str> {
    match template.accepted() {
        Some(accepted) if accepted.status == "True" => None,
        Some(accepted) => Some(&accepted.message),
        None => Some("the operator has not looked at it yet"),
    }
}

/// The names of the templates that there are.
pub(crate) fn there(templates: &[Arc<CodeSandboxTemplate>]) -> String {
    let mut names: Vec<_> = templates.iter().map(|template| template.name_any()).collect();
    names.sort();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn missing(name: &str, templates: &[Arc<CodeSandboxTemplate>]) -> Verdict {
    let there = there(templates);
    let said = format!(
        "there is no CodeSandboxTemplate {name} in this namespace (there is: {there}); the sandbox is made once there is one, or create it anew with another spec.templateRef"
    );
    Verdict::no(reason::TEMPLATE_NOT_FOUND, said)
}

/// What a sandbox is bound to, and whether that is outdated by now. The words about a template are nothing of a sandbox.
pub(crate) fn renewed(bound: BoundTemplate, observed: &Observed) -> BoundTemplate {
    let Some(templates) = &observed.templates else { return bound };
    let now = templates.iter().find(|one| one.name_any() == bound.name);
    let same = now.is_some_and(|now| {
        let spec = &now.spec;
        let bound = &bound.spec;
        (&spec.defaults, &spec.allow, &spec.pod_patch, spec.trusted, spec.multi_tenant)
            == (&bound.defaults, &bound.allow, &bound.pod_patch, bound.trusted, bound.multi_tenant)
    });
    BoundTemplate { outdated: !same, ..bound }
}

#[cfg(test)]
mod tests;
