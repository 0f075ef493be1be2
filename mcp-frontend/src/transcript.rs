//! A run as a model reads it: one line of facts, then what it said, bounded and honest about it.

use std::fmt::Write as _;

use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde_json::{Value, json};
use wire::v1::{
    Exception, Outcome, PictureRequest, RunEvent, Stream, StreamTotal, outcome::How,
    run_event::Event,
};

use crate::{
    changes::{self, Asked},
    displays::{Displays, Picture},
    excerpt::Excerpt,
    hex, outcome,
    pictures::{self, Smaller},
    resources,
    uris::Uri,
};

/// What has been seen of a run so far, bounded.
pub(crate) struct Transcript {
    sandbox: String,
    run: String,
    stdout: Excerpt,
    stderr: Excerpt,
    displays: Displays,
    /// The last one's traceback; an honest agent sends no more than one.
    exception: Excerpt,
    /// Whether the agent has said anything of the run.
    begun: bool,
    context_new: bool,
    log_truncated: bool,
    pub(crate) changes: Asked,
    outcome: Option<Outcome>,
}

impl Transcript {
    /// The transcript of a run, keeping at most `max` bytes of each stream.
    pub(crate) fn new(sandbox: String, run: String, max: usize) -> Self {
        Self {
            sandbox,
            run,
            stdout: Excerpt::new(max),
            stderr: Excerpt::new(max),
            displays: Displays::new(max),
            exception: Excerpt::new(max),
            begun: false,
            context_new: false,
            log_truncated: false,
            changes: Asked::Nothing,
            outcome: None,
        }
    }

    /// Takes in an event; says whether it was the last.
    pub(crate) fn push(&mut self, event: RunEvent) -> bool {
        self.begun = true;
        match event.event {
            Some(Event::Started(started)) => self.context_new = started.context_new,
            Some(Event::Output(output)) => match output.stream() {
                Stream::Stderr => self.stderr.push(&output.data),
                _ => self.stdout.push(&output.data),
            },
            Some(Event::Display(display)) => self.displays.push(event.number, display),
            Some(Event::Exception(Exception { traceback, .. })) => {
                self.exception = Excerpt::new(self.exception.max());
                self.exception.push(traceback.as_bytes());
            }
            Some(Event::Changes(changes)) => self.changes = Asked::Told(changes),
            Some(Event::Truncated(_)) => self.log_truncated = true,
            Some(Event::Outcome(outcome)) => {
                self.outcome = Some(outcome);
                return true;
            }
            None => {}
        }
        false
    }

    /// Whether the agent has said anything of the run.
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// The last line of output so far: what progress shows.
    pub(crate) fn last_line(&self) -> String {
        let tail = self.stdout.last_bytes(400);
        let text = String::from_utf8_lossy(&tail);
        let line = text.trim_end().rsplit(['\n', '\r']).next().unwrap_or_default();
        line.chars().take(200).collect()
    }

    /// Whether nobody can tell how the run ended.
    pub(crate) fn lost(&self) -> bool {
        self.outcome.as_ref().is_some_and(outcome::lost)
    }

    /// How much output there was so far, in bytes.
    pub(crate) fn produced(&self) -> u64 {
        self.stdout.total + self.stderr.total
    }

    /// The sandbox it is of.
    pub(crate) fn sandbox(&self) -> &str {
        &self.sandbox
    }

    /// What the agent has to be asked about its pictures before they are told.
    pub(crate) fn large(&self) -> impl Iterator<Item = PictureRequest> {
        let large = |picture: &&Picture| pictures::may_be_large(&picture.form);
        let pictures = self.displays.pictures().filter(large);
        pictures.map(|picture| pictures::request(&self.run, picture))
    }

    /// The answer, with smaller pictures where there are some. A run that failed is a successful call; only a
    /// run nobody can tell about is an error.
    pub(crate) fn told(&self, smaller: &Smaller) -> CallToolResult {
        let lost = self.lost();
        let meta = self.meta();
        let pictures: Vec<_> = (1..)
            .zip(self.displays.pictures())
            .map(|(place, picture)| {
                let uri = Uri::display(&self.sandbox, &self.run, picture.number).to_string();
                let made = smaller.get(&picture.number).unwrap_or(&Ok(None));
                pictures::told(&picture.form, &format!("picture {place}"), &uri, made)
            })
            .collect();
        let mut text = self.text();
        for note in pictures.iter().filter_map(|picture| picture.note.as_ref()) {
            let _ = write!(text, "\n[{note}]");
        }
        let mut content = vec![ContentBlock::text(text)];
        content.extend(pictures.into_iter().flat_map(|picture| picture.blocks));
        content.extend(self.links());
        let mut result =
            if lost { CallToolResult::error(content) } else { CallToolResult::success(content) };
        let mut object = MetaObject::new();
        object.0.insert("codesandbox.dev/run".into(), meta);
        result.meta = Some(object);
        result
    }

