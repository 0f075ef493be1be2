//! How everything is watched: the only file that knows watcher configuration.
//!
//! Each watch has a backoff of its own and keeps its errors to itself. The controller has but one backoff for all that
//! trigger it, so that with errors let through, one kind that may not be listed would hold up the others.

use std::time::Duration;

use api::{CodeSandbox, CodeSandboxPool, CodeSandboxTemplate, Decoder, names};
use backon::ExponentialBuilder;
use futures::{Stream, StreamExt, TryStreamExt, future};
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use tracing::warn;

use self::touched::touched;
use crate::call::{Caller, Kind};

mod touched;

/// How long a watch lasts before it is opened anew. Cloud load balancers drop connections that have been quiet for
/// 240 s without telling anybody, and the default is longer than that.
const SECONDS: u32 = 200;

/// How long a watch waits after a failure at most. kube's own half a minute would come on top of every restart of the
/// API server, and a few requests more from each operator are nothing to it.
const LONGEST: Duration = Duration::from_secs(4);

/// How long to wait after each failure in a row.
fn backoff() -> watcher::ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .into()
}

/// How to watch a kind.
fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(SECONDS)
}

/// The sandboxes that change, put into a store on the way. One that cannot be decoded is left alone, and hides no other.
pub(crate) fn sandboxes(
    caller: &Caller,
    writer: Writer<CodeSandbox>,
) -> impl Stream<Item = CodeSandbox> + Send + 'static {
    let (mut decoder, namespace, metrics) =
        (Decoder::default(), caller.namespace.clone(), caller.metrics.clone());
    let changes = watcher(caller.api::<DeserializeGuard<CodeSandbox>>(), watch_config())
        .backoff(backoff())
        .try_filter_map(move |event| {
            let event = decoder.decode(event, |invalid| {
                metrics.undecodable(Kind::CodeSandbox);
                warn!(
                    %namespace,
                    name = invalid.metadata.name,
                    error = invalid.error,
                    "this CodeSandbox cannot be decoded and is left alone; is the operator older than the CustomResourceDefinition?"
                );
            });
            future::ready(Ok(event))
        })
        .modify(|sandbox| sandbox.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects();
    heard(changes, caller, "codesandboxes")
}

/// The pods of an installation that change, as far as is needed to tell whose they are. Those of others are not heard of.
pub(crate) fn pods(
    caller: &Caller,
    instance: &str,
) -> impl Stream<Item = PartialObjectMeta<Pod>> + Send + 'static {
    let selector =
        format!("{}={},{}={instance}", names::MANAGED_BY, names::MANAGER, names::INSTANCE);
    let pods: Api<PartialObjectMeta<Pod>> =
        Api::namespaced(caller.client.clone(), &caller.namespace);
    let changes = watcher(pods, watch_config().labels(&selector)).backoff(backoff());
    // All of them are kept, so of each no more than that tells whose it is.
    let changes = changes.modify(|pod| {
        pod.managed_fields_mut().clear();
        pod.annotations_mut().clear();
    });
    heard(touched(changes), caller, "pods")
}

/// The network policies that change, put into a store on the way. Without them nothing is judged to be isolated, so that
/// one that could not be decoded had better hide the others: it may be what opens a sandbox.
pub(crate) fn policies(
    caller: &Caller,
    writer: Writer<NetworkPolicy>,
) -> impl Stream<Item = NetworkPolicy> + Send + 'static {
    kept(caller, writer, "networkpolicies")
}

/// The templates that change, put into a store on the way.
pub(crate) fn templates(
    caller: &Caller,
    writer: Writer<CodeSandboxTemplate>,
) -> impl Stream<Item = CodeSandboxTemplate> + Send + 'static {
    kept(caller, writer, "codesandboxtemplates")
}

/// The pools that change, put into a store on the way.
pub(crate) fn pools(
    caller: &Caller,
    writer: Writer<CodeSandboxPool>,
) -> impl Stream<Item = CodeSandboxPool> + Send + 'static {
    kept(caller, writer, "codesandboxpools")
}

/// The pods of an installation's pools that change, put into a store on the way. Of those that are a sandbox's by now only
/// their names are of interest, which no other pod can have.
pub(crate) fn members(
    caller: &Caller,
    instance: &str,
    writer: Writer<Pod>,
) -> impl Stream<Item = Pod> + Send + 'static {
    let selector = format!(
        "{}={},{}={instance},{}",
        names::MANAGED_BY,
        names::MANAGER,
        names::INSTANCE,
        names::POOL
    );
    let changes = watcher(caller.api::<Pod>(), watch_config().labels(&selector))
        .backoff(backoff())
        .modify(|pod| {
            pod.managed_fields_mut().clear();
            if pod.labels().contains_key(names::SANDBOX_UID) {
                (pod.spec, pod.status) = (None, None);
                pod.annotations_mut().clear();
            }
        })
        .reflect(writer);
    heard(touched(changes), caller, "pods")
}

/// The objects of a kind that change, put into a store on the way.
fn kept<K>(
    caller: &Caller,
    writer: Writer<K>,
    resource: &'static str,
) -> impl Stream<Item = K> + Send + 'static
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let changes = watcher(caller.api::<K>(), watch_config())
        .backoff(backoff())
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer);
    heard(touched(changes), caller, resource)
}

/// What a watch says, without its errors, which are logged.
fn heard<K: Send + 'static>(
    changes: impl Stream<Item = watcher::Result<K>> + Send + 'static,
    caller: &Caller,
    resource: &'static str,
) -> impl Stream<Item = K> + Send + 'static {
    let namespace = caller.namespace.clone();
    changes.filter_map(move |change| {
        let change = change.inspect_err(|error| {
            warn!(%namespace, resource, %error, "a watch failed; trying again");
        });
        future::ready(change.ok())
    })
}

#[cfg(test)]
mod tests;
