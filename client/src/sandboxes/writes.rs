//! What is written about sandboxes: each write means one object and not its namesakes.

use std::sync::PoisonError;

use api::{CodeSandbox, names};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::Status,
};
use serde_json::json;

use super::Sandboxes;
use crate::Error;

impl Sandboxes {
    /// Creates a sandbox.
    pub async fn create(&self, sandbox: &CodeSandbox) -> Result<CodeSandbox, Error> {
        let params =
            PostParams { field_manager: Some(names::FRONTEND.into()), ..PostParams::default() };
        self.kube("create", &sandbox.name_any(), self.api.create(&params, sandbox)).await
    }

    /// Wakes this very sandbox, which is paused. One that is gone by now is left at that.
    pub async fn wake(&self, sandbox: &CodeSandbox) -> Result<(), Error> {
        let (name, now) = (sandbox.name_any(), Timestamp::now().to_string());
        let metadata = json!({"uid": sandbox.metadata.uid, "annotations": {names::WAKE: now}});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let woken =
            self.kube("wake", &name, self.api.patch_metadata(&name, &as_front_end(), &patch)).await;
        woken.map(drop).or_else(unless_gone)
    }

    /// Gives this very sandbox another ttl, as long as it is what was looked at; the sandbox as it then is, or none.
    pub async fn set_ttl(
        &self,
        sandbox: &CodeSandbox,
        ttl: &api::Duration,
    ) -> Result<Option<CodeSandbox>, Error> {
        let name = sandbox.name_any();
        let ObjectMeta { uid, resource_version, .. } = &sandbox.metadata;
        let metadata = json!({"uid": uid, "resourceVersion": resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"ttl": ttl}}));
        match self.kube("extend", &name, self.api.patch(&name, &as_front_end(), &patch)).await {
            Err(error) if refusal(&error).is_some_and(Status::is_conflict) => Ok(None),
            extended => extended.map(Some),
        }
    }

    /// Deletes this very sandbox: one made under the same name since is left alone.
    pub async fn delete(&self, name: &str, uid: Option<String>) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: uid.clone(), resource_version: None }),
            ..DeleteParams::background()
        };
        let deleted = self.kube("delete", name, self.api.delete(name, &params)).await;
        deleted.map(drop).or_else(unless_gone)?;
        // What the watch shows no more is forgotten at its next word.
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner).extend(uid);
        Ok(())
    }
}

fn as_front_end() -> PatchParams {
    PatchParams { field_manager: Some(names::FRONTEND.into()), ..PatchParams::default() }
}

/// What the API server refused with, if it did.
pub(super) fn refusal(error: &Error) -> Option<&Status> {
    let Error::Kube { source, .. } = error else { return None };
    let kube::Error::Api(status) = &**source else { return None };
    Some(status)
}

/// That an object is gone, or another has its name, is nothing to fail with.
fn unless_gone(error: Error) -> Result<(), Error> {
    let gone = |status: &Status| status.is_not_found() || status.is_conflict();
    if refusal(&error).is_some_and(gone) { Ok(()) } else { Err(error) }
}
