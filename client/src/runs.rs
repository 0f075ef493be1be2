//! What an agent knows of its runs: a list of them, their output by parts, what they have shown; and what
//! reaches them while they go on.

use std::{sync::Arc, time::Duration};

use wire::{
    limits::{MAX_LINE, MAX_OUTPUT_WAIT, MAX_RUN_ID, MAX_RUNS, MAX_TITLE, OUTPUT},
    v1::{
        AttachRequest, CancelRequest, InputReply, InputRequest, OutputReply, OutputRequest,
        PictureReply, PictureRequest, RunEvent, RunInfo, RunSpec, RunsRequest, SignalRequest,
        Stream,
    },
};

use crate::{
    Error, Lane, Run, Session,
    session::{Agent, CALL_DEADLINE, Call},
};

impl Session {
    /// The runs the agent knows, those that came last first, at most `limit` of them; and whether there are more.
    pub async fn runs(&self, limit: u32) -> Result<(Vec<RunInfo>, bool), Error> {
        let reply = self
            .call(Call::new("Runs", Lane::Control), |mut agent| async move {
                agent.runs(RunsRequest { limit }).await
            })
            .await?;
        let most = if limit == 0 { MAX_RUNS } else { limit as usize };
        let fits = |run: &RunInfo| run.run_id.len() <= MAX_RUN_ID && run.title.len() <= MAX_TITLE;
        if reply.runs.len() > most || !reply.runs.iter().all(fits) {
            return Err(corrupted("the list of runs", "it is longer than what was asked for"));
        }
        Ok((reply.runs, reply.truncated))
    }

    /// One event of a run, by its number; `None` where the run has ended with fewer.
    pub async fn event(&self, run: &str, number: u64) -> Result<Option<RunEvent>, Error> {
        let mut events = self
            .call(Call::new("Attach", Lane::Control), |mut agent| {
                let request = AttachRequest { run_id: run.into(), from: number };
                async move { agent.attach(request).await }
            })
            .await?;
        match self.message("Attach", &mut events).await? {
            Some(event) if event.number != number => {
                Err(corrupted(&format!("event {number} of run {run}"), "it is another event"))
            }
            event => Ok(event),
        }
    }

    /// A part of what a run has written, as the request says.
    pub async fn output(&self, request: &OutputRequest) -> Result<OutputReply, Error> {
        let wait = Duration::from_millis(request.wait_ms).min(MAX_OUTPUT_WAIT);
        let call = Call { doing: "Output", lane: Lane::Control, within: CALL_DEADLINE + wait };
        let reply = self
            .call(call, |mut agent| {
                let request = request.clone();
                async move { agent.output(request).await }
            })
            .await?;
        if let Some(why) = lie(request, &reply) {
            let stream = match request.stream() {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
                Stream::Unspecified => "output",
            };
            return Err(corrupted(&format!("{stream} of run {}", request.run_id), why));
        }
        Ok(reply)
    }

    /// Cancels a run; says whether it was going on.
    pub async fn cancel(&self, id: &str) -> Result<bool, Error> {
        let request = CancelRequest { run_id: id.into() };
        let reply = self
            .call(Call::new("Cancel", Lane::Control), |mut agent| {
                let request = request.clone();
                async move { agent.cancel(request).await }
            })
            .await?;
        Ok(reply.was_running)
    }

    /// Starts an interactive run, or attaches to it if its id is known. An agent that is too old to know of them would
    /// find nothing in its spec, and so is asked first.
    pub async fn interactive(self: &Arc<Self>, id: String, spec: RunSpec) -> Result<Run, Error> {
        let nothing =
            InputRequest { run_id: id.clone(), offset: Some(0), ..InputRequest::default() };
        match self.input(nothing).await {
            Ok(_) | Err(Error::Agent(_)) => Ok(self.run(id, spec)),
            Err(error) => Err(error),
        }
    }

    /// Writes to the stdin of an interactive run, as the request says. With an offset it may be tried again;
    /// without, a lost answer leaves it unknown whether it was written.
    pub async fn input(&self, request: InputRequest) -> Result<InputReply, Error> {
        let call = Call::new("Input", Lane::Control);
        let run = format!("run {}", request.run_id);
        if request.offset.is_none() {
            let input = |mut agent: Agent| async move { agent.input(request).await };
            return self.call_once(call, &run, input).await;
        }
        self.call(call, |mut agent| {
            let request = request.clone();
            async move { agent.input(request).await }
        })
        .await
    }

    /// Sends a signal to a command's process group, by its number on Linux; says whether it was running.
    pub async fn signal(&self, run: &str, signal: i32) -> Result<bool, Error> {
        let request = SignalRequest { run_id: run.into(), signal };
        let call = Call::new("Signal", Lane::Control);
        let reply = self
            .call_once(call, &format!("run {run}"), |mut agent| async move {
                agent.signal(request).await
            })
            .await?;
        Ok(reply.was_running)
    }

    /// A picture that a run has shown, scaled down as the request says; `None` where it fits as it is.
    pub async fn picture(&self, request: &PictureRequest) -> Result<Option<PictureReply>, Error> {
        let reply = self
            .call(Call::new("Picture", Lane::Control), |mut agent| {
                let request = request.clone();
                async move { agent.picture(request).await }
            })
            .await?;
        if reply.fits {
            return Ok(None);
        }
        let PictureRequest { run_id, number, max_side, max_bytes, .. } = request;
        let what = format!("the picture in event {number} of run {run_id}");
        // What its bytes say nobody looks at here: whoever shows it has to.
        if reply.data.len() as u64 > *max_bytes || reply.width.max(reply.height) > *max_side {
            return Err(corrupted(&what, "it is larger than what was asked for"));
        }
        if !["image/png", "image/jpeg"].contains(&&*reply.mime) {
            return Err(corrupted(&what, "it is of another type"));
        }
        Ok(Some(reply))
    }
}

/// What an honest agent never says: a caller that believed it would read for ever, or hold too much.
pub(crate) fn lie(request: &OutputRequest, reply: &OutputReply) -> Option<&'static str> {
    let OutputReply { data, offset, next, kept, .. } = reply;
    let length = if request.length == 0 { OUTPUT.0 } else { request.length.min(OUTPUT.1) };
    // A line that matches is given whole.
    let most = if request.pattern.is_empty() { length } else { length + MAX_LINE as u64 + 1 };
    if data.len() as u64 > most {
        return Some("it is longer than what was asked for");
    }
    let whole = request.pattern.is_empty() && offset.checked_add(data.len() as u64) != Some(*next);
    (whole || next < offset || next > kept).then_some("its places do not fit its length")
}

fn corrupted(what: &str, why: &'static str) -> Error {
    Error::Corrupted { what: what.into(), why }
}
