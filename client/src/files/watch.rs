//! Watching what changes in a sandbox's files.

use std::sync::Arc;

use futures::{Stream, stream};
use wire::v1::{WatchEvent, WatchRequest, watch_event::Kind};

use crate::{Error, Lane, Session, session::Call};

impl Session {
    /// Tells what changes in a directory, or with `recursive` in all that are below it too, at most 4096 of them.
    /// Whatever changes after this has returned is told.
    ///
    /// What changes within 100 ms is told together, in order, and as little as says it: nothing of a file that came
    /// and went meanwhile. A change made while a new directory is being looked at may be told twice, and a file that
    /// takes another's place is `CREATED`. After `OVERFLOW` more has changed than could be told, 10 000 changes at
    /// once or as many as the kernel holds while nobody takes them (16 384 events): look again at all of it, and so
    /// for a kind that is not known. Symlinks below the directory are not followed. Under gVisor only what is changed
    /// from within the sandbox is told.
    ///
    /// The stream ends after `REMOVED` of the directory itself, or with an error, after which it has ended. There is
    /// no deadline: that nothing changes is no fault, and a dead connection is noticed by its keepalive within 30 s. A
    /// stream that broke is [`Error::Lost`] and not opened again: look again, and watch anew.
    ///
    /// Errors of the agent are `FILE_NOT_FOUND`, `FILE_KIND` for what is no directory, and `TOO_MANY` for more than
    /// 8 watches, for more directories than may be watched, at once or later, and where the node has no more inotify
    /// instances or watches for the sandbox's user, of which all sandboxes with the same uid share 128 and some
    /// ten thousand by default. An agent that cannot watch is [`Error::TooOld`].
    pub async fn watch(
        self: &Arc<Self>,
        path: &str,
        recursive: bool,
    ) -> Result<impl Stream<Item = Result<WatchEvent, Error>> + Send + Unpin + use<>, Error> {
        let request = WatchRequest { path: path.into(), recursive };
        let events = self
            .call(Call::new("Watch", Lane::Control), |mut agent| {
                let request = request.clone();
                async move { agent.watch(request).await }
            })
            .await?;
        let watch = Watch { session: Arc::clone(self), path: path.into(), events, removed: false };
        Ok(Box::pin(stream::unfold(Some(watch), |watch| async { watch?.next().await })))
    }
}

struct Watch {
    session: Arc<Session>,
    path: String,
    events: tonic::Streaming<WatchEvent>,
    /// Whether the last that was told is a removal, as it has to be.
    removed: bool,
}

impl Watch {
    async fn next(mut self) -> Option<(Result<WatchEvent, Error>, Option<Self>)> {
        match self.events.message().await {
            Ok(Some(event)) => {
                self.removed = event.kind() == Kind::Removed;
                Some((Ok(event), Some(self)))
            }
            Ok(None) if self.removed => None,
            Ok(None) => {
                let pod = self.session.pod().into();
                let reason = format!("the watch of {} ended before its directory", self.path);
                Some((Err(Error::Lost { pod, reason }), None))
            }
            Err(status) => Some((Err(self.session.error(&status)), None)),
        }
    }
}
