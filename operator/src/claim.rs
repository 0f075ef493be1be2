//! The disk of a sandbox: the claim for it, and whether one that is there is the sandbox's to use.

use api::{CodeSandbox, Workspace, names, quantity};
use k8s_openapi::{
    api::core::v1::{
        PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, VolumeResourceRequirements,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;

use crate::{
    config::Config,
    observe::Observed,
    plan::{Taken, Whose},
    pod, termination,
};

/// The claim for the disk of a sandbox that asks for one. Of the sandbox it bears the labels and whose it is, so that one
/// that stays can be told from others' later.
pub(crate) fn claim(
    sandbox: &CodeSandbox,
    config: &Config,
    workspace: &Workspace,
) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::workspace(&sandbox.name_any())),
            namespace: sandbox.namespace(),
            labels: Some(pod::labels(sandbox, config)),
            annotations: Some(pod::whose(sandbox)),
            owner_references: if retains(workspace) { None } else { pod::owner(sandbox) },
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            // Not ReadWriteOncePod, which not every driver knows. That no two pods have it, we see to.
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".into(), workspace.size.clone())].into()),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: workspace.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// What keeps the sandbox from using the claim that has the name of its own, where it needs one.
pub(crate) fn taken(sandbox: &CodeSandbox, observed: &Observed, config: &Config) -> Option<Taken> {
    const KIND: &str = "PersistentVolumeClaim";
    let workspace = sandbox.effective().workspace?;
    let claim = observed.claim.as_ref()?;
    let of_claim = || Taken::new(KIND, &claim.metadata, sandbox);
    if claim.metadata.deletion_timestamp.is_some() {
        return Some(of_claim());
    }
    if pod::is_owned(&claim.metadata, sandbox) {
        return None;
    }
    if !retains(&workspace) || !is_retained(&claim.metadata, sandbox, config) {
        return Some(of_claim());
    }
    if !is_like(claim, &workspace) {
        return Some(Taken { whose: Whose::Unlike, ..of_claim() });
    }
    observed.holder.as_ref().map(|pod| Taken::new("Pod", pod, sandbox))
}

/// Whether a claim may be one that was kept, of which an earlier sandbox may still have a pod.
pub(crate) fn may_be_held(claim: &ObjectMeta) -> bool {
    claim.owner_references.as_ref().is_none_or(Vec::is_empty)
}

/// Whether a pod of another sandbox of the same name may be writing to the disk.
pub(crate) fn holds(pod: &Pod, sandbox: &CodeSandbox) -> bool {
    let of = pod.metadata.labels.as_ref().and_then(|labels| labels.get(names::SANDBOX_UID));
    of != sandbox.metadata.uid.as_ref() && termination::ended(pod).is_none()
}

/// Whether a claim is for what is asked for, or was made larger since.
fn is_like(claim: &PersistentVolumeClaim, workspace: &Workspace) -> bool {
    let spec = claim.spec.clone().unwrap_or_default();
    let requests = spec.resources.and_then(|resources| resources.requests);
    let size = requests.and_then(|requests| requests.get("storage").and_then(quantity::of));
    let class = &workspace.storage_class_name;
    size >= quantity::of(&workspace.size) && (class.is_none() || *class == spec.storage_class_name)
}

fn retains(workspace: &Workspace) -> bool {
    workspace.retain == Some(true)
}

/// Whether a claim was kept for a sandbox of this name, owner and class: by itself before, or by one before it.
fn is_retained(claim: &ObjectMeta, sandbox: &CodeSandbox, config: &Config) -> bool {
    let (labels, expected) = (claim.labels.as_ref(), pod::labels(sandbox, config));
    let (said, whose) = (claim.annotations.as_ref(), pod::whose(sandbox));
    // Not all labels: a disk may be older than some that pods have by now.
    let marked = |key: &str| labels.and_then(|labels| labels.get(key)) == expected.get(key);
    let says = |key: &str| said.and_then(|said| said.get(key)) == whose.get(key);
    may_be_held(claim)
        && [names::MANAGED_BY, names::INSTANCE, names::SANDBOX].into_iter().all(marked)
        && [names::CLASS, names::OWNER].into_iter().all(says)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time};

    use super::*;
    use crate::testing::{at, config, sandbox};

    fn workspace(retain: bool) -> Workspace {
        Workspace {
            size: Quantity("10Gi".into()),
            storage_class_name: Some("fast".into()),
            retain: Some(retain),
        }
    }

    /// A sandbox of somebody with a disk.
    fn of(owner: Option<&str>, retain: bool) -> CodeSandbox {
        let mut sandbox = sandbox();
        sandbox.spec.settings.workspace = Some(workspace(retain));
        if let Some(owner) = owner {
            sandbox.annotations_mut().insert(names::OWNER.into(), owner.into());
        }
        sandbox
    }

    fn made(sandbox: &CodeSandbox) -> PersistentVolumeClaim {
        claim(sandbox, &config(), &sandbox.effective().workspace.unwrap())
    }

    /// Whose the claim is that is not to be used.
    fn whose(sandbox: &CodeSandbox, claim: PersistentVolumeClaim) -> Option<Whose> {
        let observed = Observed { claim: Some(claim), ..Observed::default() };
        taken(sandbox, &observed, &config()).map(|taken| taken.whose)
    }

    #[test]
    fn a_claim_is_of_the_size_and_class_that_are_asked_for_and_goes_with_its_sandbox() {
        insta::assert_yaml_snapshot!(made(&of(Some("me"), false)));
    }

    #[test]
    fn a_claim_that_is_to_stay_has_no_owner_who_could_take_it_along() {
        let made = made(&of(Some("me"), true)).metadata;
        assert_eq!(
            (made.owner_references, made.annotations.unwrap()[names::OWNER].as_str()),
            (None, "me")
        );
    }

    #[test]
    fn a_sandbox_uses_its_own_disk_or_one_that_was_kept_for_it() {
        let mut later = of(Some("me"), true);
        later.metadata.uid = Some("another-uid".into());
        for (owner, retained, fits) in [
            (Some("me"), true, None),
            (Some("you"), true, Some(Whose::Other)),
            (None, true, Some(Whose::Other)),
            (Some("me"), false, Some(Whose::Predecessor)),
        ] {
            assert_eq!(whose(&later, made(&of(owner, retained))), fits, "{owner:?} {retained}");
        }
        let own = of(Some("me"), false);
        assert_eq!(whose(&own, made(&own)), None);
        // Who does not say that the disk is to stay could not want one that somebody has kept.
        assert_eq!(whose(&own, made(&later)), Some(Whose::Other));
        let mut other_class = later.clone();
        other_class.spec.class_name = "other".into();
        assert_eq!(whose(&other_class, made(&of(Some("me"), true))), Some(Whose::Other));
        let mut older = made(&of(Some("me"), true));
        older.metadata.labels.as_mut().unwrap().remove("sidecar.istio.io/inject");
        assert_eq!(whose(&later, older), None);
        let mut strange = made(&later);
        strange.metadata.labels = None;
        assert_eq!(whose(&later, strange), Some(Whose::Other));
    }

    #[test]
    fn a_disk_that_was_kept_is_used_as_it_is_or_not_at_all() {
        let later = of(Some("me"), true);
        for (size, class, fits) in [
            ("10Gi", Some("fast"), true),
            ("10240Mi", None, true),
            ("20Gi", Some("fast"), false),
            ("5Gi", Some("fast"), true),
            ("10Gi", Some("slow"), false),
        ] {
            let mut asks = later.clone();
            asks.spec.settings.workspace = Some(Workspace {
                size: Quantity(size.into()),
                storage_class_name: class.map(Into::into),
                retain: Some(true),
            });
            let expected = (!fits).then_some(Whose::Unlike);
            assert_eq!(whose(&asks, made(&later)), expected, "{size} {class:?}");
        }
    }

    #[test]
    fn a_disk_that_was_kept_waits_for_the_pod_of_the_sandbox_before() {
        let (before, mut later) = (of(Some("me"), true), of(Some("me"), true));
        later.metadata.uid = Some("another-uid".into());
        let mut pod = pod::pod(&before, &config(), crate::injection::Way::ImageVolume, 2);
        assert!(
            holds(&pod, &later) && !holds(&pod, &before) && may_be_held(&made(&before).metadata)
        );
        let observed = Observed {
            claim: Some(made(&before)),
            holder: Some(Box::new(pod.metadata.clone())),
            ..Observed::default()
        };
        let taken = taken(&later, &observed, &config()).unwrap();
        assert_eq!((taken.kind, taken.whose), ("Pod", Whose::Predecessor));
        pod.status = crate::testing::pod_with(&serde_json::json!({"phase": "Succeeded"})).status;
        assert!(!holds(&pod, &later), "it writes nothing any more");
        assert!(!may_be_held(&made(&of(Some("me"), false)).metadata));
    }

    #[test]
    fn a_disk_that_is_being_removed_is_nobodys() {
        for retain in [true, false] {
            let sandbox = of(None, retain);
            let mut claim = made(&sandbox);
            claim.metadata.deletion_timestamp = Some(Time(at(1)));
            let whose = whose(&sandbox, claim);
            assert_eq!(whose, Some(if retain { Whose::Other } else { Whose::Leaving }));
        }
    }
}
