//! Pictures as models take them: smaller ones in place of those that are large, beside a link to the original.
//!
//! They come from a sandbox, and its agent makes the smaller ones. Nothing here looks into them: a process
//! that serves many callers is no place for what a decoder can be made to do.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rmcp::model::{ContentBlock, Resource};
use service::{Code, Error, Principal, Service};
use tokio::time::{Instant, timeout_at};
use wire::v1::{Form, PictureReply, PictureRequest};

use crate::displays::Picture;

/// The longest side of a picture that is told, in pixels: models are shown no more of a larger one, and
/// a client that would scale it itself may refuse it.
const MAX_SIDE: u32 = 1568;
/// The most bytes of a picture that is told: every later message of a conversation carries them again.
const MAX_BYTES: u64 = 1 << 20;
/// The most bytes of a picture of which the agent is not asked: those of an ordinary figure, which has a few
/// hundred pixels a side.
const SMALL: usize = 64 << 10;
/// How long an answer waits for all its pictures: the largest take a second each, and clients give up on a
/// call at 60 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Said where the sandbox has looked at it.
const UNSCALABLE: &str = "it cannot be scaled";
/// Said where the sandbox has said nothing.
const NO_ANSWER: &str = "its sandbox does not answer";

/// What the agent has made of large pictures, by the numbers of their events.
pub(crate) type Smaller = BTreeMap<u64, Made>;

/// A smaller picture, none where the original will do, or why there is none.
pub(crate) type Made = Result<Option<PictureReply>, &'static str>;

/// A picture as it is told.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) blocks: Vec<ContentBlock>,
    /// What is said of it in words.
    pub(crate) note: Option<String>,
}

/// Asks the agent for smaller pictures.
pub(crate) async fn smaller(
    service: &Service,
    principal: &Principal,
    sandbox: &str,
    requests: impl Iterator<Item = PictureRequest>,
) -> Smaller {
    let until = Instant::now() + PATIENCE;
    let mut smaller = Smaller::new();
    for request in requests {
        let made = service.picture(principal, sandbox, &request);
        let made = match timeout_at(until, made).await {
            Ok(made) => made.map_err(|error| why(&error)),
            Err(_) => Err(NO_ANSWER),
        };
        smaller.insert(request.number, made);
    }
    smaller
}

/// Whether only its pixels could tell that a picture fits.
pub(crate) fn may_be_large(form: &Form) -> bool {
    ["image/png", "image/jpeg"].contains(&&*form.mime) && form.data.len() > SMALL
}

/// What is asked of the agent about one of a run's pictures.
pub(crate) fn request(run: &str, picture: &Picture) -> PictureRequest {
    PictureRequest {
        run_id: run.into(),
        number: picture.number,
        mime: picture.form.mime.clone(),
        max_side: MAX_SIDE,
        max_bytes: MAX_BYTES,
    }
}

/// Why there is no smaller picture, in words of our own.
fn why(error: &Error) -> &'static str {
    match error.code {
        Code::Agent(wire::Code::InvalidArgument) => UNSCALABLE,
        Code::Agent(wire::Code::TooMany) => "others are being scaled",
        Code::SandboxTooOld => "its sandbox is too old to scale it",
        _ => NO_ANSWER,
    }
}

/// A picture with its name and the URI of its original.
pub(crate) fn told(form: &Form, name: &str, uri: &str, made: &Made) -> Told {
    let link = Resource::new(uri, name).with_mime_type(&*form.mime);
    let link = ContentBlock::resource_link(link.with_size(form.data.len() as u64));
    // What nobody could tell about may be an ordinary picture: a sandbox can be older than this.
    let unknown = made.as_ref().is_err_and(|why| *why != UNSCALABLE);
    match made {
        _ if unknown && form.data.len() as u64 <= MAX_BYTES => {
            let image = ContentBlock::image(BASE64.encode(&form.data), &*form.mime);
            Told { blocks: vec![image], note: None }
        }
        Ok(None) => {
            let image = ContentBlock::image(BASE64.encode(&form.data), &*form.mime);
            Told { blocks: vec![image], note: None }
        }
        Ok(Some(PictureReply {
            mime,
            data,
            width,
            height,
            original_width,
            original_height,
            ..
        })) => {
            let becomes = if *mime == form.mime { String::new() } else { format!(", as {mime}") };
            let note = format!(
                "{name}: scaled from {original_width}x{original_height} to {width}x{height}{becomes}; the original: {uri}"
            );
            let image = ContentBlock::image(BASE64.encode(data), &**mime);
            Told { blocks: vec![image, link], note: Some(note) }
        }
        Err(why) => {
            let note = format!("{name}: not shown, since {why}; the original: {uri}");
            Told { blocks: vec![link], note: Some(note) }
        }
    }
}

#[cfg(test)]
mod tests;
