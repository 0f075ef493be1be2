//! What a pool's pods are made from, or why there are none.

use std::sync::Arc;

use api::{CodeSandboxPool, CodeSandboxTemplate, Egress, reason};
use kube::ResourceExt;

use crate::{config::Config, network::forbidden, status::Verdict, template};

/// What a pool's pods are made from.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// This template as it is now.
    Template(&'a CodeSandboxTemplate),
    /// Nothing for now. What there is stays: it may be what is to be made then.
    Unknown(Verdict),
    /// Nothing, since a pod of such a template cannot wait for its sandbox.
    Unsuitable(Verdict),
}

/// What the pods of a pool are made from, as far as the namespace's templates are known.
pub(crate) fn source<'a>(
    pool: &CodeSandboxPool,
    templates: Option<&'a [Arc<CodeSandboxTemplate>]>,
    config: &Config,
) -> Source<'a> {
    let name = &pool.spec.template_ref.name;
    let no = |reason: &str, said: String| Verdict::no(reason, said);
    let Some(templates) = templates else {
        let said = "the CodeSandboxTemplates of the namespace are not known yet; if this stays, have the administrator look whether the kind is installed (crds/codesandboxtemplates.yaml)";
        return Source::Unknown(no(reason::TEMPLATE_NOT_FOUND, said.into()));
    };
    let Some(template) = templates.iter().find(|one| one.name_any() == *name) else {
        let there = template::there(templates);
        let said = format!(
            "there is no CodeSandboxTemplate {name} in this namespace (there is: {there}); the pool is filled once there is one, or create it anew with another spec.templateRef"
        );
        return Source::Unknown(no(reason::TEMPLATE_NOT_FOUND, said));
    };
    if let Some(why) = template::unaccepted(template) {
        let said = format!(
            "CodeSandboxTemplate {name} is not accepted: {why}; the pool is filled once it is, so mend it"
        );
        return Source::Unknown(no(reason::TEMPLATE_NOT_ACCEPTED, said));
    }
    match unsuitable(template, config) {
        Some(why) => {
            let said = format!(
                "CodeSandboxTemplate {name} {why}; take that out of its defaults, or name another template in a new pool"
            );
            Source::Unsuitable(no(reason::TEMPLATE_UNSUITABLE, said))
        }
        None => Source::Template(template),
    }
}

/// What of a template no pod can have before it is a sandbox's.
fn unsuitable(template: &CodeSandboxTemplate, config: &Config) -> Option<String> {
    let nobody = template::undemanding(template::bound(template));
    let effective = nobody.effective();
    if effective.workspace.is_some() {
        return Some("gives a workspace, which is one sandbox's from the beginning".into());
    }
    // Until it is a sandbox's a pod reaches nothing: its own policy selects it by the sandbox's UID.
    let reaches = effective.setup_egress() == Egress::Internet || !effective.allow.is_empty();
    if effective.setup.is_some() && reaches {
        let said = "gives a setup that may reach the network, which a pod that waits may not";
        return Some(said.into());
    }
    let forbidden = forbidden::verdict(&nobody, config)?;
    Some(format!("makes no sandbox: {}", forbidden.message))
}
