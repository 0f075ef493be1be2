//! How a run has ended: the one place that decides it, from what was seen and nothing else.

use wire::v1::outcome::How;
use wire::v1::{Empty, Outcome, StreamTotal};

use super::Run;
use crate::control::{Exit, Status};
use crate::settings;

/// How a run came to its end, seen from what drove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    TimedOut,
    Cancelled,
}

/// What is known when a run ends.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// What was done to it, if anything was.
    pub(crate) cause: Option<Cause>,
    /// How its process ended; for code that ended without its interpreter, 0 or 1.
    pub(crate) exit: Option<Exit>,
    pub(crate) totals: (StreamTotal, StreamTotal),
    pub(crate) context_lost: bool,
}

impl Run {
    /// Records the outcome that follows from what is known. What nobody has seen is `lost`.
    pub(crate) fn finish(&self, end: End) {
        let how = match (end.cause, end.exit.map(|exit| exit.status)) {
            _ if self.registry.stopping() => How::Lost(Empty {}),
            (Some(Cause::TimedOut), _) => How::TimedOut(Empty {}),
            (Some(Cause::Cancelled), _) => How::Cancelled(Empty {}),
            (None, Some(Status::Exited(code))) => How::Exited(code),
            (None, Some(Status::Signaled(9))) if settings::oom_kills() > self.oom_kills => {
                How::OomKilled(settings::memory())
            }
            (None, Some(Status::Signaled(signal))) => How::Signaled(signal),
            (None, None) => How::Lost(Empty {}),
        };
        let (stdout, stderr) = end.totals;
        self.end(Outcome {
            how: Some(how),
            stdout: Some(stdout),
            stderr: Some(stderr),
            context_lost: end.context_lost,
            cpu_ms: end.exit.map_or(0, |exit| exit.cpu_ms),
            max_rss_bytes: end.exit.map_or(0, |exit| exit.max_rss_bytes),
            ..Outcome::default()
        });
    }
}
