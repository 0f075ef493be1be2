//! Reads the few objects a sandbox depends on: its pod, the one before and its probe where there are such, the network policies
//! that concern it, and what was said of a pod that takes long to start.

use std::{sync::Arc, time::Duration};

use api::{CodeSandbox, CodeSandboxTemplate, condition, names, reason};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Event, PersistentVolumeClaim, Pod},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, ResourceExt, api::ListParams, runtime::reflector::ObjectRef};

use crate::{
    call::{Caller, DEADLINE, Error, Kind, Verb},
    claim,
    config::Config,
    controller::Context,
    expiry,
    injection::Injection,
    network,
    plan::{self, pods},
    pod,
    pool::{self, claim::Pooled},
    starting::hindrance,
    template,
};

/// How long is waited for the first list of templates, or of pools. It takes milliseconds, where there is such a kind.
pub(crate) const TEMPLATES: Duration = Duration::from_secs(1);

/// How long one waits for what was said of a pod.
const WARNINGS: Duration = Duration::from_secs(2);

/// What was seen of the objects a sandbox depends on, and what the API server answered when one was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The object that has the name of this attempt's pod, whosever it is.
    pub(crate) pod: Option<Pod>,
    /// What has the name of the pod before, while this attempt's has not been made.
    pub(crate) former: Option<Pod>,
    /// What has the name of the claim for the sandbox's disk, whosever it is, where a pod is to have it next.
    pub(crate) claim: Option<PersistentVolumeClaim>,
    /// A pod of an earlier sandbox that may still have the disk that was kept.
    pub(crate) holder: Option<Box<ObjectMeta>>,
    /// What was seen of the pool that the sandbox names, where it may have one of its pods.
    pub(crate) pooled: Pooled,
    /// What is known of the way into the pod.
    pub(crate) injection: Injection,
    /// The object that has the name of the sandbox's probe, whosever it is.
    pub(crate) probe: Option<Pod>,
    /// The namespace's policies that concern the sandbox.
    pub(crate) policies: Vec<Arc<NetworkPolicy>>,
    /// What was said of the pod that boded ill, where it takes long to start.
    pub(crate) warnings: Vec<Event>,
    /// The namespace's templates, where the sandbox has to do with one and they are known.
    pub(crate) templates: Option<Vec<Arc<CodeSandboxTemplate>>>,
    /// What time it is for the API server, where it was asked; the end of time where it does not say.
    pub(crate) server_time: Option<Timestamp>,
    /// That the API server will not have something, and when to ask again.
    pub(crate) refusal: Option<Refusal>,
}

/// The API server's refusal of an object that a sandbox needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Of which kind it is.
    pub(crate) kind: Kind,
    /// What was refused, as in `Pod box-1`.
    pub(crate) object: String,
    /// The server's words.
    pub(crate) words: String,
    /// Until when it is not asked again.
    pub(crate) retry_at: Timestamp,
}

impl Observed {
    /// The policy of a name.
    pub(crate) fn policy(&self, name: &str) -> Option<&NetworkPolicy> {
        self.policies
            .iter()
            .map(AsRef::as_ref)
            .find(|policy| policy.metadata.name.as_deref() == Some(name))
    }

    /// Takes note of a policy that the API server has just answered with.
    pub(crate) fn see(&mut self, policy: NetworkPolicy) {
        self.policies.retain(|known| known.metadata.name != policy.metadata.name);
        self.policies.push(Arc::new(policy));
    }

    /// Takes note that a pod is gone, or going as the API server answered. The one before this attempt's is of interest for
    /// as long as it is there.
    pub(crate) fn forget(&mut self, name: &str, going: Option<Pod>) {
        let is = |pod: &mut Pod| pod.metadata.name.as_deref() == Some(name);
        self.pod.take_if(is);
        self.probe.take_if(is);
        if self.former.take_if(is).is_some() {
            self.former = going;
        }
    }
}

/// Reads what a sandbox depends on: its pod, where there may be one, or the one before, and its probe, where it said that it
/// waits for one. All else comes from a watch or is known, so that one that waits for another's probe costs no request.
pub(crate) async fn observe(
    context: &Context,
    sandbox: &CodeSandbox,
    injection: Injection,
    now: Timestamp,
) -> Result<Observed, Error> {
    let Context { caller, config, policies, templates, .. } = context;
    let (mut pod, mut former) = (None, None);
    if plan::depends_on_pod(sandbox, injection, now) && pods::may_be_claimed(sandbox) {
        (pod, former) = pods::sorted(sandbox, self::pods_of(caller, sandbox, config).await?);
    } else if plan::depends_on_pod(sandbox, injection, now) {
        pod = self::pod(caller, &pods::name(sandbox)).await?;
        if let Some(name) = plan::former(sandbox).filter(|_| pod.is_none()) {
            former = self::pod(caller, &name).await?;
        }
    }
    let slow = pod.as_ref().filter(|pod| hindrance::is_slow(pod, now));
    let warnings = match slow {
        Some(pod) => warnings(caller, pod).await,
        None => Vec::new(),
    };
    let (mut claim, mut holder) = (None, None);
    if pod.is_none() && needs_claim(sandbox, now) {
        claim = self::claim(caller, &sandbox.name_any()).await?;
        if claim.as_ref().is_some_and(|claim| claim::may_be_held(&claim.metadata)) {
            holder = self::holder(caller, sandbox, &config.instance).await?;
        }
    }
    let claims = pod.is_none() && pool::claim::may(sandbox);
    let pooled = if claims { self::pooled(context, sandbox).await } else { Pooled::default() };
    let waits = matches!(injection, Injection::Waiting(_));
    let probe = if pod.is_none() && !waits && is_probing(sandbox) {
        self::pod(caller, &names::probe(&sandbox.name_any())).await?
    } else {
        None
    };
    if !policies.shown_within(DEADLINE).await {
        return Err(Error::PoliciesUnknown { namespace: caller.namespace.clone() });
    }
    // Not waited for by one that is bound, which is to end in time whatever becomes of templates.
    let patience = if template::is_bound(sandbox) { Duration::ZERO } else { TEMPLATES };
    let known = template::concerns(sandbox, config) && templates.shown_within(patience).await;
    let templates = known.then(|| templates.store.state());
    let sandbox_name = sandbox.name_any();
    // The pod's own labels where there is one: somebody may have added some, and a policy may select by those.
    let labels = pod.as_ref().and_then(|pod| pod.metadata.labels.clone());
    let labels = labels.unwrap_or_else(|| pod::labels(sandbox, config));
    // And those of the pods that it may claim, which have others besides.
    let policies = policies.store.state_filter(|policy| {
        network::concerns(policy, &sandbox_name, &labels)
            || pooled.pods.iter().any(|pod| network::selects(policy, pod.labels()))
    });
    Ok(Observed {
        pod,
        former,
        claim,
        holder,
        pooled,
        injection,
        probe,
        policies,
        warnings,
        templates,
        server_time: None,
        refusal: None,
    })
}

