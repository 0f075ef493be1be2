//! What sandboxes will take down of their templates.

use api::CodeSandboxTemplate;
use kube::{api::ListParams, core::Status};

use super::{Sandboxes, writes::refusal};
use crate::Error;

impl Sandboxes {
    /// The templates there are now, for the sake of a sandbox. One that cannot be decoded, which the operator makes nothing
    /// of either, is as good as none, and so is a kind that is not installed.
    pub async fn templates(&self, sandbox: &str) -> Result<Vec<CodeSandboxTemplate>, Error> {
        let all = ListParams::default();
        let listed = self.kube("find the template of", sandbox, self.templates.list(&all)).await;
        match listed {
            Ok(list) => Ok(list.items.into_iter().filter_map(|one| one.0.ok()).collect()),
            Err(error) if refusal(&error).is_some_and(Status::is_not_found) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
