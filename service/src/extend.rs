//! The end of a sandbox, put off.

use std::time::Duration;

use api::{CodeSandbox, CodeSandboxStatus, condition};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    Code, Error, Principal, Service,
    session::{is, not_ready},
    verbs::not_found,
};

/// How often a ttl is written anew that somebody else's write came before.
const TRIES: usize = 5;

impl Service {
    /// Lets a sandbox live at least this long from now on, and says until when it lives. It never shortens.
    pub async fn extend(
        &self,
        principal: &Principal,
        name: &str,
        by: &str,
    ) -> Result<Option<Timestamp>, Error> {
        let Some(by) = api::Duration::parse(by) else {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("`{by}` is no duration. Write one such as 90s, 30m or 1h30m."),
            ));
        };
        for _ in 0..TRIES {
            // What the watch shows may be older than another's extension, which would then be undone.
            let sandbox = self.look(principal, name).await?;
            if sandbox.metadata.deletion_timestamp.is_some() {
                return Err(not_found(name, None));
            }
            if is(&sandbox, condition::FINISHED) || !has_ttl(&sandbox) {
                return Err(not_ready(&sandbox));
            }
            let Some(ttl) = extended(&sandbox, by, Timestamp::now()) else {
                return Ok(sandbox.expires_at());
            };
            if let Some(extended) = self.sandboxes.set_ttl(&sandbox, &ttl).await? {
                return Ok(extended.expires_at());
            }
        }
        let name = name.to_owned();
        Err(Error::new(
            Code::Unavailable,
            format!("others change sandbox {name} all the while. Try again."),
        ))
    }
}

/// Whether it is known how long a sandbox lives: its own word, or what its template says, which is taken down before anything
/// is made, and while it is suspended unless there is none of that name.
fn has_ttl(sandbox: &CodeSandbox) -> bool {
    let unnamed = sandbox.spec.template_ref.is_none();
    let bound = |status: &CodeSandboxStatus| {
        status.template.is_some()
            || status.pod_name.is_some()
            || (unnamed && status.condition(condition::SUSPENDED).is_some())
    };
    sandbox.spec.settings.ttl.is_some() || sandbox.status.as_ref().is_some_and(bound)
}

/// The ttl with which a sandbox lives so long from now on, in whole seconds; none where it does anyway.
fn extended(sandbox: &CodeSandbox, by: Duration, now: Timestamp) -> Option<api::Duration> {
    let created = sandbox.creation_timestamp()?.0;
    let age = Duration::try_from(now.duration_since(created)).unwrap_or_default();
    let ttl = age.saturating_add(by);
    let ttl = Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
    (ttl > sandbox.effective().ttl.as_std()).then(|| ttl.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ttl_that_is_a_templates_is_not_known_before_the_template_is() {
        let suspended = json!([{"type": "Suspended", "status": "True", "reason": "Suspended", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let template = json!({"name": "a", "generation": 1, "spec": {}});
        for (spec, status, known) in [
            (json!({"ttl": "1h"}), json!({}), true),
            (json!({}), json!({}), false),
            (json!({}), json!({"podName": "a-1"}), true),
            (json!({}), json!({"conditions": suspended}), true),
            (json!({"templateRef": {"name": "a"}}), json!({"conditions": suspended}), false),
            (
                json!({"templateRef": {"name": "a"}}),
                json!({"conditions": suspended, "template": template}),
                true,
            ),
        ] {
            let said = format!("{spec} {status}");
            let sandbox = json!({"metadata": {"name": "a"}, "spec": spec, "status": status});
            assert_eq!(has_ttl(&serde_json::from_value(sandbox).unwrap()), known, "{said}");
        }
    }

    #[test]
    fn a_ttl_counts_from_the_creation_and_only_grows() {
        let sandbox: CodeSandbox = serde_json::from_value(json!({
            "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
            "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"ttl": "1h"},
        }))
        .unwrap();
        for (now, by, ttl) in [
            ("2026-01-01T00:50:00Z", "30m", Some("4800s")),
            ("2026-01-01T00:50:00.25Z", "30m", Some("4801s")),
            ("2026-01-01T00:50:00Z", "10m", None),
            ("2026-01-01T00:50:00Z", "1s", None),
            // A clock of ours that is behind the API server's.
            ("2025-12-31T23:00:00Z", "2h", Some("7200s")),
        ] {
            let by_ = api::Duration::from(by).as_std();
            let ttl = ttl.map(api::Duration::from);
            assert_eq!(extended(&sandbox, by_, now.parse().unwrap()), ttl, "{by} at {now}");
        }
    }
}
