//! The sandboxes of one namespace: a watch cache to read, the kube API to write, sessions kept warm.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{CodeSandbox, CodeSandboxTemplate, Decoder, names};
use backon::ExponentialBuilder;
use futures::{StreamExt, TryStreamExt, future};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, ResourceExt,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        WatchStreamExt, reflector,
        watcher::{self, watcher},
    },
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use crate::{
    End, Error, Session,
    ends::{self, Gone},
    is_older,
};

mod templates;
mod writes;

/// How long one request to the kube API may take.
const KUBE_DEADLINE: Duration = Duration::from_secs(15);
/// How long a look for how a sandbox ended may take: without it the answer is the same, with less in it.
const END_DEADLINE: Duration = Duration::from_secs(2);
/// How long after a sandbox went the operator's word about it may still be on its way.
const WORD_COMES: Duration = Duration::from_secs(1);

/// The sandboxes of one namespace.
pub struct Sandboxes {
    api: Api<CodeSandbox>,
    pods: Api<Pod>,
    last_events: Api<Event>,
    store: reflector::Store<CodeSandbox>,
    /// Counts what the watch has brought, so that waiters look again.
    changes: watch::Receiver<u64>,
    templates: Api<DeserializeGuard<CodeSandboxTemplate>>,
    /// By the pods' UIDs. A session ends with its pod, so there are never more than sandboxes seen.
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// The UIDs of those we deleted and the watch still shows: who is told that a sandbox is deleted finds none.
    deleted: Mutex<HashSet<String>>,
    /// Those that went, for who still asks for them.
    gone: Mutex<Gone>,
    /// Dropped with the value; the watch then ends. In a quiet namespace it has no event at which to notice.
    _alive: oneshot::Sender<()>,
}

