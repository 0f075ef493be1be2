//! Whether anybody uses the sandbox: judged here and nowhere else, since only the agent knows what runs.
//!
//! Use is a run that goes on and a call that moves data. An open connection, its pings, an interpreter that waits
//! and a look at what there is are not, or a client that merely exists would keep its sandbox for ever.
//!
//! A pod of a pool waits for the sandbox whose it becomes, and hears nothing of that: nobody tells a pod anything. So its time
//! does not begin before its first call, which a client of its sandbox makes, or one that looks for the pod that had its name before.

use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Context, Poll, Service};
use tonic::server::NamedService;
use wire::{Code, Error};

/// The calls that are no use.
const LOOKS: [&str; 6] = ["Hello", "Runs", "Contexts", "Gpus", "RefusedNames", "Watch"];

/// What uses the sandbox now, and since when nothing does.
#[derive(Clone, Debug)]
pub(crate) struct Usage(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    uses: usize,
    /// When the last use ended, by the clock that nobody sets.
    since: Instant,
    /// Whether nobody is expected before the first call: the file that says that it has come, for who is started again.
    awaits: Option<PathBuf>,
    ending: bool,
}

/// One use, until it is dropped.
#[derive(Debug)]
pub(crate) struct Use(Usage);

impl Usage {
    /// Of a sandbox that may be used from now on, or from its first call where it `awaits` that and this file does not say that it
    /// has come.
    pub(crate) fn new(awaits: Option<PathBuf>) -> Self {
        let awaits = awaits.filter(|called| !called.exists());
        Self(Arc::new(Mutex::new(State { uses: 0, since: Instant::now(), awaits, ending: false })))
    }

    /// Takes note of a call, whatever it is: where the first one was awaited, the time begins.
    fn called(&self) {
        let mut state = self.lock();
        if let Some(called) = state.awaits.take() {
            state.since = Instant::now();
            if let Err(error) = fs::write(&called, "") {
                crate::log(&format!("could not write {}: {error}", called.display()));
            }
        }
    }

    /// Begins a use; refused where the sandbox is ending.
    fn enter(&self) -> Result<Use, Error> {
        let ending = self.lock().ending;
        let why = "the sandbox ends, because nothing was done in it for its spec.idleTimeout; with spec.onIdle Pause try again, which wakes it, else create another one";
        if ending { Err(Error::new(Code::IdleEnding, why)) } else { Ok(self.hold()) }
    }

    /// Begins a use from within another one: nothing ends meanwhile.
    pub(crate) fn hold(&self) -> Use {
        self.lock().uses += 1;
        Use(self.clone())
    }

    /// Waits until there has been no use for so long. From then on there is none.
    pub(crate) async fn until_idle(&self, limit: Duration) {
        while let Some(left) = self.left(limit) {
            sleep(left).await;
        }
    }

    /// How long it is at least until there has been no use for the limit; none where that is so, which is final.
    fn left(&self, limit: Duration) -> Option<Duration> {
        let mut state = self.lock();
        let left = if state.uses == 0 && state.awaits.is_none() {
            limit.saturating_sub(state.since.elapsed())
        } else {
            limit
        };
        state.ending = left.is_zero();
        (!left.is_zero()).then_some(left)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.uses -= 1;
        state.since = Instant::now();
    }
}

/// A service whose calls are uses, from their first byte to the last of the answer.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    pub(crate) service: S,
    pub(crate) usage: Usage,
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.usage.called();
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let held = if LOOKS.contains(&name) { Ok(None) } else { self.usage.enter().map(Some) };
        match held {
            Ok(held) => {
                let answer = self.service.call(request);
                Box::pin(async {
                    let holding = |body: Body| {
                        Body::new(body.map_frame(move |frame| {
                            let _ = &held;
                            frame
                        }))
                    };
                    Ok(answer.await?.map(holding))
                })
            }
            Err(error) => Box::pin(async { Ok(Status::from(error).into_http()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const ALMOST: Duration = Duration::from_mins(59);

    async fn ends_within(usage: &Usage, time: Duration) -> bool {
        tokio::time::timeout(time, usage.until_idle(HOUR)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_sandbox_that_nobody_ever_uses_is_idle() {
        let usage = Usage::new(None);
        assert!(!ends_within(&usage, ALMOST).await);
        assert!(ends_within(&usage, Duration::from_mins(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_use_of_any_length_keeps_it() {
        let usage = Usage::new(None);
        let (one, other) = (usage.enter().unwrap(), usage.hold());
        assert!(!ends_within(&usage, 100 * HOUR).await);
        drop(one);
        assert!(!ends_within(&usage, 100 * HOUR).await);
        drop(other);
        assert!(!ends_within(&usage, ALMOST).await);
        assert!(ends_within(&usage, Duration::from_mins(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_counts_anew_from_every_use() {
        let usage = Usage::new(None);
        for _ in 0..3 {
            assert!(!ends_within(&usage, ALMOST).await);
            drop(usage.enter().unwrap());
        }
        assert!(ends_within(&usage, HOUR).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_one_that_awaits_somebody_begins_with_the_first_call() {
        let directory = tempfile::tempdir().unwrap();
        let awaits = || Usage::new(Some(directory.path().join("called")));
        let usage = awaits();
        assert!(!ends_within(&usage, 100 * HOUR).await);
        usage.called();
        assert!(!ends_within(&usage, ALMOST).await);
        // Only the first: what is no use keeps nothing.
        usage.called();
        assert!(ends_within(&usage, Duration::from_mins(2)).await);
        // Nor does an agent that is started again, as after an OOM kill, await it anew.
        let again = awaits();
        assert!(!ends_within(&again, ALMOST).await);
        assert!(ends_within(&again, Duration::from_mins(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ending_sandbox_takes_no_more() {
        let usage = Usage::new(None);
        usage.until_idle(HOUR).await;
        assert_eq!(usage.enter().unwrap_err().code, Code::IdleEnding);
    }
}
