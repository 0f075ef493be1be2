//! A part of what a run has written, from any place of it, or the lines of it in which a pattern matches.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use regex::bytes::{Regex, RegexBuilder};
use tokio::time::{Instant, timeout_at};
use wire::limits::{
    MAX_LINE, MAX_OUTPUT_WAIT, MAX_PATTERN, OUTPUT, PATTERN_MEMORY, PATTERN_NESTING,
};
use wire::v1::run_event::Event;
use wire::v1::{OutputReply, OutputRequest, RunEvent, Stream};
use wire::{Code, Error};

use super::Run;
use super::log::Reader;
use crate::files;

/// The bytes of one stream of a log, or of both, from a place on.
struct Source {
    reader: Reader,
    stream: Stream,
    /// Where the log ends that is looked at, in the file.
    end: u64,
    /// How many bytes are still to be passed over.
    skip: u64,
}

/// What a search has found.
struct Found {
    lines: Bytes,
    /// Behind the last line that was looked at.
    next: u64,
}

impl Run {
    /// A part of the output, once there is something behind `offset`, the run has ended or the wait is over.
    pub(crate) async fn page(
        self: &Arc<Self>,
        request: OutputRequest,
    ) -> Result<OutputReply, Error> {
        let stream = request.stream();
        let pattern = pattern(&request.pattern)?;
        let wait = Duration::from_millis(request.wait_ms).min(MAX_OUTPUT_WAIT);
        let behind = if request.until_end { u64::MAX } else { request.offset };
        let quiet = Duration::from_millis(request.quiet_ms);
        self.wait_behind(stream, behind, wait, quiet).await?;
        let run = Arc::clone(self);
        // A log may be long, and nobody else should wait while it is read.
        files::blocking(move || run.read(&request, pattern.as_ref())).await
    }

    /// Waits until there is something behind a place of a stream, and then until nothing has come for a while.
    async fn wait_behind(
        &self,
        stream: Stream,
        mut offset: u64,
        wait: Duration,
        quiet: Duration,
    ) -> Result<(), Error> {
        let mut progress = self.progress.subscribe();
        let deadline = Instant::now() + wait;
        let mut until = deadline;
        loop {
            let enough = progress.wait_for(|progress| {
                progress.ended
                    || progress.failed.is_some()
                    || progress.end.written.to(stream) > offset
            });
            let Ok(Ok(progress)) = timeout_at(until, enough).await else { return Ok(()) };
            if let Some(error) = &progress.failed {
                return Err(error.clone());
            }
            if progress.ended || quiet.is_zero() {
                return Ok(());
            }
            offset = progress.end.written.to(stream);
            until = deadline.min(Instant::now() + quiet);
        }
    }

    fn read(&self, request: &OutputRequest, pattern: Option<&Regex>) -> Result<OutputReply, Error> {
        let stream = request.stream();
        let length = if request.length == 0 { OUTPUT.0 } else { request.length.min(OUTPUT.1) };
        let (end, mark, offset, outcome, truncated) = {
            let state = self.lock();
            let end = state.log.end();
            let kept = end.written.to(stream);
            let offset = if request.from_end {
                kept.saturating_sub(length)
            } else {
                request.offset.min(kept)
            };
            (
                end,
                state.log.seek_output(stream, offset),
                offset,
                state.outcome.clone(),
                state.truncated,
            )
        };
        let reader = Reader::open(&self.path, mark)
            .map_err(|_| super::registry::not_found(&self.identity.id))?;
        let skip = offset - mark.written.to(stream);
        let source = Source { reader, stream, end: end.place, skip };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let found = match pattern {
            None => source
                .bytes(length)
                .map(|data| Found { next: offset + data.len() as u64, lines: data }),
            Some(pattern) => source.matching(pattern, offset, length, outcome.is_some()),
        };
        let Found { lines, next } = found.map_err(|error| self.broken(&error))?;
        Ok(OutputReply {
            data: lines,
            offset,
            next,
            kept: end.written.to(stream),
            truncated,
            outcome,
        })
    }
}

impl Source {
    /// What was written next, as it was written; `None` at the end.
    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        while let Some(event) = self.reader.next(self.end)? {
            let Ok(RunEvent { event: Some(Event::Output(mut output)), .. }) =
                RunEvent::decode(event)
            else {
                continue;
            };
            let of =
                if output.stream() == Stream::Stderr { Stream::Stderr } else { Stream::Stdout };
            if self.stream != Stream::Unspecified && self.stream != of {
                continue;
            }
            let passed = self.skip.min(output.data.len() as u64);
            self.skip -= passed;
            let rest = output.data.split_off(usize::try_from(passed).unwrap_or(usize::MAX));
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
        Ok(None)
    }

    fn bytes(mut self, most: usize) -> std::io::Result<Bytes> {
        let mut data = BytesMut::new();
        while let Some(part) = self.next()? {
            data.extend_from_slice(&part[..part.len().min(most - data.len())]);
            if data.len() == most {
                break;
            }
        }
        Ok(data.freeze())
    }

    /// The lines that match, until `most` bytes of them are found. A last line without an end is looked
    /// at once it cannot grow any more.
    fn matching(
        mut self,
        pattern: &Regex,
        offset: u64,
        most: usize,
        ended: bool,
    ) -> std::io::Result<Found> {
        let (mut lines, mut rest, mut next) = (BytesMut::new(), BytesMut::new(), offset);
        loop {
            let part = self.next()?;
            let last = part.is_none();
            rest.extend_from_slice(&part.unwrap_or_default());
            while let Some(length) = line(&rest, last && ended) {
                let line = rest.split_to(length);
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                if pattern.is_match(text) {
                    if !lines.is_empty() && lines.len() + text.len() >= most {
                        return Ok(Found { lines: lines.freeze(), next });
                    }
                    lines.extend_from_slice(text);
                    lines.extend_from_slice(b"\n");
                }
                next += length as u64;
            }
            if last {
                return Ok(Found { lines: lines.freeze(), next });
            }
        }
    }
}

/// How long the first line of some bytes is, if it is whole, or longer than a line may be.
fn line(bytes: &[u8], over: bool) -> Option<usize> {
    let most = bytes.len().min(MAX_LINE);
    match bytes[..most].iter().position(|&byte| byte == b'\n') {
        Some(end) => Some(end + 1),
        None if most == MAX_LINE || (over && most > 0) => Some(most),
        None => None,
    }
}

fn pattern(pattern: &str) -> Result<Option<Regex>, Error> {
    if pattern.is_empty() {
        return Ok(None);
    }
    let refuse = |why: String| Error::new(Code::InvalidArgument, format!("pattern: {why}"));
    if pattern.len() > MAX_PATTERN {
        return Err(refuse(format!(
            "has {} bytes, at most {MAX_PATTERN} are taken",
            pattern.len()
        )));
    }
    let regex = RegexBuilder::new(pattern)
        .nest_limit(PATTERN_NESTING)
        .size_limit(PATTERN_MEMORY)
        .dfa_size_limit(PATTERN_MEMORY)
        .build();
    regex.map(Some).map_err(|error| refuse(format!("{error}")))
}