/// Whether a sandbox that has no pod is to have one, with a disk.
fn needs_claim(sandbox: &CodeSandbox, now: Timestamp) -> bool {
    let finished =
        sandbox.status.as_ref().is_some_and(|status| status.is_true(condition::FINISHED));
    let lives = sandbox.metadata.deletion_timestamp.is_none()
        && expiry::ends_at(sandbox).is_none_or(|end| end > now);
    lives && !finished && sandbox.rest().is_none() && sandbox.effective().workspace.is_some()
}

/// Whether a sandbox said that it waits for a probe, its own or another's.
pub(crate) fn is_probing(sandbox: &CodeSandbox) -> bool {
    let ready = sandbox.status.as_ref().and_then(|status| status.condition(condition::READY));
    ready.is_some_and(|ready| ready.reason == reason::PROBING)
}

/// The pod of a name.
pub(crate) async fn pod(caller: &Caller, name: &str) -> Result<Option<Pod>, Error> {
    let pods: Api<Pod> = caller.api();
    caller.request(Verb::Get, Kind::Pod, name, pods.get_opt(name)).await
}

/// What was said of a pod that bodes ill. Where it cannot be had the status says less, and all else goes on.
async fn warnings(caller: &Caller, pod: &Pod) -> Vec<Event> {
    let (events, name): (Api<Event>, _) = (caller.api(), pod.name_any());
    let uid = pod.uid().unwrap_or_default();
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning"));
    let listing = events.list(&params);
    match caller.request_within(WARNINGS, Verb::List, Kind::Event, &name, listing).await {
        Ok(listed) => listed.items,
        Err(error) => {
            tracing::debug!(pod = name, %error, "could not look why a pod takes long to start");
            Vec::new()
        }
    }
}

/// The pods with the UID of a sandbox, as they are now and not as a watch shows them: which it has claimed depends on it.
async fn pods_of(
    caller: &Caller,
    sandbox: &CodeSandbox,
    config: &Config,
) -> Result<Vec<Pod>, Error> {
    let (pods, name): (Api<Pod>, _) = (caller.api(), sandbox.name_any());
    let (instance, uid) = (&config.instance, sandbox.uid().unwrap_or_default());
    let selector = format!("{}={instance},{}={uid}", names::INSTANCE, names::SANDBOX_UID);
    let params = ListParams::default().labels(&selector);
    Ok(caller.request(Verb::List, Kind::Pod, &name, pods.list(&params)).await?.items)
}

/// The pool that a sandbox names and its pods, as the watches show them. One that is not known soon is as good as none: the
/// sandbox is made all the same.
async fn pooled(context: &Context, sandbox: &CodeSandbox) -> Pooled {
    let Context { caller, pools, members, .. } = context;
    let name = sandbox.spec.pool_ref.as_ref().map(|pool| pool.name.clone()).unwrap_or_default();
    if !pools.shown_within(TEMPLATES).await || !members.shown_within(TEMPLATES).await {
        return Pooled::default();
    }
    Pooled {
        known: true,
        pool: pools.store.get(&ObjectRef::new(&name).within(&caller.namespace)),
        pods: members.store.state_filter(|pod| pod.labels().get(names::POOL) == Some(&name)),
        refused: false,
    }
}

/// The claim for the disk of a sandbox of this name.
async fn claim(caller: &Caller, sandbox: &str) -> Result<Option<PersistentVolumeClaim>, Error> {
    let (claims, name): (Api<PersistentVolumeClaim>, _) = (caller.api(), names::workspace(sandbox));
    let request = claims.get_opt(&name);
    caller.request(Verb::Get, Kind::PersistentVolumeClaim, &name, request).await
}

/// A pod of another sandbox of the same name that may have its disk: the name of the pod says nothing, since that one may
/// have come to another attempt.
async fn holder(
    caller: &Caller,
    sandbox: &CodeSandbox,
    instance: &str,
) -> Result<Option<Box<ObjectMeta>>, Error> {
    let (pods, name): (Api<Pod>, _) = (caller.api(), sandbox.name_any());
    let selector = format!("{}={instance},{}={name}", names::INSTANCE, names::SANDBOX);
    let params = ListParams::default().labels(&selector);
    let listed = caller.request(Verb::List, Kind::Pod, &name, pods.list(&params)).await?;
    let held = listed.items.into_iter().find(|pod| claim::holds(pod, sandbox));
    Ok(held.map(|pod| Box::new(pod.metadata)))
}
