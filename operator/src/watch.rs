//! How everything is watched: the only file that knows watcher configuration.
//!
//! Each watch has a backoff of its own and keeps its errors to itself. The controller has but one backoff for all that
//! trigger it, so that with errors let through, one kind that may not be listed would hold up the others.

use api::{CodeSandbox, names};
use futures::{Stream, StreamExt, future};
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, watcher},
    },
};
use tracing::warn;

use crate::call::Caller;

/// How long a watch lasts before it is opened anew. Cloud load balancers drop connections that have been quiet for
/// 240 s without telling anybody, and the default is longer than that.
const SECONDS: u32 = 200;

/// How to watch a kind.
fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(SECONDS)
}

/// The sandboxes that change, put into a store on the way.
pub(crate) fn sandboxes(
    caller: &Caller,
    writer: Writer<CodeSandbox>,
) -> impl Stream<Item = CodeSandbox> + Send + 'static {
    let changes = watcher(caller.api::<CodeSandbox>(), watch_config())
        .default_backoff()
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
    let changes =
        watcher(pods, watch_config().labels(&selector)).default_backoff().touched_objects();
    heard(changes, caller, "pods")
}

/// The network policies that change, put into a store on the way.
pub(crate) fn policies(
    caller: &Caller,
    writer: Writer<NetworkPolicy>,
) -> impl Stream<Item = NetworkPolicy> + Send + 'static {
    let changes = watcher(caller.api::<NetworkPolicy>(), watch_config())
        .default_backoff()
        .modify(|policy| policy.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects();
    heard(changes, caller, "networkpolicies")
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
