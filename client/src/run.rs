//! One run as its caller sees it: events in order, each once, to the outcome or an honest `Unknown`.

use std::{sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use wire::v1::{Outcome, RunEvent, RunRequest, Stream, outcome::How, run_event::Event};

use crate::{Error, Session, session::check_digest};

/// How long a lost stream is opened again before the outcome is called unknown: an API
/// server or a kubelet needs some ten seconds to come back.
const RECONNECT_FOR: Duration = Duration::from_mins(1);
/// How long a right that we had is asked for again: an API server that has just started knows no roles yet.
const DENIED_FOR: Duration = Duration::from_secs(5);
/// The pause between two tries, doubled from the first to the second bound.
const RECONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// A run's events. Dropping it leaves the run alone.
pub struct Run {
    session: Arc<Session>,
    request: RunRequest,
    /// The number of the next event.
    next: u64,
    stream: Option<tonic::Streaming<RunEvent>>,
    /// Whether the agent has taken the run.
    taken: bool,
    /// Since when, and after which pause, the stream is opened again in vain.
    failing: Option<(Instant, Duration)>,
    /// Since when we may not.
    denied: Option<Instant>,
    totals: Totals,
    ended: bool,
}

/// The digests of what has arrived of a run's output; none where its beginning was not seen.
pub(crate) struct Totals(Option<[Sha256; 2]>);

impl Run {
    pub(crate) fn new(session: Arc<Session>, request: RunRequest) -> Self {
        let totals = Totals::from(request.from);
        Self {
            session,
            next: request.from,
            request,
            stream: None,
            taken: false,
            failing: None,
            denied: None,
            totals,
            ended: false,
        }
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.request.run_id
    }

    /// The number of the next event: where to attach later.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next event; `None` after the outcome. Nothing is lost when the future is dropped.
    ///
    /// A stream that breaks is opened again and goes on where it broke. When that cannot be
    /// done the outcome is [`Error::Unknown`], never a made-up one.
    pub async fn next(&mut self) -> Result<Option<RunEvent>, Error> {
        while !self.ended {
            match self.step().await {
                Ok(event) => {
                    (self.failing, self.denied) = (None, None);
                    self.next = event.number + 1;
                    self.ended = matches!(event.event, Some(Event::Outcome(_)));
                    self.totals.account(&self.request.run_id, &event)?;
                    return Ok(Some(event));
                }
                Err(error) => self.recover(error).await?,
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<RunEvent, Error> {
        if self.stream.is_none() {
            let mut request = self.request.clone();
            request.from = self.next;
            // Once the agent has taken the run, only its log will do: an agent that forgot
            // it must not run it again.
            if self.taken {
                request.spec = None;
            }
            self.stream = Some(self.session.events(request).await?);
            self.taken = true;
        }
        let stream = self.stream.as_mut().expect("opened above");
        let lost =
            |reason: &str| Error::Lost { pod: self.session.pod().into(), reason: reason.into() };
        match stream.message().await {
            Ok(Some(event)) if event.number == self.next => Ok(event),
            Ok(Some(event)) => {
                Err(lost(&format!("event {} came where {} was due", event.number, self.next)))
            }
            Ok(None) => Err(lost("the stream ended before the outcome")),
            Err(status) => Err(self.session.error(&status)),
        }
    }

    /// Waits before the next try, or gives up with what is true.
    async fn recover(&mut self, error: Error) -> Result<(), Error> {
        self.stream = None;
        let sent = self.taken || self.failing.is_some();
        let unknown = |reason: String| Error::Unknown { run: self.request.run_id.clone(), reason };
        let denied = self.taken && error.is_denied();
        self.denied = if denied { self.denied.or_else(|| Some(Instant::now())) } else { None };
        let patient = self.denied.is_some_and(|since| since.elapsed() < DENIED_FOR);
        if !error.is_transport() && !patient {
            return Err(match error {
                // The pod went away under a run that may have started on it.
                Error::Exec { .. } | Error::Replaced { .. } if sent => unknown(error.to_string()),
                Error::Agent(error)
                    if error.code == wire::Code::RunNotFound && (self.taken || self.next > 0) =>
                {
                    unknown("the agent has forgotten it".into())
                }
                error => error,
            });
        }
        let (since, pause) = self.failing.unwrap_or_else(|| (Instant::now(), RECONNECT_PAUSE.0));
        if since.elapsed() >= RECONNECT_FOR {
            return Err(unknown(error.to_string()));
        }
        tracing::debug!(pod = self.session.pod(), %error, "opening the stream again");
        self.failing = Some((since, (pause * 2).min(RECONNECT_PAUSE.1)));
        sleep(pause).await;
        Ok(())
    }
}

impl Totals {
    /// Of a run that is followed from the event of this number on.
    pub(crate) fn from(number: u64) -> Self {
        Self((number == 0).then(Default::default))
    }

    /// Keeps the digests of what arrived and compares them with the outcome's.
    pub(crate) fn account(&mut self, run: &str, event: &RunEvent) -> Result<(), Error> {
        match &event.event {
            Some(Event::Output(output)) => {
                if let Some(totals) = &mut self.0 {
                    let stderr = output.stream() == Stream::Stderr;
                    totals[usize::from(stderr)].update(&output.data);
                }
                Ok(())
            }
            Some(Event::Outcome(outcome)) => self.check(run, outcome),
            _ => Ok(()),
        }
    }

    fn check(&mut self, run: &str, outcome: &Outcome) -> Result<(), Error> {
        // A liar's, or that of a later agent which knows ends that we do not.
        let Some(how) = &outcome.how else {
            let reason = "the agent's outcome does not say how it ended".into();
            return Err(Error::Unknown { run: run.into(), reason });
        };
        let Some([stdout, stderr]) = self.0.take().filter(|_| !outcome.truncated) else {
            return Ok(());
        };
        for (name, ours, theirs) in
            [("stdout", stdout, &outcome.stdout), ("stderr", stderr, &outcome.stderr)]
        {
            // Nobody has counted the output of a run that was lost with its agent.
            if theirs.is_none() && matches!(how, How::Lost(_)) {
                continue;
            }
            let theirs = theirs.clone().unwrap_or_default().sha256;
            check_digest(&format!("{name} of run {run}"), &ours.finalize(), &theirs)?;
        }
        Ok(())
    }
}