impl Sandboxes {
    /// The sandboxes of a namespace. Has to be called within a runtime: the watch runs as a task
    /// until the value is dropped.
    pub fn new(client: Client, namespace: &str) -> Arc<Self> {
        let api: Api<CodeSandbox> = Api::namespaced(client.clone(), namespace);
        let watched: Api<DeserializeGuard<CodeSandbox>> =
            Api::namespaced(client.clone(), namespace);
        let (store, writer) = reflector::store();
        let (seen, changes) = watch::channel(0);
        let (alive, dropped) = oneshot::channel::<()>();
        let sandboxes = Arc::new(Self {
            pods: Api::namespaced(client.clone(), namespace),
            last_events: Api::namespaced(client.clone(), namespace),
            templates: Api::namespaced(client, namespace),
            store,
            changes,
            sessions: Mutex::default(),
            deleted: Mutex::default(),
            gone: Mutex::default(),
            api,
            _alive: alive,
        });
        let weak = Arc::downgrade(&sandboxes);
        tokio::spawn(async move {
            let mut decoder = Decoder::default();
            let stream = watcher(watched, watch_config())
                .backoff(backoff())
                .try_filter_map(move |event| future::ready(Ok(decoder.decode(event, skipped))))
                .modify(|sandbox| sandbox.metadata.managed_fields = None);
            let stream = reflector::reflector(writer, stream).take_until(dropped);
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                let Some(sandboxes) = weak.upgrade() else { return };
                match event {
                    Ok(event) => sandboxes.forget(&event),
                    Err(error) => tracing::warn!(%error, "the watch of CodeSandboxes failed"),
                }
                seen.send_modify(|count| *count += 1);
            }
        });
        sandboxes
    }

    /// Whether the cache has been filled.
    pub async fn synced(&self, within: Duration) -> bool {
        matches!(timeout(within, self.store.wait_until_ready()).await, Ok(Ok(())))
    }

    /// A sandbox: from the cache, or from the API server where the cache has none yet.
    pub async fn get(&self, name: &str) -> Result<Option<Arc<CodeSandbox>>, Error> {
        if let Some(cached) = self.cached(name) {
            return Ok(Some(cached));
        }
        self.look(name).await
    }

    /// A sandbox as the API server has it now.
    pub async fn look(&self, name: &str) -> Result<Option<Arc<CodeSandbox>>, Error> {
        self.kube("get", name, self.api.get_opt(name)).await.map(|found| found.map(Arc::new))
    }

    /// How a sandbox ended that is not there, if it is known and may be heard of. The last one of its name is meant.
    pub async fn end(&self, name: &str, may_hear: impl Fn(&End) -> bool) -> Option<End> {
        let seen =
            self.gone.lock().unwrap_or_else(PoisonError::into_inner).of(name, Instant::now());
        let seen = seen.filter(|seen| may_hear(&seen.end));
        let look = async || self.last_word(name).await.filter(|end| may_hear(end));
        let mut told = look().await;
        let about = |end: &Option<End>| end.as_ref().and_then(|end| end.uid.clone());
        // The operator deletes first and tells then: a word that was said before the deed might not come true.
        if let Some(seen) = seen.as_ref().filter(|seen| !seen.by_us && seen.end.uid != about(&told))
        {
            let comes = seen.since + WORD_COMES;
            if Instant::now() < comes {
                sleep_until(comes).await;
                told = look().await;
            }
        }
        ends::newest(told, seen.map(|seen| seen.end))
    }

    /// What the operator's last event about a sandbox of this name says.
    async fn last_word(&self, name: &str) -> Option<End> {
        let event = names::last_event(name);
        match timeout(END_DEADLINE, self.last_events.get_opt(&event)).await {
            Ok(Ok(event)) => End::told(&event?, name),
            Ok(Err(error)) => {
                tracing::debug!(name, %error, "could not look how a sandbox ended");
                None
            }
            Err(_) => None,
        }
    }

    /// Every sandbox the cache has, by name.
    pub fn list(&self) -> BTreeMap<String, Arc<CodeSandbox>> {
        let shown = self.store.state().into_iter().filter(|sandbox| !self.is_deleted(sandbox));
        shown.map(|sandbox| (sandbox.name_any(), sandbox)).collect()
    }

    fn is_deleted(&self, sandbox: &CodeSandbox) -> bool {
        let deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        sandbox.metadata.uid.as_ref().is_some_and(|uid| deleted.contains(uid))
    }

    /// Waits until `judge` says something of this sandbox, or of its absence; `None` at the deadline.
    ///
    /// The sandbox is known by name and UID. A cache may lag behind: absence counts only once it has had the sandbox,
    /// and a view that is older than this one not at all.
    pub async fn wait<T>(
        &self,
        sandbox: &CodeSandbox,
        deadline: Instant,
        judge: impl Fn(Option<&CodeSandbox>) -> Option<T>,
    ) -> Option<T> {
        let name = sandbox.name_any();
        let mut changes = self.changes.clone();
        let mut seen = false;
        loop {
            changes.mark_unchanged();
            let current = self.cached(&name).filter(|current| current.uid() == sandbox.uid());
            seen |= current.is_some();
            let lags = current.as_deref().is_some_and(|current| is_older(current, sandbox));
            if seen
                && !lags
                && let Some(verdict) = judge(current.as_deref())
            {
                return Some(verdict);
            }
            match timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    /// The session with the agent of a sandbox's pod; `None` while it has none.
    pub fn session(&self, sandbox: &CodeSandbox) -> Option<Arc<Session>> {
        let status = sandbox.status.as_ref()?;
        let (pod, uid) = (status.pod_name.clone()?, status.pod_uid.clone()?);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions
            .entry(uid.clone())
            .or_insert_with(|| Session::new(self.pods.clone(), pod, uid));
        Some(session.clone())
    }

    /// A sandbox as the watch shows it, if it does.
    pub fn cached(&self, name: &str) -> Option<Arc<CodeSandbox>> {
        let namespace = self.api.namespace()?;
        let found = self.store.get(&reflector::ObjectRef::new(name).within(namespace));
        found.filter(|sandbox| !self.is_deleted(sandbox))
    }

    /// How many streams to agents are open.
    pub fn streams(&self) -> usize {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.values().map(|session| session.streams()).sum()
    }

    /// Forgets what belongs to sandboxes that are gone, but how they ended: that we deleted them, and the sessions with
    /// their pods.
    fn forget(&self, event: &watcher::Event<CodeSandbox>) {
        if matches!(event, watcher::Event::Init | watcher::Event::InitApply(_)) {
            return;
        }
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        if let watcher::Event::Delete(sandbox) = event {
            let by_us = sandbox.metadata.uid.as_ref().is_some_and(|uid| deleted.contains(uid));
            let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.see(sandbox, by_us, Instant::now());
        }
        if sessions.is_empty() && deleted.is_empty() {
            return;
        }
        let state = self.store.state();
        let shown: HashSet<_> = state.iter().filter_map(|s| s.metadata.uid.as_deref()).collect();
        let pods: HashSet<_> =
            state.iter().filter_map(|s| s.status.as_ref()?.pod_uid.as_deref()).collect();
        deleted.retain(|uid| shown.contains(uid.as_str()));
        sessions.retain(|uid, _| pods.contains(uid.as_str()));
    }

    async fn kube<T>(
        &self,
        doing: &'static str,
        sandbox: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        let failed =
            |source| Error::Kube { doing, sandbox: sandbox.into(), source: Box::new(source) };
        match timeout(KUBE_DEADLINE, request).await {
            Ok(result) => result.map_err(failed),
            Err(elapsed) => Err(failed(kube::Error::Service(Box::new(elapsed)))),
        }
    }
}

/// Says that one object is passed over, which hides no other.
fn skipped(invalid: &InvalidObject) {
    let (namespace, name) = (&invalid.metadata.namespace, &invalid.metadata.name);
    let error = &invalid.error;
    tracing::warn!(
        namespace,
        name,
        error,
        "this CodeSandbox cannot be decoded and is not shown; is this program older than the CustomResourceDefinition?"
    );
}

/// How long to wait after each failure in a row: kube's own half a minute would come on top of every
/// restart of the API server.
fn backoff() -> watcher::ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(4))
        .with_jitter()
        .without_max_times()
        .into()
}

/// Load balancers drop quiet connections after 240 s without a word, and kube asks for watches of
/// 290 s; 200 s stays below. The only place that knows.
fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(200)
}
