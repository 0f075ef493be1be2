//! Pictures as models take them: scaled down where they are larger, beside a link to the original.
//!
//! What is decoded here comes from a sandbox: its size is judged by its head before anything is
//! unpacked, and there is never more than one at a time.

use std::{io::Cursor, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use image::{
    DynamicImage, GenericImageView, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits,
    RgbImage, codecs::jpeg::JpegEncoder, metadata::Orientation,
};
use rmcp::model::{ContentBlock, Resource};
use tokio::{sync::Semaphore, time::timeout};
use wire::v1::Form;

/// The longest side of a picture that is told, in pixels: models are shown no more of a larger one, and
/// a client that would scale it itself may refuse it.
const MAX_SIDE: u32 = 1568;
/// The most bytes of a picture that is told: every later message of a conversation carries them again.
const MAX_BYTES: usize = 1 << 20;
/// The most memory a picture may take while it is decoded: what the container (512 MiB) has left beside
/// the bodies of calls and what is made of them.
const MAX_MEMORY: u64 = 144 << 20;
/// The most that is unpacked of what a picture brings along, in bytes: a colour profile has a few thousand.
const MAX_EXTRA: u64 = 1 << 20;
/// How good a JPEG is made: beyond this one sees no difference, and it doubles.
const QUALITY: u8 = 85;
/// How long an answer waits for its turn to scale: the largest pictures take half a second each, and
/// clients give up on a call at 60 s.
const TURN: Duration = Duration::from_secs(10);

/// Whose turn it is to scale.
static TURNS: Semaphore = Semaphore::const_new(1);

/// Does work that scales pictures where it holds up nobody; the work is told whether it may.
pub(crate) async fn in_turn<T: Send + 'static>(work: impl FnOnce(bool) -> T + Send + 'static) -> T {
    let turn = timeout(TURN, TURNS.acquire()).await.ok().and_then(Result::ok);
    let work = tokio::task::spawn_blocking(move || {
        let done = work(turn.is_some());
        drop(turn);
        done
    });
    work.await.expect("the runtime ends after its calls, and a panic ends the process")
}

/// A picture as it is told.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) blocks: Vec<ContentBlock>,
    /// What is said of it in words.
    pub(crate) note: Option<String>,
}

/// Whether a picture has to be scaled to be told.
pub(crate) fn large(form: &Form) -> bool {
    let Some((format, (width, height))) = head(&form.data) else {
        return scales(form) && form.data.len() > MAX_BYTES;
    };
    matches!(format, ImageFormat::Png | ImageFormat::Jpeg)
        && (width.max(height) > MAX_SIDE || form.data.len() > MAX_BYTES)
}

/// A picture with its name and the URI of its original, scaled if it has to be and `may` be now.
pub(crate) fn told(form: &Form, name: &str, uri: &str, may: bool) -> Told {
    if !large(form) {
        let block = ContentBlock::image(BASE64.encode(&form.data), &*form.mime);
        return Told { blocks: vec![block], note: None };
    }
    let link = Resource::new(uri, name).with_mime_type(&*form.mime);
    let link = ContentBlock::resource_link(link.with_size(form.data.len() as u64));
    let scaled = if may {
        scaled(&form.data).ok_or("it cannot be scaled")
    } else {
        Err("others are being scaled")
    };
    match scaled {
        Ok(Scaled { mime, data, from, to }) => {
            let becomes = if mime == form.mime { String::new() } else { format!(", as {mime}") };
            let note = format!(
                "{name}: scaled from {}x{} to {}x{}{becomes}; the original: {uri}",
                from.0, from.1, to.0, to.1
            );
            let image = ContentBlock::image(BASE64.encode(data), mime);
            Told { blocks: vec![image, link], note: Some(note) }
        }
        Err(why) => {
            let note = format!("{name}: not shown, since {why}; the original: {uri}");
            Told { blocks: vec![link], note: Some(note) }
        }
    }
}

/// A picture that was made smaller.
struct Scaled {
    mime: &'static str,
    data: Vec<u8>,
    from: (u32, u32),
    to: (u32, u32),
}

/// A picture within the bounds; none if it cannot be decoded, or not in so little memory.
fn scaled(data: &[u8]) -> Option<Scaled> {
    let (format, (width, height)) = head(data)?;
    let (picture, turned) = decoded(data, format, MAX_MEMORY)?;
    let from = if turned { (height, width) } else { (width, height) };
    let done =
        |mime, data, picture: &DynamicImage| Scaled { mime, data, from, to: picture.dimensions() };
    if format == ImageFormat::Png {
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png).ok()?;
        if png.get_ref().len() <= MAX_BYTES {
            return Some(done("image/png", png.into_inner(), &picture));
        }
    }
    let mut picture = DynamicImage::from(on_white(&picture));
    loop {
        let mut jpeg = Vec::new();
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, QUALITY)).ok()?;
        if jpeg.len() <= MAX_BYTES {
            return Some(done("image/jpeg", jpeg, &picture));
        }
        let side = picture.width().max(picture.height()) / 4 * 3;
        picture = picture.thumbnail(side, side);
    }
}

/// A picture of at most the longest side, eight bits a colour and the right way up, and whether it had to be
/// turned on its side for that. It takes no more memory than so many bytes.
fn decoded(data: &[u8], format: ImageFormat, most: u64) -> Option<(DynamicImage, bool)> {
    let mut decoder = decoder(data, format).ok()?;
    // A progressive JPEG is held as coefficients, too, two bytes for each of one.
    let copies = if format == ImageFormat::Jpeg { 3 } else { 1 };
    if decoder.total_bytes().saturating_mul(copies) > most {
        return None;
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).ok()?;
    if picture.width().max(picture.height()) > MAX_SIDE {
        picture = picture.thumbnail(MAX_SIDE, MAX_SIDE);
    }
    picture = if picture.color().has_alpha() {
        picture.into_rgba8().into()
    } else {
        picture.into_rgb8().into()
    };
    let before = picture.dimensions();
    picture.apply_orientation(orientation);
    let turned = picture.dimensions() != before;
    Some((picture, turned))
}

/// A decoder that has read what is before the pixels.
fn decoder(data: &[u8], format: ImageFormat) -> ImageResult<impl ImageDecoder> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_EXTRA);
    let mut reader = ImageReader::with_format(Cursor::new(data), format);
    reader.limits(limits);
    reader.into_decoder()
}

/// A JPEG knows nothing transparent; what shows through would be black.
fn on_white(picture: &DynamicImage) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [colours @ .., alpha] = picture.get_pixel(x, y).0.map(u16::from);
        let over = |colour| (colour * alpha + 255 * (255 - alpha)) / 255;
        image::Rgb(colours.map(|colour| u8::try_from(over(colour)).unwrap_or(u8::MAX)))
    })
}

/// Looks at bytes as at a picture, and decodes it in so much memory.
pub(crate) fn judge(data: &[u8], most: u64) -> Option<DynamicImage> {
    let form = Form { mime: "image/png".into(), data: data.to_vec().into() };
    large(&form);
    let (picture, _) = decoded(data, head(data)?.0, most)?;
    Some(on_white(&picture).into())
}

/// Format and size of a PNG or JPEG, from its first bytes.
fn head(data: &[u8]) -> Option<(ImageFormat, (u32, u32))> {
    let format = image::guess_format(data).ok()?;
    Some((format, decoder(data, format).ok()?.dimensions()))
}

/// Whether it says that it is one of the formats we scale.
fn scales(form: &Form) -> bool {
    ["image/png", "image/jpeg"].contains(&&*form.mime)
}

#[cfg(test)]
mod tests;
