//! The URIs of our resources: what they name, and how they are written.

use std::fmt::{self, Write};

use wire::v1::Stream;

const SCHEME: &str = "sandbox://";
/// What a URI may look like, for who got one wrong.
const FORMS: &str = "a URI is sandbox://SANDBOX_ID/runs/RUN_ID/STREAM with stdout, stderr or output as STREAM, sandbox://SANDBOX_ID/runs/RUN_ID/displays/NUMBER, or sandbox://SANDBOX_ID/files/PATH with an absolute path; ?offset=BYTE&length=BYTES after it names a part";

/// What a URI names, and which part of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Uri {
    pub(crate) sandbox: String,
    pub(crate) what: What,
    /// Where the part begins, in bytes.
    pub(crate) offset: u64,
    /// How long it is at most, in bytes; none: as long as an answer may be.
    pub(crate) length: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// What a run has written; unspecified: to both streams.
    Output { run: String, stream: Stream },
    /// What a run has shown, by the number of the event.
    Display { run: String, number: u64 },
    /// A file, by its absolute path.
    File { path: String },
}

impl Uri {
    /// All that a run has written to a stream.
    pub(crate) fn output(sandbox: &str, run: &str, stream: Stream) -> Self {
        Self::whole(sandbox, What::Output { run: run.into(), stream })
    }

    /// What a run has shown in the event of this number.
    pub(crate) fn display(sandbox: &str, run: &str, number: u64) -> Self {
        Self::whole(sandbox, What::Display { run: run.into(), number })
    }

    /// A file, as its path is given to the tools.
    pub(crate) fn file(sandbox: &str, path: &str) -> Self {
        let path = match path.strip_prefix('/') {
            Some(_) => path.into(),
            None => format!("{}/{path}", api::names::WORKSPACE),
        };
        Self::whole(sandbox, What::File { path })
    }

    fn whole(sandbox: &str, what: What) -> Self {
        Self { sandbox: sandbox.into(), what, offset: 0, length: None }
    }

    /// The same from a place on.
    pub(crate) fn from(&self, offset: u64) -> Self {
        Self { offset, ..self.clone() }
    }

    /// Reads a URI; the error says what is wrong with it.
    pub(crate) fn parse(uri: &str) -> Result<Self, String> {
        let named = || {
            let rest = uri.strip_prefix(SCHEME)?;
            let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
            let (sandbox, rest) = rest.split_once('/')?;
            let what = match rest.split_once('/')? {
                // A client that puts an absolute path into the template has two slashes here.
                ("files", path) => {
                    What::File { path: format!("/{}", decoded(path.trim_start_matches('/'))?) }
                }
                ("runs", rest) => {
                    let (run, rest) = rest.split_once('/')?;
                    let run = decoded(run)?;
                    match rest.strip_prefix("displays/") {
                        Some(number) => What::Display { run, number: number.parse().ok()? },
                        None => What::Output { run, stream: stream(rest)? },
                    }
                }
                _ => return None,
            };
            Some((Self::whole(&decoded(sandbox)?, what), query))
        };
        let (mut uri, query) = named().ok_or(FORMS)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, number) = pair.split_once('=').unwrap_or((pair, ""));
            let number = number
                .parse()
                .map_err(|_| format!("{name} is not followed by =NUMBER; {FORMS}"))?;
            match name {
                "offset" => uri.offset = number,
                "length" => uri.length = Some(number),
                _ => return Err(format!("{name} is not known; {FORMS}")),
            }
        }
        Ok(uri)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/", Encoded(&self.sandbox))?;
        match &self.what {
            What::Output { run, stream } => write!(f, "runs/{}/{}", Encoded(run), name(*stream))?,
            What::Display { run, number } => write!(f, "runs/{}/displays/{number}", Encoded(run))?,
            What::File { path } => write!(f, "files/{}", Encoded(path.trim_start_matches('/')))?,
        }
        let part = [("offset", (self.offset > 0).then_some(self.offset)), ("length", self.length)];
        let part = part.into_iter().filter_map(|(name, number)| Some((name, number?)));
        for (sign, (name, number)) in ['?', '&'].into_iter().zip(part) {
            write!(f, "{sign}{name}={number}")?;
        }
        Ok(())
    }
}

/// What a stream is called; unspecified: both, as they were written.
pub(crate) fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
        Stream::Unspecified => "output",
    }
}

fn stream(called: &str) -> Option<Stream> {
    [Stream::Stdout, Stream::Stderr, Stream::Unspecified]
        .into_iter()
        .find(|stream| name(*stream) == called)
}

/// A path with everything escaped that is not itself in every URI.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                f.write_char(byte.into())
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

/// A text without its escapes, if it is one. What should be escaped and is not stands for itself.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.extend(crate::hex::bytes(digits)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stream: Stream) -> Uri {
        Uri::output("sbx-a", "r-1", stream)
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (uri, written) in [
            (output(Stream::Stdout), "sandbox://sbx-a/runs/r-1/stdout"),
            (output(Stream::Stderr).from(7), "sandbox://sbx-a/runs/r-1/stderr?offset=7"),
            (
                Uri { length: Some(9), ..output(Stream::Unspecified) },
                "sandbox://sbx-a/runs/r-1/output?length=9",
            ),
            (
                Uri { length: Some(9), ..Uri::file("sbx-a", "/etc/a b?ü%").from(7) },
                "sandbox://sbx-a/files/etc/a%20b%3F%C3%BC%25?offset=7&length=9",
            ),
            (Uri::display("sbx-a", "r-1", 12), "sandbox://sbx-a/runs/r-1/displays/12"),
            (Uri::file("sbx-a", "a.txt"), "sandbox://sbx-a/files/workspace/a.txt"),
        ] {
            assert_eq!(uri.to_string(), written);
            assert_eq!(Uri::parse(written), Ok(uri));
        }
    }

    #[test]
    fn a_path_may_be_written_as_clients_fill_in_templates() {
        for written in [
            "sandbox://a/files//etc/a%20b",
            "sandbox://a/files/etc/a b",
            "sandbox://a/files/%65tc%2fa%20b?",
        ] {
            assert_eq!(Uri::parse(written), Ok(Uri::file("a", "/etc/a b")), "{written}");
        }
    }

    #[test]
    fn what_names_nothing_is_said_to() {
        for wrong in [
            "",
            "file:///etc/passwd",
            "sandbox://a",
            "sandbox://a/files",
            "sandbox://a/runs/r-1",
            "sandbox://a/runs/r-1/stdin",
            "sandbox://a/runs/r-1/stdout/more",
            "sandbox://a/runs/r-1/displays/",
            "sandbox://a/runs/r-1/displays/one",
            "sandbox://a/more/x",
            "sandbox://a/files/%",
            "sandbox://a/files/%4",
            "sandbox://a/files/%é",
            "sandbox://a/files/%ff",
        ] {
            assert_eq!(Uri::parse(wrong), Err(FORMS.into()), "{wrong}");
        }
        for (query, begins) in [
            ("offset=-1", "offset is not followed by =NUMBER; a URI is "),
            ("length", "length is not followed by =NUMBER; a URI is "),
            ("lines=1", "lines is not known; a URI is "),
        ] {
            let error = Uri::parse(&format!("sandbox://a/files/x?{query}")).unwrap_err();
            assert!(error.starts_with(begins), "{error}");
        }
    }
}
