//! The resources: what runs have written and files, by URI, for who does not want them through a tool.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rmcp::{
    ErrorData,
    model::{MetaObject, Resource, ResourceContents, ResourceTemplate},
};
use serde_json::json;
use service::{Code, Error, Principal};
use wire::{
    limits::OUTPUT,
    v1::{Display, Form, OutputReply, OutputRequest, Stream},
};

use crate::{
    contents::{image, whole_characters},
    displays, outcome, page,
    server::Server,
    tools::waits,
    uris::{self, Uri, What},
};

const TEXT: &str = "text/plain";
const BINARY: &str = "application/octet-stream";

/// What clients can fill in. There is no list of resources: it would be one of all files and runs.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new("sandbox://{sandbox_id}/runs/{run_id}/{stream}", "run_output")
            .with_title("Output of a run")
            .with_description("What a run has written so far, up to 1 MiB; stream is stdout, stderr, or output for both in the order of writing. With ?offset=BYTE&length=BYTES a part of it; an answer that is not all says which URI goes on."),
        ResourceTemplate::new("sandbox://{sandbox_id}/runs/{run_id}/displays/{number}", "display")
            .with_title("What a run has shown")
            .with_description("A picture, or another value that a run has shown, as it was; answers that show less of it have the URI."),
        ResourceTemplate::new("sandbox://{sandbox_id}/files/{+path}", "file")
            .with_title("File")
            .with_description("A file by its absolute path, such as workspace/a.txt, up to 1 MiB; with ?offset=BYTE&length=BYTES a part of it."),
    ]
}

/// A link to what a run has written to a stream, where an answer holds only some of it.
pub(crate) fn link(sandbox: &str, run: &str, stream: Stream, size: Option<u64>) -> Resource {
    let name = format!("{} of run {run}", uris::name(stream));
    let uri = Uri::output(sandbox, run, stream).to_string();
    let link = Resource::new(uri, name).with_mime_type(TEXT);
    match size {
        Some(size) => link.with_size(size),
        None => link,
    }
}

impl Server {
    /// What a URI names: its contents, and where they are not all, what reads on.
    pub(crate) async fn resource(
        &self,
        principal: &Principal,
        uri: &str,
    ) -> Result<Vec<ResourceContents>, Error> {
        let parsed =
            Uri::parse(uri).map_err(|message| Error { code: Code::InvalidArgument, message })?;
        let length = most(&parsed);
        let closing = || waits(&parsed.sandbox);
        match &parsed.what {
            What::Output { run, stream } => {
                let request = OutputRequest {
                    run_id: run.clone(),
                    stream: (*stream).into(),
                    offset: parsed.offset,
                    length,
                    ..OutputRequest::default()
                };
                let reply = self.service.output(principal, &parsed.sandbox, &request);
                Ok(output(&parsed, uri, self.unless_closing(reply, closing).await?))
            }
            What::Display { run, number } => {
                let shown = self.service.display(principal, &parsed.sandbox, run, *number);
                Ok(display(uri, self.unless_closing(shown, closing).await?))
            }
            What::File { path } => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let read =
                    self.service.read(principal, &parsed.sandbox, path, parsed.offset, length);
                Ok(file(&parsed, uri, self.unless_closing(read, closing).await?))
            }
        }
    }
}

/// How much is read at once, in bytes.
fn most(uri: &Uri) -> u64 {
    uri.length.unwrap_or(OUTPUT.1).clamp(1, OUTPUT.1)
}

/// A fault in the words of the protocol. Their code tells a program little, ours in the message all.
pub(crate) fn refusal(error: &Error) -> ErrorData {
    use wire::Code as Agent;
    let message = error.to_string();
    match error.code {
        Code::SandboxNotFound
        | Code::DisplayNotFound
        | Code::Agent(Agent::RunNotFound | Agent::FileNotFound) => {
            ErrorData::resource_not_found(message, None)
        }
        Code::InvalidArgument | Code::Agent(Agent::InvalidArgument | Agent::FileKind) => {
            ErrorData::invalid_params(message, None)
        }
        _ => ErrorData::internal_error(message, None),
    }
}

fn output(uri: &Uri, asked: &str, reply: OutputReply) -> Vec<ResourceContents> {
    let status = reply.outcome.as_ref().map_or("running", outcome::kind);
    let part = Part {
        from: reply.offset,
        data: reply.data.into(),
        total: reply.kept,
        grows: reply.outcome.is_none(),
    };
    let end = part.end();
    let of = match &uri.what {
        What::Output { stream, .. } => uris::name(*stream),
        What::Display { .. } | What::File { .. } => "output",
    };
    let mut contents = part.contents(uri, asked, TEXT, Some(status), of);
    if reply.truncated && end >= reply.kept {
        contents.push(ResourceContents::text(format!("[{}]", page::LOG_FULL), asked));
    }
    contents
}

fn display(asked: &str, shown: Display) -> Vec<ResourceContents> {
    let form = displays::original(shown.forms);
    let contents = form.map(|Form { mime, data }| match str::from_utf8(&data) {
        Ok(text) => ResourceContents::text(text, asked).with_mime_type(mime),
        Err(_) => ResourceContents::blob(BASE64.encode(&data), asked).with_mime_type(mime),
    });
    contents.into_iter().collect()
}

fn file(
    uri: &Uri,
    asked: &str,
    client::Contents { entry, data }: client::Contents,
) -> Vec<ResourceContents> {
    let whole = uri.offset == 0 && data.len() as u64 == entry.size;
    let mime = image(&data).filter(|_| whole).unwrap_or(TEXT);
    let part = Part { from: uri.offset, data, total: entry.size, grows: false };
    part.contents(uri, asked, mime, None, "the file")
}

/// A part of something.
struct Part {
    from: u64,
    data: Vec<u8>,
    total: u64,
    /// Whether there may be more later.
    grows: bool,
}

impl Part {
    // What the agent says of places need not be true, or even fit.
    fn end(&self) -> u64 {
        self.from.saturating_add(self.data.len() as u64)
    }

    /// Its bytes as they are, and where more follow, a note for models under the URI that reads on.
    fn contents(
        mut self,
        uri: &Uri,
        asked: &str,
        mime: &str,
        status: Option<&str>,
        of: &str,
    ) -> Vec<ResourceContents> {
        if self.end() < self.total || self.grows {
            self.data.truncate(whole_characters(&self.data));
        }
        let (from, end, total) = (self.from, self.end(), self.total);
        let mut meta = MetaObject::new();
        let mut part = json!({"offset": from, "next": end, "total": total});
        if let Some(status) = status {
            part["status"] = status.into();
        }
        meta.0.insert("codesandbox.dev/part".into(), part);
        let bytes = match str::from_utf8(&self.data) {
            Ok(text) if mime == TEXT => ResourceContents::text(text, asked),
            _ => {
                let mime = if mime == TEXT { BINARY } else { mime };
                ResourceContents::blob(BASE64.encode(&self.data), asked).with_mime_type(mime)
            }
        };
        let mut contents = vec![bytes.with_meta(meta)];
        if end < total || self.grows {
            let next = uri.from(end).to_string();
            let note =
                format!("[these are bytes {from}..{end} of {total} of {of}; read {next} for more]");
            contents.push(ResourceContents::text(note, next));
        }
        contents
    }
}

#[cfg(test)]
mod tests;
