//! Carries out plans: the only place that writes about sandboxes.
//!
//! The rights this needs, all in the namespaces that are watched, none in the cluster:
//!
//! | resource | verbs | why |
//! |---|---|---|
//! | `codesandbox.dev/codesandboxes` | list, watch | the main watch; a list shows whether the CRD is there |
//! | `codesandbox.dev/codesandboxes` | delete | the end of the ttl |
//! | `codesandbox.dev/codesandboxes/status` | patch | server-side apply |
//! | `codesandbox.dev/codesandboxes/finalizers` | update | `blockOwnerDeletion`, where the admission plugin `OwnerReferencesPermissionEnforcement` is on |
//! | `codesandbox.dev/codesandboxtemplates` | list, watch | what sandboxes are made from |
//! | `codesandbox.dev/codesandboxtemplates` | create, patch, delete | those that come with the installation (`template::shipped`) |
//! | `codesandbox.dev/codesandboxtemplates/status` | patch | the verdict on each (`template::controller`) |
//! | `codesandbox.dev/codesandboxpools` | list, watch | how many pods are to wait, and of what |
//! | `codesandbox.dev/codesandboxpools/status` | patch | how many do (`pool::status`) |
//! | `pods` | get, list, watch | the pod of an attempt, and to be told when one changes |
//! | `pods` | patch | one that waited in a pool becomes a sandbox's |
//! | `pods` | create, delete | created, and else never changed; deleted only where a namesake took the place of ours or another follows an evicted one, the probe, what a pool has too many of, and what a sweep finds |
//! | `persistentvolumeclaims` | get, create | the disk of a sandbox that asks for one |
//! | `networking.k8s.io/networkpolicies` | list, watch | isolation is judged from all policies of the namespace |
//! | `networking.k8s.io/networkpolicies` | create, patch | server-side apply |
//! | `networking.k8s.io/networkpolicies` | delete | one that only a setup needed, and what a sweep finds: one that has outlived its sandbox |
//! | `events.k8s.io/events` | create, patch | patch counts repeats |
//! | `events` | create, patch | the last word about a sandbox; server-side apply |
//!
//! And `/version`, which everybody may get, for the time at which it is answered.

use std::fmt::Debug;

use api::{CodeSandbox, names};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions, TypeMeta},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    call::{Caller, Error, Kind, Verb},
    leaks::Marked,
    observe::Observed,
    plan::Action,
};

pub(crate) mod claim;
mod clock;

/// What came of an action.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was done, and the observation knows.
    Observed,
    /// The API server will not have the object. That is nothing to fail with, but to be told to the user.
    Refused {
        /// Of which kind that is.
        kind: Kind,
        /// What it will not have, as in `Pod box-1`.
        object: String,
        /// Its words.
        words: String,
    },
    /// The sandbox is gone.
    Gone,
}

/// Carries out an action and lets the observation know what came of it.
pub(crate) async fn act(
    caller: &Caller,
    action: &Action,
    observed: &mut Observed,
) -> Result<Done, Error> {
    match action {
        Action::AskTime => {
            observed.server_time = Some(clock::ask(caller).await?.unwrap_or(Timestamp::MAX));
            Ok(Done::Observed)
        }
        Action::Apply(policy) => match apply(caller, policy).await? {
            Ok(live) => {
                observed.see(live);
                Ok(Done::Observed)
            }
            Err(refused) => Ok(refused),
        },
        Action::CreateClaim(claim) => {
            create(caller, Kind::PersistentVolumeClaim, &**claim, &mut observed.claim).await
        }
        Action::CreatePod(pod) => create(caller, Kind::Pod, &**pod, &mut observed.pod).await,
        Action::CreateProbe(pod) => create(caller, Kind::Pod, &**pod, &mut observed.probe).await,
        // Not here: who shares what is known of the runtimes, and of pods that are being claimed, does it.
        Action::Conclude(_) | Action::Claim(_) => Ok(Done::Observed),
        Action::DeletePolicy { name, uid } => {
            let policies: Api<NetworkPolicy> = caller.api();
            delete(caller, &policies, Kind::NetworkPolicy, name, only(uid, None)).await?;
            observed.policies.retain(|policy| policy.metadata.name.as_ref() != Some(name));
            Ok(Done::Observed)
        }
        Action::DeletePod { name, uid } | Action::DeleteProbe { name, uid } => {
            let pods: Api<Pod> = caller.api();
            let going = delete(caller, &pods, Kind::Pod, name, only(uid, None)).await?;
            observed.forget(name, going);
            Ok(Done::Observed)
        }
        Action::DeleteSandbox { name, uid, resource_version } => {
            let sandboxes: Api<CodeSandbox> = caller.api();
            delete(caller, &sandboxes, Kind::CodeSandbox, name, only(uid, Some(resource_version)))
                .await?;
            Ok(Done::Gone)
        }
    }
}

