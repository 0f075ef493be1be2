//! Word that something has changed, to whoever listens. What is told twice before somebody has listened is heard once.

use futures::{Stream, stream};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct News(watch::Sender<()>);

impl Default for News {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl News {
    pub(crate) fn tell(&self) {
        self.0.send_replace(());
    }

    /// Says each time that there is news.
    pub(crate) fn news(&self) -> impl Stream<Item = ()> + Send + use<> {
        stream::unfold(self.0.subscribe(), async |mut news| {
            news.changed().await.ok().map(|()| ((), news))
        })
    }
}
