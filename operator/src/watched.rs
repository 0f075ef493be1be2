//! The objects of a namespace that a watch keeps, once it has shown them all.

use std::time::Duration;

use kube::runtime::reflector::{Lookup, Store, store::WriterDropped};
use tokio::sync::OnceCell;

/// A store that any number of reconciles can wait for.
///
/// A store's own wait wakes but one of those that wait: the others would go on when their patience ends.
#[derive(Debug)]
pub(crate) struct Watched<K: Lookup<DynamicType = ()> + Clone + 'static> {
    pub(crate) store: Store<K>,
    shown: OnceCell<()>,
}

impl<K: Lookup<DynamicType = ()> + Clone + 'static> Watched<K> {
    pub(crate) fn new(store: Store<K>) -> Self {
        Self { store, shown: OnceCell::new() }
    }

    /// Waits until the watch has shown them all. It fails only where the loop has ended.
    pub(crate) async fn shown(&self) -> Result<(), WriterDropped> {
        self.shown.get_or_try_init(|| self.store.wait_until_ready()).await.copied()
    }

    /// The same for so long at most; says whether they are known.
    pub(crate) async fn shown_within(&self, patience: Duration) -> bool {
        matches!(tokio::time::timeout(patience, self.shown()).await, Ok(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::{StreamExt, future, stream::FuturesUnordered};
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use kube::runtime::{reflector, watcher::Event};
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_the_policies_go_on_when_they_are_there() {
        let (store, mut writer) = reflector::store();
        let policies = Arc::new(Watched::<NetworkPolicy>::new(store));
        let waiting: FuturesUnordered<_> =
            (0..8).map(|_| policies.shown_within(PATIENCE)).collect();
        let began = Instant::now();
        let watch = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            writer.apply_watcher_event(&Event::Init);
            writer.apply_watcher_event(&Event::InitDone);
        };
        let (known, ()) = future::join(waiting.collect::<Vec<_>>(), watch).await;
        assert_eq!((known, began.elapsed()), (vec![true; 8], Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_gives_up_leaves_the_wait_to_the_others() {
        let (store, mut writer) = reflector::store();
        let policies = Watched::<NetworkPolicy>::new(store);
        let impatient = policies.shown_within(Duration::from_secs(1));
        let patient = policies.shown_within(PATIENCE);
        let watch = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            writer.apply_watcher_event(&Event::Init);
            writer.apply_watcher_event(&Event::InitDone);
        };
        let began = Instant::now();
        assert_eq!(future::join3(impatient, patient, watch).await, (false, true, ()));
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }
}
