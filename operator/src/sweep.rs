//! Looks for what should not be there any more, each few minutes, and removes it.
//!
//! The watches show most of what this needs. But they do not show a sandbox that cannot be decoded, and may be behind:
//! nothing is taken for left over before a list of what there is, made after the object was seen, lacks its sandbox or pool.

use std::{fmt::Debug, time::Duration};

use api::{CodeSandbox, CodeSandboxPool};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Resource, ResourceExt,
    api::ListParams,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::reflector::Store,
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    act,
    call::{Caller, Error, Kind, Verb},
    controller::Context,
    events,
    leaks::{self, Confirmed, For, Known, Leak, PATIENCE, Suspects, There},
    plan,
};

/// How often to look where nothing is suspected.
const EVERY: Duration = Duration::from_mins(2);
/// How many objects a list gives at once, so that many of them take no more memory than few.
const PAGE: u32 = 500;

/// Sweeps until it is told to stop. What it is about to remove then, it still removes.
pub(crate) async fn run(context: &Context, shown: &Store<CodeSandbox>, stop: &CancellationToken) {
    let Context { caller, .. } = context;
    let mut suspects = Suspects::default();
    loop {
        let pause = if suspects.is_empty() { EVERY } else { PATIENCE };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        let now = Instant::now();
        let found = tokio::select! {
            found = find(context, shown) => found,
            () = stop.cancelled() => return,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                warn!(namespace = caller.namespace, %error, "a sweep failed; trying again");
                continue;
            }
        };
        for confirmed in suspects.confirm(found, now) {
            if stop.is_cancelled() {
                return;
            }
            remove(context, confirmed).await;
        }
    }
}

/// What is left over in the namespace.
async fn find(context: &Context, shown: &Store<CodeSandbox>) -> Result<Vec<Leak>, Error> {
    let Context { caller, config, policies, pools, .. } = context;
    let shown = There {
        sandboxes: shown
            .state()
            .iter()
            .filter_map(|sandbox| Some((sandbox.uid()?, known(sandbox))))
            .collect(),
        pools: pools.store.state().iter().filter_map(|pool| pool.uid()).collect(),
    };
    let policies = policies.store.state();
    let marked = policies.iter().filter_map(|one| leaks::marked_policy(one, &config.instance));
    let mut found = leaks::leaks(marked, &shown);
    let ours = ListParams::default().labels(&leaks::selector(&config.instance));
    pages(caller, Kind::Pod, ours, |pod: PartialObjectMeta<Pod>| {
        let marked = leaks::marked(Kind::Pod, &pod.metadata, &config.instance);
        found.extend(leaks::leaks(marked, &shown));
    })
    .await?;
    if found.is_empty() {
        return Ok(found);
    }
    let mut there = There::default();
    let all = ListParams::default();
    pages(caller, Kind::CodeSandbox, all.clone(), |sandbox: PartialObjectMeta<CodeSandbox>| {
        let uid = sandbox.uid().unwrap_or_default();
        // Attempts only grow, so that one which is not known had better be the first.
        let unknown = || Known { attempt: 1, pod: None };
        let known = shown.sandboxes.get(&uid).cloned().unwrap_or_else(unknown);
        there.sandboxes.insert(uid, known);
    })
    .await?;
    if found.iter().any(|leak| matches!(leak.object.made_for, For::Pool { .. })) {
        let take = |pool: PartialObjectMeta<CodeSandboxPool>| there.pools.extend(pool.uid());
        if let Err(error) = pages(caller, Kind::CodeSandboxPool, all, take).await {
            // What is left over of sandboxes is found all the same.
            debug!(%error, "could not look which pools there are");
            found.retain(|leak| !matches!(leak.object.made_for, For::Pool { .. }));
        }
    }
    Ok(leaks::leaks(found.into_iter().map(|leak| leak.object), &there))
}

fn known(sandbox: &CodeSandbox) -> Known {
    let pod = sandbox.status.as_ref().and_then(|status| status.pod_uid.clone());
    Known { attempt: plan::attempt(sandbox), pod }
}

/// Lists a kind page by page.
async fn pages<K>(
    caller: &Caller,
    kind: Kind,
    params: ListParams,
    mut take: impl FnMut(K),
) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let objects = caller.api::<K>();
    let mut params = params.limit(PAGE);
    loop {
        let list = caller.request(Verb::List, kind, "", objects.list(&params)).await?;
        list.items.into_iter().for_each(&mut take);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(()),
        }
    }
}

/// Removes an object that is left over, and tells of it once. One that cannot be removed holds up no other.
async fn remove(context: &Context, Confirmed { leak, new }: Confirmed) {
    let Context { caller, publisher, .. } = context;
    let (kind, why) = (leak.object.kind, leak.why);
    let (namespace, name) = (&caller.namespace, &leak.object.name);
    if new {
        warn!(%namespace, ?kind, name, ?why, made_for = %leak.object.made_for, "found what should not be there any more");
        caller.metrics.leaked(&leak);
        publisher.publish(vec![events::swept(&leak)], &leak.reference(namespace));
    }
    match act::remove(caller, &leak.object).await {
        Ok(()) => info!(%namespace, ?kind, name, "removed it"),
        Err(error) => warn!(%namespace, %error, "it could not be removed; trying again"),
    }
}

#[cfg(test)]
mod tests;