/// Applies a policy and gives it as it is then, or how it was refused.
pub(crate) async fn apply(
    caller: &Caller,
    policy: &NetworkPolicy,
) -> Result<Result<NetworkPolicy, Done>, Error> {
    let policies: Api<NetworkPolicy> = caller.api();
    let name = policy.name_any();
    let (manager, patch) = (manager(), Patch::Apply(policy));
    let request = policies.patch(&name, &manager, &patch);
    match caller.request(Verb::Apply, Kind::NetworkPolicy, &name, request).await {
        Ok(live) => Ok(Ok(live)),
        Err(error) => refused(Kind::NetworkPolicy, &name, error).map(Err),
    }
}

/// Pods and claims are created and not applied: hardly anything of one can be changed, so that applying it anew would be
/// refused once a later version of ours builds it otherwise.
pub(crate) async fn create<K>(
    caller: &Caller,
    kind: Kind,
    object: &K,
    seen: &mut Option<K>,
) -> Result<Done, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + Debug,
{
    let objects: Api<K> = caller.api();
    let name = object.name_any();
    let params =
        PostParams { field_manager: Some(names::OPERATOR.into()), ..PostParams::default() };
    match caller.request(Verb::Create, kind, &name, objects.create(&params, object)).await {
        Ok(live) => *seen = Some(live),
        // Ours from a reconcile that was cut off, or somebody else's: whoever looks at it will tell.
        Err(error) if error.answer().is_some_and(kube::core::Status::is_already_exists) => {
            *seen = caller.request(Verb::Get, kind, &name, objects.get_opt(&name)).await?;
        }
        Err(error) => return refused(kind, &name, error),
    }
    Ok(Done::Observed)
}

/// Admission answers 403 (Pod Security, quota, policies), validation 422, and webhooks also 400.
fn refused(kind: Kind, name: &str, error: Error) -> Result<Done, Error> {
    match error.answer() {
        Some(status) if matches!(status.code, 400 | 403 | 422) => Ok(Done::Refused {
            kind,
            object: format!("{kind:?} {name}"),
            words: status.message.clone(),
        }),
        _ => Err(error),
    }
}

/// Deletes an object if it is still the one that was seen, and gives it where it takes its time to go. One that is gone
/// already was deleted, too.
pub(crate) async fn delete<K>(
    caller: &Caller,
    objects: &Api<K>,
    kind: Kind,
    name: &str,
    preconditions: Preconditions,
) -> Result<Option<K>, Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = DeleteParams::background().preconditions(preconditions);
    match caller.request(Verb::Delete, kind, name, objects.delete(name, &params)).await {
        Ok(answer) => Ok(answer.left()),
        Err(error) if error.has_code(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what has outlived its sandbox, its pool or its attempt, if it is still the object that was found.
pub(crate) async fn remove(caller: &Caller, object: &Marked) -> Result<(), Error> {
    let preconditions = only(&object.uid, object.resource_version.as_ref());
    let name = &object.name;
    if object.kind == Kind::NetworkPolicy {
        let policies: Api<NetworkPolicy> = caller.api();
        return delete(caller, &policies, object.kind, name, preconditions).await.map(drop);
    }
    let pods: Api<Pod> = caller.api();
    delete(caller, &pods, object.kind, name, preconditions).await.map(drop)
}

pub(crate) fn only(uid: &str, resource_version: Option<&String>) -> Preconditions {
    Preconditions { uid: Some(uid.into()), resource_version: resource_version.cloned() }
}

/// Writes an object's status, if it is still the object that was judged: one judged from an old copy would
/// undo what a newer one says. Gives the object as it is then, or nothing where it is gone.
pub(crate) async fn write_status<K, S>(
    caller: &Caller,
    kind: Kind,
    object: &K,
    status: &S,
) -> Result<Option<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug,
    S: Serialize + Debug,
{
    let objects: Api<K> = caller.api();
    let name = object.name_any();
    let patch = StatusPatch {
        types: TypeMeta::resource::<K>(),
        metadata: ObjectMeta {
            name: Some(name.clone()),
            resource_version: object.resource_version(),
            ..ObjectMeta::default()
        },
        status,
    };
    let (manager, patch) = (manager(), Patch::Apply(&patch));
    let request = objects.patch_status(&name, &manager, &patch);
    match caller.request(Verb::Apply, kind, &name, request).await {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.has_code(404) => Ok(None),
        Err(error) => Err(error),
    }
}

fn manager() -> PatchParams {
    PatchParams::apply(names::OPERATOR).force()
}

/// What an apply of a status says, and nothing else.
#[derive(Debug, Serialize)]
struct StatusPatch<'a, S> {
    #[serde(flatten)]
    types: TypeMeta,
    metadata: ObjectMeta,
    status: &'a S,
}
