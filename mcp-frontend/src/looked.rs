//! What `sandbox_get` tells: a sandbox as the others tell it, and what it says of itself.

use api::CodeSandbox;
use client::Greeting;
use rmcp::schemars::JsonSchema;
use serde::Serialize;
use wire::v1::RefusedNamesReply;

use crate::{
    gpus::{Gpus, Queue},
    outputs::Sandbox,
};

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct LookedAt {
    #[serde(flatten)]
    pub(crate) sandbox: Sandbox,
    /// Those that run_code speaks there; absent where it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) languages: Option<Vec<String>>,
    /// How many processes and threads it may have at once, which its node says. Not in the schema: every client pays for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub(crate) pids_limit: Option<u64>,
    /// Where GPUs were asked for. Not in the schema: few sandboxes have any, and every client pays for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub(crate) gpu: Option<Gpus>,
    /// Where it waits for a GPU. Not in the schema either.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub(crate) queue: Option<Queue>,
    /// What names it asked for and was refused. Not in the schema either.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub(crate) refused_names: Option<RefusedNames>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct RefusedNames {
    count: u64,
    /// The last two labels of each.
    domains: Vec<String>,
    /// Whether there were others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

impl LookedAt {
    /// What is known without the sandbox, and is wanted most when that does not answer.
    pub(crate) fn new(sandbox: &CodeSandbox, queue: Option<Queue>) -> Self {
        Self {
            sandbox: Sandbox::from(sandbox),
            languages: None,
            pids_limit: None,
            gpu: Gpus::forgone(sandbox),
            queue,
            refused_names: None,
        }
    }

    /// Takes in what the sandbox says of itself when it is greeted.
    pub(crate) fn greeted(&mut self, Greeting { languages, pids_max }: Greeting) {
        // None are named by an agent that is too old to look.
        self.languages = Some(languages).filter(|languages| !languages.is_empty());
        self.pids_limit = pids_max;
    }
}

impl RefusedNames {
    /// `None` where there are none.
    pub(crate) fn some(
        RefusedNamesReply { count, domains, more }: RefusedNamesReply,
    ) -> Option<Self> {
        (count > 0).then_some(Self { count, domains, more })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sandbox() -> CodeSandbox {
        serde_json::from_value(json!({
            "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
            "metadata": {"name": "a"}, "spec": {},
        }))
        .unwrap()
    }

    #[test]
    fn what_an_agent_does_not_say_of_its_sandbox_is_not_told() {
        let python = vec!["python".to_owned()];
        for (languages, pids_max, told) in [
            (vec![], None, json!([null, null])),
            (python.clone(), None, json!([python, null])),
            (vec![], Some(100), json!([null, 100])),
            (python.clone(), Some(100), json!([python, 100])),
        ] {
            let mut looked = LookedAt::new(&sandbox(), None);
            looked.greeted(Greeting { languages, pids_max });
            let looked = serde_json::to_value(looked).unwrap();
            assert_eq!(json!([looked["languages"], looked["pids_limit"]]), told);
            let there = ["languages", "pids_limit"].map(|field| looked.get(field).is_some());
            assert_eq!(json!(there), json!([!told[0].is_null(), !told[1].is_null()]));
        }
    }

    #[test]
    fn names_that_were_refused_are_told_where_there_are_some() {
        let told = |count, more| {
            let domains = vec!["evil.test".into()];
            serde_json::to_value(RefusedNames::some(RefusedNamesReply { count, domains, more }))
                .unwrap()
        };
        assert_eq!(told(0, false), json!(null));
        assert_eq!(told(2, false), json!({"count": 2, "domains": ["evil.test"]}));
        assert_eq!(told(20, true), json!({"count": 20, "domains": ["evil.test"], "more": true}));
    }
}
