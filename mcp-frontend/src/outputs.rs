//! What the tools answer in structure: complete by itself, since some clients show models nothing else.

use api::{CodeSandbox, Effective, Egress, condition};
use kube::ResourceExt;
use rmcp::schemars::JsonSchema;
use serde::Serialize;
use wire::v1::{EditReply, Entry, RunInfo, entry::Kind, outcome::How};

use crate::{hex, outcome};

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the tools' argument has this name")]
pub(crate) struct Sandbox {
    /// The id to call other tools with.
    pub(crate) sandbox_id: String,
    /// Whether it takes calls.
    pub(crate) ready: bool,
    /// Why it is ready, or not yet, or no more.
    pub(crate) reason: String,
    /// The same in a sentence.
    pub(crate) message: String,
    /// When it and its files are deleted (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
    /// What it may reach: deny, internet, or limited to places that are named in it (/etc/codesandbox.json).
    pub(crate) network: String,
    /// Whether the network was seen to be isolated.
    pub(crate) network_isolated: bool,
    /// Whether it has ended for good.
    pub(crate) finished: bool,
    /// How it, or its pod before, ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_termination: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Sandboxes {
    pub(crate) sandboxes: Vec<Sandbox>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Extended {
    pub(crate) sandbox_id: String,
    /// When it and its files are deleted (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Deleted {
    pub(crate) sandbox_id: String,
    pub(crate) deleted: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Runs {
    /// Those that came last first.
    pub(crate) runs: Vec<Run>,
    /// Whether there are more than these.
    pub(crate) truncated: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the tools' argument has this name")]
pub(crate) struct Run {
    pub(crate) run_id: String,
    /// The command, or the context and the first line of the code.
    pub(crate) title: String,
    /// running, exited, signaled, timed_out, cancelled, oom_killed or lost.
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    /// Milliseconds since 1970; 0: it waits for its turn.
    pub(crate) started_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ms: Option<u64>,
    pub(crate) stdout_bytes: u64,
    pub(crate) stderr_bytes: u64,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Cancelled {
    pub(crate) run_id: String,
    /// Whether it was going on.
    pub(crate) was_running: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Written {
    pub(crate) path: String,
    pub(crate) bytes: u64,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Edited {
    pub(crate) path: String,
    pub(crate) replacements: u64,
    /// The file's new size.
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Files {
    pub(crate) entries: Vec<File>,
    /// Whether there are more entries than these.
    pub(crate) truncated: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct File {
    pub(crate) path: String,
    /// file, directory, symlink or other.
    pub(crate) kind: &'static str,
    pub(crate) size: u64,
    /// Milliseconds since 1970.
    pub(crate) modified_unix_ms: u64,
}

impl From<&CodeSandbox> for Sandbox {
    fn from(sandbox: &CodeSandbox) -> Self {
        let status = sandbox.status.clone().unwrap_or_default();
        let ready = status.condition(condition::READY);
        Self {
            sandbox_id: sandbox.name_any(),
            ready: status.is_true(condition::READY),
            reason: ready.map_or("Accepted", |ready| &ready.reason).into(),
            message: ready
                .map_or("the operator has not taken it up yet", |ready| &ready.message)
                .into(),
            expires_at: status.expires_at.as_ref().map(|time| time.0.to_string()),
            network: reach(&sandbox.effective()).into(),
            network_isolated: status.is_true(condition::NETWORK_ISOLATED),
            finished: status.is_true(condition::FINISHED),
            last_termination: status
                .last_termination
                .as_ref()
                .map(|last| format!("{:?}: {}", last.reason, last.message)),
        }
    }
}

/// What a sandbox may reach, in a word.
fn reach(effective: &Effective) -> &'static str {
    match effective.egress {
        Egress::Internet => "internet",
        Egress::Deny if effective.allow.is_empty() => "deny",
        Egress::Deny => "limited",
    }
}

impl From<RunInfo> for Run {
    fn from(info: RunInfo) -> Self {
        let ended = info.outcome.as_ref();
        Self {
            status: ended.map_or("running", outcome::kind),
            exit_code: ended.and_then(|outcome| match outcome.how {
                Some(How::Exited(code)) => Some(code),
                _ => None,
            }),
            duration_ms: ended.map(|outcome| outcome.duration_ms),
            run_id: info.run_id,
            title: info.title,
            started_unix_ms: info.started_unix_ms,
            stdout_bytes: info.stdout_bytes,
            stderr_bytes: info.stderr_bytes,
        }
    }
}

impl From<EditReply> for Edited {
    fn from(reply: EditReply) -> Self {
        let entry = reply.entry.unwrap_or_default();
        Self {
            path: String::from_utf8_lossy(&entry.path).into_owned(),
            replacements: reply.replacements,
            bytes: entry.size,
            sha256: hex::text(&reply.sha256),
        }
    }
}

impl From<&Entry> for File {
    fn from(entry: &Entry) -> Self {
        Self {
            path: String::from_utf8_lossy(&entry.path).into_owned(),
            kind: match entry.kind() {
                Kind::File => "file",
                Kind::Directory => "directory",
                Kind::Symlink => "symlink",
                Kind::Other | Kind::Unspecified => "other",
            },
            size: entry.size,
            modified_unix_ms: entry.modified_unix_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_sandbox_may_reach_is_not_said_to_be_nothing_where_places_are_named() {
        let places = json!([{"cidr": "10.1.2.0/24"}]);
        for (network, said) in [
            (json!({}), "deny"),
            (json!({"egress": "Internet"}), "internet"),
            (json!({"allow": places}), "limited"),
            (json!({"egress": "Internet", "allow": places}), "internet"),
            (json!({"ports": [{"port": 80, "from": places}]}), "deny"),
        ] {
            let sandbox: CodeSandbox = serde_json::from_value(json!({
                "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
                "metadata": {"name": "a"}, "spec": {"network": network},
            }))
            .unwrap();
            assert_eq!(Sandbox::from(&sandbox).network, said, "{network}");
        }
    }
}
