//! `agent archive` and `agent extract`: a directory of the sandbox as a tar stream on stdout, and one on stdin into a directory.
//!
//! For who keeps copies by `kubectl exec`, in images without a tar as well.

use std::io::{self, Read, Write};
use std::iter;

use futures::{Stream, StreamExt, stream};
use wire::limits::CHUNK;
use wire::v1::archive_event::Event;
use wire::v1::write_request::Part;
use wire::v1::{WriteEnd, WriteRequest, WriteStart};

use crate::files::{self, Extracts};
use crate::settings::Settings;

/// Writes what is below a directory to stdout, and in one line to stderr what that was.
pub(crate) fn archive(settings: &Settings, path: &str) -> Result<(), String> {
    run(async {
        let path = files::resolve(&settings.workspace, path).map_err(said)?;
        let events = files::archive(path).await.map_err(said)?;
        tokio::pin!(events);
        let mut out = io::stdout().lock();
        while let Some(event) = events.next().await {
            match event.map_err(said)?.event {
                Some(Event::Data(data)) => out.write_all(&data).map_err(said)?,
                Some(Event::End(end)) => {
                    out.flush().map_err(said)?;
                    tell("archived", end.entries, end.skipped);
                }
                None => {}
            }
        }
        Ok(())
    })
}

/// Unpacks stdin into a directory, and says in one line on stderr what that was.
pub(crate) fn extract(settings: &Settings, path: &str) -> Result<(), String> {
    run(async {
        let start = WriteStart { path: path.to_owned(), ..WriteStart::default() };
        let start = WriteRequest { part: Some(Part::Start(start)) };
        let parts = stream::once(async { Ok(start) }).chain(parts(io::stdin().lock()));
        let extracts = Extracts::default();
        let reply = files::extract(&settings.workspace, &extracts, parts).await.map_err(said)?;
        tell("extracted", reply.entries, reply.skipped);
        if reply.stripped > 0 {
            crate::log(&format!("{} of them without setuid, setgid or sticky bit", reply.stripped));
        }
        Ok(())
    })
}

/// What a reader has, and its end: whether that is the archive's as well is seen by who unpacks it.
fn parts(mut reader: impl Read) -> impl Stream<Item = io::Result<WriteRequest>> {
    let parts = iter::from_fn(move || {
        let mut data = vec![0; CHUNK];
        // Nobody else is waiting: who unpacks has a thread of its own.
        Some(reader.read(&mut data).map(|read| {
            data.truncate(read);
            if read == 0 { Part::End(WriteEnd::default()) } else { Part::Data(data.into()) }
        }))
    });
    stream::iter(parts.map(|part| part.map(|part| WriteRequest { part: Some(part) })))
}

fn run(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.map_err(said)?.block_on(work)
}

fn tell(what: &str, entries: u64, skipped: u64) {
    crate::log(&format!("{what} {entries} entries, left out {skipped} that are no files"));
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
