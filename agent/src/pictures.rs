//! Pictures as small as they are asked for: models take no larger ones.
//!
//! User code has made them. Here that costs nobody but the sandbox itself, and not all of it: a picture's
//! size is judged by its head before anything is unpacked, and there is never more than one at a time.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{
    DynamicImage, GenericImageView, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits,
    RgbImage,
};
use tokio::sync::Mutex;
use tokio::time::timeout;
use wire::limits::{PICTURE_BYTES, PICTURE_MEMORY, PICTURE_SIDE, PICTURE_TURN};
use wire::v1::run_event::Event;
use wire::v1::{PictureReply, PictureRequest};
use wire::{Code, Error};

use crate::files;
use crate::run::Run;

/// The most that is unpacked of what a picture brings along, in bytes: a colour profile has a few thousand.
const MAX_EXTRA: u64 = 1 << 20;
/// How good a JPEG is made: beyond this one sees no difference, and it doubles.
const QUALITY: u8 = 85;

/// Held while a picture is scaled: there is memory for one.
pub(crate) type Turn = Arc<Mutex<()>>;

/// What a picture has to be within.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Its longest side, in pixels.
    pub(crate) side: u32,
    /// Its length, in bytes.
    pub(crate) bytes: usize,
    /// What it may take while it is decoded, in bytes.
    pub(crate) memory: u64,
}

impl Bounds {
    /// What a caller asks for, and not more than we have.
    fn asked(request: &PictureRequest) -> Self {
        Self {
            side: request.max_side.min(PICTURE_SIDE),
            bytes: usize::try_from(request.max_bytes.min(PICTURE_BYTES)).unwrap_or(usize::MAX),
            memory: PICTURE_MEMORY,
        }
    }
}

/// A picture that a run has shown, within what its caller asks for.
pub(crate) async fn picture(
    run: &Arc<Run>,
    request: PictureRequest,
    turn: &Turn,
) -> Result<PictureReply, Error> {
    let bounds = Bounds::asked(&request);
    let PictureRequest { run_id, number, mime, .. } = request;
    let held = timeout(PICTURE_TURN, Arc::clone(turn).lock_owned()).await.map_err(|_| {
        Error::new(Code::TooMany, "other pictures are being scaled; try again when they are done")
    })?;
    // Not before its turn: those that wait hold no bytes.
    let data = shown(run, number, &mime).await?.ok_or_else(|| {
        let message = format!("run {run_id}: shows no {mime} in its event {number}");
        Error::new(Code::InvalidArgument, message)
    })?;
    files::blocking(move || {
        let small = small(&data, &bounds);
        // Not with the call: its caller may be gone while this goes on.
        drop(held);
        small.ok_or_else(|| {
            Error::new(
                Code::InvalidArgument,
                format!("the picture in event {number} of run {run_id} cannot be scaled: it is broken, or takes too much memory; read it as it is"),
            )
        })
    })
    .await
}

/// The form of this type in the event of this number.
async fn shown(run: &Arc<Run>, number: u64, mime: &str) -> Result<Option<Bytes>, Error> {
    let Some(Event::Display(display)) = run.event(number).await?.and_then(|event| event.event)
    else {
        return Ok(None);
    };
    let form = display.forms.into_iter().find(|form| form.mime == mime);
    Ok(form.map(|form| form.data))
}

/// A picture within the bounds; none if it cannot be decoded, or not in so little memory.
pub(crate) fn small(data: &[u8], bounds: &Bounds) -> Option<PictureReply> {
    let few = data.len() <= bounds.bytes;
    let fits = PictureReply { fits: true, ..PictureReply::default() };
    let Some((format, (width, height))) = head(data) else {
        // Whatever it is: clients may know it.
        return few.then_some(fits);
    };
    if few && width.max(height) <= bounds.side {
        return Some(fits);
    }
    let (picture, turned) = decoded(data, format, bounds)?;
    let (original_width, original_height) = if turned { (height, width) } else { (width, height) };
    let (mime, picture, data) = encoded(picture, format, bounds.bytes)?;
    let (width, height) = picture.dimensions();
    Some(PictureReply {
        fits: false,
        mime: mime.to_owned(),
        data: data.into(),
        width,
        height,
        original_width,
        original_height,
    })
}

/// A picture in at most so many bytes, as small as that takes; none if there are too few for any.
fn encoded(
    picture: DynamicImage,
    format: ImageFormat,
    most: usize,
) -> Option<(&'static str, DynamicImage, Vec<u8>)> {
    if format == ImageFormat::Png {
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png).ok()?;
        if png.get_ref().len() <= most {
            return Some(("image/png", picture, png.into_inner()));
        }
    }
    let mut picture = DynamicImage::from(on_white(&picture));
    loop {
        let mut jpeg = Vec::new();
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, QUALITY)).ok()?;
        if jpeg.len() <= most {
            return Some(("image/jpeg", picture, jpeg));
        }
        let side = picture.width().max(picture.height()) / 4 * 3;
        if side == 0 {
            return None;
        }
        picture = picture.thumbnail(side, side);
    }
}

/// A picture of at most the longest side, eight bits a colour and the right way up, and whether it had to be
/// turned on its side for that. It takes no more memory than so many bytes.
fn decoded(data: &[u8], format: ImageFormat, bounds: &Bounds) -> Option<(DynamicImage, bool)> {
    let mut decoder = decoder(data, format).ok()?;
    // A progressive JPEG is held as coefficients, too, two bytes for each of one.
    let copies = if format == ImageFormat::Jpeg { 3 } else { 1 };
    if decoder.total_bytes().saturating_mul(copies) > bounds.memory {
        return None;
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).ok()?;
    if picture.width().max(picture.height()) > bounds.side {
        picture = picture.thumbnail(bounds.side, bounds.side);
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

/// Format and size of a PNG or JPEG, from its first bytes.
fn head(data: &[u8]) -> Option<(ImageFormat, (u32, u32))> {
    let format = image::guess_format(data).ok()?;
    Some((format, decoder(data, format).ok()?.dimensions()))
}

#[cfg(test)]
mod tests;
