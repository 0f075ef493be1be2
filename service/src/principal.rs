//! Who is asking.

use api::{CodeSandbox, names};
use kube::ResourceExt;

/// Who is asking, as a door has found out. Every verb takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(String);

impl Principal {
    /// The principal of this name. It becomes the value of an annotation.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name, as it stands in the owner annotation.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether this principal may see and use a sandbox: only its owner may.
    pub fn owns(&self, sandbox: &CodeSandbox) -> bool {
        self.is(sandbox.annotations().get(names::OWNER))
    }

    /// Whether an owner's name is this principal's.
    pub(crate) fn is(&self, owner: Option<&String>) -> bool {
        owner == Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_owns_and_nobody_owns_what_has_no_owner() {
        let mut sandbox = CodeSandbox::new("a", api::CodeSandboxSpec::default());
        assert!(!Principal::new("me").owns(&sandbox));
        sandbox.annotations_mut().insert(names::OWNER.into(), "me".into());
        assert!(Principal::new("me").owns(&sandbox));
        assert!(!Principal::new("you").owns(&sandbox));
    }
}