    /// Links to the streams of which the text holds only some.
    fn links(&self) -> impl Iterator<Item = ContentBlock> {
        let streams = [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)];
        streams.into_iter().filter(|(_, excerpt)| excerpt.omitted() > 0).map(|(stream, excerpt)| {
            // Of a run that goes on there will be more.
            let size = self.outcome.is_some().then_some(excerpt.total);
            ContentBlock::resource_link(resources::link(&self.sandbox, &self.run, stream, size))
        })
    }

    fn text(&self) -> String {
        let mut text = self.facts();
        let mut section = |name: &str, body: &str| {
            if !body.is_empty() {
                let _ = write!(text, "\n--- {name}\n{}", body.trim_end_matches('\n'));
            }
        };
        let complete = self.log_complete();
        section("result", &self.displays.results(complete));
        section("display", &self.displays.others(complete));
        section("stdout", &self.stdout.text(complete));
        section("stderr", &self.stderr.text(complete));
        section("exception", &self.exception.text(complete));
        if let Asked::Told(changes) = &self.changes {
            section("changes", &changes::text(changes));
        }
        for note in self.notes() {
            let _ = write!(text, "\n[{note}]");
        }
        text
    }

    /// Machines and people both read this line.
    fn facts(&self) -> String {
        let ids = format!("run_id={} sandbox_id={}", self.run, self.sandbox);
        let Some(outcome) = &self.outcome else { return format!("status=running {ids}") };
        outcome::facts(outcome, &ids)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.outcome {
            None if !self.begun => notes.push(format!(
                "nothing is known of the run yet: it waits for its turn, or the sandbox does not answer; call again with the same arguments and run_id={} to wait on",
                self.run
            )),
            None => notes.push(format!(
                "the run goes on; run_output with run_id={} waits on, or call again with the same arguments and it",
                self.run
            )),
            Some(outcome) => {
                notes.extend(outcome::advice(outcome));
                if outcome.context_lost {
                    notes.push("the interpreter ended and its variables are gone; the next run_code starts a new one".into());
                }
            }
        }
        if self.context_new && self.outcome.as_ref().is_some_and(|o| !o.context_lost) {
            notes.push("a new interpreter was started for this run".into());
        }
        if self.outcome.is_some() && matches!(self.changes, Asked::Untold) {
            notes.push("what it changed is not known: its sandbox is of an older version, its log is full, or it never began".into());
        }
        if !self.log_complete() {
            let later = self.outcome.as_ref().map_or_else(
                || "later output is".to_owned(),
                |outcome| format!("{} bytes of later output were", self.not_kept(outcome)),
            );
            notes.push(format!("the log's bound was reached; {later} counted, not kept: write large output to a file"));
        }
        notes.extend(self.displays.note());
        notes
    }

    /// How many bytes of output the agent counted and its log did not keep.
    fn not_kept(&self, outcome: &Outcome) -> u64 {
        let counted = |total: &Option<StreamTotal>| total.as_ref().map_or(0, |total| total.bytes);
        let stdout = counted(&outcome.stdout).saturating_sub(self.stdout.total);
        stdout.saturating_add(counted(&outcome.stderr).saturating_sub(self.stderr.total))
    }

    fn log_complete(&self) -> bool {
        !self.log_truncated && self.outcome.as_ref().is_none_or(|outcome| !outcome.truncated)
    }

    fn meta(&self) -> Value {
        let mut meta = json!({
            "run_id": self.run,
            "sandbox_id": self.sandbox,
            "status": self.outcome.as_ref().map_or("running", outcome::kind),
        });
        let Some(outcome) = &self.outcome else { return meta };
        let fields = meta.as_object_mut().expect("it was made as one");
        match outcome.how {
            Some(How::Exited(code)) => drop(fields.insert("exit_code".into(), code.into())),
            Some(How::Signaled(signal)) => drop(fields.insert("signal".into(), signal.into())),
            _ => {}
        }
        fields.insert("duration_ms".into(), outcome.duration_ms.into());
        fields.insert("log_complete".into(), self.log_complete().into());
        fields.insert("context_lost".into(), outcome.context_lost.into());
        if let Asked::Told(changes) = &self.changes {
            fields.insert("changes".into(), changes::meta(changes));
        }
        for (name, total, excerpt) in
            [("stdout", &outcome.stdout, &self.stdout), ("stderr", &outcome.stderr, &self.stderr)]
        {
            let StreamTotal { bytes, sha256 } = total.clone().unwrap_or_default();
            // In the middle, and beyond the log's bound.
            let omitted = bytes.saturating_sub(excerpt.total - excerpt.omitted());
            fields.insert(
                name.into(),
                json!({"bytes": bytes, "sha256": hex::text(&sha256), "omitted": omitted}),
            );
        }
        meta
    }
}

#[cfg(test)]
mod tests;
